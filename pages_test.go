package denizen_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestPages_APageOfUsersEndsEarlyByBytes(t *testing.T) {
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

// cursorOf returns the cursor behind the first user of a directory with two.
func cursorOf(t testing.TB, d *denizen.Directory) denizen.UserCursor {
	t.Helper()
	for i := range 2 {
		newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)))
	}
	page, err := d.Users(context.Background(), denizen.System(), denizen.UserQuery{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.Next)
	return page.Next
}

func follow(d *denizen.Directory, c denizen.UserCursor) error {
	_, err := d.Users(context.Background(), denizen.System(), denizen.UserQuery{After: c})
	return err
}

func TestPages_ACursorIsRefusedAfterAnyChange(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	c := cursorOf(t, d)
	require.NoError(t, follow(d, c))
	for i := range len(c) {
		if i > 0 { // an empty one is from the start
			requireField(t, follow(d, c[:i]), denizen.ErrInvalid, "after")
		}
		for _, other := range []string{"A", "_", "/", "=", " ", "\n", "é"} {
			if string(c[i]) != other {
				requireField(t, follow(d, c[:i]+denizen.UserCursor(other)+c[i+1:]), denizen.ErrInvalid, "after")
			}
		}
	}
}

func TestPages_ACursorHasOneSpelling(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	c := cursorOf(t, d)
	raw, err := base64.RawURLEncoding.DecodeString(string(c))
	require.NoError(t, err)
	for _, other := range []string{
		string(c) + "=", string(c) + "\n", string(c[:8]) + "\n" + string(c[8:]), " " + string(c),
		base64.URLEncoding.EncodeToString(raw) + "==", base64.StdEncoding.EncodeToString(raw) + "=",
	} {
		requireField(t, follow(d, denizen.UserCursor(other)), denizen.ErrInvalid, "after")
	}
}

func TestPages_ACursorOfAnotherDirectoryIsRefused(t *testing.T) {
	d, other := newMemory(t, denizen.Options{}), newMemory(t, denizen.Options{})
	cursorOf(t, d)
	requireField(t, follow(d, cursorOf(t, other)), denizen.ErrInvalid, "after")
}

func TestPages_ACursorDoesNotTellWhereItStands(t *testing.T) {
	c := cursorOf(t, newMemory(t, denizen.Options{}))
	raw, err := base64.RawURLEncoding.DecodeString(string(c))
	require.NoError(t, err)
	require.NotContains(t, string(c)+string(raw), "user-0000")
}

func TestPages_ACursorStaysGoodWhenItsUserIsDeleted(t *testing.T) {
	ctx := context.Background()
	d := newMemory(t, denizen.Options{})
	c := cursorOf(t, d)
	require.NoError(t, d.DeleteUser(ctx, denizen.System(), "user-0000"))
	page, err := d.Users(ctx, denizen.System(), denizen.UserQuery{After: c})
	require.NoError(t, err)
	require.Len(t, page.Users, 1)
	require.Equal(t, denizen.UserID("user-0001"), page.Users[0].ID)
}

func FuzzCursor(f *testing.F) {
	d := newMemory(f, denizen.Options{})
	good := cursorOf(f, d)
	f.Add(string(good))
	f.Add(string(good[1:]))
	f.Add(string(good) + "A")
	f.Add("")
	f.Add("user-0000")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte("user-0000")))
	f.Add(strings.Repeat("A", 10_000))
	f.Fuzz(func(t *testing.T, c string) {
		err := follow(d, denizen.UserCursor(c))
		if c == "" || c == string(good) {
			require.NoError(t, err)
			return
		}
		requireField(t, err, denizen.ErrInvalid, "after")
		if len(c) > 20 { // a shorter one may be a word of the message
			require.NotContains(t, err.Error(), c)
		}
	})
}

func TestPages_EveryLimitPagesThroughAllUsersInTheOrderOfTheirIDs(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ids := []denizen.UserID{"#hashtag", "00000000", "@handle-", "ADMIN123", "admin123", "alice-01", "alice-010", "alice$01", "zzzzzzzz"}
		for _, id := range ids {
			h.create(t, id)
		}
		slices.Sort(ids)
		for limit := 1; limit <= len(ids)+1; limit++ {
			var seen []denizen.UserID
			for q := (denizen.UserQuery{Limit: limit}); ; {
				page, err := h.Users(t.Context(), sys, q)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.Users), limit)
				for _, u := range page.Users {
					seen = append(seen, u.ID)
				}
				if q.After = page.Next; q.After == "" {
					break
				}
				require.Len(t, page.Users, limit, "a page before the last is full")
			}
			require.Equal(t, ids, seen, "limit %d", limit)
		}
	})
}

func TestPages_ALimitOfAPageIsOneToAThousand(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for i := range denizen.MaxPage + 1 {
		newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)))
	}
	for _, limit := range []int{-1, denizen.MaxPage + 1} {
		_, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: limit})
		requireField(t, err, denizen.ErrInvalid, "limit")
	}
	for _, limit := range []int{0, denizen.MaxPage} {
		page, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: limit})
		require.NoError(t, err)
		require.Len(t, page.Users, denizen.MaxPage)
		require.NotEmpty(t, page.Next)
	}
	n := 0
	for u, err := range d.AllUsers(t.Context(), sys) {
		require.NoError(t, err)
		require.Equal(t, denizen.UserID(fmt.Sprintf("user-%04d", n)), u.ID)
		n++
	}
	require.Equal(t, denizen.MaxPage+1, n)
}

func TestPages_AnEmptyDirectoryHasOneEmptyPage(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	page, err := d.Users(t.Context(), sys, denizen.UserQuery{})
	require.NoError(t, err)
	require.Empty(t, page.Users)
	require.Empty(t, page.Next)
}

func TestPages_PagingWhileOthersWriteSeesAllWhoStayOnce(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		for i := range 20 {
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", i*2)))
		}
		seen := map[denizen.UserID]int{}
		for q, n := (denizen.UserQuery{Limit: 3}), 0; ; n++ {
			page, err := h.Users(ctx, sys, q)
			require.NoError(t, err)
			for _, u := range page.Users {
				seen[u.ID]++
			}
			if q.After = page.Next; q.After == "" {
				break
			}
			// One comes before, one after the cursor, one of those seen goes.
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", n*6+1)))
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", n*6+5)))
			require.NoError(t, h.DeleteUser(ctx, sys, page.Users[0].ID))
		}
		for i := range 20 {
			require.Equal(t, 1, seen[denizen.UserID(fmt.Sprintf("user-%04d", i*2))], i)
		}
		for id, n := range seen {
			require.Equal(t, 1, n, id)
		}
	})
}

func TestPages_AllUsersMayBeLeftEarly(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	newUser(t, d, bob)
	for u, err := range d.AllUsers(t.Context(), sys) {
		require.NoError(t, err)
		require.Equal(t, alice, u.ID)
		break
	}
}

func TestPages_AllUsersEndsAtTheFirstErrorWhichItYields(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	var errs []error
	for u, err := range d.AllUsers(t.Context(), denizen.Principal{}) {
		require.Zero(t, u)
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], denizen.ErrDenied)
}
