package denizen_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// damaging is a store of which some records and events cannot be read.
type damaging struct {
	store.Store
	keys   map[store.Key]bool
	events map[store.Seq]bool
	hidden map[store.Key]bool // as if they had never been written
}

func newDamaging() *damaging {
	return &damaging{
		Store: memory.New(), keys: map[store.Key]bool{}, events: map[store.Seq]bool{}, hidden: map[store.Key]bool{},
	}
}

func (s *damaging) mark(rs []store.Record) {
	for i := range rs {
		switch {
		case s.keys[rs[i].Key]:
			rs[i].Damaged, rs[i].Value = true, nil
		case s.hidden[rs[i].Key]:
			rs[i].Version, rs[i].Value = 0, nil
		}
	}
}

func (s *damaging) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	rs, err := s.Store.Get(ctx, keys...)
	s.mark(rs)
	return rs, err
}

func (s *damaging) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	rs, err := s.Store.List(ctx, r)
	s.mark(rs)
	return rs, err
}

func (s *damaging) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	feed, err := s.Store.Changes(ctx, after, limit)
	for i, ch := range feed.Changes {
		if s.events[ch.Seq] {
			feed.Changes[i] = store.Change{Seq: ch.Seq, Damaged: true}
		}
	}
	return feed, err
}

// Commit keeps to clause 18: a condition on the version of what is damaged is refused, one that
// asks for damage holds, and what is written anew is damaged no more.
func (s *damaging) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	conds := make([]store.Cond, 0, len(b.If))
	for _, c := range b.If {
		switch {
		case c.Damaged && !s.keys[c.Key]:
			return 0, &store.Conflict{Failed: []store.Cond{c}}
		case !c.Damaged && !c.Under && s.keys[c.Key]:
			return 0, store.ErrCorrupt
		case !c.Damaged:
			conds = append(conds, c)
		}
	}
	b.If = conds
	seq, err := s.Store.Commit(ctx, b)
	if err == nil {
		for _, key := range b.Drop {
			delete(s.keys, key)
		}
		for _, r := range b.Put {
			delete(s.keys, r.Key)
		}
	}
	return seq, err
}

func TestADirectoryIsNotFoundedOverAnOldOne(t *testing.T) {
	for name, hidden := range map[string][]store.Key{
		"without its own record":   {record.DirectoryKey},
		"without both its records": {record.DirectoryKey, record.SigningKeysKey},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDamaging()
			newOver(t, s, denizen.Options{})
			for _, key := range hidden {
				s.hidden[key] = true
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := denizen.New(ctx, s, denizen.Options{})
			require.ErrorIs(t, err, store.ErrCorrupt)
			feed, err := s.Store.Changes(ctx, store.End, 1)
			require.NoError(t, err)
			require.EqualValues(t, 1, feed.Head, "it was written to")
		})
	}
}

func TestADamagedEventHidesNoOther(t *testing.T) {
	s := newDamaging()
	d := newOver(t, s, denizen.Options{})
	for _, name := range []string{"Alice", "Bob", "Carol"} {
		_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: name})
		require.NoError(t, err)
	}
	n, err := d.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	s.events[3] = true
	var good, bad []denizen.Seq
	for e, err := range d.Changes(t.Context(), denizen.System(), 0) {
		if err != nil {
			require.ErrorIs(t, err, store.ErrCorrupt)
			bad = append(bad, e.Seq)
			continue
		}
		good = append(good, e.Seq)
	}
	require.Equal(t, []denizen.Seq{1, 2, 4}, good)
	require.Equal(t, []denizen.Seq{3}, bad)
	s.events[5] = true
	_, err = d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Dora"})
	require.NoError(t, err)
	n, err = d.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 4, n)
}

func TestAPlaceBeyondTheHeadIsMissed(t *testing.T) {
	s := newDamaging()
	d := newOver(t, s, denizen.Options{})
	var last error
	for _, err := range d.Changes(t.Context(), denizen.System(), 99) {
		last = err
	}
	require.ErrorIs(t, last, denizen.ErrMissed)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, d.Wait(ctx, denizen.System(), 99))
}
