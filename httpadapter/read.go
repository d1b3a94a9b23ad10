package httpadapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/wire"
)

// body reads the whole body, once, up to the limit.
func (c *call) body() ([]byte, error) {
	if c.bodyRead {
		return c.bodyBytes, nil
	}
	c.bodyRead = true
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return nil, nil
	}
	limit := c.h.options.MaxBody
	tooLong := newRefusal(http.StatusRequestEntityTooLarge, "limit_exceeded", "the body is too long")
	if c.r.ContentLength > limit {
		return nil, tooLong
	}
	var b bytes.Buffer
	if c.r.ContentLength > 0 {
		b.Grow(int(c.r.ContentLength) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(http.MaxBytesReader(c.w, io.NopCloser(c.r.Body), limit)); err != nil {
		if _, is := errors.AsType[*http.MaxBytesError](err); is {
			return nil, tooLong
		}
		return nil, badSyntax("the body ended before its end")
	}
	c.bodyBytes = b.Bytes()
	return c.bodyBytes, nil
}

// input reads the body as the JSON that the route takes: nil for one that may be empty and is.
func (c *call) input() (any, error) {
	declared := c.r.Header["Content-Type"]
	isPlainJSON := len(declared) == 1 && isJSON(declared[0]) &&
		!isEncoded(c.r.Header["Content-Encoding"])
	if c.r.ContentLength != 0 && !isPlainJSON {
		if b, err := c.body(); err != nil || len(b) > 0 || c.route.takes == required {
			return nil, newRefusal(http.StatusUnsupportedMediaType, "unsupported_media_type",
				"a body is application/json")
		}
	}
	b, err := c.body()
	if err != nil {
		return nil, err
	}
	if len(b) == 0 && c.route.takes == optional {
		return nil, nil
	}
	return parse(b)
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json"
}

func isEncoded(encodings []string) bool {
	for _, e := range encodings {
		if !strings.EqualFold(e, "identity") {
			return true
		}
	}
	return false
}

// parse reads one JSON value strictly: see [wire.Parse].
func parse(b []byte) (any, error) {
	value, problem := wire.Parse(b)
	if problem != "" {
		return nil, badSyntax(problem)
	}
	return value, nil
}

// fields reads the members of an object by their exact names. A member that is null counts as
// absent. err is shared with the objects inside this one and keeps the first wrong type, so that a
// caller reads all it needs and checks once.
type fields struct {
	object map[string]any
	err    *error
}

// asObject returns the members of a value that has to be an object.
func asObject(value any) (fields, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return fields{}, badSyntax("the body is not an object")
	}
	return fields{object, new(error)}, nil
}

// member returns a member of a type, and whether it is there. Its kind says the type for people.
func member[T any](f fields, name, kind string) (value T, there bool) {
	given := f.object[name]
	if given == nil {
		return value, false
	}
	value, ok := given.(T)
	if !ok {
		f.wrong(name, kind)
	}
	return value, ok
}

func (f fields) wrong(name, kind string) {
	if *f.err == nil {
		*f.err = badSyntax(name + " is not " + kind)
	}
}

func (f fields) text(name string) string {
	s, _ := member[string](f, name, "a string")
	return s
}

func (f fields) has(name string) bool { return f.object[name] != nil }

func (f fields) flag(name string, otherwise bool) bool {
	if b, there := member[bool](f, name, "true or false"); there {
		return b
	}
	return otherwise
}

func (f fields) list(name string) ([]any, bool) {
	return member[[]any](f, name, "a list")
}

func (f fields) texts(name string) []string {
	list, _ := f.list(name)
	var texts []string
	for _, value := range list {
		s, ok := value.(string)
		if !ok {
			f.wrong(name, "a list of strings")
			return nil
		}
		texts = append(texts, s)
	}
	return texts
}

func (f fields) member(name string) (fields, bool) {
	object, there := member[map[string]any](f, name, "an object")
	return fields{object, f.err}, there
}

// element returns the members of value, an element of the list that name is.
func (f fields) element(value any, name string) fields {
	object, ok := value.(map[string]any)
	if !ok {
		f.wrong(name, "a list of objects")
	}
	return fields{object, f.err}
}

// integer returns a number without a fraction, however it is spelled: 1.0 and 1e0 are 1.
func (f fields) integer(name string) int64 {
	n, there := member[json.Number](f, name, "a number")
	if !there {
		return 0
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	x, err := n.Float64()
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		f.wrong(name, "a whole number in range")
		return 0
	}
	return int64(x)
}

// seconds is a whole number of seconds, bounded so that it is a Duration.
func (f fields) seconds(name string) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(min(max(f.integer(name), -most), most)) * time.Second
}
