package spec_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/postgres"
)

// move copies a directory from its file to PostgreSQL. No program has it open meanwhile. It is in
// docs/from-file-to-postgresql.md.
func move(ctx context.Context, people *postgres.Store, path string) error {
	file, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	defer file.Close()
	return store.Copy(ctx, people, file)
}

// DENIZEN_MOVE_USERS is how many users the directory has; 1,000 unless set.
func TestADirectoryMovesToPostgreSQLAndBack(t *testing.T) {
	requirePostgres(t)
	users := 1_000
	if text := os.Getenv("DENIZEN_MOVE_USERS"); text != "" {
		var err error
		users, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	path := filepath.Join(long.Dir(t), "people.db")
	d, err := denizen.Open(ctx, path, denizen.Options{})
	require.NoError(t, err)
	_, err = d.DefineAttribute(ctx, system, denizen.AttributeDef{Key: "colour"})
	require.NoError(t, err)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(users); i = next.Add(1) {
				_, err := d.CreateUser(ctx, system, denizen.NewUser{
					ID: denizen.UserID(fmt.Sprintf("user-%08d", i)), ScreenName: "Somebody",
					Locators:   []denizen.NewLocator{denizen.Email(fmt.Sprintf("user%d@example.org", i))},
					Attributes: []denizen.Attribute{{Key: "colour", Value: "red"}},
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	token, err := d.IssueToken(ctx, system, "user-00000001", denizen.TokenOptions{})
	require.NoError(t, err)
	require.NoError(t, d.SetPresence(ctx, system, "user-00000001", denizen.Away()))
	require.NoError(t, d.Close())

	s, err := postgres.Open(ctx, pool(), postgres.Options{Schema: newSchema()})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, move(ctx, s, path))
	back, err := bolt.Open(ctx, filepath.Join(long.Dir(t), "back.db"), bolt.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, back.Close()) }()
	require.NoError(t, store.Copy(ctx, back, s))

	file, err := bolt.Open(ctx, path, bolt.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	for name, other := range map[string]store.Store{"PostgreSQL": s, "a file again": back} {
		requireSame(t, name, file, other)
	}

	moved, err := denizen.New(ctx, s, denizen.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, moved.Close()) }()
	by, err := moved.Authenticate(ctx, token.Signed)
	require.NoError(t, err, "who was let in still is")
	require.Equal(t, denizen.UserID("user-00000001"), by.User())
	n, err := moved.CountUsers(ctx, system)
	require.NoError(t, err)
	require.Equal(t, users, n)
	if users <= 10_000 {
		invariant.Check(t, s)
	}
}

// requireSame holds two stores to the same records, at the same versions, and the same feed.
func requireSame(t *testing.T, name string, a, b store.Store) {
	t.Helper()
	next, stop := iter.Pull(recordsOf(t, b))
	defer stop()
	for r := range recordsOf(t, a) {
		other, there := next()
		require.True(t, there, "%s lacks records", name)
		require.Equal(t, r.Key, other.Key, name)
		require.Equal(t, r.Version, other.Version, name)
		require.JSONEq(t, string(r.Value), string(other.Value), name)
	}
	_, more := next()
	require.False(t, more, "%s has more records", name)
	for after := store.Seq(0); ; {
		f, err := a.Changes(ctx, after, store.MaxPage)
		require.NoError(t, err)
		g, err := b.Changes(ctx, after, store.MaxPage)
		require.NoError(t, err)
		require.Equal(t, f.Head, g.Head, name)
		require.Len(t, g.Changes, len(f.Changes), name)
		for i, c := range f.Changes {
			require.Equal(t, c.Seq, g.Changes[i].Seq, name)
			require.JSONEq(t, string(c.Event), string(g.Changes[i].Event), name)
			after = c.Seq
		}
		if len(f.Changes) < store.MaxPage {
			return
		}
	}
}

func recordsOf(t *testing.T, s store.Store) iter.Seq[store.Record] {
	return func(yield func(store.Record) bool) {
		for r := (store.Range{Limit: 1_000}); ; {
			page, err := s.List(ctx, r)
			require.NoError(t, err)
			for _, found := range page {
				if !yield(found) {
					return
				}
			}
			if len(page) < r.Limit {
				return
			}
			r.After = page[len(page)-1].Key
		}
	}
}
