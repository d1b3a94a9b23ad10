package token

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const rfcEntry = `{"kty":"OKP","crv":"Ed25519","x":"` + rfcPoint + `","kid":"` + rfcThumbprint + `","alg":"EdDSA","use":"sig"}`

func TestAKeySetIsWrittenAsRFC8037HasIt(t *testing.T) {
	rfc, a := signingKey(t, unb64(t, rfcSeed)).Public(), signingKey(t, seedA).Public()
	require.Equal(t, `{"keys":[`+rfcEntry+`]}`, string(EncodeKeys(rfc)))
	require.Equal(t, `{"keys":[`+rfcEntry+`,{"kty":"OKP","crv":"Ed25519","x":"`+encode(a.point[:])+`","kid":"`+a.id+
		`","alg":"EdDSA","use":"sig"}]}`, string(EncodeKeys(rfc, a)))
	require.Equal(t, `{"keys":[]}`, string(EncodeKeys()))
}

func TestTheZeroKeyIsLeftOutOfAKeySet(t *testing.T) {
	a := signingKey(t, seedA).Public()
	require.Equal(t, EncodeKeys(a), EncodeKeys(PublicKey{}, a, PublicKey{}))
}

func TestAKeySetIsReadAsItWasWritten(t *testing.T) {
	keys := []PublicKey{signingKey(t, seedB).Public(), signingKey(t, seedA).Public()}
	got, err := ParseKeys(EncodeKeys(keys...))
	require.NoError(t, err)
	require.Equal(t, keys, got)
	c, err := Verify(minted(t, seedA, testClaims()), got, here, notBefore)
	require.NoError(t, err)
	require.Equal(t, testClaims(), c)
}

func TestEntriesOfOtherKindsArePassedOver(t *testing.T) {
	for name, set := range map[string]string{
		"an RSA key":              `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"1"},` + rfcEntry + `]}`,
		"an RSA key with our id":  `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"` + rfcThumbprint + `"},` + rfcEntry + `]}`,
		"a P-256 key":             `{"keys":[` + rfcEntry + `,{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
		"an X25519 key":           `{"keys":[{"kty":"OKP","crv":"X25519","x":"!","kid":"x"},` + rfcEntry + `]}`,
		"members we do not judge": `{"keys":[{"kty":"AKP","crv":1,"x":{},"kid":[],"alg":null,"d":"AA"},` + rfcEntry + `]}`,
		"a kty yet to come":       `{"keys":[{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"},` + rfcEntry + `]}`,
		"kty in another case":     `{"keys":[{"kty":"okp","crv":"Ed25519"},` + rfcEntry + `]}`,
		"unknown members":         `{"x":1,"keys":[` + strings.TrimSuffix(rfcEntry, "}") + `,"key_ops":["verify"],"X":"AA","Kid":"evil","n":1e999}],"KEYS":[]}`,
		"no alg and no use":       `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + rfcPoint + `","kid":"` + rfcThumbprint + `"}]}`,
		"spaces":                  " {\n\"keys\" : [ " + rfcEntry + " ] }\n",
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ParseKeys([]byte(set))
			require.NoError(t, err)
			require.Equal(t, []PublicKey{signingKey(t, unb64(t, rfcSeed)).Public()}, keys)
		})
	}
	keys, err := ParseKeys([]byte(`{"keys":[]}`))
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestAMalformedKeySetIsRefusedWhole(t *testing.T) {
	change := func(old, forged string) string {
		t.Helper()
		require.Equal(t, 1, strings.Count(rfcEntry, old), old)
		return `{"keys":[` + strings.Replace(rfcEntry, old, forged, 1) + `]}`
	}
	for name, row := range map[string]struct{ set, says string }{
		"nothing":                    {``, "JSON"},
		"no JSON":                    {`keys`, "JSON"},
		"null":                       {`null`, "keys"},
		"an array":                   {`[` + rfcEntry + `]`, "object"},
		"a lone key":                 {rfcEntry, "keys"},
		"no keys":                    {`{}`, "keys"},
		"keys null":                  {`{"keys":null}`, "keys"},
		"keys an object":             {`{"keys":` + rfcEntry + `}`, "keys"},
		"keys in another case":       {`{"Keys":[` + rfcEntry + `]}`, "keys"},
		"keys twice":                 {`{"keys":[],"keys":[` + rfcEntry + `]}`, "distinct"},
		"keys twice, escaped":        {`{"keys":[],"\u006beys":[` + rfcEntry + `]}`, "distinct"},
		"bytes after":                {`{"keys":[]}x`, "JSON"},
		"an object after":            {`{"keys":[]}{}`, "JSON"},
		"a comma missing":            {`{"keys":[` + rfcEntry + rfcEntry + `]}`, "JSON"},
		"no end":                     {`{"keys":[` + rfcEntry + `]`, "JSON"},
		"not UTF-8":                  {"{\"keys\":[],\"x\":\"\xff\"}", "UTF-8"},
		"a BOM":                      {"\ufeff" + `{"keys":[]}`, "JSON"},
		"an entry null":              {`{"keys":[null]}`, "entry 0: kty"},
		"an entry a string":          {`{"keys":["x"]}`, "keys"},
		"kty missing":                {change(`"kty":"OKP",`, ``), "entry 0: kty"},
		"kty empty":                  {change(`"OKP"`, `""`), "entry 0: kty"},
		"kty null":                   {change(`"OKP"`, `null`), "entry 0: kty"},
		"kty a number":               {change(`"OKP"`, `1`), "entry 0: kty"},
		"kty twice":                  {change(`"kty":"OKP"`, `"kty":"RSA","kty":"OKP"`), "distinct"},
		"crv missing":                {change(`"crv":"Ed25519",`, ``), "entry 0: crv"},
		"alg a number":               {change(`"EdDSA"`, `1`), "entry 0: alg"},
		"use null":                   {change(`"sig"`, `null`), "entry 0: use"},
		"a private key that is null": {change(`"use"`, `"d":null,"use"`), "entry 0: d"},
		"crv an array":               {change(`"Ed25519"`, `["Ed25519"]`), "entry 0: crv"},
		"x missing":                  {change(`"x":"`+rfcPoint+`",`, ``), "entry 0: x"},
		"x twice":                    {change(`"kid"`, `"x":"`+rfcPoint+`","kid"`), "distinct"},
		"x null":                     {change(`"`+rfcPoint+`"`, `null`), "entry 0: x"},
		"x short":                    {change(rfcPoint, rfcPoint[:42]), "entry 0: x"},
		"x long":                     {change(rfcPoint, rfcPoint+"A"), "entry 0: x"},
		"x padded":                   {change(rfcPoint, rfcPoint+"="), "entry 0: x"},
		"x with trailing bits":       {change(rfcPoint, rfcPoint[:42]+"p"), "entry 0: x"},
		"x with a line feed":         {change(rfcPoint, rfcPoint[:20]+`\n`+rfcPoint[20:]), "entry 0: x"},
		"x in the other alphabet":    {change(rfcPoint, strings.ReplaceAll(rfcPoint, "_", "/")), "entry 0: x"},
		"kid missing":                {change(`,"kid":"`+rfcThumbprint+`"`, ``), "entry 0: kid"},
		"kid empty":                  {change(rfcThumbprint, ``), "entry 0: kid"},
		"kid null":                   {change(`"`+rfcThumbprint+`"`, `null`), "entry 0: kid"},
		"kid a number":               {change(`"`+rfcThumbprint+`"`, `7`), "entry 0: kid"},
		"kid of another key":         {change(rfcThumbprint, signingKey(t, seedA).ID()), "entry 0: kid"},
		"kid in another case":        {change(rfcThumbprint, strings.ToLower(rfcThumbprint)), "entry 0: kid"},
		"alg of another kind":        {change(`"EdDSA"`, `"HS256"`), "entry 0: alg"},
		"alg none":                   {change(`"EdDSA"`, `"none"`), "entry 0: alg"},
		"alg null":                   {change(`"EdDSA"`, `null`), "entry 0: alg"},
		"use enc":                    {change(`"sig"`, `"enc"`), "entry 0: use"},
		"a private key":              {change(`"use"`, `"d":"`+rfcSeed+`","use"`), "entry 0: d"},
		"a key twice":                {`{"keys":[` + rfcEntry + `,` + rfcEntry + `]}`, "entry 1: kid"},
		"a duplicate deep inside":    {change(`"use"`, `"y":[{"a":1,"a":2}],"use"`), "distinct"},
		"more than 64 entries":       {`{"keys":[` + strings.Repeat(`{"kty":"RSA"},`, 64) + rfcEntry + `]}`, "more than 64"},
		"more than 64 KiB":           {`{"keys":[]` + strings.Repeat(" ", 64<<10) + `}`, "64 KiB"},
		"the last of several poor":   {`{"keys":[` + rfcEntry + `,{"kty":1}]}`, "entry 1: kty"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ParseKeys([]byte(row.set))
			require.ErrorIs(t, err, ErrKeySet)
			require.ErrorContains(t, err, row.says)
			require.NotContains(t, err.Error(), rfcSeed)
			require.Nil(t, keys)
		})
	}
}

func TestAKeySetOfTheLargestSizeIsRead(t *testing.T) {
	var keys []PublicKey
	for n := range byte(64) {
		keys = append(keys, signingKey(t, slices.Repeat([]byte{n}, 32)).Public())
	}
	set := EncodeKeys(keys...)
	set = append(set, strings.Repeat(" ", 64<<10-len(set))...)
	got, err := ParseKeys(set)
	require.NoError(t, err)
	require.Equal(t, keys, got)
}

func TestAKeySetHoldsNoPointOfSmallOrder(t *testing.T) {
	for name, point := range smallOrderPoints(t) {
		set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"%s","kid":"%s"}]}`, encode(point), thumbprintOf(point))
		keys, err := ParseKeys([]byte(set))
		require.ErrorIs(t, err, ErrKeySet, name)
		require.ErrorContains(t, err, "small order", name)
		require.Nil(t, keys)
	}
}

func TestADeepKeySetIsRefusedOrReadWithoutHarm(t *testing.T) {
	for _, open := range []string{`[`, `{"a":`} {
		_, err := ParseKeys([]byte(`{"keys":[],"x":` + strings.Repeat(open, (64<<10-20)/len(open)) + `}`))
		require.ErrorIs(t, err, ErrKeySet)
	}
	_, err := ParseKeys([]byte(`{"keys":[],"x":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`))
	require.NoError(t, err)
}

func thumbprintOf(point []byte) string {
	sum := Digest(`{"crv":"Ed25519","kty":"OKP","x":"` + encode(point) + `"}`)
	return encode(sum[:])
}
