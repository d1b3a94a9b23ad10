package httpadapter

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

type contextKey struct{}

// PrincipalFrom returns who makes the request whose context this is, as [Authenticate] or [Require]
// found out. It is .anonymous where neither did.
func PrincipalFrom(ctx context.Context) denizen.Principal {
	by, _ := ctx.Value(contextKey{}).(denizen.Principal)
	return by
}

// Authenticate returns a handler of the service's own that learns who calls by [PrincipalFrom]. It
// takes the credentials that the API takes, but for signed requests. Without any the caller is
// .anonymous; one that is not good is refused, and so is one that another origin's page had a
// browser send with a method that may change something. What next does is its own matter.
func Authenticate(dir *denizen.Directory, next http.Handler) http.Handler {
	return Guard{}.Identify(dir, next)
}

// Require is [Authenticate] for a handler that is for users alone. Nobody is 401, and the
// application, which is no user, 403.
func Require(dir *denizen.Directory, next http.Handler) http.Handler {
	return Guard{}.Require(dir, next)
}

// Guard is the settings of [Authenticate] and [Require]. The zero value is what those use.
//
//	pages := httpadapter.Guard{Refuse: toSignIn, Observe: observe}
//	mux.Handle("GET /notes", pages.Require(dir, notes))
type Guard struct {
	// NoContractCookie is as in [Options].
	NoContractCookie bool
	// Authenticate is as in [Options].
	Authenticate func(*http.Request) (denizen.Principal, error)
	// CrossOrigin is as in [Options].
	CrossOrigin *http.CrossOriginProtection
	// Refuse writes the response to a request that is refused, such as a page or a redirect to
	// one. It is given the Status, the ErrorCode and the Cause; the latter is for logs, as it may
	// name a file. Headers that keep the response out of caches are set, and a token cookie that
	// lets nobody in any more is cleared. Nil: the JSON of the API.
	Refuse func(w http.ResponseWriter, r *http.Request, refused Exchange)
	// Observe is told of every request after its response, by the guard or by the handler behind
	// it, on the goroutine that served it. Route is the pattern of the service's mux, Duration the
	// time of both. Nil: failures of the guard itself are logged with slog.Default.
	Observe func(context.Context, Exchange)
}

// Identify is [Authenticate] with these settings.
func (g Guard) Identify(dir *denizen.Directory, next http.Handler) http.Handler {
	return g.guard(dir, next, func(*call) error { return nil })
}

// Require is [Require] with these settings.
func (g Guard) Require(dir *denizen.Directory, next http.Handler) http.Handler {
	return g.guard(dir, next, func(c *call) error {
		switch {
		case c.by.IsAnonymous():
			return badCredential("this needs a credential")
		case !c.by.IsUser():
			return c.missingPrivilege()
		}
		return nil
	})
}

// hostRoute stands for a route of the service's own. A refusal names its operation as the missing
// privilege.
var hostRoute = route{operation: "Participate"}

// guard returns next behind a check of who calls, and behind admit, which may refuse whom it finds.
func (g Guard) guard(
	dir *denizen.Directory, next http.Handler, admit func(*call) error,
) http.Handler {
	h := &handler{dir: dir, options: Options{
		NoContractCookie: g.NoContractCookie, Authenticate: g.Authenticate,
		CrossOrigin: cmp.Or(g.CrossOrigin, http.NewCrossOriginProtection()),
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		c := &call{h: h, w: w, r: r, route: &hostRoute}
		err := h.identify(c)
		c.refused = err != nil
		if err == nil {
			err = admit(c)
		}
		if err != nil {
			g.refuse(c, err, began)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, c.by))
		if g.Observe == nil {
			next.ServeHTTP(w, r)
			return
		}
		c.requestID = requestID(r)
		watched := &statusWriter{ResponseWriter: w}
		panicked := true
		defer func() {
			x := c.hostExchange(began)
			x.Route, x.Status = routeOf(r.Pattern), watched.status
			switch {
			case panicked && x.Status == 0:
				x.Status = http.StatusInternalServerError
			case x.Status == 0:
				x.Status = http.StatusOK
			}
			g.Observe(r.Context(), x)
		}()
		next.ServeHTTP(watched, r)
		panicked = false
	})
}

// refuse writes the response to a request that does not reach the service.
func (g Guard) refuse(c *call, err error, began time.Time) {
	c.requestID = requestID(c.r)
	refusal := toRefusal(c, err)
	if c.refused {
		c.refused = refusal.status == http.StatusUnauthorized ||
			refusal.status == http.StatusBadRequest
	}
	if c.credential.kind == kindCookie && isEndedToken(err) {
		ClearTokenCookie(c.w)
	}
	x := c.hostExchange(began)
	x.Status, x.ErrorCode, x.Cause = refusal.status, refusal.code, refusal.cause
	if g.Refuse == nil {
		answer := refusal.reply(c)
		_ = answer.write(c) // a refusal is no list
	} else {
		h := c.w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
		h["X-Request-Id"] = []string{c.requestID}
		watched := &statusWriter{ResponseWriter: c.w}
		g.Refuse(watched, c.r, x)
		if x.Status = watched.status; x.Status == 0 {
			x.Status = http.StatusOK
		}
	}
	x.Duration = time.Since(began)
	if g.Observe != nil {
		g.Observe(c.r.Context(), x)
		return
	}
	x.Status = refusal.status
	logFailures(c.r.Context(), x)
}

// hostExchange returns what is known of a request to a route of the service's own.
func (c *call) hostExchange(began time.Time) Exchange {
	return Exchange{
		RequestID: c.requestID, Method: c.r.Method, Route: routeOf(c.r.Pattern),
		Credential: c.credential.kind, Refused: c.refused, Caller: c.by, Duration: time.Since(began),
	}
}

// routeOf returns the pattern of a mux without its method.
func routeOf(pattern string) string {
	if method, path, ok := strings.Cut(pattern, " "); ok && !strings.Contains(method, "/") {
		return strings.TrimLeft(path, " \t")
	}
	return pattern
}

// statusWriter remembers the status of a response. What else the writer below it can do is reached
// through http.ResponseController, or through the methods that older handlers look for.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) wrote() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.wrote()
	return w.ResponseWriter.Write(b)
}

// ReadFrom lets a file be sent without a copy.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	w.wrote()
	return io.Copy(w.ResponseWriter, r)
}

func (w *statusWriter) Flush() {
	w.wrote()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
