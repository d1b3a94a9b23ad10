package denizentest_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
)

func TestANewDirectoryIsEmpty(t *testing.T) {
	dir := denizentest.New(t)
	n, err := dir.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestTheOptionsAreTheDirectorys(t *testing.T) {
	dir := denizentest.New(t, denizen.Options{ApplicationID: "notes"})
	require.Equal(t, "notes", dir.ApplicationID())
}

func TestADirectoryIsClosedWithItsTest(t *testing.T) {
	var dir *denizen.Directory
	t.Run("inner", func(t *testing.T) {
		dir = denizentest.New(t)
		t.Cleanup(func() {
			denizentest.User(t, dir, "Alice") // cleanups of the test still have it
		})
	})
	_, err := dir.PublicKeys(t.Context())
	require.ErrorIs(t, err, denizen.ErrClosed)
}

func TestATestMayCloseItsDirectory(t *testing.T) {
	require.NoError(t, denizentest.New(t).Close())
}

func TestAUserOwnsItsLocators(t *testing.T) {
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"), denizen.Tele("+1 201 555 0123"))
	require.Equal(t, "Alice", alice.ScreenName)
	for _, locator := range []string{"email:alice@example.org", "tele:+12015550123"} {
		id, err := dir.ResolveUser(t.Context(), denizen.System(), locator)
		require.NoError(t, err)
		require.Equal(t, alice.ID, id)
	}
}

func TestATokenIsItsUsers(t *testing.T) {
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")
	by, err := dir.Authenticate(t.Context(), denizentest.Token(t, dir, alice.ID))
	require.NoError(t, err)
	require.Equal(t, alice.ID, by.User())
}

func TestAPrincipalMayDoWhatItsUserMay(t *testing.T) {
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")
	by := denizentest.Principal(t, dir, alice.ID)
	require.NotEmpty(t, by.Token())

	_, err := dir.SetScreenName(t.Context(), by, alice.ID, "Alice II")
	require.NoError(t, err)
	require.ErrorIs(t, dir.DeleteUser(t.Context(), by, alice.ID), denizen.ErrDenied)
}

func TestCreateTakesAnIDAndAttributesThatAreDefined(t *testing.T) {
	dir := denizentest.New(t)
	denizentest.Define(t, dir, denizen.AttributeDef{Key: "plan", WritableBy: denizen.ToSystem}, denizen.AttributeDef{Key: "bio"})
	alice := denizentest.Create(t, dir, denizen.NewUser{
		ID: "user-alice", ScreenName: "Alice", Attributes: []denizen.Attribute{{Key: "plan", Value: "gold"}},
	})
	require.Equal(t, denizen.UserID("user-alice"), alice.ID)
	profile, err := dir.Profile(t.Context(), denizentest.Principal(t, dir, alice.ID), alice.ID)
	require.NoError(t, err)
	require.Equal(t, "gold", profile.Attributes[0].Value)
}

func TestAccessKeyIsTheApplication(t *testing.T) {
	dir := denizentest.New(t)
	key := denizentest.AccessKey(t, dir)
	by, err := dir.AuthenticateKey(t.Context(), key.Key, key.Secret)
	require.NoError(t, err)
	require.True(t, by.IsSystem())
}

func TestItWorksInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := denizentest.New(t)
		alice := denizentest.User(t, dir, "Alice")
		signed := denizentest.Token(t, dir, alice.ID)

		time.Sleep(24*time.Hour - time.Second)
		_, err := dir.Authenticate(t.Context(), signed)
		require.NoError(t, err)

		time.Sleep(2 * time.Second)
		_, err = dir.Authenticate(t.Context(), signed)
		require.ErrorIs(t, err, denizen.ErrExpired)
	})
}

func TestAHelperThatCannotEndsTheTestWithTheCause(t *testing.T) {
	dir := denizentest.New(t)
	denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
	for name, c := range map[string]struct {
		call  func(testing.TB)
		cause string
	}{
		"options out of bounds": {
			func(t testing.TB) { denizentest.New(t, denizen.Options{RootKeys: [][]byte{[]byte("short")}}) },
			"denizentest: denizen: New: RootKeys: invalid: must be 32 bytes each",
		},
		"options twice": {
			func(t testing.TB) { denizentest.New(t, denizen.Options{}, denizen.Options{}) },
			"denizentest: New takes one denizen.Options at most",
		},
		"options of Faulty twice": {
			func(t testing.TB) { denizentest.Faulty(t, denizen.Options{}, denizen.Options{}) },
			"denizentest: Faulty takes one denizen.Options at most",
		},
		"an id that is none": {
			func(t testing.TB) { denizentest.Create(t, dir, denizen.NewUser{ID: "short", ScreenName: "Eve"}) },
			"denizentest: denizen: CreateUser: id: invalid: must be 8 to 72 of a-z A-Z 0-9 - _ @ $ #, beginning with a letter, a digit, @ or #",
		},
		"a definition twice": {
			func(t testing.TB) {
				denizentest.Define(t, dir, denizen.AttributeDef{Key: "plan"}, denizen.AttributeDef{Key: "plan"})
			},
			"denizentest: plan: denizen: DefineAttribute: key: taken: is defined already",
		},
		"one access key too many": {
			func(t testing.TB) {
				for range denizen.MaxAccessKeys + 1 {
					denizentest.AccessKey(t, dir)
				}
			},
			"denizentest: denizen: CreateAccessKey: accessKey: limit reached: three live already",
		},
		"a locator that is taken": {
			func(t testing.TB) { denizentest.User(t, dir, "Eve", denizen.Email("ALICE@example.org")) },
			"denizentest: denizen: CreateUser: locator: taken",
		},
		"a token for nobody": {
			func(t testing.TB) { denizentest.Token(t, dir, "user-nobody") },
			"denizentest: denizen: IssueToken: user: not found",
		},
		"a principal of nobody": {
			func(t testing.TB) { denizentest.Principal(t, dir, "user-nobody") },
			"denizentest: denizen: IssueToken: user: not found",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.cause, fatalOf(t, c.call))
		})
	}
}

// fatalOf returns what call ends its test with, "" if it does not.
func fatalOf(t *testing.T, call func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		call(r)
	}()
	<-done
	return r.cause
}

// recorder is a test that remembers what ended it.
type recorder struct {
	testing.TB
	cause string
}

func (r *recorder) Fatal(args ...any) {
	r.cause = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }
