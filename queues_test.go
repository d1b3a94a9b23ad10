package denizen_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// gated is a store in memory whose commits about one user wait at a gate.
type gated struct {
	*memory.Store
	user denizen.UserID
	gate chan struct{} // lets one through for each value; nil: no gate
}

func (s *gated) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	about := slices.ContainsFunc(b.Put, func(r store.Record) bool { return r.Key == record.UserKey(string(s.user)) })
	if about && s.gate != nil {
		<-s.gate
	}
	return s.Store.Commit(ctx, b)
}

func TestManyWritesOfOneUserAllGetThroughAndNoStrangerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writes, strangers = 200, 300
		s := &gated{Store: memory.New(), user: alice}
		d := newOver(t, s, denizen.Options{UserEventBurst: writes})
		newUser(t, d, alice)
		by, err := d.Authenticate(t.Context(), newToken(t, d, alice, denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
		for i := range strangers {
			newUser(t, d, denizen.UserID(fmt.Sprintf("stranger-%d", i)))
		}
		s.gate = make(chan struct{})
		ends := make(chan error, writes)
		for i := range writes {
			go func() {
				_, err := d.SetScreenName(t.Context(), by, alice, fmt.Sprintf("Alice %d", i))
				ends <- err
			}()
		}
		synctest.Wait()
		for range writes { // who all decided on the same version: one is applied
			s.gate <- struct{}{}
		}
		synctest.Wait()
		require.Len(t, ends, 1)

		began := time.Now()
		soon, stop := context.WithTimeout(t.Context(), time.Second)
		for i := range strangers {
			_, err := d.SetScreenName(soon, sys, denizen.UserID(fmt.Sprintf("stranger-%d", i)), "A Stranger")
			require.NoError(t, err)
		}
		stop()
		require.Zero(t, time.Since(began))
		require.Len(t, ends, 1, "the others still wait for each other")

		waits, stop := context.WithTimeout(t.Context(), time.Second)
		_, err = d.SetScreenName(waits, sys, alice, "Impatient")
		stop()
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded, "a wait ends with the caller's context")

		close(s.gate)
		for range writes {
			require.NoError(t, <-ends)
		}
	})
}
