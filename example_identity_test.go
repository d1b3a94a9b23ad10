package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

func ExampleSystem() {
	p := denizen.System()
	fmt.Println(p, p.MayParticipate())

	var nobody denizen.Principal // what a call without a credential comes as
	fmt.Println(nobody, nobody.MayParticipate())
	// Output:
	// .system false
	// .anonymous false
}

func ExamplePrincipal() {
	_, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice")

	by := exampleSignIn(dir, alice.ID)
	fmt.Println(by.User(), by.IsUser(), by.MayParticipate(), by.IsSystem(), by.IsAnonymous())
	fmt.Println(by.Token() != "", by.AccessKey() == "")
	fmt.Println(by == exampleSignIn(dir, alice.ID)) // another token: another principal
	// Output:
	// user-alice true true false false
	// true true
	// false
}

func ExampleFacet() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{
		// Everybody sees everybody's name and presence, and nobody's profile.
		MaySee: func(ctx context.Context, viewer, subject denizen.UserID, what denizen.Facet) (bool, error) {
			return what != denizen.FacetProfile, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	exampleUser(dir, "user-bob", "Bob")
	bob := exampleSignIn(dir, "user-bob")

	seen, err := dir.User(ctx, bob, "user-alice")
	fmt.Println(seen.ScreenName, len(seen.Locators), err)
	_, err = dir.Profile(ctx, bob, "user-alice")
	fmt.Println(err)
	// Output:
	// Alice 0 <nil>
	// denizen: Profile: denied
}

func ExampleParseUserID() {
	id, err := denizen.ParseUserID("alice-0001")
	fmt.Println(id, err)
	_, err = denizen.ParseUserID(".system")
	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	// Output:
	// alice-0001 <nil>
	// true
}

func ExampleDirectory_Authenticate() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	by, err := dir.Authenticate(ctx, token.Signed)
	fmt.Println(by, err)
	by, err = dir.Authenticate(ctx, "something else")
	fmt.Println(by, err)
	// Output:
	// user-alice <nil>
	// .anonymous denizen: Authenticate: token: unauthenticated: was not issued by this directory
}

func ExampleDirectory_ActAs() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	alice, err := dir.ActAs(ctx, denizen.System(), "user-alice")
	fmt.Println(alice, err)
	fmt.Println(dir.DeleteUser(ctx, alice, "user-alice")) // it may do what Alice may
	// Output:
	// user-alice <nil>
	// denizen: DeleteUser: denied
}

func ExamplePrincipal_Named() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	head, err := dir.Head(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}

	ada := denizen.System().Named("ada") // who signed in to the tool that the support team uses
	if _, err := dir.SetScreenName(ctx, ada, "user-alice", "Alice in W."); err != nil {
		log.Fatal(err)
	}
	for e := range dir.Events(ctx, denizen.System(), head) {
		fmt.Println(e.Kind, "by", e.Actor, e.Operator)
	}
	// Output:
	// user.renamed by .system ada
}

func ExampleDirectory_Check() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	alice := exampleSignIn(dir, "user-alice") // at the start of a connection that stays open
	fmt.Println(dir.Check(ctx, alice))

	if err := dir.RevokeAllTokens(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(dir.Check(ctx, alice), denizen.ErrRevoked)) // by the minute: end it
	// Output:
	// <nil>
	// true
}
