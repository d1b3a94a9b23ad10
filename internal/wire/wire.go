// Package wire is the shapes of the REST API that packages httpadapter, signin and webhook share.
package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/json"

	"github.com/denizenhq/denizen"
)

// The names of what a token is taken from, beside httpadapter.CookieName.
const (
	TokenHeader    = "X-Issued-Mitter-User-Authorization"
	ContractCookie = "x_issued_mitter_user_authorization"
)

// The cookies of signing in. Their prefix makes browsers hold them to one host and to TLS.
const (
	ProofCookie  = "__Host-denizen-proof"
	DeviceCookie = "__Host-denizen-device"
)

// Problem is the body of a refusal.
type Problem struct {
	ErrorCode   string         `json:"errorCode"`
	Message     string         `json:"message"`
	Diagnostics map[string]any `json:"diagnostics"`
	Timestamp   int64          `json:"timestamp"`
	RequestID   string         `json:"requestId"`
}

// IssuedToken is the body that shows a token.
type IssuedToken struct {
	UserToken struct {
		SignedToken      string          `json:"signedToken,omitempty"` // not for scripts of a page
		SupportedHeaders []string        `json:"supportedHeaders"`
		SupportedCookies []string        `json:"supportedCookies"`
		TokenID          denizen.TokenID `json:"tokenId"`
	} `json:"userToken"`
}

// NewIssuedToken returns the body that shows a token with its text, and the names of what it is
// taken from.
func NewIssuedToken(t denizen.IssuedToken, header string, cookies []string) (s IssuedToken) {
	s.UserToken.SignedToken, s.UserToken.TokenID = t.Signed, t.ID
	s.UserToken.SupportedHeaders, s.UserToken.SupportedCookies = []string{header}, cookies
	return s
}

// Encode adds v to b as JSON. V must be of a type that can always be encoded.
func Encode(b *bytes.Buffer, v any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	b.Truncate(b.Len() - 1) // its line feed
}

// RequestID returns the id that a proxy gave a request in the values of its X-Request-Id header, or
// else a new one that no other request has.
func RequestID(given []string) string {
	if len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	// Not counted: a count would tell every caller how busy the service is.
	return rand.Text()
}

func isRequestID(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9',
			b == '-', b == '_', b == '.':
		default:
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}
