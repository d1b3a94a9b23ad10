// Package long says how long tests take: as short as they can be and still try everything, or as
// long as continuous integration has time for.
package long

import (
	"os"
	"testing"
)

// Of returns the number of rounds that a test makes: short, or long if the environment variable
// DENIZEN_LONG is set.
func Of(short, long int) int {
	if os.Getenv("DENIZEN_LONG") != "" {
		return long
	}
	return short
}

// Dir returns a directory for the files of a test that does not depend on where they are: in
// memory if there is one, because a sync of a busy disk may take a hundred times as long, and in
// the long form on the disk. It is removed after the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir := ""
	if Of(1, 0) == 1 {
		dir = inMemory()
	}
	if dir == "" {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
