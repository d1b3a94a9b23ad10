package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clauses 7 to 9: the feed, its trim and Wait.

func followersSeeTheSameFeed(t testing.TB, h Harness) {
	const writers, rounds, last = 6, 40, -1
	s, ctx := h.open(t), t.Context()
	told := make([][]store.Change, writers+1) // what each writer emitted
	var fs []func() error
	for w := range writers {
		fs = append(fs, func() error {
			for i := range rounds {
				b := store.Batch{Put: []store.Record{put(store.Key(fmt.Sprint(w)), i)}}
				if i%3 != 0 {
					b.Emit = val(w*rounds + i)
				}
				seq, err := s.Commit(ctx, b)
				if err != nil {
					return err
				}
				if b.Emit != nil {
					told[w] = append(told[w], store.Change{Seq: seq, Event: b.Emit})
				}
			}
			return nil
		})
	}
	seen := make([][]store.Change, 3)
	var followers []func() error
	for i, limit := range []int{1, 5, store.MaxPage} {
		followers = append(followers, func() error {
			for after, woken := store.Seq(0), false; ; {
				f, err := s.Changes(ctx, after, limit)
				if err != nil {
					return err
				}
				if f.First != 1 || f.Head < after || len(f.Changes) > limit {
					return fmt.Errorf("after %d: first %d, head %d, %d changes of %d",
						after, f.First, f.Head, len(f.Changes), limit)
				}
				if woken && f.Head == after {
					return fmt.Errorf("Wait returned, but head is still %d", after)
				}
				for _, c := range f.Changes {
					if c.Seq <= after || c.Seq > f.Head {
						return fmt.Errorf("a change at %d after %d with head %d", c.Seq, after, f.Head)
					}
					after = c.Seq
					c.Event = plain(c.Event)
					seen[i] = append(seen[i], c)
					if n, err := number(c.Event); err != nil || n == last {
						return err
					}
				}
				if woken = len(f.Changes) < limit; woken {
					after = f.Head
					if err := waiting(t.Context(), s, after); err != nil {
						return fmt.Errorf("waiting: %w", err)
					}
				}
			}
		})
	}
	write := func() error {
		errs := make(chan error, writers)
		for _, f := range fs {
			go func() { errs <- f() }()
		}
		var err error
		for range fs {
			err = errors.Join(err, <-errs)
		}
		// The last event goes out even after an error, so that the followers end.
		seq, lastErr := s.Commit(ctx, store.Batch{Emit: val(last)})
		told[writers] = []store.Change{{Seq: seq, Event: val(last)}}
		return errors.Join(err, lastErr)
	}
	together(t, append(followers, write)...)
	want := slices.Concat(told...)
	slices.SortFunc(want, func(a, b store.Change) int { return int(a.Seq) - int(b.Seq) })
	for _, got := range append(seen, plainFeed(changes(t, s, 0, store.MaxPage)).Changes) {
		require.Equal(t, want, got)
	}
	require.Equal(t, want, read(t, h.reopen(t, s)).Feed.Changes)
}

func anEventIsSeenWithItsPuts(t testing.TB, h Harness) {
	s, ctx := h.open(t), t.Context()
	first := commit(t, s, store.Batch{Put: puts("k"), Emit: val(0)})
	writer := func(i int) error {
		_, err := s.Commit(ctx, store.Batch{Put: []store.Record{put("k", i)}, Emit: val(i)})
		return err
	}
	fromPut := func() error {
		r, err := getOne(ctx, s, "k")
		if err != nil {
			return err
		}
		f, err := s.Changes(ctx, r.Version-1, 1)
		if err != nil {
			return err
		}
		if len(f.Changes) == 0 || f.Changes[0].Seq != r.Version || f.Head < r.Version {
			return fmt.Errorf("a record at %d without its event: %v", r.Version, f)
		}
		if string(plain(f.Changes[0].Event)) != string(plain(r.Value)) {
			return fmt.Errorf("event %s of record %s", f.Changes[0].Event, r.Value)
		}
		return nil
	}
	after := first
	fromEvent := func() error {
		f, err := s.Changes(ctx, after, store.MaxPage)
		if err != nil {
			return err
		}
		after = f.Head
		r, err := getOne(ctx, s, "k")
		if err != nil {
			return err
		}
		if r.Version < f.Head {
			return fmt.Errorf("an event at %d, but the record is at %d", f.Head, r.Version)
		}
		return nil
	}
	contend(t, 60, []func(int) error{writer, writer}, []func() error{fromPut, fromEvent})
}

func theFeedIsReturnedInPages(t testing.TB, h Harness) {
	s := h.open(t)
	require.Equal(t, store.Feed{First: 1, Changes: []store.Change{}}, plainFeed(changes(t, s, 0, 10)))
	var want []store.Change
	for i := range 40 {
		b := store.Batch{Put: puts("k")}
		if i%4 != 3 {
			b.Emit = val(i)
		}
		seq := commit(t, s, b)
		if b.Emit != nil {
			want = append(want, store.Change{Seq: seq, Event: b.Emit})
		}
	}
	head := changes(t, s, 0, 1).Head
	for _, limit := range []int{1, 3, 29, 30, 31, store.MaxPage} {
		for _, from := range []store.Seq{0, 1, 2, 3, 4, 20, head - 1, head, store.End} {
			rest := slices.DeleteFunc(slices.Clone(want), func(c store.Change) bool { return c.Seq <= from })
			for after := from; ; {
				f := plainFeed(changes(t, s, after, limit))
				require.Equal(t, store.Seq(1), f.First)
				require.Equal(t, head, f.Head)
				part := rest[:min(limit, len(rest))]
				require.Equal(t, part, f.Changes, "after %d, limit %d", after, limit)
				rest = rest[len(part):]
				if len(part) < limit {
					break
				}
				after = part[len(part)-1].Seq
			}
		}
	}
}

func headCountsCommitsWithoutEvents(t testing.TB, h Harness) {
	s := h.open(t)
	event := commit(t, s, store.Batch{Emit: val(1)})
	silent := commit(t, s, store.Batch{Put: puts("k")})
	f := changes(t, s, 0, 10)
	require.Equal(t, []store.Seq{event}, seqsOf(f.Changes))
	require.Equal(t, silent, f.Head)
	dropped := commit(t, s, store.Batch{Drop: []store.Key{"k"}})
	f = changes(t, s, event, 10)
	require.Empty(t, f.Changes)
	require.Equal(t, dropped, f.Head)
	require.Equal(t, dropped, changes(t, h.reopen(t, s), 0, 1).Head)
}

// requireMissed requires that what comes after a Seq is forgotten.
func requireMissed(t testing.TB, s store.Store, after, first, head store.Seq) {
	t.Helper()
	f, err := s.Changes(t.Context(), after, store.MaxPage)
	require.ErrorIs(t, err, store.ErrMissed, "after %d", after)
	require.Equal(t, []store.Seq{first, head}, []store.Seq{f.First, f.Head})
}

func aTrimForgets(t testing.TB, h Harness) {
	s := h.open(t)
	for i := range 10 {
		require.Equal(t, store.Seq(i+1), commit(t, s, store.Batch{Put: puts("k"), Emit: val(i)}))
	}
	head := commit(t, s, store.Batch{Trim: 4})
	for range 2 {
		for after := range store.Seq(4) {
			requireMissed(t, s, after, 5, head)
		}
		f := changes(t, s, 4, 100)
		require.Equal(t, []store.Seq{5, 6, 7, 8, 9, 10}, seqsOf(f.Changes))
		require.Equal(t, []store.Seq{5, head}, []store.Seq{f.First, f.Head})
		f = changes(t, s, 8, 1)
		require.Equal(t, []store.Seq{9}, seqsOf(f.Changes))
		require.Equal(t, []store.Seq{5, head}, []store.Seq{f.First, f.Head})
		require.Equal(t, store.Seq(10), get(t, s, "k").Version, "a trim touches no record")
		s = h.reopen(t, s)
	}
	// One batch may trim and do everything else.
	head = commit(t, s, store.Batch{Trim: 9, Put: puts("k"), Emit: val(1)})
	requireMissed(t, s, 8, 10, head)
	require.Equal(t, []store.Seq{10, head}, seqsOf(changes(t, s, 9, 100).Changes))
	// Commits without an event are forgotten too: nobody knows that they had none.
	silent := commit(t, s, store.Batch{Put: puts("k")})
	head = commit(t, s, store.Batch{Trim: silent})
	requireMissed(t, s, silent-1, silent+1, head)
	require.Empty(t, changes(t, s, silent, 100).Changes)
}

func aTrimIsClipped(t testing.TB, h Harness) {
	s := h.open(t)
	for _, far := range []store.Seq{1, 2, 3, 50, math.MaxInt64, math.MaxUint64} {
		before := changes(t, s, math.MaxUint64, 1).Head
		seq := commit(t, s, store.Batch{Trim: before + 1, Emit: val(1)})
		f := changes(t, s, before, 10)
		require.Equal(t, []store.Seq{before + 1, seq}, []store.Seq{f.First, f.Head})
		require.Equal(t, []store.Seq{seq}, seqsOf(f.Changes), "the event of the trimming batch itself")
		before = seq
		if far > seq {
			seq = commit(t, s, store.Batch{Trim: far})
			f = changes(t, s, before, 10)
			require.Equal(t, []store.Seq{before + 1, seq}, []store.Seq{f.First, f.Head}, "trim %d", far)
			require.Empty(t, f.Changes)
			requireMissed(t, s, before-1, before+1, seq)
		}
	}
	f := read(t, h.reopen(t, s)).Feed
	require.Equal(t, f.Head, f.First)
}

func aTrimIsPermanent(t testing.TB, h Harness) {
	s := h.open(t)
	for i := range 6 {
		commit(t, s, store.Batch{Emit: val(i)})
	}
	commit(t, s, store.Batch{Trim: 5})
	for _, less := range []store.Seq{1, 4, 5} {
		head := commit(t, s, store.Batch{Trim: less})
		requireMissed(t, s, 4, 6, head)
		requireMissed(t, s, 0, 6, head)
		require.Equal(t, []store.Seq{6}, seqsOf(changes(t, s, 5, 10).Changes))
		s = h.reopen(t, s)
		requireMissed(t, s, 4, 6, head)
		require.Equal(t, []store.Seq{6}, seqsOf(changes(t, s, 5, 10).Changes))
	}
}

func waitReturnsForEveryCommit(t testing.TB, h Harness) {
	s := h.open(t)
	require.Equal(t, store.Seq(1), commit(t, s, store.Batch{Put: puts("k")}))
	require.NoError(t, waiting(t.Context(), s, 0), "something newer is there")
	head := store.Seq(1)
	for i := range 100 {
		b := []store.Batch{{Put: puts("k")}, {Emit: val(i)}, {Drop: []store.Key{"k"}}, {Trim: 1}}[i%4]
		after := head
		// Wait and Commit race: whichever comes first, Wait returns after the commit.
		together(t,
			func() error {
				if err := waiting(t.Context(), s, after); err != nil {
					return fmt.Errorf("waiting for a commit after %d: %w", after, err)
				}
				f, err := s.Changes(t.Context(), after, 1)
				if err == nil && f.Head <= after {
					err = fmt.Errorf("after %d Wait returned while head was %d", after, f.Head)
				}
				return err
			},
			func() (err error) {
				if i%2 == 0 {
					runtime.Gosched()
				}
				head, err = s.Commit(t.Context(), b)
				return err
			})
	}
}

func waitWakesEveryone(t testing.TB, h Harness) {
	const waiters = 50
	s := h.open(t)
	head := commit(t, s, store.Batch{Put: puts("k")})
	fs := []func() error{func() error {
		_, err := s.Commit(t.Context(), store.Batch{Put: puts("k")})
		return err
	}}
	for range waiters {
		fs = append([]func() error{func() error { return waiting(t.Context(), s, head) }}, fs...)
	}
	together(t, fs...)
}

func waitEndsWithItsContext(t testing.TB, h Harness) {
	s := h.open(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, waiting(ended, s, 0), context.Canceled)
	head := commit(t, s, store.Batch{Put: puts("k")})
	require.ErrorIs(t, waiting(ended, s, head), context.Canceled)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		together(t,
			func() error { cancel(); return nil },
			func() error {
				if err := waiting(ctx, s, head); !errors.Is(err, context.Canceled) {
					return fmt.Errorf("wait returned %w", err)
				}
				return nil
			})
	}
}

func waitEndsOnClose(t testing.TB, h Harness) {
	s := h.open(t)
	head := commit(t, s, store.Batch{Put: puts("k")})
	var fs []func() error
	for range 16 {
		fs = append(fs, func() error {
			if err := waiting(t.Context(), s, head); !errors.Is(err, store.ErrClosed) {
				return fmt.Errorf("wait returned %v when the store was closed", err)
			}
			return nil
		})
	}
	together(t, append(fs, func() error {
		linger()
		return s.Close()
	})...)
}

func waitReturnsAtNoOtherTime(t testing.TB, h Harness) {
	s := h.open(t)
	head := commit(t, s, store.Batch{Put: puts("k"), Emit: val(1)})
	ctx, cancel := context.WithCancel(t.Context())
	var fs []func() error
	for range 5 {
		fs = append(fs, func() error {
			if err := waiting(ctx, s, head); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("after %d of %d Wait returned %v", head, head, err)
			}
			return nil
		})
	}
	noise := func() error {
		defer cancel()
		linger()
		for range 100 {
			_, conflict := s.Commit(t.Context(), store.Batch{If: []store.Cond{{Key: "k"}}, Emit: val(1)})
			_, invalid := s.Commit(t.Context(), store.Batch{})
			ended, end := context.WithCancel(t.Context())
			end()
			_, withdrawn := s.Commit(ended, store.Batch{Emit: val(1)})
			other := waiting(ended, s, head)
			if conflict == nil || invalid == nil || withdrawn == nil || other == nil {
				return fmt.Errorf("conflict: %v, invalid: %v, withdrawn: %v, other: %v",
					conflict, invalid, withdrawn, other)
			}
			_, get := s.Get(t.Context(), "k")
			_, list := s.List(t.Context(), store.Range{Limit: 1})
			_, changes := s.Changes(t.Context(), 0, 1)
			if err := errors.Join(get, list, changes); err != nil {
				return err
			}
			runtime.Gosched()
		}
		return nil
	}
	together(t, append(fs, noise)...)
}
