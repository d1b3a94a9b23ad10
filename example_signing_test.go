package denizen_test

import (
	"encoding/json"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

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
	// denizen: Verify: token: unauthenticated: was not issued by this directory
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
