package denizentest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestFaultyWorksUntilAFaultBeginsAndOnceItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		fault       denizentest.Fault
		read, write error // nil: it works
		made        bool  // the write is, all the same
	}{
		"unavailable": {denizentest.Unavailable, denizen.ErrUnavailable, denizen.ErrUnavailable, false},
		"read-only":   {denizentest.ReadOnly, nil, denizen.ErrUnavailable, false},
		"made":        {denizentest.Made, nil, denizen.ErrOutcomeUnknown, true},
		"lost":        {denizentest.Lost, nil, denizen.ErrOutcomeUnknown, false},
		"corrupt":     {denizentest.Corrupt, denizen.ErrCorrupt, denizen.ErrCorrupt, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, faults := denizentest.Faulty(t)
			alice := denizentest.User(t, dir, "Alice")
			signed := denizentest.Token(t, dir, alice.ID)
			by, err := dir.Authenticate(t.Context(), signed)
			require.NoError(t, err)

			faults.Begin(c.fault)
			_, err = dir.Authenticate(t.Context(), signed)
			require.ErrorIs(t, err, c.read, "what was read before is not remembered")
			_, err = dir.User(t.Context(), by, alice.ID)
			require.ErrorIs(t, err, c.read)
			_, err = dir.SetScreenName(t.Context(), by, alice.ID, "Alice II")
			require.ErrorIs(t, err, c.write)
			require.ErrorIs(t, dir.DeleteUser(t.Context(), by, alice.ID), denizen.ErrDenied, "what asks no store is as ever")

			faults.End()
			u, err := dir.User(t.Context(), by, alice.ID)
			require.NoError(t, err)
			require.Equal(t, map[bool]string{true: "Alice II", false: "Alice"}[c.made], u.ScreenName)
			_, err = dir.SetScreenName(t.Context(), by, alice.ID, "Alice III")
			require.NoError(t, err)
		})
	}
}

func TestFaultyHangsUntilTheContextOrTheFaultEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, faults := denizentest.Faulty(t)
		alice := denizentest.User(t, dir, "Alice")
		faults.Begin(denizentest.Hanging)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, err := dir.User(ctx, denizen.System(), alice.ID)
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))

		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				if _, err := dir.SetScreenName(t.Context(), denizen.System(), alice.ID, "Alice II"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		faults.Begin(denizentest.Hanging) // still
		synctest.Wait()
		faults.End()
		wait.Wait()
	})
}

func TestFaultyIsClosedWhateverBefallsIt(t *testing.T) {
	for _, fault := range []denizentest.Fault{denizentest.Unavailable, denizentest.Made, denizentest.Corrupt, denizentest.Hanging} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			t.Cleanup(func() { require.Equal(t, began, time.Now()) })
			dir, faults := denizentest.Faulty(t)
			by := denizentest.Principal(t, dir, denizentest.User(t, dir, "Alice").ID)
			require.NoError(t, dir.SetPresence(t.Context(), by, by.User(), denizen.Online(time.Minute)))
			require.NoError(t, dir.SetPresence(t.Context(), by, by.User(), denizen.Online(time.Minute)))
			faults.Begin(fault)
		})
	}
}

func TestFaultyStandsBehindHandlers(t *testing.T) {
	dir, faults := denizentest.Faulty(t)
	signed := denizentest.Token(t, dir, denizentest.User(t, dir, "Alice").ID)
	server := httptest.NewServer(httpadapter.New(dir, httpadapter.Options{Observe: func(context.Context, httpadapter.Exchange) {}}))
	t.Cleanup(server.Close)

	statuses := make(chan int)
	ask := func() {
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v1/users/me", nil)
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+signed)
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Error(err)
			statuses <- 0
			return
		}
		_ = answer.Body.Close()
		statuses <- answer.StatusCode
	}
	for _, c := range []struct {
		fault  denizentest.Fault
		status int
	}{{0, 200}, {denizentest.Unavailable, 503}, {denizentest.Corrupt, 500}, {denizentest.ReadOnly, 200}} {
		faults.Begin(c.fault)
		for range 8 {
			go ask()
		}
		for range 8 {
			require.Equal(t, c.status, <-statuses)
		}
	}
}
