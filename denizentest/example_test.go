package denizentest_test

import (
	"errors"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
)

func Example() {
	var t *testing.T // what the test function was given

	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
	signed := denizentest.Token(t, dir, alice.ID)

	by, err := dir.Authenticate(t.Context(), signed)
	if err != nil || by.User() != alice.ID {
		t.Fatalf("a token was not let in: %v", err)
	}
	if err := dir.Logout(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Authenticate(t.Context(), signed); !errors.Is(err, denizen.ErrRevoked) {
		t.Fatalf("a revoked token was let in: %v", err)
	}
}
