package httpadapter

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

type contextKey struct{}

// PrincipalFrom answers who makes the request whose context this is, as Authenticate or Require
// found out: .anonymous where neither did.
func PrincipalFrom(ctx context.Context) denizen.Principal {
	by, _ := ctx.Value(contextKey{}).(denizen.Principal)
	return by
}

// Authenticate protects a service's own handler: next learns who calls by PrincipalFrom. It
// takes the credentials that the API takes, but for signed requests; without any the caller is
// .anonymous, and a bad one is refused. A cookie that another origin's page sent along with an
// unsafe method is refused too. It does not look at what next does with the request.
func Authenticate(dir *denizen.Directory, next http.Handler) http.Handler {
	return Guard{}.Identify(dir, next)
}

// Require is Authenticate for a handler that is for users alone: nobody gets 401, and the
// application itself, which is no user, 403. A Guard has options for both.
func Require(dir *denizen.Directory, next http.Handler) http.Handler {
	return Guard{}.Require(dir, next)
}

// Guard is the settings of Authenticate and Require. The zero value is what those use.
//
//	pages := httpadapter.Guard{Refuse: toSignIn, Observe: observe}
//	mux.Handle("GET /notes", pages.Require(dir, notes))
type Guard struct {
	// NoContractCookie is as in Options.
	NoContractCookie bool
	// Authenticate is as in Options.
	Authenticate func(*http.Request) (denizen.Principal, error)
	// CrossOrigin is as in Options.
	CrossOrigin *http.CrossOriginProtection
	// Refuse writes the answer to a request that is refused, such as a page or a redirect to it:
	// refused has the Status, the ErrorCode and the Cause, which may name a file and is for
	// logs. The headers that keep it out of caches are set, and a token cookie that lets nobody
	// in any more is cleared. Nil: the JSON of the API.
	Refuse func(w http.ResponseWriter, r *http.Request, refused Exchange)
	// Observe is told of every request once it is answered, by the guard or by the handler
	// behind it, on the goroutine that answered it: Route is the pattern of the service's mux,
	// Duration all of the time. Nil: failures of the guard itself are logged with slog.Default.
	Observe func(context.Context, Exchange)
}

// Identify is the function Authenticate with these settings.
func (g Guard) Identify(dir *denizen.Directory, next http.Handler) http.Handler {
	return g.guard(dir, next, func(*call) error { return nil })
}

// Require is the function Require with these settings.
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

// hostRoute stands for a route of the service's own.
var hostRoute = route{operation: "Participate"}

func (g Guard) guard(dir *denizen.Directory, next http.Handler, admit func(*call) error) http.Handler {
	h := &handler{dir: dir, name: rand.Text()[:13], options: Options{
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
		c.requestID = h.requestID(r)
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

// refuse answers a request that does not reach the service.
func (g Guard) refuse(c *call, err error, began time.Time) {
	c.requestID = c.h.requestID(c.r)
	refusal := refused(c, err)
	if c.refused {
		c.refused = refusal.status == http.StatusUnauthorized || refusal.status == http.StatusBadRequest
	}
	if c.credential.kind == kindCookie && ended(err) {
		ClearTokenCookie(c.w)
	}
	x := c.hostExchange(began)
	x.Status, x.ErrorCode, x.Cause = refusal.status, refusal.code, refusal.cause
	if g.Refuse == nil {
		answer := refusal.reply(c)
		_ = answer.write(c) // a refusal is no list
	} else {
		h := c.w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"], h["X-Request-Id"] = noStore, noSniff, []string{c.requestID}
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

// hostExchange is what is known of a request to a route of the service's own.
func (c *call) hostExchange(began time.Time) Exchange {
	return Exchange{
		RequestID: c.requestID, Method: c.r.Method, Route: routeOf(c.r.Pattern), Credential: c.credential.kind,
		Refused: c.refused, Caller: c.by, Duration: time.Since(began),
	}
}

// routeOf is the pattern of a mux without its method.
func routeOf(pattern string) string {
	if method, path, ok := strings.Cut(pattern, " "); ok && !strings.Contains(method, "/") {
		return strings.TrimLeft(path, " \t")
	}
	return pattern
}

// statusWriter remembers the status of an answer. What else the writer below it can do is
// reached by http.ResponseController, or by the methods that older handlers ask for.
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
