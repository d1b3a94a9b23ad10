package denizen_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func keyCount(t testing.TB, s store.Store) int {
	t.Helper()
	return len(invariant.Of(t, s).Records)
}

func TestBackground_WhatExpiresLeavesTheStoreByItselfInBoundedBatches(t *testing.T) {
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
		require.Equal(t, start+1+users, keyCount(t, s), "but for that the key was deleted, and when each user was active")
		require.LessOrEqual(t, s.keys, 1000)
		invariant.Check(t, s)
	})
}

func TestBackground_EvenThoseWithTheMostTextsAreSweptInBoundedBatches(t *testing.T) {
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

func TestBackground_ASweepLeavesWhatLives(t *testing.T) {
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

func TestBackground_ADirectoryThatNeverLivesForAnHourSweepsToo(t *testing.T) {
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

func TestBackground_AUserWhoIsAlwaysBeingWrittenToDoesNotHoldUpTheSweepOfOthers(t *testing.T) {
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

func TestBackground_TextsThatNothingListsLeaveInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &batches{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		r := rand.New(rand.NewPCG(5, 6))
		for i := range 3 {
			var b store.Batch
			for range 900 {
				digest := [32]byte{}
				for i := range digest {
					digest[i] = byte(r.Uint32())
				}
				expires := time.Now().Add(time.Hour)
				if i == 2 {
					expires = time.Now().Add(1000 * time.Hour)
				}
				b.Put = append(b.Put, store.Record{Key: record.TokenTextKey(digest), Value: record.Encode(&record.TokenText{
					Digest: hex.EncodeToString(digest[:]), User: "alice-user", Incarnation: "1", Token: "t", Expires: expires.UnixMilli(),
				})})
			}
			_, err := s.Store.Commit(t.Context(), b)
			require.NoError(t, err)
		}
		newUser(t, d, "alice-user") // starts the sweep
		s.start()
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		texts, err := s.List(t.Context(), store.Range{Under: record.TokenTexts, Limit: store.MaxPage, KeysOnly: true})
		require.NoError(t, err)
		require.Len(t, texts, 900, "those that live stay")
		require.LessOrEqual(t, s.keys, 1000)
	})
}

// clogged is a store in which commits of one kind hang until their context ends.
type clogged struct {
	store.Store
	clogs func(store.Batch) bool
	ill   atomic.Pointer[error] // what Health says
}

func (s *clogged) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.clogs(b) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.Store.Commit(ctx, b)
}

func (s *clogged) Health() error {
	if err := s.ill.Load(); err != nil {
		return *err
	}
	return nil
}

// checked is a sole store that forwards Health.
type checked struct {
	owned
	store.Checker
}

func TestBackground_NoDutyHoldsUpAnother(t *testing.T) {
	puts := func(under store.Key) func(store.Batch) bool {
		return func(b store.Batch) bool {
			return b.Emit == nil && len(b.Put) > 0 && b.Put[0].Key.HasPrefix(under)
		}
	}
	drops := func(under store.Key) func(store.Batch) bool {
		return func(b store.Batch) bool {
			return b.Emit == nil && len(b.Drop) > 0 && b.Drop[0].HasPrefix(under)
		}
	}
	for name, clogs := range map[string]func(store.Batch) bool{
		"heartbeats":         puts(record.DevicesKey("")),
		"last uses":          puts(record.LastUsesKey("")),
		"trimming the feed":  func(b store.Batch) bool { return b.Trim > 0 },
		"nonces":             drops(record.Nonces),
		"expired tokens":     drops(record.TokenTexts),
		"nothing is clogged": func(store.Batch) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				inner := memory.New()
				s := &clogged{Store: inner, clogs: clogs}
				var log bytes.Buffer
				d := newOver(t, &checked{owned{s, inner}, s}, denizen.Options{FeedMaxEvents: 50, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				newUser(t, d, "alice-user")
				require.NoError(t, d.PutAccessKey(ctx, sys, "the-key-1", secretA))
				token := newToken(t, d, "alice-user", denizen.TokenOptions{})
				newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Minute})
				chain := denizen.Online(time.Hour).Then(denizen.Offline())
				require.NoError(t, d.SetPresence(ctx, sys, "alice-user", chain))
				for range 300 { // a hundred minutes
					_, err := d.SetScreenName(ctx, sys, "alice-user", time.Now().String())
					require.NoError(t, err)
					require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA))))
					require.NoError(t, authenticated(t, d, token.Signed))
					require.NoError(t, d.SetPresence(ctx, sys, "alice-user", chain))
					time.Sleep(20 * time.Second)
				}
				synctest.Wait()
				now := time.Now()
				rs, err := inner.Get(ctx, record.DevicesKey("alice-user"), record.LastUsesKey("alice-user"))
				require.NoError(t, err)
				if name != "heartbeats" {
					value, err := record.Decode(rs[0].Key, rs[0].Value)
					require.NoError(t, err)
					require.Equal(t, now.Add(-20*time.Second).UnixMilli(), value.(*record.Devices).Devices[0].Origin())
				}
				if name != "last uses" {
					value, err := record.Decode(rs[1].Key, rs[1].Value)
					require.NoError(t, err)
					require.Less(t, now.UnixMilli()-value.(*record.LastUses).Uses[0].At, (2 * time.Minute).Milliseconds())
				}
				feed, err := inner.Changes(ctx, store.End, 1)
				require.NoError(t, err)
				if name != "trimming the feed" {
					require.Less(t, feed.Head-feed.First, store.Seq(1000))
				}
				nonces, err := inner.List(ctx, store.Range{Under: record.Nonces, Limit: 1000, KeysOnly: true})
				require.NoError(t, err)
				if name != "nonces" {
					require.Less(t, len(nonces), 20)
				}
				err = d.Health(ctx, sys)
				if name == "nothing is clogged" {
					require.NoError(t, err)
					require.Empty(t, log.String())
					return
				}
				if name == "expired tokens" {
					time.Sleep(time.Hour)
					err = d.Health(ctx, sys)
				}
				requireRefused(t, err, "Health", denizen.ErrUnavailable, "")
				require.ErrorContains(t, err, name+" fall behind")
			})
		})
	}
}

// failing is a store that takes nothing while it is told to.
type failing struct {
	store.Store
	fails *atomic.Bool
}

func (s *failing) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.fails.Load() {
		return 0, store.ErrUnavailable
	}
	return s.Store.Commit(ctx, b)
}

func TestBackground_CloseGivesUpOnAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := &clogged{Store: inner, clogs: func(b store.Batch) bool { return b.Emit == nil }}
		d, err := denizen.New(t.Context(), &owned{s, inner}, denizen.Options{})
		require.NoError(t, err)
		newUser(t, d, "alice-user")
		require.NoError(t, authenticated(t, d, newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed))
		began := time.Now()
		requireRefused(t, d.Close(), "Close", denizen.ErrUnavailable, "")
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

// slower is a store in which a commit takes ten milliseconds and others wait for it.
type slower struct {
	store.Store
	mu sync.Mutex
}

func (s *slower) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	return s.Store.Commit(ctx, b)
}

func TestBackground_ASmallFeedMaxHoldsUpNoHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		inner := memory.New()
		d := newOver(t, &owned{&slower{Store: inner}, inner}, denizen.Options{FeedMaxEvents: 500})
		const events = 20_000
		event := record.Encode(&record.Event{At: time.Now().UnixMilli(), What: string(denizen.EventProfileChanged), Actor: ".system", User: "alice-user"})
		for range events {
			_, err := inner.Commit(ctx, store.Batch{Emit: event})
			require.NoError(t, err)
		}
		newUser(t, d, "alice-user")
		chain := denizen.Online(time.Hour).Then(denizen.Offline())
		require.NoError(t, d.SetPresence(ctx, sys, "alice-user", chain))
		for range 100 {
			beat := time.Now()
			require.NoError(t, d.SetPresence(ctx, sys, "alice-user", chain))
			time.Sleep(2 * time.Second)
			rs, err := inner.Get(ctx, record.DevicesKey("alice-user"))
			require.NoError(t, err)
			value, err := record.Decode(rs[0].Key, rs[0].Value)
			require.NoError(t, err)
			require.GreaterOrEqual(t, value.(*record.Devices).Devices[0].Origin(), beat.UnixMilli(), "not within twice the interval")
		}
		feed, err := inner.Changes(ctx, store.End, 1)
		require.NoError(t, err)
		require.Greater(t, feed.First, store.Seq(events-1000), "not trimmed")
		require.NoError(t, d.Health(ctx, sys))
	})
}
