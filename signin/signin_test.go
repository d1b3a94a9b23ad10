package signin_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
)

func TestWhoHasTheCodeSignsIn(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: "email:New@bücher.example", Language: "de-CH"})
		require.Equal(t, signin.SignIn, d.Purpose)
		require.Equal(t, "New@xn--bcher-kva.example", d.Address)
		require.Equal(t, denizen.TypeEmail, d.Type)
		require.Equal(t, "de-CH", d.Language)
		require.Regexp(t, "^[0-9]{8}$", d.Code)
		require.Empty(t, d.Link)
		_, random, _ := strings.Cut(proof, ".")
		require.GreaterOrEqual(t, len(random), 26, "128 bits in base32")

		in, err := k.Finish(ctx, sys, proof, d.Code[:4]+" "+d.Code[4:])
		require.NoError(t, err)
		require.Equal(t, "Newcomer", in.User.ScreenName)
		require.Equal(t, denizen.Verified, in.User.Locators[0].Status)
		again := k.enters(t, "email:new@bücher.example")
		require.Equal(t, in.User.ID, again.User.ID)
		require.Equal(t, in.User, again.User, "signing in changes nothing")
	})
}

func TestAMessageGoesToTheAddressAsTheDirectoryHasIt(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.Email("Alice@Example.org"))
		_, d := k.asks(t, signin.Request{Locator: "email:alice@EXAMPLE.org"})
		require.Equal(t, "Alice@Example.org", d.Address)
	})
}

func TestACodeIsGoodOnce(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims})
		const n = 64
		var in atomic.Int64
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if _, err := k.Finish(ctx, sys, proof, d.Code); err == nil {
					in.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, in.Load())
		_, err := k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
	})
}

func TestManyWhoGuessAtOnceGetFiveTriesTogether(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims})
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				_, err := k.Finish(ctx, sys, proof, "no")
				require.Error(t, err)
			})
		}
		all.Wait()
		require.EqualValues(t, 5, stored[*record.Proof](t, k.store)[0].Tries)
		_, err := k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
	})
}

func TestACodeIsGoodAfterFourWrongTries(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims})
		for range 4 {
			_, err := k.Finish(ctx, sys, proof, "00000000x")
			requireRefused(t, err)
		}
		_, err := k.Finish(ctx, sys, proof, d.Code)
		require.NoError(t, err)
	})
}

// A stranger has a handle of its own for the same address, and can do with that what it likes.
func TestAStrangerDoesNothingToTheCodeOfAnother(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims, Status: denizen.Verified})
		proof, d := k.asks(t, signin.Request{Locator: victims, Client: "hers"})
		for range 4 {
			others, _ := k.asks(t, signin.Request{Locator: victims, Client: "another"})
			_, err := k.Finish(ctx, sys, others, d.Code)
			requireRefused(t, err)
			for range 5 {
				_, err := k.Finish(ctx, sys, others, "no")
				requireRefused(t, err)
			}
		}
		for _, handle := range []string{"", ".", "x", proof + "x", strings.ToLower(proof), strings.Repeat("9", 100)} {
			_, err := k.Finish(ctx, sys, handle, d.Code)
			requireRefused(t, err)
		}
		in, err := k.Finish(ctx, sys, proof, d.Code)
		require.NoError(t, err)
		require.EqualValues(t, alice, in.User.ID)
	})
}

func TestACodeEndsAfterTenMinutes(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims, Client: "1"})
		k.ahead.Add(int64(9 * time.Minute))
		late, l := k.asks(t, signin.Request{Locator: victims, Client: "2"})
		_, err := k.Finish(ctx, sys, proof, "no")
		requireRefused(t, err)
		k.ahead.Add(int64(time.Minute))
		_, err = k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
		_, err = k.Finish(ctx, sys, late, l.Code)
		require.NoError(t, err)
	})
}

func TestACodeOutlivesTheService(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims})
		require.NoError(t, k.Close())
		another, err := signin.New(k.dir, signin.Options{Deliver: k.deliver, Newcomer: newcomers})
		require.NoError(t, err)
		defer another.Close()
		_, err = another.Finish(ctx, sys, proof, d.Code)
		require.NoError(t, err)
		_, err = k.Start(ctx, sys, signin.Request{Locator: victims})
		require.ErrorIs(t, err, denizen.ErrClosed)
	})
}

// Neither do the bytes of the file, or the rows of the tables.
func TestTheStoreShowsNeitherCodesNorWhoAsked(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims, Client: "192.0.2.7"})
		_, err := k.Finish(ctx, sys, proof, "wrong code")
		requireRefused(t, err)
		link, l := k.asks(t, signin.Request{Locator: victims, Client: "192.0.2.7", Link: true})
		in := k.enters(t, before)
		undo := k.replaces(t, in).Undo
		u, err := k.dir.User(ctx, sys, in.User.ID)
		require.NoError(t, err)
		n := k.deliveries()
		next, err := k.StartReplace(ctx, k.login(t, u.ID), u.Locators[0].ID, "email:third@example.org", "")
		require.NoError(t, err)
		texts := []string{
			proof, d.Code, "wrong code", "wrongcode", link, "victim@example", "192.0.2.7", in.Device,
			next, k.awaitSent(t, n+1).Code, "third@example",
		}
		for _, url := range []string{l.Link, undo} {
			_, secret, _ := strings.Cut(url, "#")
			texts = append(texts, secret)
		}
		require.NotContains(t, texts, "")
		require.Empty(t, shows(t, k.store, texts...))
		require.Len(t, shows(t, k.store, "before@example.org", "after@example.org"), 2, "what is looked for is found")
	})
}

func TestALinkIsGoodWithItsHandleAlone(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		proof, d := k.asks(t, signin.Request{Locator: victims, Link: true})
		require.Empty(t, d.Code)
		secret, ok := strings.CutPrefix(d.Link, "https://app.example.org/sign-in/link#")
		require.True(t, ok)
		require.GreaterOrEqual(t, len(secret), 26, "128 bits in base32")
		other, _ := k.asks(t, signin.Request{Locator: victims, Link: true})
		_, err := k.Finish(ctx, sys, other, secret)
		requireRefused(t, err)
		_, err = k.Finish(ctx, sys, proof, secret)
		require.NoError(t, err)
	})
}

func TestAnAddressIsSentToTwelveTimesAnHourAndFourForAClient(t *testing.T) {
	for name, owned := range map[string]bool{"owned": true, "free": false} {
		t.Run(name, func(t *testing.T) {
			overDesks(t, func(t *testing.T, k *desk) {
				if owned {
					k.create(t, alice, denizen.NewLocator{Locator: victims, Status: denizen.Verified})
				}
				device := k.enters(t, victims).Device // one start
				start := func(client, device string) error {
					_, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: client, Device: device})
					return err
				}
				for i := range 11 {
					if i > 0 && i%4 == 0 {
						wait := requireField(t, start(fmt.Sprint(i/4-1), ""), denizen.ErrLimited, "locator").RetryAfter
						require.InDelta(t, time.Hour, wait, float64(time.Minute))
					}
					require.NoError(t, start(fmt.Sprint(i/4), ""))
				}
				requireField(t, start("another", ""), denizen.ErrLimited, "locator")
				requireField(t, start("another", "forged."+strings.Repeat("0", 64)), denizen.ErrLimited, "locator")
				for range 4 {
					require.NoError(t, start("another", device))
				}
				requireField(t, start("another", device), denizen.ErrLimited, "locator")
				_, err := k.Start(ctx, sys, signin.Request{Locator: "email:another@example.org", Client: "0"})
				require.NoError(t, err, "of another address")
				k.ahead.Add(int64(time.Hour))
				require.NoError(t, start("another", ""))
			})
		})
	}
}

func TestADeviceStartsOnlyByTheAddressThatItSignedInBy(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		device := k.enters(t, "email:mine@example.org").Device
		for i := range 12 {
			_, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: fmt.Sprint(i), Device: device})
			require.NoError(t, err)
		}
		_, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: "x", Device: device})
		requireField(t, err, denizen.ErrLimited, "locator")
	})
}

func TestOneClientStartsThirtyTimesAtOnceWhateverTheAddresses(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		for i := range 30 {
			_, err := k.Start(ctx, sys, signin.Request{Locator: fmt.Sprintf("email:u%d@example.org", i), Client: "one"})
			require.NoError(t, err)
		}
		_, err := k.Start(ctx, sys, signin.Request{Locator: victims, Client: "one"})
		require.Positive(t, requireField(t, err, denizen.ErrLimited, "client").RetryAfter)
		_, err = k.Start(ctx, sys, signin.Request{Locator: victims, Client: "another"})
		require.NoError(t, err)
	})
}

func TestOnlyTheSystemSignsPeopleIn(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice)
		for _, as := range []denizen.Principal{{}, k.login(t, alice)} {
			_, err := k.Start(ctx, as, signin.Request{Locator: victims})
			require.ErrorIs(t, err, denizen.ErrDenied)
			proof, d := k.asks(t, signin.Request{Locator: victims})
			_, err = k.Finish(ctx, as, proof, d.Code)
			require.ErrorIs(t, err, denizen.ErrDenied)
			_, err = k.Finish(ctx, sys, proof, d.Code)
			require.NoError(t, err, "nothing was used up")
		}
	})
}

func TestWithoutNewcomersNothingIsSentToAnAddressThatNobodyOwns(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims})
		_, err := k.Start(ctx, sys, signin.Request{Locator: "email:nobody@example.org"})
		require.NoError(t, err)
		_, d := k.asks(t, signin.Request{Locator: victims})
		require.Equal(t, "victim@example.org", d.Address)
		require.NoError(t, k.Close())
		require.Equal(t, 1, k.deliveries())
	}, func(o *signin.Options) { o.Newcomer = nil })
}

func TestOnlyAddressesAndNumbersCanBeSignedInBy(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		for _, locator := range []string{"", "fax:1", "handle:alice", "email:", "alice@example.org"} {
			_, err := k.Start(ctx, sys, signin.Request{Locator: locator})
			requireField(t, err, denizen.ErrInvalid, "locator")
		}
		_, d := k.asks(t, signin.Request{Locator: "tele:+1 415 555 2671"})
		require.Equal(t, "+14155552671", d.Address)
	})
}

// Mallory, who proved her own address, also holds the address of somebody else, which the
// application added as it was typed.
func TestAProvedAddressLeavesTheUserOfSomebodyElse(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, mallory,
			denizen.NewLocator{Locator: "email:mallory@example.org", Status: denizen.Verified}, denizen.NewLocator{Locator: victims})
		in := k.enters(t, victims)
		require.NotEqualValues(t, mallory, in.User.ID)
		u, err := k.dir.User(ctx, sys, mallory)
		require.NoError(t, err)
		require.Len(t, u.Locators, 1)
		for e, err := range k.dir.Events(ctx, sys, "") {
			require.NoError(t, err)
			if e.User == in.User.ID {
				require.Equal(t, denizen.EventUserCreated, e.Kind)
				require.EqualValues(t, mallory, e.Other)
			}
		}
	})
}

func TestAUserPassesWithNothingOfWhoHadIt(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice, denizen.NewLocator{Locator: victims})
		had := k.login(t, alice)
		claim := k.claim(t, had, "email:mallory@example.org")
		hers, d := k.claims(t, had, claim)
		in := k.enters(t, victims)
		require.EqualValues(t, alice, in.User.ID)
		require.Len(t, in.User.Locators, 1)
		require.Empty(t, stored[*record.Proof](t, k.store), "her proof ended")
		require.Empty(t, stored[*record.UserProofs](t, k.store))
		_, err := k.FinishVerify(ctx, had, claim, hers, d.Code)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		requireGone(t, k, had)
	})
}

func requireGone(t *testing.T, k *desk, as denizen.Principal) {
	t.Helper()
	require.ErrorIs(t, k.dir.Check(ctx, as), denizen.ErrRevoked)
}

func TestNobodyGetsInByWhatAnotherClaims(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, mallory)
		hers := k.login(t, mallory)
		claim := k.claim(t, hers, victims)
		proof, d := k.claims(t, hers, claim)
		require.Equal(t, signin.Verify, d.Purpose)
		require.Equal(t, "victim@example.org", d.Address)
		_, err := k.Finish(ctx, sys, proof, d.Code)
		requireRefused(t, err)
		in := k.enters(t, victims)
		require.NotEqualValues(t, mallory, in.User.ID)
		_, err = k.FinishVerify(ctx, hers, claim, proof, d.Code)
		require.ErrorIs(t, err, denizen.ErrTaken)
	})
}

func TestAUserProvesItsClaim(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice)
		hers := k.login(t, alice)
		claim := k.claim(t, hers, victims)
		proof, d := k.claims(t, hers, claim)
		require.Equal(t, "de", d.Language)
		_, err := k.FinishVerify(ctx, hers, claim, proof, "no")
		requireRefused(t, err)
		l, err := k.FinishVerify(ctx, hers, claim, proof, d.Code)
		require.NoError(t, err)
		require.True(t, l.Owned)
		require.Equal(t, denizen.Verified, l.Status)
		_, err = k.FinishVerify(ctx, hers, claim, proof, d.Code)
		requireRefused(t, err)
		require.EqualValues(t, alice, k.enters(t, victims).User.ID)
	})
}

func TestNobodyElseProvesTheClaimOfAUser(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice)
		k.create(t, mallory)
		hers, others := k.login(t, alice), k.login(t, mallory)
		claim := k.claim(t, hers, victims)
		othersClaim := k.claim(t, others, victims)
		delegate, err := k.dir.ActAs(ctx, sys, alice)
		require.NoError(t, err)
		ended := k.login(t, alice)
		require.NoError(t, k.dir.Logout(ctx, ended))
		proof, d := k.claims(t, hers, claim)
		for name, as := range map[string]denizen.Principal{
			"nobody": {}, "the application": sys, "the application for the user": delegate, "who logged out": ended,
		} {
			_, err := k.StartVerify(ctx, as, claim, "")
			require.Error(t, err, name)
			_, err = k.FinishVerify(ctx, as, claim, proof, d.Code)
			require.Error(t, err, name)
		}
		_, err = k.StartVerify(ctx, others, claim, "")
		requireField(t, err, denizen.ErrNotFound, "locator")
		_, err = k.FinishVerify(ctx, others, othersClaim, proof, d.Code)
		requireRefused(t, err)
		_, err = k.FinishVerify(ctx, hers, claim, proof, d.Code)
		require.NoError(t, err)
	})
}

func TestAUserHasFourProofsAtATime(t *testing.T) {
	overDesks(t, func(t *testing.T, k *desk) {
		k.create(t, alice)
		hers := k.login(t, alice)
		for i := range 4 {
			k.claims(t, hers, k.claim(t, hers, fmt.Sprintf("email:u%d@example.org", i)))
		}
		u, err := k.dir.User(ctx, sys, alice)
		require.NoError(t, err)
		require.NoError(t, k.dir.RemoveLocator(ctx, hers, alice, u.Locators[0].ID))
		fifth := k.claim(t, hers, victims)
		_, err = k.StartVerify(ctx, hers, fifth, "")
		wait := requireField(t, err, denizen.ErrLimited, "proofs").RetryAfter
		require.InDelta(t, 10*time.Minute, wait, float64(time.Minute))
		k.ahead.Add(int64(10 * time.Minute))
		k.claims(t, hers, fifth)
	})
}

func TestWhatEndsAUserEndsItsProofs(t *testing.T) {
	for name, end := range map[string]func(*desk) error{
		"deleting": func(k *desk) error { return k.dir.DeleteUser(ctx, sys, alice) },
		"blocking": func(k *desk) error { _, err := k.dir.BlockUser(ctx, sys, alice, denizen.Block{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			overDesks(t, func(t *testing.T, k *desk) {
				k.create(t, alice)
				hers := k.login(t, alice)
				claim := k.claim(t, hers, victims)
				proof, d := k.claims(t, hers, claim)
				require.NoError(t, end(k))
				require.Empty(t, stored[*record.Proof](t, k.store))
				_, err := k.FinishVerify(ctx, hers, claim, proof, d.Code)
				require.ErrorIs(t, err, denizen.ErrRevoked)
			})
		})
	}
}

func TestASettingThatBreaksItsRuleIsRefused(t *testing.T) {
	k := newDesk(t, newMemory(t))
	for field, o := range map[string]signin.Options{
		"Deliver": {},
		"Link":    {Deliver: k.deliver, Link: "https://app.example.org/#x"},
		"Undo":    {Deliver: k.deliver, Undo: "app.example.org/undo"},
	} {
		_, err := signin.New(k.dir, o)
		requireField(t, err, denizen.ErrInvalid, field)
	}
	another, err := signin.New(k.dir, signin.Options{Deliver: k.deliver})
	require.NoError(t, err)
	defer another.Close()
	_, err = another.Start(ctx, sys, signin.Request{Locator: victims, Link: true})
	requireField(t, err, denizen.ErrInvalid, "link")
}
