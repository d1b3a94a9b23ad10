package denizen_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// Rekey

var (
	oldRoot = []byte(strings.Repeat("o", 32))
	newRoot = []byte(strings.Repeat("n", 32))
	noRoot  = []byte(denizen.NoRootKey)
)

func under(keys ...[]byte) denizen.Options { return denizen.Options{RootKeys: keys} }

func TestOperating_AfterARekeyTheOldKeyIsNotNeeded(t *testing.T) {
	for name, row := range map[string]struct{ from, to []byte }{
		"another key": {oldRoot, newRoot}, "a first key": {noRoot, newRoot}, "no key any more": {oldRoot, noRoot},
	} {
		t.Run(name, func(t *testing.T) {
			s := memory.New()
			secrets := withSecrets(t, s, under(row.from))
			d, err := denizen.New(t.Context(), s, under(row.to, row.from))
			require.NoError(t, err)
			keys, err := d.PublicKeys(t.Context())
			require.NoError(t, err)
			newUser(t, d, "bob-user")
			page, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: 1})
			require.NoError(t, err)
			newKey(t, d)
			sealedAs := func() string {
				access, _ := sealedIn(t, s)
				return access.Keys[len(access.Keys)-1].Secret
			}
			before := sealedAs()
			require.NoError(t, d.Rekey(t.Context(), sys))
			require.NotEqual(t, before[:strings.LastIndex(before, ":")], sealedAs()[:strings.LastIndex(sealedAs(), ":")])
			all := invariant.Of(t, s)
			require.NoError(t, d.Rekey(t.Context(), sys))
			require.Equal(t, all, invariant.Of(t, s), "there is nothing left to seal")
			require.NoError(t, d.Close())
			_, err = denizen.New(t.Context(), s, under(row.from))
			requireField(t, err, denizen.ErrInvalid, "RootKeys")
			d, err = denizen.New(t.Context(), s, under(row.to))
			require.NoError(t, err)
			byKey(t, d, "the-key-1", secretA)
			require.NoError(t, authenticated(t, d, secrets[2]))
			same, err := d.PublicKeys(t.Context())
			require.NoError(t, err)
			require.Equal(t, keys.IDs(), same.IDs())
			_, err = d.Users(t.Context(), sys, denizen.UserQuery{After: page.Next})
			require.NoError(t, err, "cursors are good")
			events := eventsAfter(t, d, 0)
			require.Equal(t, denizen.EventDirectoryRekeyed, events[len(events)-1].Kind)
			require.NoError(t, d.Close())
			invariant.Check(t, s)
		})
	}
}

// Earlier versions wrote no id of the key.
func withoutIDs(t *testing.T, s store.Store) {
	t.Helper()
	strip := func(text *string) {
		parts := strings.Split(*text, ":")
		require.Len(t, parts, 3)
		*text = parts[0] + ":" + parts[2]
	}
	access, ring := sealedIn(t, s)
	for i := range access.Keys {
		strip(&access.Keys[i].Secret)
	}
	for i := range ring.Keys {
		strip(&ring.Keys[i].Seed)
	}
	rs, err := s.Get(t.Context(), record.DirectoryKey)
	require.NoError(t, err)
	value, err := record.DecodeStored(rs[0])
	require.NoError(t, err)
	own := value.(*record.Directory)
	strip(&own.CursorKey)
	overwrite(t, s, record.AccessKeysKey, access)
	overwrite(t, s, record.SigningKeysKey, ring)
	overwrite(t, s, record.DirectoryKey, own)
}

func TestOperating_WhatWasSealedBeforeTextsNamedTheirKeyIsOpenedAndRekeyed(t *testing.T) {
	s := memory.New()
	withSecrets(t, s, under(oldRoot))
	withoutIDs(t, s)
	_, err := denizen.New(t.Context(), s, under(newRoot))
	requireField(t, err, denizen.ErrInvalid, "RootKeys")
	for _, keys := range [][][]byte{{oldRoot}, {noRoot, oldRoot}, {newRoot, oldRoot}} {
		d, err := denizen.New(t.Context(), s, under(keys...))
		require.NoError(t, err)
		byKey(t, d, "the-key-1", secretA)
		newToken(t, d, "alice-user", denizen.TokenOptions{})
		require.NoError(t, d.Close())
	}
	d, err := denizen.New(t.Context(), s, under(oldRoot))
	require.NoError(t, err)
	require.NoError(t, d.Rekey(t.Context(), sys), "under the same key, and named")
	require.NoError(t, d.Close())
	access, ring := sealedIn(t, s)
	require.Equal(t, 2, strings.Count(access.Keys[0].Secret, ":"))
	require.Equal(t, 2, strings.Count(ring.Keys[0].Seed, ":"))
}

func TestOperating_ARekeyIsRefusedIfASecretCannotBeRead(t *testing.T) {
	s := memory.New()
	withSecrets(t, s, under(oldRoot))
	access, _ := sealedIn(t, s)
	end := strings.LastIndex(access.Keys[0].Secret, ":") + 1
	zeros := make([]byte, chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead)
	access.Keys[0].Secret = access.Keys[0].Secret[:end] + base64.StdEncoding.EncodeToString(zeros)
	overwrite(t, s, record.AccessKeysKey, access)
	d, err := denizen.New(t.Context(), s, under(newRoot, oldRoot))
	require.NoError(t, err)
	defer d.Close()
	before := invariant.Of(t, s)
	require.ErrorIs(t, d.Rekey(t.Context(), sys), denizen.ErrCorrupt)
	require.Equal(t, before, invariant.Of(t, s))
	require.NoError(t, d.DeleteAccessKey(t.Context(), sys, access.Keys[0].Key))
	require.NoError(t, d.Rekey(t.Context(), sys))
}

// Whoever makes access keys while others rekey makes them under the key that counts.
func TestOperating_ARekeyRacesWithWhoSeals(t *testing.T) {
	s := shared{memory.New()}
	a, b := newOver(t, s, under(oldRoot, newRoot)), newOver(t, s, under(newRoot, oldRoot))
	for _, err := range atOnce(96, func(i int) error {
		switch i % 6 {
		case 0:
			return a.Rekey(context.Background(), sys)
		case 1:
			return b.Rekey(context.Background(), sys)
		case 2:
			return a.RotateSigningKey(context.Background(), sys, 0)
		}
		key, err := b.CreateAccessKey(context.Background(), sys)
		if err != nil {
			return err
		}
		return a.DeleteAccessKey(context.Background(), sys, key.Key)
	}) {
		if err != nil {
			e := new(denizen.Error)
			require.ErrorAs(t, err, &e)
			require.Contains(t, []error{denizen.ErrConflict, denizen.ErrLimited}, e.Kind)
		}
	}
	access, ring := sealedIn(t, s)
	prefix := ring.Keys[0].Seed[:strings.LastIndex(ring.Keys[0].Seed, ":")]
	for _, k := range ring.Keys {
		require.True(t, strings.HasPrefix(k.Seed, prefix))
	}
	for _, k := range access.Keys {
		require.True(t, strings.HasPrefix(k.Secret, prefix))
	}
	invariant.Check(t, s)
}

func TestOperating_ARekeyIsDoneOrNotDoneHoweverItIsKilled(t *testing.T) {
	if path := os.Getenv(crashChild); path != "" {
		rekeyUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "crash.db")
	d, err := denizen.Open(t.Context(), path, under(oldRoot))
	require.NoError(t, err)
	newUser(t, d, "alice-user")
	require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
	signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
	require.NoError(t, d.Close())
	done := 0
	for round := range crashRounds(t) {
		now := ""
		killAChild(t, path, func(what, rest string) bool {
			if what == "under" {
				now = rest
				done++
			}
			return what == "under"
		})
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err, "round %d", round)
		opens := 0
		for name, key := range crashRoots {
			d, err := denizen.New(t.Context(), s, under(key))
			if err != nil {
				requireField(t, err, denizen.ErrInvalid, "RootKeys")
				continue
			}
			opens++
			byKey(t, d, "the-key-1", secretA)
			require.NoError(t, authenticated(t, d, signed))
			newToken(t, d, "alice-user", denizen.TokenOptions{})
			require.NoError(t, d.Close())
			t.Log("round", round, "said", now, "is", name)
		}
		require.Equal(t, 1, opens, "it is under one key")
		invariant.Check(t, s)
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Close())
	}
	require.Positive(t, done)
}

var crashRoots = map[string][]byte{"old": oldRoot, "new": newRoot, "none": noRoot}

// rekeyUntilKilled is the child: it rekeys again and again.
func rekeyUntilKilled(path string) {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	for err == nil {
		for name, first := range crashRoots {
			keys := [][]byte{first}
			for other, key := range crashRoots {
				if other != name {
					keys = append(keys, key)
				}
			}
			var d *denizen.Directory
			if d, err = denizen.New(ctx, s, under(keys...)); err != nil {
				break
			}
			if err = d.Rekey(ctx, sys); err != nil {
				break
			}
			fmt.Println("under", name)
			if err = d.Close(); err != nil {
				break
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
