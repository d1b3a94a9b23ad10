package denizen_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestCount_TheCountIsExactThroughAllChanges(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		requireCount(t, h.Directory, 0)
		for i := range 7 {
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", i)))
			requireCount(t, h.Directory, i+1)
		}
		_, err := h.SetScreenName(ctx, sys, "user-0003", "Another")
		require.NoError(t, err)
		_, err = h.BlockUser(ctx, sys, "user-0003", denizen.Block{})
		require.NoError(t, err)
		requireCount(t, h.Directory, 7)
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0003"))
		require.Error(t, h.DeleteUser(ctx, sys, "user-0003"))
		requireCount(t, h.Directory, 6)
		h.create(t, "user-0003")
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0004"))
		h.create(t, "user-0004")
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0005"))
		requireCount(t, h.Directory, 6)
	})
}

func TestCount_TheCountIsExactAfterTheFeedWasTrimmed(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		requireCount(t, h.Directory, 1)
		b := h.create(t, bob)
		require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		h.create(t, "carol-01")
		require.NoError(t, h.TrimFeed(t.Context(), sys, denizen.Seq(b.Version)))
		requireCount(t, h.Directory, 2)
		h.create(t, alice)
		requireCount(t, h.Directory, 3)
	})
}

func TestCount_TheFirstCountIsExactWhileUsersComeAndGo(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		for _, step := range []string{"one comes", "one goes", "one goes and comes again"} {
			t.Run(step+" "+when+" a page is read", func(t *testing.T) {
				m := &interrupted{Store: memory.New()}
				d := newOver(t, m, denizen.Options{})
				newUser(t, d, alice)
				newUser(t, d, bob)
				want := 2
				meddle := func() {
					m.before, m.after = nil, nil
					if step == "one comes" {
						newUser(t, d, "carol-01")
						want = 3
						return
					}
					require.NoError(t, d.DeleteUser(context.Background(), sys, alice))
					if want = 1; step == "one goes and comes again" {
						newUser(t, d, alice)
						want = 2
					}
				}
				if when == "before" {
					m.before = meddle
				} else {
					m.after = meddle
				}
				_, err := d.CountUsers(t.Context(), sys)
				require.NoError(t, err)
				requireCount(t, d, want)
			})
		}
	}
}

func TestCount_TheFirstCountIsExactOverSeveralPages(t *testing.T) {
	ctx := t.Context()
	m := &interrupted{Store: memory.New()}
	d := newOver(t, m, denizen.Options{})
	for from := 0; from <= store.MaxPage; from += 1000 {
		var b store.Batch
		for i := from; i < min(from+1000, store.MaxPage+1); i++ {
			u := record.User{ID: fmt.Sprintf("user-%06d", i), Incarnation: fmt.Sprint(i), ScreenName: "Somebody"}
			b.Put = append(b.Put, store.Record{Key: record.UserKey(u.ID), Value: record.Encode(&u)})
		}
		_, err := m.Commit(ctx, b)
		require.NoError(t, err)
	}
	pages := 0
	m.after = func() {
		pages++
		newUser(t, d, denizen.UserID(fmt.Sprintf("before-%d", pages))) // on a page that was read
		newUser(t, d, denizen.UserID(fmt.Sprintf("zebra-%02d", pages)))
		require.NoError(t, d.DeleteUser(ctx, sys, denizen.UserID(fmt.Sprintf("user-%06d", pages))))
	}
	_, err := d.CountUsers(ctx, sys)
	require.NoError(t, err)
	m.after = nil
	require.Equal(t, 2, pages)
	requireCount(t, d, store.MaxPage+1+pages)
}
