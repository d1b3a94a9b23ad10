package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// failure is an error of package store with what caused it. Its text names no host, no
// user and nothing that is stored.
type failure struct{ kind, cause error }

func (f *failure) Error() string { return f.kind.Error() + ": " + reason(f.cause) }

// Unwrap leaves out a context that ended here: it is never the caller's.
func (f *failure) Unwrap() []error {
	if errors.Is(f.cause, context.DeadlineExceeded) || errors.Is(f.cause, context.Canceled) {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

func reason(err error) string {
	var answer *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &answer):
		if class := answer.Code[:min(2, len(answer.Code))]; class == "22" || class == "23" {
			return "PostgreSQL answered " + answer.Code // the message may quote what is stored
		}
		return fmt.Sprintf("PostgreSQL answered %s, %s", answer.Code, answer.Message)
	case errors.As(err, &connect):
		return "no connection"
	case pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return "the connection was lost or refused"
}

// code answers the SQLSTATE in err, or "".
func code(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// unavailable says that what was asked was not done.
func unavailable(err error) error {
	kind := store.ErrUnavailable
	switch c := code(err); {
	case c == "XX001" || c == "XX002": // data_corrupted, index_corrupted
		kind = store.ErrCorrupt
	case errors.Is(err, pgx.ErrTxClosed):
		return fmt.Errorf("%w: its transaction has ended", store.ErrClosed)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: the table head has no row", store.ErrCorrupt)
	}
	return &failure{kind, err}
}

// failed translates the error of something asked with ctx, and leaves alone what is an
// error of this module already.
func failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var f *foreign
	if errors.As(err, &f) {
		return f.error
	}
	for _, own := range []error{
		store.ErrInvalid, store.ErrNotEmpty, store.ErrUnavailable, store.ErrCorrupt, store.ErrClosed,
		store.ErrMissed, store.ErrOutcomeUnknown, ErrVersion,
	} {
		if errors.Is(err, own) {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err)
}

// refused says of a role that may not migrate what it may not do.
func refused(err error, version, latest int) error {
	if code(err) != "42501" { // insufficient_privilege
		return err
	}
	return fmt.Errorf("%w: it has version %d, this program needs %d, and the role may not migrate: %w",
		ErrVersion, version, latest, &failure{store.ErrUnavailable, err})
}

// errRolledBack: PostgreSQL answered a COMMIT with ROLLBACK.
var errRolledBack = errors.New("rolled back")

// afterSending says what an error means that came in answer to what was sent together
// with its COMMIT. PostgreSQL's refusal of a step is certain: it then skips the COMMIT. But
// where a session ends, by its server or by a pooler that has lost the server, nobody
// knows how far it came. What pgconn.SafeToRetry says is not to be trusted here: after a
// connection is lost, pgx may answer with the error of a later attempt to read from it.
func afterSending(err error) error {
	var answer *pgconn.PgError
	if errors.Is(err, errRolledBack) ||
		errors.As(err, &answer) && answer.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(answer.Code, "08") {
		return unavailable(err)
	}
	return &failure{store.ErrOutcomeUnknown, err}
}
