package group_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/stretchr/testify/require"
)

// wait starts a Wait and returns a channel for its result.
func wait(ctx context.Context, h *group.Head, after store.Seq) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- h.Wait(ctx, after) }()
	synctest.Wait()
	return answer
}

func TestWaitReturnsWhenTheHeadMovesPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h group.Head
		one, two := wait(t.Context(), &h, 1), wait(t.Context(), &h, 2)
		h.Advance(1)
		synctest.Wait()
		require.Empty(t, one)
		h.Advance(2)
		require.NoError(t, <-one)
		synctest.Wait()
		require.Empty(t, two)
		h.Advance(5)
		require.NoError(t, <-two)
		require.NoError(t, h.Wait(t.Context(), 4))
	})
}

func TestTheHeadNeverMovesBack(t *testing.T) {
	var h group.Head
	h.Advance(5)
	h.Advance(3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, h.Wait(ctx, 4))
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h group.Head
		ctx, cancel := context.WithCancel(t.Context())
		answer, other := wait(ctx, &h, 0), wait(t.Context(), &h, 0)
		cancel()
		require.ErrorIs(t, <-answer, context.Canceled)
		synctest.Wait()
		require.Empty(t, other)
		h.Advance(1)
		require.NoError(t, <-other)
	})
}

func TestWaitEndsWhenTheStoreIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h group.Head
		answer := wait(t.Context(), &h, 0)
		h.Close()
		h.Close()
		require.ErrorIs(t, <-answer, store.ErrClosed)
		h.Advance(7)
		require.ErrorIs(t, h.Wait(t.Context(), 0), store.ErrClosed)
	})
}

func TestAStoreHasOneOwner(t *testing.T) {
	var o group.Owner
	release, err := o.Own()
	require.NoError(t, err)
	_, err = o.Own()
	require.ErrorIs(t, err, store.ErrOwned)
	release()
	_, err = o.Own()
	require.NoError(t, err)
	release()
	_, err = o.Own()
	require.ErrorIs(t, err, store.ErrOwned, "an old release takes nothing from the new owner")
}
