package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// table is a topic: its operations, each with all sides that perform it.
type table struct {
	title, note string
	operations  []operationIn
	scope       func(rs *results) int // the number of users, where there are several
}

type operationIn struct{ name, title string }

var tables = []table{
	{
		title: "Authenticate a token", scope: (*results).main,
		note: "Denizen answers who is calling: a text that it issued, that is not revoked and not expired, of a user who is there and not blocked. " +
			"golang-jwt and go-jose verify a signature, issuer, audience and expiry, and cannot tell that a token was revoked. scs loads a session, whose deletion revokes it. " +
			"PocketBase verifies a JWT by a key of the user's and loads the user; it revokes all tokens of a user or none.",
		operations: []operationIn{{"Authenticate/again", "seen before"}, {"Authenticate/first", "for the first time"}},
	},
	{
		title: "Look up a user", scope: (*results).main,
		note: "Denizen and PocketBase answer a decoded user, SQLite and the floor bytes about as long. Not remembered means that it was not asked for before; " +
			"remembered, that it is one of 10,000 asked for in turn. PocketBase's look-up by e-mail scans its table, as its index is a partial one: that ratio grows with the number of users.",
		operations: []operationIn{
			{"User/id/first", "by id, not remembered"},
			{"User/id/remembered", "by id, remembered"},
			{"User/locator/first", "by locator, not remembered"},
			{"User/locator/remembered", "by locator, remembered"},
			{"User/page", "a page of 100"},
		},
	},
	{
		title: "Create a user with a locator, durably", scope: func(*results) int { return written },
		note: "Each creation is synced when it is answered, but for PocketBase as it is shipped. Denizen writes a user, who owns the locator, and an event of the feed. " +
			"PocketBase writes a user whose password was hashed before; SQLite and PostgreSQL insert one row with a unique address. The floor writes the same records as Denizen.",
		operations: []operationIn{{"User/create", "create"}, {"Disk/append", "the disk alone"}},
	},
	{
		title: "Presence", scope: func(rs *results) int { return 0 },
		note: "A heartbeat is the same chain set again in time: it is kept in memory, and stored within a second with all others of that second. Stored heartbeats are those of 100,000 users, one after another, " +
			"until all of them are synced. Another chain is synced when it is answered, and is an event of the feed. ttlcache is a map of this process and stores nothing. " +
			"Redis is asked over loopback; as it stands it keeps all in memory, synced it syncs its log before it answers.",
		operations: []operationIn{
			{"Presence/heartbeat", "heartbeat"},
			{"Presence/get", "get, remembered"},
			{"Presence/first", "get, not remembered"},
			{"Presence/stored", "heartbeats, stored"},
			{"Presence/change", "another chain, durably"},
		},
	},
	{
		title: "Over HTTP", scope: func(*results) int { return 0 },
		note: "64 keep-alive connections on loopback, the client on the same cores. Written by hand is a `ServeMux`, an HMAC token with an expiry and a map of revoked ones, " +
			"the record from bbolt, decoded and encoded. A signed request spends a nonce durably.",
		operations: []operationIn{{"HTTP/user", "`GET /v1/users/{id}` with a token"}, {"HTTP/signed", "the same, signed by the application"}},
	},
	{
		title: "Over PostgreSQL", scope: func(*results) int { return 0 },
		note: "On loopback, without TLS, over one pool of 64 connections; Denizen and the statements by hand use the same. A creation by hand inserts one row with a unique address, Denizen two records and an event.",
		operations: []operationIn{
			{"Postgres/get", "user by id"},
			{"Postgres/create", "create with a locator, durably"},
			{"Postgres/authenticate/first", "authenticate, for the first time"},
			{"Postgres/authenticate/again", "authenticate, seen before (`MaxRevocationDelay` of a minute)"},
		},
	},
}

// written returns the number of users in the directories that are written to.
const written = 20_000

// main returns the number of users at which the peers are measured.
func (rs *results) main() int {
	largest := 0
	for _, r := range rs.rows {
		if r.operation == "Authenticate/first" && r.users <= 1_000_000 {
			largest = max(largest, r.users)
		}
	}
	return largest
}

// cores returns the number of cores of the run.
func (rs *results) cores() int {
	n, _ := strconv.Atoi(rs.config["cores"])
	return n
}

// printTables prints all tables as Markdown.
func printTables(w io.Writer, rs *results) error {
	var out strings.Builder
	fmt.Fprintf(&out, "Measured on %s at commit %s: %s, %s cores, files on %s, %s, %s rounds.\n\nVersions: %s.\n",
		rs.config["date"], rs.config["commit"], rs.config["cpu"], rs.config["cores"], rs.config["files"], rs.config["go"], rs.config["rounds"], rs.config["versions"])
	printSummary(&out, rs)
	printGoals(&out, rs)
	for _, t := range tables {
		t.print(&out, rs)
	}
	printScale(&out, rs)
	printShared(&out, rs)
	printTransfers(&out, rs)
	printLive(&out, rs)
	printStreams(&out, rs)
	printImporter(&out, rs)
	_, err := io.WriteString(w, out.String())
	return err
}

func (t table) print(out *strings.Builder, rs *results) {
	users := t.scope(rs)
	var lines []string
	for _, o := range t.operations {
		var said string
		for _, r := range rs.rows {
			if r.operation != o.name || users > 0 && r.users > 0 && r.users != users {
				continue
			}
			title := o.title
			if r.goroutines > 0 {
				title += ", " + callers(r.goroutines)
			}
			each, _ := rs.of(r, "ns/op")
			against := ""
			if f, is := rs.ratio(r, beside(r)); is && beside(r) != r {
				against = times(f.median) + " (" + times(f.least) + " to " + times(f.most) + ")"
			}
			allocs, _ := rs.of(r, "allocs/op")
			bytes, _ := rs.of(r, "B/op")
			p99 := ""
			if f, is := rs.of(r, "p99-ns"); is {
				p99 = duration(f.median)
			}
			if title == said {
				title = ""
			} else {
				said = title
			}
			lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s to %s | %s | %s | %.0f | %.0f |\n",
				title, name(r.side), rate(each.median), duration(each.median), duration(each.least), duration(each.most), p99, against, bytes.median, allocs.median))
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## %s\n\n%s", t.title, t.note)
	if users > 0 {
		fmt.Fprintf(out, " There are %s users.", count(users))
	}
	out.WriteString("\n\n| operation | by | a second | each | spread | p99 | times Denizen's | bytes | allocations |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range lines {
		out.WriteString(l)
	}
}

// beside returns the row of Denizen for the same operation.
func beside(r row) row {
	r.side = "Denizen"
	if strings.HasPrefix(r.operation, "Postgres/") {
		r.side = "Denizen over PostgreSQL"
	}
	return r
}

// printScale prints how an operation changes with the number of users.
func printScale(out *strings.Builder, rs *results) {
	var sizes []int
	for _, r := range rs.rows {
		if r.operation == "Open" && !slices.Contains(sizes, r.users) {
			sizes = append(sizes, r.users)
		}
	}
	if len(sizes) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## The same at each size\n\nDenizen over a file, one caller unless it says otherwise, and in brackets how many times the floor's time that is. "+
		"At %s users each also has a token and a presence, which are part of the file.\n\n| operation |", count(rs.main()))
	for _, n := range sizes {
		fmt.Fprintf(out, " %s users |", count(n))
	}
	out.WriteString("\n|---|" + strings.Repeat("---|", len(sizes)) + "\n")
	for _, line := range []struct {
		title, operation, unit string
		goroutines             int
		text                   func(float64) string
	}{
		{"user by id, not remembered", "User/id/first", "ns/op", 1, duration},
		{"user by locator, not remembered", "User/locator/first", "ns/op", 1, duration},
		{"user by id, remembered", "User/id/remembered", "ns/op", 1, duration},
		{"user by locator, remembered", "User/locator/remembered", "ns/op", 1, duration},
		{"authenticate, for the first time", "Authenticate/first", "ns/op", 1, duration},
		{"authenticate, seen before", "Authenticate/again", "ns/op", 1, duration},
		{"page of 100", "User/page", "ns/op", 1, duration},
		{"create with a locator, durably", "User/create", "ns/op", 1, duration},
		{"the same, 64 callers", "User/create", "ns/op", 64, duration},
		{"open, and read one user", "Open", "ns/op", 0, duration},
		{"file, for each user", "Open", "file-B/user", 0, bytesOf},
		{"heap that remembering users takes", "Memory", "heap-B", 0, bytesOf},
	} {
		fmt.Fprintf(out, "| %s |", line.title)
		for _, n := range sizes {
			r := row{line.operation, n, line.goroutines, "Denizen"}
			f, is := rs.of(r, line.unit)
			if !is {
				out.WriteString(" |")
				continue
			}
			fmt.Fprintf(out, " %s", line.text(f.median))
			if floor, is := rs.ratio(r, rs.floor(r)); is {
				fmt.Fprintf(out, " (%s)", times(floor.median))
			}
			out.WriteString(" |")
		}
		out.WriteString("\n")
	}
}

// floor returns the first floor beside a row.
func (rs *results) floor(r row) row {
	for _, other := range rs.rows {
		if other.operation == r.operation && other.users == r.users && other.goroutines == r.goroutines && strings.HasPrefix(other.side, "floor") {
			return other
		}
	}
	return row{}
}

// printImporter prints what a directory adds to a program.
func printImporter(out *strings.Builder, rs *results) {
	var lines []string
	for _, r := range rs.rows {
		if r.operation != "Importer" {
			continue
		}
		value := func(unit string) float64 { f, _ := rs.of(r, unit); return f.median }
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %.0f |\n", name(r.side),
			bytesOf(value("binary-B")), duration(value("ns/op")), bytesOf(value("resident-B")), bytesOf(value("B/op")), value("allocs/op")))
	}
	if len(lines) == 0 {
		return
	}
	out.WriteString("\n## What an importer pays\n\nPrograms built with `-trimpath -ldflags '-s -w'`, from start to end. Without telephone numbers is built with `-tags denizen_notele`.\n\n" +
		"| program | binary | runs for | memory at most | allocated | allocations |\n|---|---|---|---|---|---|\n")
	for _, l := range lines {
		out.WriteString(l)
	}
}

func name(side string) string {
	if strings.HasPrefix(side, "Denizen") {
		return "**" + side + "**"
	}
	return side
}

func callers(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return strconv.Itoa(n) + " callers"
}

// significant formats a number to three digits.
func significant(f float64) string {
	switch {
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

func times(f float64) string { return significant(f) + "×" }

func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return significant(ns/1e9) + " s"
	case ns >= 1e6:
		return significant(ns/1e6) + " ms"
	case ns >= 1e3:
		return significant(ns/1e3) + " µs"
	}
	return strconv.FormatFloat(ns, 'f', 0, 64) + " ns"
}

func rate(ns float64) string {
	switch a := 1e9 / ns; {
	case a >= 1e6:
		return significant(a/1e6) + " M"
	case a >= 1e3:
		return significant(a/1e3) + " k"
	default:
		return significant(a)
	}
}

func bytesOf(b float64) string {
	switch {
	case b >= 1<<20:
		return significant(b/(1<<20)) + " MiB"
	case b >= 1<<10:
		return significant(b/(1<<10)) + " KiB"
	}
	return strconv.FormatFloat(b, 'f', 0, 64) + " B"
}

func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
