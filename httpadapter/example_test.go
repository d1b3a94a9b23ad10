package httpadapter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/store/memory"
)

// A service mounts the API beside a route of its own, which is for users alone.
func ExampleRequire() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		panic(err)
	}
	defer dir.Close()

	notes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "the notes of %s", httpadapter.PrincipalFrom(r.Context()).User())
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/", httpadapter.New(dir, httpadapter.Options{}))
	mux.Handle("/notes", httpadapter.Require(dir, notes))

	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: "user-alice", ScreenName: "Alice"})
	if err != nil {
		panic(err)
	}
	token, err := dir.IssueToken(ctx, denizen.System(), alice.ID, denizen.TokenOptions{})
	if err != nil {
		panic(err)
	}

	ask := func(signed string) {
		r := httptest.NewRequest("GET", "/notes", nil)
		if signed != "" {
			r.Header.Set("Authorization", "Bearer "+signed)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			fmt.Println(w.Code)
			return
		}
		fmt.Println(w.Code, w.Body)
	}
	ask(token.Signed)
	ask("")
	ask(token.Signed + "x")
	// Output:
	// 200 the notes of user-alice
	// 401
	// 401
}

// A service that signs people in by sessions of its own says who calls. Its cookie is then no way
// in for the pages of other sites.
func ExampleOptions_authenticate() {
	ctx := context.Background()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		panic(err)
	}
	defer dir.Close()
	if _, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: "user-alice", ScreenName: "Alice"}); err != nil {
		panic(err)
	}
	sessions := map[string]denizen.UserID{"4711": "user-alice"}

	api := httpadapter.New(dir, httpadapter.Options{
		Authenticate: func(r *http.Request) (denizen.Principal, error) {
			cookie, err := r.Cookie("__Host-session")
			if err != nil {
				return denizen.Principal{}, nil // no session: the API's own credentials are tried
			}
			user, ok := sessions[cookie.Value]
			if !ok {
				return denizen.Principal{}, denizen.ErrUnauthenticated
			}
			return dir.ActAs(r.Context(), denizen.System(), user)
		},
	})

	rename := func(session, site string) {
		body := strings.NewReader(`{"screenName": "Alice II"}`)
		r := httptest.NewRequest("PUT", "/v1/users/me/screenname", body)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", site) // which each browser does
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: session})
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		fmt.Println(site, w.Code)
	}
	rename("4711", "same-origin")
	rename("4711", "cross-site")
	rename("of nobody", "same-origin")
	// Output:
	// same-origin 204
	// cross-site 403
	// same-origin 401
}

// Whoever comes to the port of the public is told no reasons, and no probe restarts a program whose
// database is away.
func ExampleHealth() {
	dir, err := denizen.New(context.Background(), memory.New(), denizen.Options{})
	if err != nil {
		panic(err)
	}
	defer dir.Close()
	by, public, private := denizen.System(), http.NewServeMux(), http.NewServeMux()
	public.Handle("GET /livez", httpadapter.Health(dir, by, httpadapter.HealthOptions{Live: true}))
	public.Handle("GET /readyz", httpadapter.Health(dir, by, httpadapter.HealthOptions{}))
	private.Handle("GET /health", httpadapter.Health(dir, by, httpadapter.HealthOptions{Details: true}))

	w := httptest.NewRecorder()
	public.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"status":"ready"}
}
