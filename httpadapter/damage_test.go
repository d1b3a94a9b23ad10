package httpadapter_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	kept "github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// damagedAPI makes an api of n users, damage-0000 on, of whom some records cannot be read. The
// directory that reads them is another than the one that wrote them.
func damagedAPI(t *testing.T, n int, keys ...store.Key) (*api, func() httpadapter.Exchange) {
	t.Helper()
	s := memory.New()
	first, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	_, err = first.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "key"})
	require.NoError(t, err)
	for i := range n {
		_, err := first.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ID: denizen.UserID(fmt.Sprintf("damage-%04d", i)), ScreenName: "Somebody",
			Locators:   []denizen.NewLocator{{Locator: fmt.Sprintf("email:damage-%d@example.org", i)}},
			Attributes: []denizen.Attribute{{Key: "key", Value: "value"}},
		})
		require.NoError(t, err)
	}
	require.NoError(t, first.Close())
	var b store.Batch
	for _, key := range keys {
		b.Put = append(b.Put, store.Record{Key: key, Value: []byte(`{"damaged":true}`)})
	}
	_, err = s.Commit(t.Context(), b)
	require.NoError(t, err)
	var last httpadapter.Exchange
	observe := func(_ context.Context, x httpadapter.Exchange) { last = x }
	return newSecAPI(t, s, denizen.Options{}, httpadapter.Options{Observe: observe}), func() httpadapter.Exchange { return last }
}

// pages goes along the pages of a list, and returns whom they show and whom the hook was told of.
func pages(t *testing.T, a *api, last func() httpadapter.Exchange, target string) (shown, told []string, n int) {
	t.Helper()
	for ; target != ""; n++ {
		got := a.do("GET", target, "", app)
		for _, u := range decode[[]struct{ UserID string }](t, got, 200) {
			shown = append(shown, u.UserID)
		}
		for _, id := range last().Damaged {
			told = append(told, string(id))
		}
		target = nextPage(got)
	}
	return shown, told, n
}

func TestDamagedUsersAreLeftOutOfAPageAndTheHookIsTold(t *testing.T) {
	damaged := []store.Key{kept.UserKey("damage-0000")}
	bad := []string{"damage-0000"}
	for i := 4; i < 16; i++ { // more than one step of a page
		damaged = append(damaged, kept.UserKey(fmt.Sprintf("damage-%04d", i)))
		bad = append(bad, fmt.Sprintf("damage-%04d", i))
	}
	good := []string{"damage-0001", "damage-0002", "damage-0003", "damage-0016", "damage-0017"}
	a, last := damagedAPI(t, 18, damaged...)
	for target, want := range map[string]int{
		"/v1/users":                                      1,
		"/v1/users?withProfileAttributes=*":              1,
		"/v1/users?limit=3":                              6,
		"/v1/users?limit=3&withProfileAttributes=key":    6,
		"/v1/users?limit=12&withProfileAttributes=other": 2,
	} {
		shown, told, n := pages(t, a, last, target)
		require.Equal(t, good, shown, target)
		require.Equal(t, bad, told, target)
		require.Equal(t, want, n, "a damaged user counts: %s", target)
	}
	require.NotContains(t, a.do("GET", "/v1/users", "", app).body, "damage-0000")
	a.do("GET", "/v1/users/damage-0001", "", app)
	require.Empty(t, last().Damaged)
}

func TestAUserWhoseAttributesAreDamagedStopsNoList(t *testing.T) {
	a, last := damagedAPI(t, 3, kept.ProfileKey("damage-0001"))
	for _, target := range []string{
		"/v1/users?withProfileAttributes=*",
		"/v1/users?withProfileAttributes=*&locators=email:damage-0@example.org,email:damage-1@example.org,email:damage-2@example.org",
	} {
		users := decode[[]struct {
			UserID        string
			EntityProfile *struct{ Attributes []any }
		}](t, a.do("GET", target, "", app), 200)
		require.Len(t, users, 3, target)
		for _, u := range users {
			require.Equal(t, u.UserID == "damage-0001", u.EntityProfile == nil, target)
		}
		require.Equal(t, []denizen.UserID{"damage-0001"}, last().Damaged, target)
	}
	a.do("GET", "/v1/users/damage-0001?withProfileAttributes=*", "", app).refused(t, 500, "unknown_error")
}
