package denizen

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// LocatorChange is what the present rule of its type makes of a locator that was stored by another
// version of it.
type LocatorChange struct {
	User      UserID
	Locator   Locator // as it was stored
	Outcome   LocatorOutcome
	Canonical string // by the present rule; empty if that gives none
	Reason    string // for people, with LocatorRefused
}

// LocatorOutcome says what becomes of a locator under the present rule of its type.
type LocatorOutcome string

// The outcomes. LocatorKept and LocatorChanged are brought to the present version by RekeyLocators;
// the others stay as they are stored, and are their owner's, until somebody changes them.
const (
	// LocatorKept: its canonical form is the same. What it is unique by may have changed.
	LocatorKept LocatorOutcome = "kept"
	// LocatorChanged: its canonical form is another, and it is found by that one alone.
	LocatorChanged LocatorOutcome = "changed"
	// LocatorCollides: another locator has what it would be unique by, or one that rests.
	LocatorCollides LocatorOutcome = "collides"
	// LocatorRefused: the present rule refuses it.
	LocatorRefused LocatorOutcome = "refused"
	// LocatorNewer: it was stored by a later version of the rule, by another process.
	LocatorNewer LocatorOutcome = "newer"
	// LocatorUnregistered: its type is not registered.
	LocatorUnregistered LocatorOutcome = "unregistered"
)

// CheckLocators goes through all users and yields each locator of a registered type that was stored
// by another version of its rule, or whose type is not registered, and what RekeyLocators would do
// to it now. It changes nothing. Locators of the present version are not looked at.
//
// It remembers what it would give to whom, some 200 bytes for each locator it yields. It yields
// ErrCorrupt with a LocatorChange of nothing but the User for each that is damaged, and goes on;
// it ends at any other error, which it yields. Only .system may.
func (d *Directory) CheckLocators(ctx context.Context, by Principal) iter.Seq2[LocatorChange, error] {
	return func(yield func(LocatorChange, error) bool) { d.locatorChanges(ctx, by, false, yield) }
}

// RekeyLocators is CheckLocators, and brings each locator that can be to the present version of its
// rule, in a commit of its own: its canonical form, what it is unique by, and the version. Whoever
// is walked first gets what two would be unique by; the other collides.
//
// It may be ended at any time, and be run again: it then goes on with those that are left. It may
// run while other processes still have an earlier version: a locator that meanwhile is of another
// version, was replaced or removed is left as it is, and one of a later version than this process
// has is never taken back. What a process with an earlier version adds is of that version. So run it
// once more when the last of them has ended.
//
// The feed tells of a locator whose canonical form changed, by EventLocatorsSet.
func (d *Directory) RekeyLocators(ctx context.Context, by Principal) iter.Seq2[LocatorChange, error] {
	return func(yield func(LocatorChange, error) bool) { d.locatorChanges(ctx, by, true, yield) }
}

// locatorChanges yields the changes of all locators, after it made them if apply is set. Those that
// are in the way of each other are tried again at the end: the one may have left its place since.
func (d *Directory) locatorChanges(ctx context.Context, by Principal, apply bool, yield func(LocatorChange, error) bool) {
	c, err := d.enter(ctx, opRekeyLocators, by, noTarget)
	op := "CheckLocators"
	if apply {
		op = "RekeyLocators"
	}
	r := rekeying{d: d, ctx: ctx, c: c, apply: apply, given: map[string]string{}, left: map[string]bool{}}
	for after, more := store.Key(""), true; more && err == nil; {
		var users []store.Record
		if users, more, err = r.page(after); err != nil {
			break
		}
		for _, u := range users {
			after = u.Key
			_, id := record.Parts(u.Key)
			value, bad := record.DecodeStored(u)
			if bad != nil {
				d.met(u.Key)
				if !yield(LocatorChange{User: UserID(id)}, toError(op, newError(ErrCorrupt, "user", "cannot be read"))) {
					return
				}
				continue
			}
			for _, l := range value.(*record.User).Locators {
				if builtIn(l.Type) {
					continue
				}
				change, done, failed := r.one(id, l)
				switch {
				case failed != nil:
					err = failed
				case done && change.Outcome == LocatorCollides:
					r.again = append(r.again, change)
					continue
				case done && !yield(change, nil):
					return
				}
				if err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
	}
	if err == nil {
		err = r.retry(yield)
	}
	if err != nil && err != errStopped {
		yield(LocatorChange{}, toError(op, err))
	}
}

// errStopped says that who ranged over an iterator left.
var errStopped = errors.New("stopped")

// rekeying is a run of locatorChanges.
type rekeying struct {
	d     *Directory
	ctx   context.Context
	c     call
	apply bool
	again []LocatorChange // that collided

	// What would be given and left, by unique form: of a run that changes nothing.
	given map[string]string // to which locator, by its user and its id
	left  map[string]bool
}

// page returns users for the caller, as a page of Users has them.
func (r *rekeying) page(after store.Key) ([]store.Record, bool, error) {
	if err := r.d.usable(); err != nil {
		return nil, false, err
	}
	users, more, err := r.d.listPage(r.ctx, after, pageStep)
	if err != nil {
		return nil, false, err
	}
	_, err = r.d.read(r.ctx, &r.c)
	return users, more, err
}

// retry tries those that collided again until none of them can be helped, and yields them all.
func (r *rekeying) retry(yield func(LocatorChange, error) bool) error {
	for progress := true; progress; {
		progress = false
		for i := 0; i < len(r.again); {
			stored := r.again[i]
			change, done, err := r.one(string(stored.User), recordOf(stored.Locator))
			if err != nil {
				return err
			}
			if done && change.Outcome == LocatorCollides {
				i++
				continue
			}
			change.Locator = stored.Locator
			r.again = slices.Delete(r.again, i, i+1)
			progress = true
			if done && !yield(change, nil) {
				return errStopped
			}
		}
	}
	for _, change := range r.again {
		if !yield(change, nil) {
			return errStopped
		}
	}
	return nil
}

// recordOf returns what of a stored locator one needs.
func recordOf(l Locator) record.Locator {
	return record.Locator{
		ID: string(l.ID), Type: string(l.Type), Raw: l.Raw, Canonical: l.Canonical, Rule: int64(l.RuleVersion),
	}
}

// one judges a locator as it was read, and changes it if that is asked for. It reports whether there
// is anything to tell of it: not of one of the present version, or that is another one by now.
func (r *rekeying) one(user string, l record.Locator) (change LocatorChange, tell bool, err error) {
	change = LocatorChange{User: UserID(user), Locator: locatorOf(&l)}
	rule := r.d.rules.of(l.Type)
	switch {
	case rule == nil:
		change.Outcome = LocatorUnregistered
		return change, true, nil
	case l.Rule == int64(rule.Version):
		return change, false, nil
	case l.Rule > int64(rule.Version):
		change.Outcome = LocatorNewer
		return change, true, nil
	}
	f, err := rule.newForms(l.Raw)
	if err != nil {
		e, _ := errors.AsType[*Error](err)
		change.Outcome, change.Reason = LocatorRefused, e.Reason
		return change, true, nil
	}
	change.Canonical, change.Outcome = f.Canonical, LocatorKept
	if f.Canonical != l.Canonical {
		change.Outcome = LocatorChanged
	}
	if r.apply {
		err = r.rekey(user, l, rule, f)
	} else {
		err = r.try(user, l, rule, f)
	}
	switch {
	case err == errUnchanged || errors.Is(err, ErrNotFound):
		return change, false, nil // it is another one by now, or gone
	case errors.Is(err, ErrTaken):
		change.Outcome = LocatorCollides
		return change, true, nil
	}
	return change, err == nil, err
}

// rekeyed returns a locator in the forms of a rule.
func rekeyed(l record.Locator, rule *LocatorRule, f LocatorForms) record.Locator {
	l.Canonical, l.Unique, l.Rule = f.Canonical, f.Unique, int64(rule.Version)
	return l
}

// rekey rewrites a locator and its keys, in one commit, unless it is another one by now.
func (r *rekeying) rekey(user string, was record.Locator, rule *LocatorRule, f LocatorForms) error {
	c := r.c
	c.target, c.now = UserID(user), r.d.clock.Now()
	unchanged := false
	_, err := r.d.change(r.ctx, &c, nil, func(p *plan, u *record.User) error {
		unchanged = true
		i, err := locatorIn(u, LocatorID(was.ID))
		if err != nil || u.Locators[i].Rule != was.Rule || u.Locators[i].Raw != was.Raw {
			return errUnchanged
		}
		unchanged = false
		old := u.Locators[i]
		l := rekeyed(old, rule, f)
		l.Owned = false
		u.Locators[i] = l
		if err := p.move(u, &old, &u.Locators[i]); err != nil {
			return err
		}
		if l.Canonical != old.Canonical {
			p.emit(EventLocatorsSet, u)
			return nil
		}
		stored, _, err := p.user(c.target)
		if err == nil {
			u.Updated = stored.Updated // for who looks at the user nothing changed
		}
		return err
	})
	if err == nil && unchanged {
		return errUnchanged
	}
	return err
}

// move gives an owned locator other forms. Nothing of it rests: it stays its user's.
func (p *plan) move(u *record.User, old, l *record.Locator) error {
	taken := newError(ErrTaken, "locator", "")
	l.Owned = true
	if l.Canonical != old.Canonical {
		if err := p.requireAbsent(ownerKey(*l), taken); err != nil {
			return err
		}
		p.Drop(ownerKey(*old))
	}
	if found, err := p.takeUnique(u, []record.Locator{*old}, l); err != nil {
		return err
	} else if found != nil {
		return taken
	}
	if old.Unique != "" && (l.Unique == "" || uniqueForm(l) != uniqueForm(old)) {
		p.Drop(record.UniqueKey(uniqueForm(old)))
	}
	if uniqueForm(l) != uniqueForm(old) {
		if err := p.requireAwake(u, l, false, taken); err != nil {
			return err
		}
	}
	p.putOwner(*l, u)
	return nil
}

// try is rekey for a run that changes nothing: it is ErrTaken where another has what the locator
// would be unique by, or would have it by the end.
func (r *rekeying) try(user string, was record.Locator, rule *LocatorRule, f LocatorForms) error {
	entries, err := r.d.read(r.ctx, &r.c, record.UserKey(user))
	if err != nil {
		return err
	}
	u, err := userIn(entries[0])
	if err != nil {
		return err
	}
	i, err := locatorIn(u, LocatorID(was.ID))
	if err != nil || u.Locators[i].Rule != was.Rule || u.Locators[i].Raw != was.Raw {
		return errUnchanged
	}
	old, l := u.Locators[i], rekeyed(u.Locators[i], rule, f)
	if uniqueForm(&l) == uniqueForm(&old) && l.Canonical == old.Canonical && (l.Unique == "") == (old.Unique == "") {
		return nil
	}
	digest := r.d.restDigest(&l)
	forms := []string{"l" + l.Type + ":" + l.Canonical, "m" + uniqueForm(&l)}
	entries, err = r.d.read(r.ctx, &r.c, ownerKey(l), record.UniqueKey(uniqueForm(&l)), record.RestKey(digest))
	if err != nil {
		return err
	}
	me := user + "\x00" + was.ID
	taken := newError(ErrTaken, "locator", "")
	if o, ok := entries[0].Value().(*record.Owner); ok && o.Locator != old.Type+":"+old.Canonical && !r.left[forms[0]] {
		return taken
	}
	if o, ok := entries[1].Value().(*record.Unique); ok && l.Unique != "" && uniqueForm(&l) != uniqueForm(&old) && o.Locator != old.Type+":"+old.Canonical && !r.left[forms[1]] {
		return taken
	}
	if rest, ok := entries[2].Value().(*record.Rest); ok && uniqueForm(&l) != uniqueForm(&old) && r.c.now < rest.Until &&
		(rest.User != u.ID || rest.Incarnation != u.Incarnation) {
		return taken
	}
	if l.Unique == "" {
		forms = forms[:1]
	}
	for _, form := range forms {
		if other, ok := r.given[form]; ok && other != me {
			return taken
		}
	}
	r.left["l"+old.Type+":"+old.Canonical] = true
	if old.Unique != "" {
		r.left["m"+uniqueForm(&old)] = true
	}
	for _, form := range forms {
		r.given[form] = me
		delete(r.left, form)
	}
	return nil
}
