// Command server is a small service with people in it: the REST API of a user directory that
// is kept in a file, with sign-in by codes and links, beside pages and routes of the service's own
// that the same tokens protect. README.md walks through it.
//
//	go run ./examples/server
package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/opsocket"
)

// settings are what the flags and the environment say.
type settings struct {
	addr, url, db, applicationID, allowOrigin, proxies, mailbox string
	peers                                                       bool
	accessKey, accessSecret, rootKeys                           string
}

func main() {
	var s settings
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8080",
		"`address` to listen on; port 0 takes a free one")
	flag.StringVar(&s.url, "url", "",
		"`URL` that people open, such as https://app.example.org, for links in messages; "+
			"the address that it listens on unless set")
	flag.StringVar(&s.db, "db", "denizen.db", "`file` of the directory, made if there is none")
	flag.StringVar(&s.applicationID, "application-id", "",
		"`id` of the application, for a directory that is made now; it keeps the one it was made with")
	flag.BoolVar(&s.peers, "peers", false,
		"let users see each other's screen name, presence, "+
			"and attributes defined as visible to peers")
	flag.StringVar(&s.allowOrigin, "allow-origin", "",
		"`origin`, such as https://app.example.org, whose pages may call this server")
	flag.StringVar(&s.proxies, "proxies", "",
		"comma-separated `addresses` or prefixes of proxies, such as 10.0.0.0/8, "+
			"whose X-Forwarded-For says who a client is")
	flag.StringVar(&s.mailbox, "mailbox", "",
		"`file` that messages to people are appended to, in place of the log, for development")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "server: not a flag:", flag.Arg(0))
		os.Exit(2)
	}
	s.accessKey, s.accessSecret = os.Getenv("DENIZEN_ACCESS_KEY"), os.Getenv("DENIZEN_ACCESS_SECRET")
	s.rootKeys = os.Getenv("DENIZEN_ROOT_KEYS")

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
		return errors.New("DENIZEN_ACCESS_KEY and DENIZEN_ACCESS_SECRET go together: " +
			"set both, or neither")
	}
	rootKeys, err := rootKeys(s.rootKeys)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	// First, so that a start that fails here leaves nothing behind.
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	defer listener.Close()

	o := denizen.Options{ApplicationID: s.applicationID, RootKeys: rootKeys}
	if s.peers {
		o.MaySee = func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return true, nil
		}
	}
	dir, err := denizen.Open(ctx, s.db, o)
	if err != nil {
		return fmt.Errorf("%s: %w", s.db, err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }() // after the last request
	// If the first root key is a new one.
	if err := dir.Rekey(ctx, denizen.System()); err != nil {
		return err
	}
	deliver := inLog(log)
	if s.mailbox != "" {
		box, err := openMailbox(s.mailbox)
		if err != nil {
			return err
		}
		defer box.Close() // after the last message
		deliver = box.deliver
	}
	s.url = strings.TrimSuffix(cmp.Or(s.url, "http://"+listener.Addr().String()), "/")
	handler, people, err := service(dir, log, s, deliver)
	if err != nil {
		return err
	}
	defer people.Close()
	defer onDuty(ctx, dir, s.db+".sock", log)()
	if err := accessKey(ctx, dir, s, log, stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	return serve(ctx, newServer(handler, log), listener, log)
}

// onDuty lets the command denizen reach the directory while it is open here: to look, to back it up
// and to compact its file. Only who may read the file anyway may connect. A server without it
// serves people all the same.
func onDuty(
	ctx context.Context, dir *denizen.Directory, path string, log *slog.Logger,
) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := opsocket.Serve(ctx, dir, path); err != nil {
			log.Warn("the command denizen does not reach this server", "socket", path, "err", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// newServer returns a server that no slow client holds on to: a request, with its body, comes
// within 15 s or not at all.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// rootKeys returns the keys of a list with commas. Each is 32 bytes in base64 or in hexadecimal
// digits, or the word none. An empty text is no list. No error holds the text.
func rootKeys(text string) (keys [][]byte, err error) {
	if text == "" {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		if one == denizen.NoRootKey {
			keys = append(keys, []byte(one))
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(one)
		if len(one) == 64 { // which is 48 bytes in base64
			key, err = hex.DecodeString(one)
		}
		if err != nil || len(key) != 32 {
			return nil, errors.New("DENIZEN_ROOT_KEYS must be 32 bytes each, in base64 (44 characters) " +
				"or hexadecimal (64 digits): openssl rand -base64 32 makes one")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// accessKey puts the access key that the environment brings into the directory. Without one a
// directory that has none gets one, which is shown this once. One that was deleted stays so: what
// the environment still holds may be what leaked.
func accessKey(
	ctx context.Context, dir *denizen.Directory, s settings, log *slog.Logger, stdout io.Writer,
) error {
	system := denizen.System()
	if s.accessKey != "" {
		err := dir.PutAccessKey(ctx, system, s.accessKey, s.accessSecret)
		if errors.Is(err, denizen.ErrRevoked) {
			log.Warn("DENIZEN_ACCESS_KEY was deleted, and is not let in: "+
				"unset it, or bring another", "err", err)
			return nil
		}
		if err != nil {
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
	_, err = fmt.Fprintf(stdout, "# The application's access key, shown this once:\n"+
		"export DENIZEN_ACCESS_KEY=%s\n"+
		"export DENIZEN_ACCESS_SECRET=%s\n", made.Key, made.Secret)
	return err
}

// serve serves requests until ctx ends, and then finishes those that are under way.
func serve(
	ctx context.Context, server *http.Server, listener net.Listener, log *slog.Logger,
) error {
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
		log.Warn("some requests took too long and are cut off", "err", err)
		return server.Close()
	}
	return nil
}
