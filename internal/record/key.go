package record

import (
	"encoding/binary"
	"strings"

	"github.com/denizenhq/denizen/store"
)

// The kinds of records, each the first byte of its keys.
const (
	kindDirectory    = 'd' // there is one
	kindSigningKeys  = 's' // there is one
	kindAccessKeys   = 'a' // there is one
	kindAlias        = 'b' // user id
	kindConsumer     = 'c' // name
	kindActive       = 'e' // user id
	kindDefinition   = 'f' // attribute key
	kindAttributeRef = 'g' // attribute key, user id
	kindCreated      = 'i' // day, idempotency key
	kindHere         = 'h' // place, user id
	kindOwner        = 'l' // type:canonical
	kindUnique       = 'm' // type:unique form
	kindNonce        = 'n' // minute, access key, nonce
	kindProfile      = 'o' // user id
	kindDevices      = 'p' // user id
	kindRest         = 'q' // keyed digest of type:unique form, 32 bytes
	kindUserProofs   = 'r' // user id
	kindTokens       = 't' // user id
	kindUser         = 'u' // user id
	kindProof        = 'v' // minute, keyed digest of the handle, 32 bytes
	kindLastUses     = 'w' // user id, none for the access keys
	kindTokenText    = 'x' // digest, 32 bytes
	kindStarts       = 'y' // hour, keyed digest of type:canonical, 32 bytes
	kindUndo         = 'z' // keyed digest of a secret, 32 bytes
)

// Remembered is the kinds that are worth caching: small records with a key of one part, which are
// read with almost every call.
var Remembered = []byte{
	kindUser, kindOwner, kindTokenText, kindDevices, kindDefinition, kindAccessKeys,
}

// The keys of single records.
const (
	DirectoryKey   store.Key = "d"
	SigningKeysKey store.Key = "s"
	AccessKeysKey  store.Key = "a"
)

// The prefixes of ranges that are walked.
const (
	Users       store.Key = "u"
	Consumers   store.Key = "c"
	Definitions store.Key = "f"
	AllTokens   store.Key = "t"
	AllLastUses store.Key = "w" // the key itself is of the access keys
	TokenTexts  store.Key = "x"
	Nonces      store.Key = "n"
	Creations   store.Key = "i"
	Owners      store.Key = "l"
	Uniques     store.Key = "m"
	Rests       store.Key = "q"
	Heres       store.Key = "h"
	Proofs      store.Key = "v"
	AllStarts   store.Key = "y"
	UsersProofs store.Key = "r"
	Undos       store.Key = "z"
	Aliases     store.Key = "b"

	AttributeRefs store.Key = "g"
)

// UserKey returns the key of a user.
func UserKey(id string) store.Key { return Users + store.Key(id) }

// AliasKey returns the key of an id that leads to another user.
func AliasKey(id string) store.Key { return Aliases + store.Key(id) }

// ProfileKey returns the key of a user's profile.
func ProfileKey(id string) store.Key { return "o" + store.Key(id) }

// DevicesKey returns the key of a user's presence.
func DevicesKey(id string) store.Key { return "p" + store.Key(id) }

// TokensKey returns the key of a user's tokens.
func TokensKey(id string) store.Key { return AllTokens + store.Key(id) }

// LastUsesKey returns the key of the last uses of a user's tokens, or those of the access keys for
// an empty id.
func LastUsesKey(id string) store.Key { return "w" + store.Key(id) }

// ActiveKey returns the key of when a user was last active.
func ActiveKey(id string) store.Key { return "e" + store.Key(id) }

// OwnerKey returns the key of the owner of a locator, given as type:canonical.
func OwnerKey(locator string) store.Key { return "l" + store.Key(locator) }

// UniqueKey is of the owner of all locators that share a unique form, given as type:form.
func UniqueKey(form string) store.Key { return "m" + store.Key(form) }

// RestKey is of a locator that rests, by its keyed digest.
func RestKey(digest [32]byte) store.Key { return Rests + store.Key(digest[:]) }

// ProofKey is of a proof that was started in a minute, counted from 1970, by the keyed digest of
// its handle.
func ProofKey(minute int64, handle [32]byte) store.Key {
	return keyOf(kindProof, number(minute), string(handle[:]))
}

// StartsKey is of the starts in an hour, counted from 1970, of proofs of a locator, by its keyed
// digest.
func StartsKey(hour int64, locator [32]byte) store.Key {
	return keyOf(kindStarts, number(hour), string(locator[:]))
}

// UserProofsKey returns the key of the list of a user's own proofs.
func UserProofsKey(id string) store.Key { return UsersProofs + store.Key(id) }

// UndoKey is of what undoes a change of locators, by the keyed digest of its secret.
func UndoKey(digest [32]byte) store.Key { return Undos + store.Key(digest[:]) }

// DefinitionKey is of the definition of an attribute.
func DefinitionKey(key string) store.Key { return Definitions + store.Key(key) }

// TokenTextKey returns the key of what the signed text with a digest stands for.
func TokenTextKey(digest [32]byte) store.Key { return "x" + store.Key(digest[:]) }

// AttributeRefsOf returns the prefix of the references of users to an attribute.
func AttributeRefsOf(attribute string) store.Key { return keyOf(kindAttributeRef, attribute, "") }

// AttributeRefKey returns the key of a user's reference to an attribute.
func AttributeRefKey(attribute, user string) store.Key {
	return keyOf(kindAttributeRef, attribute, user)
}

// ConsumerKey returns the key of a consumer of the feed.
func ConsumerKey(name string) store.Key { return Consumers + store.Key(name) }

// CreatedKey returns the key of an idempotency key that was used on a day, counted from 1970.
func CreatedKey(day int64, key string) store.Key {
	return keyOf(kindCreated, number(day), key)
}

// NonceKey returns the key of a nonce that was used with an access key in a minute, counted from
// 1970.
func NonceKey(minute int64, accessKey, nonce string) store.Key {
	return keyOf(kindNonce, number(minute), accessKey, nonce)
}

// CreationsBefore reports whether a CreatedKey is of a day before the given one.
func CreationsBefore(key store.Key, day int64) bool {
	return key < keyOf(kindCreated, number(day), "")
}

// NoncesBefore reports whether a NonceKey is of a minute before the given one.
func NoncesBefore(key store.Key, minute int64) bool {
	return key < keyOf(kindNonce, number(minute), "")
}

// HereKey returns the key by which a user is found while it is here: see [Devices.PlaceHere].
func HereKey(place int64, user string) store.Key {
	return keyOf(kindHere, number(place), user)
}

// PermanentHereKey returns the HereKey of a user who is here permanently.
func PermanentHereKey(user string) store.Key { return HereKey(hereForever<<placeSeconds, user) }

// FirstHereKey returns what no HereKey of an hour is before.
func FirstHereKey(hour int64) store.Key { return HereKey(hour<<placeSeconds, "") }

// HereOf returns the place and the user of a HereKey.
func HereOf(key store.Key) (place int64, user string) {
	const at = 1 + 2 // the kind, and the length of the place
	return int64(binary.BigEndian.Uint64([]byte(key[at : at+8]))), string(key[at+8:])
}

// HeresBefore reports whether a HereKey is of an hour before the given one.
func HeresBefore(key store.Key, hour int64) bool { return key < FirstHereKey(hour) }

// ProofsBefore reports whether a ProofKey is of a minute before the given one.
func ProofsBefore(key store.Key, minute int64) bool {
	return key < keyOf(kindProof, number(minute), "")
}

// StartsBefore reports whether a StartsKey is of an hour before the given one.
func StartsBefore(key store.Key, hour int64) bool {
	return key < keyOf(kindStarts, number(hour), "")
}

// Of returns the name of a key's kind, for people, and the user whose record it is, or "" if it is
// of no single user. It returns no locator.
func Of(key store.Key) (kind, user string) {
	switch first, rest := Parts(key); first {
	case kindUser:
		return "user", rest
	case kindProfile:
		return "profile", rest
	case kindDevices:
		return "presence", rest
	case kindTokens:
		return "tokens", rest
	case kindLastUses:
		return "last uses", rest
	case kindActive:
		return "last activity", rest
	case kindUserProofs:
		return "proofs of a user", rest
	case kindProof:
		return "proof", ""
	case kindStarts:
		return "starts of proofs", ""
	case kindDirectory:
		return "directory", ""
	case kindSigningKeys:
		return "signing keys", ""
	case kindAccessKeys:
		return "access keys", ""
	case kindDefinition:
		return "attribute definition", ""
	case kindOwner:
		return "locator's owner", ""
	case kindUnique:
		return "locator's unique form", ""
	case kindRest:
		return "resting locator", ""
	case kindTokenText:
		return "token text", ""
	case kindHere:
		return "who is here", ""
	case kindUndo:
		return "undo of a change of locators", ""
	case kindAlias:
		return "alias", ""
	case kindConsumer:
		return "consumer", ""
	case kindCreated:
		return "idempotency key", ""
	}
	return "other", ""
}

// Disposable reports whether a damaged record counts as absent and is replaced by the next write.
// That holds for last uses, last activities and presence, which are set anew all the time, and for
// what belongs to proofs: without its record a proof is refused, and another one is started.
func Disposable(key store.Key) bool {
	switch key[0] {
	case kindLastUses, kindActive, kindDevices, kindProof, kindStarts, kindUserProofs:
		return true
	}
	return false
}

// Parts returns the kind of a key and the rest of it, which is all of a key of one part.
func Parts(key store.Key) (kind byte, rest string) { return key[0], string(key[1:]) }

func keyOf(kind byte, parts ...string) store.Key {
	var b strings.Builder
	b.WriteByte(kind)
	for i, p := range parts {
		if i < len(parts)-1 {
			b.WriteByte(byte(len(p) >> 8))
			b.WriteByte(byte(len(p)))
		}
		b.WriteString(p)
	}
	return store.Key(b.String())
}

func number(n int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)))
}
