// Command server is a small service with people in it: the REST API of a user directory that
// is kept in a file, beside routes of the service's own that the same tokens protect, and a
// sign-in of its own. README.md walks through it.
//
//	go run ./examples/server
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/denizenhq/denizen"
)

// settings are what the flags and the environment say.
type settings struct {
	addr, db, applicationID, allowOrigin string
	peers                                bool
	accessKey, accessSecret              string
}

func main() {
	var s settings
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.StringVar(&s.db, "db", "denizen.db", "`file` of the directory, made if there is none")
	flag.StringVar(&s.applicationID, "application-id", "", "`id` of the application, for a directory that is made now; it keeps the one it was made with")
	flag.BoolVar(&s.peers, "peers", false, "let users see each other's screen name, presence, and attributes defined as visible to peers")
	flag.StringVar(&s.allowOrigin, "allow-origin", "", "`origin`, such as https://app.example.org, whose pages may call this server")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "server: not a flag:", flag.Arg(0))
		os.Exit(2)
	}
	s.accessKey, s.accessSecret = os.Getenv("DENIZEN_ACCESS_KEY"), os.Getenv("DENIZEN_ACCESS_SECRET")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	if err := run(ctx, s, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		if refused, ok := errors.AsType[*denizen.Error](err); ok && refused.Cause() != nil {
			fmt.Fprintln(os.Stderr, "server: because of", refused.Cause()) // for our own eyes
		}
		os.Exit(1)
	}
}

// run serves until ctx ends. It writes the log to stderr.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	if (s.accessKey == "") != (s.accessSecret == "") {
		return errors.New("DENIZEN_ACCESS_KEY and DENIZEN_ACCESS_SECRET go together: set both, or neither")
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	listener, err := net.Listen("tcp", s.addr) // first, so that a start that fails here leaves nothing
	if err != nil {
		return err
	}
	defer listener.Close()

	o := denizen.Options{ApplicationID: s.applicationID}
	if s.peers {
		o.MaySee = func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil }
	}
	dir, err := denizen.Open(ctx, s.db, o)
	if err != nil {
		return fmt.Errorf("%s: %w", s.db, err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }() // after the last request
	handler, err := service(dir, log, s.allowOrigin)
	if err != nil {
		return err
	}
	if err := accessKey(ctx, dir, s, stdout); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	return serve(ctx, server, listener, log)
}

// accessKey puts the access key that the environment brings into the directory. Without one a
// directory that has none gets one, which is shown this once.
func accessKey(ctx context.Context, dir *denizen.Directory, s settings, stdout io.Writer) error {
	system := denizen.System()
	if s.accessKey != "" {
		if err := dir.PutAccessKey(ctx, system, s.accessKey, s.accessSecret); err != nil {
			return fmt.Errorf("DENIZEN_ACCESS_KEY and DENIZEN_ACCESS_SECRET: %w", err)
		}
		return nil
	}
	keys, err := dir.AccessKeys(ctx, system)
	if err != nil || len(keys) > 0 {
		return err
	}
	made, err := dir.CreateAccessKey(ctx, system)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "# The application's access key, shown this once:\nexport DENIZEN_ACCESS_KEY=%s\nexport DENIZEN_ACCESS_SECRET=%s\n", made.Key, made.Secret)
	return err
}

// serve answers requests until ctx ends, and then those that are under way.
func serve(ctx context.Context, server *http.Server, listener net.Listener, log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("ending: no new requests")
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		log.Warn("some requests took too long and are cut off", "cause", err)
		return server.Close()
	}
	return nil
}
