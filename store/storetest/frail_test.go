package storetest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/denizenhq/denizen/store"
)

// frail is a simple store: one lock around the model. It has the bug that it is named after, or
// none if its name is "".
type frail struct {
	bug string

	mu      sync.Mutex
	now     *model
	before  *model // the state one commit ago, for bugs that return old data
	closed  bool
	changed chan struct{} // closed and replaced at each commit
	owned   bool
	owner   int
}

func newFrail(bug string) *frail {
	return &frail{bug: bug, now: newModel(), before: newModel(), changed: make(chan struct{})}
}

func frailHarness(bug string) Harness {
	return Harness{
		New: func(testing.TB) store.Store { return newFrail(bug) },
		Reopen: func(t testing.TB, s store.Store) store.Store {
			_ = s.Close()
			old := s.(*frail)
			old.mu.Lock()
			defer old.mu.Unlock()
			again := newFrail(bug)
			again.now = old.now
			switch bug {
			case "a restart loses the last commit":
				again.now = old.before
			case "a restart begins the sequence anew":
				again.now.head = 0
				for _, r := range again.now.records {
					again.now.head = max(again.now.head, r.Version)
				}
			case "a restart forgets the trim":
				again.now.first = 1
			}
			return again
		},
		Damage: func(_ testing.TB, s store.Store, k store.Key) {
			f := s.(*frail)
			f.mu.Lock()
			defer f.mu.Unlock()
			if r, found := f.now.records[k]; found && !f.is("what is damaged is not marked") {
				f.now.records[k] = store.Record{Key: k, Version: r.Version, Damaged: true}
			}
			if f.is("what is damaged is gone") {
				delete(f.now.records, k)
			}
		},
		DamageEvent: func(_ testing.TB, s store.Store, seq store.Seq) {
			f := s.(*frail)
			f.mu.Lock()
			defer f.mu.Unlock()
			if i, found := slices.BinarySearchFunc(f.now.changes, store.Change{Seq: seq}, bySeq); found {
				f.now.changes[i] = store.Change{Seq: seq, Damaged: true}
				if f.is("a damaged event is left out") {
					f.now.changes = slices.Delete(f.now.changes, i, i+1)
				}
			}
		},
	}
}

func (s *frail) is(bug string) bool { return s.bug == bug }

func (m *model) clone() *model {
	return &model{maps.Clone(m.records), slices.Clone(m.changes), m.first, m.head}
}

func cloneRecords(rs []store.Record) []store.Record {
	for i := range rs {
		rs[i].Value = bytes.Clone(rs[i].Value)
	}
	return rs
}

func (s *frail) Get(_ context.Context, keys ...store.Key) ([]store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && !s.is("a closed store works") {
		return nil, store.ErrClosed
	}
	if err := store.CheckKeys(keys...); err != nil && !s.is("get takes any key") {
		return nil, err
	}
	if s.is("get reads key by key") {
		var rs []store.Record
		for _, k := range keys {
			rs = append(rs, s.now.get([]store.Key{k})...)
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
		return cloneRecords(rs), nil
	}
	m := s.now
	if s.is("get returns what was one commit ago") {
		m = s.before
	}
	rs := m.get(keys)
	switch s.bug {
	case "get returns records in key order":
		slices.SortFunc(rs, byKey)
	case "get returns a key once":
		rs = slices.CompactFunc(rs, func(a, b store.Record) bool { return a.Key == b.Key })
	case "get leaves out what is absent":
		rs = slices.DeleteFunc(rs, func(r store.Record) bool { return r.Version == 0 })
	case "get returns its own memory":
		return rs, nil
	}
	return cloneRecords(rs), nil
}

func (s *frail) List(_ context.Context, r store.Range) ([]store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	if err := r.Check(); err != nil && !s.is("any limit goes") {
		return nil, err
	}
	if s.is("list reads key by key") {
		rs := s.now.list(r)
		for i := range rs {
			rs[i] = s.now.get([]store.Key{rs[i].Key})[0]
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
		return cloneRecords(rs), nil
	}
	rs := s.now.list(r)
	switch s.bug {
	case "list includes after":
		if rec, ok := s.now.records[r.After]; ok && rec.Key.HasPrefix(r.Under) {
			rs = append([]store.Record{rec}, rs...)
			rs = rs[:min(len(rs), r.Limit)]
		}
	case "list sorts without case":
		slices.SortStableFunc(rs, func(a, b store.Record) int {
			return strings.Compare(strings.ToLower(string(a.Key)), strings.ToLower(string(b.Key)))
		})
	case "list returns one too many":
		more := r
		more.Limit++
		rs = s.now.list(more)
	case "list returns values always":
		r.KeysOnly = false
		rs = s.now.list(r)
	case "list returns its own memory":
		return rs, nil
	case "list returns one array":
		var all []byte
		for _, r := range rs {
			all = append(all, r.Value...)
		}
		for i := range rs {
			n := len(rs[i].Value)
			rs[i].Value, all = all[:n], all[n:]
		}
		return rs, nil
	}
	return cloneRecords(rs), nil
}

func (s *frail) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, store.ErrClosed
	}
	if err := ctx.Err(); err != nil && !s.is("an ended context is ignored") {
		if s.is("a withdrawn batch is applied") {
			s.apply(b)
		}
		return 0, err
	}
	if err := b.Check(); err != nil && !s.is("any batch goes") {
		if s.is("an invalid batch takes a seq") {
			s.now.head++
		}
		return 0, err
	}
	if s.is("drops come before conditions") {
		b = s.dropFirst(b)
	}
	failed := s.now.failed(b.If)
	for _, c := range b.If {
		if s.now.records[c.Key].Damaged && !c.Under && !c.Damaged && !s.is("a damaged version is a conflict") {
			return 0, store.ErrCorrupt
		}
	}
	switch s.bug {
	case "a condition on damage always holds":
		failed = slices.DeleteFunc(failed, func(c store.Cond) bool { return c.Damaged })
	case "nothing is ever damaged for a condition":
		for _, c := range b.If {
			if c.Damaged && !slices.Contains(failed, c) {
				failed = append(failed, c)
			}
		}
	case "a condition on absence always holds":
		failed = slices.DeleteFunc(failed, func(c store.Cond) bool { return !c.Under && c.Version == 0 })
	case "any older version will do":
		failed = slices.DeleteFunc(failed, func(c store.Cond) bool {
			return !c.Under && c.Version > 0 && c.Version < s.now.records[c.Key].Version
		})
	case "under does not count the key itself":
		failed = slices.DeleteFunc(failed, func(c store.Cond) bool {
			return c.Under && len(s.now.list(store.Range{Under: c.Key, After: c.Key, Limit: 1})) == 0
		})
	case "conditions are judged one commit late":
		failed = s.before.failed(b.If)
	}
	if len(failed) > 0 {
		switch s.bug {
		case "only the first failed condition is named":
			failed = failed[:1]
		case "the last failed condition is not named":
			failed = failed[:max(1, len(failed)-1)]
		case "a refused batch drops all the same":
			for _, k := range b.Drop {
				delete(s.now.records, k)
			}
		case "a refused batch takes a seq":
			s.now.head++
		case "a refused batch wakes":
			s.wake()
		}
		return 0, &store.Conflict{Failed: failed}
	}
	return s.apply(b), nil
}

func (s *frail) dropFirst(b store.Batch) store.Batch {
	m := s.now
	for _, k := range b.Drop {
		delete(m.records, k)
	}
	return b
}

func (s *frail) apply(b store.Batch) store.Seq {
	m := s.now
	s.before = m.clone()
	seq := m.head + 1
	if s.is("a batch without event takes no seq") && b.Emit == nil {
		seq = max(1, m.head)
	}
	old := maps.Clone(m.records)
	switch s.bug {
	case "a batch is applied in two halves":
		half := store.Batch{Put: b.Put[:len(b.Put)/2]}
		m.apply(half, seq)
		m.head--
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
		m.head = max(m.head, seq-1)
		seq = m.head + 1
	case "puts come before drops":
		for _, r := range b.Put {
			dropped := slices.Contains(b.Drop, r.Key)
			if dropped {
				b.Put = slices.DeleteFunc(slices.Clone(b.Put), func(p store.Record) bool { return p.Key == r.Key })
			}
		}
	case "an event is lost now and then":
		if seq%7 == 0 {
			b.Emit = nil
		}
	case "the event of a batch without puts is lost":
		if len(b.Put) == 0 {
			b.Emit = nil
		}
	case "a trim reaches its own event":
		if b.Trim >= seq {
			defer func() { m.first, m.changes = seq+1, nil }()
		}
	case "a later trim brings events back":
		if b.Trim > 0 {
			m.first = min(b.Trim, m.head) + 1
		}
	case "a trim removes and does not say so":
		if b.Trim > 0 {
			first := m.first
			defer func() { m.first = first }()
		}
	case "a trim is ignored":
		b.Trim = 0
	}
	m.apply(b, seq)
	for i, r := range b.Put {
		kept := m.records[r.Key]
		switch s.bug {
		case "a version does not grow":
			if was, ok := old[r.Key]; ok {
				kept.Version = was.Version
			}
		case "a version is the caller's":
			if r.Version > 0 {
				kept.Version = r.Version
			}
		case "versions count per key":
			kept.Version = old[r.Key].Version + 1
		case "the caller's memory is kept":
			kept.Value = r.Value
		case "a put of more than two is cut short":
			if i > 1 {
				delete(m.records, r.Key)
				continue
			}
		case "values become floats":
			kept.Value = bytes.ReplaceAll(kept.Value, []byte("9007199254740993"), []byte("9007199254740992"))
		case "keys are cut at a zero byte":
			if cut, _, found := strings.Cut(string(r.Key), "\x00"); found {
				delete(m.records, r.Key)
				kept.Key = store.Key(cut)
			}
		case "keys know no case":
			delete(m.records, r.Key)
			kept.Key = store.Key(strings.ToLower(string(r.Key)))
		case "keys are UTF-8":
			delete(m.records, r.Key)
			kept.Key = store.Key(strings.ToValidUTF8(string(r.Key), "\ufffd"))
		}
		m.records[kept.Key] = kept
	}
	switch s.bug {
	case "the caller's batch is sorted":
		slices.SortFunc(b.Put, byKey)
	case "the caller's event is kept":
		if b.Emit != nil {
			m.changes[len(m.changes)-1].Event = b.Emit
		}
	case "the event shows later":
		if b.Emit != nil {
			last := len(m.changes) - 1
			c := m.changes[last]
			m.changes = m.changes[:last]
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
			at, _ := slices.BinarySearchFunc(m.changes, c, bySeq)
			m.changes = slices.Insert(m.changes, at, c)
		}
	}
	if !s.is("nobody is woken") && !(s.is("a batch without event wakes nobody") && b.Emit == nil) {
		s.wake()
	}
	return seq
}

func (s *frail) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *frail) Changes(_ context.Context, after store.Seq, limit int) (store.Feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.Feed{}, store.ErrClosed
	}
	if err := store.CheckChanges(limit); err != nil && !s.is("any limit goes") {
		return store.Feed{}, err
	}
	if s.is("changes overflow") && after+1 == 0 {
		after = 0
	}
	f, missed := s.now.feed(after, limit)
	for i := range f.Changes {
		if !s.is("changes returns its own memory") {
			f.Changes[i].Event = bytes.Clone(f.Changes[i].Event)
		}
	}
	switch s.bug {
	case "head is that of the last event":
		f.Head = s.now.first - 1
		if n := len(s.now.changes); n > 0 {
			f.Head = s.now.changes[n-1].Seq
		}
	case "head runs ahead":
		f.Head++
	case "the first of a page is skipped":
		if len(f.Changes) > 1 {
			f.Changes = f.Changes[1:]
		}
	case "missed does not tell the head":
		if missed {
			return store.Feed{First: f.First}, store.ErrMissed
		}
	case "beyond the head there is nothing":
		missed = after < s.now.first-1
	case "the end is missed":
		missed = missed || after == store.End
	case "missed is off by one":
		missed = after+1 < s.now.first-1
	}
	if missed {
		return f, store.ErrMissed
	}
	return f, nil
}

func (s *frail) Wait(ctx context.Context, after store.Seq) error {
	for woken := false; ; woken = true {
		s.mu.Lock()
		changed, closed, head := s.changed, s.closed, s.now.head
		s.mu.Unlock()
		switch {
		case closed:
			return store.ErrClosed
		case head > after, woken && s.is("a refused batch wakes"):
			return nil
		case after > head && ctx.Err() == nil && !s.is("a wait beyond the head waits"):
			return store.ErrMissed
		case s.is("wait never waits"):
			return nil
		}
		done := ctx.Done()
		if s.is("wait overlooks its context") {
			done = nil
		}
		select {
		case <-changed:
		case <-done:
			return ctx.Err()
		}
	}
}

func (s *frail) Load(ctx context.Context, rs iter.Seq2[store.Record, error], cs iter.Seq2[store.Change, error], head store.Seq) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	empty := s.now.head == 0
	if s.is("load looks at records only") {
		empty = len(s.now.records) == 0
	}
	if !empty && !s.is("load takes any store") {
		return store.ErrNotEmpty
	}
	m := newModel()
	if s.is("a failed load leaves records") {
		m = s.now
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for r, err := range rs {
		if err != nil {
			return err
		}
		if err := store.CheckKeys(r.Key); err != nil {
			return err
		}
		if err := store.CheckValue(r.Value); err != nil && !s.is("load takes any value") {
			return err
		}
		if (r.Version == 0 || r.Version > head) && !s.is("load takes any version") {
			return store.ErrInvalid
		}
		r.Value = bytes.Clone(plain(r.Value))
		if s.is("load makes versions anew") {
			r.Version = head
		}
		m.records[r.Key] = r
	}
	m.first = head + 1
	for c, err := range cs {
		if err != nil {
			if s.is("a load whose changes break off succeeds") {
				break
			}
			if s.is("a failed load leaves records") {
				m.first = 1
			}
			return err
		}
		if err := store.CheckValue(c.Event); err != nil {
			return err
		}
		if c.Seq == 0 || c.Seq > head {
			return store.ErrInvalid
		}
		c.Event = bytes.Clone(plain(c.Event))
		m.changes = append(m.changes, c)
		m.first = min(m.first, c.Seq)
	}
	if !s.is("load keeps the changes in the order they came") {
		slices.SortFunc(m.changes, bySeq)
	}
	if s.is("load begins the feed at 1") {
		m.first = 1
	}
	m.head = head
	if s.is("load forgets the head") {
		m.head = 0
		for _, r := range m.records {
			m.head = max(m.head, r.Version)
		}
	}
	s.now = m
	return nil
}

func (s *frail) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if s.is("closing twice is an error") {
			return store.ErrClosed
		}
		return nil
	}
	s.closed = true
	if s.is("close loses what it acknowledged last") {
		s.now = s.before
	}
	if !s.is("close wakes nobody") {
		s.wake()
	}
	return nil
}

func (s *frail) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && !s.is("what is closed is well") {
		return store.ErrClosed
	}
	return nil
}

func (s *frail) Own() (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owned && !s.is("anybody may own") {
		return nil, store.ErrOwned
	}
	s.owned = true
	s.owner++
	me := s.owner
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.owner == me || s.is("a release takes the next owner's place") {
			s.owned = s.is("a release does nothing")
		}
	}, nil
}
