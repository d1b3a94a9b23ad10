package username_test

import (
	"context"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/locator/username"
	"github.com/denizenhq/denizen/store/memory"
)

func Example() {
	ctx, system := context.Background(), denizen.System()
	names, err := username.Rule(username.Options{Reserved: []string{"acme"}})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{LocatorTypes: []denizen.LocatorRule{names}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	sign := func(id denizen.UserID, name string) denizen.Principal {
		u, err := dir.CreateUser(ctx, system, denizen.NewUser{ID: id, ScreenName: name})
		if err != nil {
			log.Fatal(err)
		}
		by, err := dir.ActAs(ctx, system, u.ID)
		if err != nil {
			log.Fatal(err)
		}
		return by
	}
	pal, other := sign("pal-0000001", "Pal"), sign("other-00001", "Other")
	take := func(by denizen.Principal, name string) {
		l, err := dir.AddLocator(ctx, by, by.User(), username.New(name))
		fmt.Println(l.Canonical, err)
	}
	take(pal, "PayPal")
	take(other, "paypa1")
	take(other, "раураl") // all but the last letter are Cyrillic
	take(other, "Acme")
	take(other, "other")

	ids, err := dir.Locate(ctx, system, "username:paypal", "username:paypa1", "username:OTHER")
	fmt.Printf("%q %v\n", ids, err)
	// Output:
	// paypal <nil>
	//  denizen: AddLocator: locator: taken
	//  denizen: AddLocator: locator: invalid: user name is of several scripts
	//  denizen: AddLocator: locator: invalid: user name is reserved
	// other <nil>
	// ["pal-0000001" "" "other-00001"] <nil>
}
