package denizen_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

func keyCount(t testing.TB, s store.Store) int {
	t.Helper()
	return len(invariant.Of(t, s).Records)
}

func TestWhatExpiresLeavesTheStoreByItselfInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		s := &batches{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		const users = 60
		for i := range users {
			newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)))
		}
		start := keyCount(t, s)
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		most := 0
		for range 30 { // days
			for range 25 {
				time.Sleep(time.Duration(r.IntN(100)) * time.Minute)
				user := denizen.UserID(fmt.Sprintf("user-%04d", r.IntN(users)))
				issued, err := d.IssueToken(t.Context(), sys, user, denizen.TokenOptions{TTL: time.Duration(1+r.IntN(20*24)) * time.Hour})
				if err != nil {
					require.ErrorIs(t, err, denizen.ErrLimited)
					continue
				}
				require.NoError(t, authenticated(t, d, issued.Signed)) // a last use
				if r.IntN(3) == 0 {
					_, err := d.ExtendToken(t.Context(), sys, user, issued.ID, time.Duration(21+r.IntN(9))*24*time.Hour)
					require.NoError(t, err)
				}
				require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA))))
				made, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "U", Idempotency: denizen.Idempotency{Key: string(issued.ID), Digest: "d"}})
				require.NoError(t, err)
				require.NoError(t, d.DeleteUser(t.Context(), sys, made.ID))
			}
			most = max(most, keyCount(t, s))
		}
		require.Greater(t, most, start+500)
		time.Sleep(31 * 24 * time.Hour)
		synctest.Wait()
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, "the-key-1"))
		require.Equal(t, start+1, keyCount(t, s), "but for that the key was deleted")
		require.LessOrEqual(t, s.keys, 1000)
		invariant.Check(t, s)
	})
}

func TestEvenThoseWithTheMostTextsAreSweptInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &batches{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, "alice-user")
		start := keyCount(t, s)
		r := rand.New(rand.NewPCG(3, 4))
		for i := range 3 {
			tokens := &record.Tokens{User: fmt.Sprintf("user-%04d", i), Incarnation: "one"}
			batch := store.Batch{}
			for range denizen.MaxTokens {
				token := record.Token{ID: fmt.Sprint(r.Uint64())}
				for range denizen.MaxTokenTexts {
					digest := [32]byte{}
					for i := range digest {
						digest[i] = byte(r.Uint32())
					}
					text := record.Text{Digest: hex.EncodeToString(digest[:]), Expires: time.Now().Add(time.Hour).UnixMilli()}
					token.Texts = append(token.Texts, text)
					batch.Put = append(batch.Put, store.Record{Key: record.TokenTextKey(digest), Value: record.Encode(&record.TokenText{
						Digest: text.Digest, User: tokens.User, Incarnation: tokens.Incarnation, Token: token.ID, Expires: text.Expires,
					})})
				}
				tokens.Tokens = append(tokens.Tokens, token)
			}
			batch.Put = append(batch.Put, store.Record{Key: record.TokensKey(tokens.User), Value: record.Encode(tokens)})
			_, err := s.Commit(t.Context(), batch)
			require.NoError(t, err)
		}
		require.Equal(t, start+3*801, keyCount(t, s))
		newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Second})
		s.start()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, start, keyCount(t, s))
		require.LessOrEqual(t, s.keys, 1000)
		require.GreaterOrEqual(t, s.keys, 802)
	})
}

func TestASweepLeavesWhatLives(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		short, long := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour}), newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 72 * time.Hour})
		require.NoError(t, authenticated(t, d, long.Signed))
		_, err := d.ExtendToken(t.Context(), sys, "alice-user", short.ID, 48*time.Hour)
		require.NoError(t, err)
		used := lastUseOfToken(t, d, long.ID)
		time.Sleep(24 * time.Hour)
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, short.Signed))
		require.Equal(t, used, lastUseOfToken(t, d, long.ID))
		require.NoError(t, authenticated(t, d, long.Signed))
		tokens, err := d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Len(t, tokens, 2)
	})
}

func lastUseOfToken(t testing.TB, d *denizen.Directory, id denizen.TokenID) time.Time {
	t.Helper()
	tokens, err := d.Tokens(context.Background(), sys, "alice-user")
	require.NoError(t, err)
	for _, token := range tokens {
		if token.ID == id {
			return token.LastUsedAt
		}
	}
	require.Fail(t, "the token is not listed")
	return time.Time{}
}

func TestADirectoryThatNeverLivesForAnHourSweepsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		counts := []int{}
		for i := range 10 {
			d, err := denizen.New(t.Context(), s, denizen.Options{})
			require.NoError(t, err)
			if i == 0 {
				for j := range 10 {
					newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", j)))
				}
				require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
			}
			newToken(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)), denizen.TokenOptions{TTL: time.Second})
			require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA))))
			time.Sleep(5 * time.Minute)
			require.NoError(t, d.Close())
			counts = append(counts, keyCount(t, s))
		}
		require.Equal(t, counts[1], counts[9], "%v", counts)
	})
}

// rival writes to a user's tokens between the sweep's reading and its writing.
type rival struct {
	*memory.Store
	user    denizen.UserID
	enabled atomic.Bool
	met     int
}

func (s *rival) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.enabled.Load() && b.Emit == nil {
		for _, c := range b.If {
			if c.Key == record.TokensKey(string(s.user)) {
				s.met++
				rs, err := s.Get(ctx, c.Key)
				if err != nil || rs[0].Version == 0 {
					break
				}
				if _, err := s.Store.Commit(ctx, store.Batch{Put: []store.Record{{Key: c.Key, Value: rs[0].Value}}}); err != nil {
					return 0, err
				}
			}
		}
	}
	return s.Store.Commit(ctx, b)
}

func TestAUserWhoIsAlwaysBeingWrittenToDoesNotHoldUpTheSweepOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &rival{Store: memory.New(), user: "user-0003"}
		d := newOver(t, shared{s}, denizen.Options{})
		for i := range 10 {
			user := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, user)
			newToken(t, d, user, denizen.TokenOptions{TTL: time.Second})
		}
		s.enabled.Store(true)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		require.NotZero(t, s.met)
		for i := range 10 {
			user := fmt.Sprintf("user-%04d", i)
			rs, err := s.Get(t.Context(), record.TokensKey(user))
			require.NoError(t, err)
			require.Equal(t, user == string(s.user), rs[0].Version != 0, user)
		}
		s.enabled.Store(false)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		rs, err := s.Get(t.Context(), record.TokensKey("user-0003"))
		require.NoError(t, err)
		require.Zero(t, rs[0].Version)
	})
}

func TestLastUsesAreStoredInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &batches{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		const users = 1100
		for i := range users {
			user := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, user)
			require.NoError(t, authenticated(t, d, newToken(t, d, user, denizen.TokenOptions{}).Signed))
		}
		s.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2, s.commits)
		require.LessOrEqual(t, s.keys, 1000)
		rs, err := s.List(t.Context(), store.Range{Under: record.LastUsesKey("user-"), Limit: store.MaxPage, KeysOnly: true})
		require.NoError(t, err)
		require.Len(t, rs, users)
	})
}

// slow is a store whose commits take a while.
type slow struct {
	store.Store
	takes    func(store.Batch) time.Duration
	underWay atomic.Int64
}

func (s *slow) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.underWay.Add(1)
	defer s.underWay.Add(-1)
	time.Sleep(s.takes(b))
	return s.Store.Commit(ctx, b)
}

func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memory.New(), takes: func(b store.Batch) time.Duration {
			if b.Emit == nil {
				return 4 * time.Second // what is under way, and once more in Close
			}
			return 0
		}}
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, "alice-user")
		require.NoError(t, authenticated(t, d, newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 1, s.underWay.Load())
		require.NoError(t, d.Close())
		require.Zero(t, s.underWay.Load())
	})
}

// A last use that is noted when its token is gone leaves nothing behind.
func TestTheLastUseOfATokenThatEndedIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, "alice-user")
		newUser(t, d, "bob-user")
		a, b := newToken(t, d, "alice-user", denizen.TokenOptions{}), newToken(t, d, "bob-user", denizen.TokenOptions{})
		require.NoError(t, authenticated(t, d, a.Signed))
		require.NoError(t, authenticated(t, d, b.Signed))
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", a.ID))
		require.NoError(t, d.DeleteUser(t.Context(), sys, "bob-user"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, r := range invariant.Of(t, s).Records {
			require.False(t, r.Key.HasPrefix(record.LastUsesKey("")), "%s", r.Value)
		}
	})
}
