package memory_test

import (
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
)

func TestTheContractHolds(t *testing.T) {
	storetest.Run(t, storetest.Harness{New: func(testing.TB) store.Store { return memory.New() }})
}

func TestTheContractHoldsBehindTheWrapperThatInjectsFaults(t *testing.T) {
	h := storetest.Harness{New: func(testing.TB) store.Store { return memory.New() }}
	storetest.Run(t, h.Wrap(func(_ testing.TB, s store.Store) store.Store {
		return storetest.Faulty(s, func(storetest.Call) storetest.Fault { return storetest.None })
	}))
}
