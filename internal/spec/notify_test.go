package spec_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
)

// Two processes over PostgreSQL compete for one consumer. Whoever delivers is ended at random, many
// times, and the other goes on: nothing is missed, and only a batch that was under way comes twice.
func TestTwoProcessesShareAConsumerAndMissNothing(t *testing.T) {
	t.Parallel() // it waits most of the time
	ps := newProcesses(t, denizen.Options{}, 0, time.Hour, 0)
	writer := ps[2]
	var mu sync.Mutex
	got, deliverers := map[denizen.Seq]int{}, map[int]bool{}
	latest, holder := denizen.Cursor(""), 0
	start := func(i int) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- ps[i].Notify(ctx, system, "indexer", func(_ context.Context, batch []denizen.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range batch {
					got[e.Seq]++
					latest = e.Cursor
				}
				deliverers[i], holder = true, i
				return nil
			})
		}()
		return func() {
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
	}
	stops := []func(){start(0), start(1)}
	caughtUp := func() bool {
		head, err := writer.Head(t.Context(), system)
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		return head == latest
	}
	for i := range long.Of(20, 100) {
		_, err := writer.CreateUser(t.Context(), system, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("user-%06d", i)), ScreenName: "Somebody"})
		require.NoError(t, err)
		if i%10 == 5 {
			mu.Lock()
			ends := holder
			mu.Unlock()
			stops[ends]()
			// The other looks every five seconds.
			require.Eventually(t, caughtUp, time.Minute, 10*time.Millisecond)
			stops[ends] = start(ends)
		} else if i%2 == 0 {
			ends := rand.IntN(2)
			stops[ends]()
			stops[ends] = start(ends)
		}
	}
	var all []denizen.Event
	for e, err := range writer.Events(t.Context(), system, "") {
		require.NoError(t, err)
		all = append(all, e)
	}
	require.Eventually(t, caughtUp, time.Minute, 10*time.Millisecond)
	for _, stop := range stops {
		stop()
	}
	require.Len(t, deliverers, 2)
	require.False(t, slices.ContainsFunc(all, func(e denizen.Event) bool { return got[e.Seq] == 0 }), "something is missed")
	list, err := writer.Consumers(t.Context(), system)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, all[len(all)-1].Cursor, list[0].Cursor)
}

// A cursor does not depend on how a store spells an event.
func TestACursorIsTheSameOverPostgreSQL(t *testing.T) {
	p := newProcesses(t, denizen.Options{}, 0)[0]
	p.alice(t)
	var last denizen.Event
	for e, err := range p.Events(t.Context(), system, "") {
		require.NoError(t, err)
		last = e
	}
	head, err := p.Head(t.Context(), system)
	require.NoError(t, err)
	require.Equal(t, last.Cursor, head)
	for e, err := range p.Events(t.Context(), system, head) {
		require.NoError(t, err, "after the head")
		require.Empty(t, e)
	}
}
