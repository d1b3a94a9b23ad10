// Package record knows how a directory is stored: the layout of the keys, and the JSON of every
// kind of record. No other package knows either.
//
// A key is a letter for its kind, followed by its parts. Each part but the last is preceded by its
// length in two bytes. So two lists of parts never share a key, and a range under a part has no key
// of a longer part. No separator could do that, because user ids may hold any of @ # $ - _.
//
// Times are Unix milliseconds, or 0 for never. Members that are empty, zero or false are left out.
package record

import (
	"fmt"
	"unsafe"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/store"
)

// Record is a stored record: a pointer to one of the structs of this package.
type Record interface{ fields(c *coder) }

// Directory is the directory's own record.
type Directory struct {
	ID            string // never given to another directory
	ApplicationID string
	CursorKey     string // authenticates cursors; sealed if there is a root key
	Created       int64
}

func (r *Directory) fields(c *coder) {
	c.kind("directory")
	c.str("id", &r.ID)
	c.str("applicationId", &r.ApplicationID)
	c.str("cursorKey", &r.CursorKey)
	c.num("created", &r.Created)
}

// SigningKeys is the signing keys of tokens, newest last.
type SigningKeys struct {
	Keys []SigningKey
}

func (r *SigningKeys) fields(c *coder) {
	c.kind("signingKeys")
	list(c, "keys", &r.Keys, (*SigningKey).fields)
}

// SigningKey is one signing key. It signs from Signs until a later key does, and is published from
// Created until Gone.
type SigningKey struct {
	ID      string
	Seed    string // sealed if there is a root key
	Created int64
	Signs   int64
	Gone    int64 // 0 while it signs or will
}

func (r *SigningKey) fields(c *coder) {
	c.str("id", &r.ID)
	c.str("seed", &r.Seed)
	c.num("created", &r.Created)
	c.num("signs", &r.Signs)
	c.num("gone", &r.Gone)
}

// AccessKeys is the application's access keys.
type AccessKeys struct {
	Keys []AccessKey
	// Deleted is the digests of deleted keys, oldest first, joined into one string: it is decoded
	// with every signed request.
	Deleted string
}

func (r *AccessKeys) fields(c *coder) {
	c.kind("accessKeys")
	list(c, "keys", &r.Keys, (*AccessKey).fields)
	c.str("deleted", &r.Deleted)
}

// AccessKey is one access key. Its incarnation is its own, even if the same key is put again after
// it was deleted.
type AccessKey struct {
	Key         string
	Incarnation string
	Secret      string // sealed if there is a root key
	Created     int64
}

func (r *AccessKey) fields(c *coder) {
	c.str("key", &r.Key)
	c.str("incarnation", &r.Incarnation)
	c.str("secret", &r.Secret)
	c.num("created", &r.Created)
}

// User is a user with its locators.
type User struct {
	ID          string
	Incarnation string // the internal id; no other user ever has it
	ScreenName  string
	Blocked     bool
	Created     int64
	Updated     int64
	Locators    []Locator
	TokenEpoch  int64 // that of its live tokens: one more ends all before, whoever lists them
	Resting     []Resting
}

func (r *User) fields(c *coder) {
	c.kind("user")
	c.str("id", &r.ID)
	c.str("incarnation", &r.Incarnation)
	c.str("screenName", &r.ScreenName)
	c.flag("blocked", &r.Blocked)
	c.num("created", &r.Created)
	c.num("updated", &r.Updated)
	list(c, "locators", &r.Locators, (*Locator).fields)
	c.num("tokenEpoch", &r.TokenEpoch)
	list(c, "resting", &r.Resting, (*Resting).fields)
}

// Resting is a locator that a user gave up and that rests: see [Rest].
type Resting struct {
	Digest string // in hexadecimal
	Until  int64
}

func (r *Resting) fields(c *coder) {
	c.str("digest", &r.Digest)
	c.num("until", &r.Until)
}

// Locator is one locator of a user, owned or a pending claim. One of a type that the host registered
// says by which version of its rule it was brought into form, and which form only one user owns,
// where that is another than the canonical one.
type Locator struct {
	ID        string
	Type      string
	Canonical string
	Raw       string
	Status    string
	Owned     bool
	Added     int64
	Verified  int64
	Rule      int64 // 0 of e-mail addresses and telephone numbers
	Unique    string
}

func (r *Locator) fields(c *coder) {
	c.str("id", &r.ID)
	c.str("type", &r.Type)
	c.str("canonical", &r.Canonical)
	c.str("raw", &r.Raw)
	c.str("status", &r.Status)
	c.flag("owned", &r.Owned)
	c.num("added", &r.Added)
	c.num("verified", &r.Verified)
	c.num("rule", &r.Rule)
	c.str("unique", &r.Unique)
}

// Owner says which user owns a locator. There can be only one owner because the locator is the key.
type Owner struct {
	Locator     string // type:canonical
	User        string
	Incarnation string
	Rule        int64 // as in the user's record
}

func (r *Owner) fields(c *coder) {
	c.kind("owner")
	c.str("locator", &r.Locator)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("rule", &r.Rule)
}

// Unique says who owns the one locator that may have a unique form, such as a name that no other
// name may be taken for.
type Unique struct {
	Form        string // type:unique
	Locator     string // type:canonical of the locator
	User        string
	Incarnation string
	Rule        int64 // as in the user's record
}

func (r *Unique) fields(c *coder) {
	c.kind("unique")
	c.str("form", &r.Form)
	c.str("locator", &r.Locator)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("rule", &r.Rule)
}

// Rest says that a locator was given up and rests: until then it is its last owner's alone to take.
// That is nobody where the user was deleted. It names the locator by a keyed digest only.
type Rest struct {
	Digest      string // in hexadecimal
	User        string
	Incarnation string
	Until       int64
}

func (r *Rest) fields(c *coder) {
	c.kind("rest")
	c.str("digest", &r.Digest)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("until", &r.Until)
}

// Profile is the attributes of a user, in the order of their keys.
type Profile struct {
	User        string
	Incarnation string
	Attributes  []Attribute
}

func (r *Profile) fields(c *coder) {
	c.kind("profile")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	list(c, "attributes", &r.Attributes, (*Attribute).fields)
}

// Attribute is one attribute of a profile.
type Attribute struct {
	Key             string
	ContentType     string
	ContentEncoding string
	Value           string
}

func (r *Attribute) fields(c *coder) {
	c.str("key", &r.Key)
	c.str("contentType", &r.ContentType)
	c.str("contentEncoding", &r.ContentEncoding)
	c.str("value", &r.Value)
}

// Definition is the definition of an attribute.
type Definition struct {
	Key              string
	ContentTypes     []string
	ContentEncodings []string
	NotEmpty         bool
	MaxBytes         int64
	VisibleTo        string
	WritableBy       string
}

func (r *Definition) fields(c *coder) {
	c.kind("definition")
	c.str("key", &r.Key)
	c.strs("contentTypes", &r.ContentTypes)
	c.strs("contentEncodings", &r.ContentEncodings)
	c.flag("notEmpty", &r.NotEmpty)
	c.num("maxBytes", &r.MaxBytes)
	c.str("visibleTo", &r.VisibleTo)
	c.str("writableBy", &r.WritableBy)
}

// AttributeRef says that a user has an attribute, so that its definition cannot be dropped.
type AttributeRef struct {
	Attribute string
	User      string
}

func (r *AttributeRef) fields(c *coder) {
	c.kind("use")
	c.str("attribute", &r.Attribute)
	c.str("user", &r.User)
}

// Devices is the presence of a user, in the order of the devices' names.
type Devices struct {
	User        string
	Incarnation string
	Devices     []presence.Device
}

func (r *Devices) fields(c *coder) {
	c.kind("devices")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	list(c, "devices", &r.Devices, device)
}

func device(d *presence.Device, c *coder) {
	c.str("name", &d.Name)
	c.num("start", &d.Start)
	c.num("beat", &d.Beat)
	list(c, "chain", (*[]presence.Link)(&d.Chain), link)
}

func link(l *presence.Link, c *coder) {
	c.str("state", &l.State)
	if c.reading {
		l.State = presence.Shared(l.State)
	}
	c.num("seconds", &l.Seconds)
}

// Tokens is the live tokens of a user.
type Tokens struct {
	User        string
	Incarnation string
	Tokens      []Token
}

func (r *Tokens) fields(c *coder) {
	c.kind("tokens")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	list(c, "tokens", &r.Tokens, (*Token).fields)
}

// Token is one token with the texts that were issued for it and are still live.
type Token struct {
	ID        string
	Label     string
	AccessKey string // the access key it was issued with; may be empty
	Issued    int64
	Latest    int64 // no extension goes past this
	Texts     []Text
}

func (r *Token) fields(c *coder) {
	c.str("id", &r.ID)
	c.str("label", &r.Label)
	c.str("accessKey", &r.AccessKey)
	c.num("issued", &r.Issued)
	c.num("latest", &r.Latest)
	list(c, "texts", &r.Texts, (*Text).fields)
}

// Text is one signed text of a token, by its digest in hexadecimal.
type Text struct {
	Digest  string
	Expires int64
}

func (r *Text) fields(c *coder) {
	c.str("digest", &r.Digest)
	c.num("expires", &r.Expires)
}

// TokenText is what a signed text stands for.
type TokenText struct {
	Digest      string
	User        string
	Incarnation string
	Token       string
	Expires     int64
	Epoch       int64 // the user's TokenEpoch when it was issued; the text is valid only in that
}

func (r *TokenText) fields(c *coder) {
	c.kind("grant")
	c.str("digest", &r.Digest)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.str("token", &r.Token)
	c.num("expires", &r.Expires)
	c.num("epoch", &r.Epoch)
}

// LastUses is when the tokens of a user, or the access keys, were last used.
type LastUses struct {
	User string // empty: of the access keys
	Uses []LastUse
}

func (r *LastUses) fields(c *coder) {
	c.kind("uses")
	c.str("user", &r.User)
	list(c, "uses", &r.Uses, (*LastUse).fields)
}

// LastUse is when one token or access key was last used, and for an access key what it was used
// for.
type LastUse struct {
	ID     string
	At     int64
	Action string
}

func (r *LastUse) fields(c *coder) {
	c.str("id", &r.ID)
	c.num("at", &r.At)
	c.str("action", &r.Action)
}

// Nonce says that a nonce was used.
type Nonce struct {
	AccessKey string
	Nonce     string
}

func (r *Nonce) fields(c *coder) {
	c.kind("nonce")
	c.str("accessKey", &r.AccessKey)
	c.str("nonce", &r.Nonce)
}

// Created says that a user was created under an idempotency key. Key and Digest are the SHA-256 of
// the caller's, in hexadecimal.
type Created struct {
	Key         string
	Digest      string
	User        string
	Incarnation string
	At          int64
}

func (r *Created) fields(c *coder) {
	c.kind("created")
	c.str("key", &r.Key)
	c.str("digest", &r.Digest)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("at", &r.At)
}

// Event is one change as it is in the feed.
type Event struct {
	At          int64
	What        string
	Actor       string // .system or a user's id
	AccessKey   string // the access key that the actor's principal rests on; may be empty
	User        string // whom it is about; may be empty
	Incarnation string
	Subjects    []string // the ids or keys of what changed: tokens, locators, attributes
}

func (r *Event) fields(c *coder) {
	c.kind("event")
	c.num("at", &r.At)
	c.str("what", &r.What)
	c.str("actor", &r.Actor)
	c.str("accessKey", &r.AccessKey)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.strs("subjects", &r.Subjects)
}

// Encode returns the value that r is stored as.
func Encode(r Record) []byte { return encode(r) }

// DecodeEvent decodes an event of the feed.
func DecodeEvent(value []byte) (Event, error) {
	var e Event
	err := decode(string(value), &e)
	return e, err
}

// Decode decodes the record stored under key, and returns a pointer to the struct of its kind. Its
// strings share the memory of value, which must not be changed after.
func Decode(key store.Key, value []byte) (any, error) {
	text := unsafe.String(unsafe.SliceData(value), len(value))
	switch key[0] {
	case kindUser:
		return decoded(text, new(User))
	case kindOwner:
		return decoded(text, new(Owner))
	case kindUnique:
		return decoded(text, new(Unique))
	case kindRest:
		return decoded(text, new(Rest))
	case kindTokenText:
		return decoded(text, new(TokenText))
	case kindDevices:
		return decoded(text, new(Devices))
	case kindProfile:
		return decoded(text, new(Profile))
	case kindTokens:
		return decoded(text, new(Tokens))
	case kindLastUses:
		return decoded(text, new(LastUses))
	case kindDefinition:
		return decoded(text, new(Definition))
	case kindAttributeRef:
		return decoded(text, new(AttributeRef))
	case kindAccessKeys:
		return decoded(text, new(AccessKeys))
	case kindSigningKeys:
		return decoded(text, new(SigningKeys))
	case kindNonce:
		return decoded(text, new(Nonce))
	case kindCreated:
		return decoded(text, new(Created))
	case kindDirectory:
		return decoded(text, new(Directory))
	}
	return nil, fmt.Errorf("%w: kind %q", ErrCorrupt, key[0])
}

func decoded[R Record](text string, r R) (any, error) {
	if err := decode(text, r); err != nil {
		return nil, err
	}
	return r, nil
}
