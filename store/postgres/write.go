package postgres

import (
	"context"
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
	s     *Store
	keys  []store.Key // what Versions will be asked for
	conn  *pgxpool.Conn
	at    []int64 // their versions
	plan  plan
	batch *pgx.Batch // what is sent with COMMIT
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
	// One bound for all attempts: who commits waits for LockTimeout once.
	until := time.Now().Add(w.s.options.LockTimeout)
	for range 3 {
		if head, first, err = w.begin(until); err == nil {
			return w, head, first, nil
		}
		if c := code(err); pgconn.Timeout(err) || !time.Now().Before(until) || c != "" && !strings.HasPrefix(c, "57P") {
			break
		}
	}
	return nil, 0, 0, unavailable(err)
}

func (w *writer) begin(until time.Time) (head, first store.Seq, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	if w.conn, err = w.s.pool.Acquire(ctx); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			w.Rollback()
		}
	}()
	ctx, cancel = context.WithDeadline(context.Background(), until.Add(w.s.options.Timeout))
	defer cancel()
	var b pgx.Batch
	b.Queue(w.s.sql.begin)
	b.Queue(w.s.sql.lock, w.s.names.lock, millis(time.Until(until)), millis(w.s.options.Timeout))
	b.Queue(w.s.sql.standing, byteKeys(w.keys)).QueryRow(func(row pgx.Row) error {
		return row.Scan((*uint64)(&head), (*uint64)(&first), &w.at)
	})
	err = w.conn.SendBatch(ctx, &b).Close()
	return head, first, err
}

// millis is d as a setting of PostgreSQL, where 0 would mean for ever.
func millis(d time.Duration) string {
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), math.MaxInt32), 10)
}

// Versions implements [group.Tx].
func (w *writer) Versions(keys []store.Key, into []store.Seq) (err error) {
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
		into[i] = store.Seq(version)
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
	return s.stepOf(context.Background())
}

// stepOf returns the context of one step under parent, which never ends by itself.
func (s *Store) stepOf(parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, s.options.Timeout)
}

// Write implements [group.Tx]. Nothing is sent before Commit.
func (w *writer) Write(c *group.Changes) error {
	w.batch = w.s.writes(c, &w.plan)
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
	w.release()
	w.s.teller.tell(w.s)
	return nil
}

// Rollback implements [group.Tx].
func (w *writer) Rollback() {
	if conn := w.conn.Conn(); !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := w.s.step()
		defer cancel()
		_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the pool throws the connection away
	}
	w.release()
}

func (w *writer) release() {
	w.conn.Release()
	w.conn, w.batch, w.keys, w.at = nil, nil, nil, nil
	clear(w.plan.absent)
}
