package locator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

var goodNumbers = []struct{ name, raw, canonical string }{
	{"digits alone", "+16502530000", "+16502530000"},
	{"spaces", "+1 650 253 0000", "+16502530000"},
	{"dashes", "+1-650-253-0000", "+16502530000"},
	{"dots", "+1.650.253.0000", "+16502530000"},
	{"brackets", "+1 (650) 253-0000", "+16502530000"},
	{"all kinds, several together", "+ (1)--650..253 - 0000", "+16502530000"},
	{"64 bytes with separators", "+1" + strings.Repeat(" ", 52) + "6502530000", "+16502530000"},
	{"Italian zero kept", "+39 02 1234567", "+39021234567"},
	{"Argentine mobile 9 kept", "+54 9 11 1234 5678", "+5491112345678"},
	{"Argentine land line", "+54 11 1234 5678", "+541112345678"},
	{"international freephone", "+800 1234 5678", "+80012345678"},
	{"satellite", "+870 773 111 632", "+870773111632"},
	{"7 digits", "+683 4002", "+6834002"},
	{"15 digits", "+882 390 123 456 789", "+882390123456789"},
}

func TestANumberIsAcceptedAndStripped(t *testing.T) {
	for _, row := range goodNumbers {
		t.Run(row.name, func(t *testing.T) {
			l, err := locator.New(locator.Tele, row.raw)
			require.NoError(t, err)
			require.Equal(t, row.canonical, l.Canonical)
			requireOneForm(t, l, row.raw)
		})
	}
}

var badNumbers = []struct{ name, raw, rule string }{
	{"empty", "", "begin with +"},
	{"no country", "6502530000", "begin with +"},
	{"dialling prefix", "0016502530000", "begin with +"},
	{"space before", " +16502530000", "begin with +"},
	{"bracket before", "(+1) 650 253 0000", "begin with +"},
	{"tel: URI", "tel:+1-650-253-0000", "begin with +"},
	{"phone context", "650-253-0000;phone-context=+1", "begin with +"},
	{"fullwidth plus", "\uff0b16502530000", "begin with +"},
	{"left-to-right mark before", "\u200e+16502530000", "begin with +"},
	{"65 bytes with separators", "+1" + strings.Repeat(" ", 53) + "6502530000", "longer than 64 bytes"},

	{"two +", "++16502530000", "holds a character other"},
	{"+ after the digits", "+16502530000+", "holds a character other"},
	{"vanity letters", "+1650CALLNOW", "holds a character other"},
	{"extension by x", "+1 650 253 0000 x123", "holds a character other"},
	{"extension by word", "+16502530000 ext. 123", "holds a character other"},
	{"extension as a parameter", "+16502530000;ext=123", "holds a character other"},
	{"pause and post-dial digits", "+16502530000,,123#", "holds a character other"},
	{"comma", "+16502530000,", "holds a character other"},
	{"two numbers", "+16502530000 or +442070313000", "holds a character other"},
	{"slash", "+49 30/123456", "holds a character other"},
	{"tilde", "+1~6502530000", "holds a character other"},
	{"underscore", "+1_6502530000", "holds a character other"},
	{"square brackets", "+1[650]2530000", "holds a character other"},
	{"tab", "+1\t6502530000", "holds a character other"},
	{"line break after", "+16502530000\n", "holds a character other"},
	{"NUL", "+1650253\x000000", "holds a character other"},
	{"fullwidth digits", "+\uff11\uff16\uff15\uff10\uff12\uff15\uff13\uff10\uff10\uff10\uff10", "holds a character other"},
	{"Arabic digits", "+\u0661\u0666\u0665\u0660\u0662\u0665\u0663\u0660", "holds a character other"},
	{"no-break space", "+1\u00a06502530000", "holds a character other"},
	{"en dash", "+1\u20136502530000", "holds a character other"},
	{"soft hyphen", "+1650253\u00ad0000", "holds a character other"},
	{"zero width space", "+1650253\u200b0000", "holds a character other"},
	{"byte that is not UTF-8", "+1650253\xff0000", "holds a character other"},

	{"+ alone", "+", "fewer than 7 digits"},
	{"separators alone", "+ (-.)", "fewer than 7 digits"},
	{"6 digits", "+989601", "fewer than 7 digits"},
	{"16 digits", "+1234567890123456", "more than 15 digits"},
	{"country code begins with 0", "+06502530000", "begins with 0"},
	{"dialling prefix after the +", "+ 00 64 3 331 6005", "begins with 0"},
	{"space after", "+16502530000 ", "not end in a digit"},
	{"bracket after", "+1 (6502530000)", "not end in a digit"},

	{"country code of nobody", "+999123456789", "not valid in any"},
	{"too short for its country", "+1650253", "not valid in any"},
	{"too long for its country", "+165025300000", "not valid in any"},
	{"area code of nobody", "+11234567890", "not valid in any"},
	{"old Mexican mobile 1", "+52 1 55 1234 5678", "not valid in any"},
	{"trunk zero", "+4402070313000", "trunk zero"},
	{"trunk zero in brackets", "+44 (0) 20 7031 3000", "trunk zero"},
}

func TestANumberIsRefusedByRule(t *testing.T) {
	for _, row := range badNumbers {
		t.Run(row.name, func(t *testing.T) {
			l, err := locator.New(locator.Tele, row.raw)
			requireRefused(t, err, row.rule)
			require.Empty(t, l)
			requireSafe(t, locator.Tele, row.raw)
		})
	}
}

func TestOnlyFiveSeparatorsAreDropped(t *testing.T) {
	for b := range 256 {
		c := byte(b)
		if '0' <= c && c <= '9' {
			continue
		}
		_, err := locator.New(locator.Tele, "+1650253"+string([]byte{c})+"0000")
		require.Equal(t, strings.IndexByte(" -.()", c) >= 0, err == nil, "byte %#x", c)
	}
}

func TestLookingUpANumberAsksNoNumberingPlan(t *testing.T) {
	for raw, want := range map[string]string{
		"+52 1 55 1234 5678":   "tele:+5215512345678", // valid under older metadata
		"+999 123 456 789":     "tele:+999123456789",
		"+44 (0) 20 7031 3000": "tele:+4402070313000", // another number than +442070313000
	} {
		_, err := locator.New(locator.Tele, raw)
		require.Error(t, err, raw)

		found, err := locator.Canonical("tele:" + raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, found)
	}
}
