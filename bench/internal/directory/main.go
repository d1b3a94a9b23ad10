// Command directory is the smallest program with a directory in it: what an importer pays. With
// a locator as its argument it makes a user who has it, without one it makes nothing.
package main

import (
	"context"
	"log"
	"os"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/bench/internal/usage"
)

func main() {
	if len(os.Args) > 1 {
		if err := create(context.Background(), os.Args[1], os.Args[2]); err != nil {
			log.Fatal(err)
		}
	}
	usage.Print()
}

func create(ctx context.Context, path, locator string) error {
	dir, err := denizen.Open(ctx, path, denizen.Options{})
	if err != nil {
		return err
	}
	defer dir.Close()
	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Somebody", Locators: []denizen.NewLocator{{Locator: locator}},
	})
	return err
}
