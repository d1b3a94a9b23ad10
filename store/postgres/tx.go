package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/jackc/pgx/v5"
)

// InTx returns a store inside the caller's own transaction, which must be in the same database and
// should be READ COMMITTED. What the store commits and what the caller writes become visible and
// durable together when the caller commits tx, or not at all.
//
// Get, List and Changes see the state of the transaction. Commit writes in a savepoint, so that tx
// can still be used after a refusal such as a [store.Conflict]. The outcome of a Commit is never
// unknown, because tx is not committed here. If tx is rolled back, another commit gets its Seq.
//
// From the first successful Commit until tx ends, all other writers of the directory wait, each for
// at most its own LockTimeout, and then return [store.ErrUnavailable]. So end tx soon. If it is
// idle for longer than [Options].Timeout, the server ends it.
//
// At a stricter isolation than READ COMMITTED, Commit returns [store.ErrUnavailable] if another
// commit came first. Start a new transaction then.
//
// Waiters learn of the commit after at most [Options].Poll, because tx sends no wake-up. Wait and
// Load return [store.ErrInvalid]. Close does not end tx and does not close s.
//
// The store may be used by many goroutines at once, but not while the caller uses tx itself, and
// only while tx is open. A context that ends in the middle of a read breaks the connection, and
// with it tx.
func (s *Store) InTx(tx pgx.Tx) store.Store {
	t := &inTx{s: s, tx: tx, turn: make(chan struct{}, 1)}
	t.group = group.New(&txWriter{t: t}, &t.head)
	return t
}

// inTx is a store inside a transaction of the host.
type inTx struct {
	s     *Store
	group *group.Group
	head  group.Head // required by group; nobody waits for it

	// A commit fills turn while it runs, and sets parent, so that its savepoint nests in the
	// caller's trace. The two savepoints of concurrent commits could not nest.
	turn   chan struct{}
	parent context.Context

	mu     sync.Mutex // guards tx and closed; held while tx is used
	tx     pgx.Tx
	closed bool
}

// use calls f with the transaction, which nobody else uses meanwhile.
func (t *inTx) use(ctx context.Context, f func(pgx.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return store.ErrClosed
	}
	return translate(ctx, f(t.tx))
}

// Get implements [store.Store].
func (t *inTx) Get(ctx context.Context, keys ...store.Key) (records []store.Record, err error) {
	if err := store.CheckKeys(keys...); err != nil {
		return nil, err
	}
	err = t.use(ctx, func(tx pgx.Tx) error {
		records, err = t.s.get(ctx, tx, keys)
		return err
	})
	return records, err
}

// List implements [store.Store].
func (t *inTx) List(ctx context.Context, r store.Range) (records []store.Record, err error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	err = t.use(ctx, func(tx pgx.Tx) error {
		records, err = t.s.list(ctx, tx, r)
		return err
	})
	return records, err
}

// Commit implements [store.Store].
func (t *inTx) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if err := checkBatch(b); err != nil {
		return 0, err
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-t.turn }()
	t.parent = context.WithoutCancel(ctx)
	return t.group.Commit(ctx, b)
}

// Changes implements [store.Store].
func (t *inTx) Changes(
	ctx context.Context, after store.Seq, limit int,
) (feed store.Feed, err error) {
	if err := store.CheckChanges(limit); err != nil {
		return store.Feed{}, err
	}
	err = t.use(ctx, func(tx pgx.Tx) error {
		feed, err = t.s.feed(ctx, tx, after, limit)
		return err
	})
	return feed, err
}

// Wait implements [store.Store].
func (t *inTx) Wait(ctx context.Context, _ store.Seq) error {
	return t.use(ctx, func(pgx.Tx) error {
		return fmt.Errorf("%w: nobody waits inside a transaction", store.ErrInvalid)
	})
}

// Load implements [store.Store].
func (t *inTx) Load(
	ctx context.Context, _ iter.Seq2[store.Record, error],
	_ iter.Seq2[store.Change, error], _ store.Seq,
) error {
	return t.use(ctx, func(pgx.Tx) error {
		return fmt.Errorf("%w: a load makes a transaction of its own", store.ErrInvalid)
	})
}

// Close implements [store.Store].
func (t *inTx) Close() error {
	t.group.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}

// txWriter is the [group.Backend] that writes into the transaction. Begin locks inTx.mu, and the
// end of the savepoint unlocks it.
type txWriter struct {
	t    *inTx
	keys []store.Key // that Versions will be asked for
	at   []int64     // the versions of keys
	save pgx.Tx      // the savepoint
	was  string      // the lock_timeout of the transaction, which Write restores
	plan plan
}

// Foresee implements [group.Foreseer].
func (w *txWriter) Foresee(keys []store.Key) { w.keys = keys }

// Begin implements [group.Backend].
func (w *txWriter) Begin() (_ group.Tx, head, first store.Seq, err error) {
	w.t.mu.Lock()
	if head, first, err = w.begin(); err != nil {
		w.Rollback()
		return nil, 0, 0, unavailable(err)
	}
	return w, head, first, nil
}

func (w *txWriter) begin() (head, first store.Seq, err error) {
	s := w.t.s
	ctx, cancel := context.WithTimeout(w.t.parent, s.options.LockTimeout+s.options.Timeout)
	defer cancel()
	if w.save, err = w.t.tx.Begin(ctx); err != nil {
		return 0, 0, err
	}
	var b pgx.Batch
	b.Queue(`SELECT current_setting('lock_timeout')`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&w.was)
	})
	b.Queue(`SELECT set_config('lock_timeout', $1, true)`, millis(s.options.LockTimeout))
	b.Queue(`SELECT pg_advisory_xact_lock($1)`, s.names.lock)
	// The server ends a session that holds the lock and does nothing. A stricter limit of the host
	// stays.
	b.Queue(`SELECT set_config('idle_in_transaction_session_timeout', $1::integer::text, true) FROM pg_settings
		WHERE name = 'idle_in_transaction_session_timeout' AND (setting = '0' OR setting::integer > $1::integer)`,
		min(s.options.Timeout.Milliseconds()+1, math.MaxInt32))
	b.Queue(s.sql.state, byteKeys(w.keys)).QueryRow(func(row pgx.Row) error {
		return row.Scan((*uint64)(&head), (*uint64)(&first), &w.at)
	})
	err = w.save.SendBatch(ctx, &b).Close()
	return head, first, err
}

// Versions implements [group.Tx].
func (w *txWriter) Versions(keys []store.Key, into []store.Seq) error {
	return w.plan.read(w.t.parent, w.t.s, w.save, keys, w.at, into)
}

// Under implements [group.Tx].
func (w *txWriter) Under(prefix store.Key) (bool, error) {
	return w.t.s.under(w.t.parent, w.save, prefix)
}

// Write implements [group.Tx].
func (w *txWriter) Write(c *group.Changes) error {
	ctx, cancel := w.t.s.stepOf(w.t.parent)
	defer cancel()
	insert, put := w.plan.split(c.Puts)
	b := w.t.s.buildBatch(c, &w.plan, insert, put)
	b.Queue(`SELECT set_config('lock_timeout', $1, true)`, w.was)
	if err := w.save.SendBatch(ctx, b).Close(); err != nil {
		return unavailable(err)
	}
	return nil
}

// Commit implements [group.Tx].
func (w *txWriter) Commit() error {
	ctx, cancel := w.t.s.stepOf(w.t.parent)
	defer cancel()
	if err := w.save.Commit(ctx); err != nil {
		w.Rollback()
		return unavailable(err)
	}
	w.end()
	return nil
}

// Rollback implements [group.Tx]. It also releases the lock, unless an earlier batch holds it.
func (w *txWriter) Rollback() {
	if w.save != nil {
		ctx, cancel := w.t.s.stepOf(w.t.parent)
		defer cancel()
		_ = w.save.Rollback(ctx) // if it fails, the host's transaction is lost
	}
	w.end()
}

// end forgets the savepoint and unlocks the transaction.
func (w *txWriter) end() {
	w.save, w.keys, w.at = nil, nil, nil
	clear(w.plan.absent)
	w.t.mu.Unlock()
}
