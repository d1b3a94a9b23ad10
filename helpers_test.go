package denizen_test

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
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
	s, err := bolt.Open(context.Background(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
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

// dump is all that a store holds.
type dump struct {
	Records []store.Record
	Feed    store.Feed
}

func dumpOf(t testing.TB, s store.Store) dump {
	t.Helper()
	ctx := context.Background()
	var all dump
	for r := (store.Range{Limit: store.MaxPage}); ; {
		page, err := s.List(ctx, r)
		require.NoError(t, err)
		all.Records = append(all.Records, page...)
		if len(page) < r.Limit {
			break
		}
		r.After = page[len(page)-1].Key
	}
	feed, err := s.Changes(ctx, 0, store.MaxPage)
	if err != nil {
		require.ErrorIs(t, err, store.ErrMissed)
		feed, err = s.Changes(ctx, feed.First-1, store.MaxPage)
		require.NoError(t, err)
	}
	all.Feed = feed
	return all
}

// checkInvariants holds all that a store holds to what is true of a directory at rest: each
// locator has one owner and what is indexed is what is listed, both ways; so are tokens and
// what their texts stand for, and attributes and their uses; nothing is left of anybody who
// is gone. No directory may be writing to s meanwhile.
func checkInvariants(t testing.TB, s store.Store) {
	t.Helper()
	all := dumpOf(t, s)
	users := map[string]*record.User{}
	owners := map[store.Key]*record.Owner{}
	grants := map[store.Key]*record.Grant{}
	tokens := map[string]*record.Tokens{}
	profiles := map[string]*record.Profile{}
	uses := map[store.Key]*record.Use{}
	definitions := map[string]*record.Definition{}
	devices := map[string]*record.Devices{}
	lastUses := map[string]*record.Uses{}
	directories, rings := 0, 0
	for _, r := range all.Records {
		require.NotZero(t, r.Version)
		require.LessOrEqual(t, r.Version, all.Feed.Head, "a version above the head")
		value, err := record.Decode(r.Key, r.Value)
		require.NoError(t, err, "key %q: %s", r.Key, r.Value)
		want := r.Key
		switch v := value.(type) {
		case *record.Directory:
			directories++
			want = record.DirectoryKey
		case *record.SigningKeys:
			rings++
			want = record.SigningKeysKey
			require.NotEmpty(t, v.Keys)
		case *record.AccessKeys:
			want = record.AccessKeysKey
			require.NotEmpty(t, v.Keys)
			require.LessOrEqual(t, len(v.Keys), denizen.MaxAccessKeys)
			requireDistinct(t, v.Keys, func(k record.AccessKey) string { return k.Key })
			requireDistinct(t, v.Keys, func(k record.AccessKey) string { return k.Incarnation })
		case *record.User:
			users[v.ID] = v
			want = record.UserKey(v.ID)
		case *record.Owner:
			owners[r.Key] = v
			want = record.OwnerKey(v.Locator)
		case *record.Grant:
			grants[r.Key] = v
			want = grantKey(t, v.Digest)
		case *record.Tokens:
			tokens[v.User] = v
			want = record.TokensKey(v.User)
		case *record.Profile:
			profiles[v.User] = v
			want = record.ProfileKey(v.User)
		case *record.Use:
			uses[r.Key] = v
			want = record.UseKey(v.Attribute, v.User)
		case *record.Definition:
			definitions[v.Key] = v
			want = record.DefinitionKey(v.Key)
		case *record.Devices:
			devices[v.User] = v
			want = record.DevicesKey(v.User)
		case *record.Uses:
			lastUses[v.User] = v
			want = record.UsesKey(v.User)
		}
		require.Equal(t, want, r.Key, "a record lies under the key of another: %s", r.Value)
	}
	if len(all.Records) > 0 {
		require.Equal(t, []int{1, 1}, []int{directories, rings}, "directory and key ring")
	}
	stands := func(what, user, incarnation string) *record.User {
		u := users[user]
		require.NotNil(t, u, "%s of %s, who is gone", what, user)
		require.Equal(t, u.Incarnation, incarnation, "%s of an earlier %s", what, user)
		return u
	}

	incarnations := map[string]string{}
	ownedKeys := map[store.Key]bool{}
	for id, u := range users {
		require.Empty(t, incarnations[u.Incarnation], "two users of one incarnation")
		incarnations[u.Incarnation] = id
		require.LessOrEqual(t, len(u.Locators), denizen.MaxLocators)
		requireDistinct(t, u.Locators, func(l record.Locator) string { return l.ID })
		requireDistinct(t, u.Locators, func(l record.Locator) string { return l.Type + ":" + l.Canonical })
		for _, l := range u.Locators {
			if !l.Owned {
				require.NotEqual(t, string(denizen.Verified), l.Status, "a claim of %s is verified", id)
				continue
			}
			key := record.OwnerKey(l.Type + ":" + l.Canonical)
			require.False(t, ownedKeys[key], "a locator of %s has two owners", id)
			ownedKeys[key] = true
			o := owners[key]
			require.NotNil(t, o, "a locator of %s is not indexed", id)
			require.Equal(t, []string{id, u.Incarnation}, []string{o.User, o.Incarnation}, "a locator is indexed for another")
		}
	}
	for key := range owners {
		require.True(t, ownedKeys[key], "an indexed locator is nobody's: %q", key)
	}

	listed := map[store.Key]bool{}
	for id, r := range tokens {
		require.False(t, stands("tokens", id, r.Incarnation).Blocked, "%s is blocked and has tokens", id)
		require.NotEmpty(t, r.Tokens)
		require.LessOrEqual(t, len(r.Tokens), denizen.MaxTokens)
		requireDistinct(t, r.Tokens, func(t record.Token) string { return t.ID })
		for _, token := range r.Tokens {
			require.NotEmpty(t, token.Texts)
			require.LessOrEqual(t, len(token.Texts), denizen.MaxTokenTexts)
			for _, text := range token.Texts {
				key := grantKey(t, text.Digest)
				require.False(t, listed[key], "a text is listed twice")
				listed[key] = true
				require.Equal(t, &record.Grant{
					Digest: text.Digest, User: id, Incarnation: r.Incarnation, Token: token.ID, Expires: text.Expires,
				}, grants[key], "what a listed text of %s stands for", id)
			}
		}
	}
	for key, g := range grants {
		require.True(t, listed[key], "a text of %s is good and not listed", g.User)
	}

	used := map[store.Key]bool{}
	for id, r := range profiles {
		stands("a profile", id, r.Incarnation)
		require.NotEmpty(t, r.Attributes)
		require.True(t, slices.IsSortedFunc(r.Attributes, func(a, b record.Attribute) int { return cmp.Compare(a.Key, b.Key) }))
		requireDistinct(t, r.Attributes, func(a record.Attribute) string { return a.Key })
		for _, a := range r.Attributes {
			key := record.UseKey(a.Key, id)
			used[key] = true
			require.NotNil(t, uses[key], "the use of %q by %s is not kept", a.Key, id)
			require.NotNil(t, definitions[a.Key], "%q of %s has no definition", a.Key, id)
		}
	}
	for key, u := range uses {
		require.True(t, used[key], "%s is said to use %q", u.User, u.Attribute)
	}

	for id, r := range devices {
		stands("presence", id, r.Incarnation)
		require.NotEmpty(t, r.Devices)
		require.LessOrEqual(t, len(r.Devices), 16)
	}
	for id := range lastUses {
		require.True(t, id == "" || tokens[id] != nil, "last uses of %s, who has no tokens", id)
	}

	// The feed tells of the users that there are, if nothing of it was forgotten.
	if all.Feed.First > 1 {
		return
	}
	told := map[string]string{}
	for _, c := range all.Feed.Changes {
		e, err := record.DecodeEvent(c.Event)
		require.NoError(t, err)
		switch e.What {
		case denizen.UserCreated:
			require.Empty(t, told[e.User], "%s was created twice", e.User)
			told[e.User] = e.Incarnation
		case denizen.UserDeleted:
			require.Equal(t, told[e.User], e.Incarnation, "%s was deleted but not created", e.User)
			delete(told, e.User)
		}
	}
	if len(all.Feed.Changes) < store.MaxPage {
		there := map[string]string{}
		for id, u := range users {
			there[id] = u.Incarnation
		}
		require.Equal(t, told, there, "the feed tells of other users")
	}
}

func grantKey(t testing.TB, digest string) store.Key {
	t.Helper()
	raw, err := hex.DecodeString(digest)
	require.NoError(t, err)
	require.Len(t, raw, 32)
	return record.GrantKey([32]byte(raw))
}

func requireDistinct[T any](t testing.TB, list []T, of func(T) string) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range list {
		require.NotEmpty(t, of(v))
		require.False(t, seen[of(v)], "%q is there twice", of(v))
		seen[of(v)] = true
	}
}

// world is a small directory with two users who have some of everything, for tests that try
// every method: Alice, whom things are done to, and Bob, her peer.
type world struct {
	*denizen.Directory
	inner store.Store // without what was wrapped around it
	calls *counting

	alice, bob       denizen.UserID
	byAlice, byBob   denizen.Principal
	signed           string // the text of Alice's token that byAlice came with
	otherSigned      string // of another, which nobody authenticated yet
	otherToken       denizen.TokenID
	owned, claim     denizen.Locator // of Alice; the claim is pending
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

// newWorld fills a store in memory. wrap, if it is not nil, answers what the directory sees
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
	if o.PresenceFlush == 0 {
		o.PresenceFlush = time.Hour // nothing is written behind the test's back
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
	for e, err := range w.Changes(ctx, sys, 0) {
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
	locators, err := w.Locators(ctx, sys, w.alice)
	require.NoError(t, err)
	w.owned = locators[0]
	for _, u := range []denizen.UserID{w.alice, w.bob} {
		require.NoError(t, w.SetPresence(ctx, sys, u, denizen.Online(time.Hour).Then(denizen.Offline())))
	}
	checkInvariants(t, inner)
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

// eventsAfter answers the events after a place.
func eventsAfter(t testing.TB, d *denizen.Directory, after denizen.Seq) []denizen.Event {
	t.Helper()
	var events []denizen.Event
	for e, err := range d.Changes(context.Background(), denizen.System(), after) {
		require.NoError(t, err)
		events = append(events, e)
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
			s, err := bolt.Open(context.Background(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
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

// as answers a user's principal.
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
		path := filepath.Join(t.TempDir(), "people.db")
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
	{"Resolve", "resolve a reference", false, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Resolve(ctx, by, string(user))
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
	{"Users", "read a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.Users(ctx, by, user)
		return err
	}},
	{"UserPage", "list and count users", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		_, err := w.UserPage(ctx, by, denizen.Query{})
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
		_, err := w.UsersByLocator(ctx, by, "email:alice@example.org", "email:nobody@example.org")
		return err
	}},
	{"SetScreenName", "set the screen name", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetScreenName(ctx, by, user, "Another")
		return err
	}},
	{"BlockUser", "block or unblock a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.BlockUser(ctx, by, user)
		return err
	}},
	{"UnblockUser", "block or unblock a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.UnblockUser(ctx, by, user)
		return err
	}},
	{"DeleteUser", "delete a user", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.DeleteUser(ctx, by, user)
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
	{"RemoveLocator", "remove a locator", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.RemoveLocator(ctx, by, user, w.owned.ID)
	}},
	{"SetLocators", "set all locators", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetLocators(ctx, by, user, []denizen.NewLocator{denizen.Email("set@example.org"), denizen.Email("alice@example.com")})
		return err
	}},
	{"SetVerification", "vouch for a locator", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		_, err := w.SetVerification(ctx, by, user, w.claim.ID, denizen.Verified)
		return err
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
		_, err := w.Attributes(ctx, by, user, usedAttribute)
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
		_, err := w.Presences(ctx, by, user)
		return err
	}},
	{"SetPresence", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.SetPresence(ctx, by, user, denizen.Away())
	}},
	{"ClearPresence", "set or clear presence", true, func(ctx context.Context, w *world, by denizen.Principal, user denizen.UserID) error {
		return w.ClearPresence(ctx, by, user)
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
	{"Changes", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		for _, err := range w.Changes(ctx, by, 0) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"Wait", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Wait(ctx, by, 0)
	}},
	{"Trim", "follow and trim the feed", false, func(ctx context.Context, w *world, by denizen.Principal, _ denizen.UserID) error {
		return w.Trim(ctx, by, 1)
	}},
}
