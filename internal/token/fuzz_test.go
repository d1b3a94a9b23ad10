package token

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzVerify checks that a text that verifies is, byte for byte, what Mint makes of its claims, and
// that any other is refused with one of the errors and no claims.
func FuzzVerify(f *testing.F) {
	genuine := minted(f, seedA, testClaims())
	head, payload, sig := split(f, genuine)
	for _, text := range []string{
		genuine, minted(f, seedB, testClaims()), "", ".", "..", "...", genuine + "\n", genuine + "=", " " + genuine,
		head + "." + payload + ".", head + "." + payload, head + ".." + sig, head + "." + head + "." + sig,
		strings.Replace(genuine, ".", "\uff0e", 1), b64(`{"alg":"none"}`) + "." + payload + ".",
		signed(seedA, `{"alg":"EdDSA"}`, "{}"), signed(seedA, header(f, seedA), "{}"), signed(seedA, header(f, seedA), "null"),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { requireSound(t, text) })
}

// FuzzClaims signs any payload, so that the fuzzer gets past the signature.
func FuzzClaims(f *testing.F) {
	payload := string(new(testClaims()).appendJSON(nil))
	for _, p := range []string{
		payload, payload + " ", "{}", "null", "[]", "", "\x00", strings.ToUpper(payload), strings.Replace(payload, "sub", `\u0073ub`, 1),
		strings.Replace(payload, `"app"`, `["app"]`, 1), strings.Replace(payload, "1700003600", "1e300", 1),
		strings.Replace(payload, `{`, `{"sub":"evil",`, 1), strings.Replace(payload, "alice", "&<\u2028", 1),
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, payload string) { requireSound(t, signed(seedA, header(t, seedA), payload)) })
}

func requireSound(t *testing.T, text string) {
	t.Helper()
	a, b := signingKey(t, seedA), signingKey(t, seedB)
	c, err := Verify(text, []PublicKey{a.Public(), b.Public()}, here, notBefore)
	if err != nil {
		require.Zero(t, c)
		require.Contains(t, []error{ErrMalformed, ErrNotOurs, ErrIssuer, ErrAudience, ErrExpired, ErrNotYetValid}, err)
		return
	}
	again, err := Mint(a, c)
	require.NoError(t, err)
	if again != text {
		again, err = Mint(b, c)
		require.NoError(t, err)
	}
	require.Equal(t, again, text)
	require.LessOrEqual(t, len(text), MaxText)
	require.Equal(t, here, Want{c.Issuer, c.Audience})
	require.True(t, c.IssuedAt <= notBefore && c.NotBefore <= notBefore && notBefore < c.Expires)
}

// FuzzParseKeys checks that ParseKeys returns distinct, valid keys, which survive encoding and
// parsing again.
func FuzzParseKeys(f *testing.F) {
	for _, set := range []string{
		`{"keys":[` + rfcEntry + `]}`, `{"keys":[]}`, `{}`, `null`, ``, `{"keys":null}`, `{"keys":[null]}`,
		`{"keys":[{"kty":"RSA"},` + rfcEntry + `]}`, `{"keys":[` + rfcEntry + `,` + rfcEntry + `]}`, `{"keys":[],"keys":[]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":""}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"\ud800","kid":1}]}`, strings.Repeat("[", 100), "\xff",
		string(EncodeKeys(signingKey(f, seedA).Public(), signingKey(f, seedB).Public())),
	} {
		f.Add([]byte(set))
	}
	f.Fuzz(func(t *testing.T, set []byte) {
		keys, err := ParseKeys(set)
		if err != nil {
			require.ErrorIs(t, err, ErrKeySet)
			require.Nil(t, keys)
			return
		}
		require.LessOrEqual(t, len(set), maxSet)
		require.LessOrEqual(t, len(keys), maxKeys)
		require.True(t, utf8.Valid(set))
		seen := make(map[PublicKey]bool)
		for _, k := range keys {
			require.False(t, seen[k])
			seen[k] = true
			require.False(t, weak(k.point))
			require.Equal(t, thumbprintOf(k.point[:]), k.ID())
		}
		again, err := ParseKeys(EncodeKeys(keys...))
		require.NoError(t, err)
		require.Equal(t, keys, again)
	})
}

// FuzzDecode checks that the decoder accepts only one spelling.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "A", "AA", "AB", "AAA", "AAAA", "AA==", "A\nA", "QQ", "QR", "-_", "+/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b, ok := decode(s); ok {
			require.Equal(t, s, encode(b))
		} else {
			require.Nil(t, b)
		}
		if s != "" {
			b, ok := decode(encode([]byte(s)))
			require.True(t, ok)
			require.Equal(t, s, string(b))
		}
	})
}
