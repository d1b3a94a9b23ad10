package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrKey says that there is no signing key: the zero one, or a seed of the wrong length.
var ErrKey = errors.New("token: no signing key")

// SigningKey mints tokens. It shows its private part to nobody: with every verb of
// package fmt it prints as REDACTED (%T and %p, which ask no value, show the type and the
// public part), and it refuses to be marshalled. The zero value is no key and mints
// nothing. It may be used by many goroutines at once.
type SigningKey struct {
	public PublicKey
	sign   func(message []byte) []byte // a closure, so that no printer reaches the key by reflection
}

// NewSigningKey makes the key of a 32-byte seed (RFC 8032 section 5.1.5), which it does
// not keep. The error is [ErrKey].
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

// ID is the kid of the key: the RFC 7638 thumbprint of its public part, in base64url.
func (k SigningKey) ID() string { return k.public.id }

// Public is the part that others verify with.
func (k SigningKey) Public() PublicKey { return k.public }

// Format implements [fmt.Formatter].
func (SigningKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "REDACTED") }

// MarshalText refuses, and so do encoding/json, encoding/xml and their like.
func (SigningKey) MarshalText() ([]byte, error) {
	return nil, errors.New("token: a signing key is not marshalled")
}

// PublicKey verifies tokens. Two are equal by == when they are the same key. The zero
// value is no key: it verifies nothing.
type PublicKey struct {
	id     string
	header string // the one header segment of tokens signed with this key
	point  [ed25519.PublicKeySize]byte
}

// ID is the kid of the key: its RFC 7638 thumbprint, in base64url.
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

// weak reports whether a point is one that no seed leads to and that crypto/ed25519 takes
// all the same: of small order, where one signature fits many messages, or with a y that
// has a smaller spelling (RFC 8032 section 5.1.3).
func weak(point [ed25519.PublicKeySize]byte) bool {
	point[31] &= 0x7f // the sign of x; what is left is y, little-endian
	switch y := hex.EncodeToString(point[:]); y {
	case "0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": // order 8
		return true
	default: // 2^255-19 or more
		return point[0] >= 0xed && y[2:] == "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
	}
}
