// Package postgres is a store in a PostgreSQL database, shared by any number of processes.
//
// # The pool
//
// [Open] takes the host's own pool and never closes it. A store takes one connection for
// each read under way, one for its commits, which it keeps while they come without a break, and
// for a moment one for a wake-up and one to look. While somebody waits one more listens: one a
// pool, for all stores over it, however many schemas. In a pool of fewer than four none does.
// The store is to be closed before its pool: Close of a pool waits for every connection.
//
// The database is encoded in UTF8 and of PostgreSQL 13 or later. A store has a schema of its own in it,
// so that one database may hold several.
//
// # Rights
//
// Open makes and migrates the schema, if it has to, and needs the right to create one
// then. If another role does that, by [Migrate] or with the files in [Migrations], these are
// enough for the role app and the schema denizen:
//
//	GRANT USAGE ON SCHEMA denizen TO app;
//	GRANT SELECT ON denizen.migrations TO app;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON denizen.records TO app;
//	GRANT SELECT, INSERT, DELETE ON denizen.changes TO app;
//	GRANT SELECT, UPDATE ON denizen.head TO app;
//
// # Views
//
// The views users, locators, attributes and presences of the schema are for queries and joins
// of the host's own; \d+ describes their columns, which stay as they are. A role that only reads
// them needs no right to the tables:
//
//	GRANT USAGE ON SCHEMA denizen TO reader;
//	GRANT SELECT ON denizen.users, denizen.locators, denizen.attributes, denizen.presences TO reader;
//
// # Commits
//
// Commits of all processes come one after the other, under an advisory lock that belongs
// to the schema; reads wait for none. Those of one process that come at the same time
// share a transaction, which takes two round trips: one to lock and to read what its
// conditions are about, one to write and to commit. One more reads for those that joined
// while the lock was waited for. A commit that has neither connection nor lock within
// [Options].LockTimeout in all returns store.ErrUnavailable. A context that ends while it waits for
// a connection of the pool, or behind other commits, withdraws it at once; while its own group
// waits for the lock, LockTimeout is the bound. Close gives up commits after LockTimeout, too.
//
// A commit whose connection is lost after its second step was sent answers
// store.ErrOutcomeUnknown, and nothing tries it again. Whatever failed before that is
// store.ErrUnavailable and was not applied.
//
// A commit is as durable as the setting synchronous_commit says, but never less than on:
// off counts as on. A server that itself runs with fsync off, or one that fails over to
// a standby it does not wait for, loses what it acknowledged.
//
// A client that is stopped, or vanishes, while it holds the lock is cut off by the server after
// half of LockTimeout, or after [Options].Timeout if that is less: those who wait are served
// then. The store sets idle_in_transaction_session_timeout, statement_timeout and
// tcp_user_timeout for its own transactions only, so that this holds behind a pooler, too. What
// is the connection's, such as connect_timeout and tcp_keepalives_idle, is set by the host.
//
// A transaction of [Store.InTx] that has the lock and is idle for longer than Timeout is ended by
// the server, unless the host's own bound is stricter. One that is busy is not: others return
// store.ErrUnavailable meanwhile. On PostgreSQL 17 transaction_timeout bounds that.
//
// # Damage
//
// A row that is not one JSON object, or that PostgreSQL cannot read (SQLSTATE XX001 or XX002), is
// marked Damaged, and the rest is read in smaller parts. Where the page of a row is broken, so that
// not even its key can be read, List returns store.ErrCorrupt. Inside [Store.InTx] a row that
// cannot be read ends the host's transaction, with store.ErrCorrupt; one that is no object is marked.
//
// After a restored backup or a lossy failover the head goes back with the database: Wait finds
// out by the next look, Changes and Commit by themselves. store.Batch.Urgent changes nothing
// here: PostgreSQL keeps no room back from others.
//
// # Who waits
//
// Commits wake those who wait, in other processes by NOTIFY: outside of any commit, within
// some milliseconds, and at most every 5 ms. As a wake-up can be lost, those who wait look every
// [Options].Poll, too.
//
// # Behind a pooler
//
// Behind a pooler in transaction mode, such as pgbouncer, nobody can listen. The store finds that out, and
// only looks every [Options].Poll. Prepared statements do not work there either, unless
// the pooler knows about them (pgbouncer 1.21 with max_prepared_statements); otherwise the pool needs
//
//	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
//
// or one of QueryExecModeCacheDescribe and QueryExecModeSimpleProtocol. Each costs some speed. A pooler in statement mode
// cannot be used.
//
// # Values
//
// Values and events are jsonb, which spells objects anew, and of two members with one name
// keeps the last. It does not hold every number; so a value is refused
// with store.ErrInvalid if a number in it has more than 1,000 digits, or if all exponents
// in it come to more than 10,000, or if it is nested deeper than 1,000.
package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	_ store.Store   = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
)

// Options are the choices that Open leaves. The zero value is good.
type Options struct {
	// Schema holds the tables; "" means denizen. It is 1 to 63 bytes and does not begin with pg_.
	Schema string
	// LockTimeout is how long a commit waits in all, for a connection and until those before it are
	// done, such as a transaction of [Store.InTx]; and how long Close waits for commits. 0 means 5 s.
	LockTimeout time.Duration
	// Timeout is how long one step of a commit may take, besides LockTimeout, before its
	// connection is given up; 0 means 30 s.
	Timeout time.Duration
	// Poll is how often those who wait look whether something was committed, whether or
	// not they were woken; 0 means 500 ms.
	Poll time.Duration
	// PollOnly says that no connection is to be listened on.
	PollOnly bool
}

// Store is a directory's data in one schema of a database. It may be used by many
// goroutines at once, and by many processes.
type Store struct {
	pool     *pgxpool.Pool
	options  Options
	names    names
	sql      statements
	group    *group.Group
	ctx      context.Context // of commits under way; Close ends it
	end      context.CancelFunc
	head     head
	pending  pending
	closed   atomic.Bool
	follower follower
	polled   atomic.Pointer[outcome]
	teller   teller
}

// Open opens the store in a schema of pool's database, and first makes or migrates it if
// need be; whoever comes while another process migrates waits, as long as ctx allows. The pool stays
// the caller's. The errors are [ErrVersion], store.ErrInvalid for a schema's name that is
// none, store.ErrUnavailable, store.ErrCorrupt and those of ctx.
func Open(ctx context.Context, pool *pgxpool.Pool, o Options) (*Store, error) {
	s, err := open(ctx, pool, o)
	if err != nil {
		return nil, fmt.Errorf("open a store in PostgreSQL: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, pool *pgxpool.Pool, o Options) (*Store, error) {
	names, err := named(o.Schema)
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		option *time.Duration
		usual  time.Duration
	}{{&o.LockTimeout, 5 * time.Second}, {&o.Timeout, 30 * time.Second}, {&o.Poll, 500 * time.Millisecond}} {
		if *d.option <= 0 {
			*d.option = d.usual
		}
	}
	s := &Store{pool: pool, options: o, names: names, sql: newStatements(names)}
	files, err := migrations()
	if err != nil {
		return nil, err
	}
	latest := unreleased + len(files)
	version, err := names.version(ctx, pool, latest)
	if err != nil {
		return nil, failed(ctx, err)
	}
	if version < latest {
		if err := Migrate(ctx, pool, names.schema); err != nil {
			return nil, err
		}
	}
	head, _, err := s.place(ctx, pool)
	if err != nil {
		return nil, failed(ctx, err)
	}
	s.head.saw(s.head.begin(), head)
	s.ctx, s.end = context.WithCancel(context.Background())
	s.teller.ctx, s.teller.end = context.WithCancel(context.Background())
	s.group = group.New(&writer{s: s}, new(group.Head)) // the writer tells s.head
	return s, nil
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ready reports why nothing can be asked with ctx.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	return nil
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := store.CheckKeys(keys...); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	records, err := s.get(ctx, s.pool, keys)
	return records, failed(ctx, err)
}

func (s *Store) get(ctx context.Context, q querier, keys []store.Key) ([]store.Record, error) {
	records, err := s.getRows(ctx, q, keys)
	if broken(err) {
		return s.salvage(ctx, q, err, func(tx pgx.Tx) ([]store.Record, error) { return s.getBroken(ctx, tx, keys) })
	}
	return records, err
}

func (s *Store) getRows(ctx context.Context, q querier, keys []store.Key) ([]store.Record, error) {
	records := make([]store.Record, len(keys))
	for i, k := range keys {
		records[i].Key = k
	}
	switch len(keys) {
	case 0:
		return records, nil
	case 1:
		var version int64
		err := q.QueryRow(ctx, s.sql.get, []byte(keys[0])).Scan(&version, &records[0].Value)
		if errors.Is(err, pgx.ErrNoRows) {
			return records, nil
		}
		records[0] = marked(keys[0], version, records[0].Value)
		return answered(records, err)
	}
	sql, args := s.sql.getMany, []any{byteKeys(keys)}
	if len(keys) <= few {
		sql, args = s.sql.getFew[len(keys)], make([]any, len(keys))
		for i, k := range keys {
			args[i] = []byte(k)
		}
	}
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var i, version int64
	var value []byte
	_, err = pgx.ForEachRow(rows, []any{&i, &version, &value}, func() error {
		records[i-1] = marked(keys[i-1], version, value)
		value = nil
		return nil
	})
	return answered(records, err)
}

// answered answers nothing beside an error.
func answered[T any](all []T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return all, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	records, err := s.list(ctx, s.pool, r)
	return records, failed(ctx, err)
}

func (s *Store) list(ctx context.Context, q querier, r store.Range) ([]store.Record, error) {
	records, err := s.listRows(ctx, q, r, s.sql.listJudged)
	if broken(err) {
		return s.salvage(ctx, q, err, func(tx pgx.Tx) ([]store.Record, error) { return s.listBroken(ctx, tx, r) })
	}
	return records, err
}

func (s *Store) listRows(ctx context.Context, q querier, r store.Range, keysOnly string) ([]store.Record, error) {
	from, to := []byte(r.Under), behind(r.Under)
	if r.After != "" && r.After >= r.Under {
		from = append([]byte(r.After), 0)
	}
	var key, value []byte
	var version int64
	var good bool
	sql, into := s.sql.list, []any{&key, &version, &value}
	if r.KeysOnly {
		sql, into[2] = keysOnly, &good
	}
	rows, err := q.Query(ctx, sql, from, to, r.Limit)
	if err != nil {
		return nil, err
	}
	var records []store.Record
	_, err = pgx.ForEachRow(rows, into, func() error {
		if r.KeysOnly {
			records = append(records, store.Record{Key: store.Key(key), Version: store.Seq(max(version, 0)), Damaged: !good || version <= 0})
		} else {
			records = append(records, marked(store.Key(key), version, value))
		}
		key, value = nil, nil
		return nil
	})
	return answered(records, err)
}

// behind answers what comes after every key that begins with prefix, and before all others
// that come after it.
func behind(prefix store.Key) []byte {
	to := []byte(prefix)
	for len(to) > 0 && to[len(to)-1] == 0xff {
		to = to[:len(to)-1]
	}
	if len(to) == 0 {
		return bytes.Repeat([]byte{0xff}, store.MaxKey+1)
	}
	to[len(to)-1]++
	return to
}

func byteKeys(keys []store.Key) [][]byte {
	all := make([][]byte, len(keys))
	for i, k := range keys {
		all[i] = []byte(k)
	}
	return all
}

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if err := checkBatch(b); err != nil {
		return 0, err
	}
	return s.pending.commit(ctx, s, b)
}

// Changes implements [store.Store].
func (s *Store) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if err := store.CheckChanges(limit); err != nil {
		return store.Feed{}, err
	}
	if err := s.ready(ctx); err != nil {
		return store.Feed{}, err
	}
	g := s.head.begin()
	feed, err := s.feed(ctx, s.pool, after, limit)
	if feed.First > 0 {
		s.head.saw(g, feed.Head)
	}
	return feed, failed(ctx, err)
}

func (s *Store) feed(ctx context.Context, q querier, after store.Seq, limit int) (store.Feed, error) {
	from := int64(min(after, math.MaxInt64))
	rows, err := s.feedRows(ctx, q, s.sql.changes, from, limit)
	if broken(err) {
		rows, err = s.salvageFeed(ctx, q, err, from, limit)
	}
	feed := store.Feed{Head: rows.head, First: rows.first}
	switch {
	case err != nil:
		return store.Feed{}, err
	case feed.First == 0:
		return store.Feed{}, pgx.ErrNoRows
	case after < feed.First-1, after > feed.Head && after != store.End:
		return feed, store.ErrMissed
	}
	feed.Changes = rows.changes
	return feed, nil
}

// feedRows is what is stored of the feed.
type feedRows struct {
	head, first store.Seq
	changes     []store.Change // by Seq
}

func (s *Store) feedRows(ctx context.Context, q querier, sql string, after int64, limit int) (feedRows, error) {
	rows, err := q.Query(ctx, sql, after, limit)
	if err != nil {
		return feedRows{}, err
	}
	var feed feedRows
	var head, first int64
	var seq *int64
	var event []byte
	_, err = pgx.ForEachRow(rows, []any{&head, &first, &seq, &event}, func() error {
		feed.head, feed.first = store.Seq(head), store.Seq(first)
		if seq != nil {
			c := store.Change{Seq: store.Seq(*seq), Event: event}
			if !whole(event) {
				c.Event, c.Damaged = nil, true
			}
			feed.changes = append(feed.changes, c)
		}
		seq, event = nil, nil
		return nil
	})
	if err != nil {
		return feedRows{}, err
	}
	slices.SortFunc(feed.changes, func(a, b store.Change) int { return cmp.Compare(a.Seq, b.Seq) })
	return feed, nil
}

// place answers where the store stands.
func (s *Store) place(ctx context.Context, q querier) (head, first store.Seq, err error) {
	var h, f int64
	err = q.QueryRow(ctx, s.sql.place).Scan(&h, &f)
	return store.Seq(h), store.Seq(f), err
}

// Close implements [store.Store]. It leaves the pool open. What is read meanwhile may
// still be returned. Commits under way have [Options].LockTimeout to end; then they are
// given up, with store.ErrOutcomeUnknown where the second step was sent.
func (s *Store) Close() error {
	late := time.AfterFunc(s.options.LockTimeout, s.end)
	s.group.Close()
	late.Stop()
	s.end()
	s.closed.Store(true)
	s.head.Close()
	s.follower.close()
	s.teller.close()
	return nil
}
