package external_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/locator/external"
	"github.com/denizenhq/denizen/store/memory"
)

const issuer = "https://accounts.example.com"

func Example() {
	ctx, system := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{LocatorTypes: []denizen.LocatorRule{external.Rule()}})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	// The issuer and the subject of a token that the host checked.
	identity, err := external.New("https://accounts.example.com", "10769150350006150715113082367")
	if err != nil {
		log.Fatal(err)
	}
	signIn := func() (denizen.UserID, error) {
		ids, err := dir.Locate(ctx, system, identity.Locator)
		if err != nil || ids[0] != "" {
			return ids[0], err
		}
		u, err := dir.CreateUser(ctx, system, denizen.NewUser{
			ID: "alice-0001", ScreenName: "Alice", Locators: []denizen.NewLocator{identity},
		})
		return u.ID, err
	}
	fmt.Println(signIn())
	fmt.Println(signIn())
	// Output:
	// alice-0001 <nil>
	// alice-0001 <nil>
}

func newDirectory(t *testing.T) *denizen.Directory {
	t.Helper()
	d, err := denizen.New(t.Context(), memory.New(), denizen.Options{LocatorTypes: []denizen.LocatorRule{external.Rule()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestAnIdentityIsCompareByteForByte(t *testing.T) {
	d := newDirectory(t)
	for _, subject := range []string{"Alice", "alice", "alice|1", "álice", "a\u0301lice", " alice"} {
		identity, err := external.New(issuer, subject)
		require.NoError(t, err)
		u, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "A", Locators: []denizen.NewLocator{identity}})
		require.NoError(t, err, subject)
		require.Equal(t, denizen.Verified, u.Locators[0].Status)
		ids, err := d.Locate(t.Context(), denizen.System(), identity.Locator)
		require.NoError(t, err)
		require.Equal(t, []denizen.UserID{u.ID}, ids)
	}
}

func TestWhatIsNoIdentityIsRefused(t *testing.T) {
	d := newDirectory(t)
	for _, row := range [][2]string{{"", "a"}, {issuer, ""}, {"a|b", "c"}, {issuer, strings.Repeat("a", denizen.MaxLocatorBytes-len(issuer))}} {
		_, err := external.New(row[0], row[1])
		require.ErrorIs(t, err, denizen.ErrInvalid, row)
	}
	for _, l := range []string{"external:", "external:|", "external:a|", "external:|a", "external:a", "external:a|\x00", "external:a|b\n"} {
		_, err := d.Locate(t.Context(), denizen.System(), l)
		require.ErrorIs(t, err, denizen.ErrInvalid, l)
	}
	identity, err := external.New(issuer, strings.Repeat("a", denizen.MaxLocatorBytes-len(issuer)-1))
	require.NoError(t, err)
	_, err = d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "A", Locators: []denizen.NewLocator{identity}})
	require.NoError(t, err)
}

func TestAUserNeitherAddsNorRemovesAnIdentity(t *testing.T) {
	d := newDirectory(t)
	identity, err := external.New(issuer, "1")
	require.NoError(t, err)
	u, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "A", Locators: []denizen.NewLocator{identity}})
	require.NoError(t, err)
	by, err := d.ActAs(t.Context(), denizen.System(), u.ID)
	require.NoError(t, err)
	other, err := external.New(issuer, "2")
	require.NoError(t, err)
	_, err = d.AddLocator(t.Context(), by, u.ID, other)
	require.ErrorIs(t, err, denizen.ErrDenied)
	require.ErrorIs(t, d.RemoveLocator(t.Context(), by, u.ID, u.Locators[0].ID), denizen.ErrDenied)
	_, err = d.ReplaceLocator(t.Context(), by, u.ID, u.Locators[0].ID, other)
	require.ErrorIs(t, err, denizen.ErrDenied)
}
