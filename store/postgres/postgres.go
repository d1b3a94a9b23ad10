// Package postgres implements [store.Store] in a PostgreSQL database, shared by any number of
// processes.
//
// [Open] takes a pool of pgx and never closes it. The database needs PostgreSQL 13 or later and the
// encoding UTF8. Each store has its own schema, so one database may hold several stores. Close a
// store before its pool: to close a pool waits for all its connections.
//
// # Connections
//
// A store uses one connection for each read under way, and one for its commits, which it keeps
// while commits follow each other without a pause. For moments it uses one to send a wake-up and
// one to poll. While somebody waits for events, one more connection listens. It is shared by all
// stores over the same pool, however many schemas they use. In a pool of fewer than four
// connections none listens.
//
// # Rights
//
// Open creates or migrates the schema if necessary, and needs the right to do so. A role without
// that right can open a store that another role has migrated, by [Migrate] or with the files in
// [Migrations]. For the role app and the schema denizen these rights are enough:
//
//	GRANT USAGE ON SCHEMA denizen TO app;
//	GRANT SELECT ON denizen.migrations TO app;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON denizen.records TO app;
//	GRANT SELECT, INSERT, DELETE ON denizen.changes TO app;
//	GRANT SELECT, UPDATE ON denizen.head TO app;
//
// # Views
//
// The schema has the views users, locators, attributes and presences, for queries and joins of the
// host. \d+ describes their columns, which are stable. A role that only reads the views needs no
// right to the tables:
//
//	GRANT USAGE ON SCHEMA denizen TO reader;
//	GRANT SELECT ON denizen.users, denizen.locators, denizen.attributes, denizen.presences
//		TO reader;
//
// # Commits
//
// The commits of all processes are serialized by an advisory lock that belongs to the schema. Reads
// do not wait for it. Concurrent commits of one process share a transaction of two round trips: one
// to take the lock and to read what the conditions are about, one to write and commit. A third
// reads for the batches that joined while the transaction waited for the lock.
//
// A commit that gets no connection and lock within [Options].LockTimeout in total returns
// [store.ErrUnavailable]. A context that ends while the commit waits for a connection, or behind
// other commits, withdraws it at once. While its own group waits for the lock, only LockTimeout
// bounds it.
//
// A commit whose connection is lost after its second step was sent returns
// [store.ErrOutcomeUnknown], and is not tried again. A commit that fails before that returns
// [store.ErrUnavailable] and was not applied.
//
// # Durability
//
// A commit is as durable as the setting synchronous_commit requires, except that off counts as on.
// A server that runs with fsync off loses acknowledged commits in a crash, and so does one that
// fails over to a standby it does not wait for.
//
// After a restored backup or a lossy failover the head goes back with the database. Wait notices at
// its next poll, Changes and Commit at once.
//
// [store.Batch].Urgent has no effect, because PostgreSQL keeps no space in reserve.
//
// # Timeouts
//
// A client may stop or vanish while it holds the lock. The server then ends its session after two
// thirds of LockTimeout, or after [Options].Timeout if that is shorter, so that waiting commits can
// still succeed. That is 3.3 s by default. A process that got no processor for that long and then
// goes on has its commit refused by [store.ErrUnavailable]: nothing was applied. The store sets
// idle_in_transaction_session_timeout, statement_timeout and
// tcp_user_timeout for each of its transactions, which also works behind a pooler. Settings of the
// connection, such as connect_timeout and tcp_keepalives_idle, are up to the host.
//
// A transaction of [Store.InTx] that holds the lock and is idle for longer than Timeout is ended by
// the server, unless the host has set a stricter limit. One that is busy is not, and commits
// elsewhere return [store.ErrUnavailable] meanwhile. On PostgreSQL 17 the setting
// transaction_timeout limits that, too.
//
// # Wake-ups
//
// A commit wakes the waiters of its own process. It wakes those in other processes by NOTIFY,
// outside of any transaction, within some milliseconds and at most every 5 ms. A commit without an
// event wakes nobody there, and a wake-up can get lost: so waiters also poll at the interval
// [Options].Poll.
//
// # Poolers
//
// Behind a pooler in transaction mode, such as pgbouncer, no connection can listen. The store
// notices and only polls. Prepared statements do not work there either, unless the pooler supports
// them (pgbouncer 1.21 with max_prepared_statements). Otherwise configure the pool of pgx with
//
//	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
//
// or with QueryExecModeCacheDescribe or QueryExecModeSimpleProtocol. Each of them costs some speed.
// A pooler in statement mode cannot be used.
//
// # Damage
//
// A row is marked Damaged if it is not one JSON object, or if PostgreSQL cannot read it (SQLSTATE
// XX001 or XX002). The store then reads the other rows in smaller parts. If a page is so damaged
// that not even the key of a row can be read, List returns [store.ErrCorrupt].
//
// Inside [Store.InTx] a row that PostgreSQL cannot read ends the host's transaction, and the error
// is [store.ErrCorrupt]. A row that is not an object is only marked.
//
// # Values
//
// Values and events are stored as jsonb, which changes the spelling of an object and keeps the last
// of two members with the same name. It cannot hold every number. So a value is refused with
// [store.ErrInvalid] if it contains a number of more than 1,000 digits, if its exponents add up to
// more than 10,000, or if it is nested deeper than 1,000 levels.
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

// Options configures [Open]. The zero value has good defaults.
type Options struct {
	// Schema is the schema that holds the tables. "" means denizen. It is 1 to 63 bytes and does
	// not begin with pg_.
	Schema string
	// LockTimeout is how long a commit waits in total: for a connection, and for earlier commits
	// and transactions of [Store.InTx]. It is also how long Close waits for commits. 0 means 5 s.
	LockTimeout time.Duration
	// Timeout is how long one step of a commit may take, besides LockTimeout, before its connection
	// is given up. 0 means 30 s.
	Timeout time.Duration
	// Poll is how often waiters look for new commits, even if nothing wakes them. 0 means 500 ms.
	Poll time.Duration
	// PollOnly keeps the store from using a connection to listen.
	PollOnly bool
}

// Store is a directory's data in one schema of a database. It may be used by many goroutines and
// many processes at once.
type Store struct {
	pool     *pgxpool.Pool
	options  Options
	names    names
	sql      statements
	group    *group.Group
	ctx      context.Context // of commits under way; Close cancels it after LockTimeout
	end      context.CancelFunc
	head     head
	pending  pending
	closed   atomic.Bool
	follower follower
	polled   atomic.Pointer[outcome] // of the last poll; nil while nobody waits
	notifier notifier
}

// Open opens the store in a schema of pool's database, and creates or migrates the schema if
// necessary. While another process migrates, Open waits as long as ctx allows. The caller still
// owns the pool.
//
// The errors are [ErrVersion], [store.ErrInvalid] for a name that no schema can have,
// [store.ErrUnavailable], [store.ErrCorrupt] and those of ctx.
func Open(ctx context.Context, pool *pgxpool.Pool, o Options) (*Store, error) {
	s, err := open(ctx, pool, o)
	if err != nil {
		return nil, fmt.Errorf("open a store in PostgreSQL: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, pool *pgxpool.Pool, o Options) (*Store, error) {
	names, err := namesFor(o.Schema)
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		option *time.Duration
		usual  time.Duration
	}{
		{&o.LockTimeout, 5 * time.Second},
		{&o.Timeout, 30 * time.Second},
		{&o.Poll, 500 * time.Millisecond},
	} {
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
		return nil, translate(ctx, err)
	}
	if version < latest {
		if err := Migrate(ctx, pool, names.schema); err != nil {
			return nil, err
		}
	}
	head, _, err := s.feedBounds(ctx, pool)
	if err != nil {
		return nil, translate(ctx, err)
	}
	s.head.saw(s.head.begin(), head)
	s.ctx, s.end = context.WithCancel(context.Background())
	s.notifier.ctx, s.notifier.end = context.WithCancel(context.Background())
	s.group = group.New(&writer{s: s}, new(group.Head)) // unused: the writer updates s.head
	return s, nil
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ready returns the error of ctx if it has ended, and store.ErrClosed if the store is closed.
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
	return records, translate(ctx, err)
}

// get reads keys with q, and marks the damaged ones.
func (s *Store) get(ctx context.Context, q querier, keys []store.Key) ([]store.Record, error) {
	records, err := s.getRows(ctx, q, keys)
	if isDamaged(err) {
		return s.readAround(ctx, q, err, func(tx pgx.Tx) ([]store.Record, error) {
			return s.getDamaged(ctx, tx, keys)
		})
	}
	return records, err
}

// getRows reads keys in one statement, which fails if PostgreSQL cannot read one of the rows.
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
		records[0] = newRecord(keys[0], version, records[0].Value)
		if err != nil {
			return nil, err
		}
		return records, nil
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
		records[i-1] = newRecord(keys[i-1], version, value)
		value = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
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
	return records, translate(ctx, err)
}

// list reads a page with q, and marks the damaged records.
func (s *Store) list(ctx context.Context, q querier, r store.Range) ([]store.Record, error) {
	records, err := s.listRows(ctx, q, r, s.sql.listJudged)
	if isDamaged(err) {
		return s.readAround(ctx, q, err, func(tx pgx.Tx) ([]store.Record, error) {
			return s.listDamaged(ctx, tx, r)
		})
	}
	return records, err
}

// listRows reads a page in one statement. keysOnly is the statement to use if no values are asked
// for.
func (s *Store) listRows(
	ctx context.Context, q querier, r store.Range, keysOnly string,
) ([]store.Record, error) {
	from, to := []byte(r.Under), prefixEnd(r.Under)
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
			records = append(records, store.Record{
				Key: store.Key(key), Version: store.Seq(max(version, 0)),
				Damaged: !good || version <= 0,
			})
		} else {
			records = append(records, newRecord(store.Key(key), version, value))
		}
		key, value = nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// prefixEnd returns the end of the range of keys that begin with prefix: it sorts after all of
// them, and not after any other key that sorts after them.
func prefixEnd(prefix store.Key) []byte {
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

// Counts implements [store.Counter].
func (s *Store) Counts() store.Counts { return s.group.Counts() }

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
	return feed, translate(ctx, err)
}

// feed reads a page of the feed with q, and marks the damaged events. With store.ErrMissed it
// returns First and Head.
func (s *Store) feed(
	ctx context.Context, q querier, after store.Seq, limit int,
) (store.Feed, error) {
	from := int64(min(after, math.MaxInt64))
	rows, err := s.feedRows(ctx, q, s.sql.changes, from, limit)
	if isDamaged(err) {
		rows, err = s.readFeedAround(ctx, q, err, from, limit)
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

// feedRows is the result of a statement that reads the feed.
type feedRows struct {
	head, first store.Seq
	changes     []store.Change // by Seq
}

// feedRows reads the feed with one of the statements changes and changeSeqs. If the first is 0, the
// table head has no row.
func (s *Store) feedRows(
	ctx context.Context, q querier, sql string, after int64, limit int,
) (feedRows, error) {
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
			if !isObject(event) {
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

// feedBounds returns the head and the first of the feed.
func (s *Store) feedBounds(ctx context.Context, q querier) (head, first store.Seq, err error) {
	var h, f int64
	err = q.QueryRow(ctx, s.sql.feedBounds).Scan(&h, &f)
	return store.Seq(h), store.Seq(f), err
}

// Close implements [store.Store]. It does not close the pool. A read under way may still return its
// result. Commits under way have [Options].LockTimeout to finish. Then they are given up, with
// [store.ErrOutcomeUnknown] if their second step was sent.
func (s *Store) Close() error {
	late := time.AfterFunc(s.options.LockTimeout, s.end)
	s.group.Close()
	late.Stop()
	s.end()
	s.closed.Store(true)
	s.head.Close()
	s.follower.close()
	s.notifier.close()
	return nil
}
