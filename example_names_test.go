package denizen_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

// handleRule is a type of names: users choose them, case does not tell them apart, and one that was
// left rests for a month.
func handleRule(version int) denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: "handle", Version: version, Self: true, Rest: 30 * 24 * time.Hour,
		Canonical: func(name string) (denizen.LocatorForms, error) {
			name = strings.ToLower(name)
			if version > 1 { // since then underscores do not tell names apart
				return denizen.LocatorForms{Canonical: name, Unique: strings.ReplaceAll(name, "_", "")}, nil
			}
			return denizen.LocatorForms{Canonical: name}, nil
		},
	}
}

func ExampleDirectory_ReplaceLocator() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(1)}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Alice", Locators: []denizen.NewLocator{{Locator: "handle:Alice"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	asAlice, err := dir.ActAs(ctx, denizen.System(), alice.ID)
	if err != nil {
		log.Fatal(err)
	}
	renamed, err := dir.ReplaceLocator(ctx, asAlice, alice.ID, alice.Locators[0].ID, denizen.NewLocator{Locator: "handle:Lissy"})
	fmt.Println(renamed, err)
	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Another", Locators: []denizen.NewLocator{{Locator: "handle:alice"}},
	})
	fmt.Println(err)
	// Output:
	// handle:Lissy <nil>
	// denizen: CreateUser: locator: taken: rests since its last owner gave it up
}

func ExampleDirectory_Locate() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(1)}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ID: "alice-0001", ScreenName: "Alice",
		Locators: []denizen.NewLocator{denizen.Email("alice@example.org"), {Locator: "handle:alice"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ids, err := dir.Locate(ctx, denizen.System(), "handle:ALICE", "handle:bob", "email:alice@example.org")
	fmt.Printf("%q %v\n", ids, err)
	// Output: ["alice-0001" "" "alice-0001"] <nil>
}

func ExampleDirectory_CheckLocators() {
	ctx, people := context.Background(), memory.New()
	dir, err := denizen.New(ctx, people, denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(1)}})
	if err != nil {
		log.Fatal(err)
	}
	for i, name := range []string{"jo_ann", "joann", "bob"} {
		_, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
			ID: denizen.UserID(fmt.Sprintf("user-000%d", i)), ScreenName: name, Locators: []denizen.NewLocator{{Locator: "handle:" + name}},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	dir.Close()

	// The next version of the program has another rule. What does it break?
	dir, err = denizen.New(ctx, people, denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(2)}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	for change, err := range dir.CheckLocators(ctx, denizen.System()) {
		fmt.Println(change.User, change.Locator, change.Outcome, err)
	}
	// Output:
	// user-0000 handle:jo_ann kept <nil>
	// user-0002 handle:bob kept <nil>
	// user-0001 handle:joann collides <nil>
}

func ExampleDirectory_RekeyLocators() {
	ctx, people := context.Background(), memory.New()
	dir, err := denizen.New(ctx, people, denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(1)}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ID: "alice-0001", ScreenName: "Alice", Locators: []denizen.NewLocator{{Locator: "handle:al_ice"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	dir.Close()
	dir, err = denizen.New(ctx, people, denizen.Options{LocatorTypes: []denizen.LocatorRule{handleRule(2)}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	for change, err := range dir.RekeyLocators(ctx, denizen.System()) {
		fmt.Println(change.User, change.Locator, change.Outcome, err)
	}
	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Another", Locators: []denizen.NewLocator{{Locator: "handle:alice"}},
	})
	fmt.Println(err)
	// Output:
	// alice-0001 handle:al_ice kept <nil>
	// denizen: CreateUser: locator: taken
}

func ExampleTeleIn() {
	typed, err := denizen.TeleIn("DE", "0151 23456789")
	fmt.Println(typed.Locator, err)
	_, err = denizen.TeleIn("US", "0151 23456789")
	fmt.Println(err)
	// Output:
	// tele:+4915123456789 <nil>
	// denizen: TeleIn: locator: invalid: telephone number is not valid where it was typed
}
