package denizenotel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/denizenhq/denizen"
)

// observeWithin bounds how long a store may keep a collection waiting.
const observeWithin = 2 * time.Second

// maxConsumers is how many consumers are told by name.
const maxConsumers = 100

// observed is a directory whose figures are collected.
type observed struct {
	t   *Telemetry
	dir *denizen.Directory
	by  denizen.Principal

	health, usage, limit, entries, waiting, beats metric.Int64ObservableUpDownCounter
	misses, commits, groups                       metric.Int64ObservableCounter
	took                                          metric.Float64ObservableCounter
	first, head, lag, consumers                   metric.Int64ObservableGauge
}

// Observe tells of the figures of a directory whenever metrics are collected, as by, which must be
// .system. It asks the store three short questions then, and waits two seconds at most. If it gets
// no answer, health is all that is told, and an error goes to OpenTelemetry's error handler.
//
// Stop ends it. Call it before the directory is closed; of a closed directory nothing is told.
func (t *Telemetry) Observe(
	dir *denizen.Directory, by denizen.Principal,
) (stop func() error, err error) {
	if !by.IsSystem() {
		return nil, errors.New("denizenotel: only .system may observe a directory")
	}
	o := &observed{t: t, dir: dir, by: by}
	var refused []error
	upDown := func(name, unit, text string) metric.Int64ObservableUpDownCounter {
		i, err := t.meter.Int64ObservableUpDownCounter(name,
			metric.WithUnit(unit), metric.WithDescription(text))
		refused = append(refused, err)
		return i
	}
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		i, err := t.meter.Int64ObservableCounter(name,
			metric.WithUnit(unit), metric.WithDescription(text))
		refused = append(refused, err)
		return i
	}
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		i, err := t.meter.Int64ObservableGauge(name,
			metric.WithUnit(unit), metric.WithDescription(text))
		refused = append(refused, err)
		return i
	}
	o.health = upDown("denizen.health.status", "1", "1 for the state that the directory is in.")
	o.usage = upDown("denizen.cache.usage", "By", "What caches hold.")
	o.limit = upDown("denizen.cache.limit", "By", "What caches may hold.")
	o.entries = upDown("denizen.cache.entry.count", "{entry}", "Entries of caches.")
	o.misses = counter("denizen.cache.misses", "{miss}", "Records that had to be read from the store.")
	o.commits = counter("denizen.commits", "{commit}", "Writes to the store.")
	o.waiting = upDown("denizen.commit.waiting", "{commit}", "Commits that wait for their group.")
	o.groups = counter("denizen.commit.groups", "{group}", "Transactions of the store.")
	o.beats = upDown("denizen.heartbeat.waiting", "{user}",
		"Users with heartbeats that are not stored yet.")
	o.first = gauge("denizen.feed.first", "{commit}",
		"The lowest place of the feed that is not forgotten.")
	o.head = gauge("denizen.feed.head", "{commit}", "The latest commit.")
	o.lag = gauge("denizen.consumer.lag", "{commit}", "Commits that a consumer of the feed is behind.")
	o.consumers = gauge("denizen.consumer.status", "1", "1 for a state that a consumer is in.")
	o.took, err = t.meter.Float64ObservableCounter("denizen.commit.time",
		metric.WithUnit("s"), metric.WithDescription("How long all commits took, with their waits."))
	if err := errors.Join(append(refused, err)...); err != nil {
		return nil, err
	}
	registration, err := t.meter.RegisterCallback(o.collect,
		o.health, o.usage, o.limit, o.entries, o.waiting, o.beats, o.misses, o.commits,
		o.groups, o.took, o.first, o.head, o.lag, o.consumers)
	if err != nil {
		return nil, err
	}
	return registration.Unregister, nil
}

// collect tells of the figures as they are now.
func (o *observed) collect(ctx context.Context, to metric.Observer) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, observing{}, true), observeWithin)
	defer cancel()
	s, failed := o.dir.Stats(ctx, o.by)
	if errors.Is(failed, denizen.ErrClosed) {
		return nil
	}
	health := o.dir.Health(ctx, o.by)
	if health == nil {
		health = failed
	}
	is := stateOf(health)
	for _, state := range []string{"ready", "degraded", "poisoned"} {
		to.ObserveInt64(o.health, one(state == is), o.t.observed("denizen.health.state", state))
	}
	if failed != nil {
		return fmt.Errorf("denizenotel: %w", failed)
	}
	for _, c := range []struct {
		name string
		denizen.CacheStats
	}{{"records", s.Records}, {"tokens", s.Tokens}, {"watches", s.Watched}} {
		of := o.t.observed("denizen.cache.name", c.name)
		to.ObserveInt64(o.usage, c.Bytes, of)
		to.ObserveInt64(o.limit, c.Limit, of)
		to.ObserveInt64(o.entries, int64(c.Entries), of)
	}
	to.ObserveInt64(o.misses, s.Records.Misses, o.t.observed("denizen.cache.name", "records"))
	const outcome = "denizen.commit.outcome"
	to.ObserveInt64(o.commits, s.Commits.Applied, o.t.observed(outcome, "applied"))
	to.ObserveInt64(o.commits, s.Commits.Conflicts, o.t.observed(outcome, "conflict"))
	to.ObserveInt64(o.commits, s.Commits.Failed, o.t.observed(outcome, "failed"))
	all := metric.WithAttributeSet(o.t.with())
	to.ObserveInt64(o.waiting, int64(s.Commits.Waiting), all)
	to.ObserveFloat64(o.took, s.Commits.Took.Seconds(), all)
	for i, n := range s.Commits.GroupSizes {
		to.ObserveInt64(o.groups, n, o.t.observed("denizen.commit.group.size", groupSize(i)))
	}
	to.ObserveInt64(o.beats, int64(s.HeartbeatsWaiting), all)
	to.ObserveInt64(o.first, int64(s.First), all)
	to.ObserveInt64(o.head, int64(s.Head), all)
	const state = "denizen.consumer.state"
	for _, c := range fewer(s.Consumers) {
		name := attribute.String("denizen.consumer.name", c.Name)
		to.ObserveInt64(o.lag, c.Behind, metric.WithAttributeSet(o.t.with(name)))
		to.ObserveInt64(o.consumers, one(c.Stuck), o.t.observed(state, "stuck", name))
		to.ObserveInt64(o.consumers, one(c.Missed), o.t.observed(state, "missed", name))
	}
	return nil
}

// observed returns the attributes of everything, and those of a figure.
func (t *Telemetry) observed(key, value string, more ...attribute.KeyValue) metric.ObserveOption {
	return metric.WithAttributeSet(t.with(append(more, attribute.String(key, value))...))
}

// stateOf returns the state of a directory whose Health returned err: see denizen.Directory.Health.
func stateOf(err error) string {
	if err == nil {
		return "ready"
	}
	if e, ok := errors.AsType[*denizen.Error](err); ok && e.Field == "store" {
		return "poisoned"
	}
	return "degraded"
}

// fewer returns maxConsumers of the consumers, and one that stands for all the others.
func fewer(all []denizen.ConsumerStats) []denizen.ConsumerStats {
	if len(all) <= maxConsumers {
		return all
	}
	rest := denizen.ConsumerStats{Name: "_OTHER"}
	for _, c := range all[maxConsumers:] {
		rest.Behind = max(rest.Behind, c.Behind)
		rest.Stuck, rest.Missed = rest.Stuck || c.Stuck, rest.Missed || c.Missed
	}
	return append(all[:maxConsumers:maxConsumers], rest)
}

// groupSize returns which groups CommitStats.GroupSizes counts at a place.
func groupSize(i int) string {
	switch most, least := 1<<i, 1<<i/2+1; {
	case most == least, i == 0:
		return fmt.Sprint(most)
	default:
		return fmt.Sprintf("%d-%d", least, most)
	}
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
