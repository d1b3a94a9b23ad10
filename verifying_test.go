package denizen_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/verify"
)

// damagesOf returns what verify.Directory finds.
func damagesOf(t testing.TB, d *denizen.Directory) (all []verify.Damage) {
	t.Helper()
	for found, err := range verify.Directory(context.Background(), d, sys) {
		require.NoError(t, err)
		all = append(all, found)
	}
	return all
}

func TestVerifying_HasNoFalseAlarmWhileOthersWrite(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return memory.New() },
		"shared": func(*testing.T) store.Store { return shared{memory.New()} },
		"bolt": func(t *testing.T) store.Store {
			s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			d := newOver(t, s, denizen.Options{})
			_, err := d.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "bio"})
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for r := rand.New(rand.NewPCG(rand.Uint64(), 0)); ctx.Err() == nil; {
						if err := stepAtRandom(d, r); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range 40 {
				require.Empty(t, damagesOf(t, d))
			}
			stop()
			all.Wait()
			require.Empty(t, damagesOf(t, d))
			invariant.Check(t, s)
		})
	}
}

// What nothing else in the store shows to be missing.
var missedByNobody = map[string]bool{
	"presence": true, "who is here": true, "last activity": true, "last uses": true, "access keys": true,
}

func TestVerifying_FindsEachRecordThatIsLostOrCannotBeRead(t *testing.T) {
	w := newWorld(t, false, denizen.Options{RootKeys: [][]byte{oldRoot}}, nil)
	require.Empty(t, damagesOf(t, w.Directory))
	put := func(b store.Batch) {
		_, err := w.inner.Commit(t.Context(), b)
		require.NoError(t, err)
	}
	seen := map[string]bool{}
	for _, r := range invariant.Of(t, w.inner).Records {
		kind, _ := record.Of(r.Key)
		seen[kind] = true
		put(store.Batch{Put: []store.Record{{Key: r.Key, Value: []byte(`{}`)}}})
		found := damagesOf(t, w.Directory)
		require.Len(t, found, 1, "%s", kind)
		require.Equal(t, []string{kind, "cannot be read"}, []string{found[0].Record, found[0].Reason})

		put(store.Batch{Drop: []store.Key{r.Key}})
		found = damagesOf(t, w.Directory)
		unused := r.Key == record.DefinitionKey(unusedAttribute)
		if missedByNobody[kind] || unused {
			require.Empty(t, found, "%s", kind)
		} else {
			require.NotEmpty(t, found, "%s", kind)
		}
		for _, damage := range found {
			require.NotContains(t, fmt.Sprint(damage), "example.org")
		}
		put(store.Batch{Put: []store.Record{r}})
		require.Empty(t, damagesOf(t, w.Directory))
	}
	for _, kind := range []string{"user", "locator's owner", "locator's unique form", "tokens", "token text", "profile", "directory", "signing keys", "access keys"} {
		require.True(t, seen[kind], kind)
	}
}

func TestVerifying_FindsWhatBelongsToAnother(t *testing.T) {
	w := newWorld(t, false, denizen.Options{RootKeys: [][]byte{oldRoot}}, nil)
	text := func(of store.Key) string {
		rs, err := w.inner.Get(t.Context(), of)
		require.NoError(t, err)
		return string(rs[0].Value)
	}
	alice, bob := string(w.alice), string(w.bob)
	for _, key := range []func(string) store.Key{record.UserKey, record.ProfileKey, record.TokensKey, record.DevicesKey} {
		was := text(key(bob))
		_, err := w.inner.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key(bob), Value: []byte(text(key(alice)))}}})
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(damagesOf(t, w.Directory)), "lies under the key of another")
		_, err = w.inner.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key(bob), Value: []byte(was)}}})
		require.NoError(t, err)
	}
	require.Empty(t, damagesOf(t, w.Directory))
}

func TestVerifying_FindsSecretsThatCannotBeOpenedAndDamagedEvents(t *testing.T) {
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
	require.NoError(t, err)
	defer s.Close()
	d := newOver(t, s, under(oldRoot))
	require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
	require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
	access, _ := sealedIn(t, s)
	access.Keys[0].Secret, access.Keys[1].Secret = access.Keys[1].Secret, access.Keys[0].Secret
	overwrite(t, s, record.AccessKeysKey, access)
	_, err = s.Commit(t.Context(), store.Batch{Emit: []byte(`{"what":"is this"}`)})
	require.NoError(t, err)
	const secret = "has a secret that cannot be opened"
	require.Equal(t, []verify.Damage{
		{Record: "access keys", Reason: secret},
		{Record: "event", Seq: 5, Reason: "cannot be read"},
	}, damagesOf(t, d))
}

func TestVerifying_EndsWithItsContextAndWhereItIsLeft(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-01")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, drained(verify.Directory(ctx, d, sys)), denizen.ErrUnavailable)
	})
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	for i := range 3 {
		id := fmt.Sprint("user-000", i)
		newUser(t, d, denizen.UserID(id))
		_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: record.UserKey(id), Value: []byte(`{}`)}}})
		require.NoError(t, err)
	}
	n := 0
	for range verify.Directory(t.Context(), d, sys) {
		n++
		break
	}
	require.Equal(t, 1, n)
}

// pagedUpon is a store that others write to right after each page was read.
type pagedUpon struct {
	shared
	meddle func()
}

func (s *pagedUpon) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	page, err := s.shared.List(ctx, r)
	if s.meddle != nil && r.Under == "" {
		s.meddle()
	}
	return page, err
}

func TestVerifying_ComparesWhatWasReadAgain(t *testing.T) {
	s := &pagedUpon{shared: shared{memory.New()}}
	d := newOver(t, s, denizen.Options{})
	_, err := d.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	s.meddle = func() {
		for range 20 {
			require.NoError(t, stepAtRandom(d, r))
		}
	}
	for range 100 {
		require.Empty(t, damagesOf(t, d))
	}
}

func TestVerifying_IsForTheSystemAlone(t *testing.T) {
	w := newWorld(t, false, denizen.Options{}, nil)
	for _, by := range []denizen.Principal{{}, w.byAlice, w.byAlicesDelegate} {
		err := drained(verify.Directory(t.Context(), w.Directory, by))
		requireRefused(t, err, "Verify", denizen.ErrDenied, "")
	}
	require.NoError(t, drained(verify.Directory(t.Context(), w.Directory, w.byKey)))
	require.NoError(t, w.DeleteAccessKey(t.Context(), sys, w.key.Key))
	requireRefused(t, drained(verify.Directory(t.Context(), w.Directory, w.byKey)), "Verify", denizen.ErrRevoked, "")
	require.NoError(t, w.Close())
	requireRefused(t, drained(verify.Directory(t.Context(), w.Directory, sys)), "Verify", denizen.ErrClosed, "")
}
