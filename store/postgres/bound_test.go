package postgres_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
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

// strays counts the queries whose context is not derived from the caller's.
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
	_, err = s.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.EqualValues(t, 1, pool.Stat().CanceledAcquireCount(), "it waited again")
}

func TestACallerThatWaitsForAConnectionKeepsToItsContext(t *testing.T) {
	dsn, name := server(t), schema(t)
	pool := connect(t, dsn, func(c *pgxpool.Config) { c.MaxConns = 1 })
	s := open(t, pool, postgres.Options{Schema: name, LockTimeout: 20 * time.Second, PollOnly: true})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	patient := make(chan error, 1)
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	first := make(chan error, 1)
	start := time.Now()
	go func() {
		_, err := s.Commit(brief, put("a", `{}`))
		first <- err
	}()
	go func() {
		_, err := s.Commit(context.WithoutCancel(t.Context()), put("b", `{}`))
		patient <- err
	}()
	require.ErrorIs(t, <-first, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 5*time.Second)
	conn.Release()
	require.NoError(t, <-patient, "whoever gave up takes nobody along")
	require.Zero(t, get(t, s, "a").Version)
}

func TestACallerBehindAStuckLeaderWaitsNoLongerThanItsLockTimeout(t *testing.T) {
	const bound = 3 * time.Second
	s, pool, name := fresh(t)
	brief := open(t, pool, postgres.Options{Schema: name, LockTimeout: bound, PollOnly: true})
	commit(t, s.InTx(begin(t, pool)), put("k", `{}`))
	errs := make(chan time.Duration, 4)
	for i := range 4 {
		go func() {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			start := time.Now()
			_, err := brief.Commit(context.Background(), put("other", `{}`))
			if err == nil {
				start = time.Time{}
			}
			errs <- time.Since(start)
		}()
	}
	for range 4 {
		require.Less(t, <-errs, bound+bound/2)
	}
}

func TestCloseEndsThoughTheNetworkSwallowsEverything(t *testing.T) {
	p := newProxy(t)
	s := open(t, connect(t, p.dsn(t), plainly), postgres.Options{Schema: schema(t), LockTimeout: 3 * time.Second, Timeout: time.Hour})
	commit(t, s, put("k", `{}`))
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(context.Background(), 1) }()
	swallowed := make(chan struct{})
	swallow := sync.OnceFunc(func() { close(swallowed) })
	p.judge(func(sent []byte) verdict {
		if bytes.Contains(sent, []byte("pg_advisory_xact_lock")) {
			swallow()
		}
		select {
		case <-swallowed:
			p.halfOpen()
		default:
		}
		return pass
	})
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(context.Background(), put("k", `{}`))
		done <- err
	}()
	<-swallowed
	start := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(start), 20*time.Second) // of an hour
	require.Error(t, <-done)
	require.ErrorIs(t, <-waiting, store.ErrClosed)
	p.judge(nil)
	p.cut() // the driver waits for its connections
}

func TestAHostsTransactionThatSitsOnTheLockIsEnded(t *testing.T) {
	s, pool, name := fresh(t)
	host := open(t, pool, postgres.Options{Schema: name, Timeout: time.Second})
	tx := begin(t, pool)
	commit(t, host.InTx(tx), put("k", `{}`))
	require.Equal(t, store.Seq(1), commit(t, s, put("other", `{}`)), "the server ends it before others give up")
	require.Error(t, tx.Commit(t.Context()))
	require.Zero(t, get(t, s, "k").Version)
}

func TestWhoIsStoppedWithTheLockIsCutOffBeforeOthersGiveUp(t *testing.T) {
	const bound = 9 * time.Second // a third of it is for a slow machine
	witness, pool, name := fresh(t)
	p := newProxy(t)
	s := open(t, connect(t, p.dsn(t), plainly), postgres.Options{Schema: name, LockTimeout: bound, PollOnly: true})
	other := open(t, pool, postgres.Options{Schema: name, LockTimeout: bound, PollOnly: true})
	stopped := make(chan struct{}, 1)
	p.judge(func(sent []byte) verdict {
		if bytes.Contains(sent, []byte("COMMIT\x00")) {
			p.halfOpen()
			stopped <- struct{}{}
		}
		return pass
	})
	go func() { _, _ = s.Commit(context.Background(), put("k", `{}`)) }()
	<-stopped
	require.Equal(t, store.Seq(1), commit(t, other, put("other", `{}`)))
	require.Zero(t, get(t, witness, "k").Version)
}

func TestAStoppedClientThatIsCutOffIsToldThatNothingWasApplied(t *testing.T) {
	t.Parallel()
	witness, _, name := fresh(t)
	p := newProxy(t)
	tag := strings.ReplaceAll(name, " ", "-")
	pool := connect(t, p.dsn(t), plainly, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = tag })
	s := open(t, pool, postgres.Options{Schema: name, LockTimeout: 3 * time.Second, PollOnly: true})
	sessions, err := admin()
	require.NoError(t, err)
	p.judge(func(sent []byte) verdict {
		for deadline := time.Now().Add(time.Minute); bytes.Contains(sent, []byte("COMMIT\x00")) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			var holding int
			err := sessions.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in%'`, tag).Scan(&holding)
			if err != nil || holding == 0 {
				break // the server has ended it
			}
		}
		return pass
	})
	_, err = s.Commit(t.Context(), put("k", `{}`))
	require.ErrorContains(t, err, "25P03")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown)
	p.judge(nil)
	require.Zero(t, get(t, witness, "k").Version)
	require.Equal(t, store.Seq(1), commit(t, s, put("k", `{}`)))
}
