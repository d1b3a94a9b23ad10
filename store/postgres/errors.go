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

// failure is an error of package store with its cause. Its text contains no host, no user and no
// stored data, so that it may be logged.
type failure struct{ kind, cause error }

func (f *failure) Error() string { return f.kind.Error() + ": " + reason(f.cause) }

// Unwrap hides a cause that is the end of a context. That context was internal, and the caller
// would take it for its own.
func (f *failure) Unwrap() []error {
	if errors.Is(f.cause, context.DeadlineExceeded) || errors.Is(f.cause, context.Canceled) {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

// reason describes err without naming hosts, users or data.
func reason(err error) string {
	var answer *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &answer):
		if class := answer.Code[:min(2, len(answer.Code))]; class == "22" || class == "23" {
			return "PostgreSQL answered " + answer.Code // the message may quote stored data
		}
		return fmt.Sprintf("PostgreSQL answered %s, %s", answer.Code, answer.Message)
	case errors.As(err, &connect):
		return "no connection"
	case pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return "the connection was lost or refused"
}

// code returns the SQLSTATE of err, or "" if it has none.
func code(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// unavailable wraps err in store.ErrUnavailable, or in a more specific error of package store. It
// must only be used if nothing was done.
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

// translate turns err into an error of package store. ctx is the context of the call: if it has
// ended, its error is returned. Errors that belong to this module are returned unchanged.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var f *iteratorError
	if errors.As(err, &f) {
		return f.error
	}
	for _, own := range []error{
		store.ErrInvalid, store.ErrNotEmpty, store.ErrUnavailable, store.ErrCorrupt,
		store.ErrClosed, store.ErrMissed, store.ErrOutcomeUnknown, ErrVersion,
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

// refused turns the error of a migration into an ErrVersion if the role lacks the right to migrate.
func refused(err error, version, latest int) error {
	if code(err) != "42501" { // insufficient_privilege
		return err
	}
	return fmt.Errorf("%w: it has version %d, this program needs %d, and the role may not migrate: %w",
		ErrVersion, version, latest, &failure{store.ErrUnavailable, err})
}

// errRolledBack means that PostgreSQL responded to COMMIT with ROLLBACK.
var errRolledBack = errors.New("rolled back")

// afterSending interprets the error of statements that were sent together with their COMMIT.
//
// If PostgreSQL refuses one of them, it skips the COMMIT, so nothing was applied. Nothing was
// applied either if it has ended the session because the transaction was idle for too long: then it
// was still waiting for them. If the session ends in any other way, because of the server or of a
// pooler that has lost the server, nobody knows how far it came. pgconn.SafeToRetry is of no use
// here: after a connection is lost, pgx may return the error of a later attempt to read from it.
func afterSending(err error) error {
	var answer *pgconn.PgError
	if errors.Is(err, errRolledBack) || errors.As(err, &answer) &&
		(answer.Code == "25P03" || // idle_in_transaction_session_timeout
			answer.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(answer.Code, "08")) {
		return unavailable(err)
	}
	return &failure{store.ErrOutcomeUnknown, err}
}
