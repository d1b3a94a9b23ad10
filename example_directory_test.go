package denizen_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

func ExampleOpen() {
	folder, err := os.MkdirTemp("", "denizen")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)

	ctx := context.Background()
	dir, err := denizen.Open(ctx, filepath.Join(folder, "people.db"), denizen.Options{ApplicationID: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.ApplicationID())
	fmt.Println(dir.Close()) // which stores what is still in memory
	// Output:
	// shop
	// <nil>
}

func ExampleNew() {
	ctx := context.Background()
	s := memory.New() // or any other store.Store
	defer s.Close()

	dir, err := denizen.New(ctx, s, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	_, err = denizen.New(ctx, s, denizen.Options{})
	fmt.Println(err)
	// Output: denizen: New: store: taken: belongs to another directory
}

func ExampleDirectory_ID() {
	_, dir := exampleDirectory()
	_, other := exampleDirectory()
	fmt.Println(dir.ID() == other.ID()) // no two directories share one
	// Output: false
}

func ExampleDirectory_ApplicationID() {
	_, dir := exampleDirectory()
	fmt.Println(dir.ApplicationID())
	// Output: example
}

func ExampleDirectory_Close() {
	ctx, dir := exampleDirectory()
	fmt.Println(dir.Close())
	_, err := dir.CountUsers(ctx, denizen.System())
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: CountUsers: closed
}

// Locators

// transaction stands for one of the host's database; with store/postgres it is
//
//	inTx, err := dir.InTx(people.InTx(tx))
type transaction struct{ store.Store }

func ExampleDirectory_InTx() {
	ctx := context.Background()
	database := transaction{memory.New()}
	dir, err := denizen.New(ctx, database, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	// The user and the host's own row are written in one transaction.
	inTx, err := dir.InTx(database)
	if err != nil {
		log.Fatal(err)
	}
	u, err := inTx.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: "alice-0001", ScreenName: "Alice"})
	fmt.Println(u.ScreenName, err)
	// Output: Alice <nil>
}

func ExampleDirectory_Health() {
	ctx, dir := exampleDirectory()
	if err := dir.Health(ctx, denizen.System()); err != nil {
		fmt.Println("wake somebody:", err)
		return
	}
	fmt.Println("all is well")
	// Output:
	// all is well
}
