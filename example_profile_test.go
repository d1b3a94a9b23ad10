package denizen_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/denizenhq/denizen"
)

// exampleAttribute defines an attribute that users set for themselves.
func exampleAttribute(dir *denizen.Directory, key string) {
	if _, err := dir.DefineAttribute(context.Background(), denizen.System(), denizen.AttributeDef{Key: key}); err != nil {
		log.Fatal(err)
	}
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
