// Command console runs the operators' console of package adminui, over a directory with made-up
// people who come and go.
//
//	go run ./examples/console
//
// Then open the URL, and sign in as ada, or as guest, who may only look, with the password that it
// prints. A real service has a sign-in of its own, and asks it in Options.Authorize.
package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/adminui"
	"github.com/denizenhq/denizen/store/memory"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	db := flag.String("db", "", "the file of a directory; none: in memory")
	people := flag.Int("people", 60, "how many people to make up, if there are none yet")
	still := flag.Bool("still", false, "let nobody come and go")
	password := flag.String("password", "", "of the operators; none: one is made")
	flag.Parse()
	if *password == "" {
		*password = rand.Text()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *db, *password, *people, !*still); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, db, password string, people int, busy bool) (err error) {
	dir, err := open(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	town := &town{dir: dir}
	if err := town.settle(ctx, people); err != nil {
		return err
	}
	console, err := adminui.New(dir, adminui.Options{
		Authorize: authorize(password),
		May:       func(operator string, _ adminui.Action) bool { return operator == "ada" },
	})
	if err != nil {
		return err
	}
	defer console.Close()

	mux := http.NewServeMux()
	mux.Handle("/admin/", signIn(password, http.StripPrefix("/admin", console)))
	mux.Handle("/{$}", http.RedirectHandler("/admin/", http.StatusSeeOther))
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(func() { _ = console.Close() }) // it has streams
	fmt.Printf("operator ada, or guest; password %s\nlistening on http://%s\n",
		password, listener.Addr())

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if busy {
		var living sync.WaitGroup
		living.Go(func() { town.live(ctx) })
		defer living.Wait()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(last)
}

func open(ctx context.Context, db string) (*denizen.Directory, error) {
	if db == "" {
		return denizen.New(ctx, memory.New(), denizen.Options{})
	}
	return denizen.Open(ctx, db, denizen.Options{})
}

var errNobody = errors.New("the request has no operator's name and password")

// authorize returns .system under the name of whoever knows the password.
func authorize(password string) func(*http.Request) (denizen.Principal, error) {
	return func(r *http.Request) (denizen.Principal, error) {
		name, given, ok := r.BasicAuth()
		known := name == "ada" || name == "guest"
		if !ok || !known || subtle.ConstantTimeCompare([]byte(given), []byte(password)) == 0 {
			return denizen.Principal{}, errNobody
		}
		return denizen.System().Named(name), nil
	}
}

// signIn lets browsers ask for name and password. In a real service people sign in by a page.
func signIn(password string, console http.Handler) http.Handler {
	ask := authorize(password)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := ask(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="operators"`)
			http.Error(w, "Sign in as an operator.", http.StatusUnauthorized)
			return
		}
		console.ServeHTTP(w, r)
	})
}
