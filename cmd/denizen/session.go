package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/locator/external"
	"github.com/denizenhq/denizen/locator/username"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/postgres"
)

// session is one run of a subcommand: its settings, and what it has open.
type session struct {
	world
	db, schema, socket, rootKeysFile string
	as                               string
	json, reveal, showProgress       bool
	migrate                          bool
	quarantine                       time.Duration // of the service, where it matters

	by        denizen.Principal
	dir       *denizen.Directory // nil if it is behind a socket
	file      *bolt.Store        // of a directory in a file
	unreached error              // why the socket beside the file cannot be used
	read      atomic.Int64       // records that were read from the store
	closing   []func() error     // in the order of opening
}

func (s *session) common(f *flag.FlagSet) {
	f.StringVar(&s.db, "db", "", "`FILE` of the directory; without it DENIZEN_DSN names a database")
	f.StringVar(&s.schema, "schema", "denizen", "schema of the database: its `NAME`")
	f.BoolVar(&s.migrate, "migrate", false, "bring an older schema of the database to this version")
	f.StringVar(&s.socket, "socket", "", "`PATH` of the socket of who has the file open; unless set FILE.sock")
	f.StringVar(&s.rootKeysFile, "root-keys", "", "`FILE` of mode 0600 with the root keys, one a line; unless set DENIZEN_ROOT_KEYS")
	f.StringVar(&s.as, "as", "", "who acts: the `NAME` that the feed has beside what is changed; unless set $USER")
	f.BoolVar(&s.json, "json", false, "print one JSON object a line")
	f.BoolVar(&s.reveal, "reveal", false, "show locators and attributes in full")
	f.BoolVar(&s.showProgress, "progress", false, "show progress on standard error even if it is no terminal")
}

// identify makes by the application, under the name of who acts.
func (s *session) identify() error {
	s.by = denizen.System()
	if named := s.by.Named(cmp.Or(s.as, s.env("USER"))); named.Operator() != "" {
		s.by = named
	} else if s.as != "" {
		return usageError("-as must be 1 to 64 visible ASCII characters")
	}
	return nil
}

func (s *session) close() (err error) {
	for i := len(s.closing) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closing[i]())
	}
	s.closing = nil
	return err
}

// errOpening marks errors of opening a file.
var errOpening = errors.New("cannot be opened")

// isFile reports whether the directory is in a file, or which setting is missing or wrong.
func (s *session) isFile() (bool, error) {
	switch {
	case isDSN(s.db):
		return false, usageError("-db is a file; a DSN is given by DENIZEN_DSN, because everybody on the machine reads arguments")
	case s.db != "":
		return true, nil
	case s.env("DENIZEN_DSN") != "":
		return false, nil
	}
	return false, usageError("which directory? Give a file by -db, or set DENIZEN_DSN")
}

// isDSN reports whether a name that is to be one of a file looks like a DSN, which no error may show.
func isDSN(name string) bool {
	return strings.Contains(name, "://") || strings.Contains(name, "password=")
}

// source returns the directory to look into. If another process has its file open and serves a
// socket, it is reached through that.
func (s *session) source(ctx context.Context) (ops.Source, error) {
	remote, err := s.remote(ctx)
	if err != nil {
		return nil, err
	}
	if remote != nil {
		return remote, nil
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return ops.Local{Dir: s.dir, By: s.by}, nil
}

// remote returns the directory of the process that serves the socket, or nil if none does.
func (s *session) remote(ctx context.Context) (*ops.Remote, error) {
	if s.socket == "" {
		if isFile, err := s.isFile(); err != nil || !isFile {
			return nil, err
		}
	}
	remote, err := ops.Dial(ctx, cmp.Or(s.socket, s.db+".sock"), ownerOf(s.db))
	if err != nil && s.socket != "" {
		return nil, fmt.Errorf("the socket %s: %w", s.socket, err)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ops.ErrStale) {
		s.unreached = err
	}
	return remote, nil
}

// open opens the directory in this process.
func (s *session) open(ctx context.Context) error {
	isFile, err := s.isFile()
	if err != nil {
		return err
	}
	if isFile {
		if err := s.openFile(ctx); err != nil {
			return err
		}
		return s.openThere(ctx, countedFile{s.file, &s.read}, s.db)
	}
	db, err := s.openDatabase(ctx, s.env("DENIZEN_DSN"), s.schema, false)
	if err != nil {
		return err
	}
	return s.openThere(ctx, countedDatabase{db, &s.read}, "the schema "+s.schema+" of the database")
}

// openThere opens the directory in a store, which must have one: a new one would have the settings
// of this command, and keep the service from making its own.
func (s *session) openThere(ctx context.Context, in store.Store, where string) error {
	feed, err := in.Changes(ctx, store.End, 1)
	if err != nil {
		return err
	}
	if feed.Head == 0 {
		return fmt.Errorf("there is no directory in %s", where)
	}
	return s.openIn(ctx, in)
}

// openFile opens the file, which must be there.
func (s *session) openFile(ctx context.Context) error {
	if _, err := os.Stat(s.db); err != nil {
		return noFile(err, s.db)
	}
	file, err := bolt.Open(ctx, s.db, bolt.Options{LockTimeout: 200 * time.Millisecond})
	if errors.Is(err, bolt.ErrInUse) {
		return newHeldError(s.db, s.unreached)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", s.db, errOpening, err)
	}
	s.file = file
	s.closing = append(s.closing, file.Close)
	return nil
}

func noFile(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s", path)
	}
	return err
}

// keepEvents is longer than any feed. The options of the service are not known, and whoever looks
// must not trim what the service keeps.
const keepEvents = 100 * 365 * 24 * time.Hour

func (s *session) options() (o denizen.Options, err error) {
	names, err := username.Rule(username.Options{})
	if err != nil {
		return o, err
	}
	keys, err := s.rootKeys()
	return denizen.Options{
		RootKeys: keys, FeedMaxAge: keepEvents, FeedMaxEvents: math.MaxInt32, Quarantine: s.quarantine,
		LocatorTypes: []denizen.LocatorRule{names, external.Rule()},
	}, err
}

func (s *session) openIn(ctx context.Context, in store.Store) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	if s.dir, err = denizen.New(ctx, in, o); err != nil {
		return err
	}
	s.closing = append(s.closing, s.dir.Close)
	return nil
}

// openDatabase opens the store in a schema. Unless it may be new it must be there, so that a schema
// that was mistyped is not made.
func (s *session) openDatabase(ctx context.Context, dsn, schema string, mayBeNew bool) (*postgres.Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the DSN cannot be read") // the error may hold the password
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	s.closing = append(s.closing, func() error { pool.Close(); return nil })
	version, err := schemaVersion(ctx, pool, schema)
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	newest, err := newestVersion()
	if err != nil {
		return nil, err
	}
	switch {
	case version == 0 && !mayBeNew:
		return nil, fmt.Errorf("there is no directory in the schema %s of the database", schema)
	case version > 0 && version < newest && !s.migrate:
		return nil, fmt.Errorf("the schema %s has version %d, and this command has %d: use the command of the service's version, or -migrate",
			schema, version, newest)
	}
	db, err := postgres.Open(ctx, pool, postgres.Options{Schema: schema})
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	s.closing = append(s.closing, db.Close)
	return db, nil
}

// schemaVersion returns the version of a schema, and 0 if there is none.
func schemaVersion(ctx context.Context, pool *pgxpool.Pool, schema string) (version int, err error) {
	there := false
	err = pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n
		ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'migrations')`, schema).Scan(&there)
	if err == nil && there {
		err = pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+
			pgx.Identifier{schema, "migrations"}.Sanitize()).Scan(&version)
	}
	return version, err
}

// newestVersion returns the version of a schema that this program makes.
func newestVersion() (version int, err error) {
	files, err := fs.Glob(postgres.Migrations, "*.sql")
	if err == nil {
		_, err = fmt.Sscanf(files[len(files)-1], "%d", &version)
	}
	return version, err
}

// countedFile and countedDatabase are stores that count the records that are read.
type countedFile struct {
	*bolt.Store
	read *atomic.Int64
}

func (c countedFile) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	return counted(c.read)(c.Store.List(ctx, r))
}

func (c countedFile) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	return counted(c.read)(c.Store.Get(ctx, keys...))
}

func (c countedFile) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	return countedFeed(c.read)(c.Store.Changes(ctx, after, limit))
}

type countedDatabase struct {
	*postgres.Store
	read *atomic.Int64
}

func (c countedDatabase) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	return counted(c.read)(c.Store.List(ctx, r))
}

func (c countedDatabase) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	return counted(c.read)(c.Store.Get(ctx, keys...))
}

func (c countedDatabase) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	return countedFeed(c.read)(c.Store.Changes(ctx, after, limit))
}

func counted(n *atomic.Int64) func([]store.Record, error) ([]store.Record, error) {
	return func(rs []store.Record, err error) ([]store.Record, error) {
		n.Add(int64(len(rs)))
		return rs, err
	}
}

func countedFeed(n *atomic.Int64) func(store.Feed, error) (store.Feed, error) {
	return func(f store.Feed, err error) (store.Feed, error) {
		n.Add(int64(len(f.Changes)))
		return f, err
	}
}

// reading is the progress of what reads the store.
func (s *session) reading() string {
	if s.read.Load() == 0 {
		return "waiting"
	}
	return fmt.Sprintf("%d records read", s.read.Load())
}

// rootKeys returns the root keys of the file, or of the environment. No error holds any of them.
func (s *session) rootKeys() (keys [][]byte, err error) {
	where, text := "DENIZEN_ROOT_KEYS", strings.ReplaceAll(s.env("DENIZEN_ROOT_KEYS"), ",", "\n")
	if s.rootKeysFile != "" {
		where = s.rootKeysFile
		if text, err = secretFile(s.rootKeysFile); err != nil {
			return nil, err
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch line {
		case "":
			continue
		case denizen.NoRootKey:
			keys = append(keys, []byte(line))
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(line)
		if len(line) == 64 { // which is 48 bytes in base64
			key, err = hex.DecodeString(line)
		}
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("%s: a root key is 32 bytes in base64 (44 characters) or hexadecimal (64 digits), or the word none: openssl rand -base64 32 makes one", where)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// secretFile returns the text of a file that nobody but its owner may read.
func secretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others than its owner may read or write it: chmod 600 makes it the owner's alone", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b), err
}

// ref returns an argument that names a user. A dash stands for the first line of standard input,
// for locators, which everybody on the machine would read among the arguments.
func (s *session) ref(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	line, err := bufio.NewReader(io.LimitReader(s.stdin, 4<<10)).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return "", usageError("there is no user on standard input")
	}
	return string(line), nil
}

// user opens the directory in this process, and returns the id of the user that an argument names.
func (s *session) user(ctx context.Context, arg string) (denizen.UserID, error) {
	ref, err := s.ref(arg)
	if err != nil {
		return "", err
	}
	if err := s.open(ctx); err != nil {
		return "", err
	}
	return s.dir.ResolveUser(ctx, s.by, ref)
}
