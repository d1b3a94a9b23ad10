package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

// walk runs the quickstart over a file and answers what it said.
func walk(t *testing.T, path string) string {
	t.Helper()
	var said bytes.Buffer
	require.NoError(t, run(t.Context(), &said, path))
	return said.String()
}

// cut answers what a pattern's one group matches in s.
func cut(t *testing.T, s, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(s)
	require.Len(t, found, 2, "%s in:\n%s", pattern, s)
	return found[1]
}

func inOrder(t *testing.T, said string, lines ...string) {
	t.Helper()
	rest := []byte(said)
	for _, line := range lines {
		_, after, found := bytes.Cut(rest, []byte(line))
		require.True(t, found, "%q, in this order, in:\n%s", line, said)
		rest = after
	}
}

func TestTheFirstRunWalksOnePersonThroughAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		said := walk(t, filepath.Join(t.TempDir(), "people.db"))
		inOrder(t, said,
			"people.db is open. Users in it: 0.",
			"Created: Alice",
			"unique as alice@example.org",
			"unique as +12015550123",
			"denizen: CreateUser: locator: taken",
			"A token is issued to her",
			"quickstart.bio is defined now.",
			"quickstart.visits is defined now.",
			"denizen: SetAttribute: key: denied",
			"visit 1.",
			"denizen: DeleteUser: denied",
			"mitter.up.Online\n",
			"mitter.up.Away\n",
			"mitter.up.Offline\n",
			"Her token is extended",
			"Both let her in.",
			"denizen: Authenticate: token: revoked",
			"token.revoked",
		)
		require.Less(t, time.Since(started), 10*time.Second)
	})
}

func TestTheChainRunsOutAsItWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := walk(t, filepath.Join(t.TempDir(), "people.db"))
		at := func(state string) time.Time {
			when, err := time.Parse("15:04:05.000", cut(t, said, `(\d\d:\d\d:\d\d\.\d\d\d)  mitter\.up\.`+state))
			require.NoError(t, err)
			return when
		}
		require.Equal(t, time.Second, at("Away").Sub(at("Online")))
		require.Equal(t, 2*time.Second, at("Offline").Sub(at("Away")))
	})
}

func TestTheSecondRunPicksUpWhatTheFirstLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "people.db")
		first := walk(t, path)
		time.Sleep(30 * time.Second)
		second := walk(t, path)

		inOrder(t, second,
			"people.db is open. Users in it: 1.",
			"Found again by her address: Alice",
			`quickstart.bio = "Down the hole."`,
			`quickstart.visits = "1"`,
			"by now mitter.up.Away",
			"quickstart.bio is defined already.",
			"visit 2.",
		)
		const id = `    id        (\S+)`
		require.Equal(t, cut(t, first, id), cut(t, second, id))

		time.Sleep(time.Hour)
		inOrder(t, walk(t, path), "by now mitter.up.Offline", "visit 3.")
	})
}

func TestAWalkThatIsInterruptedSaysSoAndLeavesAGoodFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "people.db")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2) // while the chain runs out
		defer cancel()
		started := time.Now()
		require.ErrorIs(t, run(ctx, &bytes.Buffer{}, path), context.DeadlineExceeded)
		require.Equal(t, time.Second/2, time.Since(started))

		inOrder(t, walk(t, path), "Found again by her address: Alice", "visit 2.")
	})
}

func TestAFileOfSomethingElseIsRefusedAndLeftAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people.db")
	require.NoError(t, os.WriteFile(path, []byte("somebody's diary"), 0o600))
	require.ErrorIs(t, run(t.Context(), &bytes.Buffer{}, path), denizen.ErrUnavailable)

	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "somebody's diary", string(left))
}
