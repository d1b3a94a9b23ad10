package postgres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func portOf(c *pgx.ConnConfig) string { return strconv.Itoa(int(c.Port)) }

// claims are writers that claim keys, several of them each key, and the results they got.
type claims struct {
	next    atomic.Int64
	stop    chan struct{}
	writers sync.WaitGroup

	mu       sync.Mutex
	outcomes map[string]outcome // of each attempt
	acked    int
	unknown  int
	away     int
	strange  error
}

type outcome struct {
	key store.Key
	seq store.Seq
	err error
}

// rivals is how many attempts there are for each key.
const rivals = 3

// contend runs writers on stores of the same data.
func contend(stores ...*postgres.Store) *claims {
	c := &claims{stop: make(chan struct{}), outcomes: map[string]outcome{}}
	for w := range 8 {
		c.writers.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
					c.attempt(stores[w%len(stores)])
				}
			}
		})
	}
	return c
}

func (c *claims) attempt(s *postgres.Store) {
	n := c.next.Add(1)
	key, by := store.Key(fmt.Sprintf("claimed/%d", n/rivals)), fmt.Sprint(n)
	value := fmt.Appendf(nil, `{"by":%q,"pad":%q}`, by, strings.Repeat("x", 200))
	seq, err := s.Commit(context.Background(), store.Batch{
		If: []store.Cond{{Key: key}}, Put: []store.Record{{Key: key, Value: value}}, Emit: value,
	})
	if errors.Is(err, store.ErrUnavailable) {
		// As a caller would; otherwise the attempts take all the time.
		time.Sleep(5 * time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[by] = outcome{key, seq, err}
	switch {
	case err == nil:
		c.acked++
	case errors.Is(err, store.ErrOutcomeUnknown):
		c.unknown++
	case errors.Is(err, store.ErrUnavailable):
		c.away++
	case !errors.Is(err, store.ErrConflict):
		c.strange = err
	}
}

// progress returns once n more keys are claimed, which shows that the service is back.
func (c *claims) progress(t *testing.T, n int) {
	t.Helper()
	acked := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.acked
	}
	from := acked()
	require.Eventually(t, func() bool { return acked() >= from+n }, time.Minute, time.Millisecond, "service does not come back")
}

// verify stops the writers and compares the contents of s with their results.
func (c *claims) verify(t *testing.T, s store.Store) {
	t.Helper()
	close(c.stop)
	c.writers.Wait()
	require.NoError(t, c.strange)
	by := func(value []byte) string {
		var v struct{ By string }
		require.NoError(t, json.Unmarshal(value, &v))
		return v.By
	}
	events := map[string]store.Seq{}
	for after := store.Seq(0); ; {
		feed, err := s.Changes(t.Context(), after, 1_000)
		require.NoError(t, err)
		for _, change := range feed.Changes {
			require.Greater(t, change.Seq, after)
			after = change.Seq
			require.NotContains(t, events, by(change.Event), "applied twice")
			events[by(change.Event)] = change.Seq
		}
		if len(feed.Changes) < 1_000 {
			break
		}
	}
	owned := map[string]bool{}
	for r := (store.Range{Under: "claimed/", Limit: 1_000}); ; {
		page, err := s.List(t.Context(), r)
		require.NoError(t, err)
		for _, rec := range page {
			r.After = rec.Key
			owner := by(rec.Value)
			owned[owner] = true
			o, ok := c.outcomes[owner]
			require.True(t, ok)
			require.Equal(t, o.key, rec.Key)
			require.Equal(t, rec.Version, events[owner], "half of a batch")
			if o.err != nil {
				require.ErrorIs(t, o.err, store.ErrOutcomeUnknown, "it was said not to be applied, but it was")
			} else {
				require.Equal(t, o.seq, rec.Version)
			}
		}
		if len(page) < r.Limit {
			break
		}
	}
	require.Len(t, events, len(owned), "an event without its record")
	applied := 0
	for attempt, o := range c.outcomes {
		if o.err == nil {
			require.True(t, owned[attempt], "an acknowledged write is lost")
		} else if owned[attempt] {
			applied++
		}
	}
	t.Logf("%d attempts, %d acknowledged, %d unavailable, %d unknown, of which %d applied", len(c.outcomes), c.acked, c.away, c.unknown, applied)
}

// hasty returns options that make a store notice a dead connection fast.
func hasty(schema string) postgres.Options {
	return postgres.Options{Schema: schema, LockTimeout: 2 * time.Second, Timeout: 300 * time.Millisecond, Poll: 20 * time.Millisecond}
}

func TestABadNetworkLosesNothing(t *testing.T) {
	t.Parallel()
	witness, _, name := fresh(t)
	var proxies []*proxy
	var stores []*postgres.Store
	for range 2 {
		p := newProxy(t)
		proxies = append(proxies, p)
		stores = append(stores, open(t, connect(t, p.dsn(t)), hasty(name)))
	}
	c := contend(stores...)
	for round := range 4 {
		p := proxies[round%2]
		c.progress(t, 20)
		p.cut()
		c.progress(t, 20)
		p.delay(5 * time.Millisecond)
		c.progress(t, 20)
		p.cut()
		p.delay(0)
		c.progress(t, 20)
		p.halfOpen()
		c.progress(t, 50)
		p.refuse(true)
		p.cut()
		c.progress(t, 20) // by the other store
		p.refuse(false)
		c.progress(t, 50)
	}
	c.verify(t, witness)
}

func TestASessionThatIsEndedLosesNothing(t *testing.T) {
	t.Parallel()
	witness, _, name := fresh(t)
	pool, tag := tagged(t, name)
	s := open(t, pool, hasty(name))
	c := contend(s)
	for range 40 {
		c.progress(t, 10)
		do(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, tag)
	}
	c.progress(t, 50)
	c.verify(t, witness)
}

// plainly makes the pool send the texts of its statements each time, so that a proxy sees them.
func plainly(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec }

func sees(text string, what verdict) func([]byte) verdict {
	return func(sent []byte) verdict {
		if bytes.Contains(sent, []byte(text)) {
			return what
		}
		return pass
	}
}

func TestAConnectionLostDuringCommitLeavesTheOutcomeUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		verdict verdict
		applied bool
	}{"on the way there": {cutOff, false}, "on the way back": {noReply, true}} {
		t.Run(name, func(t *testing.T) {
			witness, _, schema := fresh(t)
			p := newProxy(t)
			s := open(t, connect(t, p.dsn(t), plainly), postgres.Options{Schema: schema})
			commits := p.count("COMMIT\x00")
			p.judge(sees("COMMIT\x00", c.verdict))
			_, err := s.Commit(t.Context(), put("k", `{}`))
			require.ErrorIs(t, err, store.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, store.ErrUnavailable)
			require.EqualValues(t, 1, commits(), "it is never tried again")
			p.judge(nil)
			commit(t, s, put("later", `{}`)) // after it is decided
			require.Equal(t, c.applied, get(t, witness, "k").Version == 1)
		})
	}
}

func TestAConnectionLostBeforeCommitIsUnavailable(t *testing.T) {
	s, p := behindProxy(t)
	p.judge(sees("pg_advisory_xact_lock", noReply))
	_, err := s.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown)
	p.judge(nil)
	require.Equal(t, store.Seq(1), commit(t, s, put("k", `{}`)))
}

func behindProxy(t *testing.T) (*postgres.Store, *proxy) {
	t.Helper()
	p := newProxy(t)
	return open(t, connect(t, p.dsn(t), plainly), postgres.Options{Schema: schema(t)}), p
}

func TestADeadConnectionIsReplacedBeforeAnythingIsWritten(t *testing.T) {
	s, p := behindProxy(t)
	commit(t, s, put("k", `{}`))
	p.cut()
	require.Equal(t, store.Seq(2), commit(t, s, put("k", `{}`)))
}

func TestAClientThatVanishesWithTheLockHoldsUpOthersForItsTimeoutOnly(t *testing.T) {
	witness, _, name := fresh(t)
	p := newProxy(t)
	o := postgres.Options{Schema: name, LockTimeout: 4 * time.Second, Timeout: time.Second, PollOnly: true}
	s := open(t, connect(t, p.dsn(t), plainly), o)
	// The lock is taken. Then nothing gets through any more, and the server does not notice.
	p.judge(func(sent []byte) verdict {
		if bytes.Contains(sent, []byte("COMMIT\x00")) {
			p.halfOpen()
		}
		return pass
	})
	_, err := s.Commit(t.Context(), put("k", `{}`))
	require.ErrorIs(t, err, store.ErrOutcomeUnknown)
	require.Equal(t, store.Seq(1), commit(t, witness, put("other", `{}`)))
	require.Zero(t, get(t, witness, "k").Version)
}

func TestReadsSayThatTheServerIsAway(t *testing.T) {
	s, p := behindProxy(t)
	commit(t, s, put("k", `{}`))
	p.refuse(true)
	p.cut()
	for range 3 {
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = s.List(t.Context(), store.Range{Limit: 1})
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = s.Changes(t.Context(), 0, 1)
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = s.Commit(t.Context(), put("k", `{}`))
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	p.refuse(false)
	require.Equal(t, store.Seq(1), get(t, s, "k").Version)
}
