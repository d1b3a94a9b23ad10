package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// counted is a server on 127.0.0.1 that counts its requests.
func counted(t *testing.T, status int, location string) (s *httptest.Server, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s, requests
}

// tryOnce makes one request to an endpoint.
func tryOnce(t *testing.T, e Endpoint) error {
	t.Helper()
	e.Secrets = []string{testSecret}
	p, err := newPoster(e)
	require.NoError(t, err)
	defer p.transport.CloseIdleConnections()
	_, err = p.try(t.Context(), "msg_1", []byte("{}"))
	return err
}

func TestSocket_AnAddressThatIsNotOfTheInternetIsNotConnectedTo(t *testing.T) {
	s, requests := counted(t, 204, "")
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "localhost"} {
		err := tryOnce(t, Endpoint{URL: "http://" + host + ":" + port, AllowHTTP: true})
		require.ErrorContains(t, err, "no address of the internet", host)
	}
	require.Zero(t, requests.Load())
	require.NoError(t, tryOnce(t, Endpoint{URL: s.URL, AllowHTTP: true, Allow: loopback}))
	require.EqualValues(t, 1, requests.Load())
}

func TestSocket_ARedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		target, followed := counted(t, 204, "")
		s, _ := counted(t, status, target.URL)
		require.Error(t, tryOnce(t, Endpoint{URL: s.URL, AllowHTTP: true, Allow: loopback}))
		require.Zero(t, followed.Load(), status)
	}
}

func TestSocket_NoProxyIsUsed(t *testing.T) {
	p, err := newPoster(Endpoint{URL: "https://receiver.example", Secrets: []string{testSecret}})
	require.NoError(t, err)
	require.Nil(t, p.transport.Proxy)
}

func TestSocket_HTTPSNeedsACertificateThatIsValid(t *testing.T) {
	var got request
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			got = read(t, r.Header, body)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	err := tryOnce(t, Endpoint{URL: s.URL, Allow: loopback})
	require.ErrorContains(t, err, "certificate")
	require.NotContains(t, err.Error(), "Acme Co", "which the receiver says")
	require.Empty(t, got.id)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	d := newMemory(t, denizen.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	outcome := make(chan error, 1)
	go func() {
		outcome <- Post(ctx, d, system, "partner", Endpoint{
			URL: s.URL, Secrets: []string{testSecret}, Allow: loopback, TLS: &tls.Config{RootCAs: roots},
		})
	}()
	require.Eventually(t, func() bool {
		list, err := d.Consumers(t.Context(), system)
		return err == nil && len(list) == 1 && list[0].Cursor != ""
	}, time.Minute, 5*time.Millisecond)
	cancel()
	requireStopped(t, <-outcome)
	require.Len(t, got.events, 1)
	require.Equal(t, "directory.founded", got.events[0].Kind)
}

// names is a name server on a pipe. The n-th look-up of any name gets the n-th address, and then
// the last one again and again.
type names struct {
	addresses [][4]byte
	asked     atomic.Int64
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // not a PacketConn, so as over TCP, with lengths
		go n.answer(theirs)
		return ours, nil
	}}
}

func (n *names) answer(c net.Conn) {
	defer c.Close()
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	q := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, q); err != nil {
		return
	}
	end := 12 // of the question: its name, type and class
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5
	a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	if q[end-3] == 1 { // an A record, and not an AAAA record
		address := n.addresses[min(int(n.asked.Add(1)), len(n.addresses))-1]
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, address[:]...)
	}
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
}

// The name is harmless when it is looked up first, and later it leads to something private.
func TestSocket_ANameThatLeadsElsewhereLaterIsJudgedAgain(t *testing.T) {
	public, requests := counted(t, 204, "")
	_, port, _ := strings.Cut(strings.TrimPrefix(public.URL, "http://"), ":")
	inner, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skip("this system has one loopback address")
	}
	var reached atomic.Int64
	private := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	private.Listener.Close()
	private.Listener = inner
	private.Start()
	t.Cleanup(private.Close)

	p, err := newPoster(Endpoint{
		URL: "http://rebinding.example:" + port, AllowHTTP: true, Secrets: []string{testSecret}, Allow: loopback,
	})
	require.NoError(t, err)
	server := &names{addresses: [][4]byte{{127, 0, 0, 1}, {127, 0, 0, 2}}}
	p.dialer.Resolver = server.resolver()
	_, err = p.try(t.Context(), "msg_1", []byte("{}"))
	require.NoError(t, err)
	// What is connected stays connected to what was judged.
	_, err = p.try(t.Context(), "msg_2", []byte("{}"))
	require.NoError(t, err)
	require.EqualValues(t, 2, requests.Load())
	require.EqualValues(t, 1, server.asked.Load())
	p.transport.CloseIdleConnections()
	_, err = p.try(t.Context(), "msg_3", []byte("{}"))
	require.ErrorContains(t, err, "refuses to connect to 127.0.0.2")
	require.EqualValues(t, 2, server.asked.Load())
	require.Zero(t, reached.Load())
}
