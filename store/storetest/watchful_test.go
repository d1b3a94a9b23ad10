package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// scripted is a store that returns what a test sets.
type scripted struct {
	store.Store
	record store.Record
	feed   store.Feed
	seq    store.Seq
}

func (s *scripted) Get(context.Context, ...store.Key) ([]store.Record, error) {
	return []store.Record{s.record}, nil
}

func (s *scripted) List(context.Context, store.Range) ([]store.Record, error) {
	return []store.Record{s.record}, nil
}

func (s *scripted) Commit(context.Context, store.Batch) (store.Seq, error) { return s.seq, nil }

func (s *scripted) Changes(context.Context, store.Seq, int) (store.Feed, error) { return s.feed, nil }

func TestWatchfulReports(t *testing.T) {
	at := func(v store.Seq) store.Record { return store.Record{Key: "k", Version: v, Value: val(1)} }
	feed := func(head store.Seq, seqs ...store.Seq) store.Feed {
		f := store.Feed{First: 1, Head: head}
		for _, s := range seqs {
			f.Changes = append(f.Changes, store.Change{Seq: s, Event: val(1)})
		}
		return f
	}
	get := func(s *scripted, w store.Store, r store.Record) {
		s.record = r
		_, _ = w.Get(t.Context(), "k")
	}
	list := func(s *scripted, w store.Store, r store.Record, keysOnly bool) {
		s.record = r
		_, _ = w.List(t.Context(), store.Range{Limit: 5, KeysOnly: keysOnly})
	}
	commit := func(s *scripted, w store.Store, seq store.Seq, b store.Batch) {
		s.seq = seq
		_, _ = w.Commit(t.Context(), b)
	}
	changes := func(s *scripted, w store.Store, after store.Seq, limit int, f store.Feed) {
		s.feed = f
		_, _ = w.Changes(t.Context(), after, limit)
	}
	for name, c := range map[string]struct {
		do   func(s *scripted, w store.Store)
		want string // "": nothing
	}{
		"a version that grows":      {func(s *scripted, w store.Store) { get(s, w, at(4)); get(s, w, at(5)) }, ""},
		"a version that shrinks":    {func(s *scripted, w store.Store) { get(s, w, at(5)); get(s, w, at(4)) }, "from version 5 back to 4"},
		"a key that goes":           {func(s *scripted, w store.Store) { get(s, w, at(5)); get(s, w, store.Record{Key: "k"}) }, ""},
		"a key back as it was once": {func(s *scripted, w store.Store) { get(s, w, at(5)); get(s, w, store.Record{}); get(s, w, at(3)) }, "back to 3"},
		"a list behind a get":       {func(s *scripted, w store.Store) { get(s, w, at(5)); list(s, w, at(4), true) }, "back to 4"},
		"a get behind a commit": {func(s *scripted, w store.Store) {
			commit(s, w, 9, store.Batch{Put: puts("may")})
			get(s, w, store.Record{Key: "may", Version: 8, Value: val(1)})
		}, "back to 8"},
		"keys without values":  {func(s *scripted, w store.Store) { list(s, w, store.Record{Key: "k", Version: 1}, true) }, ""},
		"a value that is none": {func(s *scripted, w store.Store) { list(s, w, store.Record{Key: "k", Version: 1}, false) }, "not a JSON object"},
		"a value cut short":    {func(s *scripted, w store.Store) { get(s, w, store.Record{Key: "k", Version: 1, Value: []byte(`{"a`)}) }, "not a JSON object"},
		"an event cut short": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 5, store.Feed{First: 1, Head: 1, Changes: []store.Change{{Seq: 1}}})
		}, "not a JSON object"},
		"a head that goes back": {func(s *scripted, w store.Store) { changes(s, w, 0, 5, feed(7)); changes(s, w, 0, 5, feed(6)) }, "head went from 7 back to 6"},
		"a head behind a commit": {func(s *scripted, w store.Store) {
			commit(s, w, 9, store.Batch{Emit: val(1)})
			changes(s, w, 0, 5, feed(8))
		}, "from 9 back to 8"},
		"a seq taken before": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 5, feed(7))
			commit(s, w, 7, store.Batch{Emit: val(1)})
		}, "took seq 7 when head was 7"},
		"a feed that goes on": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 5, feed(3, 1, 3))
			changes(s, w, 0, 5, feed(6, 1, 3, 5))
			changes(s, w, 3, 5, feed(6, 5))
		}, ""},
		"a change that comes up": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 5, feed(3, 1, 3))
			changes(s, w, 0, 5, feed(4, 1, 2, 3))
		}, "came up at 2"},
		"a change that is gone": {func(s *scripted, w store.Store) { changes(s, w, 0, 5, feed(3, 1, 3)); changes(s, w, 0, 5, feed(4, 3)) }, "the change at 1 is gone"},
		"a page that ends early": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 2, feed(9, 1, 3))
			changes(s, w, 3, 9, feed(9, 4, 5))
		}, ""},
		"a late change on a page": {func(s *scripted, w store.Store) {
			changes(s, w, 0, 2, feed(9, 1, 3))
			changes(s, w, 1, 9, feed(9, 2, 3))
		}, "came up at 2"},
		"a blind put":             {func(s *scripted, w store.Store) { commit(s, w, 1, store.Batch{Put: puts("k")}) }, `puts key "k" without a condition`},
		"a put that may be blind": {func(s *scripted, w store.Store) { commit(s, w, 1, store.Batch{Put: puts("may")}) }, ""},
		"a put with a condition": {func(s *scripted, w store.Store) {
			commit(s, w, 1, store.Batch{If: []store.Cond{{Key: "k"}, {Key: "p/", Under: true}}, Put: puts("k", "p/1")})
		}, ""},
		"a put beside its condition": {func(s *scripted, w store.Store) {
			commit(s, w, 1, store.Batch{If: []store.Cond{{Key: "p/", Under: true}}, Put: puts("p")})
		}, `puts key "p" without`},
	} {
		t.Run(name, func(t *testing.T) {
			failure := try(t, func(t testing.TB) {
				s := &scripted{}
				c.do(s, Watchful(t, s, func(k store.Key) bool { return k == "may" }))
			})
			if c.want == "" {
				require.Empty(t, failure)
			} else {
				require.Contains(t, failure, c.want)
			}
		})
	}
}

func TestWatchfulAllowsNothingBlindWithoutAPredicate(t *testing.T) {
	failure := try(t, func(t testing.TB) {
		_, _ = Watchful(t, newFrail(""), nil).Commit(t.Context(), store.Batch{Put: puts("k")})
	})
	require.Contains(t, failure, "without a condition")
}
