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
	// ScreenName is 1 to 128 characters, taken in any normal form and stored as NFC. One of them
	// at least can be seen, and none is a control or turns the direction. Joiners, variation
	// selectors and tags are taken where they shape letters or emoji, and nowhere else.
	ScreenName string
	Locators   []NewLocator
	Attributes []Attribute
	// Idempotency, if it is set, makes creating again within a day answer the same user:
	// ErrConflict with Field "idempotency" if the Digest is another, and ErrNotFound if
	// the user was deleted since.
	Idempotency Idempotency
}

// Idempotency is a key that the caller chose for one creation, and a digest of what was
// asked: 1 to 256 bytes each.
type Idempotency struct{ Key, Digest string }

// CreateUser creates a user with its locators and attributes in one commit, or nothing:
// ErrTaken with Field "id" or "locator" if others have some of them, which Error.Missing
// holds as they were given. The locators are the user's own at once. For .system only.
func (d *Directory) CreateUser(ctx context.Context, by Principal, n NewUser) (u User, err error) {
	defer naming("CreateUser", &err)
	c, err := d.enter(ctx, opCreateUser, by, nobody)
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
	if user.Locators, err = newLocators(n.Locators, c.now); err != nil {
		return User{}, err
	}
	if n.Idempotency != (Idempotency{}) {
		if !sized(n.Idempotency.Key) || !sized(n.Idempotency.Digest) {
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
		if err := p.claim(record.UserKey(user.ID), refuseThese(ErrTaken, "id", "", user.ID)); err != nil {
			return err
		}
		asked, ls := make([]string, len(user.Locators)), make([]*record.Locator, len(user.Locators))
		for i := range user.Locators {
			asked[i], ls[i] = n.Locators[i].Locator, &user.Locators[i]
			ls[i].Owned = false // an earlier try may have taken it
		}
		if err := p.take(&user, asked, ls...); err != nil {
			return err
		}
		p.put(record.UserKey(user.ID), &user)
		if len(n.Attributes) > 0 {
			profile := record.Profile{User: user.ID, Incarnation: user.Incarnation}
			if _, err := p.setAttributes(&profile, n.Attributes, Merge); err != nil {
				return err
			}
			p.require(record.ProfileKey(user.ID), 0)
			p.put(record.ProfileKey(user.ID), &profile)
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

func sized(s string) bool { return s != "" && len(s) <= 256 }

// digestOf answers what is stored of an idempotency key or digest, which may be any bytes.
func digestOf(s string) string {
	digest := sha256.Sum256([]byte(s))
	return hex.EncodeToString(digest[:])
}

const oneDay = 24 * 60 * 60 * 1000 // milliseconds

// createdBefore answers what was created under an idempotency key today or yesterday, and
// otherwise makes it a condition that nothing was and puts that this batch creates user.
func (p *plan) createdBefore(i Idempotency, user *record.User) (*record.Created, error) {
	key, day := digestOf(i.Key), p.c.now/oneDay
	today := record.CreatedKey(day, key)
	memos, err := p.read(today, record.CreatedKey(day-1, key))
	if err != nil {
		return nil, err
	}
	for _, m := range memos {
		if r, ok := m.value.(*record.Created); ok && p.c.now-r.At < oneDay {
			return r, nil
		}
	}
	p.put(today, &record.Created{
		Key: key, Digest: digestOf(i.Digest), User: user.ID, Incarnation: user.Incarnation, At: p.c.now,
	})
	p.d.background.start()
	return nil, nil
}

// created answers the user that was created under an idempotency key.
func (d *Directory) created(ctx context.Context, c *call, i Idempotency, earlier *record.Created) (User, error) {
	if earlier.Digest != digestOf(i.Digest) {
		return User{}, refuse(ErrConflict, "idempotency", "the key came with another request before")
	}
	memos, err := d.read(ctx, c, record.UserKey(earlier.User))
	if err != nil {
		return User{}, err
	}
	u, ok := memos[0].value.(*record.User)
	if !ok || u.Incarnation != earlier.Incarnation {
		return User{}, refuse(ErrNotFound, "user", "was deleted since")
	}
	return userOf(u, memos[0].version), nil
}

// claim makes it a condition that there is nothing under key. It reads only after a
// conflict: until then the commit is the look-up.
func (p *plan) claim(key store.Key, taken error) error {
	if !p.again {
		p.require(key, 0)
		return nil
	}
	memos, err := p.read(key)
	if err != nil {
		return err
	}
	if o, ok := memos[0].value.(*record.Owner); ok {
		stands, err := p.stands(o)
		if err != nil || !stands {
			return err
		}
	}
	if memos[0].value != nil {
		return taken
	}
	return nil
}

// stands reports whether the user whom a locator's key names owns it. One whose record was lost
// or deleted while it was damaged left the key behind, and the locator is free.
func (p *plan) stands(o *record.Owner) (bool, error) {
	memos, err := p.readAny(record.UserKey(o.User))
	if err != nil || memos[0].damage != 0 {
		return true, err
	}
	r, ok := memos[0].value.(*record.User)
	return ok && r.Incarnation == o.Incarnation && owns(r, o.Locator), nil
}
