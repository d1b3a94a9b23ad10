package trim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

func emit(t *testing.T, s store.Store, at int64) {
	t.Helper()
	_, err := s.Commit(t.Context(), store.Batch{Emit: record.Encode(&record.Event{At: at, What: "something"})})
	require.NoError(t, err)
}

// left returns the events that are not forgotten.
func left(t *testing.T, s store.Store) []store.Change {
	t.Helper()
	head, err := s.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	feed, err := s.Changes(t.Context(), head.First-1, store.MaxPage)
	require.NoError(t, err)
	return feed.Changes
}

func TestTrimForgetsWhatIsTooOld(t *testing.T) {
	s := memory.New()
	for at := range int64(2500) {
		emit(t, s, at)
	}
	trimmer := New(s, txn.New(s, 0), 1_000_000)
	for _, oldest := range []int64{0, 1, 1500, 1500, 2500} {
		require.NoError(t, trimmer.Trim(t.Context(), oldest))
		require.Len(t, left(t, s), int(2500-oldest), oldest)
	}
}

func TestTrimForgetsWhatIsTooMany(t *testing.T) {
	for _, most := range []int{1, 10, 999, 2000} {
		s := memory.New()
		trimmer := New(s, txn.New(s, 0), most)
		for range 3 {
			for range 1100 {
				emit(t, s, 5)
			}
			require.NoError(t, trimmer.Trim(t.Context(), 0))
			n := len(left(t, s))
			require.LessOrEqual(t, n, most)
			require.GreaterOrEqual(t, n, min(1100, most-max(1, most/1000)))
		}
	}
}

func TestTrimGoesOnWhereSomebodyElseTrimmed(t *testing.T) {
	s := memory.New()
	for at := range int64(50) {
		emit(t, s, at)
	}
	trimmer := New(s, txn.New(s, 0), 20)
	require.NoError(t, trimmer.Trim(t.Context(), 10))
	_, err := s.Commit(t.Context(), store.Batch{Trim: 45})
	require.NoError(t, err)
	require.NoError(t, trimmer.Trim(t.Context(), 10))
	require.Len(t, left(t, s), 5)
}
