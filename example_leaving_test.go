package denizen_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"

	"github.com/denizenhq/denizen"
)

func ExampleDirectory_EraseUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	exampleToken(dir, "user-alice")

	receipt, err := dir.EraseUser(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	removed, err := json.Marshal(receipt.Removed) // keep the whole receipt beside the backups
	fmt.Println(string(removed), err)
	_, err = dir.EraseUser(ctx, denizen.System(), "user-alice")
	fmt.Println(err)
	// Output:
	// {"locators":1,"tokens":1} <nil>
	// denizen: EraseUser: user: not found
}

func ExampleDirectory_ExportUser() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice", denizen.Email("alice@example.org"))
	by, err := dir.ActAs(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}

	var document bytes.Buffer
	if err := dir.ExportUser(ctx, by, "user-alice", &document); err != nil {
		log.Fatal(err)
	}
	var alice struct {
		ScreenName string
		Locators   []struct{ Locator string }
		Events     struct{ About []struct{ Kind string } }
	}
	if err := json.Unmarshal(document.Bytes(), &alice); err != nil {
		log.Fatal(err)
	}
	fmt.Println(alice)
	// Output: {Alice [{email:alice@example.org}] {[{user.created}]}}
}
