package denizen_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/stretchr/testify/require"
)

// reserved are names that are no user's, in every spelling that somebody could try.
var reserved = []denizen.UserID{
	".system", ".anonymous", ".deleted", ".System", ".SYSTEM", ".system ", " .system", ".system\x00", "\x00.system",
	"%2esystem", "..system", "./.system", ".system.", "．system", ".ѕystem", ".systemm", ".anonymous1", "-.system", "$.system",
	"system", "me", "", ".", "12345.78",
}

func TestIdentity_NobodyIsCreatedUnderAReservedName(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{}, nil)
		before := invariant.Of(t, w.inner)
		for _, id := range reserved {
			if id == "" { // asks for an id to be made
				continue
			}
			_, err := w.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: id, ScreenName: "Somebody"})
			require.ErrorIs(t, err, denizen.ErrInvalid, "%q", id)
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
	})
}

// Whoever asks, nothing that a user has ever belongs to a reserved name: no token, locator,
// profile or presence is given to it, and it is not renamed, blocked or deleted.
func TestIdentity_NothingBelongsToAReservedName(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return true, nil
		}}, nil)
		before := invariant.Of(t, w.inner)
		for _, m := range methods {
			if !m.about {
				continue
			}
			for _, id := range reserved {
				for _, by := range []denizen.Principal{{}, w.byBob, w.byAlice, w.byAlicesDelegate, denizen.System(), w.byKey} {
					require.Error(t, m.call(t.Context(), w, by, id), "%s of %q by %v", m.name, id, by)
				}
			}
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
	})
}

func TestIdentity_NobodyActsForAReservedName(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, id := range append([]denizen.UserID{absent}, reserved...) {
		p, err := w.ActAs(t.Context(), denizen.System(), id)
		requireRefusal(t, err, denizen.Error{
			Op: "ActAs", Kind: denizen.ErrDenied, Field: "user", Reason: "nobody can act for this user",
		})
		require.Equal(t, denizen.Principal{}, p)
	}
	_, err := w.BlockUser(t.Context(), denizen.System(), w.alice, denizen.Block{})
	require.NoError(t, err)
	p, err := w.ActAs(t.Context(), denizen.System(), w.alice)
	requireRefusal(t, err, denizen.Error{
		Op: "ActAs", Kind: denizen.ErrDenied, Field: "user", Reason: "nobody can act for this user",
	})
	require.Equal(t, denizen.Principal{}, p)
}

func TestIdentity_OnlyAUserIsMe(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, by := range []denizen.Principal{w.byAlice, w.byAlicesDelegate} {
		id, err := w.ResolveUser(t.Context(), by, "me")
		require.NoError(t, err)
		require.Equal(t, w.alice, id)
	}
	for _, by := range []denizen.Principal{{}, denizen.System(), w.byKey} {
		id, err := w.ResolveUser(t.Context(), by, "me")
		require.ErrorIs(t, err, denizen.ErrDenied, "%v", by)
		require.Empty(t, id)
	}
}

func TestIdentity_AReservedNameResolvesToNobody(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, by := range []denizen.Principal{w.byAlice, denizen.System()} {
		for _, ref := range reserved {
			if ref == "me" && by == w.byAlice {
				continue
			}
			id, err := w.ResolveUser(t.Context(), by, string(ref))
			require.Error(t, err, "%q", ref)
			require.Empty(t, id, "%q", ref)
		}
	}
}

func TestIdentity_OnlyWhoCameWithATokenLogsOut(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	before := invariant.Of(t, w.inner)
	for _, by := range []denizen.Principal{{}, denizen.System(), w.byKey, w.byAlicesDelegate} {
		require.ErrorIs(t, w.Logout(t.Context(), by), denizen.ErrDenied, "%v", by)
	}
	require.Equal(t, before, invariant.Of(t, w.inner))
	require.NoError(t, w.Logout(t.Context(), w.byAlice))
	_, err := w.Authenticate(t.Context(), w.signed)
	require.ErrorIs(t, err, denizen.ErrRevoked)
	_, err = w.Authenticate(t.Context(), w.otherSigned)
	require.NoError(t, err, "another token of the same user")
}

func TestIdentity_NoTextBecomesAPrincipal(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{}, nil)
		before := invariant.Of(t, w.inner)
		texts := []string{string(w.alice), w.key.Key, w.key.Secret, w.signed + "=", " " + w.signed, w.signed[:len(w.signed)-1]}
		for _, name := range reserved {
			texts = append(texts, string(name))
		}
		for _, text := range texts {
			p, err := w.Authenticate(t.Context(), text)
			requireRefusal(t, err, denizen.Error{
				Op: "Authenticate", Kind: denizen.ErrUnauthenticated, Field: "token", Reason: "was not issued by this directory",
			})
			require.Equal(t, denizen.Principal{}, p)
			for _, secret := range []string{text, "", w.key.Secret} {
				if text == w.key.Key && secret == w.key.Secret {
					continue
				}
				p, err := w.AuthenticateKey(t.Context(), text, secret)
				requireRefusal(t, err, denizen.Error{Op: "AuthenticateKey", Kind: denizen.ErrUnauthenticated, Field: "accessKey"})
				require.Equal(t, denizen.Principal{}, p)
			}
			p, err = w.AuthenticateKey(t.Context(), w.key.Key, text)
			if text != w.key.Secret {
				require.ErrorIs(t, err, denizen.ErrUnauthenticated)
				require.Equal(t, denizen.Principal{}, p)
			}
			p, err = w.AuthenticateSigned(t.Context(), denizen.SignedRequest{
				AccessKey: text, Method: "GET", ContentType: "null", Date: time.Now().UTC().Format(time.RFC1123), Path: "/", Nonce: "a-new-nonce",
			})
			require.ErrorIs(t, err, denizen.ErrUnauthenticated)
			require.Equal(t, denizen.Principal{}, p)
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
	})
}

func TestIdentity_AnAccessKeyIsNotNamedLikeAPrincipal(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, key := range []string{"", ".sys", "a b c d e f g h", ".system\x00"} {
		err := w.PutAccessKey(t.Context(), denizen.System(), key, w.key.Secret)
		require.ErrorIs(t, err, denizen.ErrInvalid, "%q", key)
	}
}

func TestIdentity_APrincipalSaysWhoItIs(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, row := range []struct {
		by                                   denizen.Principal
		text                                 string
		user                                 denizen.UserID
		key                                  string
		withToken, system, anonymous, admits bool
	}{
		{by: denizen.Principal{}, text: ".anonymous", anonymous: true},
		{by: denizen.System(), text: ".system", system: true},
		{by: w.byKey, text: ".system", key: w.key.Key, system: true},
		{by: w.byAlice, text: string(w.alice), user: w.alice, withToken: true, admits: true},
		{by: w.byAlicesDelegate, text: string(w.alice), user: w.alice, key: w.key.Key, admits: true},
	} {
		require.Equal(t, row.text, row.by.String())
		require.Equal(t, row.text, fmt.Sprint(row.by))
		require.Equal(t, row.user, row.by.User())
		require.Equal(t, row.key, row.by.AccessKey())
		require.Equal(t, row.withToken, row.by.Token() != "")
		require.Equal(t, row.system, row.by.IsSystem())
		require.Equal(t, row.anonymous, row.by.IsAnonymous())
		require.Equal(t, row.user != "", row.by.IsUser())
		require.Equal(t, row.admits, row.by.MayParticipate())
	}
}

func TestIdentity_PrincipalsAreEqualIfTheyCameTheSameWay(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	again, err := w.Authenticate(t.Context(), w.signed)
	require.NoError(t, err)
	require.True(t, again == w.byAlice)
	system := denizen.System()
	require.True(t, system == denizen.System())
	other, err := w.Authenticate(t.Context(), w.otherSigned)
	require.NoError(t, err)
	all := []denizen.Principal{{}, denizen.System(), w.byKey, w.byAlice, w.byBob, w.byAlicesDelegate, other}
	distinct := map[denizen.Principal]bool{}
	for _, p := range all {
		distinct[p] = true
	}
	require.Len(t, distinct, len(all))
}

func TestIdentity_TheUserAndTheKeyThatActForItAreBothInTheFeed(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	_, err := w.SetScreenName(t.Context(), w.byAlicesDelegate, w.alice, "Alice II")
	require.NoError(t, err)
	var last denizen.Event
	for e, err := range w.Events(t.Context(), denizen.System(), "") {
		require.NoError(t, err)
		last = e
	}
	require.Equal(t, []string{string(denizen.EventUserRenamed), string(w.alice), w.key.Key, string(w.alice)},
		[]string{string(last.Kind), last.Actor, last.AccessKey, string(last.User)})
}

func TestIdentity_WhatAUserDoesThroughAnApplicationIsNoMoreThanItMay(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, m := range methods {
		err := m.call(t.Context(), newWorld(t, true, denizen.Options{}, nil), w.byAlicesDelegate, w.alice)
		if m.verdict(t, asSelf) == no {
			require.ErrorIs(t, err, denizen.ErrDenied, m.name)
		}
	}
}

// A principal of one directory is a stranger to another, although both have the user.
func TestIdentity_APrincipalOfAnotherDirectoryIsRevoked(t *testing.T) {
	here, there := newWorld(t, true, denizen.Options{}, nil), newWorld(t, true, denizen.Options{}, nil)
	for _, by := range []denizen.Principal{there.byAlice, there.byAlicesDelegate} {
		_, err := here.User(t.Context(), by, here.alice)
		require.ErrorIs(t, err, denizen.ErrRevoked)
	}
	_, err := here.User(t.Context(), there.byKey, here.alice)
	require.ErrorIs(t, err, denizen.ErrRevoked)
	_, err = here.Authenticate(t.Context(), there.signed)
	require.ErrorIs(t, err, denizen.ErrUnauthenticated)
	_, err = here.AuthenticateKey(t.Context(), there.key.Key, there.key.Secret)
	require.ErrorIs(t, err, denizen.ErrUnauthenticated)
}

func TestIdentity_CheckIsNilWhileAPrincipalStands(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		issued, err := h.IssueToken(t.Context(), sys, alice, denizen.TokenOptions{TTL: time.Hour})
		require.NoError(t, err)
		byToken, err := h.Authenticate(t.Context(), issued.Signed)
		require.NoError(t, err)
		acting, err := h.ActAs(t.Context(), sys, alice)
		require.NoError(t, err)
		for _, by := range []denizen.Principal{sys, byToken, acting} {
			require.NoError(t, h.Check(t.Context(), by), by)
		}
		requireRefused(t, h.Check(t.Context(), denizen.Principal{}), "Check", denizen.ErrDenied, "")
	})
}

func TestIdentity_CheckIsRevokedOnceAPrincipalStandsNoMore(t *testing.T) {
	ends := map[string]func(t *testing.T, h *house, token denizen.TokenID){
		"its token is revoked": func(t *testing.T, h *house, token denizen.TokenID) {
			require.NoError(t, h.RevokeTokens(t.Context(), sys, alice, token))
		},
		"its token expires": func(*testing.T, *house, denizen.TokenID) { time.Sleep(time.Hour) },
		"its user is blocked": func(t *testing.T, h *house, _ denizen.TokenID) {
			_, err := h.BlockUser(t.Context(), sys, alice, denizen.Block{})
			require.NoError(t, err)
		},
		"its user is another": func(t *testing.T, h *house, _ denizen.TokenID) {
			require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
			h.create(t, alice)
			_, err := h.IssueToken(t.Context(), sys, alice, denizen.TokenOptions{})
			require.NoError(t, err)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				h.create(t, alice)
				issued, err := h.IssueToken(t.Context(), sys, alice, denizen.TokenOptions{TTL: time.Hour})
				require.NoError(t, err)
				by, err := h.Authenticate(t.Context(), issued.Signed)
				require.NoError(t, err)
				end(t, h, issued.ID)
				require.ErrorIs(t, h.Check(t.Context(), by), denizen.ErrRevoked)
			})
		})
	}
}

func TestIdentity_CheckIsRevokedOnceTheAccessKeyIsGone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		key := newKey(t, h.Directory)
		system := byKey(t, h.Directory, key.Key, key.Secret)
		acting, err := h.ActAs(t.Context(), system, alice)
		require.NoError(t, err)
		require.NoError(t, h.Check(t.Context(), system))
		require.NoError(t, h.Check(t.Context(), acting))
		require.NoError(t, h.DeleteAccessKey(t.Context(), sys, key.Key))
		require.ErrorIs(t, h.Check(t.Context(), system), denizen.ErrRevoked)
		require.ErrorIs(t, h.Check(t.Context(), acting), denizen.ErrRevoked)
	})
}

// userIDs are ids at the edges of their grammar.
var userIDs = []struct {
	id   string
	good bool
}{
	{"aaaaaaaa", true},
	{"aaaaaaa", false}, // 7
	{strings.Repeat("a", 72), true},
	{strings.Repeat("a", 73), false},
	{"", false},
	{"00000000", true},
	{"ZZZZZZZZ", true},
	{"@bcdefgh", true},
	{"#bcdefgh", true},
	{"@@@@@@@@", true},
	{"########", true},
	{"-bcdefgh", false},
	{"_bcdefgh", false},
	{"$bcdefgh", false},
	{"abcdefg-", true},
	{"abcdefg_", true},
	{"abcdefg$", true},
	{"a@#$-_9Z", true},
	{"ME######", true},
	{"me", false},
	{".system", false},
	{".anonymous", false},
	{".deleted", false},
	{".SYSTEM12", false},
	{"system12", true},
	{"abcdefg.", false},
	{"abcdefg/", false},
	{"abcdefg,", false},
	{"abcdefg:", false},
	{"abcdefg%", false},
	{"abcdefg h", false},
	{" abcdefgh", false},
	{"abcdefgh\n", false},
	{"abcdefgh\x00", false},
	{"abcdefg\x7f", false},
	{"abcdefg\xff", false},
	{"abcdefgé", false},
	{"abcdefg\u0430", false}, // Cyrillic
	{"abcdefg\u212a", false}, // Kelvin sign
	{"abcdefg\u017f", false}, // long s
	{"\u200babcdefgh", false},
	{"\uff41\uff42\uff43\uff44\uff45\uff46\uff47\uff48", false},
}

// accepted reports whether an id is within its grammar. Nobody is there in d, so that what
// is an id is not found.
func accepted(t testing.TB, d *denizen.Directory, id string) bool {
	t.Helper()
	ref, err := d.ResolveUser(context.Background(), denizen.System(), id)
	if err == nil {
		require.Equal(t, denizen.UserID(id), ref)
	}
	if id != "" {
		_, looked := d.Locators(context.Background(), denizen.System(), denizen.UserID(id))
		require.Equal(t, err == nil, errors.Is(looked, denizen.ErrNotFound), "%q", id)
		require.Equal(t, err != nil, errors.Is(looked, denizen.ErrInvalid), "%q", id)
	}
	return err == nil
}

func TestIdentity_UserIDsKeepToTheirGrammar(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for _, row := range userIDs {
		require.Equal(t, row.good, accepted(t, d, row.id), "%q", row.id)
	}
}

func TestIdentity_OnlyAnIDWithinItsGrammarIsCreated(t *testing.T) {
	ctx := context.Background()
	d := newMemory(t, denizen.Options{})
	for _, row := range userIDs {
		if row.id == "" {
			continue // one is made
		}
		u, err := d.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: denizen.UserID(row.id), ScreenName: "x"})
		if !row.good {
			requireField(t, err, denizen.ErrInvalid, "id")
			continue
		}
		require.NoError(t, err, "%q", row.id)
		require.Equal(t, denizen.UserID(row.id), u.ID)
	}
}

func TestIdentity_UserIDsAreComparedByteForByte(t *testing.T) {
	ctx := context.Background()
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "ADMIN123")
	_, err := d.User(ctx, denizen.System(), "admin123")
	requireField(t, err, denizen.ErrNotFound, "user")
	newUser(t, d, "admin123")
}

func TestIdentity_UserIDsAgreeWithTheCollectedOnes(t *testing.T) {
	dir := os.Getenv("DENIZEN_CORPORA")
	if dir == "" {
		t.Skip("DENIZEN_CORPORA is not set")
	}
	data, err := os.ReadFile(filepath.Join(dir, "userid", "userid.tsv"))
	require.NoError(t, err)
	d := newMemory(t, denizen.Options{})
	verdicts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if columns[0] == "id_json" {
			continue
		}
		var id string
		require.NoError(t, json.Unmarshal([]byte(columns[0]), &id), line)
		require.Contains(t, []string{"accept", "reject"}, columns[1])
		require.Equal(t, columns[1] == "accept", accepted(t, d, id), line)
		verdicts[columns[1]]++
	}
	require.Positive(t, verdicts["accept"])
	require.Positive(t, verdicts["reject"])
}

func FuzzUserID(f *testing.F) {
	for _, row := range userIDs {
		f.Add(row.id)
	}
	grammar := regexp.MustCompile(`\A[a-zA-Z0-9@#][a-zA-Z0-9\-_@$#]{7,71}\z`)
	d := newMemory(f, denizen.Options{})
	f.Fuzz(func(t *testing.T, id string) {
		require.Equal(t, grammar.MatchString(id), accepted(t, d, id), "%q", id)
	})
}

var ada = denizen.System().Named("ada")

func TestIdentity_AnOperatorsNameStandsInTheFeedBesideSystem(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		require.True(t, ada.IsSystem())
		require.Equal(t, ".system", ada.String())
		require.Equal(t, "ada", ada.Operator())
		require.NotEqual(t, denizen.System(), ada)
		require.Equal(t, ada, denizen.System().Named("bob").Named("ada"))

		_, err := h.CreateUser(ctx, ada, denizen.NewUser{ID: alice, ScreenName: "Alice"})
		require.NoError(t, err)
		key, err := h.CreateAccessKey(ctx, sys)
		require.NoError(t, err)
		keyed, err := h.AuthenticateKey(ctx, key.Key, key.Secret)
		require.NoError(t, err)
		acting, err := h.ActAs(ctx, keyed.Named("bob"), alice)
		require.NoError(t, err)
		require.True(t, acting.IsUser())
		_, err = h.SetScreenName(ctx, acting, alice, "Alice in W.")
		require.NoError(t, err)

		type who struct{ actor, key, operator string }
		var by []who
		for _, e := range eventsAfter(t, h.Directory, 1) {
			by = append(by, who{e.Actor, e.AccessKey, e.Operator})
		}
		require.Equal(t, []who{{".system", "", "ada"}, {".system", "", ""}, {string(alice), key.Key, "bob"}}, by)
	})
}

func TestIdentity_AnOperatorOfABadNameMayDoNothing(t *testing.T) {
	h := &house{Directory: newMemory(t, denizen.Options{})}
	h.create(t, alice)
	byAlice, _ := h.signedIn(t, alice)
	good := []string{"a", "ada", ".system", "ops/ada@example.org", "auth0|5f7c8ec7", "!~", strings.Repeat("a", denizen.MaxOperator)}
	for _, name := range good {
		_, err := h.User(t.Context(), sys.Named(name), alice)
		require.NoError(t, err, name)
	}
	var refused []denizen.Principal
	for _, name := range []string{"", " ", "ada l", " ada", "ada\n", "ada\x00", "Zoë", "\x7f", strings.Repeat("a", denizen.MaxOperator+1)} {
		refused = append(refused, sys.Named(name), ada.Named(name))
	}
	refused = append(refused, byAlice.Named("ada"), denizen.Principal{}.Named("ada"), sys.Named("").Named("ada"))
	for _, by := range refused {
		require.False(t, by.IsSystem())
		require.True(t, by.IsAnonymous())
		require.Empty(t, by.Operator())
		_, err := h.User(t.Context(), by, alice)
		requireField(t, err, denizen.ErrInvalid, "operator")
		requireField(t, h.DeleteUser(t.Context(), by, alice), denizen.ErrInvalid, "operator")
		requireField(t, h.Check(t.Context(), by), denizen.ErrInvalid, "operator")
	}
	_, err := h.User(t.Context(), denizen.Principal{}, alice)
	requireField(t, err, denizen.ErrDenied, "")
}

func TestIdentity_APersonIsNotToldWhichOperatorActed(t *testing.T) {
	h := &house{Directory: newMemory(t, denizen.Options{})}
	ctx := t.Context()
	_, err := h.CreateUser(ctx, denizen.System().Named("operator-ada"), denizen.NewUser{ID: alice, ScreenName: "Alice"})
	require.NoError(t, err)
	acting, err := h.ActAs(ctx, denizen.System().Named("operator-ada"), alice)
	require.NoError(t, err)
	_, err = h.SetScreenName(ctx, acting, alice, "Alice in W.")
	require.NoError(t, err)
	_, err = h.IssueToken(ctx, denizen.System().Named("operator-ada"), alice, denizen.TokenOptions{TTL: time.Hour})
	require.NoError(t, err)

	var export bytes.Buffer
	require.NoError(t, h.ExportUser(ctx, h.as(t, alice), alice, &export))
	require.Equal(t, 3, strings.Count(export.String(), `"by":"application"`), export.String())
	require.NotContains(t, export.String(), "operator")
	export.Reset()
	require.NoError(t, h.ExportUser(ctx, sys, alice, &export))
	require.NotContains(t, export.String(), "operator")
	receipt, err := h.EraseUser(ctx, denizen.System().Named("operator-ada"), alice)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(receipt), "operator-ada")
}
