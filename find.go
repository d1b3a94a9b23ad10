package denizen

import (
	"context"
	"slices"
	"strings"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// ResolveUser answers the id that a reference names: an id itself, not looked up; "me" for the
// acting user; or a serialized locator, such as "email:alice@example.org". A locator names
// anyone for .system, ErrNotFound if nobody owns it. For a user it names itself if its own
// record owns it, and otherwise another user, who is never looked up: ErrDenied.
func (d *Directory) ResolveUser(ctx context.Context, by Principal, ref string) (id UserID, err error) {
	defer wrapOp("ResolveUser", &err)
	c, err := d.enter(ctx, opResolveUser, by, by.user)
	if err != nil {
		return "", err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return "", err
	}
	if ref == "me" {
		if c.role != self {
			return "", newError(ErrDenied, "user", "only a user is me")
		}
		return by.user, nil
	}
	if !strings.Contains(ref, ":") {
		if reason := checkUserID(ref); reason != "" {
			return "", invalid("user", reason)
		}
		return UserID(ref), nil
	}
	locator, err := canonical(ref)
	if err != nil {
		return "", err
	}
	if c.role == self {
		entries, err := d.read(ctx, &c, record.UserKey(string(by.user)))
		if err != nil {
			return "", err
		}
		if r, ok := entries[0].Value().(*record.User); ok && r.Owns(locator) {
			return by.user, nil
		}
		return "", newError(ErrDenied, "", "")
	}
	owners, err := d.owners(ctx, &c, []string{locator})
	if err != nil {
		return "", err
	}
	if len(owners) == 0 {
		return "", newError(ErrNotFound, "locator", "")
	}
	return UserID(owners[0].Value().(*record.User).ID), nil
}

// UsersByLocator answers the users who own these serialized locators, at most MaxList, each
// user once and in the order of the locators; a locator nobody owns is left out. Pending
// claims are never found. For .system only.
func (d *Directory) UsersByLocator(ctx context.Context, by Principal, locators []string) (users []User, err error) {
	defer wrapOp("UsersByLocator", &err)
	c, err := d.enter(ctx, opFindUsers, by, noTarget)
	if err != nil {
		return nil, err
	}
	if len(locators) > MaxList {
		return nil, invalid("locators", "must be 100 at most")
	}
	var few [4]*txn.Entry
	owners := d.cachedOwners(few[:0], locators)
	if owners == nil || !d.checkCallerCached(&c, nil) || d.usable() != nil {
		wanted := make([]string, len(locators))
		for i, l := range locators {
			if wanted[i], err = canonical(l); err != nil {
				return nil, err
			}
		}
		if owners, err = d.owners(ctx, &c, wanted); err != nil {
			return nil, err
		}
	}
	users = make([]User, 0, len(owners))
	for _, m := range owners {
		r := m.Value().(*record.User)
		if !slices.ContainsFunc(users, func(o User) bool { return string(o.ID) == r.ID }) {
			users = users[:len(users)+1]
			users[len(users)-1].fill(r, m.Version())
		}
	}
	return users, nil
}

// owners returns the users who own canonical serialized locators, in their order and
// without those that nobody owns. A user that was read must still own the locator: between
// the two reads it may have gone to another.
func (d *Directory) owners(ctx context.Context, c *call, locators []string) ([]*txn.Entry, error) {
	keys := make([]store.Key, len(locators))
	for i, l := range locators {
		keys[i] = record.OwnerKey(l)
	}
	found, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	var owned []string
	keys = keys[:0]
	for i, m := range found {
		if o, ok := m.Value().(*record.Owner); ok {
			owned, keys = append(owned, locators[i]), append(keys, record.UserKey(o.User))
		}
	}
	users, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	owners := users[:0]
	for i, m := range users {
		if r, ok := m.Value().(*record.User); ok && r.Owns(owned[i]) {
			owners = append(owners, m)
		}
	}
	return owners, nil
}

// cachedOwners appends the users who own the locators where all of them are remembered, and returns
// nil otherwise. What is remembered to be owned is in canonical form.
func (d *Directory) cachedOwners(owners []*txn.Entry, locators []string) []*txn.Entry {
	for _, l := range locators {
		o := d.records.PeekOwner(l)
		if o == nil {
			return nil
		}
		u := d.records.UserOf(o)
		if u == nil {
			return nil
		}
		owners = append(owners, u)
	}
	return owners
}
