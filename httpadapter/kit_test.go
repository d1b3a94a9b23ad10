package httpadapter_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

// An access key that every api has.
const (
	appKey    = "application-one"
	appSecret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE="
)

// api is a directory behind its handler, called without a network.
type api struct {
	dir     *denizen.Directory
	handler http.Handler
}

// newAPI makes a directory in memory with its handler, both closed by the end of the test.
func newAPI(t testing.TB, o denizen.Options, ho httpadapter.Options) *api {
	dir := denizentest.New(t, o)
	require.NoError(t, dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
	ho.Prove = secProver{}
	return &api{dir, recorded(httpadapter.New(dir, ho), ho.Prefix)}
}

// contractCookie is the cookie of existing clients.
const contractCookie = "x_issued_mitter_user_authorization"

// An edit is something of a request, such as who sends it.
type edit func(*http.Request)

func header(name, value string) edit { return func(r *http.Request) { r.Header.Add(name, value) } }

// app makes the application send the request.
func app(r *http.Request) { r.SetBasicAuth(appKey, appSecret) }

// bearer makes the holder of a token send the request.
func bearer(signed string) edit { return header("Authorization", "Bearer "+signed) }

// actingFor makes the application send the request for a user.
func actingFor(id denizen.UserID) edit {
	return func(r *http.Request) { app(r); r.Header.Set("X-Mitter-Sudo-User-Id", string(id)) }
}

// An answer is a response with its body.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; a body that is not empty is JSON unless an edit says otherwise.
func (a *api) do(method, target, body string, edits ...edit) answer {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(r)
	}
	return a.send(r)
}

func (a *api) send(r *http.Request) answer {
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// problem is the body of a refusal.
type problem struct {
	ErrorCode   string         `json:"errorCode"`
	Message     string         `json:"message"`
	Diagnostics map[string]any `json:"diagnostics"`
	Timestamp   int64          `json:"timestamp"`
	RequestID   string         `json:"requestId"`
}

// refused holds an answer to be a refusal of a status and a code.
func (a answer) refused(t testing.TB, status int, code string) problem {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	var p problem
	require.NoError(t, json.Unmarshal([]byte(a.body), &p), a.body)
	require.Equal(t, code, p.ErrorCode, a.body)
	require.NotEmpty(t, p.Message)
	require.NotNil(t, p.Diagnostics)
	require.NotZero(t, p.Timestamp)
	require.Equal(t, a.header.Get("X-Request-Id"), p.RequestID)
	return p
}

// json holds an answer to have a status and a JSON body.
func (a answer) json(t testing.TB, status int, want string) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.JSONEq(t, want, a.body)
}

// decode reads the body of an answer of a status.
func decode[T any](t testing.TB, a answer, status int) (v T) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	return v
}

// recorded writes each exchange of a handler as a line of JSON to the file that
// DENIZEN_EXCHANGES names, for the test that holds them against the OpenAPI document.
func recorded(h http.Handler, prefix string) http.Handler {
	if os.Getenv("DENIZEN_EXCHANGES") == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		r = r.WithContext(r.Context()) // the server looks at the body of its own
		if r.Body != nil {
			r.Body = readCloser{io.TeeReader(r.Body, &limited{&body, 1 << 20}), r.Body}
		}
		target, asked := strings.TrimPrefix(r.URL.RequestURI(), prefix), r.Header.Clone()
		kept := httptest.NewRecorder()
		h.ServeHTTP(kept, r)
		if strings.HasPrefix(r.URL.EscapedPath(), prefix) && kept.Header().Get("X-Request-Id") != "" { // else it did not get to the adapter
			record(map[string]any{
				"method": r.Method, "target": target, "header": asked, "body": base64.StdEncoding.EncodeToString([]byte(body.String())),
				"status": kept.Code, "responseHeader": kept.Header(), "responseBody": base64.StdEncoding.EncodeToString(kept.Body.Bytes()),
			})
		}
		for name, values := range kept.Header() {
			w.Header()[name] = slices.Clone(values)
		}
		w.WriteHeader(kept.Code)
		_, _ = w.Write(kept.Body.Bytes())
	})
}

type readCloser struct {
	io.Reader
	io.Closer
}

type limited struct {
	*strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) <= l.left {
		l.left -= len(p)
		return l.Builder.Write(p)
	}
	return len(p), nil
}

var recording struct {
	sync.Mutex
	file *os.File
	to   *bufio.Writer
}

func record(exchange any) {
	line, err := json.Marshal(exchange)
	if err != nil {
		panic(err)
	}
	recording.Lock()
	defer recording.Unlock()
	if recording.to == nil {
		recording.file, err = os.OpenFile(os.Getenv("DENIZEN_EXCHANGES"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		recording.to = bufio.NewWriterSize(recording.file, 1<<20)
	}
	_, _ = recording.to.Write(append(line, '\n'))
}

func TestMain(m *testing.M) {
	code := m.Run()
	recording.Lock()
	if recording.to != nil {
		if err := recording.to.Flush(); err != nil {
			panic(err)
		}
		_ = recording.file.Close()
	}
	recording.Unlock()
	os.Exit(code)
}

func basic(key, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(key + ":" + secret))
}
