package main

import (
	"fmt"
	"math"
	"strings"
)

// goal is a bound on a ratio of the times of two rows of one run.
type goal struct {
	operation, aim string
	of, to         string // sides: the time of the first through that of the second
	row            row    // what they do
	from           int    // with other users in the row beneath: the number of them
	least, most    float64
	unit           string  // of the values, where to is toValue
	share          float64 // of what is measured, where the figure is another machine's
}

// What a goal is about that has no second side. That of all users is in nanoseconds, and a rate in
// users a second.
const (
	toAllocs = ""
	toTime   = "time"
	toAll    = "all"
	toRate   = "rate"
	toHeap   = "heap"
	toWork   = "work" // of 10,000, in nanoseconds of processor time
	toValue  = "value"
)

// goals are the goals, row by row. A goal without a number of callers is for one caller and for one
// per core.
func goals(rs *results) []goal {
	main := rs.main()
	at := func(operation string, users, goroutines int) row {
		return row{operation: operation, users: users, goroutines: goroutines}
	}
	again, firstTime := at("Authenticate/again", main, 0), at("Authenticate/first", main, 0)
	id, locator := at("User/id/first", main, 0), at("User/locator/first", main, 0)
	one, many := at("User/create", written, 1), at("User/create", written, 64)
	change := at("Presence/change", written, 64)
	beat, here := at("Presence/heartbeat", main, 0), at("Presence/get", main, 0)
	http := at("HTTP/user", 0, connections)
	const million = 1_000_000 // users
	storm, beats := at("Live/storm", million, 4096), at("Live/storm/beats/remembered", million, 4096)
	steady, streams := at("Live/steady", million, 0), at("Live/streams", 10_000, 0)
	into := func(what string, users int) row { return at("Import/"+what, users, 0) }
	return []goal{
		{operation: "authenticate, seen before", aim: "20 times as fast as golang-jwt with HS256", of: "golang-jwt HS256", to: "Denizen", row: again, least: 20},
		{aim: "200 times as fast as PocketBase", of: "PocketBase by token", to: "Denizen", row: again, least: 200},
		{aim: "50 times as fast as scs over bbolt", of: "scs over bbolt", to: "Denizen", row: again, least: 50},
		{aim: "at most 4 map reads under a lock", of: "Denizen", to: "floor: a map read under a lock", row: again, most: 4},
		{aim: "no allocation", of: "Denizen", row: again},
		{operation: "authenticate, for the first time", aim: "5 times as fast as golang-jwt with EdDSA", of: "golang-jwt EdDSA", to: "Denizen", row: firstTime, least: 5},
		{aim: "10 times as fast as PocketBase", of: "PocketBase by token", to: "Denizen", row: firstTime, least: 10},
		{aim: "at most 1.5 times a digest and two gets", of: "Denizen", to: "floor: SHA-256 and two bbolt gets", row: firstTime, most: 1.5},
		{operation: "user by id, not remembered", aim: "8 times as fast as PocketBase", of: "PocketBase", to: "Denizen", row: id, least: 8},
		{aim: "at most 2 bbolt gets", of: "Denizen", to: "floor: a bbolt get", row: id, most: 2},
		{operation: "user by locator, not remembered", aim: "100 times as fast as PocketBase", of: "PocketBase", to: "Denizen", row: locator, least: 100},
		{aim: "at most twice two bbolt gets", of: "Denizen", to: "floor: two bbolt gets", row: locator, most: 2},
		{operation: "user by locator, remembered", aim: "under 500 ns", of: "Denizen", to: toTime, row: at("User/locator/remembered", main, 0), most: 500},
		{operation: "create, 1 caller", aim: "1.3 times as fast as PocketBase, synced", of: "PocketBase, synced", to: "Denizen", row: one, least: 1.3},
		{aim: "at most 1.3 times a bbolt Update", of: "Denizen", to: "floor: a bbolt Update", row: one, most: 1.3},
		{operation: "create, 64 callers", aim: "8 times as fast as PocketBase, synced", of: "PocketBase, synced", to: "Denizen", row: many, least: 8},
		{aim: "1.2 times as fast as PostgreSQL", of: "PostgreSQL, an insert by pgx", to: "Denizen", row: many, least: 1.2},
		{aim: "at least 0.8 of a bare group commit", of: "floor: a bare group commit", to: "Denizen", row: many, least: 0.8},
		{operation: "presence, another chain, 64 callers", aim: "as fast as Redis, synced", of: "Redis, synced", to: "Denizen", row: change, least: 1},
		{aim: "at least 0.8 of a bare group commit", of: "floor: a bare group commit", to: "Denizen", row: change, least: 0.8},
		{operation: "presence, heartbeat", aim: "15 times as fast as Redis", of: "Redis", to: "Denizen", row: beat, least: 15},
		{aim: "3 times as fast as ttlcache", of: "ttlcache", to: "Denizen", row: beat, least: 3},
		{aim: "at most 1.3 writes to a map of 64 shards", of: "Denizen", to: "floor: a write to a map of 64 shards", row: beat, most: 1.3},
		{aim: "no allocation", of: "Denizen", row: beat},
		{operation: "presence, get", aim: "15 times as fast as Redis", of: "Redis", to: "Denizen", row: here, least: 15},
		{aim: "1.5 times as fast as ttlcache", of: "ttlcache", to: "Denizen", row: here, least: 1.5},
		{aim: "at most 1.3 reads of a map of 64 shards", of: "Denizen", to: "floor: a read of a map of 64 shards", row: here, most: 1.3},
		{operation: "heartbeats, stored", aim: "at most 10 µs each", of: "Denizen", to: "time", row: at("Presence/stored", main, 1), most: 10_000},
		{aim: "no allocation", of: "Denizen", row: here},
		{operation: "`GET /v1/users/{id}`, 64 connections", aim: "6 times as fast as PocketBase's view", of: "PocketBase, view", to: "Denizen", row: http, least: 6},
		{aim: "15 times as fast as Kratos's `GET admin/identities/{id}`", of: "floor: net/http that writes the same bytes", to: "Denizen", row: http, least: 15, share: kratos},
		{aim: "at least 0.6 of bare net/http", of: "floor: net/http that writes the same bytes", to: "Denizen", row: http, least: 0.6},
		{aim: "at least 0.95 of one written by hand", of: "floor: written by hand", to: "Denizen", row: http, least: 0.95},
		{operation: "PostgreSQL, user by id, 1 caller", aim: "at most 1.3 selects", of: "Denizen over PostgreSQL", to: "floor: a select by pgx", row: at("Postgres/get", 0, 1), most: 1.3},
		{operation: "the same, 8 callers", aim: "at most 1.3 selects", of: "Denizen over PostgreSQL", to: "floor: a select by pgx", row: at("Postgres/get", 0, 8), most: 1.3},
		{operation: "PostgreSQL, create, 64 callers", aim: "at least 0.8 of inserts by hand", of: "floor: an insert by pgx", to: "Denizen over PostgreSQL", row: at("Postgres/create", 0, 64), least: 0.8},
		{operation: "PostgreSQL, heartbeat, 512 callers", aim: "10,000 a second", of: "Denizen over PostgreSQL", to: toRate, row: at("Shared/heartbeat", 50_000, sharers), least: 10_000},
		{aim: "0.4 s of work for 10,000", of: "Denizen over PostgreSQL", to: toWork, row: at("Shared/heartbeat", 50_000, sharers), most: 0.4e9},
		{operation: "PostgreSQL, another chain, 512 callers", aim: "50,000 in 8 s", of: "Denizen over PostgreSQL", to: toAll, row: at("Shared/storm", 50_000, sharers), most: 8e9},
		{operation: "500,000 users set a new chain at once, 4,096 callers", aim: "all within 35 s", of: "Denizen", to: toValue, unit: "told-s", row: storm, most: 35},
		{aim: "authenticate meanwhile under 10 ms, p99", of: "Denizen", to: toValue, unit: "authenticate-p99-ns", row: storm, most: 10e6},
		{operation: "the same as heartbeats", aim: "all within 2 s", of: "Denizen", to: toValue, unit: "answered-s", row: beats, most: 2},
		{operation: "the same, none of them cached", aim: "all within 2 s", of: "Denizen", to: toValue, unit: "answered-s", row: at("Live/storm/beats/first", million, 4096), most: 2},
		{operation: "1,000,000 users, 100,000 of them watched", aim: "told of a change within 50 ms, p99", of: "Denizen", to: toValue, unit: "told-p99-ns", row: steady, most: 50e6},
		{aim: "told of an end within 50 ms of its time, p99", of: "Denizen", to: toValue, unit: "late-p99-ns", row: steady, most: 50e6},
		{operation: "10,000 streams", aim: "at most 400 MB", of: "Denizen", to: toValue, unit: "peak-B", row: streams, most: 400e6},
		{aim: "all told of a change within 250 ms", of: "Denizen", to: toValue, unit: "told-last-ns", row: streams, most: 250e6},
		{operation: "import of 50,000 users", aim: "at most 5 s into a file", of: "Denizen", to: toAll, row: into("file", 50_000), most: 5e9},
		{aim: "at most 8 s into PostgreSQL", of: "Denizen over PostgreSQL", to: toAll, row: into("postgres", 50_000), most: 8e9},
		{operation: "import of 1,000,000 users", aim: "at most 64 MB of heap", of: "Denizen", to: toHeap, row: into("memory", 1_000_000), most: 64e6},
		{operation: "export of 1,000,000 users", aim: "100,000 a second from a file", of: "Denizen", to: toRate, row: at("Export/file", 1_000_000, 0), least: 100_000},
		{operation: "user by id, not remembered, of 5,000,000", aim: "at most 5 times that of 1,000", of: "Denizen", to: "Denizen", row: at("User/id/first", 5_000_000, 0), from: 1_000, most: 5},
	}
}

// kratos is the rate of GET admin/identities/{id} of Ory Kratos with 64 connections, divided by
// that of a bare net/http server beside it. Both were measured on another machine of two cores,
// with v1.3.1 over SQLite. Kratos cannot be imported.
const kratos = 2288.0 / 48632.0

// measured returns the ratio of a goal for a number of callers.
func (g goal) measured(rs *results, goroutines int) (figure, bool) {
	a, b := g.row, g.row
	a.goroutines, b.goroutines = goroutines, goroutines
	a.side, b.side = g.of, g.to
	if g.from > 0 {
		b.users = g.from
	}
	switch g.to {
	case toAllocs:
		return rs.of(a, "allocs/op")
	case toTime:
		return rs.of(a, "ns/op")
	case toHeap:
		return rs.of(a, "heap-B")
	case toValue:
		return rs.of(a, g.unit)
	case toWork:
		f, is := rs.of(a, "work-ns/op")
		return figure{1e4 * f.median, 1e4 * f.least, 1e4 * f.most}, is
	case toAll, toRate:
		f, is := rs.of(a, "ns/op")
		if g.to == toRate {
			return figure{1e9 / f.median, 1e9 / f.most, 1e9 / f.least}, is
		}
		n := float64(a.users)
		return figure{n * f.median, n * f.least, n * f.most}, is
	}
	f, is := rs.ratio(a, b)
	if g.share > 0 {
		f = figure{f.median / g.share, f.least / g.share, f.most / g.share}
	}
	return f, is
}

// whole reports whether the goal is about a call that does all of its work, however many goroutines
// it uses.
func (g goal) whole() bool {
	return g.to == toAll || g.to == toRate || g.to == toHeap || g.to == toValue
}

// holds reports whether the goal is met by the figure as printed.
func (g goal) holds(f figure) bool {
	median := math.Round(f.median*100) / 100
	return median >= g.least && (g.least > 0 || median <= g.most)
}

func (g goal) text(f figure) string {
	unit := func(unit func(float64) string) string {
		return unit(f.median) + " (" + unit(f.least) + " to " + unit(f.most) + ")"
	}
	switch g.to {
	case toAllocs:
		return fmt.Sprintf("%.0f", f.median)
	case toTime, toAll, toWork:
		return unit(duration)
	case toHeap:
		return unit(bytesOf)
	case toValue:
		return unit(map[string]func(float64) string{
			"ns": duration, "s": func(s float64) string { return duration(1e9 * s) }, "B": bytesOf,
		}[g.unit[strings.LastIndexByte(g.unit, '-')+1:]])
	case toRate:
		return unit(func(a float64) string { return rate(1e9 / a) })
	}
	return times(f.median) + " (" + significant(f.least) + " to " + significant(f.most) + ")"
}

func printGoals(out *strings.Builder, rs *results) {
	cores := rs.cores()
	out.WriteString("\n## What was aimed at\n\nMedians of the rounds' own ratios, and their spread.")
	if n := rs.main(); n > 0 {
		fmt.Fprintf(out, " Read from is a directory of %s users.", count(n))
	}
	fmt.Fprintf(out, " Written to is one of %s.\n\n| operation | aim | 1 caller | %s | holds |\n|---|---|---|---|---|\n", count(written), callers(cores))
	for _, g := range goals(rs) {
		var cells []string
		holds, measured := true, false
		all := []int{g.row.goroutines}
		if g.row.goroutines == 0 && !g.whole() {
			all = []int{1, cores}
		}
		for _, n := range all {
			f, is := g.measured(rs, n)
			if !is {
				cells = append(cells, "")
				continue
			}
			measured, holds = true, holds && g.holds(f)
			cells = append(cells, g.text(f))
		}
		if len(cells) == 1 && g.row.goroutines > 1 {
			cells = []string{"", cells[0]}
		} else if len(cells) == 1 {
			cells = append(cells, "")
		}
		verdict := "yes"
		switch {
		case !measured:
			verdict = "not measured"
		case !holds:
			verdict = "**no**"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", g.operation, g.aim, strings.Join(cells, " | "), verdict)
	}
}
