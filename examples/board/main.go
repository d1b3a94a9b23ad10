// Command board shows who is here, as it happens: people with dots that turn online, away and gone
// as their chains run, in every window at once. README.md says how.
//
//	go run ./examples/board
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// settings are what the flags say.
type settings struct {
	addr, db     string
	online, away time.Duration
	each         int
}

func main() {
	var s settings
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8080",
		"`address` to listen on; port 0 takes a free one")
	flag.StringVar(&s.db, "db", "board.db", "`file` of the directory, made if there is none")
	flag.DurationVar(&s.online, "online", 20*time.Second,
		"how long somebody stays online of whom nothing is heard")
	flag.DurationVar(&s.away, "away", 2*time.Minute, "how long somebody is away before being gone")
	flag.IntVar(&s.each, "each", 12, "how many `seats` one client address may have")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "board: not a flag:", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "board:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, s settings, stdout io.Writer) (err error) {
	if s.online < time.Second || s.away < time.Second {
		return errors.New("-online and -away must be a second at least")
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	dir, err := open(ctx, s.db)
	if err != nil {
		return fmt.Errorf("%s: %w", s.db, err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }() // after the last request

	closing := make(chan struct{})
	server := &http.Server{
		Handler:           service(dir, s, closing),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	server.RegisterOnShutdown(func() { close(closing) }) // Shutdown waits for the streams
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if server.Shutdown(ending) != nil {
		return server.Close() // some requests took too long and are cut off
	}
	return nil
}

// open opens the directory of the board, in which everybody sees everybody.
func open(ctx context.Context, db string) (*denizen.Directory, error) {
	dir, err := denizen.Open(ctx, db, denizen.Options{
		MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return true, nil
		},
		TokenTTL: 12 * time.Hour, MaxTokenTTL: 12 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	_, err = dir.DefineAttribute(ctx, denizen.System(), denizen.AttributeDef{
		Key: note, MaxBytes: 320, VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSelf,
	})
	if err != nil && !errors.Is(err, denizen.ErrTaken) { // taken: by the start before
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// service returns all that is served: the API, the page, and how people come and leave. Closing
// ends the streams.
func service(dir *denizen.Directory, s settings, closing <-chan struct{}) http.Handler {
	b := newBoard(dir, s)
	// The cookie of existing clients is left out: a sibling domain can set it.
	users := httpadapter.Guard{NoContractCookie: true}
	mux := http.NewServeMux()
	api := httpadapter.Options{NoContractCookie: true, Closing: closing}
	mux.Handle("/v1/", httpadapter.New(dir, api))
	mux.Handle("GET /board", users.Require(dir, http.HandlerFunc(b.read)))
	mux.Handle("POST /leave", users.Require(dir, http.HandlerFunc(b.leave)))
	// Who joins has no credential yet: another site's page must not make a browser somebody else.
	mux.Handle("POST /join", http.NewCrossOriginProtection().Handler(http.HandlerFunc(b.join)))
	mux.HandleFunc("GET /{$}", page("page.html", "text/html; charset=utf-8"))
	mux.HandleFunc("GET /page.css", page("page.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /page.js", page("page.js", "text/javascript; charset=utf-8"))
	return mux
}
