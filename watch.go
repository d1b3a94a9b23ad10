package denizen

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/watch"
	"github.com/denizenhq/denizen/store"
)

// MaxWatched is how many users one [Directory.WatchPresence] watches at most.
const MaxWatched = 1000

// maxWatches is how many watches a user may have at once.
const maxWatches = 16

// WatchPresence yields the present presence of each of several users, in the order of users, and
// then each change as it happens. A change is another state or another chain after it; ends of
// states are told at their time. Heartbeats are no changes: they move Until. Of one user the
// changes come in order. A user who is named twice is watched once.
//
// A user who may not be seen, hides, is blocked, deleted or was never there has no presence, and
// Since is zero. Options.MaySee is asked at the start, after the user was blocked or unblocked, and
// every minute. Nobody else can end a watch. It ends with an error: [ErrUnavailable] once ctx ends,
// [ErrClosed] once the directory is closed, and [ErrRevoked] once by is not valid any more: see
// [Directory.Check]. While that cannot be found out nothing is told.
//
// A reader that is too slow is told the latest presence of each user, and before that once
// [ErrMissed], after which WatchPresence goes on. Nothing waits for a reader.
//
// Over a store that others write to, changes of other processes are told as the feed tells of them.
// If several come at once only the last is told, after ErrMissed. A heartbeat that another process
// stores after the state has ended is told two seconds later.
//
// Past [MaxWatched] users the error is [ErrInvalid]. A user may have 16 watches. They and their
// memory, which is bounded by Options.CacheBytes, are [ErrLimited] with Field "users".
func (d *Directory) WatchPresence(
	ctx context.Context, by Principal, users []UserID,
) iter.Seq2[UserPresence, error] {
	return func(yield func(UserPresence, error) bool) {
		ctx, err := ctx, error(nil)
		defer d.trace(&ctx, "WatchPresence", &by).end(&err)
		// A watch lasts, and many may wait at once: what waits is kept off deep stacks.
		watching, w, err := d.watch(ctx, by, users)
		if err == nil {
			err = w.run(watching, yield)
		}
		if wrapOp("WatchPresence", &err); err != nil {
			yield(UserPresence{}, err)
		}
	}
}

// watcher is a watch that is under way.
type watcher struct {
	*watch.Watcher
	d     *Directory
	c     *call
	users []UserID
	peers []int         // which of them are peers
	next  time.Duration // when the caller is to be checked first
	end   func()
}

// watch returns a watcher that has begun, and a context that ends with the directory too.
func (d *Directory) watch(
	ctx context.Context, by Principal, users []UserID,
) (_ context.Context, _ *watcher, err error) {
	c, err := d.enter(ctx, opWatchPresence, by, by.user)
	if err != nil {
		return nil, nil, err
	}
	if d.watches == nil {
		return nil, nil, newError(ErrInvalid, "store", "in a transaction nothing is watched")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.background.ctx, func() { cancel(newError(ErrClosed, "", "")) })
	w := &watcher{d: d, c: &c}
	w.end = func() {
		if w.Watcher != nil {
			d.watches.Remove(w.Watcher)
		}
		stop()
		cancel(nil)
	}
	begun := false
	defer func() {
		if !begun { // MaySee may panic
			w.end()
		}
	}()
	if w.next, err = w.begin(ctx, users); err != nil {
		return nil, nil, closedOr(ctx, err)
	}
	begun = true
	return ctx, w, nil
}

// begin adds the watcher to the table and reads what it is told first. It returns when the caller
// is to be checked again.
func (w *watcher) begin(ctx context.Context, users []UserID) (next time.Duration, err error) {
	if len(users) > MaxWatched {
		return 0, invalid("users", "must be 1000 at most")
	}
	known := make(map[UserID]bool, len(users))
	subs := make([]watch.Sub, 0, len(users))
	for _, id := range users {
		if known[id] {
			continue
		}
		known[id] = true
		sub := watch.Sub{ID: string(id), Peer: w.c.by.roleFor(id) == other}
		if sub.Allowed, err = w.maySee(ctx, id); err != nil {
			return 0, err
		}
		if sub.Peer {
			w.peers = append(w.peers, len(subs))
		}
		subs, w.users = append(subs, sub), append(w.users, id)
	}
	ends, err := w.d.checkBy(ctx, w.c)
	if err != nil {
		return 0, err
	}
	added, err := w.d.watches.Add(string(w.c.by.user), w.c.by.accessKey != "", subs, maxWatches)
	if err != nil {
		return 0, newError(ErrLimited, "users", "that are watched are as many as may be")
	}
	w.Watcher = added
	if err = w.d.loadWatched(ctx, w.users); err != nil {
		return 0, err
	}
	w.Start()
	return w.untilCheck(ends), nil
}

// untilCheck returns when a caller is to be checked again whose token ends at an instant, or 0 if
// it has none.
func (w *watcher) untilCheck(ends int64) time.Duration {
	if ends == 0 {
		return everyMinute
	}
	return min(everyMinute, max(1, time.Duration(ends-w.c.now))*time.Millisecond)
}

// maySee reports whether the caller may see the presence of a user. An error is about the id.
func (w *watcher) maySee(ctx context.Context, id UserID) (bool, error) {
	_, err := w.d.enter(ctx, opReadPresence, w.c.by, id)
	if errors.Is(err, ErrInvalid) {
		return false, err
	}
	return err == nil, nil
}

// run yields what the watcher is told until it ends. It returns nil if yield wants no more.
func (w *watcher) run(ctx context.Context, yield func(UserPresence, error) bool) (err error) {
	defer w.end()
	timer := time.NewTimer(w.next)
	defer timer.Stop()
	for due, valid := false, true; ; {
		if valid, err = w.renew(ctx, timer, due, valid); err != nil {
			return closedOr(ctx, err)
		}
		if due = false; valid {
			told, wanted := w.tell(yield)
			if !wanted {
				return nil
			}
			if told {
				select {
				case <-timer.C:
					due = true
				default:
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
			due = true
		case <-w.Woken():
		}
	}
}

// renew checks the caller and asks for permission again, as far as that is due or was asked for. It
// returns whether the caller is valid, as far as could be found out.
func (w *watcher) renew(ctx context.Context, timer *time.Timer, due, valid bool) (bool, error) {
	check, ask := w.Asked()
	if due {
		check, ask = true, w.peers
	}
	if check {
		next, err := w.check(ctx)
		if err != nil {
			return false, err
		}
		if valid = next > 0; !valid {
			next = time.Second
		}
		timer.Reset(next)
	}
	for _, at := range ask {
		allowed, _ := w.maySee(ctx, w.users[at])
		w.Allow(at, allowed)
	}
	return valid, ctx.Err()
}

// tell yields what is next, if there is something. It reports that, and whether yield wants more.
func (w *watcher) tell(yield func(UserPresence, error) bool) (told, wanted bool) {
	state, missed, ok := w.Take()
	if missed {
		return true, yield(UserPresence{}, &Error{Op: "WatchPresence", Kind: ErrMissed})
	}
	if !ok {
		return false, true
	}
	var p UserPresence
	fillPresence(&p, w.users[state.At], &state.Reading)
	return true, yield(p, nil)
}

// check returns when the caller is to be checked again, or an error once it is not valid any more.
// If that cannot be found out it returns 0.
func (w *watcher) check(ctx context.Context) (next time.Duration, err error) {
	w.c.now = w.d.clock.Now()
	ends, err := w.d.checkBy(ctx, w.c)
	switch {
	case err == nil:
		return w.untilCheck(ends), nil
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrClosed):
		return 0, err
	}
	return 0, nil
}

// loadWatched reads users who begin to be watched.
func (d *Directory) loadWatched(ctx context.Context, users []UserID) error {
	if err := d.usable(); err != nil {
		return err
	}
	d.background.start()
	if !d.records.Caching() {
		if err := d.awaitFollowing(ctx); err != nil {
			return err
		}
	}
	ids := make([]string, len(users))
	for i, id := range users {
		ids[i] = string(id)
	}
	feed, err := headOf(ctx, d.store)
	if err != nil {
		return err
	}
	return d.readWatched(ctx, d.watches.Mark(), feed.Head, ids, nil)
}

// followWithin is how long a watch waits for the feed to be followed.
const followWithin = 5 * time.Second

// awaitFollowing returns once the feed is followed: what is committed after users are read must be
// heard of.
func (d *Directory) awaitFollowing(ctx context.Context) error {
	if _, err := headOf(ctx, d.store); err != nil {
		return err
	}
	timer := time.NewTimer(followWithin)
	defer timer.Stop()
	select {
	case <-d.watches.Following():
		return nil
	case <-timer.C:
		return newError(ErrUnavailable, "", "the feed cannot be read")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readWatched reads users and lets the watchers be told. Changed, if there is one, is called for
// each whose state is another one.
func (d *Directory) readWatched(
	ctx context.Context, mark uint64, base store.Seq, ids []string, changed func(id string),
) error {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = record.DevicesKey(id)
	}
	entries, err := d.load(ctx, keys...)
	if err != nil {
		return err
	}
	now := d.clock.Now()
	for i, e := range entries {
		var devices []presence.Device
		hidden := false
		if r, ok := e.Value().(*record.Devices); ok {
			devices, hidden = e.Pending().Apply(r), r.Hidden
		}
		version := e.Version()
		if e.Damaged() {
			version = 0
		}
		told := d.watches.Load(ids[i], mark, uint64(version), uint64(base), now, devices, hidden)
		if told && changed != nil {
			changed(ids[i])
		}
	}
	return nil
}

// lookAgain is after how long the end of a state is confirmed once more, over a store that others
// write to: a heartbeat from before the end may have been stored after it.
const lookAgain = 2 * time.Second

// tellEnds tells watchers of the ends of states at their time, until the directory is closed.
func (d *Directory) tellEnds(ctx context.Context, t *duty) {
	timer := time.NewTimer(everyHour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.watches.Due():
		case <-timer.C:
		}
		d.do(ctx, t)
		// The clock may go faster than the timer, by as much as the wall clock is set ahead.
		wait := everyHour
		if next := d.watches.Next(); next != watch.Never {
			wait = min(time.Duration(max(0, next-d.clock.Now()))*time.Millisecond, time.Second)
		}
		timer.Reset(wait)
	}
}

// tellDue tells watchers of the states that have ended.
func (d *Directory) tellDue(ctx context.Context) error {
	for {
		now := d.clock.Now()
		ids, mark := d.watches.TakeDue(now, maxSweep)
		if len(ids) == 0 {
			return nil
		}
		var again func(string)
		if !d.records.Caching() {
			again = func(id string) { d.watches.Look(id, now+lookAgain.Milliseconds()) }
		}
		if err := d.readWatched(ctx, mark, 0, ids, again); err != nil {
			for _, id := range ids {
				d.watches.Retry(id, now+time.Second.Milliseconds())
			}
			return err
		}
	}
}

// followPresence reads the feed while somebody watches, until the directory is closed. It is for a
// store that others may write to.
func (d *Directory) followPresence(ctx context.Context, t *duty) {
	for ctx.Err() == nil {
		if d.watches.Unfollow() {
			select {
			case <-ctx.Done():
				return
			case <-d.watches.Wanted():
				continue
			}
		}
		err := d.followWatched(ctx)
		if ctx.Err() != nil {
			return
		}
		if d.ended(t, err); err != nil {
			pause(ctx, time.Second)
		}
	}
}

// pause returns after a while, or once ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// followWatched reads the feed from its end on while somebody watches.
func (d *Directory) followWatched(ctx context.Context) error {
	seen, err := d.followFromEnd(ctx)
	if err != nil {
		return err
	}
	for missed := false; !d.watches.Unfollow(); { // whether the last Wait returned ErrMissed
		feed, whole, err := changesAfter(ctx, d.store, seen, store.MaxPage)
		if isMissed(err) {
			if seen, err = d.followFromEnd(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := d.hear(ctx, feed.Changes); err != nil {
			return err
		}
		if n := len(feed.Changes); n > 0 {
			seen = placeOf(feed.Changes[n-1])
		}
		if !whole {
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, everyMinute)
		err = d.store.Wait(waiting, feed.Head)
		late := waiting.Err() != nil
		cancel()
		if err != nil && !late && !isMissed(err) {
			return err
		}
		if missed && isMissed(err) { // it goes on saying so
			pause(ctx, time.Second)
		}
		missed = isMissed(err)
	}
	return nil
}

// followFromEnd returns the end of the feed, to be followed from there on. What came before and was
// not followed, nobody heard of.
func (d *Directory) followFromEnd(ctx context.Context) (place, error) {
	newest, err := newestPlace(ctx, d.store)
	if err != nil {
		return place{}, err
	}
	d.watches.DoubtAll()
	d.watches.Follow()
	d.watches.CheckAll()
	return newest, nil
}

// hear tells the watchers of what a page of the feed tells.
func (d *Directory) hear(ctx context.Context, changes []store.Change) error {
	mark := d.watches.Mark()
	var ids []string
	for _, ch := range changes {
		e, err := record.DecodeChange(ch)
		if err != nil {
			d.watches.DoubtAll() // it may be about anybody
			d.watches.CheckAll()
			continue
		}
		if touchesPresence(&e) {
			sets := EventKind(e.What) == EventPresenceSet
			for _, id := range [...]string{e.User, e.Other} {
				if d.watches.Heard(id, uint64(ch.Seq), sets) {
					ids = append(ids, id)
				}
			}
		}
		d.noteEvent(&e)
		if asksAgain(&e) {
			d.watches.Ask(e.User)
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), maxSweep)
		if err := d.readWatched(ctx, mark, 0, ids[:n], nil); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// touchesPresence reports whether an event may change what is seen of the presence of the
// users it is about. One of an unknown kind, from a later version of this package, may.
func touchesPresence(e *record.Event) bool {
	switch EventKind(e.What) {
	case EventUserCreated, EventUserRenamed, EventUserUnblocked,
		EventLocatorAdded, EventLocatorOwned, EventLocatorVerification, EventLocatorRemoved,
		EventLocatorMoved, EventLocatorRevealed, EventLocatorsSet, EventLocatorsRestored,
		EventUndoCancelled, EventProfileChanged,
		EventTokenIssued, EventTokenExtended, EventTokenRevoked:
		return false
	}
	return e.User != ""
}

// asksAgain reports whether after an event permission to see its user is asked for again.
func asksAgain(e *record.Event) bool {
	return EventKind(e.What) == EventUserBlocked || EventKind(e.What) == EventUserUnblocked
}

// noteEvent lets watchers be checked that an event may end.
func (d *Directory) noteEvent(e *record.Event) {
	if EventKind(e.What) == EventAccessKeyDeleted {
		d.watches.CheckKeyed()
	}
	if mayEndTokens(e) {
		d.watches.Check(e.User)
		if e.Other != "" {
			d.watches.Check(e.Other)
		}
	}
}

// presenceChange is what a write makes of the devices of a user.
type presenceChange struct {
	user          string
	before, after []presence.Device // before: with heartbeats
	hidden        bool
}

// tellWatchers tells of a write that was handed to the store, and of the presences that it changed.
func (d *Directory) tellWatchers(
	seq store.Seq, err error, at int64, e *record.Event, changes []presenceChange,
) {
	if d.watches.Empty() {
		return
	}
	asks := false
	if e != nil && (err == nil || errors.Is(err, store.ErrOutcomeUnknown)) {
		d.noteEvent(e)
		asks = asksAgain(e) && d.records.Caching() // else the feed does
	}
	for i := range changes {
		change := &changes[i]
		switch {
		case e == nil: // a heartbeat
			if at < d.watches.Advanced() {
				d.watches.Look(change.user, at)
			}
		case !d.records.Caching(): // what others may write to is heard of by the feed
		case err == nil:
			ask := asks && change.user == e.User
			d.watches.Tell(change.user, uint64(seq), at, change.before, change.after, change.hidden, ask)
			asks = asks && !ask
		case errors.Is(err, store.ErrOutcomeUnknown):
			d.watches.Doubt(change.user)
		}
	}
	if asks {
		d.watches.Ask(e.User)
	}
}

// putDevices writes the devices of a user: see [txn.Tx.PutDevices]. Was is what devicesOf returned.
func (p *plan) putDevices(was, next *record.Devices) (size int) {
	size = p.PutDevices(was, next)
	if p.d.watches.Watches(next.User) {
		p.presences = append(p.presences, presenceChange{
			user: next.User, before: p.WithBeats(was), after: next.Devices, hidden: next.Hidden,
		})
	}
	return size
}
