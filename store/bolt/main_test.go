package bolt_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// children are functions that this test binary runs instead of its tests when it is started as a
// child process. Each returns what went wrong, or nothing.
var children = map[string]func(path string) error{}

const childEnv = "DENIZEN_BOLT_TEST_CHILD"

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(childEnv)]; ok {
		if err := child(os.Args[1]); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child starts this binary as a child process and returns what went wrong in it.
func child(t *testing.T, name, path string) string {
	t.Helper()
	require.Contains(t, children, name)
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if err == nil {
		require.Empty(t, out.String())
	}
	return out.String()
}
