package denizen_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite what is kept of the tests' output")

// newMemory makes a directory over a store in memory, closed with the test.
func newMemory(t testing.TB, o denizen.Options) *denizen.Directory {
	t.Helper()
	return newOver(t, memory.New(), o)
}

// newBolt makes a directory over a store in a new file, both closed with the test.
func newBolt(t testing.TB, o denizen.Options) *denizen.Directory {
	t.Helper()
	s, err := bolt.Open(context.Background(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
	require.NoError(t, err)
	return newOver(t, s, o)
}

// newShared makes a directory over a store in memory that it must take as shared.
func newShared(t testing.TB, o denizen.Options) *denizen.Directory {
	t.Helper()
	return newOver(t, shared{memory.New()}, o)
}

// newOver makes a directory over s, both closed with the test.
func newOver(t testing.TB, s store.Store, o denizen.Options) *denizen.Directory {
	t.Helper()
	d, err := denizen.New(context.Background(), s, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = d.Close()
		_ = s.Close()
	})
	return d
}

// overStores runs a test over each kind of store: one that the directory has for itself, in
// memory and in a file, and one that it must take as shared.
func overStores(t *testing.T, o denizen.Options, test func(t *testing.T, d *denizen.Directory)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, newMemory(t, o)) })
	t.Run("bolt", func(t *testing.T) { test(t, newBolt(t, o)) })
	t.Run("shared", func(t *testing.T) { test(t, newShared(t, o)) })
}

// shared hides that a store is for one directory alone, so that nothing of it is remembered.
type shared struct{ store.Store }

// counting counts the calls to a store. It hides store.Sole, which counted forwards.
type counting struct {
	store.Store
	reads, commits atomic.Int64
}

func (s *counting) calls() int64 { return s.reads.Load() + s.commits.Load() }

func (s *counting) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	s.reads.Add(1)
	return s.Store.Get(ctx, keys...)
}

func (s *counting) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	s.reads.Add(1)
	return s.Store.List(ctx, r)
}

func (s *counting) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	s.reads.Add(1)
	return s.Store.Changes(ctx, after, limit)
}

func (s *counting) Wait(ctx context.Context, after store.Seq) error {
	s.reads.Add(1)
	return s.Store.Wait(ctx, after)
}

func (s *counting) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.commits.Add(1)
	return s.Store.Commit(ctx, b)
}

// owned is a wrapper that forwards the store.Sole of what it wraps.
type owned struct {
	store.Store
	store.Sole
}

// tokenBegins is what each signed text begins with, and no name of a key or user by chance:
// {"alg": in base64.
const tokenBegins = "eyJhbGciOi"

// world is a small directory with two users who have some of everything, for tests that try
// every method: Alice, whom things are done to, and Bob, her peer.
type world struct {
	*denizen.Directory
	inner store.Store // without what was wrapped around it
	calls *counting

	alice, bob       denizen.UserID
	byAlice, byBob   denizen.Principal
	signed           string // the text of Alice's token, which byAlice is from
	otherSigned      string // of another, which nobody authenticated yet
	otherToken       denizen.TokenID
	owned, claim     denizen.Locator // of Alice; the claim is pending
	handle           denizen.Locator // of Alice, of a registered type
	key              denizen.NewAccessKey
	byKey            denizen.Principal // .system by that key
	byAlicesDelegate denizen.Principal // Alice, acted for with the key
	announced        string            // a signing key that does not sign yet
	seen             denizen.Seq       // see skip
}

// Attributes of the world: Alice and Bob have the first; the second is not used.
const (
	usedAttribute   = "nickname"
	unusedAttribute = "shoe size"
)

// newWorld fills a store in memory. wrap, if it is not nil, returns what the directory sees
// of it; cached says whether the directory may remember what it reads.
func newWorld(t testing.TB, cached bool, o denizen.Options, wrap func(store.Store) store.Store) *world {
	t.Helper()
	ctx := context.Background()
	inner := memory.New()
	w := &world{inner: inner, calls: &counting{Store: inner}, alice: "alice-of-the-world", bob: "bob-of-the-world"}
	if wrap != nil {
		w.calls.Store = wrap(shared{inner})
	}
	var s store.Store = w.calls
	if cached {
		s = &owned{w.calls, inner}
	}
	if o.HeartbeatInterval == 0 {
		o.HeartbeatInterval = time.Hour // nothing is written behind the test's back
	}
	if o.LocatorTypes == nil {
		o.LocatorTypes = []denizen.LocatorRule{handles()}
	}
	w.Directory = newOver(t, s, o)
	sys := denizen.System()
	for _, key := range []string{usedAttribute, unusedAttribute} {
		_, err := w.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key, VisibleTo: denizen.ToPeers})
		require.NoError(t, err)
	}
	for _, u := range []denizen.NewUser{
		{ID: w.alice, ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")}},
		{ID: w.bob, ScreenName: "Bob", Locators: []denizen.NewLocator{denizen.Email("bob@example.org"), denizen.Tele("+14155550132")}},
	} {
		u.Attributes = []denizen.Attribute{{Key: usedAttribute, Value: "of " + u.ScreenName}}
		_, err := w.CreateUser(ctx, sys, u)
		require.NoError(t, err)
	}
	require.NoError(t, w.RotateSigningKey(ctx, sys, time.Hour))
	for e, err := range w.Events(ctx, sys, "") {
		require.NoError(t, err)
		w.announced = strings.Join(e.Subjects, "")
	}
	var err error
	w.key, err = w.CreateAccessKey(ctx, sys)
	require.NoError(t, err)
	w.byKey, err = w.AuthenticateKey(ctx, w.key.Key, w.key.Secret)
	require.NoError(t, err)
	w.byAlice, w.signed = w.login(t, w.alice)
	w.byBob, _ = w.login(t, w.bob)
	w.byAlicesDelegate, err = w.ActAs(ctx, w.byKey, w.alice)
	require.NoError(t, err)
	second, err := w.IssueToken(ctx, w.byKey, w.alice, denizen.TokenOptions{})
	require.NoError(t, err)
	w.otherToken, w.otherSigned = second.ID, second.Signed
	w.claim, err = w.AddLocator(ctx, w.byAlice, w.alice, denizen.Email("alice@example.com"))
	require.NoError(t, err)
	w.handle, err = w.AddLocator(ctx, w.byAlice, w.alice, denizen.NewLocator{Locator: "handle:alice"})
	require.NoError(t, err)
	locators, err := w.Locators(ctx, sys, w.alice)
	require.NoError(t, err)
	w.owned = locators[0]
	for _, u := range []denizen.UserID{w.alice, w.bob} {
		require.NoError(t, w.SetPresence(ctx, sys, u, denizen.Online(time.Hour).Then(denizen.Offline())))
	}
	invariant.Check(t, inner)
	return w
}

// login issues a token for a user and authenticates it.
func (w *world) login(t testing.TB, user denizen.UserID) (denizen.Principal, string) {
	t.Helper()
	issued, err := w.IssueToken(context.Background(), denizen.System(), user, denizen.TokenOptions{})
	require.NoError(t, err)
	by, err := w.Authenticate(context.Background(), issued.Signed)
	require.NoError(t, err)
	return by, issued.Signed
}

// eventsAfter returns the events after a sequence.
func eventsAfter(t testing.TB, d *denizen.Directory, after denizen.Seq) []denizen.Event {
	t.Helper()
	var events []denizen.Event
	for e, err := range d.Events(context.Background(), denizen.System(), "") {
		require.NoError(t, err)
		if e.Seq > after {
			events = append(events, e)
		}
	}
	return events
}

// newUser creates a user.
func newUser(t testing.TB, d *denizen.Directory, id denizen.UserID) denizen.User {
	t.Helper()
	u, err := d.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: id, ScreenName: "Somebody"})
	require.NoError(t, err)
	return u
}

// newToken issues a token.
func newToken(t testing.TB, d *denizen.Directory, user denizen.UserID, o denizen.TokenOptions) denizen.IssuedToken {
	t.Helper()
	issued, err := d.IssueToken(context.Background(), denizen.System(), user, o)
	require.NoError(t, err)
	return issued
}

// inVirtualTime runs a test over each kind of store, as overStores does, with a clock of
// its own that stands still while anything goes on. It begins with the year 2000.
func inVirtualTime(t *testing.T, o denizen.Options, test func(t *testing.T, d *denizen.Directory)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB, denizen.Options) *denizen.Directory{
		"memory": newMemory, "bolt": newBolt, "shared": newShared,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, open(t, o)) })
		})
	}
}

// house is a directory with its store, for tests that look at both.
type house struct {
	*denizen.Directory
	store store.Store
}

// inHouses runs a test in virtual time over each kind of store, as inVirtualTime does.
func inHouses(t *testing.T, o denizen.Options, test func(t *testing.T, h *house)) {
	t.Helper()
	stores := []struct {
		name string
		open func(t *testing.T) store.Store
	}{
		{"memory", func(*testing.T) store.Store { return memory.New() }},
		{"bolt", func(t *testing.T) store.Store {
			s, err := bolt.Open(context.Background(), filepath.Join(long.Dir(t), "people.db"), bolt.Options{})
			require.NoError(t, err)
			return s
		}},
		{"shared", func(*testing.T) store.Store { return shared{memory.New()} }},
	}
	for _, kind := range stores {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kind.open(t)
				test(t, &house{newOver(t, s, o), s})
			})
		})
	}
}

// as returns a user's principal.
func (h *house) as(t testing.TB, user denizen.UserID) denizen.Principal {
	t.Helper()
	by, err := h.ActAs(context.Background(), denizen.System(), user)
	require.NoError(t, err)
	return by
}

// create creates a user with locators.
func (h *house) create(t testing.TB, id denizen.UserID, locators ...denizen.NewLocator) denizen.User {
	t.Helper()
	u, err := h.CreateUser(context.Background(), denizen.System(), denizen.NewUser{ID: id, ScreenName: "Somebody", Locators: locators})
	require.NoError(t, err)
	return u
}

// requireField requires an error to be a refusal of a kind, for a field.
func requireField(t testing.TB, err, kind error, field string) {
	t.Helper()
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, err, kind)
	require.Equal(t, field, e.Field, "%v", err)
}

// overReopening runs a test in virtual time with a place that a directory can be opened in
// again after it was closed.
func overReopening(t *testing.T, test func(t *testing.T, open func(denizen.Options) *denizen.Directory)) {
	t.Helper()
	bubble := func(name string, opener func(t *testing.T) func(denizen.Options) (*denizen.Directory, error)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := opener(t)
				test(t, func(o denizen.Options) *denizen.Directory {
					d, err := open(o)
					require.NoError(t, err)
					t.Cleanup(func() { require.NoError(t, d.Close()) })
					return d
				})
			})
		})
	}
	over := func(s store.Store) func(denizen.Options) (*denizen.Directory, error) {
		return func(o denizen.Options) (*denizen.Directory, error) { return denizen.New(context.Background(), s, o) }
	}
	bubble("memory", func(*testing.T) func(denizen.Options) (*denizen.Directory, error) { return over(memory.New()) })
	bubble("shared", func(*testing.T) func(denizen.Options) (*denizen.Directory, error) { return over(shared{memory.New()}) })
	bubble("bolt", func(t *testing.T) func(denizen.Options) (*denizen.Directory, error) {
		path := filepath.Join(long.Dir(t), "people.db")
		return func(o denizen.Options) (*denizen.Directory, error) {
			return denizen.Open(context.Background(), path, o)
		}
	})
}

// method is an exported method of Directory that takes a principal, how to call it about a
// user, and the row of the access table that it belongs to.
type method struct {
	name  string
	row   string
	about bool // it is about the user it is given
	call  func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error
}

// methods calls every such method in a way that succeeds for whoever may, in a new world.
var methods = []method{
	{"ActAs", "act as a user", false, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.ActAs(ctx, by, user)
		return err
	}},
	{"Check", "ask whether it still stands", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Check(ctx, by)
	}},
	{"ResolveUser", "resolve a reference", false, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.ResolveUser(ctx, by, string(user))
		return err
	}},
	{"CreateUser", "create a user", false, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.CreateUser(ctx, by, denizen.NewUser{
			ID: "carol-of-the-world", ScreenName: "Carol", Locators: []denizen.NewLocator{denizen.Email("carol@example.org")},
			Attributes:  []denizen.Attribute{{Key: usedAttribute, Value: "of Carol"}},
			Idempotency: denizen.Idempotency{Key: "once", Digest: "carol"},
		})
		return err
	}},
	{"User", "read a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.User(ctx, by, user)
		return err
	}},
	{"UsersByID", "read a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.UsersByID(ctx, by, []denizen.UserID{user})
		return err
	}},
	{"Users", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Users(ctx, by, denizen.UserQuery{})
		return err
	}},
	{"AllUsers", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		for _, err := range w.AllUsers(ctx, by) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"CountUsers", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.CountUsers(ctx, by)
		return err
	}},
	{"UsersByLocator", "find users by locator", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.UsersByLocator(ctx, by, []string{"email:alice@example.org", "email:nobody@example.org"})
		return err
	}},
	{"SetScreenName", "set the screen name", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetScreenName(ctx, by, user, "Another")
		return err
	}},
	{"BlockUser", "block or unblock a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.BlockUser(ctx, by, user, denizen.Block{})
		return err
	}},
	{"UnblockUser", "block or unblock a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.UnblockUser(ctx, by, user)
		return err
	}},
	{"DeleteUser", "delete a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.DeleteUser(ctx, by, user)
	}},
	{"MergeUsers", "merge two users", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.MergeUsers(ctx, by, user, w.bob, denizen.MergePolicy{Alias: denizen.Forever})
		return err
	}},
	{"MoveLocator", "move a locator to another user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.MoveLocator(ctx, by, user, w.owned.ID, w.bob)
		return err
	}},
	{"RevealLocator", "vouch for a locator, or reveal it", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.RevealLocator(ctx, by, user, w.owned.ID)
		return err
	}},
	{"EraseUser", "erase a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.EraseUser(ctx, by, user)
		return err
	}},
	{"ExportUser", "export a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.ExportUser(ctx, by, user, io.Discard)
	}},
	{"Locators", "read locators", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Locators(ctx, by, user)
		return err
	}},
	{"Locator", "read locators", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Locator(ctx, by, user, w.owned.ID)
		return err
	}},
	{"AddLocator", "add a locator", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.AddLocator(ctx, by, user, denizen.Email("added@example.org"))
		return err
	}},
	{"ReplaceLocator", "add a locator", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.ReplaceLocator(ctx, by, user, w.handle.ID, denizen.NewLocator{Locator: "handle:lissy"})
		return err
	}},
	{"CheckLocators", "bring locators to another rule", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return drained(w.CheckLocators(ctx, by))
	}},
	{"RekeyLocators", "bring locators to another rule", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return drained(w.RekeyLocators(ctx, by))
	}},
	{"RemoveLocator", "remove a locator", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.RemoveLocator(ctx, by, user, w.owned.ID)
	}},
	{"SetLocators", "set all locators", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetLocators(ctx, by, user, []denizen.NewLocator{denizen.Email("set@example.org"), denizen.Email("alice@example.com")})
		return err
	}},
	{"SetVerification", "vouch for a locator, or reveal it", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetVerification(ctx, by, user, w.claim.ID, denizen.Verified)
		return err
	}},
	{"Locate", "find users by locator", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Locate(ctx, by, "email:alice@example.org")
		return err
	}},
	{"ProveLocator", "prove a locator", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.ProveLocator(ctx, by, "email:proved@example.org", denizen.NewUser{ScreenName: "Newcomer"})
		return err
	}},
	{"CancelUndo", "cancel an undo", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.CancelUndo(ctx, by, user)
	}},
	{"DefineAttribute", "define an attribute or drop a definition", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.DefineAttribute(ctx, by, denizen.AttributeDef{Key: "hat size"})
		return err
	}},
	{"DropAttributeDef", "define an attribute or drop a definition", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.DropAttributeDef(ctx, by, unusedAttribute)
	}},
	{"AttributeDef", "read definitions", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.AttributeDef(ctx, by, usedAttribute)
		return err
	}},
	{"AttributeDefs", "read definitions", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.AttributeDefs(ctx, by)
		return err
	}},
	{"Profile", "read the profile", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Profile(ctx, by, user)
		return err
	}},
	{"Attributes", "read the profile", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Attributes(ctx, by, user, []string{usedAttribute})
		return err
	}},
	{"SetAttribute", "write the profile", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetAttribute(ctx, by, user, denizen.Attribute{Key: unusedAttribute, Value: "43"})
		return err
	}},
	{"SetAttributes", "write the profile", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetAttributes(ctx, by, user, []denizen.Attribute{{Key: unusedAttribute, Value: "43"}}, denizen.Replace)
		return err
	}},
	{"RemoveAttribute", "write the profile", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.RemoveAttribute(ctx, by, user, usedAttribute)
	}},
	{"Presence", "read presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Presence(ctx, by, user)
		return err
	}},
	{"Presences", "read presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Presences(ctx, by, []denizen.UserID{user})
		return err
	}},
	{"SetPresence", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.SetPresence(ctx, by, user, denizen.Away())
	}},
	{"Devices", "list devices", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Devices(ctx, by, user)
		return err
	}},
	{"SetPresenceHidden", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.SetPresenceHidden(ctx, by, user, true)
	}},
	{"WatchPresence", "watch presences, each as it may be read", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		for _, err := range w.WatchPresence(ctx, by, []denizen.UserID{w.alice}) {
			return err
		}
		return nil
	}},
	{"LastActive", "read the last activity", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.LastActive(ctx, by, []denizen.UserID{user})
		return err
	}},
	{"Present", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Present(ctx, by, denizen.PresentQuery{})
		return err
	}},
	{"CountPresent", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.CountPresent(ctx, by)
		return err
	}},
	{"ClearPresence", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.ClearPresence(ctx, by, user, "")
	}},
	{"ClearAllPresence", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.ClearAllPresence(ctx, by, user)
	}},
	{"IssueToken", "issue a token", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.IssueToken(ctx, by, user, denizen.TokenOptions{})
		return err
	}},
	{"Tokens", "list tokens", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Tokens(ctx, by, user)
		return err
	}},
	{"ExtendToken", "extend a token", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.ExtendToken(ctx, by, user, w.otherToken, 48*time.Hour)
		return err
	}},
	{"RevokeTokens", "revoke tokens", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.RevokeTokens(ctx, by, user, w.otherToken)
	}},
	{"RevokeAllTokens", "revoke tokens", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.RevokeAllTokens(ctx, by, user)
	}},
	{"Logout", "log out", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Logout(ctx, by)
	}},
	{"CreateAccessKey", "manage access keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.CreateAccessKey(ctx, by)
		return err
	}},
	{"PutAccessKey", "manage access keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.PutAccessKey(ctx, by, "brought-along", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	}},
	{"AccessKeys", "manage access keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.AccessKeys(ctx, by)
		return err
	}},
	{"DeleteAccessKey", "manage access keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.DeleteAccessKey(ctx, by, w.key.Key)
	}},
	{"RevokeTokensIssuedBy", "manage access keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.RevokeTokensIssuedBy(ctx, by, w.key.Key)
		return err
	}},
	{"RotateSigningKey", "rotate or drop signing keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.RotateSigningKey(ctx, by, 0)
	}},
	{"DropSigningKey", "rotate or drop signing keys", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.DropSigningKey(ctx, by, w.announced)
	}},
	{"Events", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		for _, err := range w.Events(ctx, by, "") {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"Follow", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return waitForEvents(ctx, w.Directory, by, "")
	}},
	{"Head", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Head(ctx, by)
		return err
	}},
	{"Notify", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err := w.Notify(ctx, by, "indexer", func(context.Context, []denizen.Event) error {
			cancel()
			return nil
		})
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}},
	{"Consumers", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Consumers(ctx, by)
		return err
	}},
	{"ResetConsumer", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.ResetConsumer(ctx, by, "indexer", "")
	}},
	{"DeleteConsumer", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		err := w.DeleteConsumer(ctx, by, "indexer")
		if errors.Is(err, denizen.ErrNotFound) {
			return nil
		}
		return err
	}},
	{"RecentEvents", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.RecentEvents(ctx, by, denizen.EventQuery{})
		return err
	}},
	{"TrimFeed", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.TrimFeed(ctx, by, 1)
	}},
	{"Health", "ask how the directory fares", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Health(ctx, by)
	}},
	{"Stats", "ask how the directory fares", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Stats(ctx, by)
		return err
	}},
	{"Backup", "back up, verify and rekey", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.Backup(ctx, by, io.Discard)
		if errors.Is(err, denizen.ErrInvalid) { // it is in no file
			return nil
		}
		return err
	}},
	{"Compact", "back up, verify and rekey", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		err := w.Compact(ctx, by)
		if errors.Is(err, denizen.ErrInvalid) { // it is in no file
			return nil
		}
		return err
	}},
	{"Rekey", "back up, verify and rekey", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Rekey(ctx, by)
	}},
}

// listing is a store that tells how much it was asked for at once.
type listing struct {
	*memory.Store
	most int
}

func (s *listing) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	records, err := s.Store.List(ctx, r)
	bytes := 0
	for _, found := range records {
		bytes += len(found.Value)
	}
	s.most = max(s.most, bytes)
	return records, err
}

// inTx is the directory seen through a transaction.
func inTx(t testing.TB, d *denizen.Directory, s store.Store) *denizen.Directory {
	t.Helper()
	over, err := d.InTx(s)
	require.NoError(t, err)
	return over
}
