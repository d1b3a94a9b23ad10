package denizen_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestSigning_ASigningKeyIsAnnouncedSignsIsPublishedAndGoes(t *testing.T) {
	inVirtualTime(t, denizen.Options{TokenTTL: time.Hour, MaxTokenTTL: 2 * time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		first := signsNow(t, d)
		require.Equal(t, []string{first}, kids(t, d))

		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 30*time.Minute))
		published := kids(t, d)
		require.Len(t, published, 2)
		require.Equal(t, first, published[0])
		second := published[1]
		fetched, err := d.PublicKeys(t.Context()) // by somebody who comes again when it signs
		require.NoError(t, err)
		require.Equal(t, first, signsNow(t, d), "announced")
		time.Sleep(30*time.Minute - time.Millisecond)
		last := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: 2 * time.Hour})
		require.Equal(t, first, signerOf(t, last.Signed), "announced")
		time.Sleep(time.Millisecond)
		require.Equal(t, second, signsNow(t, d), "signing")
		fresh := newToken(t, d, "alice-user", denizen.TokenOptions{})
		_, err = denizen.Verifier{Keys: fetched, Issuer: d.ID(), Audience: d.ApplicationID()}.Verify(fresh.Signed)
		require.NoError(t, err)

		time.Sleep(time.Until(last.ExpiresAt) - time.Second)
		require.Equal(t, published, kids(t, d), "published")
		requireOffline(t, d, last.Signed)
		require.NoError(t, authenticated(t, d, last.Signed), "nobody is logged out")
		time.Sleep(time.Hour + 2*time.Second)
		require.Equal(t, []string{second}, kids(t, d), "gone")
		require.Equal(t, second, signsNow(t, d))

		// It leaves the store with the next rotation.
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		require.Len(t, kids(t, d), 2)
		require.NotContains(t, kids(t, d), first)
	})
}

func TestSigning_ARotationWithoutNoticeTakesEffectAtOnceAndKeepsTheKeyBefore(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		seen := []string{}
		signed := []string{}
		for range 3 { // all within one millisecond
			issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
			signed, seen = append(signed, issued.Signed), append(seen, signerOf(t, issued.Signed))
			require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		}
		invariant.Distinct(t, seen, func(s string) string { return s })
		require.Equal(t, seen, kids(t, d)[:3])
		for _, text := range signed {
			requireOffline(t, d, text)
			require.NoError(t, authenticated(t, d, text))
		}
	})
}

func TestSigning_ASoonerKeyTakesThePlaceOfOneThatWasAnnounced(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		first := signsNow(t, d)
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 24*time.Hour))
		later := kids(t, d)[1]
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, time.Hour))
		require.NotContains(t, kids(t, d), later, "it never signed")
		sooner := kids(t, d)[1]
		require.Equal(t, first, signsNow(t, d))
		time.Sleep(time.Hour)
		require.Equal(t, sooner, signsNow(t, d))
		time.Sleep(48 * time.Hour)
		require.Equal(t, sooner, signsNow(t, d))
	})
}

func TestSigning_KeysThatWereAnnouncedSignOneAfterTheOther(t *testing.T) {
	inVirtualTime(t, denizen.Options{MaxTokenTTL: time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 10*time.Hour))
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 20*time.Hour))
		published := kids(t, d)
		require.Len(t, published, 3)
		for i := range published {
			require.Equal(t, published[i], signsNow(t, d))
			time.Sleep(5 * time.Hour) // those before are gone
			require.Equal(t, published[i:], kids(t, d))
			time.Sleep(5*time.Hour - time.Millisecond)
			require.Equal(t, published[i], signsNow(t, d))
			time.Sleep(time.Millisecond)
		}
	})
}

// A rotation takes a while to be stored, and meanwhile the key before goes on signing.
func TestSigning_WhatIsIssuedDuringARotationVerifiesToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memory.New(), takes: func(b store.Batch) time.Duration {
			if slices.ContainsFunc(b.Put, func(r store.Record) bool { return r.Key == record.SigningKeysKey }) {
				return time.Minute
			}
			return 0
		}}
		d := newOver(t, s, denizen.Options{MaxTokenTTL: time.Hour})
		newUser(t, d, "alice-user")
		before := signsNow(t, d)
		done := make(chan error)
		go func() { done <- d.RotateSigningKey(context.Background(), sys, 0) }()
		time.Sleep(50 * time.Second)
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
		require.NoError(t, <-done)
		require.Equal(t, before, signerOf(t, issued.Signed))
		require.NotEqual(t, before, signsNow(t, d))
		time.Sleep(time.Until(issued.ExpiresAt) - time.Second)
		requireOffline(t, d, issued.Signed)
	})
}

func TestSigning_ThereAreSixteenSigningKeysAtMost(t *testing.T) {
	inVirtualTime(t, denizen.Options{MaxTokenTTL: time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		for range denizen.MaxSigningKeys - 1 {
			require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		}
		before := kids(t, d)
		require.Len(t, before, denizen.MaxSigningKeys)
		err := d.RotateSigningKey(t.Context(), sys, 0)
		requireRefused(t, err, "RotateSigningKey", denizen.ErrLimited, "signingKeys")
		require.Equal(t, before, kids(t, d))
		time.Sleep(3 * time.Hour)
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		require.Len(t, kids(t, d), 2)
	})
}

func TestSigning_ANoticeIsAYearAtMost(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for _, notice := range []time.Duration{-1, -time.Hour, 365*24*time.Hour + 1} {
		err := d.RotateSigningKey(t.Context(), sys, notice)
		requireRefused(t, err, "RotateSigningKey", denizen.ErrInvalid, "notice")
	}
	require.Len(t, kids(t, d), 1)
	require.NoError(t, d.RotateSigningKey(t.Context(), sys, 365*24*time.Hour))
}

// Whatever is rotated, dropped and reopened with other lives: there is always a key that
// signs, every live token can be verified with the keys that are published, and in the end
// one key is left.
func TestSigning_EveryLiveTokenVerifiesOfflineWhateverTheRotations(t *testing.T) {
	for seed := range uint64(long.Of(8, 24)) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			hours := func(most int) time.Duration {
				return time.Duration(r.IntN(most*3600)) * time.Second
			}
			var s store.Store = memory.New()
			if seed%2 == 0 {
				s = shared{s}
			}
			longest := 48 * time.Hour
			open := func() *denizen.Directory {
				d, err := denizen.New(t.Context(), s, denizen.Options{MaxTokenTTL: longest})
				require.NoError(t, err)
				return d
			}
			d := open()
			newUser(t, d, "alice-user")
			live := map[string]denizen.IssuedToken{} // by the key, the one that ends last
			for range 60 {
				switch r.IntN(8) {
				case 0, 1:
					if err := d.RotateSigningKey(t.Context(), sys, hours(40)*time.Duration(r.IntN(3))); err != nil {
						require.ErrorIs(t, err, denizen.ErrLimited)
					}
				case 2:
					published := kids(t, d)
					signing := signsNow(t, d)
					if i := slices.Index(published, signing); i+1 < len(published) { // only announced
						require.NoError(t, d.DropSigningKey(t.Context(), sys, published[len(published)-1]))
					}
				case 3:
					require.NoError(t, d.Close())
					longest = time.Hour + hours(96)
					d = open()
				case 4:
					time.Sleep(hours(30))
				default:
					time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
				}
				issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Second + hours(int(longest.Hours()))%longest.Truncate(time.Second)})
				if kid := signerOf(t, issued.Signed); issued.ExpiresAt.After(live[kid].ExpiresAt) {
					live[kid] = issued
				}
				for kid, one := range live {
					if !time.Now().Before(one.ExpiresAt) {
						delete(live, kid)
						continue
					}
					requireOffline(t, d, one.Signed)
					require.NoError(t, authenticated(t, d, one.Signed))
				}
			}
			require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
			time.Sleep(200 * time.Hour)
			require.Len(t, kids(t, d), 1, "seed %d", seed)
			require.NoError(t, d.Close())
		})
	}
}

func TestSigning_ADroppedSigningKeyIsPublishedNoMoreAndLogsNobodyOut(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		leaked := signerOf(t, issued.Signed)
		err := d.DropSigningKey(t.Context(), sys, leaked)
		requireRefused(t, err, "DropSigningKey", denizen.ErrConflict, "signingKey")
		err = d.DropSigningKey(t.Context(), sys, "NOSUCHKEY")
		requireRefused(t, err, "DropSigningKey", denizen.ErrNotFound, "signingKey")
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		require.Contains(t, kids(t, d), leaked)
		require.NoError(t, d.DropSigningKey(t.Context(), sys, leaked))
		require.NotContains(t, kids(t, d), leaked)
		require.NoError(t, authenticated(t, d, issued.Signed))
		keys, err := d.PublicKeys(t.Context())
		require.NoError(t, err)
		_, err = denizen.Verifier{Keys: keys, Issuer: d.ID(), Audience: d.ApplicationID()}.Verify(issued.Signed)
		require.ErrorIs(t, err, denizen.ErrUnauthenticated)
		require.ErrorIs(t, d.DropSigningKey(t.Context(), sys, leaked), denizen.ErrNotFound)
	})
}

func TestSigning_WithoutTheKeyThatWasAnnouncedTheOneBeforeGoesOn(t *testing.T) {
	inVirtualTime(t, denizen.Options{MaxTokenTTL: time.Hour}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		first := signsNow(t, d)
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, time.Hour))
		require.NoError(t, d.DropSigningKey(t.Context(), sys, kids(t, d)[1]))
		time.Sleep(100 * time.Hour)
		require.Equal(t, []string{first}, kids(t, d))
		require.Equal(t, first, signsNow(t, d))
	})
}

// Offline

func TestSigning_ATokenIsVerifiedOfflineWithKeysThatTravelledAsJSON(t *testing.T) {
	inVirtualTime(t, denizen.Options{ApplicationID: "the-app"}, func(t *testing.T, d *denizen.Directory) {
		u := newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
		require.NoError(t, d.RotateSigningKey(t.Context(), sys, 0))
		later := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
		keys, err := d.PublicKeys(t.Context())
		require.NoError(t, err)
		text, err := json.Marshal(keys)
		require.NoError(t, err)
		var fetched denizen.KeySet
		require.NoError(t, json.Unmarshal(text, &fetched))
		require.Equal(t, keys, fetched)
		claims, err := denizen.Verifier{Keys: fetched, Issuer: d.ID(), Audience: "the-app"}.Verify(issued.Signed)
		require.NoError(t, err)
		require.Equal(t, denizen.Claims{
			User: "alice-user", InternalID: u.InternalID, Token: issued.ID, IssuedAt: time.Now().UTC(), ExpiresAt: issued.ExpiresAt,
		}, claims)
		_, err = denizen.Verifier{Keys: fetched, Issuer: d.ID(), Audience: "the-app"}.Verify(later.Signed)
		require.NoError(t, err)
	})
}

func TestSigning_ATokenIsRefusedOffline(t *testing.T) {
	inVirtualTime(t, denizen.Options{ApplicationID: "the-app"}, func(t *testing.T, d *denizen.Directory) {
		other := newMemory(t, denizen.Options{ApplicationID: "the-app"})
		newUser(t, d, "alice-user")
		signed := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour}).Signed
		keys, err := d.PublicKeys(t.Context())
		require.NoError(t, err)
		others, err := other.PublicKeys(t.Context())
		require.NoError(t, err)
		refused := func(keys denizen.KeySet, id, app, signed string, kind error) {
			t.Helper()
			claims, err := denizen.Verifier{Keys: keys, Issuer: id, Audience: app}.Verify(signed)
			requireRefused(t, err, "Verify", kind, "token")
			require.Zero(t, claims)
		}
		refused(denizen.KeySet{}, d.ID(), "the-app", signed, denizen.ErrUnauthenticated)
		refused(others, d.ID(), "the-app", signed, denizen.ErrUnauthenticated)
		refused(keys, other.ID(), "the-app", signed, denizen.ErrUnauthenticated)
		refused(keys, d.ID(), "another-app", signed, denizen.ErrUnauthenticated)
		refused(keys, "", "", signed, denizen.ErrUnauthenticated)
		refused(keys, d.ID(), "the-app", signed+"x", denizen.ErrUnauthenticated)
		time.Sleep(time.Hour - time.Second)
		requireOffline(t, d, signed)
		time.Sleep(time.Second)
		refused(keys, d.ID(), "the-app", signed, denizen.ErrExpired)
	})
}

func TestSigning_ARevokedTokenPassesOfflineUntilItExpires(t *testing.T) {
	inVirtualTime(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, "alice-user")
		issued := newToken(t, d, "alice-user", denizen.TokenOptions{})
		require.NoError(t, d.RevokeTokens(t.Context(), sys, "alice-user", issued.ID))
		requireOffline(t, d, issued.Signed)
	})
}

func TestSigning_AClockThatIsAMinuteBehindDoesNotRefuseAFreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for ahead, kind := range map[time.Duration]error{
			0: nil, time.Second: nil, 60 * time.Second: nil, 61 * time.Second: denizen.ErrUnauthenticated, time.Hour: denizen.ErrUnauthenticated,
		} {
			// The directory's clock is ahead of the verifier's.
			wall := time.Now().Add(ahead).UnixNano()
			ctx := clock.With(t.Context(), clock.New(func() (int64, int64) { return wall, 0 }))
			d, err := denizen.New(ctx, memory.New(), denizen.Options{})
			require.NoError(t, err)
			newUser(t, d, "alice-user")
			issued := newToken(t, d, "alice-user", denizen.TokenOptions{TTL: time.Hour})
			keys, err := d.PublicKeys(t.Context())
			require.NoError(t, err)
			_, err = denizen.Verifier{Keys: keys, Issuer: d.ID(), Audience: d.ApplicationID()}.Verify(issued.Signed)
			require.Equal(t, kind, kindOf(t, err), ahead)
			require.NoError(t, d.Close())
		}
	})
}

func TestSigning_AMalformedKeySetIsRefused(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	keys, err := d.PublicKeys(t.Context())
	require.NoError(t, err)
	kept := keys
	for _, text := range []string{`{}`, `[]`, `{"keys":7}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"x"}]}`} {
		err := json.Unmarshal([]byte(text), &keys)
		requireRefused(t, err, "KeySet", denizen.ErrInvalid, "keys")
		require.Equal(t, kept, keys)
	}
}
