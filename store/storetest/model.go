package storetest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/denizenhq/denizen/store"
)

// model is a store made of maps, without locks, limits or errors.
type model struct {
	records     map[store.Key]store.Record
	changes     []store.Change
	first, head store.Seq
}

func newModel() *model { return &model{records: map[store.Key]store.Record{}, first: 1} }

// failed returns the conditions that do not hold.
func (m *model) failed(conds []store.Cond) []store.Cond {
	var failed []store.Cond
	for _, c := range conds {
		r := m.records[c.Key]
		holds := r.Version == c.Version && !r.Damaged
		switch {
		case c.Under:
			holds = len(m.list(store.Range{Under: c.Key, Limit: 1})) == 0
		case c.Damaged:
			holds = r.Damaged
		}
		if !holds {
			failed = append(failed, c)
		}
	}
	return failed
}

func (m *model) apply(b store.Batch, seq store.Seq) {
	for _, k := range b.Drop {
		delete(m.records, k)
	}
	for _, r := range b.Put {
		m.records[r.Key] = store.Record{Key: r.Key, Version: seq, Value: plain(r.Value)}
	}
	m.first = max(m.first, min(b.Trim, m.head)+1)
	m.changes = slices.DeleteFunc(m.changes, func(c store.Change) bool { return c.Seq < m.first })
	if b.Emit != nil {
		m.changes = append(m.changes, store.Change{Seq: seq, Event: plain(b.Emit)})
	}
	m.head = seq
}

func (m *model) get(keys []store.Key) []store.Record {
	rs := []store.Record{}
	for _, k := range keys {
		r := m.records[k]
		r.Key = k
		rs = append(rs, r)
	}
	return rs
}

func (m *model) list(r store.Range) []store.Record {
	rs := []store.Record{}
	for _, k := range slices.Sorted(maps.Keys(m.records)) {
		if k.HasPrefix(r.Under) && k > r.After && len(rs) < r.Limit {
			rec := m.records[k]
			if r.KeysOnly {
				rec.Value = nil
			}
			rs = append(rs, rec)
		}
	}
	return rs
}

func (m *model) feed(after store.Seq, limit int) (f store.Feed, missed bool) {
	f = store.Feed{First: m.first, Head: m.head, Changes: []store.Change{}}
	for _, c := range m.changes {
		if c.Seq > after && len(f.Changes) < limit {
			f.Changes = append(f.Changes, c)
		}
	}
	return f, after < m.first-1 || after > m.head && after != store.End
}

// step is one call of a script. What depends on the current state, such as the version in a
// condition, is relative, so that a step makes sense anywhere in a script.
type step struct {
	op    string // commit, get, list, changes, reopen
	batch store.Batch
	conds []cond
	trim  int // commit: trim up to this many before head, if above 0
	keys  []store.Key
	page  store.Range
	back  int // changes: after this many before head
	limit int
}

// cond is a condition, relative to the current state.
type cond struct {
	key store.Key
	at  string // now, stale, absent, under
}

func (s step) String() string {
	switch s.op {
	case "commit":
		var b strings.Builder
		b.WriteString("commit")
		for _, c := range s.conds {
			fmt.Fprintf(&b, " if(%q %s)", c.key, c.at)
		}
		for _, k := range s.batch.Drop {
			fmt.Fprintf(&b, " drop(%q)", k)
		}
		for _, r := range s.batch.Put {
			fmt.Fprintf(&b, " put(%q %s)", r.Key, r.Value)
		}
		if s.batch.Emit != nil {
			fmt.Fprintf(&b, " emit(%s)", s.batch.Emit)
		}
		if s.trim > 0 {
			fmt.Fprintf(&b, " trim(head-%d)", s.trim-1)
		}
		return b.String()
	case "get":
		return fmt.Sprintf("get %q", s.keys)
	case "list":
		return fmt.Sprintf("list under %q after %q limit %d keysOnly %v",
			s.page.Under, s.page.After, s.page.Limit, s.page.KeysOnly)
	case "changes":
		return fmt.Sprintf("changes after head-%d limit %d", s.back, s.limit)
	}
	return s.op
}

// at returns the batch of the step for the current state of m.
func (s step) at(m *model) store.Batch {
	b := s.batch
	for _, c := range s.conds {
		now := m.records[c.key].Version
		switch c.at {
		case "now":
			b.If = append(b.If, store.Cond{Key: c.key, Version: now})
		case "stale":
			stale := now - 1
			if now == 0 {
				stale = m.head + 1
			}
			b.If = append(b.If, store.Cond{Key: c.key, Version: stale})
		case "absent":
			b.If = append(b.If, store.Cond{Key: c.key})
		case "under":
			b.If = append(b.If, store.Cond{Key: c.key, Under: true})
		}
	}
	if s.trim > 0 {
		b.Trim = m.head - min(m.head, store.Seq(s.trim-1)) // 0, no trim, at the start
	}
	return b
}

// scriptKeys are few, so that steps meet, and each is a prefix of another one or next to one.
var scriptKeys = []store.Key{
	"\x00", "A", "a", "a\x00", "a/", "a/b", "a/c", "a\xff", "a\xff\xff", "b",
	"\xc3\x28", "\xff", "\xff\xff", "\xff\xff\x01",
}

// newScript returns n random steps, and then steps that read everything.
func newScript(random *rand.Rand, n int) []step {
	key := func() store.Key { return scriptKeys[random.IntN(len(scriptKeys))] }
	keys := func(most int) []store.Key {
		var ks []store.Key
		for range random.IntN(most + 1) {
			ks = append(ks, key())
		}
		return ks
	}
	var script []step
	for i := range n {
		s := step{op: "commit"}
		switch random.IntN(10) {
		case 6:
			s = step{op: "get", keys: keys(5)}
		case 7:
			s = step{op: "list", page: store.Range{Limit: 1 + random.IntN(6), KeysOnly: random.IntN(3) == 0}}
			if random.IntN(2) == 0 {
				s.page.Under = key()
			}
			if random.IntN(2) == 0 {
				s.page.After = key()
			}
		case 8:
			s = step{op: "changes", back: random.IntN(12) - 1, limit: 1 + random.IntN(8)}
		case 9:
			if random.IntN(3) == 0 {
				s = step{op: "reopen"}
			}
		}
		if s.op == "commit" {
			for _, k := range keys(2) {
				at := []string{
					"now", "now", "now", "now", "now", "now", "stale", "absent", "under", "under",
				}[random.IntN(10)]
				s.conds = append(s.conds, cond{k, at})
			}
			if random.IntN(3) == 0 {
				s.batch.Drop = keys(2)
			}
			ks := keys(5)
			slices.Sort(ks)
			for j, k := range slices.Compact(ks) {
				s.batch.Put = append(s.batch.Put, put(k, i*10+j))
			}
			random.Shuffle(len(s.batch.Put), func(i, j int) {
				s.batch.Put[i], s.batch.Put[j] = s.batch.Put[j], s.batch.Put[i]
			})
			if random.IntN(6) == 0 {
				s.trim = 1 + random.IntN(8)
			}
			if random.IntN(3) > 0 || len(s.batch.Drop)+len(s.batch.Put) == 0 {
				s.batch.Emit = val(i)
			}
		}
		script = append(script, s)
	}
	return append(script,
		step{op: "list", page: store.Range{Limit: store.MaxPage}},
		step{op: "get", keys: scriptKeys},
		step{op: "changes", back: 1 << 20, limit: store.MaxPage},
		step{op: "changes", back: 3, limit: store.MaxPage})
}

// play runs a script on a new store and on the model, and returns an error where they differ.
func play(t testing.TB, h Harness, script []step) error {
	t.Helper()
	s, m, ctx := h.New(t), newModel(), t.Context()
	defer func() { _ = s.Close() }()
	for i, step := range script {
		var got, want any
		switch step.op {
		case "commit":
			b := step.at(m)
			failed := m.failed(b.If)
			seq, err := s.Commit(ctx, b)
			var c *store.Conflict
			switch {
			case errors.As(err, &c):
				got, want = condSet(c.Failed), condSet(failed)
			case err != nil:
				return fmt.Errorf("step %d, %v: %w", i, step, err)
			case len(failed) > 0:
				got, want = "applied", failed
			case seq <= m.head:
				got, want = seq, fmt.Sprintf("a seq above %d", m.head)
			default:
				m.apply(b, seq)
			}
		case "get":
			rs, err := s.Get(ctx, step.keys...)
			if err != nil {
				return fmt.Errorf("step %d, %v: %w", i, step, err)
			}
			got, want = plainRecords(rs), m.get(step.keys)
		case "list":
			rs, err := s.List(ctx, step.page)
			if err != nil {
				return fmt.Errorf("step %d, %v: %w", i, step, err)
			}
			got, want = plainRecords(rs), m.list(step.page)
		case "changes":
			after := m.head + 1
			if step.back >= 0 {
				after = m.head - min(m.head, store.Seq(step.back))
			}
			g, err := s.Changes(ctx, after, step.limit)
			w, missed := m.feed(after, step.limit)
			if missed {
				if !errors.Is(err, store.ErrMissed) {
					return fmt.Errorf("step %d, %v: %v instead of ErrMissed", i, step, err)
				}
				got, want = []store.Seq{g.First, g.Head}, []store.Seq{w.First, w.Head}
				break
			}
			if err != nil {
				return fmt.Errorf("step %d, %v: %w", i, step, err)
			}
			got, want = plainFeed(g), w
		case "reopen":
			if h.Reopen != nil {
				s = h.Reopen(t, s)
			}
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("step %d, %v:\n got %+q\nwant %+q", i, step, got, want)
		}
	}
	return nil
}

func condSet(cs []store.Cond) map[store.Cond]bool {
	set := map[store.Cond]bool{}
	for _, c := range cs {
		set[c] = true
	}
	return set
}

// shrink removes steps from a failing script while it still fails.
func shrink(script []step, fails func([]step) bool) []step {
	for size := len(script) / 2; size > 0; {
		shrunk := false
		for from := 0; from+size <= len(script); {
			if less := slices.Delete(slices.Clone(script), from, from+size); fails(less) {
				script, shrunk = less, true
			} else {
				from += size
			}
		}
		if !shrunk {
			size /= 2
		}
	}
	return script
}

func scriptsEndAsInTheModel(t testing.TB, h Harness) {
	const scripts, steps = 400, 16
	hash := fnv.New64a()
	hash.Write([]byte(t.Name()))
	seed := hash.Sum64()
	for i := range uint64(scripts) {
		script := newScript(rand.New(rand.NewPCG(seed, i)), steps)
		first := play(t, h, script)
		if first == nil {
			continue
		}
		script = shrink(script, func(less []step) bool { return play(t, h, less) != nil })
		err := play(t, h, script)
		if err == nil {
			err = fmt.Errorf("(not every time) %w", first)
		}
		var lines strings.Builder
		for n, s := range script {
			fmt.Fprintf(&lines, "%3d %v\n", n, s)
		}
		t.Fatalf("seed %#x, script %d:\n%v\nthe shortest script that fails:\n%s", seed, i, err, &lines)
	}
}
