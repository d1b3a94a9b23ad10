package denizenotel

import (
	"errors"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/denizenhq/denizen/otel"

// Options are the settings of [New]. The zero value is good.
type Options struct {
	// MeterProvider and TracerProvider are where metrics and spans go. Nil: those that are set with
	// package otel when New is called, or later.
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider
	// Attributes are added to every metric and span. Set some to tell several directories of one
	// program apart, whose figures are mixed up otherwise.
	Attributes []attribute.KeyValue
	// UserIDs adds enduser.id to spans, the id of the user who calls. It is in no metric.
	UserIDs bool
}

// Telemetry makes metrics and spans of what directories do. It is safe for concurrent use.
type Telemetry struct {
	common   []attribute.KeyValue // of everything
	userIDs  bool
	tracer   trace.Tracer
	meter    metric.Meter
	duration metric.Float64Histogram
	active   metric.Int64UpDownCounter
	// What is told again and again, as often as there are operations and their outcomes.
	started  sync.Map // begun to []trace.SpanStartOption
	recorded sync.Map // outcome to []metric.RecordOption
}

// durations are the bounds of the histogram that the convention says, in seconds.
var durations = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

// New returns a Telemetry. Give its Trace to a directory, and the directory to its Observe. An
// error is that of a provider that refuses an instrument.
func New(o Options) (*Telemetry, error) {
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	t := &Telemetry{
		common:  append([]attribute.KeyValue{semconv.DBSystemNameKey.String("denizen")}, o.Attributes...),
		userIDs: o.UserIDs,
		tracer:  o.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:   o.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
	}
	var refused, alsoRefused error
	t.duration, refused = t.meter.Float64Histogram("db.client.operation.duration",
		metric.WithUnit("s"), metric.WithDescription("Duration of database client operations."),
		metric.WithExplicitBucketBoundaries(durations...))
	t.active, alsoRefused = t.meter.Int64UpDownCounter("denizen.operation.active",
		metric.WithUnit("{operation}"), metric.WithDescription("Operations under way that last."))
	if err := errors.Join(refused, alsoRefused); err != nil {
		return nil, err
	}
	return t, nil
}

// with returns the attributes of everything, and some more.
func (t *Telemetry) with(more ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(append(append(make([]attribute.KeyValue, 0, 8), t.common...), more...)...)
}
