package transfer_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/locator/external"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/denizenhq/denizen/transfer"
)

const serverEnv = "DENIZEN_POSTGRES"

var system = denizen.System()

// options registers external names, and a type whose locators rest when they are given up.
func options() denizen.Options {
	return denizen.Options{LocatorTypes: []denizen.LocatorRule{external.Rule(), {
		Type: "handle", Version: 1, Rest: time.Hour,
		Canonical: func(s string) (denizen.LocatorForms, error) {
			return denizen.LocatorForms{Canonical: s, Unique: strings.ReplaceAll(s, "0", "o")}, nil
		},
	}}}
}

// overStores runs a test over each kind of store, and then checks the store.
func overStores(t *testing.T, test func(t *testing.T, dir *denizen.Directory, s store.Store)) {
	t.Helper()
	overDamagedStores(t, func(t *testing.T, dir *denizen.Directory, s store.Store) {
		test(t, dir, s)
		require.NoError(t, dir.Close())
		if !t.Failed() {
			invariant.Check(t, s)
		}
	})
}

// overDamagedStores is overStores for a test that leaves the store damaged.
func overDamagedStores(t *testing.T, test func(t *testing.T, dir *denizen.Directory, s store.Store)) {
	t.Helper()
	run := func(name string, open func(t *testing.T) store.Store) {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			dir, err := denizen.New(context.Background(), s, options())
			require.NoError(t, err)
			test(t, dir, s)
			require.NoError(t, dir.Close())
			require.NoError(t, s.Close())
		})
	}
	run("memory", func(*testing.T) store.Store { return memory.New() })
	run("bolt", func(t *testing.T) store.Store { return openBolt(t, filepath.Join(long.Dir(t), "people.db")) })
	run("postgres", func(t *testing.T) store.Store { return openPostgres(t, newSchema(t)) })
}

// strike decides on the faults of a store. At first there are none.
type strike struct {
	decide atomic.Pointer[func(storetest.Call) storetest.Fault]
}

// by lets decide decide from now on.
func (s *strike) by(decide func(storetest.Call) storetest.Fault) { s.decide.Store(&decide) }

func (s *strike) end() { s.decide.Store(nil) }

// overFaultyStores is overStores with faults.
func overFaultyStores(t *testing.T, test func(t *testing.T, dir *denizen.Directory, s *strike)) {
	t.Helper()
	overStores(t, func(t *testing.T, dir *denizen.Directory, s store.Store) {
		require.NoError(t, dir.Close())
		var faults strike
		dir, err := denizen.New(t.Context(), storetest.Faulty(s, func(c storetest.Call) storetest.Fault {
			if decide := faults.decide.Load(); decide != nil {
				return (*decide)(c)
			}
			return storetest.None
		}), options())
		require.NoError(t, err)
		test(t, dir, &faults)
		faults.end()
		require.NoError(t, dir.Close())
	})
}

func openBolt(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := bolt.Open(context.Background(), path, bolt.Options{})
	require.NoError(t, err)
	return s
}

// newSchema returns the name of a schema of PostgreSQL that only this test uses.
func newSchema(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv(serverEnv)
	if dsn == "" {
		t.Skip(serverEnv + " is not set")
	}
	name := "transfer_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		pool, err := pgxpool.New(ctx, dsn)
		require.NoError(t, err)
		defer pool.Close()
		_, err = pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE")
		require.NoError(t, err)
	})
	return name
}

func openPostgres(t *testing.T, schema string) *postgres.Store {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), os.Getenv(serverEnv))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s, err := postgres.Open(context.Background(), pool, postgres.Options{Schema: schema})
	require.NoError(t, err)
	return s
}

func newMemory(t *testing.T) (*denizen.Directory, store.Store) {
	t.Helper()
	s := memory.New()
	dir, err := denizen.New(context.Background(), s, options())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	return dir, s
}

// rows yields users.
func rows(users ...transfer.User) iter.Seq2[transfer.User, error] {
	return func(yield func(transfer.User, error) bool) {
		for _, u := range users {
			if !yield(u, nil) {
				return
			}
		}
	}
}

// plain returns a user with only an id, a name and locators.
func plain(id string, locators ...string) transfer.User {
	u := transfer.User{ID: denizen.UserID(id), ScreenName: "Somebody"}
	for _, l := range locators {
		u.Locators = append(u.Locators, transfer.Locator{Locator: l})
	}
	return u
}

// many yields n users, each with an address.
func many(n int) iter.Seq2[transfer.User, error] {
	return func(yield func(transfer.User, error) bool) {
		for i := range n {
			if !yield(plain(fmt.Sprintf("user-%06d", i), fmt.Sprintf("email:user%d@example.org", i)), nil) {
				return
			}
		}
	}
}

// bring imports users and requires that the import as a whole has not failed.
func bring(t *testing.T, dir *denizen.Directory, users iter.Seq2[transfer.User, error], o transfer.Options) (transfer.Report, []transfer.Result) {
	t.Helper()
	var results []transfer.Result
	inner := o.Each
	o.Each = func(r transfer.Result) error {
		results = append(results, r)
		if inner != nil {
			return inner(r)
		}
		return nil
	}
	report, err := transfer.Import(t.Context(), dir, system, users, o)
	require.NoError(t, err)
	require.Equal(t, report.Rows, report.Created+report.Present+report.Skipped+report.Refused)
	require.Len(t, results, report.Rows)
	for i, r := range results {
		require.Equal(t, i+1, r.Row, "results come in the order of the rows")
	}
	return report, results
}

func head(t *testing.T, dir *denizen.Directory) denizen.Cursor {
	t.Helper()
	head, err := dir.Head(t.Context(), system)
	require.NoError(t, err)
	return head
}

// owner returns who owns a locator, or "".
func owner(t *testing.T, dir *denizen.Directory, locator string) denizen.UserID {
	t.Helper()
	ids, err := dir.Locate(t.Context(), system, locator)
	require.NoError(t, err)
	return ids[0]
}

func everybody(t *testing.T, dir *denizen.Directory) []denizen.User {
	t.Helper()
	var all []denizen.User
	for u, err := range dir.AllUsers(t.Context(), system) {
		require.NoError(t, err)
		all = append(all, u)
	}
	return slices.Clip(all)
}

// eventsAfter returns how many events there are after a place.
func eventsAfter(t *testing.T, dir *denizen.Directory, after denizen.Cursor) (n int) {
	t.Helper()
	for _, err := range dir.Events(t.Context(), system, after) {
		require.NoError(t, err)
		n++
	}
	return n
}
