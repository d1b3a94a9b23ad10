// Package opsocket lets cmd/denizen look into a directory that this process has open, through a Unix
// socket. A file can be opened by one process only, so without it nobody sees into the file of a
// service that runs.
//
// It serves what the command reads, backups, and compacting the file. It changes nothing else.
//
//	go func() { served <- opsocket.Serve(ctx, dir, "people.db.sock") }()
//
// The command finds the socket under the name of the file with .sock appended, or by its flag
// -socket.
//
// # Who may connect
//
// The user that the process runs as, and root. The socket has mode 0600 before it has its name, and
// the system is asked for the user of each connection. Whoever may connect may read everything.
//
// # Bounds
//
// There are 16 connections at once. One of them takes a backup, one verifies and one compacts. A request
// has 16 KiB and comes within five seconds. A reader may make the server wait for 30 seconds, and a
// second more for each MiB that it has read, and is then cut off. A backup keeps a snapshot of the
// file open, and while it is open the file grows by what is written: so that time is bounded, too.
// Nothing else waits for a reader.
package opsocket

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/peer"
)

// limits bound what a client can take.
type limits struct {
	connections int
	request     int64         // bytes of a request
	arrive      time.Duration // in which a request must come
	patience    time.Duration // for which a reader may make the server wait at most
	rate        int64         // bytes that give back a second of it
}

var usual = limits{
	connections: 16, request: 16 << 10, arrive: 5 * time.Second,
	patience: 30 * time.Second, rate: 1 << 20,
}

// Serve serves a directory on a Unix socket until ctx ends. Then it returns nil, once the requests
// under way have been ended, and the socket is gone. Call it beside the rest of the service, and end
// ctx before the directory is closed; if the directory is closed first, the requests end and Serve
// returns [denizen.ErrClosed].
//
// The socket is made in a fresh directory of mode 0700 beside the path and gets its name when it is
// ready. A socket of the same user that nobody serves any more is replaced. Anything else at the path
// is left as it is, and the error is [denizen.ErrTaken] with Field "path". So is a socket that
// somebody serves. A path of more than 85 bytes is [denizen.ErrInvalid], and so is one in a directory
// that other users may write to, unless it is sticky.
//
// Where the system does not tell who connects, as on Windows, Serve returns an error that is
// [errors.ErrUnsupported].
func Serve(ctx context.Context, dir *denizen.Directory, path string) error {
	return serve(ctx, dir, path, usual)
}

func serve(ctx context.Context, dir *denizen.Directory, path string, bounds limits) error {
	behind := door.Of(dir)
	switch {
	case !peer.Supported:
		return errors.Join(refused(denizen.ErrInvalid, "path", "cannot be served on this system"),
			errors.ErrUnsupported)
	case behind.Serial():
		return refused(denizen.ErrInvalid, "directory", "is in a transaction")
	case ctx.Err() != nil:
		return nil
	}
	l, err := listen(ctx, path, bounds.connections)
	if err != nil {
		return err
	}
	defer l.Close()

	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	closed := refused(denizen.ErrClosed, "", "")
	go func() {
		select {
		case <-behind.Closing():
			end(closed)
		case <-ctx.Done():
		}
	}()
	h := newHandler(ctx, dir, bounds)
	var under sync.RWMutex // held by requests; locked permanently at the end
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if under.TryRLock() {
				defer under.RUnlock()
				h.ServeHTTP(w, r)
			}
		}),
		ReadTimeout:    bounds.arrive,
		MaxHeaderBytes: 4 << 10,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	server.SetKeepAlivesEnabled(false)
	ended := context.AfterFunc(ctx, func() { _ = server.Close() })
	err = server.Serve(l)
	ended()
	_ = server.Close()
	under.Lock()
	switch {
	case context.Cause(ctx) == closed:
		return closed
	case ctx.Err() != nil:
		return nil
	}
	return errors.Join(refused(denizen.ErrUnavailable, "path", "cannot be served any more"), err)
}

func refused(kind error, field, reason string) error {
	return &denizen.Error{Op: "Serve", Kind: kind, Field: field, Reason: reason}
}
