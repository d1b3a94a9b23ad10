package token

import "encoding/base64"

// encode returns b in base64url without padding (RFC 7515, section 2).
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

var strict = base64.RawURLEncoding.Strict()

// decode accepts what encode returns and nothing else. It checks the alphabet first because
// encoding/base64 ignores CR and LF, even in strict mode.
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

// alphabet reports whether s is not empty and has only base64url characters.
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
