package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// listenStep is how long one statement of a listening connection may take.
	listenStep = 5 * time.Second
	// listenAgain is the pause before another connection is tried.
	listenAgain = 250 * time.Millisecond
	// listenCheck is how long a connection may be silent before it is pinged.
	listenCheck = 15 * time.Second
)

// listeners holds one listener for each pool that a store waits over. The pool is the only thing
// that stores of one process have in common: if the host had to pass a shared listener to each
// store, one that it forgot would take another connection. The map is empty while nobody waits.
var listeners struct {
	mu sync.Mutex // guards of, and the refs of each listener
	of map[*pgxpool.Pool]*listener
}

// listener is the one connection of a pool that listens for all stores over that pool. Its
// goroutine runs while any store is subscribed.
//
// Lock order: listeners.mu, then listener.mu. Neither is held while the database is asked.
type listener struct {
	pool *pgxpool.Pool
	refs int // the number of subscriptions; guarded by listeners.mu
	stop context.CancelFunc
	done chan struct{} // closed when its goroutine has ended

	mu            sync.Mutex // guards the fields below
	subscriptions map[string]map[*subscription]bool
	resume        context.CancelFunc // ends the wait for a notification, to change the topics
}

// subscription is the wake-up of one store.
type subscription struct {
	l     *listener
	topic string
	woken chan struct{} // of size 1
}

// subscribe returns a subscription that is woken by notifications of topic. It is also woken as
// soon as the server listens, because something may have been committed before. If no connection of
// the pool can listen, it is never woken.
func subscribe(pool *pgxpool.Pool, topic string) *subscription {
	listeners.mu.Lock()
	defer listeners.mu.Unlock()
	l := listeners.of[pool]
	if l == nil {
		l = &listener{
			pool: pool, done: make(chan struct{}),
			subscriptions: map[string]map[*subscription]bool{}, resume: func() {},
		}
		var ctx context.Context
		ctx, l.stop = context.WithCancel(context.Background())
		if listeners.of == nil {
			listeners.of = map[*pgxpool.Pool]*listener{}
		}
		listeners.of[pool] = l
		go l.run(ctx)
	}
	l.refs++
	s := &subscription{l: l, topic: topic, woken: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subscriptions[topic] == nil {
		l.subscriptions[topic] = map[*subscription]bool{}
	}
	l.subscriptions[topic][s] = true
	l.resume()
	s.wake()
	return s
}

// close ends the subscription. The last one of a pool waits until the connection is released.
func (s *subscription) close() {
	l := s.l
	l.mu.Lock()
	delete(l.subscriptions[s.topic], s)
	if len(l.subscriptions[s.topic]) == 0 {
		delete(l.subscriptions, s.topic)
	}
	l.resume()
	l.mu.Unlock()
	listeners.mu.Lock()
	l.refs--
	last := l.refs == 0
	if last {
		delete(listeners.of, l.pool)
	}
	listeners.mu.Unlock()
	if last {
		l.stop()
		<-l.done
	}
}

func (s *subscription) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // woken already
	}
}

// wake wakes the subscriptions of a topic.
func (l *listener) wake(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subscriptions[topic] {
		s.wake()
	}
}

// run keeps a connection listening until ctx ends, or until it is clear that none can.
func (l *listener) run(ctx context.Context) {
	defer close(l.done)
	for ctx.Err() == nil {
		conn, unable := l.connect(ctx)
		if unable {
			return
		}
		if conn != nil {
			unable = l.receive(ctx, conn)
			release(conn)
		}
		if unable {
			return
		}
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
		}
	}
}

// connect acquires a connection that can listen. It returns nil if there is none now. It reports
// unable if there never will be, because a pooler is in between: poolers give their clients process
// numbers of their own.
func (l *listener) connect(ctx context.Context) (conn *pgxpool.Conn, unable bool) {
	ctx, cancel := context.WithTimeout(ctx, listenStep)
	defer cancel()
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, false
	}
	var pid uint32
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	if unable = err == nil && pid != conn.Conn().PgConn().PID(); unable || err != nil {
		conn.Release()
		return nil, unable
	}
	return conn, false
}

// receive wakes subscriptions until the connection is lost or ctx ends. It reports unable if the
// server refuses to listen, as a standby does.
func (l *listener) receive(ctx context.Context, conn *pgxpool.Conn) (unable bool) {
	listening := map[string]bool{}
	for ctx.Err() == nil {
		wait, resume := context.WithTimeout(ctx, listenCheck)
		l.mu.Lock()
		l.resume = resume
		var more, less []string
		for topic := range l.subscriptions {
			if !listening[topic] {
				more = append(more, topic)
			}
		}
		for topic := range listening {
			if l.subscriptions[topic] == nil {
				less = append(less, topic)
			}
		}
		l.mu.Unlock()
		step, cancel := context.WithTimeout(ctx, listenStep)
		err := l.change(step, conn, listening, more, less)
		if err == nil {
			err = l.next(wait, step, conn)
		}
		cancel()
		resume()
		if err != nil {
			return code(err) != "" && !conn.Conn().IsClosed()
		}
	}
	return false
}

// change adds topics and removes others. It wakes the subscriptions of a new topic, because
// something may have been committed before LISTEN.
func (l *listener) change(
	ctx context.Context, conn *pgxpool.Conn, listening map[string]bool, more, less []string,
) error {
	for _, topic := range more {
		if _, err := conn.Exec(ctx, `LISTEN `+topic); err != nil {
			return err
		}
		listening[topic] = true
		l.wake(topic)
	}
	for _, topic := range less {
		if _, err := conn.Exec(ctx, `UNLISTEN `+topic); err != nil {
			return err
		}
		delete(listening, topic)
	}
	return nil
}

// next waits for one notification, at most until wait ends. If wait has run out rather than been
// canceled, next checks that the connection is alive: a lost one may look silent.
func (l *listener) next(wait, step context.Context, conn *pgxpool.Conn) error {
	n, err := conn.Conn().WaitForNotification(wait)
	switch {
	case err == nil:
		l.wake(n.Channel)
		return nil
	case wait.Err() == nil || conn.Conn().IsClosed():
		return err
	case wait.Err() != context.DeadlineExceeded:
		return nil
	}
	alive, cancel := context.WithTimeout(context.WithoutCancel(step), listenStep)
	defer cancel()
	return conn.Ping(alive)
}

// release returns a connection to the pool as it was, or closed.
func release(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, `UNLISTEN *`); err != nil {
		_ = conn.Conn().Close(ctx)
	}
	conn.Release()
}
