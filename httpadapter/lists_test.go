package httpadapter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// fullUsers makes users whose profiles are as full as can be.
func fullUsers(t testing.TB, a *api, n int) (locators []string) {
	t.Helper()
	var attributes []denizen.Attribute
	for i := range 4 {
		key := fmt.Sprintf("key-%d", i)
		_, err := a.dir.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: key})
		require.NoError(t, err)
		attributes = append(attributes, denizen.Attribute{Key: key, Value: strings.Repeat("<", 65_000)})
	}
	for i := range n {
		locator := fmt.Sprintf("email:full-%03d@example.org", i)
		_, err := a.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ID: denizen.UserID(fmt.Sprintf("full-%04d", i)), ScreenName: "A & B", Attributes: attributes,
			Locators: []denizen.NewLocator{{Locator: locator}},
		})
		require.NoError(t, err)
		locators = append(locators, locator)
	}
	return locators
}

// nextPage returns where the page after one is, or "".
func nextPage(page answer) string {
	next, isNext := strings.CutSuffix(strings.TrimPrefix(page.header.Get("Link"), "<"), `>; rel="next"`)
	if !isNext {
		return ""
	}
	return "/v1/users" + next
}

func TestAPageOfFullUsersEndsEarlyByBytes(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	fullUsers(t, a, 60)
	var seen []string
	pages := 0
	for target := "/v1/users?withProfileAttributes=*"; target != ""; pages++ {
		got := a.do("GET", target, "", app)
		require.Less(t, len(got.body), 4<<20+8*(300<<10), "a page is bounded in bytes")
		require.Equal(t, "60", got.header.Get("X-Mitter-Paginated-Estimated-Count"))
		for _, u := range decode[[]struct {
			UserID        string
			EntityProfile struct{ Attributes []any }
		}](t, got, 200) {
			require.Len(t, u.EntityProfile.Attributes, 4)
			seen = append(seen, u.UserID)
		}
		target = nextPage(got)
	}
	require.Len(t, seen, 60)
	require.IsIncreasing(t, seen)
	require.Greater(t, pages, 2)
	// A limit holds across the steps.
	require.Len(t, decode[[]any](t, a.do("GET", "/v1/users?limit=11&withProfileAttributes=key-0", "", app), 200), 11)
}

func TestAnswersHaveNoHTMLEscapes(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	fullUsers(t, a, 1)
	require.Contains(t, a.do("GET", "/v1/users/full-0000", "", app).body, `"A & B"`)
	require.Contains(t, a.do("GET", "/v1/users/full-0000/profile", "", app).body, "<<<")
	require.Contains(t, a.do("GET", "/v1/users", "", app).body, `"A & B"`)
}

// chunks remembers the longest write, and does something before each.
type chunks struct {
	*httptest.ResponseRecorder
	longest, writes int
	before          func(n int)
}

func (c *chunks) Write(b []byte) (int, error) {
	if c.before != nil {
		c.before(c.writes)
	}
	c.writes++
	c.longest = max(c.longest, len(b))
	return c.ResponseRecorder.Write(b)
}

func listFull(a *api, method string, locators []string, c *chunks) {
	r := httptest.NewRequest(method, "/v1/users?withProfileAttributes=*&locators="+strings.Join(locators, ","), nil)
	app(r)
	a.handler.ServeHTTP(c, r)
}

func TestUsersByLocatorAreWrittenAsTheyAreRead(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	locators := fullUsers(t, a, 30)
	c := &chunks{ResponseRecorder: httptest.NewRecorder()}
	a.handler = httpadapter.New(a.dir, httpadapter.Options{})
	listFull(a, "GET", locators, c)
	require.Less(t, c.longest, 64<<10+300<<10, "a user and a buffer are held at most")
	require.GreaterOrEqual(t, c.writes, 30)
	require.Len(t, decode[[]any](t, answer{c.Code, c.Header(), c.Body.String()}, 200), 30)
	c = &chunks{ResponseRecorder: httptest.NewRecorder()}
	listFull(a, "HEAD", locators, c)
	require.Equal(t, http.StatusOK, c.Code)
	require.Zero(t, c.writes)
	c = &chunks{ResponseRecorder: httptest.NewRecorder()}
	listFull(a, "GET", []string{"email:nobody@example.org"}, c)
	require.Equal(t, "[]", c.Body.String())
	require.Equal(t, "2", c.Header().Get("Content-Length"))
}

// Half of a list must not look whole.
func TestAListThatBreaksOffCutsTheConnection(t *testing.T) {
	a := newAPI(t, denizen.Options{}, httpadapter.Options{})
	locators := fullUsers(t, a, 5)
	var told []httpadapter.Exchange
	a.handler = httpadapter.New(a.dir, httpadapter.Options{Observe: observed(&told)})
	c := &chunks{ResponseRecorder: httptest.NewRecorder(), before: func(n int) {
		if n == 1 {
			require.NoError(t, a.dir.Close())
		}
	}}
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { listFull(a, "GET", locators, c) })
	require.Len(t, told, 1)
	require.Equal(t, http.StatusServiceUnavailable, told[0].Status)
	require.NotContains(t, c.Body.String(), "errorCode")
}

func observed(told *[]httpadapter.Exchange) func(context.Context, httpadapter.Exchange) {
	return func(_ context.Context, x httpadapter.Exchange) { *told = append(*told, x) }
}
