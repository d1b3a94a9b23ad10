package signin

import (
	"hash/maphash"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
)

// limits bound what one client does in this process, whatever address it is about. What is counted
// for an address is stored by the directory.
type limits struct{ starts, tries *limiter }

func newLimits() *limits {
	return &limits{newLimiter(30, 20*time.Second), newLimiter(30, 20*time.Second)}
}

// remoteClient is what Options.Client is unless set.
func remoteClient(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	from := peer.Addr().Unmap().WithZone("")
	if from.Is4() {
		return from.String()
	}
	machine, _ := from.Prefix(64) // what one machine has for itself
	return machine.String()
}

// maxLimited is how many clients a limiter remembers, at 16 bytes each and some for the map.
const maxLimited = 50_000

// limiter allows a burst for each client, and then one more each time that every has passed.
type limiter struct {
	burst int
	every time.Duration
	began time.Time
	seed  maphash.Seed

	mu   sync.Mutex
	free map[uint64]time.Duration // by the hash of a client: when all of its burst is there again
}

func newLimiter(burst int, every time.Duration) *limiter {
	return &limiter{
		burst: burst, every: every, began: time.Now(),
		seed: maphash.MakeSeed(), free: map[uint64]time.Duration{},
	}
}

// take takes one of a client's burst, or returns ErrLimited. The empty client has no limit.
func (l *limiter) take(op, client string) error {
	if client == "" {
		return nil
	}
	k, now := maphash.String(l.seed, client), time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.free[k]; !known && len(l.free) >= maxLimited {
		l.forget(now)
	}
	free := max(l.free[k], now) + l.every
	if wait := free - now - time.Duration(l.burst)*l.every; wait > 0 {
		return &denizen.Error{
			Op: op, Kind: denizen.ErrLimited, Field: "client",
			Reason: "does this too often", RetryAfter: wait,
		}
	}
	l.free[k] = free
	return nil
}

// forget makes room: it drops the half of the clients that used least of their burst.
func (l *limiter) forget(now time.Duration) {
	all := slices.Sorted(maps.Values(l.free))
	least := max(all[len(all)/2], now)
	maps.DeleteFunc(l.free, func(_ uint64, free time.Duration) bool { return free <= least })
}
