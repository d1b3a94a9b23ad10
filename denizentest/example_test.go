package denizentest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

// example stands for what a test function is given. An example has none of its own.
type example struct{ testing.TB }

func (example) Helper()                           {}
func (example) Cleanup(func())                    {}
func (example) Context() context.Context          { return context.Background() }
func (example) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func Example() {
	t := example{} // what the test function is given

	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
	signed := denizentest.Token(t, dir, alice.ID)

	by, err := dir.Authenticate(t.Context(), signed)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(by.User() == alice.ID)
	if err := dir.Logout(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	_, err = dir.Authenticate(t.Context(), signed)
	fmt.Println(errors.Is(err, denizen.ErrRevoked))
	// Output:
	// true
	// true
}

func ExampleNew() {
	t := example{}

	dir := denizentest.New(t, denizen.Options{ApplicationID: "notes"})
	n, err := dir.CountUsers(t.Context(), denizen.System())
	fmt.Println(dir.ApplicationID(), n, err)
	// Output: notes 0 <nil>
}

func ExampleUser() {
	t := example{}
	dir := denizentest.New(t)

	alice := denizentest.User(t, dir, "Alice", denizen.Email("alice@example.org"))
	fmt.Println(alice.ScreenName, alice.Locators[0], alice.Locators[0].Owned)
	// Output: Alice email:alice@example.org true
}

func ExampleCreate() {
	t := example{}
	dir := denizentest.New(t)
	denizentest.Define(t, dir, denizen.AttributeDef{Key: "plan"})

	alice := denizentest.Create(t, dir, denizen.NewUser{
		ID: "user-alice", ScreenName: "Alice",
		Attributes: []denizen.Attribute{{Key: "plan", Value: "gold"}},
	})
	fmt.Println(alice.ID)
	// Output: user-alice
}

func ExampleToken() {
	t := example{}
	dir := denizentest.New(t)
	alice := denizentest.Create(t, dir, denizen.NewUser{ID: "user-alice", ScreenName: "Alice"})

	// The service that is tested has a route for users.
	service := httpadapter.Require(dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "Hello, ", httpadapter.PrincipalFrom(r.Context()).User())
	}))
	r := httptest.NewRequest("GET", "/greeting", nil)
	r.Header.Set("Authorization", "Bearer "+denizentest.Token(t, dir, alice.ID))
	w := httptest.NewRecorder()
	service.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 Hello, user-alice
}

func ExamplePrincipal() {
	t := example{}
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")

	by := denizentest.Principal(t, dir, alice.ID)
	_, err := dir.SetScreenName(t.Context(), by, alice.ID, "Alice II")
	fmt.Println(err)
	fmt.Println(dir.DeleteUser(t.Context(), by, alice.ID))
	// Output:
	// <nil>
	// denizen: DeleteUser: denied
}

func ExampleDefine() {
	t := example{}
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")
	denizentest.Define(t, dir, denizen.AttributeDef{Key: "bio"}, denizen.AttributeDef{Key: "plan", WritableBy: denizen.ToSystem})

	by := denizentest.Principal(t, dir, alice.ID)
	for _, key := range []string{"bio", "plan"} {
		_, err := dir.SetAttribute(t.Context(), by, alice.ID, denizen.Attribute{Key: key, Value: "x"})
		fmt.Println(key, err)
	}
	// Output:
	// bio <nil>
	// plan denizen: SetAttribute: key: denied
}

func ExampleAccessKey() {
	t := example{}
	dir := denizentest.New(t)
	key := denizentest.AccessKey(t, dir)

	r := httptest.NewRequest("GET", "/v1/users", nil)
	r.SetBasicAuth(key.Key, key.Secret)
	w := httptest.NewRecorder()
	httpadapter.New(dir, httpadapter.Options{}).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 []
}

// A handler is tried while the directory is out of reach.
func ExampleFaulty() {
	t := example{}
	dir, faults := denizentest.Faulty(t)
	alice := denizentest.User(t, dir, "Alice")
	signed := denizentest.Token(t, dir, alice.ID)
	service := httpadapter.New(dir, httpadapter.Options{Observe: func(context.Context, httpadapter.Exchange) {}})

	ask := func() {
		r := httptest.NewRequest("GET", "/v1/users/me/screenname", nil)
		r.Header.Set("Authorization", "Bearer "+signed)
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	ask()
	faults.Begin(denizentest.Unavailable)
	ask()
	faults.End()
	ask()
	// Output:
	// 200
	// 503
	// 200
}

// Whoever repeats a write whose outcome is unknown has to say that it is the same one.
func ExampleFaults() {
	t := example{}
	dir, faults := denizentest.Faulty(t)
	alice := denizen.NewUser{ScreenName: "Alice", Idempotency: denizen.Idempotency{Key: "sign-up-1", Digest: "-"}}

	faults.Begin(denizentest.Made)
	_, err := dir.CreateUser(t.Context(), denizen.System(), alice)
	fmt.Println(errors.Is(err, denizen.ErrOutcomeUnknown))
	faults.End()

	if _, err := dir.CreateUser(t.Context(), denizen.System(), alice); err != nil {
		t.Fatal(err)
	}
	n, err := dir.CountUsers(t.Context(), denizen.System())
	fmt.Println(n, err)
	// Output:
	// true
	// 1 <nil>
}
