package httpadapter_test

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestTheTTLOfAListedTokenIsTheTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		a.create(t, "alice-0001")
		require.Equal(t, 201, a.do("POST", "/v1/users/alice-0001/tokens", `{"ttl":3600}`, app).status)
		list := func() []struct{ TTL, IssuedAt, ExpiresAt int64 } {
			return decode[[]struct{ TTL, IssuedAt, ExpiresAt int64 }](t, a.do("GET", "/v1/users/alice-0001/tokens", "", app), 200)
		}
		require.EqualValues(t, 3600, list()[0].TTL)
		time.Sleep(3000 * time.Second)
		require.EqualValues(t, 600, list()[0].TTL)
		require.EqualValues(t, 3600_000, list()[0].ExpiresAt-list()[0].IssuedAt)
		time.Sleep(99*time.Second + 600*time.Millisecond)
		require.EqualValues(t, 500, list()[0].TTL, "rounded")
	})
}

func TestAllTokensOfAUserAreRevokedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		by     func(w *secWorld) []edit
		query  string
		keeps  bool
		clears bool
	}{
		"the application":        {func(*secWorld) []edit { return []edit{app} }, "", false, false},
		"itself":                 {func(w *secWorld) []edit { return []edit{bearer(w.aliceToken)} }, "", false, false},
		"itself but for this":    {func(w *secWorld) []edit { return []edit{bearer(w.aliceToken)} }, "?except=current", true, false},
		"by cookie":              {func(w *secWorld) []edit { return []edit{credOurs(w.aliceToken)} }, "", false, true},
		"by cookie but for this": {func(w *secWorld) []edit { return []edit{credOurs(w.aliceToken)} }, "?except=current", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
			other, _ := secIssue(t, w.dir, secAlice.id)
			a := w.do("DELETE", "/v1/users/"+url.PathEscape(string(secAlice.id))+"/tokens"+c.query, "", c.by(w)...)
			require.Equal(t, http.StatusNoContent, a.status, a.body)
			require.Equal(t, c.clears, len(a.header["Set-Cookie"]) > 0)
			w.everywhere(t, "revoked", other, "token_revoked")
			w.works(t, w.bobToken)
			if c.keeps {
				w.works(t, w.aliceToken)
			} else {
				w.everywhere(t, "revoked", w.aliceToken, "token_revoked")
			}
		})
	}
}

func TestExceptNamesTheTokenOfTheRequestAlone(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	path := "/v1/users/" + url.PathEscape(string(secAlice.id)) + "/tokens"
	for _, query := range []string{"?except=", "?except=x", "?except=" + string(w.tokenID), "?except=current&except=current"} {
		w.do("DELETE", path+query, "", bearer(w.aliceToken)).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	}
	for _, by := range []edit{app, actingFor(secAlice.id)} {
		w.do("DELETE", path+"?except=current", "", by).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	}
	w.do("DELETE", path+"?except=current", "", bearer(w.bobToken)).refused(t, http.StatusForbidden, "missing_privilege")
	require.Equal(t, before, w.holds(t))
}

// What a leaked access key issued ends with it, if that is asked for, and on asking again too.
func TestDeletingAnAccessKeyCanEndWhatItIssued(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	spare := func(r *http.Request) { r.SetBasicAuth(secSpareKey, secSpareSecret) }
	issue := func() string {
		a := w.do("POST", "/v1/users/"+url.PathEscape(string(secBob.id))+"/tokens", "", spare)
		require.Equal(t, http.StatusCreated, a.status, a.body)
		return member(t, a.body, "userToken.signedToken").(string)
	}
	token := issue()
	path := "/v1/applications/" + w.dir.ApplicationID() + "/accessKeys/" + secSpareKey
	w.do("DELETE", path+"?tokens=x", "", app).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	w.do("DELETE", path+"?tokens=revoke", "", bearer(w.bobToken)).refused(t, http.StatusForbidden, "missing_privilege")
	w.works(t, token)
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path, "", app).status)
	w.works(t, token)
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path+"?tokens=revoke", "", app).status, "the key is gone, and its token is not")
	w.everywhere(t, "revoked", token, "token_revoked")
	w.works(t, w.bobToken)
	w.do("DELETE", path+"?tokens=revoke", "", app).refused(t, http.StatusNotFound, "entity_not_found")
}

func TestSigningKeysAreRotatedAndDroppedOverHTTP(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	keys := "/v1/applications/" + w.dir.ApplicationID() + "/signingKeys"
	list := func() (ids []string) {
		a := w.do("GET", keys, "", app)
		require.NotContains(t, a.body, `"d"`, "no secret")
		for _, k := range decode[struct{ Keys []struct{ Kid string } }](t, a, 200).Keys {
			ids = append(ids, k.Kid)
		}
		return ids
	}
	before := list()
	w.do("DELETE", keys+"/"+before[0], "", app).refused(t, http.StatusConflict, "entity_in_use")
	w.do("DELETE", keys+"/nothing", "", app).refused(t, http.StatusNotFound, "entity_not_found")
	w.do("POST", keys, `{"notice":-1}`, app).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	require.Equal(t, http.StatusNoContent, w.do("POST", keys, "", app).status)
	after := list()
	require.NotEqual(t, before, after)
	w.works(t, w.aliceToken)
	require.Equal(t, http.StatusNoContent, w.do("DELETE", keys+"/"+before[0], "", app).status)
	require.NotContains(t, list(), before[0])
	w.works(t, w.aliceToken)
	w.do("GET", "/v1/applications/another/signingKeys", "", app).refused(t, http.StatusForbidden, "missing_context")
	for _, by := range []edit{bearer(w.aliceToken), actingFor(secAlice.id)} {
		w.do("GET", keys, "", by).refused(t, http.StatusForbidden, "missing_privilege")
	}
}
