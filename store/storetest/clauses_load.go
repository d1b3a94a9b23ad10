package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clause 16: Load.

func records(rs ...store.Record) iter.Seq2[store.Record, error] { return each(nil, rs...) }

func events(cs ...store.Change) iter.Seq2[store.Change, error] { return each(nil, cs...) }

// each yields the values, and then err unless it is nil.
func each[T any](err error, all ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
		if err != nil {
			var zero T
			yield(zero, err)
		}
	}
}

// cargo is something to load: more records and changes than a store might take at once,
// in no order, up to head.
func cargo() (rs []store.Record, cs []store.Change, head store.Seq) {
	for i := range 4000 {
		key, version := store.Key(fmt.Sprintf("k/%d", i)), store.Seq(1+i*7%6000)
		rs = append(rs, store.Record{Key: key, Version: version, Value: val(i)})
	}
	for i, k := range oddKeys() {
		rs = append(rs, store.Record{Key: k, Version: store.Seq(1 + i), Value: val(i)})
	}
	for i := range 3000 {
		cs = append(cs, store.Change{Seq: store.Seq(40 + 2*i), Event: val(i)})
	}
	random := rand.New(rand.NewPCG(5, 6))
	random.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
	random.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
	return rs, cs, 6100
}

func byKey(a, b store.Record) int { return strings.Compare(string(a.Key), string(b.Key)) }

func bySeq(a, b store.Change) int { return int(a.Seq) - int(b.Seq) }

func loadKeepsEverything(t testing.TB, h Harness) {
	s := h.open(t)
	rs, cs, head := cargo()
	require.NoError(t, s.Load(t.Context(), records(rs...), events(cs...), head))
	for i := range rs { // what was passed in is not kept
		scribble(rs[i].Value)
	}
	for i := range cs {
		scribble(cs[i].Event)
	}
	rs, cs, _ = cargo()
	want := contents{Records: slices.SortedFunc(slices.Values(rs), byKey)}
	want.Feed.Changes = slices.SortedFunc(slices.Values(cs), bySeq)
	for range 2 {
		now := read(t, s)
		require.Len(t, now.Records, len(want.Records))
		for i, r := range now.Records {
			require.Equal(t, want.Records[i], r)
		}
		require.Equal(t, []store.Seq{40, head}, []store.Seq{now.Feed.First, now.Feed.Head})
		require.Len(t, now.Feed.Changes, len(want.Feed.Changes))
		for i, c := range now.Feed.Changes {
			require.Equal(t, want.Feed.Changes[i], c)
		}
		requireMissed(t, s, 38, 40, head)
		require.NoError(t, waiting(t.Context(), s, head-1))
		s = h.reopen(t, s)
	}
	old := want.Records[100]
	absent := []store.Cond{{Key: old.Key}, {Key: "k/", Under: true}}
	_, err := s.Commit(t.Context(), store.Batch{If: absent, Put: puts("x")})
	requireConflict(t, err, store.Cond{Key: old.Key}, store.Cond{Key: "k/", Under: true})
	seq := commit(t, s, store.Batch{
		If:   []store.Cond{{Key: old.Key, Version: old.Version}},
		Put:  []store.Record{put(old.Key, 7)},
		Emit: val(7),
	})
	require.Equal(t, head+1, seq)
	s = h.reopen(t, s)
	require.Equal(t, head+1, get(t, s, old.Key).Version)
	require.Equal(t, []store.Seq{head + 1}, seqsOf(changes(t, s, head, 10).Changes))
}

func loadWithoutChanges(t testing.TB, h Harness) {
	s := h.open(t)
	r := store.Record{Key: "k", Version: 3, Value: val(1)}
	require.NoError(t, s.Load(t.Context(), records(r), events(), 9))
	for range 2 {
		f := changes(t, s, 9, 10)
		require.Equal(t, []store.Seq{10, 9}, []store.Seq{f.First, f.Head})
		requireMissed(t, s, 8, 10, 9)
		requireMissed(t, s, 0, 10, 9)
		got := plainRecords([]store.Record{get(t, s, "k")})
		require.Equal(t, []store.Record{{Key: "k", Version: 3, Value: val(1)}}, got)
		s = h.reopen(t, s)
	}
	require.Equal(t, store.Seq(10), commit(t, s, store.Batch{Emit: val(1)}))
	require.Equal(t, []store.Seq{10}, seqsOf(changes(t, s, 9, 10).Changes))

	s = h.open(t)
	c := store.Change{Seq: 4, Event: val(4)}
	require.NoError(t, s.Load(t.Context(), records(), events(c), 4), "no records")
	feed := store.Feed{First: 4, Head: 4, Changes: []store.Change{{Seq: 4, Event: val(4)}}}
	require.Equal(t, contents{[]store.Record{}, feed}, read(t, s))

	s = h.open(t)
	require.NoError(t, s.Load(t.Context(), records(), events(), 0), "nothing at all")
	require.Equal(t, store.Seq(1), commit(t, h.reopen(t, s), store.Batch{Emit: val(1)}))
}

func loadRefusesWhatIsNotEmpty(t testing.TB, h Harness) {
	for what, batches := range map[string][]store.Batch{
		"a record":                   {{Put: puts("k")}},
		"an event":                   {{Emit: val(1)}},
		"a sequence that has begun":  {{Drop: []store.Key{"k"}}},
		"a record come and gone":     {{Put: puts("k")}, {Drop: []store.Key{"k"}}},
		"an event come and trimmed":  {{Emit: val(1)}, {Trim: 1}},
		"a record and a feed of two": {{Put: puts("k"), Emit: val(1)}, {Emit: val(2)}},
	} {
		s := h.open(t)
		for _, b := range batches {
			commit(t, s, b)
		}
		before := read(t, s)
		for range 2 {
			r := store.Record{Key: "new", Version: 90, Value: val(1)}
			c := store.Change{Seq: 91, Event: val(1)}
			err := s.Load(t.Context(), records(r), events(c), 99)
			require.ErrorIs(t, err, store.ErrNotEmpty, what)
			require.Equal(t, before, read(t, s), what)
			s = h.reopen(t, s)
		}
	}
	s := h.open(t)
	k := store.Record{Key: "k", Version: 1, Value: val(1)}
	require.NoError(t, s.Load(t.Context(), records(k), events(), 1))
	before := read(t, s)
	l := store.Record{Key: "l", Version: 1, Value: val(1)}
	err := s.Load(t.Context(), records(l), events(), 9)
	require.ErrorIs(t, err, store.ErrNotEmpty, "a second load")
	require.Equal(t, before, read(t, s))
}

func aFailedLoadLeavesNothing(t testing.TB, h Harness) {
	rs, cs, head := cargo()
	broken := errors.New("the source broke")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	type load struct {
		ctx  context.Context
		rs   iter.Seq2[store.Record, error]
		cs   iter.Seq2[store.Change, error]
		want error
	}
	loads := map[string]load{
		"no record comes":       {t.Context(), each[store.Record](broken), events(cs...), broken},
		"the records break off": {t.Context(), each(broken, rs...), events(cs...), broken},
		"the changes break off": {t.Context(), records(rs...), each(broken, cs...), broken},
		"the context has ended": {ended, records(rs...), events(cs...), context.Canceled},
	}
	tooLong := store.Key(strings.Repeat("k", store.MaxKey+1))
	for what, r := range map[string]store.Record{
		"a key is too long":        {Key: tooLong, Version: 1, Value: val(1)},
		"a key is empty":           {Version: 1, Value: val(1)},
		"a value is no object":     {Key: "x", Version: 1, Value: []byte(`[]`)},
		"a value is missing":       {Key: "x", Version: 1},
		"a version is missing":     {Key: "x", Value: val(1)},
		"a version is beyond head": {Key: "x", Version: head + 1, Value: val(1)},
	} {
		with := records(append(slices.Clip(rs), r)...)
		loads[what] = load{t.Context(), with, events(cs...), store.ErrInvalid}
	}
	for what, c := range map[string]store.Change{
		"an event is no object":   {Seq: 1, Event: []byte(`1`)},
		"a change is beyond head": {Seq: head + 1, Event: val(1)},
		"a change has no seq":     {Event: val(1)},
	} {
		with := events(append(slices.Clip(cs), c)...)
		loads[what] = load{t.Context(), records(rs...), with, store.ErrInvalid}
	}
	for what, c := range loads {
		s := h.open(t)
		require.ErrorIs(t, s.Load(c.ctx, c.rs, c.cs, head), c.want, what)
		requireEmptyOrUnusable(t, s, what)
		if h.Reopen == nil {
			continue
		}
		var again store.Store
		if try(t, func(t testing.TB) { again = h.reopen(t, s) }) == "" {
			requireEmptyOrUnusable(t, again, what)
		}
	}
}

// requireEmptyOrUnusable requires that s returns nothing but errors, or is empty.
func requireEmptyOrUnusable(t testing.TB, s store.Store, what string) {
	t.Helper()
	rs, err := s.List(t.Context(), store.Range{Limit: 10})
	if err != nil {
		_, err = s.Changes(t.Context(), 0, 10)
		require.Error(t, err, what)
		_, err = s.Commit(t.Context(), store.Batch{Put: puts("k")})
		require.Error(t, err, what)
		return
	}
	require.Empty(t, rs, what)
	require.Equal(t, store.Feed{First: 1, Changes: []store.Change{}}, read(t, s).Feed, what)
}

func ofTwoLoadsOneWins(t testing.TB, h Harness) {
	const loads, each = 4, 50
	for range 4 {
		s := h.open(t)
		won := make([]bool, loads)
		var fs []func() error
		for i := range loads {
			var rs []store.Record
			for n := range each {
				key := store.Key(fmt.Sprintf("%d/%d", i, n))
				rs = append(rs, store.Record{Key: key, Version: 1, Value: val(i)})
			}
			fs = append(fs, func() error {
				err := s.Load(t.Context(), records(rs...), events(), store.Seq(i+1))
				won[i] = err == nil
				if err != nil && !errors.Is(err, store.ErrNotEmpty) {
					return err
				}
				return nil
			})
		}
		together(t, fs...)
		now := read(t, h.reopen(t, s))
		i := slices.Index(won, true)
		require.GreaterOrEqual(t, i, 0, "nobody won")
		require.NotContains(t, won[i+1:], true, "two won")
		require.Equal(t, store.Seq(i+1), now.Feed.Head)
		require.Len(t, now.Records, each)
		require.True(t, now.Records[0].Key.HasPrefix(store.Key(fmt.Sprintf("%d/", i))))
	}
}
