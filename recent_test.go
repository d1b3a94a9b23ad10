package denizen_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// recent returns all events of a query, page by page.
func recent(t testing.TB, d *denizen.Directory, q denizen.EventQuery) (all []denizen.Event, pages int) {
	t.Helper()
	for {
		page, err := d.RecentEvents(context.Background(), sys, q)
		require.NoError(t, err)
		all = append(all, page.Events...)
		if pages++; page.Next == 0 {
			return all, pages
		}
		require.True(t, q.Before == 0 || page.Next < q.Before)
		q.Before = page.Next
	}
}

// Commits without an event have places, too: few or a great many between two events.
func TestRecent_PagesHaveEveryEventOnceTheNewestFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	silent := store.Batch{Put: []store.Record{{Key: "zzz", Value: []byte(`{}`)}}}
	for i := range 300 {
		by := sys
		if i%3 == 0 {
			by = ada
		}
		u, err := d.CreateUser(t.Context(), by, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("user-%06d", i)), ScreenName: "Somebody"})
		require.NoError(t, err)
		if i%7 == 0 {
			require.NoError(t, d.DeleteUser(t.Context(), sys, u.ID))
		}
		if i%50 == 0 {
			for range 1 << r.IntN(14) {
				_, err := s.Commit(t.Context(), silent)
				require.NoError(t, err)
			}
		}
	}
	all := eventsAfter(t, d, 0)
	slices.Reverse(all)
	for _, q := range []denizen.EventQuery{
		{},
		{Limit: 1},
		{Limit: 7},
		{Before: all[100].Seq},
		{User: "user-000007"},
		{User: "user-00000"},
		{Operator: "ada", Limit: 10},
		{Kinds: []denizen.EventKind{denizen.EventUserDeleted}, Limit: 3},
		{Kinds: []denizen.EventKind{denizen.EventUserDeleted}, User: "user-000007"},
	} {
		var want []denizen.Event
		for _, e := range all {
			if (q.Before == 0 || e.Seq < q.Before) && (q.User == "" || e.User == q.User) && (q.Operator == "" || e.Operator == q.Operator) &&
				(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) {
				want = append(want, e)
			}
		}
		got, _ := recent(t, d, q)
		require.Equal(t, want, got, "%+v", q)
	}
	require.NoError(t, d.TrimFeed(t.Context(), sys, all[200].Seq))
	got, _ := recent(t, d, denizen.EventQuery{})
	require.Equal(t, all[:200], got, "what is forgotten is not told")
	page, err := d.RecentEvents(t.Context(), sys, denizen.EventQuery{Before: all[200].Seq})
	require.NoError(t, err)
	require.Equal(t, denizen.EventPage{Events: []denizen.Event{}}, page)
}

// tallying is a store that counts the events that are read of it.
type tallying struct {
	*memory.Store
	read int
}

func (s *tallying) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	feed, err := s.Store.Changes(ctx, after, limit)
	s.read += len(feed.Changes)
	return feed, err
}

func TestRecent_APageLooksThroughABoundedNumberOfEvents(t *testing.T) {
	s := &tallying{Store: memory.New()}
	d := newOver(t, s, denizen.Options{})
	newUser(t, d, alice)
	event := eventsAfter(t, d, 1)[0]
	for i := range 12_000 {
		_, err := s.Commit(t.Context(), store.Batch{Emit: fmt.Appendf(nil, `{"kind":"event","at":%d,"what":"user.renamed","actor":".system","user":"somebody-else"}`, i)})
		require.NoError(t, err)
	}
	s.read = 0
	page, err := d.RecentEvents(t.Context(), sys, denizen.EventQuery{User: alice})
	require.NoError(t, err)
	require.Empty(t, page.Events)
	require.NotZero(t, page.Next)
	require.LessOrEqual(t, s.read, 9000)
	got, pages := recent(t, d, denizen.EventQuery{User: alice})
	require.Equal(t, []denizen.Event{event}, got)
	require.Equal(t, 3, pages)
	s.read = 0
	_, err = d.RecentEvents(t.Context(), sys, denizen.EventQuery{})
	require.NoError(t, err)
	require.Equal(t, 1000, s.read)
}

func TestRecent_RefusesAPageOfTooMany(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for _, limit := range []int{-1, 101} {
		_, err := d.RecentEvents(t.Context(), sys, denizen.EventQuery{Limit: limit})
		requireField(t, err, denizen.ErrInvalid, "limit")
	}
}

func TestRecent_WhatIsDamagedIsAmongAllAndInNoSelection(t *testing.T) {
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	seq, err := s.Commit(t.Context(), store.Batch{Emit: []byte(`{"kind":"another","user":"alice-01"}`)})
	require.NoError(t, err)
	got, _ := recent(t, d, denizen.EventQuery{})
	require.Equal(t, denizen.Seq(seq), got[0].Seq)
	require.Empty(t, got[0].Kind)
	got, _ = recent(t, d, denizen.EventQuery{User: alice})
	require.Empty(t, got)
}
