package record

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/store"
)

// viewed is what the views read: records of each kind, all of whose fields are set, the
// letter of their keys, and the lists and members that the views know.
var viewed = []struct {
	letter  string
	key     store.Key
	record  Record
	list    string   // "" for the record itself
	members []string // in the order of their names
}{
	{
		"u", UserKey("alice-01"),
		&User{ID: "alice-01", Incarnation: "i", ScreenName: "n", Blocked: true, BlockedUntil: 1, Created: 1, Updated: 1},
		"",
		[]string{"blocked", "blockedUntil", "created", "incarnation", "screenName", "updated"},
	},
	{
		"u", UserKey("alice-01"),
		&User{Locators: []Locator{{ID: "i", Type: "t", Canonical: "c", Raw: "r", Status: "s", Owned: true, Added: 1, Verified: 1}}},
		"locators",
		[]string{"added", "canonical", "id", "owned", "raw", "status", "type", "verified"},
	},
	{
		"o", ProfileKey("alice-01"),
		&Profile{Attributes: []Attribute{{Key: "k", ContentType: "t", ContentEncoding: "e", Value: "v"}}},
		"attributes",
		[]string{"contentEncoding", "contentType", "key", "value"},
	},
	{
		"p", DevicesKey("alice-01"),
		&Devices{Devices: []presence.Device{{Name: "n", Start: 1, Beat: 1, Chain: presence.Chain{{State: "s", Seconds: 1}}}}},
		"devices",
		[]string{"beat", "chain", "name", "start"},
	},
}

func TestWhatTheViewsReadIsStillEncodedSo(t *testing.T) {
	first := func(members map[string]any, list string) map[string]any {
		require.Contains(t, members, list)
		return members[list].([]any)[0].(map[string]any)
	}
	for _, v := range viewed {
		require.Equal(t, store.Key(v.letter+"alice-01"), v.key, "the views take the id from the key")
		members := unmarshal(t, Encode(v.record))
		if v.list != "" {
			members = first(members, v.list)
		}
		for _, m := range v.members {
			require.Contains(t, members, m)
		}
		if v.list == "devices" {
			link := first(members, "chain")
			require.Contains(t, link, "state")
			require.Contains(t, link, "seconds")
		}
	}
}

func TestTheViewsReadNothingElse(t *testing.T) {
	sql := views(t)
	var known, read []string
	for _, v := range viewed {
		known = append(append(known, v.members...), v.list)
	}
	known = append(known, "state", "seconds")
	for _, m := range regexp.MustCompile(`->>? '(\w+)'`).FindAllStringSubmatch(sql, -1) {
		read = append(read, m[1])
	}
	for _, list := range regexp.MustCompile(`jsonb_to_recordset\([^)]*\)\s+AS \w*\(([^)]*)\)`).FindAllStringSubmatch(sql, -1) {
		for _, m := range regexp.MustCompile(`"?(\w+)"? \w+(?:,|$)`).FindAllStringSubmatch(list[1], -1) {
			read = append(read, m[1])
		}
	}
	sorted := func(names []string) []string {
		slices.Sort(names)
		return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
	}
	require.Equal(t, sorted(known), sorted(read))
}

// A migration that was released stays as it is: whoever has run it does not run it again.
// Other views need one more, and its name below.
func TestAMigrationMakesTheViews(t *testing.T) {
	migration, err := os.ReadFile("../../store/postgres/migrations/0005_views.sql")
	require.NoError(t, err)
	require.Equal(t, views(t)+"\nINSERT INTO migrations (version) VALUES (5);\n", string(migration))
}

func views(t *testing.T) string {
	t.Helper()
	sql, err := os.ReadFile("views.sql")
	require.NoError(t, err)
	return string(sql)
}
