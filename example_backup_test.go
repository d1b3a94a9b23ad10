package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/denizenhq/denizen"
)

// backUp is in docs/operating.md.
func backUp(ctx context.Context, dir *denizen.Directory, path string) error {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = dir.Backup(ctx, denizen.System(), to)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		return err
	}
	_, err = denizen.VerifyBackup(ctx, path)
	return err
}

// restore is in docs/operating.md.
func restore(ctx context.Context, backup, path string, receipts []denizen.Erasure) error {
	restored, err := denizen.Restore(ctx, backup, path, denizen.RestoreOptions{Erase: receipts})
	if err != nil {
		return err
	}
	fmt.Println("access keys that work again:", len(restored.AccessKeys))
	fmt.Println("people erased again:", len(restored.Erased))
	return nil
}

// scratchFile opens a new directory with Alice in a scratch folder, which the caller removes.
func scratchFile(ctx context.Context) (dir *denizen.Directory, alice denizen.User, folder string) {
	folder, err := os.MkdirTemp("", "denizen")
	if err != nil {
		log.Fatal(err)
	}
	if dir, err = denizen.Open(ctx, filepath.Join(folder, "people.db"), denizen.Options{}); err != nil {
		log.Fatal(err)
	}
	alice, err = dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: "Alice"})
	if err != nil {
		log.Fatal(err)
	}
	return dir, alice, folder
}

// A file is backed up while it is in use.
func ExampleDirectory_Backup() {
	ctx := context.Background()
	dir, _, folder := scratchFile(ctx)
	defer os.RemoveAll(folder)
	defer dir.Close()
	fmt.Println(backUp(ctx, dir, filepath.Join(folder, "people.backup")))
	// Output:
	// <nil>
}

// A backup says by itself what it is and whether it is whole.
func ExampleVerifyBackup() {
	ctx := context.Background()
	dir, _, folder := scratchFile(ctx)
	defer os.RemoveAll(folder)
	defer dir.Close()
	path := filepath.Join(folder, "people.backup")
	if err := backUp(ctx, dir, path); err != nil {
		log.Fatal(err)
	}

	info, err := denizen.VerifyBackup(ctx, path)
	fmt.Println("up to", info.Seq, err)
	if err := os.Truncate(path, 5000); err != nil {
		log.Fatal(err)
	}
	_, err = denizen.VerifyBackup(ctx, path)
	fmt.Println(err)
	// Output:
	// up to 2 <nil>
	// denizen: VerifyBackup: backup: store is damaged: is damaged
}

// A backup becomes a directory again. Whoever was erased since it was taken stays erased.
func ExampleRestore() {
	ctx, system := context.Background(), denizen.System()
	dir, alice, folder := scratchFile(ctx)
	defer os.RemoveAll(folder)
	backup, people := filepath.Join(folder, "people.backup"), filepath.Join(folder, "restored.db")
	if err := backUp(ctx, dir, backup); err != nil {
		log.Fatal(err)
	}
	receipt, err := dir.EraseUser(ctx, system, alice.ID)
	if err != nil {
		log.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		log.Fatal(err)
	}

	if err := restore(ctx, backup, people, []denizen.Erasure{receipt}); err != nil {
		log.Fatal(err)
	}
	dir, err = denizen.Open(ctx, people, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	_, err = dir.User(ctx, system, alice.ID)
	fmt.Println(err)
	// Output:
	// access keys that work again: 0
	// people erased again: 1
	// denizen: User: user: not found
}
