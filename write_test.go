package denizen_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
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

func TestWrite_ManyWritesOfOneUserAllGetThroughAndNoStrangerWaits(t *testing.T) {
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

// meddled calls a method in a new world where something is done just before the method's
// first commit.
func meddled(t testing.TB, cached bool, m method, by func(*world) denizen.Principal, meddle func(*world)) (*world, error) {
	t.Helper()
	var s *meddling
	w := newWorld(t, cached, denizen.Options{}, func(inner store.Store) store.Store {
		s = &meddling{Store: inner}
		return s
	})
	f := func(store.Batch) bool {
		meddle(w)
		return true
	}
	s.meddle.Store(&f)
	err := m.call(t.Context(), w, by(w), w.alice)
	s.meddle.Store(nil)
	return w, err
}

func TestWrite_AWriteThatMeetsAConflictIsDecidedAnew(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		for _, m := range methods {
			if !m.about || m.verdict(t, asSystem) != yes {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				w, err := meddled(t, cached, m, (*world).application, func(w *world) {
					_, err := w.SetScreenName(t.Context(), denizen.System(), w.alice, "Meanwhile")
					require.NoError(t, err)
				})
				require.NoError(t, err)
				invariant.Check(t, w.inner)
				w.requireCoherent(t)
			})
		}
	})
}

// A write that was decided while its caller still stood is not applied once it does not.
func TestWrite_NothingIsWrittenForACallerWhoFellMeanwhile(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		for _, f := range fallen {
			if f.column == asOther {
				continue
			}
			for _, m := range methods {
				if m.verdict(t, f.column) != yes || m.name == "Logout" {
					continue
				}
				t.Run(f.name+", "+m.name, func(t *testing.T) {
					var after invariant.Dump
					w, err := meddled(t, cached, m, f.by, func(w *world) {
						require.NoError(t, f.fall(t.Context(), w))
						after = invariant.Of(t, w.inner)
					})
					if after.Records == nil {
						require.NoError(t, err, "it writes nothing")
						return
					}
					require.ErrorIs(t, err, denizen.ErrRevoked)
					require.Equal(t, after, invariant.Of(t, w.inner))
				})
			}
		}
	})
}
