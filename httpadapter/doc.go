// Package httpadapter serves a directory over HTTP: the /v1 REST API, as a handler to mount
// on a service's own mux, and the middleware with which a service protects its own routes by
// the same tokens.
//
//	mux.Handle("/v1/", httpadapter.New(dir, httpadapter.Options{}))
//	mux.Handle("/notes", httpadapter.Require(dir, notes))
//
// It decides nothing: who calls is what the directory makes of the credentials, and what the
// caller may do is the directory's word too. [Handler] routes a request, reads it strictly,
// calls one method of the directory and writes what came of it. The OpenAPI document of all
// of it is served at /v1/openapi.json.
//
// # Credentials
//
// The application comes with an access key, in Basic authorization or, where
// [Options.Signed] says so, by signing the request. A user comes with a token: as a Bearer, in
// the header X-Issued-Mitter-User-Authorization, or in a cookie. The application may act for a
// user with X-Mitter-Sudo-User-Id. A credential that is there but wrong is refused, never taken
// for none; so is more than one. All of them want TLS.
//
// # Paths
//
// A path has one spelling. What is not canonical (a double or trailing slash, a dot segment, an
// encoded fixed segment) is 400 or 404 here and never redirected. A [net/http.ServeMux] in front
// does redirect some of these before the handler sees them; a service that minds puts the
// handler in front of its mux.
//
// # Bounds
//
// A body is read up to [Options.MaxBody], and up to 2,048 members and elements. Headers, connections and slow senders are bounded
// by the [net/http.Server]: set its ReadHeaderTimeout, ReadTimeout, IdleTimeout and
// MaxHeaderBytes, as examples/server does. What
// a signed-in user causes by itself too often is 429; nothing else is limited, as nothing here
// can be guessed: [Options.Observe] tells of each refused credential.
//
// # Browsers
//
// A browser adds cookies to requests whoever's page causes them. So a token in a cookie is taken
// for a request that changes something only if the browser does not say that another origin's
// page sent it ([net/http.CrossOriginProtection]). The same holds for a session of the service's
// own, by whatever [Options.Authenticate] finds it. [Options.CrossOrigin] lets origins in.
//
// A page of another origin that has a token sends it in a header instead. Cross-origin sharing
// (CORS) is the service's to grant.
//
// Do not make a header of a cookie. Middleware that reads a session cookie and puts a token into
// the Authorization header hides that the browser sent the request by itself, and any site can
// then cause it. Where that can be seen it is refused: a request by another origin's page that
// changes something, with a token in a header, and that either is of a mode in which no page can
// set headers or carries cookies of the service. Hand over who calls by [Options.Authenticate]
// instead, where nothing needs to be guessed.
package httpadapter
