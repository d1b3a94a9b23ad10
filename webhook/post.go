package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// Bounds of a request, within Endpoint.Timeout.
const (
	dialTimeout   = 10 * time.Second // and of looking up the name
	tlsTimeout    = 10 * time.Second
	answerTimeout = 15 * time.Second
	idleTimeout   = 90 * time.Second // of a connection between two requests
	maxHeader     = 16 << 10         // bytes of an answer's header
	maxDrained    = 4 << 10          // bytes of its body that are read so that the connection can stay
	drainTimeout  = time.Second
	maxRetryAfter = 10 * time.Minute
)

// poster posts to one endpoint. Its connections are its own, so all were judged by its rules.
type poster struct {
	url       *url.URL
	keys      [][]byte
	kinds     []denizen.EventKind // none: all
	timeout   time.Duration
	salt      string // so that ids of two consumers differ
	dialer    net.Dialer
	transport *http.Transport
	end       context.CancelCauseFunc // ends Post
}

func (p *poster) newTransport(config *tls.Config) *http.Transport {
	one := new(http.Protocols)
	one.SetHTTP1(true)
	if config = config.Clone(); config != nil {
		config.NextProtos = nil
	}
	return &http.Transport{
		DialContext:            p.dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           1,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		Protocols:              one,
	}
}

// Fit is of door.Consumer. How many events fit does not depend on which are wanted, which may be
// others when the batch is tried again.
func (p *poster) Fit(batch any) (n int, wanted bool) {
	size := around
	for _, e := range batch.([]denizen.Event) {
		if size += len(encode(e)) + 1; size > MaxBody && n > 0 {
			break
		}
		n++
		wanted = wanted || p.wants(e)
	}
	return n, wanted
}

// wants reports whether an event is posted. What was missed or cannot be read may be of any kind.
func (p *poster) wants(e denizen.Event) bool {
	return len(p.kinds) == 0 || e.Kind == "" || e.Kind == denizen.EventMissed ||
		slices.Contains(p.kinds, e.Kind)
}

// Handle is of door.Consumer.
func (p *poster) Handle(ctx context.Context, begun time.Time, batch any) error {
	events := batch.([]denizen.Event)
	var texts []json.RawMessage
	for _, e := range events {
		if p.wants(e) {
			texts = append(texts, encode(e))
		}
	}
	if len(texts) == 0 {
		return nil // since other kinds are wanted than when it was begun
	}
	body := encodeBody(begun, texts, events[len(events)-1].Cursor)
	wait, err := p.try(ctx, p.idOf(body), body)
	if errors.Is(err, ErrGone) {
		p.end(ErrGone)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return err
}

// idOf returns the id of a request. It follows from the body, so no two bodies have the same one.
func (p *poster) idOf(body []byte) string {
	sum := sha256.Sum256(append([]byte(p.salt), body...))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// try posts a body once. If it fails it also returns how long the receiver wants not to be asked.
// Its errors hold nothing that the receiver says, and of the URL nothing but the host.
func (p *poster) try(ctx context.Context, id string, body []byte) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	now := time.Now()
	timestamp := strconv.FormatInt(now.Unix(), 10)
	signatures := make([]string, len(p.keys))
	for i, key := range p.keys {
		signatures[i] = signature(key, id, timestamp, body)
	}
	r := (&http.Request{
		Method: http.MethodPost, URL: p.url, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{
			"Content-Type":  {"application/json"},
			"User-Agent":    {"denizen-webhook"},
			headerID:        {id},
			headerTime:      {timestamp},
			headerSignature: {strings.Join(signatures, " ")},
		},
	}).WithContext(ctx)
	// Not by a Client: it would follow redirects.
	answer, err := p.transport.RoundTrip(r)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", described(ctx, err))
	}
	defer drain(answer.Body, cancel)
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return 0, nil
	case code == http.StatusGone:
		return 0, ErrGone
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		wait = retryAfter(answer.Header, now)
		fallthrough
	default:
		return wait, fmt.Errorf("webhook: the receiver answered %d", code)
	}
}

// described returns an error that holds nothing of an answer.
func described(ctx context.Context, err error) error {
	var timeout interface{ Timeout() bool }
	dial, _ := errors.AsType[*net.OpError](err)
	switch {
	case dial != nil && dial.Op == "dial":
		return dial // of names and addresses, and of what the system or judge says
	case ctx.Err() != nil:
		return fmt.Errorf("the request was not answered in time: %w", ctx.Err())
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the receiver was too slow")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errors.New("the certificate of the receiver is not valid")
	}
	return errors.New("the connection broke, or the answer is none")
}

// drain reads a little of a body, so that the connection can be used again, and closes it.
func drain(body io.ReadCloser, cancel context.CancelFunc) {
	defer time.AfterFunc(drainTimeout, cancel).Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrained)
	_ = body.Close()
}

// retryAfter returns how long an answer says to wait, within the bound.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
