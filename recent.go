package denizen

import (
	"bytes"
	"context"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// EventQuery asks for a page of the newest events.
type EventQuery struct {
	User     UserID      // about whom, as Event.User or Event.Other; empty: about anybody or nobody
	Kinds    []EventKind // of these kinds; none: of any
	Operator string      // by this operator: see [Principal.Named]; empty: by anybody
	Before   Seq         // EventPage.Next of the page before; 0: from the newest
	Limit    int         // 1 to MaxList; 0: MaxList
}

// EventPage is a page of events, the newest first.
type EventPage struct {
	Events []Event
	Next   Seq // where to go on; 0: no older event is kept
}

// lookedThrough is how many events RecentEvents looks through.
const lookedThrough = 5000

// RecentEvents returns the newest events first, for people to look at. Programs go through the feed
// in its own order: see [Directory.Events].
//
// It looks through the newest 5000 events before the place, whatever is asked for. So a page may be
// short, or empty, although there are older ones for the next. An event that is damaged has only
// its Seq and Cursor, and is in a page of events of all. Only .system may.
func (d *Directory) RecentEvents(
	ctx context.Context, by Principal, q EventQuery,
) (page EventPage, err error) {
	defer d.trace(&ctx, "RecentEvents", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return EventPage{}, err
	}
	if q.Limit == 0 {
		q.Limit = MaxList
	}
	if q.Limit < 1 || q.Limit > MaxList {
		return EventPage{}, invalid("limit", "must be 1 to 100")
	}
	for range maxTries { // the feed may be trimmed or go back meanwhile
		if page, err = d.recentEvents(ctx, &q); !isMissed(err) {
			break
		}
	}
	if err != nil {
		return EventPage{}, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return EventPage{}, err
	}
	return page, nil
}

// recentEvents reads windows of the feed from its end back. Commits without an event have places,
// too, so a window in which little is found is followed by a wider one.
func (d *Directory) recentEvents(ctx context.Context, q *EventQuery) (page EventPage, err error) {
	feed, err := headOf(ctx, d.store)
	if err != nil {
		return page, err
	}
	// What is wanted is after oldest, and at end at most.
	oldest, end := max(feed.First, 1)-1, feed.Head
	if q.Before != 0 {
		end = min(end, max(store.Seq(q.Before), 1)-1)
	}
	mentions := mentionsOf(q)
	page.Events = make([]Event, 0, q.Limit)
	searched := 0
	for width := store.Seq(MaxPage); oldest < end; {
		after := max(oldest, end-min(width, end))
		feed, err := d.store.Changes(ctx, after, MaxPage)
		if err != nil {
			return page, err
		}
		if n := len(feed.Changes); n == MaxPage && feed.Changes[n-1].Seq < end {
			width = max(width/2, MaxPage) // there are more than a page, from the wrong end
			continue
		}
		for _, ch := range slices.Backward(feed.Changes) {
			if ch.Seq > end {
				continue
			}
			if mentions(ch.Event) {
				if e, wanted := d.wantedEvent(q, ch); wanted {
					page.Events = append(page.Events, e)
				}
			}
			searched++
			if len(page.Events) == q.Limit || searched == lookedThrough {
				if oldest < ch.Seq-1 {
					page.Next = Seq(ch.Seq)
				}
				return page, nil
			}
		}
		end = after
		if len(feed.Changes) < MaxPage/2 {
			width *= 2
		}
	}
	return page, nil
}

// mentionsOf returns a function that reports whether an event may be asked for, by what it holds in
// each spelling of JSON. So most of the others need no decoding.
func mentionsOf(q *EventQuery) func(event []byte) bool {
	quoted := func(s string) []byte { return []byte(`"` + s + `"`) }
	about, kinds := quoted(string(q.User)), make([][]byte, len(q.Kinds))
	for i, k := range q.Kinds {
		kinds[i] = quoted(string(k))
	}
	return func(event []byte) bool {
		held := func(quoted []byte) bool { return bytes.Contains(event, quoted) }
		return (q.User == "" || held(about)) &&
			(len(kinds) == 0 || slices.ContainsFunc(kinds, held))
	}
}

// wantedEvent returns an event if it is asked for.
func (d *Directory) wantedEvent(q *EventQuery, ch store.Change) (Event, bool) {
	r, err := record.DecodeChange(ch)
	if err != nil {
		damaged := Event{Seq: Seq(ch.Seq), Cursor: d.cursor(place{seq: ch.Seq})}
		return damaged, q.User == "" && len(q.Kinds) == 0 && q.Operator == ""
	}
	if q.User != "" && r.User != string(q.User) && r.Other != string(q.User) ||
		len(q.Kinds) > 0 && !slices.Contains(q.Kinds, EventKind(r.What)) ||
		q.Operator != "" && r.Operator != q.Operator {
		return Event{}, false
	}
	e, _ := d.shownEvent(ch.Seq, &r)
	return e, true
}
