// Command cluster starts two servers of one user directory that is kept in PostgreSQL, and shows
// step by step that they are one: what is done on either holds on the other, and when one is
// killed the other goes on. A server is in this file, the walk in walk.go.
//
//	go run ./examples/cluster -postgres postgres://user@localhost/database
package main

import (
	"cmp"
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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store/postgres"
)

const (
	// freshness is how long one server may still let in a token that the other one revoked.
	freshness = time.Second
	// application keeps the walk out of other people's directories: each refuses an
	// application id that it was not made with.
	application = "example-cluster"
)

type settings struct {
	postgres, schema, serve string
	keep                    bool
}

func main() {
	var s settings
	flag.StringVar(&s.postgres, "postgres", "",
		"the database, as a `URL` or as key=value pairs; DENIZEN_POSTGRES unless set")
	flag.StringVar(&s.schema, "schema", "denizen_example",
		"`name` of the schema; made if there is none, and then dropped at the end")
	flag.BoolVar(&s.keep, "keep", false, "leave the schema there")
	flag.StringVar(&s.serve, "serve", "",
		"be one of the two servers, on `address`; the program starts itself so")
	flag.Parse()
	s.postgres = cmp.Or(s.postgres, os.Getenv("DENIZEN_POSTGRES"))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("not a flag: %s", flag.Arg(0))
	case s.serve != "":
		err = serve(ctx, s)
	default:
		err = run(ctx, s, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		if refused, ok := errors.AsType[*denizen.Error](err); ok && refused.Cause() != nil {
			fmt.Fprintln(os.Stderr, "cluster: because of", refused.Cause()) // for our own eyes
		}
		os.Exit(1)
	}
}

// serve is one of the servers. It ends with ctx or its standard input, which ends with the
// program that started it.
func serve(ctx context.Context, s settings) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	pool, err := pgxpool.New(ctx, s.postgres)
	if err != nil {
		return err
	}
	defer pool.Close()
	kept, err := postgres.Open(ctx, pool, postgres.Options{Schema: s.schema})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	dir, err := denizen.New(ctx, kept, denizen.Options{
		ApplicationID: application, MaxRevocationDelay: freshness,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	// Each server puts the same one: after the first this changes nothing.
	key, secret := os.Getenv("DENIZEN_ACCESS_KEY"), os.Getenv("DENIZEN_ACCESS_SECRET")
	err = dir.PutAccessKey(ctx, denizen.System(), key, secret)
	if err != nil {
		return fmt.Errorf("DENIZEN_ACCESS_KEY and DENIZEN_ACCESS_SECRET: %w", err)
	}

	listener, err := net.Listen("tcp", s.serve)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           httpadapter.New(dir, httpadapter.Options{}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("listening on http://%s\n", listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}
