package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// refused are the addresses that are nobody's on the internet, and so may be somebody's nearby.
// They are those of the IANA registries of special-purpose addresses that are not globally
// reachable, and of the ways from IPv6 to IPv4 but NAT64. Of IPv6 only 2000::/3 is given out
// at all.
var refused = [...]string{
	"0.0.0.0/8",        // this host
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // behind a carrier's NAT, RFC 6598
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // a public address, by which a cloud serves its machines
	"169.254.0.0/16",   // link-local, with the metadata of clouds
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // relays of 6to4
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks, RFC 2544
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast

	"2001::/23",     // protocol assignments, with Teredo, benchmarks and ORCHID
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4
	"3fff::/20",     // documentation
}

const (
	given = "2000::/3"
	nat64 = "64:ff9b::/96" // RFC 6052
)

// public reports whether an address is one of the internet. One of NAT64 is if that within it is.
func public(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if in(a, nat64) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, p := range refused {
		if in(a, p) {
			return false
		}
	}
	return a.Is4() || in(a, given)
}

func in(a netip.Addr, prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) }

// judge returns a Control of a net.Dialer. It sees each address that is about to be connected to,
// whatever name it came from and however often the name was looked up.
func judge(allow []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("refuses an address: %w", err)
		}
		a := at.Addr().WithZone("").Unmap()
		if !public(a) && !slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return fmt.Errorf("refuses to connect to %s, which is no address of the internet", a)
		}
		return nil
	}
}
