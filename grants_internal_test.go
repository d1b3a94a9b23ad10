package denizen

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each part of the table holds 1,024 texts: were they spread over a few parts only, a few thousand
// tokens would push each other out.
func TestTokensAreRememberedAllOverTheTable(t *testing.T) {
	const texts = 64 * 50
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	g := newGrants(nil)
	for i := range uint64(texts) {
		signature := ed25519.Sign(private, binary.BigEndian.AppendUint64(nil, i))
		text := base64.RawURLEncoding.EncodeToString(signature)
		g.remember(text, &grant{text: new(memo), user: new(memo)})
	}
	for i := range g.shards {
		require.Less(t, len(g.shards[i].byText), 2*texts/64, "part %d", i)
	}
}
