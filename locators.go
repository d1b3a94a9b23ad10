package denizen

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/locator"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// LocatorType is what kind of locator one is. It is the beginning of the serialized form, so that
// nobody's name passes for another's address.
type LocatorType string

// The types of locators by which somebody is reached. Options.LocatorTypes registers others.
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

// Locator is an e-mail address or telephone number of a user, or of a type that the host registered.
//
// A locator that a user owns is that user's alone: no other can own one with the same
// canonical form, and look-ups find it. One that a user adds for itself is a pending
// claim, not owned: nobody else sees it, it blocks nobody and no look-up finds it, until
// .system sets it Verified. Owning is a fact apart from the status: no later status gives
// the locator back, only removal does. Of a registered type there are no claims.
type Locator struct {
	ID         LocatorID
	Type       LocatorType
	Address    string // for delivery: E.164, or the e-mail as typed with its domain as A-labels
	Raw        string // as it was typed, for display alone
	Canonical  string // the form it is unique and looked up by
	Status     VerificationStatus
	Owned      bool
	AddedAt    time.Time
	VerifiedAt time.Time // when SetVerification last set it Verified, or when it came so; zero if never

	// RuleVersion is the LocatorRule.Version by which it was stored; 0 of an e-mail address or a
	// telephone number.
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
	// Override lets .system give a locator of a registered type out though it rests, or though its
	// rule's Check refuses it. Ignored of any other, and from a user.
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

// TeleIn is a telephone number to be added as it was typed in a region, two capital letters of ISO
// 3166-1 such as "DE": 0151 23456789 there is +4915123456789. A number that begins with + is taken
// as it is. What is stored is + and the digits alone. ErrInvalid with Field "locator" if it is not a
// valid number there; nothing is guessed. The region is whoever's who typed it, so a directory has
// none of its own.
func TeleIn(region, number string) (n NewLocator, err error) {
	defer wrapOp("TeleIn", &err)
	canonical, err := locator.TeleIn(region, number)
	if err != nil {
		return NewLocator{}, locatorError(err)
	}
	return Tele(canonical), nil
}

// ParseLocator answers the type and the canonical form of a serialized locator that could
// be added, or ErrInvalid with Field "locator".
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

func locatorsOf(stored []record.Locator) []Locator {
	locators := make([]Locator, len(stored))
	for i := range stored {
		locators[i].fill(&stored[i])
	}
	return locators
}

func locatorOf(r *record.Locator) (l Locator) {
	l.fill(r)
	return l
}

// fill makes l the locator of a record.
func (l *Locator) fill(r *record.Locator) {
	l.ID, l.Type, l.Raw, l.Canonical = LocatorID(r.ID), LocatorType(r.Type), r.Raw, r.Canonical
	l.Address = locator.Deliverable(locator.Type(r.Type), r.Raw, r.Canonical)
	l.Status, l.Owned = VerificationStatus(r.Status), r.Owned
	l.AddedAt, l.VerifiedAt, l.RuleVersion = timeOf(r.Added), timeOf(r.Verified), int(r.Rule)
}

// newLocators returns locators that .system sets, which are still to be taken.
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

// distinct refuses a list whose last locator is in it twice, also in a form that is not to be told
// apart from it.
func distinct(locators []record.Locator) error {
	last := &locators[len(locators)-1]
	for i := range locators[:len(locators)-1] {
		l := &locators[i]
		if l.Type == last.Type && (l.Canonical == last.Canonical || l.Unique != "" && l.Unique == last.Unique) {
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
		ID: newLocatorID(), Type: string(parsed.Type), Canonical: parsed.Canonical, Raw: parsed.Raw, Added: now,
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

// putOwner puts the key of a locator that its user owns.
func (p *plan) putOwner(l record.Locator, user *record.User) {
	p.Put(ownerKey(l), &record.Owner{
		Locator: l.Type + ":" + l.Canonical, User: user.ID, Incarnation: user.Incarnation, Rule: l.Rule,
	})
}

// Locators returns the locators of a user, owned ones and pending claims, in the order they were
// added or set.
func (d *Directory) Locators(
	ctx context.Context, by Principal, user UserID,
) (locators []Locator, err error) {
	defer wrapOp("Locators", &err)
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
	return locatorsOf(r.Locators), nil
}

// Locator returns one locator of a user, or [ErrNotFound] with Field "locator".
func (d *Directory) Locator(
	ctx context.Context, by Principal, user UserID, id LocatorID,
) (l Locator, err error) {
	defer wrapOp("Locator", &err)
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
	return locatorOf(&r.Locators[i]), nil
}

func locatorIn(r *record.User, id LocatorID) (int, error) {
	i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return l.ID == string(id) })
	if i < 0 {
		return 0, newError(ErrNotFound, "locator", "")
	}
	return i, nil
}

// AddLocator adds a locator to a user. From .system it is the user's own at once, or
// ErrTaken if another user owns it or it rests. From the user it is a pending claim, whoever owns
// it: see Locator. One of a registered type is the user's own or refused, whoever adds it;
// ErrDenied if its rule does not let users add it. See also ReplaceLocator.
//
// Adding one that the user has already returns that and changes nothing, with two exceptions. A
// claim that .system adds becomes owned. An owned locator that .system adds with another Status is
// [ErrTaken] with Field "locator": [Directory.SetVerification] changes a status.
//
// A user owns MaxLocators at most, and has MaxClaims claims at most beside them: one more is
// ErrLimited, and so is one more of a registered type than its rule lets a user have. With ErrTaken
// Error.Missing holds the locator as it was given.
func (d *Directory) AddLocator(ctx context.Context, by Principal, user UserID, n NewLocator, expected ...UserVersion) (added Locator, err error) {
	defer wrapOp("AddLocator", &err)
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
		i := g.in(r.Locators)
		if i >= 0 && c.role == system && r.Locators[i].Owned && n.Status != "" && string(n.Status) != r.Locators[i].Status {
			return newErrorAbout(ErrTaken, "locator", "is the user's already, with another status", n.Locator)
		}
		if i >= 0 && (r.Locators[i].Owned || c.role == self) {
			added = locatorOf(&r.Locators[i])
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
			added = locatorOf(l)
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
		added = locatorOf(&l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return added, nil
}

// formFrom is form for one locator that the caller adds.
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

// ReplaceLocator puts a locator in the place of another of the same type, in one commit or not at
// all: a user who is renamed is never without a name. The old one is free, or rests if the rule of
// its type says so, and its last owner may come back to it. What replaces it has an id of its own.
// One that is the same but for its spelling keeps the id, and only Raw changes.
//
// Users replace what the rule of its type lets them add. An e-mail address or telephone number is
// for .system alone to replace, and the new one is the user's own at once. Refusals are those of
// AddLocator, and ErrNotFound if the user has no locator of that id.
func (d *Directory) ReplaceLocator(ctx context.Context, by Principal, user UserID, id LocatorID, n NewLocator, expected ...UserVersion) (set Locator, err error) {
	defer wrapOp("ReplaceLocator", &err)
	c, err := d.enter(ctx, opAddLocator, by, user)
	if err != nil {
		return Locator{}, err
	}
	g, err := d.formFrom(&c, n)
	if err != nil {
		return Locator{}, err
	}
	if c.role == self && g.rule == nil {
		return Locator{}, newError(ErrDenied, "locator", "an address or a number is for .system alone to replace")
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
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
			set = locatorOf(l)
			if l.Raw == g.Locator[len(g.kind)+1:] {
				return errUnchanged
			}
			l.Raw = g.Locator[len(g.kind)+1:]
			p.emit(EventLocatorsSet, r)
			set = locatorOf(l)
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
		set = locatorOf(l)
		if !old.Owned {
			return nil
		}
		return p.free(r, &old)
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

// room refuses n more locators of a user's own. What it claims does not count.
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

// taking is a locator that is to become its user's own, and as what it was asked for.
type taking struct {
	*record.Locator
	asked NewLocator
}

// takeOwnership makes each of ls its user's own, or returns ErrTaken with all of those that belong
// to others or rest, spelled as they were asked for. Only .system gets as far as this with addresses
// and numbers, and may know; names are no secret. Freed is what the user gives up in the same
// commit.
func (p *plan) takeOwnership(r *record.User, freed []record.Locator, ls ...taking) error {
	owners, err := p.takeFree(r, freed, ls)
	if err != nil || owners == nil {
		return err
	}
	var taken []string
	for i, o := range owners {
		if o != nil {
			taken = append(taken, ls[i].asked.Locator)
		}
	}
	return newErrorAbout(ErrTaken, "locator", "", taken...)
}

// takeFree makes those of ls its user's own that nobody else owns, and passes over the zero ones. It
// returns what is in the way of the others, by their places, or nil if there are none.
func (p *plan) takeFree(r *record.User, freed []record.Locator, ls []taking) (owners []any, err error) {
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

// resting is what is in the way of taking a locator that rests.
type resting struct{}

// takeOne makes a locator its user's own, or plans nothing and returns what is in the way.
func (p *plan) takeOne(r *record.User, freed []record.Locator, l taking) (found any, err error) {
	if found, err = p.inTheWay(ownerKey(*l.Locator)); found != nil || err != nil {
		return found, err
	}
	if !builtIn(l.Type) {
		rests := newError(ErrTaken, "locator", "")
		if err := p.requireAwake(r, l.Locator, l.asked.Override, rests); err == rests {
			return resting{}, nil
		} else if err != nil {
			return nil, err
		}
		if found, err = p.takeUnique(r, freed, l.Locator); found != nil || err != nil {
			return found, err
		}
	}
	l.Owned = true
	p.putOwner(*l.Locator, r)
	return nil, nil
}

// takeUnique makes the unique form of a locator the user's, or returns what is in the way. That of
// what it gives up it has already.
func (p *plan) takeUnique(r *record.User, freed []record.Locator, l *record.Locator) (found any, err error) {
	if l.Unique == "" {
		return nil, nil
	}
	form := uniqueForm(l)
	key := record.UniqueKey(form)
	if !slices.ContainsFunc(freed, func(f record.Locator) bool { return f.Owned && f.Unique != "" && uniqueForm(&f) == form }) {
		if found, err = p.inTheWay(key); found != nil || err != nil {
			return found, err
		}
	}
	p.Put(key, &record.Unique{
		Form: form, Locator: l.Type + ":" + l.Canonical, User: r.ID, Incarnation: r.Incarnation, Rule: l.Rule,
	})
	return nil, nil
}

// SetLocators gives a user exactly these locators, in this order, in one commit or not at
// all. Those it has already keep their id, and their status unless one is given. A pending
// claim stays a claim, so that a list that is set as it was read changes nothing; only a
// Status of Verified makes it the user's own. Every other locator is new, and the user's own
// at once, but for a NewLocator.Claim, which is left out: its user may take a claim back while
// the list is on its way, and must not come to own it by that. If other users own some of them
// the error is ErrTaken, and Error.Missing holds those as they were given. More than MaxLocators
// owned ones, or more of a registered type than its rule lets a user have, are ErrLimited. A locator
// of a registered type is known again as it was read, whatever its rule says by now. For .system
// only.
func (d *Directory) SetLocators(ctx context.Context, by Principal, user UserID, locators []NewLocator, expected ...UserVersion) (u User, err error) {
	defer wrapOp("SetLocators", &err)
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
		if gs[i].canonical != "" && slices.ContainsFunc(gs[:i], func(g given) bool { return g.canonical == gs[i].canonical }) {
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
			r.Locators = append(r.Locators, l) // which has the room, and stays where it is
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
			return !l.Owned || slices.ContainsFunc(r.Locators, func(kept record.Locator) bool { return kept.ID == l.ID })
		})
		if err := p.takeOwnership(r, freed, taken...); err != nil {
			return err
		}
		if slices.Equal(before, r.Locators) {
			return errUnchanged
		}
		for i := range freed {
			if err := p.free(r, &freed[i]); err != nil {
				return err
			}
		}
		p.emit(EventLocatorsSet, r)
		return nil
	})
}

// SetVerification sets the verification status of a locator. A pending claim that is set [Verified]
// becomes owned. If another user owns it, it is [ErrTaken] and nothing changes. Claims of other
// users on it stay. It counts as owned from then on, so it may be [ErrLimited]. Only .system may.
func (d *Directory) SetVerification(
	ctx context.Context, by Principal, user UserID, id LocatorID, status VerificationStatus,
	expected ...UserVersion,
) (set Locator, err error) {
	defer wrapOp("SetVerification", &err)
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
			set = locatorOf(l)
			return errUnchanged
		}
		setStatus(l, status, c.now)
		if status == Verified && !l.Owned {
			p.emit(EventLocatorOwned, r, l.ID)
			asked := NewLocator{Locator: locatorOf(l).String()}
			if err := room(r.Locators, 1); err != nil {
				return err
			}
			if err := p.takeOwnership(r, nil, taking{l, asked}); err != nil {
				return err
			}
		} else {
			p.emit(EventLocatorVerification, r, l.ID)
		}
		set = locatorOf(l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return set, nil
}

// RemoveLocator takes a locator from a user; if it was owned anybody may have it next, unless it
// rests by the rule of its type. One of a registered type is ErrDenied to a user whom the rule does
// not let add it, and ErrLimited where too many rest that the user gave up.
func (d *Directory) RemoveLocator(ctx context.Context, by Principal, user UserID, id LocatorID, expected ...UserVersion) (err error) {
	defer wrapOp("RemoveLocator", &err)
	c, err := d.enter(ctx, opRemoveLocator, by, user)
	if err != nil {
		return err
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		gone := r.Locators[i]
		if err := d.mayChange(&c, gone.Type); err != nil {
			return err
		}
		r.Locators = slices.Delete(r.Locators, i, i+1)
		p.emit(EventLocatorRemoved, r, string(id))
		if !gone.Owned {
			return nil
		}
		return p.free(r, &gone)
	})
	return err
}
