package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

const (
	processes   = 3
	claimedKeys = 4_000
)

func init() { children["claim"] = claimAll }

// claimAll claims every key once, with many goroutines and in a random order, and returns how many
// claims succeeded.
func claimAll(schema string) error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(serverEnv))
	if err != nil {
		return err
	}
	defer pool.Close()
	s, err := postgres.Open(ctx, pool, postgres.Options{Schema: schema})
	if err != nil {
		return err
	}
	defer s.Close()
	order := rand.Perm(claimedKeys)
	var mu sync.Mutex
	won, next := 0, 0
	errs := make(chan error)
	const writers = 16
	for range writers {
		go func() {
			for {
				mu.Lock()
				if next == claimedKeys {
					mu.Unlock()
					errs <- nil
					return
				}
				key := store.Key(fmt.Sprintf("key/%d", order[next]))
				next++
				mu.Unlock()
				_, err := s.Commit(ctx, store.Batch{If: []store.Cond{{Key: key}}, Put: put(key, fmt.Sprintf(`{"pid":%d}`, os.Getpid())).Put, Emit: []byte(`{}`)})
				if err != nil && !errors.Is(err, store.ErrConflict) {
					errs <- err
					return
				}
				if err == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			}
		}()
	}
	err = nil
	for range writers {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	b := put(store.Key(fmt.Sprintf("won/%d", os.Getpid())), fmt.Sprintf(`{"won":%d}`, won))
	b.Emit = []byte(`{}`)
	_, err = s.Commit(ctx, b)
	return err
}

func TestOfThreeProcessesOneWinsEachKeyAndTheFeedHasNoGaps(t *testing.T) {
	t.Parallel()
	s, pool, name := fresh(t)
	failures := make(chan string)
	for range processes {
		go func() { failures <- child(t, "claim", name) }()
	}
	followed := make(chan error, 1)
	go func() {
		for after := store.Seq(0); after < claimedKeys+processes; {
			if err := s.Wait(t.Context(), after); err != nil {
				followed <- err
				return
			}
			feed, err := s.Changes(t.Context(), after, 100)
			if err != nil {
				followed <- err
				return
			}
			for _, c := range feed.Changes { // every commit has an event
				if after++; c.Seq != after {
					followed <- fmt.Errorf("after %d came %d", after-1, c.Seq)
					return
				}
			}
			if len(feed.Changes) < 100 && after != feed.Head {
				followed <- fmt.Errorf("head is %d but nothing is told after %d", feed.Head, after)
				return
			}
		}
		followed <- nil
	}()
	for range processes {
		require.Empty(t, <-failures)
	}
	require.NoError(t, <-followed)
	var owned, won, winners int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE key LIKE 'key/%'),
		sum((value->>'won')::int), count(DISTINCT value->>'pid') FROM `+quote(name)+`.records`).Scan(&owned, &won, &winners))
	require.Equal(t, claimedKeys, owned)
	require.Equal(t, claimedKeys, won, "those who were told that they won")
	t.Logf("winners in %d processes", winners)
}
