package httpadapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/httpadapter"
)

// everybody lets users see each other.
var everybody = denizen.Options{
	MaySee: func(_ context.Context, _, _ denizen.UserID, _ denizen.Facet) (bool, error) { return true, nil },
}

type created struct{ Identifier string }

// create makes a user over HTTP and answers it.
func (a *api) create(t testing.TB, id string, locators ...string) denizen.UserID {
	t.Helper()
	body := fmt.Sprintf(`{"userId":%q,"screenName":{"screenName":"Name of %s"},"userLocators":%s}`, id, id, marshal(t, append([]string{}, locators...)))
	require.Equal(t, id, decode[created](t, a.do("POST", "/v1/users", body, app), 201).Identifier)
	return denizen.UserID(id)
}

// token issues a token over HTTP.
func (a *api) token(t testing.TB, id denizen.UserID) (signed, tokenID string) {
	t.Helper()
	issued := decode[struct {
		UserToken struct{ SignedToken, TokenID string }
	}](t, a.do("POST", "/v1/users/"+url.PathEscape(string(id))+"/tokens", "", app), 201)
	return issued.UserToken.SignedToken, issued.UserToken.TokenID
}

func marshal(t testing.TB, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// member answers a member of a JSON object, by a path with dots.
func member(t testing.TB, body, path string) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(body), &v), body)
	for name := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		require.True(t, ok, "%s in %s", path, body)
		v, ok = object[name]
		require.True(t, ok, "%s in %s", path, body)
	}
	return v
}

func TestCreatingAUserAnswersItsIdentifierAlone(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	got := a.do("POST", "/v1/users", `{"userId":"alice-0001","screenName":{"screenName":"Alice"}}`, app)
	got.json(t, 201, `{"identifier":"alice-0001"}`)
	require.Equal(t, "users/alice-0001", got.header.Get("Location"))
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
}

func TestTheLocationOfAUserLeadsToIt(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	got := a.do("POST", "/v1/users", `{"userId":"#a$b@c-d_e","screenName":{"screenName":"Odd"}}`, app)
	base, err := url.Parse("http://x.example/v1/users")
	require.NoError(t, err)
	location, err := base.Parse(got.header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "#a$b@c-d_e", member(t, a.do("GET", location.RequestURI(), "", app).body, "userId"))
}

func TestAUserIsAnsweredWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{ApplicationID: "app"}, httpadapter.Options{})
		a.create(t, "alice-0001", "email:Alice@Example.org", "tele:+1 201 555 0123")
		u, err := a.dir.User(t.Context(), denizen.System(), "alice-0001")
		require.NoError(t, err)
		got := a.do("GET", "/v1/users/alice-0001", "", app)
		got.json(t, 200, fmt.Sprintf(`{
			"userId": "alice-0001", "identifier": "alice-0001", "internalId": %q,
			"screenName": {"screenName": "Name of alice-0001"},
			"userLocators": [
				{"@type": "email", "userLocatorId": %q, "identifier": %q, "locator": "email:Alice@Example.org", "email": "Alice@Example.org",
				 "verificationStatus": "StatusNotProvided", "applicationId": {"identifier": "app"},
				 "owned": true, "raw": "Alice@Example.org", "verifiedAt": null},
				{"@type": "tele", "userLocatorId": %q, "identifier": %q, "locator": "tele:+12015550123",
				 "verificationStatus": "StatusNotProvided", "applicationId": {"identifier": "app"},
				 "owned": true, "raw": "+1 201 555 0123", "verifiedAt": null}
			],
			"systemUser": false, "synthetic": false, "blocked": false, "entityProfile": null, "entityMetadata": {},
			"auditInfo": {"createdAt": %d, "updatedAt": %d}
		}`, u.InternalID, u.Locators[0].ID, u.Locators[0].ID, u.Locators[1].ID, u.Locators[1].ID, u.CreatedAt.UnixMilli(), u.UpdatedAt.UnixMilli()))

		signed, _ := a.token(t, "alice-0001")
		require.JSONEq(t, got.body, a.do("GET", "/v1/users/me", "", bearer(signed)).body, "to itself it is the same")
		require.JSONEq(t, got.body, a.do("GET", "/v1/users/email:alice@example.org", "", bearer(signed)).body, "by its own locator too")
		require.JSONEq(t, got.body, a.do("GET", "/v1/users/tele:+1%20201%20555%200123", "", app).body)
	})
}

func TestAPeerSeesTheNameOfAUserAlone(t *testing.T) {
	a := newAPI(t, everybody, httpadapter.Options{})
	a.create(t, "alice-0001", "email:alice@example.org")
	bob, _ := a.token(t, a.create(t, "bob-00001"))
	got := a.do("GET", "/v1/users/alice-0001", "", bearer(bob))
	got.json(t, 200, `{"userId":"alice-0001","identifier":"alice-0001","screenName":{"screenName":"Name of alice-0001"},"userLocators":[],"entityProfile":null}`)
	require.Equal(t, got.body, a.do("GET", "/v1/users/alice-0001?withProfileAttributes=*", "", bearer(bob)).body)
	require.Empty(t, got.header.Get("ETag"), "a peer learns nothing of when a user changed")
}

func TestWhatAUserIsCreatedWithComesInManySpellings(t *testing.T) {
	for _, row := range []struct{ name, given, locators string }{
		{"strings", `["email:a@b.example","tele:+12015550123"]`, "email:a@b.example tele:+12015550123"},
		{"objects with a locator", `[{"locator":"email:a@b.example"}]`, "email:a@b.example"},
		{"a locator decides", `[{"@type":"tele","locator":"email:a@b.example","email":"c@d.example"}]`, "email:a@b.example"},
		{"an e-mail", `[{"@type":"email","email":"a@b.example"}]`, "email:a@b.example"},
		{"a telephone", `[{"@type":"tele","phoneNumber":"+12015550123"}]`, "tele:+12015550123"},
		{"a phoneNumber object says nothing", `[{"locator":"tele:+12015550123","phoneNumber":{"countryCode":1}}]`, "tele:+12015550123"},
		{"both", `["email:a@b.example",{"@type":"tele","phoneNumber":"+12015550123"}]`, "email:a@b.example tele:+12015550123"},
		{"what is ours to set is ignored", `[{"locator":"email:a@b.example","userLocatorId":"x","identifier":7,"applicationId":[]}]`, "email:a@b.example"},
		{"none", `[]`, ""},
		{"null", `null`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAPI(t, denizen.Options{}, httpadapter.Options{})
			body := `{"userId":"alice-0001","screenName":{"screenName":"A"},"userLocators":` + row.given + `,
				"identifier":"x","internalId":1,"systemUser":true,"synthetic":true,"blocked":true,"auditInfo":{"createdAt":1},"entityProfile":null,"somethingElse":[{}]}`
			require.Equal(t, 201, a.do("POST", "/v1/users", body, app).status)
			u, err := a.dir.User(t.Context(), denizen.System(), "alice-0001")
			require.NoError(t, err)
			require.False(t, u.Blocked)
			var got []string
			for _, l := range u.Locators {
				got = append(got, l.String())
			}
			require.Equal(t, row.locators, strings.Join(got, " "))
		})
	}
}

func TestAUserIsNotCreatedWithTheClaimsOfAnother(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	body := `{"screenName":{"screenName":"C"},"userLocators":["email:a@b.example",{"locator":"email:claim@b.example","owned":false},` +
		`{"locator":"email:proved@b.example","owned":false,"verificationStatus":"Verified"}]}`
	require.Equal(t, 201, a.do("POST", "/v1/users", body, app).status)
	for locator, found := range map[string]int{"email:a@b.example": 1, "email:claim@b.example": 0, "email:proved@b.example": 1} {
		require.Len(t, decode[[]any](t, a.do("GET", "/v1/users?locators="+locator, "", app), 200), found, locator)
	}
}

func TestAUserThatBreaksARuleIsNotCreated(t *testing.T) {
	for _, row := range []struct {
		name, body      string
		status          int
		code, parameter string
	}{
		{"no screen name", `{"userId":"carol-0001"}`, 400, "invalid_parameter_set", "screenName"},
		{"a screen name that is no object", `{"screenName":"Carol"}`, 400, "invalid_input_syntax", ""},
		{"an id outside the grammar", `{"userId":"carol","screenName":{"screenName":"C"}}`, 400, "invalid_parameter_set", "userId"},
		{"an empty id", `{"userId":"","screenName":{"screenName":"C"}}`, 400, "invalid_parameter_set", "userId"},
		{"a reserved id", `{"userId":".system","screenName":{"screenName":"C"}}`, 400, "invalid_parameter_set", "userId"},
		{"a number for an id", `{"userId":12345678,"screenName":{"screenName":"C"}}`, 400, "invalid_input_syntax", ""},
		{"a locator that is a number", `{"screenName":{"screenName":"C"},"userLocators":[1]}`, 400, "invalid_input_syntax", ""},
		{"a locator of no type", `{"screenName":{"screenName":"C"},"userLocators":[{}]}`, 400, "invalid_parameter_set", "@type"},
		{"a type in capitals", `{"screenName":{"screenName":"C"},"userLocators":["EMAIL:c@d.example"]}`, 400, "invalid_parameter_set", "locator"},
		{"a locator twice", `{"screenName":{"screenName":"C"},"userLocators":["email:c@d.example","email:C@D.example"]}`, 400, "invalid_parameter_set", "userLocators"},
		{"a status out of range", `{"screenName":{"screenName":"C"},"userLocators":[{"locator":"email:c@d.example","verificationStatus":5}]}`, 400, "invalid_parameter_set", "verificationStatus"},
		{"a status of no such name", `{"screenName":{"screenName":"C"},"userLocators":[{"locator":"email:c@d.example","verificationStatus":"verified"}]}`, 400, "invalid_parameter_set", "verificationStatus"},
		{"an attribute without a definition", `{"screenName":{"screenName":"C"},"entityProfile":{"attributes":[{"key":"k","value":"v"}]}}`, 400, "invalid_parameter_set", "key"},
		{"a list", `[]`, 400, "invalid_input_syntax", ""},
		{"a taken id", `{"userId":"alice-0001","screenName":{"screenName":"C"}}`, 409, "duplicate_entity", ""},
		{"a taken locator", `{"userId":"carol-0001","screenName":{"screenName":"C"},"userLocators":["email:new@b.example","email:a@b.example"]}`, 409, "duplicate_entity", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAPI(t, denizen.Options{}, httpadapter.Options{})
			a.create(t, "alice-0001", "email:a@b.example")
			p := a.do("POST", "/v1/users", row.body, app).refused(t, row.status, row.code)
			if row.parameter != "" {
				require.Equal(t, row.parameter, p.Diagnostics["parameter"])
				require.NotEmpty(t, p.Diagnostics["reason"])
			}
			n, err := a.dir.CountUsers(t.Context(), denizen.System())
			require.NoError(t, err)
			require.Equal(t, 1, n)
			found, err := a.dir.UsersByLocator(t.Context(), denizen.System(), []string{"email:new@b.example"})
			require.NoError(t, err)
			require.Empty(t, found)
		})
	}
}

func TestADuplicateNamesWhatWasAsked(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	p := a.do("POST", "/v1/users", `{"userId":"alice-0001","screenName":{"screenName":"C"}}`, app).refused(t, 409, "duplicate_entity")
	require.Equal(t, map[string]any{"entityType": "user", "entityLocator": "alice-0001"}, p.Diagnostics)
	p = a.do("POST", "/v1/users", `{"screenName":{"screenName":"C"},"userLocators":["email:A@b.example"]}`, app).refused(t, 409, "duplicate_entity")
	require.Equal(t, map[string]any{"entityType": "locator", "entityLocator": "email:A@b.example"}, p.Diagnostics)
	p = a.do("GET", "/v1/users/alice-0001/locators/nolocator", "", app).refused(t, 404, "entity_not_found")
	require.Equal(t, map[string]any{"entityType": "locator", "entityLocator": "nolocator"}, p.Diagnostics)
	p = a.do("GET", "/v1/users/email:nobody@b.example", "", app).refused(t, 404, "entity_not_found")
	require.Equal(t, map[string]any{"entityType": "user", "entityLocator": "email:nobody@b.example"}, p.Diagnostics)
}

func TestAnIdempotencyKeyMakesOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		key := header("Idempotency-Key", "order-1")
		body := `{"screenName":{"screenName":"Carol"}}`
		first := a.do("POST", "/v1/users", body, app, key)
		id := decode[created](t, first, 201).Identifier
		time.Sleep(23 * time.Hour)
		again := a.do("POST", "/v1/users", body, app, key)
		require.Equal(t, first.body, again.body)
		require.Equal(t, first.status, again.status)
		require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
		a.do("POST", "/v1/users", body+" ", app, key).refused(t, 422, "idempotency_mismatch")
		other := decode[created](t, a.do("POST", "/v1/users", body, app, header("Idempotency-Key", "order-2")), 201)
		require.NotEqual(t, id, other.Identifier)
		time.Sleep(25 * time.Hour)
		require.NotEqual(t, id, decode[created](t, a.do("POST", "/v1/users", body, app, key), 201).Identifier, "a day is over")
	})
}

func TestABadIdempotencyKeyIsRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	body := `{"screenName":{"screenName":"Carol"}}`
	for _, keys := range [][]string{{""}, {strings.Repeat("k", 257)}, {"a", "a"}} {
		p := a.do("POST", "/v1/users", body, app, func(r *http.Request) { r.Header["Idempotency-Key"] = keys }).refused(t, 400, "invalid_parameter_set")
		require.Equal(t, "Idempotency-Key", p.Diagnostics["parameter"])
	}
}

func TestUsersAreFoundByTheirLocators(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example", "tele:+12015550123")
	a.create(t, "bob-00001", "email:b@b.example")
	ids := func(target string) (ids []string) {
		for _, u := range decode[[]struct{ UserID string }](t, a.do("GET", target, "", app), 200) {
			ids = append(ids, u.UserID)
		}
		return ids
	}
	require.Equal(t, []string{"bob-00001", "alice-0001"}, ids("/v1/users?locators=email:b@b.example,email:A@B.example&locators=tele:%2B12015550123,email:c@b.example"))
	a.do("GET", "/v1/users?locators=email:c@b.example", "", app).json(t, 200, `[]`)
	a.do("GET", "/v1/users?locators=", "", app).json(t, 200, `[]`)
	a.do("GET", "/v1/users?locators=a@b.example", "", app).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/users?locators="+strings.Repeat("email:a@b.example,", 101), "", app).refused(t, 400, "invalid_parameter_set")
}

func TestPagesLeadThroughAllUsers(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for i := range 25 {
		a.create(t, fmt.Sprintf("user-%04d", i))
	}
	base, err := url.Parse("http://x.example/v1/users")
	require.NoError(t, err)
	target, seen := "/v1/users?limit=10&sandboxed=false", 0
	for pages := 1; ; pages++ {
		got := a.do("GET", target, "", app)
		require.Equal(t, "25", got.header.Get("X-Mitter-Paginated-Estimated-Count"))
		for _, u := range decode[[]struct{ UserID string }](t, got, 200) {
			require.Equal(t, fmt.Sprintf("user-%04d", seen), u.UserID)
			seen++
		}
		link := got.header.Get("Link")
		if link == "" {
			require.Equal(t, 3, pages)
			break
		}
		text, found := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		require.True(t, found, link)
		next, err := base.Parse(text)
		require.NoError(t, err)
		target = next.RequestURI()
	}
	require.Equal(t, 25, seen)
	require.Len(t, decode[[]any](t, a.do("GET", "/v1/users", "", app), 200), 25)
	require.Len(t, decode[[]any](t, a.do("GET", "/v1/users?limit=1000", "", app), 200), 25)
}

func TestABadPageIsRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for target, parameter := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit", "limit=1&limit=1": "limit",
		"after=x": "after", "after=a&after=a": "after", "limit=%zz": "query", "a;b": "query",
	} {
		p := a.do("GET", "/v1/users?"+target, "", app).refused(t, 400, "invalid_parameter_set")
		require.Equal(t, parameter, p.Diagnostics["parameter"], target)
	}
}

func TestAttributesAreAttachedToUsersWhenAsked(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for _, key := range []string{"colour", "shoe"} {
		a.do("POST", "/v1/attribute-def/users", `{"key":"`+key+`"}`, app)
	}
	body := `{"userId":"alice-0001","screenName":{"screenName":"A"},"userLocators":["email:a@b.example"],
		"entityProfile":{"attributes":[{"key":"colour","value":"red"},{"key":"shoe","value":"43"}]}}`
	require.Equal(t, 201, a.do("POST", "/v1/users", body, app).status)
	profile := func(body string) string { return marshal(t, member(t, body, "entityProfile")) }
	attribute := func(key, value string) string {
		return `{"key":"` + key + `","contentType":"text/plain","contentEncoding":"identity","value":"` + value + `"}`
	}
	for target, want := range map[string]string{
		"":                                 `null`,
		"?withProfileAttributes=":          `null`,
		"?withProfileAttributes=shoe":      `{"entityId":{"identifier":"alice-0001"},"attributes":[` + attribute("shoe", "43") + `]}`,
		"?withProfileAttributes=shoe,none": `{"entityId":{"identifier":"alice-0001"},"attributes":[` + attribute("shoe", "43") + `]}`,
		"?withProfileAttributes=*&shouldFetchMetadata=true": `{"entityId":{"identifier":"alice-0001"},"attributes":[` + attribute("colour", "red") + `,` + attribute("shoe", "43") + `]}`,
	} {
		require.JSONEq(t, want, profile(a.do("GET", "/v1/users/alice-0001"+target, "", app).body), target)
	}
	list := a.do("GET", "/v1/users?withProfileAttributes=colour", "", app)
	require.Contains(t, list.body, `"value":"red"`)
	require.NotContains(t, list.body, `"value":"43"`)
	list = a.do("GET", "/v1/users?locators=email:a@b.example&withProfileAttributes=shoe", "", app)
	require.Contains(t, list.body, `"value":"43"`)
}

func TestAnETagSavesReadingAUserAgain(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	a.do("POST", "/v1/attribute-def/users", `{"key":"colour"}`, app)
	for _, target := range []string{"/v1/users/alice-0001", "/v1/users/alice-0001?withProfileAttributes=*", "/v1/users/alice-0001/profile"} {
		t.Run(target, func(t *testing.T) {
			tag := a.do("GET", target, "", app).header.Get("ETag")
			require.Regexp(t, `^"[0-9A-Za-z_-]{24}(\.[0-9A-Za-z_-]{24})?"$`, tag)
			for _, match := range []string{tag, `W/` + tag, `"x", ` + tag, "*"} {
				got := a.do("GET", target, "", app, header("If-None-Match", match))
				require.Equal(t, 304, got.status, match)
				require.Empty(t, got.body)
				require.Equal(t, tag, got.header.Get("ETag"))
			}
			require.Equal(t, 200, a.do("GET", target, "", app, header("If-None-Match", `"x"`)).status)
			require.Equal(t, 204, a.do("PUT", "/v1/users/alice-0001/screenname", `{"screenName":"`+rename()+`"}`, app).status)
			require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile/colour", `{"value":"`+rename()+`"}`, app).status)
			got := a.do("GET", target, "", app, header("If-None-Match", tag))
			require.Equal(t, 200, got.status)
			require.NotEqual(t, tag, got.header.Get("ETag"))
		})
	}
}

var names int

// rename answers a name that was not answered before.
func rename() string {
	names++
	return fmt.Sprint("Name ", names)
}

func TestAWriteMayRestOnAVersion(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.do("POST", "/v1/attribute-def/users", `{"key":"colour"}`, app)
	const user, profile = "/v1/users/alice-0001", "/v1/users/alice-0001/profile"
	for _, row := range []struct{ name, of, method, target, body string }{
		{"set the screen name", user, "PUT", user + "/screenname", `{"screenName":"New"}`},
		{"block", user, "PATCH", user, `{"blocked":true}`},
		{"set the locators", user, "PUT", user + "/locators", `["email:n@b.example"]`},
		{"delete", user, "DELETE", user, ``},
		{"set attributes", profile, "POST", profile, `{"attributes":[{"key":"colour","value":"red"}]}`},
		{"set an attribute", profile, "POST", profile + "/colour", `{"value":"red"}`},
		{"remove an attribute", profile, "DELETE", profile + "/colour", ``},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.create(t, "alice-0001")
			defer a.do("DELETE", user, "", app)
			if row.method == "DELETE" && row.of == profile {
				a.do("POST", profile+"/colour", `{"value":"blue"}`, app)
			}
			tag := a.do("GET", row.of, "", app).header.Get("ETag")
			for _, stale := range []string{`"999999"`, `"x"`, `W/` + tag, "x", ``} {
				a.do(row.method, row.target, row.body, app, header("If-Match", stale)).refused(t, 412, "precondition_failed")
			}
			require.Equal(t, tag, a.do("GET", row.of, "", app).header.Get("ETag"), "nothing was changed")
			require.Equal(t, 204, a.do(row.method, row.target, row.body, app, header("If-Match", `"999999", `+tag)).status)
		})
	}
	a.create(t, "alice-0001")
	require.Equal(t, 204, a.do("PUT", user+"/screenname", `{"screenName":"Any"}`, app, header("If-Match", "*")).status)
	a.do("PUT", user+"/screenname", `{"screenName":"Any"}`, app, header("If-Match", strings.Repeat(`"1",`, 17))).refused(t, 400, "invalid_parameter_set")
}

func TestABlockedUserIsOutAtOnce(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001"))
	require.Equal(t, 204, a.do("PATCH", "/v1/users/alice-0001", `{"blocked":true}`, app).status)
	a.do("GET", "/v1/users/me", "", bearer(signed)).refused(t, 401, "token_revoked")
	require.Equal(t, true, member(t, a.do("GET", "/v1/users/alice-0001", "", app).body, "blocked"))
	a.do("POST", "/v1/users/alice-0001/tokens", "", app).refused(t, 403, "token_issuance_refused")
	require.Equal(t, 204, a.do("PATCH", "/v1/users/alice-0001", `{"blocked":false}`, app).status)
	a.do("GET", "/v1/users/me", "", bearer(signed)).refused(t, 401, "token_revoked")
	a.do("PATCH", "/v1/users/alice-0001", `{}`, app).refused(t, 400, "invalid_parameter_set")
	a.do("PATCH", "/v1/users/alice-0001", `{"blocked":1}`, app).refused(t, 400, "invalid_input_syntax")
}

func TestADeletedUserLeavesNothing(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001", "email:a@b.example"))
	before := member(t, a.do("GET", "/v1/users/alice-0001", "", app).body, "internalId")
	require.Equal(t, 204, a.do("DELETE", "/v1/users/email:a@b.example", "", app).status)
	a.do("GET", "/v1/users/alice-0001", "", app).refused(t, 404, "entity_not_found")
	a.do("DELETE", "/v1/users/alice-0001", "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/users/me", "", bearer(signed)).refused(t, 401, "token_revoked")
	a.create(t, "alice-0001", "email:a@b.example")
	require.NotEqual(t, before, member(t, a.do("GET", "/v1/users/alice-0001", "", app).body, "internalId"))
	a.do("GET", "/v1/users/me", "", bearer(signed)).refused(t, 401, "token_revoked")
}

func TestScreenNamesComeInTheOrderAsked(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	bob, _ := a.token(t, a.create(t, "bob-00001"))
	const both = `{"screenNames":[{"screenName":"Name of bob-00001"},{"screenName":"Name of alice-0001"}]}`
	a.do("GET", "/v1/users/bob-00001,alice-0001/screenname", "", app).json(t, 200, both)
	a.do("GET", "/v1/users/bob-00001%2Cemail:a@b.example/screenname", "", app).json(t, 200, both)
	a.do("GET", "/v1/users/me/screenname", "", bearer(bob)).json(t, 200, `{"screenNames":[{"screenName":"Name of bob-00001"}]}`)
	a.do("GET", "/v1/users/bob-00001,carol-0001/screenname", "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/users/bob-00001,/screenname", "", app).refused(t, 400, "invalid_parameter_set")
	a.do("GET", "/v1/users/"+strings.Repeat("bob-00001,", 100)+"bob-00001/screenname", "", app).refused(t, 400, "invalid_parameter_set")
	a.do("PUT", "/v1/users/bob-00001%2Calice-0001/screenname", `{"screenName":"x"}`, app).refused(t, 400, "invalid_parameter_set")
	require.Equal(t, 204, a.do("PUT", "/v1/users/me/screenname", `{"screenName":"Robert"}`, bearer(bob)).status)
	a.do("GET", "/v1/users/bob-00001/screenname", "", app).json(t, 200, `{"screenNames":[{"screenName":"Robert"}]}`)
}

func TestHeadAnswersAsGetWithoutTheBody(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	get, head := a.do("GET", "/v1/users/alice-0001", "", app), a.do("HEAD", "/v1/users/alice-0001", "", app)
	require.Equal(t, get.status, head.status)
	require.Empty(t, head.body)
	for _, h := range []http.Header{get.header, head.header} {
		h.Del("X-Request-Id")
	}
	require.Equal(t, get.header, head.header)
}

func TestADirectoryOfTheTestKitIsServed(t *testing.T) {
	dir := denizentest.New(t)
	alice := denizentest.User(t, dir, "Alice")
	a := &api{dir, recorded(httpadapter.New(dir, httpadapter.Options{}), "")}
	got := a.do("GET", "/v1/users/me", "", bearer(denizentest.Token(t, dir, alice.ID)))
	require.Equal(t, string(alice.ID), member(t, got.body, "userId"))
}

// A tag says nothing of what others write.
func TestAnETagRestsOnItsEntityAlone(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	a.do("POST", "/v1/attribute-def/users", `{"key":"colour"}`, app)
	require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile/colour", `{"value":"red"}`, app).status)
	profile := a.do("GET", "/v1/users/alice-0001/profile", "", app).header.Get("ETag")
	for i := range 3 { // strangers write in between
		require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile/colour", `{"value":"blue"}`, app).status)
		a.create(t, fmt.Sprintf("stranger-%d", i))
		require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile/colour", `{"value":"red"}`, app).status)
		require.Equal(t, profile, a.do("GET", "/v1/users/alice-0001/profile", "", app).header.Get("ETag"))
	}
	user := a.do("GET", "/v1/users/alice-0001?withProfileAttributes=*", "", app).header.Get("ETag")
	require.Equal(t, 204, a.do("PUT", "/v1/users/alice-0001/screenname", `{"screenName":"New"}`, app, header("If-Match", user)).status,
		"a write of the user rests on the first half")
	a.do("PUT", "/v1/users/alice-0001/screenname", `{"screenName":"Newer"}`, app, header("If-Match", user)).refused(t, 412, "precondition_failed")
}

// Each key is looked for in each profile: a long query must not cost what it likes.
func TestTooManyWantedAttributesAreRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	for _, path := range []string{"/v1/users/alice-0001?", "/v1/users?", "/v1/users?locators=email:a@b.example&"} {
		p := a.do("GET", path+"withProfileAttributes="+strings.Repeat("k,", 101), "", app).refused(t, 400, "invalid_parameter_set")
		require.Equal(t, "withProfileAttributes", p.Diagnostics["parameter"])
		require.Equal(t, 200, a.do("GET", path+"withProfileAttributes="+strings.Repeat("k,", 100), "", app).status)
	}
}

// What narrows an answer is never ignored.
func TestAFilterThatIsNotServedIsRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	for _, filter := range []string{
		"metadata=%7B%7D", "metadata=", "ids=alice-0001", "name=x", "attribute.colour=red", "blocked=true", "createdAfter=1",
		"locators=email:a@b.example&metadata=x",
	} {
		a.do("GET", "/v1/users?"+filter, "", app).refused(t, 400, "invalid_parameter_set")
	}
	for _, other := range []string{"", "sandboxed=true", "shouldFetchMetadata=true", "nonsense=1", "attributes=x"} {
		require.Equal(t, 200, a.do("GET", "/v1/users?"+other, "", app).status, other)
	}
}

func TestABodyOfTooManyMembersIsRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	var members []string
	for i := range 7000 {
		members = append(members, fmt.Sprintf(`"%d":0`, i))
	}
	for _, body := range []string{
		"{" + strings.Join(members, ",") + "}",
		`{"screenName":"x","y":[` + strings.Repeat("0,", 7000) + "0]}",
		`{"screenName":"x","y":[` + strings.Repeat("[[],[]],", 1000) + "0]}",
	} {
		p := a.do("PUT", "/v1/users/alice-0001/screenname", body, app).refused(t, 400, "invalid_input_syntax")
		require.Contains(t, p.Message, "too many members")
	}
	body := `{"screenName":"x",` + strings.Join(members[:2000], ",") + "}"
	require.Equal(t, 204, a.do("PUT", "/v1/users/alice-0001/screenname", body, app).status)
}

func TestTheApplicationVouchesForALocator(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	claim := decode[created](t, w.do("POST", "/v1/users/me/locators", `"email:claimed@example.org"`, bearer(w.aliceToken)), 201).Identifier
	path := "/v1/users/" + url.PathEscape(string(secAlice.id)) + "/locators/" + claim
	for _, body := range []string{`{}`, `{"verificationStatus":null}`, `{"verificationStatus":7}`, `{"verificationStatus":"Sure"}`, `{"verificationStatus":""}`} {
		w.do("PATCH", path, body, app).refused(t, 400, "invalid_parameter_set")
	}
	w.do("PATCH", path, `{"verificationStatus":[]}`, app).refused(t, 400, "invalid_input_syntax")
	require.Equal(t, "[]", w.do("GET", "/v1/users?locators=email:claimed@example.org", "", app).body)
	require.Equal(t, 204, w.do("PATCH", path, `{"verificationStatus":"Verified"}`, app).status)
	require.Contains(t, w.do("GET", "/v1/users?locators=email:claimed@example.org", "", app).body, string(secAlice.id))
	// Another's claim on it stays one.
	claim = decode[created](t, w.do("POST", "/v1/users/me/locators", `"email:claimed@example.org"`, bearer(w.bobToken)), 201).Identifier
	w.do("PATCH", "/v1/users/"+url.PathEscape(string(secBob.id))+"/locators/"+claim, `{"verificationStatus":0}`, app).refused(t, 409, "duplicate_entity")
}

func TestAddingAnOwnedLocatorWithAnotherStatusIsAConflict(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	path := "/v1/users/" + url.PathEscape(string(secAlice.id)) + "/locators"
	before := w.holds(t)
	w.do("POST", path, `{"locator":"`+secAlice.email+`","verificationStatus":"Verified"}`, app).refused(t, 409, "duplicate_entity")
	require.Equal(t, before, w.holds(t))
	for _, body := range []string{`"` + secAlice.email + `"`, `{"locator":"` + secAlice.email + `","verificationStatus":"StatusNotProvided"}`} {
		require.Equal(t, 201, w.do("POST", path, body, app).status)
	}
	require.Equal(t, 201, w.do("POST", path, `{"locator":"`+secAlice.email+`","verificationStatus":"Verified"}`, bearer(w.aliceToken)).status)
}

// One signed-in user cannot push the feed: it is told when to come again.
func TestAUserThatChangesThingsTooOftenIsToldWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{UserEventBurst: 2, UserEventInterval: 3 * time.Second}, httpadapter.Options{})
		a.create(t, "alice-0001")
		token, _ := a.token(t, "alice-0001")
		set := func(by edit) answer {
			return a.do("PUT", "/v1/users/alice-0001/screenname", `{"screenName":"`+rename()+`"}`, by)
		}
		for range 2 {
			require.Equal(t, 204, set(bearer(token)).status)
		}
		limited := set(bearer(token))
		limited.refused(t, http.StatusTooManyRequests, "rate_limited")
		require.Equal(t, "3", limited.header.Get("Retry-After"))
		require.Equal(t, 204, set(app).status)
		time.Sleep(3 * time.Second)
		require.Equal(t, 204, set(bearer(token)).status)
	})
}

func TestABlockMayHaveAReasonAndAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		a.create(t, "alice-0001")
		until := time.Now().Add(time.Hour).UnixMilli()
		require.Equal(t, 204, a.do("PATCH", "/v1/users/alice-0001", fmt.Sprintf(`{"blocked":true,"reason":"spam","until":%d}`, until), app).status)
		shown := decode[map[string]any](t, a.do("GET", "/v1/users/alice-0001", "", app), 200)
		require.Equal(t, []any{true, "spam", float64(until)}, []any{shown["blocked"], shown["blockReason"], shown["blockedUntil"]})
		tag := a.do("GET", "/v1/users/alice-0001", "", app).header.Get("ETag")
		time.Sleep(time.Hour)
		after := a.do("GET", "/v1/users/alice-0001", "", app, header("If-None-Match", tag))
		shown = decode[map[string]any](t, after, 200)
		require.Equal(t, false, shown["blocked"])
		require.NotContains(t, shown, "blockReason")
		require.NotContains(t, shown, "blockedUntil")
		signed, _ := a.token(t, "alice-0001")
		require.Equal(t, 200, a.do("GET", "/v1/users/me", "", bearer(signed)).status)
		for body, code := range map[string]string{
			`{"blocked":true,"until":1}`:                                        "invalid_parameter_set",
			`{"blocked":true,"until":-1}`:                                       "invalid_parameter_set",
			`{"blocked":true,"until":9007199254740991}`:                         "invalid_parameter_set",
			`{"blocked":true,"until":"tomorrow"}`:                               "invalid_input_syntax",
			`{"blocked":true,"until":1.5}`:                                      "invalid_input_syntax",
			`{"blocked":true,"reason":1}`:                                       "invalid_input_syntax",
			`{"blocked":true,"reason":"` + strings.Repeat("r", 1025) + `"}`:     "invalid_parameter_set",
			`{"blocked":false,"reason":"why"}`:                                  "invalid_parameter_set",
			fmt.Sprintf(`{"blocked":false,"until":%d}`, until+int64(time.Hour)): "invalid_parameter_set",
		} {
			a.do("PATCH", "/v1/users/alice-0001", body, app).refused(t, 400, code)
		}
		require.Equal(t, 204, a.do("PATCH", "/v1/users/alice-0001", `{"blocked":true,"reason":null,"until":null}`, app).status)
	})
}

func TestAnErasureAnswersTheReceipt(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001", "email:a@b.example"))
	u, err := a.dir.User(t.Context(), denizen.System(), "alice-0001")
	require.NoError(t, err)
	a.do("POST", "/v1/users/me/erasure", "", bearer(signed)).refused(t, 403, "missing_privilege")
	a.do("POST", "/v1/users/alice-0001/erasure", "", app, header("If-Match", `"another"`)).refused(t, 412, "precondition_failed")
	receipt := decode[denizen.Erasure](t, a.do("POST", "/v1/users/email:a@b.example/erasure", "", app), 200)
	require.Equal(t, denizen.UserID("alice-0001"), receipt.User)
	require.Equal(t, u.InternalID, receipt.InternalID)
	require.Equal(t, map[string]int{"locators": 1, "tokens": 1}, receipt.Removed)
	a.do("POST", "/v1/users/alice-0001/erasure", "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/users/me", "", bearer(signed)).refused(t, 401, "token_revoked")
}

func TestAnExportIsTheDocumentOfThePerson(t *testing.T) {
	a := newAPI(t, denizen.Options{UserEventBurst: 2}, httpadapter.Options{})
	signed, _ := a.token(t, a.create(t, "alice-0001", "email:a@b.example"))
	a.create(t, "bob-00001")
	for target, by := range map[string]edit{"/v1/users/me/export": bearer(signed), "/v1/users/email:a@b.example/export": app} {
		got := a.do("GET", target, "", by)
		document := decode[map[string]any](t, got, 200)
		require.Equal(t, "alice-0001", document["user"])
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	}
	require.Empty(t, a.do("HEAD", "/v1/users/alice-0001/export", "", app).body)
	a.do("GET", "/v1/users/bob-00001/export", "", bearer(signed)).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/users/nobody-01/export", "", app).refused(t, 404, "entity_not_found")
	require.Equal(t, 200, a.do("GET", "/v1/users/me/export", "", bearer(signed)).status)
	a.do("GET", "/v1/users/me/export", "", bearer(signed)).refused(t, 429, "rate_limited")
}
