package denizen_test

import (
	"context"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/denizenhq/denizen"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
)

// screenNames are names that people have, and ones that would deceive or draw nothing.
var screenNames = []struct {
	name string
	good bool
	what string
}{
	{"A", true, "one character"},
	{strings.Repeat("x", 128), true, "128 characters"},
	{strings.Repeat("日", 128), true, "128 characters of three bytes"},
	{strings.Repeat("😀", 128), true, "128 characters of four bytes"},
	{"Alice Liddell", true, "Latin"},
	{"Zoë Ñandú Çelik Łukasz", true, "Latin with marks"},
	{"Nguyễn Thị Minh", true, "Vietnamese"},
	{"Αλίκη", true, "Greek"},
	{"Алиса Ёлкина", true, "Cyrillic"},
	{"Ալիսա", true, "Armenian"},
	{"אליס", true, "Hebrew"},
	{"أليس", true, "Arabic"},
	{"ऐलिस कुमार", true, "Devanagari"},
	{"আলিস", true, "Bengali"},
	{"ஆலிஸ்", true, "Tamil"},
	{"อลิซ", true, "Thai"},
	{"အဲလစ်", true, "Burmese"},
	{"អាលីស", true, "Khmer"},
	{"ალისა", true, "Georgian"},
	{"አሊስ", true, "Ethiopic"},
	{"愛麗絲", true, "Chinese"},
	{"アリス", true, "Japanese"},
	{"앨리스", true, "Korean"},
	{"ᏣᎳᎩ", true, "Cherokee"},
	{"𐌰𐌻𐌹𐍃", true, "outside the basic plane"},
	{"O'Brien-Smith, Jr. (#1) <3 & \"co\" \\ /", true, "punctuation"},
	{"null", true, "a word of JSON"},
	{" Alice ", true, "spaces around it"},
	{"😀", true, "an emoji"},
	{"👍🏽", true, "an emoji with a skin tone"},
	{"🇮🇳", true, "a flag"},
	{"I ❤️ Go", true, "an emoji with a variation selector"},
	{"☎︎", true, "a symbol in text style"},
	{"1️⃣", true, "a keycap"},
	{"ℹ️", true, "the one letter that has two styles"},
	{"©️ ™️ ‼️", true, "signs with a variation selector"},

	{"葛\U000e0100城", true, "an ideographic variation"},
	{"Zoe\u0308", true, "in another normal form"},
	{"\u212bngstrom", true, "a singleton of normalization form C"},
	{"\u1112\u1161\u11ab", true, "Hangul in parts"},
	{strings.Repeat("e\u0301", 128), true, "128 characters in NFC, 256 as given"},
	{"👩\u200d🚀", true, "an emoji of several, joined"},
	{"👨\u200d👩\u200d👧", true, "a family of emoji"},
	{"👩🏽\u200d🚀", true, "joined behind a skin tone"},
	{"🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥", true, "joined behind a selector"},
	{"🏃\u200d♀\ufe0f\u200d➡\ufe0f", true, "a runner who faces right"},
	{"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", true, "a flag of tags"},
	{"🏴 and 🏴\u200d☠\ufe0f", true, "a black flag, and one with a skull"},
	{"سعید می\u200cخواهد", true, "a Persian non-joiner"},
	{"علی\u200dرضا", true, "an Arabic joiner"},
	{"अक्\u200dषय", true, "a joiner behind a virama of Devanagari"},
	{"क्\u200cष", true, "a non-joiner behind a virama"},
	{"ශ්\u200dරී", true, "Sinhala"},
	{"র\u200d্যাব", true, "a joiner before a virama of Bengali"},
	{"നന്\u200d", true, "a joiner at the end, in Malayalam"},
	{"ᠰᠠ\u180bᠨ", true, "a selector of Mongolian"},

	{"", false, "empty"},
	{strings.Repeat("e\u0301", 129), false, "129 characters in NFC"},
	{strings.Repeat("a", 1<<20), false, "a megabyte"},
	{"a" + strings.Repeat("\u0301", 100), false, "a pile of marks"},
	{"\u2800\u2800", false, "nothing but blanks of Braille"},
	{"\u200d", false, "nothing but a joiner"},
	{"👩\u200d", false, "an emoji joined to nothing"},
	{"👩\u200d\u200d🚀", false, "joined twice"},
	{"👩\u200cx🚀", false, "a non-joiner behind an emoji"},
	{"\u200dعلی", false, "a joiner before all letters"},
	{"مA\u200cB", false, "a non-joiner between Latin letters beside Arabic"},
	{"Alice\U000e0061\U000e007f", false, "tags behind a letter"},
	{"🏴\U000e0067\U000e0062", false, "tags without their end"},
	{"🏴\U000e007f", false, "an end of no tags"},
	{"🏴" + strings.Repeat("\U000e0061", 7) + "\U000e007f", false, "more tags than a region has"},
	{"🏴\U000e0041\U000e007f", false, "a capital among the tags"},
	{"\U000e0001Alice", false, "a language tag"},
	{"Ali\U000e0100ce", false, "an ideographic variation of a Latin letter"},
	{strings.Repeat("x", 129), false, "129 characters"},
	{strings.Repeat("😀", 129), false, "129 characters of four bytes"},
	{" ", false, "a space"},
	{"\u00a0\u2003\u3000", false, "spaces of other kinds"},
	{"\ufe0f", false, "nothing but a variation selector"},
	{" \ufe0f", false, "a variation selector behind a space"},
	{"Ali\ufe0fce", false, "a variation selector behind a letter"},
	{"❤\ufe0f\ufe0f", false, "two variation selectors"},
	{"❤\ufe01", false, "another variation selector"},
	{"Alice\x00", false, "U+0000"},
	{"Alice\n", false, "a line break"},
	{"Ali\tce", false, "a tab"},
	{"Alice\x7f", false, "delete"},
	{"Alice\u0085", false, "a C1 control"},
	{"Alice\u2028", false, "a line separator"},
	{"Alice\u2029", false, "a paragraph separator"},
	{"Ali\u200bce", false, "a zero-width space"},
	{"Ali\u200cce", false, "a zero-width non-joiner"},
	{"Ali\u200dce", false, "a zero-width joiner"},
	{"Alice\u2060", false, "a word joiner"},
	{"\ufeffAlice", false, "a byte order mark"},
	{"Ali\u00adce", false, "a soft hyphen"},
	{"Alice\u034f", false, "a grapheme joiner"},
	{"Alice\u180e", false, "a Mongolian vowel separator"},
	{"Alice\u115f", false, "a Hangul filler"},
	{"Alice\u3164", false, "another Hangul filler"},
	{"Alice\uffa0", false, "a halfwidth Hangul filler"},
	{"Alice\u17b4", false, "an inherent vowel of Khmer"},
	{"\u202ecilA", false, "a right-to-left override"},
	{"\u202aAlice\u202c", false, "a left-to-right embedding"},
	{"\u2066Alice\u2069", false, "a left-to-right isolate"},
	{"Alice\u200e", false, "a left-to-right mark"},
	{"Alice\u200f", false, "a right-to-left mark"},
	{"Alice\u061c", false, "an Arabic letter mark"},
	{"Alice\xff", false, "no UTF-8"},
	{"Alice\xed\xa0\x80", false, "a lone surrogate"},
}

func TestScreenName_ScreenNamesArePeoplesNames(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	for _, row := range screenNames {
		t.Run(row.what, func(t *testing.T) {
			created, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: row.name})
			renamed, err2 := d.SetScreenName(t.Context(), sys, alice, row.name)
			if !row.good {
				requireField(t, err, denizen.ErrInvalid, "screenName")
				requireField(t, err2, denizen.ErrInvalid, "screenName")
				return
			}
			require.NoError(t, err)
			require.NoError(t, err2)
			name := norm.NFC.String(row.name)
			require.Equal(t, []string{name, name}, []string{created.ScreenName, renamed.ScreenName})
		})
	}
}

func TestScreenName_AStrayJoinerIsRefusedAsSuch(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	_, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Ali\u200dce"})
	require.ErrorContains(t, err, "joiners")
}

func TestScreenName_AScreenNameInAnotherFormOfTheSameChangesNothing(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	u, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Zoe\u0308"})
	require.NoError(t, err)
	require.Equal(t, "Zo\u00eb", u.ScreenName)
	again, err := d.SetScreenName(t.Context(), sys, u.ID, "Zoe\u0308")
	require.NoError(t, err)
	require.Equal(t, u, again)
}

func FuzzScreenName(f *testing.F) {
	for _, row := range screenNames {
		f.Add(row.name)
	}
	d := newMemory(f, denizen.Options{})
	newUser(f, d, alice)
	f.Fuzz(func(t *testing.T, name string) {
		u, err := d.SetScreenName(context.Background(), sys, alice, name)
		if err != nil {
			requireField(t, err, denizen.ErrInvalid, "screenName")
			return
		}
		require.Equal(t, norm.NFC.String(name), u.ScreenName)
		require.True(t, utf8.ValidString(name))
		again, err := d.SetScreenName(context.Background(), sys, alice, u.ScreenName)
		require.NoError(t, err)
		require.Equal(t, u, again, "what is stored is taken as it is")
		name = u.ScreenName
		n := utf8.RuneCountInString(name)
		require.True(t, n >= 1 && n <= 128)
		for _, r := range name {
			require.False(t, unicode.In(r, unicode.Cc, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Bidi_Control), "%U", r)
			if unicode.Is(unicode.Cf, r) {
				require.True(t, unicode.Is(unicode.Join_Control, r) || r >= 0xe0030 && r <= 0xe007f, "%U", r)
			}
		}
		require.NotEmpty(t, strings.Trim(name, " \u00a0\u3000\ufe0e\ufe0f"))
	})
}
