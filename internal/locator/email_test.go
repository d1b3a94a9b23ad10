package locator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

var (
	local64  = strings.Repeat("l", 64)
	label63  = strings.Repeat("d", 63)
	email254 = local64 + "@" + label63 + "." + label63 + "." + strings.Repeat("d", 61)
)

var goodEmails = []struct{ name, raw, canonical string }{
	{"plain", "alice@example.org", "alice@example.org"},
	{"capitals anywhere", "Alice@EXAMPLE.Org", "alice@example.org"},
	{"every atext character", "!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"},
	{"digits", "0123456789@example.org", "0123456789@example.org"},
	{"dots between atoms", "a.b.c@example.org", "a.b.c@example.org"},
	{"plus tag kept", "alice+news@example.org", "alice+news@example.org"},
	{"provider's dots kept", "a.lice@gmail.com", "a.lice@gmail.com"},
	{"hyphen at the edge of the local part", "-a-@example.org", "-a-@example.org"},
	{"percent and bang are atoms, not routes", "user%uucp!path@example.org", "user%uucp!path@example.org"},
	{"encoded word is an atom, not decoded", "=?utf-8?q?a?=@example.org", "=?utf-8?q?a?=@example.org"},
	{"two labels of one byte", "a@b.c", "a@b.c"},
	{"many labels", "a@b.c.d.e.f.example", "a@b.c.d.e.f.example"},
	{"digits within the domain", "a@123.1.example", "a@123.1.example"},
	{"a last label that only begins with digits", "a@example.1x", "a@example.1x"},
	{"hyphens within a label", "a@b--c-d.example", "a@b--c-d.example"},
	{"hyphens third and fourth, not xn", "a@r3---sn.example", "a@r3---sn.example"},
	{"local part of 64 bytes", local64 + "@example.org", local64 + "@example.org"},
	{"label of 63 bytes", "a@" + label63 + ".org", "a@" + label63 + ".org"},
	{"254 bytes", email254, email254},
	{"A-label", "a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de"},
	{"A-label in capitals", "a@XN--MNCHEN-3YA.de", "a@xn--mnchen-3ya.de"},
	{"A-label of a sharp s", "a@xn--strae-oqa.de", "a@xn--strae-oqa.de"},
	{"A-labels written from right to left, beside a label that is not", "a@1.xn--4dbrk0ce", "a@1.xn--4dbrk0ce"},
	{"last label an A-label", "a@xn--hxajbheg2az3al.xn--jxalpdlp", "a@xn--hxajbheg2az3al.xn--jxalpdlp"},
	{"U-label", "Alice@m\u00fcnchen.de", "alice@xn--mnchen-3ya.de"},
	{"U-label in capitals", "a@M\u00dcNCHEN.DE", "a@xn--mnchen-3ya.de"},
	{"U-label in another normal form", "a@mu\u0308nchen.de", "a@xn--mnchen-3ya.de"},
	{"middle dot between two l", "a@col\u00b7lecci\u00f3.cat", "a@xn--collecci-ioa91d.cat"},
	{"xn-- in the local part says nothing", "xn--abc@example.org", "xn--abc@example.org"},
	{"xn-- inside a label says nothing", "a@axn--abc.example", "a@axn--abc.example"},
}

func TestAnEmailIsAcceptedAndLowerCased(t *testing.T) {
	for _, row := range goodEmails {
		t.Run(row.name, func(t *testing.T) {
			l, err := locator.New(locator.Email, row.raw)
			require.NoError(t, err)
			require.Equal(t, row.canonical, l.Canonical)
			requireOneForm(t, l, row.raw)
		})
	}
}

var badEmails = []struct{ name, raw, rule string }{
	{"empty", "", "no @"},
	{"no @", "alice", "no @"},
	{"fullwidth @", "a\uff20example.org", "no @"},
	{"255 bytes", email254 + "d", "longer than 254 bytes"},
	{"a list too long to split", strings.Repeat("a@example.org,", 1000), "longer than 254 bytes"},

	{"empty local part", "@example.org", "local part of the e-mail address is empty"},
	{"local part of 65 bytes", local64 + "l@example.org", "longer than 64 bytes"},
	{"dot first", ".a@example.org", "dot at its edge or beside another"},
	{"dot last", "a.@example.org", "dot at its edge or beside another"},
	{"dots together", "a..b@example.org", "dot at its edge or beside another"},
	{"only a dot", ".@example.org", "dot at its edge or beside another"},
	{"display name", "Alice <alice@example.org>", "local part of the e-mail address holds"},
	{"angle brackets", "<alice@example.org>", "local part of the e-mail address holds"},
	{"comment before", "(c)a@example.org", "local part of the e-mail address holds"},
	{"comment after the local part", "a(c)@example.org", "local part of the e-mail address holds"},
	{"quoted local part", `"a"@example.org`, "local part of the e-mail address holds"},
	{"quoted pair", `a\b@example.org`, "local part of the e-mail address holds"},
	{"list", "a,b@example.org", "local part of the e-mail address holds"},
	{"group", "a:b@example.org;", "local part of the e-mail address holds"},
	{"route", "@a.example:b@example.org", "local part of the e-mail address is empty"},
	{"space before", " a@example.org", "local part of the e-mail address holds"},
	{"space within the local part", "a b@example.org", "local part of the e-mail address holds"},
	{"space before the @", "a @example.org", "local part of the e-mail address holds"},
	{"NUL", "a\x00@example.org", "local part of the e-mail address holds"},
	{"DEL", "a\x7f@example.org", "local part of the e-mail address holds"},
	{"line break in the local part", "a\r\n@example.org", "local part of the e-mail address holds"},
	{"letter beyond ASCII", "andr\u00e9@example.org", "local part of the e-mail address holds"},
	{"Kelvin sign", "\u212aate@example.org", "local part of the e-mail address holds"},
	{"dotless i", "m\u0131ke@example.org", "local part of the e-mail address holds"},
	{"long s", "\u017fam@example.org", "local part of the e-mail address holds"},
	{"fullwidth letter", "\uff41@example.org", "local part of the e-mail address holds"},
	{"right-to-left mark", "\u200fa@example.org", "local part of the e-mail address holds"},
	{"byte that is not UTF-8", "a\xff@example.org", "local part of the e-mail address holds"},

	{"empty domain", "a@", "empty label"},
	{"dot after it", "a@example.org.", "empty label"},
	{"domain begins with a dot", "a@.example.org", "empty label"},
	{"dots together in the domain", "a@example..org", "empty label"},
	{"label of 64 bytes", "a@d" + label63 + ".org", "longer than 63 bytes"},
	{"second @", "a@evil.example@example.org", "domain of the e-mail address holds"},
	{"two @ together", "a@@example.org", "domain of the e-mail address holds"},
	{"list of two addresses", "a@example.org,b@evil.example", "domain of the e-mail address holds"},
	{"space after", "a@example.org ", "domain of the e-mail address holds"},
	{"space after the @", "a@ example.org", "domain of the e-mail address holds"},
	{"line break after", "a@example.org\n", "domain of the e-mail address holds"},
	{"header injection", "a@example.org\nbcc:b@evil.example", "domain of the e-mail address holds"},
	{"comment after", "a@example.org(c)", "domain of the e-mail address holds"},
	{"address literal", "a@[192.0.2.1]", "domain of the e-mail address holds"},
	{"address literal of IPv6", "a@[IPv6:2001:db8::1]", "domain of the e-mail address holds"},
	{"underscore in the domain", "a@b_c.example", "domain of the e-mail address holds"},
	{"emoji in the domain", "a@\u2764.example", "not a valid A-label"},
	{"A-label of an emoji", "a@xn--qei.example", "not a valid A-label"},
	{"middle dot between other letters than l", "a@a\u00b7b.example", "not a valid A-label"},
	{"digits of two kinds", "a@\u0628\u0660\u06f0\u0628.example", "domain of the e-mail address holds"},
	{"zero-width space in the domain", "a@m\u200b\u00fcnchen.de", "domain of the e-mail address holds"},
	{"byte that is not UTF-8 in the domain", "a@m\xffnchen.de", "domain of the e-mail address holds"},
	{"ideographic full stop", "a@example\u3002org", "domain of the e-mail address holds"},
	{"Kelvin sign in the domain", "a@\u212a.example", "domain of the e-mail address holds"},
	{"hyphen first in a label", "a@-b.example", "hyphen at the edge"},
	{"hyphen last in a label", "a@b-.example", "hyphen at the edge"},
	{"hyphen last in the domain", "a@b.example-", "hyphen at the edge"},
	{"xn-- and nothing after it", "a@xn--.example", "hyphen at the edge"},
	{"one label", "a@localhost", "fewer than two labels"},
	{"IPv4 address", "a@192.0.2.1", "ends in a number"},
	{"last label all digits", "a@example.123", "ends in a number"},

	{"A-label that does not decode", "a@xn--0.example", "not a valid A-label"},
	{"A-label that overflows", "a@xn--99999999.example", "not a valid A-label"},
	{"A-label of ASCII and a control character", "a@xn--abc-d.example", "not a valid A-label"},
	{"A-label of a control character", "a@xn--a.example", "not a valid A-label"},
	{"A-label of an A-label", "a@xn--xn---epa.example", "not a valid A-label"},
	{"A-label of what is not in NFC", "a@xn--u-ccb.example", "not a valid A-label"},
	{"A-label of a joiner alone", "a@xn--1ug.example", "not a valid A-label"},
	{"A-label that maps to another", "a@xn--a-tda.example", "not a valid A-label"},
	{"last label an invalid A-label", "a@example.xn--a", "not a valid A-label"},
	{"invalid A-label in capitals", "a@XN--A.example", "not a valid A-label"},
}

func TestAnEmailIsRefusedByRule(t *testing.T) {
	for _, row := range badEmails {
		t.Run(row.name, func(t *testing.T) {
			l, err := locator.New(locator.Email, row.raw)
			requireRefused(t, err, row.rule)
			require.Empty(t, l)
			requireSafe(t, locator.Email, row.raw)
		})
	}
}

func TestEveryByteOutsideTheGrammarIsRefused(t *testing.T) {
	const atext = "!#$%&'*+-/=?^_`{|}~"
	for b := range 256 {
		c := byte(b)
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'

		_, err := locator.New(locator.Email, "a"+string([]byte{c})+"z@example.org")
		require.Equal(t, alnum || c == '.' || strings.IndexByte(atext, c) >= 0, err == nil, "local part with byte %#x", c)

		_, err = locator.New(locator.Email, "a@b"+string([]byte{c})+"z.example")
		require.Equal(t, alnum || c == '.' || c == '-', err == nil, "domain with byte %#x", c)
	}
}

func TestLookingUpAnEmailAsksNoTable(t *testing.T) {
	const serialized = "email:A@XN--A.example" // no A-label, whatever the tables say
	_, err := locator.Parse(serialized)
	requireRefused(t, err, "not a valid A-label")

	found, err := locator.Canonical(serialized)
	require.NoError(t, err)
	require.Equal(t, "email:a@xn--a.example", found)
}

func TestDotsAndPlusTagsMakeOtherEmails(t *testing.T) {
	seen := map[string]string{}
	for _, raw := range []string{"ab@gmail.com", "a.b@gmail.com", "ab+x@gmail.com", "ab@googlemail.com"} {
		l, err := locator.New(locator.Email, raw)
		require.NoError(t, err)
		require.NotContains(t, seen, l.Canonical)
		seen[l.Canonical] = raw
	}
}
