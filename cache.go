package denizen

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// memo is a record that was read, decoded. Once it is dead nobody vouches for it any longer:
// something wrote to its key, or tried to, or it was evicted.
type memo struct {
	version store.Seq
	value   any // a pointer to a struct of internal/record; nil if there is no such record
	dead    atomic.Bool
	damage  damage                // of a record that cannot be read, whose value is nil
	beats   atomic.Pointer[beats] // of a presence: heartbeats that are not stored yet
	user    atomic.Pointer[memo]  // of a presence, a user or a locator's owner: the user, as last remembered

	// Where it is remembered.
	id   string
	hash uint64
	next atomic.Pointer[memo] // was remembered before it
}

// cache remembers records of a store that this directory alone writes to.
//
// What it answers is never older than what the store would answer: a key that is being
// written is forgotten before the write and not remembered again until its outcome is
// known, and nothing is remembered that was read while a write to its shard ended. Where
// a write only retells what readers know, it is forgotten when the outcome is known. The
// cache holds a bounded number of records, none of them absent ones.
type cache struct {
	seed   maphash.Seed
	tables [128]*table // by kind; nil for kinds that are not remembered
}

// table is the records of one kind that are remembered.
type table [64]shard

// shard is a hash table of lists that are read without a lock.
type shard struct {
	heads atomic.Pointer[[perShard]atomic.Pointer[memo]] // nil while there is nothing

	sync.Mutex                    // to change the lists, and for all else
	kept       int                // memos in the lists
	hand       int                // the list to evict from next
	writing    map[string]writers // writes under way
	ended      atomic.Uint64      // writes that came to an end
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
)

// perShard bounds what is remembered: 65,536 records of each kind, and as many tokens.
const perShard = 1024

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for _, kind := range record.Remembered {
		c.tables[kind] = new(table)
		for i := range c.tables[kind] {
			c.tables[kind][i].writing = map[string]writers{}
		}
	}
	return c
}

func nameOf(key store.Key) name {
	kind, id := record.Parts(key)
	return name{kind, id}
}

// shard answers where a record is remembered, nil if its kind is not, and the hash of its id. A
// nil cache remembers nothing.
func (c *cache) shard(n name) (s *shard, hash uint64) {
	if c == nil || c.tables[n.kind&127] == nil {
		return nil, 0
	}
	hash = maphash.String(c.seed, n.id)
	return &c.tables[n.kind&127][hash%64], hash
}

// list answers where the list of a hash begins, nil while there is nothing.
func (s *shard) list(hash uint64) *atomic.Pointer[memo] {
	heads := s.heads.Load()
	if heads == nil {
		return nil
	}
	return &heads[hash/64%uint64(len(heads))]
}

// find answers what is remembered under an id, or nil. It needs no lock.
func (s *shard) find(id string, hash uint64) *memo {
	at := s.list(hash)
	if at == nil {
		return nil
	}
	for m := at.Load(); m != nil; m = m.next.Load() {
		if m.hash == hash && m.id == id {
			return m
		}
	}
	return nil
}

// get answers what is remembered under a name, or nil.
func (c *cache) get(n name) *memo {
	s, hash := c.shard(n)
	if s == nil {
		return nil
	}
	return s.find(n.id, hash)
}

// look is get, and where nothing is remembered it is called before the record is read from
// the store: what else it answers goes to remember with the record.
func (c *cache) look(n name) (m *memo, ended uint64) {
	s, hash := c.shard(n)
	if s == nil {
		return nil, 0
	}
	ended = s.ended.Load()
	return s.find(n.id, hash), ended
}

// remember keeps m, unless its record may have been written since look. It answers
// the memo that is remembered under the name now, or m itself, dead.
func (c *cache) remember(n name, ended uint64, m *memo) *memo {
	s, hash := c.shard(n)
	if s == nil || m.value == nil {
		m.dead.Store(true)
		return m
	}
	s.Lock()
	defer s.Unlock()
	if s.ended.Load() != ended || s.writing[n.id].now > 0 {
		m.dead.Store(true)
		return m
	}
	if known := s.find(n.id, hash); known != nil {
		return known
	}
	s.keep(n.id, hash, m)
	return m
}

// keep puts a memo into the shard, in place of another if it is full.
func (s *shard) keep(id string, hash uint64, m *memo) {
	heads := s.heads.Load()
	if heads == nil {
		heads = new([perShard]atomic.Pointer[memo])
		s.heads.Store(heads)
	}
	for s.kept >= perShard {
		if m := heads[s.hand].Load(); m != nil {
			s.forget(m)
		}
		s.hand = (s.hand + 1) % len(heads)
	}
	s.kept++
	m.id, m.hash = id, hash
	at := s.list(hash)
	m.next.Store(at.Load())
	at.Store(m)
}

// forget takes a memo out of its list. It still leads on whoever has just come by it.
func (s *shard) forget(m *memo) {
	m.dead.Store(true)
	at := s.list(m.hash)
	for at.Load() != m {
		at = &at.Load().next
	}
	at.Store(m.next.Load())
	s.kept--
}

// writes is called before a batch is committed: its records are forgotten until wrote is
// called, whatever came of it, unless it retells what they say.
func (c *cache) writes(b *batch) {
	c.each(b, func(s *shard, id string, hash uint64, _ record.Record) {
		w := s.writing[id]
		w.now++
		w.shared = w.now > 1
		s.writing[id] = w
		if m := s.find(id, hash); m != nil && !b.retells {
			s.forget(m)
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
	c.each(b, func(s *shard, id string, hash uint64, r record.Record) {
		s.ended.Add(1)
		if m := s.find(id, hash); m != nil {
			s.forget(m)
		}
		w := s.writing[id]
		if w.now--; w.now > 0 {
			s.writing[id] = w
			return
		}
		delete(s.writing, id)
		if r != nil && seq != 0 && !w.shared {
			m := &memo{version: seq, value: r}
			if devices, ok := r.(*record.Devices); ok {
				m.beats.Store(beating.find(devices))
			}
			s.keep(id, hash, m)
		}
	})
}

func isDevices(r record.Record) bool {
	_, ok := r.(*record.Devices)
	return ok
}

// each goes over what a batch writes of the kinds that are remembered; the record is nil
// where the key is dropped.
func (c *cache) each(b *batch, do func(s *shard, id string, hash uint64, r record.Record)) {
	visit := func(key store.Key, r record.Record) {
		n := nameOf(key)
		if s, hash := c.shard(n); s != nil {
			s.Lock()
			do(s, n.id, hash, r)
			s.Unlock()
		}
	}
	for _, key := range b.Drop {
		visit(key, nil)
	}
	for i, r := range b.records {
		visit(b.Put[i].Key, r)
	}
}
