package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestDirectory_OptionsAreJudgedAtOnce(t *testing.T) {
	for _, row := range []struct {
		options denizen.Options
		field   string // empty: good
	}{
		{denizen.Options{}, ""},
		{denizen.Options{ApplicationID: "a"}, ""},
		{denizen.Options{ApplicationID: strings.Repeat("a", 72)}, ""},
		{denizen.Options{ApplicationID: "Az09.-_"}, ""},
		{denizen.Options{ApplicationID: strings.Repeat("a", 73)}, "ApplicationID"},
		{denizen.Options{ApplicationID: "an app"}, "ApplicationID"},
		{denizen.Options{ApplicationID: "app~"}, "ApplicationID"},
		{denizen.Options{ApplicationID: "äpp"}, "ApplicationID"},
		{denizen.Options{ApplicationID: "app\n"}, "ApplicationID"},
		{denizen.Options{RootKeys: [][]byte{make([]byte, 32)}}, ""},
		{denizen.Options{RootKeys: [][]byte{}}, ""},
		{denizen.Options{RootKeys: [][]byte{[]byte(denizen.NoRootKey), make([]byte, 32)}}, ""},
		{denizen.Options{RootKeys: [][]byte{nil}}, "RootKeys"},
		{denizen.Options{RootKeys: [][]byte{make([]byte, 32), {}}}, "RootKeys"},
		{denizen.Options{RootKeys: [][]byte{make([]byte, 32), make([]byte, 32)}}, "RootKeys"},
		{denizen.Options{RootKeys: make([][]byte, 17)}, "RootKeys"},
		{denizen.Options{RootKeys: [][]byte{make([]byte, 31)}}, "RootKeys"},
		{denizen.Options{RootKeys: [][]byte{make([]byte, 33)}}, "RootKeys"},
		{denizen.Options{TokenTTL: time.Second, MaxTokenTTL: time.Second}, ""},
		{denizen.Options{TokenTTL: -time.Second}, "TokenTTL"},
		{denizen.Options{TokenTTL: time.Millisecond}, "TokenTTL"},
		{denizen.Options{TokenTTL: 1500 * time.Millisecond}, "TokenTTL"},
		{denizen.Options{TokenTTL: 2 * time.Hour, MaxTokenTTL: time.Hour}, "TokenTTL"},
		{denizen.Options{TokenTTL: 31 * 24 * time.Hour}, "TokenTTL"},
		{denizen.Options{MaxTokenTTL: time.Minute}, ""},
		{denizen.Options{MaxTokenTTL: -1}, "MaxTokenTTL"},
		{denizen.Options{MaxTokenTTL: time.Second + 1}, "MaxTokenTTL"},
		{denizen.Options{MaxTokenTTL: 10 * 365 * 24 * time.Hour}, ""},
		{denizen.Options{MaxTokenTTL: 10*365*24*time.Hour + time.Second}, "MaxTokenTTL"},
		{denizen.Options{HeartbeatInterval: time.Millisecond}, ""},
		{denizen.Options{HeartbeatInterval: time.Microsecond}, "HeartbeatInterval"},
		{denizen.Options{HeartbeatInterval: -time.Second}, "HeartbeatInterval"},
		{denizen.Options{FeedMaxAge: time.Millisecond}, ""},
		{denizen.Options{FeedMaxAge: -time.Hour}, "FeedMaxAge"},
		{denizen.Options{FeedMaxEvents: 1}, ""},
		{denizen.Options{FeedMaxEvents: -1}, "FeedMaxEvents"},
		{denizen.Options{MaxRevocationDelay: time.Hour}, ""},
		{denizen.Options{MaxRevocationDelay: -time.Second}, "MaxRevocationDelay"},
		{denizen.Options{MaxRevocationDelay: time.Microsecond}, "MaxRevocationDelay"},
		{denizen.Options{MaxRevocationDelay: time.Hour + time.Millisecond}, "MaxRevocationDelay"},
		{denizen.Options{CacheBytes: 16 << 20}, ""},
		{denizen.Options{CacheBytes: -1}, "CacheBytes"},
		{denizen.Options{CacheBytes: 1}, "CacheBytes"},
		{denizen.Options{CacheBytes: 16<<20 - 1}, "CacheBytes"},
		{denizen.Options{UserEventBurst: -1}, "UserEventBurst"},
		{denizen.Options{UserEventInterval: -time.Second}, "UserEventInterval"},
	} {
		s := memory.New()
		d, err := denizen.New(t.Context(), s, row.options)
		if row.field == "" {
			require.NoError(t, err, "%+v", row.options)
			require.NoError(t, d.Close())
			continue
		}
		requireRefused(t, err, "New", denizen.ErrInvalid, row.field)
		require.Nil(t, d)
		require.Zero(t, keyCount(t, s), "a refused directory wrote something")
		path := filepath.Join(t.TempDir(), "people.db")
		_, err = denizen.Open(t.Context(), path, row.options)
		requireRefused(t, err, "Open", denizen.ErrInvalid, row.field)
	}
}

func TestDirectory_ADirectoryKeepsItsIDsAndNoOtherHasThem(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		d := open(denizen.Options{})
		id, app := d.ID(), d.ApplicationID()
		require.NotEmpty(t, id)
		require.NotEmpty(t, app)
		require.NoError(t, d.Close())
		d = open(denizen.Options{})
		require.Equal(t, []string{id, app}, []string{d.ID(), d.ApplicationID()})
		require.NoError(t, d.Close())
		d = open(denizen.Options{ApplicationID: app})
		require.Equal(t, []string{id, app}, []string{d.ID(), d.ApplicationID()})
		other := newMemory(t, denizen.Options{})
		require.NotEqual(t, id, other.ID())
		require.NotEqual(t, app, other.ApplicationID())
	})
}

func TestDirectory_AnotherApplicationIDIsRefused(t *testing.T) {
	for _, s := range []store.Store{memory.New(), shared{memory.New()}} {
		d, err := denizen.New(t.Context(), s, denizen.Options{ApplicationID: "the-app"})
		require.NoError(t, err)
		require.Equal(t, "the-app", d.ApplicationID())
		require.NoError(t, d.Close())
		_, err = denizen.New(t.Context(), s, denizen.Options{ApplicationID: "another-app"})
		requireRefused(t, err, "New", denizen.ErrInvalid, "ApplicationID")
		d, err = denizen.New(t.Context(), s, denizen.Options{}) // not held by the refused one
		require.NoError(t, err)
		require.Equal(t, "the-app", d.ApplicationID())
		require.NoError(t, d.Close())
	}
}

func TestDirectory_ASecondDirectoryOverAStoreForOneIsRefused(t *testing.T) {
	s := memory.New()
	d, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	_, err = denizen.New(t.Context(), s, denizen.Options{})
	requireRefused(t, err, "New", denizen.ErrTaken, "store")
	newUser(t, d, "alice-user")
	require.NoError(t, d.Close())
	again, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	require.NoError(t, d.Close()) // closing the first again does not free the store
	_, err = denizen.New(t.Context(), s, denizen.Options{})
	require.ErrorIs(t, err, denizen.ErrTaken)
	require.NoError(t, again.Close())
}

func TestDirectory_ASecondProgramIsRefusedTheFileWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people.db")
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	newUser(t, d, "alice-user")
	started := time.Now()
	_, err = denizen.Open(t.Context(), path, denizen.Options{})
	require.Less(t, time.Since(started), 30*time.Second) // a second, on any machine
	requireRefused(t, err, "Open", denizen.ErrUnavailable, "path")
	require.NotContains(t, err.Error(), path)
	require.NoError(t, d.Close())
	d, err = denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	_, err = d.User(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

func TestDirectory_AFileThatIsNoDirectoryIsRefusedAndLeftAsItIs(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "foreign": strings.Repeat("not a directory", 10_000)} {
		path := filepath.Join(t.TempDir(), "people.db")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := denizen.Open(t.Context(), path, denizen.Options{})
		requireRefused(t, err, "Open", denizen.ErrUnavailable, "path")
		require.NotContains(t, err.Error(), path, name)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(left))
	}
}

func TestDirectory_OfSeveralThatFoundADirectoryAtOnceOneWinsAndAllHaveIt(t *testing.T) {
	for round := range 20 {
		s := shared{memory.New()}
		dirs := make([]*denizen.Directory, 8)
		var all sync.WaitGroup
		for i := range dirs {
			all.Go(func() {
				d, err := denizen.New(context.Background(), s, denizen.Options{RootKeys: [][]byte{[]byte(strings.Repeat("r", 32))}})
				if err != nil {
					t.Error(err)
				}
				dirs[i] = d
			})
		}
		all.Wait()
		newUser(t, dirs[round%8], "alice-user")
		signed := newToken(t, dirs[(round+1)%8], "alice-user", denizen.TokenOptions{}).Signed
		for _, d := range dirs {
			require.Equal(t, []string{dirs[0].ID(), dirs[0].ApplicationID()}, []string{d.ID(), d.ApplicationID()})
			require.NoError(t, authenticated(t, d, signed))
			requireOffline(t, d, signed)
			require.NoError(t, d.Close())
		}
		founded := 0
		for _, c := range invariant.Of(t, s).Feed.Changes {
			if e, err := record.DecodeEvent(c.Event); err == nil && denizen.EventKind(e.What) == denizen.EventDirectoryFounded {
				founded++
			}
		}
		require.Equal(t, 1, founded)
	}
}

func TestDirectory_DirectoriesThatShareAStoreSeeEachOthersChangesAtOnce(t *testing.T) {
	s := shared{memory.New()}
	a, b := newOver(t, s, denizen.Options{}), newOver(t, s, denizen.Options{})
	newUser(t, a, "alice-user")
	issued := newToken(t, b, "alice-user", denizen.TokenOptions{})
	key := newKey(t, a)
	require.NoError(t, authenticated(t, a, issued.Signed))
	require.NoError(t, authenticated(t, b, issued.Signed))
	by := byKey(t, b, key.Key, key.Secret)
	require.NoError(t, a.RevokeTokens(t.Context(), sys, "alice-user", issued.ID))
	require.Equal(t, denizen.ErrRevoked, authenticated(t, b, issued.Signed))
	require.NoError(t, a.RotateSigningKey(t.Context(), sys, 0))
	require.Equal(t, kids(t, a), kids(t, b))
	require.Equal(t, kids(t, a)[1], signsNow(t, b))
	require.NoError(t, a.DeleteAccessKey(t.Context(), sys, key.Key))
	_, err := b.CountUsers(t.Context(), by)
	require.ErrorIs(t, err, denizen.ErrRevoked)
}

// Closing

func TestDirectory_ClosingTwiceIsNoErrorAndTheStoreStaysOpen(t *testing.T) {
	s := memory.New()
	d, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.NoError(t, d.Close())
	require.NotZero(t, keyCount(t, s))
}

// Methods that are not tried as those with a principal are: what they return once the
// directory is closed.
var withoutPrincipal = map[string]func(ctx context.Context, w *world) error{
	"Authenticate": func(ctx context.Context, w *world) error {
		for _, signed := range []string{w.signed, w.otherSigned, "x"} {
			if _, err := w.Authenticate(ctx, signed); !errors.Is(err, denizen.ErrClosed) {
				return fmt.Errorf("%.2s…: %w", signed, err)
			}
		}
		return denizen.ErrClosed
	},
	"AuthenticateKey": func(ctx context.Context, w *world) error {
		_, err := w.AuthenticateKey(ctx, w.key.Key, w.key.Secret)
		return err
	},
	"AuthenticateSigned": func(ctx context.Context, w *world) error {
		_, err := w.AuthenticateSigned(ctx, sign(signedNow(w.key.Key, w.key.Secret)))
		return err
	},
	"PublicKeys": func(ctx context.Context, w *world) error {
		_, err := w.PublicKeys(ctx)
		return err
	},
	"ID":            nil,
	"ApplicationID": nil,
	"Close":         nil,
	"InTx":          nil,
}

func TestDirectory_WhatNeedsNoPrincipalSaysTooThatTheDirectoryIsClosed(t *testing.T) {
	var untried []string
	for m := range reflect.TypeFor[*denizen.Directory]().Methods() {
		tried := slices.ContainsFunc(methods, func(o method) bool { return o.name == m.Name })
		if _, ok := withoutPrincipal[m.Name]; !ok && !tried {
			untried = append(untried, m.Name)
		}
	}
	require.Empty(t, untried)
	overCaches(t, func(t *testing.T, cached bool) {
		w := newWorld(t, cached, denizen.Options{}, nil)
		require.NoError(t, w.Close())
		before := invariant.Of(t, w.inner)
		for name, call := range withoutPrincipal {
			if call != nil {
				require.ErrorIs(t, call(t.Context(), w), denizen.ErrClosed, name)
			}
		}
		require.Equal(t, before, invariant.Of(t, w.inner))
		require.NotEmpty(t, w.ID())
	})
}

func TestDirectory_ADirectoryThatOpenMadeClosesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people.db")
	for range 3 {
		d, err := denizen.Open(t.Context(), path, denizen.Options{})
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
		_, err = d.User(t.Context(), sys, "alice-user")
		require.ErrorIs(t, err, denizen.ErrClosed)
	}
}

func TestDirectory_CloseStoresWhatIsInMemory(t *testing.T) {
	overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
		o := denizen.Options{HeartbeatInterval: time.Hour}
		d := open(o)
		newUser(t, d, "alice-user")
		require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
		signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
		chain := denizen.Online(time.Minute)
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain))
		time.Sleep(30 * time.Second)
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", chain))
		require.NoError(t, authenticated(t, d, signed))
		byKey(t, d, "the-key-1", secretA)
		now := time.Now().UTC()
		require.NoError(t, d.Close())
		d = open(o)
		p, err := d.Presence(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Equal(t, now.Add(time.Minute), p.Until)
		require.Equal(t, now, lastUseOf(t, d))
		keys, err := d.AccessKeys(t.Context(), sys)
		require.NoError(t, err)
		require.Equal(t, now, keys[0].LastUsedAt)
	})
}

func TestDirectory_CloseSaysWhatItCouldNotStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &broken{Store: memory.New()}
		d, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		newUser(t, d, "alice-user")
		require.NoError(t, authenticated(t, d, newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed))
		s.err = store.ErrUnavailable
		err = d.Close()
		requireRefused(t, err, "Close", denizen.ErrUnavailable, "")
		require.Equal(t, err, d.Close())
		_, err = d.User(t.Context(), sys, "alice-user")
		require.ErrorIs(t, err, denizen.ErrClosed)
	})
}

// needs is what starts the goroutines of a directory.
var needs = map[string]func(t *testing.T, d *denizen.Directory){
	"a token":       func(t *testing.T, d *denizen.Directory) { newToken(t, d, "alice-user", denizen.TokenOptions{}) },
	"an access key": func(t *testing.T, d *denizen.Directory) { byKey(t, d, "the-key-1", secretA) },
	"a nonce": func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, signedKind(t, d, sign(signedNow("the-key-1", secretA))))
	},
	"a presence": func(t *testing.T, d *denizen.Directory) {
		require.NoError(t, d.SetPresence(t.Context(), sys, "alice-user", denizen.Online(time.Hour)))
	},
	"an idempotency key": func(t *testing.T, d *denizen.Directory) {
		_, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "U", Idempotency: denizen.Idempotency{Key: "k", Digest: "d"}})
		require.NoError(t, err)
	},
}

// A bubble ends only when all goroutines in it have: one that Close leaves fails the test.
func TestDirectory_CloseLeavesNoGoroutine(t *testing.T) {
	for name, need := range needs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, err := denizen.New(t.Context(), memory.New(), denizen.Options{})
				require.NoError(t, err)
				newUser(t, d, "alice-user")
				require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
				need(t, d)
				require.NoError(t, d.Close())
			})
		})
	}
}

func TestDirectory_ThereIsNoGoroutineBeforeItIsNeededAndThenOneADuty(t *testing.T) {
	for name, need := range needs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				others := goroutines() // of directories that other tests left open
				goroutines := func() int { return goroutines() - others }
				d, err := denizen.New(t.Context(), memory.New(), denizen.Options{})
				require.NoError(t, err)
				_, err = d.User(t.Context(), sys, "nobody-there")
				require.ErrorIs(t, err, denizen.ErrNotFound)
				_, err = d.AuthenticateKey(t.Context(), "the-key-1", secretA)
				require.ErrorIs(t, err, denizen.ErrUnauthenticated)
				require.Len(t, eventsAfter(t, d, 0), 1)
				require.Zero(t, goroutines())
				newUser(t, d, "alice-user")
				require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
				need(t, d)
				require.Equal(t, 7, goroutines())
				for _, need := range needs {
					need(t, d)
				}
				require.Equal(t, 7, goroutines())
				require.NoError(t, d.Close())
				require.Zero(t, goroutines())
			})
		})
	}
}

// goroutines returns how many goroutines are in this package's code, or wait in what it
// called. The test itself is in another package.
func goroutines() (n int) {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "denizenhq/denizen.(") {
			n++
		}
	}
	return n
}

func TestDirectory_AHeartbeatThatRacesWithCloseIsRefusedOrStored(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s := memory.New()
			d, err := denizen.New(t.Context(), s, denizen.Options{HeartbeatInterval: time.Hour})
			require.NoError(t, err)
			const users = 8
			chain := denizen.Online(time.Hour)
			for i := range users {
				user := denizen.UserID(fmt.Sprintf("user-%04d", i))
				newUser(t, d, user)
				require.NoError(t, d.SetPresence(t.Context(), sys, user, chain))
			}
			time.Sleep(time.Minute)
			now := time.Now().UTC()
			var kept [users]atomic.Bool
			var all sync.WaitGroup
			for i := range users {
				all.Go(func() {
					switch err := d.SetPresence(context.Background(), sys, denizen.UserID(fmt.Sprintf("user-%04d", i)), chain); {
					case err == nil:
						kept[i].Store(true)
					case !errors.Is(err, denizen.ErrClosed):
						t.Error(err)
					}
				})
			}
			all.Go(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			all.Wait()
			d, err = denizen.New(t.Context(), s, denizen.Options{})
			require.NoError(t, err)
			for i := range users {
				p, err := d.Presence(t.Context(), sys, denizen.UserID(fmt.Sprintf("user-%04d", i)))
				require.NoError(t, err)
				if kept[i].Load() {
					require.Equal(t, now.Add(p.Presence.TTL()), p.Until)
				}
			}
			require.NoError(t, d.Close())
		})
	}
}

// Whatever starts while the directory closes, nothing goes on after it.
func TestDirectory_UsesThatRaceWithCloseLeaveNoGoroutine(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			d, err := denizen.New(t.Context(), memory.New(), denizen.Options{})
			require.NoError(t, err)
			newUser(t, d, "alice-user")
			require.NoError(t, d.PutAccessKey(t.Context(), sys, "the-key-1", secretA))
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { _, _ = d.AuthenticateKey(context.Background(), "the-key-1", secretA) })
				all.Go(func() { _, _ = d.IssueToken(context.Background(), sys, "alice-user", denizen.TokenOptions{}) })
				all.Go(func() { _ = d.SetPresence(context.Background(), sys, "alice-user", denizen.Online(time.Hour)) })
			}
			require.NoError(t, d.Close())
			synctest.Wait()
			all.Wait()
		})
	}
}

func TestDirectory_CloseWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memory.New(), takes: func(b store.Batch) time.Duration {
			if b.Emit == nil {
				return 4 * time.Second // what is under way, and once more in Close
			}
			return 0
		}}
		d := newOver(t, s, denizen.Options{})
		newUser(t, d, "alice-user")
		require.NoError(t, authenticated(t, d, newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 2, s.underWay.Load())
		require.NoError(t, d.Close())
		require.Zero(t, s.underWay.Load())
	})
}

func TestDirectory_InTxIsRefusedOverAStoreForOneDirectoryAlone(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	_, err := d.InTx(shared{memory.New()})
	requireRefused(t, err, "InTx", denizen.ErrInvalid, "store")
}

func TestDirectory_InTxOfAClosedDirectoryIsRefused(t *testing.T) {
	s := shared{memory.New()}
	d := newOver(t, s, denizen.Options{})
	require.NoError(t, d.Close())
	_, err := d.InTx(s)
	requireRefused(t, err, "InTx", denizen.ErrClosed, "")
}

func TestDirectory_OverATransactionAllIsAsItIsWithout(t *testing.T) {
	s := shared{memory.New()}
	d := newOver(t, s, denizen.Options{MaxRevocationDelay: time.Second})
	over := inTx(t, d, s)
	u, err := over.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("a@b.example")}})
	require.NoError(t, err)
	token, err := over.IssueToken(t.Context(), denizen.System(), u.ID, denizen.TokenOptions{})
	require.NoError(t, err)
	by, err := d.Authenticate(t.Context(), token.Signed)
	require.NoError(t, err)
	require.NoError(t, over.SetPresence(t.Context(), by, u.ID, denizen.Online(time.Minute)))
	require.NoError(t, over.SetPresence(t.Context(), by, u.ID, denizen.Online(time.Minute)), "a heartbeat is stored at once")
	_, err = over.Authenticate(t.Context(), token.Signed)
	require.NoError(t, err)
	require.NoError(t, over.Close())
	_, err = over.User(t.Context(), by, u.ID)
	require.ErrorIs(t, err, denizen.ErrClosed)
	_, err = d.User(t.Context(), by, u.ID)
	require.NoError(t, err, "closing it closes nothing else")
	over = inTx(t, d, s)
	require.NoError(t, d.Close())
	_, err = over.User(t.Context(), by, u.ID)
	require.ErrorIs(t, err, denizen.ErrClosed)
}
