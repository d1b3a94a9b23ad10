package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDepth bounds how deep a body nests: a presence of 32 states nests 33 deep.
const MaxDepth = 64

// maxMembers bounds how many members and elements a body has in all: each costs far more than
// its bytes.
const maxMembers = 2048

// Parse reads one JSON value strictly, where RFC 8259 leaves a choice: valid UTF-8, no U+0000 and
// no lone surrogates, no two members of one object whose names are equal without case, at most
// MaxDepth deep and maxMembers in all. Objects are map[string]any, numbers json.Number. If there is
// no such value, problem says why, for people.
func Parse(b []byte) (value any, problem string) {
	switch {
	case !utf8.Valid(b):
		return nil, "the body is not UTF-8"
	case !json.Valid(b):
		return nil, "the body is not one JSON value"
	case !goodEscapes(b):
		return nil, "the body holds U+0000 or half of a surrogate pair"
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	left := maxMembers
	return parseValue(d, 0, &left)
}

func parseValue(d *json.Decoder, depth int, left *int) (value any, problem string) {
	if *left--; *left < 0 {
		return nil, "the body has too many members"
	}
	t, err := d.Token()
	if err != nil {
		return nil, "the body is not one JSON value"
	}
	if _, opens := t.(json.Delim); opens && depth == MaxDepth {
		return nil, "the body nests too deep"
	}
	switch t {
	case json.Delim('{'):
		object := make(map[string]any)
		folded := make(map[string]bool)
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, "the body is not one JSON value"
			}
			key := name.(string)
			if f := Fold(key); folded[f] {
				return nil, "an object has two members of one name"
			} else {
				folded[f] = true
			}
			if object[key], problem = parseValue(d, depth+1, left); problem != "" {
				return nil, problem
			}
		}
		_, _ = d.Token() // json.Valid has seen the bracket
		return object, ""
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, problem := parseValue(d, depth+1, left)
			if problem != "" {
				return nil, problem
			}
			list = append(list, value)
		}
		_, _ = d.Token() // as above
		return list, ""
	}
	return t, ""
}

// Fold returns the same text for texts that are equal without case, as strings.EqualFold has it:
// each rune becomes the least of those it folds to.
func Fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

// goodEscapes reports whether the escapes of valid JSON are of whole characters other than U+0000.
// In valid JSON a backslash is in strings alone.
func goodEscapes(b []byte) bool {
	for {
		at := bytes.IndexByte(b, '\\')
		if at < 0 {
			return true
		}
		b = b[at+1:]
		if b[0] != 'u' {
			b = b[1:]
			continue
		}
		unit := hex4(b[1:5])
		b = b[5:]
		switch {
		case unit == 0 || unit >= 0xDC00 && unit <= 0xDFFF:
			return false
		case unit >= 0xD800 && unit <= 0xDBFF:
			if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
				return false
			}
			if low := hex4(b[2:6]); low < 0xDC00 || low > 0xDFFF {
				return false
			}
			b = b[6:]
		}
	}
}

func hex4(b []byte) (unit int) {
	for _, c := range b {
		unit <<= 4
		switch {
		case c >= 'a':
			unit |= int(c-'a') + 10
		case c >= 'A':
			unit |= int(c-'A') + 10
		default:
			unit |= int(c - '0')
		}
	}
	return unit
}
