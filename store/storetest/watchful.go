package storetest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/denizenhq/denizen/store"
)

// Watchful returns s under observation. It reports through t
//
//   - a key whose version decreases, except to absent;
//   - a head that goes back;
//   - a change that appears, or disappears without a trim, in a part of the feed that was read
//     before;
//   - a value or an event that is not a JSON object;
//   - a batch that puts a key without a condition on it, unless blind returns true for the key.
//
// A nil blind returns false for every key. Watchful is for tests of moderate size, because it
// remembers every key and every Seq. Of damaged records and events it checks only that they exist.
// The returned store implements [store.Sole] and [store.Checker] if s does.
func Watchful(t testing.TB, s store.Store, blind func(store.Key) bool) store.Store {
	if blind == nil {
		blind = func(store.Key) bool { return false }
	}
	w := &watchful{
		Store: s, t: t, blind: blind,
		versions: map[store.Key]sighting{}, events: map[store.Seq]bool{},
	}
	return forward(w, s)
}

type watchful struct {
	store.Store
	t     testing.TB
	blind func(store.Key) bool

	mu sync.Mutex // guards the fields below
	// clock counts results. Each is checked against what was known when it was requested.
	clock    int64
	head     store.Seq
	versions map[store.Key]sighting
	events   map[store.Seq]bool // the known changes in the range (from, to]
	from, to store.Seq
}

// sighting is the highest version seen of a key, and the clock when it was first seen.
type sighting struct {
	version store.Seq
	at      int64
}

// asked returns what is known when a call begins.
func (w *watchful) asked() (at int64, head store.Seq) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock, w.head
}

// saw checks records that were requested at a given clock, and remembers them.
func (w *watchful) saw(asked int64, rs []store.Record, values bool) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	for _, r := range rs {
		if r.Version == 0 || r.Damaged {
			continue
		}
		known := w.versions[r.Key]
		if known.version > r.Version && known.at <= asked {
			w.t.Errorf("key %q went from version %d back to %d", r.Key, known.version, r.Version)
		}
		if r.Version > known.version {
			w.versions[r.Key] = sighting{r.Version, w.clock}
		}
		if values && !isObject(r.Value) {
			w.t.Errorf("the value of key %q at %d is not a JSON object", r.Key, r.Version)
		}
	}
}

// sawFeed checks a page of the feed, and remembers it.
func (w *watchful) sawFeed(headBefore, after store.Seq, limit int, f store.Feed) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	if f.Head < headBefore {
		w.t.Errorf("head went from %d back to %d", headBefore, f.Head)
	}
	w.head = max(w.head, f.Head)
	told, to := map[store.Seq]bool{}, max(after, f.Head)
	for _, c := range f.Changes {
		told[c.Seq] = true
		if !c.Damaged && !isObject(c.Event) {
			w.t.Errorf("the event at %d is not a JSON object", c.Seq)
		}
	}
	if n := len(f.Changes); n > 0 && n == limit {
		to = f.Changes[n-1].Seq
	}
	if after >= f.Head {
		return
	}
	for seq := max(after, w.from) + 1; seq <= min(to, w.to); seq++ {
		if told[seq] && !w.events[seq] {
			w.t.Errorf("a change came up at %d, below a head of %d seen before", seq, w.to)
		}
		if w.events[seq] && !told[seq] {
			w.t.Errorf("the change at %d is gone", seq)
		}
	}
	if after > w.to || to < w.from { // the page is apart from the known range: begin another
		clear(w.events)
		w.from, w.to = after, to
	}
	maps.Copy(w.events, told)
	w.from, w.to = min(w.from, after), max(w.to, to)
}

func isObject(v []byte) bool { return len(v) > 0 && v[0] == '{' && json.Valid(v) }

func (w *watchful) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	w.t.Helper()
	asked, _ := w.asked()
	rs, err := w.Store.Get(ctx, keys...)
	w.saw(asked, rs, true)
	return rs, err
}

func (w *watchful) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	w.t.Helper()
	asked, _ := w.asked()
	rs, err := w.Store.List(ctx, r)
	w.saw(asked, rs, !r.KeysOnly)
	return rs, err
}

func (w *watchful) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	w.t.Helper()
	var written []store.Record
	for _, r := range b.Put {
		conditioned := slices.ContainsFunc(b.If, func(c store.Cond) bool {
			return c.Key == r.Key || c.Under && r.Key.HasPrefix(c.Key)
		})
		if !conditioned && !w.blind(r.Key) {
			w.t.Errorf("a batch puts key %q without a condition", r.Key)
		}
		written = append(written, store.Record{Key: r.Key})
	}
	_, head := w.asked()
	seq, err := w.Store.Commit(ctx, b)
	if err != nil {
		return seq, err
	}
	if seq <= head {
		w.t.Errorf("a batch took seq %d when head was %d", seq, head)
	}
	for i := range written {
		written[i].Version = seq
	}
	w.saw(0, written, false) // other commits may have overtaken this one, so only remember it
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = max(w.head, seq)
	return seq, err
}

func (w *watchful) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	w.t.Helper()
	_, head := w.asked()
	f, err := w.Store.Changes(ctx, after, limit)
	if err == nil {
		w.sawFeed(head, after, limit, f)
	}
	return f, err
}
