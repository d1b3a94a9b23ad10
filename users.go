package denizen

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// UserVersion is the state of a user's record. Each write to the record changes it.
//
// A method that takes expected versions changes nothing and returns [ErrConflict] with Field
// "version" unless the user is at each of them. Without any it writes whatever the version is. No
// user is at version 0.
type UserVersion uint64

// User is a user with its locators. A peer is shown only ID and ScreenName. All times are to the
// millisecond.
type User struct {
	ID         UserID
	InternalID string // no other user ever has it, even one that gets the same ID later
	ScreenName string
	Locators   []Locator // owned ones and pending claims, in the order they were added or set
	Blocked    bool
	Block      Block // of a blocked user; Reason is for .system alone
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Version    UserVersion

	// Peer reports whether this is what a peer is shown, so that all but ID and ScreenName is
	// empty.
	Peer bool
}

// User returns a user, or [ErrNotFound]. A peer whom Options.MaySee lets see it is shown only the
// id and the screen name. A blocked user is [ErrNotFound] to its peers, as if it did not exist.
func (d *Directory) User(ctx context.Context, by Principal, id UserID) (u User, err error) {
	defer d.trace(&ctx, "User", &by).end(&err)
	c, err := d.enter(ctx, opReadUser, by, id)
	if err != nil {
		return User{}, err
	}
	// A record in the cache needs no keys and no slices.
	e := d.records.PeekUser(string(id))
	if e != nil && d.checkCallerCached(&c, e) && d.usable() == nil {
		err = c.show(&u, e)
		return u, err
	}
	entries, err := d.read(ctx, &c, record.UserKey(string(id)))
	if err != nil {
		return User{}, err
	}
	err = c.show(&u, entries[0])
	return u, err
}

// UsersByID returns several users, at most [MaxList], in the order of ids. What is shown of each is
// as with [Directory.User]. If one does not exist it returns none of them and [ErrNotFound], and
// Error.Missing holds those. If the caller may not see one of them, the whole call is refused.
func (d *Directory) UsersByID(
	ctx context.Context, by Principal, ids []UserID,
) (users []User, err error) {
	defer d.trace(&ctx, "UsersByID", &by).end(&err)
	calls, entries, err := d.readAll(ctx, opReadUser, by, ids, record.UserKey)
	if err != nil {
		return nil, err
	}
	users = make([]User, len(ids))
	var missing []string
	for i := range ids {
		if err := calls[i].show(&users[i], entries[i]); errors.Is(err, ErrNotFound) {
			missing = append(missing, string(ids[i]))
		} else if err != nil {
			return nil, err
		}
	}
	if len(missing) > 0 { // the caller was let in to each, and may know
		return nil, newErrorAbout(ErrNotFound, "user", "", missing...)
	}
	return users, nil
}

// readAll enters an operation for each of several users and reads one record of each. One refusal
// refuses all.
func (d *Directory) readAll(
	ctx context.Context, op op, by Principal, ids []UserID, key func(string) store.Key,
) ([]call, []*txn.Entry, error) {
	if len(ids) > MaxList {
		return nil, nil, invalid("users", "must be 100 at most")
	}
	if len(ids) == 0 {
		// There is no target, but the caller is checked all the same.
		c, err := d.enter(ctx, opResolveUser, by, by.user)
		if err != nil {
			return nil, nil, err
		}
		_, err = d.read(ctx, &c)
		return nil, nil, err
	}
	calls := make([]call, len(ids))
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		c, err := d.enter(ctx, op, by, id)
		if err != nil {
			return nil, nil, err
		}
		calls[i], keys[i] = c, key(string(id))
	}
	entries, err := d.read(ctx, &calls[0], keys...)
	return calls, entries, err
}

// show makes u what the caller is shown of a user.
func (c *call) show(u *User, e *txn.Entry) error {
	r, err := c.userIn(e)
	if err != nil {
		return err
	}
	if c.role == other {
		u.ID, u.ScreenName, u.Peer = UserID(r.ID), r.ScreenName, true
		return nil
	}
	u.fill(c, r, e.Version())
	return nil
}

// userIn returns the user of an entry, or ErrNotFound.
func userIn(e *txn.Entry) (*record.User, error) {
	r, ok := e.Value().(*record.User)
	if !ok {
		return nil, newError(ErrNotFound, "user", "")
	}
	return r, nil
}

// userIn is the function userIn for the caller: a blocked user does not exist for its peers.
func (c *call) userIn(e *txn.Entry) (*record.User, error) {
	r, err := userIn(e)
	if err == nil && c.role == other && r.BlockedAt(c.now) {
		return nil, newError(ErrNotFound, "user", "")
	}
	return r, err
}

func userOf(c *call, r *record.User, version store.Seq) (u User) {
	u.fill(c, r, version)
	return u
}

// fill makes u the user of a record, at the time of a call.
func (u *User) fill(c *call, r *record.User, version store.Seq) {
	u.ID, u.InternalID, u.ScreenName = UserID(r.ID), r.Incarnation, r.ScreenName
	u.Blocked, u.Version = r.BlockedAt(c.now), UserVersion(version)
	if u.Blocked {
		u.Block.Until = timeOf(r.BlockedUntil)
		if c.role == system {
			u.Block.Reason = r.BlockReason
		}
	}
	u.CreatedAt, u.UpdatedAt = timeOf(r.Created), timeOf(r.Updated)
	u.Locators = locatorsOf(r.Locators, c.stale)
}

// SetScreenName changes the screen name of a user. The rules are those of NewUser.ScreenName. It is
// stored in Unicode normalization form C, whatever form it was given in.
func (d *Directory) SetScreenName(
	ctx context.Context, by Principal, id UserID, screenName string, expected ...UserVersion,
) (u User, err error) {
	defer d.trace(&ctx, "SetScreenName", &by).end(&err)
	c, err := d.enter(ctx, opSetScreenName, by, id)
	if err != nil {
		return User{}, err
	}
	screenName, reason := screenNameOf(screenName)
	if reason != "" {
		return User{}, invalid("screenName", reason)
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if r.ScreenName == screenName {
			return errUnchanged
		}
		r.ScreenName = screenName
		p.emit(EventUserRenamed, r)
		return nil
	})
}

// change rewrites a user's record: edit is given a copy to change. It returns the user as it is
// afterwards.
func (d *Directory) change(
	ctx context.Context, c *call, expected []UserVersion, edit func(*plan, *record.User) error,
) (User, error) {
	var edited record.User
	var was store.Seq
	seq, err := d.write(ctx, c, func(p *plan) error {
		r, version, err := p.user(c.target)
		if err != nil {
			return err
		}
		if err := expect(expected, version); err != nil {
			return err
		}
		edited, was = *r, version
		edited.Locators = slices.Clone(r.Locators)
		edited.Updated = c.now
		forgetPast(&edited, c.now)
		if err := edit(p, &edited); err != nil {
			if err == errUnchanged {
				edited.Updated = r.Updated
			}
			return err
		}
		p.Put(record.UserKey(edited.ID), &edited)
		return nil
	})
	if err == errUnchanged {
		seq, err = was, nil
	}
	if err != nil {
		return User{}, err
	}
	return userOf(c, &edited, seq), nil
}

// user returns a user's record, which must not be changed, and makes it a condition of the write.
func (p *plan) user(id UserID) (*record.User, store.Seq, error) {
	entries, err := p.read(record.UserKey(string(id)))
	if err != nil {
		return nil, 0, err
	}
	r, err := userIn(entries[0])
	return r, entries[0].Version(), err
}

// expect returns ErrConflict unless a record is at each version that the caller expects.
func expect[V UserVersion | ProfileVersion](expected []V, version store.Seq) error {
	for _, v := range expected {
		if v != V(version) {
			return newError(ErrConflict, "version", "is another one by now")
		}
	}
	return nil
}
