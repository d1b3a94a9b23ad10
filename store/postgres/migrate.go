package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations are the files that make the tables, in the order of their names: the number
// a name begins with is the version that the schema has after it, and each file notes it
// in the table migrations. They are run with the directory's schema as search_path, each
// in one transaction, all of a file at once. Open and [Migrate] do that; so may another tool.
var Migrations = func() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err)
	}
	return sub
}()

// ErrVersion: the schema is newer than this program, or of a version that was never released, or
// older and the role may not change it.
var ErrVersion = errors.New("the schema has another version than this program")

// unreleased is the last version that no release had. What was stored then is read no more.
const unreleased = 2

// migrations answers the files, where the i-th makes version unreleased+i+1.
func migrations() ([]string, error) {
	names, err := fs.Glob(Migrations, "*.sql")
	if err != nil {
		return nil, err
	}
	files := make([]string, len(names))
	for i, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != unreleased+i+1 {
			return nil, fmt.Errorf("the migration %s is not the one with number %d", name, unreleased+i+1)
		}
		text, err := fs.ReadFile(Migrations, name)
		if err != nil {
			return nil, err
		}
		files[i] = string(text)
	}
	return files, nil
}

// Migrate makes the schema and its tables, or brings them to the version that this program
// knows; "" means denizen. It is for a role that may create: one that may not can then
// [Open] the store. Whoever comes while another migrates waits, as long as ctx allows.
// Writers wait, too. The errors are [ErrVersion], store.ErrInvalid for a name that is none,
// store.ErrUnavailable and those of ctx; after any of them the schema is as it was.
func Migrate(ctx context.Context, db interface {
	Begin(context.Context) (pgx.Tx, error)
}, schema string,
) error {
	n, err := named(schema)
	if err != nil {
		return err
	}
	files, err := migrations()
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return n.migrate(ctx, tx, files) })
	return failed(ctx, err)
}

func (n names) migrate(ctx context.Context, tx pgx.Tx, files []string) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, n.lock); err != nil {
		return err
	}
	latest := unreleased + len(files)
	version, err := n.version(ctx, tx, latest)
	if err != nil || version == latest {
		return err
	}
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`, n.schema).Scan(&exists); err != nil {
		return err
	}
	// Even with IF NOT EXISTS it takes the right to create schemas.
	setup := []string{`CREATE SCHEMA ` + n.quoted, `SET LOCAL search_path = ` + n.quoted}
	if exists {
		setup = setup[1:]
	}
	for _, sql := range append(setup, files[max(version-unreleased, 0):]...) {
		// Many statements at once: only the simple protocol takes them.
		if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return refused(err, version, latest)
		}
	}
	return nil
}

// version answers the version of the schema, 0 if there is none, and ErrVersion if it is
// newer than latest or was never released.
func (n names) version(ctx context.Context, q querier, latest int) (version int, err error) {
	var encoding string
	var there bool
	err = q.QueryRow(ctx, `SELECT current_setting('server_encoding'), EXISTS (SELECT 1
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'migrations')`, n.schema).Scan(&encoding, &there)
	if err != nil {
		return 0, err
	}
	if encoding != "UTF8" {
		return 0, fmt.Errorf("%w: the database is not encoded in UTF8", store.ErrUnavailable)
	}
	if !there {
		return 0, nil
	}
	if err := q.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+n.quoted+`.migrations`).Scan(&version); err != nil {
		return 0, err
	}
	if version > latest || version > 0 && version <= unreleased {
		return 0, fmt.Errorf("%w: it has version %d, this program knows %d to %d", ErrVersion, version, unreleased+1, latest)
	}
	return version, nil
}

// names is what one directory in a database is known by.
type names struct {
	schema string
	quoted string
	lock   int64  // of pg_advisory_xact_lock
	topic  string // of LISTEN
}

// named answers the names that go with a schema.
func named(schema string) (names, error) {
	if schema == "" {
		schema = "denizen"
	}
	// PostgreSQL cuts longer names off, so that two could become one.
	if len(schema) > 63 || !utf8.ValidString(schema) || strings.ContainsRune(schema, 0) ||
		strings.HasPrefix(schema, "pg_") || schema == "information_schema" {
		return names{}, fmt.Errorf("%w: a name that no schema can have", store.ErrInvalid)
	}
	sum := sha256.Sum256([]byte("denizen store " + schema))
	return names{
		schema: schema,
		quoted: pgx.Identifier{schema}.Sanitize(),
		lock:   int64(binary.BigEndian.Uint64(sum[:])),
		topic:  fmt.Sprintf("denizen_%x", sum[:8]),
	}, nil
}
