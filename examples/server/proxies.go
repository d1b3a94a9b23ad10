package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the addresses of the proxies before the server.
type proxies []netip.Prefix

// client returns whom a request counts for: an IPv4 address, or the /64 of an IPv6 address, which
// is what one machine has for itself.
//
// X-Forwarded-For says who a client of a known proxy is, and anything else is what a stranger
// wrote: it is read from its end, for as long as the address before it is a proxy's.
func (all proxies) client(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	from := peer.Addr().Unmap()
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(forwarded) {
		if !slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(from) }) {
			break
		}
		before, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			break
		}
		from = before.Unmap()
	}
	if from = from.WithZone(""); from.Is4() {
		return from.String()
	}
	machine, _ := from.Prefix(64)
	return machine.String()
}

// parseProxies parses a comma-separated list of addresses and prefixes.
func parseProxies(list string) (all proxies, err error) {
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
