package spec_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// beating is a user and what the model knows of its presence.
type beating struct {
	id      denizen.UserID
	by      denizen.Principal
	gone    denizen.Principal // of an earlier user with the id
	chain   int               // which is set, 0 for none
	version store.Seq         // of the record
	blocked bool
	changes int // events of presence since the user was created
}

func chainOf(n int) denizen.Presence {
	return denizen.Online(time.Duration(n) * time.Hour).Then(denizen.Offline())
}

// Many users beat at once through two processes, so that their heartbeats are read and stored
// together. What one of them is told is what is stored of it, whatever becomes of the others.
func TestHeartbeatsThatAreStoredTogetherAreJudgedOneByOne(t *testing.T) {
	ps := newProcesses(t, denizen.Options{UserEventBurst: 1_000_000}, 0, 0)
	const people, steps = 48, 60
	var all sync.WaitGroup
	failed := make(chan error, people)
	users := make([]*beating, people)
	for i := range users {
		u := &beating{id: denizen.UserID(fmt.Sprintf("user-%04d", i))}
		users[i] = u
		random := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			err := u.create(t.Context(), ps[0])
			for step := 0; step < steps && err == nil; step++ {
				if err = u.step(t.Context(), random, ps[random.IntN(2)], ps[random.IntN(2)]); err != nil {
					err = fmt.Errorf("%s, step %d: %w", u.id, step, err)
				}
			}
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	events := map[denizen.UserID]int{}
	for e, err := range ps[1].Events(t.Context(), system, "") {
		require.NoError(t, err)
		switch e.Kind {
		case denizen.EventUserCreated:
			events[e.User] = 0
		case denizen.EventPresenceSet:
			events[e.User]++
		}
	}
	for _, u := range users {
		require.Equal(t, u.changes, events[u.id], "a heartbeat is no event")
	}
	for _, p := range ps {
		require.NoError(t, p.Close())
	}
	invariant.Check(t, ps[0].store)
}

func (u *beating) create(ctx context.Context, p *process) error {
	if _, err := p.CreateUser(ctx, system, denizen.NewUser{ID: u.id, ScreenName: "Somebody"}); err != nil {
		return err
	}
	u.gone = u.by
	u.chain, u.version, u.blocked, u.changes = 0, 0, false, 0
	var err error
	u.by, err = p.ActAs(ctx, system, u.id)
	return err
}

// step does something through p, and compares what q reads.
func (u *beating) step(ctx context.Context, random *rand.Rand, p, q *process) error {
	switch random.IntN(16) {
	case 0:
		if err := p.DeleteUser(ctx, system, u.id); err != nil {
			return err
		}
		return u.create(ctx, q)
	case 1, 2:
		u.blocked = !u.blocked
		var err error
		if u.blocked {
			u.chain, u.version = 0, 0
			_, err = p.BlockUser(ctx, system, u.id, denizen.Block{})
		} else {
			_, err = p.UnblockUser(ctx, system, u.id)
		}
		if err != nil {
			return err
		}
	}
	by, want := u.by, error(nil)
	switch {
	case random.IntN(8) == 0 && u.gone != (denizen.Principal{}):
		by, want = u.gone, denizen.ErrRevoked
	case random.IntN(3) == 0:
		by = system
		if u.blocked {
			want = denizen.ErrDenied
		}
	case u.blocked:
		want = denizen.ErrRevoked
	}
	chain := u.chain
	if chain == 0 || random.IntN(4) == 0 {
		chain = 1 + random.IntN(100)
	}
	within, end := context.WithCancel(ctx)
	defer end()
	impatient := random.IntN(6) == 0
	if impatient {
		within, end = context.WithTimeout(ctx, time.Duration(random.IntN(3_000))*time.Microsecond)
		defer end()
	}
	before := time.Now().Truncate(time.Millisecond)
	err := p.SetPresence(within, by, u.id, chainOf(chain))
	records, failed := q.store.Get(ctx, record.DevicesKey(string(u.id)))
	if failed != nil {
		return failed
	}
	is := records[0].Version
	switch {
	case err != nil && is != u.version:
		return fmt.Errorf("it was refused by %w, and is stored", err)
	case err != nil && want == nil && !impatient:
		return err
	case err == nil && want != nil:
		return fmt.Errorf("it was taken, and should be refused by %w", want)
	case err != nil:
		return nil
	case is <= u.version:
		return fmt.Errorf("it was taken, and is not stored")
	}
	if chain != u.chain {
		u.changes++
	}
	u.version, u.chain = is, chain
	now, err := q.Presence(ctx, system, u.id)
	switch {
	case err != nil:
		return err
	case !now.Presence.Equal(chainOf(chain)):
		return fmt.Errorf("another chain is read than was set: %v", now.Presence)
	case now.Until.Before(before.Add(time.Duration(chain) * time.Hour)):
		return fmt.Errorf("it runs until %v, which is too early for a heartbeat at %v", now.Until, before)
	}
	return nil
}
