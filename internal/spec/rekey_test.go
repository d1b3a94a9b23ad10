package spec_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// sharedStore hides that a store is for one directory alone.
type sharedStore struct{ store.Store }

// The root keys of the script, by name.
var rootKeys = map[string][]byte{
	"none": []byte(denizen.NoRootKey), "a": []byte(strings.Repeat("a", 32)), "b": []byte(strings.Repeat("b", 32)),
}

// rekeyed is a process of the script.
type rekeyed struct {
	*denizen.Directory
	has []string
}

func opened(s store.Store, names []string) (*rekeyed, error) {
	var keys [][]byte
	for _, name := range names {
		keys = append(keys, rootKeys[name])
	}
	d, err := denizen.New(ctx, s, denizen.Options{RootKeys: keys})
	return &rekeyed{d, names}, err
}

// underIn returns what the stored secrets of a store begin with: one text for each key.
func underIn(t *testing.T, s store.Store) (all []string) {
	t.Helper()
	note := func(text string) {
		all = append(all, text[:strings.LastIndex(text, ":")])
	}
	records, err := s.Get(ctx, record.DirectoryKey, record.SigningKeysKey, record.AccessKeysKey)
	require.NoError(t, err)
	for _, r := range records {
		if r.Version == 0 {
			continue
		}
		value, err := record.DecodeStored(r)
		require.NoError(t, err)
		switch r := value.(type) {
		case *record.Directory:
			note(r.CursorKey)
		case *record.SigningKeys:
			for _, k := range r.Keys {
				note(k.Seed)
			}
		case *record.AccessKeys:
			for _, k := range r.Keys {
				note(k.Secret)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A random script of two processes that have some of the keys, against a model that is the name of
// the one key that everything is under.
func TestRekey_WhoeverHasTheKeyOfTheDirectoryGoesOnAndNobodyElseSeals(t *testing.T) {
	overEachStore(t, func(t *testing.T, s store.Store, _ func() []byte) {
		_, sole := s.(store.Sole)
		processes := 2
		if m, ok := s.(*memory.Store); ok {
			s, sole = sharedStore{m}, false
		}
		if sole {
			processes = 1
		}
		seed := rand.Uint64()
		t.Log("seed", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		under := "none"
		first, err := opened(s, nil)
		require.NoError(t, err)
		_, err = first.CreateUser(ctx, system, denizen.NewUser{ID: "alice-0001", ScreenName: "Alice"})
		require.NoError(t, err)
		known, err := first.CreateAccessKey(ctx, system)
		require.NoError(t, err)
		require.NoError(t, first.Close())
		ps := make([]*rekeyed, processes)
		defer func() {
			for _, p := range ps {
				if p != nil {
					require.NoError(t, p.Close())
				}
			}
		}()
		refusals := 0
		for range 800 {
			i := random.IntN(processes)
			p := ps[i]
			if p == nil || random.IntN(6) == 0 {
				if p != nil {
					require.NoError(t, p.Close())
				}
				names := []string{"none", "a", "b"}
				random.Shuffle(3, func(i, j int) { names[i], names[j] = names[j], names[i] })
				names = names[:1+random.IntN(3)]
				ps[i], err = opened(s, names)
				if !slices.Contains(names, under) {
					require.ErrorIs(t, err, denizen.ErrInvalid)
					ps[i] = nil
					continue
				}
				require.NoError(t, err)
				continue
			}
			has := slices.Contains(p.has, under)
			var failed error
			switch random.IntN(6) {
			case 0:
				if failed = p.Rekey(ctx, system); failed == nil {
					under = p.has[0]
				}
			case 1:
				key, err := p.CreateAccessKey(ctx, system)
				if failed = err; err == nil {
					_, err = p.AuthenticateKey(ctx, key.Key, key.Secret)
					require.NoError(t, err)
					require.NoError(t, p.DeleteAccessKey(ctx, system, key.Key))
				}
			case 2:
				failed = p.RotateSigningKey(ctx, system, 0)
				if errors.Is(failed, denizen.ErrLimited) {
					failed = nil
				}
			case 3:
				_, failed = p.AuthenticateKey(ctx, known.Key, known.Secret)
			case 4:
				_, failed = p.AuthenticateKey(ctx, "nobodys-key", known.Secret)
				if has {
					require.ErrorIs(t, failed, denizen.ErrUnauthenticated)
					failed = nil
				}
			case 5:
				var token denizen.IssuedToken
				if token, failed = p.IssueToken(ctx, system, "alice-0001", denizen.TokenOptions{}); failed == nil {
					_, err := p.Authenticate(ctx, token.Signed)
					require.NoError(t, err)
					require.NoError(t, p.RevokeAllTokens(ctx, system, "alice-0001"))
				}
			}
			if has {
				require.NoError(t, failed)
			} else {
				e := new(denizen.Error)
				require.ErrorAs(t, failed, &e)
				require.Equal(t, []any{denizen.ErrUnavailable, "RootKeys"}, []any{e.Kind, e.Field})
				refusals++
			}
			prefixes := underIn(t, s)
			require.Len(t, prefixes, 1, "everything is under one key")
			require.Equal(t, under == "none", prefixes[0] == "clear")
		}
		invariant.Check(t, s)
		if !sole {
			require.Positive(t, refusals)
		}
	})
}
