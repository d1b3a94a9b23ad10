package denizen_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
)

func ExampleParseLocator() {
	kind, canonical, err := denizen.ParseLocator("tele:+1 (201) 555-0123")
	fmt.Println(kind, canonical, err)
	_, _, err = denizen.ParseLocator("email:alice at example.org")
	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	// Output:
	// tele +12015550123 <nil>
	// true
}

func ExampleEmail() {
	fmt.Println(denizen.Email("alice@example.org").Locator)

	verified := denizen.Email("alice@example.org")
	verified.Status = denizen.Verified
	fmt.Println(verified.Status)
	// Output:
	// email:alice@example.org
	// Verified
}

func ExampleTele() {
	fmt.Println(denizen.Tele("+1 201 555 0123").Locator)
	// Output: tele:+1 201 555 0123
}

func ExampleDirectory_AddLocator() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	owned, err := dir.AddLocator(ctx, denizen.System(), "user-alice", denizen.Email("alice@example.org"))
	fmt.Println(owned, owned.Owned, owned.Status, err)

	// What a user adds for itself is a claim, whoever owns the address.
	by := exampleSignIn(dir, "user-alice")
	claim, err := dir.AddLocator(ctx, by, "user-alice", denizen.Tele("+12015550123"))
	fmt.Println(claim, claim.Owned, claim.Status, err)
	// Output:
	// email:alice@example.org true StatusNotProvided <nil>
	// tele:+12015550123 false Unverified <nil>
}

func ExampleDirectory_RevealLocator() {
	ctx, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	ada := denizen.System().Named("ada")
	shown, err := dir.RevealLocator(ctx, ada, alice.ID, alice.Locators[0].ID)
	fmt.Println(shown, err)
	recent, err := dir.RecentEvents(ctx, ada, denizen.EventQuery{Limit: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(recent.Events[0].Kind, "by", recent.Events[0].Operator)
	// Output:
	// email:alice@example.org <nil>
	// locator.revealed by ada
}

func ExampleDirectory_SetVerification() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-eve", "Eve")
	address := denizen.Email("alice@example.org")

	claimOf := func(user denizen.UserID) denizen.LocatorID {
		claim, err := dir.AddLocator(ctx, exampleSignIn(dir, user), user, address)
		if err != nil {
			log.Fatal(err)
		}
		return claim.ID
	}
	eves, alices := claimOf("user-eve"), claimOf("user-alice")

	// Alice followed the link that was sent to the address.
	l, err := dir.SetVerification(ctx, denizen.System(), "user-alice", alices, denizen.Verified)
	fmt.Println(l, l.Owned, err)
	_, err = dir.SetVerification(ctx, denizen.System(), "user-eve", eves, denizen.Verified)
	fmt.Println(err)
	// Output:
	// email:alice@example.org true <nil>
	// denizen: SetVerification: locator: taken
}

func ExampleDirectory_ProveLocator() {
	ctx, dir := exampleDirectory()

	// A first sign-in: whoever reads the mail of this address sent the code back.
	newcomer := denizen.NewUser{ScreenName: "Newcomer"}
	alice, err := dir.ProveLocator(ctx, denizen.System(), "email:alice@example.org", newcomer)
	fmt.Println(alice.Locators[0], alice.Locators[0].Status, err)

	// An address of hers that somebody typed, and that nobody proved yet.
	_, err = dir.AddLocator(ctx, denizen.System(), alice.ID, denizen.Email("bob@example.org"))
	if err != nil {
		log.Fatal(err)
	}
	bob, err := dir.ProveLocator(ctx, denizen.System(), "email:bob@example.org", newcomer)
	fmt.Println(bob.ID != alice.ID, err)

	again, err := dir.ProveLocator(ctx, denizen.System(), "email:Alice@Example.org", newcomer)
	fmt.Println(again.ID == alice.ID, len(again.Locators), err)
	// Output:
	// email:alice@example.org Verified <nil>
	// true <nil>
	// true 1 <nil>
}

func ExampleDirectory_CancelUndo() {
	ctx, dir := exampleDirectory()
	const user = "user-alice"
	old := denizen.Email("alice@work.example")
	old.Status = denizen.Verified
	exampleUser(dir, user, "Alice", old)
	alice, err := dir.ActAs(ctx, denizen.System(), user)
	if err != nil {
		log.Fatal(err)
	}
	locators, err := dir.Locators(ctx, alice, user)
	if err != nil {
		log.Fatal(err)
	}

	// Alice leaves her work, and her mailbox to whoever comes after her.
	fmt.Println(dir.RemoveLocator(ctx, alice, user, locators[0].ID))
	cancel := func() {
		err := dir.CancelUndo(ctx, denizen.System(), user)
		fmt.Println(err)
	}
	cancel()

	// For 72 hours it is nobody's all the same.
	exampleUser(dir, "user-bob", "Bob")
	_, err = dir.AddLocator(ctx, denizen.System(), "user-bob", old)
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// denizen: AddLocator: locator: taken: rests since its last owner gave it up
}

func ExampleDirectory_Locators() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"), denizen.Tele("+12015550123"))

	locators, err := dir.Locators(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range locators {
		fmt.Println(l.Type, l.Address)
	}
	// Output:
	// email alice@example.org
	// tele +12015550123
}

func ExampleDirectory_Locator() {
	ctx, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	l, err := dir.Locator(ctx, denizen.System(), alice.ID, alice.Locators[0].ID)
	fmt.Println(l, err)
	// Output: email:alice@example.org <nil>
}

func ExampleDirectory_SetLocators() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	alice, err := dir.SetLocators(ctx, denizen.System(), "user-alice", []denizen.NewLocator{
		denizen.Email("alice@example.com"),
		denizen.Tele("+12015550123"),
	})
	fmt.Println(alice.Locators, err)
	// Output: [email:alice@example.com tele:+12015550123] <nil>
}

func ExampleDirectory_RemoveLocator() {
	ctx, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	by := exampleSignIn(dir, alice.ID)

	fmt.Println(dir.RemoveLocator(ctx, by, alice.ID, alice.Locators[0].ID))
	_, err := dir.ResolveUser(ctx, denizen.System(), "email:alice@example.org")
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: ResolveUser: locator: not found
}
