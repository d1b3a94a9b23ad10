// Package denizentest gives the tests of a service a user directory of their own, with users,
// tokens and principals in a line each.
//
//	func TestAliceIsGreeted(t *testing.T) {
//		dir := denizentest.New(t)
//		alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
//		signed := denizentest.Token(t, dir, alice.ID)
//		…
//	}
//
// It is the directory itself, over a store in memory: every rule holds as in production, and
// nothing is a mock. It works inside a testing/synctest bubble, where tokens expire and presence
// runs out in virtual time. Make it inside the bubble.
//
// [Faulty] returns a directory whose store fails when the test says so: out of reach, hanging,
// with an outcome that nobody knows. It may stand behind HTTP handlers.
//
// A helper that fails ends the test, with the cause.
package denizentest

import (
	"context"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// ctx is that of the helpers. A test's own has ended when its cleanups run, and they may call the
// helpers, too.
var ctx = context.Background()

// New returns an empty directory. It is closed when the test ends, after the cleanups that the
// test registers later. It takes one denizen.Options at most.
func New(t testing.TB, o ...denizen.Options) *denizen.Directory {
	t.Helper()
	return open(t, "New", memory.New(), o)
}

// open makes the directory over a store, which is closed with it, for the helper of a name.
func open(t testing.TB, name string, s store.Store, o []denizen.Options) *denizen.Directory {
	t.Helper()
	if len(o) > 1 {
		t.Fatal("denizentest: " + name + " takes one denizen.Options at most")
	}
	var options denizen.Options
	if len(o) == 1 {
		options = o[0]
	}
	dir, err := denizen.New(ctx, s, options)
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Errorf("denizentest: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("denizentest: %v", err)
		}
	})
	return dir
}

// User creates a user who owns these locators. Its id is a made one; Create takes a chosen one.
func User(
	t testing.TB, dir *denizen.Directory, screenName string, locators ...denizen.NewLocator,
) denizen.User {
	t.Helper()
	return Create(t, dir, denizen.NewUser{ScreenName: screenName, Locators: locators})
}

// Create creates a user as it is described: with a chosen id, or with attributes, which Define has
// to define before.
func Create(t testing.TB, dir *denizen.Directory, n denizen.NewUser) denizen.User {
	t.Helper()
	u, err := dir.CreateUser(ctx, denizen.System(), n)
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return u
}

// Token returns the signed text of a new token for a user, which is what a client of the service
// sends. It lives as long as denizen.Options say.
func Token(t testing.TB, dir *denizen.Directory, user denizen.UserID) string {
	t.Helper()
	issued, err := dir.IssueToken(ctx, denizen.System(), user, denizen.TokenOptions{})
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return issued.Signed
}

// Principal returns the principal of a user who was authenticated by a new token: what the service
// knows a client by once Authenticate let it in.
func Principal(t testing.TB, dir *denizen.Directory, user denizen.UserID) denizen.Principal {
	t.Helper()
	by, err := dir.Authenticate(ctx, Token(t, dir, user))
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return by
}

// Define defines attributes, so that users may have them.
func Define(t testing.TB, dir *denizen.Directory, defs ...denizen.AttributeDef) {
	t.Helper()
	for _, def := range defs {
		if _, err := dir.DefineAttribute(ctx, denizen.System(), def); err != nil {
			t.Fatalf("denizentest: %s: %v", def.Key, err)
		}
	}
}

// AccessKey creates an access key with its secret: what the application itself comes with over
// HTTP, as in r.SetBasicAuth(key.Key, key.Secret).
func AccessKey(t testing.TB, dir *denizen.Directory) denizen.NewAccessKey {
	t.Helper()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return key
}
