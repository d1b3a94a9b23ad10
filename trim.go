package denizen

import (
	"context"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// trimFeed forgets events that are too old or too many, a bounded number in one commit.
func (d *Directory) trimFeed(ctx context.Context) error {
	t := &d.trimming
	oldest := d.clock.Now() - d.options.FeedKeep.Milliseconds()
	for t.next < oldest {
		feed, err := d.store.Changes(ctx, t.trimmed, MaxPage)
		if isMissed(err) {
			t.trimmed = feed.First - 1 // somebody else trimmed
			continue
		}
		if err != nil {
			return err
		}
		old := 0
		for ; old < len(feed.Changes); old++ {
			event, err := record.DecodeEvent(feed.Changes[old].Event)
			if err != nil {
				return err
			}
			if event.At >= oldest {
				t.next = event.At
				break
			}
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
	if err := d.countFeed(ctx); err != nil {
		return err
	}
	for len(t.marks) > 0 && (t.marks[0] <= t.trimmed || len(t.marks)*t.step+t.since > d.options.FeedMax) {
		if t.marks[0] > t.trimmed {
			if err := d.trimTo(ctx, t.marks[0]); err != nil {
				return err
			}
		}
		t.marks = t.marks[1:]
	}
	return nil
}

func (d *Directory) trimTo(ctx context.Context, upTo store.Seq) error {
	_, err := d.commit(ctx, &batch{Batch: store.Batch{Trim: upTo}})
	if err == nil {
		d.trimming.trimmed = upTo
	}
	return err
}

// countFeed counts the events that came since it last did.
func (d *Directory) countFeed(ctx context.Context) error {
	t := &d.trimming
	t.step = min(max(1, d.options.FeedMax/1000), maxSweep)
	for {
		feed, err := d.store.Changes(ctx, t.counted, MaxPage)
		if isMissed(err) {
			t.counted, t.since, t.marks = feed.First-1, 0, nil
			continue
		}
		if err != nil {
			return err
		}
		t.trimmed = max(t.trimmed, feed.First-1)
		for _, ch := range feed.Changes {
			t.counted = ch.Seq
			if t.since++; t.since == t.step {
				t.marks, t.since = append(t.marks, ch.Seq), 0
			}
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
