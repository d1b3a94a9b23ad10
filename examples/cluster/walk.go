package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// run starts the servers, which share stderr, and walks through what they have in common.
func run(ctx context.Context, s settings, stdout io.Writer, stderr *os.File) (err error) {
	if s.postgres == "" {
		return errors.New("no database: give -postgres or set DENIZEN_POSTGRES")
	}
	w := walk{ctx: ctx, out: stdout, first: server{name: "first"}, second: server{name: "second"}}
	w.say("Two servers over one schema, with the same access key")
	drop, err := makeSchema(ctx, s, w.say)
	if err != nil {
		return fmt.Errorf("schema %s: %w", s.schema, err)
	}
	defer func() { err = errors.Join(err, drop()) }() // after the servers ended

	key := "cluster-" + rand.Text()
	secret := base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text()))
	w.app = "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"+secret))
	w.ids = []string{"{key}", key}
	env := []string{
		"DENIZEN_POSTGRES=" + s.postgres,
		"DENIZEN_ACCESS_KEY=" + key, "DENIZEN_ACCESS_SECRET=" + secret,
	}
	for _, started := range []*server{&w.first, &w.second} {
		if err := started.start(ctx, s.schema, env, stderr); err != nil {
			return fmt.Errorf("the %s server: %w", started.name, err)
		}
		defer started.kill()
		w.say("  %-6s  listens on %s", started.name, started.url)
	}

	w.people()
	w.revocation()
	w.killing()
	w.ending()
	return w.err
}

// makeSchema makes the schema if there is none, and returns a function that drops what it made.
func makeSchema(
	ctx context.Context, s settings, say func(string, ...any),
) (drop func() error, err error) {
	pool, err := pgxpool.New(ctx, s.postgres)
	if err != nil {
		return nil, err
	}
	exists, name := false, pgx.Identifier{s.schema}.Sanitize()
	const query = `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`
	err = pool.QueryRow(ctx, query, s.schema).Scan(&exists)
	if err == nil && !exists {
		_, err = pool.Exec(ctx, `CREATE SCHEMA `+name) // refused if somebody else made it by now
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	say("  schema  %s is %s", s.schema, map[bool]string{true: "there already", false: "made"}[exists])
	return func() error {
		defer pool.Close()
		if exists || s.keep {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, err := pool.Exec(ctx, `DROP SCHEMA `+name+` CASCADE`); err != nil {
			return fmt.Errorf("schema %s is left: %w", s.schema, err)
		}
		say("  schema  %s is dropped", s.schema)
		return nil
	}, nil
}

// server is this program, started again.
type server struct {
	name, url string
	cmd       *exec.Cmd
}

// start starts it and waits until it listens.
func (s *server) start(ctx context.Context, schema string, env []string, stderr *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, self, "-serve", "127.0.0.1:0", "-schema", schema)
	s.cmd.Env, s.cmd.Stderr = append(os.Environ(), env...), stderr
	_, err = s.cmd.StdinPipe()
	out, err2 := s.cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listening on ")
	if !ok {
		return fmt.Errorf("it ended before it listened: %w", s.cmd.Wait())
	}
	s.url = url
	return nil
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill() // SIGKILL, if it still runs
	_ = s.cmd.Wait()
}

// answer is what the walk needs of a response.
type answer struct {
	status     int
	ErrorCode  string
	Identifier string
	ScreenName struct{ ScreenName string }
	Presence   struct{ Presence struct{ Type string } }
	UserToken  struct{ TokenID, SignedToken string }
}

// ask sends a request with an Authorization.
func (s *server) ask(ctx context.Context, as, method, path, body string) (a answer, err error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	r.Header.Set("Authorization", as)
	r.Header.Set("Content-Type", "application/json")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer got.Body.Close()
	a.status = got.StatusCode
	if a.status == http.StatusNoContent {
		return a, nil
	}
	return a, json.NewDecoder(got.Body).Decode(&a)
}

// walk goes on until the first thing that is not as it should be, which is err.
type walk struct {
	ctx           context.Context
	out           io.Writer
	first, second server
	app, token    string   // as whom requests come
	ids           []string // what stands for what in a path
	err           error
}

func (w *walk) say(format string, args ...any) {
	if w.err == nil {
		fmt.Fprintf(w.out, format+"\n", args...)
	}
}

func (w *walk) path(path string) string { return strings.NewReplacer(w.ids...).Replace(path) }

// step sends a request to one server, prints the response, and checks its status and what it says.
func (w *walk) step(
	s *server, as, method, path, body string, status int, says ...string,
) (a answer) {
	if w.err != nil {
		return a
	}
	if a, w.err = s.ask(w.ctx, as, method, w.path(path), body); w.err != nil {
		return a
	}
	said := cmp.Or(a.ErrorCode, a.ScreenName.ScreenName, a.Presence.Presence.Type)
	answered := strings.TrimSpace(fmt.Sprint(a.status, " ", said))
	w.say("  %-6s  %-6s %-32s %s", s.name, method, path, answered)
	if a.status != status || len(says) > 0 && said != says[0] {
		w.err = fmt.Errorf("the last step should have been answered %d %s",
			status, strings.Join(says, ""))
	}
	return a
}

func (w *walk) people() {
	w.say("\nA user is created on the first, and is there on the second, " +
		"with an address that nobody else gets")
	address := "email:alice." + rand.Text() + "@example.org"
	person := `{"screenName": {"screenName": "Alice"}, "userLocators": ["` + address + `"]}`
	created := w.step(&w.first, w.app, "POST", "/v1/users", person, 201)
	w.ids = append(w.ids, "{alice}", created.Identifier)
	w.step(&w.second, w.app, "GET", "/v1/users/{alice}", "", 200, "Alice")
	w.step(&w.second, w.app, "POST", "/v1/users", person, 409, "duplicate_entity")

	w.say("\nA token is issued by the first and used on the second")
	issued := w.step(&w.first, w.app, "POST", "/v1/users/{alice}/tokens", "", 201).UserToken
	w.token, w.ids = "Bearer "+issued.SignedToken, append(w.ids, "{token}", issued.TokenID)
	w.step(&w.second, w.token, "GET", "/v1/users/me", "", 200, "Alice")

	w.say("\nPresence is set on one and read on the other")
	const presence = "/v1/users/me/presence"
	w.step(&w.first, w.token, "POST", presence, `{"type": "mitter.up.Online", "timeToLive": 60}`, 204)
	w.step(&w.second, w.token, "GET", presence, "", 200, "mitter.up.Online")
	w.step(&w.second, w.token, "POST", presence, `{"type": "mitter.up.Away", "timeToLive": 60}`, 204)
	w.step(&w.first, w.token, "GET", presence, "", 200, "mitter.up.Away")
}

func (w *walk) revocation() {
	w.say("\nThe token is revoked on the first, which refuses it at once, and the second does soon")
	w.step(&w.first, w.app, "DELETE", "/v1/users/{alice}/tokens/{token}", "", 204)
	revoked, took := time.Now(), time.Duration(0)
	for status := 200; w.err == nil && status == 200; time.Sleep(2 * time.Millisecond) {
		if took = time.Since(revoked); took > freshness+50*time.Millisecond {
			w.err = fmt.Errorf("the second server still lets it in after %s", took)
			return
		}
		var a answer
		a, w.err = w.second.ask(w.ctx, w.token, "GET", "/v1/users/me", "")
		status = a.status
	}
	w.step(&w.first, w.token, "GET", "/v1/users/me", "", 401, "token_revoked")
	w.step(&w.second, w.token, "GET", "/v1/users/me", "", 401, "token_revoked")
	w.say("  refused by the second since %s after, where MaxRevocationDelay allows %s",
		took.Round(time.Millisecond), freshness)
}

func (w *walk) killing() {
	w.say("\nThe first is killed while it renames her again and again")
	if w.err != nil {
		return
	}
	acknowledged := make(chan int)
	go func() {
		defer close(acknowledged)
		for n := 1; ; n++ {
			body := fmt.Sprintf(`{"screenName": "Alice %d"}`, n)
			a, err := w.first.ask(w.ctx, w.app, "PUT", w.path("/v1/users/{alice}/screenname"), body)
			if err != nil || a.status != 204 {
				return
			}
			acknowledged <- n
		}
	}()
	last := 0
	for last = range acknowledged {
		if last == 20 {
			w.first.kill() // while the next one is under way
		}
	}
	if last < 20 {
		w.err = cmp.Or(w.ctx.Err(),
			fmt.Errorf("the first server renamed her %d times and then no more", last))
		return
	}
	w.say("  first   %s, after it acknowledged %d names", w.first.cmd.ProcessState, last)

	w.say("\nThe second goes on, with the last of these names or the one that was under way")
	a := w.step(&w.second, w.app, "GET", "/v1/users/{alice}", "", 200)
	name := a.ScreenName.ScreenName
	if w.err == nil && name != fmt.Sprint("Alice ", last) &&
		name != fmt.Sprint("Alice ", last+1) {
		w.err = errors.New("an acknowledged name is lost")
	}
	issued := w.step(&w.second, w.app, "POST", "/v1/users/{alice}/tokens", "", 201).UserToken
	w.step(&w.second, "Bearer "+issued.SignedToken, "GET", "/v1/users/me", "", 200)
}

func (w *walk) ending() {
	w.say("\nThe access key is deleted, and the second is asked to end")
	w.step(&w.second, w.app, "DELETE", "/v1/applications/"+application+"/accessKeys/{key}", "", 204)
	if w.err != nil {
		return
	}
	if w.err = w.second.cmd.Process.Signal(syscall.SIGTERM); w.err == nil {
		w.err = w.second.cmd.Wait()
	}
	w.say("  second  %s", w.second.cmd.ProcessState)
}
