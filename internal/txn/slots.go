package txn

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/denizenhq/denizen/internal/heartbeat"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// slots remembers presences as most of them are: one device, and a chain that others have too. A
// heartbeat and a look at a presence touch an entry of the index and a slot, which is two or three
// lines of memory; an [Entry] with its record is a dozen. Any other presence is an entry of the
// cache: plain, in the function keep, is the one place that tells them apart. No presence is both.
//
// A slot is as exact as an entry. It is taken out before its record is written, and its standing is
// withdrawn before and after the record of its user is. Whoever puts in or takes out the slot of a
// user holds the lock of the user's shard. Only one whose heartbeats are all stored is evicted
// without.
//
// The heartbeats of a slot are in the slot alone. When it is taken out those that are not stored go
// into the table of heartbeats, and when the presence has a slot again they come back.
type slots struct {
	beats *heartbeat.Table
	seed  maphash.Seed
	index [64]atomic.Pointer[index] // by the lowest bits of the hash
	// Slots are in chunks that never move, in the order in which they came.
	chunks []atomic.Pointer[chunk]
	shapes []atomic.Pointer[shape]
	owing  atomic.Bool  // some slot may have heartbeats that are not stored
	bytes  atomic.Int64 // what the slots there are may take

	mu      sync.Mutex // guards what follows, and changes of the above but owing
	made    uint32     // slots there are, in use or free
	free    []uint32
	hand    uint32 // the slot to evict next
	byShape map[string]uint32
	unused  []uint32 // numbers of shapes
	weight  int64    // of the shapes
	scratch []byte
}

const (
	inChunk = 1024
	// slotBytes is what a slot takes: 128 bytes, the text of an incarnation, and two to four words
	// of the index.
	slotBytes = 128 + 48 + 24
	maxShapes = 4096
	// maxShape is the most bytes that a shape weighs.
	maxShape = 2 << 10
)

// index leads from the hash of an id to its slot, by open addressing. A word is the tag of the hash
// and the number of the slot plus one, or removed. The index is replaced by a longer one as it
// fills. Who still looks into the one before may miss a slot, and takes the lock to make sure.
type index struct {
	mask  uint32
	taken int // words that are not zero; guarded by slots.mu
	words []atomic.Uint64
}

const removed = math.MaxUint32

// tagOf is what an index knows of a hash. Its lower bits say where to look.
func tagOf(hash uint64) uint32 { return uint32(hash >> 6) }

type chunk struct {
	slots [inChunk]slot
	owing [inChunk / 64]atomic.Uint64 // which slots may have heartbeats that are not stored
}

// slot is 128 bytes, of which a heartbeat touches both lines. Its version is odd while somebody
// changes it, and another one after. Who reads it reads the version before and after.
type slot struct {
	version     atomic.Uint64
	state       atomic.Uint64 // see below
	begin, beat atomic.Int64  // of the device; the beat is the latest, stored or not
	incarnation atomic.Pointer[byte]
	seq         atomic.Uint64    // the version of the record
	here, left  atomic.Int64     // as the record says
	id          [8]atomic.Uint64 // see idWord
}

// The state of a slot. One that is not live has the state 0.
const (
	idBits, incarnationBits = 8, 8 // of the lengths
	standing                = 1 << (idBits + incarnationBits)
	owed                    = standing << 1 // a heartbeat is not stored
	storing                 = standing << 2 // one is being stored
	shapeShift              = 32
)

func stateOf(id, incarnation int, shape uint32) uint64 {
	return uint64(id) | uint64(incarnation)<<idBits | uint64(shape)<<shapeShift
}

// shape is a device as many users have it.
type shape struct {
	name  string
	chain presence.Chain
	key   string
	users int // guarded by slots.mu
}

func (s *shape) weight() int64 { return int64(128 + 2*len(s.key) + 24*len(s.chain)) }

// newSlots returns a table of slots that weigh some bytes at most.
func newSlots(bytes int64, seed maphash.Seed, beats *heartbeat.Table) *slots {
	n := max(0, bytes-bytes/16) / slotBytes // a sixteenth is for the shapes
	return &slots{
		beats: beats, seed: seed,
		chunks: make([]atomic.Pointer[chunk], n/inChunk),
		shapes: make([]atomic.Pointer[shape], maxShapes), byShape: map[string]uint32{},
	}
}

// maxShapeBytes is what all shapes may weigh.
func (t *slots) maxShapeBytes() int64 { return int64(len(t.chunks)) * inChunk * slotBytes / 16 }

func (t *slots) at(n uint32) *slot { return &t.chunks[n/inChunk].Load().slots[n%inChunk] }

// idWord returns eight bytes of an id of eight bytes at least. The last of its words overlaps the
// one before it.
func idWord(id string, i int) uint64 {
	at := min(8*i, len(id)-8)
	return binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(id[at:at+8]), 8))
}

func idWords(length int) int { return (length + 7) / 8 }

// has reports whether the slot was of a user when its state was read.
func (s *slot) has(id string, state uint64) bool {
	if state&(1<<idBits-1) != uint64(len(id)) {
		return false
	}
	for i := range idWords(len(id)) {
		if s.id[i].Load() != idWord(id, i) {
			return false
		}
	}
	return true
}

// user puts the id of a slot that is locked and live into some memory.
func (s *slot) user(into *[8 * len(slot{}.id)]byte) []byte {
	n := int(s.state.Load() & (1<<idBits - 1))
	for i := range idWords(n) {
		binary.LittleEndian.PutUint64(into[min(8*i, n-8):], s.id[i].Load())
	}
	return into[:n]
}

// lock makes the version odd, and returns what it was. Nobody holds it for longer than it takes to
// change some words.
func (s *slot) lock() uint64 {
	for {
		v := s.version.Load()
		if v&1 == 0 && s.version.CompareAndSwap(v, v+1) {
			return v
		}
		runtime.Gosched()
	}
}

// slotable reports whether an id may have a slot.
func slotable(id string) bool { return len(id) >= 8 && len(id) <= 8*len(slot{}.id) }

// find returns the slot of a user and its number. It takes no lock: by the time it returns the slot
// may be another user's.
func (t *slots) find(id string, hash uint64) (*slot, uint32) {
	x := t.index[hash%64].Load()
	if x == nil || !slotable(id) {
		return nil, 0
	}
	tag := tagOf(hash)
	for at := tag; ; at++ {
		word := x.words[at&x.mask].Load()
		if word == 0 {
			return nil, 0
		}
		if uint32(word>>32) == tag && uint32(word) != removed {
			n := uint32(word) - 1
			if s := t.at(n); s.has(id, s.state.Load()) {
				return s, n
			}
		}
	}
}

// lockOf returns the slot of a user, locked, or nil.
func (t *slots) lockOf(id string, hash uint64) (*slot, uint32) {
	s, n := t.find(id, hash)
	if s == nil {
		return nil, 0
	}
	v := s.lock()
	if !s.has(id, s.state.Load()) {
		s.version.Store(v + 2)
		return nil, 0
	}
	return s, n
}

func (s *slot) unlock() { s.version.Add(1) }

// Seen is a presence as it was at one instant. It is for one heartbeat, or to be read.
type Seen struct {
	slot        *slot
	version     uint64
	state, seq  uint64
	begin, beat int64
	here, left  int64
	incarnation *byte
	shape       *shape
	number      uint32
}

// see fills in what there is of a user, if there is a slot.
func (t *slots) see(id string, hash uint64, into *Seen) bool {
	x := t.index[hash%64].Load()
	if x == nil || !slotable(id) {
		return false
	}
	tag := tagOf(hash)
	for at := tag; ; at++ {
		word := x.words[at&x.mask].Load()
		if word == 0 {
			return false
		}
		if uint32(word>>32) != tag || uint32(word) == removed {
			continue
		}
		into.number = uint32(word) - 1
		s := t.at(into.number)
		for {
			into.version = s.version.Load()
			into.state = s.state.Load()
			if into.version&1 == 0 {
				is := s.has(id, into.state)
				into.begin, into.beat = s.begin.Load(), s.beat.Load()
				into.incarnation, into.seq = s.incarnation.Load(), s.seq.Load()
				into.here, into.left = s.here.Load(), s.left.Load()
				into.shape = t.shapes[into.state>>shapeShift%maxShapes].Load()
				if s.version.Load() == into.version {
					if into.slot = s; is {
						return true
					}
					break
				}
			}
			runtime.Gosched()
		}
	}
}

// text returns the incarnation.
func (n *Seen) text() string {
	return unsafe.String(n.incarnation, n.state>>idBits&(1<<incarnationBits-1))
}

// Stands reports whether the user of the presence is known to stand: to be of an incarnation, and
// not blocked.
func (n *Seen) Stands(incarnation string) bool {
	return n.state&standing != 0 && n.text() == incarnation // which looks at equal pointers first
}

// Read returns the presence at now.
func (n *Seen) Read(now int64) presence.Reading {
	device := [...]presence.Device{n.device()}
	return presence.Read(device[:], now)
}

// device returns the device of the presence.
func (n *Seen) device() presence.Device {
	return presence.Device{Name: n.shape.name, Start: n.begin, Beat: n.beat, Chain: n.shape.chain}
}

// record returns the presence as its record says it, with the heartbeats that it lacks.
func (n *Seen) record(user string) *record.Devices {
	return &record.Devices{
		User: user, Incarnation: n.text(), Here: n.here, Left: n.left,
		Devices: []presence.Device{n.device()},
	}
}

// shapeOf returns the number of a shape for one more user, and the shape; false if there is no room
// for it.
func (t *slots) shapeOf(d *presence.Device) (uint32, bool) {
	key := t.scratch[:0]
	text := func(s string) {
		key = binary.AppendUvarint(key, uint64(len(s)))
		key = append(key, s...)
	}
	text(d.Name)
	for _, l := range d.Chain {
		text(l.State)
		key = binary.AppendVarint(key, l.Seconds)
	}
	t.scratch = key
	if n, ok := t.byShape[string(key)]; ok {
		t.shapes[n].Load().users++
		return n, true
	}
	s := &shape{key: string(key), name: strings.Clone(d.Name), users: 1}
	for _, l := range d.Chain {
		if own := presence.Shared(l.State); own == l.State {
			l.State = own
		}
		s.chain = append(s.chain, presence.Link{State: strings.Clone(l.State), Seconds: l.Seconds})
	}
	weight := s.weight()
	if len(d.Chain) == 0 || weight > maxShape || t.weight+weight > t.maxShapeBytes() {
		return 0, false
	}
	n := uint32(len(t.byShape))
	if last := len(t.unused) - 1; last >= 0 {
		n, t.unused = t.unused[last], t.unused[:last]
	}
	if n >= maxShapes {
		return 0, false
	}
	t.weight += weight
	t.byShape[s.key] = n
	t.shapes[n].Store(s)
	return n, true
}

// leave makes a shape one of a user less.
func (t *slots) leave(n uint32) {
	s := t.shapes[n].Load()
	if s.users--; s.users > 0 {
		return
	}
	t.shapes[n].Store(nil)
	delete(t.byShape, s.key)
	t.weight -= s.weight()
	t.unused = append(t.unused, n)
}

// keep gives a record a slot, with the heartbeats that it lacks. It reports false if the record is
// not plain or there is no room. The shard of the user is locked, and the user has no slot.
func (t *slots) keep(r *record.Devices, seq store.Seq, hash uint64) bool {
	if !plain(r) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d := &r.Devices[0]
	shape, ok := t.shapeOf(d)
	if !ok {
		return false
	}
	n, ok := t.room()
	if !ok {
		t.leave(shape)
		return false
	}
	beat := d.Latest(t.beats.Take(r))
	s := t.at(n)
	s.lock()
	for i := range idWords(len(r.User)) {
		s.id[i].Store(idWord(r.User, i))
	}
	s.begin.Store(d.Start)
	s.beat.Store(beat)
	s.seq.Store(uint64(seq))
	s.here.Store(r.Here)
	s.left.Store(r.Left)
	s.incarnation.Store(unsafe.StringData(strings.Clone(r.Incarnation)))
	state := stateOf(len(r.User), len(r.Incarnation), shape)
	if beat != d.Origin() {
		state |= owed
	}
	s.state.Store(state)
	s.unlock()
	t.insert(n, hash)
	if state&owed != 0 {
		t.owe(n)
	}
	return true
}

// plain reports whether a slot can hold all that a record says.
func plain(r *record.Devices) bool {
	return len(r.Devices) == 1 && !r.Hidden && slotable(r.User) &&
		r.Incarnation != "" && len(r.Incarnation) < 1<<incarnationBits
}

// room returns a slot that nobody has. It evicts another where there are no more, unless its
// heartbeats are not stored.
func (t *slots) room() (uint32, bool) {
	if last := len(t.free) - 1; last >= 0 {
		n := t.free[last]
		t.free = t.free[:last]
		return n, true
	}
	if n := t.made; int(n) < len(t.chunks)*inChunk {
		if n%inChunk == 0 {
			t.chunks[n/inChunk].Store(new(chunk))
			t.bytes.Add(inChunk * slotBytes * 16 / 15) // with the shapes
		}
		t.made++
		return n, true
	}
	for range min(t.made, 64) {
		n := t.hand
		t.hand = (t.hand + 1) % t.made
		s := t.at(n)
		s.lock()
		if s.state.Load()&(owed|storing) != 0 {
			s.unlock()
			continue
		}
		t.clear(s, n)
		return n, true
	}
	return 0, false
}

// clear takes a live slot that is locked out of the index, and unlocks it.
func (t *slots) clear(s *slot, n uint32) {
	var id [8 * len(slot{}.id)]byte
	hash := maphash.Bytes(t.seed, s.user(&id))
	x := t.index[hash%64].Load()
	for at := tagOf(hash); ; at++ {
		if word := &x.words[at&x.mask]; uint32(word.Load()) == n+1 {
			word.Store(removed)
			break
		}
	}
	shape := uint32(s.state.Load() >> shapeShift)
	s.state.Store(0)
	s.incarnation.Store(nil)
	s.unlock()
	t.leave(shape) // whoever reads it after this finds another version of the slot
}

// insert makes the index lead to a slot.
func (t *slots) insert(n uint32, hash uint64) {
	at := &t.index[hash%64]
	x := at.Load()
	if x == nil || 4*(x.taken+1) > 3*len(x.words) {
		x = x.rebuilt()
		at.Store(x)
	}
	x.put(uint64(tagOf(hash))<<32 | uint64(n+1))
}

func (x *index) put(word uint64) {
	at := uint32(word >> 32)
	for {
		here := &x.words[at&x.mask]
		switch there := here.Load(); {
		case there == 0:
			x.taken++
			fallthrough
		case uint32(there) == removed:
			here.Store(word)
			return
		}
		at++
	}
}

// rebuilt returns an index without the words that were removed, and room for as many as there are.
func (x *index) rebuilt() *index {
	var words []uint64
	if x != nil {
		for i := range x.words {
			if word := x.words[i].Load(); word != 0 && uint32(word) != removed {
				words = append(words, word)
			}
		}
	}
	size := 64
	for size < 2*(len(words)+1) {
		size *= 2
	}
	x = &index{mask: uint32(size - 1), words: make([]atomic.Uint64, size)}
	for _, word := range words {
		x.put(word)
	}
	return x
}

// drop takes out the slot of a user whose record is about to change, or may have. Its heartbeats
// that are not stored go into the table. The shard of the user is locked.
func (t *slots) drop(id string, hash uint64) {
	if s, _ := t.find(id, hash); s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s, n := t.lockOf(id, hash)
	if s == nil {
		return // evicted
	}
	state := s.state.Load()
	if state&(owed|storing) != 0 {
		var seen Seen
		t.load(s, n, &seen)
		t.beats.Put(seen.record(id))
	}
	t.clear(s, n)
	t.free = append(t.free, n)
}

// load fills in what a locked slot holds.
func (t *slots) load(s *slot, n uint32, into *Seen) {
	*into = Seen{
		slot: s, number: n, state: s.state.Load(), seq: s.seq.Load(),
		here: s.here.Load(), left: s.left.Load(),
		begin: s.begin.Load(), beat: s.beat.Load(), incarnation: s.incarnation.Load(),
	}
	into.shape = t.shapes[into.state>>shapeShift%maxShapes].Load()
}

// unstand withdraws that the user of a slot stands. It is called before and after the record of the
// user is written, and changes the version even if nobody said so: somebody may be about to.
func (t *slots) unstand(id string, hash uint64) {
	if s, _ := t.lockOf(id, hash); s != nil {
		s.state.Store(s.state.Load() &^ standing)
		s.unlock()
	}
}

// wrote notes what became of a record whose heartbeats were stored. It reports false if there is no
// slot.
func (t *slots) wrote(r *record.Devices, hash uint64, seq store.Seq) bool {
	s, _ := t.lockOf(r.User, hash)
	if s == nil {
		return false
	}
	s.seq.Store(uint64(seq))
	s.here.Store(r.Here)
	s.left.Store(r.Left)
	s.unlock()
	return true
}

// Stood notes that the user of a presence was found to stand after it was seen. It keeps the text
// of the incarnation in memory.
func (n *Seen) Stood(incarnation string) {
	s := n.slot
	if n.text() != incarnation || !s.version.CompareAndSwap(n.version, n.version+1) {
		return
	}
	// From now on it is compared with this copy, which whoever comes again will have.
	n.state |= standing
	n.incarnation = unsafe.StringData(incarnation)
	s.incarnation.Store(n.incarnation)
	s.state.Store(n.state)
	n.version += 2
	s.version.Store(n.version)
}

// beat keeps a heartbeat of what was seen. It is not kept if it is none: see [DB.Beat]. Done is
// false if the slot has changed since.
func (t *slots) beat(n *Seen, device string, chain presence.Chain, now int64) (kept, done bool) {
	if n.shape.name != device || !presence.Equal(n.shape.chain, chain) {
		return false, true
	}
	if link, _ := n.shape.chain.At(n.beat, now); link != 0 {
		return false, true
	}
	s := n.slot
	if now <= n.beat { // as when the same millisecond has seen one
		return true, s.version.Load() == n.version
	}
	if !s.version.CompareAndSwap(n.version, n.version+1) {
		return false, false
	}
	s.beat.Store(now)
	if n.state&owed == 0 {
		s.state.Store(n.state | owed)
	}
	s.version.Store(n.version + 2)
	if n.state&owed == 0 {
		t.owe(n.number)
	}
	return true, true
}

// owe notes that the heartbeats of a slot are to be stored.
func (t *slots) owe(n uint32) {
	t.chunks[n/inChunk].Load().owing[n%inChunk/64].Or(1 << (n % 64))
	if !t.owing.Load() {
		t.owing.Store(true)
		t.beats.Tell()
	}
}

// owed returns how many slots may have heartbeats that are not stored.
func (t *slots) owed() (n int) {
	for i := range t.chunks {
		c := t.chunks[i].Load()
		if c == nil {
			break
		}
		for j := range c.owing {
			n += bits.OnesCount64(c.owing[j].Load())
		}
	}
	return n
}

// debt is a slot with heartbeats to store.
type debt struct {
	user   string
	number uint32
}

// debts returns the slots whose heartbeats are not stored, and takes them off the list.
func (t *slots) debts() (all []debt) {
	t.owing.Store(false)
	var id [8 * len(slot{}.id)]byte
	for i := range t.chunks {
		c := t.chunks[i].Load()
		if c == nil {
			break
		}
		for j := range c.owing {
			if c.owing[j].Load() == 0 {
				continue
			}
			word := c.owing[j].Swap(0)
			for k := range uint32(64) {
				if word&(1<<k) == 0 {
					continue
				}
				n := uint32(i)*inChunk + uint32(j)*64 + k
				s := t.at(n)
				s.lock()
				if s.state.Load()&owed != 0 {
					all = append(all, debt{string(s.user(&id)), n})
				}
				s.unlock()
			}
		}
	}
	return all
}

// take fills in what a slot owes, or owed before a write of it was tried. From then on it owes no
// more than what comes since.
func (t *slots) take(d debt, into *Seen) bool {
	s := t.at(d.number)
	s.lock()
	defer s.unlock()
	state := s.state.Load()
	if state&(owed|storing) == 0 || !s.has(d.user, state) {
		return false
	}
	s.state.Store(state&^owed | storing)
	t.load(s, d.number, into)
	return true
}

// settle ends what debts and take began. Unless all was stored the slot owes it again.
func (t *slots) settle(d debt, stored bool) {
	s := t.at(d.number)
	s.lock()
	state := s.state.Load()
	again := false
	if s.has(d.user, state) {
		again = !stored && state&(owed|storing) != 0
		if state &^= storing; again {
			state |= owed
		}
		s.state.Store(state)
	}
	s.unlock()
	if again {
		t.owe(d.number)
	}
}
