package denizen

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// Bounds of the batches of Notify.
const (
	maxBatch      = 256
	maxBatchBytes = 256 << 10 // of the events as they are stored
)

// A consumer has one holder. The holder writes the consumer's record after each batch, and while it
// works at one. A challenger takes over if there is something to deliver and it saw the record
// unchanged for long. It counts its own looks and not the time of a clock, which may be set.
const (
	renewEvery = 10 * time.Second
	lookEvery  = 5 * time.Second
	lookTimes  = 6 // unchanged, so for 30 seconds
)

// stuckAfter is how often a batch fails before the host is told: after about two minutes.
const stuckAfter = 8

// notified is the names that Notify runs for in this directory.
type notified struct {
	sync.Mutex
	names map[string]bool
}

// begin reports whether the name was free, and takes it.
func (n *notified) begin(name string) bool {
	n.Lock()
	defer n.Unlock()
	if n.names[name] {
		return false
	}
	if n.names == nil {
		n.names = map[string]bool{}
	}
	n.names[name] = true
	return true
}

func (n *notified) end(name string) {
	n.Lock()
	defer n.Unlock()
	delete(n.names, name)
}

// Notify calls a function with the events that a consumer has not handled yet, and then with new
// ones as they come. The name, of 1 to 72 letters, digits, dots, dashes and underscores, says which
// consumer it is. How far it has come is kept under the name, so it goes on there after a restart.
// A new consumer begins at the oldest event that is kept: see [Directory.ResetConsumer].
//
// Each event is delivered at least once and in order, in batches of 256 events and 256 KiB at most.
// A batch is handled once the function has returned nil. If it returns an error it is called again
// with the same batch, after a second and then ever later, up to a minute. It may be called again
// with a batch that it has handled: if the process is killed, or is paused for long while another
// takes over. The slice belongs to the function. A damaged event has only its Seq and Cursor.
//
// If events were forgotten before they were delivered, the function is called with a single Event
// that has the Kind [EventMissed] and a Cursor. It should read the present state. Once it has
// returned nil, delivery goes on after that Cursor.
//
// Several processes may call Notify with the same name over one store; one of them delivers. If it
// ends without a word, another takes over 30 to 35 seconds after there is something to deliver. The
// context of the function ends if another has taken over. Nothing is written unless something is
// delivered. Over a store that is for one directory alone no time passes before a restarted process
// delivers.
//
// After a batch has failed eight times, in about two minutes, Options.Logger and
// [Directory.Consumers] say that the consumer is stuck. It goes on trying. To skip the batch let
// the function return nil, or call ResetConsumer with Consumer.Stuck.
//
// Notify returns [ErrUnavailable] once ctx has ended, and another process then takes over at once.
// It returns the errors of the store, after which it may be called again; [ErrClosed] once the
// directory is closed; [ErrRevoked] once the access key of by is gone; and [ErrCorrupt] if the
// consumer's own record is damaged. If Notify runs for the name in this directory already it
// returns [ErrTaken] with Field "name". Only .system may.
func (d *Directory) Notify(
	ctx context.Context, by Principal, name string, handle func(context.Context, []Event) error,
) (err error) {
	defer d.trace(&ctx, "Notify", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	return (&notifier{d: d, c: c, name: name, handle: handle}).run(ctx)
}

// run delivers until ctx ends or the store fails.
func (n *notifier) run(ctx context.Context) error {
	d := n.d
	if err := checkConsumer(n.name); err != nil {
		return err
	}
	if d.parent != nil {
		return invalid("directory", "is in a transaction")
	}
	if !d.notified.begin(n.name) {
		return newError(ErrTaken, "name", "is being notified already")
	}
	defer d.notified.end(n.name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.background.ctx, func() { cancel(newError(ErrClosed, "", "")) })()
	if n.sole = d.records.Caching(); !n.sole {
		n.holder = uuid.NewString()
		defer n.release(ctx)
	}
	for ctx.Err() == nil {
		if err := n.step(ctx); err != nil && err != errLost {
			return closedOr(ctx, err)
		}
	}
	return closedOr(ctx, ctx.Err())
}

func checkConsumer(name string) error {
	if !applicationID(name) {
		return invalid("name", "must be 1 to 72 letters, digits, dots, dashes and underscores")
	}
	return nil
}

// backOff returns how long to wait after something failed for the n-th time: a second, then twice
// as long each time, a minute at most.
func backOff(n int) time.Duration { return min(time.Second<<min(n-1, 6), time.Minute) }

// sleep waits, and returns an error if ctx ends before.
func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notifier delivers to one consumer.
type notifier struct {
	d      *Directory
	c      call
	name   string
	handle func(context.Context, []Event) error
	fixed  *fixed // how batches are kept the same; nil: they are not
	sole   bool   // no other process delivers
	holder string // what the record names as its holder while this is; empty if sole

	seen      store.Seq // the version of the record at the last look, while another holds it
	unchanged int       // looks since then that saw the same
}

// errLost says that another delivers, or that the consumer was reset.
var errLost = errors.New("the consumer was taken over or reset")

// step delivers a batch, or waits for an event, or looks whether the holder is alive.
func (n *notifier) step(ctx context.Context) error {
	entries, err := n.d.read(ctx, &n.c, record.ConsumerKey(n.name))
	if err != nil {
		return err
	}
	r, _ := entries[0].Value().(*record.Consumer)
	if r == nil {
		r = &record.Consumer{Name: n.name}
	}
	held := n.sole || r.Holder == n.holder
	if held && n.fixed != nil && r.End != "" {
		batch, err := n.again(ctx, r)
		if err != nil {
			return err
		}
		if batch != nil {
			return n.deliver(ctx, r.Cursor, batch)
		}
	}
	limit := maxBatch
	if !held {
		limit = 1 // to see whether there is one
	}
	batch, at, err := n.next(ctx, Cursor(r.Cursor), limit)
	if err != nil {
		return err
	}
	if len(batch) == 0 {
		n.seen = 0
		return n.d.waitForEvents(ctx, n.c.by, at)
	}
	if held && n.fixed != nil {
		return n.begin(ctx, r.Cursor, batch)
	}
	if held {
		return n.deliver(ctx, r.Cursor, batch)
	}
	version := entries[0].Version()
	if r.Holder != "" {
		if version != n.seen {
			n.seen, n.unchanged = version, 0
		}
		if n.unchanged < lookTimes {
			n.unchanged++
			return sleep(ctx, lookEvery)
		}
	}
	n.seen = 0
	return n.take(ctx, version)
}

// next returns the next batch after a cursor. Without one it returns the place to wait at.
func (n *notifier) next(
	ctx context.Context, after Cursor, limit int,
) (batch []Event, at place, err error) {
	if at, err = n.d.parse(after); err == nil {
		var feed store.Feed
		if feed, _, err = changesAfter(ctx, n.d.store, at, limit); err == nil {
			size := 0
			for _, ch := range feed.Changes {
				if size += len(ch.Event); size > maxBatchBytes && len(batch) > 0 {
					break
				}
				e, _, _ := n.d.eventOf(ch) // a damaged one has its place
				batch = append(batch, e)
			}
			return batch, at, nil
		}
	}
	if isMissed(err) {
		if e, ok := n.d.missed(ctx).(*Error); ok {
			return []Event{{Kind: EventMissed, Cursor: e.Resume, At: timeOf(n.d.clock.Now())}}, at, nil
		}
	}
	if errors.Is(err, ErrInvalid) {
		err = record.ErrCorrupt
	}
	return nil, at, err
}

// take makes this the holder, if the record is still at the version.
func (n *notifier) take(ctx context.Context, version store.Seq) error {
	return n.write(ctx, func(e *txn.Entry, r *record.Consumer) error {
		if e.Version() != version {
			return errLost
		}
		r.Holder = n.holder
		return nil
	})
}

// update changes the record, if this still delivers after the given cursor.
func (n *notifier) update(ctx context.Context, from string, change func(*record.Consumer)) error {
	return n.write(ctx, func(_ *txn.Entry, r *record.Consumer) error {
		if !n.delivers(r, from) {
			return errLost
		}
		r.Holder = n.holder
		change(r)
		return nil
	})
}

// write commits what change makes of the consumer's record.
func (n *notifier) write(
	ctx context.Context, change func(*txn.Entry, *record.Consumer) error,
) error {
	key := record.ConsumerKey(n.name)
	_, err := n.d.write(ctx, &n.c, func(p *plan) error {
		entries, err := p.read(key)
		if err != nil {
			return err
		}
		r := record.Consumer{Name: n.name}
		if found, ok := entries[0].Value().(*record.Consumer); ok {
			r = *found
		}
		if err := change(entries[0], &r); err != nil {
			return err
		}
		p.Put(key, &r)
		return nil
	})
	return err
}

// release lets another take over at once.
func (n *notifier) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = n.write(ctx, func(_ *txn.Entry, r *record.Consumer) error {
		if r.Holder != n.holder {
			return errLost
		}
		r.Holder = ""
		return nil
	})
}

// deliver calls the function until it has handled a batch, and stores that.
func (n *notifier) deliver(ctx context.Context, from string, batch []Event) error {
	end := string(batch[len(batch)-1].Cursor)
	for failed := 1; ; failed++ {
		err := n.hold(ctx, from, func(ctx context.Context) error {
			return n.handle(ctx, append([]Event(nil), batch...))
		})
		if err == nil {
			return n.handled(ctx, from, end)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed >= stuckAfter {
			n.d.warn("stuck "+n.name, "a consumer of the feed is stuck",
				slog.String("consumer", n.name), slog.Int("tries", failed), slog.Any("err", err))
		}
		if err = n.check(ctx, from); err == nil && failed == stuckAfter {
			err = n.update(ctx, from, func(r *record.Consumer) {
				r.Stuck, r.Since = end, n.d.clock.Now()
			})
		}
		if err != nil {
			return err
		}
		_ = n.hold(ctx, from, func(ctx context.Context) error { return sleep(ctx, backOff(failed)) })
		if err := n.check(ctx, from); err != nil {
			return err
		}
	}
}

// handled stores that all up to end is handled, also if ctx has ended meanwhile.
func (n *notifier) handled(ctx context.Context, from, end string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	return n.update(ctx, from, func(r *record.Consumer) {
		*r = record.Consumer{Name: r.Name, Cursor: end, Holder: r.Holder}
	})
}

// check returns errLost if this does not deliver after the given cursor any more.
func (n *notifier) check(ctx context.Context, from string) error {
	entries, err := n.d.read(ctx, &n.c, record.ConsumerKey(n.name))
	if err != nil {
		return err
	}
	r, _ := entries[0].Value().(*record.Consumer)
	if r == nil {
		r = new(record.Consumer)
	}
	if !n.delivers(r, from) {
		return errLost
	}
	return nil
}

// delivers reports whether this delivers after the given cursor.
func (n *notifier) delivers(r *record.Consumer, from string) bool {
	return (n.sole || r.Holder == n.holder) && r.Cursor == from
}

// hold calls f and renews the lease meanwhile. It ends the context of f if the lease is lost.
func (n *notifier) hold(
	ctx context.Context, from string, f func(context.Context) error,
) error {
	if n.sole {
		return f(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel()
	renewing.Go(func() {
		for sleep(ctx, renewEvery) == nil {
			if n.update(ctx, from, func(*record.Consumer) {}) == errLost {
				cancel()
			}
		}
	})
	return f(ctx)
}
