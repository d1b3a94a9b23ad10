package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxSweep is how many forgotten events one commit deletes, at most. They are forgotten at once in
// any case. So a long trim does not make one commit slow; the commits after it pay.
const maxSweep = 1_000

// writer is the [group.Backend] of this process. The leader of the group owns it, so no lock guards
// it. It lives as long as the store and holds at most one transaction.
type writer struct {
	s    *Store
	keys []store.Key   // that Versions will be asked for
	conn *pgxpool.Conn // of the transaction
	at   []int64       // the versions of keys; -1 for a damaged record
	head store.Seq     // before the commit
	to   store.Seq     // after the commit
	told bool          // the commit has events

	lost     bool // the transaction is over already
	searched bool // Begin has looked for damaged records
	plan     plan
	copied   rows       // to be copied before
	batch    *pgx.Batch // to be sent with COMMIT
}

// plan is what is known of the tables when changes are to be made.
type plan struct {
	absent  map[store.Key]bool // the keys that have no record
	swept   store.Seq          // all events below are deleted
	unswept bool               // forgotten events may be left
}

// Foresee implements [group.Foreseer].
func (w *writer) Foresee(keys []store.Key) { w.keys = keys }

// Begin implements [group.Backend]. When it returns, the transaction holds the lock. Nothing was
// changed yet, so if a connection turns out to be dead it tries again with another.
func (w *writer) Begin() (_ group.Tx, head, first store.Seq, err error) {
	// One deadline for all attempts: that of the oldest commit.
	deadline := w.s.pending.deadline(w.s.options.LockTimeout)
	w.searched = false
	for range 3 {
		if head, first, err = w.begin(deadline, w.keys); err == nil {
			w.head = head
			return w, head, first, nil
		}
		if isDamaged(err) && !w.searched {
			if head, first, err = w.beginDamaged(deadline, w.keys); err == nil {
				return w, head, first, nil
			}
		}
		if c := code(err); pgconn.Timeout(err) || !time.Now().Before(deadline) ||
			c != "" && !strings.HasPrefix(c, "57P") {
			break
		}
	}
	return nil, 0, 0, unavailable(err)
}

// begin begins a transaction, takes the lock, and reads the head, the first and the versions of
// keys, all in one round trip.
func (w *writer) begin(deadline time.Time, keys []store.Key) (head, first store.Seq, err error) {
	s := w.s
	g := s.head.begin()
	ctx, cancel := context.WithDeadline(s.ctx, deadline)
	defer cancel()
	if w.conn, err = s.pending.take(ctx, s.pool); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			w.rollback()
		}
	}()
	ctx, cancel = context.WithDeadline(s.ctx, deadline.Add(s.options.Timeout))
	defer cancel()
	var b pgx.Batch
	b.Queue(s.sql.begin)
	// The server ends a session that stops while it holds the lock before the waiters give up.
	idle := min(s.options.Timeout, s.options.LockTimeout/3*2)
	b.Queue(s.sql.lock, s.names.lock,
		millis(time.Until(deadline)), millis(idle), millis(s.options.Timeout))
	b.Queue(s.sql.state, byteKeys(keys)).QueryRow(func(row pgx.Row) error {
		return row.Scan((*uint64)(&head), (*uint64)(&first), &w.at)
	})
	if err = w.conn.SendBatch(ctx, &b).Close(); err == nil {
		s.head.saw(g, head)
	}
	return head, first, err
}

// beginDamaged is begin where PostgreSQL cannot read one of the records that conditions are about.
// It finds out which, by bisection in savepoints.
func (w *writer) beginDamaged(
	deadline time.Time, keys []store.Key,
) (head, first store.Seq, err error) {
	w.searched = true
	if head, first, err = w.begin(deadline, nil); err != nil {
		return 0, 0, err
	}
	w.head = head
	at := map[store.Key]int64{}
	read := func(ctx context.Context, part []store.Key) error {
		var some []int64
		if err := w.conn.QueryRow(ctx, w.s.sql.versions, byteKeys(part)).Scan(&some); err != nil {
			return err
		}
		for i, k := range part {
			at[k] = some[i]
		}
		return nil
	}
	var halve func(part []store.Key) error
	halve = func(part []store.Key) error {
		ctx, cancel := w.s.step()
		defer cancel()
		if _, err := w.conn.Exec(ctx, "SAVEPOINT denizen"); err != nil {
			return err
		}
		err := read(ctx, part)
		if !isDamaged(err) {
			return err
		}
		if _, err := w.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT denizen"); err != nil {
			return err
		}
		if len(part) == 1 {
			at[part[0]] = -1
			return nil
		}
		if err := halve(part[:len(part)/2]); err != nil {
			return err
		}
		return halve(part[len(part)/2:])
	}
	if len(keys) > 0 {
		if err = halve(keys); err != nil {
			w.rollback()
			return 0, 0, err
		}
	}
	w.at = make([]int64, len(keys))
	for i, k := range keys {
		w.at[i] = at[k]
	}
	return head, first, nil
}

// millis returns d as a setting of PostgreSQL. It is at least 1, because 0 would mean no limit.
func millis(d time.Duration) string {
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), math.MaxInt32), 10)
}

// Versions implements [group.Tx].
func (w *writer) Versions(keys []store.Key, into []store.Seq) (err error) {
	err = w.plan.read(context.Background(), w.s, w.conn, keys, w.at, into)
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	// One of the records that were not foreseen cannot be read, and the failure has ended the
	// transaction. Begin another one. It must find the same head, because the group was given it.
	before := w.head
	w.rollback()
	if _, _, err = w.beginDamaged(time.Now().Add(w.s.options.LockTimeout), keys); err != nil {
		w.lost = true
		return unavailable(err)
	}
	if w.head != before {
		return fmt.Errorf("%w: another commit came between", store.ErrUnavailable)
	}
	return w.plan.read(context.Background(), w.s, w.conn, keys, w.at, into)
}

// read sets into[i] to the version of keys[i]. at holds the versions of the first keys, which were
// read with the lock.
func (p *plan) read(
	ctx context.Context, s *Store, q querier, keys []store.Key, at []int64, into []store.Seq,
) error {
	// The batches of the other keys joined while the transaction waited for the lock.
	if late := keys[len(at):]; len(late) > 0 {
		ctx, cancel := s.stepOf(ctx)
		defer cancel()
		var rest []int64
		if err := q.QueryRow(ctx, s.sql.versions, byteKeys(late)).Scan(&rest); err != nil {
			return unavailable(err)
		}
		at = append(at, rest...)
	}
	if p.absent == nil {
		p.absent = map[store.Key]bool{}
	}
	clear(p.absent)
	for i, version := range at {
		if into[i] = store.Seq(version); version < 0 {
			into[i] = group.Damaged
		}
		if version == 0 {
			p.absent[keys[i]] = true
		}
	}
	return nil
}

// Under implements [group.Tx].
func (w *writer) Under(prefix store.Key) (bool, error) {
	return w.s.under(context.Background(), w.conn, prefix)
}

// under reports whether the key of any record begins with prefix.
func (s *Store) under(ctx context.Context, q querier, prefix store.Key) (found bool, err error) {
	ctx, cancel := s.stepOf(ctx)
	defer cancel()
	err = q.QueryRow(ctx, s.sql.under, []byte(prefix), prefixEnd(prefix)).Scan(&found)
	if err != nil {
		return false, unavailable(err)
	}
	return found, nil
}

// step returns the context of one step of a commit. It is not derived from that of a caller,
// because a batch that was handed over is carried out.
func (s *Store) step() (context.Context, context.CancelFunc) {
	return s.stepOf(s.ctx)
}

// stepOf returns the context of one step under parent, which has no deadline of its own.
func (s *Store) stepOf(parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, s.options.Timeout)
}

// minCopied is from how many rows on COPY is faster than INSERT, although it takes round trips of
// its own.
const minCopied = 500

// Write implements [group.Tx]. Nothing is sent before Commit, which saves a round trip.
func (w *writer) Write(c *group.Changes) error {
	insert, put := w.plan.split(c.Puts)
	if len(insert.keys) >= minCopied {
		w.copied, insert = insert, rows{}
	}
	w.batch, w.to = w.s.buildBatch(c, &w.plan, insert, put), c.Head
	w.told = len(c.Events) > 0
	return nil
}

// split returns which records are known to be absent, and the others. An INSERT of the former costs
// half as much as an upsert.
func (p *plan) split(puts []store.Record) (insert, put rows) {
	for _, r := range puts {
		if p.absent[r.Key] {
			insert.add(r)
		} else {
			put.add(r)
		}
	}
	return insert, put
}

// buildBatch returns the statements that make the changes, with these inserts and upserts.
func (s *Store) buildBatch(c *group.Changes, p *plan, insert, put rows) *pgx.Batch {
	b := &pgx.Batch{}
	if len(c.Drops) > 0 {
		b.Queue(s.sql.drop, byteKeys(c.Drops))
	}
	insert.queue(b, s.sql.insert)
	put.queue(b, s.sql.put)
	if n := len(c.Events); n > 0 {
		seqs, events := make([]int64, n), make([]string, n)
		for i, e := range c.Events {
			seqs[i], events[i] = int64(e.Seq), string(e.Event)
		}
		b.Queue(s.sql.emit, seqs, events)
	}
	b.Queue(s.sql.advance, int64(c.Head), int64(c.First))
	if c.Trimmed || p.unswept {
		sweep := b.Queue(s.sql.sweep, int64(p.swept), int64(c.First), maxSweep)
		sweep.QueryRow(func(row pgx.Row) error {
			var n, last int64
			err := row.Scan(&n, &last)
			p.swept, p.unswept = c.First, false
			if n == maxSweep {
				p.swept, p.unswept = store.Seq(last), true
			}
			return err
		})
	}
	return b
}

// rows are records in the columns that the statements take.
type rows struct {
	keys     [][]byte
	versions []int64
	values   []string
}

func (r *rows) add(rec store.Record) {
	r.keys = append(r.keys, []byte(rec.Key))
	r.versions = append(r.versions, int64(rec.Version))
	r.values = append(r.values, string(rec.Value))
}

func (r *rows) queue(b *pgx.Batch, sql string) {
	if len(r.keys) > 0 {
		b.Queue(sql, r.keys, r.versions, r.values)
	}
}

// copy copies the rows into the table. None of their keys is in it.
func (r *rows) copy(ctx context.Context, s *Store, conn *pgx.Conn) error {
	i := -1
	row := make([]any, 3)
	next := func() ([]any, error) {
		if i++; i == len(r.keys) {
			return nil, nil
		}
		row[0], row[1], row[2] = r.keys[i], r.versions[i], r.values[i]
		return row, nil
	}
	table := pgx.Identifier{s.names.schema, "records"}
	_, err := conn.CopyFrom(ctx, table, []string{"key", "version", "value"}, pgx.CopyFromFunc(next))
	return err
}

// Commit implements [group.Tx]. It sends the changes and COMMIT in one round trip, after those that
// are copied. If the connection is lost after that, the outcome is unknown.
func (w *writer) Commit() error {
	if len(w.copied.keys) > 0 {
		ctx, cancel := w.s.step()
		err := w.copied.copy(ctx, w.s, w.conn.Conn())
		cancel()
		if err != nil {
			w.Rollback()
			return unavailable(err)
		}
	}
	ctx, cancel := w.s.step()
	defer cancel()
	w.batch.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return errRolledBack
		}
		return nil
	})
	before := w.plan
	if err := w.conn.SendBatch(ctx, w.batch).Close(); err != nil {
		w.plan.swept, w.plan.unswept = before.swept, before.unswept
		w.Rollback()
		return afterSending(err)
	}
	g := observation{was: w.to}
	w.release()
	w.s.head.saw(g, w.to)
	if w.told {
		w.s.notifier.notify(w.s)
	}
	return nil
}

// Rollback implements [group.Tx].
func (w *writer) Rollback() {
	if w.lost {
		w.lost = false
		return
	}
	w.rollback()
	w.keys = nil
}

// rollback ends the transaction and gives the connection back.
func (w *writer) rollback() {
	if conn := w.conn.Conn(); !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := w.s.step()
		defer cancel()
		_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the pool closes the connection
	}
	w.release()
}

func (w *writer) release() {
	w.s.pending.put()
	w.conn, w.batch, w.at, w.copied = nil, nil, nil, rows{}
	clear(w.plan.absent)
}
