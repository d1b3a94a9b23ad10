package spec

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that imports the root and the store in memory, as an importer's would.
const consumer = `package main

import (
	"context"
	"fmt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

func main() {
	dir, err := denizen.New(context.Background(), memory.New(), denizen.Options{})
	if err != nil {
		panic(err)
	}
	defer dir.Close()
	fmt.Println(dir.ApplicationID() != "")
}
`

func TestAnImporterLinksNoPostgreSQLAndNoTestLibrary(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("main.go", consumer)
	write("go.mod", "module example.com/consumer\n\ngo 1.26.0\n\nrequire github.com/denizenhq/denizen v0.0.0\n\nreplace github.com/denizenhq/denizen => "+root+"\n")
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	write("go.sum", string(sums))
	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
		return string(out)
	}
	run("mod", "tidy")
	require.Equal(t, "true\n", run("run", "."))
	linked := run("list", "-deps", ".")
	require.Contains(t, linked, "github.com/denizenhq/denizen/store/memory")
	for _, unwanted := range []string{
		"pgx", "lib/pq", "net/http", "testing", "testify", "rapid", "goleak", "porcupine", "golang-jwt", "kin-openapi", "storetest",
	} {
		for _, pkg := range strings.Fields(linked) {
			require.NotContains(t, pkg, unwanted)
		}
	}
}
