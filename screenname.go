package denizen

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Joiners and the selectors of text and emoji style.
const (
	zwnj = '\u200c'
	zwj  = '\u200d'
	vs15 = '\ufe0e'
	vs16 = '\ufe0f'
)

const blackFlag = '\U0001f3f4' // the base of flags that are spelled with tags

// screenNameOf returns a screen name as it is stored, in NFC, or the rule that s breaks.
func screenNameOf(s string) (name, reason string) {
	const length = "must be 1 to 128 characters"
	switch {
	case !utf8.ValidString(s):
		return "", "must be valid UTF-8"
	case len(s) > 4096: // too long in any normal form, so do not normalize it
		return "", length
	}
	name = norm.NFC.String(s)
	if n := utf8.RuneCountInString(name); n < 1 || n > 128 {
		return "", length
	}
	if reason := checkScreenName([]rune(name)); reason != "" {
		return "", reason
	}
	return name, ""
}

// checkScreenName returns the rule that a name in NFC breaks, or "".
func checkScreenName(name []rune) string {
	const stray = "must hold joiners, variation selectors and tags only " +
		"where they shape letters or emoji"
	seen := false
	for i := 0; i < len(name); i++ {
		switch r := name[i]; {
		case r == blackFlag:
			n := tags(name[i+1:])
			if n < 0 {
				return stray
			}
			seen, i = true, i+n
		case r == zwnj || r == zwj:
			if !shapes(r, name[:i], name[i+1:]) {
				return stray
			}
		case unicode.Is(unicode.Variation_Selector, r):
			if i == 0 || !selects(r, name[i-1]) {
				return stray
			}
		case invisible(r):
			return "must hold no control, bidirectional or invisible characters"
		default:
			seen = seen || !blank(r)
		}
	}
	if !seen {
		return "must not be blank"
	}
	return ""
}

// invisible reports whether r is a control, a format character (such as one that turns the
// direction or has no width), a line separator, or a letter that draws nothing.
func invisible(r rune) bool {
	switch r {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u2028', '\u2029', '\u3164', '\uffa0':
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) ||
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// blank reports whether r takes room and draws nothing.
func blank(r rune) bool { return unicode.IsSpace(r) || r == '\u2800' }

// shapes reports whether a joiner is where it changes what is drawn. That is after a virama, or
// between letters that join, as in CONTEXTJ of RFC 5892 (appendix A). It is also before a virama,
// as in Bengali and Kannada, and, for ZWJ, between two emoji.
func shapes(joiner rune, before, after []rune) bool {
	if len(before) == 0 {
		return false
	}
	last := before[len(before)-1]
	if virama(last) {
		return true
	}
	if len(after) == 0 {
		return false
	}
	if joiner == zwj {
		if virama(after[0]) && unicode.IsLetter(last) {
			return true
		}
		if pictograph(after[0]) && pictograph(emojiBase(before)) {
			return true
		}
	}
	return joins(skipMarks(before, -1)) && joins(skipMarks(after, 1))
}

// virama reports whether r suppresses a vowel.
func virama(r rune) bool {
	const suppresses = 9 // the canonical combining class
	return norm.NFC.PropertiesString(string(r)).CCC() == suppresses
}

// emojiBase returns the last character of name that is no skin tone and no emoji style selector.
func emojiBase(name []rune) rune {
	for i := len(name) - 1; i >= 0; i-- {
		if r := name[i]; r != vs16 && (r < 0x1f3fb || r > 0x1f3ff) {
			return r
		}
	}
	return 0
}

// skipMarks returns the first character of name, from the start or with a negative step from the
// end, that is no mark. It returns 0 if there is none.
func skipMarks(name []rune, step int) rune {
	i := 0
	if step < 0 {
		i = len(name) - 1
	}
	for ; i >= 0 && i < len(name); i += step {
		if !unicode.Is(unicode.Mn, name[i]) {
			return name[i]
		}
	}
	return 0
}

// joins reports whether r is a letter of a script whose letters join.
func joins(r rune) bool {
	return unicode.IsLetter(r) && unicode.In(r, unicode.Arabic, unicode.Syriac, unicode.Mandaic,
		unicode.Mongolian, unicode.Nko, unicode.Phags_Pa, unicode.Manichaean,
		unicode.Psalter_Pahlavi, unicode.Adlam, unicode.Hanifi_Rohingya, unicode.Sogdian,
		unicode.Old_Uyghur, unicode.Chorasmian)
}

// pictograph reports whether r may be part of an emoji of several characters.
func pictograph(r rune) bool {
	switch {
	case r >= 0x2500 && r <= 0x259f, r >= 0x1f1e6 && r <= 0x1f1ff, r >= 0x1f3fb && r <= 0x1f3ff:
		return false // boxes, letters of flags, skin tones
	case r >= 0x2190 && r <= 0x2bff, r >= 0x1f000 && r <= 0x1faff:
		return !unicode.In(r, unicode.L, unicode.M, unicode.N)
	}
	return false
}

// selects reports whether a variation selector may follow base. Text and emoji style may follow
// signs; other selectors may follow letters of scripts that have variants.
func selects(selector, base rune) bool {
	switch {
	case selector == vs15 || selector == vs16:
		return base == 'ℹ' || unicode.In(base, unicode.S, unicode.P, unicode.Nd)
	case selector >= 0x180b && selector <= 0x180f:
		return unicode.Is(unicode.Mongolian, base)
	case selector >= 0xe0100:
		return unicode.Is(unicode.Han, base)
	}
	return unicode.In(base, unicode.Han, unicode.Myanmar)
}

// tags returns how many characters after a black flag are tags that spell a region: up to six
// letters and digits and the tag that ends them. It returns 0 if there are no tags, and -1 if they
// spell no region.
func tags(after []rune) int {
	for i, r := range after {
		switch {
		case r < 0xe0000 || r > 0xe007f:
			if i > 0 {
				return -1
			}
			return 0
		case r == 0xe007f && i > 0:
			return i + 1
		case i == 6, (r < 0xe0030 || r > 0xe0039) && (r < 0xe0061 || r > 0xe007a):
			return -1
		}
	}
	if len(after) > 0 {
		return -1
	}
	return 0
}
