package clock_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/clock"
)

const (
	ms    = int64(time.Millisecond)
	start = int64(1_800_000_000_000) // Unix milliseconds
)

// hands are a wall clock and a monotonic clock that a test sets, in milliseconds.
type hands struct{ wall, mono int64 }

func (h *hands) read() (wall, mono int64) { return h.wall * ms, h.mono * ms }

// pass advances both clocks.
func (h *hands) pass(n int64) { h.wall, h.mono = h.wall+n, h.mono+n }

func TestTimePassesAsOnTheWall(t *testing.T) {
	h := &hands{wall: start, mono: 7}
	c := clock.New(h.read)
	require.Equal(t, start, c.Now())
	h.pass(1)
	require.Equal(t, start+1, c.Now())
	h.pass(86_400_000)
	require.Equal(t, start+86_400_001, c.Now())
}

func TestAWallClockThatIsSetBackRevivesNothing(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	h.pass(5000)
	h.wall -= 3_600_000
	require.Equal(t, start+5000, c.Now(), "time stood still or went back")
	h.pass(10)
	require.Equal(t, start+5010, c.Now(), "time goes on by the monotonic clock")
}

func TestTheLatestWallTimeSeenIsKeptWithoutHavingBeenAskedFor(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	h.pass(5000) // without a call of Now
	h.wall -= 4000
	require.Equal(t, start+5000, c.Now())
}

func TestAWallClockThatIsSetForwardIsBelieved(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	h.wall += 3_600_000
	require.Equal(t, start+3_600_000, c.Now())
	h.wall -= 3_600_000
	h.pass(1)
	require.Equal(t, start+3_600_001, c.Now(), "and stays believed")
}

func TestAWallClockThatCatchesUpLeadsAgain(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	h.wall -= 1000
	h.pass(500)
	require.Equal(t, start+500, c.Now())
	h.wall = start + 2000 // a step forward by more than was lost
	require.Equal(t, start+2000, c.Now())
}

func TestAMonotonicClockThatStopsWhileTheMachineSleepsIsMadeUpFor(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	h.wall += 60_000 // asleep: only the wall clock went on
	h.pass(1)
	require.Equal(t, start+60_001, c.Now())
}

func TestANewClockBelievesTheWall(t *testing.T) {
	h := &hands{wall: start}
	clock.New(h.read)
	h.wall -= 3_600_000
	require.Equal(t, start-3_600_000, clock.New(h.read).Now())
}

func TestTimeNeverGoesBackForAnybody(t *testing.T) {
	var mono, wall atomic.Int64
	wall.Store(start * ms)
	c := clock.New(func() (int64, int64) { return wall.Load() + mono.Load(), mono.Load() })
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := int64(0)
			for i := range 2000 {
				mono.Add(ms / 4)
				if i%7 == 0 {
					wall.Add(int64(i%5-2) * ms * 1000)
				}
				now := c.Now()
				if now < last {
					t.Errorf("%d after %d", now, last)
					return
				}
				last = now
			}
		})
	}
	readers.Wait()
}

func TestWithoutAClockTheMachinesIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.From(context.Background())
		require.Equal(t, time.Now().UnixMilli(), c.Now())
		time.Sleep(1234 * time.Millisecond)
		require.Equal(t, time.Now().UnixMilli(), c.Now())
	})
}

func TestAContextCarriesAClock(t *testing.T) {
	h := &hands{wall: start}
	c := clock.New(h.read)
	require.Same(t, c, clock.From(clock.With(context.Background(), c)))
}
