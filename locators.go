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

// LocatorType is how a locator reaches somebody.
type LocatorType string

// The types of locators.
const (
	TypeEmail LocatorType = "email"
	TypeTele  LocatorType = "tele"
)

// LocatorID names one locator of one user.
type LocatorID string

// VerificationStatus is what the application knows of a locator. Only .system sets it.
type VerificationStatus string

// The statuses. What .system adds without one is StatusNotProvided, what a user adds for
// itself Unverified.
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

// Locator is an e-mail address or telephone number of a user.
//
// A locator that a user owns is that user's alone: no other can own one with the same
// canonical form, and look-ups find it. One that a user adds for itself is a pending
// claim, not owned: nobody else sees it, it blocks nobody and no look-up finds it, until
// .system sets it Verified. Owning is a fact apart from the status: no later status gives
// the locator back, only removal does.
type Locator struct {
	ID         LocatorID
	Type       LocatorType
	Address    string // deliver to this: a number as E.164, an e-mail as typed with its domain as A-labels
	Raw        string // as it was typed, for display alone
	Canonical  string // what it is unique and looked up by
	Status     VerificationStatus
	Owned      bool
	AddedAt    time.Time
	VerifiedAt time.Time // when SetVerification last set it Verified, or when it came so; zero if never
}

// String returns the serialized form, which can be delivered to and parsed again:
// "email:alice@example.org" or "tele:+14155552672".
func (l Locator) String() string { return string(l.Type) + ":" + l.Address }

// NewLocator is a locator to be added, in its serialized form; Email and Tele make one. The
// forms in which a Locator is handed out are taken too: its String and its Canonical.
//
// An empty Status says nothing of it: a new locator gets StatusNotProvided, one the user has
// already keeps what it has. Whether it is owned does not follow from the status, with one
// exception: in a list for SetLocators, Verified turns a pending claim into an owned locator.
type NewLocator struct {
	Locator string
	Status  VerificationStatus // from a user it is ignored

	// Claim says that this was read as a pending claim. SetLocators then leaves it out where the
	// user has taken it back since, unless Status is Verified. Other methods ignore it.
	Claim bool
}

// Email is an e-mail address to be added: a dot-atom address (RFC 5322 §3.4.1), in ASCII but
// for its domain, which may be internationalised (IDNA2008) and is kept as A-labels; without display name, comment or quoted local part, with a domain of two labels or more;
// 64 bytes before the @ and 254 in all (RFC 5321 §4.5.3.1). Case does not tell addresses
// apart; dots and plus signs do.
func Email(address string) NewLocator { return NewLocator{Locator: "email:" + address} }

// Tele is a telephone number to be added: + and 7 to 15 digits (ITU-T E.164), valid in its
// country's plan; spaces, dashes, dots and brackets between them are dropped.
func Tele(number string) NewLocator { return NewLocator{Locator: "tele:" + number} }

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

// canonical answers the canonical form of a locator that is looked up, by its shape alone:
// a number that was valid when it was added is found when plans have changed.
func canonical(serialized string) (string, error) {
	c, err := locator.Canonical(serialized)
	return c, locatorError(err)
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
	l.AddedAt, l.VerifiedAt = timeOf(r.Added), timeOf(r.Verified)
}

// newLocators returns locators that .system sets, which are still to be taken.
func newLocators(given []NewLocator, now int64) ([]record.Locator, error) {
	locators := make([]record.Locator, 0, len(given))
	for _, n := range given {
		l, err := newLocator(n, now)
		if err != nil {
			return nil, err
		}
		for _, earlier := range locators {
			if earlier.Type == l.Type && earlier.Canonical == l.Canonical {
				return nil, invalid("locators", "hold the same locator twice")
			}
		}
		locators = append(locators, l)
	}
	return locators, nil
}

func newLocator(n NewLocator, now int64) (record.Locator, error) {
	if n.Status == "" {
		n.Status = StatusNotProvided
	}
	if !n.Status.known() {
		return record.Locator{}, invalid("verificationStatus", "is none of the five")
	}
	parsed, err := parse(n.Locator)
	if err != nil {
		return record.Locator{}, err
	}
	l := record.Locator{
		ID: rand.Text(), Type: string(parsed.Type), Canonical: parsed.Canonical, Raw: parsed.Raw, Added: now,
	}
	setStatus(&l, n.Status, now)
	return l, nil
}

func setStatus(l *record.Locator, s VerificationStatus, now int64) {
	l.Status = string(s)
	if s == Verified {
		l.Verified = now
	}
}

// putOwner puts the key that makes l its user's.
func (p *plan) putOwner(l record.Locator, user *record.User) {
	p.Put(ownerKey(l), &record.Owner{
		Locator: l.Type + ":" + l.Canonical, User: user.ID, Incarnation: user.Incarnation,
	})
}

// Locators lists a user's locators, owned ones and pending claims, in the order in which
// they were added or set.
func (d *Directory) Locators(ctx context.Context, by Principal, user UserID) (locators []Locator, err error) {
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

// Locator answers one locator of a user.
func (d *Directory) Locator(ctx context.Context, by Principal, user UserID, id LocatorID) (l Locator, err error) {
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
// ErrTaken if another user owns it. From the user it is a pending claim, whoever owns it: see
// Locator.
//
// Adding what the user has already returns that and changes nothing, but for two cases. A
// claim that .system adds becomes the user's own. An owned locator that .system adds with
// another Status is ErrTaken with Field "locator": SetVerification changes a status.
//
// A user owns MaxLocators at most, and has MaxClaims claims at most beside them: one more is
// ErrLimited. With ErrTaken from .system, Error.Missing holds the locator as it was given.
func (d *Directory) AddLocator(ctx context.Context, by Principal, user UserID, n NewLocator, expected ...UserVersion) (added Locator, err error) {
	defer wrapOp("AddLocator", &err)
	c, err := d.enter(ctx, opAddLocator, by, user)
	if err != nil {
		return Locator{}, err
	}
	if c.role == self {
		n.Status = Unverified
	}
	key, err := canonical(n.Locator)
	if err != nil {
		return Locator{}, err
	}
	if n.Status != "" && !n.Status.known() {
		return Locator{}, invalid("verificationStatus", "is none of the five")
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return l.Is(key) })
		if i >= 0 && c.role == system && r.Locators[i].Owned && n.Status != "" && string(n.Status) != r.Locators[i].Status {
			return newErrorAbout(ErrTaken, "locator", "is the user's already, with another status", n.Locator)
		}
		if i >= 0 && (r.Locators[i].Owned || c.role == self) {
			added = locatorOf(&r.Locators[i])
			return errUnchanged
		}
		if c.role == system {
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
			return p.takeOwnership(r, []string{n.Locator}, l)
		}
		l, err := newLocator(n, c.now)
		if err != nil {
			return err
		}
		if c.role == system {
			if err := p.takeOwnership(r, []string{n.Locator}, &l); err != nil {
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

// claimed returns how many are pending claims.
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

// takeOwnership makes each of ls its user's own, or returns ErrTaken with all of those that belong to
// others, spelled as they were asked for. Only .system gets as far as this, which may know.
func (p *plan) takeOwnership(r *record.User, asked []string, ls ...*record.Locator) error {
	owners, err := p.takeFree(r, ls)
	if err != nil || owners == nil {
		return err
	}
	var taken []string
	for i, o := range owners {
		if o != nil {
			taken = append(taken, asked[i])
		}
	}
	return newErrorAbout(ErrTaken, "locator", "", taken...)
}

// takeFree makes those of ls its user's own that nobody else owns, and passes over nil. It returns
// what is in the way of the others, by their places, or nil if there are none.
func (p *plan) takeFree(r *record.User, ls []*record.Locator) (owners []any, err error) {
	for i, l := range ls {
		if l == nil || l.Owned {
			continue
		}
		found, err := p.inTheWay(ownerKey(*l))
		if err != nil {
			return nil, err
		}
		if found != nil {
			if owners == nil {
				owners = make([]any, len(ls))
			}
			owners[i] = found
			continue
		}
		l.Owned = true
		p.putOwner(*l, r)
	}
	return owners, nil
}

// SetLocators gives a user exactly these locators, in this order, in one commit or not at
// all. Those it has already keep their id, and their status unless one is given. A pending
// claim stays a claim, so that a list that is set as it was read changes nothing; only a
// Status of Verified makes it the user's own. Every other locator is new, and the user's own
// at once, but for a NewLocator.Claim, which is left out: its user may take a claim back while
// the list is on its way, and must not come to own it by that. If other users own some of them
// the error is ErrTaken, and Error.Missing holds those as they were given. More than MaxLocators
// owned ones are ErrLimited. For .system only.
func (d *Directory) SetLocators(ctx context.Context, by Principal, user UserID, locators []NewLocator, expected ...UserVersion) (u User, err error) {
	defer wrapOp("SetLocators", &err)
	c, err := d.enter(ctx, opSetLocators, by, user)
	if err != nil {
		return User{}, err
	}
	if len(locators) > MaxLocators+MaxClaims {
		return User{}, tooManyLocators()
	}
	keys := make([]string, len(locators))
	for i, n := range locators {
		if keys[i], err = canonical(n.Locator); err != nil {
			return User{}, err
		}
		if slices.Contains(keys[:i], keys[i]) {
			return User{}, invalid("locators", "hold the same locator twice")
		}
		if n.Status != "" && !n.Status.known() {
			return User{}, invalid("verificationStatus", "is none of the five")
		}
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		before := r.Locators
		r.Locators = make([]record.Locator, 0, len(locators))
		var asked []string // those to take, and which in r.Locators they are
		var taking []int
		for i, n := range locators {
			var l record.Locator
			claim := false
			if j := slices.IndexFunc(before, func(l record.Locator) bool { return l.Is(keys[i]) }); j >= 0 {
				l = before[j]
				claim = !l.Owned && n.Status != Verified
				if n.Status != "" && string(n.Status) != l.Status {
					setStatus(&l, n.Status, c.now)
				}
			} else if n.Claim && n.Status != Verified {
				continue
			} else if l, err = newLocator(n, c.now); err != nil {
				return err
			}
			if !l.Owned && !claim {
				asked, taking = append(asked, n.Locator), append(taking, len(r.Locators))
			}
			r.Locators = append(r.Locators, l)
		}
		ls := make([]*record.Locator, len(taking))
		for i, j := range taking {
			ls[i] = &r.Locators[j]
		}
		if err := room(r.Locators, len(ls)); err != nil {
			return err
		}
		if err := p.takeOwnership(r, asked, ls...); err != nil {
			return err
		}
		if slices.Equal(before, r.Locators) {
			return errUnchanged
		}
		for _, l := range before {
			if l.Owned && !r.Owns(l.Type+":"+l.Canonical) {
				p.Drop(ownerKey(l))
			}
		}
		p.emit(EventLocatorsSet, r)
		return nil
	})
}

// SetVerification sets the verification status of a locator. Setting a pending claim
// Verified makes it the user's own, or fails whole with ErrTaken if another user owns it;
// claims of other users on it stay as they are. It counts against MaxLocators from then on:
// ErrLimited. For .system only.
func (d *Directory) SetVerification(ctx context.Context, by Principal, user UserID, id LocatorID, status VerificationStatus, expected ...UserVersion) (set Locator, err error) {
	defer wrapOp("SetVerification", &err)
	c, err := d.enter(ctx, opSetVerification, by, user)
	if err != nil {
		return Locator{}, err
	}
	if !status.known() {
		return Locator{}, invalid("verificationStatus", "is none of the five")
	}
	_, err = d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		l := &r.Locators[i]
		if status != Verified && l.Status == string(status) {
			set = locatorOf(l)
			return errUnchanged
		}
		setStatus(l, status, c.now)
		if status == Verified && !l.Owned {
			p.emit(EventLocatorOwned, r, l.ID)
			asked := []string{locatorOf(l).String()}
			if err := room(r.Locators, 1); err != nil {
				return err
			}
			if err := p.takeOwnership(r, asked, l); err != nil {
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

// RemoveLocator takes a locator from a user; if it was owned anybody may have it next.
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
		if r.Locators[i].Owned {
			p.Drop(ownerKey(r.Locators[i]))
		}
		r.Locators = slices.Delete(r.Locators, i, i+1)
		p.emit(EventLocatorRemoved, r, string(id))
		return nil
	})
	return err
}
