package denizen

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// lastActive is when users were last active, as far as it is not stored yet.
type lastActive struct {
	mu     sync.Mutex // guards byUser; never held over a call of the store
	byUser map[UserID]record.Active
}

func newLastActive() *lastActive { return &lastActive{byUser: map[UserID]record.Active{}} }

// note notes that a user did something.
func (t *lastActive) note(d *Directory, user UserID, incarnation string, now int64) {
	d.background.start()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byUser[user] = record.Active{User: string(user), Incarnation: incarnation, At: now}
}

// of returns what is not stored yet of a user. Call it before reading what is: it moves from here
// to there.
func (t *lastActive) of(user UserID) record.Active {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byUser[user]
}

// all returns the users in the table, in the order of their ids: neighbours are stored in the same
// pages.
func (t *lastActive) all() []record.Active {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]record.Active, 0, len(t.byUser))
	for _, a := range t.byUser {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b record.Active) int { return cmp.Compare(a.User, b.User) })
	return all
}

// stored removes from the table what was stored, but nothing later.
func (t *lastActive) stored(some []record.Active) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range some {
		if t.byUser[UserID(a.User)] == a {
			delete(t.byUser, UserID(a.User))
		}
	}
}

// activityStep is to what a peer is shown the last activity.
const activityStep = 5 * time.Minute

// LastActive returns when each of several users, at most [MaxList], last did anything by itself, in
// the order of users: when it last came in with a token of its own, or changed something. What
// .system does for it does not count, nor does a heartbeat of a Principal that was authenticated
// before. It is known to the minute, and stored within a minute: a crash loses that.
//
// A peer is shown it rounded down to five minutes. It is the zero time of a user who never did
// anything, does not exist, or, for a peer, is blocked or hides: see [Directory.SetPresenceHidden].
// Options.MaySee is asked about [FacetLastActive]. If the caller may not see one of them, the whole
// call is refused.
func (d *Directory) LastActive(
	ctx context.Context, by Principal, users []UserID,
) (times []time.Time, err error) {
	defer d.trace(&ctx, "LastActive", &by).end(&err)
	calls, found, err := d.readAll(ctx, opReadActivity, by, users, record.UserKey)
	if err != nil || len(users) == 0 {
		return []time.Time{}, err
	}
	noted := make([]record.Active, len(users))
	keys := make([]store.Key, 0, 2*len(users))
	for i, id := range users {
		noted[i] = d.lastActive.of(id)
		keys = append(keys, record.ActiveKey(string(id)), record.DevicesKey(string(id)))
	}
	entries, err := d.read(ctx, &calls[0], keys...)
	if err != nil {
		return nil, err
	}
	times = make([]time.Time, len(users))
	for i := range users {
		u, err := calls[i].userIn(found[i])
		if err != nil {
			continue
		}
		at := int64(0)
		if r, ok := entries[2*i].Value().(*record.Active); ok && r.Incarnation == u.Incarnation {
			at = r.At
		}
		if noted[i].Incarnation == u.Incarnation {
			at = max(at, noted[i].At)
		}
		if calls[i].role == other {
			at -= at % activityStep.Milliseconds()
			if entries[2*i+1].Damaged() {
				at = 0 // it may hide
			} else if r, ok := entries[2*i+1].Value().(*record.Devices); ok && r.Hidden {
				at = 0
			}
		}
		times[i] = timeOf(at)
	}
	return times, nil
}

// storeActive stores the table, a batch of users at a time. It leaves out users who are gone.
func (d *Directory) storeActive(ctx context.Context) (failed error) {
	for some := range slices.Chunk(d.lastActive.all(), maxSweep) {
		failed = errors.Join(failed, d.storeSomeActive(ctx, some))
	}
	return failed
}

func (d *Directory) storeSomeActive(ctx context.Context, some []record.Active) error {
	keys := make([]store.Key, 0, 2*len(some))
	for _, a := range some {
		keys = append(keys, record.UserKey(a.User), record.ActiveKey(a.User))
	}
	err := d.writeBackground(ctx, func(tx *txn.Tx) error {
		entries, err := tx.Read(keys...)
		if err != nil {
			return err
		}
		_ = d.checkDamage(keys, entries) // damaged users are left out
		nothing := true
		for i, a := range some {
			u, ok := entries[2*i].Value().(*record.User)
			if !ok || u.Incarnation != a.Incarnation {
				continue
			}
			r, ok := entries[2*i+1].Value().(*record.Active)
			if ok && r.Incarnation == a.Incarnation && r.At >= a.At {
				continue
			}
			tx.Put(keys[2*i+1], &a)
			nothing = false
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
	if err == nil {
		d.lastActive.stored(some)
	}
	return err
}
