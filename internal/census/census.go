// Package census counts the users in a store without counting them each time: it counts their keys
// once, and from then on follows the feed.
package census

import (
	"context"
	"errors"
	"sync"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Census is the number of users, as of a place in the feed.
type Census struct {
	store      store.Store
	came, went string // what the events are called that tell of it

	mu    sync.Mutex // guards what follows; held over calls of the store, so that one counts for all
	known bool
	users int
	upTo  store.Seq
}

// New returns a census of the users in a store. Came and went are what the events are called that
// tell of a user who was created or deleted.
func New(s store.Store, came, went string) *Census { return &Census{store: s, came: came, went: went} }

// maxTries is how often the users are counted at most where the feed is forgotten meanwhile.
const maxTries = 16

// Count returns how many users there are, or were a moment ago if somebody writes meanwhile.
func (c *Census) Count(ctx context.Context) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range maxTries {
		var err error
		if c.known {
			err = c.follow(ctx, func(store.Key, bool) bool { return true })
		} else {
			err = c.walk(ctx)
		}
		if err == nil {
			return c.users, nil
		}
		if !errors.Is(err, store.ErrMissed) {
			return 0, err
		}
		c.known = false
	}
	return 0, store.ErrUnavailable // the feed went back or was damaged all the while
}

// follow goes on to the end of the feed. Counts says of a user who came or went whether that
// changes the number.
func (c *Census) follow(ctx context.Context, counts func(user store.Key, came bool) bool) error {
	for {
		feed, err := c.store.Changes(ctx, c.upTo, store.MaxPage)
		if err == nil && feed.Head < c.upTo {
			err = store.ErrMissed // the store went back: what was counted may be gone
		}
		if err != nil {
			return err
		}
		for _, ch := range feed.Changes {
			event, err := record.DecodeChange(ch)
			if err != nil {
				return store.ErrMissed // it may have told of a user: the keys are counted again
			}
			switch user := record.UserKey(event.User); {
			case event.What == c.came && counts(user, true):
				c.users++
			case event.What == c.went && counts(user, false):
				c.users--
			}
			c.upTo = ch.Seq
		}
		if len(feed.Changes) < store.MaxPage {
			c.upTo = feed.Head
			return nil
		}
	}
}

// walk counts the keys of users page by page, and after each follows the feed as far as it
// tells of users up to there, so that one who comes or goes meanwhile is counted right.
func (c *Census) walk(ctx context.Context) error {
	feed, err := c.store.Changes(ctx, store.End, 1)
	if err != nil {
		return err
	}
	c.users, c.upTo = 0, feed.Head
	for r := (store.Range{Under: record.Users, Limit: store.MaxPage, KeysOnly: true}); ; {
		page, err := c.store.List(ctx, r)
		if err != nil {
			return err
		}
		c.users += len(page)
		last := len(page) < r.Limit
		there := make(map[store.Key]bool, len(page))
		for _, p := range page {
			there[p.Key] = true
		}
		err = c.follow(ctx, func(user store.Key, came bool) bool {
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
			c.known = true
			return nil
		}
		r.After = page[len(page)-1].Key
	}
}
