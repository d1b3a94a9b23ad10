package signin_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store/storetest"
)

// Whatever call to the store fails: a code is good once at most, and after a failure that changed
// nothing it is still good.
func TestAFailingStoreMakesNoCodeGoodTwice(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			for _, fault := range []storetest.Fault{storetest.Before, storetest.Applied, storetest.Withheld} {
				for _, case_ := range []string{"new", "passes", "leaves", "claim"} {
					rounds := storetest.EachCall(fault, func(n int, decide func(storetest.Call) storetest.Fault) {
						var armed atomic.Bool
						inner := open(t)
						k := newDesk(t, storetest.Faulty(inner, func(c storetest.Call) storetest.Fault {
							if !armed.Load() {
								return storetest.None
							}
							return decide(c)
						}))
						finish, ended := k.prepare(t, case_)
						armed.Store(true)
						first := finish()
						armed.Store(false)
						second := finish()
						switch {
						case first == nil:
							require.Error(t, second)
						case fault == storetest.Applied && errors.Is(first, denizen.ErrOutcomeUnknown):
							require.Error(t, second, "it was done")
						default:
							require.NoError(t, second, "%s, call %d: after %v", case_, n, first)
						}
						ended()
						invariant.Check(t, inner)
					})
					require.Positive(t, rounds, "%s %s %d", name, case_, fault)
				}
			}
		})
	}
}

// prepare makes a proof whose end changes a user in a way, and returns what finishes it and what
// requires that it was finished.
func (k *desk) prepare(t *testing.T, way string) (finish func() error, ended func()) {
	t.Helper()
	switch way {
	case "passes":
		k.create(t, alice, denizen.NewLocator{Locator: victims})
		k.login(t, alice)
	case "leaves":
		k.create(t, mallory,
			denizen.NewLocator{Locator: "email:mallory@example.org", Status: denizen.Verified}, denizen.NewLocator{Locator: victims})
	case "claim":
		k.create(t, alice)
		hers := k.login(t, alice)
		claim := k.claim(t, hers, victims)
		proof, d := k.claims(t, hers, claim)
		finish = func() error { _, err := k.FinishVerify(ctx, hers, claim, proof, d.Code); return err }
	}
	if finish == nil {
		proof, d := k.asks(t, signin.Request{Locator: victims})
		finish = func() error { _, err := k.Finish(ctx, sys, proof, d.Code); return err }
	}
	return finish, func() {
		owners, err := k.dir.Locate(ctx, sys, victims)
		require.NoError(t, err)
		require.NotEmpty(t, owners[0])
		require.NotEqualValues(t, mallory, owners[0])
		require.Empty(t, stored[*record.Proof](t, k.store))
	}
}
