package txn

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// cache remembers records of a store that its DB alone writes to. The nil cache remembers nothing.
//
// What it returns is never older than what the store would return. A key that is being written is
// forgotten before the write, and not remembered again until the outcome is known. Nothing is
// remembered that was read while a write to its shard ended: it may be from before that. Only
// where a write tells readers nothing new, as with stored heartbeats, its records are forgotten
// when the outcome is known.
//
// What is remembered is bounded by weight. Absent and damaged records are not remembered.
//
// Readers take no lock: they follow lists whose links are atomic. Whoever changes a list holds the
// lock of its shard.
type cache struct {
	seed   maphash.Seed
	beats  *heartbeat.Table
	slots  *slots // of presences, in place of entries
	shards [64]shard
}

// kinds is how many kinds of records are remembered.
const kinds = 6

// lists is the records of one kind in a shard, by their hash.
type lists [1024]atomic.Pointer[Entry]

// shard is the records of all kinds whose ids have a hash. All that a user has under its id is
// therefore in one shard.
type shard struct {
	heads      [kinds]atomic.Pointer[lists] // each nil while there is nothing
	writeEpoch [kinds]atomic.Uint64         // counts the writes that came to an end

	sync.Mutex                  // held to change the lists; guards what follows
	pools      [2]pool          // of what users are many of, and of what there are a few of
	writing    map[name]writers // writes under way
}

// pool is what records of some kinds weigh together, and may weigh.
type pool struct {
	weight, bound int64
	entries       int
	hand          int // the list to evict from next
}

// poolOf returns the pool of a kind. What users are many of evicts no access key and no definition.
func poolOf(kind byte) int {
	if kind == kindDefinitions || kind == kindAccessKeys {
		return 1
	}
	return 0
}

// writers is the writes under way to one key, and whether there ever were two of them at once
// since there was none. Of two nobody knows which was the last.
type writers struct {
	now    int
	shared bool
}

// name is the key of a record in two parts, so that looking one up builds no string.
type name struct {
	kind byte
	id   string
}

func nameOf(key store.Key) name {
	kind, id := record.Parts(key)
	return name{kind, id}
}

// The first parts of some names.
var (
	kindDevices, _     = record.Parts(record.DevicesKey(""))
	kindDefinitions, _ = record.Parts(record.DefinitionKey(""))
	kindAccessKeys, _  = record.Parts(record.AccessKeysKey)
)

// places is, by kind, 1 + its place in record.Remembered, or 0 if it is not there.
var places = func() (places [128]uint8) {
	for i, kind := range record.Remembered {
		places[kind] = uint8(i + 1)
	}
	return places
}()

// The places of the kinds that are peeked at, which is faster where they are constants.
const (
	placeUsers   = 0
	placeOwners  = 1
	placeDevices = 3
)

// MinCacheBytes is the least that a cache may weigh. It has room for the lists and for the heaviest
// presence.
const MinCacheBytes = 12 << 20

// newCache returns a cache whose records, with its lists, weigh some bytes at most.
func newCache(bytes int64, beats *heartbeat.Table) *cache {
	c := &cache{seed: maphash.MakeSeed(), beats: beats}
	// What slots take is taken from what users are many of, and may be half of it, about.
	c.slots = newSlots((bytes-MinCacheBytes)/2+MinCacheBytes/8, c.seed, beats)
	room := bytes/int64(len(c.shards)) - kinds*int64(unsafe.Sizeof(lists{}))
	for i := range c.shards {
		s := &c.shards[i]
		s.writing = map[name]writers{}
		s.pools[0].bound, s.pools[1].bound = room-room/8, room/8
	}
	return c
}

// shard returns where a record is remembered, nil if its kind is not, the place of its kind there
// and the hash of its id.
func (c *cache) shard(n name) (s *shard, place uint8, hash uint64) {
	if c == nil || places[n.kind&127] == 0 {
		return nil, 0, 0
	}
	hash = maphash.String(c.seed, n.id)
	return &c.shards[hash%64], places[n.kind&127] - 1, hash
}

// list returns where the list of a hash begins, nil while there is nothing of its kind.
func (s *shard) list(place uint8, hash uint64) *atomic.Pointer[Entry] {
	heads := s.heads[place%kinds].Load()
	if heads == nil {
		return nil
	}
	return &heads[hash/64%uint64(len(heads))]
}

// find returns what is remembered under an id, or nil. It needs no lock.
func (s *shard) find(place uint8, id string, hash uint64) *Entry {
	head := s.list(place, hash)
	if head == nil {
		return nil
	}
	for e := head.Load(); e != nil; e = e.next.Load() {
		if e.hash == hash && e.id == id {
			return e
		}
	}
	return nil
}

// get returns what is remembered under a name, or nil.
func (c *cache) get(n name) *Entry {
	s, place, hash := c.shard(n)
	if s == nil {
		return nil
	}
	return s.find(place, n.id, hash)
}

// peek is get for a kind that is remembered, by its place.
func (c *cache) peek(place uint8, id string) *Entry {
	if c == nil {
		return nil
	}
	hash := maphash.String(c.seed, id)
	return c.shards[hash%64].find(place, id, hash)
}

// lookup is get for who reads from the store what is not remembered. The epoch it returns goes to
// remember with what was read.
func (c *cache) lookup(n name) (e *Entry, epoch uint64) {
	s, place, hash := c.shard(n)
	if s == nil {
		return nil, 0
	}
	epoch = s.writeEpoch[place].Load()
	return s.find(place, n.id, hash), epoch
}

// remember keeps e, unless its record may have been written since lookup, or is too heavy. It
// returns the entry that is remembered under the name now, or e itself, stale.
func (c *cache) remember(n name, epoch uint64, e *Entry) *Entry {
	s, place, hash := c.shard(n)
	if s == nil || e.value == nil {
		return e
	}
	s.Lock()
	defer s.Unlock()
	if s.writeEpoch[place].Load() != epoch || s.writing[n].now > 0 {
		return e
	}
	if known := s.find(place, n.id, hash); known != nil {
		return known
	}
	if place == placeDevices {
		if slot, _ := c.slots.find(n.id, hash); slot != nil {
			return e
		}
	}
	c.keep(s, place, n.id, hash, e)
	return e
}

// keep puts an entry into a locked shard, in place of others if that is full, and unless it is
// heavier than a quarter of the shard. A presence gets a slot instead if it can.
func (c *cache) keep(s *shard, place uint8, id string, hash uint64, e *Entry) {
	if r, ok := e.value.(*record.Devices); ok && c.slots.keep(r, e.version, hash) {
		return
	}
	p := &s.pools[poolOf(record.Remembered[place])]
	if e.weight > min(p.bound, (s.pools[0].bound+s.pools[1].bound)/4) {
		return
	}
	bound := p.bound
	if p == &s.pools[0] {
		bound -= c.slots.bytes.Load() / int64(len(c.shards))
	}
	if s.heads[place].Load() == nil {
		s.heads[place].Store(new(lists))
	}
	for p.weight > 0 && p.weight+e.weight > bound {
		other, list := p.hand%kinds, p.hand/kinds%len(lists{})
		p.hand++
		if &s.pools[poolOf(record.Remembered[other])] != p {
			continue
		}
		if heads := s.heads[other].Load(); heads != nil {
			if old := heads[list].Load(); old != nil {
				c.forget(s, old)
			}
		}
	}
	p.weight += e.weight
	p.entries++
	e.place, e.id, e.hash, e.freshness = place, id, hash, new(Freshness)
	if r, ok := e.value.(*record.Devices); ok {
		// Heartbeats begin with the shard locked too, so none can begin between this and the list.
		if pending := c.beats.Of(id); pending.IsOf(r) {
			e.pending.Store(pending)
		}
	}
	head := s.list(place, hash)
	e.next.Store(head.Load())
	head.Store(e)
}

// forget takes an entry out of its list in a locked shard, and makes it stale. It still leads on
// whoever has just come by it.
func (c *cache) forget(s *shard, e *Entry) {
	e.freshness.stale.Store(true)
	at := s.list(e.place, e.hash)
	for at.Load() != e {
		at = &at.Load().next
	}
	at.Store(e.next.Load())
	p := &s.pools[poolOf(record.Remembered[e.place])]
	p.weight -= e.weight
	p.entries--
	if e.place == placeUsers { // the presence holds on to it: the shard is the same
		if devices := s.find(placeDevices, e.id, e.hash); devices != nil {
			devices.user.CompareAndSwap(e, nil)
		}
	}
}

// beginWrite is called before a write is committed. Its records are forgotten until endWrite is
// called, whatever came of it, unless they tell readers nothing new.
func (c *cache) beginWrite(tx *Tx) {
	c.each(tx, func(s *shard, place uint8, n name, hash uint64, _ int) {
		w := s.writing[n]
		w.now++
		w.shared = w.now > 1
		s.writing[n] = w
		if place == placeUsers {
			c.slots.unstand(n.id, hash)
		}
		if tx.keepsCached {
			return
		}
		if e := s.find(place, n.id, hash); e != nil {
			c.forget(s, e)
		}
		if place == placeDevices {
			c.slots.drop(n.id, hash)
		}
	})
}

// endWrite is called once the outcome of a write is known, or known to be unknown. If it was
// applied, at seq, its records are remembered, but for keys that others wrote meanwhile.
func (c *cache) endWrite(tx *Tx, seq store.Seq) {
	c.each(tx, func(s *shard, place uint8, n name, hash uint64, put int) {
		s.writeEpoch[place].Add(1)
		if e := s.find(place, n.id, hash); e != nil {
			c.forget(s, e)
		}
		w := s.writing[n]
		alone := w.now == 1 && !w.shared
		switch place {
		case placeUsers:
			c.slots.unstand(n.id, hash)
		case placeDevices:
			switch { // a slot that is here was not written by others meanwhile
			case tx.keepsCached && tx.refused:
			case tx.keepsCached && alone && seq != 0 && put >= 0:
				if c.slots.wrote(tx.records[put].(*record.Devices), hash, seq) {
					put = -1
				}
			default:
				c.slots.drop(n.id, hash)
			}
		}
		if w.now--; w.now > 0 {
			s.writing[n] = w
			return
		}
		delete(s.writing, n)
		if put >= 0 && seq != 0 && !w.shared && !tx.forgets {
			r := &tx.batch.Put[put]
			e := &Entry{version: seq, value: tx.records[put], weight: weigh(r.Key, r.Value)}
			c.keep(s, place, n.id, hash, e)
		}
	})
}

// each goes over what a write changes of the kinds that are remembered, with the shard locked: put
// is the place among its puts, or -1 where the key is dropped.
func (c *cache) each(tx *Tx, do func(s *shard, place uint8, n name, hash uint64, put int)) {
	visit := func(key store.Key, put int) {
		n := nameOf(key)
		if s, place, hash := c.shard(n); s != nil {
			s.Lock()
			do(s, place, n, hash, put)
			s.Unlock()
		}
	}
	for _, key := range tx.batch.Drop {
		visit(key, -1)
	}
	for i := range tx.batch.Put {
		visit(tx.batch.Put[i].Key, i)
	}
}

// beginBeats returns the heartbeats of the user of a record, and makes the entry that is remembered
// of that user know them. One that is remembered later knows them from the start: see keep. It
// returns nil if nothing of that user is remembered, who may be another one by now.
func (c *cache) beginBeats(r *record.Devices) *heartbeat.Pending {
	n := name{kindDevices, r.User}
	s, place, hash := c.shard(n)
	if s == nil {
		return nil
	}
	s.Lock()
	defer s.Unlock()
	e := s.find(place, n.id, hash) // nil where there is a slot
	if e == nil || e.value.(*record.Devices).Incarnation != r.Incarnation {
		return nil
	}
	p := c.beats.Begin(r)
	e.pending.Store(p)
	return p
}

// look fills in the presence of a user that has a slot. It takes no lock.
func (c *cache) look(user string, into *Seen) bool {
	if c == nil {
		return false
	}
	return c.slots.see(user, maphash.String(c.seed, user), into)
}

// slotted returns an entry of the presence of a user that has a slot, or nil. It is not remembered,
// and it says what the record will once the heartbeats are stored: nobody tells the two apart.
func (c *cache) slotted(user string) *Entry {
	var seen Seen
	if !c.look(user, &seen) {
		return nil
	}
	return &Entry{version: store.Seq(seen.seq), value: seen.record(user)}
}

// beatsOf returns the heartbeats of a user that are not stored, or nil. With the shard locked they
// are where they are looked for.
func (c *cache) beatsOf(user string) *heartbeat.Pending {
	s, _, hash := c.shard(name{kindDevices, user})
	if s == nil {
		return nil
	}
	s.Lock()
	defer s.Unlock()
	var seen Seen
	if c.slots.see(user, hash, &seen) {
		return heartbeat.Detached(seen.record(user))
	}
	return c.beats.Of(user)
}
