// Package invariant checks a store, in tests, for what is true of every directory at rest.
package invariant

import (
	"cmp"
	"context"
	"encoding/hex"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Dump is the contents of a store.
type Dump struct {
	Records []store.Record
	Feed    store.Feed
}

// Of returns the contents of s. No directory may write to s meanwhile.
func Of(t testing.TB, s store.Store) Dump {
	t.Helper()
	ctx := context.Background()
	var all Dump
	for r := (store.Range{Limit: store.MaxPage}); ; {
		page, err := s.List(ctx, r)
		require.NoError(t, err)
		all.Records = append(all.Records, page...)
		if len(page) < r.Limit {
			break
		}
		r.After = page[len(page)-1].Key
	}
	feed, err := s.Changes(ctx, 0, store.MaxPage)
	if err != nil {
		require.ErrorIs(t, err, store.ErrMissed)
		feed, err = s.Changes(ctx, feed.First-1, store.MaxPage)
		require.NoError(t, err)
	}
	all.Feed = feed
	return all
}

// Check requires what is true of every directory at rest: Each locator has one owner. The index of
// locators agrees with the users in both directions, and so do what names are unique by, tokens
// with their texts, and attributes with the references to them, presences with the keys of who is
// here, and aliases with whom they lead to. Nothing is left of a user that was deleted. No
// directory may write to s meanwhile.
func Check(t testing.TB, s store.Store) {
	t.Helper()
	all := Of(t, s)
	users := map[string]*record.User{}
	owners := map[store.Key]*record.Owner{}
	uniques := map[store.Key]*record.Unique{}
	rests := map[string]*record.Rest{}
	undos := map[string]*record.Undo{}
	aliases := map[string]*record.Alias{}
	tokenTexts := map[store.Key]*record.TokenText{}
	tokens := map[string]*record.Tokens{}
	profiles := map[string]*record.Profile{}
	attributeRefs := map[store.Key]*record.AttributeRef{}
	definitions := map[string]*record.Definition{}
	devices := map[string]*record.Devices{}
	actives := map[string]*record.Active{}
	heres := map[store.Key]*record.Here{}
	lastUses := map[string]*record.LastUses{}
	proofs := map[string]*record.Proof{}
	userProofs := map[string]*record.UserProofs{}
	directories, rings := 0, 0
	for _, r := range all.Records {
		require.NotZero(t, r.Version)
		require.LessOrEqual(t, r.Version, all.Feed.Head, "a version above the head")
		value, err := record.Decode(r.Key, r.Value)
		require.NoError(t, err, "key %q: %s", r.Key, r.Value)
		want := r.Key
		switch v := value.(type) {
		case *record.Directory:
			directories++
			want = record.DirectoryKey
		case *record.SigningKeys:
			rings++
			want = record.SigningKeysKey
			require.NotEmpty(t, v.Keys)
		case *record.AccessKeys:
			want = record.AccessKeysKey
			require.True(t, len(v.Keys) > 0 || v.Deleted != "")
			require.LessOrEqual(t, len(v.Keys), denizen.MaxAccessKeys)
			Distinct(t, v.Keys, func(k record.AccessKey) string { return k.Key })
			Distinct(t, v.Keys, func(k record.AccessKey) string { return k.Incarnation })
		case *record.User:
			users[v.ID] = v
			want = record.UserKey(v.ID)
		case *record.Owner:
			owners[r.Key] = v
			want = record.OwnerKey(v.Locator)
		case *record.Unique:
			uniques[r.Key] = v
			want = record.UniqueKey(v.Form)
		case *record.Rest:
			rests[v.Digest] = v
			want = record.RestKey([32]byte(digestOf(t, v.Digest)))
		case *record.Undo:
			undos[v.Digest] = v
			want = record.UndoKey([32]byte(digestOf(t, v.Digest)))
		case *record.Alias:
			aliases[v.ID] = v
			want = record.AliasKey(v.ID)
		case *record.TokenText:
			tokenTexts[r.Key] = v
			want = tokenTextKey(t, v.Digest)
		case *record.Tokens:
			tokens[v.User] = v
			want = record.TokensKey(v.User)
		case *record.Profile:
			profiles[v.User] = v
			want = record.ProfileKey(v.User)
		case *record.AttributeRef:
			attributeRefs[r.Key] = v
			want = record.AttributeRefKey(v.Attribute, v.User)
		case *record.Definition:
			definitions[v.Key] = v
			want = record.DefinitionKey(v.Key)
		case *record.Devices:
			devices[v.User] = v
			want = record.DevicesKey(v.User)
		case *record.Here:
			heres[r.Key] = v
			want = record.HereKey(v.Place, v.User)
		case *record.Active:
			actives[v.User] = v
			want = record.ActiveKey(v.User)
		case *record.Consumer:
			want = record.ConsumerKey(v.Name)
		case *record.LastUses:
			lastUses[v.User] = v
			want = record.LastUsesKey(v.User)
		case *record.Proof:
			proofs[v.Handle] = v
			want = record.ProofKey(v.Minute, [32]byte(digestOf(t, v.Handle)))
			require.LessOrEqual(t, v.Tries, int64(5))
		case *record.Starts:
			want = record.StartsKey(v.Hour, [32]byte(digestOf(t, v.Locator)))
			require.NotEmpty(t, v.Starts)
			require.LessOrEqual(t, len(v.Starts), 24)
			Distinct(t, v.Starts, func(s record.Start) string { return s.Proof })
		case *record.UserProofs:
			userProofs[v.User] = v
			want = record.UserProofsKey(v.User)
			require.NotEmpty(t, v.Proofs)
			require.LessOrEqual(t, len(v.Proofs), 4)
		}
		require.Equal(t, want, r.Key, "a record lies under the key of another: %s", r.Value)
	}
	if len(all.Records) > 0 {
		require.Equal(t, []int{1, 1}, []int{directories, rings}, "directory and key ring")
	}
	// requireUser requires that a user exists and is still of an incarnation.
	requireUser := func(what, user, incarnation string) *record.User {
		u := users[user]
		require.NotNil(t, u, "%s of %s, who is gone", what, user)
		require.Equal(t, u.Incarnation, incarnation, "%s of an earlier %s", what, user)
		return u
	}

	incarnations := map[string]string{}
	ownedKeys, uniqueKeys := map[store.Key]bool{}, map[store.Key]bool{}
	for id, u := range users {
		require.Empty(t, incarnations[u.Incarnation], "two users of one incarnation")
		incarnations[u.Incarnation] = id
		require.LessOrEqual(t, len(u.Locators), denizen.MaxLocators+denizen.MaxClaims)
		Distinct(t, u.Locators, func(l record.Locator) string { return l.ID })
		Distinct(t, u.Locators, func(l record.Locator) string { return l.Type + ":" + l.Canonical })
		for _, l := range u.Locators {
			if !l.Owned {
				require.NotEqual(t, string(denizen.Verified), l.Status, "a claim of %s is verified", id)
				continue
			}
			key := record.OwnerKey(l.Type + ":" + l.Canonical)
			require.False(t, ownedKeys[key], "a locator of %s has two owners", id)
			ownedKeys[key] = true
			o := owners[key]
			require.NotNil(t, o, "a locator of %s is not indexed", id)
			require.Equal(t, &record.Owner{
				Locator: l.Type + ":" + l.Canonical, User: id, Incarnation: u.Incarnation, Rule: l.Rule,
			}, o, "a locator is indexed for another")
			if l.Unique == "" {
				continue
			}
			key = record.UniqueKey(l.Type + ":" + l.Unique)
			require.False(t, uniqueKeys[key], "what a locator of %s is unique by has two owners", id)
			uniqueKeys[key] = true
			require.Equal(t, &record.Unique{
				Form: l.Type + ":" + l.Unique, Locator: l.Type + ":" + l.Canonical,
				User: id, Incarnation: u.Incarnation, Rule: l.Rule,
			}, uniques[key], "what a locator of %s is unique by is another's", id)
		}
		require.LessOrEqual(t, len(u.Changes), 8)
		for _, rest := range u.Resting {
			// Others may have taken what rested long ago.
			if r := rests[rest.Digest]; r != nil && r.Until == rest.Until {
				require.Equal(t, []string{id, u.Incarnation}, []string{r.User, r.Incarnation},
					"what a user gave up rests for another")
			}
		}
	}
	for _, undo := range undos {
		u := requireUser("an undo", undo.User, undo.Incarnation)
		i := slices.IndexFunc(u.Changes, func(ch record.Change) bool { return ch.Undo == undo.Digest })
		require.GreaterOrEqual(t, i, 0, "%s does not know how a change is undone", undo.User)
		require.Equal(t, u.Changes[i].Until, undo.Until)
	}
	leads := map[string]bool{}
	for id, u := range users {
		require.LessOrEqual(t, len(u.Aliases), denizen.MaxAliases)
		Distinct(t, u.Aliases, func(a record.AliasRef) string { return a.ID })
		for _, ref := range u.Aliases {
			if a := aliases[ref.ID]; a != nil && a.User == id && a.Incarnation == u.Incarnation {
				require.Equal(t, ref.Until, a.Until, "an alias of %s ends at two times", id)
				leads[ref.ID] = true
			} else { // it is swept, and the id may be another's
				require.NotZero(t, ref.Until, "an alias of %s is lost", id)
			}
		}
	}
	for id := range aliases {
		require.True(t, leads[id], "an alias leads to nobody: %q", id)
		require.Nil(t, users[id], "a user has the id of an alias")
	}
	for key := range uniques {
		require.True(t, uniqueKeys[key], "what is unique is nobody's: %q", key)
	}
	for key := range owners {
		require.True(t, ownedKeys[key], "an indexed locator is nobody's: %q", key)
	}

	listed := map[store.Key]bool{}
	for id, r := range tokens {
		u := requireUser("tokens", id, r.Incarnation)
		require.False(t, u.Blocked, "%s is blocked and has tokens", id)
		require.NotEmpty(t, r.Tokens)
		require.LessOrEqual(t, len(r.Tokens), denizen.MaxTokens)
		Distinct(t, r.Tokens, func(t record.Token) string { return t.ID })
		for _, token := range r.Tokens {
			require.NotEmpty(t, token.Texts)
			require.LessOrEqual(t, len(token.Texts), denizen.MaxTokenTexts)
			for _, text := range token.Texts {
				key := tokenTextKey(t, text.Digest)
				require.False(t, listed[key], "a text is listed twice")
				listed[key] = true
				require.Equal(t, &record.TokenText{
					Digest: text.Digest, User: id, Incarnation: r.Incarnation,
					Token: token.ID, Expires: text.Expires,
				}, tokenTexts[key], "what a listed text of %s stands for", id)
			}
		}
	}
	for key, g := range tokenTexts {
		require.True(t, listed[key], "a text of %s is good and not listed", g.User)
	}

	used := map[store.Key]bool{}
	for id, r := range profiles {
		requireUser("a profile", id, r.Incarnation)
		require.NotEmpty(t, r.Attributes)
		byKey := func(a, b record.Attribute) int { return cmp.Compare(a.Key, b.Key) }
		require.True(t, slices.IsSortedFunc(r.Attributes, byKey))
		Distinct(t, r.Attributes, func(a record.Attribute) string { return a.Key })
		for _, a := range r.Attributes {
			key := record.AttributeRefKey(a.Key, id)
			used[key] = true
			require.NotNil(t, attributeRefs[key], "the use of %q by %s is not kept", a.Key, id)
			require.NotNil(t, definitions[a.Key], "%q of %s has no definition", a.Key, id)
		}
	}
	for key, u := range attributeRefs {
		require.True(t, used[key], "%s is said to use %q", u.User, u.Attribute)
	}

	swept := int64(math.MaxInt64) // the keys of earlier hours may be swept
	for _, h := range heres {
		swept = min(swept, record.HereHour(h.Place))
	}
	for id, r := range devices {
		u := requireUser("presence", id, r.Incarnation)
		require.False(t, u.Blocked && len(r.Devices) > 0, "%s is blocked and present", id)
		require.True(t, r.Hidden || len(r.Devices) > 0, "the devices of %s say nothing", id)
		require.LessOrEqual(t, len(r.Devices), 16)
		until := record.HereUntil(id, r.Devices)
		require.Equal(t, until, record.HereHour(r.Here), "the hour up to which %s is here", id)
		for _, place := range []int64{r.Here, r.Left} {
			if place != 0 && record.HereHour(place) >= swept {
				require.NotNil(t, heres[record.HereKey(place, id)], "a key of %s is not there", id)
			}
		}
	}
	for _, h := range heres {
		r := devices[h.User]
		require.NotNil(t, r, "%s is said to be here", h.User)
		require.Equal(t, h.Incarnation, r.Incarnation, "%s is said to be here", h.User)
		require.Contains(t, []int64{r.Here, r.Left}, h.Place, "when %s is here", h.User)
	}
	for id, r := range actives {
		requireUser("last activity", id, r.Incarnation)
	}
	for id := range lastUses {
		require.True(t, id == "" || tokens[id] != nil, "last uses of %s, who has no tokens", id)
	}

	named := map[string]string{}
	for id, r := range userProofs {
		requireUser("proofs", id, r.Incarnation)
		for _, p := range r.Proofs {
			named[p.Handle] = id
		}
	}
	for handle, p := range proofs {
		require.Equal(t, p.User, named[handle], "a proof is listed for another user")
		require.True(t, p.User != "" || p.Sealed != "", "a proof is of a user or of a locator")
	}

	// If nothing of the feed was forgotten, it accounts for the existing users.
	if all.Feed.First > 1 {
		return
	}
	told := map[string]string{}
	for _, c := range all.Feed.Changes {
		e, err := record.DecodeEvent(c.Event)
		require.NoError(t, err)
		switch denizen.EventKind(e.What) {
		case denizen.EventUserCreated:
			require.Empty(t, told[e.User], "%s was created twice", e.User)
			told[e.User] = e.Incarnation
		case denizen.EventUserDeleted, denizen.EventUserErased:
			if e.Incarnation != "" { // of a user who was damaged it may not be known
				require.Equal(t, told[e.User], e.Incarnation, "%s was deleted but not created", e.User)
			}
			delete(told, e.User)
		case denizen.EventUserMerged:
			require.Equal(t, told[e.User], e.Incarnation, "%s was merged but not created", e.User)
			require.NotEmpty(t, told[e.Other], "%s was merged into nobody", e.User)
			delete(told, e.User)
		}
	}
	if len(all.Feed.Changes) < store.MaxPage {
		there := map[string]string{}
		for id, u := range users {
			there[id] = u.Incarnation
		}
		require.Equal(t, told, there, "the feed tells of other users")
	}
}

func tokenTextKey(t testing.TB, digest string) store.Key {
	t.Helper()
	return record.TokenTextKey([32]byte(digestOf(t, digest)))
}

func digestOf(t testing.TB, digest string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(digest)
	require.NoError(t, err)
	require.Len(t, raw, 32)
	return raw
}

// Distinct requires that of returns a different text for each element of list.
func Distinct[T any](t testing.TB, list []T, of func(T) string) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range list {
		require.NotEmpty(t, of(v))
		require.False(t, seen[of(v)], "%q is there twice", of(v))
		seen[of(v)] = true
	}
}
