package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
)

// commits counts commits.
type commits struct {
	store.Store
	n atomic.Int64
}

func (s *commits) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.n.Add(1)
	return s.Store.Commit(ctx, b)
}

// dying is one process's way to a store, which can be cut: nothing is written by it any more.
type dying struct {
	store.Store
	store.Sole
	dead atomic.Bool
}

func (s *dying) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.dead.Load() {
		return 0, fmt.Errorf("%w: the process is gone", store.ErrUnavailable)
	}
	return s.Store.Commit(ctx, b)
}

// unsoled is a store that is shared by processes.
type unsoled struct{ store.Store }

// strict holds what is posted to the promise: a request is the one before it again, byte for byte,
// or it goes on after that without a gap.
type strict struct {
	t      *testing.T
	writer *denizen.Directory
	random *mathrand.Rand

	mu    sync.Mutex
	kill  func() // whoever posts, in the midst of a request; nil: nobody
	calm  bool   // nothing fails any more
	last  request
	told  map[denizen.Seq]bool
	again int
}

// take takes a request, and returns the status of the answer. It is not called by the goroutine of
// the test, so it does not end it.
func (s *strict) take(q request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.id == s.last.id {
		assert.Equal(s.t, s.last.body, q.body)
		s.again++
	} else {
		latest := denizen.Seq(0)
		if n := len(s.last.events); n > 0 {
			latest = s.last.events[n-1].Sequence
		}
		assert.Greater(s.t, q.events[0].Sequence, latest, "it comes again under another id")
		for _, e := range feed(s.t, s.writer) {
			assert.False(s.t, e.Seq > latest && e.Seq < q.events[0].Sequence, "%d is missed", e.Seq)
		}
		s.last = q
	}
	for _, e := range q.events {
		s.told[e.Sequence] = true
	}
	if s.kill != nil {
		s.kill()
		s.kill = nil
	}
	if !s.calm && s.random.IntN(2) == 0 {
		return http.StatusInternalServerError
	}
	return http.StatusNoContent
}

// killed kills a process in the midst of a request, again and again, and starts another one.
// It is killed hard, so that it writes nothing more, if hard says so.
func killed(
	t *testing.T, rounds int, hard func(i int) bool, open func() store.Store,
	post func(ctx context.Context, d *denizen.Directory, take func(request) int) error,
) {
	r := mathrand.New(mathrand.NewPCG(1, 2))
	writer := newOver(t, unsoled{open()}, denizen.Options{})
	receiver := &strict{t: t, told: map[denizen.Seq]bool{}, writer: writer, random: mathrand.New(mathrand.NewPCG(3, 4))}
	for i := range rounds {
		newUsers(t, writer, fmt.Sprintf("user-%d", i), r.IntN(4)+1)
		s := open()
		sole, _ := s.(store.Sole)
		way := &dying{Store: s, Sole: sole}
		var over store.Store = way
		if sole == nil {
			over = unsoled{way}
		}
		d, err := denizen.New(context.Background(), over, denizen.Options{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		receiver.mu.Lock()
		receiver.kill = func() {
			way.dead.Store(hard(i))
			cancel()
		}
		receiver.mu.Unlock()
		require.ErrorIs(t, post(ctx, d, receiver.take), denizen.ErrUnavailable)
		_ = d.Close()
	}
	receiver.mu.Lock()
	require.Greater(t, receiver.again, rounds/4)
	receiver.calm = true
	receiver.mu.Unlock()
	d := newOver(t, open(), denizen.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	outcome := make(chan error, 1)
	go func() { outcome <- post(ctx, d, receiver.take) }()
	require.Eventually(t, func() bool {
		head, err := writer.Head(context.Background(), system)
		require.NoError(t, err)
		return consumer(t, writer).Cursor == head
	}, 2*time.Minute, 10*time.Millisecond)
	cancel()
	requireStopped(t, <-outcome)
	for _, e := range feed(t, writer) {
		require.True(t, receiver.told[e.Seq], "%d is missed", e.Seq)
	}
}

// overSockets posts to a server of its own.
func overSockets(t *testing.T) func(context.Context, *denizen.Directory, func(request) int) error {
	return func(ctx context.Context, d *denizen.Directory, take func(request) int) error {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil {
				w.WriteHeader(take(read(t, r.Header, body)))
			}
		}))
		defer server.Close()
		return Post(ctx, d, system, "partner", Endpoint{
			URL: server.URL, AllowHTTP: true, Allow: loopback, Secrets: []string{testSecret},
		})
	}
}

// overPipes is overSockets in virtual time.
func overPipes(t *testing.T) func(context.Context, *denizen.Directory, func(request) int) error {
	return func(ctx context.Context, d *denizen.Directory, take func(request) int) error {
		r := &receiver{t: t}
		r.answer = func(n int, c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", take(r.requests()[n-1]))
		}
		stop := r.posting(d, Endpoint{})
		<-ctx.Done()
		return stop()
	}
}

func always(int) bool { return true }

func TestCrash_WhoIsKilledMissesNothingAndTheNextRepeatsTheSameBytes(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		s := memory.New()
		killed(t, long.Of(60, 200), always, func() store.Store { return s }, overSockets(t))
	})
	t.Run("bolt", func(t *testing.T) {
		s, err := bolt.Open(context.Background(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
		require.NoError(t, err)
		killed(t, long.Of(60, 200), always, func() store.Store { return s }, overSockets(t))
		require.NoError(t, s.Close())
	})
	t.Run("shared", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := memory.New()
			killed(t, 200, func(i int) bool { return i%3 > 0 }, func() store.Store { return unsoled{s} }, overPipes(t))
		})
	})
	// There another process takes over half a minute after a hard end.
	t.Run("postgres", func(t *testing.T) {
		killed(t, long.Of(20, 40), func(i int) bool { return i%20 == 3 }, openPostgres(t), overSockets(t))
	})
}

// openPostgres returns how to open a schema that only this test uses.
func openPostgres(t *testing.T) func() store.Store {
	t.Helper()
	dsn := os.Getenv("DENIZEN_POSTGRES")
	if dsn == "" {
		t.Skip("DENIZEN_POSTGRES is not set")
	}
	schema := "webhook_" + strings.ToLower(rand.Text())
	pool, err := pgxpool.New(context.Background(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		pool.Close()
		require.NoError(t, err)
	})
	return func() store.Store {
		s, err := postgres.Open(context.Background(), pool, postgres.Options{Schema: schema})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}
