package record

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/denizenhq/denizen/store"
)

// ErrCorrupt says that a stored value is not the record that its key promises. It is a
// [store.ErrCorrupt].
var ErrCorrupt = fmt.Errorf("%w: a value is not the record that its key promises", store.ErrCorrupt)

// coder goes through the members of one object in one direction: it appends them to out, or looks
// them up in members. So one description of a record serves both ways.
//
// It replaces encoding/json because a read from bbolt takes about a microsecond, and decoding by
// reflection takes ten.
//
// The text is expected to be spelled as encode spells it: then each member begins where the one
// before it ended. A store may spell it otherwise. Such text is split into its members first.
type coder struct {
	reading bool
	bad     bool
	out     []byte
	text    string // what is read, if it is spelled as encode spells it; "" if it was split
	pos     int    // in text, after a bracket or a value
	members []member
	next    int // in members: where the member after the last one found should be
}

// member is a member of an object: its name and the JSON text of its value.
type member struct{ name, value string }

var coders = sync.Pool{New: func() any { return &coder{members: make([]member, 0, 16)} }}

// encode returns r as one JSON object.
func encode(r Record) []byte {
	c := coders.Get().(*coder)
	c.reading, c.bad, c.out = false, false, append(c.out[:0], '{')
	r.fields(c)
	c.close('}')
	out := append([]byte(nil), c.out...)
	coders.Put(c)
	return out
}

// decode fills r from one JSON object. Strings of r may share the memory of text. Unknown members
// are ignored.
func decode(text string, r Record) error {
	c := coders.Get().(*coder)
	if !c.straight(text, r) && c.begin(text) {
		r.fields(c)
	}
	bad := c.bad
	clear(c.members)
	coders.Put(c)
	if bad {
		return ErrCorrupt
	}
	return nil
}

// straight fills r from text, and reports whether text is spelled as encode spells it.
func (c *coder) straight(text string, r Record) bool {
	if text == "" || text[0] != '{' {
		return false
	}
	c.reading, c.bad, c.text, c.pos = true, false, text, 1
	r.fields(c)
	return c.take('}') && c.pos == len(text) && !c.bad
}

// begin makes c read the object in text, however it is spelled.
func (c *coder) begin(text string) (ok bool) {
	c.text = ""
	c.members, ok = split(c.members[:0], text)
	c.reading, c.bad, c.next = true, !ok, 0
	return ok
}

// find returns the text of a member's value, or "" if it is absent.
func (c *coder) find(name string) string {
	if c.text != "" {
		if !c.takeName(name) {
			return ""
		}
		n := value(c.text[c.pos:])
		c.bad = c.bad || n == 0
		c.pos += n
		return c.text[c.pos-n : c.pos]
	}
	for i := range c.members {
		at := c.next + i
		if at >= len(c.members) {
			at -= len(c.members)
		}
		if c.members[at].name == name {
			c.next = at + 1
			return c.members[at].value
		}
	}
	return ""
}

// takeName reports whether the next member has the given name, and moves on to its value if so.
func (c *coder) takeName(name string) bool {
	rest := c.text[c.pos:]
	if c.text[c.pos-1] != '{' {
		if rest == "" || rest[0] != ',' {
			return false
		}
		rest = rest[1:]
	}
	n := len(name)
	if len(rest) < n+3 || rest[0] != '"' || rest[1:n+1] != name ||
		rest[n+1] != '"' || rest[n+2] != ':' {
		return false
	}
	c.pos = len(c.text) - len(rest) + n + 3
	return true
}

// take reports whether the next byte is b, and moves past it if so.
func (c *coder) take(b byte) bool {
	if c.pos >= len(c.text) || c.text[c.pos] != b {
		return false
	}
	c.pos++
	return true
}

func (c *coder) open(name string) {
	if last := c.out[len(c.out)-1]; last != '{' && last != '[' {
		c.out = append(c.out, ',')
	}
	c.out = append(c.out, '"')
	c.out = append(c.out, name...)
	c.out = append(c.out, '"', ':')
}

func (c *coder) close(bracket byte) { c.out = append(c.out, bracket) }

// kind writes the kind of the record, or checks it when reading.
func (c *coder) kind(kind string) {
	got := kind
	c.str("kind", &got)
	if got != kind {
		c.bad = true
	}
}

// str reads or writes a string. An empty one is left out.
func (c *coder) str(name string, v *string) {
	if c.reading {
		*v = c.unquote(c.find(name))
	} else if *v != "" {
		c.open(name)
		c.out = appendString(c.out, *v)
	}
}

// num reads or writes a number. Zero is left out.
func (c *coder) num(name string, v *int64) {
	if c.reading {
		*v = 0
		if text := c.find(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			c.bad = c.bad || err != nil
			*v = n
		}
	} else if *v != 0 {
		c.open(name)
		c.out = strconv.AppendInt(c.out, *v, 10)
	}
}

// flag reads or writes a bool. False is left out.
func (c *coder) flag(name string, v *bool) {
	if c.reading {
		text := c.find(name)
		*v = text == "true"
		c.bad = c.bad || (text != "" && text != "true" && text != "false")
	} else if *v {
		c.open(name)
		c.out = append(c.out, "true"...)
	}
}

// strs reads or writes a list of strings. An empty one is left out.
func (c *coder) strs(name string, v *[]string) {
	if c.reading {
		*v = nil
		for text, rest, ok := c.first(name); ok; text, rest, ok = c.following(rest) {
			*v = append(*v, c.unquote(text))
		}
		return
	}
	if len(*v) == 0 {
		return
	}
	c.open(name)
	c.out = append(c.out, '[')
	for i, s := range *v {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendString(c.out, s)
	}
	c.close(']')
}

// list reads or writes a list of objects. An empty one is left out.
func list[T any](c *coder, name string, v *[]T, fields func(*T, *coder)) {
	if c.reading && c.text != "" {
		*v = nil
		if !c.takeName(name) {
			return
		}
		for next := c.take('['); next; next = c.take(',') {
			*v = append(*v, *new(T))
			c.bad = c.bad || !c.take('{')
			fields(&(*v)[len(*v)-1], c)
			c.bad = c.bad || !c.take('}')
		}
		c.bad = c.bad || !c.take(']')
		return
	}
	if c.reading {
		*v = nil
		text, rest, ok := c.first(name)
		if !ok {
			return
		}
		inner := coders.Get().(*coder)
		for ; ok; text, rest, ok = c.following(rest) {
			*v = append(*v, *new(T))
			if inner.begin(text) {
				fields(&(*v)[len(*v)-1], inner)
			}
			c.bad = c.bad || inner.bad
		}
		clear(inner.members)
		coders.Put(inner)
		return
	}
	if len(*v) == 0 {
		return
	}
	c.open(name)
	c.out = append(c.out, '[')
	for i := range *v {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, '{')
		fields(&(*v)[i], c)
		c.close('}')
	}
	c.close(']')
}

// first returns the first element of the list under name, and the text after it.
func (c *coder) first(name string) (element, rest string, ok bool) {
	text := c.find(name)
	if text == "" {
		return "", "", false
	}
	if text[0] != '[' {
		c.bad = true
		return "", "", false
	}
	rest = skipSpace(text[1:])
	if rest != "" && rest[0] == ']' {
		return "", "", false
	}
	return c.element(rest)
}

// following returns the element after a comma, if there is one, and the text after that.
func (c *coder) following(rest string) (element, after string, ok bool) {
	if rest = skipSpace(rest); rest == "" || rest[0] != ',' {
		c.bad = c.bad || rest != "]"
		return "", "", false
	}
	return c.element(skipSpace(rest[1:]))
}

func (c *coder) element(text string) (element, rest string, ok bool) {
	n := value(text)
	if n == 0 {
		c.bad = true
		return "", "", false
	}
	return text[:n], text[n:], true
}

// unquote returns the string that JSON text spells, or "" for no text.
func (c *coder) unquote(text string) string {
	if text == "" {
		return ""
	}
	if text[0] != '"' {
		c.bad = true
		return ""
	}
	if strings.IndexByte(text, '\\') >= 0 {
		s, ok := escaped(text)
		c.bad = c.bad || !ok
		return s
	}
	return text[1 : len(text)-1]
}

// escaped returns the string that JSON text with escapes spells.
func escaped(text string) (s string, ok bool) {
	err := json.Unmarshal([]byte(text), &s)
	return s, err == nil
}

// split appends the members of the object in text. If a name occurs twice, it is no object.
func split(into []member, text string) ([]member, bool) {
	rest := skipSpace(text)
	if rest == "" || rest[0] != '{' {
		return into, false
	}
	rest = skipSpace(rest[1:])
	if rest != "" && rest[0] == '}' {
		return into, skipSpace(rest[1:]) == ""
	}
	for {
		n := quoted(rest)
		if n == 0 {
			return into, false
		}
		name := rest[1 : n-1]
		if strings.IndexByte(name, '\\') >= 0 {
			var ok bool
			if name, ok = escaped(rest[:n]); !ok {
				return into, false
			}
		}
		if rest = skipSpace(rest[n:]); rest == "" || rest[0] != ':' {
			return into, false
		}
		rest = skipSpace(rest[1:])
		if n = value(rest); n == 0 {
			return into, false
		}
		for _, m := range into {
			if m.name == name {
				return into, false
			}
		}
		into = append(into, member{name, rest[:n]})
		if rest = skipSpace(rest[n:]); rest == "" {
			return into, false
		}
		switch rest[0] {
		case ',':
			rest = skipSpace(rest[1:])
		case '}':
			return into, skipSpace(rest[1:]) == ""
		default:
			return into, false
		}
	}
}

// value returns the length of the JSON value at the start of text, or 0 if there is none. Inside
// brackets it looks only at strings and brackets.
func value(text string) int {
	if text == "" {
		return 0
	}
	switch text[0] {
	case '"':
		return quoted(text)
	case '{', '[':
		depth := 0
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '"':
				n := quoted(text[i:])
				if n == 0 {
					return 0
				}
				i += n - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return 0
	}
	n := 0
	for n < len(text) && text[n] > ' ' && text[n] != '"' &&
		text[n] != ',' && text[n] != '}' && text[n] != ']' {
		n++
	}
	return n
}

// quoted returns the length of the JSON string at the start of text, or 0 if there is none.
func quoted(text string) int {
	if text == "" || text[0] != '"' {
		return 0
	}
	end := strings.IndexByte(text[1:], '"') + 1
	if end == 0 {
		return 0
	}
	if strings.IndexByte(text[:end], '\\') < 0 {
		return end + 1
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}

func skipSpace(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\n' || s[0] == '\r' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

const hex = "0123456789abcdef"

// appendString appends s as JSON. Invalid UTF-8 becomes U+FFFD, as in encoding/json.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				out = append(append(out, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		if b >= ' ' && b != '"' && b != '\\' {
			i++
			continue
		}
		out = append(out, s[start:i]...)
		if b == '"' || b == '\\' {
			out = append(out, '\\', b)
		} else {
			out = append(out, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
		i++
		start = i
	}
	return append(append(out, s[start:]...), '"')
}
