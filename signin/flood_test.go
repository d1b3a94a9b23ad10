package signin_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
)

// A flood of starts for addresses that nobody owns keeps neither the store growing nor people out.
func TestAFloodOfStrangersEndsOnlyTheProofsOfStrangers(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims, Status: denizen.Verified})
		first, f := k.asks(t, signin.Request{Locator: "email:first@example.org", Client: "first"})
		member, m := k.asks(t, signin.Request{Locator: victims, Client: "hers"})
		const n = 1100
		var all sync.WaitGroup
		for part := range 16 {
			all.Go(func() {
				for i := part; i < n; i += 16 {
					r := signin.Request{Locator: fmt.Sprintf("email:u%d@example.org", i), Client: fmt.Sprint("bot", i)}
					if _, err := k.Start(ctx, sys, r); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		later, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: "hers", Language: "later"})
		require.NoError(t, err)
		l := k.awaitIn(t, "later") // some of the flood may still be delivered before
		require.Equal(t, "victim@example.org", l.Address)

		require.Eventually(t, func() bool { return len(stored[*record.Proof](t, k.store)) == 1002 }, 20*time.Second, 50*time.Millisecond,
			"of strangers 1000, and two of hers")
		_, err = k.Finish(ctx, sys, first, f.Code)
		requireRefused(t, err)
		_, err = k.Finish(ctx, sys, member, m.Code)
		require.NoError(t, err)
		_, err = k.Finish(ctx, sys, later, l.Code)
		require.NoError(t, err)
		require.NoError(t, k.Close())
		require.LessOrEqual(t, k.deliveries(), 1002, "past the bound nothing is sent")
		require.Len(t, stored[*record.Proof](t, k.store), 1000)
	})
}
