package locator_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

// TestCorpora adds the rows of public collections to the tables of this package. The environment
// variable DENIZEN_CORPORA names the directory that holds them.
func TestCorpora(t *testing.T) {
	dir := os.Getenv("DENIZEN_CORPORA")
	if dir == "" {
		t.Skip("DENIZEN_CORPORA is not set")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir) // relative to the root of the module
	}
	t.Run("isemail", func(t *testing.T) { testIsemail(t, filepath.Join(dir, "isemail", "isemail.tsv")) })
	t.Run("email pairs", func(t *testing.T) { testEmailPairs(t, filepath.Join(dir, "unicode", "email_pairs.tsv")) })
	t.Run("example numbers", func(t *testing.T) { testExampleNumbers(t, filepath.Join(dir, "phone")) })
	t.Run("hostile numbers", func(t *testing.T) { testHostileNumbers(t, filepath.Join(dir, "phone", "hostile_inputs.tsv")) })
	t.Run("odd numbers", func(t *testing.T) { testOddNumbers(t, filepath.Join(dir, "phone", "util_test_inputs.tsv")) })
	t.Run("naughty strings", func(t *testing.T) { testNaughtyStrings(t, filepath.Join(dir, "naughty", "blns.json")) })
	t.Run("user ids", func(t *testing.T) { testUserIDs(t, filepath.Join(dir, "userid", "userid.tsv")) })
}

func testIsemail(t *testing.T, file string) {
	count := map[string]int{}
	for _, row := range readTSV(t, file) {
		address, verdict := row.text(t, "address_json"), row["verdict"]
		accepted := requireSafe(t, locator.Email, address)
		switch verdict {
		case "must_accept":
			if !accepted && strings.Contains(strings.ToLower(address), "xn--") {
				_, err := locator.New(locator.Email, address)
				requireRefused(t, err, "not a valid A-label")
				count["invalid A-label"]++
				continue
			}
			require.True(t, accepted, "%q must be accepted", address)
		case "must_reject":
			require.False(t, accepted, "%q must be refused", address)
		case "either":
			if accepted {
				count["either, accepted"]++
			}
		default:
			require.Fail(t, "unknown verdict", verdict)
		}
		count[verdict]++
	}
	t.Log(count)
	require.Positive(t, count["must_accept"])
	require.Positive(t, count["must_reject"])
	require.Positive(t, count["either"])
}

func testEmailPairs(t *testing.T, file string) {
	rows := readTSV(t, file)
	for _, row := range rows {
		a, b, expect := row.text(t, "a_json"), row.text(t, "b_json"), row["expect"]
		first, second := canonicalOrNone(t, a), canonicalOrNone(t, b)
		switch expect {
		case "equal if U-labels are accepted, else reject the second":
			require.Equal(t, first, second, "%q and %q", a, b)
		case "reject":
			require.Empty(t, second, "%q must be refused", b)
		case "reject both if ASCII-only; else equal":
			require.Empty(t, first, "%q must be refused", a)
			require.Empty(t, second, "%q must be refused", b)
			continue
		case "must not be equal":
			require.NotEqual(t, first, second, "%q and %q", a, b)
		case "distinct":
			require.NotEmpty(t, second, "%q must be accepted", b)
			require.NotEqual(t, first, second, "%q and %q", a, b)
		case "domain equal always; local part: documented choice":
			require.Equal(t, first, second, "%q and %q", a, b)
		case "reject or equal", "reject or equal, never a second key":
			require.Contains(t, []string{"", first}, second, "%q and %q", a, b)
		default:
			require.Fail(t, "unknown expectation", expect)
		}
		require.NotEmpty(t, first, "%q must be accepted", a)
	}
	t.Log(len(rows), "pairs")
}

func testExampleNumbers(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "example_numbers*.tsv"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		accepted, refused := 0, 0
		for _, row := range readTSV(t, file) {
			number := row["e164"]
			require.NotEmpty(t, number)
			if valid, judged := row["valid"]; judged && (valid != "true" || row["roundtrip_e164"] != number) {
				require.False(t, requireSafe(t, locator.Tele, number), "%s must be refused", number)
				refused++
				continue
			}
			l, err := locator.New(locator.Tele, number)
			if digits := len(number) - 1; digits < 7 || digits > 15 {
				requireRefused(t, err, "digits")
				refused++
				continue
			}
			require.NoError(t, err, number)
			require.Equal(t, number, l.Canonical)
			requireOneForm(t, l, number)
			accepted++
		}
		t.Log(filepath.Base(file), "accepted:", accepted, "refused:", refused)
		require.Greater(t, accepted, 1000)
	}
}

func testHostileNumbers(t *testing.T, file string) {
	count := map[string]int{}
	for _, row := range readTSV(t, file) {
		number, expect := row.text(t, "input_json"), row["expect"]
		accepted := requireSafe(t, locator.Tele, number)
		l, _ := locator.New(locator.Tele, number)
		switch expect {
		case "accept":
			require.True(t, accepted, "%q must be accepted", number)
			if canonical, _, _ := strings.Cut(row["canonical_or_note"], " "); strings.HasPrefix(canonical, "+") {
				require.Equal(t, canonical, l.Canonical)
			}
		case "reject":
			require.False(t, accepted, "%q must be refused", number)
		case "either":
			if accepted {
				canonical, _, _ := strings.Cut(row["canonical_or_note"], " ")
				require.Equal(t, canonical, l.Canonical)
				count["either, accepted"]++
			}
		default:
			require.Fail(t, "unknown expectation", expect)
		}
		count[expect]++
	}
	t.Log(count)
	require.Positive(t, count["accept"])
	require.Positive(t, count["reject"])
	require.Positive(t, count["either"])
}

func testOddNumbers(t *testing.T, file string) {
	rows, accepted := readTSV(t, file), 0
	for _, row := range rows {
		number := row.text(t, "input_json")
		if requireSafe(t, locator.Tele, number) {
			accepted++
		}
		requireSafe(t, locator.Email, number)
	}
	t.Log(len(rows), "inputs, accepted:", accepted)
	require.Positive(t, accepted)
}

func testNaughtyStrings(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var strs []string
	require.NoError(t, json.Unmarshal(data, &strs))
	require.Greater(t, len(strs), 100)
	accepted := 0
	for _, s := range strs {
		for _, kind := range []locator.Type{locator.Email, locator.Tele, locator.Type(s)} {
			if requireSafe(t, kind, s) {
				accepted++
			}
		}
		if found, err := locator.Canonical(s); err == nil {
			again, err := locator.Canonical(found)
			require.NoError(t, err)
			require.Equal(t, found, again)
		}
		requireSafe(t, locator.Email, s+"@example.org")
		requireSafe(t, locator.Email, "a@"+s)
		requireSafe(t, locator.Tele, "+"+s)
	}
	t.Log(len(strs), "strings, accepted:", accepted)
}

// No user id may be read as a locator, because one path segment holds either.
func testUserIDs(t *testing.T, file string) {
	accepted := 0
	for _, row := range readTSV(t, file) {
		if row["expect"] != "accept" {
			continue
		}
		id := row.text(t, "id_json")
		_, err := locator.Canonical(id)
		require.Error(t, err, id)
		accepted++
	}
	t.Log(accepted, "user ids")
	require.Positive(t, accepted)
}

// canonicalOrNone returns the canonical form of an e-mail address, empty if refused.
func canonicalOrNone(t *testing.T, address string) string {
	t.Helper()
	requireSafe(t, locator.Email, address)
	l, _ := locator.New(locator.Email, address)
	return l.Canonical
}

// record holds the columns of a row by the names in the file's first line.
type record map[string]string

// text decodes a column that holds a JSON string.
func (r record) text(t *testing.T, column string) string {
	t.Helper()
	var s string
	require.NoError(t, json.Unmarshal([]byte(r[column]), &s), "column %s of %v", column, r)
	return s
}

func readTSV(t *testing.T, file string) []record {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	names := strings.Split(lines[0], "\t")
	var rows []record
	for _, line := range lines[1:] {
		row := record{}
		for i, value := range strings.Split(line, "\t") {
			require.Less(t, i, len(names), "%s: %q", file, line)
			row[names[i]] = value
		}
		rows = append(rows, row)
	}
	require.NotEmpty(t, rows, file)
	return rows
}
