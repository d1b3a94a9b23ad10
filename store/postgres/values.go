package postgres

import (
	"fmt"
	"strconv"

	"github.com/denizenhq/denizen/store"
)

// Limits of a single value. jsonb can hold somewhat more, but it writes numbers out: a thousand
// times 1e99999 would turn a few bytes into gigabytes.
const (
	maxDigits    = 1_000
	maxExponents = 10_000 // the sum of their absolute values
	maxDepth     = 1_000
)

// checkBatch returns a store.ErrInvalid if jsonb cannot hold a value of b. Without this check one
// such batch would make its whole group fail.
func checkBatch(b store.Batch) error {
	for _, r := range b.Put {
		if err := checkJSON(r.Value); err != nil {
			return err
		}
	}
	return checkJSON(b.Emit)
}

// checkJSON checks the limits of v. It does not check that v is JSON, which others do.
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
				return fmt.Errorf("%w: a number of more than %d digits",
					store.ErrInvalid, maxDigits)
			}
			if at(i+1)|0x20 != 'e' {
				continue
			}
			from = i + 2
			for i = from; at(i) == '+' || at(i) == '-' || isDigit(at(i)); i++ {
			}
			n, err := strconv.ParseInt(string(v[min(from, len(v)):i]), 10, 32)
			if exponents += int(max(n, -n)); err != nil || exponents > maxExponents {
				return fmt.Errorf("%w: exponents that come to more than %d",
					store.ErrInvalid, maxExponents)
			}
			i--
		}
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
