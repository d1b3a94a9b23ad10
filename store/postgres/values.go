package postgres

import (
	"fmt"
	"strconv"

	"github.com/denizenhq/denizen/store"
)

// What jsonb is trusted to hold, in one value. It can hold somewhat more, but writes
// numbers out: to let 1e99999 in a thousand times would make gigabytes of a few bytes.
const (
	maxDigits    = 1_000
	maxExponents = 10_000 // the sum of their sizes
	maxDepth     = 1_000
)

// checkBatch reports what of b jsonb cannot hold, as a store.ErrInvalid. Otherwise one
// batch could make its whole group fail.
func checkBatch(b store.Batch) error {
	for _, r := range b.Put {
		if err := checkJSON(r.Value); err != nil {
			return err
		}
	}
	return checkJSON(b.Emit)
}

// checkJSON looks at v as JSON. What is not is for others to find.
func checkJSON(v []byte) error {
	at := func(i int) byte {
		if i < len(v) {
			return v[i]
		}
		return 0
	}
	depth, exponents := 0, 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			for i++; i < len(v) && v[i] != '"'; i++ {
				if v[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("%w: a value nested deeper than %d", store.ErrInvalid, maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		case isDigit(c):
			from := i
			for isDigit(at(i+1)) || at(i+1) == '.' {
				i++
			}
			if i-from >= maxDigits {
				return fmt.Errorf("%w: a number of more than %d digits", store.ErrInvalid, maxDigits)
			}
			if at(i+1)|0x20 != 'e' {
				continue
			}
			from = i + 2
			for i = from; at(i) == '+' || at(i) == '-' || isDigit(at(i)); i++ {
			}
			n, err := strconv.ParseInt(string(v[min(from, len(v)):i]), 10, 32)
			if exponents += int(max(n, -n)); err != nil || exponents > maxExponents {
				return fmt.Errorf("%w: exponents that come to more than %d", store.ErrInvalid, maxExponents)
			}
			i--
		}
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
