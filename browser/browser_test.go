package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// soon is more than enough for anything that a test waits for.
const soon = 30 * time.Second

var (
	scratch string
	stop    = func() {}
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "denizen-browser-"); err != nil {
		panic(err)
	}
	code := m.Run()
	stop()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// chromium is the one browser of all tests, started once.
var chromium = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(scratch, "profile")),
		chromedp.WSURLReadTimeout(soon),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop = func() { cancel(); end() }
	return ctx, chromedp.Do(ctx)
})

// tab is a tab of a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// needChromium returns the browser, or skips the test where there is none.
func needChromium(t *testing.T) context.Context {
	t.Helper()
	ctx, err := chromium()
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("no Chromium here: ", err)
	}
	if err != nil {
		t.Fatal("no Chromium here: ", err)
	}
	return ctx
}

// newTab opens a tab of a browser that shares nothing with any other.
func newTab(t *testing.T) *tab {
	t.Helper()
	return opened(t, needChromium(t), chromedp.WithNewBrowserContext())
}

// beside opens another tab of the same browser, with the same cookies.
func (b *tab) beside() *tab {
	b.t.Helper()
	return opened(b.t, b.ctx)
}

func opened(t *testing.T, in context.Context, o ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(in, o...)
	t.Cleanup(closeTab)
	require.NoError(t, chromedp.Do(ctx))
	return &tab{t, ctx}
}

// run runs an action, for as long as a test waits.
func run[T any](b *tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// do runs actions one after another.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	_, err := run(b, chromedp.Steps(actions...))
	require.NoError(b.t, err)
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// js returns a call of a function in JavaScript.
func js(function string, args ...any) string {
	texts := make([]string, len(args))
	for i, a := range args {
		text, _ := json.Marshal(a)
		texts[i] = string(text)
	}
	return "(" + function + ")(" + strings.Join(texts, ",") + ")"
}

// eval returns what an expression is on the page, once a promise of it is kept. A policy of the
// page does not bind it.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err)
	return value
}

// text returns what the page shows.
func (b *tab) text() string {
	text, _ := run(b, chromedp.Evaluate[string]("document.body?.innerText ?? ''")) // "" while it changes
	return text
}

// sees waits until the page shows a text.
func (b *tab) sees(text string) {
	b.t.Helper()
	last := ""
	require.Eventually(b.t, func() bool {
		last = b.text()
		return strings.Contains(last, text)
	}, soon, 20*time.Millisecond, "%s", said(func() string { return fmt.Sprintf("no %q in:\n%s", text, last) }))
}

// misses waits until the page does not show a text any more.
func (b *tab) misses(text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return !strings.Contains(b.text(), text) }, soon, 20*time.Millisecond, text)
}

// said is a text that is made when it is needed.
type said func() string

func (s said) String() string { return s() }

// click clicks a button or a link by its name, as a person does: it has to be seen, to be enabled
// and to be covered by nothing.
func (b *tab) click(name string) {
	b.t.Helper()
	b.clickOn("no button or link "+name, js(`name => [...document.querySelectorAll('button, a, summary')].find(e =>
		e.checkVisibility() && !e.disabled && (e.ariaLabel ?? e.innerText).trim() === name)`, name))
}

// fill types a text into the field of a label, in place of what is there.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	b.clickOn("no field "+label, js(`label => [...document.querySelectorAll('label')].find(e =>
		e.checkVisibility() && e.innerText.trim() === label)?.control`, label))
	b.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.select()"), chromedp.KeyEvent(text))
}

// clickOn clicks the middle of the element that an expression returns, once there is one.
func (b *tab) clickOn(missing, element string) {
	b.t.Helper()
	var at []float64
	require.Eventually(b.t, func() bool {
		var err error
		at, err = run(b, chromedp.Evaluate[[]float64](`(() => {
			const e = `+element+`
			e?.scrollIntoView({block: 'center', behavior: 'instant'})
			const r = e?.getBoundingClientRect(), x = r?.x + r?.width / 2, y = r?.y + r?.height / 2
			return e && e.contains(document.elementFromPoint(x, y)) ? [x, y] : []
		})()`))
		return err == nil && len(at) == 2
	}, soon, 20*time.Millisecond, "%s on:\n%s", missing, said(b.text))
	b.do(chromedp.MouseClickXY(at[0], at[1]))
}

// press presses keys, such as kb.Enter.
func (b *tab) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// looks are how wide a window is, and which colours a person prefers.
var looks = map[string]struct {
	width, height int64
	scheme        string
}{
	"light":       {1000, 800, "light"},
	"dark":        {1000, 800, "dark"},
	"phone-light": {360, 740, "light"},
	"phone-dark":  {360, 740, "dark"},
}

// pictures takes pictures of the page as it looks here and there, if DENIZEN_PICTURES says where to
// write them, and requires that nobody has to scroll sideways.
func (b *tab) pictures(name string) {
	b.t.Helper()
	for look, l := range looks {
		b.do(chromedp.EmulateViewport(l.width, l.height))
		b.prefer(&emulation.MediaFeature{Name: "prefers-color-scheme", Value: l.scheme})
		require.True(b.t, eval[bool](b, "document.documentElement.scrollWidth <= innerWidth"),
			"%s is wider than its window: %s", name, look)
		if dir := os.Getenv("DENIZEN_PICTURES"); dir != "" {
			picture, err := run(b, chromedp.FullScreenshot(100))
			require.NoError(b.t, err)
			require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+"-"+look+".png"), picture, 0o600))
		}
	}
	b.do(chromedp.EmulateReset())
	b.prefer()
}

func (b *tab) prefer(features ...*emulation.MediaFeature) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	require.NoError(b.t, err)
}

// program is an example that runs.
type program struct {
	url    string // http://host:port
	stderr *output
}

// output is what a program wrote so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start builds an example, such as "server", and runs it in an empty directory until the test ends.
// It must write "listening on " and its URL.
func start(t *testing.T, example string, flags ...string) *program {
	t.Helper()
	needChromium(t)
	path := filepath.Join(scratch, example)
	if _, err := os.Stat(path); err != nil { // tests run one after another
		build := exec.Command("go", "build", "-o", path, "./examples/"+example)
		build.Dir = ".."
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	cmd := exec.Command(path, flags...)
	cmd.Dir = t.TempDir()
	p := &program{stderr: new(output)}
	cmd.Stderr = p.stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	listening, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				listening <- url
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			require.NoError(t, err, p.stderr)
		case <-time.After(soon):
			_ = cmd.Process.Kill()
			require.Fail(t, "it does not end", p.stderr)
		}
	})
	select {
	case p.url = <-listening:
	case <-time.After(soon):
		require.Fail(t, "it does not listen", p.stderr)
	}
	return p
}
