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

// pending is the commits without an outcome, and the connection that their groups use one after
// the other. The pool is asked for it by a caller with its own context, before its batch joins a
// group: a group's leader works for others, too. While commits come without a break the
// connection stays here.
type pending struct {
	mu      sync.Mutex // guards all fields; nothing is waited for under it
	all     list.List  // of time.Time: until when each waits, the first to come first
	conn    *pgxpool.Conn
	inUse   bool
	getting chan struct{} // closed when the caller that asks the pool is done; nil if none does
}

// commit commits b. Until it is handed over it waits for LockTimeout in all.
func (p *pending) commit(ctx context.Context, s *Store, b store.Batch) (store.Seq, error) {
	if err := b.Check(); err != nil {
		return 0, err
	}
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	until := time.Now().Add(s.options.LockTimeout)
	p.mu.Lock()
	me := p.all.PushBack(until)
	p.mu.Unlock()
	defer p.leave(me)
	bound, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel) // Close gives up
	defer stop()
	var seq store.Seq
	err := p.provide(bound, s.pool)
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
	return 0, failed(ctx, err)
}

// leave ends a commit. The last gives the connection back.
func (p *pending) leave(me *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.Remove(me)
	p.spare()
}

// spare gives the connection back to the pool if nobody is going to use it. p.mu is held.
func (p *pending) spare() {
	if p.conn != nil && !p.inUse && p.all.Len() == 0 {
		p.conn.Release()
		p.conn = nil
	}
}

// provide returns once there is a connection, or as soon as ctx ends.
func (p *pending) provide(ctx context.Context, pool *pgxpool.Pool) error {
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
			case p.conn != nil: // a leader came by one meanwhile
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

// take returns the connection for a group. Only where it was lost since does the leader ask the
// pool.
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

// put ends a group's use of the connection. One that is not as it came goes to the pool, which
// throws it away.
func (p *pending) put() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse = false
	if c := p.conn.Conn(); c.IsClosed() || c.PgConn().TxStatus() != 'I' {
		p.conn.Release()
		p.conn = nil
	}
	p.spare()
}

// until returns how long the next group may wait: as long as the caller that has waited longest,
// and at least a little, as one may be listed that just got its outcome.
func (p *pending) until(bound time.Duration) time.Time {
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
