package denizen

import (
	"context"

	"github.com/denizenhq/denizen/store"
)

// trimFeed forgets events that are too old or too many, a bounded number in one commit.
func (d *Directory) trimFeed(ctx context.Context) error {
	t := &d.trimming
	oldest := d.clock.Now() - d.options.FeedMaxAge.Milliseconds()
	for t.next < oldest {
		feed, err := d.store.Changes(ctx, t.trimmed, MaxPage)
		if (err == nil || isMissed(err)) && feed.Head < max(t.trimmed, t.counted) {
			*t = trimming{trimmed: feed.First - 1} // the store went back
			continue
		}
		if isMissed(err) {
			t.trimmed = feed.First - 1 // somebody else trimmed
			continue
		}
		if err != nil {
			return err
		}
		old, newer := 0, false
		for i, ch := range feed.Changes {
			event, err := decodeEvent(ch)
			if err != nil {
				continue // as old as the one after it
			}
			if event.At >= oldest {
				t.next, newer = event.At, true
				break
			}
			old = i + 1
		}
		if len(feed.Changes) == MaxPage && !newer {
			old = MaxPage
		}
		if old > 0 {
			if err := d.trimTo(ctx, feed.Changes[old-1].Seq); err != nil {
				return err
			}
		}
		if old < MaxPage {
			break
		}
	}
	return d.countFeed(ctx)
}

// trimMany forgets the events that are too many, maxSweep or so in one commit.
func (d *Directory) trimMany(ctx context.Context) error {
	t := &d.trimming
	hop := max(1, maxSweep/t.step)
	for {
		for len(t.marks) > 0 && t.marks[0] <= t.trimmed {
			t.marks = t.marks[1:]
		}
		over := len(t.marks)*t.step + t.since - d.options.FeedMaxEvents
		if over <= 0 || len(t.marks) == 0 {
			return nil
		}
		n := min(hop, (over+t.step-1)/t.step, len(t.marks))
		if err := d.trimTo(ctx, t.marks[n-1]); err != nil {
			return err
		}
		t.marks = t.marks[n:]
	}
}

func (d *Directory) trimTo(ctx context.Context, upTo store.Seq) error {
	_, err := d.commit(ctx, &batch{Batch: store.Batch{Trim: upTo}})
	if err == nil {
		d.trimming.trimmed = upTo
	}
	return err
}

// countFeed counts the events that came since it last did, and forgets those that are too many.
func (d *Directory) countFeed(ctx context.Context) error {
	t := &d.trimming
	t.step = min(max(1, d.options.FeedMaxEvents/1000), maxSweep)
	for {
		feed, err := d.store.Changes(ctx, t.counted, MaxPage)
		if isMissed(err) || err == nil && feed.Head < t.counted {
			t.counted, t.since, t.marks = feed.First-1, 0, nil
			continue
		}
		if err != nil {
			return err
		}
		t.trimmed = min(max(t.trimmed, feed.First-1), feed.Head)
		for _, ch := range feed.Changes {
			t.counted = ch.Seq
			if t.since++; t.since == t.step {
				t.marks, t.since = append(t.marks, ch.Seq), 0
			}
		}
		if err := d.trimMany(ctx); err != nil {
			return err
		}
		if len(feed.Changes) < MaxPage {
			t.counted = max(t.counted, feed.Head)
			return nil
		}
	}
}

// trimming is how far the feed was trimmed and counted.
type trimming struct {
	trimmed store.Seq
	next    int64 // the time of an event after that, or 0: until it is too old none is
	counted store.Seq
	step    int
	marks   []store.Seq // every step-th event that was counted
	since   int         // events counted after the last mark
}
