package httpadapter_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
)

// credBasic is Basic authorization of any text.
func credBasic(pair string) edit {
	return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
}

// credCookie adds a Cookie header with a token cookie of existing clients.
func credCookie(value string) edit { return header("Cookie", contractCookie+"="+value) }

// credOurs adds a Cookie header with the token cookie that this package sets.
func credOurs(value string) edit { return header("Cookie", httpadapter.CookieName+"="+value) }

func credHeader(value string) edit { return header("X-Issued-Mitter-User-Authorization", value) }

// TestACallerIsWhoItsCredentialSays asks for the caller's own record: .system may not say me.
func TestACallerIsWhoItsCredentialSays(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	a, b := w.aliceToken, w.bobToken
	for name, c := range map[string]struct {
		edits []edit
		who   denizen.UserID // empty: the application
	}{
		"Basic":                                      {[]edit{app}, ""},
		"Basic in small letters":                     {[]edit{header("Authorization", "basic "+base64.StdEncoding.EncodeToString([]byte(appKey+":"+appSecret)))}, ""},
		"Bearer":                                     {[]edit{bearer(a)}, secAlice.id},
		"Bearer in small letters":                    {[]edit{header("Authorization", "bearer "+a)}, secAlice.id},
		"Bearer in capitals":                         {[]edit{header("Authorization", "BEARER "+b)}, secBob.id},
		"header":                                     {[]edit{credHeader(a)}, secAlice.id},
		"header in small letters":                    {[]edit{header("x-issued-mitter-user-authorization", a)}, secAlice.id},
		"cookie":                                     {[]edit{credCookie(b)}, secBob.id},
		"our cookie":                                 {[]edit{credOurs(a)}, secAlice.id},
		"cookie among others":                        {[]edit{header("Cookie", "a=b; "+contractCookie+"="+a+"; c=d;; e")}, secAlice.id},
		"cookies in two lines":                       {[]edit{header("Cookie", "a=b"), credCookie(a), header("Cookie", "c=d")}, secAlice.id},
		"one token in both cookies":                  {[]edit{credCookie(a), credOurs(a)}, secAlice.id},
		"one token in Bearer and header":             {[]edit{bearer(a), credHeader(a)}, secAlice.id},
		"our cookie beside the contract's":           {[]edit{credCookie(a), credOurs(b)}, secBob.id},
		"our cookie beside two tossed ones":          {[]edit{credCookie("x"), credCookie("y"), credOurs(b)}, secBob.id},
		"a token and our cookie beside a tossed one": {[]edit{bearer(b), credCookie(a), credOurs(b)}, secBob.id},
		"one token everywhere":                       {[]edit{bearer(a), credHeader(a), credCookie(a), credOurs(a)}, secAlice.id},
		"one token in header and cookie":             {[]edit{credHeader(a), credCookie(a)}, secAlice.id},
		"acting for a user":                          {[]edit{actingFor(secBob.id)}, secBob.id},
		"another cookie of a like name":              {[]edit{bearer(a), header("Cookie", "x_issued_mitter_user_authorization2="+b)}, secAlice.id},
		"Basic beside a foreign cookie":              {[]edit{app, header("Cookie", "session=x")}, ""},
		"the directory's application":                {[]edit{bearer(a), header("X-Mitter-Application-Id", w.dir.ApplicationID())}, secAlice.id},
		"the application for application":            {[]edit{app, header("X-Mitter-Application-Id", w.dir.ApplicationID())}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			me := w.do("GET", "/v1/users/me", "", c.edits...)
			if c.who == "" {
				me.refused(t, http.StatusForbidden, "missing_privilege")
				w.do("GET", "/v1/users", "", c.edits...).secOK(t)
				return
			}
			require.Equal(t, string(c.who), decode[struct{ UserID string }](t, me, http.StatusOK).UserID)
			w.do("GET", "/v1/users", "", c.edits...).refused(t, http.StatusForbidden, "missing_privilege")
		})
	}
}

func TestWhoActsForAUserIsRememberedBesideIt(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	require.Equal(t, http.StatusNoContent, w.do("PUT", "/v1/users/me/screenname", `{"screenName":"Bobby"}`, actingFor(secBob.id)).status)
	var last denizen.Event
	for e, err := range w.dir.Events(t.Context(), denizen.System(), "") {
		require.NoError(t, err)
		last = e
	}
	require.Equal(t, string(secBob.id), last.Actor)
	require.Equal(t, appKey, last.AccessKey)
}

// credRefusals are requests with a credential that is not good or not one.
func credRefusals(w *secWorld) map[string]struct {
	edits  []edit
	status int
	code   string
} {
	a, b := w.aliceToken, w.bobToken
	const (
		form = "invalid_parameter_set"
		bad  = "authorization_error"
		no   = "missing_privilege"
	)
	spare := credBasic(secSpareKey + ":" + secSpareSecret)
	return map[string]struct {
		edits  []edit
		status int
		code   string
	}{
		// More than one.
		"two tokens, Bearer and header":       {[]edit{bearer(a), credHeader(b)}, 400, form},
		"two tokens, Bearer and cookie":       {[]edit{bearer(a), credCookie(b)}, 400, form},
		"two tokens, Bearer and our cookie":   {[]edit{bearer(a), credOurs(b)}, 400, form},
		"two tokens, header and cookie":       {[]edit{credHeader(a), credCookie(b)}, 400, form},
		"two tokens, header and our cookie":   {[]edit{credHeader(a), credOurs(b)}, 400, form},
		"two tokens, the second is bad":       {[]edit{bearer(a), credCookie("x")}, 400, form},
		"two tokens, the second is empty":     {[]edit{bearer(a), credCookie("")}, 400, form},
		"two tokens, the first is empty":      {[]edit{credHeader(""), credCookie(a)}, 400, form},
		"token beside Basic, Bearer":          {[]edit{app, bearer(a)}, 400, form},
		"token beside Basic, header":          {[]edit{app, credHeader(a)}, 400, form},
		"token beside Basic, cookie":          {[]edit{app, credCookie(a)}, 400, form},
		"token beside Basic, our cookie":      {[]edit{app, credOurs(a)}, 400, form},
		"token beside an access key, Bearer":  {[]edit{bearer(a), header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"token beside an access key, header":  {[]edit{credHeader(a), header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"token beside an access key, cookie":  {[]edit{credCookie(a), header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"token beside a signature":            {[]edit{credHeader(a), header("Authorization", "Auth "+appKey+":x"), header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"token beside an unknown scheme":      {[]edit{credHeader(a), header("Authorization", "Digest x")}, 400, form},
		"token beside an empty Authorization": {[]edit{credHeader(a), header("Authorization", "")}, 400, form},
		"Basic beside an access key":          {[]edit{app, header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"Basic twice":                         {[]edit{credBasic(appKey + ":" + appSecret), credBasic(appKey + ":" + appSecret)}, 400, form},
		"two Basics":                          {[]edit{credBasic(appKey + ":" + appSecret), spare}, 400, form},
		"Bearer twice":                        {[]edit{bearer(a), bearer(a)}, 400, form},
		"Bearer and Basic":                    {[]edit{bearer(a), credBasic(appKey + ":" + appSecret)}, 400, form},
		"empty Authorization and Bearer":      {[]edit{header("Authorization", ""), bearer(a)}, 400, form},
		"header twice":                        {[]edit{credHeader(a), credHeader(a)}, 400, form},
		"header twice in two spellings":       {[]edit{credHeader(a), header("X-ISSUED-mitter-user-authorization", b)}, 400, form},
		"cookie twice in one line":            {[]edit{header("Cookie", contractCookie+"="+a+"; "+contractCookie+"="+a)}, 400, form},
		"cookie twice in two lines":           {[]edit{credCookie(a), credCookie(a)}, 400, form},
		"our cookie twice":                    {[]edit{credOurs(a), credOurs(b)}, 400, form},
		"cookie twice, once without a value":  {[]edit{header("Cookie", contractCookie+"; "+contractCookie+"="+a)}, 400, form},
		"cookie twice, once with a blank":     {[]edit{header("Cookie", contractCookie+" =x; "+contractCookie+"="+a)}, 400, form},
		"acting for two":                      {[]edit{actingFor(secAlice.id), header("X-Mitter-Sudo-User-Id", string(secAlice.id))}, 400, form},
		"two applications":                    {[]edit{app, header("X-Mitter-Application-Id", w.dir.ApplicationID()), header("X-Mitter-Application-Id", w.dir.ApplicationID())}, 400, form},
		"two access keys":                     {[]edit{header("X-Mitter-Application-Access-Key", appKey), header("X-Mitter-Application-Access-Key", appKey)}, 400, form},
		"two nonces":                          {[]edit{app, header("Nonce", "12345678"), header("Nonce", "12345678")}, 400, form},
		"two dates":                           {[]edit{app, header("Date", "x"), header("Date", "x")}, 400, form},
		"two sums":                            {[]edit{app, header("Content-MD5", "x"), header("Content-MD5", "x")}, 400, form},
		// One that is not good.
		"empty Authorization":         {[]edit{header("Authorization", "")}, 401, bad},
		"blank Authorization":         {[]edit{header("Authorization", " ")}, 401, bad},
		"empty Bearer":                {[]edit{header("Authorization", "Bearer")}, 401, bad},
		"empty Bearer with a blank":   {[]edit{header("Authorization", "Bearer ")}, 401, bad},
		"Bearer with two blanks":      {[]edit{header("Authorization", "Bearer  "+a)}, 401, bad},
		"Bearer with a tab":           {[]edit{header("Authorization", "Bearer\t"+a)}, 401, bad},
		"Bearer with a blank before":  {[]edit{header("Authorization", " Bearer "+a)}, 401, bad},
		"Bearer with a blank behind":  {[]edit{bearer(a + " ")}, 401, bad},
		"Bearer of a list":            {[]edit{bearer(a + ", " + a)}, 401, bad},
		"Bearer of a list of schemes": {[]edit{bearer(a + ", Bearer " + b)}, 401, bad},
		"Bearer of the access secret": {[]edit{bearer(appSecret)}, 401, bad},
		"token without a scheme":      {[]edit{header("Authorization", a)}, 401, bad},
		"unknown scheme":              {[]edit{header("Authorization", "Digest "+a)}, 401, bad},
		"Negotiate":                   {[]edit{header("Authorization", "Negotiate x")}, 401, bad},
		"a scheme like Bearer":        {[]edit{header("Authorization", "Bearer: "+a)}, 401, bad},
		"a scheme that folds":         {[]edit{header("Authorization", "ba\u017fic "+base64.StdEncoding.EncodeToString([]byte(appKey+":x")))}, 401, bad},
		"empty header":                {[]edit{credHeader("")}, 401, bad},
		"header with a scheme":        {[]edit{credHeader("Bearer " + a)}, 401, bad},
		"empty cookie":                {[]edit{credCookie("")}, 401, bad},
		"empty our cookie":            {[]edit{credOurs("")}, 401, bad},
		"cookie without a value":      {[]edit{header("Cookie", contractCookie)}, 401, bad},
		"quoted cookie":               {[]edit{credCookie(`"` + a + `"`)}, 401, bad},
		"cookie of bad bytes":         {[]edit{credCookie("\x01\x02\xff")}, 401, bad},
		"cookie with a backslash":     {[]edit{credCookie(`a\b`)}, 401, bad},
		"cookie with a comma":         {[]edit{credCookie(a + "," + a)}, 401, bad},
		"cookie with a blank inside":  {[]edit{credCookie(a[:9] + " " + a[9:])}, 401, bad},
		"cookie with =":               {[]edit{credCookie("=" + a)}, 401, bad},
		"cookie with a blank before =": {
			[]edit{header("Cookie", contractCookie+" =x")}, 401, bad,
		},
		"cookie whose end is cut": {[]edit{credCookie(a[:len(a)-1])}, 401, bad},
		"cookie of 8 KiB":         {[]edit{credOurs(strings.Repeat("a", 8<<10))}, 401, bad},
		"access key alone":        {[]edit{header("X-Mitter-Application-Access-Key", appKey)}, 401, bad},
		"empty access key":        {[]edit{header("X-Mitter-Application-Access-Key", "")}, 401, bad},
		"signed, which is off":    {[]edit{header("Authorization", "Auth "+appKey+":x"), header("X-Mitter-Application-Access-Key", appKey)}, 401, bad},
		"Basic without base64":    {[]edit{header("Authorization", "Basic "+appKey+":"+appSecret)}, 401, bad},
		"Basic of nothing":        {[]edit{header("Authorization", "Basic ")}, 401, bad},
		"Basic without a secret":  {[]edit{credBasic(appKey)}, 401, bad},
		"Basic, empty secret":     {[]edit{credBasic(appKey + ":")}, 401, bad},
		"Basic, empty key":        {[]edit{credBasic(":" + appSecret)}, 401, bad},
		"Basic, wrong secret":     {[]edit{credBasic(appKey + ":" + strings.Replace(appSecret, "c2V", "c2W", 1))}, 401, bad},
		"Basic, secret in part":   {[]edit{credBasic(appKey + ":" + appSecret[:len(appSecret)-4])}, 401, bad},
		"Basic, secret and more":  {[]edit{credBasic(appKey + ":" + appSecret + "AAAA")}, 401, bad},
		"Basic, secret respelt":   {[]edit{credBasic(appKey + ":" + strings.TrimRight(appSecret, "="))}, 401, bad},
		"Basic, secret decoded":   {[]edit{credBasic(appKey + ":secret secret secret secret secret!")}, 401, bad},
		"Basic, a break behind":   {[]edit{credBasic(appKey + ":" + appSecret + "\n")}, 401, bad},
		"Basic, unknown key":      {[]edit{credBasic("application-two:" + appSecret)}, 401, bad},
		"Basic, another case":     {[]edit{credBasic(strings.ToUpper(appKey) + ":" + appSecret)}, 401, bad},
		"Basic, key of .system":   {[]edit{credBasic(".system:" + appSecret)}, 401, bad},
		"Basic unpadded": {
			[]edit{header("Authorization", "Basic "+strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(appKey+":"+appSecret)), "="))}, 401, bad,
		},
		"Basic that does not end": {[]edit{header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(appKey+":"+appSecret))+"=")}, 401, bad},
		// Acting for somebody.
		"acting without a credential":  {[]edit{header("X-Mitter-Sudo-User-Id", string(secAlice.id))}, 401, bad},
		"acting by a bad credential":   {[]edit{credBasic(appKey + ":x"), header("X-Mitter-Sudo-User-Id", string(secAlice.id))}, 401, bad},
		"acting by a token":            {[]edit{bearer(a), header("X-Mitter-Sudo-User-Id", string(secBob.id))}, 403, no},
		"acting by a token for itself": {[]edit{bearer(a), header("X-Mitter-Sudo-User-Id", string(secAlice.id))}, 403, no},
		"acting by a cookie":           {[]edit{credCookie(a), header("X-Mitter-Sudo-User-Id", string(secBob.id))}, 403, no},
		"acting for nobody":            {[]edit{actingFor(secAbsent.id)}, 403, no},
		"acting for a blocked user":    {[]edit{actingFor(secBlocked.id)}, 403, no},
		"acting for .system":           {[]edit{actingFor(".system")}, 403, no},
		"acting for .anonymous":        {[]edit{actingFor(".anonymous")}, 403, no},
		"acting for .deleted":          {[]edit{actingFor(".deleted")}, 403, no},
		"acting for me":                {[]edit{actingFor("me")}, 403, no},
		"acting for an address":        {[]edit{actingFor("email:alice@example.org")}, 403, no},
		"acting for an empty id":       {[]edit{actingFor("")}, 403, no},
		"acting for a malformed id":    {[]edit{actingFor("a b\x00c")}, 403, no},
		"acting for an encoded id":     {[]edit{actingFor("alice%23of-the-world")}, 403, no},
		"acting for another case":      {[]edit{actingFor("Alice#of-the-world")}, 403, no},
		"acting for a list":            {[]edit{actingFor("alice#of-the-world,bob-of-the-world")}, 403, no},
		"acting for 32 KiB":            {[]edit{actingFor(denizen.UserID(strings.Repeat("a", 32<<10)))}, 403, no},
		// Another application.
		"wrong application":            {[]edit{app, header("X-Mitter-Application-Id", "another")}, 403, "missing_context"},
		"wrong application of a token": {[]edit{bearer(a), header("X-Mitter-Application-Id", "another")}, 403, "missing_context"},
		"empty application":            {[]edit{bearer(a), header("X-Mitter-Application-Id", "")}, 403, "missing_context"},
		"wrong application, acting":    {[]edit{actingFor(secAlice.id), header("X-Mitter-Application-Id", "another")}, 403, "missing_context"},
		"wrong application, bad token": {[]edit{bearer("x"), header("X-Mitter-Application-Id", "another")}, 401, bad},
	}
}

// A route for everybody with a credential, one for users alone, and one that changes something.
var credRequests = [][3]string{
	{"GET", "/v1/attribute-def/users", ""},
	{"GET", "/v1/users/me", ""},
	{"PUT", "/v1/users/me/screenname", `{"screenName":"Mallory"}`},
	{"POST", "/v1/users/alice%23of-the-world/tokens", ""},
}

func TestACredentialThatIsNotGoodIsRefusedAndChangesNothing(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for name, c := range credRefusals(w) {
		t.Run(name, func(t *testing.T) {
			for _, r := range credRequests {
				a := w.do(r[0], r[1], r[2], c.edits...)
				a.refused(t, c.status, c.code)
				challenge := a.header.Get("WWW-Authenticate")
				require.Equal(t, c.status == http.StatusUnauthorized, challenge != "", "WWW-Authenticate %q", challenge)
				for _, secret := range []string{w.aliceToken, w.bobToken, appSecret} {
					require.NotContains(t, a.body, secret)
				}
			}
		})
	}
	require.Equal(t, before, w.holds(t))
}

// A handler behind Authenticate that takes .anonymous in must not see a bad credential as that.
func TestABadCredentialIsNeverAnonymous(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	reached := 0
	guarded := httpadapter.Authenticate(w.dir, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	for name, c := range credRefusals(w) {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/notes", nil)
			for _, e := range c.edits {
				e(r)
			}
			got := httptest.NewRecorder()
			reached = 0
			guarded.ServeHTTP(got, r)
			answer{got.Code, got.Header(), got.Body.String()}.refused(t, c.status, c.code)
			require.Zero(t, reached)
		})
	}
}

func TestNobodyGets401WithAChallengeEverywhere(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, edits := range [][]edit{nil, {header("Cookie", "session=1")}, {header("X-Mitter-Application-Id", "another")}} {
		for _, route := range secRoutes {
			if route.who == secAnyone {
				continue
			}
			a := w.do(route.method, w.fill(route.pattern, "alice%23of-the-world"), route.body, edits...)
			a.refused(t, http.StatusUnauthorized, "authorization_error")
			require.Equal(t, `Bearer realm="denizen"`, a.header.Get("WWW-Authenticate"))
		}
	}
}

func TestDocumentsAnswerToABadCredential(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, c := range credRefusals(w) {
		for _, path := range []string{"/v1/.well-known/jwks.json", "/v1/openapi.json"} {
			w.do("GET", path, "", c.edits...).secOK(t)
		}
	}
}

// The published clients look for tokens in the query too; this contract has none there.
func TestACredentialInTheQueryIsNone(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, name := range []string{"mitter.x_issued_mitter_user_authorization", "access_token", "token", "X-Issued-Mitter-User-Authorization"} {
		w.do("GET", "/v1/users/me?"+name+"="+w.aliceToken, "").refused(t, http.StatusUnauthorized, "authorization_error")
	}
	a := w.do("GET", "/v1/users/me?X-Mitter-Sudo-User-Id=bob-of-the-world", "", bearer(w.aliceToken))
	require.Equal(t, string(secAlice.id), decode[struct{ UserID string }](t, a, http.StatusOK).UserID)
}

// What proxies say of a caller is not read.
func TestNoForwardingHeaderIsBelieved(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for _, name := range []string{
		"X-Forwarded-User", "X-Remote-User", "X-Authenticated-User", "Forwarded", "X-Forwarded-For", "X-Original-Url", "X-Rewrite-Url",
		"X-Http-Method-Override", "Proxy-Authorization", "X_Issued_Mitter_User_Authorization", "X-Mitter_Sudo_User_Id", "X-Application-Access-Key",
	} {
		for _, value := range []string{".system", w.aliceToken, "/v1/users/bob-of-the-world", "DELETE"} {
			w.do("GET", "/v1/users/me", "", header(name, value)).refused(t, http.StatusUnauthorized, "authorization_error")
			a := w.do("GET", "/v1/users/me", "", bearer(w.bobToken), header(name, value))
			require.Equal(t, string(secBob.id), decode[struct{ UserID string }](t, a, http.StatusOK).UserID)
		}
	}
}

func TestADeletedAccessKeyLetsNobodyIn(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	spare := credBasic(secSpareKey + ":" + secSpareSecret)
	sudo := header("X-Mitter-Sudo-User-Id", string(secAlice.id))
	w.do("GET", "/v1/users", "", spare).secOK(t)
	w.do("GET", "/v1/users/me", "", spare, sudo).secOK(t)
	path := "/v1/applications/" + w.dir.ApplicationID() + "/accessKeys/" + secSpareKey
	require.Equal(t, http.StatusNoContent, w.do("DELETE", path, "", spare).status)
	w.do("GET", "/v1/users", "", spare).refused(t, http.StatusUnauthorized, "authorization_error")
	w.do("GET", "/v1/users/me", "", spare, sudo).refused(t, http.StatusUnauthorized, "authorization_error")
	w.do("GET", "/v1/users", "", app).secOK(t)
}

func TestABlockedUserIsNobodysToActFor(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	w.do("GET", "/v1/users/me", "", actingFor(secBob.id)).secOK(t)
	require.Equal(t, http.StatusNoContent, w.do("PATCH", "/v1/users/bob-of-the-world", `{"blocked":true}`, app).status)
	w.do("GET", "/v1/users/me", "", actingFor(secBob.id)).refused(t, http.StatusForbidden, "missing_privilege")
	w.do("GET", "/v1/users/me", "", bearer(w.bobToken)).refused(t, http.StatusUnauthorized, "token_revoked")
	require.Equal(t, http.StatusNoContent, w.do("PATCH", "/v1/users/bob-of-the-world", `{"blocked":false}`, app).status)
	w.do("GET", "/v1/users/me", "", actingFor(secBob.id)).secOK(t)
	w.do("GET", "/v1/users/me", "", bearer(w.bobToken)).refused(t, http.StatusUnauthorized, "token_revoked")
}

// The refusals to act for somebody tell nobody apart.
func TestActingForWhoCannotBeActedForIsTheSameBytes(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	first := w.asked("GET", "/v1/users/me", "", actingFor(secAbsent.id))
	for _, id := range []denizen.UserID{secBlocked.id, ".system", "short", "", "no such id"} {
		a := w.asked("GET", "/v1/users/me", "", actingFor(id))
		secSame(t, first, a, string(id))
		require.NotContains(t, a.body, "carol")
	}
}

// When the store cannot answer, every credential gets 503: nobody is let in, and nobody is told
// that it is not good.
func TestAStoreThatFailsLetsNobodyIn(t *testing.T) {
	logged := credLogged(t)
	var down atomic.Bool
	s := storetest.Faulty(credShared{memory.New()}, func(storetest.Call) storetest.Fault {
		if down.Load() {
			return storetest.Before
		}
		return storetest.None
	})
	w := &secWorld{api: newSecAPI(t, s, denizen.Options{}, httpadapter.Options{Observe: func(context.Context, httpadapter.Exchange) {}})}
	_, err := w.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: secAlice.id, ScreenName: "Alice"})
	require.NoError(t, err)
	signed, _ := secIssue(t, w.dir, secAlice.id)
	w.do("GET", "/v1/users/me", "", bearer(signed)).secOK(t)
	down.Store(true)
	for name, c := range map[string]edit{
		"Basic": app, "wrong Basic": credBasic(appKey + ":x"), "Bearer": bearer(signed), "forged Bearer": bearer(signed + "x"),
		"header": credHeader(signed), "cookie": credCookie(signed), "our cookie": credOurs(signed), "acting": actingFor(secAlice.id),
	} {
		for _, path := range []string{"/v1/users", "/v1/users/me", "/v1/attribute-def/users"} {
			a := w.do("GET", path, "", c)
			a.refused(t, http.StatusServiceUnavailable, "unavailable")
			require.Empty(t, a.header.Get("WWW-Authenticate"), name)
			require.NotContains(t, a.body, "store")
		}
		for _, guard := range []func(*denizen.Directory, http.Handler) http.Handler{httpadapter.Authenticate, httpadapter.Require} {
			r := httptest.NewRequest("GET", "/notes", nil)
			c(r)
			got := httptest.NewRecorder()
			guard(w.dir, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in by " + name) })).ServeHTTP(got, r)
			answer{got.Code, got.Header(), got.Body.String()}.refused(t, http.StatusServiceUnavailable, "unavailable")
		}
	}
	down.Store(false)
	w.do("GET", "/v1/users/me", "", bearer(signed)).secOK(t)
	require.Contains(t, logged.String(), "error_code=unavailable")
	for _, secret := range []string{signed, appSecret} {
		require.NotContains(t, logged.String(), secret)
	}
}

// credLogged answers what is logged by default until the end of the test.
func credLogged(t testing.TB) *strings.Builder {
	t.Helper()
	usual, logged := slog.Default(), new(strings.Builder)
	slog.SetDefault(slog.New(slog.NewTextHandler(logged, nil)))
	t.Cleanup(func() { slog.SetDefault(usual) })
	return logged
}

// Whichever call to the store fails, a request is answered or gets 503: what came of it is seen by
// who asks again.
func TestEachCallToTheStoreMayFail(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Before, storetest.Applied, storetest.Withheld} {
		faults := storetest.EachCall(fault, func(_ int, decide func(storetest.Call) storetest.Fault) {
			var armed atomic.Bool
			s := storetest.Faulty(credShared{memory.New()}, func(c storetest.Call) storetest.Fault {
				if armed.Load() && c.Method != "Wait" && c.Method != "Changes" {
					return decide(c)
				}
				return storetest.None
			})
			w := &secWorld{api: newSecAPI(t, s, denizen.Options{}, httpadapter.Options{Observe: func(context.Context, httpadapter.Exchange) {}})}
			_, err := w.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: secAlice.id, ScreenName: "Alice"})
			require.NoError(t, err)
			signed, _ := secIssue(t, w.dir, secAlice.id)
			armed.Store(true)
			for _, by := range []edit{bearer(signed), actingFor(secAlice.id)} {
				a := w.do("PUT", "/v1/users/me/screenname", `{"screenName":"Other"}`, by)
				if a.status == http.StatusNoContent {
					continue
				}
				p := a.refused(t, http.StatusServiceUnavailable, "unavailable")
				if fault != storetest.Before {
					require.Equal(t, "unknown", p.Diagnostics["outcome"])
				}
			}
			armed.Store(false)
		})
		require.Positive(t, faults)
	}
}

// credShared hides that a store is for one directory alone, so that nothing of it is remembered.
type credShared struct{ store.Store }
