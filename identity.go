package denizen

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
)

// UserID names a user: 8 to 72 of a-z A-Z 0-9 - _ @ $ #, beginning with a letter, a digit,
// @ or #, compared byte for byte. No reserved name is ever one.
type UserID string

// The reserved names. They are principals or were users, and never user ids.
const (
	systemName    = ".system"
	anonymousName = ".anonymous"
	// Deleted is what may stand where a deleted user's id stood.
	Deleted = ".deleted"
)

// ParseUserID answers s as a user id, or ErrInvalid with Field "user". It looks nobody up.
func ParseUserID(s string) (UserID, error) {
	if reason := checkUserID(s); reason != "" {
		return "", &Error{Op: "ParseUserID", Kind: ErrInvalid, Field: "user", Reason: reason}
	}
	return UserID(s), nil
}

// checkUserID answers the rule that s breaks, or "".
func checkUserID(s string) string {
	const rule = "must be 8 to 72 of a-z A-Z 0-9 - _ @ $ #, beginning with a letter, a digit, @ or #"
	if len(s) < 8 || len(s) > 72 {
		return rule
	}
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '@', b == '#':
		case i > 0 && (b == '-' || b == '_' || b == '$'):
		default:
			return rule
		}
	}
	return ""
}

type kind uint8

const (
	kindAnonymous kind = iota
	kindUser
	kindSystem
)

// Principal is who makes a call. The zero Principal is .anonymous, who may do nothing.
// System answers .system; users come from Authenticate and ActAs, and nothing else makes
// one: no text ever becomes a principal. Principals may be compared.
//
// A user's principal stays usable while its user is there, not blocked and not replaced by
// another of the same id; one that came with an access key, while that key is there.
type Principal struct {
	kind           kind
	user           UserID
	incarnation    string
	token          TokenID
	accessKey      string
	keyIncarnation string
}

// System is the application itself: it may do everything to everyone, and is no user.
func System() Principal { return Principal{kind: kindSystem} }

// User answers the user's id, or "" for .system and .anonymous.
func (p Principal) User() UserID { return p.user }

// Token answers the id of the token the user came with, or "".
func (p Principal) Token() TokenID { return p.token }

// AccessKey answers the access key that the application came with or that acts for the
// user, or "".
func (p Principal) AccessKey() string { return p.accessKey }

// IsSystem reports whether p is the application itself.
func (p Principal) IsSystem() bool { return p.kind == kindSystem }

// IsAnonymous reports whether p is nobody.
func (p Principal) IsAnonymous() bool { return p.kind == kindAnonymous }

// MayParticipate reports whether p may be let into a channel, a conversation or the like:
// users may, .system and .anonymous never.
func (p Principal) MayParticipate() bool { return p.kind == kindUser }

// String answers the user's id, ".system" or ".anonymous".
func (p Principal) String() string {
	switch p.kind {
	case kindSystem:
		return systemName
	case kindUser:
		return string(p.user)
	}
	return anonymousName
}

// Authenticate answers the user that a signed token stands for. Only the very text that
// was issued is accepted, and only while it is neither past its end nor revoked and its
// user is there and not blocked: ErrExpired, ErrRevoked, and ErrUnauthenticated for what
// is none of this directory's. If that cannot be looked up the answer is ErrUnavailable.
func (d *Directory) Authenticate(ctx context.Context, signed string) (by Principal, err error) {
	defer naming("Authenticate", &err)
	if err := d.usable(); err != nil {
		return Principal{}, err
	}
	now := d.clock.Now()
	if g := d.grants.get(signed, now); g != nil && now < g.expires {
		g.use.touch(d, now)
		return g.by, nil
	}
	if len(signed) > token.MaxText {
		return Principal{}, refuse(ErrUnauthenticated, "token", "is none of this directory's")
	}
	digest := token.Digest(signed)
	key := []store.Key{record.GrantKey(digest)}
	texts, err := d.load(ctx, d.cache, key)
	if err != nil {
		return Principal{}, err
	}
	g, ok := texts[0].value.(*record.Grant)
	if !ok {
		return Principal{}, d.why(ctx, signed, now)
	}
	if now >= g.Expires {
		return Principal{}, refuse(ErrExpired, "token", "")
	}
	var generation uint64
	if d.following != nil { // what is remembered is read after the generation, the text once more
		d.background.start()
		generation, key = d.following.generation(UserID(g.User)), append(key, key[0])
	}
	key[0] = record.UserKey(g.User)
	users, err := d.load(ctx, d.cache, key)
	if err != nil {
		return Principal{}, err
	}
	if d.following != nil && users[1].value == nil {
		return Principal{}, refuse(ErrRevoked, "token", "")
	}
	u, ok := users[0].value.(*record.User)
	if !ok || u.Blocked || u.Incarnation != g.Incarnation {
		return Principal{}, refuse(ErrRevoked, "token", "")
	}
	by = Principal{kind: kindUser, user: UserID(u.ID), incarnation: u.Incarnation, token: TokenID(g.Token)}
	a := &grant{by: by, expires: g.Expires, text: texts[0], user: users[0], generation: generation, use: use{owner: by.user, id: g.Token}}
	d.grants.remember(signed, a)
	a.use.touch(d, now)
	return by, nil
}

// why says for what reason a text that was not found is refused. Nothing it learns lets
// anybody in.
func (d *Directory) why(ctx context.Context, signed string, now int64) error {
	ring, err := d.ring(ctx)
	if err != nil {
		return err
	}
	_, err = token.Verify(signed, ring.public, token.Want{Issuer: d.id, Audience: d.applicationID}, now/1000)
	switch {
	case err == nil, errors.Is(err, token.ErrNotYetValid):
		// It was issued here and is gone before its end, whatever the clock says by now.
		return refuse(ErrRevoked, "token", "")
	case errors.Is(err, token.ErrExpired):
		return refuse(ErrExpired, "token", "")
	}
	return refuse(ErrUnauthenticated, "token", "is none of this directory's")
}

// ActAs answers a principal for a user on whose behalf .system acts. What it does is the
// user's, and the feed names the access key that by came with beside it. A user who is
// absent, blocked or reserved is ErrDenied.
func (d *Directory) ActAs(ctx context.Context, by Principal, user UserID) (acting Principal, err error) {
	defer naming("ActAs", &err)
	c, err := d.enter(ctx, opActAs, by, nobody)
	if err != nil {
		return Principal{}, err
	}
	denied := refuse(ErrDenied, "user", "nobody can act for this user")
	if checkUserID(string(user)) != "" {
		return Principal{}, denied
	}
	memos, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return Principal{}, err
	}
	u, ok := memos[0].value.(*record.User)
	if !ok || u.Blocked {
		return Principal{}, denied
	}
	return Principal{
		kind: kindUser, user: user, incarnation: u.Incarnation,
		accessKey: by.accessKey, keyIncarnation: by.keyIncarnation,
	}, nil
}

// AccessKey is a key of the application, without its secret.
type AccessKey struct {
	Key        string
	CreatedAt  time.Time
	LastUsedAt time.Time // zero if never
	LastAction string    // "Basic" or "Signed"
}

// NewAccessKey is a key with its secret, in base64 (RFC 4648 §4). It is the only time the
// secret is seen.
type NewAccessKey struct {
	Key       string
	Secret    string
	CreatedAt time.Time
}

// CreateAccessKey makes an access key with a secret of 32 random bytes. At most
// MaxAccessKeys live: another is ErrLimited. For .system only.
func (d *Directory) CreateAccessKey(ctx context.Context, by Principal) (key NewAccessKey, err error) {
	defer naming("CreateAccessKey", &err)
	c, err := d.enter(ctx, opAccessKeys, by, nobody)
	if err != nil {
		return NewAccessKey{}, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	key = NewAccessKey{Key: rand.Text(), Secret: base64.StdEncoding.EncodeToString(secret), CreatedAt: at(c.now)}
	if err := d.addAccessKey(ctx, &c, key.Key, secret); err != nil {
		return NewAccessKey{}, err
	}
	return key, nil
}

// PutAccessKey makes an access key that the host brought: 8 to 128 letters, digits, dots,
// dashes and underscores, and a secret of 32 bytes at least in base64 (RFC 4648 §4, with
// padding). Putting the same key and secret again changes nothing; the same key with
// another secret is ErrTaken. For .system only.
func (d *Directory) PutAccessKey(ctx context.Context, by Principal, key, secret string) (err error) {
	defer naming("PutAccessKey", &err)
	c, err := d.enter(ctx, opAccessKeys, by, nobody)
	if err != nil {
		return err
	}
	if len(key) < 8 || len(key) > 128 || strings.ContainsFunc(key, func(r rune) bool { return !applicationID(string(r)) }) {
		return invalid("accessKey", "must be 8 to 128 letters, digits, dots, dashes and underscores")
	}
	raw, ok := accessSecret(secret)
	if !ok || len(raw) < 32 || len(raw) > 1024 {
		return invalid("accessSecret", "must be 32 to 1024 bytes in base64")
	}
	return d.addAccessKey(ctx, &c, key, raw)
}

func accessSecret(text string) ([]byte, bool) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	return raw, err == nil && base64.StdEncoding.EncodeToString(raw) == text
}

func (d *Directory) addAccessKey(ctx context.Context, c *call, key string, secret []byte) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		keys, err := p.accessKeys()
		if err != nil {
			return err
		}
		for _, k := range keys.Keys {
			if k.Key != key {
				continue
			}
			known, err := d.unseal("access key "+k.Key, k.Secret)
			if err != nil {
				return err
			}
			if subtle.ConstantTimeCompare(known, secret) == 1 {
				return errUnchanged
			}
			return refuse(ErrTaken, "accessKey", "has another secret")
		}
		if len(keys.Keys) >= MaxAccessKeys {
			return refuse(ErrLimited, "accessKey", "three live already")
		}
		keys.Keys = append(keys.Keys, record.AccessKey{
			Key: key, Incarnation: rand.Text(), Secret: d.seal("access key "+key, secret), Created: c.now,
		})
		p.put(record.AccessKeysKey, &keys)
		p.emit(AccessKeyCreated, nil, key)
		return nil
	})
	return unchanged(err)
}

// AccessKeys lists the access keys that live, oldest first, without their secrets. For
// .system only.
func (d *Directory) AccessKeys(ctx context.Context, by Principal) (keys []AccessKey, err error) {
	defer naming("AccessKeys", &err)
	c, err := d.enter(ctx, opAccessKeys, by, nobody)
	if err != nil {
		return nil, err
	}
	noted := d.uses.of(nobody)
	memos, err := d.read(ctx, &c, record.AccessKeysKey, record.UsesKey(""))
	if err != nil {
		return nil, err
	}
	stored, _ := memos[0].value.(*record.AccessKeys)
	if stored == nil {
		return []AccessKey{}, nil
	}
	for _, k := range stored.Keys {
		used := lastUse(k.Incarnation, noted, memos[1])
		keys = append(keys, AccessKey{Key: k.Key, CreatedAt: at(k.Created), LastUsedAt: at(used.At), LastAction: used.Action})
	}
	return keys, nil
}

// DeleteAccessKey deletes an access key: nothing that came with it is let in any longer,
// nor who it acts for. Tokens issued with it stay; RevokeTokensIssuedBy ends those. For
// .system only.
func (d *Directory) DeleteAccessKey(ctx context.Context, by Principal, key string) (err error) {
	defer naming("DeleteAccessKey", &err)
	c, err := d.enter(ctx, opAccessKeys, by, nobody)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		keys, err := p.accessKeys()
		if err != nil {
			return err
		}
		left := record.AccessKeys{}
		for _, k := range keys.Keys {
			if k.Key != key {
				left.Keys = append(left.Keys, k)
			}
		}
		if len(left.Keys) == len(keys.Keys) {
			return refuse(ErrNotFound, "accessKey", "")
		}
		if len(left.Keys) == 0 {
			p.drop(record.AccessKeysKey, record.UsesKey(""))
		} else {
			p.put(record.AccessKeysKey, &left)
		}
		p.emit(AccessKeyDeleted, nil, key)
		return nil
	})
	return err
}

// accessKeys answers a copy of the access keys.
func (p *plan) accessKeys() (record.AccessKeys, error) {
	memos, err := p.read(record.AccessKeysKey)
	if err != nil {
		return record.AccessKeys{}, err
	}
	keys, _ := memos[0].value.(*record.AccessKeys)
	if keys == nil {
		return record.AccessKeys{}, nil
	}
	return record.AccessKeys{Keys: append([]record.AccessKey(nil), keys.Keys...)}, nil
}

// AuthenticateKey answers .system for an access key and its secret in base64, and
// ErrUnauthenticated for anything else.
func (d *Directory) AuthenticateKey(ctx context.Context, key, secret string) (by Principal, err error) {
	defer naming("AuthenticateKey", &err)
	k, known, err := d.accessKey(ctx, key)
	if err != nil {
		return Principal{}, err
	}
	given, ok := accessSecret(secret)
	// Digests are compared, so that the time tells nothing of the secret's length either.
	a, b := sha256.Sum256(given), sha256.Sum256(known)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !ok || k == nil {
		return Principal{}, refuse(ErrUnauthenticated, "accessKey", "")
	}
	d.uses.note(d, nobody, record.LastUse{ID: k.Incarnation, At: d.clock.Now(), Action: "Basic"})
	return Principal{kind: kindSystem, accessKey: k.Key, keyIncarnation: k.Incarnation}, nil
}

// accessKey answers an access key and its secret, or nil and a secret that nobody knows.
func (d *Directory) accessKey(ctx context.Context, key string) (*record.AccessKey, []byte, error) {
	if err := d.usable(); err != nil {
		return nil, nil, err
	}
	memos, err := d.load(ctx, d.cache, []store.Key{record.AccessKeysKey})
	if err != nil {
		return nil, nil, err
	}
	// Opening a stranger's secret costs an unknown key what it costs a known one.
	found := &record.AccessKey{Secret: d.stranger}
	if keys, _ := memos[0].value.(*record.AccessKeys); keys != nil {
		for i := range keys.Keys {
			if keys.Keys[i].Key == key {
				found = &keys.Keys[i]
			}
		}
	}
	secret, err := d.unseal("access key "+found.Key, found.Secret)
	if found.Key == "" {
		found = nil
	}
	return found, secret, err
}

// SignedRequest is what a request signed with an access key says of itself. The digest is
// the base64 of HMAC-SHA1, keyed with the decoded secret, over the method in capitals, the
// content type, the Content-MD5, the date, the path and the nonce, each on a line.
type SignedRequest struct {
	AccessKey   string
	Digest      string
	Method      string
	ContentType string // "application/json", or "null" where the method has no body
	ContentMD5  string // already compared with the body by the caller
	Date        string // RFC 1123, in GMT or UTC; the weekday is not looked at
	Path        string
	Nonce       string // 8 to 128 visible ASCII characters
}

// SignedWindow is how far the date of a signed request may be from now, either way.
const SignedWindow = 25 * time.Second

// AuthenticateSigned answers .system for a request signed with an access key, once: the
// nonce is used up, durably, before the answer, so each call is a commit to the store. A
// request with a bad digest, an unknown key or a nonce that was used is ErrUnauthenticated,
// one whose date is out of SignedWindow ErrExpired, and one whose nonce or date breaks its
// rule ErrInvalid. A request that is refused uses nothing up.
func (d *Directory) AuthenticateSigned(ctx context.Context, r SignedRequest) (by Principal, err error) {
	defer naming("AuthenticateSigned", &err)
	k, secret, err := d.accessKey(ctx, r.AccessKey)
	if err != nil {
		return Principal{}, err
	}
	if len(r.Nonce) < 8 || len(r.Nonce) > 128 || strings.ContainsFunc(r.Nonce, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Principal{}, invalid("nonce", "must be 8 to 128 visible ASCII characters")
	}
	date, ok := parseDate(r.Date)
	if !ok {
		return Principal{}, invalid("date", "must be an RFC 1123 date in GMT")
	}
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(strings.Join([]string{r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce}, "\n")))
	digest := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// A line break inside a field would let two requests share one text.
	joined := strings.ContainsAny(r.Method+r.ContentType+r.ContentMD5+r.Date+r.Path, "\n\r")
	if subtle.ConstantTimeCompare([]byte(digest), []byte(r.Digest)) != 1 || joined || k == nil {
		return Principal{}, refuse(ErrUnauthenticated, "digest", "")
	}
	now := d.clock.Now()
	if off := now - date.UnixMilli(); off > SignedWindow.Milliseconds() || off < -SignedWindow.Milliseconds() {
		return Principal{}, refuse(ErrExpired, "date", "is too far from now")
	}
	by = Principal{kind: kindSystem, accessKey: k.Key, keyIncarnation: k.Incarnation}
	if err := d.spendNonce(ctx, by, date.Unix()/60, r.Nonce); err != nil {
		return Principal{}, err
	}
	d.uses.note(d, nobody, record.LastUse{ID: k.Incarnation, At: now, Action: "Signed"})
	return by, nil
}

// parseDate reads an RFC 1123 date whose weekday may be any.
func parseDate(s string) (time.Time, bool) {
	_, rest, ok := strings.Cut(s, ", ")
	if !ok || (!strings.HasSuffix(rest, " GMT") && !strings.HasSuffix(rest, " UTC")) {
		return time.Time{}, false
	}
	const layout = "02 Jan 2006 15:04:05"
	rest = rest[:len(rest)-len(" GMT")]
	t, err := time.Parse(layout, rest)
	return t, err == nil && t.Format(layout) == rest // Parse takes fractions and any case
}

// spendNonce uses a nonce up. It lies under the minute of its date, and a date is good
// for less than a minute, so a nonce absent from its minute and the ones beside it was
// not used in any request that could still be good.
func (d *Directory) spendNonce(ctx context.Context, by Principal, minute int64, nonce string) error {
	d.background.start()
	key := record.NonceKey(minute, by.accessKey, nonce)
	_, err := d.store.Commit(ctx, store.Batch{
		If: []store.Cond{
			{Key: record.NonceKey(minute-1, by.accessKey, nonce)},
			{Key: key},
			{Key: record.NonceKey(minute+1, by.accessKey, nonce)},
		},
		Put: []store.Record{{Key: key, Value: record.Encode(&record.Nonce{AccessKey: by.accessKey, Nonce: nonce})}},
	})
	if errors.Is(err, store.ErrConflict) {
		return refuse(ErrUnauthenticated, "nonce", "was used before")
	}
	return err
}

// naming makes an error the *Error of the method it is named after.
func naming(op string, err *error) {
	if *err != nil {
		*err = fail(op, *err)
	}
}

func unchanged(err error) error {
	if err == errUnchanged {
		return nil
	}
	return err
}

// at answers the time of a stored instant, the zero time for none.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
