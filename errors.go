package denizen

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen/store"
)

// The kinds of refusal, for errors.Is. Every error of this package is an *Error of one of
// them.
var (
	// ErrInvalid: a value is missing or breaks its rule. Field and Reason say which.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated: the credential is none of this directory's.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrDenied: this principal may not do this, whether or not the target exists.
	ErrDenied = errors.New("denied")
	// ErrNotFound: there is no such thing. Field says what.
	ErrNotFound = errors.New("not found")
	// ErrTaken: the id, locator, key or definition belongs to another.
	ErrTaken = errors.New("taken")
	// ErrRevoked: the token was revoked, or its user or access key is gone or blocked.
	ErrRevoked = errors.New("revoked")
	// ErrExpired: the token is past its end, or the date of a signed request is too far off.
	ErrExpired = errors.New("expired")
	// ErrLimited: one more would be too many.
	ErrLimited = errors.New("limit reached")
	// ErrConflict: the version is not the expected one (Field "version"), or others kept
	// changing the same user; nothing was changed.
	ErrConflict = errors.New("conflict")
	// ErrMissed: events asked for are forgotten. Resume says where to go on.
	ErrMissed = errors.New("events were forgotten")
	// ErrUnavailable: the store could not answer, or the context ended; nothing was changed.
	ErrUnavailable = errors.New("unavailable")
	// ErrCorrupt: what is stored is damaged, and asking again does not help. It is the error of
	// the same name of package store; nothing was changed.
	ErrCorrupt = store.ErrCorrupt
	// ErrOutcomeUnknown: the change was made whole or not at all, and nobody can say which.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrClosed: the directory was closed.
	ErrClosed = errors.New("closed")
)

// Error is the one error type of this package. Its text holds no secret and nobody's
// locator or attribute, so it may be shown to whoever made the call.
type Error struct {
	Op     string // the method that was refused, such as "CreateUser"
	Kind   error  // one of the Err… values
	Field  string // what was wrong or missing, such as "screenName"; may be empty
	Reason string // the rule, for people; may be empty
	Resume Seq    // with ErrMissed: the sequence to go on after

	// Missing is which of several were not found, taken or not allowed, as the caller spelled
	// them: user ids, token ids, attribute keys or serialized locators. It is set only where the
	// caller may know, and never part of the text: a locator says who somebody is. The slice
	// belongs to whoever received the error.
	Missing []string
	// RetryAfter is how long to wait before asking again, with ErrLimited; zero if waiting
	// does not help.
	RetryAfter time.Duration

	cause error
}

// Error says what was refused and by which rule.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("denizen: ")
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.Error())
	if e.Reason != "" {
		b.WriteString(": ")
		b.WriteString(e.Reason)
	}
	return b.String()
}

// GoString returns what Error says, so that no format prints Missing or the cause.
func (e *Error) GoString() string { return e.Error() }

// Cause answers the error of the store or of a context behind the refusal, or nil. It is for
// logs of the application: its text may name a file.
func (e *Error) Cause() error { return e.cause }

// Unwrap answers the kind and the cause. The cause, an error of the store or of a context,
// is for logs of the application and not in the text.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.cause}
}

// LogValue returns what a log should say of the refusal: op, kind, field, reason and cause,
// without those that are empty. The cause is the one thing here that Error leaves out: it is
// for the application's own logs, and may name a file. Missing is left out, as locators do not
// belong in logs.
func (e *Error) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 5)
	add := func(key, text string) {
		if text != "" {
			attrs = append(attrs, slog.String(key, text))
		}
	}
	add("op", e.Op)
	if e.Kind != nil {
		add("kind", e.Kind.Error())
	}
	add("field", e.Field)
	add("reason", e.Reason)
	if e.cause != nil {
		attrs = append(attrs, slog.Any("cause", e.cause))
	}
	return slog.GroupValue(attrs...)
}

func invalid(field, reason string) error {
	return &Error{Kind: ErrInvalid, Field: field, Reason: reason}
}

func newError(kind error, field, reason string) error {
	return &Error{Kind: kind, Field: field, Reason: reason}
}

// newErrorAbout returns an error that says which of several it is about. Its caller has made sure
// that whoever made the call may know.
func newErrorAbout(kind error, field, reason string, which ...string) error {
	return &Error{Kind: kind, Field: field, Reason: reason, Missing: slices.Clone(which)}
}

// toError returns err, from anywhere below, as the *Error of an operation.
func toError(op string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Op == "" {
			named := *e // it may be the host's, and shared
			named.Op, named.Missing = op, slices.Clone(e.Missing)
			return &named
		}
		return e
	}
	e := &Error{Op: op, Kind: ErrUnavailable, cause: err}
	switch {
	case errors.Is(err, store.ErrClosed):
		e.Kind = ErrClosed
	case errors.Is(err, store.ErrOutcomeUnknown):
		e.Kind = ErrOutcomeUnknown
	case errors.Is(err, store.ErrMissed):
		e.Kind = ErrMissed
	case errors.Is(err, store.ErrCorrupt):
		e.Kind = ErrCorrupt
	}
	return e
}

// wrapOp makes an error the *Error of an operation. It is deferred by each exported method.
func wrapOp(op string, err *error) {
	if *err != nil {
		*err = toError(op, *err)
	}
}
