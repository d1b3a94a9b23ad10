package httpadapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// Options are the settings of [New]. The zero value is good.
type Options struct {
	// Prefix is what the handler is mounted under, such as "/people", where nothing in front strips
	// it. Without it paths begin with /v1.
	Prefix string
	// Signed lets requests in that are signed with an access key. Each spends its nonce durably,
	// which is a commit of the store.
	Signed bool
	// MaxBody is the longest body taken, in bytes; 64 KiB unless set.
	MaxBody int64
	// NoContractCookie leaves out the cookie of existing clients,
	// x_issued_mitter_user_authorization, so that a token is taken from CookieName alone. A page of
	// a sibling domain can set the former and so sign a person in as somebody else; it cannot set
	// the latter. Set it unless existing clients need that cookie.
	NoContractCookie bool
	// Authenticate says who calls by a session of the service's own, such as its cookie. Nil: the
	// service has none. It is called first, for each request that needs a credential, by many
	// goroutines at once. It must not read the body.
	//
	//   - Whom it returns is who calls. The API's own credentials are then ignored, so that
	//     Authenticate may read the Authorization header itself, and a planted cookie changes
	//     nothing. A user comes from [denizen.Directory.ActAs] or
	//     [denizen.Directory.Authenticate]. Returning [denizen.System] makes the caller the
	//     application, which may do everything; no text of a request does.
	//   - The zero Principal says that the request has no such session. The API's own credentials
	//     are tried.
	//   - An error refuses the request, whatever else it carries. It is 503 for
	//     [denizen.ErrUnavailable], [denizen.ErrClosed], [denizen.ErrOutcomeUnknown] or the error
	//     of a context, 500 for [denizen.ErrCorrupt], and 401 for any other. A session store that
	//     is out of reach should wrap ErrUnavailable. The caller is told no more, and Observe the
	//     error itself as Exchange.Cause.
	//
	// A browser may send such a session whichever page asks it to. So it is held to CrossOrigin
	// whatever it was read from, and no response tells it the text of an extended token. Logging
	// out by the API revokes a token, so a user from ActAs, who has none, is refused: the service
	// ends its own session.
	//
	// Never put a token into a header of the request instead: see the section on browsers.
	Authenticate func(*http.Request) (denizen.Principal, error)
	// CrossOrigin decides which other origins' pages may have a browser change something by a
	// token cookie or by a session that Authenticate found. Nil: none may, as with
	// [http.NewCrossOriginProtection]. Its deny handler is not used. An origin that the service's
	// CORS allows to send cookies has to be trusted here, too.
	CrossOrigin *http.CrossOriginProtection
	// Prove has codes sent by which users prove locators of their own, such as pending claims: a
	// *signin.Service. Nil: the routes for that are not served.
	Prove Prover
	// MaxStreams is how many event streams may be open at once; 10,000 unless set. One caller has
	// at most 16. One more is 429.
	MaxStreams int
	// Closing ends all event streams once it is closed, so that [http.Server.Shutdown], which waits
	// for them, can end: close it first, or by [http.Server.RegisterOnShutdown]. Nil: they end with
	// their connections.
	Closing <-chan struct{}
	// Observe is told of every request after its response, on the goroutine that served it. Nil:
	// failures of the service itself, and users in lists who cannot be read, are logged with
	// slog.Default.
	Observe func(context.Context, Exchange)
}

// handler serves the API of a directory.
type handler struct {
	dir     *denizen.Directory
	options Options
	root    *node
	streams streams
	shown   shown
}

// New returns the handler of a directory, which the caller closes after the server. It may be
// mounted at the root of a mux, below [Options.Prefix], or behind [http.StripPrefix]. It is safe
// for concurrent use. It panics if the prefix does not begin with a slash or ends with one.
func New(dir *denizen.Directory, o Options) http.Handler {
	if o.MaxBody <= 0 {
		o.MaxBody = 64 << 10
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = maxStreams
	}
	if o.Observe == nil {
		o.Observe = logFailures
	}
	o.CrossOrigin = cmp.Or(o.CrossOrigin, http.NewCrossOriginProtection())
	if o.Prefix != "" && (o.Prefix[0] != '/' || strings.HasSuffix(o.Prefix, "/")) {
		panic("httpadapter: Prefix is " + o.Prefix +
			": it must begin with a slash and not end with one")
	}
	return &handler{
		dir: dir, options: o, root: newTree(routes), shown: shown{seed: maphash.MakeSeed()},
	}
}

// call is one request on its way through.
type call struct {
	h          *handler
	w          http.ResponseWriter
	r          *http.Request
	path       string // escaped, from /v1 on
	route      *route
	params     [maxParams]string
	by         denizen.Principal
	credential credential
	refused    bool // its credential was refused
	requestID  string
	began      time.Time

	allTypes  bool // of locators are shown and set, not only those that all clients know
	bodyRead  bool
	bodyBytes []byte
	given     any               // the body, if the route takes one
	names     map[string]string // what the body names, by kind, for refusals
	damaged   []denizen.UserID  // left out of a list, or shown in part: they cannot be read
}

// ServeHTTP writes the response to a request and tells Observe of it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{h: h, w: w, r: r, route: &noRoute, requestID: requestID(r), began: time.Now()}
	if a := h.answer(c); a != nil {
		h.finish(c, a, a.write(c), "", nil)
	}
}

// answer answers a request. Only a stream is left to the caller: it lasts, and there may be many,
// so that its stack is not to be deep.
func (h *handler) answer(c *call) *reply {
	answer, err := h.handle(c)
	if err == nil && answer.stream != nil {
		a := answer
		return &a
	}
	var code string
	var cause error
	if err != nil {
		refusal := toRefusal(c, err)
		answer = refusal.reply(c)
		code, cause = refusal.code, refusal.cause
	}
	h.finish(c, &answer, answer.write(c), code, cause)
	return nil
}

// finish ends a request whose answer was written, or could not be. Code and cause are of the
// refusal that it is.
func (h *handler) finish(c *call, answer *reply, err error, code string, cause error) {
	x := Exchange{
		RequestID: c.requestID, Method: c.r.Method, Route: c.route.pattern, Operation: c.route.operation,
		Credential: c.credential.kind, Refused: c.refused, Caller: c.by, ErrorCode: code, Cause: cause,
	}
	status := answer.status
	if err != nil {
		refusal := toRefusal(c, err)
		x.ErrorCode, x.Cause = refusal.code, refusal.cause
		instead := refusal.reply(c)
		status = instead.status
		if !errors.Is(err, errCut) {
			_ = instead.write(c)
		}
	} else if answer.cause != nil {
		x.Cause = answer.cause
	}
	x.Status, x.Duration, x.Damaged = status, time.Since(c.began), c.damaged
	h.options.Observe(c.r.Context(), x)
	if errors.Is(err, errCut) {
		// Half of a list must not look whole. Cutting the connection tells the client.
		panic(http.ErrAbortHandler)
	}
}

// handle routes the request, finds out who calls, reads the body and calls the route. A panic
// becomes an error, so that the caller gets a refusal and Observe its cause.
func (h *handler) handle(c *call) (answer reply, err error) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			panic(p)
		} else if p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := h.routeTo(c); err != nil {
		return answer, err
	}
	if !c.route.open {
		if err := h.identify(c); err != nil {
			status := toRefusal(c, err).status
			c.refused = status == http.StatusUnauthorized || status == http.StatusBadRequest
			withToken := !c.credential.acting && c.credential.token != ""
			if c.route.operation == "Logout" && withToken && isEndedToken(err) {
				return logoutWithEndedToken(c)
			}
			return answer, err
		}
		if c.by.IsAnonymous() {
			return answer, badCredential("this needs a credential")
		}
	}
	if c.route.takes != nothing {
		if c.given, err = c.input(); err != nil {
			return answer, err
		}
	}
	if err := c.readLocatorTypes(); err != nil {
		return answer, err
	}
	return c.route.serve(c)
}

// routeTo finds the route of the request.
func (h *handler) routeTo(c *call) error {
	path, ok := strings.CutPrefix(c.r.URL.EscapedPath(), h.options.Prefix)
	if !ok {
		return noSuchRoute()
	}
	if raw := c.r.URL.RawPath; raw != "" && raw != c.r.URL.EscapedPath() {
		// EscapedPath spelled it anew from the decoded path, so a segment may differ from what was
		// sent.
		return badValue("path", "is not percent-encoded as it should be")
	}
	c.path = path
	n, err := h.root.find(path, c.params[:])
	if err != nil {
		return err
	}
	if n == nil {
		return noSuchRoute()
	}
	if route := n.route(c.r.Method); route != nil {
		c.route = route
		return nil
	}
	c.w.Header()["Allow"] = []string{n.allow}
	return newRefusal(http.StatusMethodNotAllowed, "method_not_allowed",
		"the methods of this route are "+n.allow)
}

// identify finds out who calls: by a session of the service's own, or else by a credential of
// the API. It refuses another application, and what another origin's page had a browser send.
func (h *handler) identify(c *call) (err error) {
	if c.credential, err = parseActing(c.r.Header); err != nil {
		return err
	}
	by, err := c.session()
	if err == nil && by.IsAnonymous() {
		by, err = c.authenticate()
	}
	if err != nil {
		return err
	}
	application := c.r.Header[headerApplication]
	if len(application) == 1 && application[0] != h.dir.ApplicationID() {
		if by.IsAnonymous() {
			return badCredential("this needs a credential")
		}
		return missingContext("application")
	}
	if c.credential.mayBeUnasked(c.r.Header) && h.options.CrossOrigin.Check(c.r) != nil {
		return missingContext("origin")
	}
	c.by = by
	if !c.credential.acting {
		return nil
	}
	if by.IsAnonymous() {
		return badCredential("acting for a user needs a credential")
	}
	c.by, err = h.dir.ActAs(c.r.Context(), by, denizen.UserID(c.credential.actAs))
	if err != nil {
		c.by = by
	}
	return err
}

// param returns a parameter of the path that is not a list.
func (c *call) param(i int, name string) (string, error) {
	if strings.Contains(c.params[i], ",") {
		return "", badValue(name, "must be one, not a list")
	}
	return c.params[i], nil
}

// listParam returns the parts of a parameter that may be a list.
func (c *call) listParam(i int, name string) ([]string, error) {
	parts := strings.Split(c.params[i], ",")
	if len(parts) > denizen.MaxList {
		return nil, badValue(name, "must be 100 at most")
	}
	return parts, nil
}

// user returns the user that the path names: by its id, as "me", or by a locator.
func (c *call) user() (denizen.UserID, error) {
	ref, err := c.param(0, "userId")
	if err != nil {
		return "", err
	}
	id, err := c.resolve(ref)
	if err != nil {
		return "", err
	}
	return id, c.checkBodyUser(string(id))
}

// checkBodyUser refuses a body that names another user than the path.
func (c *call) checkBodyUser(user string) error {
	object, _ := c.given.(map[string]any)
	for _, name := range [...]string{"userId", "entityId"} {
		named := object[name]
		if reference, ok := named.(map[string]any); ok {
			named = reference["identifier"]
		}
		if named != nil && named != user {
			return badValue(name, "must be the one of the path")
		}
	}
	return nil
}

// users returns the users that the path names, and whether it is a list.
func (c *call) users() (ids []denizen.UserID, several bool, err error) {
	refs, err := c.listParam(0, "userIds")
	if err != nil {
		return nil, false, err
	}
	ids = make([]denizen.UserID, len(refs))
	for i, ref := range refs {
		if ref == "me" || strings.Contains(ref, ":") {
			continue
		}
		if ids[i], err = denizen.ParseUserID(ref); err != nil {
			return nil, false, err
		}
	}
	for i, ref := range refs {
		if ids[i] == "" {
			if ids[i], err = c.resolve(ref); err != nil {
				return nil, false, err
			}
		}
	}
	return ids, len(refs) > 1, nil
}

// resolve returns the user that an id, "me" or a locator names.
func (c *call) resolve(ref string) (denizen.UserID, error) {
	if ref != "me" && !strings.Contains(ref, ":") {
		return denizen.ParseUserID(ref)
	}
	id, err := c.h.dir.ResolveUser(c.r.Context(), c.by, ref)
	if e, ok := errors.AsType[*denizen.Error](err); ok && e.Kind == denizen.ErrNotFound {
		return "", c.entity(http.StatusNotFound, "entity_not_found", "there is no such ", "user")
	}
	return id, err
}

// nameAsked returns the name that the caller gave to an entity of a kind: in the body, or else in
// the path. A refusal repeats that and never what the directory knows.
func (c *call) nameAsked(kind string) string {
	if name := c.names[kind]; name != "" {
		return name
	}
	i := 0
	for segment := range strings.SplitSeq(c.route.pattern, "/") {
		if !strings.HasPrefix(segment, "{") {
			continue
		}
		entity := paramEntity[segment]
		if entity == kind || entity == "key" && strings.HasPrefix(kind, "attribute") {
			return c.params[i]
		}
		i++
	}
	return ""
}

// paramEntity is the kind of entity that each parameter of a path names.
var paramEntity = map[string]string{
	"{userId}": "user", "{userIds}": "user", "{locatorId}": "locator",
	"{key}": "key", "{keys}": "key", "{accessKey}": "accessKey", "{keyId}": "signingKey",
	"{tokenId}": "token", "{tokenIds}": "token",
}
