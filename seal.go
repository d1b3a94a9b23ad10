package denizen

import (
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/denizenhq/denizen/internal/record"
)

// A stored secret begins with how it is stored: in the clear, or sealed under the root key. A
// sealed one is bound to the directory and to its purpose, so that it cannot stand in for another.
const (
	clearPrefix  = "clear:"
	sealedPrefix = "xchacha20poly1305:"
)

// seal returns a secret as it is stored for a purpose.
func (d *Directory) seal(purpose string, secret []byte) string {
	if d.sealer == nil {
		return clearPrefix + base64.StdEncoding.EncodeToString(secret)
	}
	size := d.sealer.NonceSize()
	nonce := make([]byte, size, size+len(secret)+d.sealer.Overhead())
	rand.Read(nonce)
	sealed := d.sealer.Seal(nonce, nonce, secret, []byte(d.id+"/"+purpose))
	return sealedPrefix + base64.StdEncoding.EncodeToString(sealed)
}

// unseal returns a secret that was sealed for the same purpose in the same directory. Anything else
// is damage: a wrong root key is refused when the directory is opened.
func (d *Directory) unseal(purpose, text string) ([]byte, error) {
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
	secret, err = d.sealer.Open(nil, nonce, sealed, []byte(d.id+"/"+purpose))
	if err != nil {
		return nil, record.ErrCorrupt
	}
	return secret, nil
}
