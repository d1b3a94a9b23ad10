package httpadapter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

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
