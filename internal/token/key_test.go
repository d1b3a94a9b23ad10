package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The key of RFC 8037 appendix A.1.
const (
	rfcSeed       = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	rfcPoint      = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	rfcThumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestAKeyHasThePublicPartAndThumbprintOfRFC8037(t *testing.T) {
	k := signingKey(t, unb64(t, rfcSeed))
	require.Equal(t, rfcPoint, encode(k.public.point[:]))
	require.Equal(t, rfcThumbprint, k.ID())
	require.Equal(t, rfcThumbprint, k.Public().ID())
}

func TestAKeySignsAsInRFC8037(t *testing.T) {
	k := signingKey(t, unb64(t, rfcSeed))
	signature := k.sign([]byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"))
	require.Equal(t, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", encode(signature))
}

func TestASeedIsThirtyTwoBytes(t *testing.T) {
	for _, n := range []int{0, 1, 31, 33, 64} {
		k, err := NewSigningKey(make([]byte, n))
		require.ErrorIs(t, err, ErrKey, "%d bytes", n)
		require.Empty(t, k.ID())
	}
}

func TestAKeyDoesNotKeepItsSeed(t *testing.T) {
	seed := bytes.Clone(seedA)
	k := signingKey(t, seed)
	clear(seed)
	text, err := Mint(k, testClaims())
	require.NoError(t, err)
	require.Equal(t, minted(t, seedA, testClaims()), text)
}

func TestPublicKeysAreEqualWhenTheyAreTheSameKey(t *testing.T) {
	public, again := signingKey(t, seedA).Public(), signingKey(t, seedA).Public()
	require.True(t, public == again)
	require.False(t, public == signingKey(t, seedB).Public())
}

func TestASigningKeyPrintsAsRedactedWithEveryVerb(t *testing.T) {
	k := signingKey(t, seedA)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%e", "%t", "%20v", "%z"} {
		require.Equal(t, "REDACTED", fmt.Sprintf(verb, k), verb)
		require.Equal(t, "REDACTED", fmt.Sprintf(verb, &k), verb)
	}
	require.Equal(t, "REDACTED", fmt.Sprint(k))
}

func TestNoPrinterReachesTheSeed(t *testing.T) {
	k := signingKey(t, seedA)
	// Package fmt calls no methods on unexported fields.
	hidden := struct{ inner struct{ k SigningKey } }{struct{ k SigningKey }{k}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", hidden)
		fmt.Fprintf(&out, verb+"\n", &hidden)
		fmt.Fprintf(&out, verb+"\n", []SigningKey{k})
		fmt.Fprintf(&out, verb+"\n", map[string]SigningKey{"k": k})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "k", k, "h", hidden)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", k, "h", hidden)
	for _, piece := range []string{"165 165", "165, 165", "0xa5, 0xa5", "a5a5", "A5A5", "a5 a5", string(seedA[:4]), encode(seedA)[:8]} {
		require.NotContains(t, out.String(), piece)
	}
}

func TestASigningKeyRefusesToBeMarshalled(t *testing.T) {
	k := signingKey(t, seedA)
	for name, marshal := range map[string]func(any) error{
		"json":              func(v any) error { _, err := json.Marshal(v); return err },
		"json in a struct":  func(v any) error { _, err := json.Marshal(struct{ K any }{v}); return err },
		"json as a map key": func(any) error { _, err := json.Marshal(map[string]any{"k": k}); return err },
		"xml":               func(v any) error { _, err := xml.Marshal(v); return err },
		"gob":               func(v any) error { return gob.NewEncoder(new(bytes.Buffer)).Encode(v) },
	} {
		require.Error(t, marshal(k), name)
		require.Error(t, marshal(&k), name)
	}
}

func TestTheZeroSigningKeyMintsNothing(t *testing.T) {
	text, err := Mint(SigningKey{}, testClaims())
	require.ErrorIs(t, err, ErrKey)
	require.Empty(t, text)
}

// smallOrderPoints are the encodings of all eight points whose order divides 8, and the
// other spellings of them that a decoder may accept.
func smallOrderPoints(t testing.TB) map[string][]byte {
	t.Helper()
	points := make(map[string][]byte)
	for _, y := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			point, err := hex.DecodeString(y)
			require.NoError(t, err)
			point[31] |= sign
			points[hex.EncodeToString(point)] = point
		}
	}
	return points
}

// The signature R = identity, S = 0 needs no key: under a point of order n it fits one
// message in n. crypto/ed25519 accepts it, so such a point must not be accepted as a key.
func TestAPointOfSmallOrderIsWeak(t *testing.T) {
	forged := append([]byte{1}, make([]byte, 63)...)
	for name, point := range smallOrderPoints(t) {
		forgeable := false
		for n := uint64(0); n < 1000 && !forgeable; n++ {
			forgeable = ed25519.Verify(point, binary.BigEndian.AppendUint64(nil, n), forged)
		}
		require.True(t, forgeable, "the danger is real for %s", name)
		require.True(t, weak([32]byte(point)), name)
	}
}

func TestAPointWithASmallerSpellingIsWeak(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	for y := range int64(19) {
		point := new(big.Int).Add(p, big.NewInt(y)).FillBytes(make([]byte, 32))
		slices.Reverse(point)
		require.True(t, weak([32]byte(point)), "p + %d", y)
	}
	point := new(big.Int).Sub(p, big.NewInt(2)).FillBytes(make([]byte, 32))
	slices.Reverse(point)
	require.False(t, weak([32]byte(point)), "p - 2 is canonical")
}
