package denizen

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
)

// A locator that was given up may rest. For a time nobody is found by it, and only its last owner
// may take it: a name by asking, an address or a number by proving it. The store holds a digest of
// it, under a key of the directory, so that its record does not show which locator rests. Every
// write that takes a locator makes the absence of that record a condition.

// maxResting is how many resting locators a user may have before it gives up one more by itself.
// Without a bound one user could keep any number of names from all others, by taking and leaving
// them.
const maxResting = 4

// maxListed is how many resting locators the record of a user lists at most.
const maxListed = 32

// restingKey derives the key of the digests of resting locators.
func restingKey(cursorKey []byte) []byte {
	h := hmac.New(sha256.New, cursorKey)
	h.Write([]byte("resting locators"))
	return h.Sum(nil)
}

// restDigest returns the digest under which a locator rests. Locators with the same unique form
// share it.
func (d *Directory) restDigest(l *record.Locator) (digest [32]byte) {
	h := hmac.New(sha256.New, d.restingKey)
	h.Write([]byte(uniqueForm(l)))
	return [32]byte(h.Sum(nil))
}

// uniqueForm returns what no two owned locators share: the type and the unique form, which is the
// canonical form if there is no other.
func uniqueForm(l *record.Locator) string {
	if l.Unique == "" {
		return l.Type + ":" + l.Canonical
	}
	return l.Type + ":" + l.Unique
}

// restOf returns for how long a locator of a type rests.
func (d *Directory) restOf(kind string) time.Duration {
	if builtIn(kind) {
		return d.options.Quarantine
	}
	if rule := d.rules.of(kind); rule != nil {
		return rule.Rest
	}
	return 0
}

// requireAwake makes it a condition that a locator does not rest, or returns taken. If it rests,
// but r was its last owner and may have it back, or override is set, it ends the rest instead. An
// address or a number comes back only if it is proved.
func (p *plan) requireAwake(r *record.User, l *record.Locator, override bool, taken error) error {
	digest := p.d.restDigest(l)
	key, name := record.RestKey(digest), hex.EncodeToString(digest[:])
	mine := slices.IndexFunc(r.Resting, func(rest record.Resting) bool { return rest.Digest == name })
	if mine < 0 && !p.Retrying() && !p.foreseen.mustRead(key) {
		p.Absent(key) // without a read: until there is a conflict the commit finds out
		return nil
	}
	entries, err := p.read(key)
	if err != nil {
		return err
	}
	if rest, ok := entries[0].Value().(*record.Rest); ok {
		last := rest.User == r.ID && rest.Incarnation == r.Incarnation &&
			(p.proved || !builtIn(l.Type))
		if !last && !override && p.c.now < rest.Until {
			return taken
		}
		p.Drop(key)
	}
	if mine >= 0 {
		r.Resting = slices.Delete(slices.Clone(r.Resting), mine, mine+1)
	}
	return nil
}

// free gives up a locator that r owned. It must be gone from r.Locators already.
func (p *plan) free(r *record.User, l *record.Locator) error {
	return p.release(r, l, p.d.restOf(l.Type), false)
}

// release is free for a locator that rests for a time. If it is reserved, r may undo that its user
// gave it up.
func (p *plan) release(r *record.User, l *record.Locator, rest time.Duration, reserved bool) error {
	p.Drop(ownerKey(*l))
	unique := uniqueForm(l)
	for i := range r.Locators {
		if other := &r.Locators[i]; other.Owned && uniqueForm(other) == unique {
			return nil // the user keeps the form, by another spelling
		}
	}
	if l.Unique != "" {
		p.Drop(record.UniqueKey(unique))
	}
	if rest == 0 {
		return nil
	}
	digest := p.d.restDigest(l)
	rests := record.Rest{
		Digest: hex.EncodeToString(digest[:]), Until: p.c.now + rest.Milliseconds(), Reserved: reserved,
	}
	listed, err := p.listResting(r, &rests, builtIn(l.Type))
	if err != nil {
		return err
	}
	if listed {
		rests.User, rests.Incarnation = r.ID, r.Incarnation
	}
	p.Put(record.RestKey(digest), &rests)
	p.d.background.start() // it sweeps what has rested
	return nil
}

// listResting notes in r that a locator rests that its user gave up, and reports whether it did.
// Whatever names a user is listed in its record. Who may not have the locator back is not named.
//
// How fast a user gives up addresses and numbers is bounded by maxChanges, as each was proved.
func (p *plan) listResting(r *record.User, rests *record.Rest, address bool) (bool, error) {
	over := func(rest record.Resting) bool { return rest.Until <= p.c.now }
	r.Resting = slices.DeleteFunc(slices.Clone(r.Resting), over)
	names := slices.DeleteFunc(slices.Clone(r.Resting), func(rest record.Resting) bool {
		return rest.Address
	})
	full, oldest := len(r.Resting) >= maxListed, r.Resting
	if !address && len(names) >= maxResting {
		full, oldest = true, names
	}
	switch {
	case p.leaves, full && p.c.role != self:
		return false, nil
	case full: // nothing that is not listed could be given back
		return false, &Error{
			Kind: ErrLimited, Field: "locators",
			Reason:     "that this user gave up and that rest are as many as may be",
			RetryAfter: time.Duration(oldest[0].Until-p.c.now) * time.Millisecond,
		}
	}
	r.Resting = append(r.Resting, record.Resting{
		Digest: rests.Digest, Until: rests.Until, Address: address,
	})
	slices.SortStableFunc(r.Resting, func(a, b record.Resting) int {
		return int(min(max(a.Until-b.Until, -1), 1))
	})
	return true, nil
}
