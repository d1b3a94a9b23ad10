package txn

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

func TestAStrangerDoesNotQueueBehindAUsersOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 256
		q := newQueues()
		require.False(t, q.busy("alice"))
		held, err := q.enter(t.Context(), Queue{"alice", room})
		require.NoError(t, err)
		ends := make(chan error, room)
		ctx, cancel := context.WithCancel(t.Context())
		for range room {
			go func() {
				_, err := q.enter(ctx, Queue{"alice", room})
				ends <- err
			}()
		}
		synctest.Wait()
		require.True(t, q.busy("alice"))
		_, err = q.enter(t.Context(), Queue{"alice", room})
		require.ErrorIs(t, err, ErrQueueFull, "a full queue refuses at once")

		waits, stop := context.WithTimeout(t.Context(), 1)
		_, err = q.enter(waits, Queue{"alice", 2 * room})
		stop()
		require.ErrorIs(t, err, context.DeadlineExceeded, "whoever there is more room for gets into it")

		for i := range 1000 {
			stranger := store.Key(rune('a' + i))
			require.False(t, q.busy(stranger))
			done, err := q.enter(t.Context(), Queue{stranger, room})
			require.NoError(t, err)
			done()
		}
		cancel()
		for range room {
			require.ErrorIs(t, <-ends, context.Canceled)
		}
		held()
		require.Empty(t, q.byKey, "a queue that nobody waits in is deleted")
		require.False(t, q.busy("alice"))
		require.Zero(t, testing.AllocsPerRun(100, func() { q.busy("alice") }))
	})
}
