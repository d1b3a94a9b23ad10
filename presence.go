package denizen

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
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
}

// MaxDevicesBytes bounds the presence of one user as it is stored, all of its devices together.
const MaxDevicesBytes = 8 << 10

// SetPresence sets the presence of one device of a user. It is durable on return, unless it is a
// heartbeat.
//
// Setting the same chain again while its first state is active is a heartbeat: the times count anew
// from now, or still from a later instant that another process set by a clock ahead of this one.
// Heartbeats are kept in memory for up to Options.HeartbeatInterval. A crash in that time loses
// them, and the times count from the heartbeat before. They emit no events.
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
	defer wrapOp("SetPresence", &err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	if done, err := d.heartbeat(ctx, &c, p); done || err != nil {
		return err
	}
	return d.setPresence(ctx, c, p)
}

// heartbeat keeps p in memory if that is all there is to do: the same chain is already set on the
// same device, its first state is active, and its record is cached.
func (d *Directory) heartbeat(ctx context.Context, c *call, p Presence) (done bool, err error) {
	if !d.records.Caching() {
		return false, nil
	}
	e := d.records.PeekDevices(string(c.target))
	if e == nil || !d.checkCallerCached(c, e) {
		entries, err := d.read(ctx, c, record.DevicesKey(string(c.target)))
		if err != nil {
			return false, err
		}
		e = entries[0]
	}
	if !d.records.Beat(e, p.device, p.chain, c.now) {
		return false, nil
	}
	d.background.start()
	return true, d.usable() // after Close has flushed, a heartbeat is not kept
}

// setPresence is SetPresence for what is no heartbeat in memory. Only here p is checked: the chain
// of a heartbeat was checked when it was first set.
func (d *Directory) setPresence(ctx context.Context, c call, p Presence) error {
	if reason := p.check(); reason != "" {
		return invalid("presence", reason)
	}
	if !presence.Name(p.device, 0, presence.MaxDevice) {
		return invalid("device", "must be 64 characters at most, none of them a control")
	}
	d.background.start()
	_, err := d.write(ctx, &c, func(pl *plan) error {
		u, r, err := pl.readDevices()
		if err != nil {
			return err
		}
		if u.Blocked {
			return newError(ErrDenied, "user", "is blocked")
		}
		before := pl.WithBeats(r)
		// Beat is set from the start, so that heartbeats make no record longer.
		set := presence.Device{Name: p.device, Start: c.now, Beat: c.now, Chain: p.chain}
		if same := beatOf(before, &set); same != nil {
			set.Start = same.Start
			set.Beat = max(same.Origin(), c.now) // a later heartbeat may have come first
		} else {
			pl.emit(EventPresenceSet, u, deviceSubjects(p.device)...)
		}
		next := record.Devices{
			User: u.ID, Incarnation: u.Incarnation, Devices: presence.Set(before, set, set.Beat),
		}
		if pl.Put(record.DevicesKey(u.ID), &next) > MaxDevicesBytes {
			const rule = "the states of all devices must take 8192 bytes at most"
			return newError(ErrLimited, "presence", rule)
		}
		return nil
	})
	return err
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

// deviceSubjects returns what an event names for a device: nothing for the default one.
func deviceSubjects(device string) []string {
	if device == "" {
		return nil
	}
	return []string{device}
}

// readDevices returns the target and its devices, and makes both conditions of the write. The
// devices are nil if there are none.
func (p *plan) readDevices() (*record.User, *record.Devices, error) {
	u, _, err := p.user(p.c.target)
	if err != nil {
		return nil, nil, err
	}
	entries, err := p.read(record.DevicesKey(u.ID))
	if err != nil {
		return nil, nil, err
	}
	r, _ := entries[0].Value().(*record.Devices)
	return u, r, nil
}

// ClearPresence removes what is set on one device of a user; "" is the default device. A device
// that does not exist or has run out is [ErrNotFound] with Field "device". It is durable on return.
// A later heartbeat from the same device is a new presence.
func (d *Directory) ClearPresence(
	ctx context.Context, by Principal, user UserID, device string,
) (err error) {
	defer wrapOp("ClearPresence", &err)
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
	return d.clearPresence(ctx, &c, []string{device}, without)
}

// ClearAllPresence removes what is set on all devices of a user. If nothing is set it changes
// nothing. It is durable on return.
func (d *Directory) ClearAllPresence(ctx context.Context, by Principal, user UserID) (err error) {
	defer wrapOp("ClearAllPresence", &err)
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
	return unchanged(d.clearPresence(ctx, &c, nil, none))
}

// clearPresence stores the devices that left returns, given those that are set. The event names
// cleared.
func (d *Directory) clearPresence(
	ctx context.Context, c *call, cleared []string,
	left func(set []presence.Device, now int64) ([]presence.Device, error),
) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.readDevices()
		if err != nil {
			return err
		}
		if p.damaged(record.DevicesKey(u.ID)) {
			p.Drop(record.DevicesKey(u.ID)) // nobody knows which devices are set
			p.emit(EventPresenceCleared, u)
			return nil
		}
		rest, err := left(p.WithBeats(r), c.now)
		if err != nil {
			return err
		}
		if len(rest) == 0 {
			p.Drop(record.DevicesKey(u.ID))
		} else {
			next := record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: rest}
			p.Put(record.DevicesKey(u.ID), &next)
		}
		p.emit(EventPresenceCleared, u, cleared...)
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
	defer wrapOp("Devices", &err)
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
	if !ok {
		_, err := c.userIn(entries[1])
		return []UserPresence{}, err
	}
	set := entries[0].Pending().Apply(r)
	devices = make([]UserPresence, 0, len(set))
	for i := range set {
		if reading := set[i].Read(c.now); len(reading.Rest) > 0 {
			devices = append(devices, UserPresence{})
			c.fillPresence(&devices[len(devices)-1], &reading)
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
	defer wrapOp("Presence", &err)
	c, err := d.enter(ctx, opReadPresence, by, user)
	if err != nil {
		return UserPresence{}, err
	}
	// A record in the cache needs no keys and no slices.
	e := d.records.PeekDevices(string(user))
	if e != nil && d.checkCallerCached(&c, e) && d.usable() == nil {
		reading := e.Pending().Read(e.Value().(*record.Devices), c.now)
		c.fillPresence(&p, &reading)
		return p, nil
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
	defer wrapOp("Presences", &err)
	calls, entries, err := d.readAll(ctx, opReadPresence, by, users, record.DevicesKey)
	if err != nil {
		return nil, err
	}
	ps = make([]UserPresence, 0, len(users))
	for i := range users {
		var user *txn.Entry
		if entries[i].Value() == nil {
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

// showPresence makes p what the devices of the target show. The user is read only if there are no
// devices, and must exist then.
func (c *call) showPresence(p *UserPresence, devices, user *txn.Entry) error {
	if r, ok := devices.Value().(*record.Devices); ok {
		reading := devices.Pending().Read(r, c.now)
		c.fillPresence(p, &reading)
		return nil
	}
	if _, err := c.userIn(user); err != nil {
		return err
	}
	p.User = c.target
	return nil
}

// fillPresence makes p the presence of the target that was read.
func (c *call) fillPresence(p *UserPresence, r *presence.Reading) {
	p.User, p.Since, p.Until = c.target, timeOf(r.Since), timeOf(r.Until)
	p.Presence.device, p.Presence.chain = r.Device, r.Rest
}
