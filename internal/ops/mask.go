package ops

import (
	"strings"
	"unicode/utf8"
)

// Mask returns a serialized locator with enough of it to recognise it by for who knows it, and too
// little to learn it: email:a…@e…, tele:…672. It leaves the type.
func Mask(serialized string) string {
	kind, text, _ := strings.Cut(serialized, ":")
	if kind == "tele" {
		return kind + ":…" + text[max(0, len(text)-3):]
	}
	local, domain, isAddress := strings.Cut(text, "@")
	if kind == "email" && isAddress {
		return kind + ":" + first(local) + "…@" + first(domain) + "…"
	}
	return kind + ":" + first(text) + "…"
}

// first returns the first character of s.
func first(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return s[:size]
}
