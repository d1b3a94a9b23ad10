package signin_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
)

// inVirtualTime runs a test over each kind of store, with a clock of its own. It goes on while a store
// in PostgreSQL waits for the server.
func inVirtualTime(t *testing.T, test func(t *testing.T, k *desk), change ...func(*signin.Options)) {
	t.Helper()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newDesk(t, open(t), change...)) })
		})
	}
}

func TestProofsAreSweptByTheMinute(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, k *desk) {
		k.create(t, alice)
		hers := k.login(t, alice)
		k.claims(t, hers, k.claim(t, hers, victims))
		k.asks(t, signin.Request{Locator: victims})
		require.Len(t, stored[*record.Proof](t, k.store), 2)
		time.Sleep(9 * time.Minute)
		require.Len(t, stored[*record.Proof](t, k.store), 2)
		time.Sleep(5 * time.Minute)
		require.Empty(t, stored[*record.Proof](t, k.store))
		require.NotEmpty(t, stored[*record.Starts](t, k.store), "they count for an hour")
		invariant.Check(t, k.store)
		time.Sleep(3 * time.Hour)
		require.Empty(t, stored[*record.Starts](t, k.store))
		require.Empty(t, stored[*record.UserProofs](t, k.store))
		invariant.Check(t, k.store)
	})
}

var errMail = errors.New("no mail today")

func TestADeliveryIsTriedThriceThenReportedAndItsStartGivenBack(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, k *desk) {
		tries := 0
		k.fail = func(signin.Delivery) error { tries++; return errMail }
		began := time.Now()
		for range 3 * 4 { // far more than a client may start
			_, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: "one"})
			require.NoError(t, err)
			synctest.Wait()
			time.Sleep(7 * time.Second)
			synctest.Wait()
		}
		require.Equal(t, 36, tries)
		require.Len(t, k.lost, 12)
		require.Equal(t, 12*7*time.Second, time.Since(began))
		require.Empty(t, stored[*record.Starts](t, k.store))
		k.fail = nil
		k.asks(t, signin.Request{Locator: victims, Client: "one"})
	})
}

func TestADeliveryThatIsTriedAgainArrives(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, k *desk) {
		tries := 0
		k.fail = func(signin.Delivery) error {
			if tries++; tries < 3 {
				return errMail
			}
			return nil
		}
		proof, d := k.asks(t, signin.Request{Locator: victims})
		require.Equal(t, 3, tries)
		require.Empty(t, k.lost)
		_, err := k.Finish(ctx, sys, proof, d.Code)
		require.NoError(t, err)
	})
}

func TestCloseEndsThoughADeliveryDoesNot(t *testing.T) {
	answer := make(chan struct{})
	inVirtualTime(t, func(t *testing.T, k *desk) {
		answer = make(chan struct{})
		_, err := k.Start(ctx, sys, signin.Request{Locator: victims})
		require.NoError(t, err)
		began := time.Now()
		requireField(t, k.Close(), denizen.ErrUnavailable, "")
		require.Equal(t, 11*time.Second, time.Since(began))
		close(answer)
		synctest.Wait()
		require.NoError(t, k.Close())
		require.Empty(t, k.lost, "it was delivered after all")
	}, func(o *signin.Options) {
		o.Deliver = func(context.Context, signin.Delivery) error { <-answer; return nil }
	})
}

// stuck is a store that answers no write until it is told to.
type stuck struct {
	store.Store
	stuck  atomic.Bool
	answer chan struct{}
}

func (s *stuck) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	if s.stuck.Load() {
		<-s.answer
	}
	return s.Store.Commit(ctx, b)
}

func TestCloseEndsThoughAStartDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{Store: newMemory(t), answer: make(chan struct{})}
		k := newDesk(t, s)
		s.stuck.Store(true)
		started := make(chan error, 1)
		go func() {
			_, err := k.Start(ctx, sys, signin.Request{Locator: victims})
			started <- err
		}()
		synctest.Wait()
		began := time.Now()
		requireField(t, k.Close(), denizen.ErrUnavailable, "")
		require.Equal(t, 11*time.Second, time.Since(began))
		close(s.answer)
		require.NoError(t, <-started)
		require.NoError(t, k.Close())
		require.Zero(t, k.deliveries())
	})
}

// Otherwise the fifth start would tell that somebody owns the address, whenever mail fails.
func TestWhileMailFailsStartsAreGivenBackForAnyAddress(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims})
		k.fail = func(signin.Delivery) error { return errMail }
		for i := range 6 {
			for _, locator := range []string{victims, "email:nobody@example.org"} {
				_, err := k.Start(ctx, sys, signin.Request{Locator: locator, Client: "one"})
				require.NoError(t, err, "%d %s", i, locator)
				time.Sleep(7 * time.Second)
				synctest.Wait()
			}
		}
	}, func(o *signin.Options) { o.Newcomer = nil })
}

func TestASlowMailServerDelaysNoAnswer(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, k *desk) {
		began := time.Now()
		for i := range 20 {
			_, err := k.Start(ctx, sys, signin.Request{Locator: fmt.Sprintf("email:u%d@example.org", i)})
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(began))
	}, func(o *signin.Options) {
		o.Deliver = func(ctx context.Context, _ signin.Delivery) error { <-ctx.Done(); return ctx.Err() }
	})
}
