package main

import (
	"database/sql"
	"fmt"

	"github.com/google/uuid"
)

// sqlite is a table of users with a unique address, as one would write it by hand, with
// database/sql and the driver of modernc. The values are as long as our records, and are not
// decoded.
func sqlite(b *bench, n int) (_ sides, stop func() error, err error) {
	db, err := sql.Open("sqlite", b.file("sqlite")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, nil, err
	}
	if _, err := db.Exec(`CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, value BLOB NOT NULL) WITHOUT ROWID`); err != nil {
		return nil, nil, err
	}
	value := make([]byte, 350)
	tx, err := db.Begin()
	if err != nil {
		return nil, nil, err
	}
	for i := range n {
		if _, err := tx.Exec(`INSERT INTO users VALUES (?, ?, ?)`, string(userID(i)), email(i), value); err != nil {
			return nil, nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, nil, err
	}
	byID, err := db.Prepare(`SELECT value FROM users WHERE id = ?`)
	if err != nil {
		return nil, nil, err
	}
	byEmail, err := db.Prepare(`SELECT value FROM users WHERE email = ?`)
	if err != nil {
		return nil, nil, err
	}
	insert, err := db.Prepare(`INSERT INTO users VALUES (?, ?, ?)`)
	if err != nil {
		return nil, nil, err
	}
	read := func(by *sql.Stmt, arg string) error {
		var value []byte
		return by.QueryRow(arg).Scan(&value)
	}
	// SQLite allows one writer; queueing here avoids waiting for its lock.
	one := make(chan struct{}, 1)
	return sides{
		"User/id":      {{name: "SQLite", do: func(i uint64) error { return read(byID, string(userID(int(i*7919%uint64(n))))) }}},
		"User/locator": {{name: "SQLite", do: func(i uint64) error { return read(byEmail, email(int(i*7919%uint64(n)))) }}},
		"User/create": {{name: "SQLite, synced", do: func(uint64) error {
			one <- struct{}{}
			defer func() { <-one }()
			_, err := insert.Exec(uuid.NewString(), fmt.Sprintf("new%012x@example.com", fresh()), value)
			return err
		}}},
	}, db.Close, nil
}
