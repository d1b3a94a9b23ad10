package denizentest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// Fault is what befalls the calls of a directory, and which error it then returns.
type Fault int

// The faults. Those of writing let a directory read.
const (
	// Unavailable: the store is out of reach. Nothing is done, and every call is
	// denizen.ErrUnavailable.
	Unavailable Fault = iota + 1
	// ReadOnly: the store takes no writes, such as on a full disk. They are
	// denizen.ErrUnavailable, and nothing is done.
	ReadOnly
	// Made: writes are made, and nobody can say so. They are denizen.ErrOutcomeUnknown.
	Made
	// Lost: writes are not made, and nobody can say so. They are denizen.ErrOutcomeUnknown.
	Lost
	// Corrupt: what is stored is damaged. Every call is denizen.ErrCorrupt.
	Corrupt
	// Hanging: every call waits until its context ends, and is then denizen.ErrUnavailable with
	// the context's error as its cause; or until the fault ends, and then goes on.
	Hanging
)

// Faults says what befalls the calls of the directory that Faulty returned it with. It may be
// used by several goroutines at once, such as by a test while handlers serve requests.
type Faults struct {
	mu    sync.Mutex
	now   Fault         // guarded by mu
	ended chan struct{} // guarded by mu; closed when now ends
}

// Begin lets a fault befall every call from now on, in place of the one before.
func (f *Faults) Begin(fault Fault) { f.set(fault) }

// End ends the fault: from now on the store works.
func (f *Faults) End() { f.set(0) }

func (f *Faults) set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended != nil {
		close(f.ended)
	}
	f.now, f.ended = fault, make(chan struct{})
}

// strike returns what befalls a call now. It returns once the call does not hang any longer.
func (f *Faults) strike(ctx context.Context) (Fault, error) {
	for {
		f.mu.Lock()
		now, ended := f.now, f.ended
		f.mu.Unlock()
		switch now {
		case Unavailable:
			return now, fmt.Errorf("denizentest: %w", store.ErrUnavailable)
		case Corrupt:
			return now, fmt.Errorf("denizentest: %w", store.ErrCorrupt)
		case Hanging:
			select {
			case <-ended:
				continue
			case <-ctx.Done():
				return now, fmt.Errorf("denizentest: %w: %w", store.ErrUnavailable, ctx.Err())
			}
		}
		return now, nil
	}
}

// Faulty returns an empty directory as New does, and the faults that may befall it: none to begin
// with.
//
//	dir, faults := denizentest.Faulty(t)
//	alice := denizentest.User(t, dir, "Alice")
//	faults.Begin(denizentest.Unavailable)
//	// whatever asks the directory is denizen.ErrUnavailable
//	faults.End()
//
// The directory remembers nothing, as over a store of many processes, so that a fault befalls each
// call that a directory could answer from memory otherwise. What a directory refuses without
// asking its store is refused as ever. A fault ends before the directory is closed.
func Faulty(t testing.TB, o ...denizen.Options) (*denizen.Directory, *Faults) {
	t.Helper()
	faults := new(Faults)
	dir := open(t, "Faulty", &faulty{memory.New(), faults}, o)
	t.Cleanup(faults.End)
	return dir, faults
}

// faulty is a store whose calls are befallen by faults. It is no store.Sole, whatever is below.
type faulty struct {
	store.Store
	faults *Faults
}

func (s *faulty) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if _, err := s.faults.strike(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *faulty) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if _, err := s.faults.strike(ctx); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, r)
}

func (s *faulty) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	fault, err := s.faults.strike(ctx)
	switch {
	case err != nil:
		return 0, err
	case fault == ReadOnly:
		return 0, fmt.Errorf("denizentest: %w", store.ErrUnavailable)
	case fault == Lost:
		return 0, errUnknown
	}
	seq, err := s.Store.Commit(ctx, b)
	if fault == Made && err == nil {
		return 0, errUnknown
	}
	return seq, err
}

func (s *faulty) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if _, err := s.faults.strike(ctx); err != nil {
		return store.Feed{}, err
	}
	return s.Store.Changes(ctx, after, limit)
}

func (s *faulty) Wait(ctx context.Context, after store.Seq) error {
	if _, err := s.faults.strike(ctx); err != nil {
		return err
	}
	return s.Store.Wait(ctx, after)
}

var errUnknown = fmt.Errorf("denizentest: %w", store.ErrOutcomeUnknown)
