package spec

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/denizenhq/denizen/internal/token"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var seed = bytes.Repeat([]byte{0x42}, ed25519.SeedSize)

func signingKey(t testing.TB) token.SigningKey {
	t.Helper()
	k, err := token.NewSigningKey(seed)
	require.NoError(t, err)
	return k
}

// pointOf reads the public key that another service would take from our key set.
func pointOf(t testing.TB, k token.PublicKey) ed25519.PublicKey {
	t.Helper()
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, Alg, Use string }
	}
	require.NoError(t, json.Unmarshal(token.EncodeKeys(k), &set))
	require.Len(t, set.Keys, 1)
	require.Equal(t, k.ID(), set.Keys[0].Kid)
	point, err := base64.RawURLEncoding.Strict().DecodeString(set.Keys[0].X)
	require.NoError(t, err)
	return point
}

// text draws a claim that Mint takes. Those that encoding/json would escape are apart.
func text(withEscaped bool) *rapid.Generator[string] {
	var allowed []rune
	for r := '!'; r < '~'; r++ {
		if !strings.ContainsRune(`"\>?`, r) && (withEscaped || !strings.ContainsRune(`&<`, r)) {
			allowed = append(allowed, r)
		}
	}
	return rapid.StringOfN(rapid.SampledFrom(allowed), 1, 256, -1)
}

func claims(t *rapid.T, withEscaped bool) (c token.Claims, now int64) {
	t.Helper()
	s := text(withEscaped)
	c = token.Claims{
		ID: s.Draw(t, "jti"), Issuer: s.Draw(t, "iss"), Subject: s.Draw(t, "sub"), Audience: s.Draw(t, "aud"),
		UserID: s.Draw(t, "userId"), ApplicationID: s.Draw(t, "applicationId"), Generation: s.Draw(t, "gen"),
	}
	now = rapid.Int64Range(1, 253402300798).Draw(t, "now")
	c.IssuedAt = rapid.Int64Range(1, now).Draw(t, "iat")
	c.NotBefore = rapid.Int64Range(1, now).Draw(t, "nbf")
	c.Expires = rapid.Int64Range(now+1, 253402300799).Draw(t, "exp")
	return c, now
}

// theirs makes golang-jwt spell the claims as their tags say.
type theirs struct{ token.Claims }

func date(unix int64) (*jwt.NumericDate, error) { return jwt.NewNumericDate(time.Unix(unix, 0)), nil }

func (c theirs) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.Expires) }
func (c theirs) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.NotBefore) }
func (c theirs) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.IssuedAt) }
func (c theirs) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c theirs) GetSubject() (string, error)                  { return c.Subject, nil }
func (c theirs) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }

func TestWhatWeMintGolangJWTVerifies(t *testing.T) {
	k := signingKey(t)
	point := pointOf(t, k.Public())
	rapid.Check(t, func(t *rapid.T) {
		c, now := claims(t, true)
		signed, err := token.Mint(k, c)
		require.NoError(t, err)
		parsed, err := jwt.NewParser(
			jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audience), jwt.WithSubject(c.Subject),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding(),
			jwt.WithTimeFunc(func() time.Time { return time.Unix(now, 0) }),
		).ParseWithClaims(signed, &theirs{}, func(u *jwt.Token) (any, error) {
			require.Equal(t, map[string]any{"alg": "EdDSA", "kid": k.ID(), "typ": "JWT"}, u.Header)
			return point, nil
		})
		require.NoError(t, err)
		require.True(t, parsed.Valid)
		require.Equal(t, &theirs{c}, parsed.Claims)
	})
}

func TestGolangJWTAndWeRefuseTheSameSecond(t *testing.T) {
	k := signingKey(t)
	point := pointOf(t, k.Public())
	rapid.Check(t, func(t *rapid.T) {
		c, _ := claims(t, false)
		now := rapid.SampledFrom([]int64{c.NotBefore, c.IssuedAt, c.Expires}).Draw(t, "edge") + rapid.Int64Range(-1, 1).Draw(t, "second")
		signed, err := token.Mint(k, c)
		require.NoError(t, err)
		_, ours := token.Verify(signed, []token.PublicKey{k.Public()}, token.Want{Issuer: c.Issuer, Audience: c.Audience}, now)
		_, theirErr := jwt.NewParser(jwt.WithIssuedAt(), jwt.WithTimeFunc(func() time.Time { return time.Unix(now, 0) })).
			ParseWithClaims(signed, &theirs{}, func(*jwt.Token) (any, error) { return point, nil })
		require.Equal(t, theirErr == nil, ours == nil, "ours %v, theirs %v", ours, theirErr)
	})
}

// Ed25519 is deterministic, so two that spell alike sign alike.
func TestWhatGolangJWTSignsWithOurHeaderIsWhatWeMint(t *testing.T) {
	k := signingKey(t)
	rapid.Check(t, func(t *rapid.T) {
		c, now := claims(t, false)
		u := jwt.NewWithClaims(jwt.SigningMethodEdDSA, theirs{c})
		u.Header["kid"] = k.ID()
		signed, err := u.SignedString(ed25519.NewKeyFromSeed(seed))
		require.NoError(t, err)
		ours, err := token.Mint(k, c)
		require.NoError(t, err)
		require.Equal(t, ours, signed)
		got, err := token.Verify(signed, []token.PublicKey{k.Public()}, token.Want{Issuer: c.Issuer, Audience: c.Audience}, now)
		require.NoError(t, err)
		require.Equal(t, c, got)
	})
}

func TestWhatGolangJWTSignsWithAnotherHeaderWeRefuse(t *testing.T) {
	k := signingKey(t)
	c := token.Claims{
		ID: "tok-1", Issuer: "denizen", Subject: "alice-0001", Audience: "app",
		UserID: "alice-0001", ApplicationID: "app", Generation: "g1", IssuedAt: 100, NotBefore: 100, Expires: 200,
	}
	verify := func(signed string) error {
		_, err := token.Verify(signed, []token.PublicKey{k.Public()}, token.Want{Issuer: "denizen", Audience: "app"}, 150)
		return err
	}
	for name, header := range map[string]map[string]any{
		"no kid":       {"alg": "EdDSA", "typ": "JWT"},
		"another kid":  {"alg": "EdDSA", "kid": "k1", "typ": "JWT"},
		"no typ":       {"alg": "EdDSA", "kid": k.ID()},
		"one more":     {"alg": "EdDSA", "kid": k.ID(), "typ": "JWT", "cty": "JWT"},
		"jwk":          {"alg": "EdDSA", "kid": k.ID(), "typ": "JWT", "jwk": map[string]any{"kty": "OKP"}},
		"crit":         {"alg": "EdDSA", "kid": k.ID(), "typ": "JWT", "crit": []string{"b64"}, "b64": false},
		"alg none":     {"alg": "none", "kid": k.ID(), "typ": "JWT"},
		"alg Ed25519":  {"alg": "Ed25519", "kid": k.ID(), "typ": "JWT"},
		"typ at+jwt":   {"alg": "EdDSA", "kid": k.ID(), "typ": "at+jwt"},
		"an empty one": {},
	} {
		t.Run(name, func(t *testing.T) {
			u := jwt.NewWithClaims(jwt.SigningMethodEdDSA, theirs{c})
			u.Header = header
			signed, err := u.SignedString(ed25519.NewKeyFromSeed(seed))
			require.NoError(t, err)
			require.ErrorIs(t, verify(signed), token.ErrNotOurs)
		})
	}
	t.Run("no signature", func(t *testing.T) {
		signed, err := jwt.NewWithClaims(jwt.SigningMethodNone, theirs{c}).SignedString(jwt.UnsafeAllowNoneSignatureType)
		require.NoError(t, err)
		require.ErrorIs(t, verify(signed), token.ErrMalformed)
	})
	t.Run("an HMAC with the public key", func(t *testing.T) {
		u := jwt.NewWithClaims(jwt.SigningMethodHS512, theirs{c})
		u.Header["kid"] = k.ID()
		signed, err := u.SignedString([]byte(pointOf(t, k.Public())))
		require.NoError(t, err)
		require.ErrorIs(t, verify(signed), token.ErrNotOurs)
	})
}

func TestWhatGolangJWTSpellsOtherwiseWeRefuse(t *testing.T) {
	k := signingKey(t)
	full := jwt.MapClaims{
		"jti": "tok-1", "iss": "denizen", "sub": "alice-0001", "aud": "app",
		"userId": "alice-0001", "applicationId": "app", "gen": "g1", "iat": 100, "nbf": 100, "exp": 200,
	}
	for name, c := range map[string]jwt.Claims{
		"claims in another order": full,
		"registered claims only": jwt.RegisteredClaims{
			ID: "tok-1", Issuer: "denizen", Subject: "alice-0001", Audience: jwt.ClaimStrings{"app"},
			IssuedAt: jwt.NewNumericDate(time.Unix(100, 0)), NotBefore: jwt.NewNumericDate(time.Unix(100, 0)), ExpiresAt: jwt.NewNumericDate(time.Unix(200, 0)),
		},
		"no claims": jwt.MapClaims{},
	} {
		t.Run(name, func(t *testing.T) {
			u := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
			u.Header["kid"] = k.ID()
			signed, err := u.SignedString(ed25519.NewKeyFromSeed(seed))
			require.NoError(t, err)
			_, err = token.Verify(signed, []token.PublicKey{k.Public()}, token.Want{Issuer: "denizen", Audience: "app"}, 150)
			require.ErrorIs(t, err, token.ErrMalformed)
		})
	}
}
