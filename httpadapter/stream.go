package httpadapter

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// Bounds of event streams.
const (
	maxStreams     = 10_000           // in all, unless Options say otherwise
	maxCallerHas   = 16               // of one caller
	streamComment  = 15 * time.Second // so that nobody in between takes a silent one for dead
	streamDeadline = 15 * time.Second // of a write
	streamRetry    = 10 * time.Second // of a caller who has too many
	maxFailedAsks  = 4                // whether the caller may stay, in a row
)

// streams are the event streams that are open.
type streams struct {
	sync.Mutex
	open    map[*stream]string // by caller
	callers map[string]int
	idle    chan struct{} // closed when none is open any more
}

// add adds a stream of a caller, or reports that there are too many. An application's keys are
// callers of their own, and a user is one caller with all its tokens.
func (s *streams) add(one *stream, most int, closing <-chan struct{}) bool {
	by := one.call.by
	caller := by.String()
	if by.IsSystem() {
		caller += by.AccessKey()
	}
	s.Lock()
	defer s.Unlock()
	if len(s.open) >= most || s.callers[caller] >= maxCallerHas {
		return false
	}
	if len(s.open) == 0 {
		s.open, s.callers, s.idle = map[*stream]string{}, map[string]int{}, make(chan struct{})
		if closing != nil {
			go s.closeWith(closing, s.idle)
		}
	}
	s.open[one] = caller
	s.callers[caller]++
	select {
	case <-closing: // perhaps after all were ended
		one.cancel()
	default:
	}
	return true
}

// closeWith ends all streams once the host closes. It returns when there is none.
func (s *streams) closeWith(closing, idle <-chan struct{}) {
	select {
	case <-idle:
		return
	case <-closing:
	}
	s.Lock()
	defer s.Unlock()
	for one := range s.open {
		one.cancel()
	}
}

func (s *streams) remove(one *stream) {
	s.Lock()
	defer s.Unlock()
	caller := s.open[one]
	delete(s.open, one)
	if s.callers[caller]--; s.callers[caller] == 0 {
		delete(s.callers, caller)
	}
	if len(s.open) == 0 {
		close(s.idle)
	}
}

// stream is a response of server-sent events. Each write goes out at once. Until it has begun it
// can still become a refusal.
type stream struct {
	call   *call
	begun  bool
	cancel context.CancelFunc // ends the stream

	staying sync.Mutex // held by stay; guards the fields below
	timer   *time.Timer
	failed  int // how often it could not be asked whether the caller may stay, in a row

	sync.Mutex // guards the response
	w          http.ResponseWriter
	control    *http.ResponseController
}

// send writes one event. It reports whether the client still reads.
func (s *stream) send(event string, id denizen.Cursor, data any) bool {
	return s.write(encodeEvent(event, id, data))
}

// encodeEvent returns an event as it is sent.
func encodeEvent(event string, id denizen.Cursor, data any) []byte {
	var b bytes.Buffer
	if id != "" {
		b.WriteString("id: ")
		b.WriteString(string(id))
		b.WriteByte('\n')
	}
	b.WriteString("event: ")
	b.WriteString(event)
	b.WriteString("\ndata: ")
	wire.Encode(&b, data) // has no line feeds
	b.WriteString("\n\n")
	return b.Bytes()
}

// missed tells that something was not told: the client reads the state again.
func (s *stream) missed(id denizen.Cursor) bool { return s.send("missed", id, struct{}{}) }

// write writes and flushes within the deadline. A client that does not take it ends the stream.
func (s *stream) write(b []byte) bool {
	s.Lock()
	defer s.Unlock()
	// Not every wrapped ResponseWriter has a deadline. A client that stops reading then holds its
	// own stream for as long as the connection lasts.
	_ = s.control.SetWriteDeadline(time.Now().Add(streamDeadline))
	_, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	if err != nil {
		s.cancel()
	}
	return err == nil
}

var comment = []byte(":\n\n")

// stay writes a comment, again and again, and ends the stream when the caller is not what it was:
// its token ended, or its user is blocked. Between two times it holds no goroutine.
func (s *stream) stay(ctx context.Context) {
	defer s.staying.Unlock()
	if s.staying.Lock(); ctx.Err() != nil {
		return
	}
	switch err := s.call.h.dir.Check(ctx, s.call.by); {
	case err == nil:
		s.failed = 0
	case errors.Is(err, denizen.ErrRevoked), errors.Is(err, denizen.ErrClosed):
		s.cancel()
		return
	default:
		if s.failed++; s.failed == maxFailedAsks {
			s.cancel()
			return
		}
	}
	if s.write(comment) {
		s.timer.Reset(streamComment)
	}
}

// writeStream answers with a stream of events, which ends with the request, the caller or the host.
// It returns an error if it did not begin.
func (a *reply) writeStream(c *call) error {
	if !canFlush(c.w) {
		return unknownError(errors.New("httpadapter: a ResponseWriter in between has no Flush or Unwrap"))
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	s := &stream{call: c, w: c.w, control: http.NewResponseController(c.w), cancel: cancel}
	defer s.close()
	if !c.h.streams.add(s, c.h.options.MaxStreams, c.h.options.Closing) {
		return &refusal{
			status: http.StatusTooManyRequests, code: "rate_limited",
			message: "too many event streams are open", retryAfter: streamRetry,
		}
	}
	defer c.h.streams.remove(s)
	err := a.stream(ctx, s)
	if s.begun {
		a.cause, err = err, nil
	}
	return err
}

// begin writes the header and the first bytes, and lets the stream stay open. It does so once. It
// reports whether the client still reads.
func (s *stream) begin(ctx context.Context) bool {
	if s.begun {
		return true
	}
	s.begun = true
	h := s.w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["X-Accel-Buffering"] = []string{"no"} // nginx and others
	s.w.WriteHeader(http.StatusOK)
	if s.call.r.Method == http.MethodHead {
		return false
	}
	_ = s.control.SetReadDeadline(time.Time{}) // a ReadTimeout of the server is of the request
	if !s.write(comment) {
		return false
	}
	s.staying.Lock()
	defer s.staying.Unlock()
	s.timer = time.AfterFunc(streamComment, func() { s.stay(ctx) })
	return true
}

// close ends the stream, if nothing else did.
func (s *stream) close() {
	s.cancel()
	s.staying.Lock() // nobody writes any more
	defer s.staying.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.begun {
		_ = s.control.SetWriteDeadline(time.Time{}) // of the next request's
	}
}

// canFlush reports whether what is written can be sent at once.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// acceptsEvents reports whether the caller asks for a stream of events.
func acceptsEvents(r *http.Request) bool {
	accepted := strings.ToLower(strings.Join(r.Header["Accept"], ","))
	return strings.Contains(accepted, "text/event-stream")
}

// wantsEvents reports whether a stream of events is all that the caller accepts.
func wantsEvents(r *http.Request) bool {
	accept := strings.ToLower(strings.Join(r.Header["Accept"], ","))
	return acceptsEvents(r) &&
		!strings.Contains(accept, "application/json") && !strings.Contains(accept, "*/*")
}

// getEvents streams the feed.
func getEvents(c *call) (reply, error) {
	after, err := c.resumeAfter()
	if err != nil {
		return reply{}, err
	}
	// What Follow would refuse is refused before the response begins.
	for _, err := range c.h.dir.Events(c.r.Context(), c.by, after) {
		if err != nil && !errors.Is(err, denizen.ErrMissed) && !errors.Is(err, denizen.ErrCorrupt) {
			return reply{}, err
		}
		break
	}
	if !acceptsEvents(c.r) {
		return reply{}, newRefusal(http.StatusNotAcceptable, "not_acceptable",
			"the feed is a stream of events: accept text/event-stream")
	}
	return reply{status: http.StatusOK, stream: func(ctx context.Context, s *stream) error {
		return followTo(ctx, c, s, after)
	}}, nil
}

// resumeAfter returns where a client goes on in the feed. Its browser knows better than its page.
func (c *call) resumeAfter() (denizen.Cursor, error) {
	q, err := c.query()
	if err != nil {
		return "", err
	}
	after, err := singleQuery(q, "after")
	if err != nil {
		return "", err
	}
	switch last := c.r.Header["Last-Event-Id"]; {
	case len(last) > 1:
		return "", badValue("Last-Event-ID", "must not be given twice")
	case len(last) == 1 && last[0] != "":
		after = last[0]
	}
	if after == "0" {
		after = ""
	}
	return denizen.Cursor(after), nil
}

// followTo sends the events after a place until the stream ends. It returns why, if that is for the
// service to know.
func followTo(ctx context.Context, c *call, s *stream, after denizen.Cursor) error {
	for s.begin(ctx) {
		again := false
		for e, err := range c.h.dir.Follow(ctx, c.by, after) {
			missed, _ := errors.AsType[*denizen.Error](err)
			switch {
			case err == nil:
				if !s.send("change", e.Cursor, wire.NewEvent(e)) {
					return nil
				}
			case errors.Is(err, denizen.ErrMissed):
				again, after = s.missed(missed.Resume), missed.Resume
			case errors.Is(err, denizen.ErrCorrupt) && e.Seq != 0:
				if !s.missed(e.Cursor) {
					return nil
				}
			default:
				return endOf(ctx, err)
			}
		}
		if !again {
			return nil
		}
	}
	return nil
}

// streamPresence streams the presence of users. What reading it refuses is refused before the
// response begins, but whoever is not there has no presence.
func streamPresence(c *call, ids []denizen.UserID) (reply, error) {
	if _, err := c.h.dir.Presences(c.r.Context(), c.by, ids); err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, stream: func(ctx context.Context, s *stream) error {
		for p, err := range c.h.dir.WatchPresence(ctx, c.by, ids) {
			switch missed := errors.Is(err, denizen.ErrMissed); {
			case err != nil && !missed && s.begun:
				return endOf(ctx, err)
			case err != nil && !missed:
				return err
			case !s.begin(ctx):
				return nil
			case missed && s.missed(""), !missed && s.write(c.h.shown.event(&p)):
			default:
				return nil
			}
		}
		return nil
	}}, nil
}

// endOf returns why a stream ended, if that is for the service to know: err is that of the
// directory.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, denizen.ErrRevoked) || errors.Is(err, denizen.ErrClosed) {
		return nil
	}
	return err
}
