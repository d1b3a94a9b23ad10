package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/denizenhq/denizen/store"
)

// notifyEvery is the minimum time between two NOTIFYs of this process. They are not sent inside
// commits: PostgreSQL then takes a lock of the whole database, which costs most of the throughput.
const notifyEvery = 5 * time.Millisecond

// minListen is how many connections a pool must allow for one to listen. The others are needed for
// reads, for commits and by the host.
const minListen = 4

// canceled is a context that has ended.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Wait implements [store.Store]. It learns of commits in other processes by a wake-up, or after
// [Options].Poll.
func (s *Store) Wait(ctx context.Context, after store.Seq) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.head.Wait(canceled, after) == nil {
		return nil
	}
	leave := s.follower.join(s)
	defer leave()
	return s.head.Wait(ctx, after)
}

// follower keeps the head of a store up to date while somebody waits. Its goroutine starts with the
// first Wait. It ends, and its subscription with it, when nobody has waited for a whole Poll.
type follower struct {
	mu      sync.Mutex // guards the fields below, except stopped
	waiting int        // the number of waiters
	joined  bool       // somebody has joined since done was last called
	closed  bool
	running bool
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// join adds a waiter, and starts the goroutine if it is not running.
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

// done reports whether the goroutine should end: nobody waits, and nobody has joined since the last
// call. The next join then starts another one.
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

// close ends the goroutine and waits for it.
func (f *follower) close() {
	f.mu.Lock()
	f.closed = true
	if f.stop != nil {
		f.stop()
	}
	f.mu.Unlock()
	f.stopped.Wait()
}

// follow polls the head whenever it is woken and whenever Poll has passed.
func (s *Store) follow(ctx context.Context) {
	var woken chan struct{} // nil, which never wakes, unless subscribed
	if !s.options.PollOnly && s.pool.Config().MaxConns >= minListen {
		subscription := subscribe(s.pool, s.names.topic)
		defer subscription.close()
		woken = subscription.woken
	}
	next := time.Now().Add(s.options.Poll)
	for ctx.Err() == nil {
		s.poll(ctx)
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

// poll observes the head once.
func (s *Store) poll(followed context.Context) {
	ctx, cancel := context.WithTimeout(followed, s.options.Timeout)
	defer cancel()
	g := s.head.begin()
	head, _, err := s.feedBounds(ctx, s.pool)
	if err == nil {
		s.head.saw(g, head)
	}
	if followed.Err() == nil {
		s.polled.Store(&outcome{err})
	}
}

// outcome is the result of a poll.
type outcome struct{ err error }

// Health implements [store.Checker]. While somebody waits, it reports whether the last poll failed,
// which may pass. Otherwise nobody polls, and it returns nil.
func (s *Store) Health() error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	last := s.polled.Load()
	if last == nil || last.err == nil {
		return nil
	}
	if err := unavailable(last.err); errors.Is(err, store.ErrCorrupt) {
		return err
	}
	// Not store.ErrUnavailable, which would say that it must be opened anew.
	return fmt.Errorf("postgres: the database does not answer: %w", last.err)
}

// notifier wakes the waiters in other processes. Its goroutine runs while there is something to
// notify them of.
type notifier struct {
	ctx     context.Context // ends when the store is closed
	end     context.CancelFunc
	mu      sync.Mutex // guards wanted and running
	wanted  bool       // something was committed since the last NOTIFY began
	running bool
	stopped sync.WaitGroup
}

// notify makes sure that a NOTIFY is sent soon.
func (n *notifier) notify(s *Store) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted = true
	if !n.running && n.ctx.Err() == nil {
		n.running = true
		n.stopped.Go(func() { n.run(s) })
	}
}

// nextNotify reports whether another NOTIFY is wanted. If not, the goroutine must end.
func (n *notifier) nextNotify() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running = n.wanted
	n.wanted = false
	return n.running
}

func (n *notifier) run(s *Store) {
	for n.nextNotify() {
		pause := time.After(notifyEvery)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = s.pool.Exec(ctx, s.sql.notify, s.names.topic) // if it fails, waiters poll
		cancel()
		select {
		case <-pause:
		case <-n.ctx.Done():
		}
	}
}

// close ends the goroutine and waits for it. A NOTIFY that is wanted is still sent.
func (n *notifier) close() {
	n.mu.Lock()
	n.end()
	n.mu.Unlock()
	n.stopped.Wait()
}
