// Package denizenotel gives a directory metrics and traces by OpenTelemetry's conventions.
//
//	telemetry, err := denizenotel.New(denizenotel.Options{})
//	dir, err := denizen.Open(ctx, "people.db", denizen.Options{Trace: telemetry.Trace})
//	stop, err := telemetry.Observe(dir, denizen.System())
//	defer dir.Close()
//	defer stop()
//
// It needs OpenTelemetry's API alone. Which SDK, which exporters and which sampler there are is the
// program's choice. It is a module of its own, so that a directory without it links none of this.
//
// # Operations
//
// Each operation is a span, named after the method, with the attributes of a [database span] and
// the kind INTERNAL, because a directory is called in the process. Its duration, in seconds, is in
// the histogram db.client.operation.duration, as for a [database metric].
//
//   - db.system.name is "denizen".
//   - db.operation.name is the method, such as "CreateUser".
//   - db.response.status_code is the kind of the error, such as "not_found". Without an error there
//     is none.
//   - error.type is the same, but only where the directory failed and did not just refuse:
//     "unavailable", "outcome_unknown", "corrupt", "closed", "deadline_exceeded", or "_OTHER" after
//     a panic. Only then the status of the span is Error.
//   - denizen.caller, of spans alone, is ".system", ".anonymous" or "user".
//
// An error whose cause is the end of the caller's context is "canceled" or "deadline_exceeded".
// Nothing else is told: no token, locator, name or id, and no text of an error.
//
// What lasts until its context ends, such as Follow, is no span. The UpDownCounter
// denizen.operation.active has how many of each are under way, and the histogram has them once they
// end.
//
// # Figures
//
// [Telemetry.Observe] has what [denizen.Directory.Stats] and [denizen.Directory.Health] return,
// whenever metrics are collected:
//
//	denizen.health.status      1 for the state it is in, of denizen.health.state ready, degraded
//	                           and poisoned; 0 for the others
//	denizen.cache.usage        bytes, by denizen.cache.name: records, tokens and watches
//	denizen.cache.limit        bytes
//	denizen.cache.entry.count
//	denizen.cache.misses       of records
//	denizen.commits            by denizen.commit.outcome: applied, conflict and failed
//	denizen.commit.time        seconds that all commits took together, with their waits
//	denizen.commit.waiting     commits that wait for their group
//	denizen.commit.groups      by denizen.commit.group.size: 1, 2, 3-4, 5-8 and so on
//	denizen.heartbeat.waiting  users with heartbeats that are not stored yet
//	denizen.feed.first         the lowest place of the feed that is not forgotten
//	denizen.feed.head          the latest commit
//	denizen.consumer.lag       commits that a consumer is behind, by denizen.consumer.name
//	denizen.consumer.status    1 if it is, by denizen.consumer.state: stuck and missed
//
// Of more than 100 consumers the first ones are told by name, and the rest as one, "_OTHER", which
// is as far behind as the last of them. So all attributes together are bounded, whoever calls what.
//
// [database span]: https://opentelemetry.io/docs/specs/semconv/db/database-spans/
// [database metric]: https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
package denizenotel
