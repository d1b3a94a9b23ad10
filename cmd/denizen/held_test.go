package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/internal/peer"
	"github.com/denizenhq/denizen/opsocket"
)

// served opens the directory in a file and serves its socket.
func served(t *testing.T, p place) (dir *denizen.Directory, end func()) {
	t.Helper()
	if !peer.Supported {
		t.Skip("no such sockets here")
	}
	dir = p.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- opsocket.Serve(ctx, dir, p.args[1]+".sock") }()
	for {
		if _, err := ops.Dial(ctx, p.args[1]+".sock", -1); err == nil {
			break
		}
		select {
		case err := <-done:
			require.NoError(t, err)
		default:
		}
	}
	return dir, func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, dir.Close())
	}
}

func TestHeld_FileIsReadThroughTheSocketOfItsProcess(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	_, token := people(t, p)
	reads := [][]string{
		{"users"},
		{"users", "-reveal"},
		{"user", "alice-user"},
		{"user", "-reveal", "email:alice@example.org"},
		{"tokens"},
		{"tokens", "-user", "alice-user"},
		{"keys"},
		{"feed"},
		{"feed", "-n", "2"},
		{"feed", "-kind", "user.created"},
	}
	var before []string
	for _, args := range reads {
		before = append(before, p.ok(t, args...), p.ok(t, append(args, "-json")...))
	}
	_, end := served(t, p)
	defer end()
	for i, args := range reads {
		require.Equal(t, before[2*i], p.ok(t, args...), "%v", args)
		require.Equal(t, before[2*i+1], p.ok(t, append(args, "-json")...), "%v", args)
	}
	require.EqualValues(t, 2, p.objects(t, "stat")[0]["users"])
	r := p.run(t, "", "verify")
	require.Equal(t, ran{exitDone, "", "a process has the file open: its pages are not checked\n0 damaged\n"}, r)
	backup := p.args[1] + ".backup"
	b := p.objects(t, "backup", backup)[0]
	require.Equal(t, b["seq"], p.objects(t, "verify", "-backup", backup)[0]["seq"])
	c := p.objects(t, "compact")[0]
	require.Positive(t, c["after"].(map[string]any)["bytes"])
	r = p.run(t, "", "user", "nobody-here")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "not found")
	require.NotContains(t, strings.Join(before, ""), token.Signed)
}

func TestHeld_FileIsNamedWithItsHolder(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	dir := p.open(t)
	defer dir.Close()
	for _, args := range [][]string{{"stat"}, {"block", "alice-user"}, {"verify"}, {"copy", "-to", "x"}, {"salvage", "x"}, {"backup", "x"}} {
		r := p.run(t, "", args...)
		require.Equal(t, exitHeld, r.code, "%v %s", args, r.err)
		require.Contains(t, r.err, "has the file "+p.args[1]+" open")
		require.Contains(t, r.err, "opsocket.Serve")
		if _, err := os.Stat("/proc/locks"); err == nil {
			require.Contains(t, r.err, "process "+strconv.Itoa(os.Getpid())+" ")
		}
	}
}

func TestHeld_FileIsNotWrittenThroughTheSocket(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	_, end := served(t, p)
	defer end()
	r := p.run(t, "", "block", "alice-user")
	require.Equal(t, exitHeld, r.code)
	require.Contains(t, r.err, "its socket serves what reads, backups and compacting")
}

func TestHeld_FileFollowsThroughTheSocketUntilTheProcessEnds(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	dir, end := served(t, p)
	var out bytes.Buffer
	r := p.runIn(t, world{stdout: writer(func(b []byte) {
		out.Write(b)
		switch lines := strings.Count(out.String(), "\n"); lines {
		case 1:
			_, err := dir.SetScreenName(t.Context(), denizen.System(), "bob-user", "Bobby")
			require.NoError(t, err)
		case 2:
			go end()
		}
	})}, "feed", "-f", "-n", "1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, out.String(), "user.renamed")
	require.NotEmpty(t, r.err)
}

// Whoever put a socket there is asked nothing.
func TestHeld_SocketThatNobodyServesIsPassedOver(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	l, err := net.Listen("unix", p.args[1]+".sock")
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.Len(t, p.objects(t, "users"), 2)
	r := p.run(t, "", "users", "-socket", p.args[1]+".sock")
	require.Equal(t, exitFailed, r.code, "it was asked for")
	require.NoError(t, os.Remove(p.args[1]+".sock"))
	require.NoError(t, os.WriteFile(p.args[1]+".sock", nil, 0o600))
	require.Len(t, p.objects(t, "users"), 2)
	dir := p.open(t)
	defer dir.Close()
	r = p.run(t, "", "users")
	require.Equal(t, exitHeld, r.code)
	require.Contains(t, r.err, "the socket beside it cannot be used: "+p.args[1]+".sock is not a socket")
}

func TestHeld_DirectoryIsReachedByItsSocketAlone(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	_, end := served(t, p)
	defer end()
	alone := place{args: []string{"-socket", p.args[1] + ".sock"}, env: map[string]string{}}
	require.Len(t, alone.objects(t, "users"), 2)
	alone.ok(t, "verify")
	require.Equal(t, exitUsage, alone.run(t, "", "block", "bob-user").code)
}

var builds struct {
	sync.Once
	dir string
	err error
}

// built returns the directory of the command, which is built once.
func built(t *testing.T) string {
	t.Helper()
	builds.Do(func() {
		if builds.dir, builds.err = os.MkdirTemp("", "denizen-command-"); builds.err == nil {
			out, err := exec.Command("go", "build", "-o", builds.dir, ".").CombinedOutput()
			if builds.err = err; err != nil {
				builds.err = fmt.Errorf("%w: %s", err, out)
			}
		}
	})
	require.NoError(t, builds.err)
	return builds.dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(builds.dir)
	os.Exit(code)
}

func TestBinary_RunsAsAProcess(t *testing.T) {
	dir, binary := long.Dir(t), filepath.Join(built(t), "denizen")
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	out, err := exec.Command(binary, "users", "-db", p.args[1]).Output()
	require.NoError(t, err)
	require.Equal(t, p.ok(t, "users"), string(out))
	cmd := exec.Command(binary, "stat")
	cmd.Env = []string{}
	out, err = cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "DENIZEN_DSN")

	follow := exec.Command(binary, "feed", "-db", p.args[1], "-f")
	lines := make(chan struct{}, 100)
	follow.Stdout = writer(func(b []byte) {
		for range bytes.Count(b, []byte("\n")) {
			lines <- struct{}{}
		}
	})
	require.NoError(t, follow.Start())
	<-lines
	require.NoError(t, follow.Process.Signal(os.Interrupt))
	require.NoError(t, follow.Wait(), "it ends as it was asked, and closes the file")
	p.ok(t, "verify")
}
