package httpadapter_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
)

// sigRequest is what a client that signs its requests knows of one.
type sigRequest struct {
	method, path, body string // the path as it is sent, from /v1 on
	signedPath         string // if other than path
	query, mount       string
	key, secret        string
	date, nonce        string
	contentType        string // as it is signed, if other than the method says
	md5                string // as it is signed and sent, if other than the body's
	chunked            bool
}

func newSigRequest(method, path, body string) sigRequest {
	return sigRequest{
		method: method, path: path, body: body, key: appKey, secret: appSecret,
		date: time.Now().UTC().Format(http.TimeFormat), nonce: rand.Text(),
	}
}

// text is the six lines that are signed.
func (s sigRequest) text() string {
	contentType := "null"
	if s.method == "POST" || s.method == "PUT" || s.method == "PATCH" {
		contentType = "application/json"
	}
	if s.contentType != "" {
		contentType = s.contentType
	}
	path := s.path
	if s.signedPath != "" {
		path = s.signedPath
	}
	return strings.Join([]string{s.method, contentType, s.sum(), s.date, path, s.nonce}, "\n")
}

func (s sigRequest) sum() string {
	if s.md5 != "" {
		return s.md5
	}
	return sigSum(s.body)
}

func sigSum(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (s sigRequest) digest() string {
	key, err := base64.StdEncoding.DecodeString(s.secret)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha1.New, key)
	mac.Write([]byte(s.text()))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// send is the request with its signature.
func (s sigRequest) send() *http.Request {
	var body io.Reader = strings.NewReader(s.body)
	if s.chunked {
		body = io.MultiReader(body) // of a length that nobody knows
	}
	r := httptest.NewRequest(s.method, s.mount+s.path+s.query, body)
	if s.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Mitter-Application-Access-Key", s.key)
	r.Header.Set("Date", s.date)
	r.Header.Set("Nonce", s.nonce)
	r.Header.Set("Content-MD5", s.sum())
	r.Header.Set("Authorization", "Auth "+s.key+":"+s.digest())
	return r
}

var sigOn = httpadapter.Options{Signed: true}

// The lines and the digest of this were made with openssl, and not with the code above.
func TestTheSignerSignsAsTheContractSays(t *testing.T) {
	s := newSigRequest("GET", "/v1/users/alice", "")
	s.secret = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	s.date, s.nonce = "Sat, 01 Jan 2000 00:00:00 GMT", "nonce-0001"
	require.Equal(t, "GET\nnull\n1B2M2Y8AsgTpgAmY7PhCfg==\nSat, 01 Jan 2000 00:00:00 GMT\n/v1/users/alice\nnonce-0001", s.text())
	require.Equal(t, "ukTlLAxGapPTh2pzEr9U+QMrhdY=", s.digest())
}

// sigGood are right requests: of every method, with the path signed as sent and as decoded.
func sigGood() map[string]sigRequest {
	const alice, decoded = "/v1/users/alice%23of-the-world", "/v1/users/alice#of-the-world"
	javaStyle := func(s sigRequest, path string) sigRequest { s.signedPath = path; return s }
	chunked := newSigRequest("PUT", alice+"/screenname", `{"screenName":"Chunked"}`)
	chunked.chunked = true
	withQuery := newSigRequest("GET", "/v1/users", "")
	withQuery.query = "?limit=1&after="
	utc := newSigRequest("GET", "/v1/users", "")
	utc.date = strings.Replace(utc.date, "GMT", "UTC", 1)
	monday := newSigRequest("GET", "/v1/users", "")
	monday.date = "Mon" + monday.date[3:]
	return map[string]sigRequest{
		"GET":                      newSigRequest("GET", alice, ""),
		"GET, path decoded":        javaStyle(newSigRequest("GET", alice, ""), decoded),
		"HEAD":                     newSigRequest("HEAD", alice, ""),
		"POST":                     newSigRequest("POST", alice+"/presence", `{"type":"mitter.up.Away"}`),
		"POST, path decoded":       javaStyle(newSigRequest("POST", alice+"/presence", `{"type":"mitter.up.Away"}`), decoded+"/presence"),
		"POST without a body":      newSigRequest("POST", alice+"/tokens", ""),
		"PUT":                      newSigRequest("PUT", alice+"/screenname", `{"screenName":"Signed"}`),
		"PUT, chunked":             chunked,
		"PATCH":                    newSigRequest("PATCH", "/v1/users/bob-of-the-world", `{"blocked":true}`),
		"DELETE":                   newSigRequest("DELETE", alice+"/profile/nickname", ""),
		"DELETE, path decoded":     javaStyle(newSigRequest("DELETE", alice+"/profile/nickname", ""), decoded+"/profile/nickname"),
		"by locator":               newSigRequest("GET", "/v1/users/email:alice@example.org", ""),
		"by locator, encoded":      newSigRequest("GET", "/v1/users/email%3aalice%40example.org", ""),
		"by locator, path decoded": javaStyle(newSigRequest("GET", "/v1/users/email%3aalice%40example.org", ""), "/v1/users/email:alice@example.org"),
		"with a query":             withQuery,
		"a date in UTC":            utc,
		"a weekday that is not":    monday,
	}
}

func TestARightlySignedRequestIsTheApplications(t *testing.T) {
	for name, s := range sigGood() {
		for _, mounted := range []string{"at the root", "under a prefix", "behind StripPrefix"} {
			t.Run(name+" "+mounted, func(t *testing.T) {
				w := newSecWorld(t, denizen.Options{}, sigOn)
				switch mounted {
				case "under a prefix":
					s.mount = "/people/here"
					w.handler = recorded(httpadapter.New(w.dir, httpadapter.Options{Signed: true, Prefix: s.mount}), s.mount)
				case "behind StripPrefix":
					s.mount = "/people"
					w.handler = http.StripPrefix(s.mount, w.handler)
				}
				a := w.send(s.send())
				require.Less(t, a.status, 300, a.body)
				w.send(s.send()).refused401(t, s.method)
			})
		}
	}
}

// refused401 requires an answer of 401, of which a HEAD shows no body.
func (a answer) refused401(t testing.TB, method string) {
	t.Helper()
	if method == http.MethodHead {
		require.Equal(t, http.StatusUnauthorized, a.status)
		return
	}
	a.refused(t, http.StatusUnauthorized, "authorization_error")
}

func TestASignedRequestIsRefusedWhereTheHostDidNotTurnItOn(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	before := w.holds(t)
	for _, s := range sigGood() {
		w.send(s.send()).refused401(t, s.method)
	}
	r := newSigRequest("GET", "/v1/users", "").send()
	got := httptest.NewRecorder()
	httpadapter.Authenticate(w.dir, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in") })).ServeHTTP(got, r)
	require.Equal(t, http.StatusUnauthorized, got.Code)
	require.Equal(t, before, w.holds(t))
}

func TestAnApplicationActsForAUserBySigning(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	r := newSigRequest("GET", "/v1/users/me", "").send()
	r.Header.Set("X-Mitter-Sudo-User-Id", string(secBob.id))
	require.Equal(t, string(secBob.id), decode[struct{ UserID string }](t, w.send(r), http.StatusOK).UserID)
}

// sigAttacks change a request that was signed, or sign one that no client would. None is let in,
// and none uses up the nonce of the request it was made of.
var sigAttacks = map[string]struct {
	change func(r *http.Request, s sigRequest)
	status int // 401 unless said
}{
	"another body": {change: func(r *http.Request, _ sigRequest) { sigBody(r, `{"screenName":"Mallory"}`) }},
	"another body with its sum": {change: func(r *http.Request, _ sigRequest) {
		sigBody(r, `{"screenName":"Mallory"}`)
		r.Header.Set("Content-MD5", sigSum(`{"screenName":"Mallory"}`))
	}},
	"no body":          {change: func(r *http.Request, _ sigRequest) { sigBody(r, "") }},
	"a body with more": {change: func(r *http.Request, s sigRequest) { sigBody(r, s.body+" ") }},
	"a body cut short": {change: func(r *http.Request, s sigRequest) { sigBody(r, s.body[:len(s.body)-1]) }},
	"another method": {change: func(r *http.Request, _ sigRequest) {
		r.Method = "POST"
		r.URL.Path = "/v1/users/bob-of-the-world/profile"
	}},
	"another user in the path": {change: func(r *http.Request, _ sigRequest) {
		r.URL.Path, r.URL.RawPath = "/v1/users/alice#of-the-world/screenname", ""
	}},
	"another date": {change: func(r *http.Request, _ sigRequest) {
		r.Header.Set("Date", time.Now().UTC().Add(time.Second).Format(http.TimeFormat))
	}},
	"the date as UTC":        {change: func(r *http.Request, s sigRequest) { r.Header.Set("Date", strings.Replace(s.date, "GMT", "UTC", 1)) }},
	"another weekday":        {change: func(r *http.Request, s sigRequest) { r.Header.Set("Date", "Nay"+s.date[3:]) }},
	"no date":                {change: func(r *http.Request, _ sigRequest) { r.Header.Del("Date") }, status: 400},
	"an empty date":          {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Date", "") }, status: 400},
	"a date of another form": {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Date", time.Now().UTC().Format(time.RFC3339)) }, status: 400},
	"a date with an offset":  {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Date", time.Now().UTC().Format(time.RFC1123Z)) }, status: 400},
	"a date of RFC 850":      {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Date", time.Now().UTC().Format(time.RFC850)) }, status: 400},
	"a date that is none":    {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Date", "Sat, 31 Feb 2026 00:00:00 GMT") }, status: 400},
	"another nonce":          {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Nonce", "another-nonce") }},
	"the nonce in small":     {change: func(r *http.Request, s sigRequest) { r.Header.Set("Nonce", strings.ToLower(s.nonce)) }},
	"no nonce":               {change: func(r *http.Request, _ sigRequest) { r.Header.Del("Nonce") }, status: 400},
	"a short nonce":          {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Nonce", "1234567") }, status: 400},
	"a long nonce":           {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Nonce", strings.Repeat("n", 129)) }, status: 400},
	"a nonce with a blank":   {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Nonce", "1234 5678") }, status: 400},
	"a nonce not in ASCII":   {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Nonce", "nöncenönce") }, status: 400},
	"no sum":                 {change: func(r *http.Request, _ sigRequest) { r.Header.Del("Content-MD5") }},
	"an empty sum":           {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Content-MD5", "") }},
	"another sum":            {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Content-MD5", sigSum("")) }},
	"the sum unpadded":       {change: func(r *http.Request, s sigRequest) { r.Header.Set("Content-MD5", strings.TrimRight(s.sum(), "=")) }},
	"another access key":     {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, secSpareKey, secSpareKey, s.digest()) }},
	"an unknown access key": {change: func(r *http.Request, s sigRequest) {
		sigAuthorize(r, "application-nine", "application-nine", s.digest())
	}},
	"keys that differ":                {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, secSpareKey, appKey, s.digest()) }},
	"keys that differ, the other way": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, secSpareKey, s.digest()) }},
	"the key in capitals": {change: func(r *http.Request, s sigRequest) {
		sigAuthorize(r, strings.ToUpper(appKey), strings.ToUpper(appKey), s.digest())
	}},
	"no key":                 {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, "", "", s.digest()) }},
	"no key header":          {change: func(r *http.Request, _ sigRequest) { r.Header.Del("X-Mitter-Application-Access-Key") }},
	"no digest":              {change: func(r *http.Request, _ sigRequest) { sigAuthorize(r, appKey, appKey, "") }},
	"no colon":               {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Authorization", "Auth "+appKey) }},
	"nothing but the scheme": {change: func(r *http.Request, _ sigRequest) { r.Header.Set("Authorization", "Auth") }},
	"the digest and a break": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, s.digest()+"\n") }},
	"the digest and a blank": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, s.digest()+" ") }},
	"a blank and the digest": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, " "+s.digest()) }},
	"the digest unpadded": {change: func(r *http.Request, s sigRequest) {
		sigAuthorize(r, appKey, appKey, strings.TrimRight(s.digest(), "="))
	}},
	"the digest overpadded": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, s.digest()+"=") }},
	"the digest in small":   {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, strings.ToLower(s.digest())) }},
	"the digest, last bits": {change: func(r *http.Request, s sigRequest) {
		d := s.digest()
		sigAuthorize(r, appKey, appKey, d[:26]+string(d[26]+1)+"=")
	}},
	"the digest cut": {change: func(r *http.Request, s sigRequest) { sigAuthorize(r, appKey, appKey, s.digest()[:20]) }},
	"the digest in hex": {change: func(r *http.Request, s sigRequest) {
		raw, _ := base64.StdEncoding.DecodeString(s.digest())
		sigAuthorize(r, appKey, appKey, fmt.Sprintf("%x", raw))
	}},
	"the secret as it is written": {change: func(r *http.Request, s sigRequest) {
		mac := hmac.New(sha1.New, []byte(appSecret))
		mac.Write([]byte(s.text()))
		sigAuthorize(r, appKey, appKey, base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}},
	"an empty secret": {change: func(r *http.Request, s sigRequest) { s.secret = ""; sigAuthorize(r, appKey, appKey, s.digest()) }},
	"two nonces":      {change: func(r *http.Request, s sigRequest) { r.Header.Add("Nonce", s.nonce) }, status: 400},
	"two dates":       {change: func(r *http.Request, s sigRequest) { r.Header.Add("Date", s.date) }, status: 400},
	"two sums":        {change: func(r *http.Request, s sigRequest) { r.Header.Add("Content-MD5", s.sum()) }, status: 400},
	"two keys":        {change: func(r *http.Request, _ sigRequest) { r.Header.Add("X-Mitter-Application-Access-Key", appKey) }, status: 400},
	"two signatures":  {change: func(r *http.Request, s sigRequest) { r.Header.Add("Authorization", "Auth "+s.key+":"+s.digest()) }, status: 400},
	// Signed with the secret, but not as the contract says.
	"type null on a PUT":      {change: sigResign(func(s *sigRequest) { s.contentType = "null" })},
	"type with a charset":     {change: sigResign(func(s *sigRequest) { s.contentType = "application/json; charset=utf-8" })},
	"no type":                 {change: sigResign(func(s *sigRequest) { s.contentType = " " })},
	"the mount signed too":    {change: sigResign(func(s *sigRequest) { s.signedPath = "/people" + s.path })},
	"the path without /v1":    {change: sigResign(func(s *sigRequest) { s.signedPath = strings.TrimPrefix(s.path, "/v1") })},
	"the path with a query":   {change: sigResign(func(s *sigRequest) { s.signedPath = s.path + "?x=y" })},
	"the path with a slash":   {change: sigResign(func(s *sigRequest) { s.signedPath = s.path + "/" })},
	"the method in small":     {change: sigResign(func(s *sigRequest) { s.method = "put" })},
	"a date of long ago":      {change: sigResign(func(s *sigRequest) { s.date = "Sat, 01 Jan 2000 00:00:00 GMT" })},
	"a date 26 s ago":         {change: sigResign(func(s *sigRequest) { s.date = time.Now().UTC().Add(-27 * time.Second).Format(http.TimeFormat) })},
	"a date in 26 s":          {change: sigResign(func(s *sigRequest) { s.date = time.Now().UTC().Add(27 * time.Second).Format(http.TimeFormat) })},
	"a date that never was":   {change: sigResign(func(s *sigRequest) { s.date = "Sat, 31 Feb 2026 00:00:00 GMT" }), status: 400},
	"an empty nonce, signed":  {change: sigResign(func(s *sigRequest) { s.nonce = "" }), status: 400},
	"the sum of another body": {change: sigResign(func(s *sigRequest) { s.md5 = sigSum("") })},
	"the sum in hex":          {change: sigResign(func(s *sigRequest) { s.md5 = fmt.Sprintf("%x", md5.Sum([]byte(s.body))) })},
	"a token beside":          {change: func(r *http.Request, _ sigRequest) { r.Header.Set("X-Issued-Mitter-User-Authorization", "x") }, status: 400},
	"another application":     {change: sigResign(func(s *sigRequest) { s.key = "another-application-key" })},
}

func sigBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

func sigAuthorize(r *http.Request, header, key, digest string) {
	r.Header.Set("X-Mitter-Application-Access-Key", header)
	r.Header.Set("Authorization", "Auth "+key+":"+digest)
}

// sigResign sends what a signer sends that makes a mistake.
func sigResign(mistake func(*sigRequest)) func(*http.Request, sigRequest) {
	return func(r *http.Request, s sigRequest) {
		method := r.Method
		mistake(&s)
		again := s.send()
		r.Header = again.Header
		r.Method = method
	}
}

func TestAForgedSignatureIsRefusedAndUsesNothingUp(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	for name, attack := range sigAttacks {
		t.Run(name, func(t *testing.T) {
			s := newSigRequest("PUT", "/v1/users/bob-of-the-world/screenname", `{"screenName":"Robert"}`)
			before := w.holds(t)
			forged := s.send()
			attack.change(forged, s)
			a := w.send(forged)
			if attack.status == 400 {
				a.refused(t, http.StatusBadRequest, "invalid_parameter_set")
			} else {
				a.refused(t, http.StatusUnauthorized, "authorization_error")
			}
			require.NotContains(t, a.body, s.digest())
			require.NotContains(t, a.body, s.nonce)
			require.Equal(t, before, w.holds(t))
			require.Equal(t, http.StatusNoContent, w.send(s.send()).status, "the request it was made of is good")
			w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
		})
	}
}

// Every byte of the digest counts, and so does every bit of the text.
func TestEveryBitOfADigestCounts(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	before := w.holds(t)
	s := newSigRequest("GET", "/v1/users", "")
	digest := s.digest()
	for i := range digest {
		for bit := range 8 {
			r := s.send()
			changed := []byte(digest)
			changed[i] ^= 1 << bit
			sigAuthorize(r, appKey, appKey, string(changed))
			w.send(r).refused(t, http.StatusUnauthorized, "authorization_error")
		}
		r := s.send()
		sigAuthorize(r, appKey, appKey, digest[:i])
		w.send(r).refused(t, http.StatusUnauthorized, "authorization_error")
	}
	require.Equal(t, before, w.holds(t))
	w.send(s.send()).secOK(t)
}

// Two requests whose six lines are one text: a line break stands inside a field, in the path as %0A.
// Whoever sends one of them with the signature of the other is refused.
func TestFieldsDoNotShift(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	before := w.holds(t)
	s := newSigRequest("GET", "/v1/users", "")
	for name, shift := range map[string]func(r *http.Request){
		"nonce into the path":        func(r *http.Request) { r.URL.Path = s.path + "\n" + s.nonce; r.Header.Set("Nonce", "12345678") },
		"the path into the nonce":    func(r *http.Request) { r.Header.Set("Nonce", s.path+"\n"+s.nonce) },
		"the date into the path":     func(r *http.Request) { r.URL.Path = s.date + "\n" + s.path },
		"the path into the date":     func(r *http.Request) { r.Header.Set("Date", s.date+"\n"+s.path) },
		"the sum into the date":      func(r *http.Request) { r.Header.Set("Date", s.sum()+"\n"+s.date) },
		"the date into the sum":      func(r *http.Request) { r.Header.Set("Content-MD5", s.sum()+"\n"+s.date) },
		"the sum into the method":    func(r *http.Request) { r.Method = "GET\nnull"; r.Header.Set("Content-MD5", s.sum()) },
		"the nonce and a break":      func(r *http.Request) { r.Header.Set("Nonce", s.nonce+"\n") },
		"a break and the nonce":      func(r *http.Request) { r.Header.Set("Nonce", "\n"+s.nonce) },
		"the path and a break":       func(r *http.Request) { r.URL.Path = s.path + "\n" },
		"the path and a return":      func(r *http.Request) { r.URL.Path = s.path + "\r" },
		"the digest over two fields": func(r *http.Request) { sigAuthorize(r, appKey, appKey+":x", s.digest()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := s.send()
			shift(r)
			a := w.send(r)
			require.Contains(t, []int{400, 401, 404, 405}, a.status, a.body)
			require.Equal(t, before, w.holds(t))
		})
	}
	// Signed with the secret, so that the text is right: the break inside is what is refused.
	for name, s := range map[string]sigRequest{
		"a path with a break, as sent":  {path: "/v1/attribute-def/users/a%0Ab"},
		"a path with a break, decoded":  {path: "/v1/attribute-def/users/a%0Ab", signedPath: "/v1/attribute-def/users/a\nb"},
		"a path with a return, decoded": {path: "/v1/attribute-def/users/a%0Db", signedPath: "/v1/attribute-def/users/a\rb"},
		"the nonce inside the path":     {path: "/v1/attribute-def/users/a%0A12345678", signedPath: "/v1/attribute-def/users/a\n12345678"},
	} {
		t.Run(name, func(t *testing.T) {
			good := newSigRequest("GET", s.path, "")
			good.signedPath = s.signedPath
			w.send(good.send()).refused(t, http.StatusBadRequest, "invalid_parameter_set")
			require.Equal(t, before, w.holds(t))
		})
	}
	w.send(s.send()).secOK(t)
}

// The signature of a path, sent with another path that decodes to it, reaches no other user.
func TestAPathThatDecodesToTheSignedOneIsNoOther(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	for _, sent := range []string{
		"/v1/users/alice%2523of-the-world", "/v1/users%2Falice%2523of-the-world", "/v1%2Fusers/alice%2523of-the-world", "/%76%31/users/alice%2523of-the-world",
	} {
		s := newSigRequest("DELETE", sent, "")
		s.signedPath = "/v1/users/alice%23of-the-world"
		a := w.send(s.send())
		require.Contains(t, []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound}, a.status, a.body)
	}
	w.do("GET", "/v1/users/alice%23of-the-world", "", app).secOK(t)
}

func TestABodyOnASignedGETOrDELETEIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	before := w.holds(t)
	for _, method := range []string{"GET", "DELETE"} {
		for _, chunked := range []bool{false, true} {
			for _, body := range []string{"{}", " ", "x"} {
				s := newSigRequest(method, "/v1/users/bob-of-the-world", body)
				s.chunked = chunked
				w.send(s.send()).refused(t, http.StatusBadRequest, "invalid_input_syntax")
				s.md5 = sigSum("") // of the body that it should have
				w.send(s.send()).refused(t, http.StatusBadRequest, "invalid_input_syntax")
			}
		}
	}
	require.Equal(t, before, w.holds(t))
}

func TestABodyIsReadAndCheckedBeforeTheNonceIsSpent(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{Signed: true, MaxBody: 64})
	before := w.holds(t)
	s := newSigRequest("PUT", "/v1/users/bob-of-the-world/screenname", `{"screenName":"`+strings.Repeat("b", 64)+`"}`)
	w.send(s.send()).refused(t, http.StatusRequestEntityTooLarge, "limit_exceeded")
	s = newSigRequest("PUT", "/v1/users/bob-of-the-world/screenname", `{"screenName":"Robert"}`)
	broken := s.send()
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader(s.body[:9]), sigBroken{}))
	w.send(broken).refused(t, http.StatusBadRequest, "invalid_input_syntax")
	require.Equal(t, before, w.holds(t))
	require.Equal(t, http.StatusNoContent, w.send(s.send()).status)
}

// sigBroken is a connection that broke.
type sigBroken struct{}

func (sigBroken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// The nonce is spent for whatever the request comes to, be that a refusal.
func TestANonceIsSpentBeforeTheRequestIsActedOn(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	for _, c := range []struct {
		s      sigRequest
		status int
	}{
		{newSigRequest("GET", "/v1/users/nobody-of-the-world", ""), 404},
		{newSigRequest("GET", "/v1/users/me", ""), 403},
		{newSigRequest("POST", "/v1/users", `{"userId":"bob-of-the-world","screenName":{"screenName":"x"}}`), 409},
		{newSigRequest("PUT", "/v1/users/bob-of-the-world/screenname", `{"screenName":`), 400},
	} {
		require.Equal(t, c.status, w.send(c.s.send()).status)
		w.send(c.s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
	}
}

func TestANonceIsGoodOnceWhateverIsSignedWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at a full minute, so that these dates are of two
		for _, off := range []time.Duration{0, 10 * time.Second, -10 * time.Second} {
			w := newSecWorld(t, denizen.Options{}, sigOn)
			one := newSigRequest("GET", "/v1/users", "")
			w.send(one.send()).secOK(t)
			other := newSigRequest("PUT", "/v1/users/bob-of-the-world/screenname", `{"screenName":"Robert"}`)
			other.nonce, other.date = one.nonce, time.Now().UTC().Add(off).Format(http.TimeFormat)
			w.send(other.send()).refused(t, http.StatusUnauthorized, "authorization_error")
			// It belongs to its access key.
			other.key, other.secret = secSpareKey, secSpareSecret
			require.Equal(t, http.StatusNoContent, w.send(other.send()).status)
			w.send(other.send()).refused(t, http.StatusUnauthorized, "authorization_error")
		}
	})
}

func TestOfAThousandRequestsAtOnceWithOneNonceOneIsLetIn(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *api{
		"memory": func(t *testing.T) *api { return newSecAPI(t, memory.New(), denizen.Options{}, sigOn) },
		"bolt": func(t *testing.T) *api {
			s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
			require.NoError(t, err)
			return newSecAPI(t, s, denizen.Options{}, sigOn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			s := newSigRequest("POST", "/v1/users", `{"screenName":{"screenName":"Only one"}}`)
			var in, out atomic.Int64
			var all sync.WaitGroup
			start := make(chan struct{})
			for range 1000 {
				all.Go(func() {
					<-start
					switch w.send(s.send()).status {
					case http.StatusCreated:
						in.Add(1)
					case http.StatusUnauthorized:
						out.Add(1)
					}
				})
			}
			close(start)
			all.Wait()
			require.EqualValues(t, 1, in.Load())
			require.EqualValues(t, 999, out.Load())
			n, err := w.dir.CountUsers(t.Context(), denizen.System())
			require.NoError(t, err)
			require.Equal(t, 1, n)
		})
	}
}

// A replay within the window finds the nonce used, though the process that let it in is gone.
func TestANonceStaysUsedAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "people.db")
		open := func() (*api, func()) {
			s, err := bolt.Open(context.Background(), path, bolt.Options{})
			require.NoError(t, err)
			dir, err := denizen.New(context.Background(), s, denizen.Options{})
			require.NoError(t, err)
			require.NoError(t, dir.PutAccessKey(t.Context(), denizen.System(), appKey, appSecret))
			return &api{dir, recorded(httpadapter.New(dir, sigOn), "")}, func() { require.NoError(t, dir.Close()); require.NoError(t, s.Close()) }
		}
		w, closeIt := open()
		s := newSigRequest("GET", "/v1/users", "")
		s.date = time.Now().UTC().Add(25 * time.Second).Format(http.TimeFormat)
		w.send(s.send()).secOK(t)
		for range 5 {
			closeIt()
			w, closeIt = open()
			w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
			time.Sleep(10 * time.Second)
		}
		w.send(newSigRequest("GET", "/v1/users", "").send()).secOK(t)
		closeIt()
	})
}

func TestADateIsGoodFor25SecondsEitherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAPI(t, denizen.Options{}, sigOn)
		for off, good := range map[time.Duration]bool{
			0: true, 25 * time.Second: true, -25 * time.Second: true, 26 * time.Second: false, -26 * time.Second: false,
			time.Hour: false, -time.Hour: false, 24 * time.Hour: false, -24 * time.Hour: false,
		} {
			s := newSigRequest("GET", "/v1/users", "")
			s.date = time.Now().UTC().Add(off).Format(http.TimeFormat)
			if good {
				w.send(s.send()).secOK(t)
			} else {
				w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
			}
		}
		// A request that was held back is too late.
		s := newSigRequest("GET", "/v1/users", "")
		time.Sleep(26 * time.Second)
		w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
	})
}

// However late in its window a request is replayed, its nonce is still known.
func TestANonceIsRememberedForLongerThanItsDateIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAPI(t, denizen.Options{}, sigOn)
		for range 70 {
			s := newSigRequest("GET", "/v1/users", "")
			s.date = time.Now().UTC().Add(25 * time.Second).Format(http.TimeFormat)
			w.send(s.send()).secOK(t)
			for range 50 {
				time.Sleep(time.Second)
				w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
			}
			time.Sleep(11 * time.Second)
		}
	})
}

func TestASignerOfADeletedAccessKeyIsRefused(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	s := newSigRequest("GET", "/v1/users", "")
	s.key, s.secret = secSpareKey, secSpareSecret
	w.send(s.send()).secOK(t)
	require.NoError(t, w.dir.DeleteAccessKey(t.Context(), denizen.System(), secSpareKey))
	s.nonce = rand.Text()
	w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
}

// A nonce that cannot be kept lets nobody in.
func TestASignedRequestIsRefusedWhenItsNonceCannotBeKept(t *testing.T) {
	for fault, outcome := range map[storetest.Fault]any{storetest.Before: nil, storetest.Applied: "unknown", storetest.Withheld: "unknown"} {
		var armed atomic.Bool
		s := storetest.Faulty(memory.New(), func(c storetest.Call) storetest.Fault {
			if armed.Load() && c.Method == "Commit" {
				return fault
			}
			return storetest.None
		})
		w := newSecAPI(t, s, denizen.Options{}, httpadapter.Options{Signed: true, Observe: func(context.Context, httpadapter.Exchange) {}})
		r := newSigRequest("GET", "/v1/users", "")
		armed.Store(true)
		p := w.send(r.send()).refused(t, http.StatusServiceUnavailable, "unavailable")
		require.Equal(t, outcome, p.Diagnostics["outcome"])
		armed.Store(false)
		if fault == storetest.Applied {
			w.send(r.send()).refused(t, http.StatusUnauthorized, "authorization_error")
		} else {
			w.send(r.send()).secOK(t)
		}
	}
}

// What was signed for one attribute deletes no other: once decoded, the path that was sent is
// how the other is spelled.
func TestAPathSignedForOneAttributeDeletesNoOther(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, sigOn)
	const dave = "dave-0001" // of an id with nothing to encode, so that the rest alone decides
	_, err := w.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ID: dave, ScreenName: "Dave"})
	require.NoError(t, err)
	for _, key := range []string{"a/b", "a%2Fb", "50%"} {
		_, err := w.dir.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: key})
		require.NoError(t, err)
		_, err = w.dir.SetAttribute(t.Context(), denizen.System(), dave, denizen.Attribute{Key: key, Value: "x"})
		require.NoError(t, err)
	}
	const profile = "/v1/users/" + dave + "/profile/"
	s := newSigRequest("DELETE", profile+"a%252Fb", "")
	s.signedPath = profile + "a%2Fb"
	w.send(s.send()).refused(t, http.StatusUnauthorized, "authorization_error")
	_, err = w.dir.Attributes(t.Context(), denizen.System(), dave, []string{"a%2Fb", "a/b", "50%"})
	require.NoError(t, err)
	// A percent sign that begins no escape is sent in one way alone.
	s = newSigRequest("DELETE", profile+"50%25", "")
	s.signedPath = profile + "50%"
	require.Equal(t, http.StatusNoContent, w.send(s.send()).status)
}
