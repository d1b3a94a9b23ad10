package denizen

import (
	"context"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
)

// Here is what package webhook needs of a directory and importers must not see: Notify with batches
// that are the same whenever they are tried, whoever tries them.

// fixed is how a batch is kept the same. Its bounds are stored before it is tried first.
type fixed struct {
	fit   func([]Event) (n int, wanted bool)
	begun int64 // when the batch that is delivered was tried first
}

func (b behindDoor) Deliver(
	ctx context.Context, by any, name string, consumer door.Consumer,
) (err error) {
	defer b.trace(&ctx, "Post", by).end(&err)
	c, err := b.d.enter(ctx, opFeed, by.(Principal), noTarget)
	if err != nil {
		return err
	}
	f := &fixed{fit: func(batch []Event) (int, bool) { return consumer.Fit(batch) }}
	return (&notifier{
		d: b.d, c: c, name: name, fixed: f,
		handle: func(ctx context.Context, batch []Event) error {
			return consumer.Handle(ctx, time.UnixMilli(f.begun), batch)
		},
	}).run(ctx)
}

// begin stores the bounds of a batch and delivers it. If nobody wants it, it is handled.
func (n *notifier) begin(ctx context.Context, from string, batch []Event) error {
	size, wanted := n.fixed.fit(slices.Clone(batch))
	batch = batch[:size]
	end := string(batch[size-1].Cursor)
	if !wanted {
		return n.handled(ctx, from, end)
	}
	begun := n.d.clock.Now()
	err := n.update(ctx, from, func(r *record.Consumer) {
		r.End, r.Begun, r.Missed = end, begun, batch[0].Kind == EventMissed
	})
	if err != nil {
		return err
	}
	n.fixed.begun = begun
	return n.deliver(ctx, from, batch)
}

// again returns the batch whose bounds are stored, or nil if its events were forgotten meanwhile.
func (n *notifier) again(ctx context.Context, r *record.Consumer) ([]Event, error) {
	n.fixed.begun = r.Begun
	if r.Missed {
		return []Event{{Kind: EventMissed, Cursor: Cursor(r.End), At: timeOf(r.Begun)}}, nil
	}
	batch, _, err := n.next(ctx, Cursor(r.Cursor), maxBatch)
	if err != nil {
		return nil, err
	}
	last := slices.IndexFunc(batch, func(e Event) bool {
		return string(e.Cursor) == r.End && e.Kind != EventMissed
	})
	if last < 0 {
		return nil, nil
	}
	return batch[:last+1], nil
}
