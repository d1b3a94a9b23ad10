package denizen

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// memo is a record that was read, decoded. Once it is dead nobody vouches for it any longer:
// something wrote to its key, or tried to, or it was evicted.
type memo struct {
	version store.Seq
	value   any // a pointer to a struct of internal/record; nil if there is no such record
	dead    *life
	damage  damage                // of a record that cannot be read, whose value is nil
	beats   atomic.Pointer[beats] // of a presence: heartbeats that are not stored yet
	user    atomic.Pointer[memo]  // of a presence, a user or a locator's owner: the user, as last remembered

	// Where it is remembered, and what it weighs.
	at     uint8 // the place of its kind in record.Remembered
	id     string
	hash   uint64
	next   atomic.Pointer[memo] // was remembered before it
	weight int64
}

// life says whether a memo is dead. It is apart from the memo, so that a token that rests on a
// record does not hold the record in memory. The nil life is that of what was never remembered.
type life struct{ ended atomic.Bool }

// Load reports whether the memo is dead.
func (l *life) Load() bool { return l == nil || l.ended.Load() }

// weigh returns what a record takes in memory, about: the value is decoded, into strings and
// slices of its own.
func weigh(key store.Key, value []byte) int64 { return int64(256 + len(key) + 2*len(value)) }

// cache remembers records of a store that this directory alone writes to.
//
// What it returns is never older than what the store would return: a key that is being
// written is forgotten before the write and not remembered again until its outcome is
// known, and nothing is remembered that was read while a write to its shard ended. Where
// a write only retells what readers know, it is forgotten when the outcome is known. What
// the cache holds is bounded by weight, and it holds no absent records.
type cache struct {
	seed   maphash.Seed
	places [128]uint8 // by kind: 1 + its place in record.Remembered, 0 if it is not there
	shards [64]shard
}

// kinds is how many kinds of records are remembered.
const kinds = 6

// lists is the records of one kind in a shard, by their hash: lists that are read without a lock.
type lists [1024]atomic.Pointer[memo]

// shard is the records of all kinds whose ids have a hash.
type shard struct {
	heads [kinds]atomic.Pointer[lists] // each nil while there is nothing
	ended [kinds]atomic.Uint64         // writes that came to an end

	sync.Mutex                  // to change the lists, and guards what follows
	pools      [2]pool          // of what users are many of, and of what there are a few of
	writing    map[name]writers // writes under way
}

// pool is what records of some kinds weigh together, and may weigh.
type pool struct {
	weight, bound int64
	hand          int // the list to evict from next
}

// poolOf returns the pool of a kind. What users are many of evicts no access key and no definition.
func poolOf(kind byte) int {
	if kind == kindDefinitions || kind == kindAccessKeys {
		return 1
	}
	return 0
}

// writers is the writes under way to one key, and whether there ever were two of them at
// once since there was none.
type writers struct {
	now    int
	shared bool
}

// name is the key of a record in two parts, so that looking one up builds no string.
type name struct {
	kind byte
	id   string
}

// The first parts of the names that are looked up without a key.
var (
	kindUsers, _   = record.Parts(record.UserKey(""))
	kindOwners, _  = record.Parts(record.OwnerKey(""))
	kindDevices, _ = record.Parts(record.DevicesKey(""))

	kindDefinitions, _ = record.Parts(record.DefinitionKey(""))
	kindAccessKeys, _  = record.Parts(record.AccessKeysKey)
)

// Bounds of Options.CacheBytes. The least has room for the lists and for the heaviest presence.
const (
	minCacheBytes   = 16 << 20
	usualCacheBytes = 256 << 20
)

// recordBytes and tokenBytes are the parts of Options.CacheBytes.
func recordBytes(cacheBytes int64) int64 { return cacheBytes - tokenBytes(cacheBytes) }

func tokenBytes(cacheBytes int64) int64 { return cacheBytes / 4 }

// newCache returns a cache whose records, with its lists, weigh some bytes at most.
func newCache(bytes int64) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i, kind := range record.Remembered {
		c.places[kind] = uint8(i + 1)
	}
	room := bytes/int64(len(c.shards)) - kinds*int64(unsafe.Sizeof(lists{}))
	for i := range c.shards {
		s := &c.shards[i]
		s.writing = map[name]writers{}
		s.pools[0].bound, s.pools[1].bound = room-room/8, room/8
	}
	return c
}

func nameOf(key store.Key) name {
	kind, id := record.Parts(key)
	return name{kind, id}
}

// shard returns where a record is remembered, nil if its kind is not, the place of its kind there
// and the hash of its id. A nil cache remembers nothing.
func (c *cache) shard(n name) (s *shard, at uint8, hash uint64) {
	if c == nil || c.places[n.kind&127] == 0 {
		return nil, 0, 0
	}
	hash = maphash.String(c.seed, n.id)
	return &c.shards[hash%64], c.places[n.kind&127] - 1, hash
}

// list returns where the list of a hash begins, nil while there is nothing of its kind.
func (s *shard) list(at uint8, hash uint64) *atomic.Pointer[memo] {
	heads := s.heads[at%kinds].Load()
	if heads == nil {
		return nil
	}
	return &heads[hash/64%uint64(len(heads))]
}

// find returns what is remembered under an id, or nil. It needs no lock.
func (s *shard) find(at uint8, id string, hash uint64) *memo {
	head := s.list(at, hash)
	if head == nil {
		return nil
	}
	for m := head.Load(); m != nil; m = m.next.Load() {
		if m.hash == hash && m.id == id {
			return m
		}
	}
	return nil
}

// get returns what is remembered under a name, or nil.
func (c *cache) get(n name) *memo {
	s, at, hash := c.shard(n)
	if s == nil {
		return nil
	}
	return s.find(at, n.id, hash)
}

// look is get, and where nothing is remembered it is called before the record is read from
// the store: what else it returns goes to remember with the record.
func (c *cache) look(n name) (m *memo, ended uint64) {
	s, at, hash := c.shard(n)
	if s == nil {
		return nil, 0
	}
	ended = s.ended[at].Load()
	return s.find(at, n.id, hash), ended
}

// remember keeps m, unless its record may have been written since look, or is too heavy. It
// returns the memo that is remembered under the name now, or m itself, dead.
func (c *cache) remember(n name, ended uint64, m *memo) *memo {
	s, at, hash := c.shard(n)
	if s == nil || m.value == nil {
		return m
	}
	s.Lock()
	defer s.Unlock()
	if s.ended[at].Load() != ended || s.writing[n].now > 0 {
		return m
	}
	if known := s.find(at, n.id, hash); known != nil {
		return known
	}
	c.keep(s, at, n.id, hash, m)
	return m
}

// keep puts a memo into a locked shard, in place of others if that is full, and unless it is
// heavier than a quarter of the shard.
func (c *cache) keep(s *shard, at uint8, id string, hash uint64, m *memo) {
	p := &s.pools[poolOf(record.Remembered[at])]
	if m.weight > min(p.bound, (s.pools[0].bound+s.pools[1].bound)/4) {
		return
	}
	if s.heads[at].Load() == nil {
		s.heads[at].Store(new(lists))
	}
	for p.weight+m.weight > p.bound {
		place, list := p.hand%kinds, p.hand/kinds%len(lists{})
		p.hand++
		if heads := s.heads[place].Load(); heads != nil && &s.pools[poolOf(record.Remembered[place])] == p {
			if old := heads[list].Load(); old != nil {
				c.forget(s, old)
			}
		}
	}
	p.weight += m.weight
	m.at, m.id, m.hash, m.dead = at, id, hash, new(life)
	head := s.list(at, hash)
	m.next.Store(head.Load())
	head.Store(m)
}

// forget takes a memo out of its list in a locked shard. It still leads on whoever has just come by it.
func (c *cache) forget(s *shard, m *memo) {
	m.dead.ended.Store(true)
	at := s.list(m.at, m.hash)
	for at.Load() != m {
		at = &at.Load().next
	}
	at.Store(m.next.Load())
	kind := record.Remembered[m.at]
	s.pools[poolOf(kind)].weight -= m.weight
	if kind == kindUsers { // whose presence holds on to it: the shard is the same
		if devices := s.find(c.places[kindDevices]-1, m.id, m.hash); devices != nil {
			devices.user.CompareAndSwap(m, nil)
		}
	}
}

// writes is called before a batch is committed: its records are forgotten until wrote is
// called, whatever came of it, unless it retells what they say.
func (c *cache) writes(b *batch) {
	c.each(b, func(s *shard, at uint8, n name, hash uint64, _ int) {
		w := s.writing[n]
		w.now++
		w.shared = w.now > 1
		s.writing[n] = w
		if m := s.find(at, n.id, hash); m != nil && !b.retells {
			c.forget(s, m)
		}
	})
}

// wrote is called once the outcome of a batch is known, or known to be unknown. If it was
// applied, at seq, its records are remembered, but for keys that others wrote meanwhile.
func (c *cache) wrote(b *batch, seq store.Seq, beating *beating) {
	if slices.ContainsFunc(b.records, isDevices) {
		beating.Lock()
		defer beating.Unlock()
	}
	c.each(b, func(s *shard, at uint8, n name, hash uint64, put int) {
		s.ended[at].Add(1)
		if m := s.find(at, n.id, hash); m != nil {
			c.forget(s, m)
		}
		w := s.writing[n]
		if w.now--; w.now > 0 {
			s.writing[n] = w
			return
		}
		delete(s.writing, n)
		if put >= 0 && seq != 0 && !w.shared {
			m := &memo{version: seq, value: b.records[put], weight: weigh(b.Put[put].Key, b.Put[put].Value)}
			if devices, ok := m.value.(*record.Devices); ok {
				m.beats.Store(beating.find(devices))
			}
			c.keep(s, at, n.id, hash, m)
		}
	})
}

func isDevices(r record.Record) bool {
	_, ok := r.(*record.Devices)
	return ok
}

// each goes over what a batch writes of the kinds that are remembered: put is the place among
// its puts, or -1 where the key is dropped.
func (c *cache) each(b *batch, do func(s *shard, at uint8, n name, hash uint64, put int)) {
	visit := func(key store.Key, put int) {
		n := nameOf(key)
		if s, at, hash := c.shard(n); s != nil {
			s.Lock()
			do(s, at, n, hash, put)
			s.Unlock()
		}
	}
	for _, key := range b.Drop {
		visit(key, -1)
	}
	for i := range b.records {
		visit(b.Put[i].Key, i)
	}
}
