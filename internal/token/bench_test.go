package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchClaims have the size of those that a directory issues.
func benchClaims() Claims {
	c := testClaims()
	c.ID, c.Generation = "0192f3c1-7a2b-7c3d-8e4f-5a6b7c8d9e0f", "0192f3c1-7a2b-7c3d-8e4f-5a6b7c8d9e10"
	c.Subject, c.UserID = "0192f3c1-7a2b-7c3d-8e4f-5a6b7c8d9e11", "0192f3c1-7a2b-7c3d-8e4f-5a6b7c8d9e11"
	return c
}

func BenchmarkMint(b *testing.B) {
	k, c := signingKey(b, seedA), benchClaims()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Mint(k, c)
	}
}

func BenchmarkSignAlone(b *testing.B) {
	private := ed25519.NewKeyFromSeed(seedA)
	text := minted(b, seedA, benchClaims())
	signed := []byte(text[:strings.LastIndexByte(text, '.')])
	b.ReportAllocs()
	for b.Loop() {
		ed25519.Sign(private, signed)
	}
}

func BenchmarkVerify(b *testing.B) {
	text, keys := minted(b, seedA, benchClaims()), []PublicKey{signingKey(b, seedA).Public()}
	b.ReportAllocs()
	for b.Loop() {
		_, err := Verify(text, keys, here, notBefore)
		require.NoError(b, err)
	}
}

func BenchmarkVerifyAlone(b *testing.B) {
	text := minted(b, seedA, benchClaims())
	i := strings.LastIndexByte(text, '.')
	signed, sig := []byte(text[:i]), unb64(b, text[i+1:])
	k := signingKey(b, seedA)
	b.ReportAllocs()
	for b.Loop() {
		ed25519.Verify(k.public.point[:], signed, sig)
	}
}

// BenchmarkVerifyForeign verifies a token of another issuer, which its header shows.
func BenchmarkVerifyForeign(b *testing.B) {
	text, keys := minted(b, seedB, benchClaims()), []PublicKey{signingKey(b, seedA).Public()}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Verify(text, keys, here, notBefore)
	}
}

func BenchmarkDigest(b *testing.B) {
	text := minted(b, seedA, benchClaims())
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Digest(text)
	}
}

func BenchmarkSHA256Alone(b *testing.B) {
	text := []byte(minted(b, seedA, benchClaims()))
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		sha256.Sum256(text)
	}
}
