package txn

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

const alice = "alice-01"

var aliceKey = record.DevicesKey(alice)

// online returns a DB in which alice is online since 1.
func online(t *testing.T) (*DB, *hooked) {
	t.Helper()
	db, s := newDB(t)
	put(t, db, aliceKey, aliceOnline())
	return db, s
}

func beat(t *testing.T, db *DB, now int64) {
	t.Helper()
	e := read1(t, db, aliceKey)
	require.True(t, db.Beat(e, "", e.Value().(*record.Devices).Devices[0].Chain, now))
}

// beatOf returns when alice was last heard of, for who has read an entry.
func beatOf(e *Entry) int64 {
	return e.Pending().Apply(e.Value().(*record.Devices))[0].Beat
}

func storeBeats(t *testing.T, db *DB) {
	t.Helper()
	damaged, err := db.StoreBeats(t.Context())
	require.NoError(t, err)
	require.Empty(t, damaged)
}

func stored(t *testing.T, s *hooked, key store.Key) *record.Devices {
	t.Helper()
	records, err := s.Store.Get(t.Context(), key)
	require.NoError(t, err)
	value, err := record.Decode(key, records[0].Value)
	require.NoError(t, err)
	return value.(*record.Devices)
}

func TestAHeartbeatIsSeenAtOnceAndStoredLater(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	<-db.BeatsBegan()
	require.False(t, db.BeatsStored())
	require.Equal(t, int64(9), beatOf(db.PeekDevices(alice)))
	require.Equal(t, int64(1), stored(t, s, aliceKey).Devices[0].Beat)
	storeBeats(t, db)
	require.True(t, db.BeatsStored())
	require.Equal(t, int64(9), stored(t, s, aliceKey).Devices[0].Beat)
	require.Equal(t, int64(9), beatOf(db.PeekDevices(alice)))
	beat(t, db, 11)
	require.Equal(t, int64(11), beatOf(db.PeekDevices(alice)))
}

func TestOnlyTheChainThatIsSetIsAHeartbeat(t *testing.T) {
	db, _ := online(t)
	e := db.PeekDevices(alice)
	require.False(t, db.Beat(e, "phone", aliceOnline().Devices[0].Chain, 9), "another device")
	require.False(t, db.Beat(e, "", presence.Chain{{State: presence.Away}}, 9), "another chain")
	put(t, db, aliceKey, &record.Devices{User: alice, Incarnation: "1", Devices: []presence.Device{
		{Start: 1, Chain: presence.Chain{{State: presence.Online, Seconds: 1}, {State: presence.Away}}},
	}})
	e = read1(t, db, aliceKey)
	require.False(t, db.Beat(e, "", e.Value().(*record.Devices).Devices[0].Chain, 2000), "its first state has ended")
	require.True(t, db.Beat(e, "", e.Value().(*record.Devices).Devices[0].Chain, 1000))
	put(t, db, record.UserKey(alice), user(alice))
	require.False(t, db.Beat(db.PeekUser(alice), "", nil, 9), "no presence")
}

// Whoever is not remembered may be another user of the same id by now.
func TestAHeartbeatOfWhoIsNotRememberedIsNotKept(t *testing.T) {
	db, _ := online(t)
	before := db.PeekDevices(alice)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tx.Drop(aliceKey)
		return nil
	})
	require.NoError(t, err)
	chain := aliceOnline().Devices[0].Chain
	require.False(t, db.Beat(before, "", chain, 9))
	another := aliceOnline()
	another.Incarnation = "2"
	put(t, db, aliceKey, another)
	require.False(t, db.Beat(before, "", chain, 9))
	require.True(t, db.BeatsStored())
}

// Heartbeats that came while others were stored are kept anew. Who read the record meanwhile, and is
// not remembered, may know them before the entry that is remembered does.
func TestAHeartbeatThroughAnEntryThatIsNotRememberedIsKnownToTheOneThatIs(t *testing.T) {
	db, _ := online(t)
	beat(t, db, 9)
	remembered := db.PeekDevices(alice)
	before := db.beats.Of(alice)
	taken := before.Take()
	beat(t, db, 10)
	db.beats.Stored(before, taken)
	read := &Entry{version: remembered.version, value: remembered.value}
	read.pending.Store(db.cache.beatsOf(alice))
	require.True(t, db.Beat(read, "", aliceOnline().Devices[0].Chain, 11))
	require.Equal(t, int64(11), beatOf(remembered))
}

// An entry of before a write is told nothing any more, and a heartbeat through it is seen all the
// same by who reads the one that is remembered.
func TestAHeartbeatThroughAnOutdatedEntryIsKnownToTheOneThatIsRemembered(t *testing.T) {
	db, _ := online(t)
	before := db.PeekDevices(alice)
	again := aliceOnline()
	again.Devices[0].Beat = 2
	put(t, db, aliceKey, again)
	require.True(t, before.Stale())
	require.True(t, db.Beat(before, "", again.Devices[0].Chain, 9))
	require.Equal(t, int64(9), beatOf(db.PeekDevices(alice)))
}

func TestAnEntryKnowsTheHeartbeatsFromTheStart(t *testing.T) {
	db, _ := online(t)
	beat(t, db, 9)
	again := aliceOnline()
	again.Devices = append(again.Devices, presence.Device{Name: "phone", Start: 5, Chain: again.Devices[0].Chain})
	put(t, db, aliceKey, again)
	require.Equal(t, int64(9), beatOf(db.PeekDevices(alice)), "one that was written")

	s, place, hash := db.cache.shard(nameOf(aliceKey))
	s.Lock()
	db.cache.forget(s, s.find(place, alice, hash))
	s.Unlock()
	require.Equal(t, int64(9), beatOf(read1(t, db, aliceKey)), "one that was read")
	require.Equal(t, int64(9), beatOf(db.PeekDevices(alice)))

	another := aliceOnline()
	another.Incarnation = "2"
	put(t, db, aliceKey, another)
	require.Equal(t, int64(1), beatOf(db.PeekDevices(alice)), "those of another user of the same id")
	beat(t, db, 12)
	require.Equal(t, int64(12), beatOf(db.PeekDevices(alice)), "are not what it goes on with")
}

func TestAHeartbeatAfterAReadIsNotKeptWithThoseOfAnotherUserOfTheSameId(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	sh, place, hash := db.cache.shard(nameOf(aliceKey))
	sh.Lock()
	db.cache.forget(sh, sh.find(place, alice, hash))
	sh.Unlock()
	another := aliceOnline()
	another.Incarnation = "2"
	s.other(t, aliceKey, another)
	require.Equal(t, int64(1), beatOf(read1(t, db, aliceKey)))
	beat(t, db, 12)
	require.Equal(t, int64(12), beatOf(db.PeekDevices(alice)))
}

// A record may be read while its heartbeats are being stored. After the read they are in neither
// the record nor the table.
func TestAReaderKnowsTheHeartbeatsFromBeforeItsRead(t *testing.T) {
	for _, incarnation := range []string{"1", "2"} {
		db, s := online(t)
		beat(t, db, 9)
		put(t, db, record.UserKey(alice), user(alice))
		s.afterGet = func(records []store.Record) []store.Record {
			s.afterGet = nil
			storeBeats(t, db)
			if incarnation != "1" { // the record of another user of the same id
				r := aliceOnline()
				r.Incarnation = incarnation
				records[1].Value = record.Encode(r)
			}
			return records
		}
		entries, err := db.load(t.Context(), false, []store.Key{record.UserKey(alice), aliceKey})
		require.NoError(t, err)
		e := entries[1]
		require.True(t, e.Stale())
		require.Equal(t, int64(1), e.Value().(*record.Devices).Devices[0].Beat)
		require.Equal(t, map[string]int64{"1": 9, "2": 1}[incarnation], beatOf(e))
	}
}

// A decision may hold a record that is not remembered, and so is not told of what began since.
func TestADecisionKnowsTheHeartbeatsOfTheMoment(t *testing.T) {
	db, s := online(t)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		s.afterGet = func(records []store.Record) []store.Record {
			s.afterGet = nil
			again := aliceOnline()
			again.Devices[0].Beat = 2
			put(t, db, aliceKey, again)
			return records
		}
		entries, err := db.load(t.Context(), false, []store.Key{aliceKey})
		require.NoError(t, err)
		require.True(t, entries[0].Stale())
		beat(t, db, 9)
		r := entries[0].Value().(*record.Devices)
		require.Equal(t, int64(9), tx.WithBeats(r)[0].Beat)
		require.Equal(t, int64(1), r.Devices[0].Beat)
		require.Nil(t, tx.WithBeats(nil))
		return errNothing
	})
	require.Equal(t, errNothing, err)
}

func TestAPresenceStaysRememberedWhileItsHeartbeatsAreStored(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	before := db.PeekDevices(alice)
	s.beforeRun = func() {
		require.Same(t, before, db.PeekDevices(alice))
		require.False(t, before.Stale())
		beat(t, db, 11) // is not waited for
		require.Equal(t, int64(11), beatOf(before))
	}
	storeBeats(t, db)
	require.Nil(t, s.beforeRun)
	require.True(t, before.Stale())
	require.Equal(t, int64(9), stored(t, s, aliceKey).Devices[0].Beat)
	require.Equal(t, int64(11), beatOf(db.PeekDevices(alice)), "one that came since goes on")
	require.False(t, db.BeatsStored())
	beat(t, db, 12)
	require.Equal(t, int64(12), beatOf(db.PeekDevices(alice)))
	storeBeats(t, db)
	require.Equal(t, int64(12), stored(t, s, aliceKey).Devices[0].Beat)
	require.True(t, db.BeatsStored())
}

// The version that is remembered meanwhile is an older one.
func TestAWriteOnAPresenceThatIsBeingStoredMeetsAConflict(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	tries := 0
	s.afterRun = func() {
		_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
			tries++
			entries, err := tx.Read(aliceKey)
			require.NoError(t, err)
			require.Equal(t, int64(9), tx.WithBeats(entries[0].Value().(*record.Devices))[0].Beat)
			tx.Put(aliceKey, &record.Devices{User: alice, Incarnation: "1"})
			return nil
		})
		require.NoError(t, err)
	}
	storeBeats(t, db)
	require.Equal(t, 2, tries)
	require.Empty(t, stored(t, s, aliceKey).Devices)
}

func TestHeartbeatsAreStoredOnWhatIsThereByThen(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	s.beforeRun = func() {
		put(t, db, aliceKey, &record.Devices{User: alice, Incarnation: "1", Devices: []presence.Device{
			{Start: 5, Chain: presence.Chain{{State: presence.Away}}},
		}})
	}
	storeBeats(t, db)
	require.Equal(t, presence.Away, stored(t, s, aliceKey).Devices[0].Chain[0].State, "nothing is overwritten")
	require.Len(t, s.committed, 3, "nor written where nothing moves")
	require.True(t, db.BeatsStored())
}

func TestHeartbeatsOfWhoIsGoneAreForgotten(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tx.Drop(aliceKey)
		return nil
	})
	require.NoError(t, err)
	n := len(s.committed)
	storeBeats(t, db)
	require.Len(t, s.committed, n, "there is nothing to write")
	require.True(t, db.BeatsStored())

	put(t, db, aliceKey, aliceOnline())
	beat(t, db, 9)
	another := aliceOnline()
	another.Incarnation = "2"
	put(t, db, aliceKey, another)
	storeBeats(t, db)
	require.Equal(t, another, stored(t, s, aliceKey), "another user has the id by now")
	require.True(t, db.BeatsStored())
}

func TestHeartbeatsThatCannotBeStoredAreKept(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	s.commit = func(store.Batch) (store.Seq, error) { return 0, store.ErrUnavailable }
	_, err := db.StoreBeats(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.False(t, db.BeatsStored())
	s.commit = nil
	storeBeats(t, db)
	require.Equal(t, int64(9), stored(t, s, aliceKey).Devices[0].Beat)
}

func TestADamagedPresenceIsNamedAndLeavesTheOthersToBeStored(t *testing.T) {
	db, s := online(t)
	beat(t, db, 9)
	bob := &record.Devices{User: "bob-0001", Incarnation: "2", Devices: aliceOnline().Devices}
	put(t, db, record.DevicesKey("bob-0001"), bob)
	require.True(t, db.Beat(db.PeekDevices("bob-0001"), "", bob.Devices[0].Chain, 9))
	s.afterGet = func(records []store.Record) []store.Record {
		records[0] = store.Record{Key: records[0].Key, Damaged: true}
		return records
	}
	damaged, err := db.StoreBeats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Key{aliceKey}, damaged)
	require.True(t, db.BeatsStored())
	require.Equal(t, int64(9), stored(t, s, record.DevicesKey("bob-0001")).Devices[0].Beat)
	require.Len(t, s.committed[len(s.committed)-1].If, 1)
}

func TestManyHeartbeatsAreStoredInTheOrderOfTheirKeys(t *testing.T) {
	db, s := newDB(t)
	const users = maxStored + 200
	for i := range users {
		id := fmt.Sprintf("user-%04d", i)
		r := &record.Devices{User: id, Incarnation: id, Devices: aliceOnline().Devices}
		r.PlaceHere(&record.Devices{}) // it stays, and with it the key
		put(t, db, record.DevicesKey(id), r)
		require.True(t, db.Beat(db.PeekDevices(id), "", r.Devices[0].Chain, int64(10+i)))
	}
	n := len(s.committed)
	storeBeats(t, db)
	require.Len(t, s.committed, n+2)
	var last store.Key
	for _, b := range s.committed[n:] {
		b.Put = slices.DeleteFunc(b.Put, func(r store.Record) bool { return r.Key[0] != kindDevices })
		require.Len(t, b.If, len(b.Put))
		for i, r := range b.Put {
			require.Less(t, last, r.Key)
			require.Equal(t, r.Key, b.If[i].Key)
			require.NotZero(t, b.If[i].Version)
			last = r.Key
		}
	}
	for i := range users {
		require.Equal(t, int64(10+i), stored(t, s, record.DevicesKey(fmt.Sprintf("user-%04d", i))).Devices[0].Beat)
	}
}
