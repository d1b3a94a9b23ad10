package denizen_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// rewound is a shared store that can be put back to where it was, as by a restored backup.
type rewound struct {
	mu    sync.Mutex // guards the rest
	now   *memory.Store
	saved *memory.Store
	went  chan struct{} // closed when the store goes back
	calls int           // of Changes and Wait
	spins bool          // Wait says ErrMissed whatever it is asked
}

func newRewound() *rewound { return &rewound{now: memory.New(), went: make(chan struct{})} }

func (s *rewound) inner() (*memory.Store, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.went
}

func (s *rewound) save(t *testing.T) {
	inner, _ := s.inner()
	saved := memory.New()
	require.NoError(t, store.Copy(t.Context(), saved, inner))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = saved
}

func (s *rewound) back() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.saved
	close(s.went)
	s.went = make(chan struct{})
}

func (s *rewound) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	inner, _ := s.inner()
	return inner.Get(ctx, keys...)
}

func (s *rewound) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	inner, _ := s.inner()
	return inner.List(ctx, r)
}

func (s *rewound) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	inner, _ := s.inner()
	return inner.Commit(ctx, b)
}

func (s *rewound) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	inner, _ := s.inner()
	feed, err := inner.Changes(ctx, after, limit)
	if err == nil && after != store.End && after > feed.Head {
		return store.Feed{First: feed.First, Head: feed.Head}, store.ErrMissed
	}
	return feed, err
}

func (s *rewound) Wait(ctx context.Context, after store.Seq) error {
	inner, went := s.inner()
	feed, err := inner.Changes(ctx, store.End, 1)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.calls++
	spins := s.spins
	s.mu.Unlock()
	if after > feed.Head || spins {
		return store.ErrMissed
	}
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-went:
			cancel()
		case <-until.Done():
		}
	}()
	if err = inner.Wait(until, after); err != nil && ctx.Err() == nil {
		return store.ErrMissed
	}
	return err
}

func (s *rewound) called() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *rewound) Load(ctx context.Context, rs iter.Seq2[store.Record, error], cs iter.Seq2[store.Change, error], head store.Seq) error {
	return store.ErrNotEmpty
}

func (s *rewound) Close() error { return nil }

func TestRewind_AStoreThatWentBackEndsWhatIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := newRewound()
		one, two := newOver(t, s, denizen.Options{}), newOver(t, s, denizen.Options{MaxRevocationDelay: time.Hour})
		newUser(t, one, "alice-user")
		stays := newToken(t, one, "alice-user", denizen.TokenOptions{TTL: 240 * time.Hour})
		requireCount(t, one, 1)
		s.save(t)
		newUser(t, one, "bob-user")
		gone := newToken(t, one, "bob-user", denizen.TokenOptions{})
		other := newToken(t, one, "alice-user", denizen.TokenOptions{})
		requireCount(t, one, 2)
		for range 2 {
			require.NoError(t, authenticated(t, two, gone.Signed))
			require.NoError(t, authenticated(t, two, other.Signed))
			synctest.Wait()
		}
		head := eventsAfter(t, one, 0)
		last := head[len(head)-1]
		consumer := waiting(ctx, one, sys, last.Cursor)
		requireWaiting(t, consumer)

		s.back()
		synctest.Wait() // no time passes
		require.Equal(t, denizen.ErrRevoked, authenticated(t, two, gone.Signed))
		require.Equal(t, denizen.ErrRevoked, authenticated(t, two, other.Signed))
		require.NoError(t, authenticated(t, two, stays.Signed))
		requireCount(t, one, 1)
		require.NoError(t, <-consumer, "the consumer is not woken")
		var missed error
		for _, err := range one.Events(ctx, sys, last.Cursor) {
			missed = err
		}
		e := new(denizen.Error)
		require.ErrorAs(t, missed, &e)
		require.ErrorIs(t, missed, denizen.ErrMissed)
		require.Equal(t, headOf(t, one), e.Resume)
		require.NotEqual(t, last.Cursor, e.Resume)
		// What comes on the new history is followed.
		newUser(t, one, "carol-user")
		requireCount(t, one, 2)
		require.NoError(t, one.RevokeAllTokens(ctx, sys, "alice-user"))
		synctest.Wait()
		require.Equal(t, denizen.ErrRevoked, authenticated(t, two, stays.Signed))
		require.Less(t, s.called(), 100, "a loop spins")
		require.NoError(t, two.Health(ctx, sys))
	})
}

func TestRewind_AWaitThatAlwaysMissesDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{MaxRevocationDelay: time.Minute})
		newUser(t, d, "alice-user")
		token := newToken(t, d, "alice-user", denizen.TokenOptions{})
		s.mu.Lock()
		s.spins = true
		s.mu.Unlock()
		require.NoError(t, authenticated(t, d, token.Signed))
		time.Sleep(time.Hour)
		require.Less(t, s.called(), 1000)
	})
}

func TestRewind_AFeedThatWentBackIsStillTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{FeedMaxEvents: 100})
		fill := func(n int) {
			for range n {
				_, err := s.Commit(t.Context(), store.Batch{Emit: []byte(`{"kind":"event","at":946684800000,"what":"profile.changed"}`)})
				require.NoError(t, err)
			}
		}
		newUser(t, d, "alice-user")
		fill(50)
		time.Sleep(2 * time.Minute)
		s.save(t)
		fill(500)
		time.Sleep(2 * time.Minute)
		s.back()
		time.Sleep(2 * time.Minute)
		fill(300)
		time.Sleep(2 * time.Minute)
		inner, _ := s.inner()
		feed, err := inner.Changes(t.Context(), store.End, 1)
		require.NoError(t, err)
		require.InDelta(t, 100, int(feed.Head-feed.First), 20)
		require.Less(t, s.called(), 200, "a loop spins")
		require.NoError(t, d.Health(t.Context(), sys))
	})
}

func TestRewind_AStoreThatWentBackKeepsNoKeyRingThatWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := newRewound()
		one, two := newOver(t, s, denizen.Options{}), newOver(t, s, denizen.Options{})
		s.save(t)
		require.NoError(t, one.RotateSigningKey(ctx, sys, 0))
		lost, err := one.PublicKeys(ctx)
		require.NoError(t, err)
		s.back()
		require.NoError(t, two.RotateSigningKey(ctx, sys, 0)) // at the same version
		want, err := two.PublicKeys(ctx)
		require.NoError(t, err)
		got, err := one.PublicKeys(ctx)
		require.NoError(t, err)
		require.Equal(t, want.IDs(), got.IDs())
		require.NotEqual(t, lost.IDs(), got.IDs())
	})
}

// A watch whose store went back while others wrote on at once, past where the feed had been read.
func TestRewind_AWatchNoticesThatTheHistoryWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, ann)
		newUser(t, d, bert)
		by, err := d.Authenticate(t.Context(), newToken(t, d, bert, denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
		w, of, own := watch(t, d, sys, ann), watch(t, d, sys, bert), watch(t, d, by, bert)
		w.require(t, "a none -..-")
		of.require(t, "b none -..-")
		own.require(t, "b none -..-")
		s.save(t)
		set(t, d, ann, denizen.Online())
		w.require(t, "a Online 0..-")

		other := newOver(t, s.saved, denizen.Options{})
		require.NoError(t, other.RevokeAllTokens(t.Context(), sys, bert))
		for range 3 {
			set(t, other, bert, denizen.Away())
			set(t, other, bert, denizen.Online())
		}
		s.back()
		w.require(t, "a none -..-")
		of.require(t, "missed", "b Online 0..-")
		own.requireEnd(t, denizen.ErrRevoked)
		set(t, d, ann, denizen.Away())
		w.require(t, "a Away 0..-")
	})
}

func TestRewind_AWatchDoesNotSpinOverAWaitThatAlwaysMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, ann)
		w := watch(t, d, sys, ann)
		w.require(t, "a none -..-")
		s.mu.Lock()
		s.spins = true
		s.mu.Unlock()
		set(t, d, ann, denizen.Online())
		time.Sleep(time.Minute)
		w.require(t, "a Online 0..-")
		require.Less(t, s.called(), 1000)
	})
}
