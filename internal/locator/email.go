package locator

import (
	"strings"

	"golang.org/x/net/idna"
)

// RFC 5321, section 4.5.3.1, and RFC 1035, section 2.3.4, in bytes. A path is at
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
	if err := checkDomain(domain); err != nil {
		return "", err
	}
	return strings.ToLower(address), nil // all ASCII by now
}

// checkLocal holds the local part to the dot-atom-text of RFC 5322, section 3.2.3.
func checkLocal(local string) error {
	if local == "" {
		return refuse("local part of the e-mail address is empty")
	}
	if len(local) > maxLocal {
		return refuse("local part of the e-mail address is longer than 64 bytes")
	}
	dot := true // as if one stood before the first atom
	for i := range len(local) {
		c := local[i]
		if c == '.' && dot {
			return refuse("local part of the e-mail address has a dot at its edge or beside another")
		}
		dot = c == '.'
		if !dot && !isAtext(c) {
			return refuse("local part of the e-mail address holds a character other than ASCII letters, digits, dots and !#$%&'*+-/=?^_`{|}~")
		}
	}
	if dot {
		return refuse("local part of the e-mail address has a dot at its edge or beside another")
	}
	return nil
}

// checkDomain holds the domain to the Domain of RFC 5321, section 4.1.2, with two
// labels or more.
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
				return refuse("domain of the e-mail address holds a character other than ASCII letters, digits, hyphens and dots")
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

// judgeEmail holds the labels of a canonical address that claim to be A-labels
// against the tables of IDNA.
func judgeEmail(canonical string) error {
	if !strings.Contains(canonical, acePrefix) {
		return nil
	}
	_, domain, _ := strings.Cut(canonical, "@")
	for label := range strings.SplitSeq(domain, ".") {
		if strings.HasPrefix(label, acePrefix) && !isALabel(label) {
			return refuse("domain of the e-mail address has a label that begins with xn-- and is not a valid A-label")
		}
	}
	return nil
}

// isALabel says whether label decodes to a valid U-label that encodes to it again.
// Package idna follows UTS 46, which lets in some symbols, emoji among them, that
// RFC 5892 does not.
func isALabel(label string) bool {
	encoded, err := idna.Registration.ToASCII(label) // decodes, validates, encodes
	return err == nil && encoded == label
}

func isAtext(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
