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

// Migrations are the SQL files that create the tables, in the order of their names. The number that
// a name begins with is the version of the schema after the file, and each file records it in the
// table migrations. Each file is run as one script, in one transaction and with the schema as
// search_path. Open and [Migrate] do that; other tools may do it as well.
var Migrations = func() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err)
	}
	return sub
}()

// ErrVersion means that the schema is newer than this program, or of a version that was never
// released, or older and the role may not migrate it.
var ErrVersion = errors.New("the schema has another version than this program")

// unreleased is the last version that no release had. What was stored then is not read any more.
const unreleased = 2

// migrations returns the texts of the files. The file at index i makes version unreleased+i+1.
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

// Migrate creates the schema and its tables, or brings them to the version that this program knows.
// A schema of "" means denizen. db is a connection, a pool or a transaction of a role that may
// create schemas. A role that may not can then [Open] the store.
//
// While another process migrates, Migrate waits as long as ctx allows. Writers wait for Migrate.
// The errors are [ErrVersion], [store.ErrInvalid] for a name that no schema can have,
// [store.ErrUnavailable] and those of ctx. After any of them the schema is unchanged.
func Migrate(ctx context.Context, db interface {
	Begin(context.Context) (pgx.Tx, error)
}, schema string,
) error {
	n, err := namesFor(schema)
	if err != nil {
		return err
	}
	files, err := migrations()
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return n.migrate(ctx, tx, files) })
	return translate(ctx, err)
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
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`,
		n.schema).Scan(&exists)
	if err != nil {
		return err
	}
	// CREATE SCHEMA IF NOT EXISTS requires the right to create schemas even if the schema exists.
	setup := []string{`CREATE SCHEMA ` + n.quoted, `SET LOCAL search_path = ` + n.quoted}
	if exists {
		setup = setup[1:]
	}
	for _, sql := range append(setup, files[max(version-unreleased, 0):]...) {
		// A file has many statements, which only the simple protocol accepts.
		if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return refused(err, version, latest)
		}
	}
	return nil
}

// version returns the version of the schema, 0 if it does not exist, and ErrVersion if it is newer
// than latest or was never released.
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
	row := q.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+n.quoted+`.migrations`)
	err = row.Scan(&version)
	if err != nil {
		return 0, err
	}
	if version > latest || version > 0 && version <= unreleased {
		return 0, fmt.Errorf("%w: it has version %d, this program knows %d to %d",
			ErrVersion, version, unreleased+1, latest)
	}
	return version, nil
}

// names are the identifiers of one store in a database.
type names struct {
	schema string
	quoted string // schema, quoted for SQL
	lock   int64  // for pg_advisory_xact_lock
	topic  string // for LISTEN
}

// namesFor returns the names for a schema.
func namesFor(schema string) (names, error) {
	if schema == "" {
		schema = "denizen"
	}
	// PostgreSQL truncates longer names, so that two could become one.
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
