package httpadapter

import (
	"net/http"
	"strings"
)

const (
	page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign out</title>
`
	askPage  = page + `<form method="post" action="logout"><p>Another site asks to sign you out here.</p><button>Sign out</button></form>` + "\n"
	donePage = page + `<p>You are signed out.</p>` + "\n"
)

// logoutLink answers a link that a browser follows. What a browser fetches ahead of its
// person changes nothing, and a link from another site's page asks first.
func logoutLink(c *call) (reply, error) {
	if c.r.Method == http.MethodHead || strings.Contains(strings.ToLower(c.r.Header.Get("Sec-Purpose")), "prefetch") {
		return done(nil)
	}
	if c.credential.kind == kindCookie {
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
	ClearTokenCookie(c.w)
	if c.credential.kind == kindCookie && c.r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return reply{status: http.StatusOK, html: donePage}, nil
	}
	return done(nil)
}
