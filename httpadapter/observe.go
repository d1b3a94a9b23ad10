package httpadapter

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// Exchange is a request and what became of it, for logs, metrics and alarms. It holds no secret,
// token, locator, query or body. It logs itself as a group of attributes.
type Exchange struct {
	RequestID string // also in the X-Request-Id header and in the body of a refusal
	Method    string
	Route     string // its pattern, such as "/v1/users/{userId}"; "" if there is none
	Operation string // the directory's method, such as "CreateUser"; may be ""

	// Credential is how the caller was identified: "token", "cookie", "basic", "signed", "session"
	// where Options.Authenticate found it, or "" for none that is known.
	Credential string
	Refused    bool // the credential was refused: it is not good, doubled or malformed
	Caller     denizen.Principal

	Status    int
	ErrorCode string // of a refusal, such as "token_revoked"
	Duration  time.Duration

	// Cause is the error behind a status of 500 and above, or one of Options.Authenticate. Its text
	// may name a file, and is for logs.
	Cause error
	// Damaged are users whose stored records cannot be read. A list leaves them out, or shows them
	// without their attributes. Observe may keep the slice.
	Damaged []denizen.UserID
}

// LogValue returns what a log line should say of x. It names the caller by user id and access key.
func (x Exchange) LogValue() slog.Value {
	attributes := []slog.Attr{
		slog.String("request_id", x.RequestID),
		slog.String("method", x.Method),
		slog.String("route", x.Route),
		slog.Int("status", x.Status),
		slog.Duration("duration", x.Duration),
		slog.String("caller", x.Caller.String()),
	}
	if key := x.Caller.AccessKey(); key != "" {
		attributes = append(attributes, slog.String("access_key", key))
	}
	if x.Credential != "" {
		attributes = append(attributes, slog.String("credential", x.Credential))
	}
	if x.Refused {
		attributes = append(attributes, slog.Bool("refused", true))
	}
	if x.ErrorCode != "" {
		attributes = append(attributes, slog.String("error_code", x.ErrorCode))
	}
	if len(x.Damaged) > 0 {
		attributes = append(attributes, slog.Any("damaged", x.Damaged))
	}
	if x.Cause != nil {
		attributes = append(attributes, slog.String("cause", x.Cause.Error()))
	}
	return slog.GroupValue(attributes...)
}

// logFailures is Observe where a service has none.
func logFailures(ctx context.Context, x Exchange) {
	if x.Status >= http.StatusInternalServerError {
		slog.ErrorContext(ctx, "denizen: a request failed", "request", x)
	} else if len(x.Damaged) > 0 {
		slog.WarnContext(ctx, "denizen: users in a list cannot be read", "request", x)
	}
}

// requestID returns the id that a proxy gave the request, or else a new one that no other request
// has.
func requestID(r *http.Request) string { return wire.RequestID(r.Header["X-Request-Id"]) }
