package httpadapter_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestIdleAndSlowConnectionsStopNobody needs two file descriptors a connection. A Go program has
// its soft limit raised to the hard one as it starts.
func TestIdleAndSlowConnectionsStopNobody(t *testing.T) {
	idle, slow, good := 2000, 200, 100
	if testing.Short() {
		idle, slow, good = 200, 20, 50
	}
	var accepted, active atomic.Int64 // one is active from the end of its headers to that of its answer
	watch := func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = time.Minute, time.Minute, 2*time.Minute
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				accepted.Add(1)
			case http.StateActive:
				active.Add(1)
			case http.StateIdle:
				active.Add(-1)
			}
		}
	}
	rawServe(t, rawAtRoot, watch, func(s *rawServer) {
		var hanging []net.Conn
		defer func() {
			for _, conn := range hanging {
				_ = conn.Close()
			}
		}()
		open := func() net.Conn {
			conn, err := net.Dial("tcp", s.address)
			require.NoError(t, err)
			hanging = append(hanging, conn)
			require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
			return conn
		}
		ask := s.fill("GET /v1/users/{alice}" + rawGood)
		for range idle {
			loadAsk(t, open(), ask)
		}
		require.Eventually(t, func() bool { return active.Load() == 0 }, time.Minute, time.Millisecond)

		var senders []*loadSlow
		for i := range slow {
			sender := &loadSlow{Conn: open()}
			begun := "GET /v1/users HTTP/1.1\r\nX-Slow: "
			if i%2 == 0 {
				begun = "PUT /v1/users/{alice}/screenname" + rawJSON + "Content-Length: 60000\r\n\r\n{"
			}
			_, err := io.WriteString(sender, s.fill(begun))
			require.NoError(t, err)
			senders = append(senders, sender)
		}
		hang := func() bool { return accepted.Load() >= int64(idle+slow) && active.Load() == int64(slow/2) }
		require.Eventually(t, hang, time.Minute, time.Millisecond)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			now := time.NewTicker(10 * time.Millisecond)
			defer now.Stop()
			for {
				select {
				case <-stop:
					return
				case <-now.C:
					for _, sender := range senders {
						sender.drip()
					}
				}
			}
		}()

		require.Eventually(t, func() bool { return senders[slow-1].sent.Load() > 0 }, time.Minute, time.Millisecond)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}, Timeout: time.Minute}
		defer client.CloseIdleConnections()
		var others sync.WaitGroup
		for worker := range 10 {
			others.Go(func() {
				for i := range good / 10 {
					body := fmt.Sprintf(`{"screenName":"%d %d"}`, worker, i)
					r, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "http://"+s.address+"/v1/users/me/screenname", bytes.NewReader([]byte(body)))
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set("Content-Type", "application/json")
					s.user(r)
					response, err := client.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_ = response.Body.Close()
					if response.StatusCode != http.StatusNoContent {
						t.Errorf("status %d", response.StatusCode)
					}
				}
			})
		}
		others.Wait()
		require.Eventually(t, hang, time.Minute, time.Millisecond, "the slow ones hang no more")
		close(stop)
		<-stopped
		for _, sender := range senders {
			require.NoError(t, sender.err)
		}
		for i := 0; i < idle; i += 100 {
			loadAsk(t, hanging[i], ask)
		}
	})
}

// loadAsk asks on a connection that stays open.
func loadAsk(t *testing.T, conn net.Conn, ask string) {
	t.Helper()
	_, err := io.WriteString(conn, ask)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.False(t, response.Close)
}

// loadSlow sends a byte now and then.
type loadSlow struct {
	net.Conn
	sent atomic.Int64
	err  error
}

func (s *loadSlow) drip() {
	if s.err == nil && s.sent.Load() < 10_000 {
		_, s.err = s.Write([]byte{' '})
		s.sent.Add(1)
	}
}

func TestABodyOfAGibibyteIsRefusedAlmostUnread(t *testing.T) {
	const gibibyte, most = 1 << 30, 1 << 20
	for _, test := range []struct {
		name   string
		length int64
		who    func(*rawServer, *http.Request)
		status int
	}{
		{"Content-Length", gibibyte, func(_ *rawServer, r *http.Request) { app(r) }, 413},
		{"chunked", -1, func(_ *rawServer, r *http.Request) { app(r) }, 413},
		{"Content-Length, user", gibibyte, func(s *rawServer, r *http.Request) { s.user(r) }, 413},
		{"chunked, user", -1, func(s *rawServer, r *http.Request) { s.user(r) }, 413},
		{"Content-Length, nobody", gibibyte, func(*rawServer, *http.Request) {}, 401},
		{"chunked, nobody", -1, func(*rawServer, *http.Request) {}, 401},
		{"Content-Length, signed", gibibyte, func(_ *rawServer, r *http.Request) { loadSigned(r) }, 413},
		{"chunked, signed", -1, func(_ *rawServer, r *http.Request) { loadSigned(r) }, 413},
		{"chunked, another type", -1, func(_ *rawServer, r *http.Request) { app(r); r.Header.Set("Content-Type", "text/plain") }, 415},
	} {
		t.Run(test.name, func(t *testing.T) {
			var handler atomic.Int64
			mount := rawAtRoot
			mount.around = func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Body = readCloser{loadCounter{r.Body, &handler}, r.Body}
					h.ServeHTTP(w, r)
				})
			}
			var client atomic.Int64
			count := func(s *http.Server) {
				s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
					_ = conn.(*net.TCPConn).SetReadBuffer(32 << 10)
					return ctx
				}
			}
			rawServe(t, mount, count, func(s *rawServer) {
				body := loadCounter{loadForever{}, &client}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.address+"/v1/users/me/screenname", io.LimitReader(body, gibibyte))
				require.NoError(t, err)
				r.ContentLength = test.length
				r.Header.Set("Content-Type", "application/json")
				test.who(s, r)
				transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
					if err == nil {
						_ = conn.(*net.TCPConn).SetWriteBuffer(32 << 10) // what lies in the kernel was taken from the client, but not read
					}
					return conn, err
				}}
				defer transport.CloseIdleConnections()
				response, err := transport.RoundTrip(r)
				require.NoError(t, err)
				defer response.Body.Close()
				answered, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				answer{response.StatusCode, response.Header, string(answered)}.refused(t, test.status, rawCode(t, answered))
				require.True(t, response.Close)
				if test.name == "Content-Length" {
					s.alive(t, "")
				}
			})
			t.Logf("taken from the client: %d, read by the handler: %d", client.Load(), handler.Load())
			require.Less(t, client.Load(), int64(most))
			require.LessOrEqual(t, handler.Load(), int64(128<<10))
			if test.length > 0 {
				require.Zero(t, handler.Load())
			}
		})
	}
}

func loadSigned(r *http.Request) {
	r.Header.Set("Authorization", "Auth "+appKey+":AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	r.Header.Set("X-Mitter-Application-Access-Key", appKey)
	r.Header.Set("Nonce", "a nonce of some length")
	r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	r.Header.Set("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
}

type loadCounter struct {
	io.Reader
	count *atomic.Int64
}

func (c loadCounter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.count.Add(int64(n))
	return n, err
}

type loadForever struct{}

func (loadForever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
