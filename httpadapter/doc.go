// Package httpadapter serves a directory over HTTP: the /v1 REST API, as a handler to mount on a
// service's own mux, and middleware that protects the service's own routes by the same tokens.
//
//	mux.Handle("/v1/", httpadapter.New(dir, httpadapter.Options{}))
//	mux.Handle("/notes", httpadapter.Require(dir, notes))
//
// It decides nothing. Who calls is what the directory makes of the credentials, and what the caller
// may do is the directory's word, too. The handler routes a request, reads it strictly, calls one
// method of the directory and writes what came of it. The OpenAPI document of all of it is served
// at /v1/openapi.json.
//
// # Credentials
//
// The application comes with an access key: in Basic authorization or, where [Options.Signed] says
// so, by signing the request. A user comes with a token: as a Bearer, in the header
// X-Issued-Mitter-User-Authorization, or in a cookie ([SetTokenCookie]). The application may act
// for a user with X-Mitter-Sudo-User-Id. A service with sessions of its own says who calls by
// [Options.Authenticate].
//
// A credential that is not good is refused and never taken for none. So is more than one. All of
// them need TLS.
//
// # Browsers
//
// A browser adds cookies to a request whichever page causes it. So a token in a cookie is taken for
// a request that changes something only if the browser does not say that another origin's page
// sent it ([net/http.CrossOriginProtection]). The same holds for a session of the service's own,
// whatever [Options.Authenticate] read it from. [Options.CrossOrigin] lets origins in.
//
// A page of another origin that has a token sends it in a header instead. Cross-origin sharing
// (CORS) is the service's to grant.
//
// Do not make a header of a cookie. Middleware that reads a session cookie and puts a token into
// the Authorization header hides that the browser sent the request by itself, and any site can then
// cause it. Where that can be seen it is refused: a request by another origin's page that changes
// something, with a credential in a header, and that either is of a mode in which no page can set
// headers or carries cookies of the service. Say who calls by [Options.Authenticate] instead, where
// nothing has to be guessed.
//
// # Types of locators
//
// A published client knows e-mail addresses and telephone numbers, and may fail at a locator of
// another type ([denizen.Options.LocatorTypes]). So those of other types are left out of
// userLocators and of lists of locators, unless the request has the query parameter
// locatorTypes=all. A list that is set without it is one that was read without it: those of other
// types stay, in their places. The ETag of a user is of what is shown, so If-Match goes with the
// parameter of the request that it is from.
//
// Where a request names one locator nothing is left out: in a path in place of a user's id, in
// the query parameter locators, and by its id. That parameter is split at commas, so what it asks
// for holds none. An external identity with a comma is found by Directory.Locate, not over HTTP.
//
// # Bounds
//
// A body is read up to [Options.MaxBody], and up to 2,048 members and elements. Headers,
// connections and slow senders are bounded by the [net/http.Server]: set its ReadHeaderTimeout,
// ReadTimeout, IdleTimeout and MaxHeaderBytes, as examples/server does.
//
// An event stream outlives ReadTimeout and WriteTimeout: each write has a deadline of its own, of
// 15 seconds. There are 16 streams of one caller and [Options.MaxStreams] in all; one more is 429.
// A stream ends when its caller is not valid any more, which is asked every 15 seconds.
//
// What a signed-in user changes too often is 429. Nothing else is limited, as nothing here can be
// guessed. [Options.Observe] is told of each refused credential.
//
// # Paths
//
// A path has one spelling. One that is not canonical (a double or trailing slash, a dot segment, an
// encoded fixed segment) is 400 or 404 and never redirected. A [net/http.ServeMux] in front
// redirects some of these before the handler sees them. Put the handler in front of the mux where
// that matters.
package httpadapter
