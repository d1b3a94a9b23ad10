package httpadapter

import (
	"net/http"
	"strings"

	"github.com/denizenhq/denizen"
)

// The cookies that a token is taken from.
const (
	// CookieName is the cookie that SetTokenCookie sets. Its prefix makes browsers hold it to
	// this host and to TLS (RFC 6265bis §4.1.3.2).
	CookieName = "__Host-denizen-token"
	// ContractCookieName is the cookie of existing clients.
	ContractCookieName = "x_issued_mitter_user_authorization"
)

var cookieNames = [...]string{ContractCookieName, CookieName}

// SetTokenCookie gives a browser a token that was just issued, until the token expires:
// Secure, HttpOnly, SameSite=Lax, for this host alone. It has to be called before the header is
// written. Browsers take a Secure cookie over TLS, and most of them from localhost.
func SetTokenCookie(w http.ResponseWriter, token denizen.IssuedToken) {
	cookie := tokenCookie(CookieName)
	cookie.Value, cookie.Expires = token.Signed, token.ExpiresAt
	http.SetCookie(w, &cookie)
}

// ClearTokenCookie takes the token from a browser, under both names. The token itself lives on
// until it expires or is revoked.
func ClearTokenCookie(w http.ResponseWriter) {
	for _, name := range cookieNames {
		cookie := tokenCookie(name)
		cookie.MaxAge = -1
		http.SetCookie(w, &cookie)
	}
}

func tokenCookie(name string) http.Cookie {
	return http.Cookie{Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// tokenCookies answers the values of the token cookies, nil for one that is not there. A
// value is whatever stands there: net/http would pass a malformed one over, and a caller with a bad
// credential would be taken for one without.
func tokenCookies(h http.Header) (values [len(cookieNames)]*string, err error) {
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			for i := range cookieNames {
				if strings.TrimRight(name, " \t") != cookieNames[i] { // as net/http reads it
					continue
				}
				if values[i] != nil {
					return values, badValue("Cookie", "must not hold a token twice")
				}
				values[i] = &value
			}
		}
	}
	return values, nil
}
