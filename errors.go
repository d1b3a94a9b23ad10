package denizen

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen/store"
)

// The kinds of errors, for [errors.Is]. Every error of this package is an [*Error] of one of them.
var (
	// ErrInvalid: a value is missing or breaks its rule. Field and Reason say which.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated: the credential was not issued by this directory.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrDenied: this Principal may not do this, whether or not the target exists.
	ErrDenied = errors.New("denied")
	// ErrNotFound: something does not exist. Field says what.
	ErrNotFound = errors.New("not found")
	// ErrTaken: the id, locator, key or definition exists already. Field says which.
	ErrTaken = errors.New("taken")
	// ErrRevoked: the token was revoked, or its user or access key is gone or blocked.
	ErrRevoked = errors.New("revoked")
	// ErrExpired: the token is past its end, or the date of a signed request is too far from now.
	ErrExpired = errors.New("expired")
	// ErrLimited: one more would be too many. RetryAfter is set if waiting helps.
	ErrLimited = errors.New("limit reached")
	// ErrConflict: the version is not the expected one (Field "version"), or others kept changing
	// the same records. Nothing was changed.
	ErrConflict = errors.New("conflict")
	// ErrMissed: events were trimmed before they were read, or the cursor is of another history than
	// the store's, which may have been put back. Resume says where to go on. A reader of
	// [Directory.WatchPresence] was too slow, and that goes on.
	ErrMissed = errors.New("events were forgotten")
	// ErrUnavailable: the store failed, or the context ended. Nothing was changed.
	ErrUnavailable = errors.New("unavailable")
	// ErrCorrupt: what is stored is damaged, and trying again does not help. Nothing was changed.
	// It is the error of the same name of package store.
	ErrCorrupt = store.ErrCorrupt
	// ErrOutcomeUnknown: the change was made whole or not at all, and the store cannot say which.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrClosed: the directory or its store was closed.
	ErrClosed = errors.New("closed")
)

// Error is the one type of errors of this package. Its text holds no secret, and nobody's locator
// or attribute, so it may be shown to the caller.
type Error struct {
	Op     string // the method that failed, such as "CreateUser"
	Kind   error  // one of the Err… values
	Field  string // what was wrong or missing, such as "screenName"; may be empty
	Reason string // the rule, for people; may be empty
	Resume Cursor // with ErrMissed: the place to go on after

	// Missing is which of several were not found, taken, damaged or not allowed: user ids, token
	// ids, attribute keys or serialized locators, as the caller spelled them. It is set only where
	// the caller may know them. It is not part of the text, because a locator says who somebody
	// is. The slice belongs to whoever received the error.
	Missing []string
	// RetryAfter is how long to wait before trying again, with ErrLimited. It is zero if waiting
	// does not help.
	RetryAfter time.Duration

	cause error
}

// Error returns the method, Field, Kind and Reason as text.
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

// GoString returns what Error does, so that no format prints Missing or the cause.
func (e *Error) GoString() string { return e.Error() }

// Cause returns the error of the store or of a context that is behind e, or nil. It is for the
// application's own log: its text may name a file.
func (e *Error) Cause() error { return e.cause }

// Unwrap returns the kind and the cause, for [errors.Is] and [errors.As].
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.cause}
}

// LogValue returns op, kind, field, reason and cause, for the application's own log, without those
// that are empty. The cause may name a file. Missing is left out, because locators do not belong in
// logs.
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

// newErrorAbout returns an error whose Missing is which. The caller makes sure that whoever made
// the call may know.
func newErrorAbout(kind error, field, reason string, which ...string) error {
	return &Error{Kind: kind, Field: field, Reason: reason, Missing: slices.Clone(which)}
}

// toError returns err as the *Error of a method.
func toError(op string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Op == "" {
			named := *e // it may come from Options.MaySee and be shared
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

// wrapOp makes an error the *Error of a method. What has no context defers it; the rest defers the
// end of Directory.trace, which does it too.
func wrapOp(op string, err *error) {
	if *err != nil {
		*err = toError(op, *err)
	}
}
