package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/webhook"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: "alice@01", ScreenName: "Alice"}); err != nil {
		log.Fatal(err)
	}

	// The other service, which has the secret.
	secret := webhook.NewSecret()
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhook.MaxBody))
		if err != nil || webhook.Verify(secret, r.Header, body, time.Now()) != nil {
			http.Error(w, "not verified", http.StatusUnauthorized)
			return
		}
		var posted struct {
			Data struct {
				Events []struct {
					Kind   string
					UserID struct{ Identifier string }
				}
			}
		}
		if err := json.Unmarshal(body, &posted); err != nil {
			http.Error(w, "not understood", http.StatusBadRequest)
			return
		}
		// It would leave out what came under this webhook-id before.
		for _, e := range posted.Data.Events {
			fmt.Println(e.Kind, e.UserID.Identifier)
		}
		stop() // a service would go on
	}))
	defer partner.Close()

	endpoint := webhook.Endpoint{
		URL:     partner.URL,
		Secrets: []string{secret},
		Kinds:   []denizen.EventKind{denizen.EventUserCreated, denizen.EventUserDeleted},
	}
	// Only because this example is all on one machine:
	endpoint.AllowHTTP, endpoint.Allow = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	err = webhook.Post(ctx, dir, denizen.System(), "partner", endpoint)
	if errors.Is(err, webhook.ErrGone) {
		fmt.Println("the partner wants no more")
	}

	// Output:
	// user.created alice@01
}
