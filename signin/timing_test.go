package signin_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
)

// timingEnv is how many samples to take. It is no part of any ordinary run: it takes minutes, and a
// machine that does something else as well measures that.
const timingEnv = "DENIZEN_TIMING"

// tLimit is the bound of Welch's t beyond which times are taken to differ.
const tLimit = 4.5

// moments are the count, the mean and the sum of squared differences from it (Welford).
type moments struct{ n, mean, sum float64 }

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.sum += d * (x - m.mean)
}

// welch returns Welch's t of two samples.
func welch(a, b moments) float64 {
	return (a.mean - b.mean) / math.Sqrt(a.sum/(a.n-1)/a.n+b.sum/(b.n-1)/b.n)
}

func TestWelchTellsWhatDiffersFromWhatDoesNot(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var same, other, slower moments
	for range 10_000 {
		same.add(random.ExpFloat64())
		other.add(random.ExpFloat64())
		slower.add(random.ExpFloat64() * 1.1)
	}
	require.Less(t, math.Abs(welch(same, other)), tLimit)
	require.Greater(t, welch(slower, same), tLimit)
}

// Owned and free addresses take turns at random, so whatever else goes on befalls both alike.
func TestTimesDoNotTellWhoOwnsAnAddress(t *testing.T) {
	samples, _ := strconv.Atoi(os.Getenv(timingEnv))
	if samples == 0 {
		t.Skip(timingEnv + " is not set")
	}
	overStores(t, func(t *testing.T, s store.Store) {
		k := newDesk(t, s, func(o *signin.Options) {
			o.Client = func(r *http.Request) string { return r.Header.Get("Client") }
		})
		handler := k.Handler(sys, signin.HandlerOptions{})
		const users = 500
		for i := range users {
			k.create(t, denizen.UserID(fmt.Sprintf("timing-%08d", i)),
				denizen.NewLocator{Locator: fmt.Sprintf("email:owned%08d@example.org", i), Status: denizen.Verified})
		}
		timed := func(path, body, client string) (text string, took float64) {
			r := httptest.NewRequest("POST", path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Client", client)
			w := httptest.NewRecorder()
			began := time.Now()
			handler.ServeHTTP(w, r)
			return w.Body.String(), float64(time.Since(began))
		}
		var starts, tries [2]moments
		// An address that was used for an hour's starts is like a new one an hour later.
		for i := range samples {
			if i%(users/2) == 0 {
				k.ahead.Add(int64(2 * time.Hour))
			}
			class := rand.IntN(2)
			at := i % users
			locator := fmt.Sprintf("email:%s%08d@example.org", [...]string{"owned", "freed"}[class], at)
			text, took := timed("/code", `{"locator":"`+locator+`"}`, fmt.Sprint("c", i))
			_, rest, ok := strings.Cut(text, `"proof":"`)
			require.True(t, ok, text)
			proof, _, _ := strings.Cut(rest, `"`)
			starts[class].add(took)
			_, took = timed("/token", `{"proof":"`+proof+`","code":"wrong"}`, fmt.Sprint("c", i))
			tries[class].add(took)
		}
		for name, m := range map[string][2]moments{"start": starts, "wrong code": tries} {
			difference := welch(m[0], m[1])
			t.Logf("%s: t = %.2f, owned %.1f µs of %.0f, free %.1f µs of %.0f",
				name, difference, m[0].mean/1e3, m[0].n, m[1].mean/1e3, m[1].n)
			require.Less(t, math.Abs(difference), tLimit, name)
		}
	})
}
