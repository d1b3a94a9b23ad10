package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"iter"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Query asks for a page of users.
type UserQuery struct {
	Limit int        // 1 to MaxPage; 0: MaxPage
	After UserCursor // where the page before ended; empty: from the start
}

// Cursor is where a page ended. It is opaque, of one directory, and refused when it was
// not made by it: ErrInvalid with Field "after".
type UserCursor string

// Page is users in the order of their ids.
type UserPage struct {
	Users   []User
	Damaged []UserID   // who is in this page and cannot be read; DeleteUser deletes them
	Next    UserCursor // where to go on; empty: that was all
}

// MaxPageBytes bounds the users of one page, as they are stored: the page ends before the user
// with whom it would be more.
const MaxPageBytes = 4 << 20

// pageStep is how many users the store is asked for at once.
const pageStep = 250

// Users returns a page of users in bytewise order of their ids. Users created or
// deleted meanwhile may be in it or not; all others are, once. A page that is full by
// MaxPageBytes has fewer users than Limit, at least one, and a Next. For .system only.
func (d *Directory) Users(ctx context.Context, by Principal, q UserQuery) (page UserPage, err error) {
	defer naming("Users", &err)
	c, err := d.enter(ctx, opListUsers, by, nobody)
	if err != nil {
		return UserPage{}, err
	}
	if q.Limit == 0 {
		q.Limit = MaxPage
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return UserPage{}, invalid("limit", "must be 1 to 1000")
	}
	var from store.Key
	if q.After != "" {
		after, err := d.openCursor(q.After)
		if err != nil {
			return UserPage{}, err
		}
		from = record.UserKey(string(after))
	}
	if err := d.usable(); err != nil {
		return UserPage{}, err
	}
	records, more, err := d.listPage(ctx, from, q.Limit)
	if err != nil {
		return UserPage{}, err
	}
	// The caller is looked at after the data, as everywhere.
	if _, err := d.read(ctx, &c); err != nil {
		return UserPage{}, err
	}
	page.Users = make([]User, 0, len(records))
	var last UserID
	for _, r := range records {
		_, id := record.Parts(r.Key)
		last = UserID(id)
		value, err := decodeRecord(r)
		if err != nil {
			page.Damaged = append(page.Damaged, last)
			continue
		}
		page.Users = append(page.Users, userOf(value.(*record.User), r.Version))
	}
	if more {
		page.Next = d.sealCursor(last)
	}
	return page, nil
}

// listPage lists at most limit users after a key, and at most MaxPageBytes of them, in steps. It
// reports whether there are more.
func (d *Directory) listPage(ctx context.Context, after store.Key, limit int) (page []store.Record, more bool, err error) {
	for bytes := 0; ; {
		// One more than asked for tells whether there are more.
		r := store.Range{Under: record.Users, After: after, Limit: min(limit+1-len(page), pageStep)}
		records, err := d.store.List(ctx, r)
		if err != nil {
			return nil, false, err
		}
		for _, u := range records {
			if bytes += len(u.Value); len(page) == limit || len(page) > 0 && bytes > MaxPageBytes {
				return page, true, nil
			}
			page = append(page, u)
		}
		if len(records) < r.Limit {
			return page, false, nil
		}
		after = records[len(records)-1].Key
	}
}

// AllUsers goes through all users, page by page; nothing is held open between them. It
// yields ErrCorrupt with a User of nothing but the ID for each that is damaged, after the others
// of its page, and goes on; it ends at any other error, which it yields. For .system only.
func (d *Directory) AllUsers(ctx context.Context, by Principal) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for q := (UserQuery{}); ; {
			page, err := d.Users(ctx, by, q)
			if err != nil {
				yield(User{}, err)
				return
			}
			for _, u := range page.Users {
				if !yield(u, nil) {
					return
				}
			}
			for _, id := range page.Damaged {
				if !yield(User{ID: id}, fail("AllUsers", refuse(ErrCorrupt, "user", "cannot be read"))) {
					return
				}
			}
			if q.After = page.Next; q.After == "" {
				return
			}
		}
	}
}

func (d *Directory) sealCursor(last UserID) UserCursor {
	// The nonce is derived from what is sealed: the same page has the same cursor, and no
	// nonce ever serves two of them.
	digest := sha256.Sum256([]byte(last))
	nonce := digest[:d.cursors.NonceSize()]
	return UserCursor(base64.RawURLEncoding.EncodeToString(d.cursors.Seal(nonce, nonce, []byte(last), []byte("users"))))
}

func (d *Directory) openCursor(c UserCursor) (UserID, error) {
	refused := invalid("after", "is not a cursor of this directory")
	if len(c) > 256 {
		return "", refused
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	if err != nil || len(raw) < d.cursors.NonceSize() || base64.RawURLEncoding.EncodeToString(raw) != string(c) {
		return "", refused
	}
	last, err := d.cursors.Open(nil, raw[:d.cursors.NonceSize()], raw[d.cursors.NonceSize():], []byte("users"))
	if err != nil {
		return "", refused
	}
	return UserID(last), nil
}
