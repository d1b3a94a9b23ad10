package denizen_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/stretchr/testify/require"
)

// Secrets of access keys, of 32 bytes.
var (
	secretA = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	secretB = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("b", 32)))
)

func newKey(t testing.TB, d *denizen.Directory) denizen.NewAccessKey {
	t.Helper()
	key, err := d.CreateAccessKey(context.Background(), sys)
	require.NoError(t, err)
	return key
}

func byKey(t testing.TB, d *denizen.Directory, key, secret string) denizen.Principal {
	t.Helper()
	by, err := d.AuthenticateKey(context.Background(), key, secret)
	require.NoError(t, err)
	return by
}

func TestKeys_AnAccessKeyIsTheApplication(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		key := newKey(t, d)
		raw, err := base64.StdEncoding.Strict().DecodeString(key.Secret)
		require.NoError(t, err)
		require.Len(t, raw, 32)
		by := byKey(t, d, key.Key, key.Secret)
		require.True(t, by.IsSystem())
		require.Equal(t, key.Key, by.AccessKey())
		_, err = d.CreateUser(t.Context(), by, denizen.NewUser{ID: "alice-user", ScreenName: "Alice"})
		require.NoError(t, err)
		another := newKey(t, d)
		require.NotEqual(t, key.Key, another.Key)
		require.NotEqual(t, key.Secret, another.Secret)
	})
}

func TestKeys_OnlyAnAccessKeyWithItsSecretIsTheApplication(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		refused := func(key, secret string) {
			t.Helper()
			by, err := d.AuthenticateKey(t.Context(), key, secret)
			requireRefused(t, err, "AuthenticateKey", denizen.ErrUnauthenticated, "accessKey")
			require.Equal(t, "denizen: AuthenticateKey: accessKey: unauthenticated", err.Error()) // the same for all
			require.Equal(t, denizen.Principal{}, by)
		}
		refused("no-keys-yet", secretA)
		refused("", "")
		key, other := newKey(t, d), newKey(t, d)
		for i := range key.Secret {
			refused(key.Key, key.Secret[:i])
			refused(key.Key, key.Secret[:i]+"!"+key.Secret[i+1:])
		}
		// The last character but one of 32 bytes in base64 holds two bits that mean nothing.
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
			if secret := key.Secret[:42] + string(c) + "="; secret != key.Secret {
				refused(key.Key, secret)
			}
		}
		raw, _ := base64.StdEncoding.DecodeString(key.Secret)
		for _, secret := range []string{
			"", "=", key.Secret + "=", key.Secret + "\n", " " + key.Secret, strings.TrimRight(key.Secret, "="),
			base64.URLEncoding.EncodeToString(raw) + "-", hex.EncodeToString(raw), string(raw), strings.ToLower(key.Secret), other.Secret,
			strings.Repeat("A", 1<<16),
		} {
			refused(key.Key, secret)
		}
		for _, id := range []string{"", strings.ToLower(key.Key), key.Key + " ", key.Key[1:], other.Key, ".system", key.Key + "\x00"} {
			refused(id, key.Secret)
		}
		byKey(t, d, key.Key, key.Secret)
	})
}

func TestKeys_PuttingAnAccessKeyAgainChangesNothing(t *testing.T) {
	overStores(t, denizen.Options{RootKeys: [][]byte{make([]byte, 32)}}, func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		by := byKey(t, d, "the-key-1", secretA)
		before := eventsAfter(t, d, 0)
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		err := d.PutAccessKey(t.Context(), sys, "the-key-1", secretB)
		requireRefused(t, err, "PutAccessKey", denizen.ErrTaken, "accessKey")
		require.Equal(t, before, eventsAfter(t, d, 0))
		_, err = d.CountUsers(t.Context(), by) // a principal that rests on it goes on
		require.NoError(t, err)
		_, err = d.AuthenticateKey(t.Context(), "the-key-1", secretB)
		require.ErrorIs(t, err, denizen.ErrUnauthenticated)
	})
}

func TestKeys_AnAccessKeyThatIsPutIsJudged(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	long := base64.StdEncoding.EncodeToString(make([]byte, 1024))
	for _, row := range []struct{ key, secret, field string }{
		{"12345678", secretA, ""},
		{strings.Repeat("k", 128), long, ""},
		{"Az09._-Az", secretA, ""},
		{"1234567", secretA, "accessKey"},
		{strings.Repeat("k", 129), secretA, "accessKey"},
		{"", secretA, "accessKey"},
		{"the key 1", secretA, "accessKey"},
		{"the:key:1", secretA, "accessKey"},
		{"thé-key-1", secretA, "accessKey"},
		{"the-key-1\n", secretA, "accessKey"},
		{"the-key-1\xff", secretA, "accessKey"},
		{"the-key-1", "", "accessSecret"},
		{"the-key-1", base64.StdEncoding.EncodeToString(make([]byte, 31)), "accessSecret"},
		{"the-key-1", base64.StdEncoding.EncodeToString(make([]byte, 1025)), "accessSecret"},
		{"the-key-1", strings.TrimRight(secretA, "="), "accessSecret"},
		{"the-key-1", secretA + "\n", "accessSecret"},
		{"the-key-1", base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 33))), "accessSecret"},
		{"the-key-1", secretA[:42] + "b=", "accessSecret"}, // bits that mean nothing
	} {
		err := d.PutAccessKey(t.Context(), sys, row.key, row.secret)
		if row.field == "" {
			require.NoError(t, err)
			byKey(t, d, row.key, row.secret)
			require.NoError(t, d.DeleteAccessKey(t.Context(), sys, row.key))
		} else {
			requireRefused(t, err, "PutAccessKey", denizen.ErrInvalid, row.field)
		}
	}
}

func TestKeys_ThreeAccessKeysLiveAtMost(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := d.CreateAccessKey(t.Context(), sys); err != nil && kindOf(t, err) != denizen.ErrLimited {
					t.Error(err)
				}
			})
		}
		all.Wait()
		keys, err := d.AccessKeys(t.Context(), sys)
		require.NoError(t, err)
		require.Len(t, keys, denizen.MaxAccessKeys)
		_, err = d.CreateAccessKey(t.Context(), sys)
		requireRefused(t, err, "CreateAccessKey", denizen.ErrLimited, "accessKey")
		err = d.PutAccessKey(t.Context(), sys, "the-key-1", secretA)
		requireRefused(t, err, "PutAccessKey", denizen.ErrLimited, "accessKey")
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, keys[1].Key))
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA)) // not one more
		left, err := d.AccessKeys(t.Context(), sys)
		require.NoError(t, err)
		require.Equal(t, []string{keys[0].Key, keys[2].Key, "the-key-1"}, []string{left[0].Key, left[1].Key, left[2].Key})
	})
}

func TestKeys_AnAccessKeyThatWasRefusedIsNotAnswered(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for range denizen.MaxAccessKeys {
		newKey(t, d)
	}
	key, err := d.CreateAccessKey(t.Context(), sys)
	require.Error(t, err)
	require.Zero(t, key)
}

func TestKeys_TheListTellsWhenAndForWhatAKeyWasLastUsed(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		d := open(denizen.Options{})
		keys, err := d.AccessKeys(t.Context(), sys)
		require.NoError(t, err)
		require.Equal(t, []denizen.AccessKey{}, keys)
		start := time.Now().UTC()
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		time.Sleep(time.Second)
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-2", secretB))
		want := []denizen.AccessKey{{Key: "the-key-1", CreatedAt: start}, {Key: "the-key-2", CreatedAt: start.Add(time.Second)}}
		check := func() {
			t.Helper()
			keys, err := d.AccessKeys(t.Context(), sys)
			require.NoError(t, err)
			require.Equal(t, want, keys)
		}
		check()
		_, err = d.AuthenticateKey(t.Context(), "the-key-1", secretB) // is no use
		require.Error(t, err)
		check()
		time.Sleep(10 * time.Minute)
		byKey(t, d, "the-key-1", secretA)
		want[0].LastUsedAt, want[0].LastAction = time.Now().UTC(), "Basic"
		check()
		time.Sleep(time.Hour)
		check()
		_, err = d.AuthenticateSigned(t.Context(), sign(signedNow("the-key-2", secretB)))
		require.NoError(t, err)
		want[1].LastUsedAt, want[1].LastAction = time.Now().UTC(), "Signed"
		check()
		require.NoError(t, d.Close())
		d = open(denizen.Options{})
		check()
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, "the-key-1"))
		time.Sleep(time.Second)
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-3", secretA))
		want = []denizen.AccessKey{want[1], {Key: "the-key-3", CreatedAt: time.Now().UTC()}}
		check()
	})
}

func TestKeys_ADeletedAccessKeyEndsAllThatCameWithItAtOnce(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		d := open(denizen.Options{})
		newUser(t, d, "alice-user")
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		by := byKey(t, d, "the-key-1", secretA)
		acting, err := d.ActAs(t.Context(), by, "alice-user")
		require.NoError(t, err)
		issued, err := d.IssueToken(t.Context(), by, "alice-user", denizen.TokenOptions{})
		require.NoError(t, err)
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, "the-key-1"))
		check := func() {
			t.Helper()
			_, err := d.CountUsers(t.Context(), by)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			_, err = d.CreateAccessKey(t.Context(), by)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			_, err = d.ActAs(t.Context(), by, "alice-user")
			require.ErrorIs(t, err, denizen.ErrRevoked)
			_, err = d.User(t.Context(), acting, "alice-user")
			require.ErrorIs(t, err, denizen.ErrRevoked)
			_, err = d.SetScreenName(t.Context(), acting, "alice-user", "Alice")
			require.ErrorIs(t, err, denizen.ErrRevoked)
			require.NoError(t, authenticated(t, d, issued.Signed)) // tokens stay
		}
		_, err = d.AuthenticateKey(t.Context(), "the-key-1", secretA)
		require.ErrorIs(t, err, denizen.ErrUnauthenticated)
		_, err = d.AuthenticateSigned(t.Context(), sign(signedNow("the-key-1", secretA)))
		require.ErrorIs(t, err, denizen.ErrUnauthenticated)
		check()
		// A host that puts the key whenever it starts does not bring it back.
		for range 2 {
			err = d.PutAccessKey(t.Context(), sys, "the-key-1", secretA)
			requireRefused(t, err, "PutAccessKey", denizen.ErrRevoked, "accessKey")
			check()
			keys, err := d.AccessKeys(t.Context(), sys)
			require.NoError(t, err)
			require.Empty(t, keys)
			require.NoError(t, d.Close())
			d = open(denizen.Options{})
		}
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-3", secretA))
		err = d.DeleteAccessKey(t.Context(), sys, "the-key-2")
		requireRefused(t, err, "DeleteAccessKey", denizen.ErrNotFound, "accessKey")
	})
}

func TestKeys_TheLastSixtyFourDeletedAccessKeysAreKnown(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	var fifth denizen.Principal
	for i := range 70 {
		key := fmt.Sprintf("the-key-%d", i)
		require.NoError(t, d.PutAccessKey(t.Context(), sys, key, secretA))
		if i == 5 {
			fifth = byKey(t, d, key, secretA)
		}
		require.NoError(t, d.DeleteAccessKey(t.Context(), sys, key))
	}
	for i := 6; i < 70; i++ {
		require.ErrorIs(t, d.PutAccessKey(t.Context(), sys, fmt.Sprintf("the-key-%d", i), secretA), denizen.ErrRevoked)
	}
	require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-5", secretA), "the list is bounded")
	_, err := d.CountUsers(t.Context(), fifth)
	require.ErrorIs(t, err, denizen.ErrRevoked, "it is another key")
}
