package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Check returns an [ErrInvalid] if b breaks the rules of this package: if it does nothing, has a
// key of the wrong length, puts a key twice, or has a value or an event that [CheckValue] refuses.
// Stores call it, so callers need not.
func (b Batch) Check() error {
	if len(b.Drop) == 0 && len(b.Put) == 0 && b.Emit == nil && b.Trim == 0 {
		return fmt.Errorf("%w: a batch that does nothing", ErrInvalid)
	}
	for _, c := range b.If {
		if err := CheckKeys(c.Key); err != nil {
			return err
		}
		if c.Under && c.Damaged {
			return fmt.Errorf("%w: a condition on what is under a key and on damage", ErrInvalid)
		}
	}
	if err := CheckKeys(b.Drop...); err != nil {
		return err
	}
	ordered := true
	for i, r := range b.Put {
		if err := CheckKeys(r.Key); err != nil {
			return err
		}
		if err := CheckValue(r.Value); err != nil {
			return err
		}
		// A batch of many keys has them in order. Any other batch puts a handful, for which a map
		// would cost more than comparing them all.
		if ordered = ordered && (i == 0 || b.Put[i-1].Key < r.Key); ordered {
			continue
		}
		for _, earlier := range b.Put[:i] {
			if earlier.Key == r.Key {
				return fmt.Errorf("%w: a key put twice", ErrInvalid)
			}
		}
	}
	if b.Emit != nil {
		return CheckValue(b.Emit)
	}
	return nil
}

// CheckValue returns an [ErrInvalid] if v may not be stored as a value or an event: if it is not
// one JSON object in UTF-8, is longer than [MaxValue], or contains U+0000 or a lone surrogate.
// Stores call it, so callers need not.
func CheckValue(v []byte) error {
	if len(v) > MaxValue {
		return fmt.Errorf("%w: a value of %d bytes", ErrInvalid, len(v))
	}
	if len(v) == 0 || v[0] != '{' || !utf8.Valid(v) || !json.Valid(v) {
		return fmt.Errorf("%w: a value that is not a JSON object in UTF-8", ErrInvalid)
	}
	for rest := v; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 {
			return nil
		}
		// v is valid JSON, so the escape is complete.
		if rest = rest[i+1:]; rest[0] != 'u' {
			rest = rest[1:]
			continue
		}
		r := unit(rest)
		rest = rest[5:]
		if utf16.IsSurrogate(r) {
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' ||
				utf16.DecodeRune(r, unit(rest[1:])) == utf8.RuneError {
				return fmt.Errorf("%w: a value with a lone surrogate", ErrInvalid)
			}
			rest = rest[6:]
		}
		if r == 0 {
			return fmt.Errorf("%w: a value with U+0000", ErrInvalid)
		}
	}
}

// unit returns the UTF-16 code unit of an escape sequence that begins at its u.
func unit(escape []byte) rune {
	n, _ := strconv.ParseUint(string(escape[1:5]), 16, 16)
	return rune(n)
}
