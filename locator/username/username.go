// Package username is a type of locators for user names, username:alice. A host registers it:
//
//	names, err := username.Rule(username.Options{Rest: 90 * 24 * time.Hour})
//	dir, err := denizen.Open(ctx, "people.db", denizen.Options{
//		LocatorTypes: []denizen.LocatorRule{names},
//	})
//
// Users take a name by [denizen.Directory.AddLocator] and change it by
// [denizen.Directory.ReplaceLocator]. See [denizen.LocatorRule] for what it means that a name
// rests, and who may take it again.
//
// # What a name is
//
// A name is looked up by its form under the profile UsernameCaseMapped of PRECIS (RFC 8265): in
// lower case, in normalization form C, with full-width characters as ordinary ones. So Alice is
// alice.
//
// A new name has letters, digits and marks, and dots, dashes and underscores between them. It is of
// one script and is not reserved.
//
// # Names that look alike
//
// No two users have names that look alike. They do if they have the same skeleton (Unicode
// Technical Standard 39) without regard to case, such as the Cyrillic раураl, раypal, paypa1 and
// PayPal. Whoever takes one first has it, the others are refused, and it is found only as it is
// spelled.
//
// The standard also takes rn for m, 1 for l, and 0 for O. Which characters look alike is from a
// table of Unicode 17.0.0.
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

// Version is the version of the rule. It grows when a newer table changes the canonical form or the
// skeleton of any name: see [denizen.Directory.RekeyLocators].
const Version = 1

// Options are the settings of the rule. The zero value is good. They may be changed at any time:
// names that users have already stay as they are.
type Options struct {
	// MinChars and MaxChars bound a new name, in Unicode characters of its canonical form: 1 to 64.
	// The defaults are 3 and 30.
	MinChars, MaxChars int
	// Reserved are names that nobody may take, in addition to those of the function [Reserved]. Nor
	// may anybody take a name that looks like one. NewLocator.Override lets .system give one out.
	Reserved []string
	// MixedScripts allows names of several scripts. Without it the only scripts that go together
	// are Latin, Han, Hiragana and Katakana; Latin, Han and Bopomofo; and Latin, Han and Hangul.
	MixedScripts bool
	// Rest is how long a name rests after it was given up. The default is 30 days. Below 0 it does
	// not rest.
	Rest time.Duration
	// PerUser is how many names a user has at most. The default is 1.
	PerUser int
}

// New returns a user name to be added or looked up. It checks nothing: the directory does.
func New(name string) denizen.NewLocator {
	return denizen.NewLocator{Locator: string(Type) + ":" + name}
}

// Rule returns the rule of user names, to be registered. It is [denizen.ErrInvalid] if MinChars and
// MaxChars are out of bounds, or if Reserved holds something that is not a name.
func Rule(o Options) (denizen.LocatorRule, error) {
	if o.MinChars == 0 {
		o.MinChars = 3
	}
	if o.MaxChars == 0 {
		o.MaxChars = 30
	}
	if o.MinChars < 1 || o.MaxChars > 64 || o.MinChars > o.MaxChars {
		return denizen.LocatorRule{}, &denizen.Error{
			Op: "Rule", Kind: denizen.ErrInvalid, Field: "MinChars",
			Reason: "and MaxChars must be 1 to 64, in this order",
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
				Op: "Rule", Kind: denizen.ErrInvalid, Field: "Reserved",
				Reason: "holds what is no user name",
			}
		}
		reserved[forms.Unique] = true
	}
	o.Reserved = nil
	return denizen.LocatorRule{
		Type: Type, Version: Version, Self: true, PerUser: o.PerUser, Rest: o.Rest,
		Canonical: canonical,
		Check:     func(name string) error { return o.check(name, reserved) },
	}, nil
}

// Reserved returns the names that are always reserved. Somebody with one could pass for the service
// itself or for a role in it (RFC 2142), or the name could be mistaken for a part of a URL.
func Reserved() []string {
	return strings.Fields(`
		abuse account accounts admin administrator all anonymous anyone api app assets billing bot
		contact deleted everyone guest help here hostmaster info legal login logout mail me mod
		moderator moderators news nobody none no-reply noreply null official operator owner
		postmaster privacy register root sales security self server service settings signin signup
		staff status support sysadmin system team undefined unknown user username users webmaster www
		you`)
}

func refuse(reason string) error {
	return &denizen.Error{Kind: denizen.ErrInvalid, Field: "locator", Reason: reason}
}

// canonical returns the forms of a name.
func canonical(name string) (denizen.LocatorForms, error) {
	if name == "" {
		return denizen.LocatorForms{}, refuse("user name is empty")
	}
	// RFC 8265 wants the rules applied until nothing changes. Twice is enough for all known names.
	for range 3 {
		mapped, err := precis.UsernameCaseMapped.String(name)
		if err != nil {
			return denizen.LocatorForms{}, refuse(
				"user name holds a character or an order of characters that RFC 8265 does not allow")
		}
		if mapped == name {
			return denizen.LocatorForms{Canonical: name, Unique: skeleton(name)}, nil
		}
		name = mapped
	}
	return denizen.LocatorForms{}, refuse("user name has no form of its own")
}

// check refuses a canonical name that nobody may take.
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
		if !unicode.In(r, unicode.L, unicode.N, unicode.M) &&
			r != '.' && r != '-' && r != '_' && !joins(r) {
			return refuse("user name holds a character other than letters, digits, " +
				"dots, dashes and underscores")
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

// skeleton returns the form that names share if they look alike: by UTS 39, and in lower case. It
// repeats both, because a replacement may be in upper case: 0 becomes O, which becomes o.
func skeleton(name string) string {
	var b strings.Builder
	for range 8 { // a test shows that nothing changes any more after fewer
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

// together lists the scripts that one language is written in.
var together = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// mixed reports whether a name is of several scripts that are not written together.
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

// scriptOf returns the script of a character, or "" if it belongs to all scripts.
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
