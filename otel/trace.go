package denizenotel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/denizenhq/denizen"
)

// kinds are what the kinds of errors are called. Those that failed are failures of the directory;
// any other is its answer.
var kinds = []struct {
	kind   error
	name   string
	failed bool
}{
	{denizen.ErrInvalid, "invalid", false},
	{denizen.ErrUnauthenticated, "unauthenticated", false},
	{denizen.ErrDenied, "denied", false},
	{denizen.ErrNotFound, "not_found", false},
	{denizen.ErrTaken, "taken", false},
	{denizen.ErrRevoked, "revoked", false},
	{denizen.ErrExpired, "expired", false},
	{denizen.ErrLimited, "limited", false},
	{denizen.ErrConflict, "conflict", false},
	{denizen.ErrMissed, "missed", false},
	{denizen.ErrClosed, "closed", true},
	{denizen.ErrCorrupt, "corrupt", true},
	{denizen.ErrOutcomeUnknown, "outcome_unknown", true},
	{denizen.ErrUnavailable, "unavailable", true},
}

// status returns what an error is called, "" for none, and whether the directory failed.
func status(err error) (name string, failed bool) {
	if err == nil {
		return "", false
	}
	e, ok := errors.AsType[*denizen.Error](err)
	if !ok {
		return semconv.ErrorTypeOther.Value.AsString(), true
	}
	if e.Kind == denizen.ErrUnavailable {
		switch {
		case errors.Is(err, context.Canceled):
			return "canceled", false
		case errors.Is(err, context.DeadlineExceeded):
			return "deadline_exceeded", true
		}
	}
	for _, k := range kinds {
		if e.Kind == k.kind {
			return k.name, k.failed
		}
	}
	return semconv.ErrorTypeOther.Value.AsString(), true
}

// outcome is what the metric of an operation tells of it.
type outcome struct{ operation, status string }

// record returns how durations of an outcome are recorded.
func (t *Telemetry) record(o outcome, failed bool) []metric.RecordOption {
	if found, ok := t.recorded.Load(o); ok {
		return found.([]metric.RecordOption)
	}
	attributes := []attribute.KeyValue{semconv.DBOperationName(o.operation)}
	attributes = append(attributes, told(o.status, failed)...)
	options := []metric.RecordOption{metric.WithAttributeSet(t.with(attributes...))}
	t.recorded.Store(o, options)
	return options
}

// told is what metrics and spans are told of how an operation ended.
func told(status string, failed bool) (attributes []attribute.KeyValue) {
	if status != "" {
		attributes = append(attributes, semconv.DBResponseStatusCode(status))
	}
	if failed {
		attributes = append(attributes, semconv.ErrorTypeKey.String(status))
	}
	return attributes
}

// observing marks the context of what Observe asks of a directory, which is no operation of the
// program.
type observing struct{}

// Trace is for denizen.Options.Trace.
func (t *Telemetry) Trace(
	ctx context.Context, op denizen.Operation,
) (context.Context, func(error)) {
	if ctx.Value(observing{}) != nil {
		return ctx, nil
	}
	began := time.Now()
	ended := func(ctx context.Context, err error) (code string, failed bool) {
		code, failed = status(err)
		t.duration.Record(ctx, time.Since(began).Seconds(), t.record(outcome{op.Name, code}, failed)...)
		return code, failed
	}
	if op.Lasts {
		of := metric.WithAttributeSet(t.with(semconv.DBOperationName(op.Name)))
		t.active.Add(ctx, 1, of)
		return ctx, func(err error) {
			t.active.Add(ctx, -1, of)
			ended(ctx, err)
		}
	}
	ctx, span := t.tracer.Start(ctx, op.Name, t.start(op)...)
	return ctx, func(err error) {
		if code, failed := ended(ctx, err); span.IsRecording() {
			span.SetAttributes(told(code, failed)...)
			if failed {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// begun is what the span of an operation tells from its start.
type begun struct{ operation, caller string }

// start returns how the span of an operation starts.
func (t *Telemetry) start(op denizen.Operation) []trace.SpanStartOption {
	b := begun{op.Name, op.By.String()}
	if op.By.IsUser() {
		b.caller = "user"
	}
	var options []trace.SpanStartOption
	if found, ok := t.started.Load(b); ok {
		options = found.([]trace.SpanStartOption)
	} else {
		with := t.with(semconv.DBOperationName(b.operation), attribute.String("denizen.caller", b.caller))
		options = []trace.SpanStartOption{
			trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(with.ToSlice()...),
		}
		t.started.Store(b, options)
	}
	if t.userIDs && op.By.IsUser() {
		id := trace.WithAttributes(semconv.EnduserID(op.By.String()))
		return append(options[:len(options):len(options)], id)
	}
	return options
}
