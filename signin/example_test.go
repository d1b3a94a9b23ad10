package signin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store/memory"
)

// mailed is where the examples find what was sent.
var mailed = make(chan signin.Delivery, 1)

func exampleService() (*denizen.Directory, *signin.Service) {
	dir, err := denizen.New(context.Background(), memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	people, err := signin.New(dir, signin.Options{
		Deliver: func(_ context.Context, d signin.Delivery) error {
			mailed <- d // here a service sends mail
			return nil
		},
		Newcomer: func() denizen.NewUser { return denizen.NewUser{ScreenName: "Newcomer"} },
	})
	if err != nil {
		log.Fatal(err)
	}
	return dir, people
}

func Example() {
	ctx, system := context.Background(), denizen.System()
	dir, people := exampleService()
	defer dir.Close()
	defer people.Close()

	proof, err := people.Start(ctx, system, signin.Request{
		Locator: "email:alice@example.org", Client: "192.0.2.7",
	})
	if err != nil {
		log.Fatal(err)
	}
	message := <-mailed
	fmt.Println("to", message.Address, "for", message.Purpose)

	in, err := people.Finish(ctx, system, proof, message.Code)
	if err != nil {
		log.Fatal(err)
	}
	token, err := people.IssueToken(ctx, system, in, denizen.TokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(in.User.ScreenName, in.User.Locators[0].Status, token.Signed != "")

	_, err = people.Finish(ctx, system, proof, message.Code)
	fmt.Println(errors.Is(err, denizen.ErrDenied))
	// Output:
	// to alice@example.org for sign-in
	// Newcomer Verified true
	// true
}

func ExampleService_Handler() {
	dir, people := exampleService()
	defer dir.Close()
	defer people.Close()

	mux := http.NewServeMux()
	mux.Handle("/sign-in/", http.StripPrefix("/sign-in",
		people.Handler(denizen.System(), signin.HandlerOptions{})))
	mux.Handle("/v1/", httpadapter.New(dir, httpadapter.Options{Prove: people}))
}

func ExampleService_StartVerify() {
	ctx, system := context.Background(), denizen.System()
	dir, people := exampleService()
	defer dir.Close()
	defer people.Close()

	alice, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Alice"})
	if err != nil {
		log.Fatal(err)
	}
	token, err := dir.IssueToken(ctx, system, alice.ID, denizen.TokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.Authenticate(ctx, token.Signed)
	if err != nil {
		log.Fatal(err)
	}
	claim, err := dir.AddLocator(ctx, by, alice.ID, denizen.Email("alice@example.org"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("owned:", claim.Owned)

	proof, err := people.StartVerify(ctx, by, claim.ID, "en")
	if err != nil {
		log.Fatal(err)
	}
	proved, err := people.FinishVerify(ctx, by, claim.ID, proof, (<-mailed).Code)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("owned:", proved.Owned)
	// Output:
	// owned: false
	// owned: true
}
