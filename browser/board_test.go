package browser

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// board is examples/board as a process, behind a line that can be cut.
type board struct {
	t       *testing.T
	program string
	db      string
	flags   []string
	cmd     *exec.Cmd
	line    *line
	url     string
}

func startBoard(t *testing.T, flags ...string) *board {
	t.Helper()
	b := &board{
		t: t, program: filepath.Join(scratch, "board"), db: filepath.Join(t.TempDir(), "board.db"), flags: flags,
	}
	build := exec.Command("go", "build", "-o", b.program, "./examples/board")
	build.Dir = ".."
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	b.line = newLine(t)
	b.url = "http://" + b.line.listener.Addr().String()
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *board) start() {
	b.t.Helper()
	b.cmd = exec.Command(b.program, append([]string{"-addr", "127.0.0.1:0", "-db", b.db}, b.flags...)...)
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	require.NoError(b.t, err)
	require.NoError(b.t, b.cmd.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b.t, err)
	address, ok := strings.CutPrefix(strings.TrimSpace(said), "listening on http://")
	require.True(b.t, ok, said)
	b.line.leadTo(address)
	b.line.set(false, false)
}

// stop ends the program as an operator does.
func (b *board) stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	b.line.set(true, false) // or it waits for connections that a browser opened ahead
	_ = b.cmd.Wait()
	b.cmd = nil
}

// line is a TCP proxy that can be cut, or hold everything back without a word.
type line struct {
	listener net.Listener
	mu       sync.Mutex
	changed  *sync.Cond
	to       string
	cut      bool
	silent   bool
	open     map[net.Conn]bool
}

func newLine(t *testing.T) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &line{listener: listener, open: map[net.Conn]bool{}}
	l.changed = sync.NewCond(&l.mu)
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true, false)
	})
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(from)
		}
	}()
	return l
}

func (l *line) leadTo(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = address
}

// set cuts the line, or lets it be silent, or mends it.
func (l *line) set(cut, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.silent = cut, silent
	if !silent { // what was held back for long is lost with its connection
		for c := range l.open {
			_ = c.Close()
		}
	}
	l.changed.Broadcast()
}

func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.open[c] = true
	return true
}

func (l *line) carry(from net.Conn) {
	defer from.Close()
	l.mu.Lock()
	address := l.to
	l.mu.Unlock()
	if !l.keep(from) {
		return
	}
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	if !l.keep(to) {
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			l.copy(way[1], way[0])
			_, _ = way[0].Close(), way[1].Close()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, from)
	delete(l.open, to)
}

func (l *line) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		l.mu.Lock()
		for l.silent {
			l.changed.Wait()
		}
		l.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// person is somebody at a tab with the board.
type person struct {
	*tab
	name string
}

// joined lets people join, each in a browser of its own, and waits until all see all.
func (b *board) joined(names ...string) (people []person) {
	b.t.Helper()
	for _, name := range names {
		p := person{newTab(b.t), name}
		p.open(b.url)
		p.join(name)
		people = append(people, p)
	}
	for _, p := range people {
		for _, name := range names {
			p.shows(name, "online")
		}
	}
	return people
}

func (p person) join(name string) {
	p.t.Helper()
	p.fill("Your name", name)
	p.click("Join")
	p.shows(name, "online")
}

// becomes waits until an expression is something.
func (b *tab) becomes(expression string, want any) {
	b.t.Helper()
	var is any
	require.Eventually(b.t, func() bool {
		is = eval[any](b, expression)
		return is == want
	}, soon, 20*time.Millisecond, "%s", said(func() string { return fmt.Sprintf("%v is %v and not %v", expression, is, want) }))
}

// card is an expression for the element that shows somebody.
func card(name string) string {
	return js("name => [...document.querySelectorAll('#people li')].find(e => e.querySelector('bdi').textContent === name)", name)
}

// shows waits until somebody is shown in a state, or "" if nobody is.
func (p person) shows(name, state string) {
	p.t.Helper()
	p.becomes(card(name)+"?.className ?? ''", state)
}

// hide lets the page believe that nobody sees it, or that somebody does again.
func (p person) hide(hidden bool) {
	p.t.Helper()
	eval[bool](p.tab, js(`hidden => {
		Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden})
		return document.dispatchEvent(new Event('visibilitychange'))
	}`, hidden))
}

const stale = "document.body.classList.contains('stale')"

func TestBoard_TwoWindowsSeeEachOther(t *testing.T) {
	people := startBoard(t).joined("Alice", "Bob")
	alice, bob := people[0], people[1]

	// A machine that does much else may be late, but not each time.
	best := time.Hour
	for _, hidden := range []bool{true, false, true, false, true, false} {
		began := time.Now()
		bob.hide(hidden)
		alice.shows("Bob", map[bool]string{true: "away", false: "online"}[hidden])
		best = min(best, time.Since(began))
	}
	require.Less(t, best, time.Second)
	bob.shows("Alice", "online")
}

func TestBoard_SomebodyTypesAndShares(t *testing.T) {
	people := startBoard(t).joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	bob.fill("What are you up to?", "<b>tea</b>")
	alice.shows("Bob", "online typing")
	alice.shows("Bob", "online") // by the chain of the device
	bob.press(kb.Enter)
	alice.becomes(card("Bob")+"?.querySelector('.note').textContent", "<b>tea</b>")
	alice.shows("Bob", "online")
}

func TestBoard_WhoClosesTheWindowIsGoneAtOnce(t *testing.T) {
	b := startBoard(t, "-online", "10m")
	people := b.joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	bob.open("about:blank")
	alice.shows("Bob", "gone")
	for range 5 { // each a race of its last words
		bob.open(b.url)
		bob.shows("Alice", "online")
		alice.shows("Bob", "online")
		bob.open("about:blank")
		alice.shows("Bob", "gone")
	}
}

func TestBoard_AHeartbeatSurvivesThatTheBoardIsReadMeanwhile(t *testing.T) {
	people := startBoard(t, "-online", "3s", "-away", "3s").joined("Alice", "Bob")
	require.True(t, eval[bool](people[0].tab, "Promise.all([beat(), load()]).then(() => true)"))
	until := time.Now().Add(5 * time.Second) // longer than the state lasts by itself
	require.Eventually(t, func() bool {
		require.Equal(t, "online", strings.TrimSuffix(eval[string](people[1].tab, card("Alice")+".className"), " typing"))
		return time.Now().After(until)
	}, soon, 100*time.Millisecond)
}

func TestBoard_APageThatIsLoadedAnewStaysOnline(t *testing.T) {
	people := startBoard(t, "-online", "10m").joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	eval[bool](alice.tab, "(window.was = [], new MutationObserver(() => was.push("+card("Bob")+".className)).observe("+
		card("Bob")+", {attributeFilter: ['class']}), true)")
	bob.do(chromedp.Reload())
	bob.shows("Alice", "online")
	bob.hide(true)
	alice.shows("Bob", "away")
	require.NotContains(t, eval[[]string](alice.tab, "was"), "gone")
}

func TestBoard_AnotherWindowOfAPersonKeepsItHere(t *testing.T) {
	b := startBoard(t, "-online", "10m")
	people := b.joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	second := person{bob.beside(), "Bob"}
	second.open(b.url)
	second.shows("Bob", "online")
	second.open("about:blank")
	bob.hide(true)
	alice.shows("Bob", "away") // and not gone
	bob.hide(false)
	alice.shows("Bob", "online")
}

func TestBoard_AStateThatNobodyKeepsUpRunsOut(t *testing.T) {
	people := startBoard(t, "-online", "3s", "-away", "3s").joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	eval[bool](bob.tab, "(send = () => new Promise(() => {}), true)") // nothing is heard of it any more
	alice.shows("Bob", "away")
	alice.becomes("/^gone in [123] s$/.test("+card("Bob")+".querySelector('.left').textContent)", true)
	alice.shows("Bob", "gone")
	alice.shows("Alice", "online")
}

func TestBoard_ACutConnectionIsNotEverybodyGone(t *testing.T) {
	for name, silent := range map[string]bool{"closed": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			b := startBoard(t, "-online", "3s", "-away", "10m")
			people := b.joined("Alice", "Bob")
			alice, bob := people[0], people[1]
			b.line.set(!silent, silent)
			alice.becomes(stale, true)
			alice.sees("Not connected. This is how it was; trying again.")
			alice.shows("Bob", "online")
			b.line.set(false, false)
			alice.becomes(stale, false)
			alice.shows("Bob", "online")
			bob.hide(true)
			alice.shows("Bob", "away")
		})
	}
}

func TestBoard_ARestartOfTheServerChangesNothing(t *testing.T) {
	b := startBoard(t, "-online", "10m")
	people := b.joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	b.stop()
	alice.becomes(stale, true)
	b.start()
	alice.becomes(stale, false)
	alice.shows("Bob", "online")
	bob.hide(true)
	alice.shows("Bob", "away")
}

func TestBoard_ARevokedTokenEndsAllWindows(t *testing.T) {
	b := startBoard(t, "-online", "10m")
	people := b.joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	second := person{bob.beside(), "Bob"}
	second.open(b.url)
	second.shows("Alice", "online")
	require.Equal(t, 204, eval[int](bob.tab, "fetch('/v1/users/me/tokens', {method: 'DELETE'}).then(r => r.status)"))
	for _, window := range []person{bob, second} {
		window.sees("You are signed out")
		window.sees("Your name")
	}
	alice.shows("Bob", "online") // until its chain has run
}

func TestBoard_WhoLeavesIsNotOnTheBoardAnyMore(t *testing.T) {
	people := startBoard(t).joined("Alice", "Bob")
	alice, bob := people[0], people[1]
	bob.click("Leave")
	bob.sees("You left the board.")
	alice.shows("Bob", "")

	bob.join("Carol") // in the same seat
	alice.shows("Carol", "online")
	alice.shows("Bob", "")
}

func TestBoard_ANameIsTextAndNothingElse(t *testing.T) {
	const name = `"><img src=x onerror=alert(1)>`
	alice := startBoard(t).joined("Alice", name)[0]
	require.Zero(t, eval[int](alice.tab, "document.images.length"))
}

func TestBoard_AStateOfAnyNameIsShownAsGone(t *testing.T) {
	people := startBoard(t, "-online", "10m").joined("Alice", "Eve")
	alice, eve := people[0], people[1]
	for _, state := range []string{"constructor", "__proto__", "online typing"} {
		eval[bool](eve.tab, "send('DELETE', '/v1/users/me/presence').then(() => true)")
		require.True(t, eval[bool](eve.tab, js("type => set('', {type}).then(r => r.ok)", state)))
		alice.shows("Eve", "gone")
	}
}

func TestBoard_LooksWellEverywhere(t *testing.T) {
	b := startBoard(t, "-online", "40s", "-away", "3m")
	shown := []struct{ name, state, note string }{
		{"Alice", "online", "writing"},
		{"Bob", "online", "on the train"},
		{"Queen of Hearts", "online typing", ""},
		{"Dinah", "away", "back at two"},
		{"مارك", "online", "قهوة"},
		{"Mock Turtle", "gone", ""},
	}
	var names []string
	for _, s := range shown {
		names = append(names, s.name)
	}
	people := b.joined(names...)
	for i, s := range shown {
		if s.note != "" {
			people[i].fill("What are you up to?", s.note)
			people[i].press(kb.Enter)
			people[0].sees(s.note)
		}
		switch s.state {
		case "away":
			people[i].hide(true)
		case "gone":
			people[i].open("about:blank")
		case "online typing":
			eval[bool](people[i].tab, "(setInterval(() => { typedAt = 0; document.getElementById('note').oninput() }, 1500), true)")
		}
	}
	for _, s := range shown {
		people[0].shows(s.name, s.state)
	}
	people[0].pictures("board")
	if dir := os.Getenv("DENIZEN_PICTURES"); dir != "" {
		people[0].do(chromedp.EmulateViewport(880, 440)) // examples/board/board.png
		picture, err := run(people[0].tab, chromedp.CaptureScreenshot())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "board.png"), picture, 0o600))
	}
	long := person{newTab(t), ""}
	long.open(b.url)
	long.pictures("board-join")
	long.join(strings.Repeat("W", 40))
	long.pictures("board-long")
}
