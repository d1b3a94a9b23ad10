package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// walk imports a source as its user would: in a dry run, then for real, then taking what is free of
// rows that were refused, and once more. It returns what was printed and an export of the
// directory.
func walk(t *testing.T, s settings) (printed, exported string) {
	t.Helper()
	s.db = filepath.Join(t.TempDir(), "people.db")
	s.trust = true
	var out bytes.Buffer
	for _, change := range []func(){
		func() { s.dryRun = true },
		func() { s.dryRun = false },
		func() { s.takeFree = true },
		func() { s.export = filepath.Join(filepath.Dir(s.db), "people.jsonl") },
	} {
		change()
		require.NoError(t, run(t.Context(), s, &out))
	}
	text, err := os.ReadFile(s.export)
	require.NoError(t, err)
	return out.String(), string(text)
}

var times = regexp.MustCompile(`"(verifiedAt|at)":"[^"]*"|"(seq|directory)":[^,]*`)

// goesOut requires that an export imports into another directory unchanged.
func goesOut(t *testing.T, exported string) {
	t.Helper()
	dir := t.TempDir()
	s := settings{from: "denizen", in: filepath.Join(dir, "in.jsonl"), db: filepath.Join(dir, "people.db"), export: filepath.Join(dir, "out.jsonl"), trust: true}
	require.NoError(t, os.WriteFile(s.in, []byte(exported), 0o600))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), s, &out))
	require.Contains(t, out.String(), " 0 refused\n")
	text, err := os.ReadFile(s.export)
	require.NoError(t, err)
	keep := func(text string) string {
		_, users, _ := strings.Cut(text, "\n")
		return regexp.MustCompile(`"cursor":"[^"]*"`).ReplaceAllString(users, "")
	}
	require.Equal(t, keep(exported), keep(string(text)))
}

// ofPeople returns the lines of users, without the times at which they were imported.
func ofPeople(exported string) string {
	_, lines, _ := strings.Cut(times.ReplaceAllString(exported, `"$1":…`), "\n")
	return lines
}

func TestImport_CSV(t *testing.T) {
	printed, exported := walk(t, settings{from: "csv", in: "testdata/users.csv"})
	require.Equal(t, `row 2: locator: belongs to another user (refused): row 1 would have it
row 3: created_at: is no time such as 2006-01-02T15:04:05Z (refused)
row 4: screenName: must be 1 to 128 characters (refused)
row 6: row: has too few or too many columns (refused)
6 rows: 2 created, 0 present, 4 refused; nothing was written
row 2: locator: belongs to another user (refused): it is of imported-1
row 3: created_at: is no time such as 2006-01-02T15:04:05Z (refused)
row 4: screenName: must be 1 to 128 characters (refused)
row 6: row: has too few or too many columns (refused)
6 rows: 2 created, 0 present, 4 refused
row 2: locator: belongs to another user (created): it is of imported-1
row 3: created_at: is no time such as 2006-01-02T15:04:05Z (refused)
row 4: screenName: must be 1 to 128 characters (refused)
row 6: row: has too few or too many columns (refused)
6 rows: 1 created, 2 present, 3 refused; 1 lack an address that another user has
row 3: created_at: is no time such as 2006-01-02T15:04:05Z (refused)
row 4: screenName: must be 1 to 128 characters (refused)
row 6: row: has too few or too many columns (refused)
6 rows: 0 created, 3 present, 3 refused
exported 3 users
`, printed)
	people := ofPeople(exported)
	require.Contains(t, people, `{"locator":"email:ada@example.org","status":"Verified","addedAt":"2020-01-02T03:04:05Z","verifiedAt":…}`)
	require.Contains(t, people, `{"locator":"tele:+44 20 7183 8750","status":"StatusNotProvided"`)
	require.Contains(t, people, `{"locator":"external:shop.example.org|2"`)
	require.Contains(t, people, `"id":"imported-5","screenName":"Eve","blocked":true`)
	require.Contains(t, people, `{"key":"city","value":"London"}`)
	require.Contains(t, exported, `"verifiedAt":"2020-02-03T04:05:06Z"`)
	goesOut(t, exported)
}

func TestImport_Firebase(t *testing.T) {
	printed, exported := walk(t, settings{from: "firebase", in: "testdata/firebase.json"})
	require.Equal(t, `row 4: createdAt: is no number of milliseconds (refused)
row 5: locator: belongs to another user (refused): row 1 would have it
5 rows: 3 created, 0 present, 2 refused; nothing was written
row 4: createdAt: is no number of milliseconds (refused)
row 5: locator: belongs to another user (refused): it is of 0Fm5TqkYb2hXv1c9Zr7sWn3DpLe1
5 rows: 3 created, 0 present, 2 refused
row 4: createdAt: is no number of milliseconds (refused)
row 5: locator: belongs to another user (created): it is of 0Fm5TqkYb2hXv1c9Zr7sWn3DpLe1
5 rows: 1 created, 3 present, 1 refused; 1 lack an address that another user has
row 4: createdAt: is no number of milliseconds (refused)
5 rows: 0 created, 4 present, 1 refused
exported 4 users
`, printed)
	people := ofPeople(exported)
	require.Contains(t, people, `{"locator":"external:google.com|100000000000000000001","status":"Verified"`)
	require.Contains(t, people, `{"key":"avatar","value":"https://example.org/ada.png"}`)
	require.Contains(t, people, `"id":"imported-legacy_3A7","screenName":"Ben","blocked":true,"createdAt":"2020-01-02T03:04:07Z"`)
	require.NotContains(t, exported, "bm90IGEgaGFzaA")
	goesOut(t, exported)
}

func TestImport_PocketBase(t *testing.T) {
	printed, exported := walk(t, settings{from: "pocketbase", in: "testdata/pocketbase.json"})
	require.Equal(t, `row 3: locator: e-mail address has no @ (refused)
3 rows: 2 created, 0 present, 1 refused; nothing was written
row 3: locator: e-mail address has no @ (refused)
3 rows: 2 created, 0 present, 1 refused
row 3: locator: e-mail address has no @ (refused)
3 rows: 0 created, 2 present, 1 refused
row 3: locator: e-mail address has no @ (refused)
3 rows: 0 created, 2 present, 1 refused
exported 2 users
`, printed)
	people := ofPeople(exported)
	require.Contains(t, people, `"id":"k3v9x2m7q1w8e5r","screenName":"Ada","createdAt":"2023-04-05T06:07:08.91Z","updatedAt":"2024-04-05T06:07:08.91Z"`)
	require.Contains(t, people, `{"locator":"email:ben@example.org","status":"Unverified"`)
	goesOut(t, exported)
}

func TestImport_ATableInPostgreSQL(t *testing.T) {
	dsn := os.Getenv("DENIZEN_POSTGRES")
	if dsn == "" {
		t.Skip("DENIZEN_POSTGRES is not set")
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	schema := "import_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	table, err := os.ReadFile("testdata/table.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE SCHEMA "+schema+"; SET search_path = "+schema+";"+string(table))
	require.NoError(t, err)
	in, err := url.Parse(dsn)
	require.NoError(t, err)
	query := in.Query()
	query.Set("search_path", schema)
	in.RawQuery = query.Encode()

	printed, exported := walk(t, settings{from: "postgres", in: in.String(), query: defaultQuery})
	require.Equal(t, `row 2: locator: belongs to another user (refused): row 1 would have it
row 3: updatedAt: must not be before createdAt (refused)
4 rows: 2 created, 0 present, 2 refused; nothing was written
row 2: locator: belongs to another user (refused): it is of imported-1
row 3: updatedAt: must not be before createdAt (refused)
4 rows: 2 created, 0 present, 2 refused
row 2: locator: belongs to another user (created): it is of imported-1
row 3: updatedAt: must not be before createdAt (refused)
4 rows: 1 created, 2 present, 1 refused; 1 lack an address that another user has
row 3: updatedAt: must not be before createdAt (refused)
4 rows: 0 created, 3 present, 1 refused
exported 3 users
`, printed)
	require.Contains(t, ofPeople(exported), `"id":"imported-1","screenName":"Ada","createdAt":"2020-01-02T03:04:05.678Z","updatedAt":"2021-01-02T03:04:05Z"`)
	require.Contains(t, exported, `"verifiedAt":"2020-02-03T04:05:06Z"`)
	goesOut(t, exported)
}

func TestImport_ASourceThatIsNone(t *testing.T) {
	db := filepath.Join(t.TempDir(), "people.db")
	for _, s := range []settings{
		{from: "ldap", in: "testdata/users.csv"},
		{from: "csv", in: "testdata/nothing"},
		{from: "csv", in: "testdata/firebase.json"},
		{from: "firebase", in: "testdata/users.csv"},
		{from: "pocketbase", in: "testdata/users.csv"},
		{from: "denizen", in: "testdata/users.csv"},
	} {
		s.db = db
		require.Error(t, run(t.Context(), s, new(bytes.Buffer)))
	}
}
