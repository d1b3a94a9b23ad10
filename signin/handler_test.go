package signin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/signin"
)

// site is a desk behind HTTP, as a host mounts it.
type site struct {
	*desk
	handler http.Handler
}

func overSites(t *testing.T, test func(t *testing.T, s *site), change ...func(*signin.Options)) {
	t.Helper()
	overDesks(t, func(t *testing.T, k *desk) {
		mux := http.NewServeMux()
		mux.Handle("/sign-in/", http.StripPrefix("/sign-in", k.Handler(sys, signin.HandlerOptions{Home: `/"home"`})))
		mux.Handle("/v1/", httpadapter.New(k.dir, httpadapter.Options{Prove: k.Service}))
		test(t, &site{k, mux})
	}, change...)
}

type edit func(*http.Request)

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func cookies(from *http.Response) edit {
	return func(r *http.Request) {
		for _, c := range from.Cookies() {
			if c.MaxAge >= 0 {
				r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
			}
		}
	}
}

// do sends a request, with JSON if there is a body.
func (s *site) do(method, path, body string, edits ...edit) (*http.Response, string) {
	r := httptest.NewRequest(method, "https://app.example.org"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	answer := w.Result()
	text, _ := io.ReadAll(answer.Body)
	return answer, string(text)
}

// code asks for a code over HTTP.
func (s *site) code(t *testing.T, body string, edits ...edit) (proof string, d signin.Delivery, answer *http.Response) {
	t.Helper()
	n := s.deliveries()
	answer, text := s.do("POST", "/sign-in/code", body, edits...)
	require.Equal(t, http.StatusAccepted, answer.StatusCode, text)
	var started struct{ Proof string }
	require.NoError(t, json.Unmarshal([]byte(text), &started))
	return started.Proof, s.awaitSent(t, n+1), answer
}

func requireProblem(t *testing.T, answer *http.Response, text string, status int, code string) {
	t.Helper()
	require.Equal(t, status, answer.StatusCode, text)
	var p struct {
		ErrorCode, Message, RequestID string
		Diagnostics                   map[string]any
		Timestamp                     int64
	}
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	require.Equal(t, code, p.ErrorCode)
	require.NotEmpty(t, p.Message)
	require.NotEmpty(t, p.RequestID)
	require.NotNil(t, p.Diagnostics)
	require.NotZero(t, p.Timestamp)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
}

const asksVictim = `{"locator":"` + victims + `"}`

func TestAProgramSignsInAndGetsTheTextOfItsToken(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		proof, d, _ := s.code(t, asksVictim, header("Accept-Language", "fr-CA;q=0.9, en"))
		require.Equal(t, "fr-CA", d.Language)
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code))
		require.Equal(t, http.StatusOK, answer.StatusCode, text)
		var issued struct {
			UserToken struct {
				SignedToken, TokenID               string
				SupportedHeaders, SupportedCookies []string
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &issued))
		require.Equal(t, []string{"X-Issued-Mitter-User-Authorization"}, issued.UserToken.SupportedHeaders)
		require.Contains(t, issued.UserToken.SupportedCookies, httpadapter.CookieName)
		by, err := s.dir.Authenticate(ctx, issued.UserToken.SignedToken)
		require.NoError(t, err)
		require.EqualValues(t, issued.UserToken.TokenID, by.Token())
	})
}

func TestABrowserGetsACookieAndNoText(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		site := header("Sec-Fetch-Site", "same-origin")
		proof, d, _ := s.code(t, asksVictim, site)
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code), site)
		require.Equal(t, http.StatusOK, answer.StatusCode, text)
		require.NotContains(t, text, "signedToken")
		for _, c := range answer.Cookies() {
			require.True(t, c.Secure && c.HttpOnly && c.Path == "/" && c.SameSite == http.SameSiteLaxMode, c.Name)
			require.True(t, strings.HasPrefix(c.Name, "__Host-"), c.Name)
		}
		me, text := s.do("GET", "/v1/users/me", "", cookies(answer))
		require.Equal(t, http.StatusOK, me.StatusCode, text)

		// The device has starts of its own from now on.
		for range 16 {
			_, _ = s.do("POST", "/sign-in/code", asksVictim)
		}
		refused, _ := s.do("POST", "/sign-in/code", asksVictim)
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		started, text := s.do("POST", "/sign-in/code", asksVictim, cookies(answer))
		require.Equal(t, http.StatusAccepted, started.StatusCode, text)
	})
}

func TestAPageOfAnotherOriginIsRefusedBeforeTheCodeIsLookedAt(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		proof, d, _ := s.code(t, asksVictim)
		before := invariant.Of(t, s.store)
		for _, e := range []edit{
			header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Site", "same-site"), header("Origin", "https://evil.example"),
		} {
			for _, code := range []string{d.Code, "wrong"} {
				answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, code), e)
				requireProblem(t, answer, text, http.StatusForbidden, "missing_context")
				require.Empty(t, answer.Cookies())
			}
			answer, text := s.do("POST", "/sign-in/code", asksVictim, e)
			requireProblem(t, answer, text, http.StatusForbidden, "missing_context")
		}
		require.Equal(t, before, invariant.Of(t, s.store))
	})
}

func TestTheHandlerTakesJSONAlone(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		before := invariant.Of(t, s.store)
		for _, path := range []string{"/sign-in/code", "/sign-in/token"} {
			for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/problem+json"} {
				answer, text := s.do("POST", path, asksVictim, header("Content-Type", kind))
				requireProblem(t, answer, text, http.StatusUnsupportedMediaType, "unsupported_media_type")
			}
			for _, body := range []string{
				"x", "[]", `{"locator":1,"code":1}`, `{"locator":"a","Locator":"b"}`, `{"locator":"\u0000"}`, asksVictim + "x", `{"code":"1","proof":[]` + "}",
			} {
				if path == "/sign-in/code" && strings.Contains(body, "proof") {
					continue
				}
				answer, text := s.do("POST", path, body)
				requireProblem(t, answer, text, http.StatusBadRequest, "invalid_input_syntax")
			}
			answer, text := s.do("POST", path, `{"x":"`+strings.Repeat("x", 9000)+`"}`)
			requireProblem(t, answer, text, http.StatusRequestEntityTooLarge, "limit_exceeded")
			answer, text = s.do("GET", path, "")
			requireProblem(t, answer, text, http.StatusMethodNotAllowed, "method_not_allowed")
			require.Equal(t, "POST", answer.Header.Get("Allow"))
		}
		answer, text := s.do("POST", "/sign-in/nothing", asksVictim)
		requireProblem(t, answer, text, http.StatusNotFound, "entity_not_found")
		answer, text = s.do("POST", "/sign-in/code", `{"locator":"fax:1"}`)
		requireProblem(t, answer, text, http.StatusBadRequest, "invalid_parameter_set")
		require.Equal(t, before, invariant.Of(t, s.store))
	})
}

func TestACodeThatIsNotGoodIsProofRefused(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		proof, d, _ := s.code(t, asksVictim)
		for _, body := range []string{
			`{"code":"1"}`, fmt.Sprintf(`{"proof":%q,"code":"wrong"}`, proof), fmt.Sprintf(`{"proof":"x","code":%q}`, d.Code),
		} {
			answer, text := s.do("POST", "/sign-in/token", body)
			requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
			require.Empty(t, answer.Cookies())
		}
		s.create(t, alice, denizen.NewLocator{Locator: "email:blocked@example.org", Status: denizen.Verified})
		_, err := s.dir.BlockUser(ctx, sys, alice, denizen.Block{})
		require.NoError(t, err)
		proof, d, _ = s.code(t, `{"locator":"email:blocked@example.org"}`)
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code))
		requireProblem(t, answer, text, http.StatusForbidden, "token_issuance_refused")
	})
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		proof, d, _ := s.code(t, asksVictim)
		for _, asked := range [][3]string{
			{"/sign-in/token", `{}`, "code"},
			{"/sign-in/token", fmt.Sprintf(`{"proof":%q}`, proof), "code"},
			{"/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":""}`, proof), "code"},
			{"/sign-in/undo", `{}`, "secret"},
		} {
			answer, text := s.do("POST", asked[0], asked[1])
			requireProblem(t, answer, text, http.StatusBadRequest, "invalid_parameter_set")
			require.Contains(t, text, fmt.Sprintf(`"parameter":%q`, asked[2]))
		}
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code))
		require.Equal(t, http.StatusOK, answer.StatusCode, "none was a try: %s", text)
	})
}

func TestTheServiceMayAskForMoreThanAProof(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		s.create(t, alice, denizen.NewLocator{Locator: victims, Status: denizen.Verified})
		var told error
		tooOld := errors.New("proved too long ago")
		s.handler = http.StripPrefix("/sign-in", s.Handler(sys, signin.HandlerOptions{
			Allow: func(_ *http.Request, in signin.SignedIn) error {
				require.Equal(t, in.User.Locators[0], in.Locator)
				return tooOld
			},
			Observe: func(_ context.Context, x httpadapter.Exchange) { told = x.Cause },
		}))
		proof, d, _ := s.code(t, asksVictim)
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code))
		requireProblem(t, answer, text, http.StatusForbidden, "token_issuance_refused")
		require.NotContains(t, text, tooOld.Error())
		require.Equal(t, tooOld, told)
		require.Empty(t, answer.Cookies())
		tokens, err := s.dir.Tokens(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, tokens)
	})
}

func TestWhoLeavesBeforeTheTokenIsIssuedIsProofRefused(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		s.handler = http.StripPrefix("/sign-in", s.Handler(sys, signin.HandlerOptions{
			Allow: func(_ *http.Request, in signin.SignedIn) error {
				return s.dir.DeleteUser(ctx, sys, in.User.ID) // somebody does, meanwhile
			},
		}))
		proof, d, _ := s.code(t, asksVictim)
		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"proof":%q,"code":%q}`, proof, d.Code))
		requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
		require.Empty(t, answer.Cookies())
	})
}

func TestTooManyStartsAndTriesSayWhenToComeBack(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		for range 4 {
			s.code(t, asksVictim)
		}
		answer, text := s.do("POST", "/sign-in/code", asksVictim)
		requireProblem(t, answer, text, http.StatusTooManyRequests, "rate_limited")
		require.Regexp(t, "^3[56][0-9]{2}$", answer.Header.Get("Retry-After"))
		for range 30 {
			answer, text = s.do("POST", "/sign-in/token", `{"proof":"x","code":"y"}`)
			requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
		}
		answer, text = s.do("POST", "/sign-in/token", `{"proof":"x","code":"y"}`)
		requireProblem(t, answer, text, http.StatusTooManyRequests, "rate_limited")
		require.NotEmpty(t, answer.Header.Get("Retry-After"))
	})
}

// All that differs between two answers is the handle, the time and the request id.
func TestAnswersDoNotTellWhoOwnsAnAddress(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		overSites(t, func(t *testing.T, s *site) {
			s.create(t, alice, denizen.NewLocator{Locator: "email:owned@example.org", Status: denizen.Verified})
			s.create(t, mallory, denizen.NewLocator{Locator: "email:never@example.org"})
			var seen []string
			for _, address := range []string{"owned", "never", "freed"} {
				told := ""
				var proof string
				for range 5 {
					answer, text := s.do("POST", "/sign-in/code", `{"locator":"email:`+address+`@example.org"}`, header("X-Request-Id", "same"))
					var body map[string]any
					require.NoError(t, json.Unmarshal([]byte(text), &body))
					if p, ok := body["proof"].(string); ok {
						proof = p
						text = strings.ReplaceAll(text, p, strings.Repeat("p", len(p)))
						for _, c := range answer.Cookies() {
							answer.Header.Set("Set-Cookie", strings.ReplaceAll(answer.Header.Get("Set-Cookie"), c.Value, fmt.Sprint(len(c.Value))))
						}
					} else {
						require.NotEmpty(t, answer.Header.Get("Retry-After"))
						answer.Header.Del("Retry-After")
						text = fmt.Sprint(len(text))
					}
					told += fmt.Sprintln(answer.StatusCode, answer.Header, text)
				}
				for range 6 {
					answer, text := s.do("POST", "/sign-in/token", `{"code":"wrong","proof":"`+proof+`"}`, header("X-Request-Id", "same"))
					told += fmt.Sprintln(answer.StatusCode, answer.Header, len(text))
				}
				seen = append(seen, told)
			}
			require.Equal(t, seen[0], seen[1])
			require.Equal(t, seen[0], seen[2])
		}, func(o *signin.Options) {
			if !allowed {
				o.Newcomer = nil
			}
		})
	}
}

// A scanner of mail opens every link, as does whoever else gets hold of one.
func TestAScannerThatOpensEveryLinkChangesNothing(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		_, d, started := s.code(t, `{"locator":"`+victims+`","link":true}`)
		require.Empty(t, d.Code)
		path, secret, _ := strings.Cut(strings.TrimPrefix(d.Link, "https://app.example.org"), "#")
		before := invariant.Of(t, s.store)
		for _, method := range []string{"GET", "HEAD"} {
			for range 20 {
				answer, page := s.do(method, path, "")
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.Contains(t, page, "in the browser in which you asked")
				require.NotContains(t, page, "<button")
				answer, page = s.do(method, path, "", cookies(started))
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.Contains(t, page, "<button")
				require.Contains(t, page, `data-home="/&#34;home&#34;"`)
				require.Equal(t, "no-referrer", answer.Header.Get("Referrer-Policy"))
				require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
			}
		}
		require.Equal(t, before, invariant.Of(t, s.store))

		answer, text := s.do("POST", "/sign-in/token", fmt.Sprintf(`{"code":%q}`, secret), header("Sec-Fetch-Site", "same-origin"))
		requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
		answer, text = s.do("POST", "/sign-in/token", fmt.Sprintf(`{"code":%q}`, secret), header("Sec-Fetch-Site", "same-origin"), cookies(started))
		require.Equal(t, http.StatusOK, answer.StatusCode, text)
	})
}

func TestAUserProvesItsClaimOverHTTP(t *testing.T) {
	overSites(t, func(t *testing.T, s *site) {
		s.create(t, alice)
		issued, err := s.dir.IssueToken(ctx, sys, alice, denizen.TokenOptions{})
		require.NoError(t, err)
		by, err := s.dir.Authenticate(ctx, issued.Signed)
		require.NoError(t, err)
		claim := s.claim(t, by, victims)
		path := "/v1/users/me/locators/" + string(claim) + "/proof"
		bearer := header("Authorization", "Bearer "+issued.Signed)

		answer, text := s.do("POST", path, "")
		requireProblem(t, answer, text, http.StatusUnauthorized, "authorization_error")
		answer, text = s.do("POST", path, "", bearer, header("Accept-Language", "nl, de"))
		require.Equal(t, http.StatusAccepted, answer.StatusCode, text)
		d := s.awaitSent(t, 1)
		require.Equal(t, signin.Verify, d.Purpose)
		require.Equal(t, "nl", d.Language)
		var started struct{ Proof string }
		require.NoError(t, json.Unmarshal([]byte(text), &started))
		answer, text = s.do("PUT", path, fmt.Sprintf(`{"proof":%q,"code":"wrong"}`, started.Proof), bearer)
		requireProblem(t, answer, text, http.StatusForbidden, "proof_refused")
		answer, text = s.do("PUT", path, fmt.Sprintf(`{"proof":%q,"code":%q}`, started.Proof, d.Code), bearer)
		require.Equal(t, http.StatusNoContent, answer.StatusCode, text)
		owners, err := s.dir.Locate(ctx, sys, victims)
		require.NoError(t, err)
		require.EqualValues(t, alice, owners[0])
	})
}
