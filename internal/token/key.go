package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrKey means that there is no signing key: it is zero, or its seed has the wrong length.
var ErrKey = errors.New("token: no signing key")

// SigningKey mints tokens. It does not reveal its private part: package fmt prints it as REDACTED
// with every verb (%T and %p, which do not ask the value, print the type and the public part), and
// it cannot be marshalled. The zero value is no key and mints nothing. It may be used by many
// goroutines at once.
type SigningKey struct {
	public PublicKey
	sign   func(message []byte) []byte // a closure, which hides the private key from reflection
}

// NewSigningKey returns the key of a 32-byte seed (RFC 8032, section 5.1.5). It does not keep seed.
// The error is [ErrKey].
func NewSigningKey(seed []byte) (SigningKey, error) {
	if len(seed) != ed25519.SeedSize {
		return SigningKey{}, fmt.Errorf("%w: a seed is 32 bytes", ErrKey)
	}
	private := ed25519.NewKeyFromSeed(seed)
	return SigningKey{
		public: newPublicKey([ed25519.PublicKeySize]byte(private[ed25519.SeedSize:])),
		sign:   func(message []byte) []byte { return ed25519.Sign(private, message) },
	}, nil
}

// ID returns the kid of the key: the RFC 7638 thumbprint of its public part, in base64url.
func (k SigningKey) ID() string { return k.public.id }

// Public returns the part that others verify with.
func (k SigningKey) Public() PublicKey { return k.public }

// Format implements [fmt.Formatter].
func (SigningKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "REDACTED") }

// MarshalText returns an error, which also keeps encoding/json, encoding/xml and the like from
// marshalling the key.
func (SigningKey) MarshalText() ([]byte, error) {
	return nil, errors.New("token: a signing key is not marshalled")
}

// PublicKey verifies tokens. Two PublicKeys are equal by == if they are the same key. The zero
// value is no key and verifies nothing.
type PublicKey struct {
	id     string
	header string // the only header segment of tokens signed with this key
	point  [ed25519.PublicKeySize]byte
}

// ID returns the kid of the key: its RFC 7638 thumbprint, in base64url.
func (k PublicKey) ID() string { return k.id }

func newPublicKey(point [ed25519.PublicKeySize]byte) PublicKey {
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + encode(point[:]) + `"}`))
	id := encode(thumbprint[:])
	return PublicKey{
		id:     id,
		header: encode([]byte(`{"alg":"EdDSA","kid":"` + id + `","typ":"JWT"}`)),
		point:  point,
	}
}

// weak reports whether crypto/ed25519 accepts a point that no seed leads to. That is a point of
// small order, for which one signature fits many messages, or one whose y has a smaller encoding
// (RFC 8032, section 5.1.3).
func weak(point [ed25519.PublicKeySize]byte) bool {
	point[31] &= 0x7f // clear the sign of x; the rest is y, little-endian
	switch y := hex.EncodeToString(point[:]); y {
	case "0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": // order 8
		return true
	default: // 2^255-19 or more
		return point[0] >= 0xed &&
			y[2:] == "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
	}
}
