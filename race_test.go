package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// atOnce runs f many times at once and returns what came of each.
func atOnce(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// until runs loops, each over and over, until they were told to stop.
type until struct {
	stopped atomic.Bool
	loops   sync.WaitGroup
}

func (u *until) loop(f func()) {
	u.loops.Go(func() {
		for !u.stopped.Load() {
			f()
			runtime.Gosched() // to whoever is waited for
		}
	})
}

func (u *until) stop() {
	u.stopped.Store(true)
	u.loops.Wait()
}

func count(errs []error, kind error) (n int) {
	for _, err := range errs {
		if errors.Is(err, kind) {
			n++
		}
	}
	return n
}

func create(t testing.TB, d *denizen.Directory, id denizen.UserID, locators ...denizen.NewLocator) denizen.User {
	t.Helper()
	u, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: id, ScreenName: "Somebody", Locators: locators})
	require.NoError(t, err)
	return u
}

// endings are the ways in which a token ends at once, and whether its user's principals do.
var endings = []struct {
	name  string
	falls bool
	end   func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error
}{
	{"revoked", false, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		return d.RevokeTokens(ctx, denizen.System(), by.User(), by.Token())
	}},
	{"all revoked", false, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		return d.RevokeAllTokens(ctx, denizen.System(), by.User())
	}},
	{"logged out", false, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		return d.Logout(ctx, by)
	}},
	{"blocked", true, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		_, err := d.BlockUser(ctx, denizen.System(), by.User(), denizen.Block{})
		return err
	}},
	{"deleted", true, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		return d.DeleteUser(ctx, denizen.System(), by.User())
	}},
	{"merged", true, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		other := "other-" + by.User()
		if _, err := d.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: other, ScreenName: "Other"}); err != nil {
			return err
		}
		_, err := d.MergeUsers(ctx, denizen.System(), by.User(), other, denizen.MergePolicy{})
		return err
	}},
	{"deleted and created anew", true, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) error {
		if err := d.DeleteUser(ctx, denizen.System(), by.User()); err != nil {
			return err
		}
		_, err := d.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: by.User(), ScreenName: "Another"})
		return err
	}},
}

// Both a text that is authenticated all the time, and so remembered, and one that is seen
// for the first time are refused from the moment that the ending call returns.
func TestRace_NothingIsLetInAfterItsEndReturned(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		for i, e := range endings {
			t.Run(e.name, func(t *testing.T) {
				for round := range 4 {
					user := denizen.UserID(fmt.Sprintf("ending-%d-%d", i, round))
					create(t, d, user)
					token, err := d.IssueToken(t.Context(), denizen.System(), user, denizen.TokenOptions{})
					require.NoError(t, err)
					extended, err := d.ExtendToken(t.Context(), denizen.System(), user, token.ID, 48*time.Hour)
					require.NoError(t, err)
					by, err := d.Authenticate(t.Context(), token.Signed)
					require.NoError(t, err)

					var ended atomic.Bool
					var late atomic.Int64
					var u until
					for range 2 {
						u.loop(func() {
							after := ended.Load()
							if _, err := d.Authenticate(t.Context(), token.Signed); err == nil && after {
								late.Add(1)
							}
						})
					}
					u.loop(func() {
						after := ended.Load()
						if _, err := d.User(t.Context(), by, user); err == nil && after && e.falls {
							late.Add(1)
						}
					})
					require.NoError(t, e.end(t.Context(), d, by))
					ended.Store(true)
					_, err = d.Authenticate(t.Context(), token.Signed)
					require.ErrorIs(t, err, denizen.ErrRevoked)
					_, err = d.Authenticate(t.Context(), extended.Signed)
					require.ErrorIs(t, err, denizen.ErrRevoked, "a text of the same token, seen for the first time")
					u.stop()
					require.Zero(t, late.Load())
				}
			})
		}
	})
}

// dawdling returns a read late: what it returns may be old by then.
type dawdling struct {
	store.Store
	slow         atomic.Bool // the next read is the one
	read, answer chan struct{}
}

func newDawdling(s store.Store) *dawdling {
	return &dawdling{Store: s, read: make(chan struct{}), answer: make(chan struct{})}
}

func (s *dawdling) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	rs, err := s.Store.Get(ctx, keys...)
	if s.slow.CompareAndSwap(true, false) {
		close(s.read)
		<-s.answer
	}
	return rs, err
}

func TestRace_WhatWasReadBeforeARevocationIsNotRememberedAfterIt(t *testing.T) {
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			inner := memory.New()
			w := newOver(t, inner, denizen.Options{})
			create(t, w, "the-one-user")
			token, err := w.IssueToken(t.Context(), denizen.System(), "the-one-user", denizen.TokenOptions{})
			require.NoError(t, err)
			by, err := w.Authenticate(t.Context(), token.Signed)
			require.NoError(t, err)
			require.NoError(t, w.Close())

			slow := newDawdling(inner)
			d := newOver(t, &owned{slow, inner}, denizen.Options{})
			slow.slow.Store(true)
			late := make(chan denizen.Principal)
			go func() {
				by, _ := d.Authenticate(context.Background(), token.Signed) // it may say either
				late <- by
			}()
			<-slow.read
			require.NoError(t, e.end(t.Context(), d, by))
			close(slow.answer)
			if late := <-late; e.falls {
				_, err = d.Tokens(t.Context(), late, "the-one-user")
				require.Error(t, err, "who was let in late is nobody, and not the one who came after")
			}
			_, err = d.Authenticate(t.Context(), token.Signed)
			require.ErrorIs(t, err, denizen.ErrRevoked)
		})
	}
}

// meddling does something just before the next commit of a kind is handed over.
type meddling struct {
	store.Store
	meddle atomic.Pointer[func(store.Batch) bool] // reports whether that was the one
}

func (s *meddling) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if f := s.meddle.Swap(nil); f != nil && !(*f)(b) {
		s.meddle.Store(f)
	}
	return s.Store.Commit(ctx, b)
}

// Each value that is written is greater than the one before. What is read is no older than
// what was acknowledged before the read began, and no newer than what was begun before it
// ended.
func TestRace_WhatIsReadIsNeverOlderThanWhatWasAcknowledged(t *testing.T) {
	number := func(s string) (n int64) { _, _ = fmt.Sscanf(s, "no. %d", &n); return n }
	values := []struct {
		name  string
		write func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error
		read  func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error)
	}{
		{"screen name", func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error {
			_, err := d.SetScreenName(ctx, by, by.User(), value)
			return err
		}, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error) {
			u, err := d.User(ctx, by, by.User())
			return u.ScreenName, err
		}},
		{"screen name by locator", func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error {
			_, err := d.SetScreenName(ctx, denizen.System(), by.User(), value)
			return err
		}, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error) {
			us, err := d.UsersByLocator(ctx, denizen.System(), []string{fmt.Sprintf("email:%s@example.org", by.User())})
			if err != nil || len(us) != 1 {
				return "", errors.Join(err, errors.New("not one user"))
			}
			return us[0].ScreenName, nil
		}},
		{"attribute", func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error {
			_, err := d.SetAttribute(ctx, by, by.User(), denizen.Attribute{Key: "number", Value: value})
			return err
		}, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error) {
			as, err := d.Attributes(ctx, by, by.User(), []string{"number"})
			if err != nil {
				return "", err
			}
			return as[0].Value, nil
		}},
		{"presence", func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error {
			return d.SetPresence(ctx, by, by.User(), denizen.State(value))
		}, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error) {
			p, err := d.Presence(ctx, by, by.User())
			return p.Presence.State(), err
		}},
		{"presence in a list", func(ctx context.Context, d *denizen.Directory, by denizen.Principal, value string) error {
			return d.SetPresence(ctx, by, by.User(), denizen.State(value))
		}, func(ctx context.Context, d *denizen.Directory, by denizen.Principal) (string, error) {
			ps, err := d.Presences(ctx, by, []denizen.UserID{by.User()})
			if err != nil {
				return "", err
			}
			return ps[0].Presence.State(), nil
		}},
	}
	overStores(t, denizen.Options{HeartbeatInterval: time.Millisecond}, func(t *testing.T, d *denizen.Directory) {
		_, err := d.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "number"})
		require.NoError(t, err)
		for i, v := range values {
			t.Run(v.name, func(t *testing.T) {
				user := denizen.UserID(fmt.Sprintf("numbered-%d", i))
				create(t, d, user, denizen.Email(string(user)+"@example.org"))
				by, err := d.ActAs(t.Context(), denizen.System(), user)
				require.NoError(t, err)
				var begun, acknowledged atomic.Int64
				write := func(n int64) {
					begun.Store(n)
					require.NoError(t, v.write(t.Context(), d, by, fmt.Sprintf("no. %d", n)))
					acknowledged.Store(n)
				}
				write(1)
				var u until
				for range 2 {
					u.loop(func() {
						least := acknowledged.Load()
						text, err := v.read(t.Context(), d, by)
						most := begun.Load()
						assert.NoError(t, err)
						if n := number(text); n < least || n > most {
							t.Errorf("%s: read %d, with %d acknowledged before and %d begun", v.name, n, least, most)
						}
					})
				}
				for n := int64(2); n < 50; n++ {
					write(n)
				}
				u.stop()
			})
		}
	})
}

// Nothing that the old user's principal does, before, during or after, is the new user's.
func TestRace_AUserCreatedAnewInheritsNothing(t *testing.T) {
	o := denizen.Options{HeartbeatInterval: time.Millisecond}
	for _, kind := range []struct {
		name   string
		shared bool
	}{{"cached", false}, {"not cached", true}} {
		t.Run(kind.name, func(t *testing.T) {
			inner := memory.New()
			var s store.Store = inner
			if kind.shared {
				s = shared{inner}
			}
			d := newOver(t, s, o)
			const user = "the-one-user"
			ctx, sys := t.Context(), denizen.System()
			_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "note"})
			require.NoError(t, err)
			create(t, d, user)
			clean := func(name string) {
				t.Helper()
				u, err := d.User(ctx, sys, user)
				require.NoError(t, err)
				require.Equal(t, name, u.ScreenName)
				require.Empty(t, u.Locators)
				profile, err := d.Profile(ctx, sys, user)
				require.NoError(t, err)
				require.Empty(t, profile.Attributes)
				presence, err := d.Presence(ctx, sys, user)
				require.NoError(t, err)
				require.Empty(t, presence.Presence.State())
				require.Zero(t, presence.Since)
				tokens, err := d.Tokens(ctx, sys, user)
				require.NoError(t, err)
				require.Empty(t, tokens)
			}
			for round := range 30 {
				token, err := d.IssueToken(ctx, sys, user, denizen.TokenOptions{})
				require.NoError(t, err)
				by, err := d.Authenticate(ctx, token.Signed)
				require.NoError(t, err)
				beat := denizen.Online(time.Hour).Then(denizen.Offline())
				require.NoError(t, d.SetPresence(ctx, by, user, beat))
				var gone atomic.Bool
				var u until
				for _, do := range []func() error{
					func() error { _, err := d.SetScreenName(ctx, by, user, "By the old one"); return err },
					func() error {
						_, err := d.AddLocator(ctx, by, user, denizen.Email(fmt.Sprintf("%d@example.org", rand.IntN(4))))
						return err
					},
					func() error {
						_, err := d.SetAttribute(ctx, by, user, denizen.Attribute{Key: "note", Value: "by the old one"})
						return err
					},
					func() error { return d.SetPresence(ctx, by, user, beat) },
					func() error {
						return d.SetPresence(ctx, by, user, denizen.Away(time.Duration(1+rand.IntN(9))*time.Second).On("desk"))
					},
					func() error { _, err := d.Profile(ctx, by, user); return err },
					func() error { _, err := d.Authenticate(ctx, token.Signed); return err },
				} {
					u.loop(func() {
						after := gone.Load()
						err := do()
						if after {
							assert.ErrorIs(t, err, denizen.ErrRevoked)
						} else if err != nil && !errors.Is(err, denizen.ErrConflict) && !errors.Is(err, denizen.ErrNotFound) {
							assert.ErrorIs(t, err, denizen.ErrRevoked)
						}
					})
				}
				require.NoError(t, d.DeleteUser(ctx, sys, user))
				gone.Store(true)
				name := fmt.Sprintf("No. %d", round)
				_, err = d.CreateUser(ctx, sys, denizen.NewUser{ID: user, ScreenName: name})
				require.NoError(t, err)
				for range 10 {
					clean(name)
				}
				u.stop()
				clean(name)
			}
			require.NoError(t, d.Close())
			invariant.Check(t, inner)
		})
	}
}

// What is written by many at once, in a directory of few users, locators and attributes,
// leaves an order that could have come of one after the other.
func TestRace_AnythingAtOnceLeavesTheInvariantsStanding(t *testing.T) {
	for _, cached := range []bool{true, false} {
		t.Run(fmt.Sprintf("cached %v", cached), func(t *testing.T) {
			w := newWorld(t, cached, denizen.Options{HeartbeatInterval: time.Millisecond}, nil)
			ctx, sys := t.Context(), denizen.System()
			users := []denizen.UserID{w.alice, w.bob, "carol-of-the-world"}
			one := func(r *rand.Rand) error {
				user := users[r.IntN(len(users))]
				address := denizen.Email(fmt.Sprintf("%d@example.org", r.IntN(4)))
				given := address
				given.Override = true // a user who removes one that it proved has it reserved
				key := []string{usedAttribute, unusedAttribute}[r.IntN(2)]
				by, err := w.ActAs(ctx, sys, user)
				if err != nil {
					by = sys
				}
				switch r.IntN(14) {
				case 0:
					_, err = w.CreateUser(ctx, sys, denizen.NewUser{
						ID: user, ScreenName: "Somebody", Locators: []denizen.NewLocator{given},
						Attributes: []denizen.Attribute{{Key: key, Value: "first"}},
					})
				case 1:
					err = w.DeleteUser(ctx, sys, user)
				case 2:
					_, err = w.AddLocator(ctx, sys, user, given)
				case 3:
					_, err = w.AddLocator(ctx, by, user, address)
				case 4:
					var ls []denizen.Locator
					if ls, err = w.Locators(ctx, sys, user); err == nil && len(ls) > 0 {
						_, err = w.SetVerification(ctx, sys, user, ls[r.IntN(len(ls))].ID, denizen.Verified)
					}
				case 5:
					var ls []denizen.Locator
					if ls, err = w.Locators(ctx, by, user); err == nil && len(ls) > 0 {
						err = w.RemoveLocator(ctx, by, user, ls[r.IntN(len(ls))].ID)
					}
				case 6:
					_, err = w.SetLocators(ctx, sys, user, []denizen.NewLocator{given})
				case 7:
					_, err = w.SetAttribute(ctx, by, user, denizen.Attribute{Key: key, Value: fmt.Sprint(r.IntN(3))})
				case 8:
					err = w.RemoveAttribute(ctx, by, user, key)
				case 9:
					if err = w.DropAttributeDef(ctx, sys, key); err == nil {
						_, err = w.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key})
					}
				case 10:
					_, err = w.IssueToken(ctx, sys, user, denizen.TokenOptions{})
				case 11:
					err = w.RevokeAllTokens(ctx, by, user)
				case 12:
					if _, err = w.BlockUser(ctx, sys, user, denizen.Block{}); err == nil {
						_, err = w.UnblockUser(ctx, sys, user)
					}
				case 13:
					err = w.SetPresence(ctx, by, user, denizen.Online(time.Hour).On(fmt.Sprint(r.IntN(3))))
				}
				return err
			}
			var applied atomic.Int64
			for _, err := range atOnce(8, func(i int) error {
				r := rand.New(rand.NewPCG(uint64(i), 0))
				for range 250 {
					err := one(r)
					var refused *denizen.Error
					if err == nil {
						applied.Add(1)
					} else if !errors.As(err, &refused) || refused.Kind == denizen.ErrUnavailable || refused.Kind == denizen.ErrOutcomeUnknown {
						return err
					}
				}
				return nil
			}) {
				require.NoError(t, err)
			}
			require.Greater(t, applied.Load(), int64(100), "of 2000")
			require.NoError(t, denizen.Flush(ctx, w.Directory), "heartbeats that only this directory knows of")
			w.requireCoherent(t)
			require.NoError(t, w.Close())
			invariant.Check(t, w.inner)
		})
	}
}
