package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
)

func TestOnlyWhoKnowsThePasswordIsAnOperator(t *testing.T) {
	ask := authorize("secret")
	for _, who := range []struct {
		name, password string
		ok             bool
	}{{"ada", "secret", true}, {"guest", "secret", true}, {"eve", "secret", false}, {"ada", "Secret", false}, {"ada", "", false}} {
		r := httptest.NewRequest("GET", "/admin/", nil)
		r.SetBasicAuth(who.name, who.password)
		by, err := ask(r)
		require.Equal(t, who.ok, err == nil, who)
		require.Equal(t, who.ok, by.IsSystem())
	}
	w := httptest.NewRecorder()
	signIn("secret", http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/admin/", nil))
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))
}

func TestATownIsSettledOnce(t *testing.T) {
	dir := denizentest.New(t)
	for range 2 {
		town := &town{dir: dir}
		require.NoError(t, town.settle(t.Context(), 20))
		require.Len(t, town.people, 20)
	}
	n, err := dir.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 20, n)
}
