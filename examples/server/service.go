package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/signin"
)

// newSignIn returns the sign-in of a directory. Links in messages lead to url, which is never what a
// request says of its host: whoever sends one writes that.
func newSignIn(
	dir *denizen.Directory, log *slog.Logger, url string, proxies proxies, deliver deliverer,
) (*signin.Service, error) {
	return signin.New(dir, signin.Options{
		Deliver: deliver,
		Undelivered: func(d signin.Delivery, err error) {
			log.Error("a message could not be sent", "delivery", d, "err", err)
		},
		Newcomer: func() denizen.NewUser { // not the address: others may see a screen name
			return denizen.NewUser{ScreenName: "Newcomer"}
		},
		Link:   url + "/sign-in/link",
		Undo:   url + "/sign-in/undo",
		Client: proxies.client,
	})
}

// service returns all that the server serves: the API and the sign-in, beside routes of its own.
// The sign-in has to be closed at the end.
func service(
	dir *denizen.Directory, log *slog.Logger, s settings, deliver deliverer,
) (http.Handler, *signin.Service, error) {
	if err := checkOrigin(s.allowOrigin); err != nil {
		return nil, nil, err
	}
	proxies, err := parseProxies(s.proxies)
	if err != nil {
		return nil, nil, err
	}
	people, err := newSignIn(dir, log, s.url, proxies, deliver)
	if err != nil {
		return nil, nil, fmt.Errorf("-url %s: %w", s.url, err)
	}
	kept := newNotes(dir)

	// The cookie of existing clients is left out: a sibling domain can set it.
	api := httpadapter.Options{
		Signed: true, NoContractCookie: true, Prove: people, Observe: observer(log),
	}
	users := httpadapter.Guard{NoContractCookie: true, Observe: observer(log)}
	signIn := signin.HandlerOptions{
		NoContractCookie: true, Observe: observer(log),
		Token: func(r *http.Request) denizen.TokenOptions {
			return denizen.TokenOptions{Label: label(r.UserAgent())}
		},
	}

	mux := http.NewServeMux()
	mux.Handle("/v1/", httpadapter.New(dir, api))
	mux.Handle("/sign-in/", http.StripPrefix("/sign-in", people.Handler(denizen.System(), signIn)))
	mux.HandleFunc("GET /{$}", page)
	mux.Handle("GET /readyz", httpadapter.Health(dir, denizen.System(), httpadapter.HealthOptions{}))
	mux.Handle("GET /session", users.Require(dir, http.HandlerFunc(session)))
	mux.Handle("POST /erasure", users.Require(dir, &erasure{dir, kept, log}))
	mux.Handle("GET /notes", users.Require(dir, http.HandlerFunc(kept.read)))
	mux.Handle("POST /notes", users.Require(dir, http.HandlerFunc(kept.write)))
	return cors(s.allowOrigin, canonical(mux)), people, nil
}

// session answers which of a user's tokens a request came with, for a page that lists them.
func session(w http.ResponseWriter, r *http.Request) {
	token := httpadapter.PrincipalFrom(r.Context()).Token()
	answer(w, http.StatusOK, map[string]denizen.TokenID{"tokenId": token})
}

// canonical refuses paths such as //v1/users, which a mux would redirect: who calls an API by
// a wrong path is told so, and its credentials are not sent twice.
func canonical(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.EscapedPath()
		clean := path.Clean("/" + sent)
		if sent == "/v1" || sent == "/sign-in" || sent != clean && sent != clean+"/" ||
			strings.HasPrefix(sent, "//") {
			refuse(w, http.StatusNotFound, "entity_not_found", "there is no such route")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// observer logs each request to the API and to routes for users. An Exchange holds no secret.
func observer(log *slog.Logger) func(context.Context, httpadapter.Exchange) {
	return func(ctx context.Context, x httpadapter.Exchange) {
		level := slog.LevelInfo
		switch {
		case x.Status >= http.StatusInternalServerError:
			level = slog.LevelError
		case x.Status == http.StatusUnauthorized:
			level = slog.LevelWarn
		}
		log.LogAttrs(ctx, level, "request", slog.Any("request", x))
	}
}

// read decodes the JSON body of a request, of 8 KiB at most, or refuses it.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type",
			"the body must be application/json")
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "limit_exceeded",
			"the body must be 8 KiB at most, and come whole")
		return false
	}
	if json.Unmarshal(body, into) != nil {
		refuse(w, http.StatusBadRequest, "invalid_input_syntax", "the body is not the JSON it should be")
		return false
	}
	return true
}

// answer writes a JSON response that no cache may keep.
func answer(w http.ResponseWriter, status int, body any) {
	text, _ := json.Marshal(body) // maps and strings, which can always be encoded
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // who left meanwhile misses it
}

// refuse writes a refusal, of the API's form as far as this service needs it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]string{"errorCode": code, "message": message})
}
