package denizen

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Seq is a place in the order of commits. 0 is before all.
type Seq uint64

// EventKind is what an event reports.
type EventKind string

// The kinds of events.
const (
	EventDirectoryFounded    EventKind = "directory.founded"
	EventUserCreated         EventKind = "user.created"
	EventUserRenamed         EventKind = "user.renamed"
	EventUserBlocked         EventKind = "user.blocked" // its tokens and presence ended, too
	EventUserUnblocked       EventKind = "user.unblocked"
	EventUserPassed          EventKind = "user.passed"  // see Directory.ProveLocator
	EventUserDeleted         EventKind = "user.deleted" // with all that it had
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
	EventTokenRevoked        EventKind = "token.revoked" // without Subjects: all of the user
	EventAccessKeyCreated    EventKind = "accesskey.created"
	EventAccessKeyDeleted    EventKind = "accesskey.deleted"
	EventSigningKeyRotated   EventKind = "signingkey.rotated"
	EventSigningKeyDropped   EventKind = "signingkey.dropped"
)

// Event tells of one change, and is committed together with it. It holds no secret, and no value of
// a locator or an attribute.
type Event struct {
	Seq        Seq
	At         time.Time
	Kind       EventKind
	Actor      string   // ".system" or the id of the user who made the change
	AccessKey  string   // the access key that the actor's Principal rests on; may be empty
	User       UserID   // whom the event is about; empty if about no user
	InternalID string   // of that user: see User.InternalID
	Subjects   []string // ids or keys of what changed; may be empty
}

// Events yields the events after a place, in the order of their commits and without gaps. It ends
// at the newest one; [Directory.Follow] waits for more. An event can be read as soon as its change
// can. A consumer that resumes after the Seq of the last event it handled sees every event at least
// once.
//
// If events after the place were trimmed, or the store went back to before it, Events yields
// [ErrMissed] and ends. Error.Resume is where to go on, after reading the present state. A damaged
// event is yielded as [ErrCorrupt] beside an Event that has only its Seq, and the later ones
// follow. Only .system may.
func (d *Directory) Events(ctx context.Context, by Principal, after Seq) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := d.events(ctx, "Events", by, after, yield)
		if wrapOp("Events", &err); err != nil {
			yield(Event{}, err)
		}
	}
}

// Follow yields the events after a place as [Directory.Events] does, and then waits for new ones.
// It ends with an error: [ErrUnavailable] once ctx ends, [ErrClosed] once the directory is closed,
// [ErrRevoked] once the access key of by is gone, and [ErrMissed] as Events does. Only .system may.
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
			if wrapOp("Follow", &err); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// events yields the events after a place, on behalf of the method op.
func (d *Directory) events(
	ctx context.Context, op string, by Principal, after Seq, yield func(Event, error) bool,
) error {
	c, err := d.enter(ctx, opFeed, by, noTarget)
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
			wrapOp(op, &err)
			if !yield(e, err) {
				return nil
			}
		}
		if len(feed.Changes) < MaxPage {
			return nil
		}
	}
}

// eventOf decodes an event. A damaged one has only its Seq.
func eventOf(ch store.Change) (Event, error) {
	r, err := record.DecodeChange(ch)
	if err != nil {
		return Event{Seq: Seq(ch.Seq)}, err
	}
	return Event{
		Seq: Seq(ch.Seq), At: timeOf(r.At), Kind: EventKind(r.What),
		Actor: r.Actor, AccessKey: r.AccessKey,
		User: UserID(r.User), InternalID: r.Incarnation, Subjects: r.Subjects,
	}, nil
}

// waitForEvents returns once there is an event after a place, or there was one that is trimmed by
// now.
func (d *Directory) waitForEvents(ctx context.Context, by Principal, after Seq) error {
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.background.ctx, func() { cancel(newError(ErrClosed, "", "")) })()
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
			// A commit without an event must not wake the caller.
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
// yield only what comes later. Only .system may.
func (d *Directory) Head(ctx context.Context, by Principal) (head Seq, err error) {
	defer wrapOp("Head", &err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
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

// closedOr returns ErrClosed if ctx ended because the directory was closed, and err otherwise.
func closedOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return cause
	}
	return err
}

// TrimFeed drops the events up to a place permanently, even those that Options would keep. Only
// .system may.
func (d *Directory) TrimFeed(ctx context.Context, by Principal, upTo Seq) (err error) {
	defer wrapOp("TrimFeed", &err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	if upTo == 0 {
		_, err := d.read(ctx, &c)
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		p.Trim(store.Seq(upTo))
		return nil
	})
	return err
}

// emit sets the event of the write. user is whom it is about, or nil. subjects are the ids or keys
// of what changed.
func (p *plan) emit(kind EventKind, user *record.User, subjects ...string) {
	p.event = newEvent(p.c, kind, subjects...)
	switch kind {
	case EventUserBlocked, EventUserDeleted, EventTokenRevoked,
		EventAccessKeyDeleted, EventSigningKeyDropped:
		p.Urgent() // ending something must work on a full disk, too
	}
	if user != nil {
		p.event.User, p.event.Incarnation = user.ID, user.Incarnation
	}
}

func newEvent(c *call, kind EventKind, subjects ...string) *record.Event {
	return &record.Event{
		At: c.now, What: string(kind), Subjects: subjects,
		Actor: c.by.String(), AccessKey: c.by.accessKey,
	}
}

// wentBack reports whether a place is beyond the end of the feed, which means that the store lost
// commits.
func wentBack(feed store.Feed, after store.Seq) bool {
	return after != store.End && feed.Head < after
}

func isMissed(err error) bool { return errors.Is(err, store.ErrMissed) }

// headOf returns a feed that has no events but its First and Head.
func headOf(ctx context.Context, s store.Store) (store.Feed, error) {
	return s.Changes(ctx, store.End, 1)
}

// walk yields the records under a prefix, page by page.
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
