package opsocket

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
)

// handler answers requests.
type handler struct {
	ctx    context.Context
	dir    ops.Local
	bounds limits
	slots  map[string]chan struct{} // of requests of which there is one at once
	*http.ServeMux
}

func newHandler(ctx context.Context, dir *denizen.Directory, bounds limits) *handler {
	h := &handler{
		ctx: ctx, dir: ops.Local{Dir: dir, By: denizen.System()}, bounds: bounds,
		slots: map[string]chan struct{}{
			ops.Verify: make(chan struct{}, 1), ops.BackupPath: make(chan struct{}, 1),
			ops.CompactPath: make(chan struct{}, 1),
		},
		ServeMux: http.NewServeMux(),
	}
	h.HandleFunc("POST "+ops.ReadPath, h.read)
	h.HandleFunc("POST "+ops.BackupPath, h.backup)
	h.HandleFunc("POST "+ops.CompactPath, h.compact)
	return h
}

// take takes the slot of a request, and reports whether it was free.
func (h *handler) take(name string) (release func(), ok bool) {
	slot := h.slots[name]
	if slot == nil {
		return func() {}, true
	}
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, true
	default:
		return nil, false
	}
}

func fail(w http.ResponseWriter, status int, err error) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(ops.Line{Error: ops.Pack(err)})
}

var errBusy = refused(denizen.ErrLimited, "", "one such request is under way already")

// begin returns what a request is answered with, and until when. It has been read whole.
func (h *handler) begin(w http.ResponseWriter, r *http.Request) (*patient, context.Context, func()) {
	p := &patient{w: w, c: http.NewResponseController(w), bounds: h.bounds, left: h.bounds.patience}
	_ = p.c.SetReadDeadline(time.Time{}) // what is read from now on is that the client is gone
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(h.ctx, cancel)
	return p, ctx, func() { stop(); cancel() }
}

func (h *handler) read(w http.ResponseWriter, r *http.Request) {
	var q ops.Query
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.bounds.request))
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, refused(denizen.ErrInvalid, "query", "cannot be read"))
		return
	}
	release, ok := h.take(q.What)
	if !ok {
		fail(w, http.StatusTooManyRequests, errBusy)
		return
	}
	defer release()
	p, ctx, done := h.begin(w, r)
	defer done()
	lines := json.NewEncoder(p)
	// Of these the reader waits for the next line. Others fill a buffer.
	prompt := q.Follow || q.What == ops.Verify
	if prompt {
		p.flush() // so that the client knows that it was let in
	}
	for v, err := range h.dir.Read(ctx, q) {
		if err != nil {
			_ = lines.Encode(ops.Line{Error: ops.Pack(err)})
			p.flush()
			return
		}
		if lines.Encode(ops.Line{Value: v}) != nil {
			return
		}
		if prompt {
			p.flush()
		}
	}
	_ = lines.Encode(ops.Line{End: true})
	p.flush()
}

// isWhole reads a request to its end, or refuses it. What is left of one would be waited for once it
// is answered, for as long as the client likes.
func (h *handler) isWhole(w http.ResponseWriter, r *http.Request) bool {
	_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, h.bounds.request))
	if err != nil {
		fail(w, http.StatusBadRequest, refused(denizen.ErrInvalid, "request", "cannot be read"))
	}
	return err == nil
}

func (h *handler) backup(w http.ResponseWriter, r *http.Request) {
	if !h.isWhole(w, r) {
		return
	}
	release, ok := h.take(ops.BackupPath)
	if !ok {
		fail(w, http.StatusTooManyRequests, errBusy)
		return
	}
	defer release()
	p, ctx, done := h.begin(w, r)
	defer done()
	w.Header().Set("Trailer", ops.SeqTrailer)
	w.Header().Set("Content-Type", "application/octet-stream")
	seq, err := h.dir.Backup(ctx, p)
	switch {
	case err != nil && !p.begun:
		w.Header().Del("Trailer")
		fail(w, http.StatusInternalServerError, err)
		return
	case err != nil:
		panic(http.ErrAbortHandler) // the client sees that it was cut off
	}
	w.Header().Set(ops.SeqTrailer, strconv.FormatUint(uint64(seq), 10))
	p.flush()
}

func (h *handler) compact(w http.ResponseWriter, r *http.Request) {
	if !h.isWhole(w, r) {
		return
	}
	release, ok := h.take(ops.CompactPath)
	if !ok {
		fail(w, http.StatusTooManyRequests, errBusy)
		return
	}
	defer release()
	p, ctx, done := h.begin(w, r)
	defer done()
	l := ops.Line{}
	if c, err := h.dir.Compact(ctx); err != nil {
		l.Error = ops.Pack(err)
	} else {
		l.Value = c
	}
	_ = json.NewEncoder(p).Encode(l)
	p.flush()
}

// patient writes to a client, and waits for it no longer than the bounds say.
type patient struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	bounds limits
	left   time.Duration // for which it may still wait
	begun  bool
}

// step is how much is written under one deadline, in bytes.
const step = 64 << 10

func (p *patient) Write(b []byte) (n int, err error) {
	p.begun = true
	for n < len(b) && err == nil {
		part := b[n:min(len(b), n+step)]
		began := time.Now()
		_ = p.c.SetWriteDeadline(began.Add(p.left))
		var wrote int
		wrote, err = p.w.Write(part)
		n += wrote
		earned := time.Duration(wrote) * time.Second / time.Duration(p.bounds.rate)
		p.left = min(p.bounds.patience, p.left-time.Since(began)+earned)
	}
	return n, err
}

func (p *patient) flush() {
	p.begun = true
	_ = p.c.SetWriteDeadline(time.Now().Add(p.left))
	_ = p.c.Flush()
}
