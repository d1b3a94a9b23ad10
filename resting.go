package denizen

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// A locator that was given up may rest. For a time nobody is found by it, and only its last owner
// may take it. The store holds a digest of it, under a key of the directory, so that its record
// does not show which name rests. Every write that takes a locator of a registered type makes the
// absence of that record a condition.

// maxResting is how many resting locators a user may have before it gives up one more by itself.
// Without a bound one user could keep any number of names from all others, by taking and leaving
// them.
const maxResting = 4

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

// requireAwake makes it a condition that a locator does not rest, or returns taken. If it rests,
// but r was its last owner or override is set, it ends the rest instead.
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
		last := rest.User == r.ID && rest.Incarnation == r.Incarnation
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
	p.Drop(ownerKey(*l))
	if builtIn(l.Type) {
		return nil
	}
	unique := uniqueForm(l)
	for i := range r.Locators {
		if other := &r.Locators[i]; other.Owned && uniqueForm(other) == unique {
			return nil // the user keeps the form, by another spelling
		}
	}
	if l.Unique != "" {
		p.Drop(record.UniqueKey(unique))
	}
	rule := p.d.rules.of(l.Type)
	if rule == nil || rule.Rest == 0 {
		return nil
	}
	over := func(rest record.Resting) bool { return rest.Until <= p.c.now }
	resting := slices.DeleteFunc(slices.Clone(r.Resting), over)
	if len(resting) >= maxResting {
		if p.c.role == self {
			return &Error{
				Kind: ErrLimited, Field: "locators",
				Reason:     "that this user gave up and that rest are as many as may be",
				RetryAfter: time.Duration(resting[0].Until-p.c.now) * time.Millisecond,
			}
		}
		resting = resting[1:] // it still rests; only the list of the user forgets it
	}
	digest := p.d.restDigest(l)
	rest := record.Rest{
		Digest: hex.EncodeToString(digest[:]), User: r.ID, Incarnation: r.Incarnation,
		Until: p.c.now + rule.Rest.Milliseconds(),
	}
	p.Put(record.RestKey(digest), &rest)
	r.Resting = append(resting, record.Resting{Digest: rest.Digest, Until: rest.Until})
	slices.SortStableFunc(r.Resting, func(a, b record.Resting) int {
		return int(min(max(a.Until-b.Until, -1), 1))
	})
	p.d.background.start() // it sweeps what has rested
	return nil
}

// sweepRests drops the records of rests that are over.
func (d *Directory) sweepRests(ctx context.Context, now int64) error {
	var over []store.Key
	for r, err := range d.walk(ctx, record.Rests) {
		if err != nil {
			return err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			d.met(r.Key)
			continue
		}
		if value.(*record.Rest).Until > now {
			continue
		}
		if over = append(over, r.Key); len(over) == maxSweep {
			if err := d.dropRests(ctx, over, now); err != nil {
				return err
			}
			over = nil
		}
	}
	return d.dropRests(ctx, over, now)
}

// dropRests drops rests that are over. It reads them again, because one may have begun anew since.
func (d *Directory) dropRests(ctx context.Context, keys []store.Key, now int64) error {
	if len(keys) == 0 {
		return nil
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		entries, err := tx.Read(keys...)
		if err != nil {
			return err
		}
		nothing := true
		for i, e := range entries {
			if r, ok := e.Value().(*record.Rest); ok && r.Until <= now {
				tx.Drop(keys[i])
				nothing = false
			}
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
}
