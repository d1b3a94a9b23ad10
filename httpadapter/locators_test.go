package httpadapter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// handles is a type of names that users take for themselves, in any case.
func handles() denizen.LocatorRule {
	return denizen.LocatorRule{
		Type: "handle", Version: 1, Self: true, Rest: time.Hour,
		Canonical: func(s string) (denizen.LocatorForms, error) {
			return denizen.LocatorForms{Canonical: strings.ToLower(s)}, nil
		},
	}
}

const namedAlice = denizen.UserID("alice-of-names")

// newNames is an api with handles, and Alice who has one between an address and a number.
func newNames(t testing.TB) (a *api, by edit, s store.Store) {
	t.Helper()
	s = memory.New()
	a = newSecAPI(t, s, denizen.Options{LocatorTypes: []denizen.LocatorRule{handles()}}, httpadapter.Options{})
	_, err := a.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
		ID: namedAlice, ScreenName: "Alice",
		Locators: []denizen.NewLocator{denizen.Email("alice@example.org"), {Locator: "handle:Al"}, denizen.Tele("+14155550123")},
	})
	require.NoError(t, err)
	token, _ := secIssue(t, a.dir, namedAlice)
	return a, bearer(token), s
}

// serialized returns the locators of a list in an answer.
func serialized(t testing.TB, a answer) (all []string) {
	t.Helper()
	for _, l := range decode[[]struct{ Locator string }](t, a, 200) {
		all = append(all, l.Locator)
	}
	return all
}

func namesOf(t testing.TB, a *api) (all []string) {
	t.Helper()
	ls, err := a.dir.Locators(t.Context(), denizen.System(), namedAlice)
	require.NoError(t, err)
	for _, l := range ls {
		all = append(all, l.String())
	}
	return all
}

func TestOtherTypesAreShownToWhoAsksForThem(t *testing.T) {
	a, alice, _ := newNames(t)
	known := []string{"email:alice@example.org", "tele:+14155550123"}
	all := []string{"email:alice@example.org", "handle:Al", "tele:+14155550123"}
	path := "/v1/users/" + string(namedAlice)
	userLocators := func(body any) (found []string) {
		for _, l := range body.(map[string]any)["userLocators"].([]any) {
			found = append(found, l.(map[string]any)["locator"].(string))
		}
		return found
	}
	for _, by := range []edit{app, alice} {
		require.Equal(t, known, serialized(t, a.do("GET", path+"/locators", "", by)))
		require.Equal(t, all, serialized(t, a.do("GET", path+"/locators?locatorTypes=all", "", by)))
		require.Equal(t, known, userLocators(decode[any](t, a.do("GET", path, "", by), 200)))
		require.Equal(t, all, userLocators(decode[any](t, a.do("GET", path+"?locatorTypes=all", "", by), 200)))
	}
	for query, want := range map[string][]string{"": known, "&locatorTypes=all": all} {
		require.Equal(t, want, userLocators(decode[[]any](t, a.do("GET", "/v1/users?limit=5"+query, "", app), 200)[0]))
		require.Equal(t, want, userLocators(decode[[]any](t, a.do("GET", "/v1/users?locators=handle:AL"+query, "", app), 200)[0]))
	}
	for _, query := range []string{"locatorTypes=", "locatorTypes=ALL", "locatorTypes=handle", "locatorTypes=all&locatorTypes=all"} {
		a.do("GET", path+"?"+query, "", app).refused(t, 400, "invalid_parameter_set")
	}
	shown := a.do("GET", path+"/locators?locatorTypes=all", "", app)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(shown.body), &list))
	id := list[1]["userLocatorId"]
	a.do("GET", path+"/locators/"+id.(string), "", app).json(t, 200, fmt.Sprintf(`{
		"@type": "handle", "userLocatorId": %[1]q, "identifier": %[1]q, "locator": "handle:Al", "verificationStatus": "VerificationNotApplicable",
		"applicationId": {"identifier": %q}, "raw": "Al", "owned": true, "verifiedAt": null
	}`, id, a.dir.ApplicationID()))
}

func TestAVerificationThatIsLongAgoIsShownAsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSecAPI(t, memory.New(), denizen.Options{VerifiedFor: time.Hour}, httpadapter.Options{})
		email := denizen.Email("alice@example.org")
		email.Status = denizen.Verified
		_, err := a.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ID: namedAlice, ScreenName: "Alice", Locators: []denizen.NewLocator{email},
		})
		require.NoError(t, err)
		read := func() string { return a.do("GET", "/v1/users/"+string(namedAlice)+"/locators", "", app).body }
		time.Sleep(time.Hour)
		require.NotContains(t, read(), "stale")
		time.Sleep(time.Millisecond)
		require.Contains(t, read(), `"stale":true`)
	})
}

func TestAListThatIsSetAsItWasReadWithoutOtherTypesLeavesThemAlone(t *testing.T) {
	for _, query := range []string{"", "?locatorTypes=all"} {
		t.Run(query, func(t *testing.T) {
			a, _, s := newNames(t)
			path := "/v1/users/" + string(namedAlice) + "/locators" + query
			read, before := a.do("GET", path, "", app), invariant.Of(t, s)
			require.Equal(t, 204, a.do("PUT", path, read.body, app).status)
			require.Equal(t, before, invariant.Of(t, s), "nothing was written")
		})
	}
}

func TestAListOfKnownTypesReplacesThoseAlone(t *testing.T) {
	path := "/v1/users/" + string(namedAlice) + "/locators"
	for body, want := range map[string][]string{
		`[]`:                        {"handle:Al"},
		`["email:new@example.org"]`: {"email:new@example.org", "handle:Al"},
		`["tele:+14155550123"]`:     {"tele:+14155550123", "handle:Al"},
		`["tele:+14155550123", "email:alice@example.org"]`: {"tele:+14155550123", "handle:Al", "email:alice@example.org"},
	} {
		a, _, _ := newNames(t)
		require.Equal(t, 204, a.do("PUT", path, body, app).status)
		require.Equal(t, want, namesOf(t, a), body)
	}
	a, alice, _ := newNames(t)
	a.do("PUT", path, `["handle:lissy"]`, app).refused(t, 400, "invalid_parameter_set")
	require.Equal(t, 204, a.do("PUT", path+"?locatorTypes=all", `["handle:lissy"]`, app).status)
	require.Equal(t, []string{"handle:lissy"}, namesOf(t, a))
	require.Equal(t, 204, a.do("PUT", path+"?locatorTypes=all", `[]`, app).status)
	require.Empty(t, namesOf(t, a))
	a.do("PUT", path, `[]`, alice).refused(t, 403, "missing_privilege")
	a.do("PUT", "/v1/users/nobody-is-this/locators", `[]`, app).refused(t, 404, "entity_not_found")
}

func TestATagIsOfWhatIsShown(t *testing.T) {
	a, alice, _ := newNames(t)
	path := "/v1/users/" + string(namedAlice)
	with := func(tag string) edit { return header("If-Match", tag) }
	known := a.do("GET", path, "", app).header.Get("ETag")
	all := a.do("GET", path+"?locatorTypes=all", "", app).header.Get("ETag")
	require.NotEqual(t, known, all)
	a.do("PUT", path+"/locators", `[]`, app, with(all)).refused(t, 412, "precondition_failed")
	a.do("PUT", path+"/locators?locatorTypes=all", `["handle:Al"]`, app, with(known)).refused(t, 412, "precondition_failed")
	// A name that changes in between is kept, as who sets the list does not see it.
	require.Equal(t, 200, a.do("PUT", path+"/locators/"+string(handleID(t, a)), `"handle:AL"`, alice).status)
	require.Equal(t, 412, a.do("PUT", path+"/locators?locatorTypes=all", `[]`, app, with(all)).status)
	known = a.do("GET", path, "", app).header.Get("ETag") // the time of the change is shown
	require.Equal(t, 204, a.do("PUT", path+"/locators", `[]`, app, with(known)).status)
	require.Equal(t, []string{"handle:AL"}, namesOf(t, a))
	all = a.do("GET", path+"?locatorTypes=all", "", app).header.Get("ETag")
	require.Equal(t, 204, a.do("PUT", path+"/locators?locatorTypes=all", `[]`, app, with(all)).status)
}

func handleID(t testing.TB, a *api) denizen.LocatorID {
	t.Helper()
	ls, err := a.dir.Locators(t.Context(), denizen.System(), namedAlice)
	require.NoError(t, err)
	for _, l := range ls {
		if l.Type == "handle" {
			return l.ID
		}
	}
	return ""
}

func TestANameInAPathIsItsUser(t *testing.T) {
	a, alice, _ := newNames(t)
	secBobOf(t, a)
	for _, ref := range []string{"handle:Al", "handle:AL", "handle%3aal", url.PathEscape("handle:al")} {
		for _, by := range []edit{app, alice} {
			got := decode[struct{ UserID denizen.UserID }](t, a.do("GET", "/v1/users/"+ref, "", by), 200)
			require.Equal(t, namedAlice, got.UserID, ref)
		}
	}
	a.do("GET", "/v1/users/handle:nobody", "", app).refused(t, 404, "entity_not_found")
	a.do("GET", "/v1/users/handle:bob", "", alice).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/users/handle:nobody", "", alice).refused(t, 403, "missing_privilege")
	a.do("GET", "/v1/users/nickname:al", "", app).refused(t, 400, "invalid_parameter_set")
}

// secBobOf gives Bob a handle.
func secBobOf(t testing.TB, a *api) denizen.UserID {
	t.Helper()
	u, err := a.dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
		ID: "bob-of-names", ScreenName: "Bob", Locators: []denizen.NewLocator{{Locator: "handle:bob"}},
	})
	require.NoError(t, err)
	return u.ID
}

func TestAUserTakesANameAndIsRenamed(t *testing.T) {
	a, alice, s := newNames(t)
	secBobOf(t, a)
	path := "/v1/users/me/locators"
	a.do("POST", path, `"handle:another"`, alice).refused(t, 409, "limit_exceeded")
	one := path + "/" + string(handleID(t, a))
	a.do("PUT", one, `"handle:BOB"`, alice).refused(t, 409, "duplicate_entity")
	a.do("PUT", one, `"email:new@example.org"`, alice).refused(t, 403, "missing_privilege")
	a.do("PUT", one, `"handle:`+strings.Repeat("a", 800)+`"`, alice).refused(t, 400, "invalid_parameter_set")
	got := decode[map[string]any](t, a.do("PUT", one, `{"locator": "handle:Lissy", "verificationStatus": "Verified", "override": true}`, alice), 200)
	require.Equal(t, "handle:Lissy", got["locator"])
	require.Equal(t, "VerificationNotApplicable", got["verificationStatus"])
	a.do("PUT", one, `"handle:lissy"`, alice).refused(t, 404, "entity_not_found")
	// The old name rests, and the application gives it out where it says so.
	bob := "/v1/users/bob-of-names/locators"
	a.do("PUT", bob+"?locatorTypes=all", `["handle:al"]`, app).refused(t, 409, "duplicate_entity")
	require.Equal(t, 204, a.do("PUT", bob+"?locatorTypes=all", `[{"locator": "handle:al", "override": true}]`, app).status)
	require.Equal(t, 204, a.do("DELETE", path+"/"+string(handleID(t, a)), "", alice).status)
	require.Equal(t, 201, a.do("POST", path, `{"locator": "handle:lissy"}`, alice).status)
	a.do("POST", "/v1/users", `{"screenName": {"screenName": "C"}, "userLocators": ["handle:Lissy"]}`, app).refused(t, 409, "duplicate_entity")
	invariant.Check(t, s)
}

func TestListsSetAtOnceWithNamesThatChangeTakeNoneBack(t *testing.T) {
	a, _, s := newNames(t)
	path := "/v1/users/" + string(namedAlice) + "/locators"
	var all sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		all.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-done:
					return
				default:
				}
				status := a.do("PUT", path, fmt.Sprintf(`["email:a%d-%d@example.org"]`, i, j), app).status
				assert.Contains(t, []int{http.StatusNoContent, http.StatusServiceUnavailable}, status)
			}
		})
	}
	for i := range 200 {
		name := fmt.Sprint("handle:n", i)
		_, err := a.dir.ReplaceLocator(t.Context(), denizen.System(), namedAlice, handleID(t, a), denizen.NewLocator{Locator: name})
		if !errors.Is(err, denizen.ErrConflict) {
			assert.NoError(t, err)
			runtime.Gosched()
			assert.Contains(t, namesOf(t, a), name, "a list that was set took the name back")
		}
	}
	close(done)
	all.Wait()
	invariant.Check(t, s)
}
