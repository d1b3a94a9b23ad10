package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// skip makes what happened so far not count.
func (w *world) skip(t testing.TB) {
	t.Helper()
	for _, e := range eventsAfter(t, w.Directory, w.seen) {
		w.seen = e.Seq
	}
}

func TestFeed_ADirectoryBeginsWithItsFounding(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		require.Equal(t, []denizen.Event{
			{Seq: 1, Cursor: headOf(t, d), At: time.Now().UTC(), Kind: denizen.EventDirectoryFounded, Actor: ".system"},
		}, eventsAfter(t, d, 0))
	})
}

// Each operation and the one event that it commits, told by the fields beyond sequence and
// time. Subjects that are made by the operation are returned by it.
func TestFeed_EveryOperationEmitsItsEvent(t *testing.T) {
	const alice = denizen.UserID("alice-of-the-world")
	type told struct {
		what     denizen.EventKind
		about    denizen.UserID
		subjects []string
	}
	of := func(what denizen.EventKind, about denizen.UserID, subjects ...string) told {
		return told{what, about, subjects}
	}
	for name, row := range map[string]struct {
		by func(w *world) denizen.Principal // nil: .system
		do func(t *testing.T, w *world, by denizen.Principal) told
	}{
		"create": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.CreateUser(t.Context(), by, denizen.NewUser{
				ID: "carol-of-the-world", ScreenName: "Carol", Locators: []denizen.NewLocator{denizen.Email("carol@example.org")},
				Attributes: []denizen.Attribute{{Key: usedAttribute, Value: "x"}}, Idempotency: denizen.Idempotency{Key: "k", Digest: "d"},
			})
			require.NoError(t, err)
			return of(denizen.EventUserCreated, "carol-of-the-world")
		}},
		"rename": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetScreenName(t.Context(), by, alice, "Alice A.")
			require.NoError(t, err)
			return of(denizen.EventUserRenamed, alice)
		}},
		"rename for a user": {by: (*world).delegate, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetScreenName(t.Context(), by, alice, "Alice A.")
			require.NoError(t, err)
			return of(denizen.EventUserRenamed, alice)
		}},
		"block": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.BlockUser(t.Context(), by, alice, denizen.Block{})
			require.NoError(t, err)
			return of(denizen.EventUserBlocked, alice)
		}},
		"unblock": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.BlockUser(t.Context(), by, alice, denizen.Block{})
			require.NoError(t, err)
			w.skip(t)
			_, err = w.UnblockUser(t.Context(), by, alice)
			require.NoError(t, err)
			return of(denizen.EventUserUnblocked, alice)
		}},
		"delete": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.DeleteUser(t.Context(), by, alice))
			return of(denizen.EventUserDeleted, alice)
		}},
		"erase": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.EraseUser(t.Context(), by, alice)
			require.NoError(t, err)
			return of(denizen.EventUserErased, alice)
		}},
		"claim a locator": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			l, err := w.AddLocator(t.Context(), by, alice, denizen.Email("more@example.org"))
			require.NoError(t, err)
			return of(denizen.EventLocatorAdded, alice, string(l.ID))
		}},
		"add a locator": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			l, err := w.AddLocator(t.Context(), by, alice, denizen.Email("more@example.org"))
			require.NoError(t, err)
			return of(denizen.EventLocatorAdded, alice, string(l.ID))
		}},
		"own a claim": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.AddLocator(t.Context(), by, alice, denizen.Email("alice@example.com"))
			require.NoError(t, err)
			return of(denizen.EventLocatorOwned, alice, string(w.claim.ID))
		}},
		"verify a claim": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetVerification(t.Context(), by, alice, w.claim.ID, denizen.Verified)
			require.NoError(t, err)
			return of(denizen.EventLocatorOwned, alice, string(w.claim.ID))
		}},
		"set a status": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetVerification(t.Context(), by, alice, w.owned.ID, denizen.VerificationPending)
			require.NoError(t, err)
			return of(denizen.EventLocatorVerification, alice, string(w.owned.ID))
		}},
		"prove a locator": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.ProveLocator(t.Context(), by, w.owned.String(), denizen.NewUser{ScreenName: "Newcomer"})
			require.NoError(t, err)
			return of(denizen.EventUserPassed, alice, string(w.owned.ID))
		}},
		"remove a locator": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.RemoveLocator(t.Context(), by, alice, w.owned.ID))
			return of(denizen.EventLocatorRemoved, alice, string(w.owned.ID))
		}},
		"set the locators": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetLocators(t.Context(), by, alice, []denizen.NewLocator{denizen.Email("new@example.org")})
			require.NoError(t, err)
			return of(denizen.EventLocatorsSet, alice)
		}},
		"define": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.DefineAttribute(t.Context(), by, denizen.AttributeDef{Key: "hat size"})
			require.NoError(t, err)
			return of(denizen.EventAttributeDefined, "", "hat size")
		}},
		"drop a definition": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.DropAttributeDef(t.Context(), by, unusedAttribute))
			return of(denizen.EventAttributeDropped, "", unusedAttribute)
		}},
		"set an attribute": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetAttribute(t.Context(), by, alice, denizen.Attribute{Key: unusedAttribute, Value: "43"})
			require.NoError(t, err)
			return of(denizen.EventProfileChanged, alice, unusedAttribute)
		}},
		"replace attributes": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			_, err := w.SetAttributes(t.Context(), by, alice, []denizen.Attribute{{Key: unusedAttribute, Value: "43"}}, denizen.Replace)
			require.NoError(t, err)
			return of(denizen.EventProfileChanged, alice, unusedAttribute, usedAttribute)
		}},
		"remove an attribute": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.RemoveAttribute(t.Context(), by, alice, usedAttribute))
			return of(denizen.EventProfileChanged, alice, usedAttribute)
		}},
		"set a presence": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.SetPresence(t.Context(), by, alice, denizen.Away().On("phone")))
			return of(denizen.EventPresenceSet, alice)
		}},
		"clear a presence": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.ClearAllPresence(t.Context(), by, alice))
			return of(denizen.EventPresenceCleared, alice)
		}},
		"issue": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			issued, err := w.IssueToken(t.Context(), by, alice, denizen.TokenOptions{Label: "phone"})
			require.NoError(t, err)
			return of(denizen.EventTokenIssued, alice, string(issued.ID))
		}},
		"extend": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			issued, err := w.ExtendToken(t.Context(), by, alice, w.otherToken, 48*time.Hour)
			require.NoError(t, err)
			return of(denizen.EventTokenExtended, alice, string(issued.ID))
		}},
		"revoke two": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.RevokeTokens(t.Context(), by, alice, w.otherToken, w.byAlice.Token()))
			return of(denizen.EventTokenRevoked, alice, string(w.otherToken), string(w.byAlice.Token()))
		}},
		"revoke all": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.RevokeAllTokens(t.Context(), by, alice))
			return of(denizen.EventTokenRevoked, alice, string(w.byAlice.Token()), string(w.otherToken))
		}},
		"revoke those of a key": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			n, err := w.RevokeTokensIssuedBy(t.Context(), by, w.key.Key)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			return of(denizen.EventTokenRevoked, alice, string(w.otherToken))
		}},
		"log out": {by: (*world).itself, do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.Logout(t.Context(), by))
			return of(denizen.EventTokenRevoked, alice, string(by.Token()))
		}},
		"create an access key": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			return of(denizen.EventAccessKeyCreated, "", newKey(t, w.Directory).Key)
		}},
		"put an access key": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.PutAccessKey(t.Context(), by, "the-key-1", secretA))
			return of(denizen.EventAccessKeyCreated, "", "the-key-1")
		}},
		"delete an access key": {by: (*world).application, do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.DeleteAccessKey(t.Context(), by, w.key.Key))
			return of(denizen.EventAccessKeyDeleted, "", w.key.Key)
		}},
		"rotate": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.RotateSigningKey(t.Context(), by, 2*time.Hour))
			published := kids(t, w.Directory)
			return of(denizen.EventSigningKeyRotated, "", published[len(published)-1])
		}},
		"drop a signing key": {do: func(t *testing.T, w *world, by denizen.Principal) told {
			require.NoError(t, w.DropSigningKey(t.Context(), by, w.announced))
			return of(denizen.EventSigningKeyDropped, "", w.announced)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, true, denizen.Options{}, nil)
				internal := map[denizen.UserID]string{}
				for u, err := range w.AllUsers(t.Context(), sys) {
					require.NoError(t, err)
					internal[u.ID] = u.InternalID
				}
				time.Sleep(time.Minute / 2)
				w.skip(t)
				by := sys
				if row.by != nil {
					by = row.by(w)
				}
				want := row.do(t, w, by)
				if u, err := w.User(t.Context(), sys, want.about); err == nil {
					internal[u.ID] = u.InternalID
				}
				events := eventsAfter(t, w.Directory, w.seen)
				require.Len(t, events, 1)
				require.Greater(t, events[0].Seq, w.seen)
				require.Equal(t, denizen.Event{
					Seq: events[0].Seq, Cursor: events[0].Cursor, At: time.Now().UTC(), Kind: want.what, Actor: by.String(), AccessKey: by.AccessKey(),
					User: want.about, InternalID: internal[want.about], Subjects: want.subjects,
				}, events[0])
			})
		})
	}
}

func TestFeed_WhatChangesNothingForOthersEmitsNothing(t *testing.T) {
	inVirtualTime(t, denizen.Options{TokenTTL: time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		chain := denizen.Online(time.Hour).Then(denizen.Offline())
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain))
		before := eventsAfter(t, d, 0)
		for range 10 {
			time.Sleep(time.Second)
			require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain)) // heartbeats
		}
		require.NoError(t, authenticated(t, d, issued.Signed))
		byKey(t, d, "the-key-1", secretA)
		require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA)))) // a nonce
		_, err := d.SetScreenName(t.Context(), sys, "alice-user", "Somebody")       // as it was
		require.NoError(t, err)
		_, err = d.UnblockUser(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Error(t, signedKind(t, d, sign(signedNow("the-key-2", secretA))))
		_, err = d.CreateUser(t.Context(), sys, denizen.NewUser{ID: "alice-user", ScreenName: "Another"})
		require.ErrorIs(t, err, denizen.ErrTaken)
		time.Sleep(3 * time.Hour) // last uses are stored, and what expired is swept
		require.NoError(t, d.TrimFeed(t.Context(), sys, 0))
		require.Equal(t, before, eventsAfter(t, d, 0))
	})
}

func TestFeed_NoEventHoldsASecretOrALocatorOrAValue(t *testing.T) {
	for _, column := range []int{asSelf, asSystem} {
		for _, m := range methods {
			w := newWorld(t, true, denizen.Options{}, nil)
			_ = m.call(t.Context(), w, w.column(column), w.alice)
			_, err := w.CreateUser(t.Context(), sys, denizen.NewUser{
				ScreenName: canaryName, Locators: []denizen.NewLocator{denizen.Email(canaryLocator)},
				Attributes: []denizen.Attribute{{Key: usedAttribute, Value: canaryValue}},
			})
			require.NoError(t, err)
			feed, err := w.inner.Changes(t.Context(), 0, store.MaxPage)
			if errors.Is(err, store.ErrMissed) {
				feed, err = w.inner.Changes(t.Context(), feed.First-1, store.MaxPage)
			}
			require.NoError(t, err)
			require.NotEmpty(t, feed.Changes)
			for _, c := range feed.Changes {
				text := string(c.Event)
				requireNoCanary(t, text)
				for _, secret := range []string{
					w.signed, w.otherSigned, w.key.Secret, tokenBegins, "example.org", "example.com", "4155550132", "of Alice", "of Bob", `"43"`, "set@",
				} {
					require.NotContains(t, text, secret, m.name)
				}
			}
		}
	}
}

// Reading

// fillFeed creates users until n events are there.
func fillFeed(t testing.TB, d *denizen.Directory, n int) []denizen.Event {
	t.Helper()
	for i := len(eventsAfter(t, d, 0)); i < n; i++ {
		newUser(t, d, denizen.UserID(fmt.Sprintf("user-%06d", i)))
	}
	return eventsAfter(t, d, 0)
}

func TestFeed_TheFeedIsReadFromAnySequence(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 30)
		require.Len(t, all, 30)
		for i := range all {
			require.True(t, i == 0 || all[i].Seq > all[i-1].Seq)
			require.Equal(t, all[i+1:], append([]denizen.Event{}, eventsFrom(t, d, all[i].Cursor)...))
		}
	})
}

func TestFeed_TheFeedIsReadOverManyPages(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	all := fillFeed(t, d, 2*denizen.MaxPage+1)
	require.Len(t, all, 2*denizen.MaxPage+1)
	for i, e := range all[1:] {
		require.Equal(t, denizen.UserID(fmt.Sprintf("user-%06d", i+1)), e.User)
	}
}

func TestFeed_AReaderThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 25)
		var got []denizen.Event
		for seen := denizen.Cursor(""); len(got) < len(all); {
			n := 0
			for e, err := range d.Events(t.Context(), sys, seen) {
				require.NoError(t, err)
				got, seen = append(got, e), e.Cursor
				if n++; n == 3 {
					break
				}
			}
		}
		require.Equal(t, all, got)
	})
}

func TestFeed_AReaderOfWhatIsForgottenIsToldWhereToGoOn(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 10)
		require.NoError(t, d.TrimFeed(t.Context(), sys, all[4].Seq))
		for i, e := range all[4:] {
			require.Equal(t, all[4+i+1:], append([]denizen.Event{}, eventsFrom(t, d, e.Cursor)...))
		}
		var resume denizen.Cursor
		for _, e := range all[:4] {
			_, err := firstEvent(d.Events(t.Context(), sys, e.Cursor))
			requireRefused(t, err, "Events", denizen.ErrMissed, "after")
			resume = err.(*denizen.Error).Resume
			require.Equal(t, all[9].Cursor, resume)
		}
		// Whoever reads the present state now and goes on there misses nothing.
		require.Empty(t, eventsFrom(t, d, resume))
		newUser(t, d, "later-user")
		require.Len(t, eventsFrom(t, d, resume), 1)
	})
}

func TestFeed_TheFeedCanBeTrimmedWholeAndNotBeyondItsEnd(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 5)
		require.NoError(t, d.TrimFeed(t.Context(), sys, all[4].Seq+1000))
		require.NoError(t, d.TrimFeed(t.Context(), sys, all[2].Seq)) // what is forgotten stays so
		_, err := firstEvent(d.Events(t.Context(), sys, all[3].Cursor))
		require.ErrorIs(t, err, denizen.ErrMissed)
		newUser(t, d, "after-the-trim")
		events := eventsAfter(t, d, all[4].Seq)
		require.Len(t, events, 1)
		require.Equal(t, denizen.UserID("after-the-trim"), events[0].User)
	})
}

// eventsFrom returns the events after a cursor.
func eventsFrom(t testing.TB, d *denizen.Directory, after denizen.Cursor) (events []denizen.Event) {
	t.Helper()
	for e, err := range d.Events(context.Background(), sys, after) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

// headOf returns the place of the newest event.
func headOf(t testing.TB, d *denizen.Directory) denizen.Cursor {
	t.Helper()
	head, err := d.Head(context.Background(), sys)
	require.NoError(t, err)
	return head
}

// firstCursor returns the place of the oldest event that is kept.
func firstCursor(t testing.TB, d *denizen.Directory) denizen.Cursor {
	t.Helper()
	e, err := firstEvent(d.Events(context.Background(), sys, ""))
	require.NoError(t, err)
	return e.Cursor
}

func firstEvent(events func(func(denizen.Event, error) bool)) (e denizen.Event, err error) {
	for e, err := range events {
		return e, err
	}
	return denizen.Event{}, nil
}

// Waiting

// waitForEvents returns once there is an event after a place, or one that is forgotten by now.
func waitForEvents(ctx context.Context, d *denizen.Directory, by denizen.Principal, after denizen.Cursor) error {
	for _, err := range d.Follow(ctx, by, after) {
		if errors.Is(err, denizen.ErrMissed) {
			return nil
		}
		return err
	}
	return errors.New("ended without an error")
}

// waiting starts to wait and returns where the outcome comes.
func waiting(ctx context.Context, d *denizen.Directory, by denizen.Principal, after denizen.Cursor) chan error {
	outcome := make(chan error, 1)
	go func() { outcome <- waitForEvents(ctx, d, by, after) }()
	synctest.Wait()
	return outcome
}

func requireWaiting(t testing.TB, outcome chan error) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, outcome)
}

func TestFeed_WaitingEndsWithAnEventAndNothingLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := newOver(t, s, denizen.Options{})
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		newUser(t, d, "alice-user")
		chain := denizen.Online(time.Hour)
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain))
		all := eventsAfter(t, d, 0)
		head := all[3].Seq
		require.NoError(t, waitForEvents(t.Context(), d, sys, all[2].Cursor))
		outcome := waiting(t.Context(), d, sys, all[3].Cursor)
		requireWaiting(t, outcome)
		// Commits without an event.
		require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA))))
		requireWaiting(t, outcome)
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain))
		time.Sleep(2 * time.Minute) // heartbeats and last uses are stored
		requireWaiting(t, outcome)
		require.NoError(t, d.TrimFeed(t.Context(), sys, 2))
		requireWaiting(t, outcome)
		feed, err := s.Changes(t.Context(), store.Seq(head), 1)
		require.NoError(t, err)
		require.Greater(t, feed.Head, store.Seq(head)+2) // there were some
		newUser(t, d, "bob-user")
		require.NoError(t, <-outcome)
		last := waiting(t.Context(), d, sys, eventsAfter(t, d, head)[0].Cursor)
		requireWaiting(t, last)
		require.NoError(t, d.Close())
		require.ErrorIs(t, <-last, denizen.ErrClosed)
	})
}

func TestFeed_WaitingForWhatIsForgottenEndsAtOnce(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 5)
		require.NoError(t, d.TrimFeed(t.Context(), sys, all[4].Seq))
		require.NoError(t, waitForEvents(t.Context(), d, sys, all[1].Cursor))
	})
}

func TestFeed_WaitingEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		outcome := waiting(ctx, d, sys, headOf(t, d))
		requireWaiting(t, outcome)
		err := <-outcome
		requireRefused(t, err, "Follow", denizen.ErrUnavailable, "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestFeed_WaitingEndsWhenTheDirectoryIsClosed(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		outcome := waiting(t.Context(), d, sys, headOf(t, d))
		requireWaiting(t, outcome)
		require.NoError(t, d.Close())
		err := <-outcome
		requireRefused(t, err, "Follow", denizen.ErrClosed, "")
	})
}

func TestFeed_WaitingEndsAtTheNextCommitOnceItsAccessKeyIsGone(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		key := newKey(t, d)
		outcome := waiting(t.Context(), d, byKey(t, d, key.Key, key.Secret), headOf(t, d))
		requireWaiting(t, outcome)
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, key.Key))
		require.ErrorIs(t, <-outcome, denizen.ErrRevoked)
	})
}

func TestFeed_AFollowerSeesEveryEventOnceWhileOthersWrite(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		const writers, each = 8, 40
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				for j := range each {
					if _, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("user-%03d-%03d", i, j)), ScreenName: "U"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		seen := map[denizen.UserID]int{}
		last := denizen.Seq(1)
		for e, err := range d.Follow(t.Context(), sys, firstCursor(t, d)) {
			require.NoError(t, err)
			require.Greater(t, e.Seq, last)
			last = e.Seq
			seen[e.User]++
			// It is seen as soon as what it tells of is, and not before.
			_, err := d.User(t.Context(), sys, e.User)
			require.NoError(t, err)
			if len(seen) == writers*each {
				break
			}
		}
		all.Wait()
		for user, n := range seen {
			require.Equal(t, 1, n, user)
		}
		require.Empty(t, eventsAfter(t, d, last))
	})
}

// Trimming by itself

func TestFeed_EventsThatAreTooOldAreForgottenWithinAMinute(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		o := denizen.Options{FeedMaxAge: time.Hour}
		d := open(o)
		oldest := func() time.Duration {
			e, err := firstKept(d)
			require.NoError(t, err)
			return time.Since(e.At)
		}
		for i := range 300 {
			newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)))
			newToken(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)), denizen.TokenOptions{})
			time.Sleep(time.Minute)
			synctest.Wait()
			require.LessOrEqual(t, oldest(), time.Hour+time.Minute)
			require.GreaterOrEqual(t, oldest(), min(time.Duration(i)*time.Minute, time.Hour-time.Minute))
			if i%100 == 50 {
				require.NoError(t, d.Close())
				d = open(o)
			}
		}
		// With nobody writing, all of them in the end.
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		_, err := firstKept(d)
		require.ErrorIs(t, err, errNothingKept)
	})
}

var errNothingKept = errors.New("nothing is kept")

// firstKept returns the oldest event that is not forgotten.
func firstKept(d *denizen.Directory) (denizen.Event, error) {
	e, err := firstEvent(d.Events(context.Background(), sys, ""))
	if err == nil && e.Seq == 0 {
		return e, errNothingKept
	}
	return e, err
}

func TestFeed_EventsThatAreTooManyAreForgottenWithinAMinute(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		o := denizen.Options{FeedMaxEvents: 50}
		d := open(o)
		newUser(t, d, "alice-user")
		for i := range 12 {
			if i == 6 {
				require.NoError(t, d.Close())
				d = open(o)
			}
			for range 10 * (i%4 + 1) {
				require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", newToken(t, d, "alice-user", denizen.TokenOptions{}).ID))
			}
			if i%5 == 4 { // the host does it too
				e, err := firstKept(d)
				require.NoError(t, err)
				require.NoError(t, d.TrimFeed(t.Context(), sys, e.Seq+5))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			e, err := firstKept(d)
			require.NoError(t, err)
			kept := eventsAfter(t, d, e.Seq-1)
			require.LessOrEqual(t, len(kept), 50)
			if i >= 3 {
				require.Len(t, kept, 50)
			}
		}
	})
}

func TestFeed_TheFeedIsTrimmedInBoundedSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &batches{Store: memory.New()}
		d := newOver(t, inner, denizen.Options{FeedMaxAge: time.Hour, FeedMaxEvents: 2000})
		newUser(t, d, "alice-user")
		for range 2500 {
			require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", newToken(t, d, "alice-user", denizen.TokenOptions{}).ID))
		}
		inner.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, inner.forgotten, 1001) // commits take numbers too
		e, err := firstKept(d)
		require.NoError(t, err)
		require.LessOrEqual(t, len(eventsAfter(t, d, e.Seq-1)), 2000)
		inner.start()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.NotZero(t, inner.forgotten)
		require.LessOrEqual(t, inner.forgotten, 1001)
		// Where there is nothing to do it looks at a page of the feed, and writes nothing.
		inner.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, inner.commits)
		require.LessOrEqual(t, inner.reads, 60*5+10)
	})
}

// batches watches how much the commits to a store change.
type batches struct {
	*memory.Store
	mu        sync.Mutex
	commits   int
	reads     int
	keys      int       // the most keys that one commit changed
	forgotten int       // the most numbers that one commit forgot
	trimmed   store.Seq // up to here
}

func (s *batches) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits, s.reads, s.keys, s.forgotten = 0, 0, 0, 0
}

func (s *batches) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.mu.Lock()
	s.commits++
	s.keys = max(s.keys, len(b.Drop)+len(b.Put))
	if b.Trim > 0 {
		s.forgotten = max(s.forgotten, int(b.Trim-s.trimmed))
		s.trimmed = b.Trim
	}
	s.mu.Unlock()
	return s.Store.Commit(ctx, b)
}

func (s *batches) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	return s.Store.Changes(ctx, after, limit)
}

func (s *batches) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	return s.Store.List(ctx, r)
}

func TestFeed_EventNamesAreAllDifferent(t *testing.T) {
	names := []denizen.EventKind{
		denizen.EventDirectoryFounded, denizen.EventUserCreated, denizen.EventUserRenamed, denizen.EventUserBlocked, denizen.EventUserPassed, denizen.EventUserUnblocked, denizen.EventUserDeleted, denizen.EventUserErased,
		denizen.EventLocatorAdded, denizen.EventLocatorOwned, denizen.EventLocatorVerification, denizen.EventLocatorRemoved, denizen.EventLocatorsSet,
		denizen.EventAttributeDefined, denizen.EventAttributeDropped, denizen.EventProfileChanged, denizen.EventPresenceSet, denizen.EventPresenceCleared,
		denizen.EventTokenIssued, denizen.EventTokenExtended, denizen.EventTokenRevoked, denizen.EventAccessKeyCreated, denizen.EventAccessKeyDeleted,
		denizen.EventSigningKeyRotated, denizen.EventSigningKeyDropped,
	}
	invariant.Distinct(t, names, func(k denizen.EventKind) string { return strings.ToLower(string(k)) })
}

func TestFeed_HeadIsWhereWhatComesLaterBegins(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		fillFeed(t, d, 3)
		head := headOf(t, d)
		require.Empty(t, eventsFrom(t, d, head))
		newUser(t, d, "later-user")
		later := eventsFrom(t, d, head)
		require.Len(t, later, 1)
		require.Equal(t, denizen.UserID("later-user"), later[0].User)
	})
}

func TestFeed_FollowBeginsAnewEachTimeItIsRangedOver(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		fillFeed(t, d, 3)
		events := d.Follow(t.Context(), sys, "")
		for range 2 {
			for e, err := range events {
				require.NoError(t, err)
				require.Equal(t, denizen.EventDirectoryFounded, e.Kind)
				break
			}
		}
	})
}

func TestFeed_FollowGoesOnPastADamagedEvent(t *testing.T) {
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	newUser(t, d, "alice-user")
	_, err := s.Commit(t.Context(), store.Batch{Emit: []byte(`{"of":"another format"}`)})
	require.NoError(t, err)
	newUser(t, d, "later-user")
	var damaged int
	for e, err := range d.Follow(t.Context(), sys, "") {
		if err != nil {
			requireRefused(t, err, "Follow", denizen.ErrCorrupt, "")
			require.NotZero(t, e.Seq)
			damaged++
		}
		if e.User == "later-user" {
			break
		}
	}
	require.Equal(t, 1, damaged)
}
