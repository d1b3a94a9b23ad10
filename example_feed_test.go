package denizen_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
)

// Feed

func ExampleDirectory_Events() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	if _, err := dir.SetScreenName(ctx, exampleSignIn(dir, "user-alice"), "user-alice", "Alice in W."); err != nil {
		log.Fatal(err)
	}

	var seen denizen.Seq // kept by the consumer, to go on from
	for e, err := range dir.Events(ctx, denizen.System(), seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind, e.User, "by", e.Actor)
		seen = e.Seq
	}
	// Output:
	// directory.founded  by .system
	// user.created user-alice by .system
	// token.issued user-alice by .system
	// user.renamed user-alice by user-alice
}

func ExampleDirectory_Follow() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	go func() {
		if err := dir.DeleteUser(ctx, denizen.System(), "user-alice"); err != nil {
			log.Fatal(err)
		}
	}()

	seen := denizen.Seq(0) // kept by the consumer, to go on from
	for e, err := range dir.Follow(ctx, denizen.System(), seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind)
		if seen = e.Seq; e.Kind == denizen.EventUserDeleted {
			break
		}
	}
	// Output:
	// directory.founded
	// user.created
	// user.deleted
}

func ExampleDirectory_TrimFeed() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	fmt.Println(dir.TrimFeed(ctx, denizen.System(), 1))

	for _, err := range dir.Events(ctx, denizen.System(), 0) {
		if missed, ok := errors.AsType[*denizen.Error](err); ok && errors.Is(err, denizen.ErrMissed) {
			fmt.Println("read the present state, then go on after", missed.Resume > 0)
		}
	}
	// Output:
	// <nil>
	// read the present state, then go on after true
}

func ExampleDirectory_Head() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	head, err := dir.Head(ctx, denizen.System()) // then read what is there now, and follow
	if err != nil {
		log.Fatal(err)
	}
	exampleUser(dir, "user-bob", "Bob")
	for e, err := range dir.Events(ctx, denizen.System(), head) {
		fmt.Println(e.Kind, e.User, err)
	}
	// Output: user.created user-bob <nil>
}
