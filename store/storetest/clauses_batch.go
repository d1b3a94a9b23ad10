package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clauses 1 to 4: what a batch does.

func noReaderSeesAPart(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	// Every batch replaces all there is: three keys, one of two others, three under g/.
	replace := func(n int) store.Batch {
		come, gone := store.Key("x"), store.Key("y")
		if n%2 == 0 {
			come, gone = gone, come
		}
		b := store.Batch{Drop: []store.Key{gone}, Emit: val(n)}
		for i := range 9 {
			b.Drop = append(b.Drop, store.Key(fmt.Sprintf("g/%d/%d", i/3, i%3)))
		}
		b.Put = puts("a", "b", "c", come)
		for i := range 3 {
			b.Put = append(b.Put, put(store.Key(fmt.Sprintf("g/%d/%d", n%3, i)), n))
		}
		return b
	}
	whole := func(rs []store.Record, want int) error {
		if len(rs) != want {
			return fmt.Errorf("%d records of %d: %q", len(rs), want, keysOf(rs))
		}
		for _, r := range rs {
			if r.Version != rs[0].Version {
				return fmt.Errorf("%q of batch %d beside %q of batch %d",
					rs[0].Key, rs[0].Version, r.Key, r.Version)
			}
		}
		return nil
	}
	commit(t, s, replace(0))
	writer := func(i int) error {
		_, err := s.Commit(ctx, replace(i))
		return err
	}
	contend(t, 40, []func(int) error{writer, writer}, []func() error{
		func() error {
			rs, err := s.Get(ctx, "c", "x", "a", "y", "b")
			if err != nil {
				return err
			}
			return whole(slices.DeleteFunc(rs, func(r store.Record) bool { return r.Version == 0 }), 4)
		},
		func() error {
			rs, err := s.List(ctx, store.Range{Limit: 100})
			if err != nil {
				return err
			}
			return whole(rs, 7)
		},
	})
}

func aRefusedBatchChangesNothing(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a", "b", "p/1", "p/2")
	before := read(t, s)
	_, err := s.Commit(t.Context(), store.Batch{
		If:   []store.Cond{{Key: "absent"}, {Key: "a"}},
		Drop: []store.Key{"a", "p/1", "p/2"},
		Put:  puts("b", "c"),
		Emit: val(1),
		Trim: 2,
	})
	requireConflict(t, err, store.Cond{Key: "a"})
	require.Equal(t, before, read(t, s))
	require.Equal(t, before, read(t, h.reopen(t, s)))
}

// scene is a store with keys of every history, and the versions they are at and were at.
func scene(t testing.TB, h Harness) (s store.Store, now, old map[store.Key]store.Seq) {
	t.Helper()
	s = h.open(t)
	old = fill(t, s, "rewritten", "dropped", "recreated", "p/1", "swept/1")
	commit(t, s, store.Batch{Drop: []store.Key{"dropped", "recreated", "swept/1"}})
	now = fill(t, s, "once", "rewritten", "recreated", "q", "p/2")
	now["p/1"] = old["p/1"]
	return s, now, old
}

func trueConditionsHold(t testing.TB, h Harness) {
	s, now, _ := scene(t, h)
	conds := []store.Cond{
		{Key: "never"},
		{Key: "dropped"},
		{Key: "swept/1"},
		{Key: "p/"},
		{Key: "once", Version: now["once"]},
		{Key: "rewritten", Version: now["rewritten"]},
		{Key: "recreated", Version: now["recreated"]},
		{Key: "p/1", Version: now["p/1"]},
		{Key: "swept/", Under: true},
		{Key: "p/3", Under: true},
		{Key: "p/1\x00", Under: true},
		{Key: "P/", Under: true},
		{Key: "q", Version: now["q"]},
		{Key: "q/", Under: true, Version: 77},
	}
	for _, c := range conds {
		_, err := s.Commit(t.Context(), store.Batch{If: []store.Cond{c}, Emit: val(1)})
		require.NoError(t, err, "%+q", c)
	}
	_, err := s.Commit(t.Context(), store.Batch{If: conds, Emit: val(1)})
	require.NoError(t, err)
}

// falsehoods are conditions that fail in the scene.
func falsehoods(now, old map[store.Key]store.Seq) []store.Cond {
	return []store.Cond{
		{Key: "once"},
		{Key: "once", Version: now["once"] + 1},
		{Key: "once", Version: now["once"] - 1},
		{Key: "once", Version: math.MaxUint64},
		{Key: "rewritten", Version: old["rewritten"]},
		{Key: "recreated", Version: old["recreated"]},
		{Key: "recreated"},
		{Key: "dropped", Version: old["dropped"]},
		{Key: "swept/1", Version: old["swept/1"]},
		{Key: "never", Version: 1},
		{Key: "p/", Version: now["p/1"]},
		{Key: "p/", Under: true},
		{Key: "p", Under: true},
		{Key: "p/1", Under: true},
		{Key: "q", Under: true},
	}
}

func falseConditionsRefuse(t testing.TB, h Harness) {
	s, now, old := scene(t, h)
	before := read(t, s)
	for _, c := range falsehoods(now, old) {
		b := store.Batch{If: []store.Cond{c}, Put: puts("once", "new"), Emit: val(1)}
		_, err := s.Commit(t.Context(), b)
		requireConflict(t, err, c)
	}
	require.Equal(t, before, read(t, s))
}

func everyFailedConditionIsNamed(t testing.TB, h Harness) {
	s, now, old := scene(t, h)
	before := read(t, s)
	failing := falsehoods(now, old)
	conds := []store.Cond{{Key: "never"}}
	for _, c := range failing {
		conds = append(conds, c, store.Cond{Key: "once", Version: now["once"]})
	}
	_, err := s.Commit(t.Context(), store.Batch{If: conds, Put: puts("new")})
	requireConflict(t, err, failing...)
	require.Equal(t, before, read(t, s))
}

func conditionsAreCheckedBeforeDrops(t testing.TB, h Harness) {
	s := h.open(t)
	at := fill(t, s, "k", "p/1")
	before := read(t, s)
	for _, b := range []store.Batch{
		{If: []store.Cond{{Key: "k"}}, Drop: []store.Key{"k"}, Put: puts("k")},
		{If: []store.Cond{{Key: "p/", Under: true}}, Drop: []store.Key{"p/1"}},
		{If: []store.Cond{{Key: "p/1"}}, Drop: []store.Key{"p/1"}},
		{If: []store.Cond{{Key: "new", Version: 3}}, Put: puts("new")},
	} {
		_, err := s.Commit(t.Context(), b)
		requireConflict(t, err, b.If...)
		require.Equal(t, before, read(t, s))
	}
	commit(t, s, store.Batch{
		If:   []store.Cond{{Key: "k", Version: at["k"]}, {Key: "new"}, {Key: "n", Under: true}},
		Drop: []store.Key{"k"},
		Put:  puts("new"),
	})
}

func ofManyClaimantsOneWins(t testing.TB, h Harness) {
	const claimants, rounds = 64, 12
	s, ctx := h.open(t), t.Context()
	claim := store.Cond{Key: "locator/\x05email\x00alice@example.com"}
	for round := range rounds {
		won := make([]store.Seq, claimants)
		var fs []func() error
		for i := range claimants {
			own := store.Key(fmt.Sprintf("user/%d/%d", round, i))
			fs = append(fs, func() error {
				seq, err := s.Commit(ctx, store.Batch{
					If:   []store.Cond{claim},
					Put:  []store.Record{put(claim.Key, i), put(own, i)},
					Emit: val(i),
				})
				var c *store.Conflict
				switch {
				case err == nil:
					won[i] = seq
				case !errors.As(err, &c) || !slices.Equal(c.Failed, []store.Cond{claim}):
					return fmt.Errorf("claimant %d: %w", i, err)
				}
				return nil
			})
		}
		together(t, fs...)
		winners := slices.DeleteFunc(slices.Clone(won), func(s store.Seq) bool { return s == 0 })
		require.Len(t, winners, 1, "round %d", round)
		r := get(t, s, claim.Key)
		require.Equal(t, winners[0], r.Version)
		i, err := number(r.Value)
		require.NoError(t, err)
		require.Equal(t, winners[0], won[i], "the record is not the winner's")
		under := store.Key(fmt.Sprintf("user/%d/", round))
		users := list(t, s, store.Range{Under: under, Limit: claimants})
		require.Equal(t, []store.Key{store.Key(fmt.Sprintf("user/%d/%d", round, i))}, keysOf(users))
		commit(t, s, store.Batch{Drop: []store.Key{claim.Key}})
	}
}

func noUpdateIsLost(t testing.TB, h Harness) {
	const writers, rounds = 8, 15
	s, ctx := h.open(t), t.Context()
	commit(t, s, store.Batch{Put: []store.Record{put("counter", 0)}})
	increment := func() error {
		for range writers * rounds { // each refusal is another's success
			r, err := getOne(ctx, s, "counter")
			if err != nil {
				return err
			}
			n, err := number(r.Value)
			if err != nil {
				return err
			}
			_, err = s.Commit(ctx, store.Batch{
				If:  []store.Cond{{Key: "counter", Version: r.Version}},
				Put: []store.Record{put("counter", n+1)},
			})
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
		return errors.New("a batch was refused more often than anything was committed")
	}
	fs := slices.Repeat([]func() error{func() error {
		for range rounds {
			if err := increment(); err != nil {
				return err
			}
		}
		return nil
	}}, writers)
	together(t, fs...)
	n, err := number(get(t, s, "counter").Value)
	require.NoError(t, err)
	require.Equal(t, writers*rounds, n)
}

func nothingComesUnderAClosedKey(t testing.TB, h Harness) {
	const rounds, guests = 15, 8
	s, ctx := h.open(t), t.Context()
	accept := func(err error) error {
		if errors.Is(err, store.ErrConflict) {
			return nil
		}
		return err
	}
	rooms := []store.Key{"room-closed"}
	for i := range guests {
		rooms = append(rooms, store.Key(fmt.Sprintf("room/%d", i)))
	}
	for range rounds {
		commit(t, s, store.Batch{Drop: rooms})
		fs := []func() error{func() error {
			empty := []store.Cond{{Key: "room/", Under: true}}
			_, err := s.Commit(ctx, store.Batch{If: empty, Put: puts("room-closed")})
			return accept(err)
		}}
		for i := range guests {
			k := store.Key(fmt.Sprintf("room/%d", i))
			fs = append(fs, func() error {
				_, err := s.Commit(ctx, store.Batch{If: []store.Cond{{Key: "room-closed"}}, Put: puts(k)})
				return accept(err)
			})
		}
		together(t, fs[1:3]...)
		together(t, append([]func() error{func() error {
			_, err := s.Commit(ctx, store.Batch{Drop: rooms[1:]})
			return err
		}}, fs...)...)
		in := keysOf(list(t, s, store.Range{Under: "room", Limit: 100}))
		if slices.Contains(in, "room-closed") {
			require.Equal(t, []store.Key{"room-closed"}, in)
		}
	}
}

func dropsAreAppliedBeforePuts(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "k", "p/1", "p/2")
	seq := commit(t, s, store.Batch{
		Drop: []store.Key{"k", "new", "p/1", "p/2"},
		Put:  []store.Record{put("k", 10), put("new", 11), put("p/2", 12), put("p/3", 13)},
	})
	want := []store.Record{
		{Key: "k", Version: seq, Value: val(10)},
		{Key: "new", Version: seq, Value: val(11)},
		{Key: "p/2", Version: seq, Value: val(12)},
		{Key: "p/3", Version: seq, Value: val(13)},
	}
	require.Equal(t, want, read(t, s).Records)
	require.Equal(t, want, read(t, h.reopen(t, s)).Records)
}

func droppingTheAbsentIsNoError(t testing.TB, h Harness) {
	s := h.open(t)
	commit(t, s, store.Batch{Drop: []store.Key{"k", "k"}})
	fill(t, s, "k", "p/1")
	commit(t, s, store.Batch{Drop: []store.Key{"k", "absent", "k", "p/1"}})
	commit(t, s, store.Batch{Drop: []store.Key{"k"}})
	require.Empty(t, read(t, s).Records)
}

// oddKeys are keys that a careless store confuses or puts in the wrong order.
func oddKeys() []store.Key {
	return []store.Key{
		"\x00", "\x00\x00", "\x01", "'", "A", "B", "Z", "\\", "\\x00", "_",
		"a", "a\x00", "a\x00b", "a\x01", "a b", "a%", "a%b", "a/", "a/b", "a0", "aA", "aa", "a\u00e9",
		"a\xfe\xff", "a\xff", "a\xff\x00", "a\xff\xff", "a\xff\xffz", "b", "b\xff", "e\u0301",
		"\x7f", "\x80", "\u00e9", "\xc3\x28", "\xed\xa0\x80", "\xef\xbb\xbf",
		"\xfe", "\xfe\xff", "\xff", "\xff\x00", "\xffa", "\xff\xff", "\xff\xff\xff",
		store.Key(strings.Repeat("k", store.MaxKey)), store.Key(strings.Repeat("\xff", store.MaxKey)),
	}
}

func dropsTakeWhatTheyName(t testing.TB, h Harness) {
	s := h.open(t)
	odd := oddKeys()
	for i := 0; i < len(odd); i++ {
		commit(t, s, store.Batch{Put: puts(odd...)})
		commit(t, s, store.Batch{Drop: []store.Key{odd[i]}})
		left := slices.DeleteFunc(slices.Clone(odd), func(k store.Key) bool { return k == odd[i] })
		got := keysOf(list(t, s, store.Range{Limit: 100, KeysOnly: true}))
		require.ElementsMatch(t, left, got, "%q", odd[i])
	}
	commit(t, s, store.Batch{Put: puts(odd...)})
	commit(t, s, store.Batch{Drop: []store.Key{"b", "a/b"}})
	left := slices.DeleteFunc(slices.Clone(odd), func(k store.Key) bool {
		return k == "b" || k == "a/b"
	})
	require.ElementsMatch(t, left, keysOf(list(t, s, store.Range{Limit: 100})))
}

func senselessBatchesAreRefused(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a", "b")
	requireRefused(t, s, store.Batch{}, "nothing")
	requireRefused(t, s, store.Batch{If: []store.Cond{{Key: "c"}}}, "only a condition")
	twice := []store.Record{put("c", 1), put("d", 1), put("c", 2)}
	requireRefused(t, s, store.Batch{Put: twice}, "a key put twice")
	alike := []store.Record{put("c", 1), put("c", 1)}
	requireRefused(t, s, store.Batch{Drop: []store.Key{"c"}, Put: alike}, "a key put twice alike")
}

func everyBatchTakesAGreaterSeq(t testing.TB, h Harness) {
	s := h.open(t)
	require.Equal(t, store.Feed{First: 1, Head: 0, Changes: []store.Change{}}, read(t, s).Feed)
	require.Equal(t, store.Seq(1), commit(t, s, store.Batch{Put: puts("a")}), "the first is 1")
	last := store.Seq(1)
	for range 2 {
		for _, b := range []store.Batch{
			{Put: puts("a", "b")},
			{Put: puts("a", "b"), Emit: val(1)},
			{Emit: val(1)},
			{Drop: []store.Key{"a"}},
			{Drop: []store.Key{"a"}},
			{Drop: []store.Key{"b"}},
			{Drop: []store.Key{"b"}},
			{Trim: 1},
			{Trim: 1},
		} {
			seq := commit(t, s, b)
			require.Greater(t, seq, last)
			require.Equal(t, seq, changes(t, s, last, 1).Head)
			last = seq
		}
	}
}

func aVersionIsTheSeqOfItsBatch(t testing.TB, h Harness) {
	s := h.open(t)
	a := store.Record{Key: "a", Version: 99, Value: val(1)}
	first := commit(t, s, store.Batch{Put: []store.Record{a, put("b", 1)}})
	second := commit(t, s, store.Batch{Put: []store.Record{{Key: "a", Version: first, Value: val(1)}}})
	commit(t, s, store.Batch{Emit: val(1)})
	commit(t, s, store.Batch{Drop: []store.Key{"absent"}})
	want := []store.Record{
		{Key: "a", Version: second, Value: val(1)},
		{Key: "b", Version: first, Value: val(1)},
	}
	require.Equal(t, want, read(t, s).Records)
	got, err := s.Get(t.Context(), "a", "b")
	require.NoError(t, err)
	require.Equal(t, want, plainRecords(got))
	commit(t, s, store.Batch{Drop: []store.Key{"a"}})
	again := commit(t, s, store.Batch{Put: []store.Record{put("a", 1)}})
	require.Equal(t, again, get(t, s, "a").Version)
	require.Equal(t, again, get(t, h.reopen(t, s), "a").Version)
}

func noTwoBatchesTakeOneSeq(t testing.TB, h Harness) {
	const writers, rounds = 8, 20
	s, ctx := h.open(t), t.Context()
	taken := make([][]store.Seq, writers)
	var fs []func() error
	for i := range writers {
		fs = append(fs, func() error {
			for n := range rounds {
				seq, err := s.Commit(ctx, store.Batch{Put: []store.Record{put(store.Key(fmt.Sprint(i)), n)}})
				if err != nil {
					return err
				}
				taken[i] = append(taken[i], seq)
			}
			return nil
		})
	}
	together(t, fs...)
	for i, seqs := range taken {
		require.IsIncreasing(t, seqs)
		require.Equal(t, seqs[rounds-1], get(t, s, store.Key(fmt.Sprint(i))).Version)
	}
	all := slices.Concat(taken...)
	slices.Sort(all)
	require.Len(t, slices.Compact(all), writers*rounds)
	require.Equal(t, all[len(all)-1], changes(t, s, 0, 1).Head)
}
