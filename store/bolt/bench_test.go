package bolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// The benchmarks set the store beside bbolt itself, doing as much for keys and values of
// the same sizes, in turns, and report the ratio of the median turns: ours/raw in time.

var (
	recordsName = []byte("records")
	feedName    = []byte("feed")
)

func openRaw(tb testing.TB) *bbolt.DB {
	tb.Helper()
	db, err := bbolt.Open(path(tb), 0o600, nil)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	require.NoError(tb, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{recordsName, feedName} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	}))
	return db
}

// object is a JSON object of size bytes.
func object(size int) []byte {
	return fmt.Appendf(nil, `{"v":"%0*d"}`, size-len(`{"v":""}`), 7)
}

// create is a batch of the size that creating a user with a locator has.
func create() store.Batch {
	id := uuid.Must(uuid.NewV7()).String()
	b := store.Batch{Emit: object(200)}
	for _, r := range []store.Record{
		{Key: store.Key("user/" + id), Value: object(300)},
		{Key: store.Key("locator/" + uuid.NewString()), Value: object(60)},
		{Key: store.Key("data/" + id + "/profile"), Value: object(200)},
		{Key: store.Key("data/" + id + "/tokens"), Value: object(150)},
	} {
		b.If = append(b.If, store.Cond{Key: r.Key})
		b.Put = append(b.Put, r)
	}
	return b
}

var rawSeq atomic.Uint64

// rawPut does with bbolt alone what a store does for b: look up what must be absent, put, append.
func rawPut(tx *bbolt.Tx, b store.Batch) error {
	records := tx.Bucket(recordsName)
	for _, c := range b.If {
		if records.Get([]byte(c.Key)) != nil {
			return store.ErrConflict
		}
	}
	for _, r := range b.Put {
		if err := records.Put([]byte(r.Key), r.Value); err != nil {
			return err
		}
	}
	return tx.Bucket(feedName).Put(binary.BigEndian.AppendUint64(nil, rawSeq.Add(1)), b.Emit)
}

// grouped is the plainest group committer there is, with one goroutine and no timer.
func grouped(db *bbolt.DB) (commit func(store.Batch) error, stop func()) {
	type call struct {
		batch store.Batch
		done  chan error
	}
	in := make(chan call, 1024)
	pool := sync.Pool{New: func() any { return make(chan error, 1) }}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var group []call
		for c := range in {
			group = append(group[:0], c)
		drain:
			for len(group) < 1000 {
				select {
				case c, ok := <-in:
					if !ok {
						break drain
					}
					group = append(group, c)
				default:
					break drain
				}
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				for _, c := range group {
					if err := rawPut(tx, c.batch); err != nil {
						return err
					}
				}
				return nil
			})
			for _, c := range group {
				c.done <- err
			}
		}
	}()
	commit = func(b store.Batch) error {
		done := pool.Get().(chan error)
		in <- call{b, done}
		err := <-done
		pool.Put(done)
		return err
	}
	return commit, func() { close(in); <-stopped }
}

// side is one of the things compared.
type side struct {
	name string
	do   func() error
	took []time.Duration
}

// turn has the workers do n things in all.
func (s *side) turn(tb testing.TB, workers, n int) {
	tb.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, workers)
	var wg sync.WaitGroup
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
	for _, err := range errs {
		require.NoError(tb, err)
	}
}

func (s *side) median() float64 {
	slices.Sort(s.took)
	return float64(s.took[len(s.took)/2])
}

// compare lets the sides take turns, and reports each one's time and the ratio of the
// last to each of the others.
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
	ours := sides[len(sides)-1].median()
	for _, s := range sides {
		b.ReportMetric(s.median()/1e3, s.name+"-µs")
		if s != sides[len(sides)-1] {
			b.ReportMetric(ours/s.median(), "ratio-to-"+s.name)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", workers), func(b *testing.B) {
			db, bare, s := openRaw(b), openRaw(b), open(b, path(b))
			commit, stop := grouped(bare)
			defer stop()
			sides := []*side{
				{name: "group", do: func() error { return commit(create()) }},
				{name: "store", do: func() error { _, err := s.Commit(context.Background(), create()); return err }},
			}
			if workers == 1 {
				sides = slices.Insert(sides, 0, &side{name: "update", do: func() error {
					batch := create()
					return db.Update(func(tx *bbolt.Tx) error { return rawPut(tx, batch) })
				}})
			}
			compare(b, workers, 32*workers, sides...)
		})
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 1_000
	db, s := openRaw(b), open(b, path(b))
	keys := make([]store.Key, n)
	for i := range keys {
		batch := create()
		keys[i] = batch.Put[0].Key
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error { return rawPut(tx, batch) }))
		_, err := s.Commit(b.Context(), batch)
		require.NoError(b, err)
	}
	var next atomic.Uint64
	key := func() store.Key { return keys[next.Add(7919)%n] }
	var sink atomic.Int64
	compare(b, 1, 20_000,
		&side{name: "view", do: func() error {
			k := key()
			return db.View(func(tx *bbolt.Tx) error {
				sink.Add(int64(len(tx.Bucket(recordsName).Get([]byte(k)))))
				return nil
			})
		}},
		&side{name: "copy", do: func() error {
			k := key()
			var out []byte
			err := db.View(func(tx *bbolt.Tx) error {
				out = append(out, tx.Bucket(recordsName).Get([]byte(k))...)
				return nil
			})
			sink.Add(int64(len(out)))
			return err
		}},
		&side{name: "store", do: func() error {
			rs, err := s.Get(context.Background(), key())
			if err != nil {
				return err
			}
			sink.Add(int64(len(rs[0].Value)))
			return nil
		}},
	)
}
