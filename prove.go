package denizen

import (
	"context"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// ProveLocator returns the user of somebody who just proved, by a code or a link, that they receive
// what is sent to a locator such as "email:alice@example.org". Call it before
// [Directory.IssueToken]. Package signin makes the codes, sends them, and does this in the commit
// that uses a code up: call ProveLocator if the proof was made elsewhere.
//
// Afterwards the locator is [Verified], and that user owns it:
//
//   - If nobody owned it, newcomer is created. The locator comes before those of newcomer.
//   - If its owner had it Verified, that is the user, and nothing changes. With
//     Options.VerifiedFor its VerifiedAt becomes now, unless it is Stale: then it stays so, and
//     the caller decides whether somebody else may have the address or the number by now.
//   - If its owner had it unverified and another locator Verified, that owner is somebody else,
//     who never proved this one. The locator is taken from that user, and newcomer is created
//     with it. The event is [EventUserCreated], with that owner as Other.
//   - If its owner had it unverified and no other Verified, nobody has proved to be that user
//     before, and the user passes to whoever has done so now. Its tokens, pending claims, proofs
//     and presence end, because somebody else may have set them, and nothing that was changed
//     before can be undone. So do its locators of a Vouched type end: none of them was Verified.
//     Other names stay, and so does the profile.
//
// If the locator rests it is [ErrTaken] with Field "locator": nobody signs in by it, and nobody is
// created with it. See Options.Quarantine and [Directory.RemoveLocator]. Tell only who signs in
// that it did not work, as with a wrong code.
//
// All of it is one commit. Only e-mail addresses and telephone numbers can be proved. A locator of
// another type is [ErrInvalid]. The Idempotency of newcomer is ignored: a second call finds the
// user.
//
// Pending claims of other users on the locator stay. A blocked user is returned blocked, and
// IssueToken refuses it. As after [Directory.RevokeTokens], a Principal made before the user passed
// is not refused for it. Only .system may.
func (d *Directory) ProveLocator(
	ctx context.Context, by Principal, locator string, newcomer NewUser,
) (u User, err error) {
	defer d.trace(&ctx, "ProveLocator", &by).end(&err)
	c, err := d.enter(ctx, opProve, by, noTarget)
	if err != nil {
		return User{}, err
	}
	key, err := canonical(locator)
	if err != nil {
		return User{}, err
	}
	c.contended = record.OwnerKey(key)
	var proved *proven
	seq, err := d.write(ctx, &c, func(p *plan) (err error) {
		if proved, err = p.prove(key, locator, &newcomer); err == nil && proved.version != 0 {
			return errUnchanged
		}
		return err
	})
	if err = unchanged(err); err != nil {
		return User{}, err
	}
	return proved.at(&c, seq), nil
}

// proven is the user of somebody who proved a locator.
type proven struct {
	user    *record.User
	version store.Seq // 0 if the write changes the user
}

// at returns the user as it is after the commit.
func (u *proven) at(c *call, seq store.Seq) User {
	if u.version != 0 {
		seq = u.version
	}
	return userOf(c, u.user, seq)
}

// prove plans what [Directory.ProveLocator] describes. Key is the canonical form of locator. If
// nobody owns it and newcomer is nil, it returns nil and plans nothing.
func (p *plan) prove(key, locator string, newcomer *NewUser) (*proven, error) {
	r, version, err := p.owner(key)
	if err != nil {
		return nil, err
	}
	if r == nil && newcomer == nil {
		return nil, nil
	}
	if r == nil {
		return p.createProven(locator, newcomer, false)
	}
	i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return l.Owned && l.Is(key) })
	edited := *r
	edited.Locators = slices.Clone(r.Locators)
	edited.Updated = p.c.now
	if l := &edited.Locators[i]; l.Status == string(Verified) {
		if p.d.options.VerifiedFor == 0 || l.Verified < p.c.stale {
			return &proven{r, version}, nil
		}
		l.Verified = p.c.now
		p.emit(EventLocatorVerification, &edited, l.ID)
		p.Put(record.UserKey(edited.ID), &edited)
		return &proven{user: &edited}, nil
	}
	// The decision rests on the status of all locators of the user, which are in one record.
	verified := func(l record.Locator) bool { return l.Owned && l.Status == string(Verified) }
	if !slices.ContainsFunc(r.Locators, verified) {
		return &proven{user: &edited}, p.pass(&edited, i)
	}
	if newcomer == nil {
		return nil, nil
	}
	edited.Locators = slices.Delete(edited.Locators, i, i+1)
	u, err := p.createProven(locator, newcomer, true)
	if err != nil {
		return nil, err
	}
	p.Put(record.UserKey(edited.ID), &edited)
	p.event.Other, p.event.Subjects = edited.ID, []string{r.Locators[i].ID}
	return u, nil
}

// owner returns who owns a locator, given as type:canonical, or nil.
func (p *plan) owner(key string) (*record.User, store.Seq, error) {
	entries, err := p.read(record.OwnerKey(key))
	if err != nil {
		return nil, 0, err
	}
	o, ok := entries[0].Value().(*record.Owner)
	if !ok {
		return nil, 0, nil
	}
	if entries, err = p.read(record.UserKey(o.User)); err != nil {
		return nil, 0, err
	}
	r, ok := entries[0].Value().(*record.User)
	if !ok || r.Incarnation != o.Incarnation || !r.Owns(key) {
		return nil, 0, nil // the key is left over: see ownerIsCurrent
	}
	return r, entries[0].Version(), nil
}

// createProven plans the creation of newcomer with a locator that it has proved. If leaves is set
// the locator leaves its present owner in the same commit.
func (p *plan) createProven(locator string, newcomer *NewUser, leaves bool) (*proven, error) {
	n := *newcomer
	proved := NewLocator{Locator: locator, Status: Verified}
	n.Locators = slices.Concat([]NewLocator{proved}, newcomer.Locators)
	r, err := p.d.newCreation(n, p.c.now, false)
	if err != nil {
		return nil, err
	}
	if leaves {
		// It is not free, so create must not look.
		r.claims = make([]bool, len(n.Locators))
		r.claims[0], r.user.Locators[0].Owned = true, true
	}
	met, err := p.create(r, false)
	if err != nil {
		return nil, err
	}
	if err := met.refusal(p.c, r); err != nil {
		return nil, err
	}
	if leaves {
		p.putOwner(r.user.Locators[0], &r.user)
	}
	return &proven{user: &r.user}, nil
}

// pass plans that a user passes to whoever has proved its locator i. Whoever wrote down the others
// may have meant an account of their own: nobody signed in by them.
func (p *plan) pass(r *record.User, i int) error {
	l := &r.Locators[i]
	setStatus(l, Verified, p.c.now)
	p.emit(EventUserPassed, r, l.ID)
	var unproved []record.Locator
	r.Locators = slices.DeleteFunc(r.Locators, func(l record.Locator) bool {
		leaves := l.Owned && !builtIn(l.Type) && l.Status != string(VerificationNotApplicable)
		if leaves {
			unproved = append(unproved, l)
		}
		return leaves || !l.Owned
	})
	for i := range unproved {
		if err := p.free(r, &unproved[i]); err != nil {
			return err
		}
	}
	p.Drop(record.ActiveKey(r.ID))
	devices, err := p.devicesOf(r)
	if err != nil {
		return err
	}
	p.putDevices(devices, &record.Devices{User: r.ID}) // whether it hides is not the next one's
	// Else who had it before would take it back with a link that was sent to them.
	p.Drop(undoKeys(r.Changes...)...)
	r.Changes = nil
	if err := p.dropProofs(r.ID); err != nil {
		return err
	}
	if err := p.dropTokens(r); err != nil {
		return err
	}
	p.Put(record.UserKey(r.ID), r)
	return nil
}
