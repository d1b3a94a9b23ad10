package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// listenStep is how long one step of a listening connection may take.
	listenStep = 5 * time.Second
	// listenAgain is the pause after one was lost or could not be had.
	listenAgain = 250 * time.Millisecond
	// listenCheck is how long one may be silent before it is asked whether it is alive.
	listenCheck = 15 * time.Second
)

// listeners has the pools that a store waits over now. What stores over one pool share is that
// pool: it is all that they can find each other by, and a shared object of the host's, once
// forgotten, would take a connection for each store again. It is empty while nobody waits.
var listeners struct {
	mu sync.Mutex // guards of, and the refs of each
	of map[*pgxpool.Pool]*listener
}

// listener is the one connection of a pool that listens, for all stores over that pool. Its
// goroutine ends with the last store that waits.
type listener struct {
	pool *pgxpool.Pool
	refs int
	stop context.CancelFunc
	done chan struct{} // closed when its goroutine has ended

	mu     sync.Mutex // guards what follows
	ears   map[string]map[*ear]bool
	resume context.CancelFunc // ends the wait for a notification, as other topics are wanted
}

// ear is how one store is woken.
type ear struct {
	l     *listener
	topic string
	woken chan struct{} // of size 1
}

// listen has a store woken by its topic, and right away once the server listens to it. If no
// connection of the pool can listen, nothing wakes it.
func listen(pool *pgxpool.Pool, topic string) *ear {
	listeners.mu.Lock()
	defer listeners.mu.Unlock()
	l := listeners.of[pool]
	if l == nil {
		l = &listener{pool: pool, done: make(chan struct{}), ears: map[string]map[*ear]bool{}, resume: func() {}}
		var ctx context.Context
		ctx, l.stop = context.WithCancel(context.Background())
		if listeners.of == nil {
			listeners.of = map[*pgxpool.Pool]*listener{}
		}
		listeners.of[pool] = l
		go l.run(ctx)
	}
	l.refs++
	e := &ear{l: l, topic: topic, woken: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ears[topic] == nil {
		l.ears[topic] = map[*ear]bool{}
	}
	l.ears[topic][e] = true
	l.resume()
	e.wake()
	return e
}

// close ends it. The last of a pool waits until the connection is given back.
func (e *ear) close() {
	l := e.l
	l.mu.Lock()
	delete(l.ears[e.topic], e)
	if len(l.ears[e.topic]) == 0 {
		delete(l.ears, e.topic)
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

func (e *ear) wake() {
	select {
	case e.woken <- struct{}{}:
	default: // it is told already
	}
}

// wake wakes the stores of a topic.
func (l *listener) wake(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.ears[topic] {
		e.wake()
	}
}

// run keeps a connection that listens until ctx ends, or until it turns out that none can.
func (l *listener) run(ctx context.Context) {
	defer close(l.done)
	for ctx.Err() == nil {
		conn, deaf := l.connect(ctx)
		if deaf {
			return
		}
		if conn != nil {
			deaf = l.hear(ctx, conn)
			release(conn)
		}
		if deaf {
			return
		}
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
		}
	}
}

// connect returns a connection that can listen, nil if there is none now. It reports that none
// ever can behind a pooler, which tells its clients numbers of its own.
func (l *listener) connect(ctx context.Context) (conn *pgxpool.Conn, deaf bool) {
	ctx, cancel := context.WithTimeout(ctx, listenStep)
	defer cancel()
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, false
	}
	var pid uint32
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	if deaf = err == nil && pid != conn.Conn().PgConn().PID(); deaf || err != nil {
		conn.Release()
		return nil, deaf
	}
	return conn, false
}

// hear wakes stores until the connection is lost or ctx ends. It reports whether the server does
// not let it listen, as a standby.
func (l *listener) hear(ctx context.Context, conn *pgxpool.Conn) (deaf bool) {
	heard := map[string]bool{}
	for ctx.Err() == nil {
		wait, resume := context.WithTimeout(ctx, listenCheck)
		l.mu.Lock()
		l.resume = resume
		var more, less []string
		for topic := range l.ears {
			if !heard[topic] {
				more = append(more, topic)
			}
		}
		for topic := range heard {
			if l.ears[topic] == nil {
				less = append(less, topic)
			}
		}
		l.mu.Unlock()
		step, cancel := context.WithTimeout(ctx, listenStep)
		err := l.change(step, conn, heard, more, less)
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

// change listens to more topics and to fewer. Who is behind a new one looks once more, as
// something may have come before.
func (l *listener) change(ctx context.Context, conn *pgxpool.Conn, heard map[string]bool, more, less []string) error {
	for _, topic := range more {
		if _, err := conn.Exec(ctx, `LISTEN `+topic); err != nil {
			return err
		}
		heard[topic] = true
		l.wake(topic)
	}
	for _, topic := range less {
		if _, err := conn.Exec(ctx, `UNLISTEN `+topic); err != nil {
			return err
		}
		delete(heard, topic)
	}
	return nil
}

// next waits for one notification, until wait ends.
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

// release gives a connection back to the pool as it came, or broken.
func release(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, `UNLISTEN *`); err != nil {
		_ = conn.Conn().Close(ctx)
	}
	conn.Release()
}
