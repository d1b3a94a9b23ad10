package ops

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/verify"
)

// Local is a directory of this process.
type Local struct {
	Dir *denizen.Directory
	By  denizen.Principal
}

var _ Source = Local{}

// Backup is [denizen.Directory.Backup].
func (l Local) Backup(ctx context.Context, w io.Writer) (denizen.Seq, error) {
	return l.Dir.Backup(ctx, l.By, w)
}

// Compact is [denizen.Directory.Compact].
func (l Local) Compact(ctx context.Context) (c Compacted, err error) {
	before, err := l.Dir.Stats(ctx, l.By)
	if err != nil {
		return c, err
	}
	if err := l.Dir.Compact(ctx, l.By); err != nil {
		return c, err
	}
	after, err := l.Dir.Stats(ctx, l.By)
	return Compacted{File(before.File), File(after.File)}, err
}

// errStopped says that yield returned false.
var errStopped = errors.New("stopped")

// Read implements Source. Holding nothing open between pages, it is as slow as who ranges over it.
func (l Local) Read(ctx context.Context, q Query) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		reads := map[string]func(*reading) error{
			Stat: (*reading).stat, Users: (*reading).users, Person: (*reading).person,
			Tokens: (*reading).tokens, Keys: (*reading).keys, Feed: (*reading).feed,
			Verify: (*reading).verify,
		}
		read, ok := reads[q.What]
		if !ok {
			yield(nil, refused("what", "is not known"))
			return
		}
		r := &reading{Local: l, ctx: ctx, q: q, yield: yield}
		if err := read(r); err != nil && err != errStopped {
			yield(nil, err)
		}
	}
}

// reading is one run of Local.Read.
type reading struct {
	Local
	ctx   context.Context
	q     Query
	yield func(any, error) bool
}

func (r *reading) tell(v any) error {
	if !r.yield(v, nil) {
		return errStopped
	}
	return nil
}

func refused(field, reason string) error {
	return &denizen.Error{Op: "Read", Kind: denizen.ErrInvalid, Field: field, Reason: reason}
}

func isDamage(err error) bool { return errors.Is(err, denizen.ErrCorrupt) }

func (r *reading) stat() error {
	s, err := r.Dir.Stats(r.ctx, r.By)
	if err != nil {
		return err
	}
	f := &Figures{
		Directory: r.Dir.ID(), Application: r.Dir.ApplicationID(), At: s.At,
		First: s.First, Head: s.Head, RootKey: s.RootKey, Consumers: []Consumer{},
		Commits:    Commits{s.Commits.Applied, s.Commits.Conflicts, s.Commits.Failed, s.Commits.Waiting},
		Records:    Cache(s.Records),
		Tokens:     Cache(s.Tokens),
		Heartbeats: s.HeartbeatsWaiting,
		Health:     OK,
	}
	if s.File != (denizen.FileStats{}) {
		f.File = (*File)(&s.File)
	}
	for _, c := range s.Consumers {
		f.Consumers = append(f.Consumers, Consumer(c))
	}
	if f.Users, err = r.Dir.CountUsers(r.ctx, r.By); err != nil {
		return err
	}
	if f.Present, err = r.Dir.CountPresent(r.ctx, r.By); err != nil {
		return err
	}
	problem := s.Health
	access, err := r.Dir.AccessKeys(r.ctx, r.By)
	switch {
	case isDamage(err):
		problem = errors.Join(problem, err)
	case err != nil:
		return err
	}
	signing, err := r.Dir.PublicKeys(r.ctx)
	switch {
	case isDamage(err):
		problem = errors.Join(problem, err)
	case err != nil:
		return err
	}
	f.AccessKeys, f.SigningKeys = len(access), len(signing.IDs())
	if problem != nil {
		e, _ := errors.AsType[*denizen.Error](problem)
		f.Problem = e.Reason
		if f.Problem == "" {
			f.Problem = problem.Error()
		}
		switch {
		case isDamage(problem):
			f.Health = Damaged
		case e.Field == "store":
			f.Health = Poisoned
		default:
			f.Health = Degraded
		}
	}
	return r.tell(f)
}

func (r *reading) users() error {
	for u, err := range r.Dir.AllUsers(r.ctx, r.By) {
		switch {
		case isDamage(err) && u.ID != "":
			err = r.tell(&User{ID: u.ID, Damaged: true})
		case err == nil && (u.Blocked || !r.q.Blocked):
			err = r.tell(r.userOf(u))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) userOf(u denizen.User) *User {
	shown := &User{
		ID: u.ID, ScreenName: u.ScreenName, Blocked: u.Blocked, BlockedUntil: u.Block.Until,
		CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt,
	}
	for _, l := range u.Locators {
		if l.Owned {
			shown.Locators = append(shown.Locators, r.locator(l))
		}
	}
	return shown
}

func (r *reading) locator(l denizen.Locator) string {
	if r.q.Reveal {
		return l.String()
	}
	return Mask(l.String())
}

func (r *reading) person() error {
	id, err := r.Dir.ResolveUser(r.ctx, r.By, r.q.User)
	if err != nil {
		return err
	}
	u, err := r.Dir.User(r.ctx, r.By, id)
	if err != nil {
		return err
	}
	w := &Whole{
		User: *r.userOf(u), InternalID: u.InternalID, Version: u.Version, BlockReason: u.Block.Reason,
		Locators: []Locator{}, Attributes: []Attribute{}, Devices: []Device{}, Tokens: []Token{},
		Events: []Event{},
	}
	w.User.Locators = nil
	for _, l := range u.Locators {
		w.Locators = append(w.Locators, Locator{
			l.ID, r.locator(l), l.Status, l.Owned, l.AddedAt, l.VerifiedAt,
		})
	}
	for _, part := range []struct {
		kind string
		add  func() error
	}{
		{"last activity", func() error {
			times, err := r.Dir.LastActive(r.ctx, r.By, []denizen.UserID{id})
			if err == nil {
				w.LastActiveAt = times[0]
			}
			return err
		}},
		{"profile", func() error {
			p, err := r.Dir.Profile(r.ctx, r.By, id)
			for _, a := range p.Attributes {
				shown := Attribute{Key: a.Key, Bytes: len(a.Value)}
				if r.q.Reveal {
					shown.Value = a.Value
				}
				w.Attributes = append(w.Attributes, shown)
			}
			return err
		}},
		{"devices", func() error {
			devices, err := r.Dir.Devices(r.ctx, r.By, id)
			for _, d := range devices {
				w.Devices = append(w.Devices, Device{
					d.Presence.Device(), d.Presence.State(), d.Since, d.Until,
				})
			}
			return err
		}},
		{"tokens", func() error {
			tokens, err := r.Dir.Tokens(r.ctx, r.By, id)
			for _, t := range tokens {
				w.Tokens = append(w.Tokens, tokenOf(id, t))
			}
			return err
		}},
	} {
		switch err := part.add(); {
		case isDamage(err):
			w.DamagedRecords = append(w.DamagedRecords, part.kind)
		case err != nil:
			return err
		}
	}
	events, err := r.newest(MaxNewest)
	if err != nil {
		return err
	}
	w.Searched = len(events)
	for _, e := range events {
		if e.User == id && e.InternalID == u.InternalID || e.Other == id {
			w.Events = append(w.Events, e)
		}
	}
	return r.tell(w)
}

func tokenOf(user denizen.UserID, t denizen.Token) Token {
	return Token{
		User: user, ID: t.ID, Label: t.Label, AccessKey: t.AccessKey, IssuedAt: t.IssuedAt,
		ExpiresAt: t.ExpiresAt, LastUsedAt: t.LastUsedAt,
	}
}

func (r *reading) tokens() error {
	s, err := r.Dir.Stats(r.ctx, r.By)
	if err != nil {
		return err
	}
	unusedSince := s.At.Add(-r.q.Unused)
	of := func(id denizen.UserID) error {
		tokens, err := r.Dir.Tokens(r.ctx, r.By, id)
		if isDamage(err) {
			return r.tell(&Token{User: id, Damaged: true})
		}
		for _, t := range tokens {
			used := t.LastUsedAt
			if used.IsZero() {
				used = t.IssuedAt
			}
			if r.q.AccessKey != "" && t.AccessKey != r.q.AccessKey ||
				r.q.Unused > 0 && used.After(unusedSince) {
				continue
			}
			shown := tokenOf(id, t)
			if err := r.tell(&shown); err != nil {
				return err
			}
		}
		return err
	}
	if r.q.User != "" {
		id, err := r.Dir.ResolveUser(r.ctx, r.By, r.q.User)
		if err == nil {
			err = of(id)
		}
		return err
	}
	for u, err := range r.Dir.AllUsers(r.ctx, r.By) {
		if isDamage(err) && u.ID != "" {
			err = nil
		}
		if err == nil {
			err = of(u.ID)
		}
		// Who was deleted since the page was read has none.
		if err != nil && !errors.Is(err, denizen.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (r *reading) keys() error {
	access, err := r.Dir.AccessKeys(r.ctx, r.By)
	if err != nil {
		return err
	}
	for _, k := range access {
		if err := r.tell(&Key{
			Kind: Access, ID: k.Key, CreatedAt: k.CreatedAt, LastUsedAt: k.LastUsedAt,
			LastAction: k.LastAction,
		}); err != nil {
			return err
		}
	}
	s, err := r.Dir.Stats(r.ctx, r.By)
	if err != nil {
		return err
	}
	in, err := door.Of(r.Dir).Verifier(r.ctx, r.By)
	if err != nil {
		return err
	}
	found, err := in.Get(r.ctx, record.SigningKeysKey)
	if err != nil {
		return err
	}
	value, err := record.DecodeStored(found[0])
	if err != nil {
		return &denizen.Error{
			Op: "Read", Kind: denizen.ErrCorrupt, Field: "signingKeys", Reason: "cannot be read",
		}
	}
	ring, now := value.(*record.SigningKeys).Keys, s.At.UnixMilli()
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	signs := -1
	for i, k := range ring {
		if k.Signs <= now && (signs < 0 || k.Signs >= ring[signs].Signs) {
			signs = i
		}
	}
	for i, k := range ring {
		if k.Gone != 0 && k.Gone <= now {
			continue
		}
		state := "published"
		switch {
		case k.Signs > now:
			state = "announced"
		case i == signs:
			state = "signing"
		}
		if err := r.tell(&Key{
			Kind: Signing, ID: k.ID, State: state, CreatedAt: at(k.Created), SignsAt: at(k.Signs),
			GoneAt: at(k.Gone),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) feed() error {
	if r.q.Newest < 0 || r.q.Newest > MaxNewest {
		return refused("newest", "must be 0 to 10000")
	}
	after := r.q.After
	if r.q.Newest > 0 {
		events, err := r.newest(r.q.Newest)
		if err != nil {
			return err
		}
		for _, e := range events {
			after = e.Cursor
			if err := r.event(e); err != nil {
				return err
			}
		}
		if !r.q.Follow {
			return nil
		}
	}
	events := r.Dir.Events
	if r.q.Follow {
		events = r.Dir.Follow
	}
	for e, err := range events(r.ctx, r.By, after) {
		shown, err := eventOf(e, err)
		if err == nil {
			err = r.event(shown)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// event tells an event if it is asked for. What is damaged always is.
func (r *reading) event(e Event) error {
	kind, user := r.q.Kind, denizen.UserID(r.q.User)
	ofKind := kind == "" || string(e.Kind) == kind ||
		strings.HasSuffix(kind, ".") && strings.HasPrefix(string(e.Kind), kind)
	ofUser := user == "" || e.User == user || e.Other == user
	if !e.Damaged && !(ofKind && ofUser) {
		return nil
	}
	return r.tell(&e)
}

func eventOf(e denizen.Event, err error) (Event, error) {
	if isDamage(err) && e.Seq != 0 {
		return Event{Seq: e.Seq, Cursor: e.Cursor, Damaged: true}, nil
	}
	return Event{
		Seq: e.Seq, Cursor: e.Cursor, At: e.At, Kind: e.Kind, Actor: e.Actor, AccessKey: e.AccessKey,
		Operator: e.Operator, User: e.User, InternalID: e.InternalID, Other: e.Other, Subjects: e.Subjects,
	}, err
}

// newest returns the newest n events, oldest first. Most commits have no event where there are many
// heartbeats. So it looks back from the head, each time twice as far.
func (r *reading) newest(n int) ([]Event, error) {
	head, err := r.Dir.Head(r.ctx, r.By)
	if err != nil {
		return nil, err
	}
	s, err := r.Dir.Stats(r.ctx, r.By)
	if err != nil {
		return nil, err
	}
	place, known := record.ParsePlace(string(head))
	for back := store.Seq(n); ; back *= 2 {
		after := denizen.Cursor("")
		if known && place.Seq > back && place.Seq-back >= store.Seq(s.First) {
			from := record.Place{Epoch: place.Epoch, Seq: place.Seq - back}
			after = denizen.Cursor(from.String())
		}
		var events []Event
		for e, err := range r.Dir.Events(r.ctx, r.By, after) {
			if errors.Is(err, denizen.ErrMissed) && after != "" {
				known = false // the feed was trimmed meanwhile: from its beginning, then
				break
			}
			shown, err := eventOf(e, err)
			if err != nil {
				return nil, err
			}
			if events = append(events, shown); len(events) == 2*n {
				events = append(events[:0], events[n:]...)
			}
		}
		if len(events) >= n || after == "" {
			return events[max(0, len(events)-n):], nil
		}
	}
}

func (r *reading) verify() error {
	for d, err := range verify.Directory(r.ctx, r.Dir, r.By) {
		if err == nil {
			err = r.tell(&Damage{d.Record, d.User, d.Seq, d.Reason})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
