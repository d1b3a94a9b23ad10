package signin_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
)

// In a town each address has one person who reads it, and each person has users. People prove what
// they read, and claim and guess what others read. The application writes down addresses without
// proof, and joins users of one person alone. Whatever they do at once, no user is ever reached by
// proved addresses that two people read.
type town struct {
	*desk
	seed uint64
	mail sync.Map // the language of a start to its letter

	mu       sync.Mutex // guards what follows
	users    [people][]denizen.UserID
	visits   [people][]denizen.Principal
	proofs   []*raced
	changes  []*undoable
	accepted map[string]int // what was done, for a script that does nothing would pass
}

const (
	people    = 5
	addresses = 8 // that each person reads
)

// raced is a proof of signing in, with what became of it.
type raced struct {
	handle  string
	address int
	letter  *letter
	good    atomic.Int64
}

// letter is the delivery of one start.
type letter struct {
	arrived chan struct{}
	once    sync.Once
	d       signin.Delivery
}

// expect returns the letter of a start in a language.
func (w *town) expect(language string) *letter {
	l := &letter{arrived: make(chan struct{})}
	w.mail.Store(language, l)
	return l
}

func (l *letter) put(d signin.Delivery) {
	l.once.Do(func() {
		l.d = d
		close(l.arrived)
	})
}

// code waits for the code, or the secret of the link.
func (l *letter) code(t *testing.T) string {
	select {
	case <-l.arrived:
		_, secret, _ := strings.Cut(l.d.Link, "#")
		return secret + l.d.Code
	case <-time.After(20 * time.Second):
		t.Error("no message")
		return ""
	}
}

// undoable is a change, with when it was told and what became of its undo.
type undoable struct {
	door.Change
	told        int64 // a tick
	toldAt      int64 // by the clock of the directory
	began, done int64 // of the undo that was made: ticks
	undone      int
}

func TestRacersEndWhereTheyMay(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		done := map[string]int{}
		for seed := range long.Of(2, 6) {
			w := newTown(t, s, uint64(seed))
			w.race(t)
			for what, n := range w.accepted {
				done[what] += n
			}
			if t.Failed() {
				return
			}
		}
		t.Log(done)
		for _, what := range []string{
			"signed in", "proved", "replaced", "removed", "undone", "left", "erased", "merged", "moved", "blocked",
		} {
			require.Positive(t, done[what], "nobody was or has %s: %v", what, done)
		}
	})
}

func newTown(t *testing.T, s store.Store, seed uint64) *town {
	w := &town{seed: seed, accepted: map[string]int{}}
	w.desk = newDesk(t, s, func(o *signin.Options) {
		o.Deliver = func(_ context.Context, d signin.Delivery) error {
			if box, ok := w.mail.Load(d.Language); ok {
				box.(*letter).put(d)
			}
			return nil
		}
	})
	door.Of(w.dir).OnChange(func(ch door.Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, &undoable{Change: ch, told: tick.Add(1), toldAt: w.clock.Now()})
	})
	for p := range people {
		for _, kind := range []string{"main", "second"} {
			u := w.settle(t, p, kind, denizen.NewLocator{Locator: w.address(p, len(w.users[p])), Status: denizen.Verified})
			w.users[p] = append(w.users[p], u)
		}
		// A user that the application made as it was told to: of whom it is, is not known.
		next := (p + 1) % people
		w.settle(t, p, "open", denizen.NewLocator{Locator: w.address(p, 2)}, denizen.NewLocator{Locator: w.address(next, 3)})
		w.settle(t, p, "typed", denizen.NewLocator{Locator: fmt.Sprintf("email:s%dother%d@example.org", seed, p)})
	}
	return w
}

// tick orders what happens.
var tick atomic.Int64

// address is an address that a person reads.
func (w *town) address(person, n int) string {
	return fmt.Sprintf("email:s%dp%dn%d@example.org", w.seed, person, n)
}

// readerOf returns who reads an address of a town, or -1.
func (w *town) readerOf(address string) int {
	var seed uint64
	var p, n int
	if _, err := fmt.Sscanf(address, "email:s%dp%dn%d@", &seed, &p, &n); err != nil || seed != w.seed {
		return -1
	}
	return p
}

// settle creates a user, into which a person is let by .system.
func (w *town) settle(t *testing.T, person int, kind string, ls ...denizen.NewLocator) denizen.UserID {
	t.Helper()
	id := denizen.UserID(fmt.Sprintf("%s-%d-%d-%d", kind, w.seed, person, tick.Add(1)))
	w.create(t, id, ls...)
	w.visits[person] = append(w.visits[person], w.login(t, id))
	return id
}

func (w *town) race(t *testing.T) {
	const racers, steps = 64, 10
	var all sync.WaitGroup
	for racer := range racers {
		all.Go(func() {
			random := mrand.New(mrand.NewPCG(w.seed, uint64(racer)))
			for range steps {
				w.step(t, random)
			}
		})
	}
	all.Wait()
	for _, p := range w.proofs {
		require.LessOrEqual(t, p.good.Load(), int64(1), "a code was good twice")
	}
	for _, r := range stored[*record.Proof](t, w.store) {
		require.LessOrEqual(t, r.Tries, int64(5))
	}
	w.requireEarliestUndos(t)
	w.requireOneReaderEach(t)
	for p := range people {
		w.changeInOrder(t, p)
	}
	for _, ch := range w.changes { // those that are left, in the order in which they were told
		w.undo(t, ch)
	}
	w.requireEarliestUndos(t)
	w.requireOneReaderEach(t)
	require.NoError(t, w.Close())
	invariant.Check(t, w.store)
	require.NoError(t, w.dir.Close())
}

func (w *town) requireOneReaderEach(t *testing.T) {
	t.Helper()
	for u, err := range w.dir.AllUsers(ctx, sys) {
		require.NoError(t, err)
		reader := -1
		for _, l := range u.Locators {
			p := w.readerOf(l.String())
			if p < 0 || !l.Owned || l.Status != denizen.Verified {
				continue
			}
			if reader < 0 {
				reader = p
			}
			require.Equal(t, reader, p, "%s is reached by what two people read: %v", u.ID, u.Locators)
		}
	}
}

// requireEarliestUndos requires that nothing was undone after an earlier change was, nor twice. Of
// calls at the same time the one that began later may be done first: a change is earlier if it was
// told before the call of the other one began.
func (w *town) requireEarliestUndos(t *testing.T) {
	t.Helper()
	for _, first := range w.changes {
		require.LessOrEqual(t, first.undone, 1, "undone twice")
		for _, later := range w.changes {
			known := first.undone > 0 && later.undone > 0 && first.User == later.User && first.toldAt < later.At
			if known && later.told < first.began && first.done < later.began {
				t.Errorf("an undo worked after an earlier one: %v, %v", first.Change, later.Change)
			}
		}
	}
}

func (w *town) undo(t *testing.T, ch *undoable) {
	began := tick.Add(1)
	if w.did(t, "undone", w.Undo(ctx, sys, ch.Undo)) {
		w.mu.Lock()
		defer w.mu.Unlock()
		ch.undone++
		ch.began, ch.done = began, tick.Add(1)
	}
}

// did notes what was done, and fails if the directory could not say whether it was.
func (w *town) did(t *testing.T, what string, err error) bool {
	for _, broken := range []error{
		denizen.ErrCorrupt, denizen.ErrUnavailable, denizen.ErrOutcomeUnknown, denizen.ErrInvalid,
	} {
		if errors.Is(err, broken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted[what]++
	return true
}

// oneOf returns one of some, of which the last are the likeliest to be good for something.
func oneOf[T any](w *town, random *mrand.Rand, some *[]T) (one T, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := *some
	if len(all) == 0 {
		return one, false
	}
	if random.IntN(2) == 0 {
		all = all[max(0, len(all)-4):]
	}
	return all[random.IntN(len(all))], true
}

func (w *town) step(t *testing.T, random *mrand.Rand) {
	p := random.IntN(people)
	switch random.IntN(24) {
	case 0, 1, 2:
		w.startSignIn(t, p, random)
	case 3, 4, 5, 6:
		w.finishSignIn(t, random)
	case 7, 8, 9, 20, 21, 22:
		w.prove(t, p, random)
	case 23:
		id, _ := oneOf(w, random, &w.users[p])
		issued, err := w.dir.IssueToken(ctx, sys, id, denizen.TokenOptions{})
		if !w.did(t, "let in", err) {
			return
		}
		if by, err := w.dir.Authenticate(ctx, issued.Signed); err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.visits[p] = append(w.visits[p], by)
		}
	case 10:
		if by, ok := oneOf(w, random, &w.visits[p]); ok {
			if ls, err := w.dir.Locators(ctx, by, by.User()); err == nil && len(ls) > 0 {
				w.did(t, "removed", w.dir.RemoveLocator(ctx, by, by.User(), ls[random.IntN(len(ls))].ID))
			}
		}
	case 11, 12:
		if ch, ok := oneOf(w, random, &w.changes); ok {
			w.undo(t, ch)
		}
	case 13:
		if random.IntN(4) > 0 {
			return
		}
		id, _ := oneOf(w, random, &w.users[p])
		if random.IntN(2) == 0 {
			w.did(t, "left", w.dir.DeleteUser(ctx, sys, id))
		} else {
			_, err := w.dir.EraseUser(ctx, sys, id)
			w.did(t, "erased", err)
		}
	case 14, 15:
		from, _ := oneOf(w, random, &w.users[p])
		into, _ := oneOf(w, random, &w.users[p])
		if from != into {
			_ = w.dir.CancelUndo(ctx, sys, from)
			_ = w.dir.CancelUndo(ctx, sys, into)
			_, err := w.dir.MergeUsers(ctx, sys, from, into, denizen.MergePolicy{Alias: time.Hour})
			w.did(t, "merged", err)
		}
	case 16, 17:
		from, _ := oneOf(w, random, &w.users[p])
		to, _ := oneOf(w, random, &w.users[p])
		ls, err := w.dir.Locators(ctx, sys, from)
		if err != nil || len(ls) == 0 || from == to {
			return
		}
		if l := ls[random.IntN(len(ls))]; l.Owned {
			_, err = w.dir.MoveLocator(ctx, sys, from, l.ID, to)
			if !errors.Is(err, denizen.ErrInvalid) { // it became a claim meanwhile
				w.did(t, "moved", err)
			}
		}
	case 18:
		id, _ := oneOf(w, random, &w.users[p])
		if _, err := w.dir.BlockUser(ctx, sys, id, denizen.Block{}); w.did(t, "blocked", err) {
			_, err := w.dir.UnblockUser(ctx, sys, id)
			w.did(t, "unblocked", err)
		}
	case 19:
		if random.IntN(3) == 0 && w.ahead.Load() < int64(24*time.Hour) {
			w.ahead.Add(int64(11 * time.Minute)) // there is room for starts again
		}
	}
}

func (w *town) startSignIn(t *testing.T, person int, random *mrand.Rand) {
	n := random.IntN(addresses)
	tag := rand.Text()
	proof := &raced{address: person*addresses + n, letter: w.expect(tag)}
	var err error
	proof.handle, err = w.Start(ctx, sys, signin.Request{
		Locator: w.address(person, n), Client: rand.Text(), Language: tag, Link: random.IntN(2) == 0,
	})
	if w.did(t, "started", err) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.proofs = append(w.proofs, proof)
	}
}

// finishSignIn gives the code, or a wrong one, for a proof. Who signs in is who reads the address.
func (w *town) finishSignIn(t *testing.T, random *mrand.Rand) {
	proof, ok := oneOf(w, random, &w.proofs)
	if !ok {
		return
	}
	if random.IntN(3) == 0 {
		if _, err := w.Finish(ctx, sys, proof.handle, "wrong"); err == nil {
			t.Error("a wrong code was good")
		}
		return
	}
	in, err := w.Finish(ctx, sys, proof.handle, proof.letter.code(t))
	if !w.did(t, "signed in", err) {
		return
	}
	proof.good.Add(1)
	person, address := proof.address/addresses, w.address(proof.address/addresses, proof.address%addresses)
	proved := false
	for _, l := range in.User.Locators {
		proved = proved || l.String() == address && l.Owned && l.Status == denizen.Verified
	}
	if !proved {
		t.Errorf("signed in as %v by %s", in.User.Locators, address)
	}
	issued, err := w.IssueToken(ctx, sys, in, denizen.TokenOptions{})
	if err != nil {
		return
	}
	by, err := w.dir.Authenticate(ctx, issued.Signed)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.visits[person] = append(w.visits[person], by)
	}
	if !strings.HasPrefix(string(in.User.ID), "open-") {
		w.users[person] = append(w.users[person], in.User.ID)
	}
}

// changeInOrder makes changes of one user of which it is certain which was earlier.
func (w *town) changeInOrder(t *testing.T, person int) {
	t.Helper()
	first := addresses // nobody was sent anything there
	w.settle(t, person, "late", denizen.NewLocator{Locator: w.address(person, first), Status: denizen.Verified})
	by := w.visits[person][len(w.visits[person])-1]
	for n := first + 1; n <= first+2; n++ {
		w.ahead.Add(int64(time.Millisecond))
		tag := rand.Text()
		letter, id := w.expect(tag), w.claim(t, by, w.address(person, n))
		handle, err := w.StartVerify(ctx, by, id, tag)
		require.NoError(t, err)
		_, err = w.FinishVerify(ctx, by, id, handle, letter.code(t))
		require.NoError(t, err)
	}
}

// prove lets a person claim or replace a locator of whoever it signed in as, and prove it if the
// person reads it.
func (w *town) prove(t *testing.T, person int, random *mrand.Rand) {
	by, ok := oneOf(w, random, &w.visits[person])
	if !ok {
		return
	}
	reader := person
	if random.IntN(3) == 0 {
		reader = random.IntN(people)
	}
	address, tag := w.address(reader, random.IntN(addresses)), rand.Text()
	letter := w.expect(tag)
	what, handle := "proved", ""
	var id denizen.LocatorID
	if ls, err := w.dir.Locators(ctx, by, by.User()); err == nil && len(ls) > 0 && random.IntN(2) == 0 {
		what, id = "replaced", ls[random.IntN(len(ls))].ID
		handle, err = w.StartReplace(ctx, by, id, address, tag)
		if !w.did(t, "asked", err) {
			return
		}
	} else {
		l, err := w.dir.AddLocator(ctx, by, by.User(), denizen.NewLocator{Locator: address})
		if !w.did(t, "claimed", err) {
			return
		}
		id = l.ID
		if handle, err = w.StartVerify(ctx, by, id, tag); !w.did(t, "asked", err) {
			return
		}
	}
	if reader != person {
		if _, err := w.FinishVerify(ctx, by, id, handle, "wrong"); err == nil {
			t.Error("a wrong code was good")
		}
		return
	}
	code := letter.code(t)
	_, err := w.FinishVerify(ctx, by, id, handle, code)
	if !w.did(t, what, err) {
		return
	}
	if _, err := w.FinishVerify(ctx, by, id, handle, code); err == nil {
		t.Error("a code was good twice")
	}
}
