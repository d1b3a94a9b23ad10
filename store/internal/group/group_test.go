package group_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/stretchr/testify/require"
)

// backend is a Backend in a map. It records its calls, and calls a hook, if set, at the start of
// each step.
type backend struct {
	records map[store.Key]store.Seq
	values  map[store.Key]string
	events  []store.Change
	head    store.Seq
	first   store.Seq

	hook func(step string) error

	mu    sync.Mutex // guards the records of calls
	asked []string
	wrote []group.Changes
}

func newBackend() *backend {
	return &backend{records: map[store.Key]store.Seq{}, values: map[store.Key]string{}, first: 1}
}

func (b *backend) step(name string) error {
	b.mu.Lock()
	b.asked = append(b.asked, name)
	b.mu.Unlock()
	if b.hook != nil {
		return b.hook(name)
	}
	return nil
}

func (b *backend) count(step string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.asked {
		if s == step {
			n++
		}
	}
	return n
}

func (b *backend) Begin() (group.Tx, store.Seq, store.Seq, error) {
	return &tx{backend: b}, b.head, b.first, b.step("begin")
}

type tx struct {
	*backend
	changes *group.Changes
}

func (t *tx) Versions(keys []store.Key, into []store.Seq) error {
	for i, k := range keys {
		into[i] = t.records[k]
	}
	return t.step("versions")
}

func (t *tx) Under(prefix store.Key) (bool, error) {
	for k := range t.records {
		if k.HasPrefix(prefix) {
			return true, t.step("under")
		}
	}
	return false, t.step("under")
}

func (t *tx) Write(c *group.Changes) error {
	t.changes = c
	noted := *c
	noted.Drops = slices.Clone(c.Drops)
	noted.Puts, noted.Events = slices.Clone(c.Puts), slices.Clone(c.Events)
	t.wrote = append(t.wrote, noted)
	return t.step("write")
}

func (t *tx) Commit() error {
	if err := t.step("commit"); err != nil {
		return err
	}
	c := t.changes
	for _, k := range c.Drops {
		delete(t.records, k)
	}
	for _, r := range c.Puts {
		t.records[r.Key] = r.Version
		t.values[r.Key] = string(r.Value)
	}
	for _, e := range c.Events {
		t.events = append(t.events, store.Change{Seq: e.Seq, Event: bytes.Clone(e.Event)})
	}
	t.head, t.first = c.Head, c.First
	return nil
}

func (t *tx) Rollback() { _ = t.step("rollback") }

func put(keys ...store.Key) store.Batch {
	var b store.Batch
	for _, k := range keys {
		b.Put = append(b.Put, store.Record{Key: k, Value: []byte(`{}`)})
	}
	return b
}

func (r rig) ifAt(b store.Batch, k store.Key, version store.Seq) store.Batch {
	b.If = append(b.If, store.Cond{Key: k, Version: version})
	return b
}

// rig is a group over a backend, in a bubble of its own.
type rig struct {
	*group.Group
	t    *testing.T
	b    *backend
	head *group.Head
}

func run(t *testing.T, f func(t *testing.T, r rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rig{t: t, b: newBackend(), head: new(group.Head)}
		r.Group = group.New(r.b, r.head)
		f(t, r)
		r.Close()
	})
}

// answer is the result of a Commit, once it has returned.
type answer struct {
	seq  store.Seq
	err  error
	done chan struct{}
}

func (a *answer) answered() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// commit starts a Commit and returns once it is queued or waits for the backend.
func (r rig) commit(ctx context.Context, b store.Batch) *answer {
	r.t.Helper()
	a := &answer{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.seq, a.err = r.Group.Commit(ctx, b)
	}()
	synctest.Wait()
	return a
}

// hold keeps the first transaction in its commit until release is called, so that all batches that
// arrive meanwhile form one group.
func (r rig) hold() (release func()) {
	r.t.Helper()
	gate := make(chan struct{})
	inner := r.b.hook
	var once atomic.Bool
	r.b.hook = func(step string) error {
		if step == "commit" && !once.Swap(true) {
			<-gate
			return nil
		}
		if inner != nil {
			return inner(step)
		}
		return nil
	}
	first := r.commit(r.t.Context(), put("held"))
	return func() {
		close(gate)
		synctest.Wait()
		require.NoError(r.t, first.err)
	}
}

// together commits batches in one group and returns once all of them have.
func (r rig) together(bs ...store.Batch) []*answer {
	r.t.Helper()
	release := r.hold()
	var as []*answer
	for _, b := range bs {
		as = append(as, r.commit(r.t.Context(), b))
	}
	release()
	for _, a := range as {
		<-a.done
	}
	return as
}

func TestALoneCommitWaitsForNobody(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		for want := store.Seq(1); want < 4; want++ {
			seq, err := r.Commit(t.Context(), put("k"))
			require.NoError(t, err)
			require.Equal(t, want, seq)
		}
		require.Equal(t, []string{"begin", "write", "commit"}, r.b.asked[:3])
	})
}

func TestBatchesThatComeDuringACommitShareTheNext(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		for i, a := range r.together(put("a"), put("b"), put("c")) {
			require.NoError(t, a.err)
			require.Equal(t, store.Seq(i+2), a.seq)
		}
		require.Equal(t, 2, r.b.count("commit"))
	})
}

// Writers whose commits return together write again at the same time. The first of them must not
// commit alone, because the others would wait for it.
func TestWritersThatCanRunShareTheFirstGroup(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const writers = 8
	b := newBackend()
	g := group.New(b, new(group.Head))
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			_, err := g.Commit(context.Background(), put(store.Key(fmt.Sprint("key ", i))))
			require.NoError(t, err)
		})
	}
	all.Wait()
	require.Less(t, b.count("commit"), writers/2)
}

func TestTheLeadIsHandedOnUntilNobodyWaits(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		const n = 500
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				_, err := r.Commit(t.Context(), put("k"))
				require.NoError(t, err)
			})
		}
		wg.Wait()
		require.Equal(t, store.Seq(n), r.b.head)
	})
}

func TestASeqIsTakenByOneBatchOnly(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		var mu sync.Mutex
		taken := map[store.Seq]bool{}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 50 {
					seq, err := r.Commit(t.Context(), put(store.Key(fmt.Sprint(w, i))))
					require.NoError(t, err)
					mu.Lock()
					require.False(t, taken[seq])
					taken[seq] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Len(t, taken, 400)
	})
}

func TestABatchThatBreaksTheRulesIsNotQueued(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		_, err := r.Commit(t.Context(), store.Batch{})
		require.ErrorIs(t, err, store.ErrInvalid)
		require.Empty(t, r.b.asked)
	})
}

func TestAnEndedContextTakesABatchOutOfTheQueue(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		release := r.hold()
		before := r.commit(t.Context(), put("before"))
		ctx, cancel := context.WithCancel(t.Context())
		withdrawn := r.commit(ctx, put("withdrawn"))
		cancel()
		synctest.Wait()
		require.True(t, withdrawn.answered(), "it waits for no commit")
		require.ErrorIs(t, withdrawn.err, context.Canceled)
		release()
		require.NoError(t, before.err)
		require.NotContains(t, r.b.records, store.Key("withdrawn"))
	})
}

func TestAContextThatEndedBeforeCommitsNothing(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.Commit(ctx, put("k"))
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, r.b.asked)
	})
}

func TestAContextThatEndsAfterTheHandOverChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		ctx, cancel := context.WithCancel(t.Context())
		gate := make(chan struct{})
		r.b.hook = func(step string) error {
			if step == "commit" {
				<-gate
			}
			return nil
		}
		release := r.hold()
		leader := r.commit(ctx, put("leader"))
		follower := r.commit(ctx, put("follower"))
		release()
		cancel()
		synctest.Wait()
		require.False(t, follower.answered())
		close(gate)
		<-leader.done
		<-follower.done
		require.NoError(t, leader.err)
		require.NoError(t, follower.err)
		require.Equal(t, store.Seq(3), follower.seq)
	})
}

// mute is a context that has ended but closes no channel, like one that ends at the very moment of
// a hand-over.
type mute struct {
	context.Context
	ended *atomic.Bool
}

func (m mute) Err() error {
	if m.ended.Load() {
		return context.Canceled
	}
	return nil
}

func TestTheNextLeaderMayWithdraw(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		release := r.hold()
		ctx := mute{context.Background(), new(atomic.Bool)}
		leader := r.commit(ctx, put("leader"))
		follower := r.commit(t.Context(), put("follower"))
		ctx.ended.Store(true)
		release()
		require.ErrorIs(t, leader.err, context.Canceled)
		require.NoError(t, follower.err)
		require.NotContains(t, r.b.records, store.Key("leader"))
	})
}

func TestAFollowerWhoseContextEndedIsNotHandedOver(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		release := r.hold()
		ctx := mute{context.Background(), new(atomic.Bool)}
		leader := r.commit(t.Context(), put("leader"))
		follower := r.commit(ctx, put("follower"))
		ctx.ended.Store(true)
		release()
		require.NoError(t, leader.err)
		require.ErrorIs(t, follower.err, context.Canceled)
		require.NotContains(t, r.b.records, store.Key("follower"))
	})
}

func TestTheLeadIsNeverLost(t *testing.T) {
	// Contexts end while the lead is passed on, again and again. Each Commit still returns, and its
	// result is true.
	run(t, func(t *testing.T, r rig) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 300 {
					key := store.Key(fmt.Sprint(w, "/", i))
					ctx, cancel := context.WithCancel(t.Context())
					wg.Go(cancel)
					seq, err := r.Commit(ctx, put(key))
					if err != nil {
						require.ErrorIs(t, err, context.Canceled)
						require.Zero(t, seq)
					}
					require.NoError(t, r.Alone(t.Context(), func() error {
						require.Equal(t, seq, r.b.records[key])
						return nil
					}))
				}
			})
		}
		wg.Wait()
	})
}

func TestABatchIsJudgedAgainstThoseBeforeItInItsGroup(t *testing.T) {
	// The batch that holds the group open takes Seq 1, so the first of these takes 2.
	ifAt := rig{}.ifAt
	for _, test := range []struct {
		name    string
		batches []store.Batch
		refused []int
	}{
		{"two create one key", []store.Batch{ifAt(put("k"), "k", 0), ifAt(put("k"), "k", 0)}, []int{1}},
		{"a key is changed at the version it just got", []store.Batch{put("k"), ifAt(put("k"), "k", 2)}, nil},
		{"a key is changed at the version before", []store.Batch{put("k"), ifAt(put("k"), "k", 1)}, []int{1}},
		{"a key is dropped and made anew", []store.Batch{put("k"), {Drop: []store.Key{"k"}}, ifAt(put("k"), "k", 0)}, nil},
		{"what was there before the group is dropped", []store.Batch{{Drop: []store.Key{"held"}}, ifAt(put("k"), "held", 1)}, []int{1}},
		{"a refused batch leaves nothing to judge by", []store.Batch{ifAt(put("k"), "none", 7), ifAt(put("k"), "k", 0)}, []int{0}},
		{"a refused batch takes no Seq", []store.Batch{ifAt(put("a"), "none", 7), put("k"), ifAt(put("k"), "k", 2)}, []int{0}},
		{"a put after a drop in one batch stays", []store.Batch{{Drop: []store.Key{"k"}, Put: put("k").Put}, ifAt(put("k"), "k", 2)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, func(t *testing.T, r rig) {
				seq := store.Seq(1)
				for i, a := range r.together(test.batches...) {
					if slices.Contains(test.refused, i) {
						require.ErrorIs(t, a.err, store.ErrConflict)
						require.Zero(t, a.seq)
						continue
					}
					seq++
					require.NoError(t, a.err)
					require.Equal(t, seq, a.seq)
				}
				require.Equal(t, 2, r.b.count("commit"))
				require.Equal(t, seq, r.b.head)
			})
		})
	}
}

func TestEveryFailedConditionIsNamed(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		_, err := r.Commit(t.Context(), put("a", "b/1"))
		require.NoError(t, err)
		b := put("c")
		b.If = []store.Cond{
			{Key: "a", Version: 1},
			{Key: "a", Version: 0},
			{Key: "x", Version: 3},
			{Key: "x", Version: 0},
			{Key: "b/", Under: true},
			{Key: "c/", Under: true},
		}
		_, err = r.Commit(t.Context(), b)
		var conflict *store.Conflict
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, []store.Cond{b.If[1], b.If[2], b.If[4]}, conflict.Failed)
	})
}

func TestOneGroupIsWrittenAsItsNetEffect(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		r.together(
			store.Batch{Put: put("b", "a", "gone").Put, Emit: []byte(`{"n":2}`)},
			store.Batch{Put: put("a").Put, Drop: []store.Key{"z", "gone", "y"}},
			store.Batch{Emit: []byte(`{"n":4}`)},
		)
		require.Equal(t, group.Changes{
			Drops: []store.Key{"gone", "y", "z"},
			Puts: []store.Record{
				{Key: "a", Version: 3, Value: []byte(`{}`)},
				{Key: "b", Version: 2, Value: []byte(`{}`)},
			},
			Events: []store.Change{{Seq: 2, Event: []byte(`{"n":2}`)}, {Seq: 4, Event: []byte(`{"n":4}`)}},
			First:  1,
			Head:   4,
		}, r.b.wrote[1])
	})
}

func TestATrimReachesTheBatchBeforeAtMost(t *testing.T) {
	emit := func(trim store.Seq) store.Batch { return store.Batch{Emit: []byte(`{}`), Trim: trim} }
	for _, test := range []struct {
		name    string
		batches []store.Batch
		first   store.Seq
		left    []store.Seq
	}{
		{"none", []store.Batch{emit(0), emit(0)}, 1, []store.Seq{2, 3}},
		{"its own event stays", []store.Batch{emit(0), emit(100)}, 3, []store.Seq{3}},
		{"a later, lower one gives nothing back", []store.Batch{emit(0), emit(0), emit(3), emit(1)}, 4, []store.Seq{4, 5}},
		{"no event at all", []store.Batch{put("k"), {Trim: 1}}, 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, func(t *testing.T, r rig) {
				for _, a := range r.together(test.batches...) {
					require.NoError(t, a.err)
				}
				c := r.b.wrote[1]
				require.Equal(t, test.first, c.First)
				require.Equal(t, test.first > 1, c.Trimmed)
				var left []store.Seq
				for _, e := range c.Events {
					left = append(left, e.Seq)
				}
				require.Equal(t, test.left, left)
			})
		})
	}
}

func TestBatchesThatLookUnderAKeyAreAloneInTheirGroup(t *testing.T) {
	under := put("u")
	under.If = []store.Cond{{Key: "x", Under: true}}
	run(t, func(t *testing.T, r rig) {
		as := r.together(put("a"), under, put("b"), put("x"))
		for _, a := range as {
			require.NoError(t, a.err)
		}
		var heads []store.Seq
		for _, c := range r.b.wrote {
			heads = append(heads, c.Head)
		}
		require.Equal(t, []store.Seq{1, 2, 3, 5}, heads)
	})
}

func TestAGroupIsBounded(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		bs := slices.Repeat([]store.Batch{put("k")}, 4_097)
		r.together(bs...)
		require.Equal(t, 3, r.b.count("commit"))
		require.Equal(t, store.Seq(4_097), r.b.wrote[1].Head)
	})
	run(t, func(t *testing.T, r rig) {
		large := put("k")
		large.Put[0].Value = slices.Concat([]byte(`{`), bytes.Repeat([]byte(` `), 3<<20), []byte(`}`))
		r.together(slices.Repeat([]store.Batch{large}, 6)...)
		require.Equal(t, 3, r.b.count("commit"))
		require.Equal(t, store.Seq(6), r.b.wrote[1].Head)
	})
}

func TestAGroupOfRefusalsCommitsNothing(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		_, err := r.Commit(t.Context(), r.ifAt(put("k"), "k", 9))
		require.ErrorIs(t, err, store.ErrConflict)
		require.Equal(t, []string{"begin", "versions", "rollback"}, r.b.asked)
		require.Zero(t, r.b.head)
	})
}

func TestARefusalByTheStoreDoesNotWaitForTheGroup(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		gate := make(chan struct{})
		r.b.hook = func(step string) error {
			if step == "commit" {
				<-gate
			}
			return nil
		}
		release := r.hold()
		good := r.commit(t.Context(), put("good"))
		tied := r.commit(t.Context(), r.ifAt(put("good"), "good", 0))
		bad := r.commit(t.Context(), r.ifAt(put("bad"), "bad", 9))
		release()
		require.True(t, bad.answered())
		require.ErrorIs(t, bad.err, store.ErrConflict)
		require.False(t, good.answered())
		require.False(t, tied.answered(), "what refuses it may come to nothing")
		close(gate)
		<-good.done
		<-tied.done
		require.NoError(t, good.err)
		require.ErrorIs(t, tied.err, store.ErrConflict)
	})
}

var errBroken = errors.New("broken")

// failAt makes the backend's second transaction fail at a step.
func (r rig) failAt(step string, err error) {
	n := 0
	r.b.hook = func(s string) error {
		if s != step {
			return nil
		}
		// The first transaction belongs to hold, which only delays its commit.
		if n++; n == 1 && step != "commit" && step != "versions" {
			return nil
		}
		return err
	}
}

func TestAFailedGroupAppliesNothing(t *testing.T) {
	for _, step := range []string{"begin", "versions", "write", "commit"} {
		t.Run(step, func(t *testing.T) {
			run(t, func(t *testing.T, r rig) {
				r.failAt(step, errBroken)
				as := r.together(r.ifAt(put("a"), "a", 0), r.ifAt(put("a"), "a", 0), put("b"))
				for _, a := range as {
					require.ErrorIs(t, a.err, store.ErrUnavailable, "the second was refused for the sake of the first")
					require.NotErrorIs(t, a.err, store.ErrConflict)
					require.Zero(t, a.seq)
				}
				require.ErrorIs(t, as[0].err, errBroken)
				require.Equal(t, store.Seq(1), r.b.head)
				require.Error(t, r.waitEnded(1), "nobody is told of a head that is not")
			})
		})
	}
}

// waitEnded calls Wait with a context that has ended.
func (r rig) waitEnded(after store.Seq) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return r.head.Wait(ctx, after)
}

func TestARefusalByTheStoreStandsThoughTheGroupFails(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		r.failAt("commit", errBroken)
		as := r.together(r.ifAt(put("z"), "z", 9), put("a"))
		require.ErrorIs(t, as[0].err, store.ErrConflict)
		require.ErrorIs(t, as[1].err, errBroken)
	})
}

func TestAnUnknownOutcomeReachesThoseItConcerns(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		r.failAt("commit", fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, errBroken))
		as := r.together(put("a"), put("b"), r.ifAt(put("a"), "a", 0))
		for _, a := range as[:2] {
			require.ErrorIs(t, a.err, store.ErrOutcomeUnknown)
			require.ErrorIs(t, a.err, errBroken)
			require.NotErrorIs(t, a.err, store.ErrUnavailable)
			require.Zero(t, a.seq)
		}
		require.ErrorIs(t, as[2].err, store.ErrUnavailable, "a refused batch was not applied")
		require.NotErrorIs(t, as[2].err, store.ErrOutcomeUnknown)
	})
}

func TestDamageConcernsTheBatchThatDependsOnIt(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		r.b.records["damaged"] = group.Damaged
		as := r.together(
			r.ifAt(put("a"), "damaged", group.Damaged),
			r.ifAt(put("b"), "b", 0),
			r.ifAt(r.ifAt(put("c"), "b", 0), "damaged", 1),
		)
		require.ErrorIs(t, as[0].err, store.ErrCorrupt)
		require.NoError(t, as[1].err)
		require.ErrorIs(t, as[2].err, store.ErrCorrupt)
	})
}

func TestAPanicLeavesNobodyWaiting(t *testing.T) {
	for _, test := range []struct {
		step string
		want error
	}{
		{"begin", store.ErrUnavailable},
		{"versions", store.ErrUnavailable},
		{"write", store.ErrUnavailable},
		{"commit", store.ErrOutcomeUnknown},
	} {
		t.Run(test.step, func(t *testing.T) {
			run(t, func(t *testing.T, r rig) {
				n := 0
				release := r.hold()
				held := r.b.hook
				r.b.hook = func(step string) error {
					if step == test.step {
						if n++; n == 1 {
							panic("backend")
						}
					}
					return held(step)
				}
				var panicked any
				leader := make(chan struct{})
				go func() {
					defer close(leader)
					defer func() { panicked = recover() }()
					_, _ = r.Commit(t.Context(), r.ifAt(put("a"), "a", 0))
				}()
				synctest.Wait()
				follower := r.commit(t.Context(), r.ifAt(put("b"), "b", 0))
				release()
				<-leader
				<-follower.done
				require.Equal(t, "backend", panicked, "it goes on where it was raised")
				require.ErrorIs(t, follower.err, test.want)
				_, err := r.Commit(t.Context(), put("c"))
				require.NoError(t, err)
			})
		})
	}
}

func TestNobodySharesTheTurnOfOneWhoIsAlone(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		release := r.hold()
		before := r.commit(t.Context(), put("before"))
		gate := make(chan struct{})
		alone := make(chan error, 1)
		go func() {
			alone <- r.Alone(t.Context(), func() error {
				require.Contains(t, r.b.records, store.Key("before"))
				<-gate
				return errBroken
			})
		}()
		synctest.Wait()
		after := r.commit(t.Context(), put("after"))
		release()
		require.True(t, before.answered())
		require.False(t, after.answered())
		close(gate)
		require.ErrorIs(t, <-alone, errBroken)
		<-after.done
		require.NoError(t, after.err)
	})
}

func TestCloseWaitsForWhatCameBefore(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		release := r.hold()
		queued := r.commit(t.Context(), put("queued"))
		closed := make(chan struct{})
		for range 2 {
			go func() {
				r.Close()
				closed <- struct{}{}
			}()
		}
		synctest.Wait()
		_, err := r.Commit(t.Context(), put("late"))
		require.ErrorIs(t, err, store.ErrClosed)
		require.ErrorIs(t, r.Alone(t.Context(), func() error { return nil }), store.ErrClosed)
		require.Empty(t, closed)
		release()
		<-closed
		<-closed
		require.NoError(t, queued.err)
	})
}

func TestWhatIsLentIsForgotten(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		b := put("k")
		_, err := r.Commit(t.Context(), b)
		require.NoError(t, err)
		copy(b.Put[0].Value, "xx")
		require.Equal(t, `{}`, r.b.values["k"])
		_, err = r.Commit(t.Context(), store.Batch{Emit: []byte(`{}`)})
		require.NoError(t, err)
		last := r.b.wrote[1]
		require.Empty(t, last.Puts)
		require.Empty(t, last.Drops)
	})
}

func TestRandomBatchesGoAsIfOneByOne(t *testing.T) {
	// Many writers move counters that are only right if every condition was judged in
	// the order of the Seqs.
	run(t, func(t *testing.T, r rig) {
		const writers, moves = 8, 200
		var applied [writers]int
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				at := store.Seq(0)
				for range moves {
					seq, err := r.Commit(t.Context(), r.ifAt(put("counter"), "counter", at))
					var conflict *store.Conflict
					switch {
					case err == nil:
						applied[w]++
						at = seq
					case errors.As(err, &conflict):
						require.NoError(t, r.Alone(t.Context(), func() error {
							at = r.b.records["counter"]
							return nil
						}))
					default:
						require.NoError(t, err)
					}
				}
			})
		}
		wg.Wait()
		total := 0
		for _, n := range applied {
			total += n
		}
		require.Equal(t, store.Seq(total), r.b.head)
		require.NotZero(t, total)
		require.True(t, slices.IsSortedFunc(r.b.wrote, func(a, b group.Changes) int { return cmp.Compare(a.Head, b.Head) }))
	})
}

func TestUrgentBatchesAreCommittedAloneWhereThereIsNoRoom(t *testing.T) {
	run(t, func(t *testing.T, r rig) {
		r.b.hook = func(step string) error {
			if step == "commit" && !r.b.wrote[len(r.b.wrote)-1].Urgent {
				return fmt.Errorf("%w: tight", group.ErrFull)
			}
			return nil
		}
		urgent := func(b store.Batch) store.Batch {
			b.Urgent = true
			return b
		}
		as := r.together(
			put("a"),
			urgent(r.ifAt(put("a"), "a", 0)), // refused because of the first, which failed
			r.ifAt(put("b"), "none", 9),
			urgent(r.ifAt(put("c"), "none", 9)),
			r.ifAt(put("d"), "a", 0),
			urgent(put("e")),
		)
		for i, want := range []error{store.ErrUnavailable, nil, store.ErrConflict, store.ErrConflict, store.ErrUnavailable, nil} {
			require.ErrorIs(t, as[i].err, want, i)
		}
		require.Equal(t, store.Seq(2), as[1].seq)
		require.Equal(t, store.Seq(3), as[5].seq)
		require.Equal(t, map[store.Key]store.Seq{"held": 1, "a": 2, "e": 3}, r.b.records)

		as = r.together(put("f"), put("g"))
		for _, a := range as {
			require.ErrorIs(t, a.err, store.ErrUnavailable)
		}
		require.Equal(t, store.Seq(4), r.b.head, "only what held them up")
	})
}
