package httpadapter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/denizenhq/denizen/internal/wire"
)

// reply is a response, not yet written.
type reply struct {
	status   int
	body     any                                  // encoded as JSON; nil: none
	list     iter.Seq2[any, error]                // instead: the elements of a list, one by one
	document func(io.Writer) error                // instead: writes JSON, and nothing if it fails
	html     string                               // instead
	stream   func(context.Context, *stream) error // instead: sends events until it ends
	cause    error                                // why a stream ended, for Observe
	etag     string
	location string
	header   [2]string // one more header
	link     string
}

// okJSON is the response of 200 with a body.
func okJSON(body any) (reply, error) { return reply{status: http.StatusOK, body: body}, nil }

// noContent is the response with nothing to say, unless there is an error.
func noContent(err error) (reply, error) { return reply{status: http.StatusNoContent}, err }

// created is the response of 201 with the identifier alone. The location is relative to the path of
// the request, so that it holds wherever the handler is mounted (RFC 9110 §10.2.2).
func created(identifier, location string) (reply, error) {
	return reply{
		status: http.StatusCreated, body: reference{identifier}, location: location,
	}, nil
}

var (
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	contentJSON = []string{"application/json"}
)

// write writes the response. That the client has left is no error. A list can fail: before anything
// is written, or with errCut.
func (a *reply) write(c *call) error {
	h := c.w.Header()
	h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
	h["X-Request-Id"] = []string{c.requestID}
	if a.location != "" {
		h["Location"] = []string{a.location}
	}
	if a.link != "" {
		h["Link"] = []string{a.link}
	}
	if a.header[0] != "" {
		h[a.header[0]] = []string{a.header[1]}
	}
	if a.etag != "" {
		h["Etag"] = []string{a.etag}
		if a.status == http.StatusOK && matches(c.r.Header["If-None-Match"], a.etag, true) {
			a.status, a.body = http.StatusNotModified, nil
		}
	}
	var body []byte
	switch {
	case a.html != "":
		body = []byte(a.html)
		h["Content-Type"] = []string{"text/html; charset=utf-8"}
		h["Content-Security-Policy"] = []string{
			"default-src 'none'; form-action 'self'; frame-ancestors 'none'",
		}
	case a.list != nil:
		return a.writeList(c)
	case a.stream != nil:
		return a.writeStream(c)
	case a.document != nil:
		w := &lateWriter{c: c, status: a.status}
		if err := a.document(w); err != nil && !w.begun {
			return err
		}
		return nil // or the client has left
	case a.body != nil:
		if encoded, is := a.body.(json.RawMessage); is {
			body = encoded
		} else {
			body = encode(a.body)
		}
		h["Content-Type"] = contentJSON
	default:
		c.w.WriteHeader(a.status)
		return nil
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(a.status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body)
	}
	return nil
}

// lateWriter writes the head of a response with the first bytes of its body.
type lateWriter struct {
	c      *call
	status int
	begun  bool
}

func (w *lateWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.c.w.Header()["Content-Type"] = contentJSON
		w.c.w.WriteHeader(w.status)
	}
	if w.c.r.Method == http.MethodHead {
		return len(b), nil
	}
	return w.c.w.Write(b)
}

// listBuffer is how many bytes of a list are encoded before they are written. A shorter list has a
// Content-Length, and can still become a refusal.
const listBuffer = 64 << 10

// errCut says that a response broke off after its first bytes were written.
var errCut = errors.New("httpadapter: the response broke off")

// writeList writes a list element by element. It holds no more than listBuffer and one of them, so
// that a long list costs no memory.
func (a *reply) writeList(c *call) error {
	h := c.w.Header()
	var b bytes.Buffer
	b.WriteByte('[')
	first, begun := true, false
	for element, err := range a.list {
		switch {
		case err != nil && begun:
			return errors.Join(errCut, err)
		case err != nil:
			return err
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		wire.Encode(&b, element)
		if b.Len() < listBuffer {
			continue
		}
		if !begun {
			begun = true
			h["Content-Type"] = contentJSON
			c.w.WriteHeader(a.status)
		}
		if c.r.Method == http.MethodHead {
			return nil
		}
		if _, err := c.w.Write(b.Bytes()); err != nil {
			return nil // the client has left
		}
		b.Reset()
	}
	b.WriteByte(']')
	if !begun {
		h["Content-Type"] = contentJSON
		h["Content-Length"] = []string{strconv.Itoa(b.Len())}
		c.w.WriteHeader(a.status)
	}
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(b.Bytes())
	}
	return nil
}

var noDiagnostics = map[string]any{}

func (r *refusal) reply(c *call) reply {
	diagnostics := r.diagnostics
	if diagnostics == nil {
		diagnostics = noDiagnostics
	}
	a := reply{
		status: r.status,
		body: wire.Problem{
			ErrorCode: r.code, Message: r.message, Diagnostics: diagnostics,
			Timestamp: time.Now().UnixMilli(), RequestID: c.requestID,
		},
	}
	if r.status == http.StatusUnauthorized {
		a.header = [2]string{"Www-Authenticate", `Bearer realm="denizen"`}
	}
	if r.retryAfter > 0 {
		seconds := int64((r.retryAfter + time.Second - 1) / time.Second)
		a.header = [2]string{"Retry-After", strconv.FormatInt(seconds, 10)}
	}
	return a
}

// encode returns v as JSON. Nothing in the shapes of this package can fail to be encoded.
func encode(v any) []byte {
	var b bytes.Buffer
	wire.Encode(&b, v)
	return b.Bytes()
}

// etag returns the strong entity tag of what a caller is shown. It is a digest of that alone, as a
// version of the store would tell of what others write.
func etag(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}
