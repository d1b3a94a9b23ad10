package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"iter"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// UserQuery asks for a page of users.
type UserQuery struct {
	Limit int        // 1 to MaxPage; 0: MaxPage
	After UserCursor // UserPage.Next of the page before; empty: from the start
}

// UserCursor is where a page ended. It is opaque, and valid for the directory that made it. Any
// other is [ErrInvalid] with Field "after".
type UserCursor string

// UserPage is a page of users in byte order of their ids.
type UserPage struct {
	Users   []User
	Damaged []UserID   // users of this page that cannot be read; DeleteUser deletes them
	Next    UserCursor // where to go on; empty: this is the last page
}

// MaxPageBytes bounds the users of one page as they are stored. The page ends before the user who
// would exceed it.
const MaxPageBytes = 4 << 20

// pageStep is how many users are read from the store at once.
const pageStep = 250

// Users returns a page of users in byte order of their ids. Paging to the end returns every user
// once; users created or deleted meanwhile may be included or not. A page that reaches
// [MaxPageBytes] has fewer users than Limit, but at least one, and a Next. Only .system may.
func (d *Directory) Users(
	ctx context.Context, by Principal, q UserQuery,
) (page UserPage, err error) {
	defer d.trace(&ctx, "Users", &by).end(&err)
	c, err := d.enter(ctx, opListUsers, by, noTarget)
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
		after, err := d.openCursor(string(q.After), userCursors)
		if err != nil {
			return UserPage{}, err
		}
		from = record.UserKey(after)
	}
	if err := d.usable(); err != nil {
		return UserPage{}, err
	}
	records, more, err := d.listPage(ctx, from, q.Limit)
	if err != nil {
		return UserPage{}, err
	}
	// The caller is checked after the data, as in Directory.read.
	if _, err := d.read(ctx, &c); err != nil {
		return UserPage{}, err
	}
	page.Users = make([]User, 0, len(records))
	var last UserID
	for _, r := range records {
		_, id := record.Parts(r.Key)
		last = UserID(id)
		value, err := record.DecodeStored(r)
		if err != nil {
			page.Damaged = append(page.Damaged, last)
			continue
		}
		page.Users = append(page.Users, userOf(&c, value.(*record.User), r.Version))
	}
	if more {
		page.Next = UserCursor(d.sealCursor(string(last), userCursors))
	}
	return page, nil
}

// listPage lists at most limit users after a key, and at most MaxPageBytes of them. It reports
// whether there are more.
func (d *Directory) listPage(
	ctx context.Context, after store.Key, limit int,
) (page []store.Record, more bool, err error) {
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

// AllUsers yields all users, page by page. It holds nothing open between pages. For each damaged
// user it yields [ErrCorrupt] beside a User that has only its ID, after the others of its page. It
// yields any other error once and ends. Only .system may.
func (d *Directory) AllUsers(ctx context.Context, by Principal) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "AllUsers", &by).end(&err)
		for q := (UserQuery{}); ; {
			var page UserPage
			if page, err = d.Users(ctx, by, q); err != nil {
				yield(User{}, err)
				return
			}
			for _, u := range page.Users {
				if !yield(u, nil) {
					return
				}
			}
			for _, id := range page.Damaged {
				err := toError("AllUsers", newError(ErrCorrupt, "user", "cannot be read"))
				if !yield(User{ID: id}, err) {
					return
				}
			}
			if q.After = page.Next; q.After == "" {
				return
			}
		}
	}
}

// What cursors are of, so that none is taken for another.
const (
	userCursors    = "users"
	presentCursors = "present"
)

func (d *Directory) sealCursor(last, of string) string {
	// The nonce is derived from what is sealed. So the same page has the same cursor, and no two
	// pages share a nonce.
	digest := sha256.Sum256([]byte(last))
	if of != userCursors {
		digest = sha256.Sum256([]byte(of + "\x00" + last))
	}
	nonce := digest[:d.cursors.NonceSize()]
	sealed := d.cursors.Seal(nonce, nonce, []byte(last), []byte(of))
	return base64.RawURLEncoding.EncodeToString(sealed)
}

func (d *Directory) openCursor(c, of string) (last string, err error) {
	refused := invalid("after", "is not a cursor of this directory")
	if len(c) > 256 {
		return "", refused
	}
	size := d.cursors.NonceSize()
	raw, err := base64.RawURLEncoding.Strict().DecodeString(c)
	if err != nil || len(raw) < size || base64.RawURLEncoding.EncodeToString(raw) != c {
		return "", refused
	}
	opened, err := d.cursors.Open(nil, raw[:size], raw[size:], []byte(of))
	if err != nil {
		return "", refused
	}
	return string(opened), nil
}
