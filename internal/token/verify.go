package token

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
)

// MaxText is the maximum length of a token in bytes. A longer text is refused unread.
const MaxText = 4096

// The reasons why a text is refused. [ErrIssuer], [ErrAudience], [ErrExpired] and [ErrNotYetValid]
// are returned only for texts with a valid signature, and the last two only for those with the
// wanted issuer and audience.
var (
	ErrMalformed   = errors.New("token: malformed")
	ErrNotOurs     = errors.New("token: not signed by a known key")
	ErrIssuer      = errors.New("token: of another issuer")
	ErrAudience    = errors.New("token: for another audience")
	ErrExpired     = errors.New("token: expired")
	ErrNotYetValid = errors.New("token: not yet valid")
)

// Want is what a token must say. No token matches an empty field.
type Want struct {
	Issuer   string
	Audience string
}

// Verify returns the claims of a token that was signed by one of keys, has the wanted issuer and
// audience, and is valid at now, in Unix seconds: iat <= now, nbf <= now and now < exp, without
// leeway. For any other text it returns one of the errors above and no claims. It does not know
// which tokens are revoked.
func Verify(text string, keys []PublicKey, want Want, now int64) (Claims, error) {
	if len(text) > MaxText {
		return Claims{}, ErrMalformed
	}
	header, rest, _ := strings.Cut(text, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	if !alphabet(header) || !alphabet(payload) || !alphabet(signature) {
		return Claims{}, ErrMalformed
	}
	i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.header == header })
	if i < 0 {
		return Claims{}, ErrNotOurs
	}
	proof, ok := decode(signature)
	if !ok {
		return Claims{}, ErrMalformed
	}
	signed := text[:len(header)+len(".")+len(payload)]
	if !ed25519.Verify(keys[i].point[:], []byte(signed), proof) {
		return Claims{}, ErrNotOurs
	}
	spelled, ok := decode(payload)
	if !ok {
		return Claims{}, ErrMalformed
	}
	c, err := parseClaims(spelled)
	switch {
	case err != nil:
	case c.Issuer != want.Issuer:
		err = ErrIssuer
	case c.Audience != want.Audience:
		err = ErrAudience
	case now >= c.Expires:
		err = ErrExpired
	case now < c.NotBefore || now < c.IssuedAt:
		err = ErrNotYetValid
	}
	if err != nil {
		return Claims{}, err
	}
	return c, nil
}
