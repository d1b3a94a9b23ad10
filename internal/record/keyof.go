package record

import (
	hexadecimal "encoding/hex"

	"github.com/denizenhq/denizen/store"
)

// KeyOf returns the key that a record belongs under, as far as the record says. It reports false
// for one that does not, such as a nonce.
func KeyOf(value any) (store.Key, bool) {
	switch r := value.(type) {
	case *Directory:
		return DirectoryKey, true
	case *SigningKeys:
		return SigningKeysKey, true
	case *AccessKeys:
		return AccessKeysKey, true
	case *User:
		return UserKey(r.ID), true
	case *Owner:
		return OwnerKey(r.Locator), true
	case *Unique:
		return UniqueKey(r.Form), true
	case *Rest:
		return RestKey(DigestKey(r.Digest)), true
	case *Profile:
		return ProfileKey(r.User), true
	case *AttributeRef:
		return AttributeRefKey(r.Attribute, r.User), true
	case *Definition:
		return DefinitionKey(r.Key), true
	case *Devices:
		return DevicesKey(r.User), true
	case *Tokens:
		return TokensKey(r.User), true
	case *TokenText:
		return TokenTextKey(DigestKey(r.Digest)), true
	case *Proof:
		return ProofKey(r.Minute, DigestKey(r.Handle)), true
	case *Starts:
		return StartsKey(r.Hour, DigestKey(r.Locator)), true
	case *UserProofs:
		return UserProofsKey(r.User), true
	case *Undo:
		return UndoKey(DigestKey(r.Digest)), true
	case *Here:
		return HereKey(r.Place, r.User), true
	case *Active:
		return ActiveKey(r.User), true
	case *Alias:
		return AliasKey(r.ID), true
	case *LastUses:
		return LastUsesKey(r.User), true
	case *Consumer:
		return ConsumerKey(r.Name), true
	}
	return "", false
}

// DigestKey returns the bytes of a digest in hexadecimal, or zeros, under which nothing lies.
func DigestKey(digest string) (raw [32]byte) {
	if len(digest) == hexadecimal.EncodedLen(len(raw)) {
		_, _ = hexadecimal.Decode(raw[:], []byte(digest))
	}
	return raw
}
