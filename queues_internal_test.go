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
		held, err := q.take(t.Context(), "alice")
		require.NoError(t, err)
		ends := make(chan error, maxQueued)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxQueued {
			go func() {
				_, err := q.take(ctx, "alice")
				ends <- err
			}()
		}
		synctest.Wait()
		require.True(t, q.busy("alice"))
		_, err = q.take(t.Context(), "alice")
		require.ErrorIs(t, err, ErrConflict, "a full queue refuses at once")

		for i := range 1000 {
			stranger := UserID(rune('a' + i))
			require.False(t, q.busy(stranger))
			done, err := q.take(t.Context(), stranger)
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
