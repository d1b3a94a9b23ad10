package main

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAClientIsWhoItsProxySaysAndNobodyElseSays(t *testing.T) {
	for name, c := range map[string]struct {
		proxies, peer string
		forwarded     []string
		client        string
	}{
		"no proxy":             {"", "192.0.2.1:1", nil, "192.0.2.1"},
		"a stranger says":      {"", "192.0.2.1:1", []string{"198.51.100.7"}, "192.0.2.1"},
		"not of the proxies":   {"10.0.0.0/8", "192.0.2.1:1", []string{"198.51.100.7"}, "192.0.2.1"},
		"a proxy":              {"10.0.0.0/8", "10.1.2.3:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"a client that writes": {"10.0.0.0/8", "10.1.2.3:1", []string{"1.1.1.1, 198.51.100.7"}, "198.51.100.7"},
		"in two headers":       {"10.0.0.0/8", "10.1.2.3:1", []string{"1.1.1.1", "198.51.100.7"}, "198.51.100.7"},
		"two proxies":          {"10.0.0.0/8,192.0.2.9", "10.1.2.3:1", []string{"198.51.100.7, 192.0.2.9"}, "198.51.100.7"},
		"a proxy says nothing": {"10.0.0.0/8", "10.1.2.3:1", nil, "10.1.2.3"},
		"or nothing good":      {"10.0.0.0/8", "10.1.2.3:1", []string{"unknown"}, "10.1.2.3"},
		"IPv6":                 {"", "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1:2::/64"},
		"IPv4 in IPv6":         {"", "[::ffff:192.0.2.1]:1", nil, "192.0.2.1"},
		"with a zone":          {"", "[fe80::1%eth0]:1", nil, "fe80::/64"},
		"no address":           {"", "@", nil, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			proxies, err := parseProxies(c.proxies)
			require.NoError(t, err)
			r := httptest.NewRequest("POST", "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forwarded
			require.Equal(t, c.client, proxies.client(r))
		})
	}
	_, err := parseProxies("10.0.0.0/8, the proxy")
	require.ErrorContains(t, err, "-proxies the proxy: must be")
}
