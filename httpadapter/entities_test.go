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

type wireLocator struct {
	UserLocatorID, Identifier, Locator, Email, VerificationStatus string
}

func TestALocatorIsAddedReadAndRemoved(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	got := a.do("POST", "/v1/users/alice-0001/locators", `{"@type":"tele","phoneNumber":"+1 (201) 555-0123","verificationStatus":"VerificationPending"}`, app)
	id := decode[created](t, got, 201).Identifier
	require.Equal(t, "locators/"+id, got.header.Get("Location"))
	one := decode[wireLocator](t, a.do("GET", "/v1/users/alice-0001/locators/"+id, "", app), 200)
	require.Equal(t, wireLocator{id, id, "tele:+12015550123", "", "VerificationPending"}, one)
	require.Len(t, decode[[]wireLocator](t, a.do("GET", "/v1/users/tele:+12015550123/locators", "", app), 200), 2)
	require.Equal(t, id, decode[created](t, a.do("POST", "/v1/users/alice-0001/locators", `"tele:+12015550123"`, app), 201).Identifier, "adding it again is no other locator")
	require.Equal(t, 204, a.do("DELETE", "/v1/users/alice-0001/locators/"+id, "", app).status)
	a.do("DELETE", "/v1/users/alice-0001/locators/"+id, "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/users/alice-0001/locators/"+id+"%2C"+id, "", app).refused(t, 400, "invalid_parameter_set")
	for _, body := range []string{`"a@b.example"`, `{"locator":"email: a@b.example"}`, `{"@type":"email"}`, `{"@type":"tele","phoneNumber":{}}`, `{"@type":"pigeon"}`} {
		a.do("POST", "/v1/users/alice-0001/locators", body, app).refused(t, 400, "invalid_parameter_set")
	}
	for _, body := range []string{`1`, `[]`, `null`, `{"locator":1}`, `{"locator":"email:n@b.example","verificationStatus":{}}`} {
		a.do("POST", "/v1/users/alice-0001/locators", body, app).refused(t, 400, "invalid_input_syntax")
	}
}

func TestAStatusComesAsANameOrANumber(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	for i, name := range []string{"Verified", "Unverified", "StatusNotProvided", "VerificationPending", "VerificationNotApplicable"} {
		for _, given := range []string{fmt.Sprint(i), `"` + name + `"`} {
			body := fmt.Sprintf(`[{"locator":"email:a@b.example","verificationStatus":%s}]`, given)
			require.Equal(t, 204, a.do("PUT", "/v1/users/alice-0001/locators", body, app).status)
			list := decode[[]wireLocator](t, a.do("GET", "/v1/users/alice-0001/locators", "", app), 200)
			require.Equal(t, name, list[0].VerificationStatus)
		}
	}
}

func TestAClaimBlocksAndRevealsNothing(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	bob, _ := a.token(t, a.create(t, "bob-00001"))
	owned := a.do("POST", "/v1/users/me/locators", `{"locator":"email:a@b.example","verificationStatus":0}`, bearer(bob))
	free := a.do("POST", "/v1/users/me/locators", `{"locator":"email:b@b.example","verificationStatus":0}`, bearer(bob))
	require.Equal(t, []int{201, 201}, []int{owned.status, free.status})
	for _, l := range decode[[]wireLocator](t, a.do("GET", "/v1/users/me/locators", "", bearer(bob)), 200) {
		require.Equal(t, "Unverified", l.VerificationStatus)
	}
	a.do("GET", "/v1/users?locators=email:b@b.example", "", app).json(t, 200, `[]`)
	require.Equal(t, "alice-0001", member(t, a.do("GET", "/v1/users/email:a@b.example", "", app).body, "userId"))
	a.do("GET", "/v1/users/email:b@b.example", "", bearer(bob)).refused(t, 403, "missing_privilege")
	require.Equal(t, 204, a.do("PUT", "/v1/users/bob-00001/locators", `[{"locator":"email:b@b.example","verificationStatus":"Verified"}]`, app).status)
	require.Equal(t, "bob-00001", member(t, a.do("GET", "/v1/users/email:b@b.example", "", bearer(bob)).body, "userId"))
	a.do("PUT", "/v1/users/bob-00001/locators", `["email:b@b.example","email:a@b.example"]`, app).refused(t, 409, "duplicate_entity")
	a.do("PUT", "/v1/users/bob-00001/locators", `{}`, app).refused(t, 400, "invalid_input_syntax")
}

func TestTooManyLocatorsAreRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	for i := range denizen.MaxLocators {
		require.Equal(t, 201, a.do("POST", "/v1/users/alice-0001/locators", fmt.Sprintf(`"email:a%d@b.example"`, i), app).status)
	}
	a.do("POST", "/v1/users/alice-0001/locators", `"email:more@b.example"`, app).refused(t, 409, "limit_exceeded")
}

func TestAnAttributeDefinitionIsMadeReadAndDropped(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	const key = "a/b c%é"
	path := "/v1/attribute-def/users/" + url.PathEscape(key)
	got := a.do("POST", "/v1/attribute-def/users", `{"type":`+marshal(t, key)+`,"allowedContentTypes":["text/plain"],"allowedContentEncodings":["identity"],
		"canBeEmpty":false,"entityType":"users","maxBytes":10,"visibleTo":"peers","writableBy":"system"}`, app)
	got.json(t, 201, `{"identifier":`+marshal(t, key)+`}`)
	require.Equal(t, "users/"+url.PathEscape(key), got.header.Get("Location"))
	want := `{"key":` + marshal(t, key) + `,"allowedContentTypes":["text/plain"],"allowedContentEncodings":["identity"],
		"canBeEmpty":false,"entityType":"users","maxBytes":10,"visibleTo":"peers","writableBy":"system"}`
	a.do("GET", path, "", app).json(t, 200, want)
	a.do("POST", "/v1/attribute-def/users", `{"key":"open"}`, app)
	user, _ := a.token(t, a.create(t, "alice-0001"))
	open := `{"key":"open","allowedContentTypes":[],"allowedContentEncodings":[],"canBeEmpty":true,"entityType":"users","maxBytes":65536,"visibleTo":"self","writableBy":"self"}`
	a.do("GET", "/v1/attribute-def/users", "", bearer(user)).json(t, 200, `[`+want+`,`+open+`]`)
	p := a.do("POST", "/v1/attribute-def/users", `{"key":"open"}`, app).refused(t, 409, "duplicate_entity")
	require.Equal(t, map[string]any{"entityType": "attributeDef", "entityLocator": "open"}, p.Diagnostics)

	require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile/open", `{"value":""}`, app).status)
	a.do("DELETE", "/v1/attribute-def/users/open", "", app).refused(t, 409, "entity_in_use")
	require.Equal(t, 204, a.do("DELETE", "/v1/users/alice-0001/profile/open", "", app).status)
	require.Equal(t, 204, a.do("DELETE", "/v1/attribute-def/users/open", "", app).status)
	a.do("DELETE", "/v1/attribute-def/users/open", "", app).refused(t, 404, "entity_not_found")
	for body, code := range map[string]string{
		`{}`: "invalid_parameter_set", `{"key":"a,b"}`: "invalid_parameter_set", `{"key":"k","maxBytes":65537}`: "invalid_parameter_set",
		`{"key":"k","maxBytes":-1}`: "invalid_parameter_set", `{"key":"k","visibleTo":"all"}`: "invalid_parameter_set", `{"key":"k","visibleTo":""}`: "invalid_parameter_set", `{"key":"k","writableBy":""}`: "invalid_parameter_set",
		`{"key":"k","writableBy":"peers"}`: "invalid_parameter_set", `{"key":"k","entityType":"channels"}`: "invalid_parameter_set",
		`{"key":"k","canBeEmpty":0}`: "invalid_input_syntax", `{"key":"k","allowedContentTypes":[1]}`: "invalid_input_syntax", `{"key":["k"]}`: "invalid_input_syntax",
	} {
		a.do("POST", "/v1/attribute-def/users", body, app).refused(t, 400, code)
	}
}

func TestAProfileIsSetAllOrNone(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for _, def := range []string{`{"key":"colour"}`, `{"key":"shoe","maxBytes":2}`, `{"key":"note","allowedContentTypes":["text/markdown"]}`, `{"key":"rank","writableBy":"system","visibleTo":"system"}`} {
		require.Equal(t, 201, a.do("POST", "/v1/attribute-def/users", def, app).status)
	}
	alice, _ := a.token(t, a.create(t, "alice-0001"))
	values := func() (values string) {
		for _, x := range decode[struct{ Attributes []struct{ Key, Value string } }](t, a.do("GET", "/v1/users/alice-0001/profile", "", app), 200).Attributes {
			values += x.Key + "=" + x.Value + " "
		}
		return strings.TrimSpace(values)
	}
	set := func(body string) answer { return a.do("POST", "/v1/users/me/profile", body, bearer(alice)) }
	a.do("GET", "/v1/users/alice-0001/profile", "", app).json(t, 200, `{"entityId":{"identifier":"alice-0001"},"attributes":[]}`)
	require.Equal(t, 204, set(`{"attributes":[{"key":"colour","value":"red"},{"key":"note","value":"*","contentType":"text/markdown"}]}`).status)
	require.Equal(t, "colour=red note=*", values())
	set(`{"attributes":[{"key":"colour","value":"blue"},{"key":"shoe","value":"430"}]}`).refused(t, 400, "invalid_parameter_set")
	set(`{"attributes":[{"key":"colour","value":"blue"},{"key":"rank","value":"1"}]}`).refused(t, 403, "missing_privilege")
	set(`{"attributes":[{"key":"colour"}]}`).refused(t, 400, "invalid_parameter_set")
	set(`{}`).refused(t, 400, "invalid_parameter_set")
	set(`{"attributes":[],"patchType":"diff"}`).refused(t, 400, "invalid_parameter_set")
	set(`{"attributes":[],"patchType":""}`).refused(t, 400, "invalid_parameter_set")
	set(`{"attributes":[],"entityId":{"identifier":"bob-00001"}}`).refused(t, 400, "invalid_parameter_set")
	require.Equal(t, 204, set(`{"attributes":[],"entityId":{"identifier":"alice-0001"}}`).status)
	set(`{"attributes":[7]}`).refused(t, 400, "invalid_input_syntax")
	require.Equal(t, "colour=red note=*", values())
	require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/profile", `{"attributes":[{"key":"rank","value":"1"}],"patchType":"Diff"}`, app).status)
	require.Equal(t, 204, set(`{"attributes":[{"key":"shoe","value":"43"}],"patchType":"Set"}`).status)
	require.Equal(t, "rank=1 shoe=43", values(), "what a user may not write stays")
	require.Equal(t, 204, set(`{"attributes":[],"patchType":"replace"}`).status)
	require.Equal(t, "rank=1", values())

	a.do("GET", "/v1/users/me/profile", "", bearer(alice)).json(t, 200, `{"entityId":{"identifier":"alice-0001"},"attributes":[]}`)
	require.Equal(t, 204, a.do("POST", "/v1/users/me/profile/colour", `{"key":"colour","value":"green"}`, bearer(alice)).status)
	a.do("POST", "/v1/users/me/profile/colour", `{"key":"shoe","value":"green"}`, bearer(alice)).refused(t, 400, "invalid_parameter_set")
	a.do("POST", "/v1/users/me/profile/colour", `{}`, bearer(alice)).refused(t, 400, "invalid_parameter_set")
	a.do("POST", "/v1/users/me/profile/colour%2Cshoe", `{"value":"x"}`, bearer(alice)).refused(t, 400, "invalid_parameter_set")
	const colour = `{"key":"colour","contentType":"text/plain","contentEncoding":"identity","value":"green"}`
	a.do("GET", "/v1/users/me/profile/colour", "", bearer(alice)).json(t, 200, `[`+colour+`]`)
	require.Len(t, decode[[]any](t, a.do("GET", "/v1/users/alice-0001/profile/rank,colour", "", app), 200), 2)
	a.do("GET", "/v1/users/alice-0001/profile/colour,shoe", "", app).refused(t, 404, "entity_not_found")
	require.Equal(t, 204, a.do("DELETE", "/v1/users/me/profile/colour", "", bearer(alice)).status)
	a.do("DELETE", "/v1/users/me/profile/colour", "", bearer(alice)).refused(t, 404, "entity_not_found")
}

func TestPresenceRunsAlongItsChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		alice, _ := a.token(t, a.create(t, "alice-0001"))
		const path = "/v1/users/me/presence"
		wired := func(presence string, at int64, until ...int64) string {
			end := ""
			if len(until) > 0 {
				end = fmt.Sprintf(`,"untilMs":%d`, until[0])
			}
			return fmt.Sprintf(`{"userId":{"identifier":"alice-0001"},"presence":{"presence":%s,"setTimeMs":%d,"setTime":%d%s}}`, presence, at, at, end)
		}
		a.do("GET", path, "", bearer(alice)).json(t, 200, wired(`null`, 0))
		start := time.Now().UnixMilli()
		require.Equal(t, 204, a.do("POST", path, `{"type":"mitter.up.Online","timeToLive":10,"expiresTo":{"type":"mitter.up.Away","timeToLive":10,"expiresToPresence":{"type":"gone fishing","timeToLive":5}}}`, bearer(alice)).status)
		const gone = `{"type":"gone fishing","timeToLive":5}`
		const away = `{"type":"mitter.up.Away","timeToLive":10,"expiresTo":` + gone + `}`
		a.do("GET", path, "", bearer(alice)).json(t, 200, wired(`{"type":"mitter.up.Online","timeToLive":10,"expiresTo":`+away+`}`, start, start+10_000))
		time.Sleep(12 * time.Second)
		a.do("GET", path, "", bearer(alice)).json(t, 200, wired(away, start+10_000, start+20_000))
		time.Sleep(9 * time.Second)
		a.do("GET", path, "", bearer(alice)).json(t, 200, wired(gone, start+20_000, start+25_000))
		time.Sleep(time.Hour)
		a.do("GET", path, "", bearer(alice)).json(t, 200, wired(`null`, start+25_000))
	})
}

func TestAHeartbeatMovesTheEndOfAPresenceAndNotItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{}, httpadapter.Options{})
		alice, _ := a.token(t, a.create(t, "alice-0001"))
		const path, online = "/v1/users/me/presence", `{"type":"mitter.up.Online","timeToLive":30}`
		start := time.Now().UnixMilli()
		for beat := range int64(3) {
			require.Equal(t, 204, a.do("POST", path, online, bearer(alice)).status)
			read := a.do("GET", path, "", bearer(alice)).body
			require.EqualValues(t, start, member(t, read, "presence.setTimeMs"))
			require.EqualValues(t, start+beat*20_000+30_000, member(t, read, "presence.untilMs"))
			time.Sleep(20 * time.Second)
		}
		require.Equal(t, 204, a.do("POST", path, `{"type":"mitter.up.Away"}`, bearer(alice)).status)
		require.NotContains(t, a.do("GET", path, "", bearer(alice)).body, "untilMs", "it stays")
	})
}

func TestTheDevicesOfAUserAreAListForItAndTheApplicationAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, everybody, httpadapter.Options{})
		alice, _ := a.token(t, a.create(t, "alice-0001", "email:a@b.example"))
		bob, _ := a.token(t, a.create(t, "bob-00001"))
		const path = "/v1/users/me/devices"
		a.do("GET", path, "", bearer(alice)).json(t, 200, `[]`)
		start := time.Now().UnixMilli()
		for _, body := range []string{
			`{"type":"mitter.up.Online","device":"phone","timeToLive":10}`,
			`{"type":"mitter.up.Away"}`,
			`{"type":"mitter.up.Sleeping","device":"desk","timeToLive":20,"expiresTo":{"type":"mitter.up.Offline"}}`,
		} {
			require.Equal(t, 204, a.do("POST", "/v1/users/me/presence", body, bearer(alice)).status)
		}
		shown := func(device, presence string, more string) string {
			return fmt.Sprintf(`{"device":%q,"presence":{"presence":%s,"setTimeMs":%d,"setTime":%d%s}}`, device, presence, start, start, more)
		}
		ends := func(after int64) string { return fmt.Sprintf(`,"untilMs":%d`, start+after) }
		stays := shown("", `{"type":"mitter.up.Away","timeToLive":0}`, "")
		desk := shown("desk", `{"type":"mitter.up.Sleeping","timeToLive":20,"expiresTo":{"type":"mitter.up.Offline","timeToLive":0}}`, ends(20_000))
		phone := shown("phone", `{"type":"mitter.up.Online","timeToLive":10}`, ends(10_000))
		a.do("GET", path, "", bearer(alice)).json(t, 200, `[`+stays+`,`+desk+`,`+phone+`]`)
		time.Sleep(11 * time.Second)
		a.do("GET", "/v1/users/email:a@b.example/devices", "", app).json(t, 200, `[`+stays+`,`+desk+`]`)
		a.do("GET", "/v1/users/alice-0001/devices", "", bearer(bob)).refused(t, 403, "missing_privilege")
		a.do("GET", "/v1/users/nobody-0001/devices", "", app).refused(t, 404, "entity_not_found")
		a.do("GET", "/v1/users/alice-0001,bob-00001/devices", "", app).refused(t, 400, "invalid_parameter_set")
	})
}

func TestThePresenceOfSeveralIsAList(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001", "email:a@b.example")
	a.create(t, "bob-00001")
	require.Equal(t, 204, a.do("POST", "/v1/users/bob-00001/presence", `{"type":"mitter.up.Away"}`, app).status)
	require.Equal(t, 204, a.do("POST", "/v1/users/bob-00001/presence", `{"type":"mitter.up.Online","device":"phone","timeToLive":0}`, app).status)
	list := decode[[]struct {
		UserID   struct{ Identifier string }
		Presence struct {
			Presence *struct{ Type string }
		}
	}](t, a.do("GET", "/v1/users/bob-00001,email:a@b.example/presence", "", app), 200)
	require.Equal(t, "bob-00001", list[0].UserID.Identifier)
	require.Equal(t, "mitter.up.Online", list[0].Presence.Presence.Type, "the best device is shown")
	require.NotContains(t, a.do("GET", "/v1/users/bob-00001/presence", "", app).body, "device", "strict clients know no such member")
	require.Equal(t, "alice-0001", list[1].UserID.Identifier)
	require.Nil(t, list[1].Presence.Presence)
	left := decode[[]struct{ UserID struct{ Identifier string } }](t, a.do("GET", "/v1/users/carol-0001,bob-00001/presence", "", app), 200)
	require.Len(t, left, 1, "who is not there is left out")
	require.Equal(t, "bob-00001", left[0].UserID.Identifier)
	require.Equal(t, "[]", strings.TrimSpace(a.do("GET", "/v1/users/carol-0001,dave-0001/presence", "", app).body))
	a.do("GET", "/v1/users/carol-0001/presence", "", app).refused(t, 404, "entity_not_found")
	require.Equal(t, "bob-00001", member(t, a.do("GET", "/v1/users/bob-00001/presence", "", app).body, "userId.identifier"))
}

func TestABadPresenceIsRefused(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	deep := func(n int) string {
		return strings.Repeat(`{"type":"x","timeToLive":1,"expiresTo":`, n-1) + `{"type":"x"}` + strings.Repeat("}", n-1)
	}
	require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/presence", deep(32), app).status)
	for body, code := range map[string]string{
		`{}`: "invalid_parameter_set", `{"type":""}`: "invalid_parameter_set", `{"type":"x","timeToLive":-1}`: "invalid_parameter_set",
		`{"type":"x","timeToLive":2147483648}`: "invalid_parameter_set", `{"type":"x","timeToLive":9223372036854775807}`: "invalid_parameter_set",
		`{"type":"x","expiresTo":{"type":"y"}}`:                                                 "invalid_parameter_set",
		`{"type":"x","timeToLive":0,"expiresTo":{"type":"y"}}`:                                  "invalid_parameter_set",
		`{"type":"x","timeToLive":1,"expiresTo":{"type":"y"},"expiresToPresence":{"type":"y"}}`: "invalid_parameter_set",
		`{"type":"x","timeToLive":1,"expiresTo":{}}`:                                            "invalid_parameter_set",
		`{"type":"x","device":"` + strings.Repeat("d", 65) + `"}`:                               "invalid_parameter_set",
		deep(33): "invalid_parameter_set", deep(80): "invalid_input_syntax",
		`{"type":"x","timeToLive":1.5}`: "invalid_input_syntax", `{"type":"x","timeToLive":"1"}`: "invalid_input_syntax", `{"type":"x","timeToLive":1,"expiresTo":[]}`: "invalid_input_syntax",
	} {
		a.do("POST", "/v1/users/alice-0001/presence", body, app).refused(t, 400, code)
	}
	require.Equal(t, 204, a.do("POST", "/v1/users/alice-0001/presence", `{"type":"x","timeToLive":1e1}`, app).status)
}

func TestAPresenceIsAStreamOnlyWhereNothingElseIsAccepted(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	a.create(t, "alice-0001")
	require.Equal(t, 200, a.do("GET", "/v1/users/alice-0001/presence", "", app, header("Accept", "text/event-stream, */*")).status)
	require.Equal(t, 200, a.do("GET", "/v1/users/alice-0001/presence", "", app, header("Accept", "text/html")).status)
}

func TestAnAccessKeyIsMadeUsedAndDeleted(t *testing.T) {
	a := newAPI(t, denizen.Options{ApplicationID: "app"}, httpadapter.Options{})
	made := decode[struct {
		AccessKey    struct{ Key string }
		AccessSecret struct{ Secret string }
		CreatedAt    int64
	}](t, a.do("POST", "/v1/applications/app/accessKeys", "", app), 201)
	require.NotZero(t, made.CreatedAt)
	own := header("Authorization", "Basic "+basic(made.AccessKey.Key, made.AccessSecret.Secret))
	list := a.do("GET", "/v1/applications/app/accessKeys", "", own)
	require.NotContains(t, list.body, made.AccessSecret.Secret)
	require.Len(t, decode[[]any](t, list, 200), 2)
	a.do("GET", "/v1/applications/other/accessKeys", "", own).refused(t, 403, "missing_context")
	a.do("POST", "/v1/applications/other/accessKeys", "", own).refused(t, 403, "missing_context")
	a.do("DELETE", "/v1/applications/other/accessKeys/"+made.AccessKey.Key, "", own).refused(t, 403, "missing_context")
	require.Equal(t, 201, a.do("POST", "/v1/applications/app/accessKeys", "{}", app).status)
	a.do("POST", "/v1/applications/app/accessKeys", "", app).refused(t, 409, "limit_exceeded")
	require.Equal(t, 204, a.do("DELETE", "/v1/applications/app/accessKeys/"+made.AccessKey.Key, "", app).status)
	a.do("DELETE", "/v1/applications/app/accessKeys/"+made.AccessKey.Key, "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/applications/app/accessKeys", "", own).refused(t, 401, "authorization_error")
}

func TestATokenIsIssuedListedExtendedAndRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, denizen.Options{ApplicationID: "app", MaxTokenTTL: 10 * time.Hour}, httpadapter.Options{})
		a.create(t, "alice-0001")
		got := a.do("POST", "/v1/users/alice-0001/tokens", `{"ttl":3600,"label":"Phone"}`, app)
		issued := decode[struct {
			UserToken struct {
				SignedToken, TokenID               string
				SupportedHeaders, SupportedCookies []string
			}
		}](t, got, 201).UserToken
		require.Equal(t, "tokens/"+issued.TokenID, got.header.Get("Location"))
		require.Equal(t, []string{"X-Issued-Mitter-User-Authorization"}, issued.SupportedHeaders)
		require.Equal(t, []string{contractCookie, httpadapter.CookieName}, issued.SupportedCookies)
		now := time.Now()
		list := a.do("GET", "/v1/users/alice-0001/tokens", "", app)
		require.NotContains(t, list.body, issued.SignedToken)
		list.json(t, 200, fmt.Sprintf(`[{"tokenId":%q,"ttl":3600,"token":{"token":""},"issuedAt":%d,"expiresAt":%d,"lastUsedAt":null,"label":"Phone"}]`,
			issued.TokenID, now.UnixMilli(), now.Add(time.Hour).UnixMilli()))

		time.Sleep(30 * time.Minute)
		extend := func(ttl string) answer {
			return a.do("PATCH", "/v1/users/me/tokens/"+issued.TokenID, `{"ttl":`+ttl+`}`, bearer(issued.SignedToken))
		}
		extend("1800").refused(t, 403, "ttl_extension_refused")
		extend("34201").refused(t, 403, "ttl_extension_refused")
		extend("0").refused(t, 400, "invalid_parameter_set")
		extend(`"3600"`).refused(t, 400, "invalid_input_syntax")
		extend("null").refused(t, 400, "invalid_parameter_set")
		longer := decode[struct {
			UserToken struct{ SignedToken, TokenID string }
		}](t, extend("3600"), 200).UserToken
		require.Equal(t, issued.TokenID, longer.TokenID)
		require.NotEqual(t, issued.SignedToken, longer.SignedToken)
		time.Sleep(31 * time.Minute)
		p := a.do("GET", "/v1/users/me", "", bearer(issued.SignedToken)).refused(t, 401, "claim_rejected")
		require.Equal(t, map[string]any{"claimType": "exp", "claimRejectionType": "expired"}, p.Diagnostics)
		require.Equal(t, 200, a.do("GET", "/v1/users/me", "", bearer(longer.SignedToken)).status)

		other, otherID := a.token(t, "alice-0001")
		a.do("DELETE", "/v1/users/me/tokens/"+otherID+",nosuchtoken", "", bearer(other)).refused(t, 404, "entity_not_found")
		require.Equal(t, 200, a.do("GET", "/v1/users/me", "", bearer(other)).status, "all or none")
		require.Equal(t, 204, a.do("DELETE", "/v1/users/me/tokens/"+otherID+","+issued.TokenID, "", bearer(other)).status)
		a.do("GET", "/v1/users/me", "", bearer(other)).refused(t, 401, "token_revoked")
		a.do("GET", "/v1/users/me", "", bearer(longer.SignedToken)).refused(t, 401, "token_revoked")
	})
}

func TestATokenIsRefusedForWhoHasNone(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	alice, _ := a.token(t, a.create(t, "alice-0001"))
	for _, name := range []string{".system", ".anonymous"} {
		a.do("POST", "/v1/users/"+name+"/tokens", "", app).refused(t, 403, "token_issuance_refused")
		a.do("POST", "/v1/users/"+name+"/tokens", "", bearer(alice)).refused(t, 403, "missing_privilege")
		a.do("GET", "/v1/users/"+name+"/tokens", "", app).refused(t, 400, "invalid_parameter_set")
		a.do("GET", "/v1/users/"+name, "", app).refused(t, 400, "invalid_parameter_set")
	}
	a.do("POST", "/v1/users/me/tokens", "", app).refused(t, 403, "missing_privilege")
	a.do("POST", "/v1/users/nobody-0001/tokens", "", app).refused(t, 404, "entity_not_found")
	for body, code := range map[string]string{
		`{"ttl":0}`: "invalid_parameter_set", `{"ttl":-1}`: "invalid_parameter_set", `{"ttl":99999999999}`: "invalid_parameter_set",
		`{"label":"` + strings.Repeat("x", 129) + `"}`: "invalid_parameter_set", `{"ttl":"1"}`: "invalid_input_syntax", `[]`: "invalid_input_syntax",
	} {
		a.do("POST", "/v1/users/alice-0001/tokens", body, app).refused(t, 400, code)
	}
	for range denizen.MaxTokens - 1 {
		a.token(t, "alice-0001")
	}
	a.token(t, "alice-0001") // which ends the one that was unused for longest
}

func TestThePublishedKeysCheckATokenOffline(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	signed, id := a.token(t, a.create(t, "alice-0001"))
	keys := decode[denizen.KeySet](t, a.do("GET", "/v1/.well-known/jwks.json", ""), 200)
	claims, err := denizen.Verifier{Keys: keys, Issuer: a.dir.ID(), Audience: a.dir.ApplicationID()}.Verify(signed)
	require.NoError(t, err)
	require.Equal(t, denizen.TokenID(id), claims.Token)
}

func TestDocumentsAreForAnyone(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	for _, path := range []string{"/v1/.well-known/jwks.json", "/v1/openapi.json"} {
		for _, e := range []edit{func(*http.Request) {}, bearer("bad"), app, header("Authorization", "Basic %%%")} {
			require.Equal(t, 200, a.do("GET", path, "", e).status)
		}
	}
	require.Equal(t, "3.1.0", member(t, a.do("GET", "/v1/openapi.json", "").body, "openapi"))
}

func TestAUserHidesItsPresenceFromItsPeersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, everybody, httpadapter.Options{})
		alice, _ := a.token(t, a.create(t, "alice-0001"))
		bob, _ := a.token(t, a.create(t, "bob-00001"))
		require.Equal(t, 204, a.do("POST", "/v1/users/me/presence", `{"type":"mitter.up.Online"}`, bearer(alice)).status)
		start := time.Now().UnixMilli()
		const none = `{"userId":{"identifier":"alice-0001"},"presence":{"presence":null,"setTimeMs":0,"setTime":0}}`
		shown := func(more string) string {
			return fmt.Sprintf(`{"userId":{"identifier":"alice-0001"},"presence":{"presence":{"type":"mitter.up.Online","timeToLive":0},"setTimeMs":%d,"setTime":%d}%s}`, start, start, more)
		}
		const path, switched = "/v1/users/alice-0001/presence", "/v1/users/me/presence-visibility"
		a.do("PATCH", switched, `{}`, bearer(alice)).refused(t, 400, "invalid_parameter_set")
		a.do("PATCH", "/v1/users/alice-0001/presence-visibility", `{"hidden":true}`, bearer(bob)).refused(t, 403, "missing_privilege")
		a.do("GET", path, "", bearer(bob)).json(t, 200, shown(""))
		for range 2 {
			require.Equal(t, 204, a.do("PATCH", switched, `{"hidden":true}`, bearer(alice)).status)
			a.do("GET", path, "", bearer(bob)).json(t, 200, none)
			a.do("GET", path, "", bearer(alice)).json(t, 200, shown(`,"hidden":true`))
			a.do("GET", path, "", app).json(t, 200, shown(`,"hidden":true`))
		}
		require.Equal(t, 204, a.do("PATCH", switched, `{"hidden":false}`, bearer(alice)).status)
		a.do("GET", path, "", bearer(bob)).json(t, 200, shown(""))
	})
}
