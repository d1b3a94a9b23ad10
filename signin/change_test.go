package signin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
)

const (
	before = "email:before@example.org"
	after  = "email:after@example.org"
)

// replaces has a user who signed in by one address replace it, and returns what is told of it.
func (k *desk) replaces(t *testing.T, in signin.SignedIn) signin.Delivery {
	t.Helper()
	issued, err := k.IssueToken(ctx, sys, in, denizen.TokenOptions{})
	require.NoError(t, err)
	by, err := k.dir.Authenticate(ctx, issued.Signed)
	require.NoError(t, err)
	id, n := in.User.Locators[0].ID, k.deliveries()
	proof, err := k.StartReplace(ctx, by, id, after, "de")
	require.NoError(t, err)
	d := k.awaitSent(t, n+1)
	require.Equal(t, signin.Change, d.Purpose)
	require.Equal(t, "after@example.org", d.Address)
	_, err = k.FinishVerify(ctx, by, id, proof, "wrong")
	requireRefused(t, err)
	l, err := k.FinishVerify(ctx, by, id, proof, d.Code)
	require.NoError(t, err)
	require.Equal(t, after, l.String())
	return k.awaitSent(t, n+2)
}

func TestWhoWasReachedBeforeIsToldAndCanUndo(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		in := k.enters(t, before)
		told := k.replaces(t, in)
		require.Equal(t, signin.Notice, told.Purpose)
		require.Equal(t, "before@example.org", told.Address)
		require.True(t, told.Removed)
		require.Empty(t, told.Code)
		require.NotEqual(t, in.User.ID, k.enters(t, "email:else@example.org").User.ID)

		// Who got in by the new address changes nothing yet.
		thief := k.enters(t, after)
		require.Equal(t, in.User.ID, thief.User.ID)
		issued, err := k.IssueToken(ctx, sys, thief, denizen.TokenOptions{})
		require.NoError(t, err)
		by, err := k.dir.Authenticate(ctx, issued.Signed)
		require.NoError(t, err)
		_, err = k.StartReplace(ctx, by, thief.User.Locators[0].ID, "email:third@example.org", "")
		require.ErrorIs(t, err, denizen.ErrDenied)

		secret, ok := strings.CutPrefix(told.Undo, "https://app.example.org/sign-in/undo#")
		require.True(t, ok)
		require.ErrorIs(t, k.Undo(ctx, sys, secret+"x"), denizen.ErrNotFound)
		require.ErrorIs(t, k.Undo(ctx, by, secret), denizen.ErrDenied)
		require.NoError(t, k.Undo(ctx, sys, secret))
		require.ErrorIs(t, k.Undo(ctx, sys, secret), denizen.ErrNotFound)
		requireGone(t, k, by)
		require.Equal(t, in.User.ID, k.enters(t, before).User.ID)
		require.NotEqual(t, in.User.ID, k.enters(t, after).User.ID)
	})
}

func TestAnUndoEndsTheProofsOfTheUser(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		in := k.enters(t, before)
		told := k.replaces(t, in)
		hers := k.login(t, in.User.ID)
		k.claims(t, hers, k.claim(t, hers, victims))
		_, secret, _ := strings.Cut(told.Undo, "#")
		require.NoError(t, k.Undo(ctx, sys, secret))
		require.Empty(t, stored[*record.Proof](t, k.store))
	})
}

func TestWhatWasGivenUpSignsNobodyInAndLooksFree(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.replaces(t, k.enters(t, before))
		proof, d := k.asks(t, signin.Request{Locator: before})
		_, err := k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
	})
}

func TestAChangeIsMadeAndUndoneOverHTTP(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		in := s.enters(t, before)
		issued, err := s.IssueToken(ctx, sys, in, denizen.TokenOptions{})
		require.NoError(t, err)
		bearer, n := header("Authorization", "Bearer "+issued.Signed), s.deliveries()
		path := "/v1/users/me/locators/" + string(in.User.Locators[0].ID)
		answer, text := s.do("POST", path+"/replacement", `{"locator":"`+after+`"}`, bearer)
		require.Equal(t, http.StatusAccepted, answer.StatusCode, text)
		proof := strings.Split(text, `"`)[3]
		answer, text = s.do("PUT", path+"/proof", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, s.awaitSent(t, n+1).Code), bearer)
		require.Equal(t, http.StatusNoContent, answer.StatusCode, text)
		link := strings.TrimPrefix(s.awaitSent(t, n+2).Undo, "https://app.example.org")
		page, secret, _ := strings.Cut(link, "#")
		for range 3 {
			answer, text = s.do("GET", page, "")
			require.Equal(t, http.StatusOK, answer.StatusCode)
			require.Contains(t, text, "<button")
		}
		owners, err := s.dir.Locate(ctx, sys, after)
		require.NoError(t, err)
		require.Equal(t, in.User.ID, owners[0], "opening the page changes nothing")
		answer, text = s.do("POST", page, `{"secret":"wrong"}`)
		requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
		answer, text = s.do("POST", page, fmt.Sprintf(`{"secret":%q}`, secret), header("Sec-Fetch-Site", "cross-site"))
		requireProblem(t, answer, text, http.StatusForbidden, "missing_context")
		answer, text = s.do("POST", page, fmt.Sprintf(`{"secret":%q}`, secret), header("Sec-Fetch-Site", "same-origin"))
		require.Equal(t, http.StatusNoContent, answer.StatusCode, text)
		require.Equal(t, in.User.ID, s.enters(t, before).User.ID)
	})
}

// Mallory proved an address of her own for a user, and removed it again. Then the person whom the
// application meant signs in: nobody had proved to be that user any more.
func TestWhoHadAUserBeforeItPassedUndoesNothing(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims})
		hers := k.login(t, alice)
		claim := k.claim(t, hers, "email:mallory@example.org")
		proof, d := k.claims(t, hers, claim)
		_, err := k.FinishVerify(ctx, hers, claim, proof, d.Code)
		require.NoError(t, err)
		require.NoError(t, k.dir.RemoveLocator(ctx, hers, alice, claim))
		_, secret, ok := strings.Cut(k.awaitSent(t, 2).Undo, "#")
		require.True(t, ok)
		require.EqualValues(t, alice, k.enters(t, victims).User.ID)
		require.ErrorIs(t, k.Undo(ctx, sys, secret), denizen.ErrNotFound)
		require.EqualValues(t, alice, k.enters(t, victims).User.ID)
		require.Empty(t, stored[*record.Undo](t, k.store))
		require.Empty(t, stored[*record.User](t, k.store)[0].Changes)
		proof, d = k.asks(t, signin.Request{Locator: "email:mallory@example.org"})
		_, err = k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
	})
}

// A thief used a code up just before the user undid the change, and asks for the token after.
func TestNobodyGetsATokenByALocatorThatTheUserLostMeanwhile(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, k *desk, user denizen.UserID, undo string) error{
		"undone": func(t *testing.T, k *desk, _ denizen.UserID, undo string) error { return k.Undo(ctx, sys, undo) },
		"removed": func(t *testing.T, k *desk, user denizen.UserID, _ string) error {
			u, err := k.dir.User(ctx, sys, user)
			require.NoError(t, err)
			return k.dir.RemoveLocator(ctx, sys, user, u.Locators[0].ID)
		},
		"not believed": func(t *testing.T, k *desk, user denizen.UserID, _ string) error {
			u, err := k.dir.User(ctx, sys, user)
			require.NoError(t, err)
			_, err = k.dir.SetVerification(ctx, sys, user, u.Locators[0].ID, denizen.Unverified)
			return err
		},
		"moved": func(t *testing.T, k *desk, user denizen.UserID, _ string) error {
			u, err := k.dir.User(ctx, sys, user)
			require.NoError(t, err)
			k.create(t, mallory)
			_, err = k.dir.MoveLocator(ctx, sys, user, u.Locators[0].ID, mallory)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			overDesks(t, func(t *testing.T, k *desk) {
				in := k.enters(t, before)
				told := k.replaces(t, in)
				thief := k.enters(t, after)
				_, secret, _ := strings.Cut(told.Undo, "#")
				require.NoError(t, lose(t, k, in.User.ID, secret))
				_, err := k.IssueToken(ctx, sys, thief, denizen.TokenOptions{})
				requireRefused(t, err)
			})
		})
	}
}

func TestALocatorThatIsMovedWhileItIsNewTakesItsTokensAlong(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.replaces(t, k.enters(t, before))
		thief := k.enters(t, after)
		issued, err := k.IssueToken(ctx, sys, thief, denizen.TokenOptions{})
		require.NoError(t, err)
		by, err := k.dir.Authenticate(ctx, issued.Signed)
		require.NoError(t, err)
		own := k.login(t, thief.User.ID)
		k.create(t, alice)
		_, err = k.dir.MoveLocator(ctx, sys, thief.User.ID, thief.User.Locators[0].ID, alice)
		require.NoError(t, err)
		requireGone(t, k, by)
		require.NoError(t, k.dir.Check(ctx, own))
	})
}

func TestUsersWhoseChangesCanBeUndoneAreNotMerged(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		in := k.enters(t, before)
		k.replaces(t, in)
		k.create(t, alice)
		hers := k.login(t, in.User.ID)
		k.claims(t, hers, k.claim(t, hers, victims))
		for _, pair := range [][2]denizen.UserID{{in.User.ID, alice}, {alice, in.User.ID}} {
			_, err := k.dir.MergeUsers(ctx, sys, pair[0], pair[1], denizen.MergePolicy{})
			e := requireField(t, err, denizen.ErrDenied, "user")
			require.Equal(t, []string{string(in.User.ID)}, e.Missing)
		}
		require.Len(t, stored[*record.Undo](t, k.store), 1)
		require.NoError(t, k.dir.CancelUndo(ctx, sys, in.User.ID))
		_, err := k.dir.MergeUsers(ctx, sys, in.User.ID, alice, denizen.MergePolicy{})
		require.NoError(t, err)
		require.Empty(t, stored[*record.Undo](t, k.store))
		require.Empty(t, stored[*record.Proof](t, k.store))
		require.Empty(t, stored[*record.UserProofs](t, k.store))
		require.EqualValues(t, alice, k.enters(t, after).User.ID)
		requireGone(t, k, hers)
	})
}

func TestAMergeDropsWhatCouldNotBeUndoneAnyMore(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		in := k.enters(t, before)
		told := k.replaces(t, in)
		k.create(t, alice)
		k.ahead.Add(int64(72 * time.Hour))
		_, err := k.dir.MergeUsers(ctx, sys, in.User.ID, alice, denizen.MergePolicy{})
		require.NoError(t, err)
		require.Empty(t, stored[*record.Undo](t, k.store))
		_, secret, _ := strings.Cut(told.Undo, "#")
		require.ErrorIs(t, k.Undo(ctx, sys, secret), denizen.ErrNotFound)
	})
}

// What can be undone is kept in the clear, and so are the locators that the user had before.
func TestAnErasureLeavesNoByteOfWhatAUserChangedAndProves(t *testing.T) {
	for _, damaged := range []string{"nothing", "the user", "the list of its proofs"} {
		t.Run(damaged, func(t *testing.T) {
			overDesks(t, func(t *testing.T, k *desk) {
				in := k.enters(t, before)
				k.replaces(t, in)
				hers := k.login(t, in.User.ID)
				k.claims(t, hers, k.claim(t, hers, victims))
				n := k.deliveries()
				_, err := k.StartReplace(ctx, hers, in.User.Locators[0].ID, "email:third@example.org", "")
				require.Error(t, err, "it was replaced")
				u, err := k.dir.User(ctx, sys, in.User.ID)
				require.NoError(t, err)
				_, err = k.StartReplace(ctx, hers, u.Locators[0].ID, "email:third@example.org", "")
				require.NoError(t, err)
				k.awaitSent(t, n+1)
				traces := []string{"before@example", "after@example", "victim@example"}
				require.Equal(t, traces, invariant.Traces(t, k.store, traces...), "what is looked for is there")
				require.Len(t, stored[*record.Undo](t, k.store), 1)
				require.Len(t, stored[*record.Proof](t, k.store), 2)
				key := map[string]store.Key{
					"the user":               record.UserKey(string(in.User.ID)),
					"the list of its proofs": record.UserProofsKey(string(in.User.ID)),
				}[damaged]
				if key != "" {
					_, err := k.store.Commit(ctx, store.Batch{Put: []store.Record{{Key: key, Value: []byte("{}")}}})
					require.NoError(t, err)
				}
				_, err = k.dir.EraseUser(ctx, sys, in.User.ID)
				require.NoError(t, err)
				require.Empty(t, invariant.Traces(t, k.store, append(traces, "third@example")...))
				require.Empty(t, stored[*record.Undo](t, k.store))
				require.Empty(t, stored[*record.Proof](t, k.store))
				require.Empty(t, stored[*record.UserProofs](t, k.store))
				for _, r := range invariant.Of(t, k.store).Records {
					require.Empty(t, invariant.TracesIn([]byte(string(r.Key)+string(r.Value)), string(in.User.ID), u.InternalID))
				}
			})
		})
	}
}
