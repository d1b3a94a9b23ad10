package httpadapter

import (
	"errors"
	"net/http"
	"strings"

	"github.com/denizenhq/denizen"
)

const (
	page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
		"<title>Sign out</title>\n"
	askPage = page + `<form method="post" action="logout">` +
		`<p>Another site asks to sign you out here.</p><button>Sign out</button></form>` + "\n"
	donePage = page + `<p>You are signed out.</p>` + "\n"
)

// logoutLink serves a link that a browser follows. What a browser fetches ahead of its person
// changes nothing. A link on another site's page leads to a page that asks first.
func logoutLink(c *call) (reply, error) {
	if c.r.Method == http.MethodHead || isPrefetch(c.r) {
		return noContent(nil)
	}
	if c.credential.isAmbient() {
		switch c.r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
		default:
			return reply{status: http.StatusOK, html: askPage}, nil
		}
	}
	return logout(c)
}

func logout(c *call) (reply, error) {
	if err := c.h.dir.Logout(c.r.Context(), c.by); err != nil {
		return reply{}, err
	}
	return loggedOut(c)
}

// loggedOut takes the cookie from the browser. A person who followed a link is shown a page.
func loggedOut(c *call) (reply, error) {
	ClearTokenCookie(c.w)
	if c.credential.isAmbient() && c.r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return reply{status: http.StatusOK, html: donePage}, nil
	}
	return noContent(nil)
}

// isPrefetch reports whether a browser fetches this before its person asks for it. Older ones
// say so in Purpose.
func isPrefetch(r *http.Request) bool {
	for _, name := range [...]string{"Sec-Purpose", "Purpose"} {
		for _, value := range r.Header[name] {
			value = strings.ToLower(value)
			if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") {
				return true
			}
		}
	}
	return false
}

// logoutWithEndedToken logs out with a token that is not good any more. There is nothing to revoke;
// the browser gets rid of its cookie.
func logoutWithEndedToken(c *call) (reply, error) {
	if c.r.Method == http.MethodHead || c.r.Method == http.MethodGet && isPrefetch(c.r) {
		return noContent(nil)
	}
	return loggedOut(c)
}

// isEndedToken reports whether err says that a token has ended, was revoked, or never was one. A
// store that failed says nothing of the kind.
func isEndedToken(err error) bool {
	e, ok := errors.AsType[*denizen.Error](err)
	return ok && (e.Kind == denizen.ErrUnauthenticated || e.Kind == denizen.ErrRevoked ||
		e.Kind == denizen.ErrExpired)
}
