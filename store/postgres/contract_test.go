package postgres_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// harness makes stores in schemas of their own, all over one pool. No machine is so busy that the
// server takes one of them for stopped.
func harness(t *testing.T, pool *pgxpool.Pool) storetest.Harness {
	t.Helper()
	var schemas sync.Map // store → schema
	open := func(t testing.TB, name string) store.Store {
		t.Helper()
		s := open(t, pool, postgres.Options{Schema: name, LockTimeout: time.Minute})
		schemas.Store(s, name)
		return s
	}
	return storetest.Harness{
		New: func(t testing.TB) store.Store {
			t.Helper()
			return open(t, schema(t))
		},
		Reopen: func(t testing.TB, s store.Store) store.Store {
			t.Helper()
			require.NoError(t, s.Close())
			name, _ := schemas.Load(s)
			return open(t, name.(string))
		},
		Damage: func(t testing.TB, s store.Store, key store.Key) {
			t.Helper()
			name, _ := schemas.Load(s)
			do(t, `UPDATE `+quote(name.(string))+`.records SET value = '[]' WHERE key = $1`, []byte(key))
		},
		DamageEvent: func(t testing.TB, s store.Store, seq store.Seq) {
			t.Helper()
			name, _ := schemas.Load(s)
			do(t, `UPDATE `+quote(name.(string))+`.changes SET event = '[]' WHERE seq = $1`, int64(seq))
		},
	}
}

func TestTheContractHolds(t *testing.T) {
	dsn := server(t)
	t.Parallel()
	storetest.Run(t, harness(t, connect(t, dsn)))
}

// The pool uses the mode that it needs behind a pooler. TestEveryModeOfThePoolWorks tries the other
// modes.
func TestTheContractHoldsBehindTheWrappersWithoutPreparedStatements(t *testing.T) {
	dsn := server(t)
	t.Parallel()
	h := harness(t, connect(t, dsn, plainly))
	storetest.Run(t, h.Wrap(func(t testing.TB, s store.Store) store.Store {
		s = storetest.Watchful(t, s, func(store.Key) bool { return true })
		return storetest.Faulty(s, func(storetest.Call) storetest.Fault { return storetest.None })
	}))
}

// behindPooler returns a pool through a pooler in transaction mode, or skips.
func behindPooler(t *testing.T) *pgxpool.Pool {
	t.Helper()
	server(t)
	dsn := os.Getenv("DENIZEN_PGBOUNCER")
	if dsn == "" {
		t.Skip("DENIZEN_PGBOUNCER is not set")
	}
	return connect(t, dsn, plainly)
}

func TestTheContractHoldsBehindAPooler(t *testing.T) {
	pool := behindPooler(t)
	t.Parallel()
	storetest.Run(t, harness(t, pool))
}

func TestWhoWaitsBehindAPoolerIsWoken(t *testing.T) {
	pool := behindPooler(t)
	s, _, name := fresh(t)
	other := open(t, pool, postgres.Options{Schema: name, Poll: 10 * time.Millisecond})
	for i := range store.Seq(10) {
		waited := make(chan error, 1)
		go func() { waited <- other.Wait(soon(t), i) }()
		commit(t, s, put("k", `{}`))
		require.NoError(t, <-waited)
	}
	sessions, err := admin()
	require.NoError(t, err)
	listening := func() (n int) {
		require.NoError(t, sessions.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE query = $1`, "LISTEN "+postgres.Topic(name)).Scan(&n))
		return n
	}
	require.Zero(t, listening())
	go func() { _ = s.Wait(t.Context(), 10) }()
	require.Eventually(t, func() bool { return listening() == 1 }, 30*time.Second, time.Millisecond, "who is not behind it listens")
}
