package signin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/postgres"
)

const serverEnv = "DENIZEN_POSTGRES"

var (
	ctx = context.Background()
	sys = denizen.System()
)

const (
	alice   = "alice-01"
	mallory = "mallory-1"
	victims = "email:victim@example.org"
)

// desk is a directory whose people sign in, with what they are sent.
type desk struct {
	*signin.Service
	dir   *denizen.Directory
	store store.Store
	clock *clock.Clock  // the directory's
	ahead *atomic.Int64 // of the machine's clock, in nanoseconds

	mu   sync.Mutex
	sent []signin.Delivery // guarded by mu
	fail func(signin.Delivery) error
	lost []signin.Delivery // guarded by mu
}

// newcomers is the option that creates whoever is new.
func newcomers() denizen.NewUser { return denizen.NewUser{ScreenName: "Newcomer"} }

// newDesk opens a directory in a store and a service for it, closed with the test.
func newDesk(t testing.TB, s store.Store, change ...func(*signin.Options)) *desk {
	t.Helper()
	k := &desk{store: s, ahead: new(atomic.Int64)}
	began := time.Now()
	k.clock = clock.New(func() (wall, mono int64) {
		ahead := k.ahead.Load()
		return time.Now().UnixNano() + ahead, int64(time.Since(began)) + ahead
	})
	var err error
	k.dir, err = denizen.New(clock.With(ctx, k.clock), s, denizen.Options{})
	require.NoError(t, err)
	o := signin.Options{
		Newcomer: newcomers, Link: "https://app.example.org/sign-in/link",
		Undo:    "https://app.example.org/sign-in/undo",
		Deliver: k.deliver, Undelivered: k.undelivered,
	}
	for _, f := range change {
		f(&o)
	}
	k.Service, err = signin.New(k.dir, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, k.Close())
		require.NoError(t, k.dir.Close())
	})
	return k
}

func (k *desk) deliver(_ context.Context, d signin.Delivery) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		if err := k.fail(d); err != nil {
			return err
		}
	}
	k.sent = append(k.sent, d)
	return nil
}

func (k *desk) undelivered(d signin.Delivery, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = append(k.lost, d)
}

// deliveries returns how many messages were delivered.
func (k *desk) deliveries() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sent)
}

// awaitSent waits for the n-th delivery.
func (k *desk) awaitSent(t testing.TB, n int) signin.Delivery {
	t.Helper()
	require.Eventually(t, func() bool { return k.deliveries() >= n }, 20*time.Second, time.Millisecond)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent[n-1]
}

// awaitIn waits for a delivery in a language.
func (k *desk) awaitIn(t testing.TB, language string) (d signin.Delivery) {
	t.Helper()
	require.Eventually(t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		i := slices.IndexFunc(k.sent, func(d signin.Delivery) bool { return d.Language == language })
		if i >= 0 {
			d = k.sent[i]
		}
		return i >= 0
	}, 20*time.Second, time.Millisecond)
	return d
}

// asks starts a sign-in and returns its handle and what was sent.
func (k *desk) asks(t testing.TB, r signin.Request) (proof string, d signin.Delivery) {
	t.Helper()
	n := k.deliveries()
	proof, err := k.Start(ctx, sys, r)
	require.NoError(t, err)
	return proof, k.awaitSent(t, n+1)
}

// claims starts to verify a claim and returns the handle and what was sent.
func (k *desk) claims(t testing.TB, as denizen.Principal, id denizen.LocatorID) (proof string, d signin.Delivery) {
	t.Helper()
	n := k.deliveries()
	proof, err := k.StartVerify(ctx, as, id, "de")
	require.NoError(t, err)
	return proof, k.awaitSent(t, n+1)
}

// enters signs somebody in.
func (k *desk) enters(t testing.TB, locator string) signin.SignedIn {
	t.Helper()
	proof, d := k.asks(t, signin.Request{Locator: locator, Client: rand.Text()})
	in, err := k.Finish(ctx, sys, proof, d.Code)
	require.NoError(t, err)
	return in
}

// create creates a user with locators.
func (k *desk) create(t testing.TB, id denizen.UserID, locators ...denizen.NewLocator) denizen.User {
	t.Helper()
	u, err := k.dir.CreateUser(ctx, sys, denizen.NewUser{ID: id, ScreenName: "Somebody", Locators: locators})
	require.NoError(t, err)
	return u
}

// login issues a token for a user and authenticates it.
func (k *desk) login(t testing.TB, user denizen.UserID) denizen.Principal {
	t.Helper()
	issued, err := k.dir.IssueToken(ctx, sys, user, denizen.TokenOptions{})
	require.NoError(t, err)
	by, err := k.dir.Authenticate(ctx, issued.Signed)
	require.NoError(t, err)
	return by
}

// claim adds a locator to a user as a pending claim of its own.
func (k *desk) claim(t testing.TB, as denizen.Principal, locator string) denizen.LocatorID {
	t.Helper()
	l, err := k.dir.AddLocator(ctx, as, as.User(), denizen.NewLocator{Locator: locator})
	require.NoError(t, err)
	require.False(t, l.Owned)
	return l.ID
}

// stored returns the records of a kind, by a function that picks them.
func stored[R any](t testing.TB, s store.Store) (found []R) {
	t.Helper()
	for _, r := range invariant.Of(t, s).Records {
		value, err := record.Decode(r.Key, r.Value)
		require.NoError(t, err)
		if v, ok := value.(R); ok {
			found = append(found, v)
		}
	}
	return found
}

// holds reports whether any record, its key or an event holds a text.
func holds(t testing.TB, s store.Store, text string) bool {
	t.Helper()
	all := invariant.Of(t, s)
	for _, r := range all.Records {
		if strings.Contains(string(r.Key), text) || bytes.Contains(r.Value, []byte(text)) {
			return true
		}
	}
	for _, c := range all.Feed.Changes {
		if bytes.Contains(c.Event, []byte(text)) {
			return true
		}
	}
	return false
}

// stores opens a store of each kind.
var stores = map[string]func(testing.TB) store.Store{
	"memory": newMemory, "bolt": newBolt, "postgres": newPostgres,
}

// bytesOf has functions that return all the bytes of a store, by the store. One in memory has none: all
// of it is in its records and events.
var bytesOf sync.Map

// shows returns which of texts a store holds anywhere, as they are or encoded.
func shows(t testing.TB, s store.Store, texts ...string) []string {
	t.Helper()
	found := invariant.Traces(t, s, texts...)
	if all, ok := bytesOf.Load(s); ok {
		for _, text := range invariant.TracesIn(all.(func() []byte)(), texts...) {
			if !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	return found
}

// overStores runs a test over each kind of store.
func overStores(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Helper()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// overDesks runs a test over each kind of store, and checks the store after it.
func overDesks(t *testing.T, test func(t *testing.T, k *desk), change ...func(*signin.Options)) {
	t.Helper()
	overStores(t, func(t *testing.T, s store.Store) {
		k := newDesk(t, s, change...)
		test(t, k)
		require.NoError(t, k.Close())
		invariant.Check(t, s)
	})
}

func newMemory(t testing.TB) store.Store {
	t.Helper()
	return memory.New()
}

func newBolt(t testing.TB) store.Store {
	t.Helper()
	path := filepath.Join(long.Dir(t), "people.db")
	s, err := bolt.Open(ctx, path, bolt.Options{})
	require.NoError(t, err)
	bytesOf.Store(s, func() []byte {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return content
	})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func newPostgres(t testing.TB) store.Store {
	t.Helper()
	dsn := os.Getenv(serverEnv)
	if dsn == "" {
		t.Skip(serverEnv + " is not set")
	}
	pool, err := pgxpool.New(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	name := "signin_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		_, err := pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE")
		require.NoError(t, err)
	})
	s, err := postgres.Open(ctx, pool, postgres.Options{Schema: name})
	require.NoError(t, err)
	bytesOf.Store(s, func() []byte {
		var content []byte
		for _, table := range []string{"records", "changes"} {
			rows, err := pool.Query(ctx, "SELECT t::text FROM "+name+"."+table+" t")
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.NotEmpty(t, lines)
			content = append(content, strings.Join(lines, "\n")...)
		}
		return content
	})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// requireField requires an error to be a refusal of a kind, for a field.
func requireField(t testing.TB, err, kind error, field string) *denizen.Error {
	t.Helper()
	e, ok := errors.AsType[*denizen.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, err, kind)
	require.Equal(t, field, e.Field, "%v", err)
	return e
}

// requireRefused requires an error to be what a code that is not good is answered with.
func requireRefused(t testing.TB, err error) {
	t.Helper()
	requireField(t, err, denizen.ErrDenied, "proof")
}
