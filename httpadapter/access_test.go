package httpadapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// A secSubject is a user, or nobody, that requests are about.
type secSubject struct {
	id    denizen.UserID
	email string
	tele  string
}

// The users of a secWorld. Alice's id has a character that stands percent-encoded in a path.
var (
	secAlice   = secSubject{"alice#of-the-world", "email:alice@example.org", "tele:+14155550132"}
	secBob     = secSubject{"bob-of-the-world", "email:bob@example.org", "tele:+14155550133"}
	secBlocked = secSubject{"carol-of-the-world", "email:carol@example.org", "tele:+14155550134"}
	secAbsent  = secSubject{"nobody-of-the-world", "email:nobody@example.org", "tele:+14155550135"}
)

const (
	secAttribute = "nickname"
	secUnused    = "unused-definition"
	secSpareKey  = "spare-application-key"
	// Of other 32 bytes than appSecret.
	secSpareSecret = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgISE="
)

// secWorld is an api whose store can be looked into.
type secWorld struct {
	*api
	store store.Store

	aliceToken, bobToken string
	tokenID, otherID     denizen.TokenID // Alice's: the one she comes with, and another
	locatorID            denizen.LocatorID
	keyID                string // of a signing key that does not sign yet
}

// newSecAPI makes a directory over a store, both closed by the end of the test, with its handler.
func newSecAPI(t testing.TB, s store.Store, o denizen.Options, ho httpadapter.Options) *api {
	t.Helper()
	dir, err := denizen.New(context.Background(), s, o)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = dir.Close(), s.Close() })
	require.NoError(t, dir.PutAccessKey(context.Background(), denizen.System(), appKey, appSecret))
	ho.Prove = secProver{}
	return &api{dir, recorded(httpadapter.New(dir, ho), ho.Prefix)}
}

func newSecWorld(t testing.TB, o denizen.Options, ho httpadapter.Options) *secWorld {
	t.Helper()
	w := &secWorld{store: memory.New()}
	o.LocatorTypes = []denizen.LocatorRule{handles()}
	w.api = newSecAPI(t, w.store, o, ho)
	ctx, sys := t.Context(), denizen.System()
	for _, d := range []denizen.AttributeDef{{Key: secAttribute, VisibleTo: denizen.ToPeers}, {Key: secUnused}} {
		_, err := w.dir.DefineAttribute(ctx, sys, d)
		require.NoError(t, err)
	}
	require.NoError(t, w.dir.PutAccessKey(ctx, sys, secSpareKey, secSpareSecret))
	for _, s := range []secSubject{secAlice, secBob, secBlocked} {
		_, err := w.dir.CreateUser(ctx, sys, denizen.NewUser{
			ID: s.id, ScreenName: "Somebody", Locators: []denizen.NewLocator{{Locator: s.email}, {Locator: s.tele}},
			Attributes: []denizen.Attribute{{Key: secAttribute, Value: "Some"}},
		})
		require.NoError(t, err)
		require.NoError(t, w.dir.SetPresence(ctx, sys, s.id, denizen.Online()))
	}
	w.aliceToken, w.tokenID = secIssue(t, w.dir, secAlice.id)
	_, w.otherID = secIssue(t, w.dir, secAlice.id)
	w.bobToken, _ = secIssue(t, w.dir, secBob.id)
	_, err := w.dir.BlockUser(ctx, sys, secBlocked.id, denizen.Block{})
	require.NoError(t, err)
	name, err := w.dir.AddLocator(ctx, sys, secAlice.id, denizen.NewLocator{Locator: "handle:al"})
	require.NoError(t, err)
	w.locatorID = name.ID
	require.NoError(t, w.dir.RotateSigningKey(ctx, sys, time.Hour))
	keys, err := w.dir.PublicKeys(ctx)
	require.NoError(t, err)
	var set struct{ Keys []struct{ Kid string } }
	require.NoError(t, json.Unmarshal([]byte(marshal(t, keys)), &set))
	w.keyID = set.Keys[len(set.Keys)-1].Kid
	return w
}

// secProver proves everything to whoever has a token of its own, as a signin.Service does.
type secProver struct{}

func (secProver) StartVerify(_ context.Context, as denizen.Principal, _ denizen.LocatorID, _ string) (string, error) {
	return "p", secDenied(as)
}

func (secProver) StartReplace(_ context.Context, as denizen.Principal, _ denizen.LocatorID, locator, _ string) (string, error) {
	if _, _, err := denizen.ParseLocator(locator); err != nil {
		return "", err
	}
	return "p", secDenied(as)
}

func (secProver) FinishVerify(_ context.Context, as denizen.Principal, id denizen.LocatorID, _, _ string) (denizen.Locator, error) {
	return denizen.Locator{ID: id}, secDenied(as)
}

func secDenied(as denizen.Principal) error {
	if as.Token() == "" {
		return &denizen.Error{Kind: denizen.ErrDenied}
	}
	return nil
}

func secIssue(t testing.TB, dir *denizen.Directory, user denizen.UserID) (string, denizen.TokenID) {
	t.Helper()
	issued, err := dir.IssueToken(context.Background(), denizen.System(), user, denizen.TokenOptions{})
	require.NoError(t, err)
	return issued.Signed, issued.ID
}

// holds answers everything that the store of the world holds.
func (w *secWorld) holds(t testing.TB) string {
	t.Helper()
	records, err := w.store.List(context.Background(), store.Range{Limit: store.MaxPage})
	require.NoError(t, err)
	feed, err := w.store.Changes(context.Background(), 0, store.MaxPage)
	require.NoError(t, err)
	return fmt.Sprint(records, feed.Changes)
}

// What the column "who" of the contract says of a route.
const (
	secAnyone     = "anyone" // a document
	secSAlone     = "S"      // the application
	secSelfToo    = "S U"    // and a user on itself
	secPeersToo   = "S U P"  // and on others, where the policy lets it
	secEverybody  = "any, S" // whoever has a credential
	secItselfOnly = "U"      // a user that came with a token, and not the application
)

// secRoutes is who may do what, written from the contract and not from the code: with the body that
// makes the request succeed, and its status then.
var secRoutes = []struct {
	method, pattern, who, body string
	status                     int
}{
	{"POST", "/v1/users", secSAlone, `{"userId":"dave-of-the-world","screenName":{"screenName":"Dave"}}`, 201},
	{"GET", "/v1/users", secSAlone, "", 200},
	{"GET", "/v1/users/{userId}", secPeersToo, "", 200},
	{"DELETE", "/v1/users/{userId}", secSAlone, "", 204},
	{"PATCH", "/v1/users/{userId}", secSAlone, `{"blocked":true}`, 204},
	{"POST", "/v1/users/{userId}/merge", secSAlone, `{"into":"bob-of-the-world"}`, 204},
	{"GET", "/v1/users/{userId}/export", secSelfToo, "", 200},
	{"POST", "/v1/users/{userId}/erasure", secSAlone, "", 200},
	{"GET", "/v1/users/{userIds}/screenname", secPeersToo, "", 200},
	{"PUT", "/v1/users/{userId}/screenname", secSelfToo, `{"screenName":"Another"}`, 204},
	{"GET", "/v1/users/{userId}/locators", secSelfToo, "", 200},
	{"POST", "/v1/users/{userId}/locators", secSelfToo, `"email:another@example.org"`, 201},
	{"PUT", "/v1/users/{userId}/locators", secSAlone, `["email:another@example.org"]`, 204},
	{"GET", "/v1/users/{userId}/locators/{locatorId}", secSelfToo, "", 200},
	{"PATCH", "/v1/users/{userId}/locators/{locatorId}", secSAlone, `{"verificationStatus":"VerificationNotApplicable"}`, 204},
	{"PUT", "/v1/users/{userId}/locators/{locatorId}", secSelfToo, `"handle:lissy"`, 200},
	{"DELETE", "/v1/users/{userId}/locators/{locatorId}", secSelfToo, "", 204},
	{"GET", "/v1/attribute-def/users", secEverybody, "", 200},
	{"POST", "/v1/attribute-def/users", secSAlone, `{"key":"another"}`, 201},
	{"GET", "/v1/attribute-def/users/{key}", secEverybody, "", 200},
	{"DELETE", "/v1/attribute-def/users/{key}", secSAlone, "", 204},
	{"GET", "/v1/users/{userId}/profile", secPeersToo, "", 200},
	{"POST", "/v1/users/{userId}/profile", secSelfToo, `{"attributes":[{"key":"nickname","value":"Other"}]}`, 204},
	{"GET", "/v1/users/{userId}/profile/{keys}", secPeersToo, "", 200},
	{"POST", "/v1/users/{userId}/profile/{key}", secSelfToo, `{"value":"Other"}`, 204},
	{"DELETE", "/v1/users/{userId}/profile/{key}", secSelfToo, "", 204},
	{"GET", "/v1/users/{userIds}/presence", secPeersToo, "", 200},
	{"POST", "/v1/users/{userId}/presence", secSelfToo, `{"type":"mitter.up.Away"}`, 204},
	{"DELETE", "/v1/users/{userId}/presence", secSelfToo, "", 204},
	{"GET", "/v1/users/{userId}/devices", secSelfToo, "", 200},
	{"PATCH", "/v1/users/{userId}/presence-visibility", secSelfToo, `{"hidden":true}`, 204},
	{"GET", "/v1/events", secSAlone, "", 406}, // without Accept,
	{"GET", "/v1/applications/{applicationId}/accessKeys", secSAlone, "", 200},
	{"POST", "/v1/applications/{applicationId}/accessKeys", secSAlone, "", 201},
	{"DELETE", "/v1/applications/{applicationId}/accessKeys/{accessKey}", secSAlone, "", 204},
	{"GET", "/v1/applications/{applicationId}/signingKeys", secSAlone, "", 200},
	{"POST", "/v1/applications/{applicationId}/signingKeys", secSAlone, `{"notice":3600}`, 204},
	{"DELETE", "/v1/applications/{applicationId}/signingKeys/{keyId}", secSAlone, "", 204},
	{"DELETE", "/v1/users/{userId}/tokens", secSelfToo, "", 204},
	{"POST", "/v1/users/{userId}/tokens", secSAlone, `{"label":"a phone"}`, 201},
	{"GET", "/v1/users/{userId}/tokens", secSelfToo, "", 200},
	{"DELETE", "/v1/users/{userId}/tokens/{tokenIds}", secSelfToo, "", 204},
	{"PATCH", "/v1/users/{userId}/tokens/{tokenId}", secSelfToo, `{"ttl":172800}`, 200},
	{"POST", "/v1/users/me/locators/{locatorId}/proof", secItselfOnly, "", 202},
	{"POST", "/v1/users/me/locators/{locatorId}/replacement", secItselfOnly, `{"locator":"email:new@example.org"}`, 202},
	{"PUT", "/v1/users/me/locators/{locatorId}/proof", secItselfOnly, `{"proof":"p","code":"c"}`, 204},
	{"GET", "/v1/users/me/logout", secItselfOnly, "", 204},
	{"POST", "/v1/users/me/logout", secItselfOnly, "", 204},
	{"GET", "/v1/.well-known/jwks.json", secAnyone, "", 200},
	{"GET", "/v1/openapi.json", secAnyone, "", 200},
}

// secAboutAUser reports whether a route has a user in its path.
func secAboutAUser(pattern string) bool { return strings.Contains(pattern, "{userId") }

// fill answers a pattern with a spelling of a user, already encoded, in it.
func (w *secWorld) fill(pattern, user string) string {
	key := secAttribute
	if strings.Contains(pattern, "attribute-def") {
		key = secUnused
	}
	return strings.NewReplacer(
		"{userId}", user, "{userIds}", user, "{locatorId}", string(w.locatorID), "{key}", key, "{keys}", key,
		"{tokenId}", string(w.otherID), "{tokenIds}", string(w.otherID),
		"{applicationId}", w.dir.ApplicationID(), "{accessKey}", secSpareKey, "{keyId}", w.keyID,
	).Replace(pattern)
}

// Where a caller stands to Alice.
const (
	secAsAnonymous = iota
	secAsOther
	secAsSelf
	secAsSystem
)

// secCallers are all that a request can come from, by what they are to Alice.
var secCallers = []struct {
	name   string
	column int
	acting bool
	by     func(w *secWorld) edit
}{
	{"nobody", secAsAnonymous, false, func(*secWorld) edit { return func(*http.Request) {} }},
	{"another user", secAsOther, false, func(w *secWorld) edit { return bearer(w.bobToken) }},
	{"the application for another user", secAsOther, true, func(*secWorld) edit { return actingFor(secBob.id) }},
	{"the user itself", secAsSelf, false, func(w *secWorld) edit { return bearer(w.aliceToken) }},
	{"the application for the user", secAsSelf, true, func(*secWorld) edit { return actingFor(secAlice.id) }},
	{"the application", secAsSystem, false, func(*secWorld) edit { return app }},
}

// secPolicies are the host's word on what peers see.
var secPolicies = map[string]func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error){
	"no policy":       nil,
	"allowing policy": func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil },
	"refusing policy": func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return false, nil },
	"policy for other": func(_ context.Context, _, subject denizen.UserID, _ denizen.Facet) (bool, error) {
		return subject != secAlice.id, nil
	},
}

// secEscaped is how an id or a locator stands in a path.
func secEscaped[T ~string](s T) string { return url.PathEscape(string(s)) }

// secSpellings are how a path can address Alice, and whether that is by her id.
var secSpellings = []struct {
	name, text string
	byID       bool
}{
	{"id", "alice%23of-the-world", true},
	{"id, more encoded than it need be", "%61lice%23of%2Dthe%2dworld", true},
	{"email", "email:alice@example.org", false},
	{"email, encoded", "email%3Aalice%40example.org", false},
	{"email, encoded in small letters", "%65mail%3aalice%40example%2eorg", false},
	{"tele", "tele:+14155550132", false},
	{"tele, encoded", "tele%3A%2B14155550132", false},
}

func TestEveryRouteStandsInTheAccessTable(t *testing.T) {
	golden, err := os.ReadFile("testdata/routes.txt")
	require.NoError(t, err)
	var tried []string
	for _, r := range secRoutes {
		tried = append(tried, r.method+" "+r.pattern)
	}
	require.ElementsMatch(t, strings.Fields(strings.ReplaceAll(string(golden), " ", "\u00a0")),
		strings.Fields(strings.ReplaceAll(strings.Join(tried, "\n"), " ", "\u00a0")))
}

// secWant answers the status of a route for a caller about Alice: by her id, or by a locator of hers.
func secWant(who string, ok, column int, acting, byID, peersSee bool) int {
	allowed := false
	switch who {
	case secAnyone:
		return ok
	case secEverybody:
		allowed = true
	case secSAlone:
		allowed = column == secAsSystem
	case secSelfToo:
		allowed = column == secAsSystem || column == secAsSelf
	case secPeersToo:
		allowed = column == secAsSystem || column == secAsSelf || column == secAsOther && byID && peersSee
	case secItselfOnly:
		allowed = column != secAsSystem && !acting
	}
	switch {
	case column == secAsAnonymous:
		return http.StatusUnauthorized
	case !allowed:
		return http.StatusForbidden
	}
	return ok
}

// asked sends the request of a route, always with one request id, so that answers can be compared.
func (w *secWorld) asked(method, path, body string, by edit) answer {
	return w.do(method, path, body, header("X-Request-Id", "the-same"), by)
}

func TestAUserProvesItsOwnLocators(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, route := range secRoutes {
		if strings.HasSuffix(route.pattern, "/proof") || strings.HasSuffix(route.pattern, "/replacement") {
			a := w.asked(route.method, w.fill(route.pattern, ""), route.body, bearer(w.aliceToken))
			require.Equal(t, route.status, a.status, "%s: %s", route.pattern, a.body)
		}
	}
}

func TestAProofOrACodeThatIsMissingIsNamed(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	path := w.fill("/v1/users/me/locators/{locatorId}/proof", "")
	for body, lacks := range map[string]string{
		`{}`: "proof", `{"code":"c"}`: "proof", `{"proof":"p"}`: "code", `{"proof":"p","code":""}`: "code",
	} {
		a := w.asked("PUT", path, body, bearer(w.aliceToken))
		require.Equal(t, 400, a.status, "%s: %s", body, a.body)
		require.Contains(t, string(a.body), `"parameter":"`+lacks+`"`)
	}
}

func TestEveryCellOfTheAccessTableHoldsOverHTTP(t *testing.T) {
	for policy, maySee := range secPolicies {
		t.Run(policy, func(t *testing.T) {
			tried := 0
			w := newSecWorld(t, denizen.Options{MaySee: maySee}, httpadapter.Options{})
			before := w.holds(t)
			for _, route := range secRoutes {
				for _, caller := range secCallers {
					spellings := secSpellings
					if !secAboutAUser(route.pattern) {
						spellings = spellings[:1]
					}
					for _, spelling := range spellings {
						path := w.fill(route.pattern, spelling.text)
						cell := fmt.Sprintf("%s %s by %s", route.method, path, caller.name)
						status := secWant(route.who, route.status, caller.column, caller.acting, spelling.byID, policy == "allowing policy")
						a := w.asked(route.method, path, route.body, caller.by(w))
						require.Equal(t, status, a.status, "%s: %s", cell, a.body)
						switch status {
						case http.StatusUnauthorized:
							a.refused(t, status, "authorization_error")
						case http.StatusForbidden:
							a.refused(t, status, "missing_privilege")
						}
						if status >= 400 {
							require.Equal(t, before, w.holds(t), "%s was refused and changed something", cell)
						} else if route.method != "GET" || route.who == secItselfOnly {
							w = newSecWorld(t, denizen.Options{MaySee: maySee}, httpadapter.Options{})
							before = w.holds(t)
						}
						tried++
					}
				}
			}
			require.Greater(t, tried, 900)
		})
	}
}

func TestMeIsTheUserThatCallsAndNobodyElse(t *testing.T) {
	for _, route := range secRoutes {
		if !secAboutAUser(route.pattern) {
			continue
		}
		t.Run(route.method+" "+route.pattern, func(t *testing.T) {
			for _, caller := range secCallers {
				w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
				before := w.holds(t)
				a := w.asked(route.method, w.fill(route.pattern, "me"), route.body, caller.by(w))
				switch {
				case caller.column == secAsAnonymous:
					a.refused(t, http.StatusUnauthorized, "authorization_error")
				case caller.column == secAsSystem, route.who == secSAlone:
					a.refused(t, http.StatusForbidden, "missing_privilege")
				case caller.column == secAsOther && (strings.Contains(route.pattern, "locatorId") || strings.Contains(route.pattern, "tokenId")):
					a.refused(t, http.StatusNotFound, "entity_not_found") // of Alice, and me is Bob
				default:
					require.Equal(t, route.status, a.status, a.body)
					if caller.column == secAsOther {
						require.NotContains(t, a.body, "alice")
					}
				}
				if a.status >= 400 {
					require.Equal(t, before, w.holds(t), caller.name)
				}
			}
		})
	}
}

func TestMeHasOneSpelling(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, me := range []string{"Me", "ME", "me%20", "%20me", "me%00", ".me", "~"} {
		w.do("GET", "/v1/users/"+me, "", bearer(w.aliceToken)).refused(t, http.StatusBadRequest, "invalid_parameter_set")
	}
	require.Equal(t, http.StatusOK, w.do("GET", "/v1/users/m%65", "", bearer(w.aliceToken)).status)
	// Logout is a fixed path: nobody logs another out by naming it.
	for _, user := range []string{"alice%23of-the-world", "m%65", "email:alice@example.org"} {
		w.do("POST", "/v1/users/"+user+"/logout", "", bearer(w.bobToken)).refused(t, http.StatusNotFound, "entity_not_found")
	}
}

func TestWhoMayIsToldThatNobodyIsThere(t *testing.T) {
	for _, policy := range []string{"allowing policy", "no policy"} {
		w := newSecWorld(t, denizen.Options{MaySee: secPolicies[policy]}, httpadapter.Options{})
		before := w.holds(t)
		for _, route := range secRoutes {
			if !secAboutAUser(route.pattern) {
				continue
			}
			for _, address := range []string{secEscaped(secAbsent.id), secAbsent.email, secAbsent.tele} {
				p := w.asked(route.method, w.fill(route.pattern, address), route.body, app).refused(t, http.StatusNotFound, "entity_not_found")
				require.Equal(t, "user", p.Diagnostics["entityType"])
			}
			if route.who == secPeersToo && policy == "allowing policy" {
				w.asked(route.method, w.fill(route.pattern, secEscaped(secAbsent.id)), route.body, bearer(w.bobToken)).
					refused(t, http.StatusNotFound, "entity_not_found")
			}
		}
		require.Equal(t, before, w.holds(t))
	}
}

// secSame requires two refusals to be the same bytes but for their timestamps.
func secSame(t testing.TB, one, two answer, of string) {
	t.Helper()
	require.Equal(t, secTimeless(t, one), secTimeless(t, two), of)
}

func secTimeless(t testing.TB, a answer) string {
	t.Helper()
	var p problem
	require.NoError(t, json.Unmarshal([]byte(a.body), &p), a.body)
	body := strings.Replace(a.body, fmt.Sprintf(`"timestamp":%d`, p.Timestamp), `"timestamp":0`, 1)
	require.NotEqual(t, body, a.body)
	return fmt.Sprint(a.status, a.header, body)
}

func TestAForbiddenAnswerIsTheSameBytesWhateverItsTargetIs(t *testing.T) {
	for policy, maySee := range secPolicies {
		if policy == "policy for other" {
			continue
		}
		w := newSecWorld(t, denizen.Options{MaySee: maySee}, httpadapter.Options{})
		before := w.holds(t)
		compared := 0
		for _, route := range secRoutes {
			if !secAboutAUser(route.pattern) {
				continue
			}
			for _, caller := range secCallers {
				if caller.column != secAsOther && caller.column != secAsAnonymous {
					continue
				}
				var first *answer
				for _, target := range []secSubject{secAlice, secBlocked, secAbsent} {
					addresses := []string{target.email, secEscaped(target.email), target.tele}
					if route.who != secPeersToo || policy != "allowing policy" || caller.column == secAsAnonymous {
						addresses = append(addresses, secEscaped(target.id))
					}
					for _, address := range addresses {
						a := w.asked(route.method, w.fill(route.pattern, address), route.body, caller.by(w))
						require.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, a.status, a.body)
						if first == nil {
							first = &a
						}
						secSame(t, *first, a, route.method+" "+route.pattern+" of "+address+" by "+caller.name)
						for _, name := range []string{
							"alice", "carol", "nobody", "example.org", "1415555", string(w.locatorID), string(w.otherID),
						} {
							require.NotContains(t, a.body, name)
						}
						compared++
					}
				}
			}
		}
		require.Equal(t, before, w.holds(t))
		require.Greater(t, compared, 500)
	}
}

// What a user may not do even to itself is refused the same way to it and to others, whoever
// the target is.
func TestWhatOnlyTheApplicationMayDoIsRefusedTheSameOnOneself(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, route := range secRoutes {
		if route.who != secSAlone || !secAboutAUser(route.pattern) {
			continue
		}
		first := w.asked(route.method, w.fill(route.pattern, "me"), route.body, bearer(w.bobToken))
		for _, address := range []string{string(secBob.id), secBob.email, secBob.tele, secEscaped(secAlice.id), secAlice.email, string(secAbsent.id)} {
			a := w.asked(route.method, w.fill(route.pattern, address), route.body, bearer(w.bobToken))
			a.refused(t, http.StatusForbidden, "missing_privilege")
			secSame(t, first, a, address)
		}
	}
}

func TestOneForbiddenOfAListForbidsTheWholeWithoutNamingIt(t *testing.T) {
	w := newSecWorld(t, denizen.Options{MaySee: secPolicies["policy for other"]}, httpadapter.Options{})
	for _, pattern := range []string{"/v1/users/{userIds}/screenname", "/v1/users/{userIds}/presence"} {
		var first *answer
		for _, list := range []string{
			"alice%23of-the-world,bob-of-the-world", "bob-of-the-world%2Calice%23of-the-world", "me,alice%23of-the-world",
			"nobody-of-the-world,alice%23of-the-world", "email:alice@example.org,me", "me,email:nobody@example.org", "me,tele:+14155550134",
		} {
			a := w.asked("GET", w.fill(pattern, list), "", bearer(w.bobToken))
			a.refused(t, http.StatusForbidden, "missing_privilege")
			if first == nil {
				first = &a
			}
			secSame(t, *first, a, list)
		}
		w.asked("GET", w.fill(pattern, "bob-of-the-world,me,email:bob@example.org"), "", bearer(w.bobToken)).secOK(t)
	}
}

func (a answer) secOK(t testing.TB) {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, a.body)
}

// A peer gets a profile by its own route alone.
func TestAProfileIsNotAttachedForAPeer(t *testing.T) {
	w := newSecWorld(t, denizen.Options{MaySee: secPolicies["allowing policy"]}, httpadapter.Options{})
	for _, query := range []string{"", "?withProfileAttributes=*", "?withProfileAttributes=nickname", "?withProfileAttributes=unknown"} {
		w.do("GET", "/v1/users/alice%23of-the-world"+query, "", bearer(w.bobToken)).json(t, http.StatusOK, `{
			"userId": "alice#of-the-world", "identifier": "alice#of-the-world", "screenName": {"screenName": "Somebody"}, "userLocators": [], "entityProfile": null
		}`)
	}
}

// The version of a profile counts the changes of what a peer does not see.
func TestAPeerLearnsNothingOfWhenAProfileChanged(t *testing.T) {
	w := newSecWorld(t, denizen.Options{MaySee: secPolicies["allowing policy"]}, httpadapter.Options{})
	const path = "/v1/users/alice%23of-the-world"
	seen := func(by edit, path string) string {
		a := w.do("GET", path, "", by)
		a.secOK(t)
		return a.header.Get("ETag")
	}
	for _, path := range []string{path, path + "/profile", path + "?withProfileAttributes=*"} {
		require.Empty(t, seen(bearer(w.bobToken), path))
		mine, ours := seen(bearer(w.aliceToken), path), seen(app, path)
		require.NotEmpty(t, mine)
		require.Equal(t, mine, ours)
		require.Equal(t, http.StatusNotModified, w.do("GET", path, "", bearer(w.aliceToken), header("If-None-Match", mine)).status)
	}
}

func TestAnIDIsAnothersInAnotherCase(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, route := range secRoutes {
		if !secAboutAUser(route.pattern) {
			continue
		}
		path := w.fill(route.pattern, "Alice%23of-the-world")
		w.do(route.method, path, route.body, bearer(w.aliceToken)).refused(t, http.StatusForbidden, "missing_privilege")
		w.do(route.method, path, route.body, app).refused(t, http.StatusNotFound, "entity_not_found")
	}
}

// Decoding twice would make %2523 a # and a %252e%252e a way up.
func TestAPathIsDecodedOnce(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, route := range secRoutes {
		if !secAboutAUser(route.pattern) {
			continue
		}
		for _, user := range []string{"alice%2523of-the-world", "alice%2Fof-the-world", "alice%5Cof-the-world", "bob-of-the-world%2F..%2Falice%23of-the-world", "..%2Falice%23of-the-world", "%2e%2e", "alice%23of-the-world;x=y", "alice%00of-the-world"} {
			for _, by := range []edit{app, bearer(w.aliceToken)} {
				a := w.do(route.method, w.fill(route.pattern, user), route.body, by)
				require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden}, a.status, "%s %s: %s", route.pattern, user, a.body)
			}
		}
	}
	require.Equal(t, before, w.holds(t))
}

// The path is what is checked and what is done: what the body says of the user must agree.
func TestTheBodyNamesNoOtherUserThanThePath(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, named := range []string{`"userId":"bob-of-the-world"`, `"userId":{"identifier":"bob-of-the-world"}`, `"entityId":{"identifier":"bob-of-the-world"}`} {
		for _, route := range secRoutes {
			if !secAboutAUser(route.pattern) || !strings.HasPrefix(route.body, "{") {
				continue
			}
			body := strings.Replace(route.body, "{", "{"+named+",", 1)
			for _, spelling := range []string{"alice%23of-the-world", "email:alice@example.org", "me"} {
				by := app
				if spelling == "me" {
					by = edit(bearer(w.aliceToken))
				}
				if spelling == "me" && route.who == secSAlone {
					continue
				}
				w.do(route.method, w.fill(route.pattern, spelling), body, by).refused(t, http.StatusBadRequest, "invalid_parameter_set")
			}
		}
	}
	require.Equal(t, before, w.holds(t))
	for _, named := range []string{`"userId":"alice#of-the-world"`, `"entityId":{"identifier":"alice#of-the-world"}`, `"userId":null`} {
		a := w.do("POST", "/v1/users/me/profile", `{`+named+`,"attributes":[]}`, bearer(w.aliceToken))
		require.Equal(t, http.StatusNoContent, a.status, a.body)
	}
}

// Members that are ours to set give nothing to who sends them.
func TestNobodyRaisesItselfByTheBody(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	by := bearer(w.bobToken)
	extras := `"identifier":"alice#of-the-world","systemUser":true,"blocked":true,"internalId":"x","applicationId":{"identifier":"x"}`
	require.Equal(t, http.StatusNoContent, w.do("PUT", "/v1/users/me/screenname", `{"screenName":"Robert",`+extras+`}`, by).status)
	a := w.do("POST", "/v1/users/me/locators", `{"locator":"email:alice@example.org","verificationStatus":"Verified",`+extras+`}`, by)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	a = w.do("POST", "/v1/users/me/locators", `{"locator":"email:new@example.org","verificationStatus":0,`+extras+`}`, by)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	locators, err := w.dir.Locators(t.Context(), denizen.System(), secBob.id)
	require.NoError(t, err)
	for _, l := range locators[2:] {
		require.Equal(t, denizen.Unverified, l.Status)
	}
	// The pending claim on Alice's address makes Bob neither her nor her peer.
	a = w.do("GET", "/v1/users/email:alice@example.org", "", app)
	require.Equal(t, "alice#of-the-world", decode[struct{ UserID string }](t, a, http.StatusOK).UserID)
	for _, route := range secRoutes {
		if secAboutAUser(route.pattern) {
			w.do(route.method, w.fill(route.pattern, "email:alice@example.org"), route.body, by).refused(t, http.StatusForbidden, "missing_privilege")
			w.do(route.method, w.fill(route.pattern, "email:new@example.org"), route.body, by).refused(t, http.StatusForbidden, "missing_privilege")
		}
	}
}

func TestAnotherApplicationsAccessKeysAreNotHere(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, route := range secRoutes {
		if strings.Contains(route.pattern, "{applicationId}") {
			path := strings.NewReplacer("{applicationId}", "another", "{accessKey}", secSpareKey, "{keyId}", w.keyID).Replace(route.pattern)
			w.do(route.method, path, route.body, app).refused(t, http.StatusForbidden, "missing_context")
		}
	}
	require.Equal(t, before, w.holds(t))
}

// A host that cannot say is no host that says yes.
func TestAPolicyThatFailsLetsNobodySeeAnything(t *testing.T) {
	w := newSecWorld(t, denizen.Options{MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		return true, fmt.Errorf("the host's own secret")
	}}, httpadapter.Options{Observe: func(context.Context, httpadapter.Exchange) {}})
	for _, route := range secRoutes {
		if route.who != secPeersToo {
			continue
		}
		a := w.do(route.method, w.fill(route.pattern, secEscaped(secAlice.id)), route.body, bearer(w.bobToken))
		a.refused(t, http.StatusServiceUnavailable, "unavailable")
		require.NotContains(t, a.body, "secret")
	}
}

// Each step mends the first thing that is wrong with a request and leaves all the others; the
// answer is then of the next.
func TestChecksComeInTheirOrder(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{MaxBody: 64})
	type request struct {
		method, path, contentType, body string
		edits                           []edit
	}
	wrongApplication := header("X-Mitter-Application-Id", "another")
	long := `"email:` + strings.Repeat("a", 64) + `@example.org"`
	r := request{"DELETE", "/v1/people/nobody-of-the-world/locators", "text/plain", long, []edit{
		header("Authorization", "Bearer "+w.bobToken+"x"), header("Authorization", "Bearer x"), wrongApplication,
	}}
	before := w.holds(t)
	for _, step := range []struct {
		mend   func()
		status int
		code   string
	}{
		{func() {}, 404, "entity_not_found"},
		{func() { r.path = "/v1/users/nobody-of-the-world/locators" }, 405, "method_not_allowed"},
		{func() { r.method = "POST" }, 400, "invalid_parameter_set"},
		{func() { r.edits = []edit{bearer(w.bobToken + "x"), wrongApplication} }, 401, "authorization_error"},
		{func() { r.edits = []edit{bearer(w.bobToken), wrongApplication} }, 403, "missing_context"},
		{func() { r.edits = r.edits[:1] }, 415, "unsupported_media_type"},
		{func() { r.contentType = "application/json" }, 413, "limit_exceeded"},
		{func() { r.body = `"email:bob@example.org` }, 400, "invalid_input_syntax"},
		{func() { r.body = `{"email":"bob@example.org"}` }, 400, "invalid_parameter_set"},
		{func() { r.body = `"email:bob@example.org"` }, 403, "missing_privilege"},
		{func() { r.edits = []edit{app} }, 404, "entity_not_found"},
		{func() { r.path = "/v1/users/alice%23of-the-world/locators" }, 409, "duplicate_entity"},
	} {
		step.mend()
		edits := append([]edit{func(q *http.Request) { q.Header.Set("Content-Type", r.contentType) }}, r.edits...)
		w.do(r.method, r.path, r.body, edits...).refused(t, step.status, step.code)
	}
	require.Equal(t, before, w.holds(t))
	require.Equal(t, http.StatusCreated, w.do("POST", r.path, `"email:free@example.org"`, app).status)
}

// A condition is looked at when all else is well, whether or not it names a version of ours.
func TestAPreconditionComesAfterPrivilegeAndExistence(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, tag := range []string{`"1"`, `"not one of ours"`, `W/"1"`, `unquoted`, ``} {
		for _, route := range secRoutes {
			if !slices.Contains([]string{
				"PATCH /v1/users/{userId}", "DELETE /v1/users/{userId}", "PUT /v1/users/{userId}/screenname", "PUT /v1/users/{userId}/locators",
				"POST /v1/users/{userId}/profile", "POST /v1/users/{userId}/profile/{key}", "DELETE /v1/users/{userId}/profile/{key}",
			}, route.method+" "+route.pattern) {
				continue
			}
			condition := header("If-Match", tag)
			w.do(route.method, w.fill(route.pattern, secEscaped(secAlice.id)), route.body, condition, bearer(w.bobToken)).
				refused(t, http.StatusForbidden, "missing_privilege")
			w.do(route.method, w.fill(route.pattern, secEscaped(secAbsent.id)), route.body, condition, app).
				refused(t, http.StatusNotFound, "entity_not_found")
			w.do(route.method, w.fill(route.pattern, secEscaped(secAlice.id)), route.body, condition, app).
				refused(t, http.StatusPreconditionFailed, "precondition_failed")
		}
	}
	require.Equal(t, before, w.holds(t))
}
