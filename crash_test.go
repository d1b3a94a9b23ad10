package denizen_test

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
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
	heard := killWriters(t, "owns")
	t.Logf("%d writes acknowledged, none lost", heard["owns"]+heard["freed"])
}

// The child compacts its file over and over while it writes.
func TestCrash_AFileThatIsCompactedLosesNothingWhenKilled(t *testing.T) {
	if path := os.Getenv(crashChild); path != "" {
		compactUntilKilled(path)
	}
	if runtime.GOOS == "windows" {
		t.Skip("no file can be compacted on Windows")
	}
	heard := killWriters(t, "compacted")
	t.Logf("%d writes acknowledged, none lost, %d compactions, %d killed in the middle",
		heard["owns"]+heard["freed"], heard["compacted"], heard["half"])
}

// killWriters kills children and requires that what they acknowledged is there, and no part of a
// user. Each is killed some time after it first said since. It returns how often they said what, and
// how often there was more than the file.
func killWriters(t *testing.T, since string) (heard map[string]int) {
	t.Helper()
	folder := t.TempDir()
	path := filepath.Join(folder, "crash.db")
	owners := map[string]string{} // locator to user, as acknowledged
	heard = map[string]int{}
	for round := range crashRounds(t) {
		killAWriter(t, path, since, owners, heard)
		names, err := os.ReadDir(folder)
		require.NoError(t, err)
		heard["half"] += len(names) - 1

		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err, "round %d", round)
		names, err = os.ReadDir(folder)
		require.NoError(t, err)
		require.Len(t, names, 1, "round %d", round)
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
	require.Positive(t, heard["owns"])
	return heard
}

// killAWriter runs a child over the file, kills it at a random moment, keeps what it acknowledged
// and counts it.
func killAWriter(
	t *testing.T, path, since string, owners map[string]string, heard map[string]int,
) {
	t.Helper()
	killAChild(t, path, func(what, rest string) bool {
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
		case "compacted":
		default:
			return false // of the test binary
		}
		heard[what]++
		return what == since
	})
}

// killAChild runs a child over the file and gives each line that it prints to heard. At a random
// moment after the first one that heard counts it kills the child.
func killAChild(t *testing.T, path string, heard func(what, rest string) bool) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), crashChild+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	first := true
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		if heard(what, rest) && first {
			first = false
			time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { _ = child.Process.Kill() })
		}
	}
	require.Error(t, child.Wait(), "it was killed")
}

// Users prove, replace and remove what they are reached by, and undo it, until the process dies.
// What was under way is done whole or not at all.
func TestCrash_AChangeIsDoneOrNot(t *testing.T) {
	if path := os.Getenv(crashChild); path != "" {
		changeUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "changes.db")
	heard := 0
	for round := range crashRounds(t) {
		now, next := map[string]string{}, map[string]string{} // what each user owns, and is about to
		killAChild(t, path, func(what, rest string) bool {
			user, owned, _ := strings.Cut(rest, " ")
			switch what {
			case "now":
				now[user] = owned
				delete(next, user)
			case "next":
				next[user] = owned
			case "over":
				delete(now, user)
			default:
				return false
			}
			heard++
			return true
		})
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err, "round %d", round)
		d, err := denizen.New(t.Context(), s, denizen.Options{})
		require.NoError(t, err)
		for user, was := range now {
			u, err := d.User(t.Context(), denizen.System(), denizen.UserID(user))
			require.NoError(t, err)
			tokens, err := d.Tokens(t.Context(), denizen.System(), u.ID)
			require.NoError(t, err)
			owned := ownedText(u)
			about, undo := strings.CutPrefix(next[user], "undo ")
			if owned != was {
				require.Equal(t, about, owned, "round %d: of %s, who owned %s", round, user, was)
				require.Equal(t, undo, len(tokens) == 0, "an undo ends the tokens in its commit")
			} else {
				require.NotEmpty(t, tokens)
			}
			require.NoError(t, d.DeleteUser(t.Context(), denizen.System(), u.ID))
		}
		require.NoError(t, d.Close())
		invariant.Check(t, s)
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Close())
	}
	require.Positive(t, heard)
}

func ownedText(u denizen.User) string {
	var owned []string
	for _, l := range u.Locators {
		if l.Owned {
			owned = append(owned, l.Canonical)
		}
	}
	return strings.Join(owned, ",")
}

// changeUntilKilled is the child. Each writer has users of its own, one after another.
func changeUntilKilled(path string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	ctx, sys := context.Background(), denizen.System()
	d, err := denizen.Open(ctx, path, denizen.Options{})
	die(err)
	in := door.Of(d)
	var undos sync.Map // the first of each user
	in.OnChange(func(ch door.Change) { undos.LoadOrStore(ch.User, ch.Undo) })
	finish := func(by denizen.Principal, id denizen.LocatorID, replacement string) error {
		started, err := in.StartProof(ctx, by, door.ProofStart{
			LocatorID: string(id), Replaced: replacement, Secret: ownCode,
		})
		if err == nil {
			_, err = in.FinishOwn(ctx, by, string(id), started.Handle, ownCode)
		}
		return err
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := denizen.UserID(fmt.Sprintf("user-%d-%d-%d", os.Getpid(), w, i))
				address := func(n int) string { return fmt.Sprintf("%s-%d@example.org", id, n) }
				u, err := d.CreateUser(ctx, sys, denizen.NewUser{
					ID: id, ScreenName: "Somebody", Locators: []denizen.NewLocator{
						{Locator: "email:" + address(0), Status: denizen.Verified},
					},
				})
				die(err)
				issued, err := d.IssueToken(ctx, sys, id, denizen.TokenOptions{})
				die(err)
				by, err := d.Authenticate(ctx, issued.Signed)
				die(err)
				claim, err := d.AddLocator(ctx, by, id, denizen.Email(address(1)))
				die(err)
				fmt.Printf("now %s %s\n", id, address(0))
				step := func(next string, do func() error) {
					fmt.Printf("next %s %s\n", id, next)
					die(do())
					fmt.Printf("now %s %s\n", id, next)
				}
				step(address(0)+","+address(1), func() error { return finish(by, claim.ID, "") })
				step(address(0)+","+address(2), func() error {
					return finish(by, claim.ID, "email:"+address(2))
				})
				step(address(2), func() error { return d.RemoveLocator(ctx, by, id, u.Locators[0].ID) })
				secret, _ := undos.Load(string(id))
				fmt.Printf("next %s undo %s\n", id, address(0))
				die(in.Undo(ctx, sys, secret.(string)))
				fmt.Printf("over %s\n", id)
				die(d.DeleteUser(ctx, sys, id))
			}
		})
	}
	wg.Wait()
}

// writeUntilKilled is the child: many writers claim locators, two a user, and now and then
// give them back by deleting the user. Each locator is one writer's, so that its lines are
// in the order of its writes.
func writeUntilKilled(path string) {
	writeAll(openToBeKilled(path))
}

// compactUntilKilled is the child that also compacts the file.
func compactUntilKilled(path string) {
	d := openToBeKilled(path)
	go func() {
		for {
			err := d.Compact(context.Background(), denizen.System())
			switch {
			case err == nil:
				fmt.Println("compacted")
			case !errors.Is(err, denizen.ErrConflict):
				fmt.Fprintln(os.Stderr, err, errors.Unwrap(err))
				os.Exit(2)
			}
		}
	}()
	writeAll(d)
}

func openToBeKilled(path string) *denizen.Directory {
	d, err := denizen.Open(context.Background(), path, denizen.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return d
}

func writeAll(d *denizen.Directory) {
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

// Names the file that a child reads the feed of.
const crashConsumer = "DENIZEN_CRASH_CONSUMER"

func TestCrash_AConsumerThatIsKilledMissesNothing(t *testing.T) {
	if path := os.Getenv(crashConsumer); path != "" {
		notifyUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "crash.db")
	got := map[denizen.Seq]bool{}
	latest, again := denizen.Seq(0), 0
	for range crashRounds(t) {
		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), crashConsumer+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		begun := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			text, ok := strings.CutPrefix(lines.Text(), "got ")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(text, 10, 64)
			require.NoError(t, err)
			if seq := denizen.Seq(n); seq > latest {
				latest = seq
			} else {
				again++
			}
			got[denizen.Seq(n)] = true
			if !begun {
				begun = true
				time.AfterFunc(time.Duration(rand.Int64N(int64(30*time.Millisecond))), func() { _ = child.Process.Kill() })
			}
		}
		require.Error(t, child.Wait(), "it was killed")
	}
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	defer d.Close()
	// The child may have been told of all that there was.
	_, err = d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "The last"})
	require.NoError(t, err)
	events := eventsAfter(t, d, 0)
	for _, e := range events {
		if e.Seq <= latest {
			require.True(t, got[e.Seq], "%d is missed", e.Seq)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Notify(ctx, denizen.System(), "consumer", func(_ context.Context, batch []denizen.Event) error {
		for _, e := range batch {
			got[e.Seq] = true
		}
		if batch[len(batch)-1].Seq == events[len(events)-1].Seq {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, got, len(events))
	t.Logf("%d events, none missed, %d handled again", len(events), again)
}

// notifyUntilKilled is the child: it makes events, and says which it is given before it says that
// they are handled.
func notifyUntilKilled(path string) {
	ctx := context.Background()
	d, err := denizen.Open(ctx, path, denizen.Options{})
	if err == nil {
		go func() {
			for {
				_, _ = d.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: "Somebody"})
			}
		}()
		err = d.Notify(ctx, denizen.System(), "consumer", func(_ context.Context, batch []denizen.Event) error {
			for _, e := range batch {
				fmt.Println("got", e.Seq)
			}
			return nil
		})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

// A file that lets in who was put out since, or has who was erased, must never have its name.
func TestCrash_ARestoreIsDoneOrNotDone(t *testing.T) {
	if backup := os.Getenv(crashChild); backup != "" {
		restoreUntilKilled(backup)
	}
	backup := filepath.Join(t.TempDir(), "people.backup")
	d := newBolt(t, denizen.Options{})
	var signed []string
	for n := range 8 {
		newUser(t, d, userNo(n))
		signed = append(signed, newToken(t, d, userNo(n), denizen.TokenOptions{}).Signed)
	}
	require.NoError(t, backUp(t.Context(), d, backup))
	var receipts []denizen.Erasure
	for n := range 4 {
		receipt, err := d.EraseUser(t.Context(), denizen.System(), userNo(n))
		require.NoError(t, err)
		receipts = append(receipts, receipt)
	}
	text, err := json.Marshal(receipts)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(backup+".receipts", text, 0o600))

	done := 0
	for round := range crashRounds(t) {
		told, last := map[string]bool{}, ""
		killAChild(t, backup, func(what, path string) bool {
			switch what {
			case "begins":
				last = path
			case "restored":
				told[path] = true
				done++
			default:
				return false // of the test binary
			}
			return true
		})
		if _, err := os.Stat(last); err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.False(t, told[last], "round %d", round)
			_, err := denizen.Restore(t.Context(), backup, last, denizen.RestoreOptions{Erase: receipts})
			require.NoError(t, err, "it can be run again")
		}
		told[last] = true
		for path := range told {
			s, err := bolt.Open(t.Context(), path, bolt.Options{})
			require.NoError(t, err, "round %d", round)
			d, err := denizen.New(t.Context(), s, denizen.Options{})
			require.NoError(t, err)
			n, err := d.CountUsers(t.Context(), denizen.System())
			require.NoError(t, err)
			require.Equal(t, 4, n, "round %d: who was erased came back", round)
			for _, text := range signed {
				_, err := d.Authenticate(t.Context(), text)
				require.ErrorIs(t, err, denizen.ErrRevoked, "round %d", round)
			}
			require.NoError(t, d.Close())
			invariant.Check(t, s)
			require.NoError(t, s.Verify(t.Context()))
			require.NoError(t, s.Close())
		}
		restored, err := filepath.Glob(filepath.Join(filepath.Dir(backup), "restored*"))
		require.NoError(t, err)
		for _, path := range restored {
			require.NoError(t, os.Remove(path))
		}
	}
	t.Logf("%d restores done, none by half", done)
}

// restoreUntilKilled is the child: it makes one file after another of a backup.
func restoreUntilKilled(backup string) {
	text, err := os.ReadFile(backup + ".receipts")
	var receipts []denizen.Erasure
	if err == nil {
		err = json.Unmarshal(text, &receipts)
	}
	for n := 0; err == nil; n++ {
		path := filepath.Join(filepath.Dir(backup), fmt.Sprintf("restored%d.db", n))
		fmt.Println("begins", path)
		_, err = denizen.Restore(context.Background(), backup, path, denizen.RestoreOptions{Erase: receipts})
		if err == nil {
			fmt.Println("restored", path)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

// What the child erases has a mark in everything that is stored of it.
func TestCrash_AnErasureIsDoneOrNotDone(t *testing.T) {
	if path := os.Getenv(crashChild); path != "" {
		eraseUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "crash.db")
	began, done := map[string]bool{}, 0
	for round := range crashRounds(t) {
		there, gone := map[string]bool{}, map[string]bool{}
		killAChild(t, path, func(what, id string) bool {
			switch what {
			case "made":
				there[id] = true
			case "erases":
				delete(there, id)
				began[id] = true
			case "erased":
				delete(began, id)
				gone[id] = true
				done++
			default:
				return false // of the test binary
			}
			return true
		})
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err, "round %d", round)
		d, err := denizen.New(t.Context(), s, withHandles())
		require.NoError(t, err)
		for id := range there {
			requireWhole(t, d, id)
		}
		for id := range began { // done or not done
			if _, err := d.User(t.Context(), denizen.System(), denizen.UserID(id)); err == nil {
				requireWhole(t, d, id)
				_, err = d.EraseUser(t.Context(), denizen.System(), denizen.UserID(id))
				require.NoError(t, err)
			}
			gone[id] = true
		}
		clear(began)
		var records strings.Builder
		for _, r := range invariant.Of(t, s).Records {
			records.WriteString(string(r.Key) + string(r.Value))
		}
		for id := range gone {
			require.NotContains(t, records.String(), id, "round %d", round)
		}
		require.NoError(t, d.Close())
		invariant.Check(t, s)
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Close())
	}
	require.Positive(t, done)
	t.Logf("%d erasures done", done)
}

// requireWhole requires that a user has everything that eraseUntilKilled gave it.
func requireWhole(t *testing.T, d *denizen.Directory, id string) {
	t.Helper()
	var b strings.Builder
	require.NoError(t, d.ExportUser(t.Context(), denizen.System(), denizen.UserID(id), &b))
	require.Equal(t, 12, strings.Count(b.String(), id), b.String())
}

// eraseUntilKilled is the child: many writers make users and erase them.
func eraseUntilKilled(path string) {
	ctx, sys := context.Background(), denizen.System()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	d, err := denizen.Open(ctx, path, withHandles())
	fail(err)
	_, _ = d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				id := "erase" + strings.ToLower(crand.Text())
				user := denizen.UserID(id)
				_, err := d.CreateUser(ctx, sys, denizen.NewUser{
					ID: user, ScreenName: id, Attributes: []denizen.Attribute{{Key: "bio", Value: id}},
					Locators:    []denizen.NewLocator{denizen.Email(id + "@example.org"), {Locator: "handle:" + id}},
					Idempotency: denizen.Idempotency{Key: id, Digest: id},
				})
				fail(err)
				fail(d.SetPresence(ctx, sys, user, denizen.State(id).On(id)))
				_, err = d.IssueToken(ctx, sys, user, denizen.TokenOptions{Label: id})
				fail(err)
				fmt.Fprintln(os.Stdout, "made", id)
				fmt.Fprintln(os.Stdout, "erases", id)
				_, err = d.EraseUser(ctx, sys, user)
				fail(err)
				fmt.Fprintln(os.Stdout, "erased", id)
			}
		})
	}
	wg.Wait()
}
