package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/bolt"
)

// backUp is in docs/operating.md.
func backUp(ctx context.Context, path string, to io.Writer) error {
	file, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	dir, err := denizen.New(ctx, file, denizen.Options{})
	if err != nil {
		return errors.Join(err, file.Close())
	}

	// At any time, while dir is in use:
	err = file.Backup(ctx, to)

	return errors.Join(err, dir.Close(), file.Close())
}

// A file is copied while it is in use. The copy is the same directory.
func Example_backup() {
	ctx, system := context.Background(), denizen.System()
	scratch, err := os.MkdirTemp("", "denizen")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	people, copied := filepath.Join(scratch, "people.db"), filepath.Join(scratch, "copy.db")
	dir, err := denizen.Open(ctx, people, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	alice, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Alice"})
	if err != nil {
		log.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		log.Fatal(err)
	}

	to, err := os.OpenFile(copied, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(backUp(ctx, people, to), to.Sync(), to.Close()); err != nil {
		log.Fatal(err)
	}

	dir, err = denizen.Open(ctx, copied, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	found, err := dir.User(ctx, system, alice.ID)
	fmt.Println(found.ScreenName, err)
	// Output:
	// Alice <nil>
}
