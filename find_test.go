package denizen_test

import (
	"slices"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/stretchr/testify/require"
)

func TestFind_UsersAreFoundByTheLocatorsTheyOwn(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		a := h.create(t, alice, denizen.Email("alice@example.org"), denizen.Tele("+14155550132"))
		b := h.create(t, bob, denizen.Email("bob@example.org"))
		asked := []string{"email:BOB@example.org", "email:nobody@example.org", "tele:+1 (415) 555-0132", "email:alice@example.org"}
		given := slices.Clone(asked)
		users, err := h.UsersByLocator(ctx, sys, given)
		require.NoError(t, err)
		require.Equal(t, []denizen.User{b, a}, users, "each once, in the order of the locators")
		require.Equal(t, asked, given, "what was given is changed")
		users, err = h.UsersByLocator(ctx, sys, []string{"email:nobody@example.org"})
		require.NoError(t, err)
		require.Empty(t, users)
		require.NotNil(t, users)
		_, err = h.UsersByLocator(ctx, sys, []string{"email:alice@example.org", "fax:1"})
		requireField(t, err, denizen.ErrInvalid, "locator")
	})
}

func TestFind_AReferenceIsResolved(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.Email("alice@example.org"))
		h.create(t, bob, denizen.Email("bob@example.org"))
		_, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.Email("claim@example.org"))
		require.NoError(t, err)
		for _, row := range []struct {
			what  string
			by    denizen.Principal
			ref   string
			want  denizen.UserID
			kind  error
			field string
		}{
			{"an id is itself, whether or not it is there", sys, "nobody-1", "nobody-1", nil, ""},
			{"to a user too", h.as(t, alice), "nobody-1", "nobody-1", nil, ""},
			{"what is none is refused", sys, "short", "", denizen.ErrInvalid, "user"},
			{"nothing is refused", sys, "", "", denizen.ErrInvalid, "user"},
			{"me is the acting user", h.as(t, alice), "me", alice, nil, ""},
			{"me is not .system", sys, "me", "", denizen.ErrDenied, "user"},
			{"nobody is me", denizen.Principal{}, "me", "", denizen.ErrDenied, ""},
			{"a locator is its owner to .system", sys, "email:ALICE@example.org", alice, nil, ""},
			{"a locator of nobody is not found", sys, "email:nobody@example.org", "", denizen.ErrNotFound, "locator"},
			{"nor is a claim", sys, "email:claim@example.org", "", denizen.ErrNotFound, "locator"},
			{"a bad locator is refused", sys, "email:x", "", denizen.ErrInvalid, "locator"},
			{"a user's own locator is itself", h.as(t, alice), "email:Alice@Example.org", alice, nil, ""},
			{"its claim is not", h.as(t, alice), "email:claim@example.org", "", denizen.ErrDenied, ""},
			{"another's locator is another user", h.as(t, alice), "email:bob@example.org", "", denizen.ErrDenied, ""},
			{"so is nobody's", h.as(t, alice), "email:nobody@example.org", "", denizen.ErrDenied, ""},
			{"a bad one is refused to a user too", h.as(t, alice), "email:x", "", denizen.ErrInvalid, "locator"},
		} {
			id, err := h.ResolveUser(ctx, row.by, row.ref)
			require.Equal(t, row.want, id, row.what)
			if row.kind == nil {
				require.NoError(t, err, row.what)
			} else {
				requireField(t, err, row.kind, row.field)
			}
		}
	})
}
