package denizen_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// Sealing

// withSecrets fills a store with secrets of every kind, and returns those that are known.
func withSecrets(t *testing.T, s store.Store, o denizen.Options) []string {
	t.Helper()
	d, err := denizen.New(t.Context(), s, o)
	require.NoError(t, err)
	newUser(t, d, "alice-user")
	require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
	key := newKey(t, d)
	require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
	signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
	byKey(t, d, key.Key, key.Secret)
	_, err = d.AuthenticateSigned(t.Context(), sign(signedNow("the-key-1", secretA)))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	return []string{secretA, key.Secret, signed}
}

func TestSeal_WithARootKeyNothingSecretLiesInTheClear(t *testing.T) {
	clear, sealed := memory.New(), memory.New()
	root := []byte("0123456789abcdef0123456789ABCDEF")
	found := map[bool]int{}
	for s, o := range map[*memory.Store]denizen.Options{clear: {}, sealed: {RootKeys: [][]byte{root}}} {
		secrets := withSecrets(t, s, o)
		all := invariant.Of(t, s)
		var text strings.Builder
		for _, r := range all.Records {
			text.WriteString(string(r.Key) + "\n" + string(r.Value) + "\n")
		}
		for _, c := range all.Feed.Changes {
			text.WriteString(string(c.Event) + "\n")
		}
		for _, secret := range secrets {
			forms := []string{secret}
			if raw, err := base64.StdEncoding.DecodeString(secret); err == nil {
				forms = append(forms, string(raw), hex.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw))
			}
			for _, form := range forms {
				if strings.Contains(text.String(), form) {
					found[s == sealed]++
				}
			}
		}
		found[s == sealed] += strings.Count(text.String(), `"clear:`)
		require.NotContains(t, text.String(), string(root))
		require.NotContains(t, text.String(), base64.StdEncoding.EncodeToString(root))
	}
	require.Zero(t, found[true])
	require.NotZero(t, found[false]) // without one they do, so that the search can find something
}

func TestSeal_OnlyTheRootKeyOfADirectoryOpensIt(t *testing.T) {
	root, other := []byte(strings.Repeat("r", 32)), []byte(strings.Repeat("s", 32))
	for _, row := range []struct {
		made, opened [][]byte
		reason       string
	}{
		{[][]byte{root}, nil, "that of this directory is not among them"},
		{[][]byte{root}, [][]byte{[]byte(denizen.NoRootKey)}, "that of this directory is not among them"},
		{nil, [][]byte{root}, "this directory has none, and NoRootKey is not among them"},
		{[][]byte{root}, [][]byte{other}, "that of this directory is not among them"},
		{[][]byte{root, other}, [][]byte{other, []byte(denizen.NoRootKey)}, "that of this directory is not among them"},
		{[][]byte{root}, [][]byte{make([]byte, 32)}, "that of this directory is not among them"},
	} {
		for _, s := range []store.Store{memory.New(), shared{memory.New()}} {
			secrets := withSecrets(t, s, denizen.Options{RootKeys: row.made})
			before := invariant.Of(t, s)
			for range 2 { // a refused one does not hold the store
				_, err := denizen.New(t.Context(), s, denizen.Options{RootKeys: row.opened})
				requireRefusal(t, err, denizen.Error{Op: "New", Kind: denizen.ErrInvalid, Field: "RootKeys", Reason: row.reason})
			}
			require.Equal(t, before, invariant.Of(t, s))
			d, err := denizen.New(t.Context(), s, denizen.Options{RootKeys: row.made})
			require.NoError(t, err)
			byKey(t, d, "the-key-1", secretA)
			require.NoError(t, authenticated(t, d, secrets[2]))
			require.NoError(t, d.Close())
		}
	}
}

func TestSeal_ARootKeyMayBeOverwrittenAfterwards(t *testing.T) {
	s := memory.New()
	root := []byte(strings.Repeat("r", 32))
	d, err := denizen.New(t.Context(), s, denizen.Options{RootKeys: [][]byte{root}})
	require.NoError(t, err)
	clear(root)
	key := newKey(t, d)
	require.NoError(t, d.Close())
	d, err = denizen.New(t.Context(), s, denizen.Options{RootKeys: [][]byte{[]byte(strings.Repeat("r", 32))}})
	require.NoError(t, err)
	byKey(t, d, key.Key, key.Secret)
	require.NoError(t, d.Close())
}

// sealedIn returns records of a store that hold something sealed, decoded.
func sealedIn(t *testing.T, s store.Store) (*record.AccessKeys, *record.SigningKeys) {
	t.Helper()
	rs, err := s.Get(t.Context(), record.AccessKeysKey, record.SigningKeysKey)
	require.NoError(t, err)
	keys, err := record.Decode(rs[0].Key, rs[0].Value)
	require.NoError(t, err)
	ring, err := record.Decode(rs[1].Key, rs[1].Value)
	require.NoError(t, err)
	return keys.(*record.AccessKeys), ring.(*record.SigningKeys)
}

func overwrite(t *testing.T, s store.Store, key store.Key, r record.Record) {
	t.Helper()
	_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key, Value: record.Encode(r)}}})
	require.NoError(t, err)
}

func TestSeal_WhatIsSealedIsBoundToItsDirectoryAndPurpose(t *testing.T) {
	root := []byte(strings.Repeat("r", 32))
	make := func(t *testing.T) (store.Store, *denizen.Directory) {
		s := shared{memory.New()}
		d := newOver(t, s, denizen.Options{RootKeys: [][]byte{root}})
		newUser(t, d, "alice-user")
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		return s, d
	}
	unusable := func(t *testing.T, d *denizen.Directory, kind error, field string) {
		t.Helper()
		for _, key := range []string{"the-key-1", "the-key-2"} {
			for _, secret := range []string{secretA, secretB} {
				_, err := d.AuthenticateKey(t.Context(), key, secret)
				requireRefused(t, err, "AuthenticateKey", kind, field)
				_, err = d.AuthenticateSigned(t.Context(), sign(signedNow(key, secret)))
				requireRefused(t, err, "AuthenticateSigned", kind, field)
			}
		}
	}
	t.Run("swapped", func(t *testing.T) {
		s, d := make(t)
		keys, _ := sealedIn(t, s)
		keys.Keys[0].Secret, keys.Keys[1].Secret = keys.Keys[1].Secret, keys.Keys[0].Secret
		overwrite(t, s, record.AccessKeysKey, keys)
		unusable(t, d, denizen.ErrCorrupt, "")
	})
	t.Run("a signing key as a secret", func(t *testing.T) {
		s, d := make(t)
		keys, ring := sealedIn(t, s)
		keys.Keys[0].Secret, keys.Keys[1].Secret = ring.Keys[0].Seed, ring.Keys[1].Seed
		overwrite(t, s, record.AccessKeysKey, keys)
		unusable(t, d, denizen.ErrCorrupt, "")
	})
	t.Run("of another directory", func(t *testing.T) {
		s, d := make(t)
		other, _ := make(t)
		keys, _ := sealedIn(t, other)
		overwrite(t, s, record.AccessKeysKey, keys)
		unusable(t, d, denizen.ErrCorrupt, "")
	})
	t.Run("in the clear", func(t *testing.T) {
		s, d := make(t)
		keys, _ := sealedIn(t, s)
		keys.Keys[0].Secret, keys.Keys[1].Secret = "clear:"+secretA, "clear:"+secretB
		overwrite(t, s, record.AccessKeysKey, keys)
		unusable(t, d, denizen.ErrUnavailable, "RootKeys")
	})
	t.Run("cut short", func(t *testing.T) {
		s, d := make(t)
		keys, _ := sealedIn(t, s)
		end := strings.LastIndex(keys.Keys[0].Secret, ":") + 1
		keys.Keys[0].Secret, keys.Keys[1].Secret = keys.Keys[0].Secret[:end], keys.Keys[1].Secret[:end]+"AAAA"
		overwrite(t, s, record.AccessKeysKey, keys)
		unusable(t, d, denizen.ErrCorrupt, "")
	})
	t.Run("swapped signing keys", func(t *testing.T) {
		s, d := make(t)
		_, ring := sealedIn(t, s)
		ring.Keys[0].Seed, ring.Keys[1].Seed = ring.Keys[1].Seed, ring.Keys[0].Seed
		overwrite(t, s, record.SigningKeysKey, ring)
		_, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{})
		requireRefused(t, err, "IssueToken", denizen.ErrCorrupt, "")
		_, err = d.PublicKeys(t.Context())
		requireRefused(t, err, "PublicKeys", denizen.ErrCorrupt, "")
	})
}
