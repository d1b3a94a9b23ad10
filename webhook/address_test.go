package webhook

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnAddressOfTheInternetIsPublic(t *testing.T) {
	for _, text := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:1.1.1.1",
		"2606:4700::1111", "2001:200::1", "2a00::1", "64:ff9b::1.1.1.1",
	} {
		require.True(t, public(netip.MustParseAddr(text)), text)
	}
}

func TestAnAddressThatIsNotOfTheInternetIsRefused(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.0.1",
		"168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
		"192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
		"255.255.255.255",
		"::", "::1", "::10.0.0.1", "::1.1.1.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:0:1.1.1.1",
		"64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::1.1.1.1", "100::1",
		"2001::1", "2001:0:a00:1::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1",
		"3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
	} {
		require.False(t, public(netip.MustParseAddr(text)), text)
	}
}

func TestAnAddressMayBeAllowed(t *testing.T) {
	control := judge([]netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("::1/128")})
	for address, allowed := range map[string]bool{
		"10.2.3.4:443":          true,
		"[::ffff:10.2.3.4]:443": true,
		"[::1]:443":             true,
		"1.1.1.1:443":           true,
		"10.3.0.1:443":          false,
		"127.0.0.1:443":         false,
		"[64:ff9b::a02:304]:1":  false, // it is not the address that was allowed
		"[fe80::1%lo]:443":      false,
		"somewhere":             false,
	} {
		require.Equal(t, allowed, control("tcp", address, nil) == nil, address)
	}
}
