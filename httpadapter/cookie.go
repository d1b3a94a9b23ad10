package httpadapter

import (
	"net/http"
	"slices"
	"strings"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// CookieName is the cookie that [SetTokenCookie] sets. Its prefix makes browsers hold it to this
// host and to TLS (RFC 6265bis §4.1.3.2).
const CookieName = "__Host-denizen-token"

// contractCookieName is the cookie of existing clients, which set it themselves.
const contractCookieName = wire.ContractCookie

// cookieNames are the contract's name and then ours.
var cookieNames = [...]string{contractCookieName, CookieName}

// SetTokenCookie gives a browser a token that was just issued, in a cookie that lasts as long as
// the token: Secure, HttpOnly, SameSite=Lax and for this host alone. Call it before the header is
// written. Browsers take a Secure cookie over TLS alone, and most of them from localhost.
func SetTokenCookie(w http.ResponseWriter, token denizen.IssuedToken) {
	cookie := tokenCookie(CookieName)
	cookie.Value, cookie.Expires = token.Signed, token.ExpiresAt
	http.SetCookie(w, &cookie)
}

// ClearTokenCookie takes the token from a browser, also from the cookie of existing clients. Call
// it before the header is written. The token itself lives on until it expires or is revoked:
// [denizen.Directory.Logout] ends it.
func ClearTokenCookie(w http.ResponseWriter) {
	for _, name := range cookieNames {
		cookie := tokenCookie(name)
		cookie.MaxAge = -1
		http.SetCookie(w, &cookie)
	}
}

func tokenCookie(name string) http.Cookie {
	return http.Cookie{
		Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// cookieNames returns the names of the cookies that a token is taken from.
func (o *Options) cookieNames() []string {
	if o.NoContractCookie {
		return cookieNames[1:]
	}
	return cookieNames[:]
}

// ownCookies are all that this module sets or takes.
var ownCookies = [...]string{contractCookieName, CookieName, wire.ProofCookie, wire.DeviceCookie}

// hasOtherCookies reports whether there is a cookie that this module does not know.
func hasOtherCookies(h http.Header) bool {
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(pair, "=")
			name = strings.Trim(name, " \t")
			if name != "" && !slices.Contains(ownCookies[:], name) {
				return true
			}
		}
	}
	return false
}

// tokenCookie returns the value of the token cookie, nil if there is none. Beside the __Host-
// cookie, which only this host can set, the contract's is ignored, as a sibling domain can set that
// one.
//
// A value is whatever is there. net/http would skip a malformed one, and a caller with a bad
// credential would be taken for one without.
func (o *Options) tokenCookie(h http.Header) (*string, error) {
	var values [len(cookieNames)]*string
	var twice [len(cookieNames)]bool
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			for i := range cookieNames {
				if strings.TrimRight(name, " \t") == cookieNames[i] { // as net/http reads it
					twice[i] = twice[i] || values[i] != nil
					values[i] = &value
				}
			}
		}
	}
	i := 1
	if values[i] == nil && !o.NoContractCookie {
		i = 0
	}
	if twice[i] {
		return nil, badValue("Cookie", "must not hold a token twice")
	}
	return values[i], nil
}
