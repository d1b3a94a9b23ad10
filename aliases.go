package denizen

import (
	"context"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// An alias is the id of a user who was merged into another, and leads to that one. It has a key of
// its own, which is absent wherever a user has the id: creating one is conditioned on that. The
// user that it leads to names it, so that whatever ends that user ends the alias.

// over reports whether something that ends at until has ended; 0 stands for never.
func over(until, now int64) bool { return until != 0 && until <= now }

// names reports whether a user's record says that an alias leads to it.
func names(r *record.User, a *record.Alias, now int64) bool {
	if r.Incarnation != a.Incarnation || over(a.Until, now) {
		return false
	}
	for _, ref := range r.Aliases {
		if ref.ID == a.ID {
			return true
		}
	}
	return false
}

// followAlias returns the user that an id leads to, or the id itself.
func (d *Directory) followAlias(ctx context.Context, c *call, id UserID) (UserID, error) {
	entries, err := d.read(ctx, c, record.AliasKey(string(id)))
	if err != nil {
		return "", err
	}
	a, ok := entries[0].Value().(*record.Alias)
	if !ok {
		return id, nil
	}
	entries, err = d.read(ctx, c, record.UserKey(a.User))
	if err != nil {
		return "", err
	}
	if r, ok := entries[0].Value().(*record.User); ok && names(r, a, c.now) {
		return UserID(r.ID), nil
	}
	return id, nil
}

// leads reports whether an alias leads to a user. If it does not, it is left over: its time is
// over, or its user was deleted while the user's record was damaged.
func (p *plan) leads(a *record.Alias) (bool, error) {
	entries, err := p.readAny(record.UserKey(a.User))
	if err != nil || entries[0].Damaged() {
		return !over(a.Until, p.c.now), err
	}
	r, ok := entries[0].Value().(*record.User)
	return ok && names(r, a, p.c.now), nil
}

// aliases returns the aliases that lead to a user by both records, and makes that conditions. What
// the user names may be another's by now if its time is over.
func (p *plan) aliases(r *record.User) ([]record.AliasRef, error) {
	if len(r.Aliases) == 0 {
		return nil, nil
	}
	keys := make([]store.Key, len(r.Aliases))
	for i, ref := range r.Aliases {
		keys[i] = record.AliasKey(ref.ID)
	}
	entries, err := p.readAny(keys...)
	if err != nil {
		return nil, err
	}
	var lead []record.AliasRef
	for i, e := range entries {
		a, ok := e.Value().(*record.Alias)
		if e.Damaged() || ok && a.User == r.ID && a.Incarnation == r.Incarnation {
			lead = append(lead, r.Aliases[i])
		}
	}
	return lead, nil
}

// dropAliases ends the aliases of a user who is to be deleted, and returns them.
func (p *plan) dropAliases(r *record.User) ([]record.AliasRef, error) {
	lead, err := p.aliases(r)
	for _, ref := range lead {
		p.Drop(record.AliasKey(ref.ID))
	}
	return lead, err
}

// mergeAliases makes the aliases of from lead to into, and its id as well, for the given time.
// Those whose time is over end.
func (p *plan) mergeAliases(into, from *record.User, lasts time.Duration) error {
	kept, err := p.aliases(into)
	if err != nil {
		return err
	}
	added, err := p.aliases(from)
	if err != nil {
		return err
	}
	if lasts != 0 {
		ref := record.AliasRef{ID: from.ID, Was: from.Incarnation}
		if lasts != Forever {
			ref.Until = p.c.now + lasts.Milliseconds()
		}
		added = append(added, ref)
	}
	into.Aliases = nil
	for i, ref := range append(kept, added...) {
		if over(ref.Until, p.c.now) {
			p.Drop(record.AliasKey(ref.ID))
			continue
		}
		into.Aliases = append(into.Aliases, ref)
		if i >= len(kept) {
			p.Put(record.AliasKey(ref.ID), &record.Alias{
				ID: ref.ID, User: into.ID, Incarnation: into.Incarnation, Until: ref.Until, Was: ref.Was,
			})
		}
	}
	if len(into.Aliases) > MaxAliases {
		return newError(ErrLimited, "aliases", "that lead to a user must be 16 at most")
	}
	return nil
}
