package adminui

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
)

// How often the hub looks, and until when after the last page.
const (
	lookEvery   = 500 * time.Millisecond
	countEvery  = time.Second
	countShare  = 20 // a count takes this part of the time at most
	countMemory = time.Minute
	lookFor     = time.Minute
	recentKept  = denizen.MaxList
)

// hub reads what all open pages show, so that it is read once for all. It works while somebody looks.
type hub struct {
	dir *denizen.Directory

	mu       sync.Mutex // guards the fields below
	working  bool
	closed   bool
	viewers  int       // streams that are open
	asked    time.Time // when a page was last asked for
	now      snapshot
	changed  chan struct{} // closed once now is another one
	history  []point
	charted  time.Time
	ctx      context.Context // ends once the hub is closed
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	head     denizen.Seq // as of charted
	lastHead denizen.Seq // as of the last look
}

// snapshot is what the hub knows. It is not changed once others have it, nor is what it leads to.
type snapshot struct {
	At      time.Time // zero: nothing is known
	Err     error     // why nothing newer is
	Stats   denizen.Stats
	Rate    float64         // commits a second
	Recent  []denizen.Event // the newest first
	Counts  *counts         // nil: not counted yet
	History []point
}

// counts is what takes longer to count.
type counts struct {
	Users int
	Here  map[string]int // by state
}

// Present returns how many users are here.
func (c *counts) Present() (n int) {
	for _, some := range c.Here {
		n += some
	}
	return n
}

// point is what a chart shows of an instant.
type point struct{ users, here, rate, lag float64 }

func newHub(dir *denizen.Directory) *hub {
	h := &hub{dir: dir, changed: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.workers.Wait()
}

// attend lets the hub look for a while.
func (h *hub) attend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = time.Now()
	if h.working || h.closed {
		return
	}
	h.working, h.lastHead = true, 0
	ctx, cancel := context.WithCancel(h.ctx)
	h.workers.Go(func() { h.count(ctx) })
	h.workers.Go(func() {
		defer cancel()
		h.look(ctx)
	})
}

// enter counts one more viewer, until leave is called.
func (h *hub) enter() (leave func()) {
	h.mu.Lock()
	h.viewers++
	h.mu.Unlock()
	h.attend()
	return func() {
		h.mu.Lock()
		h.viewers--
		h.asked = time.Now()
		h.mu.Unlock()
	}
}

// latest returns what is known now, and a channel that is closed once something newer is.
func (h *hub) latest() (snapshot, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now, h.changed
}

// known returns what is known, and waits a little for the first look and the first count.
func (h *hub) known(ctx context.Context, wait time.Duration) snapshot {
	h.attend()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		s, changed := h.latest()
		if !s.At.IsZero() && s.Counts != nil {
			return s
		}
		select {
		case <-changed:
		case <-timer.C:
			return s
		case <-ctx.Done():
			return s
		}
	}
}

// tell makes what is known another one.
func (h *hub) tell(change func(*snapshot)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.now)
	close(h.changed)
	h.changed = make(chan struct{})
}

// look reads the figures and the end of the feed until nobody looks any more.
func (h *hub) look(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		h.lookOnce(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		h.mu.Lock()
		idle := h.viewers == 0 && time.Since(h.asked) > lookFor
		if idle || ctx.Err() != nil {
			h.working, h.history, h.now = false, nil, snapshot{}
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

func (h *hub) lookOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	was, _ := h.latest()
	stats, err := h.dir.Stats(ctx, denizen.System())
	recent := was.Recent
	if err == nil && (stats.Head != h.lastHead || recent == nil) {
		var page denizen.EventPage
		page, err = h.dir.RecentEvents(ctx, denizen.System(), denizen.EventQuery{Limit: recentKept})
		recent = page.Events
	}
	if err != nil {
		if was.Err == nil || errors.Is(was.Err, context.Canceled) {
			h.tell(func(s *snapshot) { s.Err = err })
		}
		return
	}
	h.lastHead = stats.Head
	now := time.Now()
	charts := now.Sub(h.charted) >= chartEvery
	if !charts && !was.At.IsZero() && was.Err == nil && stats.Head == was.Stats.Head &&
		sameHealth(stats.Health, was.Stats.Health) {
		return // nothing happened, and it is not time for the charts
	}
	h.tell(func(s *snapshot) {
		s.At, s.Err, s.Stats, s.Recent = now, nil, stats, recent
		if !charts {
			return
		}
		if since := now.Sub(h.charted).Seconds(); !h.charted.IsZero() && since < countMemory.Seconds() {
			s.Rate = max(0, float64(stats.Head)-float64(h.head)) / since
		}
		h.charted = now
		p := point{rate: s.Rate, lag: float64(lag(&stats)), users: -1}
		if s.Counts != nil {
			p.users, p.here = float64(s.Counts.Users), float64(s.Counts.Present())
		}
		kept := h.history[max(0, len(h.history)-chartPoints+1):]
		h.history = append(append(make([]point, 0, chartPoints), kept...), p)
		s.History = h.history
		h.head = stats.Head
	})
}

// lag returns how far the consumer that is the furthest behind is, in commits.
func lag(s *denizen.Stats) (most int64) {
	for _, c := range s.Consumers {
		most = max(most, c.Behind)
	}
	return most
}

func sameHealth(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}

// counted tells what was counted, if it is not what is known.
func (h *hub) counted(c *counts) {
	was, _ := h.latest()
	if was.Counts == nil || was.Counts.Users != c.Users || !maps.Equal(was.Counts.Here, c.Here) {
		h.tell(func(s *snapshot) { s.Counts = c })
	}
}

// count counts what takes longer, and rests for as long as that is worth.
func (h *hub) count(ctx context.Context) {
	for {
		began := time.Now()
		users, err := h.dir.CountUsers(ctx, denizen.System())
		var here map[string]int
		if err == nil {
			here, err = h.dir.CountPresent(ctx, denizen.System())
		}
		if err == nil {
			h.counted(&counts{users, here})
		}
		rest := time.NewTimer(max(countEvery, countShare*time.Since(began)))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return
		}
	}
}
