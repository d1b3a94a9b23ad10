package denizen

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Seq is a place in the order of commits. 0 is before all. A consumer keeps a [Cursor] instead.
type Seq uint64

// EventKind is what an event reports.
type EventKind string

// The kinds of events.
const (
	EventDirectoryFounded    EventKind = "directory.founded"
	EventDirectoryRekeyed    EventKind = "directory.rekeyed"  // see Directory.Rekey
	EventDirectoryRestored   EventKind = "directory.restored" // see Restore
	EventUserCreated         EventKind = "user.created"       // Other lost Subjects: see ProveLocator
	EventUserRenamed         EventKind = "user.renamed"
	EventUserBlocked         EventKind = "user.blocked" // its tokens and presence ended, too
	EventUserUnblocked       EventKind = "user.unblocked"
	EventUserPassed          EventKind = "user.passed"  // see Directory.ProveLocator
	EventUserDeleted         EventKind = "user.deleted" // with all that it had
	EventUserMerged          EventKind = "user.merged"  // it is gone, and Other has what it had
	EventUserErased          EventKind = "user.erased"  // see Directory.EraseUser
	EventLocatorAdded        EventKind = "locator.added"
	EventLocatorOwned        EventKind = "locator.owned" // a pending claim became the user's own
	EventLocatorVerification EventKind = "locator.verification"
	EventLocatorRemoved      EventKind = "locator.removed"
	EventLocatorMoved        EventKind = "locator.moved"    // Other owns it now
	EventLocatorRevealed     EventKind = "locator.revealed" // see Directory.RevealLocator
	EventLocatorsSet         EventKind = "locators.set"
	EventLocatorsRestored    EventKind = "locators.restored" // a change was undone; tokens ended, too
	EventUndoCancelled       EventKind = "undo.cancelled"
	EventAttributeDefined    EventKind = "attribute.defined"
	EventAttributeDropped    EventKind = "attribute.dropped"
	EventProfileChanged      EventKind = "profile.changed"
	EventPresenceSet         EventKind = "presence.set"
	EventPresenceCleared     EventKind = "presence.cleared"
	EventPresenceHidden      EventKind = "presence.hidden" // from the user's peers
	EventPresenceShown       EventKind = "presence.shown"
	EventTokenIssued         EventKind = "token.issued"
	EventTokenExtended       EventKind = "token.extended"
	EventTokenRevoked        EventKind = "token.revoked" // without Subjects: all of the user
	EventAccessKeyCreated    EventKind = "accesskey.created"
	EventAccessKeyDeleted    EventKind = "accesskey.deleted"
	EventSigningKeyRotated   EventKind = "signingkey.rotated"
	EventSigningKeyDropped   EventKind = "signingkey.dropped"
	EventConsumerReset       EventKind = "consumer.reset"
	EventConsumerDeleted     EventKind = "consumer.deleted"
)

// EventMissed is in no feed. [Directory.Notify] tells with it that events were forgotten.
const EventMissed EventKind = "missed"

// Event tells of one change, and is committed together with it. It holds no secret, and of a user
// nothing but ids: no name, locator, attribute, device or label.
type Event struct {
	Seq        Seq
	Cursor     Cursor // to go on after this event
	At         time.Time
	Kind       EventKind
	Actor      string   // ".system" or the id of the user who made the change
	AccessKey  string   // the access key that the actor's Principal rests on; may be empty
	Operator   string   // who acted for the application: see Principal.Named; may be empty
	User       UserID   // whom the event is about; empty if about no user
	InternalID string   // of that user: see User.InternalID
	Other      UserID   // a second user whom it is about, with some kinds; may be empty
	Subjects   []string // ids of tokens and locators, keys of attributes; may be empty
}

// Events yields the events after a place, in the order of their commits and without gaps. It ends
// at the newest one; [Directory.Follow] waits for more. An event can be read as soon as its change
// can. A consumer that resumes after the Cursor of the last event it handled sees every event at
// least once. One without a cursor begins at the oldest event that is kept.
//
// If events after the place were trimmed, or it is of another history because the store was put
// back, Events yields [ErrMissed] and ends. Error.Resume is where to go on, after reading the
// present state. What is no cursor is [ErrInvalid] with Field "after". A damaged event is yielded
// as [ErrCorrupt] beside an Event that has only its Seq and Cursor, and the later ones follow. Only
// .system may.
func (d *Directory) Events(
	ctx context.Context, by Principal, after Cursor,
) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "Events", &by).end(&err)
		_, err = d.events(ctx, "Events", by, after, yield)
		if wrapOp("Events", &err); err != nil {
			yield(Event{}, err)
		}
	}
}

// Follow yields the events after a place as [Directory.Events] does, and then waits for new ones.
// It ends with an error: [ErrUnavailable] once ctx ends, [ErrClosed] once the directory is closed,
// [ErrRevoked] once the access key of by is gone, and [ErrMissed] as Events does. Only .system may.
func (d *Directory) Follow(
	ctx context.Context, by Principal, after Cursor,
) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "Follow", &by).end(&err)
		last, stopped := after, false
		next := func(e Event, err error) bool {
			stopped = !yield(e, err)
			return !stopped
		}
		for {
			var at place
			at, err = d.events(ctx, "Follow", by, last, next)
			if err == nil && !stopped {
				last = d.cursor(at)
				err = d.waitForEvents(ctx, by, at)
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

// events yields the events after a place, on behalf of the method op. It returns where it ended.
func (d *Directory) events(
	ctx context.Context, op string, by Principal, after Cursor, yield func(Event, error) bool,
) (at place, err error) {
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return at, err
	}
	at, err = d.parse(after)
	for {
		var feed store.Feed
		var whole bool
		if err == nil {
			feed, whole, err = changesAfter(ctx, d.store, at, store.MaxPage)
		}
		if _, err := d.read(ctx, &c); err != nil {
			return at, err
		}
		if isMissed(err) {
			return at, d.missed(ctx)
		}
		if err != nil {
			return at, err
		}
		for _, ch := range feed.Changes {
			e, p, err := d.eventOf(ch)
			wrapOp(op, &err)
			at = p
			if !yield(e, err) {
				return at, nil
			}
		}
		if whole {
			return at, nil
		}
	}
}

// missed returns the ErrMissed of a place that cannot be gone on after.
func (d *Directory) missed(ctx context.Context) error {
	newest, err := newestPlace(ctx, d.store)
	if err != nil {
		return err
	}
	return &Error{Kind: ErrMissed, Field: "after", Resume: d.cursor(newest)}
}

// eventOf decodes an event, and returns its place. A damaged one has only its Seq and Cursor.
func (d *Directory) eventOf(ch store.Change) (Event, place, error) {
	p := place{seq: ch.Seq}
	r, err := record.DecodeChange(ch)
	if err != nil {
		return Event{Seq: Seq(ch.Seq), Cursor: d.cursor(p)}, p, err
	}
	e, p := d.shownEvent(ch.Seq, &r)
	return e, p, nil
}

func (d *Directory) shownEvent(seq store.Seq, r *record.Event) (Event, place) {
	p := place{seq: seq, digest: r.Digest()}
	return Event{
		Seq: Seq(seq), Cursor: d.cursor(p), At: timeOf(r.At), Kind: EventKind(r.What),
		Actor: r.Actor, AccessKey: r.AccessKey, Operator: r.Operator,
		User: UserID(r.User), InternalID: r.Incarnation, Other: UserID(r.Other),
		Subjects: r.Subjects,
	}, p
}

// waitForEvents returns once there is an event after a place, or the place is of no use any more.
func (d *Directory) waitForEvents(ctx context.Context, by Principal, after place) error {
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.background.ctx, func() { cancel(newError(ErrClosed, "", "")) })()
	for {
		if _, err := d.read(ctx, &c); err != nil {
			return err
		}
		feed, _, err := changesAfter(ctx, d.store, after, 1)
		if isMissed(err) || len(feed.Changes) > 0 {
			return nil
		}
		if err == nil {
			// Not after the place: a commit without an event must not wake the caller.
			if err = d.store.Wait(ctx, feed.Head); isMissed(err) {
				return nil
			}
		}
		if err != nil {
			return closedOr(ctx, err)
		}
	}
}

// Head returns the place of the newest event. [Directory.Events] and [Directory.Follow] after it
// yield only what comes later. Only .system may.
func (d *Directory) Head(ctx context.Context, by Principal) (head Cursor, err error) {
	defer d.trace(&ctx, "Head", &by).end(&err)
	c, err := d.enter(ctx, opFeed, by, noTarget)
	if err != nil {
		return "", err
	}
	newest, err := newestPlace(ctx, d.store)
	if err != nil {
		return "", err
	}
	if _, err := d.read(ctx, &c); err != nil {
		return "", err
	}
	return d.cursor(newest), nil
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
	defer d.trace(&ctx, "TrimFeed", &by).end(&err)
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

// emit sets the event of the write. user is whom it is about, or nil. subjects are ids and keys of
// what changed, and nothing that a person chose.
func (p *plan) emit(kind EventKind, user *record.User, subjects ...string) {
	p.event = newEvent(p.c, kind, subjects...)
	switch kind {
	case EventUserBlocked, EventUserDeleted, EventUserErased, EventTokenRevoked,
		EventLocatorsRestored, EventAccessKeyDeleted, EventSigningKeyDropped:
		p.Urgent() // ending something must work on a full disk, too
	}
	if user != nil {
		p.event.User, p.event.Incarnation = user.ID, user.Incarnation
	}
}

func newEvent(c *call, kind EventKind, subjects ...string) *record.Event {
	return &record.Event{
		At: c.now, What: string(kind), Subjects: subjects,
		Actor: c.by.String(), AccessKey: c.by.accessKey, Operator: c.by.operator,
	}
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
