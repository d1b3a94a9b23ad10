package denizen

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
)

// UserID names a user: 8 to 72 of a-z A-Z 0-9 - _ @ $ #, beginning with a letter, a digit,
// @ or #, compared byte for byte. No reserved name is ever one.
type UserID string

// The names of the principals that are no users. They are never user ids.
const (
	systemName    = ".system"
	anonymousName = ".anonymous"
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

// IsUser reports whether p is a user, one that an application acts for included.
func (p Principal) IsUser() bool { return p.kind == kindUser }

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
	defer wrapOp("Authenticate", &err)
	if err := d.usable(); err != nil {
		return Principal{}, err
	}
	now := d.clock.Now()
	if t := d.tokens.get(signed, now); t != nil && now < t.expires {
		t.use.touch(d, now)
		return t.by, nil
	}
	if len(signed) > token.MaxText {
		return Principal{}, newError(ErrUnauthenticated, "token", "is none of this directory's")
	}
	digest := token.Digest(signed)
	key := []store.Key{record.TokenTextKey(digest)}
	texts, err := d.load(ctx, key...)
	if err != nil {
		return Principal{}, err
	}
	text, ok := texts[0].Value().(*record.TokenText)
	if !ok {
		return Principal{}, d.refusalReason(ctx, signed, now)
	}
	if now >= text.Expires {
		return Principal{}, newError(ErrExpired, "token", "")
	}
	var epoch uint64
	if d.follower != nil { // what is remembered is read after the epoch, the text once more
		d.background.start()
		epoch, key = d.follower.epochOf(UserID(text.User)), append(key, key[0])
	}
	key[0] = record.UserKey(text.User)
	users, err := d.load(ctx, key...)
	if err != nil {
		return Principal{}, err
	}
	if d.follower != nil && users[1].Value() == nil {
		return Principal{}, newError(ErrRevoked, "token", "")
	}
	u, ok := users[0].Value().(*record.User)
	if !ok || u.Blocked || u.Incarnation != text.Incarnation || u.TokenEpoch != text.Epoch {
		return Principal{}, newError(ErrRevoked, "token", "")
	}
	by = Principal{kind: kindUser, user: UserID(u.ID), incarnation: u.Incarnation, token: TokenID(text.Token)}
	t := &cachedToken{
		by: by, expires: text.Expires, text: texts[0].Freshness(), user: users[0].Freshness(), epoch: epoch,
		use: useMark{owner: by.user, id: text.Token},
	}
	d.tokens.remember(signed, t)
	t.use.touch(d, now)
	return by, nil
}

// refusalReason says for what reason a text that was not found is refused. Nothing it learns lets
// anybody in.
func (d *Directory) refusalReason(ctx context.Context, signed string, now int64) error {
	ring, err := d.loadKeyRing(ctx)
	if err != nil {
		return err
	}
	_, err = token.Verify(signed, ring.public, token.Want{Issuer: d.id, Audience: d.applicationID}, now/1000)
	switch {
	case err == nil, errors.Is(err, token.ErrNotYetValid):
		// It was issued here and is gone before its end, whatever the clock says by now.
		return newError(ErrRevoked, "token", "")
	case errors.Is(err, token.ErrExpired):
		return newError(ErrExpired, "token", "")
	}
	return newError(ErrUnauthenticated, "token", "is none of this directory's")
}

// ActAs answers a principal for a user on whose behalf .system acts. What it does is the
// user's, and the feed names the access key that by came with beside it. A user who is
// absent, blocked or reserved is ErrDenied.
func (d *Directory) ActAs(ctx context.Context, by Principal, user UserID) (acting Principal, err error) {
	defer wrapOp("ActAs", &err)
	c, err := d.enter(ctx, opActAs, by, noTarget)
	if err != nil {
		return Principal{}, err
	}
	denied := newError(ErrDenied, "user", "nobody can act for this user")
	if checkUserID(string(user)) != "" {
		return Principal{}, denied
	}
	entries, err := d.read(ctx, &c, record.UserKey(string(user)))
	if err != nil {
		return Principal{}, err
	}
	u, ok := entries[0].Value().(*record.User)
	if !ok || u.Blocked {
		return Principal{}, denied
	}
	return Principal{
		kind: kindUser, user: user, incarnation: u.Incarnation,
		accessKey: by.accessKey, keyIncarnation: by.keyIncarnation,
	}, nil
}

// Check returns nil while by still stands: its user is there, not blocked and not replaced by another
// of the same id, the token it came with was neither revoked nor reached its end, and its access key
// is there. Otherwise it is ErrRevoked.
//
// It is for connections that stay open, whose requests are not authenticated one by one: ask by the
// minute, and after a while without an answer end the connection. System always stands; the zero
// Principal is ErrDenied.
func (d *Directory) Check(ctx context.Context, by Principal) (err error) {
	defer wrapOp("Check", &err)
	c, err := d.enter(ctx, opCheck, by, by.user)
	if err != nil {
		return err
	}
	if by.token == "" {
		_, err := d.read(ctx, &c)
		return err
	}
	entries, err := d.read(ctx, &c, record.TokensKey(string(by.user)))
	if err != nil {
		return err
	}
	r, ok := entries[0].Value().(*record.Tokens)
	if !ok || r.Incarnation != by.incarnation {
		return newError(ErrRevoked, "token", "")
	}
	if !slices.ContainsFunc(r.Tokens, func(t record.Token) bool { return t.ID == string(by.token) && c.now < expiry(t) }) {
		return newError(ErrRevoked, "token", "")
	}
	return nil
}

// timeOf returns the time of a stored instant, the zero time for none.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
