package denizen

import (
	"context"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// PresentQuery asks for a page of users who are here.
type PresentQuery struct {
	Limit int           // 1 to MaxPage; 0: MaxPage
	After PresentCursor // PresentPage.Next of the page before; empty: from the start
}

// PresentCursor is where a page of users who are here ended. It is opaque, and valid for the
// directory that made it. Any other is [ErrInvalid] with Field "after".
type PresentCursor string

// PresentPage is a page of users who are here, in no order that means anything.
type PresentPage struct {
	Users []UserPresence
	Next  PresentCursor // where to go on; empty: this is the last page
}

// lookedAt is how many keys Present looks at.
const lookedAt = 5000

// Present returns a page of the users who are here now: those who have a presence in another state
// than [StateOffline], also if they hide it from their peers. It does not look at the others, but
// for those who were here within the last two hours, and it may look twice at whom it finds, if
// its presence ends at another hour than it did a day ago. A user whose presence changes while one
// pages may come twice, or not at all.
//
// It looks 5000 times, whatever the limit is. So where many have left or changed lately a page may
// be short, or empty, although there is a next one.
//
// A user whose presence was last written by a version of this package that did not keep the index
// is found once it is written again. Only .system may.
func (d *Directory) Present(
	ctx context.Context, by Principal, q PresentQuery,
) (page PresentPage, err error) {
	defer d.trace(&ctx, "Present", &by).end(&err)
	c, err := d.enter(ctx, opListUsers, by, noTarget)
	if err != nil {
		return PresentPage{}, err
	}
	if q.Limit == 0 {
		q.Limit = MaxPage
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return PresentPage{}, invalid("limit", "must be 1 to 1000")
	}
	var after store.Key
	if q.After != "" {
		last, err := d.openCursor(string(q.After), presentCursors)
		if err != nil {
			return PresentPage{}, err
		}
		after = store.Key(last)
	}
	page.Users = make([]UserPresence, 0, q.Limit)
	for looked, width := 0, q.Limit; ; width = min(2*width, MaxPage) {
		some, last, err := d.present(ctx, &c, after, width, q.Limit-len(page.Users))
		if err != nil {
			return PresentPage{}, err
		}
		page.Users = append(page.Users, some...)
		if last == "" {
			return page, nil
		}
		after, looked = last, looked+width
		if len(page.Users) == q.Limit || looked >= lookedAt {
			page.Next = PresentCursor(d.sealCursor(string(last), presentCursors))
			return page, nil
		}
	}
}

// maxStates is how many names of states CountPresent counts.
const maxStates = 1000

// CountPresent returns how many users are here in each state: those that [Directory.Present] pages
// through. Past 1000 names of states, users in further ones are counted together under the empty
// name. Only .system may.
func (d *Directory) CountPresent(
	ctx context.Context, by Principal,
) (states map[string]int, err error) {
	defer d.trace(&ctx, "CountPresent", &by).end(&err)
	c, err := d.enter(ctx, opListUsers, by, noTarget)
	if err != nil {
		return nil, err
	}
	states = map[string]int{}
	for after := store.Key(""); ; {
		some, last, err := d.present(ctx, &c, after, MaxPage, MaxPage)
		if err != nil {
			return nil, err
		}
		for i := range some {
			name := some[i].Presence.State()
			if _, known := states[name]; !known && len(states) >= maxStates {
				name = ""
			}
			states[name]++
		}
		if after = last; last == "" {
			return states, nil
		}
	}
}

// present looks at the next width users after a key who may be here, until it has found as many who
// are as the limit says. Last is where to go on, or "" after the last one.
func (d *Directory) present(
	ctx context.Context, c *call, after store.Key, width, limit int,
) (here []UserPresence, last store.Key, err error) {
	if err := d.usable(); err != nil {
		return nil, "", err
	}
	c.now = d.clock.Now()
	first := record.FirstHereKey(record.HereFrom(c.now))
	r := store.Range{Under: record.Heres, After: max(after, first), Limit: width, KeysOnly: true}
	found, err := d.store.List(ctx, r)
	if err != nil {
		return nil, "", err
	}
	keys := make([]store.Key, len(found))
	for i := range found {
		_, user := record.HereOf(found[i].Key)
		keys[i] = record.DevicesKey(user)
	}
	entries, err := d.read(ctx, c, keys...)
	if err != nil {
		return nil, "", err
	}
	for i, e := range entries {
		place, user := record.HereOf(found[i].Key)
		r, ok := e.Value().(*record.Devices)
		if !ok || r.Here != place {
			continue // it changed since, and has another key
		}
		reading := e.Pending().Read(r, c.now)
		if len(reading.Rest) == 0 || reading.Rest[0].State == StateOffline {
			continue
		}
		here = append(here, UserPresence{})
		fillPresence(&here[len(here)-1], UserID(user), &reading)
		if len(here) == limit && (i < len(found)-1 || len(found) == width) {
			return here, found[i].Key, nil
		}
	}
	if len(found) == width {
		last = found[width-1].Key
	}
	return here, last, nil
}
