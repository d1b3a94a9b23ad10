package denizen

import (
	"context"
	"errors"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// This package reads and writes records through this file or through d.records, which makes what a
// write has read conditions of its commit. Nothing else builds a batch or a condition. This file
// adds the caller: the records that it rests on are read with the data.

// read returns the records under keys, and ErrRevoked unless the caller is still what it was when
// it was authenticated.
//
// Without a cache both are one snapshot of the store. With a cache, entries are exact, and the
// caller is read after the data: if it is valid then, it was so when the data was read.
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

// load returns the records under keys without checking a caller. A damaged one is ErrCorrupt,
// except a disposable one, which counts as absent.
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

// checkDamage notes damaged records for Health. It returns ErrCorrupt if one of them is not
// disposable.
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
// access key that its Principal was made with.
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

// checkCaller returns ErrRevoked if the caller is not what it was when it was authenticated: its
// user is deleted, blocked or another one, or its access key was deleted. callers are the records
// under callerKeys.
func (c *call) checkCaller(callers []*txn.Entry) error {
	for _, e := range callers {
		switch r := e.Value().(type) {
		case *record.User:
			if r.BlockedAt(c.now) || r.Incarnation != c.by.incarnation {
				return newError(ErrRevoked, "", "the acting user is blocked or another one")
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

// checkCallerCached reports whether the cache shows that the caller is valid. e is an entry of the
// target, which leads to the user if that is the caller. It may be nil if there is no target.
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
	return !r.BlockedAt(c.now) && r.Incarnation == c.by.incarnation
}

// checkCallerSeen returns ErrRevoked unless the caller is valid, after a presence of the target was
// seen. That its user stands is seen with the presence most of the time.
func (d *Directory) checkCallerSeen(ctx context.Context, c *call, seen *txn.Seen) error {
	switch {
	case c.by.accessKey != "":
	case c.by.kind != kindUser:
		return nil
	case c.role != self:
		if d.checkCallerCached(c, nil) {
			return nil
		}
	case seen.Stands(c.by.incarnation):
		return nil
	}
	_, err := d.read(ctx, c)
	if err == nil && c.role == self {
		seen.Stood(c.by.incarnation)
	}
	return err
}

// plan is a write that is being decided on behalf of a caller. It is a Tx that also knows the
// caller, the damaged records it has read, and the event.
type plan struct {
	*txn.Tx
	d     *Directory
	ctx   context.Context
	c     *call
	bad   []store.Key // that were read and are damaged
	event *record.Event
	// proved says that the user proves the locators that the write makes its own.
	proved bool

	presences []presenceChange // those that it changes and somebody watches

	leaves   bool      // the user is leaving: nobody gets back what it gives up
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

// readAny is like read, but returns damaged records too. That they are damaged is then the
// condition.
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

// damaged reports whether the record that was read under key is damaged.
func (p *plan) damaged(key store.Key) bool { return slices.Contains(p.bad, key) }

// errUnchanged is returned by a function that decides a write and finds nothing to change.
var errUnchanged = errors.New("nothing to change")

func unchanged(err error) error {
	if err == errUnchanged {
		return nil
	}
	return err
}

// write commits what decide plans. decide runs once, and again after every conflict. It reads
// through the plan, refuses by an error, and otherwise fills the plan. That the caller is still
// valid is a condition of the commit too.
func (d *Directory) write(
	ctx context.Context, c *call, decide func(*plan) error,
) (store.Seq, error) {
	if err := d.usable(); err != nil {
		return 0, err
	}
	var event *record.Event        // of the last try
	var presences []presenceChange // likewise
	paid := false
	seq, err := d.records.Write(ctx, c.queue(), func(tx *txn.Tx) error {
		event, presences = nil, nil
		p := &plan{Tx: tx, d: d, ctx: ctx, c: c}
		if c.gathers != nil {
			if err := p.Gather(append(c.callerKeys(), c.gathers...)...); err != nil {
				return err
			}
		}
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
		presences = p.presences
		if event = p.event; event != nil {
			d.background.start() // somebody must trim the feed
			p.Emit(event)
		}
		return nil
	})
	d.follower.apply(event) // even after an error: the commit may have been made
	d.tellWatchers(seq, err, c.now, event, presences)
	if err == nil && paid { // by the user itself
		d.lastActive.note(d, c.by.user, c.by.incarnation, c.now)
	}
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

// maxQueued bounds the writers that wait in one user's queue. A user who ends tokens may wait
// beyond that, and .system beyond both. So nobody escapes a block by keeping its queue full.
const maxQueued = 256

// queue returns where the call waits after a conflict: with other calls about the same user, or
// those that contend for the same record.
func (c *call) queue() txn.Queue {
	q := txn.Queue{Key: record.UserKey(string(c.target)), Room: maxQueued}
	if c.contended != "" {
		q.Key = c.contended
	}
	switch {
	case c.by.kind == kindSystem:
		q.Room = 4 * maxQueued
	case c.op == opRevokeToken || c.op == opLogout:
		q.Room = 2 * maxQueued
	}
	return q
}

// writeBackground commits what decide plans, with no caller. It waits in no queue, and retries at
// once after a conflict. That there is nothing to change is no error.
func (d *Directory) writeBackground(ctx context.Context, decide func(*txn.Tx) error) error {
	_, err := d.records.Write(ctx, txn.Queue{}, decide)
	return unchanged(err)
}
