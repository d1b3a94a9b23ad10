package denizen_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
)

func requireActive(t testing.TB, h *house, by denizen.Principal, want ...time.Time) {
	t.Helper()
	got, err := h.LastActive(t.Context(), by, []denizen.UserID{ann, "nobody-there"}[:len(want)])
	require.NoError(t, err)
	for i := range want {
		require.True(t, want[i].Equal(got[i]), "%v, not %v", got[i], want[i])
	}
}

func TestLastActive_IsWhenAUserCameInByItself(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, ann)
		requireActive(t, h, sys, time.Time{}, time.Time{})
		token := newToken(t, h.Directory, ann, denizen.TokenOptions{})
		acting := h.as(t, ann)
		require.NoError(t, h.SetPresence(t.Context(), acting, ann, denizen.Online()))
		h.set(t, ann, denizen.Away())
		requireActive(t, h, sys, time.Time{}, time.Time{}) // all of that is the application's doing
		came := time.Now()
		by, err := h.Authenticate(t.Context(), token.Signed)
		require.NoError(t, err)
		requireActive(t, h, sys, came, time.Time{})
		time.Sleep(30 * time.Minute)
		requireActive(t, h, by, came)
		changed := time.Now()
		require.NoError(t, h.SetPresence(t.Context(), by, ann, denizen.Online()))
		requireActive(t, h, sys, changed)
		require.NoError(t, h.Logout(t.Context(), by))
		time.Sleep(2 * time.Minute) // it is stored
		requireActive(t, h, sys, changed)
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
		h = &house{newOver(t, h.store, denizen.Options{}), h.store}
		requireActive(t, h, sys, changed)
		require.NoError(t, h.DeleteUser(t.Context(), sys, ann))
		h.create(t, ann)
		requireActive(t, h, sys, time.Time{})
	})
}

func TestLastActive_IsStoredOnceAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, denizen.Options{}, nil)
		before := w.calls.commits.Load()
		for range 600 {
			require.NoError(t, authenticated(t, w.Directory, w.signed))
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, w.calls.commits.Load()-before, int64(2*11), "with the last use of the token")
	})
}

func TestLastActive_APeerIsShownItToFiveMinutesUnlessTheUserHides(t *testing.T) {
	var asked []denizen.Facet
	o := denizen.Options{MaySee: func(_ context.Context, _, _ denizen.UserID, what denizen.Facet) (bool, error) {
		asked = append(asked, what)
		return true, nil
	}}
	inHouses(t, o, func(t *testing.T, h *house) {
		asked = nil
		h.create(t, ann)
		h.create(t, bert)
		time.Sleep(299 * time.Second)
		came := time.Now()
		token := newToken(t, h.Directory, ann, denizen.TokenOptions{})
		by, err := h.Authenticate(t.Context(), token.Signed)
		require.NoError(t, err)
		peer := h.as(t, bert)
		requireActive(t, h, peer, came.Truncate(5*time.Minute), time.Time{})
		require.Equal(t, []denizen.Facet{denizen.FacetLastActive, denizen.FacetLastActive}, asked)
		require.Equal(t, "lastActive", denizen.FacetLastActive.String())
		require.NoError(t, h.SetPresenceHidden(t.Context(), by, ann, true))
		requireActive(t, h, peer, time.Time{})
		requireActive(t, h, by, came)
		require.NoError(t, h.SetPresenceHidden(t.Context(), by, ann, false))
		requireActive(t, h, peer, came.Truncate(5*time.Minute))
		_, err = h.BlockUser(t.Context(), sys, ann, denizen.Block{})
		require.NoError(t, err)
		requireActive(t, h, peer, time.Time{})
		requireActive(t, h, sys, came)
	})
}
