package signin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
	"github.com/denizenhq/denizen/internal/wire"
)

// HandlerOptions are the settings of [Service.Handler]. The zero value is good.
type HandlerOptions struct {
	// Token returns the options of the token of somebody who signs in. Nil: those of the directory,
	// with the label "sign-in".
	Token func(*http.Request) denizen.TokenOptions
	// Allow judges somebody who proved an address before there is a token, for example by
	// SignedIn.Locator.Stale. Its error is told to Observe alone; the response is 403
	// token_issuance_refused. Nil: everybody gets a token.
	Allow func(*http.Request, SignedIn) error
	// Home is where the page of a link goes once somebody is signed in: a path of this host, "/"
	// unless set.
	Home string
	// NoContractCookie is as in [httpadapter.Options]. It only decides which cookies are named.
	NoContractCookie bool
	// CrossOrigin decides which other origins' pages may have a browser sign somebody in. Nil: none
	// may, as with [http.NewCrossOriginProtection]. Its deny handler is not used.
	CrossOrigin *http.CrossOriginProtection
	// Observe is told of every request after its response, on the goroutine that served it. Nil:
	// failures of the service itself are logged with slog.Default.
	Observe func(context.Context, httpadapter.Exchange)
}

// maxBody is the longest body, in bytes.
const maxBody = 8 << 10

// Handler returns the handler that people sign in by, mounted with [http.StripPrefix] where the
// host wants it. As must be .system.
//
//   - POST /code {"locator": "email:alice@example.org"} starts, and answers 202 {"proof"}. With
//     "link": true a link is sent in place of a code.
//   - POST /token {"proof", "code"} finishes, sets the cookie of [httpadapter.SetTokenCookie] and
//     answers the token. The text of the token is left out for a browser, which says
//     Sec-Fetch-Site. Without "proof" it is taken from a cookie that POST /code has set; where that
//     is missing too, the code is not good.
//   - GET /link is the page for Options.Link. It changes nothing; its button posts the secret,
//     which is in the fragment that browsers send to nobody. It works only in the browser that
//     asked for the link, by that cookie.
//   - GET /undo is the page for Options.Undo, and changes nothing. POST /undo {"secret"} undoes a
//     change: see [Service.Undo].
//
// It takes JSON alone, and refuses what another origin's page had a browser send before it looks at
// anything else. Refusals have the form of the API. A code that is not good is 403 proof_refused;
// too many starts or tries are 429 with Retry-After.
func (s *Service) Handler(as denizen.Principal, o HandlerOptions) http.Handler {
	if o.Token == nil {
		o.Token = func(*http.Request) denizen.TokenOptions {
			return denizen.TokenOptions{Label: "sign-in"}
		}
	}
	if o.Observe == nil {
		o.Observe = logFailures
	}
	o.Home = cmp.Or(o.Home, "/")
	o.CrossOrigin = cmp.Or(o.CrossOrigin, http.NewCrossOriginProtection())
	return &handler{
		s: s, as: as, o: o, goBackPage: newGoBackPage(),
		linkPage: newPage("Sign in", "Sign in here?", "token", "code", o.Home),
		undoPage: newPage("Undo", "Undo this change, and sign out everywhere?", "undo", "secret", o.Home),
	}
}

type handler struct {
	s  *Service
	as denizen.Principal
	o  HandlerOptions

	linkPage, goBackPage, undoPage *page
}

// refusal is a response of 400 or more.
type refusal struct {
	status      int
	code        string
	message     string
	diagnostics map[string]any
	retryAfter  time.Duration
	cause       error // for Observe alone
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

// answer is a response.
type answer struct {
	status int
	body   any
}

// ServeHTTP serves a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := httpadapter.Exchange{
		RequestID: wire.RequestID(r.Header["X-Request-Id"]), Method: r.Method, Caller: h.as,
	}
	began := time.Now()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Request-Id", x.RequestID)
	a, err := h.route(w, r, &x)
	if err != nil {
		refused := toRefusal(r, err)
		x.ErrorCode, x.Cause = refused.code, refused.cause
		a = refused.answer(header, x.RequestID)
	}
	x.Status = a.status
	if page, ok := a.body.(*page); ok {
		page.write(w, a.status)
	} else if a.body == nil {
		w.WriteHeader(a.status)
	} else {
		var b bytes.Buffer
		wire.Encode(&b, a.body)
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(b.Len()))
		w.WriteHeader(a.status)
		_, _ = w.Write(b.Bytes()) // who left meanwhile misses it
	}
	x.Duration = time.Since(began)
	h.o.Observe(r.Context(), x)
}

func (h *handler) route(
	w http.ResponseWriter, r *http.Request, x *httpadapter.Exchange,
) (answer, error) {
	routes := []struct {
		path, methods, operation string
		serve                    func(http.ResponseWriter, *http.Request) (answer, error)
	}{
		{"/code", "POST", "Start", h.start},
		{"/token", "POST", "Finish", h.finish},
		{"/link", "GET, HEAD", "", h.link},
		{"/undo", "GET, HEAD, POST", "Undo", h.undo},
	}
	for _, route := range routes {
		if r.URL.EscapedPath() != route.path {
			continue
		}
		x.Route, x.Operation = route.path, route.operation
		if !slices.Contains(strings.Split(route.methods, ", "), r.Method) {
			w.Header().Set("Allow", route.methods)
			return answer{}, &refusal{
				status: http.StatusMethodNotAllowed, code: "method_not_allowed",
				message: "the methods of this route are " + route.methods,
			}
		}
		return route.serve(w, r)
	}
	return answer{}, &refusal{
		status: http.StatusNotFound, code: "entity_not_found", message: "there is no such route",
		diagnostics: map[string]any{"entityType": "route"},
	}
}

// start serves POST /code.
func (h *handler) start(w http.ResponseWriter, r *http.Request) (answer, error) {
	body, err := h.read(w, r)
	if err != nil {
		return answer{}, err
	}
	q := Request{
		Client: h.s.o.Client(r), Device: cookie(r, wire.DeviceCookie), Language: preferred(r),
	}
	if q.Locator, err = body.text("locator"); err != nil {
		return answer{}, err
	}
	if link, given := body["link"]; given && link != nil {
		if q.Link, given = link.(bool); !given {
			return answer{}, badSyntax("link is not true or false")
		}
	}
	proof, err := h.s.Start(r.Context(), h.as, q)
	if err != nil {
		return answer{}, err
	}
	http.SetCookie(w, newCookie(wire.ProofCookie, proof, proofLife))
	return answer{http.StatusAccepted, map[string]string{"proof": proof}}, nil
}

// deviceLife is how long a device is known after its last sign-in: browsers keep a cookie
// no longer.
const deviceLife = 400 * 24 * time.Hour

// finish serves POST /token.
func (h *handler) finish(w http.ResponseWriter, r *http.Request) (answer, error) {
	body, err := h.read(w, r)
	if err != nil {
		return answer{}, err
	}
	code, err := body.required("code")
	if err != nil {
		return answer{}, err
	}
	proof, err := body.text("proof")
	if err != nil {
		return answer{}, err
	}
	proof = cmp.Or(proof, cookie(r, wire.ProofCookie))
	if err := h.s.limits.tries.take("Finish", h.s.o.Client(r)); err != nil {
		return answer{}, err
	}
	in, err := h.s.Finish(r.Context(), h.as, proof, code)
	if err != nil {
		return answer{}, err
	}
	if h.o.Allow != nil {
		if err := h.o.Allow(r, in); err != nil {
			return answer{}, &refusal{
				status: http.StatusForbidden, code: "token_issuance_refused",
				message: "more is asked for than this proof", cause: err,
			}
		}
	}
	token, err := h.s.IssueToken(r.Context(), h.as, in, h.o.Token(r))
	if err != nil {
		return answer{}, err
	}
	httpadapter.SetTokenCookie(w, token)
	http.SetCookie(w, newCookie(wire.DeviceCookie, in.Device, deviceLife))
	http.SetCookie(w, newCookie(wire.ProofCookie, "", -time.Second))
	cookies := []string{wire.ContractCookie, httpadapter.CookieName}
	if h.o.NoContractCookie {
		cookies = cookies[1:]
	}
	if r.Header["Sec-Fetch-Site"] != nil {
		token.Signed = "" // a script of a page must not see what the cookie hides from it
	}
	return answer{http.StatusOK, wire.NewIssuedToken(token, wire.TokenHeader, cookies)}, nil
}

// link serves GET /link.
func (h *handler) link(_ http.ResponseWriter, r *http.Request) (answer, error) {
	if cookie(r, wire.ProofCookie) == "" {
		return answer{http.StatusOK, h.goBackPage}, nil
	}
	return answer{http.StatusOK, h.linkPage}, nil
}

// undo serves /undo.
func (h *handler) undo(w http.ResponseWriter, r *http.Request) (answer, error) {
	if r.Method != http.MethodPost {
		return answer{http.StatusOK, h.undoPage}, nil
	}
	body, err := h.read(w, r)
	if err != nil {
		return answer{}, err
	}
	secret, err := body.required("secret")
	if err != nil {
		return answer{}, err
	}
	if err := h.s.limits.tries.take("Undo", h.s.o.Client(r)); err != nil {
		return answer{}, err
	}
	err = h.s.Undo(r.Context(), h.as, secret)
	if errors.Is(err, denizen.ErrNotFound) {
		return answer{}, &refusal{
			status: http.StatusForbidden, code: "proof_refused",
			message: "this undoes nothing, or no longer",
		}
	}
	return answer{status: http.StatusNoContent}, err
}

// object is the body of a request.
type object map[string]any

// text returns a member that is a string, or "" if it is not there.
func (o object) text(name string) (string, error) {
	switch v := o[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", badSyntax(name + " is not a string")
}

// required returns a member that is a string and not empty.
func (o object) required(name string) (string, error) {
	v, err := o.text(name)
	if err == nil && v == "" {
		err = badValue(name, "is missing")
	}
	return v, err
}

// read returns the body of a request. What another origin's page had a browser send is refused
// first.
func (h *handler) read(w http.ResponseWriter, r *http.Request) (object, error) {
	if h.o.CrossOrigin.Check(r) != nil {
		return nil, &refusal{
			status: http.StatusForbidden, code: "missing_context",
			message:     "this is not the origin it has to be",
			diagnostics: map[string]any{"missingContext": "origin"},
		}
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || len(r.Header["Content-Type"]) != 1 {
		return nil, &refusal{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			message: "a body is application/json",
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, &refusal{
			status: http.StatusRequestEntityTooLarge, code: "limit_exceeded",
			message: "the body is too long",
		}
	}
	if err != nil {
		return nil, badSyntax("the body ended before its end")
	}
	value, problem := wire.Parse(body)
	if problem != "" {
		return nil, badSyntax(problem)
	}
	o, ok := value.(map[string]any)
	if !ok {
		return nil, badSyntax("the body is not an object")
	}
	return o, nil
}

func badSyntax(message string) error {
	return &refusal{status: http.StatusBadRequest, code: "invalid_input_syntax", message: message}
}

func badValue(name, reason string) *refusal {
	return &refusal{
		status: http.StatusBadRequest, code: "invalid_parameter_set", message: name + " " + reason,
		diagnostics: map[string]any{"parameter": name, "reason": reason},
	}
}

// cookie returns the value of a cookie, or "" unless there is exactly one.
func cookie(r *http.Request, name string) string {
	if all := r.CookiesNamed(name); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

// newCookie returns a cookie for this host alone. It comes along when somebody follows a link from
// a message.
func newCookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// preferred returns the first language that a request accepts.
func preferred(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("Accept-Language"), ",")
	first, _, _ = strings.Cut(first, ";")
	return strings.TrimSpace(first)
}

// toRefusal returns the response to an error. It decides by data alone.
func toRefusal(r *http.Request, err error) *refusal {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused
	}
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return failed(http.StatusInternalServerError, "unknown_error", "something failed here", err)
	}
	switch {
	case e.Kind == denizen.ErrInvalid && (e.Field == "locator" || e.Field == "link"):
		return badValue(e.Field, e.Reason)
	case e.Kind == denizen.ErrDenied && e.Field == "proof",
		e.Kind == denizen.ErrNotFound && e.Field == "user": // who left since the code was used up
		return &refusal{
			status: http.StatusForbidden, code: "proof_refused",
			message: "the code is wrong, used or too old: ask for a new one where you asked before",
		}
	case e.Kind == denizen.ErrDenied && e.Field == "user":
		return &refusal{
			status: http.StatusForbidden, code: "token_issuance_refused",
			message: "there are no tokens for a blocked user",
		}
	case e.Kind == denizen.ErrLimited && e.RetryAfter > 0:
		return &refusal{
			status: http.StatusTooManyRequests, code: "rate_limited",
			message: "that was too often: try again later", retryAfter: e.RetryAfter,
		}
	case e.Kind == denizen.ErrLimited:
		return &refusal{
			status: http.StatusConflict, code: "limit_exceeded", message: e.Field + " " + e.Reason,
		}
	case e.Kind == denizen.ErrOutcomeUnknown:
		refused := failed(503, "unavailable", "nobody can say whether this was done", e.Cause())
		refused.diagnostics = map[string]any{"outcome": "unknown"}
		return refused
	case e.Kind == denizen.ErrUnavailable, e.Kind == denizen.ErrClosed, e.Kind == denizen.ErrConflict:
		if errors.Is(e.Cause(), context.Canceled) && r.Context().Err() != nil {
			return badSyntax("the client gave the request up").(*refusal)
		}
		if cause := e.Cause(); cause != nil {
			err = cause // what the host wants to know, and no caller is told
		}
		return failed(503, "unavailable", "the directory cannot answer now", err)
	}
	return failed(http.StatusInternalServerError, "unknown_error", "something failed here", err)
}

func failed(status int, code, message string, cause error) *refusal {
	return &refusal{status: status, code: code, message: message, cause: cause}
}

func (r *refusal) answer(header http.Header, requestID string) answer {
	if r.retryAfter > 0 {
		seconds := int64((r.retryAfter + time.Second - 1) / time.Second)
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	diagnostics := r.diagnostics
	if diagnostics == nil {
		diagnostics = map[string]any{}
	}
	return answer{r.status, wire.Problem{
		ErrorCode: r.code, Message: r.message, Diagnostics: diagnostics,
		Timestamp: time.Now().UnixMilli(), RequestID: requestID,
	}}
}

// logFailures is Observe where the host has none.
func logFailures(ctx context.Context, x httpadapter.Exchange) {
	if x.Status >= http.StatusInternalServerError {
		slog.ErrorContext(ctx, "denizen: a request failed", "request", x)
	}
}
