package httpadapter

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/wire"
)

func TestABodyIsOneJSONValue(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`{}`, ""},
		{"\t\n\r {\"a\": [1, true, null, \"x\"]} \n", ""},
		{`"text"`, ""},
		{`1`, ""},
		{`null`, ""},
		{``, "not one JSON value"},
		{` `, "not one JSON value"},
		{`{}{}`, "not one JSON value"},
		{`{} x`, "not one JSON value"},
		{"{}\x00", "not one JSON value"},
		{`{},`, "not one JSON value"},
		{`{"a":1,}`, "not one JSON value"},
		{`[1,]`, "not one JSON value"},
		{`{a:1}`, "not one JSON value"},
		{`{'a':1}`, "not one JSON value"},
		{`{"a":01}`, "not one JSON value"},
		{`{"a":+1}`, "not one JSON value"},
		{`{"a":NaN}`, "not one JSON value"},
		{`{"a":1} // no`, "not one JSON value"},
		{`{"a":"` + "\n" + `"}`, "not one JSON value"},
		{`{"a":"\x41"}`, "not one JSON value"},
		{`{"a":"\u12"}`, "not one JSON value"},
		{`{"a"`, "not one JSON value"},
		{`{"a":"`, "not one JSON value"},
		{"\ufeff{}", "not one JSON value"},
		{"\xff\xfe{\x00}\x00", "not UTF-8"},
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{"{\"\xc3\":1}", "not UTF-8"},
		{"{\"a\":\"\xed\xa0\x80\"}", "not UTF-8"},
		{"{\"a\":\"\xc0\x80\"}", "not UTF-8"},
		{"{\"a\":\"\xf4\x90\x80\x80\"}", "not UTF-8"},
	} {
		strictParse(t, test.body, test.message)
	}
}

func TestNoTwoMembersOfAnObjectHaveOneName(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`{"a":1,"b":2}`, ""},
		{`[{"a":1},{"a":2}]`, ""},
		{`{"a":{"a":1}}`, ""},
		{`{"a":1,"a":1}`, "two members"},
		{`{"a":1,"a":null}`, "two members"},
		{`{"a":1,"A":2}`, "two members"},
		{`{"userId":1,"USERID":2}`, "two members"},
		{`{"a":1,"\u0061":2}`, "two members"},
		{`{"a":1,"\u0041":2}`, "two members"},
		{`{"":1,"":2}`, "two members"},
		{`{"key":1,"Key":2}`, "two members"},
		{`{"` + "K" + `":1,"` + "\u212a" + `":2}`, "two members"}, // the Kelvin sign
		{`{"k":1,"\u212A":2}`, "two members"},
		{`{"s":1,"` + "\u017f" + `":2}`, "two members"}, // the long s
		{`{"S":1,"\u017f":2}`, "two members"},
		{`{"` + "\u017f" + `":1,"` + "\u017f" + `":2}`, "two members"},
		{`{"σ":1,"ς":2}`, "two members"},
		{`{"Σ":1,"ς":2}`, "two members"},
		{`{"å":1,"` + "\u212b" + `":2}`, "two members"}, // the Angstrom sign
		{`{"ß":1,"ẞ":2}`, "two members"},
		{`{"ß":1,"ss":2}`, ""},
		{`{"i":1,"ı":2}`, ""},
		{`{"` + "\u00e9" + `":1,"` + "e\u0301" + `":2}`, ""},
		{`{"a":1,"b":{"c":1,"C":2}}`, "two members"},
		{`{"list":[0,{"c":[{"x":1,"X":2}]}]}`, "two members"},
	} {
		strictParse(t, test.body, test.message)
	}
}

func TestAStringHoldsWholeCharacters(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`"\u0041\n\"\\\/"`, ""},
		{`"\ud83d\ude00"`, ""},
		{`"\uD83D\uDE00\uD83D\uDE00"`, ""},
		{`"\\u0000"`, ""},
		{`"\\ud800"`, ""},
		{`"\\\\ud800"`, ""},
		{`"\ufffd\uffff\u0001"`, ""},
		{`"\u0000"`, "U+0000"},
		{`"a\u0000b"`, "U+0000"},
		{`"\\\u0000"`, "U+0000"},
		{`{"\u0000":1}`, "U+0000"},
		{`"\ud800"`, "surrogate"},
		{`"\uD800"`, "surrogate"},
		{`"\udbff"`, "surrogate"},
		{`"\udc00"`, "surrogate"},
		{`"\uDFFF"`, "surrogate"},
		{`"\ud800\ud800"`, "surrogate"},
		{`"\ud83d\u0041"`, "surrogate"},
		{`"\ud83dx"`, "surrogate"},
		{`"\ud83d\\ude00"`, "surrogate"},
		{`"\ud83d\n\ude00"`, "surrogate"},
		{`"\ude00\ud83d"`, "surrogate"},
		{`["\ud83d","\ude00"]`, "surrogate"},
		{`{"\ud800":1}`, "surrogate"},
		{`{"a":[{"b":"\ud800"}]}`, "surrogate"},
	} {
		strictParse(t, test.body, test.message)
	}
}

func TestABodyNestsSixtyFourDeep(t *testing.T) {
	for _, test := range []struct {
		name, opening, inner, closing string
	}{
		{"lists", `[`, ``, `]`},
		{"lists around a number", `[`, `1`, `]`},
		{"objects", `{"a":`, `{}`, `}`},
		{"objects around a text", `{"a":`, `"x"`, `}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			most := 64
			if test.inner == `{}` {
				most--
			}
			strictParse(t, strings.Repeat(test.opening, most)+test.inner+strings.Repeat(test.closing, most), "")
			most++
			strictParse(t, strings.Repeat(test.opening, most)+test.inner+strings.Repeat(test.closing, most), "too deep")
		})
	}
	strictParse(t, strings.Repeat(`[`, 9999)+strings.Repeat(`]`, 9999), "too deep")
	strictParse(t, strings.Repeat(`[`, 100_000), "not one JSON value")
	strictParse(t, `[`+strings.Repeat(`[],`, 1000)+`[]]`, "")
}

// strictParse holds a body to be read as encoding/json reads it, or to be refused.
func strictParse(t *testing.T, body, message string) {
	t.Helper()
	value, err := parse([]byte(body))
	if message != "" {
		strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", message)
		require.Nil(t, value)
		return
	}
	require.NoError(t, err, "%q", body)
	require.Equal(t, encodingJSON(t, body), value)
}

func encodingJSON(t *testing.T, body string) (value any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	require.NoError(t, d.Decode(&value))
	return value
}

func strictRefusal(t *testing.T, err error, status int, code, message string) {
	t.Helper()
	r, is := errors.AsType[*refusal](err)
	require.True(t, is, "%v is no refusal", err)
	require.Equal(t, status, r.status, r)
	require.Equal(t, code, r.code)
	require.Contains(t, r.message, message)
	require.NoError(t, r.cause)
}

// A strictBody says how a body comes.
type strictBody struct {
	http.Header
	io.Reader
	takes   body
	chunked bool
	limit   int64
}

func (b strictBody) read() (any, error) {
	r := httptest.NewRequest(http.MethodPost, "/", b.Reader)
	if b.chunked {
		r.ContentLength = -1
	}
	if b.Header != nil {
		r.Header = b.Header
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if b.limit == 0 {
		b.limit = 64 << 10
	}
	c := &call{
		h: &handler{options: Options{MaxBody: b.limit}}, w: httptest.NewRecorder(), r: r, route: &route{takes: b.takes},
	}
	return c.input()
}

func TestABodyMayBeAsLongAsTheLimitAndNoLonger(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, limit := range []int64{10, 64 << 10} {
			fits := strings.NewReader(`"` + strings.Repeat("x", int(limit)-2) + `"`)
			_, err := strictBody{Reader: fits, takes: required, chunked: chunked, limit: limit}.read()
			require.NoError(t, err)

			long := strings.NewReader(`"` + strings.Repeat("x", int(limit)-1) + `"`)
			_, err = strictBody{Reader: long, takes: required, chunked: chunked, limit: limit}.read()
			strictRefusal(t, err, http.StatusRequestEntityTooLarge, "limit_exceeded", "too long")
		}
	}
}

func TestSpacesCountAgainstTheLimit(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		_, err := strictBody{Reader: strings.NewReader("{}         "), takes: required, chunked: chunked, limit: 10}.read()
		strictRefusal(t, err, http.StatusRequestEntityTooLarge, "limit_exceeded", "too long")
	}
}

func TestABodyThatIsTooLongBySayingSoIsNotRead(t *testing.T) {
	body := &strictCounter{of: strings.NewReader(strings.Repeat(" ", 1<<20))}
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.ContentLength = 1 << 20
	r.Header.Set("Content-Type", "application/json")
	c := &call{h: &handler{options: Options{MaxBody: 64 << 10}}, w: httptest.NewRecorder(), r: r, route: &route{takes: required}}
	_, err := c.input()
	strictRefusal(t, err, http.StatusRequestEntityTooLarge, "limit_exceeded", "too long")
	require.Zero(t, body.read)
}

func TestABodyThatGoesOnIsReadToTheLimitAlone(t *testing.T) {
	body := &strictCounter{of: io.LimitReader(strictForever{}, 1<<20)}
	_, err := strictBody{Reader: body, takes: required, chunked: true, limit: 1000}.read()
	strictRefusal(t, err, http.StatusRequestEntityTooLarge, "limit_exceeded", "too long")
	require.LessOrEqual(t, body.read, 1001)
}

type strictCounter struct {
	of   io.Reader
	read int
}

func (c *strictCounter) Read(p []byte) (int, error) {
	n, err := c.of.Read(p)
	c.read += n
	return n, err
}

type strictForever struct{}

func (strictForever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What was read before the body broke off may be a whole value: it is still refused.
func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("the connection was reset"), http.ErrBodyReadAfterClose} {
		for _, chunked := range []bool{false, true} {
			broken := io.MultiReader(strings.NewReader("{}"), strictBroken{cause})
			r := httptest.NewRequest(http.MethodPost, "/", broken)
			r.ContentLength = 100
			if chunked {
				r.ContentLength = -1
			}
			r.Header.Set("Content-Type", "application/json")
			c := &call{h: &handler{options: Options{MaxBody: 1000}}, w: httptest.NewRecorder(), r: r, route: &route{takes: required}}
			_, err := c.input()
			strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "ended before its end")
			require.NotContains(t, err.Error(), cause.Error())
		}
	}
}

type strictBroken struct{ cause error }

func (b strictBroken) Read([]byte) (int, error) { return 0, b.cause }

func TestABodyIsReadOnce(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"a":1}`))
	r.Header.Set("Content-Type", "application/json")
	c := &call{h: &handler{options: Options{MaxBody: 1000}}, w: httptest.NewRecorder(), r: r, route: &route{takes: required}}
	first, err := c.body()
	require.NoError(t, err)
	value, err := c.input()
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": json.Number("1")}, value)
	again, err := c.body()
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestABodyIsApplicationJSON(t *testing.T) {
	for _, test := range []struct {
		name   string
		header http.Header
		taken  bool
	}{
		{"plain", http.Header{"Content-Type": {"application/json"}}, true},
		{"charset", http.Header{"Content-Type": {"application/json; charset=utf-8"}}, true},
		{"quoted charset", http.Header{"Content-Type": {`application/json;charset="UTF-8"`}}, true},
		{"any parameter", http.Header{"Content-Type": {"application/json; x=y; z=1"}}, true},
		{"case", http.Header{"Content-Type": {"Application/JSON"}}, true},
		{"spaces", http.Header{"Content-Type": {"  application/json  ; charset=utf-8"}}, true},
		{"identity", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, true},
		{"Identity", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"Identity"}}, true},
		{"missing", http.Header{}, false},
		{"empty", http.Header{"Content-Type": {""}}, false},
		{"twice", http.Header{"Content-Type": {"application/json", "application/json"}}, false},
		{"twice, another", http.Header{"Content-Type": {"application/json", "text/plain"}}, false},
		{"a list", http.Header{"Content-Type": {"application/json, text/plain"}}, false},
		{"text", http.Header{"Content-Type": {"text/json"}}, false},
		{"longer", http.Header{"Content-Type": {"application/jsonp"}}, false},
		{"shorter", http.Header{"Content-Type": {"application/jso"}}, false},
		{"suffix", http.Header{"Content-Type": {"application/problem+json"}}, false},
		{"form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, false},
		{"multipart", http.Header{"Content-Type": {"multipart/form-data; boundary=application/json"}}, false},
		{"in a parameter", http.Header{"Content-Type": {"text/plain; x=application/json"}}, false},
		{"no parameter", http.Header{"Content-Type": {"application/json; charset"}}, false},
		{"parameter twice", http.Header{"Content-Type": {"application/json; a=1; a=2"}}, false},
		{"gzip", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, false},
		{"identity and gzip", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity", "gzip"}}, false},
		{"empty encoding", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {""}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, takes := range []body{required, optional} {
				for _, chunked := range []bool{false, true} {
					value, err := strictBody{test.header, strings.NewReader(`{}`), takes, chunked, 0}.read()
					if test.taken {
						require.NoError(t, err)
						require.Equal(t, map[string]any{}, value)
						continue
					}
					strictRefusal(t, err, http.StatusUnsupportedMediaType, "unsupported_media_type", "application/json")
				}
			}
		})
	}
}

func TestTheTypeOfABodyIsLookedAtBeforeItsLength(t *testing.T) {
	text := http.Header{"Content-Type": {"text/plain"}}
	for _, chunked := range []bool{false, true} {
		_, err := strictBody{text, strings.NewReader(strings.Repeat("x", 100)), required, chunked, 10}.read()
		strictRefusal(t, err, http.StatusUnsupportedMediaType, "unsupported_media_type", "")
	}
}

func TestAnOptionalBodyMayBeEmpty(t *testing.T) {
	for _, header := range []http.Header{{}, {"Content-Type": {"application/json"}}, {"Content-Type": {"text/plain"}}} {
		for _, chunked := range []bool{false, true} {
			value, err := strictBody{header, strings.NewReader(""), optional, chunked, 0}.read()
			require.NoError(t, err)
			require.Nil(t, value)
		}
		value, err := strictBody{header, http.NoBody, optional, false, 0}.read()
		require.NoError(t, err)
		require.Nil(t, value)
	}
}

func TestAnOptionalBodyIsReadStrictlyToo(t *testing.T) {
	for _, body := range []string{` `, `{`, `{}{}`, `{"a":1,"A":2}`} {
		_, err := strictBody{Reader: strings.NewReader(body), takes: optional}.read()
		strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "")
	}
}

func TestABodyThatIsNeededMayNotBeEmpty(t *testing.T) {
	_, err := strictBody{Reader: strings.NewReader(""), takes: required}.read()
	strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "not one JSON value")
	_, err = strictBody{Reader: strings.NewReader(""), takes: required, chunked: true}.read()
	strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "not one JSON value")
}

func TestOnlyAnObjectHasMembers(t *testing.T) {
	for _, body := range []string{`[]`, `"x"`, `1`, `true`, `null`} {
		value, err := parse([]byte(body))
		require.NoError(t, err)
		_, err = asObject(value)
		strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "not an object")
	}
	_, err := asObject(nil)
	strictRefusal(t, err, http.StatusBadRequest, "invalid_input_syntax", "not an object")
}

// strictFields are the members of an object.
func strictFields(t *testing.T, body string) fields {
	t.Helper()
	value, err := parse([]byte(body))
	require.NoError(t, err)
	f, err := asObject(value)
	require.NoError(t, err)
	return f
}

func TestAMemberThatIsNullIsAbsent(t *testing.T) {
	f := strictFields(t, `{"a":null}`)
	require.False(t, f.has("a"))
	require.Empty(t, f.text("a"))
	require.True(t, f.flag("a", true))
	require.False(t, f.flag("a", false))
	require.Zero(t, f.integer("a"))
	require.Zero(t, f.seconds("a"))
	require.Nil(t, f.texts("a"))
	_, there := f.list("a")
	require.False(t, there)
	_, there = f.member("a")
	require.False(t, there)
	require.NoError(t, *f.err)
}

func TestAMemberIsKnownByItsExactName(t *testing.T) {
	for _, body := range []string{`{"SCREENNAME":"x"}`, `{"ScreenName":"x"}`, `{"screenname":"x"}`, `{"screenName ":"x"}`, `{"` + "\u017f" + `creenName":"x"}`} {
		f := strictFields(t, body)
		require.False(t, f.has("screenName"), body)
		require.Empty(t, f.text("screenName"), body)
		require.NoError(t, *f.err)
	}
	require.Equal(t, "x", strictFields(t, `{"\u0073creenName":"x"}`).text("screenName"))
}

func TestAMemberHasItsType(t *testing.T) {
	values := map[string]string{
		"text": `"x"`, "number": `1`, "flag": `true`, "list": `[]`, "object": `{}`, "list of numbers": `[1]`,
		"list with null": `["x",null]`, "text of a number": `"1"`, "text of a flag": `"true"`,
	}
	for _, test := range []struct {
		name  string
		read  func(fields)
		taken []string
	}{
		{"text", func(f fields) { f.text("a") }, []string{"text", "text of a number", "text of a flag"}},
		{"whole", func(f fields) { f.integer("a") }, []string{"number"}},
		{"seconds", func(f fields) { f.seconds("a") }, []string{"number"}},
		{"flag", func(f fields) { f.flag("a", true) }, []string{"flag"}},
		{"list", func(f fields) { f.list("a") }, []string{"list", "list of numbers", "list with null"}},
		{"texts", func(f fields) { f.texts("a") }, []string{"list"}},
		{"inner", func(f fields) { f.member("a") }, []string{"object"}},
	} {
		for kind, value := range values {
			t.Run(test.name+" of "+kind, func(t *testing.T) {
				f := strictFields(t, `{"a":`+value+`}`)
				test.read(f)
				for _, taken := range test.taken {
					if taken == kind {
						require.NoError(t, *f.err)
						return
					}
				}
				strictRefusal(t, *f.err, http.StatusBadRequest, "invalid_input_syntax", "a is not ")
			})
		}
	}
}

func TestTheFirstWrongTypeIsToldOf(t *testing.T) {
	f := strictFields(t, `{"a":1,"b":{"c":1}}`)
	inner, there := f.member("b")
	require.True(t, there)
	inner.text("c")
	f.text("a")
	require.ErrorContains(t, *f.err, "c is not a string")
	require.Same(t, f.err, inner.err)
}

func TestAnElementOfAListOfObjectsIsAnObject(t *testing.T) {
	for _, value := range []string{`1`, `"x"`, `null`, `[]`, `true`} {
		f := strictFields(t, `{"a":[`+value+`]}`)
		list, _ := f.list("a")
		require.Empty(t, f.element(list[0], "a").text("b"))
		strictRefusal(t, *f.err, http.StatusBadRequest, "invalid_input_syntax", "a is not a list of objects")
	}
}

func TestAWholeNumberHasManySpellings(t *testing.T) {
	for _, test := range []struct {
		spelled string
		want    int64
		refused bool
	}{
		{"10", 10, false},
		{"10.0", 10, false},
		{"1e1", 10, false},
		{"1E+1", 10, false},
		{"100e-1", 10, false},
		{"0", 0, false},
		{"-0", 0, false},
		{"-0.0", 0, false},
		{"0e999", 0, false},
		{"-10", -10, false},
		{"9007199254740992.0", 1 << 53, false},
		{"9223372036854775807", 1<<63 - 1, false},
		{"-9223372036854775808", -1 << 63, false},
		{"1.5", 0, true},
		{"-0.1", 0, true},
		{"1e-1", 0, true},
		{"9223372036854775808", 0, true},
		{"1e16", 0, true},
		{"1e400", 0, true},
		{"-1e400", 0, true},
		{"1e999999999999999999999", 0, true},
		{strings.Repeat("9", 1000), 0, true},
	} {
		f := strictFields(t, `{"a":`+test.spelled+`}`)
		require.Equal(t, test.want, f.integer("a"), test.spelled)
		if !test.refused {
			require.NoError(t, *f.err, test.spelled)
			continue
		}
		strictRefusal(t, *f.err, http.StatusBadRequest, "invalid_input_syntax", "a is not a whole number in range")
	}
}

func TestSecondsNeverOverflow(t *testing.T) {
	for _, test := range []struct {
		spelled string
		want    time.Duration
	}{
		{"1", time.Second},
		{"-1", -time.Second},
		{"9223372036", 9223372036 * time.Second},
		{"9223372037", 9223372036 * time.Second},
		{"9223372036854775807", 9223372036 * time.Second},
		{"-9223372036854775808", -9223372036 * time.Second},
	} {
		f := strictFields(t, `{"a":`+test.spelled+`}`)
		require.Equal(t, test.want, f.seconds("a"), test.spelled)
		require.NoError(t, *f.err)
	}
}

func TestFoldingIsThatOfEqualFold(t *testing.T) {
	words := []string{
		"k", "K", "\u212a", "s", "S", "\u017f", "σ", "ς", "Σ", "ß", "ẞ", "ss", "i", "I", "ı", "İ", "å", "Å", "\u212b",
		"µ", "μ", "Μ", "θ", "ϴ", "ϑ", "ǅ", "ǆ", "Ǆ", "", "a b", "𐐀", "𐐨", "ᲀ", "в", "Ꭰ", "ꭰ",
	}
	for _, a := range words {
		for _, b := range words {
			require.Equal(t, strings.EqualFold(a, b), wire.Fold(a) == wire.Fold(b), "%q and %q", a, b)
		}
	}
}
