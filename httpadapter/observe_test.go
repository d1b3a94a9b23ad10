package httpadapter_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// watched makes an api that keeps what its hook was told.
func watched(t *testing.T, o denizen.Options) (*api, func() httpadapter.Exchange) {
	var seen []httpadapter.Exchange
	a := newAPI(t, o, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) { seen = append(seen, x) }})
	return a, func() httpadapter.Exchange { return seen[len(seen)-1] }
}

func TestTheHookIsToldOfEachRequest(t *testing.T) {
	a, last := watched(t, denizen.Options{})
	got := a.do("POST", "/v1/users", `{"userId":"alice-0001","screenName":{"screenName":"A"}}`, app)
	x := last()
	require.Equal(t, got.header.Get("X-Request-Id"), x.RequestID)
	require.Equal(t, "POST", x.Method)
	require.Equal(t, "/v1/users", x.Route)
	require.Equal(t, "CreateUser", x.Operation)
	require.Equal(t, "basic", x.Credential)
	require.True(t, x.Caller.IsSystem())
	require.Equal(t, appKey, x.Caller.AccessKey())
	require.Equal(t, 201, x.Status)
	require.Empty(t, x.ErrorCode)
	require.NotZero(t, x.Duration)

	signed, _ := a.token(t, "alice-0001")
	a.do("GET", "/v1/users/me", "", bearer(signed))
	require.Equal(t, "token", last().Credential)
	require.Equal(t, denizen.UserID("alice-0001"), last().Caller.User())
	a.do("GET", "/v1/users/me", "", header("Cookie", httpadapter.CookieName+"="+signed))
	require.Equal(t, "cookie", last().Credential)
	a.do("GET", "/elsewhere", "")
	require.Equal(t, httpadapter.Exchange{RequestID: last().RequestID, Method: "GET", Status: 404, ErrorCode: "entity_not_found", Duration: last().Duration}, last())
}

func TestTheHookIsToldOfEachRefusedCredential(t *testing.T) {
	a, last := watched(t, denizen.Options{})
	for _, row := range []struct {
		credential, kind, code string
		status                 int
	}{
		{"Bearer nonsense", "token", "authorization_error", 401},
		{"Basic " + basic(appKey, "wrong"), "basic", "authorization_error", 401},
		{"Basic !", "basic", "authorization_error", 401},
		{"Auth key:digest", "signed", "authorization_error", 401},
		{"Negotiate abc", "", "authorization_error", 401},
	} {
		a.do("GET", "/v1/users/alice-0001", "", header("Authorization", row.credential)).refused(t, row.status, row.code)
		require.Equal(t, row.kind, last().Credential)
		require.Equal(t, row.code, last().ErrorCode)
		require.True(t, last().Refused)
		require.True(t, last().Caller.IsAnonymous())
		require.Equal(t, "/v1/users/{userId}", last().Route)
	}
	a.do("GET", "/v1/users/alice-0001", "", app, app, header("Authorization", "Bearer x")).refused(t, 400, "invalid_parameter_set")
	require.True(t, last().Refused)
	a.do("GET", "/v1/users/alice-0001", "").refused(t, 401, "authorization_error")
	require.False(t, last().Refused, "none was there")
	a.do("GET", "/v1/users/short", "", app).refused(t, 400, "invalid_parameter_set")
	require.False(t, last().Refused)
}

func TestALogLineHoldsNothingThatIsNobodysBusiness(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	a := newAPI(t, denizen.Options{}, httpadapter.Options{Observe: func(_ context.Context, x httpadapter.Exchange) {
		logger.Info("request", "request", x)
	}})
	a.create(t, "alice-0001", "email:canary@locator.example")
	signed, _ := a.token(t, "alice-0001")
	a.do("GET", "/v1/users/me?canary=query", "", bearer(signed))
	a.do("GET", "/v1/users/email:canary@locator.example", "", app)
	a.do("GET", "/v1/users/email:canary@locator.example/canary", "", app)
	a.do("PUT", "/v1/users/me/screenname", `{"screenName":"canary"}`, bearer(signed))
	a.do("PUT", "/v1/users/me/screenname", `{"canary":}`, bearer(signed))
	a.do("GET", "/v1/users/me", "", bearer("canary"))
	a.do("GET", "/v1/users/me", "", header("X-Request-Id", "a canary, with a comma"), header("X-Mitter-Sudo-User-Id", "canary"))
	require.Contains(t, log.String(), `"caller":"alice-0001"`)
	for _, secret := range []string{"canary", signed, appSecret, strings.Split(signed, ".")[2]} {
		require.NotContains(t, log.String(), secret)
	}
}

func TestARequestIDOfAProxyIsKept(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	require.Equal(t, "proxy-1.2_3", a.do("GET", "/v1/users/x", "", header("X-Request-Id", "proxy-1.2_3")).refused(t, 401, "authorization_error").RequestID)
	seen := make(map[string]bool)
	for _, bad := range []edit{
		header("X-Request-Id", ""), header("X-Request-Id", "a b"), header("X-Request-Id", "a\nb"), header("X-Request-Id", strings.Repeat("a", 65)),
		func(r *http.Request) { r.Header["X-Request-Id"] = []string{"one", "two"} },
	} {
		id := a.do("GET", "/v1/users/x", "", bad).refused(t, 401, "authorization_error").RequestID
		require.Regexp(t, `^[A-Z2-7]{26}$`, id)
		require.False(t, seen[id])
		seen[id] = true
	}
}

func TestAFailureOfTheServiceIsNotExplained(t *testing.T) {
	o := denizen.Options{MaySee: func(_ context.Context, _, subject denizen.UserID, _ denizen.Facet) (bool, error) {
		if subject == "panics-01" {
			panic("canary")
		}
		return false, errors.New("canary")
	}}
	a, last := watched(t, o)
	alice, _ := a.token(t, a.create(t, "alice-0001"))
	got := a.do("GET", "/v1/users/panics-01", "", bearer(alice))
	got.refused(t, 500, "unknown_error")
	require.NotContains(t, got.body, "canary")
	require.ErrorContains(t, last().Cause, "canary")
	got = a.do("GET", "/v1/users/bob-00001", "", bearer(alice))
	require.Contains(t, []int{403, 503}, got.status)
	require.NotContains(t, got.body, "canary")
}

func TestAnAbortedHandlerIsLeftToTheServer(t *testing.T) {
	o := denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		panic(http.ErrAbortHandler)
	}}
	a := newAPI(t, o, httpadapter.Options{})
	alice, _ := a.token(t, a.create(t, "alice-0001"))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { a.do("GET", "/v1/users/bob-00001", "", bearer(alice)) })
}

func TestAClientThatGivesARequestUpIsNoFailureOfTheService(t *testing.T) {
	a, last := watched(t, denizen.Options{})
	a.create(t, "alice-0001")
	a.do("PUT", "/v1/users/alice-0001/screenname", `{"screenName":"Late"}`, app, func(r *http.Request) {
		ctx, leave := context.WithCancel(r.Context())
		leave()
		*r = *r.WithContext(ctx)
	}).refused(t, 400, "invalid_input_syntax")
	require.Nil(t, last().Cause)
}

func TestAClosedDirectoryIsUnavailable(t *testing.T) {
	a, last := watched(t, denizen.Options{})
	alice, _ := a.token(t, a.create(t, "alice-0001"))
	require.NoError(t, a.dir.Close())
	a.do("GET", "/v1/users/me", "", bearer(alice)).refused(t, 503, "unavailable")
	a.do("POST", "/v1/users", `{"screenName":{"screenName":"A"}}`, app).refused(t, 503, "unavailable")
	a.do("GET", "/v1/.well-known/jwks.json", "").refused(t, 503, "unavailable")
	require.Equal(t, 503, last().Status)
}

func TestAPrefixIsTakenOffOrStripped(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	under := &api{a.dir, recorded(httpadapter.New(a.dir, httpadapter.Options{Prefix: "/people"}), "/people")}
	mux := http.NewServeMux()
	mux.Handle("/people/", under.handler)
	mux.Handle("/stripped/", http.StripPrefix("/stripped", a.handler))
	mux.Handle("/v1/", a.handler)
	for target, status := range map[string]int{
		"/people/v1/users/alice-0001": 200, "/stripped/v1/users/alice-0001": 200, "/v1/users/alice-0001": 200,
		"/people/users/alice-0001": 404, "/people/people/v1/users/alice-0001": 404, "/stripped/stripped/v1/users/alice-0001": 404,
	} {
		r := httptest.NewRequest("GET", target, nil)
		app(r)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, target)
	}
	require.Equal(t, 404, under.do("GET", "/v1/users/alice-0001", "", app).status)
	require.Equal(t, 404, under.do("GET", "/peoples/v1/users/alice-0001", "", app).status)
	for _, bad := range []string{"people", "/people/", "/"} {
		require.Panics(t, func() { httpadapter.New(a.dir, httpadapter.Options{Prefix: bad}) })
	}
}

func TestAnotherMethodIsRefusedWithTheRightOnes(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for _, method := range []string{"PUT", "OPTIONS", "TRACE", "get", "BREW"} {
		got := a.do(method, "/v1/users", "")
		got.refused(t, 405, "method_not_allowed")
		require.Equal(t, "GET, HEAD, POST", got.header.Get("Allow"))
	}
}

func TestRequestIDsTellNobodyHowManyRequestsThereWere(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	seen := map[string]bool{}
	var common string
	for i := range 64 {
		id := a.do("GET", "/v1/users/me", "").header.Get("X-Request-Id")
		require.False(t, seen[id])
		seen[id] = true
		if i == 0 {
			common = id
		}
		for !strings.HasPrefix(id, common) {
			common = common[:len(common)-1]
		}
	}
	require.Less(t, len(common), 3, "what one request says of another")
}
