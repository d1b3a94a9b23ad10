package denizen_test

import (
	"context"
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

	var seen denizen.Cursor // kept by the consumer, to go on from
	for e, err := range dir.Events(ctx, denizen.System(), seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind, e.User, "by", e.Actor)
		seen = e.Cursor
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

	seen := denizen.Cursor("") // kept by the consumer, to go on from
	for e, err := range dir.Follow(ctx, denizen.System(), seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind)
		if seen = e.Cursor; e.Kind == denizen.EventUserDeleted {
			break
		}
	}
	// Output:
	// directory.founded
	// user.created
	// user.deleted
}

func ExampleDirectory_RecentEvents() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	exampleSignIn(dir, "user-alice")

	recent, err := dir.RecentEvents(ctx, denizen.System(), denizen.EventQuery{User: "user-alice"})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range recent.Events {
		fmt.Println(e.Seq, e.Kind)
	}
	// Output:
	// 4 token.issued
	// 2 user.created
}

func ExampleDirectory_TrimFeed() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	var seen denizen.Cursor // kept by a consumer who was away for too long
	for e := range dir.Events(ctx, denizen.System(), "") {
		seen = e.Cursor
		break
	}
	fmt.Println(dir.TrimFeed(ctx, denizen.System(), 2))

	for _, err := range dir.Events(ctx, denizen.System(), seen) {
		if missed, ok := errors.AsType[*denizen.Error](err); ok && errors.Is(err, denizen.ErrMissed) {
			fmt.Println("read the present state, then go on after", missed.Resume != "")
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

func ExampleDirectory_Notify() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	ctx, stop := context.WithCancel(ctx)

	// In each process of the service: one of them delivers.
	err := dir.Notify(ctx, denizen.System(), "search-index", func(_ context.Context, batch []denizen.Event) error {
		for _, e := range batch {
			switch e.Kind {
			case denizen.EventMissed:
				fmt.Println("index all users anew")
			case denizen.EventUserCreated, denizen.EventUserRenamed:
				fmt.Println("index", e.User)
			}
		}
		stop() // a service would go on
		return nil
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// index user-alice
	// true
}

func ExampleDirectory_Consumers() {
	ctx, dir := exampleDirectory()
	if err := dir.ResetConsumer(ctx, denizen.System(), "search-index", ""); err != nil {
		log.Fatal(err)
	}
	consumers, err := dir.Consumers(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range consumers {
		fmt.Println(c.Name, "stuck:", c.Stuck != "")
	}
	// Output: search-index stuck: false
}

func ExampleDirectory_ResetConsumer() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	// A new consumer that does not want what was before.
	head, err := dir.Head(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.ResetConsumer(ctx, denizen.System(), "search-index", head))
	// Output: <nil>
}

func ExampleDirectory_DeleteConsumer() {
	ctx, dir := exampleDirectory()
	err := dir.DeleteConsumer(ctx, denizen.System(), "never-was")
	fmt.Println(errors.Is(err, denizen.ErrNotFound))
	// Output: true
}
