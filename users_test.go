package denizen_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	alice denizen.UserID = "alice-01"
	bob   denizen.UserID = "bob-0001"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when virtual time begins

func TestUsers_AUserIsCreatedWithAllThatItIsGiven(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		u, err := h.CreateUser(ctx, sys, denizen.NewUser{
			ID: alice, ScreenName: "Alice",
			Locators: []denizen.NewLocator{
				denizen.Email("Alice@Example.org"),
				{Locator: "tele:+1 415 555 0132", Status: denizen.Verified},
			},
			Attributes: []denizen.Attribute{{Key: "bio", Value: "down the hole"}},
		})
		require.NoError(t, err)
		require.Equal(t, denizen.User{
			ID: alice, InternalID: u.InternalID, ScreenName: "Alice", Version: u.Version, CreatedAt: epoch, UpdatedAt: epoch,
			Locators: []denizen.Locator{{
				ID: u.Locators[0].ID, Type: denizen.TypeEmail, Address: "Alice@Example.org", Raw: "Alice@Example.org", Canonical: "alice@example.org",
				Status: denizen.StatusNotProvided, Owned: true, AddedAt: epoch,
			}, {
				ID: u.Locators[1].ID, Type: denizen.TypeTele, Address: "+14155550132", Raw: "+1 415 555 0132", Canonical: "+14155550132",
				Status: denizen.Verified, Owned: true, AddedAt: epoch, VerifiedAt: epoch,
			}},
		}, u)
		require.NotEmpty(t, u.InternalID)
		require.NotZero(t, u.Version)
		read, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, u, read)
		p, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{{Key: "bio", ContentType: "text/plain", ContentEncoding: "identity", Value: "down the hole"}}, p.Attributes)
		require.EqualValues(t, u.Version, p.Version, "made in another commit")
		invariant.Check(t, h.store)
	})
}

func TestUsers_AUserWithoutAnIDGetsAUUIDOfVersionSeven(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	var last string
	for range 20 {
		u, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Somebody"})
		require.NoError(t, err)
		id, err := uuid.Parse(string(u.ID))
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), id.Version())
		require.Equal(t, id.String(), string(u.ID), "not in its usual form")
		require.Greater(t, string(u.ID), last, "ids made later do not come later")
		last = string(u.ID)
	}
}

// A refused creation is tried against a directory where Alice has an address, and an
// attribute is defined.
func TestUsers_ARefusedCreationLeavesNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio", MaxBytes: 5})
		require.NoError(t, err)
		h.create(t, alice, denizen.Email("alice@example.org"))
		once := denizen.Idempotency{Key: "k", Digest: "d"}
		before := invariant.Of(t, h.store)
		good := denizen.NewUser{ID: bob, ScreenName: "Bob", Locators: []denizen.NewLocator{denizen.Email("bob@example.org")}, Idempotency: once}
		many := make([]denizen.NewLocator, 17)
		for i := range many {
			many[i] = denizen.Email(fmt.Sprintf("bob%d@example.org", i))
		}
		for what, row := range map[string]struct {
			change func(*denizen.NewUser)
			kind   error
			field  string
		}{
			"the id is taken":           {func(n *denizen.NewUser) { n.ID = alice }, denizen.ErrTaken, "id"},
			"a locator is taken":        {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("ALICE@example.ORG")) }, denizen.ErrTaken, "locator"},
			"a bad id":                  {func(n *denizen.NewUser) { n.ID = ".system" }, denizen.ErrInvalid, "id"},
			"no screen name":            {func(n *denizen.NewUser) { n.ScreenName = "" }, denizen.ErrInvalid, "screenName"},
			"a bad locator":             {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("x")) }, denizen.ErrInvalid, "locator"},
			"a bad status":              {func(n *denizen.NewUser) { n.Locators[0].Status = "verified" }, denizen.ErrInvalid, "verificationStatus"},
			"a locator twice":           {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("BOB@example.org")) }, denizen.ErrInvalid, "locators"},
			"seventeen locators":        {func(n *denizen.NewUser) { n.Locators = many }, denizen.ErrLimited, "locators"},
			"an attribute undefined":    {func(n *denizen.NewUser) { n.Attributes = []denizen.Attribute{{Key: "hat"}} }, denizen.ErrInvalid, "key"},
			"an attribute too long":     {func(n *denizen.NewUser) { n.Attributes = []denizen.Attribute{{Key: "bio", Value: "123456"}} }, denizen.ErrInvalid, "value"},
			"an idempotency key alone":  {func(n *denizen.NewUser) { n.Idempotency.Digest = "" }, denizen.ErrInvalid, "idempotency"},
			"a digest alone":            {func(n *denizen.NewUser) { n.Idempotency.Key = "" }, denizen.ErrInvalid, "idempotency"},
			"an idempotency key of 257": {func(n *denizen.NewUser) { n.Idempotency.Key = strings.Repeat("k", 257) }, denizen.ErrInvalid, "idempotency"},
		} {
			n := good
			n.Locators = slices.Clone(good.Locators)
			row.change(&n)
			u, err := h.CreateUser(ctx, sys, n)
			requireField(t, err, row.kind, row.field)
			require.Zero(t, u, what)
			require.Equal(t, before, invariant.Of(t, h.store), what)
		}
		_, err = h.CreateUser(ctx, sys, good)
		require.NoError(t, err, "what was refused stands in the way")
	})
}

func TestUsers_OfManyCreationsOfOneIDOneSucceeds(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const n = 24
		errs := make([]error, n)
		var creating sync.WaitGroup
		for i := range n {
			creating.Go(func() {
				_, errs[i] = h.CreateUser(t.Context(), sys, denizen.NewUser{
					ID: alice, ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprintf("alice%d@example.org", i))},
				})
			})
		}
		creating.Wait()
		created := 0
		for _, err := range errs {
			if err == nil {
				created++
			} else {
				requireField(t, err, denizen.ErrTaken, "id")
			}
		}
		require.Equal(t, 1, created)
		invariant.Check(t, h.store)
	})
}

func TestUsers_SeveralUsersAreAnsweredInTheOrderAsked(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		a, b := h.create(t, alice), h.create(t, bob)
		users, err := h.UsersByID(t.Context(), sys, []denizen.UserID{bob, alice, bob})
		require.NoError(t, err)
		require.Equal(t, []denizen.User{b, a, b}, users)
		users, err = h.UsersByID(t.Context(), sys, nil)
		require.NoError(t, err)
		require.Empty(t, users)
	})
}

func TestUsers_AHundredUsersAreReadAtOnceAndNoMore(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	ids := slices.Repeat([]denizen.UserID{alice}, denizen.MaxList)
	users, err := d.UsersByID(t.Context(), sys, ids)
	require.NoError(t, err)
	require.Len(t, users, denizen.MaxList)
	_, err = d.UsersByID(t.Context(), sys, append(ids, alice))
	requireField(t, err, denizen.ErrInvalid, "users")
	_, err = d.UsersByLocator(t.Context(), sys, slices.Repeat([]string{"email:a@b.example"}, denizen.MaxList+1))
	requireField(t, err, denizen.ErrInvalid, "locators")
}

func requireCount(t testing.TB, d *denizen.Directory, want int) {
	t.Helper()
	n, err := d.CountUsers(context.Background(), sys)
	require.NoError(t, err)
	require.Equal(t, want, n)
}

// interrupted lets somebody write before each page of keys is read, and after it.
type interrupted struct {
	store.Store
	before, after func()
}

func (s *interrupted) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if s.before != nil {
		s.before()
	}
	page, err := s.Store.List(ctx, r)
	if s.after != nil {
		s.after()
	}
	return page, err
}

func TestUsers_AScreenNameIsChanged(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		was := h.create(t, alice)
		time.Sleep(time.Second)
		u, err := h.SetScreenName(t.Context(), h.as(t, alice), alice, "Alice")
		require.NoError(t, err)
		require.Greater(t, u.Version, was.Version)
		require.Equal(t, epoch.Add(time.Second), u.UpdatedAt)
		was.ScreenName, was.Version, was.UpdatedAt = "Alice", u.Version, u.UpdatedAt
		require.Equal(t, was, u)
		read, err := h.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, u, read)
	})
}

// edits are the methods that change a user and take a version.
var edits = map[string]func(context.Context, *house, ...denizen.UserVersion) (denizen.User, error){
	"SetScreenName": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.SetScreenName(ctx, sys, alice, "Alice", v...)
	},
	"BlockUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.BlockUser(ctx, sys, alice, denizen.Block{}, v...)
	},
	"UnblockUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.UnblockUser(ctx, sys, alice, v...)
	},
	"SetLocators": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.SetLocators(ctx, sys, alice, []denizen.NewLocator{denizen.Email("alice@example.org")}, v...)
	},
	"DeleteUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return denizen.User{}, h.DeleteUser(ctx, sys, alice, v...)
	},
}

func TestUsers_AnEditHappensAtTheExpectedVersionAlone(t *testing.T) {
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				stale := h.create(t, alice).Version
				u, err := h.SetScreenName(t.Context(), sys, alice, "Meanwhile")
				require.NoError(t, err)
				before := invariant.Of(t, h.store)
				for _, v := range []denizen.UserVersion{0, stale, u.Version + 1} {
					_, err := edit(t.Context(), h, v)
					requireField(t, err, denizen.ErrConflict, "version")
				}
				_, err = edit(t.Context(), h, u.Version, stale)
				requireField(t, err, denizen.ErrConflict, "version")
				require.Equal(t, before, invariant.Of(t, h.store))
				_, err = edit(t.Context(), h, u.Version)
				require.NoError(t, err)
			})
		})
	}
}

func TestUsers_AnEditThatChangesNothingWritesNothing(t *testing.T) {
	for name, edit := range edits {
		if name == "DeleteUser" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				h.create(t, alice)
				first, err := edit(t.Context(), h)
				require.NoError(t, err)
				before := invariant.Of(t, h.store)
				time.Sleep(time.Second)
				again, err := edit(t.Context(), h)
				require.NoError(t, err)
				require.Equal(t, first, again)
				require.Equal(t, before, invariant.Of(t, h.store))
			})
		})
	}
}

func TestUsers_ABlockEndsTokensInItsOwnCommitAndUnblockingRevivesNone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		signed := newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed
		_, err := h.Authenticate(ctx, signed)
		require.NoError(t, err)
		before := invariant.Of(t, h.store).Feed.Head
		u, err := h.BlockUser(ctx, sys, alice, denizen.Block{})
		require.NoError(t, err)
		require.True(t, u.Blocked)
		require.Equal(t, before+1, invariant.Of(t, h.store).Feed.Head)
		invariant.Check(t, h.store)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		u, err = h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		require.False(t, u.Blocked)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		_, err = h.Authenticate(ctx, newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
	})
}

// furnish gives a user some of everything that is stored of users.
func furnish(t testing.TB, h *house, id denizen.UserID) {
	t.Helper()
	ctx := context.Background()
	_, err := h.AddLocator(ctx, h.as(t, id), id, denizen.Email("claim@example.org"))
	require.NoError(t, err)
	_, err = h.SetAttribute(ctx, sys, id, denizen.Attribute{Key: "bio", Value: "furnished"})
	require.NoError(t, err)
	chain := denizen.Online(time.Hour).Then(denizen.Offline())
	for range 2 { // the second is a heartbeat
		require.NoError(t, h.SetPresence(ctx, sys, id, chain))
		require.NoError(t, h.SetPresence(ctx, sys, id, chain.On("phone")))
		time.Sleep(time.Second / 10)
	}
	for range 2 {
		issued := newToken(t, h.Directory, id, denizen.TokenOptions{TTL: time.Hour})
		_, err = h.ExtendToken(ctx, sys, id, issued.ID, 2*time.Hour)
		require.NoError(t, err)
		_, err = h.Authenticate(ctx, issued.Signed)
		require.NoError(t, err)
	}
	time.Sleep(2 * time.Minute) // last uses are stored by now
	synctest.Wait()
}

// of returns the kinds of the records that name a user, by its id or its incarnation.
func of(t testing.TB, h *house, u denizen.User) (kinds []string) {
	t.Helper()
	for _, r := range invariant.Of(t, h.store).Records {
		if strings.Contains(string(r.Key), string(u.ID)) || strings.Contains(string(r.Value), string(u.ID)) || strings.Contains(string(r.Value), u.InternalID) {
			value, err := record.Decode(r.Key, r.Value)
			require.NoError(t, err)
			kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", value), "*record."))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func TestUsers_DeletingLeavesNothingOfTheUser(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		other := h.create(t, bob, denizen.Email("bob@example.org"))
		furnish(t, h, bob)
		u := h.create(t, alice, denizen.Email("alice@example.org"), denizen.Tele("+14155550132"))
		furnish(t, h, alice)
		require.Equal(t, []string{"Active", "AttributeRef", "Devices", "Here", "LastUses", "Owner", "Profile", "TokenText", "Tokens", "User"}, of(t, h, u), "a kind of record is not tried")
		before := invariant.Of(t, h.store)

		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		require.Empty(t, of(t, h, u))
		require.Equal(t, before.Feed.Head+1, invariant.Of(t, h.store).Feed.Head, "not one commit")
		require.Len(t, of(t, h, other), 10, "another lost something")
		invariant.Check(t, h.store)

		time.Sleep(3 * time.Hour) // nothing that was kept in memory comes back
		synctest.Wait()
		require.Empty(t, of(t, h, u))
		require.NoError(t, h.Close())
		require.Empty(t, of(t, h, u))
	})
}

func TestUsers_WhatADeletedUserHadIsFreeAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		locators := []denizen.NewLocator{denizen.Email("alice@example.org"), denizen.Tele("+14155550132")}
		h.create(t, alice, locators...)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		_, err := h.User(ctx, sys, alice)
		requireField(t, err, denizen.ErrNotFound, "user")
		users, err := h.UsersByLocator(ctx, sys, []string{"email:alice@example.org", "tele:+14155550132"})
		require.NoError(t, err)
		require.Empty(t, users)
		h.create(t, bob, locators...)
		h.create(t, alice)
		requireField(t, h.DeleteUser(ctx, sys, "nobody-1"), denizen.ErrNotFound, "user")
	})
}

func TestUsers_AnIDTakenAgainInheritsNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		was := h.create(t, alice, denizen.Email("alice@example.org"))
		furnish(t, h, alice)
		by := h.as(t, alice)
		signed := newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed
		_, err = h.Authenticate(ctx, signed)
		require.NoError(t, err)
		require.NoError(t, h.SetPresence(ctx, by, alice, denizen.Online(time.Hour).Then(denizen.Offline())), "a last heartbeat")
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		now := h.create(t, alice)
		time.Sleep(2 * time.Hour) // and nothing is written behind its back
		synctest.Wait()

		require.NotEqual(t, was.InternalID, now.InternalID)
		require.Empty(t, now.Locators)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		_, err = h.User(ctx, by, alice)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		tokens, err := h.Tokens(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, tokens)
		issued := newToken(t, h.Directory, alice, denizen.TokenOptions{})
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked, "the new user's token revives the old one's")
		require.NoError(t, h.RevokeTokens(ctx, sys, alice, issued.ID))
		p, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.Profile{User: alice, Attributes: []denizen.Attribute{}}, p)
		seen, err := h.Presence(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.UserPresence{User: alice}, seen)
		require.Equal(t, []string{"User"}, of(t, h, now))
		invariant.Check(t, h.store)
	})
}

func TestUsers_AnInternalIDIsNeverUsedAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		seen := map[string]bool{}
		for range 30 {
			u := h.create(t, alice)
			require.False(t, seen[u.InternalID])
			seen[u.InternalID] = true
			require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		}
	})
}

var once = denizen.NewUser{
	ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	Idempotency: denizen.Idempotency{Key: "request 7", Digest: "of its body"},
}

func TestUsers_AnIdempotencyKeyAnswersTheSameUserForADay(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		time.Sleep(23 * time.Hour) // so that the day ends between
		u, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		for _, passed := range []time.Duration{0, 2 * time.Hour, 22*time.Hour - time.Millisecond} {
			time.Sleep(passed)
			again, err := h.CreateUser(ctx, sys, once)
			require.NoError(t, err)
			require.Equal(t, u, again)
		}
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestUsers_AnIdempotencyKeyIsFreeAfterADay(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		time.Sleep(23 * time.Hour)
		first, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		_, err = h.CreateUser(ctx, sys, once)
		requireField(t, err, denizen.ErrTaken, "locator")
		require.NoError(t, h.DeleteUser(ctx, sys, first.ID))
		second, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		require.NotEqual(t, first.ID, second.ID)
	})
}

func TestUsers_IdempotencyKeysAreSweptWhenTheyAreOld(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		u, err := h.CreateUser(t.Context(), sys, once)
		require.NoError(t, err)
		require.Contains(t, of(t, h, u), "Created")
		time.Sleep(49 * time.Hour)
		synctest.Wait()
		require.NotContains(t, of(t, h, u), "Created")
	})
}

func TestUsers_AnIdempotencyKeyWithAnotherDigestIsRefused(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		other := once
		other.Idempotency.Digest = "of another body"
		_, err = h.CreateUser(ctx, sys, other)
		requireField(t, err, denizen.ErrConflict, "idempotency")
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestUsers_AnIdempotencyKeyWhoseUserWasDeletedCreatesNoOther(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		n := once
		n.ID = alice
		_, err := h.CreateUser(ctx, sys, n)
		require.NoError(t, err)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		_, err = h.CreateUser(ctx, sys, n)
		requireField(t, err, denizen.ErrNotFound, "user")
		// Nor does it return a stranger who has the id by now.
		h.create(t, alice)
		_, err = h.CreateUser(ctx, sys, n)
		requireField(t, err, denizen.ErrNotFound, "user")
	})
}

func TestUsers_AnIdempotencyKeyMayBeAnyBytes(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, text := range []string{"\x00", "\xff\xfe", strings.Repeat("k", 256), "é", "k"} {
			n := denizen.NewUser{ScreenName: "Alice", Idempotency: denizen.Idempotency{Key: text, Digest: text}}
			u, err := h.CreateUser(t.Context(), sys, n)
			require.NoError(t, err, "%q", text)
			again, err := h.CreateUser(t.Context(), sys, n)
			require.NoError(t, err, "%q", text)
			require.Equal(t, u, again)
		}
	})
}

func TestUsers_OfManyRequestsWithOneIdempotencyKeyOneCreates(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const n = 24
		users, errs := make([]denizen.User, n), make([]error, n)
		var creating sync.WaitGroup
		for i := range n {
			creating.Go(func() { users[i], errs[i] = h.CreateUser(t.Context(), sys, once) })
		}
		creating.Wait()
		for i := range n {
			require.NoError(t, errs[i])
			require.Equal(t, users[0], users[i])
		}
		requireCount(t, h.Directory, 1)
	})
}

func TestUsers_WhatIsReturnedBelongsToTheCaller(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		want := h.create(t, alice, denizen.Email("alice@example.org"))
		want.Locators = slices.Clone(want.Locators)
		for range 2 { // the second result is from the cache
			u, err := h.User(ctx, sys, alice)
			require.NoError(t, err)
			require.Equal(t, want, u)
			u.Locators[0] = denizen.Locator{}
			locators, err := h.Locators(ctx, sys, alice)
			require.NoError(t, err)
			locators[0] = denizen.Locator{}
		}
	})
}

func TestUsers_AnEmptyIDIsInvalidForTheApplicationToo(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for name, call := range map[string]func() error{
		"User":            func() error { _, err := d.User(t.Context(), sys, ""); return err },
		"UsersByID":       func() error { _, err := d.UsersByID(t.Context(), sys, []denizen.UserID{""}); return err },
		"SetScreenName":   func() error { _, err := d.SetScreenName(t.Context(), sys, "", "Bob"); return err },
		"DeleteUser":      func() error { return d.DeleteUser(t.Context(), sys, "") },
		"Locators":        func() error { _, err := d.Locators(t.Context(), sys, ""); return err },
		"Profile":         func() error { _, err := d.Profile(t.Context(), sys, ""); return err },
		"Presence":        func() error { _, err := d.Presence(t.Context(), sys, ""); return err },
		"SetPresence":     func() error { return d.SetPresence(t.Context(), sys, "", denizen.Online()) },
		"IssueToken":      func() error { _, err := d.IssueToken(t.Context(), sys, "", denizen.TokenOptions{}); return err },
		"RevokeAllTokens": func() error { return d.RevokeAllTokens(t.Context(), sys, "") },
	} {
		t.Run(name, func(t *testing.T) { requireField(t, call(), denizen.ErrInvalid, "user") })
	}
}

func TestUsers_WhoAsksForSeveralIsToldWhichAreMissing(t *testing.T) {
	seen := func(_ context.Context, _, of denizen.UserID, _ denizen.Facet) (bool, error) {
		return of != "hidden-01", nil
	}
	inHouses(t, denizen.Options{MaySee: seen}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		for _, by := range []denizen.Principal{sys, h.as(t, bob)} {
			users, err := h.UsersByID(ctx, by, []denizen.UserID{"nobody-01", alice, "nobody-02"})
			requireField(t, err, denizen.ErrNotFound, "user")
			require.Nil(t, users, "all or none")
			require.Equal(t, []string{"nobody-01", "nobody-02"}, err.(*denizen.Error).Missing)
			require.Equal(t, "denizen: UsersByID: user: not found", err.Error())
		}
		_, err := h.UsersByID(ctx, sys, []denizen.UserID{alice, "short"})
		requireField(t, err, denizen.ErrInvalid, "user")
		_, err = h.UsersByID(ctx, h.as(t, bob), []denizen.UserID{"nobody-01", alice, "hidden-01"})
		require.ErrorIs(t, err, denizen.ErrDenied)
		require.Nil(t, err.(*denizen.Error).Missing, "who may not know one learns of none")

		_, err = h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "secret", VisibleTo: denizen.ToSystem, WritableBy: denizen.ToSystem})
		require.NoError(t, err)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "secret", Value: "x"})
		require.NoError(t, err)
		_, err = h.Attributes(ctx, h.as(t, alice), alice, []string{"secret", "none"})
		requireField(t, err, denizen.ErrNotFound, "attribute")
		require.Equal(t, []string{"secret", "none"}, err.(*denizen.Error).Missing)
		_, err = h.Attributes(ctx, sys, alice, []string{"secret", "none"})
		require.Equal(t, []string{"none"}, err.(*denizen.Error).Missing)
		given := []denizen.Attribute{{Key: "none"}, {Key: "secret"}, {Key: "nor this"}}
		_, err = h.SetAttributes(ctx, sys, alice, given, denizen.Merge)
		requireField(t, err, denizen.ErrInvalid, "key")
		require.Equal(t, []string{"none", "nor this"}, err.(*denizen.Error).Missing)
		_, err = h.SetAttributes(ctx, h.as(t, alice), alice, given[1:2], denizen.Merge)
		requireField(t, err, denizen.ErrDenied, "key")
		require.Equal(t, []string{"secret"}, err.(*denizen.Error).Missing)
	})
}
