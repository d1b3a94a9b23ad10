package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/denizentest"
	"github.com/denizenhq/denizen/signin"
)

func TestEachMessageSaysWhatItIsFor(t *testing.T) {
	until := time.Date(2026, 12, 1, 9, 30, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		d    signin.Delivery
		says []string
	}{
		"a code":             {signin.Delivery{Purpose: signin.SignIn, Code: "12345678"}, []string{"Sign in", "12345678", "Nobody"}},
		"a link":             {signin.Delivery{Purpose: signin.SignIn, Link: "https://x/#s"}, []string{"Sign in", "in the browser", "https://x/#s ", "Nobody"}},
		"a claim":            {signin.Delivery{Purpose: signin.Verify, Code: "12345678"}, []string{"says that this address", "12345678", "Nobody"}},
		"a replacement":      {signin.Delivery{Purpose: signin.Change, Code: "12345678"}, []string{"says that this address", "12345678", "Nobody"}},
		"a change":           {signin.Delivery{Purpose: signin.Notice, Undo: "https://x/#u", Expires: until}, []string{"was changed", "1 December 09:30 UTC", "https://x/#u"}},
		"a removal":          {signin.Delivery{Purpose: signin.Notice, Undo: "https://x/#u", Removed: true}, []string{"was taken", "https://x/#u"}},
		"without an undoing": {signin.Delivery{Purpose: signin.Notice}, []string{"was changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.d.Type, c.d.Address = denizen.TypeEmail, "alice@example.org"
			m := write(c.d)
			require.Equal(t, "email:alice@example.org", m.To)
			for _, part := range c.says {
				require.Contains(t, m.Text, part)
			}
			require.NotContains(t, m.Text, "  ")
		})
	}
}

func TestAMailboxKeepsMessagesForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "messages")
	for _, code := range []string{"11111111", "22222222"} { // a program that runs again
		box, err := openMailbox(path)
		require.NoError(t, err)
		require.NoError(t, box.deliver(t.Context(), signin.Delivery{Purpose: signin.SignIn, Type: denizen.TypeTele, Address: "+12015550123", Code: code}))
		require.NoError(t, box.Close())
		require.Error(t, box.deliver(t.Context(), signin.Delivery{}))
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Len(t, lines, 2)
	var last message
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &last))
	require.Equal(t, "tele:+12015550123", last.To)
	require.Contains(t, last.Text, "22222222")
}

func TestAMessageThatCannotBeSentIsInTheLogWithoutItsAddress(t *testing.T) {
	var log said
	s := settings{url: "https://people.example.org"}
	handler, people, err := service(denizentest.New(t), slog.New(slog.NewTextHandler(&log, nil)), s,
		func(context.Context, signin.Delivery) error { return errors.New("no mail today") })
	require.NoError(t, err)
	in := &inside{t: t, handler: handler}
	in.send("POST", "/sign-in/code", `{"locator": "email:alice@example.org"}`)
	require.NoError(t, people.Close())
	require.Contains(t, log.String(), "no mail today")
	require.NotContains(t, log.String(), "alice")
}
