package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
)

// Mint signs c with key. The same key and claims give the same text, of at most [MaxText] bytes.
// The error is a [*ClaimError] for claims that break their rules, and [ErrKey] for the zero key.
func Mint(key SigningKey, c Claims) (string, error) {
	if key.sign == nil {
		return "", ErrKey
	}
	if err := c.check(); err != nil {
		return "", err
	}
	payload := c.appendJSON(make([]byte, 0, 512))
	size := len(key.public.header) + base64.RawURLEncoding.EncodedLen(len(payload)) +
		base64.RawURLEncoding.EncodedLen(ed25519.SignatureSize) + len("..")
	text := make([]byte, 0, size)
	text = append(text, key.public.header...)
	text = append(text, '.')
	text = base64.RawURLEncoding.AppendEncode(text, payload)
	signature := key.sign(text)
	text = append(text, '.')
	return string(base64.RawURLEncoding.AppendEncode(text, signature)), nil
}

// Digest returns the SHA-256 of a text, under which the text can be stored without revealing it. It
// accepts any text of any length. For up to 1 KiB, the usual length of a token, it does not
// allocate.
func Digest(text string) [sha256.Size]byte {
	// A conversion, []byte(text), would be allocated on the heap.
	return sha256.Sum256(append(make([]byte, 0, 1024), text...))
}
