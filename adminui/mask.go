package adminui

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
)

const dots = "•••"

// mask returns a locator as it is shown before somebody reveals it: enough to recognize one that the
// person names, too little to write to. How long it is does not show.
func mask(l denizen.Locator) string {
	switch l.Type {
	case denizen.TypeEmail:
		local, domain, _ := strings.Cut(l.Address, "@")
		name, rest := domain, ""
		if i := strings.LastIndexByte(domain, '.'); i >= 0 {
			name, rest = domain[:i], domain[i:]
		}
		return first(local) + dots + "@" + first(name) + dots + rest
	case denizen.TypeTele:
		if n := len(l.Address); n > 6 {
			return l.Address[:3] + dots + l.Address[n-2:]
		}
		return dots
	}
	return first(l.Address) + dots
}

// first returns the first character of a text that has more than one.
func first(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	if n == len(s) {
		return ""
	}
	return s[:n]
}

// shorten returns at most n bytes of a text, whole characters, and whether that is all.
func shorten(s string, n int) (string, bool) {
	if len(s) <= n {
		return s, true
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], false
}

// count returns a number with its thousands apart.
func count[N ~int | ~int64 | ~uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// stamp returns a time as it reads without a script.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// exact returns a time for a script to read.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// bytesOf returns a size in words.
func bytesOf(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// chart returns the points of a line, in a box of chartWidth by chartHeight, and what the values
// range over.
func chart(values []float64) (points string, least, most float64) {
	if len(values) == 0 {
		return "", 0, 0
	}
	least, most = values[0], values[0]
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	span := most - least
	var b strings.Builder
	for i, v := range values {
		y := chartHeight / 2.0
		if span > 0 {
			y = chartHeight - 3 - (v-least)/span*(chartHeight-6)
		}
		x := chartWidth - float64(len(values)-1-i)*chartWidth/(chartPoints-1)
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
	}
	return strings.TrimSuffix(b.String(), " "), least, most
}

const (
	chartWidth  = 240
	chartHeight = 48
	chartPoints = 120
	chartEvery  = 2 * time.Second
)

// span returns a duration in its two largest units.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	for _, of := range []struct {
		unit, under       time.Duration
		name, smallerName string
	}{
		{24 * time.Hour, time.Hour, "d", "h"},
		{time.Hour, time.Minute, "h", "min"},
		{time.Minute, time.Second, "min", "s"},
	} {
		if d >= of.unit {
			text := fmt.Sprintf("%d %s", d/of.unit, of.name)
			if rest := d % of.unit / of.under; rest > 0 {
				text += fmt.Sprintf(" %d %s", rest, of.smallerName)
			}
			return text
		}
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
