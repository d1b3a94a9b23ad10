package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// ruled returns the options of a process that has another version of the rule of handles, whose
// forms are those of the table, or else the name itself. A name without a canonical form is refused.
func ruled(version int, forms map[string]denizen.LocatorForms) denizen.Options {
	r := handles()
	r.Version, r.PerUser = version, 3
	r.Canonical = func(s string) (denizen.LocatorForms, error) {
		f, ok := forms[s]
		switch {
		case !ok:
			f = denizen.LocatorForms{Canonical: s, Unique: s}
		case f.Canonical == "":
			return f, &denizen.Error{Kind: denizen.ErrInvalid, Reason: "is no name any more"}
		}
		return f, nil
	}
	return denizen.Options{LocatorTypes: []denizen.LocatorRule{r}}
}

// inRulings runs a test in virtual time over stores that can be opened by one version of a rule
// after the other. The opened directories of a shared store stay open.
func inRulings(t *testing.T, test func(t *testing.T, s store.Store, open func(denizen.Options) *house)) {
	t.Helper()
	over := func(s store.Store, one bool) func(t *testing.T) func(denizen.Options) *house {
		return func(t *testing.T) func(denizen.Options) *house {
			var last *denizen.Directory
			return func(o denizen.Options) *house {
				if one && last != nil {
					require.NoError(t, last.Close())
				}
				d, err := denizen.New(context.Background(), s, o)
				require.NoError(t, err)
				t.Cleanup(func() { _ = d.Close() })
				last = d
				return &house{d, s}
			}
		}
	}
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { s := memory.New(); test(t, s, over(s, true)(t)) })
	})
	t.Run("shared", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { s := shared{memory.New()}; test(t, s, over(s, false)(t)) })
	})
	t.Run("bolt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, err := bolt.Open(context.Background(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			test(t, s, over(s, true)(t))
		})
	})
}

// outcomes returns what is yielded of each locator, as "name outcome".
func outcomes(t testing.TB, seq func(yield func(denizen.LocatorChange, error) bool)) (all []string) {
	t.Helper()
	for c, err := range seq {
		require.NoError(t, err)
		all = append(all, c.Locator.Raw+" "+string(c.Outcome))
	}
	slices.Sort(all)
	return all
}

func userNo(i int) denizen.UserID { return denizen.UserID(fmt.Sprintf("user-%04d", i)) }

func TestRekey_ANewVersionOfARuleSaysWhatItBreaks(t *testing.T) {
	forms := map[string]denizen.LocatorForms{
		"moved":   {Canonical: "gone", Unique: "gone"},
		"gone":    {Canonical: "gone", Unique: "gone"},
		"refused": {},
		"first":   {Canonical: "first", Unique: "one"},
		"second":  {Canonical: "second", Unique: "one"},
		"rests":   {Canonical: "rests", Unique: "asleep"},
	}
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(ruled(2, nil))
		for i, name := range []string{"kept", "moved", "refused", "first", "second", "rests", "asleep"} {
			h.create(t, userNo(i), denizen.Email(name+"@example.org"), handle(name))
		}
		require.NoError(t, h.DeleteUser(t.Context(), sys, userNo(6)))
		require.Empty(t, outcomes(t, h.CheckLocators(t.Context(), sys)))
		h = open(ruled(3, forms))
		want := []string{"first kept", "kept kept", "moved changed", "refused refused", "rests collides", "second collides"}
		before := invariant.Of(t, s)
		require.Equal(t, want, outcomes(t, h.CheckLocators(t.Context(), sys)))
		require.Equal(t, before, invariant.Of(t, s), "looking changes nothing")

		// As it was stored, each is shown, owned and in nobody else's reach.
		requireOwner(t, h, "handle:kept", userNo(0))
		requireOwner(t, h, "handle:moved") // which asks for gone
		requireOwner(t, h, "handle:first", userNo(3))
		_, err := h.UsersByLocator(t.Context(), sys, []string{"handle:refused"})
		requireField(t, err, denizen.ErrInvalid, "locator")
		for i, name := range []string{"kept", "moved", "refused"} {
			u, err := h.User(t.Context(), sys, userNo(i))
			require.NoError(t, err)
			require.Equal(t, "handle:"+name, u.Locators[1].String())
			require.Equal(t, 2, u.Locators[1].RuleVersion)
			_, err = h.SetLocators(t.Context(), sys, u.ID, asNew(u.Locators), u.Version)
			require.NoError(t, err)
			same, err := h.User(t.Context(), sys, userNo(i))
			require.NoError(t, err)
			require.Equal(t, u, same, "a list that is set as it was read changes nothing")
		}

		after := head(t, h)
		require.Equal(t, want, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		require.Equal(t, []denizen.EventKind{denizen.EventLocatorsSet}, eventKinds(t, h, after), "of what changed for others")
		invariant.Check(t, s)
		requireOwner(t, h, "handle:gone", userNo(1))
		requireOwner(t, h, "handle:moved", userNo(1))
		u, err := h.User(t.Context(), sys, userNo(0))
		require.NoError(t, err)
		require.Equal(t, 3, u.Locators[1].RuleVersion)
		_, err = h.AddLocator(t.Context(), sys, userNo(0), handle("one"))
		requireField(t, err, denizen.ErrTaken, "locator")

		before = invariant.Of(t, s)
		left := []string{"refused refused", "rests collides", "second collides"}
		require.Equal(t, left, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		require.Equal(t, before, invariant.Of(t, s), "the second run has nothing to do")

		// What stays can be removed, and what it was unique by is free then.
		u, err = h.User(t.Context(), sys, userNo(2))
		require.NoError(t, err)
		require.NoError(t, h.RemoveLocator(t.Context(), sys, u.ID, u.Locators[1].ID))
		require.NoError(t, h.DeleteUser(t.Context(), sys, userNo(3)))
		time.Sleep(25 * time.Hour)
		require.Equal(t, []string{"rests kept", "second kept"}, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		invariant.Check(t, s)
	})
}

func TestRekey_NamesThatChangePlacesInARowAreAllBroughtAlong(t *testing.T) {
	forms := map[string]denizen.LocatorForms{}
	for i := range 5 {
		forms[fmt.Sprint("n", i)] = denizen.LocatorForms{Canonical: fmt.Sprint("n", i), Unique: fmt.Sprint("n", i+1)}
	}
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(ruled(1, nil))
		for i := range 5 {
			h.create(t, userNo(i), handle(fmt.Sprint("n", i)))
		}
		h = open(ruled(2, forms))
		want := []string{"n0 kept", "n1 kept", "n2 kept", "n3 kept", "n4 kept"}
		require.Equal(t, want, outcomes(t, h.CheckLocators(t.Context(), sys)))
		require.Equal(t, want, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		invariant.Check(t, s)
	})
}

func TestRekey_AnOlderRuleLeavesWhatANewerOneStored(t *testing.T) {
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(ruled(2, nil))
		h.create(t, alice, handle("al"))
		h = open(ruled(1, map[string]denizen.LocatorForms{"al": {Canonical: "al", Unique: "other"}}))
		before := invariant.Of(t, s)
		require.Equal(t, []string{"al newer"}, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		require.Equal(t, before, invariant.Of(t, s))
		requireOwner(t, h, "handle:al", alice)
	})
}

func TestRekey_WhatIsOfATypeThatIsNotRegisteredIsKeptAndCanBeRemoved(t *testing.T) {
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(withNames)
		h.create(t, alice, handle("B0b"), denizen.Email("alice@example.org"))
		h = open(denizen.Options{})
		require.Equal(t, []string{"B0b unregistered"}, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		_, err := h.UsersByLocator(t.Context(), sys, []string{"handle:b0b"})
		requireField(t, err, denizen.ErrInvalid, "locator")
		u, err := h.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, "handle:B0b", u.Locators[0].String())
		set, err := h.SetLocators(t.Context(), sys, alice, asNew(u.Locators))
		require.NoError(t, err)
		require.Equal(t, u, set)
		for _, n := range []denizen.NewLocator{{Locator: "handle:b0b"}, {Locator: "handle:B0b"}} {
			set, err = h.SetLocators(t.Context(), sys, alice, []denizen.NewLocator{n, denizen.Email("alice@example.org")})
			require.NoError(t, err)
			require.Equal(t, u, set)
		}
		_, err = h.AddLocator(t.Context(), sys, alice, handle("new"))
		requireField(t, err, denizen.ErrInvalid, "locator")
		_, err = h.SetVerification(t.Context(), sys, alice, u.Locators[0].ID, denizen.Verified)
		requireField(t, err, denizen.ErrInvalid, "verificationStatus")
		err = h.RemoveLocator(t.Context(), h.as(t, alice), alice, u.Locators[0].ID)
		requireField(t, err, denizen.ErrDenied, "locator")
		require.NoError(t, h.RemoveLocator(t.Context(), sys, alice, u.Locators[0].ID))
		invariant.Check(t, s)
		h = open(withNames)
		h.create(t, bob, handle("bob"))
	})
}

func TestRekey_OneNameHasOneOwnerWhileTwoVersionsOfARuleRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared{memory.New()}
		// What the two take for unique differs: only the canonical form is common ground.
		versions := []*denizen.Directory{
			newOver(t, s, ruled(1, map[string]denizen.LocatorForms{"bob": {Canonical: "bob", Unique: "1"}})),
			newOver(t, s, ruled(2, map[string]denizen.LocatorForms{"bob": {Canonical: "bob", Unique: "2"}})),
		}
		errs := atOnce(64, func(i int) error {
			_, err := versions[i%2].CreateUser(context.Background(), sys, denizen.NewUser{ScreenName: "B", Locators: []denizen.NewLocator{handle("bob")}})
			return err
		})
		require.Equal(t, 1, count(errs, nil))
		require.Equal(t, 63, count(errs, denizen.ErrTaken))
		invariant.Check(t, s)
	})
}

func TestRekey_RacesWithWhoRenamesAndWithItself(t *testing.T) {
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(ruled(1, nil))
		for i := range 40 {
			h.create(t, userNo(i), handle(fmt.Sprint("name", i)))
		}
		old := h.Directory
		h = open(ruled(2, map[string]denizen.LocatorForms{"name7": {}, "name8": {Canonical: "name8", Unique: "name9"}}))
		if _, sole := s.(store.Sole); sole {
			old = h.Directory
		}
		var work []func() error
		for range 4 {
			work = append(work, func() error { return drained(h.RekeyLocators(context.Background(), sys)) })
		}
		for i := range 40 {
			work = append(work, func() error {
				u, err := old.User(context.Background(), sys, userNo(i))
				if err == nil {
					_, err = old.ReplaceLocator(context.Background(), sys, u.ID, u.Locators[0].ID, handle(fmt.Sprint("name", i, "-")))
				}
				return err
			})
		}
		for _, err := range atOnce(len(work), func(i int) error { return work[i]() }) {
			if !errors.Is(err, denizen.ErrConflict) {
				require.NoError(t, err)
			}
		}
		invariant.Check(t, s)
		require.NoError(t, drained(h.RekeyLocators(context.Background(), sys)))
		for _, o := range outcomes(t, h.CheckLocators(context.Background(), sys)) {
			require.False(t, strings.HasSuffix(o, " kept") || strings.HasSuffix(o, " changed"), o)
		}
		invariant.Check(t, s)
	})
}

func TestRekey_IsTheSystemsAloneAndEndsWhereItIsLeft(t *testing.T) {
	inRulings(t, func(t *testing.T, s store.Store, open func(denizen.Options) *house) {
		h := open(ruled(1, nil))
		for i := range 3 {
			h.create(t, userNo(i), handle(fmt.Sprint("name", i)))
		}
		h = open(ruled(2, nil))
		err := drained(h.RekeyLocators(t.Context(), h.as(t, userNo(0))))
		require.ErrorIs(t, err, denizen.ErrDenied)
		require.ErrorContains(t, err, "RekeyLocators")
		for range h.RekeyLocators(t.Context(), sys) {
			break
		}
		require.Equal(t, []string{"name1 kept", "name2 kept"}, outcomes(t, h.RekeyLocators(t.Context(), sys)))
		u, err := h.User(t.Context(), sys, userNo(1))
		require.NoError(t, err)
		require.Equal(t, u.CreatedAt, u.UpdatedAt)
	})
}
