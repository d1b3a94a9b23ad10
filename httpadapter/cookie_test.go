package httpadapter_test

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestATokenCookieIsForThisHostTLSAndNoScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := denizentest.New(t)
		user := denizentest.User(t, dir, "Alice")
		issued, err := dir.IssueToken(t.Context(), denizen.System(), user.ID, denizen.TokenOptions{TTL: time.Hour})
		require.NoError(t, err)
		w := httptest.NewRecorder()
		httpadapter.SetTokenCookie(w, issued)
		require.Equal(t, []string{
			"__Host-denizen-token=" + issued.Signed + "; Path=/; Expires=Sat, 01 Jan 2000 01:00:00 GMT; HttpOnly; Secure; SameSite=Lax",
		}, w.Header()["Set-Cookie"])
	})
}

func TestClearingTakesTheTokenUnderBothNames(t *testing.T) {
	w := httptest.NewRecorder()
	httpadapter.ClearTokenCookie(w)
	require.ElementsMatch(t, []string{
		"__Host-denizen-token=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
		"x_issued_mitter_user_authorization=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
	}, w.Header()["Set-Cookie"])
}

// A browser keeps the cookie, sends it back, and has none any more once it has logged out.
func TestATokenGoesThroughABrowserUntilItLogsOut(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	issued, err := w.dir.IssueToken(t.Context(), denizen.System(), secAlice.id, denizen.TokenOptions{})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/v1/", w.handler)
	mux.HandleFunc("/login", func(rw http.ResponseWriter, _ *http.Request) { httpadapter.SetTokenCookie(rw, issued) })
	server := httptest.NewTLSServer(mux)
	defer server.Close()
	browser := server.Client()
	browser.Jar, err = cookiejar.New(nil)
	require.NoError(t, err)
	get := func(path string) int {
		r, err := browser.Get(server.URL + path)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		return r.StatusCode
	}
	require.Equal(t, http.StatusUnauthorized, get("/v1/users/me"))
	require.Equal(t, http.StatusOK, get("/login"))
	require.Equal(t, http.StatusOK, get("/v1/users/me"))
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	require.Len(t, browser.Jar.Cookies(at), 1)
	require.Equal(t, http.StatusNoContent, get("/v1/users/me/logout"))
	require.Empty(t, browser.Jar.Cookies(at))
	require.Equal(t, http.StatusUnauthorized, get("/v1/users/me"))
	w.everywhere(t, "logged out", issued.Signed, "token_revoked")
}

// originTable is what browsers say of where a request comes from, to http://app.example.
var originTable = []struct {
	name    string
	edits   []edit
	foreign bool
}{
	{"no browser", nil, false},
	{"this origin", []edit{header("Sec-Fetch-Site", "same-origin")}, false},
	{"typed by its person", []edit{header("Sec-Fetch-Site", "none")}, false},
	{"this origin, old browser", []edit{header("Origin", "http://app.example")}, false},
	{"this origin, both", []edit{header("Sec-Fetch-Site", "same-origin"), header("Origin", "http://app.example")}, false},
	{"another site", []edit{header("Sec-Fetch-Site", "cross-site")}, true},
	{"another origin of this site", []edit{header("Sec-Fetch-Site", "same-site")}, true},
	{"a site of a name to come", []edit{header("Sec-Fetch-Site", "other")}, true},
	{"another site that says it is this", []edit{header("Sec-Fetch-Site", "cross-site"), header("Origin", "http://app.example")}, true},
	{"another site, old browser", []edit{header("Origin", "https://evil.example")}, true},
	{"a host of this name below", []edit{header("Origin", "http://app.example.evil.example")}, true},
	{"another port", []edit{header("Origin", "http://app.example:8080")}, true},
	{"a page without an origin", []edit{header("Origin", "null")}, true},
	{"an origin that is none", []edit{header("Origin", "::")}, true},
}

func TestAForeignPageChangesNothingByACookie(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, origin := range originTable {
		if !origin.foreign {
			continue
		}
		t.Run(origin.name, func(t *testing.T) {
			for _, route := range secRoutes {
				if route.method == "GET" || route.who == secAnyone {
					continue
				}
				for _, cookie := range []edit{credCookie(w.aliceToken), credOurs(w.aliceToken)} {
					a := w.do(route.method, "http://app.example"+w.fill(route.pattern, "me"), route.body, append(origin.edits, cookie)...)
					a.refused(t, http.StatusForbidden, "missing_context")
				}
			}
			require.Equal(t, before, w.holds(t))
		})
	}
}

func TestAPageOfThisOriginChangesThingsByACookie(t *testing.T) {
	for _, origin := range originTable {
		if origin.foreign {
			continue
		}
		for _, route := range secRoutes {
			if route.method == "GET" || route.who != secSelfToo {
				continue
			}
			w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
			a := w.do(route.method, "http://app.example"+w.fill(route.pattern, "me"), route.body, append(origin.edits, credOurs(w.aliceToken))...)
			require.Equal(t, route.status, a.status, "%s %s: %s", route.pattern, origin.name, a.body)
		}
	}
}

// A page that sends the token itself has it, wherever the page is from.
func TestATokenInAHeaderIsTakenFromAnyOrigin(t *testing.T) {
	for _, origin := range originTable {
		for name, by := range map[string]func(w *secWorld) []edit{
			"Bearer":            func(w *secWorld) []edit { return []edit{bearer(w.aliceToken)} },
			"header":            func(w *secWorld) []edit { return []edit{credHeader(w.aliceToken)} },
			"header and cookie": func(w *secWorld) []edit { return []edit{credHeader(w.aliceToken), credOurs(w.aliceToken)} },
			"Bearer and cookie": func(w *secWorld) []edit { return []edit{bearer(w.aliceToken), credCookie(w.aliceToken)} },
			"the application":   func(*secWorld) []edit { return []edit{actingFor(secAlice.id)} },
		} {
			for _, route := range secRoutes {
				if route.method == "GET" || route.who != secSelfToo {
					continue
				}
				w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
				a := w.do(route.method, "http://app.example"+w.fill(route.pattern, "me"), route.body, append(by(w), origin.edits...)...)
				require.Equal(t, route.status, a.status, "%s by %s of %s: %s", route.pattern, name, origin.name, a.body)
			}
		}
	}
}

// To read is safe: what is read, a page of another origin does not see.
func TestReadingByACookieAsksForNoOrigin(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, origin := range originTable {
		for _, method := range []string{"GET", "HEAD"} {
			a := w.do(method, "http://app.example/v1/users/me", "", append(origin.edits, credOurs(w.aliceToken))...)
			require.Equal(t, http.StatusOK, a.status)
			require.Empty(t, a.header["Access-Control-Allow-Origin"])
		}
	}
	require.Equal(t, before, w.holds(t))
}

// A bad cookie is told so before where it comes from.
func TestABadCookieFromAForeignPageIsABadCredential(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, origin := range originTable {
		w.do("DELETE", "http://app.example/v1/users/me/profile/nickname", "", append(origin.edits, credOurs("x"))...).
			refused(t, http.StatusUnauthorized, "authorization_error")
	}
}

// A page of a sibling domain can set the contract's cookie, and not the one of this host.
func TestATossedCookieChangesNothing(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for name, tossed := range map[string][]edit{
		"another's": {credCookie(w.bobToken)}, "garbage": {credCookie("x")}, "several": {credCookie(w.bobToken), credCookie("x"), credCookie("")},
	} {
		a := w.do("GET", "/v1/users/me", "", append(tossed, credOurs(w.aliceToken))...)
		require.Equal(t, http.StatusOK, a.status, name)
		require.Equal(t, string(secAlice.id), member(t, a.body, "userId"), name)
	}
	a := w.do("POST", "/v1/users/me/logout", "", credCookie(w.bobToken), credOurs(w.aliceToken))
	require.Equal(t, http.StatusNoContent, a.status)
	w.everywhere(t, "logged out", w.aliceToken, "token_revoked")
	w.works(t, w.bobToken)
}

func TestAHostCanLeaveTheContractsCookieOut(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{NoContractCookie: true})
	w.do("GET", "/v1/users/me", "", credCookie(w.aliceToken)).refused(t, http.StatusUnauthorized, "authorization_error")
	require.Equal(t, http.StatusOK, w.do("GET", "/v1/users/me", "", credOurs(w.aliceToken)).status)
	require.Equal(t, http.StatusOK, w.do("GET", "/v1/users/me", "", bearer(w.aliceToken), credCookie("x")).status)
	issued := w.do("POST", "/v1/users/"+url.PathEscape(string(secBob.id))+"/tokens", "", app)
	require.Equal(t, []any{httpadapter.CookieName}, member(t, issued.body, "userToken.supportedCookies"))
}

// A script of the page must not get a bearer text for what HttpOnly keeps from it.
func TestATokenExtendedByCookieIsSetAndNotTold(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	own := "/v1/users/me/tokens/" + string(w.tokenID)
	for i, cookie := range []edit{credOurs(w.aliceToken), credCookie(w.aliceToken)} {
		a := w.do("PATCH", own, fmt.Sprintf(`{"ttl":%d}`, 172800+3600*i), cookie, header("Sec-Fetch-Site", "same-origin"))
		require.Equal(t, http.StatusOK, a.status, a.body)
		require.NotContains(t, a.body, "signedToken")
		require.Equal(t, string(w.tokenID), member(t, a.body, "userToken.tokenId"))
		require.Len(t, a.header["Set-Cookie"], 1)
		name, rest, _ := strings.Cut(a.header["Set-Cookie"][0], "=")
		require.Equal(t, httpadapter.CookieName, name)
		value, _, _ := strings.Cut(rest, ";")
		require.NotEqual(t, w.aliceToken, value)
		w.works(t, value)
	}
	// Another token of hers is extended, and this browser keeps its own.
	a := w.do("PATCH", "/v1/users/me/tokens/"+string(w.otherID), `{"ttl":172800}`, credOurs(w.aliceToken))
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.NotContains(t, a.body, "signedToken")
	require.Empty(t, a.header["Set-Cookie"])
	// By header it is told, and no cookie is set.
	a = w.do("PATCH", own, `{"ttl":259200}`, bearer(w.aliceToken), credOurs(w.aliceToken))
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.NotEmpty(t, member(t, a.body, "userToken.signedToken"))
	require.Empty(t, a.header["Set-Cookie"])
}
