package denizen_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

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

func TestNoDutyHoldsUpAnother(t *testing.T) {
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

func TestHealthTellsWhatTheStoreAndTheDutiesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		fails := atomic.Bool{}
		s := &failing{Store: inner, fails: &fails}
		c := &clogged{Store: s, clogs: func(store.Batch) bool { return false }}
		var log bytes.Buffer
		d := newOver(t, &checked{owned{c, inner}, c}, denizen.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		newUser(t, d, "alice-user")
		require.NoError(t, d.Health(t.Context(), sys))
		require.ErrorIs(t, d.Health(t.Context(), denizen.Principal{}), denizen.ErrDenied)
		for _, ill := range []error{store.ErrCorrupt, store.ErrUnavailable} {
			c.ill.Store(&ill)
			require.ErrorIs(t, d.Health(t.Context(), sys), ill)
		}
		c.ill.Store(nil)
		token := newToken(t, d, "alice-user", denizen.TokenOptions{})
		fails.Store(true)
		for range 30 { // minutes
			_, _ = d.Authenticate(t.Context(), token.Signed)
			time.Sleep(time.Minute)
		}
		err := d.Health(t.Context(), sys)
		requireRefused(t, err, "Health", denizen.ErrUnavailable, "")
		require.ErrorContains(t, err, "last uses fail")
		n := strings.Count(log.String(), "last uses")
		require.True(t, n >= 25 && n <= 31, "logged %d times", n)
		fails.Store(false)
		time.Sleep(2 * time.Hour)
		require.NoError(t, d.Health(t.Context(), sys))
	})
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

func TestCloseGivesUpOnAStoreThatDoesNotAnswer(t *testing.T) {
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

func TestASmallFeedMaxHoldsUpNoHeartbeats(t *testing.T) {
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
