package denizen_test

import (
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

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
