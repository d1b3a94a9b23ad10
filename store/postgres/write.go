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

// maxSweep is how many forgotten events a commit deletes, at most. They are forgotten at
// once; a long trim is paid for by the commits after it.
const maxSweep = 1_000

// writer commits the groups of this process. Only its group's leader uses it.
type writer struct {
	s    *Store
	keys []store.Key // what Versions will be asked for
	conn *pgxpool.Conn
	at   []int64 // their versions, -1 of one that is damaged
	head store.Seq
	to   store.Seq // the head after the commit

	lost     bool // there is no transaction any more
	salvaged bool // something could not be read, and was looked for
	plan     plan
	batch    *pgx.Batch // what is sent with COMMIT
}

// plan is what is known of the tables when changes are to be made.
type plan struct {
	absent  map[store.Key]bool // there is no record
	swept   store.Seq          // no event is below
	unswept bool               // some that are forgotten may be left
}

// Foresee implements [group.Foreseer].
func (w *writer) Foresee(keys []store.Key) { w.keys = keys }

// Begin implements [group.Backend]: it has the lock once it returns. It changes nothing, so
// that a connection which turns out to be dead is replaced.
func (w *writer) Begin() (_ group.Tx, head, first store.Seq, err error) {
	// One bound for all attempts, which is that of the one who waits longest.
	until := w.s.pending.until(w.s.options.LockTimeout)
	w.salvaged = false
	for range 3 {
		if head, first, err = w.begin(until, w.keys); err == nil {
			w.head = head
			return w, head, first, nil
		}
		if broken(err) && !w.salvaged {
			if head, first, err = w.beginBroken(until, w.keys); err == nil {
				return w, head, first, nil
			}
		}
		if c := code(err); pgconn.Timeout(err) || !time.Now().Before(until) || c != "" && !strings.HasPrefix(c, "57P") {
			break
		}
	}
	return nil, 0, 0, unavailable(err)
}

func (w *writer) begin(until time.Time, keys []store.Key) (head, first store.Seq, err error) {
	s := w.s
	g := s.head.begin()
	ctx, cancel := context.WithDeadline(s.ctx, until)
	defer cancel()
	if w.conn, err = s.pending.take(ctx, s.pool); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			w.rollback()
		}
	}()
	ctx, cancel = context.WithDeadline(s.ctx, until.Add(s.options.Timeout))
	defer cancel()
	var b pgx.Batch
	b.Queue(s.sql.begin)
	// Who is stopped while it has the lock is cut off before those who wait give up.
	idle := min(s.options.Timeout, s.options.LockTimeout/2)
	b.Queue(s.sql.lock, s.names.lock, millis(time.Until(until)), millis(idle), millis(s.options.Timeout))
	b.Queue(s.sql.standing, byteKeys(keys)).QueryRow(func(row pgx.Row) error {
		return row.Scan((*uint64)(&head), (*uint64)(&first), &w.at)
	})
	if err = w.conn.SendBatch(ctx, &b).Close(); err == nil {
		s.head.saw(g, head)
	}
	return head, first, err
}

// beginBroken is begin where one of the records that conditions are about cannot be read. It
// finds out which, in savepoints.
func (w *writer) beginBroken(until time.Time, keys []store.Key) (head, first store.Seq, err error) {
	w.salvaged = true
	if head, first, err = w.begin(until, nil); err != nil {
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
		if !broken(err) {
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

// millis is d as a setting of PostgreSQL, where 0 would mean for ever.
func millis(d time.Duration) string {
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), math.MaxInt32), 10)
}

// Versions implements [group.Tx].
func (w *writer) Versions(keys []store.Key, into []store.Seq) (err error) {
	err = w.plan.read(context.Background(), w.s, w.conn, keys, w.at, into)
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	// Among those that were not foreseen is one that cannot be read, and the transaction is lost
	// with it. In another one nobody may have come between.
	before := w.head
	w.rollback()
	if _, _, err = w.beginBroken(time.Now().Add(w.s.options.LockTimeout), keys); err != nil {
		w.lost = true
		return unavailable(err)
	}
	if w.head != before {
		return fmt.Errorf("%w: another commit came between", store.ErrUnavailable)
	}
	return w.plan.read(context.Background(), w.s, w.conn, keys, w.at, into)
}

// read sets into[i] to the version of keys[i], of which the first are at hand already.
func (p *plan) read(ctx context.Context, s *Store, q querier, keys []store.Key, at []int64, into []store.Seq) error {
	// Some were not foreseen: their batches came while the lock was waited for.
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

func (s *Store) under(ctx context.Context, q querier, prefix store.Key) (found bool, err error) {
	ctx, cancel := s.stepOf(ctx)
	defer cancel()
	if err := q.QueryRow(ctx, s.sql.under, []byte(prefix), behind(prefix)).Scan(&found); err != nil {
		return false, unavailable(err)
	}
	return found, nil
}

// step answers the context of one step of a commit. It is nobody's who commits: what was
// handed over is carried out.
func (s *Store) step() (context.Context, context.CancelFunc) {
	return s.stepOf(s.ctx)
}

// stepOf returns the context of one step under parent, which never ends by itself.
func (s *Store) stepOf(parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, s.options.Timeout)
}

// Write implements [group.Tx]. Nothing is sent before Commit.
func (w *writer) Write(c *group.Changes) error {
	w.batch, w.to = w.s.writes(c, &w.plan), c.Head
	return nil
}

// writes answers what makes the changes.
func (s *Store) writes(c *group.Changes, p *plan) *pgx.Batch {
	b := &pgx.Batch{}
	if len(c.Drops) > 0 {
		b.Queue(s.sql.drop, byteKeys(c.Drops))
	}
	// To insert what is known to be absent costs half as much as to insert or update.
	var insert, put rows
	for _, r := range c.Puts {
		if p.absent[r.Key] {
			insert.add(r)
		} else {
			put.add(r)
		}
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
		b.Queue(s.sql.sweep, int64(p.swept), int64(c.First), maxSweep).QueryRow(func(row pgx.Row) error {
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

// rows are records as the statements take them.
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

// Commit implements [group.Tx].
func (w *writer) Commit() error {
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
	g := glance{was: w.to}
	w.release()
	w.s.head.saw(g, w.to)
	w.s.teller.tell(w.s)
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

func (w *writer) rollback() {
	if conn := w.conn.Conn(); !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := w.s.step()
		defer cancel()
		_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the pool throws the connection away
	}
	w.release()
}

func (w *writer) release() {
	w.s.pending.put()
	w.conn, w.batch, w.at = nil, nil, nil
	clear(w.plan.absent)
}
