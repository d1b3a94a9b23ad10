package denizen

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// keyRing is the key ring, ready for use, as of a version of its record.
type keyRing struct {
	version store.Seq
	stored  []record.SigningKey // in the order in which they sign
	keys    []token.SigningKey
	public  []token.PublicKey
}

// signingIndex returns which key signs at an instant: the last whose time has come, or the first
// if the clock is behind that too.
func (s *keyRing) signingIndex(now int64) int {
	for i := len(s.stored) - 1; i > 0; i-- {
		if s.stored[i].Signs <= now {
			return i
		}
	}
	return 0
}

// MaxSigningKeys is how many signing keys there may be at once, those included that only
// are published until the last token signed with them has expired.
const MaxSigningKeys = 16

func (d *Directory) newSigningKey(now, signs int64) record.SigningKey {
	seed := make([]byte, 32)
	rand.Read(seed)
	key, err := token.NewSigningKey(seed)
	if err != nil {
		panic(err) // a seed of 32 bytes is always one
	}
	return record.SigningKey{
		ID: key.ID(), Seed: d.seal("signing key "+key.ID(), seed), Created: now, Signs: signs,
	}
}

// loadKeyRing returns the key ring.
func (d *Directory) loadKeyRing(ctx context.Context) (*keyRing, error) {
	entries, err := d.load(ctx, record.SigningKeysKey)
	if err != nil {
		return nil, err
	}
	return d.keyRingOf(entries[0])
}

// keyRingOf returns the key ring of a record, ready for use. Making that of the keys takes longer than
// reading them, so the last one is kept.
func (d *Directory) keyRingOf(e *txn.Entry) (*keyRing, error) {
	r, ok := e.Value().(*record.SigningKeys)
	if !ok || len(r.Keys) == 0 {
		return nil, record.ErrCorrupt
	}
	// In a store that went back another ring may have the version of one that was lost.
	if ready := d.keyRing.Load(); ready != nil && ready.version == e.Version() && slices.Equal(ready.stored, r.Keys) {
		return ready, nil
	}
	ring := &keyRing{version: e.Version(), stored: r.Keys}
	for _, stored := range r.Keys {
		seed, err := d.unseal("signing key "+stored.ID, stored.Seed)
		if err != nil {
			return nil, err
		}
		key, err := token.NewSigningKey(seed)
		if err != nil {
			return nil, err
		}
		ring.keys, ring.public = append(ring.keys, key), append(ring.public, key.Public())
	}
	d.keyRing.Store(ring)
	return ring, nil
}

// readKeyRing returns the key ring for a decision.
func (p *plan) readKeyRing() (*keyRing, error) {
	entries, err := p.read(record.SigningKeysKey)
	if err != nil {
		return nil, err
	}
	return p.d.keyRingOf(entries[0])
}

// signer returns the key that signs now, for a token that expires as given.
func (p *plan) signer(expires int64) (token.SigningKey, error) {
	ring, err := p.readKeyRing()
	if err != nil {
		return token.SigningKey{}, err
	}
	i := ring.signingIndex(p.c.now)
	if gone := ring.stored[i].Gone; gone != 0 && gone < expires {
		// When it was given an end tokens lived for shorter.
		keys := slices.Clone(ring.stored)
		keys[i].Gone = expires
		p.Put(record.SigningKeysKey, &record.SigningKeys{Keys: keys})
	}
	return ring.keys[i], nil
}

// RotateSigningKey makes a new key that signs tokens from notice on. Until then it is only
// announced, so that services that verify offline can fetch the keys again; a key that was
// announced and would sign no sooner is forgotten. The key before stays published until the
// last token signed with it has expired. Nobody is logged out. A notice is a year at most;
// more than MaxSigningKeys at once are ErrLimited. It goes through the tokens of all users.
// Where the record of the keys is damaged the new one signs at once, and is the only one: until it
// is rotated no token can be issued, and tokens signed before then no longer verify offline.
// For .system only.
func (d *Directory) RotateSigningKey(ctx context.Context, by Principal, notice time.Duration) (err error) {
	defer wrapOp("RotateSigningKey", &err)
	c, err := d.enter(ctx, opSigningKeys, by, noTarget)
	if err != nil {
		return err
	}
	if notice < 0 || notice > 365*24*time.Hour {
		return invalid("notice", "must be a year at most")
	}
	if _, err := d.read(ctx, &c); err != nil {
		return err
	}
	signs := c.now + notice.Milliseconds()
	gone, err := d.lastEnd(ctx, signs)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		ring, err := p.readKeyRing()
		if p.damaged(record.SigningKeysKey) {
			key := d.newSigningKey(c.now, c.now)
			p.Put(record.SigningKeysKey, &record.SigningKeys{Keys: []record.SigningKey{key}})
			p.emit(EventSigningKeyRotated, nil, key.ID)
			return nil
		}
		if err != nil {
			return err
		}
		signing := ring.signingIndex(c.now)
		next := record.SigningKeys{Keys: slices.Clone(ring.stored[:signing+1])}
		for _, k := range ring.stored[signing+1:] {
			if k.Signs < signs {
				next.Keys = append(next.Keys, k)
			}
		}
		next.Keys[len(next.Keys)-1].Gone = gone
		next.Keys = slices.DeleteFunc(next.Keys, func(k record.SigningKey) bool { return k.Gone <= c.now })
		if len(next.Keys) >= MaxSigningKeys {
			return newError(ErrLimited, "signingKeys", "must be 16 at most")
		}
		key := d.newSigningKey(c.now, signs)
		next.Keys = append(next.Keys, key)
		p.Put(record.SigningKeysKey, &next)
		p.emit(EventSigningKeyRotated, nil, key.ID)
		return nil
	})
	return err
}

// lastEnd returns when the last token expires that is there or will be issued until an
// instant, and an hour, for what is being issued meanwhile and by other clocks. Tokens may
// live for longer than Options says now, if it said otherwise when they were issued.
func (d *Directory) lastEnd(ctx context.Context, until int64) (int64, error) {
	last := until + d.options.MaxTokenTTL.Milliseconds()
	for r, err := range d.walk(ctx, record.AllTokens) {
		if err != nil {
			return 0, err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			d.met(r.Key) // whoever's they are, they were issued for no longer than others
			continue
		}
		for _, t := range value.(*record.Tokens).Tokens {
			last = max(last, expiry(t))
		}
	}
	return ceilSecond(last) + everyHour.Milliseconds(), nil
}

// DropSigningKey takes a key, by its kid, out of the published keys at once, such as one
// that leaked: services that verify offline refuse all that it signed once they fetch the
// keys again. Here nobody is logged out: this directory knows what it issued. The key that
// signs now is ErrConflict with Field "signingKey": rotate first. One that is not there is
// ErrNotFound. For .system only.
func (d *Directory) DropSigningKey(ctx context.Context, by Principal, id string) (err error) {
	defer wrapOp("DropSigningKey", &err)
	c, err := d.enter(ctx, opSigningKeys, by, noTarget)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		ring, err := p.readKeyRing()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ring.stored, func(k record.SigningKey) bool { return k.ID == id })
		signing := ring.signingIndex(c.now)
		switch {
		case i < 0:
			return newError(ErrNotFound, "signingKey", "")
		case i == signing:
			return newError(ErrConflict, "signingKey", "signs now")
		}
		keys := slices.Clone(ring.stored)
		if i > signing {
			keys[i-1].Gone = keys[i].Gone // it signs in the other's stead
		}
		p.Put(record.SigningKeysKey, &record.SigningKeys{Keys: slices.Delete(keys, i, i+1)})
		p.emit(EventSigningKeyDropped, nil, id)
		return nil
	})
	return err
}

// KeySet is the public keys of a directory. Encoded as JSON it is a JWK set (RFC 7517, RFC
// 8037).
type KeySet struct {
	keys []token.PublicKey
}

// PublicKeys answers the keys that live tokens were signed with or soon will be. They are
// no secret, and it takes no principal.
func (d *Directory) PublicKeys(ctx context.Context) (keys KeySet, err error) {
	defer wrapOp("PublicKeys", &err)
	if err := d.usable(); err != nil {
		return KeySet{}, err
	}
	ring, err := d.loadKeyRing(ctx)
	if err != nil {
		return KeySet{}, err
	}
	now := d.clock.Now()
	for i, k := range ring.stored {
		if k.Gone == 0 || now < k.Gone {
			keys.keys = append(keys.keys, ring.public[i])
		}
	}
	return keys, nil
}

// IDs answers the ids of the keys, the kid of the JWK set, oldest first.
func (k KeySet) IDs() []string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.ID()
	}
	return ids
}

// MarshalJSON answers the JWK set.
func (k KeySet) MarshalJSON() ([]byte, error) { return token.EncodeKeys(k.keys...), nil }

// UnmarshalJSON reads a JWK set. Keys of other kinds in it are passed over.
func (k *KeySet) UnmarshalJSON(set []byte) error {
	keys, err := token.ParseKeys(set)
	if err != nil {
		return &Error{Op: "KeySet", Kind: ErrInvalid, Field: "keys", Reason: "are no JWK set"}
	}
	k.keys = keys
	return nil
}

// Claims is what a token says of itself, once its signature was verified.
type Claims struct {
	User       UserID
	InternalID string // tells a user from a later one of the same id
	Token      TokenID
	IssuedAt   time.Time
	ExpiresAt  time.Time
}

// Verifier checks tokens of a directory where the directory itself cannot be asked. Its fields are
// for the program to set, and must not change while it is used; many goroutines may use it at once.
type Verifier struct {
	Keys     KeySet // of Directory.PublicKeys
	Issuer   string // the ID of the directory
	Audience string // its ApplicationID
}

// Verify checks the signature and the times of a token. It does not see revocation: a token that
// was revoked passes until it expires. So that a clock that is behind does not refuse a fresh
// token, one that becomes valid within a minute passes; an end is an end. The errors are ErrExpired
// and ErrUnauthenticated.
func (v Verifier) Verify(signed string) (claims Claims, err error) {
	defer wrapOp("Verify", &err)
	want, now := token.Want{Issuer: v.Issuer, Audience: v.Audience}, time.Now()
	c, err := token.Verify(signed, v.Keys.keys, want, now.Unix())
	if errors.Is(err, token.ErrNotYetValid) {
		c, err = token.Verify(signed, v.Keys.keys, want, now.Add(time.Minute).Unix())
	}
	switch {
	case errors.Is(err, token.ErrExpired):
		return Claims{}, newError(ErrExpired, "token", "")
	case err != nil:
		return Claims{}, newError(ErrUnauthenticated, "token", "is none of this directory's")
	}
	return Claims{
		User: UserID(c.UserID), InternalID: c.Generation, Token: TokenID(c.ID),
		IssuedAt: timeOf(c.IssuedAt * 1000), ExpiresAt: timeOf(c.Expires * 1000),
	}, nil
}
