package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pocketbase/pocketbase/core"
	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/denizenhq/denizen/transfer"
)

// aTransaction is how many users the floors and the peers write in one transaction.
const aTransaction = 1_000

// whole is a side that does all of its work in one call, which is timed as a whole. It returns how
// long that took, without what was made ready before.
type whole struct {
	name string
	do   func(n int) (time.Duration, error)
}

// transfers measures bringing users in and out: users with two addresses and three attributes, in
// the order of their ids, with addresses in none.
func transfers(b *bench) error {
	n := b.main() / 20
	file := []whole{
		{"Denizen", b.importFile},
		{"floor: bbolt, 1,000 users an Update", b.importBare},
	}
	if b.peers {
		file = append(file,
			whole{"PocketBase, 1,000 users a transaction", func(n int) (time.Duration, error) { return b.importPocketBase("NORMAL", n) }},
			whole{"PocketBase, synced, 1,000 users a transaction", func(n int) (time.Duration, error) { return b.importPocketBase("FULL", n) }},
		)
	}
	if err := b.wholes("Import/file", n, b.rounds, file); err != nil {
		return err
	}
	if dsn := b.postgres(); dsn != "" {
		err := b.wholes("Import/postgres", n, b.rounds, []whole{
			{"Denizen over PostgreSQL", func(n int) (time.Duration, error) { return b.importPostgres(dsn, n) }},
			{"floor: COPY, 1,000 users a transaction", func(n int) (time.Duration, error) { return b.importCopy(dsn, n) }},
		})
		if err != nil {
			return err
		}
	}
	// Memory is flat in the number of rows.
	for _, n := range []int{n, 4 * n, 20 * n} {
		if err := b.wholes("Import/memory", n, 1, []whole{{"Denizen", b.importFile}}); err != nil {
			return err
		}
	}
	p, err := newPeople(b, b.main(), false)
	if err != nil {
		return err
	}
	err = b.exports("Export/file", "Denizen", p.dir, p.n)
	if err := first(err, p.close(), os.Remove(p.path)); err != nil {
		return err
	}
	if dsn := b.postgres(); dsn != "" {
		return b.exportPostgres(dsn, n)
	}
	return nil
}

// exports measures the export of all n users of a directory.
func (b *bench) exports(operation, side string, dir *denizen.Directory, n int) error {
	return b.wholes(operation, n, b.rounds, []whole{{side, func(int) (time.Duration, error) {
		began := time.Now()
		done, err := transfer.Export(b.ctx, dir, system, io.Discard)
		if err == nil && done.Users != n {
			err = fmt.Errorf("%d users were exported", done.Users)
		}
		return time.Since(began), err
	}}})
}

// postgres returns where a PostgreSQL is, or "".
func (b *bench) postgres() string {
	if b.servers != nil {
		return b.servers.postgres
	}
	return os.Getenv("DENIZEN_POSTGRES")
}

// wholes lets the sides take turns.
func (b *bench) wholes(operation string, n, rounds int, sides []whole) error {
	for range rounds {
		for _, s := range sides {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			stop := watchHeap()
			took, err := s.do(n)
			heap := stop()
			if err != nil {
				return fmt.Errorf("%s: %s: %w", operation, s.name, err)
			}
			err = b.write(row{operation: operation, users: n, side: s.name}, turn{n: uint64(n), values: map[string]float64{
				"ns/op": float64(took.Nanoseconds()) / float64(n), "heap-B": heap,
			}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// watchHeap samples how much the heap has grown. Garbage that is not collected yet counts. The
// function that it returns ends that and returns the most that was seen.
func watchHeap() (stop func() float64) {
	read := func() float64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return float64(s[0].Value.Uint64())
	}
	runtime.GC()
	before := read()
	most := before
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				most = max(most, read())
			}
		}
	}()
	return func() float64 {
		close(done)
		<-ended
		return most - before
	}
}

// attributeKeys are the attributes of each user.
var attributeKeys = []string{"city", "nickname", "plan"}

// address returns the address at a place of a user. Neighbours have addresses far apart.
func address(i, at int) string {
	return fmt.Sprintf("user%08x.%d@example.com", uint32(i)*2654435761, 2*i+at)
}

func rowsOf(n int) iter.Seq2[transfer.User, error] {
	return func(yield func(transfer.User, error) bool) {
		made := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		for i := range n {
			u := transfer.User{
				ID: userID(i), ScreenName: "Somebody", CreatedAt: made,
				Locators: []transfer.Locator{{Locator: "email:" + address(i, 0), VerifiedAt: made}, {Locator: "email:" + address(i, 1)}},
			}
			for _, key := range attributeKeys {
				u.Attributes = append(u.Attributes, denizen.Attribute{Key: key, Value: "a value of some length"})
			}
			if !yield(u, nil) {
				return
			}
		}
	}
}

// bring imports n users into a new directory over a store.
func (b *bench) bring(s store.Store, n int) (time.Duration, error) {
	dir, err := denizen.New(b.ctx, s, denizen.Options{})
	if err != nil {
		return 0, err
	}
	o := transfer.Options{TrustVerified: true}
	for _, key := range attributeKeys {
		o.Define = append(o.Define, denizen.AttributeDef{Key: key})
	}
	began := time.Now()
	report, err := transfer.Import(b.ctx, dir, system, rowsOf(n), o)
	took := time.Since(began)
	if err == nil && report.Created != n {
		err = fmt.Errorf("%d users were created", report.Created)
	}
	return took, first(err, dir.Close(), s.Close())
}

func (b *bench) importFile(n int) (time.Duration, error) {
	path := b.file("import")
	s, err := bolt.Open(b.ctx, path, bolt.Options{})
	if err != nil {
		return 0, err
	}
	took, err := b.bring(s, n)
	return took, first(err, os.Remove(path))
}

// importBare writes the same records by bbolt alone, in key order within each transaction.
func (b *bench) importBare(n int) (time.Duration, error) {
	path := b.file("import-bare")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for from := 0; from < n && err == nil; from += aTransaction {
		err = db.Update(func(tx *bbolt.Tx) error {
			records, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			feed, err := tx.CreateBucketIfNotExists([]byte("feed"))
			if err != nil {
				return err
			}
			var puts []store.Record
			for i := from; i < min(from+aTransaction, n); i++ {
				puts = append(puts, recordsOf(i)...)
				event := record.Encode(&record.Event{At: 1, What: "user.created", Actor: ".system", User: string(userID(i)), Incarnation: string(userID(i))})
				if err := feed.Put(fmt.Appendf(nil, "%016x", i), event); err != nil {
					return err
				}
			}
			slices.SortFunc(puts, func(a, b store.Record) int { return strings.Compare(string(a.Key), string(b.Key)) })
			for _, r := range puts {
				if err := records.Put([]byte(r.Key), r.Value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	took := time.Since(began)
	return took, first(err, db.Close(), os.Remove(path))
}

// recordsOf returns what the directory stores of a user.
func recordsOf(i int) []store.Record {
	id := string(userID(i))
	u := record.User{ID: id, Incarnation: id, ScreenName: "Somebody", Created: 1577934245000, Updated: 1577934245000}
	p := record.Profile{User: id, Incarnation: id}
	var all []store.Record
	put := func(key store.Key, r record.Record) {
		all = append(all, store.Record{Key: key, Value: record.Encode(r)})
	}
	for at := range 2 {
		l := record.Locator{
			ID: "CQHF7A2H3KLIU3PDUS4DVWKMNL", Type: "email", Canonical: address(i, at), Raw: address(i, at),
			Status: "Verified", Owned: true, Added: u.Created, Verified: u.Created,
		}
		u.Locators = append(u.Locators, l)
		put(record.OwnerKey("email:"+l.Canonical), &record.Owner{Locator: "email:" + l.Canonical, User: id, Incarnation: id})
	}
	for _, key := range attributeKeys {
		p.Attributes = append(p.Attributes, record.Attribute{Key: key, ContentType: "text/plain", ContentEncoding: "identity", Value: "a value of some length"})
		put(record.AttributeRefKey(key, id), &record.AttributeRef{Attribute: key, User: id})
	}
	put(record.UserKey(id), &u)
	put(record.ProfileKey(id), &p)
	return all
}

// importPocketBase creates the users as records of PocketBase, which have one address each.
func (b *bench) importPocketBase(synchronous string, n int) (took time.Duration, err error) {
	p, err := openPocketBase(b, synchronous, 0)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for from := 0; from < n && err == nil; from += aTransaction {
		err = p.app.RunInTransaction(func(tx core.App) error {
			for i := from; i < min(from+aTransaction, n); i++ {
				if _, err := p.create(tx, address(i, 0)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	took = time.Since(began)
	return took, first(err, p.close())
}

func (b *bench) importPostgres(dsn string, n int) (took time.Duration, err error) {
	err = b.inSchema(dsn, func(pool *pgxpool.Pool, schema string) error {
		s, err := postgres.Open(b.ctx, pool, postgres.Options{Schema: schema})
		if err != nil {
			return err
		}
		took, err = b.bring(s, n)
		return err
	})
	return took, err
}

func (b *bench) exportPostgres(dsn string, n int) error {
	return b.inSchema(dsn, func(pool *pgxpool.Pool, schema string) error {
		s, err := postgres.Open(b.ctx, pool, postgres.Options{Schema: schema})
		if err != nil {
			return err
		}
		if _, err := b.bring(s, n); err != nil {
			return err
		}
		if s, err = postgres.Open(b.ctx, pool, postgres.Options{Schema: schema}); err != nil {
			return err
		}
		dir, err := denizen.New(b.ctx, s, denizen.Options{})
		if err != nil {
			return err
		}
		const side = "Denizen over PostgreSQL"
		return first(b.exports("Export/postgres", side, dir, n), dir.Close(), s.Close())
	})
}

// importCopy copies the users into tables as one would write them by hand, with the same columns
// unique.
func (b *bench) importCopy(dsn string, n int) (took time.Duration, err error) {
	err = b.inSchema(dsn, func(pool *pgxpool.Pool, schema string) error {
		in := pgx.Identifier{schema}.Sanitize() + "."
		_, err := pool.Exec(b.ctx, `CREATE SCHEMA `+pgx.Identifier{schema}.Sanitize()+`;
			CREATE TABLE `+in+`people (id text PRIMARY KEY, screen_name text NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
			CREATE TABLE `+in+`locators (type text, canonical text, person text NOT NULL, raw text NOT NULL, status text NOT NULL, PRIMARY KEY (type, canonical));
			CREATE TABLE `+in+`attributes (person text, key text, value text NOT NULL, PRIMARY KEY (person, key));`)
		if err != nil {
			return err
		}
		began := time.Now()
		for from := 0; from < n; from += aTransaction {
			if err := copyUsers(b.ctx, pool, schema, from, min(from+aTransaction, n)); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	return took, err
}

func copyUsers(ctx context.Context, pool *pgxpool.Pool, schema string, from, to int) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var people, locators, attributes [][]any
		made := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		for i := from; i < to; i++ {
			id := string(userID(i))
			people = append(people, []any{id, "Somebody", made, made})
			for at := range 2 {
				locators = append(locators, []any{"email", address(i, at), id, address(i, at), "Verified"})
			}
			for _, key := range attributeKeys {
				attributes = append(attributes, []any{id, key, "a value of some length"})
			}
		}
		for _, t := range []struct {
			name    string
			columns []string
			rows    [][]any
		}{
			{"people", []string{"id", "screen_name", "created_at", "updated_at"}, people},
			{"locators", []string{"type", "canonical", "person", "raw", "status"}, locators},
			{"attributes", []string{"person", "key", "value"}, attributes},
		} {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{schema, t.name}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
				return err
			}
		}
		return nil
	})
}

// inSchema lends a schema that is dropped afterwards.
func (b *bench) inSchema(dsn string, do func(pool *pgxpool.Pool, schema string) error) error {
	pool, err := pgxpool.New(b.ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	schema := fmt.Sprintf("bench_import_%d", time.Now().UnixNano())
	err = do(pool, schema)
	_, dropped := pool.Exec(context.WithoutCancel(b.ctx), `DROP SCHEMA IF EXISTS `+pgx.Identifier{schema}.Sanitize()+` CASCADE`)
	return first(err, dropped)
}

// printTransfers prints what bringing users in and out costs, if that was measured.
func printTransfers(out *strings.Builder, rs *results) {
	var lines []string
	for _, r := range rs.rows {
		what, is := map[string]string{
			"Import/file": "import into a file", "Import/postgres": "import into PostgreSQL",
			"Import/memory": "the same, at another size", "Export/file": "export from a file", "Export/postgres": "export from PostgreSQL",
		}[r.operation]
		if !is {
			continue
		}
		each, _ := rs.of(r, "ns/op")
		heap, _ := rs.of(r, "heap-B")
		beside := row{operation: r.operation, users: r.users, side: "Denizen"}
		if strings.HasSuffix(r.operation, "/postgres") {
			beside.side += " over PostgreSQL"
		}
		against := ""
		if f, is := rs.ratio(r, beside); is && beside != r {
			against = times(f.median) + " (" + times(f.least) + " to " + times(f.most) + ")"
		}
		n := float64(r.users)
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %s to %s | %s | %s |\n", what, count(r.users), name(r.side),
			rate(each.median), duration(n*each.median), duration(n*each.least), duration(n*each.most), against, bytesOf(heap.most)))
	}
	if len(lines) == 0 {
		return
	}
	out.WriteString("\n## Bringing people in and out\n\nUsers with two addresses and three attributes, in the order of their ids, into a new directory. " +
		"Denizen writes each in a commit of its own with an event, and looks whether somebody has its id or its addresses. The floor over bbolt writes the same records " +
		"and looks for nothing; `COPY` goes into three tables with the same columns unique, without events. PocketBase's users have one address and no attributes. " +
		"The heap is by how much it grew at the most, with garbage that was not collected yet.\n\n" +
		"| operation | users | by | users a second | all | spread | times Denizen's | heap at most |\n|---|---|---|---|---|---|---|---|\n")
	for _, l := range lines {
		out.WriteString(l)
	}
}
