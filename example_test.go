package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

func Example() {
	ctx, app := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{}) // or denizen.Open(ctx, "people.db", …)
	check(err)
	defer dir.Close()
	alice, err := dir.CreateUser(ctx, app, denizen.NewUser{
		ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	check(err)
	token, err := dir.IssueToken(ctx, app, alice.ID, denizen.TokenOptions{TTL: time.Hour})
	check(err)
	by, err := dir.Authenticate(ctx, token.Signed) // who is calling
	check(err)
	check(dir.SetPresence(ctx, by, alice.ID, denizen.Online(15*time.Second).Then(denizen.Offline())))
	now, err := dir.Presence(ctx, by, alice.ID)
	fmt.Println(alice.ScreenName, now.Presence.State(), err)
	fmt.Println(dir.DeleteUser(ctx, by, alice.ID)) // a user may not, not even itself
	// Output:
	// Alice mitter.up.Online <nil>
	// denizen: DeleteUser: denied
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Example_walk is the walk of the package's documentation.
func Example_walk() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	// The application creates a user, who owns the address from now on.
	system := denizen.System()
	alice, err := dir.CreateUser(ctx, system, denizen.NewUser{
		ScreenName: "Alice",
		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Somebody proved to be Alice: the application gives out a token.
	token, err := dir.IssueToken(ctx, system, alice.ID, denizen.TokenOptions{TTL: time.Hour})
	if err != nil {
		log.Fatal(err)
	}

	// A request brings the token: from here on the caller is Alice, and may do what Alice may.
	by, err := dir.Authenticate(ctx, token.Signed)
	if err != nil {
		log.Fatal(err)
	}
	_, err = dir.SetScreenName(ctx, by, alice.ID, "Alice in W.")
	if err != nil {
		log.Fatal(err)
	}
	chain := denizen.Online(15 * time.Second).Then(denizen.Offline())
	err = dir.SetPresence(ctx, by, alice.ID, chain)
	if err != nil {
		log.Fatal(err)
	}

	// Tokens, locators and presence end with the user, in one commit.
	err = dir.DeleteUser(ctx, system, alice.ID)
	if err != nil {
		log.Fatal(err)
	}
	_, err = dir.Authenticate(ctx, token.Signed)
	fmt.Println(errors.Is(err, denizen.ErrRevoked)) // true
	// Output: true
}

// Most examples begin with a directory in memory, which ends with the program.
func exampleDirectory() (context.Context, *denizen.Directory) {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{ApplicationID: "example"})
	if err != nil {
		log.Fatal(err)
	}
	return ctx, dir
}

// exampleUser creates a user.
func exampleUser(dir *denizen.Directory, id denizen.UserID, screenName string, locators ...denizen.NewLocator) denizen.User {
	u, err := dir.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: id, ScreenName: screenName, Locators: locators})
	if err != nil {
		log.Fatal(err)
	}
	return u
}

// exampleToken issues a token for a user.
func exampleToken(dir *denizen.Directory, user denizen.UserID) denizen.IssuedToken {
	issued, err := dir.IssueToken(context.Background(), denizen.System(), user, denizen.TokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return issued
}

// exampleSignIn returns the principal of a user with a new token.
func exampleSignIn(dir *denizen.Directory, user denizen.UserID) denizen.Principal {
	by, err := dir.Authenticate(context.Background(), exampleToken(dir, user).Signed)
	if err != nil {
		log.Fatal(err)
	}
	return by
}
