package denizen_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
)

// The rules of changes are tested in internal/spec, over every store.

// changing is a user of a directory with faults who proved two addresses, and one of them a moment
// ago.
type changing struct {
	*denizen.Directory
	door  door.Directory
	store store.Store
	armed atomic.Bool
	by    denizen.Principal
	claim denizen.Locator
	first denizen.Locator
	undo  string
	told  []door.Change

	// Handles of proofs, of the claim and of what replaces the first.
	claimed, replacing string
}

func newChanging(t *testing.T, decide func(storetest.Call) storetest.Fault) *changing {
	t.Helper()
	ctx := context.Background()
	w := &changing{store: memory.New()}
	w.Directory = newOver(t, storetest.Faulty(shared{w.store}, func(c storetest.Call) storetest.Fault {
		if !w.armed.Load() {
			return storetest.None
		}
		return decide(c)
	}), denizen.Options{})
	w.door = door.Of(w.Directory)
	w.door.OnChange(func(ch door.Change) { w.told = append(w.told, ch) })
	w.first = create(t, w.Directory, alice, verified("email:alice@example.org")).Locators[0]
	issued, err := w.IssueToken(ctx, sys, alice, denizen.TokenOptions{})
	require.NoError(t, err)
	w.by, err = w.Authenticate(ctx, issued.Signed)
	require.NoError(t, err)
	claim, err := w.AddLocator(ctx, w.by, alice, denizen.Email("alice@work.example"))
	require.NoError(t, err)
	require.NoError(t, w.prove(ctx, claim.ID, startOwn(t, w.Directory, w.by, claim.ID, "")))
	w.undo, w.told = w.told[0].Undo, nil
	w.claim, err = w.AddLocator(ctx, w.by, alice, denizen.Email("alice@example.net"))
	require.NoError(t, err)
	w.claimed = startOwn(t, w.Directory, w.by, w.claim.ID, "")
	w.replacing = startOwn(t, w.Directory, w.by, w.first.ID, "email:new@example.org")
	return w
}

const ownCode = "12345678"

// startOwn starts a proof of a locator of a user's own, or of what replaces that, and returns the
// handle that is good with ownCode.
func startOwn(
	t testing.TB, d *denizen.Directory, by denizen.Principal, id denizen.LocatorID, replacement string,
) string {
	t.Helper()
	started, err := door.Of(d).StartProof(context.Background(), by, door.ProofStart{
		LocatorID: string(id), Replaced: replacement, Secret: ownCode,
	})
	require.NoError(t, err)
	return started.Handle
}

func (w *changing) prove(ctx context.Context, id denizen.LocatorID, handle string) error {
	_, err := w.door.FinishOwn(ctx, w.by, string(id), handle, ownCode)
	return err
}

// The acts of which each is one commit, and what tells that it was made.
var changingActs = map[string]struct {
	tells bool
	do    func(ctx context.Context, w *changing) error
}{
	"prove":   {true, func(ctx context.Context, w *changing) error { return w.prove(ctx, w.claim.ID, w.claimed) }},
	"replace": {true, func(ctx context.Context, w *changing) error { return w.prove(ctx, w.first.ID, w.replacing) }},
	"remove":  {true, func(ctx context.Context, w *changing) error { return w.RemoveLocator(ctx, w.by, alice, w.first.ID) }},
	"undo":    {false, func(ctx context.Context, w *changing) error { return w.door.Undo(ctx, sys, w.undo) }},
	"cancel":  {false, func(ctx context.Context, w *changing) error { return w.CancelUndo(ctx, sys, alice) }},
}

// Whoever is told of a change that was not made has a link that does nothing. Whoever is not told of
// one that was made could not undo it.
func TestChanges_AFaultLeavesAChangeDoneAndToldOrNotDone(t *testing.T) {
	for name, act := range changingActs {
		for fault, f := range map[string]storetest.Fault{
			"before": storetest.Before, "applied": storetest.Applied, "withheld": storetest.Withheld,
		} {
			t.Run(name+" "+fault, func(t *testing.T) {
				befell := storetest.EachCall(f, func(_ int, decide func(storetest.Call) storetest.Fault) {
					hit, committing := false, false
					w := newChanging(t, func(c storetest.Call) storetest.Fault {
						fault := decide(c)
						if fault != storetest.None {
							hit, committing = true, c.Batch != nil
						}
						return fault
					})
					before := invariant.Of(t, w.store)
					w.armed.Store(true)
					err := act.do(t.Context(), w)
					w.armed.Store(false)
					invariant.Check(t, w.store)
					switch {
					case !hit:
						require.NoError(t, err)
						require.Equal(t, act.tells, len(w.told) == 1)
						return
					case f == storetest.Before || !committing:
						require.ErrorIs(t, err, denizen.ErrUnavailable)
						require.Empty(t, w.told)
					default:
						require.ErrorIs(t, err, denizen.ErrOutcomeUnknown)
						require.Equal(t, act.tells, len(w.told) == 1)
					}
					done := f == storetest.Applied && committing
					require.Equal(t, done, invariant.Of(t, w.store).Feed.Head > before.Feed.Head)
					if len(w.told) == 1 {
						err := w.door.Undo(t.Context(), sys, w.told[0].Undo)
						if done {
							require.NoError(t, err)
						} else {
							require.ErrorIs(t, err, denizen.ErrNotFound)
						}
					}
				})
				require.Positive(t, befell)
			})
		}
	}
}

func TestChanges_EventsTellOfAnUndoAndOfItsEnd(t *testing.T) {
	w := newChanging(t, nil)
	after, err := w.Head(t.Context(), sys)
	require.NoError(t, err)
	require.NoError(t, w.prove(t.Context(), w.claim.ID, w.claimed))
	require.NoError(t, w.door.Undo(t.Context(), sys, w.told[0].Undo))
	require.NoError(t, w.CancelUndo(t.Context(), sys, alice))
	var kinds []denizen.EventKind
	for _, e := range eventsFrom(t, w.Directory, after) {
		kinds = append(kinds, e.Kind)
		require.Equal(t, denizen.UserID(alice), e.User)
	}
	require.Equal(t, []denizen.EventKind{
		denizen.EventLocatorOwned, denizen.EventLocatorsRestored, denizen.EventUndoCancelled,
	}, kinds)
}

// rewrite changes a record past the directory.
func rewrite[R record.Record](t *testing.T, s store.Store, key store.Key, change func(r R)) {
	t.Helper()
	found, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	value, err := record.DecodeStored(found[0])
	require.NoError(t, err)
	change(value.(R))
	b := store.Batch{Put: []store.Record{{Key: key, Value: record.Encode(value.(R))}}}
	_, err = s.Commit(t.Context(), b)
	require.NoError(t, err)
}

func TestChanges_AProofIsOfTheAddressThatItWasSentTo(t *testing.T) {
	w := newChanging(t, nil)
	rewrite(t, w.store, record.UserKey(string(alice)), func(r *record.User) {
		for i := range r.Locators {
			if r.Locators[i].ID == string(w.claim.ID) {
				r.Locators[i].Canonical, r.Locators[i].Raw = "victim@example.org", ""
			}
		}
	})
	requireField(t, w.prove(t.Context(), w.claim.ID, w.claimed), denizen.ErrDenied, "proof")
	requireField(t, w.prove(t.Context(), w.first.ID, w.claimed), denizen.ErrDenied, "proof")
	owners, err := w.Locate(t.Context(), sys, "email:victim@example.org")
	require.NoError(t, err)
	require.Empty(t, owners[0])
}

func TestChanges_AnUndoTakesBackNothingThatAnEarlierUserOfTheIDGaveUp(t *testing.T) {
	w := newChanging(t, nil)
	require.NoError(t, w.RemoveLocator(t.Context(), w.by, alice, w.first.ID))
	rests, err := w.store.List(t.Context(), store.Range{Under: record.Rests, Limit: 10})
	require.NoError(t, err)
	require.Len(t, rests, 1)
	rewrite(t, w.store, rests[0].Key, func(r *record.Rest) { r.Incarnation = "another" })
	require.NoError(t, w.door.Undo(t.Context(), sys, w.told[0].Undo))
	owners, err := w.Locate(t.Context(), sys, "email:alice@example.org")
	require.NoError(t, err)
	require.Empty(t, owners[0])
}

func TestChanges_WhatCanNoLongerBeUndoneIsSwept(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		in := door.Of(h.Directory)
		in.OnChange(func(door.Change) {})
		u := h.create(t, alice, verified("email:alice@example.org"))
		require.NoError(t, h.RemoveLocator(t.Context(), h.as(t, alice), alice, u.Locators[0].ID))
		undos := func() int {
			t.Helper()
			left, err := h.store.List(t.Context(), store.Range{Under: record.Undos, Limit: 10})
			require.NoError(t, err)
			rests, err := h.store.List(t.Context(), store.Range{Under: record.Rests, Limit: 10})
			require.NoError(t, err)
			return len(left) + len(rests)
		}
		time.Sleep(71 * time.Hour)
		require.Equal(t, 2, undos())
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Zero(t, undos())
		invariant.Check(t, h.store)
	})
}

func TestChanges_ManyWhoUndoAtOnceUndoOnce(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		in := door.Of(d)
		secrets := make(chan string, 2)
		in.OnChange(func(ch door.Change) { secrets <- ch.Undo })
		u := create(t, d, alice, verified("email:alice@example.org"), verified("email:alice@work.example"))
		by, err := d.ActAs(t.Context(), sys, alice)
		require.NoError(t, err)
		for _, l := range u.Locators {
			require.NoError(t, d.RemoveLocator(t.Context(), by, alice, l.ID))
		}
		first, second := <-secrets, <-secrets
		errs := atOnce(64, func(i int) error {
			return in.Undo(t.Context(), sys, []string{first, second}[i%2])
		})
		won := 64 - count(errs, denizen.ErrNotFound)
		require.Contains(t, []int{1, 2}, won, "each once, and the second only before the first")
		now, err := d.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, u.Locators, now.Locators)
	})
}
