package denizen

import (
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/denizenhq/denizen/internal/record"
)

// What is sealed begins with how: in the clear, or under the root key. Under the root key it is
// bound to the directory and to its purpose, so that it cannot pass for something else.
const (
	clearPrefix  = "clear:"
	sealedPrefix = "xchacha20poly1305:"
)

// seal returns a secret as it is stored. What says its purpose.
func (d *Directory) seal(what string, secret []byte) string {
	if d.sealer == nil {
		return clearPrefix + base64.StdEncoding.EncodeToString(secret)
	}
	nonce := make([]byte, d.sealer.NonceSize(), d.sealer.NonceSize()+len(secret)+d.sealer.Overhead())
	rand.Read(nonce)
	return sealedPrefix + base64.StdEncoding.EncodeToString(d.sealer.Seal(nonce, nonce, secret, []byte(d.id+"/"+what)))
}

// unseal returns the secret that seal was given for the same purpose in the same directory.
// Anything else is damage: that the root key is the right one was seen when the directory was
// opened.
func (d *Directory) unseal(what, text string) ([]byte, error) {
	prefix := clearPrefix
	if d.sealer != nil {
		prefix = sealedPrefix
	}
	encoded, ok := strings.CutPrefix(text, prefix)
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return nil, record.ErrCorrupt
	}
	if d.sealer == nil {
		return secret, nil
	}
	if len(secret) < d.sealer.NonceSize() {
		return nil, record.ErrCorrupt
	}
	nonce, sealed := secret[:d.sealer.NonceSize()], secret[d.sealer.NonceSize():]
	secret, err = d.sealer.Open(nil, nonce, sealed, []byte(d.id+"/"+what))
	if err != nil {
		return nil, record.ErrCorrupt
	}
	return secret, nil
}
