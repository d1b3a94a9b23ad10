package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// inside is the service without a network, over a directory in memory.
type inside struct {
	t       *testing.T
	dir     *denizen.Directory
	handler http.Handler
	people  *signIn
	log     bytes.Buffer
	proof   string // of the last start
}

func newInside(t *testing.T, allowOrigin string) *inside {
	s := &inside{t: t, dir: denizentest.New(t)}
	var err error
	s.handler, s.people, err = service(s.dir, slog.New(slog.NewTextHandler(&s.log, nil)), settings{allowOrigin: allowOrigin})
	require.NoError(t, err)
	t.Cleanup(s.people.close)
	return s
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

var codeInLog = regexp.MustCompile(`to=(\S+) code=(\d{8})\n`)

// sentCode answers the last code in a log, or "".
func sentCode(log string) string {
	all := codeInLog.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][2]
}

// ask asks for a code and answers what was sent, and where to: nothing if nothing was.
func (s *inside) ask(body string) (to, code string) {
	s.t.Helper()
	s.log.Reset()
	w := s.send("POST", "/sign-in", body)
	require.Equal(s.t, http.StatusAccepted, w.Code, w.Body)
	s.people.sending.Wait()
	s.proof = field(s.t, w.Body.String(), "proof")
	if sent := codeInLog.FindStringSubmatch(s.log.String()); sent != nil {
		return sent[1], sent[2]
	}
	return "", ""
}

func (s *inside) enter(proof, code string) *httptest.ResponseRecorder {
	return s.send("POST", "/sign-in/code", fmt.Sprintf(`{"proof": %q, "code": %q}`, proof, code))
}

// entered is the answer to who got in.
type entered struct {
	UserID      denizen.UserID `json:"userId"`
	SignedToken string         `json:"signedToken"`
}

// signIn signs an address in.
func (s *inside) signIn(address string) entered {
	s.t.Helper()
	_, code := s.ask(`{"email": "` + address + `"}`)
	require.NotEmpty(s.t, code, "no code was sent")
	w := s.enter(s.proof, code)
	require.Equal(s.t, http.StatusOK, w.Code, w.Body)
	var in entered
	require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &in))
	return in
}

// wrong answers a code that is not this one.
func wrong(code string) string { return string('0'+('9'-code[0])) + code[1:] }

func TestSomebodyNewGetsInByAnAddress(t *testing.T) {
	s := newInside(t, "")
	in := s.signIn("alice@example.org")

	by, err := s.dir.Authenticate(t.Context(), in.SignedToken)
	require.NoError(t, err)
	require.Equal(t, in.UserID, by.User())
	alice, err := s.dir.User(t.Context(), by, by.User())
	require.NoError(t, err)
	require.Len(t, alice.Locators, 1)
	require.Equal(t, denizen.Verified, alice.Locators[0].Status)
	require.True(t, alice.Locators[0].Owned)
	require.NotContains(t, alice.ScreenName, "alice", "others may see it")
}

func TestWhoComesAgainIsTheSamePerson(t *testing.T) {
	s := newInside(t, "")
	first := s.signIn("alice@example.org")
	again := s.signIn("ALICE@Example.org")
	require.Equal(t, first.UserID, again.UserID)
	require.NotEqual(t, first.SignedToken, again.SignedToken)
}

func TestATelephoneNumberWillDo(t *testing.T) {
	s := newInside(t, "")
	to, code := s.ask(`{"locator": "tele:+1 (201) 555-0123"}`)
	require.Equal(t, "tele:+12015550123", to)
	w := s.send("POST", "/sign-in/code", `{"proof": "`+s.proof+`", "code": "`+code+`"}`)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
}

func TestABrowserGetsACookieAndItsScriptsNoToken(t *testing.T) {
	s := newInside(t, "")
	_, code := s.ask(`{"email": "alice@example.org"}`)
	w := s.send("POST", "/sign-in/code", `{"proof": "`+s.proof+`", "code": "`+code+`"}`, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NotContains(t, w.Body.String(), "signedToken")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))

	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	require.Equal(t, httpadapter.CookieName, cookies[0].Name)
	require.True(t, cookies[0].HttpOnly && cookies[0].Secure)
	require.NotContains(t, w.Body.String(), cookies[0].Value)
	in := s.send("GET", "/v1/users/me", "", "Cookie", cookies[0].Name+"="+cookies[0].Value)
	require.Equal(t, http.StatusOK, in.Code, in.Body)
	out := s.send("GET", "/v1/users/me/logout", "", "Cookie", cookies[0].Name+"="+cookies[0].Value, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusNoContent, out.Code, out.Body)
	in = s.send("GET", "/v1/users/me", "", "Cookie", cookies[0].Name+"="+cookies[0].Value)
	require.Equal(t, http.StatusUnauthorized, in.Code, in.Body)
}

func TestTheAnswerDoesNotTellWhoIsKnown(t *testing.T) {
	s := newInside(t, "")
	denizentest.User(t, s.dir, "Alice", denizen.Email("alice@example.org"))
	var bodies, tries []string
	var headers []http.Header
	for _, address := range []string{"alice@example.org", "nobody@example.org"} {
		w := s.send("POST", "/sign-in", `{"email": "`+address+`"}`)
		require.Equal(t, http.StatusAccepted, w.Code)
		proof := field(t, w.Body.String(), "proof")
		bodies = append(bodies, strings.Replace(w.Body.String(), proof, "", 1))
		s.people.sending.Wait()
		try := s.enter(proof, "no code")
		require.Equal(t, http.StatusForbidden, try.Code)
		tries, headers = append(tries, try.Body.String()), append(headers, w.Header(), try.Header())
	}
	require.Equal(t, bodies[0], bodies[1])
	require.Equal(t, tries[0], tries[1])
	require.Equal(t, headers[:2], headers[2:])
}

func TestAWrongCodeLetsNobodyIn(t *testing.T) {
	s := newInside(t, "")
	_, code := s.ask(`{"email": "alice@example.org"}`)
	for _, given := range []string{wrong(code), "", " " + code, code[1:]} {
		require.Equal(t, http.StatusForbidden, s.enter(s.proof, given).Code, given)
	}
	s.ask(`{"email": "bob@example.org"}`)
	require.Equal(t, http.StatusForbidden, s.enter(s.proof, code).Code, "another's code")
	n, err := s.dir.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestTheFifthTryIsTheLast(t *testing.T) {
	for wrongs, status := range map[int]int{4: http.StatusOK, 5: http.StatusForbidden} {
		t.Run(fmt.Sprint(wrongs), func(t *testing.T) {
			s := newInside(t, "")
			_, code := s.ask(`{"email": "alice@example.org"}`)
			for range wrongs {
				require.Equal(t, http.StatusForbidden, s.enter(s.proof, wrong(code)).Code)
			}
			require.Equal(t, status, s.enter(s.proof, code).Code)
		})
	}
}

func TestACodeIsGoodOnce(t *testing.T) {
	s := newInside(t, "")
	_, code := s.ask(`{"email": "alice@example.org"}`)
	require.Equal(t, http.StatusOK, s.enter(s.proof, code).Code)
	require.Equal(t, http.StatusForbidden, s.enter(s.proof, code).Code)
}

// Whoever knows an address can ask for codes for it, and try: that ends nobody else's code.
func TestNobodyEndsTheCodeOfAnother(t *testing.T) {
	s := newInside(t, "")
	_, first := s.ask(`{"email": "alice@example.org"}`)
	hers := s.proof
	_, second := s.ask(`{"email": "alice@example.org"}`)
	for range 2 * codeTries {
		require.Equal(t, http.StatusForbidden, s.enter(s.proof, wrong(second)).Code)
	}
	require.Equal(t, http.StatusForbidden, s.enter(s.proof, first).Code, "a code of another start")
	require.Equal(t, http.StatusOK, s.enter(hers, first).Code)
}

func TestACodeLivesTenMinutes(t *testing.T) {
	for waited, status := range map[time.Duration]int{codeLife - time.Second: http.StatusOK, codeLife: http.StatusForbidden} {
		t.Run(waited.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newInside(t, "")
				_, code := s.ask(`{"email": "alice@example.org"}`)
				time.Sleep(waited)
				require.Equal(t, status, s.enter(s.proof, code).Code)
			})
		})
	}
}

// Mallory says that the address is hers. Whoever proves it is not signed in as Mallory, and
// Mallory is not let in by it.
func TestAClaimIsNotTakenForTheAddress(t *testing.T) {
	s := newInside(t, "")
	mallory := denizentest.Principal(t, s.dir, denizentest.User(t, s.dir, "Mallory").ID)
	claim, err := s.dir.AddLocator(t.Context(), mallory, mallory.User(), denizen.Email("alice@example.org"))
	require.NoError(t, err)

	alice := s.signIn("alice@example.org")
	require.NotEqual(t, mallory.User(), alice.UserID)
	after, err := s.dir.Locator(t.Context(), mallory, mallory.User(), claim.ID)
	require.NoError(t, err)
	require.Equal(t, claim, after)
	require.Equal(t, alice.UserID, s.signIn("alice@example.org").UserID)
}

// The attack: Mallory, signed in by her own address, had the application write down Alice's.
func TestWhoSquattedOnAnAddressIsNotInWithWhoProvesIt(t *testing.T) {
	s := newInside(t, "")
	mallory := s.signIn("mallory@example.org")
	_, err := s.dir.AddLocator(t.Context(), denizen.System(), mallory.UserID, denizen.Email("alice@example.org"))
	require.NoError(t, err)

	alice := s.signIn("alice@example.org")
	require.NotEqual(t, mallory.UserID, alice.UserID)
	require.Equal(t, mallory.UserID, s.signIn("mallory@example.org").UserID)
	require.Equal(t, alice.UserID, s.signIn("alice@example.org").UserID)
	by, err := s.dir.Authenticate(t.Context(), mallory.SignedToken)
	require.NoError(t, err)
	hers, err := s.dir.Locators(t.Context(), by, by.User())
	require.NoError(t, err)
	require.Len(t, hers, 1)
}

// Somebody had the application make a user with an address that was not its own.
func TestWhoProvesAnAddressFirstIsAloneWithIt(t *testing.T) {
	for _, status := range []denizen.VerificationStatus{
		denizen.StatusNotProvided, denizen.Unverified, denizen.VerificationPending, denizen.VerificationNotApplicable,
	} {
		t.Run(string(status), func(t *testing.T) {
			s := newInside(t, "")
			made := denizentest.User(t, s.dir, "Alice", denizen.NewLocator{Locator: "email:alice@example.org", Status: status})
			before := denizentest.Token(t, s.dir, made.ID)

			in := s.signIn("alice@example.org")
			require.Equal(t, made.ID, in.UserID)
			_, err := s.dir.Authenticate(t.Context(), before)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			by, err := s.dir.Authenticate(t.Context(), in.SignedToken)
			require.NoError(t, err)
			own, err := s.dir.Locators(t.Context(), by, by.User())
			require.NoError(t, err)
			require.Equal(t, denizen.Verified, own[0].Status)

			s.signIn("alice@example.org")
			_, err = s.dir.Authenticate(t.Context(), in.SignedToken)
			require.NoError(t, err, "later sign-ins end nothing")
		})
	}
}

func TestTheCodeGoesToTheAddressAsItWasGiven(t *testing.T) {
	s := newInside(t, "")
	denizentest.User(t, s.dir, "Alice", denizen.Email("Alice@Example.org"))
	to, _ := s.ask(`{"email": "aLiCe@example.ORG"}`)
	require.Equal(t, "email:Alice@Example.org", to)
}

func TestABlockedUserDoesNotGetIn(t *testing.T) {
	s := newInside(t, "")
	in := s.signIn("alice@example.org")
	_, err := s.dir.BlockUser(t.Context(), denizen.System(), in.UserID)
	require.NoError(t, err)
	_, code := s.ask(`{"email": "alice@example.org"}`)
	w := s.enter(s.proof, code)
	require.Equal(t, http.StatusForbidden, w.Code, w.Body)
	require.Empty(t, w.Header().Get("Set-Cookie"))
}

func TestWhatIsNoSignInIsRefused(t *testing.T) {
	s := newInside(t, "")
	for name, c := range map[string]struct {
		path, body, contentType string
		status                  int
	}{
		"no address":       {"/sign-in", `{}`, "application/json", 400},
		"not an address":   {"/sign-in", `{"email": "alice"}`, "application/json", 400},
		"two addresses":    {"/sign-in", `{"email": "alice@example.org, eve@example.org"}`, "application/json", 400},
		"a line break":     {"/sign-in", `{"email": "alice@example.org\nBcc: eve@example.org"}`, "application/json", 400},
		"another kind":     {"/sign-in", `{"locator": "fax:1"}`, "application/json", 400},
		"no JSON":          {"/sign-in", `email=alice@example.org`, "application/json", 400},
		"JSON twice":       {"/sign-in", `{"email": "a@example.org"}{}`, "application/json", 400},
		"a form":           {"/sign-in", `email=alice@example.org`, "application/x-www-form-urlencoded", 415},
		"plain text":       {"/sign-in", `{"email": "alice@example.org"}`, "text/plain", 415},
		"too long":         {"/sign-in", `{"email": "` + strings.Repeat("a", 9<<10) + `"}`, "application/json", 413},
		"a code in a form": {"/sign-in/code", `code=1`, "application/x-www-form-urlencoded", 415},
		"code, no proof":   {"/sign-in/code", `{"code": "12345678"}`, "application/json", 403},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.send("POST", c.path, c.body, "Content-Type", c.contentType)
			require.Equal(t, c.status, w.Code, w.Body)
			require.NotContains(t, s.log.String(), "code=")
		})
	}
	require.Equal(t, http.StatusMethodNotAllowed, s.send("GET", "/sign-in", "").Code)
	require.Equal(t, http.StatusMethodNotAllowed, s.send("PUT", "/sign-in/code", "{}").Code)
}

// A page of another site could otherwise sign its visitor in as whom it likes.
func TestAnotherOriginsPageSignsNobodyIn(t *testing.T) {
	const trusted = "https://app.example.org"
	for name, c := range map[string]struct {
		allow   string
		headers []string
		allowed bool
	}{
		"no browser":                  {"", nil, true},
		"our page":                    {"", []string{"Origin", "http://example.com", "Sec-Fetch-Site", "same-origin"}, true},
		"another site":                {"", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, false},
		"a sibling":                   {"", []string{"Origin", "https://evil.example.com", "Sec-Fetch-Site", "same-site"}, false},
		"an older browser":            {"", []string{"Origin", "https://evil.example"}, false},
		"an opaque origin":            {"", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, false},
		"another, where one is let":   {trusted, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, false},
		"the one that is let":         {trusted, []string{"Origin", trusted, "Sec-Fetch-Site", "cross-site"}, true},
		"the one let, where it isn't": {"", []string{"Origin", trusted, "Sec-Fetch-Site", "cross-site"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newInside(t, c.allow)
			_, code := s.ask(`{"email": "alice@example.org"}`)
			require.NotEmpty(t, code)
			proof := s.proof
			s.log.Reset()
			asked := s.send("POST", "/sign-in", `{"email": "bob@example.org"}`, c.headers...)
			in := s.send("POST", "/sign-in/code", `{"proof": "`+proof+`", "code": "`+code+`"}`, c.headers...)
			s.people.sending.Wait()
			if c.allowed {
				require.Equal(t, http.StatusAccepted, asked.Code, asked.Body)
				require.Equal(t, http.StatusOK, in.Code, in.Body)
				return
			}
			require.Equal(t, http.StatusForbidden, asked.Code, asked.Body)
			require.Equal(t, http.StatusForbidden, in.Code, in.Body)
			require.Empty(t, in.Header().Get("Set-Cookie"))
			require.NotContains(t, s.log.String(), "code=")
			require.Equal(t, http.StatusOK, s.enter(proof, code).Code, "the code was not used up")
		})
	}
}

func TestEachPersonHasNotesOfItsOwn(t *testing.T) {
	s := newInside(t, "")
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
	s := newInside(t, "")
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
	w := newInside(t, "").send("GET", "/", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "/v1/users/me/logout")
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "script-src 'sha256-")
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "style-src 'sha256-")
	require.Equal(t, 1, strings.Count(w.Body.String(), "<script"))
	require.Equal(t, 1, strings.Count(w.Body.String(), "<style"))
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
}

// What is shown is for a script to say: nothing of it is there before it knows who is in.
func TestThePageShowsNoFormUntilItKnowsWhoIsIn(t *testing.T) {
	text := newInside(t, "").send("GET", "/", "").Body.String()
	for _, part := range []string{`<form id="ask" hidden>`, `<form id="enter" hidden>`, `<button id="out" type="button" hidden>`} {
		require.Contains(t, text, part)
	}
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
			w := newInside(t, c.allow).send(c.method, c.path, "", headers...)
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
	s := newInside(t, "")
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
	over := &failing{Store: memory.New()}
	dir, err := denizen.New(t.Context(), over, denizen.Options{})
	require.NoError(t, err)
	s := &inside{t: t, dir: dir}
	s.handler, s.people, err = service(dir, slog.New(slog.NewTextHandler(&s.log, nil)), settings{})
	require.NoError(t, err)
	t.Cleanup(s.people.close)
	_, code := s.ask(`{"email": "alice@example.org"}`)
	hers := s.proof
	over.broken.Store(true)
	s.ask(`{"email": "bob@example.org"}`)
	require.Contains(t, s.log.String(), "no code was made")
	require.Contains(t, s.log.String(), "the disk is on fire")
	s.log.Reset()
	require.Equal(t, http.StatusServiceUnavailable, s.enter(hers, code).Code)
	require.Contains(t, s.log.String(), "a sign-in failed")
	require.Contains(t, s.log.String(), "the disk is on fire")
}
