package denizen

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
)

// UserID names a user: 8 to 72 of a-z A-Z 0-9 - _ @ $ #, beginning with a letter, a digit, @ or #.
// Ids are compared byte for byte. A reserved name, such as .system, is never one.
type UserID string

// The names of the principals that are no users. They are never user ids.
const (
	systemName    = ".system"
	anonymousName = ".anonymous"
)

// ParseUserID returns s as a user id, or [ErrInvalid] with Field "user". It looks nobody up.
func ParseUserID(s string) (UserID, error) {
	if reason := checkUserID(s); reason != "" {
		return "", &Error{Op: "ParseUserID", Kind: ErrInvalid, Field: "user", Reason: reason}
	}
	return UserID(s), nil
}

// checkUserID returns the rule that s breaks, or "".
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
//
// [System] returns .system. Users come from [Directory.Authenticate] and [Directory.ActAs]. Nothing
// else makes a Principal: no text ever becomes one. Principals may be compared with ==.
//
// A user's Principal is usable until its user is blocked, deleted, or replaced by another of the
// same id. One that rests on an access key is usable until that key is deleted. Then methods return
// [ErrRevoked].
type Principal struct {
	kind           kind
	user           UserID
	incarnation    string
	token          TokenID
	accessKey      string
	keyIncarnation string
	operator       string // see Named
}

// System returns .system, the application itself. It may do everything to everyone, and is no user.
func System() Principal { return Principal{kind: kindSystem} }

// MaxOperator is the longest name of an operator, in bytes.
const MaxOperator = 64

// Named returns .system under the name of the operator who acts, such as the login of somebody at a
// console or of a script. Events name the operator beside .system, and beside a user for whom it
// acts: see [Directory.ActAs]. The name changes nothing about what may be done, and the host
// answers for it: the directory knows no operators.
//
// A name is 1 to [MaxOperator] visible ASCII characters. With another one, or for a Principal that
// is not .system, Named returns a Principal that may do nothing: each method refuses it by
// [ErrInvalid] with Field "operator".
func (p Principal) Named(operator string) Principal {
	if p.kind != kindSystem || !isOperator(operator) {
		return Principal{operator: noOperator}
	}
	p.operator = operator
	return p
}

// Operator returns the name of the operator who acts, or "". See [Principal.Named].
func (p Principal) Operator() string {
	if p.operator == noOperator {
		return ""
	}
	return p.operator
}

// noOperator marks a Principal that was given no good name. It is no name itself.
const noOperator = " "

// checkNamed returns ErrInvalid for a Principal that was given no good name.
func (p Principal) checkNamed() error {
	if p.operator == noOperator {
		return invalid("operator", "must be .system, named by 1 to 64 visible ASCII characters")
	}
	return nil
}

func isOperator(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return name != "" && len(name) <= MaxOperator
}

// User returns the user's id, or "" for .system and .anonymous.
func (p Principal) User() UserID { return p.user }

// Token returns the id of the token that the user authenticated with, or "".
func (p Principal) Token() TokenID { return p.token }

// AccessKey returns the access key that the application authenticated with, also where it acts for
// a user, or "".
func (p Principal) AccessKey() string { return p.accessKey }

// IsSystem reports whether p is the application itself.
func (p Principal) IsSystem() bool { return p.kind == kindSystem }

// IsAnonymous reports whether p is nobody.
func (p Principal) IsAnonymous() bool { return p.kind == kindAnonymous }

// IsUser reports whether p is a user, which includes one that the application acts for.
func (p Principal) IsUser() bool { return p.kind == kindUser }

// MayParticipate reports whether p may be let into a channel, a conversation or the like. Users
// may; .system and .anonymous never may.
func (p Principal) MayParticipate() bool { return p.kind == kindUser }

// String returns the user's id, ".system" or ".anonymous".
func (p Principal) String() string {
	switch p.kind {
	case kindSystem:
		return systemName
	case kindUser:
		return string(p.user)
	}
	return anonymousName
}

// Authenticate returns the user that a signed token was issued for. It accepts only a text that
// this directory issued, byte for byte.
//
// A token past its end is [ErrExpired]. One that was revoked, or whose user was blocked or deleted,
// is [ErrRevoked]. A text that this directory did not issue is [ErrUnauthenticated]. If the token
// cannot be looked up the error is [ErrUnavailable], and nobody is let in.
func (d *Directory) Authenticate(ctx context.Context, signed string) (by Principal, err error) {
	defer d.trace(&ctx, "Authenticate", &by).end(&err)
	if err := d.usable(); err != nil {
		return Principal{}, err
	}
	now := d.clock.Now()
	if t := d.tokens.get(signed, now); t != nil && now < t.expires {
		t.use.touch(d, now)
		return t.by, nil
	}
	if len(signed) > token.MaxText {
		return Principal{}, newError(ErrUnauthenticated, "token", notIssued)
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
	if d.follower != nil {
		// What the cache will hold must be read after the epoch. So the text is read once more.
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
	if !ok || u.BlockedAt(now) || u.Incarnation != text.Incarnation || u.TokenEpoch != text.Epoch {
		return Principal{}, newError(ErrRevoked, "token", "")
	}
	by = Principal{
		kind: kindUser, user: UserID(u.ID), token: TokenID(text.Token),
		incarnation: strings.Clone(u.Incarnation), // which is a part of the record's text
	}
	t := &cachedToken{
		by: by, expires: text.Expires, epoch: epoch,
		text: texts[0].Freshness(), user: users[0].Freshness(),
		use: useMark{owner: by.user, incarnation: by.incarnation, id: text.Token},
	}
	d.tokens.remember(signed, t)
	t.use.touch(d, now)
	return by, nil
}

// notIssued is the Reason of ErrUnauthenticated for a text that is no token of this directory.
const notIssued = "was not issued by this directory"

// refusalReason returns why a text that was not found is refused. It never lets anybody in.
func (d *Directory) refusalReason(ctx context.Context, signed string, now int64) error {
	ring, err := d.loadKeyRing(ctx)
	if err != nil {
		return err
	}
	want := token.Want{Issuer: d.id, Audience: d.applicationID}
	_, err = token.Verify(signed, ring.public, want, now/1000)
	switch {
	case err == nil, errors.Is(err, token.ErrNotYetValid):
		// It was issued here and is gone before its end.
		return newError(ErrRevoked, "token", "")
	case errors.Is(err, token.ErrExpired):
		return newError(ErrExpired, "token", "")
	}
	return newError(ErrUnauthenticated, "token", notIssued)
}

// ActAs returns a Principal for a user on whose behalf the application acts. What it does counts as
// the user's doing. Events name the access key and the operator of by beside the user. A user who
// is absent, blocked or reserved is [ErrDenied] with Field "user". Only .system may.
func (d *Directory) ActAs(
	ctx context.Context, by Principal, user UserID,
) (acting Principal, err error) {
	defer d.trace(&ctx, "ActAs", &by).end(&err)
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
	if !ok || u.BlockedAt(c.now) {
		return Principal{}, denied
	}
	return Principal{
		kind: kindUser, user: user, incarnation: strings.Clone(u.Incarnation),
		accessKey: by.accessKey, keyIncarnation: by.keyIncarnation, operator: by.operator,
	}, nil
}

// Check returns nil while by is valid. It returns [ErrRevoked] once its user is blocked, deleted or
// replaced by another of the same id, once its token was revoked or reached its end, or once its
// access key was deleted.
//
// It is for connections that stay open, whose requests are not authenticated one by one. Call it
// once a minute or so, and end the connection if it keeps failing with another error. [System] is
// always valid; the zero Principal is [ErrDenied].
func (d *Directory) Check(ctx context.Context, by Principal) (err error) {
	defer d.trace(&ctx, "Check", &by).end(&err)
	c, err := d.enter(ctx, opCheck, by, by.user)
	if err != nil {
		return err
	}
	_, err = d.checkBy(ctx, &c)
	return err
}

// checkBy returns ErrRevoked unless the caller is valid, and otherwise when its token ends, or 0 if
// it has none.
func (d *Directory) checkBy(ctx context.Context, c *call) (ends int64, err error) {
	if c.by.token == "" {
		_, err := d.read(ctx, c)
		return 0, err
	}
	entries, err := d.read(ctx, c, record.TokensKey(string(c.by.user)))
	if err != nil {
		return 0, err
	}
	if ends = c.by.tokenEnds(entries[0].Value(), c.now); ends == 0 {
		return 0, newError(ErrRevoked, "token", "")
	}
	return ends, nil
}

// tokenEnds returns when the token of p ends, or 0 unless the record of the user's tokens lists it
// as a live one.
func (p Principal) tokenEnds(tokens any, now int64) int64 {
	r, ok := tokens.(*record.Tokens)
	if !ok || r.Incarnation != p.incarnation {
		return 0
	}
	i := indexOfToken(r.Tokens, p.token)
	if i < 0 || expiry(r.Tokens[i]) <= now {
		return 0
	}
	return expiry(r.Tokens[i])
}

// timeOf returns the time of a stored instant, or the zero time for none.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
