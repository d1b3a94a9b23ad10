package spec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

const adapter = "../../httpadapter"

func document(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(adapter, "openapi.json"))
	require.NoError(t, err)
	return doc
}

// operations are those of the document, by method and path.
func operations(doc *openapi3.T) map[string]*openapi3.Operation {
	all := make(map[string]*openapi3.Operation)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all[method+" "+path] = op
		}
	}
	return all
}

func TestTheOpenAPIDocumentIsValid(t *testing.T) {
	doc := document(t)
	require.True(t, doc.IsOpenAPI31OrLater())
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableMultiError()))
	// Validate passes these over.
	for name, header := range doc.Components.Headers {
		if example := header.Value.Example; example != nil {
			require.NoError(t, header.Value.Schema.Value.VisitJSON(example), name)
		}
	}
	for name, schema := range doc.Components.Schemas {
		for _, example := range schema.Value.Examples {
			require.NoError(t, schema.Value.VisitJSON(example), name)
		}
	}
}

// The judge below uses the validator that does not compile a schema for every value, and
// which passes over these keywords.
func TestTheOpenAPIDocumentHasNoKeywordThatIsNotJudged(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(adapter, "openapi.json"))
	require.NoError(t, err)
	unjudged := regexp.MustCompile(`"(const|if|then|else|prefixItems|contains|patternProperties|propertyNames|` +
		`dependentRequired|dependentSchemas|unevaluatedItems|unevaluatedProperties|\$defs|\$dynamicRef|contentSchema)":`)
	require.Empty(t, unjudged.FindAllString(string(text), -1))
}

func TestEveryBodyInTheOpenAPIDocumentHasAnExample(t *testing.T) {
	check := func(what string, content openapi3.Content) {
		for kind, media := range content {
			require.NotNil(t, media.Schema, "%s: %s", what, kind)
			require.True(t, media.Example != nil || len(media.Examples) > 0, "%s: %s", what, kind)
		}
	}
	for name, op := range operations(document(t)) {
		if op.RequestBody != nil {
			require.NotEmpty(t, op.RequestBody.Value.Content, name)
			check(name, op.RequestBody.Value.Content)
		}
		for status, response := range op.Responses.Map() {
			check(name+" "+status, response.Value.Content)
		}
	}
}

func TestEveryOperationOfTheOpenAPIDocumentHasItsOwnName(t *testing.T) {
	seen := make(map[string]string)
	for name, op := range operations(document(t)) {
		require.Regexp(t, "^[a-z][A-Za-z]+$", op.OperationID, name)
		require.Empty(t, seen[op.OperationID], name)
		seen[op.OperationID] = name
	}
}

// exchange is a request and its response, as the adapter's tests write them down.
type exchange struct {
	Method         string      `json:"method"`
	Target         string      `json:"target"` // path and query as sent, from /v1 on
	Header         http.Header `json:"header"`
	Body           []byte      `json:"body"`
	Status         int         `json:"status"`
	ResponseHeader http.Header `json:"responseHeader"`
	ResponseBody   []byte      `json:"responseBody"`
}

// judge holds exchanges against the document.
type judge struct {
	paths   []judgedPath // those with more fixed segments first
	unknown *openapi3.Schema
	method  *openapi3.Response // the response to a method that a path does not have
}

type judgedPath struct {
	path     string
	segments []string
	item     *openapi3.PathItem
}

func newJudge(doc *openapi3.T) *judge {
	j := &judge{
		unknown: doc.Components.Schemas["Error"].Value,
		method:  doc.Components.Responses["MethodNotAllowed"].Value,
	}
	for path, item := range doc.Paths.Map() {
		j.paths = append(j.paths, judgedPath{path, strings.Split(path, "/"), item})
	}
	slices.SortFunc(j.paths, func(a, b judgedPath) int {
		if n := strings.Count(a.path, "{") - strings.Count(b.path, "{"); n != 0 {
			return n
		}
		return strings.Compare(a.path, b.path)
	})
	return j
}

// match returns the values of the path's parameters, each decoded once. A fixed segment has
// one spelling.
func (p *judgedPath) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(p.segments) {
		return nil, false
	}
	values := make(map[string]string)
	for i, s := range p.segments {
		if !strings.HasPrefix(s, "{") {
			if s != segments[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			value = segments[i]
		}
		if value == "" {
			return nil, false
		}
		values[strings.Trim(s, "{}")] = value
	}
	return values, true
}

// judge returns the operation that x is of, "" for none, and why x does not fit the document.
func (j *judge) judge(x *exchange) (operation string, err error) {
	method := x.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path, query, _ := strings.Cut(x.Target, "?")
	segments := strings.Split(path, "/")
	for i := range j.paths {
		p := &j.paths[i]
		values, ok := p.match(segments)
		if !ok {
			continue
		}
		op := p.item.Operations()[method]
		if op == nil {
			if x.Status == http.StatusMethodNotAllowed {
				return "", fits(x, j.method)
			}
			break
		}
		operation = method + " " + p.path
		response := op.Responses.Status(x.Status)
		if response == nil {
			return operation, errors.New("the status is not declared")
		}
		if err := fits(x, response.Value); err != nil {
			return operation, err
		}
		if x.Status < 200 || x.Status > 299 {
			return operation, nil
		}
		return operation, asked(x, op, values, query)
	}
	switch x.Status {
	case http.StatusBadRequest, http.StatusNotFound:
	default:
		return "", errors.New("the status is none that an unknown route answers")
	}
	if x.Method == http.MethodHead {
		return "", nil
	}
	value, err := decode(x.ResponseHeader, x.ResponseBody)
	if err != nil {
		return "", fmt.Errorf("response body: %w", err)
	}
	return "", short("response body", j.unknown.VisitJSON(value))
}

// fits reports where a response differs from what is declared.
func fits(x *exchange, declared *openapi3.Response) error {
	for _, name := range slices.Sorted(maps.Keys(declared.Headers)) {
		header, values := declared.Headers[name], x.ResponseHeader.Values(name)
		if len(values) == 0 && header.Value.Required {
			return fmt.Errorf("response header %s is missing", name)
		}
		for _, value := range values {
			if err := holds(header.Value.Schema.Value, value); err != nil {
				return short("response header "+name, err)
			}
		}
	}
	if len(declared.Content) == 0 || x.Method == http.MethodHead {
		if len(x.ResponseBody) > 0 {
			return errors.New("response body: there must be none")
		}
		return nil
	}
	return carries(x.ResponseHeader, x.ResponseBody, declared.Content, "response body")
}

// asked reports where a request that was granted differs from what is declared. Unknown
// parameters are ignored, and so is a body where none is declared.
func asked(x *exchange, op *openapi3.Operation, path map[string]string, rawQuery string) error {
	query, _ := url.ParseQuery(rawQuery) // what can be read of it
	for _, ref := range op.Parameters {
		p := ref.Value
		var values []string
		switch p.In {
		case openapi3.ParameterInPath:
			values = []string{path[p.Name]}
		case openapi3.ParameterInQuery:
			values = query[p.Name]
		case openapi3.ParameterInHeader:
			values = x.Header.Values(p.Name)
		default:
			return fmt.Errorf("%s %s: not judged", p.In, p.Name)
		}
		if err := all(p.Schema.Value, values); err != nil {
			return short(p.In+" "+p.Name, err)
		}
	}
	if op.RequestBody == nil {
		return nil
	}
	if len(x.Body) == 0 {
		if op.RequestBody.Value.Required {
			return errors.New("request body is missing")
		}
		return nil
	}
	return carries(x.Header, x.Body, op.RequestBody.Value.Content, "request body")
}

// all reports whether the values of one parameter hold to its schema. Lists are repeated or
// separated by commas; an empty one asks for nothing.
func all(schema *openapi3.Schema, values []string) error {
	if !schema.Type.Is(openapi3.TypeArray) {
		for _, value := range values {
			if err := holds(schema, value); err != nil {
				return err
			}
		}
		return nil
	}
	var list []any
	for _, value := range values {
		if value == "" {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			list = append(list, part)
		}
	}
	if list == nil {
		return nil
	}
	return schema.VisitJSON(list)
}

func holds(schema *openapi3.Schema, text string) error {
	if schema.Type.Is(openapi3.TypeInteger) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		return schema.VisitJSON(float64(n))
	}
	return schema.VisitJSON(text)
}

func carries(header http.Header, body []byte, declared openapi3.Content, what string) error {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("%s: its type: %w", what, err)
	}
	media := declared[kind]
	if media == nil {
		return fmt.Errorf("%s: its type %s is not declared", what, kind)
	}
	value, err := decode(header, body)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return short(what, media.Schema.Value.VisitJSON(value))
}

func decode(header http.Header, body []byte) (value any, err error) {
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind != "application/json" {
		return string(body), nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // one that is ignored may be too large for a float
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more than one value")
	}
	return value, nil
}

// short makes an error of the validator, which prints the whole schema, one line.
func short(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		return fmt.Errorf("%s: /%s: %s", what, strings.Join(e.JSONPointer(), "/"), e.Reason)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func TestEveryExchangeOfTheAdaptersTestsFitsTheDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "exchanges")
	// But for the tests that send thousands of requests of one kind.
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1",
		"-skip", "^(TestEveryCellOf|TestNasty|TestAToken(InAHeader|With|Cut))", "./httpadapter")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "DENIZEN_EXCHANGES="+file, "DENIZEN_LONG=") // every kind of exchange is there
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := os.Open(file)
	require.NoError(t, err, "the adapter's tests wrote no exchange down")
	defer f.Close()
	doc := document(t)
	seen, refusals, err := newJudge(doc).read(f)
	require.NoError(t, err)
	require.NotEmpty(t, seen, "no exchange of a route")
	for _, r := range refusals {
		t.Error(r)
	}
	for name, op := range operations(doc) {
		if grants(op) && !seen[name] {
			t.Errorf("%s: none of the adapter's tests has it answer 2xx", name)
		}
	}
}

func TestEveryOperationIsGrantedToSomebody(t *testing.T) {
	for name, op := range operations(document(t)) {
		require.True(t, grants(op), name)
	}
}

// Only what a user does to itself and adds to the feed, and what reads all of that, is slowed down.
func TestTheOpenAPIDocumentSaysWhatIsRateLimited(t *testing.T) {
	var limited []string
	for _, op := range operations(document(t)) {
		if op.Responses.Status(http.StatusTooManyRequests) != nil {
			limited = append(limited, op.OperationID)
		}
	}
	require.ElementsMatch(t, []string{
		"startVerify", "startReplace", "finishVerify",
		"setScreenName", "addLocator", "removeLocator", "replaceLocator", "setAttributes", "setAttribute", "removeAttribute", "setPresence", "setPresenceHidden", "extendToken", "exportUser",
		"events", "presences", // as streams, of which there are too many at once
	}, limited)
}

// grants reports whether an operation is ever granted.
func grants(op *openapi3.Operation) bool {
	for status := range op.Responses.Map() {
		if strings.HasPrefix(status, "2") {
			return true
		}
	}
	return false
}

// read judges exchanges, one a line. It returns the operations that were seen to succeed, and
// what does not fit: of each kind the first, and how many there are.
func (j *judge) read(r io.Reader) (seen map[string]bool, refusals []string, err error) {
	type refusal struct {
		first string
		times int
	}
	found := make(map[string]*refusal)
	seen = make(map[string]bool)
	d := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	for n := 1; ; n++ {
		var x exchange
		if err := d.Decode(&x); err == io.EOF {
			break
		} else if err != nil {
			return nil, nil, fmt.Errorf("exchange %d: %w", n, err)
		}
		operation, err := j.judge(&x)
		if err == nil {
			if x.Status >= 200 && x.Status <= 299 {
				seen[operation] = true
			}
			continue
		}
		kind := fmt.Sprintf("%s %d: %v", operation, x.Status, err)
		if found[kind] == nil {
			found[kind] = &refusal{first: fmt.Sprintf("%s\n\t%s %.300s\n\tasked: %.500q\n\tanswered: %.500q", kind, x.Method, x.Target, x.Body, x.ResponseBody)}
		}
		found[kind].times++
	}
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		refusals = append(refusals, fmt.Sprintf("%d times %s", found[kind].times, found[kind].first))
	}
	return seen, refusals, nil
}

const (
	peer  = `{"userId":"bob-0002","identifier":"bob-0002","screenName":{"screenName":"Bob"},"userLocators":[],"entityProfile":null}`
	wrong = `{"errorCode":%q,"message":"no","diagnostics":%s,"timestamp":1420070400000,"requestId":"r"}`
)

// answered is an exchange with the headers that every response has.
func answered(method, target, body string, status int, response string, headers ...string) exchange {
	x := exchange{
		Method: method, Target: target, Body: []byte(body), Header: http.Header{}, Status: status,
		ResponseHeader: http.Header{"X-Request-Id": {"r"}}, ResponseBody: []byte(response),
	}
	if body != "" {
		x.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if response != "" {
		x.ResponseHeader.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		x.ResponseHeader.Set(headers[i], headers[i+1])
	}
	return x
}

func TestWhatFitsTheDocumentIsNotRefused(t *testing.T) {
	j := newJudge(document(t))
	html := answered("GET", "/v1/users/me/logout", "", 200, "<p>", "Content-Type", "text/html; charset=utf-8")
	for _, x := range []exchange{
		answered("GET", "/v1/users/bob-0002", "", 200, peer, "ETag", `"1"`),
		answered("GET", "/v1/users/%23bob-0002?withProfileAttributes=*&other=;", "", 200, peer, "ETag", `"1"`),
		answered("HEAD", "/v1/users/me", "", 200, "", "ETag", `"1"`),
		answered("GET", "/v1/users/bob-0002", "", 304, "", "ETag", `"1"`),
		answered("GET", "/v1/users?limit=10&locators=email:a@b.example,tele:%2B14155550123", "", 200, "[]"),
		answered("GET", "/v1/users/me%2Cbob-0002/screenname", "", 200, `{"screenNames":[{"screenName":"A"},{"screenName":"B"}]}`),
		answered("PUT", "/v1/users/tele:+14155550123/screenname", `{"screenName":"A","extra":1}`, 204, ""),
		answered("POST", "/v1/users", `{"screenName":{"screenName":"A"},"userId":null,"userLocators":["email:a@b.example",{"@type":"tele","phoneNumber":"+1 415 555 0123","verificationStatus":3}]}`,
			201, `{"identifier":"bob-0002"}`, "Location", "users/bob-0002"),
		answered("POST", "/v1/users/me/locators", `{"@type":"email","locator":"email:a@b.example","email":"a@b.example","phoneNumber":{}}`,
			201, `{"identifier":"x"}`, "Location", "locators/x"),
		answered("POST", "/v1/users/me/presence", `{"type":"x","timeToLive":1,"expiresTo":null,"expiresToPresence":{"type":"y"}}`, 204, ""),
		answered("POST", "/v1/users/me/presence", strings.Repeat(`{"type":"x","timeToLive":1,"expiresTo":`, 31)+`{"type":"y"}`+strings.Repeat("}", 31), 204, ""),
		answered("POST", "/v1/users/bob-0002/tokens", "", 403, fmt.Sprintf(wrong, "token_issuance_refused", "{}")),
		answered("GET", "/v1/users/me,bob-0002/presence", "", 200, "[]"),
		answered("GET", "/v1/users/me/presence", "", 200, `{"userId":{"identifier":"bob-0002"},"presence":{"presence":{"type":"x","timeToLive":1},"setTimeMs":1000,"setTime":1000,"untilMs":2000}}`),
		answered("GET", "/v1/users/me/devices", "", 200, `[{"device":"","presence":{"presence":{"type":"x","timeToLive":0},"setTimeMs":1000,"setTime":1000}}]`),
		answered("GET", "/v1//users", "", 404, fmt.Sprintf(wrong, "entity_not_found", `{"entityType":"route"}`)),
		answered("DELETE", "/v1/users", "", 405, fmt.Sprintf(wrong, "method_not_allowed", "{}"), "Allow", "GET, HEAD, POST"),
		answered("GET", "/v1/events", "", 406, fmt.Sprintf(wrong, "not_acceptable", "{}")),
		html,
	} {
		_, err := j.judge(&x)
		require.NoError(t, err, "%s %s", x.Method, x.Target)
	}
}

func TestWhatDoesNotFitTheDocumentIsRefused(t *testing.T) {
	j := newJudge(document(t))
	for name, x := range map[string]exchange{
		"undeclared status":              answered("GET", "/v1/users/bob-0002", "", 202, peer, "ETag", `"1"`),
		"undeclared error":               answered("GET", "/v1/users/bob-0002", "", 409, fmt.Sprintf(wrong, "limit_exceeded", "{}")),
		"extra member":                   answered("GET", "/v1/users/bob-0002", "", 200, `{"internalId":"x",`+peer[1:], "ETag", `"1"`),
		"missing member":                 answered("GET", "/v1/users/bob-0002", "", 200, strings.Replace(peer, `"userId":"bob-0002",`, "", 1), "ETag", `"1"`),
		"wrong type":                     answered("GET", "/v1/users/bob-0002", "", 200, strings.Replace(peer, "[]", "{}", 1), "ETag", `"1"`),
		"wrong member inside":            answered("GET", "/v1/users/me/presence", "", 200, `{"userId":{"identifier":"bob-0002"},"presence":{"presence":{"type":"x"},"setTimeMs":0,"setTime":0}}`),
		"device without its name":        answered("GET", "/v1/users/me/devices", "", 200, `[{"presence":{"presence":null,"setTimeMs":0,"setTime":0}}]`),
		"not JSON":                       answered("GET", "/v1/users/bob-0002", "", 200, peer[1:], "ETag", `"1"`),
		"two bodies":                     answered("GET", "/v1/users/bob-0002", "", 200, peer+peer, "ETag", `"1"`),
		"no body":                        answered("GET", "/v1/users/bob-0002", "", 200, "", "ETag", `"1"`),
		"body where there is none":       answered("DELETE", "/v1/users/bob-0002", "", 204, "{}"),
		"body to HEAD":                   answered("HEAD", "/v1/users/bob-0002", "", 200, peer, "ETag", `"1"`),
		"other content type":             answered("GET", "/v1/users/bob-0002", "", 200, peer, "ETag", `"1"`, "Content-Type", "text/plain"),
		"missing header":                 answered("POST", "/v1/users", `{"screenName":{"screenName":"A"}}`, 201, `{"identifier":"bob-0002"}`),
		"weak entity tag":                answered("GET", "/v1/users/bob-0002", "", 200, peer, "ETag", `W/"1"`),
		"no request id":                  answered("DELETE", "/v1/users/bob-0002", "", 204, "", "X-Request-Id", ""),
		"unknown route granted":          answered("GET", "/v1/nothing", "", 200, "{}"),
		"unknown route by another error": answered("GET", "/v1/nothing", "", 403, fmt.Sprintf(wrong, "missing_privilege", "{}")),
		"unknown route in plain text":    answered("GET", "/v1/nothing", "", 404, "404 page not found", "Content-Type", "text/plain"),
		"unknown method granted":         answered("PATCH", "/v1/users", "{}", 204, ""),
		"unknown method without Allow":   answered("DELETE", "/v1/users", "", 405, fmt.Sprintf(wrong, "method_not_allowed", "{}")),
		"not canonical but granted":      answered("GET", "/v1/users/bob-0002/", "", 200, peer, "ETag", `"1"`),
		"error of another status":        answered("GET", "/v1/users/bob-0002", "", 404, fmt.Sprintf(wrong, "unknown_error", "{}")),
		"error without a request id":     answered("GET", "/v1/users/bob-0002", "", 500, `{"errorCode":"unknown_error","message":"no","diagnostics":{},"timestamp":1}`),
		"diagnostics of another error":   answered("GET", "/v1/users/bob-0002", "", 400, fmt.Sprintf(wrong, "invalid_parameter_set", `{"entityType":"user"}`)),
		"bad id granted":                 answered("DELETE", "/v1/users/.system", "", 204, ""),
		"list granted in a singular":     answered("PUT", "/v1/users/me%2Cbob-0002/screenname", `{"screenName":"A"}`, 204, ""),
		"bad limit granted":              answered("GET", "/v1/users?limit=1001", "", 200, "[]"),
		"limit that is no number":        answered("GET", "/v1/users?limit=ten", "", 200, "[]"),
		"bad locators granted":           answered("GET", "/v1/users?locators=email:a@b.example,bob", "", 200, "[]"),
		"bad body granted":               answered("PUT", "/v1/users/me/screenname", `{"screenName":""}`, 204, ""),
		"null for what is required":      answered("PATCH", "/v1/users/bob-0002", `{"blocked":null}`, 204, ""),
		"no body granted":                answered("PUT", "/v1/users/me/screenname", "", 204, ""),
		"null for a body":                answered("POST", "/v1/users/me/presence", "null", 204, ""),
		"two ways of one member":         answered("POST", "/v1/users/me/presence", `{"type":"x","timeToLive":1,"expiresTo":{"type":"y"},"expiresToPresence":{"type":"y"}}`, 204, ""),
	} {
		_, err := j.judge(&x)
		require.Error(t, err, name)
		t.Log(name, "→", err)
	}
}

func TestExchangesAreReadToTheEndAndTheFirstOfEachKindIsTold(t *testing.T) {
	var lines bytes.Buffer
	good := answered("GET", "/v1/users/bob-0002", "", 200, peer, "ETag", `"1"`)
	bad := answered("GET", "/v1/nothing", "", 200, "{}")
	for _, x := range []exchange{good, bad, bad, good} {
		require.NoError(t, json.NewEncoder(&lines).Encode(x))
	}
	seen, refusals, err := newJudge(document(t)).read(&lines)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"GET /v1/users/{userId}": true}, seen)
	require.Len(t, refusals, 1)
	require.Contains(t, refusals[0], "2 times")
	_, _, err = newJudge(document(t)).read(strings.NewReader(`{"method":`))
	require.Error(t, err)
}

var parameter = regexp.MustCompile(`\{([^}]*)\}`)

func TestTheOpenAPIDocumentHasTheAdaptersRoutesAndNoOthers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(adapter, "testdata", "routes.txt"))
	require.NoError(t, err)
	names := []string{"userId", "userIds", "locatorId", "key", "keys", "applicationId", "accessKey", "keyId", "tokenId", "tokenIds"}
	shape := func(route string) string { return parameter.ReplaceAllString(route, "{}") }
	var served, declared []string
	for route := range strings.Lines(string(text)) {
		route = strings.TrimRight(route, "\r\n")
		require.Regexp(t, "^[A-Z]+ /v1/[^ ]+$", route)
		for _, name := range parameter.FindAllStringSubmatch(route, -1) {
			require.Contains(t, names, name[1], route)
		}
		served = append(served, shape(route))
	}
	for route := range operations(document(t)) {
		for _, name := range parameter.FindAllStringSubmatch(route, -1) {
			require.Contains(t, names, name[1], route)
		}
		declared = append(declared, shape(route))
	}
	slices.Sort(served)
	slices.Sort(declared)
	require.Equal(t, declared, served)
}
