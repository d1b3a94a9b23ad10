package browser

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// service is examples/server with the messages that it sends.
type service struct {
	*program
	t       *testing.T
	mailbox string
}

func newService(t *testing.T) *service {
	t.Helper()
	box := filepath.Join(t.TempDir(), "messages")
	return &service{start(t, "server", "-addr", "127.0.0.1:0", "-mailbox", box), t, box}
}

// messages returns what was sent to an address so far.
func (s *service) messages(address string) (texts []string) {
	s.t.Helper()
	all, err := os.ReadFile(s.mailbox)
	require.NoError(s.t, err)
	for line := range strings.Lines(string(all)) {
		var m struct{ To, Text string }
		if json.Unmarshal([]byte(line), &m) == nil && m.To == "email:"+address {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// sent returns the nth message to an address.
func (s *service) sent(address string, n int) string {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.messages(address)) >= n }, soon, 20*time.Millisecond, "nothing was sent to %s", address)
	return s.messages(address)[n-1]
}

func codeIn(text string) string { return regexp.MustCompile(`\d{8}`).FindString(text) }

func linkIn(text string) string { return regexp.MustCompile(`http://\S+#[\w-]+`).FindString(text) }

// signIn signs a person in by a code, with the keyboard alone.
func (s *service) signIn(b *tab, address string) {
	b.t.Helper()
	n := len(s.messages(address))
	b.open(s.url)
	b.fill("E-mail address", address)
	b.press(kb.Enter)
	b.sees("Enter your code")
	b.press(codeIn(s.sent(address, n+1)) + kb.Enter)
	b.sees("Where you are signed in")
}

func TestServer_APersonSignsInByACode(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	b.open(s.url)
	b.sees("E-mail address")
	b.pictures("server-ask")

	b.fill("E-mail address", "alice@example.org")
	b.press(kb.Enter)
	b.sees("Enter your code")
	b.press("00000000" + kb.Enter)
	b.sees("The code is wrong")
	b.pictures("server-enter")
	b.press(codeIn(s.sent("alice@example.org", 1)) + kb.Enter) // what was wrong is selected
	b.sees("Where you are signed in")
	b.sees("Chrome on Linux")
	b.sees("alice@example.org")
	b.pictures("server-in")

	b.click("Sign out")
	b.sees("You are signed out.")
	b.open(s.url)
	b.sees("E-mail address")
}

// askForLink asks for a link and returns it.
func (s *service) askForLink(b *tab, address string) string {
	b.t.Helper()
	b.open(s.url)
	b.fill("E-mail address", address)
	b.click("Send me a link")
	b.sees("Follow the link")
	return linkIn(s.sent(address, 1))
}

func TestServer_APersonSignsInByALinkInTheBrowserThatAsked(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	link := s.askForLink(b, "alice@example.org")
	b.pictures("server-wait")

	followed := b.beside()
	followed.open(link)
	followed.sees("Sign in here?")
	followed.pictures("server-link")
	require.NotContains(t, eval[string](followed, "location.href"), "#", "the secret is still there to be copied")
	followed.click("Sign in")
	followed.sees("Where you are signed in")
	followed.sees("alice@example.org")

	again := b.beside()
	again.open(link)
	again.sees("in the browser in which you asked") // the proof was used up, and its cookie with it
}

// So do scanners of mail, whoever looks over a shoulder, and a browser that loads ahead.
func TestServer_WhoOpensALinkElsewhereIsSentBackAndChangesNothing(t *testing.T) {
	s := newService(t)
	asked := newTab(t)
	link := s.askForLink(asked, "alice@example.org")
	for range 3 {
		other := newTab(t)
		other.open(link)
		other.sees("Open this link in the browser in which you asked")
		require.False(t, eval[bool](other, "!!document.querySelector('button')"))
		other.pictures("server-go-back")
		other.open(s.url)
		other.sees("E-mail address")
	}
	ahead := asked.beside() // opened, and never pressed
	ahead.open(link)
	ahead.sees("Sign in here?")
	asked.beside().open(link)

	followed := asked.beside()
	followed.open(link)
	followed.click("Sign in")
	followed.sees("Where you are signed in")
}

func TestServer_APersonEndsItsSessions(t *testing.T) {
	s := newService(t)
	tabs := []*tab{newTab(t), newTab(t), newTab(t)}
	for _, b := range tabs {
		s.signIn(b, "alice@example.org")
	}
	here := tabs[0]
	here.open(s.url)
	here.sees("End all others")
	require.EqualValues(t, 2, eval[int](here, "document.querySelectorAll('#sessions button').length"), "this one has no button")
	here.pictures("server-sessions")

	here.clickOn("no session to end", "document.querySelector('#sessions button')")
	here.sees("That session is ended.")
	require.EqualValues(t, 1, eval[int](here, "document.querySelectorAll('#sessions button').length"))
	here.click("End all others")
	here.sees("All other sessions are ended.")
	here.misses("End all others")
	for _, b := range tabs[1:] {
		b.click("Save") // whatever it does
		b.sees("You are signed out.")
	}
	here.click("Save")
	here.sees("Your name is saved.")
}

func TestServer_ASecondAddressIsToldToTheFirstWhichUndoesIt(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	s.signIn(b, "alice@example.org")
	b.fill("Another e-mail address", "second@example.org")
	b.press(kb.Enter)
	b.sees("A code is on its way to second@example.org.")
	b.sees("not proved yet")
	b.pictures("server-prove")
	b.press("00000000" + kb.Enter)
	b.sees("The code is wrong")
	b.press(codeIn(s.sent("second@example.org", 1)) + kb.Enter)
	b.sees("You can sign in by second@example.org now.")
	b.misses("not proved yet")

	notice := s.sent("alice@example.org", 2)
	require.Contains(t, notice, "was changed")
	undo := linkIn(notice)
	for range 2 { // a scanner
		newTab(t).open(undo)
	}
	s.signIn(newTab(t), "second@example.org")

	elsewhere := newTab(t) // it needs no cookie: whoever reads the mailbox undoes
	elsewhere.open(undo)
	elsewhere.sees("Undo this change, and sign out everywhere?")
	elsewhere.pictures("server-undo")
	elsewhere.click("Undo")
	elsewhere.sees("E-mail address")
	b.click("Save")
	b.sees("You are signed out.")

	again := newTab(t)
	again.open(undo)
	again.click("Undo")
	again.sees("This link is used or too old.")
	s.signIn(again, "alice@example.org")
	require.NotContains(t, again.text(), "second@example.org")
}

func TestServer_APersonTakesItsDataAlong(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	s.signIn(b, "alice@example.org")
	dir := t.TempDir()
	_, err := chromedp.CallBrowser(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir,
		BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
	})
	require.NoError(t, err)
	b.click("Download my data")
	var data map[string]any
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "my-data.json"))
		return err == nil && json.Unmarshal(text, &data) == nil
	}, soon, 20*time.Millisecond)
	text, err := json.Marshal(data)
	require.NoError(t, err)
	require.Contains(t, string(text), "alice@example.org")
}

func TestServer_APersonIsErased(t *testing.T) {
	s := newService(t)
	b, other := newTab(t), newTab(t)
	s.signIn(b, "alice@example.org")
	s.signIn(other, "alice@example.org")
	b.click("Erase everything about me")
	b.sees("Erase everything?")
	b.pictures("server-erase")
	b.press(kb.Enter) // on "No, keep it", which has the focus
	b.misses("Erase everything?")
	b.click("Erase everything about me")
	b.press(kb.Escape)
	b.misses("Erase everything?")
	b.click("Save")
	b.sees("Your name is saved.")

	b.click("Erase everything about me")
	b.click("Yes, erase everything")
	b.sees("Everything about you is erased.")
	b.open(s.url)
	b.sees("E-mail address")
	other.click("Save")
	other.sees("You are signed out.")
	require.Contains(t, s.stderr.String(), "a user was erased")
	require.NotContains(t, s.stderr.String(), "alice")
}

// What another origin's page can have a browser send: forms, and requests that nobody may read the
// answers of.
func TestServer_AnotherOriginsPageChangesNothing(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	s.signIn(b, "alice@example.org")
	thief := newTab(t)
	thief.open(s.url)
	thief.fill("E-mail address", "mallory@example.org")
	thief.press(kb.Enter)
	thief.sees("Enter your code")

	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>Evil</title><p>Evil</p>")
	}))
	defer evil.Close()
	for _, origin := range []string{evil.URL, strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} { // same site, and another
		attack := b.beside()
		attack.open(origin)
		attack.sees("Evil")
		for path, body := range map[string]string{
			"/erasure":              `{"erase": "everything"}`,
			"/sign-in/token":        `{"code": "` + codeIn(s.sent("mallory@example.org", 1)) + `"}`,
			"/v1/users/me/logout":   `{}`,
			"/v1/users/me/locators": `{"locator": "email:mallory@example.org"}`,
			"/notes":                `{"text": "mine"}`,
		} {
			for _, kind := range []string{"text/plain", "application/json"} {
				eval[bool](attack, js(`(url, body, kind) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include',
					headers: {'Content-Type': kind}, body}).then(a => a.ok, () => false)`, s.url+path, body, kind))
			}
			form := attack.beside()
			form.open(origin)
			form.do(chromedp.Evaluate[chromedp.Void](js(`(url, body) => {
				const f = document.createElement('form'), i = document.createElement('input')
				const at = body.indexOf(':') // a form in text/plain sends name=value, which can be made to look like JSON
				Object.assign(f, {method: 'post', enctype: 'text/plain', action: url})
				Object.assign(i, {name: body.slice(0, at) + ': "', value: '", "x' + body.slice(at)})
				f.append(i)
				document.body.append(f)
				f.submit()
			}`, s.url+path, body)))
			form.misses("Evil")
		}
		require.False(t, eval[bool](attack, js(`url => new Promise(done => {
			const f = document.createElement('iframe')
			f.onload = () => { try { done(!!f.contentDocument?.querySelector('#title')) } catch { done(false) } }
			f.src = url
			document.body.append(f)
		})`, s.url)))
		attack.do(chromedp.Evaluate[chromedp.Void](js("url => { location.href = url }", s.url+"/v1/users/me/logout")))
		attack.sees("Another site asks to sign you out here.")
	}
	b.open(s.url)
	b.sees("alice@example.org")
	require.NotContains(t, b.text(), "mallory")
	require.JSONEq(t, `{"notes":[]}`, eval[string](b, `fetch('/notes').then(a => a.text())`))
}

// A person's name is whatever it types, and addresses are nearly so.
func TestServer_WhatPeopleWriteIsShownAsText(t *testing.T) {
	s := newService(t)
	b := newTab(t)
	s.signIn(b, "alice@example.org")
	const evil = `<img src=x onerror="window.bad=1"><script>window.bad=1</script>`
	b.fill("What others see of you", evil)
	b.press(kb.Enter)
	b.sees("Your name is saved.")
	b.sees(evil)
	b.fill("Another e-mail address", "a&b'c/onerror=1@example.org")
	b.press(kb.Enter)
	b.sees("A code is on its way to a&b'c/onerror=1@example.org")
	b.open(s.url)
	b.sees(evil)
	b.sees("a&b'c/onerror=1@example.org")
	b.pictures("server-evil")
	require.Equal(t, 0, eval[int](b, "document.querySelectorAll('img').length + (window.bad ?? 0)"))

	// And what would get in all the same may not run.
	require.Equal(t, "undefined", eval[string](b, `new Promise(done => {
		document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.bad=1">')
		const script = document.createElement('script')
		script.textContent = 'window.bad = 1'
		document.body.append(script)
		setTimeout(() => done(typeof window.bad), 100)
	})`))
}
