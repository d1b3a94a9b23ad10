package denizen_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

// The child writes until it is killed. It prints a line for each write once that was
// acknowledged: what was claimed, by whom.
const crashChild = "DENIZEN_CRASH_CHILD" // the file it writes to

// crashRounds is how many times the child is killed: DENIZEN_CRASH_ROUNDS, or 20.
func crashRounds(t *testing.T) int {
	t.Helper()
	rounds := 20
	if text := os.Getenv("DENIZEN_CRASH_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	return rounds
}

// crashLocators is how many locators the children fight for: few enough that most are
// taken, and freed and taken again.
const crashLocators = 400

func TestCrash_WhatWasAcknowledgedSurvivesBeingKilled(t *testing.T) {
	if path := os.Getenv(crashChild); path != "" {
		writeUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "crash.db")
	owners := map[string]string{} // locator to user, as acknowledged
	acknowledged := 0
	for round := range crashRounds(t) {
		acknowledged += killAWriter(t, path, owners)

		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err, "round %d", round)
		d, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		for locator, user := range owners {
			users, err := d.UsersByLocator(t.Context(), denizen.System(), []string{locator})
			require.NoError(t, err)
			if strings.HasPrefix(user, "freed?") {
				// The release was under way when the process died: both outcomes are true.
				if len(users) == 0 {
					delete(owners, locator)
				} else {
					owners[locator] = string(users[0].ID)
				}
				continue
			}
			require.Len(t, users, 1, "round %d lost %s of %s", round, locator, user)
			require.Equal(t, user, string(users[0].ID), "round %d", round)
			require.Len(t, users[0].Locators, 2, "a user is half there")
		}
		require.NoError(t, d.Close())
		invariant.Check(t, s)
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Close())
	}
	require.Positive(t, acknowledged)
	t.Logf("%d writes acknowledged, none lost", acknowledged)
}

// killAWriter runs a child over the file, kills it at a random moment and keeps what it
// acknowledged.
func killAWriter(t *testing.T, path string, owners map[string]string) (acknowledged int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), crashChild+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		locator, user, _ := strings.Cut(rest, " ")
		switch what {
		case "owns":
			owners[locator] = user
		case "frees": // begins to: acknowledged by the line "freed"
			owners[locator] = "freed? " + user
		case "freed":
			// Another writer may have it by now, and have said so.
			if strings.HasPrefix(owners[locator], "freed?") {
				delete(owners, locator)
			}
		default:
			continue // of the test binary
		}
		if acknowledged++; acknowledged == 1 {
			time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { _ = child.Process.Kill() })
		}
	}
	require.Error(t, child.Wait(), "it was killed")
	return acknowledged
}

// writeUntilKilled is the child: many writers claim locators, two a user, and now and then
// give them back by deleting the user. Each locator is one writer's, so that its lines are
// in the order of its writes.
func writeUntilKilled(path string) {
	d, err := denizen.Open(context.Background(), path, denizen.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; ; i += 16 {
				writeOnce(d, i%crashLocators)
			}
		})
	}
	wg.Wait()
}

func writeOnce(d *denizen.Directory, i int) {
	ctx := context.Background()
	email := fmt.Sprintf("crash%d@example.org", i)
	tele := fmt.Sprintf("+1650253%04d", i)
	u, err := d.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(email), denizen.Tele(tele)},
	})
	if err == nil {
		say("owns", email, tele, u.ID)
		return
	}
	users, err := d.UsersByLocator(ctx, denizen.System(), []string{"email:" + email})
	if err != nil || len(users) != 1 {
		return
	}
	say("frees", email, tele, users[0].ID)
	if err := d.DeleteUser(ctx, denizen.System(), users[0].ID); err == nil {
		say("freed", email, tele, users[0].ID)
	}
}

// say writes both lines in one call, so that no other writer's come between.
func say(what, email, tele string, user denizen.UserID) {
	fmt.Fprintf(os.Stdout, "%s email:%s %s\n%s tele:%s %s\n", what, email, user, what, tele, user)
}
