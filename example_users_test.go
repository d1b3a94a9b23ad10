package denizen_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/denizenhq/denizen"
)

// Users

func ExampleDirectory_CreateUser() {
	ctx, dir := exampleDirectory()

	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ID:         "user-alice", // without one, one is made
		ScreenName: "Alice",
		Locators:   []denizen.NewLocator{denizen.Email("Alice@Example.org"), denizen.Tele("+1 (201) 555-0123")},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range alice.Locators {
		fmt.Println(l, "is", l.Canonical)
	}

	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Eve",
		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	fmt.Println(err)
	// Output:
	// email:Alice@Example.org is alice@example.org
	// tele:+12015550123 is +12015550123
	// denizen: CreateUser: locator: taken
}

func ExampleDirectory_CreateUser_idempotency() {
	ctx, dir := exampleDirectory()
	request := denizen.NewUser{
		ScreenName:  "Alice",
		Idempotency: denizen.Idempotency{Key: "sign-up 4711", Digest: "of the request's body"},
	}

	first, err := dir.CreateUser(ctx, denizen.System(), request)
	if err != nil {
		log.Fatal(err)
	}
	again, err := dir.CreateUser(ctx, denizen.System(), request) // the first result was lost, say
	fmt.Println(again.ID == first.ID, err)

	request.Idempotency.Digest = "of another body"
	_, err = dir.CreateUser(ctx, denizen.System(), request)
	fmt.Println(errors.Is(err, denizen.ErrConflict))
	// Output:
	// true <nil>
	// true
}

func ExampleDirectory_User() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	alice, err := dir.User(ctx, denizen.System(), "user-alice")
	fmt.Println(alice.ScreenName, alice.Blocked, err)
	_, err = dir.User(ctx, denizen.System(), "user-nobody")
	fmt.Println(err)
	// Output:
	// Alice false <nil>
	// denizen: User: user: not found
}

func ExampleDirectory_UsersByID() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")

	users, err := dir.UsersByID(ctx, denizen.System(), []denizen.UserID{"user-bob", "user-alice"})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.ScreenName)
	}
	// Output:
	// Bob
	// Alice
}

func ExampleDirectory_ResolveUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	alice := exampleSignIn(dir, "user-alice")

	id, err := dir.ResolveUser(ctx, denizen.System(), "email:ALICE@example.org")
	fmt.Println(id, err)
	id, err = dir.ResolveUser(ctx, alice, "me")
	fmt.Println(id, err)
	_, err = dir.ResolveUser(ctx, alice, "email:bob@example.org") // whether or not there is a Bob
	fmt.Println(err)
	// Output:
	// user-alice <nil>
	// user-alice <nil>
	// denizen: ResolveUser: denied
}

func ExampleDirectory_UsersByLocator() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	users, err := dir.UsersByLocator(ctx, denizen.System(), []string{"email:alice@example.org", "email:nobody@example.org"})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.ID)
	}
	// Output: user-alice
}

func ExampleDirectory_Users() {
	ctx, dir := exampleDirectory()
	for _, id := range []denizen.UserID{"user-alice", "user-bob", "user-carol"} {
		exampleUser(dir, id, "A user")
	}

	page, err := dir.Users(ctx, denizen.System(), denizen.UserQuery{Limit: 2})
	fmt.Println(page.Users[0].ID, page.Users[1].ID, err)
	page, err = dir.Users(ctx, denizen.System(), denizen.UserQuery{Limit: 2, After: page.Next})
	fmt.Println(page.Users[0].ID, page.Next == "", err)
	// Output:
	// user-alice user-bob <nil>
	// user-carol true <nil>
}

func ExampleDirectory_AllUsers() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-bob", "Bob")
	exampleUser(dir, "user-alice", "Alice")

	for u, err := range dir.AllUsers(ctx, denizen.System()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(u.ID)
	}
	// Output:
	// user-alice
	// user-bob
}

func ExampleDirectory_CountUsers() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	fmt.Println(dir.CountUsers(ctx, denizen.System()))
	// Output: 1 <nil>
}

func ExampleDirectory_SetScreenName() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	by := exampleSignIn(dir, "user-alice")

	before, err := dir.User(ctx, by, "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	after, err := dir.SetScreenName(ctx, by, "user-alice", "Alice in W.", before.Version)
	fmt.Println(after.ScreenName, err)
	_, err = dir.SetScreenName(ctx, by, "user-alice", "Alice L.", before.Version)
	fmt.Println(err)
	// Output:
	// Alice in W. <nil>
	// denizen: SetScreenName: version: conflict: is another one by now
}

func ExampleDirectory_BlockUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	blocked, err := dir.BlockUser(ctx, denizen.System(), "user-alice", denizen.Block{
		Reason: "sent advertisements", Until: time.Now().Add(7 * 24 * time.Hour),
	})
	fmt.Println(blocked.Blocked, blocked.Block.Reason, err)
	_, err = dir.Authenticate(ctx, token.Signed)
	fmt.Println(err)
	// Output:
	// true sent advertisements <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_UnblockUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")
	if _, err := dir.BlockUser(ctx, denizen.System(), "user-alice", denizen.Block{}); err != nil {
		log.Fatal(err)
	}

	alice, err := dir.UnblockUser(ctx, denizen.System(), "user-alice")
	fmt.Println(alice.Blocked, err)
	_, err = dir.Authenticate(ctx, token.Signed) // it stays ended: a new one is needed
	fmt.Println(err)
	// Output:
	// false <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_DeleteUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	if err := dir.DeleteUser(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}
	bob := exampleUser(dir, "user-bob", "Bob", denizen.Email("alice@example.org")) // free again
	fmt.Println(bob.Locators[0])
	// Output: email:alice@example.org
}

func ExampleDirectory_MergeUsers() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "guest-4711", "Guest", denizen.Email("alice@example.com"))
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	alice, err := dir.MergeUsers(ctx, denizen.System(), "guest-4711", "user-alice", denizen.MergePolicy{
		Attributes: denizen.KeepInto,
		Alias:      30 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range alice.Locators {
		fmt.Println(l)
	}
	id, err := dir.ResolveUser(ctx, denizen.System(), "guest-4711") // as an old order names it, say
	fmt.Println(id, err)
	_, err = dir.User(ctx, denizen.System(), "guest-4711")
	fmt.Println(err)
	// Output:
	// email:alice@example.org
	// email:alice@example.com
	// user-alice <nil>
	// denizen: User: user: not found
}

func ExampleDirectory_MoveLocator() {
	ctx, dir := exampleDirectory()
	bob := exampleUser(dir, "user-bob", "Bob", denizen.Tele("+12015550123"))
	exampleUser(dir, "user-alice", "Alice")

	moved, err := dir.MoveLocator(ctx, denizen.System(), "user-bob", bob.Locators[0].ID, "user-alice")
	fmt.Println(moved, err)
	owners, err := dir.Locate(ctx, denizen.System(), "tele:+12015550123")
	fmt.Println(owners, err)
	// Output:
	// tele:+12015550123 <nil>
	// [user-alice] <nil>
}
