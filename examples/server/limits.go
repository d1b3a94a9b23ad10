package main

import (
	"fmt"
	"hash/maphash"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// limits say who asks too often. They are judged before anything is looked up, so a refusal is
// the same for an address that somebody owns and for any other.
type limits struct {
	proxies []netip.Prefix

	starts, siteStarts *limiter // of a client, and of a whole IPv6 site
	tries, siteTries   *limiter
	share              *limiter // of a client in the codes for one address
	address            *limiter // codes for one address, whoever asks
}

func newLimits(proxies []netip.Prefix) *limits {
	return &limits{
		proxies: proxies,
		starts:  newLimiter(30, 20*time.Second), siteStarts: newLimiter(120, 5*time.Second),
		tries: newLimiter(30, 20*time.Second), siteTries: newLimiter(120, 5*time.Second),
		share: newLimiter(4, 15*time.Minute), address: newLimiter(12, 5*time.Minute),
	}
}

// start returns how long the sender of a request must wait before it may ask for a code for an
// address, 0 if it may now.
func (l *limits) start(r *http.Request, address string) time.Duration {
	client, site := l.client(r)
	if wait := max(l.starts.take(client), l.siteStarts.take(site)); wait > 0 {
		return wait
	}
	if wait := l.share.take(client + " " + address); wait > 0 {
		return wait // and what others may ask for stays
	}
	return l.address.take(address)
}

// try is start for trying a code.
func (l *limits) try(r *http.Request) time.Duration {
	client, site := l.client(r)
	return max(l.tries.take(client), l.siteTries.take(site))
}

// client returns whom a request counts for: an IPv4 address, or the /64 of an IPv6 address, which
// is what one machine has for itself; and the /48 of the latter, which a customer may have.
//
// X-Forwarded-For says who a client of a known proxy is, and anything else is what a stranger
// wrote: it is read from its end, for as long as the address before it is a proxy's.
func (l *limits) client(r *http.Request) (client, site string) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown", ""
	}
	from := peer.Addr().Unmap()
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(forwarded) {
		if !slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(from) }) {
			break
		}
		before, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			break
		}
		from = before.Unmap()
	}
	if from = from.WithZone(""); from.Is4() {
		return from.String(), ""
	}
	machine, _ := from.Prefix(64)
	customer, _ := from.Prefix(48)
	return machine.String(), customer.String()
}

// prefixes parses a comma-separated list of addresses and prefixes.
func prefixes(list string) (all []netip.Prefix, err error) {
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("-proxies %s: must be an address or a prefix, such as 10.0.0.0/8", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// maxLimited is how many keys a limiter remembers, at 16 bytes each and some for the map.
const maxLimited = 50_000

// A limiter allows a burst for each key, and then one more each time that every has passed.
type limiter struct {
	burst int
	every time.Duration
	began time.Time
	seed  maphash.Seed

	mu   sync.Mutex
	free map[uint64]time.Duration // by the hash of a key: when all of its burst is there again
}

func newLimiter(burst int, every time.Duration) *limiter {
	return &limiter{
		burst: burst, every: every, began: time.Now(),
		seed: maphash.MakeSeed(), free: map[uint64]time.Duration{},
	}
}

// take takes one of a key's burst, or returns how long until there is one. The empty key is
// nobody's, and without a limit.
func (l *limiter) take(key string) (wait time.Duration) {
	if key == "" {
		return 0
	}
	k, now := maphash.String(l.seed, key), time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.free[k]; !known && len(l.free) >= maxLimited {
		l.forget(now)
	}
	free := max(l.free[k], now) + l.every
	if wait := free - now - time.Duration(l.burst)*l.every; wait > 0 {
		return wait
	}
	l.free[k] = free
	return 0
}

// forget makes room: it drops the half of the keys that used least of their burst.
func (l *limiter) forget(now time.Duration) {
	all := slices.Sorted(maps.Values(l.free))
	least := max(all[len(all)/2], now)
	maps.DeleteFunc(l.free, func(_ uint64, free time.Duration) bool { return free <= least })
}

// tooMany refuses whoever must wait.
func tooMany(w http.ResponseWriter, wait time.Duration) {
	seconds := int64((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	refuse(w, http.StatusTooManyRequests, "rate_limited", "that was too often: try again later")
}
