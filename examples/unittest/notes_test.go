package unittest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/examples/unittest"
)

func TestAnAuthorReadsWhatSheWrote(t *testing.T) {
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")
	notes := unittest.NewNotes(dir)

	require.NoError(t, notes.Write(t.Context(), denizentest.Token(t, dir, alice.ID), "down the hole"))

	// Another token of hers is as good: it is the person who is known.
	got, err := notes.Read(t.Context(), denizentest.Token(t, dir, alice.ID))
	require.NoError(t, err)
	require.Equal(t, []string{"Alice: down the hole"}, got)
}

func TestNobodyReadsWhatAnotherWrote(t *testing.T) {
	dir := denizentest.New(t)
	alice, bob := denizentest.User(t, dir, "Alice"), denizentest.User(t, dir, "Bob")
	notes := unittest.NewNotes(dir)
	require.NoError(t, notes.Write(t.Context(), denizentest.Token(t, dir, alice.ID), "down the hole"))

	got, err := notes.Read(t.Context(), denizentest.Token(t, dir, bob.ID))
	require.NoError(t, err)
	require.Empty(t, got)
}

// Every way of not being signed in, one line each.
func TestWhoIsNotSignedInIsRefused(t *testing.T) {
	system := denizen.System()
	for name, c := range map[string]struct {
		end  func(dir *denizen.Directory, by denizen.Principal) error
		want error
	}{
		"logged out": {
			func(dir *denizen.Directory, by denizen.Principal) error { return dir.Logout(t.Context(), by) },
			denizen.ErrRevoked,
		},
		"revoked": {
			func(dir *denizen.Directory, by denizen.Principal) error {
				return dir.RevokeTokens(t.Context(), system, by.User(), by.Token())
			},
			denizen.ErrRevoked,
		},
		"blocked": {
			func(dir *denizen.Directory, by denizen.Principal) error {
				_, err := dir.BlockUser(t.Context(), system, by.User(), denizen.Block{})
				return err
			},
			denizen.ErrRevoked,
		},
		"deleted": {
			func(dir *denizen.Directory, by denizen.Principal) error {
				return dir.DeleteUser(t.Context(), system, by.User())
			},
			denizen.ErrRevoked,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := denizentest.New(t)
			notes := unittest.NewNotes(dir)
			signed := denizentest.Token(t, dir, denizentest.User(t, dir, "Alice").ID)
			require.NoError(t, notes.Write(t.Context(), signed, "let in"))

			by, err := dir.Authenticate(t.Context(), signed)
			require.NoError(t, err)
			require.NoError(t, c.end(dir, by))

			err = notes.Write(t.Context(), signed, "not let in")
			require.ErrorIs(t, err, unittest.ErrSignIn)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestATokenOfAnotherDirectoryIsRefused(t *testing.T) {
	elsewhere := denizentest.New(t)
	signed := denizentest.Token(t, elsewhere, denizentest.User(t, elsewhere, "Alice").ID)

	notes := unittest.NewNotes(denizentest.New(t))
	for _, signed := range []string{signed, "no token at all", ""} {
		require.ErrorIs(t, notes.Write(t.Context(), signed, "not let in"), unittest.ErrSignIn)
	}
}

// A day passes in no time.
func TestAnExpiredTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := denizentest.New(t, denizen.Options{TokenTTL: 24 * time.Hour})
		notes := unittest.NewNotes(dir)
		signed := denizentest.Token(t, dir, denizentest.User(t, dir, "Alice").ID)

		time.Sleep(23 * time.Hour)
		require.NoError(t, notes.Write(t.Context(), signed, "still let in"))
		time.Sleep(2 * time.Hour)
		err := notes.Write(t.Context(), signed, "not let in")
		require.ErrorIs(t, err, unittest.ErrSignIn)
		require.ErrorIs(t, err, denizen.ErrExpired)
	})
}

// Whoever takes a deleted user's id inherits nothing, because notes are kept by InternalID.
func TestALaterUserOfTheSameIdInheritsNothing(t *testing.T) {
	dir := denizentest.New(t)
	notes := unittest.NewNotes(dir)
	alice := denizentest.User(t, dir, "Alice")
	require.NoError(t, notes.Write(t.Context(), denizentest.Token(t, dir, alice.ID), "down the hole"))

	require.NoError(t, dir.DeleteUser(t.Context(), denizen.System(), alice.ID))
	_, err := dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: alice.ID, ScreenName: "Eve"})
	require.NoError(t, err)

	got, err := notes.Read(t.Context(), denizentest.Token(t, dir, alice.ID))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestADirectoryThatCannotBeAskedLetsNobodyIn(t *testing.T) {
	dir, faults := denizentest.Faulty(t)
	notes := unittest.NewNotes(dir)
	signed := denizentest.Token(t, dir, denizentest.User(t, dir, "Alice").ID)

	faults.Begin(denizentest.Unavailable)
	err := notes.Write(t.Context(), signed, "not let in")
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	require.NotErrorIs(t, err, unittest.ErrSignIn, "signing in again would not help")

	faults.End()
	require.NoError(t, notes.Write(t.Context(), signed, "let in"))
}
