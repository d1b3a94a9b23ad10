package denizen

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// Each benchmark runs the directory's operation and its floor, what the same work costs at
// the least, in turns of the same run, and reports the ratio of their median turns. An
// operation "remembered" was made on the same user before; "first" was not.
//
//	go test -run '^$' -bench . -benchmem -users 1000,1000000 .
var benchUsers = flag.String("users", "1000", "sizes of the directories that are read from, comma separated")

func sizes(b *testing.B) []int {
	b.Helper()
	var ns []int
	for text := range strings.SplitSeq(*benchUsers, ",") {
		var n int
		_, err := fmt.Sscan(text, &n)
		require.NoError(b, err)
		ns = append(ns, n)
	}
	return ns
}

// beside times ours and the floor in turns and reports what each costs, and the ratio.
func beside(b *testing.B, turn int, ours, floor func(i int)) {
	b.Helper()
	besideAfter(b, turn, func() {}, ours, floor)
}

// besideAfter is beside, with something done before each turn that is not timed.
func besideAfter(b *testing.B, turn int, before func(), ours, floor func(i int)) {
	b.Helper()
	var a, z []float64
	i, j := 0, 0
	timed := func(n *int, f func(int)) float64 {
		begin := time.Now()
		for range turn {
			f(*n)
			*n++
		}
		return float64(time.Since(begin).Nanoseconds()) / float64(turn)
	}
	timed(&i, ours)
	timed(&j, floor)
	before()
	allocs := testing.AllocsPerRun(min(turn, 100), func() { ours(i); i++ })
	for b.Loop() {
		before()
		a = append(a, timed(&i, ours))
		z = append(z, timed(&j, floor))
	}
	slices.Sort(a)
	slices.Sort(z)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(a[len(a)/2], "ours-ns")
	b.ReportMetric(z[len(z)/2], "floor-ns")
	b.ReportMetric(a[len(a)/2]/z[len(z)/2], "ratio")
	b.ReportMetric(allocs, "ours-allocs")
}

// directories are the ones that are measured, of n users with one locator each.
func directories(b *testing.B, n int) map[string]*Directory {
	b.Helper()
	m := memory.New()
	fill(b, m, n)
	overMemory, err := New(b.Context(), m, Options{})
	require.NoError(b, err)
	overBolt, err := Open(b.Context(), filledFile(b, n), Options{})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, overMemory.Close())
		require.NoError(b, overBolt.Close())
	})
	return map[string]*Directory{"memory": overMemory, "bolt": overBolt}
}

// filledFile is a file with n users.
func filledFile(b *testing.B, n int) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "bench.db")
	s, err := bolt.Open(b.Context(), path, bolt.Options{})
	require.NoError(b, err)
	fill(b, s, n)
	require.NoError(b, s.Close())
	return path
}

func benchID(i int) UserID    { return UserID(fmt.Sprintf("user-%09d", i)) }
func benchEmail(i int) string { return fmt.Sprintf("user%09d@example.com", i) }

// benchIDs and benchEmails are those of a thousand or more users, so that a turn spends
// nothing on making them.
func benchIDs(order []int) (ids []UserID, emails []string) {
	for _, i := range order[:min(len(order), 20_000)] {
		ids, emails = append(ids, benchID(i)), append(emails, "email:"+benchEmail(i))
	}
	return ids, emails
}

// fill loads an empty store with a directory of n users, as they would be stored.
func fill(b *testing.B, s store.Store, n int) {
	b.Helper()
	small := memory.New()
	d, err := New(b.Context(), small, Options{})
	require.NoError(b, err)
	first, err := small.Get(b.Context(), record.DirectoryKey, record.SigningKeysKey)
	require.NoError(b, err)
	require.NoError(b, d.Close())
	records := func(yield func(store.Record, error) bool) {
		for _, r := range first {
			if !yield(r, nil) {
				return
			}
		}
		for i := range n {
			u := record.User{
				ID: string(benchID(i)), Incarnation: "incarnation-of-" + string(benchID(i)), ScreenName: "Somebody", Created: 1, Updated: 1,
				Locators: []record.Locator{{ID: "0123456789ABCDEFGHIJKLMNOP", Type: "email", Canonical: benchEmail(i), Raw: benchEmail(i), Status: "Verified", Owned: true, Added: 1}},
			}
			if !yield(store.Record{Key: record.UserKey(u.ID), Version: 1, Value: record.Encode(&u)}, nil) {
				return
			}
		}
		for i := range n {
			o := record.Owner{Locator: "email:" + benchEmail(i), User: string(benchID(i)), Incarnation: "incarnation-of-" + string(benchID(i))}
			if !yield(store.Record{Key: record.OwnerKey(o.Locator), Version: 1, Value: record.Encode(&o)}, nil) {
				return
			}
		}
	}
	require.NoError(b, s.Load(b.Context(), records, func(func(store.Change, error) bool) {}, 1))
}

// forget makes a directory forget what it remembers.
func (d *Directory) forget() {
	for _, kind := range record.Remembered {
		for i := range d.cache.tables[kind] {
			s := &d.cache.tables[kind][i]
			for _, m := range s.memos {
				m.dead.Store(true)
			}
			clear(s.memos)
		}
	}
	for i := range d.grants.shards {
		clear(d.grants.shards[i].byText)
	}
}

// rawCopy is what a read from bbolt costs at the least: a value may only be used while its
// transaction is open, so it is copied.
func rawCopy(db *bbolt.DB, keys ...[]byte) (n int) {
	_ = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("records"))
		for _, key := range keys {
			n += len(append([]byte(nil), bucket.Get(key)...))
		}
		return nil
	})
	return n
}

// rawOf is a bbolt file that holds what d's store holds, without anything of ours.
func rawOf(b *testing.B, d *Directory) *bbolt.DB {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bbolt.Options{NoSync: true, FreelistType: bbolt.FreelistMapType})
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	put := func(pairs [][2][]byte) {
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			for _, p := range pairs {
				if err := bucket.Put(p[0], p[1]); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	var pairs [][2][]byte
	for r, err := range d.walk(b.Context(), "") {
		require.NoError(b, err)
		if pairs = append(pairs, [2][]byte{[]byte(r.Key), r.Value}); len(pairs) == 10_000 {
			put(pairs)
			pairs = nil
		}
	}
	put(pairs)
	require.NoError(b, db.Sync())
	db.NoSync = false
	return db
}

// floorOf answers what reading keys costs at the least where d's records lie: with bbolt alone,
// or from a map under a lock.
func floorOf(b *testing.B, kind string, d *Directory) func(keys ...[]byte) int {
	b.Helper()
	if kind == "bolt" {
		raw := rawOf(b, d)
		return func(keys ...[]byte) int { return rawCopy(raw, keys...) }
	}
	var lock sync.RWMutex
	records := map[string][]byte{}
	for r, err := range d.walk(b.Context(), "") {
		require.NoError(b, err)
		records[string(r.Key)] = r.Value
	}
	return func(keys ...[]byte) (n int) {
		lock.RLock()
		defer lock.RUnlock()
		for _, key := range keys {
			n += len(append([]byte(nil), records[string(key)]...))
		}
		return n
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	ctx := context.Background()
	for _, n := range sizes(b) {
		tokens := min(n, 20_000)
		for kind, d := range directories(b, n) {
			texts := make([]string, tokens)
			var wg sync.WaitGroup
			for w := range 64 {
				wg.Go(func() {
					for i := w; i < tokens; i += 64 {
						t, err := d.IssueToken(ctx, System(), benchID(i*(n/tokens)), TokenOptions{})
						if err != nil {
							panic(err)
						}
						texts[i] = t.Signed
					}
				})
			}
			wg.Wait()
			rand.Shuffle(tokens, func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
			ours := func(i int) {
				if _, err := d.Authenticate(ctx, texts[i%tokens]); err != nil {
					panic(err)
				}
			}
			read := floorOf(b, kind, d)
			keys := make([][2][]byte, tokens)
			for i, text := range texts {
				p, err := d.Authenticate(ctx, text)
				require.NoError(b, err)
				keys[i] = [2][]byte{[]byte(record.GrantKey(token.Digest(text))), []byte(record.UserKey(string(p.User())))}
			}
			b.Run(fmt.Sprintf("users=%d/%s/first", n, kind), func(b *testing.B) {
				besideAfter(b, 1000, d.forget, ours, func(i int) {
					sum := sha256.Sum256([]byte(texts[i%tokens]))
					if sum == [32]byte{} || read(keys[i%tokens][0]) == 0 || read(keys[i%tokens][1]) == 0 {
						panic("absent")
					}
				})
			})
			some := min(tokens, 1000)
			bare := struct {
				sync.RWMutex
				m map[string]Principal
			}{m: map[string]Principal{}}
			for _, text := range texts[:some] {
				bare.m[text], _ = d.Authenticate(ctx, text)
			}
			b.Run(fmt.Sprintf("users=%d/%s/again", n, kind), func(b *testing.B) {
				beside(b, 10_000, func(i int) { ours(i % some) }, func(i int) {
					bare.RLock()
					p := bare.m[texts[i%some]]
					bare.RUnlock()
					if p.user == "" {
						panic("absent")
					}
				})
			})
		}
	}
}

func BenchmarkUser(b *testing.B) {
	ctx := context.Background()
	for _, n := range sizes(b) {
		for kind, d := range directories(b, n) {
			order := rand.Perm(n)
			users, emails := benchIDs(order)
			read := func(i int) {
				if _, err := d.User(ctx, System(), users[i%len(users)]); err != nil {
					panic(err)
				}
			}
			find := func(i int) {
				if us, err := d.UsersByLocator(ctx, System(), emails[i%len(users)]); err != nil {
					panic(err)
				} else if len(us) != 1 {
					panic("absent")
				}
			}
			remembered := func(b *testing.B, f func(int)) {
				beside(b, 1000, func(i int) { f(i % min(n, 1000)) }, func(int) {})
			}
			b.Run(fmt.Sprintf("users=%d/%s/id/remembered", n, kind), func(b *testing.B) { remembered(b, read) })
			b.Run(fmt.Sprintf("users=%d/%s/locator/remembered", n, kind), func(b *testing.B) { remembered(b, find) })
			raw := floorOf(b, kind, d)
			ids, owners := make([][]byte, len(users)), make([][]byte, len(users))
			for i, id := range users {
				ids[i], owners[i] = []byte(record.UserKey(string(id))), []byte(record.OwnerKey(emails[i]))
			}
			b.Run(fmt.Sprintf("users=%d/%s/id/first", n, kind), func(b *testing.B) {
				besideAfter(b, 1000, d.forget, read, func(i int) { raw(ids[i%len(users)]) })
			})
			b.Run(fmt.Sprintf("users=%d/%s/locator/first", n, kind), func(b *testing.B) {
				besideAfter(b, 1000, d.forget, find, func(i int) {
					raw(owners[i%len(users)])
					raw(ids[i%len(users)])
				})
			})
		}
	}
}

func BenchmarkPage(b *testing.B) {
	ctx := context.Background()
	for _, n := range sizes(b) {
		for kind, d := range directories(b, n) {
			pages := min(n/100, 100)
			cursors := make([]Cursor, pages)
			starts := make([][]byte, pages)
			for i := range pages {
				last := benchID(i * (n / pages))
				cursors[i], starts[i] = d.sealCursor(last), []byte(record.UserKey(string(last)))
			}
			ours := func(i int) {
				if p, err := d.UserPage(ctx, System(), Query{Limit: 100, After: cursors[i%pages]}); err != nil || len(p.Users) == 0 {
					panic(err)
				}
			}
			floor := func(int) {}
			if kind == "bolt" {
				raw := rawOf(b, d)
				floor = func(i int) {
					_ = raw.View(func(tx *bbolt.Tx) error {
						c := tx.Bucket([]byte("records")).Cursor()
						k, v := c.Seek(starts[i%pages])
						for range 100 {
							_, _ = append([]byte(nil), k...), append([]byte(nil), v...)
							k, v = c.Next()
						}
						return nil
					})
				}
			}
			b.Run(fmt.Sprintf("users=%d/%s", n, kind), func(b *testing.B) { beside(b, 100, ours, floor) })
		}
	}
}

// concurrently runs f n times over w goroutines.
func concurrently(w, n int, f func()) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range w {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	wg.Wait()
}

// rawGroup is the plainest group commit over bbolt: whatever queued up while the last
// transaction was syncing goes into the next one.
type rawGroup struct {
	db *bbolt.DB
	in chan rawWrite
}

type rawWrite struct {
	puts [][2][]byte
	done chan error
}

func newRawGroup(b *testing.B, db *bbolt.DB) *rawGroup {
	b.Helper()
	g := &rawGroup{db: db, in: make(chan rawWrite, 1024)}
	go func() {
		var batch []rawWrite
		for w := range g.in {
			batch = append(batch[:0], w)
		drain:
			for len(batch) < 1000 {
				select {
				case w := <-g.in:
					batch = append(batch, w)
				default:
					break drain
				}
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				for _, w := range batch {
					if err := rawPut(tx, w.puts); err != nil {
						return err
					}
				}
				return nil
			})
			for _, w := range batch {
				w.done <- err
			}
		}
	}()
	b.Cleanup(func() { close(g.in) })
	return g
}

// rawPut puts what a directory puts: what must be absent is looked up, the last goes to
// the feed.
func rawPut(tx *bbolt.Tx, puts [][2][]byte) error {
	records := tx.Bucket([]byte("records"))
	for _, p := range puts[:len(puts)-1] {
		if records.Get(p[0]) != nil {
			return store.ErrConflict
		}
		if err := records.Put(p[0], p[1]); err != nil {
			return err
		}
	}
	feed, err := tx.CreateBucketIfNotExists([]byte("feed"))
	if err != nil {
		return err
	}
	event := puts[len(puts)-1]
	return feed.Put(event[0], event[1])
}

var doneChans = sync.Pool{New: func() any { return make(chan error, 1) }}

func (g *rawGroup) write(puts [][2][]byte) {
	done := doneChans.Get().(chan error)
	g.in <- rawWrite{puts, done}
	if err := <-done; err != nil {
		panic(err)
	}
	doneChans.Put(done)
}

var created atomic.Uint64

// rawCreate is what creating a user puts.
func rawCreate() [][2][]byte {
	n := created.Add(1)
	id := uuid.Must(uuid.NewV7()).String()
	u := record.User{
		ID: id, Incarnation: id, ScreenName: "Somebody", Created: 1, Updated: 1,
		Locators: []record.Locator{{ID: "0123456789ABCDEFGHIJKLMNOP", Type: "email", Canonical: id, Raw: id, Status: "Verified", Owned: true, Added: 1}},
	}
	email := fmt.Sprintf("email:new%012x@example.com", n*0x9E3779B97F4A7C15>>16)
	return [][2][]byte{
		{[]byte(record.UserKey(id)), record.Encode(&u)},
		{[]byte(record.OwnerKey(email)), record.Encode(&record.Owner{Locator: email, User: id, Incarnation: id})},
		{binary.BigEndian.AppendUint64(nil, n), record.Encode(&record.Event{At: 1, What: UserCreated, Actor: systemName, User: id, Incarnation: id})},
	}
}

func BenchmarkCreate(b *testing.B) {
	ctx := context.Background()
	for kind, d := range directories(b, 20_000) {
		create := func() {
			n := created.Add(1)
			email := fmt.Sprintf("new%012x@example.com", n*0x9E3779B97F4A7C15>>16)
			if _, err := d.CreateUser(ctx, System(), NewUser{ScreenName: "Somebody", Locators: []NewLocator{Email(email)}}); err != nil {
				panic(err)
			}
		}
		for _, writers := range []int{1, 64} {
			turn := 50 * writers
			floor := func(int) {}
			if kind == "bolt" {
				raw := rawOf(b, d)
				if writers == 1 {
					floor = func(int) {
						for range turn {
							puts := rawCreate()
							if err := raw.Update(func(tx *bbolt.Tx) error { return rawPut(tx, puts) }); err != nil {
								panic(err)
							}
						}
					}
				} else {
					g := newRawGroup(b, raw)
					floor = func(int) { concurrently(writers, turn, func() { g.write(rawCreate()) }) }
				}
			}
			b.Run(fmt.Sprintf("%s/writers=%d", kind, writers), func(b *testing.B) {
				beside(b, 1, func(int) { concurrently(writers, turn, create) }, floor)
				b.ReportMetric(float64(turn), "users/op")
			})
		}
	}
}

func BenchmarkSetPresence(b *testing.B) {
	ctx := context.Background()
	const n = 20_000
	for kind, d := range directories(b, n) {
		by := make([]Principal, n)
		for i := range by {
			var err error
			by[i], err = d.ActAs(ctx, System(), benchID(i))
			require.NoError(b, err)
		}
		chain := Online(30 * time.Second).Then(Away(30 * time.Second)).Then(Offline())
		set := func(i int) {
			if err := d.SetPresence(ctx, by[i%n], by[i%n].user, chain); err != nil {
				panic(err)
			}
		}
		var next atomic.Int64
		change := func() {
			i := int(next.Add(1))
			// Another chain than the one before, so that it is no heartbeat.
			p := Online(time.Duration(1+i%100_000) * time.Second).Then(Away(30 * time.Second)).Then(Offline())
			if err := d.SetPresence(ctx, System(), benchID(i%n), p); err != nil {
				panic(err)
			}
		}
		for _, writers := range []int{1, 64} {
			turn := 50 * writers
			b.Run(fmt.Sprintf("%s/change/writers=%d", kind, writers), func(b *testing.B) {
				floor := func(int) {}
				if kind == "bolt" {
					g := newRawGroup(b, rawOf(b, d))
					value := make([]byte, 200)
					floor = func(int) {
						concurrently(writers, turn, func() {
							i := next.Add(1)
							g.write([][2][]byte{
								{fmt.Appendf(nil, "p%012d-%d", i%n, i), value},
								{binary.BigEndian.AppendUint64(nil, uint64(i)), value[:150]},
							})
						})
					}
				}
				beside(b, 1, func(int) { concurrently(writers, turn, change) }, floor)
				b.ReportMetric(float64(turn), "sets/op")
			})
		}
		concurrently(64, n, func() { set(int(next.Add(1))) })
		bare := newBare(n)
		b.Run(kind+"/heartbeat", func(b *testing.B) {
			some := 1000
			for i := range some {
				set(i)
			}
			beside(b, 10_000, func(i int) { set(i % some) }, func(i int) { bare.set(by[i%some].user, time.Now().UnixMilli()) })
		})
		b.Run(kind+"/get", func(b *testing.B) {
			some := 1000
			beside(b, 10_000, func(i int) {
				if _, err := d.Presence(ctx, by[i%some], by[i%some].user); err != nil {
					panic(err)
				}
			}, func(i int) {
				if bare.get(by[i%some].user) > time.Now().UnixMilli() {
					panic("future")
				}
			})
		})
	}
}

// bare is a map of 64 shards under locks: what keeping who was seen when costs at least.
type bare [64]struct {
	sync.RWMutex
	m map[UserID]int64
}

func newBare(n int) *bare {
	var s bare
	for i := range s {
		s[i].m = map[UserID]int64{}
	}
	for i := range n {
		s.set(benchID(i), 1)
	}
	return &s
}

func (s *bare) shard(id UserID) int {
	h := uint32(2166136261)
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return int(h % 64)
}

func (s *bare) set(id UserID, at int64) {
	shard := &s[s.shard(id)]
	shard.Lock()
	shard.m[id] = at
	shard.Unlock()
}

func (s *bare) get(id UserID) int64 {
	shard := &s[s.shard(id)]
	shard.RLock()
	defer shard.RUnlock()
	return shard.m[id]
}

func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	for _, n := range sizes(b) {
		path := filledFile(b, n)
		b.Run(fmt.Sprintf("users=%d", n), func(b *testing.B) {
			open := func() *Directory {
				d, err := Open(ctx, path, Options{})
				require.NoError(b, err)
				_, err = d.User(ctx, System(), benchID(n/2))
				require.NoError(b, err)
				return d
			}
			for b.Loop() {
				require.NoError(b, open().Close())
			}
			// The heap is what is remembered, and no more for more users than that.
			d := open()
			for range 200_000 {
				_, err := d.User(ctx, System(), benchID(rand.IntN(n)))
				require.NoError(b, err)
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MB")
			require.NoError(b, d.Close())
		})
	}
}
