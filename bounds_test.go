package denizen_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
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
