package adminui_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/adminui"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/transfer"
)

const (
	alice   = denizen.UserID("alice@01")
	address = "alice.secret@wonderland.example"
	number  = "+12015550123"
)

var sys = denizen.System()

var actions = []adminui.Action{adminui.Reveal, adminui.Revoke, adminui.Rename, adminui.RemoveLocator, adminui.ClearPresence, adminui.Block}

// desk is a console under a prefix, in front of ada.
type desk struct {
	t       testing.TB
	dir     *denizen.Directory
	console *adminui.Console
	mu      sync.Mutex
	by      denizen.Principal
	err     error
	may     []adminui.Action
}

func newDesk(t testing.TB, dir *denizen.Directory) *desk {
	t.Helper()
	d := &desk{t: t, dir: dir, by: sys.Named("ada"), may: actions}
	var err error
	d.console, err = adminui.New(dir, adminui.Options{
		Authorize: func(*http.Request) (denizen.Principal, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.by, d.err
		},
		May: func(operator string, do adminui.Action) bool { return operator == "ada" && slices.Contains(d.may, do) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.console.Close()) })
	return d
}

// withAlice is a desk over a directory in which Alice has everything that a person can have.
func withAlice(t testing.TB) *desk {
	t.Helper()
	d := newDesk(t, denizentest.New(t))
	ctx := context.Background()
	_, err := d.dir.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "about", VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSelf})
	require.NoError(t, err)
	email := denizen.Email(address)
	email.Status = denizen.Verified
	_, err = d.dir.CreateUser(ctx, sys, denizen.NewUser{ID: alice, ScreenName: "Alice <b>", Locators: []denizen.NewLocator{email, denizen.Tele(number)}})
	require.NoError(t, err)
	_, err = d.dir.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "about", Value: "<script>alert(1)</script>" + strings.Repeat("é", 1000)})
	require.NoError(t, err)
	_, err = d.dir.IssueToken(ctx, sys, alice, denizen.TokenOptions{Label: "phone\"><script>"})
	require.NoError(t, err)
	require.NoError(t, d.dir.SetPresence(ctx, sys, alice, denizen.Online(time.Minute).Then(denizen.Away(time.Minute)).Then(denizen.State("<i>x</i>")).On("laptop")))
	_, err = d.dir.CreateAccessKey(ctx, sys)
	require.NoError(t, err)
	return d
}

const prefix = "/ops/people"

// send sends a request as a browser does from a page of the console. Headers are name and value in turn.
func (d *desk) send(method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, prefix+target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	http.StripPrefix(prefix, d.console).ServeHTTP(w, r)
	return w
}

func (d *desk) get(target string) string {
	d.t.Helper()
	w := d.send("GET", target, nil)
	require.Equal(d.t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	return w.Body.String()
}

// do sends a form of Alice's page, about her as she is now.
func (d *desk) do(pairs ...string) *httptest.ResponseRecorder {
	u, _ := d.dir.User(context.Background(), sys, alice)
	form := url.Values{"internal": {u.InternalID}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return d.send("POST", "/people/"+string(alice), form)
}

func (d *desk) user() denizen.User {
	d.t.Helper()
	u, err := d.dir.User(context.Background(), sys, alice)
	require.NoError(d.t, err)
	return u
}

func (d *desk) newest() denizen.Event {
	d.t.Helper()
	page, err := d.dir.RecentEvents(context.Background(), sys, denizen.EventQuery{Limit: 1})
	require.NoError(d.t, err)
	return page.Events[0]
}

var pages = []string{"/", "/people", "/people/" + string(alice), "/here", "/feed", "/feed?kind=token", "/feed?user=" + string(alice), "/feed?by=ada", "/keys", "/store"}

func TestNew_NeedsSomebodyWhoSaysWhoMayLook(t *testing.T) {
	_, err := adminui.New(denizentest.New(t), adminui.Options{})
	require.ErrorIs(t, err, denizen.ErrInvalid)
}

func TestConsole_NobodyGetsInWithoutTheHostsWord(t *testing.T) {
	d := withAlice(t)
	user, err := d.dir.ActAs(t.Context(), sys, alice)
	require.NoError(t, err)
	for _, refused := range []struct {
		by   denizen.Principal
		err  error
		want int
	}{
		{denizen.Principal{}, nil, 403},
		{sys, nil, 403},
		{user, nil, 403},
		{sys.Named("no good"), nil, 403},
		{d.by, errors.New("secret reason"), 403},
		{d.by, denizen.ErrUnauthenticated, 401},
	} {
		d.by, d.err = refused.by, refused.err
		for _, target := range append([]string{"/live/overview", "/live/store", "/live/feed", "/live/people/alice@01", "/files/x/console.css", "/nothing"}, pages...) {
			for _, method := range []string{"GET", "POST", "HEAD", "DELETE"} {
				w := d.send(method, target, nil)
				require.Contains(t, []int{refused.want, http.StatusMethodNotAllowed}, w.Code, "%s %s", method, target)
				require.NotContains(t, w.Body.String(), "secret")
				require.NotContains(t, w.Body.String(), "Alice")
			}
		}
	}
}

func TestConsole_EveryAnswerIsKeptByNobodyAndFramedByNobody(t *testing.T) {
	d := withAlice(t)
	for _, target := range append([]string{"/nothing", "/people/x", "/people/nobody-here"}, pages...) {
		h := d.send("GET", target, nil).Header()
		require.Equal(t, "no-store", h.Get("Cache-Control"), target)
		for _, rule := range []string{"default-src 'none'", "frame-ancestors 'none'", "script-src 'self';", "style-src 'self';", "base-uri 'none'", "form-action 'self'"} {
			require.Contains(t, h.Get("Content-Security-Policy"), rule)
		}
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "same-origin", h.Get("Referrer-Policy"))
		require.Equal(t, "text/html; charset=utf-8", h.Get("Content-Type"))
	}
}

func TestConsole_NoPageHoldsALocatorOrMarkupOfOthers(t *testing.T) {
	d := withAlice(t)
	for _, target := range pages {
		page := d.get(target)
		for _, secret := range []string{address, "secret@", "wonderland", number, number[1:], "5550123", "<script>a", "\"><script>", "Alice <b>", "<i>x"} {
			require.NotContains(t, page, secret, target)
		}
	}
	person := d.get("/people/" + string(alice))
	require.Contains(t, person, "a•••@w•••.example")
	require.Contains(t, person, "&#43;12•••23")
	require.Contains(t, person, "laptop")
	require.Less(t, len(person), 16<<10, "a long value is cut")
}

// Whatever the console is mounted under, its links lead to its own pages.
func TestConsole_LinksLeadToPagesUnderAnyPrefix(t *testing.T) {
	d := withAlice(t)
	links := regexp.MustCompile(`(?:href|src|action|data-live)="([^"]*)"`)
	seen := map[string]bool{}
	for todo := slices.Clone(pages); len(todo) > 0; todo = todo[1:] {
		target := todo[0]
		w := d.send("GET", target, nil)
		require.Equal(t, 200, w.Code, target)
		for _, m := range links.FindAllStringSubmatch(w.Body.String(), -1) {
			base, err := url.Parse("http://ops.example" + prefix + target)
			require.NoError(t, err)
			to, err := base.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			require.NoError(t, err)
			require.Equal(t, "ops.example", to.Host)
			below, ok := strings.CutPrefix(to.RequestURI(), prefix)
			require.True(t, ok && strings.HasPrefix(below, "/"), "%s leads to %s", target, to)
			if !seen[below] && !strings.HasPrefix(below, "/live/") && below != "/search" {
				seen[below] = true
				todo = append(todo, below)
			}
		}
	}
	require.Greater(t, len(seen), 10)
}

func TestConsole_ASearchFindsByIdAddressAndNumber(t *testing.T) {
	d := withAlice(t)
	for _, q := range []string{string(alice), " " + address + " ", strings.ToUpper(address), "email:" + address, "+1 (201) 555-0123", "tele:" + number} {
		w := d.send("POST", "/search", url.Values{"q": {q}})
		require.Equal(t, http.StatusSeeOther, w.Code, q)
		require.Equal(t, "./people/alice@01", w.Header().Get("Location"))
	}
	for _, q := range []string{"", "nobody", "nobody@wonderland.example", "email:", "::", "\x00", "+1", "<b>"} {
		w := d.send("POST", "/search", url.Values{"q": {q}})
		require.Equal(t, 200, w.Code, q)
		require.Contains(t, w.Body.String(), "Nobody found")
		require.NotContains(t, w.Body.String(), "<b><b>")
	}
	require.Equal(t, 400, d.send("POST", "/search", url.Values{"q": {strings.Repeat("x", 800)}}).Code)
	require.Equal(t, 400, d.send("POST", "/search", url.Values{"q": {strings.Repeat("x", 10_000)}}).Code)
	require.Equal(t, 404, d.send("GET", "/search?q="+url.QueryEscape(address), nil).Code, "no locator is in a URL")
	require.Equal(t, 200, d.send("GET", "/feed?by=ada&q=x", nil).Code)
	require.Equal(t, 303, d.send("POST", "/feed", url.Values{"user": {string(alice)}, "kind": {"token"}}).Code)
	for _, form := range []url.Values{{"user": {address}}, {"user": {"12015550123"}}, {"by": {"no name"}}, {"kind": {"nothing"}}} {
		require.GreaterOrEqual(t, d.send("POST", "/feed", form).Code, 400, form)
	}
}

// acts are the forms of a person's page, and the events of what they do.
func (d *desk) acts() map[adminui.Action]map[denizen.EventKind][]string {
	u := d.user()
	tokens, err := d.dir.Tokens(context.Background(), sys, alice)
	require.NoError(d.t, err)
	return map[adminui.Action]map[denizen.EventKind][]string{
		adminui.Reveal:        {denizen.EventLocatorRevealed: {"do", "reveal", "locator", string(u.Locators[0].ID)}},
		adminui.Revoke:        {denizen.EventTokenRevoked: {"do", "revoke", "token", string(tokens[0].ID)}},
		adminui.Rename:        {denizen.EventUserRenamed: {"do", "rename", "name", "Alice in W."}},
		adminui.RemoveLocator: {denizen.EventLocatorRemoved: {"do", "remove", "locator", string(u.Locators[1].ID)}},
		adminui.ClearPresence: {denizen.EventPresenceCleared: {"do", "clear"}},
		adminui.Block:         {denizen.EventUserBlocked: {"do", "block", "reason", "spam", "for", "1d"}},
	}
}

func TestConsole_WhatAnOperatorMayNotIsNeitherShownNorDone(t *testing.T) {
	d := withAlice(t)
	acts := d.acts()
	for _, only := range append([]adminui.Action{"nothing"}, actions...) {
		d.may = []adminui.Action{only}
		page := d.get("/people/" + string(alice))
		for do, forms := range acts {
			for _, form := range forms {
				require.Equal(t, do == only, strings.Contains(page, `name="do" value="`+form[1]+`"`), "%s while %s is allowed", do, only)
				if do != only {
					head := d.newest()
					require.Equal(t, http.StatusForbidden, d.do(append(form, "confirmed", "yes", "version", strconv.FormatUint(uint64(d.user().Version), 10))...).Code)
					require.Equal(t, head, d.newest())
				}
			}
		}
	}
	d.may = actions
	require.Equal(t, 400, d.do("do", "delete", "confirmed", "yes").Code)
	require.Equal(t, 400, d.do("do", "rename", "name", "x", "confirmed", "yes").Code, "without a version")
}

func TestConsole_EachActionIsConfirmedAndAnEventOfItsOperator(t *testing.T) {
	d := withAlice(t)
	require.Equal(t, 200, d.do("do", "unblock").Code)
	acts := d.acts()
	for _, do := range actions {
		for kind, form := range acts[do] {
			head := d.newest()
			if do != adminui.Reveal {
				w := d.do(form...)
				require.Equal(t, 200, w.Code, w.Body)
				require.Contains(t, w.Body.String(), `name="confirmed"`)
				require.NotContains(t, w.Body.String(), address)
				require.Equal(t, head, d.newest(), "nothing is done before")
			}
			w := d.do(append(form, "confirmed", "yes", "version", strconv.FormatUint(uint64(d.user().Version), 10))...)
			if do == adminui.Reveal {
				require.Equal(t, 200, w.Code)
				require.Contains(t, w.Body.String(), address)
			} else {
				require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
				to := path.Join(prefix, "people", w.Header().Get("Location")) // relative to the form's page
				require.Contains(t, d.get(strings.TrimPrefix(to, prefix)), `role="status"`)
			}
			e := d.newest()
			require.Equal(t, []any{kind, ".system", "ada", alice}, []any{e.Kind, e.Actor, e.Operator, e.User})
			if do == adminui.Block {
				u := d.user()
				require.Equal(t, "spam", u.Block.Reason)
				require.WithinDuration(t, time.Now().Add(24*time.Hour), u.Block.Until, time.Minute)
			}
		}
	}
	require.Equal(t, 303, d.do("do", "unblock", "confirmed", "yes", "version", fmt.Sprint(d.user().Version)).Code)
	require.Equal(t, 303, d.do("do", "revoke-all", "confirmed", "yes", "version", fmt.Sprint(d.user().Version)).Code)
	require.Equal(t, 400, d.do("do", "rename", "name", "", "confirmed", "yes", "version", fmt.Sprint(d.user().Version)).Code)
	w := d.do("do", "rename", "name", "Too late", "confirmed", "yes", "version", "1")
	require.Equal(t, http.StatusConflict, w.Code)
	require.Contains(t, w.Body.String(), "Somebody changed this meanwhile")
	require.NotEqual(t, "Too late", d.user().ScreenName)
	for _, form := range [][]string{{"do", "revoke", "token", "gone"}, {"do", "remove", "locator", "gone"}, {"do", "reveal", "locator", "gone"}} {
		require.Equal(t, 404, d.do(form...).Code)
	}
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// asked returns the form of the page on which an action about Alice is confirmed.
func (d *desk) asked(pairs ...string) url.Values {
	d.t.Helper()
	w := d.do(pairs...)
	require.Equal(d.t, 200, w.Code, w.Body)
	_, page, _ := strings.Cut(w.Body.String(), `<form class="confirm"`)
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		form.Set(m[1], m[2])
	}
	return form
}

func TestConsole_WhatWasConfirmedAboutOneUserIsNotDoneToTheNext(t *testing.T) {
	d := withAlice(t)
	tokens, err := d.dir.Tokens(t.Context(), sys, alice)
	require.NoError(t, err)
	var forms []url.Values
	for _, do := range []string{"revoke-all", "clear", "block", "unblock", "rename"} {
		forms = append(forms, d.asked("do", do, "token", string(tokens[0].ID)))
	}
	require.NoError(t, d.dir.DeleteUser(t.Context(), sys, alice))
	_, err = d.dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: alice, ScreenName: "Another Alice"})
	require.NoError(t, err)
	_, err = d.dir.IssueToken(t.Context(), sys, alice, denizen.TokenOptions{})
	require.NoError(t, err)
	require.NoError(t, d.dir.SetPresence(t.Context(), sys, alice, denizen.Online()))
	head := d.newest()
	for _, form := range forms {
		form.Set("name", "Renamed")
		require.Equal(t, http.StatusConflict, d.send("POST", "/people/"+string(alice), form).Code, form.Get("do"))
		require.Equal(t, head, d.newest())
	}
}

func TestConsole_AUserWhoKeepsChangingCanBeBlocked(t *testing.T) {
	d := withAlice(t)
	token, err := d.dir.IssueToken(t.Context(), sys, alice, denizen.TokenOptions{})
	require.NoError(t, err)
	self, err := d.dir.Authenticate(t.Context(), token.Signed)
	require.NoError(t, err)
	form := d.asked("do", "block")
	_, err = d.dir.SetScreenName(t.Context(), self, alice, "Alice the quick")
	require.NoError(t, err)
	require.Equal(t, http.StatusSeeOther, d.send("POST", "/people/"+string(alice), form).Code)
	require.True(t, d.user().Blocked)
}

func TestConsole_ABlockByAnotherOperatorMeanwhileIsKept(t *testing.T) {
	d := withAlice(t)
	form := d.asked("do", "block")
	form.Set("for", "1h")
	_, err := d.dir.BlockUser(t.Context(), sys.Named("bob"), alice, denizen.Block{Reason: "for good"})
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, d.send("POST", "/people/"+string(alice), form).Code)
	require.Equal(t, denizen.Block{Reason: "for good"}, d.user().Block)
}

// A page changes while somebody looks. What has the focus keeps it by its id.
func TestConsole_AButtonIsNamedAfterWhatItIsAbout(t *testing.T) {
	d := withAlice(t)
	page := d.get("/people/" + string(alice))
	tokens, err := d.dir.Tokens(t.Context(), sys, alice)
	require.NoError(t, err)
	require.Contains(t, page, `id="revoke-`+string(tokens[0].ID)+`"`)
	for _, l := range d.user().Locators {
		require.Contains(t, page, `id="reveal-`+string(l.ID)+`"`)
		require.Contains(t, page, `id="remove-`+string(l.ID)+`"`)
	}
}

func TestConsole_AKeyThatIsDeletedShowsNothing(t *testing.T) {
	d := withAlice(t)
	key, err := d.dir.CreateAccessKey(t.Context(), sys)
	require.NoError(t, err)
	by, err := d.dir.AuthenticateKey(t.Context(), key.Key, key.Secret)
	require.NoError(t, err)
	d.by = by.Named("ada")
	for _, target := range pages {
		d.get(target)
	}
	require.NoError(t, d.dir.DeleteAccessKey(t.Context(), sys, key.Key))
	for _, target := range append(slices.Clone(pages), "/live/overview", "/live/store", "/live/feed", "/live/people/alice@01") {
		w := d.send("GET", target, nil)
		require.Equal(t, http.StatusForbidden, w.Code, target)
		require.NotContains(t, w.Body.String(), "user.created", target)
	}
}

func TestConsole_FormsAndStreamsOfOtherOriginsAreRefused(t *testing.T) {
	d := withAlice(t)
	head := d.newest()
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"},
	} {
		for _, target := range []string{"/people/" + string(alice), "/search", "/feed"} {
			form := url.Values{"do": {"reveal"}, "locator": {string(d.user().Locators[0].ID)}, "q": {string(alice)}}
			w := d.send("POST", target, form, headers...)
			require.Equal(t, http.StatusForbidden, w.Code, "%s %s", target, headers)
			require.NotContains(t, w.Body.String(), address)
		}
	}
	require.Equal(t, head, d.newest())
	require.Equal(t, http.StatusForbidden, d.send("GET", "/live/overview", nil, "Sec-Fetch-Site", "cross-site").Code)
}

func TestConsole_AnIdThatLeadsToAnotherUserLeadsToItsPage(t *testing.T) {
	d := withAlice(t)
	_, err := d.dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: "guest-01", ScreenName: "Guest"})
	require.NoError(t, err)
	_, err = d.dir.MergeUsers(t.Context(), sys, "guest-01", alice, denizen.MergePolicy{Alias: denizen.Forever})
	require.NoError(t, err)
	require.Equal(t, "../people/alice@01", d.send("GET", "/people/guest-01", nil).Header().Get("Location"))
	w := d.send("GET", "/people/nobody-here", nil)
	require.Equal(t, 404, w.Code)
	require.Contains(t, w.Body.String(), "Nobody has this id")
}

// tally is a store that counts the records and events that are read of it, and fails when told to.
type tally struct {
	store.Store // so it counts as one that others write to, and nothing is remembered
	mu          sync.Mutex
	read        int
	fail        error
}

func (s *tally) add(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read += n
	return s.fail
}

func (s *tally) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := s.add(len(keys)); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *tally) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	found, err := s.Store.List(ctx, r)
	return found, errors.Join(err, s.add(len(found)))
}

func (s *tally) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	feed, err := s.Store.Changes(ctx, after, limit)
	return feed, errors.Join(err, s.add(len(feed.Changes)))
}

// What a page reads does not grow with the number of users.
func TestConsole_APageReadsNoMoreThanItShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tally{Store: memory.New()}
		dir, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		d := newDesk(t, dir)
		settle := func(from, to int) {
			for i := from; i < to; i++ {
				u, err := dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("person-%06d", i)), ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprintf("person%d@example.org", i))}})
				require.NoError(t, err)
				require.NoError(t, dir.SetPresence(t.Context(), sys, u.ID, denizen.Online()))
			}
		}
		cost := func() map[string]int {
			reads := map[string]int{}
			d.get("/") // the figures of all are read once
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, target := range []string{"/", "/people", "/people/person-000007", "/here", "/feed", "/feed?kind=key", "/keys", "/store"} {
				s.mu.Lock()
				s.read = 0
				s.mu.Unlock()
				d.get(target)
				s.mu.Lock()
				reads[target] = s.read
				s.mu.Unlock()
				require.Less(t, s.read, 10_000, target)
			}
			return reads
		}
		settle(0, 300)
		for i := range 12_000 { // more than a page looks through
			_, err := s.Commit(t.Context(), store.Batch{Emit: fmt.Appendf(nil, `{"kind":"event","at":%d,"what":"user.renamed","actor":".system","user":"somebody-else"}`, i)})
			require.NoError(t, err)
		}
		few := cost()
		settle(300, 600)
		require.Equal(t, few, cost())
	})
}

func TestConsole_SaysThatTheStoreDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tally{Store: memory.New()}
		dir, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		d := newDesk(t, dir)
		_, err = dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: alice, ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email(address)}})
		require.NoError(t, err)
		person := d.looks("/live/people/" + string(alice))
		d.get("/")
		time.Sleep(time.Second)
		s.mu.Lock()
		s.fail = store.ErrUnavailable
		s.mu.Unlock()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.False(t, person.isOpen())
		require.NotContains(t, person.got.String(), "event: gone", "it is tried again")
		require.Contains(t, d.get("/"), "The store does not answer")
		require.Contains(t, d.get("/store"), "The store does not answer")
		for _, target := range []string{"/people", "/feed", "/here"} {
			w := d.send("GET", target, nil)
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Contains(t, w.Body.String(), "The store does not answer")
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		require.NotContains(t, d.get("/"), "does not answer")
	})
}

// hanging is a store that answers no read once it hangs.
type hanging struct {
	store.Store
	hangs atomic.Bool
}

func (s *hanging) wait(ctx context.Context) error {
	if s.hangs.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (s *hanging) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *hanging) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, r)
}

func (s *hanging) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if err := s.wait(ctx); err != nil {
		return store.Feed{}, err
	}
	return s.Store.Changes(ctx, after, limit)
}

// Whether the console's patience ends first or the host's.
func TestConsole_AStoreThatHangsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hanging{Store: memory.New()}
		dir, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, dir.Close()) })
		t.Cleanup(func() { s.hangs.Store(false) })
		d := newDesk(t, dir)
		_, err = dir.CreateUser(t.Context(), sys, denizen.NewUser{ID: alice, ScreenName: "Alice"})
		require.NoError(t, err)
		s.hangs.Store(true)
		for _, patience := range []time.Duration{time.Second, time.Minute} {
			for _, target := range []string{"/people", "/people/alice@01", "/here", "/feed", "/keys"} {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				began, w := time.Now(), httptest.NewRecorder()
				d.console.ServeHTTP(w, httptest.NewRequest("GET", target, nil).WithContext(ctx))
				cancel()
				require.Equal(t, http.StatusServiceUnavailable, w.Code, target)
				require.Contains(t, w.Body.String(), "The store does not answer", target)
				require.Equal(t, min(patience, 10*time.Second), time.Since(began))
			}
		}
	})
}

// How long the pages take over how many users DENIZEN_CONSOLE_USERS says, in a file.
func BenchmarkPages(b *testing.B) {
	users, err := strconv.Atoi(os.Getenv("DENIZEN_CONSOLE_USERS"))
	if err != nil {
		users = 1000
	}
	dir, err := denizen.Open(b.Context(), filepath.Join(long.Dir(b), "people.db"), denizen.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { _ = dir.Close() })
	rows := func(yield func(transfer.User, error) bool) {
		for i := range users {
			if !yield(transfer.User{ID: denizen.UserID(fmt.Sprintf("person-%07d", i)), ScreenName: "Somebody", Locators: []transfer.Locator{{Locator: fmt.Sprintf("email:person%d@example.org", i)}}}, nil) {
				return
			}
		}
	}
	_, err = transfer.Import(b.Context(), dir, sys, rows, transfer.Options{})
	require.NoError(b, err)
	for i := range min(users, 10_000) {
		require.NoError(b, dir.SetPresence(b.Context(), sys, denizen.UserID(fmt.Sprintf("person-%07d", i)), denizen.Online(time.Hour)))
	}
	d := newDesk(b, dir)
	person := fmt.Sprintf("/people/person-%07d", users/2)
	for _, target := range []string{"/", "/people", person, "/here", "/feed", "/feed?kind=key", "/keys", "/store"} {
		b.Run(strings.Trim(target, "/"), func(b *testing.B) {
			var slowest time.Duration
			for b.Loop() {
				began := time.Now()
				d.get(target)
				slowest = max(slowest, time.Since(began))
			}
			b.ReportMetric(float64(slowest.Microseconds())/1000, "ms-slowest")
		})
	}
	b.Run("search", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w := d.send("POST", "/search", url.Values{"q": {fmt.Sprintf("person%d@example.org", i%users)}})
			require.Equal(b, 303, w.Code)
		}
	})
}
