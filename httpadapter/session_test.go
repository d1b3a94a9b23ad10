package httpadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// sessions are those of a service that has its own: by the value of its cookie.
type sessions struct {
	dir   *denizen.Directory
	known map[string]func(context.Context) (denizen.Principal, error)
}

const sessionCookie = "service-session"

func (s *sessions) authenticate(r *http.Request) (denizen.Principal, error) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return denizen.Principal{}, nil
	}
	who, ok := s.known[cookie.Value]
	if !ok {
		return denizen.Principal{}, errors.New("there is no session " + cookie.Value)
	}
	return who(r.Context())
}

func session(value string) edit { return header("Cookie", sessionCookie+"="+value) }

// newSessionWorld is a world whose API lets sessions of the service in: of Alice, of whoever comes
// with her token, of .system, of users who are no more, and some that cannot be found out.
func newSessionWorld(t testing.TB, ho httpadapter.Options) (*secWorld, *sessions) {
	t.Helper()
	s := &sessions{}
	ho.Authenticate = s.authenticate
	w := newSecWorld(t, denizen.Options{}, ho)
	s.dir = w.dir
	actAs := func(id denizen.UserID) func(context.Context) (denizen.Principal, error) {
		return func(ctx context.Context) (denizen.Principal, error) { return w.dir.ActAs(ctx, denizen.System(), id) }
	}
	fails := func(err error) func(context.Context) (denizen.Principal, error) {
		// Whoever is returned beside an error is not let in.
		return func(context.Context) (denizen.Principal, error) { return denizen.System(), err }
	}
	s.known = map[string]func(context.Context) (denizen.Principal, error){
		"alice":        actAs(secAlice.id),
		"with-token":   func(ctx context.Context) (denizen.Principal, error) { return w.dir.Authenticate(ctx, w.aliceToken) },
		"system":       func(context.Context) (denizen.Principal, error) { return denizen.System(), nil },
		"nobody":       func(context.Context) (denizen.Principal, error) { return denizen.Principal{}, nil },
		"blocked":      actAs(secBlocked.id),
		"absent":       actAs(secAbsent.id),
		"reserved":     actAs(".system"),
		"bad-token":    func(ctx context.Context) (denizen.Principal, error) { return w.dir.Authenticate(ctx, "x") },
		"fails":        fails(errors.New("secret of the service")),
		"denied":       fails(denizen.ErrDenied),
		"revoked":      fails(denizen.ErrRevoked),
		"unavailable":  fails(fmt.Errorf("sessions: %w", denizen.ErrUnavailable)),
		"unknown":      fails(denizen.ErrOutcomeUnknown),
		"closed":       fails(denizen.ErrClosed),
		"late":         fails(fmt.Errorf("sessions: %w", context.DeadlineExceeded)),
		"disconnected": fails(fmt.Errorf("sessions: %w", context.Canceled)),
		"corrupt":      fails(fmt.Errorf("sessions: %w", denizen.ErrCorrupt)),
	}
	return w, s
}

func TestSessionSaysWhoCalls(t *testing.T) {
	var seen []httpadapter.Exchange
	w, _ := newSessionWorld(t, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) { seen = append(seen, x) }})
	for _, value := range []string{"alice", "with-token"} {
		a := w.do("GET", "/v1/users/me", "", session(value))
		require.Equal(t, http.StatusOK, a.status, a.body)
		require.Equal(t, string(secAlice.id), member(t, a.body, "userId"))
		x := seen[len(seen)-1]
		require.Equal(t, "session", x.Credential)
		require.Equal(t, secAlice.id, x.Caller.User())
		require.Equal(t, value == "with-token", x.Caller.Token() != "")
		// It may what a user may.
		require.Equal(t, http.StatusNoContent, w.do("PUT", "/v1/users/me/screenname", `{"screenName":"By session"}`, session(value)).status)
		w.do("DELETE", "/v1/users/me", "", session(value)).refused(t, http.StatusForbidden, "missing_privilege")
		w.do("GET", "/v1/users/"+string(secBob.id), "", session(value)).refused(t, http.StatusForbidden, "missing_privilege")
	}
}

func TestSessionEndsWithItsUser(t *testing.T) {
	w, s := newSessionWorld(t, httpadapter.Options{})
	before, err := s.known["alice"](t.Context())
	require.NoError(t, err)
	s.known["kept"] = func(context.Context) (denizen.Principal, error) { return before, nil }
	_, err = w.dir.BlockUser(t.Context(), denizen.System(), secAlice.id, denizen.Block{})
	require.NoError(t, err)
	w.do("GET", "/v1/users/me", "", session("alice")).refused(t, http.StatusUnauthorized, "authorization_error")
	w.do("GET", "/v1/users/me", "", session("with-token")).refused(t, http.StatusUnauthorized, "authorization_error")
	// Also one who was found before the block.
	w.do("GET", "/v1/users/me", "", session("kept")).refused(t, http.StatusUnauthorized, "token_revoked")
}

func TestSessionOfNobodyLeavesItToTheAPIsCredentials(t *testing.T) {
	w, _ := newSessionWorld(t, httpadapter.Options{})
	for name, none := range map[string]edit{"no session": func(*http.Request) {}, "the zero Principal": session("nobody")} {
		w.do("GET", "/v1/users/me", "", none).refused(t, http.StatusUnauthorized, "authorization_error")
		for _, place := range forgePlaces {
			a := w.do("GET", "/v1/users/me", "", none, place.at(w.bobToken))
			require.Equal(t, http.StatusOK, a.status, "%s, %s: %s", name, place.name, a.body)
			require.Equal(t, string(secBob.id), member(t, a.body, "userId"))
			w.do("GET", "/v1/users/me", "", none, place.at("x")).refused(t, http.StatusUnauthorized, "authorization_error")
		}
		require.Equal(t, http.StatusOK, w.do("GET", "/v1/users", "", none, app).status)
		w.do("GET", "/v1/users/me", "", none, bearer(w.aliceToken), credHeader(w.bobToken)).
			refused(t, http.StatusBadRequest, "invalid_parameter_set")
	}
}

// A session that is not good is never taken for none.
func TestSessionThatFailsRefusesTheRequest(t *testing.T) {
	var seen []httpadapter.Exchange
	w, _ := newSessionWorld(t, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) { seen = append(seen, x) }})
	for value, want := range map[string]struct {
		status int
		code   string
	}{
		"garbage":      {401, "authorization_error"},
		"fails":        {401, "authorization_error"},
		"denied":       {401, "authorization_error"},
		"revoked":      {401, "authorization_error"},
		"blocked":      {401, "authorization_error"},
		"absent":       {401, "authorization_error"},
		"reserved":     {401, "authorization_error"},
		"bad-token":    {401, "authorization_error"},
		"unavailable":  {503, "unavailable"},
		"unknown":      {503, "unavailable"},
		"closed":       {503, "unavailable"},
		"late":         {503, "unavailable"},
		"disconnected": {503, "unavailable"},
		"corrupt":      {500, "unknown_error"},
	} {
		t.Run(value, func(t *testing.T) {
			for _, beside := range []edit{func(*http.Request) {}, bearer(w.aliceToken), credOurs(w.aliceToken), app, actingFor(secAlice.id)} {
				seen = nil
				a := w.do("GET", "/v1/users/me", "", session(value), beside)
				p := a.refused(t, want.status, want.code)
				require.Empty(t, p.Diagnostics)
				require.NotContains(t, a.body, "session")
				require.NotContains(t, a.body, "secret")
				require.Equal(t, "session", seen[0].Credential)
				require.Equal(t, want.status == 401, seen[0].Refused)
				require.True(t, seen[0].Caller.IsAnonymous())
				require.Error(t, seen[0].Cause)
			}
		})
	}
}

// What somebody planted in a cookie, or the service reads in a header itself, is not looked at.
func TestSessionStandsBeforeTheAPIsCredentials(t *testing.T) {
	w, s := newSessionWorld(t, httpadapter.Options{Signed: true})
	for name, beside := range map[string][]edit{
		"another's contract cookie": {credCookie(w.bobToken)},
		"another's cookie":          {credOurs(w.bobToken)},
		"garbage in a cookie":       {credCookie("x")},
		"two cookies":               {credCookie(w.bobToken), credCookie("x")},
		"another's Bearer":          {bearer(w.bobToken)},
		"a Bearer of the service":   {bearer("of-the-service")},
		"another's header":          {credHeader(w.bobToken)},
		"the application":           {app},
		"two headers":               {bearer(w.bobToken), credHeader(w.aliceToken)},
		"an unknown scheme":         {header("Authorization", "Negotiate x")},
	} {
		a := w.do("GET", "/v1/users/me", "", append(beside, session("alice"))...)
		require.Equal(t, http.StatusOK, a.status, "%s: %s", name, a.body)
		require.Equal(t, string(secAlice.id), member(t, a.body, "userId"), name)
	}

	own := &api{w.dir, httpadapter.New(w.dir, httpadapter.Options{Authenticate: func(r *http.Request) (denizen.Principal, error) {
		if r.Header.Get("Authorization") != "Bearer of-the-service" {
			return denizen.Principal{}, nil
		}
		return s.known["alice"](r.Context())
	}})}
	require.Equal(t, http.StatusOK, own.do("GET", "/v1/users/me", "", bearer("of-the-service")).status)
	require.Equal(t, http.StatusOK, own.do("GET", "/v1/users/me", "", bearer(w.bobToken)).status)
}

// Nothing but the service's own word makes a session the application.
func TestSessionIsTheApplicationByTheServicesWordAlone(t *testing.T) {
	w, _ := newSessionWorld(t, httpadapter.Options{})
	require.Equal(t, http.StatusOK, w.do("GET", "/v1/users", "", session("system")).status)
	w.do("GET", "/v1/users/me", "", session("system")).refused(t, http.StatusForbidden, "missing_privilege")
	a := w.do("GET", "/v1/users/me", "", session("system"), header("X-Mitter-Sudo-User-Id", string(secBob.id)))
	require.Equal(t, string(secBob.id), member(t, a.body, "userId"))
	for _, value := range []string{"alice", "with-token"} {
		w.do("GET", "/v1/users", "", session(value)).refused(t, http.StatusForbidden, "missing_privilege")
		w.do("GET", "/v1/users/me", "", session(value), header("X-Mitter-Sudo-User-Id", string(secBob.id))).
			refused(t, http.StatusForbidden, "missing_privilege")
	}
	for _, value := range []string{".system", "nobody", "fails", "denied"} {
		require.Equal(t, http.StatusUnauthorized, w.do("GET", "/v1/users", "", session(value)).status, value)
	}
}

func TestSessionIsHeldToTheRestOfTheRequest(t *testing.T) {
	w, _ := newSessionWorld(t, httpadapter.Options{})
	w.do("GET", "/v1/users/me", "", session("alice"), header("X-Mitter-Application-Id", "another")).
		refused(t, http.StatusForbidden, "missing_context")
	for _, name := range []string{"X-Mitter-Application-Id", "X-Mitter-Sudo-User-Id"} {
		w.do("GET", "/v1/users/me", "", session("alice"), header(name, "a"), header(name, "b")).
			refused(t, http.StatusBadRequest, "invalid_parameter_set")
	}
}

func TestSessionIsNotAskedForWhereNoCredentialIsNeeded(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{Authenticate: func(*http.Request) (denizen.Principal, error) {
		t.Error("asked")
		return denizen.Principal{}, nil
	}})
	for _, path := range []string{"/v1/openapi.json", "/v1/.well-known/jwks.json"} {
		require.Equal(t, http.StatusOK, w.do("GET", path, "").status)
	}
	require.Equal(t, http.StatusNotFound, w.do("GET", "/v1/nothing", "").status)
	require.Equal(t, http.StatusMethodNotAllowed, w.do("POST", "/v1/users/me", "").status)
}

func TestSessionChangesNothingForAForeignPage(t *testing.T) {
	w, _ := newSessionWorld(t, httpadapter.Options{})
	before := w.holds(t)
	for _, origin := range originTable {
		if !origin.foreign {
			continue
		}
		for _, route := range secRoutes {
			if route.method == "GET" || route.who == secAnyone {
				continue
			}
			for _, value := range []string{"alice", "with-token", "system"} {
				a := w.do(route.method, "http://app.example"+w.fill(route.pattern, "me"), route.body, append(origin.edits, session(value))...)
				p := a.refused(t, http.StatusForbidden, "missing_context")
				require.Equal(t, "origin", p.Diagnostics["missingContext"])
			}
		}
		require.Equal(t, before, w.holds(t), origin.name)
		// To read is safe: the page does not see it.
		require.Equal(t, http.StatusOK, w.do("GET", "http://app.example/v1/users/me", "", append(origin.edits, session("alice"))...).status)
	}
}

// A proxy that signs people in tells the service who they are in a header: no cookie is left to see.
func TestSessionIsHeldToTheOriginWhateverItWasReadFrom(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	ofProxy := func(r *http.Request) (denizen.Principal, error) {
		return w.dir.ActAs(r.Context(), denizen.System(), denizen.UserID(r.Header.Get("X-Forwarded-User")))
	}
	service := &api{w.dir, httpadapter.New(w.dir, httpadapter.Options{Authenticate: ofProxy})}
	guarded, seen := guardedBy(w, httpadapter.Guard{Authenticate: ofProxy}.Require)
	for _, origin := range originTable {
		*seen = nil
		edits := append(slices.Clone(origin.edits), header("Sec-Fetch-Mode", "cors"), header("X-Forwarded-User", string(secAlice.id)))
		a := service.do("POST", "http://app.example/v1/users/me/presence", `{"type":"mitter.up.Away"}`, edits...)
		b := guarded.do("POST", "http://app.example/notes", "", edits...)
		if origin.foreign {
			a.refused(t, http.StatusForbidden, "missing_context")
			b.refused(t, http.StatusForbidden, "missing_context")
			require.Empty(t, *seen)
		} else {
			require.Equal(t, http.StatusNoContent, a.status, a.body)
			require.Equal(t, http.StatusTeapot, b.status)
		}
	}
}

func TestSessionChangesThingsForAPageOfThisOrigin(t *testing.T) {
	for _, origin := range originTable {
		if origin.foreign {
			continue
		}
		for _, route := range secRoutes {
			if route.method == "GET" || route.who != secSelfToo {
				continue
			}
			w, _ := newSessionWorld(t, httpadapter.Options{})
			a := w.do(route.method, "http://app.example"+w.fill(route.pattern, "me"), route.body, append(origin.edits, session("alice"))...)
			require.Equal(t, route.status, a.status, "%s: %s", origin.name, a.body)
		}
	}
}

func TestSessionIsTakenFromATrustedOrigin(t *testing.T) {
	protection := http.NewCrossOriginProtection()
	require.NoError(t, protection.AddTrustedOrigin("https://pages.example"))
	w, s := newSessionWorld(t, httpadapter.Options{CrossOrigin: protection})
	guarded, _ := guardedBy(w, httpadapter.Guard{CrossOrigin: protection, Authenticate: s.authenticate}.Require)
	for _, by := range []edit{session("alice"), credOurs(w.aliceToken)} {
		for origin, trusted := range map[string]bool{"https://pages.example": true, "https://evil.example": false} {
			from := []edit{header("Sec-Fetch-Site", "cross-site"), header("Origin", origin), by}
			a := w.do("PUT", "/v1/users/me/screenname", `{"screenName":"Other"}`, from...)
			b := guarded.do("POST", "/notes", "", from...)
			if trusted {
				require.Equal(t, http.StatusNoContent, a.status, a.body)
				require.Equal(t, http.StatusTeapot, b.status, b.body)
			} else {
				a.refused(t, http.StatusForbidden, "missing_context")
				b.refused(t, http.StatusForbidden, "missing_context")
			}
		}
	}
}

func TestSessionLogsOutWithItsTokenAlone(t *testing.T) {
	for _, c := range []struct {
		name, method, value string
		edits               []edit
		want                string
	}{
		{"link", "GET", "with-token", nil, outLoggedOut},
		{"link from this origin", "GET", "with-token", []edit{header("Sec-Fetch-Site", "same-origin")}, outLoggedOut},
		{"link from another site", "GET", "with-token", []edit{header("Sec-Fetch-Site", "cross-site")}, outAsks},
		{"prefetch", "GET", "with-token", []edit{header("Sec-Purpose", "prefetch")}, outNothing},
		{"button", "POST", "with-token", []edit{header("Sec-Fetch-Site", "same-origin")}, outLoggedOut},
		{"button of another site", "POST", "with-token", []edit{header("Sec-Fetch-Site", "cross-site")}, outForeign},
		{"link, no token", "GET", "alice", nil, outDenied},
		{"button, no token", "POST", "alice", nil, outDenied},
		{"the application", "POST", "system", nil, outDenied},
		{"a session that is not good", "POST", "garbage", nil, outNobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := newSessionWorld(t, httpadapter.Options{})
			before := w.holds(t)
			a := w.do(c.method, "http://app.example/v1/users/me/logout", "", append(c.edits, session(c.value))...)
			status := map[string]int{outLoggedOut: 204, outAsks: 200, outNothing: 204, outForeign: 403, outDenied: 403, outNobody: 401}
			require.Equal(t, status[c.want], a.status, a.body)
			if c.want != outLoggedOut {
				require.Equal(t, before, w.holds(t))
				require.Empty(t, a.header["Set-Cookie"])
				return
			}
			w.everywhere(t, "logged out", w.aliceToken, "token_revoked")
			w.do("GET", "/v1/users/me", "", session(c.value)).refused(t, http.StatusUnauthorized, "authorization_error")
		})
	}
}

// A script of the page must not get a bearer text for what the session's cookie keeps from it.
func TestSessionIsToldNoTokensText(t *testing.T) {
	w, _ := newSessionWorld(t, httpadapter.Options{})
	a := w.do("PATCH", "/v1/users/me/tokens/"+string(w.tokenID), `{"ttl":172800}`, session("with-token"))
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.NotContains(t, a.body, "signedToken")
	require.Empty(t, a.header["Set-Cookie"], "the session is the service's")
}

func TestSessionPassesAGuard(t *testing.T) {
	w, s := newSessionWorld(t, httpadapter.Options{})
	var told []httpadapter.Exchange
	guard := httpadapter.Guard{
		Authenticate: s.authenticate,
		Observe:      func(_ context.Context, x httpadapter.Exchange) { told = append(told, x) },
	}
	for _, c := range []struct {
		value, who           string
		identified, required int
	}{
		{"alice", string(secAlice.id), 418, 418},
		{"with-token", string(secAlice.id), 418, 418},
		{"system", ".system", 418, 403},
		{"nobody", ".anonymous", 418, 401},
		{"fails", "", 401, 401},
		{"blocked", "", 401, 401},
		{"unavailable", "", 503, 503},
		{"corrupt", "", 500, 500},
	} {
		for status, admit := range map[*int]func(*denizen.Directory, http.Handler) http.Handler{&c.identified: guard.Identify, &c.required: guard.Require} {
			told = nil
			guarded, seen := guardedBy(w, admit)
			a := guarded.do("GET", "/notes", "", session(c.value))
			require.Equal(t, *status, a.status, c.value)
			require.Empty(t, a.header["Set-Cookie"])
			require.Len(t, told, 1)
			if *status != 418 {
				require.Empty(t, *seen)
				continue
			}
			require.Equal(t, c.who, (*seen)[0].String())
		}
		// By no method, and for no page of another origin, does a bad session get through.
		if c.identified == 418 && c.who != ".anonymous" {
			guarded, seen := guardedBy(w, guard.Identify)
			guarded.do("POST", "/notes", "", session(c.value), header("Sec-Fetch-Site", "cross-site")).
				refused(t, http.StatusForbidden, "missing_context")
			require.Empty(t, *seen)
			require.Equal(t, 418, guarded.do("POST", "/notes", "", session(c.value), header("Sec-Fetch-Site", "same-origin")).status)
		}
	}
	// Without the option the cookie of the service is any cookie.
	guarded, _ := guardedBy(w, httpadapter.Require)
	guarded.do("GET", "/notes", "", session("alice")).refused(t, http.StatusUnauthorized, "authorization_error")
}

// A service that makes a token of its session cookie, in place of Options.Authenticate, takes the
// cookie's protection away. Here that is seen.
func TestBearerMadeOfASessionCookieIsRefusedForAForeignPage(t *testing.T) {
	synctest.Test(t, testBearerMadeOfASessionCookie) // no time passes, so the directory stores nothing by itself
}

func testBearerMadeOfASessionCookie(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	injecting := func(next http.Handler, strip bool) *api {
		return &api{w.dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie(sessionCookie); err == nil {
				r.Header.Set("Authorization", "Bearer "+w.aliceToken)
				if strip {
					r.Header.Del("Cookie")
				}
			}
			next.ServeHTTP(rw, r)
		})}
	}
	notes := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) })
	before := w.holds(t)
	for _, strip := range []bool{false, true} {
		service := injecting(w.handler, strip)
		guarded := injecting(httpadapter.Require(w.dir, notes), strip)
		for _, origin := range originTable {
			for _, mode := range []string{"", "navigate", "no-cors", "cors"} {
				edits := append(slices.Clone(origin.edits), session("of-alice"))
				if mode != "" {
					edits = append(edits, header("Sec-Fetch-Mode", mode))
				}
				a := service.do("POST", "http://app.example/v1/users/me/presence", `{"type":"mitter.up.Away"}`, edits...)
				b := guarded.do("POST", "http://app.example/notes", "", edits...)
				switch {
				case !origin.foreign:
					require.Equal(t, http.StatusNoContent, a.status, a.body)
					require.Equal(t, http.StatusTeapot, b.status)
					before = w.holds(t)
				case !strip || mode == "navigate" || mode == "no-cors":
					p := a.refused(t, http.StatusForbidden, "missing_context")
					require.Equal(t, "origin", p.Diagnostics["missingContext"])
					b.refused(t, http.StatusForbidden, "missing_context")
					require.Equal(t, before, w.holds(t))
				default:
					// Nothing of this request differs from one that the page itself put a token into:
					// see the next test. SECURITY.md says so.
					require.Equal(t, http.StatusNoContent, a.status, a.body)
					before = w.holds(t)
				}
			}
		}
	}
}

// A page of another origin that has a token sends it by CORS, and without cookies unless it asks
// for them.
func TestBearerOfAForeignPageIsTaken(t *testing.T) {
	protection := http.NewCrossOriginProtection()
	require.NoError(t, protection.AddTrustedOrigin("https://pages.example"))
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	trusting := &api{w.dir, httpadapter.New(w.dir, httpadapter.Options{CrossOrigin: protection})}
	cors := []edit{header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "cors"), header("Origin", "https://pages.example")}
	withCookies := append(slices.Clone(cors), header("Cookie", "_ga=1; theme=dark"))
	for name, by := range map[string]edit{
		"Bearer": bearer(w.aliceToken), "header": credHeader(w.aliceToken), "the application": actingFor(secAlice.id),
	} {
		send := func(a *api, edits []edit) answer {
			return a.do("POST", "http://app.example/v1/users/me/presence", `{"type":"mitter.up.Away"}`, append(slices.Clone(edits), by)...)
		}
		require.Equal(t, http.StatusNoContent, send(w.api, cors).status, name)
		// One that asks for cookies is of an origin that the service's CORS names, and so may this.
		send(w.api, withCookies).refused(t, http.StatusForbidden, "missing_context")
		require.Equal(t, http.StatusNoContent, send(trusting, withCookies).status, name)
		// A program has cookies and is no browser.
		require.Equal(t, http.StatusNoContent, send(w.api, []edit{header("Cookie", "a=b")}).status, name)
	}
}
