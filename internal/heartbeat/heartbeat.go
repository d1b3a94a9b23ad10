// Package heartbeat keeps the heartbeats of presence that are not stored yet.
//
// A heartbeat sets a chain again that stands on a device already. A commit for each would cost
// more than everything else a directory does, so they are kept in memory and stored together,
// about once a second. Until then a presence is what its record says with these applied.
//
// Two kinds of locks guard them: that of a [Table] and that of each [Pending]. Whoever needs both
// takes the table's first. Neither is held while the store is asked or anything else is called.
package heartbeat

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
)

// Table is the users with heartbeats that are not stored yet.
type Table struct {
	began chan struct{}

	mu     sync.Mutex // guards byUser
	byUser map[string]*Pending
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{byUser: map[string]*Pending{}, began: make(chan struct{}, 1)}
}

// Began returns a channel that receives a value when the table is empty no longer.
func (t *Table) Began() <-chan struct{} { return t.began }

// Empty reports whether there is nothing to store.
func (t *Table) Empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byUser) == 0
}

// Len returns how many users have heartbeats to store.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byUser)
}

// Of returns the heartbeats of a user, or nil. They may be those of an earlier user of the same
// id: see [Pending.IsOf].
func (t *Table) Of(user string) *Pending {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byUser[user]
}

// Begin returns the heartbeats of the user of a record, and makes them if there are none. Those of
// an earlier user of the same id are forgotten.
//
// The caller has made sure that the record is not outdated: heartbeats of a user who was deleted
// would push out those of the user who has its id now.
func (t *Table) Begin(r *record.Devices) *Pending {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begin(r)
}

func (t *Table) begin(r *record.Devices) *Pending {
	p := t.byUser[r.User]
	if p.IsOf(r) {
		return p
	}
	if p != nil {
		p.end()
	}
	p = &Pending{user: r.User, incarnation: r.Incarnation}
	t.byUser[r.User] = p
	if len(t.byUser) == 1 {
		t.Tell()
	}
	return p
}

// Tell sends on Began, for heartbeats that are kept elsewhere.
func (t *Table) Tell() {
	select {
	case t.began <- struct{}{}:
	default: // nobody has heard of the last time yet
	}
}

// Put adds heartbeats as the devices of a record, which they may have more of than is stored.
func (t *Table) Put(r *record.Devices) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.begin(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = append(p.devices, r.Devices...)
}

// Take returns the heartbeats of the user of a record and forgets them: the caller keeps them now.
func (t *Table) Take(r *record.Devices) []presence.Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byUser[r.User]
	if !p.IsOf(r) {
		return nil
	}
	delete(t.byUser, r.User)
	return p.end()
}

// Detached returns the devices of a record as heartbeats that are in no table. None is kept there.
func Detached(r *record.Devices) *Pending {
	p := &Pending{user: r.User, incarnation: r.Incarnation, devices: r.Devices}
	p.gone.Store(true)
	return p
}

// All returns all heartbeats, in the order of their users' ids: neighbours are stored in the same
// pages, which are then written once.
func (t *Table) All() []*Pending {
	t.mu.Lock()
	all := make([]*Pending, 0, len(t.byUser))
	for _, p := range t.byUser {
		all = append(all, p)
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b *Pending) int { return strings.Compare(a.user, b.user) })
	return all
}

// Stored takes p out of the table once what was taken from it is stored. If heartbeats came since,
// they go on in another Pending, which takes its place. Nobody need be told of that: p has them
// too, and whoever has a further heartbeat and knows p finds it gone and begins anew. Nobody may
// add one to the other Pending but by [Table.Begin], whose caller tells those who know p.
func (t *Table) Stored(p *Pending, taken []presence.Device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byUser[p.user] != p {
		return
	}
	delete(t.byUser, p.user)
	if since := p.end(taken...); len(since) > 0 {
		t.byUser[p.user] = &Pending{user: p.user, incarnation: p.incarnation, devices: since}
	}
}

// Pending is the heartbeats of one user that are not stored yet. Whoever reads the user's presence
// from a record applies them to it.
//
// Once they are stored they are gone, and are not changed any more. They stay true for a reader
// who still holds the record of before: they are what that record lacks. The nil Pending has no
// heartbeats.
type Pending struct {
	user, incarnation string
	gone              atomic.Bool // set with mu held; read without to save the lock

	mu      sync.Mutex        // guards devices
	devices []presence.Device // as they would be stored
}

// User returns the id of the user.
func (p *Pending) User() string { return p.user }

// IsOf reports whether these are heartbeats of the very user whose record r is: another one may
// have had the same id before. An incarnation is no other user's, so the ids are not compared.
func (p *Pending) IsOf(r *record.Devices) bool {
	return p != nil && p.incarnation == r.Incarnation
}

// Gone reports whether they were stored: no heartbeat is kept here any more.
func (p *Pending) Gone() bool { return p.gone.Load() }

// end makes p gone, and returns the heartbeats in it other than those that were taken.
func (p *Pending) end(taken ...presence.Device) (since []presence.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone.Store(true)
	for _, d := range p.devices {
		if !slices.ContainsFunc(taken, func(t presence.Device) bool { return same(&t, &d) }) {
			since = append(since, d)
		}
	}
	return since
}

func same(a, b *presence.Device) bool {
	return a.Name == b.Name && a.Beat == b.Beat && presence.Equal(a.Chain, b.Chain)
}

// Beat keeps a heartbeat of a device as it is stored, unless its first state has ended: then kept
// is false. If p is gone nothing is done, and done is false.
func (p *Pending) Beat(stored *presence.Device, now int64) (kept, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone.Load() {
		return false, false
	}
	origin := stored.Origin()
	// Those of another chain stay: somebody may still read a record with that one.
	i := slices.IndexFunc(p.devices, func(d presence.Device) bool {
		return d.Name == stored.Name && presence.Equal(d.Chain, stored.Chain)
	})
	if i >= 0 {
		origin = max(origin, p.devices[i].Beat)
	}
	if link, _ := stored.Chain.At(origin, now); link != 0 {
		return false, true
	}
	beat := presence.Device{
		Name: stored.Name, Start: stored.Start, Beat: max(origin, now), Chain: stored.Chain,
	}
	if i >= 0 {
		p.devices[i] = beat
	} else {
		p.devices = append(p.devices, beat)
	}
	return true, true
}

// Apply returns the devices of a record, which may be nil, with the heartbeats applied. The record
// is not changed; what is returned may be a part of it.
func (p *Pending) Apply(r *record.Devices) []presence.Device {
	if r == nil {
		return nil
	}
	if !p.IsOf(r) {
		return r.Devices
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	devices, _ := Apply(r.Devices, p.devices)
	return devices
}

// Read returns the presence that a record says at now, with the heartbeats applied.
func (p *Pending) Read(r *record.Devices, now int64) presence.Reading {
	if !p.IsOf(r) {
		return presence.Read(r.Devices, now)
	}
	p.mu.Lock()
	reading := presence.Read(r.Devices, now, p.devices...)
	p.mu.Unlock()
	return reading
}

// Take returns a copy of the heartbeats, to be stored.
func (p *Pending) Take() []presence.Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.devices)
}

// Apply returns devices with heartbeats applied, and whether that moved any. A heartbeat moves the
// instant from which the times of its device count, if the same chain still stands on it and was
// not set later. Stored is not changed; it is what is returned if nothing moved.
func Apply(stored, beats []presence.Device) (devices []presence.Device, moved bool) {
	devices = stored
	for i := range stored {
		latest := stored[i].Latest(beats)
		if latest == stored[i].Origin() {
			continue
		}
		if !moved {
			devices, moved = slices.Clone(stored), true
		}
		devices[i].Beat = latest
	}
	return devices, moved
}
