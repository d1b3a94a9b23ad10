// Package username is a type of locators for user names, username:alice. A host registers it:
//
//	names, err := username.Rule(username.Options{Rest: 90 * 24 * time.Hour})
//	dir, err := denizen.Open(ctx, "people.db", denizen.Options{LocatorTypes: []denizen.LocatorRule{names}})
//
// Users take a name by AddLocator and change it by ReplaceLocator; see [denizen.LocatorRule] for
// what resting is, and who may take a name again.
//
// # What a name is
//
// A name is looked up by its form under the profile UsernameCaseMapped of PRECIS (RFC 8265): in
// lower case, in normalization form C, with full-width characters as ordinary ones. So Alice is
// alice. A new name is of letters, digits and marks, and of dots, dashes and underscores between
// them, is of one script, and is not reserved.
//
// # Names that look alike
//
// A name is unique by its skeleton (Unicode Technical Standard 39), beyond case: the Cyrillic
// раураl, раypal, paypa1 and PayPal are one name as to who may take it, and each is found only as it
// is spelled. The standard takes rn for m, 1 for l, and 0 for O; so do we, and of two such names
// the second is refused. What looks alike is from a table of Unicode 17.0.0.
package username

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"github.com/denizenhq/denizen"
)

// Type is the type of user names as locators.
const Type denizen.LocatorType = "username"

// Version is that of the canonical form and the skeleton. A newer table gets a newer version where
// it changes either for any name; see [denizen.Directory.RekeyLocators].
const Version = 1

// Options are the settings of the rule. The zero value is good. All but Rest and PerUser are about
// new names alone, and may be changed at any time.
type Options struct {
	// MinChars and MaxChars bound a name, in Unicode characters of its canonical form; 3 and 30
	// unless set, 1 and 64 at most.
	MinChars, MaxChars int
	// Reserved are names that nobody takes, nor one that looks like them, beside those that Reserved
	// returns. The directory gives one out to whom .system says, by NewLocator.Override.
	Reserved []string
	// MixedScripts lets a name be of several scripts. Without it Latin goes together with Han and
	// one of Hiragana and Katakana, Bopomofo or Hangul, and nothing else does.
	MixedScripts bool
	// Rest is how long a name rests that was given up; 30 days unless set. Below 0: not at all.
	Rest time.Duration
	// PerUser is how many names a user has at most; 1 unless set.
	PerUser int
}

// New is a user name to be added or looked up.
func New(name string) denizen.NewLocator {
	return denizen.NewLocator{Locator: string(Type) + ":" + name}
}

// Rule returns the rule of user names, to be registered. Options that do not go together are a
// *denizen.Error of the kind ErrInvalid, and so is a reserved name that is no name.
func Rule(o Options) (denizen.LocatorRule, error) {
	if o.MinChars == 0 {
		o.MinChars = 3
	}
	if o.MaxChars == 0 {
		o.MaxChars = 30
	}
	if o.MinChars < 1 || o.MaxChars > 64 || o.MinChars > o.MaxChars {
		return denizen.LocatorRule{}, &denizen.Error{
			Op: "Rule", Kind: denizen.ErrInvalid, Field: "MinChars", Reason: "and MaxChars must be 1 to 64, in this order",
		}
	}
	switch {
	case o.Rest == 0:
		o.Rest = 30 * 24 * time.Hour
	case o.Rest < 0:
		o.Rest = 0
	}
	reserved := map[string]bool{}
	for _, name := range slices.Concat(Reserved(), o.Reserved) {
		forms, err := canonical(name)
		if err != nil {
			return denizen.LocatorRule{}, &denizen.Error{
				Op: "Rule", Kind: denizen.ErrInvalid, Field: "Reserved", Reason: "holds what is no user name",
			}
		}
		reserved[forms.Unique] = true
	}
	o.Reserved = nil
	return denizen.LocatorRule{
		Type: Type, Version: Version, Self: true, PerUser: o.PerUser, Rest: o.Rest, Canonical: canonical,
		Check: func(name string) error { return o.check(name, reserved) },
	}, nil
}

// Reserved returns the names that are always reserved: those that pass for the service itself, for a
// role in it (RFC 2142), or for a part of an address.
func Reserved() []string {
	return strings.Fields(`
		abuse account accounts admin administrator all anonymous anyone api app assets billing bot
		contact deleted everyone guest help here hostmaster info legal login logout mail me mod
		moderator moderators news nobody none no-reply noreply null official operator owner
		postmaster privacy register root sales security self server service settings signin signup
		staff status support sysadmin system team undefined unknown user username users webmaster www you`)
}

func refuse(reason string) error {
	return &denizen.Error{Kind: denizen.ErrInvalid, Field: "locator", Reason: reason}
}

// canonical returns the forms of a name.
func canonical(name string) (denizen.LocatorForms, error) {
	if name == "" {
		return denizen.LocatorForms{}, refuse("user name is empty")
	}
	for range 3 { // twice does for all that is known
		mapped, err := precis.UsernameCaseMapped.String(name)
		if err != nil {
			return denizen.LocatorForms{}, refuse("user name holds a character or an order of characters that RFC 8265 does not allow")
		}
		if mapped == name {
			return denizen.LocatorForms{Canonical: name, Unique: skeleton(name)}, nil
		}
		name = mapped
	}
	return denizen.LocatorForms{}, refuse("user name has no form of its own")
}

// check refuses what may not be a new name. It is given in canonical form.
func (o *Options) check(name string, reserved map[string]bool) error {
	if n := utf8.RuneCountInString(name); n < o.MinChars || n > o.MaxChars {
		return refuse("user name is too short or too long")
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if !unicode.In(first, unicode.L, unicode.N) || !unicode.In(last, unicode.L, unicode.N, unicode.M) {
		return refuse("user name does not begin and end with a letter or a digit")
	}
	for _, r := range name {
		if !unicode.In(r, unicode.L, unicode.N, unicode.M) && r != '.' && r != '-' && r != '_' && !joins(r) {
			return refuse("user name holds a character other than letters, digits, dots, dashes and underscores")
		}
	}
	if !o.MixedScripts && mixed(name) {
		return refuse("user name is of several scripts")
	}
	if reserved[skeleton(name)] {
		return refuse("user name is reserved")
	}
	return nil
}

// joins reports whether r is a joiner, which PRECIS allows where it shapes letters.
func joins(r rune) bool { return r == '\u200c' || r == '\u200d' }

// skeleton returns the form that names share which look alike: by UTS 39, and without case also
// where it is a replacement that has one. O and 0 are one, as o and 0 are.
func skeleton(name string) string {
	var b strings.Builder
	for range 8 { // until nothing is replaced, which a test knows to be sooner
		b.Reset()
		for _, r := range norm.NFD.String(name) {
			switch to, ok := lookalike(r); {
			case joins(r):
			case ok:
				b.WriteString(to)
			default:
				b.WriteRune(r)
			}
		}
		next := norm.NFD.String(strings.ToLower(b.String()))
		if next == name {
			break
		}
		name = next
	}
	return name
}

func lookalike(r rune) (to string, found bool) {
	i, found := slices.BinarySearchFunc(lookalikes[:], r, func(e struct {
		from rune
		to   string
	}, r rune,
	) int {
		return int(e.from - r)
	})
	if !found {
		return "", false
	}
	return lookalikes[i].to, true
}

// together are scripts that one language is written in.
var together = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// mixed reports whether a name is of scripts that no language is written in together.
func mixed(name string) bool {
	var scripts []string
	for _, r := range name {
		if s := scriptOf(r); s != "" && !slices.Contains(scripts, s) {
			scripts = append(scripts, s)
		}
	}
	if len(scripts) <= 1 {
		return false
	}
	return !slices.ContainsFunc(together, func(allowed []string) bool {
		return !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(allowed, s) })
	})
}

// scriptOf returns the script of a character, "" for one that all scripts have.
func scriptOf(r rune) string {
	switch {
	case unicode.Is(unicode.Latin, r):
		return "Latin"
	case unicode.In(r, unicode.Common, unicode.Inherited):
		return ""
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return "unknown"
}
