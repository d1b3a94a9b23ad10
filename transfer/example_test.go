package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/transfer"
)

// example returns an empty directory.
func example() *denizen.Directory {
	dir, err := denizen.New(context.Background(), memory.New(), denizen.Options{})
	if err != nil {
		panic(err)
	}
	return dir
}

// table stands for your table of users.
var table = []struct {
	id, name, email, city string
	createdAt, verifiedAt time.Time
}{
	{"41", "Ada", "ada@example.org", "London", made, verified},
	{"42", "Ben", "ADA@example.org", "", made, time.Time{}},
}

func ExampleImport() {
	ctx, dir := context.Background(), example()
	defer dir.Close()
	users := func(yield func(transfer.User, error) bool) {
		for _, row := range table { // yours: a query, a file, another service
			u := transfer.User{
				ID: transfer.MapID(row.id), ScreenName: row.name, CreatedAt: row.createdAt,
				Locators: []transfer.Locator{{Locator: "email:" + row.email, VerifiedAt: row.verifiedAt}},
			}
			if row.city != "" {
				u.Attributes = append(u.Attributes, denizen.Attribute{Key: "city", Value: row.city})
			}
			if !yield(u, nil) {
				return
			}
		}
	}
	o := transfer.Options{
		DryRun:        true, // first
		TrustVerified: true, // if your table knows
		Define:        []denizen.AttributeDef{{Key: "city"}},
	}
	for range 3 {
		report, err := transfer.Import(ctx, dir, denizen.System(), users, o)
		fmt.Println(report.Created, report.Present, report.Problems, err)
		o.DryRun = false
	}
	// Output:
	// 1 0 [row 2: locator: belongs to another user] <nil>
	// 1 0 [row 2: locator: belongs to another user] <nil>
	// 0 1 [row 2: locator: belongs to another user] <nil>
}

func ExampleExport() {
	ctx, dir, other := context.Background(), example(), example()
	defer dir.Close()
	defer other.Close()
	_, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: "Ada", Locators: []denizen.NewLocator{denizen.Email("ada@example.org")}})
	if err != nil {
		panic(err)
	}

	var file bytes.Buffer
	done, err := transfer.Export(ctx, dir, denizen.System(), &file)
	fmt.Println(done.Users, err)

	people, err := transfer.Open(&file)
	if err != nil {
		panic(err)
	}
	report, err := transfer.Import(ctx, other, denizen.System(), people.Users(), transfer.Options{
		TrustVerified: true, Define: people.Definitions,
	})
	fmt.Println(report.Created, err)
	// Output:
	// 1 <nil>
	// 1 <nil>
}

func ExampleMapID() {
	fmt.Println(transfer.MapID("42"), transfer.MapID("a.b"), transfer.MapID("01926f3a-0000-7000-8000-00000000beef"))
	// Output: imported-42 imported-a_2Eb 01926f3a-0000-7000-8000-00000000beef
}
