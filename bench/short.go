package main

import (
	"fmt"
	"io"
	"strings"
)

// printShort prints the table for the README of the project: some rows of the summary.
func printShort(w io.Writer, rs *results) error {
	out := new(strings.Builder)
	fmt.Fprintf(out, "Measured on %s at commit %s, on %s virtual cores (%s) with %s.\n\n",
		rs.config["date"], rs.config["commit"], rs.config["cores"], rs.config["cpu"], rs.config["go"])
	printRows(out, rs, true)
	_, err := io.WriteString(w, out.String())
	return err
}

// printSummary prints one row for each operation that matters, and what the largest directory takes.
func printSummary(out *strings.Builder, rs *results) {
	out.WriteString("\n## In short\n\nThe peers' column says how many times Denizen's time theirs is. " +
		"Where a row names no number of callers there is one for each core. " +
		"A time is that of the wall divided by the calls of all callers.\n\n")
	printRows(out, rs, false)
	printLargest(out, rs)
}

// printRows prints a row for each operation that was measured, or for those in the README alone.
func printRows(out *strings.Builder, rs *results, readme bool) {
	main, cores := rs.main(), rs.cores()
	out.WriteString("| operation | Denizen | allocations | peers | of the least it can cost |\n|---|---|---|---|---|\n")
	for _, line := range []struct {
		title  string
		row    row
		peers  []string
		floor  string
		what   string
		readme bool
	}{
		{"authenticate, seen before", row{"Authenticate/again", main, cores, "Denizen"}, []string{"golang-jwt HS256", "go-jose HS256", "scs over bbolt", "PocketBase by token"}, "floor: a map read under a lock", "a map read under a lock", true},
		{"authenticate, for the first time", row{"Authenticate/first", main, cores, "Denizen"}, []string{"golang-jwt EdDSA", "PocketBase by token"}, "floor: SHA-256 and two bbolt gets", "SHA-256 and two bbolt gets", false},
		{"user by id, not remembered", row{"User/id/first", main, cores, "Denizen"}, []string{"PocketBase", "SQLite"}, "floor: a bbolt get", "a bbolt get", true},
		{"user by id, remembered", row{"User/id/remembered", main, cores, "Denizen"}, nil, "", "", false},
		{"user by locator, not remembered", row{"User/locator/first", main, cores, "Denizen"}, []string{"PocketBase", "SQLite"}, "floor: two bbolt gets", "two bbolt gets", false},
		{"user by locator, remembered", row{"User/locator/remembered", main, cores, "Denizen"}, nil, "", "", false},
		{"create with a locator, durably, 1 caller", row{"User/create", written, 1, "Denizen"}, []string{"PocketBase, synced", "SQLite, synced", "PostgreSQL, an insert by pgx"}, "floor: a bbolt Update", "a bbolt `Update`", false},
		{"create with a locator, durably, 64 callers", row{"User/create", written, 64, "Denizen"}, []string{"PocketBase, synced", "SQLite, synced", "PostgreSQL, an insert by pgx"}, "floor: a bare group commit", "a bare group commit", true},
		{"presence, another chain, durably, 64 callers", row{"Presence/change", written, 64, "Denizen"}, []string{"Redis, synced"}, "floor: a bare group commit", "a bare group commit", false},
		{"presence, heartbeat", row{"Presence/heartbeat", main, cores, "Denizen"}, []string{"ttlcache", "Redis"}, "floor: a write to a map of 64 shards", "a write to a map of 64 shards", true},
		{"presence, get", row{"Presence/get", main, cores, "Denizen"}, []string{"ttlcache", "Redis"}, "floor: a read of a map of 64 shards", "a read of that map", false},
		{"`GET /v1/users/{id}` with a token, 64 connections", row{"HTTP/user", 0, connections, "Denizen"}, []string{"PocketBase, view", "PocketBase, auth-refresh"}, "floor: net/http that writes the same bytes", "bare `net/http`", true},
		{"the same over HTTP, signed", row{"HTTP/signed", 0, connections, "Denizen"}, nil, "floor: net/http with a bare group commit", "bare `net/http` with a bare group commit", false},
		{"PostgreSQL, user by id, 8 callers", row{"Postgres/get", 0, 8, "Denizen over PostgreSQL"}, nil, "floor: a select by pgx", "a select by pgx", false},
		{"PostgreSQL, create, 64 callers", row{"Postgres/create", 0, 64, "Denizen over PostgreSQL"}, nil, "floor: an insert by pgx", "an insert by pgx", false},
	} {
		each, is := rs.of(line.row, "ns/op")
		if !is || readme && !line.readme {
			continue
		}
		allocs, _ := rs.of(line.row, "allocs/op")
		var peers []string
		for _, p := range line.peers {
			other := line.row
			other.side = p
			if f, is := rs.ratio(other, line.row); is {
				peers = append(peers, p+" "+times(f.median))
			}
		}
		floor := line.row
		floor.side = line.floor
		against := ""
		if f, is := rs.ratio(line.row, floor); is {
			against = times(f.median) + " " + line.what
		}
		fmt.Fprintf(out, "| %s | %s | %.0f | %s | %s |\n", line.title, duration(each.median), allocs.median, strings.Join(peers, ", "), against)
	}
}

// printLargest describes the largest directory.
func printLargest(out *strings.Builder, rs *results) {
	var least, most int
	for _, r := range rs.rows {
		if r.operation == "Open" {
			most = max(most, r.users)
			if least == 0 || r.users < least {
				least = r.users
			}
		}
	}
	open := row{"Open", most, 0, "Denizen"}
	size, _ := rs.of(open, "file-B/user")
	took, _ := rs.of(open, "ns/op")
	slower, is := rs.ratio(row{"User/id/first", most, 1, "Denizen"}, row{"User/id/first", least, 1, "Denizen"})
	if !is {
		return
	}
	fmt.Fprintf(out, "\nA file of %s users with a locator each takes %s a user and opens in %s. A user by id, not remembered, takes %s as long in it as in one of %s users.\n",
		count(most), bytesOf(size.median), duration(took.median), times(slower.median), count(least))
}
