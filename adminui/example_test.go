package adminui_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/adminui"
	"github.com/denizenhq/denizen/store/memory"
)

// operatorOf stands for the service's own sign-in.
func operatorOf(r *http.Request) (string, error) {
	if c, err := r.Cookie("operator"); err == nil {
		return c.Value, nil
	}
	return "", denizen.ErrUnauthenticated
}

func Example() {
	dir, err := denizen.New(context.Background(), memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	console, err := adminui.New(dir, adminui.Options{
		Authorize: func(r *http.Request) (denizen.Principal, error) {
			operator, err := operatorOf(r) // by the service's own sign-in
			return denizen.System().Named(operator), err
		},
		May: func(operator string, do adminui.Action) bool { return operator == "ada" },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer console.Close()
	mux := http.NewServeMux()
	mux.Handle("/admin/", http.StripPrefix("/admin", console))

	for _, cookie := range []string{"", "operator=ada"} {
		r := httptest.NewRequest("GET", "/admin/", nil)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}
