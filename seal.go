package denizen

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/denizenhq/denizen/internal/record"
)

// NoRootKey stands among Options.RootKeys for none: what is under it is stored in the clear. It is
// text, so that no empty setting is taken for it.
const NoRootKey = "none"

// maxRootKeys bounds Options.RootKeys.
const maxRootKeys = 16

// A stored secret begins with how it is stored: in the clear, or sealed under a root key whose id
// follows. Earlier versions of this package left the id out. A sealed one is bound to the directory
// and to its purpose, so that it cannot stand in for another.
const (
	clearPrefix  = "clear:"
	sealedPrefix = "xchacha20poly1305:"
)

// rootKey is one of Options.RootKeys.
type rootKey struct {
	id   string      // derived from the key, or NoRootKey
	aead cipher.AEAD // nil: in the clear
}

// newRootKeys returns the root keys of the options. They keep nothing of the slices.
func newRootKeys(given [][]byte) (keys []rootKey, err error) {
	if len(given) > maxRootKeys {
		return nil, invalid("RootKeys", "must be 16 at most")
	}
	for _, raw := range given {
		k := rootKey{id: NoRootKey}
		if string(raw) != NoRootKey {
			if len(raw) != chacha20poly1305.KeySize {
				return nil, invalid("RootKeys", "must be 32 bytes each")
			}
			h := hmac.New(sha256.New, raw)
			h.Write([]byte("id of a root key"))
			k.id = hex.EncodeToString(h.Sum(nil)[:8])
			if k.aead, err = chacha20poly1305.NewX(raw); err != nil {
				return nil, err
			}
		}
		if slices.ContainsFunc(keys, func(other rootKey) bool { return other.id == k.id }) {
			return nil, invalid("RootKeys", "must differ")
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		keys = []rootKey{{id: NoRootKey}}
	}
	return keys, nil
}

// errNoRootKey says that a secret is sealed under a key that this process does not have.
func errNoRootKey() error {
	const reason = "what is stored is under a root key that is not among them"
	return newError(ErrUnavailable, "RootKeys", reason)
}

// seal returns a secret as it is stored for a purpose under a key.
func (d *Directory) seal(k rootKey, purpose string, secret []byte) string {
	if k.aead == nil {
		return clearPrefix + base64.StdEncoding.EncodeToString(secret)
	}
	size := k.aead.NonceSize()
	nonce := make([]byte, size, size+len(secret)+k.aead.Overhead())
	rand.Read(nonce)
	sealed := k.aead.Seal(nonce, nonce, secret, []byte(d.id+"/"+purpose))
	return sealedPrefix + k.id + ":" + base64.StdEncoding.EncodeToString(sealed)
}

// sealed is a stored secret, taken apart.
type sealed struct {
	id      string // of its root key; empty if it does not say
	encoded string
}

func parseSealed(text string) (s sealed, ok bool) {
	if encoded, ok := strings.CutPrefix(text, clearPrefix); ok {
		return sealed{NoRootKey, encoded}, true
	}
	rest, ok := strings.CutPrefix(text, sealedPrefix)
	if !ok {
		return sealed{}, false
	}
	if id, encoded, named := strings.Cut(rest, ":"); named {
		return sealed{id, encoded}, true
	}
	return sealed{"", rest}, true
}

// mayBeUnder reports whether a secret may be under a key.
func (s sealed) mayBeUnder(k rootKey) bool {
	return s.id == k.id || s.id == "" && k.aead != nil
}

// hasKeyOf reports whether this process has the root key of a stored secret.
func (d *Directory) hasKeyOf(text string) bool {
	s, ok := parseSealed(text)
	return !ok || slices.ContainsFunc(d.rootKeys, s.mayBeUnder)
}

// unseal returns a secret that was sealed for the same purpose in the same directory, and its root
// key. If this process does not have that it returns ErrUnavailable. Anything else is damage.
func (d *Directory) unseal(purpose, text string) (secret []byte, under rootKey, err error) {
	s, ok := parseSealed(text)
	raw, err := base64.StdEncoding.DecodeString(s.encoded)
	if !ok || err != nil {
		return nil, rootKey{}, record.ErrCorrupt
	}
	err = errNoRootKey()
	for _, k := range d.rootKeys {
		if !s.mayBeUnder(k) {
			continue
		}
		if k.aead == nil {
			return raw, k, nil
		}
		err = record.ErrCorrupt
		size := k.aead.NonceSize()
		if len(raw) < size {
			break
		}
		secret, bad := k.aead.Open(nil, raw[:size], raw[size:], []byte(d.id+"/"+purpose))
		if bad == nil {
			return secret, k, nil
		}
	}
	return nil, rootKey{}, err
}

// rootKey returns the root key that everything in the directory is under, and makes it a condition
// of the write. Whatever is sealed is sealed by it, so that nothing is ever under another one.
func (p *plan) rootKey() (rootKey, error) {
	entries, err := p.read(record.DirectoryKey)
	if err != nil {
		return rootKey{}, err
	}
	own, ok := entries[0].Value().(*record.Directory)
	if !ok {
		return rootKey{}, record.ErrCorrupt
	}
	_, k, err := p.d.unseal(cursorPurpose, own.CursorKey)
	return k, err
}

// cursorPurpose is what the key of cursors is sealed for.
const cursorPurpose = "cursor"
