package httpadapter

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// refusal is an answer of 400 or more.
type refusal struct {
	status      int
	code        string
	message     string // for people
	diagnostics map[string]any
	cause       error // for the log alone
	retryAfter  time.Duration
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, message string) *refusal {
	return &refusal{status: status, code: code, message: message}
}

func badSyntax(message string) error {
	return refuse(http.StatusBadRequest, "invalid_input_syntax", message)
}

func badValue(parameter, reason string) error {
	return &refusal{
		status: http.StatusBadRequest, code: "invalid_parameter_set", message: parameter + " " + reason,
		diagnostics: map[string]any{"parameter": parameter, "reason": reason},
	}
}

func badCredential(message string) error {
	return refuse(http.StatusUnauthorized, "authorization_error", message)
}

func noSuchRoute() error {
	return &refusal{
		status: http.StatusNotFound, code: "entity_not_found", message: "there is no such route",
		diagnostics: map[string]any{"entityType": "route"},
	}
}

func missingContext(what string) error {
	return &refusal{
		status: http.StatusForbidden, code: "missing_context", message: "this is not the " + what + " it has to be",
		diagnostics: map[string]any{"missingContext": what},
	}
}

// parameters are the names on the wire of what the directory calls otherwise.
var parameters = map[string]string{
	"id": "userId", "user": "userId", "users": "userIds", "locators": "userLocators",
	"idempotency": "Idempotency-Key", "version": "If-Match", "date": "Date", "nonce": "Nonce",
}

// entities are the kinds of entities that a refusal can be about, by the directory's name
// of the field.
var entities = map[string]string{
	"id": "user", "user": "user", "locator": "locator", "token": "token",
	"attribute": "attribute", "attributeDef": "attributeDef", "key": "attributeDef", "accessKey": "accessKey",
}

// refused makes err, from a credential or a call, the answer to it.
func refused(c *call, err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return &refusal{status: 500, code: "unknown_error", message: "something failed here", cause: err}
	}
	switch e.Kind {
	case denizen.ErrInvalid:
		parameter, reason := e.Field, e.Reason
		if name, ok := parameters[parameter]; ok {
			parameter = name
		}
		return badValue(parameter, reason).(*refusal).missing(e.Missing)
	case denizen.ErrUnauthenticated:
		return refuse(http.StatusUnauthorized, "authorization_error", "the credential is not good")
	case denizen.ErrRevoked:
		return refuse(http.StatusUnauthorized, "token_revoked", "the token was revoked, or its user is blocked or gone")
	case denizen.ErrExpired:
		if e.Field == "date" {
			return refuse(http.StatusUnauthorized, "authorization_error", "the Date is too far from now")
		}
		return &refusal{
			status: http.StatusUnauthorized, code: "claim_rejected", message: "the token is past its end",
			diagnostics: map[string]any{"claimType": "exp", "claimRejectionType": "expired"},
		}
	case denizen.ErrDenied:
		return c.missingPrivilege()
	case denizen.ErrNotFound:
		return c.entity(http.StatusNotFound, "entity_not_found", "there is no such ", e.Field).missing(e.Missing)
	case denizen.ErrTaken:
		r := c.entity(http.StatusConflict, "duplicate_entity", "there is already such a ", e.Field)
		if e.Field == "locator" && c.names["locator"] != "" && len(e.Missing) > 0 { // of those that were asked for
			r.diagnostics["entityLocator"] = strings.Join(e.Missing, ",")
		}
		return r
	case denizen.ErrLimited:
		if e.RetryAfter > 0 {
			return &refusal{
				status: http.StatusTooManyRequests, code: "rate_limited", message: "too much at once: try again later",
				retryAfter: e.RetryAfter,
			}
		}
		return refuse(http.StatusConflict, "limit_exceeded", e.Field+" "+e.Reason)
	case denizen.ErrConflict:
		switch e.Field {
		case "version":
			return refuse(http.StatusPreconditionFailed, "precondition_failed", "it is another version by now")
		case "idempotency":
			return refuse(http.StatusUnprocessableEntity, "idempotency_mismatch", "this Idempotency-Key came with another body before")
		case "key", "signingKey":
			return c.entity(http.StatusConflict, "entity_in_use", "still in use is this ", e.Field)
		}
		return &refusal{status: 503, code: "unavailable", message: "others keep changing it: try again", cause: err}
	case denizen.ErrCorrupt:
		return &refusal{status: 500, code: "unknown_error", message: "something failed here", cause: err}
	case denizen.ErrOutcomeUnknown:
		return &refusal{
			status: 503, code: "unavailable", message: "nobody can say whether this was done", cause: e.Cause(),
			diagnostics: map[string]any{"outcome": "unknown"},
		}
	case denizen.ErrUnavailable, denizen.ErrClosed:
		return c.unavailable(e.Cause())
	}
	return &refusal{status: 500, code: "unknown_error", message: "something failed here", cause: err}
}

// unavailable is the answer where the directory, or the service, could not find out.
func (c *call) unavailable(cause error) *refusal {
	if errors.Is(cause, context.Canceled) && c.r.Context().Err() != nil {
		return refuse(http.StatusBadRequest, "invalid_input_syntax", "the client gave the request up")
	}
	return &refusal{status: 503, code: "unavailable", message: "the directory cannot answer now", cause: cause}
}

// sessionRefused makes err, from Options.Authenticate, the answer to it. What the service found
// wrong with its own session is not for the caller: a refusal by the directory is no other.
func (c *call) sessionRefused(err error) *refusal {
	for _, kind := range [...]error{
		denizen.ErrUnavailable, denizen.ErrClosed, denizen.ErrOutcomeUnknown, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return c.unavailable(err)
		}
	}
	if errors.Is(err, denizen.ErrCorrupt) {
		return &refusal{status: 500, code: "unknown_error", message: "something failed here", cause: err}
	}
	return &refusal{status: 401, code: "authorization_error", message: "the credential is not good", cause: err}
}

// missingPrivilege names what was asked and who asked, and never of whom.
func (c *call) missingPrivilege() *refusal {
	return &refusal{
		status: http.StatusForbidden, code: "missing_privilege", message: "this caller may not do this",
		diagnostics: map[string]any{
			"missingPrivileges": []string{c.route.privilege()},
			"actingEntity":      c.by.String(),
		},
	}
}

// privilege is the operation's name in lower camel case, as the OpenAPI document has it.
func (r *route) privilege() string {
	return strings.ToLower(r.operation[:1]) + r.operation[1:]
}

// missing names which of several are absent, or have no definition, as they were asked for. What
// hides from the caller that something exists has refused it before.
func (r *refusal) missing(which []string) *refusal {
	if len(which) > 0 {
		r.diagnostics["missing"] = which
	}
	return r
}

// entity names what is absent or there already by what the caller asked for.
func (c *call) entity(status int, code, message, field string) *refusal {
	kind, ok := entities[field]
	if !ok {
		kind = field
	}
	return &refusal{
		status: status, code: code, message: message + kind,
		diagnostics: map[string]any{"entityType": kind, "entityLocator": c.asked(kind)},
	}
}
