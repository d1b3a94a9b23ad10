package denizen

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// The standard states. Any other name of 1 to 128 characters is allowed, and ranks last.
const (
	StateOnline   = presence.Online
	StateAway     = presence.Away
	StateSleeping = presence.Sleeping
	StateMissing  = presence.Missing
	StateOffline  = presence.Offline
)

// Presence is a chain of states: each stays for its time and then the next begins. Each
// time counts from the instant its own state begins, so
//
//	Away(10*time.Second).Then(State("Inactive", 10*time.Second)).Then(Offline())
//
// is Away for ten seconds, Inactive for the next ten, and Offline from then on. After the
// last state's time, with nothing after it, there is no presence.
//
// A Presence is never changed once made and may be shared. The zero Presence is none.
type Presence struct {
	device string
	chain  presence.Chain
}

// State is a state of any name. It stays for ttl, a whole number of seconds, or without
// one for good. SetPresence judges names and times.
func State(name string, ttl ...time.Duration) Presence {
	seconds := int64(0)
	if len(ttl) > 0 {
		seconds = int64(ttl[0] / time.Second)
	}
	if len(ttl) > 1 || len(ttl) == 1 && (ttl[0] <= 0 || ttl[0]%time.Second != 0) {
		seconds = -1 // refused when it is set
	}
	return Presence{chain: presence.Chain{{State: name, Seconds: seconds}}}
}

// Online, Away, Sleeping, Missing and Offline are the standard states: see State.
func Online(ttl ...time.Duration) Presence { return State(StateOnline, ttl...) }

// Away: see Online.
func Away(ttl ...time.Duration) Presence { return State(StateAway, ttl...) }

// Sleeping: see Online.
func Sleeping(ttl ...time.Duration) Presence { return State(StateSleeping, ttl...) }

// Missing: see Online.
func Missing(ttl ...time.Duration) Presence { return State(StateMissing, ttl...) }

// Offline: see Online.
func Offline(ttl ...time.Duration) Presence { return State(StateOffline, ttl...) }

// Then answers p with the states of next after its own.
func (p Presence) Then(next Presence) Presence {
	p.chain = append(slices.Clip(p.chain), next.chain...)
	return p
}

// On answers p for one device of a user, by a name of at most 64 characters. A user may
// have several; without a name it is the default one.
func (p Presence) On(device string) Presence {
	p.device = device
	return p
}

// Device answers the device that p is of.
func (p Presence) Device() string { return p.device }

// State answers the first state, "" for no presence.
func (p Presence) State() string {
	if len(p.chain) == 0 {
		return ""
	}
	return p.chain[0].State
}

// TTL answers how long the first state stays, as it was set; 0: for good.
func (p Presence) TTL() time.Duration {
	if len(p.chain) == 0 {
		return 0
	}
	return time.Duration(p.chain[0].Seconds) * time.Second
}

// Next answers what comes after the first state; false if nothing does.
func (p Presence) Next() (Presence, bool) {
	if len(p.chain) < 2 {
		return Presence{}, false
	}
	return Presence{device: p.device, chain: p.chain[1:]}, true
}

// Equal reports whether p and o are the same chain on the same device.
func (p Presence) Equal(o Presence) bool {
	return p.device == o.device && presence.Equal(p.chain, o.chain)
}

// UserPresence is what a user's presence is now: the state that is active with what it
// still goes on to. Since is when that state began; with no presence it is when the last
// one ended, or the zero time if none was set or all were cleared.
type UserPresence struct {
	User     UserID
	Presence Presence
	Since    time.Time
}

// SetPresence sets the presence of one device of a user. It is durable on return.
//
// Setting the same chain again while its first state still runs is a heartbeat: the chain
// starts anew from now, or goes on if it started later by a clock that was ahead. Heartbeats are kept in memory for up to Options.PresenceFlush, in
// which a crash loses them and the chain counts from the heartbeat before; they are no
// events of the feed.
//
// A chain has at most 32 states and lasts 2147483647 seconds at most, and none but its
// last state stays for good. A user has at most 16 devices: devices that ran out go when
// one is set, and a seventeenth replaces the one longest in its last state.
func (d *Directory) SetPresence(ctx context.Context, by Principal, user UserID, p Presence) (err error) {
	defer naming("SetPresence", &err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	if done, err := d.heartbeat(ctx, &c, p); done || err != nil {
		return err
	}
	return d.setPresence(ctx, c, p)
}

// setPresence is SetPresence where there is more to do than to keep a heartbeat, which needs
// no judging: what was set before was judged then.
func (d *Directory) setPresence(ctx context.Context, c call, p Presence) error {
	if reason := p.chain.Check(); reason != "" {
		return invalid("presence", reason)
	}
	if !presence.Name(p.device, 0, presence.MaxDevice) {
		return invalid("device", "must be 64 characters at most, none of them a control")
	}
	d.background.start()
	_, err := d.write(ctx, &c, func(pl *plan) error {
		u, r, err := pl.devices()
		if err != nil {
			return err
		}
		over := d.over(r)
		set := presence.Device{Name: p.device, Start: c.now, Chain: p.chain}
		if start, beats := isBeat(over, set); beats {
			set.Start = max(start, c.now) // a later heartbeat may have come first
		} else {
			pl.emit(PresenceSet, u, devices(p.device)...)
		}
		next := record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: presence.Set(over, set, set.Start)}
		pl.put(record.DevicesKey(u.ID), &next)
		return nil
	})
	return err
}

// over answers the devices of a record, which may be nil, with the heartbeats applied.
func (d *Directory) over(r *record.Devices) []presence.Device {
	if r == nil {
		return nil
	}
	return d.beating.of(r).over(r)
}

// isBeat reports whether setting a device is a heartbeat, and when the one before was: the
// same chain stands on it and its first state still runs.
func isBeat(devices []presence.Device, set presence.Device) (start int64, beats bool) {
	i := deviceIn(devices, set.Name)
	if i < 0 || !presence.Equal(devices[i].Chain, set.Chain) {
		return 0, false
	}
	link, _ := set.Chain.At(devices[i].Start, set.Start)
	return devices[i].Start, link == 0
}

func devices(device string) []string {
	if device == "" {
		return nil
	}
	return []string{device}
}

// devices answers the target and its presence for a decision; the latter may be nil.
func (p *plan) devices() (*record.User, *record.Devices, error) {
	u, _, err := p.user(p.c.target)
	if err != nil {
		return nil, nil, err
	}
	memos, err := p.read(record.DevicesKey(u.ID))
	if err != nil {
		return nil, nil, err
	}
	r, _ := memos[0].value.(*record.Devices)
	return u, r, nil
}

// ClearPresence takes away the presence of a user's devices, or of all of them if none is
// named. Clearing what is not there, or ran out, is ErrNotFound with Field "device", but for all.
func (d *Directory) ClearPresence(ctx context.Context, by Principal, user UserID, device ...string) (err error) {
	defer naming("ClearPresence", &err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, r, err := p.devices()
		if err != nil {
			return err
		}
		left := []presence.Device{}
		if r != nil && len(device) > 0 {
			left = slices.Clone(d.over(r))
		}
		for _, name := range device {
			i := deviceIn(left, name)
			if i < 0 || !left[i].Runs(c.now) {
				return refuse(ErrNotFound, "device", "")
			}
			left = slices.Delete(left, i, i+1)
		}
		if r == nil {
			return errUnchanged
		}
		if len(left) == 0 {
			p.drop(record.DevicesKey(u.ID))
		} else {
			p.put(record.DevicesKey(u.ID), &record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: left})
		}
		p.emit(PresenceCleared, u, device...)
		return nil
	})
	return unchanged(err)
}

// Presence answers the presence of a user: that of its best device. Online is best, then
// Away, Sleeping, Missing, Offline and all others; among equals the state that began later;
// among those the device whose name comes first in byte order.
func (d *Directory) Presence(ctx context.Context, by Principal, user UserID) (p UserPresence, err error) {
	defer naming("Presence", &err)
	c, err := d.enter(ctx, opReadPresence, by, user)
	if err != nil {
		return UserPresence{}, err
	}
	// What is remembered needs no keys and no slices.
	if m := d.cache.get(name{kindDevices, string(user)}); m != nil && d.standsRemembered(&c, m) && d.usable() == nil {
		c.presence(&p, m.value.(*record.Devices), m.beats.Load())
		return p, nil
	}
	id := string(user)
	memos, err := d.read(ctx, &c, record.DevicesKey(id), record.UserKey(id))
	if err != nil {
		return UserPresence{}, err
	}
	err = d.presence(&p, &c, memos[0], memos[1])
	return p, err
}

// standsRemembered reports whether the caller is known to stand without asking the store. m is
// what is remembered of its target, which leads to a user who asks about itself.
func (d *Directory) standsRemembered(c *call, m *memo) bool {
	switch {
	case c.by.accessKey != "":
		return false
	case c.by.kind != kindUser:
		return true
	}
	var user *memo
	if c.role == self {
		user = m.user.Load()
	}
	if user == nil || user.dead.Load() {
		if user = d.cache.get(name{kindUsers, string(c.by.user)}); user == nil {
			return false
		}
		if c.role == self {
			m.user.Store(user)
		}
	}
	r := user.value.(*record.User)
	return !r.Blocked && r.Incarnation == c.by.incarnation
}

// Presences answers the presence of several users, at most MaxList, in the order asked:
// all of them or ErrNotFound.
func (d *Directory) Presences(ctx context.Context, by Principal, users ...UserID) (ps []UserPresence, err error) {
	defer naming("Presences", &err)
	calls, memos, err := d.readAll(ctx, opReadPresence, by, users, record.DevicesKey)
	if err != nil {
		return nil, err
	}
	ps = make([]UserPresence, len(users))
	for i := range users {
		var user *memo
		if memos[i].value == nil {
			found, err := d.read(ctx, &calls[i], record.UserKey(string(users[i])))
			if err != nil {
				return nil, err
			}
			user = found[0]
		}
		if err = d.presence(&ps[i], &calls[i], memos[i], user); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

func (d *Directory) presence(p *UserPresence, c *call, devices, user *memo) error {
	if r, ok := devices.value.(*record.Devices); ok {
		c.presence(p, r, devices.beats.Load())
		return nil
	}
	if _, err := userIn(user); err != nil {
		return err
	}
	p.User = c.target
	return nil
}

// presence makes p what a record and heartbeats that are not in it yet say; b may be nil.
func (c *call) presence(p *UserPresence, r *record.Devices, b *beats) {
	var reading presence.Reading
	if b == nil || b.incarnation != r.Incarnation {
		reading = presence.Read(r.Devices, c.now)
	} else {
		b.Lock()
		reading = presence.Read(r.Devices, c.now, b.devices...)
		b.Unlock()
	}
	p.User, p.Since = c.target, at(reading.Since)
	p.Presence.device, p.Presence.chain = reading.Device, reading.Rest
}

// heartbeat keeps p in memory if that is all there is to do: the same chain is set on the
// same device, its first state still runs, and the record is remembered.
func (d *Directory) heartbeat(ctx context.Context, c *call, p Presence) (done bool, err error) {
	if d.cache == nil {
		return false, nil
	}
	m := d.cache.get(name{kindDevices, string(c.target)})
	if m == nil || !d.standsRemembered(c, m) {
		memos, err := d.read(ctx, c, record.DevicesKey(string(c.target)))
		if err != nil {
			return false, err
		}
		m = memos[0]
	}
	r, ok := m.value.(*record.Devices)
	if !ok {
		return false, nil
	}
	i := deviceIn(r.Devices, p.device)
	if i < 0 || !presence.Equal(r.Devices[i].Chain, p.chain) {
		return false, nil
	}
	for {
		b := m.beats.Load()
		if b == nil || b.gone.Load() {
			if b = d.beating.begin(r, d.cache); b == nil {
				return false, nil
			}
		}
		if kept, done := b.beat(&r.Devices[i], c.now); done {
			if kept {
				d.background.start()
			}
			// A heartbeat after the last flush was not kept.
			return kept, d.usable()
		}
	}
}

// rememberDevices is cache.remember for a presence that was read when it had the heartbeats
// before: the memo knows those of now, or else those.
func (d *Directory) rememberDevices(m *memo, r *record.Devices, ended uint64, before *beats) *memo {
	d.beating.Lock()
	defer d.beating.Unlock()
	if before != nil && before.incarnation == r.Incarnation {
		m.beats.Store(before)
	}
	known := d.cache.remember(name{kindDevices, r.User}, ended, m)
	if b := d.beating.find(r); b != nil && !known.dead.Load() {
		known.beats.Store(b)
	}
	return known
}

// deviceIn answers where the device of a name is, or -1.
func deviceIn(devices []presence.Device, name string) int {
	for i := range devices {
		if devices[i].Name == name {
			return i
		}
	}
	return -1
}

// beating is the users with heartbeats that are not stored yet.
type beating struct {
	sync.Mutex
	byUser map[string]*beats
	began  chan struct{} // tells that the table was empty and is not any more
}

// beats is the heartbeats of one user that are not stored yet. Whoever reads the user's
// presence from a record applies them to it: a memo of that record knows them.
//
// Once they are stored they are gone, and are not changed any more: for a reader who still
// holds the record of before they are what that lacks.
type beats struct {
	user, incarnation string
	gone              atomic.Bool // stored, and out of the table

	sync.Mutex
	devices []presence.Device // as they would be stored
}

func newBeating() *beating {
	return &beating{byUser: map[string]*beats{}, began: make(chan struct{}, 1)}
}

// any reports whether there is something to store.
func (t *beating) any() bool {
	t.Lock()
	defer t.Unlock()
	return len(t.byUser) > 0
}

// of answers the heartbeats of the user of a record, or nil.
func (t *beating) of(r *record.Devices) *beats {
	t.Lock()
	defer t.Unlock()
	return t.find(r)
}

// find is of with the table locked.
func (t *beating) find(r *record.Devices) *beats {
	if b := t.byUser[r.User]; b != nil && b.incarnation == r.Incarnation {
		return b
	}
	return nil
}

// before answers what load needs to know before it reads the records under keys: the
// heartbeats of their users. A heartbeat that was kept before is then in one of both.
func (t *beating) before(keys []store.Key) (found []*beats) {
	for i, key := range keys {
		n := nameOf(key)
		if n.kind != kindDevices {
			continue
		}
		if found == nil {
			found = make([]*beats, len(keys))
		}
		t.Lock()
		found[i] = t.byUser[n.id]
		t.Unlock()
	}
	return found
}

// begin answers the heartbeats of the user of a record, put into the table if there were
// none, and known to the memo that is remembered of that user now. One that is remembered
// later knows them from the start: memos of presences are remembered with the table locked.
// It answers nil if nothing of that user is remembered, which may be another by now.
func (t *beating) begin(r *record.Devices, remembered *cache) *beats {
	t.Lock()
	defer t.Unlock()
	m := remembered.get(name{kindDevices, r.User})
	if m == nil || m.value.(*record.Devices).Incarnation != r.Incarnation {
		return nil
	}
	b := t.byUser[r.User]
	if b == nil || b.incarnation != r.Incarnation {
		if b != nil {
			b.gone.Store(true)
		}
		b = &beats{user: r.User, incarnation: r.Incarnation}
		t.byUser[r.User] = b
		if len(t.byUser) == 1 {
			select {
			case t.began <- struct{}{}:
			default:
			}
		}
	}
	m.beats.Store(b)
	return b
}

// tell lets the memo that is remembered of the user know the heartbeats.
func (b *beats) tell(remembered *cache) {
	if m := remembered.get(name{kindDevices, b.user}); m != nil {
		m.beats.Store(b)
	}
}

// beat keeps a heartbeat of a stored device, unless its first state has ended: then kept is
// false. If b is gone nothing is done.
func (b *beats) beat(stored *presence.Device, now int64) (kept, done bool) {
	b.Lock()
	defer b.Unlock()
	if b.gone.Load() {
		return false, false
	}
	start := stored.Start
	i := deviceIn(b.devices, stored.Name)
	same := i >= 0 && presence.Equal(b.devices[i].Chain, stored.Chain)
	switch {
	case same:
		start = max(start, b.devices[i].Start)
	case i >= 0 && b.devices[i].Start >= now:
		return true, true // another chain was set and kept alive since this heartbeat came
	}
	if link, _ := stored.Chain.At(start, now); link != 0 {
		return false, true
	}
	beat := presence.Device{Name: stored.Name, Start: max(start, now), Chain: stored.Chain}
	if i >= 0 {
		b.devices[i] = beat
	} else {
		b.devices = append(b.devices, beat)
	}
	return true, true
}

// over answers the devices of a record with the heartbeats applied: a heartbeat moves the
// start of a device on which the same chain still stands. b may be nil, and so may r.
func (b *beats) over(r *record.Devices) []presence.Device {
	if r == nil {
		return nil
	}
	if b == nil || b.incarnation != r.Incarnation {
		return r.Devices
	}
	b.Lock()
	defer b.Unlock()
	return moved(r.Devices, b.devices)
}

func moved(stored, beats []presence.Device) []presence.Device {
	devices := stored
	for i := range stored {
		if start := stored[i].Latest(beats); start != stored[i].Start {
			if &devices[0] == &stored[0] {
				devices = slices.Clone(stored)
			}
			devices[i].Start = start
		}
	}
	return devices
}

// maxSweep is how many records a background write changes at most.
const maxSweep = 1000

// storeBeats stores the heartbeats there are. A user whose record is written meanwhile is
// read again; heartbeats apply only where the same chain still stands.
func (d *Directory) storeBeats(ctx context.Context) error {
	d.beating.Lock()
	users := make([]*beats, 0, len(d.beating.byUser))
	for _, b := range d.beating.byUser {
		users = append(users, b)
	}
	d.beating.Unlock()
	// Neighbours lie in the same pages, which are then written once.
	slices.SortFunc(users, func(a, b *beats) int { return strings.Compare(a.user, b.user) })
	for some := range slices.Chunk(users, maxSweep) {
		if err := retry(func() error { return d.storeSomeBeats(ctx, some) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) storeSomeBeats(ctx context.Context, users []*beats) error {
	keys := make([]store.Key, len(users))
	for i, b := range users {
		keys[i] = record.DevicesKey(b.user)
	}
	memos, err := d.load(ctx, nil, keys)
	if err != nil {
		return err
	}
	batch := batch{retells: true}
	taken := make([][]presence.Device, len(users))
	for i, b := range users {
		b.Lock()
		taken[i] = slices.Clone(b.devices)
		b.Unlock()
		r, ok := memos[i].value.(*record.Devices)
		if !ok || r.Incarnation != b.incarnation {
			continue
		}
		next := *r
		if next.Devices = moved(r.Devices, taken[i]); len(r.Devices) == 0 || &next.Devices[0] == &r.Devices[0] {
			continue
		}
		batch.If = append(batch.If, store.Cond{Key: keys[i], Version: memos[i].version})
		batch.put(keys[i], &next)
	}
	if len(batch.Put) > 0 {
		if _, err := d.commit(ctx, &batch); err != nil {
			return err
		}
	}
	d.beating.stored(users, taken, d.cache)
	return nil
}

// stored takes out of the table what was stored. Heartbeats that came since go on in its
// place.
func (t *beating) stored(users []*beats, taken [][]presence.Device, remembered *cache) {
	t.Lock()
	defer t.Unlock()
	for i, b := range users {
		if t.byUser[b.user] != b {
			continue
		}
		b.Lock()
		since := slices.DeleteFunc(slices.Clone(b.devices), func(d presence.Device) bool {
			return slices.ContainsFunc(taken[i], func(o presence.Device) bool {
				return o.Name == d.Name && o.Start == d.Start && presence.Equal(o.Chain, d.Chain)
			})
		})
		b.gone.Store(true)
		b.Unlock()
		delete(t.byUser, b.user)
		if len(since) > 0 {
			next := &beats{user: b.user, incarnation: b.incarnation, devices: since}
			t.byUser[b.user] = next
			next.tell(remembered)
		}
	}
}
