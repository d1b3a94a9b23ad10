package denizen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// collector is a consumer that remembers what it was given.
type collector struct {
	mu      sync.Mutex
	batches [][]denizen.Event
	fail    func() error // nil: never
}

func (c *collector) handle(_ context.Context, batch []denizen.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches = append(c.batches, batch)
	if c.fail != nil {
		return c.fail()
	}
	return nil
}

func (c *collector) events() []denizen.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Concat(c.batches...)
}

func (c *collector) tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.batches)
}

// notifying runs Notify until it is stopped, which returns its error.
func notifying(d *denizen.Directory, name string, handle func(context.Context, []denizen.Event) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	outcome := make(chan error, 1)
	go func() { outcome <- d.Notify(ctx, sys, name, handle) }()
	return func() error {
		cancel()
		return <-outcome
	}
}

func requireStopped(t testing.TB, err error) {
	t.Helper()
	requireRefused(t, err, "Notify", denizen.ErrUnavailable, "")
	require.ErrorIs(t, err, context.Canceled)
}

// consumer returns the only consumer there is.
func consumer(t testing.TB, d *denizen.Directory) denizen.Consumer {
	t.Helper()
	list, err := d.Consumers(context.Background(), sys)
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func TestNotify_DeliversInOrderAndGoesOnWhereItWas(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		fillFeed(t, d, 600)
		var c collector
		for i := range 3 {
			stop := notifying(d, "indexer", c.handle)
			synctest.Wait()
			newUser(t, d, denizen.UserID(fmt.Sprintf("late-user-%d", i)))
			synctest.Wait()
			requireStopped(t, stop())
		}
		require.Equal(t, eventsAfter(t, d, 0), c.events())
		require.Equal(t, headOf(t, d), consumer(t, d).Cursor)
		for _, batch := range c.batches {
			require.LessOrEqual(t, len(batch), 256)
		}
		require.Len(t, c.batches, 3+3)
	})
}

func TestNotify_ABatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := newOver(t, s, denizen.Options{})
		long := record.Event{What: "of a later version", Subjects: []string{string(bytes.Repeat([]byte("x"), 100<<10))}}
		for range 10 {
			_, err := s.Commit(t.Context(), store.Batch{Emit: record.Encode(&long)})
			require.NoError(t, err)
		}
		var c collector
		stop := notifying(d, "indexer", c.handle)
		synctest.Wait()
		requireStopped(t, stop())
		require.Len(t, c.events(), 11)
		for _, batch := range c.batches {
			require.LessOrEqual(t, len(batch), 3)
		}
	})
}

func TestNotify_WhileNothingIsDeliveredNothingIsWritten(t *testing.T) {
	for _, kind := range []string{"sole", "shared"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &batches{Store: memory.New()}
				var over store.Store = s
				if kind == "shared" {
					over = shared{s}
				}
				d := newOver(t, over, denizen.Options{})
				var c collector
				stop := notifying(d, "indexer", c.handle)
				synctest.Wait()
				require.Len(t, c.events(), 1)
				s.start()
				time.Sleep(time.Hour)
				s.mu.Lock()
				require.Zero(t, s.commits)
				s.mu.Unlock()
				newUser(t, d, "alice-user")
				synctest.Wait()
				s.mu.Lock()
				require.Equal(t, 2, s.commits, "the user and the cursor")
				s.mu.Unlock()
				requireStopped(t, stop())
			})
		})
	}
}

func TestNotify_AFailingBatchIsTriedAgainAndToldToBeStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, open := range []func(testing.TB, denizen.Options) *denizen.Directory{newMemory, newShared} {
			var log bytes.Buffer
			d := open(t, denizen.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			fillFeed(t, d, 5)
			var broken atomic.Bool
			broken.Store(true)
			c := collector{fail: func() error {
				if broken.Load() {
					return errors.New("the index is down")
				}
				return nil
			}}
			stop := notifying(d, "indexer", c.handle)
			time.Sleep(100 * time.Second)
			require.Equal(t, 7, c.tries(), "after 1, 2, 4, 8, 16, 32 seconds")
			require.NotContains(t, log.String(), "stuck")
			newUser(t, d, "late-user")
			time.Sleep(30 * time.Second)
			require.Equal(t, 8, c.tries())
			for _, batch := range c.batches {
				require.Equal(t, c.batches[0], batch, "it is the same batch")
			}
			stuck := consumer(t, d)
			require.Equal(t, c.batches[0][4].Cursor, stuck.Stuck)
			require.WithinDuration(t, time.Now(), stuck.Since, 10*time.Second)
			require.Contains(t, log.String(), "stuck")
			require.Contains(t, log.String(), "indexer")
			// The host skips it.
			require.NoError(t, d.ResetConsumer(t.Context(), sys, "indexer", stuck.Stuck))
			broken.Store(false)
			time.Sleep(time.Minute)
			events := c.events()
			require.Equal(t, denizen.UserID("late-user"), events[len(events)-2].User)
			require.Equal(t, denizen.EventConsumerReset, events[len(events)-1].Kind)
			require.Empty(t, consumer(t, d).Stuck)
			requireStopped(t, stop())
		}
	})
}

func TestNotify_WhoComesTooLateIsToldAsSuchAndGoesOn(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		all := fillFeed(t, d, 5)
		var c collector
		requireStopped(t, func() error {
			stop := notifying(d, "indexer", c.handle)
			synctest.Wait()
			return stop()
		}())
		newUser(t, d, "forgotten-user")
		newUser(t, d, "newest-user")
		require.NoError(t, d.TrimFeed(t.Context(), sys, all[4].Seq+2))
		head := headOf(t, d)
		c = collector{}
		fails := 2
		c.fail = func() error { fails--; return map[bool]error{true: errors.New("cannot read the state now")}[fails > 0] }
		stop := notifying(d, "indexer", c.handle)
		time.Sleep(time.Minute)
		newUser(t, d, "later-user")
		synctest.Wait()
		requireStopped(t, stop())
		require.Len(t, c.batches, 3)
		for _, batch := range c.batches[:2] {
			require.Len(t, batch, 1)
			require.Equal(t, denizen.EventMissed, batch[0].Kind)
			require.Equal(t, head, batch[0].Cursor)
			require.Zero(t, batch[0].Seq)
		}
		require.Equal(t, denizen.UserID("later-user"), c.batches[2][0].User)
	})
}

func TestNotify_OneOfANameRunsInADirectory(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		var c collector
		stop := notifying(d, "indexer", c.handle)
		other := notifying(d, "mailer", c.handle)
		synctest.Wait()
		requireRefused(t, d.Notify(t.Context(), sys, "indexer", c.handle), "Notify", denizen.ErrTaken, "name")
		requireStopped(t, stop())
		requireStopped(t, other())
		stop = notifying(d, "indexer", c.handle)
		synctest.Wait()
		requireStopped(t, stop())
	})
}

func TestNotify_ANameHasARule(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for _, name := range []string{"", "two words", "a/b", string(bytes.Repeat([]byte("x"), 73))} {
		requireRefused(t, d.Notify(t.Context(), sys, name, nil), "Notify", denizen.ErrInvalid, "name")
		requireRefused(t, d.ResetConsumer(t.Context(), sys, name, ""), "ResetConsumer", denizen.ErrInvalid, "name")
		requireRefused(t, d.DeleteConsumer(t.Context(), sys, name), "DeleteConsumer", denizen.ErrInvalid, "name")
	}
}

// dying is one process's way to a shared store, which can be cut.
type dying struct {
	store.Store
	dead atomic.Bool
}

var errDead = fmt.Errorf("%w: the process is gone", store.ErrUnavailable)

func (s *dying) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.dead.Load() {
		return nil, errDead
	}
	return s.Store.Get(ctx, keys...)
}

func (s *dying) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if s.dead.Load() {
		return store.Feed{}, errDead
	}
	return s.Store.Changes(ctx, after, limit)
}

func (s *dying) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.dead.Load() {
		return 0, errDead
	}
	return s.Store.Commit(ctx, b)
}

// newProcesses makes directories over one shared store.
func newProcesses(t testing.TB, n int) (ds []*denizen.Directory, ways []*dying) {
	s := memory.New()
	for range n {
		way := &dying{Store: shared{s}}
		ds, ways = append(ds, newOver(t, way, denizen.Options{})), append(ways, way)
	}
	return ds, ways
}

func TestNotify_AnotherTakesOverHalfAMinuteAfterADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds, ways := newProcesses(t, 2)
		var one, two collector
		stopOne := notifying(ds[0], "indexer", one.handle)
		synctest.Wait()
		stopTwo := notifying(ds[1], "indexer", two.handle)
		time.Sleep(time.Hour)
		newUser(t, ds[1], "alice-user")
		time.Sleep(time.Hour)
		require.Len(t, one.events(), 2, "who lives keeps delivering")
		require.Empty(t, two.events())
		ways[0].dead.Store(true)
		requireRefused(t, func() error { newUser(t, ds[1], "bob-user"); return stopOne() }(), "Notify", denizen.ErrUnavailable, "")
		time.Sleep(29 * time.Second)
		require.Empty(t, two.events())
		time.Sleep(7 * time.Second)
		require.Len(t, two.events(), 1)
		require.Equal(t, denizen.UserID("bob-user"), two.events()[0].User)
		requireStopped(t, stopTwo())
	})
}

func TestNotify_AnotherTakesOverAtOnceAfterAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds, _ := newProcesses(t, 2)
		var one, two collector
		stopOne := notifying(ds[0], "indexer", one.handle)
		synctest.Wait()
		stopTwo := notifying(ds[1], "indexer", two.handle)
		synctest.Wait()
		requireStopped(t, stopOne())
		newUser(t, ds[1], "bob-user")
		synctest.Wait()
		require.Len(t, two.events(), 1)
		requireStopped(t, stopTwo())
	})
}

func TestNotify_WhoWorksLongKeepsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds, _ := newProcesses(t, 2)
		var two collector
		slow := 0
		stopOne := notifying(ds[0], "indexer", func(ctx context.Context, _ []denizen.Event) error {
			slow++
			select {
			case <-time.After(10 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		synctest.Wait()
		stopTwo := notifying(ds[1], "indexer", two.handle)
		time.Sleep(time.Hour)
		require.Equal(t, 1, slow)
		require.Empty(t, two.events())
		requireStopped(t, stopOne())
		requireStopped(t, stopTwo())
	})
}

func TestNotify_WhoWasPausedCannotPutTheCursorBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds, ways := newProcesses(t, 2)
		fillFeed(t, ds[0], 3)
		goOn := make(chan struct{})
		ended := false
		stopOne := notifying(ds[0], "indexer", func(ctx context.Context, _ []denizen.Event) error {
			<-goOn
			ended = ctx.Err() != nil
			return nil
		})
		synctest.Wait()
		var two collector
		stopTwo := notifying(ds[1], "indexer", two.handle)
		ways[0].dead.Store(true) // it is not scheduled
		time.Sleep(time.Minute)
		require.Len(t, two.events(), 3)
		newUser(t, ds[1], "bob-user")
		synctest.Wait()
		before := consumer(t, ds[1])
		ways[0].dead.Store(false)
		time.Sleep(11 * time.Second) // it learns that it was replaced
		close(goOn)
		synctest.Wait()
		require.True(t, ended)
		require.Equal(t, before, consumer(t, ds[1]))
		require.Len(t, two.events(), 4)
		requireStopped(t, stopTwo())
		requireStopped(t, stopOne())
	})
}

func TestNotify_ProcessesThatDieAtRandomMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		writer := newOver(t, shared{s}, denizen.Options{})
		r := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex // guards the following
		fails := rand.New(rand.NewPCG(3, 4))
		got := map[denizen.Seq]int{}
		latest := denizen.Seq(0) // handled in order, but for what is handled again
		start := func() (*dying, func() error) {
			way := &dying{Store: shared{s}}
			d := newOver(t, way, denizen.Options{})
			return way, notifying(d, "indexer", func(ctx context.Context, batch []denizen.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for i, e := range batch {
					require.True(t, i == 0 || e.Seq > batch[i-1].Seq)
					require.True(t, e.Seq <= latest || len(eventsBetween(t, writer, latest, e.Seq)) == 0, "a gap")
					got[e.Seq]++
					latest = max(latest, e.Seq)
				}
				if fails.IntN(5) == 0 {
					return errors.New("some failure")
				}
				return nil
			})
		}
		kills := 0
		way, stop := start()
		spare, stopSpare := start()
		for i := range 600 {
			newUser(t, writer, denizen.UserID(fmt.Sprintf("user-%06d", i)))
			switch r.IntN(3) {
			case 0:
				way.dead.Store(true)
				if r.IntN(2) == 0 {
					newUser(t, writer, denizen.UserID(fmt.Sprintf("other-%06d", i)))
				}
				_ = stop()
				way, stop, spare, stopSpare = spare, stopSpare, nil, nil
				spare, stopSpare = start()
				kills++
			case 1:
				time.Sleep(time.Duration(r.IntN(40)) * time.Second)
			}
		}
		require.Greater(t, kills, 150)
		time.Sleep(10 * time.Minute)
		mu.Lock()
		for _, e := range eventsAfter(t, writer, 0) {
			require.Positive(t, got[e.Seq], "%d is missed", e.Seq)
		}
		mu.Unlock()
		requireStopped(t, stop())
		requireStopped(t, stopSpare())
	})
}

// eventsBetween returns the events between two, without these.
func eventsBetween(t testing.TB, d *denizen.Directory, from, to denizen.Seq) (between []denizen.Event) {
	for _, e := range eventsAfter(t, d, from) {
		if e.Seq < to {
			between = append(between, e)
		}
	}
	return between
}

func TestNotify_EndsWithTheDirectoryAndWithItsAccessKey(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		var c collector
		key := newKey(t, d)
		outcome := make(chan error, 2)
		go func() { outcome <- d.Notify(t.Context(), byKey(t, d, key.Key, key.Secret), "one", c.handle) }()
		go func() { outcome <- d.Notify(t.Context(), sys, "two", c.handle) }()
		synctest.Wait()
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, key.Key))
		requireRefused(t, <-outcome, "Notify", denizen.ErrRevoked, "")
		require.NoError(t, d.Close())
		requireRefused(t, <-outcome, "Notify", denizen.ErrClosed, "")
	})
}

func TestNotify_WhatWasHandledAsItEndedIsNotHandledAgain(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		fillFeed(t, d, 3)
		ctx, cancel := context.WithCancel(t.Context())
		requireStopped(t, d.Notify(ctx, sys, "indexer", func(context.Context, []denizen.Event) error {
			cancel()
			return nil
		}))
		require.Equal(t, headOf(t, d), consumer(t, d).Cursor)
	})
}

func TestNotify_AStoreThatFailsEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds, ways := newProcesses(t, 1)
		var c collector
		c.fail = func() error { ways[0].dead.Store(true); return nil }
		requireRefused(t, ds[0].Notify(t.Context(), sys, "indexer", c.handle), "Notify", denizen.ErrUnavailable, "")
		ways[0].dead.Store(false)
		c.fail = nil
		stop := notifying(ds[0], "indexer", c.handle)
		time.Sleep(time.Minute)
		requireStopped(t, stop())
		require.Len(t, c.batches, 2)
		require.Equal(t, c.batches[0], c.batches[1], "it is handled again")
	})
}
