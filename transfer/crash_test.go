package transfer_test

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/postgres"
	"github.com/denizenhq/denizen/transfer"
)

// The child imports until it is killed. It prints a line when it begins, and each time rows are
// settled of which some were created.
const (
	crashFile   = "DENIZEN_TRANSFER_FILE"   // the file it imports into, or
	crashSchema = "DENIZEN_TRANSFER_SCHEMA" // the schema
	crashRows   = "DENIZEN_TRANSFER_ROWS"
)

// crashRounds is how many times the child is killed, for each store: DENIZEN_CRASH_ROUNDS, or 4.
func crashRounds(t *testing.T) int {
	t.Helper()
	rounds := 4
	if text := os.Getenv("DENIZEN_CRASH_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	return rounds
}

// crashUsers yields n users: every other one has an id, and the others an external name.
func crashUsers(n int) iter.Seq2[transfer.User, error] {
	return func(yield func(transfer.User, error) bool) {
		for i := range n {
			u := plain("", fmt.Sprintf("email:user%d@example.org", i), fmt.Sprintf("external:example.org|%d", i))
			if i%2 == 0 {
				u.ID = transfer.MapID(strconv.Itoa(i))
			}
			u.CreatedAt = made
			u.Attributes = []denizen.Attribute{{Key: "nick", Value: strconv.Itoa(i)}}
			if !yield(u, nil) {
				return
			}
		}
	}
}

func TestImport_EndsWithEachRowOnceAndWholeHoweverOftenItIsKilled(t *testing.T) {
	if n := os.Getenv(crashRows); n != "" {
		importUntilKilled(n)
	}
	t.Run("bolt", func(t *testing.T) {
		overLives(t, func(rounds int) {
			path := filepath.Join(t.TempDir(), "people.db")
			killImports(t, rounds, crashFile+"="+path, func() store.Store { return openBolt(t, path) })
		})
	})
	t.Run("postgres", func(t *testing.T) {
		overLives(t, func(rounds int) {
			schema := newSchema(t)
			killImports(t, rounds, crashSchema+"="+schema, func() store.Store { return openPostgres(t, schema) })
		})
	})
}

// killsOfALife is after how many kills an import is carried through and another one begun: a longer
// one would be killed while it finds out what is there.
const killsOfALife = 5

func overLives(t *testing.T, life func(rounds int)) {
	t.Helper()
	for left := crashRounds(t); left > 0; left -= killsOfALife {
		life(min(left, killsOfALife))
	}
}

func killImports(t *testing.T, rounds int, where string, open func() store.Store) {
	t.Helper()
	n := 1_500 * rounds
	there := 0
	for round := range rounds {
		killAnImport(t, where, n)
		s := open()
		dir, err := denizen.New(t.Context(), s, options())
		require.NoError(t, err)
		count := checkWhole(t, dir, n)
		require.GreaterOrEqual(t, count, there, "round %d lost what was imported before", round)
		there = count
		if round == rounds-1 {
			report, _ := bring(t, dir, crashUsers(n), transfer.Options{Define: defs})
			want := transfer.Report{Rows: n, Created: n - there, Present: there, Doubted: n - there} // the external names
			require.Equal(t, want, report)
			require.Equal(t, n, checkWhole(t, dir, n))
		}
		require.NoError(t, dir.Close())
		if round == rounds-1 {
			invariant.Check(t, s)
		}
		require.NoError(t, s.Close())
	}
	t.Logf("%d of %d rows were there after %d kills", there, n, rounds)
}

// checkWhole requires that everybody who is there is one of the rows, whole and once, and returns
// how many they are.
func checkWhole(t *testing.T, dir *denizen.Directory, n int) int {
	t.Helper()
	seen := map[string]bool{}
	text, _ := export(t, dir)
	f, err := transfer.Open(strings.NewReader(text))
	require.NoError(t, err)
	for u, err := range f.Users() {
		require.NoError(t, err)
		require.Len(t, u.Locators, 2)
		require.Len(t, u.Attributes, 1)
		require.Equal(t, made, u.CreatedAt)
		name := u.Locators[1].Locator
		require.Equal(t, "external:example.org|"+u.Attributes[0].Value, name)
		require.False(t, seen[name], "%s is there twice", name)
		seen[name] = true
	}
	require.LessOrEqual(t, len(seen), n)
	return len(seen)
}

// killAnImport runs a child and kills it at a random moment, at the latest when all is imported.
func killAnImport(t *testing.T, where string, n int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^TestImport_EndsWithEachRowOnceAndWholeHoweverOftenItIsKilled$")
	child.Env = append(os.Environ(), where, crashRows+"="+strconv.Itoa(n))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	kill := func() { _ = child.Process.Kill() }
	after := rand.IntN(5) // how often rows are settled before
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch lines.Text() {
		case "begins", "creates":
			if after--; after == -1 {
				time.AfterFunc(time.Duration(rand.Int64N(int64(50*time.Millisecond))), kill)
			}
		case "done":
			kill()
		}
	}
	require.Error(t, child.Wait(), "it was killed")
}

// importUntilKilled is the child.
func importUntilKilled(rows string) {
	n, err := strconv.Atoi(rows)
	if err == nil {
		err = func() error {
			ctx := context.Background()
			var s store.Store
			var err error
			if path := os.Getenv(crashFile); path != "" {
				s, err = bolt.Open(ctx, path, bolt.Options{})
			} else if pool, failed := pgxpool.New(ctx, os.Getenv(serverEnv)); failed != nil {
				err = failed
			} else {
				s, err = postgres.Open(ctx, pool, postgres.Options{Schema: os.Getenv(crashSchema)})
			}
			if err != nil {
				return err
			}
			dir, err := denizen.New(ctx, s, options())
			if err != nil {
				return err
			}
			fmt.Println("begins")
			report, err := transfer.Import(ctx, dir, system, crashUsers(n), transfer.Options{Define: defs, Progress: func(r transfer.Report) {
				if r.Created > 0 {
					fmt.Println("creates")
				}
			}})
			if err == nil && report.Refused > 0 {
				err = fmt.Errorf("refused: %v", report.Problems)
			}
			return err
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println("done")
	select {} // until it is killed
}
