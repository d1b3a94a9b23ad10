package token

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func TestNoHeaderButTheKeysOwnIsAccepted(t *testing.T) {
	k := signingKey(t, seedA)
	kid, x := k.ID(), encode(k.public.point[:])
	payload := string(new(testClaims()).appendJSON(nil))
	for name, forged := range map[string]string{
		"alg none":                   `{"alg":"none","kid":"` + kid + `","typ":"JWT"}`,
		"alg None":                   `{"alg":"None","kid":"` + kid + `","typ":"JWT"}`,
		"alg NONE":                   `{"alg":"NONE","kid":"` + kid + `","typ":"JWT"}`,
		"alg nOnE":                   `{"alg":"nOnE","kid":"` + kid + `","typ":"JWT"}`,
		"alg none and a space":       `{"alg":"none ","kid":"` + kid + `","typ":"JWT"}`,
		"alg empty":                  `{"alg":"","kid":"` + kid + `","typ":"JWT"}`,
		"alg absent":                 `{"kid":"` + kid + `","typ":"JWT"}`,
		"alg null":                   `{"alg":null,"kid":"` + kid + `","typ":"JWT"}`,
		"alg a number":               `{"alg":1,"kid":"` + kid + `","typ":"JWT"}`,
		"alg an array":               `{"alg":["EdDSA"],"kid":"` + kid + `","typ":"JWT"}`,
		"alg Ed25519":                `{"alg":"Ed25519","kid":"` + kid + `","typ":"JWT"}`,
		"alg in lower case":          `{"alg":"eddsa","kid":"` + kid + `","typ":"JWT"}`,
		"alg RS256":                  `{"alg":"RS256","kid":"` + kid + `","typ":"JWT"}`,
		"alg HS256":                  `{"alg":"HS256","kid":"` + kid + `","typ":"JWT"}`,
		"alg twice, none first":      `{"alg":"none","alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"alg twice, none last":       `{"alg":"EdDSA","alg":"none","kid":"` + kid + `","typ":"JWT"}`,
		"alg and ALG":                `{"alg":"EdDSA","ALG":"none","kid":"` + kid + `","typ":"JWT"}`,
		"Alg":                        `{"Alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"alg escaped":                `{"al\u0067":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"EdDSA escaped":              `{"alg":"Ed\u0044SA","kid":"` + kid + `","typ":"JWT"}`,
		"an embedded jwk":            `{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"},"kid":"` + kid + `","typ":"JWT"}`,
		"jku":                        `{"alg":"EdDSA","jku":"https://evil.example/keys","kid":"` + kid + `","typ":"JWT"}`,
		"x5u":                        `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","x5u":"https://evil.example/cert"}`,
		"x5c":                        `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","x5c":["AA=="]}`,
		"crit":                       `{"alg":"EdDSA","crit":["x"],"kid":"` + kid + `","typ":"JWT","x":1}`,
		"crit empty":                 `{"alg":"EdDSA","crit":[],"kid":"` + kid + `","typ":"JWT"}`,
		"b64 false":                  `{"alg":"EdDSA","b64":false,"crit":["b64"],"kid":"` + kid + `","typ":"JWT"}`,
		"zip":                        `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","zip":"DEF"}`,
		"kid unknown":                `{"alg":"EdDSA","kid":"unknown","typ":"JWT"}`,
		"kid of a key not given":     header(t, slices.Repeat([]byte{7}, 32)),
		"kid absent":                 `{"alg":"EdDSA","typ":"JWT"}`,
		"kid empty":                  `{"alg":"EdDSA","kid":"","typ":"JWT"}`,
		"kid null":                   `{"alg":"EdDSA","kid":null,"typ":"JWT"}`,
		"kid a path":                 `{"alg":"EdDSA","kid":"../../../dev/null","typ":"JWT"}`,
		"kid SQL":                    `{"alg":"EdDSA","kid":"' OR 1=1 --","typ":"JWT"}`,
		"kid with NUL":               `{"alg":"EdDSA","kid":"` + kid + "\x00" + `","typ":"JWT"}`,
		"kid with escaped NUL":       `{"alg":"EdDSA","kid":"` + kid + `\u0000","typ":"JWT"}`,
		"kid in the other case":      `{"alg":"EdDSA","kid":"` + strings.ToUpper(kid) + `","typ":"JWT"}`,
		"kid twice":                  `{"alg":"EdDSA","kid":"x","kid":"` + kid + `","typ":"JWT"}`,
		"typ absent":                 `{"alg":"EdDSA","kid":"` + kid + `"}`,
		"typ of another kind":        `{"alg":"EdDSA","kid":"` + kid + `","typ":"at+jwt"}`,
		"typ in lower case":          `{"alg":"EdDSA","kid":"` + kid + `","typ":"jwt"}`,
		"cty":                        `{"alg":"EdDSA","cty":"JWT","kid":"` + kid + `","typ":"JWT"}`,
		"members in another order":   `{"typ":"JWT","alg":"EdDSA","kid":"` + kid + `"}`,
		"a space":                    `{"alg": "EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"bytes after the object":     `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}{}`,
		"a BOM before the object":    "\ufeff" + `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"an encrypted token's shape": `{"alg":"dir","enc":"A256GCM","kid":"` + kid + `"}`,
		"no object":                  `null`,
	} {
		t.Run(name, func(t *testing.T) { requireRefused(t, signed(seedA, forged, payload), ErrNotOurs) })
	}
	requireRefused(t, signed(seedA, `{"alg":"EdDSA","kid":"`+strings.Repeat("k", 1<<20)+`","typ":"JWT"}`, payload), ErrMalformed)
}

func TestAnUnsignedTokenIsRefused(t *testing.T) {
	payload := b64(string(new(testClaims()).appendJSON(nil)))
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none "} {
		requireRefused(t, b64(`{"alg":"`+alg+`"}`)+"."+payload+".", ErrMalformed)
		requireRefused(t, b64(`{"alg":"`+alg+`"}`)+"."+payload, ErrMalformed)
		requireRefused(t, b64(`{"alg":"`+alg+`"}`)+"."+payload+".AAAA", ErrNotOurs)
	}
}

func TestAnHMACWithThePublicKeyIsNoSignature(t *testing.T) {
	k := signingKey(t, seedA)
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(k.public.point[:]))
	require.NoError(t, err)
	payload := b64(string(new(testClaims()).appendJSON(nil)))
	for name, secret := range map[string][]byte{
		"point": k.public.point[:],
		"x":     []byte(encode(k.public.point[:])),
		"DER":   der,
		"PEM":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"JWKS":  EncodeKeys(k.Public()),
		"kid":   []byte(k.ID()),
		"empty": {},
	} {
		for _, head := range []string{`{"alg":"HS256","kid":"` + k.ID() + `","typ":"JWT"}`, header(t, seedA)} {
			t.Run(name, func(t *testing.T) {
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(b64(head) + "." + payload))
				sum := mac.Sum(nil)
				requireRefused(t, b64(head)+"."+payload+"."+encode(sum), ErrNotOurs)
				requireRefused(t, b64(head)+"."+payload+"."+encode(append(sum, sum...)), ErrNotOurs)
			})
		}
	}
}

func TestOnlyTheSpellingThatMintWritesIsAccepted(t *testing.T) {
	payload := string(new(testClaims()).appendJSON(nil))
	change := func(old, forged string) string {
		t.Helper()
		require.Equal(t, 1, strings.Count(payload, old))
		return strings.Replace(payload, old, forged, 1)
	}
	forged := map[string]string{
		"no JSON":                       "x",
		"null":                          "null",
		"an array":                      "[" + payload + "]",
		"a string":                      `"` + b64(payload) + `"`,
		"an empty object":               "{}",
		"a space before":                " " + payload,
		"a BOM before":                  "\ufeff" + payload,
		"a space after":                 payload + " ",
		"a line feed after":             payload + "\n",
		"NUL after":                     payload + "\x00",
		"an object after":               payload + "{}",
		"bytes after":                   payload + "x",
		"a comma after the last member": change(`3600}`, `3600,}`),
		"no end":                        payload[:len(payload)-1],
		"a space inside":                change(`"jti":`, `"jti": `),
		"members in another order":      change(`"jti":"tok-1","iss":"denizen"`, `"iss":"denizen","jti":"tok-1"`),
		"an unknown member":             change(`{`, `{"scope":"all",`),
		"an unknown null":               change(`{`, `{"scope":null,`),
		"an escaped member":             change(`"sub"`, `"\u0073ub"`),
		"an escaped value":              change(`"tok-1"`, `"\u0074ok-1"`),
		"an escaped slash":              change(`"tok-1"`, `"tok\/1"`),
		"aud as an array of one":        change(`"aud":"app"`, `"aud":["app"]`),
		"aud as an array of two":        change(`"aud":"app"`, `"aud":["app","other"]`),
		"aud as an empty array":         change(`"aud":"app"`, `"aud":[]`),
		"exp with a fraction":           change(`"exp":1700003600`, `"exp":1700003600.0`),
		"exp with an exponent":          change(`"exp":1700003600`, `"exp":17000036e2`),
		"exp 1e300":                     change(`"exp":1700003600`, `"exp":1e300`),
		"exp negative":                  change(`"exp":1700003600`, `"exp":-1700003600`),
		"exp 0":                         change(`"exp":1700003600`, `"exp":0`),
		"exp -0":                        change(`"exp":1700003600`, `"exp":-0`),
		"exp with a leading zero":       change(`"exp":1700003600`, `"exp":01700003600`),
		"exp with a plus":               change(`"exp":1700003600`, `"exp":+1700003600`),
		"exp hexadecimal":               change(`"exp":1700003600`, `"exp":0x6553F100`),
		"exp the largest int64":         change(`"exp":1700003600`, `"exp":9223372036854775807`),
		"exp past int64":                change(`"exp":1700003600`, `"exp":9223372036854775808`),
		"exp past uint64":               change(`"exp":1700003600`, `"exp":18446744073709551616`),
		"exp in milliseconds":           change(`"exp":1700003600`, `"exp":1700003600000`),
		"exp NaN":                       change(`"exp":1700003600`, `"exp":NaN`),
		"exp before iat":                change(`"exp":1700003600`, `"exp":1699999999`),
		"exp equal to iat":              change(`"iat":1700000000`, `"iat":1700003600`),
		"exp equal to nbf":              change(`"nbf":1700000010`, `"nbf":1700003600`),
		"sub empty":                     change(`"sub":"alice-0001"`, `"sub":""`),
		"sub not UTF-8":                 change(`"sub":"alice-0001"`, "\"sub\":\"alice\xff\""),
		"sub with U+FFFD":               change(`"sub":"alice-0001"`, "\"sub\":\"alice\ufffd\""),
		"sub a lone surrogate":          change(`"sub":"alice-0001"`, `"sub":"alice\ud800"`),
		"sub with NUL":                  change(`"sub":"alice-0001"`, `"sub":"alice\u0000"`),
		"sub not ASCII":                 change(`"sub":"alice-0001"`, `"sub":"ålice"`),
		"sub with a space":              change(`"sub":"alice-0001"`, `"sub":"alice 0001"`),
		"sub too long":                  change(`"sub":"alice-0001"`, `"sub":"`+strings.Repeat("x", 257)+`"`),
		"a deep value":                  change(`"sub":"alice-0001"`, `"sub":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)),
	}
	c := testClaims()
	for _, claim := range c.texts() {
		member := `"` + claim.name + `":"` + claim.value + `"`
		forged[claim.name+" absent"] = change(member+",", "")
		forged[claim.name+" absent, another in its place"] = change(`"`+claim.name+`":`, `"`+claim.name+`x":`)
		forged[claim.name+" in upper case"] = change(`"`+claim.name+`":`, `"`+strings.ToUpper(claim.name)+`":`)
		forged[claim.name+" in upper case too, first"] = change(member, `"`+strings.ToUpper(claim.name)+`":"evil",`+member)
		forged[claim.name+" in upper case too, last"] = change(member, member+`,"`+strings.ToUpper(claim.name)+`":"evil"`)
		forged[claim.name+" twice, the same"] = change(member, member+","+member)
		forged[claim.name+" twice, evil first"] = change(member, `"`+claim.name+`":"evil",`+member)
		forged[claim.name+" twice, evil last"] = change(member, member+`,"`+claim.name+`":"evil"`)
		for _, value := range []string{`null`, `1`, `true`, `{}`, `[]`, `""`, `["` + claim.value + `"]`} {
			forged[claim.name+" "+value] = change(member, `"`+claim.name+`":`+value)
		}
	}
	for _, claim := range c.times() {
		member := fmt.Sprintf(`"%s":%d`, claim.name, claim.value)
		forged[claim.name+" absent"] = change(","+member, "")
		forged[claim.name+" in upper case"] = change(`"`+claim.name+`":`, `"`+strings.ToUpper(claim.name)+`":`)
		forged[claim.name+" in upper case too, last"] = change(member, member+`,"`+strings.ToUpper(claim.name)+`":1`)
		forged[claim.name+" twice, the same"] = change(member, member+","+member)
		forged[claim.name+" twice, evil first"] = change(member, `"`+claim.name+`":1,`+member)
		forged[claim.name+" twice, evil last"] = change(member, member+`,"`+claim.name+`":1`)
		for _, value := range []string{`null`, fmt.Sprintf(`"%d"`, claim.value), `true`, `{}`, fmt.Sprintf(`[%d]`, claim.value), `-1`, `0`, `1e300`} {
			forged[claim.name+" "+value] = change(member, `"`+claim.name+`":`+value)
		}
	}
	for name, payload := range forged {
		t.Run(name, func(t *testing.T) { requireRefused(t, signed(seedA, header(t, seedA), payload), ErrMalformed) })
	}
	genuine := signed(seedA, header(t, seedA), payload)
	require.Equal(t, minted(t, seedA, testClaims()), genuine, "the forger signs as Mint does")
}

func TestATokenIsValidFromNbfUntilJustBeforeExp(t *testing.T) {
	late := testClaims()
	late.IssuedAt, late.NotBefore = late.NotBefore, late.IssuedAt
	for name, row := range map[string]struct {
		claims Claims
		now    int64
		err    error
	}{
		"a second before nbf":           {testClaims(), notBefore - 1, ErrNotYetValid},
		"at nbf":                        {testClaims(), notBefore, nil},
		"a second before exp":           {testClaims(), expires - 1, nil},
		"at exp":                        {testClaims(), expires, ErrExpired},
		"a second after exp":            {testClaims(), expires + 1, ErrExpired},
		"at iat, before nbf":            {testClaims(), issuedAt, ErrNotYetValid},
		"at nbf, a second before iat":   {late, notBefore - 1, ErrNotYetValid},
		"at iat, after nbf":             {late, notBefore, nil},
		"at the epoch":                  {testClaims(), 0, ErrNotYetValid},
		"at the beginning of all times": {testClaims(), -1 << 63, ErrNotYetValid},
		"at the end of all times":       {testClaims(), 1<<63 - 1, ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Verify(minted(t, seedA, row.claims), []PublicKey{signingKey(t, seedA).Public()}, here, row.now)
			if row.err != nil {
				require.ErrorIs(t, err, row.err)
				require.Zero(t, c)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.claims, c)
		})
	}
}

func TestATokenForAnotherIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		want Want
		err  error
	}{
		"another issuer":            {Want{"denizen2", "app"}, ErrIssuer},
		"another audience":          {Want{"denizen", "app2"}, ErrAudience},
		"both":                      {Want{"denizen2", "app2"}, ErrIssuer},
		"the two changed over":      {Want{"app", "denizen"}, ErrIssuer},
		"an issuer in another case": {Want{"Denizen", "app"}, ErrIssuer},
		"an audience's beginning":   {Want{"denizen", "ap"}, ErrAudience},
		"no issuer":                 {Want{"", "app"}, ErrIssuer},
		"no audience":               {Want{"denizen", ""}, ErrAudience},
		"nothing":                   {Want{}, ErrIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			for _, now := range []int64{0, notBefore, expires} { // even an expired one gets no other error
				c, err := Verify(minted(t, seedA, testClaims()), []PublicKey{signingKey(t, seedA).Public()}, row.want, now)
				require.ErrorIs(t, err, row.err)
				require.Zero(t, c)
			}
		})
	}
}

func TestAnExpiredForgeryIsNotCalledExpired(t *testing.T) {
	text := minted(t, slices.Repeat([]byte{7}, 32), testClaims())
	_, err := Verify(text, []PublicKey{signingKey(t, seedA).Public()}, here, expires)
	require.ErrorIs(t, err, ErrNotOurs)
	_, payload, signature := split(t, text)
	_, err = Verify(signingKey(t, seedA).public.header+"."+payload+"."+signature, []PublicKey{signingKey(t, seedA).Public()}, here, expires)
	require.ErrorIs(t, err, ErrNotOurs)
}

func TestNoKeyVerifiesNothing(t *testing.T) {
	c, err := Verify(minted(t, seedA, testClaims()), nil, here, notBefore)
	require.ErrorIs(t, err, ErrNotOurs)
	require.Zero(t, c)
}

// The zero key's point is of order 4 and its header is empty.
func TestTheZeroPublicKeyVerifiesNothing(t *testing.T) {
	forged := encode(append([]byte{1}, make([]byte, 63)...))
	payload := b64(string(new(testClaims()).appendJSON(nil)))
	for _, head := range []string{"", b64("{}"), b64(`{"alg":"EdDSA","kid":"","typ":"JWT"}`)} {
		c, err := Verify(head+"."+payload+"."+forged, []PublicKey{{}}, here, notBefore)
		require.Error(t, err)
		require.Zero(t, c)
	}
}

func TestTheHeaderOfOneKeyDoesNotCarryTheSignatureOfAnother(t *testing.T) {
	a, b := minted(t, seedA, testClaims()), minted(t, seedB, testClaims())
	headA, payload, sigA := split(t, a)
	headB, _, sigB := split(t, b)
	requireRefused(t, headA+"."+payload+"."+sigB, ErrNotOurs)
	requireRefused(t, headB+"."+payload+"."+sigA, ErrNotOurs)
}

func TestTheClaimsOfOneTokenDoNotStandWithTheSignatureOfAnother(t *testing.T) {
	other := testClaims()
	other.Subject, other.UserID = "mallory-01", "mallory-01"
	head, _, sig := split(t, minted(t, seedA, testClaims()))
	_, payload, _ := split(t, minted(t, seedA, other))
	requireRefused(t, head+"."+payload+"."+sig, ErrNotOurs)
}

func TestEveryBeginningOfATokenIsRefused(t *testing.T) {
	text := minted(t, seedA, testClaims())
	for n := range len(text) {
		c, err := Verify(text[:n], []PublicKey{signingKey(t, seedA).Public()}, here, notBefore)
		require.Error(t, err, "%d bytes", n)
		require.Zero(t, c)
		_, err = Verify(text[n+1:], []PublicKey{signingKey(t, seedA).Public()}, here, notBefore)
		require.Error(t, err, "all but %d bytes", n+1)
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	text := minted(t, seedA, testClaims())
	keys := []PublicKey{signingKey(t, seedA).Public()}
	for i := range len(text) {
		for bit := range 8 {
			forged := []byte(text)
			forged[i] ^= 1 << bit
			c, err := Verify(string(forged), keys, here, notBefore)
			require.Error(t, err, "byte %d, bit %d", i, bit)
			require.Zero(t, c)
		}
	}
}

func TestEverySubstitutionByACharacterOfTheAlphabetIsRefused(t *testing.T) {
	t.Parallel()
	text := minted(t, seedA, testClaims())
	keys := []PublicKey{signingKey(t, seedA).Public()}
	tried := 0
	for i := range len(text) {
		for j := range len(base64url) {
			if text[i] == base64url[j] {
				continue
			}
			c, err := Verify(text[:i]+base64url[j:j+1]+text[i+1:], keys, here, notBefore)
			if err == nil || c != (Claims{}) {
				t.Fatalf("%q in place of %q at %d was not refused", base64url[j], text[i], i)
			}
			tried++
		}
	}
	require.Equal(t, (len(text)-2)*63+2*64, tried)
}

func TestEveryInsertedByteIsRefused(t *testing.T) {
	text := minted(t, seedA, testClaims())
	keys := []PublicKey{signingKey(t, seedA).Public()}
	for i := range len(text) + 1 {
		for _, extra := range []string{"\r", "\n", "\r\n", " ", "\t", "=", "\x00", "+", "/", "%", ".", "\ufeff", "\u200b", "\xff"} {
			c, err := Verify(text[:i]+extra+text[i:], keys, here, notBefore)
			require.Error(t, err, "%q at %d", extra, i)
			require.Zero(t, c)
		}
	}
}

func TestATokenHasOneSpelling(t *testing.T) {
	text := minted(t, seedA, testClaims())
	head, payload, sig := split(t, text)
	last := strings.IndexByte(base64url, sig[85])
	require.Zero(t, last%16, "the last of 86 characters carries 2 bits")
	for name, forged := range map[string]string{
		"padding":                   text + "==",
		"padding on every part":     head + "=." + payload + "=." + sig + "==",
		"trailing bits":             head + "." + payload + "." + sig[:85] + base64url[last+1:last+2],
		"all trailing bits":         head + "." + payload + "." + sig[:85] + base64url[last+15:last+16],
		"a line feed in the middle": head + "." + payload[:8] + "\n" + payload[8:] + "." + sig,
		"a line feed at the end":    text + "\n",
		"a space before":            " " + text,
		"a scheme before":           "Bearer " + text,
		"quotes":                    `"` + text + `"`,
		"percent-encoded dots":      head + "%2E" + payload + "%2E" + sig,
		"fullwidth dots":            head + "\uff0e" + payload + "\uff0e" + sig,
		"ideographic full stops":    head + "\u3002" + payload + "\u3002" + sig,
		"a NUL after":               text + "\x00",
		"a NUL in the middle":       head + ".\x00" + payload + "." + sig,
		"the other alphabet":        strings.NewReplacer("-", "+", "_", "/").Replace(head+"."+payload+".") + "+/" + sig[2:],
	} {
		t.Run(name, func(t *testing.T) { require.NotEqual(t, text, forged); requireRefused(t, forged, ErrMalformed) })
	}
}

func TestAPayloadOfAnotherSpellingIsRefusedEvenWhenSigned(t *testing.T) {
	c := testClaims()
	for len(c.appendJSON(nil))%3 != 1 {
		c.ID += "x"
	}
	head, payload, _ := split(t, minted(t, seedA, c))
	require.Equal(t, byte('Q'), payload[len(payload)-1], "the last character carries 2 bits")
	for _, spelling := range []string{payload[:len(payload)-1] + "R", payload[:len(payload)-1] + "f", payload[:len(payload)-1], payload + "AAA"} {
		text := head + "." + spelling
		text += "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(seedA), []byte(text)))
		requireRefused(t, text, ErrMalformed)
	}
}

func TestATokenHasThreeParts(t *testing.T) {
	head, payload, sig := split(t, minted(t, seedA, testClaims()))
	for _, text := range []string{
		"", head, head + "." + payload, head + "." + payload + "." + sig + "." + sig, head + "." + payload + "." + sig + ".",
		"." + head + "." + payload + "." + sig, head + "." + payload + "." + sig + "." + sig + "." + sig,
		".", "..", "...", "....", ".....", head + "..", head + ".." + sig, "." + payload + "." + sig, head + "." + payload + ".",
		head + "." + payload + ".." + sig,
	} {
		requireRefused(t, text, ErrMalformed)
	}
}

func TestASignatureOfAnotherLengthIsRefused(t *testing.T) {
	head, payload, sig := split(t, minted(t, seedA, testClaims()))
	raw := unb64(t, sig)
	for _, forged := range [][]byte{raw[:1], raw[:32], raw[:63], append(slices.Clone(raw), 0), append(slices.Clone(raw), raw...)} {
		requireRefused(t, head+"."+payload+"."+encode(forged), ErrNotOurs)
	}
}

// RFC 8032 section 5.1.7 wants S below the group order L, or each signature has a twin.
func TestASignatureWithLAddedToSIsRefused(t *testing.T) {
	order, ok := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	require.True(t, ok)
	head, payload, sig := split(t, minted(t, seedA, testClaims()))
	raw := unb64(t, sig)
	s := slices.Clone(raw[32:])
	slices.Reverse(s)
	sum := new(big.Int).SetBytes(s)
	for range 15 { // as often as it fits 32 bytes
		twin := sum.Add(sum, order).FillBytes(make([]byte, 32))
		slices.Reverse(twin)
		requireRefused(t, head+"."+payload+"."+encode(append(slices.Clone(raw[:32]), twin...)), ErrNotOurs)
	}
}

func TestASignatureOfPointsOfSmallOrderIsRefused(t *testing.T) {
	head, payload, sig := split(t, minted(t, seedA, testClaims()))
	raw := unb64(t, sig)
	for _, point := range smallOrderPoints(t) {
		requireRefused(t, head+"."+payload+"."+encode(append(slices.Clone(point), make([]byte, 32)...)), ErrNotOurs)
		requireRefused(t, head+"."+payload+"."+encode(append(slices.Clone(point), raw[32:]...)), ErrNotOurs)
	}
	requireRefused(t, head+"."+payload+"."+encode(make([]byte, 64)), ErrNotOurs)
	requireRefused(t, head+"."+payload+"."+encode(slices.Repeat([]byte{0xff}, 64)), ErrNotOurs)
}

func TestATextOverTheBoundIsRefusedWithoutAnAllocation(t *testing.T) {
	genuine := minted(t, seedA, testClaims())
	head, _, sig := split(t, genuine)
	keys := []PublicKey{signingKey(t, seedA).Public()}
	for name, text := range map[string]string{
		"one byte over":           head + "." + strings.Repeat("A", MaxText-len(head)-len(sig)-1) + "." + sig,
		"10 MB of one part":       strings.Repeat("A", 10<<20),
		"10 MB of dots":           strings.Repeat(".", 10<<20),
		"10 MB after the genuine": genuine + strings.Repeat("A", 10<<20),
		"10 MB of payload":        head + "." + strings.Repeat("A", 10<<20) + "." + sig,
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, text, ErrMalformed)
			require.Zero(t, testing.AllocsPerRun(10, func() { _, _ = Verify(text, keys, here, notBefore) }))
		})
	}
}

func TestAForgeryOfAnyLengthCostsBoundedMemory(t *testing.T) {
	head, _, sig := split(t, minted(t, seedA, testClaims()))
	keys := []PublicKey{signingKey(t, seedA).Public()}
	text := head + "." + strings.Repeat("A", MaxText-len(head)-len(sig)-2) + "." + sig
	require.Len(t, text, MaxText)
	requireRefused(t, text, ErrNotOurs)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 100
	for range runs {
		_, _ = Verify(text, keys, here, notBefore)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/runs, uint64(2*MaxText))
}
