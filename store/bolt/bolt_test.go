package bolt_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
)

func TestTheContractHolds(t *testing.T) {
	var paths sync.Map // store → path
	open := func(t testing.TB, path string) store.Store {
		t.Helper()
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err)
		paths.Store(s, path)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	storetest.Run(t, storetest.Harness{
		New: func(t testing.TB) store.Store {
			t.Helper()
			return open(t, filepath.Join(long.Dir(t), "people.db"))
		},
		Reopen: func(t testing.TB, s store.Store) store.Store {
			t.Helper()
			require.NoError(t, s.Close())
			path, _ := paths.Load(s)
			return open(t, path.(string))
		},
		Damage: func(t testing.TB, s store.Store, key store.Key) {
			require.NoError(t, s.(*bolt.Store).Damage(key))
		},
		DamageEvent: func(t testing.TB, s store.Store, seq store.Seq) {
			require.NoError(t, s.(*bolt.Store).DamageEvent(seq))
		},
	})
}
