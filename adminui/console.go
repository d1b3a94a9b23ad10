package adminui

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// Action is something that an operator may be allowed to do beyond looking.
type Action string

// The actions. Each is an event of the feed that names the operator.
const (
	Reveal        Action = "reveal"         // show an address or a number in full
	Revoke        Action = "revoke"         // end tokens: one, or all of a user
	Block         Action = "block"          // block and unblock
	Rename        Action = "rename"         // change the screen name
	RemoveLocator Action = "remove-locator" // remove an address or a number
	ClearPresence Action = "clear-presence" // of all devices
)

// Options are the settings of a Console.
type Options struct {
	// Authorize returns who sends a request: .system under the name of an operator, as from
	// [denizen.Principal.Named], or from an access key and named. It must be set. An error that is
	// [denizen.ErrUnauthenticated] is answered with 401 and any other with 403; its text goes to
	// Logger alone. To send people to a sign-in page instead, wrap the Console. It is asked again
	// each minute of a stream, with the request that began it.
	Authorize func(*http.Request) (denizen.Principal, error)

	// May reports whether an operator may do something beyond looking. Nil: nobody may.
	May func(operator string, do Action) bool

	// CrossOrigin refuses what pages of other origins send. Nil: http.NewCrossOriginProtection().
	CrossOrigin *http.CrossOriginProtection

	// Logger gets what the operator is not told: why something failed. Nil: nobody does.
	Logger *slog.Logger
}

// Bounds of a Console.
const (
	MaxStreams         = 256     // live pages in all
	MaxOperatorStreams = 16      // of one operator
	maxBody            = 8 << 10 // bytes of a form
	pageTimeout        = 10 * time.Second
)

// Console shows a directory to operators. It is an [http.Handler] that expects paths below its own
// root: mount it with [http.StripPrefix]. Many goroutines may use it at once.
type Console struct {
	dir     *denizen.Directory
	options Options
	mux     *http.ServeMux
	hub     *hub
	streams streams
}

// New returns a console of a directory. Close it before the directory. An Options.Authorize that is
// not set is [denizen.ErrInvalid].
func New(dir *denizen.Directory, o Options) (*Console, error) {
	if o.Authorize == nil {
		return nil, &denizen.Error{
			Op: "adminui.New", Kind: denizen.ErrInvalid, Field: "Authorize", Reason: "must be set",
		}
	}
	o.CrossOrigin = cmp.Or(o.CrossOrigin, http.NewCrossOriginProtection())
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := &Console{dir: dir, options: o, mux: http.NewServeMux(), hub: newHub(dir)}
	for pattern, show := range map[string]func(*visit) error{
		"GET /{$}":                 (*visit).overview,
		"POST /search":             (*visit).search,
		"GET /people":              (*visit).people,
		"GET /people/{id}":         (*visit).person,
		"POST /people/{id}":        (*visit).act,
		"GET /here":                (*visit).here,
		"GET /feed":                (*visit).feed,
		"POST /feed":               (*visit).filter,
		"GET /keys":                (*visit).keys,
		"GET /store":               (*visit).store,
		"GET /live/overview":       (*visit).liveOverview,
		"GET /live/feed":           (*visit).liveFeed,
		"GET /live/store":          (*visit).liveStore,
		"GET /live/people/{id}":    (*visit).livePerson,
		"GET /files/{hash}/{name}": (*visit).file,
		"/":                        func(*visit) error { return errNoPage },
	} {
		c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, show) })
	}
	return c, nil
}

// Close ends the streams and the goroutines of the console, and waits for the latter. A server's
// Shutdown waits for streams: let it call Close, by [http.Server.RegisterOnShutdown]. It always
// returns nil. After it, pages are shown that are not live.
func (c *Console) Close() error {
	c.hub.close()
	return nil
}

// policy lets a page have the console's own style and script and send its forms back, and nothing
// else. No text becomes markup but what the server rendered.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types console"

// ServeHTTP answers a request, whoever it is that Options.Authorize says.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Under no-referrer a browser sends the console's own forms with the origin null. Where it sends no
	// Sec-Fetch-Site either, as over plain HTTP, they would count as those of another origin.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	c.mux.ServeHTTP(w, r)
}

// visit is one request by an operator who was let in.
type visit struct {
	*Console
	w   http.ResponseWriter
	r   *http.Request
	by  denizen.Principal
	ctx context.Context
	// depth is how many elements the path has below the root of the console, less one. Links are
	// relative, because nobody told what the console is mounted under.
	depth int
}

func (c *Console) serve(w http.ResponseWriter, r *http.Request, show func(*visit) error) {
	by, err := c.authorize(r)
	if err != nil {
		status := http.StatusForbidden
		if errors.Is(err, denizen.ErrUnauthenticated) {
			status = http.StatusUnauthorized
		}
		c.options.Logger.Warn("adminui: refused", "err", err)
		http.Error(w, "You may not see this page.", status)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	v := &visit{
		Console: c, w: w, r: r, by: by, ctx: ctx,
		depth: strings.Count(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/"),
	}
	err = v.checkForm()
	if err == nil && by.AccessKey() != "" {
		err = c.dir.Check(ctx, by) // what all pages share is read by nobody in particular
	}
	if err == nil {
		err = show(v)
	}
	if err != nil {
		v.fail(err)
	}
}

var errNotNamed = errors.New("adminui: Authorize must return .system under the name of an operator")

// authorize returns who sends a request.
func (c *Console) authorize(r *http.Request) (denizen.Principal, error) {
	by, err := c.options.Authorize(r)
	if err == nil && (!by.IsSystem() || by.Operator() == "") {
		err = errNotNamed
	}
	if err != nil {
		return denizen.Principal{}, err
	}
	return by, nil
}

// may reports whether the operator may do something beyond looking.
func (v *visit) may(do Action) bool {
	return v.options.May != nil && v.options.May(v.by.Operator(), do)
}

// refusal is an answer other than the page that was asked for.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

var (
	errNoPage      = &refusal{http.StatusNotFound, "There is no such page."}
	errNotAllowed  = &refusal{http.StatusForbidden, "You may look, but not do this."}
	errOtherOrigin = &refusal{http.StatusForbidden, "This form was sent by a page of another origin."}
	errForm        = &refusal{http.StatusBadRequest, "This form cannot be read."}
	errChanged     = &refusal{http.StatusConflict, "Somebody changed this meanwhile. Look again."}
)

// checkForm reads the form of a POST, and refuses what another origin sent.
func (v *visit) checkForm() error {
	if err := v.options.CrossOrigin.Check(v.r); err != nil {
		return errOtherOrigin
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxBody)
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	return nil
}

// fail answers with an error in place of a page.
func (v *visit) fail(err error) {
	answer := &refusal{http.StatusInternalServerError, "This cannot be shown: the host's log says why."}
	refused, isRefusal := errors.AsType[*refusal](err)
	known, isKnown := errors.AsType[*denizen.Error](err)
	switch {
	case isRefusal:
		answer = refused
	case errors.Is(err, denizen.ErrNotFound):
		answer = &refusal{http.StatusNotFound, "There is nobody of this id, or what you asked for is gone."}
	case errors.Is(err, denizen.ErrInvalid), errors.Is(err, denizen.ErrTaken), errors.Is(err, denizen.ErrLimited):
		answer = &refusal{http.StatusBadRequest, "This is not possible: " + known.Field + " " + known.Reason + "."}
	case errors.Is(err, denizen.ErrConflict):
		answer = errChanged
	case errors.Is(err, denizen.ErrOutcomeUnknown):
		answer = &refusal{http.StatusServiceUnavailable, "The store failed: nobody knows whether this was done. Look again."}
	case errors.Is(err, denizen.ErrUnavailable), errors.Is(err, denizen.ErrClosed):
		answer = &refusal{http.StatusServiceUnavailable, "The store does not answer. Try again."}
	case errors.Is(err, denizen.ErrRevoked), errors.Is(err, denizen.ErrDenied):
		answer = &refusal{http.StatusForbidden, "You may not do this any more."}
	}
	gone := errors.Is(v.r.Context().Err(), context.Canceled)
	if !isRefusal && !gone && (!isKnown || answer.status >= http.StatusInternalServerError) {
		v.options.Logger.Error("adminui: a page failed", "path", v.r.Pattern, "err", err)
	}
	_ = v.show(answer.status, "failed", "Not shown", answer)
}

// root returns the relative URL of the root of the console.
func (v *visit) root() string {
	return cmp.Or(strings.Repeat("../", v.depth), "./")
}

// redirect sends the browser to a page, after a form.
func (v *visit) redirect(to string) error {
	v.w.Header().Set("Location", v.root()+to)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// user returns the id in the path.
func (v *visit) user() (denizen.UserID, error) {
	id, err := denizen.ParseUserID(v.r.PathValue("id"))
	if err != nil {
		return "", errNoPage
	}
	return id, nil
}

// actions returns what the operator may do, for templates.
func (v *visit) actions() map[string]bool {
	may := map[string]bool{}
	for _, do := range []Action{Reveal, Revoke, Block, Rename, RemoveLocator, ClearPresence} {
		may[string(do)] = v.may(do)
	}
	return may
}

// kindGroups are what the feed can be filtered by.
var kindGroups = []struct {
	Name, Prefix string
}{
	{"Users", "user"},
	{"Addresses and numbers", "locator"},
	{"Profiles", "profile"},
	{"Presence", "presence"},
	{"Tokens", "token"},
	{"Keys", "key"},
	{"The directory", "directory"},
}

var kindsOf = map[string][]denizen.EventKind{
	"user": {
		denizen.EventUserCreated, denizen.EventUserRenamed, denizen.EventUserBlocked,
		denizen.EventUserUnblocked, denizen.EventUserPassed, denizen.EventUserDeleted,
		denizen.EventUserMerged, denizen.EventUserErased,
	},
	"locator": {
		denizen.EventLocatorAdded, denizen.EventLocatorOwned, denizen.EventLocatorVerification,
		denizen.EventLocatorRemoved, denizen.EventLocatorMoved, denizen.EventLocatorRevealed,
		denizen.EventLocatorsSet, denizen.EventLocatorsRestored, denizen.EventUndoCancelled,
	},
	"profile": {
		denizen.EventProfileChanged, denizen.EventAttributeDefined, denizen.EventAttributeDropped,
	},
	"presence": {
		denizen.EventPresenceSet, denizen.EventPresenceCleared,
		denizen.EventPresenceHidden, denizen.EventPresenceShown,
	},
	"token": {denizen.EventTokenIssued, denizen.EventTokenExtended, denizen.EventTokenRevoked},
	"key": {
		denizen.EventAccessKeyCreated, denizen.EventAccessKeyDeleted,
		denizen.EventSigningKeyRotated, denizen.EventSigningKeyDropped,
	},
	"directory": {
		denizen.EventDirectoryFounded, denizen.EventDirectoryRekeyed, denizen.EventDirectoryRestored,
		denizen.EventConsumerReset, denizen.EventConsumerDeleted,
	},
}

// query is what of the feed is shown.
type query struct {
	Group    string
	User     denizen.UserID
	Operator string
	Before   denizen.Seq
}

func (q *query) kinds() []denizen.EventKind { return kindsOf[q.Group] }

// wants reports whether an event is among those that are shown.
func (q *query) wants(e *denizen.Event) bool {
	return (q.User == "" || e.User == q.User || e.Other == q.User) &&
		(q.Group == "" || slices.Contains(q.kinds(), e.Kind)) &&
		(q.Operator == "" || e.Operator == q.Operator)
}
