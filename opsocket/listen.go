package opsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/peer"
)

// listener accepts connections of those who may connect, some at a time.
type listener struct {
	*net.UnixListener
	path  string
	made  fs.FileInfo // the socket
	named sync.Once   // removes its name
	slots chan struct{}
}

// maxPath is how long the path may be in bytes, so that the name in the fresh directory fits into the
// address of a socket too, which has 104 bytes on some systems.
const maxPath = 85

// listen makes a socket at a path.
func listen(ctx context.Context, path string, connections int) (_ *listener, err error) {
	if len(path) > maxPath {
		return nil, refused(denizen.ErrInvalid, "path", fmt.Sprintf("must be %d bytes at most", maxPath))
	}
	within := filepath.Dir(path)
	info, err := os.Stat(within)
	if err != nil {
		return nil, unavailable("its directory cannot be read", err)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return nil, refused(denizen.ErrInvalid, "path", "other users may write to its directory")
	}
	fresh, err := os.MkdirTemp(within, ".ops-") // with mode 0700
	if err != nil {
		return nil, unavailable("cannot be made", err)
	}
	defer os.RemoveAll(fresh)
	at := filepath.Join(fresh, "s")
	bound, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, unavailable("cannot be made", err)
	}
	bound.SetUnlinkOnClose(false)
	l := &listener{UnixListener: bound, path: path, slots: make(chan struct{}, connections)}
	defer func() {
		if err != nil {
			_ = bound.Close()
		}
	}()
	if err := os.Chmod(at, 0o600); err != nil {
		return nil, unavailable("cannot be made", err)
	}
	if l.made, err = os.Lstat(at); err != nil {
		return nil, unavailable("cannot be made", err)
	}
	if err := removeStale(ctx, path, filepath.Join(fresh, "stale")); err != nil {
		return nil, err
	}
	err = os.Link(at, path) // unlike a rename it replaces nothing
	if errors.Is(err, fs.ErrExist) {
		return nil, taken("something else is there")
	}
	if err != nil {
		err = os.Rename(at, path) // a file system without hard links to sockets
	}
	if err != nil {
		return nil, unavailable("cannot be made", err)
	}
	return l, nil
}

// removeStale removes a socket of this user that nobody serves any more. It is moved aside first, so
// that what is removed is what was looked at, and not what took its place meanwhile.
func removeStale(ctx context.Context, path, aside string) error {
	found, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unavailable("cannot be looked at", err)
	case found.Mode().Type() != fs.ModeSocket:
		return taken("something else is there")
	case !own(found):
		return taken("a socket of another user is there")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return taken("another process serves it")
	}
	if !isRefused(err) {
		return taken("it cannot be told whether somebody serves it")
	}
	if err := os.Rename(path, aside); err != nil {
		return unavailable("the old socket cannot be removed", err)
	}
	moved, err := os.Lstat(aside)
	if err == nil && os.SameFile(found, moved) {
		return nil
	}
	if err := os.Link(aside, path); err != nil {
		return unavailable("another process began to serve it at the same time", err)
	}
	return taken("another process began to serve it")
}

// Close removes the socket, if it still has its name, and closes it. While somebody listens nobody
// else takes the name: see removeStale. So what is removed is what was looked at.
func (l *listener) Close() error {
	l.named.Do(func() { // and not again: once it is closed another may get its inode
		if found, err := os.Lstat(l.path); err == nil && os.SameFile(found, l.made) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// Accept returns the next connection of this user or of root. Others are closed, and so are more
// than there may be at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer.UID(c); err != nil || !mayConnect(uid) {
			_ = c.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &counted{UnixConn: c, slots: l.slots}, nil
		default:
			_ = c.Close()
		}
	}
}

func mayConnect(uid int) bool { return uid == os.Geteuid() || uid == 0 }

// counted is a connection that gives its place back once it is closed.
type counted struct {
	*net.UnixConn
	slots chan struct{}
	once  sync.Once
}

func (c *counted) Close() error {
	defer c.once.Do(func() { <-c.slots })
	return c.UnixConn.Close()
}

func taken(reason string) error { return refused(denizen.ErrTaken, "path", reason) }

func unavailable(reason string, err error) error {
	return errors.Join(refused(denizen.ErrUnavailable, "path", reason), err)
}
