package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/ops"
)

// soon is more than enough for anything that a test waits for.
const soon = 30 * time.Second

// built answers the program, built once.
var built = sync.OnceValues(func() (string, error) {
	program := filepath.Join(scratch, "server")
	said, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return program, err
})

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "denizen-server-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// A process is the program, running.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	api            string // http://host:port
	key, secret    string // that it showed
	stdout, stderr *said
	ended          chan error
}

// said is what a process wrote so far.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// command is the program on a free port, not yet running, with an environment of its own.
func command(t *testing.T, env []string, flags ...string) *exec.Cmd {
	t.Helper()
	program, err := built()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that no test waits for ever
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Dir = t.TempDir()
	return cmd
}

// start runs the program until it says that it listens.
func start(t *testing.T, env []string, flags ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(t, env, flags...), stdout: new(said), stderr: new(said), ended: make(chan error, 1)}
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())

	listening := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(io.TeeReader(out, p.stdout))
		for lines.Scan() {
			if address, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				listening <- address
			}
		}
		p.ended <- p.cmd.Wait()
	}()
	select {
	case p.api = <-listening:
	case err := <-p.ended:
		t.Fatalf("it ended: %v: %s", err, p.stderr)
	case <-time.After(soon):
		t.Fatalf("it does not listen: %s", p.stderr)
	}
	if shown := shownKey.FindStringSubmatch(p.stdout.String()); shown != nil {
		p.key, p.secret = shown[1], shown[2]
	}
	return p
}

var shownKey = regexp.MustCompile(`(?m)^export DENIZEN_ACCESS_KEY=(\S+)\nexport DENIZEN_ACCESS_SECRET=(\S+)$`)

// end asks the program to end and waits for it.
func (p *process) end() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(p.t, p.wait(), p.stderr)
}

func (p *process) wait() error {
	select {
	case err := <-p.ended:
		return err
	case <-time.After(soon):
		return errors.New("it does not end")
	}
}

// As whom a request comes.
type caller func(*http.Request)

func (p *process) app(r *http.Request) { r.SetBasicAuth(p.key, p.secret) }

func bearer(token string) caller {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func nobody(*http.Request) {}

// do sends a request and answers the status and the body.
func (p *process) do(by caller, method, path, body string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.api+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	by(r)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(p.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	return answer.StatusCode, string(text)
}

// wants sends a request, holds it to a status and answers the body.
func (p *process) wants(status int, by caller, method, path, body string) string {
	p.t.Helper()
	got, text := p.do(by, method, path, body)
	require.Equal(p.t, status, got, text)
	return text
}

// field answers a string member of a JSON object, or of one in it.
func field(t *testing.T, text string, path ...string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	for _, name := range path {
		inner, isObject := v.(map[string]any)
		require.True(t, isObject, text)
		v = inner[name]
	}
	s, isText := v.(string)
	require.True(t, isText, "%v in %s", path, text)
	return s
}

// user makes a user with a token.
func (p *process) user(name string) (id, token, tokenID string) {
	p.t.Helper()
	id = field(p.t, p.wants(201, p.app, "POST", "/v1/users", `{"screenName": {"screenName": "`+name+`"}}`), "identifier")
	issued := p.wants(201, p.app, "POST", "/v1/users/"+id+"/tokens", "")
	return id, field(p.t, issued, "userToken", "signedToken"), field(p.t, issued, "userToken", "tokenId")
}

func TestANewcomerGetsFromNothingToARevokedToken(t *testing.T) {
	p := start(t, nil)
	p.wants(201, p.app, "POST", "/v1/attribute-def/users", `{"key": "mitter.upa.Bio"}`)
	id, token, tokenID := p.user("Alice")

	alice := bearer(token)
	p.wants(204, alice, "POST", "/v1/users/me/presence", `{"type": "mitter.up.Online", "timeToLive": 60}`)
	p.wants(204, alice, "POST", "/v1/users/me/profile", `{"attributes": [{"key": "mitter.upa.Bio", "value": "Down the hole."}]}`)
	require.Equal(t, "Alice", field(t, p.wants(200, alice, "GET", "/v1/users/me", ""), "screenName", "screenName"))
	require.Contains(t, p.wants(200, alice, "GET", "/v1/users/me/profile", ""), "Down the hole.")
	require.Contains(t, p.wants(200, alice, "GET", "/v1/users/me/presence", ""), "mitter.up.Online")

	p.wants(204, p.app, "DELETE", "/v1/users/"+id+"/tokens/"+tokenID, "")
	require.Equal(t, "token_revoked", field(t, p.wants(401, alice, "GET", "/v1/users/me", ""), "errorCode"))
}

func TestASecondStartShowsNoKeyAndFindsWhatTheFirstLeft(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	first := start(t, nil, "-db", db, "-application-id", "wonderland")
	require.NotEmpty(t, first.key)
	id, token, _ := first.user("Alice")
	first.end()

	second := start(t, nil, "-db", db)
	require.NotContains(t, second.stdout.String(), "export")
	require.Empty(t, second.key)
	second.key, second.secret = first.key, first.secret
	require.Equal(t, id, field(t, second.wants(200, bearer(token), "GET", "/v1/users/me", ""), "userId"))
	second.wants(200, second.app, "GET", "/v1/applications/wonderland/accessKeys", "")
	second.end()

	// What it showed may be brought back: it is the same key.
	third := start(t, []string{"DENIZEN_ACCESS_KEY=" + first.key, "DENIZEN_ACCESS_SECRET=" + first.secret}, "-db", db)
	third.key, third.secret = first.key, first.secret
	var keys []any
	require.NoError(t, json.Unmarshal([]byte(third.wants(200, third.app, "GET", "/v1/applications/wonderland/accessKeys", "")), &keys))
	require.Len(t, keys, 1)
}

func TestAnAccessKeyOfTheEnvironmentIsTaken(t *testing.T) {
	const key = "brought-by-the-host"
	secret := base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes, or more"))
	p := start(t, []string{"DENIZEN_ACCESS_KEY=" + key, "DENIZEN_ACCESS_SECRET=" + secret})
	require.NotContains(t, p.stdout.String(), "export")
	p.key, p.secret = key, secret
	p.user("Alice")
}

func TestADirectoryMadeWithARootKeyOpensWithIt(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	env := []string{"DENIZEN_ROOT_KEYS=" + strings.Repeat("0f", 32)}
	first := start(t, env, "-db", db)
	first.user("Alice")
	first.end()
	text, err := os.ReadFile(db)
	require.NoError(t, err)
	raw, err := base64.StdEncoding.DecodeString(first.secret)
	require.NoError(t, err)
	require.NotContains(t, string(text), first.secret)
	require.NotContains(t, string(text), string(raw))
	again := start(t, env, "-db", db)
	again.key, again.secret = first.key, first.secret
	again.user("Bob")
	again.end()
	other := strings.Repeat("1e", 32)
	for _, keys := range []string{other + "," + strings.Repeat("0f", 32), other} {
		again = start(t, []string{"DENIZEN_ROOT_KEYS=" + keys}, "-db", db)
		again.key, again.secret = first.key, first.secret
		again.user("Carol")
		again.end()
	}
}

// What the environment still holds may be what leaked: it was deleted for a reason.
func TestADeletedAccessKeyOfTheEnvironmentStaysDeleted(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	const key = "brought-by-the-host"
	secret := base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes, or more"))
	env := []string{"DENIZEN_ACCESS_KEY=" + key, "DENIZEN_ACCESS_SECRET=" + secret}
	first := start(t, env, "-db", db, "-application-id", "wonderland")
	first.key, first.secret = key, secret
	first.wants(204, first.app, "DELETE", "/v1/applications/wonderland/accessKeys/"+key, "")
	first.end()

	again := start(t, env, "-db", db)
	again.key, again.secret = key, secret
	again.wants(401, again.app, "GET", "/v1/users", "")
	require.Contains(t, again.stderr.String(), "DENIZEN_ACCESS_KEY was deleted")
	require.NotContains(t, again.stderr.String(), secret)
}

func TestAStartThatCannotBeGoodSaysWhy(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	running := start(t, nil, "-db", db)
	made := filepath.Join(t.TempDir(), "made.db")
	start(t, nil, "-db", made, "-application-id", "wonderland").end()
	diary := filepath.Join(t.TempDir(), "diary.db")
	require.NoError(t, os.WriteFile(diary, []byte("somebody's diary"), 0o600))

	for name, c := range map[string]struct {
		env, flags []string
		says       string
	}{
		"another process has the file":    {nil, []string{"-db", db}, "people.db: denizen: Open: path"},
		"the file is something else":      {nil, []string{"-db", diary}, "diary.db: denizen: Open: path"},
		"the port is taken":               {nil, []string{"-addr", strings.TrimPrefix(running.api, "http://")}, "address already in use"},
		"another application":             {nil, []string{"-db", made, "-application-id", "elsewhere"}, "ApplicationID: invalid"},
		"a key without its secret":        {[]string{"DENIZEN_ACCESS_KEY=brought-by-the-host"}, nil, "set both, or neither"},
		"a secret without its key":        {[]string{"DENIZEN_ACCESS_SECRET=c2VjcmV0"}, nil, "set both, or neither"},
		"a secret that is short":          {[]string{"DENIZEN_ACCESS_KEY=brought-by-the-host", "DENIZEN_ACCESS_SECRET=c2VjcmV0"}, nil, "DENIZEN_ACCESS_SECRET: denizen: PutAccessKey"},
		"a root key that is short":        {[]string{"DENIZEN_ROOT_KEYS=c2VjcmV0"}, nil, "DENIZEN_ROOT_KEYS must be 32 bytes"},
		"a file made without a root key":  {[]string{"DENIZEN_ROOT_KEYS=" + strings.Repeat("0f", 32)}, []string{"-db", made}, "RootKeys"},
		"proxies that are none":           {nil, []string{"-proxies", "the proxy"}, "-proxies the proxy: must be"},
		"an origin with a path":           {nil, []string{"-allow-origin", "https://app.example.org/"}, "-allow-origin https://app.example.org/: must be an origin"},
		"an origin that is any":           {nil, []string{"-allow-origin", "*"}, "must be an origin"},
		"an origin that is null":          {nil, []string{"-allow-origin", "null"}, "must be an origin"},
		"an origin as no browser says it": {nil, []string{"-allow-origin", "https://App.example.org"}, "must be an origin"},
		"a URL that is none":              {nil, []string{"-url", "people"}, "-url people: denizen: New: "},
		"a mailbox that cannot be":        {nil, []string{"-mailbox", filepath.Join(made, "box")}, "-mailbox open "},
		"a flag that is none":             {nil, []string{"peers"}, "not a flag: peers"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, c.env, c.flags...)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "%s", out)
			require.Contains(t, string(out), c.says)
			require.NotContains(t, string(out), "listening")
			require.NotContains(t, string(out), "c2VjcmV0", "it shows a secret")
			require.NotContains(t, string(out), "panic")
		})
	}
}

func TestNoAcknowledgedWriteIsLostWhenItIsEnded(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	p := start(t, nil, "-db", db)

	var (
		mu           sync.Mutex
		acknowledged []string
		writers      sync.WaitGroup
	)
	many := make(chan struct{})
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("writer-%d-%06d", w, i)
				r, err := http.NewRequest("POST", p.api+"/v1/users", strings.NewReader(`{"userId": "`+id+`", "screenName": {"screenName": "W"}}`))
				if err != nil {
					panic(err)
				}
				r.Header.Set("Content-Type", "application/json")
				p.app(r)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					return // it listens no longer
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode != http.StatusCreated {
					return
				}
				mu.Lock()
				if acknowledged = append(acknowledged, id); len(acknowledged) == 200 {
					close(many)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-many:
	case <-time.After(soon):
		t.Fatal("too few were acknowledged")
	}
	p.end()
	writers.Wait()

	again := start(t, nil, "-db", db)
	again.key, again.secret = p.key, p.secret
	for _, id := range acknowledged {
		again.wants(200, again.app, "GET", "/v1/users/"+id, "")
	}
}

func TestARequestThatIsUnderWayIsAnsweredBeforeTheEnd(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	p := start(t, nil, "-db", db)
	address := strings.TrimPrefix(p.api, "http://")
	const body = `{"userId": "alice-0001", "screenName": {"screenName": "Alice"}}`

	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	basic := base64.StdEncoding.EncodeToString([]byte(p.key + ":" + p.secret))
	_, err = fmt.Fprintf(conn, "POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", basic, len(body))
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	goOn, err := http.ReadResponse(from, nil) // it reads the body now
	require.NoError(t, err)
	require.Equal(t, http.StatusContinue, goOn.StatusCode)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		more, err := net.Dial("tcp", address)
		if err == nil {
			more.Close()
		}
		return err != nil
	}, soon, time.Millisecond, "it still listens")

	_, err = io.WriteString(conn, body)
	require.NoError(t, err)
	answer, err := http.ReadResponse(from, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, answer.StatusCode)
	require.NoError(t, p.wait(), p.stderr)

	again := start(t, nil, "-db", db)
	again.key, again.secret = p.key, p.secret
	again.wants(200, again.app, "GET", "/v1/users/alice-0001", "")
}

func TestUsersSeeEachOtherOnlyWherePeersSaysSo(t *testing.T) {
	for flags, status := range map[string]int{"-peers=false": 403, "-peers": 200} {
		t.Run(flags, func(t *testing.T) {
			p := start(t, nil, flags)
			alice, _, _ := p.user("Alice")
			_, token, _ := p.user("Bob")
			p.wants(status, bearer(token), "GET", "/v1/users/"+alice, "")
			p.wants(status, bearer(token), "GET", "/v1/users/"+alice+"/presence", "")
		})
	}
}

var codeInLog = regexp.MustCompile(`Sign in with the code \d{8}`)

func TestTheLogHoldsNoSecretButTheCode(t *testing.T) {
	p := start(t, nil)
	_, token, _ := p.user("Alice")
	p.wants(200, bearer(token), "GET", "/v1/users/me", "")
	p.wants(401, bearer(token+"x"), "GET", "/v1/users/me", "")
	p.wants(201, bearer(token), "POST", "/notes", `{"text": "a rabbit with a watch"}`)
	p.wants(401, func(r *http.Request) { r.SetBasicAuth(p.key, "not-the-secret") }, "GET", "/v1/users", "")
	made := p.wants(201, p.app, "POST", "/v1/applications/"+application(t, token)+"/accessKeys", "")

	started := p.wants(202, nobody, "POST", "/sign-in/code", `{"locator": "email:bob@example.org"}`)
	proof := field(t, started, "proof")
	var code string
	require.Eventually(t, func() bool {
		code = codeInLog.FindString(p.stderr.String())
		return code != ""
	}, soon, time.Millisecond)
	code = code[len(code)-8:]
	in := p.wants(200, nobody, "POST", "/sign-in/token", `{"proof": "`+proof+`", "code": "`+code+`"}`)
	signed := field(t, in, "userToken", "signedToken")
	p.wants(204, bearer(signed), "GET", "/v1/users/me/logout", "")
	p.wants(401, bearer(signed), "GET", "/v1/users/me", "")
	p.end()

	log := p.stderr.String()
	require.Contains(t, log, "/v1/users/{userId}")
	require.Equal(t, 1, strings.Count(log, code))
	require.Equal(t, 1, strings.Count(log, "bob@example.org"))
	for what, secret := range map[string]string{
		"the token": token, "the token of the sign-in": signed, "the secret": p.secret, "a note": "rabbit",
		"what was tried": "not-the-secret", "the handle of a proof": proof, "another secret": field(t, made, "accessSecret", "secret"),
		"Basic authorization":     base64.StdEncoding.EncodeToString([]byte(p.key + ":" + p.secret)),
		"the signature":           token[strings.LastIndexByte(token, '.')+1:],
		"the other one's":         signed[strings.LastIndexByte(signed, '.')+1:],
		"a screen name":           "Alice",
		"a stack, or a nil value": "panic",
	} {
		require.NotContains(t, log, secret, what)
	}
	require.NotContains(t, p.stdout.String(), token)
}

// application answers the application id in a token.
func application(t *testing.T, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	require.NoError(t, err)
	return field(t, string(payload), "applicationId")
}

// Whatever the path, the server answers itself and never sends anybody elsewhere.
func TestNoPathIsRedirected(t *testing.T) {
	p := start(t, nil)
	_, token, _ := p.user("Alice")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{
		"//v1/users", "/v1//users", "/v1/users/", "/v1/users//me", "/v1/./users", "/v1/../v1/users", "/v1/%2e%2e/users",
		"/v1/users/..", "/%76%31/users", "/v1", "/v1/", "//", "/.", "/..", "/notes/", "//notes", "/notes/../notes", "/./notes",
		"/sign-in", "/sign-in/", "//sign-in", "/sign-in//code", "/sign-in/./code", "/sign-in/code/", "/index.html", "//example.org/",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			r, err := http.NewRequest(method, p.api, nil)
			require.NoError(t, err)
			r.URL.Opaque = "//" + r.URL.Host + path // as it is, with nothing cleaned
			bearer(token)(r)
			answer, err := client.Do(r)
			require.NoError(t, err)
			answer.Body.Close()
			require.Contains(t, []int{400, 404}, answer.StatusCode, "%s %s", method, path)
			require.Empty(t, answer.Header.Get("Location"), "%s %s", method, path)
		}
	}
}

// commands returns the commands of the README, between their markers.
func commands(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(text), "<!-- curl -->\n```sh\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```\n<!-- /curl -->")
	require.True(t, found)
	return block
}

func TestTheCommandsOfTheReadmeWork(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no " + tool + " here")
		}
	}
	p := start(t, nil)
	block := commands(t)
	require.Equal(t, 1, strings.Count(block, "http://127.0.0.1:8080"))
	sh := exec.Command("sh", "-eu", "-c", strings.Replace(block, "http://127.0.0.1:8080", p.api, 1))
	sh.Env = []string{"PATH=" + os.Getenv("PATH"), "DENIZEN_ACCESS_KEY=" + p.key, "DENIZEN_ACCESS_SECRET=" + p.secret}
	out, err := sh.CombinedOutput()
	require.NoError(t, err, "%s", out)

	rest := string(out)
	for _, part := range []string{
		`{"identifier":"mitter.upa.Bio"}`,
		`"screenName":{"screenName":"Alice"}`, `"locator":"email:alice@example.org"`, `"value":"Down the hole."`,
		`"type":"mitter.up.Online","timeToLive":60,"expiresTo":{"type":"mitter.up.Away"`,
		`"errorCode":"missing_privilege"`,
		`"errorCode":"token_revoked"`,
	} {
		var found bool
		_, rest, found = strings.Cut(rest, part)
		require.True(t, found, "%s, in this order, in:\n%s", part, out)
	}
	require.Equal(t, 2, strings.Count(string(out), "errorCode"), "%s", out)
}

// What the README quotes under "Signing people in" stands in service.go, to the letter.
func TestTheReadmeShowsTheSignIn(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Signing people in\n")
	require.True(t, found)
	_, block, found := strings.Cut(section, "```go\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "```\n")
	source, err := os.ReadFile("service.go")
	require.NoError(t, err)
	require.Contains(t, string(source), block)
	require.Contains(t, block, "signin.New(")
}

func TestWhoIsOnDutyReachesTheServer(t *testing.T) {
	db := filepath.Join(long.Dir(t), "people.db")
	p := start(t, nil, "-db", db)
	require.JSONEq(t, `{"status":"ready"}`, p.wants(200, nobody, "GET", "/readyz", ""))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		_, err := ops.Dial(ctx, db+".sock", os.Getuid())
		if err == nil {
			break
		}
		require.NoError(t, ctx.Err(), err)
	}
	p.end()
	require.NoFileExists(t, db+".sock")
}
