package denizen

import (
	"context"
	"errors"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
)

// ProveLocator returns the user of somebody who just proved, by a code or a link, that they receive
// what is sent to a locator such as "email:alice@example.org". Call it before
// [Directory.IssueToken]. Afterwards the locator is [Verified], and that user owns it:
//
//   - Nobody owns it: newcomer is created, with the locator before its own ones.
//   - Its owner has it Verified: that user is returned, and nothing changes.
//   - Its owner has it unverified, and another locator Verified: somebody else proved to be that
//     user, who only had this locator written down. It leaves that user, and newcomer is
//     created with it. The two are a commit each; after the first one alone nobody owns it.
//   - Its owner has it unverified and no other Verified: nobody proved to be that user yet,
//     and it passes to who did so now. All its tokens, pending claims and presence end in the
//     commit that verifies the locator, because somebody else may have them, and so do its
//     locators of a Vouched type, none of which was Verified. Names stay.
//
// Only e-mail addresses and telephone numbers can be proved; one of another type is ErrInvalid.
// Pending claims on the locator are not looked at, and stay. A blocked user is returned as it
// is, blocked; IssueToken refuses it. A Principal made before the user passed outlives its
// token, as after RevokeTokens. Only .system may.
func (d *Directory) ProveLocator(ctx context.Context, by Principal, locator string, newcomer NewUser) (u User, err error) {
	defer wrapOp("ProveLocator", &err)
	c, err := d.enter(ctx, opProve, by, noTarget)
	if err != nil {
		return User{}, err
	}
	key, err := canonical(locator)
	if err != nil {
		return User{}, err
	}
	proved := NewLocator{Locator: locator, Status: Verified}
	newcomer.Locators = slices.Concat([]NewLocator{proved}, newcomer.Locators)
	for range maxTries {
		owners, err := d.owners(ctx, &c, []string{key})
		if err != nil {
			return User{}, err
		}
		if owners[0] == nil {
			u, err = d.CreateUser(ctx, by, newcomer)
			e, ok := errors.AsType[*Error](err)
			taken := ok && e.Kind == ErrTaken && e.Field == "locator"
			if taken && d.owned(ctx, &c, key) {
				continue // perhaps the same person on another device was first
			}
			return u, err
		}
		of := c.about(UserID(owners[0].Value().(*record.User).ID))
		of.now = d.clock.Now()
		u, err = d.prove(ctx, &of, key)
		if err != errNotOwner && !errors.Is(err, ErrNotFound) {
			return u, err
		}
	}
	return User{}, newError(ErrConflict, "locator", "others kept changing who owns it")
}

// errNotOwner says that a user does not own a locator, or no longer.
var errNotOwner = errors.New("does not own the locator")

// prove makes a locator of the target Verified, or takes it from the target and returns
// errNotOwner. It decides on the status of all locators of the user, which are in one record.
func (d *Directory) prove(ctx context.Context, c *call, key string) (User, error) {
	var left bool
	u, err := d.change(ctx, c, nil, func(p *plan, r *record.User) error {
		left = false
		i := slices.IndexFunc(r.Locators, func(l record.Locator) bool {
			return l.Owned && l.Is(key)
		})
		if i < 0 {
			return errNotOwner
		}
		l := &r.Locators[i]
		if l.Status == string(Verified) {
			return errUnchanged
		}
		verified := func(l record.Locator) bool { return l.Owned && l.Status == string(Verified) }
		if slices.ContainsFunc(r.Locators, verified) {
			left = true
			p.emit(EventLocatorRemoved, r, l.ID)
			gone := *l
			r.Locators = slices.Delete(r.Locators, i, i+1)
			return p.free(r, &gone)
		}
		setStatus(l, Verified, c.now)
		p.emit(EventUserPassed, r, l.ID)
		var unproved []record.Locator // nobody signed in by them yet, and nobody else's account may be behind them
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
		p.Drop(record.DevicesKey(r.ID))
		return p.dropTokens(r)
	})
	if err == nil && left {
		return User{}, errNotOwner
	}
	return u, err
}

// owned reports whether it is known that somebody owns a locator.
func (d *Directory) owned(ctx context.Context, c *call, key string) bool {
	owners, err := d.owners(ctx, c, []string{key})
	return err == nil && owners[0] != nil
}
