package bolt_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

// benched returns a store of n records, of which all but each tenth were dropped.
func benched(b *testing.B, n int) *bolt.Store {
	b.Helper()
	s := open(b, path(b))
	value := []byte(`{"pad":"` + strings.Repeat("x", 600) + `"}`)
	require.NoError(b, s.Load(b.Context(), func(yield func(store.Record, error) bool) {
		for i := range n {
			if !yield(store.Record{Key: store.Key(fmt.Sprintf("key/%08d", i)), Version: 1, Value: value}, nil) {
				return
			}
		}
	}, nothing[store.Change], 1))
	return s
}

func thin(b *testing.B, s *bolt.Store, n int) {
	b.Helper()
	drops := make([]store.Key, 0, 1_000)
	drop := func() {
		if len(drops) > 0 {
			_, err := s.Commit(b.Context(), store.Batch{Drop: drops})
			require.NoError(b, err)
			drops = drops[:0]
		}
	}
	for i := range n {
		if i%10 == 0 {
			continue
		}
		drops = append(drops, store.Key(fmt.Sprintf("key/%08d", i)))
		if len(drops) == cap(drops) {
			drop()
		}
	}
	drop()
}

// written returns how many bytes this process has written so far, 0 if the system does not say.
func written() (n int64) {
	all, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(all)) {
		_, _ = fmt.Sscanf(line, "wchar: %d", &n)
	}
	return n
}

// BenchmarkCommit is one change to one record, in a file that is full, of which nine tenths were
// deleted, and that was compacted after that.
func BenchmarkCommit(b *testing.B) {
	n := long.Of(20_000, 1_000_000)
	s := benched(b, n)
	run := func(name string) {
		b.Run(name, func(b *testing.B) {
			before := written()
			for i := 0; b.Loop(); i++ {
				_, err := s.Commit(b.Context(), put(store.Key(fmt.Sprintf("key/%08d", i%n/10*10)), `{"pad":"short"}`))
				require.NoError(b, err)
			}
			size, free, err := s.FileSize(b.Context())
			require.NoError(b, err)
			b.ReportMetric(float64(written()-before)/float64(b.N)/1024, "KiB/op")
			b.ReportMetric(float64(size>>20), "MiB")
			b.ReportMetric(float64(free>>20), "MiB-free")
		})
	}
	run("full")
	thin(b, s, n)
	run("deleted")
	began := time.Now()
	require.NoError(b, s.Compact(b.Context()))
	b.Logf("compacted in %v", time.Since(began))
	run("compacted")
}

// BenchmarkCompact is a compaction while eight writers commit as fast as they can. The pause is how
// long they wait at its end.
func BenchmarkCompact(b *testing.B) {
	n := long.Of(5_000, 300_000)
	s := benched(b, n)
	if !bolt.Compacts {
		b.Skip("no file can be compacted on this system")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	write := func(goOn func(i int) bool) {
		for w := range 8 {
			wg.Go(func() {
				for i := 0; goOn(i); i++ {
					began := time.Now()
					if _, err := s.Commit(context.Background(), put(store.Key(fmt.Sprintf("key/%08d", (i*7919+w)%n)), `{"pad":"short"}`)); err != nil {
						b.Error(err)
						return
					}
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
	}
	report := func(name string, took []time.Duration) {
		if len(took) == 0 {
			return
		}
		slices.Sort(took)
		for _, p := range []int{50, 99} {
			b.ReportMetric(float64(took[len(took)*p/100].Microseconds())/1000, fmt.Sprintf("ms-%s-p%d", name, p))
		}
		b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-"+name+"-max")
	}
	write(func(i int) bool { return i < 100 })
	wg.Wait()
	alone := took
	took = nil
	var pauses []time.Duration
	var last time.Time
	s.AtCompaction(func(step string) error {
		if step == "last" {
			last = time.Now()
		}
		return nil
	})
	ctx, stop := context.WithCancel(b.Context())
	write(func(int) bool { return ctx.Err() == nil })
	for b.Loop() {
		require.NoError(b, s.Compact(b.Context()))
		pauses = append(pauses, time.Since(last))
	}
	stop()
	wg.Wait()
	report("alone", alone)
	report("commit", took)
	report("pause", pauses)
}
