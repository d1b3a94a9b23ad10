// Package watch is the table of who watches whose presence.
//
// It knows only users whom somebody watches: what was last told of each, and when the next state
// ends. It reads nothing. Its caller tells it what was written, and reads for it what is due.
//
// A watcher holds at most one state of a user that its reader has not taken yet. A later one takes
// the place of an earlier one, and then the watcher knows that its reader missed some. So nothing
// here ever waits for a reader.
//
// Three kinds of places in the order of commits keep what is told in order: the version of the
// record that was last told, the last commit that is known to have changed it, and the version that
// was read. A commit that comes to light after what came later was told counts as missed.
//
// There are two kinds of locks, that of the table and that of each watcher. Whoever needs both
// takes the table's first.
package watch

import (
	"container/heap"
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/denizenhq/denizen/internal/presence"
)

// ErrFull says that there is no room for another watcher.
var ErrFull = errors.New("too many are watched")

// Never is the time of what does not happen.
const Never = presence.Forever

// Table is who watches whom. The nil Table has no watchers and ignores what it is told.
type Table struct {
	bound    int64         // bytes that all watchers may weigh
	due      chan struct{} // has a value once something is due earlier than it was said to be
	count    atomic.Int64  // len(users)
	advanced atomic.Int64  // up to when ends of states were handed out

	mu        sync.Mutex
	users     map[string]*user
	viewers   map[string]map[*Watcher]struct{}
	weight    int64
	byNext    byNext
	tells     uint64        // counts what it was told
	said      int64         // what Next returned last
	following chan struct{} // closed while the feed is followed
	follows   bool
	wanted    chan struct{} // has a value once somebody watches
}

// user is a user whom somebody watches. The lock of the table guards it.
type user struct {
	id     string
	loaded bool
	hidden bool
	doubt  bool  // commits may have been missed
	asOf   int64 // up to when its states were told
	ends   int64 // when a state of one of its devices ends
	look   int64 // when its record is to be read besides; Never: not
	next   int64 // when it is due
	index  int   // in byNext; -1: not there
	state  *presence.Reading
	subs   []*sub

	told    uint64 // the table's count when it was last told of
	version uint64 // of the record that was told
	event   uint64 // the last commit that is known to have changed it
	caused  bool   // whether that commit made the version
	pending bool   // whether the record is to be read because of that commit
	sets    bool   // whether there should be a record then
	asks    bool   // whether permission is to be asked for again once it is read
}

// sub is a watcher's interest in a user.
type sub struct {
	w       *Watcher
	u       *user
	at      int  // among the watcher's
	pos     int  // among the user's
	peer    bool // who may be refused, and from whom users hide
	allowed bool

	// The lock of the watcher guards what follows.
	last, next *presence.Reading // that was taken, and that is to be taken
	asking     bool
}

// Watcher is one who watches.
type Watcher struct {
	table  *Table
	viewer string
	keyed  bool
	subs   []sub
	woken  chan struct{}

	mu      sync.Mutex
	started bool
	missed  bool
	check   bool
	queue   []int
	ask     []int
}

// Sub is a user to be watched.
type Sub struct {
	ID      string
	Peer    bool // whether permission is needed, and users may hide
	Allowed bool
}

// State is a state of the user at a place among those of a watcher.
type State struct {
	At int
	presence.Reading
}

// none is what is shown of whom nothing is.
var none presence.Reading

// weightOf is what a watcher with some users weighs, about.
func weightOf(subs []Sub) int64 {
	const each = 96 + int64(unsafe.Sizeof(sub{})+unsafe.Sizeof(user{})+
		unsafe.Sizeof(presence.Reading{}))
	weight := int64(unsafe.Sizeof(Watcher{})) + 256
	for i := range subs {
		weight += each + int64(len(subs[i].ID))
	}
	return weight
}

// New returns a table whose watchers weigh some bytes at most.
func New(bytes int64) *Table {
	return &Table{
		bound: bytes, due: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		users: map[string]*user{}, viewers: map[string]map[*Watcher]struct{}{},
		following: make(chan struct{}), said: Never,
	}
}

// Empty reports whether nobody is watched.
func (t *Table) Empty() bool { return t == nil || t.count.Load() == 0 }

// Size returns how many users are watched, and what all watchers weigh.
func (t *Table) Size() (users int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.users), t.weight
}

// Due returns a channel that receives a value when [Table.Next] may have become earlier.
func (t *Table) Due() <-chan struct{} { return t.due }

// Wanted returns a channel that receives a value when somebody is watched.
func (t *Table) Wanted() <-chan struct{} { return t.wanted }

// Watches reports whether somebody watches a user.
func (t *Table) Watches(id string) bool {
	if t.Empty() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.users[id] != nil
}

// Add adds a watcher. Viewer is the user who watches, or empty. A user may have as many as most;
// and all users together leave a quarter of the room to who is none. Keyed says that the watcher
// rests on an access key. Nothing is told to it before [Watcher.Start].
func (t *Table) Add(viewer string, keyed bool, subs []Sub, most int) (*Watcher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	weight := weightOf(subs)
	bound := t.bound
	if viewer != "" {
		bound -= bound / 4 // the rest is for those who are no users
		if len(t.viewers[viewer]) >= most {
			return nil, ErrFull
		}
	}
	if t.weight+weight > bound {
		return nil, ErrFull
	}
	t.weight += weight
	w := &Watcher{
		table: t, viewer: viewer, keyed: keyed, woken: make(chan struct{}, 1),
		subs: make([]sub, len(subs)),
	}
	if t.viewers[viewer] == nil {
		t.viewers[viewer] = map[*Watcher]struct{}{}
	}
	t.viewers[viewer][w] = struct{}{}
	for i := range subs {
		u := t.users[subs[i].ID]
		if u == nil {
			u = &user{id: subs[i].ID, state: &none, ends: Never, look: Never, next: Never, index: -1}
			t.users[u.id] = u
			t.count.Add(1)
		}
		w.subs[i] = sub{w: w, u: u, at: i, pos: len(u.subs), peer: subs[i].Peer, allowed: subs[i].Allowed}
		u.subs = append(u.subs, &w.subs[i])
	}
	signal(t.wanted)
	return w, nil
}

// Remove removes a watcher.
func (t *Table) Remove(w *Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	subs := make([]Sub, len(w.subs))
	for i := range w.subs {
		s := &w.subs[i]
		subs[i].ID = s.u.id
		last := len(s.u.subs) - 1
		s.u.subs[s.pos] = s.u.subs[last]
		s.u.subs[s.pos].pos = s.pos
		s.u.subs[last] = nil
		if s.u.subs = s.u.subs[:last]; last == 0 {
			t.place(s.u, Never)
			delete(t.users, s.u.id)
			t.count.Add(-1)
		}
	}
	t.weight -= weightOf(subs)
	if delete(t.viewers[w.viewer], w); len(t.viewers[w.viewer]) == 0 {
		delete(t.viewers, w.viewer)
	}
}

// Tell tells what a commit made of the devices of a user, decided at an instant: those before, with
// the heartbeats applied, and those after. Ask says that permission to see the user is then asked
// for again, which is done first: a reader who takes what is told may be slow to come back.
func (t *Table) Tell(
	id string, seq uint64, at int64, before, after []presence.Device, hidden, ask bool,
) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[id]
	if u == nil {
		return
	}
	if ask || u.asks {
		u.ask()
	}
	if t.known(u, seq) {
		return
	}
	t.tells++
	u.told = t.tells
	if !u.loaded {
		u.loaded, u.asOf = true, at
	} else if at > u.asOf {
		t.run(u, before, at)
	}
	u.version, u.event, u.caused, u.pending = seq, seq, true, false
	t.become(u, after, at, hidden)
}

// known reports whether what is told of a user is as of a commit or later. If it did not know of
// the commit, and what was told is that of a later one, then the state of the commit was missed.
func (t *Table) known(u *user, seq uint64) bool {
	if !u.loaded || seq > u.version {
		return false
	}
	if seq > u.event {
		if u.caused {
			t.miss(u)
		}
		u.event, u.caused = seq, true
	}
	return true
}

// Heard notes that a commit changed the presence of a user, and reports whether its record is to be
// read: see [Table.Load]. Sets says that the commit left one.
func (t *Table) Heard(id string, seq uint64, sets bool) (read bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[id]
	if u == nil || t.known(u, seq) || seq <= u.event {
		return false
	}
	if u.pending {
		t.miss(u) // only what the later one made of it will be read
	}
	u.event, u.pending, u.sets = seq, true, sets
	return true
}

// Mark returns what [Table.Load] needs. Call it before the records are read.
func (t *Table) Mark() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tells
}

// Load tells what was read of a user after a mark, at an instant: the version of the record, 0 if
// there is none, and its devices with the heartbeats applied. The record is not older than base. It
// reports whether that was another state. If something was told since the mark, it does nothing,
// and the user is due.
func (t *Table) Load(
	id string, mark, version, base uint64, at int64, devices []presence.Device, hidden bool,
) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[id]
	if u == nil {
		return false
	}
	if u.told > mark {
		u.look = 0
		t.schedule(u)
		return false
	}
	t.tells++
	u.told = t.tells
	if version == 0 && u.pending && u.sets {
		t.miss(u) // what the commit had set is gone again
	}
	if version == 0 || !u.loaded {
		version = max(version, base, u.event, u.version)
	}
	switch {
	case !u.loaded:
		u.loaded, u.asOf, u.version, u.event, u.caused = true, at, version, version, true
	case version != u.version:
		if u.doubt || u.pending && u.ends <= at {
			t.miss(u) // of what was before, too little was told
		}
		u.version, u.caused = version, u.pending
	}
	u.doubt, u.pending = false, false
	if u.asks {
		u.ask()
	}
	was := u.state
	t.become(u, devices, at, hidden)
	return !same(was, u.state)
}

// become tells the states that devices go through up to an instant. Whoever may not see them is not
// shown them in passing.
func (t *Table) become(u *user, devices []presence.Device, upTo int64, hidden bool) {
	if hidden {
		t.hide(u, true)
	}
	t.run(u, devices, upTo)
	t.hide(u, hidden)
}

// run tells the states that devices go through up to an instant, from where those before ended.
func (t *Table) run(u *user, devices []presence.Device, upTo int64) {
	for at := u.asOf; ; {
		r := presence.Read(devices, at)
		changed := !same(u.state, &r)
		if u.state = &r; changed {
			for _, s := range u.subs {
				s.show()
			}
		}
		u.ends = presence.NextEnd(devices, at)
		if u.ends > upTo {
			u.asOf = max(u.asOf, upTo)
			t.schedule(u)
			return
		}
		at = u.ends
	}
}

func (t *Table) hide(u *user, hidden bool) {
	if u.hidden == hidden {
		return
	}
	u.hidden = hidden
	for _, s := range u.subs {
		s.show()
	}
}

// miss notes that the watchers of a user missed a state of it.
func (t *Table) miss(u *user) {
	for _, s := range u.subs {
		w := s.w
		w.mu.Lock()
		if s.last != nil && (!s.peer || s.allowed && !u.hidden) {
			w.missed = true
			signal(w.woken)
		}
		w.mu.Unlock()
	}
}

// same reports whether two readings are the same state for who watches: its name, and what follows.
func same(a, b *presence.Reading) bool {
	if len(a.Rest) == 0 || len(b.Rest) == 0 {
		return len(a.Rest) == len(b.Rest)
	}
	return a.Rest[0].State == b.Rest[0].State && presence.Equal(a.Rest[1:], b.Rest[1:])
}

// show gives the watcher the present state of the user, if that is another than the one it has. The
// table must be locked.
func (s *sub) show() {
	state := s.u.state
	if s.peer && (s.u.hidden || !s.allowed) {
		state = &none
	}
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.started:
		return
	case s.next != nil: // not taken yet
		if same(s.next, state) {
			return
		}
		w.missed = w.missed || s.last != nil
	case s.last != nil && same(s.last, state):
		return
	default:
		w.queue = append(w.queue, s.at)
	}
	s.next = state
	signal(w.woken)
}

// Start gives the watcher the present state of each user, in their order. From then on it is told
// each that follows.
func (w *Watcher) Start() {
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	w.mu.Lock()
	w.started = true
	w.mu.Unlock()
	for i := range w.subs {
		w.subs[i].show()
	}
}

// Allow sets whether the watcher may see the user at a place.
func (w *Watcher) Allow(at int, allowed bool) {
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	if s := &w.subs[at]; s.allowed != allowed {
		s.allowed = allowed
		s.show()
	}
}

// Woken returns a channel that receives a value when there may be something to take.
func (w *Watcher) Woken() <-chan struct{} { return w.woken }

// Take returns the next state. Missed is returned without one, before those that took the place of
// what was missed.
func (w *Watcher) Take() (s State, missed, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missed {
		w.missed = false
		return State{}, true, false
	}
	if len(w.queue) == 0 {
		return State{}, false, false
	}
	sub := &w.subs[w.queue[0]]
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil
	}
	sub.last, sub.next = sub.next, nil
	return State{At: sub.at, Reading: *sub.last}, false, true
}

// Asked returns whether the watcher itself is to be checked, and at which places permission is to
// be asked for again. Each is returned once.
func (w *Watcher) Asked() (check bool, at []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	check, at = w.check, w.ask
	w.check, w.ask = false, nil
	for _, i := range at {
		w.subs[i].asking = false
	}
	return check, at
}

// Check lets the watchers of a viewer be checked.
func (t *Table) Check(viewer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.viewers[viewer] {
		w.wantCheck()
	}
}

// CheckKeyed lets all watchers be checked that rest on an access key.
func (t *Table) CheckKeyed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ws := range t.viewers {
		for w := range ws {
			if w.keyed {
				w.wantCheck()
			}
		}
	}
}

// CheckAll lets all watchers be checked.
func (t *Table) CheckAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ws := range t.viewers {
		for w := range ws {
			w.wantCheck()
		}
	}
}

func (w *Watcher) wantCheck() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check = true
	signal(w.woken)
}

// Ask lets permission to see a user be asked for again. If the record of the user is to be read
// because of a commit, it is asked for then: whoever may see the user now must not be shown what
// was before that.
func (t *Table) Ask(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch u := t.users[id]; {
	case u == nil:
	case u.pending:
		u.asks = true
	default:
		u.ask()
	}
}

// ask is Ask. The table must be locked.
func (u *user) ask() {
	u.asks = false
	for _, s := range u.subs {
		w := s.w
		w.mu.Lock()
		if s.peer && !s.asking {
			s.asking = true
			w.ask = append(w.ask, s.at)
			signal(w.woken)
		}
		w.mu.Unlock()
	}
}

// Doubt lets the record of a user be read at once. What it says then may have come by commits that
// nobody heard of.
func (t *Table) Doubt(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.users[id]; u != nil {
		t.doubt(u)
	}
}

// DoubtAll is Doubt for all users.
func (t *Table) DoubtAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.users {
		t.doubt(u)
	}
}

func (t *Table) doubt(u *user) {
	u.doubt, u.look = true, 0
	t.schedule(u)
}

// Look lets the record of a user be read at an instant too, even if it is being read.
func (t *Table) Look(id string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.users[id]; u != nil {
		u.look = min(u.look, at)
		t.schedule(u)
	}
}

// Retry lets the record of a user, which could not be read, be read at an instant.
func (t *Table) Retry(id string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.users[id]; u != nil {
		t.place(u, at)
	}
}

// Advanced returns up to when ends of states were handed out. A heartbeat from before then may be
// one that was not seen: see [Table.Look].
func (t *Table) Advanced() int64 {
	if t == nil {
		return 0
	}
	return t.advanced.Load()
}

// TakeDue returns at most a number of users whose records are to be read now, and a mark.
func (t *Table) TakeDue(now int64, most int) (ids []string, mark uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.byNext) > 0 && t.byNext[0].next <= now && len(ids) < most {
		u := t.byNext[0]
		t.place(u, Never)
		u.look = Never
		ids = append(ids, u.id)
	}
	if len(ids) > 0 {
		t.advanced.Store(now)
	}
	return ids, t.tells
}

// Next returns when something is due next, or Never.
func (t *Table) Next() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said = Never
	if len(t.byNext) > 0 {
		t.said = t.byNext[0].next
	}
	return t.said
}

// schedule makes a user due when a state ends or its record is to be read.
func (t *Table) schedule(u *user) { t.place(u, min(u.ends, u.look)) }

// place makes a user due at an instant.
func (t *Table) place(u *user, next int64) {
	u.next = next
	switch {
	case next == Never && u.index >= 0:
		heap.Remove(&t.byNext, u.index)
	case next == Never:
	case u.index >= 0:
		heap.Fix(&t.byNext, u.index)
	default:
		heap.Push(&t.byNext, u)
	}
	if next < t.said {
		t.said = next
		signal(t.due)
	}
}

// Following returns a channel that is closed while the feed is followed.
func (t *Table) Following() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.following
}

// Follow says that the feed is followed from now on.
func (t *Table) Follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.follows {
		t.follows = true
		close(t.following)
	}
}

// Unfollow says that the feed is followed no longer, unless somebody watches; then it
// returns false.
func (t *Table) Unfollow() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.users) > 0 {
		return false
	}
	if t.follows {
		t.follows, t.following = false, make(chan struct{})
	}
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

// byNext is a heap of users, those first that are due first.
type byNext []*user

func (h byNext) Len() int           { return len(h) }
func (h byNext) Less(i, j int) bool { return h[i].next < h[j].next }
func (h byNext) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are called by container/heap.
func (h *byNext) Push(u any) {
	u.(*user).index = len(*h)
	*h = append(*h, u.(*user))
}

func (h *byNext) Pop() any {
	last := len(*h) - 1
	u := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	u.index = -1
	return u
}
