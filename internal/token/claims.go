package token

import (
	"bytes"
	"encoding/json"
	"strconv"
)

const (
	maxClaim = 256          // bytes of a text claim; all seven fit easily into MaxText
	lastTime = 253402300799 // the end of the year 9999
)

// Claims are the claims of a token. Every claim is required. A text is 1 to 256 visible ASCII
// characters, without `"` and `\` and without those that make base64url differ from base64 (`>`,
// `?` and `~`), so that clients may decode the payload with plain base64. A time is in Unix
// seconds, positive, and at most the end of the year 9999.
type Claims struct {
	ID            string `json:"jti"`
	Issuer        string `json:"iss"`
	Subject       string `json:"sub"`
	Audience      string `json:"aud"`
	UserID        string `json:"userId"`
	ApplicationID string `json:"applicationId"`
	Generation    string `json:"gen"` // the incarnation of the user
	IssuedAt      int64  `json:"iat"`
	NotBefore     int64  `json:"nbf"`
	Expires       int64  `json:"exp"` // the first second at which the token is no longer valid
}

// ClaimError is the error of a claim that breaks a rule. It does not contain the value.
type ClaimError struct {
	Claim string // the name of the claim in the token, such as "exp"
	Rule  string
}

// Error returns the claim and the rule.
func (e *ClaimError) Error() string { return "token: claim " + e.Claim + " " + e.Rule }

type textClaim struct{ name, value string }

func (c *Claims) texts() [7]textClaim {
	return [...]textClaim{
		{"jti", c.ID},
		{"iss", c.Issuer},
		{"sub", c.Subject},
		{"aud", c.Audience},
		{"userId", c.UserID},
		{"applicationId", c.ApplicationID},
		{"gen", c.Generation},
	}
}

type timeClaim struct {
	name  string
	value int64
}

func (c *Claims) times() [3]timeClaim {
	return [...]timeClaim{{"iat", c.IssuedAt}, {"nbf", c.NotBefore}, {"exp", c.Expires}}
}

// check returns a *ClaimError for the first rule that c breaks, or nil.
func (c *Claims) check() error {
	for _, t := range c.texts() {
		if len(t.value) < 1 || len(t.value) > maxClaim {
			return &ClaimError{t.name, "must be 1 to 256 bytes"}
		}
		for i := range len(t.value) {
			switch b := t.value[i]; {
			case b <= ' ', b >= '~', b == '"', b == '\\', b == '>', b == '?':
				return &ClaimError{t.name, "holds a character that no claim may hold"}
			}
		}
	}
	for _, t := range c.times() {
		if t.value < 1 || t.value > lastTime {
			return &ClaimError{t.name, "must be positive and before the year 10000"}
		}
	}
	if c.Expires <= c.IssuedAt || c.Expires <= c.NotBefore {
		return &ClaimError{"exp", "must be after iat and nbf"}
	}
	return nil
}

// appendJSON appends the only accepted spelling of c. No text needs escaping, because c has passed
// check.
func (c *Claims) appendJSON(b []byte) []byte {
	separator := byte('{')
	for _, t := range c.texts() {
		b = append(b, separator, '"')
		b = append(b, t.name...)
		b = append(b, `":"`...)
		b = append(b, t.value...)
		b = append(b, '"')
		separator = ','
	}
	for _, t := range c.times() {
		b = append(b, `,"`...)
		b = append(b, t.name...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, t.value, 10)
	}
	return append(b, '}')
}

// parseClaims accepts the spelling of appendJSON and no other. So a claim that is missing,
// duplicate, unknown, of another type, escaped or out of order is refused. An unknown claim is not
// ignored because it might restrict what the token allows.
func parseClaims(payload []byte) (Claims, error) {
	var c Claims
	if json.Unmarshal(payload, &c) != nil || c.check() != nil {
		return Claims{}, ErrMalformed
	}
	if !bytes.Equal(c.appendJSON(make([]byte, 0, len(payload))), payload) {
		return Claims{}, ErrMalformed
	}
	return c, nil
}
