package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clauses 5 and 6: what Get and List return.

func getReturnsInOrder(t testing.TB, h Harness) {
	s := h.open(t)
	none, err := s.Get(t.Context(), "a", "b", "a")
	require.NoError(t, err)
	require.Equal(t, []store.Record{{Key: "a"}, {Key: "b"}, {Key: "a"}}, none, "an empty store")
	none, err = s.Get(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)

	at := fill(t, s, "b", "a", "c", "dropped")
	commit(t, s, store.Batch{Drop: []store.Key{"dropped"}})
	want := []store.Record{
		{Key: "c", Version: at["c"], Value: val(2)},
		{Key: "never"},
		{Key: "a", Version: at["a"], Value: val(1)},
		{Key: "dropped"},
		{Key: "c", Version: at["c"], Value: val(2)},
		{Key: "b", Version: at["b"], Value: val(0)},
		{Key: "never"},
		{Key: "c", Version: at["c"], Value: val(2)},
	}
	got, err := s.Get(t.Context(), keysOf(want)...)
	require.NoError(t, err)
	require.Equal(t, want, plainRecords(got))
}

func getTakesManyKeys(t testing.TB, h Harness) {
	const keys = 3000
	s := h.open(t)
	var b store.Batch
	var want []store.Record
	for i := range keys {
		r := put(store.Key(fmt.Sprintf("key/%d", i)), i)
		if i%3 == 0 {
			r.Value = nil
		} else {
			b.Put = append(b.Put, r)
			r.Version = 1
		}
		want = append(want, r)
	}
	require.Equal(t, store.Seq(1), commit(t, s, b))
	rand.New(rand.NewPCG(1, 2)).Shuffle(keys, func(i, j int) { want[i], want[j] = want[j], want[i] })
	got, err := s.Get(t.Context(), keysOf(want)...)
	require.NoError(t, err)
	require.Equal(t, want, plainRecords(got))
}

// manyTogether returns a batch that puts the same 60 keys for every n.
func manyTogether(n int) store.Batch {
	b := store.Batch{Emit: val(n)}
	for i := range 60 {
		b.Put = append(b.Put, put(store.Key(fmt.Sprintf("k/%02d", i)), n))
	}
	return b
}

// oneVersion requires that all records come from one batch.
func oneVersion(rs []store.Record, want int) error {
	if len(rs) != want {
		return fmt.Errorf("%d records of %d", len(rs), want)
	}
	for _, r := range rs {
		if r.Version != rs[0].Version || string(plain(r.Value)) != string(plain(rs[0].Value)) {
			return fmt.Errorf("%q at %d %s beside %q at %d %s",
				rs[0].Key, rs[0].Version, rs[0].Value, r.Key, r.Version, r.Value)
		}
	}
	return nil
}

func getIsOneSnapshot(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	commit(t, s, manyTogether(0))
	keys := keysOf(manyTogether(0).Put)
	backwards := slices.Clone(keys)
	slices.Reverse(backwards)
	keys = append(keys, backwards...)
	writer := func(i int) error {
		_, err := s.Commit(ctx, manyTogether(i))
		return err
	}
	reader := func() error {
		rs, err := s.Get(ctx, keys...)
		if err != nil {
			return err
		}
		return oneVersion(rs, len(keys))
	}
	contend(t, 40, []func(int) error{writer, writer}, []func() error{reader, reader})
}

func listIsOneSnapshot(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	commit(t, s, manyTogether(0))
	writer := func(i int) error {
		_, err := s.Commit(ctx, manyTogether(i))
		return err
	}
	reader := func(r store.Range, want int) func() error {
		return func() error {
			rs, err := s.List(ctx, r)
			if err != nil {
				return err
			}
			return oneVersion(rs, want)
		}
	}
	contend(t, 40, []func(int) error{writer, writer}, []func() error{
		reader(store.Range{Limit: store.MaxPage}, 60),
		reader(store.Range{Under: "k/", After: "k/09", Limit: 45}, 45),
	})
}

func listIsInBytewiseOrder(t testing.TB, h Harness) {
	s := h.open(t)
	require.Empty(t, list(t, s, store.Range{Limit: 1}), "an empty store")
	want := oddKeys()
	swap := func(i, j int) { want[i], want[j] = want[j], want[i] }
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(want), swap)
	for _, k := range want {
		commit(t, s, store.Batch{Put: puts(k)})
	}
	slices.Sort(want)
	require.Equal(t, want, keysOf(list(t, s, store.Range{Limit: store.MaxPage})))
	for _, under := range want {
		for _, after := range []store.Key{
			"", under, "a\xff", "\xff", under[:len(under)-1], under + "\x00",
		} {
			part := slices.DeleteFunc(slices.Clone(want), func(k store.Key) bool {
				return !k.HasPrefix(under) || k <= after
			})
			got := keysOf(list(t, s, store.Range{Under: under, After: after, Limit: 100}))
			require.Equal(t, part, got, "under %q after %q", under, after)
		}
	}
	s = h.reopen(t, s)
	require.Equal(t, want, keysOf(list(t, s, store.Range{Limit: store.MaxPage})))
}

func listReturnsPages(t testing.TB, h Harness) {
	s := h.open(t)
	var b store.Batch
	for i := range 100 {
		b.Put = append(b.Put, put(store.Key(fmt.Sprintf("in/%02d", i)), i))
	}
	b.Put = append(b.Put, puts("in", "in.", "in0", "a", "z", "in\xff")...)
	commit(t, s, b)
	for _, limit := range []int{1, 7, 50, 99, 100, 101, store.MaxPage} {
		got, err := walk(t.Context(), s, store.Range{Under: "in/", Limit: limit})
		require.NoError(t, err)
		require.Len(t, got, 100, "limit %d", limit)
		for i, r := range plainRecords(got) {
			require.Equal(t, store.Record{Key: b.Put[i].Key, Version: 1, Value: val(i)}, r)
		}
	}
	for _, c := range []struct {
		under, after store.Key
		want         []store.Key
	}{
		{"in/9", "in/97", []store.Key{"in/98", "in/99"}},
		{"in/9", "in/8", []store.Key{"in/90", "in/91", "in/92"}}, // from before the prefix
		{"in/9", "in/975", []store.Key{"in/98", "in/99"}},        // from a key that is not there
		{"in/9", "in/99", []store.Key{}},
		{"in/9", "z", []store.Key{}}, // from behind the prefix
		{"nothing", "", []store.Key{}},
		{"", "in/98", []store.Key{"in/99", "in0", "in\xff"}},
		{"", "z", []store.Key{}},
		{"in", "", []store.Key{"in", "in.", "in/00"}},
		{"in/42", "", []store.Key{"in/42"}},
		{"in/42", "in/42", []store.Key{}},
	} {
		got := list(t, s, store.Range{Under: c.under, After: c.after, Limit: 3})
		require.Equal(t, c.want, keysOf(got), "under %q after %q", c.under, c.after)
	}
}

func listReturnsKeysOnly(t testing.TB, h Harness) {
	s := h.open(t)
	at := fill(t, s, "a", "b", "c")
	require.Equal(t, []store.Record{{Key: "b", Version: at["b"]}, {Key: "c", Version: at["c"]}},
		list(t, s, store.Range{After: "a", Limit: 5, KeysOnly: true}))
}

func pagingWhileOthersWrite(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	var b store.Batch
	var stay []store.Key
	for i := range 40 {
		stay = append(stay, store.Key(fmt.Sprintf("k/%03d", i*10)))
	}
	b.Put = puts(stay...)
	commit(t, s, b)
	writer := func(i int) error { // keys come and go between those that stay
		k := store.Key(fmt.Sprintf("k/%03d", i*7%400/10*10+1+i%9))
		_, err := s.Commit(ctx, store.Batch{Put: []store.Record{put(k, i), put(stay[i%len(stay)], i)}})
		if err == nil {
			_, err = s.Commit(ctx, store.Batch{Drop: []store.Key{k}})
		}
		return err
	}
	reader := func() error {
		rs, err := walk(ctx, s, store.Range{Under: "k/", Limit: 7, KeysOnly: true})
		if err != nil {
			return err
		}
		seen := keysOf(rs)
		seen = slices.DeleteFunc(seen, func(k store.Key) bool { return k[len(k)-1] != '0' })
		if !slices.Equal(seen, stay) {
			return fmt.Errorf("keys that stay: %q", seen)
		}
		return nil
	}
	contend(t, 30, []func(int) error{writer, writer}, []func() error{reader, reader})
}

func limitsAreRefused(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a")
	for _, limit := range []int{0, -1, store.MaxPage + 1} {
		_, err := s.List(t.Context(), store.Range{Limit: limit})
		require.ErrorIs(t, err, store.ErrInvalid, "List %d", limit)
		_, err = s.Changes(t.Context(), 0, limit)
		require.ErrorIs(t, err, store.ErrInvalid, "Changes %d", limit)
	}
	require.Len(t, list(t, s, store.Range{Limit: store.MaxPage}), 1)
	require.Len(t, changes(t, s, 0, store.MaxPage).Changes, 1)
}
