package postgres_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// never is longer than any test, so only a wake-up can end a wait.
const never = time.Hour

// soon is the time within which something must happen.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestACommitWakesWhoWaitsInAnotherProcess(t *testing.T) {
	s, pool, name := fresh(t)
	other := open(t, pool, postgres.Options{Schema: name, Poll: never})
	for i := range store.Seq(20) {
		waited := make(chan error, 1)
		go func() { waited <- other.Wait(soon(t), i) }()
		told := put("k", `{}`)
		told.Emit = []byte(`{}`)
		commit(t, s, told)
		require.NoError(t, <-waited)
		require.Equal(t, i+1, get(t, other, "k").Version)
	}
}

func TestPollingIsEnough(t *testing.T) {
	for name, change := range map[string]func(*postgres.Options, *pgxpool.Config){
		"by choice":       func(o *postgres.Options, _ *pgxpool.Config) { o.PollOnly = true },
		"in a small pool": func(_ *postgres.Options, c *pgxpool.Config) { c.MaxConns = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, schema := fresh(t)
			o := postgres.Options{Schema: schema, Poll: 5 * time.Millisecond}
			other := open(t, connect(t, server(t), func(c *pgxpool.Config) { change(&o, c) }), o)
			for i := range store.Seq(10) {
				waited := make(chan error, 1)
				go func() { waited <- other.Wait(soon(t), i) }()
				commit(t, s, put("k", `{}`))
				require.NoError(t, <-waited)
			}
		})
	}
}

func TestALostListenerIsReplaced(t *testing.T) {
	s, _, name := fresh(t)
	pool, tag := tagged(t, name)
	other := open(t, pool, postgres.Options{Schema: name, Poll: 20 * time.Millisecond})
	for i := range store.Seq(5) {
		waited := make(chan error, 1)
		go func() { waited <- other.Wait(soon(t), i) }()
		do(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, tag)
		commit(t, s, put("k", `{}`))
		require.NoError(t, <-waited)
	}
}

func TestAListenerIsThereOnlyWhileSomebodyWaits(t *testing.T) {
	s, pool, name := fresh(t)
	require.Zero(t, pool.Stat().AcquiredConns())
	other := open(t, pool, postgres.Options{Schema: name, Poll: 20 * time.Millisecond})
	held := func(n int32) func() bool { return func() bool { return pool.Stat().AcquiredConns() == n } }
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() { waited <- other.Wait(ctx, 0) }()
		require.Eventually(t, held(1), 30*time.Second, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-waited, context.Canceled)
		require.Eventually(t, held(0), 30*time.Second, time.Millisecond)
	}
	var channels int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_listening_channels()`).Scan(&channels))
	require.Zero(t, channels, "the connection goes back as it came")
	_ = s
}

// ours counts the goroutines that run code of this package, except its tests.
func ours() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "store/postgres.") {
			n++
		}
	}
	return n
}

func TestCloseLeavesNoGoroutineAndNoConnection(t *testing.T) {
	before := ours() // some may be about to end, of tests before
	s, pool, _ := fresh(t)
	require.LessOrEqual(t, ours(), before, "none before it is needed")
	for i := range 20 {
		commit(t, s, put(store.Key(fmt.Sprint(i)), `{}`))
	}
	waited := make(chan error, 1)
	go func() { waited <- s.Wait(t.Context(), 20) }()
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-waited, store.ErrClosed)
	// One that has said that it is done may be about to end.
	require.Eventually(t, func() bool { return ours() <= before }, 30*time.Second, time.Millisecond)
	// The pool closes the connection that listened, on another goroutine.
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 30*time.Second, time.Millisecond)
	require.NoError(t, pool.Ping(t.Context()), "the pool stays the host's")
}

func TestWaitOutlivesAServerThatIsAway(t *testing.T) {
	s, _, name := fresh(t)
	p := newProxy(t)
	other := open(t, connect(t, p.dsn(t)), postgres.Options{Schema: name, Poll: 10 * time.Millisecond, Timeout: 100 * time.Millisecond})
	waited := make(chan error, 1)
	ctx := soon(t)
	go func() { waited <- other.Wait(ctx, 0) }()
	p.refuse(true)
	p.cut()
	commit(t, s, put("k", `{}`))
	select {
	case err := <-waited:
		require.NoError(t, err) // it may have seen the commit before
	case <-time.After(50 * time.Millisecond):
		p.refuse(false)
		require.NoError(t, <-waited)
	}
}

func TestBehindAPoolerNobodyListens(t *testing.T) {
	s, _, name := fresh(t)
	for _, pooler := range []bool{false, true} {
		p := newProxy(t)
		p.renumber = pooler // poolers tell their clients numbers of their own
		listens := p.count("LISTEN denizen_")
		other := open(t, connect(t, p.dsn(t)), postgres.Options{Schema: name, Poll: 10 * time.Millisecond})
		// It may be told by a poll before it listens.
		for n := 0; n < 3 || n < 1000 && !pooler && listens() == 0; n++ {
			feed, err := s.Changes(t.Context(), 0, 1)
			require.NoError(t, err)
			waited := make(chan error, 1)
			go func() { waited <- other.Wait(soon(t), feed.Head) }()
			commit(t, s, put("k", `{}`))
			require.NoError(t, <-waited)
		}
		require.NoError(t, other.Close())
		require.Equal(t, pooler, listens() == 0)
	}
}

func TestACommitWithoutAnEventWakesNobodyInAnotherProcess(t *testing.T) {
	s, pool, name := fresh(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	topic := pgx.Identifier{postgres.Topic(name)}.Sanitize()
	_, err = conn.Exec(t.Context(), "LISTEN "+topic)
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(t.Context(), "UNLISTEN *")
		require.NoError(t, err)
	}()
	commit(t, s, put("k", `{}`))
	require.NoError(t, s.Close()) // what is to be sent has been sent after it
	_, err = pool.Exec(t.Context(), "NOTIFY "+topic+", 'the first'")
	require.NoError(t, err)
	n, err := conn.Conn().WaitForNotification(soon(t))
	require.NoError(t, err)
	require.Equal(t, "the first", n.Payload)
}
