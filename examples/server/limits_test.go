package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
)

// from asks for a code as a client of an address.
func (s *inside) from(client, email string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(`{"email": "`+email+`"}`))
	r.RemoteAddr = net.JoinHostPort(client, "4711")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func TestOneClientThatAsksForAllStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		let := 0
		for i := range 10_000 {
			w := s.from("192.0.2.66", fmt.Sprintf("junk-%d@example.org", i))
			if w.Code == http.StatusAccepted {
				let++
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, w.Code)
			require.Equal(t, "rate_limited", field(t, w.Body.String(), "errorCode"))
			require.Equal(t, "20", w.Header().Get("Retry-After"))
		}
		require.Equal(t, 30, let)
		s.people.sending.Wait()
		s.signIn("alice@example.org")

		time.Sleep(20 * time.Second)
		require.Equal(t, http.StatusAccepted, s.from("192.0.2.66", "bob@example.org").Code)
	})
}

func TestARefusalForAskingTooOftenIsTheSameForKnownAndUnknownAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		denizentest.User(t, s.dir, "Alice", denizen.Email("alice@example.org"))
		var refused []*httptest.ResponseRecorder
		for _, address := range []string{"alice@example.org", "nobody@example.org"} {
			for client := range 3 {
				for range 4 {
					require.Equal(t, http.StatusAccepted, s.from(fmt.Sprintf("192.0.2.%d", client+1), address).Code)
				}
				refused = append(refused, s.from(fmt.Sprintf("192.0.2.%d", client+1), address))
			}
			refused = append(refused, s.from("192.0.2.99", address))
		}
		for i := range 4 {
			known, unknown := refused[i], refused[4+i]
			require.Equal(t, http.StatusTooManyRequests, known.Code)
			require.Equal(t, known.Code, unknown.Code)
			require.Equal(t, known.Header(), unknown.Header())
			require.Equal(t, known.Body.String(), unknown.Body.String())
			require.NotEmpty(t, known.Header().Get("Retry-After"))
		}
		require.Equal(t, http.StatusAccepted, s.from("192.0.2.1", "bob@example.org").Code, "it is not for other addresses")
		time.Sleep(15 * time.Minute)
		require.Equal(t, http.StatusAccepted, s.from("192.0.2.1", "alice@example.org").Code)
	})
}

// One who keeps asking for Alice's codes uses up its own share.
func TestOneClientDoesNotUseUpTheCodesOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		for range 100 {
			s.from("203.0.113.5", "alice@example.org")
		}
		s.people.sending.Wait()
		s.signIn("alice@example.org")
	})
}

func TestTryingCodesHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		for range 30 {
			require.Equal(t, http.StatusForbidden, s.enter("no proof", "12345678").Code)
		}
		w := s.enter("no proof", "12345678")
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Equal(t, "20", w.Header().Get("Retry-After"))
	})
}

func TestStrangersShutOutStrangersAndNeverAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCodes()
		first, _, err := c.make("first", "email:first@example.org", false)
		require.NoError(t, err)
		for i := 1; i < maxStranger; i++ {
			_, send, err := c.make(fmt.Sprint(i), "email:junk@example.org", false)
			require.NoError(t, err)
			require.True(t, send)
		}
		member, send, err := c.make("member", "email:alice@example.org", true)
		require.NoError(t, err)
		require.True(t, send)

		code, send, err := c.make("last", "email:last@example.org", false)
		require.NoError(t, err)
		require.False(t, send)
		_, ok := c.use("last", code)
		require.False(t, ok, "nobody can know it")
		_, ok = c.use("first", first)
		require.False(t, ok, "the oldest stranger made room")
		_, ok = c.use("member", member)
		require.True(t, ok)
		require.Len(t, c.byProof, maxStranger+1)

		time.Sleep(codeLife)
		_, send, err = c.make("later", "email:later@example.org", false)
		require.NoError(t, err)
		require.True(t, send)
		require.Len(t, c.byProof, 1)
	})
}

func TestWhoIsRememberedForItsLimitHasABound(t *testing.T) {
	l := newLimiter(2, time.Hour)
	for range 2 {
		require.Zero(t, l.take("flooder"))
	}
	for i := range 2 * maxLimited {
		l.take(fmt.Sprint(i))
	}
	require.LessOrEqual(t, len(l.free), maxLimited)
	require.NotZero(t, l.take("flooder"), "who used most is remembered longest")
}

func TestAClientIsWhoItsProxySaysAndNobodyElseSays(t *testing.T) {
	for name, c := range map[string]struct {
		proxies, peer string
		forwarded     []string
		client, site  string
	}{
		"no proxy":             {"", "192.0.2.1:1", nil, "192.0.2.1", ""},
		"a stranger says":      {"", "192.0.2.1:1", []string{"198.51.100.7"}, "192.0.2.1", ""},
		"not of the proxies":   {"10.0.0.0/8", "192.0.2.1:1", []string{"198.51.100.7"}, "192.0.2.1", ""},
		"a proxy":              {"10.0.0.0/8", "10.1.2.3:1", []string{"198.51.100.7"}, "198.51.100.7", ""},
		"a client that writes": {"10.0.0.0/8", "10.1.2.3:1", []string{"1.1.1.1, 198.51.100.7"}, "198.51.100.7", ""},
		"in two headers":       {"10.0.0.0/8", "10.1.2.3:1", []string{"1.1.1.1", "198.51.100.7"}, "198.51.100.7", ""},
		"two proxies":          {"10.0.0.0/8,192.0.2.9", "10.1.2.3:1", []string{"198.51.100.7, 192.0.2.9"}, "198.51.100.7", ""},
		"a proxy says nothing": {"10.0.0.0/8", "10.1.2.3:1", nil, "10.1.2.3", ""},
		"or nothing good":      {"10.0.0.0/8", "10.1.2.3:1", []string{"unknown"}, "10.1.2.3", ""},
		"IPv6":                 {"", "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1:2::/64", "2001:db8:1::/48"},
		"IPv4 in IPv6":         {"", "[::ffff:192.0.2.1]:1", nil, "192.0.2.1", ""},
		"with a zone":          {"", "[fe80::1%eth0]:1", nil, "fe80::/64", "fe80::/48"},
		"no address":           {"", "@", nil, "unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			proxies, err := prefixes(c.proxies)
			require.NoError(t, err)
			r := httptest.NewRequest("POST", "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forwarded
			client, site := newLimits(proxies).client(r)
			require.Equal(t, [2]string{c.client, c.site}, [2]string{client, site})
		})
	}
	_, err := prefixes("10.0.0.0/8, the proxy")
	require.ErrorContains(t, err, "-proxies the proxy: must be")
}

func TestTheAnswerGoesOutBeforeAnythingIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		s.people.close() // nobody works any more: no answer waits for them
		synctest.Wait()
		s.people.closed = false
		for i := range maxStarts + 1 {
			r := fmt.Sprintf("%d@example.org", i)
			require.Equal(t, http.StatusAccepted, s.from(fmt.Sprintf("10.0.%d.%d", i/250, i%250), r).Code)
		}
		require.Len(t, s.people.starts, maxStarts)
		require.Equal(t, 1, strings.Count(s.log.String(), "too many wait"))
		for len(s.people.starts) > 0 {
			<-s.people.starts
			s.people.sending.Done()
		}
	})
}

func TestCodesThatWaitAreSentAtTheEnd(t *testing.T) {
	s := newInside(t, "")
	for i := range 20 {
		require.Equal(t, http.StatusAccepted, s.from("192.0.2.7", fmt.Sprintf("%d@example.org", i)).Code)
	}
	s.people.close()
	require.Equal(t, 20, strings.Count(s.log.String(), "code="))
	require.Equal(t, http.StatusAccepted, s.from("192.0.2.7", "late@example.org").Code)
	require.Equal(t, 20, strings.Count(s.log.String(), "code="))
}

func TestARootKeyIsThirtyTwoBytesInEitherSpelling(t *testing.T) {
	key := []byte(strings.Repeat("k", 31) + "!")
	for _, text := range []string{base64.StdEncoding.EncodeToString(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key))} {
		got, err := rootKey(text)
		require.NoError(t, err)
		require.Equal(t, key, got)
	}
	none, err := rootKey("")
	require.NoError(t, err)
	require.Nil(t, none)
	for _, bad := range []string{"secret", base64.StdEncoding.EncodeToString(key[1:]), hex.EncodeToString(key[1:]), strings.Repeat("z", 64), " " + hex.EncodeToString(key)} {
		_, err := rootKey(bad)
		require.ErrorContains(t, err, "DENIZEN_ROOT_KEY must be 32 bytes")
		require.NotContains(t, err.Error(), bad)
	}
}

// slowly is a listener for one connection in memory.
type slowly struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l slowly) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l slowly) Close() error   { return nil }
func (l slowly) Addr() net.Addr { return &net.TCPAddr{} }

func TestABodyThatNeverComesIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newInside(t, "")
		server := newServer(s.handler, slog.New(slog.DiscardHandler))
		l := slowly{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		go func() { _ = server.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		began := time.Now()
		_, err := ours.Write([]byte("POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"))
		require.NoError(t, err)
		buffer := make([]byte, 4096)
		n, err := ours.Read(buffer)
		require.NoError(t, err)
		require.Contains(t, string(buffer[:n]), " 413 ")
		require.Equal(t, 15*time.Second, time.Since(began))
		close(l.closed)
		ours.Close()
		require.NoError(t, server.Close())
	})
}
