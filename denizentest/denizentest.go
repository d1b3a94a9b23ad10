// Package denizentest gives the tests of a service a user directory of their own, with
// users, tokens and principals in a line each.
//
//	func TestAliceIsGreeted(t *testing.T) {
//		dir := denizentest.New(t)
//		alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
//		signed := denizentest.Token(t, dir, alice.ID)
//		…
//	}
//
// It is the directory itself, over a store in memory: every rule holds as in production,
// and nothing is a mock. It works inside a testing/synctest bubble, where tokens expire and
// presence runs out in virtual time; make it inside the bubble.
//
// What a helper cannot do ends the test, with the cause.
package denizentest

import (
	"context"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

// ctx is that of the helpers. A test's own has ended when its cleanups run, which may call
// them too.
var ctx = context.Background()

// New answers an empty directory that is closed when the test ends, and no sooner than the
// cleanups that the test registers after it. It takes one denizen.Options at most.
func New(t testing.TB, o ...denizen.Options) *denizen.Directory {
	t.Helper()
	if len(o) > 1 {
		t.Fatal("denizentest: New takes one denizen.Options at most")
	}
	var options denizen.Options
	if len(o) == 1 {
		options = o[0]
	}
	s := memory.New()
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

// User creates a user with these locators, all of them its own at once. Its id is a made
// one; for a chosen id call CreateUser.
func User(t testing.TB, dir *denizen.Directory, screenName string, locators ...denizen.NewLocator) denizen.User {
	t.Helper()
	u, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: screenName, Locators: locators})
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return u
}

// Token answers the signed text of a new token for a user, of the life that Options give:
// what a client of the service would send.
func Token(t testing.TB, dir *denizen.Directory, user denizen.UserID) string {
	t.Helper()
	issued, err := dir.IssueToken(ctx, denizen.System(), user, denizen.TokenOptions{})
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return issued.Signed
}

// Principal answers the principal of a user who came with a new token: what the service
// knows a client by once Authenticate let it in.
func Principal(t testing.TB, dir *denizen.Directory, user denizen.UserID) denizen.Principal {
	t.Helper()
	by, err := dir.Authenticate(ctx, Token(t, dir, user))
	if err != nil {
		t.Fatalf("denizentest: %v", err)
	}
	return by
}
