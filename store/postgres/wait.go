package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/denizenhq/denizen/store"
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
	var woken chan struct{} // of nobody
	if !s.options.PollOnly && s.pool.Config().MaxConns >= minListen {
		ear := listen(s.pool, s.names.topic)
		defer ear.close()
		woken = ear.woken
	}
	next := time.Now().Add(s.options.Poll)
	for ctx.Err() == nil {
		s.look(ctx)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if now := time.Now(); !now.Before(next) {
			if s.follower.done() {
				s.polled.Store(nil)
				return
			}
			next = now.Add(s.options.Poll)
		}
	}
}

func (s *Store) look(followed context.Context) {
	ctx, cancel := context.WithTimeout(followed, s.options.Timeout)
	defer cancel()
	g := s.head.begin()
	head, _, err := s.place(ctx, s.pool)
	if err == nil {
		s.head.saw(g, head)
	}
	if followed.Err() == nil {
		s.polled.Store(&outcome{err})
	}
}

// outcome is how the last look went.
type outcome struct{ err error }

// Health implements [store.Checker]: while somebody waits it tells whether the last look at the
// database failed. Otherwise nobody looks, and it knows of nothing.
func (s *Store) Health() error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if last := s.polled.Load(); last != nil && last.err != nil {
		return unavailable(last.err)
	}
	return nil
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
