package denizen_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// presentNow returns the letters of those who are here, page by page.
func presentNow(t testing.TB, d *denizen.Directory, limit int) string {
	t.Helper()
	var here []byte
	counted := map[string]int{}
	for q := (denizen.PresentQuery{Limit: limit}); ; {
		page, err := d.Present(t.Context(), sys, q)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Users), limit)
		for _, p := range page.Users {
			here = append(here, p.User[0])
			counted[p.Presence.State()]++
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	states, err := d.CountPresent(t.Context(), sys)
	require.NoError(t, err)
	require.Equal(t, counted, states)
	slices.Sort(here)
	return string(here)
}

func TestPresent_IsWhoIsHereNow(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, c := range "abcdefgh" {
			h.create(t, denizen.UserID(fmt.Sprintf("%c-user-0", c)))
		}
		require.Equal(t, "", presentNow(t, h.Directory, 2))
		h.set(t, "a-user-0", denizen.Online())
		h.set(t, "b-user-0", denizen.Online(time.Hour).Then(denizen.Offline()))
		h.set(t, "c-user-0", denizen.Away(50*time.Hour).Then(denizen.Offline()))
		h.set(t, "d-user-0", denizen.Offline())
		h.set(t, "e-user-0", denizen.Offline(2*time.Hour).Then(denizen.Sleeping(time.Hour)))
		h.set(t, "f-user-0", denizen.State("Busy", time.Minute))
		h.set(t, "g-user-0", denizen.Online())
		require.NoError(t, h.SetPresenceHidden(t.Context(), sys, "g-user-0", true))
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{0, "abcfg"}, {time.Minute, "abcg"}, {time.Hour, "acg"}, {time.Hour, "aceg"}, {time.Hour, "acg"}, {47 * time.Hour, "ag"}} {
			time.Sleep(step.wait)
			for _, limit := range []int{1, 2, 5, 100} {
				require.Equal(t, step.want, presentNow(t, h.Directory, limit), "after %v", step.wait)
			}
		}
		require.NoError(t, h.ClearAllPresence(t.Context(), sys, "a-user-0"))
		require.Equal(t, "g", presentNow(t, h.Directory, 100))
		_, err := h.BlockUser(t.Context(), sys, "g-user-0", denizen.Block{})
		require.NoError(t, err)
		require.Equal(t, "", presentNow(t, h.Directory, 100))
		require.NoError(t, h.DeleteUser(t.Context(), sys, "g-user-0"))
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

// Its key is moved by the heartbeats that are stored, and the keys of those who are gone leave.
func TestPresent_HeartbeatsKeepAUserHere(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		chain := denizen.Online(90 * time.Second).Then(denizen.Away(time.Minute)).Then(denizen.Offline())
		for _, c := range "abcdefgh" {
			h.create(t, denizen.UserID(fmt.Sprintf("%c-user-0", c)))
			h.set(t, denizen.UserID(fmt.Sprintf("%c-user-0", c)), chain)
		}
		for range 60 * 5 {
			time.Sleep(time.Minute)
			for _, c := range "abcdefgh" {
				h.set(t, denizen.UserID(fmt.Sprintf("%c-user-0", c)), chain)
			}
			require.Equal(t, "abcdefgh", presentNow(t, h.Directory, 100))
		}
		require.NoError(t, denizen.Flush(t.Context(), h.Directory))
		invariant.Check(t, h.store)
		time.Sleep(5 * time.Hour)
		require.Equal(t, "", presentNow(t, h.Directory, 100))
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
		for _, r := range invariant.Of(t, h.store).Records {
			require.NotEqual(t, byte('h'), r.Key[0], "the key of who is gone stays")
		}
	})
}

func TestPresent_LooksAtNobodyWhoIsNotHere(t *testing.T) {
	inCounted(t, denizen.Options{}, func(t *testing.T, h *house, calls *counting) {
		for i := range 100 {
			id := denizen.UserID(fmt.Sprintf("user-%04d", i))
			h.create(t, id)
			h.set(t, id, denizen.Online(time.Minute))
		}
		time.Sleep(4 * time.Hour)
		h.set(t, "user-0000", denizen.Online())
		before := calls.reads.Load()
		require.Equal(t, "u", presentNow(t, h.Directory, 100))
		require.LessOrEqual(t, calls.reads.Load()-before, int64(4), "a list and a read, each twice")
	})
}

// Who has left is in the index for up to two hours.
func TestPresent_OneAmongManyWhoHaveLeftIsFoundInFewReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		calls := &counting{Store: s}
		d := newOver(t, &owned{calls, s}, denizen.Options{})
		for i := range 2000 {
			id := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, id)
			set(t, d, id, denizen.Online(time.Minute))
		}
		time.Sleep(2 * time.Minute)
		set(t, d, "user-0000", denizen.Online())
		before := calls.reads.Load()
		page, err := d.Present(t.Context(), sys, denizen.PresentQuery{Limit: 1})
		require.NoError(t, err)
		require.Len(t, page.Users, 1)
		require.LessOrEqual(t, calls.reads.Load()-before, int64(40))
	})
}

func TestPresent_APageLooksAtABoundedNumberWhoHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory(t, denizen.Options{})
		for i := range 6000 {
			id := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, id)
			set(t, d, id, denizen.Online(time.Minute))
		}
		time.Sleep(2 * time.Minute)
		set(t, d, "user-0000", denizen.Online())
		page, err := d.Present(t.Context(), sys, denizen.PresentQuery{Limit: 50})
		require.NoError(t, err)
		require.Empty(t, page.Users)
		require.NotEmpty(t, page.Next)
		require.Equal(t, "u", presentNow(t, d, 50))
	})
}

func TestPresent_ACursorOfAnotherListIsRefused(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for i := range 3 {
		id := denizen.UserID(fmt.Sprintf("user-%04d", i))
		newUser(t, d, id)
		set(t, d, id, denizen.Online())
	}
	users, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: 1})
	require.NoError(t, err)
	here, err := d.Present(t.Context(), sys, denizen.PresentQuery{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, here.Next)
	_, err = d.Present(t.Context(), sys, denizen.PresentQuery{After: denizen.PresentCursor(users.Next)})
	requireField(t, err, denizen.ErrInvalid, "after")
	_, err = d.Users(t.Context(), sys, denizen.UserQuery{After: denizen.UserCursor(here.Next)})
	requireField(t, err, denizen.ErrInvalid, "after")
	_, err = d.Present(t.Context(), sys, denizen.PresentQuery{Limit: denizen.MaxPage + 1})
	requireField(t, err, denizen.ErrInvalid, "limit")
}

// hereKeys returns the index of who is here.
func hereKeys(t testing.TB, s store.Store) []store.Record {
	t.Helper()
	keys, err := s.List(t.Context(), store.Range{Under: "h", Limit: 1000, KeysOnly: true})
	require.NoError(t, err)
	return keys
}

// Its key before is left to the sweep, so that a storm of changes writes few pages. That may not
// let a user who changes all the time fill the store.
func TestPresent_AUserHasTwoKeysAtMostWhateverItSets(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const id denizen.UserID = "a-user-0"
		h.create(t, id)
		for i := range 100 {
			h.set(t, id, denizen.Online(time.Duration(1+i*7%29)*time.Hour).Then(denizen.Offline()))
			require.LessOrEqual(t, len(hereKeys(t, h.store)), 2)
			require.Equal(t, "a", presentNow(t, h.Directory, 10))
			time.Sleep(10 * time.Second)
		}
		h.set(t, id, denizen.Online())
		h.set(t, id, denizen.Online(time.Hour).Then(denizen.Offline()))
		require.Len(t, hereKeys(t, h.store), 1, "a key without an end is never swept")
		h.set(t, id, denizen.Away(90*time.Hour).Then(denizen.Offline()))
		h.set(t, id, denizen.Online(time.Hour).Then(denizen.Offline()))
		require.Len(t, hereKeys(t, h.store), 1, "a key of a far hour is swept late")
		h.set(t, id, denizen.Online(5*time.Hour).Then(denizen.Offline()))
		require.Len(t, hereKeys(t, h.store), 2)
		h.set(t, id, denizen.Offline())
		require.Empty(t, hereKeys(t, h.store))
		h.set(t, id, denizen.Online(time.Hour).Then(denizen.Offline()))
		h.set(t, id, denizen.Online(5*time.Hour).Then(denizen.Offline()))
		require.NoError(t, h.DeleteUser(t.Context(), sys, id))
		require.Empty(t, hereKeys(t, h.store), "who is gone is named")
	})
}

func TestPresent_WhoComesAndGoesWritesNoKeys(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const id denizen.UserID = "a-user-0"
		h.create(t, id)
		online, away := denizen.Online(12*time.Hour).Then(denizen.Offline()), denizen.Away(3*time.Hour).Then(denizen.Offline())
		h.set(t, id, online)
		h.set(t, id, away)
		was := hereKeys(t, h.store)
		for range 5 {
			time.Sleep(10 * time.Second)
			h.set(t, id, online)
			h.set(t, id, away)
			require.Equal(t, was, hereKeys(t, h.store))
		}
	})
}
