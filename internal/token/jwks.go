package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

const (
	maxSet  = 64 << 10 // bytes of a key set
	maxKeys = 64       // entries of a key set, including the ignored ones
)

// ErrKeySet means that a text is not a JWK set, or contains a malformed key. The error that wraps
// it names the entry and the member.
var ErrKeySet = errors.New("token: malformed key set")

// EncodeKeys returns the JWK set (RFC 7517, RFC 8037) of keys, in their order. It omits zero keys.
func EncodeKeys(keys ...PublicKey) []byte {
	b := []byte(`{"keys":[`)
	for _, k := range keys {
		if k == (PublicKey{}) {
			continue
		}
		if b[len(b)-1] == '}' {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"kty":"OKP","crv":"Ed25519","x":"%s","kid":"%s","alg":"EdDSA","use":"sig"}`,
			encode(k.point[:]), k.id)
	}
	return append(b, `]}`...)
}

// ParseKeys parses the JWK set of a directory, of at most 64 KiB and 64 entries. It ignores entries
// of another kty or crv, as RFC 7517, section 5, requires, and members that it does not know.
//
// An Ed25519 entry must be a valid key whose kid is its own thumbprint. It must occur only once,
// have no private part, and be meant for EdDSA signatures if it says what it is meant for.
// Otherwise ParseKeys refuses the whole set with [ErrKeySet].
func ParseKeys(set []byte) ([]PublicKey, error) {
	if len(set) > maxSet {
		return nil, fmt.Errorf("%w: more than 64 KiB", ErrKeySet)
	}
	decoder := json.NewDecoder(bytes.NewReader(set))
	decoder.UseNumber()
	// Not a struct: encoding/json matches the fields of structs in any case.
	var object map[string]json.RawMessage
	if !utf8.Valid(set) || json.Unmarshal(set, &object) != nil || !uniqueMembers(decoder) {
		return nil, fmt.Errorf("%w: not a JSON object with distinct members in UTF-8", ErrKeySet)
	}
	var entries []map[string]json.RawMessage
	if json.Unmarshal(object["keys"], &entries) != nil || entries == nil {
		return nil, fmt.Errorf("%w: keys: not a list of objects", ErrKeySet)
	}
	if len(entries) > maxKeys {
		return nil, fmt.Errorf("%w: keys: more than 64", ErrKeySet)
	}
	var keys []PublicKey
	for i, entry := range entries {
		k, known, err := parseKey(entry)
		if err == nil && known && slices.Contains(keys, k) {
			err = errors.New("kid: a second time")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrKeySet, i, err)
		}
		if known {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// parseKey reports whether entry is of a known kind, and if so returns its key or what is wrong
// with it.
func parseKey(entry map[string]json.RawMessage) (k PublicKey, known bool, err error) {
	text := func(name string) (s string) {
		_ = json.Unmarshal(entry[name], &s) // s stays empty if the member is absent or not a string
		return s
	}
	absentOr := func(name, value string) bool {
		_, present := entry[name]
		return !present || text(name) == value
	}
	switch {
	case text("kty") == "":
		return k, false, errors.New("kty: missing or not a string")
	case text("kty") != "OKP":
		return k, false, nil
	case text("crv") == "":
		return k, false, errors.New("crv: missing or not a string")
	case text("crv") != "Ed25519":
		return k, false, nil
	}
	point, ok := decode(text("x"))
	if !ok || len(point) != ed25519.PublicKeySize {
		return k, false, errors.New("x: not 32 bytes in base64url")
	}
	k = newPublicKey([ed25519.PublicKeySize]byte(point))
	switch {
	case weak(k.point):
		return k, false, errors.New("x: a point of small order or not in canonical form")
	case text("kid") != k.id:
		return k, false, errors.New("kid: not the thumbprint of the key")
	case !absentOr("alg", "EdDSA"):
		return k, false, errors.New("alg: not EdDSA")
	case !absentOr("use", "sig"):
		return k, false, errors.New("use: not sig")
	case entry["d"] != nil:
		return k, false, errors.New("d: a private key")
	}
	return k, true, nil
}

// uniqueMembers reads one value of valid JSON and reports whether every object in it has distinct
// member names. Of two members with the same name encoding/json takes the last (RFC 7517, section
// 4).
func uniqueMembers(d *json.Decoder) bool {
	t, err := d.Token()
	opened, nested := t.(json.Delim)
	if err != nil || !nested {
		return err == nil
	}
	seen := make(map[json.Token]bool)
	for d.More() {
		if opened == '{' {
			name, err := d.Token()
			if err != nil || seen[name] {
				return false
			}
			seen[name] = true
		}
		if !uniqueMembers(d) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}
