package storetest

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/denizenhq/denizen/store"
)

// Fault is what happens to a call to a store.
type Fault int

// The faults. Applied and Withheld apply only to Commit; for any other call they mean Before.
const (
	None     Fault = iota
	Before         // nothing is done; the error is store.ErrUnavailable
	Corrupt        // nothing is done; the error is store.ErrCorrupt
	Applied        // the batch is applied; the error is store.ErrOutcomeUnknown
	Withheld       // the batch is not applied; the error is store.ErrOutcomeUnknown
)

// Call is a call to a store. Batch belongs to the caller: do not keep or change it.
type Call struct {
	N      int          // the number of the call, from 1
	Method string       // "Get", "List", "Commit", "Changes", "Wait" or "Load"
	Batch  *store.Batch // of Commit, otherwise nil
}

// Faulty returns s with faults. For each call it calls decide, which chooses the fault. decide must
// be safe for use by as many goroutines as use the store. Close, Own and Health never fail. The
// returned store implements [store.Sole] and [store.Checker] if s does.
//
// A batch that s refuses is refused with any fault but Withheld, which does not ask s.
func Faulty(s store.Store, decide func(Call) Fault) store.Store {
	return forward(&faulty{Store: s, decide: decide}, s)
}

// EachCall calls try once for each call of an operation, and makes that call fail. In round n, from
// 1 on, decide applies f to the n-th call that f can apply to, and to no other. EachCall ends after
// the first round in which there is no such call, and returns the number of rounds before it.
//
//	storetest.EachCall(storetest.Before, func(n int, decide func(storetest.Call) storetest.Fault) {
//		s := storetest.Faulty(memory.New(), decide)
//		// Run the operation, which may fail, and check that nothing is half done.
//	})
func EachCall(f Fault, try func(n int, decide func(Call) Fault)) (faults int) {
	for n := 1; ; n++ {
		var calls atomic.Int64
		try(n, func(c Call) Fault {
			if (f == Applied || f == Withheld) && c.Method != "Commit" {
				return None
			}
			if calls.Add(1) == int64(n) {
				return f
			}
			return None
		})
		if calls.Load() < int64(n) {
			return n - 1
		}
	}
}

type faulty struct {
	store.Store
	decide func(Call) Fault
	calls  atomic.Int64
}

// strike asks for the fault of a call, and returns its error if the call must not reach the store.
func (s *faulty) strike(method string, b *store.Batch) (Fault, error) {
	n := s.calls.Add(1)
	f := s.decide(Call{N: int(n), Method: method, Batch: b})
	if f == Corrupt {
		return f, fmt.Errorf("%w: fault at call %d, %s", store.ErrCorrupt, n, method)
	}
	if f == Before || f != None && b == nil {
		return f, fmt.Errorf("%w: fault at call %d, %s", store.ErrUnavailable, n, method)
	}
	if f == Withheld {
		return f, fmt.Errorf("%w: fault at call %d, %s", store.ErrOutcomeUnknown, n, method)
	}
	return f, nil
}

func (s *faulty) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if _, err := s.strike("Get", nil); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *faulty) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if _, err := s.strike("List", nil); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, r)
}

func (s *faulty) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	f, err := s.strike("Commit", &b)
	if err != nil {
		return 0, err
	}
	seq, err := s.Store.Commit(ctx, b)
	if f == Applied && err == nil {
		return 0, fmt.Errorf("%w: fault after a Commit", store.ErrOutcomeUnknown)
	}
	return seq, err
}

func (s *faulty) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	if _, err := s.strike("Changes", nil); err != nil {
		return store.Feed{}, err
	}
	return s.Store.Changes(ctx, after, limit)
}

func (s *faulty) Wait(ctx context.Context, after store.Seq) error {
	if _, err := s.strike("Wait", nil); err != nil {
		return err
	}
	return s.Store.Wait(ctx, after)
}

func (s *faulty) Load(
	ctx context.Context, rs iter.Seq2[store.Record, error],
	cs iter.Seq2[store.Change, error], head store.Seq,
) error {
	if _, err := s.strike("Load", nil); err != nil {
		return err
	}
	return s.Store.Load(ctx, rs, cs, head)
}

// forward returns a wrapper that also implements store.Sole and store.Checker if s does. The result
// is a pointer, so that it can be the key of a map.
func forward(wrapper, s store.Store) store.Store {
	sole, isSole := s.(store.Sole)
	checker, isChecker := s.(store.Checker)
	switch {
	case isSole && isChecker:
		return &struct {
			store.Store
			store.Sole
			store.Checker
		}{wrapper, sole, checker}
	case isSole:
		return &struct {
			store.Store
			store.Sole
		}{wrapper, sole}
	case isChecker:
		return &struct {
			store.Store
			store.Checker
		}{wrapper, checker}
	}
	return wrapper
}
