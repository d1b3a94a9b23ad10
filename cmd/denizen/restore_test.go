package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store/bolt"
)

// replaceable is a file with people, a backup of it, and their directory.
func replaceable(t *testing.T) (p place, backup, dir string) {
	t.Helper()
	dir = long.Dir(t)
	p = file(filepath.Join(dir, "people.db"))
	people(t, p)
	backup = filepath.Join(dir, "backup")
	p.ok(t, "backup", backup)
	return p, backup, dir
}

func restoredIn(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "people.db.restored-*"))
	require.NoError(t, err)
	return found
}

// endedOnceRestored is a context that ends as soon as there is a restored file.
type endedOnceRestored struct {
	context.Context
	t   *testing.T
	dir string
}

func (c endedOnceRestored) Err() error {
	if len(restoredIn(c.t, c.dir)) > 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

func TestRestore_ThatIsInterruptedLeavesNothingHalfDone(t *testing.T) {
	p, backup, dir := replaceable(t)
	var out strings.Builder
	code := run(endedOnceRestored{t.Context(), t, dir}, append([]string{"restore", "-replace", backup}, p.args...),
		world{env: func(string) string { return "" }, stdout: &out, stderr: &out})
	require.Empty(t, restoredIn(t, dir))
	require.Equal(t, exitDone, code, out.String())
	require.Contains(t, out.String(), "what was there is ")
	require.Empty(t, p.ok(t, "tokens"))
}

// runAsNobody runs the test in a process of a user who may not open each file.
func runAsNobody(t *testing.T) {
	t.Helper()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("no setpriv here")
	}
	dir, err := os.MkdirTemp("", "denizen-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	self, err := os.Executable()
	require.NoError(t, err)
	program, err := os.ReadFile(self)
	require.NoError(t, err)
	binary := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(binary, program, 0o755))
	cmd := exec.Command(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups",
		binary, "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}

// Who cannot open a file cannot tell whether a process has it open.
func TestRestore_MovesNoFileThatItCannotOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this user may open each file")
	}
	if os.Geteuid() == 0 {
		runAsNobody(t)
		return
	}
	p, backup, dir := replaceable(t)
	service := p.open(t)
	defer service.Close()
	require.NoError(t, os.Chmod(p.args[1], 0))
	before, err := os.Stat(p.args[1])
	require.NoError(t, err)
	r := p.run(t, "", "restore", "-replace", backup)
	require.Equal(t, exitFailed, r.code, r.out)
	require.Contains(t, r.err, "it cannot be told whether a process has")
	after, err := os.Stat(p.args[1])
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	require.Empty(t, restoredIn(t, dir))
}

func TestRestore_ReplacesWhatIsDamagedOrNoFileOfADirectory(t *testing.T) {
	p, backup, _ := replaceable(t)
	for _, content := range []string{"", "something else\n", strings.Repeat("\xed\xda\x0c\xed", 10_000)} {
		require.NoError(t, os.WriteFile(p.args[1], []byte(content), 0o600))
		moved := p.objects(t, "restore", "-replace", backup)[0]["replaced"].(string)
		got, err := os.ReadFile(moved)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
		require.NoError(t, os.Remove(moved))
		require.Len(t, p.objects(t, "users"), 2)
	}
}

func TestRestore_KeepsOthersOutUntilTheFileIsMoved(t *testing.T) {
	p, _, _ := replaceable(t)
	s := &session{db: p.args[1]}
	free, err := s.hold(t.Context())
	require.NoError(t, err)
	_, err = bolt.Open(t.Context(), p.args[1], bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrInUse)
	require.NoError(t, free())
	require.NoError(t, p.open(t).Close())
}

// The service is another user than root, who restores.
func TestRestore_KeepsTheOwnerOfTheFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	p, backup, _ := replaceable(t)
	require.NoError(t, os.Chown(p.args[1], 4711, -1))
	p.ok(t, "restore", "-replace", backup)
	require.Equal(t, 4711, ownerOf(p.args[1]))
	info, err := os.Stat(p.args[1])
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
}
