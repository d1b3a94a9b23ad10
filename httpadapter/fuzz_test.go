package httpadapter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/internal/wire"
)

// FuzzParse: what the reader takes, encoding/json takes for the same value, and what it refuses is
// refused as bad syntax.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `-0.0e+1`, `"x"`, `{"a":[1,{"b":null}],"c":"\ud83d\ude00"}`, `{"a":1,"A":2}`, `{"k":1,"\u212a":2}`,
		`{"s":1,"` + "\u017f" + `":2}`, `"\u0000"`, `"\ud800"`, `"\\ud800"`, `"\ud800\u0041"`, "\"\xff\"", "\ufeff{}", `{}{}`, `[1,]`, `1e400`,
		strings.Repeat(`[`, 64) + strings.Repeat(`]`, 64), strings.Repeat(`[`, 65) + strings.Repeat(`]`, 65), strings.Repeat(`{"a":`, 65) + `1` + strings.Repeat(`}`, 65),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := parse(data)
		if err != nil {
			if r, is := errors.AsType[*refusal](err); !is || r.status != 400 || r.code != "invalid_input_syntax" || value != nil {
				t.Fatalf("%q is refused with %v and %v", data, err, value)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", data, err)
		}
		if !reflect.DeepEqual(value, want) {
			t.Fatalf("%q is %v, and %v to encoding/json", data, value, want)
		}
		if nests(value) > wire.MaxDepth {
			t.Fatalf("%q nests %d deep", data, nests(value))
		}
		if !wholeTexts(value) {
			t.Fatalf("%q holds U+0000 or what is no character", data)
		}
	})
}

func nests(value any) (deepest int) {
	switch value := value.(type) {
	case map[string]any:
		for _, inner := range value {
			deepest = max(deepest, nests(inner))
		}
	case []any:
		for _, inner := range value {
			deepest = max(deepest, nests(inner))
		}
	default:
		return 0
	}
	return deepest + 1
}

func wholeTexts(value any) bool {
	switch value := value.(type) {
	case string:
		return utf8.ValidString(value) && !strings.Contains(value, "\x00")
	case []any:
		for _, inner := range value {
			if !wholeTexts(inner) {
				return false
			}
		}
	case map[string]any:
		for name, inner := range value {
			if !wholeTexts(name) || !wholeTexts(inner) {
				return false
			}
			for other := range value {
				if other != name && strings.EqualFold(other, name) {
					return false
				}
			}
		}
	}
	return true
}

// FuzzPath: a path that a route is found for is spelled as the route's pattern is, with each
// parameter one segment that is decoded once.
func FuzzPath(f *testing.F) {
	for _, r := range routes {
		f.Add(r.pattern)
	}
	for _, seed := range []string{
		"", "/", "*", "//v1/users", "/v1//users", "/v1/users/", "/v1/users/.", "/v1/users/%2e%2e", "/v1/users/../users", "/v1/%75sers/x", "/v1/users/a%2Fb/profile",
		"/v1/users/%00", "/v1/users/%ff", "/v1/users/%zz", "/v1/users/%2523", "/v1/users/me/logout", "/v1/users/m%65/logout", `/v1/u%73ers/x/profile/"`, `/v1/users/x%2Fprofile/"`,
		"/v1/users/é", "/v1/users/%C3%A9", "/v1/users/%C3%A9%1A", "/v1/users/a,b/presence", "/v1/users/email:a@b.example", "/v1/users/x?y=z", "/v1/users/x#y", "http://h/v1/users", "/v1/users/a;b",
	} {
		f.Add(seed)
	}
	h := &handler{root: newTree(routes)}
	f.Fuzz(func(t *testing.T, sent string) {
		// As it is.
		var params [maxParams]string
		n, err := h.root.find(sent, params[:])
		holdPath(t, sent, n, params, err)
		if n != nil {
			again := spell(n.routes[0].pattern, params)
			var same [maxParams]string
			if found, err := h.root.find(again, same[:]); found != n || err != nil || same != params {
				t.Fatalf("%q is %v, but %q is %v, %v", sent, params, again, same, err)
			}
		}
		// As net/http hands it on.
		u, err := url.ParseRequestURI(sent)
		if err != nil || !strings.HasPrefix(sent, "/") {
			return
		}
		path, _, _ := strings.Cut(sent, "?")
		c := &call{h: h, w: httptest.NewRecorder(), r: &http.Request{Method: "GET", URL: u}, route: &noRoute}
		err = h.routeTo(c)
		if r, is := errors.AsType[*refusal](err); err != nil && (!is || r.status != 400 && r.status != 404 && r.status != 405) {
			t.Fatalf("%q: %v", sent, err)
		}
		if err == nil {
			holdPath(t, path, &node{routes: []*route{c.route}}, c.params, nil)
		}
	})
}

// holdPath holds a path to be spelled as the pattern of the node that it led to.
func holdPath(t *testing.T, path string, n *node, params [maxParams]string, err error) {
	if err != nil {
		if r, is := errors.AsType[*refusal](err); !is || r.status != 400 || n != nil {
			t.Fatalf("%q: %v, %v", path, n, err)
		}
		return
	}
	if n == nil {
		return
	}
	segments, pattern := strings.Split(path, "/"), strings.Split(n.routes[0].pattern, "/")
	if len(segments) != len(pattern) {
		t.Fatalf("%q matches %q", path, n.routes[0].pattern)
	}
	i := 0
	for at, segment := range segments {
		if !strings.HasPrefix(pattern[at], "{") {
			if segment != pattern[at] {
				t.Fatalf("%q matches %q", path, n.routes[0].pattern)
			}
			continue
		}
		decoded, err := url.PathUnescape(segment)
		if err != nil || decoded != params[i] {
			t.Fatalf("%q has the parameter %q for %q", path, params[i], segment)
		}
		if decoded == "" || decoded == "." || decoded == ".." || !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q has the parameter %q", path, decoded)
		}
		i++
	}
}

// spell fills in a pattern.
func spell(pattern string, params [maxParams]string) string {
	segments := strings.Split(pattern, "/")
	i := 0
	for at, segment := range segments {
		if strings.HasPrefix(segment, "{") {
			segments[at] = url.PathEscape(params[i])
			i++
		}
	}
	return strings.Join(segments, "/")
}

// leavingClient takes what is written and is gone when it is sent: no stream stays open.
type leavingClient struct{ *httptest.ResponseRecorder }

func (leavingClient) FlushError() error { return io.ErrClosedPipe }

// FuzzRequest: whatever is asked, the answer is none of a failure, and a refusal is one in JSON.
func FuzzRequest(f *testing.F) {
	const one = `{"userId":"another-user","screenName":{"screenName":"x"},"userLocators":["email:c@d.example"],"entityProfile":{"attributes":[{"key":"key","value":"x"}]}}`
	for _, seed := range []struct {
		caller                     byte
		method, path, header, body string
	}{
		{1, "GET", "/v1/users?limit=1&withProfileAttributes=*", "", ""},
		{1, "GET", "/v1/users?locators=email:a@b.example,tele:+3222345678&after=x", "", ""},
		{1, "POST", "/v1/users", "Idempotency-Key: x", one},
		{1, "POST", "/v1/users", "Content-Type: text/plain", one},
		{1, "PATCH", "/v1/users/fuzzed-user", "If-Match: \"1\", *", `{"blocked":true}`},
		{2, "PUT", "/v1/users/me/screenname", "If-Match: W/\"1\"", `{"screenName":"y"}`},
		{2, "GET", "/v1/users/fuzzed-user?withProfileAttributes=key", "If-None-Match: *", ""},
		{2, "HEAD", "/v1/users/me", "", ""},
		{2, "POST", "/v1/users/me/locators", "", `{"@type":"tele","phoneNumber":"+3222345678"}`},
		{1, "PUT", "/v1/users/fuzzed-user/locators", "", `["email:a@b.example",{"locator":"tele:+3222345678","verificationStatus":0}]`},
		{1, "POST", "/v1/attribute-def/users", "", `{"key":"another","allowedContentTypes":["text/plain"],"canBeEmpty":false,"maxBytes":10}`},
		{2, "POST", "/v1/users/me/profile", "", `{"attributes":[{"key":"key","value":"x","contentType":"text/plain"}],"patchType":"replace"}`},
		{2, "POST", "/v1/users/me/profile/key", "", `{"value":"x"}`},
		{2, "DELETE", "/v1/users/me/profile/key", "", ""},
		{2, "POST", "/v1/users/me/presence", "", `{"type":"x","device":"d","timeToLive":10,"expiresTo":{"type":"y"}}`},
		{1, "GET", "/v1/users/me,fuzzed-user/presence", "Accept: text/event-stream", ""},
		{2, "GET", "/v1/users/me/presence", "Accept: text/event-stream", ""},
		{1, "GET", "/v1/events?after=0", "Accept: text/event-stream", ""},
		{1, "POST", "/v1/users/fuzzed-user/tokens", "", `{"ttl":60,"label":"x"}`},
		{1, "PATCH", "/v1/users/fuzzed-user/tokens/x", "", `{"ttl":1e2}`},
		{2, "GET", "/v1/users/me/logout", "Sec-Fetch-Site: cross-site", ""},
		{1, "DELETE", "/v1/users/email:a@b.example", "", ""},
		{0, "GET", "/v1/users", "Authorization: Basic Ojo=\r\nCookie: x_issued_mitter_user_authorization=x", ""},
		{0, "POST", "/v1/users", "Authorization: Auth a:b\r\nX-Mitter-Application-Access-Key: a\r\nNonce: 12345678\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-MD5: x", one},
		{1, "GET", "/v1/users/me", "X-Mitter-Sudo-User-Id: fuzzed-user\r\nX-Mitter-Application-Id: x", ""},
		{0, "TRACE", "/people/v1/users", "Transfer-Encoding: chunked", "0\r\n\r\n"},
		{0, "GET", "/v1/openapi.json", "X-Request-Id: x", ""},
	} {
		f.Add(seed.caller, seed.method, seed.path, seed.header, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, caller byte, method, path, header string, body []byte) {
		head := method + " " + path + " HTTP/1.1\r\nHost: example.org\r\n" + header
		if header != "" {
			head += "\r\n"
		}
		if !strings.Contains(strings.ToLower(header), "content-type") {
			head += "Content-Type: application/json\r\n"
		}
		if !strings.Contains(strings.ToLower(header), "transfer-encoding") {
			head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n" + string(body))))
		if err != nil {
			return // it is net/http that refuses it
		}
		dir := denizentest.New(t)
		if err := dir.PutAccessKey(t.Context(), denizen.System(), "fuzzing-key", "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE="); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "key"}); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ID: "fuzzed-user", ScreenName: "x", Locators: []denizen.NewLocator{denizen.Email("a@b.example")},
			Attributes: []denizen.Attribute{{Key: "key", Value: "value"}},
		}); err != nil {
			t.Fatal(err)
		}
		switch caller % 3 {
		case 1:
			r.SetBasicAuth("fuzzing-key", "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE=")
		case 2:
			r.Header.Add("Authorization", "Bearer "+denizentest.Token(t, dir, "fuzzed-user"))
		}
		observed := 0
		h := New(dir, Options{Signed: caller&4 == 0, Observe: func(_ context.Context, x Exchange) {
			observed++
			if x.Cause != nil {
				t.Errorf("%s %s: %v", method, path, x.Cause)
			}
		}})
		w := httptest.NewRecorder()
		h.ServeHTTP(leavingClient{w}, r)
		if observed != 1 {
			t.Errorf("%s %s was observed %d times", method, path, observed)
		}
		if w.Code >= 500 || w.Code >= 300 && w.Code < 400 && w.Code != 304 {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Fatalf("%s %s: %v", method, path, w.Header())
		}
		if w.Code < 400 || r.Method == "HEAD" {
			return
		}
		var p wire.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.ErrorCode == "" || p.Message == "" || p.Timestamp == 0 ||
			p.Diagnostics == nil || p.RequestID == "" || p.RequestID != w.Header().Get("X-Request-Id") || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%s %s: %d %v %s", method, path, w.Code, w.Header(), w.Body)
		}
	})
}
