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

// keyRing is the signing keys, ready for use, as of one version of their record. It is immutable.
type keyRing struct {
	version store.Seq
	stored  []record.SigningKey // in the order in which they sign
	keys    []token.SigningKey
	public  []token.PublicKey
}

// signingIndex returns which key signs at an instant. That is the last one whose time has come, or
// the first if the clock is behind even that.
func (s *keyRing) signingIndex(now int64) int {
	for i := len(s.stored) - 1; i > 0; i-- {
		if s.stored[i].Signs <= now {
			return i
		}
	}
	return 0
}

// MaxSigningKeys is how many signing keys there may be at once. It includes those that no longer
// sign and stay published until the last token signed with them has expired.
const MaxSigningKeys = 16

func (d *Directory) newSigningKey(k rootKey, now, signs int64) record.SigningKey {
	seed := make([]byte, 32)
	rand.Read(seed)
	key, err := token.NewSigningKey(seed)
	if err != nil {
		panic(err) // a seed of 32 bytes is always one
	}
	return record.SigningKey{
		ID: key.ID(), Seed: d.seal(k, signingPurpose(key.ID()), seed), Created: now, Signs: signs,
	}
}

// signingPurpose is what the seed of a signing key is sealed for.
func signingPurpose(id string) string { return "signing key " + id }

// loadKeyRing returns the key ring.
func (d *Directory) loadKeyRing(ctx context.Context) (*keyRing, error) {
	entries, err := d.load(ctx, record.SigningKeysKey)
	if err != nil {
		return nil, err
	}
	return d.keyRingOf(entries[0])
}

// keyRingOf returns the key ring of a record. Deriving the keys takes longer than reading them, so
// the last ring is kept in d.keyRing.
func (d *Directory) keyRingOf(e *txn.Entry) (*keyRing, error) {
	r, ok := e.Value().(*record.SigningKeys)
	if !ok || len(r.Keys) == 0 {
		return nil, record.ErrCorrupt
	}
	// In a store that went back another ring may have the version of one that was lost.
	ready := d.keyRing.Load()
	if ready != nil && ready.version == e.Version() && slices.Equal(ready.stored, r.Keys) {
		return ready, nil
	}
	ring := &keyRing{version: e.Version(), stored: r.Keys}
	for _, stored := range r.Keys {
		seed, _, err := d.unseal(signingPurpose(stored.ID), stored.Seed)
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

// readKeyRing returns the key ring, and makes it a condition of the write.
func (p *plan) readKeyRing() (*keyRing, error) {
	entries, err := p.read(record.SigningKeysKey)
	if err != nil {
		return nil, err
	}
	return p.d.keyRingOf(entries[0])
}

// signer returns the key that signs now, for a token that expires at the given instant.
func (p *plan) signer(expires int64) (token.SigningKey, error) {
	ring, err := p.readKeyRing()
	if err != nil {
		return token.SigningKey{}, err
	}
	i := ring.signingIndex(p.c.now)
	if gone := ring.stored[i].Gone; gone != 0 && gone < expires {
		// MaxTokenTTL was shorter when the key was given an end.
		keys := slices.Clone(ring.stored)
		keys[i].Gone = expires
		p.Put(record.SigningKeysKey, &record.SigningKeys{Keys: keys})
	}
	return ring.keys[i], nil
}

// RotateSigningKey makes a new key that signs tokens once notice has passed, which is a year at
// most. Until then the key is only announced, so that services that verify offline can fetch it in
// time. A key that was announced and would sign no sooner is dropped.
//
// The key before it stays published until the last token signed with it has expired, so no token
// becomes invalid. More than [MaxSigningKeys] at once are [ErrLimited]. The call reads the tokens
// of all users.
//
// If the record of the keys is damaged, the new key signs at once and is the only one. No token can
// be issued before that, and tokens signed earlier no longer verify offline. Only .system may.
func (d *Directory) RotateSigningKey(
	ctx context.Context, by Principal, notice time.Duration,
) (err error) {
	defer d.trace(&ctx, "RotateSigningKey", &by).end(&err)
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
		root, err := p.rootKey()
		if err != nil {
			return err
		}
		ring, err := p.readKeyRing()
		if p.damaged(record.SigningKeysKey) {
			key := d.newSigningKey(root, c.now, c.now)
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
		expired := func(k record.SigningKey) bool { return k.Gone <= c.now }
		next.Keys = slices.DeleteFunc(next.Keys, expired)
		if len(next.Keys) >= MaxSigningKeys {
			return newError(ErrLimited, "signingKeys", "must be 16 at most")
		}
		key := d.newSigningKey(root, c.now, signs)
		next.Keys = append(next.Keys, key)
		p.Put(record.SigningKeysKey, &next)
		p.emit(EventSigningKeyRotated, nil, key.ID)
		return nil
	})
	return err
}

// lastEnd returns when the last token expires that exists or will be issued before an instant. It
// adds an hour, for tokens that are being issued meanwhile and for other clocks. It reads all
// tokens because some may live longer than Options allows now, if it allowed more when they were
// issued.
func (d *Directory) lastEnd(ctx context.Context, until int64) (int64, error) {
	last := until + d.options.MaxTokenTTL.Milliseconds()
	for r, err := range d.walk(ctx, record.AllTokens) {
		if err != nil {
			return 0, err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			d.met(r.Key) // they most likely last no longer than others
			continue
		}
		for _, t := range value.(*record.Tokens).Tokens {
			last = max(last, expiry(t))
		}
	}
	return ceilSecond(last) + everyHour.Milliseconds(), nil
}

// DropSigningKey removes a key from the published keys at once, for example because it leaked. id
// is its kid. Services that verify offline refuse all that it signed once they fetch the keys
// again. In this directory its tokens stay valid, because the directory knows what it issued.
//
// The key that signs now is [ErrConflict] with Field "signingKey": rotate first. A key that does
// not exist is [ErrNotFound]. Only .system may.
func (d *Directory) DropSigningKey(ctx context.Context, by Principal, id string) (err error) {
	defer d.trace(&ctx, "DropSigningKey", &by).end(&err)
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
			keys[i-1].Gone = keys[i].Gone // it goes on signing for as long
		}
		p.Put(record.SigningKeysKey, &record.SigningKeys{Keys: slices.Delete(keys, i, i+1)})
		p.emit(EventSigningKeyDropped, nil, id)
		return nil
	})
	return err
}

// KeySet is the public keys of a directory. Encoded as JSON it is a JWK set (RFC 7517, RFC 8037).
// It is immutable but for UnmarshalJSON.
type KeySet struct {
	keys []token.PublicKey
}

// PublicKeys returns the keys that live tokens were signed with or soon will be. They are no
// secret, so it takes no Principal.
func (d *Directory) PublicKeys(ctx context.Context) (keys KeySet, err error) {
	defer d.trace(&ctx, "PublicKeys", &Principal{}).end(&err)
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

// IDs returns the ids of the keys, oldest first. An id is the kid in the JWK set.
func (k KeySet) IDs() []string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.ID()
	}
	return ids
}

// MarshalJSON returns the JWK set.
func (k KeySet) MarshalJSON() ([]byte, error) { return token.EncodeKeys(k.keys...), nil }

// UnmarshalJSON reads a JWK set, and skips keys of other kinds in it. What is not a JWK set is
// [ErrInvalid] with Field "keys".
func (k *KeySet) UnmarshalJSON(set []byte) error {
	keys, err := token.ParseKeys(set)
	if err != nil {
		return &Error{Op: "KeySet", Kind: ErrInvalid, Field: "keys", Reason: "must be a JWK set"}
	}
	k.keys = keys
	return nil
}

// Claims is what a token says of itself, once its signature was verified.
type Claims struct {
	User       UserID
	InternalID string // User.InternalID: tells a user from a later one of the same id
	Token      TokenID
	IssuedAt   time.Time
	ExpiresAt  time.Time
}

// Verifier checks tokens where the directory itself cannot be asked. Set its fields before use and
// do not change them after; then many goroutines may use it at once.
type Verifier struct {
	Keys     KeySet // from Directory.PublicKeys
	Issuer   string // from Directory.ID
	Audience string // from Directory.ApplicationID
}

// Verify checks the signature and the times of a token. It does not see revocation: a token that
// was revoked passes until it expires.
//
// So that a fresh token passes where the clock is behind, one that becomes valid within a minute
// counts as valid. There is no such tolerance at the end. The errors are [ErrExpired] and
// [ErrUnauthenticated].
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
		return Claims{}, newError(ErrUnauthenticated, "token", notIssued)
	}
	return Claims{
		User: UserID(c.UserID), InternalID: c.Generation, Token: TokenID(c.ID),
		IssuedAt: timeOf(c.IssuedAt * 1000), ExpiresAt: timeOf(c.Expires * 1000),
	}, nil
}
