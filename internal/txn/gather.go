package txn

import (
	"context"
	"slices"
	"sync"

	"github.com/denizenhq/denizen/store"
)

// The limits of shared reads. There are two at once so that one that is stuck holds up nobody.
const (
	maxReads    = 2
	maxReadKeys = 1024
)

// gatherer reads records for several callers in one call of the store. Whoever comes while reads
// are under way shares the next one, so whoever is alone waits for nothing.
type gatherer struct {
	store store.Store

	mu    sync.Mutex // guards next and under, and callers of each read
	next  []*sharedRead
	under int // how many reads are under way
}

// sharedRead is a read for several callers.
type sharedRead struct {
	ctx     context.Context // ends once nobody waits
	cancel  context.CancelFunc
	keys    []store.Key
	at      map[store.Key]int // the place of each key
	callers int               // how many wait

	done    chan struct{} // closed when the fields below are set
	records []store.Record
	err     error
	panics  any
}

// read returns the records under keys, in their order. They are not older than the call. If ctx
// ends it returns at once, and the others of a shared read do not notice.
func (g *gatherer) read(ctx context.Context, keys []store.Key) ([]store.Record, error) {
	r := g.join(ctx, keys)
	select {
	case <-r.done:
	case <-ctx.Done():
		g.leave(r)
		return nil, ctx.Err()
	}
	switch {
	case r.panics != nil:
		panic(r.panics)
	case r.err != nil:
		return nil, r.err
	}
	records := make([]store.Record, len(keys))
	for i, key := range keys {
		records[i] = r.records[r.at[key]]
	}
	return records, nil
}

// join adds a caller to the last read that has not begun, or to a new one.
func (g *gatherer) join(ctx context.Context, keys []store.Key) *sharedRead {
	g.mu.Lock()
	defer g.mu.Unlock()
	var r *sharedRead
	if n := len(g.next); n > 0 && len(g.next[n-1].keys)+len(keys) <= maxReadKeys {
		r = g.next[n-1]
	} else {
		r = &sharedRead{at: map[store.Key]int{}, done: make(chan struct{})}
		r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
		g.next = append(g.next, r)
	}
	r.callers++
	for _, key := range keys {
		if _, asked := r.at[key]; !asked {
			r.at[key] = len(r.keys)
			r.keys = append(r.keys, key)
		}
	}
	if g.under < maxReads {
		g.under++
		go g.run()
	}
	return r
}

// leave ends a caller's wait. A read that nobody waits for is not begun, or ended: then the last
// caller waits until the store is left alone.
func (g *gatherer) leave(r *sharedRead) {
	g.mu.Lock()
	r.callers--
	last := r.callers == 0
	i := slices.Index(g.next, r)
	if last && i >= 0 {
		g.next = slices.Delete(g.next, i, i+1)
	}
	g.mu.Unlock()
	if last {
		r.cancel()
		if i < 0 {
			<-r.done
		}
	}
}

// run does one read after another while there are any.
func (g *gatherer) run() {
	for {
		g.mu.Lock()
		if len(g.next) == 0 {
			g.under--
			g.mu.Unlock()
			return
		}
		r := g.next[0]
		g.next = slices.Delete(g.next, 0, 1)
		g.mu.Unlock()
		r.do(g)
	}
}

// do reads. A panic of the store is that of the callers.
func (r *sharedRead) do(g *gatherer) {
	defer close(r.done)
	defer r.cancel()
	defer func() { r.panics = recover() }()
	r.records, r.err = g.store.Get(r.ctx, r.keys...)
}
