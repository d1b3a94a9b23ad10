package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// clean returns text with everything that a terminal may act on written as an escape of Go: control
// characters, those that change the direction, invisible ones, and bytes that are no UTF-8. A
// backslash is doubled, so that nothing looks like an escape that is none.
func clean(text string) string {
	if !strings.ContainsFunc(text, isUnsafe) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case isUnsafe(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		text = text[size:]
	}
	return b.String()
}

func isUnsafe(r rune) bool { return r == '\\' || !strconv.IsPrint(r) }

// cleanJSON escapes in JSON what clean does. encoding/json has escaped control characters of ASCII.
func cleanJSON(encoded []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(encoded) {
		switch {
		case r == '\n' || r != 0x7f && strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// print prints an object: as a line of JSON, or by what human writes.
func (s *session) print(v any, human func(line func(format string, args ...any))) error {
	var b bytes.Buffer
	if s.json {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		_, err := s.stdout.Write(cleanJSON(b.Bytes()))
		return err
	}
	human(func(format string, args ...any) {
		for i, a := range args {
			if v := reflect.ValueOf(a); v.Kind() == reflect.String {
				args[i] = clean(v.String())
			}
		}
		fmt.Fprintf(&b, format+"\n", args...)
	})
	_, err := s.stdout.Write(b.Bytes())
	return err
}

// note tells people something on stderr.
func (s *session) note(format string, args ...any) {
	fmt.Fprintln(s.stderr, clean(fmt.Sprintf(format, args...)))
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// size returns a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	case n < 1<<30:
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) + " GiB"
}
