package denizen_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// The users of the tests of merging: guest is merged into owner.
const (
	guest denizen.UserID = "guest-of-the-house"
	owner denizen.UserID = "owner-of-the-house"
)

// newPairOfUsers makes both users, with an attribute each and one that they both have.
func newPairOfUsers(t testing.TB, d *denizen.Directory) {
	t.Helper()
	ctx, sys := t.Context(), denizen.System()
	for _, key := range []string{"both", "of " + string(guest), "of " + string(owner)} {
		_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key})
		require.NoError(t, err)
	}
	for _, id := range []denizen.UserID{guest, owner} {
		_, err := d.CreateUser(ctx, sys, denizen.NewUser{
			ID: id, ScreenName: string(id),
			Locators: []denizen.NewLocator{{Locator: "email:" + string(id) + "@example.org", Status: denizen.Verified}},
			Attributes: []denizen.Attribute{
				{Key: "both", Value: string(id)}, {Key: "of " + string(id), Value: "x"},
			},
		})
		require.NoError(t, err)
	}
}

// merge merges guest into owner.
func merge(t testing.TB, d *denizen.Directory, policy denizen.MergePolicy) denizen.User {
	t.Helper()
	u, err := d.MergeUsers(t.Context(), denizen.System(), guest, owner, policy)
	require.NoError(t, err)
	return u
}

func TestMerge_IntoHasWhatFromHad(t *testing.T) {
	inHouses(t, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}}, func(t *testing.T, h *house) {
		ctx, sys := t.Context(), denizen.System()
		newPairOfUsers(t, h.Directory)
		before, err := h.User(ctx, sys, guest)
		require.NoError(t, err)
		name, err := h.AddLocator(ctx, sys, guest, denizen.NewLocator{Locator: "handle:guest"})
		require.NoError(t, err)
		_, err = h.AddLocator(ctx, h.as(t, guest), guest, denizen.Email("claimed@example.org"))
		require.NoError(t, err)
		_, err = h.AddLocator(ctx, h.as(t, owner), owner, denizen.Email(string(guest)+"@example.org"))
		require.NoError(t, err)
		require.NoError(t, h.SetPresence(ctx, sys, guest, denizen.Away(time.Hour).On("desk")))
		token := newToken(t, h.Directory, guest, denizen.TokenOptions{})
		by, err := h.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		kept := newToken(t, h.Directory, owner, denizen.TokenOptions{})
		time.Sleep(time.Minute)

		u := merge(t, h.Directory, denizen.MergePolicy{})
		require.Equal(t, string(owner), u.ScreenName)
		require.Equal(t, time.Now().UnixMilli(), u.UpdatedAt.UnixMilli())
		require.Len(t, u.Locators, 3, "the claim of each is gone")
		require.Equal(t, before.Locators[0], u.Locators[1], "with its id, its status and when it was verified")
		require.Equal(t, name, u.Locators[2])
		now, err := h.User(ctx, sys, owner)
		require.NoError(t, err)
		require.Equal(t, u, now)
		ids, err := h.Locate(ctx, sys, "email:"+string(guest)+"@example.org", "handle:guest")
		require.NoError(t, err)
		require.Equal(t, []denizen.UserID{owner, owner}, ids)
		_, err = h.CreateUser(ctx, sys, denizen.NewUser{ScreenName: "X", Locators: []denizen.NewLocator{{Locator: "handle:guest"}}})
		require.ErrorIs(t, err, denizen.ErrTaken, "its form is owned, too")

		as, err := h.Attributes(ctx, sys, owner, []string{"both", "of " + string(guest), "of " + string(owner)})
		require.NoError(t, err)
		require.Equal(t, string(owner), as[0].Value)
		devices, err := h.Devices(ctx, sys, owner)
		require.NoError(t, err)
		require.Len(t, devices, 1)
		require.Equal(t, "desk", devices[0].Presence.Device())
		require.Equal(t, time.Now().Add(-time.Minute).UnixMilli(), devices[0].Since.UnixMilli(), "it was not set anew")

		_, err = h.User(ctx, sys, guest)
		require.ErrorIs(t, err, denizen.ErrNotFound)
		_, err = h.Authenticate(ctx, token.Signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		require.ErrorIs(t, h.Check(ctx, by), denizen.ErrRevoked)
		_, err = h.Authenticate(ctx, kept.Signed)
		require.NoError(t, err)
		n, err := h.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		newUser(t, h.Directory, guest) // without an alias the id is free
		n, err = h.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 2, n)

		events := eventsAfter(t, h.Directory, 0)
		e := events[len(events)-2]
		require.Equal(t, []any{denizen.EventUserMerged, guest, before.InternalID, owner, []string{string(before.Locators[0].ID), string(name.ID)}},
			[]any{e.Kind, e.User, e.InternalID, e.Other, e.Subjects})
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

func TestMerge_ThePolicyDecidesWhichAttributeStays(t *testing.T) {
	for rule, want := range map[denizen.MergeRule]string{denizen.KeepInto: string(owner), denizen.TakeFrom: string(guest)} {
		overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
			newPairOfUsers(t, d)
			merge(t, d, denizen.MergePolicy{Attributes: rule})
			as, err := d.Attributes(t.Context(), denizen.System(), owner, []string{"both"})
			require.NoError(t, err)
			require.Equal(t, want, as[0].Value)
			require.ErrorIs(t, d.DropAttributeDef(t.Context(), denizen.System(), "of "+string(guest)), denizen.ErrConflict, "it is in use")
		})
	}
}

func TestMerge_AttributesThatAreTheSameAreNoConflict(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newPairOfUsers(t, d)
	_, err := d.SetAttribute(t.Context(), denizen.System(), guest, denizen.Attribute{Key: "both", Value: string(owner)})
	require.NoError(t, err)
	merge(t, d, denizen.MergePolicy{Attributes: denizen.RefuseConflicts})
}

func TestMerge_OfTwoDevicesWithOneNameTheOneSetLaterStays(t *testing.T) {
	inVirtualTime(t, denizen.Options{HeartbeatInterval: time.Hour}, func(t *testing.T, d *denizen.Directory) {
		ctx, sys := t.Context(), denizen.System()
		newPairOfUsers(t, d)
		set := func(user denizen.UserID, p denizen.Presence) {
			require.NoError(t, d.SetPresence(ctx, sys, user, p))
			time.Sleep(time.Second)
		}
		beat := denizen.Online(time.Minute).On("phone")
		set(guest, beat)
		set(guest, denizen.Away(time.Minute))
		set(guest, denizen.Away(time.Second).On("over"))
		set(owner, denizen.Sleeping(time.Minute))
		set(owner, denizen.Sleeping(time.Minute).On("phone"))
		set(guest, beat) // a heartbeat, which is in memory alone
		merge(t, d, denizen.MergePolicy{})
		devices, err := d.Devices(ctx, sys, owner)
		require.NoError(t, err)
		require.Len(t, devices, 2)
		require.Equal(t, denizen.StateSleeping, devices[0].Presence.State())
		require.True(t, beat.Equal(devices[1].Presence))
		require.Equal(t, time.Now().Add(59*time.Second).UnixMilli(), devices[1].Until.UnixMilli(), "from the heartbeat on")
	})
}

// overflows are what would be too much for owner, and how it is refused.
var overflows = []struct {
	name  string
	fill  func(t *testing.T, d *denizen.Directory)
	want  denizen.Error
	about string // what Missing holds, "" for nothing
}{
	{"locators", func(t *testing.T, d *denizen.Directory) {
		for i := range denizen.MaxLocators - 1 {
			_, err := d.AddLocator(t.Context(), denizen.System(), owner, denizen.Email(fmt.Sprintf("%d@example.org", i)))
			require.NoError(t, err)
		}
	}, denizen.Error{Kind: denizen.ErrLimited, Field: "locators"}, "email:" + string(guest) + "@example.org"},
	{"locators of a type", func(t *testing.T, d *denizen.Directory) {
		for _, user := range []denizen.UserID{guest, owner} {
			_, err := d.AddLocator(t.Context(), denizen.System(), user, denizen.NewLocator{Locator: "handle:" + string(user[:5])})
			require.NoError(t, err)
		}
	}, denizen.Error{Kind: denizen.ErrLimited, Field: "locators"}, "handle:guest"},
	{"attributes", func(t *testing.T, d *denizen.Directory) {
		for i := range 4 {
			key := fmt.Sprint("long ", i)
			_, err := d.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: key})
			require.NoError(t, err)
			a := denizen.Attribute{Key: key, Value: strings.Repeat("x", denizen.MaxAttributeBytes-100*(i/3))}
			if i == 3 {
				a.Value = a.Value[:denizen.MaxAttributeBytes-400]
			}
			_, err = d.SetAttribute(t.Context(), denizen.System(), []denizen.UserID{owner, guest}[i%2], a)
			require.NoError(t, err)
		}
		_, err := d.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "more"})
		require.NoError(t, err)
		_, err = d.SetAttribute(t.Context(), denizen.System(), guest, denizen.Attribute{Key: "more", Value: strings.Repeat("x", 1000)})
		require.NoError(t, err)
	}, denizen.Error{Kind: denizen.ErrLimited, Field: "attributes"}, ""},
	{"attributes that differ", func(*testing.T, *denizen.Directory) {}, denizen.Error{Kind: denizen.ErrTaken, Field: "attribute"}, "both"},
	{"presence", func(t *testing.T, d *denizen.Directory) {
		for i := range 8 {
			for _, user := range []denizen.UserID{guest, owner} {
				p := denizen.State(strings.Repeat("long", 32), time.Hour).Then(denizen.State(strings.Repeat("name", 32), time.Hour))
				require.NoError(t, d.SetPresence(t.Context(), denizen.System(), user, p.Then(p).On(fmt.Sprint(user, i))))
			}
		}
	}, denizen.Error{Kind: denizen.ErrLimited, Field: "presence"}, ""},
	{"aliases", func(t *testing.T, d *denizen.Directory) {
		for i := range denizen.MaxAliases {
			id := denizen.UserID(fmt.Sprintf("alias-%02d", i))
			newUser(t, d, id)
			_, err := d.MergeUsers(t.Context(), denizen.System(), id, owner, denizen.MergePolicy{Alias: denizen.Forever})
			require.NoError(t, err)
		}
	}, denizen.Error{Kind: denizen.ErrLimited, Field: "aliases"}, ""},
}

func TestMerge_WhatWouldOverflowIsRefusedByName(t *testing.T) {
	for _, o := range overflows {
		t.Run(o.name, func(t *testing.T) {
			s := memory.New()
			d := newOver(t, s, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}})
			newPairOfUsers(t, d)
			o.fill(t, d)
			before := invariant.Of(t, s)
			policy := denizen.MergePolicy{Alias: denizen.Forever}
			if o.want.Kind == denizen.ErrTaken {
				policy.Attributes = denizen.RefuseConflicts
			}
			_, err := d.MergeUsers(t.Context(), denizen.System(), guest, owner, policy)
			e, ok := errors.AsType[*denizen.Error](err)
			require.True(t, ok, "%v", err)
			requireField(t, err, o.want.Kind, o.want.Field)
			require.Equal(t, o.about, strings.Join(e.Missing, ","))
			require.Equal(t, before, invariant.Of(t, s))
		})
	}
}

func TestMerge_PairsThatMakeNoUserAreRefused(t *testing.T) {
	blocked := func(t *testing.T, d *denizen.Directory, id denizen.UserID) {
		_, err := d.BlockUser(t.Context(), denizen.System(), id, denizen.Block{})
		require.NoError(t, err)
	}
	for _, r := range []struct {
		name       string
		from, into denizen.UserID
		policy     denizen.MergePolicy
		block      denizen.UserID
		kind       error
		field      string
		missing    string
	}{
		{"a user and itself", owner, owner, denizen.MergePolicy{}, "", denizen.ErrInvalid, "into", ""},
		{".system", ".system", owner, denizen.MergePolicy{}, "", denizen.ErrInvalid, "user", ""},
		{".anonymous", ".anonymous", owner, denizen.MergePolicy{}, "", denizen.ErrInvalid, "user", ""},
		{"into .system", guest, ".system", denizen.MergePolicy{}, "", denizen.ErrInvalid, "into", ""},
		{"nobody", absent, owner, denizen.MergePolicy{}, "", denizen.ErrNotFound, "user", string(absent)},
		{"into nobody", guest, absent, denizen.MergePolicy{}, "", denizen.ErrNotFound, "user", string(absent)},
		{"who is blocked", guest, owner, denizen.MergePolicy{}, guest, denizen.ErrDenied, "user", string(guest)},
		{"into who is blocked", guest, owner, denizen.MergePolicy{}, owner, denizen.ErrDenied, "user", string(owner)},
		{"no rule", guest, owner, denizen.MergePolicy{Attributes: 3}, "", denizen.ErrInvalid, "attributes", ""},
		{"no time", guest, owner, denizen.MergePolicy{Alias: -1}, "", denizen.ErrInvalid, "alias", ""},
		{"too short a time", guest, owner, denizen.MergePolicy{Alias: 1}, "", denizen.ErrInvalid, "alias", ""},
		{"too long a time", guest, owner, denizen.MergePolicy{Alias: 20 * 365 * 24 * time.Hour}, "", denizen.ErrInvalid, "alias", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := memory.New()
			d := newOver(t, s, denizen.Options{})
			newPairOfUsers(t, d)
			if r.block != "" {
				blocked(t, d, r.block)
			}
			before := invariant.Of(t, s)
			_, err := d.MergeUsers(t.Context(), denizen.System(), r.from, r.into, r.policy)
			requireField(t, err, r.kind, r.field)
			e, _ := errors.AsType[*denizen.Error](err)
			require.Equal(t, r.missing, strings.Join(e.Missing, ","))
			require.Equal(t, before, invariant.Of(t, s))
		})
	}
}

func TestMerge_DamageIsNamed(t *testing.T) {
	for how, damage := range damages {
		t.Run(how, func(t *testing.T) {
			for _, id := range []denizen.UserID{guest, owner} {
				for name, key := range map[string]store.Key{"user": record.UserKey(string(id)), "profile": record.ProfileKey(string(id))} {
					s := newDamaging()
					d := newOver(t, s, denizen.Options{})
					newPairOfUsers(t, d)
					damage(t, s, key)
					_, err := d.MergeUsers(t.Context(), denizen.System(), guest, owner, denizen.MergePolicy{})
					requireField(t, err, denizen.ErrCorrupt, "user")
					e, _ := errors.AsType[*denizen.Error](err)
					require.Equal(t, []string{string(id)}, e.Missing, name)
				}
			}
		})
	}
}

func TestMerge_DamagedPresenceAndTokensAreNoObstacle(t *testing.T) {
	for how, damage := range damages {
		t.Run(how, func(t *testing.T) {
			s := newDamaging()
			d := newOver(t, s, denizen.Options{})
			newPairOfUsers(t, d)
			for _, user := range []denizen.UserID{guest, owner} {
				require.NoError(t, d.SetPresence(t.Context(), denizen.System(), user, denizen.Online().On(string(user))))
			}
			token := newToken(t, d, guest, denizen.TokenOptions{})
			damage(t, s, record.TokensKey(string(guest)), record.DevicesKey(string(owner)))
			merge(t, d, denizen.MergePolicy{})
			_, err := d.Authenticate(t.Context(), token.Signed)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			devices, err := d.Devices(t.Context(), denizen.System(), owner)
			require.NoError(t, err)
			require.Len(t, devices, 1)
		})
	}
}

// A guest is a user without locators.
func TestMerge_AGuestWhoProvesALocatorKeepsEverything(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx, sys := t.Context(), denizen.System()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "basket"})
		require.NoError(t, err)
		was, err := h.CreateUser(ctx, sys, denizen.NewUser{ScreenName: "Guest", Attributes: []denizen.Attribute{{Key: "basket", Value: "three eggs"}}})
		require.NoError(t, err)
		token := newToken(t, h.Directory, was.ID, denizen.TokenOptions{})
		by, err := h.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		require.NoError(t, h.SetPresence(ctx, by, was.ID, denizen.Online()))
		claim, err := h.AddLocator(ctx, by, was.ID, denizen.Email("guest@example.org"))
		require.NoError(t, err)
		require.False(t, claim.Owned)

		proved, err := h.SetVerification(ctx, sys, was.ID, claim.ID, denizen.Verified)
		require.NoError(t, err)
		require.True(t, proved.Owned)
		require.NoError(t, h.Check(ctx, by), "its token lives")
		u, err := h.ProveLocator(ctx, sys, "email:guest@example.org", denizen.NewUser{ScreenName: "Somebody new"})
		require.NoError(t, err)
		require.Equal(t, was.InternalID, u.InternalID, "who signs in by it is the same user")
		require.NoError(t, h.Check(ctx, by))
		as, err := h.Attributes(ctx, by, was.ID, []string{"basket"})
		require.NoError(t, err)
		require.Equal(t, "three eggs", as[0].Value)
		p, err := h.Presence(ctx, by, was.ID)
		require.NoError(t, err)
		require.Equal(t, denizen.StateOnline, p.Presence.State())
	})
}

func TestMerge_AMovedLocatorKeepsItsIDAndItsStatus(t *testing.T) {
	inHouses(t, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}}, func(t *testing.T, h *house) {
		ctx, sys := t.Context(), denizen.System()
		newPairOfUsers(t, h.Directory)
		name, err := h.AddLocator(ctx, sys, guest, denizen.NewLocator{Locator: "handle:guest"})
		require.NoError(t, err)
		was, err := h.Locators(ctx, sys, guest)
		require.NoError(t, err)
		claim, err := h.AddLocator(ctx, h.as(t, owner), owner, denizen.Email(was[0].Address))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		for _, l := range []denizen.Locator{was[0], name} {
			moved, err := h.MoveLocator(ctx, sys, guest, l.ID, owner)
			require.NoError(t, err)
			require.Equal(t, l, moved)
			ids, err := h.Locate(ctx, sys, l.String())
			require.NoError(t, err)
			require.Equal(t, []denizen.UserID{owner}, ids)
		}
		u, err := h.User(ctx, sys, owner)
		require.NoError(t, err)
		require.Len(t, u.Locators, 3)
		require.Equal(t, []denizen.Locator{was[0], name}, u.Locators[1:])
		require.Equal(t, time.Now().UnixMilli(), u.UpdatedAt.UnixMilli())
		_, err = h.Locator(ctx, sys, owner, claim.ID)
		require.ErrorIs(t, err, denizen.ErrNotFound, "it is owned now")
		left, err := h.User(ctx, sys, guest)
		require.NoError(t, err)
		require.Empty(t, left.Locators)
		require.Equal(t, u.UpdatedAt, left.UpdatedAt)
		events := eventsAfter(t, h.Directory, 0)
		e := events[len(events)-1]
		require.Equal(t, []any{denizen.EventLocatorMoved, guest, left.InternalID, owner, []string{string(name.ID)}},
			[]any{e.Kind, e.User, e.InternalID, e.Other, e.Subjects})
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

func TestMerge_ALocatorThatCannotMoveIsRefusedByName(t *testing.T) {
	s := memory.New()
	d := newOver(t, s, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}})
	ctx, sys := t.Context(), denizen.System()
	newPairOfUsers(t, d)
	by, err := d.ActAs(ctx, sys, guest)
	require.NoError(t, err)
	claim, err := d.AddLocator(ctx, by, guest, denizen.Email("claimed@example.org"))
	require.NoError(t, err)
	name, err := d.AddLocator(ctx, sys, guest, denizen.NewLocator{Locator: "handle:guest"})
	require.NoError(t, err)
	_, err = d.AddLocator(ctx, sys, owner, denizen.NewLocator{Locator: "handle:owner"})
	require.NoError(t, err)
	for i := range denizen.MaxLocators - 2 {
		_, err := d.AddLocator(ctx, sys, owner, denizen.Email(fmt.Sprintf("%d@example.org", i)))
		require.NoError(t, err)
	}
	ls, err := d.Locators(ctx, sys, guest)
	require.NoError(t, err)
	before := invariant.Of(t, s)
	for _, r := range []struct {
		name     string
		from, to denizen.UserID
		id       denizen.LocatorID
		kind     error
		field    string
	}{
		{"to itself", guest, guest, ls[0].ID, denizen.ErrInvalid, "to"},
		{"to no user", guest, ".system", ls[0].ID, denizen.ErrInvalid, "to"},
		{"to nobody", guest, absent, ls[0].ID, denizen.ErrNotFound, "user"},
		{"from nobody", absent, guest, ls[0].ID, denizen.ErrNotFound, "user"},
		{"no locator", guest, owner, "none such", denizen.ErrNotFound, "locator"},
		{"a claim", guest, owner, claim.ID, denizen.ErrInvalid, "locator"},
		{"one too many", guest, owner, ls[0].ID, denizen.ErrLimited, "locators"},
		{"one too many of its type", guest, owner, name.ID, denizen.ErrLimited, "locators"},
	} {
		_, err := d.MoveLocator(ctx, sys, r.from, r.id, r.to)
		requireField(t, err, r.kind, r.field)
		require.Equal(t, before, invariant.Of(t, s), r.name)
	}
}

// Many merge two users into each other, delete them, make them anew and take what they own.
func TestMerge_RacersLeaveEachLocatorOneOwner(t *testing.T) {
	for _, cached := range []bool{true, false} {
		t.Run(fmt.Sprintf("cached %v", cached), func(t *testing.T) {
			w := newWorld(t, cached, denizen.Options{HeartbeatInterval: time.Millisecond}, nil)
			ctx, sys := t.Context(), denizen.System()
			users := []denizen.UserID{w.alice, w.bob, "carol-of-the-world"}
			one := func(r *rand.Rand) error {
				a, b := users[r.IntN(3)], users[r.IntN(3)]
				address := denizen.Email(fmt.Sprintf("%d@example.org", r.IntN(4)))
				policy := denizen.MergePolicy{
					Attributes: denizen.MergeRule(r.IntN(3)),
					Alias:      []time.Duration{0, time.Millisecond, denizen.Forever}[r.IntN(3)],
				}
				var err error
				switch r.IntN(9) {
				case 0, 1, 2:
					_, err = w.MergeUsers(ctx, sys, a, b, policy)
				case 3:
					err = w.DeleteUser(ctx, sys, a)
				case 4, 5:
					_, err = w.CreateUser(ctx, sys, denizen.NewUser{
						ID: a, ScreenName: "Somebody", Locators: []denizen.NewLocator{address},
						Attributes: []denizen.Attribute{{Key: usedAttribute, Value: string(a)}},
					})
				case 6:
					_, err = w.AddLocator(ctx, sys, a, address)
				case 7:
					var ls []denizen.Locator
					if ls, err = w.Locators(ctx, sys, a); err == nil && len(ls) > 0 {
						_, err = w.MoveLocator(ctx, sys, a, ls[r.IntN(len(ls))].ID, b)
					}
				case 8:
					if err = w.SetPresence(ctx, sys, a, denizen.Online(time.Hour).On(string(a))); err == nil {
						_, err = w.IssueToken(ctx, sys, a, denizen.TokenOptions{})
					}
				}
				return err
			}
			applied := 0
			for _, err := range atOnce(64, func(i int) error {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for range 40 {
					err := one(r)
					var refused *denizen.Error
					if err != nil && (!errors.As(err, &refused) || refused.Kind == denizen.ErrUnavailable || refused.Kind == denizen.ErrOutcomeUnknown || refused.Kind == denizen.ErrCorrupt) {
						return err
					}
				}
				return nil
			}) {
				require.NoError(t, err)
			}
			for _, e := range eventsAfter(t, w.Directory, 0) {
				if e.Kind == denizen.EventUserMerged {
					applied++
				}
			}
			require.Greater(t, applied, 20)
			require.NoError(t, denizen.Flush(ctx, w.Directory))
			w.requireCoherent(t)
			require.NoError(t, w.Close())
			invariant.Check(t, w.inner)
		})
	}
}

// A locator is always somebody's while its owners are merged, back and forth.
func TestMerge_NoLocatorIsEverNobodysWhileItsOwnersAreMerged(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		ctx, sys := t.Context(), denizen.System()
		const address = "email:pair@example.org"
		names := [2]denizen.UserID{"one-of-two", "two-of-two"}
		create(t, d, names[0], denizen.Email("pair@example.org"))
		var u until
		u.loop(func() {
			_, err := d.CreateUser(ctx, sys, denizen.NewUser{ScreenName: "Thief", Locators: []denizen.NewLocator{{Locator: address}}})
			if !errors.Is(err, denizen.ErrTaken) && !errors.Is(err, denizen.ErrConflict) {
				t.Errorf("took what is owned: %v", err)
			}
		})
		for i := range 100 {
			from, into := names[i%2], names[1-i%2]
			newUser(t, d, into)
			_, err := d.MergeUsers(context.Background(), sys, from, into, denizen.MergePolicy{})
			require.NoError(t, err)
		}
		u.stop()
	})
}

const mergeCrashChild = "DENIZEN_MERGE_CRASH_CHILD" // the file it writes to

func TestMerge_IsDoneOrNotDoneHoweverItIsKilled(t *testing.T) {
	if path := os.Getenv(mergeCrashChild); path != "" {
		mergeUntilKilled(path)
	}
	rounds := crashRounds(t)
	dir := long.Dir(t)
	begun, done := 0, 0
	for round := range rounds {
		path := filepath.Join(dir, fmt.Sprintf("crash%d.db", round))
		acknowledged := map[denizen.UserID]bool{}
		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), mergeCrashChild+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		for lines := bufio.NewScanner(out); lines.Scan(); {
			from, ok := strings.CutPrefix(lines.Text(), "merged ")
			if !ok {
				continue // of the test binary
			}
			acknowledged[denizen.UserID(from)] = true
			if len(acknowledged) == 1 {
				time.AfterFunc(time.Duration(rand.Int64N(int64(20*time.Millisecond))), func() { _ = child.Process.Kill() })
			}
		}
		require.Error(t, child.Wait(), "it was killed")

		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err)
		d, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		for u, err := range d.AllUsers(t.Context(), denizen.System()) {
			require.NoError(t, err)
			pair, into := strings.CutSuffix(string(u.ID), "-into")
			from := denizen.UserID(pair + "-from")
			if !into {
				require.False(t, acknowledged[u.ID], "what was acknowledged is undone")
				continue
			}
			leads, err := d.ResolveUser(t.Context(), denizen.System(), string(from))
			require.NoError(t, err)
			profile, err := d.Profile(t.Context(), denizen.System(), u.ID)
			require.NoError(t, err)
			_, err = d.User(t.Context(), denizen.System(), from)
			begun++
			if errors.Is(err, denizen.ErrNotFound) && leads == u.ID {
				done++
				require.Len(t, u.Locators, 2)
				require.Len(t, profile.Attributes, 2)
				continue
			}
			require.Equal(t, from, leads)
			require.Len(t, u.Locators, 1, "half done")
			require.Len(t, profile.Attributes, 1)
		}
		require.NoError(t, d.Close())
		invariant.Check(t, s)
		require.NoError(t, s.Close())
		require.NoError(t, os.Remove(path))
	}
	require.Positive(t, done)
	t.Logf("%d pairs, %d merged, none by half", begun, done)
}

// mergeUntilKilled is the child: many make pairs of users and merge them.
func mergeUntilKilled(path string) {
	ctx, sys := context.Background(), denizen.System()
	d, err := denizen.Open(ctx, path, denizen.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, key := range []string{"from", "into"} {
		if _, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	for w := range 8 {
		go func() {
			for i := w; ; i += 8 {
				ids := map[string]denizen.UserID{}
				for _, side := range []string{"from", "into"} {
					ids[side] = denizen.UserID(fmt.Sprintf("pair-%d-%s", i, side))
					_, err := d.CreateUser(ctx, sys, denizen.NewUser{
						ID: ids[side], ScreenName: side, Locators: []denizen.NewLocator{denizen.Email(string(ids[side]) + "@example.org")},
						Attributes: []denizen.Attribute{{Key: side, Value: side}},
					})
					if err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(2)
					}
				}
				if _, err := d.MergeUsers(ctx, sys, ids["from"], ids["into"], denizen.MergePolicy{Alias: denizen.Forever}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(2)
				}
				fmt.Fprintf(os.Stdout, "merged %s\n", ids["from"])
			}
		}()
	}
	select {}
}

func TestMerge_WatchersSeeThePresenceOfOneEndAndThatOfTheOtherChange(t *testing.T) {
	overWatched(t, denizen.Options{MaySee: everybody}, func(t *testing.T, d *denizen.Directory) {
		ctx := t.Context()
		chain := denizen.Online(10 * time.Second).On("desk")
		set(t, d, ann, chain)
		set(t, d, bert, denizen.Away())
		token := newToken(t, d, ann, denizen.TokenOptions{})
		by, err := d.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		w, own := watch(t, d, sys, ann, bert), watch(t, d, by, ann)
		w.require(t, "a Online 0..10", "b Away 0..-")
		own.require(t, "a Online 0..10")
		time.Sleep(5 * time.Second)
		_, err = d.MergeUsers(ctx, sys, ann, bert, denizen.MergePolicy{})
		require.NoError(t, err)
		w.require(t, "a none -..-", "b Online 0..10")
		own.requireEnd(t, denizen.ErrRevoked)
		time.Sleep(5 * time.Second)
		w.require(t, "b Away 0..-")
		newUser(t, d, ann)
		set(t, d, ann, denizen.Online())
		w.require(t, "a Online 10..-")
		_, err = d.MergeUsers(ctx, sys, bert, ann, denizen.MergePolicy{})
		require.NoError(t, err)
		w.require(t, "b none -..-")
	})
}

func TestMerge_IntoHidesIfOneOfThemDoes(t *testing.T) {
	for _, hides := range []denizen.UserID{ann, bert} {
		inHouses(t, denizen.Options{MaySee: everybody}, func(t *testing.T, h *house) {
			h.create(t, ann)
			h.create(t, bert)
			h.create(t, "peer-001")
			h.set(t, ann, denizen.Online())
			require.NoError(t, h.SetPresenceHidden(t.Context(), sys, hides, true))
			peer := watch(t, h.Directory, h.as(t, "peer-001"), bert)
			peer.require(t, "b none -..-")
			_, err := h.MergeUsers(t.Context(), sys, ann, bert, denizen.MergePolicy{})
			require.NoError(t, err)
			peer.require(t)
			p, err := h.Presence(t.Context(), sys, bert)
			require.NoError(t, err)
			require.True(t, p.Hidden)
			require.Equal(t, denizen.StateOnline, p.Presence.State())
			require.NoError(t, h.Close())
			invariant.Check(t, h.store)
		})
	}
}

func TestMerge_TheLaterOfTheLastActivitiesStays(t *testing.T) {
	for _, stored := range []bool{false, true} {
		for _, later := range []denizen.UserID{ann, bert} {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				for _, user := range []denizen.UserID{ann, bert} {
					h.create(t, user)
				}
				came := func(user denizen.UserID) time.Time {
					token := newToken(t, h.Directory, user, denizen.TokenOptions{})
					_, err := h.Authenticate(t.Context(), token.Signed)
					require.NoError(t, err)
					at := time.Now()
					time.Sleep(time.Second)
					if stored {
						time.Sleep(2 * time.Minute)
					}
					return at
				}
				came(map[denizen.UserID]denizen.UserID{ann: bert, bert: ann}[later])
				last := came(later)
				_, err := h.MergeUsers(t.Context(), sys, ann, bert, denizen.MergePolicy{})
				require.NoError(t, err)
				for range 2 {
					times, err := h.LastActive(t.Context(), sys, []denizen.UserID{ann, bert})
					require.NoError(t, err)
					require.Zero(t, times[0])
					require.True(t, last.Equal(times[1]), "%v, not %v", times[1], last)
					time.Sleep(2 * time.Minute)
				}
				require.NoError(t, h.Close())
				invariant.Check(t, h.store)
			})
		}
	}
}
