package watch

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
)

const bytes = 1 << 20

// static is a user with one device in a state that stays, since an instant.
func static(state string, start int64) []presence.Device {
	return []presence.Device{{Start: start, Chain: presence.Chain{{State: state}}}}
}

// timed is one that is online for some seconds, and then away.
func timed(start, beat, seconds int64) []presence.Device {
	chain := presence.Chain{{State: presence.Online, Seconds: seconds}, {State: presence.Away}}
	return []presence.Device{{Start: start, Beat: beat, Chain: chain}}
}

// begin makes a table in which somebody watches alice, who has been read.
func begin(t *testing.T, version uint64, at int64, devices []presence.Device) (*Table, *Watcher) {
	t.Helper()
	table := New(bytes)
	w := add(t, table, "alice")
	table.Load("alice", table.Mark(), version, version, at, devices, false)
	w.Start()
	return table, w
}

func add(t *testing.T, table *Table, ids ...string) *Watcher {
	t.Helper()
	subs := make([]Sub, len(ids))
	for i, id := range ids {
		subs[i] = Sub{ID: id}
	}
	w, err := table.Add("", false, subs, 0)
	require.NoError(t, err)
	return w
}

// requireTold requires that a watcher is told these and no more.
func requireTold(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	got := []string{}
	for {
		s, missed, ok := w.Take()
		switch {
		case missed:
			got = append(got, "missed")
			continue
		case !ok:
			require.Equal(t, append([]string{}, want...), got)
			return
		}
		state := "none"
		if len(s.Rest) > 0 {
			state = s.Rest[0].State[len("mitter.up."):]
		}
		got = append(got, fmt.Sprintf("%s %d", state, s.Since))
	}
}

func TestWhoMaySeeAUserOnceItIsBlockedIsNotShownWhatWasBefore(t *testing.T) {
	table := New(1 << 20)
	w, err := table.Add("viewer", false, []Sub{{ID: "alice", Peer: true}}, 1)
	require.NoError(t, err)
	table.Load("alice", table.Mark(), 5, 5, 10, static(presence.Online, 1), false)
	w.Start()
	_, _, ok := w.Take()
	require.True(t, ok, "nothing, at first")

	require.True(t, table.Heard("alice", 6, false))
	table.Ask("alice")
	_, ask := w.Asked()
	require.Empty(t, ask, "the record is to be read first")
	table.Load("alice", table.Mark(), 0, 6, 20, nil, false)
	_, ask = w.Asked()
	require.Equal(t, []int{0}, ask)
	w.Allow(0, true)
	_, _, ok = w.Take()
	require.False(t, ok)

	table.Tell("alice", 7, 30, nil, static(presence.Away, 30), false, true)
	_, ask = w.Asked()
	require.Equal(t, []int{0}, ask)
}

func TestACommitThatComesToLightLateCountsAsMissed(t *testing.T) {
	table, w := begin(t, 5, 0, static(presence.Online, 1))
	requireTold(t, w, "Online 1")
	table.Tell("alice", 8, 30, static(presence.Away, 20), static(presence.Sleeping, 30), false, false)
	table.Tell("alice", 7, 20, static(presence.Online, 1), static(presence.Away, 20), false, false)
	table.Tell("alice", 7, 20, static(presence.Online, 1), static(presence.Away, 20), false, false)
	requireTold(t, w, "missed", "Sleeping 30")
}

func TestACommitOfBeforeTheWatchIsNothingNew(t *testing.T) {
	table, w := begin(t, 5, 0, static(presence.Online, 1))
	table.Tell("alice", 5, 1, nil, static(presence.Online, 1), false, false)
	table.Tell("alice", 4, 0, nil, static(presence.Away, 0), false, false)
	require.False(t, table.Heard("alice", 5, true))
	requireTold(t, w, "Online 1")
}

func TestACommitWhileTheFirstReadIsUnderWayIsNotLost(t *testing.T) {
	table := New(bytes)
	w := add(t, table, "alice")
	mark := table.Mark()
	table.Tell("alice", 9, 20, nil, static(presence.Away, 20), false, false)
	table.Load("alice", mark, 5, 5, 21, static(presence.Online, 1), false) // what was read before
	w.Start()
	requireTold(t, w, "Away 20")
	ids, mark := table.TakeDue(22, 10)
	require.Equal(t, []string{"alice"}, ids, "it is read again")
	table.Load("alice", mark, 9, 0, 22, static(presence.Away, 20), false)
	requireTold(t, w)
}

// Whoever sets a presence may do so just as the state before ends.
func TestAnEndThatWasNotToldYetIsToldBeforeTheChange(t *testing.T) {
	table, w := begin(t, 5, 1000, timed(1000, 0, 10))
	requireTold(t, w, "Online 1000")
	table.Tell("alice", 6, 12_000, timed(1000, 0, 10), static(presence.Sleeping, 12_000), false, false)
	requireTold(t, w, "missed", "Sleeping 12000")
	require.EqualValues(t, Never, table.Next())
}

func TestAHeartbeatWhileTheEndIsBeingReadIsLookedForAgain(t *testing.T) {
	table, w := begin(t, 5, 1000, timed(1000, 0, 10))
	requireTold(t, w, "Online 1000")
	ids, mark := table.TakeDue(11_000, 10)
	require.Equal(t, []string{"alice"}, ids)
	require.EqualValues(t, 11_000, table.Advanced())
	table.Look("alice", 10_999) // it came in time, and after the record was read
	table.Load("alice", mark, 5, 0, 11_000, timed(1000, 0, 10), false)
	requireTold(t, w, "Away 11000")
	ids, mark = table.TakeDue(11_000, 10)
	require.Equal(t, []string{"alice"}, ids)
	table.Load("alice", mark, 5, 0, 11_000, timed(1000, 10_999, 10), false)
	requireTold(t, w, "Online 1000")
	require.EqualValues(t, 20_999, table.Next())
}

func TestHeartbeatsThatAreStoredAreNoMissedCommits(t *testing.T) {
	table, w := begin(t, 5, 1000, timed(1000, 0, 10))
	requireTold(t, w, "Online 1000")
	ids, mark := table.TakeDue(11_000, 10)
	require.Len(t, ids, 1)
	table.Load("alice", mark, 77, 0, 11_000, timed(1000, 9000, 10), false)
	require.True(t, table.Heard("alice", 80, true))
	table.Load("alice", table.Mark(), 80, 0, 12_000, static(presence.Away, 12_000), false)
	requireTold(t, w, "Away 12000")
}

func TestOfTwoCommitsThatAreReadAtOnceOneWasMissed(t *testing.T) {
	table, w := begin(t, 5, 0, static(presence.Online, 1))
	requireTold(t, w, "Online 1")
	mark := table.Mark()
	require.True(t, table.Heard("alice", 6, true))
	require.True(t, table.Heard("alice", 7, true))
	table.Load("alice", mark, 7, 0, 20, static(presence.Away, 20), false)
	requireTold(t, w, "missed", "Away 20")

	require.True(t, table.Heard("alice", 9, true))
	table.Load("alice", table.Mark(), 11, 0, 30, static(presence.Online, 30), false)
	requireTold(t, w, "Online 30")
	require.False(t, table.Heard("alice", 11, true)) // 9 was another state
	requireTold(t, w, "missed")

	require.True(t, table.Heard("alice", 12, true))
	table.Load("alice", table.Mark(), 0, 0, 40, nil, false) // cleared meanwhile
	requireTold(t, w, "missed", "none 0")
	require.True(t, table.Heard("alice", 13, false))
	table.Load("alice", table.Mark(), 0, 0, 41, nil, false)
	requireTold(t, w)
}

func TestWhatTheFeedForgotIsMissedIfTheRecordIsAnother(t *testing.T) {
	table, w := begin(t, 5, 0, static(presence.Online, 1))
	requireTold(t, w, "Online 1")
	for _, version := range []uint64{5, 9} {
		table.DoubtAll()
		ids, mark := table.TakeDue(20, 10)
		require.Len(t, ids, 1)
		table.Load("alice", mark, version, 0, 20, static(presence.Online, 1), false)
	}
	requireTold(t, w, "missed")
}

func TestWhatCouldNotBeReadIsDueAgainAtItsTime(t *testing.T) {
	table, _ := begin(t, 5, 1000, timed(1000, 0, 10))
	ids, _ := table.TakeDue(11_000, 10)
	table.Retry(ids[0], 12_000)
	require.EqualValues(t, 12_000, table.Next())
	ids, _ = table.TakeDue(11_999, 10)
	require.Empty(t, ids)
	ids, _ = table.TakeDue(12_000, 10)
	require.Len(t, ids, 1)
}

func TestNothingIsLeftOfAWatcherThatIsGone(t *testing.T) {
	table := New(bytes)
	var ws []*Watcher
	for i := range 20 {
		ws = append(ws, add(t, table, "alice", fmt.Sprint("user-", i%3)))
	}
	table.Load("alice", table.Mark(), 1, 0, 0, timed(0, 0, 10), false)
	for i := range ws {
		table.Remove(ws[(i*7)%len(ws)])
	}
	require.Zero(t, table.weight)
	require.Empty(t, table.users)
	require.Empty(t, table.viewers)
	require.Empty(t, table.byNext)
	require.True(t, table.Empty())
	table.Tell("alice", 9, 20, nil, static(presence.Away, 20), false, false)
	require.False(t, table.Heard("alice", 9, true))
	require.False(t, table.Watches("alice"))
}

func TestUsersLeaveRoomToWhoIsNone(t *testing.T) {
	subs := make([]Sub, 100)
	for i := range subs {
		subs[i].ID = fmt.Sprintf("user-%04d", i)
	}
	each := weightOf(subs)
	table := New(8 * each)
	for i := range 6 {
		_, err := table.Add(fmt.Sprint("viewer-", i), false, subs, 1)
		require.NoError(t, err)
	}
	_, err := table.Add("viewer-7", false, subs, 1)
	require.ErrorIs(t, err, ErrFull)
	_, err = table.Add("viewer-1", false, nil, 1)
	require.ErrorIs(t, err, ErrFull, "it has one")
	for range 2 {
		_, err = table.Add("", false, subs, 1)
		require.NoError(t, err)
	}
	_, err = table.Add("", false, subs, 1)
	require.ErrorIs(t, err, ErrFull)
}

func TestTheNilTableIgnoresWhatItIsTold(t *testing.T) {
	var table *Table
	require.True(t, table.Empty())
	require.False(t, table.Watches("alice"))
	require.Zero(t, table.Advanced())
}

func TestWhoHidesAndIsSetAtOnceIsNotShownInPassing(t *testing.T) {
	table := New(bytes)
	w, err := table.Add("bob", false, []Sub{{ID: "alice", Peer: true, Allowed: true}}, 1)
	require.NoError(t, err)
	table.Load("alice", table.Mark(), 5, 5, 0, static(presence.Online, 1), true)
	w.Start()
	requireTold(t, w, "none 0")
	table.Load("alice", table.Mark(), 6, 0, 9, static(presence.Away, 9), false)
	requireTold(t, w, "Away 9")
	table.Load("alice", table.Mark(), 7, 0, 10, static(presence.Sleeping, 10), true)
	requireTold(t, w, "none 0")
	table.Tell("alice", 8, 11, nil, static(presence.Online, 11), true, false)
	require.True(t, table.Heard("alice", 9, true))
	require.True(t, table.Heard("alice", 10, true))
	requireTold(t, w) // nor that there was anything to miss
}

// Readers, writers and watchers that come and go, for the race detector.
func TestManyWatchAtOnce(t *testing.T) {
	table := New(64 << 20)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				w := add(t, table, "alice", "bob", fmt.Sprint(g))
				table.Load("alice", table.Mark(), uint64(i), 0, int64(i), static(presence.Online, int64(i)), false)
				w.Start()
				for range 5 {
					w.Take()
					w.Asked()
				}
				w.Allow(0, i%2 == 0)
				table.Remove(w)
			}
		})
		all.Go(func() {
			for i := range 1000 {
				table.Tell("alice", uint64(i), int64(i), nil, timed(int64(i), 0, 1), i%3 == 0, false)
				table.Ask("bob")
				table.CheckAll()
				if table.Heard("bob", uint64(i), true) {
					table.Load("bob", table.Mark(), uint64(i), 0, int64(i), static(presence.Away, 1), false)
				}
				ids, mark := table.TakeDue(int64(i), 10)
				for _, id := range ids {
					table.Load(id, mark, 0, 0, int64(i), nil, false)
				}
				table.Next()
			}
		})
	}
	all.Wait()
	require.Zero(t, table.weight)
}
