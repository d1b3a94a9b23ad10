package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/store/bolt"
)

// ran is what a run of the command did.
type ran struct {
	code     int
	out, err string
}

// place is a directory that commands are run on.
type place struct {
	args []string
	env  map[string]string
	open func(t *testing.T) *denizen.Directory
}

func (p place) run(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	return p.runIn(t, world{stdin: strings.NewReader(stdin)}, args...)
}

func (p place) runIn(t *testing.T, w world, args ...string) ran {
	t.Helper()
	var out, err bytes.Buffer
	w.env = func(name string) string { return p.env[name] }
	if w.stdout == nil {
		w.stdout = &out
	}
	w.stderr = &err
	if w.stdin == nil {
		w.stdin = strings.NewReader("")
	}
	code := run(t.Context(), append(args[:1:1], append(p.args, args[1:]...)...), w)
	return ran{code, out.String(), err.String()}
}

// ok runs a command that must succeed, and returns what it printed.
func (p place) ok(t *testing.T, args ...string) string {
	t.Helper()
	r := p.run(t, "", args...)
	require.Equal(t, exitDone, r.code, "%v\n%s", args, r.err)
	return r.out
}

// objects runs a command with -json, and returns what it printed.
func (p place) objects(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	return parsed(t, p.ok(t, append(args, "-json")...))
}

func parsed(t *testing.T, lines string) (objects []map[string]any) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var o map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &o), line)
		objects = append(objects, o)
	}
	return objects
}

func file(path string) place {
	return place{args: []string{"-db", path}, env: map[string]string{}, open: func(t *testing.T) *denizen.Directory {
		dir, err := denizen.Open(t.Context(), path, denizen.Options{})
		require.NoError(t, err)
		return dir
	}}
}

// people is a directory with Alice and Bob: Alice has a token and was seen.
func people(t *testing.T, p place) (alice denizen.User, token denizen.IssuedToken) {
	t.Helper()
	dir := p.open(t)
	ctx, system := t.Context(), denizen.System()
	_, err := dir.DefineAttribute(ctx, system, denizen.AttributeDef{Key: "colour"})
	require.NoError(t, err)
	alice, err = dir.CreateUser(ctx, system, denizen.NewUser{
		ID: "alice-user", ScreenName: "Alice",
		Locators:   []denizen.NewLocator{denizen.Email("alice@example.org"), denizen.Tele("+442071838750")},
		Attributes: []denizen.Attribute{{Key: "colour", Value: "a shade of red"}},
	})
	require.NoError(t, err)
	_, err = dir.CreateUser(ctx, system, denizen.NewUser{ID: "bob-user", ScreenName: "Bob"})
	require.NoError(t, err)
	key, err := dir.CreateAccessKey(ctx, system)
	require.NoError(t, err)
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	require.NoError(t, err)
	token, err = dir.IssueToken(ctx, by, alice.ID, denizen.TokenOptions{Label: "phone"})
	require.NoError(t, err)
	require.NoError(t, dir.SetPresence(ctx, system, alice.ID, denizen.Online().On("phone")))
	require.NoError(t, dir.Close())
	return alice, token
}

// database is a schema of its own in the database of the tests.
func database(t *testing.T) place {
	t.Helper()
	dsn := os.Getenv("DENIZEN_POSTGRES")
	if dsn == "" {
		t.Skip("DENIZEN_POSTGRES is not set")
	}
	schema := newSchema(t, dsn)
	p := place{args: []string{"-schema", schema}, env: map[string]string{"DENIZEN_DSN": dsn}}
	p.open = func(t *testing.T) *denizen.Directory {
		s := &session{world: world{env: func(name string) string { return p.env[name] }}, schema: schema}
		require.NoError(t, s.make(t.Context()))
		t.Cleanup(func() { _ = s.close() })
		return s.dir
	}
	return p
}

func newSchema(t *testing.T, dsn string) string {
	t.Helper()
	schema := "command_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		ctx := context.Background()
		c, err := pgx.Connect(ctx, dsn)
		require.NoError(t, err)
		_, err = c.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		require.NoError(t, err)
		require.NoError(t, c.Close(ctx))
	})
	return schema
}

// overEach runs a test over a file and over a database.
func overEach(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("file", func(t *testing.T) { test(t, file(filepath.Join(long.Dir(t), "people.db"))) })
	t.Run("database", func(t *testing.T) { test(t, database(t)) })
}

func TestStat_HasTheFiguresOfTheDirectory(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		f := p.objects(t, "stat")[0]
		require.EqualValues(t, 2, f["users"])
		require.Equal(t, map[string]any{denizen.StateOnline: 1.0}, f["present"])
		require.EqualValues(t, 1, f["accessKeys"])
		require.Equal(t, "none", f["rootKey"])
		require.Equal(t, "ok", f["health"])
		human := p.ok(t, "stat")
		require.Contains(t, human, "users         2\n")
		require.Contains(t, human, "here          1 Online\n")
		require.Contains(t, human, "health        ok\n")
	})
}

func TestUsers_AreListedWithTheirLocatorsMasked(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		users := p.objects(t, "users")
		require.Len(t, users, 2)
		require.Equal(t, "alice-user", users[0]["id"])
		require.Equal(t, []any{"email:a…@e…", "tele:…750"}, users[0]["locators"])
		require.Contains(t, p.ok(t, "users", "-reveal"), "Alice  email:alice@example.org tele:+442071838750\n")
		require.NotContains(t, p.ok(t, "users"), "example")
		p.ok(t, "block", "bob-user")
		require.Len(t, p.objects(t, "users", "-blocked"), 1)
	})
}

func TestUser_IsAllOfAPerson(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		_, token := people(t, p)
		u := p.objects(t, "user", "alice-user")[0]
		require.Equal(t, "Alice", u["screenName"])
		require.Equal(t, "email:a…@e…", u["locators"].([]any)[0].(map[string]any)["locator"])
		require.Equal(t, map[string]any{"key": "colour", "bytes": 14.0}, u["attributes"].([]any)[0])
		require.Equal(t, denizen.StateOnline, u["devices"].([]any)[0].(map[string]any)["state"])
		require.Equal(t, string(token.ID), u["tokens"].([]any)[0].(map[string]any)["id"])
		require.Len(t, u["events"], 3, "created, token issued, presence set")
		human := p.ok(t, "user", "alice-user", "-reveal")
		for _, line := range []string{
			"locator       email:alice@example.org, StatusNotProvided\n", "attribute     colour = a shade of red\n",
			"device        phone, Online since ", "token         " + string(token.ID) + "  phone, expires ", "user.created",
		} {
			require.Contains(t, human, line)
		}
		require.NotContains(t, human, token.Signed)
	})
}

func TestUser_IsFoundByALocatorOfStandardInput(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		r := p.run(t, "email:ALICE@example.org\n", "user", "-", "-json")
		require.Equal(t, exitDone, r.code, r.err)
		require.Equal(t, "alice-user", parsed(t, r.out)[0]["id"])
		require.Equal(t, exitUsage, p.run(t, "\n", "user", "-").code)
		r = p.run(t, "", "user", "nobody-here")
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.err, "not found")
	})
}

func TestTokens_AreListedOfAllAndOfSome(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		_, token := people(t, p)
		key := p.objects(t, "keys")[0]["id"].(string)
		for _, args := range [][]string{{}, {"-user", "alice-user"}, {"-access-key", key}} {
			tokens := p.objects(t, append([]string{"tokens"}, args...)...)
			require.Len(t, tokens, 1, "%v", args)
			require.Equal(t, string(token.ID), tokens[0]["id"])
			require.Equal(t, "phone", tokens[0]["label"])
		}
		for _, args := range [][]string{{"-user", "bob-user"}, {"-access-key", "another"}, {"-unused", "1h"}} {
			require.Empty(t, p.ok(t, append([]string{"tokens"}, args...)...), "%v", args)
		}
		require.Contains(t, p.ok(t, "tokens"), string(token.ID))
	})
}

func TestRevoke_EndsTokens(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		_, token := people(t, p)
		r := p.run(t, "", "revoke", "alice-user", string(token.ID), "another-token")
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.err, "this one: another-token")
		require.NotEmpty(t, p.ok(t, "tokens"))
		require.Equal(t, "ended 1 tokens of alice-user\n", p.ok(t, "revoke", "alice-user", string(token.ID)))
		require.Empty(t, p.ok(t, "tokens"))
		require.Equal(t, "revoked", p.objects(t, "revoke", "-all", "alice-user")[0]["done"])
		require.EqualValues(t, 0, p.objects(t, "revoke", "-access-key", "some-key")[0]["count"])
		require.Equal(t, exitUsage, p.run(t, "", "revoke", "alice-user").code, "neither tokens nor -all")
	})
}

func TestBlock_LastsUntilItsEndOrUnblock(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		require.Equal(t, "blocked alice-user until 2099-01-31 12:00:00; its tokens and its presence ended\n",
			p.ok(t, "block", "alice-user", "-reason", "spam", "-until", "2099-01-31T12:00:00Z"))
		u := p.objects(t, "user", "alice-user")[0]
		require.Equal(t, "spam", u["blockReason"])
		require.Equal(t, "2099-01-31T12:00:00Z", u["blockedUntil"])
		require.Empty(t, u["tokens"])
		require.Equal(t, "unblocked alice-user\n", p.ok(t, "unblock", "alice-user"))
		p.ok(t, "block", "alice-user", "-for", "1h")
		require.Equal(t, exitUsage, p.run(t, "", "block", "alice-user", "-for", "1h", "-until", "2099-01-31T12:00:00Z").code)
		require.Equal(t, exitUsage, p.run(t, "", "block", "alice-user", "-until", "tomorrow").code)
	})
}

func TestErase_GivesTheReceiptAndNeedsYes(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		require.Equal(t, exitUsage, p.run(t, "", "erase", "alice-user").code)
		receipts := filepath.Join(long.Dir(t), "receipts.jsonl")
		out := p.ok(t, "erase", "-yes", "-receipts", receipts, "alice-user")
		var e denizen.Erasure
		require.NoError(t, json.Unmarshal([]byte(out), &e))
		require.EqualValues(t, "alice-user", e.User)
		require.Less(t, e.EventsUntil.Sub(e.ErasedAt).Hours(), 24.0*8)
		p.ok(t, "erase", "-yes", "-receipts", receipts, "bob-user")
		read, err := readReceipts(receipts)
		require.NoError(t, err)
		require.Len(t, read, 2)
		require.Equal(t, exitFailed, p.run(t, "", "user", "alice-user").code)
	})
}

func TestErase_AReceiptAfterATornOneIsWhole(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		receipts := filepath.Join(long.Dir(t), "receipts.jsonl")
		p.ok(t, "erase", "-yes", "-receipts", receipts, "alice-user")
		whole, err := os.ReadFile(receipts)
		require.NoError(t, err)
		torn := append(whole, whole[:len(whole)/2]...)
		require.NoError(t, os.WriteFile(receipts, torn, 0o600))
		p.ok(t, "erase", "-yes", "-receipts", receipts, "bob-user")

		_, err = readReceipts(receipts)
		require.ErrorContains(t, err, "line 2:")
		b, err := os.ReadFile(receipts)
		require.NoError(t, err)
		lines := bytes.SplitAfter(b, []byte{'\n'})
		require.NoError(t, os.WriteFile(receipts, slices.Concat(lines[0], lines[2]), 0o600))
		read, err := readReceipts(receipts)
		require.NoError(t, err)
		require.EqualValues(t, "alice-user", read[0].User)
		require.EqualValues(t, "bob-user", read[1].User)
	})
}

func TestKeys_AreMadeRotatedAndDropped(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		made := p.objects(t, "keys", "make")[0]
		require.NotEmpty(t, made["secret"])
		require.Contains(t, p.ok(t, "keys", "make"), "It is not shown again.")
		listed := p.ok(t, "keys")
		require.NotContains(t, listed, made["secret"])
		require.Contains(t, listed, "access   "+made["accessKey"].(string))
		require.Equal(t, exitFailed, p.run(t, "", "keys", "make").code, "there are three")
		require.Equal(t, "made a signing key, which signs in 1h0m0s\n", p.ok(t, "keys", "rotate"))
		keys := p.objects(t, "keys")
		require.Equal(t, "signing", keys[3]["state"])
		require.Equal(t, "announced", keys[4]["state"])
		p.ok(t, "keys", "rotate", "-notice", "0")
		keys = p.objects(t, "keys", "list")
		require.Equal(t, []any{"published", "signing"}, []any{keys[3]["state"], keys[4]["state"]})
		drop := []string{"keys", "drop", "-signing-key", keys[3]["id"].(string)}
		require.Equal(t, exitUsage, p.run(t, "", drop...).code, "without -yes")
		p.ok(t, append(drop, "-yes")...)
		require.Len(t, p.objects(t, "keys"), 4)
		require.Equal(t, exitFailed, p.run(t, "", "keys", "drop", "-yes", "-signing-key", keys[4]["id"].(string)).code, "it signs")
		d := p.objects(t, "keys", "drop", "-yes", "-tokens", "-access-key", keys[0]["id"].(string))[0]
		require.EqualValues(t, 1, d["count"])
		require.Empty(t, p.ok(t, "tokens"))
		require.Equal(t, exitUsage, p.run(t, "", "keys", "burn").code)
	})
}

func TestFeed_IsPrintedFromAPlaceAndTheNewest(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		all := p.objects(t, "feed")
		require.Equal(t, "directory.founded", all[0]["kind"])
		require.Equal(t, all[3:], p.objects(t, "feed", "-after", all[2]["cursor"].(string)))
		require.Equal(t, all[len(all)-2:], p.objects(t, "feed", "-n", "2"))
		require.Len(t, p.objects(t, "feed", "-kind", "user.created"), 2)
		require.Len(t, p.objects(t, "feed", "-kind", "user.", "-user", "bob-user"), 1)
		require.Contains(t, p.ok(t, "feed", "-kind", "user.created"), "user.created           alice-user  (.system)")
		r := p.run(t, "", "feed", "-after", "nonsense")
		require.Equal(t, exitFailed, r.code)
		require.Equal(t, exitUsage, p.run(t, "", "feed", "-n", "10001").code)
	})
}

func TestFeed_HasWhoActed(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		newest := func() any { return p.objects(t, "feed", "-n", "1")[0]["operator"] }
		p.ok(t, "block", "bob-user", "-as", "ada")
		require.Equal(t, "ada", newest())
		require.Contains(t, p.ok(t, "feed", "-n", "1"), "bob-user  (.system, ada)\n")
		p.env["USER"] = "grace"
		p.ok(t, "unblock", "bob-user")
		require.Equal(t, "grace", newest())
		p.env["USER"] = "no name"
		p.ok(t, "block", "bob-user")
		require.Nil(t, newest())
		require.Equal(t, exitUsage, p.run(t, "", "unblock", "bob-user", "-as", "no name").code)
	})
}

func TestFeed_OfAnotherHistoryIsMissed(t *testing.T) {
	p, other := file(filepath.Join(long.Dir(t), "people.db")), file(filepath.Join(long.Dir(t), "other.db"))
	people(t, p)
	people(t, other)
	r := p.run(t, "", "feed", "-after", other.objects(t, "feed")[0]["cursor"].(string))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "go on after "+p.objects(t, "feed", "-n", "1")[0]["cursor"].(string))
}

func TestFeed_FollowsUntilItIsInterrupted(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		ctx, interrupt := context.WithCancel(t.Context())
		lines := 0
		out := writer(func(b []byte) {
			if lines++; strings.Contains(string(b), "presence.set") {
				interrupt()
			}
		})
		code := run(ctx, append([]string{"feed", "-f", "-n", "3"}, p.args...),
			world{env: func(n string) string { return p.env[n] }, stdout: out, stderr: os.Stderr})
		require.Equal(t, exitDone, code)
		require.Equal(t, 3, lines)
	})
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestVerify_FindsNothingInASoundDirectory(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		r := p.run(t, "", "verify")
		require.Equal(t, ran{exitDone, "", "0 damaged\n"}, r)
	})
}

func TestRekey_ChangesTheRootKey(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		require.Equal(t, exitUsage, p.run(t, "", "rekey").code, "there are no keys")
		p.env["DENIZEN_ROOT_KEYS"] = key + ",none"
		d := p.objects(t, "rekey")[0]
		require.Equal(t, "none", d["rootKeyBefore"])
		require.Contains(t, p.ok(t, "rekey"), "already")
		p.env["DENIZEN_ROOT_KEYS"] = ""
		r := p.run(t, "", "stat")
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.err, "give the root keys by DENIZEN_ROOT_KEYS, or by -root-keys FILE")
		keys := filepath.Join(long.Dir(t), "keys")
		require.NoError(t, os.WriteFile(keys, []byte(key+"\n"), 0o600))
		require.Equal(t, d["rootKey"], p.objects(t, "stat", "-root-keys", keys)[0]["rootKey"])
		require.NoError(t, os.Chmod(keys, 0o640))
		require.Contains(t, p.run(t, "", "stat", "-root-keys", keys).err, "chmod 600")
		p.env["DENIZEN_ROOT_KEYS"] = "secret-nonsense"
		r = p.run(t, "", "stat")
		require.Contains(t, r.err, "32 bytes")
		require.NotContains(t, r.err, "secret-nonsense")
	})
}

func TestImport_BringsInWhatExportWrote(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		path := filepath.Join(long.Dir(t), "people.jsonl")
		require.Equal(t, "wrote 2 users to "+path+"\n", p.ok(t, "export", path))
		require.Equal(t, exitFailed, p.run(t, "", "export", path).code, "nothing is replaced")
		overEach(t, func(t *testing.T, to place) {
			r := to.run(t, "", "import", path)
			require.Equal(t, exitFailed, r.code, "there is no directory: %s", r.err)
			require.Equal(t, "2 rows: 2 created (0 of them partly), 0 there already, 0 skipped, 0 refused\n", to.ok(t, "import", "-new", path))
			require.EqualValues(t, 2, to.objects(t, "import", path)[0]["present"])
			require.Equal(t, p.objects(t, "user", "-reveal", "alice-user")[0]["attributes"],
				to.objects(t, "user", "-reveal", "alice-user")[0]["attributes"])
		})
	})
}

func TestImport_SaysWhatItRefuses(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	lines := p.ok(t, "export", "-")
	lines = strings.Replace(lines, "alice-user", "carol-user", 1)
	r := p.run(t, lines, "import", "-", "-dry-run", "-json")
	require.Equal(t, exitFailed, r.code)
	o := parsed(t, r.out)
	require.Equal(t, "alice-user", o[0]["owner"])
	require.NotContains(t, r.out, "example.org")
	require.EqualValues(t, 1, o[len(o)-1]["refused"])
	require.Equal(t, true, o[len(o)-1]["dryRun"])
	require.Equal(t, exitDone, p.run(t, lines, "import", "-", "-on-clash", "skip").code)
	require.Equal(t, exitFailed, p.run(t, "no file", "import", "-").code)
	require.Equal(t, exitUsage, p.run(t, "", "import", "-", "-on-clash", "win").code)
}

func TestExport_OfOnePersonIsAllThatIsStored(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		people(t, p)
		document := parsed(t, p.ok(t, "export", "-user", "alice-user", "-"))[0]
		require.Equal(t, "alice-user", document["user"])
		require.Len(t, document["locators"], 2)
	})
}

func TestCopy_MovesBetweenStores(t *testing.T) {
	overEach(t, func(t *testing.T, p place) {
		_, token := people(t, p)
		t.Run("to a file", func(t *testing.T) {
			to := file(filepath.Join(long.Dir(t), "copied.db"))
			require.Contains(t, p.ok(t, "copy", "-to", to.args[1]), "copied all to")
			require.Equal(t, string(token.ID), to.objects(t, "tokens")[0]["id"])
			require.Equal(t, exitFailed, p.run(t, "", "copy", "-to", to.args[1]).code, "nothing is replaced")
			left, err := os.ReadDir(filepath.Dir(to.args[1]))
			require.NoError(t, err)
			require.Len(t, left, 1)
		})
		t.Run("to a database", func(t *testing.T) {
			to := database(t)
			p.env["DENIZEN_TO_DSN"] = to.env["DENIZEN_DSN"]
			require.Contains(t, p.ok(t, "copy", "-to-schema", to.args[1]), "copied all to schema")
			require.Equal(t, string(token.ID), to.objects(t, "tokens")[0]["id"])
			r := p.run(t, "", "copy", "-to-schema", to.args[1])
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.err, "has a directory already")
		})
	})
}

func TestOpen_MakesNothing(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(long.Dir(t), "people.db")
		r := file(path).run(t, "", "stat")
		require.Equal(t, ran{exitFailed, "", "denizen stat: there is no file " + path + "\n"}, r)
		require.NoFileExists(t, path)
	})
	t.Run("database", func(t *testing.T) {
		p := database(t)
		require.Contains(t, p.run(t, "", "stat").err, "there is no directory in the schema "+p.args[1])
		require.Contains(t, p.run(t, "", "stat").err, "there is no directory", "it was not made by looking")
	})
}

func TestOpen_MigratesNoSchemaUnasked(t *testing.T) {
	p := database(t)
	people(t, p)
	c, err := pgx.Connect(t.Context(), p.env["DENIZEN_DSN"])
	require.NoError(t, err)
	newest, err := newestVersion()
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "DELETE FROM "+p.args[1]+".migrations WHERE version = $1", newest)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	r := p.run(t, "", "stat")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "or -migrate")
}

func TestOpen_SaysNothingOfTheDSN(t *testing.T) {
	for _, dsn := range []string{
		"postgres://ada:hunter22@127.0.0.1:1/x?connect_timeout=1", "postgres://ada:hunter22@[::bad", "host=127.0.0.1 port=1 password=hunter22 connect_timeout=1",
	} {
		p := place{env: map[string]string{"DENIZEN_DSN": dsn}}
		r := p.run(t, "", "stat")
		require.Equal(t, exitFailed, r.code)
		require.NotContains(t, r.out+r.err, "hunter22")
	}
	r := file("postgres://ada:hunter22@127.0.0.1/x").run(t, "", "stat")
	require.Equal(t, exitUsage, r.code)
	require.NotContains(t, r.err, "hunter22")
}

func TestOpen_DoesNotTrimWhatTheServiceKeeps(t *testing.T) {
	o, err := (&session{world: world{env: func(string) string { return "" }}}).options()
	require.NoError(t, err)
	require.Equal(t, keepEvents, o.FeedMaxAge)
}

func TestUsage_IsRefusedWithHelp(t *testing.T) {
	var none place
	none.env = map[string]string{}
	for _, args := range [][]string{
		{"nonsense"},
		{"stat"},
		{"stat", "-nonsense"},
		{"user", "-db", "x"},
		{"users", "-db", "x", "too-much"},
		{"copy", "-db", "x"},
		{"keys", "drop", "-db", "x"},
		{"restore", "x"},
		{"salvage", "x"},
		{"erase", "x"},
		{"tokens", "-db", "x", "-unused", "-1h"},
	} {
		r := none.run(t, "", args...)
		require.Equal(t, exitUsage, r.code, "%v", args)
		require.Contains(t, r.err, "denizen help", "%v", args)
	}
	var out bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), nil, world{stderr: &out}))
	require.Contains(t, out.String(), "usage: denizen COMMAND")
}

func TestHelp_NamesEachCommandAndFlag(t *testing.T) {
	none := place{env: map[string]string{}}
	all := none.ok(t, "help")
	for _, c := range []string{
		"stat", "users", "user", "tokens", "revoke", "block", "unblock", "erase", "keys", "feed", "verify", "salvage", "backup",
		"restore", "compact", "copy", "rekey", "import", "export",
	} {
		require.Contains(t, all, "\n  "+c+" ")
		text := none.ok(t, "help", c)
		require.Contains(t, text, "usage: denizen "+c)
		require.Contains(t, text, "-db FILE")
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 132, line)
		}
		require.Equal(t, text, none.ok(t, c, "-h"))
	}
	require.Equal(t, exitUsage, none.run(t, "", "help", "nonsense").code)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestOutput_ThatCannotBeWrittenIsAFailure(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	for _, args := range [][]string{{"backup", "-"}, {"users"}, {"stat", "-json"}, {"export", "-"}, {"block", "bob-user"}} {
		require.Equal(t, exitFailed, p.runIn(t, world{stdout: failing{}}, args...).code, "%v", args)
	}
}

func TestProgress_IsForTerminalsAndForWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shown := func(s *session) string {
			var out bytes.Buffer
			s.stderr = &out
			end := s.progress(func() string { return "7 \x1b records" })
			time.Sleep(2500 * time.Millisecond)
			end()
			return out.String()
		}
		require.Empty(t, shown(&session{}))
		require.Equal(t, "7 \\x1b records\n7 \\x1b records\n", shown(&session{showProgress: true}))
		require.Equal(t, "\r\x1b[K7 \\x1b records\r\x1b[K7 \\x1b records\r\x1b[K", shown(&session{world: world{told: true}}))
	})
}

// What is stored was refused as a screen name long ago, but a store can hold anything.
func TestOutput_LetsNoTextReachATerminal(t *testing.T) {
	const hostile = "a\x1b]0;owned\x07b\u009bc\u202ed\u200be\x7f\\f\xffg\U000e0041h\r\n"
	require.Equal(t, `a\x1b]0;owned\ab\u009bc\u202ed\u200be\x7f\\f\xffg\U000e0041h\r\n`, clean(hostile))
	require.Equal(t, "Zoë 木村 😀", clean("Zoë 木村 😀"))
	b, err := json.Marshal(map[string]string{"x": strings.ToValidUTF8(hostile, "")})
	require.NoError(t, err)
	shown := string(cleanJSON(b))
	require.NotContains(t, shown, "\u009b")
	require.NotContains(t, shown, "\u202e")
	require.NotContains(t, shown, "\x7f")
	var back map[string]string
	require.NoError(t, json.Unmarshal([]byte(shown), &back))
	require.Equal(t, strings.ToValidUTF8(hostile, ""), back["x"], "it is the same text")
}

func TestOutput_OfLabelsAndNamesIsClean(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	dir := p.open(t)
	_, err := dir.DefineAttribute(t.Context(), denizen.System(), denizen.AttributeDef{Key: "note"})
	require.NoError(t, err)
	_, err = dir.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
		ID: "alice-user", ScreenName: "Alice", Attributes: []denizen.Attribute{{Key: "note", Value: "\x1b[2J\u202e"}},
	})
	require.NoError(t, err)
	_, err = dir.BlockUser(t.Context(), denizen.System(), "alice-user", denizen.Block{Reason: "\x1b]0;x\x07"})
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	for _, args := range [][]string{{}, {"-json"}} {
		out := p.ok(t, append([]string{"user", "-reveal", "alice-user"}, args...)...)
		require.NotContains(t, out, "\x1b")
		require.NotContains(t, out, "\u202e")
	}
}

func TestFile_ThatIsDamagedIsExitThree(t *testing.T) {
	path := filepath.Join(long.Dir(t), "people.db")
	p := file(path)
	people(t, p)
	damage(t, path, "Alice")
	for _, c := range [][]string{{"verify"}, {"users"}, {"user", "alice-user"}} {
		r := p.run(t, "", c...)
		require.Equal(t, exitDamaged, r.code, "%v %s", c, r.err)
	}
	r := p.run(t, "", "users")
	require.Contains(t, r.out, "DAMAGED")
	require.Contains(t, r.out, "Bob")
	r = p.run(t, "", "backup", path+".backup")
	require.Equal(t, exitDamaged, r.code)
	require.NoFileExists(t, path+".backup")
	r = p.run(t, "", "salvage", path+".salvaged", "-json")
	require.Equal(t, exitDamaged, r.code, r.err)
	o := parsed(t, r.out)
	require.Equal(t, "user", o[0]["kind"])
	require.EqualValues(t, 1, o[len(o)-1]["lost"])
	require.Contains(t, file(path+".salvaged").ok(t, "users"), "Bob")
	require.Equal(t, exitFailed, p.run(t, "", "salvage", path+".salvaged").code, "nothing is replaced")
}

// damage changes a byte of each occurrence of a text in a file.
func damage(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(b), text)
	b = bytes.ReplaceAll(b, []byte(text), bytes.Repeat([]byte("?"), len(text)))
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func TestFile_OthersMayReadIsRefused(t *testing.T) {
	path := filepath.Join(long.Dir(t), "people.db")
	people(t, file(path))
	require.NoError(t, os.Chmod(path, 0o644))
	r := file(path).run(t, "", "stat")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "chmod 600")
}

func TestBackup_IsWholeAndReplacesNothing(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	path := filepath.Join(dir, "people.backup")
	b := p.objects(t, "backup", path)[0]
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.Equal(t, b["seq"], p.objects(t, "verify", "-backup", path)[0]["seq"])
	require.Contains(t, p.ok(t, "verify", "-backup", path), "is whole")
	r := p.run(t, "", "backup", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "nothing is ever replaced")
	streamed := p.ok(t, "backup", "-")
	require.NoError(t, os.WriteFile(path+"2", []byte(streamed), 0o600))
	p.ok(t, "verify", "-backup", path+"2")
	require.Equal(t, exitUsage, p.runIn(t, world{watched: true}, "backup", "-").code)
	require.NoError(t, os.WriteFile(path+"2", []byte(streamed[:len(streamed)/2]), 0o600))
	require.Equal(t, exitDamaged, p.run(t, "", "verify", "-backup", path+"2").code)
}

func TestBackup_OfADatabaseIsRefused(t *testing.T) {
	p := database(t)
	people(t, p)
	path := filepath.Join(long.Dir(t), "people.backup")
	require.Equal(t, exitFailed, p.run(t, "", "backup", path).code)
	require.NoFileExists(t, path)
}

func TestCompact_LeavesAllThatThereIs(t *testing.T) {
	p := file(filepath.Join(long.Dir(t), "people.db"))
	people(t, p)
	before := p.ok(t, "users", "-reveal")
	require.Contains(t, p.ok(t, "compact"), "it had ")
	require.Equal(t, before, p.ok(t, "users", "-reveal"))
	p.ok(t, "verify")
}

func TestBackup_ThatIsInterruptedLeavesNothing(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	ctx, interrupt := context.WithCancel(t.Context())
	err := newFile(filepath.Join(dir, "people.backup"), func(w io.Writer) error {
		s := &session{world: world{env: func(string) string { return "" }}, db: p.args[1]}
		require.NoError(t, s.identify())
		require.NoError(t, s.open(ctx))
		defer s.close()
		_, err := s.dir.Backup(ctx, s.by, writer(func(b []byte) { _, _ = w.Write(b); interrupt() }))
		return err
	}, nil)
	require.Error(t, err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "%v", left)
	require.Equal(t, exitInterrupted, codeOf(ctx, ctx.Err()))
}

func TestFile_ThatCannotBeMadeWholeIsNotThere(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, args := range [][]string{{"copy", "-to", "x"}, {"salvage", "x"}, {"backup", "x"}, {"export", "x"}} {
		if n := len(args) - 1; args[n] == "x" {
			args[n] = filepath.Join(dir, "x")
		}
		var out bytes.Buffer
		code := run(ctx, append(args, p.args...), world{env: func(string) string { return "" }, stdout: &out, stderr: &out})
		require.Equal(t, exitInterrupted, code, "%v %s", args, out.String())
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1, "%v", args)
	}
}

func TestRestore_EndsTokensAndErasesAgain(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	backup, receipts := filepath.Join(dir, "backup"), filepath.Join(dir, "receipts")
	p.ok(t, "backup", backup)
	p.ok(t, "erase", "-yes", "-receipts", receipts, "bob-user")
	r := p.run(t, "", "restore", backup)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "give -replace to move it aside")
	to := file(filepath.Join(dir, "restored.db"))
	d := to.objects(t, "restore", "-erase", receipts, backup)[0]
	require.Equal(t, []any{p.objects(t, "keys")[0]["id"]}, d["accessKeys"])
	require.Equal(t, "bob-user", d["erased"].([]any)[0].(map[string]any)["user"])
	require.Empty(t, to.ok(t, "tokens"))
	require.Len(t, to.objects(t, "users"), 1)
	out := p.ok(t, "restore", "-replace", "-erase", receipts, backup)
	require.Contains(t, out, "erased again: bob-user")
	_, moved, found := strings.Cut(out, "what was there is ")
	require.True(t, found)
	moved, _, _ = strings.Cut(moved, "\n")
	require.Len(t, file(moved).objects(t, "tokens"), 1, "what was there is whole")
	require.Empty(t, p.ok(t, "tokens"))
	require.NoError(t, os.WriteFile(receipts, []byte(`{"user":1}`), 0o600))
	require.Contains(t, file(filepath.Join(dir, "another.db")).run(t, "", "restore", "-erase", receipts, backup).err, "no file of receipts")
}

func TestRestore_MovesNoFileThatIsOpen(t *testing.T) {
	dir := long.Dir(t)
	p := file(filepath.Join(dir, "people.db"))
	people(t, p)
	backup := filepath.Join(dir, "backup")
	p.ok(t, "backup", backup)
	held, err := bolt.Open(t.Context(), p.args[1], bolt.Options{})
	require.NoError(t, err)
	defer held.Close()
	require.Equal(t, exitHeld, p.run(t, "", "restore", "-replace", backup).code)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2)
}
