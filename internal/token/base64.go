package token

import "encoding/base64"

// encode spells b in base64url without padding (RFC 7515 section 2).
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

var strict = base64.RawURLEncoding.Strict()

// decode reads what encode spells and nothing else. The alphabet is looked at first
// because encoding/base64 passes over CR and LF, in strict mode too.
func decode(s string) ([]byte, bool) {
	if !alphabet(s) {
		return nil, false
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, false
	}
	return b, true
}

// alphabet reports whether s holds something, and base64url characters only.
func alphabet(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != ""
}
