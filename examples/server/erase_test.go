package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

const everything = `{"erase": "everything"}`

func TestAPersonWhoAsksIsErased(t *testing.T) {
	s := newInside(t, settings{})
	token := s.signIn("alice@example.org")
	cookie := httpadapter.CookieName + "=" + token
	w := s.send("POST", "/notes", `{"text": "down the hole"}`, "Authorization", "Bearer "+token)
	require.Equal(t, http.StatusCreated, w.Code, w.Body)

	w = s.send("POST", "/erasure", everything, "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	cleared := map[string]int{}
	for _, c := range w.Result().Cookies() {
		cleared[c.Name] = c.MaxAge
	}
	require.Equal(t, -1, cleared[httpadapter.CookieName])
	require.Equal(t, http.StatusUnauthorized, s.send("GET", "/v1/users/me", "", "Cookie", cookie).Code)
	n, err := s.dir.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Contains(t, s.log.String(), "a user was erased")
	require.NotContains(t, s.log.String(), "alice")
	require.NotContains(t, s.log.String(), "Newcomer")
}

func TestNobodyIsErasedWhoDidNotAskJustNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, settings{})
		token := s.signIn("alice@example.org")
		by, err := s.dir.Authenticate(t.Context(), token)
		require.NoError(t, err)
		key, err := s.dir.CreateAccessKey(t.Context(), denizen.System())
		require.NoError(t, err)
		application := "Basic " + base64.StdEncoding.EncodeToString([]byte(key.Key+":"+key.Secret))
		bearer, cookie := "Bearer "+token, httpadapter.CookieName+"="+token

		for name, c := range map[string]struct {
			method, body string
			headers      []string
			status       int
		}{
			"nobody":                    {"POST", everything, nil, 401},
			"a link":                    {"GET", "", []string{"Cookie", cookie}, 405},
			"another site's page":       {"POST", everything, []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, 403},
			"a sibling's page":          {"POST", everything, []string{"Cookie", cookie, "Sec-Fetch-Site", "same-site"}, 403},
			"an older browser's":        {"POST", everything, []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403},
			"a form":                    {"POST", everything, []string{"Cookie", cookie, "Content-Type", "text/plain"}, 415},
			"no body":                   {"POST", "", []string{"Authorization", bearer, "Content-Type", "application/json"}, 400},
			"without saying everything": {"POST", `{}`, []string{"Authorization", bearer}, 400},
			"the application":           {"POST", everything, []string{"Authorization", application}, 403},
			"the application as her":    {"POST", everything, []string{"Authorization", application, "X-Mitter-Sudo-User-Id", string(by.User())}, 403},
		} {
			w := s.send(c.method, "/erasure", c.body, c.headers...)
			require.Equal(t, c.status, w.Code, "%s: %s", name, w.Body)
		}
		time.Sleep(freshSignIn)
		w := s.send("POST", "/erasure", everything, "Authorization", bearer)
		require.Equal(t, http.StatusForbidden, w.Code, w.Body)
		require.Equal(t, "sign_in_again", field(t, w.Body.String(), "errorCode"))
		// A longer life of a token is no sign-in.
		w = s.send("PATCH", "/v1/users/me/tokens/"+string(by.Token()), `{"ttl": 172800}`, "Authorization", bearer)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		extended := field(t, w.Body.String(), "userToken", "signedToken")
		w = s.send("POST", "/erasure", everything, "Authorization", "Bearer "+extended)
		require.Equal(t, http.StatusForbidden, w.Code, w.Body)

		_, err = s.dir.User(t.Context(), denizen.System(), by.User())
		require.NoError(t, err)
	})
}

// meanwhile is a body that somebody reads once something else was done.
type meanwhile struct {
	io.Reader
	do func()
}

func (m meanwhile) Read(p []byte) (int, error) { m.do(); return m.Reader.Read(p) }

func TestNoNoteIsKeptOfWhoWasErasedMeanwhile(t *testing.T) {
	dir := denizentest.New(t)
	n := newNotes(dir)
	require.True(t, n.keep("bob", "here"))
	alice := denizentest.User(t, dir, "Alice")
	token := denizentest.Token(t, dir, alice.ID)
	r := httptest.NewRequest("POST", "/notes", meanwhile{strings.NewReader(`{"text": "down the hole"}`), sync.OnceFunc(func() {
		_, err := dir.EraseUser(t.Context(), denizen.System(), alice.ID)
		require.NoError(t, err)
		n.forget(alice.InternalID)
	})})
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	httpadapter.Require(dir, http.HandlerFunc(n.write)).ServeHTTP(httptest.NewRecorder(), r)

	require.Empty(t, n.texts[alice.InternalID])
	require.Len(t, n.texts["bob"], 1)
	require.Equal(t, n.sizes["bob"], n.size)
}
