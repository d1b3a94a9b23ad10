package httpadapter_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

// pipes is a listener whose connections are in memory, for virtual time and for many of them.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// live is a directory that is served over connections.
type live struct {
	dir     *denizen.Directory
	server  *http.Server
	client  *http.Client
	closing chan struct{}
}

func newLive(t *testing.T, ho httpadapter.Options) *live {
	t.Helper()
	l := &live{dir: denizentest.New(t, denizen.Options{}), closing: make(chan struct{})}
	require.NoError(t, l.dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
	ho.Closing = l.closing
	p := newPipes()
	l.server = &http.Server{Handler: httpadapter.New(l.dir, ho), ReadTimeout: time.Minute, WriteTimeout: time.Minute}
	transport := &http.Transport{DialContext: p.dial}
	l.client = &http.Client{Transport: transport}
	served := make(chan struct{})
	go func() { _ = l.server.Serve(p); close(served) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = l.server.Close()
		<-served
	})
	return l
}

// told is an event that a client was sent.
type told struct{ id, event, data string }

// reading is a client that reads a stream.
type reading struct {
	response *http.Response
	events   chan told // closed at the end of the stream
	comments chan time.Time
	cancel   context.CancelFunc
}

func (l *live) open(t *testing.T, target string, edits ...edit) *reading {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://denizen.test"+target, nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	for _, e := range edits {
		e(r)
	}
	w, err := l.client.Do(r)
	require.NoError(t, err)
	s := &reading{response: w, events: make(chan told, 10_000), comments: make(chan time.Time, 10_000), cancel: cancel}
	if w.StatusCode != http.StatusOK {
		t.Cleanup(func() { _ = w.Body.Close(); cancel() })
		return s
	}
	go s.read()
	t.Cleanup(func() {
		cancel()
		for range s.events {
		}
	})
	return s
}

func (s *reading) read() {
	defer close(s.events)
	defer s.response.Body.Close()
	var e told
	for lines := bufio.NewScanner(s.response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.event = value
		case "data":
			e.data = value
		case ":":
			s.comments <- time.Now()
		case "":
			if e != (told{}) {
				s.events <- e
			}
			e = told{}
		}
	}
}

// kinds returns the kinds of the next n events, of which one that was missed has its own.
func (s *reading) kinds(t *testing.T, n int) (kinds []string, last told) {
	t.Helper()
	for range n {
		e, ok := <-s.events
		require.True(t, ok, "the stream ended")
		last = e
		if e.event == "missed" {
			kinds = append(kinds, "missed")
			continue
		}
		require.Equal(t, "change", e.event)
		var shape struct{ Kind string }
		require.NoError(t, json.Unmarshal([]byte(e.data), &shape))
		kinds = append(kinds, shape.Kind)
	}
	return kinds, last
}

func (l *live) user(t *testing.T, id denizen.UserID) {
	t.Helper()
	_, err := l.dir.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: id, ScreenName: "Somebody"})
	require.NoError(t, err)
}

func TestTheFeedIsStreamedAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		s := l.open(t, "/v1/events?after=0", app)
		require.Equal(t, "text/event-stream", s.response.Header.Get("Content-Type"))
		require.Equal(t, "no-store", s.response.Header.Get("Cache-Control"))
		require.Equal(t, "no", s.response.Header.Get("X-Accel-Buffering"))
		kinds, last := s.kinds(t, 2)
		require.Equal(t, []string{"directory.founded", "accesskey.created"}, kinds)
		l.user(t, "alice-0001")
		kinds, created := s.kinds(t, 1)
		require.Equal(t, []string{"user.created"}, kinds)
		require.JSONEq(t, fmt.Sprintf(`{"sequence":3,"at":%d,"kind":"user.created","actor":".system","userId":{"identifier":"alice-0001"},"internalId":%q}`,
			time.Now().UnixMilli(), internalID(t, l.dir, "alice-0001")), created.data)
		require.NoError(t, l.dir.RevokeAllTokens(t.Context(), denizen.System().Named("ada"), "alice-0001"))
		_, err := l.dir.BlockUser(t.Context(), denizen.System().Named("ada"), "alice-0001", denizen.Block{})
		require.NoError(t, err)
		kinds, blocked := s.kinds(t, 1)
		require.Equal(t, []string{"user.blocked"}, kinds)
		require.Contains(t, blocked.data, `"actor":".system","operator":"ada","userId":`)
		_, err = l.dir.UnblockUser(t.Context(), denizen.System(), "alice-0001")
		require.NoError(t, err)
		s.cancel()

		for _, resumed := range []*reading{
			l.open(t, "/v1/events?after="+last.id, app),
			l.open(t, "/v1/events", app, header("Last-Event-ID", last.id)),
			l.open(t, "/v1/events?after=0", app, header("Last-Event-ID", last.id)),
		} {
			_, e := resumed.kinds(t, 1)
			require.Equal(t, created, e)
			resumed.cancel()
		}
		_, e := l.open(t, "/v1/events", app).kinds(t, 3)
		require.Equal(t, created, e)
	})
}

func internalID(t *testing.T, dir *denizen.Directory, id denizen.UserID) string {
	t.Helper()
	u, err := dir.User(t.Context(), denizen.System(), id)
	require.NoError(t, err)
	return u.InternalID
}

func TestAStreamFromWhatIsForgottenOpensWithMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		_, first := l.open(t, "/v1/events", app).kinds(t, 1)
		l.user(t, "alice-0001")
		require.NoError(t, l.dir.TrimFeed(t.Context(), denizen.System(), 2))
		other := denizentest.New(t, denizen.Options{})
		foreign, err := other.Head(t.Context(), denizen.System())
		require.NoError(t, err)
		for _, after := range []string{first.id, string(foreign)} {
			s := l.open(t, "/v1/events?after="+after, app)
			kinds, missed := s.kinds(t, 1)
			require.Equal(t, []string{"missed"}, kinds)
			head, err := l.dir.Head(t.Context(), denizen.System())
			require.NoError(t, err)
			require.Equal(t, string(head), missed.id)
			l.user(t, denizen.UserID("user-after-"+after[:8]+"x"))
			kinds, _ = s.kinds(t, 1)
			require.Equal(t, []string{"user.created"}, kinds)
			s.cancel()
		}
	})
}

func TestAStreamIsRefusedInTheOrderOfTheContract(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001"))
	events := header("Accept", "text/event-stream")
	a.do("GET", "/v1/events", "", events).refused(t, 401, "authorization_error")
	a.do("GET", "/v1/events", "", bearer(signed), events).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/events", "", bearer(signed)).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/events", "", app).refused(t, 406, "not_acceptable")
	a.do("GET", "/v1/events", "", app, header("Accept", "application/json")).refused(t, 406, "not_acceptable")
	a.do("GET", "/v1/events?after=17", "", app, events).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/events?after=0&after=0", "", app, events).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/events", "", app, events, header("Last-Event-ID", "x")).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/events", "", app, events, header("Last-Event-ID", ""), header("Last-Event-ID", "")).refused(t, 400, "invalid_parameter_set")
	require.Equal(t, 200, a.do("HEAD", "/v1/events", "", app, events).status)
}

func TestAStreamEndsWhenTheHostCloses(t *testing.T) {
	closing := make(chan struct{})
	close(closing)
	a := newAPI(t, denizen.Options{}, httpadapter.Options{Closing: closing})
	got := a.do("GET", "/v1/events", "", app, header("Accept", "text/event-stream"))
	require.Equal(t, 200, got.status)
	require.True(t, strings.HasPrefix(got.body, ":\n\n"))

	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		s := l.open(t, "/v1/events", app)
		s.kinds(t, 2)
		close(l.closing)
		_, open := <-s.events
		require.False(t, open)
		require.NoError(t, l.server.Shutdown(t.Context()), "which waits for streams")
	})
}

func TestAStreamHasACommentEveryFifteenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		s := l.open(t, "/v1/events", app)
		synctest.Wait()
		began := <-s.comments
		time.Sleep(time.Hour) // longer than any timeout of the server
		synctest.Wait()
		require.Len(t, s.comments, 240)
		for i := range 240 {
			require.Equal(t, time.Duration(i+1)*15*time.Second, (<-s.comments).Sub(began))
		}
		l.user(t, "alice-0001")
		kinds, _ := s.kinds(t, 3)
		require.Equal(t, "user.created", kinds[2])
	})
}

func TestAStreamEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		require.NoError(t, l.dir.PutAccessKey(t.Context(), denizen.System(), "another-key", appSecret))
		s := l.open(t, "/v1/events", func(r *http.Request) { r.SetBasicAuth("another-key", appSecret) })
		s.kinds(t, 3)
		require.NoError(t, l.dir.DeleteAccessKey(t.Context(), denizen.System(), "another-key"))
		synctest.Wait()
		for range s.events {
		}
		require.NoError(t, l.dir.Close())
	})
}

func TestStreamsEndWithTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		s := l.open(t, "/v1/events", app)
		s.kinds(t, 2)
		require.NoError(t, l.dir.Close())
		_, open := <-s.events
		require.False(t, open)
	})
}

func TestACallerHasSixteenStreamsAndAllTogetherABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{MaxStreams: 20})
		require.NoError(t, l.dir.PutAccessKey(t.Context(), denizen.System(), "another-key", appSecret))
		another := func(r *http.Request) { r.SetBasicAuth("another-key", appSecret) }
		var open []*reading
		count := func(by edit) (n int) {
			for ; ; n++ {
				s := l.open(t, "/v1/events", by)
				if s.response.StatusCode != http.StatusOK {
					require.Equal(t, http.StatusTooManyRequests, s.response.StatusCode)
					require.Equal(t, "10", s.response.Header.Get("Retry-After"))
					return n
				}
				open = append(open, s)
			}
		}
		require.Equal(t, 16, count(app))
		require.Equal(t, 4, count(another))
		for _, s := range open[:3] {
			s.cancel()
			for range s.events {
			}
		}
		synctest.Wait()
		require.Equal(t, 3, count(app), "who leaves makes room")
		for _, s := range open {
			s.cancel()
		}
	})
}

// A client that does not read loses its own stream, and holds up nobody else.
func TestAClientThatDoesNotReadLosesItsStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{}, 1)
		l := newLive(t, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) {
			if x.Duration > time.Second {
				ended <- struct{}{}
			}
		}})
		conn, err := l.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Basic %s\r\n\r\n", basic(appKey, appSecret))
		require.NoError(t, err)
		reads := l.open(t, "/v1/events", app)
		began := time.Now()
		l.user(t, "alice-0001")
		reads.kinds(t, 3)
		require.Zero(t, time.Since(began))
		<-ended
		require.LessOrEqual(t, time.Since(began), 16*time.Second)
	})
}

func TestAStreamLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		before := 0
		for round := range 5 {
			for range 10 {
				s := l.open(t, "/v1/events", app)
				s.kinds(t, 2)
				s.cancel()
				for range s.events {
				}
			}
			synctest.Wait()
			if round == 0 {
				before = ourGoroutines()
			}
			require.LessOrEqual(t, ourGoroutines(), before)
		}
	})
}

// ourGoroutines returns how many goroutines are in code of this module. The runtime starts others
// when it likes.
func ourGoroutines() (n int) {
	buf := make([]byte, 1<<22)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "github.com/denizenhq/denizen") {
			n++
		}
	}
	return n
}

func TestAStreamWorksOverHTTP2(t *testing.T) {
	dir := denizentest.New(t, denizen.Options{})
	require.NoError(t, dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
	server := httptest.NewUnstartedServer(httpadapter.New(dir, httpadapter.Options{}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/events", nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	app(r)
	w, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, 2, w.ProtoMajor)
	s := &reading{response: w, events: make(chan told, 100), comments: make(chan time.Time, 100), cancel: cancel}
	go s.read()
	kinds, _ := s.kinds(t, 2)
	require.Equal(t, []string{"directory.founded", "accesskey.created"}, kinds)
	_, err = dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Somebody"})
	require.NoError(t, err)
	kinds, _ = s.kinds(t, 1)
	require.Equal(t, []string{"user.created"}, kinds)
	cancel()
	for range s.events {
	}
}

// A wrapper that hides Flush would let nothing through.
func TestAStreamBehindAWriterThatCannotFlushIsRefused(t *testing.T) {
	dir := denizentest.New(t, denizen.Options{})
	require.NoError(t, dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
	var cause error
	h := httpadapter.New(dir, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) { cause = x.Cause }})
	r := httptest.NewRequest("GET", "/v1/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	app(r)
	w := httptest.NewRecorder()
	h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	require.Equal(t, 500, w.Code)
	require.ErrorContains(t, cause, "Flush")
}

// seen reads the next presence of a stream: the user and the state.
func (s *reading) seen(t *testing.T) (user, state string, e told) {
	t.Helper()
	e, ok := <-s.events
	require.True(t, ok, "the stream ended")
	if e.event == "missed" {
		return "", "missed", e
	}
	require.Equal(t, "presence", e.event)
	require.Empty(t, e.id)
	var shape struct {
		UserID   struct{ Identifier string }
		Presence struct{ Presence struct{ Type string } }
	}
	require.NoError(t, json.Unmarshal([]byte(e.data), &shape))
	return shape.UserID.Identifier, shape.Presence.Presence.Type, e
}

func (l *live) token(t *testing.T, id denizen.UserID) edit {
	t.Helper()
	issued, err := l.dir.IssueToken(context.Background(), denizen.System(), id, denizen.TokenOptions{})
	require.NoError(t, err)
	return bearer(issued.Signed)
}

func TestAPresenceIsStreamedAsItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(t, httpadapter.Options{})
		l.user(t, "alice-0001")
		l.user(t, "bob-00001")
		s := l.open(t, "/v1/users/alice-0001,bob-00001,nobody-0001/presence", app)
		require.Equal(t, "text/event-stream", s.response.Header.Get("Content-Type"))
		for _, id := range []string{"alice-0001", "bob-00001", "nobody-0001"} {
			user, state, _ := s.seen(t)
			require.Equal(t, []string{id, ""}, []string{user, state})
		}
		chain := denizen.Online(10 * time.Second).Then(denizen.Away())
		require.NoError(t, l.dir.SetPresence(t.Context(), denizen.System(), "bob-00001", chain))
		began := time.Now()
		_, state, e := s.seen(t)
		require.Equal(t, "mitter.up.Online", state)
		require.JSONEq(t, l.wired(t, "bob-00001"), e.data, "it is what reading says")
		_, state, _ = s.seen(t)
		require.Equal(t, "mitter.up.Away", state)
		require.InDelta(t, 10, time.Since(began).Seconds(), 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, s.events)
		require.NotEmpty(t, s.comments)
	})
}

// wired is what the directory says over HTTP of a presence.
func (l *live) wired(t *testing.T, id string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/v1/users/"+id+"/presence", nil)
	app(r)
	l.server.Handler.ServeHTTP(w, r)
	return w.Body.String()
}

func TestAPresenceStreamIsRefusedAsReadingIs(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001"))
	a.create(t, "bob-00001")
	events := header("Accept", "text/event-stream")
	a.do("GET", "/v1/users/bob-00001/presence", "", events).refused(t, 401, "authorization_error")
	a.do("GET", "/v1/users/bob-00001/presence", "", bearer(signed), events).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/users/alice-0001,bob-00001/presence", "", bearer(signed), events).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/users/short/presence", "", app, events).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/users/"+strings.Repeat("alice-0001,", 100)+"bob-00001/presence", "", app, events).refused(t, 400, "invalid_parameter_set")
	require.Equal(t, 200, a.do("HEAD", "/v1/users/bob-00001/presence", "", app, events).status)
}

func TestAPresenceStreamEndsWithItsToken(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, l *live){
		"revoked": func(t *testing.T, l *live) {
			require.NoError(t, l.dir.RevokeAllTokens(t.Context(), denizen.System(), "alice-0001"))
		},
		"blocked": func(t *testing.T, l *live) {
			_, err := l.dir.BlockUser(t.Context(), denizen.System(), "alice-0001", denizen.Block{})
			require.NoError(t, err)
		},
		"at its end": func(*testing.T, *live) { time.Sleep(24*time.Hour + 16*time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLive(t, httpadapter.Options{})
				l.user(t, "alice-0001")
				s := l.open(t, "/v1/users/me/presence", l.token(t, "alice-0001"))
				s.seen(t)
				time.Sleep(time.Hour)
				end(t, l)
				began := time.Now()
				for range s.events {
				}
				require.LessOrEqual(t, time.Since(began), 16*time.Second)
			})
		})
	}
}

// 10,000 streams are to take less than 400 MB, with the garbage in between. 5 KB are of the clients in
// this test. A stack of 16 KB in place of 8 would be too much: see handler.answer and watcher.run.
func TestAStreamIsSmall(t *testing.T) {
	l := newLive(t, httpadapter.Options{Authenticate: func(r *http.Request) (denizen.Principal, error) {
		return r.Context().Value(http.ServerContextKey).(*http.Server).Handler.(*as).by(r)
	}})
	l.server.Handler = &as{l.server.Handler, l.dir}
	const n = 400
	for i := range n {
		l.user(t, denizen.UserID(fmt.Sprintf("user-%05d", i)))
	}
	var before, after runtime.MemStats
	settle()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := l.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "GET /v1/users/me/presence HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Who: user-%05d\r\n\r\n", i)
		require.NoError(t, err)
		var got []byte
		for b := make([]byte, 4096); !strings.Contains(string(got), "event: presence"); {
			k, err := conn.Read(b)
			require.NoError(t, err)
			got = append(got, b[:k]...)
		}
		conns[i] = conn
	}
	settle()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / n
	t.Logf("%d bytes a stream", each)
	most := int64(36_000)
	if raceDetector {
		most = 45_000
	}
	require.Less(t, each, most)
	for _, c := range conns {
		_ = c.Close()
	}
}

// settle lets stacks shrink and pools be emptied.
func settle() {
	for range 4 {
		runtime.GC()
	}
}

// as lets a request say by whom it is.
type as struct {
	http.Handler
	dir *denizen.Directory
}

func (a *as) by(r *http.Request) (denizen.Principal, error) {
	return a.dir.ActAs(r.Context(), denizen.System(), denizen.UserID(r.Header.Get("X-Who")))
}
