package denizen

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
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

// What State stores for times that are refused.
const (
	noTime       = -1 - iota // zero or less
	partOfSecond             // not whole seconds
	twoTimes                 // more than one
)

// check returns the rule that p's chain breaks, or "".
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

// UserPresence is what the presence of a user, or of one of its devices, is now.
//
// Presence is the state that is active, with what it still goes on to. Since is when that state
// began: heartbeats leave it as it is. Until is when it ends, which heartbeats move, or the zero
// time if it stays. With no presence Since is when the last one ended, or the zero time if none
// was set or all were cleared. All times are to the millisecond.
type UserPresence struct {
	User     UserID
	Presence Presence
	Since    time.Time
	Until    time.Time
}

// MaxDevicesBytes bounds the encoded presence of one user, all of its devices together.
const MaxDevicesBytes = 8 << 10

// SetPresence sets the presence of one device of a user. It is durable on return.
//
// Setting the same chain again while its first state still runs is a heartbeat: its times
// count anew from now, or go on if they count from later by a clock that was ahead.
// Heartbeats are kept in memory for up to Options.HeartbeatInterval, in which a crash loses
// them and the chain counts from the heartbeat before; they are no events of the feed.
//
// A chain has at most 32 states and lasts 2147483647 seconds at most, and none but its
// last state stays permanently. A user has at most 16 devices: devices that ran out go when
// one is set, and a seventeenth replaces the one longest in its last state without a heartbeat.
// All devices together take at most MaxDevicesBytes as stored: past that it is ErrLimited with
// Field "presence". For a blocked user it is ErrDenied with Field "user": see BlockUser.
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
	if reason := p.check(); reason != "" {
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
		if u.Blocked {
			return refuse(ErrDenied, "user", "is blocked")
		}
		over := d.over(r)
		// Beat is there from the start, so that heartbeats make no record longer.
		set := presence.Device{Name: p.device, Start: c.now, Beat: c.now, Chain: p.chain}
		if before := beatOf(over, &set); before != nil {
			set.Start = before.Start
			set.Beat = max(before.Origin(), c.now) // a later heartbeat may have come first
		} else {
			pl.emit(EventPresenceSet, u, devices(p.device)...)
		}
		next := record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: presence.Set(over, set, set.Beat)}
		pl.put(record.DevicesKey(u.ID), &next)
		if len(pl.batch.Put[len(pl.batch.Put)-1].Value) > MaxDevicesBytes {
			return refuse(ErrLimited, "presence", "the states of all devices must take 8192 bytes at most")
		}
		return nil
	})
	return err
}

// beatOf returns the device of which setting set is a heartbeat, or nil: the same chain stands
// on it and its first state still runs.
func beatOf(devices []presence.Device, set *presence.Device) *presence.Device {
	i := deviceIn(devices, set.Name)
	if i < 0 || !presence.Equal(devices[i].Chain, set.Chain) {
		return nil
	}
	if link, _ := set.Chain.At(devices[i].Origin(), set.Start); link != 0 {
		return nil
	}
	return &devices[i]
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

// ClearPresence takes away what is set on one device of a user; "" is the default device. A
// device that is not there, or ran out, is ErrNotFound with Field "device". It is durable on
// return. A heartbeat that comes later from the same device is a new presence.
func (d *Directory) ClearPresence(ctx context.Context, by Principal, user UserID, device string) (err error) {
	defer naming("ClearPresence", &err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	return d.clearPresence(ctx, &c, []string{device}, func(set []presence.Device, now int64) ([]presence.Device, error) {
		i := deviceIn(set, device)
		if i < 0 || !set[i].Runs(now) {
			return nil, refuse(ErrNotFound, "device", "")
		}
		return slices.Delete(slices.Clone(set), i, i+1), nil
	})
}

// ClearAllPresence takes away what is set on all devices of a user, and changes nothing where
// nothing is. It is durable on return.
func (d *Directory) ClearAllPresence(ctx context.Context, by Principal, user UserID) (err error) {
	defer naming("ClearAllPresence", &err)
	c, err := d.enter(ctx, opWritePresence, by, user)
	if err != nil {
		return err
	}
	return unchanged(d.clearPresence(ctx, &c, nil, func(set []presence.Device, _ int64) ([]presence.Device, error) {
		if len(set) == 0 {
			return nil, errUnchanged
		}
		return nil, nil
	}))
}

// clearPresence stores what left returns of the devices that are set. The event names cleared.
func (d *Directory) clearPresence(
	ctx context.Context, c *call, cleared []string, left func(set []presence.Device, now int64) ([]presence.Device, error),
) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.devices()
		if err != nil {
			return err
		}
		if p.damaged(record.DevicesKey(u.ID)) {
			p.drop(record.DevicesKey(u.ID)) // which of them are there nobody knows
			p.emit(EventPresenceCleared, u)
			return nil
		}
		rest, err := left(d.over(r), c.now)
		if err != nil {
			return err
		}
		if len(rest) == 0 {
			p.drop(record.DevicesKey(u.ID))
		} else {
			p.put(record.DevicesKey(u.ID), &record.Devices{User: u.ID, Incarnation: u.Incarnation, Devices: rest})
		}
		p.emit(EventPresenceCleared, u, cleared...)
		return nil
	})
	return err
}

// Devices returns the presence of each device of a user that has one now, in the byte order of
// the devices' names: Presence.Device tells which it is, "" for the default one. It is for the
// user itself and .system; others see the best device alone. The slice is the caller's.
func (d *Directory) Devices(ctx context.Context, by Principal, user UserID) (devices []UserPresence, err error) {
	defer naming("Devices", &err)
	c, err := d.enter(ctx, opReadDevices, by, user)
	if err != nil {
		return nil, err
	}
	id := string(user)
	memos, err := d.read(ctx, &c, record.DevicesKey(id), record.UserKey(id))
	if err != nil {
		return nil, err
	}
	r, ok := memos[0].value.(*record.Devices)
	if !ok {
		_, err := c.userIn(memos[1])
		return []UserPresence{}, err
	}
	set := memos[0].beats.Load().over(r)
	devices = make([]UserPresence, 0, len(set))
	for i := range set {
		if reading := set[i].Read(c.now); len(reading.Rest) > 0 {
			devices = append(devices, UserPresence{})
			c.fill(&devices[len(devices)-1], &reading)
		}
	}
	return devices, nil
}

// Presence returns the presence of a user: that of its best device. Online is best, then
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

// Presences returns the presence of several users, at most MaxList, in the order asked. Who is
// not there is left out: each entry names its user. One refusal refuses the whole.
func (d *Directory) Presences(ctx context.Context, by Principal, users []UserID) (ps []UserPresence, err error) {
	defer naming("Presences", &err)
	calls, memos, err := d.readAll(ctx, opReadPresence, by, users, record.DevicesKey)
	if err != nil {
		return nil, err
	}
	ps = make([]UserPresence, 0, len(users))
	for i := range users {
		var user *memo
		if memos[i].value == nil {
			found, err := d.read(ctx, &calls[i], record.UserKey(string(users[i])))
			if err != nil {
				return nil, err
			}
			user = found[0]
		}
		ps = append(ps, UserPresence{})
		if err = d.presence(&ps[len(ps)-1], &calls[i], memos[i], user); errors.Is(err, ErrNotFound) {
			ps = ps[:len(ps)-1]
		} else if err != nil {
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
	if _, err := c.userIn(user); err != nil {
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
	c.fill(p, &reading)
}

func (c *call) fill(p *UserPresence, r *presence.Reading) {
	p.User, p.Since, p.Until = c.target, at(r.Since), at(r.Until)
	p.Presence.device, p.Presence.chain = r.Device, r.Rest
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
