package denizen_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// leaves are the ways to leave.
var leaves = map[string]func(d *denizen.Directory, id denizen.UserID) error{
	"delete": func(d *denizen.Directory, id denizen.UserID) error {
		return d.DeleteUser(context.Background(), sys, id)
	},
	"erase": func(d *denizen.Directory, id denizen.UserID) error {
		_, err := d.EraseUser(context.Background(), sys, id)
		return err
	},
}

// mallorysTraces is what settled stores of mallory.
var mallorysTraces = []string{
	"Mallory \"M\" Ünal", "mal.lory@example.org", "+14155550132", "m4llory", "mall@example.com",
	"likes <tea> & ñandú", "Mallory's phone", "in her garden", "the old laptop", "wrote too much",
}

// settled makes mallory a user who has some of everything, and someone who has the same kinds of
// things of its own.
func settled(t *testing.T, d *denizen.Directory) {
	t.Helper()
	ctx := t.Context()
	_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	for id, n := range map[denizen.UserID][]string{
		mallory: mallorysTraces,
		someone: {"Someone", "some.one@example.org", "+14155550133", "s0meone", "some@example.com", "x", "phone", "there", "laptop", "reason"},
	} {
		_, err = d.CreateUser(ctx, sys, denizen.NewUser{
			ID: id, ScreenName: n[0], Attributes: []denizen.Attribute{{Key: "bio", Value: n[5]}},
			Locators:    []denizen.NewLocator{denizen.Email(n[1]), denizen.Tele(n[2]), {Locator: "handle:" + n[3]}, {Locator: "handle:" + n[3] + "2"}},
			Idempotency: denizen.Idempotency{Key: string(id), Digest: n[1]},
		})
		require.NoError(t, err)
		_, err = d.BlockUser(ctx, sys, id, denizen.Block{Reason: n[9], Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		_, err = d.UnblockUser(ctx, sys, id)
		require.NoError(t, err)
		by, err := d.ActAs(ctx, sys, id)
		require.NoError(t, err)
		_, err = d.AddLocator(ctx, by, id, denizen.Email(n[4]))
		require.NoError(t, err)
		ls, err := d.Locators(ctx, sys, id)
		require.NoError(t, err)
		require.NoError(t, d.RemoveLocator(ctx, by, id, ls[3].ID)) // it rests
		require.NoError(t, d.SetPresence(ctx, by, id, denizen.State(n[7], time.Hour).On(n[6])))
		require.NoError(t, authenticated(t, d, newToken(t, d, id, denizen.TokenOptions{Label: n[8]}).Signed))
		newToken(t, d, id, denizen.TokenOptions{})
	}
}

func withHandles() denizen.Options {
	rule := handles()
	rule.PerUser = 2
	return denizen.Options{LocatorTypes: []denizen.LocatorRule{rule}}
}

// requireNothingOf requires that a store holds nothing of mallory, but for its id in the feed.
func requireNothingOf(t *testing.T, s store.Store) {
	t.Helper()
	require.Empty(t, invariant.Traces(t, s, mallorysTraces...))
	for _, r := range invariant.Of(t, s).Records {
		require.NotContains(t, string(r.Key), string(mallory))
		require.NotContains(t, string(r.Value), string(mallory))
	}
}

func TestLeave_AnErasureLeavesNothingOfThePerson(t *testing.T) {
	inHouses(t, withHandles(), func(t *testing.T, h *house) {
		settled(t, h.Directory)
		time.Sleep(2 * time.Minute) // last uses are stored
		synctest.Wait()
		_, err := h.BlockUser(t.Context(), sys, someone, denizen.Block{Reason: "for " + mallorysTraces[9]})
		require.NoError(t, err)
		before := invariant.Traces(t, h.store, mallorysTraces...)
		require.Equal(t, mallorysTraces, before, "what is looked for is there")
		_, err = h.UnblockUser(t.Context(), sys, someone)
		require.NoError(t, err)

		_, err = h.EraseUser(t.Context(), sys, mallory)
		require.NoError(t, err)
		requireNothingOf(t, h.store)
		require.NoError(t, h.Close())
		requireNothingOf(t, h.store)
		invariant.Check(t, h.store)
	})
}

func TestLeave_TheReceiptSaysWhatWasRemoved(t *testing.T) {
	inHouses(t, withHandles(), func(t *testing.T, h *house) {
		settled(t, h.Directory)
		u, err := h.User(t.Context(), sys, mallory)
		require.NoError(t, err)
		got, err := h.EraseUser(t.Context(), sys, mallory)
		require.NoError(t, err)
		now := time.Now().UTC()
		require.Equal(t, denizen.Erasure{
			Directory: h.ID(), User: mallory, InternalID: u.InternalID, ErasedAt: now,
			Removed: map[string]int{
				"locators": 3, "claims": 1, "attributes": 1, "devices": 1, "tokens": 2, "restingLocators": 1, "idempotencyKeys": 1,
			},
			EventsUntil: now.Add(7*24*time.Hour + time.Minute), Backups: "not erased: backups and other copies are the host's",
		}, got)
		text, err := json.Marshal(got)
		require.NoError(t, err)
		var again denizen.Erasure
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, got, again)
	})
}

func TestLeave_AfterEventsUntilNoEventNamesTheIDs(t *testing.T) {
	inHouses(t, denizen.Options{FeedMaxAge: time.Hour}, func(t *testing.T, h *house) {
		u := h.create(t, alice)
		newToken(t, h.Directory, alice, denizen.TokenOptions{})
		got, err := h.EraseUser(t.Context(), sys, alice)
		require.NoError(t, err)
		require.NotEmpty(t, invariant.Traces(t, h.store, u.InternalID))
		time.Sleep(time.Until(got.EventsUntil))
		synctest.Wait()
		require.Empty(t, invariant.Traces(t, h.store, string(alice), u.InternalID))
	})
}

func TestLeave_WhoIsErasedIsNobody(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.Email("alice@example.org"))
		h.create(t, bob)
		by := h.as(t, alice)
		token := newToken(t, h.Directory, alice, denizen.TokenOptions{})
		require.NoError(t, authenticated(t, h.Directory, token.Signed))
		_, err := h.EraseUser(ctx, sys, alice, 12345)
		requireField(t, err, denizen.ErrConflict, "version")
		n, err := h.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		place := head(t, h)

		_, err = h.EraseUser(ctx, sys, alice)
		require.NoError(t, err)
		_, err = h.EraseUser(ctx, sys, alice)
		requireField(t, err, denizen.ErrNotFound, "user")
		require.ErrorIs(t, h.DeleteUser(ctx, sys, alice), denizen.ErrNotFound)
		require.Equal(t, []denizen.EventKind{denizen.EventUserErased}, eventKinds(t, h, place))
		require.Equal(t, denizen.ErrRevoked, authenticated(t, h.Directory, token.Signed))
		_, err = h.User(ctx, by, alice)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		n, err = h.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		h.create(t, alice, denizen.Email("alice@example.org"))
		_, err = h.User(ctx, by, alice)
		require.ErrorIs(t, err, denizen.ErrRevoked, "another user inherits nothing")
	})
}

// What was damaged names nothing any more, so it is looked for.
func TestLeave_APersonOfWhomSomethingIsDamagedCanBeErased(t *testing.T) {
	id := string(mallory)
	for name, keys := range map[string][]store.Key{
		"user": {record.UserKey(id)}, "profile": {record.ProfileKey(id)}, "presence": {record.DevicesKey(id)},
		"tokens": {record.TokensKey(id)}, "last uses": {record.LastUsesKey(id)},
		"all": {record.UserKey(id), record.ProfileKey(id), record.DevicesKey(id), record.TokensKey(id), record.LastUsesKey(id), record.ActiveKey(id)},
	} {
		t.Run(name, func(t *testing.T) {
			overDamages(t, withHandles(), func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
				settled(t, d)
				u, err := d.User(t.Context(), sys, mallory)
				require.NoError(t, err)
				time.Sleep(2 * time.Minute) // last uses are stored
				synctest.Wait()
				require.NoError(t, d.Close()) // nothing is remembered
				d = newOver(t, shared{s}, withHandles())
				damage(keys...)

				got, err := d.EraseUser(t.Context(), sys, mallory)
				require.NoError(t, err)
				if name == "all" {
					require.Equal(t, []string{"user", "profile", "presence", "tokens", "last uses", "last activity"}, got.Damaged)
					require.Empty(t, got.InternalID)
				} else {
					require.Equal(t, []string{name}, got.Damaged)
					require.Equal(t, u.InternalID, got.InternalID)
				}
				require.Equal(t, 3, got.Removed["locators"])
				require.Equal(t, 1, got.Removed["restingLocators"])
				require.Equal(t, 1, got.Removed["idempotencyKeys"])
				requireNothingOf(t, s.Store)
				_, err = d.EraseUser(t.Context(), sys, mallory)
				require.ErrorIs(t, err, denizen.ErrNotFound)
				require.NoError(t, d.Close())
				invariant.Check(t, s.Store)
			})
		})
	}
}

func TestLeave_WhatRestsGoesOnRestingForNobody(t *testing.T) {
	for name, leave := range leaves {
		t.Run(name, func(t *testing.T) {
			inHouses(t, withHandles(), func(t *testing.T, h *house) {
				ctx := t.Context()
				settled(t, h.Directory)
				require.NoError(t, leave(h.Directory, mallory))
				h.create(t, mallory) // another one
				for _, handle := range []string{"handle:m4llory", "handle:m4llory2"} {
					for _, user := range []denizen.UserID{mallory, someone} {
						_, err := h.AddLocator(ctx, h.as(t, user), user, denizen.NewLocator{Locator: handle})
						require.ErrorIs(t, err, denizen.ErrTaken, handle)
					}
				}
				_, err := h.AddLocator(ctx, sys, someone, denizen.NewLocator{Locator: "handle:m4llory", Override: true})
				require.NoError(t, err)
				time.Sleep(24 * time.Hour)
				_, err = h.AddLocator(ctx, h.as(t, mallory), mallory, denizen.NewLocator{Locator: "handle:m4llory2"})
				require.NoError(t, err)
				require.NoError(t, h.Close())
				invariant.Check(t, h.store)
			})
		})
	}
}

func TestLeave_ALateRepeatOfTheCreationMakesNobody(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		n := denizen.NewUser{
			ID: alice, ScreenName: "Alice", Idempotency: denizen.Idempotency{Key: "request 17", Digest: "of its body"},
		}
		_, err := h.CreateUser(ctx, sys, n)
		require.NoError(t, err)
		_, err = h.EraseUser(ctx, sys, alice)
		require.NoError(t, err)
		for _, digest := range []string{"of its body", "of another"} {
			n.Idempotency.Digest = digest
			_, err = h.CreateUser(ctx, sys, n)
			requireField(t, err, denizen.ErrNotFound, "user")
		}
		for _, r := range invariant.Of(t, h.store).Records {
			require.NotContains(t, string(r.Value), string(alice))
		}
		time.Sleep(24 * time.Hour)
		_, err = h.CreateUser(ctx, sys, n)
		require.NoError(t, err)
	})
}

// A user's record names the one of its idempotency key only as long as that can be there.
func TestLeave_TheNameOfAnIdempotencyKeyIsForgottenInTime(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		_, err := h.CreateUser(t.Context(), sys, denizen.NewUser{
			ID: alice, ScreenName: "Alice", Idempotency: denizen.Idempotency{Key: "k", Digest: "d"},
		})
		require.NoError(t, err)
		creation := func() string {
			rs, err := h.store.Get(t.Context(), record.UserKey(string(alice)))
			require.NoError(t, err)
			value, err := record.DecodeStored(rs[0])
			require.NoError(t, err)
			return value.(*record.User).Creation
		}
		require.NotEmpty(t, creation())
		time.Sleep(72 * time.Hour)
		_, err = h.SetScreenName(t.Context(), sys, alice, "Alice A.")
		require.NoError(t, err)
		require.Empty(t, creation())
	})
}

func TestLeave_AHeartbeatInMemoryDoesNotComeBack(t *testing.T) {
	for name, leave := range leaves {
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{HeartbeatInterval: time.Minute}, func(t *testing.T, h *house) {
				ctx := t.Context()
				h.create(t, alice)
				by := h.as(t, alice)
				here := denizen.Online(time.Hour).On("Alice's phone")
				for range 3 {
					require.NoError(t, h.SetPresence(ctx, by, alice, here))
					time.Sleep(time.Second)
				}
				token := newToken(t, h.Directory, alice, denizen.TokenOptions{})
				require.NoError(t, authenticated(t, h.Directory, token.Signed)) // a last use in memory
				require.NoError(t, leave(h.Directory, alice))
				require.Error(t, h.SetPresence(ctx, by, alice, here))
				require.Error(t, h.SetPresence(ctx, sys, alice, here))
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				require.NoError(t, h.Close())
				require.Empty(t, invariant.Traces(t, h.store, "Alice's phone"))
				invariant.Check(t, h.store)
			})
		})
	}
}

func TestLeave_NoEventNamesWhatAPersonChose(t *testing.T) {
	inHouses(t, withHandles(), func(t *testing.T, h *house) {
		settled(t, h.Directory)
		require.NoError(t, h.ClearPresence(t.Context(), sys, mallory, mallorysTraces[6]))
		var events strings.Builder
		feed, err := h.store.Changes(t.Context(), 0, 1000)
		require.NoError(t, err)
		for _, ch := range feed.Changes {
			events.Write(ch.Event)
		}
		require.Empty(t, invariant.TracesIn([]byte(events.String()), mallorysTraces...))
	})
}

// Eight write whatever there is of one user, and two erase it and make it anew. Whoever comes later
// writes nothing of who was erased.
func TestLeave_NothingIsWrittenOfWhoWasErased(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{HeartbeatInterval: time.Millisecond}, nil)
		ctx := t.Context()
		const id denizen.UserID = "now-here-now-not"
		mark := func(n int) string { return fmt.Sprintf("mark%05dx", n) }
		erased := make(chan string, 1000)
		for _, err := range atOnce(10, func(i int) error {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range 100 {
				var err error
				if i < 2 {
					// The mark is in all that is written while this user is there.
					if _, err = w.CreateUser(ctx, sys, denizen.NewUser{ID: id, ScreenName: mark(1000*i + n)}); err == nil {
						var got denizen.Erasure
						if got, err = w.EraseUser(ctx, sys, id); err == nil {
							erased <- got.InternalID
						}
					}
				} else {
					switch r.IntN(6) {
					case 0:
						err = w.SetPresence(ctx, sys, id, denizen.Online(time.Hour).On("phone"))
					case 1:
						_, err = w.SetAttribute(ctx, sys, id, denizen.Attribute{Key: usedAttribute, Value: "x"})
					case 2:
						_, err = w.AddLocator(ctx, sys, id, denizen.Email("here@example.org"))
					case 3:
						var token denizen.IssuedToken
						if token, err = w.IssueToken(ctx, sys, id, denizen.TokenOptions{}); err == nil {
							_, err = w.Authenticate(ctx, token.Signed)
						}
					case 4:
						_, err = w.BlockUser(ctx, sys, id, denizen.Block{Until: time.Now().Add(time.Millisecond)})
					case 5:
						err = w.DeleteUser(ctx, sys, id)
					}
				}
				var refused *denizen.Error
				if err != nil && (!errors.As(err, &refused) || refused.Kind == denizen.ErrUnavailable || refused.Kind == denizen.ErrOutcomeUnknown) {
					return err
				}
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		if _, err := w.User(ctx, sys, id); err == nil {
			_, err = w.EraseUser(ctx, sys, id)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		close(erased)
		require.NotEmpty(t, erased)
		records := invariant.Of(t, w.inner).Records
		for internal := range erased {
			for _, r := range records {
				require.NotContains(t, string(r.Value), internal)
			}
		}
		for _, r := range records {
			require.NotContains(t, string(r.Key)+string(r.Value), string(id))
		}
		invariant.Check(t, w.inner)
	})
}
