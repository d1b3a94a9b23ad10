package verify_test

import (
	"context"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/verify"
)

// All records are read and compared, while the directory is in use.
func ExampleDirectory() {
	ctx, system := context.Background(), denizen.System()
	people := memory.New()
	dir, err := denizen.New(ctx, people, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	address := denizen.Email("alice@example.org")
	_, err = dir.CreateUser(ctx, system, denizen.NewUser{
		ID: "alice-01", ScreenName: "Alice", Locators: []denizen.NewLocator{address},
	})
	if err != nil {
		log.Fatal(err)
	}
	// Somebody wrote to the store past the directory.
	if _, err := people.Commit(ctx, store.Batch{Drop: []store.Key{"lemail:alice@example.org"}}); err != nil {
		log.Fatal(err)
	}

	for damage, err := range verify.Directory(ctx, dir, system) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(damage.Record, damage.User, damage.Reason)
	}
	// Output:
	// user alice-01 owns a locator that leads to nobody or to another
}
