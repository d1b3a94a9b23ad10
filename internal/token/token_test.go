package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"go/build"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	issuedAt  int64 = 1_700_000_000
	notBefore int64 = issuedAt + 10
	expires   int64 = issuedAt + 3600
)

var (
	seedA = bytes.Repeat([]byte{0xa5}, 32)
	seedB = bytes.Repeat([]byte{0x5b}, 32)
	here  = Want{Issuer: "denizen", Audience: "app"}
)

func testClaims() Claims {
	return Claims{
		ID: "tok-1", Issuer: "denizen", Subject: "alice-0001", Audience: "app",
		UserID: "alice-0001", ApplicationID: "app", Generation: "g1",
		IssuedAt: issuedAt, NotBefore: notBefore, Expires: expires,
	}
}

func signingKey(t testing.TB, seed []byte) SigningKey {
	t.Helper()
	k, err := NewSigningKey(seed)
	require.NoError(t, err)
	return k
}

func minted(t testing.TB, seed []byte, c Claims) string {
	t.Helper()
	text, err := Mint(signingKey(t, seed), c)
	require.NoError(t, err)
	return text
}

// signed returns a text with any header and payload and a valid signature over them.
func signed(seed []byte, header, payload string) string {
	text := b64(header) + "." + b64(payload)
	return text + "." + b64(string(ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(text))))
}

// header returns the header of the key of seed, without the code under test.
func header(t testing.TB, seed []byte) string {
	t.Helper()
	return `{"alg":"EdDSA","kid":"` + signingKey(t, seed).ID() + `","typ":"JWT"}`
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func split(t testing.TB, text string) (header, payload, signature string) {
	t.Helper()
	parts := strings.Split(text, ".")
	require.Len(t, parts, 3)
	return parts[0], parts[1], parts[2]
}

// requireRefused requires one error and no claims of Verify, with the keys of A and B.
func requireRefused(t testing.TB, text string, want error) {
	t.Helper()
	keys := []PublicKey{signingKey(t, seedA).Public(), signingKey(t, seedB).Public()}
	c, err := Verify(text, keys, here, notBefore)
	require.ErrorIs(t, err, want)
	require.Zero(t, c)
}

func TestThePackageHasNoClockNoContextAndNoStore(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	require.NoError(t, err)
	require.NotEmpty(t, p.Imports)
	for _, path := range p.Imports {
		require.NotContains(t, []string{"time", "context", "os", "net/http", "math/rand", "crypto/rand", "unsafe"}, path)
		require.NotContains(t, path, "denizenhq")
	}
}
