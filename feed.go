package denizen

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Seq is a place in the order of changes. 0 is before all.
type Seq uint64

// EventKind is what an event tells of.
type EventKind string

// The kinds of events. Subjects are the ids or keys of what changed.
const (
	EventDirectoryFounded    EventKind = "directory.founded"
	EventUserCreated         EventKind = "user.created"
	EventUserRenamed         EventKind = "user.renamed"
	EventUserBlocked         EventKind = "user.blocked" // its tokens and its presence ended with it
	EventUserUnblocked       EventKind = "user.unblocked"
	EventUserPassed          EventKind = "user.passed"  // to who proved the locator in Subjects; its tokens, claims and presence ended
	EventUserDeleted         EventKind = "user.deleted" // and all that it had
	EventLocatorAdded        EventKind = "locator.added"
	EventLocatorOwned        EventKind = "locator.owned" // a pending claim became the user's own
	EventLocatorVerification EventKind = "locator.verification"
	EventLocatorRemoved      EventKind = "locator.removed"
	EventLocatorsSet         EventKind = "locators.set"
	EventAttributeDefined    EventKind = "attribute.defined"
	EventAttributeDropped    EventKind = "attribute.dropped"
	EventProfileChanged      EventKind = "profile.changed"
	EventPresenceSet         EventKind = "presence.set"
	EventPresenceCleared     EventKind = "presence.cleared"
	EventTokenIssued         EventKind = "token.issued"
	EventTokenExtended       EventKind = "token.extended"
	EventTokenRevoked        EventKind = "token.revoked" // without subjects: all that the user had
	EventAccessKeyCreated    EventKind = "accesskey.created"
	EventAccessKeyDeleted    EventKind = "accesskey.deleted"
	EventSigningKeyRotated   EventKind = "signingkey.rotated"
	EventSigningKeyDropped   EventKind = "signingkey.dropped"
)

// Event is one change, committed with what it tells of. It holds no secret, and no value of
// a locator or an attribute.
type Event struct {
	Seq        Seq
	At         time.Time
	Kind       EventKind
	Actor      string   // ".system" or the id of the user who made the change
	AccessKey  string   // that the actor came with, or that acted for it; may be empty
	User       UserID   // whom it is about; empty if about no user
	InternalID string   // of that user
	Subjects   []string // ids or keys of what changed; may be empty
}

// Events goes through the events after a place, in the order of their commits and without gaps, up
// to the newest, and then ends: [Directory.Follow] waits for more. An event is seen as soon as what
// it tells of is. A consumer that goes on after the Seq of the last event it dealt with sees every
// event at least once.
//
// If some are forgotten, or the store went back behind the place, it yields ErrMissed and ends:
// Resume is where to go on once the present state was read. A damaged event is ErrCorrupt beside an
// Event of nothing but its Seq, and the events after it follow. For .system only.
func (d *Directory) Events(ctx context.Context, by Principal, after Seq) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := d.events(ctx, "Events", by, after, yield)
		if naming("Events", &err); err != nil {
			yield(Event{}, err)
		}
	}
}

// Follow goes through the events after a place as [Directory.Events] does, and then waits for the
// next ones. It ends with an error: ErrUnavailable once ctx ends, ErrClosed once the directory is
// closed, ErrRevoked once the access key of by is gone, ErrMissed as Events does. For .system only.
func (d *Directory) Follow(ctx context.Context, by Principal, after Seq) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		last, stopped := after, false
		next := func(e Event, err error) bool {
			last = e.Seq
			stopped = !yield(e, err)
			return !stopped
		}
		for {
			err := d.events(ctx, "Follow", by, last, next)
			if err == nil && !stopped {
				err = d.waitForEvents(ctx, by, last)
			}
			if stopped {
				return
			}
			if naming("Follow", &err); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// events yields the events after a place, for a method that is called op.
func (d *Directory) events(ctx context.Context, op string, by Principal, after Seq, yield func(Event, error) bool) error {
	c, err := d.enter(ctx, opFeed, by, nobody)
	if err != nil {
		return err
	}
	for {
		feed, err := d.store.Changes(ctx, store.Seq(after), MaxPage)
		if _, err := d.read(ctx, &c); err != nil {
			return err
		}
		if isMissed(err) || err == nil && wentBack(feed, store.Seq(after)) {
			return &Error{Kind: ErrMissed, Field: "after", Resume: Seq(feed.Head)}
		}
		if err != nil {
			return err
		}
		for _, ch := range feed.Changes {
			after = Seq(ch.Seq)
			e, err := eventOf(ch)
			naming(op, &err)
			if !yield(e, err) {
				return nil
			}
		}
		if len(feed.Changes) < MaxPage {
			return nil
		}
	}
}

// eventOf decodes an event of the feed. One that is damaged has nothing but its Seq.
func eventOf(ch store.Change) (Event, error) {
	r, err := decodeEvent(ch)
	if err != nil {
		return Event{Seq: Seq(ch.Seq)}, err
	}
	return Event{
		Seq: Seq(ch.Seq), At: at(r.At), Kind: EventKind(r.What), Actor: r.Actor, AccessKey: r.AccessKey,
		User: UserID(r.User), InternalID: r.Incarnation, Subjects: r.Subjects,
	}, nil
}

// waitForEvents returns once there is an event after a place, or one that is forgotten by now.
func (d *Directory) waitForEvents(ctx context.Context, by Principal, after Seq) error {
	c, err := d.enter(ctx, opFeed, by, nobody)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.background.ctx, func() { cancel(refuse(ErrClosed, "", "")) })()
	seen := store.Seq(after)
	for {
		if _, err := d.read(ctx, &c); err != nil {
			return err
		}
		feed, err := d.store.Changes(ctx, seen, 1)
		if isMissed(err) || err == nil && wentBack(feed, seen) || len(feed.Changes) > 0 {
			return nil
		}
		if err == nil {
			// Commits without an event are passed over, so that they do not wake the caller.
			seen = max(seen, feed.Head)
			if err = d.store.Wait(ctx, seen); isMissed(err) {
				return nil
			}
		}
		if err != nil {
			return closedOr(ctx, err)
		}
	}
}

// Head returns the place of the newest commit. [Directory.Events] and [Directory.Follow] after it
// have what comes later and nothing else. For .system only.
func (d *Directory) Head(ctx context.Context, by Principal) (head Seq, err error) {
	defer naming("Head", &err)
	c, err := d.enter(ctx, opFeed, by, nobody)
	if err != nil {
		return 0, err
	}
	feed, err := headOf(ctx, d.store)
	if err != nil {
		return 0, err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return 0, err
	}
	return Seq(feed.Head), nil
}

// closedOr answers why ctx ended if the directory was closed, and err otherwise.
func closedOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return cause
	}
	return err
}

// TrimFeed forgets the events up to a place, for good; those that Options says to keep are
// forgotten too. For .system only.
func (d *Directory) TrimFeed(ctx context.Context, by Principal, upTo Seq) (err error) {
	defer naming("TrimFeed", &err)
	c, err := d.enter(ctx, opFeed, by, nobody)
	if err != nil {
		return err
	}
	if upTo == 0 {
		_, err := d.read(ctx, &c)
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		p.batch.Trim = store.Seq(upTo)
		return nil
	})
	return err
}

// wentBack reports whether a place is beyond all that the store knows, which then lost some.
func wentBack(feed store.Feed, after store.Seq) bool {
	return after != store.End && feed.Head < after
}

// decodeEvent reads an event of the feed, which may be damaged.
func decodeEvent(ch store.Change) (record.Event, error) {
	if ch.Damaged {
		return record.Event{}, record.ErrCorrupt
	}
	return record.DecodeEvent(ch.Event)
}

func isMissed(err error) bool { return errors.Is(err, store.ErrMissed) }

func isConflict(err error) bool { return errors.Is(err, store.ErrConflict) }

// headOf answers the state of a feed without any events.
func headOf(ctx context.Context, s store.Store) (store.Feed, error) {
	feed, err := s.Changes(ctx, store.End, 1)
	return feed, err
}

// walk goes through the records under a prefix, page by page.
func (d *Directory) walk(ctx context.Context, under store.Key) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for r := (store.Range{Under: under, Limit: maxSweep}); ; {
			records, err := d.store.List(ctx, r)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			for _, found := range records {
				if !yield(found, nil) {
					return
				}
			}
			if len(records) < r.Limit {
				return
			}
			r.After = records[len(records)-1].Key
		}
	}
}
