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
	kindDefinition   = 'f' // attribute key
	kindAttributeRef = 'g' // attribute key, user id
	kindCreated      = 'i' // day, idempotency key
	kindOwner        = 'l' // type:canonical
	kindUnique       = 'm' // type:unique form
	kindNonce        = 'n' // minute, access key, nonce
	kindProfile      = 'o' // user id
	kindDevices      = 'p' // user id
	kindRest         = 'q' // keyed digest of type:unique form, 32 bytes
	kindTokens       = 't' // user id
	kindUser         = 'u' // user id
	kindLastUses     = 'w' // user id, none for the access keys
	kindTokenText    = 'x' // digest, 32 bytes
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
	Definitions store.Key = "f"
	AllTokens   store.Key = "t"
	TokenTexts  store.Key = "x"
	Nonces      store.Key = "n"
	Creations   store.Key = "i"
	Rests       store.Key = "q"
)

// UserKey returns the key of a user.
func UserKey(id string) store.Key { return Users + store.Key(id) }

// ProfileKey returns the key of a user's profile.
func ProfileKey(id string) store.Key { return "o" + store.Key(id) }

// DevicesKey returns the key of a user's presence.
func DevicesKey(id string) store.Key { return "p" + store.Key(id) }

// TokensKey returns the key of a user's tokens.
func TokensKey(id string) store.Key { return AllTokens + store.Key(id) }

// LastUsesKey returns the key of the last uses of a user's tokens, or those of the access keys for
// an empty id.
func LastUsesKey(id string) store.Key { return "w" + store.Key(id) }

// OwnerKey returns the key of the owner of a locator, given as type:canonical.
func OwnerKey(locator string) store.Key { return "l" + store.Key(locator) }

// UniqueKey is of the owner of all locators that share a unique form, given as type:form.
func UniqueKey(form string) store.Key { return "m" + store.Key(form) }

// RestKey is of a locator that rests, by its keyed digest.
func RestKey(digest [32]byte) store.Key { return Rests + store.Key(digest[:]) }

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
	}
	return "other", ""
}

// Disposable reports whether a damaged record counts as absent and is replaced by the next write.
// That holds for last uses and presence, which are set anew all the time.
func Disposable(key store.Key) bool { return key[0] == kindLastUses || key[0] == kindDevices }

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
