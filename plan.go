package denizen

import (
	"context"
	"errors"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// read answers the records under keys, and refuses unless the caller still stands.
//
// Without a cache both are one snapshot of the store. With one, what is remembered is
// exact, and the caller is looked at after the data: if it stands then it stood when the
// data was read.
func (d *Directory) read(ctx context.Context, c *call, keys ...store.Key) ([]*memo, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	standing := c.standing()
	if d.cache == nil {
		memos, err := d.load(ctx, nil, append(keys, standing...))
		if err != nil {
			return nil, err
		}
		return memos[:len(keys)], c.stands(memos[len(keys):])
	}
	memos, err := d.load(ctx, d.cache, keys)
	if err != nil || len(standing) == 0 {
		return memos, err
	}
	callers, err := d.load(ctx, d.cache, standing)
	if err != nil {
		return nil, err
	}
	return memos, c.stands(callers)
}

// damage is what is wrong with a record.
type damage uint8

const (
	marked     damage = iota + 1 // the store cannot read it: its version means nothing
	unreadable                   // the store can, and it is not what its key promises
)

// load answers the records under keys from the cache, where there is one, and those that
// it lacks from one snapshot of the store. One that is damaged is an error, but for those that
// are disposable: they count as absent.
func (d *Directory) load(ctx context.Context, from *cache, keys []store.Key) ([]*memo, error) {
	memos, damaged, err := d.loadAny(ctx, from, keys)
	if err == nil {
		err = damaged
	}
	if err != nil {
		return nil, err
	}
	return memos, nil
}

// loadAny is load that returns damaged records too, with what is wrong with them, and as
// damaged what load would say.
func (d *Directory) loadAny(ctx context.Context, from *cache, keys []store.Key) (memos []*memo, damaged, err error) {
	memos = make([]*memo, len(keys))
	var few [4]int // most calls ask for a few keys
	var fewEnded [4]uint64
	missing, ended := few[:0], fewEnded[:0]
	for i, key := range keys {
		m, read := d.cache.look(nameOf(key))
		if m == nil || from == nil {
			missing, ended = append(missing, i), append(ended, read)
		} else {
			memos[i] = m
		}
	}
	if len(missing) == 0 {
		return memos, nil, nil
	}
	if len(missing) < len(keys) {
		wanted := make([]store.Key, len(missing))
		for j, i := range missing {
			wanted[j] = keys[i]
		}
		keys = wanted
	}
	before := d.beating.before(keys)
	records, err := d.store.Get(ctx, keys...)
	if err != nil {
		return nil, nil, err
	}
	for j, r := range records {
		m := &memo{version: r.Version, weight: weigh(r.Key, r.Value)}
		if r.Version != 0 || r.Damaged {
			var bad error
			if m.value, bad = decodeRecord(r); bad != nil {
				m.damage = unreadable
				if r.Damaged {
					m.damage = marked
				}
				d.met(r.Key)
				if !record.Disposable(r.Key) {
					damaged = bad
				}
			}
		}
		if devices, ok := m.value.(*record.Devices); ok {
			memos[missing[j]] = d.rememberDevices(m, devices, ended[j], before[j])
			continue
		}
		memos[missing[j]] = d.cache.remember(nameOf(r.Key), ended[j], m)
	}
	return memos, damaged, nil
}

// condOf is the condition that what was read under key still stands.
func condOf(key store.Key, m *memo) store.Cond {
	if m.damage == marked {
		return store.Cond{Key: key, Damaged: true}
	}
	return store.Cond{Key: key, Version: m.version}
}

// decodeRecord reads a record of the store, which may be damaged.
func decodeRecord(r store.Record) (any, error) {
	if r.Damaged {
		return nil, record.ErrCorrupt
	}
	return record.Decode(r.Key, r.Value)
}

// standing answers the keys of the records that the caller rests on: the acting user, and
// the access key that it came with or that acts for it.
func (c *call) standing() []store.Key {
	switch {
	case c.by.kind == kindUser && c.by.accessKey != "":
		return []store.Key{record.UserKey(string(c.by.user)), record.AccessKeysKey}
	case c.by.kind == kindUser:
		return []store.Key{record.UserKey(string(c.by.user))}
	case c.by.accessKey != "":
		return []store.Key{record.AccessKeysKey}
	}
	return nil
}

// stands answers ErrRevoked if the caller is not what it was when it was authenticated:
// the user gone, blocked or another one, the access key deleted.
func (c *call) stands(memos []*memo) error {
	for _, m := range memos {
		switch r := m.value.(type) {
		case *record.User:
			if r.Blocked || r.Incarnation != c.by.incarnation {
				return refuse(ErrRevoked, "", "the acting user is blocked or is another one")
			}
		case *record.AccessKeys:
			if !holds(r, c.by.accessKey, c.by.keyIncarnation) {
				return refuse(ErrRevoked, "", "the access key was deleted")
			}
		default:
			return refuse(ErrRevoked, "", "the acting user or access key was deleted")
		}
	}
	return nil
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

func holds(keys *record.AccessKeys, key, incarnation string) bool {
	for i := range keys.Keys {
		if k := &keys.Keys[i]; k.Key == key && k.Incarnation == incarnation {
			return true
		}
	}
	return false
}

// plan is a write being decided: it remembers the version of everything that was read for
// it and puts that into the batch's conditions, so that what is decided on is what is
// written on. Nothing else in this package builds the conditions of a batch.
type plan struct {
	d     *Directory
	ctx   context.Context
	c     *call
	again bool // an earlier try met a conflict: nothing may be taken from the cache
	batch batch
	bad   []store.Key // that were read and are damaged
	event *record.Event
}

// read answers the records under keys and makes them conditions.
func (p *plan) read(keys ...store.Key) ([]*memo, error) {
	memos, damaged, err := p.load(keys)
	if err == nil {
		err = damaged
	}
	if err != nil {
		return nil, err
	}
	return memos, nil
}

// readAny is read for a decision that can be made where records are damaged: that they are is
// then the condition.
func (p *plan) readAny(keys ...store.Key) ([]*memo, error) {
	memos, _, err := p.load(keys)
	return memos, err
}

func (p *plan) load(keys []store.Key) (memos []*memo, damaged, err error) {
	from := p.d.cache
	if p.again {
		from = nil
	}
	memos, damaged, err = p.d.loadAny(p.ctx, from, keys)
	for i, m := range memos {
		p.rest(condOf(keys[i], m))
		if m.damage != 0 {
			p.bad = append(p.bad, keys[i])
		}
	}
	return memos, damaged, err
}

// damaged reports whether what was read under key is damaged.
func (p *plan) damaged(key store.Key) bool { return slices.Contains(p.bad, key) }

func (p *plan) require(key store.Key, version store.Seq) {
	p.rest(store.Cond{Key: key, Version: version})
}

// rest adds a condition on a key, unless there is one already.
func (p *plan) rest(on store.Cond) {
	for _, c := range p.batch.If {
		if c.Key == on.Key && !c.Under {
			return
		}
	}
	p.batch.If = append(p.batch.If, on)
}

// unused makes it a condition that nothing lies under key.
func (p *plan) unused(key store.Key) {
	p.batch.If = append(p.batch.If, store.Cond{Key: key, Under: true})
}

func (p *plan) put(key store.Key, r record.Record) { p.batch.put(key, r) }

func (p *plan) drop(keys ...store.Key) { p.batch.Drop = append(p.batch.Drop, keys...) }

// emit makes what the event of the batch.
func (p *plan) emit(kind EventKind, user *record.User, subjects ...string) {
	p.event = p.d.event(p.c, kind, subjects...)
	switch kind {
	case EventUserBlocked, EventUserDeleted, EventTokenRevoked, EventAccessKeyDeleted, EventSigningKeyDropped:
		p.batch.Urgent = true // what ends something works on a full disk too
	}
	if user != nil {
		p.event.User, p.event.Incarnation = user.ID, user.Incarnation
	}
}

func (d *Directory) event(c *call, kind EventKind, subjects ...string) *record.Event {
	return &record.Event{
		At: c.now, What: string(kind), Actor: c.by.String(), AccessKey: c.by.accessKey, Subjects: subjects,
	}
}

// errUnchanged, answered by the function that decides a write, says that all is already
// as it should be.
var errUnchanged = errors.New("nothing to change")

const maxTries = 16

// write commits what decide plans. decide runs once, and again after every conflict: it
// reads through the plan, refuses by an error, and otherwise fills the batch. From the
// first conflict on, writes about one user queue, so that many at once all get through.
// The caller's standing is a condition of the batch.
func (d *Directory) write(ctx context.Context, c *call, decide func(*plan) error) (seq store.Seq, err error) {
	if err := d.usable(); err != nil {
		return 0, err
	}
	queued, paid := false, false
	defer func() {
		if paid && err != nil && !errors.Is(err, store.ErrOutcomeUnknown) {
			d.buckets.giveBack(c.by.user)
		}
	}()
	for try := range maxTries {
		// Whoever comes while others queue queues too, or those might never get through.
		if !queued && (try > 0 || d.turns.busy(c.target)) {
			done, err := d.turns.take(ctx, c.target, c.room())
			if err != nil {
				return 0, err
			}
			defer done()
			queued = true
		}
		p := &plan{d: d, ctx: ctx, c: c, again: try > 0}
		standing, err := p.read(c.standing()...)
		if err != nil {
			return 0, err
		}
		if err := c.stands(standing); err != nil {
			return 0, err
		}
		if err := decide(p); err != nil {
			return 0, err
		}
		if err := d.pay(p, &paid); err != nil {
			return 0, err
		}
		if p.event != nil {
			d.background.start() // which trims the feed
			p.batch.Emit = record.Encode(p.event)
		}
		seq, err := d.commit(ctx, &p.batch)
		d.following.apply(p.event) // whatever came of it
		// What was damaged since it was remembered is read again, too.
		if !isConflict(err) && (try > 0 || !errors.Is(err, store.ErrCorrupt)) {
			return seq, err
		}
	}
	return 0, refuse(ErrConflict, "", "others kept changing the same records")
}

// batch is a batch of the store together with the records that it puts, so that these can
// be remembered once they are written. They must not be changed any more.
type batch struct {
	store.Batch
	records []record.Record // of Put
	// retells says that readers know what the records will say: heartbeats that are stored. What
	// is remembered stays so during the write; only its version may be an older one, and a write
	// that rests on that meets a conflict.
	retells bool
}

func (b *batch) put(key store.Key, r record.Record) {
	b.Put = append(b.Put, store.Record{Key: key, Value: record.Encode(r)})
	b.records = append(b.records, r)
}

// commit hands a batch to the store and keeps the cache right whatever comes of it.
func (d *Directory) commit(ctx context.Context, b *batch) (seq store.Seq, err error) {
	d.cache.writes(b)
	defer func() {
		if err != nil {
			seq = 0
		}
		d.cache.wrote(b, seq, d.beating)
	}()
	return d.store.Commit(ctx, b.Batch)
}
