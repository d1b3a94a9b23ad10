package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
)

func TestErrors_AnErrorSaysWhatWasRefusedAndByWhichRule(t *testing.T) {
	for want, e := range map[string]denizen.Error{
		"denizen: denied":                                     {Kind: denizen.ErrDenied},
		"denizen: CreateUser: denied":                         {Op: "CreateUser", Kind: denizen.ErrDenied},
		"denizen: CreateUser: id: taken":                      {Op: "CreateUser", Kind: denizen.ErrTaken, Field: "id"},
		"denizen: IssueToken: ttl: invalid: must be positive": {Op: "IssueToken", Kind: denizen.ErrInvalid, Field: "ttl", Reason: "must be positive"},
		"denizen: Events: events were forgotten":              {Op: "Events", Kind: denizen.ErrMissed, Resume: "7"},
	} {
		require.Equal(t, want, e.Error())
	}
}

// The errors of stores, and what becomes of them.
func TestErrors_WhatAStoreAnswersIsAKindOfItsOwnWithTheCauseBehindIt(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		ctx    context.Context
		answer error
		kind   error
	}{
		"unavailable":     {t.Context(), store.ErrUnavailable, denizen.ErrUnavailable},
		"damaged":         {t.Context(), fmt.Errorf("page 7: %w", store.ErrCorrupt), denizen.ErrCorrupt},
		"outcome unknown": {t.Context(), store.ErrOutcomeUnknown, denizen.ErrOutcomeUnknown},
		"closed":          {t.Context(), store.ErrClosed, denizen.ErrClosed},
		"another error":   {t.Context(), errors.New("disk on fire at /dev/sda1"), denizen.ErrUnavailable},
		"context ended":   {ended, context.Canceled, denizen.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := &broken{Store: memory.New()}
			d := newOver(t, s, denizen.Options{})
			s.err = row.answer
			_, err := d.CreateUser(row.ctx, denizen.System(), denizen.NewUser{ScreenName: "Alice"})
			require.ErrorIs(t, err, row.kind)
			require.ErrorIs(t, err, row.answer)
			require.Equal(t, "denizen: CreateUser: "+row.kind.Error(), err.Error())
			e, ok := errors.AsType[*denizen.Error](err)
			require.True(t, ok)
			require.Equal(t, "CreateUser", e.Op)
			for _, other := range kinds {
				if other != row.kind {
					require.NotErrorIs(t, err, other)
				}
			}
		})
	}
}

var kinds = []error{
	denizen.ErrInvalid, denizen.ErrUnauthenticated, denizen.ErrDenied, denizen.ErrNotFound, denizen.ErrTaken,
	denizen.ErrRevoked, denizen.ErrExpired, denizen.ErrLimited, denizen.ErrConflict, denizen.ErrMissed,
	denizen.ErrUnavailable, denizen.ErrOutcomeUnknown, denizen.ErrClosed, denizen.ErrCorrupt,
}

// broken returns err to every commit once it is set.
type broken struct {
	store.Store
	err error
}

func (s *broken) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.err != nil {
		return 0, s.err
	}
	return s.Store.Commit(ctx, b)
}

func TestErrors_AnErrorOfTheHostIsLeftAsItIs(t *testing.T) {
	shared := &denizen.Error{Kind: denizen.ErrDenied, Reason: "not friends"}
	d := newMemory(t, denizen.Options{
		MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return false, shared
		},
	})
	newUser(t, d, "alice-user")
	by, err := d.ActAs(t.Context(), denizen.System(), "alice-user")
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := d.User(t.Context(), by, "bob-user")
			if !errors.Is(err, denizen.ErrDenied) || err.Error() != "denizen: User: denied: not friends" {
				t.Error(err)
			}
			_, err = d.Profile(t.Context(), by, "bob-user")
			if err.Error() != "denizen: Profile: denied: not friends" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Empty(t, shared.Op)
}

func TestErrors_AnotherErrorOfTheHostIsTheCauseAndNotTold(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.7: refused")
	d := newMemory(t, denizen.Options{
		MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, cause },
	})
	newUser(t, d, "alice-user")
	by, err := d.ActAs(t.Context(), denizen.System(), "alice-user")
	require.NoError(t, err)
	_, err = d.User(t.Context(), by, "bob-user")
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	require.ErrorIs(t, err, cause)
	require.NotContains(t, err.Error(), "10.0.0.7")
}

// Canaries are values that no error and no event may hold.
const (
	canarySecret  = "Y2FuYXJ5LXNlY3JldC1jYW5hcnktc2VjcmV0LWNhbmFyeQ==" // base64
	canaryLocator = "canary-locator@example.org"
	canaryValue   = "canary-value"
	canaryText    = "canary.canary.canary"
	canaryName    = "Canary Name"
)

// refusals makes every method that takes something secret or somebody's refuse it.
func refusals(ctx context.Context, w *world) []error {
	sys := denizen.System()
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	_, err := w.Authenticate(ctx, canaryText)
	note(err)
	_, err = w.Authenticate(ctx, w.signed+"x")
	note(err)
	_, err = w.AuthenticateKey(ctx, "canary-key", canarySecret)
	note(err)
	_, err = w.AuthenticateKey(ctx, w.key.Key, canarySecret)
	note(err)
	for _, r := range []denizen.SignedRequest{
		{AccessKey: w.key.Key, Digest: canaryText, Nonce: "canary-nonce", Date: "canary-date", Path: "/canary"},
		{AccessKey: w.key.Key, Digest: canaryText, Nonce: "canary-nonce", Date: "Sat, 01 Jan 2000 00:00:00 GMT", Path: "/canary"},
		{AccessKey: w.key.Key, Digest: canaryText, Nonce: "canary nonce", Date: "Sat, 01 Jan 2000 00:00:00 GMT"},
	} {
		_, err = w.AuthenticateSigned(ctx, r)
		note(err)
	}
	note(w.PutAccessKey(ctx, sys, "canary", canarySecret))
	note(w.PutAccessKey(ctx, sys, "canary-key", canarySecret+"="))
	note(w.PutAccessKey(ctx, sys, w.key.Key, canarySecret))
	_, err = w.CreateUser(ctx, sys, denizen.NewUser{ID: w.bob, ScreenName: canaryName, Locators: []denizen.NewLocator{denizen.Email(canaryLocator)}})
	note(err)
	_, err = w.CreateUser(ctx, sys, denizen.NewUser{ScreenName: canaryName, Locators: []denizen.NewLocator{denizen.Email("bob@example.org"), denizen.Email(canaryLocator)}})
	note(err)
	_, err = w.CreateUser(ctx, sys, denizen.NewUser{ScreenName: canaryName, Locators: []denizen.NewLocator{denizen.Email(canaryLocator + "@" + canaryValue)}})
	note(err)
	_, err = w.CreateUser(ctx, sys, denizen.NewUser{ScreenName: canaryName, Attributes: []denizen.Attribute{{Key: "undefined", Value: canaryValue}}})
	note(err)
	_, err = w.CreateUser(ctx, sys, denizen.NewUser{ScreenName: canaryName + "\u202e"})
	note(err)
	_, err = w.AddLocator(ctx, sys, w.alice, denizen.Email("bob@example.org"))
	note(err)
	_, err = w.AddLocator(ctx, w.byAlice, w.alice, denizen.Tele("+canary"))
	note(err)
	_, err = w.SetLocators(ctx, sys, w.alice, []denizen.NewLocator{denizen.Email(canaryLocator), denizen.Email("bob@example.org")})
	note(err)
	_, err = w.ResolveUser(ctx, w.byAlice, "email:bob@example.org")
	note(err)
	_, err = w.ResolveUser(ctx, sys, "email:"+canaryLocator)
	note(err)
	_, err = w.UsersByLocator(ctx, sys, []string{"email:" + canaryLocator + " "})
	note(err)
	_, err = w.SetAttribute(ctx, w.byAlice, w.alice, denizen.Attribute{Key: usedAttribute, Value: canaryValue + "\x00"})
	note(err)
	_, err = w.SetAttribute(ctx, w.byAlice, w.alice, denizen.Attribute{Key: "undefined", Value: canaryValue})
	note(err)
	_, err = w.SetScreenName(ctx, w.byAlice, w.alice, canaryName+"\n")
	note(err)
	_, err = w.Users(ctx, sys, denizen.UserQuery{After: canaryText})
	note(err)
	_, err = denizen.Verifier{Keys: denizen.KeySet{}, Issuer: w.ID(), Audience: w.ApplicationID()}.Verify(canaryText)
	note(err)
	_, _, err = denizen.ParseLocator("email:" + canaryLocator + "@")
	note(err)
	var keys denizen.KeySet
	note(keys.UnmarshalJSON([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","d":"` + canarySecret + `"}]}`)))
	return errs
}

func TestErrors_NoErrorHoldsASecretOrALocatorOrAValue(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	errs := refusals(t.Context(), w)
	// The same again, and all that succeeds, with a store that fails every call.
	failing := newWorld(t, false, denizen.Options{}, func(s store.Store) store.Store {
		return storetest.Faulty(s, func(c storetest.Call) storetest.Fault {
			if c.N > 60 {
				return storetest.Before
			}
			return storetest.None
		})
	})
	for range 60 {
		_, _ = failing.CountUsers(t.Context(), denizen.System())
	}
	_, err := failing.CountUsers(t.Context(), denizen.System())
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	errs = append(errs, refusals(t.Context(), failing)...)
	for _, m := range methods {
		for _, by := range []denizen.Principal{{}, failing.byBob, failing.byAlice, denizen.System(), failing.byKey} {
			if err := m.call(t.Context(), failing, by, failing.alice); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for i, err := range errs {
		require.Error(t, err, "the refusal at %d", i)
		_, ok := errors.AsType[*denizen.Error](err)
		require.True(t, ok, "%T", err)
		for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v %#v %q", err, err, err, err)} {
			requireNoCanary(t, text)
			for _, w := range []*world{w, failing} {
				for _, secret := range []string{w.signed, w.otherSigned, w.key.Secret, "example.org", "of Alice", "of Bob", "4155550132"} {
					require.NotContains(t, text, secret)
				}
			}
		}
	}
}

func requireNoCanary(t testing.TB, text string) {
	t.Helper()
	require.NotContains(t, strings.ToLower(text), "canary")
	require.NotContains(t, text, strings.TrimRight(canarySecret, "="))
}

func TestErrors_SecretsAreHiddenFromLogs(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	issued := newToken(t, w.Directory, w.alice, denizen.TokenOptions{})
	for _, row := range []struct {
		value  any
		secret string
		shown  string
	}{
		{w.key, w.key.Secret, w.key.Key},
		{&w.key, w.key.Secret, w.key.Key},
		{struct{ K denizen.NewAccessKey }{w.key}, w.key.Secret, w.key.Key},
		{[]denizen.NewAccessKey{w.key}, w.key.Secret, w.key.Key},
		{issued, issued.Signed, string(issued.ID)},
		{&issued, issued.Signed, string(issued.ID)},
		{map[string]denizen.IssuedToken{"token": issued}, issued.Signed, string(issued.ID)},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, row.value)
			require.NotContains(t, text, row.secret, verb)
			if verb != "%#v" || !strings.Contains(text, "0x") {
				require.Contains(t, text, row.shown, verb)
			}
		}
	}
}

// unreadable returns err to every read once it is set.
type unreadable struct {
	store.Store
	err error
}

func (s *unreadable) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Store.Get(ctx, keys...)
}

func TestErrors_DamageIsAKindOfItsOwnAndTheStoresToo(t *testing.T) {
	for name, damage := range map[string]error{
		"of the store":   fmt.Errorf("%w: page 7 of /data/users.db", store.ErrCorrupt),
		"of one record":  record.ErrCorrupt,
		"behind another": errors.Join(errors.New("while reading"), store.ErrCorrupt),
	} {
		t.Run(name, func(t *testing.T) {
			s := &unreadable{Store: memory.New()}
			d := newOver(t, s, denizen.Options{})
			s.err = damage
			_, err := d.UsersByID(t.Context(), denizen.System(), []denizen.UserID{"nobody-is-remembered"})
			require.ErrorIs(t, err, denizen.ErrCorrupt)
			require.ErrorIs(t, err, store.ErrCorrupt)
			require.NotErrorIs(t, err, denizen.ErrUnavailable)
			require.Equal(t, "denizen: UsersByID: store is damaged", err.Error())
			e, ok := errors.AsType[*denizen.Error](err)
			require.True(t, ok)
			require.Equal(t, denizen.ErrCorrupt, e.Kind)
			require.Equal(t, damage, e.Cause())
		})
	}
}

func TestErrors_ACommitNobodyKnowsTheOutcomeOfIsThatAlsoWhenTheStoreIsDamaged(t *testing.T) {
	s := &broken{Store: memory.New()}
	d := newOver(t, s, denizen.Options{})
	s.err = fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, store.ErrCorrupt)
	_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Alice"})
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok)
	require.Equal(t, denizen.ErrOutcomeUnknown, e.Kind)
}

func TestErrors_ALogShowsTheCauseOfARefusal(t *testing.T) {
	logged := func(err error) string {
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
					return slog.Attr{}
				}
				return a
			},
		})).Error("failed", "err", err)
		return b.String()
	}
	s := &broken{Store: memory.New()}
	d := newOver(t, s, denizen.Options{})
	s.err = errors.New("disk on fire at /dev/sda1")
	_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Alice"})
	require.Equal(t, `err.op=CreateUser err.kind=unavailable err.cause="disk on fire at /dev/sda1"`+"\n", logged(err))
	require.Equal(t, "denizen: CreateUser: unavailable", err.Error())

	_, err = d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: "no"})
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok)
	require.Equal(t, "err.op=CreateUser err.kind=invalid err.field=id err.reason="+strconv.Quote(e.Reason)+"\n", logged(err))

	require.Equal(t, "err.kind=taken err.field=locator\n", logged(&denizen.Error{
		Kind: denizen.ErrTaken, Field: "locator", Missing: []string{"email:alice@example.org"},
	}), "a log names nobody's locator")
	require.Equal(t, "\n", logged(&denizen.Error{}))
}
