// Package memory implements [store.Store] in memory, for tests and for data that may be lost.
//
// It is not durable: its contents are gone when the store is closed or the process ends. In every
// other respect it keeps the contract of package store.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/tidwall/btree"
)

var (
	_ store.Store   = (*Store)(nil)
	_ store.Sole    = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
)

// Store holds records and events in memory. It may be used by many goroutines at once.
type Store struct {
	group *group.Group
	head  group.Head
	owner group.Owner

	// Only the group's leader writes, and it locks mu only while it changes the state. So readers
	// never wait for more than that.
	mu     sync.RWMutex // guards closed and state
	closed bool
	state
}

// state is the contents of a store.
type state struct {
	records btree.Map[store.Key, value]
	events  []store.Change // by Seq, from first on
	first   store.Seq
	seq     store.Seq
}

type value struct {
	version store.Seq
	json    []byte
	damaged bool // set by tests only
}

// record returns v as readers see it. The caller owns its value.
func (v value) record(k store.Key) store.Record {
	if v.damaged {
		return store.Record{Key: k, Damaged: true}
	}
	return store.Record{Key: k, Version: v.version, Value: bytes.Clone(v.json)}
}

// New returns an empty store. It needs no goroutine and no file, so closing it is optional.
func New() *Store {
	s := &Store{state: state{first: 1}}
	s.group = group.New(backend{s}, &s.head)
	return s
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := store.CheckKeys(keys...); err != nil {
		return nil, err
	}
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	records := make([]store.Record, len(keys))
	for i, k := range keys {
		v, _ := s.records.Get(k)
		records[i] = v.record(k)
	}
	return records, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	var records []store.Record
	s.records.Ascend(max(r.Under, r.After), func(k store.Key, v value) bool {
		switch {
		case !k.HasPrefix(r.Under) || len(records) == r.Limit:
			return false
		case k == r.After:
			return true
		}
		if r.KeysOnly {
			v.json = nil
		}
		records = append(records, v.record(k))
		return true
	})
	return records, nil
}

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	return s.group.Commit(ctx, b)
}

// Counts implements [store.Counter].
func (s *Store) Counts() store.Counts { return s.group.Counts() }

// Changes implements [store.Store].
func (s *Store) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if err := store.CheckChanges(limit); err != nil {
		return store.Feed{}, err
	}
	if err := s.rlock(ctx); err != nil {
		return store.Feed{}, err
	}
	defer s.mu.RUnlock()
	feed := store.Feed{First: s.first, Head: s.seq}
	if after < s.first-1 || after > s.seq && after != store.End {
		return feed, store.ErrMissed
	}
	from, found := slices.BinarySearchFunc(s.events, after, bySeq)
	if found {
		from++
	}
	events := s.events[from:]
	for _, c := range events[:min(limit, len(events))] {
		c.Event = bytes.Clone(c.Event)
		feed.Changes = append(feed.Changes, c)
	}
	return feed, nil
}

// bySeq compares the Seq of c with seq, for binary searches in the feed.
func bySeq(c store.Change, seq store.Seq) int {
	switch {
	case c.Seq < seq:
		return -1
	case c.Seq > seq:
		return 1
	}
	return 0
}

// Wait implements [store.Store].
func (s *Store) Wait(ctx context.Context, after store.Seq) error {
	if err := s.rlock(ctx); err != nil {
		return err
	}
	beyond := after > s.seq
	s.mu.RUnlock()
	if beyond {
		return store.ErrMissed
	}
	return s.head.Wait(ctx, after)
}

// Health implements [store.Checker]. It returns nil until the store is closed, and then
// [store.ErrClosed].
func (s *Store) Health() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// Own implements [store.Sole].
func (s *Store) Own() (release func(), err error) {
	if err := s.rlock(context.Background()); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	return s.owner.Own()
}

// Load implements [store.Store]. A Load that fails leaves the store empty, as it was.
func (s *Store) Load(
	ctx context.Context, rs iter.Seq2[store.Record, error],
	cs iter.Seq2[store.Change, error], head store.Seq,
) error {
	return s.group.Alone(ctx, func() error {
		if s.seq > 0 {
			return store.ErrNotEmpty
		}
		loaded := state{first: head + 1, seq: head}
		for r, err := range rs {
			if err := firstOf(err, ctx.Err(), group.CheckRecord(r, head)); err != nil {
				return err
			}
			v := value{version: r.Version, json: bytes.Clone(r.Value)}
			if _, twice := loaded.records.Set(r.Key, v); twice {
				return fmt.Errorf("%w: a key loaded twice", store.ErrInvalid)
			}
		}
		for c, err := range cs {
			if err := firstOf(err, ctx.Err(), group.CheckChange(c, head)); err != nil {
				return err
			}
			c = store.Change{Seq: c.Seq, Event: bytes.Clone(c.Event)}
			loaded.events = append(loaded.events, c)
			loaded.first = min(loaded.first, c.Seq)
		}
		slices.SortFunc(loaded.events, func(a, b store.Change) int { return bySeq(a, b.Seq) })
		for i := 1; i < len(loaded.events); i++ {
			if loaded.events[i-1].Seq == loaded.events[i].Seq {
				return fmt.Errorf("%w: a change loaded twice", store.ErrInvalid)
			}
		}
		s.mu.Lock()
		s.state = loaded
		s.mu.Unlock()
		s.head.Advance(head)
		return nil
	})
}

// firstOf returns the first error that is not nil.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Close implements [store.Store]. It discards the contents.
func (s *Store) Close() error {
	s.group.Close()
	s.head.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.state = state{first: 1}
	return nil
}

// rlock locks mu for reading, unless ctx has ended or the store is closed.
func (s *Store) rlock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return store.ErrClosed
	}
	return nil
}

// backend commits groups to the store. As nobody else writes, it reads without the lock and takes
// it only to write.
type backend struct{ *Store }

func (b backend) Begin() (tx group.Tx, head, first store.Seq, err error) {
	return &transaction{Store: b.Store}, b.seq, b.first, nil
}

// transaction is one group. It keeps the changes until Commit, because only the group's commit
// makes them visible.
type transaction struct {
	*Store
	changes *group.Changes
}

func (t *transaction) Versions(keys []store.Key, into []store.Seq) error {
	for i, k := range keys {
		v, _ := t.records.Get(k)
		into[i] = v.version
		if v.damaged {
			into[i] = group.Damaged
		}
	}
	return nil
}

func (t *transaction) Under(prefix store.Key) (found bool, err error) {
	t.records.Ascend(prefix, func(k store.Key, _ value) bool {
		found = k.HasPrefix(prefix)
		return false
	})
	return found, nil
}

func (t *transaction) Write(c *group.Changes) error {
	t.changes = c
	return nil
}

func (t *transaction) Commit() error {
	c := t.changes
	// Copy first, so that readers wait only for the changes themselves.
	puts := make([]value, len(c.Puts))
	for i, r := range c.Puts {
		puts[i] = value{version: r.Version, json: bytes.Clone(r.Value)}
	}
	events := make([]store.Change, len(c.Events))
	for i, e := range c.Events {
		events[i] = store.Change{Seq: e.Seq, Event: bytes.Clone(e.Event)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range c.Drops {
		t.records.Delete(k)
	}
	for i, r := range c.Puts {
		t.records.Set(r.Key, puts[i])
	}
	t.events = append(t.events, events...)
	if c.Trimmed {
		n, _ := slices.BinarySearchFunc(t.events, c.First, bySeq)
		clear(t.events[:n])
		t.events = t.events[n:]
	}
	t.first, t.seq = c.First, c.Head
	return nil
}

func (t *transaction) Rollback() {}
