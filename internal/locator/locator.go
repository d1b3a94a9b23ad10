// Package locator computes the canonical form of e-mail addresses and telephone numbers, under
// which they are unique and looked up.
//
// An address is checked in two steps. The first checks its shape against a plain ASCII grammar,
// which never changes, and gives the canonical form. The second checks a new address against tables
// that others maintain: IDNA for a domain, the numbering plans for a telephone number. [Parse] and
// [New] take both steps. [Canonical], which is for lookups, takes only the first, so that newer
// tables never hide an address that older ones accepted.
//
// The package is pure. It keeps no state, and its functions may be called by many goroutines at
// once.
//
// # E-mail
//
// Accepted is a subset of the addr-spec of RFC 5322 (formerly RFC 822), within the limits of RFC
// 5321: a dot-atom of at most 64 bytes, @, and a domain, at most 254 bytes in total. There is no
// display name, comment, quoted string, address literal or list, and no space or dot at the end.
//
// The local part is ASCII. The domain has two or more labels of letters, digits and hyphens. A
// label is 1 to 63 bytes and has no hyphen at its edge. The last label may not be all digits: that
// is an IPv4 address or no name at all (RFC 3696, section 2).
//
// A label beyond ASCII may be in any case and normal form. It becomes its A-label, under which it
// is unique, looked up and delivered to. Raw keeps what was given. In a new address a label that
// begins with xn-- must be the A-label of a valid U-label (RFC 5890) by the rules of IDNA2008 (RFC
// 5892). Labels are checked one by one.
//
// The canonical form is the address in lower case. Nothing else is folded: dots and plus tags
// count.
//
// # Telephone
//
// Accepted is an E.164 number with its country code: +, then a digit other than 0, 7 to 15 digits
// in total. Spaces, dashes, dots and round brackets (in ASCII) are allowed between the + and the
// last digit, and are dropped; with them the number is at most 64 bytes. There is no extension,
// letter, tel: URI, dialling prefix or trunk zero.
//
// The canonical form is + and the digits. A new number must be valid in its country's numbering
// plan and be in its E.164 format already.
package locator

import "strings"

// Type is the type of a locator. Its text is the prefix of the serialized form.
type Type string

// The types, in lower case only.
const (
	Email Type = "email"
	Tele  Type = "tele"
)

// Locator is an address that [Parse] or [New] has accepted. Its strings may share memory with the
// argument.
type Locator struct {
	Type      Type
	Canonical string // the form it is unique and looked up by, without the type
	Raw       string // what was given, for display and delivery, without the type
}

// Serialized returns the canonical serialized form: type, colon, canonical address.
func (l Locator) Serialized() string {
	return string(l.Type) + ":" + l.Canonical
}

// Deliverable returns the address that a message can be sent to, without the type. For a number
// that is the canonical form. For an e-mail address it is what was given, with the domain as
// A-labels. For any other type it is what was given.
func Deliverable(t Type, raw, canonical string) string {
	if t == Tele {
		return canonical
	}
	for i := range len(raw) {
		if raw[i] >= 0x80 {
			if t != Email {
				return raw
			}
			// The local part is ASCII.
			return raw[:strings.IndexByte(raw, '@')] + canonical[strings.IndexByte(canonical, '@'):]
		}
	}
	return raw
}

// Error is the refusal of a locator. It does not contain any of what was given.
type Error struct {
	Field  string // always "locator"
	Reason string // the rule that was broken
}

// Error returns the field and the rule.
func (e *Error) Error() string { return e.Field + ": " + e.Reason }

func refuse(reason string) error { return &Error{Field: "locator", Reason: reason} }

// Parse checks a new locator in its serialized form, such as email:alice@example.org or
// tele:+16502530000. The error is an [*Error].
func Parse(serialized string) (Locator, error) {
	t, address, err := split(serialized)
	if err != nil {
		return Locator{}, err
	}
	return New(t, address)
}

// New checks a new locator given as a type and an address. The error is an [*Error].
func New(t Type, address string) (Locator, error) {
	canonical, err := shape(t, address)
	if err != nil {
		return Locator{}, err
	}
	if err := judge(t, canonical); err != nil {
		return Locator{}, err
	}
	return Locator{Type: t, Canonical: canonical, Raw: address}, nil
}

// Canonical returns the canonical serialized form, for lookups. It checks the shape only. So for
// anything that [Parse] has ever accepted it returns what [Locator.Serialized] returned, whatever
// the tables say today. It returns a canonical form unchanged. The error is an [*Error].
func Canonical(serialized string) (string, error) {
	t, address, err := split(serialized)
	if err != nil {
		return "", err
	}
	canonical, err := shape(t, address)
	if err != nil {
		return "", err
	}
	if canonical == address {
		return serialized, nil
	}
	return string(t) + ":" + canonical, nil
}

func split(serialized string) (Type, string, error) {
	t, address, found := strings.Cut(serialized, ":")
	if !found {
		return "", "", refuse("is not a type, a colon and an address")
	}
	return Type(t), address, nil
}

// shape returns the canonical form of address, which is address itself if it is canonical.
func shape(t Type, address string) (string, error) {
	switch t {
	case Email:
		return shapeEmail(address)
	case Tele:
		return shapeTele(address)
	}
	return "", refuse("type is neither email nor tele")
}

// judge checks a canonical address against the current tables.
func judge(t Type, canonical string) error {
	if t == Email {
		return judgeEmail(canonical)
	}
	return judgeTele(canonical)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
