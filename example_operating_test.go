package denizen_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

// The root key is changed while the directory is in use. In a service with several processes all
// have both keys before one of them calls Rekey.
func ExampleDirectory_Rekey() {
	ctx, system := context.Background(), denizen.System()
	oldKey, newKey := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("n"), 32)
	people := memory.New()
	dir, err := denizen.New(ctx, people, denizen.Options{RootKeys: [][]byte{oldKey}})
	if err != nil {
		log.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		log.Fatal(err)
	}

	dir, err = denizen.New(ctx, people, denizen.Options{RootKeys: [][]byte{newKey, oldKey}})
	if err != nil {
		log.Fatal(err)
	}
	if err := dir.Rekey(ctx, system); err != nil {
		log.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		log.Fatal(err)
	}

	_, err = denizen.New(ctx, people, denizen.Options{RootKeys: [][]byte{oldKey}})
	fmt.Println(err)
	dir, err = denizen.New(ctx, people, denizen.Options{RootKeys: [][]byte{newKey}})
	fmt.Println(err)
	defer dir.Close()
	// Output:
	// denizen: New: RootKeys: invalid: that of this directory is not among them
	// <nil>
}

// compactIfWorth is in docs/operating.md.
func compactIfWorth(ctx context.Context, dir *denizen.Directory) error {
	s, err := dir.Stats(ctx, denizen.System())
	if err != nil || !s.File.WorthCompacting {
		return err
	}
	return dir.Compact(ctx, denizen.System())
}

// A file is compacted while it is in use, by day or by night.
func ExampleDirectory_Compact() {
	ctx := context.Background()
	dir, _, folder := scratchFile(ctx)
	defer os.RemoveAll(folder)
	defer dir.Close()

	fmt.Println(compactIfWorth(ctx, dir))
	// Output:
	// <nil>
}

// What a directory is like can be shown, or given to a system of metrics.
func ExampleDirectory_Stats() {
	ctx, system := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Alice"}); err != nil {
		log.Fatal(err)
	}

	s, err := dir.Stats(ctx, system)
	fmt.Println("head", s.Head, "applied", s.Commits.Applied, "root key", s.RootKey, err)
	fmt.Println("health", s.Health)
	// Output:
	// head 2 applied 2 root key none <nil>
	// health <nil>
}

// A tracer is told of every operation, and of nothing that is passed to it.
func ExampleOperation() {
	ctx, system := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{
		Trace: func(ctx context.Context, op denizen.Operation) (context.Context, func(error)) {
			return ctx, func(err error) { fmt.Println(op.Name, "by", op.By, "failed:", err != nil) }
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	_, _ = dir.CreateUser(ctx, system, denizen.NewUser{ID: "alice-of-the-world", ScreenName: "Alice"})
	_, _ = dir.Authenticate(ctx, "what is no token")
	// Output:
	// CreateUser by .system failed: false
	// Authenticate by .anonymous failed: true
}
