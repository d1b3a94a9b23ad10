package denizen_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

// userIDs are ids at the edges of their grammar.
var userIDs = []struct {
	id   string
	good bool
}{
	{"aaaaaaaa", true},
	{"aaaaaaa", false}, // 7
	{strings.Repeat("a", 72), true},
	{strings.Repeat("a", 73), false},
	{"", false},
	{"00000000", true},
	{"ZZZZZZZZ", true},
	{"@bcdefgh", true},
	{"#bcdefgh", true},
	{"@@@@@@@@", true},
	{"########", true},
	{"-bcdefgh", false},
	{"_bcdefgh", false},
	{"$bcdefgh", false},
	{"abcdefg-", true},
	{"abcdefg_", true},
	{"abcdefg$", true},
	{"a@#$-_9Z", true},
	{"ME######", true},
	{"me", false},
	{".system", false},
	{".anonymous", false},
	{".deleted", false},
	{".SYSTEM12", false},
	{"system12", true},
	{"abcdefg.", false},
	{"abcdefg/", false},
	{"abcdefg,", false},
	{"abcdefg:", false},
	{"abcdefg%", false},
	{"abcdefg h", false},
	{" abcdefgh", false},
	{"abcdefgh\n", false},
	{"abcdefgh\x00", false},
	{"abcdefg\x7f", false},
	{"abcdefg\xff", false},
	{"abcdefgé", false},
	{"abcdefg\u0430", false}, // Cyrillic
	{"abcdefg\u212a", false}, // Kelvin sign
	{"abcdefg\u017f", false}, // long s
	{"\u200babcdefgh", false},
	{"\uff41\uff42\uff43\uff44\uff45\uff46\uff47\uff48", false},
}

// accepted reports whether an id is within its grammar. Nobody is there in d, so that what
// is an id is not found.
func accepted(t testing.TB, d *denizen.Directory, id string) bool {
	t.Helper()
	ref, err := d.ResolveUser(context.Background(), denizen.System(), id)
	if err == nil {
		require.Equal(t, denizen.UserID(id), ref)
	}
	if id != "" {
		_, looked := d.Locators(context.Background(), denizen.System(), denizen.UserID(id))
		require.Equal(t, err == nil, errors.Is(looked, denizen.ErrNotFound), "%q", id)
		require.Equal(t, err != nil, errors.Is(looked, denizen.ErrInvalid), "%q", id)
	}
	return err == nil
}

func TestUserIDsKeepToTheirGrammar(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for _, row := range userIDs {
		require.Equal(t, row.good, accepted(t, d, row.id), "%q", row.id)
	}
}

func TestOnlyAnIDWithinItsGrammarIsCreated(t *testing.T) {
	ctx := context.Background()
	d := newMemory(t, denizen.Options{})
	for _, row := range userIDs {
		if row.id == "" {
			continue // one is made
		}
		u, err := d.CreateUser(ctx, denizen.System(), denizen.NewUser{ID: denizen.UserID(row.id), ScreenName: "x"})
		if !row.good {
			requireField(t, err, denizen.ErrInvalid, "id")
			continue
		}
		require.NoError(t, err, "%q", row.id)
		require.Equal(t, denizen.UserID(row.id), u.ID)
	}
}

func TestUserIDsAreComparedByteForByte(t *testing.T) {
	ctx := context.Background()
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "ADMIN123")
	_, err := d.User(ctx, denizen.System(), "admin123")
	requireField(t, err, denizen.ErrNotFound, "user")
	newUser(t, d, "admin123")
}

func TestUserIDsAgreeWithTheCollectedOnes(t *testing.T) {
	dir := os.Getenv("DENIZEN_CORPORA")
	if dir == "" {
		t.Skip("DENIZEN_CORPORA is not set")
	}
	data, err := os.ReadFile(filepath.Join(dir, "userid", "userid.tsv"))
	require.NoError(t, err)
	d := newMemory(t, denizen.Options{})
	verdicts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if columns[0] == "id_json" {
			continue
		}
		var id string
		require.NoError(t, json.Unmarshal([]byte(columns[0]), &id), line)
		require.Contains(t, []string{"accept", "reject"}, columns[1])
		require.Equal(t, columns[1] == "accept", accepted(t, d, id), line)
		verdicts[columns[1]]++
	}
	require.Positive(t, verdicts["accept"])
	require.Positive(t, verdicts["reject"])
}

func FuzzUserID(f *testing.F) {
	for _, row := range userIDs {
		f.Add(row.id)
	}
	grammar := regexp.MustCompile(`\A[a-zA-Z0-9@#][a-zA-Z0-9\-_@$#]{7,71}\z`)
	d := newMemory(f, denizen.Options{})
	f.Fuzz(func(t *testing.T, id string) {
		require.Equal(t, grammar.MatchString(id), accepted(t, d, id), "%q", id)
	})
}
