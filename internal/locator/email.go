package locator

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// The limits of RFC 5321, section 4.5.3.1, and RFC 1035, section 2.3.4, in bytes. A path has at
// most 256 with its angle brackets, which leaves 254.
const (
	maxEmail = 254
	maxLocal = 64
	maxLabel = 63
)

// acePrefix begins an A-label (RFC 5890, section 2.3.2.5).
const acePrefix = "xn--"

func shapeEmail(address string) (string, error) {
	if len(address) > maxEmail {
		return "", refuse("e-mail address is longer than 254 bytes")
	}
	local, domain, found := strings.Cut(address, "@")
	if !found {
		return "", refuse("e-mail address has no @")
	}
	if err := checkLocal(local); err != nil {
		return "", err
	}
	ascii, err := aLabels(domain)
	if err != nil {
		return "", err
	}
	if err := checkDomain(ascii); err != nil {
		return "", err
	}
	if ascii == domain {
		return strings.ToLower(address), nil
	}
	if len(local)+1+len(ascii) > maxEmail {
		return "", refuse("e-mail address is longer than 254 bytes under the A-labels of its domain")
	}
	return strings.ToLower(local + "@" + ascii), nil
}

// aLabels returns a domain with its labels beyond ASCII, in any case and normal form, as A-labels.
// It returns an ASCII domain unchanged, whatever the tables say.
func aLabels(domain string) (string, error) {
	if isASCII(domain) {
		return domain, nil
	}
	labels := strings.Split(domain, ".")
	for i, label := range labels {
		if isASCII(label) {
			continue
		}
		u := norm.NFC.String(strings.ToLower(label))
		a, err := idna.Registration.ToASCII(u)
		if !utf8.ValidString(label) || err != nil || !strings.HasPrefix(a, acePrefix) ||
			strings.Contains(a, ".") {
			return "", refuse("domain of the e-mail address holds a label " +
				"that no internationalised domain name has")
		}
		labels[i] = a
	}
	return strings.Join(labels, "."), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// checkLocal checks that the local part is a dot-atom-text (RFC 5322, section 3.2.3).
func checkLocal(local string) error {
	if local == "" {
		return refuse("local part of the e-mail address is empty")
	}
	if len(local) > maxLocal {
		return refuse("local part of the e-mail address is longer than 64 bytes")
	}
	dot := true // as if a dot preceded the first atom
	for i := range len(local) {
		c := local[i]
		if c == '.' && dot {
			return refuse("local part of the e-mail address has a dot at its edge or beside another")
		}
		dot = c == '.'
		if !dot && !isAtext(c) {
			return refuse("local part of the e-mail address holds a character " +
				"other than ASCII letters, digits, dots and !#$%&'*+-/=?^_`{|}~")
		}
	}
	if dot {
		return refuse("local part of the e-mail address has a dot at its edge or beside another")
	}
	return nil
}

// checkDomain checks that the domain is a Domain (RFC 5321, section 4.1.2) with two or more labels.
func checkDomain(domain string) error {
	labels := 0
	last := ""
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" {
			return refuse("domain of the e-mail address has an empty label")
		}
		if len(label) > maxLabel {
			return refuse("domain of the e-mail address has a label longer than 63 bytes")
		}
		for i := range len(label) {
			if c := label[i]; c != '-' && !isAlnum(c) {
				return refuse("domain of the e-mail address holds a character " +
					"other than ASCII letters, digits, hyphens and dots")
			}
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return refuse("domain of the e-mail address has a hyphen at the edge of a label")
		}
		labels++
		last = label
	}
	if labels < 2 {
		return refuse("domain of the e-mail address has fewer than two labels")
	}
	if strings.Trim(last, "0123456789") == "" {
		return refuse("domain of the e-mail address ends in a number")
	}
	return nil
}

// judgeEmail checks the labels of a canonical address that claim to be A-labels against the tables
// of IDNA.
func judgeEmail(canonical string) error {
	if !strings.Contains(canonical, acePrefix) {
		return nil
	}
	_, domain, _ := strings.Cut(canonical, "@")
	for label := range strings.SplitSeq(domain, ".") {
		if strings.HasPrefix(label, acePrefix) && !isALabel(label) {
			return refuse("domain of the e-mail address has a label " +
				"that begins with xn-- and is not a valid A-label")
		}
	}
	return nil
}

// isALabel reports whether label decodes to a U-label that is valid by IDNA2008 and encodes to
// label again. Package idna follows UTS 46, which allows symbols, emoji among them, that RFC 5892
// does not. Those are refused here.
func isALabel(label string) bool {
	encoded, err := idna.Registration.ToASCII(label) // decodes, validates, encodes
	if err != nil || encoded != label {
		return false
	}
	u, err := idna.Punycode.ToUnicode(label)
	return err == nil && pvalid([]rune(u))
}

// pvalid reports whether a U-label conforms to RFC 5892: it has letters, marks and digits only,
// with the exceptions of section 2.6 and the contextual rules of appendix A. Package idna has
// already checked the joiners.
func pvalid(u []rune) bool {
	arabic, persian := false, false
	for i, r := range u {
		at := func(j int) rune {
			if j < 0 || j >= len(u) {
				return 0
			}
			return u[j]
		}
		switch {
		case r == '\u00b7': // between two l
			if at(i-1) != 'l' || at(i+1) != 'l' {
				return false
			}
		case r == '\u0375':
			if !unicode.Is(unicode.Greek, at(i+1)) {
				return false
			}
		case r == '\u05f3' || r == '\u05f4':
			if !unicode.Is(unicode.Hebrew, at(i-1)) {
				return false
			}
		case r == '\u30fb':
			if !slices.ContainsFunc(u, func(r rune) bool {
				return unicode.In(r, unicode.Hiragana, unicode.Katakana, unicode.Han) && r != '\u30fb'
			}) {
				return false
			}
		case r >= '\u0660' && r <= '\u0669':
			arabic = true
		case r >= '\u06f0' && r <= '\u06f9':
			persian = true
		case strings.ContainsRune("\u0640\u07fa\u302e\u302f\u3031\u3032\u3033\u3034\u3035\u303b", r):
			return false
		case r == '-' || strings.ContainsRune("\u06fd\u06fe\u0f0b\u3007\u200c\u200d", r):
		case unicode.In(r, unicode.Ll, unicode.Lo, unicode.Lm, unicode.Mn, unicode.Mc, unicode.Nd):
		default:
			return false
		}
	}
	return !arabic || !persian
}

func isAtext(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
