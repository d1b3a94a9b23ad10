//go:build unix

package opsocket_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/opsocket"
)

// A service lets denizen stat -db people.db look into the file that it has open.
func ExampleServe() {
	ctx, end := context.WithCancel(context.Background())
	where, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(where)
	path := filepath.Join(where, "people.db")
	dir, err := denizen.Open(ctx, path, denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}

	served := make(chan error, 1)
	go func() { served <- opsocket.Serve(ctx, dir, path+".sock") }()

	// When the service ends, the socket does before the directory.
	end()
	fmt.Println(<-served, dir.Close())
	// Output: <nil> <nil>
}
