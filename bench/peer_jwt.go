package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
)

// jwts verifies tokens with as many claims as ours: the signature, the issuer, the audience and the
// expiry. It cannot know which tokens are revoked.
func jwts() (sides, error) {
	const issuer, audience = "https://id.example.com", "application"
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	all := sides{}
	for _, with := range []struct {
		name         string
		method       jwt.SigningMethod
		jose         jose.SignatureAlgorithm
		sign, verify any
		rows         []string
	}{
		{"HS256", jwt.SigningMethodHS256, jose.HS256, secret, secret, []string{"Authenticate/again"}},
		{"EdDSA", jwt.SigningMethodEdDSA, jose.EdDSA, private, public, []string{"Authenticate/again", "Authenticate/first"}},
	} {
		texts := make([]string, remembered)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: with.jose, Key: with.sign}, (&jose.SignerOptions{}).WithType("JWT"))
		if err != nil {
			return nil, err
		}
		for i := range texts {
			texts[i], err = josejwt.Signed(signer).Claims(josejwt.Claims{
				Issuer: issuer, Subject: string(userID(i)), Audience: josejwt.Audience{audience}, ID: fmt.Sprintf("TOKEN%021d", i),
				IssuedAt: josejwt.NewNumericDate(now), Expiry: josejwt.NewNumericDate(now.Add(24 * time.Hour)),
			}).Serialize()
			if err != nil {
				return nil, err
			}
		}
		parser := jwt.NewParser(jwt.WithValidMethods([]string{with.name}), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired())
		key := func(*jwt.Token) (any, error) { return with.verify, nil }
		algorithms := []jose.SignatureAlgorithm{with.jose}
		expected := josejwt.Expected{Issuer: issuer, AnyAudience: josejwt.Audience{audience}}
		for _, row := range with.rows {
			all[row] = append(all[row],
				side{name: "golang-jwt " + with.name, do: func(i uint64) error {
					var claims jwt.RegisteredClaims
					_, err := parser.ParseWithClaims(texts[i%remembered], &claims, key)
					return err
				}},
				side{name: "go-jose " + with.name, do: func(i uint64) error {
					token, err := josejwt.ParseSigned(texts[i%remembered], algorithms)
					if err != nil {
						return err
					}
					var claims josejwt.Claims
					if err := token.Claims(with.verify, &claims); err != nil {
						return err
					}
					return claims.Validate(expected.WithTime(time.Now()))
				}},
			)
		}
	}
	return all, nil
}
