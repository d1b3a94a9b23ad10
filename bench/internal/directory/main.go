// Command directory is the smallest program that contains a directory, and shows what importing one
// costs. With a locator as its argument it creates a user with that locator.
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
