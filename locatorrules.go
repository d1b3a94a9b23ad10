package denizen

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denizenhq/denizen/internal/locator"
	"github.com/denizenhq/denizen/internal/record"
)

// MaxLocatorBytes is how long a locator of a registered type may be without its type, and how long
// each of its forms may be. E-mail addresses and telephone numbers have bounds of their own.
const MaxLocatorBytes = 768

// LocatorRule is a type of locators beside e-mail addresses and telephone numbers, such as user
// names. [Options].LocatorTypes registers it. Packages locator/username and locator/external each
// return one.
//
// A locator of such a type is never a claim: whoever may add it makes the user its owner at once.
// Its status is always [VerificationNotApplicable], unless the type is Vouched.
//
// The functions of a rule may be called by many goroutines at once, also before the caller is
// checked. They get any valid UTF-8 without controls, up to [MaxLocatorBytes].
//
// They are never called during a write, so a slow one delays only its caller. A panic comes out of
// the method that was called, and nothing has changed.
type LocatorRule struct {
	// Type is how serialized locators begin: 1 to 32 of a-z, 0-9 and -, beginning with a letter. It
	// is stored with each locator.
	Type LocatorType
	// Version is the version of Canonical, 1 or more. It is stored with each locator. If Canonical
	// comes to return other forms for anything, Version must grow: see [Directory.RekeyLocators].
	Version int
	// Canonical returns the forms of a locator, or an error if it is none of the type. It gets the
	// locator without its type. It must be pure, and return a canonical form unchanged.
	//
	// The caller gets the Reason of an [*Error], so it must not hold the locator. The text of any
	// other error is not shown to callers.
	Canonical func(locator string) (LocatorForms, error)
	// Check refuses well-formed locators that nobody may take, such as reserved names. It gets the
	// canonical form of a new locator. Errors are as for Canonical. Nil refuses none.
	//
	// It is not called for look-ups or for what a user has already, so it may change without a new
	// Version.
	Check func(canonical string) error
	// Self lets users add, replace and remove their own locators of the type. Otherwise only
	// .system may.
	Self bool
	// Vouched says that such a locator shows who somebody is, as the identity at a sign-in provider
	// does. What .system adds is [Verified] unless it says otherwise, and counts as verified for
	// [Directory.ProveLocator]. A type cannot be both Vouched and Self.
	Vouched bool
	// PerUser is how many a user owns at most, by default 1. All count towards [MaxLocators], too.
	PerUser int
	// Rest is how long a locator rests after its user gave it up, lost it or was deleted: whole
	// milliseconds, ten years at most. The default is 0: it is free at once.
	//
	// While it rests it is found by nobody and taken by nobody, and neither is one with the same
	// unique form. Its last owner may take it back, up to four of them. NewLocator.Override lets
	// .system give it out.
	Rest time.Duration
}

// LocatorForms is what [LocatorRule] makes of a locator.
type LocatorForms struct {
	// Canonical is the form that it is looked up by.
	Canonical string
	// Unique is what no two owned locators of the type share, if more than Canonical must differ:
	// names that look alike have the same. If it is empty it is the canonical form.
	Unique string
}

// builtIn reports whether a type has its rules in internal/locator.
func builtIn(t string) bool { return t == string(TypeEmail) || t == string(TypeTele) }

// locatorRules is what Options.LocatorTypes registers; there are few.
type locatorRules []LocatorRule

// of returns the rule of a type, or nil.
func (rs locatorRules) of(t string) *LocatorRule {
	for i := range rs {
		if string(rs[i].Type) == t {
			return &rs[i]
		}
	}
	return nil
}

// fill checks the rules and sets what is unset.
func (rs locatorRules) fill() error {
	refuse := func(reason string) error { return invalid("LocatorTypes", reason) }
	for i := range rs {
		r := &rs[i]
		if r.PerUser == 0 {
			r.PerUser = 1
		}
		switch {
		case !locatorType(string(r.Type)) || builtIn(string(r.Type)):
			return refuse("a type must be 1 to 32 of a-z 0-9 -, " +
				"beginning with a letter, and neither email nor tele")
		case rs[:i].of(string(r.Type)) != nil:
			return refuse("a type is registered twice")
		case r.Version < 1:
			return refuse("the version of a rule must be 1 or more")
		case r.Canonical == nil:
			return refuse("a rule has no Canonical")
		case r.Self && r.Vouched:
			return refuse("what users add for themselves is not vouched for")
		case r.PerUser < 1 || r.PerUser > MaxLocators:
			return refuse("PerUser must be 1 to 16")
		case r.Rest < 0 || r.Rest%time.Millisecond != 0 || r.Rest > tenYears:
			return refuse("Rest must be a multiple of a millisecond and ten years at most")
		}
	}
	return nil
}

func locatorType(t string) bool {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	return t != "" && len(t) <= 32 && t[0] >= 'a' && t[0] <= 'z' && !strings.ContainsFunc(t, bad)
}

// forms returns the forms of a locator of the rule's type.
func (r *LocatorRule) forms(raw string) (LocatorForms, error) {
	if !locatorText(raw) {
		const rule = "must be 1 to 768 bytes of UTF-8 without controls after its type"
		return LocatorForms{}, invalid("locator", rule)
	}
	f, err := r.Canonical(raw)
	if err != nil {
		return LocatorForms{}, ruleError(err)
	}
	if !locatorText(f.Canonical) || f.Unique != "" && !locatorText(f.Unique) {
		const rule = "has a form that is not 1 to 768 bytes of UTF-8 without controls"
		return LocatorForms{}, invalid("locator", rule)
	}
	return f, nil
}

// newForms is forms for a locator that somebody is to own. Its canonical form must be its own
// canonical form, or look-ups would not find it.
func (r *LocatorRule) newForms(raw string) (LocatorForms, error) {
	f, err := r.forms(raw)
	if err != nil {
		return f, err
	}
	if again, err := r.forms(f.Canonical); err != nil || again != f {
		const rule = "has a canonical form that the rule of its type does not keep"
		return LocatorForms{}, invalid("locator", rule)
	}
	return f, nil
}

func (r *LocatorRule) check(canonical string) error {
	if r.Check == nil {
		return nil
	}
	return ruleError(r.Check(canonical))
}

// status returns the status of a new locator of the rule's type that is given with s.
func (r *LocatorRule) status(s VerificationStatus) (VerificationStatus, error) {
	switch {
	case s == "" && r.Vouched:
		return Verified, nil
	case s == "" || s == VerificationNotApplicable:
		return VerificationNotApplicable, nil
	case !r.Vouched:
		const rule = "must be VerificationNotApplicable for this type of locator"
		return "", invalid("verificationStatus", rule)
	}
	return s, nil
}

// ruleError returns the error of a host's rule as the caller gets it. It drops any text that is not
// meant for the caller, because it may hold the locator.
func ruleError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return invalid("locator", e.Reason)
	}
	return &Error{
		Kind: ErrInvalid, Field: "locator", Reason: "is refused by the rule of its type", cause: err,
	}
}

func locatorText(s string) bool {
	return s != "" && len(s) <= MaxLocatorBytes && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, unicode.IsControl)
}

// given is a locator as a caller gave it, with its forms. They are computed before the write
// begins, because a rule of the host may be slow or panic.
type given struct {
	NewLocator
	kind      string // the type
	canonical string // type:canonical; empty if it has no form, and then err says why
	unique    string
	rule      *LocatorRule // nil for e-mail addresses, telephone numbers and unregistered types
	err       error        // why it cannot be a new one; the user may still have it
}

// form returns a locator that is to be added or kept, with its forms. It refuses what no user can
// have.
func (d *Directory) form(n NewLocator) (given, error) {
	g := given{NewLocator: n}
	var raw string
	g.kind, raw, _ = strings.Cut(n.Locator, ":")
	if g.rule = d.rules.of(g.kind); g.rule == nil {
		g.canonical, g.err = canonical(n.Locator)
		// The user may have one of a type that was registered once.
		if g.err != nil && (builtIn(g.kind) || !locatorType(g.kind) || !locatorText(raw)) {
			return given{}, g.err
		}
	}
	if g.Status != "" && !g.Status.known() {
		return given{}, invalid("verificationStatus", "is none of the five")
	}
	if g.rule == nil {
		return g, nil
	}
	f, err := g.rule.newForms(raw)
	if err != nil {
		g.err = err
		return g, nil // a user may have it by an earlier rule
	}
	g.canonical, g.unique = g.kind+":"+f.Canonical, f.Unique
	if !g.Override {
		g.err = g.rule.check(f.Canonical)
	}
	return g, nil
}

// in returns which of a user's locators is the given one, or -1. It recognises what the directory
// returned before, even if the rule has changed since or is not registered any more.
func (g *given) in(locators []record.Locator) int {
	if !builtIn(g.kind) {
		i := slices.IndexFunc(locators, func(l record.Locator) bool {
			return l.Type == g.kind && len(g.Locator) == len(l.Type)+1+len(l.Raw) &&
				g.Locator[len(l.Type)+1:] == l.Raw
		})
		if i < 0 {
			i = slices.IndexFunc(locators, func(l record.Locator) bool { return l.Is(g.Locator) })
		}
		if i >= 0 {
			return i
		}
	}
	if g.canonical == "" {
		return -1
	}
	return slices.IndexFunc(locators, func(l record.Locator) bool { return l.Is(g.canonical) })
}

// new returns the given locator as a new one, which is not owned yet.
func (g *given) new(now int64) (record.Locator, error) {
	if g.rule == nil {
		return newLocator(g.NewLocator, now)
	}
	if g.err != nil {
		return record.Locator{}, g.err
	}
	status, err := g.rule.status(g.Status)
	if err != nil {
		return record.Locator{}, err
	}
	l := record.Locator{
		ID: newLocatorID(), Type: g.kind,
		Canonical: g.canonical[len(g.kind)+1:], Raw: g.Locator[len(g.kind)+1:],
		Added: now, Rule: int64(g.rule.Version), Unique: g.unique,
	}
	setStatus(&l, status, now)
	return l, nil
}

// canonical returns the canonical serialized form of a locator for a look-up. It checks only the
// shape of an address or a number: one that was valid when it was added must be found after
// numbering plans have changed.
func (d *Directory) canonical(serialized string) (string, error) {
	if len(d.rules) > 0 {
		kind, raw, _ := strings.Cut(serialized, ":")
		if rule := d.rules.of(kind); rule != nil {
			f, err := rule.forms(raw)
			if err != nil || f.Canonical == raw {
				return serialized, err
			}
			return kind + ":" + f.Canonical, nil
		}
	}
	return canonical(serialized)
}

// canonical is Directory.canonical for e-mail addresses and telephone numbers.
func canonical(serialized string) (string, error) {
	c, err := locator.Canonical(serialized)
	return c, locatorError(err)
}

// badType refuses a type that is not registered.
func (g *given) badType() error {
	if builtIn(g.kind) {
		return nil
	}
	return g.err
}

// mayHaveStatus refuses a status that no locator of the type has.
func (d *Directory) mayHaveStatus(l *record.Locator, s VerificationStatus) error {
	if builtIn(l.Type) || string(s) == l.Status {
		return nil
	}
	rule := d.rules.of(l.Type)
	if rule == nil {
		const reason = "cannot be changed for a type of locator that is not registered"
		return invalid("verificationStatus", reason)
	}
	_, err := rule.status(s)
	return err
}

// mayChange refuses to let the caller change locators of a type.
func (d *Directory) mayChange(c *call, kind string) error {
	if builtIn(kind) || c.role == system {
		return nil
	}
	if rule := d.rules.of(kind); rule != nil && rule.Self {
		return nil
	}
	return newError(ErrDenied, "locator", "locators of this type are for .system alone to change")
}

// roomFor refuses a list that holds the given locator and more of its type than a user may have. It
// is asked for new locators alone, so a PerUser that became smaller takes nothing away.
func (g *given) roomFor(locators []record.Locator) error {
	if g.rule == nil {
		return nil
	}
	n := 0
	for i := range locators {
		if locators[i].Type == g.kind {
			n++
		}
	}
	if n > g.rule.PerUser {
		return newError(ErrLimited, "locators", "of this type that a user owns are as many as may be")
	}
	return nil
}
