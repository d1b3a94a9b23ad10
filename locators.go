package denizen

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/locator"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// LocatorType is the type of a locator. The serialized form begins with it, so that a user name
// cannot pass for an e-mail address.
type LocatorType string

// The types of locators that messages can be sent to. [Options].LocatorTypes registers others.
const (
	TypeEmail LocatorType = "email"
	TypeTele  LocatorType = "tele"
)

// LocatorID names one locator of one user.
type LocatorID string

// VerificationStatus is what the application knows of a locator. Only .system sets it.
type VerificationStatus string

// The statuses. A locator that .system adds without one is StatusNotProvided. One that a user adds
// for itself is Unverified.
const (
	Verified                  VerificationStatus = "Verified"
	Unverified                VerificationStatus = "Unverified"
	StatusNotProvided         VerificationStatus = "StatusNotProvided"
	VerificationPending       VerificationStatus = "VerificationPending"
	VerificationNotApplicable VerificationStatus = "VerificationNotApplicable"
)

func (s VerificationStatus) known() bool {
	switch s {
	case Verified, Unverified, StatusNotProvided, VerificationPending, VerificationNotApplicable:
		return true
	}
	return false
}

// Locator is an e-mail address or telephone number of a user, or a locator of a type that the host
// registered: see [LocatorRule].
//
// A locator that a user owns is that user's alone: no other user can own one with the same
// canonical form, and look-ups find it.
//
// An address or a number that a user adds for itself is a pending claim, which is not owned. Nobody
// else sees it, it is in nobody's way, and no look-up finds it, until .system sets it [Verified].
// There are no claims on locators of a registered type.
//
// Owning does not depend on the status: no later status ends it.
type Locator struct {
	ID         LocatorID
	Type       LocatorType
	Address    string // for delivery: E.164, or the e-mail as typed with its domain as A-labels
	Raw        string // as it was typed, for display alone
	Canonical  string // the form it is unique and looked up by
	Status     VerificationStatus
	Owned      bool
	AddedAt    time.Time
	VerifiedAt time.Time // when it was last set Verified; zero if never
	Stale      bool      // VerifiedAt is longer ago than Options.VerifiedFor

	// RuleVersion is the LocatorRule.Version that made its forms. It is 0 for e-mail addresses and
	// telephone numbers.
	RuleVersion int
}

// String returns the serialized form, which can be delivered to and parsed again:
// "email:alice@example.org" or "tele:+14155552672".
func (l Locator) String() string { return string(l.Type) + ":" + l.Address }

// NewLocator is a locator to be added, in its serialized form. [Email] and [Tele] make one.
// Locator.String and Locator.Canonical are accepted, too.
//
// Without a Status a new locator gets [StatusNotProvided], and one that the user has already keeps
// its own. The status does not decide who owns it, with one exception: [Directory.SetLocators]
// makes a pending claim owned if it is given as [Verified].
type NewLocator struct {
	Locator string
	Status  VerificationStatus // from a user it is ignored

	// Claim says that this was read as a pending claim. SetLocators then leaves it out if the user
	// has removed it since, unless Status is Verified. Other methods ignore it.
	Claim bool
	// Override lets .system give out a locator that rests, or that the Check of its rule refuses.
	// From a user it is ignored.
	Override bool
}

// Email returns an e-mail address to be added: a dot-atom address (RFC 5322 §3.4.1) without display
// name, comment or quoted local part. It has at most 64 bytes before the @ and 254 in all (RFC 5321
// §4.5.3.1). It is ASCII but for its domain, which has two labels or more, may be internationalised
// (IDNA2008) and is kept as A-labels. Addresses that differ only in case are the same; dots and
// plus signs matter.
func Email(address string) NewLocator { return NewLocator{Locator: "email:" + address} }

// Tele returns a telephone number to be added: + and 7 to 15 digits (ITU-T E.164), valid in its
// country's plan. Spaces, dashes, dots and brackets between them are dropped.
func Tele(number string) NewLocator { return NewLocator{Locator: "tele:" + number} }

// TeleIn returns a telephone number to be added, given as it was typed in a region. The region is
// two capital letters of ISO 3166-1: in "DE", 0151 23456789 is +4915123456789. A number that begins
// with + is read without the region. Only + and the digits are stored.
//
// A number that is not valid in the region is [ErrInvalid] with Field "locator": nothing is
// guessed. The region depends on who typed the number, so a directory has no setting for it.
func TeleIn(region, number string) (n NewLocator, err error) {
	defer wrapOp("TeleIn", &err)
	canonical, err := locator.TeleIn(region, number)
	if err != nil {
		return NewLocator{}, locatorError(err)
	}
	return Tele(canonical), nil
}

// ParseLocator returns the type and the canonical form of an e-mail address or a telephone number
// that could be added, given in its serialized form. Anything else is [ErrInvalid] with Field
// "locator". It does not know registered types.
func ParseLocator(serialized string) (t LocatorType, canonical string, err error) {
	defer wrapOp("ParseLocator", &err)
	l, err := parse(serialized)
	return LocatorType(l.Type), l.Canonical, err
}

func parse(serialized string) (locator.Locator, error) {
	l, err := locator.Parse(serialized)
	return l, locatorError(err)
}

func locatorError(err error) error {
	if e, ok := errors.AsType[*locator.Error](err); ok {
		return invalid(e.Field, e.Reason)
	}
	return err
}

func ownerKey(l record.Locator) store.Key { return record.OwnerKey(l.Type + ":" + l.Canonical) }

// locatorsOf returns the locators of a record. What was verified before stale is Stale.
func locatorsOf(stored []record.Locator, stale int64) []Locator {
	locators := make([]Locator, len(stored))
	for i := range stored {
		locators[i].fill(&stored[i], stale)
	}
	return locators
}

func (c *call) locatorOf(r *record.Locator) (l Locator) {
	l.fill(r, c.stale)
	return l
}

// serialized returns the form of a locator that can be delivered to.
func serialized(r *record.Locator) string {
	var l Locator
	l.fill(r, 0)
	return l.String()
}

// fill makes l the locator of a record. What was verified before stale is Stale.
func (l *Locator) fill(r *record.Locator, stale int64) {
	l.ID, l.Type, l.Raw, l.Canonical = LocatorID(r.ID), LocatorType(r.Type), r.Raw, r.Canonical
	l.Address = locator.Deliverable(locator.Type(r.Type), r.Raw, r.Canonical)
	l.Status, l.Owned = VerificationStatus(r.Status), r.Owned
	l.AddedAt, l.VerifiedAt, l.RuleVersion = timeOf(r.Added), timeOf(r.Verified), int(r.Rule)
	l.Stale = r.Verified != 0 && r.Verified < stale
}

// newLocators returns locators that .system sets, which are not owned yet.
func (d *Directory) newLocators(ns []NewLocator, now int64) ([]record.Locator, error) {
	locators := make([]record.Locator, 0, len(ns))
	for _, n := range ns {
		g, err := d.form(n)
		if err != nil {
			return nil, err
		}
		l, err := g.new(now)
		if err != nil {
			return nil, err
		}
		locators = append(locators, l)
		if err := firstOf(distinct(locators), g.roomFor(locators)); err != nil {
			return nil, err
		}
	}
	return locators, nil
}

// distinct refuses a list that already holds its last locator, or one with the same unique form.
func distinct(locators []record.Locator) error {
	last := &locators[len(locators)-1]
	for i := range locators[:len(locators)-1] {
		l := &locators[i]
		same := l.Canonical == last.Canonical || l.Unique != "" && l.Unique == last.Unique
		if l.Type == last.Type && same {
			return invalid("locators", "hold the same locator twice")
		}
	}
	return nil
}

func newLocator(n NewLocator, now int64) (record.Locator, error) {
	if n.Status == "" {
		n.Status = StatusNotProvided
	}
	if !n.Status.known() {
		return record.Locator{}, invalid("verificationStatus", "is not a verification status")
	}
	parsed, err := parse(n.Locator)
	if err != nil {
		return record.Locator{}, err
	}
	l := record.Locator{
		ID: newLocatorID(), Type: string(parsed.Type),
		Canonical: parsed.Canonical, Raw: parsed.Raw, Added: now,
	}
	setStatus(&l, n.Status, now)
	return l, nil
}

func newLocatorID() string { return rand.Text() }

func setStatus(l *record.Locator, s VerificationStatus, now int64) {
	l.Status = string(s)
	if s == Verified {
		l.Verified = now
	}
}

// putOwner puts the record that says that user owns l.
func (p *plan) putOwner(l record.Locator, user *record.User) {
	p.Put(ownerKey(l), &record.Owner{
		Locator: l.Type + ":" + l.Canonical,
		User:    user.ID, Incarnation: user.Incarnation, Rule: l.Rule,
	})
}

// Locators returns the locators of a user, owned ones and pending claims, in the order they were
// added or set.
func (d *Directory) Locators(
	ctx context.Context, by Principal, user UserID,
) (locators []Locator, err error) {
	defer d.trace(&ctx, "Locators", &by).end(&err)
	c, err := d.enter(ctx, opReadLocators, by, user)
	if err != nil {
		return nil, err
	}
	entries, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return nil, err
	}
	r, err := userIn(entries[0])
	if err != nil {
		return nil, err
	}
	return locatorsOf(r.Locators, c.stale), nil
}

// Locator returns one locator of a user, or [ErrNotFound] with Field "locator".
func (d *Directory) Locator(
	ctx context.Context, by Principal, user UserID, id LocatorID,
) (l Locator, err error) {
	defer d.trace(&ctx, "Locator", &by).end(&err)
	c, err := d.enter(ctx, opReadLocators, by, user)
	if err != nil {
		return Locator{}, err
	}
	entries, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return Locator{}, err
	}
	r, err := userIn(entries[0])
	if err != nil {
		return Locator{}, err
	}
	i, err := locatorIn(r, id)
	if err != nil {
		return Locator{}, err
	}
	return c.locatorOf(&r.Locators[i]), nil
}

// RevealLocator returns one locator of a user as [Directory.Locator] does, and tells of it in the
// feed: it is for a person who looks at that of another, such as an operator at a console. The
// event is durable before the locator is returned. Only .system may.
func (d *Directory) RevealLocator(
	ctx context.Context, by Principal, user UserID, id LocatorID,
) (l Locator, err error) {
	defer d.trace(&ctx, "RevealLocator", &by).end(&err)
	c, err := d.enter(ctx, opSetVerification, by, user)
	if err != nil {
		return Locator{}, err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		r, _, err := p.user(user)
		if err != nil {
			return err
		}
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		l = c.locatorOf(&r.Locators[i])
		p.emit(EventLocatorRevealed, r, r.Locators[i].ID)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return l, nil
}

func locatorIn(r *record.User, id LocatorID) (int, error) {
	i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return l.ID == string(id) })
	if i < 0 {
		return 0, newError(ErrNotFound, "locator", "")
	}
	return i, nil
}

// AddLocator adds a locator to a user. If .system adds it, the user owns it at once. It is
// [ErrTaken] if another user owns it, or if it rests.
//
// If the user adds an address or a number, it is a pending claim, whoever owns it: see [Locator]. A
// locator of a registered type is never a claim: the user owns it at once or is refused. It is
// [ErrDenied] if its rule does not let users add it. See also [Directory.ReplaceLocator], and
// [Directory.RemoveLocator] for users whose token is too new.
//
// Adding one that the user has already returns that and changes nothing, with two exceptions. A
// claim that .system adds becomes owned. An owned locator that .system adds with another Status is
// [ErrTaken] with Field "locator": [Directory.SetVerification] changes a status.
//
// A user owns at most [MaxLocators], and has at most [MaxClaims] beside them: one more is
// [ErrLimited]. So is one more of a registered type than LocatorRule.PerUser. With ErrTaken,
// Error.Missing holds the locator as it was given.
func (d *Directory) AddLocator(
	ctx context.Context, by Principal, user UserID, n NewLocator, expected ...UserVersion,
) (added Locator, err error) {
	defer d.trace(&ctx, "AddLocator", &by).end(&err)
	c, err := d.enter(ctx, opAddLocator, by, user)
	if err != nil {
		return Locator{}, err
	}
	g, err := d.formFrom(&c, n)
	if err != nil {
		return Locator{}, err
	}
	n = g.NewLocator
	owning := c.role == system || g.rule != nil
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if err := p.mayChangeOwn(r); err != nil {
			return err
		}
		i := g.in(r.Locators)
		if i >= 0 && c.role == system && r.Locators[i].Owned &&
			n.Status != "" && string(n.Status) != r.Locators[i].Status {
			const rule = "is the user's already, with another status"
			return newErrorAbout(ErrTaken, "locator", rule, n.Locator)
		}
		if i >= 0 && (r.Locators[i].Owned || c.role == self) {
			added = c.locatorOf(&r.Locators[i])
			return errUnchanged
		}
		if owning {
			if err := room(r.Locators, 1); err != nil {
				return err
			}
		} else if claimed(r.Locators) >= MaxClaims {
			return tooManyClaims()
		}
		if i >= 0 {
			l := &r.Locators[i]
			setStatus(l, statusOr(n.Status, StatusNotProvided), c.now)
			p.emit(EventLocatorOwned, r, l.ID)
			added = c.locatorOf(l)
			added.Owned = true
			return p.takeOwnership(r, nil, taking{l, n})
		}
		l, err := g.new(c.now)
		if err != nil {
			return err
		}
		if err := g.roomFor(append(r.Locators, l)); err != nil {
			return err
		}
		if owning {
			if err := p.takeOwnership(r, nil, taking{&l, n}); err != nil {
				return err
			}
		}
		r.Locators = append(r.Locators, l)
		p.emit(EventLocatorAdded, r, l.ID)
		added = c.locatorOf(&l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return added, nil
}

// formFrom is form for a locator that the caller adds. From a user it ignores what only .system
// decides.
func (d *Directory) formFrom(c *call, n NewLocator) (given, error) {
	if c.role == self {
		n.Status, n.Override = "", false
	}
	g, err := d.form(n)
	if err != nil {
		return given{}, err
	}
	if c.role == self && g.rule == nil {
		g.Status = Unverified
		return g, g.badType()
	}
	return g, d.mayChange(c, g.kind)
}

// ReplaceLocator replaces a locator by another of the same type in one commit, so a user who is
// renamed is never without a name. The user owns the new one at once. The old one becomes free, or
// rests by the rule of its type.
//
// The new locator has a new id. If the two differ only in spelling, the id stays and only Raw
// changes.
//
// A user may replace what the rule of its type lets users add. Only .system may replace an e-mail
// address or a telephone number. The errors are those of [Directory.AddLocator], and [ErrNotFound]
// with Field "locator" if the user has no locator with that id.
func (d *Directory) ReplaceLocator(
	ctx context.Context, by Principal, user UserID, id LocatorID, n NewLocator,
	expected ...UserVersion,
) (set Locator, err error) {
	defer d.trace(&ctx, "ReplaceLocator", &by).end(&err)
	c, err := d.enter(ctx, opAddLocator, by, user)
	if err != nil {
		return Locator{}, err
	}
	g, err := d.formFrom(&c, n)
	if err != nil {
		return Locator{}, err
	}
	if c.role == self && g.rule == nil {
		const rule = "an address or a number is for .system alone to replace"
		return Locator{}, newError(ErrDenied, "locator", rule)
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if err := p.mayChangeOwn(r); err != nil {
			return err
		}
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		l := &r.Locators[i]
		old := *l
		if old.Type != g.kind {
			return invalid("locator", "is not of the type of the one that it replaces")
		}
		switch j := g.in(r.Locators); {
		case j == i:
			set = c.locatorOf(l)
			if l.Raw == g.Locator[len(g.kind)+1:] {
				return errUnchanged
			}
			l.Raw = g.Locator[len(g.kind)+1:]
			p.emit(EventLocatorsSet, r)
			set = c.locatorOf(l)
			return nil
		case j >= 0:
			return newErrorAbout(ErrTaken, "locator", "is the user's already", n.Locator)
		}
		if *l, err = g.new(c.now); err != nil {
			return err
		}
		if !old.Owned {
			if err := room(r.Locators, 1); err != nil {
				return err
			}
		}
		if err := p.takeOwnership(r, []record.Locator{old}, taking{l, n}); err != nil {
			return err
		}
		p.emit(EventLocatorsSet, r)
		set = c.locatorOf(l)
		if !old.Owned {
			return nil
		}
		return p.giveUp(r, &old)
	})
	if err != nil {
		return Locator{}, err
	}
	return set, nil
}

func tooManyLocators() error {
	return newError(ErrLimited, "locators", "that a user owns must be 16 at most")
}

func tooManyClaims() error {
	return newError(ErrLimited, "locators", "that a user claims and does not own must be 4 at most")
}

// room refuses n more locators that the user owns. Its claims do not count.
func room(locators []record.Locator, n int) error {
	if len(locators)-claimed(locators)+n > MaxLocators {
		return tooManyLocators()
	}
	return nil
}

// claimed returns how many of the locators are pending claims.
func claimed(locators []record.Locator) (n int) {
	for i := range locators {
		if !locators[i].Owned {
			n++
		}
	}
	return n
}

func statusOr(s, otherwise VerificationStatus) VerificationStatus {
	if s == "" {
		return otherwise
	}
	return s
}

// taking is a locator that its user is to own, with what the caller asked for.
type taking struct {
	*record.Locator
	asked NewLocator
}

// takeOwnership makes r the owner of each of ls. If others own some, or some rest, it returns
// ErrTaken with those, spelled as they were asked for. Freed is what the user gives up in the same
// commit.
//
// ErrTaken says that somebody has a locator. The caller may know: only .system gets this far with
// addresses and numbers, and names are no secret.
func (p *plan) takeOwnership(r *record.User, freed []record.Locator, ls ...taking) error {
	owners, err := p.takeFree(r, freed, ls)
	if err != nil || owners == nil {
		return err
	}
	asked := func(i int) NewLocator { return ls[i].asked }
	return takenError(p.c, owners, asked)
}

// takenError returns ErrTaken with the locators that are not free, as they were asked for. Only
// .system is told that they rest.
func takenError(c *call, owners []any, asked func(int) NewLocator) error {
	var taken []string
	rest := c.role == system
	for i, o := range owners {
		if o != nil {
			_, rests := o.(resting)
			rest = rest && rests
			taken = append(taken, asked(i).Locator)
		}
	}
	if taken == nil {
		return nil
	}
	reason := ""
	if rest {
		reason = "rests since its last owner gave it up"
	}
	return newErrorAbout(ErrTaken, "locator", reason, taken...)
}

// takeFree makes r the owner of those of ls that are free, and skips zero ones. It returns what is
// in the way of the others, at their indexes in ls, or nil if nothing is.
func (p *plan) takeFree(
	r *record.User, freed []record.Locator, ls []taking,
) (owners []any, err error) {
	for i, l := range ls {
		if l.Locator == nil || l.Owned {
			continue
		}
		found, err := p.takeOne(r, freed, l)
		if err != nil {
			return nil, err
		}
		if found != nil {
			if owners == nil {
				owners = make([]any, len(ls))
			}
			owners[i] = found
		}
	}
	return owners, nil
}

// resting is what takeOne returns for a locator that rests: nobody owns it.
type resting struct{}

// takeOne makes r the owner of a locator, or leaves it and returns what is in the way.
func (p *plan) takeOne(
	r *record.User, freed []record.Locator, l taking,
) (found any, err error) {
	if found, err = p.inTheWay(ownerKey(*l.Locator)); found != nil || err != nil {
		return found, err
	}
	rests := newError(ErrTaken, "locator", "")
	if err := p.requireAwake(r, l.Locator, l.asked.Override, rests); err == rests {
		return resting{}, nil
	} else if err != nil {
		return nil, err
	}
	if !builtIn(l.Type) {
		if found, err = p.takeUnique(r, freed, l.Locator); found != nil || err != nil {
			return found, err
		}
	}
	l.Owned = true
	p.putOwner(*l.Locator, r)
	return nil, nil
}

// takeUnique makes r the owner of a locator's unique form, or returns what is in the way. It does
// not look for the form of a locator that the user gives up in the same commit: the user has it
// already.
func (p *plan) takeUnique(
	r *record.User, freed []record.Locator, l *record.Locator,
) (found any, err error) {
	if l.Unique == "" {
		return nil, nil
	}
	form := uniqueForm(l)
	key := record.UniqueKey(form)
	has := func(f record.Locator) bool { return f.Owned && f.Unique != "" && uniqueForm(&f) == form }
	if !slices.ContainsFunc(freed, has) {
		if found, err = p.inTheWay(key); found != nil || err != nil {
			return found, err
		}
	}
	p.putUnique(l, r)
	return nil, nil
}

// putUnique puts the record that says that user owns the unique form of l.
func (p *plan) putUnique(l *record.Locator, user *record.User) {
	form := uniqueForm(l)
	p.Put(record.UniqueKey(form), &record.Unique{
		Form: form, Locator: l.Type + ":" + l.Canonical,
		User: user.ID, Incarnation: user.Incarnation, Rule: l.Rule,
	})
}

// SetLocators gives a user exactly these locators, in this order, in one commit.
//
//   - A locator that the user has already keeps its id, and its status unless one is given. One of
//     a registered type is recognised as it was read, even if its rule has changed since.
//   - A pending claim stays a claim, so setting a list as it was read changes nothing. It
//     becomes owned only if its Status is [Verified].
//   - Every other locator is new and owned at once. One with NewLocator.Claim is left out
//     instead, because the user may remove a claim while the list is on its way, and must not
//     come to own it by that.
//
// If other users own some of them, or some rest, it is [ErrTaken], and Error.Missing holds those as
// they were given. More than [MaxLocators] owned ones are [ErrLimited], and so are new ones beyond
// LocatorRule.PerUser. Only .system may.
func (d *Directory) SetLocators(
	ctx context.Context, by Principal, user UserID, locators []NewLocator, expected ...UserVersion,
) (u User, err error) {
	defer d.trace(&ctx, "SetLocators", &by).end(&err)
	c, err := d.enter(ctx, opSetLocators, by, user)
	if err != nil {
		return User{}, err
	}
	if len(locators) > MaxLocators+MaxClaims {
		return User{}, tooManyLocators()
	}
	gs := make([]given, len(locators))
	for i, n := range locators {
		if gs[i], err = d.form(n); err != nil {
			return User{}, err
		}
		same := func(g given) bool { return g.canonical == gs[i].canonical }
		if gs[i].canonical != "" && slices.ContainsFunc(gs[:i], same) {
			return User{}, invalid("locators", "hold the same locator twice")
		}
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		before := r.Locators
		r.Locators = make([]record.Locator, 0, len(locators))
		var taken []taking
		var added []*given
		for i := range gs {
			g := &gs[i]
			var l record.Locator
			claim := false
			if j := g.in(before); j >= 0 {
				l = before[j]
				claim = !l.Owned && g.Status != Verified
				if g.Status != "" && string(g.Status) != l.Status {
					if err := d.mayHaveStatus(&l, g.Status); err != nil {
						return err
					}
					setStatus(&l, g.Status, c.now)
				}
			} else if g.Claim && g.Status != Verified && builtIn(g.kind) {
				continue
			} else if l, err = g.new(c.now); err != nil {
				return err
			} else {
				added = append(added, g)
			}
			r.Locators = append(r.Locators, l) // never reallocates: taken points into it
			if err := distinct(r.Locators); err != nil {
				return err
			}
			if !l.Owned && !claim {
				taken = append(taken, taking{&r.Locators[len(r.Locators)-1], g.NewLocator})
			}
		}
		if err := room(r.Locators, len(taken)); err != nil {
			return err
		}
		for _, g := range added {
			if err := g.roomFor(r.Locators); err != nil {
				return err
			}
		}
		freed := slices.DeleteFunc(slices.Clone(before), func(l record.Locator) bool {
			is := func(kept record.Locator) bool { return kept.ID == l.ID }
			return !l.Owned || slices.ContainsFunc(r.Locators, is)
		})
		if err := p.takeOwnership(r, freed, taken...); err != nil {
			return err
		}
		if slices.Equal(before, r.Locators) {
			return errUnchanged
		}
		for i := range freed {
			if err := p.giveUp(r, &freed[i]); err != nil {
				return err
			}
		}
		p.emit(EventLocatorsSet, r)
		return nil
	})
}

// SetVerification sets the verification status of a locator. A pending claim that is set [Verified]
// becomes owned. If another user owns it, it is [ErrTaken] and nothing changes. Claims of other
// users on it stay. It counts as owned from then on, so it may be [ErrLimited].
//
// For a registered type a status that its rule does not have is [ErrInvalid]: see LocatorRule. Only
// .system may.
func (d *Directory) SetVerification(
	ctx context.Context, by Principal, user UserID, id LocatorID, status VerificationStatus,
	expected ...UserVersion,
) (set Locator, err error) {
	defer d.trace(&ctx, "SetVerification", &by).end(&err)
	c, err := d.enter(ctx, opSetVerification, by, user)
	if err != nil {
		return Locator{}, err
	}
	if !status.known() {
		return Locator{}, invalid("verificationStatus", "is not a verification status")
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		l := &r.Locators[i]
		if err := d.mayHaveStatus(l, status); err != nil {
			return err
		}
		if status != Verified && l.Status == string(status) {
			set = c.locatorOf(l)
			return errUnchanged
		}
		setStatus(l, status, c.now)
		if status == Verified && !l.Owned {
			p.emit(EventLocatorOwned, r, l.ID)
			asked := NewLocator{Locator: serialized(l)}
			if err := room(r.Locators, 1); err != nil {
				return err
			}
			if err := p.takeOwnership(r, nil, taking{l, asked}); err != nil {
				return err
			}
		} else {
			p.emit(EventLocatorVerification, r, l.ID)
		}
		set = c.locatorOf(l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return set, nil
}

// RemoveLocator removes a locator from a user. If it was owned it is free for others from then on,
// unless it rests: see Options.Quarantine and [LocatorRule].
//
// An address or a number that was [Verified] and that its user removes by itself is reserved for 72
// hours, whatever the options: it rests, and package signin tells those that were verified how to
// undo the removal. While a user can undo something, a token that it got by a locator that is as
// new as that changes no locators: it is [ErrDenied] with Field "token".
//
// A user may remove one of a registered type only if its rule lets users add it: otherwise it is
// [ErrDenied]. It is [ErrLimited] with RetryAfter if too many rest that the user gave up, or if it
// can undo 8 changes already.
func (d *Directory) RemoveLocator(
	ctx context.Context, by Principal, user UserID, id LocatorID, expected ...UserVersion,
) (err error) {
	defer d.trace(&ctx, "RemoveLocator", &by).end(&err)
	c, err := d.enter(ctx, opRemoveLocator, by, user)
	if err != nil {
		return err
	}
	var told *door.Change
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		told = nil
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		gone := r.Locators[i]
		if err := d.mayChange(&c, gone.Type); err != nil {
			return err
		}
		if err := p.mayChangeOwn(r); err != nil {
			return err
		}
		before := slices.Clone(r.Locators)
		r.Locators = slices.Delete(r.Locators, i, i+1)
		p.emit(EventLocatorRemoved, r, string(id))
		if !gone.Owned {
			return nil
		}
		if c.role == self && proved(&gone) {
			if told, err = p.changed(r, before, nil); err != nil {
				return err
			}
		}
		return p.giveUp(r, &gone)
	})
	d.notify(told, err)
	return err
}
