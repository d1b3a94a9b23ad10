package httpadapter_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/text/unicode/norm"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/internal/long"
)

// TestCorpora adds the rows of public collections to the tables of this package. The
// environment variable DENIZEN_CORPORA names the directory that holds them.
func TestCorpora(t *testing.T) {
	dir := os.Getenv("DENIZEN_CORPORA")
	if dir == "" {
		t.Skip("DENIZEN_CORPORA is not set")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", dir) // it is named from the root of the module
	}
	t.Run("json", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(dir, "json", "test_*", "*.json"))
		require.NoError(t, err)
		require.Greater(t, len(files), 300)
		bodies := make(map[string]string)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			bodies[filepath.Base(file)] = string(data)
		}
		nastyBodiesEverywhere(t, bodies)
		t.Run("verdicts", func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, "json", "verdicts.tsv"))
			require.NoError(t, err)
			count := map[string]int{}
			for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
				columns := strings.Split(line, "\t")
				require.Len(t, columns, 5)
				body, there := bodies[columns[0]]
				require.True(t, there, columns[0])
				verdict, _, _ := strings.Cut(columns[4], " ")
				count[nastyVerdict(t, body, verdict)]++
			}
			t.Log(count)
		})
	})
	t.Run("naughty", func(t *testing.T) {
		data, err := os.ReadFile(filepath.Join(dir, "naughty", "blns.json"))
		require.NoError(t, err)
		var values []string
		require.NoError(t, json.Unmarshal(data, &values))
		require.Greater(t, len(values), 500)
		nastyValuesEverywhere(t, values)
	})
}

func TestNastyValuesBreakNothing(t *testing.T) { nastyValuesEverywhere(t, nastyValues) }

func TestNastyBodiesBreakNothing(t *testing.T) {
	bodies := map[string]string{}
	for verdict, list := range nastyBodies {
		for _, body := range list {
			bodies[body[:min(len(body), 40)]] = body
			if verdict != "either" {
				nastyVerdict(t, body, verdict)
			}
		}
	}
	nastyBodiesEverywhere(t, bodies)
}

// nastyValues are texts that something somewhere takes for more than a text.
var nastyValues = []string{
	"", " ", "  x  ", ".", "..", "...", "/", "//", "a/b", "../../etc/passwd", `..\..`, "a%2Fb", "%", "%%", "%00", "%2e%2e", "%zz", "+", "a+b",
	"me", "ME", ".system", ".anonymous", ".deleted", ".System", "*", ",", "a,b", ",,", ";", "a;b", "?", "#", "&", "=", "a=b&c=d", ":", "::", "@",
	"null", "true", "0", "-1", "1e400", "NaN", "undefined", "__proto__", "constructor", "[]", "{}", `{"a":1}`, `"`, `'`, `\`, `\"`, "`",
	"<script>alert(1)</script>", "' OR 1=1 --", "$(id)", "${x}", "{{x}}", "%s%n", "\r\nX-Injected: 1", "a\nb", "\t", "\x01", "\x7f", "\x00", "a\x00b",
	"\u0085", "\u00a0", "\u00ad", "\u200b", "\u200f", "\u202e", "\u2028", "\u2029", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\u0378", "\ue000",
	"é", "e\u0301", "ß", "ſ", "\u212a", "ı", "İ", "ﷺ", "田中さん", "😀", "👨\u200d👩\u200d👧", "Z\u0351\u036b\u0343\u036a", "مرحبا", "א",
	"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\xae", "\xf5\x80\x80\x80",
	"email:", "tele:", "email:a@b.example", "EMAIL:a@b.example", "email:a@b.example,tele:+3222345678", "tele:+3222345678", "tele:+00000000", "email:@", "email:a@b.example ",
	"W/\"1\"", `"1"`, `"18446744073709551615"`, `"1","2"`, "Bearer", "Bearer ", "Basic :", "Auth a:b", "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "..", "=;=",
	"application/json", "text/event-stream", "gzip", "cross-site", "Mon, 02 Jan 2006 15:04:05 GMT",
	strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("é", 128), strings.Repeat("x", 4000), strings.Repeat("a,", 99) + "a", strings.Repeat("a,", 100) + "a",
}

// nastyBodies are bodies by what the reader has to say of them.
var nastyBodies = map[string][]string{
	"must_accept": {
		`{}`, `[]`, `[[]]`, `0`, `-0`, `1E+2`, `true`, `null`, `"\ud83d\ude00"`, `"\\u0000"`, "\r\n\t {}", `{"":{"":{"":0}}}`, `[null,1,"x",[],{}]`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64), `{"a":` + strings.Repeat("9", 10_000) + `}`, `"` + strings.Repeat("x", 60_000) + `"`,
	},
	"must_reject": {
		` `, `{`, `[`, `]`, `,`, `[1,]`, `{"a"}`, `{"a":}`, `{} {}`, `[1]x`, `{"a":1,"a":1}`, `{"a":1,"A":1}`, `"\ud800"`, `"\u0000"`, "\"\x00\"", "\xff", "\"\xed\xa0\x80\"",
		"\ufeff{}", `{'a':1}`, `[01]`, `[1.]`, `[.1]`, `[+1]`, `[NaN]`, `[0x1]`, `[1e]`, "[\"\t\"]", `["\x00"]`, `/**/{}`, "\x1e{}",
		strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat("[", 60_000), strings.Repeat(`{"a":`, 10_000), `"` + strings.Repeat("x", 64<<10) + `"`,
	},
	"either": {`{"a":1e400}`, `{"a":0.0000000000000000001}`, `[-1e-400]`, `["\uffff"]`},
}

// nasty is a directory with Alice, who has a token, an attribute and a locator.
type nasty struct {
	*api
	t     *testing.T
	alice denizen.UserID
	bob   denizen.UserID
	token string
	tried int
	turn  int
	part  int
}

// some returns a quarter of values, with each call another one, so that every value is tried in
// many places; in the long form all of them.
func (n *nasty) some(values []string) []string {
	n.part++
	var some []string
	for i, value := range values {
		if every := long.Of(4, 1); (i+n.part)%every == 0 {
			some = append(some, value)
		}
	}
	return some
}

func newNasty(t *testing.T) *nasty {
	closing := make(chan struct{})
	close(closing) // a stream ends once it has begun
	n := &nasty{api: newAPI(t, denizen.Options{UserEventBurst: 1_000_000}, httpadapter.Options{Signed: true, Closing: closing}), t: t}
	alice := denizentest.User(t, n.dir, "Alice", denizen.Email("alice@example.org"))
	n.alice, n.bob = alice.ID, denizentest.User(t, n.dir, "Bob").ID
	n.token = denizentest.Token(t, n.dir, alice.ID)
	_, err := n.dir.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "key"})
	require.NoError(t, err)
	_, err = n.dir.SetAttribute(t.Context(), denizen.System(), alice.ID, denizen.Attribute{Key: "key", Value: "value"})
	require.NoError(t, err)
	return n
}

// user makes Alice send the request.
func (n *nasty) user(r *http.Request) { r.Header.Add("Authorization", "Bearer "+n.token) }

// cookie makes Alice's browser send the request.
func (n *nasty) cookie(r *http.Request) {
	r.Header.Add("Cookie", httpadapter.CookieName+"="+n.token)
}

// held sends a request and holds the answer to be none of a failure, and in JSON.
func (n *nasty) held(r *http.Request) answer {
	n.t.Helper()
	a := n.send(r)
	n.tried++
	about := r.Method + " " + r.RequestURI
	require.Less(n.t, a.status, 500, "%s\n%s", about, a.body)
	require.True(n.t, a.status >= 200 && a.status < 300 || a.status == 304 || a.status >= 400, "%s: %d", about, a.status)
	require.NotContains(n.t, a.header, "X-Injected")
	for name, values := range a.header {
		for _, value := range values {
			require.True(n.t, httpguts.ValidHeaderFieldValue(value), "%s: %s: %q", about, name, value)
		}
	}
	switch {
	case r.Method == http.MethodHead, a.status == 204, a.status == 304:
		require.Empty(n.t, a.body, about)
	case a.status >= 400:
		require.Equal(n.t, "application/json", a.header.Get("Content-Type"), about)
		p := decode[problem](n.t, a, a.status)
		require.NotEmpty(n.t, p.ErrorCode, about)
		a.refused(n.t, a.status, p.ErrorCode)
	case a.header.Get("Content-Type") == "text/event-stream":
		require.Equal(n.t, "no-store", a.header.Get("Cache-Control"), about)
	case strings.HasPrefix(a.header.Get("Content-Type"), "text/html"):
		require.Contains(n.t, r.URL.Path, "/logout")
	default:
		require.Equal(n.t, "application/json", a.header.Get("Content-Type"), about)
		require.True(n.t, json.Valid([]byte(a.body)), "%s\n%s", about, a.body)
	}
	require.True(n.t, utf8.ValidString(a.body), about)
	if a.status == 204 && strings.HasSuffix(r.URL.Path, "/logout") {
		if _, err := n.dir.Authenticate(n.t.Context(), n.token); err == nil {
			return a // it was another that ended
		}
		n.token = denizentest.Token(n.t, n.dir, n.alice)
	}
	return a
}

// ask makes and sends a request, if net/http takes the target for one.
func (n *nasty) ask(method, target, body string, edits ...edit) (a answer, sent bool) {
	n.t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return a, false
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL, r.RequestURI = u, target
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(r)
	}
	return n.held(r), true
}

// sent is ask for what net/http does take.
func (n *nasty) sent(method, target, body string, edits ...edit) answer {
	n.t.Helper()
	a, sent := n.ask(method, target, body, edits...)
	require.True(n.t, sent, target)
	return a
}

// callers are who sends each request: the application and a user, or without the corpora, so that it
// takes no longer, one of them in turn.
func (n *nasty) callers() []edit {
	if os.Getenv("DENIZEN_CORPORA") != "" {
		return []edit{app, n.user}
	}
	n.turn++
	return []edit{app, n.user}[n.turn%2:][:1]
}

// A nastyRoute is a route with each of its parameters filled in.
type nastyRoute struct{ method, pattern string }

// nastyRoutes are the routes of the golden list.
func nastyRoutes(t *testing.T) (list []nastyRoute) {
	data, err := os.ReadFile("testdata/routes.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		method, pattern, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok)
		list = append(list, nastyRoute{method, pattern})
	}
	require.Greater(t, len(list), 30)
	return list
}

func (r nastyRoute) takesBody() bool { return r.method != "GET" && r.method != "DELETE" && !r.erases() }

func (r nastyRoute) erases() bool { return strings.HasSuffix(r.pattern, "/erasure") }

// parameters are the names of the pattern's parameters.
func (r nastyRoute) parameters() (names []string) {
	for segment := range strings.SplitSeq(r.pattern, "/") {
		if strings.HasPrefix(segment, "{") {
			names = append(names, segment)
		}
	}
	return names
}

// path fills in the pattern: a name that is given by its value, others by what is there.
func (r nastyRoute) path(n *nasty, given ...string) string {
	user := n.alice
	if r.method == "PATCH" || r.method == "DELETE" || r.erases() {
		user = n.bob
	}
	names := append(given,
		"{userId}", url.PathEscape(string(user)), "{userIds}", url.PathEscape(string(user)),
		"{applicationId}", n.dir.ApplicationID(), "{accessKey}", "no-such-key", "{keyId}", "no-such-key",
		"{key}", "key", "{keys}", "key", "{locatorId}", "no-such-locator", "{tokenId}", "no-such-token", "{tokenIds}", "no-such-token",
	)
	return strings.NewReplacer(names...).Replace(r.pattern)
}

// A nastyPlace is a body with a place in it, where the mark is, for any JSON.
type nastyPlace struct{ method, pattern, body string }

const mark = "§"

var nastyPlaces = []nastyPlace{
	{"POST", "/v1/users", `{"userId":§,"screenName":{"screenName":"x"}}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":§}}`},
	{"POST", "/v1/users", `{"screenName":§}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"userLocators":§}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"userLocators":[§]}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"userLocators":[{"locator":§}]}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"entityProfile":§}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"entityProfile":{"attributes":§}}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"entityProfile":{"attributes":[{"key":§,"value":"x"}]}}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"entityProfile":{"attributes":[{"key":"key","value":§}]}}`},
	{"POST", "/v1/users", `{"screenName":{"screenName":"x"},"identifier":§,"blocked":§,"auditInfo":§}`},
	{"PATCH", "/v1/users/{userId}", `{"blocked":§}`},
	{"POST", "/v1/users/{userId}/merge", `{"into":§}`},
	{"POST", "/v1/users/{userId}/merge", `{"into":"nobody-9","policy":§}`},
	{"POST", "/v1/users/{userId}/merge", `{"into":"nobody-9","policy":{"attributes":§}}`},
	{"POST", "/v1/users/{userId}/merge", `{"into":"nobody-9","policy":{"aliasTtl":§}}`},
	{"POST", "/v1/users/{userId}/merge", `{"into":"nobody-9","policy":{"aliasForever":§}}`},
	{"PUT", "/v1/users/{userId}/screenname", `{"screenName":§}`},
	{"POST", "/v1/users/{userId}/locators", `§`},
	{"POST", "/v1/users/{userId}/locators", `{"locator":§}`},
	{"POST", "/v1/users/{userId}/locators", `{"@type":§,"email":"a@b.example"}`},
	{"POST", "/v1/users/{userId}/locators", `{"@type":"email","email":§}`},
	{"POST", "/v1/users/{userId}/locators", `{"@type":"tele","phoneNumber":§}`},
	{"POST", "/v1/users/{userId}/locators", `{"locator":"email:a@b.example","verificationStatus":§}`},
	{"PUT", "/v1/users/{userId}/locators", `§`},
	{"PUT", "/v1/users/{userId}/locators", `[§]`},
	{"PUT", "/v1/users/{userId}/locators", `[§,§]`},
	{"POST", "/v1/attribute-def/users", `{"key":§}`},
	{"POST", "/v1/attribute-def/users", `{"type":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another","allowedContentTypes":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 1","allowedContentTypes":[§]}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 2","allowedContentEncodings":[§]}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 3","canBeEmpty":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 4","entityType":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 5","maxBytes":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 6","visibleTo":§}`},
	{"POST", "/v1/attribute-def/users", `{"key":"another 7","writableBy":§}`},
	{"POST", "/v1/users/{userId}/profile", `{"attributes":§}`},
	{"POST", "/v1/users/{userId}/profile", `{"attributes":[§]}`},
	{"POST", "/v1/users/{userId}/profile", `{"attributes":[{"key":§,"value":"x"}]}`},
	{"POST", "/v1/users/{userId}/profile", `{"attributes":[{"key":"key","value":§}]}`},
	{"POST", "/v1/users/{userId}/profile", `{"attributes":[],"patchType":§}`},
	{"POST", "/v1/users/{userId}/profile/{key}", `{"value":§}`},
	{"POST", "/v1/users/{userId}/profile/{key}", `{"key":§,"value":"x"}`},
	{"POST", "/v1/users/{userId}/profile/{key}", `{"value":"x","contentType":§}`},
	{"POST", "/v1/users/{userId}/profile/{key}", `{"value":"x","contentEncoding":§}`},
	{"POST", "/v1/users/{userId}/presence", `{"type":§}`},
	{"POST", "/v1/users/{userId}/presence", `{"type":"x","device":§}`},
	{"POST", "/v1/users/{userId}/presence", `{"type":"x","timeToLive":§}`},
	{"POST", "/v1/users/{userId}/presence", `{"type":"x","timeToLive":10,"expiresTo":§}`},
	{"POST", "/v1/users/{userId}/presence", `{"type":"x","timeToLive":10,"expiresTo":{"type":§}}`},
	{"POST", "/v1/users/{userId}/tokens", `{"ttl":§}`},
	{"POST", "/v1/users/{userId}/tokens", `{"label":§}`},
	{"POST", "/v1/applications/{applicationId}/accessKeys", `{"key":§}`},
	{"PATCH", "/v1/users/{userId}/tokens/{tokenId}", `{"ttl":§}`},
}

// nastyVerdict holds the reader to a verdict on a body. Creating an access key reads its body and
// does nothing with it.
func nastyVerdict(t *testing.T, body, verdict string) string {
	t.Helper()
	n := newNasty(t)
	a := n.sent("POST", "/v1/applications/"+n.dir.ApplicationID()+"/accessKeys", body, app)
	switch verdict {
	case "must_accept":
		if strings.Contains(a.body, "U+0000") {
			a.refused(t, 400, "invalid_input_syntax")
			require.Contains(t, body, `\u0000`)
			return "refused for U+0000"
		}
		require.Equal(t, 201, a.status, "%q: %s", body, a.body)
	case "must_reject":
		switch {
		case len(body) > 64<<10:
			a.refused(t, 413, "limit_exceeded")
		case body == "":
			require.Equal(t, 201, a.status) // there is no body
		default:
			require.Equal(t, 400, a.status, "%q", body)
			a.refused(t, 400, "invalid_input_syntax")
		}
	case "either":
		if a.status != 201 {
			a.refused(t, 400, "invalid_input_syntax")
			return "either, refused"
		}
		return "either, accepted"
	default:
		require.Fail(t, "unknown verdict", verdict)
	}
	return verdict
}

// nastyBodiesEverywhere sends each body to every route that takes one, and puts it in every place of
// a body where JSON can stand.
func nastyBodiesEverywhere(t *testing.T, bodies map[string]string) {
	t.Run("as the body", func(t *testing.T) {
		n := newNasty(t)
		for _, route := range nastyRoutes(t) {
			for name, body := range bodies {
				for _, caller := range n.callers() {
					a := n.sent(route.method, route.path(n), body, caller)
					if route.takesBody() && body != "" && !json.Valid([]byte(body)) && !strings.HasSuffix(route.pattern, "/logout") {
						require.Contains(t, []int{400, 413}, a.status, "%s %s %s: %s", route.method, route.pattern, name, a.body)
					}
				}
			}
		}
		t.Log(len(bodies), "bodies, requests:", n.tried)
	})
	t.Run("in the body", func(t *testing.T) {
		n := newNasty(t)
		for _, place := range nastyPlaces {
			path := nastyRoute{place.method, place.pattern}.path(n)
			for _, body := range bodies {
				for _, caller := range n.callers() {
					n.sent(place.method, path, strings.ReplaceAll(place.body, mark, body), caller)
				}
			}
		}
		t.Log(len(bodies), "bodies, requests:", n.tried)
	})
}

// nastyValuesEverywhere puts each value wherever a request can hold one.
func nastyValuesEverywhere(t *testing.T, values []string) {
	t.Run("JSON value", func(t *testing.T) {
		n := newNasty(t)
		for _, place := range nastyPlaces {
			path := nastyRoute{place.method, place.pattern}.path(n)
			for _, value := range n.some(values) {
				for _, caller := range n.callers() {
					for _, quoted := range []string{quote(value), quoteBytes(value)} {
						n.sent(place.method, path, strings.ReplaceAll(place.body, mark, quoted), caller)
					}
				}
			}
		}
		t.Log(len(values), "values, requests:", n.tried)
	})
	t.Run("JSON member", func(t *testing.T) {
		n := newNasty(t)
		for _, route := range nastyRoutes(t) {
			if !route.takesBody() {
				continue
			}
			for _, value := range n.some(values) {
				for _, body := range []string{`{§:"x"}`, `{"screenName":{"screenName":"x",§:1},§:{}}`, `{"type":"x","key":"key","value":"x","attributes":[{§:§}],§:§}`} {
					for _, caller := range n.callers() {
						n.sent(route.method, route.path(n), strings.ReplaceAll(body, mark, quoteBytes(value)), caller)
					}
				}
			}
		}
		t.Log(len(values), "values, requests:", n.tried)
	})
	t.Run("whole body", func(t *testing.T) {
		n := newNasty(t)
		for _, route := range nastyRoutes(t) {
			for _, value := range n.some(values) {
				for _, caller := range n.callers() {
					n.sent(route.method, route.path(n), value, caller)
				}
			}
		}
		t.Log(len(values), "values, requests:", n.tried)
	})
	t.Run("path", func(t *testing.T) { nastyPaths(t, values) })
	t.Run("query", func(t *testing.T) { nastyQueries(t, values) })
	t.Run("header", func(t *testing.T) { nastyHeaders(t, values) })
	t.Run("attribute value", func(t *testing.T) { nastyAttributeValues(t, values) })
	t.Run("attribute key", func(t *testing.T) { nastyAttributeKeys(t, values) })
	t.Run("screen name", func(t *testing.T) { nastyScreenNames(t, values) })
	t.Run("user id", func(t *testing.T) { nastyUserIDs(t, values) })
	t.Run("locator", func(t *testing.T) { nastyLocators(t, values) })
	t.Run("presence and token", func(t *testing.T) { nastyNames(t, values) })
	t.Run("idempotency key", func(t *testing.T) { nastyIdempotencyKeys(t, values) })
}

// quote spells a value in JSON. What is not UTF-8 becomes U+FFFD.
func quote(value string) string {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// quoteBytes spells a value in JSON with nothing but what must be escaped escaped, and bytes that
// are not UTF-8 as they are.
func quoteBytes(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func nastyPaths(t *testing.T, values []string) {
	n := newNasty(t)
	for _, route := range nastyRoutes(t) {
		body := ""
		if route.takesBody() {
			body = `{"screenName":"x","type":"x","value":"x","attributes":[],"ttl":1,"blocked":false}`
		}
		for _, parameter := range append(route.parameters(), "") {
			for _, value := range n.some(values) {
				for _, segment := range []string{url.PathEscape(value), encodeAll(value), value} {
					path := route.path(n, parameter, segment)
					if parameter == "" {
						path = route.path(n) + "/" + segment
					}
					for _, caller := range n.callers() {
						n.ask(route.method, path, body, caller)
					}
				}
			}
		}
	}
	t.Log(len(values), "values, requests:", n.tried)
}

// encodeAll percent-encodes every byte.
func encodeAll(value string) string {
	var b strings.Builder
	for i := range len(value) {
		fmt.Fprintf(&b, "%%%02X", value[i])
	}
	return b.String()
}

func nastyQueries(t *testing.T, values []string) {
	n := newNasty(t)
	names := []string{"locators", "limit", "after", "withProfileAttributes", "sandboxed", "shouldFetchMetadata"}
	for _, route := range nastyRoutes(t) {
		if route.method != "GET" || strings.HasSuffix(route.pattern, ".json") || strings.HasSuffix(route.pattern, "/logout") {
			continue
		}
		path := route.path(n)
		for _, value := range n.some(values) {
			escaped := url.QueryEscape(value)
			queries := []string{value, escaped, escaped + "=" + escaped}
			for _, name := range names {
				if route.pattern != "/v1/users" && route.pattern != "/v1/users/{userId}" {
					break // nothing of the query is read
				}
				queries = append(queries, name+"="+escaped, name+"="+value, name+"="+escaped+"&"+name+"="+escaped, escaped+"=1&"+name+"=1")
			}
			for _, query := range queries {
				for _, caller := range n.callers() {
					n.ask(route.method, path+"?"+query, "", caller)
				}
			}
		}
	}
	t.Log(len(values), "values, requests:", n.tried)
}

func nastyHeaders(t *testing.T, values []string) {
	n := newNasty(t)
	alice := "/v1/users/" + string(n.alice)
	type route struct{ method, path, body string }
	routes := []route{{"GET", alice, ""}, {"POST", "/v1/users", `{"screenName":{"screenName":"x"}}`}}
	also := map[string][]route{
		"If-Match":       {{"PUT", alice + "/screenname", `{"screenName":"x"}`}, {"POST", alice + "/profile", `{"attributes":[]}`}},
		"If-None-Match":  {{"HEAD", alice, ""}, {"GET", alice + "/profile", ""}},
		"Accept":         {{"GET", alice + "/presence", ""}, {"GET", "/v1/events", ""}},
		"Content-Type":   {{"POST", alice + "/tokens", ""}, {"GET", "/v1/.well-known/jwks.json", ""}},
		"Authorization":  {{"POST", "/v1/users/me/logout", ""}, {"GET", "/v1/events", ""}},
		"Sec-Fetch-Site": {{"GET", "/v1/users/me/logout", ""}, {"POST", "/v1/users/me/logout", ""}},
		"Sec-Fetch-Mode": {{"GET", "/v1/users/me/logout", ""}},
		"Sec-Purpose":    {{"GET", "/v1/users/me/logout", ""}},
		"Origin":         {{"POST", "/v1/users/me/logout", ""}},
	}
	names := []string{
		"Authorization", "X-Issued-Mitter-User-Authorization", "X-Mitter-Sudo-User-Id", "X-Mitter-Application-Id", "X-Mitter-Application-Access-Key",
		"Nonce", "Content-Md5", "Date", "Cookie", "Content-Type", "Content-Encoding", "Idempotency-Key", "If-Match", "If-None-Match", "Accept",
		"X-Request-Id", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Purpose", "Origin",
	}
	permitted := 0
	for _, value := range values {
		value = strings.Trim(value, " \t") // as net/http does
		if !httpguts.ValidHeaderFieldValue(value) {
			continue
		}
		permitted++
		var headers []http.Header
		for _, name := range names {
			headers = append(headers, http.Header{name: {value}}, http.Header{name: {value, value}}, http.Header{name: {"", value}})
		}
		for _, scheme := range []string{"Bearer ", "bearer  ", "Basic ", "Auth ", "Auth " + appKey + ":", "Digest "} {
			headers = append(headers, http.Header{"Authorization": {scheme + value}})
		}
		for _, name := range []string{httpadapter.CookieName, contractCookie} {
			headers = append(headers, http.Header{"Cookie": {name + "=" + value}}, http.Header{"Cookie": {name + `="` + value + `"; ` + value}})
		}
		headers = append(headers,
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(value))}},
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(appKey+":"+value))}},
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(value+":"+appSecret))}},
			http.Header{
				"Authorization": {"Auth " + value + ":" + value}, "X-Mitter-Application-Access-Key": {value},
				"Nonce": {value}, "Date": {value}, "Content-Md5": {value},
			},
			http.Header{
				"Authorization": {"Auth " + appKey + ":" + value}, "X-Mitter-Application-Access-Key": {appKey},
				"Nonce": {value}, "Date": {value}, "Content-Md5": {"1B2M2Y8AsgTpgAmY7PhCfg=="},
			},
		)
		for i, extra := range headers {
			if (i+permitted)%long.Of(4, 1) != 0 {
				continue
			}
			asked := routes
			for name := range extra {
				asked = append(asked[:len(asked):len(asked)], also[name]...)
			}
			for _, route := range asked {
				caller := []edit{nobody, app, n.user, n.cookie}[n.tried%4]
				a := n.sent(route.method, route.path, route.body, caller, func(r *http.Request) {
					for name, values := range extra {
						for _, value := range values {
							r.Header.Add(name, value)
						}
					}
				})
				if extra["Authorization"] != nil && !strings.HasSuffix(route.path, "/logout") {
					require.GreaterOrEqual(t, a.status, 400, "%v", extra)
				}
			}
		}
	}
	t.Log(permitted, "values, requests:", n.tried)
}

func nobody(*http.Request) {}

// storable reports whether a text may be stored as an attribute's value.
func storable(value string) bool {
	return utf8.ValidString(value) && !strings.Contains(value, "\x00")
}

func nastyAttributeValues(t *testing.T, values []string) {
	n := newNasty(t)
	path := "/v1/users/" + url.PathEscape(string(n.alice)) + "/profile"
	stored := 0
	for i, value := range values {
		caller := []edit{app, n.user}[i%2]
		for _, quoted := range []string{quoteBytes(value), quote(value)} {
			a := n.sent("POST", path+"/key", `{"value":`+quoted+`}`, caller)
			if !storable(value) {
				if quoted == quoteBytes(value) {
					a.refused(t, 400, "invalid_input_syntax")
				}
				continue
			}
			require.Equal(t, 204, a.status, "%q: %s", value, a.body)
			got := decode[[]struct{ Value string }](t, n.sent("GET", path+"/key", "", caller), 200)
			require.Equal(t, value, got[0].Value)
			stored++
		}
		if !storable(value) {
			continue
		}
		require.Equal(t, 204, n.sent("POST", path, `{"attributes":[{"key":"key","value":`+quote(value)+`}],"patchType":"replace"}`, caller).status)
		profile := decode[struct{ Attributes []struct{ Value string } }](t, n.sent("GET", path, "", caller), 200)
		require.Equal(t, value, profile.Attributes[0].Value)
		user := decode[struct {
			EntityProfile struct{ Attributes []struct{ Value string } }
		}](t, n.sent("GET", "/v1/users/"+string(n.alice)+"?withProfileAttributes=key", "", caller), 200)
		require.Equal(t, value, user.EntityProfile.Attributes[0].Value)
	}
	t.Log(len(values), "values, stored:", stored)
	require.Positive(t, stored)
}

func nastyAttributeKeys(t *testing.T, values []string) {
	n := newNasty(t)
	profile := "/v1/users/" + url.PathEscape(string(n.alice)) + "/profile"
	stored := 0
	seen := map[string]bool{"key": true}
	for _, value := range values {
		a := n.sent("POST", "/v1/attribute-def/users", `{"key":`+quoteBytes(value)+`}`, app)
		if a.status != 201 {
			continue
		}
		require.False(t, seen[value], value)
		created := decode[struct{ Identifier string }](t, a, 201)
		require.Equal(t, value, created.Identifier)
		at := follow(t, "/v1/attribute-def/users", a)
		got := n.sent("GET", at, "", n.user)
		require.Equal(t, 200, got.status, "%q at %s: %s", value, at, got.body)
		require.Equal(t, value, decode[struct{ Key string }](t, got, 200).Key)

		key := url.PathEscape(value)
		require.Equal(t, 204, n.sent("POST", profile+"/"+key, `{"key":`+quote(value)+`,"value":"x"}`, n.user).status, value)
		attribute := decode[[]struct{ Key, Value string }](t, n.sent("GET", profile+"/"+key, "", n.user), 200)
		require.Equal(t, []struct{ Key, Value string }{{value, "x"}}, attribute)
		if value != "*" {
			user := decode[struct {
				EntityProfile struct{ Attributes []struct{ Key string } }
			}](t, n.sent("GET", "/v1/users/me?withProfileAttributes="+url.QueryEscape(value), "", n.user), 200)
			require.Equal(t, []struct{ Key string }{{value}}, user.EntityProfile.Attributes)
		}
		require.Equal(t, 409, n.sent("DELETE", at, "", app).status, value)
		require.Equal(t, 204, n.sent("DELETE", profile+"/"+key, "", n.user).status, value)
		require.Equal(t, 204, n.sent("DELETE", at, "", app).status, value)
		stored++
	}
	t.Log(len(values), "values, stored:", stored)
	require.Positive(t, stored)
}

// follow answers where the Location of an answer leads from the path that was asked.
func follow(t *testing.T, from string, a answer) string {
	t.Helper()
	base, err := url.Parse("http://example.com" + from)
	require.NoError(t, err)
	to, err := base.Parse(a.header.Get("Location"))
	require.NoError(t, err)
	return to.RequestURI()
}

func nastyScreenNames(t *testing.T, values []string) {
	n := newNasty(t)
	stored := 0
	for i, value := range values {
		caller := []edit{app, n.user}[i%2]
		at := "/v1/users/" + url.PathEscape(string(n.alice))
		if n.sent("PUT", at+"/screenname", `{"screenName":`+quoteBytes(value)+`}`, caller).status != 204 {
			require.NotEqual(t, 201, n.sent("POST", "/v1/users", `{"screenName":{"screenName":`+quoteBytes(value)+`}}`, app).status)
			continue
		}
		stored++
		user := decode[struct{ ScreenName struct{ ScreenName string } }](t, n.sent("GET", at, "", caller), 200)
		require.Equal(t, norm.NFC.String(value), user.ScreenName.ScreenName)
		names := decode[struct{ ScreenNames []struct{ ScreenName string } }](t, n.sent("GET", at+"/screenname", "", caller), 200)
		require.Equal(t, norm.NFC.String(value), names.ScreenNames[0].ScreenName)
		a := n.sent("POST", "/v1/users", `{"screenName":{"screenName":`+quote(value)+`}}`, app)
		require.Equal(t, 201, a.status, a.body)
		user = decode[struct{ ScreenName struct{ ScreenName string } }](t, n.sent("GET", follow(t, "/v1/users", a), "", app), 200)
		require.Equal(t, norm.NFC.String(value), user.ScreenName.ScreenName)
	}
	t.Log(len(values), "values, stored:", stored)
	require.Positive(t, stored)
}

func nastyUserIDs(t *testing.T, values []string) {
	n := newNasty(t)
	created := 0
	for _, value := range values {
		for _, id := range []string{value, "someone-" + value, value + "-someone"} {
			_, err := denizen.ParseUserID(id)
			a := n.sent("POST", "/v1/users", `{"userId":`+quoteBytes(id)+`,"screenName":{"screenName":"x"}}`, app)
			byPath, asked := n.ask("GET", "/v1/users/"+url.PathEscape(id), "", app)
			actedFor := n.sent("GET", "/v1/users/me", "", app, func(r *http.Request) { r.Header.Set("X-Mitter-Sudo-User-Id", id) })
			if err != nil {
				require.Equal(t, 400, a.status, "%q: %s", id, a.body)
				require.GreaterOrEqual(t, actedFor.status, 400, "%q", id)
				continue
			}
			if a.status == 409 {
				continue
			}
			created++
			require.Equal(t, id, decode[struct{ Identifier string }](t, a, 201).Identifier)
			require.Equal(t, "/v1/users/"+url.PathEscape(id), follow(t, "/v1/users", a))
			require.True(t, asked)
			require.Equal(t, id, decode[struct{ UserID string }](t, byPath, 200).UserID)
			require.Equal(t, id, decode[struct{ UserID string }](t, actedFor, 200).UserID)
			require.Equal(t, 204, n.sent("DELETE", "/v1/users/"+encodeAll(id), "", app).status)
		}
	}
	t.Log(len(values), "values, created:", created)
	require.Positive(t, created)
}

func nastyLocators(t *testing.T, values []string) {
	n := newNasty(t)
	at := "/v1/users/" + url.PathEscape(string(n.alice)) + "/locators"
	added := 0
	for _, value := range values {
		for _, locator := range []string{value, "email:" + value, "tele:" + value, "email:" + value + "@example.net", "email:a@" + value, "email:a@" + value + ".example"} {
			escaped := url.QueryEscape(locator)
			looked := n.sent("GET", "/v1/users?locators="+escaped, "", app)
			byPath, _ := n.ask("GET", "/v1/users/"+url.PathEscape(locator), "", app)
			require.NotEqual(t, 200, byPath.status, locator)
			n.ask("GET", "/v1/users/"+url.PathEscape(locator), "", n.user)
			a := n.sent("POST", at, quoteBytes(locator), app)
			if a.status != 201 {
				require.Equal(t, 400, a.status, "%q: %s", locator, a.body)
				continue
			}
			added++
			require.JSONEq(t, `[]`, looked.body)
			users := decode[[]struct{ UserID denizen.UserID }](t, n.sent("GET", "/v1/users?locators="+escaped, "", app), 200)
			require.Equal(t, n.alice, users[0].UserID)
			user := decode[struct{ UserID denizen.UserID }](t, n.sent("GET", "/v1/users/"+url.PathEscape(locator), "", n.user), 200)
			require.Equal(t, n.alice, user.UserID)
			one := decode[struct{ Locator string }](t, n.sent("GET", follow(t, at, a), "", n.user), 200)
			require.Equal(t, 201, n.sent("POST", at, quote(one.Locator), app).status)
			require.Equal(t, 204, n.sent("DELETE", follow(t, at, a), "", app).status)
		}
	}
	t.Log(len(values), "values, added:", added)
	require.Positive(t, added)
}

func nastyNames(t *testing.T, values []string) {
	n := newNasty(t)
	at := "/v1/users/" + url.PathEscape(string(n.alice))
	stored := 0
	for _, value := range values {
		if n.sent("POST", at+"/presence", `{"type":`+quoteBytes(value)+`}`, n.user).status == 204 {
			stored++
			wired := decode[struct {
				Presence struct{ Presence struct{ Type string } }
			}](t, n.sent("GET", at+"/presence", "", n.user), 200)
			require.Equal(t, value, wired.Presence.Presence.Type)
		}
		// Of several devices the one that is Online is read.
		if n.sent("POST", at+"/presence", `{"type":"mitter.up.Online","timeToLive":1000,"device":`+quoteBytes(value)+`}`, n.user).status == 204 {
			read, err := n.dir.Presence(t.Context(), denizen.System(), n.alice)
			require.NoError(t, err)
			require.Equal(t, value, read.Presence.Device())
			require.Equal(t, 204, n.sent("POST", at+"/presence", `{"type":"zzz","device":`+quoteBytes(value)+`}`, n.user).status)
			require.Equal(t, 204, n.sent("POST", at+"/presence", `{"type":"mitter.up.Offline"}`, n.user).status)
		}
		a := n.sent("POST", at+"/tokens", `{"label":`+quoteBytes(value)+`}`, app)
		if a.status != 201 {
			require.Equal(t, 400, a.status, "%q: %s", value, a.body)
			continue
		}
		id := decode[struct{ UserToken struct{ TokenID string } }](t, a, 201).UserToken.TokenID
		found := false
		for _, token := range decode[[]struct{ TokenID, Label string }](t, n.sent("GET", at+"/tokens", "", n.user), 200) {
			if token.TokenID == id {
				found = true
				require.Equal(t, norm.NFC.String(value), token.Label)
			}
		}
		require.True(t, found)
		require.Equal(t, 204, n.sent("DELETE", at+"/tokens/"+id, "", n.user).status)
	}
	t.Log(len(values), "values, stored:", stored)
	require.Positive(t, stored)
}

func nastyIdempotencyKeys(t *testing.T, values []string) {
	n := newNasty(t)
	accepted := 0
	for _, value := range values {
		value = strings.Trim(value, " \t")
		if !httpguts.ValidHeaderFieldValue(value) {
			continue
		}
		create := func(name string) answer {
			return n.sent("POST", "/v1/users", `{"screenName":{"screenName":"`+name+`"}}`, app, header("Idempotency-Key", value))
		}
		first := create("x")
		if first.status != 201 {
			first.refused(t, 400, "invalid_parameter_set")
			continue
		}
		accepted++
		require.Equal(t, first.body, create("x").body)
		create("y").refused(t, 422, "idempotency_mismatch")
	}
	t.Log(len(values), "values, accepted:", accepted)
	require.Positive(t, accepted)
}
