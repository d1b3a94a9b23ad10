package denizen

import (
	"context"
	"errors"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// Everything in this package reads records and writes through here or through d.records, which puts
// what was read for a write into its conditions. Nothing else builds a batch or a condition. What
// is here adds who asks: the records that the caller rests on are read with the data.

// read returns the records under keys, and refuses unless the caller is still what it was when it
// was authenticated.
//
// Without a cache both are one snapshot of the store. With one, what is remembered is exact, and
// the caller is looked at after the data: if it is valid then it was so when the data was read.
func (d *Directory) read(ctx context.Context, c *call, keys ...store.Key) ([]*txn.Entry, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	callerKeys := c.callerKeys()
	if !d.records.Caching() {
		entries, err := d.load(ctx, append(keys, callerKeys...)...)
		if err != nil {
			return nil, err
		}
		return entries[:len(keys)], c.checkCaller(entries[len(keys):])
	}
	entries, err := d.load(ctx, keys...)
	if err != nil || len(callerKeys) == 0 {
		return entries, err
	}
	callers, err := d.load(ctx, callerKeys...)
	if err != nil {
		return nil, err
	}
	return entries, c.checkCaller(callers)
}

// load returns the records under keys, for whoever asks. One that is damaged is an error, except
// those that are disposable: they count as absent.
func (d *Directory) load(ctx context.Context, keys ...store.Key) ([]*txn.Entry, error) {
	entries, err := d.records.Read(ctx, keys...)
	if err != nil {
		return nil, err
	}
	if err := d.checkDamage(keys, entries); err != nil {
		return nil, err
	}
	return entries, nil
}

// checkDamage notes which records are damaged, for Health, and returns ErrCorrupt if one of them
// is not disposable.
func (d *Directory) checkDamage(keys []store.Key, entries []*txn.Entry) (err error) {
	for i, e := range entries {
		if !e.Damaged() {
			continue
		}
		d.met(keys[i])
		if !record.Disposable(keys[i]) {
			err = record.ErrCorrupt
		}
	}
	return err
}

// callerKeys returns the keys of the records that the caller rests on: the acting user, and the
// access key that it came with or that acts for it.
func (c *call) callerKeys() []store.Key {
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

// checkCaller returns ErrRevoked if the caller is not what it was when it was authenticated: the
// user is gone, blocked or another one, or the access key was deleted. Callers are the records
// under callerKeys.
func (c *call) checkCaller(callers []*txn.Entry) error {
	for _, e := range callers {
		switch r := e.Value().(type) {
		case *record.User:
			if r.Blocked || r.Incarnation != c.by.incarnation {
				return newError(ErrRevoked, "", "the acting user is blocked or is another one")
			}
		case *record.AccessKeys:
			if !hasKey(r, c.by.accessKey, c.by.keyIncarnation) {
				return newError(ErrRevoked, "", "the access key was deleted")
			}
		default:
			return newError(ErrRevoked, "", "the acting user or access key was deleted")
		}
	}
	return nil
}

func hasKey(keys *record.AccessKeys, key, incarnation string) bool {
	for i := range keys.Keys {
		if k := &keys.Keys[i]; k.Key == key && k.Incarnation == incarnation {
			return true
		}
	}
	return false
}

// checkCallerCached reports whether the caller is known to be valid without asking the store. E is
// what is remembered of the target, which leads to a user who asks about itself; it may be nil
// where the target is no user.
func (d *Directory) checkCallerCached(c *call, e *txn.Entry) bool {
	var user *txn.Entry
	switch {
	case c.by.accessKey != "":
		return false
	case c.by.kind != kindUser:
		return true
	case c.role == self:
		user = d.records.UserOf(e)
	default:
		user = d.records.PeekUser(string(c.by.user))
	}
	if user == nil {
		return false
	}
	r := user.Value().(*record.User)
	return !r.Blocked && r.Incarnation == c.by.incarnation
}

// plan is a write being decided, on behalf of a caller. It is a Tx that also knows who asks, which
// records are damaged, and which event the feed tells.
type plan struct {
	*txn.Tx
	d     *Directory
	ctx   context.Context
	c     *call
	bad   []store.Key // that were read and are damaged
	event *record.Event

	foreseen *foreseen // nil but for imports
}

// read returns the records under keys and makes them conditions. Like load it refuses damage.
func (p *plan) read(keys ...store.Key) ([]*txn.Entry, error) {
	entries, damaged, err := p.readDamaged(keys)
	if err == nil {
		err = damaged
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// readAny is read for a decision that can be made where records are damaged. That they are damaged
// is then the condition.
func (p *plan) readAny(keys ...store.Key) ([]*txn.Entry, error) {
	entries, _, err := p.readDamaged(keys)
	return entries, err
}

func (p *plan) readDamaged(keys []store.Key) (entries []*txn.Entry, damaged, err error) {
	if entries = p.foreseen.rest(p.Tx, keys); entries == nil {
		if entries, err = p.Read(keys...); err != nil {
			return nil, nil, err
		}
		p.foreseen.learn(keys, entries)
	}
	for i, e := range entries {
		if e.Damaged() {
			p.bad = append(p.bad, keys[i])
		}
	}
	return entries, p.d.checkDamage(keys, entries), nil
}

// damaged reports whether what was read under key is damaged.
func (p *plan) damaged(key store.Key) bool { return slices.Contains(p.bad, key) }

// errUnchanged, returned by the function that decides a write, says that all is already as it
// should be.
var errUnchanged = errors.New("nothing to change")

func unchanged(err error) error {
	if err == errUnchanged {
		return nil
	}
	return err
}

// write commits what decide plans. Decide runs once, and again after every conflict: it reads
// through the plan, refuses by an error, and otherwise fills the plan. That the caller is still
// valid is a condition of the write too.
func (d *Directory) write(ctx context.Context, c *call, decide func(*plan) error) (store.Seq, error) {
	if err := d.usable(); err != nil {
		return 0, err
	}
	var event *record.Event // of the last try
	paid := false
	seq, err := d.records.Write(ctx, c.queue(), func(tx *txn.Tx) error {
		event = nil
		p := &plan{Tx: tx, d: d, ctx: ctx, c: c}
		callers, err := p.read(c.callerKeys()...)
		if err != nil {
			return err
		}
		if err := c.checkCaller(callers); err != nil {
			return err
		}
		if err := decide(p); err != nil {
			return err
		}
		if err := d.pay(p, &paid); err != nil {
			return err
		}
		if event = p.event; event != nil {
			d.background.start() // which trims the feed
			p.Emit(event)
		}
		return nil
	})
	d.follower.apply(event) // whatever came of it
	if err != nil && paid && !errors.Is(err, store.ErrOutcomeUnknown) {
		d.buckets.giveBack(c.by.user)
	}
	switch err {
	case txn.ErrContended:
		err = newError(ErrConflict, "", "others kept changing the same records")
	case txn.ErrQueueFull:
		err = newError(ErrConflict, "", "too many others wait to change the same records")
	}
	return seq, err
}

// maxQueued bounds the writers that wait in one user's queue. What a user ends there is room for
// beyond that, and for .system beyond both: nobody escapes a block by a queue it keeps full.
const maxQueued = 256

// queue returns where the call waits after a conflict: with others about the same user.
func (c *call) queue() txn.Queue {
	q := txn.Queue{Key: record.UserKey(string(c.target)), Room: maxQueued}
	switch {
	case c.by.kind == kindSystem:
		q.Room = 4 * maxQueued
	case c.op == opRevokeToken || c.op == opLogout:
		q.Room = 2 * maxQueued
	}
	return q
}

// writeBackground commits what decide plans on behalf of nobody. It waits in no queue, and tries
// again at once after a conflict. That nothing is to be changed is no error of it.
func (d *Directory) writeBackground(ctx context.Context, decide func(*txn.Tx) error) error {
	_, err := d.records.Write(ctx, txn.Queue{}, decide)
	return unchanged(err)
}
