package spec_test

import (
	crand "crypto/rand"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// in returns a statement in which the names in braces are those of a schema.
func in(schema, sql string) string {
	return strings.NewReplacer("{", pgx.Identifier{schema}.Sanitize()+".", "}", "").Replace(sql)
}

// selected returns the rows of a query.
func selected[T any](t *testing.T, p *process, sql string, args ...any) []T {
	t.Helper()
	rows, err := p.pool.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	require.NoError(t, err)
	return all
}

// The rows of the views.
type (
	viewedUser struct {
		UserID, InternalID, ScreenName string
		Blocked                        bool
		CreatedAt, UpdatedAt           time.Time
		Version                        int64
		BlockedUntil                   *time.Time
	}
	viewedLocator struct {
		UserID, LocatorID, Type, Address, Raw, Canonical, Status string
		Owned                                                    bool
		AddedAt                                                  time.Time
		VerifiedAt                                               *time.Time
	}
	viewedAttribute struct{ UserID, Key, ContentType, ContentEncoding, Value string }
	viewedPresence  struct {
		UserID, State, Device string
		Since                 time.Time
		Until                 *time.Time
	}
)

// local is t as a pgx row has it.
func local(t time.Time) time.Time { return t.Local() }

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Local()
	return &t
}

func TestTheViewsSayWhatTheDirectorySays(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	// What an hour ago was set has partly run out, or gone on to its next state.
	ago, now := newProcess(t, schema, denizen.Options{}, -time.Hour), newProcess(t, schema, denizen.Options{}, 0)
	fillAtRandom(t, ago, now)
	// Records of kinds that only later versions know, before, between and behind the others.
	var unknown store.Batch
	for _, key := range []store.Key{"A", "n~", "q", "v", "\xff"} {
		unknown.Put = append(unknown.Put, store.Record{Key: key, Value: []byte(`{"kind":"later","id":"later-001","user":"later-001","locators":[{"id":"x"}],` +
			`"attributes":[{"key":"x"}],"devices":[{"chain":[{"state":"x"}]}]}`)})
	}
	_, err := now.store.Commit(ctx, unknown)
	require.NoError(t, err)

	var users []viewedUser
	var locators []viewedLocator
	var attributes []viewedAttribute
	var presences []viewedPresence
	for u, err := range now.AllUsers(ctx, system) { // in the order of the ids
		require.NoError(t, err)
		id := string(u.ID)
		users = append(users, viewedUser{id, u.InternalID, u.ScreenName, u.Blocked, local(u.CreatedAt), local(u.UpdatedAt), int64(u.Version), orNull(u.Block.Until)})
		for _, l := range u.Locators {
			locators = append(locators, viewedLocator{
				id, string(l.ID), string(l.Type), l.Address, l.Raw, l.Canonical, string(l.Status), l.Owned, local(l.AddedAt), orNull(l.VerifiedAt),
			})
		}
		profile, err := now.Profile(ctx, system, u.ID)
		require.NoError(t, err)
		for _, a := range profile.Attributes {
			attributes = append(attributes, viewedAttribute{id, a.Key, a.ContentType, a.ContentEncoding, a.Value})
		}
		p, err := now.Presence(ctx, system, u.ID)
		require.NoError(t, err)
		if p.Presence.State() != "" {
			row := viewedPresence{id, p.Presence.State(), p.Presence.Device(), local(p.Since), nil}
			row.Until = orNull(p.Until)
			presences = append(presences, row)
		}
	}
	slices.SortFunc(locators, func(a, b viewedLocator) int { return strings.Compare(a.UserID+a.LocatorID, b.UserID+b.LocatorID) })

	require.Equal(t, users, selected[viewedUser](t, now, in(schema, `SELECT * FROM {users} ORDER BY user_id COLLATE "C"`)))
	require.Equal(t, locators, selected[viewedLocator](t, now, in(schema, `SELECT * FROM {locators} ORDER BY (user_id || locator_id) COLLATE "C"`)))
	require.Equal(t, attributes, selected[viewedAttribute](t, now, in(schema, `SELECT * FROM {attributes} ORDER BY user_id COLLATE "C", key COLLATE "C"`)))
	require.Equal(t, presences, selected[viewedPresence](t, now, in(schema, `SELECT * FROM {presences} ORDER BY user_id COLLATE "C"`)))

	for i, u := range users {
		require.Equal(t, users[i:i+1], selected[viewedUser](t, now, in(schema, `SELECT * FROM {users} WHERE user_id = $1`), u.UserID))
	}
}

// fillAtRandom makes users with all that can be known of them, changes and deletes some.
func fillAtRandom(t *testing.T, ago, now *process) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 8))
	keys := []string{"bio", "Bio", "city of birth", "größe", "日本"}
	for _, key := range keys {
		_, err := now.DefineAttribute(ctx, system, denizen.AttributeDef{Key: key, VisibleTo: denizen.ToSystem, WritableBy: denizen.ToSystem})
		require.NoError(t, err)
	}
	statuses := []denizen.VerificationStatus{"", denizen.Verified, denizen.Unverified, denizen.VerificationPending}
	for i := range 60 {
		id := denizen.UserID(fmt.Sprintf("%s%02d@#$-_x", []string{"a", "Z", "@", "#", "0"}[r.IntN(5)], i))
		mail := func(n int) string { return fmt.Sprintf("User.%d.%d@Example.org", i, n) }
		given := denizen.NewUser{ID: id, ScreenName: []string{"Alice", "O'Brien \\ \"x\"", "日本", "é{}"}[r.IntN(4)]}
		for n := range r.IntN(4) {
			l := denizen.Email(mail(n))
			l.Status = statuses[r.IntN(len(statuses))]
			given.Locators = append(given.Locators, l)
		}
		if r.IntN(2) == 0 {
			given.Locators = append(given.Locators, denizen.Tele(fmt.Sprintf("+49 (151) 234567%02d", i)))
		}
		p := []*process{ago, now}[r.IntN(2)]
		u, err := p.CreateUser(ctx, system, given)
		require.NoError(t, err)
		if r.IntN(3) == 0 {
			token, err := now.IssueToken(ctx, system, id, denizen.TokenOptions{TTL: time.Hour})
			require.NoError(t, err)
			self, err := now.Authenticate(ctx, token.Signed)
			require.NoError(t, err)
			_, err = now.AddLocator(ctx, self, id, denizen.Email("claimed@example.org"))
			require.NoError(t, err)
		}
		if len(u.Locators) > 0 && r.IntN(2) == 0 {
			_, err = now.SetVerification(ctx, system, id, u.Locators[0].ID, statuses[1+r.IntN(3)])
			require.NoError(t, err)
		}
		var attributes []denizen.Attribute
		for _, key := range keys {
			if r.IntN(2) == 0 {
				attributes = append(attributes, denizen.Attribute{
					Key: key, Value: []string{"", "null", "\\x00\n\"", "日本 👩‍👧"}[r.IntN(4)],
					ContentType: []string{"", "text/html"}[r.IntN(2)], ContentEncoding: []string{"", "base64"}[r.IntN(2)],
				})
			}
		}
		if len(attributes) > 0 {
			_, err = p.SetAttributes(ctx, system, id, attributes, denizen.Merge)
			require.NoError(t, err)
		}
		for n := range r.IntN(4) {
			var chain denizen.Presence // no sum of these is an hour: nothing ends while it is compared
			for range 1 + r.IntN(3) {
				ttl := []time.Duration{7 * time.Minute, 25 * time.Minute, 48 * time.Hour}[r.IntN(3)]
				chain = chain.Then(denizen.State([]string{denizen.StateOnline, denizen.StateAway, denizen.StateMissing, "In a meeting"}[r.IntN(4)], ttl))
			}
			if r.IntN(2) == 0 {
				chain = chain.Then(denizen.Offline())
			}
			require.NoError(t, []*process{ago, ago, now}[r.IntN(3)].SetPresence(ctx, system, id, chain.On([]string{"", "web", "téléphone", "Z"}[n])))
		}
		switch r.IntN(6) {
		case 0:
			_, err = now.BlockUser(ctx, system, id, denizen.Block{Reason: "why"})
			if err == nil && r.IntN(2) == 0 {
				_, err = now.BlockUser(ctx, system, id, denizen.Block{Until: time.Now().Add(time.Hour)})
			}
		case 1:
			err = now.DeleteUser(ctx, system, id)
		case 2:
			_, err = now.SetScreenName(ctx, system, id, "Renamed")
		}
		require.NoError(t, err)
	}
}

func TestAHostJoinsTheDirectoryWithItsOwnTables(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	p := newProcess(t, schema, denizen.Options{}, 0)
	alice, _ := p.alice(t)
	_, err := p.CreateUser(ctx, system, denizen.NewUser{ID: "bob-00001", ScreenName: "Bob"})
	require.NoError(t, err)
	require.NoError(t, p.SetPresence(ctx, system, alice, denizen.Away(time.Hour)))
	_, err = p.DefineAttribute(ctx, system, denizen.AttributeDef{Key: "city"})
	require.NoError(t, err)
	_, err = p.SetAttribute(ctx, system, alice, denizen.Attribute{Key: "city", Value: "Bremen"})
	require.NoError(t, err)

	orders := pgx.Identifier{"orders_" + strings.ToLower(crand.Text())}.Sanitize()
	_, err = p.pool.Exec(ctx, "CREATE TABLE "+orders+" (id int, person text)")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = p.pool.Exec(ctx, "DROP TABLE "+orders) })
	_, err = p.pool.Exec(ctx, "INSERT INTO "+orders+" VALUES (1, 'alice-0001'), (2, 'bob-00001'), (3, 'alice-0001'), (4, 'nobody-01')")
	require.NoError(t, err)

	type row struct {
		ID                         int
		ScreenName                 string
		Address, City, State, Gone *string
	}
	mail, city, away := "alice@example.org", "Bremen", denizen.StateAway
	require.Equal(t, []row{
		{1, "Alice", &mail, &city, &away, nil}, {2, "Bob", nil, nil, nil, nil}, {3, "Alice", &mail, &city, &away, nil},
	}, selected[row](t, p, in(schema, `SELECT o.id, u.screen_name, l.address, a.value, p.state, NULL::text
		FROM `+orders+` o JOIN {users} u ON u.user_id = o.person
		LEFT JOIN {locators} l ON l.user_id = u.user_id AND l.type = 'email' AND l.owned
		LEFT JOIN {attributes} a ON a.user_id = u.user_id AND a.key = 'city'
		LEFT JOIN {presences} p ON p.user_id = u.user_id ORDER BY o.id`)))
}

// reader makes a role with the rights that the views' SQL lists, and connects as it. What
// the server notes meanwhile goes to heard.
func reader(t *testing.T, schema string, heard func(string)) *pgx.Conn {
	t.Helper()
	role := "reader_" + strings.ToLower(crand.Text())
	do := func(sql string) {
		_, err := pool().Exec(ctx, sql)
		require.NoError(t, err)
	}
	do("CREATE ROLE " + role + " LOGIN PASSWORD 'pass' NOSUPERUSER")
	t.Cleanup(func() { do("DROP OWNED BY " + role); do("DROP ROLE " + role) })
	do("GRANT USAGE ON SCHEMA " + schema + " TO " + role)
	do(in(schema, "GRANT SELECT ON {users}, {locators}, {attributes}, {presences} TO "+role))
	dsn, err := url.Parse(os.Getenv("DENIZEN_POSTGRES"))
	require.NoError(t, err)
	dsn.User = url.UserPassword(role, "pass")
	config, err := pgx.ParseConfig(dsn.String())
	require.NoError(t, err)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard(n.Message) }
	conn, err := pgx.ConnectConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

func TestARoleWithRightsOnTheViewsReadsThemAndNothingElse(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	p := newProcess(t, schema, denizen.Options{}, 0)
	fillAtRandom(t, p, p)
	conn := reader(t, schema, func(string) {})
	for _, view := range []string{"users", "locators", "attributes", "presences"} {
		var n int
		require.NoError(t, conn.QueryRow(ctx, in(schema, "SELECT count(*) FROM {"+view+"}")).Scan(&n))
		require.NotZero(t, n, view)
		for _, sql := range []string{"DELETE FROM {%s}", "UPDATE {%s} SET user_id = 'x'", "INSERT INTO {%s} (user_id) VALUES ('x')"} {
			sql = in(schema, fmt.Sprintf(sql, view))
			_, err := conn.Exec(ctx, sql)
			require.Error(t, err, sql)
			_, err = p.pool.Exec(ctx, sql)
			require.Error(t, err, "not even its owner: %s", sql)
		}
	}
	for _, table := range []string{"records", "changes", "head", "migrations"} {
		_, err := conn.Exec(ctx, in(schema, "SELECT count(*) FROM {"+table+"}"))
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, table)
		require.Equal(t, "42501", refused.Code, table)
	}
}

func TestAConditionOfAReaderLearnsNothingOfOtherRecords(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	p := newProcess(t, schema, denizen.Options{}, 0)
	fillAtRandom(t, p, p)
	require.NoError(t, p.PutAccessKey(ctx, system, "access-key-1", base64.StdEncoding.EncodeToString(make([]byte, 32))))

	heard := map[string]bool{}
	conn := reader(t, schema, func(s string) { heard[s] = true })
	// So cheap that the planner has it tried first, on every record.
	_, err := conn.Exec(ctx, `SET enable_indexscan = off; SET enable_bitmapscan = off; CREATE FUNCTION pg_temp.tell(v text) RETURNS boolean LANGUAGE plpgsql COST 0.000001
		AS $$ BEGIN IF v IS NOT NULL THEN RAISE NOTICE '%', v; END IF; RETURN true; END $$`)
	require.NoError(t, err)
	for view, columns := range map[string][]string{
		"users":      {"user_id", "internal_id", "screen_name", "created_at", "updated_at"},
		"locators":   {"user_id", "locator_id", "type", "address", "canonical", "status", "added_at", "verified_at"},
		"attributes": {"user_id", "key", "content_type", "content_encoding", "value"},
		"presences":  {"user_id", "state", "device", "since", "until"},
	} {
		for _, column := range columns {
			clear(heard)
			from := view
			if column == "user_id" {
				from = "users" // who has no row, such as no locators, may be learnt of
			}
			rows, err := conn.Query(ctx, in(schema, fmt.Sprintf("SELECT %[1]s::text FROM {%[2]s} WHERE %[1]s IS NOT NULL", column, from)))
			require.NoError(t, err)
			shown, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			_, err = conn.Exec(ctx, in(schema, fmt.Sprintf("SELECT 1 FROM {%s} WHERE pg_temp.tell(%s::text)", view, column)))
			require.NoError(t, err)
			require.NotEmpty(t, heard)
			for s := range heard {
				require.Contains(t, shown, s, "%s.%s", view, column)
			}
		}
	}
}

func TestTheActivePresenceInSQLIsThatOfThePackage(t *testing.T) {
	requirePostgres(t)
	schema := newSchema()
	p := newProcess(t, schema, denizen.Options{}, 0)
	const cases = 6_000
	r := rand.New(rand.NewPCG(9, 10))
	values, instants, want := make([]string, cases), make([]int64, cases), make([]activeRow, cases)
	seen := map[string]int{}
	for i := range cases {
		devices, now := devicesAtRandom(r)
		values[i] = string(record.Encode(&record.Devices{User: "alice-01", Devices: devices}))
		instants[i] = now
		want[i] = activeRow{I: int64(i + 1)}
		reading := presence.Read(devices, now)
		if len(reading.Rest) == 0 {
			seen["none"]++
			continue
		}
		active := reading.Rest[0]
		want[i].State = pgtype.Text{String: active.State, Valid: true}
		want[i].Device = pgtype.Text{String: reading.Device, Valid: true}
		want[i].Since = pgtype.Int8{Int64: reading.Since, Valid: true}
		if active.Seconds > 0 {
			want[i].Until = pgtype.Int8{Int64: reading.Until, Valid: true}
			seen["running"]++
		} else {
			seen["static"]++
		}
		if now == reading.Since {
			seen["just begun"]++
		}
		if now == want[i].Until.Int64-1 {
			seen["about to end"]++
		}
		if now < reading.Since {
			seen["ahead"]++
		}
		alike := 0
		for _, d := range devices {
			if r := d.Read(now); len(r.Rest) > 0 && r.Since == reading.Since && r.Rest[0].State == active.State {
				alike++
			}
		}
		if alike > 1 {
			seen["decided by name"]++
		}
	}
	for _, what := range []string{"none", "running", "static", "just begun", "about to end", "ahead", "decided by name"} {
		require.Greater(t, seen[what], 100, "%s: %v", what, seen)
	}
	got := selected[activeRow](t, p, in(schema, `SELECT c.i, p.state, p.device,
			(extract(epoch FROM p.since) * 1000)::numeric::bigint, (extract(epoch FROM p.until) * 1000)::numeric::bigint
		FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS c(value, now, i)
		LEFT JOIN LATERAL {active_presence}(c.value::jsonb -> 'devices', c.now) p ON true ORDER BY c.i`), values, instants)
	require.Len(t, got, cases)
	for i := range want {
		require.Equal(t, want[i], got[i], "at %d: %s", instants[i], values[i])
	}
}

type activeRow struct {
	I             int64
	State, Device pgtype.Text
	Since, Until  pgtype.Int8
}

// devicesAtRandom returns devices and an instant, mostly one at which something begins or
// ends, or one beside it. There is so little to choose from that much comes out alike.
func devicesAtRandom(r *rand.Rand) (devices []presence.Device, now int64) {
	const base = 1_800_000_000_123
	states := []string{presence.Online, presence.Away, presence.Sleeping, presence.Missing, presence.Offline, "In a meeting", "mitter.up.online", "Ö"}
	names := []string{"", "a", "Z", "b", "aa", "é", "web", "日本", "👩", "\uffee", "_", "1", "10", "2", "ä", "~"}
	pick := states[:1+r.IntN(len(states))]
	edges := []int64{base}
	for _, name := range names[:r.IntN(len(names)+1)] {
		d := presence.Device{Name: name, Start: base + []int64{0, 0, 1, 1000, -1000, 5000, -7500}[r.IntN(7)]}
		if r.IntN(2) == 0 {
			d.Beat = d.Start + []int64{0, 1, 1000, 1500, -1}[r.IntN(5)]
		}
		links := 1 + r.IntN(4)
		if r.IntN(8) == 0 {
			links = presence.MaxLinks
		}
		left := int64(presence.MaxSeconds)
		at := d.Origin()
		for i := range links {
			seconds := []int64{1, 1, 2, 5, 3600, 86400 * 365}[r.IntN(6)]
			switch last := i == links-1; {
			case last && r.IntN(3) == 0:
				seconds = 0
			case last && r.IntN(4) == 0 || left-seconds < int64(links):
				seconds = left - int64(links-1-i)
			}
			left -= seconds
			d.Chain = append(d.Chain, presence.Link{State: pick[r.IntN(len(pick))], Seconds: seconds})
			edges = append(edges, at)
			at += 1000 * seconds
		}
		if reason := d.Chain.Check(); reason != "" {
			panic(reason)
		}
		edges = append(edges, at)
		devices = append(devices, d)
	}
	r.Shuffle(len(devices), func(i, j int) { devices[i], devices[j] = devices[j], devices[i] })
	now = edges[r.IntN(len(edges))] + []int64{0, 0, -1, 1, 500, -999}[r.IntN(6)]
	if r.IntN(20) == 0 {
		now = base + r.Int64N(2*1000*presence.MaxSeconds) - 1_000_000
	}
	return devices, now
}
