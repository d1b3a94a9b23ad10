package httpadapter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// rawServer is a handler behind a real server, and Alice, whom it serves.
type rawServer struct {
	*nasty
	address string
	client  *http.Client
	logged  rawLog
}

type rawLog struct {
	sync.Mutex
	bytes.Buffer
}

func (l *rawLog) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(p)
}

// A rawMount is how a service mounts the handler.
type rawMount struct {
	options httpadapter.Options
	around  func(http.Handler) http.Handler
	prefix  string // of the paths that are asked
}

var rawAtRoot = rawMount{httpadapter.Options{Signed: true}, func(h http.Handler) http.Handler { return h }, ""}

// rawServe runs a server for a test, and holds it to have neither panicked nor left a goroutine.
func rawServe(t *testing.T, mount rawMount, tune func(*http.Server), test func(*rawServer)) {
	before := rawGoroutines()
	s := &rawServer{nasty: newNasty(t), client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	server := &http.Server{
		Handler:           recorded(mount.around(httpadapter.New(s.dir, mount.options)), mount.prefix),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(&s.logged, "", 0),
	}
	if tune != nil {
		tune(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		s.client.CloseIdleConnections()
		_ = server.Close()
		require.ErrorIs(t, <-served, http.ErrServerClosed)
		require.NoError(t, s.dir.Close())
		require.Eventually(t, func() bool { return len(rawLeft(before)) == 0 }, time.Minute, 5*time.Millisecond, "goroutines are left")
		s.logged.Lock()
		defer s.logged.Unlock()
		require.NotContains(t, s.logged.String(), "panic")
		require.NotContains(t, s.logged.String(), "superfluous")
	}()
	test(s)
}

// rawGoroutines are the stacks of the goroutines in net/http and in this module, by what tells them apart.
func rawGoroutines() map[string]string {
	buffer := make([]byte, 1<<16)
	for {
		n := runtime.Stack(buffer, true)
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	stacks := make(map[string]string)
	for _, stack := range strings.Split(string(buffer), "\n\n") {
		id, _, _ := strings.Cut(stack, " [")
		if strings.Contains(stack, "net/http.") || strings.Contains(stack, "denizenhq/denizen") {
			stacks[id] = stack
		}
	}
	return stacks
}

// rawLeft are those that were not there before, but for tests.
func rawLeft(before map[string]string) (left []string) {
	for id, stack := range rawGoroutines() {
		if _, there := before[id]; !there && !strings.Contains(stack, "testing.tRunner") && !strings.Contains(stack, "rawLeft") {
			left = append(left, stack)
		}
	}
	return left
}

func TestAGoroutineThatIsLeftIsSeen(t *testing.T) {
	before := rawGoroutines()
	end := make(chan struct{})
	done := make(chan struct{})
	go func() { <-end; close(done) }()
	require.Eventually(t, func() bool { return len(rawLeft(before)) == 1 }, time.Minute, time.Millisecond)
	close(end)
	<-done
	require.Eventually(t, func() bool { return len(rawLeft(before)) == 0 }, time.Minute, time.Millisecond)
}

// fill puts what is there into a text of a request.
func (s *rawServer) fill(raw string) string {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://h/", nil)
	require.NoError(s.t, err)
	r.SetBasicAuth(appKey, appSecret)
	return strings.NewReplacer(
		"{auth}", "Authorization: "+r.Header.Get("Authorization")+"\r\n",
		"{basic}", strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "),
		"{alice}", url.PathEscape(string(s.alice)),
	).Replace(raw)
}

// raw writes bytes to a connection of its own and reads answers until there were as many as asked for.
// An answer of status 0 is the end of the connection.
func (s *rawServer) raw(t *testing.T, raw string, half bool, answers int) (got []*http.Response) {
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	go func() {
		_, _ = io.WriteString(conn, raw)
		if half {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	method, _, _ := strings.Cut(raw, " ")
	reader := bufio.NewReader(conn)
	for len(got) < answers {
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			timeout, is := err.(net.Error)
			require.False(t, is && timeout.Timeout(), "there was no answer to %.200q", raw)
			return append(got, &http.Response{})
		}
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		response.Body = io.NopCloser(bytes.NewReader(body))
		if response.StatusCode >= 200 {
			got = append(got, response)
		}
	}
	return got
}

// alive holds the server to answer a good request on another connection.
func (s *rawServer) alive(t *testing.T, prefix string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+prefix+"/v1/users/me", nil)
	require.NoError(t, err)
	s.user(r)
	response, err := s.client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	var user struct{ UserID denizen.UserID }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&user))
	require.Equal(t, s.alice, user.UserID)
}

// rawHeld holds the answers to be of those statuses, ours in JSON, and none a redirect or a failure.
func rawHeld(t *testing.T, got []*http.Response, want ...int) {
	t.Helper()
	var statuses []int
	for _, response := range got {
		statuses = append(statuses, response.StatusCode)
		if response.StatusCode < 400 || response.Header.Get("X-Request-Id") == "" {
			continue // it is net/http that refuses what is no request
		}
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		if response.ContentLength > 0 && len(body) == 0 {
			continue // to HEAD
		}
		answer{response.StatusCode, response.Header, string(body)}.refused(t, response.StatusCode, rawCode(t, body))
	}
	require.Equal(t, want, statuses)
}

func rawCode(t *testing.T, body []byte) string {
	var p problem
	require.NoError(t, json.Unmarshal(body, &p), string(body))
	return p.ErrorCode
}

const (
	rawGood = " HTTP/1.1\r\nHost: h\r\n{auth}\r\n"
	rawJSON = " HTTP/1.1\r\nHost: h\r\n{auth}Content-Type: application/json\r\n"
	rawName = `{"screenName":"x"}` // 18 bytes
)

// rawProbes are what is written to a connection and what comes of it. Several statuses are of
// several answers; 0 is the end of the connection.
var rawProbes = []struct {
	name, raw string
	want      []int
}{
	{"good", "GET /v1/users/{alice}" + rawGood, []int{200}},
	{"bare LF", "GET /v1/users/{alice} HTTP/1.1\nHost: h\nAuthorization: Basic {basic}\n\n", []int{200}},
	{"empty line first", "\r\nGET /v1/users/{alice}" + rawGood, []int{400}},
	{"obs-fold", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n{auth}\r\n", []int{200}},
	{"obs-fold in the credential", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic\r\n {basic}\r\n\r\n", []int{200}},
	{"obs-fold in a secret", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {basic}\r\n x\r\n\r\n", []int{401}},
	{"obs-fold first", "GET /v1/users/{alice} HTTP/1.1\r\n X: y\r\nHost: h\r\n{auth}\r\n", []int{400}},

	{"a body", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\n\r\n" + rawName, []int{204}},
	{"Content-Length twice, the same", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\nContent-Length: 18\r\n\r\n" + rawName, []int{204}},
	{"Content-Length twice, another", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\nContent-Length: 19\r\n\r\n" + rawName, []int{400}},
	{"Content-Length in a list", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18, 18\r\n\r\n" + rawName, []int{400}},
	{"Content-Length below zero", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: -1\r\n\r\n" + rawName, []int{400}},
	{"Content-Length with a sign", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: +18\r\n\r\n" + rawName, []int{400}},
	{"Content-Length in hex", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 0x12\r\n\r\n" + rawName, []int{400}},
	{"Content-Length out of range", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 99999999999999999999\r\n\r\n" + rawName, []int{400}},
	{"Content-Length of an exabyte", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 1000000000000000000\r\n\r\n" + rawName, []int{413}},
	{"Content-Length empty", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length:\r\n\r\n", []int{400}},
	{"no length", "PUT /v1/users/{alice}/screenname" + rawJSON + "\r\n" + rawName + "\r\n\r\n", []int{400, 400}},
	{"Content-Length too short", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 10\r\n\r\n" + rawName + "\r\n\r\n", []int{400, 400}},

	{"chunked", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n9\r\n" + rawName[:9] + "\r\n9;ext=1\r\n" + rawName[9:] + "\r\n0\r\nX-Trailer: 1\r\n\r\n", []int{204}},
	{"chunked with Content-Length", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n" + rawName + "\r\n0\r\n\r\n", []int{204}},
	{"a chunk without a size", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + rawName + "\r\n0\r\n\r\n", []int{400}},
	{"a chunk below zero", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + rawName + "\r\n0\r\n\r\n", []int{400}},
	{"a chunk out of range", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + rawName, []int{400}},
	{"a chunk longer than it says", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n5\r\n" + rawName + "\r\n0\r\n\r\n", []int{400}},
	{"a chunk with a bare LF", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n12\n" + rawName + "\n0\n\n", []int{400}},
	{"chunked by HTTP/1.0", "PUT /v1/users/{alice}/screenname HTTP/1.0\r\nHost: h\r\n{auth}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n" + rawName + "\r\n0\r\n\r\n", []int{400}},
	{"a body of GET", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}Content-Length: 2\r\n\r\n{}", []int{200}},
	{"a broken body of GET", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n", []int{200}},

	{"absolute form", "GET http://h/v1/users/{alice}" + rawGood, []int{200}},
	{"absolute form of another host", "GET http://elsewhere.example/v1/users/{alice}" + rawGood, []int{200}},
	{"absolute form with a user", "GET http://a:b@h/v1/users/{alice} HTTP/1.1\r\nHost: h\r\n\r\n", []int{401}},
	{"absolute form without a path", "GET http://h" + rawGood, []int{404}},
	{"opaque form", "GET http:v1/users" + rawGood, []int{404}},
	{"another scheme", "GET file:///v1/users/{alice}" + rawGood, []int{200}},
	{"no slash first", "GET v1/users" + rawGood, []int{400}},
	{"star", "GET *" + rawGood, []int{404}},
	{"OPTIONS *", "OPTIONS *" + rawGood, []int{200}},
	{"OPTIONS", "OPTIONS /v1/users" + rawGood, []int{405}},
	{"TRACE", "TRACE /v1/users" + rawGood, []int{405}},
	{"CONNECT", "CONNECT h:80" + rawGood, []int{404}},
	{"CONNECT a path", "CONNECT /v1/users" + rawGood, []int{405}},
	{"lower-case method", "get /v1/users" + rawGood, []int{405}},
	{"unknown method", "BREW /v1/users" + rawGood, []int{405}},
	{"long method", strings.Repeat("X", 10_000) + " /v1/users" + rawGood, []int{405}},
	{"a method that is none", "G@T /v1/users" + rawGood, []int{400}},
	{"no method", " /v1/users" + rawGood, []int{400}},

	{"HTTP/1.0", "GET /v1/users/{alice} HTTP/1.0\r\n{auth}\r\n", []int{200, 0}},
	{"HTTP/1.9", "GET /v1/users/{alice} HTTP/1.9\r\nHost: h\r\n{auth}\r\n", []int{200}},
	{"HTTP/0.9", "GET /v1/users/{alice}\r\n\r\n", []int{400, 0}},
	{"HTTP/1.1 in lower case", "GET /v1/users/{alice} http/1.1\r\nHost: h\r\n{auth}\r\n", []int{400}},
	{"no version", "GET /v1/users/{alice} HTTP/\r\nHost: h\r\n{auth}\r\n", []int{400}},
	{"more after the version", "GET /v1/users/{alice} HTTP/1.1 x\r\nHost: h\r\n{auth}\r\n", []int{400}},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
	{"noise", "\x00\xff\xfe\x80\r\n\r\n", []int{400}},

	{"no Host", "GET /v1/users/{alice} HTTP/1.1\r\n{auth}\r\n", []int{400}},
	{"two Hosts", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nHost: h\r\n{auth}\r\n", []int{400}},
	{"a Host that is none", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h/../x y\r\n{auth}\r\n", []int{400}},
	{"empty Host", "GET /v1/users/{alice} HTTP/1.1\r\nHost:\r\n{auth}\r\n", []int{200}},

	{"NUL in the path", "GET /v1/users/\x00" + rawGood, []int{400}},
	{"NUL in a header", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-A: \x00\r\n{auth}\r\n", []int{400}},
	{"NUL in the credential", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {basic}\x00\r\n\r\n", []int{400}},
	{"space in the path", "GET /v1/users/a b" + rawGood, []int{400}},
	{"tab in the path", "GET /v1/users/a\tb" + rawGood, []int{400}},
	{"CR in the path", "GET /v1/users/a\rb" + rawGood, []int{400}},
	{"space before the colon", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nAuthorization : Basic {basic}\r\n\r\n", []int{400}},
	{"no colon", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-A\r\n{auth}\r\n", []int{400}},
	{"no name", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n: x\r\n{auth}\r\n", []int{400}},
	{"a name that is none", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX\xffA: x\r\n{auth}\r\n", []int{400}},
	{"a name in another case", "GET /v1/users/{alice} HTTP/1.1\r\nhOST: h\r\naUTHORIZATION: bASIC {basic}\r\n\r\n", []int{200}},
	{"Authorization twice", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}{auth}\r\n", []int{400}},
	{"Authorization twice, in two cases", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}authorization: x\r\n\r\n", []int{400}},
	{"20 KiB of a header", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-A: " + strings.Repeat("a", 20<<10) + "\r\n{auth}\r\n", []int{431, 0}},
	{"20 KiB of headers", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X-A: b\r\n", 20<<10/8) + "{auth}\r\n", []int{431, 0}},
	{"20 KiB of an obs-fold", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-A: b\r\n" + strings.Repeat(" c\r\n", 20<<10/4) + "{auth}\r\n", []int{431, 0}},
	{"a million headers", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X-A: b\r\n", 1_000_000), []int{431, 0}},
	{"20 KiB of a path", "GET /v1/users/" + strings.Repeat("a", 20<<10) + rawGood, []int{431, 0}},
	{"8 KiB of a path", "GET /v1/users/" + strings.Repeat("a", 8<<10) + rawGood, []int{400}},
	{"8 KiB of slashes", "GET /v1/users/" + strings.Repeat("/", 8<<10) + rawGood, []int{404}},
	{"8 KiB of a query", "GET /v1/users/{alice}?" + strings.Repeat("a=&", 8<<10/3) + rawGood, []int{200}},

	{"%00", "GET /v1/users/%00" + rawGood, []int{400}},
	{"%2e%2e", "GET /v1/users/%2e%2e/users" + rawGood, []int{400}},
	{"..", "GET /v1/users/../users" + rawGood, []int{400}},
	{"//", "GET //v1/users" + rawGood, []int{404}},
	{"// within", "GET /v1//users" + rawGood, []int{404}},
	{"/./", "GET /v1/./users" + rawGood, []int{404}},
	{"a slash at the end", "GET /v1/users/{alice}/" + rawGood, []int{404}},
	{"%2F", "GET /v1/users/{alice}%2Fprofile" + rawGood, []int{400}},
	{"%2F with a quote", "GET /v1/users/{alice}%2Fprofile/\"" + rawGood, []int{400}},
	{"an encoded segment", "GET /v1/%75sers/{alice}" + rawGood, []int{404}},
	{"a bad encoding", "GET /v1/users/%zz" + rawGood, []int{400}},
	{"not UTF-8", "GET /v1/users/\xff" + rawGood, []int{400}},
	{";", "GET /v1/users/{alice};v=1" + rawGood, []int{400}},
	{"; in the query", "GET /v1/users?limit=1;after=x" + rawGood, []int{400}},
	{"a bad encoding in the query", "GET /v1/users?limit=%zz" + rawGood, []int{400}},
	{"a fragment", "GET /v1/users/{alice}#x" + rawGood, []int{400}},
	{"a backslash", "GET /v1\\users" + rawGood, []int{400}},

	{"pipelined", "GET /v1/users/{alice}" + rawGood + "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\n\r\n" + rawName + "GET /v1/none" + rawGood + "GET /v1/users/{alice}" + rawGood, []int{200, 204, 404, 200}},
	{"pipelined behind what is malformed", "GET /v1/users/{alice}" + rawGood + "nonsense\r\n\r\nGET /v1/users/{alice}" + rawGood, []int{200, 400, 0}},
	{"pipelined behind a body that is too long", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 70000\r\n\r\n" + strings.Repeat(" ", 70_000) + "GET /v1/users/{alice}" + rawGood, []int{413, 200}},
	{"Expect", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\nExpect: 100-continue\r\n\r\n" + rawName, []int{204}},
	{"Expect without a credential", "PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 18\r\nExpect: 100-continue\r\n\r\n", []int{401}},
	{"Expect for a body that is too long", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n", []int{413}},
	{"Expect something else", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\nExpect: a miracle\r\n\r\n" + rawName, []int{417}},
	{"upgrade to WebSocket", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{auth}\r\n", []int{200}},
	{"upgrade to h2c", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n{auth}\r\n", []int{200}},
	{"HTTP/2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{404, 0}},
	{"HEAD", "HEAD /v1/users/{alice}" + rawGood, []int{200}},
	{"HEAD of nothing", "HEAD /v1/none" + rawGood, []int{404}},
	{"If-None-Match", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}If-None-Match: *\r\n\r\n", []int{304}},
	{"Connection names the credential", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nConnection: Authorization, close\r\n{auth}\r\n", []int{200, 0}},
	{"method override", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: DELETE\r\n{auth}\r\n", []int{200}},
	{"path override", "GET /v1/none HTTP/1.1\r\nHost: h\r\nX-Original-URL: /v1/users/{alice}\r\nX-Rewrite-URL: /v1/users/{alice}\r\n{auth}\r\n", []int{404}},
}

func TestARawRequestGetsItsAnswer(t *testing.T) {
	rawServe(t, rawAtRoot, nil, func(s *rawServer) {
		for _, probe := range rawProbes {
			t.Run(probe.name, func(t *testing.T) {
				rawHeld(t, s.raw(t, s.fill(probe.raw), false, len(probe.want)), probe.want...)
				s.alive(t, "")
			})
		}
	})
}

// What net/http itself has no other word for. No handler sees these.
func TestWhatTheServerDoesNotSpeakReachesNoHandler(t *testing.T) {
	rawServe(t, rawAtRoot, nil, func(s *rawServer) {
		for raw, status := range map[string]int{
			"GET /v1/users HTTP/2.0\r\nHost: h\r\n{auth}\r\n":                                                                          505,
			"GET /v1/users HTTP/3.0\r\nHost: h\r\n{auth}\r\n":                                                                          505,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 501,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: gzip\r\n\r\n":                                           501,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: identity\r\n\r\n":                                       501,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: xchunked\r\n\r\n":                                       501,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: \x0bchunked\r\n\r\n":                                    400,
		} {
			got := s.raw(t, s.fill(raw), false, 2)
			require.Empty(t, got[0].Header.Get("X-Request-Id"), raw)
			rawHeld(t, got, status, 0)
			s.alive(t, "")
		}
	})
}

func TestARequestThatBreaksOffIsNoFailure(t *testing.T) {
	rawServe(t, rawAtRoot, nil, func(s *rawServer) {
		for _, whole := range []string{
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\n\r\n" + rawName,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n12\r\n" + rawName + "\r\n0\r\n\r\n",
		} {
			whole = s.fill(whole)
			body := strings.Index(whole, "\r\n\r\n") + 4
			for end := 1; end < len(whole); end++ {
				got := s.raw(t, whole[:end], true, 1)
				switch {
				case end >= body:
					rawHeld(t, got, 400)
				default:
					require.Contains(t, []int{0, 400}, got[0].StatusCode, whole[:end])
				}
			}
		}
		s.alive(t, "")
		alice, err := s.dir.User(t.Context(), denizen.System(), s.alice)
		require.NoError(t, err)
		require.Equal(t, "Alice", alice.ScreenName)
	})
}

// No body here is as long as it says, and no header is ended: the server has to give up waiting.
func TestARequestThatStopsIsGivenUp(t *testing.T) {
	hasty := func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = 500*time.Millisecond, time.Second, 500*time.Millisecond
	}
	probes := []struct {
		name, raw string
		want      []int
	}{
		{"nothing", "", []int{0}},
		{"a method", "GET", []int{400, 0}},
		{"a header", "GET /v1/users HTTP/1.1\r\nHost: h\r\n{auth}", []int{0}},
		{"a body", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 19\r\n\r\n" + rawName, []int{400, 0}},
		{"a body without its first byte", "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 19\r\n\r\n", []int{400, 0}},
		{"chunks", "PUT /v1/users/{alice}/screenname" + rawJSON + "Transfer-Encoding: chunked\r\n\r\n12\r\n" + rawName + "\r\n", []int{400, 0}},
		{"a body of another type", "PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\n{auth}Content-Length: 19\r\n\r\n" + rawName, []int{415, 0}},
		{"a body nobody reads", "GET /v1/users/{alice} HTTP/1.1\r\nHost: h\r\n{auth}Content-Length: 19\r\n\r\n", []int{200, 0}},
		{"a body of nobody", "PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\nContent-Length: 19\r\n\r\n", []int{401, 0}},
		{"after an answer", "GET /v1/users/{alice}" + rawGood, []int{200, 0}},
	}
	rawServe(t, rawAtRoot, hasty, func(s *rawServer) {
		t.Run("probes", func(t *testing.T) { // ends with the last of them
			for _, probe := range probes {
				t.Run(probe.name, func(t *testing.T) {
					t.Parallel()
					rawHeld(t, s.raw(t, s.fill(probe.raw), false, len(probe.want)), probe.want...)
					s.alive(t, "")
				})
			}
		})
		alice, err := s.dir.User(t.Context(), denizen.System(), s.alice)
		require.NoError(t, err)
		require.Equal(t, "Alice", alice.ScreenName)
	})
}

func TestAServerThatClosesLeavesNobodyWaiting(t *testing.T) {
	var hanging []net.Conn
	rawServe(t, rawAtRoot, nil, func(s *rawServer) {
		for _, raw := range []string{"", "GET /v1", "GET /v1/users/{alice}" + rawGood, "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 19\r\n\r\n{"} {
			conn, err := net.Dial("tcp", s.address)
			require.NoError(t, err)
			_, err = io.WriteString(conn, s.fill(raw))
			require.NoError(t, err)
			hanging = append(hanging, conn)
		}
		s.alive(t, "")
	})
	for _, conn := range hanging {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := io.ReadAll(conn)
		timeout, is := err.(net.Error)
		require.False(t, is && timeout.Timeout())
		require.NoError(t, conn.Close())
	}
}

// rawMounts are how the handler may be mounted.
var rawMounts = map[string]rawMount{
	"root":        rawAtRoot,
	"prefix":      {httpadapter.Options{Prefix: "/people"}, func(h http.Handler) http.Handler { return h }, "/people"},
	"StripPrefix": {httpadapter.Options{}, func(h http.Handler) http.Handler { return http.StripPrefix("/people", h) }, "/people"},
	"StripPrefix and prefix": {
		httpadapter.Options{Prefix: "/b"}, func(h http.Handler) http.Handler { return http.StripPrefix("/a", h) }, "/a/b",
	},
}

func TestAPathGetsTheSameAnswerHoweverItIsMounted(t *testing.T) {
	paths := map[string]int{
		"/v1/users/{alice}": 200, "/v1/users/{alice}?": 200, "/v1/users?limit=1": 200, "/v1/openapi.json": 200, "/v1/users/email:alice%40example.org": 200,
		"/v1/users/{alice}/profile/k%65y": 200, "/v1/users/{alice}/profile/a%2Fb": 404, "/v1/users/{alice}/profile/a%2520b": 404,
		"": 404, "/": 404, "/v1": 404, "/v1/": 404, "/v1/users/": 404, "/v1/users/{alice}/": 404, "/v1//users": 404, "//v1/users": 404, "/v1/users//profile": 404,
		"/v1/./users": 404, "/v1/../v1/users": 404, "/v1/users/.": 400, "/v1/users/..": 400, "/v1/users/{alice}/../{alice}": 404, "/v1/users/%2e%2e/users": 400,
		"/v1/users/%2E": 400, "/v1/%75sers": 404, "/%76%31/users": 404, "/v1%2Fusers": 404, "/v1/users%2F{alice}": 404, "/v1/users/{alice}%2Fprofile": 400,
		"/v1/users/{alice}%2Fprofile/\"": 400, "/v1/users/%00": 400, "/v1/users/{alice}%00": 400, "/v1/users/%ff": 400, "/v1/users/%zz": 400,
		"/v1/users/{alice};x": 400, "/v1/users/{alice}#x": 400, "/v1/Users": 404, "/v1/users/{alice}/screenname/": 404, "/v1/users\\": 400, "/v1/users/\xff": 400,
	}
	for name, mount := range rawMounts {
		t.Run(name, func(t *testing.T) {
			rawServe(t, mount, nil, func(s *rawServer) {
				for path, want := range paths {
					if name == "StripPrefix" && path == "" {
						continue // it is not below the prefix to StripPrefix
					}
					if mount.prefix == "" && path == "" {
						continue // it is no request
					}
					got := s.raw(t, s.fill("GET "+mount.prefix+path+rawGood), false, 1)
					require.Equal(t, want, got[0].StatusCode, "%q", path)
					rawHeld(t, got, want)
				}
				s.alive(t, mount.prefix)
			})
		})
	}
}

func TestWhatIsNotBelowThePrefixIsNotFound(t *testing.T) {
	for _, name := range []string{"prefix", "StripPrefix"} {
		t.Run(name, func(t *testing.T) {
			rawServe(t, rawMounts[name], nil, func(s *rawServer) {
				for _, path := range []string{
					"/v1/users", "/", "/people", "/peoplev1/users", "/People/v1/users", "//people/v1/users", "/./people/v1/users", "/x/../people/v1/users",
					"/peopl%65/v1/users", "/people%2Fv1/users", "/people//v1/users", "/people/people/v1/users", "/people/../people/v1/users",
				} {
					got := s.raw(t, s.fill("GET "+path+rawGood), false, 1)
					require.Equal(t, 404, got[0].StatusCode, path)
				}
			})
		})
	}
}

func TestItIsMountedOnAMux(t *testing.T) {
	for name, pattern := range map[string]string{"root": "/v1/", "prefix": "/people/", "StripPrefix": "/people/"} {
		t.Run(name, func(t *testing.T) {
			mount := rawMounts[name]
			inner := mount.around
			mount.around = func(h http.Handler) http.Handler {
				mux := http.NewServeMux()
				mux.Handle(pattern, inner(h))
				return mux
			}
			rawServe(t, mount, nil, func(s *rawServer) {
				s.alive(t, mount.prefix)
				for path, want := range map[string]int{
					"/v1/users/{alice}": 200, "/v1/users/{alice}/profile/key": 200, "/v1/users/{alice}/profile/a%2Fb": 404, "/v1/users/": 404, "/v1/none": 404,
				} {
					rawHeld(t, s.raw(t, s.fill("GET "+mount.prefix+path+rawGood), false, 1), want)
				}
			})
		})
	}
}

// A client that goes away is no failure of the service.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	var statuses []int
	var lock sync.Mutex
	mount := rawAtRoot
	mount.options.Observe = func(_ context.Context, x httpadapter.Exchange) {
		lock.Lock()
		defer lock.Unlock()
		statuses = append(statuses, x.Status)
	}
	rawServe(t, mount, nil, func(s *rawServer) {
		for range 50 {
			conn, err := net.Dial("tcp", s.address)
			require.NoError(t, err)
			_, err = io.WriteString(conn, s.fill("PUT /v1/users/{alice}/screenname"+rawJSON+"Content-Length: 18\r\n\r\n"+rawName[:9]))
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
			require.NoError(t, conn.Close())
		}
		s.alive(t, "")
		s.client.CloseIdleConnections()
		require.Eventually(t, func() bool { // or the directory would be closed under a handler
			for _, stack := range rawGoroutines() {
				if strings.Contains(stack, "net/http.(*conn).serve") {
					return false
				}
			}
			return true
		}, 30*time.Second, time.Millisecond)
	})
	lock.Lock()
	defer lock.Unlock()
	require.False(t, slices.ContainsFunc(statuses, func(status int) bool { return status >= 500 }), "%v", statuses)
}

func TestABodyThatIsRefusedAheadIsNotAskedFor(t *testing.T) {
	rawServe(t, rawAtRoot, nil, func(s *rawServer) {
		for raw, want := range map[string]int{
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 18\r\n":                                     100,
			"PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 1073741824\r\n":                             413,
			"PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n":                            401,
			"PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\n{auth}{auth}Content-Length: 18\r\n":                400,
			"PUT /v1/none" + rawJSON + "Content-Length: 18\r\n":                                                         404,
			"PUT /v1/users" + rawJSON + "Content-Length: 18\r\n":                                                        405,
			"PUT /v1/users/{alice}/screenname HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\nContent-Length: 18\r\n": 401,
		} {
			conn, err := net.Dial("tcp", s.address)
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			_, err = io.WriteString(conn, s.fill(raw+"Expect: 100-continue\r\n\r\n"))
			require.NoError(t, err)
			first, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, want, first.StatusCode, raw)
			require.Equal(t, want != 100, first.Close, raw)
			require.NoError(t, conn.Close())
		}
		s.alive(t, "")
	})
}
