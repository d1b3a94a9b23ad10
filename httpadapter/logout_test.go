package httpadapter_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// What a logout comes to.
const (
	outLoggedOut = "logged out"
	outAsks      = "asks"    // and nothing has happened yet
	outNothing   = "nothing" // 204 all the same
	outForeign   = "403 missing_context"
	outDenied    = "403 missing_privilege"
	outNobody    = "401 authorization_error"
)

func TestLogout(t *testing.T) {
	cookie := func(w *secWorld) edit { return credCookie(w.aliceToken) }
	ours := func(w *secWorld) edit { return credOurs(w.aliceToken) }
	byBearer := func(w *secWorld) edit { return bearer(w.aliceToken) }
	byHeader := func(w *secWorld) edit { return credHeader(w.aliceToken) }
	both := func(w *secWorld) edit {
		return func(r *http.Request) { credHeader(w.aliceToken)(r); credOurs(w.aliceToken)(r) }
	}
	acting := func(*secWorld) edit { return actingFor(secAlice.id) }
	system := func(*secWorld) edit { return app }
	nobody := func(*secWorld) edit { return func(*http.Request) {} }
	site := func(value string) edit { return header("Sec-Fetch-Site", value) }
	for _, c := range []struct {
		name   string
		method string
		by     func(*secWorld) edit
		edits  []edit
		want   string
	}{
		{"link, Bearer", "GET", byBearer, nil, outLoggedOut},
		{"link, header", "GET", byHeader, nil, outLoggedOut},
		{"link, header from another site", "GET", byHeader, []edit{site("cross-site")}, outLoggedOut},
		{"link, Bearer from another site", "GET", byBearer, []edit{site("cross-site"), header("Origin", "https://evil.example")}, outLoggedOut},
		{"link, header and cookie from another site", "GET", both, []edit{site("cross-site")}, outLoggedOut},
		{"link, cookie", "GET", cookie, nil, outLoggedOut},
		{"link, our cookie", "GET", ours, nil, outLoggedOut},
		{"link, cookie from this origin", "GET", cookie, []edit{site("same-origin")}, outLoggedOut},
		{"link, our cookie from this origin", "GET", ours, []edit{site("same-origin")}, outLoggedOut},
		{"link, cookie typed by its person", "GET", cookie, []edit{site("none")}, outLoggedOut},
		{"link, cookie from another site", "GET", cookie, []edit{site("cross-site")}, outAsks},
		{"link, our cookie from another site", "GET", ours, []edit{site("cross-site")}, outAsks},
		{"link, cookie from another origin of this site", "GET", ours, []edit{site("same-site")}, outAsks},
		{"link, cookie from a site of a name to come", "GET", ours, []edit{site("other")}, outAsks},
		{"link, cookie from another site, navigated", "GET", ours, []edit{site("cross-site"), header("Sec-Fetch-Mode", "navigate"), header("Sec-Fetch-User", "?1")}, outAsks},
		{"image of another site", "GET", ours, []edit{site("cross-site"), header("Sec-Fetch-Mode", "no-cors"), header("Sec-Fetch-Dest", "image")}, outAsks},
		{"HEAD, Bearer", "HEAD", byBearer, nil, outNothing},
		{"HEAD, cookie", "HEAD", cookie, nil, outNothing},
		{"HEAD, cookie from this origin", "HEAD", ours, []edit{site("same-origin")}, outNothing},
		{"HEAD, cookie from another site", "HEAD", ours, []edit{site("cross-site")}, outNothing},
		{"prefetch, cookie", "GET", cookie, []edit{header("Sec-Purpose", "prefetch")}, outNothing},
		{"prefetch, cookie from this origin", "GET", ours, []edit{site("same-origin"), header("Sec-Purpose", "prefetch;prerender")}, outNothing},
		{"prefetch, cookie from another site", "GET", ours, []edit{site("cross-site"), header("Sec-Purpose", "prefetch;anonymous-client-ip")}, outNothing},
		{"prefetch, an older browser", "GET", cookie, []edit{header("Purpose", "prefetch")}, outNothing},
		{"prerender", "GET", ours, []edit{header("Sec-Purpose", "prerender")}, outNothing},
		{"prefetch in capitals", "GET", ours, []edit{header("Sec-Purpose", "Prefetch")}, outNothing},
		{"prefetch, Bearer", "GET", byBearer, []edit{header("Sec-Purpose", "prefetch")}, outNothing},
		{"button, Bearer", "POST", byBearer, nil, outLoggedOut},
		{"button, header", "POST", byHeader, nil, outLoggedOut},
		{"button, header from another site", "POST", byHeader, []edit{site("cross-site")}, outLoggedOut},
		{"button, cookie", "POST", cookie, nil, outLoggedOut},
		{"button, cookie from this origin", "POST", ours, []edit{site("same-origin")}, outLoggedOut},
		{"button, cookie from this origin, old browser", "POST", ours, []edit{header("Origin", "http://app.example")}, outLoggedOut},
		{"button, cookie from another site", "POST", ours, []edit{site("cross-site")}, outForeign},
		{"button, cookie from another origin of this site", "POST", cookie, []edit{site("same-site")}, outForeign},
		{"button, cookie from another site, old browser", "POST", ours, []edit{header("Origin", "https://evil.example")}, outForeign},
		{"link, acting for a user", "GET", acting, nil, outDenied},
		{"button, acting for a user", "POST", acting, nil, outDenied},
		{"link, the application", "GET", system, nil, outDenied},
		{"button, the application", "POST", system, nil, outDenied},
		{"link, nobody", "GET", nobody, nil, outNobody},
		{"link, nobody from another site", "GET", nobody, []edit{site("cross-site")}, outNobody},
		{"prefetch, nobody", "GET", nobody, []edit{header("Sec-Purpose", "prefetch")}, outNobody},
		{"button, nobody", "POST", nobody, nil, outNobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
			other, _ := secIssue(t, w.dir, secAlice.id)
			before := w.holds(t)
			a := w.do(c.method, "http://app.example/v1/users/me/logout", "", append(c.edits, c.by(w))...)
			if status, code, refused := strings.Cut(c.want, " "); refused && status[0] == '4' {
				a.refused(t, map[string]int{"401": 401, "403": 403}[status], code)
			} else {
				require.Equal(t, map[string]int{outLoggedOut: 204, outAsks: 200, outNothing: 204}[c.want], a.status, a.body)
			}
			require.Equal(t, "no-store", a.header.Get("Cache-Control"))
			if c.want != outLoggedOut {
				require.Empty(t, a.header["Set-Cookie"])
				require.Equal(t, before, w.holds(t))
				w.works(t, w.aliceToken)
				return
			}
			require.Len(t, a.header["Set-Cookie"], 2)
			for _, set := range a.header["Set-Cookie"] {
				require.Contains(t, set, "=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax")
			}
			w.everywhere(t, "logged out", w.aliceToken, "token_revoked")
			w.works(t, other)
			again := w.do(c.method, "http://app.example/v1/users/me/logout", "", append(c.edits, c.by(w))...)
			require.Equal(t, http.StatusNoContent, again.status)
			require.Len(t, again.header["Set-Cookie"], 2)
		})
	}
}

// The page that asks runs no script, is framed by nobody, and its button goes where it came from.
func TestTheLogoutPageAsksSafely(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	a := w.do("GET", "http://app.example/v1/users/me/logout?next=%22%3E%3Cscript%3E", "", credOurs(w.aliceToken), header("Sec-Fetch-Site", "cross-site"),
		header("Referer", "https://evil.example/<script>"))
	a.secOK(t)
	require.Equal(t, "text/html; charset=utf-8", a.header.Get("Content-Type"))
	require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	policy := a.header.Get("Content-Security-Policy")
	for _, rule := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"} {
		require.Contains(t, policy, rule)
	}
	require.Contains(t, a.body, `<form method="post" action="logout">`)
	require.NotContains(t, a.body, "script")
	require.NotContains(t, a.body, "evil")
	require.NotContains(t, a.body, w.aliceToken)
	// The button, as the browser then posts it.
	posted := w.do("POST", "http://app.example/v1/users/me/logout", "", credOurs(w.aliceToken), header("Sec-Fetch-Site", "same-origin"),
		header("Sec-Fetch-Mode", "navigate"), header("Origin", "http://app.example"),
		func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") })
	posted.secOK(t)
	require.Contains(t, posted.body, "signed out")
	require.Len(t, posted.header["Set-Cookie"], 2)
	w.everywhere(t, "logged out", w.aliceToken, "token_revoked")
}

// A link that a person follows ends on a page, and not on nothing.
func TestAFollowedLinkEndsOnAPage(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	a := w.do("GET", "/v1/users/me/logout", "", credOurs(w.aliceToken), header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Mode", "navigate"))
	a.secOK(t)
	require.Contains(t, a.body, "signed out")
	require.Len(t, a.header["Set-Cookie"], 2)
	w.everywhere(t, "logged out", w.aliceToken, "token_revoked")
}

// A browser gets rid of a cookie that lets nobody in any more, and its person sees that.
func TestLoggingOutWithADeadTokenClearsTheCookie(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	require.NoError(t, w.dir.RevokeTokens(t.Context(), denizen.System(), secAlice.id, w.tokenID))
	for name, token := range map[string]string{"revoked": w.aliceToken, "garbage": "x", "altered": w.aliceToken + "x"} {
		for _, method := range []string{"GET", "POST"} {
			for _, cookie := range []edit{credOurs(token), credCookie(token)} {
				a := w.do(method, "/v1/users/me/logout", "", cookie)
				require.Equal(t, http.StatusNoContent, a.status, name)
				require.Len(t, a.header["Set-Cookie"], 2)
				a = w.do(method, "/v1/users/me/logout", "", cookie, header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Mode", "navigate"))
				require.Equal(t, http.StatusOK, a.status, name)
				require.Contains(t, a.body, "signed out")
				require.Len(t, a.header["Set-Cookie"], 2)
			}
		}
		for _, edits := range [][]edit{{header("Purpose", "prefetch")}, {header("Sec-Purpose", "prefetch;prerender")}} {
			a := w.do("GET", "/v1/users/me/logout", "", append(edits, credOurs(token))...)
			require.Equal(t, http.StatusNoContent, a.status)
			require.Empty(t, a.header["Set-Cookie"])
		}
		a := w.do("HEAD", "/v1/users/me/logout", "", credOurs(token))
		require.Equal(t, http.StatusNoContent, a.status)
		require.Empty(t, a.header["Set-Cookie"])
		// Elsewhere it stays what it is.
		require.Equal(t, http.StatusUnauthorized, w.do("GET", "/v1/users/me", "", credOurs(token)).status)
	}
}

// Nothing is told to a browser of a logout that was not done.
func TestALogoutThatFailsClearsNoCookie(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	require.NoError(t, w.dir.Close())
	for _, method := range []string{"GET", "POST"} {
		a := w.do(method, "/v1/users/me/logout", "", credOurs(w.aliceToken))
		a.refused(t, http.StatusServiceUnavailable, "unavailable")
		require.Empty(t, a.header["Set-Cookie"])
	}
}
