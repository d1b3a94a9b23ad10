package webhook

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/memory"
)

func TestWebhook_AnEndpointHasRules(t *testing.T) {
	good := Endpoint{URL: "https://receiver.example:8443/hook?a=b", Secrets: []string{testSecret}}
	_, err := newPoster(good)
	require.NoError(t, err)
	d := newMemory(t, denizen.Options{})
	for name, c := range map[string]struct {
		field  string
		change func(e *Endpoint)
	}{
		"no URL":                {"url", func(e *Endpoint) { e.URL = "" }},
		"no host":               {"url", func(e *Endpoint) { e.URL = "https:///hook" }},
		"not absolute":          {"url", func(e *Endpoint) { e.URL = "/hook" }},
		"no URL at all":         {"url", func(e *Endpoint) { e.URL = "https://%zz" }},
		"http":                  {"url", func(e *Endpoint) { e.URL = "http://receiver.example" }},
		"another scheme":        {"url", func(e *Endpoint) { e.URL = "file://receiver.example/etc"; e.AllowHTTP = true }},
		"a user":                {"url", func(e *Endpoint) { e.URL = "https://me:secret@receiver.example" }},
		"a fragment":            {"url", func(e *Endpoint) { e.URL = "https://receiver.example/#here" }},
		"a port that is none":   {"url", func(e *Endpoint) { e.URL = "https://receiver.example:99999" }},
		"a long one":            {"url", func(e *Endpoint) { e.URL += strings.Repeat("x", 2048) }},
		"no secret":             {"secrets", func(e *Endpoint) { e.Secrets = nil }},
		"too many secrets":      {"secrets", func(e *Endpoint) { e.Secrets = strings.Split(strings.Repeat(","+testSecret, 9), ",")[1:] }},
		"a secret that is none": {"secrets", func(e *Endpoint) { e.Secrets = []string{testSecret, "hunter2"} }},
		"a negative timeout":    {"timeout", func(e *Endpoint) { e.Timeout = -1 }},
		"a long timeout":        {"timeout", func(e *Endpoint) { e.Timeout = time.Hour }},
	} {
		e := good
		c.change(&e)
		err := Post(t.Context(), d, system, "partner", e)
		require.ErrorIs(t, err, denizen.ErrInvalid, name)
		var refused *denizen.Error
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, c.field, refused.Field, name)
		require.Equal(t, "Post", refused.Op)
		require.NotContains(t, err.Error(), "secret@")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestWebhook_OnlyTheApplicationPostsAndOneOfAName(t *testing.T) {
	inVirtualTime(t, 1, denizen.Options{}, func(t *testing.T, d *denizen.Directory, r *receiver) {
		e := Endpoint{URL: "https://receiver.example", Secrets: []string{testSecret}}
		require.ErrorIs(t, Post(t.Context(), d, denizen.Principal{}, "partner", e), denizen.ErrDenied)
		token, err := d.IssueToken(t.Context(), system, "early-user-000000", denizen.TokenOptions{})
		require.NoError(t, err)
		alice, err := d.Authenticate(t.Context(), token.Signed)
		require.NoError(t, err)
		require.ErrorIs(t, Post(t.Context(), d, alice, "partner", e), denizen.ErrDenied)
		require.ErrorIs(t, Post(t.Context(), d, system, "two words", e), denizen.ErrInvalid)
		stop := r.posting(d, Endpoint{})
		time.Sleep(time.Second)
		require.ErrorIs(t, Post(t.Context(), d, system, "partner", e), denizen.ErrTaken)
		require.ErrorIs(t, d.Notify(t.Context(), system, "partner", func(context.Context, []denizen.Event) error { return nil }), denizen.ErrTaken)
		requireStopped(t, stop())
		require.NoError(t, d.Close())
		require.ErrorIs(t, Post(t.Context(), d, system, "partner", e), denizen.ErrClosed)
	})
}

func TestWebhook_WhileNothingIsPostedNothingIsWritten(t *testing.T) {
	inVirtualTime(t, 0, denizen.Options{}, func(t *testing.T, _ *denizen.Directory, r *receiver) {
		s := &commits{Store: memory.New()}
		d := newOver(t, s, denizen.Options{})
		stop := r.posting(d, Endpoint{})
		time.Sleep(time.Minute)
		require.Len(t, r.requests(), 1)
		before := s.n.Load()
		time.Sleep(time.Hour)
		require.Equal(t, before, s.n.Load())
		newUsers(t, d, "late-user", 1)
		time.Sleep(time.Second)
		require.Equal(t, before+3, s.n.Load(), "the user, the bounds and the cursor")
		requireStopped(t, stop())
	})
}
