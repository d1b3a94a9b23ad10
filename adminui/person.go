package adminui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/denizenhq/denizen"
)

// person is the page of a user.
type person struct {
	Root     string
	May      map[string]bool
	Action   string // where its forms are sent
	User     denizen.User
	Presence denizen.UserPresence
	Devices  []device
	Profile  []attribute
	Tokens   []denizen.Token
	Active   time.Time
	Events   []denizen.Event
	Damaged  []string // what cannot be read
	Revealed *denizen.Locator
	Did      string
}

func (p *person) live() string   { return "live/people/" + url.PathEscape(string(p.User.ID)) }
func (p *person) notice() string { return p.Did }

// List returns the newest events about the person.
func (p *person) List() eventList { return eventList{p.Root, p.Events} }

// device is a chain of states: the one that is now, and those to come.
type device struct {
	Name  string
	Since time.Time
	Chain []link
}

type link struct {
	State string
	Now   bool
	Until time.Time     // when it ends, if it is now; zero: it stays
	For   time.Duration // how long it will last, if it comes later; 0: it stays
}

func newDevice(p denizen.UserPresence) device {
	d := device{Name: p.Presence.Device(), Since: p.Since}
	for state, more := p.Presence, p.Presence.State() != ""; more; state, more = state.Next() {
		l := link{State: state.State(), For: state.TTL()}
		if len(d.Chain) == 0 {
			l.Now, l.Until = true, p.Until
		}
		d.Chain = append(d.Chain, l)
	}
	return d
}

type attribute struct {
	denizen.Attribute
	Shown string
	Whole bool
	Size  int64
}

const (
	shownOfValue = 400 // bytes of an attribute
	eventsOfOne  = 25
	refreshEvery = 5 * time.Second // heartbeats and uses of tokens have no event
)

// read reads a person. What is damaged is left out and named.
func (v *visit) read(ctx context.Context, id denizen.UserID, root string) (*person, error) {
	p := &person{Root: root, May: v.actions(), Action: root + "people/" + url.PathEscape(string(id))}
	var err error
	if p.User, err = v.dir.User(ctx, v.by, id); err != nil {
		return nil, err
	}
	whole := func(what string, err error) error {
		if errors.Is(err, denizen.ErrCorrupt) {
			p.Damaged = append(p.Damaged, what)
			return nil
		}
		return err
	}
	p.Presence, err = v.dir.Presence(ctx, v.by, id)
	if err := whole("presence", err); err != nil {
		return nil, err
	}
	devices, err := v.dir.Devices(ctx, v.by, id)
	if err := whole("devices", err); err != nil {
		return nil, err
	}
	for _, d := range devices {
		p.Devices = append(p.Devices, newDevice(d))
	}
	profile, err := v.dir.Profile(ctx, v.by, id)
	if err := whole("profile", err); err != nil {
		return nil, err
	}
	for _, a := range profile.Attributes {
		shown, all := shorten(a.Value, shownOfValue)
		p.Profile = append(p.Profile, attribute{a, shown, all, int64(len(a.Value))})
	}
	p.Tokens, err = v.dir.Tokens(ctx, v.by, id)
	if err := whole("tokens", err); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.Tokens, func(a, b denizen.Token) int { return b.IssuedAt.Compare(a.IssuedAt) })
	active, err := v.dir.LastActive(ctx, v.by, []denizen.UserID{id})
	if err := whole("last activity", err); err != nil {
		return nil, err
	}
	if len(active) == 1 {
		p.Active = active[0]
	}
	return p, nil
}

func (v *visit) person() error {
	id, err := v.user()
	if err != nil {
		return err
	}
	return v.showPerson(id, nil)
}

// showPerson shows a person, with a locator that was revealed.
func (v *visit) showPerson(id denizen.UserID, revealed *denizen.Locator) error {
	v.hub.attend()
	p, err := v.read(v.ctx, id, v.root())
	if errors.Is(err, denizen.ErrNotFound) {
		return v.showGone(id)
	}
	if err != nil {
		return err
	}
	page, err := v.events(v.ctx, &query{User: id}, eventsOfOne)
	if err != nil {
		return err
	}
	p.Events, p.Revealed, p.Did = page.Events, revealed, done[v.r.Form.Get("did")]
	return v.show(http.StatusOK, "person", p.User.ScreenName, p)
}

type gone struct {
	Root string
	ID   denizen.UserID
}

// showGone answers for an id that nobody has: perhaps an alias, or of somebody who left.
func (v *visit) showGone(id denizen.UserID) error {
	if leads, err := v.dir.ResolveUser(v.ctx, v.by, string(id)); err == nil && leads != id {
		return v.redirect("people/" + url.PathEscape(string(leads)))
	}
	return v.show(http.StatusNotFound, "gone", "Nobody", &gone{v.root(), id})
}

// livePerson is the page of a person as it changes.
type livePerson struct {
	v      *visit
	id     denizen.UserID
	events []denizen.Event
	newest denizen.Seq
	due    time.Time
}

func (v *visit) livePerson() error {
	id, err := v.user()
	if err != nil {
		return err
	}
	return v.stream(&livePerson{v: v, id: id})
}

func (l *livePerson) parts(ctx context.Context, s *snapshot) ([]part, time.Time, error) {
	about, missed := false, false
	for i := range s.Recent {
		e := &s.Recent[i]
		if e.Seq <= l.newest {
			break
		}
		about = about || e.User == l.id || e.Other == l.id
		missed = i == recentKept-1
	}
	if len(s.Recent) > 0 {
		l.newest = max(l.newest, s.Recent[0].Seq)
	}
	now := time.Now()
	if !about && !missed && now.Before(l.due) {
		return nil, l.due, nil
	}
	p, err := l.v.read(ctx, l.id, personRoot)
	if err != nil {
		return nil, time.Time{}, err
	}
	if about || l.due.IsZero() {
		page, err := l.v.events(ctx, &query{User: l.id}, eventsOfOne)
		if err != nil {
			return nil, time.Time{}, err
		}
		l.events = page.Events
	}
	p.Events = l.events
	l.due = now.Add(refreshEvery)
	if until := p.Presence.Until; !until.IsZero() && until.Before(l.due) {
		l.due = until.Add(10 * time.Millisecond)
	}
	return []part{
		{"who", p}, {"actions", p}, {"locators", p}, {"presence", p}, {"profile", p}, {"tokens", p}, {"events", p.List()},
	}, l.due, nil
}
