package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/stretchr/testify/require"
)

// The verdicts of the specification.
const (
	no       = "no"
	ifMaySee = "if MaySee"
	yes      = "yes"
)

// specified is who may do what, written from the specification and not from the code: for
// .anonymous, another user, the user itself, and .system. For an operation that is about no
// user every user is another, but for those that are always about the caller.
var specified = []denizen.AccessRow{
	{Name: "act as a user", Cells: [4]string{no, no, no, yes}},
	{Name: "ask whether it still stands", Cells: [4]string{no, no, yes, yes}},
	{Name: "resolve a reference", Cells: [4]string{no, yes, yes, yes}},
	{Name: "create a user", Cells: [4]string{no, no, no, yes}},
	{Name: "read a user", Cells: [4]string{no, ifMaySee, yes, yes}},
	{Name: "list and count users", Cells: [4]string{no, no, no, yes}},
	{Name: "find users by locator", Cells: [4]string{no, no, no, yes}},
	{Name: "set the screen name", Cells: [4]string{no, no, yes, yes}},
	{Name: "block or unblock a user", Cells: [4]string{no, no, no, yes}},
	{Name: "delete a user", Cells: [4]string{no, no, no, yes}},
	{Name: "merge two users", Cells: [4]string{no, no, no, yes}},
	{Name: "erase a user", Cells: [4]string{no, no, no, yes}},
	{Name: "export a user", Cells: [4]string{no, no, yes, yes}},
	{Name: "read locators", Cells: [4]string{no, no, yes, yes}},
	{Name: "add a locator", Cells: [4]string{no, no, yes, yes}},
	{Name: "remove a locator", Cells: [4]string{no, no, yes, yes}},
	{Name: "set all locators", Cells: [4]string{no, no, no, yes}},
	{Name: "vouch for a locator, or reveal it", Cells: [4]string{no, no, no, yes}},
	{Name: "move a locator to another user", Cells: [4]string{no, no, no, yes}},
	{Name: "bring locators to another rule", Cells: [4]string{no, no, no, yes}},
	{Name: "prove a locator", Cells: [4]string{no, no, no, yes}},
	{Name: "cancel an undo", Cells: [4]string{no, no, no, yes}},
	{Name: "define an attribute or drop a definition", Cells: [4]string{no, no, no, yes}},
	{Name: "read definitions", Cells: [4]string{no, yes, yes, yes}},
	{Name: "read the profile", Cells: [4]string{no, ifMaySee, yes, yes}},
	{Name: "write the profile", Cells: [4]string{no, no, yes, yes}},
	{Name: "read presence", Cells: [4]string{no, ifMaySee, yes, yes}},
	{Name: "list devices", Cells: [4]string{no, no, yes, yes}},
	{Name: "set or clear presence", Cells: [4]string{no, no, yes, yes}},
	{Name: "watch presences, each as it may be read", Cells: [4]string{no, no, yes, yes}},
	{Name: "read the last activity", Cells: [4]string{no, ifMaySee, yes, yes}},
	{Name: "issue a token", Cells: [4]string{no, no, no, yes}},
	{Name: "list tokens", Cells: [4]string{no, no, yes, yes}},
	{Name: "extend a token", Cells: [4]string{no, no, yes, yes}},
	{Name: "revoke tokens", Cells: [4]string{no, no, yes, yes}},
	{Name: "log out", Cells: [4]string{no, no, yes, no}},
	{Name: "manage access keys", Cells: [4]string{no, no, no, yes}},
	{Name: "rotate or drop signing keys", Cells: [4]string{no, no, no, yes}},
	{Name: "follow and trim the feed", Cells: [4]string{no, no, no, yes}},
	{Name: "ask how the directory fares", Cells: [4]string{no, no, no, yes}},
	{Name: "back up, verify and rekey", Cells: [4]string{no, no, no, yes}},
}

// aboutTheCaller are the methods whose target is whoever calls.
var aboutTheCaller = []string{"Check", "ResolveUser", "Logout", "WatchPresence"}

// leavesOut are the methods whose result leaves out users who do not exist.
var leavesOut = []string{"Presences", "LastActive"}

// The columns of the table.
const (
	asAnonymous = iota
	asOther
	asSelf
	asSystem
)

// verdict returns what the specification says of a method for a principal in a column, when
// it is called about Alice.
func (m method) verdict(t testing.TB, column int) string {
	t.Helper()
	if column == asOther || column == asSelf {
		if !m.about {
			column = asOther
		}
		if slices.Contains(aboutTheCaller, m.name) {
			column = asSelf
		}
	}
	i := slices.IndexFunc(specified, func(r denizen.AccessRow) bool { return r.Name == m.row })
	require.GreaterOrEqual(t, i, 0, "%s is in no row", m.name)
	return specified[i].Cells[column]
}

func TestAccess_TheAccessTableIsTheSpecifiedOne(t *testing.T) {
	require.Equal(t, specified, denizen.AccessTable())
}

func TestAccess_EveryMethodWithAPrincipalIsTried(t *testing.T) {
	var tried, there []string
	rows := map[string]bool{}
	for _, m := range methods {
		tried = append(tried, m.name)
		rows[m.row] = true
	}
	directory := reflect.TypeFor[*denizen.Directory]()
	for m := range directory.Methods() {
		for in := range m.Type.Ins() {
			if in == reflect.TypeFor[denizen.Principal]() {
				there = append(there, m.Name)
			}
		}
	}
	require.ElementsMatch(t, there, tried)
	for _, r := range specified {
		require.True(t, rows[r.Name], "no method tries %q", r.Name)
	}
}

const absent denizen.UserID = "nobody-of-the-world"

// overCaches runs a test with a directory that remembers what it reads, and one that does not.
func overCaches(t *testing.T, test func(t *testing.T, cached bool)) {
	t.Helper()
	t.Run("cached", func(t *testing.T) { test(t, true) })
	t.Run("not cached", func(t *testing.T) { test(t, false) })
}

// column returns a principal of a column for calls about Alice.
func (w *world) column(column int) denizen.Principal {
	return []denizen.Principal{{}, w.byBob, w.byAlice, denizen.System()}[column]
}

var columns = [...]string{".anonymous", "another user", "the user itself", ".system"}

func TestAccess_WhatIsAllowedSucceeds(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		for _, m := range methods {
			for column, name := range columns {
				if m.verdict(t, column) != yes {
					continue
				}
				t.Run(m.name+" by "+name, func(t *testing.T) {
					w := newWorld(t, cached, denizen.Options{}, nil)
					require.NoError(t, m.call(t.Context(), w, w.column(column), w.alice))
					invariant.Check(t, w.inner)
				})
			}
		}
	})
}

func TestAccess_WhatIsAllowedOnNobodyIsNotFound(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		for _, m := range methods {
			if m.verdict(t, asSystem) != yes || !m.about {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				w := newWorld(t, cached, denizen.Options{}, nil)
				before := invariant.Of(t, w.inner)
				err := m.call(t.Context(), w, denizen.System(), absent)
				if slices.Contains(leavesOut, m.name) {
					require.NoError(t, err)
					return
				}
				requireRefusal(t, err, denizen.Error{Op: m.name, Kind: denizen.ErrNotFound, Field: "user"})
				require.Equal(t, before, invariant.Of(t, w.inner))
			})
		}
	})
}

// requireRefusal requires an error to be exactly want, its cause apart.
func requireRefusal(t testing.TB, err error, want denizen.Error) {
	t.Helper()
	got, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok, "%v", err)
	if got.Op == "Users" && want.Op == "AllUsers" { // which goes through its pages
		want.Op = "Users"
	}
	require.Equal(t, want.Error(), got.Error())
	require.Equal(t, want, denizen.Error{Op: got.Op, Kind: got.Kind, Field: got.Field, Reason: got.Reason, Resume: got.Resume})
}

// A method that is named in its refusal is the one that was called, so the refusals also
// hold the list of methods to what it says.
func TestAccess_ADeniedCallLooksNothingUpAndIsTheSameForNobody(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{}, nil)
		before := invariant.Of(t, w.inner)
		denied := 0
		for _, m := range methods {
			for column, name := range columns {
				if m.verdict(t, column) == yes {
					continue
				}
				for _, target := range []denizen.UserID{w.alice, absent} {
					by := w.column(column)
					if column == asSelf && target == absent {
						by = gone(t, w) // whoever it is that is absent asks
						before = invariant.Of(t, w.inner)
					}
					calls := w.calls.calls()
					err := m.call(t.Context(), w, by, target)
					requireRefusal(t, err, denizen.Error{Op: m.name, Kind: denizen.ErrDenied})
					require.Equal(t, calls, w.calls.calls(), "%s by %s asked the store", m.name, name)
					denied++
				}
			}
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
		require.Greater(t, denied, 200)
	})
}

// gone returns the principal of a user who was deleted.
func gone(t testing.TB, w *world) denizen.Principal {
	t.Helper()
	_, err := w.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: absent, ScreenName: "Nobody"})
	require.NoError(t, err)
	by, _ := w.login(t, absent)
	require.NoError(t, w.DeleteUser(t.Context(), denizen.System(), absent))
	return by
}

func TestAccess_ADeniedCallIsDeniedWhateverItsTargetIs(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	for _, m := range methods {
		if !m.about {
			continue
		}
		for _, target := range []denizen.UserID{"", ".system", ".anonymous", ".deleted", "short", "no spaces in it"} {
			err := m.call(t.Context(), w, denizen.Principal{}, target)
			requireRefusal(t, err, denizen.Error{Op: m.name, Kind: denizen.ErrDenied})
			if m.verdict(t, asOther) == no {
				err := m.call(t.Context(), w, w.byBob, target)
				requireRefusal(t, err, denizen.Error{Op: m.name, Kind: denizen.ErrDenied})
			}
		}
	}
}

func TestAccess_NothingIsAskedAboutAReservedName(t *testing.T) {
	asked := 0
	w := newWorld(t, true, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		asked++
		return true, nil
	}}, nil)
	for _, m := range methods {
		if !m.about {
			continue
		}
		for _, target := range []denizen.UserID{".system", ".anonymous", ".deleted", "short"} {
			calls := w.calls.calls()
			require.ErrorIs(t, m.call(t.Context(), w, denizen.System(), target), denizen.ErrInvalid, "%s of %s", m.name, target)
			if m.verdict(t, asOther) == ifMaySee {
				require.ErrorIs(t, m.call(t.Context(), w, w.byBob, target), denizen.ErrInvalid, "%s of %s", m.name, target)
				require.ErrorIs(t, m.call(t.Context(), w, w.byBob, ""), denizen.ErrInvalid, "%s of nobody", m.name)
			}
			require.Equal(t, calls, w.calls.calls(), "%s of %s asked the store", m.name, target)
		}
	}
	require.Zero(t, asked, "the host was asked about a name that is no user's")
}

// facetOf is what the host is asked for a row of the table.
var facetOf = map[string]denizen.Facet{
	"read a user":            denizen.FacetScreenName,
	"read the profile":       denizen.FacetProfile,
	"read presence":          denizen.FacetPresence,
	"read the last activity": denizen.FacetLastActive,
}

type question struct {
	viewer, subject denizen.UserID
	what            denizen.Facet
}

func TestAccess_TheHostsWordDecidesWhatPeersSee(t *testing.T) {
	broken := errors.New("the host cannot say")
	answers := []struct {
		name   string
		may    bool
		err    error
		target denizen.UserID
		want   denizen.Error // its Op is the method's
	}{
		{"yes", true, nil, "alice-of-the-world", denizen.Error{}},
		{"yes, of nobody", true, nil, absent, denizen.Error{Kind: denizen.ErrNotFound, Field: "user"}},
		{"no", false, nil, "alice-of-the-world", denizen.Error{Kind: denizen.ErrDenied}},
		{"no, of nobody", false, nil, absent, denizen.Error{Kind: denizen.ErrDenied}},
		{"an error", false, broken, "alice-of-the-world", denizen.Error{Kind: denizen.ErrUnavailable}},
		{"an error beside yes", true, broken, absent, denizen.Error{Kind: denizen.ErrUnavailable}},
	}
	overCaches(t, func(t *testing.T, cached bool) {
		for _, a := range answers {
			t.Run(a.name, func(t *testing.T) {
				var asked []question
				w := newWorld(t, cached, denizen.Options{MaySee: func(_ context.Context, viewer, subject denizen.UserID, what denizen.Facet) (bool, error) {
					asked = append(asked, question{viewer, subject, what})
					return a.may, a.err
				}}, nil)
				before := invariant.Of(t, w.inner)
				tried := 0
				for _, m := range methods {
					if m.verdict(t, asOther) != ifMaySee {
						continue
					}
					tried++
					asked = nil
					calls := w.calls.calls()
					err := m.call(t.Context(), w, w.byBob, a.target)
					require.Equal(t, []question{{w.bob, a.target, facetOf[m.row]}}, asked)
					if a.want.Kind == nil || a.want.Kind == denizen.ErrNotFound && slices.Contains(leavesOut, m.name) {
						require.NoError(t, err)
						continue
					}
					a.want.Op = m.name
					requireRefusal(t, err, a.want)
					if a.err != nil {
						require.ErrorIs(t, err, broken)
					}
					if a.want.Kind != denizen.ErrNotFound {
						require.Equal(t, calls, w.calls.calls(), "%s asked the store", m.name)
					}
				}
				require.Equal(t, 7, tried)
				require.Equal(t, before, invariant.Of(t, w.inner))
			})
		}
	})
}

func TestAccess_TheHostIsAskedForPeersOnly(t *testing.T) {
	asked := 0
	w := newWorld(t, true, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		asked++
		return true, nil
	}}, nil)
	for _, m := range methods {
		if m.verdict(t, asOther) != ifMaySee {
			continue
		}
		for _, column := range []int{asAnonymous, asSelf, asSystem} {
			_ = m.call(t.Context(), w, w.column(column), w.alice)
		}
	}
	require.Zero(t, asked)
}

func TestAccess_OneRefusalRefusesTheWholeList(t *testing.T) {
	w := newWorld(t, true, denizen.Options{MaySee: func(_ context.Context, _, subject denizen.UserID, _ denizen.Facet) (bool, error) {
		return subject == "alice-of-the-world", nil
	}}, nil)
	calls := w.calls.calls()
	users, err := w.UsersByID(t.Context(), w.byBob, []denizen.UserID{w.alice, w.bob, absent})
	requireRefusal(t, err, denizen.Error{Op: "UsersByID", Kind: denizen.ErrDenied})
	require.Nil(t, users)
	presences, err := w.Presences(t.Context(), w.byBob, []denizen.UserID{w.alice, w.bob, absent})
	requireRefusal(t, err, denizen.Error{Op: "Presences", Kind: denizen.ErrDenied})
	require.Nil(t, presences)
	require.Equal(t, calls, w.calls.calls())
}

func TestAccess_APeerSeesTheIDAndTheScreenNameAlone(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
			return true, nil
		}}, nil)
		want := denizen.User{ID: w.alice, ScreenName: "Alice", Peer: true}
		u, err := w.User(t.Context(), w.byBob, w.alice)
		require.NoError(t, err)
		require.Equal(t, want, u)
		us, err := w.UsersByID(t.Context(), w.byBob, []denizen.UserID{w.alice, w.bob})
		require.NoError(t, err)
		require.Equal(t, want, us[0])
		require.Len(t, us[1].Locators, 2, "of itself a user sees everything")
	})
}

func TestAccess_FacetsHaveNames(t *testing.T) {
	require.Equal(t, []string{"unknown facet", "screenName", "profile", "presence"}, []string{
		denizen.Facet(0).String(), denizen.FacetScreenName.String(), denizen.FacetProfile.String(), denizen.FacetPresence.String(),
	})
}

// fallen is how a principal loses what it rests on, and the columns it stood in.
var fallen = []struct {
	name   string
	column int
	by     func(w *world) denizen.Principal
	fall   func(ctx context.Context, w *world) error
}{
	{"a user who is blocked", asSelf, (*world).itself, block},
	{"a user who is deleted", asSelf, (*world).itself, deletion},
	{"a user whose id is another's now", asSelf, (*world).itself, replacement},
	{"a user who is merged into another", asSelf, (*world).itself, merger},
	{"a user acted for who is merged into another", asSelf, (*world).delegate, merger},
	{"a peer who is blocked", asOther, (*world).itself, block},
	{"a peer who is deleted", asOther, (*world).itself, deletion},
	{"a peer whose id is another's now", asOther, (*world).itself, replacement},
	{"a user acted for who is blocked", asSelf, (*world).delegate, block},
	{"a user acted for who is deleted", asSelf, (*world).delegate, deletion},
	{"a user acted for whose id is another's now", asSelf, (*world).delegate, replacement},
	{"a user acted for with a key that is deleted", asSelf, (*world).delegate, keyDeletion},
	{"a peer acted for with a key that is deleted", asOther, (*world).delegate, keyDeletion},
	{"an application whose key is deleted", asSystem, (*world).application, keyDeletion},
}

func (w *world) itself() denizen.Principal { return w.byAlice }

func (w *world) delegate() denizen.Principal { return w.byAlicesDelegate }

func (w *world) application() denizen.Principal { return w.byKey }

func block(ctx context.Context, w *world) error {
	_, err := w.BlockUser(ctx, denizen.System(), w.alice, denizen.Block{})
	return err
}

func deletion(ctx context.Context, w *world) error {
	return w.DeleteUser(ctx, denizen.System(), w.alice)
}

func merger(ctx context.Context, w *world) error {
	_, err := w.MergeUsers(ctx, denizen.System(), w.alice, w.bob, denizen.MergePolicy{Alias: denizen.Forever})
	return err
}

func replacement(ctx context.Context, w *world) error {
	if err := deletion(ctx, w); err != nil {
		return err
	}
	_, err := w.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ID: w.alice, ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
		Attributes: []denizen.Attribute{{Key: usedAttribute, Value: "of another Alice"}},
	})
	return err
}

func keyDeletion(ctx context.Context, w *world) error {
	return w.DeleteAccessKey(ctx, denizen.System(), w.key.Key)
}

func TestAccess_APrincipalThatNoLongerStandsIsRevoked(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		for _, f := range fallen {
			t.Run(f.name, func(t *testing.T) {
				w := newWorld(t, cached, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
					return true, nil
				}}, nil)
				by, target := f.by(w), w.alice
				if f.column == asOther {
					target = w.bob
				}
				// What is remembered of the time before must not help.
				for _, m := range methods {
					if strings.HasPrefix(m.row, "read") && m.verdict(t, f.column) != no && m.name != "Locator" {
						require.NoError(t, m.call(t.Context(), w, by, target))
					}
				}
				require.NoError(t, f.fall(t.Context(), w))
				before := invariant.Of(t, w.inner)
				for _, m := range methods {
					if m.verdict(t, f.column) == no {
						continue
					}
					t.Run(m.name, func(t *testing.T) {
						want := denizen.ErrRevoked
						if m.name == "Logout" && by.Token() == "" {
							want = denizen.ErrDenied // as ever: nothing needs to be looked up
						}
						require.ErrorIs(t, m.call(t.Context(), w, by, target), want)
						require.Equal(t, before, invariant.Of(t, w.inner))
					})
				}
			})
		}
	})
}

func TestAccess_AFallenCallerIsRefusedOnEmptyListsToo(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	_, err := w.UsersByID(t.Context(), w.byAlice, nil)
	require.NoError(t, err)
	require.NoError(t, block(t.Context(), w))
	_, err = w.UsersByID(t.Context(), w.byAlice, nil)
	require.ErrorIs(t, err, denizen.ErrRevoked)
	_, err = w.Presences(t.Context(), w.byAlice, nil)
	require.ErrorIs(t, err, denizen.ErrRevoked)
	require.ErrorIs(t, w.RevokeTokens(t.Context(), w.byAlice, w.alice), denizen.ErrRevoked)
	_, err = w.Attributes(t.Context(), w.byAlice, w.alice, nil)
	require.ErrorIs(t, err, denizen.ErrRevoked)
}

func TestAccess_EveryMethodOfAClosedDirectorySaysSo(t *testing.T) {
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{}, nil)
		require.NoError(t, w.Close())
		before := invariant.Of(t, w.inner)
		for _, m := range methods {
			for _, column := range []int{asSelf, asSystem} {
				if m.verdict(t, column) != yes {
					continue
				}
				t.Run(m.name+" by "+columns[column], func(t *testing.T) {
					require.ErrorIs(t, m.call(t.Context(), w, w.column(column), w.alice), denizen.ErrClosed)
				})
			}
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
	})
}

// The markers in the README between which the table stands.
const (
	tableBegins = "<!-- access table -->"
	tableEnds   = "<!-- /access table -->"
)

// accessTable returns the access table in Markdown.
func accessTable() string {
	var b strings.Builder
	b.WriteString("| | `.anonymous` | another user | the user itself | `.system` |\n|---|---|---|---|---|\n")
	for _, r := range denizen.AccessTable() {
		fmt.Fprintf(&b, "| %s | %s |\n", r.Name, strings.Join(r.Cells[:], " | "))
	}
	return b.String()
}

func TestAccess_TheREADMEHoldsTheAccessTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), tableBegins+"\n")
	require.True(t, found, "README.md lacks the line %s", tableBegins)
	table, after, found := strings.Cut(rest, tableEnds)
	require.True(t, found, "README.md lacks the line %s", tableEnds)
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(before+tableBegins+"\n"+accessTable()+tableEnds+after), 0o644))
		return
	}
	require.Equal(t, accessTable(), table, "go test -run README -update . rewrites it")
}
