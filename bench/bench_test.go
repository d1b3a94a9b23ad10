package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/invariant"
)

var update = flag.Bool("update", false, "write what is printed from the last full run into RESULTS.md and the project's README")

// The last full run, and the marks that its tables are between.
const (
	recorded = "results/full.txt"
	begin    = "<!-- figures -->\n"
	end      = "<!-- /figures -->\n"
)

func TestTheTablesAreThoseOfTheRecordedRun(t *testing.T) {
	for path, print := range map[string]func(*results) ([]byte, error){
		"RESULTS.md": func(rs *results) ([]byte, error) {
			var b bytes.Buffer
			err := printTables(&b, rs)
			return b.Bytes(), err
		},
		"../README.md": func(rs *results) ([]byte, error) {
			var b bytes.Buffer
			err := printShort(&b, rs)
			return b.Bytes(), err
		},
	} {
		raw, err := os.Open(recorded)
		require.NoError(t, err)
		rs, err := parse(raw)
		require.NoError(t, err)
		require.NoError(t, raw.Close())
		printed, err := print(rs)
		require.NoError(t, err)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		before, rest, found := strings.Cut(string(text), begin)
		require.True(t, found, path)
		shown, after, found := strings.Cut(rest, end)
		require.True(t, found, path)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(before+begin+string(printed)+end+after), 0o644))
			continue
		}
		require.Equal(t, string(printed), shown, "%s: go test -update writes it", path)
	}
}

func TestALineIsReadAsItWasWritten(t *testing.T) {
	for _, r := range []row{
		{"Authenticate/again", 1_000_000, 2, "golang-jwt HS256"},
		{"HTTP/user", 0, 64, "floor: net/http that writes the same bytes"},
		{"Importer", 0, 0, "Denizen, a user with an e-mail address in a file"},
		{"Open", 1000, 0, "Denizen"},
	} {
		var raw bytes.Buffer
		b := &bench{out: &raw}
		require.NoError(t, b.write(r, turn{n: 10, values: map[string]float64{"ns/op": 96.5, "allocs/op": 0}}))
		require.NoError(t, b.write(r, turn{n: 12, values: map[string]float64{"ns/op": 90.5, "allocs/op": 0}}))
		rs, err := parse(&raw)
		require.NoError(t, err)
		require.Equal(t, []row{r}, rs.rows)
		require.Equal(t, []map[string]float64{{"ns/op": 96.5, "allocs/op": 0}, {"ns/op": 90.5, "allocs/op": 0}}, rs.turns[r])
	}
}

func TestARatioIsTheMedianOfTheRoundsOwn(t *testing.T) {
	var raw bytes.Buffer
	b := &bench{out: &raw}
	ours, theirs := row{"X", 0, 1, "Denizen"}, row{"X", 0, 1, "peer"}
	for _, round := range [][2]float64{{10, 20}, {100, 300}, {20, 80}} { // the machine was slow in the second
		require.NoError(t, b.write(ours, turn{n: 1, values: map[string]float64{"ns/op": round[0]}}))
		require.NoError(t, b.write(theirs, turn{n: 1, values: map[string]float64{"ns/op": round[1]}}))
	}
	rs, err := parse(&raw)
	require.NoError(t, err)
	ratio, measured := rs.ratio(theirs, ours)
	require.True(t, measured)
	require.Equal(t, figure{3, 2, 4}, ratio)
	_, measured = rs.ratio(theirs, row{"X", 0, 1, "nobody"})
	require.False(t, measured)
}

func TestAnAimThatIsMissedIsSaid(t *testing.T) {
	require.True(t, goal{least: 20}.holds(figure{median: 20}))
	require.False(t, goal{least: 20}.holds(figure{median: 19.9}))
	require.True(t, goal{most: 1.5}.holds(figure{median: 1.5}))
	require.False(t, goal{most: 1.5}.holds(figure{median: 1.51}))
	require.True(t, goal{}.holds(figure{}), "no allocation")
	require.False(t, goal{}.holds(figure{median: 1}), "no allocation")
}

// The loaded records must be those that the directory would have stored. Otherwise something else
// would be measured.
func TestThePeopleAreADirectoryAtRest(t *testing.T) {
	b := &bench{ctx: t.Context(), scratch: t.TempDir()}
	p, err := newPeople(b, 500, true)
	require.NoError(t, err)
	require.NoError(t, p.issue(b.ctx, 100))
	by, err := p.dir.Authenticate(b.ctx, p.texts[7])
	require.NoError(t, err)
	require.Equal(t, p.ids[7], by.User())
	found, err := p.dir.UsersByLocator(b.ctx, system, []string{p.emails[7]})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, p.ids[7], found[0].ID)
	require.NoError(t, p.copy())
	require.NoError(t, p.dir.Close())
	invariant.Check(t, p.store)
	require.NoError(t, p.store.Close())
	require.NoError(t, p.floor.Close())
}

func TestEachOperationIsAskedForOnce(t *testing.T) {
	seen := map[uint64]bool{}
	var made calls
	o := operation{goroutines: 1}
	s := side{some: 10, do: func(i uint64) error {
		require.False(t, seen[i])
		seen[i] = true
		return nil
	}}
	for range 3 {
		got, err := made.turn(s, o, time.Nanosecond)
		require.NoError(t, err)
		require.EqualValues(t, 10, got.n)
	}
	require.Len(t, seen, 30)
}
