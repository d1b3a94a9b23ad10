package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clauses 18 to 20: damage, a store that went back, and urgent batches.

// damaged returns the marked ones of records.
func damaged(rs []store.Record) []store.Key {
	return keysOf(slices.DeleteFunc(slices.Clone(rs), func(r store.Record) bool { return !r.Damaged }))
}

func theSoundIsNotMarked(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a", "b", "p/1")
	commit(t, s, store.Batch{Drop: []store.Key{"b"}})
	rs, err := s.Get(t.Context(), "a", "b", "absent")
	require.NoError(t, err)
	require.Empty(t, damaged(rs))
	require.Empty(t, damaged(list(t, s, store.Range{Limit: 10})))
	for _, k := range []store.Key{"a", "b", "absent", "p/"} {
		c := store.Cond{Key: k, Damaged: true}
		b := store.Batch{If: []store.Cond{c, {Key: "a", Version: 1}}, Put: puts("a")}
		_, err := s.Commit(t.Context(), b)
		requireConflict(t, err, c)
	}
	both := []store.Cond{{Key: "a", Under: true, Damaged: true}}
	requireRefused(t, s, store.Batch{If: both, Put: puts("a")}, "a condition of two kinds")
}

// requireMarked requires that exactly the records under keys are marked, and that the others are
// unchanged.
func requireMarked(t testing.TB, s store.Store, were []store.Record, keys ...store.Key) {
	t.Helper()
	asked := append(keysOf(were), "absent")
	got, err := s.Get(t.Context(), asked...)
	require.NoError(t, err)
	listed := list(t, s, store.Range{Limit: 100})
	bare := list(t, s, store.Range{Limit: 100, KeysOnly: true})
	require.Len(t, listed, len(were))
	require.Len(t, bare, len(were))
	require.Equal(t, store.Record{Key: "absent"}, got[len(were)])
	for i, r := range were {
		if slices.Contains(keys, r.Key) {
			for _, d := range []store.Record{got[i], listed[i], bare[i]} {
				require.Equal(t, store.Record{Key: r.Key, Version: d.Version, Damaged: true}, d)
			}
			continue
		}
		require.Equal(t, []store.Record{r, r}, plainRecords([]store.Record{got[i], listed[i]}))
		r.Value = nil
		require.Equal(t, r, bare[i])
	}
}

func aDamagedRecordIsMarked(t testing.TB, h Harness) {
	if h.Damage == nil {
		return
	}
	s := h.open(t)
	fill(t, s, "a", "b", "c", "d")
	were := read(t, s).Records
	h.Damage(t, s, "b")
	requireMarked(t, s, were, "b")
	h.Damage(t, s, "d")
	requireMarked(t, s, were, "b", "d")
	require.Equal(t, []store.Key{"b", "c"}, keysOf(list(t, s, store.Range{After: "a", Limit: 2})))
	require.Equal(t, []store.Key{"c", "d"}, keysOf(list(t, s, store.Range{After: "b", Limit: 2})))
	if h.Reopen != nil {
		s = h.reopen(t, s)
		requireMarked(t, s, were, "b", "d")
	}
	commit(t, s, store.Batch{Put: []store.Record{put("b", 9)}})
	commit(t, s, store.Batch{Drop: []store.Key{"d"}})
	require.JSONEq(t, string(val(9)), string(get(t, s, "b").Value))
	require.Equal(t, store.Record{Key: "d"}, get(t, s, "d"))
	require.Empty(t, damaged(list(t, s, store.Range{Limit: 100})))
}

func aDamagedEventIsMarked(t testing.TB, h Harness) {
	if h.DamageEvent == nil {
		return
	}
	s := h.open(t)
	fill(t, s, "a", "b", "c", "d")
	want := plainFeed(changes(t, s, 0, 10))
	h.DamageEvent(t, s, 2)
	want.Changes[1] = store.Change{Seq: 2, Damaged: true}
	for _, again := range []bool{false, true} {
		if again {
			s = h.reopen(t, s)
		}
		f := changes(t, s, 0, 10)
		for i, c := range f.Changes {
			f.Changes[i].Event = plain(c.Event)
		}
		require.Equal(t, want, f)
		require.Equal(t, want.Changes[1:2], changes(t, s, 1, 1).Changes)
		require.Equal(t, []store.Seq{3, 4}, seqsOf(changes(t, s, 2, 10).Changes))
	}
	commit(t, s, store.Batch{Trim: 2})
	require.Equal(t, []store.Seq{3, 4}, seqsOf(changes(t, s, 2, 10).Changes))
}

func damageIsACondition(t testing.TB, h Harness) {
	if h.Damage == nil {
		return
	}
	s := h.open(t)
	fill(t, s, "a", "b")
	is := func(k store.Key) []store.Cond { return []store.Cond{{Key: k, Damaged: true}} }
	h.Damage(t, s, "a")
	h.Damage(t, s, "b")
	commit(t, s, store.Batch{If: is("a"), Emit: val(1)})
	commit(t, s, store.Batch{
		If:  slices.Concat(is("a"), is("b")),
		Put: []store.Record{put("a", 7)}, Drop: []store.Key{"b"},
	})
	for _, k := range []store.Key{"a", "b"} {
		_, err := s.Commit(t.Context(), store.Batch{If: is(k), Put: puts("c")})
		requireConflict(t, err, is(k)...)
	}
	require.JSONEq(t, string(val(7)), string(get(t, s, "a").Value))

	// Of many concurrent repairs one succeeds. The others follow it, in its group or a later one.
	h.Damage(t, s, "a")
	var won []int
	var mu sync.Mutex
	var fs []func() error
	for i := range 16 {
		fs = append(fs, func() error {
			_, err := s.Commit(t.Context(), store.Batch{If: is("a"), Put: []store.Record{put("a", i)}})
			if errors.Is(err, store.ErrConflict) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, i)
			return err
		})
	}
	together(t, fs...)
	require.Len(t, won, 1)
	require.JSONEq(t, string(val(won[0])), string(get(t, s, "a").Value))
}

func damageRefusesOneBatch(t testing.TB, h Harness) {
	if h.Damage == nil {
		return
	}
	s := h.open(t)
	at := fill(t, s, "a", "b")
	h.Damage(t, s, "a")
	head := changes(t, s, store.End, 1).Head
	for _, version := range []store.Seq{0, at["a"], at["b"], store.End} {
		c := store.Cond{Key: "a", Version: version}
		_, err := s.Commit(t.Context(), store.Batch{If: []store.Cond{c}, Put: puts("a", "c")})
		require.ErrorIs(t, err, store.ErrCorrupt)
		require.NotErrorIs(t, err, store.ErrConflict)
	}
	require.Equal(t, head, changes(t, s, store.End, 1).Head)
	require.Equal(t, store.Record{Key: "c"}, get(t, s, "c"))
	var fs []func() error
	for i := range 32 {
		fs = append(fs, func() error {
			k := store.Key(fmt.Sprint("new/", i))
			c := store.Cond{Key: "a", Version: at["a"]}
			if i%2 == 0 {
				c = store.Cond{Key: k}
			}
			_, err := s.Commit(t.Context(), store.Batch{If: []store.Cond{c}, Put: puts(k)})
			if i%2 == 1 && errors.Is(err, store.ErrCorrupt) {
				return nil
			}
			return err
		})
	}
	together(t, fs...)
	require.Len(t, list(t, s, store.Range{Under: "new/", Limit: 100}), 16)
}

func damageIsUnderAKey(t testing.TB, h Harness) {
	if h.Damage == nil {
		return
	}
	s := h.open(t)
	fill(t, s, "p/1")
	h.Damage(t, s, "p/1")
	c := store.Cond{Key: "p/", Under: true}
	_, err := s.Commit(t.Context(), store.Batch{If: []store.Cond{c}, Put: puts("q")})
	requireConflict(t, err, c)
	commit(t, s, store.Batch{Drop: []store.Key{"p/1"}})
	commit(t, s, store.Batch{If: []store.Cond{c}, Put: puts("q")})
}

func aCopyOfDamageIsRefused(t testing.TB, h Harness) {
	if h.Damage == nil || h.DamageEvent == nil {
		return
	}
	from, to := h.open(t), h.open(t)
	fill(t, from, "a", "b", "c")
	h.Damage(t, from, "a")
	h.Damage(t, from, "c")
	err := store.Copy(t.Context(), to, from)
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.ErrorContains(t, err, "2 records")
	commit(t, from, store.Batch{Drop: []store.Key{"a"}, Put: puts("c")})
	h.DamageEvent(t, from, 2)
	err = store.Copy(t.Context(), to, from)
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.ErrorContains(t, err, "1 events")
	commit(t, from, store.Batch{Trim: 2})
	require.NoError(t, store.Copy(t.Context(), to, from))
	require.Equal(t, read(t, from), read(t, to))
}

func changesBeyondTheHeadAreMissed(t testing.TB, h Harness) {
	s := h.open(t)
	for range 2 {
		head := changes(t, s, store.End, 1).Head
		for _, after := range []store.Seq{
			head + 1, head + 100, 1 << 62, 1<<63 - 1, 1 << 63, store.End - 1,
		} {
			f, err := s.Changes(t.Context(), after, 10)
			require.ErrorIs(t, err, store.ErrMissed)
			require.Equal(t, store.Feed{First: 1, Head: head}, store.Feed{First: f.First, Head: f.Head})
			require.Empty(t, f.Changes)
		}
		f := changes(t, s, store.End, 10)
		require.Equal(t, store.Seq(1), f.First)
		require.Empty(t, f.Changes)
		require.Empty(t, changes(t, s, head, 10).Changes)
		fill(t, s, "a", "b")
	}
}

func aWaitBeyondTheHeadIsMissed(t testing.TB, h Harness) {
	s := h.open(t)
	for range 2 {
		head := changes(t, s, store.End, 1).Head
		for _, after := range []store.Seq{
			head + 1, head + 100, 1<<63 - 1, 1 << 63, store.End - 1, store.End,
		} {
			require.ErrorIs(t, waiting(t.Context(), s, after), store.ErrMissed, after)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, waiting(ended, s, head+1), context.Canceled)
		fill(t, s, "a", "b")
	}

	// A Wait after a head that was just read never returns ErrMissed.
	writer := func(i int) error {
		_, err := s.Commit(t.Context(), store.Batch{Emit: val(i)})
		return err
	}
	reader := func() error {
		f, err := s.Changes(t.Context(), store.End, 1)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(ctx, f.Head); errors.Is(err, store.ErrMissed) {
			return fmt.Errorf("head %d was seen: %w", f.Head, err)
		}
		return nil
	}
	contend(t, 50, []func(int) error{writer, writer}, []func() error{reader, reader})
}

func anUrgentBatchIsLikeAnyOther(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a")
	seq := commit(t, s, store.Batch{
		If: []store.Cond{{Key: "a", Version: 1}}, Drop: []store.Key{"a"}, Put: puts("b"),
		Emit: val(1), Urgent: true,
	})
	require.Equal(t, store.Seq(2), seq)
	require.Equal(t, []store.Key{"b"}, keysOf(list(t, s, store.Range{Limit: 10})))
	require.Equal(t, []store.Seq{1, 2}, seqsOf(changes(t, s, 0, 10).Changes))
	b := store.Batch{If: []store.Cond{{Key: "b"}}, Put: puts("c"), Urgent: true}
	_, err := s.Commit(t.Context(), b)
	requireConflict(t, err, store.Cond{Key: "b"})
	requireRefused(t, s, store.Batch{Urgent: true}, "a batch that does nothing")
}

func healthIsCheap(t testing.TB, h Harness) {
	s := h.open(t)
	c, checks := s.(store.Checker)
	if !checks {
		return // it cannot report its health
	}
	fill(t, s, "a")
	require.NoError(t, c.Health())
	require.NoError(t, s.Close())
	require.Error(t, c.Health())
}
