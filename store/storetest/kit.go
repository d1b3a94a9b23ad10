package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// patience is how long a test waits for something that must happen.
var patience = 30 * time.Second

func val(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) }

func put(k store.Key, n int) store.Record { return store.Record{Key: k, Value: val(n)} }

func puts(keys ...store.Key) []store.Record {
	var rs []store.Record
	for i, k := range keys {
		rs = append(rs, put(k, i))
	}
	return rs
}

// number is the inverse of val.
func number(v []byte) (int, error) {
	var o struct{ N *int }
	if err := json.Unmarshal(v, &o); err != nil {
		return 0, err
	}
	if o.N == nil {
		return 0, fmt.Errorf("no number in %q", v)
	}
	return *o.N, nil
}

// commit commits b, which must succeed.
func commit(t testing.TB, s store.Store, b store.Batch) store.Seq {
	t.Helper()
	seq, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return seq
}

// fill commits the keys one by one and returns their versions.
func fill(t testing.TB, s store.Store, keys ...store.Key) map[store.Key]store.Seq {
	t.Helper()
	at := map[store.Key]store.Seq{}
	for i, k := range keys {
		at[k] = commit(t, s, store.Batch{Put: []store.Record{put(k, i)}, Emit: val(i)})
	}
	return at
}

// getOne returns the record under one key.
func getOne(ctx context.Context, s store.Store, k store.Key) (store.Record, error) {
	rs, err := s.Get(ctx, k)
	if err == nil && len(rs) != 1 {
		err = fmt.Errorf("%d records for one key", len(rs))
	}
	if err != nil {
		return store.Record{}, err
	}
	return rs[0], nil
}

func get(t testing.TB, s store.Store, k store.Key) store.Record {
	t.Helper()
	r, err := getOne(t.Context(), s, k)
	require.NoError(t, err)
	return r
}

func list(t testing.TB, s store.Store, r store.Range) []store.Record {
	t.Helper()
	rs, err := s.List(t.Context(), r)
	require.NoError(t, err)
	return rs
}

// walk lists page after page until one is not full.
func walk(ctx context.Context, s store.Store, r store.Range) ([]store.Record, error) {
	var all []store.Record
	for {
		page, err := s.List(ctx, r)
		if err != nil {
			return nil, err
		}
		if len(page) > r.Limit {
			return nil, fmt.Errorf("%d records where the limit is %d", len(page), r.Limit)
		}
		for _, rec := range page {
			if rec.Key <= r.After {
				return nil, fmt.Errorf("%q after %q", rec.Key, r.After)
			}
			r.After = rec.Key
		}
		all = append(all, page...)
		if len(page) < r.Limit {
			return all, nil
		}
	}
}

func changes(t testing.TB, s store.Store, after store.Seq, limit int) store.Feed {
	t.Helper()
	f, err := s.Changes(t.Context(), after, limit)
	require.NoError(t, err)
	return f
}

func keysOf(rs []store.Record) []store.Key {
	keys := []store.Key{}
	for _, r := range rs {
		keys = append(keys, r.Key)
	}
	return keys
}

func seqsOf(cs []store.Change) []store.Seq {
	seqs := []store.Seq{}
	for _, c := range cs {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

// contents is everything in a store, with values and events as plain spells them.
type contents struct {
	Records []store.Record
	Feed    store.Feed
}

// read returns the contents of a store that nobody writes to.
func read(t testing.TB, s store.Store) contents {
	t.Helper()
	rs, err := walk(t.Context(), s, store.Range{Limit: store.MaxPage})
	require.NoError(t, err)
	f, err := s.Changes(t.Context(), 0, store.MaxPage)
	if errors.Is(err, store.ErrMissed) {
		f, err = s.Changes(t.Context(), f.First-1, store.MaxPage)
	}
	require.NoError(t, err)
	require.Less(t, len(f.Changes), store.MaxPage, "a feed too long for this test")
	return contents{Records: plainRecords(rs), Feed: plainFeed(f)}
}

// plain returns v in one spelling: keys in order, no spaces, one form of escapes. What is not JSON
// is returned as it is, and differs from everything that is.
func plain(v []byte) []byte {
	if v == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	var o any
	if d.Decode(&o) != nil {
		return v
	}
	if _, err := d.Token(); err != io.EOF {
		return v
	}
	p, err := json.Marshal(o)
	if err != nil {
		return v
	}
	return p
}

func plainRecords(rs []store.Record) []store.Record {
	out := []store.Record{}
	for _, r := range rs {
		r.Value = plain(r.Value)
		out = append(out, r)
	}
	return out
}

func plainFeed(f store.Feed) store.Feed {
	out := []store.Change{}
	for _, c := range f.Changes {
		out = append(out, store.Change{Seq: c.Seq, Event: plain(c.Event)})
	}
	f.Changes = out
	return f
}

// requireConflict requires err to be a Conflict that lists exactly the conditions want.
func requireConflict(t testing.TB, err error, want ...store.Cond) {
	t.Helper()
	require.ErrorIs(t, err, store.ErrConflict)
	var c *store.Conflict
	require.ErrorAs(t, err, &c)
	require.ElementsMatch(t, want, c.Failed)
}

// requireRefused requires that the batch is invalid and changes nothing.
func requireRefused(t testing.TB, s store.Store, b store.Batch, what string) {
	t.Helper()
	before := read(t, s)
	_, err := s.Commit(t.Context(), b)
	require.ErrorIs(t, err, store.ErrInvalid, what)
	require.Equal(t, before, read(t, s), what)
}

// together runs the functions concurrently and fails t with their errors.
func together(t testing.TB, fs ...func() error) {
	t.Helper()
	errs := make([]error, len(fs))
	var all sync.WaitGroup
	for i, f := range fs {
		all.Go(func() { errs[i] = f() })
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
}

// contend runs writers and readers concurrently. A writer is called with 0, 1, 2 and so on, at
// least rounds times and until every reader has had its turns.
func contend(t testing.TB, rounds int, writers []func(i int) error, readers []func() error) {
	t.Helper()
	const turns = 50
	var writing, reading, failed atomic.Int64
	writing.Store(int64(len(writers)))
	reading.Store(int64(len(readers)))
	var all []func() error
	for _, w := range writers {
		all = append(all, func() error {
			defer writing.Add(-1)
			for i := 0; failed.Load() == 0 && (i < rounds || reading.Load() > 0); i++ {
				if err := w(i); err != nil {
					failed.Add(1)
					return err
				}
			}
			return nil
		})
	}
	for _, r := range readers {
		all = append(all, func() error {
			had := 0
			defer func() {
				if had < turns {
					reading.Add(-1)
				}
			}()
			for failed.Load() == 0 && (had < turns || writing.Load() > 0) {
				if err := r(); err != nil {
					failed.Add(1)
					return err
				}
				if had++; had == turns {
					reading.Add(-1)
				}
			}
			return nil
		})
	}
	together(t, all...)
}

// waiting calls Wait, which must return by itself before patience runs out.
func waiting(ctx context.Context, s store.Store, after store.Seq) error {
	returned := make(chan error, 1)
	go func() { returned <- s.Wait(ctx, after) }()
	lost := time.NewTimer(patience)
	defer lost.Stop()
	select {
	case err := <-returned:
		return err
	case <-lost.C:
		return fmt.Errorf("Wait after %d has not returned in %v", after, patience)
	}
}

// linger gives other goroutines time to get to where they wait. A correct store passes without it;
// a faulty one is found more reliably.
func linger() {
	for range 200 {
		runtime.Gosched()
	}
}

// attempt is a TB that records a failure instead of reporting it.
type attempt struct {
	testing.TB
	mu     sync.Mutex // guards failed and log
	failed bool
	log    bytes.Buffer
}

// try runs f and returns what it failed with, or "".
func try(t testing.TB, f func(t testing.TB)) (failure string) {
	a := &attempt{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(a)
	}()
	<-done
	if !a.failed {
		return ""
	}
	return "failed: " + a.log.String()
}

func (a *attempt) Log(args ...any) { a.write(false, fmt.Sprintln(args...)) }

func (a *attempt) Logf(format string, args ...any) {
	a.write(false, fmt.Sprintf(format+"\n", args...))
}

func (a *attempt) Error(args ...any) { a.write(true, fmt.Sprintln(args...)) }

func (a *attempt) Errorf(format string, args ...any) {
	a.write(true, fmt.Sprintf(format+"\n", args...))
}

func (a *attempt) Fatal(args ...any) {
	a.Error(args...)
	runtime.Goexit()
}

func (a *attempt) Fatalf(format string, args ...any) {
	a.Errorf(format, args...)
	runtime.Goexit()
}

func (a *attempt) Fail() { a.write(true, "") }

func (a *attempt) FailNow() {
	a.Fail()
	runtime.Goexit()
}

func (a *attempt) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

func (a *attempt) write(failed bool, s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = a.failed || failed
	a.log.WriteString(s)
}
