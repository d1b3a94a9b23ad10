package denizen_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
)

var sys = denizen.System()

// Issuing

func TestTokens_ATokenLivesForTheDefaultUnlessItSaysOtherwise(t *testing.T) {
	for name, row := range map[string]struct {
		options denizen.Options
		ttl     time.Duration
		want    time.Duration
	}{
		"no options":         {denizen.Options{}, 0, 24 * time.Hour},
		"a default":          {denizen.Options{TokenTTL: 5 * time.Minute}, 0, 5 * time.Minute},
		"a short longest":    {denizen.Options{MaxTokenTTL: time.Hour}, 0, time.Hour},
		"a life of its own":  {denizen.Options{}, time.Second, time.Second},
		"the longest":        {denizen.Options{}, 30 * 24 * time.Hour, 30 * 24 * time.Hour},
		"longer than usual":  {denizen.Options{MaxTokenTTL: 365 * 24 * time.Hour}, 365 * 24 * time.Hour, 365 * 24 * time.Hour},
		"ten years, no more": {denizen.Options{MaxTokenTTL: 3650 * 24 * time.Hour}, 3650 * 24 * time.Hour, 3650 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newMemory(t, row.options)
				newUser(t, d, "alice-user")
				issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: row.ttl})
				require.Equal(t, time.Now().Add(row.want).UTC(), issued.ExpiresAt)
			})
		})
	}
}

func TestTokens_ALifeIsWholeSecondsAndNoLongerThanTheLongest(t *testing.T) {
	d := newMemory(t, denizen.Options{MaxTokenTTL: time.Hour})
	newUser(t, d, "alice-user")
	before := len(eventsAfter(t, d, 0))
	for _, ttl := range []time.Duration{-1, -time.Second, 1, time.Second - 1, 1500 * time.Millisecond, time.Hour + 1, time.Hour + time.Second, 1 << 62} {
		_, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{TTL: ttl})
		requireRefused(t, err, "IssueToken", denizen.ErrInvalid, "ttl")
	}
	tokens, err := d.Tokens(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	require.Empty(t, tokens)
	require.Len(t, eventsAfter(t, d, 0), before)
}

func TestTokens_ALabelIsAsAScreenName(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "alice-user")
	for label, good := range map[string]bool{
		"": true, "Alice's phone": true, strings.Repeat("ä", 128): true,
		strings.Repeat("a", 129): false, "a\x00b": false, "a\nb": false, "\u202e": false, " ": false, "\xff": false, "e\u0301": true, "Ali\u200dce": false,
	} {
		issued, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{Label: label})
		if !good {
			requireRefused(t, err, "IssueToken", denizen.ErrInvalid, "label")
			continue
		}
		require.NoError(t, err)
		tokens, err := d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Equal(t, norm.NFC.String(label), tokens[len(tokens)-1].Label)
		require.Equal(t, issued.ID, tokens[len(tokens)-1].ID)
	}
}

func TestTokens_NoTokenIsIssuedForWhoIsNoUser(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for user, kind := range map[denizen.UserID]error{
		".system": denizen.ErrInvalid, ".anonymous": denizen.ErrInvalid, ".deleted": denizen.ErrInvalid,
		"nobody-there": denizen.ErrNotFound,
	} {
		_, err := d.IssueToken(t.Context(), sys, user, denizen.TokenOptions{})
		require.ErrorIs(t, err, kind, user)
	}
}

func TestTokens_NoTokenIsIssuedForABlockedUser(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		_, err := d.BlockUser(t.Context(), sys, "alice-user", denizen.Block{})
		require.NoError(t, err)
		_, err = d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{})
		requireRefused(t, err, "IssueToken", denizen.ErrDenied, "user")
		_, err = d.UnblockUser(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		newToken(t, d, "alice-user", denizen.TokenOptions{})
	})
}

func TestTokens_AUserHasAHundredLiveTokensAtMost(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Minute})
		for range denizen.MaxTokens - 1 {
			newToken(t, d, "alice-user", denizen.TokenOptions{RefuseWhenFull: true})
		}
		_, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{RefuseWhenFull: true})
		requireRefused(t, err, "IssueToken", denizen.ErrLimited, "tokens")
		time.Sleep(time.Minute)
		newToken(t, d, "alice-user", denizen.TokenOptions{RefuseWhenFull: true}) // in place of the one that ended
		_, err = d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{RefuseWhenFull: true})
		require.ErrorIs(t, err, denizen.ErrLimited)
	})
}

func TestTokens_TheHundredAndFirstTokenEndsTheOneThatWasUnusedForLongest(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := make([]denizen.IssuedToken, denizen.MaxTokens)
		for i := range issued {
			issued[i] = newToken(t, d, "alice-user", denizen.TokenOptions{})
			time.Sleep(time.Second)
		}
		use := func(i int) {
			_, err := d.Authenticate(t.Context(), issued[i].Signed)
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		use(0) // and its use is stored by now
		time.Sleep(5 * time.Minute)
		use(1) // which is noted in memory alone
		ends := func(i int) {
			t.Helper()
			after := latest(t, d)
			next := newToken(t, d, "alice-user", denizen.TokenOptions{})
			events := eventsAfter(t, d, after)
			require.Len(t, events, 2)
			require.Equal(t, denizen.EventTokenRevoked, events[0].Kind)
			require.Equal(t, []string{string(issued[i].ID)}, events[0].Subjects)
			require.Equal(t, denizen.EventTokenIssued, events[1].Kind)
			require.Equal(t, []string{string(next.ID)}, events[1].Subjects)
			require.Equal(t, events[1].Actor, events[0].Actor)
			_, err := d.Authenticate(t.Context(), issued[i].Signed)
			require.ErrorIs(t, err, denizen.ErrRevoked)
			_, err = d.Authenticate(t.Context(), next.Signed)
			require.NoError(t, err)
			tokens, err := d.Tokens(t.Context(), sys, "alice-user")
			require.NoError(t, err)
			require.Len(t, tokens, denizen.MaxTokens)
		}
		ends(2)
		ends(3)
		require.NoError(t, authenticated(t, d, issued[0].Signed))
		require.NoError(t, authenticated(t, d, issued[1].Signed))
	})
}

func TestTokens_IssuedAtOnceForAUserWhoHasTheMostAreAllIssuedAndNoMoreLive(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		for range denizen.MaxTokens - 4 {
			newToken(t, d, "alice-user", denizen.TokenOptions{})
		}
		for _, err := range atOnce(32, func(int) error {
			_, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{})
			return err
		}) {
			require.NoError(t, err)
		}
		tokens, err := d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.LessOrEqual(t, len(tokens), denizen.MaxTokens)
		require.Greater(t, len(tokens), denizen.MaxTokens-2, "more were ended than there had to be")
	})
}

func TestTokens_ATokenIsExtendedNoFurtherThanItsOwnLongestLife(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		short := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Minute, MaxTTL: 5 * time.Minute})
		by, err := d.Authenticate(t.Context(), short.Signed)
		require.NoError(t, err)
		for _, who := range []denizen.Principal{by, sys} {
			for _, ttl := range []time.Duration{30 * 24 * time.Hour, 5*time.Minute + time.Second} {
				_, err = d.ExtendToken(t.Context(), who, "alice-user", short.ID, ttl)
				requireRefused(t, err, "ExtendToken", denizen.ErrLimited, "ttl")
			}
		}
		_, err = d.ExtendToken(t.Context(), by, "alice-user", short.ID, 3*time.Minute)
		require.NoError(t, err)
		time.Sleep(150 * time.Second)
		_, err = d.ExtendToken(t.Context(), by, "alice-user", short.ID, 3*time.Minute)
		requireRefused(t, err, "ExtendToken", denizen.ErrLimited, "ttl")
		long, err := d.ExtendToken(t.Context(), by, "alice-user", short.ID, 150*time.Second)
		require.NoError(t, err)
		require.Equal(t, epoch.Add(5*time.Minute), long.ExpiresAt)

		capped := newToken(t, d, "alice-user", denizen.TokenOptions{MaxTTL: time.Minute})
		require.Equal(t, time.Now().Add(time.Minute).UTC(), capped.ExpiresAt, "a life by default that is longer than MaxTTL")
		for field, o := range map[string]denizen.TokenOptions{
			"ttl":    {TTL: 2 * time.Minute, MaxTTL: time.Minute},
			"maxTtl": {MaxTTL: 30*24*time.Hour + time.Second},
		} {
			_, err := d.IssueToken(t.Context(), sys, "alice-user", o)
			requireRefused(t, err, "IssueToken", denizen.ErrInvalid, field)
		}
		for _, bad := range []time.Duration{-time.Second, time.Millisecond, 1500 * time.Millisecond} {
			_, err := d.IssueToken(t.Context(), sys, "alice-user", denizen.TokenOptions{MaxTTL: bad})
			requireRefused(t, err, "IssueToken", denizen.ErrInvalid, "maxTtl")
		}
	})
}

func TestTokens_WhoRevokesSeveralIsToldWhichTokensAreMissing(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "alice-user")
	newUser(t, d, "bobs-user")
	own, other := newToken(t, d, "alice-user", denizen.TokenOptions{}), newToken(t, d, "bobs-user", denizen.TokenOptions{})
	by, err := d.Authenticate(t.Context(), own.Signed)
	require.NoError(t, err)
	for _, who := range []denizen.Principal{sys, by} {
		err := d.RevokeTokens(t.Context(), who, "alice-user", "none", own.ID, other.ID, "none")
		requireRefused(t, err, "RevokeTokens", denizen.ErrNotFound, "token")
		require.Equal(t, []string{"none", string(other.ID)}, err.(*denizen.Error).Missing)
	}
	err = d.RevokeTokens(t.Context(), by, "bobs-user", "none", other.ID)
	require.ErrorIs(t, err, denizen.ErrDenied)
	require.Nil(t, err.(*denizen.Error).Missing)
	require.NoError(t, authenticated(t, d, own.Signed))
}

// Authenticating

func TestTokens_ATokenIsItsUser(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		newUser(t, d, "bob-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		newToken(t, d, "bob-user", denizen.TokenOptions{})
		for range 2 { // looked up, and remembered
			by, err := d.Authenticate(t.Context(), issued.Signed)
			require.NoError(t, err)
			require.Equal(t, denizen.UserID("alice-user"), by.User())
			require.Equal(t, issued.ID, by.Token())
			require.Empty(t, by.AccessKey())
			require.True(t, by.MayParticipate())
		}
	})
}

// authenticated returns the kind of refusal of a text, nil if there is none.
func authenticated(t testing.TB, d *denizen.Directory, signed string) error {
	t.Helper()
	by, err := d.Authenticate(context.Background(), signed)
	if err == nil {
		require.NotEmpty(t, by.User())
		return nil
	}
	require.Equal(t, denizen.Principal{}, by)
	for _, kind := range []error{denizen.ErrExpired, denizen.ErrRevoked, denizen.ErrUnauthenticated} {
		if kindOf(t, err) == kind {
			return kind
		}
	}
	require.NoError(t, err)
	return nil
}

// kindOf returns the kind of an error, nil for none.
func kindOf(t testing.TB, err error) error {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *denizen.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// requireRefused is requireRefusal for any reason, which there must be where a value is invalid.
func requireRefused(t testing.TB, err error, op string, kind error, field string) {
	t.Helper()
	var e *denizen.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, []any{op, kind, field}, []any{e.Op, e.Kind, e.Field}, "%v", err)
	require.False(t, kind == denizen.ErrInvalid && e.Reason == "", "%v has no reason", err)
}

func TestTokens_ATokenLivesExactlyToItsEnd(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		time.Sleep(123 * time.Millisecond)
		for _, remembered := range []bool{false, true} {
			issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 10 * time.Second})
			require.Zero(t, issued.ExpiresAt.Nanosecond())
			require.GreaterOrEqual(t, time.Until(issued.ExpiresAt), 10*time.Second) // no shorter than asked
			require.Less(t, time.Until(issued.ExpiresAt), 11*time.Second)
			if remembered {
				require.NoError(t, authenticated(t, d, issued.Signed))
			}
			time.Sleep(time.Until(issued.ExpiresAt) - time.Millisecond)
			require.NoError(t, authenticated(t, d, issued.Signed))
			time.Sleep(time.Millisecond)
			require.Equal(t, denizen.ErrExpired, authenticated(t, d, issued.Signed))
		}
	})
}

func TestTokens_ARefusalSaysWhy(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		expired := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Second})
		revoked := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 72 * time.Hour})
		live := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 72 * time.Hour})
		foreign := newMemory(t, denizen.Options{ApplicationID: d.ApplicationID()})
		newUser(t, foreign, "alice-user")
		other := newToken(t, foreign, "alice-user", denizen.TokenOptions{TTL: 72 * time.Hour})
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", revoked.ID))
		time.Sleep(time.Second)
		check := func(when string) {
			t.Helper()
			require.Equal(t, denizen.ErrExpired, authenticated(t, d, expired.Signed), when)
			require.Equal(t, denizen.ErrRevoked, authenticated(t, d, revoked.Signed), when)
			require.Equal(t, denizen.ErrUnauthenticated, authenticated(t, d, other.Signed), when)
			require.Equal(t, denizen.ErrUnauthenticated, authenticated(t, d, "not a token"), when)
			require.Equal(t, denizen.ErrUnauthenticated, authenticated(t, d, ""), when)
			require.Equal(t, denizen.ErrUnauthenticated, authenticated(t, d, strings.Repeat("x", 1<<20)), when)
			require.NoError(t, authenticated(t, d, live.Signed), when)
		}
		check("before a sweep")
		time.Sleep(2 * time.Hour)
		check("after a sweep")
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		check("after a rotation")
		time.Sleep(24 * time.Hour)
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		check("after another")
	})
}

func TestTokens_OnlyTheVeryBytesAreAccepted(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "alice-user")
	signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
	refused := func(t *testing.T, text string) {
		by, err := d.Authenticate(context.Background(), text)
		if e, ok := err.(*denizen.Error); !ok || e.Kind != denizen.ErrUnauthenticated || by != (denizen.Principal{}) {
			t.Fatalf("%q: %v, %v", text, by, err)
		}
	}
	t.Run("changed", func(t *testing.T) {
		const parts = 4
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for i := part; i < len(signed); i += parts {
					refused(t, signed[:i])
					refused(t, signed[i+1:])
					refused(t, signed[:i]+signed[i+1:])
					others := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
					for bit := range 8 {
						if flipped := signed[i] ^ 1<<bit; !slices.Contains(others, flipped) {
							others = append(others, flipped)
						}
					}
					every := long.Of(8, 1)
					for j, c := range others {
						if c != signed[i] && (i+j)%every == 0 {
							refused(t, signed[:i]+string([]byte{c})+signed[i+1:])
						}
					}
				}
			})
		}
	})
	for _, text := range []string{
		" " + signed, signed + " ", signed + "\n", signed + "=", signed + "==", "\ufeff" + signed, signed + "." + signed, signed + signed,
		"Bearer " + signed, strings.ToUpper(signed), strings.ToLower(signed), strings.ReplaceAll(signed, ".", "\uff0e"),
		strings.ReplaceAll(signed, ".", ".."), signed + ".", "." + signed, signed + "\x00",
	} {
		refused(t, text)
	}
	require.NoError(t, authenticated(t, d, signed))
}

func TestTokens_ATokenOfAnotherDirectoryOfTheSameApplicationIsRefused(t *testing.T) {
	overStores(t, denizen.Options{ApplicationID: "the-app"}, func(t *testing.T, d *denizen.Directory) {
		other := newMemory(t, denizen.Options{ApplicationID: "the-app"})
		for _, dir := range []*denizen.Directory{d, other} {
			newUser(t, dir, "alice-user")
		}
		signed := newToken(t, other, "alice-user", denizen.TokenOptions{}).Signed
		require.NoError(t, authenticated(t, other, signed))
		require.Equal(t, denizen.ErrUnauthenticated, authenticated(t, d, signed))
	})
}

func TestTokens_AWallClockThatIsSetBackRevivesNothing(t *testing.T) {
	for _, cached := range []bool{true, false} {
		var wall, mono atomic.Int64 // the goroutines of the directory read them too
		wall.Store(int64(1000 * time.Hour))
		ctx := clock.With(t.Context(), clock.New(func() (int64, int64) { return wall.Load(), mono.Load() }))
		var s store.Store = memory.New()
		if !cached {
			s = shared{s}
		}
		d, err := denizen.New(ctx, s, denizen.Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		newUser(t, d, "alice-user")
		signed := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Minute}).Signed
		revoked := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
		require.NoError(t, authenticated(t, d, signed))
		wall.Add(int64(time.Minute))
		mono.Add(int64(time.Minute))
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, signed))
		wall.Add(-int64(500 * time.Hour))
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, signed))
		require.NoError(t, authenticated(t, d, revoked.Signed))
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", revoked.ID))

		// After a restart the wall clock is believed; what was revoked stays so.
		require.NoError(t, d.Close())
		again := clock.With(t.Context(), clock.New(func() (int64, int64) { return wall.Load(), mono.Load() }))
		d, err = denizen.New(again, s, denizen.Options{})
		require.NoError(t, err)
		require.Equal(t, denizen.ErrRevoked, authenticated(t, d, revoked.Signed))
		newToken(t, d, "alice-user", denizen.TokenOptions{}) // though every signing key is of the future
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		newToken(t, d, "alice-user", denizen.TokenOptions{})
		require.Len(t, kids(t, d), 2)
		require.NoError(t, d.Close())
	}
}

// ends are the ways in which a token ends at once.
var ends = map[string]func(ctx context.Context, d *denizen.Directory, by denizen.Principal, key string) error{
	"it is revoked": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.RevokeTokens(ctx, sys, by.User(), by.Token())
	},
	"its user revokes it": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.RevokeTokens(ctx, by, by.User(), by.Token())
	},
	"all are revoked": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.RevokeAllTokens(ctx, sys, by.User())
	},
	"its user logs out": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.Logout(ctx, by)
	},
	"its user is blocked": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		_, err := d.BlockUser(ctx, sys, by.User(), denizen.Block{})
		return err
	},
	"its user is deleted": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.DeleteUser(ctx, sys, by.User())
	},
	"those of its access key are revoked": func(ctx context.Context, d *denizen.Directory, by denizen.Principal, key string) error {
		n, err := d.RevokeTokensIssuedBy(ctx, sys, key)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d were revoked", n)
		}
		return err
	},
}

func TestTokens_ARememberedTokenEndsAtOnceWhen(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			overReopening(t, func(t *testing.T, open func(denizen.Options) *denizen.Directory) {
				d := open(denizen.Options{})
				newUser(t, d, "alice-user")
				newUser(t, d, "bob-user")
				key, err := d.CreateAccessKey(t.Context(), sys)
				require.NoError(t, err)
				byKey, err := d.AuthenticateKey(t.Context(), key.Key, key.Secret)
				require.NoError(t, err)
				issued, err := d.IssueToken(t.Context(), byKey, "alice-user", denizen.TokenOptions{})
				require.NoError(t, err)
				extended, err := d.ExtendToken(t.Context(), sys, "alice-user", issued.ID, 48*time.Hour)
				require.NoError(t, err)
				bobs := newToken(t, d, "bob-user", denizen.TokenOptions{}).Signed
				var by denizen.Principal
				for _, signed := range []string{issued.Signed, extended.Signed, bobs, issued.Signed} {
					by, err = d.Authenticate(t.Context(), signed)
					require.NoError(t, err)
				}
				require.NoError(t, end(t.Context(), d, by, key.Key))
				check := func() {
					t.Helper()
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, issued.Signed))
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, extended.Signed))
					require.NoError(t, authenticated(t, d, bobs))
				}
				check()
				require.NoError(t, d.Close())
				d = open(denizen.Options{})
				check()
			})
		})
	}
}

func TestTokens_ATokenIsRefusedWhenItCannotBeLookedUp(t *testing.T) {
	for _, cached := range []bool{true, false} {
		inner := memory.New()
		d := newOver(t, inner, denizen.Options{})
		newUser(t, d, "alice-user")
		signed := newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed
		require.NoError(t, d.Close())
		refused := 0
		storetest.EachCall(storetest.Before, func(_ int, decide func(storetest.Call) storetest.Fault) {
			s := storetest.Faulty(inner, decide)
			if !cached {
				s = shared{s}
			}
			d, err := denizen.New(t.Context(), s, denizen.Options{})
			if err != nil {
				return
			}
			defer func() { _ = d.Close() }()
			for _, text := range []string{signed, signed + "x"} {
				by, err := d.Authenticate(t.Context(), text)
				switch kindOf(t, err) {
				case nil:
					require.Equal(t, signed, text)
				case denizen.ErrUnavailable:
					require.Equal(t, denizen.Principal{}, by)
					refused++
				default:
					require.NotEqual(t, signed, text)
				}
			}
		})
		require.GreaterOrEqual(t, refused, 3) // its record, its user, the signing keys
	}
}

// Revoking and listing

func TestTokens_SeveralTokensAreRevokedTogetherOrNoneIs(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		newUser(t, d, "bob-user")
		a, b := newToken(t, d, "alice-user", denizen.TokenOptions{}), newToken(t, d, "alice-user", denizen.TokenOptions{})
		bobs := newToken(t, d, "bob-user", denizen.TokenOptions{})
		for _, wrong := range []denizen.TokenID{"NOSUCHTOKEN", "", bobs.ID} {
			err := d.RevokeTokens(t.Context(), sys, "alice-user", a.ID, wrong, b.ID)
			requireRefused(t, err, "RevokeTokens", denizen.ErrNotFound, "token")
		}
		for _, signed := range []string{a.Signed, b.Signed, bobs.Signed} {
			require.NoError(t, authenticated(t, d, signed))
		}
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", a.ID, b.ID, a.ID))
		require.Equal(t, denizen.ErrRevoked, authenticated(t, d, a.Signed))
		require.Equal(t, denizen.ErrRevoked, authenticated(t, d, b.Signed))
		require.NoError(t, authenticated(t, d, bobs.Signed))
		require.ErrorIs(t, d.RevokeTokens(t.Context(), sys, "alice-user", a.ID), denizen.ErrNotFound)
	})
}

func TestTokens_AHundredTokensAreRevokedInOneCallAndNoMore(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, "alice-user")
	ids := make([]denizen.TokenID, denizen.MaxTokens, denizen.MaxTokens+1)
	for i := range ids {
		ids[i] = newToken(t, d, "alice-user", denizen.TokenOptions{}).ID
	}
	err := d.RevokeTokens(t.Context(), sys, "alice-user", append(ids, "ONEMORE")...)
	requireRefused(t, err, "RevokeTokens", denizen.ErrInvalid, "tokens")
	require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", ids...))
	tokens, err := d.Tokens(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	require.Empty(t, tokens)
}

func TestTokens_RevokingNothingChangesNothing(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		before := eventsAfter(t, d, 0)
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user"))
		require.NoError(t, authenticated(t, d, issued.Signed))
		require.Equal(t, before, eventsAfter(t, d, 0))
		require.NoError(t, d.RevokeAllTokens(t.Context(), sys, "alice-user"))
		before = eventsAfter(t, d, 0)
		require.NoError(t, d.RevokeAllTokens(t.Context(), sys, "alice-user"))
		require.Equal(t, before, eventsAfter(t, d, 0))
	})
}

func TestTokens_WhatAnAccessKeyIssuedEndsAndNothingElse(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		key, err := d.CreateAccessKey(t.Context(), sys)
		require.NoError(t, err)
		byKey, err := d.AuthenticateKey(t.Context(), key.Key, key.Secret)
		require.NoError(t, err)
		issued, kept := map[string]bool{}, map[string]bool{}
		for i := range 20 {
			user := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, user)
			kept[newToken(t, d, user, denizen.TokenOptions{}).Signed] = true
			for range i % 4 {
				one, err := d.IssueToken(t.Context(), byKey, user, denizen.TokenOptions{})
				require.NoError(t, err)
				issued[one.Signed] = true
			}
		}
		tokens, err := d.Tokens(t.Context(), sys, "user-0003")
		require.NoError(t, err)
		require.Empty(t, tokens[0].AccessKey)
		require.Equal(t, key.Key, tokens[1].AccessKey)
		n, err := d.RevokeTokensIssuedBy(t.Context(), sys, key.Key)
		require.NoError(t, err)
		require.Equal(t, len(issued), n)
		for signed := range issued {
			require.Equal(t, denizen.ErrRevoked, authenticated(t, d, signed))
		}
		for signed := range kept {
			require.NoError(t, authenticated(t, d, signed))
		}
		n, err = d.RevokeTokensIssuedBy(t.Context(), sys, key.Key)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = d.RevokeTokensIssuedBy(t.Context(), sys, "")
		requireRefused(t, err, "RevokeTokensIssuedBy", denizen.ErrInvalid, "accessKey")
	})
}

func TestTokens_TheListIsOfLiveTokensOldestFirst(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		start := time.Now().UTC()
		first := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour, Label: "phone"})
		time.Sleep(time.Second)
		second := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Minute, Label: "laptop"})
		tokens, err := d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Equal(t, []denizen.Token{
			{ID: first.ID, Label: "phone", IssuedAt: start, ExpiresAt: start.Add(time.Hour)},
			{ID: second.ID, Label: "laptop", IssuedAt: start.Add(time.Second), ExpiresAt: start.Add(61 * time.Second)},
		}, tokens)
		time.Sleep(time.Minute)
		tokens, err = d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Len(t, tokens, 1)
		require.Equal(t, first.ID, tokens[0].ID)
	})
}

func TestTokens_ASignedTextIsNeitherListedNorStored(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	tokens, err := w.Tokens(t.Context(), sys, w.alice)
	require.NoError(t, err)
	listed := fmt.Sprintf("%#v", tokens)
	for _, signed := range []string{w.signed, w.otherSigned} {
		_, signature, _ := strings.Cut(signed[strings.Index(signed, ".")+1:], ".")
		require.NotContains(t, listed, signature)
		for _, r := range invariant.Of(t, w.inner).Records {
			require.NotContains(t, string(r.Value), signature)
			require.NotContains(t, string(r.Key), signature)
		}
	}
}

// Extending

func TestTokens_AnExtendedTokenHasTwoTextsThatEachKeepTheirEnd(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		start := time.Now().UTC()
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour, Label: "phone"})
		time.Sleep(30 * time.Minute)
		by, err := d.Authenticate(t.Context(), issued.Signed)
		require.NoError(t, err)
		extended, err := d.ExtendToken(t.Context(), by, "alice-user", issued.ID, time.Hour)
		require.NoError(t, err)
		require.Equal(t, issued.ID, extended.ID)
		require.NotEqual(t, issued.Signed, extended.Signed)
		require.Equal(t, start.Add(90*time.Minute), extended.ExpiresAt)
		again, err := d.Authenticate(t.Context(), extended.Signed)
		require.NoError(t, err)
		require.Equal(t, by, again)
		tokens, err := d.Tokens(t.Context(), sys, "alice-user")
		require.NoError(t, err)
		require.Len(t, tokens, 1)
		require.Equal(t, []any{"phone", start, extended.ExpiresAt}, []any{tokens[0].Label, tokens[0].IssuedAt, tokens[0].ExpiresAt})
		time.Sleep(30 * time.Minute)
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, issued.Signed))
		require.NoError(t, authenticated(t, d, extended.Signed))
		time.Sleep(30 * time.Minute)
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, extended.Signed))
	})
}

func TestTokens_AnExtensionIsRefused(t *testing.T) {
	inVirtualTime(t, denizen.Options{MaxTokenTTL: 10 * time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 2 * time.Hour})
		time.Sleep(time.Hour)
		refused := func(id denizen.TokenID, ttl time.Duration, kind error, field string) {
			t.Helper()
			_, err := d.ExtendToken(t.Context(), sys, "alice-user", id, ttl)
			requireRefused(t, err, "ExtendToken", kind, field)
		}
		refused(issued.ID, 0, denizen.ErrInvalid, "ttl")
		refused(issued.ID, -time.Hour, denizen.ErrInvalid, "ttl")
		refused(issued.ID, time.Hour+time.Millisecond, denizen.ErrInvalid, "ttl")
		refused(issued.ID, time.Minute, denizen.ErrLimited, "ttl") // sooner than its end
		refused(issued.ID, time.Hour, denizen.ErrLimited, "ttl")   // its end
		refused(issued.ID, 9*time.Hour+time.Second, denizen.ErrLimited, "ttl")
		refused(issued.ID, 10*time.Hour, denizen.ErrLimited, "ttl") // past its longest life
		refused(issued.ID, 11*time.Hour, denizen.ErrLimited, "ttl")
		refused("NOSUCHTOKEN", 5*time.Hour, denizen.ErrNotFound, "token")
		_, err := d.ExtendToken(t.Context(), sys, "alice-user", issued.ID, time.Hour+time.Second)
		require.NoError(t, err)
		_, err = d.ExtendToken(t.Context(), sys, "alice-user", issued.ID, 9*time.Hour)
		require.NoError(t, err)
		refused(issued.ID, 9*time.Hour, denizen.ErrLimited, "ttl")
		time.Sleep(9 * time.Hour)
		require.Contains(t, []error{denizen.ErrExpired, denizen.ErrNotFound}, extensionKind(t, d, issued.ID))
		time.Sleep(2 * time.Hour) // swept
		require.Equal(t, denizen.ErrNotFound, extensionKind(t, d, issued.ID))
	})
}

func extensionKind(t testing.TB, d *denizen.Directory, id denizen.TokenID) error {
	t.Helper()
	_, err := d.ExtendToken(context.Background(), sys, "alice-user", id, time.Hour)
	return kindOf(t, err)
}

func TestTokens_ATokenPastItsEndIsNotExtended(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 10 * time.Second})
		time.Sleep(10 * time.Second)
		require.Equal(t, denizen.ErrExpired, extensionKind(t, d, issued.ID))
		require.Equal(t, denizen.ErrExpired, authenticated(t, d, issued.Signed))
	})
}

func TestTokens_ARevokedTokenIsNotExtended(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", issued.ID))
		require.Equal(t, denizen.ErrNotFound, extensionKind(t, d, issued.ID))
	})
}

func TestTokens_ANinthTextEndsTheOneThatEndsFirstAndRevokingEndsAll(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
		texts := []string{issued.Signed}
		for i := range 9 {
			extended, err := d.ExtendToken(t.Context(), sys, "alice-user", issued.ID, time.Duration(i+2)*time.Hour)
			require.NoError(t, err)
			texts = append(texts, extended.Signed)
			for j, text := range texts {
				if j < len(texts)-denizen.MaxTokenTexts {
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, text), "text %d of %d", j, len(texts))
				} else {
					require.NoError(t, authenticated(t, d, text), "text %d of %d", j, len(texts))
				}
			}
		}
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", issued.ID))
		for _, text := range texts {
			require.Equal(t, denizen.ErrRevoked, authenticated(t, d, text))
		}
	})
}

// Last use

func lastUseOf(t testing.TB, d *denizen.Directory) time.Time {
	t.Helper()
	tokens, err := d.Tokens(context.Background(), sys, "alice-user")
	require.NoError(t, err)
	require.Len(t, tokens, 1)
	return tokens[0].LastUsedAt
}

// Signing keys

// kids returns the ids of the published keys.
func kids(t testing.TB, d *denizen.Directory) []string {
	t.Helper()
	keys, err := d.PublicKeys(context.Background())
	require.NoError(t, err)
	text, err := json.Marshal(keys)
	require.NoError(t, err)
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, Alg, Use, D string }
	}
	require.NoError(t, json.Unmarshal(text, &set))
	ids := make([]string, len(set.Keys))
	for i, k := range set.Keys {
		require.Equal(t, []string{"OKP", "Ed25519", "EdDSA", "sig", ""}, []string{k.Kty, k.Crv, k.Alg, k.Use, k.D})
		ids[i] = k.Kid
	}
	return ids
}

// signerOf returns the id of the key that a token says it was signed with.
func signerOf(t testing.TB, signed string) string {
	t.Helper()
	head, _, _ := strings.Cut(signed, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	require.NoError(t, err)
	var header struct{ Kid string }
	require.NoError(t, json.Unmarshal(text, &header))
	return header.Kid
}

// signsNow returns the id of the key that signs now.
func signsNow(t testing.TB, d *denizen.Directory) string {
	t.Helper()
	issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Second})
	require.NoError(t, d.RevokeTokens(context.Background(), sys, "alice-user", issued.ID))
	return signerOf(t, issued.Signed)
}

func requireOffline(t testing.TB, d *denizen.Directory, signed string) denizen.Claims {
	t.Helper()
	keys, err := d.PublicKeys(context.Background())
	require.NoError(t, err)
	claims, err := denizen.Verifier{Keys: keys, Issuer: d.ID(), Audience: d.ApplicationID()}.Verify(signed)
	require.NoError(t, err)
	return claims
}

// FuzzAuthenticate holds a directory to its word: only the very texts that it issued are
// anybody's, whatever is done to them.
func FuzzAuthenticate(f *testing.F) {
	d := newMemory(f, denizen.Options{ApplicationID: "fuzzed"})
	other := newMemory(f, denizen.Options{ApplicationID: "fuzzed"})
	var texts []string
	good := map[string]denizen.UserID{}
	for _, user := range []denizen.UserID{"alice-user", "bob-user"} {
		newUser(f, d, user)
		newUser(f, other, user)
		signed := newToken(f, d, user, denizen.TokenOptions{}).Signed
		good[signed] = user
		texts = append(texts, signed, newToken(f, other, user, denizen.TokenOptions{}).Signed)
	}
	revoked := newToken(f, d, "alice-user", denizen.TokenOptions{})
	require.NoError(f, d.RevokeTokens(f.Context(), sys, "alice-user", revoked.ID))
	texts = append(texts, revoked.Signed)
	for which := range texts {
		f.Add(uint8(which), uint16(0), uint16(0), "", uint8(0))
		f.Add(uint8(which), uint16(7), uint16(8), "=", uint8(0))
		f.Add(uint8(which), uint16(0), uint16(40), "", uint8(1))
		f.Add(uint8(which), uint16(600), uint16(900), ".", uint8(2))
		f.Add(uint8(which), uint16(120), uint16(121), "\n", uint8(3))
	}
	f.Fuzz(func(t *testing.T, which uint8, from, to uint16, with string, other uint8) {
		// A piece of one text is replaced, or taken from another.
		text := texts[int(which)%len(texts)]
		i, j := min(int(from), len(text)), min(int(to), len(text))
		i, j = min(i, j), max(i, j)
		if second := texts[int(other)%len(texts)]; with == "" && j <= len(second) {
			with = second[i:j]
		}
		text = text[:i] + with + text[j:]
		by, err := d.Authenticate(context.Background(), text)
		if user, ok := good[text]; ok {
			require.NoError(t, err)
			require.Equal(t, user, by.User())
			return
		}
		require.Equal(t, denizen.Principal{}, by)
		kind := denizen.ErrUnauthenticated
		if text == revoked.Signed {
			kind = denizen.ErrRevoked
		}
		require.Equal(t, kind, kindOf(t, err))
		require.NotContains(t, err.Error(), tokenBegins)
	})
}

// What is kept of a text is its digest, and no text has two records.
func TestTokens_ATextIsKeptUnderItsDigest(t *testing.T) {
	w := newWorld(t, true, denizen.Options{}, nil)
	rs, err := w.inner.Get(t.Context(), record.TokenTextKey(token.Digest(w.signed)))
	require.NoError(t, err)
	require.NotZero(t, rs[0].Version)
	require.NoError(t, w.RevokeAllTokens(t.Context(), sys, w.alice))
	rs, err = w.inner.Get(t.Context(), record.TokenTextKey(token.Digest(w.signed)), record.TokensKey(string(w.alice)), record.LastUsesKey(string(w.alice)))
	require.NoError(t, err)
	for _, r := range rs {
		require.Zero(t, r.Version)
	}
}

// latest is the sequence of the last event there is.
func latest(t testing.TB, d *denizen.Directory) denizen.Seq {
	t.Helper()
	events := eventsAfter(t, d, 0)
	return events[len(events)-1].Seq
}

func TestTokens_ManyIssuedAtOnceAllLive(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		const user = "the-one-user"
		create(t, d, user)
		texts := make([]string, 64)
		for _, err := range atOnce(64, func(i int) error {
			issued, err := d.IssueToken(t.Context(), denizen.System(), user, denizen.TokenOptions{})
			texts[i] = issued.Signed
			return err
		}) {
			require.NoError(t, err)
		}
		for _, text := range texts {
			_, err := d.Authenticate(t.Context(), text)
			require.NoError(t, err)
		}
		tokens, err := d.Tokens(t.Context(), denizen.System(), user)
		require.NoError(t, err)
		require.Len(t, tokens, 64)
	})
}
