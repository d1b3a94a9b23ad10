package denizen

import (
	"context"
	"slices"
	"strings"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// ResolveUser returns the id that a reference names:
//
//   - An id names itself, whether or not there is such a user. Only where it is an alias and the
//     caller is .system, it names the user that it leads to: see [MergePolicy].
//   - "me" names the acting user.
//   - A serialized locator, such as "email:alice@example.org", names its owner for .system, and
//     is [ErrNotFound] if it has none. For a user it names that user if its own record owns the
//     locator. Any other is [ErrDenied] and never looked up.
func (d *Directory) ResolveUser(
	ctx context.Context, by Principal, ref string,
) (id UserID, err error) {
	defer d.trace(&ctx, "ResolveUser", &by).end(&err)
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
		if c.role == system {
			return d.followAlias(ctx, &c, UserID(ref))
		}
		return UserID(ref), nil
	}
	locator, err := d.canonical(ref)
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
	if owners[0] == nil {
		return "", newError(ErrNotFound, "locator", "")
	}
	return UserID(owners[0].Value().(*record.User).ID), nil
}

// UsersByLocator returns the users who own the given serialized locators, at most [MaxList]. Each
// user is returned once, in the order of the locators. A locator that nobody owns is left out.
// Pending claims are never found. Only .system may.
func (d *Directory) UsersByLocator(
	ctx context.Context, by Principal, locators []string,
) (users []User, err error) {
	defer d.trace(&ctx, "UsersByLocator", &by).end(&err)
	c, err := d.enter(ctx, opFindUsers, by, noTarget)
	if err != nil {
		return nil, err
	}
	if len(locators) > MaxList {
		return nil, tooManyToFind()
	}
	var few [4]*txn.Entry
	owners := d.cachedOwners(few[:0], locators)
	if owners == nil || !d.checkCallerCached(&c, nil) || d.usable() != nil {
		if owners, err = d.find(ctx, &c, locators); err != nil {
			return nil, err
		}
	}
	users = make([]User, 0, len(owners))
	for _, m := range owners {
		if m == nil {
			continue
		}
		r := m.Value().(*record.User)
		if !slices.ContainsFunc(users, func(o User) bool { return string(o.ID) == r.ID }) {
			users = users[:len(users)+1]
			users[len(users)-1].fill(&c, r, m.Version())
		}
	}
	return users, nil
}

// Locate returns who owns each of the given serialized locators, at most [MaxList]. The ids are in
// the order of the locators, and "" stands for nobody. So a user who owns several is in it several
// times. [Directory.UsersByLocator] returns each user once.
//
// Pending claims are never found, nor is the last owner of a locator that rests. Only .system may.
func (d *Directory) Locate(
	ctx context.Context, by Principal, locators ...string,
) (ids []UserID, err error) {
	defer d.trace(&ctx, "Locate", &by).end(&err)
	c, err := d.enter(ctx, opFindUsers, by, noTarget)
	if err != nil {
		return nil, err
	}
	if len(locators) > MaxList {
		return nil, tooManyToFind()
	}
	owners, err := d.find(ctx, &c, locators)
	if err != nil {
		return nil, err
	}
	ids = make([]UserID, len(owners))
	for i, m := range owners {
		if m != nil {
			ids[i] = UserID(m.Value().(*record.User).ID)
		}
	}
	return ids, nil
}

func tooManyToFind() error { return invalid("locators", "must be 100 at most") }

// find returns the users who own serialized locators, in their order. Nil stands for nobody.
func (d *Directory) find(
	ctx context.Context, c *call, locators []string,
) (owners []*txn.Entry, err error) {
	wanted := make([]string, len(locators))
	for i, l := range locators {
		if wanted[i], err = d.canonical(l); err != nil {
			return nil, err
		}
	}
	return d.owners(ctx, c, wanted)
}

// owners returns the users who own canonical serialized locators, in their order. Nil stands for
// nobody. It checks that each user still owns the locator: between the two reads it may have passed
// to another.
func (d *Directory) owners(ctx context.Context, c *call, locators []string) ([]*txn.Entry, error) {
	keys := make([]store.Key, len(locators))
	for i, l := range locators {
		keys[i] = record.OwnerKey(l)
	}
	found, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	var owned []int // their indexes in locators
	keys = keys[:0]
	for i, m := range found {
		if o, ok := m.Value().(*record.Owner); ok {
			owned, keys = append(owned, i), append(keys, record.UserKey(o.User))
		}
	}
	owners := found
	clear(owners)
	users, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	for i, m := range users {
		if r, ok := m.Value().(*record.User); ok && r.Owns(locators[owned[i]]) {
			owners[owned[i]] = m
		}
	}
	return owners, nil
}

// cachedOwners appends the users who own the locators if the cache knows all of them, and returns
// nil otherwise. The cache has canonical forms only.
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
