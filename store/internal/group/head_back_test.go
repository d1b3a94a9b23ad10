package group_test

import (
	"testing"
	"testing/synctest"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/stretchr/testify/require"
)

func TestWhoWaitsBeyondAHeadThatWentBackIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h group.Head
		h.Advance(10)
		wait := func(after store.Seq) <-chan error {
			done := make(chan error, 1)
			go func() { done <- h.Wait(t.Context(), after) }()
			synctest.Wait()
			return done
		}
		lost, kept := wait(10), wait(10)
		h.Reset(10)
		synctest.Wait()
		require.Empty(t, lost, "it did not go back")
		h.Reset(7)
		require.ErrorIs(t, <-lost, store.ErrMissed)
		require.ErrorIs(t, <-kept, store.ErrMissed)
		next := wait(7)
		h.Advance(8)
		require.NoError(t, <-next)
	})
}

func TestACommitThatFindsALowerHeadTellsThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h group.Head
		h.Advance(10)
		g := group.New(wentBack{}, &h)
		done := make(chan error, 1)
		go func() { done <- h.Wait(t.Context(), 10) }()
		synctest.Wait()
		_, err := g.Commit(t.Context(), store.Batch{Emit: []byte(`{}`)})
		require.NoError(t, err)
		require.ErrorIs(t, <-done, store.ErrMissed)
	})
}

// wentBack is a backend whose head is 3.
type wentBack struct{}

func (wentBack) Begin() (group.Tx, store.Seq, store.Seq, error) { return wentBack{}, 3, 1, nil }
func (wentBack) Versions([]store.Key, []store.Seq) error        { return nil }
func (wentBack) Under(store.Key) (bool, error)                  { return false, nil }
func (wentBack) Write(*group.Changes) error                     { return nil }
func (wentBack) Commit() error                                  { return nil }
func (wentBack) Rollback()                                      {}
