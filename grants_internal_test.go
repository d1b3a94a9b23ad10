package denizen

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each part of the table holds its share of the texts: were they spread over a few parts only, a few thousand
// tokens would push each other out.
func TestTokensAreRememberedAllOverTheTable(t *testing.T) {
	const texts = 64 * 50
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	g := newGrants(nil, usualCacheBytes)
	for i := range uint64(texts) {
		signature := ed25519.Sign(private, binary.BigEndian.AppendUint64(nil, i))
		text := base64.RawURLEncoding.EncodeToString(signature)
		g.remember(text, &grant{text: new(life), user: new(life)})
	}
	for i := range g.shards {
		require.Less(t, len(g.shards[i].byText), 2*texts/64, "part %d", i)
	}
}

func TestRememberedTokensNeverWeighMoreThanTheyMay(t *testing.T) {
	const bytes = 1 << 20
	g := newGrants(nil, bytes)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		text := strings.Repeat("t", 400+chance.IntN(200)) + strconv.Itoa(1_000_000+chance.IntN(5_000))
		a := &grant{text: new(life), user: new(life)}
		g.remember(text, a)
		require.Same(t, a, g.get(text, 0))
		if chance.IntN(4) == 0 {
			a.user.ended.Store(true)
			require.Nil(t, g.get(text, 0))
		}
	}
	total := int64(0)
	for i := range g.shards {
		s, weight := &g.shards[i], int64(0)
		for text := range s.byText {
			weight += weighText(text)
		}
		require.Equal(t, weight, s.weight)
		require.LessOrEqual(t, weight, g.bound)
		total += weight
	}
	require.LessOrEqual(t, total, int64(bytes))
	require.Greater(t, total, int64(bytes/4))
}
