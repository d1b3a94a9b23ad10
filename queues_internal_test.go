package denizen

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestAStrangerDoesNotQueueBehindAUsersOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns()
		require.False(t, q.busy("alice"))
		held, err := q.take(t.Context(), "alice", maxQueued)
		require.NoError(t, err)
		ends := make(chan error, maxQueued)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxQueued {
			go func() {
				_, err := q.take(ctx, "alice", maxQueued)
				ends <- err
			}()
		}
		synctest.Wait()
		require.True(t, q.busy("alice"))
		_, err = q.take(t.Context(), "alice", maxQueued)
		require.ErrorIs(t, err, ErrConflict, "a full queue refuses at once")

		system := &call{by: System(), op: opBlockUser}
		waits, stop := context.WithTimeout(t.Context(), 1)
		_, err = q.take(waits, "alice", system.room())
		stop()
		require.ErrorIs(t, err, context.DeadlineExceeded, "who blocks her gets into it")

		for i := range 1000 {
			stranger := UserID(rune('a' + i))
			require.False(t, q.busy(stranger))
			done, err := q.take(t.Context(), stranger, maxQueued)
			require.NoError(t, err)
			done()
		}
		cancel()
		for range maxQueued {
			require.ErrorIs(t, <-ends, context.Canceled)
		}
		held()
		require.Empty(t, q.byUser, "a queue that nobody waits in is deleted")
		require.False(t, q.busy("alice"))
		require.Zero(t, testing.AllocsPerRun(100, func() { q.busy("alice") }))
	})
}
