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
	"hash/fnv"
	"math"
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
	Epoch         int64 // of its history: another one in a store that was restored from a backup
}

func (r *Directory) fields(c *coder) {
	c.kind("directory")
	c.str("id", &r.ID)
	c.str("applicationId", &r.ApplicationID)
	c.str("cursorKey", &r.CursorKey)
	c.num("created", &r.Created)
	c.num("epoch", &r.Epoch)
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
	Changes     []Change // that may still be undone, oldest first
	Aliases     []AliasRef
	// BlockedUntil is when a block ends by itself, 0 for never. BlockReason is why it was made.
	BlockedUntil int64
	BlockReason  string
	// Creation is the Key of the record [Created] that names the user, which is under the day of the
	// member Created. It is forgotten once that record is swept.
	Creation string
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
	list(c, "changes", &r.Changes, (*Change).fields)
	c.num("blockedUntil", &r.BlockedUntil)
	c.str("blockReason", &r.BlockReason)
	c.str("creation", &r.Creation)
	list(c, "aliases", &r.Aliases, (*AliasRef).fields)
}

// BlockedAt reports whether the user is blocked at a time.
func (r *User) BlockedAt(now int64) bool {
	return r.Blocked && (r.BlockedUntil == 0 || now < r.BlockedUntil)
}

// Change is a change that a user made to what it is reached by, while it may be undone.
type Change struct {
	Undo  string // the digest of its [Undo], in hexadecimal; empty: nobody was told how to undo it
	Until int64
	New   string // the digest of the locator that was proved, as in [Rest]; may be empty
}

func (r *Change) fields(c *coder) {
	c.str("undo", &r.Undo)
	c.num("until", &r.Until)
	c.str("new", &r.New)
}

// AliasRef is an id that leads to the user: see [Alias].
type AliasRef struct {
	ID    string
	Until int64
	Was   string // the incarnation of the user who had the id
}

func (r *AliasRef) fields(c *coder) {
	c.str("id", &r.ID)
	c.num("until", &r.Until)
	c.str("was", &r.Was)
}

// Alias says that the id of a user who was merged into another leads to that one. It counts only
// while the user's record names it.
type Alias struct {
	ID          string
	User        string
	Incarnation string
	Until       int64  // 0: it does not end
	Was         string // as in [AliasRef]
}

func (r *Alias) fields(c *coder) {
	c.kind("alias")
	c.str("id", &r.ID)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("until", &r.Until)
	c.str("was", &r.Was)
}

// Resting is a locator that a user gave up and that rests: see [Rest].
type Resting struct {
	Digest  string // in hexadecimal
	Until   int64
	Address bool // it is an address or a number, not a name
}

func (r *Resting) fields(c *coder) {
	c.str("digest", &r.Digest)
	c.num("until", &r.Until)
	c.flag("address", &r.Address)
}

// Locator is one locator of a user, owned or a pending claim. One of a type that the host
// registered says by which version of its rule it was brought into form, and which form only one
// user owns, where that is another than the canonical one.
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
// It names nobody where that user was deleted or erased, and the locator by a keyed digest only.
type Rest struct {
	Digest      string // in hexadecimal
	User        string
	Incarnation string
	Until       int64
	Reserved    bool // the user itself gave it up, and may undo that
}

func (r *Rest) fields(c *coder) {
	c.kind("rest")
	c.str("digest", &r.Digest)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("until", &r.Until)
	c.flag("reserved", &r.Reserved)
}

// Undo is what undoes a change: the locators that the user owned before it.
type Undo struct {
	Digest      string // keyed, of the secret, in hexadecimal
	User        string
	Incarnation string
	Until       int64
	Before      []Locator
}

func (r *Undo) fields(c *coder) {
	c.kind("undo")
	c.str("digest", &r.Digest)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("until", &r.Until)
	list(c, "before", &r.Before, (*Locator).fields)
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

// Devices is the presence of a user, in the order of the devices' names. A user without devices has
// a record only to say that it hides.
type Devices struct {
	User        string
	Incarnation string
	Hidden      bool  // from its peers, with its last activity
	Here        int64 // the place of its HereKey; 0: it has none
	Left        int64 // the place of the HereKey that it had before and left; 0: it has none
	Devices     []presence.Device
}

func (r *Devices) fields(c *coder) {
	c.kind("devices")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.flag("hidden", &r.Hidden)
	c.num("here", &r.Here)
	c.num("left", &r.Left)
	list(c, "devices", &r.Devices, device)
}

// The place of a HereKey is the hour up to which its user is here, and below it the second in which
// its chain was set. So the keys of those who come at once lie side by side, in few pages.
const (
	hour         = 3_600_000     // milliseconds
	hereForever  = math.MaxInt32 // the hour of whom no end is known: its keys are the last ones
	placeSeconds = 32            // bits of a place
	leftWithin   = 25            // hours: a key of a later one is dropped, not left
)

// HereUntil returns the hour of the HereKey of a user with the given devices: that in which its
// last state but Offline ends, or 0 if there is none. Hours begin at another time for each user, so
// that heartbeats move few keys at once.
func HereUntil(user string, devices []presence.Device) int64 {
	switch end := presence.LastHere(devices); end {
	case 0:
		return 0
	case presence.Forever:
		return hereForever
	default:
		return min(max(1, hourOf(user, end)), hereForever-1)
	}
}

// HereHour returns the hour of a place.
func HereHour(place int64) int64 { return place >> placeSeconds }

// PlaceHere gives r the places of its HereKeys, once its devices are set. Was is the record before.
//
// A key that is not valid any more is left where it is, for the sweep: to drop each would be to
// write a page for each. A user has one such key at most, and none once it is not here. One of a
// far hour is dropped, as the sweep would come to it late.
func (r *Devices) PlaceHere(was *Devices) {
	until := HereUntil(r.User, r.Devices)
	if until == 0 {
		r.Here, r.Left = 0, 0
		return
	}
	if until == HereHour(was.Here) {
		r.Here, r.Left = was.Here, was.Left
		return
	}
	set := int64(0)
	for i := range r.Devices {
		set = max(set, r.Devices[i].Origin())
	}
	r.Left = was.Here
	if HereHour(r.Left) > hourOf(r.User, set)+leftWithin {
		r.Left = 0
	}
	switch until {
	case HereHour(was.Left): // who comes and goes has its two keys
		r.Here = was.Left
	case hereForever:
		r.Here = hereForever << placeSeconds
	default:
		r.Here = until<<placeSeconds | min(max(0, set/1000), math.MaxUint32)
	}
}

// HereFrom returns the first hour of the HereKeys of users who may be here at now. It is early by
// an hour: heartbeats move a key only when they are stored.
func HereFrom(now int64) int64 { return now/hour - 1 }

// hourOf returns the hour of a user in which an instant is.
func hourOf(user string, at int64) int64 { return (at + shift(user)) / hour }

// shift returns by how much the hours of a user begin earlier, in milliseconds.
func shift(user string) int64 {
	h := fnv.New32a()
	h.Write([]byte(user))
	return int64(h.Sum32() % hour)
}

// Here says that a user may be here up to an hour: it is if its presence has the same place.
type Here struct {
	Place       int64
	User        string
	Incarnation string
}

func (r *Here) fields(c *coder) {
	c.kind("here")
	c.num("place", &r.Place)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
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
	Locator   string // the digest of the locator that it was got by, as in [Rest]; may be empty
}

func (r *Token) fields(c *coder) {
	c.str("id", &r.ID)
	c.str("label", &r.Label)
	c.str("accessKey", &r.AccessKey)
	c.num("issued", &r.Issued)
	c.num("latest", &r.Latest)
	list(c, "texts", &r.Texts, (*Text).fields)
	c.str("locator", &r.Locator)
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

// Active is when a user last did anything by itself.
type Active struct {
	User        string
	Incarnation string
	At          int64
}

func (r *Active) fields(c *coder) {
	c.kind("active")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.num("at", &r.At)
}

// Consumer is how far a consumer of the feed has come, and who delivers to it. While they work at a
// batch they write it again and again, so that others see its version change.
type Consumer struct {
	Name   string
	Cursor string // see Place; empty: before the oldest event
	Holder string // who delivers; empty: nobody
	Stuck  string // a cursor: the end of a batch that failed again and again
	Since  int64  // when the batch was told to be stuck
	End    string // a cursor: the end of a batch that must be the same when it is tried again
	Begun  int64  // when that batch was tried first
	Missed bool   // that batch tells that events were forgotten
}

func (r *Consumer) fields(c *coder) {
	c.kind("consumer")
	c.str("name", &r.Name)
	c.str("cursor", &r.Cursor)
	c.str("holder", &r.Holder)
	c.str("stuck", &r.Stuck)
	c.num("since", &r.Since)
	c.str("end", &r.End)
	c.num("begun", &r.Begun)
	c.flag("missed", &r.Missed)
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
// the caller's, in hexadecimal. If the user was erased it has only Key and At.
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

// Proof is a proof that somebody started and has not finished: a code or a link is on its way. All
// digests are keyed and in hexadecimal.
type Proof struct {
	Handle  string // digest of the handle that whoever started it was given
	Minute  int64  // when it was started, counted from 1970
	Purpose string
	Locator string // digest of type:canonical
	Sealed  string // what is proved as it was asked for, sealed; empty: the locator of LocatorID
	Secret  string // digest of the code or of the link's secret
	Tries   int64  // that were wrong
	Expires int64

	// Whose locator it is, unless somebody signs in.
	User        string
	Incarnation string
	LocatorID   string
}

func (r *Proof) fields(c *coder) {
	c.kind("proof")
	c.str("handle", &r.Handle)
	c.num("minute", &r.Minute)
	c.str("purpose", &r.Purpose)
	c.str("locator", &r.Locator)
	c.str("sealed", &r.Sealed)
	c.str("secret", &r.Secret)
	c.num("tries", &r.Tries)
	c.num("expires", &r.Expires)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.str("locatorId", &r.LocatorID)
}

// Starts counts the starts, in one hour, of proofs of one locator. All digests are keyed and in
// hexadecimal.
type Starts struct {
	Locator string // digest of type:canonical
	Hour    int64  // counted from 1970
	Starts  []Start
}

func (r *Starts) fields(c *coder) {
	c.kind("starts")
	c.str("locator", &r.Locator)
	c.num("hour", &r.Hour)
	list(c, "starts", &r.Starts, (*Start).fields)
}

// Start is one start of a proof.
type Start struct {
	Proof  string // the first bytes of the digest of its handle
	Client string // digest of the client, or of the device, that it counts for
	Device bool   // it counts for a device that has signed in by this locator before
	At     int64
}

func (r *Start) fields(c *coder) {
	c.str("proof", &r.Proof)
	c.str("client", &r.Client)
	c.flag("device", &r.Device)
	c.num("at", &r.At)
}

// UserProofs lists the live proofs that a user started for locators of its own, so that what ends
// the user ends them.
type UserProofs struct {
	User        string
	Incarnation string
	Proofs      []UserProof
}

func (r *UserProofs) fields(c *coder) {
	c.kind("userProofs")
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	list(c, "proofs", &r.Proofs, (*UserProof).fields)
}

// UserProof names a proof by the parts of its key.
type UserProof struct {
	Minute  int64
	Handle  string
	Expires int64
}

func (r *UserProof) fields(c *coder) {
	c.num("minute", &r.Minute)
	c.str("handle", &r.Handle)
	c.num("expires", &r.Expires)
}

// Event is one change as it is in the feed.
type Event struct {
	At          int64
	What        string
	Actor       string // .system or a user's id
	AccessKey   string // the access key that the actor's principal rests on; may be empty
	Operator    string // who acted for the application; may be empty
	User        string // whom it is about; may be empty
	Incarnation string
	Other       string   // a second user whom it is about; may be empty
	Subjects    []string // ids of tokens and locators, keys of attributes; nothing a person chose
}

func (r *Event) fields(c *coder) {
	c.kind("event")
	c.num("at", &r.At)
	c.str("what", &r.What)
	c.str("actor", &r.Actor)
	c.str("accessKey", &r.AccessKey)
	c.str("operator", &r.Operator)
	c.str("user", &r.User)
	c.str("incarnation", &r.Incarnation)
	c.str("other", &r.Other)
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
	case kindUndo:
		return decoded(text, new(Undo))
	case kindTokenText:
		return decoded(text, new(TokenText))
	case kindDevices:
		return decoded(text, new(Devices))
	case kindActive:
		return decoded(text, new(Active))
	case kindHere:
		return decoded(text, new(Here))
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
	case kindProof:
		return decoded(text, new(Proof))
	case kindStarts:
		return decoded(text, new(Starts))
	case kindUserProofs:
		return decoded(text, new(UserProofs))
	case kindAlias:
		return decoded(text, new(Alias))
	case kindConsumer:
		return decoded(text, new(Consumer))
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
