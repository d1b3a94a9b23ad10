package storetest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// always is a fault for every call.
func always(f Fault) func(Call) Fault { return func(Call) Fault { return f } }

func TestAFaultBeforeACommitAppliesNothing(t *testing.T) {
	s := newFrail("")
	_, err := Faulty(s, always(Before)).Commit(t.Context(), store.Batch{Put: puts("k")})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.Empty(t, read(t, s).Records)
}

func TestAnAppliedFaultAppliesTheBatch(t *testing.T) {
	s := newFrail("")
	_, err := Faulty(s, always(Applied)).Commit(t.Context(), store.Batch{Put: puts("k")})
	require.ErrorIs(t, err, store.ErrOutcomeUnknown)
	require.Len(t, read(t, s).Records, 1)
}

func TestAWithheldFaultAppliesNothing(t *testing.T) {
	s := newFrail("")
	_, err := Faulty(s, always(Withheld)).Commit(t.Context(), store.Batch{Put: puts("k")})
	require.ErrorIs(t, err, store.ErrOutcomeUnknown)
	require.Empty(t, read(t, s).Records)
}

func TestARefusalStaysARefusalUnderAnAppliedFault(t *testing.T) {
	s := Faulty(newFrail(""), always(Applied))
	_, err := s.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "k", Version: 7}}, Put: puts("k")})
	requireConflict(t, err, store.Cond{Key: "k", Version: 7})
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown)
}

func TestACorruptFaultAppliesNothing(t *testing.T) {
	s := newFrail("")
	broken := Faulty(s, always(Corrupt))
	_, err := broken.Commit(t.Context(), store.Batch{Put: puts("k")})
	require.ErrorIs(t, err, store.ErrCorrupt)
	_, err = broken.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.Empty(t, read(t, s).Records)
}

func TestEveryOtherCallFailsBefore(t *testing.T) {
	for _, f := range []Fault{Before, Applied, Withheld} {
		var asked []string
		s, ctx := Faulty(newFrail(""), func(c Call) Fault {
			asked = append(asked, c.Method)
			require.Equal(t, len(asked), c.N)
			require.Nil(t, c.Batch)
			return f
		}), t.Context()
		_, get := s.Get(ctx, "k")
		_, list := s.List(ctx, store.Range{Limit: 1})
		_, changes := s.Changes(ctx, 0, 1)
		for _, err := range []error{get, list, changes, s.Wait(ctx, 0), s.Load(ctx, records(), events(), 7)} {
			require.ErrorIs(t, err, store.ErrUnavailable)
		}
		require.NoError(t, s.Close())
		require.Equal(t, []string{"Get", "List", "Changes", "Wait", "Load"}, asked)
	}
}

func TestEachCallFailsEveryCallInTurn(t *testing.T) {
	operation := func(t *testing.T, s store.Store) error {
		_, get := s.Get(t.Context(), "k")
		if get != nil {
			return get
		}
		_, first := s.Commit(t.Context(), store.Batch{Put: puts("k")})
		if first != nil {
			return first
		}
		_, second := s.Commit(t.Context(), store.Batch{Put: puts("l")})
		return second
	}
	for f, want := range map[Fault][]int{
		Before:   {0, 0, 1, 2}, // how many records are there after each round
		Applied:  {1, 2, 2},
		Withheld: {0, 1, 2},
	} {
		var there []int
		faults := EachCall(f, func(n int, decide func(Call) Fault) {
			s := newFrail("")
			err := operation(t, Faulty(s, decide))
			there = append(there, len(read(t, s).Records))
			require.Equal(t, n == len(want), err == nil)
			require.True(t, err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown))
		})
		require.Equal(t, want, there)
		require.Equal(t, len(want)-1, faults)
	}
}
