package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// Clause 17: everything at once, and one owner.

// everythingAtOnce runs random batches and reads concurrently, and then replays the applied batches
// on the model: in the order of Seq every condition must have held.
func everythingAtOnce(t testing.TB, h Harness) {
	const writers, rounds = 8, 50
	type applied struct {
		seq   store.Seq
		batch store.Batch
	}
	s, ctx := h.open(t), t.Context()
	history := make([][]applied, writers)
	// Of each reader: the last change returned with each head.
	heads := make([]map[store.Seq]store.Seq, 3)
	var writing atomic.Int32
	writing.Store(writers)
	var fs []func() error
	for w := range writers {
		random := rand.New(rand.NewPCG(17, uint64(w)))
		fs = append(fs, func() error {
			defer writing.Add(-1)
			for range rounds {
				script := newScript(random, 1)
				if script[0].op != "commit" {
					continue
				}
				var now model // what the conditions are about, as it is before the commit
				now.records = map[store.Key]store.Record{}
				for _, c := range script[0].conds {
					r, err := getOne(ctx, s, c.key)
					if err != nil {
						return err
					}
					now.records[c.key] = r
					now.head = max(now.head, r.Version)
				}
				b := script[0].at(&now)
				seq, err := s.Commit(ctx, b)
				if err == nil {
					history[w] = append(history[w], applied{seq, b})
				} else if !errors.Is(err, store.ErrConflict) {
					return err
				}
			}
			return nil
		})
	}
	for r := range heads {
		heads[r] = map[store.Seq]store.Seq{}
		fs = append(fs, func() error {
			for after := store.Seq(0); writing.Load() > 0; {
				f, err := s.Changes(ctx, after, store.MaxPage)
				if errors.Is(err, store.ErrMissed) {
					after = f.First - 1
					continue
				}
				if err != nil {
					return err
				}
				for _, c := range f.Changes {
					if c.Seq <= after {
						return fmt.Errorf("a change at %d after head %d", c.Seq, after)
					}
					after = c.Seq
				}
				if f.Head < after {
					return fmt.Errorf("head went from %d to %d", after, f.Head)
				}
				heads[r][f.Head] = after
				after = f.Head
				rs, err := s.List(ctx, store.Range{Limit: store.MaxPage})
				if err != nil {
					return err
				}
				if !slices.IsSortedFunc(rs, byKey) {
					return fmt.Errorf("out of order: %q", keysOf(rs))
				}
				if _, err := s.Get(ctx, scriptKeys...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	commit(t, s, store.Batch{Emit: val(0)})
	together(t, fs...)

	m := newModel()
	m.apply(store.Batch{Emit: val(0)}, 1)
	all := slices.Concat(history...)
	slices.SortFunc(all, func(a, b applied) int { return cmp.Compare(a.seq, b.seq) })
	emitted := map[store.Seq]bool{1: true}
	for _, a := range all {
		require.Greater(t, a.seq, m.head)
		require.Empty(t, m.failed(a.batch.If), "the batch at %d was applied all the same", a.seq)
		m.apply(a.batch, a.seq)
		emitted[a.seq] = a.batch.Emit != nil
	}
	for _, told := range heads {
		for head, last := range told {
			for seq := last + 1; seq <= head; seq++ {
				require.False(t, emitted[seq], "a reader saw head %d without the event at %d", head, seq)
			}
		}
	}
	feed, _ := m.feed(m.first-1, store.MaxPage)
	want := contents{m.list(store.Range{Limit: store.MaxPage}), feed}
	require.Equal(t, want, read(t, s))
	require.Equal(t, want, read(t, h.reopen(t, s)))
}

func aSoleStoreHasOneOwner(t testing.TB, h Harness) {
	s, isSole := h.open(t).(store.Sole)
	if !isSole {
		return // shared by many processes: nobody owns it
	}
	for range 2 {
		release, err := s.Own()
		require.NoError(t, err)
		_, err = s.Own()
		require.ErrorIs(t, err, store.ErrOwned)
		release()
		next, err := s.Own()
		require.NoError(t, err)
		release()
		_, err = s.Own()
		require.ErrorIs(t, err, store.ErrOwned, "an owner who releases twice takes nothing from the next")
		next()
		next()
	}
	var owners atomic.Int32
	var mu sync.Mutex
	var releases []func()
	var fs []func() error
	for range 16 {
		fs = append(fs, func() error {
			release, err := s.Own()
			if err == nil {
				owners.Add(1)
				mu.Lock()
				defer mu.Unlock()
				releases = append(releases, release, release)
			} else if !errors.Is(err, store.ErrOwned) {
				return err
			}
			return nil
		})
	}
	together(t, fs...)
	require.EqualValues(t, 1, owners.Load())
	fs = nil
	for _, release := range releases {
		fs = append(fs, func() error { release(); return nil })
	}
	together(t, fs...)
	release, err := s.Own()
	require.NoError(t, err)
	release()
}
