package token

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
)

// MaxText is the most bytes a token has. A longer text is not looked at.
const MaxText = 4096

// Why a text is refused. [ErrIssuer], [ErrAudience], [ErrExpired] and [ErrNotYetValid]
// are said of texts whose signature was proved, and the last two only of those that name
// the wanted issuer and audience.
var (
	ErrMalformed   = errors.New("token: malformed")
	ErrNotOurs     = errors.New("token: not signed by a known key")
	ErrIssuer      = errors.New("token: of another issuer")
	ErrAudience    = errors.New("token: for another audience")
	ErrExpired     = errors.New("token: expired")
	ErrNotYetValid = errors.New("token: not yet valid")
)

// Want is what a token must say. An empty field is met by no token.
type Want struct {
	Issuer   string
	Audience string
}

// Verify returns the claims of a token that one of keys signed, that says what is wanted
// and that is valid at now, in Unix seconds: iat <= now, nbf <= now and now < exp, without
// leeway. Any other text is refused with one of the errors above, and then no claims are
// returned. It does not know what was revoked.
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
