package denizen

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

// Users share generations by a hash. It is keyed anew in each directory, so that nobody can find
// out which users make a stranger's tokens be asked for again.
func TestNobodyKnowsWhoSharesAGeneration(t *testing.T) {
	places := func() (places [64]int) {
		f := newFollowing(time.Second)
		for i := range places {
			of := f.of(UserID(rune('a' + i)))
			require.Same(t, of, f.of(UserID(rune('a'+i))), "the same each time")
			for j := range f.ended {
				if of == &f.ended[j] {
					places[i] = j
				}
			}
		}
		return places
	}
	require.NotEqual(t, places(), places())
}
