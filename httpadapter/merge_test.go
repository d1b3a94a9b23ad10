package httpadapter_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestTwoUsersAreMergedByThePolicyOfTheBody(t *testing.T) {
	for body, want := range map[string]struct {
		attribute string
		leads     denizen.UserID
	}{
		`{"into":"bob-of-the-world"}`: {"Bob's", secAlice.id},
		`{"into":"bob-of-the-world","policy":{"attributes":"from","aliasForever":true}}`:         {"Alice's", secBob.id},
		`{"into":"bob-of-the-world","policy":{"attributes":"into","aliasTtl":3600,"other":[1]}}`: {"Bob's", secBob.id},
	} {
		w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
		for user, value := range map[denizen.UserID]string{secAlice.id: "Alice's", secBob.id: "Bob's"} {
			_, err := w.dir.SetAttribute(t.Context(), denizen.System(), user, denizen.Attribute{Key: secAttribute, Value: value})
			require.NoError(t, err)
		}
		require.Equal(t, http.StatusNoContent, w.do("POST", "/v1/users/"+secAlice.tele+"/merge", body, app).status, body)
		as, err := w.dir.Attributes(t.Context(), denizen.System(), secBob.id, []string{secAttribute})
		require.NoError(t, err)
		require.Equal(t, want.attribute, as[0].Value)
		leads, err := w.dir.ResolveUser(t.Context(), denizen.System(), string(secAlice.id))
		require.NoError(t, err)
		require.Equal(t, want.leads, leads)
		w.do("GET", "/v1/users/"+secEscaped(secAlice.id), "", app).refused(t, http.StatusNotFound, "entity_not_found")
		w.do("GET", "/v1/users/me", "", bearer(w.aliceToken)).refused(t, http.StatusUnauthorized, "token_revoked")
	}
}

func TestAMergeThatIsRefusedSaysWhy(t *testing.T) {
	w := newSecWorld(t, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}}, httpadapter.Options{})
	_, err := w.dir.SetAttribute(t.Context(), denizen.System(), secBob.id, denizen.Attribute{Key: secAttribute, Value: "Another"})
	require.NoError(t, err)
	before := w.holds(t)
	for _, r := range []struct {
		from, body string
		status     int
		code, says string
	}{
		{"alice", `{}`, 400, "invalid_parameter_set", `"parameter":"into"`},
		{"alice", `{"into":"short"}`, 400, "invalid_parameter_set", `"parameter":"into"`},
		{"alice", `{"into":"alice#of-the-world"}`, 400, "invalid_parameter_set", `"parameter":"into"`},
		{"alice", `{"into":{"identifier":"bob-of-the-world"}}`, 400, "invalid_input_syntax", ""},
		{"alice", `{"into":"bob-of-the-world","policy":{"attributes":"both"}}`, 400, "invalid_parameter_set", `"parameter":"attributes"`},
		{"alice", `{"into":"bob-of-the-world","policy":{"aliasTtl":-1}}`, 400, "invalid_parameter_set", `"parameter":"aliasTtl"`},
		{"alice", `{"into":"bob-of-the-world","policy":{"aliasTtl":99999999999}}`, 400, "invalid_parameter_set", `"parameter":"alias"`},
		{"alice", `{"into":"bob-of-the-world","policy":{"aliasTtl":1,"aliasForever":true}}`, 400, "invalid_parameter_set", `"parameter":"aliasTtl"`},
		{"alice", `{"into":"nobody-of-the-world"}`, 404, "entity_not_found", `"missing":["nobody-of-the-world"]`},
		{"alice", `{"into":"carol-of-the-world"}`, 403, "missing_privilege", `mergeUsers`},
		{"alice", `{"into":"bob-of-the-world","policy":{"attributes":"refuse"}}`, 409, "duplicate_entity", `"entityLocator":"nickname"`},
	} {
		a := w.do("POST", "/v1/users/"+secEscaped(secAlice.id)+"/merge", r.body, app)
		a.refused(t, r.status, r.code)
		require.True(t, strings.Contains(a.body, r.says), "%s: %s", r.body, a.body)
	}
	require.Equal(t, before, w.holds(t))
}
