package spec_test

import (
	"context"
	crand "crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store/postgres"
)

// requirePostgres skips what DENIZEN_POSTGRES is not set for.
func requirePostgres(t testing.TB) {
	if postgresDSN() == "" {
		t.Skip("DENIZEN_POSTGRES is not set")
	}
}

// pool is the one pool of these tests.
var pool = sync.OnceValue(func() *pgxpool.Pool {
	p, err := pgxpool.New(context.Background(), postgresDSN())
	if err != nil {
		panic(err)
	}
	return p
})

var schemas struct {
	sync.Mutex
	names []string
}

// newSchema returns a schema's name that no other test has. It is dropped at the end.
func newSchema() string {
	schemas.Lock()
	defer schemas.Unlock()
	name := "spec_" + strings.ToLower(crand.Text())
	schemas.names = append(schemas.names, name)
	return name
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, name := range schemas.names {
		if _, err := pool().Exec(context.Background(), "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}

// process is what one process has of a directory in PostgreSQL: its own pool, store and clock.
type process struct {
	*denizen.Directory
	store *postgres.Store
	pool  *pgxpool.Pool
}

func newProcess(t *testing.T, schema string, o denizen.Options, ahead time.Duration) *process {
	t.Helper()
	return newProcessThatWaits(t, schema, o, ahead, time.Minute) // longer than any that compete here
}

func newProcessThatWaits(t *testing.T, schema string, o denizen.Options, ahead, lockTimeout time.Duration) *process {
	t.Helper()
	requirePostgres(t)
	own, err := pgxpool.New(t.Context(), postgresDSN())
	require.NoError(t, err)
	t.Cleanup(own.Close)
	s, err := postgres.Open(t.Context(), own, postgres.Options{Schema: schema, LockTimeout: lockTimeout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	start := time.Now()
	d, err := denizen.New(clock.With(t.Context(), clock.New(func() (wall, mono int64) {
		return time.Now().Add(ahead).UnixNano(), int64(time.Since(start))
	})), s, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return &process{d, s, own}
}

func newProcesses(t *testing.T, o denizen.Options, ahead ...time.Duration) (ps []*process) {
	requirePostgres(t)
	schema := newSchema()
	for _, a := range ahead {
		ps = append(ps, newProcess(t, schema, o, a))
	}
	return ps
}

var system = denizen.System()

// alice creates a user with a token.
func (p *process) alice(t *testing.T) (denizen.UserID, denizen.IssuedToken) {
	t.Helper()
	u, err := p.CreateUser(t.Context(), system, denizen.NewUser{
		ID: "alice-0001", ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	})
	require.NoError(t, err)
	token, err := p.IssueToken(t.Context(), system, u.ID, denizen.TokenOptions{TTL: time.Hour})
	require.NoError(t, err)
	return u.ID, token
}

func TestWhatOneProcessEndsAnotherRefuses(t *testing.T) {
	for name, end := range map[string]func(p *process, id denizen.UserID, token denizen.TokenID) error{
		"revoke": func(p *process, id denizen.UserID, token denizen.TokenID) error {
			return p.RevokeTokens(ctx, system, id, token)
		},
		"block": func(p *process, id denizen.UserID, _ denizen.TokenID) error {
			_, err := p.BlockUser(ctx, system, id, denizen.Block{})
			return err
		},
		"delete": func(p *process, id denizen.UserID, _ denizen.TokenID) error { return p.DeleteUser(ctx, system, id) },
		"merge": func(p *process, id denizen.UserID, _ denizen.TokenID) error {
			other, err := p.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Other"})
			if err == nil {
				_, err = p.MergeUsers(ctx, system, id, other.ID, denizen.MergePolicy{})
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ps := newProcesses(t, denizen.Options{MaxRevocationDelay: time.Minute}, 0, 0)
			id, token := ps[0].alice(t)
			require.Eventually(t, func() bool { // it follows the feed
				_, err := ps[1].Authenticate(ctx, token.Signed)
				return err == nil
			}, 10*time.Second, time.Millisecond)
			require.NoError(t, end(ps[0], id, token.ID))
			require.Eventually(t, func() bool {
				_, err := ps[1].Authenticate(ctx, token.Signed)
				return errors.Is(err, denizen.ErrRevoked)
			}, 30*time.Second, time.Millisecond)
		})
	}
}

func TestPresenceSetInOneProcessIsReadInAnother(t *testing.T) {
	ps := newProcesses(t, denizen.Options{MaxRevocationDelay: time.Minute}, 0, 0)
	id, _ := ps[0].alice(t)
	for i, state := range []denizen.Presence{denizen.Online(time.Minute), denizen.Away(), denizen.Online(time.Minute), denizen.Online(time.Minute)} {
		set, read := ps[i%2], ps[(i+1)%2]
		require.NoError(t, set.SetPresence(ctx, system, id, state))
		got, err := read.Presence(ctx, system, id)
		require.NoError(t, err)
		require.True(t, state.Equal(got.Presence), "%v", got)
	}
}

func TestProcessesThatRaceForALocatorHaveOneWinner(t *testing.T) {
	ps := newProcesses(t, denizen.Options{}, 0, 0, 0)
	const claims = 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i, p := range ps {
		for range 4 {
			wg.Go(func() {
				for n := range claims {
					_, err := p.CreateUser(ctx, system, denizen.NewUser{
						ScreenName: "Claimer", Locators: []denizen.NewLocator{denizen.Email("n" + strings.Repeat("x", n%60) + string(rune('a'+n/60)) + "@example.org")},
					})
					mu.Lock()
					if err == nil {
						won++
					} else if !errors.Is(err, denizen.ErrTaken) {
						t.Errorf("process %d: %v", i, err)
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	require.Equal(t, claims, won)
	n, err := ps[0].CountUsers(ctx, system)
	require.NoError(t, err)
	require.Equal(t, claims, n)
	invariant.Check(t, ps[0].store)
}

// A process whose clock is ahead or behind by d judges what was stored by another as if it
// were d later or earlier, and never by more.
func TestClocksThatDifferLengthenNothingByMoreThanTheirDifference(t *testing.T) {
	const behind = 5 * time.Minute
	ps := newProcesses(t, denizen.Options{}, 0, -behind, behind)
	now, late, early := ps[0], ps[1], ps[2]
	id, _ := now.alice(t)

	short, err := now.IssueToken(ctx, system, id, denizen.TokenOptions{TTL: 4 * time.Minute})
	require.NoError(t, err)
	_, err = early.Authenticate(ctx, short.Signed)
	require.ErrorIs(t, err, denizen.ErrExpired, "five minutes ahead its four are over")
	_, err = late.Authenticate(ctx, short.Signed)
	require.NoError(t, err)

	require.NoError(t, now.SetPresence(ctx, system, id, denizen.Online(4*time.Minute).Then(denizen.Offline())))
	got, err := early.Presence(ctx, system, id)
	require.NoError(t, err)
	require.Equal(t, denizen.StateOffline, got.Presence.State())
	got, err = late.Presence(ctx, system, id)
	require.NoError(t, err)
	require.Equal(t, denizen.StateOnline, got.Presence.State(), "its start lies ahead there")

	require.NoError(t, late.RevokeTokens(ctx, system, id, short.ID))
	for _, p := range ps {
		_, err = p.Authenticate(ctx, short.Signed)
		require.Error(t, err, "what is revoked no clock revives")
	}
	// What is issued by a clock that is behind ends by that clock, five minutes sooner elsewhere.
	old, err := late.IssueToken(ctx, system, id, denizen.TokenOptions{TTL: 4 * time.Minute})
	require.NoError(t, err)
	_, err = now.Authenticate(ctx, old.Signed)
	require.ErrorIs(t, err, denizen.ErrExpired)
}

func TestAUserAndTheHostsRowAreWrittenTogetherOrNotAtAll(t *testing.T) {
	ps := newProcesses(t, denizen.Options{}, 0, 0)
	p, other := ps[0], ps[1]
	table := pgx.Identifier{"orders_" + strings.ToLower(crand.Text())}.Sanitize()
	_, err := p.pool.Exec(ctx, "CREATE TABLE "+table+" (person text)")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = p.pool.Exec(ctx, "DROP TABLE "+table) })
	order := func(id denizen.UserID, fails bool) error {
		return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
			dir, err := p.InTx(p.store.InTx(tx))
			if err != nil {
				return err
			}
			u, err := dir.CreateUser(ctx, system, denizen.NewUser{ID: id, ScreenName: "Buyer", Locators: []denizen.NewLocator{denizen.Email(string(id) + "@example.org")}})
			if err != nil {
				return err
			}
			if _, err := dir.User(ctx, system, u.ID); err != nil {
				return err // it is seen from within
			}
			if _, err := other.User(ctx, system, u.ID); !errors.Is(err, denizen.ErrNotFound) {
				return errors.New("it was seen from outside")
			}
			if _, err := tx.Exec(ctx, "INSERT INTO "+table+" VALUES ($1)", u.ID); err != nil {
				return err
			}
			if fails {
				return errors.New("the host thought better of it")
			}
			return nil
		})
	}
	rows := func() (n int) {
		require.NoError(t, p.pool.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n))
		return n
	}
	require.NoError(t, order("buyer-0001", false))
	require.Equal(t, 1, rows())
	_, err = other.User(ctx, system, "buyer-0001")
	require.NoError(t, err)
	require.ErrorContains(t, order("buyer-0002", true), "thought better")
	require.Equal(t, 1, rows())
	_, err = other.User(ctx, system, "buyer-0002")
	require.ErrorIs(t, err, denizen.ErrNotFound)
	require.ErrorIs(t, order("buyer-0001", false), denizen.ErrTaken)
	require.Equal(t, 1, rows())
	invariant.Check(t, p.store)
}

// order is how a host writes its own row with a user. It is in docs/from-file-to-postgresql.md.
func order(ctx context.Context, db *pgxpool.Pool, dir *denizen.Directory, people *postgres.Store, buyer denizen.NewUser, item string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		inTx, err := dir.InTx(people.InTx(tx))
		if err != nil {
			return err
		}
		u, err := inTx.CreateUser(ctx, denizen.System(), buyer)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO orders (person, item) VALUES ($1, $2)", u.ID, item)
		return err
	})
}

func TestAnOrderAndItsBuyerAreOfOneTransaction(t *testing.T) {
	p := newProcesses(t, denizen.Options{}, 0)[0]
	_, err := p.pool.Exec(ctx, "DROP TABLE IF EXISTS orders; CREATE TABLE orders (person text, item text NOT NULL CHECK (item <> ''))")
	require.NoError(t, err)
	defer func() { _, _ = p.pool.Exec(ctx, "DROP TABLE orders") }()
	buyer := denizen.NewUser{ID: "buyer-0001", ScreenName: "Buyer"}
	require.Error(t, order(ctx, p.pool, p.Directory, p.store, buyer, ""))
	_, err = p.User(ctx, system, buyer.ID)
	require.ErrorIs(t, err, denizen.ErrNotFound)
	require.NoError(t, order(ctx, p.pool, p.Directory, p.store, buyer, "tea"))
	_, err = p.User(ctx, system, buyer.ID)
	require.NoError(t, err)
}

func TestARefusalLeavesTheHostsTransactionUsable(t *testing.T) {
	p := newProcesses(t, denizen.Options{}, 0)[0]
	id, token := p.alice(t)
	require.NoError(t, pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		dir, err := p.InTx(p.store.InTx(tx))
		require.NoError(t, err)
		_, err = dir.CreateUser(ctx, system, denizen.NewUser{ID: id, ScreenName: "Taken"})
		require.ErrorIs(t, err, denizen.ErrTaken)
		by, err := dir.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		_, err = dir.SetScreenName(ctx, by, id, "Renamed")
		return err
	}))
	u, err := p.User(ctx, system, id)
	require.NoError(t, err)
	require.Equal(t, "Renamed", u.ScreenName)
}

func TestOthersWaitForATransactionAtMostTheLockTimeout(t *testing.T) {
	schema := newSchema()
	ps := []*process{newProcess(t, schema, denizen.Options{}, 0), newProcessThatWaits(t, schema, denizen.Options{}, 0, time.Second)}
	id, _ := ps[0].alice(t)
	tx, err := ps[0].pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	inTx, err := ps[0].InTx(ps[0].store.InTx(tx))
	require.NoError(t, err)
	_, err = inTx.SetScreenName(ctx, system, id, "Held")
	require.NoError(t, err)
	_, err = ps[1].SetScreenName(ctx, system, id, "Waits")
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	_, err = ps[1].User(ctx, system, id)
	require.NoError(t, err, "readers do not wait")
	require.NoError(t, tx.Commit(ctx))
	u, err := ps[0].SetScreenName(ctx, system, id, "Got it")
	require.NoError(t, err)
	require.Equal(t, "Got it", u.ScreenName)
}

func TestTwoDirectoriesOfOneDatabaseKnowNothingOfEachOther(t *testing.T) {
	a, b := newProcesses(t, denizen.Options{}, 0)[0], newProcesses(t, denizen.Options{}, 0)[0]
	id, token := a.alice(t)
	_, err := b.User(ctx, system, id)
	require.ErrorIs(t, err, denizen.ErrNotFound)
	_, err = b.Authenticate(ctx, token.Signed)
	require.ErrorIs(t, err, denizen.ErrUnauthenticated)
	b.alice(t)
}

func postgresDSN() string { return os.Getenv("DENIZEN_POSTGRES") }
