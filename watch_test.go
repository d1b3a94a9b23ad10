package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

const (
	ann  = denizen.UserID("ann-0001")
	bert = denizen.UserID("bert-001")
)

// watching is a watch in a goroutine of its own, whose reader waits for nobody.
type watching struct {
	start time.Time
	told  chan string
	ended chan error
	stop  context.CancelFunc
}

// watch begins to watch. What is told is spelled as the user's first letter, the state and when it
// began and ends, in seconds since start.
func watch(t testing.TB, d *denizen.Directory, by denizen.Principal, users ...denizen.UserID) *watching {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &watching{start: time.Now(), told: make(chan string, 10_000), ended: make(chan error, 1), stop: stop}
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		for p, err := range d.WatchPresence(ctx, by, users) {
			switch {
			case err == nil:
				w.told <- w.spell(p)
			case errors.Is(err, denizen.ErrMissed):
				w.told <- "missed"
			default:
				w.ended <- err
			}
		}
	}()
	return w
}

func (w *watching) spell(p denizen.UserPresence) string {
	at := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return fmt.Sprint(at.Sub(w.start).Seconds())
	}
	state := p.Presence.State()
	if state == "" {
		state = "mitter.up.none"
	}
	return fmt.Sprintf("%c %s %s..%s", p.User[0], state[len("mitter.up."):], at(p.Since), at(p.Until))
}

// require requires that these were told since the last time, and nothing else.
func (w *watching) require(t testing.TB, want ...string) {
	t.Helper()
	synctest.Wait()
	got := []string{}
	for len(w.told) > 0 {
		got = append(got, <-w.told)
	}
	require.Equal(t, append([]string{}, want...), got)
}

func (w *watching) requireEnd(t testing.TB, kind error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		require.ErrorIs(t, err, kind)
	default:
		require.Fail(t, "the watch goes on")
	}
}

// overWatched runs a test in virtual time over each kind of store.
func overWatched(t *testing.T, o denizen.Options, test func(t *testing.T, d *denizen.Directory)) {
	for name, open := range map[string]func(testing.TB, denizen.Options) *denizen.Directory{
		"memory": newMemory, "bolt": newBolt, "shared": newShared,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := open(t, o)
				newUser(t, d, ann)
				newUser(t, d, bert)
				test(t, d)
			})
		})
	}
}

func everybody(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
	return true, nil
}

func set(t testing.TB, d *denizen.Directory, user denizen.UserID, p denizen.Presence) {
	t.Helper()
	require.NoError(t, d.SetPresence(context.Background(), sys, user, p))
}

func TestWatch_TellsThePresentAndThenEachChangeAtItsTime(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		chain := denizen.Online(10 * time.Second).Then(denizen.Away(5 * time.Second))
		set(t, d, bert, chain)
		w := watch(t, d, sys, bert, ann, bert, "nobody-there")
		w.require(t, "b Online 0..10", "a none -..-", "n none -..-")
		set(t, d, ann, denizen.Online())
		w.require(t, "a Online 0..-")
		time.Sleep(10*time.Second - time.Millisecond)
		w.require(t)
		time.Sleep(time.Millisecond)
		w.require(t, "b Away 10..15")
		set(t, d, bert, chain)
		w.require(t, "b Online 10..20")
		time.Sleep(15 * time.Second)
		w.require(t, "b Away 20..25", "b none 25..-")
		require.NoError(t, d.ClearPresence(t.Context(), sys, ann, ""))
		w.require(t, "a none -..-")
	})
}

func TestWatch_AHeartbeatIsNoChangeAndMovesTheEnd(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		chain := denizen.Online(10 * time.Second).Then(denizen.Away(10 * time.Second)).Then(denizen.Offline())
		set(t, d, ann, chain)
		w := watch(t, d, sys, ann)
		w.require(t, "a Online 0..10")
		for range 20 {
			time.Sleep(9 * time.Second)
			set(t, d, ann, chain)
		}
		w.require(t)
		time.Sleep(9 * time.Second)
		w.require(t)
		time.Sleep(time.Second)
		w.require(t, "a Away 190..200")
		time.Sleep(10 * time.Second)
		w.require(t, "a Offline 200..-")
	})
}

func TestWatch_TwoDevicesThatBeatInTurnGiveNoEvent(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		chain := denizen.Online(10 * time.Second).Then(denizen.Offline())
		set(t, d, ann, chain.On("desk"))
		time.Sleep(time.Second)
		set(t, d, ann, chain.On("phone"))
		w := watch(t, d, sys, ann)
		w.require(t, "a Online 0..10")
		for range 20 {
			time.Sleep(3 * time.Second)
			set(t, d, ann, chain.On("desk"))
			time.Sleep(3 * time.Second)
			set(t, d, ann, chain.On("phone"))
			p, err := d.Presence(t.Context(), sys, ann)
			require.NoError(t, err)
			require.Equal(t, "phone", p.Presence.Device(), "whose state began later")
		}
		w.require(t)
		require.NoError(t, d.ClearPresence(t.Context(), sys, ann, "phone"))
		w.require(t) // the desk is in the same state
		time.Sleep(7 * time.Second)
		w.require(t, "a Offline 127..-")
	})
}

// The state that is shown ends later than another one begins that is better.
func TestWatch_ABetterStateThatBeginsByItselfIsTold(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		set(t, d, ann, denizen.Away(time.Minute).On("desk"))
		set(t, d, ann, denizen.Offline(10*time.Second).Then(denizen.Online(5*time.Second)).On("phone"))
		w := watch(t, d, sys, ann)
		time.Sleep(2 * time.Minute)
		w.require(t, "a Away 0..60", "a Online 10..15", "a Away 0..60", "a none 60..-")
	})
}

func TestWatch_HiddenRefusedBlockedDeletedAndAbsentLookTheSame(t *testing.T) {
	refused := denizen.UserID("ann-0001")
	var refuses atomic.Bool
	o := denizen.Options{MaySee: func(_ context.Context, _, subject denizen.UserID, _ denizen.Facet) (bool, error) {
		return subject != refused || !refuses.Load(), nil
	}}
	overWatched(t, o, func(t *testing.T, d *denizen.Directory) {
		refuses.Store(false)
		ctx := t.Context()
		by, err := d.ActAs(ctx, sys, bert)
		require.NoError(t, err)
		set(t, d, ann, denizen.Online())
		set(t, d, bert, denizen.Online())
		w := watch(t, d, by, ann, bert)
		w.require(t, "a Online 0..-", "b Online 0..-")
		for name, c := range map[string]struct{ gone, back func() error }{
			"hidden": {
				func() error { return d.SetPresenceHidden(ctx, sys, ann, true) },
				func() error { return d.SetPresenceHidden(ctx, sys, ann, false) },
			},
			"blocked": {
				func() error { _, err := d.BlockUser(ctx, sys, ann, denizen.Block{}); return err },
				func() error { _, err := d.UnblockUser(ctx, sys, ann); set(t, d, ann, denizen.Online()); return err },
			},
			"deleted": {
				func() error { return d.DeleteUser(ctx, sys, ann) },
				func() error { newUser(t, d, ann); set(t, d, ann, denizen.Online()); return nil },
			},
			"cleared": {
				func() error { return d.ClearAllPresence(ctx, sys, ann) },
				func() error { set(t, d, ann, denizen.Online()); return nil },
			},
			"refused": {
				func() error { refuses.Store(true); time.Sleep(time.Minute); return nil },
				func() error { refuses.Store(false); time.Sleep(time.Minute); return nil },
			},
		} {
			require.NoError(t, c.gone(), name)
			w.require(t, "a none -..-")
			late := watch(t, d, by, ann)
			late.require(t, "a none -..-")
			late.stop()
			since := time.Since(w.start).Seconds()
			require.NoError(t, c.back(), name)
			if name == "hidden" || name == "refused" {
				p, err := d.Presence(ctx, sys, ann)
				require.NoError(t, err)
				since = p.Since.Sub(w.start).Seconds()
			}
			w.require(t, fmt.Sprintf("a Online %v..-", since))
			time.Sleep(time.Second)
		}
		require.NoError(t, d.SetPresenceHidden(ctx, sys, bert, true))
		w.require(t) // it sees itself as it is
	})
}

func TestWatch_NothingIsShownInPassingOfWhoHides(t *testing.T) {
	overWatched(t, denizen.Options{MaySee: everybody}, func(t *testing.T, d *denizen.Directory) {
		by, err := d.ActAs(t.Context(), sys, bert)
		require.NoError(t, err)
		require.NoError(t, d.SetPresenceHidden(t.Context(), sys, ann, true))
		w, all := watch(t, d, by, ann), watch(t, d, sys, ann)
		w.require(t, "a none -..-")
		set(t, d, ann, denizen.Online(time.Second).Then(denizen.Away(time.Second)))
		time.Sleep(time.Minute)
		require.NoError(t, d.ClearAllPresence(t.Context(), sys, ann))
		set(t, d, ann, denizen.Online())
		w.require(t)
		synctest.Wait()
		require.Greater(t, len(all.told), 3)
		require.NoError(t, d.SetPresenceHidden(t.Context(), sys, ann, false))
		w.require(t, "a Online 60..-")
	})
}

func TestWatch_OnlyItsOwnEndEndsIt(t *testing.T) {
	ends := map[string]func(t *testing.T, d *denizen.Directory, token denizen.IssuedToken){
		"its token is revoked": func(t *testing.T, d *denizen.Directory, token denizen.IssuedToken) {
			require.NoError(t, d.RevokeTokens(t.Context(), sys, bert, token.ID))
		},
		"its user is blocked": func(t *testing.T, d *denizen.Directory, _ denizen.IssuedToken) {
			_, err := d.BlockUser(t.Context(), sys, bert, denizen.Block{})
			require.NoError(t, err)
		},
		"its user is deleted": func(t *testing.T, d *denizen.Directory, _ denizen.IssuedToken) {
			require.NoError(t, d.DeleteUser(t.Context(), sys, bert))
		},
		"its token expires": func(*testing.T, *denizen.Directory, denizen.IssuedToken) {
			time.Sleep(time.Hour)
		},
		"the directory is closed": func(t *testing.T, d *denizen.Directory, _ denizen.IssuedToken) {
			require.NoError(t, d.Close())
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			overWatched(t, denizen.Options{MaySee: everybody}, func(t *testing.T, d *denizen.Directory) {
				token := newToken(t, d, bert, denizen.TokenOptions{TTL: time.Hour})
				by, err := d.Authenticate(t.Context(), token.Signed)
				require.NoError(t, err)
				set(t, d, ann, denizen.Online())
				w := watch(t, d, by, ann)
				w.require(t, "a Online 0..-")
				require.NoError(t, d.DeleteUser(t.Context(), sys, ann))
				time.Sleep(2 * time.Minute)
				w.require(t, "a none -..-")
				end(t, d, token)
				kind := denizen.ErrRevoked
				if name == "the directory is closed" {
					kind = denizen.ErrClosed
				}
				w.requireEnd(t, kind)
			})
		})
	}
}

func TestWatch_EndsWithTheAccessKeyItRestsOn(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		key, err := d.CreateAccessKey(t.Context(), sys)
		require.NoError(t, err)
		by, err := d.AuthenticateKey(t.Context(), key.Key, key.Secret)
		require.NoError(t, err)
		w := watch(t, d, by, ann)
		w.require(t, "a none -..-")
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, key.Key))
		w.requireEnd(t, denizen.ErrRevoked)
	})
}

func TestWatch_ASlowReaderGetsTheLatestOfEachAndIsToldThatItMissedSome(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var told []string
		w := &watching{start: time.Now()}
		slow := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p, err := range d.WatchPresence(ctx, sys, []denizen.UserID{ann, bert}) {
				switch {
				case ctx.Err() != nil:
				case err != nil:
					require.ErrorIs(t, err, denizen.ErrMissed)
					told = append(told, "missed")
				default:
					told = append(told, w.spell(p))
				}
				if len(told) == 2 {
					<-slow
				}
			}
		}()
		synctest.Wait()
		for range 100 { // nobody waits for it
			set(t, d, ann, denizen.Online())
			set(t, d, bert, denizen.Away())
			set(t, d, ann, denizen.Sleeping())
			synctest.Wait()
		}
		close(slow)
		synctest.Wait()
		cancel()
		<-done
		require.Equal(t, []string{"a none -..-", "b none -..-", "missed", "a Sleeping 0..-", "b Away 0..-"}, told)
	})
}

func TestWatch_AUserMayHaveSixteenWatchesAndSystemAsManyAsThereIsRoomFor(t *testing.T) {
	overWatched(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		by, err := d.ActAs(t.Context(), sys, bert)
		require.NoError(t, err)
		for range 16 {
			watch(t, d, by, bert).require(t, "b none -..-")
			watch(t, d, sys, bert).require(t, "b none -..-")
		}
		last := watch(t, d, by, bert)
		last.requireEnd(t, denizen.ErrLimited)
		watch(t, d, sys, bert).require(t, "b none -..-")
	})
}

func TestWatch_MoreThanAThousandUsersAreRefused(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	many := make([]denizen.UserID, denizen.MaxWatched+1)
	for _, err := range d.WatchPresence(t.Context(), sys, many) {
		requireField(t, err, denizen.ErrInvalid, "users")
	}
	for _, err := range d.WatchPresence(t.Context(), sys, []denizen.UserID{"short"}) {
		requireField(t, err, denizen.ErrInvalid, "user")
	}
}

func TestWatch_PermissionIsAskedAtTheStartEachMinuteAndAfterABlock(t *testing.T) {
	var asked atomic.Int64
	o := denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		asked.Add(1)
		return true, nil
	}}
	overWatched(t, o, func(t *testing.T, d *denizen.Directory) {
		asked.Store(0)
		by, err := d.ActAs(t.Context(), sys, bert)
		require.NoError(t, err)
		w := watch(t, d, by, ann, bert, "cleo-001")
		w.require(t, "a none -..-", "b none -..-", "c none -..-")
		require.EqualValues(t, 2, asked.Load(), "not about itself")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.EqualValues(t, 22, asked.Load())
		_, err = d.BlockUser(t.Context(), sys, ann, denizen.Block{})
		require.NoError(t, err)
		_, err = d.UnblockUser(t.Context(), sys, ann)
		require.NoError(t, err)
		synctest.Wait()
		require.GreaterOrEqual(t, asked.Load(), int64(23))
	})
}

// A store whose reads fail for a while.
func TestWatch_WhatCannotBeReadIsToldOnceItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &unanswering{Store: shared{memory.New()}}
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, ann)
		set(t, d, ann, denizen.Online(10*time.Second).Then(denizen.Away()))
		w := watch(t, d, sys, ann)
		w.require(t, "a Online 0..10")
		s.fails.Store(true)
		time.Sleep(30 * time.Second)
		w.require(t)
		s.fails.Store(false)
		time.Sleep(3 * time.Second)
		w.require(t, "a Away 10..-")
		require.NoError(t, d.ClearAllPresence(t.Context(), sys, ann))
		w.require(t, "a none -..-")
	})
}

// unanswering is a store that is shared and fails.
type unanswering struct {
	store.Store
	fails atomic.Bool
}

func TestWatch_TheInvariantsHoldOfWhoHides(t *testing.T) {
	s := memory.New()
	d := newOver(t, shared{s}, denizen.Options{})
	newUser(t, d, ann)
	require.NoError(t, d.SetPresenceHidden(t.Context(), sys, ann, true))
	_, err := d.BlockUser(t.Context(), sys, ann, denizen.Block{})
	require.NoError(t, err)
	invariant.Check(t, s)
}

func (s *unanswering) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.fails.Load() {
		return nil, store.ErrUnavailable
	}
	return s.Store.Get(ctx, keys...)
}
