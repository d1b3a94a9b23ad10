package httpadapter

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
)

// HealthOptions are the settings of [Health]. The zero value is good.
type HealthOptions struct {
	// Details adds why the directory is not ready, for people. It names no user, and tells strangers
	// more than they need: set it where only operators come.
	Details bool
	// Live answers 503 only if a restart helps, which is what a liveness probe asks.
	Live bool
}

// Health returns a handler that says how a directory fares, to whoever asks, as JSON such as
// {"status":"ready"}. A host mounts it where it wants, outside of the handler of [New]. The status
// is one of three:
//
//   - ready: all is well. 200.
//   - degraded: something needs looking after, and the directory goes on: see
//     [denizen.Directory.Health]. 200, or 503 while the store does not answer within two seconds.
//   - poisoned: it serves nothing before the program is started anew. 503.
//
// With Details there is also why, such as {"status":"degraded","why":"expired tokens fail"}. The
// directory is asked at most once a second, however many ask the handler. By is on whose behalf: it
// must be .system, or Health panics.
func Health(dir *denizen.Directory, by denizen.Principal, o HealthOptions) http.Handler {
	if !by.IsSystem() {
		panic("httpadapter: only .system may ask how a directory fares")
	}
	return &healthHandler{dir: dir, by: by, options: o, turn: make(chan struct{}, 1)}
}

// How old an answer may be, and how long the store has to give one.
const (
	healthFor    = time.Second
	healthWithin = 2 * time.Second
)

type healthHandler struct {
	dir     *denizen.Directory
	by      denizen.Principal
	options HealthOptions
	turn    chan struct{} // holds a value while the directory is being asked
	last    atomic.Pointer[condition]
}

// condition is how the directory fared at a time.
type condition struct {
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`
	at     time.Time
	serves bool // what a caller of the directory asks can be answered
}

func (h *healthHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"], header["X-Content-Type-Options"] = noStore, noSniff
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header["Allow"] = []string{"GET, HEAD"}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	found, err := h.condition(r.Context())
	if err != nil {
		return // the client has left
	}
	shown, status := *found, http.StatusOK
	if !h.options.Details {
		shown.Why = ""
	}
	if found.Status == "poisoned" || !found.serves && !h.options.Live {
		status = http.StatusServiceUnavailable
	}
	header["Content-Type"] = contentJSON
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(shown)
	}
}

// condition returns how the directory fares, or fared just now. It waits while another
// request asks.
func (h *healthHandler) condition(ctx context.Context) (*condition, error) {
	fresh := func(c *condition) bool { return c != nil && time.Since(c.at) < healthFor }
	if c := h.last.Load(); fresh(c) {
		return c, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := h.last.Load()
	if !fresh(c) {
		// Whoever asks and leaves at once must not make it seem that the store does not answer.
		c = h.ask(context.WithoutCancel(ctx))
		h.last.Store(c)
	}
	return c, nil
}

// ask asks the directory, and its store by short reads.
func (h *healthHandler) ask(ctx context.Context) *condition {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	health := h.dir.Health(ctx, h.by)
	_, answer := h.dir.Stats(ctx, h.by)
	c := &condition{Status: "ready", at: time.Now(), serves: answer == nil}
	if health != nil || answer != nil {
		c.Status = "degraded"
	}
	e, _ := errors.AsType[*denizen.Error](health)
	switch {
	case errors.Is(health, denizen.ErrClosed), errors.Is(answer, denizen.ErrClosed):
		c.Status, c.Why = "poisoned", "the directory is closed"
	case e != nil && e.Field == "store":
		c.Status, c.Why = "poisoned", e.Reason
	case errors.Is(answer, denizen.ErrRevoked):
		c.Why = "the access key of the health check was deleted"
	case answer != nil:
		c.Why = "the store does not answer"
	case e != nil:
		c.Why = e.Reason
	}
	return c
}
