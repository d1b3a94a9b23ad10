package salvage_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/salvage"
	"github.com/denizenhq/denizen/locator/username"
	"github.com/denizenhq/denizen/store/bolt"
)

const users = 60

func options(t testing.TB) denizen.Options {
	t.Helper()
	names, err := username.Rule(username.Options{})
	require.NoError(t, err)
	return denizen.Options{LocatorTypes: []denizen.LocatorRule{names}}
}

func id(i int) denizen.UserID { return denizen.UserID(fmt.Sprintf("person-%03d", i)) }

// directory makes a directory in a file, and returns the file and a token of each user; those of
// every third were revoked.
func directory(t testing.TB) (file []byte, tokens []string) {
	t.Helper()
	ctx, sys := context.Background(), denizen.System()
	name := filepath.Join(long.Dir(t), "people.db")
	d, err := denizen.Open(ctx, name, options(t))
	require.NoError(t, err)
	_, err = d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	for i := range users {
		_, err := d.CreateUser(ctx, sys, denizen.NewUser{
			ID: id(i), ScreenName: fmt.Sprint("Person ", i),
			Locators: []denizen.NewLocator{
				denizen.Email(fmt.Sprintf("person%d@example.org", i)), {Locator: fmt.Sprintf("username:person-number-%d", i)},
			},
			Attributes: []denizen.Attribute{{Key: "bio", Value: fmt.Sprintf("%0*d", 10+i*i%900, i)}},
		})
		require.NoError(t, err)
		issued, err := d.IssueToken(ctx, sys, id(i), denizen.TokenOptions{})
		require.NoError(t, err)
		tokens = append(tokens, issued.Signed)
		require.NoError(t, d.SetPresence(ctx, sys, id(i), denizen.Online(time.Hour)))
		if i%3 == 0 {
			require.NoError(t, d.RevokeAllTokens(ctx, sys, id(i)))
		}
	}
	_, err = d.CreateUser(ctx, sys, denizen.NewUser{ID: "merged-00", ScreenName: "Merged"})
	require.NoError(t, err)
	_, err = d.MergeUsers(ctx, sys, "merged-00", id(1), denizen.MergePolicy{Alias: denizen.Forever})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	file, err = os.ReadFile(name)
	require.NoError(t, err)
	return file, tokens
}

func write(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(long.Dir(t), "people.db")
	require.NoError(t, os.WriteFile(name, content, 0o600))
	return name
}

func TestASalvagedDirectoryFitsTogetherAndRevivesNoToken(t *testing.T) {
	whole, tokens := directory(t)
	ctx, sys, used := t.Context(), denizen.System(), usedPart(t, whole)
	unusable, rebuilt, orphans := 0, 0, 0
	for n := range long.Of(40, 100) {
		rng := rand.New(rand.NewPCG(uint64(n), 9))
		file := slices.Clone(whole)
		for range 1 + n%3 {
			from := 2*os.Getpagesize() + rng.IntN(used-2*os.Getpagesize())
			for i := from; i < min(from+1+rng.IntN(300), used); i++ {
				file[i] = byte(rng.Uint32())
			}
		}
		from := write(t, file)
		to := filepath.Join(filepath.Dir(from), "salvaged.db")
		lost, pages := map[string]bool{}, map[uint64]bool{}
		named := func(page uint64) bool { return pages[page] }
		strays := n%2 == 0
		r, err := salvage.File(ctx, from, to, salvage.Options{Strays: strays, Lost: func(l salvage.Lost) {
			lost[l.Kind+" "+l.ID] = true
			pages[l.Page] = true // by another kind or id where a key is damaged
		}})
		require.NoError(t, err)
		rebuilt, orphans = rebuilt+r.Rebuilt, orphans+r.Orphans
		s, err := bolt.Open(ctx, to, bolt.Options{})
		require.NoError(t, err)
		for i := range users {
			found, err := s.Get(ctx, record.UserKey(string(id(i))))
			require.NoError(t, err)
			if found[0].Version != 0 {
				continue
			}
			home := homes(whole, fmt.Sprintf(`"screenName":"Person %d"`, i))
			touched := func(page uint64) bool {
				from := int(page) * os.Getpagesize()
				to := min(from+os.Getpagesize(), len(whole))
				return !bytes.Equal(whole[from:to], file[from:to])
			}
			require.True(t, !strays || slices.ContainsFunc(home, touched), "%s was not touched: file %d", id(i), n)
			require.True(t, lost["user "+string(id(i))] || slices.ContainsFunc(home, named),
				"%s is gone without a word: file %d, %v", id(i), n, lost)
		}
		if r.Unusable {
			unusable++
			own := slices.Concat(homes(whole, `{"kind":"directory"`), homes(whole, `{"kind":"signingKeys"`))
			require.True(t, lost["directory "] || lost["signing keys "] || slices.ContainsFunc(own, named), "%v", lost)
			require.NoError(t, s.Close())
			continue
		}
		if !r.Doubtful {
			requireFitting(t, s)
		}
		d, err := denizen.New(ctx, s, options(t))
		require.NoError(t, err)
		for i := range users {
			by, err := d.Authenticate(ctx, tokens[i])
			if i%3 == 0 {
				require.Error(t, err, "it was revoked")
			} else if err == nil {
				require.Equal(t, id(i), by.User())
				require.NoError(t, d.RevokeAllTokens(ctx, sys, id(i)))
				_, err = d.Authenticate(ctx, tokens[i])
				require.ErrorIs(t, err, denizen.ErrRevoked, "what can be used can be revoked")
			}
			u, err := d.User(ctx, sys, id(i))
			if err != nil {
				require.ErrorIs(t, err, denizen.ErrNotFound)
				_, err = d.CreateUser(ctx, sys, denizen.NewUser{ID: id(i), ScreenName: "Somebody else"})
				require.NoError(t, err)
				p, err := d.Profile(ctx, sys, id(i))
				require.NoError(t, err)
				require.Empty(t, p.Attributes, "nobody inherits")
				continue
			}
			owners, err := d.Locate(ctx, sys, u.Locators[0].String(), u.Locators[1].String())
			require.NoError(t, err)
			require.Equal(t, []denizen.UserID{id(i), id(i)}, owners)
		}
		require.NoError(t, d.Close())
		require.NoError(t, s.Close())
	}
	require.Positive(t, rebuilt)
	require.Positive(t, orphans)
	t.Logf("%d keys made anew, %d orphans, %d files without a directory", rebuilt, orphans, unusable)
}

// homes returns the pages of a file that a record with a text in it lies in, or lay in.
func homes(file []byte, text string) (pages []uint64) {
	for at := 0; ; at++ {
		next := bytes.Index(file[at:], []byte(text))
		if next < 0 {
			return pages
		}
		at += next
		pages = append(pages, uint64(at/os.Getpagesize()))
	}
}

// requireFitting requires that each key that leads to a user is that user's, both ways.
func requireFitting(t testing.TB, s *bolt.Store) {
	t.Helper()
	found := map[string]any{}
	for _, r := range invariant.Of(t, s).Records {
		value, err := record.DecodeStored(r)
		require.NoError(t, err)
		found[string(r.Key)] = value
	}
	for _, value := range found {
		switch r := value.(type) {
		case *record.User:
			for _, l := range r.Locators {
				require.NotNil(t, found[string(record.OwnerKey(l.Type+":"+l.Canonical))])
			}
		case *record.Owner:
			u, _ := found[string(record.UserKey(r.User))].(*record.User)
			require.True(t, u != nil && u.Owns(r.Locator))
		case *record.Profile:
			require.NotNil(t, found[string(record.UserKey(r.User))])
			require.NotNil(t, found[string(record.AttributeRefKey("bio", r.User))])
		case *record.Devices:
			require.NotNil(t, found[string(record.UserKey(r.User))])
		case *record.TokenText:
			require.NotNil(t, found[string(record.TokensKey(r.User))])
		case *record.Alias:
			require.NotNil(t, found[string(record.UserKey(r.User))])
		}
	}
}

// usedPart returns how much of a file its pages take: the rest is kept back for a full disk.
func usedPart(t testing.TB, file []byte) int {
	t.Helper()
	used := len(file)
	for used > 0 && file[used-1] == 0 {
		used--
	}
	return used
}

func TestWhatWasLostIsNamedByKindAndUser(t *testing.T) {
	whole, _ := directory(t)
	for text, want := range map[string]salvage.Lost{
		`"screenName":"Person 7"`:                   {Reason: "damaged", Kind: "user", ID: "person-007"},
		`{"kind":"definition"`:                      {Reason: "damaged", Kind: "attribute definition", ID: "bio"},
		`{"kind":"owner","locator":"email:person9@`: {Reason: "damaged", Kind: "locator's owner"},
	} {
		file := slices.Clone(whole)
		for i := 0; i+len(text) <= len(file); i++ {
			if string(file[i:i+len(text)]) == text {
				file[i+3] ^= 1
			}
		}
		from := write(t, file)
		var lost []salvage.Lost
		_, err := salvage.File(t.Context(), from, from+".new", salvage.Options{Lost: func(l salvage.Lost) {
			if l.Page = 0; l.Kind != "event" {
				lost = append(lost, l)
			}
		}})
		require.NoError(t, err)
		require.Contains(t, lost, want)
		require.NotContains(t, fmt.Sprint(lost), "@", "no locator is named")
	}
}
