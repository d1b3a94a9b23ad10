package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/google/uuid"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// NewUser is a user to be created.
type NewUser struct {
	ID UserID // empty: a UUIDv7 (RFC 9562) is made
	// ScreenName is 1 to 128 characters in any normal form, and stored as NFC. At least one of
	// them is visible, and none is a control or changes the direction. Joiners, variation
	// selectors and tags are allowed only where they shape letters or emoji.
	ScreenName string
	Locators   []NewLocator
	Attributes []Attribute
	// Idempotency, if set, makes the same call within a day return the same user. With another
	// Digest it is ErrConflict with Field "idempotency". If the user was deleted or erased since it
	// is ErrNotFound.
	Idempotency Idempotency
}

// Idempotency is a key that the caller chose for one creation, and a digest of what it asked for: 1
// to 256 bytes each.
type Idempotency struct{ Key, Digest string }

// CreateUser creates a user with its locators and attributes in one commit. The user owns the
// locators at once.
//
// If another user has the id or it is an alias (see [MergePolicy]), or others own some of the
// locators or some rest, it is [ErrTaken] with Field "id" or "locator". Error.Missing holds those
// as they were given. Then nothing is created. Only .system may.
func (d *Directory) CreateUser(ctx context.Context, by Principal, n NewUser) (u User, err error) {
	defer d.trace(&ctx, "CreateUser", &by).end(&err)
	c, err := d.enter(ctx, opCreateUser, by, noTarget)
	if err != nil {
		return User{}, err
	}
	r, err := d.newCreation(n, c.now, false)
	if err != nil {
		return User{}, err
	}
	c.target = UserID(r.user.ID)
	if n.Idempotency != (Idempotency{}) {
		if !is1to256Bytes(n.Idempotency.Key) || !is1to256Bytes(n.Idempotency.Digest) {
			return User{}, invalid("idempotency", "key and digest must be 1 to 256 bytes")
		}
	}
	var earlier *record.Created
	seq, err := d.write(ctx, &c, func(p *plan) error {
		if n.Idempotency.Key != "" {
			if earlier, err = p.createdBefore(n.Idempotency, &r.user); err != nil || earlier != nil {
				return firstOf(err, errUnchanged)
			}
		}
		met, err := p.create(r, false)
		if err != nil {
			return err
		}
		return met.refusal(&c, r)
	})
	if err == errUnchanged {
		return d.created(ctx, &c, n.Idempotency, earlier)
	}
	if err != nil {
		return User{}, err
	}
	return userOf(&c, &r.user, seq), nil
}

// creation is a user to be created who has passed the checks that need no store.
type creation struct {
	user       record.User
	asked      []NewLocator // the user's locators as they were given
	claims     []bool       // which of them stay pending claims; nil: none
	attributes []Attribute
}

// newCreation checks a user to be created as far as that needs no store. If moves is set the user
// comes from elsewhere, and may have claims and more attributes than one call may set.
func (d *Directory) newCreation(n NewUser, now int64, moves bool) (*creation, error) {
	if n.ID != "" {
		if reason := checkUserID(string(n.ID)); reason != "" {
			return nil, invalid("id", reason)
		}
	} else {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		n.ID = UserID(id.String())
	}
	screenName, reason := screenNameOf(n.ScreenName)
	if reason != "" {
		return nil, invalid("screenName", reason)
	}
	incarnation, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	r := &creation{asked: n.Locators, attributes: n.Attributes, user: record.User{
		ID: string(n.ID), Incarnation: incarnation.String(), ScreenName: screenName,
		Created: now, Updated: now,
	}}
	claimed := 0
	for i, l := range n.Locators {
		if moves && l.Claim && l.Status != Verified {
			if r.claims == nil {
				r.claims = make([]bool, len(n.Locators))
			}
			r.claims[i] = true
			claimed++
		}
	}
	if len(n.Attributes) > MaxList && !moves {
		return nil, tooManyAttributes()
	}
	if len(n.Locators)-claimed > MaxLocators {
		return nil, tooManyLocators()
	}
	if claimed > MaxClaims {
		return nil, tooManyClaims()
	}
	if r.user.Locators, err = d.newLocators(n.Locators, now); err != nil {
		return nil, err
	}
	for i, claim := range r.claims {
		if claim && !builtIn(r.user.Locators[i].Type) {
			const rule = "of this type there are no claims"
			return nil, newErrorAbout(ErrInvalid, "locator", rule, r.asked[i].Locator)
		}
	}
	return r, nil
}

// clash is what is in the way of a creation.
type clash struct {
	user   any   // what has the id; if it is set, the locators were not checked
	owners []any // what has each of the locators, by their indexes; nil if all are free
}

// refusal returns ErrTaken with everything that is in the way, as it was given, or nil.
func (met clash) refusal(c *call, r *creation) error {
	if met.user != nil {
		return newErrorAbout(ErrTaken, "id", "", r.user.ID)
	}
	return takenError(c, met.owners, func(i int) NewLocator { return r.asked[i] })
}

// create plans the creation of a user, unless something is in the way. If partly is set the user is
// created without the locators that are not free. Then only met.user is in the way.
func (p *plan) create(r *creation, partly bool) (met clash, err error) {
	user := &r.user
	for _, key := range [...]store.Key{record.UserKey(user.ID), record.AliasKey(user.ID)} {
		if met.user, err = p.inTheWay(key); met.user != nil || err != nil {
			return met, err
		}
	}
	ls := make([]taking, len(user.Locators))
	for i := range user.Locators {
		if r.claims == nil || !r.claims[i] {
			ls[i] = taking{&user.Locators[i], r.asked[i]}
			ls[i].Owned = false // an earlier try may have set it
		}
	}
	if met.owners, err = p.takeFree(user, nil, ls); err != nil || met.owners != nil && !partly {
		return met, err
	}
	if met.owners != nil {
		free := user.Locators[:0]
		for i, l := range user.Locators {
			if met.owners[i] == nil {
				free = append(free, l)
			}
		}
		user.Locators = free
	}
	p.Put(record.UserKey(user.ID), user)
	if len(r.attributes) > 0 {
		profile := record.Profile{User: user.ID, Incarnation: user.Incarnation}
		for some := range slices.Chunk(r.attributes, MaxList) {
			if _, err := p.setAttributes(&profile, some, Merge); err != nil {
				return met, err
			}
		}
		p.Absent(record.ProfileKey(user.ID))
		p.Put(record.ProfileKey(user.ID), &profile)
	}
	p.emit(EventUserCreated, user)
	return met, nil
}

func firstOf(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func is1to256Bytes(s string) bool { return s != "" && len(s) <= 256 }

// digestOf returns what is stored of an idempotency key or digest, which may be any bytes.
func digestOf(s string) string {
	digest := sha256.Sum256([]byte(s))
	return hex.EncodeToString(digest[:])
}

const oneDay = 24 * 60 * 60 * 1000 // milliseconds

// createdBefore returns what was created under an idempotency key today or yesterday. If nothing
// was, it puts that this write creates user, on condition that it is still so.
func (p *plan) createdBefore(i Idempotency, user *record.User) (*record.Created, error) {
	key, day := digestOf(i.Key), p.c.now/oneDay
	today := record.CreatedKey(day, key)
	entries, err := p.read(today, record.CreatedKey(day-1, key))
	if err != nil {
		return nil, err
	}
	for _, m := range entries {
		if r, ok := m.Value().(*record.Created); ok && p.c.now-r.At < oneDay {
			return r, nil
		}
	}
	user.Creation = key
	p.Put(today, &record.Created{
		Key: key, Digest: digestOf(i.Digest), At: p.c.now,
		User: user.ID, Incarnation: user.Incarnation,
	})
	p.d.background.start()
	return nil, nil
}

// created returns the user that was created under an idempotency key.
func (d *Directory) created(
	ctx context.Context, c *call, i Idempotency, earlier *record.Created,
) (User, error) {
	if earlier.User == "" {
		return User{}, newError(ErrNotFound, "user", "was erased since")
	}
	if earlier.Digest != digestOf(i.Digest) {
		return User{}, newError(ErrConflict, "idempotency", "the key was used for another request")
	}
	entries, err := d.read(ctx, c, record.UserKey(earlier.User))
	if err != nil {
		return User{}, err
	}
	u, ok := entries[0].Value().(*record.User)
	if !ok || u.Incarnation != earlier.Incarnation {
		return User{}, newError(ErrNotFound, "user", "was deleted since")
	}
	return userOf(c, u, entries[0].Version()), nil
}

// requireAbsent makes it a condition that there is nothing under key, and returns taken if there is
// something.
func (p *plan) requireAbsent(key store.Key, taken error) error {
	found, err := p.inTheWay(key)
	if err == nil && found != nil {
		err = taken
	}
	return err
}

// inTheWay makes it a condition that there is nothing under key, and returns what is there. It
// reads only after a conflict: until then the commit finds out. An import may know before.
func (p *plan) inTheWay(key store.Key) (any, error) {
	if found := p.foreseen.earlierRow(key); found != nil {
		return found, nil
	}
	if !p.Retrying() && !p.foreseen.mustRead(key) {
		p.Absent(key)
		return nil, nil
	}
	entries, err := p.read(key)
	if err != nil {
		return nil, err
	}
	found := entries[0].Value()
	switch o := found.(type) {
	case *record.Owner:
		if current, err := p.ownerIsCurrent(o.User, o.Incarnation, o.Locator); err != nil || !current {
			return nil, err
		}
	case *record.Unique:
		if current, err := p.ownerIsCurrent(o.User, o.Incarnation, o.Locator); err != nil || !current {
			return nil, err
		}
	case *record.Alias:
		if leads, err := p.leads(o); err != nil || !leads {
			p.Drop(key)
			return nil, err
		}
	}
	return found, nil
}

// ownerIsCurrent reports whether the user that a locator's key names still owns it. The key is left
// over if the user's record was lost, or deleted while it was damaged. Then the locator is free.
func (p *plan) ownerIsCurrent(user, incarnation, locator string) (bool, error) {
	entries, err := p.readAny(record.UserKey(user))
	if err != nil || entries[0].Damaged() {
		return true, err
	}
	r, ok := entries[0].Value().(*record.User)
	return ok && r.Incarnation == incarnation && r.Owns(locator), nil
}
