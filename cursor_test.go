package denizen_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

// cursorOf answers the cursor behind the first user of a directory with two.
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

func TestACursorIsRefusedAfterAnyChange(t *testing.T) {
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

func TestACursorHasOneSpelling(t *testing.T) {
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

func TestACursorOfAnotherDirectoryIsRefused(t *testing.T) {
	d, other := newMemory(t, denizen.Options{}), newMemory(t, denizen.Options{})
	cursorOf(t, d)
	requireField(t, follow(d, cursorOf(t, other)), denizen.ErrInvalid, "after")
}

func TestACursorDoesNotTellWhereItStands(t *testing.T) {
	c := cursorOf(t, newMemory(t, denizen.Options{}))
	raw, err := base64.RawURLEncoding.DecodeString(string(c))
	require.NoError(t, err)
	require.NotContains(t, string(c)+string(raw), "user-0000")
}

func TestACursorStaysGoodWhenItsUserIsDeleted(t *testing.T) {
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
