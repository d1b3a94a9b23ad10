package denizen

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// over answers the devices of a record, which may be nil, with the heartbeats applied.
func (d *Directory) over(r *record.Devices) []presence.Device {
	if r == nil {
		return nil
	}
	return d.beating.of(r).over(r)
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
	origin := stored.Origin()
	i := deviceIn(b.devices, stored.Name)
	same := i >= 0 && presence.Equal(b.devices[i].Chain, stored.Chain)
	switch {
	case same:
		origin = max(origin, b.devices[i].Beat)
	case i >= 0 && b.devices[i].Beat >= now:
		return true, true // another chain was set and kept alive since this heartbeat came
	}
	if link, _ := stored.Chain.At(origin, now); link != 0 {
		return false, true
	}
	beat := presence.Device{Name: stored.Name, Start: stored.Start, Beat: max(origin, now), Chain: stored.Chain}
	if i >= 0 {
		b.devices[i] = beat
	} else {
		b.devices = append(b.devices, beat)
	}
	return true, true
}

// over returns the devices of a record with the heartbeats applied: a heartbeat moves the
// origin of a device on which the same chain still stands. b may be nil, and so may r.
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
		if latest := stored[i].Latest(beats); latest != stored[i].Origin() {
			if &devices[0] == &stored[0] {
				devices = slices.Clone(stored)
			}
			devices[i].Beat = latest
		}
	}
	return devices
}

// storeBeats stores the heartbeats there are. A user whose record is written meanwhile is
// read again; heartbeats apply only where the same chain still stands.
func (d *Directory) storeBeats(ctx context.Context) (failed error) {
	d.beating.Lock()
	users := make([]*beats, 0, len(d.beating.byUser))
	for _, b := range d.beating.byUser {
		users = append(users, b)
	}
	d.beating.Unlock()
	// Neighbours lie in the same pages, which are then written once.
	slices.SortFunc(users, func(a, b *beats) int { return strings.Compare(a.user, b.user) })
	for some := range slices.Chunk(users, maxSweep) {
		failed = errors.Join(failed, retry(func() error { return d.storeSomeBeats(ctx, some) }))
	}
	return failed
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
				return o.Name == d.Name && o.Beat == d.Beat && presence.Equal(o.Chain, d.Chain)
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
