package denizen

import (
	"context"
	"sync"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// CountUsers answers how many users there are, or were a moment ago if somebody writes
// meanwhile. The first call walks all keys, later ones follow the feed. For .system only.
func (d *Directory) CountUsers(ctx context.Context, by Principal) (n int, err error) {
	defer naming("CountUsers", &err)
	c, err := d.enter(ctx, opListUsers, by, nobody)
	if err != nil {
		return 0, err
	}
	if err := d.usable(); err != nil {
		return 0, err
	}
	if n, err = d.estimate.now(ctx, d.store); err != nil {
		return 0, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	return n, nil
}

// estimate is the number of users, as of a place in the feed.
type estimate struct {
	sync.Mutex
	known bool
	users int
	upTo  store.Seq
}

func (e *estimate) now(ctx context.Context, s store.Store) (int, error) {
	e.Lock()
	defer e.Unlock()
	for range maxTries {
		var err error
		if e.known {
			err = e.follow(ctx, s, func(store.Key, bool) bool { return true })
		} else {
			err = e.walk(ctx, s)
		}
		if err == nil {
			return e.users, nil
		}
		if !isMissed(err) {
			return 0, err
		}
		e.known = false
	}
	return 0, store.ErrUnavailable // the feed went back or was damaged all the while
}

// follow goes on to the end of the feed. counts says of a user who came or went whether
// that changes the number.
func (e *estimate) follow(ctx context.Context, s store.Store, counts func(user store.Key, came bool) bool) error {
	for {
		feed, err := s.Changes(ctx, e.upTo, store.MaxPage)
		if err == nil && feed.Head < e.upTo {
			err = store.ErrMissed // the store went back: what was counted may be gone
		}
		if err != nil {
			return err
		}
		for _, ch := range feed.Changes {
			event, err := decodeEvent(ch)
			if err != nil {
				return store.ErrMissed // it may have told of a user: the keys are counted again
			}
			switch user := record.UserKey(event.User); {
			case EventKind(event.What) == EventUserCreated && counts(user, true):
				e.users++
			case EventKind(event.What) == EventUserDeleted && counts(user, false):
				e.users--
			}
			e.upTo = ch.Seq
		}
		if len(feed.Changes) < store.MaxPage {
			e.upTo = feed.Head
			return nil
		}
	}
}

// walk counts the keys of users page by page, and after each follows the feed as far as it
// tells of users up to there, so that one who comes or goes meanwhile is counted right.
func (e *estimate) walk(ctx context.Context, s store.Store) error {
	feed, err := headOf(ctx, s)
	if err != nil {
		return err
	}
	e.users, e.upTo = 0, feed.Head
	for r := (store.Range{Under: record.Users, Limit: store.MaxPage, KeysOnly: true}); ; {
		page, err := s.List(ctx, r)
		if err != nil {
			return err
		}
		e.users += len(page)
		last := len(page) < r.Limit
		there := make(map[store.Key]bool, len(page))
		for _, p := range page {
			there[p.Key] = true
		}
		err = e.follow(ctx, s, func(user store.Key, came bool) bool {
			switch {
			case user <= r.After:
				return true
			case !last && user > page[len(page)-1].Key:
				return false // on a page to come
			}
			changes := there[user] != came
			there[user] = came
			return changes
		})
		if err != nil {
			return err
		}
		if last {
			e.known = true
			return nil
		}
		r.After = page[len(page)-1].Key
	}
}
