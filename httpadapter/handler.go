package httpadapter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
)

// Options are the settings of a handler. The zero value is good.
type Options struct {
	// Prefix is what the handler is mounted under, such as "/people", where nothing before it
	// strips that: without it paths begin with /v1.
	Prefix string
	// Signed lets requests in that are signed with an access key. Each one spends its nonce
	// durably, which is a commit of the store.
	Signed bool
	// MaxBody is the most bytes that a body may have; 64 KiB unless set.
	MaxBody int64
	// NoContractCookie leaves the cookie ContractCookieName of existing clients out: only
	// CookieName is looked at. A page of a sibling domain can set the contract's cookie, and so
	// sign a person in as somebody else; it cannot set CookieName. Set it unless clients that
	// use the contract's cookie have to work.
	NoContractCookie bool
	// Observe is told of every request once it is answered, on the goroutine that answered it.
	// Nil: failures of the service itself, and users in lists who cannot be read, are logged with
	// slog.Default, and nothing else.
	Observe func(context.Context, Exchange)
}

// handler answers requests for a directory.
type handler struct {
	dir     *denizen.Directory
	options Options
	root    *node

	name     string // random, so that its request ids are no other's
	requests atomic.Uint64
}

// New makes the handler of a directory, which the caller closes after the server. It may be
// mounted at the root of a mux, below Options.Prefix, or behind http.StripPrefix, and is safe
// for use by many goroutines. It panics if the prefix does not begin with a slash or ends with one.
func New(dir *denizen.Directory, o Options) http.Handler {
	if o.MaxBody <= 0 {
		o.MaxBody = 64 << 10
	}
	if o.Observe == nil {
		o.Observe = logFailures
	}
	if o.Prefix != "" && (o.Prefix[0] != '/' || strings.HasSuffix(o.Prefix, "/")) {
		panic("httpadapter: Prefix is " + o.Prefix + ": it must begin with a slash and not end with one")
	}
	return &handler{dir: dir, options: o, root: tree(routes), name: rand.Text()[:13]}
}

// A call is one request on its way through.
type call struct {
	h          *handler
	w          http.ResponseWriter
	r          *http.Request
	path       string // escaped, from /v1 on
	route      *route
	params     [maxParams]string
	by         denizen.Principal
	credential credential
	refused    bool // the credential was
	requestID  string

	bodyRead  bool
	bodyBytes []byte
	given     any               // the body, if the route takes one
	names     map[string]string // what the body names, by kind, for refusals
	damaged   []denizen.UserID  // whom a list leaves out, or shows in part: they cannot be read
}

// ServeHTTP routes a request, finds out who calls, and has the route answer it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	c := &call{h: h, w: w, r: r, route: &noRoute, requestID: h.requestID(r)}
	answer, err := h.answer(c)
	x := Exchange{
		RequestID: c.requestID, Method: r.Method, Route: c.route.pattern, Operation: c.route.operation,
		Credential: c.credential.kind, Refused: c.refused, Caller: c.by,
	}
	if err != nil {
		refusal := refused(c, err)
		answer = refusal.reply(c)
		x.ErrorCode, x.Cause = refusal.code, refusal.cause
	}
	err = answer.write(c)
	if err != nil {
		refusal := refused(c, err)
		x.ErrorCode, x.Cause = refusal.code, refusal.cause
		answer = refusal.reply(c)
		if !errors.Is(err, errCut) {
			_ = answer.write(c)
		}
	}
	x.Status, x.Duration, x.Damaged = answer.status, time.Since(began), c.damaged
	h.options.Observe(r.Context(), x)
	if errors.Is(err, errCut) {
		// Half of a list must not look whole: the connection is cut, and nobody takes it for all.
		panic(http.ErrAbortHandler)
	}
}

// answer routes the request, finds out who calls, reads the body and has the route answer.
func (h *handler) answer(c *call) (answer reply, err error) {
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
			status := refused(c, err).status
			c.refused = status == http.StatusUnauthorized || status == http.StatusBadRequest
			if c.route.operation == "Logout" && !c.credential.acting && c.credential.token != "" && ended(err) {
				return logoutEnded(c)
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
	return c.route.answer(c)
}

// routeTo finds the route of the request.
func (h *handler) routeTo(c *call) error {
	path, ok := strings.CutPrefix(c.r.URL.EscapedPath(), h.options.Prefix)
	if !ok {
		return noSuchRoute()
	}
	if raw := c.r.URL.RawPath; raw != "" && raw != c.r.URL.EscapedPath() {
		// EscapedPath spelled it anew, from the decoded path: a segment would not be as it was sent.
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
	return refuse(http.StatusMethodNotAllowed, "method_not_allowed", "the methods of this route are "+n.allow)
}

// identify finds out who calls, and refuses another application and a cookie that another
// origin's page had sent.
func (h *handler) identify(c *call) (err error) {
	if c.credential, err = present(c.r, &h.options); err != nil {
		return err
	}
	var signed func() (denizen.SignedRequest, error)
	if h.options.Signed {
		signed = c.signedRequest
	}
	by, err := authenticate(c.r.Context(), h.dir, c.credential, signed)
	if err != nil {
		return err
	}
	if application := c.r.Header[headerApplication]; len(application) == 1 && application[0] != h.dir.ApplicationID() {
		if by.IsAnonymous() {
			return badCredential("this needs a credential")
		}
		return missingContext("application")
	}
	if c.credential.kind == kindCookie && protection.Check(c.r) != nil {
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

var protection = http.NewCrossOriginProtection()

// param answers a parameter of the path. It stands for one thing.
func (c *call) param(i int, name string) (string, error) {
	if strings.Contains(c.params[i], ",") {
		return "", badValue(name, "must be one, not a list")
	}
	return c.params[i], nil
}

// listParam answers the parts of a parameter that may be a list.
func (c *call) listParam(i int, name string) ([]string, error) {
	parts := strings.Split(c.params[i], ",")
	if len(parts) > denizen.MaxList {
		return nil, badValue(name, "must be 100 at most")
	}
	return parts, nil
}

// user answers the user that the path names: by its id, as "me", or by a locator.
func (c *call) user() (denizen.UserID, error) {
	ref, err := c.param(0, "userId")
	if err != nil {
		return "", err
	}
	id, err := c.resolve(ref)
	if err != nil {
		return "", err
	}
	return id, c.agrees(string(id))
}

// agrees refuses a body that names another user than the path.
func (c *call) agrees(user string) error {
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

// users answers the users that the path names, and whether it is a list.
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

// asked answers what the caller named of a kind: in the body, or else in the path.
func (c *call) asked(kind string) string {
	if name := c.names[kind]; name != "" {
		return name
	}
	i := 0
	for segment := range strings.SplitSeq(c.route.pattern, "/") {
		if !strings.HasPrefix(segment, "{") {
			continue
		}
		if named[segment] == kind || named[segment] == "key" && strings.HasPrefix(kind, "attribute") {
			return c.params[i]
		}
		i++
	}
	return ""
}

// named is the kind of entity that a parameter of a path names.
var named = map[string]string{
	"{userId}": "user", "{userIds}": "user", "{locatorId}": "locator", "{key}": "key", "{keys}": "key",
	"{accessKey}": "accessKey", "{keyId}": "signingKey", "{tokenId}": "token", "{tokenIds}": "token",
}
