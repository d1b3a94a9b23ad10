package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

var usual = settings{online: 20 * time.Second, away: 2 * time.Minute, each: maxSeats + 1}

// site is what the program serves, over a directory that the test can reach.
type site struct {
	t   *testing.T
	dir *denizen.Directory
	http.Handler
}

func newSite(t *testing.T, s settings) site {
	t.Helper()
	dir, err := open(t.Context(), filepath.Join(t.TempDir(), "board.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	return site{t, dir, service(dir, s, nil)}
}

// send sends a request as a browser at this site does, with the value of the cookie. Headers are
// name and value in turn.
func (s site) send(cookie, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if cookie != "" {
		r.Header.Set("Cookie", httpadapter.CookieName+"="+cookie)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// joined lets somebody join, and returns the value of the cookie.
func (s site) joined(name string) string {
	s.t.Helper()
	w := s.send("", "POST", "/join", `{"name": "`+name+`"}`)
	require.Equal(s.t, http.StatusNoContent, w.Code, w.Body)
	cookies := w.Result().Cookies()
	require.Len(s.t, cookies, 1)
	require.True(s.t, cookies[0].HttpOnly && cookies[0].Secure)
	return cookies[0].Value
}

func (s site) state(seat denizen.UserID) string {
	s.t.Helper()
	p, err := s.dir.Presence(s.t.Context(), denizen.System(), seat)
	require.NoError(s.t, err)
	return p.Presence.State()
}

func TestWhoJoinsIsOnTheBoardWithANote(t *testing.T) {
	s := newSite(t, usual)
	require.Equal(t, http.StatusUnauthorized, s.send("", "GET", "/board", "").Code)
	alice, bob := s.joined("Alice"), s.joined("Bob")
	require.Equal(t, 200, s.send(bob, "POST", "/v1/users/me/profile/note", `{"key": "note", "value": "tea"}`).Code/100*100)

	w := s.send(alice, "GET", "/board", "")
	require.Equal(t, http.StatusOK, w.Code)
	var is struct {
		Me           denizen.UserID
		Seats        []denizen.UserID
		People       []person
		Now          int64
		Online, Away int
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &is))
	require.Equal(t, []person{{"board-seat-01", "Alice", ""}, {"board-seat-02", "Bob", "tea"}}, is.People)
	require.Equal(t, denizen.UserID("board-seat-01"), is.Me)
	require.Len(t, is.Seats, maxSeats)
	require.LessOrEqual(t, maxSeats, denizen.MaxList) // of one stream
	require.Equal(t, []int{20, 120}, []int{is.Online, is.Away})
}

func TestANoteIsShort(t *testing.T) {
	s := newSite(t, usual)
	alice := s.joined("Alice")
	long := `{"key": "note", "value": "` + strings.Repeat("x", 321) + `"}`
	require.Equal(t, http.StatusBadRequest, s.send(alice, "POST", "/v1/users/me/profile/note", long).Code)
}

func TestWhatIsNoNameTakesNoSeat(t *testing.T) {
	s := newSite(t, usual)
	for _, c := range []struct {
		body    string
		status  int
		headers []string
	}{
		{`{"name": ""}`, 400, nil},
		{`{"name": "` + strings.Repeat("x", 129) + `"}`, 400, nil},
		{`{"name": "a\u202eb"}`, 400, nil},
		{`{"name": "\u0000"}`, 400, nil},
		{`{"name": 1}`, 400, nil},
		{`{`, 400, nil},
		{`{"name": "x"` + strings.Repeat(" ", maxBody) + `}`, 400, nil},
		{`{"name": "x"}`, 415, []string{"Content-Type", "text/plain"}},
		{`{"name": "x"}`, 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{`{"name": "x"}`, 403, []string{"Sec-Fetch-Site", "same-site"}},
	} {
		w := s.send("", "POST", "/join", c.body, c.headers...)
		require.Equal(t, c.status, w.Code, c.body)
		require.Empty(t, w.Result().Cookies())
	}
	for range s.dir.AllUsers(t.Context(), denizen.System()) {
		t.Fatal("somebody has a seat")
	}
}

// A page of another site may have a browser send a beacon, but not with what counts here.
func TestAnotherOriginChangesNothing(t *testing.T) {
	s := newSite(t, usual)
	alice := s.joined("Alice")
	const online = `{"device": "window-1", "type": "mitter.up.Online", "timeToLive": 20}`
	require.Equal(t, http.StatusNoContent, s.send(alice, "POST", "/v1/users/me/presence", online).Code)
	for _, from := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
	} {
		for _, path := range []string{"/v1/users/me/presence", "/leave"} {
			w := s.send(alice, "POST", path, `{"device": "window-1", "type": "mitter.up.Offline"}`, from...)
			require.Equal(t, http.StatusForbidden, w.Code, path)
		}
	}
	require.Equal(t, denizen.StateOnline, s.state("board-seat-01"))
}

func TestNobodySetsThePresenceOfSomebodyElse(t *testing.T) {
	s := newSite(t, usual)
	s.joined("Alice")
	bob := s.joined("Bob")
	for _, path := range []string{"/v1/users/board-seat-01/presence", "/v1/users/board-seat-03/presence"} {
		require.Equal(t, http.StatusForbidden, s.send(bob, "POST", path, `{"type": "mitter.up.Offline"}`).Code)
	}
	require.Empty(t, s.state("board-seat-01"))
}

func TestOneAddressTakesSomeSeatsAndNotAll(t *testing.T) {
	s := usual
	s.each = 2
	b := newSite(t, s)
	b.joined("Eve")
	b.joined("Eve again")
	require.Equal(t, http.StatusTooManyRequests, b.send("", "POST", "/join", `{"name": "Eve"}`).Code)
	r := httptest.NewRequest("POST", "/join", strings.NewReader(`{"name": "Alice"}`))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = "198.51.100.7:999"
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
}

func TestANetworkOfIPv6CountsAsOneClient(t *testing.T) {
	for address, want := range map[string]string{
		"[2001:db8::1:2:3:4]:80": "2001:db8::/64", "[fe80::1%eth0]:80": "fe80::/64",
		"192.0.2.9:80": "192.0.2.9/32", "[::ffff:192.0.2.9]:80": "192.0.2.9/32",
	} {
		require.Equal(t, want, client(&http.Request{RemoteAddr: address}).String())
	}
}

func TestAFullBoardTakesSomebodyOnceASeatIsFree(t *testing.T) {
	s := newSite(t, usual)
	var last string
	for i := range maxSeats {
		last = s.joined(fmt.Sprint("Guest ", i))
	}
	require.Equal(t, http.StatusServiceUnavailable, s.send("", "POST", "/join", `{"name": "Late"}`).Code)

	w := s.send(last, "POST", "/leave", "")
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Negative(t, w.Result().Cookies()[0].MaxAge)
	require.Equal(t, http.StatusUnauthorized, s.send(last, "GET", "/board", "").Code)
	s.joined("Late")
	require.Equal(t, http.StatusUnauthorized, s.send(last, "GET", "/board", "").Code, "the seat is somebody else's")

	// Whose tokens have ended, nobody can come back as.
	require.NoError(t, s.dir.RevokeAllTokens(t.Context(), denizen.System(), "board-seat-07"))
	s.joined("Later")
	u, err := s.dir.User(t.Context(), denizen.System(), "board-seat-07")
	require.NoError(t, err)
	require.Equal(t, "Later", u.ScreenName)
}

func TestWhoIsGoneKeepsTheSeatForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := denizentest.New(t, denizen.Options{})
		b := newBoard(dir, usual)
		_, err := b.take(t.Context(), client(&http.Request{RemoteAddr: "192.0.2.1:1"}), "Alice")
		require.NoError(t, err)
		seat := b.seats[0]
		isFree := func() bool {
			free, err := b.isFree(t.Context(), seat)
			require.NoError(t, err)
			return free
		}
		time.Sleep(59 * time.Minute)
		require.False(t, isFree(), "it was never here, but came just now")
		chain := denizen.Online(20 * time.Second).Then(denizen.Offline())
		require.NoError(t, dir.SetPresence(t.Context(), denizen.System(), seat, chain))
		time.Sleep(time.Hour)
		require.False(t, isFree())
		time.Sleep(time.Minute)
		require.True(t, isFree())
	})
}

func TestThePageHasNothingThatItsPolicyForbids(t *testing.T) {
	s := newSite(t, usual)
	for path, kind := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"} {
		w := s.send("", "GET", path, "")
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Header().Get("Content-Type"), kind)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
		require.NotRegexp(t, `(?i)<style|<script>|\son[a-z]+=|\sstyle=`, strings.ReplaceAll(w.Body.String(), ".on", ""))
		require.NotRegexp(t, `innerHTML|insertAdjacent|document\.write|eval\(`, w.Body.String())
	}
}

func TestAPersonHasSixteenStreams(t *testing.T) {
	s := newSite(t, usual)
	alice := s.joined("Alice")
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 17 {
		r := stream(t, ctx, server.URL, alice)
		defer r.Body.Close()
		want := http.StatusOK
		if i == 16 {
			want = http.StatusTooManyRequests
		}
		require.Equal(t, want, r.StatusCode)
	}
}

// stream opens a stream of the first seat.
func stream(t *testing.T, ctx context.Context, url, cookie string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/users/board-seat-01/presence", nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cookie", httpadapter.CookieName+"="+cookie)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	return answer
}

func TestTheProgramEndsItsStreamsAndKeepsItsPeople(t *testing.T) {
	s := usual
	s.addr, s.db = "127.0.0.1:0", filepath.Join(t.TempDir(), "board.db")
	token := ""
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, s, in) }()
		said, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		url := strings.TrimPrefix(strings.TrimSpace(said), "listening on ")
		if token == "" {
			answer, err := http.Post(url+"/join", "application/json", strings.NewReader(`{"name": "Alice"}`))
			require.NoError(t, err)
			answer.Body.Close()
			token = answer.Cookies()[0].Value
		}
		open := stream(t, t.Context(), url, token)
		require.Equal(t, http.StatusOK, open.StatusCode)
		cancel()
		_, err = io.Copy(io.Discard, open.Body)
		require.NoError(t, err, "the stream was cut off")
		open.Body.Close()
		require.NoError(t, <-ended)
	}
}

func TestChainsHaveATime(t *testing.T) {
	s := usual
	s.away = 0
	require.ErrorContains(t, run(t.Context(), s, io.Discard), "a second at least")
}
