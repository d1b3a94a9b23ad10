//go:build unix

package opsocket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/internal/peer"
	"github.com/denizenhq/denizen/store/memory"
)

// TestMain is also the process of another user: it connects to the socket that the variable names,
// and says what became of it.
func TestMain(m *testing.M) {
	if path := os.Getenv("DENIZEN_TEST_STRANGER"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Exit(10)
		}
		_, _ = io.WriteString(c, "POST "+ops.ReadPath+" HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"what\":\"stat\"}")
		if n, _ := c.Read(make([]byte, 1)); n == 0 {
			os.Exit(11)
		}
		os.Exit(12)
	}
	if path := os.Getenv("DENIZEN_TEST_SQUATTER"); path != "" {
		l, err := net.Listen("unix", path)
		if err != nil {
			os.Exit(10)
		}
		_ = os.Chmod(path, 0o666)
		_, _ = io.WriteString(os.Stdout, "listening\n")
		for {
			if _, err := l.Accept(); err != nil {
				os.Exit(11)
			}
		}
	}
	if !peer.Supported {
		return
	}
	os.Exit(m.Run())
}

var system = denizen.System()

// opened is a directory in a file that is too large for the buffers of a socket.
func opened(t *testing.T) *denizen.Directory {
	t.Helper()
	dir, err := denizen.Open(t.Context(), filepath.Join(long.Dir(t), "people.db"), denizen.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	_, err = dir.DefineAttribute(t.Context(), system, denizen.AttributeDef{Key: "note"})
	require.NoError(t, err)
	for range 48 {
		_, err := dir.CreateUser(t.Context(), system, denizen.NewUser{
			ScreenName: "Somebody", Attributes: []denizen.Attribute{{Key: "note", Value: strings.Repeat("n", denizen.MaxAttributeBytes)}},
		})
		require.NoError(t, err)
	}
	return dir
}

// serving is a socket that is served.
type serving struct {
	path string
	end  context.CancelFunc
	done chan error
}

func begin(t *testing.T, dir *denizen.Directory, bounds limits) *serving {
	t.Helper()
	s := &serving{path: filepath.Join(long.Dir(t), "sock"), done: make(chan error, 1)}
	s.beginAt(t, dir, bounds)
	return s
}

func (s *serving) beginAt(t *testing.T, dir *denizen.Directory, bounds limits) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	s.end = end
	go func() { s.done <- serve(ctx, dir, s.path, bounds) }()
	t.Cleanup(end)
	for {
		if _, err := ops.Dial(t.Context(), s.path, -1); err == nil {
			return
		}
		require.Empty(t, s.done, "it does not serve")
	}
}

func (s *serving) stat(t *testing.T) (*ops.Figures, error) {
	t.Helper()
	remote, err := ops.Dial(t.Context(), s.path, -1)
	if err != nil {
		return nil, err
	}
	for v, err := range remote.Read(t.Context(), ops.Query{What: ops.Stat}) {
		if err != nil {
			return nil, err
		}
		return v.(*ops.Figures), nil
	}
	return nil, errors.New("nothing was said")
}

func requireRefused(t *testing.T, err, kind error, field string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok)
	require.Equal(t, "Serve", e.Op)
	require.Equal(t, field, e.Field)
}

func TestServe_IsTheOwnersAloneAndLeavesNothing(t *testing.T) {
	s := begin(t, opened(t), usual)
	info, err := os.Lstat(s.path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600)|os.ModeSocket, info.Mode())
	f, err := s.stat(t)
	require.NoError(t, err)
	require.Equal(t, 48, f.Users)
	left := func() []os.DirEntry {
		entries, err := os.ReadDir(filepath.Dir(s.path))
		require.NoError(t, err)
		return entries
	}
	require.Len(t, left(), 1, "the directory that it was made in is gone")
	s.end()
	require.NoError(t, <-s.done)
	require.Empty(t, left())
}

// another returns this test as a process of another user.
func another(t *testing.T, env string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	binary := filepath.Join(t.TempDir(), "another")
	b, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, b, 0o755))
	for dir := filepath.Dir(binary); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	cmd := exec.Command(binary)
	cmd.Dir, cmd.Env = "/", []string{env}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestServe_RefusesAnotherUser(t *testing.T) {
	s := begin(t, opened(t), usual)
	stranger := func() int {
		cmd := another(t, "DENIZEN_TEST_STRANGER="+s.path)
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	require.NoError(t, os.Chmod(filepath.Dir(s.path), 0o755))
	require.Equal(t, 10, stranger(), "the mode of the socket")
	require.NoError(t, os.Chmod(s.path, 0o666))
	require.Equal(t, 11, stranger(), "the user of the connection")
}

func TestServe_LeavesWhatItDoesNotOwn(t *testing.T) {
	dir := opened(t)
	for name, put := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a symbolic link": func(path string) error {
			return os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path)
		},
		"a stale socket of another user": func(path string) error {
			stale(t, path)
			return os.Lchown(path, 65534, 65534)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(long.Dir(t), "sock")
			if err := put(path); errors.Is(err, os.ErrPermission) {
				t.Skip("only root can give it away")
			} else {
				require.NoError(t, err)
			}
			before, err := os.Lstat(path)
			require.NoError(t, err)
			requireRefused(t, Serve(t.Context(), dir, path), denizen.ErrTaken, "path")
			after, err := os.Lstat(path)
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after))
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, entries, 1)
		})
	}
}

// stale makes a socket that nobody serves.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
}

func TestServe_ReplacesAStaleSocketOfItsOwn(t *testing.T) {
	dir := opened(t)
	s := &serving{path: filepath.Join(long.Dir(t), "sock"), done: make(chan error, 1)}
	stale(t, s.path)
	s.beginAt(t, dir, usual)
	_, err := s.stat(t)
	require.NoError(t, err)
}

func TestServe_RefusesAPathThatIsServed(t *testing.T) {
	dir := opened(t)
	s := begin(t, dir, usual)
	requireRefused(t, Serve(t.Context(), dir, s.path), denizen.ErrTaken, "path")
	_, err := s.stat(t)
	require.NoError(t, err, "it goes on")
}

func TestServe_RemovesNoSocketButItsOwn(t *testing.T) {
	s := begin(t, opened(t), usual)
	require.NoError(t, os.Remove(s.path))
	stale(t, s.path)
	s.end()
	require.NoError(t, <-s.done)
	require.FileExists(t, s.path)
}

// Or else another process could take the name between the look and the removal.
func TestServe_ItsNameIsGoneBeforeNobodyListens(t *testing.T) {
	path := filepath.Join(long.Dir(t), "sock")
	l, err := listen(t.Context(), path, 1)
	require.NoError(t, err)
	require.NoError(t, l.Close()) // as the server does at its end
	require.NoFileExists(t, path)
}

func TestServe_RefusesADirectoryThatOthersWriteTo(t *testing.T) {
	dir, at := opened(t), long.Dir(t)
	require.NoError(t, os.Chmod(at, 0o770))
	requireRefused(t, Serve(t.Context(), dir, filepath.Join(at, "sock")), denizen.ErrInvalid, "path")
	requireRefused(t, Serve(t.Context(), dir, filepath.Join(at, "none", "sock")), denizen.ErrUnavailable, "path")
	require.NoError(t, os.Chmod(at, 0o700))
	requireRefused(t, Serve(t.Context(), dir, filepath.Join(at, strings.Repeat("x", 86))), denizen.ErrInvalid, "path")
	entries, err := os.ReadDir(at)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// raw connects, and sends something.
func raw(t *testing.T, path, text string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, text)
	require.NoError(t, err)
	return c.(*net.UnixConn)
}

// requireEnded reads until the other end ends the connection.
func requireEnded(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestServe_AFlooderIsOneOfSixteenAndNotForLong(t *testing.T) {
	bounds := usual
	bounds.arrive = 100 * time.Millisecond
	s := begin(t, opened(t), bounds)
	var held []net.Conn
	for range 64 {
		c, err := net.Dial("unix", s.path)
		require.NoError(t, err)
		held = append(held, c)
	}
	for _, c := range held { // with no request at all, each is ended
		requireEnded(t, c)
	}
	_, err := s.stat(t)
	require.NoError(t, err)
}

// Each has its answer, and would hold its connection for as long as it likes.
func TestServe_ARequestThatNeverEndsIsCutOff(t *testing.T) {
	bounds := usual
	bounds.arrive = 100 * time.Millisecond
	s := begin(t, opened(t), bounds)
	for _, path := range []string{ops.ReadPath, ops.BackupPath, ops.CompactPath} {
		c := raw(t, s.path, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n")
		require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		requireEnded(t, c)
	}
}

func TestServe_BoundsARequest(t *testing.T) {
	s := begin(t, opened(t), usual)
	remote, err := ops.Dial(t.Context(), s.path, -1)
	require.NoError(t, err)
	for _, q := range []ops.Query{{What: ops.Stat, User: strings.Repeat("x", 17<<10)}, {What: "nonsense"}, {What: ops.Feed, Newest: -1}} {
		n := 0
		for _, err := range remote.Read(t.Context(), q) {
			n++
			require.ErrorIs(t, err, denizen.ErrInvalid)
		}
		require.Equal(t, 1, n)
	}
	c := raw(t, s.path, "GET /1/read HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	requireEnded(t, c)
	c = raw(t, s.path, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	reply, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Contains(t, string(reply), "404")
}

const askForBackup = "POST " + ops.BackupPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

// begun reads the first byte of a reply, and no more.
func begun(t *testing.T, c io.Reader) {
	t.Helper()
	_, err := io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
}

func TestServe_AReaderOfABackupThatHangsIsCutOff(t *testing.T) {
	bounds := usual
	bounds.patience = 50 * time.Millisecond
	s := begin(t, opened(t), bounds)
	c := raw(t, s.path, askForBackup)
	begun(t, c)
	remote, err := ops.Dial(t.Context(), s.path, -1)
	require.NoError(t, err)
	for err = denizen.ErrLimited; errors.Is(err, denizen.ErrLimited); { // there is one backup at once
		_, err = remote.Backup(t.Context(), io.Discard)
	}
	requireEnded(t, c)
}

func TestServe_ABackupThatIsCutOffIsAnError(t *testing.T) {
	s := begin(t, opened(t), usual)
	remote, err := ops.Dial(t.Context(), s.path, -1)
	require.NoError(t, err)
	_, err = remote.Backup(t.Context(), writer(func(b []byte) { s.end() }))
	require.Error(t, err)
	require.NoError(t, <-s.done)
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestServe_ADirectoryIsClosedWhileABackupStreams(t *testing.T) {
	dir := opened(t)
	s := begin(t, dir, usual)
	c := raw(t, s.path, askForBackup)
	begun(t, c) // and then it hangs
	require.NoError(t, dir.Close(), "it does not wait for the reader")
	requireRefused(t, <-s.done, denizen.ErrClosed, "")
	require.NoFileExists(t, s.path)
}

func TestServe_EndsWhileSomebodyFollows(t *testing.T) {
	dir := opened(t)
	s := begin(t, dir, usual)
	remote, err := ops.Dial(t.Context(), s.path, -1)
	require.NoError(t, err)
	n := 0
	for v, err := range remote.Read(t.Context(), ops.Query{What: ops.Feed, Follow: true}) {
		if err != nil {
			n++
			continue
		}
		if v.(*ops.Event).Kind == denizen.EventUserCreated {
			s.end()
		}
	}
	require.Equal(t, 1, n, "it is told that it did not end by itself")
	require.NoError(t, <-s.done)
}

func TestServe_AClientThatLeavesTakesNothingAlong(t *testing.T) {
	s := begin(t, opened(t), usual)
	remote, err := ops.Dial(t.Context(), s.path, -1)
	require.NoError(t, err)
	for range 4 * usual.connections { // of following, each holds a connection until it is noticed
		ctx, leave := context.WithCancel(t.Context())
		for range remote.Read(ctx, ops.Query{What: ops.Feed, Follow: true, Newest: 1}) {
			break
		}
		leave()
	}
	for err = errors.New("not tried"); err != nil; {
		_, err = s.stat(t)
	}
}

func TestServe_RefusesATransactionAndADirectoryThatIsClosed(t *testing.T) {
	shared := struct{ *memory.Store }{memory.New()}
	dir, err := denizen.New(t.Context(), shared, denizen.Options{})
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	requireRefused(t, Serve(t.Context(), dir, filepath.Join(long.Dir(t), "sock")), denizen.ErrClosed, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, Serve(ctx, dir, filepath.Join(long.Dir(t), "sock")))
}

func TestServe_IsNotAskedThroughASocketOfAnotherUser(t *testing.T) {
	dir := long.Dir(t)
	require.NoError(t, os.Chmod(dir, 0o777))
	path := filepath.Join(dir, "sock")
	squatter := another(t, "DENIZEN_TEST_SQUATTER="+path)
	out, err := squatter.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, squatter.Start())
	defer func() {
		require.NoError(t, squatter.Process.Kill())
		_ = squatter.Wait()
	}()
	begun(t, out)
	_, err = ops.Dial(t.Context(), path, -1)
	require.ErrorIs(t, err, ops.ErrForeign)
	_, err = ops.Dial(t.Context(), path, 65534)
	require.NoError(t, err, "whose file it is may serve it")
}
