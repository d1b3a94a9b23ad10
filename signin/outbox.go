package signin

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/store"
)

const (
	maxStarted  = 1000   // messages that wait to be sorted, and starts under way
	maxWaiting  = 1000   // messages that wait to be delivered, of each kind
	maxStranger = 1000   // live proofs for addresses that nobody owns
	maxCounted  = 20_000 // records that count starts for such addresses
	sorters     = 2
	senders     = 4 // of each kind

	proofLife   = 10 * time.Minute
	lookUpTime  = 5 * time.Second
	deliverTime = 10 * time.Second
	closeTime   = 5 * time.Second
	endTime     = 6 * time.Second // longer than lookUpTime, within which the goroutines end
)

// retryAfter is how long a message waits before it is tried again.
var retryAfter = [...]time.Duration{time.Second, 5 * time.Second}

// message is a message on its way.
type message struct {
	Delivery
	started door.StartedProof
	as      denizen.Principal
	silent  bool // it is only delivered for show
}

// outbox delivers messages off the caller's path. They are sorted first: those for addresses that
// somebody owns do not wait for those for any others, so a flood of the latter delays none of the
// former.
type outbox struct {
	through     door.Directory
	deliver     func(context.Context, Delivery) error
	undelivered func(Delivery, error)
	newcomers   bool

	ctx     context.Context
	cancel  context.CancelFunc
	start   sync.Once
	workers sync.WaitGroup
	room    chan struct{} // one for each message from reserve until it is sorted
	started chan *message
	owned   chan *message
	free    chan *message
	failing atomic.Bool // the last message could not be delivered

	mu      sync.Mutex
	closed  bool           // guarded by mu
	pending sync.WaitGroup // messages since reserve; Add is guarded by mu
	proofs  ring           // guarded by mu, as are counted and gone
	counted ring
	gone    []store.Key // to be forgotten
}

func newOutbox(
	through door.Directory, deliver func(context.Context, Delivery) error,
	undelivered func(Delivery, error), newcomers bool,
) *outbox {
	ctx, cancel := context.WithCancel(context.Background())
	return &outbox{
		through: through, deliver: deliver, undelivered: undelivered, newcomers: newcomers,
		ctx: ctx, cancel: cancel,
		room: make(chan struct{}, maxStarted), started: make(chan *message, maxStarted),
		owned: make(chan *message, maxWaiting), free: make(chan *message, maxWaiting),
		proofs:  ring{most: maxStranger, life: proofLife},
		counted: ring{most: maxCounted, life: 2 * time.Hour},
	}
}

// reserve waits for room for a message. After it, send or release must be called.
func (b *outbox) reserve(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return &denizen.Error{Op: "Start", Kind: denizen.ErrClosed}
	}
	b.pending.Add(1)
	b.mu.Unlock()
	b.begin()
	select {
	case b.room <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
	b.pending.Done()
	return &denizen.Error{
		Op: "Start", Kind: denizen.ErrUnavailable, Reason: "too many wait for a message",
	}
}

// begin starts the goroutines.
func (b *outbox) begin() {
	b.start.Do(func() {
		for range sorters {
			b.workers.Go(func() { b.each(b.started, b.sort) })
		}
		for range senders {
			b.workers.Go(func() { b.each(b.owned, b.post) })
			b.workers.Go(func() { b.each(b.free, b.post) })
		}
		b.workers.Go(b.forgetRegularly)
	})
}

func (b *outbox) release() {
	<-b.room
	b.pending.Done()
}

// send queues a message. There is room for it.
func (b *outbox) send(m *message) { b.started <- m }

// tell queues a message that nobody waits for. It never blocks.
func (b *outbox) tell(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.pending.Add(1)
	b.begin()
	select {
	case b.owned <- m:
	default:
		b.workers.Go(func() { b.fail(m, errFull) })
	}
}

// each handles the messages of a queue until the outbox is closed.
func (b *outbox) each(queue chan *message, handle func(*message)) {
	for {
		select {
		case m := <-queue:
			handle(m)
		case <-b.ctx.Done():
			return
		}
	}
}

// sort finds out whether somebody owns the address. If so, the message goes to the address as the
// directory has it.
func (b *outbox) sort(m *message) {
	<-b.room
	queue := b.owned
	if m.Purpose == SignIn {
		ctx, cancel := context.WithTimeout(b.ctx, lookUpTime)
		address, owned, err := b.through.Addressee(ctx, m.as, m.started.Locator)
		switch {
		case err != nil:
			cancel()
			b.fail(m, err)
			return
		case owned:
			m.Address = address
		default:
			queue = b.free
			m.silent = b.crowdOut(m) || !b.newcomers
		}
		cancel()
	}
	select {
	case queue <- m:
	default:
		b.fail(m, errFull)
	}
}

var errFull = errors.New("signin: too many messages wait to be delivered")

// crowdOut reports whether there are too many proofs for addresses that nobody owns. The oldest is
// forgotten then, within a second.
func (b *outbox) crowdOut(m *message) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	proof, full := b.proofs.add(m.started.Proof, now)
	if full {
		b.gone = append(b.gone, proof)
	}
	if starts, full := b.counted.add(m.started.Starts, now); full {
		b.gone = append(b.gone, starts)
	}
	return full
}

// forgetRegularly forgets what was crowded out, until the outbox is closed. It does so by the
// second and not with each start: a commit that follows a start for a free address alone would slow
// down the next request, and so tell that nobody owns the address.
func (b *outbox) forgetRegularly() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.forget(b.ctx)
		case <-b.ctx.Done():
			ctx, cancel := context.WithTimeout(context.Background(), lookUpTime)
			b.forget(ctx)
			cancel()
			return
		}
	}
}

func (b *outbox) forget(ctx context.Context) {
	b.mu.Lock()
	gone := b.gone
	b.gone = nil
	b.mu.Unlock()
	for some := range slices.Chunk(gone, 1000) {
		_ = b.through.Forget(ctx, some...) // what it leaves is swept
	}
}

// post delivers a message.
func (b *outbox) post(m *message) {
	err := b.try(m)
	for _, wait := range retryAfter {
		if err == nil || b.ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(wait):
			err = b.try(m)
		case <-b.ctx.Done():
		}
	}
	if err != nil {
		b.fail(m, err)
		return
	}
	b.pending.Done()
}

// errShown is the error of a message that is delivered for show.
var errShown = errors.New("signin: another message could not be delivered")

// try delivers a message once. One that is only for show fares as the last one did: otherwise a
// start that is given back would tell that somebody owns the address.
func (b *outbox) try(m *message) error {
	if m.silent {
		if b.failing.Load() {
			return errShown
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, deliverTime)
	defer cancel()
	err := b.deliver(ctx, m.Delivery)
	b.failing.Store(err != nil)
	return err
}

// fail reports a message that is not delivered, and gives its start back.
func (b *outbox) fail(m *message, err error) {
	defer b.pending.Done()
	ctx, cancel := context.WithTimeout(b.ctx, lookUpTime)
	defer cancel()
	if m.Purpose != Notice {
		if failed := b.through.GiveBack(ctx, m.started); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	if !m.silent {
		b.undelivered(m.Delivery, err)
	}
}

// close lets what waits be delivered for closeTime. Then it waits for endTime at most for the host
// and the store to return.
func (b *outbox) close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	sent := make(chan struct{})
	go func() { b.pending.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-time.After(closeTime):
	}
	b.cancel()
	ended := make(chan struct{})
	go func() {
		b.workers.Wait()
		b.drain(sent)
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(endTime):
		return &denizen.Error{
			Op: "Close", Kind: denizen.ErrUnavailable, Reason: "a message is still on its way",
		}
	}
}

// drain drops what nobody takes any more, until nothing is pending.
func (b *outbox) drain(sent <-chan struct{}) {
	for {
		select {
		case <-b.started:
			<-b.room
			b.pending.Done()
		case <-b.owned:
			b.pending.Done()
		case <-b.free:
			b.pending.Done()
		case <-sent:
			return
		}
	}
}

// ring holds the newest of some keys, for as long as their records live.
type ring struct {
	most int
	life time.Duration
	keys []aged // oldest first
}

type aged struct {
	key  store.Key
	from time.Time
}

// add adds a key. If there are too many it removes the oldest and returns it.
func (r *ring) add(key store.Key, now time.Time) (oldest store.Key, full bool) {
	for len(r.keys) > 0 && now.Sub(r.keys[0].from) >= r.life {
		r.keys = r.keys[1:]
	}
	if full = len(r.keys) >= r.most; full {
		oldest, r.keys = r.keys[0].key, r.keys[1:]
	}
	r.keys = append(r.keys, aged{key, now})
	return oldest, full
}
