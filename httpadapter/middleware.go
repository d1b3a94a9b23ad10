package httpadapter

import (
	"context"
	"crypto/rand"
	"net/http"

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
	return guard(dir, next, func(*call) error { return nil })
}

// Require is Authenticate for a handler that is for users alone: nobody gets 401, and the
// application itself, which is no user, 403.
func Require(dir *denizen.Directory, next http.Handler) http.Handler {
	return guard(dir, next, func(c *call) error {
		switch {
		case c.by.IsAnonymous():
			return badCredential("this needs a credential")
		case !c.by.MayParticipate():
			return c.missingPrivilege()
		}
		return nil
	})
}

// hostRoute stands for a route of the service's own.
var hostRoute = route{operation: "Participate"}

func guard(dir *denizen.Directory, next http.Handler, admit func(*call) error) http.Handler {
	h := &handler{dir: dir, name: rand.Text()[:13]}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{h: h, w: w, r: r, route: &hostRoute}
		err := h.identify(c)
		if err == nil {
			err = admit(c)
		}
		if err != nil {
			c.requestID = h.requestID(r)
			refusal := refused(c, err)
			answer := refusal.reply(c)
			answer.write(c)
			logFailures(r.Context(), Exchange{
				RequestID: c.requestID, Method: r.Method, Credential: c.credential.kind, Caller: c.by,
				Status: refusal.status, ErrorCode: refusal.code, Cause: refusal.cause,
			})
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, c.by)))
	})
}
