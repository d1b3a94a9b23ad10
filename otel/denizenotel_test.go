package denizenotel_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	denizenotel "github.com/denizenhq/denizen/otel"
)

var sys = denizen.System()

// collected is where metrics and spans of a test go.
type collected struct {
	*denizenotel.Telemetry
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
}

func collect(t testing.TB, o denizenotel.Options) *collected {
	c := &collected{reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	o.MeterProvider = metric.NewMeterProvider(metric.WithReader(c.reader))
	o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(c.spans))
	var err error
	c.Telemetry, err = denizenotel.New(o)
	require.NoError(t, err)
	return c
}

// figures returns what is collected now, as "name{key=value,…}" and its value: the sum of a histogram's
// counts.
func (c *collected) figures(t testing.TB) (figures map[string]float64, err error) {
	var all metricdata.ResourceMetrics
	err = c.reader.Collect(context.Background(), &all)
	figures = map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, "github.com/denizenhq/denizen/otel", scope.Scope.Name)
		for _, m := range scope.Metrics {
			require.NotEmpty(t, m.Description, m.Name)
			require.NotEmpty(t, m.Unit, m.Name)
			add := func(of attribute.Set, value float64) {
				system, _ := of.Value("db.system.name")
				require.Equal(t, "denizen", system.AsString(), m.Name)
				of, _ = of.Filter(func(kv attribute.KeyValue) bool { return kv.Key != "db.system.name" })
				figures[m.Name+"{"+of.Encoded(attribute.DefaultEncoder())+"}"] = value
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					require.Equal(t, []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}, p.Bounds)
					add(p.Attributes, float64(p.Count))
				}
			default:
				require.Fail(t, "another kind of metric", "%s is %T", m.Name, m.Data)
			}
		}
	}
	return figures, err
}

func (c *collected) figuresNow(t testing.TB) map[string]float64 {
	t.Helper()
	figures, err := c.figures(t)
	require.NoError(t, err)
	return figures
}

// attributes of a span as text.
func attributesOf(s sdktrace.ReadOnlySpan) string {
	set := attribute.NewSet(s.Attributes()...)
	return set.Encoded(attribute.DefaultEncoder())
}

func TestAnOperationIsASpanAndADuration(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t, denizen.Options{Trace: c.Trace})
	alice := denizentest.User(t, dir, "Alice")
	by := denizentest.Principal(t, dir, alice.ID)
	within, parent := sdktrace.NewTracerProvider().Tracer("").Start(t.Context(), "request")
	_, err := dir.User(within, by, alice.ID)
	require.NoError(t, err)
	_, err = dir.User(within, sys, "nobody-of-the-world")
	require.ErrorIs(t, err, denizen.ErrNotFound)
	spans := c.spans.Ended()
	found, refused := spans[len(spans)-2], spans[len(spans)-1]
	for _, s := range []sdktrace.ReadOnlySpan{found, refused} {
		require.Equal(t, "User", s.Name())
		require.Equal(t, trace.SpanKindInternal, s.SpanKind())
		require.Equal(t, parent.SpanContext().SpanID(), s.Parent().SpanID())
		require.Equal(t, codes.Unset, s.Status().Code, "the directory answered")
		require.Empty(t, s.Events())
		require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", s.InstrumentationScope().SchemaURL)
	}
	require.Equal(t, "db.operation.name=User,db.system.name=denizen,denizen.caller=user", attributesOf(found))
	require.Equal(t, "db.operation.name=User,db.response.status_code=not_found,db.system.name=denizen,"+
		"denizen.caller=.system", attributesOf(refused))
	figures := c.figuresNow(t)
	require.EqualValues(t, 1, figures["db.client.operation.duration{db.operation.name=User}"])
	require.EqualValues(t, 1, figures["db.client.operation.duration{db.operation.name=User,db.response.status_code=not_found}"])
	require.EqualValues(t, 1, figures["db.client.operation.duration{db.operation.name=CreateUser}"])
}

func TestAFailureOfTheDirectoryIsAnError(t *testing.T) {
	for fault, want := range map[denizentest.Fault]string{
		denizentest.Unavailable: "unavailable",
		denizentest.Made:        "outcome_unknown",
		denizentest.Lost:        "outcome_unknown",
		denizentest.Corrupt:     "corrupt",
	} {
		c := collect(t, denizenotel.Options{})
		dir, faults := denizentest.Faulty(t, denizen.Options{Trace: c.Trace})
		faults.Begin(fault)
		_, err := dir.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Alice"})
		require.Error(t, err)
		span := c.spans.Ended()[0]
		require.Equal(t, sdktrace.Status{Code: codes.Error}, span.Status(), "without a text that may name a file")
		require.Contains(t, attributesOf(span), "error.type="+want)
		require.Contains(t, attributesOf(span), "db.response.status_code="+want)
		require.EqualValues(t, 1, c.figuresNow(t)["db.client.operation.duration{"+
			"db.operation.name=CreateUser,db.response.status_code="+want+",error.type="+want+"}"])
	}
}

func TestTheEndOfTheCallersContextIsNoFailureIfTheCallerEndedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, denizenotel.Options{})
		dir, faults := denizentest.Faulty(t, denizen.Options{Trace: c.Trace})
		faults.Begin(denizentest.Hanging)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := dir.User(ctx, sys, "nobody-of-the-world")
		require.ErrorIs(t, err, context.Canceled)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = dir.User(ctx, sys, "nobody-of-the-world")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		gaveUp, late := c.spans.Ended()[0], c.spans.Ended()[1]
		require.Equal(t, codes.Unset, gaveUp.Status().Code)
		require.Contains(t, attributesOf(gaveUp), "db.response.status_code=canceled")
		require.NotContains(t, attributesOf(gaveUp), "error.type")
		require.Equal(t, codes.Error, late.Status().Code)
		require.Contains(t, attributesOf(late), "error.type=deadline_exceeded")
		require.Equal(t, time.Second, late.EndTime().Sub(late.StartTime()))
		require.Len(t, c.figuresNow(t), 2, "recorded, although their contexts had ended")
	})
}

func TestAPanicIsAnError(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t, denizen.Options{Trace: c.Trace, MaySee: func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) {
		panic("the host's")
	}})
	by := denizentest.Principal(t, dir, denizentest.User(t, dir, "Alice").ID)
	require.Panics(t, func() { _, _ = dir.User(t.Context(), by, "bob-of-the-world") })
	spans := c.spans.Ended()
	require.Contains(t, attributesOf(spans[len(spans)-1]), "error.type=_OTHER")
}

func TestWhatLastsIsCountedAndNoSpan(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t, denizen.Options{Trace: c.Trace})
	ctx, cancel := context.WithCancel(t.Context())
	err := dir.Notify(ctx, sys, "indexer", func(ctx context.Context, _ []denizen.Event) error {
		require.False(t, trace.SpanContextFromContext(ctx).IsValid(), "years of deliveries would be one trace")
		require.EqualValues(t, 1, c.figuresNow(t)["denizen.operation.active{db.operation.name=Notify}"])
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, c.spans.Started())
	figures := c.figuresNow(t)
	require.Zero(t, figures["denizen.operation.active{db.operation.name=Notify}"])
	require.EqualValues(t, 1, figures["db.client.operation.duration{db.operation.name=Notify,db.response.status_code=canceled}"])
}

func TestIDsOfUsersAreToldOnlyIfTheyAreAskedFor(t *testing.T) {
	for _, ids := range []bool{false, true} {
		c := collect(t, denizenotel.Options{UserIDs: ids, Attributes: []attribute.KeyValue{attribute.String("db.namespace", "people")}})
		dir := denizentest.New(t, denizen.Options{Trace: c.Trace})
		alice := denizentest.User(t, dir, "Alice")
		by := denizentest.Principal(t, dir, alice.ID)
		require.NoError(t, dir.SetPresence(t.Context(), by, alice.ID, denizen.Online(time.Minute)))
		told := 0
		for _, s := range c.spans.Ended() {
			require.Contains(t, attributesOf(s), "db.namespace=people")
			if strings.Contains(attributesOf(s), string(alice.ID)) {
				require.Contains(t, attributesOf(s), "enduser.id="+string(alice.ID))
				told++
			}
		}
		require.Equal(t, ids, told > 0)
		for name := range c.figuresNow(t) {
			require.NotContains(t, name, string(alice.ID))
			require.Contains(t, name, "db.namespace=people")
		}
	}
}

// The canaries are in every argument that holds something of a person, or a secret.
func TestNothingThatIsPassedToADirectoryIsTold(t *testing.T) {
	c := collect(t, denizenotel.Options{UserIDs: true})
	dir, faults := denizentest.Faulty(t, denizen.Options{Trace: c.Trace})
	ask := func() {
		ctx := t.Context()
		_, _ = dir.Authenticate(ctx, "canary.canary.canary")
		_, _ = dir.AuthenticateKey(ctx, "canary", "canary")
		_, _ = dir.AuthenticateSigned(ctx, denizen.SignedRequest{AccessKey: "canary", Digest: "canary", Nonce: "canary"})
		_, _ = dir.CreateUser(ctx, sys, denizen.NewUser{
			ID: "canary-canary", ScreenName: "canary", Locators: []denizen.NewLocator{denizen.Email("canary@example.org")},
		})
		_, _ = dir.ResolveUser(ctx, sys, "email:canary@example.org")
		_, _ = dir.UsersByLocator(ctx, sys, []string{"email:canary@example.org"})
		_, _ = dir.AddLocator(ctx, sys, "canary-canary", denizen.Email("canary@"))
		_, _ = dir.User(ctx, sys, "canary-canary")
		_, _ = dir.SetAttribute(ctx, sys, "canary-canary", denizen.Attribute{Key: "canary", Value: "canary"})
		_ = dir.Notify(ctx, sys, "canary canary", nil)
		_ = dir.DeleteConsumer(ctx, sys, "canary")
	}
	for _, fault := range []denizentest.Fault{0, denizentest.Unavailable, denizentest.Lost} {
		if fault != 0 {
			faults.Begin(fault)
		}
		ask()
	}
	require.NotEmpty(t, c.spans.Ended())
	for _, s := range c.spans.Ended() {
		require.NotContains(t, fmt.Sprintf("%s %s %v %+v", s.Name(), attributesOf(s), s.Events(), s.Status()), "canary")
	}
	for name := range c.figuresNow(t) {
		require.NotContains(t, name, "canary")
	}
}

func TestObserveTellsTheFiguresOfADirectory(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t, denizen.Options{Trace: c.Trace})
	stop, err := c.Observe(dir, sys)
	require.NoError(t, err)
	alice := denizentest.User(t, dir, "Alice")
	_, err = dir.Authenticate(t.Context(), denizentest.Token(t, dir, alice.ID))
	require.NoError(t, err)
	require.NoError(t, dir.ResetConsumer(t.Context(), sys, "indexer", ""))
	figures := c.figuresNow(t)
	for _, span := range c.spans.Ended() {
		require.NotContains(t, []string{"Stats", "Health"}, span.Name(), "it is no operation of the program")
	}
	require.NotContains(t, fmt.Sprint(figures), "db.operation.name=Stats")
	s := stats(t, dir)
	for name, want := range map[string]float64{
		"denizen.health.status{denizen.health.state=ready}":                                    1,
		"denizen.health.status{denizen.health.state=degraded}":                                 0,
		"denizen.health.status{denizen.health.state=poisoned}":                                 0,
		"denizen.cache.entry.count{denizen.cache.name=records}":                                float64(s.Records.Entries),
		"denizen.cache.entry.count{denizen.cache.name=tokens}":                                 1,
		"denizen.cache.usage{denizen.cache.name=tokens}":                                       float64(s.Tokens.Bytes),
		"denizen.cache.limit{denizen.cache.name=watches}":                                      float64(s.Watched.Limit),
		"denizen.commits{denizen.commit.outcome=applied}":                                      float64(s.Commits.Applied),
		"denizen.commits{denizen.commit.outcome=conflict}":                                     0,
		"denizen.commits{denizen.commit.outcome=failed}":                                       0,
		"denizen.commit.waiting{}":                                                             0,
		"denizen.commit.time{}":                                                                s.Commits.Took.Seconds(),
		"denizen.commit.groups{denizen.commit.group.size=1}":                                   float64(s.Commits.Groups),
		"denizen.commit.groups{denizen.commit.group.size=2}":                                   0,
		"denizen.commit.groups{denizen.commit.group.size=3-4}":                                 0,
		"denizen.commit.groups{denizen.commit.group.size=2049-4096}":                           0,
		"denizen.heartbeat.waiting{}":                                                          0,
		"denizen.feed.first{}":                                                                 float64(s.First),
		"denizen.feed.head{}":                                                                  float64(s.Head),
		"denizen.consumer.lag{denizen.consumer.name=indexer}":                                  float64(s.Head),
		"denizen.consumer.status{denizen.consumer.name=indexer,denizen.consumer.state=stuck}":  0,
		"denizen.consumer.status{denizen.consumer.name=indexer,denizen.consumer.state=missed}": 0,
	} {
		got, ok := figures[name]
		require.True(t, ok, "%s is not told", name)
		require.InDelta(t, want, got, 1e-9, name)
	}
	require.Positive(t, s.Tokens.Bytes)
	require.Positive(t, figures["denizen.cache.misses{denizen.cache.name=records}"])
	require.NoError(t, stop())
	for name := range c.figuresNow(t) {
		require.False(t, strings.HasPrefix(name, "denizen.feed"), "%s is told after stop", name)
	}
}

func stats(t testing.TB, dir *denizen.Directory) denizen.Stats {
	s, err := dir.Stats(t.Context(), sys)
	require.NoError(t, err)
	return s
}

func TestObserveTellsHealthWhileTheStoreDoesNotAnswer(t *testing.T) {
	for _, fault := range []denizentest.Fault{denizentest.Unavailable, denizentest.Hanging} {
		synctest.Test(t, func(t *testing.T) {
			c := collect(t, denizenotel.Options{})
			dir, faults := denizentest.Faulty(t)
			_, err := c.Observe(dir, sys)
			require.NoError(t, err)
			faults.Begin(fault)
			began := time.Now()
			figures, err := c.figures(t)
			require.ErrorIs(t, err, denizen.ErrUnavailable)
			require.LessOrEqual(t, time.Since(began), 2*time.Second)
			require.Equal(t, map[string]float64{
				"denizen.health.status{denizen.health.state=ready}":    0,
				"denizen.health.status{denizen.health.state=degraded}": 1,
				"denizen.health.status{denizen.health.state=poisoned}": 0,
			}, figures)
			faults.End()
			require.EqualValues(t, 1, c.figuresNow(t)["denizen.health.status{denizen.health.state=ready}"])
		})
	}
}

func TestObserveTellsNothingOfAClosedDirectory(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t)
	_, err := c.Observe(dir, sys)
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	require.Empty(t, c.figuresNow(t))
}

func TestObserveIsForSystem(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	_, err := c.Observe(denizentest.New(t), denizen.Principal{})
	require.Error(t, err)
	require.Empty(t, c.figuresNow(t))
}

func TestOfManyConsumersTheRestIsOne(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t)
	_, err := c.Observe(dir, sys)
	require.NoError(t, err)
	head, err := dir.Head(t.Context(), sys)
	require.NoError(t, err)
	for i := range 150 {
		from := head
		if i == 120 {
			from = ""
		}
		require.NoError(t, dir.ResetConsumer(t.Context(), sys, fmt.Sprintf("consumer-%03d", i), from))
	}
	var told []string
	figures := c.figuresNow(t)
	for name := range figures {
		if strings.HasPrefix(name, "denizen.consumer.lag") {
			told = append(told, name)
		}
	}
	require.Len(t, told, 101)
	slices.Sort(told)
	require.Equal(t, "denizen.consumer.lag{denizen.consumer.name=_OTHER}", told[0])
	require.EqualValues(t, stats(t, dir).Head, figures[told[0]], "as far behind as the last of them")
}

func TestEveryKindOfErrorHasAName(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	for kind, want := range map[error]string{
		denizen.ErrInvalid: "invalid", denizen.ErrUnauthenticated: "unauthenticated", denizen.ErrDenied: "denied",
		denizen.ErrNotFound: "not_found", denizen.ErrTaken: "taken", denizen.ErrRevoked: "revoked",
		denizen.ErrExpired: "expired", denizen.ErrLimited: "limited", denizen.ErrConflict: "conflict",
		denizen.ErrMissed: "missed", denizen.ErrUnavailable: "unavailable", denizen.ErrCorrupt: "corrupt",
		denizen.ErrOutcomeUnknown: "outcome_unknown", denizen.ErrClosed: "closed", errors.New("new"): "_OTHER",
	} {
		_, end := c.Trace(t.Context(), denizen.Operation{Name: "User"})
		end(&denizen.Error{Kind: kind})
		spans := c.spans.Ended()
		require.Contains(t, attributesOf(spans[len(spans)-1]), "db.response.status_code="+want)
	}
}

func TestOperationsMayBeToldOfAtOnce(t *testing.T) {
	c := collect(t, denizenotel.Options{})
	dir := denizentest.New(t, denizen.Options{Trace: c.Trace})
	alice := denizentest.User(t, dir, "Alice")
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 100 {
				_, err = dir.User(context.Background(), sys, alice.ID)
			}
			done <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
	require.EqualValues(t, 800, c.figuresNow(t)["db.client.operation.duration{db.operation.name=User}"])
}

// An importer chooses its SDK and its exporters itself.
func TestThePackageNeedsTheAPIAlone(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "go.opentelemetry.io/otel/metric\n")
	require.NotContains(t, string(out), "go.opentelemetry.io/otel/sdk")
	require.NotContains(t, string(out), "github.com/denizenhq/denizen/denizentest")
	require.NotContains(t, string(out), "github.com/stretchr/testify")
}

// What telemetry costs where it is set:
//
//	go test -run '^$' -bench Authenticate .
func BenchmarkAuthenticate(b *testing.B) {
	c := collect(b, denizenotel.Options{})
	var err error
	c.Telemetry, err = denizenotel.New(denizenotel.Options{
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(c.reader)),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())),
	})
	require.NoError(b, err)
	for _, hook := range []struct {
		name    string
		options denizen.Options
	}{{"unset", denizen.Options{}}, {"unsampled", denizen.Options{Trace: c.Trace}}} {
		dir := denizentest.New(b, hook.options)
		token := denizentest.Token(b, dir, denizentest.User(b, dir, "Alice").ID)
		b.Run(hook.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dir.Authenticate(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
