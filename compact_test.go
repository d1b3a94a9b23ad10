package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestCompact_LeavesTheSameDirectoryInASmallerFile(t *testing.T) {
	path := filepath.Join(long.Dir(t), "people.db")
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	defer d.Close()
	about := strings.Repeat("x", 30<<10)
	_, err = d.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "about"})
	require.NoError(t, err)
	for _, err := range atOnce(1_000, func(i int) error {
		_, err := d.CreateUser(context.Background(), sys, denizen.NewUser{
			ID: denizen.UserID(fmt.Sprintf("user-%04d", i)), ScreenName: "Somebody",
			Attributes: []denizen.Attribute{{Key: "about", Value: about}},
		})
		return err
	}) {
		require.NoError(t, err)
	}
	signed := newToken(t, d, "user-0000", denizen.TokenOptions{}).Signed
	before := statsOf(t, d)
	require.False(t, before.File.WorthCompacting)
	for _, err := range atOnce(900, func(i int) error {
		return d.DeleteUser(context.Background(), sys, denizen.UserID(fmt.Sprintf("user-%04d", 100+i)))
	}) {
		require.NoError(t, err)
	}
	deleted := statsOf(t, d)
	require.True(t, deleted.File.WorthCompacting)
	require.Greater(t, deleted.File.Free, int64(25<<20))
	require.GreaterOrEqual(t, deleted.File.Bytes, before.File.Bytes)
	err = d.Compact(t.Context(), sys)
	if runtime.GOOS == "windows" {
		requireField(t, err, denizen.ErrInvalid, "store")
		return
	}
	require.NoError(t, err)
	after := statsOf(t, d)
	require.False(t, after.File.WorthCompacting)
	require.Less(t, after.File.Bytes, before.File.Bytes/4)
	require.Equal(t, deleted.Head, after.Head)
	require.NoError(t, authenticated(t, d, signed))
	u, err := d.User(t.Context(), sys, "user-0099")
	require.NoError(t, err)
	require.Equal(t, "Somebody", u.ScreenName)
	require.NoError(t, d.RevokeAllTokens(t.Context(), sys, "user-0000"))
	require.ErrorIs(t, authenticated(t, d, signed), denizen.ErrRevoked)
	require.NoError(t, d.Health(t.Context(), sys))
}

func TestCompact_OfWhatIsInNoFileIsRefused(t *testing.T) {
	for _, s := range []store.Store{memory.New(), shared{memory.New()}} {
		d := newOver(t, s, denizen.Options{})
		requireField(t, d.Compact(t.Context(), sys), denizen.ErrInvalid, "store")
		require.Zero(t, statsOf(t, d).File)
	}
}

// compacter is a store whose compactions end with an error.
type compacter struct {
	store.Store
	err error
}

func (c *compacter) Compact(context.Context) error { return c.err }

func (c *compacter) FileSize(context.Context) (size, free int64, err error) {
	return 64 << 20, 32 << 20, nil
}

func TestCompact_ErrorsSayWhatToDo(t *testing.T) {
	s := &compacter{Store: memory.New()}
	d := newOver(t, s, denizen.Options{})
	for _, row := range []struct {
		err, kind error
		field     string
	}{
		{fmt.Errorf("compact: %w", errors.ErrUnsupported), denizen.ErrInvalid, "store"},
		{store.ErrBusy, denizen.ErrConflict, "store"},
		{store.ErrUnavailable, denizen.ErrUnavailable, ""},
		{store.ErrOutcomeUnknown, denizen.ErrOutcomeUnknown, ""},
		{store.ErrCorrupt, denizen.ErrCorrupt, ""},
		{store.ErrClosed, denizen.ErrClosed, ""},
		{context.Canceled, denizen.ErrUnavailable, ""},
	} {
		s.err = row.err
		err := d.Compact(t.Context(), sys)
		requireRefused(t, err, "Compact", row.kind, row.field)
		require.ErrorIs(t, err, row.err)
	}
	require.Equal(t, denizen.FileStats{Bytes: 64 << 20, Free: 32 << 20, WorthCompacting: true}, statsOf(t, d).File)
}

func TestCompact_UnderFullLoadChangesNothingElse(t *testing.T) {
	path := filepath.Join(long.Dir(t), "people.db")
	file, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	s := &logged{Store: file, done: map[store.Seq]store.Batch{}}
	d, err := denizen.New(t.Context(), s, denizen.Options{HeartbeatInterval: 10 * time.Millisecond, FeedMaxEvents: 1_000_000})
	require.NoError(t, err)
	_, err = d.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for r := rand.New(rand.NewPCG(uint64(i), rand.Uint64())); ctx.Err() == nil; {
				if err := stepAtRandom(d, r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for done, at := 0, store.Seq(0); done < 5 || at < store.Seq(long.Of(1_000, 4_000)); {
		feed, err := file.Changes(t.Context(), store.End, 1)
		require.NoError(t, err)
		at = feed.Head
		switch err := file.Compact(t.Context()); {
		case err == nil:
			done++
		case runtime.GOOS == "windows":
			require.ErrorIs(t, err, errors.ErrUnsupported)
			done++
		default:
			require.ErrorIs(t, err, store.ErrBusy)
		}
	}
	stop()
	all.Wait()
	require.NoError(t, d.Close())
	head, err := file.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	require.Equal(t, s.at(t, head.Head), invariant.Of(t, file))
	invariant.Check(t, file)
	require.NoError(t, file.Verify(t.Context()))
	require.NoError(t, file.Close())
}
