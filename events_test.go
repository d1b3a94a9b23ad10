package denizen_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// signedIn returns a user's principal by a token of its own.
func (h *house) signedIn(t testing.TB, user denizen.UserID) (denizen.Principal, denizen.IssuedToken) {
	t.Helper()
	issued := newToken(t, h.Directory, user, denizen.TokenOptions{TTL: time.Hour})
	by, err := h.Authenticate(context.Background(), issued.Signed)
	require.NoError(t, err)
	return by, issued
}

// requireLimited requires a refusal by the bucket of events, and returns when to come again.
func requireLimited(t testing.TB, err error) time.Duration {
	t.Helper()
	requireField(t, err, denizen.ErrLimited, "events")
	e, _ := errors.AsType[*denizen.Error](err)
	return e.RetryAfter
}

func TestEvents_ASignedInUserCannotPushTheFeed(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		byAlice, _ := h.signedIn(t, alice)
		byBob, _ := h.signedIn(t, bob)
		spare := newToken(t, h.Directory, alice, denizen.TokenOptions{TTL: time.Hour})
		rename := func(by denizen.Principal, i int) error {
			_, err := h.SetScreenName(ctx, by, alice, "Alice "+strconv.Itoa(i))
			return err
		}
		require.NoError(t, h.SetPresence(ctx, byAlice, alice, denizen.Online()))
		for i := range 59 {
			require.NoError(t, rename(byAlice, i))
		}
		before, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		head := len(eventsAfter(t, h.Directory, 0))
		require.Equal(t, time.Second, requireLimited(t, rename(byAlice, 100)))
		_, err = h.AddLocator(ctx, byAlice, alice, denizen.Email("alice@example.org"))
		requireLimited(t, err)
		requireLimited(t, h.SetPresence(ctx, byAlice, alice, denizen.Away()))
		_, err = h.ExtendToken(ctx, byAlice, alice, byAlice.Token(), 2*time.Hour)
		requireLimited(t, err)
		after, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, before, after, "what is refused changes nothing")
		require.Len(t, eventsAfter(t, h.Directory, 0), head)

		// What is free.
		require.NoError(t, h.SetPresence(ctx, byAlice, alice, denizen.Online()), "a heartbeat")
		require.NoError(t, rename(byAlice, 58), "nothing changes")
		require.NoError(t, rename(denizen.System(), 200))
		require.NoError(t, rename(h.as(t, alice), 201), "the application acts for her")
		_, err = h.SetScreenName(ctx, byBob, bob, "Bob the Stranger")
		require.NoError(t, err)
		require.NoError(t, h.RevokeTokens(ctx, byAlice, alice, spare.ID))
		require.NoError(t, h.ClearAllPresence(ctx, byAlice, alice))

		time.Sleep(400 * time.Millisecond)
		require.Equal(t, 600*time.Millisecond, requireLimited(t, rename(byAlice, 300)))
		time.Sleep(600 * time.Millisecond)
		require.NoError(t, rename(byAlice, 301))
		require.Equal(t, time.Second, requireLimited(t, rename(byAlice, 302)))
		require.NoError(t, h.Logout(ctx, byAlice))
	})
}

// refusing is a store in memory whose commits are refused while told so.
type refusing struct {
	*memory.Store

	sync.Mutex              // guards what follows: duties commit, too
	commit     func() error // nil: as usual
}

func (s *refusing) set(commit func() error) {
	s.Lock()
	defer s.Unlock()
	s.commit = commit
}

func (s *refusing) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.Lock()
	commit := s.commit
	s.Unlock()
	if commit != nil {
		if err := commit(); err != nil {
			return 0, err
		}
	}
	return s.Store.Commit(ctx, b)
}

func TestEvents_WhatIsNotAppliedTakesNoPartOfAUsersEvents(t *testing.T) {
	s := &refusing{Store: memory.New()}
	h := &house{newOver(t, s, denizen.Options{UserEventBurst: 2, UserEventInterval: time.Hour}), s}
	ctx := t.Context()
	h.create(t, alice)
	by, _ := h.signedIn(t, alice)
	rename := func(name string) error {
		_, err := h.SetScreenName(ctx, by, alice, name)
		return err
	}
	s.set(func() error { return store.ErrUnavailable })
	for range 10 {
		require.ErrorIs(t, rename("Nobody"), denizen.ErrUnavailable)
	}
	tries := 0
	s.set(func() error {
		if tries++; tries < 10 {
			return &store.Conflict{}
		}
		return nil
	})

	require.NoError(t, rename("After Conflicts"), "many tries are one event")
	require.Equal(t, 10, tries)
	s.set(func() error { return store.ErrOutcomeUnknown })
	require.ErrorIs(t, rename("Perhaps"), denizen.ErrOutcomeUnknown)
	s.set(nil)
	require.Positive(t, requireLimited(t, rename("Too Many")), "what may have been applied counts")
}
