package denizen

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
)

// TokenID names one token of one user: every signed text that was ever issued for it.
type TokenID string

// TokenOptions are what a token is issued with.
type TokenOptions struct {
	TTL time.Duration // a whole number of seconds, at most MaxTTL; 0: Options.TokenTTL, or MaxTTL if that is less
	// MaxTTL bounds the whole life of the token: no extension, by whomever, goes further from
	// the issue. A whole number of seconds, at most Options.MaxTokenTTL, which is the default.
	MaxTTL time.Duration
	Label  string // for people, such as the name of a device: may be empty, else as a screen name
	// RefuseWhenFull makes a token beyond MaxTokens ErrLimited. Otherwise it ends the one that
	// was unused for longest.
	RefuseWhenFull bool
}

// IssuedToken is a token that was just issued or extended: the only time that the signed
// text is seen.
type IssuedToken struct {
	ID        TokenID
	Signed    string // a JWT signed with Ed25519 (RFC 7519, RFC 8037)
	ExpiresAt time.Time
}

// Token is a live token, as it is listed: never with its signed text.
type Token struct {
	ID         TokenID
	Label      string
	AccessKey  string // that it was issued with, if with one
	IssuedAt   time.Time
	ExpiresAt  time.Time // of its longest living text
	LastUsedAt time.Time // to the minute; zero if never
}

// IssueToken issues a token for a user; for a blocked user it is ErrDenied with Field "user".
//
// A user has MaxTokens live ones at most. One more first ends the token that was unused for
// longest, by its last use or else its issue, as RevokeTokens does and with the same event; or
// it is ErrLimited with Field "tokens" where TokenOptions.RefuseWhenFull is set. The end and
// the issue are two commits: if the second fails, a token has ended and nothing replaced it.
// For .system only.
func (d *Directory) IssueToken(ctx context.Context, by Principal, user UserID, o TokenOptions) (issued IssuedToken, err error) {
	defer naming("IssueToken", &err)
	c, err := d.enter(ctx, opIssueToken, by, user)
	if err != nil {
		return IssuedToken{}, err
	}
	if err := o.fill(&d.options); err != nil {
		return IssuedToken{}, err
	}
	d.background.start()
	for {
		issued, err = d.issue(ctx, &c, &o)
		if err != errFull {
			break
		}
		if o.RefuseWhenFull {
			return IssuedToken{}, refuse(ErrLimited, "tokens", "of a user must be 100 at most")
		}
		if err := d.endUnused(ctx, &c); err != nil {
			return IssuedToken{}, err
		}
	}
	if err != nil {
		return IssuedToken{}, err
	}
	return issued, nil
}

// fill checks options of a token and makes those that were left out what they stand for.
func (o *TokenOptions) fill(d *Options) error {
	const rule = "must be whole seconds, and no longer than the longest life of a token"
	if o.MaxTTL == 0 {
		o.MaxTTL = d.MaxTokenTTL
	}
	if o.MaxTTL < time.Second || o.MaxTTL%time.Second != 0 || o.MaxTTL > d.MaxTokenTTL {
		return invalid("maxTtl", rule)
	}
	if o.TTL == 0 {
		o.TTL = min(d.TokenTTL, o.MaxTTL)
	}
	if o.TTL < time.Second || o.TTL%time.Second != 0 || o.TTL > o.MaxTTL {
		return invalid("ttl", rule)
	}
	if o.Label != "" {
		label, reason := screenNameOf(o.Label)
		if reason != "" {
			return invalid("label", reason)
		}
		o.Label = label
	}
	return nil
}

// errFull says that a user has as many live tokens as it may.
var errFull = errors.New("a user has the most tokens there may be")

// issue issues a token, or returns errFull.
func (d *Directory) issue(ctx context.Context, c *call, o *TokenOptions) (issued IssuedToken, err error) {
	_, err = d.write(ctx, c, func(p *plan) error {
		u, tokens, err := p.tokens()
		if err != nil {
			return err
		}
		if u.Blocked {
			return refuse(ErrDenied, "user", "is blocked")
		}
		if len(tokens.Tokens) >= MaxTokens {
			return errFull
		}
		t := record.Token{
			ID: rand.Text(), Label: o.Label, AccessKey: c.by.accessKey,
			Issued: c.now, Latest: ceil(c.now + o.MaxTTL.Milliseconds()),
		}
		if issued, err = p.mint(&t, u, ceil(c.now+o.TTL.Milliseconds())); err != nil {
			return err
		}
		tokens.Tokens = append(tokens.Tokens, t)
		p.putTokens(tokens)
		p.emit(EventTokenIssued, u, t.ID)
		return nil
	})
	return issued, err
}

// endUnused ends the token of a user that was unused for longest, if the user still has as
// many as it may: of several callers at once each ends one, or finds room that another made.
func (d *Directory) endUnused(ctx context.Context, c *call) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.tokens()
		if err != nil {
			return err
		}
		if len(r.Tokens) < MaxTokens {
			return errUnchanged
		}
		noted := d.uses.of(c.target)
		memos, err := d.load(ctx, d.cache, []store.Key{record.LastUsesKey(u.ID)}) // no condition: a use must not fail it
		if err != nil {
			return err
		}
		used := func(t record.Token) int64 { return max(t.Issued, lastUse(t.ID, noted, memos[0]).At) }
		i := 0
		for j, t := range r.Tokens {
			if used(t) < used(r.Tokens[i]) {
				i = j
			}
		}
		p.dropTexts(r.Tokens[i])
		p.emit(EventTokenRevoked, u, r.Tokens[i].ID)
		r.Tokens = slices.Delete(r.Tokens, i, i+1)
		p.putTokens(r)
		return nil
	})
	return unchanged(err)
}

// ceil rounds milliseconds up to a second: a token's times are whole seconds, and it lives
// no shorter than it was asked to.
func ceil(ms int64) int64 { return (ms + 999) / 1000 * 1000 }

// mint signs a text for a token of a user and puts what it stands for.
func (p *plan) mint(t *record.Token, u *record.User, expires int64) (IssuedToken, error) {
	signer, err := p.signer(expires)
	if err != nil {
		return IssuedToken{}, err
	}
	now := p.c.now / 1000
	signed, err := token.Mint(signer, token.Claims{
		ID: t.ID, Issuer: p.d.id, Subject: u.ID, Audience: p.d.applicationID,
		IssuedAt: now, NotBefore: now, Expires: expires / 1000,
		UserID: u.ID, ApplicationID: p.d.applicationID, Generation: u.Incarnation,
	})
	if err != nil {
		return IssuedToken{}, err
	}
	digest := token.Digest(signed)
	text := record.Text{Digest: hex.EncodeToString(digest[:]), Expires: expires}
	t.Texts = append(t.Texts, text)
	p.require(record.TokenTextKey(digest), 0)
	p.put(record.TokenTextKey(digest), &record.TokenText{
		Digest: text.Digest, User: u.ID, Incarnation: u.Incarnation, Token: t.ID, Expires: expires, Epoch: u.TokenEpoch,
	})
	return IssuedToken{ID: TokenID(t.ID), Signed: signed, ExpiresAt: at(expires)}, nil
}

// tokens answers the target and a copy of its live tokens for a decision. What expired is
// dropped with the batch.
func (p *plan) tokens() (*record.User, *record.Tokens, error) {
	u, live, err := p.tokensToEnd()
	if err == nil && (live == nil || len(p.bad) > 0) {
		return nil, nil, record.ErrCorrupt
	}
	return u, live, err
}

// tokensToEnd is tokens for who ends some: the tokens are nil where their record is damaged.
// Where the user's is, the user has nothing but what names it in an event.
func (p *plan) tokensToEnd() (*record.User, *record.Tokens, error) {
	id := string(p.c.target)
	memos, err := p.readAny(record.UserKey(id), record.TokensKey(id))
	if err != nil {
		return nil, nil, err
	}
	listed, _ := memos[1].value.(*record.Tokens)
	var u *record.User
	switch {
	case memos[0].damage == 0:
		if u, err = userIn(memos[0]); err != nil {
			return nil, nil, err
		}
	case listed == nil:
		return nil, nil, record.ErrCorrupt
	default:
		u = &record.User{ID: id, Incarnation: listed.Incarnation}
	}
	if memos[1].damage != 0 {
		return u, nil, nil
	}
	live := &record.Tokens{User: u.ID, Incarnation: u.Incarnation}
	if listed != nil && listed.Incarnation == u.Incarnation {
		var ended []store.Key
		live.Tokens, ended = alive(listed.Tokens, p.c.now)
		p.drop(ended...)
	}
	return u, live, nil
}

// alive answers a copy of tokens without the texts that expired by now, nor the tokens that
// have no other, and the keys of what those texts stood for.
func alive(tokens []record.Token, now int64) (live []record.Token, ended []store.Key) {
	for _, t := range tokens {
		texts := make([]record.Text, 0, len(t.Texts)+1)
		for _, text := range t.Texts {
			if now < text.Expires {
				texts = append(texts, text)
			} else {
				ended = append(ended, grantKey(text))
			}
		}
		if t.Texts = texts; len(texts) > 0 {
			live = append(live, t)
		}
	}
	return live, ended
}

func grantKey(t record.Text) store.Key {
	var digest [32]byte
	if n, err := hex.Decode(digest[:], []byte(t.Digest)); err != nil || n != len(digest) {
		// No text has this digest: dropping it drops nothing.
		return record.TokenTextKey([32]byte{})
	}
	return record.TokenTextKey(digest)
}

// putTokens puts a user's tokens, or drops the record of one who has none.
func (p *plan) putTokens(r *record.Tokens) {
	if len(r.Tokens) == 0 {
		p.drop(record.TokensKey(r.User), record.LastUsesKey(r.User))
		return
	}
	p.put(record.TokensKey(r.User), r)
}

// dropTokens ends all tokens of a user whose record is put or dropped with the batch. u is a
// copy of it.
func (p *plan) dropTokens(u *record.User) error {
	memos, err := p.readAny(record.TokensKey(u.ID))
	if err != nil {
		return err
	}
	r, ok := memos[0].value.(*record.Tokens)
	switch {
	case memos[0].damage != 0:
		u.TokenEpoch++
	case !ok:
		return nil
	default:
		for _, t := range r.Tokens {
			p.dropTexts(t)
		}
	}
	p.drop(record.TokensKey(u.ID), record.LastUsesKey(u.ID))
	return nil
}

// endBlind ends all tokens of a user whose record of them is damaged, so that nobody knows
// which they are: their texts carry a number that is not the user's any more. The texts leave
// the store once they expired.
func (p *plan) endBlind(u *record.User) error {
	next := *u
	next.TokenEpoch++
	p.put(record.UserKey(u.ID), &next)
	p.drop(record.TokensKey(u.ID), record.LastUsesKey(u.ID))
	p.emit(EventTokenRevoked, u)
	return nil
}

func (p *plan) dropTexts(t record.Token) {
	for _, text := range t.Texts {
		p.drop(grantKey(text))
	}
}

// Tokens lists a user's live tokens, oldest first.
func (d *Directory) Tokens(ctx context.Context, by Principal, user UserID) (tokens []Token, err error) {
	defer naming("Tokens", &err)
	c, err := d.enter(ctx, opReadTokens, by, user)
	if err != nil {
		return nil, err
	}
	id, noted := string(user), d.uses.of(user)
	memos, err := d.read(ctx, &c, record.UserKey(id), record.TokensKey(id), record.LastUsesKey(id))
	if err != nil {
		return nil, err
	}
	u, err := userIn(memos[0])
	if err != nil {
		return nil, err
	}
	tokens = []Token{}
	r, ok := memos[1].value.(*record.Tokens)
	if !ok || r.Incarnation != u.Incarnation {
		return tokens, nil
	}
	live, _ := alive(r.Tokens, c.now)
	for _, t := range live {
		tokens = append(tokens, Token{
			ID: TokenID(t.ID), Label: t.Label, AccessKey: t.AccessKey, IssuedAt: at(t.Issued), ExpiresAt: at(end(t)),
			LastUsedAt: at(lastUse(t.ID, noted, memos[2]).At),
		})
	}
	return tokens, nil
}

// end answers when the last text of a token expires.
func end(t record.Token) int64 {
	last := int64(0)
	for _, text := range t.Texts {
		last = max(last, text.Expires)
	}
	return last
}

// RevokeTokens ends tokens of a user, at most MaxList: all of them, or none and ErrNotFound
// if one does not live: Error.Missing holds those. Every text of each is refused from now on.
// Where what is stored of the user's tokens is damaged all of them end, whichever were named: so
// it is with every method that ends one.
func (d *Directory) RevokeTokens(ctx context.Context, by Principal, user UserID, ids ...TokenID) (err error) {
	defer naming("RevokeTokens", &err)
	c, err := d.enter(ctx, opRevokeToken, by, user)
	if err != nil {
		return err
	}
	return d.revoke(ctx, &c, ids)
}

func (d *Directory) revoke(ctx context.Context, c *call, ids []TokenID) error {
	if len(ids) > MaxList {
		return invalid("tokens", "must be 100 at most")
	}
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.tokensToEnd()
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return errUnchanged
		}
		if r == nil {
			return p.endBlind(u)
		}
		ended, missing := []string{}, []string{}
		for _, id := range ids {
			if slices.Contains(ended, string(id)) || slices.Contains(missing, string(id)) {
				continue
			}
			i := slices.IndexFunc(r.Tokens, func(t record.Token) bool { return t.ID == string(id) })
			if i < 0 {
				missing = append(missing, string(id))
				continue
			}
			p.dropTexts(r.Tokens[i])
			r.Tokens = slices.Delete(r.Tokens, i, i+1)
			ended = append(ended, string(id))
		}
		if len(missing) > 0 {
			return refuseThese(ErrNotFound, "token", "", missing...)
		}
		p.putTokens(r)
		p.emit(EventTokenRevoked, u, ended...)
		return nil
	})
	return unchanged(err)
}

// RevokeAllTokens ends all tokens of a user.
func (d *Directory) RevokeAllTokens(ctx context.Context, by Principal, user UserID) (err error) {
	defer naming("RevokeAllTokens", &err)
	c, err := d.enter(ctx, opRevokeToken, by, user)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, r, err := p.tokensToEnd()
		switch {
		case err != nil:
			return err
		case r == nil:
			return p.endBlind(u)
		case len(r.Tokens) == 0:
			return errUnchanged
		}
		ended := make([]string, len(r.Tokens))
		for i, t := range r.Tokens {
			ended[i] = t.ID
		}
		p.emit(EventTokenRevoked, u, ended...)
		still := *u // not damaged, so not changed
		return p.dropTokens(&still)
	})
	return unchanged(err)
}

// RevokeTokensIssuedBy ends all tokens that were issued with an access key, user by user,
// and answers how many those were. On an error some are ended and others not: call it
// again. Delete the key first, or it goes on issuing. A user whose tokens are damaged loses all
// of them, and those are not counted; one whose own record is damaged too is passed over, and
// the error at the end is ErrCorrupt with Missing saying who. For .system only.
func (d *Directory) RevokeTokensIssuedBy(ctx context.Context, by Principal, accessKey string) (n int, err error) {
	defer naming("RevokeTokensIssuedBy", &err)
	c, err := d.enter(ctx, opAccessKeys, by, nobody)
	if err != nil {
		return 0, err
	}
	if accessKey == "" {
		return 0, invalid("accessKey", "must not be empty")
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	var damaged []string
	for r, err := range d.walk(ctx, record.AllTokens) {
		if err != nil {
			return n, err
		}
		_, user := record.Parts(r.Key)
		c.target = UserID(user)
		var ended []string
		_, err = d.write(ctx, &c, func(p *plan) error {
			ended = nil
			u, r, err := p.tokensToEnd()
			if err != nil {
				return err
			}
			if r == nil {
				return p.endBlind(u)
			}
			r.Tokens = slices.DeleteFunc(r.Tokens, func(t record.Token) bool {
				if t.AccessKey != accessKey {
					return false
				}
				p.dropTexts(t)
				ended = append(ended, t.ID)
				return true
			})
			if len(ended) == 0 {
				return errUnchanged
			}
			p.putTokens(r)
			p.emit(EventTokenRevoked, u, ended...)
			return nil
		})
		if errors.Is(err, ErrCorrupt) {
			damaged = append(damaged, user)
			continue
		}
		// A user deleted meanwhile has no tokens any more.
		if err = unchanged(err); err != nil && !errors.Is(err, ErrNotFound) {
			return n, err
		}
		n += len(ended)
	}
	if len(damaged) > 0 {
		return n, refuseThese(ErrCorrupt, "user", "what is stored of some is damaged: delete those", damaged...)
	}
	return n, nil
}

// Logout ends the token that the user came with. For .system, .anonymous and a user that
// the application acts for it is ErrDenied.
func (d *Directory) Logout(ctx context.Context, by Principal) (err error) {
	defer naming("Logout", &err)
	c, err := d.enter(ctx, opLogout, by, by.user)
	if err != nil {
		return err
	}
	if by.token == "" {
		return refuse(ErrDenied, "token", "the caller came without one")
	}
	return d.revoke(ctx, &c, []TokenID{by.token})
}

// ExtendToken gives a live token a new signed text that expires ttl from now; the texts
// before keep their own ends, and revoking the token ends all. At most MaxTokenTexts live:
// one more ends the one that would expire first. An end that is not later than the present
// one, or further from the issue than the token's MaxTTL, is ErrLimited with Field "ttl"; a
// token past its end is ErrExpired if that is still known, and otherwise ErrNotFound.
func (d *Directory) ExtendToken(ctx context.Context, by Principal, user UserID, id TokenID, ttl time.Duration) (issued IssuedToken, err error) {
	defer naming("ExtendToken", &err)
	c, err := d.enter(ctx, opExtendToken, by, user)
	if err != nil {
		return IssuedToken{}, err
	}
	if ttl < time.Second || ttl%time.Second != 0 {
		return IssuedToken{}, invalid("ttl", "must be whole seconds")
	}
	if ttl > d.options.MaxTokenTTL {
		return IssuedToken{}, refuse(ErrLimited, "ttl", "goes past the longest life of a token")
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, r, err := p.tokens()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Tokens, func(t record.Token) bool { return t.ID == string(id) })
		if i < 0 {
			return p.ended(id)
		}
		t := &r.Tokens[i]
		expires := ceil(c.now + ttl.Milliseconds())
		if expires > t.Latest {
			return refuse(ErrLimited, "ttl", "goes past the longest life of a token")
		}
		if expires <= end(*t) {
			return refuse(ErrLimited, "ttl", "ends no later than the token does already")
		}
		if len(t.Texts) >= MaxTokenTexts {
			first := 0
			for j, text := range t.Texts {
				if text.Expires < t.Texts[first].Expires {
					first = j
				}
			}
			p.drop(grantKey(t.Texts[first]))
			t.Texts = slices.Delete(t.Texts, first, first+1)
		}
		if issued, err = p.mint(t, u, expires); err != nil {
			return err
		}
		p.putTokens(r)
		p.emit(EventTokenExtended, u, t.ID)
		return nil
	})
	if err != nil {
		return IssuedToken{}, err
	}
	return issued, nil
}

// ended says why a token does not live: it expired, if it is still listed.
func (p *plan) ended(id TokenID) error {
	memos, err := p.read(record.TokensKey(string(p.c.target)))
	if err != nil {
		return err
	}
	if r, ok := memos[0].value.(*record.Tokens); ok {
		if slices.ContainsFunc(r.Tokens, func(t record.Token) bool { return t.ID == string(id) }) {
			return refuse(ErrExpired, "token", "")
		}
	}
	return refuse(ErrNotFound, "token", "")
}

// String hides the signed text from logs.
func (t IssuedToken) String() string { return "token " + string(t.ID) + " (text not shown)" }

// GoString: see String.
func (t IssuedToken) GoString() string { return t.String() }
