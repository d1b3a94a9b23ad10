package httpadapter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// A reply is an answer, not yet written.
type reply struct {
	status   int
	body     any    // encoded as JSON; nil: none
	html     string // instead
	etag     string
	location string
	header   [2]string // one more header
	link     string
}

func ok(body any) (reply, error) { return reply{status: http.StatusOK, body: body}, nil }

// done is the answer with nothing to say.
func done(err error) (reply, error) { return reply{status: http.StatusNoContent}, err }

// created answers the identifier alone. The location is relative to the path that was asked, which
// holds wherever the handler is mounted and whatever stands before it (RFC 9110 §10.2.2).
func created(identifier, location string) (reply, error) {
	return reply{status: http.StatusCreated, body: reference{identifier}, location: location}, nil
}

var (
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	contentJSON = []string{"application/json"}
)

// write writes the answer, but for who left meanwhile.
func (a *reply) write(c *call) {
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
		h["Content-Security-Policy"] = []string{"default-src 'none'; form-action 'self'; frame-ancestors 'none'"}
	case a.body != nil:
		if encoded, is := a.body.(json.RawMessage); is {
			body = encoded
		} else {
			body = encode(a.body)
		}
		h["Content-Type"] = contentJSON
	default:
		c.w.WriteHeader(a.status)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(a.status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body)
	}
}

// problem is the body of a refusal.
type problem struct {
	ErrorCode   string         `json:"errorCode"`
	Message     string         `json:"message"`
	Diagnostics map[string]any `json:"diagnostics"`
	Timestamp   int64          `json:"timestamp"`
	RequestID   string         `json:"requestId"`
}

var noDiagnostics = map[string]any{}

func (r *refusal) reply(c *call) reply {
	diagnostics := r.diagnostics
	if diagnostics == nil {
		diagnostics = noDiagnostics
	}
	a := reply{status: r.status, body: problem{r.code, r.message, diagnostics, time.Now().UnixMilli(), c.requestID}}
	if r.status == http.StatusUnauthorized {
		a.header = [2]string{"Www-Authenticate", `Bearer realm="denizen"`}
	}
	if r.retryAfter > 0 {
		a.header = [2]string{"Retry-After", strconv.FormatInt(int64((r.retryAfter+time.Second-1)/time.Second), 10)}
	}
	return a
}

// encode returns v as JSON. The shapes of this package have nothing that cannot be encoded.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// etag is the strong entity tag of what a caller is shown. It rests on nothing else: a number of
// the store would tell of what others write.
func etag(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}
