package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// Whoever guesses all the time at as many addresses as can ask, 20 times an hour each at one of
// 10⁸ codes, gets in somewhere once in three weeks; at one address, once in centuries.
const (
	codeLife    = 10 * time.Minute
	codeTries   = 5
	codesAnHour = 4
	maxAsking   = 10_000 // addresses at a time
)

// codes are the one-time codes that people were sent: one an address, by its canonical form. They
// lie in memory, so a restart ends them.
type codes struct {
	key []byte

	mu     sync.Mutex
	asking map[string]*asked
}

// asked is what one address asked for in the last hour.
type asked struct {
	made   []time.Time // when codes were made, oldest first
	digest []byte      // of the last one
	tries  int         // that are left for it
}

func newCodes() *codes {
	return &codes{key: []byte(rand.Text()), asking: map[string]*asked{}}
}

// make makes a code for an address, in place of an earlier one. It answers none if the address
// had too many of late, or if too many others ask: to forget one of those would give whoever
// guesses at it new tries.
func (c *codes) make(address string) (code string, ok bool) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "", false
	}
	code = fmt.Sprintf("%08d", n)
	now := time.Now()

	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.asking[address]
	if a == nil {
		if len(c.asking) >= maxAsking {
			c.sweep(now)
		}
		if len(c.asking) >= maxAsking {
			return "", false
		}
		a = new(asked)
		c.asking[address] = a
	}
	a.forget(now)
	if len(a.made) >= codesAnHour {
		return "", false
	}
	a.made = append(a.made, now)
	a.digest, a.tries = c.digest(address, code), codeTries
	return code, true
}

// use reports whether a code is the live one of an address, and ends it if it is. A wrong one
// costs a try.
func (c *codes) use(address, code string) bool {
	digest := c.digest(address, code)
	now := time.Now()

	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.asking[address]
	if a == nil || a.tries == 0 || now.Sub(a.made[len(a.made)-1]) >= codeLife {
		return false
	}
	a.tries--
	if !hmac.Equal(a.digest, digest) { // in constant time
		return false
	}
	a.tries = 0
	return true
}

// digest is what is kept of a code. The key is made anew with each start: eight digits alone
// would be found by trying them all.
func (c *codes) digest(address, code string) []byte {
	h := hmac.New(sha256.New, c.key)
	fmt.Fprintf(h, "%s\n%s", address, code)
	return h.Sum(nil)
}

// forget drops what was made more than an hour ago.
func (a *asked) forget(now time.Time) {
	for len(a.made) > 0 && now.Sub(a.made[0]) >= time.Hour {
		a.made = a.made[1:]
	}
}

func (c *codes) sweep(now time.Time) {
	for address, a := range c.asking {
		if now.Sub(a.made[len(a.made)-1]) >= time.Hour {
			delete(c.asking, address)
		}
	}
}
