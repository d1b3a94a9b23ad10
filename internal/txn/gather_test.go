package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// slowly is a gatherer whose reads end when they are let go.
type slowly struct {
	gatherer
	begun chan []store.Key
	let   chan error
	under atomic.Int64
}

// getting is a store that only gets.
type getting struct {
	store.Store
	get func(ctx context.Context, keys ...store.Key) ([]store.Record, error)
}

func (s getting) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	return s.get(ctx, keys...)
}

func newSlowly() *slowly {
	s := &slowly{begun: make(chan []store.Key, 100), let: make(chan error)}
	s.store = getting{get: func(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
		s.under.Add(1)
		defer s.under.Add(-1)
		s.begun <- keys
		select {
		case err := <-s.let:
			records := make([]store.Record, len(keys))
			for i, key := range keys {
				records[i] = store.Record{Key: key, Version: 1}
			}
			return records, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	return s
}

// asked is a caller's read and its outcome.
type asked struct {
	keys    []store.Key
	records []store.Record
	err     error
	end     context.CancelFunc
	done    chan struct{}
}

func (s *slowly) ask(t *testing.T, keys ...store.Key) *asked {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	a := &asked{keys: keys, end: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.records, a.err = s.read(ctx, keys)
	}()
	synctest.Wait()
	return a
}

func (a *asked) requireRecords(t *testing.T) {
	t.Helper()
	<-a.done
	require.NoError(t, a.err)
	require.Len(t, a.records, len(a.keys))
	for i, key := range a.keys {
		require.Equal(t, key, a.records[i].Key)
	}
}

// busy returns a gatherer that reads for two callers, and them.
func busy(t *testing.T) (*slowly, []*asked) {
	s := newSlowly()
	first := []*asked{s.ask(t, "a"), s.ask(t, "b")}
	require.Equal(t, []store.Key{"a"}, <-s.begun, "who is alone waits for nothing")
	require.Equal(t, []store.Key{"b"}, <-s.begun)
	return s, first
}

func TestWhoComesWhileReadsAreUnderWaySharesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first := busy(t)
		later := []*asked{s.ask(t, "c", "x"), s.ask(t, "d", "x"), s.ask(t, "x", "c"), s.ask(t, "e")}
		require.Empty(t, s.begun)
		s.let <- nil
		require.Equal(t, []store.Key{"c", "x", "d", "e"}, <-s.begun, "each key once")
		s.let <- nil
		s.let <- nil
		for _, a := range append(first, later...) {
			a.requireRecords(t)
		}
		require.Empty(t, s.begun)
		again := s.ask(t, "f")
		s.let <- nil
		again.requireRecords(t)
		synctest.Wait()
		require.Zero(t, s.gatherer.under, "no goroutine is left")
	})
}

func TestASharedReadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := busy(t)
		for i := range maxReadKeys {
			s.ask(t, store.Key(fmt.Sprintf("k%d", i)), "shared")
		}
		s.let <- nil
		require.LessOrEqual(t, len(<-s.begun), maxReadKeys)
		s.let <- nil
		require.NotEmpty(t, <-s.begun)
		s.let <- nil
		s.let <- nil
	})
}

func TestTheContextOfOneCallerDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first := busy(t)
		waits, stays := s.ask(t, "c"), s.ask(t, "d")
		waits.end()
		<-waits.done
		require.ErrorIs(t, waits.err, context.Canceled)
		s.let <- nil
		<-s.begun
		late := s.ask(t, "e")
		late.end()
		<-late.done
		require.ErrorIs(t, late.err, context.Canceled)
		s.let <- nil
		s.let <- nil
		stays.requireRecords(t)
		for _, a := range first {
			a.requireRecords(t)
		}
		synctest.Wait()
		require.Empty(t, s.begun, "nobody waits for what the late one wanted")
	})
}

func TestTheLastWhoLeavesEndsTheRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first := busy(t)
		first[0].end()
		<-first[0].done
		require.EqualValues(t, 1, s.under.Load())
		next := s.ask(t, "c")
		require.Equal(t, []store.Key{"c"}, <-s.begun)
		s.let <- nil
		s.let <- nil
		first[1].requireRecords(t)
		next.requireRecords(t)
	})
}

func TestAnErrorAndAPanicOfASharedReadReachAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, first := busy(t)
		broken := errors.New("broken")
		later := []*asked{s.ask(t, "c"), s.ask(t, "d")}
		s.let <- nil
		<-s.begun
		s.let <- broken // of either of two reads
		s.let <- broken
		failed := 0
		for _, a := range append(first, later...) {
			<-a.done
			if a.err != nil {
				require.ErrorIs(t, a.err, broken)
				failed++
			}
		}
		require.Equal(t, 3, failed)
	})
	g := gatherer{store: getting{get: func(context.Context, ...store.Key) ([]store.Record, error) { panic("of the store") }}}
	for range 2 * maxReads {
		require.PanicsWithValue(t, "of the store", func() { _, _ = g.read(t.Context(), []store.Key{"a"}) })
	}
}

// What is gathered is as new as the call, whoever shares it: callers write a number, and read it or
// a later one.
func TestWhatIsGatheredIsNotOlderThanTheCall(t *testing.T) {
	s := memory.New()
	defer func() { require.NoError(t, s.Close()) }()
	db := New(s, 0)
	const people = 4
	var newest [people]atomic.Uint64
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range 300 {
				i := random.IntN(people)
				key := record.UserKey(fmt.Sprintf("user-%04d", i))
				if random.IntN(4) == 0 {
					seq, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
						tx.Put(key, user(fmt.Sprintf("user-%04d", i)))
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					for {
						known := newest[i].Load()
						if known >= uint64(seq) || newest[i].CompareAndSwap(known, uint64(seq)) {
							break
						}
					}
					continue
				}
				ctx := t.Context()
				if random.IntN(8) == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(50))*time.Microsecond)
					defer cancel()
				}
				known := newest[i].Load()
				records, err := db.shared.read(ctx, []store.Key{record.DevicesKey("nobody-1"), key})
				switch {
				case err != nil && ctx.Err() == nil:
					t.Error(err)
				case err == nil && (records[1].Key != key || uint64(records[1].Version) < known):
					t.Errorf("version %d of %q, and %d was there before", records[1].Version, records[1].Key, known)
				}
			}
		})
	}
	all.Wait()
}

func TestWhatIsGatheredIsAConditionAndReadAnewAfterAConflict(t *testing.T) {
	s := &hooked{Store: memory.New()}
	db := New(s, 0)
	key := record.UserKey("alice-01")
	put(t, db, key, user("alice-01"))
	tries := 0
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tries++
		require.NoError(t, tx.Gather(key, key, record.DevicesKey("alice-01")))
		if tries == 1 {
			s.other(t, key, &record.User{ID: "alice-01", ScreenName: "Another"})
		}
		s.got = nil
		entries, err := tx.Read(key)
		require.NoError(t, err)
		require.Empty(t, s.got, "it is not read again")
		require.Equal(t, tries == 2, entries[0].Value().(*record.User).ScreenName == "Another")
		_, err = tx.Read(record.UserKey("bob-0001"))
		require.NoError(t, err)
		require.NotEmpty(t, s.got, "what was not gathered is read")
		tx.Put(key, user("alice-01"))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, tries)
	require.Len(t, s.committed[len(s.committed)-1].If, 2)
}

func TestWhereRecordsAreRememberedNothingIsGathered(t *testing.T) {
	db, s := newDB(t)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		require.NoError(t, tx.Gather(record.UserKey("alice-01")))
		return errNothing
	})
	require.ErrorIs(t, err, errNothing)
	require.Empty(t, s.got)
}
