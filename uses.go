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
	"github.com/denizenhq/denizen/store"
)

// uses is when tokens and access keys were last used, as far as that is not stored yet.
type uses struct {
	sync.Mutex
	byOwner map[UserID][]record.LastUse // a few of each
}

// use is one token of a user, or one access key if the user is nobody.
type use struct {
	owner UserID
	id    string
	noted atomic.Int64 // when it was last put into the table
}

func newUses() *uses { return &uses{byOwner: map[UserID][]record.LastUse{}} }

// touch notes a use, once a minute.
func (u *use) touch(d *Directory, now int64) {
	if now-u.noted.Load() >= everyMinute.Milliseconds() {
		u.noted.Store(now)
		d.uses.note(d, u.owner, record.LastUse{ID: u.id, At: now})
	}
}

// note puts a use into the table.
func (t *uses) note(d *Directory, owner UserID, l record.LastUse) {
	d.background.start()
	t.Lock()
	defer t.Unlock()
	noted := t.byOwner[owner]
	if i := useOf(noted, l.ID); i >= 0 {
		noted[i] = l
		return
	}
	t.byOwner[owner] = append(noted, l)
}

// useOf answers where the last use of a token or key is, or -1.
func useOf(uses []record.LastUse, id string) int {
	return slices.IndexFunc(uses, func(l record.LastUse) bool { return l.ID == id })
}

// of answers the last uses of an owner's tokens or keys that are not stored yet. It is asked
// before what is stored is read: what is in neither was not used.
func (t *uses) of(owner UserID) []record.LastUse {
	t.Lock()
	defer t.Unlock()
	return slices.Clone(t.byOwner[owner])
}

// lastUse answers the last use of a token or key, stored or not.
func lastUse(id string, noted []record.LastUse, stored *memo) record.LastUse {
	if i := useOf(noted, id); i >= 0 {
		return noted[i]
	}
	if r, ok := stored.value.(*record.LastUses); ok {
		if i := useOf(r.Uses, id); i >= 0 {
			return r.Uses[i]
		}
	}
	return record.LastUse{}
}

// storeUses stores the last uses there are, owner by owner in batches. Those of tokens and
// keys that do not live any longer are left out, and those of an owner whose tokens are damaged.
func (d *Directory) storeUses(ctx context.Context) (failed error) {
	d.uses.Lock()
	owners := slices.Collect(maps.Keys(d.uses.byOwner))
	d.uses.Unlock()
	slices.Sort(owners) // neighbours lie in the same pages
	for some := range slices.Chunk(owners, maxSweep) {
		failed = errors.Join(failed, retry(func() error { return d.storeSomeUses(ctx, some) }))
	}
	return failed
}

func (d *Directory) storeSomeUses(ctx context.Context, owners []UserID) error {
	keys := make([]store.Key, 0, 2*len(owners))
	for _, owner := range owners {
		lives := record.AccessKeysKey
		if owner != nobody {
			lives = record.TokensKey(string(owner))
		}
		keys = append(keys, record.LastUsesKey(string(owner)), lives)
	}
	memos, _, err := d.loadAny(ctx, nil, keys)
	if err != nil {
		return err
	}
	taken := make([][]record.LastUse, len(owners))
	d.uses.Lock()
	for i, owner := range owners {
		taken[i] = slices.Clone(d.uses.byOwner[owner])
	}
	d.uses.Unlock()
	var batch batch
	for i, owner := range owners {
		uses := slices.Clone(taken[i])
		if r, ok := memos[2*i].value.(*record.LastUses); ok {
			for _, l := range r.Uses {
				if useOf(taken[i], l.ID) < 0 {
					uses = append(uses, l)
				}
			}
		}
		live := living(memos[2*i+1].value)
		uses = slices.DeleteFunc(uses, func(l record.LastUse) bool { return !live[l.ID] })
		if len(uses) == 0 {
			continue
		}
		slices.SortFunc(uses, func(a, b record.LastUse) int { return strings.Compare(a.ID, b.ID) })
		next := record.LastUses{User: string(owner), Uses: uses}
		// The record is dropped with the tokens, so it is written only while those stand.
		batch.If = append(batch.If, condOf(keys[2*i], memos[2*i]), condOf(keys[2*i+1], memos[2*i+1]))
		batch.put(keys[2*i], &next)
	}
	if len(batch.Put) > 0 {
		if _, err := d.commit(ctx, &batch); err != nil {
			return err
		}
	}
	d.uses.stored(owners, taken)
	return nil
}

// stored takes out of the table what was stored, but for uses that came since.
func (t *uses) stored(owners []UserID, taken [][]record.LastUse) {
	t.Lock()
	defer t.Unlock()
	for i, owner := range owners {
		since := slices.DeleteFunc(t.byOwner[owner], func(l record.LastUse) bool { return slices.Contains(taken[i], l) })
		if t.byOwner[owner] = since; len(since) == 0 {
			delete(t.byOwner, owner)
		}
	}
}

// living answers the ids of the tokens, or the incarnations of the access keys, in a record.
func living(value any) map[string]bool {
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
