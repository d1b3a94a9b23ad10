package denizen_test

import (
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/stretchr/testify/require"
)

var newcomer = denizen.NewUser{ScreenName: "Newcomer"}

const (
	mallorys = "email:mallory@example.org"
	victims  = "email:victim@example.org"
)

func verified(locator string) denizen.NewLocator {
	return denizen.NewLocator{Locator: locator, Status: denizen.Verified}
}

// The attack: a user of Mallory's, who proved her own address, also holds the address of
// somebody else, which the application added as it was typed.
func TestProve_AProvedLocatorLeavesTheUserOfSomebodyElse(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		mallory := h.create(t, alice, verified(mallorys), denizen.NewLocator{Locator: victims})
		before := head(t, h)

		victim, err := h.ProveLocator(ctx, sys, "email:Victim@Example.org", newcomer)
		require.NoError(t, err)
		require.NotEqual(t, mallory.ID, victim.ID)
		require.Equal(t, denizen.Verified, victim.Locators[0].Status)
		requireOwner(t, h, victims, victim.ID)
		events := eventsAfter(t, h.Directory, before)
		require.Len(t, events, 1, "one commit")
		require.Equal(t, denizen.EventUserCreated, events[0].Kind)
		require.Equal(t, victim.ID, events[0].User)
		require.Equal(t, mallory.ID, events[0].Other)
		require.Equal(t, []string{string(mallory.Locators[1].ID)}, events[0].Subjects)

		hers, err := h.ProveLocator(ctx, sys, mallorys, newcomer)
		require.NoError(t, err)
		require.Equal(t, mallory.ID, hers.ID)
		require.Len(t, hers.Locators, 1)
		again, err := h.ProveLocator(ctx, sys, victims, newcomer)
		require.NoError(t, err)
		require.Equal(t, victim.ID, again.ID)
		invariant.Check(t, h.store)
	})
}

func TestProve_AUserPassesToWhoProvesItsLocatorWithNothingOfWhoHadIt(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.NewLocator{Locator: victims}, denizen.NewLocator{Locator: mallorys})
		token, err := h.IssueToken(ctx, sys, alice, denizen.TokenOptions{})
		require.NoError(t, err)
		by, err := h.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		_, err = h.AddLocator(ctx, by, alice, denizen.Email("claim@example.org"))
		require.NoError(t, err)
		require.NoError(t, h.SetPresence(ctx, by, alice, denizen.Online(time.Hour)))
		before := head(t, h)

		u, err := h.ProveLocator(ctx, sys, victims, newcomer)
		require.NoError(t, err)
		require.Equal(t, denizen.UserID(alice), u.ID)
		require.Equal(t, []denizen.EventKind{denizen.EventUserPassed}, eventKinds(t, h, before), "one commit")
		require.Len(t, u.Locators, 2, "the claim is gone")
		require.Equal(t, denizen.Verified, u.Locators[0].Status)
		_, err = h.Authenticate(ctx, token.Signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		p, err := h.Presence(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, p.Presence.State())
		left, err := h.Tokens(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, left)

		// Whoever proves the other address comes too late.
		other, err := h.ProveLocator(ctx, sys, mallorys, newcomer)
		require.NoError(t, err)
		require.NotEqual(t, u.ID, other.ID)
		invariant.Check(t, h.store)
	})
}

func TestProve_ProvingAVerifiedLocatorAgainEndsNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		u, err := h.ProveLocator(ctx, sys, victims, newcomer)
		require.NoError(t, err)
		token, err := h.IssueToken(ctx, sys, u.ID, denizen.TokenOptions{})
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		again, err := h.ProveLocator(ctx, sys, victims, newcomer)
		require.NoError(t, err)
		require.Equal(t, u, again)
		require.Equal(t, before, invariant.Of(t, h.store))
		_, err = h.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
	})
}

// Both addresses of one user that nobody proved yet are proved at the same time, each from
// several devices: the two never share a user, whoever comes first.
func TestProve_TwoWhoProveLocatorsOfOneUserAtOnceNeverShareIt(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.NewLocator{Locator: victims}, denizen.NewLocator{Locator: mallorys})
		const n = 8
		var users [2 * n]denizen.User
		var errs [2 * n]error
		var proving sync.WaitGroup
		for i := range users {
			proving.Go(func() { users[i], errs[i] = h.ProveLocator(ctx, sys, []string{victims, mallorys}[i%2], newcomer) })
		}
		proving.Wait()
		for i := range users {
			require.NoError(t, errs[i])
			require.Equal(t, users[i%2].ID, users[i].ID, "the same person everywhere")
		}
		require.NotEqual(t, users[0].ID, users[1].ID)
		n2, err := h.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 2, int(n2), "nobody is created for nothing")
		invariant.Check(t, h.store)
	})
}

func TestProve_ProvingIsRefusedWithoutATrace(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.NewLocator{Locator: victims})
		_, err := h.ProveLocator(ctx, h.as(t, alice), victims, newcomer)
		require.ErrorIs(t, err, denizen.ErrDenied)
		_, err = h.ProveLocator(ctx, denizen.Principal{}, victims, newcomer)
		require.ErrorIs(t, err, denizen.ErrDenied)
		before := invariant.Of(t, h.store)
		_, err = h.ProveLocator(ctx, sys, "fax:1", newcomer)
		requireField(t, err, denizen.ErrInvalid, "locator")
		_, err = h.ProveLocator(ctx, sys, "email:new@example.org", denizen.NewUser{})
		requireField(t, err, denizen.ErrInvalid, "screenName")
		_, err = h.ProveLocator(ctx, sys, "email:new@example.org", denizen.NewUser{ScreenName: "N", Locators: []denizen.NewLocator{{Locator: victims}}})
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestProve_ABlockedUserStaysBlockedForWhoProvesItsLocator(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.NewLocator{Locator: victims})
		_, err := h.BlockUser(t.Context(), sys, alice, denizen.Block{})
		require.NoError(t, err)
		u, err := h.ProveLocator(t.Context(), sys, victims, newcomer)
		require.NoError(t, err)
		require.True(t, u.Blocked)
		_, err = h.IssueToken(t.Context(), sys, u.ID, denizen.TokenOptions{})
		require.ErrorIs(t, err, denizen.ErrDenied)
	})
}
