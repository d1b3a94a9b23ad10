package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/stretchr/testify/require"
)

func TestManyStoresOverOnePoolShareOneListener(t *testing.T) {
	pool, tag := tagged(t, schema(t))
	require.EqualValues(t, 8, pool.Config().MaxConns)
	const n = 20
	stores, waited := make([]*postgres.Store, n), make(chan error, n)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for i := range stores {
		stores[i] = open(t, pool, postgres.Options{Schema: schema(t), Poll: never, LockTimeout: 20 * time.Second})
		go func() { waited <- stores[i].Wait(ctx, 0) }()
	}
	listening := func() (n int) {
		p, err := admin()
		require.NoError(t, err)
		require.NoError(t, p.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = $1 AND query LIKE 'LISTEN%'`, tag).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return listening() == 1 && pool.Stat().AcquiredConns() == 1 }, 30*time.Second, time.Millisecond)
	for i, s := range stores {
		commit(t, s, put(store.Key(fmt.Sprint(i)), `{}`))
	}
	for range stores {
		require.NoError(t, <-waited)
	}
	require.LessOrEqual(t, listening(), 1)
	for _, s := range stores {
		require.NoError(t, s.Close())
	}
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 30*time.Second, time.Millisecond)
}

func TestHealthTellsThatTheLastLookFailed(t *testing.T) {
	p := newProxy(t)
	o := hasty(schema(t))
	s := open(t, connect(t, p.dsn(t)), o)
	require.NoError(t, s.Health())
	go func() { _ = s.Wait(t.Context(), 0) }()
	p.refuse(true)
	p.cut()
	require.Eventually(t, func() bool { return s.Health() != nil }, 30*time.Second, time.Millisecond)
	require.NotErrorIs(t, s.Health(), store.ErrUnavailable, "it need not be opened anew")
	p.refuse(false)
	require.Eventually(t, func() bool { return s.Health() == nil }, 30*time.Second, time.Millisecond)
}
