package transfer_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/denizenhq/denizen/transfer"
)

var (
	made     = time.Date(2019, 5, 4, 3, 2, 1, 123e6, time.UTC)
	changed  = made.AddDate(1, 0, 0)
	added    = made.AddDate(0, 1, 0)
	verified = made.AddDate(0, 2, 0)
)

// whole returns a user with everything that a user can have.
func whole() transfer.User {
	return transfer.User{
		ID: "alice-01", ScreenName: "Alice", Blocked: true, CreatedAt: made, UpdatedAt: changed,
		Block: denizen.Block{Reason: "wrote \"so\"", Until: made.AddDate(1000, 0, 0)},
		Locators: []transfer.Locator{
			{Locator: "email:Alice@Example.org", Status: denizen.Verified, AddedAt: added, VerifiedAt: verified},
			{Locator: "tele:+1 (415) 555-2671", Status: denizen.VerificationPending, VerifiedAt: verified},
			{Locator: "email:claimed@example.org", Claim: true, Status: denizen.Unverified},
		},
		Attributes: []denizen.Attribute{
			{Key: "bio", Value: "é\n\"", ContentType: "text/html"}, {Key: "nick", Value: "Al"},
		},
	}
}

var defs = []denizen.AttributeDef{{Key: "nick", MaxBytes: 10}, {Key: "bio", ContentTypes: []string{"text/html"}}}

func TestImport_AUserComesWhole(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		report, results := bring(t, dir, rows(whole()), transfer.Options{TrustVerified: true, Define: defs})
		require.Equal(t, transfer.Report{Rows: 1, Created: 1}, report)
		require.Equal(t, []transfer.Result{{Row: 1, ID: "alice-01", Outcome: transfer.Created}}, results)

		u, err := dir.User(t.Context(), system, "alice-01")
		require.NoError(t, err)
		require.Equal(t, "Alice", u.ScreenName)
		require.True(t, u.Blocked)
		require.Equal(t, whole().Block, u.Block)
		require.Equal(t, made, u.CreatedAt)
		require.Equal(t, changed, u.UpdatedAt)
		require.Len(t, u.Locators, 3)
		require.Equal(t, denizen.Locator{
			ID: u.Locators[0].ID, Type: "email", Address: "Alice@Example.org", Raw: "Alice@Example.org", Canonical: "alice@example.org",
			Status: denizen.Verified, Owned: true, AddedAt: added, VerifiedAt: verified,
		}, u.Locators[0])
		require.Equal(t, denizen.Locator{
			ID: u.Locators[1].ID, Type: "tele", Address: "+14155552671", Raw: "+1 (415) 555-2671", Canonical: "+14155552671",
			Status: denizen.VerificationPending, Owned: true, AddedAt: made, VerifiedAt: verified,
		}, u.Locators[1])
		require.False(t, u.Locators[2].Owned, "a claim stays one")
		require.Empty(t, owner(t, dir, "email:claimed@example.org"))
		require.EqualValues(t, "alice-01", owner(t, dir, "tele:+14155552671"))
		p, err := dir.Profile(t.Context(), system, "alice-01")
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{
			{Key: "bio", Value: "é\n\"", ContentType: "text/html", ContentEncoding: "identity"},
			{Key: "nick", Value: "Al", ContentType: "text/plain", ContentEncoding: "identity"},
		}, p.Attributes)
		_, err = dir.IssueToken(t.Context(), system, "alice-01", denizen.TokenOptions{})
		require.Error(t, err, "who is blocked stays out")
	})
}

func TestImport_AnExternalIdentityIsVerifiedOnlyWhereItIsTrusted(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		report, _ := bring(t, dir, rows(plain("alice-01", "external:example.org|1")), transfer.Options{})
		require.Equal(t, 1, report.Doubted)
		got, err := dir.User(t.Context(), system, "alice-01")
		require.NoError(t, err)
		require.Equal(t, denizen.Unverified, got.Locators[0].Status)

		report, _ = bring(t, dir, rows(plain("bob-0001", "external:example.org|2")), transfer.Options{TrustVerified: true})
		require.Zero(t, report.Doubted)
		got, err = dir.User(t.Context(), system, "bob-0001")
		require.NoError(t, err)
		require.Equal(t, denizen.Verified, got.Locators[0].Status)
	})
}

func TestImport_VerificationIsBelievedOnlyWhereItIsTrusted(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		u := plain("alice-01", "email:a@example.org", "email:b@example.org", "email:c@example.org")
		u.Locators[0].Status = denizen.Verified
		u.Locators[1].VerifiedAt = verified
		report, _ := bring(t, dir, rows(u), transfer.Options{})
		require.Equal(t, 2, report.Doubted)
		got, err := dir.User(t.Context(), system, "alice-01")
		require.NoError(t, err)
		for i, want := range []denizen.VerificationStatus{denizen.Unverified, denizen.Unverified, denizen.StatusNotProvided} {
			require.Equal(t, want, got.Locators[i].Status)
			require.Zero(t, got.Locators[i].VerifiedAt)
		}

		u = plain("bob-0001", "email:d@example.org", "email:e@example.org", "email:f@example.org")
		u.Locators[0].Status = denizen.Verified
		u.Locators[1].VerifiedAt = verified
		u.Locators[2].Claim, u.Locators[2].Status = true, denizen.Verified
		report, _ = bring(t, dir, rows(u), transfer.Options{TrustVerified: true})
		require.Zero(t, report.Doubted)
		got, err = dir.User(t.Context(), system, "bob-0001")
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), got.Locators[0].VerifiedAt, time.Minute)
		require.Equal(t, denizen.Verified, got.Locators[1].Status)
		require.Equal(t, verified, got.Locators[1].VerifiedAt)
		require.True(t, got.Locators[2].Owned, "a claim that is verified is owned")
	})
}

func TestImport_ASecondRunDoesNothing(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		const n = 700
		report, _ := bring(t, dir, many(n), transfer.Options{})
		require.Equal(t, n, report.Created)
		before, users := head(t, dir), everybody(t, dir)
		require.Len(t, users, n)
		_, err := dir.SetScreenName(t.Context(), system, users[0].ID, "Somebody Else")
		require.NoError(t, err)

		report, _ = bring(t, dir, many(n+1), transfer.Options{})
		require.Equal(t, transfer.Report{Rows: n + 1, Created: 1, Present: n}, report)
		require.Equal(t, 2, eventsAfter(t, dir, before))
		u, err := dir.User(t.Context(), system, users[0].ID)
		require.NoError(t, err)
		require.Equal(t, "Somebody Else", u.ScreenName, "what was changed since stays")
	})
}

func TestImport_EachUserHasACommitAndAnEventOfItsOwn(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		before := head(t, dir)
		bring(t, dir, many(600), transfer.Options{})
		seen := map[denizen.UserID]bool{}
		for e, err := range dir.Events(t.Context(), system, before) {
			require.NoError(t, err)
			require.Equal(t, denizen.EventUserCreated, e.Kind)
			require.Equal(t, ".system", e.Actor)
			require.False(t, seen[e.User])
			seen[e.User] = true
		}
		require.Len(t, seen, 600)
		require.Equal(t, 600, eventsAfter(t, dir, before))
	})
}

func TestImport_NothingThatIsOwnedOrRestsMoves(t *testing.T) {
	for name, want := range map[string]struct {
		onClash  transfer.OnClash
		outcomes []transfer.Outcome
		report   transfer.Report
	}{
		"refuse":    {transfer.Refuse, []transfer.Outcome{transfer.Refused, transfer.Refused, transfer.Created}, transfer.Report{Rows: 3, Created: 1, Refused: 2}},
		"skip":      {transfer.Skip, []transfer.Outcome{transfer.Skipped, transfer.Skipped, transfer.Created}, transfer.Report{Rows: 3, Created: 1, Skipped: 2}},
		"take free": {transfer.TakeFree, []transfer.Outcome{transfer.Created, transfer.Created, transfer.Created}, transfer.Report{Rows: 3, Created: 3, Partly: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
				owns, err := dir.CreateUser(t.Context(), system, denizen.NewUser{
					ID: "owner-01", ScreenName: "Owner",
					Locators: []denizen.NewLocator{denizen.Email("taken@example.org"), {Locator: "handle:bob"}},
				})
				require.NoError(t, err)
				gone, err := dir.CreateUser(t.Context(), system, denizen.NewUser{
					ID: "gone-001", ScreenName: "Gone", Locators: []denizen.NewLocator{{Locator: "handle:rests"}},
				})
				require.NoError(t, err)
				require.NoError(t, dir.RemoveLocator(t.Context(), system, gone.ID, gone.Locators[0].ID))

				report, results := bring(t, dir, rows(
					plain("alice-01", "email:free@example.org", "email:Taken@example.org", "handle:b0b"),
					plain("alice-02", "email:free2@example.org", "handle:rests"),
					plain("alice-03", "email:free3@example.org"),
				), transfer.Options{OnClash: want.onClash})
				problems := report.Problems
				report.Problems = nil
				require.Equal(t, want.report, report)
				require.Equal(t, []transfer.Problem{
					{Row: 1, ID: "alice-01", Field: "locator", Rule: "belongs to another user", Value: "email:Taken@example.org", Owner: "owner-01"},
					{Row: 1, ID: "alice-01", Field: "locator", Rule: "belongs to another user", Value: "handle:b0b", Owner: "owner-01"},
					{Row: 2, ID: "alice-02", Field: "locator", Rule: "rests after another user gave it up", Value: "handle:rests"},
				}, problems)
				for i, o := range want.outcomes {
					require.Equal(t, o, results[i].Outcome)
				}
				require.EqualValues(t, "owner-01", owner(t, dir, "email:taken@example.org"))
				require.EqualValues(t, "owner-01", owner(t, dir, "handle:bob"))
				require.Empty(t, owner(t, dir, "handle:rests"))
				is, err := dir.User(t.Context(), system, owns.ID)
				require.NoError(t, err)
				require.Equal(t, owns, is)
				free := owner(t, dir, "email:free@example.org")
				if want.onClash == transfer.TakeFree {
					require.EqualValues(t, "alice-01", free)
					u, err := dir.User(t.Context(), system, "alice-01")
					require.NoError(t, err)
					require.Len(t, u.Locators, 1)
				} else {
					require.Empty(t, free, "nothing of a row that is refused is stored")
				}
				again, _ := bring(t, dir, rows(plain("alice-03")), transfer.Options{OnClash: want.onClash})
				require.Equal(t, 1, again.Present)
			})
		})
	}
}

func TestImport_AnIDThatAnotherUserHasIsRefusedWhereTheRowSaysWhenItsUserWasMade(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		u, err := dir.CreateUser(t.Context(), system, denizen.NewUser{ID: "alice-01", ScreenName: "Another Alice"})
		require.NoError(t, err)
		row := plain("alice-01")
		report, _ := bring(t, dir, rows(row), transfer.Options{})
		require.Equal(t, 1, report.Present, "it cannot be told")
		row.CreatedAt = u.CreatedAt
		report, _ = bring(t, dir, rows(row), transfer.Options{})
		require.Equal(t, 1, report.Present)
		row.CreatedAt = made
		for _, o := range []transfer.OnClash{transfer.Refuse, transfer.TakeFree} {
			report, _ = bring(t, dir, rows(row), transfer.Options{OnClash: o})
			require.Equal(t, []transfer.Problem{{
				Row: 1, ID: "alice-01", Field: "id", Rule: "belongs to another user, who was made at another time", Owner: "alice-01",
			}}, report.Problems)
			require.Equal(t, 1, report.Refused)
		}
	})
}

func TestImport_AnIDThatIsAnAliasIsRefused(t *testing.T) {
	for _, dry := range []bool{true, false} {
		overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
			for _, id := range []denizen.UserID{"alice-01", "alice-02"} {
				_, err := dir.CreateUser(t.Context(), system, denizen.NewUser{ID: id, ScreenName: "Alice"})
				require.NoError(t, err)
			}
			_, err := dir.MergeUsers(t.Context(), system, "alice-01", "alice-02", denizen.MergePolicy{Alias: denizen.Forever})
			require.NoError(t, err)
			report, _ := bring(t, dir, rows(plain("alice-01")), transfer.Options{DryRun: dry})
			require.Equal(t, []transfer.Problem{{
				Row: 1, ID: "alice-01", Field: "id", Rule: "is an alias of another user", Owner: "alice-02",
			}}, report.Problems)
			require.Equal(t, 1, report.Refused)
		})
	}
}

// The rows are all in progress at once.
func TestImport_OfTwoRowsThatWantTheSameTheEarlierOneGetsIt(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		const n = 900
		var users []transfer.User
		for i := range n {
			users = append(users, plain(fmt.Sprintf("user-%06d", i), fmt.Sprintf("email:shared%d@example.org", i%300)))
		}
		report, results := bring(t, dir, rows(users...), transfer.Options{})
		require.Equal(t, 300, report.Created)
		for i, r := range results {
			if i < 300 {
				require.Equal(t, transfer.Created, r.Outcome, "row %d", r.Row)
				continue
			}
			require.Equal(t, transfer.Refused, r.Outcome, "row %d", r.Row)
			require.Equal(t, users[i%300].ID, r.Problems[0].Owner)
		}
	})
}

// messy yields rows of every kind, among them some that clash with each other.
func messy() iter.Seq2[transfer.User, error] {
	users := []transfer.User{
		plain("alice-01", "email:a@example.org", "handle:alice"),
		plain("alice-02", "email:A@example.org", "email:b@example.org"),
		plain("alice-01", "email:c@example.org"),
		plain("x"),
		plain("alice-03", "email:b@example.org"),
		plain("alice-04", "email:d@example.org"),
		plain("owner-01"),
		plain("alice-05", "email:taken@example.org"),
		plain("", "external:example.org|1", "email:e@example.org"),
		plain("", "external:example.org|1"),
		plain("alice-06", "handle:a1ice", "email:e@example.org"),
		plain("alice-07", "handle:al1ce"),
		plain("alice-08", "handle:o"),
		plain("alice-09", "handle:0"),
		plain("alice-10", "handle:rests"),
		plain("alice-11"),
		plain("alice-12"),
		plain("alice-11"),
		plain("alice-11"),
	}
	users[5].Attributes = []denizen.Attribute{{Key: "nick", Value: "far too long for it"}}
	users[15].CreatedAt, users[17].CreatedAt, users[18].CreatedAt = made, made, changed
	users[16].Attributes = []denizen.Attribute{{Key: "nick", Value: "Al"}, {Key: "unknown"}}
	return rows(users...)
}

func TestImport_ADryRunSaysWhatTheRunDoes(t *testing.T) {
	for _, onClash := range []transfer.OnClash{transfer.Refuse, transfer.Skip, transfer.TakeFree} {
		overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
			_, err := dir.CreateUser(t.Context(), system, denizen.NewUser{
				ID: "owner-01", ScreenName: "Owner", Locators: []denizen.NewLocator{denizen.Email("taken@example.org"), {Locator: "handle:rests"}},
			})
			require.NoError(t, err)
			u, err := dir.User(t.Context(), system, "owner-01")
			require.NoError(t, err)
			require.NoError(t, dir.RemoveLocator(t.Context(), system, u.ID, u.Locators[1].ID))
			before := head(t, dir)
			o := transfer.Options{OnClash: onClash, Define: defs, DryRun: true}
			dryReport, dry := bring(t, dir, messy(), o)
			require.Equal(t, before, head(t, dir), "nothing is written")
			o.DryRun = false
			report, wet := bring(t, dir, messy(), o)
			require.NotZero(t, report.Created)
			require.NotZero(t, report.Present)
			for i := range wet {
				require.Equal(t, wet[i].Outcome, dry[i].Outcome, "row %d: %v, and dry %v", i+1, wet[i].Problems, dry[i].Problems)
				require.Len(t, dry[i].Problems, len(wet[i].Problems))
				for j, p := range wet[i].Problems {
					q := dry[i].Problems[j]
					if q.OwnerRow != 0 {
						require.Equal(t, p.Owner, wet[q.OwnerRow-1].ID, "row %d", i+1)
						q.OwnerRow, q.Owner = 0, p.Owner
					}
					require.Equal(t, p, q)
				}
			}
			report.Problems, dryReport.Problems = nil, nil
			require.Equal(t, report, dryReport)
		})
	}
}

func TestImport_WhatBreaksARuleIsNamedAndTheRestGoesOn(t *testing.T) {
	with := func(change func(u *transfer.User)) transfer.User {
		u := plain("alice-01", "email:a@example.org", "email:b@example.org")
		change(&u)
		return u
	}
	value := func(a denizen.Attribute) func(*transfer.User) {
		return func(u *transfer.User) { u.Attributes = []denizen.Attribute{{Key: "bio", ContentType: "text/html"}, a} }
	}
	for name, bad := range map[string]struct {
		user               transfer.User
		field, rule, value string
	}{
		"no id":            {with(func(u *transfer.User) { u.ID = "" }), "id", "a row needs an id or a locator of type external", ""},
		"bad id":           {with(func(u *transfer.User) { u.ID = "42" }), "id", "must be 8 to 72 of", ""},
		"no name":          {with(func(u *transfer.User) { u.ScreenName = "" }), "screenName", "must be 1 to 128 characters", ""},
		"bad address":      {with(func(u *transfer.User) { u.Locators[1].Locator = "email:nobody" }), "locator", "", "email:nobody"},
		"bad type":         {with(func(u *transfer.User) { u.Locators[1].Locator = "fax:1" }), "locator", "type is neither email nor tele", "fax:1"},
		"bad external":     {with(func(u *transfer.User) { u.Locators[1].Locator = "external:1" }), "locator", "", "external:1"},
		"bad status":       {with(func(u *transfer.User) { u.Locators[1].Status = "Sure" }), "verificationStatus", "is none of the five", "email:b@example.org"},
		"twice":            {with(func(u *transfer.User) { u.Locators[1].Locator = "email:A@example.org" }), "locators", "hold the same locator twice", ""},
		"too many":         {with(func(u *transfer.User) { u.Locators = lots(17, false) }), "locators", "that a user owns must be 16 at most", ""},
		"too many claims":  {with(func(u *transfer.User) { u.Locators = lots(5, true) }), "locators", "that a user claims and does not own must be 4 at most", ""},
		"a claim of names": {with(func(u *transfer.User) { u.Locators = []transfer.Locator{{Locator: "handle:al", Claim: true}} }), "locator", "of this type there are no claims", "handle:al"},
		"too early":        {with(func(u *transfer.User) { u.CreatedAt = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) }), "createdAt", "must be from 1970 to the present", ""},
		"too late":         {with(func(u *transfer.User) { u.UpdatedAt = time.Now().AddDate(0, 0, 2) }), "updatedAt", "must be from 1970 to the present", ""},
		"before":           {with(func(u *transfer.User) { u.CreatedAt, u.UpdatedAt = changed, made }), "updatedAt", "must not be before createdAt", ""},
		"added too late":   {with(func(u *transfer.User) { u.Locators[0].AddedAt = time.Now().AddDate(1, 0, 0) }), "locator", "times must be from 1970 to the present", "email:a@example.org"},
		"not defined":      {with(value(denizen.Attribute{Key: "size"})), "key", "has no definition", "size"},
		"bad key":          {with(value(denizen.Attribute{Key: "a,b"})), "key", "must be 1 to 128 characters", "a,b"},
		"too long":         {with(value(denizen.Attribute{Key: "nick", Value: "far too long for it"})), "value", "is longer than the definition allows", "nick"},
		"bad value":        {with(value(denizen.Attribute{Key: "nick", Value: "\xff"})), "value", "must be valid UTF-8 without U+0000", "nick"},
		"key twice":        {with(value(denizen.Attribute{Key: "bio"})), "attributes", "hold the same key twice", ""},
	} {
		t.Run(name, func(t *testing.T) {
			overStores(t, func(t *testing.T, dir *denizen.Directory, s store.Store) {
				for _, dry := range []bool{true, false} {
					report, results := bring(t, dir, rows(plain("before-1"), bad.user, plain("behind-1")), transfer.Options{Define: defs, DryRun: dry})
					require.Equal(t, 2, report.Created)
					require.Equal(t, 1, report.Refused)
					require.Len(t, report.Problems, 1)
					require.Equal(t, report.Problems, results[1].Problems)
					p := report.Problems[0]
					require.Equal(t, 2, p.Row)
					require.Equal(t, bad.user.ID, p.ID)
					require.Equal(t, bad.field, p.Field)
					require.Contains(t, p.Rule, bad.rule)
					require.NotEmpty(t, p.Rule)
					require.Equal(t, bad.value, p.Value)
					require.NotContains(t, p.String(), "example.org")
					if !dry {
						require.Equal(t, 2, len(everybody(t, dir)))
						records, err := s.List(t.Context(), store.Range{Under: "l", Limit: 10})
						require.NoError(t, err)
						require.Empty(t, records)
					}
				}
			})
		})
	}
}

func lots(n int, claims bool) (ls []transfer.Locator) {
	for i := range n {
		ls = append(ls, transfer.Locator{Locator: fmt.Sprintf("email:lots%d@example.org", i), Claim: claims})
	}
	return ls
}

func TestImport_AUserMayHaveMoreThanOneCallTakes(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		u := plain("alice-01")
		u.Locators = append(lots(16, false), transfer.Locator{Locator: "email:claim@example.org", Claim: true})
		var o transfer.Options
		for i := range 250 {
			key := fmt.Sprintf("key %d", i)
			u.Attributes = append(u.Attributes, denizen.Attribute{Key: key, Value: "v"})
			o.Define = append(o.Define, denizen.AttributeDef{Key: key})
		}
		report, _ := bring(t, dir, rows(u), o)
		require.Equal(t, 1, report.Created)
		p, err := dir.Profile(t.Context(), system, "alice-01")
		require.NoError(t, err)
		require.Len(t, p.Attributes, 250)
		twice := plain("bob-0001")
		twice.Attributes = append(twice.Attributes, u.Attributes...)
		twice.Attributes = append(twice.Attributes, u.Attributes[0])
		report, _ = bring(t, dir, rows(twice), o)
		require.Equal(t, "hold the same key twice", report.Problems[0].Rule)
	})
}

func TestImport_DefinitionsThatAreThereStay(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		_, err := dir.DefineAttribute(t.Context(), system, denizen.AttributeDef{Key: "nick", MaxBytes: 2})
		require.NoError(t, err)
		u, v := plain("alice-01"), plain("alice-02")
		u.Attributes = []denizen.Attribute{{Key: "nick", Value: "abc"}}
		v.Attributes = []denizen.Attribute{{Key: "bio", Value: "abc", ContentType: "text/html"}}
		for _, dry := range []bool{true, false} {
			report, _ := bring(t, dir, rows(u, v), transfer.Options{Define: defs, DryRun: dry})
			require.Equal(t, 1, report.Created)
			require.Equal(t, 1, report.Refused)
			all, err := dir.AttributeDefs(t.Context(), system)
			require.NoError(t, err)
			require.Len(t, all, map[bool]int{true: 1, false: 2}[dry])
			require.Equal(t, 2, all[len(all)-1].MaxBytes)
		}
		_, err = transfer.Import(t.Context(), dir, system, rows(), transfer.Options{Define: []denizen.AttributeDef{{Key: "a,b"}}})
		require.ErrorIs(t, err, denizen.ErrInvalid)
	})
}

func TestImport_WhoHasNoIDIsFoundByItsExternalName(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		u := plain("", "email:a@example.org", "external:example.org|42")
		u.CreatedAt = made
		_, results := bring(t, dir, rows(u), transfer.Options{})
		id := owner(t, dir, "external:example.org|42")
		require.NotEmpty(t, id)
		require.Equal(t, []transfer.Result{{Row: 1, ID: id, Outcome: transfer.Created}}, results)
		u.Locators[0].Locator = "email:another@example.org"
		_, results = bring(t, dir, rows(u, u), transfer.Options{})
		for i, r := range results {
			require.Equal(t, transfer.Result{Row: i + 1, ID: id, Outcome: transfer.Present}, r)
		}
		require.Equal(t, 1, len(everybody(t, dir)))
	})
}

func TestImport_OnlySystemMay(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		bring(t, dir, rows(plain("alice-01")), transfer.Options{})
		alice, err := dir.ActAs(t.Context(), system, "alice-01")
		require.NoError(t, err)
		for _, by := range []denizen.Principal{{}, alice} {
			for _, dry := range []bool{true, false} {
				_, err := transfer.Import(t.Context(), dir, by, func(func(transfer.User, error) bool) { t.Fatal("the rows are read") }, transfer.Options{DryRun: dry})
				require.ErrorIs(t, err, denizen.ErrDenied)
			}
			_, err = transfer.Export(t.Context(), dir, by, failing{})
			require.ErrorIs(t, err, denizen.ErrDenied)
		}
	})
}

func TestImport_AnAccessKeyThatGoesEndsIt(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		key, err := dir.CreateAccessKey(t.Context(), system)
		require.NoError(t, err)
		by, err := dir.AuthenticateKey(t.Context(), key.Key, key.Secret)
		require.NoError(t, err)
		before := head(t, dir)
		report, err := transfer.Import(t.Context(), dir, by, many(3), transfer.Options{})
		require.NoError(t, err)
		require.Equal(t, 3, report.Created)
		for e, err := range dir.Events(t.Context(), system, before) {
			require.NoError(t, err)
			require.Equal(t, key.Key, e.AccessKey)
		}
		endless := func(yield func(transfer.User, error) bool) {
			for u, err := range many(1 << 30) {
				if u.ID == "user-005000" {
					require.NoError(t, dir.DeleteAccessKey(t.Context(), system, key.Key))
				}
				if !yield(u, err) {
					return
				}
			}
		}
		_, err = transfer.Import(t.Context(), dir, by, endless, transfer.Options{})
		require.ErrorIs(t, err, denizen.ErrRevoked)
	})
}

func TestImport_EndsWithItsContextAndGoesOnLater(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := transfer.Import(ctx, dir, system, many(4_000), transfer.Options{Progress: func(r transfer.Report) {
			if r.Rows >= 500 {
				cancel()
			}
		}})
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
		require.GreaterOrEqual(t, report.Created, 500)
		there := len(everybody(t, dir))
		require.GreaterOrEqual(t, there, report.Created)
		require.Less(t, there, 4_000)
		report, _ = bring(t, dir, many(4_000), transfer.Options{})
		require.Equal(t, transfer.Report{Rows: 4_000, Created: 4_000 - there, Present: there}, report)
	})
}

func TestImport_AnErrorThatIsAboutNoRowEndsIt(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		broken := errors.New("the table is locked")
		ends := func(yield func(transfer.User, error) bool) {
			for u := range many(300) {
				yield(u, nil)
			}
			if yield(transfer.User{}, broken) {
				t.Fatal("it goes on")
			}
		}
		report, err := transfer.Import(t.Context(), dir, system, ends, transfer.Options{})
		require.ErrorIs(t, err, broken)
		require.LessOrEqual(t, report.Created, 300)

		report, err = transfer.Import(t.Context(), dir, system, many(600), transfer.Options{Each: func(r transfer.Result) error {
			if r.Row == 3 {
				return broken
			}
			require.Less(t, r.Row, 3)
			return nil
		}})
		require.ErrorIs(t, err, broken)
		require.Equal(t, 3, report.Rows)

		require.NoError(t, dir.Close())
		_, err = transfer.Import(t.Context(), dir, system, many(600), transfer.Options{})
		require.ErrorIs(t, err, denizen.ErrClosed)
	})
}

func TestImport_ARowThatTheSourceRefusesIsReported(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		source := func(yield func(transfer.User, error) bool) {
			_ = yield(plain("alice-01"), nil) &&
				yield(transfer.User{ID: "alice-02"}, &denizen.Error{Kind: denizen.ErrInvalid, Field: "birthday", Reason: "is no date"}) &&
				yield(transfer.User{}, fmt.Errorf("what else: %w", denizen.ErrInvalid)) &&
				yield(plain("alice-03"), nil)
		}
		report, _ := bring(t, dir, source, transfer.Options{})
		require.Equal(t, transfer.Report{Rows: 4, Created: 2, Refused: 2, Problems: []transfer.Problem{
			{Row: 2, ID: "alice-02", Field: "birthday", Rule: "is no date"}, {Row: 3, Field: "row", Rule: "cannot be read"},
		}}, report)
	})
}

func TestImport_TheReportIsBoundedAndEachIsNot(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		bad := func(yield func(transfer.User, error) bool) {
			for range transfer.MaxProblems + 500 {
				if !yield(transfer.User{}, nil) {
					return
				}
			}
		}
		report, results := bring(t, dir, bad, transfer.Options{})
		require.Len(t, report.Problems, transfer.MaxProblems)
		require.Equal(t, 500, report.More)
		for _, r := range results {
			require.Len(t, r.Problems, 1)
		}
	})
}

// An import that waits for its callbacks keeps no other caller of the directory waiting.
func TestImport_ASlowReaderOfProgressBlocksNobodyElse(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		var once sync.Once
		report, _ := bring(t, dir, many(5_000), transfer.Options{Progress: func(transfer.Report) {
			once.Do(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Another"})
				require.NoError(t, err)
			})
		}})
		require.Equal(t, 5_000, report.Created)
	})
}

func TestImport_TwoAtOnceLeaveOneOwnerOfEachLocator(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		const n = 1_000
		var wg sync.WaitGroup
		created := make([]int, 2)
		for k := range created {
			wg.Go(func() {
				clash := func(yield func(transfer.User, error) bool) {
					for i := range n {
						j := i
						if k == 1 { // they meet in the middle
							j = n - 1 - i
						}
						if !yield(plain(fmt.Sprintf("user-%d-%06d", k, i), fmt.Sprintf("email:shared%d@example.org", j), fmt.Sprintf("handle:shared%d", j)), nil) {
							return
						}
					}
				}
				report, err := transfer.Import(t.Context(), dir, system, clash, transfer.Options{})
				created[k] = report.Created
				if err != nil || report.Created+report.Refused != n {
					t.Errorf("import %d: %v, %v", k, report, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, n, created[0]+created[1])
		for i := range n {
			id := owner(t, dir, fmt.Sprintf("email:shared%d@example.org", i))
			require.NotEmpty(t, id)
			require.Equal(t, id, owner(t, dir, fmt.Sprintf("handle:shared%d", i)), "a row is created whole")
		}
	})
}

func TestImport_TheSameRowsTwiceAtOnceAreCreatedOnce(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		created, present := 0, 0
		for range 2 {
			wg.Go(func() {
				both := func(yield func(transfer.User, error) bool) {
					for i := range 500 {
						u := plain("", fmt.Sprintf("external:example.org|%d", i), fmt.Sprintf("email:user%d@example.org", i))
						if !yield(u, nil) {
							return
						}
					}
					many(400)(func(u transfer.User, err error) bool {
						u.Locators = nil
						return yield(u, err)
					})
				}
				report, err := transfer.Import(t.Context(), dir, system, both, transfer.Options{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				created, present = created+report.Created, present+report.Present
				mu.Unlock()
			})
		}
		wg.Wait()
		require.Equal(t, 900, created)
		require.Equal(t, 900, present)
	})
}

func TestImport_AnOutcomeThatNobodyKnowsIsFoundOutByTheNextRun(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"unavailable": storetest.Before, "made": storetest.Applied, "lost": storetest.Withheld, "corrupt": storetest.Corrupt,
	} {
		t.Run(name, func(t *testing.T) {
			overFaultyStores(t, func(t *testing.T, dir *denizen.Directory, strike *strike) {
				const n = 2_000
				begun := func(yield func(transfer.User, error) bool) {
					for u, err := range many(n) {
						if u.ID == "user-001000" {
							strike.by(func(storetest.Call) storetest.Fault { return fault })
						}
						if !yield(u, err) {
							return
						}
					}
				}
				report, err := transfer.Import(t.Context(), dir, system, begun, transfer.Options{})
				var e *denizen.Error
				require.ErrorAs(t, err, &e)
				require.Zero(t, report.Refused)
				strike.end()
				report, _ = bring(t, dir, many(n), transfer.Options{})
				require.Equal(t, n, report.Created+report.Present)
				require.Len(t, everybody(t, dir), n)
			})
		})
	}
}

// Whichever call of an import fails, the next run makes up for it.
func TestImport_AFaultAtAnyCallIsMadeUpForByTheNextRun(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{"unavailable": storetest.Before, "made": storetest.Applied, "lost": storetest.Withheld} {
		t.Run(name, func(t *testing.T) {
			overFaultyStores(t, func(t *testing.T, dir *denizen.Directory, strike *strike) {
				const n = 8
				rounds := storetest.EachCall(fault, func(round int, decide func(storetest.Call) storetest.Fault) {
					few := func(yield func(transfer.User, error) bool) {
						for i := range n {
							at := fmt.Sprintf("%d-%d", round, i)
							u := plain("round-"+at, "email:user"+at+"@example.org")
							u.Attributes = []denizen.Attribute{{Key: "nick", Value: "Al"}}
							if !yield(u, nil) {
								return
							}
						}
					}
					var struck atomic.Bool
					strike.by(func(c storetest.Call) storetest.Fault {
						if c.Method == "Changes" || c.Method == "Wait" {
							return storetest.None // of the directory itself
						}
						f := decide(c)
						if f != storetest.None {
							struck.Store(true)
						}
						return f
					})
					report, err := transfer.Import(t.Context(), dir, system, few, transfer.Options{Define: defs})
					strike.end()
					require.Equal(t, struck.Load(), err != nil)
					require.Zero(t, report.Refused)
					report, _ = bring(t, dir, few, transfer.Options{Define: defs})
					require.Equal(t, n, report.Created+report.Present)
					require.Len(t, everybody(t, dir), n*round)
				})
				require.GreaterOrEqual(t, rounds, n)
			})
		})
	}
}

func TestImport_WhatIsDamagedIsReported(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, s store.Store) {
		broken := store.Record{Key: record.UserKey("broken-1"), Value: []byte(`{"kind":"owner"}`)}
		_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{broken}})
		require.NoError(t, err)
		report, _ := bring(t, dir, rows(plain("alice-01"), plain("broken-1"), plain("alice-02")), transfer.Options{})
		require.Equal(t, 2, report.Created)
		require.Equal(t, []transfer.Problem{{
			Row: 2, ID: "broken-1", Field: "id", Rule: "a record of this user, or of one of its locators, is damaged",
		}}, report.Problems)
		require.NoError(t, dir.DeleteUser(t.Context(), system, "broken-1"))
		broken.Key = record.ProfileKey("alice-03")
		_, err = s.Commit(t.Context(), store.Batch{Put: []store.Record{broken}})
		require.NoError(t, err)
		u := plain("alice-03")
		u.Attributes = []denizen.Attribute{{Key: "nick"}}
		report, _ = bring(t, dir, rows(u, plain("alice-04")), transfer.Options{Define: defs})
		require.Equal(t, 1, report.Refused)
		require.Equal(t, 1, report.Created)
		_, err = s.Commit(t.Context(), store.Batch{Drop: []store.Key{broken.Key}})
		require.NoError(t, err)
	})
}

func TestImport_ATransactionOfTheHostsTakesItWhole(t *testing.T) {
	schema := newSchema(t)
	s := openPostgres(t, schema)
	defer func() { require.NoError(t, s.Close()) }()
	dir, err := denizen.New(t.Context(), s, options())
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	pool, err := pgxpool.New(t.Context(), os.Getenv(serverEnv))
	require.NoError(t, err)
	defer pool.Close()
	for _, commit := range []bool{false, true} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		inTx, err := dir.InTx(s.InTx(tx))
		require.NoError(t, err)
		report, err := transfer.Import(t.Context(), inTx, system, many(20), transfer.Options{})
		require.NoError(t, err)
		require.Equal(t, 20, report.Created)
		if commit {
			require.NoError(t, tx.Commit(t.Context()))
		} else {
			require.NoError(t, tx.Rollback(t.Context()))
		}
		require.Equal(t, map[bool]int{true: 20}[commit], len(everybody(t, dir)))
	}
}

func TestMapID_IsAUserIDThatNoOtherIDHas(t *testing.T) {
	long := strings.Repeat("x", 73)
	for id, want := range map[string]denizen.UserID{
		"":                 "",
		"42":               "imported-42",
		"a.b":              "imported-a_2Eb",
		"a_b":              "imported-a_5Fb",
		"é":                "imported-_C3_A9",
		"alice-01":         "alice-01",
		"imported-42":      "imported-imported-42",
		"importedly":       "imported-importedly",
		"user@example.org": "imported-user_40example_2Eorg",
	} {
		got := transfer.MapID(id)
		require.Equal(t, want, got)
		if id != "" {
			_, err := denizen.ParseUserID(string(got))
			require.NoError(t, err)
		}
	}
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(long)))
	require.Equal(t, denizen.UserID("imported"+digest), transfer.MapID(long))
	seen := map[denizen.UserID]string{}
	for _, a := range []string{"", "_", "-", ".", "2", "E", "_2E", "imported", "imported-", "x", long[:50], long[:64], long[:72], long} {
		for _, b := range []string{"", "_", "-", ".", "2", "E", "_2E", "42", long[:50], long[:8]} {
			id := a + b
			got := transfer.MapID(id)
			if earlier, ok := seen[got]; ok {
				require.Equal(t, earlier, id)
			}
			seen[got] = id
		}
	}
}

func TestImport_ABlockThatIsOverIsNone(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		over, endless, bad := plain("alice-01"), plain("alice-02"), plain("alice-03")
		over.Blocked, over.Block = true, denizen.Block{Reason: "why", Until: made}
		endless.Blocked = true
		bad.Blocked, bad.Block = true, denizen.Block{Reason: strings.Repeat("r", 1025)}
		report, _ := bring(t, dir, rows(over, endless, bad), transfer.Options{})
		require.Equal(t, 2, report.Created)
		require.Equal(t, 1, report.Refused)
		for id, blocked := range map[denizen.UserID]bool{"alice-01": false, "alice-02": true} {
			u, err := dir.User(t.Context(), system, id)
			require.NoError(t, err)
			require.Equal(t, blocked, u.Blocked, id)
		}
	})
}
