package denizen

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// LocatorChange is what the present rule of its type makes of a locator that another version of the
// rule stored.
type LocatorChange struct {
	User      UserID
	Locator   Locator // as it was stored
	Outcome   LocatorOutcome
	Canonical string // by the present rule; empty if it has none
	Reason    string // why it was refused, for people; empty for other outcomes
}

// LocatorOutcome says what becomes of a locator under the present rule of its type.
type LocatorOutcome string

// The outcomes. RekeyLocators brings those of LocatorKept and LocatorChanged to the present
// version. The others stay as they are stored, and keep their owners, until somebody changes them.
const (
	// LocatorKept says that its canonical form is the same. Its unique form may have changed.
	LocatorKept LocatorOutcome = "kept"
	// LocatorChanged says that its canonical form changed. Look-ups find it only by the new one.
	LocatorChanged LocatorOutcome = "changed"
	// LocatorCollides says that a form of it belongs to another locator, or rests for somebody
	// else.
	LocatorCollides LocatorOutcome = "collides"
	// LocatorRefused says that the present rule refuses it.
	LocatorRefused LocatorOutcome = "refused"
	// LocatorNewer says that another process stored it by a later version of the rule.
	LocatorNewer LocatorOutcome = "newer"
	// LocatorUnregistered says that its type is not registered.
	LocatorUnregistered LocatorOutcome = "unregistered"
)

// CheckLocators goes through the locators of all users, and yields what [Directory.RekeyLocators]
// would do to each now. It changes nothing. It passes over e-mail addresses, telephone numbers, and
// locators that the present version of their rule stored.
//
// For each user who is damaged it yields [ErrCorrupt] and a LocatorChange with only User set, and
// goes on. It yields any other error and ends.
//
// It uses some 200 bytes of memory for each locator that it yields, to find those that would
// collide with each other. Only .system may.
func (d *Directory) CheckLocators(
	ctx context.Context, by Principal,
) iter.Seq2[LocatorChange, error] {
	return func(yield func(LocatorChange, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "CheckLocators", &by).end(&err)
		err = d.locatorChanges(ctx, by, false, yield)
	}
}

// RekeyLocators brings locators to the present version of their rules, and yields what
// [Directory.CheckLocators] does. It changes each locator in a commit of its own: its canonical
// form, its unique form and its version. If two would get the same form, the first that it meets
// gets it and the other collides.
//
// It may be stopped at any time. Run again, it goes on with those that are left.
//
// It may run while other processes have an earlier version of a rule. It leaves a locator that was
// replaced, removed or brought to another version meanwhile, and one of a later version than its
// own. Run it once more when the last process with an earlier version has ended, because what they
// add is of that version.
//
// The feed has an [EventLocatorsSet] for each locator whose canonical form changed. Only .system
// may.
func (d *Directory) RekeyLocators(
	ctx context.Context, by Principal,
) iter.Seq2[LocatorChange, error] {
	return func(yield func(LocatorChange, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "RekeyLocators", &by).end(&err)
		err = d.locatorChanges(ctx, by, true, yield)
	}
}

// locatorChanges yields the changes of all locators. If apply is set it makes each before it yields
// it. It tries those that collide again at the end, because what was in their way may be gone then.
// It yields the error that it returns.
func (d *Directory) locatorChanges(
	ctx context.Context, by Principal, apply bool, yield func(LocatorChange, error) bool,
) error {
	c, err := d.enter(ctx, opRekeyLocators, by, noTarget)
	op := "CheckLocators"
	if apply {
		op = "RekeyLocators"
	}
	r := rekeying{
		d: d, ctx: ctx, c: c, apply: apply, given: map[string]string{}, left: map[string]bool{},
	}
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
				damaged := toError(op, newError(ErrCorrupt, "user", "cannot be read"))
				if !yield(LocatorChange{User: UserID(id)}, damaged) {
					return nil
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
					return nil
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
	if err == nil || err == errStopped {
		return nil
	}
	err = toError(op, err)
	yield(LocatorChange{}, err)
	return err
}

// errStopped says that yield returned false.
var errStopped = errors.New("stopped")

// rekeying is one run of locatorChanges.
type rekeying struct {
	d     *Directory
	ctx   context.Context
	c     call
	apply bool
	again []LocatorChange // those that collided

	// A run that changes nothing notes here which forms would change hands. The keys are "l" and
	// the canonical form, or "m" and the unique form, with the type.
	given map[string]string // the locator that would get the form, as its user and its id
	left  map[string]bool   // forms that their locators would give up
}

// page returns the users after one of them, and reports whether there are more. It checks the
// caller after the data was read, like Users.
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

// retry tries those that collided until no more of them can be changed, and yields each.
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

// recordOf returns what the method one needs of a stored locator.
func recordOf(l Locator) record.Locator {
	return record.Locator{
		ID: string(l.ID), Type: string(l.Type), Raw: l.Raw, Canonical: l.Canonical,
		Rule: int64(l.RuleVersion),
	}
}

// one decides what becomes of a locator as it was read, and changes it if apply is set. Tell
// reports whether the change is to be yielded. It is false if the locator is of the present
// version, or has changed since it was read.
func (r *rekeying) one(
	user string, l record.Locator,
) (change LocatorChange, tell bool, err error) {
	change = LocatorChange{User: UserID(user), Locator: r.c.locatorOf(&l)}
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
		return change, false, nil // it has changed since, or is gone
	case errors.Is(err, ErrTaken):
		change.Outcome = LocatorCollides
		return change, true, nil
	}
	return change, err == nil, err
}

// rekeyed returns a locator with other forms, and the version of the rule that made them.
func rekeyed(l record.Locator, rule *LocatorRule, f LocatorForms) record.Locator {
	l.Canonical, l.Unique, l.Rule = f.Canonical, f.Unique, int64(rule.Version)
	return l
}

// rekey rewrites a locator and its keys in one commit. If the locator has changed since it was read
// it returns errUnchanged.
func (r *rekeying) rekey(
	user string, was record.Locator, rule *LocatorRule, f LocatorForms,
) error {
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
			u.Updated = stored.Updated // nothing that callers see has changed
		}
		return err
	})
	if err == nil && unchanged {
		return errUnchanged
	}
	return err
}

// move gives an owned locator other forms. Its old forms do not rest, because its user still owns
// it.
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

// try is rekey for a run that changes nothing. It returns ErrTaken if a form belongs to another
// locator, or would by then, and otherwise notes what would change hands.
func (r *rekeying) try(
	user string, was record.Locator, rule *LocatorRule, f LocatorForms,
) error {
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
	if uniqueForm(&l) == uniqueForm(&old) && l.Canonical == old.Canonical &&
		(l.Unique == "") == (old.Unique == "") {
		return nil
	}
	digest := r.d.restDigest(&l)
	forms := []string{"l" + l.Type + ":" + l.Canonical, "m" + uniqueForm(&l)}
	entries, err = r.d.read(
		r.ctx, &r.c, ownerKey(l), record.UniqueKey(uniqueForm(&l)), record.RestKey(digest),
	)
	if err != nil {
		return err
	}
	me := user + "\x00" + was.ID
	taken := newError(ErrTaken, "locator", "")
	if o, ok := entries[0].Value().(*record.Owner); ok && o.Locator != old.Type+":"+old.Canonical &&
		!r.left[forms[0]] {
		return taken
	}
	if o, ok := entries[1].Value().(*record.Unique); ok && l.Unique != "" &&
		uniqueForm(&l) != uniqueForm(&old) && o.Locator != old.Type+":"+old.Canonical &&
		!r.left[forms[1]] {
		return taken
	}
	if rest, ok := entries[2].Value().(*record.Rest); ok && uniqueForm(&l) != uniqueForm(&old) &&
		r.c.now < rest.Until && (rest.User != u.ID || rest.Incarnation != u.Incarnation) {
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
