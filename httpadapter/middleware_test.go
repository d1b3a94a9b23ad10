package httpadapter_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// guardedBy answers a handler behind a guard, and who it last saw.
func guardedBy(w *secWorld, guard func(*denizen.Directory, http.Handler) http.Handler) (*api, *[]denizen.Principal) {
	seen := new([]denizen.Principal)
	return &api{w.dir, guard(w.dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		*seen = append(*seen, httpadapter.PrincipalFrom(r.Context()))
		rw.WriteHeader(http.StatusTeapot)
	}))}, seen
}

func TestAHostLearnsWhoCalls(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for name, c := range map[string]struct {
		edits          []edit
		who, accessKey string
		authenticated  int // the status behind Authenticate
		required       int // and behind Require
	}{
		"nobody":               {nil, ".anonymous", "", http.StatusTeapot, http.StatusUnauthorized},
		"a foreign cookie":     {[]edit{header("Cookie", "session=x")}, ".anonymous", "", http.StatusTeapot, http.StatusUnauthorized},
		"Bearer":               {[]edit{bearer(w.aliceToken)}, "alice#of-the-world", "", http.StatusTeapot, http.StatusTeapot},
		"header":               {[]edit{credHeader(w.aliceToken)}, "alice#of-the-world", "", http.StatusTeapot, http.StatusTeapot},
		"cookie":               {[]edit{credCookie(w.bobToken)}, "bob-of-the-world", "", http.StatusTeapot, http.StatusTeapot},
		"our cookie":           {[]edit{credOurs(w.bobToken)}, "bob-of-the-world", "", http.StatusTeapot, http.StatusTeapot},
		"the application":      {[]edit{app}, ".system", appKey, http.StatusTeapot, http.StatusForbidden},
		"acting for a user":    {[]edit{actingFor(secBob.id)}, "bob-of-the-world", appKey, http.StatusTeapot, http.StatusTeapot},
		"the same application": {[]edit{bearer(w.bobToken), header("X-Mitter-Application-Id", w.dir.ApplicationID())}, "bob-of-the-world", "", http.StatusTeapot, http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			guarded, seen := guardedBy(w, httpadapter.Authenticate)
			require.Equal(t, c.authenticated, guarded.do("GET", "/notes", "", c.edits...).status)
			require.Len(t, *seen, 1)
			require.Equal(t, c.who, (*seen)[0].String())
			require.Equal(t, c.accessKey, (*seen)[0].AccessKey())

			guarded, seen = guardedBy(w, httpadapter.Require)
			a := guarded.do("GET", "/notes", "", c.edits...)
			require.Equal(t, c.required, a.status)
			switch c.required {
			case http.StatusUnauthorized:
				a.refused(t, c.required, "authorization_error")
				require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
			case http.StatusForbidden:
				p := a.refused(t, c.required, "missing_privilege")
				require.Equal(t, ".system", p.Diagnostics["actingEntity"])
			default:
				require.Equal(t, c.who, (*seen)[0].String())
				return
			}
			require.Empty(t, *seen)
		})
	}
}

// A refusal ends the request: next is not called, under any method.
func TestARefusedRequestDoesNotReachTheHost(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, guard := range []func(*denizen.Directory, http.Handler) http.Handler{httpadapter.Authenticate, httpadapter.Require} {
		guarded, seen := guardedBy(w, guard)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			for _, by := range []edit{bearer("x"), credCookie(""), credBasic(appKey + ":x"), actingFor(secAbsent.id)} {
				require.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, guarded.do(method, "/notes", "", by).status)
			}
		}
		require.Empty(t, *seen)
	}
}

func TestWhatARevokedTokenOpensIsClosedAtOnce(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	guarded, seen := guardedBy(w, httpadapter.Require)
	require.Equal(t, http.StatusTeapot, guarded.do("GET", "/notes", "", bearer(w.aliceToken)).status)
	require.NoError(t, w.dir.RevokeTokens(t.Context(), denizen.System(), secAlice.id, w.tokenID))
	guarded.do("GET", "/notes", "", bearer(w.aliceToken)).refused(t, http.StatusUnauthorized, "token_revoked")
	require.Len(t, *seen, 1)
}

// What stands in a context under the name of a key, however it is spelled, is no principal of ours.
func TestAPrincipalComesFromTheGuardAlone(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	alice := principalOf(t, w, w.aliceToken)
	type contextKey struct{}
	planted := t.Context()
	for _, key := range []any{contextKey{}, struct{}{}, "principal", "httpadapter.contextKey", 0} {
		planted = context.WithValue(planted, key, alice)
	}
	require.True(t, httpadapter.PrincipalFrom(planted).IsAnonymous())
	require.True(t, httpadapter.PrincipalFrom(context.Background()).IsAnonymous())

	guarded, seen := guardedBy(w, httpadapter.Authenticate)
	r := httptest.NewRequestWithContext(planted, "GET", "/notes", nil)
	require.Equal(t, http.StatusTeapot, guarded.send(r).status)
	require.Equal(t, denizen.Principal{}, (*seen)[0])
	// The guard's word is for what is behind it.
	require.True(t, httpadapter.PrincipalFrom(r.Context()).IsAnonymous())
}

func principalOf(t testing.TB, w *secWorld, signed string) denizen.Principal {
	t.Helper()
	by, err := w.dir.Authenticate(t.Context(), signed)
	require.NoError(t, err)
	return by
}

// A handler asks the request that it serves, and never one around it.
func TestTheInnerGuardDecides(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	guarded, seen := guardedBy(w, func(dir *denizen.Directory, next http.Handler) http.Handler {
		inner := httpadapter.Authenticate(dir, next)
		return httpadapter.Require(dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.Header = http.Header{} // as if by another request
			inner.ServeHTTP(rw, r)
		}))
	})
	require.Equal(t, http.StatusTeapot, guarded.do("GET", "/notes", "", bearer(w.aliceToken)).status)
	require.True(t, (*seen)[0].IsAnonymous())
	// Nor does the API itself: a principal of an outer guard is no credential.
	w.handler = httpadapter.Authenticate(w.dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header = http.Header{}
		httpadapter.New(w.dir, httpadapter.Options{}).ServeHTTP(rw, r)
	}))
	w.do("GET", "/v1/users/me", "", bearer(w.aliceToken)).refused(t, http.StatusUnauthorized, "authorization_error")
}

func TestAnotherDirectorysTokenOpensNothing(t *testing.T) {
	w, other := newSecWorld(t, denizen.Options{ApplicationID: "same"}, httpadapter.Options{}), newSecWorld(t, denizen.Options{ApplicationID: "same"}, httpadapter.Options{})
	guarded, seen := guardedBy(w, httpadapter.Authenticate)
	guarded.do("GET", "/notes", "", bearer(other.aliceToken)).refused(t, http.StatusUnauthorized, "authorization_error")
	require.Empty(t, *seen)
}

// The guard's answers are whole: of the form of the API's, kept by nobody, with the request's id.
func TestAGuardsRefusalIsTheAPIs(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	guarded, _ := guardedBy(w, httpadapter.Require)
	a := guarded.do("GET", "/notes", "", header("X-Request-Id", "the-same"))
	api := w.asked("GET", "/v1/users/me", "", func(*http.Request) {})
	secSame(t, api, a, "a refusal")
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(t, "the-same", a.header.Get("X-Request-Id"))
}

func TestAGuardHoldsOffAForeignPage(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for name, guard := range map[string]func(*denizen.Directory, http.Handler) http.Handler{"Authenticate": httpadapter.Authenticate, "Require": httpadapter.Require} {
		for _, origin := range originTable {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				guarded, seen := guardedBy(w, guard)
				for _, cookie := range []edit{credCookie(w.aliceToken), credOurs(w.aliceToken)} {
					a := guarded.do(method, "http://app.example/notes", "", append(origin.edits, cookie)...)
					if origin.foreign {
						a.refused(t, http.StatusForbidden, "missing_context")
						require.Empty(t, *seen, "%s %s %s", name, method, origin.name)
					} else {
						require.Equal(t, http.StatusTeapot, a.status, origin.name)
					}
				}
				require.Equal(t, http.StatusTeapot, guarded.do(method, "http://app.example/notes", "", append(origin.edits, bearer(w.aliceToken))...).status)
			}
			guarded, _ := guardedBy(w, guard)
			require.Equal(t, http.StatusTeapot, guarded.do("GET", "http://app.example/notes", "", append(origin.edits, credOurs(w.aliceToken))...).status)
		}
	}
}

func TestAGuardRefusesAsItsHostWants(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	var told []httpadapter.Exchange
	guarded, seen := guardedBy(w, httpadapter.Guard{Refuse: func(rw http.ResponseWriter, r *http.Request, x httpadapter.Exchange) {
		told = append(told, x)
		http.Redirect(rw, r, "/sign-in", http.StatusSeeOther)
	}}.Require)
	require.NoError(t, w.dir.RevokeTokens(t.Context(), denizen.System(), secAlice.id, w.tokenID))
	for _, c := range []struct {
		by     edit
		status int
		code   string
		clears bool
	}{
		{func(*http.Request) {}, 401, "authorization_error", false},
		{credOurs(w.aliceToken), 401, "token_revoked", true},
		{credCookie("garbage"), 401, "authorization_error", true},
		{bearer(w.aliceToken), 401, "token_revoked", false},
		{app, 403, "missing_privilege", false},
	} {
		told = nil
		a := guarded.do("GET", "/notes", "", c.by)
		require.Equal(t, http.StatusSeeOther, a.status)
		require.Equal(t, "/sign-in", a.header.Get("Location"))
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		require.Equal(t, c.clears, len(a.header["Set-Cookie"]) > 0, c.code)
		require.Len(t, told, 1)
		require.Equal(t, c.status, told[0].Status)
		require.Equal(t, c.code, told[0].ErrorCode)
		require.Equal(t, a.header.Get("X-Request-Id"), told[0].RequestID)
	}
	require.Empty(t, *seen)
	require.Equal(t, http.StatusTeapot, guarded.do("GET", "/notes", "", credOurs(w.bobToken)).status)
	// A store that fails says nothing of the token: the cookie stays.
	require.NoError(t, w.dir.Close())
	require.Empty(t, guarded.do("GET", "/notes", "", credOurs(w.bobToken)).header["Set-Cookie"])
	require.Equal(t, 503, told[len(told)-1].Status)
}

func TestAGuardsObserverSeesTheHostsRoutes(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	synctest.Test(t, func(t *testing.T) {
		var seen []httpadapter.Exchange
		guard := httpadapter.Guard{NoContractCookie: true, Observe: func(_ context.Context, x httpadapter.Exchange) { seen = append(seen, x) }}
		mux := http.NewServeMux()
		mux.Handle("GET /notes/{id}", guard.Require(w.dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch r.PathValue("id") {
			case "slow":
				time.Sleep(time.Second)
				rw.WriteHeader(http.StatusEarlyHints)
				rw.WriteHeader(http.StatusTeapot)
			case "flushed":
				rw.(http.Flusher).Flush()
			case "copied":
				_, _ = io.Copy(rw, strings.NewReader("x"))
			case "written":
				_, _ = io.WriteString(rw, "x")
			case "panics":
				panic(http.ErrAbortHandler)
			}
		})))
		for _, c := range []struct {
			path   string
			by     edit
			status int
			code   string
		}{
			{"slow", bearer(w.aliceToken), http.StatusTeapot, ""},
			{"silent", bearer(w.aliceToken), http.StatusOK, ""},
			{"flushed", bearer(w.aliceToken), http.StatusOK, ""},
			{"copied", bearer(w.aliceToken), http.StatusOK, ""},
			{"written", bearer(w.aliceToken), http.StatusOK, ""},
			{"panics", bearer(w.aliceToken), http.StatusInternalServerError, ""},
			{"refused", credCookie(w.aliceToken), http.StatusUnauthorized, "authorization_error"},
		} {
			seen = nil
			a := &api{w.dir, mux}
			if c.path == "panics" {
				require.Panics(t, func() { a.do("GET", "/notes/"+c.path, "", c.by) })
			} else {
				a.do("GET", "/notes/"+c.path, "", c.by)
			}
			require.Len(t, seen, 1, c.path)
			require.Equal(t, "/notes/{id}", seen[0].Route)
			require.Equal(t, c.status, seen[0].Status, c.path)
			require.Equal(t, c.code, seen[0].ErrorCode)
			require.NotEmpty(t, seen[0].RequestID)
			require.Equal(t, c.path == "slow", seen[0].Duration >= time.Second)
		}
	})
}

// A guard may stand around the whole mux: the pattern is known once the mux has chosen.
func TestAGuardAroundAMuxSeesThePatternsBelowIt(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /notes/{id}", func(http.ResponseWriter, *http.Request) {})
	var seen []httpadapter.Exchange
	a := &api{w.dir, httpadapter.Guard{Observe: observed(&seen)}.Require(w.dir, mux)}
	require.Equal(t, http.StatusOK, a.do("GET", "/notes/1", "", bearer(w.aliceToken)).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", "/nothing", "", bearer(w.aliceToken)).status)
	require.Len(t, seen, 2)
	require.Equal(t, []string{"/notes/{id}", ""}, []string{seen[0].Route, seen[1].Route})
}
