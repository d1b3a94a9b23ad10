package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Version is the state of a user or a profile: it changes with every write. A method that
// takes versions takes one at most: what must be there for the write to happen, and
// otherwise ErrConflict with Field "version". None: whatever is there.
type Version uint64

// User is a user with its locators. A peer is shown the ID and the ScreenName alone.
type User struct {
	ID         UserID
	InternalID string // never another user's, also when the ID is taken again
	ScreenName string
	Locators   []Locator // owned ones and pending claims, in the order they were added or set
	Blocked    bool
	CreatedAt  time.Time // to the millisecond, as all times here
	UpdatedAt  time.Time
	Version    Version
}

// NewUser is a user to be created.
type NewUser struct {
	ID         UserID // empty: a UUIDv7 (RFC 9562) is made
	ScreenName string // 1 to 128 characters, NFC, no control, bidirectional or zero-width ones
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
// ErrTaken with Field "id" or "locator" if another has one of them. The locators are the
// user's own at once. For .system only.
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
	if reason := checkScreenName(n.ScreenName); reason != "" {
		return User{}, invalid("screenName", reason)
	}
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
		if err := p.claim(record.UserKey(user.ID), refuse(ErrTaken, "id", "")); err != nil {
			return err
		}
		for _, l := range user.Locators {
			if err := p.claim(ownerKey(l), refuse(ErrTaken, "locator", "")); err != nil {
				return err
			}
			p.own(l, &user)
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
		p.emit(UserCreated, &user)
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
	if memos[0].value != nil {
		return taken
	}
	return nil
}

// checkScreenName answers the rule that s breaks, or "".
func checkScreenName(s string) string {
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case n < 1 || n > 128:
		return "must be 1 to 128 characters"
	case strings.ContainsFunc(s, invisible) || straySelector(s):
		return "must hold no control, bidirectional or zero-width characters"
	case strings.TrimSpace(s) == "":
		return "must not be blank"
	case !norm.NFC.IsNormalString(s):
		return "must be in Unicode normalization form C"
	}
	return ""
}

// invisible reports controls, format characters (those that turn the direction and those
// of no width), separators of lines, and letters that draw nothing.
func invisible(r rune) bool {
	switch r {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u2028', '\u2029', '\u3164', '\uffa0':
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
		unicode.Is(unicode.Variation_Selector, r) && r != '\ufe0f' && r != '\ufe0e'
}

// straySelector reports a selector of text or emoji style behind a character that has only
// one, where it would be seen by nobody.
func straySelector(s string) bool {
	before := ' '
	for _, r := range s {
		if (r == '\ufe0e' || r == '\ufe0f') && before != 'ℹ' && !unicode.In(before, unicode.S, unicode.P, unicode.Nd) {
			return true
		}
		before = r
	}
	return false
}

// User answers a user. A peer, where Options.MaySee lets it, is shown the id and the
// screen name alone.
func (d *Directory) User(ctx context.Context, by Principal, id UserID) (u User, err error) {
	defer naming("User", &err)
	c, err := d.enter(ctx, opReadUser, by, id)
	if err != nil {
		return User{}, err
	}
	// What is remembered needs no keys and no slices.
	if m := d.cache.get(name{kindUsers, string(id)}); m != nil && d.standsRemembered(&c, m) && d.usable() == nil {
		err = c.show(&u, m)
		return u, err
	}
	memos, err := d.read(ctx, &c, record.UserKey(string(id)))
	if err != nil {
		return User{}, err
	}
	err = c.show(&u, memos[0])
	return u, err
}

// Users answers several users, at most MaxList, in the order asked: all of them or
// ErrNotFound. What is shown of each is as with User.
func (d *Directory) Users(ctx context.Context, by Principal, ids ...UserID) (users []User, err error) {
	defer naming("Users", &err)
	calls, memos, err := d.readAll(ctx, opReadUser, by, ids, func(id string) store.Key { return record.UserKey(id) })
	if err != nil {
		return nil, err
	}
	users = make([]User, len(ids))
	for i := range ids {
		if err = calls[i].show(&users[i], memos[i]); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// readAll enters an operation for each of several users and reads a record of each. One
// refusal refuses the whole.
func (d *Directory) readAll(ctx context.Context, op op, by Principal, ids []UserID, key func(string) store.Key) ([]call, []*memo, error) {
	if len(ids) > MaxList {
		return nil, nil, invalid("users", "must be 100 at most")
	}
	if len(ids) == 0 {
		// Nobody is asked about, but the caller is looked at all the same.
		c, err := d.enter(ctx, opResolve, by, by.user)
		if err != nil {
			return nil, nil, err
		}
		_, err = d.read(ctx, &c)
		return nil, nil, err
	}
	calls := make([]call, len(ids))
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		c, err := d.enter(ctx, op, by, id)
		if err != nil {
			return nil, nil, err
		}
		calls[i], keys[i] = c, key(string(id))
	}
	memos, err := d.read(ctx, &calls[0], keys...)
	return calls, memos, err
}

// show makes u what the caller is shown of a user.
func (c *call) show(u *User, m *memo) error {
	r, err := userIn(m)
	if err != nil {
		return err
	}
	if c.role == other {
		u.ID, u.ScreenName = UserID(r.ID), r.ScreenName
		return nil
	}
	u.fill(r, m.version)
	return nil
}

func userIn(m *memo) (*record.User, error) {
	r, ok := m.value.(*record.User)
	if !ok {
		return nil, refuse(ErrNotFound, "user", "")
	}
	return r, nil
}

func userOf(r *record.User, version store.Seq) (u User) {
	u.fill(r, version)
	return u
}

// fill makes u the user of a record.
func (u *User) fill(r *record.User, version store.Seq) {
	u.ID, u.InternalID, u.ScreenName = UserID(r.ID), r.Incarnation, r.ScreenName
	u.Blocked, u.Version = r.Blocked, Version(version)
	u.CreatedAt, u.UpdatedAt = at(r.Created), at(r.Updated)
	u.Locators = locatorsOf(r.Locators)
}

// Resolve answers the id that a reference names: an id itself, not looked up; "me" for the
// acting user; or a serialized locator, such as "email:alice@example.org". A locator names
// anyone for .system, ErrNotFound if nobody owns it. For a user it names itself if its own
// record owns it, and otherwise another user, who is never looked up: ErrDenied.
func (d *Directory) Resolve(ctx context.Context, by Principal, ref string) (id UserID, err error) {
	defer naming("Resolve", &err)
	c, err := d.enter(ctx, opResolve, by, by.user)
	if err != nil {
		return "", err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return "", err
	}
	if ref == "me" {
		if c.role != self {
			return "", refuse(ErrDenied, "user", "only a user is me")
		}
		return by.user, nil
	}
	if !strings.Contains(ref, ":") {
		if reason := checkUserID(ref); reason != "" {
			return "", invalid("user", reason)
		}
		return UserID(ref), nil
	}
	locator, err := canonical(ref)
	if err != nil {
		return "", err
	}
	if c.role == self {
		memos, err := d.read(ctx, &c, record.UserKey(string(by.user)))
		if err != nil {
			return "", err
		}
		if r, ok := memos[0].value.(*record.User); ok && owns(r, locator) {
			return by.user, nil
		}
		return "", refuse(ErrDenied, "", "")
	}
	owners, err := d.owners(ctx, &c, []string{locator})
	if err != nil {
		return "", err
	}
	if len(owners) == 0 {
		return "", refuse(ErrNotFound, "locator", "")
	}
	return UserID(owners[0].value.(*record.User).ID), nil
}

// UsersByLocator answers the users who own these serialized locators, at most MaxList, each
// user once and in the order of the locators; a locator nobody owns is left out. Pending
// claims are never found. For .system only.
func (d *Directory) UsersByLocator(ctx context.Context, by Principal, locators ...string) (users []User, err error) {
	defer naming("UsersByLocator", &err)
	c, err := d.enter(ctx, opFindUsers, by, nobody)
	if err != nil {
		return nil, err
	}
	if len(locators) > MaxList {
		return nil, invalid("locators", "must be 100 at most")
	}
	var few [4]*memo
	owners := d.rememberedOwners(few[:0], locators)
	if owners == nil || !d.standsRemembered(&c, nil) || d.usable() != nil {
		wanted := make([]string, len(locators))
		for i, l := range locators {
			if wanted[i], err = canonical(l); err != nil {
				return nil, err
			}
		}
		if owners, err = d.owners(ctx, &c, wanted); err != nil {
			return nil, err
		}
	}
	users = make([]User, 0, len(owners))
	for _, m := range owners {
		r := m.value.(*record.User)
		if !slices.ContainsFunc(users, func(o User) bool { return string(o.ID) == r.ID }) {
			users = users[:len(users)+1]
			users[len(users)-1].fill(r, m.version)
		}
	}
	return users, nil
}

// owners answers the users who own canonical serialized locators, in their order and
// without those that nobody owns. A user that was read must still own the locator: between
// the two reads it may have gone to another.
func (d *Directory) owners(ctx context.Context, c *call, locators []string) ([]*memo, error) {
	keys := make([]store.Key, len(locators))
	for i, l := range locators {
		keys[i] = record.OwnerKey(l)
	}
	found, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	var owned []string
	keys = keys[:0]
	for i, m := range found {
		if o, ok := m.value.(*record.Owner); ok {
			owned, keys = append(owned, locators[i]), append(keys, record.UserKey(o.User))
		}
	}
	users, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, err
	}
	owners := users[:0]
	for i, m := range users {
		if r, ok := m.value.(*record.User); ok && owns(r, owned[i]) {
			owners = append(owners, m)
		}
	}
	return owners, nil
}

// rememberedOwners appends owners where all of them are remembered, and is nil otherwise.
// What is remembered to be owned is in canonical form.
func (d *Directory) rememberedOwners(owners []*memo, locators []string) []*memo {
	for _, l := range locators {
		o := d.cache.get(name{kindOwners, l})
		if o == nil {
			return nil
		}
		u := o.user.Load()
		if u == nil || u.dead.Load() {
			u = d.cache.get(name{kindUsers, o.value.(*record.Owner).User})
			if u == nil || !owns(u.value.(*record.User), l) {
				return nil
			}
			o.user.Store(u)
		}
		owners = append(owners, u)
	}
	return owners
}

// Query asks for a page of users.
type Query struct {
	Limit int    // 1 to MaxPage; 0: MaxPage
	After Cursor // where the page before ended; empty: from the start
}

// Cursor is where a page ended. It is opaque, of one directory, and refused when it was
// not made by it: ErrInvalid with Field "after".
type Cursor string

// Page is users in the order of their ids.
type Page struct {
	Users []User
	Next  Cursor // where to go on; empty: that was all
}

// UserPage answers a page of users in bytewise order of their ids. Users created or
// deleted meanwhile may be in it or not; all others are, once. For .system only.
func (d *Directory) UserPage(ctx context.Context, by Principal, q Query) (page Page, err error) {
	defer naming("UserPage", &err)
	c, err := d.enter(ctx, opListUsers, by, nobody)
	if err != nil {
		return Page{}, err
	}
	if q.Limit == 0 {
		q.Limit = MaxPage
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return Page{}, invalid("limit", "must be 1 to 1000")
	}
	r := store.Range{Under: record.Users, Limit: q.Limit + 1}
	if q.After != "" {
		after, err := d.openCursor(q.After)
		if err != nil {
			return Page{}, err
		}
		r.After = record.UserKey(string(after))
	}
	if err := d.usable(); err != nil {
		return Page{}, err
	}
	records, err := d.store.List(ctx, r)
	if err != nil {
		return Page{}, err
	}
	// The caller is looked at after the data, as everywhere.
	if _, err := d.read(ctx, &c); err != nil {
		return Page{}, err
	}
	more := len(records) > q.Limit
	if more {
		records = records[:q.Limit]
	}
	page.Users = make([]User, len(records))
	for i, r := range records {
		value, err := record.Decode(r.Key, r.Value)
		if err != nil {
			return Page{}, err
		}
		page.Users[i].fill(value.(*record.User), r.Version)
	}
	if more {
		page.Next = d.sealCursor(page.Users[q.Limit-1].ID)
	}
	return page, nil
}

// AllUsers goes through all users, page by page; nothing is held open between them. It
// ends at the first error, which it yields. For .system only.
func (d *Directory) AllUsers(ctx context.Context, by Principal) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for q := (Query{}); ; {
			page, err := d.UserPage(ctx, by, q)
			if err != nil {
				yield(User{}, err)
				return
			}
			for _, u := range page.Users {
				if !yield(u, nil) {
					return
				}
			}
			if q.After = page.Next; q.After == "" {
				return
			}
		}
	}
}

func (d *Directory) sealCursor(last UserID) Cursor {
	// The nonce is derived from what is sealed: the same page has the same cursor, and no
	// nonce ever serves two of them.
	digest := sha256.Sum256([]byte(last))
	nonce := digest[:d.cursors.NonceSize()]
	return Cursor(base64.RawURLEncoding.EncodeToString(d.cursors.Seal(nonce, nonce, []byte(last), []byte("users"))))
}

func (d *Directory) openCursor(c Cursor) (UserID, error) {
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

// CountUsers answers how many users there are, or were a moment ago if somebody writes
// meanwhile. The first call walks all keys, later ones follow the feed. For .system only.
func (d *Directory) CountUsers(ctx context.Context, by Principal) (n int, err error) {
	defer naming("CountUsers", &err)
	c, err := d.enter(ctx, opListUsers, by, nobody)
	if err != nil {
		return 0, err
	}
	if err := d.usable(); err != nil {
		return 0, err
	}
	if n, err = d.estimate.now(ctx, d.store); err != nil {
		return 0, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	return n, nil
}

// estimate is the number of users, as of a place in the feed.
type estimate struct {
	sync.Mutex
	known bool
	users int
	upTo  store.Seq
}

func (e *estimate) now(ctx context.Context, s store.Store) (int, error) {
	e.Lock()
	defer e.Unlock()
	for {
		var err error
		if e.known {
			err = e.follow(ctx, s, func(store.Key, bool) bool { return true })
		} else {
			err = e.walk(ctx, s)
		}
		if err == nil {
			return e.users, nil
		}
		if !isMissed(err) {
			return 0, err
		}
		e.known = false
	}
}

// follow goes on to the end of the feed. counts says of a user who came or went whether
// that changes the number.
func (e *estimate) follow(ctx context.Context, s store.Store, counts func(user store.Key, came bool) bool) error {
	for {
		feed, err := s.Changes(ctx, e.upTo, store.MaxPage)
		if err != nil {
			return err
		}
		for _, ch := range feed.Changes {
			event, err := record.DecodeEvent(ch.Event)
			if err != nil {
				return err
			}
			switch user := record.UserKey(event.User); {
			case event.What == UserCreated && counts(user, true):
				e.users++
			case event.What == UserDeleted && counts(user, false):
				e.users--
			}
			e.upTo = ch.Seq
		}
		if len(feed.Changes) < store.MaxPage {
			e.upTo = feed.Head
			return nil
		}
	}
}

// walk counts the keys of users page by page, and after each follows the feed as far as it
// tells of users up to there, so that one who comes or goes meanwhile is counted right.
func (e *estimate) walk(ctx context.Context, s store.Store) error {
	feed, err := headOf(ctx, s)
	if err != nil {
		return err
	}
	e.users, e.upTo = 0, feed.Head
	for r := (store.Range{Under: record.Users, Limit: store.MaxPage, KeysOnly: true}); ; {
		page, err := s.List(ctx, r)
		if err != nil {
			return err
		}
		e.users += len(page)
		last := len(page) < r.Limit
		there := make(map[store.Key]bool, len(page))
		for _, p := range page {
			there[p.Key] = true
		}
		err = e.follow(ctx, s, func(user store.Key, came bool) bool {
			switch {
			case user <= r.After:
				return true
			case !last && user > page[len(page)-1].Key:
				return false // on a page to come
			}
			changes := there[user] != came
			there[user] = came
			return changes
		})
		if err != nil {
			return err
		}
		if last {
			e.known = true
			return nil
		}
		r.After = page[len(page)-1].Key
	}
}

// SetScreenName changes a user's screen name.
func (d *Directory) SetScreenName(ctx context.Context, by Principal, id UserID, screenName string, expected ...Version) (u User, err error) {
	defer naming("SetScreenName", &err)
	c, err := d.enter(ctx, opSetScreenName, by, id)
	if err != nil {
		return User{}, err
	}
	if reason := checkScreenName(screenName); reason != "" {
		return User{}, invalid("screenName", reason)
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if r.ScreenName == screenName {
			return errUnchanged
		}
		r.ScreenName = screenName
		p.emit(UserRenamed, r)
		return nil
	})
}

// BlockUser blocks a user and ends all its tokens in the same commit. Blocking one who is
// blocked changes nothing. For .system only.
func (d *Directory) BlockUser(ctx context.Context, by Principal, id UserID, expected ...Version) (u User, err error) {
	defer naming("BlockUser", &err)
	c, err := d.enter(ctx, opBlockUser, by, id)
	if err != nil {
		return User{}, err
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if r.Blocked {
			return errUnchanged
		}
		r.Blocked = true
		p.emit(UserBlocked, r)
		return p.dropTokens(r)
	})
}

// UnblockUser lets a blocked user in again, with new tokens: the old ones stay ended. For
// .system only.
func (d *Directory) UnblockUser(ctx context.Context, by Principal, id UserID, expected ...Version) (u User, err error) {
	defer naming("UnblockUser", &err)
	c, err := d.enter(ctx, opBlockUser, by, id)
	if err != nil {
		return User{}, err
	}
	return d.change(ctx, &c, expected, func(p *plan, r *record.User) error {
		if !r.Blocked {
			return errUnchanged
		}
		r.Blocked = false
		p.emit(UserUnblocked, r)
		return nil
	})
}

// change rewrites a user's record: edit is given a copy of it. It answers the user as it
// is afterwards.
func (d *Directory) change(ctx context.Context, c *call, expected []Version, edit func(*plan, *record.User) error) (User, error) {
	var edited record.User
	var was store.Seq
	seq, err := d.write(ctx, c, func(p *plan) error {
		r, version, err := p.user(c.target)
		if err != nil {
			return err
		}
		if err := expect(expected, version); err != nil {
			return err
		}
		edited, was = *r, version
		edited.Locators = slices.Clone(r.Locators)
		edited.Updated = c.now
		if err := edit(p, &edited); err != nil {
			if err == errUnchanged {
				edited.Updated = r.Updated
			}
			return err
		}
		p.put(record.UserKey(edited.ID), &edited)
		return nil
	})
	if err == errUnchanged {
		seq, err = was, nil
	}
	if err != nil {
		return User{}, err
	}
	return userOf(&edited, seq), nil
}

// user answers a user's record for a decision. It must not be changed.
func (p *plan) user(id UserID) (*record.User, store.Seq, error) {
	memos, err := p.read(record.UserKey(string(id)))
	if err != nil {
		return nil, 0, err
	}
	r, err := userIn(memos[0])
	return r, memos[0].version, err
}

func expect(expected []Version, version store.Seq) error {
	if len(expected) > 1 {
		return invalid("version", "is one at most")
	}
	if len(expected) == 1 && expected[0] != Version(version) {
		return refuse(ErrConflict, "version", "is another one by now")
	}
	return nil
}

// DeleteUser deletes a user in one commit: its locators are free again, its tokens end, its
// profile and presence are gone. The id may be taken again, by a user who inherits nothing.
// For .system only.
func (d *Directory) DeleteUser(ctx context.Context, by Principal, id UserID, expected ...Version) (err error) {
	defer naming("DeleteUser", &err)
	c, err := d.enter(ctx, opDeleteUser, by, id)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		r, version, err := p.user(id)
		if err != nil {
			return err
		}
		if err := expect(expected, version); err != nil {
			return err
		}
		for _, l := range r.Locators {
			if l.Owned {
				p.drop(ownerKey(l))
			}
		}
		memos, err := p.read(record.ProfileKey(r.ID), record.DevicesKey(r.ID), record.UsesKey(r.ID))
		if err != nil {
			return err
		}
		if profile, ok := memos[0].value.(*record.Profile); ok {
			for _, a := range profile.Attributes {
				p.drop(record.UseKey(a.Key, r.ID))
			}
		}
		p.drop(record.UserKey(r.ID), record.ProfileKey(r.ID), record.DevicesKey(r.ID), record.UsesKey(r.ID))
		p.emit(UserDeleted, r)
		return p.dropTokens(r)
	})
	return err
}
