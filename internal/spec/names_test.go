package spec_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/locator/external"
	"github.com/denizenhq/denizen/locator/username"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// named is a process with user names and external identities, and what is below it.
type named struct {
	*denizen.Directory
	store store.Store
}

func nameOptions(t testing.TB, o username.Options) denizen.Options {
	t.Helper()
	names, err := username.Rule(o)
	require.NoError(t, err)
	return denizen.Options{LocatorTypes: []denizen.LocatorRule{names, external.Rule()}}
}

// overNamed runs a test over each kind of store, in two processes where two may share it: the second
// is ahead of the first by some time. Elsewhere the two are one, and then is nil.
func overNamed(t *testing.T, o denizen.Options, ahead time.Duration, test func(t *testing.T, now, then *named)) {
	t.Helper()
	open := func(t *testing.T, s store.Store, ahead time.Duration) *named {
		t.Helper()
		start := time.Now()
		d, err := denizen.New(clock.With(t.Context(), clock.New(func() (wall, mono int64) {
			return time.Now().Add(ahead).UnixNano(), int64(time.Since(start))
		})), s, o)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		return &named{d, s}
	}
	t.Run("memory", func(t *testing.T) { test(t, open(t, memory.New(), 0), nil) })
	t.Run("shared", func(t *testing.T) {
		s := shared{memory.New()}
		test(t, open(t, s, 0), open(t, s, ahead))
	})
	t.Run("bolt", func(t *testing.T) {
		s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		test(t, open(t, s, 0), nil)
	})
	t.Run("postgres", func(t *testing.T) {
		ps := newProcesses(t, o, 0, ahead)
		test(t, &named{ps[0].Directory, ps[0].store}, &named{ps[1].Directory, ps[1].store})
	})
}

// lookalikes are names that are one as to who may take it, of one script each.
var lookalikes = []string{"scope", "ѕсоре", "sc0pe", "SCOPE", "ѕсо\u0440е"}

func TestOfManyWhoTakeNamesThatLookAlikeOneHasIt(t *testing.T) {
	overNamed(t, nameOptions(t, username.Options{}), 0, func(t *testing.T, now, then *named) {
		if then == nil {
			then = now
		}
		processes := []*named{now, then}
		by := make([]denizen.Principal, 32)
		for i := range by {
			u, err := now.CreateUser(ctx, system, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("racer-%04d", i)), ScreenName: "R"})
			require.NoError(t, err)
			by[i], err = now.ActAs(ctx, system, u.ID)
			require.NoError(t, err)
		}
		errs := make([]error, 64)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				name := username.New(lookalikes[i%len(lookalikes)])
				d := processes[i/2%2]
				if i%2 == 0 {
					_, errs[i] = d.AddLocator(ctx, by[i/2], by[i/2].User(), name)
				} else {
					_, errs[i] = d.CreateUser(ctx, system, denizen.NewUser{ScreenName: "R", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprint(i, "@example.org")), name}})
				}
			})
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, denizen.ErrTaken)
		}
		require.Equal(t, 1, won)
		var asked []string
		for _, name := range lookalikes[:3] {
			asked = append(asked, "username:"+name)
		}
		ids, err := then.Locate(ctx, system, asked...)
		require.NoError(t, err)
		require.Len(t, slices.DeleteFunc(ids, func(id denizen.UserID) bool { return id == "" }), 1, "one spelling finds somebody")
		invariant.Check(t, now.store)
	})
}

func TestANameRestsForAllProcessesUntilItsTimeIsOver(t *testing.T) {
	overNamed(t, nameOptions(t, username.Options{Rest: time.Hour}), 2*time.Hour, func(t *testing.T, now, then *named) {
		create := func(id denizen.UserID, locators ...denizen.NewLocator) (denizen.User, denizen.Principal) {
			u, err := now.CreateUser(ctx, system, denizen.NewUser{ID: id, ScreenName: "N", Locators: locators})
			require.NoError(t, err)
			by, err := now.ActAs(ctx, system, u.ID)
			require.NoError(t, err)
			return u, by
		}
		alice, byAlice := create("alice-0001", username.New("Alice"))
		bob, byBob := create("bob-000001")
		renamed, err := now.ReplaceLocator(ctx, byAlice, alice.ID, alice.Locators[0].ID, username.New("lissy"))
		require.NoError(t, err)
		ids, err := now.Locate(ctx, system, "username:alice", "username:lissy")
		require.NoError(t, err)
		require.Equal(t, []denizen.UserID{"", alice.ID}, ids)
		for _, name := range []string{"alice", "a1ice"} {
			_, err = now.AddLocator(ctx, byBob, bob.ID, username.New(name))
			require.ErrorIs(t, err, denizen.ErrTaken)
		}
		_, err = now.ReplaceLocator(ctx, byAlice, alice.ID, renamed.ID, username.New("alice"))
		require.NoError(t, err)
		require.NoError(t, now.DeleteUser(ctx, system, alice.ID))
		_, err = now.AddLocator(ctx, byBob, bob.ID, username.New("alice"))
		require.ErrorIs(t, err, denizen.ErrTaken)
		invariant.Check(t, now.store)
		taken := username.New("alice")
		if then == nil {
			taken.Override = true // the time does not pass here
			_, err = now.AddLocator(ctx, system, bob.ID, taken)
		} else {
			_, err = then.AddLocator(ctx, byBob, bob.ID, taken)
		}
		require.NoError(t, err)
		invariant.Check(t, now.store)
	})
}

func TestRekeyingIsSafeWhileOtherProcessesTakeNames(t *testing.T) {
	old := nameOptions(t, username.Options{PerUser: 2})
	next := nameOptions(t, username.Options{PerUser: 2})
	next.LocatorTypes[0].Version++
	canonical := next.LocatorTypes[0].Canonical
	next.LocatorTypes[0].Canonical = func(name string) (denizen.LocatorForms, error) {
		f, err := canonical(name)
		f.Unique += "-2"
		return f, err
	}
	rekeys := func(t *testing.T, before, after *named) {
		const users = 24
		for i := range users {
			_, err := before.CreateUser(ctx, system, denizen.NewUser{
				ID: denizen.UserID(fmt.Sprintf("user-%04d", i)), ScreenName: "N", Locators: []denizen.NewLocator{username.New(fmt.Sprintf("name%02d", i))},
			})
			require.NoError(t, err)
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				for _, err := range after.RekeyLocators(ctx, system) {
					if !errors.Is(err, denizen.ErrConflict) {
						require.NoError(t, err)
					}
				}
			})
		}
		for i := range users {
			all.Go(func() {
				d := []*named{before, after}[i%2]
				_, err := d.AddLocator(ctx, system, denizen.UserID(fmt.Sprintf("user-%04d", i)), username.New(fmt.Sprintf("more%02d", i)))
				if !errors.Is(err, denizen.ErrConflict) {
					require.NoError(t, err)
				}
			})
		}
		all.Wait()
		invariant.Check(t, before.store)
		for _, err := range after.RekeyLocators(ctx, system) {
			require.NoError(t, err)
		}
		for change := range after.CheckLocators(ctx, system) {
			require.Fail(t, "not brought along", "%+v", change)
		}
		for u, err := range after.AllUsers(ctx, system) {
			require.NoError(t, err)
			for _, l := range u.Locators {
				require.Equal(t, 2, l.RuleVersion)
			}
		}
		invariant.Check(t, before.store)
	}
	t.Run("shared", func(t *testing.T) {
		s := shared{memory.New()}
		var both []*named
		for _, o := range []denizen.Options{old, next} {
			d, err := denizen.New(ctx, s, o)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			both = append(both, &named{d, s})
		}
		rekeys(t, both[0], both[1])
	})
	t.Run("postgres", func(t *testing.T) {
		requirePostgres(t)
		schema := newSchema()
		before, after := newProcess(t, schema, old, 0), newProcess(t, schema, next, 0)
		rekeys(t, &named{before.Directory, before.store}, &named{after.Directory, after.store})
	})
}

func TestTheViewOfLocatorsHasNames(t *testing.T) {
	schema := newSchema()
	p := newProcess(t, schema, nameOptions(t, username.Options{}), 0)
	identity, err := external.New("https://accounts.example.com", "ünser|1@x")
	require.NoError(t, err)
	_, err = p.CreateUser(ctx, system, denizen.NewUser{ID: "alice-0001", ScreenName: "A", Locators: []denizen.NewLocator{username.New("Ünal"), identity}})
	require.NoError(t, err)
	rows, err := p.pool.Query(ctx, "SELECT type, address, raw, canonical, status, owned FROM "+schema+".locators ORDER BY type DESC")
	require.NoError(t, err)
	defer rows.Close()
	var got [][]any
	for rows.Next() {
		row, err := rows.Values()
		require.NoError(t, err)
		got = append(got, row)
	}
	require.NoError(t, rows.Err())
	raw := "https://accounts.example.com|ünser|1@x"
	require.Equal(t, [][]any{
		{"username", "Ünal", "Ünal", "ünal", "VerificationNotApplicable", true},
		{"external", raw, raw, raw, "Verified", true},
	}, got)
}
