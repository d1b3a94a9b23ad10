package adminui

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
)

// How streams behave.
const (
	streamComment  = 15 * time.Second // so that nobody in between takes a silent one for dead
	streamDeadline = 15 * time.Second // of a write
	authorizeEvery = time.Minute
	showEvery      = 400 * time.Millisecond // at most so often
)

// streams are how many live pages are open, by operator.
type streams struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// add adds a stream, until remove is called, or reports that there are too many.
func (s *streams) add(operator string) (remove func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= MaxStreams || s.of[operator] >= MaxOperatorStreams {
		return nil, false
	}
	if s.of == nil {
		s.of = map[string]int{}
	}
	s.all++
	s.of[operator]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[operator]--; s.of[operator] == 0 {
			delete(s.of, operator)
		}
	}, true
}

// part is a part of a page that changes, by the id of its element.
type part struct {
	name string // of its template
	data any
}

// live is a page that changes.
type live interface {
	// parts returns the parts as they are now, none if they are as before, and when to ask again if
	// nothing happens: the zero time is never.
	parts(ctx context.Context, s *snapshot) ([]part, time.Time, error)
}

// stream sends the parts of a page as they change, until its operator may not look any more. The
// parts are sent whole, as HTML.
func (v *visit) stream(page live) error {
	if site := v.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return errOtherOrigin
	}
	remove, ok := v.streams.add(v.by.Operator())
	if !ok {
		v.w.Header().Set("Retry-After", "15")
		return &refusal{http.StatusTooManyRequests, "Too many live pages are open."}
	}
	defer remove()
	ctx, cancel := context.WithCancel(v.r.Context())
	defer cancel()
	defer context.AfterFunc(v.hub.ctx, cancel)()
	defer v.hub.enter()()
	s := &stream{v: v, control: http.NewResponseController(v.w), sent: map[string]string{}}
	defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }() // of the next request's
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	_ = s.control.SetReadDeadline(time.Time{})
	s.follow(ctx, page)
	return nil
}

// stream is a response of server-sent events.
type stream struct {
	v       *visit
	control *http.ResponseController
	sent    map[string]string // the digest of each part
	asked   time.Time         // when the host last said that the operator may look
	ask     *time.Ticker      // since asked
}

func (s *stream) follow(ctx context.Context, page live) {
	comment := time.NewTicker(streamComment)
	defer comment.Stop()
	s.asked, s.ask = time.Now(), time.NewTicker(authorizeEvery)
	defer s.ask.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	if !s.write([]byte(":\n\n")) {
		return
	}
	for {
		known, changed := s.v.hub.latest()
		next, ok := s.show(ctx, page, &known)
		if !ok {
			return
		}
		again.Stop()
		if !next.IsZero() {
			again.Reset(max(showEvery, time.Until(next)))
		}
		rest := time.NewTimer(showEvery)
		for waiting := true; waiting; {
			select {
			case <-rest.C:
				waiting = false
			case <-ctx.Done():
				rest.Stop()
				return
			}
		}
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-again.C:
				waiting = false
			case <-comment.C:
				if !s.write([]byte(":\n\n")) {
					return
				}
			case <-s.ask.C:
				if !s.mayStay(ctx) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// mayStay reports whether the operator may look still. It asks the host again once that is due.
func (s *stream) mayStay(ctx context.Context) bool {
	now := time.Now()
	if now.Sub(s.asked) < authorizeEvery {
		return true
	}
	by, err := s.v.authorize(s.v.r)
	if err == nil && by != s.v.by {
		err = errors.New("adminui: the operator is another one now")
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		err = s.v.dir.Check(ctx, by)
	}
	if err != nil {
		s.v.options.Logger.Warn("adminui: a stream ended", "err", err)
		return false
	}
	s.asked = now
	s.ask.Reset(authorizeEvery)
	return true
}

// show sends the parts that changed. It reports whether the stream goes on.
func (s *stream) show(ctx context.Context, page live, known *snapshot) (next time.Time, ok bool) {
	if !s.mayStay(ctx) {
		return next, false
	}
	parts, next, err := s.read(ctx, page, known)
	if err != nil {
		if errors.Is(err, denizen.ErrNotFound) {
			s.send("gone", "")
		}
		return next, false // the page tries again
	}
	for _, p := range parts {
		html, digest, err := renderPart(p.name, p.data)
		if err != nil {
			s.v.options.Logger.Error("adminui: a template failed", "err", err)
			return next, false
		}
		if s.sent[p.name] == digest {
			continue
		}
		s.sent[p.name] = digest
		// A browser may take its time over each.
		if !s.mayStay(ctx) || !s.send("part", map[string]string{"id": p.name, "digest": digest, "html": html}) {
			return next, false
		}
	}
	return next, true
}

func (s *stream) read(ctx context.Context, page live, known *snapshot) ([]part, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return page.parts(ctx, known)
}

// send sends an event. It reports whether the browser still reads.
func (s *stream) send(event string, data any) bool {
	text, err := json.Marshal(data)
	if err != nil {
		return false
	}
	return s.write([]byte("event: " + event + "\ndata: " + string(text) + "\n\n"))
}

func (s *stream) write(b []byte) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamDeadline))
	_, err := s.v.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return err == nil
}
