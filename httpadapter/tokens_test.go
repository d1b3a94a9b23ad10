package httpadapter_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
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
		require.EqualValues(t, 500, list()[0].TTL, "rounded, from 500.4")
		time.Sleep(800 * time.Millisecond)
		require.EqualValues(t, 500, list()[0].TTL, "rounded, from 499.6")
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

func TestThePresenceOfADeviceIsClearedOverHTTP(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	path := "/v1/users/" + url.PathEscape(string(secAlice.id)) + "/presence"
	require.Equal(t, http.StatusNoContent, w.do("POST", path, `{"type":"mitter.up.Away","device":"phone"}`, app).status)
	w.do("DELETE", path+"?device=lost", "", app).refused(t, http.StatusNotFound, "entity_not_found")
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path+"?device=", "", bearer(w.aliceToken)).status, "the default device")
	require.Contains(t, w.do("GET", path, "", app).body, "mitter.up.Away")
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path+"?device=phone", "", bearer(w.aliceToken)).status)
	require.NotContains(t, w.do("GET", path, "", app).body, "mitter.up")
	require.Equal(t, http.StatusNoContent, w.do("POST", path, `{"type":"mitter.up.Away"}`, app).status)
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path, "", app).status)
	require.NotContains(t, w.do("GET", path, "", app).body, "mitter.up")
	w.do("DELETE", path, "", bearer(w.bobToken)).refused(t, http.StatusForbidden, "missing_privilege")
}

// A list that is given back as it was read changes nothing, claims included.
func TestLocatorsGivenBackAsTheyWereReadChangeNothing(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	path := "/v1/users/" + url.PathEscape(string(secAlice.id)) + "/locators"
	require.Equal(t, http.StatusCreated, w.do("POST", path, `"tele:+1 (415) 555-2672"`, bearer(w.aliceToken)).status)
	read := w.do("GET", path, "", app)
	type shape struct {
		Locator, Raw string
		Owned        bool
		VerifiedAt   *int64
	}
	list := decode[[]shape](t, read, 200)
	claim := list[len(list)-1]
	require.Equal(t, shape{"tele:+14155552672", "+1 (415) 555-2672", false, nil}, claim)
	require.True(t, list[0].Owned)
	before := w.holds(t)
	require.Equal(t, http.StatusNoContent, w.do("PUT", path, read.body, app).status)
	require.Equal(t, before, w.holds(t))
	// A claim that its user took back in between does not come back as its own.
	own := decode[[]struct{ Identifier string }](t, read, 200)
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path+"/"+own[len(own)-1].Identifier, "", bearer(w.aliceToken)).status)
	require.Equal(t, http.StatusNoContent, w.do("PUT", path, read.body, app).status)
	require.NotContains(t, w.do("GET", path, "", app).body, claim.Locator)
}

// Whoever may know is told which of several is missing, as it was asked for.
func TestARefusalNamesWhatIsMissingOfSeveral(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	id := url.PathEscape(string(secAlice.id))
	p := w.do("GET", "/v1/users/"+id+",absent-0001,absent-0002/screenname", "", app).refused(t, http.StatusNotFound, "entity_not_found")
	require.Contains(t, fmt.Sprint(p.Diagnostics["missing"]), "absent-0001")
	require.NotContains(t, fmt.Sprint(p.Diagnostics["missing"]), "alice")
	require.Nil(t, w.do("GET", "/v1/users/"+id+",absent-0001/screenname", "", bearer(w.bobToken)).refused(t, http.StatusForbidden, "missing_privilege").Diagnostics["missing"])
	p = w.do("DELETE", "/v1/users/"+id+"/tokens/"+string(w.tokenID)+",absent", "", app).refused(t, http.StatusNotFound, "entity_not_found")
	require.Equal(t, []any{"absent"}, p.Diagnostics["missing"])
	w.works(t, w.aliceToken)
}

func TestARefusalNamesWhichKeysHaveNoDefinition(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	token, _ := a.token(t, "alice-0001")
	a.do("POST", "/v1/attribute-def/users", `{"key":"colour"}`, app)
	body := `{"attributes":[{"key":"colour","value":"red"},{"key":"size","value":"1"},{"key":"shape","value":"o"}]}`
	p := a.do("POST", "/v1/users/me/profile", body, bearer(token)).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	require.Equal(t, []any{"size", "shape"}, p.Diagnostics["missing"])
}

// Of several locators the refusal names those that others have, as they were asked for.
func TestARefusalNamesWhichLocatorsAreTaken(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example", "email:c@d.example")
	a.create(t, "bob-00001")
	list := `["email:free@b.example","email:A@b.example",{"@type":"email","email":"C@D.example"}]`
	taken := map[string]any{"entityType": "locator", "entityLocator": "email:A@b.example,email:C@D.example"}
	p := a.do("POST", "/v1/users", `{"screenName":{"screenName":"C"},"userLocators":`+list+`}`, app).refused(t, http.StatusConflict, "duplicate_entity")
	require.Equal(t, taken, p.Diagnostics)
	p = a.do("PUT", "/v1/users/bob-00001/locators", list, app).refused(t, http.StatusConflict, "duplicate_entity")
	require.Equal(t, taken, p.Diagnostics)
}

// Whoever serves people by this API alone can give out a token that its holder extends no further.
func TestATokenIsIssuedWithALongestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		a.create(t, "alice-0001")
		issued := a.do("POST", "/v1/users/alice-0001/tokens", `{"ttl":60,"maxTtl":600}`, app)
		require.Equal(t, 201, issued.status, issued.body)
		holder := bearer(member(t, issued.body, "userToken.signedToken").(string))
		path := "/v1/users/me/tokens/" + member(t, issued.body, "userToken.tokenId").(string)
		for _, by := range []edit{holder, app} {
			a.do("PATCH", strings.Replace(path, "me", "alice-0001", 1), `{"ttl":3600}`, by).refused(t, 403, "ttl_extension_refused")
		}
		require.Equal(t, 200, a.do("PATCH", path, `{"ttl":500}`, holder).status)
		for _, body := range []string{`{"maxTtl":0}`, `{"maxTtl":-1}`, `{"maxTtl":99999999}`, `{"ttl":60,"maxTtl":59}`} {
			a.do("POST", "/v1/users/alice-0001/tokens", body, app).refused(t, 400, "invalid_parameter_set")
		}
		// Without a ttl it lives no longer than that.
		issued = a.do("POST", "/v1/users/alice-0001/tokens", `{"maxTtl":600}`, app)
		require.Equal(t, 201, issued.status, issued.body)
		require.EqualValues(t, 600, decode[[]struct{ TTL int64 }](t, a.do("GET", "/v1/users/alice-0001/tokens", "", app), 200)[1].TTL)
	})
}
