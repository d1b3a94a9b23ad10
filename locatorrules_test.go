package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store/memory"
)

// handles is a type of names that users take for themselves: unique without case, and with 0 and o
// taken for each other. One that was left rests for a day.
func handles() denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: "handle", Version: 1, Self: true, Rest: 24 * time.Hour,
		Canonical: func(s string) (denizen.LocatorForms, error) {
			if strings.Contains(s, " ") {
				return denizen.LocatorForms{}, &denizen.Error{Kind: denizen.ErrInvalid, Field: "handle", Reason: "holds a space"}
			}
			s = strings.ToLower(s)
			return denizen.LocatorForms{Canonical: s, Unique: strings.ReplaceAll(s, "0", "o")}, nil
		},
		Check: func(s string) error {
			if s == "admin" {
				return errors.New("admin is reserved")
			}
			return nil
		},
	}
}

// staff is a type that .system alone gives, several to a user, and vouches for.
func staff() denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: "staff-no", Version: 3, PerUser: 2, Vouched: true,
		Canonical: func(s string) (denizen.LocatorForms, error) { return denizen.LocatorForms{Canonical: s}, nil },
	}
}

var withNames = denizen.Options{LocatorTypes: []denizen.LocatorRule{handles(), staff()}}

func handle(name string) denizen.NewLocator { return denizen.NewLocator{Locator: "handle:" + name} }

// drained returns the first error of a range.
func drained[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestLocatorRules_AreJudgedAtOnce(t *testing.T) {
	with := func(change func(*denizen.LocatorRule)) []denizen.LocatorRule {
		r := handles()
		change(&r)
		return []denizen.LocatorRule{r}
	}
	many := make([]denizen.LocatorRule, 17)
	for i := range many {
		many[i] = handles()
		many[i].Type += denizen.LocatorType(fmt.Sprint("-", i))
	}
	for name, rules := range map[string][]denizen.LocatorRule{
		"no type":        with(func(r *denizen.LocatorRule) { r.Type = "" }),
		"a long type":    with(func(r *denizen.LocatorRule) { r.Type = denizen.LocatorType(strings.Repeat("a", 33)) }),
		"upper case":     with(func(r *denizen.LocatorRule) { r.Type = "Handle" }),
		"a digit first":  with(func(r *denizen.LocatorRule) { r.Type = "1st" }),
		"a colon":        with(func(r *denizen.LocatorRule) { r.Type = "a:b" }),
		"email":          with(func(r *denizen.LocatorRule) { r.Type = denizen.TypeEmail }),
		"tele":           with(func(r *denizen.LocatorRule) { r.Type = denizen.TypeTele }),
		"version 0":      with(func(r *denizen.LocatorRule) { r.Version = 0 }),
		"no Canonical":   with(func(r *denizen.LocatorRule) { r.Canonical = nil }),
		"self-vouched":   with(func(r *denizen.LocatorRule) { r.Vouched = true }),
		"17 a user":      with(func(r *denizen.LocatorRule) { r.PerUser = 17 }),
		"fewer than one": with(func(r *denizen.LocatorRule) { r.PerUser = -1 }),
		"a short rest":   with(func(r *denizen.LocatorRule) { r.Rest = time.Microsecond }),
		"a past rest":    with(func(r *denizen.LocatorRule) { r.Rest = -time.Hour }),
		"one type twice": {handles(), handles()},
		"seventeen":      many,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := denizen.New(t.Context(), memory.New(), denizen.Options{LocatorTypes: rules})
			requireField(t, err, denizen.ErrInvalid, "LocatorTypes")
		})
	}
	d, err := denizen.New(t.Context(), memory.New(), denizen.Options{LocatorTypes: many[:16]})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

func TestLocatorRules_ANameIsTheUsersOwnAtOnceAndFoundByItsCanonicalForm(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice)
		after := head(t, h)
		added, err := h.AddLocator(t.Context(), h.as(t, alice), alice, handle("B0b"))
		require.NoError(t, err)
		require.True(t, added.Owned)
		require.Equal(t, denizen.LocatorType("handle"), added.Type)
		require.Equal(t, [3]string{"handle:B0b", "B0b", "b0b"}, [3]string{added.String(), added.Raw, added.Canonical})
		require.Equal(t, denizen.VerificationNotApplicable, added.Status)
		require.Equal(t, 1, added.RuleVersion)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorAdded}, eventKinds(t, h, after))
		requireOwner(t, h, "handle:b0b", alice)
		requireOwner(t, h, "handle:B0B", alice)
		requireOwner(t, h, "handle:bob") // a name that looks like it finds nobody
		again, err := h.AddLocator(t.Context(), h.as(t, alice), alice, handle("b0B"))
		require.NoError(t, err)
		require.Equal(t, added, again)
		me, err := h.ResolveUser(t.Context(), h.as(t, alice), "handle:b0b")
		require.NoError(t, err)
		require.Equal(t, alice, me)
		_, err = h.ResolveUser(t.Context(), h.as(t, alice), "handle:bob")
		require.ErrorIs(t, err, denizen.ErrDenied)
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_ANameThatLooksLikeAnotherIsTaken(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, handle("b0b"))
		h.create(t, bob)
		_, err := h.AddLocator(t.Context(), h.as(t, bob), bob, handle("BOB"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "C", Locators: []denizen.NewLocator{denizen.Email("c@example.org"), handle("bob")}})
		requireField(t, err, denizen.ErrTaken, "locator")
		require.Equal(t, []string{"handle:bob"}, err.(*denizen.Error).Missing)
		require.NotContains(t, err.Error(), "bob")
		_, err = h.SetLocators(t.Context(), sys, bob, []denizen.NewLocator{handle("bob")})
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(t.Context(), sys, bob, denizen.NewLocator{Locator: "staff-no:bob"}) // another type is another name
		require.NoError(t, err)
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_ARuleSaysWhoMayAddItsLocatorsAndHowMany(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, handle("al"))
		byAlice := h.as(t, alice)
		_, err := h.AddLocator(t.Context(), byAlice, alice, denizen.NewLocator{Locator: "staff-no:7"})
		requireField(t, err, denizen.ErrDenied, "locator")
		_, err = h.AddLocator(t.Context(), byAlice, alice, handle("ally"))
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.AddLocator(t.Context(), sys, alice, handle("ally"))
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{handle("al"), handle("ally")})
		requireField(t, err, denizen.ErrLimited, "locators")
		_, err = h.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "C", Locators: []denizen.NewLocator{handle("c"), handle("d")}})
		requireField(t, err, denizen.ErrLimited, "locators")
		seven, err := h.AddLocator(t.Context(), sys, alice, denizen.NewLocator{Locator: "staff-no:7"})
		require.NoError(t, err)
		require.Equal(t, denizen.Verified, seven.Status)
		_, err = h.AddLocator(t.Context(), sys, alice, denizen.NewLocator{Locator: "staff-no:8", Status: denizen.Unverified})
		require.NoError(t, err)
		err = h.RemoveLocator(t.Context(), byAlice, alice, seven.ID)
		requireField(t, err, denizen.ErrDenied, "locator")
		require.NoError(t, h.RemoveLocator(t.Context(), sys, alice, seven.ID))
		requireOwner(t, h, "staff-no:7") // without a rest it is free at once
		h.create(t, bob, denizen.NewLocator{Locator: "staff-no:7"})
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_NamesCountAgainstTheLocatorsOfAUser(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		var full []denizen.NewLocator
		for i := range denizen.MaxLocators {
			full = append(full, denizen.Email(fmt.Sprintf("%d@example.org", i)))
		}
		h.create(t, alice, full...)
		_, err := h.AddLocator(t.Context(), h.as(t, alice), alice, handle("al"))
		requireField(t, err, denizen.ErrLimited, "locators")
	})
}

func TestLocatorRules_OnlyAVouchedTypeHasOtherStatuses(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("al"), denizen.NewLocator{Locator: "staff-no:7"})
		_, err := h.SetVerification(t.Context(), sys, alice, u.Locators[0].ID, denizen.Verified)
		requireField(t, err, denizen.ErrInvalid, "verificationStatus")
		_, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{{Locator: "handle:al", Status: denizen.Verified}})
		requireField(t, err, denizen.ErrInvalid, "verificationStatus")
		_, err = h.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "B", Locators: []denizen.NewLocator{{Locator: "handle:bob", Status: denizen.Verified}}})
		requireField(t, err, denizen.ErrInvalid, "verificationStatus")
		_, err = h.SetVerification(t.Context(), sys, alice, u.Locators[1].ID, denizen.Unverified)
		require.NoError(t, err)
	})
}

func TestLocatorRules_WhatARuleRefusesIsRefusedWithoutTheLocator(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice)
		byAlice := h.as(t, alice)
		for name, reason := range map[string]string{
			"al ice":                 "holds a space",
			"":                       "must be 1 to 768 bytes",
			strings.Repeat("a", 769): "must be 1 to 768 bytes",
			"al\x00ice":              "must be 1 to 768 bytes",
			"al\u0085ice":            "must be 1 to 768 bytes",
			"al\xffice":              "must be 1 to 768 bytes",
			"admin":                  "is refused by the rule of its type",
			"Admin":                  "is refused by the rule of its type",
		} {
			_, err := h.AddLocator(t.Context(), byAlice, alice, handle(name))
			requireField(t, err, denizen.ErrInvalid, "locator")
			require.Contains(t, err.Error(), reason)
			require.NotContains(t, err.Error(), "admin")
		}
		_, err := h.AddLocator(t.Context(), byAlice, alice, denizen.NewLocator{Locator: "handle:admin", Override: true})
		requireField(t, err, denizen.ErrInvalid, "locator") // a user overrides nothing
		_, err = h.AddLocator(t.Context(), sys, alice, handle("admin"))
		requireField(t, err, denizen.ErrInvalid, "locator")
		requireOwner(t, h, "handle:admin") // what is refused to newcomers is looked up
		_, err = h.AddLocator(t.Context(), sys, alice, denizen.NewLocator{Locator: "handle:admin", Override: true})
		require.NoError(t, err)
		requireOwner(t, h, "handle:admin", alice)
		_, err = h.UsersByLocator(t.Context(), sys, []string{"handle:a b"})
		requireField(t, err, denizen.ErrInvalid, "locator")
		_, err = h.UsersByLocator(t.Context(), sys, []string{"nickname:ab"})
		requireField(t, err, denizen.ErrInvalid, "locator")
		_, err = h.AddLocator(t.Context(), byAlice, alice, denizen.NewLocator{Locator: "nickname:ab"})
		requireField(t, err, denizen.ErrInvalid, "locator")
	})
}

func TestLocatorRules_ARuleThatIsNotStableOrPanicsHarmsNothing(t *testing.T) {
	rule := handles()
	rule.Canonical = func(s string) (denizen.LocatorForms, error) {
		switch s {
		case "panic":
			panic("the host's")
		case "long":
			return denizen.LocatorForms{Canonical: strings.Repeat("x", 769)}, nil
		case "control":
			return denizen.LocatorForms{Canonical: "a", Unique: "\x00"}, nil
		case "empty":
			return denizen.LocatorForms{}, nil
		}
		return denizen.LocatorForms{Canonical: s + "x"}, nil
	}
	inHouses(t, denizen.Options{LocatorTypes: []denizen.LocatorRule{rule}}, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.Email("alice@example.org"))
		after := head(t, h)
		for _, name := range []string{"unstable", "long", "control", "empty"} {
			_, err := h.AddLocator(t.Context(), sys, alice, handle(name))
			requireField(t, err, denizen.ErrInvalid, "locator")
		}
		require.PanicsWithValue(t, "the host's", func() { _, _ = h.AddLocator(t.Context(), sys, alice, handle("panic")) })
		require.PanicsWithValue(t, "the host's", func() { _, _ = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{handle("panic")}) })
		require.PanicsWithValue(t, "the host's", func() { _, _ = h.Locate(t.Context(), sys, "handle:panic") })
		require.Empty(t, eventKinds(t, h, after))
		_, err := h.SetScreenName(t.Context(), sys, alice, "Alice")
		require.NoError(t, err, "nothing is held by what panicked")
	})
}

func TestLocatorRules_ANameCannotBeProved(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, handle("al"))
		for _, l := range []string{"handle:al", "handle:free", "staff-no:7"} {
			_, err := h.ProveLocator(t.Context(), sys, l, denizen.NewUser{ScreenName: "N"})
			requireField(t, err, denizen.ErrInvalid, "locator")
		}
		u, err := h.ProveLocator(t.Context(), sys, "email:n@example.org", denizen.NewUser{ScreenName: "N", Locators: []denizen.NewLocator{handle("newcomer")}})
		require.NoError(t, err)
		requireOwner(t, h, "handle:newcomer", u.ID)
	})
}

func TestLocatorRules_AVouchedLocatorShowsWhoAUserIs(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.Email("alice@example.org"), denizen.NewLocator{Locator: "staff-no:7"}, handle("al"))
		u, err := h.ProveLocator(t.Context(), sys, "email:alice@example.org", denizen.NewUser{ScreenName: "N"})
		require.NoError(t, err)
		require.NotEqual(t, alice, u.ID, "the address leaves a user who somebody else is")
		requireOwner(t, h, "staff-no:7", alice)
	})
}

func TestLocatorRules_AUserWhoPassesKeepsItsNameAndNoUnprovedIdentity(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.Email("alice@example.org"), denizen.NewLocator{Locator: "staff-no:7", Status: denizen.Unverified}, handle("al"))
		u, err := h.ProveLocator(t.Context(), sys, "email:alice@example.org", denizen.NewUser{ScreenName: "N"})
		require.NoError(t, err)
		require.Equal(t, alice, u.ID)
		requireOwner(t, h, "staff-no:7")
		requireOwner(t, h, "handle:al", alice)
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_LocateSaysWhoOwnsWhatInTheOrderAsked(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.Email("alice@example.org"), handle("al"))
		h.create(t, bob, denizen.Tele("+14155552672"))
		_, err := h.AddLocator(t.Context(), h.as(t, bob), bob, denizen.Email("claim@example.org"))
		require.NoError(t, err)
		for range 2 { // the second time from memory
			ids, err := h.Locate(t.Context(), sys, "tele:+1 415-555-2672", "email:nobody@example.org", "handle:AL", "email:alice@example.org", "email:claim@example.org")
			require.NoError(t, err)
			require.Equal(t, []denizen.UserID{bob, "", alice, alice, ""}, ids)
		}
		ids, err := h.Locate(t.Context(), sys)
		require.NoError(t, err)
		require.Empty(t, ids)
		_, err = h.Locate(t.Context(), sys, slices.Repeat([]string{"handle:al"}, denizen.MaxList+1)...)
		requireField(t, err, denizen.ErrInvalid, "locators")
		_, err = h.Locate(t.Context(), sys, "handle:al", "al")
		requireField(t, err, denizen.ErrInvalid, "locator")
		_, err = h.Locate(t.Context(), h.as(t, alice), "handle:al")
		require.ErrorIs(t, err, denizen.ErrDenied)
	})
}

func TestLocatorRules_ARenameIsOneCommitAndTheOldNameRests(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, denizen.Email("alice@example.org"), handle("al"), denizen.NewLocator{Locator: "staff-no:7"})
		h.create(t, bob)
		byAlice, byBob := h.as(t, alice), h.as(t, bob)
		after := head(t, h)
		renamed, err := h.ReplaceLocator(t.Context(), byAlice, alice, u.Locators[1].ID, handle("Lissy"))
		require.NoError(t, err)
		require.NotEqual(t, u.Locators[1].ID, renamed.ID)
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorsSet}, eventKinds(t, h, after))
		locators, err := h.Locators(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, renamed, locators[1], "it takes the place of the old one")
		requireOwner(t, h, "handle:lissy", alice)
		requireOwner(t, h, "handle:al")
		_, err = h.AddLocator(t.Context(), byBob, bob, handle("al"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(t.Context(), sys, bob, handle("al"))
		requireField(t, err, denizen.ErrTaken, "locator")
		invariant.Check(t, h.store)
		_, err = h.ReplaceLocator(t.Context(), byAlice, alice, renamed.ID, handle("al"))
		require.NoError(t, err, "its last owner comes back to it")
		requireOwner(t, h, "handle:al", alice)
		_, err = h.AddLocator(t.Context(), byBob, bob, handle("lissy"))
		requireField(t, err, denizen.ErrTaken, "locator")
		time.Sleep(24 * time.Hour)
		_, err = h.AddLocator(t.Context(), byBob, bob, handle("lissy"))
		require.NoError(t, err)
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_RestingCoversNamesThatLookAlike(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("bob"))
		h.create(t, bob)
		require.NoError(t, h.RemoveLocator(t.Context(), h.as(t, alice), alice, u.Locators[0].ID))
		_, err := h.AddLocator(t.Context(), h.as(t, bob), bob, handle("b0b"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(t.Context(), h.as(t, alice), alice, handle("b0b"))
		require.NoError(t, err)
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_ARenameToANameThatLooksAlikeKeepsItFromOthers(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("bob"))
		h.create(t, bob)
		now, err := h.ReplaceLocator(t.Context(), h.as(t, alice), alice, u.Locators[0].ID, handle("b0b"))
		require.NoError(t, err)
		requireOwner(t, h, "handle:b0b", alice)
		requireOwner(t, h, "handle:bob")
		invariant.Check(t, h.store)
		_, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{handle("B0B")})
		require.NoError(t, err)
		_, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{handle("bob")})
		require.NoError(t, err)
		invariant.Check(t, h.store)
		_, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{handle("bob"), handle("b0b")})
		requireField(t, err, denizen.ErrInvalid, "locators")
		_, err = h.AddLocator(t.Context(), h.as(t, bob), bob, handle("b0b"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_ = now
	})
}

func TestLocatorRules_ANewSpellingOfANameKeepsIt(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("alice"))
		was := u.Locators[0]
		now, err := h.ReplaceLocator(t.Context(), h.as(t, alice), alice, was.ID, handle("ALICE"))
		require.NoError(t, err)
		require.Equal(t, "handle:ALICE", now.String())
		was.Raw, was.Address = now.Raw, now.Address
		require.Equal(t, was, now)
		after := head(t, h)
		_, err = h.ReplaceLocator(t.Context(), h.as(t, alice), alice, was.ID, handle("ALICE"))
		require.NoError(t, err)
		require.Empty(t, eventKinds(t, h, after))
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_ReplacingIsRefusedWhereAddingIs(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("al"), denizen.Email("alice@example.org"), denizen.NewLocator{Locator: "staff-no:7"})
		h.create(t, bob, handle("bob"))
		byAlice := h.as(t, alice)
		for _, row := range []struct {
			by    denizen.Principal
			at    int
			to    string
			kind  error
			field string
		}{
			{byAlice, 0, "handle:b0b", denizen.ErrTaken, "locator"},
			{byAlice, 0, "handle:admin", denizen.ErrInvalid, "locator"},
			{byAlice, 0, "handle:a b", denizen.ErrInvalid, "locator"},
			{byAlice, 0, "nickname:al", denizen.ErrInvalid, "locator"},
			{byAlice, 0, "email:new@example.org", denizen.ErrDenied, "locator"},
			{byAlice, 1, "email:new@example.org", denizen.ErrDenied, "locator"},
			{byAlice, 1, "handle:lissy", denizen.ErrInvalid, "locator"},
			{byAlice, 2, "staff-no:8", denizen.ErrDenied, "locator"},
			{sys, 2, "handle:lissy", denizen.ErrInvalid, "locator"},
			{sys, 2, "email:alice@example.org", denizen.ErrInvalid, "locator"},
		} {
			_, err := h.ReplaceLocator(t.Context(), row.by, alice, u.Locators[row.at].ID, denizen.NewLocator{Locator: row.to})
			requireField(t, err, row.kind, row.field)
		}
		_, err := h.ReplaceLocator(t.Context(), byAlice, alice, "no such id", handle("lissy"))
		requireField(t, err, denizen.ErrNotFound, "locator")
		_, err = h.ReplaceLocator(t.Context(), byAlice, alice, u.Locators[0].ID, handle("lissy"), u.Version+1)
		requireField(t, err, denizen.ErrConflict, "version")
		_, err = h.ReplaceLocator(t.Context(), sys, alice, u.Locators[1].ID, denizen.Email("new@example.org"))
		require.NoError(t, err)
		requireOwner(t, h, "email:new@example.org", alice)
		requireOwner(t, h, "email:alice@example.org")
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_TheNameOfADeletedUserRestsUntilTheSystemGivesItOut(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, handle("al"), denizen.NewLocator{Locator: "staff-no:7"})
		require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		invariant.Check(t, h.store)
		h.create(t, alice) // another user of the same id inherits nothing
		_, err := h.AddLocator(t.Context(), h.as(t, alice), alice, handle("al"))
		requireField(t, err, denizen.ErrTaken, "locator")
		_, err = h.AddLocator(t.Context(), h.as(t, alice), alice, denizen.NewLocator{Locator: "handle:al", Override: true})
		requireField(t, err, denizen.ErrTaken, "locator")
		h.create(t, bob, denizen.NewLocator{Locator: "handle:al", Override: true}, denizen.NewLocator{Locator: "staff-no:7"})
		requireOwner(t, h, "handle:al", bob)
		_, err = h.AddLocator(t.Context(), sys, alice, denizen.NewLocator{Locator: "handle:al", Override: true})
		requireField(t, err, denizen.ErrTaken, "locator") // what somebody owns is given to nobody
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_AUserKeepsFewNamesFromOthers(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("name0"))
		byAlice, id := h.as(t, alice), u.Locators[0].ID
		rename := func(by denizen.Principal, to string) error {
			l, err := h.ReplaceLocator(t.Context(), by, alice, id, handle(to))
			if err == nil {
				id = l.ID
			}
			return err
		}
		for i := range 4 {
			require.NoError(t, rename(byAlice, fmt.Sprint("name", i+1)))
			time.Sleep(time.Hour)
		}
		err := rename(byAlice, "name5")
		requireField(t, err, denizen.ErrLimited, "locators")
		require.Equal(t, 20*time.Hour, err.(*denizen.Error).RetryAfter)
		err = h.RemoveLocator(t.Context(), byAlice, alice, id)
		requireField(t, err, denizen.ErrLimited, "locators")
		require.NoError(t, rename(byAlice, "name2"), "back to one that rests")
		require.NoError(t, rename(sys, "name6"))
		time.Sleep(24 * time.Hour)
		require.NoError(t, rename(byAlice, "name7"))
		invariant.Check(t, h.store)
	})
}

func TestLocatorRules_WhatRestedIsSwept(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		u := h.create(t, alice, handle("al"))
		before := keyCount(t, h.store)
		require.NoError(t, h.RemoveLocator(t.Context(), sys, alice, u.Locators[0].ID))
		require.Equal(t, before-1, keyCount(t, h.store), "two keys for one")
		time.Sleep(23 * time.Hour)
		require.Equal(t, before-1, keyCount(t, h.store))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, before-2, keyCount(t, h.store))
	})
}

func TestLocatorRules_ANameThatRestsIsKeptAsADigestOnly(t *testing.T) {
	inHouses(t, withNames, func(t *testing.T, h *house) {
		h.create(t, alice, handle("Alexandrina"))
		require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		all := invariant.Of(t, h.store)
		for _, r := range all.Records {
			require.NotContains(t, strings.ToLower(string(r.Key)+string(r.Value)), "alexandrina")
		}
		for _, c := range all.Feed.Changes {
			require.NotContains(t, strings.ToLower(string(c.Event)), "alexandrina")
		}
	})
}

func TestLocatorRules_OfManyWhoTakeNamesThatLookAlikeOneWins(t *testing.T) {
	overStores(t, withNames, func(t *testing.T, d *denizen.Directory) {
		names := []string{"oo0o", "0000", "oooo", "Oo0O"}
		users := make([]denizen.User, 64)
		for i := range users {
			users[i] = create(t, d, denizen.UserID(fmt.Sprintf("racer-%04d", i)), handle(fmt.Sprint("n", i)))
		}
		errs := atOnce(64, func(i int) error {
			if i%2 == 0 {
				_, err := d.ReplaceLocator(context.Background(), denizen.System(), users[i].ID, users[i].Locators[0].ID, handle(names[i%len(names)]))
				return err
			}
			_, err := d.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ScreenName: "R", Locators: []denizen.NewLocator{handle(names[i%len(names)])}})
			return err
		})
		require.Equal(t, 1, count(errs, nil))
		require.Equal(t, 63, count(errs, denizen.ErrTaken))
		ids, err := d.Locate(context.Background(), denizen.System(), "handle:oo0o", "handle:0000", "handle:oooo")
		require.NoError(t, err)
		require.Len(t, slices.DeleteFunc(ids, func(id denizen.UserID) bool { return id == "" }), 1)
	})
}
