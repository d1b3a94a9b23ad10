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
	Address    string // as it was given: deliver to this, never to what somebody typed
	Canonical  string // what it is unique and looked up by
	Status     VerificationStatus
	Owned      bool
	AddedAt    time.Time
	VerifiedAt time.Time // when SetVerification last set it Verified, or when it came so; zero if never
}

// String answers the serialized form, "email:alice@example.org".
func (l Locator) String() string { return string(l.Type) + ":" + l.Address }

// NewLocator is a locator to be added, in its serialized form; Email and Tele make one.
type NewLocator struct {
	Locator string
	Status  VerificationStatus // from a user it is ignored
}

// Email is an e-mail address to be added: a dot-atom address (RFC 5322 §3.4.1) in ASCII,
// without display name, comment or quoted local part, with a domain of two labels or more;
// 64 bytes before the @ and 254 in all (RFC 5321 §4.5.3.1). Case does not tell addresses
// apart; dots and plus signs do.
func Email(address string) NewLocator { return NewLocator{Locator: "email:" + address} }

// Tele is a telephone number to be added: + and 7 to 15 digits (ITU-T E.164), valid in its
// country's plan; spaces, dashes, dots and brackets between them are dropped.
func Tele(number string) NewLocator { return NewLocator{Locator: "tele:" + number} }

// ParseLocator answers the type and the canonical form of a serialized locator that could
// be added, or ErrInvalid with Field "locator".
func ParseLocator(serialized string) (t LocatorType, canonical string, err error) {
	defer naming("ParseLocator", &err)
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

func owns(r *record.User, canonical string) bool {
	return slices.ContainsFunc(r.Locators, func(l record.Locator) bool {
		return l.Owned && isCanonical(l, canonical)
	})
}

func isCanonical(l record.Locator, canonical string) bool {
	n := len(l.Type)
	return len(canonical) == n+1+len(l.Canonical) && canonical[:n] == l.Type && canonical[n] == ':' && canonical[n+1:] == l.Canonical
}

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
	l.ID, l.Type, l.Address, l.Canonical = LocatorID(r.ID), LocatorType(r.Type), r.Raw, r.Canonical
	l.Status, l.Owned = VerificationStatus(r.Status), r.Owned
	l.AddedAt, l.VerifiedAt = at(r.Added), at(r.Verified)
}

// newLocators answers locators that .system sets: owned at once.
func newLocators(given []NewLocator, now int64) ([]record.Locator, error) {
	if len(given) > MaxLocators {
		return nil, refuse(ErrLimited, "locators", "must be 16 at most")
	}
	locators := make([]record.Locator, 0, len(given))
	for _, n := range given {
		l, err := newLocator(n, now)
		if err != nil {
			return nil, err
		}
		l.Owned = true
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

// own puts the key that makes l its user's.
func (p *plan) own(l record.Locator, user *record.User) {
	p.put(ownerKey(l), &record.Owner{
		Locator: l.Type + ":" + l.Canonical, User: user.ID, Incarnation: user.Incarnation,
	})
}

// Locators lists a user's locators, owned ones and pending claims, in the order in which
// they were added or set.
func (d *Directory) Locators(ctx context.Context, by Principal, user UserID) (locators []Locator, err error) {
	defer naming("Locators", &err)
	c, err := d.enter(ctx, opReadLocators, by, user)
	if err != nil {
		return nil, err
	}
	memos, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return nil, err
	}
	r, err := userIn(memos[0])
	if err != nil {
		return nil, err
	}
	return locatorsOf(r.Locators), nil
}

// Locator answers one locator of a user.
func (d *Directory) Locator(ctx context.Context, by Principal, user UserID, id LocatorID) (l Locator, err error) {
	defer naming("Locator", &err)
	c, err := d.enter(ctx, opReadLocators, by, user)
	if err != nil {
		return Locator{}, err
	}
	memos, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return Locator{}, err
	}
	r, err := userIn(memos[0])
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
		return 0, refuse(ErrNotFound, "locator", "")
	}
	return i, nil
}

// AddLocator adds a locator to a user. From .system it is the user's own at once, or
// ErrTaken. From the user it is a pending claim, whoever owns it: see Locator. Adding what
// the user has already answers that, but for a claim that .system adds, which becomes the
// user's own. More than MaxLocators are ErrLimited.
func (d *Directory) AddLocator(ctx context.Context, by Principal, user UserID, n NewLocator) (added Locator, err error) {
	defer naming("AddLocator", &err)
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
	_, err = d.change(ctx, &c, nil, func(p *plan, r *record.User) error {
		i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return isCanonical(l, key) })
		if i >= 0 && (r.Locators[i].Owned || c.role == self) {
			added = locatorOf(&r.Locators[i])
			return errUnchanged
		}
		if i >= 0 {
			l := &r.Locators[i]
			setStatus(l, statusOr(n.Status, StatusNotProvided), c.now)
			p.emit(LocatorOwned, r, l.ID)
			added = locatorOf(l)
			added.Owned = true
			return p.take(l, r)
		}
		if len(r.Locators) >= MaxLocators {
			return refuse(ErrLimited, "locators", "must be 16 at most")
		}
		l, err := newLocator(n, c.now)
		if err != nil {
			return err
		}
		if c.role == system {
			if err := p.take(&l, r); err != nil {
				return err
			}
		}
		r.Locators = append(r.Locators, l)
		p.emit(LocatorAdded, r, l.ID)
		added = locatorOf(&l)
		return nil
	})
	if err != nil {
		return Locator{}, err
	}
	return added, nil
}

func statusOr(s, otherwise VerificationStatus) VerificationStatus {
	if s == "" {
		return otherwise
	}
	return s
}

// take makes l its user's own, or answers ErrTaken.
func (p *plan) take(l *record.Locator, r *record.User) error {
	if l.Owned {
		return nil
	}
	if err := p.claim(ownerKey(*l), refuse(ErrTaken, "locator", "")); err != nil {
		return err
	}
	l.Owned = true
	p.own(*l, r)
	return nil
}

// SetLocators gives a user exactly these locators, in this order and all owned, in one
// commit or not at all: ErrTaken if another user owns one of them. Those it has already keep
// their id, and their status unless one is given. For .system only.
func (d *Directory) SetLocators(ctx context.Context, by Principal, user UserID, locators []NewLocator, expected ...Version) (u User, err error) {
	defer naming("SetLocators", &err)
	c, err := d.enter(ctx, opSetLocators, by, user)
	if err != nil {
		return User{}, err
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
	if len(locators) > MaxLocators {
		return User{}, refuse(ErrLimited, "locators", "must be 16 at most")
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		before := r.Locators
		r.Locators = make([]record.Locator, 0, len(locators))
		for i, n := range locators {
			var l record.Locator
			if j := slices.IndexFunc(before, func(l record.Locator) bool { return isCanonical(l, keys[i]) }); j >= 0 {
				l = before[j]
				if n.Status != "" && string(n.Status) != l.Status {
					setStatus(&l, n.Status, c.now)
				}
			} else if l, err = newLocator(n, c.now); err != nil {
				return err
			}
			if err := p.take(&l, r); err != nil {
				return err
			}
			r.Locators = append(r.Locators, l)
		}
		if slices.Equal(before, r.Locators) {
			return errUnchanged
		}
		for _, l := range before {
			if l.Owned && !owns(r, l.Type+":"+l.Canonical) {
				p.drop(ownerKey(l))
			}
		}
		p.emit(LocatorsSet, r)
		return nil
	})
}

// SetVerification sets the verification status of a locator. Setting a pending claim
// Verified makes it the user's own, or fails whole with ErrTaken if another user owns it;
// claims of other users on it stay as they are. For .system only.
func (d *Directory) SetVerification(ctx context.Context, by Principal, user UserID, id LocatorID, status VerificationStatus) (set Locator, err error) {
	defer naming("SetVerification", &err)
	c, err := d.enter(ctx, opVouch, by, user)
	if err != nil {
		return Locator{}, err
	}
	if !status.known() {
		return Locator{}, invalid("verificationStatus", "is none of the five")
	}
	_, err = d.change(ctx, &c, nil, func(p *plan, r *record.User) error {
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
			p.emit(LocatorOwned, r, l.ID)
			if err := p.take(l, r); err != nil {
				return err
			}
		} else {
			p.emit(LocatorVerification, r, l.ID)
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
func (d *Directory) RemoveLocator(ctx context.Context, by Principal, user UserID, id LocatorID) (err error) {
	defer naming("RemoveLocator", &err)
	c, err := d.enter(ctx, opRemoveLocator, by, user)
	if err != nil {
		return err
	}
	_, err = d.change(ctx, &c, nil, func(p *plan, r *record.User) error {
		i, err := locatorIn(r, id)
		if err != nil {
			return err
		}
		if r.Locators[i].Owned {
			p.drop(ownerKey(r.Locators[i]))
		}
		r.Locators = slices.Delete(r.Locators, i, i+1)
		p.emit(LocatorRemoved, r, string(id))
		return nil
	})
	return err
}
