package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

func TestTheDevicesOfAUserAreBoundedInBytes(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		chain := denizen.State(strings.Repeat("\U0001F600", 128), time.Second)
		for range 31 {
			chain = chain.Then(denizen.State(strings.Repeat("\U0001F600", 128), time.Second))
		}
		requireField(t, h.SetPresence(t.Context(), sys, alice, chain), denizen.ErrLimited, "presence")
		for i := range 16 {
			h.set(t, alice, denizen.State(strings.Repeat("\U0001F600", 90)).On(strconv.Itoa(i)))
		}
		before, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		requireField(t, h.SetPresence(t.Context(), sys, alice, chain.On("3")), denizen.ErrLimited, "presence")
		after, err := h.Presence(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, before, after, "a refused presence changes nothing")
	})
}

func TestEachRefusedTimeHasItsOwnReason(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		seen := map[string]bool{}
		for _, p := range []denizen.Presence{
			denizen.Online(0), denizen.Online(1500 * time.Millisecond), denizen.Online(time.Second, time.Second),
		} {
			e, ok := errors.AsType[*denizen.Error](h.SetPresence(t.Context(), sys, alice, p))
			require.True(t, ok)
			require.Equal(t, denizen.ErrInvalid, e.Kind)
			require.Equal(t, "presence", e.Field)
			require.False(t, seen[e.Reason], e.Reason)
			seen[e.Reason] = true
		}
	})
}

// listing is a store that tells how much it was asked for at once.
type listing struct {
	*memory.Store
	most int
}

func (s *listing) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	records, err := s.Store.List(ctx, r)
	bytes := 0
	for _, found := range records {
		bytes += len(found.Value)
	}
	s.most = max(s.most, bytes)
	return records, err
}

func TestAPageOfUsersEndsEarlyByBytes(t *testing.T) {
	s := &listing{Store: memory.New()}
	d := newOver(t, s, denizen.Options{})
	const users = 1100
	long := strings.Repeat("a", 60)
	for i := range users {
		n := denizen.NewUser{ID: denizen.UserID(fmt.Sprintf("user-%04d", i)), ScreenName: "Somebody"}
		for j := range denizen.MaxLocators {
			n.Locators = append(n.Locators, denizen.Email(
				fmt.Sprintf("%s%05d@%s.%s.%s.example", long[:59], i*denizen.MaxLocators+j, long, long, long[:50])))
		}
		_, err := d.CreateUser(t.Context(), sys, n)
		require.NoError(t, err)
	}
	var seen []denizen.UserID
	pages, most := 0, 0
	for q := (denizen.UserQuery{}); ; pages++ {
		page, err := d.Users(t.Context(), sys, q)
		require.NoError(t, err)
		require.NotEmpty(t, page.Users)
		most = max(most, len(page.Users))
		for _, u := range page.Users {
			seen = append(seen, u.ID)
		}
		if q.After = page.Next; q.After == "" {
			break
		}
		require.Less(t, len(page.Users), denizen.MaxPage)
	}
	require.Greater(t, pages, 1)
	require.Len(t, seen, users)
	require.True(t, slices.IsSorted(seen))
	require.Less(t, s.most, denizen.MaxPageBytes, "the store is asked in steps")
	n := 0
	for _, err := range d.AllUsers(t.Context(), sys) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, users, n)
	page, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: 300})
	require.NoError(t, err)
	require.Len(t, page.Users, 300, "a page of several steps")
}

func TestWhatIsRememberedHasRoomForSomething(t *testing.T) {
	for _, bytes := range []int64{-1, 1, 16<<20 - 1} {
		_, err := denizen.New(t.Context(), memory.New(), denizen.Options{CacheBytes: bytes})
		requireField(t, err, denizen.ErrInvalid, "CacheBytes")
	}
	newMemory(t, denizen.Options{CacheBytes: 16 << 20})
}
