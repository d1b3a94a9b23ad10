package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// service returns all that the server serves: the API, beside routes of its own. Its sign-in has to
// be closed at the end.
func service(dir *denizen.Directory, log *slog.Logger, s settings) (http.Handler, *signIn, error) {
	// Another site's page must not sign a browser in as somebody else, nor out.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "missing_context", "a page of another origin sent this")
	}))
	if s.allowOrigin != "" {
		if err := trust(protection, s.allowOrigin); err != nil {
			return nil, nil, err
		}
	}
	proxies, err := prefixes(s.proxies)
	if err != nil {
		return nil, nil, err
	}
	people := newSignIn(dir, log, proxies)
	kept := newNotes(dir)

	// The cookie of existing clients is left out: a sibling domain can set it.
	api := httpadapter.Options{Signed: true, NoContractCookie: true, Observe: observer(log)}
	users := httpadapter.Guard{NoContractCookie: true, Observe: observer(log)}

	mux := http.NewServeMux()
	mux.Handle("/v1/", httpadapter.New(dir, api))
	mux.HandleFunc("GET /{$}", page)
	mux.Handle("POST /sign-in", protection.Handler(http.HandlerFunc(people.ask)))
	mux.Handle("POST /sign-in/code", protection.Handler(http.HandlerFunc(people.enter)))
	mux.Handle("GET /notes", users.Require(dir, http.HandlerFunc(kept.read)))
	mux.Handle("POST /notes", users.Require(dir, http.HandlerFunc(kept.write)))
	return cors(s.allowOrigin, canonical(mux)), people, nil
}

// canonical refuses paths such as //v1/users, which a mux would redirect: who calls an API by
// a wrong path is told so, and its credentials are not sent twice.
func canonical(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.EscapedPath()
		if clean := path.Clean("/" + sent); sent == "/v1" || sent != clean && sent != clean+"/" || strings.HasPrefix(sent, "//") {
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
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "the body must be application/json")
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "limit_exceeded", "the body must be 8 KiB at most, and come whole")
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
