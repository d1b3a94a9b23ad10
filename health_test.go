package denizen_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestHealth_TellsWhatTheStoreAndTheDutiesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		fails := atomic.Bool{}
		s := &failing{Store: inner, fails: &fails}
		c := &clogged{Store: s, clogs: func(store.Batch) bool { return false }}
		var log bytes.Buffer
		d := newOver(t, &checked{owned{c, inner}, c}, denizen.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		newUser(t, d, "alice-user")
		require.NoError(t, d.Health(t.Context(), sys))
		require.ErrorIs(t, d.Health(t.Context(), denizen.Principal{}), denizen.ErrDenied)
		for _, ill := range []error{store.ErrCorrupt, store.ErrUnavailable, store.ErrClosed, errors.New("no answer")} {
			c.ill.Store(&ill)
			err := d.Health(t.Context(), sys)
			require.ErrorIs(t, err, ill)
			refuses := ill == store.ErrUnavailable || ill == store.ErrClosed // until it is opened anew
			require.Equal(t, refuses, err.(*denizen.Error).Field == "store")
			require.Equal(t, err, statsOf(t, d).Health)
		}
		c.ill.Store(nil)
		token := newToken(t, d, "alice-user", denizen.TokenOptions{})
		fails.Store(true)
		for range 30 { // minutes
			_, _ = d.Authenticate(t.Context(), token.Signed)
			time.Sleep(time.Minute)
		}
		synctest.Wait() // who writes the log is done for now
		err := d.Health(t.Context(), sys)
		requireRefused(t, err, "Health", denizen.ErrUnavailable, "")
		require.ErrorContains(t, err, "last uses fail")
		n := strings.Count(log.String(), "last uses")
		require.True(t, n >= 25 && n <= 31, "logged %d times", n)
		fails.Store(false)
		time.Sleep(2 * time.Hour)
		require.NoError(t, d.Health(t.Context(), sys))
	})
}
