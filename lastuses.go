package denizen

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// lastUses is when tokens and access keys were last used, as far as it is not stored yet. Storing
// each use would make every request a write.
type lastUses struct {
	mu      sync.Mutex // guards byOwner and its slices; never held over a call of the store
	byOwner map[UserID][]record.LastUse
}

// useMark is when a use of one token or access key was last put into the table, so that this
// happens once a minute and not with each request. The owner is noTarget for an access key.
type useMark struct {
	owner       UserID
	incarnation string // of the owner
	id          string
	noted       atomic.Int64 // Unix milliseconds
}

func newLastUses() *lastUses { return &lastUses{byOwner: map[UserID][]record.LastUse{}} }

// touch notes a use, at most once a minute.
func (u *useMark) touch(d *Directory, now int64) {
	if now-u.noted.Load() >= everyMinute.Milliseconds() {
		u.noted.Store(now)
		d.lastUses.note(d, u.owner, record.LastUse{ID: u.id, At: now})
		if u.owner != noTarget {
			d.lastActive.note(d, u.owner, u.incarnation, now)
		}
	}
}

// note puts a use into the table.
func (t *lastUses) note(d *Directory, owner UserID, l record.LastUse) {
	d.background.start()
	t.mu.Lock()
	defer t.mu.Unlock()
	noted := t.byOwner[owner]
	if i := indexOfUse(noted, l.ID); i >= 0 {
		noted[i] = l
		return
	}
	t.byOwner[owner] = append(noted, l)
}

// indexOfUse returns where the last use of a token or key is, or -1.
func indexOfUse(uses []record.LastUse, id string) int {
	return slices.IndexFunc(uses, func(l record.LastUse) bool { return l.ID == id })
}

// of returns the uses of an owner's tokens or keys that are not stored yet. Call it before reading
// the stored ones: a use moves from here to there.
func (t *lastUses) of(owner UserID) []record.LastUse {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.byOwner[owner])
}

// owners returns the owners in the table, sorted by id, because neighbours are stored in the same
// pages.
func (t *lastUses) owners() []UserID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.byOwner))
}

// stored removes from the table what was stored, but no later use.
func (t *lastUses) stored(owners []UserID, taken [][]record.LastUse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, owner := range owners {
		since := slices.DeleteFunc(t.byOwner[owner], func(l record.LastUse) bool {
			return slices.Contains(taken[i], l)
		})
		if t.byOwner[owner] = since; len(since) == 0 {
			delete(t.byOwner, owner)
		}
	}
}

// lastUse returns the last use of a token or key, stored or not.
func lastUse(id string, noted []record.LastUse, stored *txn.Entry) record.LastUse {
	if i := indexOfUse(noted, id); i >= 0 {
		return noted[i]
	}
	if r, ok := stored.Value().(*record.LastUses); ok {
		if i := indexOfUse(r.Uses, id); i >= 0 {
			return r.Uses[i]
		}
	}
	return record.LastUse{}
}

// storeUses stores the table, a batch of owners at a time. It leaves out tokens and keys that are
// no longer live, and owners whose tokens are damaged.
func (d *Directory) storeUses(ctx context.Context) (failed error) {
	for some := range slices.Chunk(d.lastUses.owners(), maxSweep) {
		failed = errors.Join(failed, d.storeSomeUses(ctx, some))
	}
	return failed
}

func (d *Directory) storeSomeUses(ctx context.Context, owners []UserID) error {
	keys := make([]store.Key, 0, 2*len(owners))
	for _, owner := range owners {
		lives := record.AccessKeysKey
		if owner != noTarget {
			lives = record.TokensKey(string(owner))
		}
		keys = append(keys, record.LastUsesKey(string(owner)), lives)
	}
	taken := make([][]record.LastUse, len(owners))
	err := d.writeBackground(ctx, func(tx *txn.Tx) error {
		// Last uses are dropped together with the tokens. So the record of the tokens is a
		// condition, or this write could bring them back.
		entries, err := tx.Read(keys...)
		if err != nil {
			return err
		}
		_ = d.checkDamage(keys, entries) // damaged ones are left out
		nothing := true
		for i, owner := range owners {
			taken[i] = d.lastUses.of(owner)
			uses := slices.Clone(taken[i])
			if r, ok := entries[2*i].Value().(*record.LastUses); ok {
				for _, l := range r.Uses {
					if indexOfUse(taken[i], l.ID) < 0 {
						uses = append(uses, l)
					}
				}
			}
			live := liveIDs(entries[2*i+1].Value())
			uses = slices.DeleteFunc(uses, func(l record.LastUse) bool { return !live[l.ID] })
			if len(uses) == 0 {
				continue
			}
			slices.SortFunc(uses, func(a, b record.LastUse) int {
				return strings.Compare(a.ID, b.ID)
			})
			tx.Put(keys[2*i], &record.LastUses{User: string(owner), Uses: uses})
			nothing = false
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.lastUses.stored(owners, taken)
	return nil
}

// liveIDs returns the ids of the tokens, or the incarnations of the access keys, in a record.
func liveIDs(value any) map[string]bool {
	ids := map[string]bool{}
	switch r := value.(type) {
	case *record.Tokens:
		for _, t := range r.Tokens {
			ids[t.ID] = true
		}
	case *record.AccessKeys:
		for _, k := range r.Keys {
			ids[k.Incarnation] = true
		}
	}
	return ids
}
