package denizen

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/record"
)

// AccessKey is an access key of the application, without its secret.
type AccessKey struct {
	Key        string
	CreatedAt  time.Time
	LastUsedAt time.Time // zero if never
	LastAction string    // "Basic" or "Signed"; empty if never used
}

// NewAccessKey is an access key with its secret in base64 (RFC 4648 §4). It is the only time that
// the secret is shown.
type NewAccessKey struct {
	Key       string
	Secret    string
	CreatedAt time.Time
}

// String returns the key without its secret, so that no log shows that.
func (k NewAccessKey) String() string { return "access key " + k.Key + " (secret not shown)" }

// GoString returns what String does, so that no format shows the secret.
func (k NewAccessKey) GoString() string { return k.String() }

// CreateAccessKey makes an access key with a secret of 32 random bytes. It is durable on return.
// More than [MaxAccessKeys] are [ErrLimited]. Only .system may.
func (d *Directory) CreateAccessKey(
	ctx context.Context, by Principal,
) (key NewAccessKey, err error) {
	defer d.trace(&ctx, "CreateAccessKey", &by).end(&err)
	c, err := d.enter(ctx, opAccessKeys, by, noTarget)
	if err != nil {
		return NewAccessKey{}, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	key = NewAccessKey{
		Key: rand.Text(), CreatedAt: timeOf(c.now),
		Secret: base64.StdEncoding.EncodeToString(secret),
	}
	if err := d.addAccessKey(ctx, &c, key.Key, secret); err != nil {
		return NewAccessKey{}, err
	}
	return key, nil
}

// PutAccessKey makes an access key that the application chose. A key is 8 to 128 letters, digits,
// dots, dashes and underscores. A secret is 32 to 1024 bytes in base64 (RFC 4648 §4, with padding).
// More than [MaxAccessKeys] are [ErrLimited].
//
// Putting the same key and secret again changes nothing. The same key with another secret is
// [ErrTaken]. A key that was deleted is [ErrRevoked] with Field "accessKey", so that a program
// which puts its key at every start does not bring it back. The last 64 deleted keys are known.
// Only .system may.
func (d *Directory) PutAccessKey(
	ctx context.Context, by Principal, key, secret string,
) (err error) {
	defer d.trace(&ctx, "PutAccessKey", &by).end(&err)
	c, err := d.enter(ctx, opAccessKeys, by, noTarget)
	if err != nil {
		return err
	}
	foreign := func(r rune) bool { return !applicationID(string(r)) }
	if len(key) < 8 || len(key) > 128 || strings.ContainsFunc(key, foreign) {
		const rule = "must be 8 to 128 letters, digits, dots, dashes and underscores"
		return invalid("accessKey", rule)
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
			known, err := d.unsealAccess(k.Key, k.Secret)
			if err != nil {
				return err
			}
			given := newAccessProof(secret)
			if subtle.ConstantTimeCompare(known[:], given[:]) == 1 {
				return errUnchanged
			}
			return newError(ErrTaken, "accessKey", "has another secret")
		}
		if wasDeleted(&keys, key) {
			return newError(ErrRevoked, "accessKey", "was deleted")
		}
		if len(keys.Keys) >= MaxAccessKeys {
			return newError(ErrLimited, "accessKey", "three live already")
		}
		root, err := p.rootKey()
		if err != nil {
			return err
		}
		keys.Keys = append(keys.Keys, record.AccessKey{
			Key: key, Incarnation: rand.Text(), Created: c.now,
			Secret: d.sealAccess(root, key, secret),
		})
		p.Put(record.AccessKeysKey, &keys)
		p.emit(EventAccessKeyCreated, nil, key)
		return nil
	})
	return unchanged(err)
}

// AccessKeys returns the access keys without their secrets, oldest first. Only .system may.
func (d *Directory) AccessKeys(ctx context.Context, by Principal) (keys []AccessKey, err error) {
	defer d.trace(&ctx, "AccessKeys", &by).end(&err)
	c, err := d.enter(ctx, opAccessKeys, by, noTarget)
	if err != nil {
		return nil, err
	}
	noted := d.lastUses.of(noTarget)
	entries, err := d.read(ctx, &c, record.AccessKeysKey, record.LastUsesKey(""))
	if err != nil {
		return nil, err
	}
	stored, _ := entries[0].Value().(*record.AccessKeys)
	keys = []AccessKey{}
	if stored == nil {
		return keys, nil
	}
	for _, k := range stored.Keys {
		used := lastUse(k.Incarnation, noted, entries[1])
		keys = append(keys, AccessKey{
			Key: k.Key, CreatedAt: timeOf(k.Created),
			LastUsedAt: timeOf(used.At), LastAction: used.Action,
		})
	}
	return keys, nil
}

// DeleteAccessKey deletes an access key. Principals that rest on it are refused from then on, those
// of users it acts for included. Tokens that were issued with it stay valid:
// [Directory.RevokeTokensIssuedBy] ends them. A key that does not exist is [ErrNotFound].
//
// If the record of the keys is damaged all of them are deleted, whichever was given, and others can
// be put. Which keys were deleted earlier is then forgotten. Only .system may.
func (d *Directory) DeleteAccessKey(ctx context.Context, by Principal, key string) (err error) {
	defer d.trace(&ctx, "DeleteAccessKey", &by).end(&err)
	c, err := d.enter(ctx, opAccessKeys, by, noTarget)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		keys, err := p.accessKeys()
		if p.damaged(record.AccessKeysKey) {
			p.Drop(record.LastUsesKey(""))
			p.Put(record.AccessKeysKey, &record.AccessKeys{Deleted: deletedDigest(key)})
			p.emit(EventAccessKeyDeleted, nil, key)
			return nil
		}
		if err != nil {
			return err
		}
		left := record.AccessKeys{Deleted: keys.Deleted}
		for _, k := range keys.Keys {
			if k.Key != key {
				left.Keys = append(left.Keys, k)
			}
		}
		if len(left.Keys) == len(keys.Keys) {
			return newError(ErrNotFound, "accessKey", "")
		}
		if len(left.Keys) == 0 {
			p.Drop(record.LastUsesKey(""))
		}
		left.Deleted += deletedDigest(key)
		left.Deleted = left.Deleted[max(0, len(left.Deleted)-maxDeletedKeys*deletedDigestSize):]
		p.Put(record.AccessKeysKey, &left)
		p.emit(EventAccessKeyDeleted, nil, key)
		return nil
	})
	return err
}

// maxDeletedKeys is how many deleted keys are remembered, each by a digest of deletedDigestSize
// characters.
const (
	maxDeletedKeys    = 64
	deletedDigestSize = 32
)

func deletedDigest(key string) string { return digestOf(key)[:deletedDigestSize] }

func wasDeleted(keys *record.AccessKeys, key string) bool {
	digest := deletedDigest(key)
	for known := range slices.Chunk([]byte(keys.Deleted), deletedDigestSize) {
		if string(known) == digest {
			return true
		}
	}
	return false
}

// accessKeys returns a copy of the access keys, and makes them a condition of the write.
func (p *plan) accessKeys() (record.AccessKeys, error) {
	entries, err := p.read(record.AccessKeysKey)
	if err != nil {
		return record.AccessKeys{}, err
	}
	keys, _ := entries[0].Value().(*record.AccessKeys)
	if keys == nil {
		return record.AccessKeys{}, nil
	}
	return record.AccessKeys{Keys: slices.Clone(keys.Keys), Deleted: keys.Deleted}, nil
}

// AuthenticateKey returns .system for an access key and its secret in base64. Anything else is
// [ErrUnauthenticated] with Field "accessKey".
func (d *Directory) AuthenticateKey(
	ctx context.Context, key, secret string,
) (by Principal, err error) {
	defer d.trace(&ctx, "AuthenticateKey", &by).end(&err)
	k, known, err := d.accessKey(ctx, key)
	if err != nil {
		return Principal{}, err
	}
	given, ok := accessSecret(secret)
	digest := sha256.Sum256(given)
	if subtle.ConstantTimeCompare(digest[:], known.digest()) != 1 || !ok || k == nil {
		return Principal{}, newError(ErrUnauthenticated, "accessKey", "")
	}
	use := record.LastUse{ID: k.Incarnation, At: d.clock.Now(), Action: "Basic"}
	d.lastUses.note(d, noTarget, use)
	return Principal{kind: kindSystem, accessKey: k.Key, keyIncarnation: k.Incarnation}, nil
}

// accessProof is what is kept of the secret of an access key. It is the SHA-256 of the secret, then
// the key that HMAC-SHA1 derives from it: the secret itself up to 64 bytes, or its SHA-1 if it is
// longer. It has the same length for every secret, so that the time to work on it tells neither how
// long a secret is nor whether the key exists.
type accessProof [sha256.Size + sha1.BlockSize]byte

func newAccessProof(secret []byte) (p accessProof) {
	digest := sha256.Sum256(secret)
	copy(p[:], digest[:])
	if len(secret) > sha1.BlockSize { // RFC 2104, section 2
		short := sha1.Sum(secret)
		secret = short[:]
	}
	copy(p[sha256.Size:], secret)
	return p
}

func (p *accessProof) digest() []byte  { return p[:sha256.Size] }
func (p *accessProof) hmacKey() []byte { return p[sha256.Size:] }

// accessPurpose returns what a sealed secret is bound to. It has the same length for every key.
func accessPurpose(key string) string {
	var padded [128]byte
	copy(padded[:], key)
	return "access key " + string(padded[:])
}

func (d *Directory) sealAccess(k rootKey, key string, secret []byte) string {
	p := newAccessProof(secret)
	return d.seal(k, accessPurpose(key), p[:])
}

func (d *Directory) unsealAccess(key, sealed string) (p accessProof, err error) {
	raw, _, err := d.unseal(accessPurpose(key), sealed)
	if err != nil {
		return p, err
	}
	if len(raw) != len(p) {
		return p, record.ErrCorrupt
	}
	copy(p[:], raw)
	return p, nil
}

// accessKey returns an access key and what is kept of its secret. For an unknown key it returns nil
// and the proof of a dummy secret that nobody knows.
func (d *Directory) accessKey(
	ctx context.Context, key string,
) (*record.AccessKey, accessProof, error) {
	if err := d.usable(); err != nil {
		return nil, accessProof{}, err
	}
	entries, err := d.load(ctx, record.AccessKeysKey)
	if err != nil {
		return nil, accessProof{}, err
	}
	// Unsealing the dummy secret makes an unknown key take as long as a known one.
	found := &record.AccessKey{Secret: d.dummySecret}
	if keys, _ := entries[0].Value().(*record.AccessKeys); keys != nil {
		for i := range keys.Keys {
			// Before it is known whether the key exists, so that this does not tell.
			if !d.hasKeyOf(keys.Keys[i].Secret) {
				return nil, accessProof{}, errNoRootKey()
			}
			if keys.Keys[i].Key == key {
				found = &keys.Keys[i]
			}
		}
	}
	proof, err := d.unsealAccess(found.Key, found.Secret)
	if found.Key == "" {
		found = nil
	}
	return found, proof, err
}
