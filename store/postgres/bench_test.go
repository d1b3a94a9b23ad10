package postgres_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// The benchmarks set the store beside pgx itself, in turns, on one pool, and report the
// ratio of the median turns: ours/raw in time.

// bench answers a store and a table with one row a key, both in a schema of their own.
func bench(b *testing.B, conns int) (s *postgres.Store, pool *pgxpool.Pool, raw string) {
	b.Helper()
	name := schema(b)
	pool = connect(b, server(b), func(c *pgxpool.Config) { c.MaxConns = int32(conns) })
	s = open(b, pool, postgres.Options{Schema: name})
	raw = quote(name) + ".raw"
	do(b, `CREATE TABLE `+raw+` (key bytea PRIMARY KEY, version bigint NOT NULL, value jsonb NOT NULL)`)
	return s, pool, raw
}

// object is a JSON object of size bytes.
func object(size int) []byte {
	return fmt.Appendf(nil, `{"v":"%0*d"}`, size-len(`{"v":""}`), 7)
}

// claim is a batch that creates one record.
func claim() store.Batch {
	r := store.Record{Key: store.Key("user/" + uuid.Must(uuid.NewV7()).String()), Value: object(300)}
	return store.Batch{If: []store.Cond{{Key: r.Key}}, Put: []store.Record{r}, Emit: object(200)}
}

// create is a batch of the size that creating a user with a locator has.
func create() store.Batch {
	b := claim()
	id := string(b.Put[0].Key)
	for _, r := range []store.Record{
		{Key: store.Key("locator/" + uuid.NewString()), Value: object(60)},
		{Key: store.Key("data/" + id + "/profile"), Value: object(200)},
		{Key: store.Key("data/" + id + "/tokens"), Value: object(150)},
	} {
		b.If = append(b.If, store.Cond{Key: r.Key})
		b.Put = append(b.Put, r)
	}
	return b
}

// side is one of the things compared.
type side struct {
	name   string
	do     func() error
	took   []time.Duration
	allocs uint64
	bytes  uint64
}

// turn has the workers do n things in all.
func (s *side) turn(tb testing.TB, workers, n int) {
	tb.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 && errs[w] == nil {
				errs[w] = s.do()
			}
		})
	}
	wg.Wait()
	s.took = append(s.took, time.Since(start)/time.Duration(n))
	runtime.ReadMemStats(&after)
	s.allocs = (after.Mallocs - before.Mallocs) / uint64(n)
	s.bytes = (after.TotalAlloc - before.TotalAlloc) / uint64(n)
	for _, err := range errs {
		require.NoError(tb, err)
	}
}

func (s *side) median() float64 {
	slices.Sort(s.took)
	return float64(s.took[len(s.took)/2])
}

// compare lets the sides take turns, and reports each one's time and its ratio to the first.
func compare(b *testing.B, workers, n int, sides ...*side) {
	b.Helper()
	for _, s := range sides {
		s.turn(b, workers, n)
		s.took = nil
	}
	for b.Loop() {
		for _, s := range sides {
			s.turn(b, workers, n)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, s := range sides {
		b.ReportMetric(s.median()/1e3, s.name+"-µs")
		b.ReportMetric(float64(s.allocs), s.name+"-allocs")
		b.ReportMetric(float64(s.bytes), s.name+"-B")
		if s != sides[0] {
			b.ReportMetric(s.median()/sides[0].median(), s.name+"/"+sides[0].name)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", workers), func(b *testing.B) {
			s, pool, raw := bench(b, 64)
			insert := `INSERT INTO ` + raw + ` (key, version, value) VALUES ($1, $2, $3)`
			committed := func(batch func() store.Batch) func() error {
				return func() error { _, err := s.Commit(context.Background(), batch()); return err }
			}
			compare(b, workers, 40*workers,
				&side{name: "insert", do: func() error {
					r := claim().Put[0]
					_, err := pool.Exec(context.Background(), insert, []byte(r.Key), 1, r.Value)
					return err
				}},
				&side{name: "claim", do: committed(claim)},
				&side{name: "create", do: committed(create)},
			)
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, readers := range []int{1, 8} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			const n = 1_000
			s, pool, raw := bench(b, 64)
			keys := make([]store.Key, n)
			for i := range keys {
				batch := claim()
				r := batch.Put[0]
				keys[i] = r.Key
				do(b, `INSERT INTO `+raw+` (key, version, value) VALUES ($1, $2, $3)`, []byte(r.Key), 1, r.Value)
				commit(b, s, batch)
			}
			var next atomic.Uint64
			key := func() store.Key { return keys[next.Add(7919)%n] }
			var sink atomic.Int64
			get := func(keys ...store.Key) error {
				rs, err := s.Get(context.Background(), keys...)
				if err == nil {
					sink.Add(int64(len(rs[0].Value)))
				}
				return err
			}
			compare(b, readers, 4_000,
				&side{name: "select", do: func() error {
					var version int64
					var value []byte
					err := pool.QueryRow(context.Background(), `SELECT version, value FROM `+raw+` WHERE key = $1`, []byte(key())).Scan(&version, &value)
					sink.Add(int64(len(value)))
					return err
				}},
				&side{name: "get", do: func() error { return get(key()) }},
				&side{name: "get2", do: func() error { return get(key(), key()) }},
			)
		})
	}
}
