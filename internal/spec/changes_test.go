package spec_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
)

// town is a directory whose clock the test moves, with what was told of changes.
type town struct {
	*denizen.Directory
	door  door.Directory
	store store.Store
	ahead atomic.Int64 // nanoseconds

	mu   sync.Mutex
	told []door.Change
}

// overTowns runs a test over a store in memory, one in a file and one in PostgreSQL.
func overTowns(t *testing.T, o denizen.Options, test func(t *testing.T, w *town)) {
	t.Helper()
	stores := map[string]func(t *testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return memory.New() },
		"bolt": func(t *testing.T) store.Store {
			s, err := bolt.Open(t.Context(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
			require.NoError(t, err)
			return s
		},
		"PostgreSQL": func(t *testing.T) store.Store {
			requirePostgres(t)
			own, err := pgxpool.New(t.Context(), postgresDSN())
			require.NoError(t, err)
			t.Cleanup(own.Close)
			s, err := postgres.Open(t.Context(), own, postgres.Options{Schema: newSchema(), LockTimeout: time.Minute})
			require.NoError(t, err)
			return s
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			w := newTown(t, open(t), o)
			test(t, w)
			invariant.Check(t, w.store)
		})
	}
}

func newTown(t *testing.T, s store.Store, o denizen.Options) *town {
	t.Helper()
	w := &town{store: s}
	start := time.Now()
	ticking := clock.New(func() (wall, mono int64) {
		since := int64(time.Since(start)) + w.ahead.Load()
		return start.UnixNano() + since, since
	})
	var err error
	w.Directory, err = denizen.New(clock.With(context.Background(), ticking), s, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, w.Directory.Close())
		require.NoError(t, s.Close())
	})
	w.door = door.Of(w.Directory)
	w.door.OnChange(func(ch door.Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, ch)
	})
	return w
}

func (w *town) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// lastTold returns what the last change told, and fails if there was none since it was called last.
func (w *town) lastTold(t testing.TB) door.Change {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NotEmpty(t, w.told, "nobody was told")
	ch := w.told[len(w.told)-1]
	w.told = nil
	return ch
}

// links returns which of those who were told got the link.
func links(ch door.Change) (with, without []string) {
	for _, told := range ch.Told {
		if told.MayUndo {
			with = append(with, told.Locator)
		} else {
			without = append(without, told.Locator)
		}
	}
	return with, without
}

const (
	ann  denizen.UserID = "ann-00001"
	ben  denizen.UserID = "ben-00001"
	anns                = "email:ann@example.org"
	work                = "email:ann@work.example"
	evil                = "email:evil@example.net"
	tele                = "tele:+16502530000"
)

func proved(locator string) denizen.NewLocator {
	return denizen.NewLocator{Locator: locator, Status: denizen.Verified}
}

func (w *town) create(t testing.TB, id denizen.UserID, ls ...denizen.NewLocator) denizen.User {
	t.Helper()
	u, err := w.CreateUser(t.Context(), system, denizen.NewUser{ID: id, ScreenName: "Somebody", Locators: ls})
	require.NoError(t, err)
	return u
}

// signIn returns a principal of a user who signed in by a locator, or was let in by .system alone.
func (w *town) signIn(t testing.TB, id denizen.UserID, by string) denizen.Principal {
	t.Helper()
	var issued denizen.IssuedToken
	var err error
	if by == "" {
		issued, err = w.IssueToken(t.Context(), system, id, denizen.TokenOptions{})
	} else {
		var any any
		any, err = w.door.IssueToken(t.Context(), system, string(id), denizen.TokenOptions{}, by)
		issued, _ = any.(denizen.IssuedToken)
	}
	require.NoError(t, err)
	p, err := w.Authenticate(t.Context(), issued.Signed)
	require.NoError(t, err)
	return p
}

const code = "12345678"

// start starts a proof of a locator of a user's own, or of what replaces that. It counts for
// nothing, so that a test may start many.
func (w *town) start(
	ctx context.Context, by denizen.Principal, id denizen.LocatorID, replacement string,
) (handle string, err error) {
	started, err := w.door.StartProof(ctx, by, door.ProofStart{
		LocatorID: string(id), Replaced: replacement, Secret: code,
	})
	if err != nil {
		return "", err
	}
	return started.Handle, w.door.GiveBack(ctx, started)
}

// finish lets a user prove what it is sent a code for.
func (w *town) finish(ctx context.Context, by denizen.Principal, id denizen.LocatorID, replacement string) error {
	handle, err := w.start(ctx, by, id, replacement)
	if err == nil {
		_, err = w.door.FinishOwn(ctx, by, string(id), handle, code)
	}
	return err
}

// prove lets a user claim a locator and prove it.
func (w *town) prove(ctx context.Context, by denizen.Principal, locator string) error {
	l, err := w.AddLocator(ctx, by, by.User(), denizen.NewLocator{Locator: locator})
	if err != nil {
		return err
	}
	return w.finish(ctx, by, l.ID, "")
}

func (w *town) idOf(t testing.TB, user denizen.UserID, locator string) denizen.LocatorID {
	t.Helper()
	ls, err := w.Locators(t.Context(), system, user)
	require.NoError(t, err)
	for _, l := range ls {
		if l.String() == locator {
			return l.ID
		}
	}
	require.Fail(t, "no such locator", locator)
	return ""
}

// replace lets a user prove what replaces a locator of its own.
func (w *town) replace(t testing.TB, by denizen.Principal, old, locator string) {
	t.Helper()
	require.NoError(t, w.finish(t.Context(), by, w.idOf(t, by.User(), old), locator))
}

func (w *town) remove(t testing.TB, by denizen.Principal, user denizen.UserID, locator string) {
	t.Helper()
	require.NoError(t, w.RemoveLocator(t.Context(), by, user, w.idOf(t, user, locator)))
}

func (w *town) undo(ctx context.Context, ch door.Change) error {
	return w.door.Undo(ctx, system, ch.Undo)
}

// requireOwned requires that a user owns these locators, in this order.
func (w *town) requireOwned(t testing.TB, user denizen.UserID, locators ...string) {
	t.Helper()
	u, err := w.User(t.Context(), system, user)
	require.NoError(t, err)
	var owned []string
	for _, l := range u.Locators {
		if l.Owned {
			owned = append(owned, l.String())
		}
	}
	require.Equal(t, locators, owned)
	for _, l := range locators {
		ids, err := w.Locate(t.Context(), system, l)
		require.NoError(t, err)
		require.Equal(t, []denizen.UserID{user}, ids)
	}
}

// requireRests requires that nobody has a locator and nobody gets it, and that only .system is told
// why.
func (w *town) requireRests(t testing.TB, locator string) {
	t.Helper()
	ctx := t.Context()
	ids, err := w.Locate(ctx, system, locator)
	require.NoError(t, err)
	require.Equal(t, []denizen.UserID{""}, ids, "it looks free")
	id := denizen.UserID(fmt.Sprintf("other-%d", rand.Uint64()))
	w.create(t, id)
	rests := func(err error) {
		t.Helper()
		requireKind(t, err, denizen.ErrTaken, "locator")
		require.Contains(t, err.Error(), "rests")
	}
	_, err = w.AddLocator(ctx, system, id, denizen.NewLocator{Locator: locator})
	rests(err)
	_, err = w.SetLocators(ctx, system, id, []denizen.NewLocator{{Locator: locator}})
	rests(err)
	_, err = w.CreateUser(ctx, system, denizen.NewUser{ScreenName: "New", Locators: []denizen.NewLocator{{Locator: locator}}})
	rests(err)
	before, err := w.CountUsers(ctx, system)
	require.NoError(t, err)
	_, err = w.ProveLocator(ctx, system, locator, denizen.NewUser{ScreenName: "New"})
	rests(err)
	after, err := w.CountUsers(ctx, system)
	require.NoError(t, err)
	require.Equal(t, before, after, "nobody was created")
	by := w.signIn(t, id, "")
	claim, err := w.AddLocator(ctx, by, id, denizen.NewLocator{Locator: locator, Override: true})
	require.NoError(t, err, "a claim is in nobody's way")
	require.False(t, claim.Owned)
	_, err = w.SetVerification(ctx, system, id, claim.ID, denizen.Verified)
	rests(err)
	err = w.finish(ctx, by, claim.ID, "")
	requireKind(t, err, denizen.ErrTaken, "locator")
	require.NotContains(t, err.Error(), "rests", "a stranger is told only that it cannot be had")
	w.requireOwned(t, id)
	require.NoError(t, w.DeleteUser(ctx, system, id))
}

func requireKind(t testing.TB, err, kind error, field string) *denizen.Error {
	t.Helper()
	require.ErrorIs(t, err, kind)
	e := new(denizen.Error)
	require.ErrorAs(t, err, &e)
	require.Equal(t, field, e.Field)
	return e
}

var quarantined = denizen.Options{Quarantine: 30 * 24 * time.Hour}

func TestQuarantine_AFreedLocatorRests(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, w *town){
		"removed": func(t *testing.T, w *town) { w.remove(t, system, ann, anns) },
		"set": func(t *testing.T, w *town) {
			_, err := w.SetLocators(t.Context(), system, ann, nil)
			require.NoError(t, err)
		},
		"replaced": func(t *testing.T, w *town) {
			_, err := w.ReplaceLocator(t.Context(), system, ann, w.idOf(t, ann, anns), denizen.Email("new@example.org"))
			require.NoError(t, err)
		},
		"deleted": func(t *testing.T, w *town) { require.NoError(t, w.DeleteUser(t.Context(), system, ann)) },
	} {
		t.Run(name, func(t *testing.T) {
			overTowns(t, quarantined, func(t *testing.T, w *town) {
				w.create(t, ann, proved(anns))
				free(t, w)
				w.requireRests(t, anns)
				w.requireRests(t, "email:ANN@example.org")
				w.pass(quarantined.Quarantine)
				w.create(t, ben, proved(anns))
				w.requireOwned(t, ben, anns)
			})
		})
	}
}

func TestQuarantine_IsOffUnlessSet(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns), proved(tele))
		w.remove(t, system, ann, anns)
		require.NoError(t, w.DeleteUser(t.Context(), system, ann))
		w.create(t, ben, proved(anns), proved(tele))
		w.requireOwned(t, ben, anns, tele)
	})
}

func TestQuarantine_TheLastOwnerGetsItBackByProvingItAlone(t *testing.T) {
	overTowns(t, quarantined, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(work))
		w.remove(t, system, ann, work)
		_, err := w.AddLocator(ctx, system, ann, proved(work))
		requireKind(t, err, denizen.ErrTaken, "locator")
		by := w.signIn(t, ann, "")
		claim, err := w.AddLocator(ctx, by, ann, denizen.NewLocator{Locator: work})
		require.NoError(t, err)
		_, err = w.SetVerification(ctx, system, ann, claim.ID, denizen.Verified)
		requireKind(t, err, denizen.ErrTaken, "locator")
		delegate, err := w.ActAs(ctx, system, ann)
		require.NoError(t, err)
		requireKind(t, w.finish(ctx, delegate, claim.ID, ""), denizen.ErrDenied, "token")
		ended := w.signIn(t, ann, "")
		require.NoError(t, w.RevokeTokens(ctx, system, ann, ended.Token()))
		requireKind(t, w.finish(ctx, ended, claim.ID, ""), denizen.ErrRevoked, "token")
		require.NoError(t, w.finish(ctx, by, claim.ID, ""))
		w.requireOwned(t, ann, anns, work)
	})
}

func TestQuarantine_TheSystemGivesItOutOnlyByAnOverride(t *testing.T) {
	overTowns(t, quarantined, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(tele))
		require.NoError(t, w.DeleteUser(ctx, system, ann))
		w.create(t, ann) // another of the same id inherits nothing
		requireKind(t, w.prove(ctx, w.signIn(t, ann, ""), anns), denizen.ErrTaken, "locator")
		w.create(t, ben, denizen.NewLocator{Locator: anns, Override: true})
		_, err := w.AddLocator(ctx, system, ben, denizen.NewLocator{Locator: tele, Override: true})
		require.NoError(t, err)
		w.requireOwned(t, ben, anns, tele)
		_, err = w.AddLocator(ctx, system, ann, denizen.NewLocator{Locator: anns, Override: true})
		requireKind(t, err, denizen.ErrTaken, "locator")
		require.NotContains(t, err.Error(), "rests", "somebody owns it")
	})
}

func TestQuarantine_WhoProvesWhatSomebodyElseWroteDownStillGetsIt(t *testing.T) {
	overTowns(t, quarantined, func(t *testing.T, w *town) {
		w.create(t, ann, proved(evil), denizen.NewLocator{Locator: anns})
		u, err := w.ProveLocator(t.Context(), system, anns, denizen.NewUser{ScreenName: "Ann"})
		require.NoError(t, err)
		require.NotEqual(t, ann, u.ID)
		w.requireOwned(t, u.ID, anns)
		w.requireOwned(t, ann, evil)
	})
}

func TestQuarantine_NothingStoredShowsWhatRests(t *testing.T) {
	overEachStore(t, func(t *testing.T, s store.Store, everything func() []byte) {
		w := newTown(t, s, quarantined)
		const rests = "alexandrina@example.org"
		w.create(t, ann, proved("email:"+rests))
		require.NotEmpty(t, invariant.Traces(t, s, rests), "what is looked for is there")
		by := w.signIn(t, ann, "")
		w.remove(t, by, ann, "email:"+rests)
		require.NoError(t, w.DeleteUser(t.Context(), system, ann))
		plain := sha256.Sum256([]byte("email:" + rests))
		for _, text := range []string{rests, hex.EncodeToString(plain[:])} {
			require.Empty(t, invariant.Traces(t, s, text))
			require.Empty(t, invariant.TracesIn(everything(), text))
		}
		rested, err := s.List(t.Context(), store.Range{Under: record.Rests, Limit: 10})
		require.NoError(t, err)
		require.Len(t, rested, 1)
		require.NoError(t, w.Directory.Close())
		invariant.Check(t, s)
	})
}

func TestQuarantine_DigestsOfWhatRestsAreKeyedByTheDirectory(t *testing.T) {
	rested := map[store.Key]bool{}
	for range 2 {
		s := memory.New()
		w := newTown(t, s, quarantined)
		w.create(t, ann, proved("email:alexandrina@example.org"))
		require.NoError(t, w.DeleteUser(t.Context(), system, ann))
		found, err := s.List(t.Context(), store.Range{Under: record.Rests, Limit: 10})
		require.NoError(t, err)
		require.Len(t, found, 1)
		rested[found[0].Key] = true
		require.NoError(t, w.Directory.Close())
	}
	require.Len(t, rested, 2, "who has the records of one directory could look for addresses in another")
}

func TestChanges_ASecondLocatorIsToldToTheOthers(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann)
		by := w.signIn(t, ann, "")
		require.NoError(t, w.prove(t.Context(), by, anns))
		require.Empty(t, w.told, "there is nobody to tell of the first")
		require.NoError(t, w.prove(t.Context(), by, work))
		ch := w.lastTold(t)
		require.Equal(t, []door.Told{{Locator: anns, MayUndo: true}}, ch.Told)
		require.Len(t, ch.Undo, 22, "128 bits")
		require.EqualValues(t, 72*time.Hour/time.Millisecond, ch.Until-ch.At)
		w.requireOwned(t, ann, anns, work)
	})
}

func TestChanges_WhatIsReplacedIsToldAndReserved(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns), proved(tele), denizen.NewLocator{Locator: "email:typed@example.org"})
		by := w.signIn(t, ann, anns)
		w.replace(t, by, anns, work)
		require.Equal(t, []door.Told{
			{Locator: anns, Removed: true, MayUndo: true}, {Locator: tele, MayUndo: true},
		}, w.lastTold(t).Told, "not what nobody proved")
		w.requireOwned(t, ann, work, tele, "email:typed@example.org")
		w.pass(72*time.Hour - time.Minute)
		w.requireRests(t, anns)
		w.pass(time.Minute)
		w.create(t, ben, proved(anns))
	})
}

func TestChanges_WhatIsRemovedIsToldAndReserved(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns), proved(tele))
		w.remove(t, w.signIn(t, ann, ""), ann, anns)
		require.Equal(t, []door.Told{
			{Locator: anns, Removed: true, MayUndo: true}, {Locator: tele, MayUndo: true},
		}, w.lastTold(t).Told)
		w.requireRests(t, anns)
		w.pass(72 * time.Hour)
		w.create(t, ben, proved(anns))
	})
}

func TestChanges_WithNobodyToTellWhatIsRemovedIsReservedAllTheSame(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.door.OnChange(nil)
		w.create(t, ann, proved(anns))
		w.remove(t, w.signIn(t, ann, ""), ann, anns)
		w.requireRests(t, anns)
		left, err := w.store.List(t.Context(), store.Range{Under: record.Undos, Limit: 1})
		require.NoError(t, err)
		require.Empty(t, left, "nobody has a secret")
	})
}

func TestChanges_WhatTheSystemRemovesIsFreeAtOnce(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns))
		w.remove(t, system, ann, anns)
		require.Empty(t, w.told)
		w.create(t, ben, proved(anns))
	})
}

func TestChanges_AnUndoBringsBackWhatWasAndEndsTheRest(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		before := w.create(t, ann, proved(anns), proved(tele))
		thief := w.signIn(t, ann, anns)
		w.replace(t, thief, anns, evil)
		first := w.lastTold(t)
		w.remove(t, thief, ann, tele)
		_, err := w.AddLocator(ctx, thief, ann, denizen.Email("claim@example.net"))
		require.NoError(t, err)
		in := w.signIn(t, ann, evil)
		require.NoError(t, w.undo(ctx, first))
		w.requireOwned(t, ann, anns, tele)
		u, err := w.User(ctx, system, ann)
		require.NoError(t, err)
		require.Equal(t, before.Locators, u.Locators, "the claim is gone, too")
		tokens, err := w.Tokens(ctx, system, ann)
		require.NoError(t, err)
		require.Empty(t, tokens)
		require.ErrorIs(t, w.Check(ctx, thief), denizen.ErrRevoked)
		require.ErrorIs(t, w.Check(ctx, in), denizen.ErrRevoked)
		w.create(t, ben, proved(evil))
		requireKind(t, w.undo(ctx, first), denizen.ErrNotFound, "secret")
	})
}

func TestChanges_TheEarliestUndoWins(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(tele))
		by := w.signIn(t, ann, "")
		var undos []door.Change
		change := func(f func()) { f(); undos = append(undos, w.lastTold(t)) }
		change(func() { w.remove(t, by, ann, tele) })
		change(func() { require.NoError(t, w.prove(ctx, by, work)) })
		change(func() { w.replace(t, by, work, evil) })
		require.NoError(t, w.undo(ctx, undos[1]))
		w.requireOwned(t, ann, anns)
		requireKind(t, w.undo(ctx, undos[2]), denizen.ErrNotFound, "secret")
		require.NoError(t, w.undo(ctx, undos[0]))
		w.requireOwned(t, ann, anns, tele)
		for _, ch := range undos {
			requireKind(t, w.undo(ctx, ch), denizen.ErrNotFound, "secret")
		}
	})
}

func TestChanges_WhatAnUndoTakesAwayIsKeptForAnEarlierOne(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(work))
		by := w.signIn(t, ann, "")
		w.remove(t, by, ann, work)
		first := w.lastTold(t)
		require.NoError(t, w.prove(ctx, by, work))
		require.NoError(t, w.undo(ctx, w.lastTold(t)))
		w.requireOwned(t, ann, anns)
		w.requireRests(t, work)
		require.NoError(t, w.undo(ctx, first))
		w.requireOwned(t, ann, anns, work)
	})
}

func TestChanges_AnUndoIsGoodFor72Hours(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(tele))
		by := w.signIn(t, ann, "")
		w.remove(t, by, ann, tele)
		late := w.lastTold(t)
		w.pass(72 * time.Hour)
		requireKind(t, w.undo(ctx, late), denizen.ErrNotFound, "secret")
		require.ErrorIs(t, w.door.Undo(ctx, system, ""), denizen.ErrNotFound)
		require.ErrorIs(t, w.door.Undo(ctx, system, strings.Repeat("x", 1<<20)), denizen.ErrNotFound)
		require.ErrorIs(t, w.door.Undo(ctx, by, late.Undo), denizen.ErrDenied)
		w.requireOwned(t, ann, anns)
	})
}

func TestChanges_ATokenGotByANewLocatorChangesNone(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		old := w.signIn(t, ann, anns)
		require.NoError(t, w.prove(ctx, old, evil))
		in := w.signIn(t, ann, "email:EVIL@example.net")
		refused := func(err error) { t.Helper(); requireKind(t, err, denizen.ErrDenied, "token") }
		refused(w.RemoveLocator(ctx, in, ann, w.idOf(t, ann, anns)))
		refused(w.prove(ctx, in, work))
		refused(w.finish(ctx, in, w.idOf(t, ann, anns), work))
		w.requireOwned(t, ann, anns, evil)
		for _, by := range []denizen.Principal{old, w.signIn(t, ann, ""), w.signIn(t, ann, anns)} {
			l, err := w.AddLocator(ctx, by, ann, denizen.NewLocator{Locator: work})
			require.NoError(t, err)
			require.NoError(t, w.RemoveLocator(ctx, by, ann, l.ID))
		}
		w.pass(72 * time.Hour)
		in = w.signIn(t, ann, evil)
		require.NoError(t, w.RemoveLocator(ctx, in, ann, w.idOf(t, ann, anns)))
	})
}

// A thief proves a locator with a stolen token, and gets another token by it. The user removes the
// locator. Else that token would change locators once the change is forgotten.
func TestChanges_ANewLocatorThatGoesTakesItsTokensAlong(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		own := w.signIn(t, ann, anns)
		for _, by := range []denizen.Principal{own, system} {
			require.NoError(t, w.prove(ctx, own, evil))
			thief := w.signIn(t, ann, evil)
			w.remove(t, by, ann, evil)
			require.ErrorIs(t, w.Check(ctx, thief), denizen.ErrRevoked)
			require.NoError(t, w.Check(ctx, own))
		}
	})
}

func TestChanges_ANewLocatorIsToldWithoutTheLink(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns))
		by := w.signIn(t, ann, anns)
		require.NoError(t, w.prove(t.Context(), by, evil))
		w.remove(t, by, ann, evil)
		with, without := links(w.lastTold(t))
		require.Equal(t, []string{anns}, with)
		require.Equal(t, []string{evil}, without)
	})
}

func TestChanges_AUserChangesFewThingsWithinTheTime(t *testing.T) {
	overTowns(t, denizen.Options{UserEventBurst: 1000}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		by := w.signIn(t, ann, "")
		last := anns
		for i := range 8 {
			next := fmt.Sprintf("email:ann%d@example.org", i)
			w.replace(t, by, last, next)
			last = next
			w.pass(time.Hour)
		}
		err := w.finish(ctx, by, w.idOf(t, ann, last), work)
		e := requireKind(t, err, denizen.ErrLimited, "locators")
		require.InDelta(t, 64*time.Hour, e.RetryAfter, float64(time.Minute))
		requireKind(t, w.RemoveLocator(ctx, by, ann, w.idOf(t, ann, last)), denizen.ErrLimited, "locators")
		w.remove(t, system, ann, last)
		w.pass(64 * time.Hour)
		require.NoError(t, w.prove(ctx, w.signIn(t, ann, ""), work))
	})
}

func TestChanges_TheSystemCanCancelAnUndo(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		by := w.signIn(t, ann, anns)
		w.replace(t, by, anns, work)
		ch := w.lastTold(t)
		require.NoError(t, w.CancelUndo(ctx, system, ann))
		requireKind(t, w.undo(ctx, ch), denizen.ErrNotFound, "secret")
		w.requireOwned(t, ann, work)
		w.requireRests(t, anns)
		head, err := w.Head(ctx, system)
		require.NoError(t, err)
		require.NoError(t, w.CancelUndo(ctx, system, ann))
		again, err := w.Head(ctx, system)
		require.NoError(t, err)
		require.Equal(t, head, again, "there is nothing to cancel")
		require.NoError(t, w.RemoveLocator(ctx, w.signIn(t, ann, work), ann, w.idOf(t, ann, work)))
	})
}

func TestChanges_AnUndoLeavesWhatTheSystemGaveToOthers(t *testing.T) {
	overTowns(t, quarantined, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(work), proved(tele))
		by := w.signIn(t, ann, "")
		w.remove(t, by, ann, anns)
		ch := w.lastTold(t)
		w.remove(t, system, ann, work) // it may be in other hands by now
		w.create(t, ben, denizen.NewLocator{Locator: anns, Override: true})
		require.NoError(t, w.undo(ctx, ch))
		w.requireOwned(t, ann, tele)
		w.requireOwned(t, ben, anns)
		w.requireRests(t, work)
	})
}

func TestChanges_AnUndoDoesNotBelieveWhatWasProvedSince(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), denizen.NewLocator{Locator: evil})
		by := w.signIn(t, ann, "")
		require.NoError(t, w.finish(ctx, by, w.idOf(t, ann, evil), ""))
		require.NoError(t, w.undo(ctx, w.lastTold(t)))
		w.requireOwned(t, ann, anns, evil)
		u, err := w.ProveLocator(ctx, system, evil, denizen.NewUser{ScreenName: "Evil"})
		require.NoError(t, err)
		require.NotEqual(t, ann, u.ID)
	})
}

func TestChanges_AnUndoBringsBackANameThatNobodyTook(t *testing.T) {
	overTowns(t, denizen.Options{LocatorTypes: []denizen.LocatorRule{nicks}}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), denizen.NewLocator{Locator: "nick:bob"})
		by := w.signIn(t, ann, "")
		require.NoError(t, w.prove(ctx, by, work))
		ch := w.lastTold(t)
		_, err := w.ReplaceLocator(ctx, by, ann, w.idOf(t, ann, "nick:bob"), denizen.NewLocator{Locator: "nick:b0b"})
		require.NoError(t, err)
		require.NoError(t, w.undo(ctx, ch))
		w.requireOwned(t, ann, anns, "nick:bob")
	})
}

func TestChanges_AWrongProofCommitsOnlyThatItWasTried(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		by := w.signIn(t, ann, "")
		claim, err := w.AddLocator(ctx, by, ann, denizen.NewLocator{Locator: work})
		require.NoError(t, err)
		before, err := w.User(ctx, system, ann)
		require.NoError(t, err)
		handle, err := w.start(ctx, by, claim.ID, "")
		require.NoError(t, err)
		_, err = w.door.FinishOwn(ctx, by, string(claim.ID), handle, "wrong")
		requireKind(t, err, denizen.ErrDenied, "proof")
		after, err := w.User(ctx, system, ann)
		require.NoError(t, err)
		require.Equal(t, before, after)
		left, err := w.store.List(ctx, store.Range{Under: record.Proofs, Limit: 10})
		require.NoError(t, err)
		require.Len(t, left, 1)
		value, err := record.DecodeStored(left[0])
		require.NoError(t, err)
		require.EqualValues(t, 1, value.(*record.Proof).Tries)
		require.Empty(t, w.told)
	})
}

func TestChanges_ADeletedUserLeavesNothingToUndo(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns))
		by := w.signIn(t, ann, "")
		require.NoError(t, w.prove(ctx, by, work))
		ch := w.lastTold(t)
		w.remove(t, by, ann, anns)
		require.NoError(t, w.DeleteUser(ctx, system, ann))
		w.create(t, ann)
		requireKind(t, w.undo(ctx, ch), denizen.ErrNotFound, "secret")
		w.requireOwned(t, ann)
		w.requireRests(t, anns)
		left, err := w.store.List(ctx, store.Range{Under: record.Undos, Limit: 10})
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestChanges_AVerificationGrowsOld(t *testing.T) {
	const year = 365 * 24 * time.Hour
	overTowns(t, denizen.Options{VerifiedFor: year}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), denizen.NewLocator{Locator: work})
		stale := func() bool {
			t.Helper()
			u, err := w.User(ctx, system, ann)
			require.NoError(t, err)
			found, err := w.UsersByLocator(ctx, system, []string{anns})
			require.NoError(t, err)
			require.Equal(t, u, found[0])
			l, err := w.Locator(ctx, system, ann, u.Locators[0].ID)
			require.NoError(t, err)
			require.Equal(t, u.Locators[0], l)
			require.False(t, u.Locators[1].Stale, "it never was verified")
			return l.Stale
		}
		in := func() denizen.Locator {
			t.Helper()
			u, err := w.ProveLocator(ctx, system, anns, denizen.NewUser{ScreenName: "New"})
			require.NoError(t, err)
			require.Equal(t, ann, u.ID)
			return u.Locators[0]
		}
		require.False(t, stale())
		w.pass(year - time.Hour)
		require.False(t, in().Stale)
		w.pass(year - time.Hour)
		require.False(t, stale(), "it was proved within the time")
		w.pass(2 * time.Hour)
		require.True(t, stale())
		require.True(t, in().Stale, "who signs in may be somebody else")
		require.True(t, stale())
		require.NoError(t, w.finish(ctx, w.signIn(t, ann, ""), w.idOf(t, ann, anns), ""))
		require.False(t, stale(), "its user proved it again")
	})
}

// Else a thief would give up many addresses first, and then that of the user: an undo could not give
// that back.
func TestChanges_NothingIsGivenUpThatCouldNotBeGivenBack(t *testing.T) {
	overTowns(t, denizen.Options{UserEventBurst: 1000, Quarantine: 60 * 24 * time.Hour}, func(t *testing.T, w *town) {
		w.create(t, ann, proved(anns), proved(tele))
		last := tele
		for i := range 32 {
			next := fmt.Sprintf("tele:+16502530%03d", i+1)
			w.replace(t, w.signIn(t, ann, anns), last, next)
			last = next
			w.pass(12 * time.Hour)
		}
		by := w.signIn(t, ann, anns)
		err := w.RemoveLocator(t.Context(), by, ann, w.idOf(t, ann, anns))
		e := requireKind(t, err, denizen.ErrLimited, "locators")
		require.InDelta(t, 44*24*time.Hour, e.RetryAfter, float64(time.Hour))
		w.requireOwned(t, ann, anns, last)
		w.pass(44 * 24 * time.Hour)
		w.remove(t, w.signIn(t, ann, anns), ann, anns)
		require.NoError(t, w.undo(t.Context(), w.lastTold(t)))
		w.requireOwned(t, ann, anns, last)
	})
}

func TestChanges_AUserProvesNothingWithATokenThatHasExpired(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		w.create(t, ann)
		issued, err := w.IssueToken(t.Context(), system, ann, denizen.TokenOptions{TTL: time.Minute})
		require.NoError(t, err)
		by, err := w.Authenticate(t.Context(), issued.Signed)
		require.NoError(t, err)
		claim, err := w.AddLocator(t.Context(), by, ann, denizen.NewLocator{Locator: anns})
		require.NoError(t, err)
		handle, err := w.start(t.Context(), by, claim.ID, "")
		require.NoError(t, err)
		w.pass(2 * time.Minute)
		_, err = w.door.FinishOwn(t.Context(), by, string(claim.ID), handle, code)
		requireKind(t, err, denizen.ErrRevoked, "token")
		requireKind(t, w.finish(t.Context(), by, claim.ID, ""), denizen.ErrRevoked, "token")
		w.requireOwned(t, ann)
	})
}

// What rests still names the user then.
func TestQuarantine_AnotherOfTheIDOfADamagedUserInheritsNothing(t *testing.T) {
	overTowns(t, quarantined, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(work))
		w.remove(t, system, ann, work)
		_, err := w.store.Commit(ctx, store.Batch{Put: []store.Record{{Key: record.UserKey(string(ann)), Value: []byte("{}")}}})
		require.NoError(t, err)
		require.NoError(t, w.DeleteUser(ctx, system, ann))
		w.create(t, ann)
		requireKind(t, w.prove(ctx, w.signIn(t, ann, ""), work), denizen.ErrTaken, "locator")
		w.requireOwned(t, ann)
	})
}

func TestChanges_AProofIsGoodForItsUserAndItsLocatorAlone(t *testing.T) {
	overTowns(t, denizen.Options{}, func(t *testing.T, w *town) {
		ctx := t.Context()
		w.create(t, ann, proved(anns), proved(work), denizen.NewLocator{Locator: evil})
		w.create(t, ben)
		by, other := w.signIn(t, ann, ""), w.signIn(t, ben, "")
		replaced, moved := w.idOf(t, ann, work), w.idOf(t, ann, evil)
		replacing, err := w.start(ctx, by, replaced, "email:new@example.org")
		require.NoError(t, err)
		proving, err := w.start(ctx, by, moved, "")
		require.NoError(t, err)
		_, err = w.door.FinishOwn(ctx, by, string(w.idOf(t, ann, anns)), replacing, code)
		requireKind(t, err, denizen.ErrDenied, "proof")
		w.requireOwned(t, ann, anns, work, evil)
		_, err = w.MoveLocator(ctx, system, ann, moved, ben)
		require.NoError(t, err)
		_, err = w.door.FinishOwn(ctx, other, string(moved), proving, code)
		requireKind(t, err, denizen.ErrDenied, "proof")
		_, err = w.door.FinishOwn(ctx, by, string(replaced), replacing, code)
		require.NoError(t, err)
		w.requireOwned(t, ann, anns, "email:new@example.org")
	})
}
