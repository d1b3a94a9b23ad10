package httpadapter_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// checked returns the status and the body that a health check gets.
func checked(h http.Handler, edits ...edit) (status int, body string) {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/health", nil)
	for _, e := range edits {
		e(r)
	}
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func health(dir *denizen.Directory, o httpadapter.HealthOptions) http.Handler {
	return httpadapter.Health(dir, denizen.System(), o)
}

// ailing is a store that says how it is.
type ailing struct {
	store.Store
	ill   atomic.Pointer[error]
	reads atomic.Int64
}

func (s *ailing) Health() error {
	if err := s.ill.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *ailing) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	s.reads.Add(1)
	return s.Store.Changes(ctx, after, limit)
}

func newAiling(t testing.TB) (*denizen.Directory, *ailing) {
	s := &ailing{Store: memory.New()}
	dir, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	return dir, s
}

func TestHealthSaysHowADirectoryFares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := newAiling(t)
		tells, hides := health(dir, httpadapter.HealthOptions{Details: true}), health(dir, httpadapter.HealthOptions{})
		live := health(dir, httpadapter.HealthOptions{Live: true})
		noAnswer, refused := context.DeadlineExceeded, store.ErrUnavailable
		corrupt := store.ErrCorrupt
		for _, row := range []struct {
			ill           *error
			status        int
			state, detail string
		}{
			{nil, 200, `{"status":"ready"}`, `{"status":"ready"}`},
			{&noAnswer, 200, `{"status":"degraded"}`, `{"status":"degraded","why":"the store is not well"}`},
			{&corrupt, 200, `{"status":"degraded"}`, `{"status":"degraded","why":"the store is not well"}`},
			{&refused, 503, `{"status":"poisoned"}`, `{"status":"poisoned","why":"the store is not well"}`},
			{nil, 200, `{"status":"ready"}`, `{"status":"ready"}`},
		} {
			s.ill.Store(row.ill)
			time.Sleep(time.Second)
			for handler, want := range map[http.Handler]string{tells: row.detail, hides: row.state, live: row.state} {
				status, body := checked(handler)
				require.Equal(t, row.status, status)
				require.Equal(t, want+"\n", body)
			}
		}
		require.NoError(t, dir.Close())
		time.Sleep(time.Second)
		status, body := checked(tells)
		require.Equal(t, 503, status)
		require.JSONEq(t, `{"status":"poisoned","why":"the directory is closed"}`, body)
	})
}

func TestHealthIs503WhileTheStoreDoesNotAnswerUnlessOnlyARestartCounts(t *testing.T) {
	for _, fault := range []denizentest.Fault{denizentest.Unavailable, denizentest.Hanging, denizentest.Corrupt} {
		synctest.Test(t, func(t *testing.T) {
			dir, faults := denizentest.Faulty(t)
			ready := health(dir, httpadapter.HealthOptions{Details: true})
			live := health(dir, httpadapter.HealthOptions{Live: true})
			faults.Begin(fault)
			began := time.Now()
			status, body := checked(ready)
			require.Equal(t, 503, status)
			require.JSONEq(t, `{"status":"degraded","why":"the store does not answer"}`, body)
			require.LessOrEqual(t, time.Since(began), 2*time.Second)
			status, body = checked(live)
			require.Equal(t, 200, status)
			require.JSONEq(t, `{"status":"degraded"}`, body)
			faults.End()
			time.Sleep(time.Second)
			status, _ = checked(ready)
			require.Equal(t, 200, status)
		})
	}
}

// A store that takes no writes goes on to answer: who is signed in stays so.
func TestHealthOfAStoreThatTakesNoWritesIsDegradedOnceADutyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, faults := denizentest.Faulty(t)
		alice := denizentest.User(t, dir, "Alice")
		token := denizentest.Token(t, dir, alice.ID)
		h := health(dir, httpadapter.HealthOptions{Details: true})
		faults.Begin(denizentest.ReadOnly)
		_, err := dir.Authenticate(t.Context(), token)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		status, body := checked(h)
		require.Equal(t, 200, status)
		require.Contains(t, body, `"status":"degraded","why":"last uses fail`)
	})
}

func TestHealthAsksAtMostOnceASecondHoweverManyAskIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := newAiling(t)
		h := health(dir, httpadapter.HealthOptions{})
		s.reads.Store(0)
		_, _ = checked(h)
		once := s.reads.Swap(0)
		time.Sleep(time.Second)
		for range 3 {
			for range 1000 {
				go checked(h)
			}
			synctest.Wait()
			time.Sleep(300 * time.Millisecond)
		}
		require.Equal(t, once, s.reads.Load())
	})
}

// Somebody who asks and leaves at once cannot have the service taken out of use.
func TestHealthIsNotWhatTheContextOfWhoAskedSays(t *testing.T) {
	dir, _ := denizentest.Faulty(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		h := health(dir, httpadapter.HealthOptions{})
		checked(h, func(r *http.Request) { *r = *r.WithContext(gone) })
		status, body := checked(h)
		require.Equal(t, 200, status)
		require.JSONEq(t, `{"status":"ready"}`, body)
	}
}

func TestHealthLetsNobodyWaitLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, faults := denizentest.Faulty(t)
		h := health(dir, httpadapter.HealthOptions{})
		faults.Begin(denizentest.Hanging)
		go checked(h)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		_, body := checked(h, func(r *http.Request) { *r = *r.WithContext(ctx) })
		require.Empty(t, body)
		require.Equal(t, time.Millisecond, time.Since(began))
		time.Sleep(2 * time.Second)
	})
}

func TestHealthAnswersGetAndHead(t *testing.T) {
	h := health(denizentest.New(t), httpadapter.HealthOptions{})
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		require.Equal(t, want, w.Code)
		require.Equal(t, method == "GET", w.Body.Len() > 0)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

func TestHealthSaysThatItsAccessKeyWasDeleted(t *testing.T) {
	dir := denizentest.New(t)
	require.NoError(t, dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
	by, err := dir.AuthenticateKey(t.Context(), appKey, appSecret)
	require.NoError(t, err)
	h := httpadapter.Health(dir, by, httpadapter.HealthOptions{Details: true})
	require.NoError(t, dir.DeleteAccessKey(t.Context(), denizen.System(), appKey))
	status, body := checked(h)
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"degraded","why":"the access key of the health check was deleted"}`, body)
	require.Panics(t, func() { httpadapter.Health(dir, denizen.Principal{}, httpadapter.HealthOptions{}) })
}
