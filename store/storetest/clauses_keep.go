package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clauses 10 to 15: what is kept, of what, and until when.

func theAcknowledgedIsKept(t testing.TB, h Harness) {
	const writers, rounds = 6, 12
	s, ctx := h.open(t), t.Context()
	for generation := range 3 {
		var fs []func() error
		for w := range writers {
			fs = append(fs, func() error {
				for i := range rounds {
					own := store.Key(fmt.Sprintf("%d/%d/%d", generation, w, i))
					b := store.Batch{Put: []store.Record{put(own, i), put("shared", i)}, Emit: val(i)}
					if i > 0 && i%3 == 0 {
						b.Drop = []store.Key{store.Key(fmt.Sprintf("%d/%d/%d", generation, w, i-1))}
					}
					if _, err := s.Commit(ctx, b); err != nil {
						return err
					}
				}
				return nil
			})
		}
		together(t, fs...)
		if generation == 1 {
			commit(t, s, store.Batch{Drop: []store.Key{"0/1"}, Trim: 20})
		}
		before := read(t, s)
		s = h.reopen(t, s)
		require.Equal(t, before, read(t, s))
	}
}

func theSequenceGoesOn(t testing.TB, h Harness) {
	s := h.open(t)
	s = h.reopen(t, s)
	require.Equal(t, store.Seq(1), commit(t, s, store.Batch{Put: puts("k"), Emit: val(1)}))
	last := store.Seq(1)
	for _, b := range []store.Batch{
		{Put: puts("k")}, {Emit: val(1)}, {Drop: []store.Key{"k"}}, {Trim: 9},
	} {
		before := commit(t, s, b)
		s = h.reopen(t, s)
		require.Equal(t, before, changes(t, s, before, 1).Head)
		last = commit(t, s, store.Batch{If: []store.Cond{{Key: "new", Under: true}}, Put: puts("k")})
		require.Greater(t, last, before)
	}
	b := store.Batch{If: []store.Cond{{Key: "k", Version: last}}, Emit: val(1)}
	_, err := h.reopen(t, s).Commit(t.Context(), b)
	require.NoError(t, err, "a version that was answered before the restart")
}

func anEndedContextWithdraws(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "k")
	before := read(t, s)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), -1)
	cancel()
	for range 5 {
		_, err := s.Commit(cancelled, store.Batch{Put: puts("k", "new"), Emit: val(2)})
		require.ErrorIs(t, err, context.Canceled)
		_, err = s.Commit(late, store.Batch{Drop: []store.Key{"k"}, Emit: val(2)})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Equal(t, before, read(t, s))
	require.Equal(t, before, read(t, h.reopen(t, s)))
}

func aContextEndingMidwayLeavesATrueOutcome(t testing.TB, h Harness) {
	const writers, rounds = 16, 20
	s := h.open(t)
	type outcome struct {
		seq store.Seq
		err error
	}
	outcomes := make([][rounds]outcome, writers)
	var fs []func() error
	for w := range writers {
		random := rand.New(rand.NewPCG(11, uint64(w)))
		fs = append(fs, func() error {
			for i := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				patience := random.IntN(40)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for range patience {
						runtime.Gosched()
					}
					cancel()
				}()
				o := &outcomes[w][i]
				k := store.Key(fmt.Sprintf("%d/%d", w, i))
				o.seq, o.err = s.Commit(ctx, store.Batch{Put: puts(k), Emit: val(w*rounds + i)})
				<-ended
				if o.err != nil && !errors.Is(o.err, context.Canceled) &&
					!errors.Is(o.err, store.ErrOutcomeUnknown) {
					return o.err
				}
			}
			return nil
		})
	}
	together(t, fs...)
	for range 2 {
		now := read(t, s)
		events := map[int]store.Seq{}
		for _, c := range now.Feed.Changes {
			n, err := number(c.Event)
			require.NoError(t, err)
			require.NotContains(t, events, n, "applied twice")
			events[n] = c.Seq
		}
		versions := map[store.Key]store.Seq{}
		for _, r := range now.Records {
			versions[r.Key] = r.Version
		}
		for w := range writers {
			for i, o := range outcomes[w] {
				record, event := versions[store.Key(fmt.Sprintf("%d/%d", w, i))], events[w*rounds+i]
				require.Equal(t, record, event, "half of a batch")
				if !errors.Is(o.err, store.ErrOutcomeUnknown) {
					require.Equal(t, o.err == nil, record != 0, "Commit answered %v", o.err)
				}
				if o.err == nil {
					require.Equal(t, o.seq, record)
				}
			}
		}
		s = h.reopen(t, s)
	}
}

// scribble overwrites v with another valid object of the same length.
func scribble(v []byte) {
	for i := range v {
		v[i] = ' '
	}
	if len(v) > 1 {
		v[0], v[len(v)-1] = '{', '}'
	}
}

func theReturnedBelongsToTheCaller(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	fill(t, s, "a", "b", "c")
	before := read(t, s)
	require.Equal(t, []int{3, 3}, []int{len(before.Records), len(before.Feed.Changes)})
	for range 2 {
		got, err := s.Get(ctx, "a", "a", "b")
		require.NoError(t, err)
		require.Len(t, got, 3)
		listed := list(t, s, store.Range{Limit: 10})
		require.Len(t, listed, 3)
		feed := changes(t, s, 0, 10)
		require.Len(t, feed.Changes, 3)

		scribble(got[0].Value)
		_ = append(got[0].Value, 'x')
		require.Equal(t, before.Records[:2], plainRecords(got[1:]), "two answers in one array")
		scribble(got[2].Value)
		got[0] = store.Record{Key: "scribbled"}

		scribble(listed[0].Value)
		_ = append(listed[0].Value, 'x')
		require.Equal(t, before.Records[1:], plainRecords(listed[1:]), "two answers in one array")
		listed[1] = store.Record{Key: "scribbled"}

		scribble(feed.Changes[0].Event)
		_ = append(feed.Changes[0].Event, 'x')
		require.Equal(t, before.Feed.Changes[1:], plainFeed(feed).Changes[1:], "two answers in one array")
		feed.Changes[1] = store.Change{Seq: 99}

		if_ := []store.Cond{{Key: "a"}, {Key: "b"}}
		_, err = s.Commit(ctx, store.Batch{If: if_, Put: puts("a")})
		requireConflict(t, err, if_...)
		var c *store.Conflict
		require.ErrorAs(t, err, &c)
		c.Failed[0] = store.Cond{Key: "scribbled"}
		require.Equal(t, []store.Cond{{Key: "a"}, {Key: "b"}}, if_)
		require.Equal(t, before, read(t, s))
	}
	require.Equal(t, before, read(t, h.reopen(t, s)))
}

// fullBatch uses everything a batch has, for a store that holds drop, p/1 and k at 1.
func fullBatch(n int) store.Batch {
	return store.Batch{
		If:   []store.Cond{{Key: "absent"}, {Key: "none/", Under: true}},
		Drop: []store.Key{"drop", "absent", "p/1"},
		Put:  []store.Record{put("k", n), {Key: "l", Version: 5, Value: val(n)}},
		Emit: val(n),
		Trim: 1,
	}
}

func scribbleBatch(b store.Batch) {
	for i := range b.If {
		b.If[i] = store.Cond{Key: "scribbled", Version: 9}
	}
	for i := range b.Drop {
		b.Drop[i] = "scribbled"
	}
	for i := range b.Put {
		scribble(b.Put[i].Value)
		b.Put[i] = store.Record{Key: "scribbled"}
	}
	scribble(b.Emit)
}

func thePassedInIsNotKept(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "drop", "p/1", "k", "stay")
	var last store.Seq
	for i := range 5 {
		b := fullBatch(i)
		last = commit(t, s, b)
		scribbleBatch(b)
		require.Equal(t, []store.Record{
			{Key: "k", Version: last, Value: val(i)},
			{Key: "l", Version: last, Value: val(i)},
			{Key: "stay", Version: 4, Value: val(3)},
		}, read(t, s).Records)
		feed := plainFeed(changes(t, s, last-1, 10))
		require.Equal(t, []store.Change{{Seq: last, Event: val(i)}}, feed.Changes)
	}
	keys := []store.Key{"k", "l", "stay"}
	got, err := s.Get(t.Context(), keys...)
	require.NoError(t, err)
	scribbleBatch(store.Batch{Drop: keys})
	require.Equal(t, []store.Key{"k", "l", "stay"}, keysOf(got))
	before := read(t, s)
	require.Equal(t, before, read(t, h.reopen(t, s)))

	// Refused batches too: what a Conflict names is its own.
	b := store.Batch{If: []store.Cond{{Key: "k"}, {Key: "l"}}, Put: puts("k")}
	another := store.Batch{If: []store.Cond{{Key: "k", Version: 3}}, Put: puts("k")}
	_, err = h.reopen(t, h.open(t)).Commit(t.Context(), another)
	require.ErrorIs(t, err, store.ErrConflict)
	s = h.open(t)
	fill(t, s, "k", "l")
	_, err = s.Commit(t.Context(), b)
	scribbleBatch(b)
	requireConflict(t, err, store.Cond{Key: "k"}, store.Cond{Key: "l"})
}

func thePassedInIsNotChanged(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "drop", "p/1", "k")
	spaced := func() store.Batch {
		b := fullBatch(1)
		b.Put[0].Value = []byte(`{ "z" : 1, "a" : [ 1 , 2 ], "s" : "\u00e9" }`)
		b.Emit = []byte(`{ "z" : 1,  "a" : 2 }`)
		b.Drop = []store.Key{"z", "a", "m"}
		b.If = []store.Cond{{Key: "z"}, {Key: "b"}, {Key: "none/", Under: true}}
		b.Put = append(b.Put, put("b", 1), put("a", 1))
		return b
	}
	b := spaced()
	commit(t, s, b)
	require.Equal(t, spaced(), b)
	_, err := s.Commit(t.Context(), b)
	require.ErrorIs(t, err, store.ErrConflict)
	require.Equal(t, spaced(), b)
	keys := []store.Key{"z", "a", "k", "a"}
	_, err = s.Get(t.Context(), keys...)
	require.NoError(t, err)
	require.Equal(t, []store.Key{"z", "a", "k", "a"}, keys)
}

func theWithdrawnIsNotKept(t testing.TB, h Harness) {
	const writers, rounds = 12, 20
	s := h.open(t)
	var fs []func() error
	for w := range writers {
		fs = append(fs, func() error {
			for i := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				b := store.Batch{Put: puts(store.Key(fmt.Sprintf("k/%d/%d", w, i))), Emit: val(i)}
				go cancel()
				_, err := s.Commit(ctx, b)
				scribbleBatch(b)
				if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrOutcomeUnknown) {
					return err
				}
			}
			return nil
		})
	}
	together(t, fs...)
	now := read(t, s)
	for _, r := range now.Records {
		require.True(t, r.Key.HasPrefix("k/"), "a key written after Commit returned: %q", r.Key)
		_, err := number(r.Value)
		require.NoError(t, err, "a value written after Commit returned")
	}
	for _, c := range now.Feed.Changes {
		_, err := number(c.Event)
		require.NoError(t, err, "an event written after Commit returned")
	}
	require.Len(t, now.Feed.Changes, len(now.Records))
}

func keysAreAnyBytes(t testing.TB, h Harness) {
	s := h.open(t)
	odd := oddKeys()
	want := map[store.Key]store.Record{}
	for i, k := range odd {
		seq := commit(t, s, store.Batch{If: []store.Cond{{Key: k}}, Put: []store.Record{put(k, i)}})
		want[k] = store.Record{Key: k, Version: seq, Value: val(i)}
	}
	for range 2 {
		got, err := s.Get(t.Context(), odd...)
		require.NoError(t, err)
		require.Len(t, got, len(odd))
		for i, r := range plainRecords(got) {
			require.Equal(t, want[odd[i]], r)
		}
		s = h.reopen(t, s)
	}
	for _, k := range odd {
		c := store.Cond{Key: k, Version: want[k].Version}
		commit(t, s, store.Batch{If: []store.Cond{c}, Drop: []store.Key{k}})
		require.Zero(t, get(t, s, k).Version)
	}
	require.Empty(t, list(t, s, store.Range{Limit: 1}))
}

func keysOfTheWrongLengthAreRefused(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a")
	for _, k := range []store.Key{"", store.Key(strings.Repeat("k", store.MaxKey+1))} {
		for what, b := range map[string]store.Batch{
			"If":       {If: []store.Cond{{Key: "a", Version: 1}, {Key: k}}, Put: puts("b")},
			"If Under": {If: []store.Cond{{Key: k, Under: true}}, Put: puts("b")},
			"Drop":     {Drop: []store.Key{"a", k}},
			"Put":      {Put: puts("a", "b", k)},
		} {
			requireRefused(t, s, b, fmt.Sprintf("%s with a key of %d bytes", what, len(k)))
		}
		_, err := s.Get(t.Context(), "a", k)
		require.ErrorIs(t, err, store.ErrInvalid)
	}
}

func valuesAreKeptAsJSON(t testing.TB, h Harness) {
	s := h.open(t)
	values := []string{
		`{}`,
		"{ \"b\" : 1 ,\n\t\"a\" : [ 1, 2 , {} , [ ] ] }\n",
		`{"n":null,"t":true,"f":false,"o":{"o":{"o":[[[]]]}}}`,
		`{"zero":0,"minus":-17,"max":9007199254740993,"long":123456789012345678901234567890,"part":1.5}`,
		`{"":"","space key":" ","k\u00e9y":"\u00e9 é \ud83d\ude00 😀"}`,
		`{"escapes":"\" \\ \/ \b \f \n \r \t \u001f \u007f \u2028","html":"<&>"}`,
		`{"not nul":"\\u0000","nor":"\\\\u0000","nor this":"\\\\\\u0000x","name \\u0000":1}`,
		`{"a":"1","A":"2"}`,
		`{"deep":` + strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500) + `}`,
		`{"full":"` + strings.Repeat("x", store.MaxValue-11) + `"}`,
	}
	require.Len(t, values[len(values)-1], store.MaxValue)
	var want [][]byte
	for i, v := range values {
		want = append(want, plain([]byte(v)))
		r := store.Record{Key: store.Key(fmt.Sprintf("%02d", i)), Value: []byte(v)}
		commit(t, s, store.Batch{Put: []store.Record{r}, Emit: []byte(v)})
	}
	for range 2 {
		now := read(t, s)
		require.Len(t, now.Records, len(values))
		require.Len(t, now.Feed.Changes, len(values))
		for i, v := range values {
			value, event := now.Records[i].Value, now.Feed.Changes[i].Event
			// Without a diff: one of them is 4 MiB long.
			require.True(t, bytes.Equal(want[i], value), "value %d %.100q: %.100q", i, v, value)
			require.True(t, bytes.Equal(want[i], event), "event %d %.100q: %.100q", i, v, event)
		}
		s = h.reopen(t, s)
	}
}

func badValuesAreRefused(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a")
	for _, v := range []string{
		``,
		` `,
		`null`,
		`[]`,
		`"a"`,
		`1`,
		`{`,
		`{}}`,
		`{}{}`,
		`{} x`,
		`{"a":}`,
		`{"a":1,}`,
		`{a:1}`,
		`{'a':1}`,
		`{"a":01}`,
		`{"a":NaN}`,
		"{\"a\":\"\n\"}",
		"{\"a\":\"\x00\"}",
		"{\"a\":1}\x00",
		`{"a":"\u0000"}`,
		`{"a":"b\\\u0000"}`,
		`{"a":["\\u0000","\u0000"]}`,
		`{"\u0000":1}`,
		`{"full":"` + strings.Repeat("x", store.MaxValue-10) + `"}`,
	} {
		what := fmt.Sprintf("%.50q of %d bytes", v, len(v))
		rs := []store.Record{put("b", 1), {Key: "c", Value: []byte(v)}}
		requireRefused(t, s, store.Batch{Put: rs}, what)
		requireRefused(t, s, store.Batch{Put: puts("b"), Emit: []byte(v)}, "as an event: "+what)
	}
	requireRefused(t, s, store.Batch{Put: []store.Record{{Key: "a"}}}, "no value at all")
}

func aClosedStoreSaysSo(t testing.TB, h Harness) {
	for _, used := range []bool{false, true} {
		s, ctx := h.open(t), t.Context()
		if used {
			fill(t, s, "a")
		}
		require.NoError(t, s.Close())
		for range 2 {
			_, err := s.Get(ctx, "a")
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.Get(ctx)
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.List(ctx, store.Range{Limit: 1})
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.Commit(ctx, store.Batch{Put: puts("a")})
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.Commit(ctx, store.Batch{If: []store.Cond{{Key: "b", Version: 7}}, Put: puts("a")})
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.Changes(ctx, 0, 1)
			require.ErrorIs(t, err, store.ErrClosed)
			require.ErrorIs(t, waiting(ctx, s, 0), store.ErrClosed)
			require.ErrorIs(t, waiting(ctx, s, 1), store.ErrClosed)
			require.ErrorIs(t, s.Load(ctx, records(put("a", 1)), events(), 1), store.ErrClosed)
		}
	}
}

func closingTwiceIsNoError(t testing.TB, h Harness) {
	s := h.open(t)
	fill(t, s, "a")
	together(t, s.Close, s.Close, s.Close)
	require.NoError(t, s.Close())
	if h.Reopen != nil {
		s = h.reopen(t, s)
		require.Equal(t, store.Seq(1), get(t, s, "a").Version, "closed before it was reopened")
	}
}

func closeWaitsForCommits(t testing.TB, h Harness) {
	const rounds, writers = 6, 12
	for round := range rounds {
		s, ctx := h.open(t), t.Context()
		var mu sync.Mutex
		applied, unknown, refused := map[store.Key]store.Seq{}, []store.Key{}, []store.Key{}
		var started sync.WaitGroup
		var closed atomic.Bool
		started.Add(writers)
		var fs []func() error
		for w := range writers {
			fs = append(fs, func() error {
				start := sync.OnceFunc(started.Done)
				defer start()
				for i := 0; ; i++ {
					k, late := store.Key(fmt.Sprintf("%d/%d", w, i)), closed.Load()
					seq, err := s.Commit(ctx, store.Batch{Put: puts(k), Emit: val(i)})
					if late && !errors.Is(err, store.ErrClosed) {
						return fmt.Errorf("after Close Commit returned %v", err)
					}
					if i == round { // close after a different number of commits each round
						start()
					}
					mu.Lock()
					switch {
					case err == nil:
						applied[k] = seq
					case errors.Is(err, store.ErrOutcomeUnknown):
						unknown = append(unknown, k)
					default:
						refused = append(refused, k)
					}
					mu.Unlock()
					if errors.Is(err, store.ErrClosed) {
						if i < round {
							return fmt.Errorf("closed too early: %w", err)
						}
						return nil
					}
					if err != nil {
						return err
					}
				}
			})
		}
		together(t, append(fs, func() error {
			started.Wait()
			defer closed.Store(true)
			return s.Close()
		})...)
		if h.Reopen == nil {
			continue
		}
		now := read(t, h.reopen(t, s))
		got := map[store.Key]store.Seq{}
		for _, r := range now.Records {
			got[r.Key] = r.Version
		}
		for k, seq := range applied {
			require.Equal(t, seq, got[k], "an acknowledged write")
		}
		for _, k := range refused {
			require.NotContains(t, got, k, "a refused write")
		}
		require.Len(t, now.Feed.Changes, len(now.Records))
		for _, k := range slices.Concat(unknown, refused) {
			delete(got, k)
		}
		require.Len(t, got, len(applied))
	}
}
