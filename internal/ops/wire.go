package ops

import (
	"errors"
	"time"

	"github.com/denizenhq/denizen"
)

// Line is one line of the reply to a query: one of its members is set. A reply whose last line has
// neither End nor Error was cut off.
type Line struct {
	Value any     `json:"value,omitempty"`
	Error *Failed `json:"error,omitempty"`
	End   bool    `json:"end,omitempty"`
}

// Failed is an error on its way through a socket.
type Failed struct {
	Op         string         `json:"op"`
	Kind       string         `json:"kind"`
	Field      string         `json:"field,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Resume     denizen.Cursor `json:"resume,omitempty"`
	RetryAfter time.Duration  `json:"retryAfter,omitempty"`
	Cause      string         `json:"cause,omitempty"`
}

// kinds is the kinds of errors that pass. Any other is ErrUnavailable.
var kinds = []error{
	denizen.ErrInvalid, denizen.ErrDenied, denizen.ErrNotFound, denizen.ErrTaken, denizen.ErrLimited,
	denizen.ErrMissed, denizen.ErrUnavailable, denizen.ErrCorrupt, denizen.ErrClosed,
	denizen.ErrOutcomeUnknown, denizen.ErrConflict, denizen.ErrRevoked,
}

// Pack returns what passes through a socket of an error.
func Pack(err error) *Failed {
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return &Failed{Op: "Read", Kind: denizen.ErrUnavailable.Error(), Cause: err.Error()}
	}
	f := &Failed{
		Op: e.Op, Kind: denizen.ErrUnavailable.Error(), Field: e.Field, Reason: e.Reason,
		Resume: e.Resume, RetryAfter: e.RetryAfter,
	}
	for _, kind := range kinds {
		if e.Kind == kind {
			f.Kind = kind.Error()
		}
	}
	if cause := e.Cause(); cause != nil {
		f.Cause = cause.Error()
	}
	return f
}

// Unpack returns the error that was packed: a [denizen.Error], and what was behind it.
func (f *Failed) Unpack() error {
	e := &denizen.Error{
		Op: f.Op, Kind: denizen.ErrUnavailable, Field: f.Field, Reason: f.Reason, Resume: f.Resume,
		RetryAfter: f.RetryAfter,
	}
	for _, kind := range kinds {
		if kind.Error() == f.Kind {
			e.Kind = kind
		}
	}
	if f.Cause == "" {
		return e
	}
	return &RemoteError{e, f.Cause}
}

// RemoteError is an error of another process, with the text of what was behind it.
type RemoteError struct {
	Err     *denizen.Error
	Because string
}

// Error returns the text of the error, without what was behind it.
func (e *RemoteError) Error() string { return e.Err.Error() }

// Unwrap returns the error, for errors.Is.
func (e *RemoteError) Unwrap() error { return e.Err }
