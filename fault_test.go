package denizen_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
)

// faultyWorld is a world whose store has faults once armed.
type faultyWorld struct {
	*world
	armed atomic.Bool
}

func newFaultyWorld(t testing.TB, cached bool, decide func(storetest.Call) storetest.Fault) *faultyWorld {
	t.Helper()
	w := &faultyWorld{}
	w.world = newWorld(t, cached, denizen.Options{}, func(s store.Store) store.Store {
		return storetest.Faulty(s, func(c storetest.Call) storetest.Fault {
			if !w.armed.Load() {
				return storetest.None
			}
			return decide(c)
		})
	})
	return w
}

// view is what .system sees of Alice and of the directory.
func (w *world) view(t testing.TB, d *denizen.Directory) string {
	t.Helper()
	ctx, sys := context.Background(), denizen.System()
	var b strings.Builder
	see := func(v any, err error) { fmt.Fprintf(&b, "%+v %v\n", v, err) }
	see(d.User(ctx, sys, w.alice))
	see(d.Locators(ctx, sys, w.alice))
	see(d.Profile(ctx, sys, w.alice))
	p, err := d.Presence(ctx, sys, w.alice)
	see(p.Presence, err)
	tokens, err := d.Tokens(ctx, sys, w.alice)
	for i := range tokens {
		tokens[i].LastUsedAt = time.Time{} // kept in memory for a while
	}
	see(tokens, err)
	for _, locator := range []string{"alice@example.org", "alice@example.com", "added@example.org", "carol@example.org"} {
		see(d.ResolveUser(ctx, sys, "email:"+locator))
	}
	see(d.AttributeDefs(ctx, sys))
	see(d.AttributeDef(ctx, sys, unusedAttribute))
	see(d.CountUsers(ctx, sys))
	for _, text := range []string{w.signed, w.otherSigned} {
		by, err := d.Authenticate(ctx, text)
		see(by, err)
	}
	by, err := d.AuthenticateKey(ctx, w.key.Key, w.key.Secret)
	see(by.AccessKey(), err)
	return b.String()
}

// requireCoherent requires that the directory returns what one without a cache does.
func (w *world) requireCoherent(t testing.TB) {
	t.Helper()
	fresh, err := denizen.New(context.Background(), shared{w.inner}, denizen.Options{HeartbeatInterval: time.Hour})
	require.NoError(t, err)
	defer fresh.Close()
	require.Equal(t, w.view(t, fresh), w.view(t, w.Directory))
}

// callers are whom each method is tried by: those whose standing rests on the most.
var callers = []struct {
	name   string
	column int
	by     func(*world) denizen.Principal
}{
	{".system with a key", asSystem, (*world).application},
	{"the user acted for", asSelf, (*world).delegate},
	{"the user", asSelf, (*world).itself},
}

func TestFault_AStoreThatCannotAnswerChangesNothing(t *testing.T) {
	eachFault(t, storetest.Before, func(t *testing.T, m method, w *faultyWorld, before invariant.Dump, err error) {
		if m.name == "WatchPresence" && err == nil {
			return // what failed was its follower of the feed, which tries again
		}
		requireTheKind(t, err, denizen.ErrUnavailable)
		require.ErrorIs(t, err, store.ErrUnavailable, "the cause")
		if m.name != "RevokeTokensIssuedBy" { // several commits, and says so
			require.Equal(t, before, invariant.Of(t, w.inner), "something was changed")
		}
	})
}

func TestFault_AnUnknownOutcomeIsToldAndNeverRetried(t *testing.T) {
	for _, f := range []storetest.Fault{storetest.Applied, storetest.Withheld} {
		t.Run(map[storetest.Fault]string{storetest.Applied: "applied", storetest.Withheld: "withheld"}[f], func(t *testing.T) {
			eachFault(t, f, func(t *testing.T, m method, w *faultyWorld, before invariant.Dump, err error) {
				requireTheKind(t, err, denizen.ErrOutcomeUnknown)
				after := invariant.Of(t, w.inner)
				require.Equal(t, f == storetest.Applied, after.Feed.Head > before.Feed.Head)
				if f == storetest.Withheld {
					require.Equal(t, before, after)
				}
			})
		})
	}
}

func requireTheKind(t testing.TB, err, kind error) {
	t.Helper()
	e := new(denizen.Error)
	require.ErrorAs(t, err, &e)
	require.Equal(t, kind, e.Kind, "%v", err)
}

// eachFault lets a fault befall each call to the store of each method in turn, until it gets
// through. What must be true of the method is judged while the store works again; whatever
// befell it, the invariants hold, nothing wrong is remembered, and the method can be called
// again.
func eachFault(t *testing.T, f storetest.Fault, judge func(t *testing.T, m method, w *faultyWorld, before invariant.Dump, err error)) {
	t.Helper()
	overCaches(t, func(t *testing.T, cached bool) {
		befell := 0
		for _, m := range methods {
			for _, caller := range callers {
				// A user logs out for itself alone, and otherwise is the lesser caller.
				// Notify goes on for long and commits more than once: see TestNotify.
				if m.name == "Notify" || m.verdict(t, caller.column) != yes || caller.column == asSelf && (m.name == "Logout") != (caller.name == "the user") {
					continue
				}
				t.Run(m.name+" by "+caller.name, func(t *testing.T) {
					befell += storetest.EachCall(f, func(n int, decide func(storetest.Call) storetest.Fault) {
						var hit atomic.Int64
						w := newFaultyWorld(t, cached, func(c storetest.Call) storetest.Fault {
							fault := decide(c)
							if fault != storetest.None {
								hit.Add(1)
							}
							return fault
						})
						before := invariant.Of(t, w.inner)
						commits := w.calls.commits.Load()
						w.armed.Store(true)
						err := m.call(t.Context(), w.world, caller.by(w.world), w.alice)
						w.armed.Store(false)
						commits = w.calls.commits.Load() - commits
						if hit.Load() == 0 {
							require.NoError(t, err)
						} else {
							require.LessOrEqual(t, commits, int64(1), "a commit was tried again")
							judge(t, m, w, before, err)
						}
						invariant.Check(t, w.inner)
						w.requireCoherent(t)
						if hit.Load() > 0 && f != storetest.Applied {
							require.NoError(t, m.call(t.Context(), w.world, caller.by(w.world), w.alice), "once the store answers again")
							invariant.Check(t, w.inner)
							w.requireCoherent(t)
						}
					})
				})
			}
		}
		require.Greater(t, befell, 30)
	})
}

func TestFault_NobodyIsLetInWhileTheStoreCannotAnswer(t *testing.T) {
	sign := func(w *world, nonce string) denizen.SignedRequest {
		r := denizen.SignedRequest{
			AccessKey: w.key.Key, Method: "GET", ContentType: "null", Date: time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), Path: "/v1/users", Nonce: nonce,
		}
		secret, err := base64.StdEncoding.DecodeString(w.key.Secret)
		require.NoError(t, err)
		mac := hmac.New(sha1.New, secret)
		mac.Write([]byte(strings.Join([]string{r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce}, "\n")))
		r.Digest = base64.StdEncoding.EncodeToString(mac.Sum(nil))
		return r
	}
	ways := []struct {
		name string
		want error // once the store works
		try  func(ctx context.Context, w *world) (denizen.Principal, error)
	}{
		{"a new text", nil, func(ctx context.Context, w *world) (denizen.Principal, error) {
			return w.Authenticate(ctx, w.otherSigned)
		}},
		{"a text of nobody's", denizen.ErrUnauthenticated, func(ctx context.Context, w *world) (denizen.Principal, error) {
			return w.Authenticate(ctx, "nobody's")
		}},
		{"an access key", nil, func(ctx context.Context, w *world) (denizen.Principal, error) {
			return w.AuthenticateKey(ctx, w.key.Key, w.key.Secret)
		}},
		{"a key of nobody's", denizen.ErrUnauthenticated, func(ctx context.Context, w *world) (denizen.Principal, error) {
			return w.AuthenticateKey(ctx, "nobody's", w.key.Secret)
		}},
		{"a signed request", nil, func(ctx context.Context, w *world) (denizen.Principal, error) {
			return w.AuthenticateSigned(ctx, sign(w, "a-nonce-of-one"))
		}},
		{"acting for a user", nil, func(ctx context.Context, w *world) (denizen.Principal, error) { return w.ActAs(ctx, w.byKey, w.bob) }},
	}
	overCaches(t, func(t *testing.T, cached bool) {
		for _, way := range ways {
			t.Run(way.name, func(t *testing.T) {
				for _, f := range []storetest.Fault{storetest.Before, storetest.Applied, storetest.Withheld} {
					storetest.EachCall(f, func(n int, decide func(storetest.Call) storetest.Fault) {
						var hit atomic.Bool
						w := newFaultyWorld(t, cached, func(c storetest.Call) storetest.Fault {
							fault := decide(c)
							hit.Store(hit.Load() || fault != storetest.None)
							return fault
						})
						w.armed.Store(true)
						by, err := way.try(t.Context(), w.world)
						w.armed.Store(false)
						switch {
						case hit.Load() && f == storetest.Before:
							requireTheKind(t, err, denizen.ErrUnavailable)
						case hit.Load():
							requireTheKind(t, err, denizen.ErrOutcomeUnknown)
						case way.want != nil:
							require.ErrorIs(t, err, way.want)
						default:
							require.NoError(t, err)
							require.False(t, by.IsAnonymous())
							return
						}
						require.Equal(t, denizen.Principal{}, by)
						invariant.Check(t, w.inner)
					})
				}
			})
		}
	})
}

// Where nothing may be remembered, a token that was good a moment ago is no excuse either.
func TestFault_ASharedStoreIsAskedEveryTime(t *testing.T) {
	w := newFaultyWorld(t, false, func(storetest.Call) storetest.Fault { return storetest.Before })
	_, err := w.Authenticate(t.Context(), w.signed)
	require.NoError(t, err)
	w.armed.Store(true)
	by, err := w.Authenticate(t.Context(), w.signed)
	requireTheKind(t, err, denizen.ErrUnavailable)
	require.Equal(t, denizen.Principal{}, by)
}

// What was remembered before a revocation of unknown outcome is not believed after it: the
// store is asked what came of it.
func TestFault_ARevocationOfUnknownOutcomeIsLookedUp(t *testing.T) {
	for _, m := range methods {
		if m.name != "RevokeAllTokens" && m.name != "BlockUser" && m.name != "DeleteUser" && m.name != "EraseUser" {
			continue
		}
		for _, f := range []storetest.Fault{storetest.Applied, storetest.Withheld} {
			w := newFaultyWorld(t, true, func(c storetest.Call) storetest.Fault {
				if c.Method == "Commit" {
					return f
				}
				return storetest.None
			})
			_, err := w.Authenticate(t.Context(), w.signed)
			require.NoError(t, err)
			w.armed.Store(true)
			require.ErrorIs(t, m.call(t.Context(), w.world, denizen.System(), w.alice), denizen.ErrOutcomeUnknown)
			_, err = w.Authenticate(t.Context(), w.signed)
			if f == storetest.Applied {
				require.ErrorIs(t, err, denizen.ErrRevoked, m.name)
			} else {
				require.NoError(t, err, m.name)
			}
		}
	}
}

func TestFault_ADirectoryIsFoundedWholeOrNotAtAll(t *testing.T) {
	for _, f := range []storetest.Fault{storetest.Before, storetest.Applied, storetest.Withheld} {
		faults := storetest.EachCall(f, func(n int, decide func(storetest.Call) storetest.Fault) {
			s := memory.New()
			defer s.Close()
			var hit atomic.Bool
			d, err := denizen.New(t.Context(), storetest.Faulty(s, func(c storetest.Call) storetest.Fault {
				fault := decide(c)
				hit.Store(hit.Load() || fault != storetest.None)
				return fault
			}), denizen.Options{})
			if !hit.Load() {
				require.NoError(t, err)
				require.NoError(t, d.Close())
			} else {
				kind := denizen.ErrUnavailable
				if f != storetest.Before {
					kind = denizen.ErrOutcomeUnknown
				}
				requireTheKind(t, err, kind)
				require.Nil(t, d)
			}
			invariant.Check(t, s)
			d, err = denizen.New(t.Context(), s, denizen.Options{})
			require.NoError(t, err, "the store is left to the next")
			invariant.Check(t, s)
			require.NoError(t, d.Close())
		})
		require.Positive(t, faults)
	}
}

// A context that has ended withdraws what was not handed over.
func TestFault_AMethodWhoseContextHasEndedChangesNothing(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	overCaches(t, func(t *testing.T, cached bool) {
		for _, m := range methods {
			if m.verdict(t, asSystem) != yes {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				w := newWorld(t, cached, denizen.Options{}, nil)
				before := invariant.Of(t, w.inner)
				for _, ctx := range []context.Context{canceled, late} {
					if err := m.call(ctx, w, denizen.System(), w.alice); err != nil {
						requireTheKind(t, err, denizen.ErrUnavailable)
						require.ErrorIs(t, err, ctx.Err(), "the cause")
					}
				}
				require.Equal(t, before, invariant.Of(t, w.inner))
			})
		}
	})
}
