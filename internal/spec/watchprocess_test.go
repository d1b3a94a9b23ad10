package spec_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
)

// trueState is a state that a user was in. One that began shortly before the next was set may or
// may not have been seen.
type trueState struct {
	shown    shownState
	required bool
}

// history is what a user went through, as far as it is known.
type history struct {
	states []trueState
	start  int64 // of the chain that is set; 0: none
	origin int64
	chain  []watchedLink
	late   bool // a heartbeat was stored once the state had ended for who reads
}

// beats notes a heartbeat, of which it is known only that it is stored by now. Before it was, the
// state may have ended for who reads.
func (h *history) beats(user int, now int64) {
	if first := h.chain[0].seconds; first > 0 && h.origin+1000*first <= now {
		h.follows(user, now)
		h.late = true
	}
}

// follows appends what the chain that is set goes through until another takes its place, which it has
// by then: while that is being stored, who reads may see a state end.
func (h *history) follows(user int, until int64) {
	const near = 2000 // what a busy machine may take
	at := h.origin
	if h.chain == nil {
		return
	}
	for i := 0; i <= len(h.chain); i++ {
		s := shownState{user: user, since: at}
		if i == 0 {
			s.since = h.start
		}
		var rest []string
		for _, l := range h.chain[i:] {
			rest = append(rest, fmt.Sprintf("%s/%d", l.state, l.seconds))
		}
		s.chain = strings.Join(rest, " ")
		if i > 0 && at > until {
			return
		}
		required := i == 0 && !h.late || i > 0 && at < until-near
		if last := len(h.states) - 1; last >= 0 && h.states[last].shown.sameTo(s) {
			required = false
		}
		h.states = append(h.states, trueState{s, required})
		h.late = false
		if i == len(h.chain) || h.chain[i].seconds == 0 {
			return
		}
		at += 1000 * h.chain[i].seconds
	}
}

// Another process writes, and nothing of it is lost, invented, doubled or out of order but what the
// reader was told that it missed.
func TestWatchersOfAnotherProcessAreToldWhatHappensOrThatTheyMissedSome(t *testing.T) {
	t.Parallel() // it waits most of the time
	ps := newProcesses(t, denizen.Options{}, 0, 0)
	writer, reader := ps[0], ps[1]
	const users = 30
	ids := make([]denizen.UserID, users)
	for i := range ids {
		ids[i] = denizen.UserID(fmt.Sprintf("user-%04d", i))
		_, err := writer.CreateUser(t.Context(), system, denizen.NewUser{ID: ids[i], ScreenName: "U"})
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var told []shownState
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p, err := range reader.WatchPresence(ctx, system, ids) {
			s := shownState{missed: true}
			if err != nil && !errors.Is(err, denizen.ErrMissed) {
				return
			}
			if err == nil {
				s = spellState(p)
				s.until = 0
				_, err := fmt.Sscanf(string(p.User), "user-%04d", &s.user)
				if err != nil {
					return
				}
			}
			mu.Lock()
			told = append(told, s)
			mu.Unlock()
		}
	}()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == users
	}, 10*time.Second, 10*time.Millisecond)

	r := rand.New(rand.NewPCG(11, 2))
	var of [users]history
	for i := range of {
		of[i].states = []trueState{{shownState{user: i}, true}}
	}
	for range long.Of(400, 3_000) {
		user := r.IntN(users)
		h := &of[user]
		key := record.DevicesKey(string(ids[user]))
		switch n := r.IntN(10); {
		case n == 0:
			require.NoError(t, writer.ClearAllPresence(t.Context(), system, ids[user]))
			h.follows(user, time.Now().UnixMilli())
			none := shownState{user: user}
			h.states = append(h.states, trueState{none, !h.states[len(h.states)-1].shown.sameTo(none)})
			h.chain = nil
		default:
			m := watchModel{r: r}
			p, chain := m.chain()
			if n < 5 && h.chain != nil {
				p, chain = presenceOf(h.chain), h.chain
			}
			require.NoError(t, writer.SetPresence(t.Context(), system, ids[user], p))
			set := time.Now().UnixMilli()
			rs, err := writer.store.Get(t.Context(), key)
			require.NoError(t, err)
			value, err := record.DecodeStored(rs[0])
			require.NoError(t, err)
			d := value.(*record.Devices).Devices[0]
			// Another chain may have been set within the same millisecond.
			if h.chain == nil || d.Start != h.start || !slices.Equal(chain, h.chain) {
				h.follows(user, set)
				h.start, h.chain = d.Start, chain
			} else {
				h.beats(user, time.Now().UnixMilli())
			}
			h.origin = d.Origin()
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	}
	time.Sleep(4 * time.Second)
	cancel()
	<-done
	end := time.Now().UnixMilli()
	missed, taken := 0, 0
	for user := range of {
		of[user].follows(user, end)
		at := -1 // the last state that was told
		gap := false
		for i, s := range told {
			if s.missed {
				gap = false // what was passed over was told of
				continue
			}
			if s.user != user {
				continue
			}
			require.False(t, gap, "user %d: a state was passed over: %v", user, of[user].states)
			taken++
			next := at + 1
			for ; next < len(of[user].states) && of[user].states[next].shown != s; next++ {
				gap = gap || of[user].states[next].required
			}
			require.Less(t, next, len(of[user].states), "user %d was told %v after state %d of %v", user, s, at, of[user].states)
			at = next
			if gap && i > 0 {
				gap = !toldBetween(told[:i], user)
			}
		}
		for _, s := range of[user].states[at+1:] {
			gap = gap || s.required
		}
		require.True(t, !gap || toldBetween(told, user), "user %d: the last states were not told", user)
	}
	for _, s := range told {
		if s.missed {
			missed++
		}
	}
	t.Log(taken, "states told,", missed, "times missed")
	require.Less(t, missed, max(10, taken/4))
}

// toldBetween reports whether a reader was told that it missed some after the last state of a user.
func toldBetween(told []shownState, user int) bool {
	for i := len(told) - 1; i >= 0; i-- {
		if told[i].missed {
			return true
		}
		if told[i].user == user {
			return false
		}
	}
	return false
}
