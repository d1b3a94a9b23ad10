package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

// idle is the chain that the product's page tells of.
var idle = denizen.Away(10 * time.Second).Then(denizen.State("Inactive", 10*time.Second)).Then(denizen.Offline())

// beat is a chain as an application sets it again and again.
var beat = denizen.Online(15 * time.Second).Then(denizen.Away(30 * time.Second)).Then(denizen.Offline())

// inCounted runs a test in virtual time over a store that the directory has for itself, and
// counts what it is asked.
func inCounted(t *testing.T, o denizen.Options, test func(t *testing.T, h *house, calls *counting)) {
	t.Helper()
	over := func(t *testing.T, s store.Store) {
		calls := &counting{Store: s}
		test(t, &house{newOver(t, &owned{calls, s.(store.Sole)}, o), s}, calls)
	}
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { over(t, memory.New()) })
	})
	t.Run("bolt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, err := bolt.Open(context.Background(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
			require.NoError(t, err)
			over(t, s)
		})
	})
}

// crashed opens a directory over what its store held when the program died.
func crashed(t testing.TB, h *house) *house {
	t.Helper()
	all := invariant.Of(t, h.store)
	s := memory.New()
	require.NoError(t, s.Load(context.Background(), each(all.Records), each(all.Feed.Changes), all.Feed.Head))
	return &house{newOver(t, s, denizen.Options{}), s}
}

func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (h *house) set(t testing.TB, user denizen.UserID, p denizen.Presence) {
	t.Helper()
	require.NoError(t, h.SetPresence(context.Background(), sys, user, p))
}

// requirePresence requires a user's presence to be want, since that long after the start of
// virtual time.
func requirePresence(t testing.TB, h *house, user denizen.UserID, want denizen.Presence, since time.Duration) {
	t.Helper()
	p, err := h.Presence(context.Background(), sys, user)
	require.NoError(t, err)
	require.Equal(t, user, p.User)
	require.Equal(t, want.State(), p.Presence.State())
	require.True(t, want.Equal(p.Presence), "%v is not %v", p.Presence, want)
	require.Equal(t, epoch.Add(since), p.Since)
	several, err := h.Presences(context.Background(), sys, []denizen.UserID{user})
	require.NoError(t, err)
	require.Equal(t, []denizen.UserPresence{p}, several)
}

// requireBeat requires a user's presence to be want, in its first state, the last heartbeat of
// which came that long after the start of virtual time.
func requireBeat(t testing.TB, h *house, user denizen.UserID, want denizen.Presence, last time.Duration) {
	t.Helper()
	p, err := h.Presence(context.Background(), sys, user)
	require.NoError(t, err)
	require.True(t, want.Equal(p.Presence), "%v is not %v", p.Presence, want)
	require.Equal(t, epoch.Add(last+want.TTL()), p.Until)
}

// rest returns what is left of a chain after n states.
func rest(p denizen.Presence, n int) denizen.Presence {
	for range n {
		p, _ = p.Next()
	}
	return p
}

func TestPresence_TenSecondsAwayTenInactiveThenOffline(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, idle)
		requirePresence(t, h, alice, idle, 0)
		time.Sleep(10*time.Second - ms)
		requirePresence(t, h, alice, idle, 0)
		time.Sleep(ms)
		requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
		time.Sleep(10*time.Second - ms)
		requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
		time.Sleep(ms)
		requirePresence(t, h, alice, denizen.Offline(), 20*time.Second)
		time.Sleep(100 * time.Hour)
		requirePresence(t, h, alice, denizen.Offline(), 20*time.Second)
	})
}

func TestPresence_AChainOfEveryDepthGoesThroughAllItsStates(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for depth := 1; depth <= 32; depth++ {
			id := denizen.UserID(fmt.Sprintf("depth-%02d", depth))
			h.create(t, id)
			chain := denizen.State("state 1", time.Second)
			for i := 2; i <= depth; i++ {
				chain = chain.Then(denizen.State(fmt.Sprint("state ", i), time.Second))
			}
			start := time.Since(epoch)
			h.set(t, id, chain)
			for i := range depth {
				requirePresence(t, h, id, rest(chain, i), start+time.Duration(i)*time.Second)
				time.Sleep(time.Second)
			}
			requirePresence(t, h, id, denizen.Presence{}, start+time.Duration(depth)*time.Second)
		}
	})
}

func TestPresence_AStateWithoutATimeStays(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Missing())
		time.Sleep(72 * time.Hour)
		requirePresence(t, h, alice, denizen.Missing(), 0)
	})
}

func TestPresence_APresenceThatRanOutTellsWhenItEnded(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Online(10*time.Second).Then(denizen.Away(5*time.Second)))
		time.Sleep(15*time.Second - ms)
		requirePresence(t, h, alice, denizen.Away(5*time.Second), 10*time.Second)
		time.Sleep(ms)
		requirePresence(t, h, alice, denizen.Presence{}, 15*time.Second)
		time.Sleep(time.Hour)
		requirePresence(t, h, alice, denizen.Presence{}, 15*time.Second)
	})
}

func TestPresence_APresenceNeverSetHasNoBeginning(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		p, err := h.Presence(t.Context(), h.as(t, alice), alice)
		require.NoError(t, err)
		require.Equal(t, denizen.UserPresence{User: alice}, p)
		require.True(t, p.Since.IsZero())
		_, found := p.Presence.Next()
		require.False(t, found)
		require.Zero(t, p.Presence.TTL())
	})
}

func TestPresence_APresenceThatIsNoneIsRefused(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Online())
		before := invariant.Of(t, h.store)
		deep := denizen.State("x", time.Second)
		for range 32 {
			deep = deep.Then(denizen.State("x", time.Second))
		}
		const longest = (1<<31 - 1) * time.Second
		for what, row := range map[string]struct {
			p     denizen.Presence
			field string
		}{
			"none":                       {denizen.Presence{}, "presence"},
			"33 states":                  {deep, "presence"},
			"no name":                    {denizen.State(""), "presence"},
			"a name of 129":              {denizen.State(strings.Repeat("x", 129)), "presence"},
			"a control in a name":        {denizen.State("On\tline"), "presence"},
			"no UTF-8":                   {denizen.State("\xff"), "presence"},
			"a time of zero":             {denizen.Online(0), "presence"},
			"a time below zero":          {denizen.Online(-time.Second), "presence"},
			"half a second":              {denizen.Online(time.Second / 2), "presence"},
			"a second and a half":        {denizen.Online(3 * time.Second / 2), "presence"},
			"two times":                  {denizen.Online(time.Second, time.Second), "presence"},
			"too long":                   {denizen.Online(longest + time.Second), "presence"},
			"too long together":          {denizen.Online(longest).Then(denizen.Away(time.Second)), "presence"},
			"more after a static one":    {denizen.Online().Then(denizen.Away()), "presence"},
			"a bad one further on":       {denizen.Online(time.Second).Then(denizen.State("")), "presence"},
			"a device's name of 65":      {denizen.Online().On(strings.Repeat("x", 65)), "device"},
			"a control in a device's":    {denizen.Online().On("a\nb"), "device"},
			"a device's that is no text": {denizen.Online().On("\xff"), "device"},
		} {
			requireField(t, h.SetPresence(t.Context(), sys, alice, row.p), denizen.ErrInvalid, row.field)
			require.Equal(t, before, invariant.Of(t, h.store), what)
		}
		h.set(t, alice, denizen.Online(longest).On(strings.Repeat("é", 64)))
		requireField(t, h.SetPresence(t.Context(), sys, bob, denizen.Online()), denizen.ErrNotFound, "user")
	})
}

func TestPresence_APresenceIsNeverChangedOnceMade(t *testing.T) {
	first := denizen.Online(time.Second)
	phone := first.On("phone")
	a, b := first.Then(denizen.Away()), first.Then(denizen.Offline())
	require.Equal(t, "", first.Device())
	require.Equal(t, "phone", phone.Device())
	require.True(t, first.Equal(denizen.Online(time.Second)))
	require.False(t, first.Equal(phone))
	next, found := a.Next()
	require.True(t, found)
	require.True(t, next.Equal(denizen.Away()))
	next, _ = b.Next()
	require.True(t, next.Equal(denizen.Offline()))
	long := a.Next
	require.Equal(t, time.Second, a.TTL())
	got, _ := long()
	require.Zero(t, got.TTL())
	require.Equal(t, "phone", rest(phone.Then(denizen.Away()), 1).Device(), "what follows is of the same device")
}

func TestPresence_TheStandardStatesHaveTheNamesOfTheContract(t *testing.T) {
	for name, p := range map[string]denizen.Presence{
		"mitter.up.Online": denizen.Online(), "mitter.up.Away": denizen.Away(), "mitter.up.Sleeping": denizen.Sleeping(),
		"mitter.up.Missing": denizen.Missing(), "mitter.up.Offline": denizen.Offline(),
	} {
		require.Equal(t, name, p.State())
	}
}

func TestPresence_AUserIsAsPresentAsItsBestDevice(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		desk, phone := denizen.Online(10*time.Second).Then(denizen.Offline()).On("desk"), denizen.Away().On("phone")
		h.set(t, alice, desk)
		time.Sleep(time.Second)
		h.set(t, alice, phone)
		requirePresence(t, h, alice, desk, 0)
		time.Sleep(9 * time.Second)
		requirePresence(t, h, alice, phone, time.Second)
		h.set(t, alice, denizen.State("Out to lunch"))
		requirePresence(t, h, alice, phone, time.Second)
		require.NoError(t, h.ClearPresence(t.Context(), sys, alice, "phone"))
		requirePresence(t, h, alice, rest(desk, 1), 10*time.Second)
	})
}

func TestPresence_OfDevicesEquallyPresentTheLaterAndThenTheFirstByNameIsRead(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Away().On("b"))
		h.set(t, alice, denizen.Away().On("c"))
		requirePresence(t, h, alice, denizen.Away().On("b"), 0)
		time.Sleep(ms)
		h.set(t, alice, denizen.Away().On("d"))
		requirePresence(t, h, alice, denizen.Away().On("d"), ms)
		h.set(t, alice, denizen.Away())
		requirePresence(t, h, alice, denizen.Away(), ms)
	})
}

func TestPresence_ASeventeenthDeviceTakesThePlaceOfTheOneLongestInItsLastState(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		for i := range 16 {
			h.set(t, alice, denizen.Away().On(fmt.Sprintf("device %02d", i)))
			time.Sleep(time.Second)
		}
		require.NoError(t, h.SetPresence(t.Context(), sys, alice, denizen.Online(time.Second).Then(denizen.Away()).On("one more")))
		requireField(t, h.ClearPresence(t.Context(), sys, alice, "device 00"), denizen.ErrNotFound, "device")
		require.NoError(t, h.ClearPresence(t.Context(), sys, alice, "one more"))
		require.NoError(t, h.ClearPresence(t.Context(), sys, alice, "device 01"))
		require.NoError(t, h.ClearPresence(t.Context(), sys, alice, "device 15"))
		requirePresence(t, h, alice, denizen.Away().On("device 14"), 14*time.Second)
	})
}

func TestPresence_ADeviceThatRanOutGoesWhenAnotherIsSet(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Online(time.Second).On("phone"))
		time.Sleep(time.Second)
		h.set(t, alice, denizen.Offline())
		requireField(t, h.ClearPresence(t.Context(), sys, alice, "phone"), denizen.ErrNotFound, "device")
	})
}

func TestPresence_PresencesAreInTheOrderAskedWithoutThoseWhoAreNotThere(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		h.set(t, bob, denizen.Online())
		ps, err := h.Presences(ctx, sys, []denizen.UserID{bob, alice, bob})
		require.NoError(t, err)
		require.Len(t, ps, 3)
		require.Equal(t, []denizen.UserID{bob, alice, bob}, []denizen.UserID{ps[0].User, ps[1].User, ps[2].User})
		require.Equal(t, ps[0], ps[2])
		require.Equal(t, denizen.UserPresence{User: alice}, ps[1])
		ps, err = h.Presences(ctx, sys, []denizen.UserID{"nobody-1", bob, "nobody-2", alice})
		require.NoError(t, err)
		require.Len(t, ps, 2)
		require.Equal(t, []denizen.UserID{bob, alice}, []denizen.UserID{ps[0].User, ps[1].User})
		ps, err = h.Presences(ctx, sys, []denizen.UserID{"nobody-1"})
		require.NoError(t, err)
		require.Equal(t, []denizen.UserPresence{}, ps)
		_, err = h.Presence(ctx, sys, "nobody-1")
		requireField(t, err, denizen.ErrNotFound, "user")
		_, err = h.Presences(ctx, sys, slices.Repeat([]denizen.UserID{alice}, denizen.MaxList+1))
		requireField(t, err, denizen.ErrInvalid, "users")
	})
}

func TestPresence_APeerSeesPresenceWhereTheHostLetsIt(t *testing.T) {
	only := func(_ context.Context, viewer, subject denizen.UserID, what denizen.Facet) (bool, error) {
		return viewer == bob && subject == alice && what == denizen.FacetPresence, nil
	}
	inHouses(t, denizen.Options{MaySee: only}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		h.set(t, alice, denizen.Away())
		for range 2 { // the second result is from the cache
			p, err := h.Presence(ctx, h.as(t, bob), alice)
			require.NoError(t, err)
			require.Equal(t, denizen.StateAway, p.Presence.State())
			_, err = h.Presence(ctx, h.as(t, alice), bob)
			require.ErrorIs(t, err, denizen.ErrDenied)
		}
		require.ErrorIs(t, h.SetPresence(ctx, h.as(t, bob), alice, denizen.Online()), denizen.ErrDenied)
		require.ErrorIs(t, h.ClearAllPresence(ctx, h.as(t, bob), alice), denizen.ErrDenied)
	})
}

func TestPresence_IsDurableOnReturn(t *testing.T) {
	inHouses(t, denizen.Options{HeartbeatInterval: time.Hour}, func(t *testing.T, h *house) {
		h.create(t, alice)
		for _, p := range []denizen.Presence{denizen.Online(), denizen.Away(), denizen.Online(), idle} {
			h.set(t, alice, p)
			requirePresence(t, crashed(t, h), alice, p, 0)
		}
	})
}

func TestPresence_APresenceGoesOnWhileTheDirectoryIsClosed(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		h := &house{Directory: open(denizen.Options{})}
		h.create(t, alice)
		h.set(t, alice, idle)
		time.Sleep(9 * time.Second)
		require.NoError(t, h.Close())
		time.Sleep(time.Second)
		h.Directory = open(denizen.Options{})
		requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
		time.Sleep(10*time.Second - ms)
		requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
		time.Sleep(ms)
		requirePresence(t, h, alice, denizen.Offline(), 20*time.Second)
	})
}

func TestPresence_AWallClockThatIsSetBackRevivesNoState(t *testing.T) {
	var wall, mono atomic.Int64 // the goroutines of the directory read them too
	wall.Store(epoch.UnixNano())
	pass := func(d time.Duration) {
		wall.Add(int64(d))
		mono.Add(int64(d))
	}
	ctx := clock.With(t.Context(), clock.New(func() (int64, int64) { return wall.Load(), mono.Load() }))
	s := memory.New()
	d, err := denizen.New(ctx, s, denizen.Options{})
	require.NoError(t, err)
	defer d.Close()
	h := &house{d, s}
	h.create(t, alice)
	h.set(t, alice, idle)
	pass(10 * time.Second)
	requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
	wall.Add(-int64(time.Hour))
	requirePresence(t, h, alice, rest(idle, 1), 10*time.Second)
	pass(10 * time.Second)
	requirePresence(t, h, alice, denizen.Offline(), 20*time.Second)
}

func TestPresence_IsCleared(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		require.NoError(t, h.ClearAllPresence(ctx, sys, alice), "all of none")
		requireField(t, h.ClearPresence(ctx, sys, alice, ""), denizen.ErrNotFound, "device")
		requireField(t, h.ClearAllPresence(ctx, sys, bob), denizen.ErrNotFound, "user")
		set := func() {
			h.set(t, alice, denizen.Online())
			h.set(t, alice, denizen.Away().On("phone"))
			h.set(t, alice, denizen.Sleeping().On("desk"))
		}
		none := func() {
			p, err := h.Presence(ctx, sys, alice)
			require.NoError(t, err)
			require.Equal(t, denizen.UserPresence{User: alice}, p)
			require.NotContains(t, of(t, h, denizen.User{ID: alice, InternalID: "-"}), "Devices")
		}
		set()
		after := head(t, h)
		require.NoError(t, h.ClearPresence(ctx, h.as(t, alice), alice, ""))
		requirePresence(t, h, alice, denizen.Away().On("phone"), 0)
		require.Equal(t, []denizen.EventKind{denizen.EventPresenceCleared}, eventKinds(t, h, after))
		before := invariant.Of(t, h.store)
		requireField(t, h.ClearPresence(ctx, sys, alice, "no such"), denizen.ErrNotFound, "device")
		require.Equal(t, before, invariant.Of(t, h.store))
		require.NoError(t, h.ClearPresence(ctx, sys, alice, "phone"))
		requirePresence(t, h, alice, denizen.Sleeping().On("desk"), 0)
		require.NoError(t, h.ClearPresence(ctx, sys, alice, "desk"))
		none()
		set()
		require.NoError(t, h.ClearAllPresence(ctx, sys, alice))
		none()
	})
}

func TestPresence_AChangeIsAnEventAndAHeartbeatIsNone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		began := time.Duration(0)
		for _, row := range []struct {
			what   string
			wait   time.Duration
			p      denizen.Presence
			change bool
		}{
			{"the first", 0, beat, true},
			{"the same at once", 0, beat, false},
			{"the same while its first state runs", 15*time.Second - ms, beat, false},
			{"the same just before the end of its first state", 15*time.Second - ms, beat, false},
			{"the same at the end of its first state", 15 * time.Second, beat, true},
			{"the same later", 16 * time.Second, beat, true},
			{"the same once it has run out to its last state", time.Hour, beat, true},
			{"another", 0, idle, true},
			{"the one before", 0, beat, true},
			{"a part of it", 0, rest(beat, 1), true},
			{"one that stays", 0, denizen.Online(), true},
			{"the same that stays, much later", 100 * time.Hour, denizen.Online(), false},
			{"the same on another device", 0, beat.On("phone"), true},
			{"the same there again", ms, beat.On("phone"), false},
		} {
			after := head(t, h)
			time.Sleep(row.wait)
			h.set(t, alice, row.p)
			start := time.Since(epoch)
			var want []denizen.EventKind
			if row.change && row.p.Device() == "" {
				began = start
			}
			if row.change {
				want = []denizen.EventKind{denizen.EventPresenceSet}
			}
			require.Equal(t, want, eventKinds(t, h, after), row.what)
			if row.p.Device() == "" {
				requirePresence(t, h, alice, row.p, began)
				if row.p.TTL() > 0 {
					requireBeat(t, h, alice, row.p, start)
				}
			}
		}
	})
}

func TestPresence_HeartbeatsAreStoredOnceInAFlush(t *testing.T) {
	inCounted(t, denizen.Options{}, func(t *testing.T, h *house, calls *counting) {
		h.create(t, alice)
		h.set(t, alice, beat)
		before := calls.commits.Load()
		time.Sleep(3 * time.Second)
		for range 100 {
			h.set(t, alice, beat)
			requireBeat(t, h, alice, beat, time.Since(epoch)) // what was written is read
			time.Sleep(ms)
		}
		time.Sleep(time.Second - 101*ms)
		require.Equal(t, before, calls.commits.Load(), "stored before the flush")
		time.Sleep(2 * ms)
		synctest.Wait()
		require.Equal(t, before+1, calls.commits.Load(), "not stored in one commit with the flush")
		requireBeat(t, crashed(t, h), alice, beat, 3*time.Second+99*ms)
		time.Sleep(14 * time.Second)
		synctest.Wait()
		require.Equal(t, before+1, calls.commits.Load(), "stored again")
		h.set(t, alice, beat)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, before+2, calls.commits.Load(), "the next flush")
		invariant.Check(t, h.store)
	})
}

// whileStored runs over a store that takes half a second to store heartbeats, 100 ms after it
// began to store one of Alice's.
func whileStored(t *testing.T, f func(t *testing.T, h *house, s *slow, calls *counting)) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := &slow{Store: inner, takes: func(b store.Batch) time.Duration {
			if b.Emit == nil {
				return 500 * ms
			}
			return 0
		}}
		calls := &counting{Store: s}
		h := &house{newOver(t, &owned{calls, inner}, denizen.Options{}), inner}
		h.create(t, alice)
		h.set(t, alice, beat)
		time.Sleep(5 * time.Second)
		h.set(t, alice, beat)
		time.Sleep(1100 * ms)
		require.EqualValues(t, 1, s.underWay.Load(), "they are being stored")
		f(t, h, s, calls)
	})
}

func TestPresence_AHeartbeatWaitsForNoHeartbeatsThatAreBeingStored(t *testing.T) {
	whileStored(t, func(t *testing.T, h *house, s *slow, calls *counting) {
		before, again := calls.calls(), time.Now()
		h.set(t, alice, beat)
		requireBeat(t, h, alice, beat, again.Sub(epoch))
		require.Zero(t, time.Since(again))
		require.EqualValues(t, 1, s.underWay.Load())
		require.Equal(t, before, calls.calls(), "a presence stays remembered while its heartbeats are stored")
		require.NoError(t, h.Close())
		after := &house{newOver(t, h.store, denizen.Options{}), h.store}
		requireBeat(t, after, alice, beat, again.Sub(epoch)) // it was stored with the next
	})
}

func TestPresence_WhatIsRememberedOnceHeartbeatsAreStoredIsWhatWasStored(t *testing.T) {
	whileStored(t, func(t *testing.T, h *house, _ *slow, calls *counting) {
		time.Sleep(time.Second)
		synctest.Wait()
		before := calls.commits.Load()
		h.set(t, alice, idle)
		require.Equal(t, before+1, calls.commits.Load(), "a change that rests on an older version is refused and tried again")
	})
}

func TestPresence_AChangeWhileHeartbeatsAreStoredStands(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, h *house){
		"another chain":  func(t *testing.T, h *house) { h.set(t, alice, idle) },
		"there and back": func(t *testing.T, h *house) { h.set(t, alice, idle); h.set(t, alice, beat) },
		"another device": func(t *testing.T, h *house) { h.set(t, alice, denizen.Offline().On("desk")) },
		"cleared":        func(t *testing.T, h *house) { require.NoError(t, h.ClearAllPresence(t.Context(), sys, alice)) },
		"deleted and there again": func(t *testing.T, h *house) {
			require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
			h.create(t, alice)
		},
	} {
		t.Run(what, func(t *testing.T) {
			whileStored(t, func(t *testing.T, h *house, _ *slow, _ *counting) {
				change(t, h)
				want, err := h.Presence(t.Context(), sys, alice)
				require.NoError(t, err)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				for _, in := range []*denizen.Directory{h.Directory, crashed(t, h).Directory} {
					got, err := in.Presence(t.Context(), sys, alice)
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
				invariant.Check(t, h.store)
			})
		})
	}
}

func TestPresence_HeartbeatsOfManyUsersAreStoredTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		calls := &counting{Store: inner}
		h := &house{newOver(t, &owned{calls, inner}, denizen.Options{}), inner}
		var ids []denizen.UserID
		for i := range 501 {
			id := denizen.UserID(fmt.Sprintf("user-%03d", i))
			ids = append(ids, id)
			h.create(t, id)
			h.set(t, id, beat)
		}
		time.Sleep(5 * time.Second)
		before := calls.commits.Load()
		for _, id := range ids {
			h.set(t, id, beat)
			h.set(t, id, beat)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, before+3, calls.commits.Load())
		dead := crashed(t, h)
		for _, id := range ids {
			requireBeat(t, dead, id, beat, 5*time.Second)
		}
	})
}

func TestPresence_ACrashLosesTheHeartbeatsOfTheLastFlushAlone(t *testing.T) {
	inCounted(t, denizen.Options{}, func(t *testing.T, h *house, _ *counting) {
		h.create(t, alice)
		h.set(t, alice, beat)
		time.Sleep(4 * time.Second)
		h.set(t, alice, beat)
		time.Sleep(4 * time.Second)
		h.set(t, alice, beat)
		requireBeat(t, h, alice, beat, 8*time.Second)
		dead := crashed(t, h)
		requireBeat(t, dead, alice, beat, 4*time.Second)
		time.Sleep(11 * time.Second)
		requirePresence(t, dead, alice, rest(beat, 1), 19*time.Second)
		requireBeat(t, h, alice, beat, 8*time.Second)
	})
}

func TestPresence_ClosingStoresTheHeartbeats(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		h := &house{Directory: open(denizen.Options{HeartbeatInterval: time.Hour})}
		h.create(t, alice)
		h.set(t, alice, beat)
		time.Sleep(5 * time.Second)
		h.set(t, alice, beat)
		require.NoError(t, h.Close())
		require.ErrorIs(t, h.SetPresence(t.Context(), sys, alice, beat), denizen.ErrClosed)
		_, err := h.Presence(t.Context(), sys, alice)
		require.ErrorIs(t, err, denizen.ErrClosed)
		h.Directory = open(denizen.Options{})
		requireBeat(t, h, alice, beat, 5*time.Second)
	})
}

func TestPresence_HeartbeatsOverASharedStoreAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{store: shared{memory.New()}}
		h.Directory = newOver(t, h.store, denizen.Options{HeartbeatInterval: time.Hour})
		h.create(t, alice)
		h.set(t, alice, beat)
		time.Sleep(5 * time.Second)
		h.set(t, alice, beat)
		requireBeat(t, crashed(t, h), alice, beat, 5*time.Second)
	})
}

func TestPresence_OverASharedStoreItIsSetByOneReadAndOneCommit(t *testing.T) {
	counted := &counting{Store: memory.New()}
	d := newOver(t, counted, denizen.Options{})
	create(t, d, alice)
	act, err := d.ActAs(t.Context(), sys, alice)
	require.NoError(t, err)
	for _, by := range []denizen.Principal{sys, act} {
		reads, commits := counted.reads.Load(), counted.commits.Load()
		require.NoError(t, d.SetPresence(t.Context(), by, alice, beat))
		require.EqualValues(t, 1, counted.reads.Load()-reads)
		require.EqualValues(t, 1, counted.commits.Load()-commits)
	}
}

// What a heartbeat rests on was read before others were there who end it.
func TestPresence_AHeartbeatOverASharedStoreIsJudgedAsItIsStored(t *testing.T) {
	for name, end := range map[string]func(d *denizen.Directory) error{
		"blocked": func(d *denizen.Directory) error {
			_, err := d.BlockUser(context.Background(), sys, alice, denizen.Block{})
			return err
		},
		"deleted": func(d *denizen.Directory) error { return d.DeleteUser(context.Background(), sys, alice) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &meddling{Store: memory.New()}
			d := newOver(t, s, denizen.Options{})
			create(t, d, alice)
			act, err := d.ActAs(t.Context(), sys, alice)
			require.NoError(t, err)
			require.NoError(t, d.SetPresence(t.Context(), act, alice, beat))
			meddle := func(b store.Batch) bool {
				if len(b.Put) == 0 || b.Put[0].Key != record.DevicesKey(string(alice)) {
					return false
				}
				require.NoError(t, end(d))
				return true
			}
			s.meddle.Store(&meddle)
			require.ErrorIs(t, d.SetPresence(t.Context(), act, alice, beat), denizen.ErrRevoked)
			records, err := s.Get(t.Context(), record.DevicesKey(string(alice)))
			require.NoError(t, err)
			require.Zero(t, records[0].Version)
		})
	}
}

func TestPresence_AHeartbeatKeepsAStateThatWouldHaveEnded(t *testing.T) {
	inHouses(t, denizen.Options{HeartbeatInterval: time.Hour}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, beat)
		after := head(t, h)
		for range 10 {
			time.Sleep(15*time.Second - ms)
			h.set(t, alice, beat)
		}
		last := 10 * (15*time.Second - ms)
		time.Sleep(15*time.Second - ms)
		requireBeat(t, h, alice, beat, last)
		requirePresence(t, h, alice, beat, 0)
		require.Empty(t, eventKinds(t, h, after))
		time.Sleep(ms)
		requirePresence(t, h, alice, rest(beat, 1), last+15*time.Second)
		h.set(t, alice, beat)
		require.Equal(t, []denizen.EventKind{denizen.EventPresenceSet}, eventKinds(t, h, after))
	})
}

func TestPresence_AHeartbeatNeverUndoesAChange(t *testing.T) {
	inCounted(t, denizen.Options{}, func(t *testing.T, h *house, _ *counting) {
		for _, change := range []struct {
			what string
			do   func()
			want denizen.Presence
		}{
			{"another chain", func() { h.set(t, alice, idle) }, idle},
			{"there and back", func() { h.set(t, alice, idle); h.set(t, alice, beat) }, beat},
			{"cleared", func() { require.NoError(t, h.ClearAllPresence(t.Context(), sys, alice)) }, denizen.Presence{}},
			{"cleared and set again", func() { require.NoError(t, h.ClearAllPresence(t.Context(), sys, alice)); h.set(t, alice, beat) }, beat},
		} {
			h.create(t, alice)
			h.set(t, alice, beat)
			time.Sleep(5 * time.Second)
			h.set(t, alice, beat)
			time.Sleep(100 * ms)
			change.do()
			want, err := h.Presence(t.Context(), sys, alice)
			require.NoError(t, err)
			require.True(t, change.want.Equal(want.Presence), change.what)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			got, err := h.Presence(t.Context(), sys, alice)
			require.NoError(t, err)
			require.Equal(t, want, got, change.what)
			got, err = crashed(t, h).Presence(t.Context(), sys, alice)
			require.NoError(t, err)
			require.Equal(t, want, got, change.what)
			require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		}
	})
}

func TestPresence_AChangeOfOneDeviceKeepsTheHeartbeatsOfOthers(t *testing.T) {
	inCounted(t, denizen.Options{HeartbeatInterval: time.Hour}, func(t *testing.T, h *house, _ *counting) {
		h.create(t, alice)
		h.set(t, alice, beat.On("phone"))
		time.Sleep(5 * time.Second)
		h.set(t, alice, beat.On("phone"))
		h.set(t, alice, denizen.Offline().On("desk"))
		requireBeat(t, h, alice, beat.On("phone"), 5*time.Second)
		requireBeat(t, crashed(t, h), alice, beat.On("phone"), 5*time.Second)
	})
}

func TestPresence_HeartbeatsOfABlockedOrDeletedUserAreRefused(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		by := h.as(t, alice)
		require.NoError(t, h.SetPresence(ctx, by, alice, beat))
		require.NoError(t, h.SetPresence(ctx, by, alice, beat))
		_, err := h.BlockUser(ctx, sys, alice, denizen.Block{})
		require.NoError(t, err)
		require.ErrorIs(t, h.SetPresence(ctx, by, alice, beat), denizen.ErrRevoked)
		_, err = h.Presence(ctx, by, alice)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		requireField(t, h.SetPresence(ctx, sys, alice, beat), denizen.ErrDenied, "user")
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		require.ErrorIs(t, h.SetPresence(ctx, by, alice, beat), denizen.ErrRevoked)
		requireField(t, h.SetPresence(ctx, sys, alice, beat), denizen.ErrNotFound, "user")
		h.create(t, alice)
		require.ErrorIs(t, h.SetPresence(ctx, by, alice, beat), denizen.ErrRevoked)
	})
}

func TestPresence_HeartbeatsOfManyGoroutinesAllCount(t *testing.T) {
	for _, open := range []func(testing.TB, denizen.Options) *denizen.Directory{newMemory, newBolt} {
		d := open(t, denizen.Options{HeartbeatInterval: ms})
		newUser(t, d, alice)
		ctx := t.Context()
		require.NoError(t, d.SetPresence(ctx, sys, alice, beat))
		var beating sync.WaitGroup
		for i := range 8 {
			beating.Go(func() {
				last := time.Time{}
				for n := range 100 {
					p := beat
					if i == 0 && n%10 == 0 {
						p = denizen.Away().On(fmt.Sprint("device ", n)) // a change of another
					}
					if err := d.SetPresence(ctx, sys, alice, p); err != nil {
						t.Error(err)
						return
					}
					got, err := d.Presence(ctx, sys, alice)
					if err != nil || !got.Presence.Equal(beat) || got.Until.Before(last) {
						t.Errorf("%v after %v: %v", got, last, err)
						return
					}
					last = got.Until
				}
			})
		}
		beating.Wait()
	}
}

func TestPresence_AStateBeganWhenItWasSetWhateverHeartbeatsCome(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, beat)
		for range 5 {
			time.Sleep(10 * time.Second)
			h.set(t, alice, beat)
			requirePresence(t, h, alice, beat, 0)
			requireBeat(t, h, alice, beat, time.Since(epoch))
			time.Sleep(2 * time.Second) // stored
			requirePresence(t, h, alice, beat, 0)
		}
		time.Sleep(13 * time.Second) // the first state ended; the last heartbeat came after 58 s
		requirePresence(t, h, alice, rest(beat, 1), 73*time.Second)
		p, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, epoch.Add(103*time.Second), p.Until)
		time.Sleep(30 * time.Second)
		p, err = h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.UserPresence{User: alice, Presence: denizen.Offline(), Since: epoch.Add(103 * time.Second)}, p, "it stays")
		h.set(t, alice, beat)
		requirePresence(t, h, alice, beat, time.Since(epoch))
	})
}

func TestPresence_WhatRanOutHasNoEndToCome(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, denizen.Online(time.Second))
		time.Sleep(time.Minute)
		p, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.UserPresence{User: alice, Since: epoch.Add(time.Second)}, p)
	})
}

func TestPresence_TwoDevicesThatBeatInTurnDoNotFlip(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		h.set(t, alice, beat.On("desk"))
		time.Sleep(time.Second)
		h.set(t, alice, beat.On("phone"))
		for range 4 {
			for _, device := range []string{"desk", "phone", "desk"} {
				time.Sleep(1500 * ms)
				h.set(t, alice, beat.On(device))
				requirePresence(t, h, alice, beat.On("phone"), time.Second)
			}
		}
	})
}

func TestPresence_DevicesAreListedWithWhatEachIsNow(t *testing.T) {
	inHouses(t, denizen.Options{HeartbeatInterval: time.Hour}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.Devices(ctx, sys, alice)
		requireField(t, err, denizen.ErrNotFound, "user")
		h.create(t, alice)
		h.create(t, bob)
		none, err := h.Devices(ctx, h.as(t, alice), alice)
		require.NoError(t, err)
		require.Equal(t, []denizen.UserPresence{}, none)

		h.set(t, alice, denizen.Online().On("lost phone"))
		h.set(t, alice, denizen.Missing(time.Second).On("watch"))
		h.set(t, alice, beat)
		time.Sleep(10 * time.Second)
		h.set(t, alice, beat)
		h.set(t, alice, denizen.Away(time.Second).Then(denizen.Sleeping(time.Minute)).On("desk"))
		time.Sleep(5 * time.Second)
		want := []denizen.UserPresence{
			{User: alice, Presence: beat, Since: epoch, Until: epoch.Add(25 * time.Second)},
			{User: alice, Presence: denizen.Sleeping(time.Minute).On("desk"), Since: epoch.Add(11 * time.Second), Until: epoch.Add(71 * time.Second)},
			{User: alice, Presence: denizen.Online().On("lost phone"), Since: epoch},
		}
		for _, by := range []denizen.Principal{sys, h.as(t, alice)} {
			for range 2 { // the second is remembered
				got, err := h.Devices(ctx, by, alice)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}
		_, err = h.Devices(ctx, h.as(t, bob), alice)
		require.ErrorIs(t, err, denizen.ErrDenied)

		require.NoError(t, h.ClearPresence(ctx, h.as(t, alice), alice, "lost phone"))
		got, err := h.Devices(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, want[:2], got)
		require.NoError(t, h.ClearAllPresence(ctx, h.as(t, alice), alice))
		got, err = h.Devices(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestPresence_ABlockEndsPresenceInItsOwnCommit(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		u := h.create(t, alice)
		h.set(t, alice, denizen.Online().On("phone"))
		h.set(t, alice, beat)
		time.Sleep(100 * ms)
		h.set(t, alice, beat) // not stored yet
		after := head(t, h)
		_, err := h.BlockUser(ctx, sys, alice, denizen.Block{})
		require.NoError(t, err)
		require.Equal(t, []denizen.EventKind{denizen.EventUserBlocked}, eventKinds(t, h, after))
		require.NotContains(t, of(t, h, u), "Devices")
		gone := func(h *house) {
			t.Helper()
			p, err := h.Presence(ctx, sys, alice)
			require.NoError(t, err)
			require.Equal(t, denizen.UserPresence{User: alice}, p)
			devices, err := h.Devices(ctx, sys, alice)
			require.NoError(t, err)
			require.Empty(t, devices)
		}
		gone(h)
		gone(crashed(t, h))
		for _, p := range []denizen.Presence{beat, denizen.Online().On("phone"), denizen.Away()} {
			requireField(t, h.SetPresence(ctx, sys, alice, p), denizen.ErrDenied, "user")
		}
		require.NoError(t, h.ClearAllPresence(ctx, sys, alice))
		time.Sleep(5 * time.Second) // heartbeats were stored
		gone(h)
		_, err = h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		gone(h)
		h.set(t, alice, beat)
		requirePresence(t, h, alice, beat, time.Since(epoch))
		invariant.Check(t, h.store)
	})
}

func TestPresence_ToAPeerABlockedUserIsAbsent(t *testing.T) {
	all := func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil }
	inHouses(t, denizen.Options{MaySee: all}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "city", VisibleTo: denizen.ToPeers})
		require.NoError(t, err)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "city", Value: "Bremen"})
		require.NoError(t, err)
		h.set(t, alice, denizen.Online())
		byBob := h.as(t, bob)
		reads := map[string]func(by denizen.Principal, id denizen.UserID) error{
			"User": func(by denizen.Principal, id denizen.UserID) error { _, err := h.User(ctx, by, id); return err },
			"UsersByID": func(by denizen.Principal, id denizen.UserID) error {
				_, err := h.UsersByID(ctx, by, []denizen.UserID{id})
				return err
			},
			"Presence": func(by denizen.Principal, id denizen.UserID) error { _, err := h.Presence(ctx, by, id); return err },
			"Profile":  func(by denizen.Principal, id denizen.UserID) error { _, err := h.Profile(ctx, by, id); return err },
			"Attributes": func(by denizen.Principal, id denizen.UserID) error {
				_, err := h.Attributes(ctx, by, id, []string{"city"})
				return err
			},
		}
		for range 2 { // the second time it was unblocked
			for what, read := range reads {
				require.NoError(t, read(byBob, alice), what)
			}
			_, err = h.BlockUser(ctx, sys, alice, denizen.Block{})
			require.NoError(t, err)
			for range 2 { // the second is remembered
				for what, read := range reads {
					require.Equal(t, unnamed(t, read(byBob, "nobody-1")), unnamed(t, read(byBob, alice)), what)
					require.NoError(t, read(sys, alice), what)
				}
				ps, err := h.Presences(ctx, byBob, []denizen.UserID{alice, bob})
				require.NoError(t, err)
				require.Equal(t, []denizen.UserPresence{{User: bob}}, ps)
				ps, err = h.Presences(ctx, sys, []denizen.UserID{alice, bob})
				require.NoError(t, err)
				require.Equal(t, []denizen.UserPresence{{User: alice}, {User: bob}}, ps)
			}
			_, err = h.UnblockUser(ctx, sys, alice)
			require.NoError(t, err)
		}
	})
}

// unnamed returns a refusal without the ids that were asked for, which the caller knows.
func unnamed(t *testing.T, err error) denizen.Error {
	t.Helper()
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok, err)
	refusal := *e
	refusal.Missing = nil
	return refusal
}

func TestPresence_TheDevicesOfAUserAreBoundedInBytes(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		chain := denizen.State(strings.Repeat("\U0001F600", 128), time.Second)
		for range 31 {
			chain = chain.Then(denizen.State(strings.Repeat("\U0001F600", 128), time.Second))
		}
		requireField(t, h.SetPresence(t.Context(), sys, alice, chain), denizen.ErrLimited, "presence")
		for i := range 16 {
			h.set(t, alice, denizen.State(strings.Repeat("\U0001F600", 90)).On(strconv.Itoa(i)))
		}
		before, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		requireField(t, h.SetPresence(t.Context(), sys, alice, chain.On("3")), denizen.ErrLimited, "presence")
		after, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, before, after, "a refused presence changes nothing")
	})
}

func TestPresence_EachRefusedTimeHasItsOwnReason(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		seen := map[string]bool{}
		for _, p := range []denizen.Presence{
			denizen.Online(0), denizen.Online(1500 * time.Millisecond), denizen.Online(time.Second, time.Second),
		} {
			e, ok := errors.AsType[*denizen.Error](h.SetPresence(t.Context(), sys, alice, p))
			require.True(t, ok)
			require.Equal(t, denizen.ErrInvalid, e.Kind)
			require.Equal(t, "presence", e.Field)
			require.False(t, seen[e.Reason], e.Reason)
			seen[e.Reason] = true
		}
	})
}

// Heartbeats are stored on what is there, whatever became of it since they were gathered.
func TestPresence_StoringHeartbeatsUndoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := &meddling{Store: inner}
		d := newOver(t, &owned{s, inner}, denizen.Options{})
		const user = "the-one-user"
		ctx, sys := t.Context(), denizen.System()
		create(t, d, user)
		phone, desk := denizen.Online(time.Hour).On("phone"), denizen.Online(time.Hour).On("desk")
		require.NoError(t, d.SetPresence(ctx, sys, user, phone))
		time.Sleep(time.Minute)
		require.NoError(t, d.SetPresence(ctx, sys, user, phone))
		beat := time.Now()
		stored := false
		meddle := func(b store.Batch) bool {
			if stored = b.Emit == nil; stored {
				assert.NoError(t, d.SetPresence(ctx, sys, user, desk))
			}
			return stored
		}
		s.meddle.Store(&meddle)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.True(t, stored)
		require.NoError(t, d.ClearPresence(ctx, sys, user, "desk"), "it was set while heartbeats were stored")
		require.NoError(t, d.Close())
		p, err := newOver(t, inner, denizen.Options{}).Presence(ctx, sys, user)
		require.NoError(t, err)
		require.Equal(t, beat.Add(time.Hour).UnixMilli(), p.Until.UnixMilli())
	})
}

// A heartbeat of one device is not lost to writes of another: as soon as it is acknowledged
// everybody sees it, and once it is flushed it is in the store.
func TestPresence_NoHeartbeatIsLostToAnotherDevice(t *testing.T) {
	inner := memory.New()
	d := newOver(t, inner, denizen.Options{HeartbeatInterval: time.Millisecond})
	const user = "the-one-user"
	ctx, sys := t.Context(), denizen.System()
	create(t, d, user)
	phone := denizen.Online(time.Hour).Then(denizen.Offline()).On("phone")
	require.NoError(t, d.SetPresence(ctx, sys, user, phone))
	var beaten atomic.Int64 // no later than the last heartbeat that was acknowledged
	var beats, writes atomic.Int64
	var u until
	u.loop(func() {
		now := time.Now().UnixMilli()
		assert.NoError(t, d.SetPresence(ctx, sys, user, phone))
		beaten.Store(now)
		beats.Add(1)
	})
	u.loop(func() {
		n := writes.Add(1)
		if n%8 == 0 {
			assert.NoError(t, d.ClearPresence(ctx, sys, user, "desk"))
			return
		}
		assert.NoError(t, d.SetPresence(ctx, sys, user, denizen.Away(time.Duration(1+n%7)*time.Hour).On("desk")))
	})
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline) && !t.Failed(); {
		least := beaten.Load()
		p, err := d.Presence(ctx, sys, user)
		assert.NoError(t, err)
		assert.Equal(t, "phone", p.Presence.Device())
		assert.GreaterOrEqual(t, p.Until.Add(-time.Hour).UnixMilli(), least, "a heartbeat was acknowledged and is not seen")
	}
	u.stop()
	require.NoError(t, d.Close())
	reopened := newOver(t, inner, denizen.Options{})
	p, err := reopened.Presence(ctx, sys, user)
	require.NoError(t, err)
	require.GreaterOrEqual(t, p.Until.Add(-time.Hour).UnixMilli(), beaten.Load(), "a heartbeat was flushed and is not stored")
	require.Greater(t, beats.Load(), int64(20))
	invariant.Check(t, inner)
}

func TestPresence_AHiddenUserIsToAPeerOneWithoutAPresence(t *testing.T) {
	inHouses(t, denizen.Options{MaySee: everybody}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		peer, own := h.as(t, bob), h.as(t, alice)
		seen := func(by denizen.Principal) denizen.UserPresence {
			t.Helper()
			var p denizen.UserPresence
			for range 2 { // the second is from the cache
				var err error
				p, err = h.Presence(ctx, by, alice)
				require.NoError(t, err)
				ps, err := h.Presences(ctx, by, []denizen.UserID{alice})
				require.NoError(t, err)
				require.Equal(t, []denizen.UserPresence{p}, ps)
			}
			return p
		}
		none := denizen.UserPresence{User: alice}
		require.NoError(t, h.SetPresenceHidden(ctx, own, alice, true))
		require.Equal(t, none, seen(peer))
		require.True(t, seen(own).Hidden)
		require.True(t, seen(sys).Hidden)
		h.set(t, alice, denizen.Online(time.Second))
		require.Equal(t, none, seen(peer))
		require.Equal(t, denizen.StateOnline, seen(own).Presence.State())
		time.Sleep(time.Minute)
		require.Equal(t, none, seen(peer), "not when it ended either")
		require.NoError(t, h.ClearAllPresence(ctx, own, alice))
		require.ErrorIs(t, h.ClearPresence(ctx, own, alice, ""), denizen.ErrNotFound)
		h.set(t, alice, denizen.Online())
		require.Equal(t, none, seen(peer), "it outlives clearing")
		_, err := h.BlockUser(ctx, sys, alice, denizen.Block{})
		require.NoError(t, err)
		_, err = h.Presence(ctx, peer, alice)
		require.ErrorIs(t, err, denizen.ErrNotFound)
		_, err = h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		h.set(t, alice, denizen.Online())
		require.Equal(t, none, seen(peer), "and a block")
		seq, err := h.Head(ctx, sys)
		require.NoError(t, err)
		require.NoError(t, h.SetPresenceHidden(ctx, sys, alice, true))
		require.Empty(t, eventsFrom(t, h.Directory, seq), "nothing changed")
		require.NoError(t, h.SetPresenceHidden(ctx, sys, alice, false))
		require.Equal(t, denizen.StateOnline, seen(peer).Presence.State())
		require.False(t, seen(own).Hidden)
		events := eventsFrom(t, h.Directory, seq)
		require.Len(t, events, 1)
		require.Equal(t, denizen.EventPresenceShown, events[0].Kind)
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}
