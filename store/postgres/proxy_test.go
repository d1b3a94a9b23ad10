package postgres_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// proxy is between a pool and the server, and treats their connections as a network may.
type proxy struct {
	listener net.Listener
	target   string
	renumber bool // as a pooler does with the numbers of sessions

	mu     sync.Mutex
	links  map[*link]bool
	shut   bool
	lag    time.Duration
	watch  []*watch
	fault  func(sent []byte) verdict // called for each message of a client
	closed sync.WaitGroup
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	deaf, mute     atomic.Bool // nothing goes on to the server, or to the client
}

type watch struct {
	text string
	n    atomic.Int64
}

// verdict is what happens to a message of a client, and to its connection.
type verdict int

const (
	pass    verdict = iota
	cutOff          // it does not arrive, and the connection is cut
	noReply         // it arrives, but the connection is cut instead of a response
)

func newProxy(t *testing.T) *proxy {
	t.Helper()
	config, err := pgx.ParseConfig(server(t))
	require.NoError(t, err)
	return newProxyTo(t, net.JoinHostPort(config.Host, portOf(config)))
}

func newProxyTo(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, target: target, links: map[*link]bool{}}
	p.closed.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.refuse(true)
		p.cut()
		p.closed.Wait()
	})
	return p
}

// dsn returns the connection string of the server, with the address of the proxy.
func (p *proxy) dsn(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(server(t))
	require.NoError(t, err)
	u.Host = p.listener.Addr().String()
	q := u.Query()
	q.Set("sslmode", "disable") // the proxy reads along
	u.RawQuery = q.Encode()
	return u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		l := &link{client: client, server: server}
		p.mu.Lock()
		if err != nil || p.shut {
			p.mu.Unlock()
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.links[l] = true
		p.mu.Unlock()
		p.closed.Go(func() { p.up(l) })
		p.closed.Go(func() { p.down(l) })
	}
}

func (p *proxy) up(l *link) {
	defer p.end(l)
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		lag, fault := p.lag, p.fault
		for _, w := range p.watch {
			w.n.Add(int64(bytes.Count(buffer[:n], []byte(w.text))))
		}
		p.mu.Unlock()
		time.Sleep(lag)
		if fault != nil {
			switch fault(buffer[:n]) {
			case cutOff:
				return
			case noReply:
				l.mute.Store(true)
			}
		}
		if l.deaf.Load() {
			continue
		}
		if _, err := l.server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) down(l *link) {
	defer p.end(l)
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		if l.mute.Load() {
			if !l.deaf.Load() {
				return // there was a response, which is enough
			}
			continue
		}
		if i := bytes.Index(buffer[:n], []byte("K\x00\x00\x00\x0c")); p.renumber && i >= 0 && i+9 <= n {
			pid := buffer[i+5 : i+9]
			binary.BigEndian.PutUint32(pid, binary.BigEndian.Uint32(pid)+1_000_000)
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// end closes both halves of a link, unless the link is to stay half open.
func (p *proxy) end(l *link) {
	_ = l.client.Close()
	if !l.deaf.Load() {
		_ = l.server.Close()
	}
}

func (p *proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

// cut ends every connection.
func (p *proxy) cut() {
	p.each(func(l *link) {
		_ = l.client.Close()
		_ = l.server.Close()
		delete(p.links, l)
	})
}

// halfOpen drops everything that is sent on the existing connections, in both directions, without
// closing them.
func (p *proxy) halfOpen() { p.each(func(l *link) { l.deaf.Store(true); l.mute.Store(true) }) }

// refuse sets whether new connections are refused.
func (p *proxy) refuse(yes bool) { p.set(func() { p.shut = yes }) }

// delay delays everything that clients send.
func (p *proxy) delay(d time.Duration) { p.set(func() { p.lag = d }) }

// judge sets the function that decides what happens to what clients send.
func (p *proxy) judge(f func(sent []byte) verdict) { p.set(func() { p.fault = f }) }

func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// count counts how often clients send a text.
func (p *proxy) count(text string) func() int64 {
	w := &watch{text: text}
	p.set(func() { p.watch = append(p.watch, w) })
	return w.n.Load
}
