package denizen_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
)

// pair is two directories over one store, as two processes have it. Only what the second asks
// is counted, and fails once it is told to.
type pair struct {
	one, two *denizen.Directory
	asked    atomic.Int64 // Get calls of two
	deaf     atomic.Bool  // two cannot read the feed
	silent   atomic.Bool  // two cannot reach the store
	alice    denizen.UserID
	signed   string
	id       denizen.TokenID
}

func newPair(t *testing.T, freshness time.Duration) *pair {
	t.Helper()
	p := &pair{}
	inner := memory.New()
	p.one = newOver(t, shared{inner}, denizen.Options{})
	p.two = newOver(t, storetest.Faulty(shared{inner}, func(c storetest.Call) storetest.Fault {
		if c.Method == "Get" {
			p.asked.Add(1)
		}
		if p.silent.Load() || p.deaf.Load() && (c.Method == "Changes" || c.Method == "Wait") {
			return storetest.Before
		}
		return storetest.None
	}), denizen.Options{MaxRevocationDelay: freshness})
	u, err := p.one.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ScreenName: "Alice"})
	require.NoError(t, err)
	token, err := p.one.IssueToken(context.Background(), denizen.System(), u.ID, denizen.TokenOptions{})
	require.NoError(t, err)
	p.alice, p.signed, p.id = u.ID, token.Signed, token.ID
	return p
}

// remember makes two remember Alice's token.
func (p *pair) remember(t *testing.T) {
	t.Helper()
	for range 2 { // the first starts to follow
		_, err := p.two.Authenticate(t.Context(), p.signed)
		require.NoError(t, err)
		synctest.Wait()
	}
	require.Zero(t, p.costs(t))
}

// costs returns how often two reads the store to authenticate Alice's token, which must be good.
func (p *pair) costs(t *testing.T) int64 {
	t.Helper()
	synctest.Wait() // what goes on in the background at this moment asks, too
	before := p.asked.Load()
	by, err := p.two.Authenticate(t.Context(), p.signed)
	require.NoError(t, err)
	require.Equal(t, p.alice, by.User())
	return p.asked.Load() - before
}

func TestTokenCache_ATokenOfASharedStoreIsRememberedWhileTheFeedIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Second)
		require.Equal(t, int64(2), p.costs(t), "two round trips for a token that is new here")
		synctest.Wait()
		p.remember(t)
		time.Sleep(time.Hour)
		require.Zero(t, p.costs(t), "the feed is followed while nothing happens")
	})
}

func TestTokenCache_WithoutFreshnessTheStoreIsAskedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, 0)
		for range 3 {
			require.Equal(t, int64(2), p.costs(t))
			synctest.Wait()
		}
		require.NoError(t, p.one.RevokeAllTokens(t.Context(), denizen.System(), p.alice))
		_, err := p.two.Authenticate(t.Context(), p.signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
	})
}

// tokenEnds are the ways in which a process ends Alice's token.
var tokenEnds = map[string]func(d *denizen.Directory, p *pair) error{
	"revoke it": func(d *denizen.Directory, p *pair) error {
		return d.RevokeTokens(context.Background(), denizen.System(), p.alice, p.id)
	},
	"revoke all": func(d *denizen.Directory, p *pair) error {
		return d.RevokeAllTokens(context.Background(), denizen.System(), p.alice)
	},
	"log out": func(d *denizen.Directory, p *pair) error {
		by, err := d.Authenticate(context.Background(), p.signed)
		if err != nil {
			return err
		}
		return d.Logout(context.Background(), by)
	},
	"merge the user": func(d *denizen.Directory, p *pair) error {
		other, err := d.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ScreenName: "Other"})
		if err != nil {
			return err
		}
		_, err = d.MergeUsers(context.Background(), denizen.System(), p.alice, other.ID, denizen.MergePolicy{})
		return err
	},
	"block the user": func(d *denizen.Directory, p *pair) error {
		_, err := d.BlockUser(context.Background(), denizen.System(), p.alice, denizen.Block{})
		return err
	},
	"extend it beyond its texts": func(d *denizen.Directory, p *pair) error {
		for i := range denizen.MaxTokenTexts {
			if _, err := d.ExtendToken(context.Background(), denizen.System(), p.alice, p.id, time.Duration(25+i)*time.Hour); err != nil {
				return err
			}
		}
		return nil
	},
	"delete the user": func(d *denizen.Directory, p *pair) error {
		return d.DeleteUser(context.Background(), denizen.System(), p.alice)
	},
	"delete the user and take the id again": func(d *denizen.Directory, p *pair) error {
		if err := d.DeleteUser(context.Background(), denizen.System(), p.alice); err != nil {
			return err
		}
		_, err := d.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: p.alice, ScreenName: "Other"})
		return err
	},
}

func TestTokenCache_WhatAnotherProcessEndsIsEndedOnceTheFeedSaysSo(t *testing.T) {
	for name, end := range tokenEnds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, time.Hour)
				p.remember(t)
				require.NoError(t, end(p.one, p))
				synctest.Wait() // no time passes
				_, err := p.two.Authenticate(t.Context(), p.signed)
				require.ErrorIs(t, err, denizen.ErrRevoked)
			})
		})
	}
}

func TestTokenCache_WhatThisProcessEndsIsEndedAtOnce(t *testing.T) {
	for name, end := range tokenEnds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, time.Hour)
				p.remember(t)
				p.deaf.Store(true) // so that it cannot be the feed
				require.NoError(t, end(p.two, p))
				_, err := p.two.Authenticate(t.Context(), p.signed)
				require.ErrorIs(t, err, denizen.ErrRevoked)
			})
		})
	}
}

func TestTokenCache_WhatEndsNoTokenForgetsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Hour)
		p.remember(t)
		_, err := p.one.SetScreenName(t.Context(), denizen.System(), p.alice, "Alice in W.")
		require.NoError(t, err)
		require.NoError(t, p.one.SetPresence(t.Context(), denizen.System(), p.alice, denizen.Online()))
		_, err = p.one.AddLocator(t.Context(), denizen.System(), p.alice, denizen.Email("alice@example.org"))
		require.NoError(t, err)
		_, err = p.one.IssueToken(t.Context(), denizen.System(), p.alice, denizen.TokenOptions{})
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, p.costs(t))
	})
}

func TestTokenCache_WhileTheFeedCannotBeReadTheStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, 8*time.Second)
		p.remember(t)
		p.deaf.Store(true)
		require.NoError(t, p.one.RevokeAllTokens(t.Context(), denizen.System(), p.alice))
		time.Sleep(8*time.Second + time.Millisecond)
		_, err := p.two.Authenticate(t.Context(), p.signed)
		require.ErrorIs(t, err, denizen.ErrRevoked, "MaxRevocationDelay is the bound")

		token, err := p.one.IssueToken(t.Context(), denizen.System(), p.alice, denizen.TokenOptions{})
		require.NoError(t, err)
		p.signed, p.id = token.Signed, token.ID
		for range 3 {
			require.Equal(t, int64(2), p.costs(t))
		}
		p.deaf.Store(false)
		time.Sleep(8 * time.Second)
		p.remember(t)
	})
}

func TestTokenCache_AStoreThatCannotAnswerLetsNobodyInOnceItIsNotFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Second)
		p.remember(t)
		p.silent.Store(true)
		time.Sleep(2 * time.Second)
		_, err := p.two.Authenticate(t.Context(), p.signed)
		require.ErrorIs(t, err, denizen.ErrUnavailable)
	})
}

func TestTokenCache_AProcessThatMissedEventsForgetsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Hour)
		p.remember(t)
		p.deaf.Store(true)
		time.Sleep(time.Minute) // which ends the Wait that was under way
		require.NoError(t, p.one.RevokeAllTokens(t.Context(), denizen.System(), p.alice))
		var last denizen.Seq
		for e, err := range p.one.Events(t.Context(), denizen.System(), "") {
			require.NoError(t, err)
			last = e.Seq
		}
		require.NoError(t, p.one.TrimFeed(t.Context(), denizen.System(), last))
		p.deaf.Store(false)
		time.Sleep(16 * time.Minute)
		_, err := p.two.Authenticate(t.Context(), p.signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
	})
}

// lagging is a store whose Get returns late.
type lagging struct {
	store.Store
	late func()
}

func (s *lagging) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	records, err := s.Store.Get(ctx, keys...)
	s.late()
	return records, err
}

func TestTokenCache_ATokenThatEndsWhileItIsReadIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Hour)
		var gets, revokeAt atomic.Int64
		inner := p.one
		late := func() {
			if gets.Add(1) == revokeAt.Load() {
				require.NoError(t, inner.RevokeAllTokens(context.Background(), denizen.System(), p.alice))
				time.Sleep(time.Second) // the feed is read to its end meanwhile
			}
		}
		s := memory.New()
		p.one = newOver(t, shared{s}, denizen.Options{})
		inner = p.one
		two := newOver(t, &lagging{shared{s}, late}, denizen.Options{MaxRevocationDelay: time.Hour})
		u, err := p.one.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Alice"})
		require.NoError(t, err)
		p.alice = u.ID
		for at := int64(1); at <= 2; at++ {
			token, err := p.one.IssueToken(t.Context(), denizen.System(), u.ID, denizen.TokenOptions{})
			require.NoError(t, err)
			other, err := p.one.IssueToken(t.Context(), denizen.System(), u.ID, denizen.TokenOptions{})
			require.NoError(t, err)
			_, err = two.Authenticate(t.Context(), other.Signed) // it follows the feed
			require.NoError(t, err)
			synctest.Wait()
			gets.Store(0)
			revokeAt.Store(at)
			_, _ = two.Authenticate(t.Context(), token.Signed)
			require.GreaterOrEqual(t, gets.Load(), at)
			_, err = two.Authenticate(t.Context(), token.Signed)
			require.ErrorIs(t, err, denizen.ErrRevoked, "revoked after the %d. read", at)
		}
	})
}
