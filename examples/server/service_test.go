package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// inside is the service without a network, over a directory in memory.
type inside struct {
	t       *testing.T
	dir     *denizen.Directory
	handler http.Handler
	sent    chan signin.Delivery
	log     said
}

func newInside(t *testing.T, s settings) *inside {
	return over(t, denizentest.New(t), s)
}

func over(t *testing.T, dir *denizen.Directory, s settings) *inside {
	in := &inside{t: t, dir: dir, sent: make(chan signin.Delivery, 100)}
	s.url = "https://people.example.org"
	handler, people, err := service(dir, slog.New(slog.NewTextHandler(&in.log, nil)), s, func(_ context.Context, d signin.Delivery) error {
		in.sent <- d
		return nil
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, people.Close()) })
	in.handler = handler
	return in
}

// send sends a request with headers, given as name, value, name, value.
func (s *inside) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// ask asks for a code and answers what was sent, and the handle of the proof.
func (s *inside) ask(address string) (d signin.Delivery, proof string) {
	s.t.Helper()
	w := s.send("POST", "/sign-in/code", `{"locator": "email:`+address+`"}`)
	require.Equal(s.t, http.StatusAccepted, w.Code, w.Body)
	return <-s.sent, field(s.t, w.Body.String(), "proof")
}

// enter gives a code back.
func (s *inside) enter(proof, code string, headers ...string) *httptest.ResponseRecorder {
	return s.send("POST", "/sign-in/token", fmt.Sprintf(`{"proof": %q, "code": %q}`, proof, code), headers...)
}

// signIn signs an address in and answers the token.
func (s *inside) signIn(address string) string {
	s.t.Helper()
	d, proof := s.ask(address)
	w := s.enter(proof, d.Code, "User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0")
	require.Equal(s.t, http.StatusOK, w.Code, w.Body)
	return field(s.t, w.Body.String(), "userToken", "signedToken")
}

func TestSomebodyNewGetsInByAnAddress(t *testing.T) {
	s := newInside(t, settings{})
	by, err := s.dir.Authenticate(t.Context(), s.signIn("alice@example.org"))
	require.NoError(t, err)
	alice, err := s.dir.User(t.Context(), by, by.User())
	require.NoError(t, err)
	require.Len(t, alice.Locators, 1)
	require.Equal(t, denizen.Verified, alice.Locators[0].Status)
	require.NotContains(t, alice.ScreenName, "alice", "others may see it")

	tokens, err := s.dir.Tokens(t.Context(), by, by.User())
	require.NoError(t, err)
	require.Equal(t, "Firefox on Linux", tokens[0].Label)
}

// What a request says of its host is what its sender wrote.
func TestLinksLeadWhereTheFlagSaysWhateverTheRequest(t *testing.T) {
	s := newInside(t, settings{})
	w := s.send("POST", "/sign-in/code", `{"locator": "email:alice@example.org", "link": true}`,
		"Host", "evil.example", "X-Forwarded-Host", "evil.example", "Forwarded", "host=evil.example")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body)
	require.Regexp(t, `^https://people\.example\.org/sign-in/link#\w{26}$`, (<-s.sent).Link)
}

func TestOneClientThatAsksForAllStopsNobodyElse(t *testing.T) {
	s := newInside(t, settings{proxies: "192.0.2.1"}) // which is where httptest's requests come from
	from := func(client string, i int) *httptest.ResponseRecorder {
		return s.send("POST", "/sign-in/code", fmt.Sprintf(`{"locator": "email:junk-%d@example.org"}`, i),
			"X-Forwarded-For", "1.1.1.1, "+client)
	}
	for i := range 30 {
		require.Equal(t, http.StatusAccepted, from("198.51.100.66", i).Code)
	}
	w := from("198.51.100.66", 30)
	require.Equal(t, http.StatusTooManyRequests, w.Code, w.Body)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Equal(t, http.StatusAccepted, from("198.51.100.7", 31).Code)
}

// A page of another site could otherwise sign its visitor in as whom it likes. One that may call the
// API may not do that either: it brings a token of its own.
func TestAnotherOriginsPageSignsNobodyIn(t *testing.T) {
	const app = "https://app.example.org"
	for name, c := range map[string]struct {
		headers []string
		allowed bool
	}{
		"no browser":       {nil, true},
		"our page":         {[]string{"Origin", "http://example.com", "Sec-Fetch-Site", "same-origin"}, true},
		"another site":     {[]string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, false},
		"a sibling":        {[]string{"Origin", "https://evil.example.com", "Sec-Fetch-Site", "same-site"}, false},
		"an older browser": {[]string{"Origin", "https://evil.example"}, false},
		"an opaque origin": {[]string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, false},
		"one that may ask": {[]string{"Origin", app, "Sec-Fetch-Site", "cross-site"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newInside(t, settings{allowOrigin: app})
			d, proof := s.ask("alice@example.org")
			asked := s.send("POST", "/sign-in/code", `{"locator": "email:bob@example.org"}`, c.headers...)
			in := s.enter(proof, d.Code, c.headers...)
			if c.allowed {
				require.Equal(t, http.StatusAccepted, asked.Code, asked.Body)
				require.Equal(t, http.StatusOK, in.Code, in.Body)
				return
			}
			require.Equal(t, http.StatusForbidden, asked.Code, asked.Body)
			require.Equal(t, http.StatusForbidden, in.Code, in.Body)
			require.Empty(t, in.Header().Get("Set-Cookie"))
			require.Equal(t, http.StatusOK, s.enter(proof, d.Code).Code, "the code was not used up")
			require.Empty(t, s.sent)
		})
	}
}

func TestAPageMayKnowWhichSessionIsItsOwn(t *testing.T) {
	s := newInside(t, settings{})
	token := s.signIn("alice@example.org")
	by, err := s.dir.Authenticate(t.Context(), token)
	require.NoError(t, err)
	w := s.send("GET", "/session", "", "Authorization", "Bearer "+token)
	require.Equal(t, string(by.Token()), field(t, w.Body.String(), "tokenId"))
	require.Equal(t, http.StatusUnauthorized, s.send("GET", "/session", "").Code)
}

func TestEachPersonHasNotesOfItsOwn(t *testing.T) {
	s := newInside(t, settings{})
	alice := denizentest.User(t, s.dir, "Alice")
	hers := "Bearer " + denizentest.Token(t, s.dir, alice.ID)
	his := "Bearer " + denizentest.Token(t, s.dir, denizentest.User(t, s.dir, "Bob").ID)

	w := s.send("POST", "/notes", `{"text": "down the hole"}`, "Authorization", hers)
	require.Equal(t, http.StatusCreated, w.Code, w.Body)
	require.JSONEq(t, `{"notes": ["down the hole"]}`, s.send("GET", "/notes", "", "Authorization", hers).Body.String())
	require.JSONEq(t, `{"notes": []}`, s.send("GET", "/notes", "", "Authorization", his).Body.String())

	// A later user of the same id finds none of hers.
	require.NoError(t, s.dir.DeleteUser(t.Context(), denizen.System(), alice.ID))
	_, err := s.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: alice.ID, ScreenName: "Eve"})
	require.NoError(t, err)
	later := "Bearer " + denizentest.Token(t, s.dir, alice.ID)
	require.JSONEq(t, `{"notes": []}`, s.send("GET", "/notes", "", "Authorization", later).Body.String())
}

func TestNotesAreForUsersAloneAndBounded(t *testing.T) {
	s := newInside(t, settings{})
	signed := denizentest.Token(t, s.dir, denizentest.User(t, s.dir, "Alice").ID)
	bearer := "Bearer " + signed
	key, err := s.dir.CreateAccessKey(t.Context(), denizen.System())
	require.NoError(t, err)
	application := "Basic " + base64.StdEncoding.EncodeToString([]byte(key.Key+":"+key.Secret))
	for _, method := range []string{"GET", "POST"} {
		require.Equal(t, http.StatusUnauthorized, s.send(method, "/notes", `{"text": "x"}`).Code, method)
		require.Equal(t, http.StatusUnauthorized, s.send(method, "/notes", `{"text": "x"}`, "Authorization", "Bearer x").Code, method)
		require.Equal(t, http.StatusForbidden, s.send(method, "/notes", `{"text": "x"}`, "Authorization", application).Code, method)
	}
	require.Equal(t, http.StatusForbidden, s.send("POST", "/notes", `{"text": "x"}`,
		"Cookie", httpadapter.CookieName+"="+signed, "Sec-Fetch-Site", "cross-site").Code)

	for _, text := range []string{"", strings.Repeat("é", maxNote+1)} {
		require.Equal(t, http.StatusBadRequest, s.send("POST", "/notes", `{"text": "`+text+`"}`, "Authorization", bearer).Code)
	}
	require.Equal(t, http.StatusCreated, s.send("POST", "/notes", `{"text": "`+strings.Repeat("é", maxNote)+`"}`, "Authorization", bearer).Code)
	for written := 0; s.send("POST", "/notes", `{"text": "x"}`, "Authorization", bearer).Code == http.StatusCreated; written++ {
		require.Less(t, written, maxNotes/overhead)
	}
	require.Equal(t, http.StatusConflict, s.send("POST", "/notes", `{"text": "x"}`, "Authorization", bearer).Code)
	require.Equal(t, http.StatusMethodNotAllowed, s.send("DELETE", "/notes", "", "Authorization", bearer).Code)
}

func TestThePageRunsItsOwnScriptAlone(t *testing.T) {
	w := newInside(t, settings{}).send("GET", "/", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "/v1/users/me/logout")
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "script-src 'sha256-")
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "style-src 'sha256-")
	require.Equal(t, 1, strings.Count(w.Body.String(), "<script"))
	require.Equal(t, 1, strings.Count(w.Body.String(), "<style"))
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
}

func TestPagesOfOneOriginMayCallAndOfNoOther(t *testing.T) {
	const app = "https://app.example.org"
	preflight := []string{"Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization"}
	for name, c := range map[string]struct {
		allow, origin, method, path string
		headers                     []string
		status                      int
		allowed                     bool
	}{
		"a request":                   {app, app, "GET", "/v1/users/me", nil, 401, true},
		"to a route of the service":   {app, app, "GET", "/notes", nil, 401, true},
		"to the page":                 {app, app, "GET", "/", nil, 200, true},
		"a path that is none":         {app, app, "GET", "//v1/users", nil, 404, true},
		"a preflight":                 {app, app, "OPTIONS", "/v1/users/me/screenname", preflight, 204, true},
		"a preflight to the service":  {app, app, "OPTIONS", "/notes", preflight, 204, true},
		"OPTIONS, no preflight":       {app, app, "OPTIONS", "/v1/users/me", nil, 405, true},
		"another origin":              {app, "https://evil.example", "GET", "/v1/users/me", nil, 401, false},
		"another's preflight":         {app, "https://evil.example", "OPTIONS", "/v1/users/me", preflight, 405, false},
		"the origin with a port":      {app, app + ":8443", "GET", "/v1/users/me", nil, 401, false},
		"the origin without TLS":      {app, "http://app.example.org", "GET", "/v1/users/me", nil, 401, false},
		"an origin that begins so":    {app, app + ".evil.example", "GET", "/v1/users/me", nil, 401, false},
		"an opaque origin":            {app, "null", "GET", "/v1/users/me", nil, 401, false},
		"no origin":                   {app, "", "GET", "/v1/users/me", nil, 401, false},
		"no origin is let":            {"", app, "GET", "/v1/users/me", nil, 401, false},
		"a preflight, none is let in": {"", app, "OPTIONS", "/v1/users/me", preflight, 405, false},
	} {
		t.Run(name, func(t *testing.T) {
			headers := c.headers
			if c.origin != "" {
				headers = append([]string{"Origin", c.origin}, headers...)
			}
			w := newInside(t, settings{allowOrigin: c.allow}).send(c.method, c.path, "", headers...)
			require.Equal(t, c.status, w.Code, w.Body)
			h := w.Header()
			require.Empty(t, h.Get("Access-Control-Allow-Credentials"))
			if c.allow != "" {
				require.Equal(t, []string{"Origin"}, h.Values("Vary"))
			}
			if !c.allowed {
				for name := range h {
					require.False(t, strings.HasPrefix(name, "Access-Control-"), name)
				}
				return
			}
			require.Equal(t, []string{c.origin}, h.Values("Access-Control-Allow-Origin"))
			if c.status != http.StatusNoContent {
				for _, name := range []string{"ETag", "Location", "Link", "Retry-After", "X-Mitter-Paginated-Estimated-Count", "X-Request-Id"} {
					require.Contains(t, strings.Split(h.Get("Access-Control-Expose-Headers"), ", "), name)
				}
				return
			}
			for _, name := range []string{
				"X-Issued-Mitter-User-Authorization", "X-Mitter-Application-Id", "X-Mitter-Application-Access-Key", "X-Mitter-Sudo-User-Id",
				"Authorization", "Content-Type", "Content-MD5", "Nonce", "Date", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id",
			} {
				require.Contains(t, strings.Split(h.Get("Access-Control-Allow-Headers"), ", "), name)
			}
			for _, name := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
				require.Contains(t, strings.Split(h.Get("Access-Control-Allow-Methods"), ", "), name)
			}
		})
	}
}

func TestTheCookieOfExistingClientsLetsNobodyIn(t *testing.T) {
	s := newInside(t, settings{})
	signed := denizentest.Token(t, s.dir, denizentest.User(t, s.dir, "Alice").ID)
	for _, path := range []string{"/v1/users/me", "/notes"} {
		require.Equal(t, http.StatusUnauthorized, s.send("GET", path, "", "Cookie", "x_issued_mitter_user_authorization"+"="+signed).Code, path)
		require.Equal(t, http.StatusOK, s.send("GET", path, "", "Cookie", httpadapter.CookieName+"="+signed).Code, path)
		both := "x_issued_mitter_user_authorization" + "=tossed; " + httpadapter.CookieName + "=" + signed
		require.Equal(t, http.StatusOK, s.send("GET", path, "", "Cookie", both).Code, path)
	}
}

// failing is a store that reads nothing once it is broken.
type failing struct {
	store.Store
	broken atomic.Bool
}

func (s *failing) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.broken.Load() {
		return nil, errors.New("the disk is on fire")
	}
	return s.Store.Get(ctx, keys...)
}

func TestTheLogShowsWhyASignInFailed(t *testing.T) {
	broken := &failing{Store: memory.New()}
	dir, err := denizen.New(t.Context(), broken, denizen.Options{})
	require.NoError(t, err)
	s := over(t, dir, settings{})
	d, proof := s.ask("alice@example.org")
	broken.broken.Store(true)
	require.Equal(t, http.StatusServiceUnavailable, s.enter(proof, d.Code).Code)
	require.Contains(t, s.log.String(), "the disk is on fire")
	require.NotContains(t, s.log.String(), d.Code)
}
