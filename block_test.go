package denizen_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
)

// everybodySees lets users see everything of each other.
func everybodySees(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
	return true, nil
}

func TestBlock_EndsByItself(t *testing.T) {
	inHouses(t, denizen.Options{MaySee: everybodySees}, func(t *testing.T, h *house) {
		ctx := t.Context()
		before := h.create(t, alice, denizen.Email("alice@example.org"))
		h.create(t, bob)
		byBob, byAlice := h.as(t, bob), h.as(t, alice)
		until := time.Now().Add(time.Hour)
		blocked, err := h.BlockUser(ctx, sys, alice, denizen.Block{Reason: "spam", Until: until})
		require.NoError(t, err)
		require.True(t, blocked.Blocked)
		require.Equal(t, denizen.Block{Reason: "spam", Until: until.UTC()}, blocked.Block)

		out := func() {
			t.Helper()
			_, err := h.ActAs(ctx, sys, alice)
			require.ErrorIs(t, err, denizen.ErrDenied)
			_, err = h.User(ctx, byAlice, alice)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			require.ErrorIs(t, h.Check(ctx, byAlice), denizen.ErrRevoked)
			_, err = h.IssueToken(ctx, sys, alice, denizen.TokenOptions{})
			require.ErrorIs(t, err, denizen.ErrDenied)
			require.ErrorIs(t, h.SetPresence(ctx, sys, alice, denizen.Online()), denizen.ErrDenied)
			for _, read := range []func() error{
				func() error { _, err := h.User(ctx, byBob, alice); return err },
				func() error { _, err := h.Profile(ctx, byBob, alice); return err },
				func() error { _, err := h.Presence(ctx, byBob, alice); return err },
			} {
				require.ErrorIs(t, read(), denizen.ErrNotFound)
			}
			found, err := h.UsersByLocator(ctx, sys, []string{"email:alice@example.org"})
			require.NoError(t, err)
			require.Equal(t, []denizen.User{blocked}, found)
		}
		out()
		time.Sleep(time.Hour - time.Millisecond)
		out()
		head, err := h.Head(ctx, sys)
		require.NoError(t, err)
		time.Sleep(time.Millisecond)

		u, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		before.UpdatedAt, before.Version = blocked.UpdatedAt, blocked.Version
		require.Equal(t, before, u, "nothing but the clock has changed anything")
		page, err := h.Users(ctx, sys, denizen.UserQuery{})
		require.NoError(t, err)
		require.Equal(t, u, page.Users[0])
		require.Empty(t, eventsFrom(t, h.Directory, head))
		_, err = h.User(ctx, byBob, alice)
		require.NoError(t, err)
		_, err = h.Presence(ctx, byBob, alice)
		require.NoError(t, err)
		_, err = h.ActAs(ctx, sys, alice)
		require.NoError(t, err)
		token := newToken(t, h.Directory, alice, denizen.TokenOptions{})
		require.NoError(t, authenticated(t, h.Directory, token.Signed))
		require.NoError(t, h.SetPresence(ctx, sys, alice, denizen.Online()))
		require.Empty(t, invariant.Traces(t, h.store, "spam"), "a reason of the past is kept where it need not be")
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

func TestBlock_EndsTheTokensFromBeforeForGood(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, alice)
		token := newToken(t, d, alice, denizen.TokenOptions{})
		require.NoError(t, authenticated(t, d, token.Signed))
		_, err := d.BlockUser(t.Context(), sys, alice, denizen.Block{Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, denizen.ErrRevoked, authenticated(t, d, token.Signed))
	})
}

func TestBlock_ItsReasonIsForTheApplicationAlone(t *testing.T) {
	inHouses(t, denizen.Options{MaySee: everybodySees}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		byAlice := h.as(t, alice)
		_, err := h.BlockUser(ctx, sys, alice, denizen.Block{Reason: "spam", Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		feed, err := h.store.Changes(ctx, 0, 100)
		require.NoError(t, err)
		for _, ch := range feed.Changes {
			require.NotContains(t, string(ch.Event), "spam")
		}
		time.Sleep(time.Hour)
		u, err := h.User(ctx, byAlice, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.Block{}, u.Block)
	})
}

func TestBlock_SaysHowFromTheLastCallOn(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		soon := denizen.Block{Reason: "first", Until: time.Now().Add(time.Hour).UTC()}
		first, err := h.BlockUser(ctx, sys, alice, soon)
		require.NoError(t, err)
		place := head(t, h)
		same, err := h.BlockUser(ctx, sys, alice, soon)
		require.NoError(t, err)
		require.Equal(t, first, same)
		require.Empty(t, eventsAfter(t, h.Directory, place))

		for _, next := range []denizen.Block{{Reason: "second", Until: soon.Until}, {Reason: "second"}, {}} {
			u, err := h.BlockUser(ctx, sys, alice, next)
			require.NoError(t, err)
			require.Equal(t, next, u.Block)
			require.True(t, u.Blocked)
		}
		require.Equal(t, []denizen.EventKind{denizen.EventUserBlocked, denizen.EventUserBlocked, denizen.EventUserBlocked}, eventKinds(t, h, place))
		time.Sleep(2 * time.Hour)
		u, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		require.True(t, u.Blocked, "the last block has no end")
		u, err = h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		require.False(t, u.Blocked)
	})
}

func TestBlock_ThatHasEndedIsNotEndedAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		_, err := h.BlockUser(ctx, sys, alice, denizen.Block{Until: time.Now().Add(time.Second)})
		require.NoError(t, err)
		time.Sleep(time.Second)
		head, err := h.Head(ctx, sys)
		require.NoError(t, err)
		u, err := h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		require.False(t, u.Blocked)
		require.Empty(t, eventsFrom(t, h.Directory, head))
		u, err = h.BlockUser(ctx, sys, alice, denizen.Block{Until: time.Now().Add(time.Second)})
		require.NoError(t, err)
		require.True(t, u.Blocked, "it can be blocked anew")
	})
}

func TestBlock_IsRefusedWithABadReasonOrEnd(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, alice)
		for field, blocks := range map[string][]denizen.Block{
			"reason": {{Reason: strings.Repeat("r", 1025)}, {Reason: "a\x00b"}, {Reason: "\xff"}},
			"until": {
				{Until: time.Now()},
				{Until: time.Now().Add(-time.Second)},
				{Until: time.Unix(0, 0)},
				{Until: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
				{Until: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
			},
		} {
			for _, b := range blocks {
				_, err := d.BlockUser(t.Context(), sys, alice, b)
				requireField(t, err, denizen.ErrInvalid, field)
			}
		}
		u, err := d.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.False(t, u.Blocked)
		_, err = d.BlockUser(t.Context(), sys, alice, denizen.Block{
			Reason: strings.Repeat("r", 1024), Until: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		})
		require.NoError(t, err)
	})
}
