package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tellEvery is how often this process sends NOTIFY, at most. Inside a commit it would cost
// most of the throughput: PostgreSQL then takes a lock of the whole database.
const tellEvery = 5 * time.Millisecond

// minListen is how many connections a pool must allow for one to be listened on: the others
// have to read, to commit and to be the host's.
const minListen = 4

// ended is a context that has.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Wait implements [store.Store]. What another process commits is known here by its
// wake-up, or [Options].Poll later.
func (s *Store) Wait(ctx context.Context, after store.Seq) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.head.Wait(ended, after) == nil {
		return nil
	}
	leave := s.follower.join(s)
	defer leave()
	return s.head.Wait(ctx, after)
}

// follower keeps a store's head up to date while somebody waits. Its goroutine, and the
// connection that listens, are there from the first Wait until nobody has waited for as long as Poll.
type follower struct {
	mu      sync.Mutex
	waiting int
	joined  bool // somebody came since the last look
	closed  bool
	running bool
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

func (f *follower) join(s *Store) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting++
	f.joined = true
	if !f.running && !f.closed {
		f.running = true
		var ctx context.Context
		ctx, f.stop = context.WithCancel(context.Background())
		f.stopped.Go(func() { s.follow(ctx) })
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting--
	}
}

// done reports whether nobody waits, nor has since it was last asked. Then the next to
// come starts another goroutine.
func (f *follower) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting > 0 || f.joined {
		f.joined = false
		return false
	}
	f.running = false
	f.stop()
	return true
}

func (f *follower) close() {
	f.mu.Lock()
	f.closed = true
	if f.stop != nil {
		f.stop()
	}
	f.mu.Unlock()
	f.stopped.Wait()
}

// follow looks where the store stands, whenever it is woken and whenever Poll has passed.
func (s *Store) follow(ctx context.Context) {
	ear := ear{s: s}
	defer ear.close()
	next := time.Now().Add(s.options.Poll)
	for ctx.Err() == nil {
		ear.open(ctx)
		s.look(ctx, &ear)
		ear.hear(ctx, next)
		if now := time.Now(); !now.Before(next) {
			if s.follower.done() {
				return
			}
			next = now.Add(s.options.Poll)
		}
	}
}

func (s *Store) look(ctx context.Context, ear *ear) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	var q querier = s.pool
	if ear.conn != nil {
		q = ear.conn
	}
	g := s.head.begin()
	head, _, err := s.place(ctx, q)
	if err != nil {
		ear.close()
		return
	}
	s.head.saw(g, head)
}

// ear is the connection that listens, if there is one.
type ear struct {
	s    *Store
	conn *pgxpool.Conn
	deaf bool // no connection of the pool can listen
}

// open makes a connection listen, if it can be had.
func (e *ear) open(ctx context.Context) {
	if e.conn != nil || e.deaf || e.s.options.PollOnly || e.s.pool.Config().MaxConns < minListen {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.s.options.Timeout)
	defer cancel()
	conn, err := e.s.pool.Acquire(ctx)
	if err != nil {
		return
	}
	// A pooler tells its clients numbers of its own.
	var pid uint32
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	if e.deaf = err == nil && pid != conn.Conn().PgConn().PID(); !e.deaf && err == nil {
		_, err = conn.Exec(ctx, `LISTEN `+e.s.names.topic)
		e.deaf = code(err) != "" // a standby, for one
	}
	if err != nil || e.deaf {
		conn.Release()
		return
	}
	e.conn = conn
}

// hear returns when there is a wake-up, and at a time if there is none.
func (e *ear) hear(ctx context.Context, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if e.conn != nil {
		if _, err := e.conn.Conn().WaitForNotification(ctx); err == nil {
			return
		}
		if ctx.Err() == nil { // the connection broke
			e.close()
		}
	}
	<-ctx.Done()
}

// close gives the connection back to the pool, which throws it away if it still listens.
func (e *ear) close() {
	if e.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := e.conn.Exec(ctx, `UNLISTEN `+e.s.names.topic); err != nil {
		_ = e.conn.Conn().Close(ctx)
	}
	e.conn.Release()
	e.conn = nil
}

// teller wakes those who wait in other processes. Its goroutine is there while there is
// something to tell.
type teller struct {
	ctx     context.Context // ends when the store is closed
	end     context.CancelFunc
	mu      sync.Mutex
	untold  bool // something was committed since the last NOTIFY began
	running bool
	stopped sync.WaitGroup
}

// tell sees to it that a NOTIFY is sent soon.
func (t *teller) tell(s *Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.untold = true
	if !t.running && t.ctx.Err() == nil {
		t.running = true
		t.stopped.Go(func() { t.run(s) })
	}
}

// untell reports whether there is something to tell; if not, the goroutine is to end.
func (t *teller) untell() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.untold
	t.untold = false
	return t.running
}

func (t *teller) run(s *Store) {
	for t.untell() {
		pause := time.After(tellEvery)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = s.pool.Exec(ctx, s.sql.notify, s.names.topic) // who is not told looks
		cancel()
		select {
		case <-pause:
		case <-t.ctx.Done():
		}
	}
}

func (t *teller) close() {
	t.mu.Lock()
	t.end()
	t.mu.Unlock()
	t.stopped.Wait()
}
