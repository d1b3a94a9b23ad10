// Package long says how long tests take: as short as they can be and still try everything, or as
// long as continuous integration has time for.
package long

import (
	"os"
	"strconv"
	"testing"
)

// Of returns the number of rounds that a test makes: short, or long if the environment variable
// DENIZEN_LONG is set. A number n there makes it n times long, unless long is a step, which is
// smaller than short.
func Of(short, long int) int {
	text := os.Getenv("DENIZEN_LONG")
	if text == "" {
		return short
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && long > short {
		return n * long
	}
	return long
}

// Dir returns a directory for the files of a test that does not depend on where they are: in
// memory if there is one, because a sync of a busy disk may take a hundred times as long, and in
// the long form on the disk. Its name is short, as that of a socket must be. It is removed after
// the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir := ""
	if Of(1, 0) == 1 {
		dir = inMemory()
	}
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "denizen-"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
