package memory_test

import (
	"testing"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
)

func harness() storetest.Harness {
	return storetest.Harness{
		New:         func(testing.TB) store.Store { return memory.New() },
		Damage:      func(_ testing.TB, s store.Store, k store.Key) { s.(*memory.Store).Damage(k) },
		DamageEvent: func(_ testing.TB, s store.Store, seq store.Seq) { s.(*memory.Store).DamageEvent(seq) },
	}
}

func TestTheContractHolds(t *testing.T) {
	storetest.Run(t, harness())
}

func TestTheContractHoldsBehindTheWrapperThatInjectsFaults(t *testing.T) {
	storetest.Run(t, harness().Wrap(func(_ testing.TB, s store.Store) store.Store {
		return storetest.Faulty(s, func(storetest.Call) storetest.Fault { return storetest.None })
	}))
}
