// Package locator gives e-mail addresses and telephone numbers their canonical
// form, the one under which they are unique and looked up.
//
// An address is judged in two steps. Its shape is plain ASCII grammar, fixed for
// ever, and gives the canonical form. A new address is then held against tables
// that others maintain: IDNA for a domain, the numbering plans for a telephone
// number. [Parse] and [New] take both steps. [Canonical], for looking up, takes
// only the first, so that newer tables never hide what older ones let in.
//
// # E-mail
//
// A deliberate narrowing of the addr-spec of RFC 5322 (RFC 822 before it), within
// the limits of RFC 5321: a dot-atom of at most 64 bytes, @, and a domain of two or
// more labels of letters, digits and hyphens, each of 1 to 63 bytes and without a
// hyphen at its edge; at most 254 bytes in all. The local part is ASCII. A label of the
// domain beyond ASCII is taken in any case and normal form and becomes its A-label, under
// which it is unique, looked up and delivered to; Raw keeps it. There is no display name,
// comment, quoted string, address literal, list, space or dot at the end. The last
// label may not be all digits: that is an IPv4 address, or no name at all (RFC 3696,
// section 2). The canonical form is the address in lower case. Nothing else is
// folded: dots and plus tags count.
//
// A label that begins with xn-- in a new address must be the one A-label of a valid
// U-label (RFC 5890) by the rules of IDNA2008 (RFC 5892); labels are judged one by one.
//
// # Telephone
//
// A number of E.164 with its country code: +, then a digit other than 0, 7 to 15
// digits in all. Spaces, dashes, dots and round brackets may stand anywhere between
// the + and the last digit and are dropped, ASCII ones only; at most 64 bytes with
// them. There is no extension, letter, tel: URI, dialling prefix or trunk zero. The
// canonical form is + and the digits. A new number must be valid in its country's
// numbering plan and already be in its E.164 format there.
//
// The package is pure: its functions keep nothing and may be called by many
// goroutines at once.
package locator

import "strings"

// Type says what a locator is. Its text is the prefix of the serialized form.
type Type string

// The types, in lower case only.
const (
	Email Type = "email"
	Tele  Type = "tele"
)

// Locator is an address that [Parse] or [New] accepted. Its strings may share memory
// with what was given.
type Locator struct {
	Type      Type
	Canonical string // what it is unique and looked up by, without the type
	Raw       string // what was given, for delivery and display, without the type
}

// Serialized returns the canonical serialized form: type, colon, canonical address.
func (l Locator) Serialized() string {
	return string(l.Type) + ":" + l.Canonical
}

// Deliverable returns the address that a message can be sent to, without the type: a number
// in its canonical form, an e-mail address as it was typed with its domain as A-labels.
func Deliverable(t Type, raw, canonical string) string {
	if t == Tele {
		return canonical
	}
	for i := range len(raw) {
		if raw[i] >= 0x80 { // the local part is ASCII
			return raw[:strings.IndexByte(raw, '@')] + canonical[strings.IndexByte(canonical, '@'):]
		}
	}
	return raw
}

// Error is a refused locator. It never holds any of what was given.
type Error struct {
	Field  string // always "locator"
	Reason string // the rule that was broken
}

// Error names the field and the rule.
func (e *Error) Error() string { return e.Field + ": " + e.Reason }

func refuse(reason string) error { return &Error{Field: "locator", Reason: reason} }

// Parse judges a new locator given in its serialized form, such as
// email:alice@example.org or tele:+16502530000. A refusal is an [*Error].
func Parse(serialized string) (Locator, error) {
	t, address, err := split(serialized)
	if err != nil {
		return Locator{}, err
	}
	return New(t, address)
}

// New judges a new locator given as a type and an address apart. A refusal is an
// [*Error].
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

// Canonical returns the canonical serialized form by shape alone, for looking up: of
// whatever [Parse] once accepted it is what [Locator.Serialized] returned, with any
// later tables. What is canonical already comes back as it is. A refusal is an
// [*Error].
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

// shape returns the canonical form of address, and address itself if that is it.
func shape(t Type, address string) (string, error) {
	switch t {
	case Email:
		return shapeEmail(address)
	case Tele:
		return shapeTele(address)
	}
	return "", refuse("type is neither email nor tele")
}

// judge holds a canonical address against the tables of the day.
func judge(t Type, canonical string) error {
	if t == Email {
		return judgeEmail(canonical)
	}
	return judgeTele(canonical)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
