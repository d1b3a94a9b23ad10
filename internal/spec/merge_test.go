package spec_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/stretchr/testify/require"
)

// Processes merge users into each other, back and forth, while others delete and make them and take
// what they own.
func TestProcessesThatMergeTheSameUsersLeaveEachLocatorOneOwner(t *testing.T) {
	ps := newProcesses(t, denizen.Options{}, 0, 0)
	users := []denizen.UserID{"alice-01", "bobby-01", "carol-01"}
	aliases := []time.Duration{0, denizen.Forever}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r, p := rand.New(rand.NewPCG(uint64(i), 2)), ps[i%2]
			for range 40 {
				a, b := users[r.IntN(3)], users[r.IntN(3)]
				address := denizen.Email(fmt.Sprintf("%d@example.org", r.IntN(4)))
				var err error
				switch r.IntN(5) {
				case 0, 1:
					_, err = p.MergeUsers(ctx, system, a, b, denizen.MergePolicy{Alias: aliases[r.IntN(2)]})
				case 2:
					_, err = p.CreateUser(ctx, system, denizen.NewUser{ID: a, ScreenName: "Somebody", Locators: []denizen.NewLocator{address}})
				case 3:
					_, err = p.AddLocator(ctx, system, a, address)
				case 4:
					err = p.DeleteUser(ctx, system, a)
				}
				if errors.Is(err, denizen.ErrUnavailable) || errors.Is(err, denizen.ErrOutcomeUnknown) || errors.Is(err, denizen.ErrCorrupt) {
					t.Errorf("process %d: %v", i%2, err)
				}
			}
		})
	}
	wg.Wait()
	merged := 0
	for e, err := range ps[0].Events(ctx, system, "") {
		require.NoError(t, err)
		if e.Kind == denizen.EventUserMerged {
			merged++
		}
	}
	require.Positive(t, merged)
	invariant.Check(t, ps[0].store)
}
