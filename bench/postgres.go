package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/postgres"
)

// database is a pool, a directory over it, and a table as one would write it by hand.
type database struct {
	pool *pgxpool.Pool
	rows string // the table's name
	s    *postgres.Store
	dir  *denizen.Directory
	ids  []string // of users in both
}

// document resembles what the directory stores of a user.
const document = `{"id": "01926f3a-0000-7000-8000-00000000beef", "incarnation": "01926f3b-0000-7000-8000-00000000beef", "screenName": "Somebody",
	"created": 1795365353083, "updated": 1795365353083, "locators": [{"id": "CQHF7A2H3KLIU3PDUS4DVWKMNL", "type": "email",
	"canonical": "user000000001@example.com", "raw": "user000000001@example.com", "status": "Verified", "owned": true, "added": 1795365353083}]}`

func openDatabase(b *bench, n int) (_ *database, err error) {
	config, err := pgxpool.ParseConfig(b.servers.postgres)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = 64, 8
	schema := fmt.Sprintf("bench%d", sequence.Add(1))
	table := pgx.Identifier{schema, "people"}
	d := &database{rows: table.Sanitize()}
	if d.pool, err = pgxpool.NewWithConfig(b.ctx, config); err != nil {
		return nil, err
	}
	if d.s, err = postgres.Open(b.ctx, d.pool, postgres.Options{Schema: schema}); err != nil {
		return nil, err
	}
	if d.dir, err = denizen.New(b.ctx, d.s, denizen.Options{MaxRevocationDelay: time.Minute}); err != nil {
		return nil, err
	}
	if _, err := d.pool.Exec(b.ctx, `CREATE TABLE `+d.rows+` (id uuid PRIMARY KEY, email text NOT NULL UNIQUE, value jsonb NOT NULL)`); err != nil {
		return nil, err
	}
	rows := make([][]any, n)
	for i := range rows {
		u, err := d.dir.CreateUser(b.ctx, system, denizen.NewUser{ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(email(i))}})
		if err != nil {
			return nil, err
		}
		d.ids = append(d.ids, string(u.ID))
		rows[i] = []any{uuid.MustParse(string(u.ID)), email(i), document}
	}
	if _, err := d.pool.CopyFrom(b.ctx, table, []string{"id", "email", "value"}, pgx.CopyFromRows(rows)); err != nil {
		return nil, err
	}
	_, err = d.pool.Exec(b.ctx, `VACUUM ANALYZE`)
	return d, err
}

func (d *database) close() error {
	err := first(d.dir.Close(), d.s.Close())
	d.pool.Close()
	return err
}

// insert creates a user by hand: one row with a unique address, in its own transaction.
func (d *database) insert(ctx context.Context) side {
	return side{name: "floor: an insert by pgx", do: func(uint64) error {
		_, err := d.pool.Exec(ctx, `INSERT INTO `+d.rows+` (id, email, value) VALUES ($1, $2, $3)`, uuid.New(), strings.ToLower(rand.Text()), document)
		return err
	}}
}

// creates returns the same as a peer of the directory in a file.
func (d *database) creates(ctx context.Context) sides {
	insert := d.insert(ctx)
	insert.name = "PostgreSQL, an insert by pgx"
	return sides{"User/create": {insert}}
}

// overPostgres compares the directory with handwritten statements, on the same pool.
func overPostgres(b *bench, d *database) error {
	ctx := context.Background()
	selects := side{name: "floor: a select by pgx", do: func(i uint64) error {
		var value []byte
		return d.pool.QueryRow(ctx, `SELECT value FROM `+d.rows+` WHERE id = $1`, d.ids[i%uint64(len(d.ids))]).Scan(&value)
	}}
	for _, goroutines := range []int{1, 8} {
		err := b.compare(operation{
			name: "Postgres/get", goroutines: goroutines, latency: true,
			sides: []side{
				{name: "Denizen over PostgreSQL", do: func(i uint64) error {
					_, err := d.dir.User(ctx, system, denizen.UserID(d.ids[i%uint64(len(d.ids))]))
					return err
				}},
				selects,
			},
		})
		if err != nil {
			return err
		}
	}
	for _, goroutines := range []int{1, 16, 64} {
		err := b.compare(operation{
			name: "Postgres/create", goroutines: goroutines, latency: true,
			sides: []side{
				{name: "Denizen over PostgreSQL", do: func(uint64) error {
					_, err := d.dir.CreateUser(ctx, system, denizen.NewUser{
						ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(strings.ToLower(rand.Text()) + "@example.com")},
					})
					return err
				}},
				d.insert(ctx),
			},
		})
		if err != nil {
			return err
		}
	}
	var texts []string
	for _, id := range d.ids {
		t, err := d.dir.IssueToken(ctx, system, denizen.UserID(id), denizen.TokenOptions{})
		if err != nil {
			return err
		}
		texts = append(texts, t.Signed)
	}
	plain, err := denizen.New(ctx, d.s, denizen.Options{}) // has cached nothing
	if err != nil {
		return err
	}
	by := func(dir *denizen.Directory) func(i uint64) error {
		return func(i uint64) error {
			_, err := dir.Authenticate(ctx, texts[i%uint64(len(texts))])
			return err
		}
	}
	err = b.compare(operation{
		name: "Postgres/authenticate/first", goroutines: 1, latency: true,
		sides: []side{{name: "Denizen over PostgreSQL", do: by(plain)}, selects},
	})
	if err := first(err, plain.Close()); err != nil {
		return err
	}
	again := by(d.dir)
	err = eventually(ctx, func() error { // until the feed is followed and all are cached
		began := time.Now()
		for i := range texts {
			if err := again(uint64(i)); err != nil {
				return err
			}
		}
		if each := time.Since(began) / time.Duration(len(texts)); each > 20*time.Microsecond {
			return fmt.Errorf("authenticating again takes %v", each)
		}
		return nil
	})
	if err != nil {
		return errors.Join(errors.New("the feed is not followed"), err)
	}
	return b.compare(operation{
		name: "Postgres/authenticate/again", goroutines: 1,
		sides: []side{{name: "Denizen over PostgreSQL", do: again}},
	})
}
