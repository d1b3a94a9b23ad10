package denizen_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

const address = "email:shared@example.org"

var shares = denizen.NewLocator{Locator: address}

// eventKinds returns what the events after a place tell of.
func eventKinds(t testing.TB, h *house, after denizen.Seq) (kinds []denizen.EventKind) {
	t.Helper()
	for _, e := range eventsAfter(t, h.Directory, after) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func head(t testing.TB, h *house) denizen.Seq {
	t.Helper()
	return denizen.Seq(invariant.Of(t, h.store).Feed.Head)
}

func requireOwner(t testing.TB, h *house, locator string, want ...denizen.UserID) {
	t.Helper()
	users, err := h.UsersByLocator(context.Background(), sys, []string{locator})
	require.NoError(t, err)
	var ids []denizen.UserID
	for _, u := range users {
		ids = append(ids, u.ID)
	}
	require.Equal(t, want, ids)
}

func TestLocators_ALocatorKeepsWhatWasGivenBesideItsCanonicalForm(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		for _, row := range []struct{ given, kind, raw, address, canonical string }{
			{"email:Alice.B+tag@Example.ORG", "email", "Alice.B+tag@Example.ORG", "Alice.B+tag@Example.ORG", "alice.b+tag@example.org"},
			{"tele:+1 (415) 555-0132", "tele", "+1 (415) 555-0132", "+14155550132", "+14155550132"},
		} {
			l, err := h.AddLocator(ctx, sys, alice, denizen.NewLocator{Locator: row.given})
			require.NoError(t, err)
			require.Equal(t, denizen.Locator{
				ID: l.ID, Type: denizen.LocatorType(row.kind), Address: row.address, Raw: row.raw, Canonical: row.canonical,
				Status: denizen.StatusNotProvided, Owned: true, AddedAt: epoch,
			}, l)
			require.Equal(t, row.kind+":"+row.address, l.String())
			read, err := h.Locator(ctx, sys, alice, l.ID)
			require.NoError(t, err)
			require.Equal(t, l, read)
			kind, canonical, err := denizen.ParseLocator(row.given)
			require.NoError(t, err)
			require.Equal(t, [2]string{row.kind, row.canonical}, [2]string{string(kind), canonical})
		}
	})
}

func TestLocators_ALocatorThatIsNoneIsRefused(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		before := invariant.Of(t, h.store)
		for _, bad := range []string{"", "email", "email:", "email:x", "Email:a@b.example", "tele:123", "tele:+0123456789", "fax:+14155550132", " email:a@b.example"} {
			for _, by := range []denizen.Principal{sys, h.as(t, alice)} {
				_, err := h.AddLocator(ctx, by, alice, denizen.NewLocator{Locator: bad})
				requireField(t, err, denizen.ErrInvalid, "locator")
			}
			_, err := h.SetLocators(ctx, sys, alice, []denizen.NewLocator{{Locator: bad}})
			requireField(t, err, denizen.ErrInvalid, "locator")
			_, _, err = denizen.ParseLocator(bad)
			requireField(t, err, denizen.ErrInvalid, "locator")
		}
		_, err := h.AddLocator(ctx, sys, alice, denizen.Tele("+10000000000"))
		requireField(t, err, denizen.ErrInvalid, "locator") // of good shape, and in no numbering plan
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_WhatTheSystemAddsIsOwnedAtOnce(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		after := head(t, h)
		l, err := h.AddLocator(ctx, sys, alice, denizen.NewLocator{Locator: address, Status: denizen.VerificationPending})
		require.NoError(t, err)
		require.True(t, l.Owned)
		require.Equal(t, denizen.VerificationPending, l.Status)
		requireOwner(t, h, address, alice)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorAdded}, eventKinds(t, h, after))
		before := invariant.Of(t, h.store)
		_, err = h.AddLocator(ctx, sys, bob, shares)
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, before, invariant.Of(t, h.store))
		invariant.Check(t, h.store)
	})
}

func TestLocators_WhatAUserAddsIsAClaimThatNobodyElseSees(t *testing.T) {
	all := func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil }
	inHouses(t, denizen.Options{MaySee: all}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.NewLocator{Locator: address, Status: denizen.Verified})
		require.NoError(t, err)
		require.Equal(t, denizen.Locator{
			ID: claim.ID, Type: denizen.TypeEmail, Address: "shared@example.org", Raw: "shared@example.org", Canonical: "shared@example.org",
			Status: denizen.Unverified, AddedAt: epoch,
		}, claim, "a user vouches for itself")
		for _, by := range []denizen.Principal{sys, h.as(t, alice)} {
			locators, err := h.Locators(ctx, by, alice)
			require.NoError(t, err)
			require.Equal(t, []denizen.Locator{claim}, locators)
		}
		_, err = h.Locators(ctx, h.as(t, bob), alice)
		require.ErrorIs(t, err, denizen.ErrDenied)
		requireOwner(t, h, address)
		u, err := h.User(ctx, h.as(t, bob), alice)
		require.NoError(t, err)
		require.Empty(t, u.Locators)
		invariant.Check(t, h.store)
	})
}

func TestLocators_AClaimBlocksNobody(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		_, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		h.create(t, bob, shares)
		requireOwner(t, h, address, bob)
		require.NoError(t, h.DeleteUser(ctx, sys, bob))
		h.create(t, bob)
		_, err = h.AddLocator(ctx, h.as(t, bob), bob, shares)
		require.NoError(t, err, "two claims stand beside each other")
		_, err = h.AddLocator(ctx, sys, bob, shares)
		require.NoError(t, err)
		requireOwner(t, h, address, bob)
		invariant.Check(t, h.store)
	})
}

// What a user can do with a claim, and what it learns of it, is the same whoever else owns or
// claims the address. So is what is stored of it.
func TestLocators_AClaimRevealsNothingOfOthers(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, shares)
		h.create(t, "carol-01")
		_, err := h.AddLocator(ctx, h.as(t, "carol-01"), "carol-01", shares)
		require.NoError(t, err)
		var seen [][]any
		for _, given := range []denizen.NewLocator{shares, denizen.Email("nobodys@example.org")} {
			h.create(t, alice)
			by := h.as(t, alice)
			var learned []any
			learn := func(l denizen.Locator, err error) {
				l.ID = ""
				if l.Canonical == given.Locator[len("email:"):] {
					l.Address, l.Raw, l.Canonical = "the address", "the address", "the address"
				}
				learned = append(learned, l, err)
			}
			after := head(t, h)
			claim, err := h.AddLocator(ctx, by, alice, given)
			learn(claim, err)
			learn(h.AddLocator(ctx, by, alice, given))
			learn(h.Locator(ctx, by, alice, claim.ID))
			_, err = h.ResolveUser(ctx, by, given.Locator)
			learned = append(learned, err)
			u, err := h.User(ctx, by, alice)
			require.NoError(t, err)
			learned = append(learned, u.Version-denizen.UserVersion(after), len(u.Locators))
			learned = append(learned, h.RemoveLocator(ctx, by, alice, claim.ID))
			learned = append(learned, eventKinds(t, h, after))
			seen = append(seen, learned)
			require.NoError(t, h.DeleteUser(ctx, sys, alice))
		}
		require.Equal(t, seen[1], seen[0])
		requireOwner(t, h, address, bob)
		invariant.Check(t, h.store)
	})
}

func TestLocators_VerifyingAClaimMakesItTheUsersOwn(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		time.Sleep(time.Second)
		after := head(t, h)
		l, err := h.SetVerification(ctx, sys, alice, claim.ID, denizen.Verified)
		require.NoError(t, err)
		claim.Owned, claim.Status, claim.VerifiedAt = true, denizen.Verified, epoch.Add(time.Second)
		require.Equal(t, claim, l)
		requireOwner(t, h, address, alice)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorOwned}, eventKinds(t, h, after))
		require.Equal(t, after+1, head(t, h), "not one commit")
		invariant.Check(t, h.store)
	})
}

func TestLocators_VerifyingAClaimOnWhatAnotherOwnsFailsWhole(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, shares)
		h.create(t, alice)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		_, err = h.SetVerification(ctx, sys, alice, claim.ID, denizen.Verified)
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(ctx, sys, alice, shares)
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.SetLocators(ctx, sys, alice, []denizen.NewLocator{{Locator: address, Status: denizen.Verified}})
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_OtherClaimsStayAsTheyAreWhenOneIsVerified(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		claims := map[denizen.UserID]denizen.Locator{}
		for _, id := range []denizen.UserID{alice, bob, "carol-01"} {
			h.create(t, id)
			var err error
			claims[id], err = h.AddLocator(ctx, h.as(t, id), id, shares)
			require.NoError(t, err)
		}
		others, err := h.UsersByID(ctx, sys, []denizen.UserID{bob, "carol-01"})
		require.NoError(t, err)
		_, err = h.SetVerification(ctx, sys, alice, claims[alice].ID, denizen.Verified)
		require.NoError(t, err)
		after, err := h.UsersByID(ctx, sys, []denizen.UserID{bob, "carol-01"})
		require.NoError(t, err)
		require.Equal(t, others, after)
		// And one of them may have it once it is free.
		require.NoError(t, h.RemoveLocator(ctx, sys, alice, claims[alice].ID))
		_, err = h.SetVerification(ctx, sys, bob, claims[bob].ID, denizen.Verified)
		require.NoError(t, err)
		requireOwner(t, h, address, bob)
		invariant.Check(t, h.store)
	})
}

func TestLocators_OfManyClaimsVerifiedAtOnceOneWins(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		const n = 16
		var ids [n]denizen.UserID
		var claims [n]denizen.Locator
		for i := range n {
			ids[i] = denizen.UserID(fmt.Sprintf("user-%04d", i))
			h.create(t, ids[i])
			var err error
			claims[i], err = h.AddLocator(ctx, h.as(t, ids[i]), ids[i], shares)
			require.NoError(t, err)
		}
		var errs [n]error
		var verifying sync.WaitGroup
		for i := range n {
			verifying.Go(func() { _, errs[i] = h.SetVerification(ctx, sys, ids[i], claims[i].ID, denizen.Verified) })
		}
		verifying.Wait()
		won := 0
		for i, err := range errs {
			l, unknown := h.Locator(ctx, sys, ids[i], claims[i].ID)
			require.NoError(t, unknown)
			require.Equal(t, err == nil, l.Owned)
			if err == nil {
				won++
			} else {
				requireField(t, err, denizen.ErrTaken, "locator")
				require.Equal(t, denizen.Unverified, l.Status, "the loser's claim is another")
			}
		}
		require.Equal(t, 1, won)
		invariant.Check(t, h.store)
	})
}

func TestLocators_NoStatusGivesALocatorBack(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.create(t, alice, shares).Locators[0].ID
		h.create(t, bob)
		for _, status := range []denizen.VerificationStatus{
			denizen.Verified, denizen.Unverified, denizen.StatusNotProvided, denizen.VerificationPending, denizen.VerificationNotApplicable,
		} {
			after := head(t, h)
			l, err := h.SetVerification(ctx, sys, alice, id, status)
			require.NoError(t, err)
			require.True(t, l.Owned)
			require.Equal(t, status, l.Status)
			require.Equal(t, epoch, l.VerifiedAt, "when it was verified is forgotten")
			require.Equal(t, []denizen.EventKind{denizen.EventLocatorVerification}, eventKinds(t, h, after))
			requireOwner(t, h, address, alice)
			_, err = h.AddLocator(ctx, sys, bob, shares)
			requireField(t, err, denizen.ErrTaken, "locator")
		}
		require.NoError(t, h.RemoveLocator(ctx, sys, alice, id))
		requireOwner(t, h, address)
		_, err := h.AddLocator(ctx, sys, bob, shares)
		require.NoError(t, err)
		invariant.Check(t, h.store)
	})
}

func TestLocators_AClaimKeepsNotOwningThroughOtherStatuses(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		for _, status := range []denizen.VerificationStatus{denizen.VerificationPending, denizen.VerificationNotApplicable, denizen.StatusNotProvided} {
			l, err := h.SetVerification(ctx, sys, alice, claim.ID, status)
			require.NoError(t, err)
			require.False(t, l.Owned)
			requireOwner(t, h, address)
		}
		_, err = h.SetVerification(ctx, sys, alice, claim.ID, "verified")
		requireField(t, err, denizen.ErrInvalid, "verificationStatus")
		_, err = h.SetVerification(ctx, sys, alice, "no such id", denizen.Verified)
		requireField(t, err, denizen.ErrNotFound, "locator")
	})
}

func TestLocators_VerifyingAgainTellsWhen(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.create(t, alice, denizen.NewLocator{Locator: address, Status: denizen.Verified}).Locators[0].ID
		time.Sleep(time.Hour)
		l, err := h.SetVerification(ctx, sys, alice, id, denizen.Verified)
		require.NoError(t, err)
		require.Equal(t, epoch.Add(time.Hour), l.VerifiedAt)
		require.Equal(t, epoch, l.AddedAt)
	})
}

func TestLocators_SettingTheStatusItHasChangesNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		u := h.create(t, alice, shares)
		before := invariant.Of(t, h.store)
		l, err := h.SetVerification(t.Context(), sys, alice, u.Locators[0].ID, denizen.StatusNotProvided)
		require.NoError(t, err)
		require.Equal(t, u.Locators[0], l)
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_AddingALocatorAgainAnswersTheSame(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		owned := h.create(t, alice, shares).Locators[0]
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.Email("claim@example.org"))
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		for _, again := range []struct {
			by    denizen.Principal
			given denizen.NewLocator
			want  denizen.Locator
		}{
			{sys, denizen.Email("SHARED@example.org"), owned},
			{sys, denizen.NewLocator{Locator: address, Status: denizen.StatusNotProvided}, owned},
			{h.as(t, alice), shares, owned},
			{h.as(t, alice), denizen.Email("Claim@Example.org"), claim},
		} {
			l, err := h.AddLocator(ctx, again.by, alice, again.given)
			require.NoError(t, err)
			require.Equal(t, again.want, l)
		}
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_AClaimThatTheSystemAddsBecomesOwnedUnderItsID(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		after := head(t, h)
		l, err := h.AddLocator(ctx, sys, alice, shares)
		require.NoError(t, err)
		claim.Owned, claim.Status = true, denizen.StatusNotProvided
		require.Equal(t, claim, l)
		locators, err := h.Locators(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, []denizen.Locator{l}, locators)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorOwned}, eventKinds(t, h, after))
		requireOwner(t, h, address, alice)
		invariant.Check(t, h.store)
	})
}

func TestLocators_SixteenLocatorsAreTheMost(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.Email("claimed@example.org"))
		require.NoError(t, err)
		var all []denizen.NewLocator
		for i := range denizen.MaxLocators {
			all = append(all, denizen.Email(fmt.Sprintf("alice%d@example.org", i)))
			_, err := h.AddLocator(ctx, sys, alice, all[i])
			require.NoError(t, err, "a claim takes room")
		}
		before := invariant.Of(t, h.store)
		_, err = h.AddLocator(ctx, sys, alice, shares)
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.AddLocator(ctx, sys, alice, denizen.Email("claimed@example.org"))
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.SetVerification(ctx, sys, alice, claim.ID, denizen.Verified)
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.SetLocators(ctx, sys, alice, append(slices.Clone(all), shares))
		requireField(t, err, denizen.ErrLimited, "locators")
		for _, by := range []denizen.Principal{sys, h.as(t, alice)} {
			_, err = h.AddLocator(ctx, by, alice, all[1])
			require.NoError(t, err, "one that is there is not one more")
		}
		require.Equal(t, before, invariant.Of(t, h.store))
		_, err = h.CreateUser(ctx, sys, denizen.NewUser{ScreenName: "Bob", Locators: append(slices.Clone(all), shares)})
		requireField(t, err, denizen.ErrLimited, "locators")
		u, err := h.SetLocators(ctx, sys, alice, append(all[1:], shares))
		require.NoError(t, err)
		require.Len(t, u.Locators, denizen.MaxLocators)
		invariant.Check(t, h.store)
	})
}

func TestLocators_FourClaimsAreTheMostAndTakeNoRoomFromWhatTheSystemAdds(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		by := h.as(t, alice)
		claim := func(i int) denizen.NewLocator { return denizen.Email(fmt.Sprintf("claim%d@example.org", i)) }
		for i := range denizen.MaxClaims {
			_, err := h.AddLocator(ctx, by, alice, claim(i))
			require.NoError(t, err)
		}
		before := invariant.Of(t, h.store)
		_, err := h.AddLocator(ctx, by, alice, claim(4))
		requireField(t, err, denizen.ErrLimited, "locators")
		require.Nil(t, err.(*denizen.Error).Missing)
		_, err = h.AddLocator(ctx, by, alice, claim(0))
		require.NoError(t, err, "one that is there is not one more")
		require.Equal(t, before, invariant.Of(t, h.store))

		for i := range denizen.MaxLocators {
			_, err := h.AddLocator(ctx, sys, alice, denizen.Email(fmt.Sprintf("own%d@example.org", i)))
			require.NoError(t, err)
		}
		u, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		require.Len(t, u.Locators, denizen.MaxLocators+denizen.MaxClaims)
		again, err := h.SetLocators(ctx, sys, alice, asNew(u.Locators))
		require.NoError(t, err)
		require.Equal(t, u, again, "a full list that is set as it was read")

		require.NoError(t, h.RemoveLocator(ctx, by, alice, u.Locators[0].ID))
		_, err = h.AddLocator(ctx, by, alice, claim(4))
		require.NoError(t, err)
		invariant.Check(t, h.store)
	})
}

// asNew is a list as a client gives it back that read it.
func asNew(locators []denizen.Locator) (ns []denizen.NewLocator) {
	for _, l := range locators {
		ns = append(ns, denizen.NewLocator{Locator: l.String(), Status: l.Status})
	}
	return ns
}

func TestLocators_AListThatIsSetAsItWasReadChangesNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, denizen.Email("taken@example.org"))
		h.create(t, alice, denizen.Tele("+1 (415) 555-2672"), denizen.NewLocator{Locator: "email:Alice@Example.org", Status: denizen.Verified})
		for _, claim := range []string{"email:Free@example.org", "email:Taken@example.org"} {
			_, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.NewLocator{Locator: claim})
			require.NoError(t, err)
		}
		before, after := invariant.Of(t, h.store), head(t, h)
		read, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		set, err := h.SetLocators(ctx, sys, alice, asNew(read.Locators))
		require.NoError(t, err)
		require.Equal(t, read, set)
		require.Equal(t, before, invariant.Of(t, h.store))
		require.Equal(t, after, head(t, h))

		bare := asNew(read.Locators)
		for i := range bare {
			bare[i].Status = ""
		}
		_, err = h.SetLocators(ctx, sys, alice, bare)
		require.NoError(t, err)
		require.Equal(t, before, invariant.Of(t, h.store), "without statuses")
		requireOwner(t, h, "email:free@example.org")

		bare[2].Status = denizen.VerificationPending
		set, err = h.SetLocators(ctx, sys, alice, bare)
		require.NoError(t, err)
		require.False(t, set.Locators[2].Owned, "another status than Verified makes it the user's own")
		require.Equal(t, denizen.VerificationPending, set.Locators[2].Status)
		bare[2].Status = denizen.Verified
		set, err = h.SetLocators(ctx, sys, alice, bare)
		require.NoError(t, err)
		require.True(t, set.Locators[2].Owned)
		require.False(t, set.Locators[3].Owned)
		require.Equal(t, read.Locators[2].ID, set.Locators[2].ID)
		requireOwner(t, h, "email:free@example.org", alice)
		bare[3].Status = denizen.Verified
		_, err = h.SetLocators(ctx, sys, alice, bare)
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, []string{"email:Taken@example.org"}, err.(*denizen.Error).Missing)
		invariant.Check(t, h.store)
	})
}

// Between reading a list and setting it a user takes a claim back, on an address of somebody
// else perhaps: that must not make the address its own.
func TestLocators_AClaimThatWasTakenBackSinceItWasReadIsNotMadeOwned(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.Email("alice@example.org"))
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.Email("victim@example.org"))
		require.NoError(t, err)
		list := []denizen.NewLocator{
			{Locator: "email:victim@example.org", Claim: true}, denizen.Email("alice@example.org"), denizen.Email("new@example.org"),
		}
		set, err := h.SetLocators(ctx, sys, alice, list)
		require.NoError(t, err)
		require.Equal(t, claim.ID, set.Locators[0].ID, "while it is there it stays, a claim")
		require.False(t, set.Locators[0].Owned)

		require.NoError(t, h.RemoveLocator(ctx, h.as(t, alice), alice, claim.ID))
		set, err = h.SetLocators(ctx, sys, alice, list)
		require.NoError(t, err)
		require.Len(t, set.Locators, 2)
		requireOwner(t, h, "email:victim@example.org")
		requireOwner(t, h, "email:new@example.org", alice)

		list[0].Status = denizen.Verified // the application vouches for it
		_, err = h.SetLocators(ctx, sys, alice, list)
		require.NoError(t, err)
		requireOwner(t, h, "email:victim@example.org", alice)
		list[0].Status = "" // and what is owned stays so
		_, err = h.SetLocators(ctx, sys, alice, list)
		require.NoError(t, err)
		requireOwner(t, h, "email:victim@example.org", alice)
		invariant.Check(t, h.store)
	})
}

func TestLocators_AnOwnedLocatorIsNotAddedWithAnotherStatus(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		own := h.create(t, alice, denizen.NewLocator{Locator: address, Status: denizen.Unverified}).Locators[0]
		before := invariant.Of(t, h.store)
		_, err := h.AddLocator(ctx, sys, alice, denizen.NewLocator{Locator: address, Status: denizen.Verified})
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, []string{address}, err.(*denizen.Error).Missing)
		for _, same := range []denizen.VerificationStatus{"", denizen.Unverified} {
			l, err := h.AddLocator(ctx, sys, alice, denizen.NewLocator{Locator: address, Status: same})
			require.NoError(t, err)
			require.Equal(t, own, l)
		}
		l, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.NewLocator{Locator: address, Status: denizen.Verified})
		require.NoError(t, err, "a user's status is ignored")
		require.Equal(t, own, l)
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_TheSystemIsToldWhichLocatorsAreTaken(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, denizen.Email("one@example.org"), denizen.Tele("+14155552672"))
		h.create(t, alice)
		given := []denizen.NewLocator{denizen.Email("free@example.org"), denizen.Email("One@Example.org"), denizen.Tele("+1 415 555 2672")}
		taken := []string{"email:One@Example.org", "tele:+1 415 555 2672"}
		before := invariant.Of(t, h.store)
		for range 2 {
			_, err := h.CreateUser(ctx, sys, denizen.NewUser{ScreenName: "Carol", Locators: given})
			requireField(t, err, denizen.ErrTaken, "locator")
			require.Equal(t, taken, err.(*denizen.Error).Missing)
			require.Equal(t, "denizen: CreateUser: locator: taken", err.Error())
			err.(*denizen.Error).Missing[0] = "scribbled" // each refusal has a slice of its own
		}
		_, err := h.SetLocators(ctx, sys, alice, given)
		require.Equal(t, taken, err.(*denizen.Error).Missing)
		_, err = h.AddLocator(ctx, sys, alice, given[1])
		require.Equal(t, taken[:1], err.(*denizen.Error).Missing)
		_, err = h.CreateUser(ctx, sys, denizen.NewUser{ID: alice, ScreenName: "Carol"})
		requireField(t, err, denizen.ErrTaken, "id")
		require.Equal(t, []string{string(alice)}, err.(*denizen.Error).Missing)
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestLocators_SettingLocatorsKeepsTheIDsOfThoseThatStay(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		first, goes := denizen.Email("first@example.org"), denizen.Email("goes@example.org")
		u := h.create(t, alice, denizen.NewLocator{Locator: first.Locator, Status: denizen.Verified}, goes)
		claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		time.Sleep(time.Second)
		after := head(t, h)
		set, err := h.SetLocators(ctx, sys, alice, []denizen.NewLocator{
			{Locator: "email:SHARED@example.org", Status: denizen.Verified}, denizen.Tele("+14155550132"), denizen.Email("FIRST@example.org"),
		})
		require.NoError(t, err)
		claim.Owned, claim.Status, claim.VerifiedAt = true, denizen.Verified, epoch.Add(time.Second)
		require.Equal(t, []denizen.Locator{claim, {
			ID: set.Locators[1].ID, Type: denizen.TypeTele, Address: "+14155550132", Raw: "+14155550132", Canonical: "+14155550132",
			Status: denizen.StatusNotProvided, Owned: true, AddedAt: epoch.Add(time.Second),
		}, u.Locators[0]}, set.Locators)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorsSet}, eventKinds(t, h, after))
		require.Equal(t, after+1, head(t, h), "not one commit")
		requireOwner(t, h, goes.Locator)
		requireOwner(t, h, address, alice)
		invariant.Check(t, h.store)
	})
}

func TestLocators_SettingLocatorsIsAllOrNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, shares)
		h.create(t, alice, denizen.Email("alice@example.org"))
		before := invariant.Of(t, h.store)
		for what, row := range map[string]struct {
			list  []denizen.NewLocator
			kind  error
			field string
		}{
			"one is taken":    {[]denizen.NewLocator{denizen.Email("new@example.org"), shares}, denizen.ErrTaken, "locator"},
			"one is bad":      {[]denizen.NewLocator{denizen.Email("new@example.org"), denizen.Email("x")}, denizen.ErrInvalid, "locator"},
			"one is twice":    {[]denizen.NewLocator{denizen.Email("new@example.org"), denizen.Email("NEW@example.org")}, denizen.ErrInvalid, "locators"},
			"a status is bad": {[]denizen.NewLocator{{Locator: "email:new@example.org", Status: "0"}}, denizen.ErrInvalid, "verificationStatus"},
		} {
			u, err := h.SetLocators(ctx, sys, alice, row.list)
			requireField(t, err, row.kind, row.field)
			require.Zero(t, u, what)
			require.Equal(t, before, invariant.Of(t, h.store), what)
		}
		u, err := h.SetLocators(ctx, sys, alice, nil)
		require.NoError(t, err)
		require.Empty(t, u.Locators)
		requireOwner(t, h, "email:alice@example.org")
		invariant.Check(t, h.store)
	})
}

func TestLocators_ALocatorIsRemovedByTheUserOrTheSystem(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		u := h.create(t, alice, shares, denizen.Tele("+14155550132"))
		h.create(t, bob)
		requireField(t, h.RemoveLocator(ctx, sys, alice, "no such id"), denizen.ErrNotFound, "locator")
		requireField(t, h.RemoveLocator(ctx, sys, bob, u.Locators[0].ID), denizen.ErrNotFound, "locator")
		require.ErrorIs(t, h.RemoveLocator(ctx, h.as(t, bob), alice, u.Locators[0].ID), denizen.ErrDenied)
		require.NoError(t, h.RemoveLocator(ctx, h.as(t, alice), alice, u.Locators[0].ID))
		require.NoError(t, h.RemoveLocator(ctx, sys, alice, u.Locators[1].ID))
		requireOwner(t, h, address)
		_, err := h.Locator(ctx, sys, alice, u.Locators[0].ID)
		requireField(t, err, denizen.ErrNotFound, "locator")
		h.create(t, "carol-01", shares)
		invariant.Check(t, h.store)
	})
}

func TestLocators_RemovingAClaimTakesNothingFromTheOwner(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, bob, shares)
		h.create(t, alice)
		for _, end := range []func(denizen.LocatorID) error{
			func(id denizen.LocatorID) error { return h.RemoveLocator(ctx, h.as(t, alice), alice, id) },
			func(denizen.LocatorID) error { _, err := h.SetLocators(ctx, sys, alice, nil); return err },
			func(denizen.LocatorID) error { return h.DeleteUser(ctx, sys, alice) },
		} {
			claim, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
			require.NoError(t, err)
			require.NoError(t, end(claim.ID))
			requireOwner(t, h, address, bob)
		}
		invariant.Check(t, h.store)
	})
}

func TestLocators_ALocatorRemovedAndAddedAgainIsAnother(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.create(t, alice, shares).Locators[0].ID
		require.NoError(t, h.RemoveLocator(ctx, sys, alice, id))
		l, err := h.AddLocator(ctx, sys, alice, shares)
		require.NoError(t, err)
		require.NotEqual(t, id, l.ID)
	})
}

// A number that was good when it was added may be called invalid by the numbering plans of
// today. Such a one is put into the store as an earlier release would have.
const outdated = "+10000000000"

func withOutdated(t testing.TB, h *house) denizen.User {
	t.Helper()
	ctx := context.Background()
	_, _, err := denizen.ParseLocator("tele:" + outdated)
	require.ErrorIs(t, err, denizen.ErrInvalid, "the number is good by now: choose another")
	h.create(t, alice, denizen.Tele("+14155550132"))
	found, err := h.store.Get(ctx, record.UserKey(string(alice)))
	require.NoError(t, err)
	value, err := record.Decode(found[0].Key, found[0].Value)
	require.NoError(t, err)
	user := value.(*record.User)
	l := &user.Locators[0]
	was := record.OwnerKey("tele:" + l.Canonical)
	l.Canonical, l.Raw = outdated, "+1 000 000 0000"
	require.NoError(t, h.Close(), "or it remembers what there was")
	_, err = h.store.Commit(ctx, store.Batch{
		Drop: []store.Key{was},
		Put: []store.Record{
			{Key: record.UserKey(string(alice)), Value: record.Encode(user)},
			{Key: record.OwnerKey("tele:" + outdated), Value: record.Encode(&record.Owner{Locator: "tele:" + outdated, User: user.ID, Incarnation: user.Incarnation})},
		},
	})
	require.NoError(t, err)
	h.Directory = newOver(t, h.store, denizen.Options{})
	invariant.Check(t, h.store)
	u, err := h.User(ctx, sys, alice)
	require.NoError(t, err)
	return u
}

func TestLocators_ANumberThatPlansNoLongerKnowIsStillFound(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		withOutdated(t, h)
		requireOwner(t, h, "tele:+1 (000) 000-0000", alice)
		id, err := h.ResolveUser(t.Context(), sys, "tele:"+outdated)
		require.NoError(t, err)
		require.Equal(t, alice, id)
		id, err = h.ResolveUser(t.Context(), h.as(t, alice), "tele:"+outdated)
		require.NoError(t, err)
		require.Equal(t, alice, id)
	})
}

func TestLocators_ANumberThatPlansNoLongerKnowIsKeptByWhoHasIt(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		u := withOutdated(t, h)
		for _, by := range []denizen.Principal{sys, h.as(t, alice)} {
			l, err := h.AddLocator(ctx, by, alice, denizen.Tele(outdated))
			require.NoError(t, err)
			require.Equal(t, u.Locators[0], l)
		}
		set, err := h.SetLocators(ctx, sys, alice, []denizen.NewLocator{denizen.Email("alice@example.org"), denizen.Tele("+1-000-000-0000")})
		require.NoError(t, err)
		require.Equal(t, u.Locators[0], set.Locators[1])
		_, err = h.SetVerification(ctx, sys, alice, u.Locators[0].ID, denizen.Verified)
		require.NoError(t, err)
		h.create(t, bob)
		for _, by := range []denizen.Principal{sys, h.as(t, bob)} {
			_, err = h.AddLocator(ctx, by, bob, denizen.Tele(outdated))
			requireField(t, err, denizen.ErrInvalid, "locator") // to anybody else it is a new one
		}
		require.NoError(t, h.RemoveLocator(ctx, sys, alice, u.Locators[0].ID))
		invariant.Check(t, h.store)
	})
}

// A key that names a user who does not own it is as no key: a reader may see it between
// two reads of a store that others write to.
func TestLocators_ALookUpChecksThatTheUserOwnsTheLocator(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		a := h.create(t, alice)
		_, err := h.AddLocator(ctx, h.as(t, alice), alice, shares)
		require.NoError(t, err)
		for _, o := range []record.Owner{
			{Locator: address, User: string(alice), Incarnation: a.InternalID}, // a claim
			{Locator: address, User: "nobody-1", Incarnation: a.InternalID},
		} {
			_, err := h.store.Commit(ctx, store.Batch{Put: []store.Record{{Key: record.OwnerKey(address), Value: record.Encode(&o)}}})
			require.NoError(t, err)
			h.Directory = func() *denizen.Directory {
				require.NoError(t, h.Close())
				return newOver(t, h.store, denizen.Options{})
			}()
			requireOwner(t, h, address)
			_, err = h.ResolveUser(ctx, sys, address)
			requireField(t, err, denizen.ErrNotFound, "locator")
		}
	})
}

func TestLocators_AnInternationalisedAddressIsDeliveredToUnderItsALabel(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		l := h.create(t, alice, denizen.Email("Alice@M\u00fcnchen.de")).Locators[0]
		require.Equal(t, []string{"Alice@xn--mnchen-3ya.de", "Alice@M\u00fcnchen.de", "alice@xn--mnchen-3ya.de", "email:Alice@xn--mnchen-3ya.de"},
			[]string{l.Address, l.Raw, l.Canonical, l.String()})
		for _, spelling := range []string{l.String(), "email:alice@mu\u0308nchen.de", "email:ALICE@M\u00dcNCHEN.DE"} {
			requireOwner(t, h, spelling, alice)
		}
		h.create(t, bob)
		_, err := h.AddLocator(t.Context(), sys, bob, denizen.Email("alice@XN--MNCHEN-3YA.de"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(t.Context(), sys, bob, denizen.Email("andr\u00e9@example.org"))
		requireField(t, err, denizen.ErrInvalid, "locator")
		invariant.Check(t, h.store)
	})
}

func TestLocators_OfManyWhoTakeALocatorAtOnceOneWins(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		errs := atOnce(64, func(i int) error {
			_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
				ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email("one@example.org"), denizen.Email(fmt.Sprintf("%d@example.org", i))},
			})
			return err
		})
		require.Equal(t, 1, count(errs, nil))
		require.Equal(t, 63, count(errs, denizen.ErrTaken))
		n, err := d.CountUsers(t.Context(), denizen.System())
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

func TestLocators_RevealingOneIsAnEvent(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		u := h.create(t, alice, denizen.Email("alice@example.org"))
		l, err := h.RevealLocator(t.Context(), ada, alice, u.Locators[0].ID)
		require.NoError(t, err)
		require.Equal(t, u.Locators[0], l)
		events := eventsAfter(t, h.Directory, 0)
		e := events[len(events)-1]
		require.Equal(t, []any{denizen.EventLocatorRevealed, "ada", alice, []string{string(l.ID)}}, []any{e.Kind, e.Operator, e.User, e.Subjects})
		after, err := h.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, u, after, "nothing of the user changed")

		_, err = h.RevealLocator(t.Context(), ada, alice, "no-such-locator")
		requireField(t, err, denizen.ErrNotFound, "locator")
		_, err = h.RevealLocator(t.Context(), ada, bob, l.ID)
		requireField(t, err, denizen.ErrNotFound, "user")
		require.Len(t, eventsAfter(t, h.Directory, 0), len(events))
	})
}

// Whoever cannot be recorded is shown nothing.
func TestLocators_NoneIsRevealedThatIsNotRecorded(t *testing.T) {
	s := &refusing{Store: memory.New()}
	h := &house{newOver(t, s, denizen.Options{}), s}
	u := h.create(t, alice, denizen.Email("alice@example.org"))
	s.set(func() error { return store.ErrUnavailable })
	l, err := h.RevealLocator(t.Context(), ada, alice, u.Locators[0].ID)
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	require.Zero(t, l)
}
