package httpadapter

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// routedTo is what a request line comes to: the pattern and its parameters, or the refusal.
func routedTo(prefix, method, target string) (*call, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	h := &handler{root: newTree(routes), options: Options{Prefix: prefix}}
	c := &call{h: h, w: httptest.NewRecorder(), r: &http.Request{Method: method, URL: u}, route: &noRoute}
	return c, h.routeTo(c)
}

func TestEveryRouteIsFound(t *testing.T) {
	for _, prefix := range []string{"", "/people", "/a/b%20c"} {
		for i, r := range routes {
			path := strings.NewReplacer("{applicationId}", "an-application", "{", "a ", "}", "#").Replace(r.pattern)
			path = (&url.URL{Path: path}).EscapedPath()
			c, err := routedTo(prefix, r.method, prefix+path)
			require.NoError(t, err, path)
			require.Same(t, &routes[i], c.route)
			require.Equal(t, path, c.path)
		}
	}
}

func TestHeadIsRoutedAsGet(t *testing.T) {
	c, err := routedTo("", "HEAD", "/v1/users/someone-there")
	require.NoError(t, err)
	require.Equal(t, "GET", c.route.method)
}

func TestAParameterIsDecodedOnce(t *testing.T) {
	for _, test := range []struct{ segment, want string }{
		{"someone-there", "someone-there"},
		{"some%23one", "some#one"},
		{"%73ome", "some"},
		{"a%2Cb", "a,b"},
		{"a%2Fb", "a/b"},
		{"a%2f..%2fb", "a/../b"},
		{"%2523", "%23"},
		{"%252e%252e", "%2e%2e"},
		{"a+b", "a+b"},
		{"a%20b", "a b"},
		{"email:a@b.example", "email:a@b.example"},
		{"...", "..."},
		{".system", ".system"},
		{"me", "me"},
		{"%C3%A9", "é"},
		{"%F0%9F%98%80", "😀"},
		{"a;b=c", "a;b=c"},
		{"a&b=c", "a&b=c"},
	} {
		c, err := routedTo("", "GET", "/v1/users/"+test.segment)
		require.NoError(t, err, test.segment)
		require.Equal(t, test.want, c.params[0], test.segment)
		c, err = routedTo("", "GET", "/v1/users/x/profile/"+test.segment+"?a=b")
		require.NoError(t, err, test.segment)
		require.Equal(t, [2]string{"x", test.want}, c.params, test.segment)
	}
}

func TestAPathHasOneSpelling(t *testing.T) {
	for _, path := range []string{
		"/", "/v1", "/v1/", "//v1/users", "/v1//users", "/v1/users/", "/v1/users//", "/v1/users/x/", "/v1/users//profile",
		"/v1/users/x//profile", "/v1/./users", "/v1/../v1/users", "/./v1/users", "/v1/users/.", "/v1/users/..", "/v1/users/./profile",
		"/v1/users/%2e", "/v1/users/%2E%2e", "/v1/users/.%2e/profile", "/v1/%75sers", "/%76%31/users", "/v1/users/x/profil%65",
		"/v1/users%2Fx", "/v1%2Fusers", "/v1/users/me/l%6fgout", "/v1/users/m%65/logout", "/v1/Users", "/V1/users", "/v1/users;x",
		"/v1/users%20", "/v1/users%00", "/v1/users/x%00", "/v1/users/%0a", "/v1/users/%7f", "/v1/users/%C3%A9%00", "/v1/users/%C3%A9%7F", "/v1/users/x/profile/%F0%9F%98%80%0A", "/v1/users/%ff", "/v1/users/%c3",
		"/v1/users/%ed%a0%80", "/v1/users/%c0%ae", "/v1/users/x/profile/a/b", "/v2/users", "/v1/attribute-def", "/v1/attribute-def/",
		"/v1/attribute-def/channels", "/v1/applications/x", "/v1/.well-known", "/v1/openapi.json/", "/v1/users/x/tokens/y/z", "*",
	} {
		_, err := routedTo("", "GET", path)
		require.Error(t, err, path)
		notThere, is := err.(*refusal)
		require.True(t, is, "%s: %v", path, err)
		require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, notThere.status, path)
	}
}

// What URL.EscapedPath spells anew, as it does where a character stands that had to be encoded, is
// not what was sent: encoded slashes and segments would come out of it as if they were none.
func TestAPathThatIsNotEncodedAsItShouldBeIsRefused(t *testing.T) {
	for _, path := range []string{
		`/v1/users/a"b`, `/v1/users/é`, `/v1/users/a#b`, `/v1/users/a|b`, `/v1/users/a\b`, "/v1/users/a`b", `/v1/users/{x}`, `/v1/users/a^b`,
		`/v1/users/me%2Fprofile/"`, `/v1/u%73ers/me/profile/"`, `/v1/users%2Fme/profile/<`, `/v1/users/me/profile%2F"`, `/v1/users#x`,
	} {
		_, err := routedTo("", "GET", path)
		strictRefusal(t, err, http.StatusBadRequest, "invalid_parameter_set", "path")
	}
}

func TestAMalformedEncodingIsRefused(t *testing.T) {
	for _, path := range []string{"/v1/users/%", "/v1/users/%2", "/v1/users/%zz", "/v1/users/%%30"} {
		_, err := newTree(routes).find(path, make([]string, maxParams))
		strictRefusal(t, err, http.StatusBadRequest, "invalid_parameter_set", "percent-encoded")
	}
}

func TestThePrefixIsThereAsItIs(t *testing.T) {
	for _, path := range []string{
		"/v1/users", "/peoplev1/users", "/people", "/people/", "/people/people/v1/users", "/People/v1/users", "/peopl%65/v1/users",
		"//people/v1/users", "/people//v1/users", "/people/./v1/users", "/x/people/v1/users",
	} {
		_, err := routedTo("/people", "GET", path)
		strictRefusal(t, err, http.StatusNotFound, "entity_not_found", "route")
	}
}

func TestAMethodThatARouteHasNotIsToldThoseItHas(t *testing.T) {
	for path, allow := range map[string]string{
		"/v1/users":                          "GET, HEAD, POST",
		"/v1/users/someone":                  "DELETE, GET, HEAD, PATCH",
		"/v1/users/me/logout":                "GET, HEAD, POST",
		"/v1/users/someone/screenname":       "GET, HEAD, PUT",
		"/v1/users/someone/tokens/x":         "DELETE, PATCH",
		"/v1/users/someone/profile/x":        "DELETE, GET, HEAD, POST",
		"/v1/attribute-def/users":            "GET, HEAD, POST",
		"/v1/applications/x/accessKeys/some": "DELETE",
		"/v1/openapi.json":                   "GET, HEAD",
	} {
		for _, method := range []string{"OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "X"} {
			c, err := routedTo("", method, path)
			strictRefusal(t, err, http.StatusMethodNotAllowed, "method_not_allowed", allow)
			require.Equal(t, []string{allow}, c.w.Header()["Allow"])
		}
	}
}

func TestAUserMayBeCalledAsARouteIs(t *testing.T) {
	for _, path := range []string{"/v1/users/users", "/v1/users/logout", "/v1/users/profile/profile", "/v1/users/me/profile/logout", "/v1/attribute-def/users/users"} {
		_, err := routedTo("", "GET", path)
		require.NoError(t, err, path)
	}
}
