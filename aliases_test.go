package denizen_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// requireLeads requires that an id leads to a user, for .system.
func requireLeads(t testing.TB, d *denizen.Directory, id, to denizen.UserID) {
	t.Helper()
	got, err := d.ResolveUser(t.Context(), denizen.System(), string(id))
	require.NoError(t, err)
	require.Equal(t, to, got)
}

// mergeFor merges a user into another, and makes an alias for a time.
func mergeFor(t testing.TB, d *denizen.Directory, from, into denizen.UserID, lasts time.Duration) {
	t.Helper()
	_, err := d.MergeUsers(t.Context(), denizen.System(), from, into, denizen.MergePolicy{Alias: lasts})
	require.NoError(t, err)
}

func TestAliases_OnlySystemThatResolvesAUserFollowsOne(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		ctx, sys := t.Context(), denizen.System()
		newPairOfUsers(t, d)
		mergeFor(t, d, guest, owner, denizen.Forever)
		requireLeads(t, d, guest, owner)
		requireLeads(t, d, owner, owner)
		requireLeads(t, d, absent, absent)
		by, err := d.ActAs(ctx, sys, owner)
		require.NoError(t, err)
		id, err := d.ResolveUser(ctx, by, string(guest))
		require.NoError(t, err)
		require.Equal(t, guest, id, "to a user it is an id like any other")
		_, err = d.User(ctx, sys, guest)
		require.ErrorIs(t, err, denizen.ErrNotFound)
		_, err = d.ActAs(ctx, sys, guest)
		require.ErrorIs(t, err, denizen.ErrDenied)
		_, err = d.IssueToken(ctx, sys, guest, denizen.TokenOptions{})
		require.ErrorIs(t, err, denizen.ErrNotFound)
		_, err = d.CreateUser(ctx, sys, denizen.NewUser{ID: guest, ScreenName: "Another"})
		requireField(t, err, denizen.ErrTaken, "id")
		page, err := d.Users(ctx, sys, denizen.UserQuery{})
		require.NoError(t, err)
		require.Len(t, page.Users, 1)
	})
}

func TestAliases_ChainsCollapseAndEachKeepsItsOwnTime(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, id := range []denizen.UserID{"first-01", "second-2", "third-03"} {
			newUser(t, h.Directory, id)
		}
		mergeFor(t, h.Directory, "first-01", "second-2", time.Minute)
		mergeFor(t, h.Directory, "second-2", "third-03", denizen.Forever)
		requireLeads(t, h.Directory, "first-01", "third-03")
		requireLeads(t, h.Directory, "second-2", "third-03")
		time.Sleep(time.Minute)
		requireLeads(t, h.Directory, "first-01", "first-01")
		requireLeads(t, h.Directory, "second-2", "third-03")
		newUser(t, h.Directory, "first-01")
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

// aliasesIn counts the aliases in a store.
func aliasesIn(t testing.TB, s store.Store) int {
	t.Helper()
	rs, err := s.List(t.Context(), store.Range{Under: record.Aliases, Limit: 100})
	require.NoError(t, err)
	return len(rs)
}

func TestAliases_AreSweptOnceTheirTimeIsOver(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, id := range []denizen.UserID{"first-01", "second-2", "third-03"} {
			newUser(t, h.Directory, id)
		}
		mergeFor(t, h.Directory, "first-01", "third-03", time.Minute)
		mergeFor(t, h.Directory, "second-2", "third-03", denizen.Forever)
		require.Equal(t, 2, aliasesIn(t, h.store))
		time.Sleep(2 * time.Hour)
		require.Equal(t, 1, aliasesIn(t, h.store))
		requireLeads(t, h.Directory, "second-2", "third-03")
	})
}

func TestAliases_EndWithTheUserTheyLeadTo(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		newPairOfUsers(t, h.Directory)
		mergeFor(t, h.Directory, guest, owner, denizen.Forever)
		require.NoError(t, h.DeleteUser(t.Context(), denizen.System(), owner))
		require.Zero(t, aliasesIn(t, h.store))
		requireLeads(t, h.Directory, guest, guest)
		newUser(t, h.Directory, owner) // who is somebody else
		newUser(t, h.Directory, guest)
	})
}

// The list of a user may still name an alias that is over, and whose id is another's by now.
func TestAliases_OneThatIsOverIsNotEndedAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, id := range []denizen.UserID{"first-01", "second-2", "third-03"} {
			newUser(t, h.Directory, id)
		}
		mergeFor(t, h.Directory, "first-01", "second-2", time.Minute)
		time.Sleep(time.Minute)
		newUser(t, h.Directory, "first-01")
		mergeFor(t, h.Directory, "first-01", "third-03", denizen.Forever)
		require.NoError(t, h.DeleteUser(t.Context(), denizen.System(), "second-2"))
		requireLeads(t, h.Directory, "first-01", "third-03")
		require.NoError(t, h.Close())
		invariant.Check(t, h.store)
	})
}

func TestAliases_OneThatWasLeftOverLeadsNobodyAndFreesTheID(t *testing.T) {
	for how, damage := range damages {
		t.Run(how, func(t *testing.T) {
			s := newDamaging()
			d := newOver(t, s, denizen.Options{})
			newPairOfUsers(t, d)
			mergeFor(t, d, guest, owner, denizen.Forever)
			damage(t, s, record.UserKey(string(owner)))
			_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: guest, ScreenName: "Another"})
			requireField(t, err, denizen.ErrTaken, "id")
			_, err = d.ResolveUser(t.Context(), denizen.System(), string(guest))
			require.ErrorIs(t, err, denizen.ErrCorrupt)
			require.NoError(t, d.DeleteUser(t.Context(), denizen.System(), owner))
			requireLeads(t, d, guest, guest)
			newUser(t, d, owner)
			requireLeads(t, d, guest, guest)
			newUser(t, d, guest)
			require.Zero(t, aliasesIn(t, s))
		})
	}
}

// Of those who create a user and those who make its id an alias, one wins each time.
func TestAliases_NoUserEverHasTheIDOfOne(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		ctx, sys := t.Context(), denizen.System()
		newUser(t, d, owner)
		for range 10 {
			newUser(t, d, guest)
			errs := atOnce(16, func(i int) error {
				if i%2 == 0 {
					_, err := d.MergeUsers(ctx, sys, guest, owner, denizen.MergePolicy{Alias: denizen.Forever})
					return err
				}
				_, err := d.CreateUser(ctx, sys, denizen.NewUser{ID: guest, ScreenName: "Another"})
				return err
			})
			require.Equal(t, 8, count(errs, denizen.ErrTaken), "%v", errors.Join(errs...))
			require.Equal(t, 7, count(errs, denizen.ErrNotFound), "%v", errors.Join(errs...))
			requireLeads(t, d, guest, owner)
			require.NoError(t, d.DeleteUser(ctx, sys, owner))
			newUser(t, d, owner)
		}
	})
}

func TestAliases_AreKeptWhereTheUserIsWrittenAnew(t *testing.T) {
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	newPairOfUsers(t, d)
	mergeFor(t, d, guest, owner, denizen.Forever)
	ctx, sys := t.Context(), denizen.System()
	_, err := d.SetScreenName(ctx, sys, owner, "Another name")
	require.NoError(t, err)
	_, err = d.BlockUser(ctx, sys, owner, denizen.Block{})
	require.NoError(t, err)
	requireLeads(t, d, guest, owner)
	require.NoError(t, d.Close())
	invariant.Check(t, s)
}

func TestAliases_AnExportListsThemAndAnErasureEndsThem(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		s := newDamaging()
		d := newOver(t, s, denizen.Options{})
		newPairOfUsers(t, d)
		mergeFor(t, d, guest, owner, denizen.Forever)
		var document bytes.Buffer
		require.NoError(t, d.ExportUser(t.Context(), denizen.System(), owner, &document))
		require.Contains(t, document.String(), `"aliases":["`+string(guest)+`"]`)
		if damaged {
			damages["the store cannot read it"](t, s, record.UserKey(string(owner)))
		}
		receipt, err := d.EraseUser(t.Context(), denizen.System(), owner)
		require.NoError(t, err)
		if !damaged {
			require.Equal(t, 1, receipt.Removed["aliases"])
		}
		require.Zero(t, aliasesIn(t, s))
	}
}
