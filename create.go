package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

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
	// Digest it is ErrConflict with Field "idempotency". If the user was deleted since it is
	// ErrNotFound.
	Idempotency Idempotency
}

// Idempotency is a key that the caller chose for one creation, and a digest of what it asked for: 1
// to 256 bytes each.
type Idempotency struct{ Key, Digest string }

// CreateUser creates a user with its locators and attributes in one commit. The user owns the
// locators at once. If others have the id or some locators it is [ErrTaken] with Field "id" or
// "locator", and Error.Missing holds those as they were given. Then nothing is created. Only
// .system may.
func (d *Directory) CreateUser(ctx context.Context, by Principal, n NewUser) (u User, err error) {
	defer wrapOp("CreateUser", &err)
	c, err := d.enter(ctx, opCreateUser, by, noTarget)
	if err != nil {
		return User{}, err
	}
	if n.ID != "" {
		if reason := checkUserID(string(n.ID)); reason != "" {
			return User{}, invalid("id", reason)
		}
		c.target = n.ID
	} else {
		id, err := uuid.NewV7()
		if err != nil {
			return User{}, err
		}
		c.target = UserID(id.String())
	}
	screenName, reason := screenNameOf(n.ScreenName)
	if reason != "" {
		return User{}, invalid("screenName", reason)
	}
	n.ScreenName = screenName
	user := record.User{ID: string(c.target), ScreenName: n.ScreenName, Created: c.now, Updated: c.now}
	incarnation, err := uuid.NewV7()
	if err != nil {
		return User{}, err
	}
	user.Incarnation = incarnation.String()
	if user.Locators, err = d.newLocators(n.Locators, c.now); err != nil {
		return User{}, err
	}
	if n.Idempotency != (Idempotency{}) {
		if !is1to256Bytes(n.Idempotency.Key) || !is1to256Bytes(n.Idempotency.Digest) {
			return User{}, invalid("idempotency", "key and digest must be 1 to 256 bytes")
		}
	}
	var earlier *record.Created
	seq, err := d.write(ctx, &c, func(p *plan) error {
		if n.Idempotency.Key != "" {
			if earlier, err = p.createdBefore(n.Idempotency, &user); err != nil || earlier != nil {
				return firstOf(err, errUnchanged)
			}
		}
		if err := p.requireAbsent(record.UserKey(user.ID), newErrorAbout(ErrTaken, "id", "", user.ID)); err != nil {
			return err
		}
		taken := make([]taking, len(user.Locators))
		for i := range user.Locators {
			taken[i] = taking{&user.Locators[i], n.Locators[i]}
			user.Locators[i].Owned = false // an earlier try may have taken it
		}
		if err := p.takeOwnership(&user, nil, taken...); err != nil {
			return err
		}
		p.Put(record.UserKey(user.ID), &user)
		if len(n.Attributes) > 0 {
			profile := record.Profile{User: user.ID, Incarnation: user.Incarnation}
			if _, err := p.setAttributes(&profile, n.Attributes, Merge); err != nil {
				return err
			}
			p.Absent(record.ProfileKey(user.ID))
			p.Put(record.ProfileKey(user.ID), &profile)
		}
		p.emit(EventUserCreated, &user)
		return nil
	})
	if err == errUnchanged {
		return d.created(ctx, &c, n.Idempotency, earlier)
	}
	if err != nil {
		return User{}, err
	}
	return userOf(&user, seq), nil
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
	return userOf(u, entries[0].Version()), nil
}

// requireAbsent makes it a condition that there is nothing under key. It reads only after a
// conflict: until then the commit is the look-up.
func (p *plan) requireAbsent(key store.Key, taken error) error {
	if !p.Retrying() {
		p.Absent(key)
		return nil
	}
	entries, err := p.read(key)
	if err != nil {
		return err
	}
	switch o := entries[0].Value().(type) {
	case *record.Owner:
		if current, err := p.ownerIsCurrent(o.User, o.Incarnation, o.Locator); err != nil || !current {
			return err
		}
	case *record.Unique:
		if current, err := p.ownerIsCurrent(o.User, o.Incarnation, o.Locator); err != nil || !current {
			return err
		}
	}
	if entries[0].Value() != nil {
		return taken
	}
	return nil
}

// ownerIsCurrent reports whether the user whom a locator's key names owns it. One whose record was
// lost or deleted while it was damaged left the key behind, and the locator is free.
func (p *plan) ownerIsCurrent(user, incarnation, locator string) (bool, error) {
	entries, err := p.readAny(record.UserKey(user))
	if err != nil || entries[0].Damaged() {
		return true, err
	}
	r, ok := entries[0].Value().(*record.User)
	return ok && r.Incarnation == incarnation && r.Owns(locator), nil
}
