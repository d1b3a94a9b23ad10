package spec_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// A model of watchers: what each reader is told, item by item, follows from what was done. Users are
// set, beat, cleared, hidden, blocked and deleted at random, at instants that no state ends at, and
// each user in milliseconds of its own, so that nothing happens at once.

const (
	watchedUsers = 6
	viewers      = 3
)

// shownState is what a reader is told of a user, or that it missed something.
type shownState struct {
	user   int
	missed bool
	chain  string // what is active and what follows; "" for none
	since  int64
	until  int64 // -1: not known
}

// sameTo reports whether b is no change after a: a state's own time to live is none.
func (a shownState) sameTo(b shownState) bool {
	cut := func(chain string) string {
		state, rest, _ := strings.Cut(chain, " ")
		name, _, _ := strings.Cut(state, "/")
		return name + " " + rest
	}
	return (a.chain == "") == (b.chain == "") && cut(a.chain) == cut(b.chain)
}

// watchedDevice is a device of a modelled user.
type watchedDevice struct {
	name        string
	start, beat int64
	chain       []watchedLink
}

type watchedLink struct {
	state   string
	seconds int64
}

// at returns the link that is active, and when it began and ends. Past the end it is len(d.chain).
func (d *watchedDevice) at(now int64) (link int, since, until int64) {
	since = max(d.start, d.beat)
	for i, l := range d.chain {
		until = since + 1000*l.seconds
		if l.seconds == 0 {
			until = 0
		}
		if until == 0 || now < until {
			if i == 0 {
				since = d.start
			}
			return i, since, until
		}
		since = until
	}
	return len(d.chain), since, 0
}

type watchedUser struct {
	there, blocked, hidden bool
	devices                []*watchedDevice
}

// shows returns what a user shows to who may see it.
func (u *watchedUser) shows(user int, now int64) shownState {
	best, rank := shownState{user: user}, 100
	name := ""
	for _, d := range u.devices {
		link, since, until := d.at(now)
		order := 50
		if link < len(d.chain) {
			order = slices.Index([]string{denizen.StateOnline, denizen.StateAway, denizen.StateSleeping, denizen.StateMissing, denizen.StateOffline}, d.chain[link].state)
			if order < 0 {
				order = 10
			}
		}
		if order > rank || order == rank && (since < best.since || since == best.since && d.name > name) {
			continue
		}
		best, rank, name = shownState{user: user, since: since, until: until}, order, d.name
		var chain []string
		for _, l := range d.chain[link:] {
			chain = append(chain, fmt.Sprintf("%s/%d", l.state, l.seconds))
		}
		best.chain = strings.Join(chain, " ")
	}
	return best
}

// nextEnd returns when a state of one of the devices ends after an instant, or 0.
func (u *watchedUser) nextEnd(now int64) (end int64) {
	for _, d := range u.devices {
		if _, _, until := d.at(now); until != 0 && (end == 0 || until < end) {
			end = until
		}
	}
	return end
}

// modelWatcher is a watcher, its reader, and what the model says of it.
type modelWatcher struct {
	viewer  int // -1: .system
	users   []int
	began   int64
	allowed map[int]bool

	// What the model says.
	last, next map[int]shownState
	queue      []int
	missed     bool
	slow       bool
	blocked    bool // the reader is at its last item; until it goes on nobody asks for it
	due        bool
	asks       []int // in their order
	resumes    bool
	want       []shownState

	// What is so.
	stop    context.CancelFunc
	ended   chan error
	release chan struct{}
	mu      sync.Mutex
	isSlow  bool
	got     []shownState
}

type watchModel struct {
	t       *testing.T
	r       *rand.Rand
	now     int64
	users   [watchedUsers]watchedUser
	may     [viewers][watchedUsers]bool
	mu      sync.Mutex // guards may
	watches []*modelWatcher

	writer, reader *denizen.Directory
}

func watchedID(user int) denizen.UserID { return denizen.UserID(fmt.Sprintf("user-%04d", user)) }

func viewerID(viewer int) denizen.UserID { return denizen.UserID(fmt.Sprintf("viewer-%d", viewer)) }

func (m *watchModel) maySee(_ context.Context, viewer, subject denizen.UserID, _ denizen.Facet) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.may[viewer[len(viewer)-1]-'0'][subject[len(subject)-1]-'0'], nil
}

// visible returns what a watcher should have of a user.
func (m *watchModel) visible(w *modelWatcher, user int) shownState {
	u := &m.users[user]
	if w.viewer >= 0 && (u.hidden || !w.allowed[user]) {
		return shownState{user: user}
	}
	return u.shows(user, m.now)
}

// offer gives a watcher what it should have of a user. Stale says that the end may be an earlier one.
func (m *watchModel) offer(w *modelWatcher, user int, stale bool) {
	s := m.visible(w, user)
	if stale && s.until != 0 {
		s.until = -1
	}
	last, began := w.last[user]
	if next, waits := w.next[user]; waits {
		if !next.sameTo(s) {
			w.missed = w.missed || began
			w.next[user] = s
		}
	} else if !began || !last.sameTo(s) {
		w.next[user] = s
		w.queue = append(w.queue, user)
	}
	m.read(w)
}

// read lets the reader of a watcher take what it can.
func (m *watchModel) read(w *modelWatcher) {
	for !w.blocked && (w.missed || len(w.queue) > 0) {
		w.blocked = w.slow
		if w.missed {
			w.missed = false
			w.want = append(w.want, shownState{missed: true})
			continue
		}
		user := w.queue[0]
		w.queue = w.queue[1:]
		w.last[user] = w.next[user]
		w.want = append(w.want, w.next[user])
		delete(w.next, user)
	}
}

// tell offers what became of a user to all who watch it.
func (m *watchModel) tell(user int) {
	for _, w := range m.watches {
		if slices.Contains(w.users, user) {
			m.offer(w, user, false)
		}
	}
}

const minute = int64(60_000)

// advance lets time pass.
func (m *watchModel) advance(to int64) {
	time.Sleep(time.Duration(to-m.now) * time.Millisecond)
	for {
		next := to + 1
		for i := range m.users {
			if end := m.users[i].nextEnd(m.now); end != 0 {
				next = min(next, end)
			}
		}
		for _, w := range m.watches {
			if !w.due {
				next = min(next, m.now+minute-(m.now-w.began)%minute)
			}
		}
		if next > to {
			m.now = to
			return
		}
		for i := range m.users {
			if end := m.users[i].nextEnd(m.now); end == next {
				now := m.now
				m.now = next
				m.tell(i)
				m.now = now
			}
		}
		m.now = next
		for _, w := range m.watches {
			if (m.now-w.began)%minute == 0 && m.now != w.began {
				if w.due = w.blocked; w.due {
					continue
				}
				m.askOf(w, w.users)
				m.read(w)
			}
		}
	}
}

// askOf lets the host be asked about several users before the reader is told of any.
func (m *watchModel) askOf(w *modelWatcher, users []int) {
	w.blocked, w.resumes = true, true
	for _, user := range users {
		m.ask(w, user)
	}
	w.blocked, w.resumes = false, false
}

// ask lets the host be asked whether a watcher may see a user.
func (m *watchModel) ask(w *modelWatcher, user int) {
	if w.viewer < 0 {
		return
	}
	if w.blocked && !w.resumes {
		if !slices.Contains(w.asks, user) {
			w.asks = append(w.asks, user)
		}
		return
	}
	if may := m.may[w.viewer][user]; may != w.allowed[user] {
		w.allowed[user] = may
		m.offer(w, user, true)
	}
}

// check requires that each reader was told what the model says, and nothing else.
func (m *watchModel) check(step int, what string) {
	synctest.Wait()
	for i, w := range m.watches {
		w.mu.Lock()
		got := w.got
		w.got = nil
		w.mu.Unlock()
		for j := range min(len(got), len(w.want)) {
			if w.want[j].until == -1 {
				require.GreaterOrEqual(m.t, got[j].until, m.now-3*minute)
				got[j].until = -1
			}
		}
		require.Equal(m.t, w.want, got, "step %d, %s: watcher %d of %d", step, what, i, w.viewer)
		w.want = nil
	}
}

func spellState(p denizen.UserPresence) shownState {
	s := shownState{user: int(p.User[len(p.User)-1] - '0')}
	if !p.Since.IsZero() {
		s.since = p.Since.UnixMilli()
	}
	if !p.Until.IsZero() {
		s.until = p.Until.UnixMilli()
	}
	if p.Presence.State() == "" {
		return s
	}
	var chain []string
	for of, more := p.Presence, true; more; of, more = of.Next() {
		chain = append(chain, fmt.Sprintf("%s/%d", of.State(), of.TTL()/time.Second))
	}
	s.chain = strings.Join(chain, " ")
	return s
}

// begin begins a watch.
func (m *watchModel) begin() {
	w := &modelWatcher{
		viewer: m.r.IntN(viewers+1) - 1, began: m.now, allowed: map[int]bool{},
		last: map[int]shownState{}, next: map[int]shownState{},
		ended: make(chan error, 1), release: make(chan struct{}),
	}
	w.users = m.r.Perm(watchedUsers)[:1+m.r.IntN(watchedUsers)]
	w.slow = m.r.IntN(3) == 0
	w.isSlow = w.slow
	by := system
	if w.viewer >= 0 {
		var err error
		by, err = m.reader.ActAs(m.t.Context(), by, viewerID(w.viewer))
		require.NoError(m.t, err)
	}
	ids := make([]denizen.UserID, len(w.users))
	for i, user := range w.users {
		ids[i] = watchedID(user)
		w.allowed[user] = w.viewer >= 0 && m.may[w.viewer][user]
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	go func() {
		for p, err := range m.reader.WatchPresence(ctx, by, ids) {
			s := shownState{missed: true}
			if err != nil && !errors.Is(err, denizen.ErrMissed) {
				w.ended <- err
				return
			}
			if err == nil {
				s = spellState(p)
			}
			w.mu.Lock()
			w.got = append(w.got, s)
			slow := w.isSlow
			w.mu.Unlock()
			if slow {
				<-w.release
			}
		}
	}()
	m.watches = append(m.watches, w)
	for _, user := range w.users {
		s := m.visible(w, user)
		w.next[user] = s
		w.queue = append(w.queue, user)
	}
	m.read(w)
}

// goOn lets a slow reader go on.
func (m *watchModel) goOn(w *modelWatcher) {
	if w.blocked {
		w.release <- struct{}{}
		asks := w.asks
		if w.due {
			asks = w.users
			w.began = m.now
		}
		w.due, w.asks = false, nil
		m.askOf(w, asks)
		m.read(w)
	}
}

// end ends a watch.
func (m *watchModel) end(i int) {
	w := m.watches[i]
	m.watches = slices.Delete(m.watches, i, i+1)
	w.stop()
	w.mu.Lock()
	w.isSlow = false
	w.mu.Unlock()
	if w.blocked {
		w.release <- struct{}{}
	}
	require.Error(m.t, <-w.ended)
}

var modelStates = []string{
	denizen.StateOnline, denizen.StateAway, denizen.StateSleeping, denizen.StateOffline, "Busy",
}

func (m *watchModel) chain() (p denizen.Presence, chain []watchedLink) {
	n := 1 + m.r.IntN(3)
	for i := range n {
		l := watchedLink{modelStates[m.r.IntN(len(modelStates))], int64(1 + m.r.IntN(8))}
		var ttl []time.Duration
		if i == n-1 && m.r.IntN(2) == 0 {
			l.seconds = 0
		} else {
			ttl = []time.Duration{time.Duration(l.seconds) * time.Second}
		}
		chain = append(chain, l)
		if next := denizen.State(l.state, ttl...); i == 0 {
			p = next
		} else {
			p = p.Then(next)
		}
	}
	return p, chain
}

func presenceOf(chain []watchedLink) (p denizen.Presence) {
	for i, l := range chain {
		next := denizen.State(l.state)
		if l.seconds > 0 {
			next = denizen.State(l.state, time.Duration(l.seconds)*time.Second)
		}
		if i == 0 {
			p = next
		} else {
			p = p.Then(next)
		}
	}
	return p
}

// set sets a chain on a device, which may be a heartbeat.
func (m *watchModel) set(user int, name string, p denizen.Presence, chain []watchedLink) {
	require.NoError(m.t, m.writer.SetPresence(m.t.Context(), system, watchedID(user), p.On(name)))
	u := &m.users[user]
	var kept []*watchedDevice
	for _, d := range u.devices {
		link, _, _ := d.at(m.now)
		if d.name == name && slices.Equal(d.chain, chain) && link == 0 {
			d.beat = m.now
			return // those that ran out are dropped when it is stored, which nobody sees
		}
		if d.name != name && link < len(d.chain) {
			kept = append(kept, d)
		}
	}
	u.devices = append(kept, &watchedDevice{name: name, start: m.now, chain: chain})
	m.tell(user)
}

// act does something to a user, and returns what.
func (m *watchModel) act(user int) string {
	ctx, by, id, u := m.t.Context(), system, watchedID(user), &m.users[user]
	ok := func(err error) { require.NoError(m.t, err) }
	if !u.there {
		_, err := m.writer.CreateUser(ctx, by, denizen.NewUser{ID: id, ScreenName: "U"})
		ok(err)
		u.there = true
		return "create"
	}
	if u.blocked {
		_, err := m.writer.UnblockUser(ctx, by, id)
		ok(err)
		u.blocked = false
		m.askAll(user)
		return "unblock"
	}
	switch n := m.r.IntN(40); {
	case n < 16 && len(u.devices) > 0: // a heartbeat, mostly
		d := u.devices[m.r.IntN(len(u.devices))]
		m.set(user, d.name, presenceOf(d.chain), d.chain)
		return "beat"
	case n < 32:
		p, chain := m.chain()
		m.set(user, []string{"", "desk", "phone"}[m.r.IntN(3)], p, chain)
		return "set"
	case n < 34:
		ok(m.writer.ClearAllPresence(ctx, by, id))
		u.devices = nil
		m.tell(user)
		return "clear"
	case n < 35:
		u.hidden = !u.hidden
		ok(m.writer.SetPresenceHidden(ctx, by, id, u.hidden))
		m.tell(user)
		return "hide"
	case n < 36:
		_, err := m.writer.BlockUser(ctx, by, id, denizen.Block{})
		ok(err)
		u.blocked, u.devices = true, nil
		m.askAll(user)
		m.tell(user)
		return "block"
	case n < 37:
		ok(m.writer.DeleteUser(ctx, by, id))
		*u = watchedUser{}
		m.tell(user)
		return "delete"
	default:
		m.mu.Lock()
		viewer := m.r.IntN(viewers)
		m.may[viewer][user] = !m.may[viewer][user]
		m.mu.Unlock()
		return "policy"
	}
}

func (m *watchModel) askAll(user int) {
	for _, w := range m.watches {
		if slices.Contains(w.users, user) {
			m.ask(w, user)
		}
	}
}

// free reports whether nothing ends at an instant.
func (m *watchModel) free(at int64) bool {
	for i := range m.users {
		for _, d := range m.users[i].devices {
			end := max(d.start, d.beat)
			for _, l := range d.chain {
				if end += 1000 * l.seconds; end == at {
					return false
				}
			}
		}
	}
	return true
}

func TestWatchersAreToldWhatHappensInOrderOrThatTheyMissedSome(t *testing.T) {
	for name, c := range map[string]struct {
		steps, many int
		shared      bool
		open        func(t *testing.T) store.Store
	}{
		"memory": {4000, 250_000, false, func(*testing.T) store.Store { return memory.New() }},
		"shared": {3000, 100_000, true, func(*testing.T) store.Store { return shared{memory.New()} }},
		"bolt": {1000, 20_000, false, func(t *testing.T) store.Store {
			s, err := bolt.Open(context.Background(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
			require.NoError(t, err)
			return s
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := c.open(t)
				defer func() { require.NoError(t, s.Close()) }()
				m := &watchModel{t: t, r: rand.New(rand.NewPCG(11, 1)), now: time.Now().UnixMilli()}
				open := func() {
					var err error
					o := denizen.Options{MaySee: m.maySee}
					m.reader, err = denizen.New(t.Context(), s, o)
					require.NoError(t, err)
					if m.writer = m.reader; c.shared {
						m.writer, err = denizen.New(t.Context(), s, o)
						require.NoError(t, err)
					}
				}
				shut := func() {
					for len(m.watches) > 0 {
						m.end(0)
					}
					require.NoError(t, m.reader.Close())
					require.NoError(t, m.writer.Close())
				}
				open()
				for i := range viewers {
					_, err := m.writer.CreateUser(t.Context(), system, denizen.NewUser{ID: viewerID(i), ScreenName: "V"})
					require.NoError(t, err)
				}
				m.play(long.Of(c.steps, c.many), func() { shut(); open() })
				shut()
			})
		})
	}
}

// play takes a number of steps.
func (m *watchModel) play(steps int, restart func()) {
	did := map[string]int{}
	for step := range steps {
		what := ""
		at := m.now + 1 + int64(m.r.IntN(1500))
		if m.r.IntN(50) == 0 {
			at += int64(m.r.IntN(100_000))
		}
		switch n := m.r.IntN(100); {
		case n < 80: // about a user, in milliseconds that are odd and its own
			user := m.r.IntN(watchedUsers)
			at |= 1
			for int(at%1000)/2%watchedUsers != user || !m.free(at) {
				at += 2
			}
			m.advance(at)
			what = m.act(user)
		default: // about a watch, in even ones
			at += at % 2
			m.advance(at)
			switch {
			case len(m.watches) == 0 || n < 85 && len(m.watches) < 8:
				what = "watch"
				m.begin()
			case n < 87:
				what = "end"
				m.end(m.r.IntN(len(m.watches)))
			case n == 88 && m.r.IntN(10) == 0:
				what = "restart"
				m.check(step, what)
				restart()
			default:
				what = "go on"
				for _, w := range m.watches {
					if m.r.IntN(2) == 0 {
						m.goOn(w)
					}
				}
			}
		}
		did[what]++
		m.check(step, what)
	}
	m.t.Log(slices.Sorted(maps.Keys(did)), did)
}
