package httpadapter

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// refusal is a response of 400 or more, as an error.
type refusal struct {
	status      int
	code        string
	message     string // for people
	diagnostics map[string]any
	cause       error // for Observe alone
	retryAfter  time.Duration
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func newRefusal(status int, code, message string) *refusal {
	return &refusal{status: status, code: code, message: message}
}

func badSyntax(message string) error {
	return newRefusal(http.StatusBadRequest, "invalid_input_syntax", message)
}

func badValue(parameter, reason string) error {
	return &refusal{
		status: http.StatusBadRequest, code: "invalid_parameter_set",
		message:     parameter + " " + reason,
		diagnostics: map[string]any{"parameter": parameter, "reason": reason},
	}
}

func badCredential(message string) error {
	return newRefusal(http.StatusUnauthorized, "authorization_error", message)
}

func noSuchRoute() error {
	return &refusal{
		status: http.StatusNotFound, code: "entity_not_found", message: "there is no such route",
		diagnostics: map[string]any{"entityType": "route"},
	}
}

func missingContext(what string) error {
	return &refusal{
		status: http.StatusForbidden, code: "missing_context",
		message:     "this is not the " + what + " it has to be",
		diagnostics: map[string]any{"missingContext": what},
	}
}

// parameters are the names on the wire of fields that the directory calls otherwise.
var parameters = map[string]string{
	"id": "userId", "user": "userId", "users": "userIds", "locators": "userLocators",
	"idempotency": "Idempotency-Key", "version": "If-Match", "date": "Date", "nonce": "Nonce",
}

// entities are the kinds of entities that a refusal can be about, by the directory's field.
var entities = map[string]string{
	"id": "user", "user": "user", "locator": "locator", "token": "token",
	"attribute": "attribute", "attributeDef": "attributeDef", "key": "attributeDef",
	"accessKey": "accessKey",
}

// toRefusal returns the response to err, which comes from a credential or a call of the directory.
// It decides by data alone: texts are passed on to people and may change.
func toRefusal(c *call, err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return unknownError(err)
	}
	switch e.Kind {
	case denizen.ErrInvalid:
		parameter, reason := e.Field, e.Reason
		if name, ok := parameters[parameter]; ok {
			parameter = name
		}
		return badValue(parameter, reason).(*refusal).missing(e.Missing)
	case denizen.ErrUnauthenticated:
		return newRefusal(http.StatusUnauthorized, "authorization_error", "the credential is not good")
	case denizen.ErrRevoked:
		return newRefusal(http.StatusUnauthorized, "token_revoked",
			"the token was revoked, or its user is blocked or gone")
	case denizen.ErrExpired:
		if e.Field == "date" {
			return newRefusal(http.StatusUnauthorized, "authorization_error",
				"the Date is too far from now")
		}
		return &refusal{
			status: http.StatusUnauthorized, code: "claim_rejected",
			message:     "the token is past its end",
			diagnostics: map[string]any{"claimType": "exp", "claimRejectionType": "expired"},
		}
	case denizen.ErrDenied:
		if e.Field == "proof" {
			return newRefusal(http.StatusForbidden, "proof_refused",
				"the code is wrong, used or too old: ask for a new one")
		}
		return c.missingPrivilege()
	case denizen.ErrNotFound:
		r := c.entity(http.StatusNotFound, "entity_not_found", "there is no such ", e.Field)
		return r.missing(e.Missing)
	case denizen.ErrTaken:
		r := c.entity(http.StatusConflict, "duplicate_entity", "there is already such a ", e.Field)
		named := e.Field == "attribute" || e.Field == "locator" && c.names["locator"] != ""
		if named && len(e.Missing) > 0 {
			// Of several, the caller may know which.
			r.diagnostics["entityLocator"] = strings.Join(e.Missing, ",")
		}
		return r
	case denizen.ErrLimited:
		if e.RetryAfter > 0 {
			return &refusal{
				status: http.StatusTooManyRequests, code: "rate_limited",
				message: "too much at once: try again later", retryAfter: e.RetryAfter,
			}
		}
		return newRefusal(http.StatusConflict, "limit_exceeded", e.Field+" "+e.Reason)
	case denizen.ErrConflict:
		switch e.Field {
		case "version":
			return newRefusal(http.StatusPreconditionFailed, "precondition_failed",
				"it is another version by now")
		case "idempotency":
			return newRefusal(http.StatusUnprocessableEntity, "idempotency_mismatch",
				"this Idempotency-Key came with another body before")
		case "key", "signingKey":
			return c.entity(http.StatusConflict, "entity_in_use", "still in use is this ", e.Field)
		}
		return &refusal{
			status: 503, code: "unavailable",
			message: "others keep changing it: try again", cause: err,
		}
	case denizen.ErrOutcomeUnknown:
		return &refusal{
			status: 503, code: "unavailable", cause: e.Cause(),
			message:     "nobody can say whether this was done",
			diagnostics: map[string]any{"outcome": "unknown"},
		}
	case denizen.ErrUnavailable, denizen.ErrClosed:
		return c.unavailable(e.Cause())
	}
	return unknownError(err)
}

// unknownError is the response to what is nobody's fault but the service's.
func unknownError(cause error) *refusal {
	return &refusal{
		status: 500, code: "unknown_error", message: "something failed here", cause: cause,
	}
}

// unavailable is the response where the directory, or the service, could not find out.
func (c *call) unavailable(cause error) *refusal {
	if errors.Is(cause, context.Canceled) && c.r.Context().Err() != nil {
		return newRefusal(http.StatusBadRequest, "invalid_input_syntax",
			"the client gave the request up")
	}
	return &refusal{
		status: 503, code: "unavailable", message: "the directory cannot answer now", cause: cause,
	}
}

// sessionRefused returns the response to err, which comes from Options.Authenticate. What is wrong
// with the session is for the service alone to know, so every refusal is the same.
func (c *call) sessionRefused(err error) *refusal {
	for _, kind := range [...]error{
		denizen.ErrUnavailable, denizen.ErrClosed, denizen.ErrOutcomeUnknown,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return c.unavailable(err)
		}
	}
	if errors.Is(err, denizen.ErrCorrupt) {
		return unknownError(err)
	}
	return &refusal{
		status: 401, code: "authorization_error", message: "the credential is not good", cause: err,
	}
}

// missingPrivilege names what was asked for and who asked, never of whom: that would tell whether
// somebody is there.
func (c *call) missingPrivilege() *refusal {
	return &refusal{
		status: http.StatusForbidden, code: "missing_privilege",
		message: "this caller may not do this",
		diagnostics: map[string]any{
			"missingPrivileges": []string{c.route.privilege()},
			"actingEntity":      c.by.String(),
		},
	}
}

// privilege returns the operation in lower camel case, as the OpenAPI document has it.
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

// entity is the refusal for what is absent, or there already. It names that as the caller did.
func (c *call) entity(status int, code, message, field string) *refusal {
	kind, ok := entities[field]
	if !ok {
		kind = field
	}
	return &refusal{
		status: status, code: code, message: message + kind,
		diagnostics: map[string]any{"entityType": kind, "entityLocator": c.nameAsked(kind)},
	}
}
