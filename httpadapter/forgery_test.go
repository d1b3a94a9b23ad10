package httpadapter_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
	stored "github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// forgePlaces are where a request may carry a token.
var forgePlaces = []struct {
	name string
	at   func(signed string) edit
}{
	{"Bearer", bearer},
	{"header", credHeader},
	{"cookie", credCookie},
	{"our cookie", credOurs},
}

// forgeRoutes are asked with each token: to read and to write.
var forgeRoutes = [][3]string{
	{"GET", "/v1/users/me", ""},
	{"PUT", "/v1/users/me/screenname", `{"screenName":"Mallory"}`},
}

// everywhere requires a token to be refused with a code wherever it stands.
func (w *secWorld) everywhere(t testing.TB, name, signed, code string) {
	t.Helper()
	for _, place := range forgePlaces {
		if strings.Contains(place.name, "cookie") && strings.ContainsAny(signed, "; \t") {
			continue // there these are between cookies, and no part of one
		}
		for _, route := range forgeRoutes {
			a := w.do(route[0], route[1], route[2], place.at(signed))
			require.Equal(t, http.StatusUnauthorized, a.status, "%s in %s: %s", name, place.name, a.body)
			p := a.refused(t, http.StatusUnauthorized, code)
			require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
			if code == "claim_rejected" {
				require.Equal(t, map[string]any{"claimType": "exp", "claimRejectionType": "expired"}, p.Diagnostics)
			}
			require.Less(t, len(a.body), 1<<10)
		}
	}
}

// unrecorded answers the world without the recorder of exchanges, for what is long or often.
func (w *secWorld) unrecorded() *secWorld {
	plain := *w
	plain.api = &api{w.dir, httpadapter.New(w.dir, httpadapter.Options{})}
	return &plain
}

// works requires a token to be good wherever it stands.
func (w *secWorld) works(t testing.TB, signed string) {
	t.Helper()
	for _, place := range forgePlaces {
		w.do("GET", "/v1/users/me", "", place.at(signed)).secOK(t)
	}
}

func forge64(b string) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

// forgeSeed answers the private key that signs a directory's tokens: what only an attacker has who
// has everything else too. Even that makes no token, for the directory knows those it issued.
func forgeSeed(t testing.TB, s store.Store) ed25519.PrivateKey {
	t.Helper()
	records, err := s.Get(context.Background(), stored.SigningKeysKey)
	require.NoError(t, err)
	ring, err := stored.Decode(records[0].Key, records[0].Value)
	require.NoError(t, err)
	text := ring.(*stored.SigningKeys).Keys[0].Seed
	seed, err := base64.StdEncoding.DecodeString(text[len(text)-44:])
	require.NoError(t, err)
	return ed25519.NewKeyFromSeed(seed)
}

func forgeSign(key ed25519.PrivateKey, head, payload string) string {
	text := forge64(head) + "." + forge64(payload)
	return text + "." + forge64(string(ed25519.Sign(key, []byte(text))))
}

// forgeries are texts made of a live token of Alice's: none of them is one.
func (w *secWorld) forgeries(t testing.TB) map[string]string {
	t.Helper()
	live := w.aliceToken
	parts := strings.Split(live, ".")
	head, payload, signature := parts[0], parts[1], parts[2]
	decoded := func(part string) string {
		b, err := base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
		return string(b)
	}
	header, claims, proof := decoded(head), decoded(payload), decoded(signature)
	ours := forgeSeed(t, w.store)
	require.Equal(t, live, forgeSign(ours, header, claims), "the key is the one that signs")
	public := ours.Public().(ed25519.PublicKey)
	mallory := ed25519.NewKeyFromSeed(make([]byte, 32))
	jwk := func(k ed25519.PublicKey) string {
		return `{"kty":"OKP","crv":"Ed25519","x":"` + forge64(string(k)) + `"}`
	}
	var h struct{ Kid string }
	require.NoError(t, json.Unmarshal([]byte(header), &h))
	kid := h.Kid

	texts := map[string]string{}
	add := func(name, text string) {
		_, there := texts[name]
		require.False(t, there, name)
		texts[name] = text
	}

	// No signature, or another's.
	for _, none := range []string{"none", "None", "NONE", "nOnE", "", " none", "none\x00"} {
		for _, with := range []string{"", signature, forge64("x")} {
			add(fmt.Sprintf("alg %q with signature %.4q", none, with), forge64(`{"alg":"`+none+`","typ":"JWT"}`)+"."+payload+"."+with)
			add(fmt.Sprintf("alg %q and kid with signature %.4q", none, with), forge64(`{"alg":"`+none+`","kid":"`+kid+`","typ":"JWT"}`)+"."+payload+"."+with)
		}
		add(fmt.Sprintf("alg %q in two parts", none), forge64(`{"alg":"`+none+`"}`)+"."+payload)
	}
	add("empty signature", head+"."+payload+".")
	add("no signature", head+"."+payload)
	add("signature of zeros", head+"."+payload+"."+forge64(strings.Repeat("\x00", 64)))
	add("signature of 63 bytes", head+"."+payload+"."+forge64(proof[:63]))
	add("signature of 65 bytes", head+"."+payload+"."+forge64(proof+"\x00"))
	add("signature by another key", forgeSign(mallory, header, claims))
	add("halves of the signature swapped", head+"."+payload+"."+forge64(proof[32:]+proof[:32]))
	s := []byte(proof[32:])
	slices.Reverse(s)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	malleable := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(malleable)
	add("S and the order of the group", head+"."+payload+"."+forge64(proof[:32]+string(malleable)))

	// Another algorithm: with the directory's public key as the secret, and with its private one.
	spki, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	secrets := map[string]string{
		"raw": string(public), "base64": base64.StdEncoding.EncodeToString(public), "base64url": forge64(string(public)), "jwk": jwk(public),
		"der": string(spki), "pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), "empty": "", "kid": kid,
	}
	for name, secret := range secrets {
		for _, alg := range []string{"HS256", "EdDSA"} {
			text := forge64(`{"alg":"`+alg+`","kid":"`+kid+`","typ":"JWT"}`) + "." + payload
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(text))
			add("HMAC with the public key as "+name+" under "+alg, text+"."+forge64(string(mac.Sum(nil))))
		}
	}
	for name, head := range map[string]string{
		"alg of another name":     `{"alg":"Ed25519","kid":"` + kid + `","typ":"JWT"}`,
		"alg in small letters":    `{"alg":"eddsa","kid":"` + kid + `","typ":"JWT"}`,
		"alg RS256":               `{"alg":"RS256","kid":"` + kid + `","typ":"JWT"}`,
		"alg ES256":               `{"alg":"ES256","kid":"` + kid + `","typ":"JWT"}`,
		"alg as a list":           `{"alg":["EdDSA"],"kid":"` + kid + `","typ":"JWT"}`,
		"alg as a number":         `{"alg":1,"kid":"` + kid + `","typ":"JWT"}`,
		"alg null":                `{"alg":null,"kid":"` + kid + `","typ":"JWT"}`,
		"no alg":                  `{"kid":"` + kid + `","typ":"JWT"}`,
		"alg twice, none first":   `{"alg":"none","alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"alg twice, none last":    `{"alg":"EdDSA","alg":"none","kid":"` + kid + `","typ":"JWT"}`,
		"Alg":                     `{"Alg":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"alg escaped":             `{"al\u0067":"EdDSA","kid":"` + kid + `","typ":"JWT"}`,
		"jwk":                     `{"alg":"EdDSA","jwk":` + jwk(public) + `,"kid":"` + kid + `","typ":"JWT"}`,
		"jku":                     `{"alg":"EdDSA","jku":"http://127.0.0.1:1/keys","kid":"` + kid + `","typ":"JWT"}`,
		"x5u":                     `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","x5u":"http://127.0.0.1:1/cert"}`,
		"x5c":                     `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","x5c":["` + base64.StdEncoding.EncodeToString(spki) + `"]}`,
		"crit":                    `{"alg":"EdDSA","crit":["exp"],"kid":"` + kid + `","typ":"JWT"}`,
		"empty crit":              `{"alg":"EdDSA","crit":[],"kid":"` + kid + `","typ":"JWT"}`,
		"b64 false":               `{"alg":"EdDSA","b64":false,"crit":["b64"],"kid":"` + kid + `","typ":"JWT"}`,
		"zip":                     `{"alg":"EdDSA","kid":"` + kid + `","typ":"JWT","zip":"DEF"}`,
		"cty":                     `{"alg":"EdDSA","cty":"JWT","kid":"` + kid + `","typ":"JWT"}`,
		"enc":                     `{"alg":"dir","enc":"A256GCM","kid":"` + kid + `","typ":"JWT"}`,
		"typ of an access token":  `{"alg":"EdDSA","kid":"` + kid + `","typ":"at+jwt"}`,
		"typ in small letters":    `{"alg":"EdDSA","kid":"` + kid + `","typ":"jwt"}`,
		"no typ":                  `{"alg":"EdDSA","kid":"` + kid + `"}`,
		"no kid":                  `{"alg":"EdDSA","typ":"JWT"}`,
		"empty kid":               `{"alg":"EdDSA","kid":"","typ":"JWT"}`,
		"kid of nobody":           `{"alg":"EdDSA","kid":"` + strings.Repeat("A", 43) + `","typ":"JWT"}`,
		"kid, a path":             `{"alg":"EdDSA","kid":"../../../../dev/null","typ":"JWT"}`,
		"kid, SQL":                `{"alg":"EdDSA","kid":"' OR '1'='1","typ":"JWT"}`,
		"kid, NUL":                `{"alg":"EdDSA","kid":"` + kid + `\u0000","typ":"JWT"}`,
		"kid, a number":           `{"alg":"EdDSA","kid":0,"typ":"JWT"}`,
		"kid, a list":             `{"alg":"EdDSA","kid":["` + kid + `"],"typ":"JWT"}`,
		"kid of 1 MB":             `{"alg":"EdDSA","kid":"` + strings.Repeat("k", 1<<20) + `","typ":"JWT"}`,
		"header with a blank":     `{"alg":"EdDSA", "kid":"` + kid + `","typ":"JWT"}`,
		"header and a break":      header + "\n",
		"header in another order": `{"kid":"` + kid + `","alg":"EdDSA","typ":"JWT"}`,
		"header null":             `null`,
		"header a list":           `[` + header + `]`,
		"header with a BOM":       "\ufeff" + header,
		"header not JSON":         `{`,
		"header not UTF-8":        "{\"alg\":\"EdDSA\",\"kid\":\"\xff\"}",
	} {
		add(name+", signed by the directory's key", forgeSign(ours, head, claims))
		add(name+", signed by another", forgeSign(mallory, head, claims))
	}
	add("jwk of the signer", forgeSign(mallory, `{"alg":"EdDSA","jwk":`+jwk(mallory.Public().(ed25519.PublicKey))+`,"typ":"JWT"}`, claims))
	add("jwk of the signer, kid of the directory", forgeSign(mallory,
		`{"alg":"EdDSA","jwk":`+jwk(mallory.Public().(ed25519.PublicKey))+`,"kid":"`+kid+`","typ":"JWT"}`, claims))

	// Claims that no directory issues, with a true signature.
	changed := func(old, by string) string {
		changed := strings.Replace(claims, old, by, 1)
		require.NotEqual(t, claims, changed, old)
		return changed
	}
	var c map[string]any
	require.NoError(t, json.Unmarshal([]byte(claims), &c))
	exp := fmt.Sprintf(`"exp":%.0f`, c["exp"])
	for name, value := range map[string]string{
		"text": `"9999999999"`, "huge": "1e300", "negative": "-1", "zero": "0", "null": "null", "list": "[9999999999]", "fraction": "9999999999.5", "exponent": "1e10", "true": "true",
	} {
		add("exp "+name, forgeSign(ours, header, changed(exp, `"exp":`+value)))
	}
	add("no exp", forgeSign(ours, header, changed(","+exp, "")))
	add("exp twice", forgeSign(ours, header, changed(exp, exp+`,"exp":9999999999`)))
	add("Exp", forgeSign(ours, header, changed(exp, strings.ToUpper(exp))))
	for _, name := range []string{"jti", "iss", "sub", "aud", "userId", "applicationId", "gen"} {
		member := fmt.Sprintf(`"%s":"%s"`, name, c[name])
		for kind, by := range map[string]string{
			"null": `"` + name + `":null`, "empty": `"` + name + `":""`, "list": `"` + name + `":["` + fmt.Sprint(c[name]) + `"]`, "number": `"` + name + `":1`,
			"twice": member + "," + member, "escaped": strings.Replace(member, `"`+name[:1], fmt.Sprintf(`"\u%04x`, name[0]), 1), "capital": strings.Replace(member, name, strings.ToUpper(name), 1),
		} {
			add(name+" "+kind, forgeSign(ours, header, changed(member, by)))
		}
		add("no "+name, forgeSign(ours, header, changed(member, `"x":"y"`)))
	}
	add("claims and a blank", forgeSign(ours, header, claims+" "))
	add("claims in another order", forgeSign(ours, header, `{`+exp+`,`+strings.Replace(claims[1:], ","+exp, "", 1)))
	add("claims and an unknown one", forgeSign(ours, header, changed(exp, exp+`,"admin":true`)))
	add("claims null", forgeSign(ours, header, "null"))
	add("claims a list", forgeSign(ours, header, "["+claims+"]"))
	add("claims twice", forgeSign(ours, header, claims+claims))
	add("claims empty", forgeSign(ours, header, "{}"))
	add("claims nothing", head+".."+signature)
	add("another issuer", forgeSign(ours, header, changed(fmt.Sprintf(`"iss":"%s"`, c["iss"]), `"iss":"another"`)))
	add("another audience", forgeSign(ours, header, changed(fmt.Sprintf(`"aud":"%s"`, c["aud"]), `"aud":"another"`)))

	// Another user in claims that stand under the old signature.
	add("Bob in the claims", head+"."+forge64(strings.ReplaceAll(claims, string(secAlice.id), string(secBob.id)))+"."+signature)
	add(".system in the claims", head+"."+forge64(strings.ReplaceAll(claims, string(secAlice.id), ".system"))+"."+signature)
	bobs := strings.Split(w.bobToken, ".")
	add("claims of Bob's token", head+"."+bobs[1]+"."+signature)
	add("signature of Bob's token", head+"."+payload+"."+bobs[2])

	// Another directory, with the same application and the same user.
	foreign := denizentest.New(t, denizen.Options{ApplicationID: w.dir.ApplicationID()})
	_, err = foreign.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: secAlice.id, ScreenName: "Alice"})
	require.NoError(t, err)
	theirs, _ := secIssue(t, foreign, secAlice.id)
	their := strings.Split(theirs, ".")
	add("another directory's", theirs)
	add("header of another directory's", their[0]+"."+payload+"."+signature)
	add("claims of another directory's", head+"."+their[1]+"."+signature)
	add("signature of another directory's", head+"."+payload+"."+their[2])
	add("header and signature of another directory's", their[0]+"."+payload+"."+their[2])

	// One text spelled otherwise.
	add("padded with one", live+"=")
	add("padded with two", live+"==")
	add("padded within", head+"=."+payload+"=."+signature+"=")
	add("last bits of the signature", live[:len(live)-1]+forgeLastBits(live[len(live)-1]))
	if standard := strings.NewReplacer("-", "+", "_", "/").Replace(live); standard != live {
		add("in the standard alphabet", standard)
	}
	for name, blank := range map[string]string{"break": "\n", "return": "\r", "NUL": "\x00", "no-break space": "\u00a0", "DEL": "\x7f", "zero width": "\u200b", "comma": ","} {
		add("a "+name+" behind", live+blank)
		add("a "+name+" before", blank+live)
		add("a "+name+" inside", live[:40]+blank+live[40:])
		add("a "+name+" in the signature", live[:len(live)-5]+blank+live[len(live)-5:])
		add("a "+name+" at a dot", head+"."+blank+payload+"."+signature)
	}
	for name, blank := range map[string]string{"blank": " ", "tab": "\t", "semicolon": ";"} {
		add("a "+name+" behind", live+blank)
		add("a "+name+" before", blank+live)
		add("a "+name+" inside", live[:40]+blank+live[40:])
	}
	add("in small letters", strings.ToLower(live))
	add("in capitals", strings.ToUpper(live))
	add("quoted", `"`+live+`"`)
	add("fullwidth dots", strings.ReplaceAll(live, ".", "\uff0e"))
	add("percent-encoded dots", strings.ReplaceAll(live, ".", "%2E"))
	add("no dots", strings.ReplaceAll(live, ".", ""))
	for i, name := range []string{"nothing", "one part", "two parts", "three", "four", "five", "six"} {
		add(name+", empty", strings.Repeat(".", i))
	}
	add("four parts", live+"."+signature)
	add("four parts, an empty one", live+".")
	add("four parts, an empty one first", "."+live)
	add("five parts, as encrypted ones have", head+"."+payload+"."+signature+"."+head+"."+payload)
	add("twice", live+live)
	add("twice with a dot", live+"."+live)
	add("JSON serialization", `{"payload":"`+payload+`","protected":"`+head+`","signature":"`+signature+`"}`)
	add("reversed parts", signature+"."+payload+"."+head)
	add("9 KiB", live+strings.Repeat("A", 9<<10))
	add("9 KiB of header", strings.Repeat("A", 9<<10)+"."+payload+"."+signature)
	add("10 MB of text", strings.Repeat("A", 10<<20))
	add("10 MB of dots", strings.Repeat(".", 10<<20))
	add("10 MB after a token", live+strings.Repeat("A", 10<<20))
	// Other things that are secret here are no tokens.
	add("the token's id", string(w.tokenID))
	add("the user's id", string(secAlice.id))
	add("the access key and secret", appKey+":"+appSecret)
	add("the access secret", appSecret)
	add(".system", ".system")
	add("null", "null")
	add("undefined", "undefined")
	return texts
}

// forgeLastBits answers a character of the same first four bits: the last character of a signature
// of 64 bytes carries four bits that stand for nothing.
func forgeLastBits(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestAForgedTokenIsRefusedEverywhere(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	texts := w.forgeries(t)
	require.Greater(t, len(texts), 250)
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			if len(text) > 16<<10 {
				w.unrecorded().everywhere(t, name, text, "authorization_error")
				return
			}
			w.everywhere(t, name, text, "authorization_error")
		})
	}
	require.Equal(t, before, w.holds(t))
	w.works(t, w.aliceToken)
}

// True signatures of true claims: no text is a token that was not issued.
func TestATokenThatWasNeverIssuedIsRefusedThoughItsSignatureIsTrue(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	ours := forgeSeed(t, w.store)
	parts := strings.Split(w.aliceToken, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var c struct {
		Jti, Gen      string
		Exp, Nbf, Iat int64
	}
	require.NoError(t, json.Unmarshal(claims, &c))
	change := func(old, by string) string {
		changed := strings.ReplaceAll(string(claims), old, by)
		require.NotEqual(t, string(claims), changed)
		return forgeSign(ours, string(header), changed)
	}
	for name, f := range map[string]struct{ text, code string }{
		"another user's":       {change(string(secAlice.id), string(secBob.id)), "token_revoked"},
		"of nobody":            {change(string(secAlice.id), string(secAbsent.id)), "token_revoked"},
		"of .system":           {change(string(secAlice.id), ".system"), "token_revoked"},
		"of another case":      {change(string(secAlice.id), "Alice#of-the-world"), "token_revoked"},
		"another id":           {change(c.Jti, "another-token"), "token_revoked"},
		"another incarnation":  {change(c.Gen, "another-incarnation"), "token_revoked"},
		"a longer life":        {change(fmt.Sprintf(`"exp":%d`, c.Exp), fmt.Sprintf(`"exp":%d`, c.Exp+1)), "token_revoked"},
		"a life without end":   {change(fmt.Sprintf(`"exp":%d`, c.Exp), `"exp":253402300799`), "token_revoked"},
		"not yet valid":        {change(fmt.Sprintf(`"nbf":%d`, c.Nbf), fmt.Sprintf(`"nbf":%d`, c.Nbf+3600)), "token_revoked"},
		"issued in the future": {change(fmt.Sprintf(`"iat":%d`, c.Iat), fmt.Sprintf(`"iat":%d`, c.Iat+3600)), "token_revoked"},
		"past its end": {
			forgeSign(ours, string(header), strings.NewReplacer(
				fmt.Sprintf(`"exp":%d`, c.Exp), `"exp":1000000002`, fmt.Sprintf(`"nbf":%d`, c.Nbf), `"nbf":1000000001`, fmt.Sprintf(`"iat":%d`, c.Iat), `"iat":1000000001`,
			).Replace(string(claims))), "claim_rejected",
		},
		"an end before its start": {change(fmt.Sprintf(`"exp":%d`, c.Exp), fmt.Sprintf(`"exp":%d`, c.Iat)), "authorization_error"},
	} {
		t.Run(name, func(t *testing.T) { w.everywhere(t, name, f.text, f.code) })
	}
	w.works(t, w.aliceToken)
}

func TestATokenCutAnywhereIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{}).unrecorded()
	for i := range w.aliceToken {
		w.everywhere(t, fmt.Sprint("the first ", i), w.aliceToken[:i], "authorization_error")
		if i > 0 {
			w.everywhere(t, fmt.Sprint("without the first ", i), w.aliceToken[i:], "authorization_error")
		}
	}
	w.works(t, w.aliceToken)
}

func TestATokenWithAnyBitFlippedIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{}).unrecorded()
	for i := range w.aliceToken {
		for bit := range 8 {
			changed := []byte(w.aliceToken)
			changed[i] ^= 1 << bit
			w.do("GET", "/v1/users/me", "", forgePlaces[(i+bit)%2].at(string(changed))).refused(t, http.StatusUnauthorized, "authorization_error")
		}
	}
	w.works(t, w.aliceToken)
}

func TestATokenWithAnyCharacterReplacedIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{}).unrecorded()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	for i := range w.aliceToken {
		for j, c := range []byte(alphabet) {
			if w.aliceToken[i] == c || i%3 != j%3 { // a third of all: each character, each place
				continue
			}
			changed := []byte(w.aliceToken)
			changed[i] = c
			a := w.do("GET", "/v1/users/me", "", forgePlaces[j%len(forgePlaces)].at(string(changed)))
			require.Equal(t, http.StatusUnauthorized, a.status)
		}
	}
	w.works(t, w.aliceToken)
}

func TestARevokedTokenIsRefusedEverywhereAndNoOther(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	signed, id := secIssue(t, w.dir, secAlice.id)
	w.works(t, signed)
	a := w.do("DELETE", "/v1/users/me/tokens/"+string(id), "", bearer(w.aliceToken))
	require.Equal(t, http.StatusNoContent, a.status, a.body)
	w.everywhere(t, "revoked", signed, "token_revoked")
	w.everywhere(t, "revoked and changed", signed+"A", "authorization_error")
	w.works(t, w.aliceToken)
}

func TestATokenThatRevokedItselfIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	require.Equal(t, http.StatusNoContent, w.do("DELETE", "/v1/users/me/tokens/"+string(w.tokenID), "", bearer(w.aliceToken)).status)
	w.everywhere(t, "revoked", w.aliceToken, "token_revoked")
	w.works(t, w.bobToken)
}

func TestRevokingATokenEndsAllItsTexts(t *testing.T) {
	w := newSecWorld(t, denizen.Options{TokenTTL: time.Hour}, httpadapter.Options{})
	texts := []string{w.aliceToken}
	for i := range 3 {
		a := w.do("PATCH", "/v1/users/me/tokens/"+string(w.tokenID), fmt.Sprintf(`{"ttl":%d}`, 7200+i*3600), bearer(texts[i]))
		texts = append(texts, decode[struct{ UserToken struct{ SignedToken string } }](t, a, http.StatusOK).UserToken.SignedToken)
	}
	for _, text := range texts {
		w.works(t, text)
	}
	require.Equal(t, http.StatusNoContent, w.do("DELETE", "/v1/users/me/tokens/"+string(w.tokenID), "", bearer(texts[1])).status)
	for _, text := range texts {
		w.everywhere(t, "a text of a revoked token", text, "token_revoked")
	}
}

func TestABlockedUsersTokensAreRefusedForGood(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	w.works(t, w.aliceToken)
	for _, blocked := range []string{"true", "false"} {
		a := w.do("PATCH", "/v1/users/alice%23of-the-world", `{"blocked":`+blocked+`}`, app)
		require.Equal(t, http.StatusNoContent, a.status, a.body)
		w.everywhere(t, "blocked "+blocked, w.aliceToken, "token_revoked")
	}
	signed, _ := secIssue(t, w.dir, secAlice.id)
	w.works(t, signed)
	w.works(t, w.bobToken)
}

// Whoever takes a deleted user's id gets nothing of what the first one's tokens open.
func TestADeletedUsersTokensAreRefusedAlsoOnceItsIDIsAnothers(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	require.Equal(t, http.StatusNoContent, w.do("DELETE", "/v1/users/alice%23of-the-world", "", app).status)
	w.everywhere(t, "deleted", w.aliceToken, "token_revoked")
	a := w.do("POST", "/v1/users", `{"userId":"alice#of-the-world","screenName":{"screenName":"Another Alice"}}`, app)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	w.everywhere(t, "another user's now", w.aliceToken, "token_revoked")
	signed, _ := secIssue(t, w.dir, secAlice.id)
	w.works(t, signed)
	w.everywhere(t, "another user's now", w.aliceToken, "token_revoked")
}

func TestAnExpiredTokenIsRefusedFromTheSecondOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &secWorld{api: newAPI(t, denizen.Options{TokenTTL: time.Hour}, httpadapter.Options{})}
		_, err := w.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: secAlice.id, ScreenName: "Alice"})
		require.NoError(t, err)
		signed, _ := secIssue(t, w.dir, secAlice.id)
		for _, cached := range []bool{true, false} { // with the token just used, and not
			if cached {
				time.Sleep(time.Hour - time.Millisecond)
				w.works(t, signed)
				time.Sleep(time.Millisecond)
			} else {
				time.Sleep(time.Hour)
			}
			w.everywhere(t, "at its end", signed, "claim_rejected")
			time.Sleep(24 * time.Hour) // what expired is swept away meanwhile
			w.everywhere(t, "a day later", signed, "claim_rejected")
			signed, _ = secIssue(t, w.dir, secAlice.id)
		}
		w.works(t, signed)
	})
}

// Nobody is logged out by a new key or by a dropped one, and a dropped key that leaked makes no token.
func TestKeysComeAndGoWithoutLoggingAnybodyOut(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	leaked := forgeSeed(t, w.store)
	revoked, id := secIssue(t, w.dir, secAlice.id)
	require.NoError(t, w.dir.RevokeTokens(t.Context(), denizen.System(), secAlice.id, id))
	parts := strings.Split(w.aliceToken, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	forged := forgeSign(leaked, string(header), strings.ReplaceAll(string(claims), string(secAlice.id), string(secBob.id)))
	w.everywhere(t, "forged", forged, "token_revoked")

	require.NoError(t, w.dir.RotateSigningKey(t.Context(), denizen.System(), 0))
	w.works(t, w.aliceToken)
	w.everywhere(t, "revoked, after rotation", revoked, "token_revoked")
	w.everywhere(t, "forged, after rotation", forged, "token_revoked")
	signed, _ := secIssue(t, w.dir, secAlice.id)
	require.NotEqual(t, parts[0], strings.Split(signed, ".")[0])
	w.works(t, signed)
	w.everywhere(t, "header of the other key", strings.Split(signed, ".")[0]+"."+parts[1]+"."+parts[2], "authorization_error")

	keys, err := w.dir.PublicKeys(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.dir.DropSigningKey(t.Context(), denizen.System(), keys.IDs()[0]))
	w.works(t, w.aliceToken)
	w.works(t, signed)
	w.everywhere(t, "revoked, after the drop", revoked, "authorization_error")
	w.everywhere(t, "forged, after the drop", forged, "authorization_error")
}

func TestARestartNeitherRevivesNorEndsAToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people.db")
	var w *secWorld
	open := func() func() {
		s, err := bolt.Open(context.Background(), path, bolt.Options{})
		require.NoError(t, err)
		dir, err := denizen.New(context.Background(), s, denizen.Options{ApplicationID: "restarted"})
		require.NoError(t, err)
		w = &secWorld{api: &api{dir, recorded(httpadapter.New(dir, httpadapter.Options{}), "")}, store: s}
		return func() { require.NoError(t, dir.Close()); require.NoError(t, s.Close()) }
	}
	closeIt := open()
	for _, s := range []secSubject{secAlice, secBob, secBlocked} {
		_, err := w.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: s.id, ScreenName: "Somebody"})
		require.NoError(t, err)
	}
	live, _ := secIssue(t, w.dir, secAlice.id)
	revoked, id := secIssue(t, w.dir, secAlice.id)
	deleted, _ := secIssue(t, w.dir, secBob.id)
	blocked, _ := secIssue(t, w.dir, secBlocked.id)
	for _, signed := range []string{live, revoked, deleted, blocked} {
		w.works(t, signed)
	}
	require.NoError(t, w.dir.RevokeTokens(t.Context(), denizen.System(), secAlice.id, id))
	require.NoError(t, w.dir.DeleteUser(t.Context(), denizen.System(), secBob.id))
	_, err := w.dir.BlockUser(t.Context(), denizen.System(), secBlocked.id, denizen.Block{})
	require.NoError(t, err)
	for range 2 {
		closeIt()
		closeIt = open()
		w.works(t, live)
		w.everywhere(t, "revoked", revoked, "token_revoked")
		w.everywhere(t, "deleted", deleted, "token_revoked")
		w.everywhere(t, "blocked", blocked, "token_revoked")
		w.everywhere(t, "changed", live+"A", "authorization_error")
	}
	closeIt()
}
