package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMintWritesTheGoldenText(t *testing.T) {
	const golden = "eyJhbGciOiJFZERTQSIsImtpZCI6ImtQcktfcW14VldhWVZBOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JTNGsiLCJ0eXAiOiJKV1QifQ." +
		"eyJqdGkiOiJ0b2stMSIsImlzcyI6ImRlbml6ZW4iLCJzdWIiOiJhbGljZS0wMDAxIiwiYXVkIjoiYXBwIiwidXNlcklkIjoiYWxpY2UtMDAwMSIsImFwcGxpY2F0aW9uSW" +
		"QiOiJhcHAiLCJnZW4iOiJnMSIsImlhdCI6MTcwMDAwMDAwMCwibmJmIjoxNzAwMDAwMDEwLCJleHAiOjE3MDAwMDM2MDB9." +
		"N_VtVEXklAQdm5RrbSikGK7iDjWwWWR17aAQn7S1ZX2-uoc3wwMqPPbNt-K__igX6-mYq--t7keZhSnCR-EKBg"
	text := minted(t, unb64(t, rfcSeed), testClaims())
	require.Equal(t, golden, text)
	h, p, _ := split(t, text)
	require.Equal(t, `{"alg":"EdDSA","kid":"`+rfcThumbprint+`","typ":"JWT"}`, string(unb64(t, h)))
	require.Equal(t, `{"jti":"tok-1","iss":"denizen","sub":"alice-0001","aud":"app","userId":"alice-0001","applicationId":"app","gen":"g1",`+
		`"iat":1700000000,"nbf":1700000010,"exp":1700003600}`, string(unb64(t, p)))
}

func TestWhatIsMintedVerifiesAndSaysTheSame(t *testing.T) {
	c, err := Verify(minted(t, seedA, testClaims()), []PublicKey{signingKey(t, seedB).Public(), signingKey(t, seedA).Public()}, here, notBefore)
	require.NoError(t, err)
	require.Equal(t, testClaims(), c)
}

// texts and times name each claim and how to set it.
var (
	setText = map[string]func(*Claims, string){
		"jti":           func(c *Claims, s string) { c.ID = s },
		"iss":           func(c *Claims, s string) { c.Issuer = s },
		"sub":           func(c *Claims, s string) { c.Subject = s },
		"aud":           func(c *Claims, s string) { c.Audience = s },
		"userId":        func(c *Claims, s string) { c.UserID = s },
		"applicationId": func(c *Claims, s string) { c.ApplicationID = s },
		"gen":           func(c *Claims, s string) { c.Generation = s },
	}
	setTime = map[string]func(*Claims, int64){
		"iat": func(c *Claims, n int64) { c.IssuedAt = n },
		"nbf": func(c *Claims, n int64) { c.NotBefore = n },
		"exp": func(c *Claims, n int64) { c.Expires = n },
	}
)

func requireNotMinted(t *testing.T, c Claims, claim, rule string) {
	t.Helper()
	text, err := Mint(signingKey(t, seedA), c)
	var refused *ClaimError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, claim, refused.Claim)
	require.Contains(t, refused.Rule, rule)
	require.Equal(t, "token: claim "+refused.Claim+" "+refused.Rule, err.Error())
	require.Empty(t, text)
}

func TestATextClaimHasOneTo256Bytes(t *testing.T) {
	for claim, set := range setText {
		c := testClaims()
		set(&c, "")
		requireNotMinted(t, c, claim, "1 to 256")
		set(&c, strings.Repeat("x", 257))
		requireNotMinted(t, c, claim, "1 to 256")
		set(&c, strings.Repeat("x", 256))
		minted(t, seedA, c)
	}
}

func TestATextClaimHoldsNoCharacterThatTellsBase64urlFromBase64(t *testing.T) {
	const refused = "\"\\>?~\x7f "
	for claim, set := range setText {
		for b := range 256 {
			c := testClaims()
			set(&c, "secret"+string([]byte{byte(b)}))
			if b < ' ' || b > 0x7f || strings.ContainsRune(refused, rune(b)) {
				requireNotMinted(t, c, claim, "character")
				continue
			}
			_, payload, _ := split(t, minted(t, seedA, c))
			require.NotContains(t, payload, "-")
			require.NotContains(t, payload, "_")
		}
	}
}

func TestAPlainBase64DecoderReadsThePayload(t *testing.T) {
	for pad := range 3 { // each way the characters can fall on the three places of a group
		for b := byte('!'); b < '~'; b++ {
			if strings.ContainsRune(`"\>?`, rune(b)) {
				continue
			}
			c := testClaims()
			c.ID = strings.Repeat("x", pad+1) + strings.Repeat(string(b), 3)
			_, payload, _ := split(t, minted(t, seedA, c))
			raw, err := base64.RawStdEncoding.DecodeString(payload)
			require.NoError(t, err)
			var got Claims
			require.NoError(t, json.Unmarshal(raw, &got))
			require.Equal(t, c, got)
		}
	}
}

func TestATimeIsPositiveAndBeforeTheYear10000(t *testing.T) {
	for claim, set := range setTime {
		for _, n := range []int64{0, -1, -1 << 63, 253402300800, 1<<63 - 1} {
			c := testClaims()
			set(&c, n)
			requireNotMinted(t, c, claim, "positive")
		}
	}
	c := testClaims()
	c.Expires = 253402300799
	minted(t, seedA, c)
}

func TestATokenThatIsNeverValidIsNotMinted(t *testing.T) {
	for _, c := range []struct{ iat, nbf, exp int64 }{{9, 5, 9}, {9, 5, 8}, {5, 9, 9}, {5, 9, 8}, {9, 9, 9}} {
		claims := testClaims()
		claims.IssuedAt, claims.NotBefore, claims.Expires = c.iat, c.nbf, c.exp
		requireNotMinted(t, claims, "exp", "after iat and nbf")
	}
}

func TestTheZeroClaimsAreNotMinted(t *testing.T) {
	requireNotMinted(t, Claims{}, "jti", "1 to 256")
}

func TestARefusedClaimIsNotInTheError(t *testing.T) {
	c := testClaims()
	c.Subject = "hunter2?"
	_, err := Mint(signingKey(t, seedA), c)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestTheLongestTokenIsWithinTheBound(t *testing.T) {
	c := testClaims()
	for _, set := range setText {
		set(&c, strings.Repeat("x", 256))
	}
	c.IssuedAt, c.NotBefore, c.Expires = lastTime-2, lastTime-1, lastTime
	text := minted(t, seedA, c)
	require.Less(t, len(text), MaxText)
	got, err := Verify(text, []PublicKey{signingKey(t, seedA).Public()}, Want{c.Issuer, c.Audience}, lastTime-1)
	require.NoError(t, err)
	require.Equal(t, c, got)
}

func TestDigestIsTheSHA256OfTheText(t *testing.T) {
	for _, text := range []string{"", "abc", minted(t, seedA, testClaims()), strings.Repeat("x", 1<<20)} {
		require.Equal(t, sha256.Sum256([]byte(text)), Digest(text))
	}
}

func TestDigestAllocatesNothing(t *testing.T) {
	text := minted(t, seedA, testClaims())
	require.Zero(t, testing.AllocsPerRun(100, func() { Digest(text) }))
}
