package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// hooked is a store that calls back before it is asked and after it was.
type hooked struct {
	*memory.Store
	got       []store.Key
	committed []store.Batch
	beforeGet func()
	afterGet  func([]store.Record) []store.Record
	commit    func(store.Batch) (store.Seq, error) // in place of the store's; nil: the store's
	beforeRun func()
	afterRun  func()
}

func (s *hooked) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	s.got = append(s.got, keys...)
	once(&s.beforeGet)
	records, err := s.Store.Get(ctx, keys...)
	if s.afterGet != nil {
		records = s.afterGet(records)
	}
	return records, err
}

func (s *hooked) Commit(ctx context.Context, b store.Batch) (seq store.Seq, err error) {
	b.If, b.Put, b.Drop = slices.Clone(b.If), slices.Clone(b.Put), slices.Clone(b.Drop)
	s.committed = append(s.committed, b)
	once(&s.beforeRun)
	if s.commit != nil {
		return s.commit(b)
	}
	seq, err = s.Store.Commit(ctx, b)
	once(&s.afterRun)
	return seq, err
}

// once calls a hook that is there, and not again: what it calls comes by here too.
func once(hook *func()) {
	if h := *hook; h != nil {
		*hook = nil
		h()
	}
}

func newDB(t *testing.T) (*DB, *hooked) {
	t.Helper()
	s := &hooked{Store: memory.New()}
	t.Cleanup(func() { _ = s.Close() })
	return New(s, usualBytes), s
}

func user(id string, locators ...string) *record.User {
	u := &record.User{ID: id, Incarnation: "1", ScreenName: "Somebody"}
	for _, l := range locators {
		u.Locators = append(u.Locators, record.Locator{Type: "email", Canonical: l, Owned: true})
	}
	return u
}

func put(t *testing.T, db *DB, key store.Key, r record.Record) {
	t.Helper()
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tx.Put(key, r)
		return nil
	})
	require.NoError(t, err)
}

// other writes past a DB's cache and conditions.
func (s *hooked) other(t *testing.T, key store.Key, r record.Record) {
	t.Helper()
	_, err := s.Store.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key, Value: record.Encode(r)}}})
	require.NoError(t, err)
}

func read1(t *testing.T, db *DB, key store.Key) *Entry {
	t.Helper()
	entries, err := db.Read(t.Context(), key)
	require.NoError(t, err)
	return entries[0]
}

func TestWhatWasReadIsACondition(t *testing.T) {
	for name, bytes := range map[string]int64{"remembered": usualBytes, "not remembered": 0} {
		t.Run(name, func(t *testing.T) {
			s := &hooked{Store: memory.New()}
			db := New(s, bytes)
			put(t, db, record.UserKey("alice-01"), user("alice-01"))
			put(t, db, record.UserKey("carol-01"), user("carol-01"))
			tries := 0
			_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
				tries++
				entries, err := tx.Read(record.UserKey("alice-01"), record.UserKey("bob-0001"), record.UserKey("carol-01"))
				require.NoError(t, err)
				require.Equal(t, tries > 1, tx.Retrying())
				u := *entries[0].Value().(*record.User)
				switch tries {
				case 1:
					s.other(t, record.UserKey("alice-01"), &record.User{ID: "alice-01", ScreenName: "Another"})
				case 2:
					require.Equal(t, "Another", u.ScreenName, "nothing is taken from the cache")
					s.other(t, record.UserKey("bob-0001"), user("bob-0001"))
				case 3:
					require.NotNil(t, entries[1].Value())
				}
				// Who is not put is not forgotten by the tries, and is asked for all the same.
				require.Equal(t, bytes == 0 || tries > 1, slices.Contains(s.got, record.UserKey("carol-01")))
				s.got = nil
				u.ScreenName += "!"
				tx.Put(record.UserKey("alice-01"), &u)
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, 3, tries)
			require.Equal(t, "Another!", read1(t, db, record.UserKey("alice-01")).Value().(*record.User).ScreenName)
		})
	}
}

func TestThatSomethingIsAbsentIsACondition(t *testing.T) {
	for name, absent := range map[string]func(*Tx){
		"a key":    func(tx *Tx) { tx.Absent(record.UserKey("alice-01")) },
		"a prefix": func(tx *Tx) { tx.AbsentUnder(record.UserKey("alice")) },
	} {
		db, s := newDB(t)
		s.other(t, record.UserKey("alice-01"), user("alice-01"))
		tries := 0
		refused := errors.New("refused")
		_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
			if tries++; tx.Retrying() {
				return refused
			}
			absent(tx)
			tx.Put(record.UserKey("bob-0001"), user("bob-0001"))
			return nil
		})
		require.Equal(t, refused, err, name)
		require.Equal(t, 2, tries, name)
	}
}

// The first look counts: a second one may have seen what a conflict is to be about.
func TestTheFirstConditionOnAKeyCounts(t *testing.T) {
	for _, keys := range []int{1, 31, 32, 33, 100} {
		tx := new(Tx)
		tx.reset(false)
		key := func(i int) store.Key { return record.UserKey(fmt.Sprintf("user-%03d", i)) }
		tx.AbsentUnder(key(0))
		for range 3 {
			for i := range keys {
				tx.require(store.Cond{Key: key(i), Version: store.Seq(len(tx.batch.If))})
			}
		}
		require.Len(t, tx.batch.If, keys+1)
		for i := range keys {
			require.Equal(t, store.Cond{Key: key(i), Version: store.Seq(i + 1)}, tx.batch.If[i+1])
		}
	}
}

func TestATryStartsWithNothingOfTheOneBefore(t *testing.T) {
	db, s := newDB(t)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		if !tx.Retrying() {
			_, err := tx.Read(record.UserKey("alice-01"))
			require.NoError(t, err)
			for i := range 40 {
				tx.Absent(record.UserKey(fmt.Sprint(i)))
			}
			tx.Put(record.UserKey("carol-01"), user("carol-01"))
			tx.Drop(record.UserKey("dave-001"))
			tx.Emit(&record.Event{What: "something"})
			tx.Urgent()
			tx.keepsCached = true
			s.other(t, record.UserKey("alice-01"), user("alice-01"))
			return nil
		}
		require.Nil(t, tx.known)
		require.False(t, tx.keepsCached)
		tx.Put(record.UserKey("bob-0001"), user("bob-0001"))
		return nil
	})
	require.NoError(t, err)
	last := s.committed[len(s.committed)-1]
	require.Len(t, last.Put, 1)
	last.Put = nil
	require.Equal(t, store.Batch{}, store.Batch{Emit: last.Emit, Trim: last.Trim, Urgent: last.Urgent})
	require.Empty(t, last.If)
	require.Empty(t, last.Drop)
}

func TestAWriteIsGivenUpAfterManyConflicts(t *testing.T) {
	db, s := newDB(t)
	s.commit = func(b store.Batch) (store.Seq, error) { return 0, &store.Conflict{Failed: b.If} }
	tries := 0
	_, err := db.Write(t.Context(), Queue{Key: "q", Room: 1}, func(tx *Tx) error {
		tries++
		tx.Drop("k")
		return nil
	})
	require.Equal(t, ErrContended, err)
	require.ErrorIs(t, err, store.ErrConflict)
	require.Equal(t, maxTries, tries)
	require.Empty(t, db.queues.byKey)
}

func TestWhatIsDamagedSinceItWasRememberedIsReadAgainOnce(t *testing.T) {
	db, s := newDB(t)
	put(t, db, record.UserKey("alice-01"), user("alice-01"))
	s.afterGet = func(records []store.Record) []store.Record {
		for i := range records {
			records[i] = store.Record{Key: records[i].Key, Damaged: true}
		}
		return records
	}
	s.commit = func(store.Batch) (store.Seq, error) { return 0, store.ErrCorrupt }
	tries := 0
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tries++
		entries, err := tx.Read(record.UserKey("alice-01"))
		require.NoError(t, err)
		require.Equal(t, tries == 2, entries[0].Damaged())
		require.Equal(t, tries == 2, tx.Retrying())
		tx.Drop(record.UserKey("alice-01"))
		return nil
	})
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.Equal(t, 2, tries)
	last := s.committed[len(s.committed)-1]
	require.Equal(t, []store.Cond{{Key: record.UserKey("alice-01"), Damaged: true}}, last.If)
}

// A record that the store can read and this program cannot has a version that means something.
func TestAnUnreadableRecordIsAConditionByItsVersion(t *testing.T) {
	db, s := newDB(t)
	key := record.UserKey("alice-01")
	seq, err := s.Store.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key, Value: []byte(`{"kind":"owner"}`)}}})
	require.NoError(t, err)
	_, err = db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		entries, err := tx.Read(key)
		require.NoError(t, err)
		require.True(t, entries[0].Damaged())
		require.Nil(t, entries[0].Value())
		require.True(t, entries[0].Stale(), "it is not remembered")
		tx.Drop(key)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []store.Cond{{Key: key, Version: seq}}, s.committed[0].If)
}

func TestAnErrorOfDecideEndsTheWriteAsItIs(t *testing.T) {
	db, s := newDB(t)
	refused := errors.New("refused")
	_, err := db.Write(t.Context(), Queue{}, func(*Tx) error { return refused })
	require.Equal(t, refused, err)
	require.Empty(t, s.committed)
}

func TestAWriterWithoutAQueueWaitsForNobody(t *testing.T) {
	db, s := newDB(t)
	leave, err := db.queues.enter(t.Context(), Queue{})
	require.NoError(t, err)
	defer leave()
	s.commit = func(b store.Batch) (store.Seq, error) {
		s.commit = nil
		return 0, &store.Conflict{}
	}
	put(t, db, record.UserKey("alice-01"), user("alice-01"))
}

func TestWritersQueueAfterAConflictAndWhileOthersDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := newDB(t)
		in := Queue{Key: record.UserKey("alice-01"), Room: 8}
		leave, err := db.queues.enter(t.Context(), in)
		require.NoError(t, err)
		var mu sync.Mutex
		decided, done := 0, 0
		write := func() {
			_, err := db.Write(t.Context(), in, func(tx *Tx) error {
				mu.Lock()
				decided++
				mu.Unlock()
				if tx.Retrying() && !db.queues.busy(in.Key) {
					panic("others do not queue while it has its turn")
				}
				tx.Put(record.UserKey("alice-01"), user("alice-01"))
				return nil
			})
			mu.Lock()
			done++
			mu.Unlock()
			if err != nil {
				panic(err)
			}
		}
		go write()
		synctest.Wait()
		require.Zero(t, decided, "others wait already")
		leave()
		synctest.Wait()
		require.Equal(t, 1, done)

		var held func()
		s.commit = func(b store.Batch) (store.Seq, error) {
			s.commit = nil
			held, err = db.queues.enter(t.Context(), in)
			require.NoError(t, err)
			return 0, &store.Conflict{}
		}
		go write()
		synctest.Wait()
		require.Equal(t, 2, decided)
		require.Equal(t, 1, done, "it waits after its conflict")
		held()
		synctest.Wait()
		require.Equal(t, 3, decided)
		require.Equal(t, 2, done)

		s.commit = func(b store.Batch) (store.Seq, error) {
			s.commit = nil
			return 0, &store.Conflict{}
		}
		write()
		require.Equal(t, 5, decided, "it has its turn at once where nobody waits")
		require.Empty(t, db.queues.byKey)
	})
}

func TestWhatIsWrittenIsRememberedByItsOutcome(t *testing.T) {
	key := record.UserKey("alice-01")
	for name, outcome := range map[string]struct {
		err        error
		panics     bool
		remembered bool
	}{
		"applied":     {remembered: true},
		"unknown":     {err: store.ErrOutcomeUnknown},
		"not applied": {err: store.ErrUnavailable},
		"a panic":     {panics: true},
	} {
		t.Run(name, func(t *testing.T) {
			db, s := newDB(t)
			put(t, db, key, user("alice-01"))
			before := db.PeekUser("alice-01")
			s.commit = func(b store.Batch) (store.Seq, error) {
				require.True(t, before.Stale(), "it is forgotten before the write")
				require.Nil(t, db.PeekUser("alice-01"))
				require.True(t, read1(t, db, key).Stale(), "nor remembered during it")
				s.commit = nil
				if outcome.panics {
					panic("the store")
				}
				if outcome.err != nil {
					return 5, outcome.err
				}
				return s.Store.Commit(t.Context(), b)
			}
			write := func() {
				_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
					tx.Put(key, &record.User{ID: "alice-01", ScreenName: "Another"})
					return nil
				})
				require.ErrorIs(t, err, outcome.err)
			}
			if outcome.panics {
				require.Panics(t, write)
			} else {
				write()
			}
			after := db.PeekUser("alice-01")
			require.Equal(t, outcome.remembered, after != nil)
			if after != nil {
				require.Equal(t, "Another", after.Value().(*record.User).ScreenName)
			}
			require.False(t, read1(t, db, key).Stale(), "it is remembered again")
			for i := range db.cache.shards {
				require.Empty(t, db.cache.shards[i].writing)
			}
		})
	}
}

// What was read before a write ended may be from before the write.
func TestWhatAWriteOvertookIsNotRemembered(t *testing.T) {
	db, s := newDB(t)
	key := record.UserKey("alice-01")
	s.other(t, key, user("alice-01"))
	s.afterGet = func(records []store.Record) []store.Record {
		s.afterGet = nil
		put(t, db, key, &record.User{ID: "alice-01", ScreenName: "Another"})
		return records
	}
	require.True(t, read1(t, db, key).Stale())
	require.Equal(t, "Another", db.PeekUser("alice-01").Value().(*record.User).ScreenName)
}

func TestOfTwoWritesAtOnceNeitherIsRemembered(t *testing.T) {
	db, s := newDB(t)
	key := record.UserKey("alice-01")
	s.beforeRun = func() { put(t, db, key, &record.User{ID: "alice-01", ScreenName: "Another"}) }
	put(t, db, key, user("alice-01"))
	require.Nil(t, db.PeekUser("alice-01"))
}

func TestADBWithoutACacheRemembersNothing(t *testing.T) {
	s := &hooked{Store: memory.New()}
	db := New(s, 0)
	require.False(t, db.Caching())
	put(t, db, record.UserKey("alice-01"), user("alice-01"))
	devices := aliceOnline()
	put(t, db, record.DevicesKey("alice-01"), devices)
	require.Nil(t, db.PeekUser("alice-01"))
	e := read1(t, db, record.DevicesKey("alice-01"))
	require.True(t, e.Stale())
	require.False(t, db.Beat(e, "", devices.Devices[0].Chain, 2))
	require.True(t, db.BeatsStored())
}

func TestUserOfLeadsToTheUserAndToNobodyElse(t *testing.T) {
	db, _ := newDB(t)
	put(t, db, record.UserKey("alice-01"), user("alice-01", "alice@example.org"))
	put(t, db, record.DevicesKey("alice-01"), aliceOnline())
	owner := func(locator string) *Entry {
		put(t, db, record.OwnerKey(locator), &record.Owner{Locator: locator, User: "alice-01", Incarnation: "1"})
		return db.PeekOwner(locator)
	}
	owns, left := owner("email:alice@example.org"), owner("email:left@example.org")
	alice, devices := db.PeekUser("alice-01"), db.PeekDevices("alice-01")
	for range 2 {
		require.Same(t, alice, db.UserOf(alice))
		require.Same(t, alice, db.UserOf(devices))
		require.Same(t, alice, db.UserOf(owns))
		require.Nil(t, db.UserOf(left), "a key that nobody's user names")
	}
	put(t, db, record.UserKey("alice-01"), user("alice-01", "left@example.org"))
	require.Nil(t, devices.user.Load(), "who is forgotten is not held in memory")
	require.NotSame(t, alice, db.UserOf(devices))
	require.Nil(t, db.UserOf(owns), "the user is looked at again")
	require.NotNil(t, db.UserOf(left))
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tx.Drop(record.UserKey("alice-01"))
		return nil
	})
	require.NoError(t, err)
	require.Nil(t, db.UserOf(devices))
}

// Who authenticates never waits for who stores heartbeats.
func TestOnlyPresencesMeetHeartbeats(t *testing.T) {
	db, _ := newDB(t)
	db.beats, db.cache.beats, db.cache.slots.beats = nil, nil, nil // whoever asked them would panic
	var digest [32]byte
	for key, r := range map[store.Key]record.Record{
		record.UserKey("alice-01"):           user("alice-01"),
		record.TokenTextKey(digest):          &record.TokenText{User: "alice-01"},
		record.AccessKeysKey:                 &record.AccessKeys{},
		record.TokensKey("alice-01"):         &record.Tokens{User: "alice-01"},
		record.OwnerKey("email:a@b.example"): &record.Owner{User: "alice-01"},
	} {
		read1(t, db, key)
		put(t, db, key, r)
		require.Equal(t, r, read1(t, db, key).Value())
	}
	require.Panics(t, func() { read1(t, db, record.DevicesKey("alice-01")) })
}

// aliceOnline is a presence of two devices, which has no slot.
func aliceOnline() *record.Devices {
	chain := presence.Chain{{State: presence.Online}}
	return &record.Devices{User: "alice-01", Incarnation: "1", Devices: []presence.Device{
		{Start: 1, Beat: 1, Chain: chain}, {Name: "tablet", Start: 1, Beat: 1, Chain: chain},
	}}
}
