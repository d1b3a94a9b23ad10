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

// Whoever guesses all the time at as many codes as there can be, five tries each at one of 10⁸
// codes, gets in somewhere once in two weeks; at one address, once in two centuries.
const (
	codeLife    = 10 * time.Minute
	codeTries   = 5
	maxMembers  = 10_000 // codes at a time for addresses that somebody owns
	maxStranger = 1_000  // and for those that nobody owns
)

// codes are the one-time codes that people were sent, in memory, so a restart ends them. Each is
// kept under the proof that whoever asked for it was given: nobody else can use it, use up its
// tries or replace it. An entry is a few hundred bytes, the tables 5 MB at most.
type codes struct {
	key []byte

	mu        sync.Mutex
	byProof   map[string]*asked // guarded by mu, as are the lists
	members   []*asked          // for addresses that somebody owns, oldest first
	strangers []*asked          // for the others
}

// asked is one code.
type asked struct {
	proof, address string
	digest         []byte
	made           time.Time
	tries          int // that are left
}

func newCodes() *codes {
	return &codes{key: []byte(rand.Text()), byProof: map[string]*asked{}}
}

// make makes a code for an address, to be used with a proof. Where there are too many codes the
// oldest of its kind ends, and one for an address that nobody owns is not to be sent: strangers
// may shut out other strangers, and never a member.
func (c *codes) make(proof, address string, owned bool) (code string, send bool, err error) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "", false, err
	}
	code = fmt.Sprintf("%08d", n)
	a := &asked{proof: proof, address: address, digest: c.digest(proof, code), made: time.Now(), tries: codeTries}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.members, c.strangers = c.live(c.members, a.made), c.live(c.strangers, a.made)
	list, most := &c.members, maxMembers
	if !owned {
		list, most = &c.strangers, maxStranger
	}
	full := len(*list) >= most
	if full {
		delete(c.byProof, (*list)[0].proof)
		*list = (*list)[1:]
	}
	if send = owned || !full; !send {
		a.tries = 0 // nobody can know it
	}
	*list = append(*list, a)
	c.byProof[proof] = a
	return code, send, nil
}

// use returns the address that a code proves, and ends the code. A wrong one costs a try.
func (c *codes) use(proof, code string) (address string, ok bool) {
	digest := c.digest(proof, code)

	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.byProof[proof]
	if a == nil || a.tries == 0 || time.Since(a.made) >= codeLife {
		return "", false
	}
	a.tries--
	if !hmac.Equal(a.digest, digest) { // in constant time
		return "", false
	}
	a.tries = 0
	return a.address, true
}

// digest is what is kept of a code. The key is made anew with each start: eight digits alone
// would be found by trying them all.
func (c *codes) digest(proof, code string) []byte {
	h := hmac.New(sha256.New, c.key)
	fmt.Fprintf(h, "%s\n%s", proof, code)
	return h.Sum(nil)
}

// live drops codes that are too old, which come first.
func (c *codes) live(list []*asked, now time.Time) []*asked {
	for len(list) > 0 && now.Sub(list[0].made) >= codeLife {
		delete(c.byProof, list[0].proof)
		list = list[1:]
	}
	return list
}
