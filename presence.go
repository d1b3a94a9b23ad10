package denizen

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// The standard states, best first. Any other name of 1 to 128 characters is allowed too, and ranks
// after them.
const (
	StateOnline   = presence.Online
	StateAway     = presence.Away
	StateSleeping = presence.Sleeping
	StateMissing  = presence.Missing
	StateOffline  = presence.Offline
)

// Presence is a chain of states. Each state stays for its time, and then the next begins. The time
// of a state counts from when that state begins, so
//
//	Away(10*time.Second).Then(State("Inactive", 10*time.Second)).Then(Offline())
//
// is Away for ten seconds, Inactive for the next ten, and Offline from then on. If the last state
// has a time, there is no presence once it is over.
//
// A Presence is immutable. The zero Presence is none.
type Presence struct {
	device string
	chain  presence.Chain
}

// State returns a presence of one state. It stays for ttl, a whole number of seconds above zero, or
// permanently without one. [Directory.SetPresence] checks the name and the time, so a wrong one is
// refused there.
func State(name string, ttl ...time.Duration) Presence {
	seconds := int64(0)
	if len(ttl) > 0 {
		seconds = int64(ttl[0] / time.Second)
	}
	switch { // refused when it is set
	case len(ttl) > 1:
		seconds = twoTimes
	case len(ttl) == 1 && ttl[0] <= 0:
		seconds = noTime
	case len(ttl) == 1 && ttl[0]%time.Second != 0:
		seconds = partOfSecond
	}
	return Presence{chain: presence.Chain{{State: name, Seconds: seconds}}}
}

// What State stores for times that SetPresence refuses.
const (
	noTime       = -1 - iota // zero or less
	partOfSecond             // not whole seconds
	twoTimes                 // more than one
)

// check returns the rule that the chain of p breaks, or "".
func (p Presence) check() string {
	for _, l := range p.chain {
		switch l.Seconds {
		case noTime:
			return "has a time to live that is not above zero: leave it out for a state that stays"
		case partOfSecond:
			return "has a time to live that is not a whole number of seconds"
		case twoTimes:
			return "has a state with more than one time to live"
		}
	}
	return p.chain.Check()
}

// Online returns [StateOnline] for ttl, or permanently without one: see [State].
func Online(ttl ...time.Duration) Presence { return State(StateOnline, ttl...) }

// Away returns [StateAway] for ttl, or permanently without one: see [State].
func Away(ttl ...time.Duration) Presence { return State(StateAway, ttl...) }

// Sleeping returns [StateSleeping] for ttl, or permanently without one: see [State].
func Sleeping(ttl ...time.Duration) Presence { return State(StateSleeping, ttl...) }

// Missing returns [StateMissing] for ttl, or permanently without one: see [State].
func Missing(ttl ...time.Duration) Presence { return State(StateMissing, ttl...) }

// Offline returns [StateOffline] for ttl, or permanently without one: see [State].
func Offline(ttl ...time.Duration) Presence { return State(StateOffline, ttl...) }

// Then returns p with the states of next after its own. The device stays that of p.
func (p Presence) Then(next Presence) Presence {
	p.chain = append(slices.Clip(p.chain), next.chain...)
	return p
}

// On returns p for one device of a user, by a name of at most 64 characters. A user may have
// several devices. The default one has no name.
func (p Presence) On(device string) Presence {
	p.device = device
	return p
}

// Device returns the name of the device that p is for, "" for the default one.
func (p Presence) Device() string { return p.device }

// State returns the name of the first state, or "" for no presence.
func (p Presence) State() string {
	if len(p.chain) == 0 {
		return ""
	}
	return p.chain[0].State
}

// TTL returns how long the first state stays, as it was set. 0 means permanently.
func (p Presence) TTL() time.Duration {
	if len(p.chain) == 0 {
		return 0
	}
	return time.Duration(p.chain[0].Seconds) * time.Second
}

// Next returns what follows the first state, and false if nothing does.
func (p Presence) Next() (Presence, bool) {
	if len(p.chain) < 2 {
		return Presence{}, false
	}
	return Presence{device: p.device, chain: p.chain[1:]}, true
}

// Equal reports whether p and o are the same chain for the same device.
func (p Presence) Equal(o Presence) bool {
	return p.device == o.device && presence.Equal(p.chain, o.chain)
}

// UserPresence is the presence of a user, or of one of its devices, at the time it was read. All
// times are to the millisecond.
type UserPresence struct {
	User UserID
	// Presence is the active state and what still follows it.
	Presence Presence
	// Since is when the active state began; heartbeats do not change it. Without a presence it is
	// when the last one ended, or the zero time if none was set or all were cleared.
	Since time.Time
	// Until is when the active state ends, which heartbeats move, or the zero time if it is
	// permanent.
	Until time.Time
	// Hidden reports whether the user hides its presence from its peers: see
	// [Directory.SetPresenceHidden]. Only Presence and Presences say so, to the user itself and to
	// .system.
	Hidden bool
}

// MaxDevicesBytes bounds the presence of one user as it is stored, all of its devices together.
const MaxDevicesBytes = 8 << 10

// SetPresence sets the presence of one device of a user. It is durable on return, unless it is a
// heartbeat.
//
// Setting the same chain again while its first state is active is a heartbeat: the times count anew
// from now, or still from a later instant that another process set by a clock ahead of this one.
// Heartbeats are kept in memory for Options.HeartbeatInterval, and then until the store has taken
// them. A crash in that time loses them, and the times count from the heartbeat before. They emit
// no events. Over a store that others may write to, such as PostgreSQL, they are durable on return.
//
// A chain has at most 32 states and lasts at most 2147483647 seconds. Only its last state may be
// permanent. A user has at most 16 devices. Setting one drops those that have run out. If 16 others
// are left, it drops the one that has been in its last state for the longest without a heartbeat.
//
// Past [MaxDevicesBytes] the error is [ErrLimited] with Field "presence". For a blocked user it is
// [ErrDenied] with Field "user".
func (d *Directory) SetPresence(
	ctx context.Context, by Principal, user UserID, p Presence,
) (err error) {
	defer d.trace(&ctx, "SetPresence", &by).end(&err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	done, absent, err := d.heartbeat(ctx, &c, p)
	if done || err != nil {
		return err
	}
	return d.setPresence(ctx, c, p, absent)
}

// heartbeat keeps p in memory if that is all there is to do: the same chain is already set on the
// same device, its first state is active, and the presence is cached. If there is no presence it
// returns what it found in its place.
func (d *Directory) heartbeat(
	ctx context.Context, c *call, p Presence,
) (done bool, absent *txn.Entry, err error) {
	if !d.records.Caching() {
		return false, nil, nil
	}
	var seen txn.Seen
	for d.records.Look(string(c.target), &seen) {
		if err := d.checkCallerSeen(ctx, c, &seen); err != nil {
			return false, nil, err
		}
		kept, unchanged := d.records.BeatSeen(&seen, p.device, p.chain, c.now)
		if !unchanged {
			continue // another heartbeat came between, or a write
		}
		if !kept {
			return false, nil, nil
		}
		return true, nil, d.beaten(c)
	}
	e := d.records.PeekDevices(string(c.target))
	if e == nil || !d.checkCallerCached(c, e) {
		keys := []store.Key{record.DevicesKey(string(c.target))}
		if c.role == self {
			keys = append(keys, record.UserKey(string(c.target))) // by one read of the store
		}
		entries, err := d.read(ctx, c, keys...)
		if err != nil {
			return false, nil, err
		}
		if e = entries[0]; e.Value() == nil && !e.Damaged() {
			return false, e, nil
		}
	}
	if !d.records.Beat(e, p.device, p.chain, c.now) {
		return false, nil, nil
	}
	return true, nil, d.beaten(c)
}

// beaten ends a heartbeat that is in memory.
func (d *Directory) beaten(c *call) error {
	if c.now < d.watches.Advanced() {
		d.watches.Look(string(c.target), c.now) // the end of the state may have been told
	}
	d.background.start()
	return d.usable() // after Close has flushed, a heartbeat is not kept
}

// setPresence is SetPresence for what is no heartbeat in memory. Only here p is checked: the chain
// of a heartbeat was checked when it was first set. Absent is where a presence was looked for just
// now and is not, or nil.
func (d *Directory) setPresence(
	ctx context.Context, c call, p Presence, absent *txn.Entry,
) error {
	if reason := p.check(); reason != "" {
		return invalid("presence", reason)
	}
	if !presence.Name(p.device, 0, presence.MaxDevice) {
		return invalid("device", "must be 64 characters at most, none of them a control")
	}
	d.background.start()
	id := string(c.target)
	c.gathers = []store.Key{record.UserKey(id), record.DevicesKey(id)}
	_, err := d.write(ctx, &c, func(pl *plan) error {
		u, r, err := pl.readDevices(absent)
		if err != nil {
			return err
		}
		if u.BlockedAt(c.now) {
			return newError(ErrDenied, "user", "is blocked")
		}
		pl.endBlock(u)
		before := pl.WithBeats(r)
		// Beat is set from the start, so that heartbeats make no record longer.
		set := presence.Device{Name: p.device, Start: c.now, Beat: c.now, Chain: p.chain}
		if same := beatOf(before, &set); same != nil {
			set.Start = same.Start
			set.Beat = max(same.Origin(), c.now) // a later heartbeat may have come first
		} else {
			pl.emit(EventPresenceSet, u)
		}
		return fits(pl.setDevices(u, r, presence.Set(before, set, set.Beat)))
	})
	return err
}

// fits refuses the devices of a user if they are too large.
func fits(size int) error {
	if size > MaxDevicesBytes {
		const rule = "the states of all devices must take 8192 bytes at most"
		return newError(ErrLimited, "presence", rule)
	}
	return nil
}

// beatOf returns the device that set is a heartbeat of, or nil. It has the same chain, whose first
// state is active.
func beatOf(devices []presence.Device, set *presence.Device) *presence.Device {
	i := presence.IndexOf(devices, set.Name)
	if i < 0 || !presence.Equal(devices[i].Chain, set.Chain) {
		return nil
	}
	if link, _ := set.Chain.At(devices[i].Origin(), set.Start); link != 0 {
		return nil
	}
	return &devices[i]
}

// readDevices returns the target and its devices, and makes both conditions of the write. The
// devices are nil if there are none. If absent is where they were looked for, only that is a
// condition, until it does not hold.
func (p *plan) readDevices(absent *txn.Entry) (*record.User, *record.Devices, error) {
	id := string(p.c.target)
	keys := []store.Key{record.UserKey(id), record.DevicesKey(id)}
	if absent != nil && !p.Retrying() {
		p.Rest(keys[1], absent)
		keys = keys[:1]
	}
	entries, err := p.read(keys...)
	if err != nil {
		return nil, nil, err
	}
	u, err := userIn(entries[0])
	if err != nil || len(entries) == 1 {
		return u, nil, err
	}
	return u, p.devicesIn(u, entries[1]), nil
}

// devicesOf returns the devices of a user, or nil, and makes them a condition of the write.
func (p *plan) devicesOf(u *record.User) (*record.Devices, error) {
	entries, err := p.read(record.DevicesKey(u.ID))
	if err != nil {
		return nil, err
	}
	return p.devicesIn(u, entries[0]), nil
}

// devicesIn returns the devices of a user, or nil. If they are damaged it returns a record that
// hides: nobody knows whether the user did.
func (p *plan) devicesIn(u *record.User, e *txn.Entry) *record.Devices {
	if e.Damaged() {
		p.Drop(record.PermanentHereKey(u.ID)) // any other is swept
		return &record.Devices{User: u.ID, Incarnation: u.Incarnation, Hidden: true}
	}
	r, _ := e.Value().(*record.Devices)
	return r
}

// setDevices writes the devices of a user, and returns the bytes that they are stored as. Was is
// what devicesOf returned. Whether the user hides stays.
func (p *plan) setDevices(
	u *record.User, was *record.Devices, devices []presence.Device,
) (size int) {
	next := record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: devices}
	if was != nil {
		next.Hidden = was.Hidden
	}
	return p.putDevices(was, &next)
}

// SetPresenceHidden sets whether a user hides its presence and its last activity from its peers.
// They then see none, whatever Options.MaySee says. The user itself and .system see them as they
// are. It stays so while the presence is set and cleared, and while the user is blocked. It is
// durable on return.
func (d *Directory) SetPresenceHidden(
	ctx context.Context, by Principal, user UserID, hidden bool,
) (err error) {
	defer d.trace(&ctx, "SetPresenceHidden", &by).end(&err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, r, err := p.readDevices(nil)
		if err != nil {
			return err
		}
		if r != nil && r.Hidden == hidden && !p.damaged(record.DevicesKey(u.ID)) || r == nil && !hidden {
			return errUnchanged
		}
		p.putDevices(r, &record.Devices{
			User: u.ID, Incarnation: u.Incarnation, Hidden: hidden, Devices: p.WithBeats(r),
		})
		if hidden {
			p.emit(EventPresenceHidden, u)
		} else {
			p.emit(EventPresenceShown, u)
		}
		return nil
	})
	return unchanged(err)
}

// ClearPresence removes what is set on one device of a user; "" is the default device. A device
// that does not exist or has run out is [ErrNotFound] with Field "device". It is durable on return.
// A later heartbeat from the same device is a new presence.
func (d *Directory) ClearPresence(
	ctx context.Context, by Principal, user UserID, device string,
) (err error) {
	defer d.trace(&ctx, "ClearPresence", &by).end(&err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	without := func(set []presence.Device, now int64) ([]presence.Device, error) {
		i := presence.IndexOf(set, device)
		if i < 0 || !set[i].Runs(now) {
			return nil, newError(ErrNotFound, "device", "")
		}
		return slices.Delete(slices.Clone(set), i, i+1), nil
	}
	return d.clearPresence(ctx, &c, without)
}

// ClearAllPresence removes what is set on all devices of a user. If nothing is set it changes
// nothing. It is durable on return.
func (d *Directory) ClearAllPresence(ctx context.Context, by Principal, user UserID) (err error) {
	defer d.trace(&ctx, "ClearAllPresence", &by).end(&err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	none := func(set []presence.Device, _ int64) ([]presence.Device, error) {
		if len(set) == 0 {
			return nil, errUnchanged
		}
		return nil, nil
	}
	return unchanged(d.clearPresence(ctx, &c, none))
}

// clearPresence stores the devices that left returns, given those that are set.
func (d *Directory) clearPresence(
	ctx context.Context, c *call,
	left func(set []presence.Device, now int64) ([]presence.Device, error),
) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.readDevices(nil)
		if err != nil {
			return err
		}
		if p.damaged(record.DevicesKey(u.ID)) {
			p.setDevices(u, r, nil) // nobody knows which devices are set
			p.emit(EventPresenceCleared, u)
			return nil
		}
		rest, err := left(p.WithBeats(r), c.now)
		if err != nil {
			return err
		}
		p.setDevices(u, r, rest)
		p.emit(EventPresenceCleared, u)
		return nil
	})
	return err
}

// Devices returns the presence of each device of a user that has one now, in byte order of the
// devices' names. The name is in Presence.Device. Only the user itself and .system may. Peers see
// the best device alone, by [Directory.Presence].
func (d *Directory) Devices(
	ctx context.Context, by Principal, user UserID,
) (devices []UserPresence, err error) {
	defer d.trace(&ctx, "Devices", &by).end(&err)
	c, err := d.enter(ctx, opReadDevices, by, user)
	if err != nil {
		return nil, err
	}
	id := string(user)
	entries, err := d.read(ctx, &c, record.DevicesKey(id), record.UserKey(id))
	if err != nil {
		return nil, err
	}
	r, ok := entries[0].Value().(*record.Devices)
	if !ok || len(r.Devices) == 0 {
		_, err := c.userIn(entries[1])
		return []UserPresence{}, err
	}
	set := entries[0].Pending().Apply(r)
	devices = make([]UserPresence, 0, len(set))
	for i := range set {
		if reading := set[i].Read(c.now); len(reading.Rest) > 0 {
			devices = append(devices, UserPresence{})
			fillPresence(&devices[len(devices)-1], user, &reading)
		}
	}
	return devices, nil
}

// Presence returns the presence of a user, which is that of its best device. Online is best, then
// Away, Sleeping, Missing, Offline and all other names. Among equals it is the state that began
// later, and then the device whose name is first in byte order.
//
// A user who is blocked is [ErrNotFound] to its peers.
func (d *Directory) Presence(
	ctx context.Context, by Principal, user UserID,
) (p UserPresence, err error) {
	defer d.trace(&ctx, "Presence", &by).end(&err)
	c, err := d.enter(ctx, opReadPresence, by, user)
	if err != nil {
		return UserPresence{}, err
	}
	// A record in the cache needs no keys and no slices.
	var seen txn.Seen
	if d.records.Look(string(user), &seen) {
		err := d.checkCallerSeen(ctx, &c, &seen)
		if err == nil {
			err = d.usable()
		}
		if err == nil {
			reading := seen.Read(c.now)
			fillPresence(&p, user, &reading)
		}
		return p, err
	}
	e := d.records.PeekDevices(string(user))
	if e != nil && d.checkCallerCached(&c, e) && d.usable() == nil {
		if r := e.Value().(*record.Devices); len(r.Devices) > 0 {
			c.showDevices(&p, r, e)
			return p, nil
		}
	}
	id := string(user)
	entries, err := d.read(ctx, &c, record.DevicesKey(id), record.UserKey(id))
	if err != nil {
		return UserPresence{}, err
	}
	err = c.showPresence(&p, entries[0], entries[1])
	return p, err
}

// Presences returns the presence of several users, at most [MaxList], in the order of users. Users
// who do not exist are left out: each entry names its user. If the caller may not see one of them,
// the whole call is refused.
func (d *Directory) Presences(
	ctx context.Context, by Principal, users []UserID,
) (ps []UserPresence, err error) {
	defer d.trace(&ctx, "Presences", &by).end(&err)
	calls, entries, err := d.readAll(ctx, opReadPresence, by, users, record.DevicesKey)
	if err != nil {
		return nil, err
	}
	ps = make([]UserPresence, 0, len(users))
	for i := range users {
		var user *txn.Entry
		if !hasDevices(entries[i]) {
			found, err := d.read(ctx, &calls[i], record.UserKey(string(users[i])))
			if err != nil {
				return nil, err
			}
			user = found[0]
		}
		ps = append(ps, UserPresence{})
		err := calls[i].showPresence(&ps[len(ps)-1], entries[i], user)
		if errors.Is(err, ErrNotFound) {
			ps = ps[:len(ps)-1]
		} else if err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// hasDevices reports whether an entry has devices: then its user exists and is not blocked.
func hasDevices(e *txn.Entry) bool {
	r, ok := e.Value().(*record.Devices)
	return ok && len(r.Devices) > 0
}

// showPresence makes p what the devices of the target show. The user is read only if there are no
// devices, and must exist then.
func (c *call) showPresence(p *UserPresence, devices, user *txn.Entry) error {
	if hasDevices(devices) {
		c.showDevices(p, devices.Value().(*record.Devices), devices)
		return nil
	}
	if _, err := c.userIn(user); err != nil {
		return err
	}
	p.User = c.target
	r, ok := devices.Value().(*record.Devices)
	p.Hidden = ok && r.Hidden && c.role != other
	return nil
}

// showDevices makes p what the caller is shown of devices.
func (c *call) showDevices(p *UserPresence, r *record.Devices, e *txn.Entry) {
	if p.User = c.target; r.Hidden && c.role == other {
		return
	}
	reading := e.Pending().Read(r, c.now)
	fillPresence(p, c.target, &reading)
	p.Hidden = r.Hidden
}

// fillPresence makes p the presence of a user that was read.
func fillPresence(p *UserPresence, user UserID, r *presence.Reading) {
	p.User, p.Since, p.Until = user, timeOf(r.Since), timeOf(r.Until)
	p.Presence.device, p.Presence.chain = r.Device, r.Rest
}
