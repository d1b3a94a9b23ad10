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

// TokenID names one token of one user, whatever signed texts were issued for it.
type TokenID string

// TokenOptions are the settings of one token. The zero value is good.
type TokenOptions struct {
	// TTL is how long the token lives: whole seconds, at most MaxTTL. The default is
	// Options.TokenTTL, or MaxTTL if that is shorter.
	TTL time.Duration
	// MaxTTL bounds the life of the token with all extensions, whoever extends it: whole seconds,
	// at most Options.MaxTokenTTL, which is the default.
	MaxTTL time.Duration
	// Label is for people, such as the name of a device. It may be empty; otherwise the rules of
	// a screen name hold.
	Label string
	// RefuseWhenFull makes a token beyond MaxTokens ErrLimited. Without it the token that was
	// unused for the longest is revoked instead.
	RefuseWhenFull bool

	gotBy string // the digest of the locator that the user signed in by
}

// IssuedToken is a token that was just issued or extended. It is the only time that the signed text
// is shown.
type IssuedToken struct {
	ID        TokenID
	Signed    string // a JWT signed with Ed25519 (RFC 7519, RFC 8037)
	ExpiresAt time.Time
}

// Token is a live token as it is listed, without a signed text.
type Token struct {
	ID         TokenID
	Label      string
	AccessKey  string // the access key it was issued with; may be empty
	IssuedAt   time.Time
	ExpiresAt  time.Time // when the last of its texts expires
	LastUsedAt time.Time // to the minute; zero if never
}

// IssueToken issues a token for a user. It is durable on return. For a blocked user it is
// [ErrDenied] with Field "user".
//
// A user has at most [MaxTokens] live tokens. One more first revokes the one that was unused for
// the longest, counted from its last use or else its issue, with the event of a revocation. With
// TokenOptions.RefuseWhenFull it is [ErrLimited] with Field "tokens" instead. Revoking and issuing
// are two commits: if the second fails, a token was revoked and none replaces it. Only .system may.
func (d *Directory) IssueToken(
	ctx context.Context, by Principal, user UserID, o TokenOptions,
) (issued IssuedToken, err error) {
	defer d.trace(&ctx, "IssueToken", &by).end(&err)
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
			return IssuedToken{}, newError(ErrLimited, "tokens", "of a user must be 100 at most")
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

// fill checks the options of a token and fills in the defaults.
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

// errFull says that a user has as many live tokens as it may have.
var errFull = errors.New("a user has the most tokens there may be")

// issue issues a token, or returns errFull.
func (d *Directory) issue(
	ctx context.Context, c *call, o *TokenOptions,
) (issued IssuedToken, err error) {
	_, err = d.write(ctx, c, func(p *plan) error {
		u, tokens, err := p.tokens()
		if err != nil {
			return err
		}
		if u.BlockedAt(c.now) {
			return newError(ErrDenied, "user", "is blocked")
		}
		if o.gotBy != "" && !slices.ContainsFunc(u.Locators, func(l record.Locator) bool {
			return proved(&l) && d.digestName(&l) == o.gotBy
		}) {
			// It was undone, removed or moved since the code was used up.
			return newError(ErrDenied, "proof", "is of a locator that the user has no more")
		}
		p.endBlock(u)
		if len(tokens.Tokens) >= MaxTokens {
			return errFull
		}
		t := record.Token{
			ID: rand.Text(), Label: o.Label, AccessKey: c.by.accessKey,
			Issued: c.now, Latest: ceilSecond(c.now + o.MaxTTL.Milliseconds()),
			Locator: o.gotBy,
		}
		if issued, err = p.mint(&t, u, ceilSecond(c.now+o.TTL.Milliseconds())); err != nil {
			return err
		}
		tokens.Tokens = append(tokens.Tokens, t)
		p.putTokens(tokens)
		p.emit(EventTokenIssued, u, t.ID)
		return nil
	})
	return issued, err
}

// endUnused ends the token of a user that was unused for the longest, if the user still has as many
// as it may. Several callers at once each end one, or find the room that another made.
func (d *Directory) endUnused(ctx context.Context, c *call) error {
	_, err := d.write(ctx, c, func(p *plan) error {
		u, r, err := p.tokens()
		if err != nil {
			return err
		}
		if len(r.Tokens) < MaxTokens {
			return errUnchanged
		}
		noted := d.lastUses.of(c.target)
		// Last uses are no condition: a use in the meantime must not fail the write.
		entries, err := d.load(ctx, record.LastUsesKey(u.ID))
		if err != nil {
			return err
		}
		used := func(t record.Token) int64 {
			return max(t.Issued, lastUse(t.ID, noted, entries[0]).At)
		}
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

// ceilSecond rounds milliseconds up to a second. The times of a token are whole seconds, and it
// lives no shorter than asked.
func ceilSecond(ms int64) int64 { return (ms + 999) / 1000 * 1000 }

// mint signs a text for a token of a user, adds it to t and puts the record of the text.
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
	p.Absent(record.TokenTextKey(digest))
	p.Put(record.TokenTextKey(digest), &record.TokenText{
		Digest: text.Digest, User: u.ID, Incarnation: u.Incarnation, Token: t.ID,
		Expires: expires, Epoch: u.TokenEpoch,
	})
	return IssuedToken{ID: TokenID(t.ID), Signed: signed, ExpiresAt: timeOf(expires)}, nil
}

// tokens returns the target and a copy of its live tokens, and makes both conditions of the write.
// The write drops the expired ones.
func (p *plan) tokens() (*record.User, *record.Tokens, error) {
	u, live, err := p.tokensToEnd()
	if err == nil && (live == nil || len(p.bad) > 0) {
		return nil, nil, record.ErrCorrupt
	}
	return u, live, err
}

// tokensToEnd is like tokens, but also works on damaged records, so that tokens can be ended. The
// tokens are nil if their record is damaged. If the user's record is damaged, the user has only
// what an event names of it.
func (p *plan) tokensToEnd() (*record.User, *record.Tokens, error) {
	id := string(p.c.target)
	entries, err := p.readAny(record.UserKey(id), record.TokensKey(id))
	if err != nil {
		return nil, nil, err
	}
	listed, _ := entries[1].Value().(*record.Tokens)
	var u *record.User
	switch {
	case !entries[0].Damaged():
		if u, err = userIn(entries[0]); err != nil {
			return nil, nil, err
		}
	case listed == nil:
		return nil, nil, record.ErrCorrupt
	default:
		u = &record.User{ID: id, Incarnation: listed.Incarnation}
	}
	if entries[1].Damaged() {
		return u, nil, nil
	}
	live := &record.Tokens{User: u.ID, Incarnation: u.Incarnation}
	if listed != nil && listed.Incarnation == u.Incarnation {
		var ended []store.Key
		live.Tokens, ended = dropExpired(listed.Tokens, p.c.now)
		p.Drop(ended...)
	}
	return u, live, nil
}

// dropExpired returns a copy of tokens without the texts that have expired by now, and without
// tokens that have no other text. It also returns the keys of those texts.
func dropExpired(tokens []record.Token, now int64) (live []record.Token, ended []store.Key) {
	for _, t := range tokens {
		texts := make([]record.Text, 0, len(t.Texts)+1)
		for _, text := range t.Texts {
			if now < text.Expires {
				texts = append(texts, text)
			} else {
				ended = append(ended, textKey(text))
			}
		}
		if t.Texts = texts; len(texts) > 0 {
			live = append(live, t)
		}
	}
	return live, ended
}

func textKey(t record.Text) store.Key {
	var digest [32]byte
	if n, err := hex.Decode(digest[:], []byte(t.Digest)); err != nil || n != len(digest) {
		// No text has this digest: dropping it drops nothing.
		return record.TokenTextKey([32]byte{})
	}
	return record.TokenTextKey(digest)
}

// putTokens puts the tokens of a user, or drops the record if there are none.
func (p *plan) putTokens(r *record.Tokens) {
	if len(r.Tokens) == 0 {
		p.Drop(record.TokensKey(r.User), record.LastUsesKey(r.User))
		return
	}
	p.Put(record.TokensKey(r.User), r)
}

// dropTokens ends all tokens of a user in a write that also puts or drops the user's record. u is a
// copy of that record. If the tokens are damaged, u gets another TokenEpoch, so that all texts
// become invalid.
func (p *plan) dropTokens(u *record.User) error {
	entries, err := p.readAny(record.TokensKey(u.ID))
	if err != nil {
		return err
	}
	r, ok := entries[0].Value().(*record.Tokens)
	switch {
	case entries[0].Damaged():
		u.TokenEpoch++
	case !ok:
		return nil
	default:
		for _, t := range r.Tokens {
			p.dropTexts(t)
		}
	}
	p.Drop(record.TokensKey(u.ID), record.LastUsesKey(u.ID))
	return nil
}

// endBlind ends all tokens of a user whose record of tokens is damaged. The texts are not known, so
// the user gets another TokenEpoch instead, and texts of the old one are refused. They are swept
// once they have expired.
func (p *plan) endBlind(u *record.User) error {
	next := *u
	next.TokenEpoch++
	p.Put(record.UserKey(u.ID), &next)
	p.Drop(record.TokensKey(u.ID), record.LastUsesKey(u.ID))
	p.emit(EventTokenRevoked, u)
	return nil
}

func (p *plan) dropTexts(t record.Token) {
	for _, text := range t.Texts {
		p.Drop(textKey(text))
	}
}

// Tokens returns the live tokens of a user, oldest first.
func (d *Directory) Tokens(
	ctx context.Context, by Principal, user UserID,
) (tokens []Token, err error) {
	defer d.trace(&ctx, "Tokens", &by).end(&err)
	c, err := d.enter(ctx, opReadTokens, by, user)
	if err != nil {
		return nil, err
	}
	id, noted := string(user), d.lastUses.of(user)
	keys := []store.Key{record.UserKey(id), record.TokensKey(id), record.LastUsesKey(id)}
	entries, err := d.read(ctx, &c, keys...)
	if err != nil {
		return nil, err
	}
	u, err := userIn(entries[0])
	if err != nil {
		return nil, err
	}
	tokens = []Token{}
	r, ok := entries[1].Value().(*record.Tokens)
	if !ok || r.Incarnation != u.Incarnation {
		return tokens, nil
	}
	live, _ := dropExpired(r.Tokens, c.now)
	for _, t := range live {
		tokens = append(tokens, Token{
			ID: TokenID(t.ID), Label: t.Label, AccessKey: t.AccessKey,
			IssuedAt: timeOf(t.Issued), ExpiresAt: timeOf(expiry(t)),
			LastUsedAt: timeOf(lastUse(t.ID, noted, entries[2]).At),
		})
	}
	return tokens, nil
}

// indexOfToken returns where the token of an id is, or -1.
func indexOfToken(tokens []record.Token, id TokenID) int {
	return slices.IndexFunc(tokens, func(t record.Token) bool { return t.ID == string(id) })
}

// expiry returns when the last text of a token expires.
func expiry(t record.Token) int64 {
	last := int64(0)
	for _, text := range t.Texts {
		last = max(last, text.Expires)
	}
	return last
}

// RevokeTokens ends tokens of a user, at most [MaxList], in one commit. If one of them is not live,
// it ends none and returns [ErrNotFound]; Error.Missing holds those. All signed texts of a token
// end with it.
//
// If the record of the user's tokens is damaged, all of them end, whichever were given. That holds
// for every method that revokes tokens.
func (d *Directory) RevokeTokens(
	ctx context.Context, by Principal, user UserID, ids ...TokenID,
) (err error) {
	defer d.trace(&ctx, "RevokeTokens", &by).end(&err)
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
			i := indexOfToken(r.Tokens, id)
			if i < 0 {
				missing = append(missing, string(id))
				continue
			}
			p.dropTexts(r.Tokens[i])
			r.Tokens = slices.Delete(r.Tokens, i, i+1)
			ended = append(ended, string(id))
		}
		if len(missing) > 0 {
			return newErrorAbout(ErrNotFound, "token", "", missing...)
		}
		p.putTokens(r)
		p.emit(EventTokenRevoked, u, ended...)
		return nil
	})
	return unchanged(err)
}

// RevokeAllTokens ends all tokens of a user in one commit. If there is none it changes nothing.
func (d *Directory) RevokeAllTokens(ctx context.Context, by Principal, user UserID) (err error) {
	defer d.trace(&ctx, "RevokeAllTokens", &by).end(&err)
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
		still := *u // dropTokens changes it only where the tokens are damaged
		return p.dropTokens(&still)
	})
	return unchanged(err)
}

// RevokeTokensIssuedBy ends all tokens that were issued with an access key, and returns how many.
// Delete the key first, or more are issued meanwhile.
//
// It takes one commit for each user. After an error some tokens have ended and others not: call it
// again. A user whose tokens are damaged loses all of them, which are not counted. A user whose own
// record is damaged too is skipped; the error at the end is then [ErrCorrupt], and Error.Missing
// holds those users. Only .system may.
func (d *Directory) RevokeTokensIssuedBy(
	ctx context.Context, by Principal, accessKey string,
) (n int, err error) {
	defer d.trace(&ctx, "RevokeTokensIssuedBy", &by).end(&err)
	c, err := d.enter(ctx, opAccessKeys, by, noTarget)
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
		of := c.about(UserID(user))
		var ended []string
		_, err = d.write(ctx, &of, func(p *plan) error {
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
		// A user that was deleted meanwhile has no tokens.
		if err = unchanged(err); err != nil && !errors.Is(err, ErrNotFound) {
			return n, err
		}
		n += len(ended)
	}
	if len(damaged) > 0 {
		const rule = "what is stored of some is damaged: delete those"
		return n, newErrorAbout(ErrCorrupt, "user", rule, damaged...)
	}
	return n, nil
}

// Logout ends the token that the user authenticated with. For .system, .anonymous and a user that
// the application acts for it is [ErrDenied].
func (d *Directory) Logout(ctx context.Context, by Principal) (err error) {
	defer d.trace(&ctx, "Logout", &by).end(&err)
	c, err := d.enter(ctx, opLogout, by, by.user)
	if err != nil {
		return err
	}
	if by.token == "" {
		return newError(ErrDenied, "token", "the caller has none")
	}
	return d.revoke(ctx, &c, []TokenID{by.token})
}

// ExtendToken issues a new signed text for a live token. It expires ttl from now, in whole seconds.
// Earlier texts keep their own ends, and revoking the token ends all. At most [MaxTokenTexts] of a
// token live: one more ends the text that would expire first.
//
// An end that is not later than the present one, or further from the issue than the token's MaxTTL,
// is [ErrLimited] with Field "ttl". A token past its end is [ErrExpired] while it is still listed,
// and [ErrNotFound] later.
func (d *Directory) ExtendToken(
	ctx context.Context, by Principal, user UserID, id TokenID, ttl time.Duration,
) (issued IssuedToken, err error) {
	defer d.trace(&ctx, "ExtendToken", &by).end(&err)
	c, err := d.enter(ctx, opExtendToken, by, user)
	if err != nil {
		return IssuedToken{}, err
	}
	if ttl < time.Second || ttl%time.Second != 0 {
		return IssuedToken{}, invalid("ttl", "must be whole seconds")
	}
	if ttl > d.options.MaxTokenTTL {
		return IssuedToken{}, newError(ErrLimited, "ttl", "goes past the longest life of a token")
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, r, err := p.tokens()
		if err != nil {
			return err
		}
		i := indexOfToken(r.Tokens, id)
		if i < 0 {
			return p.notLive(id)
		}
		t := &r.Tokens[i]
		expires := ceilSecond(c.now + ttl.Milliseconds())
		if expires > t.Latest {
			return newError(ErrLimited, "ttl", "goes past the longest life of a token")
		}
		if expires <= expiry(*t) {
			return newError(ErrLimited, "ttl", "ends no later than the token does already")
		}
		if len(t.Texts) >= MaxTokenTexts {
			first := 0
			for j, text := range t.Texts {
				if text.Expires < t.Texts[first].Expires {
					first = j
				}
			}
			p.Drop(textKey(t.Texts[first]))
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

// notLive returns why a token is not live: ErrExpired if it is still listed.
func (p *plan) notLive(id TokenID) error {
	entries, err := p.read(record.TokensKey(string(p.c.target)))
	if err != nil {
		return err
	}
	r, ok := entries[0].Value().(*record.Tokens)
	if ok && indexOfToken(r.Tokens, id) >= 0 {
		return newError(ErrExpired, "token", "")
	}
	return newError(ErrNotFound, "token", "")
}

// String returns the id of the token without its signed text, so that no log shows that.
func (t IssuedToken) String() string { return "token " + string(t.ID) + " (text not shown)" }

// GoString returns what String does, so that no format shows the signed text.
func (t IssuedToken) GoString() string { return t.String() }
