package webhook

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

var system = denizen.System()

const ok = "HTTP/1.1 204 No Content\r\n\r\n"

// told is one event of a body.
type told struct {
	Sequence denizen.Seq
	Kind     string
	UserID   struct{ Identifier string }
}

// request is one request that a receiver was sent.
type request struct {
	id     string
	header http.Header
	body   string
	events []told
	cursor denizen.Cursor
}

func read(t testing.TB, header http.Header, body []byte) request {
	t.Helper()
	assert.LessOrEqual(t, len(body), MaxBody)
	assert.NoError(t, Verify(testSecret, header, body, time.Now()))
	var shape struct {
		Type string
		Data struct {
			Events []told
			Cursor denizen.Cursor
		}
	}
	assert.NoError(t, json.Unmarshal(body, &shape))
	assert.Equal(t, "denizen.events", shape.Type)
	return request{header.Get("webhook-id"), header, string(body), shape.Data.Events, shape.Data.Cursor}
}

// receiver is at the other end of pipes, which virtual time knows. It answers with raw bytes.
type receiver struct {
	t      testing.TB
	answer func(n int, c net.Conn) // the n-th request, from 1; nil: with ok

	mu    sync.Mutex
	got   []request
	at    []time.Time
	dials int
}

func (r *receiver) dial(context.Context, string, string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials++
	ours, theirs := net.Pipe()
	go r.serve(theirs)
	return ours, nil
}

func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	for b := bufio.NewReader(c); ; {
		q, err := http.ReadRequest(b)
		if err != nil {
			return
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, read(r.t, q.Header, body))
		r.at = append(r.at, time.Now())
		n := len(r.got)
		r.mu.Unlock()
		if r.answer == nil {
			_, _ = io.WriteString(c, ok)
		} else {
			r.answer(n, c)
		}
	}
}

func (r *receiver) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...)
}

// saying answers each request with a text, and the later ones, from the n-th on, with ok.
func saying(text string, n int) func(int, net.Conn) {
	return func(i int, c net.Conn) {
		if i >= n {
			text = ok
		}
		_, _ = io.WriteString(c, text)
	}
}

// posting posts to a receiver until it is stopped, which returns the error of Post.
func (r *receiver) posting(d *denizen.Directory, e Endpoint) (stop func() error) {
	e.URL = "http://receiver.example/hook?key=hidden"
	e.AllowHTTP = true
	if e.Secrets == nil {
		e.Secrets = []string{testSecret}
	}
	p, err := newPoster(e)
	require.NoError(r.t, err)
	p.transport.DialContext = r.dial
	ctx, cancel := context.WithCancel(context.Background())
	outcome := make(chan error, 1)
	go func() { outcome <- p.post(ctx, d, system, "partner") }()
	return func() error {
		cancel()
		return <-outcome
	}
}

func requireStopped(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}

func newMemory(t testing.TB, o denizen.Options) *denizen.Directory {
	t.Helper()
	return newOver(t, memory.New(), o)
}

func newOver(t testing.TB, s store.Store, o denizen.Options) *denizen.Directory {
	t.Helper()
	d, err := denizen.New(context.Background(), s, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func newUsers(t testing.TB, d *denizen.Directory, name string, n int) {
	t.Helper()
	for i := range n {
		id := denizen.UserID(fmt.Sprintf("%s-%06d", name, i))
		_, err := d.CreateUser(context.Background(), system, denizen.NewUser{ID: id, ScreenName: "Somebody"})
		require.NoError(t, err)
	}
}

func feed(t testing.TB, d *denizen.Directory) (all []denizen.Event) {
	t.Helper()
	for e, err := range d.Events(context.Background(), system, "") {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

// consumer returns the only consumer there is.
func consumer(t testing.TB, d *denizen.Directory) denizen.Consumer {
	t.Helper()
	list, err := d.Consumers(context.Background(), system)
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}
