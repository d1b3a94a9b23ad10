package postgres

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pending is the set of commits without an outcome, and the connection that their groups use in
// turn.
//
// A caller asks the pool for that connection with its own context, before its batch joins a group.
// The leader of a group cannot do that: it works for others too, so it may not give up when one
// context ends. While commits follow each other without a pause the connection stays here, which
// saves a trip to the pool.
type pending struct {
	mu      sync.Mutex    // guards all fields; never held while anything is waited for
	all     list.List     // of time.Time: the deadline of each commit, oldest first
	conn    *pgxpool.Conn // nil if there is none
	inUse   bool          // a group uses conn
	getting chan struct{} // closed when the caller that asks the pool is done; nil if none asks
}

// commit commits b. Before b is handed over it waits for at most LockTimeout in total.
func (p *pending) commit(ctx context.Context, s *Store, b store.Batch) (store.Seq, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	deadline := time.Now().Add(s.options.LockTimeout)
	p.mu.Lock()
	me := p.all.PushBack(deadline)
	p.mu.Unlock()
	defer p.leave(me)
	bound, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel) // Close gives up
	defer stop()
	var seq store.Seq
	err := p.ensureConn(bound, s.pool)
	if err == nil {
		seq, err = s.group.Commit(bound, b)
	}
	switch {
	case err == nil:
		return seq, nil
	case err == bound.Err() && ctx.Err() != nil:
		return 0, ctx.Err()
	case err == bound.Err():
		return 0, fmt.Errorf("%w: those before it were not done in time", store.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return 0, fmt.Errorf("%w: no connection of the pool in time", store.ErrUnavailable)
	}
	return 0, translate(ctx, err)
}

// leave removes a commit. The last one releases the connection.
func (p *pending) leave(me *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.Remove(me)
	p.releaseIdle()
}

// releaseIdle returns the connection to the pool if no commit is going to use it. The caller holds
// p.mu.
func (p *pending) releaseIdle() {
	if p.conn != nil && !p.inUse && p.all.Len() == 0 {
		p.conn.Release()
		p.conn = nil
	}
}

// ensureConn returns once there is a connection, or when ctx ends. One caller asks the pool at a
// time; the others wait for it, and ask themselves if it fails.
func (p *pending) ensureConn(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		p.mu.Lock()
		if p.conn != nil {
			p.mu.Unlock()
			return nil
		}
		getting := p.getting
		if getting == nil {
			p.getting = make(chan struct{})
			p.mu.Unlock()
			conn, err := pool.Acquire(ctx)
			p.mu.Lock()
			defer p.mu.Unlock()
			close(p.getting)
			p.getting = nil
			switch {
			case err != nil && ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return err
			case p.conn != nil: // a leader has got one meanwhile
				conn.Release()
			default:
				p.conn = conn
			}
			return nil
		}
		p.mu.Unlock()
		select {
		case <-getting:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take returns the connection for a group. It asks the pool only if the connection was lost since
// ensureConn returned.
func (p *pending) take(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	p.mu.Lock()
	if p.conn != nil {
		p.inUse = true
		defer p.mu.Unlock()
		return p.conn, nil
	}
	p.mu.Unlock()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		conn.Release()
	} else {
		p.conn = conn
	}
	p.inUse = true
	return p.conn, nil
}

// put ends a group's use of the connection. A connection that is not in its original state goes
// back to the pool, which closes it.
func (p *pending) put() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse = false
	if c := p.conn.Conn(); c.IsClosed() || c.PgConn().TxStatus() != 'I' {
		p.conn.Release()
		p.conn = nil
	}
	p.releaseIdle()
}

// deadline returns how long the next group may wait: as long as the oldest commit may, and at least
// a tenth of bound, because the oldest may just have got its outcome and not been removed yet.
func (p *pending) deadline(bound time.Duration) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, least := time.Now().Add(bound), time.Now().Add(bound/10)
	if first := p.all.Front(); first != nil {
		at = first.Value.(time.Time)
	}
	if at.Before(least) {
		return least
	}
	return at
}
