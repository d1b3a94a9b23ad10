package denizen_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

func Example() {
	ctx, app := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{}) // or denizen.Open(ctx, "people.db", …)
	check(err)
	defer dir.Close()
	alice, err := dir.CreateUser(ctx, app, denizen.NewUser{
		ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	check(err)
	token, err := dir.IssueToken(ctx, app, alice.ID, denizen.TokenOptions{TTL: time.Hour})
	check(err)
	by, err := dir.Authenticate(ctx, token.Signed) // who is calling
	check(err)
	check(dir.SetPresence(ctx, by, alice.ID, denizen.Online(15*time.Second).Then(denizen.Offline())))
	now, err := dir.Presence(ctx, by, alice.ID)
	fmt.Println(alice.ScreenName, now.Presence.State(), err)
	fmt.Println(dir.DeleteUser(ctx, by, alice.ID)) // a user may not, not even itself
	// Output:
	// Alice mitter.up.Online <nil>
	// denizen: DeleteUser: denied
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Example_walk is the walk of the package's documentation.
func Example_walk() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	// The application creates a user, who owns the address from now on.
	system := denizen.System()
	alice, err := dir.CreateUser(ctx, system, denizen.NewUser{
		ScreenName: "Alice",
		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Somebody proved to be Alice: the application gives out a token.
	token, err := dir.IssueToken(ctx, system, alice.ID, denizen.TokenOptions{TTL: time.Hour})
	if err != nil {
		log.Fatal(err)
	}

	// A request comes with it: from here on the caller is Alice, and may do what Alice may.
	by, err := dir.Authenticate(ctx, token.Signed)
	if err != nil {
		log.Fatal(err)
	}
	_, err = dir.SetScreenName(ctx, by, alice.ID, "Alice in W.")
	if err != nil {
		log.Fatal(err)
	}
	chain := denizen.Online(15 * time.Second).Then(denizen.Away(30 * time.Second)).Then(denizen.Offline())
	err = dir.SetPresence(ctx, by, alice.ID, chain)
	if err != nil {
		log.Fatal(err)
	}

	// Tokens, locators and presence end with the user, in one commit.
	err = dir.DeleteUser(ctx, system, alice.ID)
	if err != nil {
		log.Fatal(err)
	}
	_, err = dir.Authenticate(ctx, token.Signed)
	fmt.Println(errors.Is(err, denizen.ErrRevoked)) // true
	// Output: true
}

// Most examples begin with a directory in memory, which ends with the program.
func exampleDirectory() (context.Context, *denizen.Directory) {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{ApplicationID: "example"})
	if err != nil {
		log.Fatal(err)
	}
	return ctx, dir
}

// exampleUser creates a user.
func exampleUser(dir *denizen.Directory, id denizen.UserID, screenName string, locators ...denizen.NewLocator) denizen.User {
	u, err := dir.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: id, ScreenName: screenName, Locators: locators})
	if err != nil {
		log.Fatal(err)
	}
	return u
}

// exampleToken issues a token for a user.
func exampleToken(dir *denizen.Directory, user denizen.UserID) denizen.IssuedToken {
	issued, err := dir.IssueToken(context.Background(), denizen.System(), user, denizen.TokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return issued
}

// exampleSignIn answers the principal of a user who came with a token.
func exampleSignIn(dir *denizen.Directory, user denizen.UserID) denizen.Principal {
	by, err := dir.Authenticate(context.Background(), exampleToken(dir, user).Signed)
	if err != nil {
		log.Fatal(err)
	}
	return by
}

// exampleAttribute defines an attribute that users set for themselves.
func exampleAttribute(dir *denizen.Directory, key string) {
	if _, err := dir.DefineAttribute(context.Background(), denizen.System(), denizen.AttributeDef{Key: key}); err != nil {
		log.Fatal(err)
	}
}

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

func ExampleSystem() {
	p := denizen.System()
	fmt.Println(p, p.MayParticipate())

	var nobody denizen.Principal // what a call without a credential comes as
	fmt.Println(nobody, nobody.MayParticipate())
	// Output:
	// .system false
	// .anonymous false
}

func ExamplePrincipal() {
	_, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice")

	by := exampleSignIn(dir, alice.ID)
	fmt.Println(by.User(), by.IsUser(), by.MayParticipate(), by.IsSystem(), by.IsAnonymous())
	fmt.Println(by.Token() != "", by.AccessKey() == "")
	fmt.Println(by == exampleSignIn(dir, alice.ID)) // another token: another principal
	// Output:
	// user-alice true true false false
	// true true
	// false
}

func ExampleError() {
	ctx, dir := exampleDirectory()
	_, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: ""})

	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	if refused, ok := errors.AsType[*denizen.Error](err); ok {
		fmt.Println(refused.Op, refused.Field, refused.Reason)
		fmt.Println(refused.Cause()) // of the store, for the log
	}
	// Output:
	// true
	// CreateUser screenName must be 1 to 128 characters
	// <nil>
}

func ExampleFacet() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{
		// Everybody sees everybody's name and presence, and nobody's profile.
		MaySee: func(ctx context.Context, viewer, subject denizen.UserID, what denizen.Facet) (bool, error) {
			return what != denizen.FacetProfile, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	exampleUser(dir, "user-bob", "Bob")
	bob := exampleSignIn(dir, "user-bob")

	seen, err := dir.User(ctx, bob, "user-alice")
	fmt.Println(seen.ScreenName, len(seen.Locators), err)
	_, err = dir.Profile(ctx, bob, "user-alice")
	fmt.Println(err)
	// Output:
	// Alice 0 <nil>
	// denizen: Profile: denied
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

// Users

func ExampleDirectory_CreateUser() {
	ctx, dir := exampleDirectory()

	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ID:         "user-alice", // without one, one is made
		ScreenName: "Alice",
		Locators:   []denizen.NewLocator{denizen.Email("Alice@Example.org"), denizen.Tele("+1 (201) 555-0123")},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range alice.Locators {
		fmt.Println(l, "is", l.Canonical)
	}

	_, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Eve",
		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	fmt.Println(err)
	// Output:
	// email:Alice@Example.org is alice@example.org
	// tele:+12015550123 is +12015550123
	// denizen: CreateUser: locator: taken
}

func ExampleDirectory_CreateUser_idempotency() {
	ctx, dir := exampleDirectory()
	request := denizen.NewUser{
		ScreenName:  "Alice",
		Idempotency: denizen.Idempotency{Key: "sign-up 4711", Digest: "of the request's body"},
	}

	first, err := dir.CreateUser(ctx, denizen.System(), request)
	if err != nil {
		log.Fatal(err)
	}
	again, err := dir.CreateUser(ctx, denizen.System(), request) // the answer was lost, say
	fmt.Println(again.ID == first.ID, err)

	request.Idempotency.Digest = "of another body"
	_, err = dir.CreateUser(ctx, denizen.System(), request)
	fmt.Println(errors.Is(err, denizen.ErrConflict))
	// Output:
	// true <nil>
	// true
}

func ExampleDirectory_User() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	alice, err := dir.User(ctx, denizen.System(), "user-alice")
	fmt.Println(alice.ScreenName, alice.Blocked, err)
	_, err = dir.User(ctx, denizen.System(), "user-nobody")
	fmt.Println(err)
	// Output:
	// Alice false <nil>
	// denizen: User: user: not found
}

func ExampleDirectory_UsersByID() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")

	users, err := dir.UsersByID(ctx, denizen.System(), []denizen.UserID{"user-bob", "user-alice"})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.ScreenName)
	}
	// Output:
	// Bob
	// Alice
}

func ExampleDirectory_ResolveUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	alice := exampleSignIn(dir, "user-alice")

	id, err := dir.ResolveUser(ctx, denizen.System(), "email:ALICE@example.org")
	fmt.Println(id, err)
	id, err = dir.ResolveUser(ctx, alice, "me")
	fmt.Println(id, err)
	_, err = dir.ResolveUser(ctx, alice, "email:bob@example.org") // whether or not there is a Bob
	fmt.Println(err)
	// Output:
	// user-alice <nil>
	// user-alice <nil>
	// denizen: ResolveUser: denied
}

func ExampleDirectory_UsersByLocator() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	users, err := dir.UsersByLocator(ctx, denizen.System(), []string{"email:alice@example.org", "email:nobody@example.org"})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range users {
		fmt.Println(u.ID)
	}
	// Output: user-alice
}

func ExampleDirectory_Users() {
	ctx, dir := exampleDirectory()
	for _, id := range []denizen.UserID{"user-alice", "user-bob", "user-carol"} {
		exampleUser(dir, id, "A user")
	}

	page, err := dir.Users(ctx, denizen.System(), denizen.UserQuery{Limit: 2})
	fmt.Println(page.Users[0].ID, page.Users[1].ID, err)
	page, err = dir.Users(ctx, denizen.System(), denizen.UserQuery{Limit: 2, After: page.Next})
	fmt.Println(page.Users[0].ID, page.Next == "", err)
	// Output:
	// user-alice user-bob <nil>
	// user-carol true <nil>
}

func ExampleDirectory_AllUsers() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-bob", "Bob")
	exampleUser(dir, "user-alice", "Alice")

	for u, err := range dir.AllUsers(ctx, denizen.System()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(u.ID)
	}
	// Output:
	// user-alice
	// user-bob
}

func ExampleDirectory_CountUsers() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	fmt.Println(dir.CountUsers(ctx, denizen.System()))
	// Output: 1 <nil>
}

func ExampleDirectory_SetScreenName() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	by := exampleSignIn(dir, "user-alice")

	before, err := dir.User(ctx, by, "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	after, err := dir.SetScreenName(ctx, by, "user-alice", "Alice in W.", before.Version)
	fmt.Println(after.ScreenName, err)
	_, err = dir.SetScreenName(ctx, by, "user-alice", "Alice L.", before.Version)
	fmt.Println(err)
	// Output:
	// Alice in W. <nil>
	// denizen: SetScreenName: version: conflict: is another one by now
}

func ExampleDirectory_BlockUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	blocked, err := dir.BlockUser(ctx, denizen.System(), "user-alice")
	fmt.Println(blocked.Blocked, err)
	_, err = dir.Authenticate(ctx, token.Signed)
	fmt.Println(err)
	// Output:
	// true <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_UnblockUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")
	if _, err := dir.BlockUser(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}

	alice, err := dir.UnblockUser(ctx, denizen.System(), "user-alice")
	fmt.Println(alice.Blocked, err)
	_, err = dir.Authenticate(ctx, token.Signed) // it stays ended: a new one is needed
	fmt.Println(err)
	// Output:
	// false <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_DeleteUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	if err := dir.DeleteUser(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}
	bob := exampleUser(dir, "user-bob", "Bob", denizen.Email("alice@example.org")) // free again
	fmt.Println(bob.Locators[0])
	// Output: email:alice@example.org
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

func ExampleParseUserID() {
	id, err := denizen.ParseUserID("alice-0001")
	fmt.Println(id, err)
	_, err = denizen.ParseUserID(".system")
	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	// Output:
	// alice-0001 <nil>
	// true
}

func ExampleParseLocator() {
	kind, canonical, err := denizen.ParseLocator("tele:+1 (201) 555-0123")
	fmt.Println(kind, canonical, err)
	_, _, err = denizen.ParseLocator("email:alice at example.org")
	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	// Output:
	// tele +12015550123 <nil>
	// true
}

func ExampleEmail() {
	fmt.Println(denizen.Email("alice@example.org").Locator)

	verified := denizen.Email("alice@example.org")
	verified.Status = denizen.Verified
	fmt.Println(verified.Status)
	// Output:
	// email:alice@example.org
	// Verified
}

func ExampleTele() {
	fmt.Println(denizen.Tele("+1 201 555 0123").Locator)
	// Output: tele:+1 201 555 0123
}

func ExampleDirectory_AddLocator() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	owned, err := dir.AddLocator(ctx, denizen.System(), "user-alice", denizen.Email("alice@example.org"))
	fmt.Println(owned, owned.Owned, owned.Status, err)

	// What a user adds for itself is a claim, whoever owns the address.
	by := exampleSignIn(dir, "user-alice")
	claim, err := dir.AddLocator(ctx, by, "user-alice", denizen.Tele("+12015550123"))
	fmt.Println(claim, claim.Owned, claim.Status, err)
	// Output:
	// email:alice@example.org true StatusNotProvided <nil>
	// tele:+12015550123 false Unverified <nil>
}

func ExampleDirectory_SetVerification() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-eve", "Eve")
	address := denizen.Email("alice@example.org")

	claimOf := func(user denizen.UserID) denizen.LocatorID {
		claim, err := dir.AddLocator(ctx, exampleSignIn(dir, user), user, address)
		if err != nil {
			log.Fatal(err)
		}
		return claim.ID
	}
	eves, alices := claimOf("user-eve"), claimOf("user-alice")

	// Alice followed the link that was sent to the address.
	l, err := dir.SetVerification(ctx, denizen.System(), "user-alice", alices, denizen.Verified)
	fmt.Println(l, l.Owned, err)
	_, err = dir.SetVerification(ctx, denizen.System(), "user-eve", eves, denizen.Verified)
	fmt.Println(err)
	// Output:
	// email:alice@example.org true <nil>
	// denizen: SetVerification: locator: taken
}

func ExampleDirectory_ProveLocator() {
	ctx, dir := exampleDirectory()

	// A first sign-in: whoever reads the mail of this address sent the code back.
	newcomer := denizen.NewUser{ScreenName: "Newcomer"}
	alice, err := dir.ProveLocator(ctx, denizen.System(), "email:alice@example.org", newcomer)
	fmt.Println(alice.Locators[0], alice.Locators[0].Status, err)

	// An address of hers that somebody typed, and that nobody proved yet.
	_, err = dir.AddLocator(ctx, denizen.System(), alice.ID, denizen.Email("bob@example.org"))
	if err != nil {
		log.Fatal(err)
	}
	bob, err := dir.ProveLocator(ctx, denizen.System(), "email:bob@example.org", newcomer)
	fmt.Println(bob.ID != alice.ID, err)

	again, err := dir.ProveLocator(ctx, denizen.System(), "email:Alice@Example.org", newcomer)
	fmt.Println(again.ID == alice.ID, len(again.Locators), err)
	// Output:
	// email:alice@example.org Verified <nil>
	// true <nil>
	// true 1 <nil>
}

func ExampleDirectory_Locators() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"), denizen.Tele("+12015550123"))

	locators, err := dir.Locators(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range locators {
		fmt.Println(l.Type, l.Address)
	}
	// Output:
	// email alice@example.org
	// tele +12015550123
}

func ExampleDirectory_Locator() {
	ctx, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	l, err := dir.Locator(ctx, denizen.System(), alice.ID, alice.Locators[0].ID)
	fmt.Println(l, err)
	// Output: email:alice@example.org <nil>
}

func ExampleDirectory_SetLocators() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))

	alice, err := dir.SetLocators(ctx, denizen.System(), "user-alice", []denizen.NewLocator{
		denizen.Email("alice@example.com"),
		denizen.Tele("+12015550123"),
	})
	fmt.Println(alice.Locators, err)
	// Output: [email:alice@example.com tele:+12015550123] <nil>
}

func ExampleDirectory_RemoveLocator() {
	ctx, dir := exampleDirectory()
	alice := exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	by := exampleSignIn(dir, alice.ID)

	fmt.Println(dir.RemoveLocator(ctx, by, alice.ID, alice.Locators[0].ID))
	_, err := dir.ResolveUser(ctx, denizen.System(), "email:alice@example.org")
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: ResolveUser: locator: not found
}

// Profile

func ExampleDirectory_DefineAttribute() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	by := exampleSignIn(dir, "user-alice")

	def, err := dir.DefineAttribute(ctx, denizen.System(), denizen.AttributeDef{
		Key:        "plan",
		NotEmpty:   true,
		WritableBy: denizen.ToSystem,
	})
	fmt.Println(def.Key, def.VisibleTo, def.WritableBy, def.MaxBytes, err)

	_, err = dir.SetAttribute(ctx, by, "user-alice", denizen.Attribute{Key: "plan", Value: "gold"})
	fmt.Println(err)
	// Output:
	// plan self system 65536 <nil>
	// denizen: SetAttribute: key: denied
}

func ExampleDirectory_AttributeDef() {
	ctx, dir := exampleDirectory()
	exampleAttribute(dir, "bio")

	def, err := dir.AttributeDef(ctx, denizen.System(), "bio")
	fmt.Println(def.Key, def.VisibleTo, err)
	// Output: bio self <nil>
}

func ExampleDirectory_AttributeDefs() {
	ctx, dir := exampleDirectory()
	exampleAttribute(dir, "plan")
	exampleAttribute(dir, "birthday")

	defs, err := dir.AttributeDefs(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	for _, def := range defs {
		fmt.Println(def.Key)
	}
	// Output:
	// birthday
	// plan
}

func ExampleDirectory_DropAttributeDef() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "plan")
	if _, err := dir.SetAttribute(ctx, denizen.System(), "user-alice", denizen.Attribute{Key: "plan", Value: "gold"}); err != nil {
		log.Fatal(err)
	}

	fmt.Println(dir.DropAttributeDef(ctx, denizen.System(), "plan"))
	if err := dir.RemoveAttribute(ctx, denizen.System(), "user-alice", "plan"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.DropAttributeDef(ctx, denizen.System(), "plan"))
	// Output:
	// denizen: DropAttributeDef: key: conflict: is in use
	// <nil>
}

func ExampleDirectory_SetAttribute() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "bio")
	by := exampleSignIn(dir, "user-alice")

	p, err := dir.SetAttribute(ctx, by, "user-alice", denizen.Attribute{Key: "bio", Value: "Down the hole."})
	fmt.Println(p.Attributes[0].Value, err)
	_, err = dir.SetAttribute(ctx, by, "user-alice", denizen.Attribute{Key: "shoe size", Value: "36"})
	fmt.Println(err)
	// Output:
	// Down the hole. <nil>
	// denizen: SetAttribute: key: invalid: has no definition
}

func ExampleDirectory_SetAttributes() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "city")
	exampleAttribute(dir, "street")
	exampleAttribute(dir, "plan")

	set := func(mode denizen.PatchMode, attributes ...denizen.Attribute) {
		p, err := dir.SetAttributes(ctx, denizen.System(), "user-alice", attributes, mode)
		if err != nil {
			log.Fatal(err)
		}
		var values []string
		for _, a := range p.Attributes {
			values = append(values, a.Key+": "+a.Value)
		}
		fmt.Println(strings.Join(values, ", "))
	}
	set(denizen.Merge, denizen.Attribute{Key: "city", Value: "Oxford"}, denizen.Attribute{Key: "plan", Value: "gold"})
	set(denizen.Merge, denizen.Attribute{Key: "street", Value: "St Aldate's"})
	set(denizen.Replace, denizen.Attribute{Key: "city", Value: "Guildford"})
	// Output:
	// city: Oxford, plan: gold
	// city: Oxford, plan: gold, street: St Aldate's
	// city: Guildford
}

func ExampleDirectory_RemoveAttribute() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "city")
	if _, err := dir.SetAttribute(ctx, denizen.System(), "user-alice", denizen.Attribute{Key: "city", Value: "Oxford"}); err != nil {
		log.Fatal(err)
	}

	fmt.Println(dir.RemoveAttribute(ctx, denizen.System(), "user-alice", "city"))
	fmt.Println(dir.RemoveAttribute(ctx, denizen.System(), "user-alice", "city"))
	// Output:
	// <nil>
	// denizen: RemoveAttribute: attribute: not found
}

func ExampleDirectory_Profile() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "city")
	if _, err := dir.DefineAttribute(ctx, denizen.System(), denizen.AttributeDef{Key: "score", VisibleTo: denizen.ToSystem}); err != nil {
		log.Fatal(err)
	}
	both := []denizen.Attribute{{Key: "city", Value: "Oxford"}, {Key: "score", Value: "7"}}
	if _, err := dir.SetAttributes(ctx, denizen.System(), "user-alice", both, denizen.Merge); err != nil {
		log.Fatal(err)
	}

	p, err := dir.Profile(ctx, exampleSignIn(dir, "user-alice"), "user-alice")
	fmt.Println(p.Attributes, err)
	// Output: [{city text/plain identity Oxford}] <nil>
}

func ExampleDirectory_Attributes() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleAttribute(dir, "city")
	if _, err := dir.SetAttribute(ctx, denizen.System(), "user-alice", denizen.Attribute{Key: "city", Value: "Oxford"}); err != nil {
		log.Fatal(err)
	}

	attributes, err := dir.Attributes(ctx, denizen.System(), "user-alice", []string{"city"})
	fmt.Println(attributes[0].Value, err)
	_, err = dir.Attributes(ctx, denizen.System(), "user-alice", []string{"city", "street"}) // all of them or none
	fmt.Println(err)
	// Output:
	// Oxford <nil>
	// denizen: Attributes: attribute: not found
}

// Presence

func ExamplePresence() {
	p := denizen.Online(15 * time.Second).Then(denizen.Offline()).On("phone")
	fmt.Println(p.Device(), p.State(), p.TTL())

	next, more := p.Next()
	fmt.Println(next.State(), next.TTL(), more) // 0: for good

	fmt.Println(p.Equal(denizen.Online(15 * time.Second)))
	// Output:
	// phone mitter.up.Online 15s
	// mitter.up.Offline 0s true
	// false
}

func ExamplePresence_Then() {
	p := denizen.Online(15 * time.Second).Then(denizen.Away(30 * time.Second)).Then(denizen.Offline())
	for more := true; more; p, more = p.Next() {
		fmt.Println(p.State(), p.TTL())
	}
	// Output:
	// mitter.up.Online 15s
	// mitter.up.Away 30s
	// mitter.up.Offline 0s
}

func ExamplePresence_On() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, p := range []denizen.Presence{
		denizen.Online(time.Hour).On("phone"),
		denizen.Away(time.Hour).On("laptop"),
	} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", p); err != nil {
			log.Fatal(err)
		}
	}

	now, err := dir.Presence(ctx, denizen.System(), "user-alice") // the best device
	fmt.Println(now.Presence.Device(), now.Presence.State(), err)
	// Output: phone mitter.up.Online <nil>
}

func ExampleState() {
	fmt.Println(denizen.State("In a meeting", time.Hour).State())
	// Output: In a meeting
}

func ExampleOnline() {
	fmt.Println(denizen.Online().State(), denizen.Online(time.Minute).TTL())
	// Output: mitter.up.Online 1m0s
}

func ExampleAway() {
	fmt.Println(denizen.Away().State())
	// Output: mitter.up.Away
}

func ExampleSleeping() {
	fmt.Println(denizen.Sleeping().State())
	// Output: mitter.up.Sleeping
}

func ExampleMissing() {
	fmt.Println(denizen.Missing().State())
	// Output: mitter.up.Missing
}

func ExampleOffline() {
	fmt.Println(denizen.Offline().State())
	// Output: mitter.up.Offline
}

func ExampleDirectory_Presence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v %v\n", now.Presence.State(), now.Since.IsZero(), err) // none was ever set

	if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online(time.Hour)); err != nil {
		log.Fatal(err)
	}
	now, err = dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v %v\n", now.Presence.State(), now.Since.IsZero(), err)
	// Output:
	// "" true <nil>
	// "mitter.up.Online" false <nil>
}

func ExampleDirectory_Presences() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	if err := dir.SetPresence(ctx, denizen.System(), "user-bob", denizen.Sleeping()); err != nil {
		log.Fatal(err)
	}

	presences, err := dir.Presences(ctx, denizen.System(), []denizen.UserID{"user-alice", "user-bob"})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range presences {
		fmt.Printf("%s %q\n", p.User, p.Presence.State())
	}
	// Output:
	// user-alice ""
	// user-bob "mitter.up.Sleeping"
}

func ExampleDirectory_ClearPresence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, device := range []string{"phone", "laptop"} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online().On(device)); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(dir.ClearPresence(ctx, denizen.System(), "user-alice", "phone"))
	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Println(now.Presence.Device(), err)
	// Output:
	// <nil>
	// laptop <nil>
}

func ExampleDirectory_ClearAllPresence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, device := range []string{"phone", "laptop"} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online().On(device)); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(dir.ClearAllPresence(ctx, denizen.System(), "user-alice"))
	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v\n", now.Presence.State(), err)
	// Output:
	// <nil>
	// "" <nil>
}

// A phone was lost while it was set online, which stays. Its owner finds it in the list and
// takes it away.
func ExampleDirectory_Devices() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, p := range []denizen.Presence{denizen.Online().On("lost phone"), denizen.Away(time.Hour).On("laptop")} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", p); err != nil {
			log.Fatal(err)
		}
	}

	devices, err := dir.Devices(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range devices {
		if p.Until.IsZero() {
			fmt.Println(p.Presence.Device(), "is", p.Presence.State(), "until another is set")
		} else {
			fmt.Println(p.Presence.Device(), "is", p.Presence.State(), "for", p.Until.Sub(p.Since))
		}
	}
	fmt.Println(dir.ClearPresence(ctx, denizen.System(), "user-alice", "lost phone"))
	// Output:
	// laptop is mitter.up.Away for 1h0m0s
	// lost phone is mitter.up.Online until another is set
	// <nil>
}

// Tokens

func ExampleDirectory_IssueToken() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	token, err := dir.IssueToken(ctx, denizen.System(), "user-alice", denizen.TokenOptions{
		TTL:   time.Hour,
		Label: "Alice's phone",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Count(token.Signed, ".")) // header.claims.signature: hand it to the client
	fmt.Println(fmt.Sprint(token) == "token "+string(token.ID)+" (text not shown)")
	// Output:
	// 2
	// true
}

func ExampleDirectory_Authenticate() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	by, err := dir.Authenticate(ctx, token.Signed)
	fmt.Println(by, err)
	by, err = dir.Authenticate(ctx, "something else")
	fmt.Println(by, err)
	// Output:
	// user-alice <nil>
	// .anonymous denizen: Authenticate: token: unauthenticated: is none of this directory's
}

func ExampleDirectory_Tokens() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, label := range []string{"phone", "laptop"} {
		if _, err := dir.IssueToken(ctx, denizen.System(), "user-alice", denizen.TokenOptions{Label: label}); err != nil {
			log.Fatal(err)
		}
	}

	tokens, err := dir.Tokens(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range tokens {
		fmt.Println(t.Label, t.ExpiresAt.After(t.IssuedAt))
	}
	// Output:
	// phone true
	// laptop true
}

func ExampleDirectory_ExtendToken() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	first := exampleToken(dir, "user-alice")
	by, err := dir.Authenticate(ctx, first.Signed)
	if err != nil {
		log.Fatal(err)
	}

	second, err := dir.ExtendToken(ctx, by, by.User(), by.Token(), 7*24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(second.ID == first.ID, second.Signed == first.Signed, second.ExpiresAt.After(first.ExpiresAt))
	// Output: true false true
}

func ExampleDirectory_RevokeTokens() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	phone, laptop := exampleToken(dir, "user-alice"), exampleToken(dir, "user-alice")

	fmt.Println(dir.RevokeTokens(ctx, denizen.System(), "user-alice", phone.ID))
	_, err := dir.Authenticate(ctx, phone.Signed)
	fmt.Println(err)
	_, err = dir.Authenticate(ctx, laptop.Signed)
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: Authenticate: token: revoked
	// <nil>
}

func ExampleDirectory_RevokeAllTokens() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	fmt.Println(dir.RevokeAllTokens(ctx, denizen.System(), "user-alice"))
	_, err := dir.Authenticate(ctx, token.Signed)
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_Logout() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")
	by, err := dir.Authenticate(ctx, token.Signed)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(dir.Logout(ctx, by)) // this token and no other
	_, err = dir.Authenticate(ctx, token.Signed)
	fmt.Println(err)
	// Output:
	// <nil>
	// denizen: Authenticate: token: revoked
}

func ExampleDirectory_PublicKeys() {
	ctx, dir := exampleDirectory()
	keys, err := dir.PublicKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	set, err := json.Marshal(keys) // a JWK set, for any JWT library
	fmt.Println(strings.Contains(string(set), `"crv":"Ed25519"`), err)
	// Output: true <nil>
}

func ExampleKeySet() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")
	keys, err := dir.PublicKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	published, err := json.Marshal(keys)
	if err != nil {
		log.Fatal(err)
	}

	// Another program fetched what was published.
	var fetched denizen.KeySet
	if err := json.Unmarshal(published, &fetched); err != nil {
		log.Fatal(err)
	}
	claims, err := denizen.Verifier{Keys: fetched, Issuer: dir.ID(), Audience: dir.ApplicationID()}.Verify(token.Signed)
	fmt.Println(claims.User, err, len(fetched.IDs()))
	// Output: user-alice <nil> 1
}

func ExampleVerifier() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")
	keys, err := dir.PublicKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := dir.RevokeAllTokens(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}

	// Nobody was asked, so a revoked token passes until it expires.
	claims, err := denizen.Verifier{Keys: keys, Issuer: dir.ID(), Audience: dir.ApplicationID()}.Verify(token.Signed)
	fmt.Println(claims.User, err)
	_, err = denizen.Verifier{Keys: keys, Issuer: dir.ID(), Audience: "another application"}.Verify(token.Signed)
	fmt.Println(err)
	// Output:
	// user-alice <nil>
	// denizen: Verify: token: unauthenticated: is none of this directory's
}

func ExampleDirectory_RotateSigningKey() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	token := exampleToken(dir, "user-alice")

	// Services that verify offline have an hour to fetch the new key.
	fmt.Println(dir.RotateSigningKey(ctx, denizen.System(), time.Hour))
	_, err := dir.Authenticate(ctx, token.Signed) // nobody is logged out
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

func ExampleDirectory_DropSigningKey() {
	ctx, dir := exampleDirectory()
	ids := func() []string {
		keys, err := dir.PublicKeys(ctx)
		if err != nil {
			log.Fatal(err)
		}
		return keys.IDs()
	}
	if err := dir.RotateSigningKey(ctx, denizen.System(), time.Hour); err != nil {
		log.Fatal(err)
	}
	signing, announced := ids()[0], ids()[1]

	fmt.Println(dir.DropSigningKey(ctx, denizen.System(), announced)) // it leaked, say
	fmt.Println(len(ids()))
	fmt.Println(dir.DropSigningKey(ctx, denizen.System(), signing))
	// Output:
	// <nil>
	// 1
	// denizen: DropSigningKey: signingKey: conflict: signs now
}

// Access keys

func ExampleDirectory_CreateAccessKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret) // the only time the secret is seen
	fmt.Println(by, by.AccessKey() == key.Key, err)
	// Output: .system true <nil>
}

func ExampleDirectory_PutAccessKey() {
	ctx, dir := exampleDirectory()
	secret := base64.StdEncoding.EncodeToString([]byte("from the host's own vault, 32 bytes or more"))

	fmt.Println(dir.PutAccessKey(ctx, denizen.System(), "backend-2026", secret))
	fmt.Println(dir.PutAccessKey(ctx, denizen.System(), "backend-2026", secret)) // at the next start
	// Output:
	// <nil>
	// <nil>
}

func ExampleDirectory_AccessKeys() {
	ctx, dir := exampleDirectory()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, key := range []string{"backend-2025", "backend-2026"} {
		if err := dir.PutAccessKey(ctx, denizen.System(), key, secret); err != nil {
			log.Fatal(err)
		}
	}

	keys, err := dir.AccessKeys(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys {
		fmt.Println(k.Key, k.LastUsedAt.IsZero())
	}
	// Output:
	// backend-2025 true
	// backend-2026 true
}

func ExampleDirectory_DeleteAccessKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(dir.DeleteAccessKey(ctx, denizen.System(), key.Key))
	_, err = dir.CountUsers(ctx, by) // who came with it before is out as well
	fmt.Println(errors.Is(err, denizen.ErrRevoked))
	// Output:
	// <nil>
	// true
}

func ExampleDirectory_RevokeTokensIssuedBy() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := dir.IssueToken(ctx, by, "user-alice", denizen.TokenOptions{}); err != nil {
		log.Fatal(err)
	}

	// The key leaked: it goes first, then what was issued with it.
	if err := dir.DeleteAccessKey(ctx, denizen.System(), key.Key); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.RevokeTokensIssuedBy(ctx, denizen.System(), key.Key))
	// Output: 1 <nil>
}

func ExampleDirectory_AuthenticateKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}

	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	fmt.Println(by, err)
	by, err = dir.AuthenticateKey(ctx, key.Key, "a guess")
	fmt.Println(by, err)
	// Output:
	// .system <nil>
	// .anonymous denizen: AuthenticateKey: accessKey: unauthenticated
}

func ExampleDirectory_AuthenticateSigned() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}

	// The client signs a request without a body.
	body := md5.Sum(nil)
	r := denizen.SignedRequest{
		AccessKey:   key.Key,
		Method:      "GET",
		ContentType: "null",
		ContentMD5:  base64.StdEncoding.EncodeToString(body[:]),
		Date:        time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"),
		Path:        "/v1/users",
		Nonce:       "nonce-0001",
	}
	secret, err := base64.StdEncoding.DecodeString(key.Secret)
	if err != nil {
		log.Fatal(err)
	}
	mac := hmac.New(sha1.New, secret)
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s\n%s", r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce)
	r.Digest = base64.StdEncoding.EncodeToString(mac.Sum(nil))

	by, err := dir.AuthenticateSigned(ctx, r)
	fmt.Println(by, err)
	_, err = dir.AuthenticateSigned(ctx, r) // a second time
	fmt.Println(err)
	// Output:
	// .system <nil>
	// denizen: AuthenticateSigned: nonce: unauthenticated: was used before
}

func ExampleDirectory_ActAs() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	alice, err := dir.ActAs(ctx, denizen.System(), "user-alice")
	fmt.Println(alice, err)
	fmt.Println(dir.DeleteUser(ctx, alice, "user-alice")) // it may do what Alice may
	// Output:
	// user-alice <nil>
	// denizen: DeleteUser: denied
}

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

func ExampleError_LogValue() {
	_, err := denizen.ParseUserID("no")
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "reason" {
				return slog.Attr{}
			}
			return a
		},
	}))
	log.Error("not let in", "err", err)
	// Output: level=ERROR msg="not let in" err.op=ParseUserID err.kind=invalid err.field=user
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

func ExampleDirectory_Check() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	alice := exampleSignIn(dir, "user-alice") // at the start of a connection that stays open
	fmt.Println(dir.Check(ctx, alice))

	if err := dir.RevokeAllTokens(ctx, denizen.System(), "user-alice"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(dir.Check(ctx, alice), denizen.ErrRevoked)) // by the minute: end it
	// Output:
	// <nil>
	// true
}
