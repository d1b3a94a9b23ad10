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

// A locator that was given up may rest: for a time nobody is found by it and nobody but its last
// owner takes it. What is stored of it is a digest under a key that is the directory's own, so that
// nothing tells what rests. Each taking of a locator that may rest has the absence of that record in
// its conditions.

// maxResting is how many resting locators a user may have who gives up one more by itself. Without a
// bound one user could keep any number of names from all others, by taking and leaving them.
const maxResting = 4

// restingKey derives the key of the digests of resting locators.
func restingKey(cursorKey []byte) []byte {
	h := hmac.New(sha256.New, cursorKey)
	h.Write([]byte("resting locators"))
	return h.Sum(nil)
}

// restDigest returns the digest of a locator that rests, given as its type and its unique form.
func (d *Directory) restDigest(l *record.Locator) (digest [32]byte) {
	h := hmac.New(sha256.New, d.restingKey)
	h.Write([]byte(uniqueForm(l)))
	return [32]byte(h.Sum(nil))
}

// uniqueForm returns what no other owned locator has, with its type.
func uniqueForm(l *record.Locator) string {
	if l.Unique == "" {
		return l.Type + ":" + l.Canonical
	}
	return l.Type + ":" + l.Unique
}

// requireAwake makes it a condition that a locator does not rest, or rests for r or may be given out
// all the same, and ends its rest then.
func (p *plan) requireAwake(r *record.User, l *record.Locator, override bool, taken error) error {
	digest := p.d.restDigest(l)
	key, name := record.RestKey(digest), hex.EncodeToString(digest[:])
	mine := slices.IndexFunc(r.Resting, func(rest record.Resting) bool { return rest.Digest == name })
	if mine < 0 && !p.Retrying() && !p.foreseen.mustRead(key) {
		p.Absent(key) // until a conflict the commit is the look-up
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

// free gives up an owned locator that r, as it will be stored, does not own any more.
func (p *plan) free(r *record.User, l *record.Locator) error {
	p.Drop(ownerKey(*l))
	if builtIn(l.Type) {
		return nil
	}
	unique := uniqueForm(l)
	for i := range r.Locators {
		if other := &r.Locators[i]; other.Owned && uniqueForm(other) == unique {
			return nil // it goes on under another name that is not to be told apart from it
		}
	}
	if l.Unique != "" {
		p.Drop(record.UniqueKey(unique))
	}
	rule := p.d.rules.of(l.Type)
	if rule == nil || rule.Rest == 0 {
		return nil
	}
	resting := slices.DeleteFunc(slices.Clone(r.Resting), func(rest record.Resting) bool { return rest.Until <= p.c.now })
	if len(resting) >= maxResting {
		if p.c.role == self {
			return &Error{
				Kind: ErrLimited, Field: "locators", Reason: "that this user gave up and that rest are as many as may be",
				RetryAfter: time.Duration(resting[0].Until-p.c.now) * time.Millisecond,
			}
		}
		resting = resting[1:] // it rests on, but is not the user's to take back without asking the store
	}
	digest := p.d.restDigest(l)
	rest := record.Rest{
		Digest: hex.EncodeToString(digest[:]), User: r.ID, Incarnation: r.Incarnation,
		Until: p.c.now + rule.Rest.Milliseconds(),
	}
	p.Put(record.RestKey(digest), &rest)
	r.Resting = append(resting, record.Resting{Digest: rest.Digest, Until: rest.Until})
	slices.SortStableFunc(r.Resting, func(a, b record.Resting) int { return int(min(max(a.Until-b.Until, -1), 1)) })
	p.d.background.start() // which sweeps
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

// dropRests drops rests that are over and were not begun anew meanwhile.
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
