package postgres_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

type traceKey struct{}

// strays counts the queries whose context is not the caller's.
type strays struct{ all, stray atomic.Int64 }

func (s *strays) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return s.count(ctx)
}
func (s *strays) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *strays) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return s.count(ctx)
}
func (s *strays) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *strays) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (s *strays) count(ctx context.Context) context.Context {
	s.all.Add(1)
	if ctx.Value(traceKey{}) == nil {
		s.stray.Add(1)
	}
	return ctx
}

func TestASavepointHasTheCallersContextAsParent(t *testing.T) {
	dsn, name := server(t), schema(t)
	traced := &strays{}
	pool := connect(t, dsn, func(c *pgxpool.Config) { c.ConnConfig.Tracer = traced })
	s := open(t, pool, postgres.Options{Schema: name, PollOnly: true})
	tx := begin(t, pool)
	in := s.InTx(tx)
	traced.all.Store(0)
	traced.stray.Store(0)
	ctx := context.WithValue(t.Context(), traceKey{}, true)
	_, err := in.Commit(ctx, put("k", `{}`))
	require.NoError(t, err)
	_, err = in.Commit(ctx, store.Batch{If: []store.Cond{{Key: "k"}}, Put: put("k", `{}`).Put})
	require.ErrorIs(t, err, store.ErrConflict)
	require.NotZero(t, traced.all.Load())
	require.Zero(t, traced.stray.Load())
}

func TestACommitWaitsForAConnectionNoLongerThanItsLockTimeoutInAll(t *testing.T) {
	dsn, name := server(t), schema(t)
	pool := connect(t, dsn, func(c *pgxpool.Config) { c.MaxConns = 1 })
	s := open(t, pool, postgres.Options{Schema: name, LockTimeout: 400 * time.Millisecond, PollOnly: true})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	start := time.Now()
	_, err = s.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.Less(t, time.Since(start), 800*time.Millisecond)
}
