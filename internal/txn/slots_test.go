package txn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

var minute = presence.Chain{{State: presence.Online, Seconds: 60}, {State: presence.Away}}

// one is the presence of a user with one device.
func one(id, incarnation string, start int64, chain presence.Chain) *record.Devices {
	return &record.Devices{User: id, Incarnation: incarnation, Devices: []presence.Device{
		{Start: start, Beat: start, Chain: chain},
	}}
}

func look(t *testing.T, db *DB, id string) *Seen {
	t.Helper()
	seen := new(Seen)
	require.True(t, db.Look(id, seen))
	return seen
}

func requireNoSlot(t *testing.T, db *DB, id string) {
	t.Helper()
	require.False(t, db.Look(id, new(Seen)))
}

// drop deletes what is under a key.
func drop(t *testing.T, db *DB, key store.Key) {
	t.Helper()
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		tx.Drop(key)
		return nil
	})
	require.NoError(t, err)
}

// inSlot returns a DB in which alice has a slot.
func inSlot(t *testing.T) (*DB, *hooked) {
	t.Helper()
	db, s := newDB(t)
	put(t, db, aliceKey, one(alice, "1", 1, minute))
	return db, s
}

func beatSlot(t *testing.T, db *DB, now int64) {
	t.Helper()
	kept, done := db.BeatSeen(look(t, db, alice), "", minute, now)
	require.True(t, kept && done)
}

func TestASlotIsOfTheIdsThatItHolds(t *testing.T) {
	db, _ := newDB(t)
	var ids []string
	for n := 8; n <= 64; n++ {
		id := ""
		for i := range n {
			id += string(rune('a' + (i+n)%26))
		}
		ids = append(ids, id)
		put(t, db, record.DevicesKey(id), one(id, id, int64(n), minute))
	}
	for _, id := range ids {
		seen := look(t, db, id)
		require.Equal(t, one(id, id, int64(len(id)), minute), seen.record(id))
		var into [64]byte
		require.Equal(t, id, string(seen.slot.user(&into)))
		requireNoSlot(t, db, id[:len(id)-1]+"-")
	}
}

func TestHeartbeatsThatAreBeingStoredAreWaitingStill(t *testing.T) {
	db, s := newDB(t)
	const users = maxStored + 10
	for i := range users {
		id := fmt.Sprintf("user-%04d", i)
		put(t, db, record.DevicesKey(id), one(id, id, 1, minute))
		kept, done := db.BeatSeen(look(t, db, id), "", minute, 9)
		require.True(t, kept && done)
	}
	require.Equal(t, users, db.BeatsWaiting())
	var waiting []int
	s.commit = func(store.Batch) (store.Seq, error) {
		waiting = append(waiting, db.BeatsWaiting())
		return 0, store.ErrUnavailable
	}
	_, err := db.StoreBeats(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.Equal(t, []int{users, users}, waiting, "of the second, the first are owed again")
	s.commit = nil
	storeBeats(t, db)
	require.Zero(t, db.BeatsWaiting())
}

func TestHeartbeatsThatAreAboutToBeStoredAreWaitingStill(t *testing.T) {
	db, _ := newDB(t)
	put(t, db, record.DevicesKey("user-one"), one("user-one", "a", 1, minute))
	kept, done := db.BeatSeen(look(t, db, "user-one"), "", minute, 9)
	require.True(t, kept && done)
	require.Len(t, db.unstored(), 1)
	require.Equal(t, 1, db.BeatsWaiting(), "half a million take a while to be sorted")
}

// What a record says and a slot cannot hold would be lost with the next heartbeat.
func TestASlotHoldsAllThatAPlainRecordSays(t *testing.T) {
	full := func(v reflect.Value, name string) {
		switch v.Kind() {
		case reflect.String:
			v.SetString("text-of-a-field")
		case reflect.Int64:
			v.SetInt(1_800_000_000_000)
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Slice:
		default:
			t.Fatalf("%s is a %s: can a slot hold it?", name, v.Kind())
		}
	}
	fields := func(r *record.Devices) []reflect.Value {
		record, device := reflect.ValueOf(r).Elem(), reflect.ValueOf(&r.Devices[0]).Elem()
		var all []reflect.Value
		for _, of := range []reflect.Value{record, device} {
			for i := range of.NumField() {
				all = append(all, of.Field(i))
			}
		}
		return all
	}
	for i := range fields(one(alice, "1", 1, minute)) {
		db, _ := newDB(t)
		r := one(alice, "1", 1, minute)
		full(fields(r)[i], fmt.Sprint("field ", i))
		put(t, db, record.DevicesKey(r.User), r)
		r.Devices[0].Beat = r.Devices[0].Origin() // an earlier one means the same
		var seen Seen
		if db.Look(r.User, &seen) {
			require.Equal(t, r, seen.record(r.User))
		}
		require.Equal(t, r, read1(t, db, record.DevicesKey(r.User)).Value())
	}
}

func TestOnlyAPresenceOfOneDeviceHasASlot(t *testing.T) {
	db, _ := newDB(t)
	put(t, db, aliceKey, one(alice, "1", 1, minute))
	look(t, db, alice)
	require.Nil(t, db.PeekDevices(alice))
	put(t, db, aliceKey, aliceOnline())
	requireNoSlot(t, db, alice)
	require.NotNil(t, db.PeekDevices(alice))
	put(t, db, aliceKey, one(alice, "1", 2, minute))
	require.Nil(t, db.PeekDevices(alice))
	require.Equal(t, int64(2), look(t, db, alice).begin)
}

func TestWhatIsReadOfASlotIsWhatItsRecordWillSay(t *testing.T) {
	db, s := inSlot(t)
	beatSlot(t, db, 9)
	got := len(s.got)
	e := read1(t, db, aliceKey)
	require.Len(t, s.got, got, "nobody asks the store")
	require.Equal(t, int64(9), beatOf(e))
	require.Equal(t, store.Seq(1), e.Version())
	require.True(t, e.Stale())
	require.Equal(t, presence.Reading{Rest: minute, Since: 1, Until: 60_009}, look(t, db, alice).Read(10))
	require.Equal(t, presence.Reading{Since: 60_009, Rest: minute[1:]}, look(t, db, alice).Read(60_009))
}

func TestAHeartbeatInASlotIsStoredLater(t *testing.T) {
	db, s := inSlot(t)
	beatSlot(t, db, 9)
	<-db.BeatsBegan()
	require.False(t, db.BeatsStored())
	got := len(s.got)
	storeBeats(t, db)
	require.Len(t, s.got, got, "the slot knows the record")
	require.True(t, db.BeatsStored())
	require.Equal(t, int64(9), stored(t, s, aliceKey).Devices[0].Beat)
	n := len(s.committed)
	storeBeats(t, db)
	require.Len(t, s.committed, n, "nothing is owed")
	require.Equal(t, store.Seq(2), read1(t, db, aliceKey).Version())
	beatSlot(t, db, 11)
	storeBeats(t, db)
	require.Equal(t, int64(11), stored(t, s, aliceKey).Devices[0].Beat)
}

func TestOnlyWhatIsSetIsAHeartbeatInASlot(t *testing.T) {
	db, _ := inSlot(t)
	for _, c := range []struct {
		device string
		chain  presence.Chain
		now    int64
		kept   bool
	}{
		{"phone", minute, 9, false}, {"", minute[:1], 9, false}, {"", minute, 60_001, false}, {"", minute, 60_000, true},
	} {
		kept, done := db.BeatSeen(look(t, db, alice), c.device, c.chain, c.now)
		require.True(t, done)
		require.Equal(t, c.kept, kept)
	}
	kept, done := db.BeatSeen(look(t, db, alice), "", minute, 5)
	require.True(t, kept && done)
	require.Equal(t, int64(60_000), look(t, db, alice).beat, "a time of before moves nothing back")
}

func TestAHeartbeatOfWhatWasSeenBeforeAWriteIsNotDone(t *testing.T) {
	for name, write := range map[string]func(db *DB){
		"changed": func(db *DB) { put(t, db, aliceKey, one(alice, "1", 2, minute)) },
		"deleted": func(db *DB) { drop(t, db, aliceKey) },
		"blocked": func(db *DB) { put(t, db, record.UserKey(alice), user(alice)) },
		"anew": func(db *DB) {
			drop(t, db, aliceKey)
			put(t, db, aliceKey, one(alice, "2", 1, minute))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, _ := inSlot(t)
			before := look(t, db, alice)
			write(db)
			_, done := db.BeatSeen(before, "", minute, 9)
			require.False(t, done)
			require.True(t, db.BeatsStored())
		})
	}
}

func TestASlotIsNotThereWhileItsRecordIsWritten(t *testing.T) {
	for _, outcome := range []error{nil, store.ErrUnavailable, store.ErrOutcomeUnknown} {
		db, s := inSlot(t)
		beatSlot(t, db, 9)
		s.beforeRun = func() {
			requireNoSlot(t, db, alice)
			require.Equal(t, int64(9), beatOf(read1(t, db, aliceKey)), "its heartbeats are")
			requireNoSlot(t, db, alice)
		}
		if outcome != nil {
			s.commit = func(store.Batch) (store.Seq, error) { return 0, outcome }
		}
		again := one(alice, "1", 1, minute)
		again.Devices[0].Beat = 2
		_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
			tx.Put(aliceKey, again)
			return nil
		})
		require.ErrorIs(t, err, outcome)
		s.commit = nil
		require.Equal(t, int64(9), beatOf(read1(t, db, aliceKey)))
		require.Equal(t, int64(9), look(t, db, alice).beat, "they come back")
		storeBeats(t, db)
		require.Equal(t, int64(9), stored(t, s, aliceKey).Devices[0].Beat)
	}
}

func TestStandingIsWithdrawnByEachWriteOfTheUser(t *testing.T) {
	db, s := inSlot(t)
	put(t, db, record.UserKey(alice), user(alice))
	require.False(t, look(t, db, alice).Stands("1"), "nobody said so yet")
	look(t, db, alice).Stood("2")
	require.False(t, look(t, db, alice).Stands("2"), "another incarnation")
	look(t, db, alice).Stood("1")
	require.True(t, look(t, db, alice).Stands("1"))
	require.False(t, look(t, db, alice).Stands("2"))
	beatSlot(t, db, 9)
	require.True(t, look(t, db, alice).Stands("1"), "a heartbeat does not")

	before := look(t, db, alice)
	s.beforeRun = func() {
		require.False(t, look(t, db, alice).Stands("1"))
		before.Stood("1")
		require.False(t, look(t, db, alice).Stands("1"), "who saw it before may be wrong")
		look(t, db, alice).Stood("1") // who read the user just now was right
	}
	put(t, db, record.UserKey(alice), user(alice))
	require.False(t, look(t, db, alice).Stands("1"), "and is no longer")
}

func TestASlotStaysWhileItsHeartbeatsAreStored(t *testing.T) {
	for _, outcome := range []error{nil, store.ErrUnavailable, store.ErrConflict, store.ErrOutcomeUnknown} {
		db, s := inSlot(t)
		beatSlot(t, db, 9)
		s.beforeRun = func() {
			require.Equal(t, int64(9), look(t, db, alice).beat)
			beatSlot(t, db, 11) // is not waited for
		}
		if outcome != nil {
			s.commit = func(store.Batch) (store.Seq, error) { return 0, outcome }
		}
		_, err := db.StoreBeats(t.Context())
		require.ErrorIs(t, err, outcome)
		require.False(t, db.BeatsStored())
		s.commit = nil
		require.Equal(t, int64(11), beatOf(read1(t, db, aliceKey)))
		storeBeats(t, db)
		require.True(t, db.BeatsStored())
		require.Equal(t, int64(11), stored(t, s, aliceKey).Devices[0].Beat)
		require.Equal(t, int64(11), look(t, db, alice).beat)
	}
}

func TestHeartbeatsOfASlotAreStoredOnWhatIsThereByThen(t *testing.T) {
	for name, c := range map[string]struct {
		by   *record.Devices
		beat int64
	}{
		"another device": {&record.Devices{User: alice, Incarnation: "1", Devices: []presence.Device{
			{Start: 1, Beat: 1, Chain: minute}, {Name: "phone", Start: 5, Beat: 5, Chain: minute},
		}}, 9},
		"another chain": {one(alice, "1", 5, minute[1:]), 5},
		"another user":  {one(alice, "2", 5, minute), 5},
	} {
		t.Run(name, func(t *testing.T) {
			db, s := inSlot(t)
			beatSlot(t, db, 9)
			s.beforeRun = func() { put(t, db, aliceKey, c.by) }
			storeBeats(t, db)
			storeBeats(t, db)
			require.Equal(t, c.beat, stored(t, s, aliceKey).Devices[0].Beat)
			require.Equal(t, c.beat, beatOf(read1(t, db, aliceKey)))
			require.True(t, db.BeatsStored())
		})
	}
}

func TestADamagedPresenceInASlotIsNamedAndLeavesTheOthersToBeStored(t *testing.T) {
	db, s := inSlot(t)
	beatSlot(t, db, 9)
	const bob = "bob-0001"
	put(t, db, record.DevicesKey(bob), one(bob, "2", 1, minute))
	kept, done := db.BeatSeen(look(t, db, bob), "", minute, 9)
	require.True(t, kept && done)
	s.commit = func(store.Batch) (store.Seq, error) { s.commit = nil; return 0, store.ErrCorrupt }
	s.afterGet = func(records []store.Record) []store.Record {
		records[0] = store.Record{Key: records[0].Key, Damaged: true}
		return records
	}
	damaged, err := db.StoreBeats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Key{aliceKey}, damaged)
	require.True(t, db.BeatsStored())
	require.Equal(t, int64(9), stored(t, s, record.DevicesKey(bob)).Devices[0].Beat)
}

func TestWhoReadsTheStoreKnowsTheHeartbeatsOfTheSlot(t *testing.T) {
	db, _ := inSlot(t)
	_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
		beatSlot(t, db, 9)
		entries, err := db.load(t.Context(), false, []store.Key{aliceKey})
		require.NoError(t, err)
		r := entries[0].value.(*record.Devices)
		require.Equal(t, int64(1), r.Devices[0].Beat)
		require.Equal(t, int64(9), beatOf(entries[0]))
		beatSlot(t, db, 11)
		require.Equal(t, int64(11), tx.WithBeats(r)[0].Beat, "and a decision those of the moment")
		return errNothing
	})
	require.Equal(t, errNothing, err)
}

// An entry that was read before knows nothing of slots.
func TestAHeartbeatThroughAnEntryReachesTheSlot(t *testing.T) {
	db, _ := newDB(t)
	put(t, db, aliceKey, aliceOnline())
	before := db.PeekDevices(alice)
	chain := before.Value().(*record.Devices).Devices[0].Chain
	require.True(t, db.Beat(before, "", chain, 5))
	put(t, db, aliceKey, one(alice, "1", 1, chain))
	require.Equal(t, int64(5), look(t, db, alice).beat, "it has those of before")
	require.True(t, db.Beat(before, "", chain, 9))
	require.Equal(t, int64(9), look(t, db, alice).beat)
	require.True(t, db.Beat(read1(t, db, aliceKey), "", chain, 11))
	require.Equal(t, int64(11), look(t, db, alice).beat)
	put(t, db, aliceKey, one(alice, "2", 1, chain))
	require.False(t, db.Beat(before, "", chain, 12), "another user of the same id")
}

func smallSlots(chunks int) (*slots, *cache) {
	c := newCache(MinCacheBytes, heartbeat.NewTable())
	c.slots = newSlots(int64(chunks)*(inChunk+100)*slotBytes*16/15, c.seed, c.beats)
	return c.slots, c
}

func keepOne(c *cache, r *record.Devices) {
	n := name{kindDevices, r.User}
	_, epoch := c.lookup(n)
	c.remember(n, epoch, &Entry{version: 1, value: r, weight: 600})
}

func TestSlotsAreBoundedAndThoseThatOweStay(t *testing.T) {
	slots, c := smallSlots(2)
	require.Len(t, slots.chunks, 2)
	id := func(i int) string { return fmt.Sprintf("user-%05d", i) }
	owing := map[int]bool{}
	for i := range 10 * inChunk {
		keepOne(c, one(id(i), "1", 1, minute))
		if i%10 == 0 && len(owing) < inChunk {
			var seen Seen
			require.True(t, c.look(id(i), &seen))
			kept, done := slots.beat(&seen, "", minute, 9)
			require.True(t, kept && done)
			owing[i] = true
		}
	}
	require.EqualValues(t, 2*inChunk, slots.made)
	live := 0
	for i := range 10 * inChunk {
		var seen Seen
		if c.look(id(i), &seen) {
			live++
			require.Equal(t, one(id(i), "1", 1, minute).Devices[0].Chain, seen.shape.chain)
		} else {
			require.False(t, owing[i])
		}
	}
	require.Equal(t, 2*inChunk, live)
	require.Equal(t, live, slots.shapes[0].Load().users)
	require.Len(t, slots.debts(), len(owing))
}

func TestAPresenceWithoutRoomForASlotIsAnEntry(t *testing.T) {
	slots, c := smallSlots(1)
	for i := range inChunk {
		id := fmt.Sprintf("user-%05d", i)
		keepOne(c, one(id, "1", 1, minute))
		var seen Seen
		require.True(t, c.look(id, &seen))
		slots.beat(&seen, "", minute, 9)
	}
	keepOne(c, one(alice, "1", 1, minute))
	require.False(t, c.look(alice, new(Seen)), "all owe")
	require.NotNil(t, c.peek(placeDevices, alice))
}

func TestShapesAreBoundedAndComeFreeAgain(t *testing.T) {
	slots, c := smallSlots(8)
	id := func(i int) string { return fmt.Sprintf("user-%05d", i) }
	chain := func(i int) presence.Chain { return presence.Chain{{State: fmt.Sprint("state ", i)}} }
	keepAll := func() (found int) {
		for i := range 2 * maxShapes {
			keepOne(c, one(id(i), "1", 1, chain(i)))
			if c.look(id(i), new(Seen)) {
				found++
			}
		}
		return found
	}
	had := keepAll()
	require.Less(t, had, 2*maxShapes)
	require.LessOrEqual(t, slots.weight, slots.maxShapeBytes())
	require.NotNil(t, c.peek(placeDevices, id(2*maxShapes-1)), "the others are entries")
	keepOne(c, one("common-1", "1", 1, chain(0)))
	require.True(t, c.look("common-1", new(Seen)), "a shape that is there has room")
	for i := range 2 * maxShapes {
		c.slots.drop(id(i), hashIn(c, id(i)))
	}
	require.Len(t, slots.byShape, 1)
	require.Equal(t, had, keepAll())

	keepOne(c, one("longest1", "1", 1, make(presence.Chain, maxShape/24)))
	require.False(t, c.look("longest1", new(Seen)), "nobody needs a shape as heavy as that")
}

func hashIn(c *cache, id string) uint64 {
	_, _, hash := c.shard(name{kindDevices, id})
	return hash
}

// The index is as good after many have come and gone, and does not grow with them.
func TestTheIndexLeadsToEachSlotWhoeverCameAndWent(t *testing.T) {
	slots, c := smallSlots(4)
	chance := rand.New(rand.NewPCG(1, 2))
	here := map[string]int64{}
	for i := range 100_000 {
		id := fmt.Sprintf("user-%05d", chance.IntN(3000))
		if _, ok := here[id]; ok {
			slots.drop(id, hashIn(c, id))
			delete(here, id)
		} else {
			here[id] = int64(i)
			keepOne(c, one(id, "1", int64(i), minute))
		}
	}
	for i := range 3000 {
		id := fmt.Sprintf("user-%05d", i)
		var seen Seen
		start, ok := here[id]
		require.Equal(t, ok, c.look(id, &seen))
		require.Equal(t, start, seen.begin*map[bool]int64{true: 1}[ok])
	}
	words := 0
	for i := range slots.index {
		words += len(slots.index[i].Load().words)
	}
	require.LessOrEqual(t, words, 64*256)
	require.EqualValues(t, len(here), int(slots.made)-len(slots.free))
}

// timeline tells what somebody may have seen of a user. Each write begins and ends at instants of
// one counter, by which everything is dated.
type timeline struct {
	id            string
	begun, ended  atomic.Int64 // the start of the latest write of the presence; negative: a deletion
	beats         atomic.Int64 // of the presence that began at 1<<31*n: n<<31 + the latest beat that was kept
	blocks        atomic.Int64 // writes of the user that began: an odd one blocks
	blocked       atomic.Int64 // that ended
	writing, user sync.Mutex
}

func abs(n int64) int64 { return max(n, -n) }

// Whatever happens at once, nobody sees less than was acknowledged before, and no heartbeat that
// was kept is lost.
func TestSlotsAreExactWhateverHappensAtOnce(t *testing.T) {
	s := &hooked{Store: memory.New()} // whose hooks are for one goroutine
	db := New(s.Store, usualBytes)
	db.cache.slots = newSlots(1*(inChunk+1)*slotBytes*16/15, db.cache.seed, db.beats)
	var clock atomic.Int64
	forever := presence.Chain{{State: presence.Online}}
	other := presence.Chain{{State: presence.Away}}
	users := make([]*timeline, 12)
	for i := range users {
		users[i] = &timeline{id: fmt.Sprintf("user-%04d", i)}
		put(t, db, record.UserKey(users[i].id), &record.User{ID: users[i].id, Incarnation: "1"})
	}
	fail := make(chan error, 100)
	check := func(ok bool, format string, args ...any) {
		if !ok {
			select {
			case fail <- fmt.Errorf(format, args...):
			default:
			}
		}
	}
	write := func(u *timeline, chance *rand.Rand) {
		u.writing.Lock()
		defer u.writing.Unlock()
		now := clock.Add(1)
		key := record.DevicesKey(u.id)
		var r *record.Devices
		switch chance.IntN(6) {
		case 0:
			now = -now
		case 1: // on several devices
			r = one(u.id, "1", now, forever)
			r.Devices = append(r.Devices, presence.Device{Name: "phone", Start: now, Beat: now, Chain: forever})
		case 2: // too rare for a slot, with the many others
			r = one(u.id, "1", now, append(presence.Chain{{State: fmt.Sprint(now), Seconds: 1 << 30}}, forever...))
		case 3: // another user of the same id
			r = one(u.id, fmt.Sprint(chance.IntN(2)+1), now, forever)
		default:
			r = one(u.id, "1", now, []presence.Chain{forever, other}[chance.IntN(2)])
		}
		u.begun.Store(now)
		_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
			if r == nil {
				tx.Drop(key)
			} else {
				tx.Put(key, r)
			}
			return nil
		})
		check(err == nil, "%v", err)
		u.ended.Store(now)
	}
	block := func(u *timeline) {
		u.user.Lock()
		defer u.user.Unlock()
		n := u.blocks.Add(1)
		_, err := db.Write(t.Context(), Queue{}, func(tx *Tx) error {
			tx.Put(record.UserKey(u.id), &record.User{ID: u.id, Incarnation: "1", Blocked: n%2 == 1})
			return nil
		})
		check(err == nil, "%v", err)
		u.blocked.Store(n)
	}
	// saw checks a start and a beat against what was acknowledged before.
	saw := func(u *timeline, what string, ended, beats, start, beat int64) {
		begun := u.begun.Load()
		if start == 0 { // nothing: it was deleted at some time since
			check(ended <= 0 || begun != ended, "%s: nothing where there was %d", what, ended)
			return
		}
		check(start >= abs(ended) && start <= abs(begun), "%s: %d, of %d to %d", what, start, ended, begun)
		if beats>>31 == start {
			check(beat >= beats&(1<<31-1), "%s: a beat of %d was %d", what, beat, beats&(1<<31-1))
		}
	}
	kept := func(u *timeline, start, now int64) {
		for {
			was := u.beats.Load()
			if was >= start<<31+now || u.beats.CompareAndSwap(was, start<<31+now) {
				return
			}
		}
	}
	use := func(u *timeline, _ *rand.Rand) {
		ended, beats, blocked := u.ended.Load(), u.beats.Load(), u.blocked.Load()
		var seen Seen
		if !db.Look(u.id, &seen) {
			entries, err := db.Read(t.Context(), record.DevicesKey(u.id))
			check(err == nil, "%v", err)
			r, ok := entries[0].value.(*record.Devices)
			if !ok {
				saw(u, "read", ended, beats, 0, 0)
				return
			}
			now := clock.Add(1)
			d := entries[0].Pending().Apply(r)[0]
			saw(u, "read", ended, beats, d.Start, d.Origin())
			if db.Beat(entries[0], d.Name, d.Chain, now) && u.ended.Load() == d.Start && u.begun.Load() == d.Start {
				kept(u, d.Start, now)
			}
			return
		}
		saw(u, "seen", ended, beats, seen.begin, seen.beat)
		const incarnation = "1"
		allowed := seen.Stands(incarnation)
		if !allowed {
			entries, err := db.Read(t.Context(), record.UserKey(u.id))
			check(err == nil, "%v", err)
			if allowed = !entries[0].value.(*record.User).Blocked; allowed {
				seen.Stood(incarnation)
			}
		}
		if allowed {
			check(blocked%2 == 0 || u.blocks.Load() != blocked, "let in while blocked at %d", blocked)
		}
		now := clock.Add(1)
		if ok, done := db.BeatSeen(&seen, seen.shape.name, seen.shape.chain, now); ok && done {
			kept(u, seen.begin, now)
		}
	}
	var wg sync.WaitGroup
	worker := func(n int, do func(u *timeline, chance *rand.Rand)) {
		wg.Go(func() {
			chance := rand.New(rand.NewPCG(uint64(n), 7))
			for range n {
				do(users[chance.IntN(len(users))], chance)
			}
		})
	}
	for i := range 4 {
		worker(6_000+i, use)
	}
	worker(1_200, write)
	worker(1_201, write)
	worker(600, func(u *timeline, _ *rand.Rand) { block(u) })
	worker(6_100, func(_ *timeline, chance *rand.Rand) { // others, for whom these are evicted
		id := fmt.Sprintf("many-%05d", chance.IntN(4000))
		if !db.Look(id, new(Seen)) {
			n := nameOf(record.DevicesKey(id))
			_, epoch := db.cache.lookup(n)
			db.cache.remember(n, epoch, &Entry{version: 1, value: one(id, "1", 1, forever), weight: 600})
		}
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, err := db.StoreBeats(t.Context())
				check(err == nil || errors.Is(err, ErrContended), "%v", err)
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-stopped
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	for range 3 {
		_, err := db.StoreBeats(t.Context())
		require.NoError(t, err)
	}
	require.True(t, db.BeatsStored())
	for _, u := range users {
		records, err := s.Store.Get(t.Context(), record.DevicesKey(u.id))
		require.NoError(t, err)
		if u.ended.Load() < 0 {
			require.Zero(t, records[0].Version)
			continue
		}
		r := stored(t, s, record.DevicesKey(u.id))
		require.Equal(t, u.ended.Load(), r.Devices[0].Start)
		if beats := u.beats.Load(); beats>>31 == r.Devices[0].Start {
			require.GreaterOrEqual(t, r.Devices[0].Origin(), beats&(1<<31-1))
		}
	}
}
