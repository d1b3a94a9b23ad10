package denizen

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store/memory"
)

// Each shard holds its share of the texts. If they were spread over a few shards only, a few
// thousand tokens would push each other out.
func TestTokenCache_TokensAreRememberedAllOverTheTable(t *testing.T) {
	const texts = 64 * 50
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	g := newTokenCache(nil, usualCacheBytes)
	for i := range uint64(texts) {
		signature := ed25519.Sign(private, binary.BigEndian.AppendUint64(nil, i))
		text := base64.RawURLEncoding.EncodeToString(signature)
		g.remember(text, &cachedToken{text: new(txn.Freshness), user: new(txn.Freshness)})
	}
	for i := range g.shards {
		require.Less(t, len(g.shards[i].byText), 2*texts/64, "part %d", i)
	}
}

func TestTokenCache_RememberedTokensNeverWeighMoreThanTheyMay(t *testing.T) {
	const bytes = 1 << 20
	g := newTokenCache(nil, bytes)
	chance := rand.New(rand.NewPCG(1, 2))
	db := txn.New(memory.New(), txn.MinCacheBytes)
	write := func() {
		_, err := db.Write(t.Context(), txn.Queue{}, func(tx *txn.Tx) error {
			tx.Put(record.UserKey("alice-01"), &record.User{ID: "alice-01"})
			return nil
		})
		require.NoError(t, err)
	}
	for range 20_000 {
		text := strings.Repeat("t", 400+chance.IntN(200)) + strconv.Itoa(1_000_000+chance.IntN(5_000))
		a := &cachedToken{text: new(txn.Freshness), user: new(txn.Freshness)}
		stale := chance.IntN(4) == 0
		if stale {
			write()
			a.user = db.PeekUser("alice-01").Freshness()
		}
		g.remember(text, a)
		require.Same(t, a, g.get(text, 0))
		if stale {
			write()
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

// A remembered token that does not count any more counts never again.
func TestTokenCache_ATokenCountsForAsLongAsBothOfItsRecords(t *testing.T) {
	for name, a := range map[string]*cachedToken{
		"text": {text: nil, user: new(txn.Freshness)},
		"user": {text: new(txn.Freshness), user: nil},
	} {
		g := newTokenCache(nil, usualCacheBytes)
		require.False(t, g.good(a), name)
		g.remember("text-of-token", a)
		require.Nil(t, g.get("text-of-token", 0), name)
	}
}

// Users share epochs by a hash. It is keyed anew in each directory, so that nobody can find
// out which users make a stranger's tokens be asked for again.
func TestTokenCache_NobodyKnowsWhoSharesAnEpoch(t *testing.T) {
	places := func() (places [64]int) {
		f := newRevocationFollower(time.Second)
		for i := range places {
			of := f.of(UserID(rune('a' + i)))
			require.Same(t, of, f.of(UserID(rune('a'+i))), "the same each time")
			for j := range f.ended {
				if of == &f.ended[j] {
					places[i] = j
				}
			}
		}
		return places
	}
	require.NotEqual(t, places(), places())
}
