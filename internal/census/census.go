// Package census counts the users in a store without counting them each time: it counts their keys
// once, and from then on follows the feed.
package census

import (
	"context"
	"errors"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Census is the number of users, as of a place in the feed.
type Census struct {
	store store.Store
	came  string   // the kind of the events about a user who was created
	went  []string // the kinds of those about one who is gone

	// lock guards the fields below; who has put a value in holds it. It is held over calls of the
	// store, so that one caller counts for all. It is a channel because a count may be slow, and a
	// caller whose context ends must not wait for that of another.
	lock  chan struct{}
	known bool // whether users is the number of users as of upTo
	users int
	upTo  store.Seq
}

// New returns a census of the users in a store. came is the kind of the events about a user who was
// created, and went are those about one who is gone.
func New(s store.Store, came string, went ...string) *Census {
	return &Census{store: s, came: came, went: went, lock: make(chan struct{}, 1)}
}

// maxTries is how often the users are counted if the feed is trimmed or goes back meanwhile.
const maxTries = 16

// Count returns how many users there are, or were a moment ago if somebody writes meanwhile. It
// returns the error of ctx once that ends.
func (c *Census) Count(ctx context.Context) (int, error) {
	select {
	case c.lock <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-c.lock }()
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
	return 0, store.ErrUnavailable // the feed was trimmed, went back or was damaged each time
}

// follow reads the feed to its end. counts reports whether a user who came or went changes the
// number.
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
				return store.ErrMissed // it may be about a user, so count the keys again
			}
			switch user := record.UserKey(event.User); {
			case event.What == c.came && counts(user, true):
				c.users++
			case slices.Contains(c.went, event.What) && counts(user, false):
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

// walk counts the keys of users page by page. After each page it follows the feed as far as it is
// about users up to there, so that one who comes or goes meanwhile is counted right.
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
