package postgres_test

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// binaries is where Debian has the server. An environment variable can override it.
func binaries(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Skip("no PostgreSQL server binaries in /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1])
}

// ownServer is a PostgreSQL server of this test's own.
type ownServer struct {
	bin, dir string
	as       *syscall.SysProcAttr
	cmd      *exec.Cmd
	log      bytes.Buffer
}

func newOwnServer(t *testing.T) *ownServer {
	t.Helper()
	o := &ownServer{bin: binaries(t), dir: t.TempDir(), as: &syscall.SysProcAttr{}}
	if os.Getuid() == 0 { // the server refuses to run as root
		out, err := exec.CommandContext(t.Context(), "id", "-u", "postgres").Output()
		if err != nil {
			t.Skip("there is no user postgres to run a server as")
		}
		uid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		require.NoError(t, err)
		require.NoError(t, os.Chmod(filepath.Dir(o.dir), 0o755))
		require.NoError(t, os.Chown(o.dir, uid, -1))
		o.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(os.Getgid())}
	}
	o.dir = filepath.Join(o.dir, "data")
	init := exec.CommandContext(t.Context(), filepath.Join(o.bin, "initdb"), "-D", o.dir, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	init.SysProcAttr = o.as
	init.Dir = filepath.Dir(o.dir)
	out, err := init.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Cleanup(func() { o.kill(t) })
	return o
}

func (o *ownServer) dsn() string {
	return "postgres://test@/postgres?host=" + url.QueryEscape(filepath.Dir(o.dir))
}

func (o *ownServer) start(t *testing.T) {
	t.Helper()
	// Not by the test's context, which ends before the cleanup.
	// A port might be somebody else's by the next start: a client's own, even.
	o.cmd = exec.Command(filepath.Join(o.bin, "postgres"), "-D", o.dir,
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+filepath.Dir(o.dir))
	o.cmd.SysProcAttr, o.cmd.Dir = o.as, filepath.Dir(o.dir)
	o.cmd.Stderr = &o.log
	require.NoError(t, o.cmd.Start())
}

// ready waits until the server accepts connections.
func (o *ownServer) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), o.dsn())
		if err != nil {
			return false
		}
		return conn.Close(t.Context()) == nil
	}, time.Minute, 20*time.Millisecond)
}

// kill kills the server and its child processes without warning.
func (o *ownServer) kill(t *testing.T) {
	t.Helper()
	if o.cmd == nil {
		return
	}
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGSTOP)) // it makes no more of them
	children, _ := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(o.cmd.Process.Pid)).Output()
	require.NoError(t, o.cmd.Process.Kill())
	for _, field := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 30*time.Second, time.Millisecond)
	}
	_ = o.cmd.Wait()
	o.cmd = nil
	_ = os.Remove(filepath.Join(o.dir, "postmaster.pid"))
}

func TestAKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	server(t)
	o := newOwnServer(t)
	o.start(t)
	o.ready(t)
	s := open(t, connect(t, o.dsn()), hasty("directory"))
	c := contend(s)
	for range 3 {
		c.progress(t, 200)
		o.kill(t)
		o.start(t)
	}
	c.progress(t, 200)
	c.verify(t, s)
}
