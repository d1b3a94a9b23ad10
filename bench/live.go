package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
)

// crowd is a directory of many users over a file, each with a presence, and some with a token.
type crowd struct {
	*people
	half []denizen.UserID // of the users, in a random order
}

// live measures what a service asks of presence when many are here: that half of all users set it
// at once, and that they keep it up.
func live(b *bench) error {
	n := b.main()
	for _, callers := range []int{512, 4096} {
		if err := b.withCrowd(n, func(c *crowd) error { return c.storm(b, callers) }); err != nil {
			return err
		}
	}
	return b.withCrowd(n, func(c *crowd) error { return c.steady(b) })
}

// withCrowd calls f with a crowd of n users.
func (b *bench) withCrowd(n int, f func(*crowd) error) error {
	p, err := newPeople(b, n, true)
	if err != nil {
		return err
	}
	c := &crowd{people: p}
	for _, i := range rand.Perm(n)[:n/2] {
		c.half = append(c.half, userID(i))
	}
	err = first(p.issue(b.ctx, 1000), c.open(), f(c))
	return first(err, p.close(), os.Remove(p.path))
}

// caches bounds what the directory caches: the presences of a million users are to fit.
const caches = 1 << 30

// open replaces the directory with one that has cached nothing yet.
func (c *crowd) open() (err error) {
	if err := c.dir.Close(); err != nil {
		return err
	}
	c.dir, err = denizen.New(context.Background(), c.store, denizen.Options{
		CacheBytes: caches, FeedMaxEvents: 10_000_000,
	})
	return err
}

// storm lets half of the users set a new chain at once, as after a restart of what is in front of
// the directory, and then the same chain again.
func (c *crowd) storm(b *bench, callers int) error {
	next := denizen.Online(12 * time.Hour).Then(denizen.Away(time.Minute)).Then(denizen.Offline())
	set := func(i uint64) error { return c.dir.SetPresence(b.ctx, system, c.half[i], next) }

	told, err := c.follow(b.ctx)
	if err != nil {
		return err
	}
	authenticated := c.authenticate()
	began := time.Now()
	if err := atOnce(callers, len(c.half), set); err != nil {
		return err
	}
	durable := time.Since(began)
	if err := <-told; err != nil {
		return err
	}
	values, err := authenticated()
	if err != nil {
		return err
	}
	values["ns/op"] = float64(durable) / float64(len(c.half))
	values["durable-s"], values["told-s"] = durable.Seconds(), time.Since(began).Seconds()
	r := row{"Live/storm", c.n, callers, "Denizen"}
	if err := b.write(r, turn{n: uint64(len(c.half)), values: values}); err != nil {
		return err
	}
	if err := c.here(b.ctx, next); err != nil {
		return err
	}

	for _, from := range []string{"remembered", "first"} {
		if from == "first" {
			if err := c.open(); err != nil {
				return err
			}
		}
		authenticated, began = c.authenticate(), time.Now()
		if err := atOnce(callers, len(c.half), set); err != nil {
			return err
		}
		answered := time.Since(began)
		if values, err = authenticated(); err != nil {
			return err
		}
		stored, err := c.settled(b.ctx)
		if err != nil {
			return err
		}
		values["ns/op"] = float64(answered) / float64(len(c.half))
		values["answered-s"], values["stored-s"] = answered.Seconds(), stored.Sub(began).Seconds()
		r := row{"Live/storm/beats/" + from, c.n, callers, "Denizen"}
		if err := b.write(r, turn{n: uint64(len(c.half)), values: values}); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until all heartbeats are stored, and returns when that was seen.
func (c *crowd) settled(ctx context.Context) (time.Time, error) {
	for ; ; time.Sleep(20 * time.Millisecond) {
		s, err := c.dir.Stats(ctx, system)
		if err != nil || s.HeartbeatsWaiting == 0 {
			return time.Now(), err
		}
	}
}

// atOnce lets callers do n things.
func atOnce(callers, n int, do func(i uint64) error) error {
	var next atomic.Uint64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for failed.Load() == nil {
				i := next.Add(1) - 1
				if i >= uint64(n) {
					return
				}
				if err := do(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// follow reads the feed until each of the half was told to have set a presence, once. The error of
// that comes on the channel.
func (c *crowd) follow(ctx context.Context) (told <-chan error, err error) {
	head, err := c.dir.Head(ctx, system)
	if err != nil {
		return nil, err
	}
	left := make(map[denizen.UserID]bool, len(c.half))
	for _, id := range c.half {
		left[id] = true
	}
	done := make(chan error, 1)
	go func() {
		for e, err := range c.dir.Follow(ctx, system, head) {
			if err != nil {
				done <- err
				return
			}
			if e.Kind != denizen.EventPresenceSet || !left[e.User] {
				done <- fmt.Errorf("nobody caused %v of %s", e.Kind, e.User)
				return
			}
			if delete(left, e.User); len(left) == 0 {
				done <- nil
				return
			}
		}
	}()
	return done, nil
}

// authenticate authenticates a token each millisecond, until it is asked what that took: the call
// alone, and from when it was due.
func (c *crowd) authenticate() (took func() (map[string]float64, error)) {
	stop, done := make(chan struct{}), make(chan struct{})
	var calls, due []time.Duration
	var err error
	go func() {
		defer close(done)
		began := time.Now()
		for i := 0; ; i++ {
			at := began.Add(time.Duration(i) * time.Millisecond)
			select {
			case <-stop:
				return
			case <-time.After(time.Until(at)):
			}
			before := time.Now()
			if _, err = c.dir.Authenticate(context.Background(), c.texts[i%len(c.texts)]); err != nil {
				return
			}
			calls, due = append(calls, time.Since(before)), append(due, time.Since(at))
		}
	}()
	return func() (map[string]float64, error) {
		close(stop)
		<-done
		values := map[string]float64{}
		for name, of := range map[string][]time.Duration{"authenticate-p99-ns": calls, "authenticate-due-p99-ns": due} {
			if len(of) > 0 {
				slices.Sort(of)
				values[name] = float64(of[len(of)*99/100])
			}
		}
		return values, err
	}
}

// here fails unless each of the half has a presence.
func (c *crowd) here(ctx context.Context, want denizen.Presence) error {
	for ids := range slices.Chunk(c.half, denizen.MaxList) {
		found, err := c.dir.Presences(ctx, system, ids)
		if err != nil {
			return err
		}
		for i := range ids {
			if i >= len(found) || !found[i].Presence.Equal(want) {
				return fmt.Errorf("the presence of %s was lost", ids[i])
			}
		}
	}
	return nil
}

// The rates of steady, for a second.
const (
	steadyBeats   = 20_000
	steadyChanges = 2_000
)

// A tenth of all users are watched, each by one watcher, who watches 100.
const watchedBy1 = 100

// steady caches the presence of all users, and lets some heartbeats and changes come in each second
// while watchers watch. It measures the share of the cores that this takes, the memory for each
// presence and for each user who is watched, and how late watchers are told.
func (c *crowd) steady(b *bench) error {
	before := heap()
	if err := c.open(); err != nil {
		return err
	}
	ids := make([]denizen.UserID, 0, denizen.MaxList)
	for i := range c.n {
		if ids = append(ids, userID(i)); len(ids) < denizen.MaxList && i < c.n-1 {
			continue
		}
		if _, err := c.dir.Presences(b.ctx, system, ids); err != nil {
			return err
		}
		ids = ids[:0]
	}
	perUser := (heap() - before) / float64(c.n)
	w := newWatching(c.n)
	before = heap()
	end, err := w.begin(b.ctx, c.dir)
	if err != nil {
		return err
	}
	perWatched := (heap() - before) / float64(len(w.watched))
	for range b.rounds {
		values, err := c.steadily(b.ctx, 10*b.turn*3, w)
		if err != nil {
			return first(err, end())
		}
		values["heap-B/user"], values["heap-B/watched"] = perUser, perWatched
		r := row{"Live/steady", c.n, 0, "Denizen"}
		if err := b.write(r, turn{n: uint64(values["beats/s"]), values: values}); err != nil {
			return err
		}
	}
	if err := end(); err != nil {
		return err
	}
	_, err = c.settled(b.ctx)
	return err
}

// watching is users who are watched, and what their watchers were told.
type watching struct {
	watched []denizen.UserID
	places  map[denizen.UserID]int // in watched
	changed []atomic.Pointer[changed]

	mu         sync.Mutex
	told, late []time.Duration // after a change was asked for, and after a state ended
	missed     int
	first      error
}

// changed is the change of a user that was asked for last. How long it is to be away tells it from
// others.
type changed struct {
	away time.Duration
	at   time.Time
}

// newWatching chooses a tenth of n users.
func newWatching(n int) *watching {
	w := &watching{places: map[denizen.UserID]int{}, changed: make([]atomic.Pointer[changed], n/10)}
	for place, i := range rand.Perm(n)[:n/10] {
		w.watched = append(w.watched, userID(i))
		w.places[userID(i)] = place
	}
	return w
}

// begin lets watchers watch. It returns once each knows the present state of all of its users.
func (w *watching) begin(ctx context.Context, dir *denizen.Directory) (end func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var know, all sync.WaitGroup
	for ids := range slices.Chunk(w.watched, watchedBy1) {
		know.Add(1)
		all.Go(func() {
			left := len(ids)
			for p, err := range dir.WatchPresence(ctx, system, ids) {
				switch {
				case left > 0 && err != nil:
					w.fail(err)
					know.Done()
					return
				case left > 0:
					if left--; left == 0 {
						know.Done()
					}
				case err == nil:
					w.note(&p)
				case errors.Is(err, denizen.ErrMissed):
					w.miss()
				case ctx.Err() == nil:
					w.fail(err)
				}
			}
		})
	}
	know.Wait()
	end = func() error {
		cancel()
		all.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.first
	}
	if w.first != nil {
		return nil, end()
	}
	return end, nil
}

func (w *watching) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first = first(w.first, err)
}

func (w *watching) miss() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed++
}

// note notes how late a watcher is told of a state.
func (w *watching) note(p *denizen.UserPresence) {
	now := time.Now()
	c := w.changed[w.places[p.User]].Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.Presence.State() != denizen.StateOnline {
		w.late = append(w.late, now.Sub(p.Since))
	} else if next, _ := p.Presence.Next(); c != nil && c.away == next.TTL() { // the last that was asked for
		w.told = append(w.told, now.Sub(c.at))
	}
}

// take returns what was noted since the last time, in order.
func (w *watching) take() (told, late []time.Duration, missed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	told, late, missed = w.told, w.late, w.missed
	w.told, w.late, w.missed = nil, nil, 0
	slices.Sort(told)
	slices.Sort(late)
	return told, late, missed
}

// steadily keeps the rates up for some time. Half of the users who change are away a second later.
func (c *crowd) steadily(ctx context.Context, d time.Duration, w *watching) (map[string]float64, error) {
	var beats, changes atomic.Int64
	var failed atomic.Pointer[error]
	keep := func(done *atomic.Int64, err error) {
		if err != nil {
			failed.Store(&err)
			return
		}
		done.Add(1)
	}
	set := func(i int, p denizen.Presence) error { return c.dir.SetPresence(ctx, system, userID(i), p) }
	wanted := make(chan int, steadyChanges)
	var latencies []time.Duration
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range wanted {
				next := &changed{away: time.Duration(1+fresh()%1_000_000_000) * time.Second, at: time.Now()}
				online := time.Second
				if fresh()%2 == 0 {
					online = time.Hour
				}
				if place, is := w.places[userID(i)]; is {
					w.changed[place].Store(next)
				}
				keep(&changes, set(i, denizen.Online(online).Then(denizen.Away(next.away)).Then(denizen.Offline())))
				mu.Lock()
				latencies = append(latencies, time.Since(next.at))
				mu.Unlock()
			}
		})
	}
	w.take()
	cpu, began := cpuTime(), time.Now()
	const tick = 5 * time.Millisecond
	for at := began; time.Since(began) < d && failed.Load() == nil; at = at.Add(tick) {
		time.Sleep(time.Until(at))
		for range steadyBeats * int64(tick) / int64(time.Second) {
			keep(&beats, set(rand.IntN(c.n-1)/2*2+1, chain))
		}
		for range steadyChanges * int64(tick) / int64(time.Second) {
			select {
			case wanted <- rand.IntN(c.n) / 2 * 2: // others, whose heartbeats would be changes
			default: // it does not keep up, which the rate shows
			}
		}
	}
	took, spent := time.Since(began), cpuTime()-cpu
	close(wanted)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	time.Sleep(time.Until(began.Add(d + 2*time.Second))) // until the last of them have ended
	told, late, missed := w.take()
	if len(told) == 0 || len(late) == 0 {
		return nil, errors.New("nobody was told")
	}
	slices.Sort(latencies)
	values := map[string]float64{
		"cpu-share": float64(spent) / float64(took) / float64(runtime.GOMAXPROCS(0)),
		"beats/s":   float64(beats.Load()) / took.Seconds(), "changes/s": float64(changes.Load()) / took.Seconds(),
		"told/s": float64(len(told)+len(late)) / took.Seconds(), "missed": float64(missed),
	}
	for name, of := range map[string][]time.Duration{"change": latencies, "told": told, "late": late} {
		values[name+"-p50-ns"], values[name+"-p99-ns"] = float64(of[len(of)/2]), float64(of[len(of)*99/100])
	}
	return values, nil
}

// heap returns the bytes of what lives.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// printLive prints what many users at once take.
func printLive(out *strings.Builder, rs *results) {
	var storms, steady []string
	for _, r := range rs.rows {
		value := func(unit string) float64 { f, _ := rs.of(r, unit); return f.median }
		switch {
		case r.operation == "Live/storm":
			storms = append(storms, fmt.Sprintf("| a new chain, %s | %s | %s | told after %s s | %s |\n", callers(r.goroutines),
				significant(value("durable-s"))+" s", duration(value("ns/op")), significant(value("told-s")), duration(value("authenticate-p99-ns"))))
		case strings.HasPrefix(r.operation, "Live/storm/beats/"):
			from := map[string]string{"remembered": "cached", "first": "not cached"}[r.operation[len("Live/storm/beats/"):]]
			storms = append(storms, fmt.Sprintf("| heartbeats, %s, %s | %s | %s | stored after %s s | %s |\n", from, callers(r.goroutines),
				significant(value("answered-s"))+" s", duration(value("ns/op")), significant(value("stored-s")), duration(value("authenticate-p99-ns"))))
		case r.operation == "Live/steady":
			steady = append(steady, fmt.Sprintf("| %s | %.0f %% | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", count(r.users), 100*value("cpu-share"),
				significant(value("beats/s")), significant(value("changes/s")), duration(value("change-p50-ns")), duration(value("change-p99-ns")),
				duration(value("told-p50-ns")), duration(value("told-p99-ns")), duration(value("late-p50-ns")), duration(value("late-p99-ns")),
				bytesOf(value("heap-B/user")), bytesOf(value("heap-B/watched"))))
		}
	}
	if len(storms)+len(steady) == 0 {
		return
	}
	out.WriteString("\n## Many at once\n\nHalf of all users set a presence, in a random order, as after a restart of what is in front of the directory. A new chain is answered once it is synced, and told once the feed has it. " +
		"Meanwhile a token is authenticated each millisecond.\n\n| all set | answered | each | | Authenticate, p99 |\n|---|---|---|---|---|\n")
	for _, l := range storms {
		out.WriteString(l)
	}
	fmt.Fprintf(out, "\nAll users are here, and heartbeats and changes come in at a rate. A tenth of the users are watched, %d by each watcher. Half of those who change are away a second later. "+
		"A watcher is told of a change after it was asked for, which includes that it was synced, and of an end of a state after its time.\n\n"+
		"| users | of the cores | heartbeats a second | changes a second | a change, p50 | p99 | told of it, p50 | p99 | told of an end, p50 | p99 | memory for each user | and for each watched |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", watchedBy1)
	for _, l := range steady {
		out.WriteString(l)
	}
}
