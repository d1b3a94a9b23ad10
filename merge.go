package denizen

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// Two users may turn out to be one person, and a locator may turn out to be another user's. Here
// what one user has becomes another's in one commit.

// Forever is a duration without an end: see MergePolicy.Alias.
const Forever time.Duration = math.MaxInt64

// MergePolicy says how [Directory.MergeUsers] decides where it could do one thing or another. Its
// zero value keeps what the user has who stays, and leaves no alias.
type MergePolicy struct {
	// Attributes says which attribute stays if both users have one and they differ.
	Attributes MergeRule
	// Alias is for how long the id of the user who goes leads to the one who stays, to whoever
	// asks [Directory.ResolveUser] as .system: whole milliseconds, ten years at most, or
	// [Forever]. Until then no other user gets that id. 0 stands for no alias.
	//
	// An alias is nobody to every other method. It ends with the user that it leads to.
	Alias time.Duration
}

// MergeRule says which of two attributes stays.
type MergeRule uint8

const (
	// KeepInto keeps that of the user who stays.
	KeepInto MergeRule = iota
	// TakeFrom takes that of the user who goes.
	TakeFrom
	// RefuseConflicts refuses to merge the two.
	RefuseConflicts
)

// MergeUsers makes one user of two in one commit: from is gone, and into has what it had. It
// returns into as it is afterwards.
//
//   - Locators that from owned keep their ids and statuses. If into has a pending claim on one,
//     the claim ends.
//   - Attributes are joined. MergePolicy.Attributes decides where both have one.
//   - Devices are joined by the rules of [Directory.SetPresence]. Of two with the same name the one
//     that was set later stays. If one of the users hides its presence, into does. The later of
//     the two last activities stays.
//   - The tokens, pending claims and proofs of from end. What it gave up and rests is nobody's
//     until it has rested.
//   - The id of from may become an alias: see [MergePolicy]. Aliases of from lead to into from then
//     on, each for its own time.
//   - The screen name of into stays, and so do its tokens.
//
// If into would have more than it may, it is [ErrLimited] and nothing changes. Field is "locators"
// (more than [MaxLocators], or of a registered type more than LocatorRule.PerUser; Error.Missing
// holds the first that is too many), "attributes" ([MaxProfileBytes]), "presence"
// ([MaxDevicesBytes]) or "aliases" ([MaxAliases]).
//
// With [RefuseConflicts] attributes that differ are [ErrTaken] with Field "attribute", and
// Error.Missing holds their keys. In the following errors it holds the ids of the users meant: if
// one does not exist it is [ErrNotFound], if one is blocked it is [ErrDenied], and if a record of
// one is damaged it is [ErrCorrupt], each with Field "user". A block must be lifted first, so that
// nobody gets around one by being merged. So must be what a user can still undo of its locators, by
// [Directory.CancelUndo]: that too is ErrDenied. Only .system may.
func (d *Directory) MergeUsers(
	ctx context.Context, by Principal, from, into UserID, policy MergePolicy,
) (u User, err error) {
	defer d.trace(&ctx, "MergeUsers", &by).end(&err)
	c, err := d.enter(ctx, opMergeUsers, by, from)
	if err != nil {
		return User{}, err
	}
	if err := firstOf(checkOther("into", into, from), policy.check()); err != nil {
		return User{}, err
	}
	if policy.Alias != 0 {
		d.background.start() // it sweeps aliases
	}
	c.target = into // who writes to into waits for the others that do
	var merged record.User
	seq, err := d.write(ctx, &c, func(p *plan) error {
		gone, stays, profiles, err := p.readBoth(from, into)
		if err != nil {
			return err
		}
		merged = stays
		merged.Updated = c.now
		forgetPast(&merged, c.now)
		moved, err := p.mergeLocators(&merged, &gone)
		if err != nil {
			return err
		}
		if err := p.mergeProfiles(&merged, profiles[0], profiles[1], policy.Attributes); err != nil {
			return err
		}
		if err := p.mergeDevices(&merged, &gone); err != nil {
			return err
		}
		if err := p.mergeActivity(&merged, &gone); err != nil {
			return err
		}
		if err := p.mergeAliases(&merged, &gone, policy.Alias); err != nil {
			return err
		}
		if err := p.unnameAll(&gone); err != nil {
			return err
		}
		p.Put(record.UserKey(merged.ID), &merged)
		p.Drop(ownKeys(gone.ID)...)
		if err := p.dropProofs(gone.ID); err != nil {
			return err
		}
		p.emit(EventUserMerged, &gone, moved...)
		p.event.Other = merged.ID
		return p.dropTokens(&gone)
	})
	if err != nil {
		return User{}, err
	}
	return userOf(&c, &merged, seq), nil
}

// unnameAll makes what has to stay of a user who is merged name nobody, as an erasure does: rests,
// and that an idempotency key was used.
func (p *plan) unnameAll(gone *record.User) error {
	var keys []store.Key
	for _, r := range gone.Resting {
		keys = append(keys, restKey(r))
	}
	if gone.Creation != "" {
		keys = append(keys, record.CreatedKey(gone.Created/oneDay, gone.Creation))
	}
	return p.unname(&belongings{user: *gone, found: map[string]int{}}, keys...)
}

// check refuses a policy that is none.
func (m MergePolicy) check() error {
	if m.Attributes > RefuseConflicts {
		return invalid("attributes", "must be KeepInto, TakeFrom or RefuseConflicts")
	}
	const most = 10 * 365 * 24 * time.Hour
	bad := m.Alias < 0 || m.Alias > most || m.Alias%time.Millisecond != 0
	if bad && m.Alias != Forever {
		const rule = "must be a multiple of a millisecond and ten years at most, or Forever"
		return invalid("alias", rule)
	}
	return nil
}

// checkOther refuses the id of a second user if it is none, or that of the first.
func checkOther(field string, id, first UserID) error {
	if reason := checkUserID(string(id)); reason != "" {
		return invalid(field, reason)
	}
	if id == first {
		return invalid(field, "must be another user")
	}
	return nil
}

// readBoth returns copies of two users that are to be merged and the profiles of both, and makes
// all of it conditions.
func (p *plan) readBoth(
	from, into UserID,
) (gone, stays record.User, profiles []*txn.Entry, err error) {
	ids := [...]string{string(from), string(into)}
	var keys []store.Key
	for _, key := range [...]func(string) store.Key{record.UserKey, record.ProfileKey} {
		keys = append(keys, key(ids[0]), key(ids[1]))
	}
	entries, err := p.readAny(keys...)
	if err != nil {
		return gone, stays, nil, err
	}
	var damaged []string
	for i, e := range entries {
		id := ids[i%2]
		if e.Damaged() && !slices.Contains(damaged, id) {
			damaged = append(damaged, id)
		}
	}
	if damaged != nil {
		const rule = "what is stored of it is damaged"
		return gone, stays, nil, newErrorAbout(ErrCorrupt, "user", rule, damaged...)
	}
	if err := requireUsers(entries[:2], ids[:]); err != nil {
		return gone, stays, nil, err
	}
	gone, stays = copyOf(entries[0]), copyOf(entries[1])
	var blocked []string
	for _, r := range [...]*record.User{&gone, &stays} {
		if r.BlockedAt(p.c.now) {
			blocked = append(blocked, r.ID)
		}
	}
	if blocked != nil {
		return gone, stays, nil, newErrorAbout(ErrDenied, "user", "is blocked", blocked...)
	}
	var changed []string
	for _, r := range [...]*record.User{&gone, &stays} {
		if p.undoable(r); len(r.Changes) > 0 {
			changed = append(changed, r.ID)
		}
	}
	if changed != nil {
		const rule = "has changed its locators, and that can still be undone"
		return gone, stays, nil, newErrorAbout(ErrDenied, "user", rule, changed...)
	}
	return gone, stays, entries[2:], nil
}

// requireUsers returns ErrNotFound unless each entry is a user.
func requireUsers(entries []*txn.Entry, ids []string) error {
	var missing []string
	for i, e := range entries {
		if _, err := userIn(e); err != nil {
			missing = append(missing, ids[i])
		}
	}
	if missing != nil {
		return newErrorAbout(ErrNotFound, "user", "", missing...)
	}
	return nil
}

// copyOf returns a copy of the user of an entry, with locators that may be changed.
func copyOf(e *txn.Entry) record.User {
	r := *e.Value().(*record.User)
	r.Locators = slices.Clone(r.Locators)
	return r
}

// mergeLocators gives into what from owns, and returns the ids of that.
func (p *plan) mergeLocators(into, from *record.User) (moved []string, err error) {
	for _, l := range from.Locators {
		if !l.Owned {
			continue
		}
		if err := p.adopt(into, l); err != nil {
			return nil, err
		}
		moved = append(moved, l.ID)
	}
	return moved, nil
}

// adopt gives r a locator that another user owns and loses in the same commit. That the other owns
// it is a condition already, because the other's record says so. r must be a copy of its own.
func (p *plan) adopt(r *record.User, l record.Locator) error {
	full := l.Type + ":" + l.Canonical
	r.Locators = slices.DeleteFunc(r.Locators, func(have record.Locator) bool {
		return !have.Owned && have.Is(full)
	})
	g := given{kind: l.Type, rule: p.d.rules.of(l.Type)}
	err := firstOf(room(r.Locators, 1), g.roomFor(append(r.Locators, l)))
	if e, ok := err.(*Error); ok {
		return newErrorAbout(e.Kind, e.Field, e.Reason, serialized(&l))
	}
	r.Locators = append(r.Locators, l)
	p.putOwner(l, r)
	if l.Unique != "" {
		p.putUnique(&l, r)
	}
	return nil
}

// mergeProfiles gives into the attributes of another user's profile.
func (p *plan) mergeProfiles(into *record.User, from, to *txn.Entry, rule MergeRule) error {
	theirs, ok := from.Value().(*record.Profile)
	if !ok {
		return nil
	}
	merged := record.Profile{User: into.ID, Incarnation: into.Incarnation}
	if r, ok := to.Value().(*record.Profile); ok {
		merged.Attributes = slices.Clone(r.Attributes)
	}
	var differ []string
	changed := false
	for _, a := range theirs.Attributes {
		p.Drop(record.AttributeRefKey(a.Key, theirs.User))
		i, found := slices.BinarySearchFunc(merged.Attributes, a.Key, byKey)
		switch {
		case !found:
			merged.Attributes = slices.Insert(merged.Attributes, i, a)
			ref := record.AttributeRef{Attribute: a.Key, User: into.ID}
			p.Put(record.AttributeRefKey(a.Key, into.ID), &ref)
			changed = true
		case merged.Attributes[i] == a:
		case rule == TakeFrom:
			merged.Attributes[i] = a
			changed = true
		default:
			differ = append(differ, a.Key)
		}
	}
	if differ != nil && rule == RefuseConflicts {
		return newErrorAbout(ErrTaken, "attribute", "of the two users differ", differ...)
	}
	if !changed {
		return nil
	}
	p.Put(record.ProfileKey(into.ID), &merged)
	return checkSize(&merged)
}

// mergeDevices gives into the devices of another user that have not run out, heartbeats included.
// It hides if one of the two does, or may: nobody then sees what was hidden.
func (p *plan) mergeDevices(into, gone *record.User) error {
	theirs, err := p.devicesOf(gone)
	if err != nil {
		return err
	}
	ours, err := p.devicesOf(into)
	if err != nil {
		return err
	}
	merged := record.Devices{
		User: into.ID, Incarnation: into.Incarnation, Devices: p.WithBeats(ours),
	}
	changed := false
	for _, device := range p.WithBeats(theirs) {
		i := presence.IndexOf(merged.Devices, device.Name)
		later := i < 0 || !merged.Devices[i].Runs(p.c.now) ||
			merged.Devices[i].Origin() < device.Origin()
		if later && device.Runs(p.c.now) {
			merged.Devices = presence.Set(merged.Devices, device, p.c.now)
			changed = true
		}
	}
	if ours != nil {
		merged.Hidden = ours.Hidden
	}
	if theirs != nil {
		if theirs.Hidden && !merged.Hidden {
			merged.Hidden, changed = true, true
		}
		p.putDevices(theirs, &record.Devices{User: gone.ID})
	}
	if !changed {
		return nil
	}
	return fits(p.putDevices(ours, &merged))
}

// mergeActivity gives into the last activity of another user if it is the later one.
func (p *plan) mergeActivity(into, gone *record.User) error {
	noted := p.d.lastActive.of(UserID(gone.ID))
	entries, err := p.read(record.ActiveKey(gone.ID), record.ActiveKey(into.ID))
	if err != nil {
		return err
	}
	merged := record.Active{User: into.ID, Incarnation: into.Incarnation}
	if noted.Incarnation == gone.Incarnation {
		merged.At = noted.At
	}
	if r, ok := entries[0].Value().(*record.Active); ok {
		merged.At = max(merged.At, r.At)
	}
	if r, ok := entries[1].Value().(*record.Active); merged.At > 0 && (!ok || r.At < merged.At) {
		p.Put(record.ActiveKey(into.ID), &merged)
	}
	return nil
}

// MoveLocator gives a locator that one user owns to another user in one commit, with its id and its
// status, so that nobody else can take it in between. A pending claim of the other user on it ends.
// Tokens stay as they are, but for those that were got by it while a change that brought it can be
// undone: see [Directory.RevokeAllTokens].
//
// A pending claim is [ErrInvalid] with Field "locator": nobody owns it. If one of the users does
// not exist it is [ErrNotFound] with Field "user", and Error.Missing holds its id. More locators
// than a user may own are [ErrLimited] with Field "locators". Only .system may.
func (d *Directory) MoveLocator(
	ctx context.Context, by Principal, from UserID, id LocatorID, to UserID,
) (moved Locator, err error) {
	defer d.trace(&ctx, "MoveLocator", &by).end(&err)
	c, err := d.enter(ctx, opMoveLocator, by, from)
	if err != nil {
		return Locator{}, err
	}
	if err := checkOther("to", to, from); err != nil {
		return Locator{}, err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.read(record.UserKey(string(from)), record.UserKey(string(to)))
		if err != nil {
			return err
		}
		if err := requireUsers(entries, []string{string(from), string(to)}); err != nil {
			return err
		}
		loser, winner := copyOf(entries[0]), copyOf(entries[1])
		i, err := locatorIn(&loser, id)
		if err != nil {
			return err
		}
		l := loser.Locators[i]
		if !l.Owned {
			return invalid("locator", "is a pending claim, which nobody owns")
		}
		loser.Locators = slices.Delete(loser.Locators, i, i+1)
		for _, r := range [...]*record.User{&loser, &winner} {
			r.Updated = c.now
			forgetPast(r, c.now)
		}
		if err := p.adopt(&winner, l); err != nil {
			return err
		}
		if err := p.endTokensGotBy(&loser, &l); err != nil {
			return err
		}
		p.Put(record.UserKey(loser.ID), &loser)
		p.Put(record.UserKey(winner.ID), &winner)
		p.emit(EventLocatorMoved, &loser, l.ID)
		p.event.Other = winner.ID
		moved = c.locatorOf(&l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return moved, nil
}
