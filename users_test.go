package denizen_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

const (
	alice denizen.UserID = "alice-01"
	bob   denizen.UserID = "bob-0001"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when virtual time begins

func TestAUserIsCreatedWithAllThatItIsGiven(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		u, err := h.CreateUser(ctx, sys, denizen.NewUser{
			ID: alice, ScreenName: "Alice",
			Locators: []denizen.NewLocator{
				denizen.Email("Alice@Example.org"),
				{Locator: "tele:+1 415 555 0132", Status: denizen.Verified},
			},
			Attributes: []denizen.Attribute{{Key: "bio", Value: "down the hole"}},
		})
		require.NoError(t, err)
		require.Equal(t, denizen.User{
			ID: alice, InternalID: u.InternalID, ScreenName: "Alice", Version: u.Version, CreatedAt: epoch, UpdatedAt: epoch,
			Locators: []denizen.Locator{{
				ID: u.Locators[0].ID, Type: denizen.TypeEmail, Address: "Alice@Example.org", Raw: "Alice@Example.org", Canonical: "alice@example.org",
				Status: denizen.StatusNotProvided, Owned: true, AddedAt: epoch,
			}, {
				ID: u.Locators[1].ID, Type: denizen.TypeTele, Address: "+14155550132", Raw: "+1 415 555 0132", Canonical: "+14155550132",
				Status: denizen.Verified, Owned: true, AddedAt: epoch, VerifiedAt: epoch,
			}},
		}, u)
		require.NotEmpty(t, u.InternalID)
		require.NotZero(t, u.Version)
		read, err := h.User(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, u, read)
		p, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, []denizen.Attribute{{Key: "bio", ContentType: "text/plain", ContentEncoding: "identity", Value: "down the hole"}}, p.Attributes)
		require.EqualValues(t, u.Version, p.Version, "made in another commit")
		invariant.Check(t, h.store)
	})
}

func TestAUserWithoutAnIDGetsAUUIDOfVersionSeven(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	var last string
	for range 20 {
		u, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Somebody"})
		require.NoError(t, err)
		id, err := uuid.Parse(string(u.ID))
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), id.Version())
		require.Equal(t, id.String(), string(u.ID), "not in its usual form")
		require.Greater(t, string(u.ID), last, "ids made later do not come later")
		last = string(u.ID)
	}
}

// screenNames are names that people have, and ones that would deceive or draw nothing.
var screenNames = []struct {
	name string
	good bool
	what string
}{
	{"A", true, "one character"},
	{strings.Repeat("x", 128), true, "128 characters"},
	{strings.Repeat("日", 128), true, "128 characters of three bytes"},
	{strings.Repeat("😀", 128), true, "128 characters of four bytes"},
	{"Alice Liddell", true, "Latin"},
	{"Zoë Ñandú Çelik Łukasz", true, "Latin with marks"},
	{"Nguyễn Thị Minh", true, "Vietnamese"},
	{"Αλίκη", true, "Greek"},
	{"Алиса Ёлкина", true, "Cyrillic"},
	{"Ալիսա", true, "Armenian"},
	{"אליס", true, "Hebrew"},
	{"أليس", true, "Arabic"},
	{"ऐलिस कुमार", true, "Devanagari"},
	{"আলিস", true, "Bengali"},
	{"ஆலிஸ்", true, "Tamil"},
	{"อลิซ", true, "Thai"},
	{"အဲလစ်", true, "Burmese"},
	{"អាលីស", true, "Khmer"},
	{"ალისა", true, "Georgian"},
	{"አሊስ", true, "Ethiopic"},
	{"愛麗絲", true, "Chinese"},
	{"アリス", true, "Japanese"},
	{"앨리스", true, "Korean"},
	{"ᏣᎳᎩ", true, "Cherokee"},
	{"𐌰𐌻𐌹𐍃", true, "outside the basic plane"},
	{"O'Brien-Smith, Jr. (#1) <3 & \"co\" \\ /", true, "punctuation"},
	{"null", true, "a word of JSON"},
	{" Alice ", true, "spaces around it"},
	{"😀", true, "an emoji"},
	{"👍🏽", true, "an emoji with a skin tone"},
	{"🇮🇳", true, "a flag"},
	{"I ❤️ Go", true, "an emoji with a variation selector"},
	{"☎︎", true, "a symbol in text style"},
	{"1️⃣", true, "a keycap"},
	{"ℹ️", true, "the one letter that has two styles"},
	{"©️ ™️ ‼️", true, "signs with a variation selector"},

	{"葛\U000e0100城", true, "an ideographic variation"},
	{"Zoe\u0308", true, "in another normal form"},
	{"\u212bngstrom", true, "a singleton of normalization form C"},
	{"\u1112\u1161\u11ab", true, "Hangul in parts"},
	{strings.Repeat("e\u0301", 128), true, "128 characters in NFC, 256 as given"},
	{"👩\u200d🚀", true, "an emoji of several, joined"},
	{"👨\u200d👩\u200d👧", true, "a family of emoji"},
	{"👩🏽\u200d🚀", true, "joined behind a skin tone"},
	{"🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥", true, "joined behind a selector"},
	{"🏃\u200d♀\ufe0f\u200d➡\ufe0f", true, "a runner who faces right"},
	{"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", true, "a flag of tags"},
	{"🏴 and 🏴\u200d☠\ufe0f", true, "a black flag, and one with a skull"},
	{"سعید می\u200cخواهد", true, "a Persian non-joiner"},
	{"علی\u200dرضا", true, "an Arabic joiner"},
	{"अक्\u200dषय", true, "a joiner behind a virama of Devanagari"},
	{"क्\u200cष", true, "a non-joiner behind a virama"},
	{"ශ්\u200dරී", true, "Sinhala"},
	{"র\u200d্যাব", true, "a joiner before a virama of Bengali"},
	{"നന്\u200d", true, "a joiner at the end, in Malayalam"},
	{"ᠰᠠ\u180bᠨ", true, "a selector of Mongolian"},

	{"", false, "empty"},
	{strings.Repeat("e\u0301", 129), false, "129 characters in NFC"},
	{strings.Repeat("a", 1<<20), false, "a megabyte"},
	{"a" + strings.Repeat("\u0301", 100), false, "a pile of marks"},
	{"\u2800\u2800", false, "nothing but blanks of Braille"},
	{"\u200d", false, "nothing but a joiner"},
	{"👩\u200d", false, "an emoji joined to nothing"},
	{"👩\u200d\u200d🚀", false, "joined twice"},
	{"👩\u200cx🚀", false, "a non-joiner behind an emoji"},
	{"\u200dعلی", false, "a joiner before all letters"},
	{"مA\u200cB", false, "a non-joiner between Latin letters beside Arabic"},
	{"Alice\U000e0061\U000e007f", false, "tags behind a letter"},
	{"🏴\U000e0067\U000e0062", false, "tags without their end"},
	{"🏴\U000e007f", false, "an end of no tags"},
	{"🏴" + strings.Repeat("\U000e0061", 7) + "\U000e007f", false, "more tags than a region has"},
	{"🏴\U000e0041\U000e007f", false, "a capital among the tags"},
	{"\U000e0001Alice", false, "a language tag"},
	{"Ali\U000e0100ce", false, "an ideographic variation of a Latin letter"},
	{strings.Repeat("x", 129), false, "129 characters"},
	{strings.Repeat("😀", 129), false, "129 characters of four bytes"},
	{" ", false, "a space"},
	{"\u00a0\u2003\u3000", false, "spaces of other kinds"},
	{"\ufe0f", false, "nothing but a variation selector"},
	{" \ufe0f", false, "a variation selector behind a space"},
	{"Ali\ufe0fce", false, "a variation selector behind a letter"},
	{"❤\ufe0f\ufe0f", false, "two variation selectors"},
	{"❤\ufe01", false, "another variation selector"},
	{"Alice\x00", false, "U+0000"},
	{"Alice\n", false, "a line break"},
	{"Ali\tce", false, "a tab"},
	{"Alice\x7f", false, "delete"},
	{"Alice\u0085", false, "a C1 control"},
	{"Alice\u2028", false, "a line separator"},
	{"Alice\u2029", false, "a paragraph separator"},
	{"Ali\u200bce", false, "a zero-width space"},
	{"Ali\u200cce", false, "a zero-width non-joiner"},
	{"Ali\u200dce", false, "a zero-width joiner"},
	{"Alice\u2060", false, "a word joiner"},
	{"\ufeffAlice", false, "a byte order mark"},
	{"Ali\u00adce", false, "a soft hyphen"},
	{"Alice\u034f", false, "a grapheme joiner"},
	{"Alice\u180e", false, "a Mongolian vowel separator"},
	{"Alice\u115f", false, "a Hangul filler"},
	{"Alice\u3164", false, "another Hangul filler"},
	{"Alice\uffa0", false, "a halfwidth Hangul filler"},
	{"Alice\u17b4", false, "an inherent vowel of Khmer"},
	{"\u202ecilA", false, "a right-to-left override"},
	{"\u202aAlice\u202c", false, "a left-to-right embedding"},
	{"\u2066Alice\u2069", false, "a left-to-right isolate"},
	{"Alice\u200e", false, "a left-to-right mark"},
	{"Alice\u200f", false, "a right-to-left mark"},
	{"Alice\u061c", false, "an Arabic letter mark"},
	{"Alice\xff", false, "no UTF-8"},
	{"Alice\xed\xa0\x80", false, "a lone surrogate"},
}

func TestScreenNamesArePeoplesNames(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	for _, row := range screenNames {
		t.Run(row.what, func(t *testing.T) {
			created, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: row.name})
			renamed, err2 := d.SetScreenName(t.Context(), sys, alice, row.name)
			if !row.good {
				requireField(t, err, denizen.ErrInvalid, "screenName")
				requireField(t, err2, denizen.ErrInvalid, "screenName")
				return
			}
			require.NoError(t, err)
			require.NoError(t, err2)
			name := norm.NFC.String(row.name)
			require.Equal(t, []string{name, name}, []string{created.ScreenName, renamed.ScreenName})
		})
	}
}

func TestAStrayJoinerIsRefusedAsSuch(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	_, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Ali\u200dce"})
	require.ErrorContains(t, err, "joiners")
}

func TestAScreenNameInAnotherFormOfTheSameChangesNothing(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	u, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Zoe\u0308"})
	require.NoError(t, err)
	require.Equal(t, "Zo\u00eb", u.ScreenName)
	again, err := d.SetScreenName(t.Context(), sys, u.ID, "Zoe\u0308")
	require.NoError(t, err)
	require.Equal(t, u, again)
}

func FuzzScreenName(f *testing.F) {
	for _, row := range screenNames {
		f.Add(row.name)
	}
	d := newMemory(f, denizen.Options{})
	newUser(f, d, alice)
	f.Fuzz(func(t *testing.T, name string) {
		u, err := d.SetScreenName(context.Background(), sys, alice, name)
		if err != nil {
			requireField(t, err, denizen.ErrInvalid, "screenName")
			return
		}
		require.Equal(t, norm.NFC.String(name), u.ScreenName)
		require.True(t, utf8.ValidString(name))
		again, err := d.SetScreenName(context.Background(), sys, alice, u.ScreenName)
		require.NoError(t, err)
		require.Equal(t, u, again, "what is stored is taken as it is")
		name = u.ScreenName
		n := utf8.RuneCountInString(name)
		require.True(t, n >= 1 && n <= 128)
		for _, r := range name {
			require.False(t, unicode.In(r, unicode.Cc, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Bidi_Control), "%U", r)
			if unicode.Is(unicode.Cf, r) {
				require.True(t, unicode.Is(unicode.Join_Control, r) || r >= 0xe0030 && r <= 0xe007f, "%U", r)
			}
		}
		require.NotEmpty(t, strings.Trim(name, " \u00a0\u3000\ufe0e\ufe0f"))
	})
}

// A refused creation is tried against a directory where Alice has an address, and an
// attribute is defined.
func TestARefusedCreationLeavesNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio", MaxBytes: 5})
		require.NoError(t, err)
		h.create(t, alice, denizen.Email("alice@example.org"))
		once := denizen.Idempotency{Key: "k", Digest: "d"}
		before := invariant.Of(t, h.store)
		good := denizen.NewUser{ID: bob, ScreenName: "Bob", Locators: []denizen.NewLocator{denizen.Email("bob@example.org")}, Idempotency: once}
		many := make([]denizen.NewLocator, 17)
		for i := range many {
			many[i] = denizen.Email(fmt.Sprintf("bob%d@example.org", i))
		}
		for what, row := range map[string]struct {
			change func(*denizen.NewUser)
			kind   error
			field  string
		}{
			"the id is taken":           {func(n *denizen.NewUser) { n.ID = alice }, denizen.ErrTaken, "id"},
			"a locator is taken":        {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("ALICE@example.ORG")) }, denizen.ErrTaken, "locator"},
			"a bad id":                  {func(n *denizen.NewUser) { n.ID = ".system" }, denizen.ErrInvalid, "id"},
			"no screen name":            {func(n *denizen.NewUser) { n.ScreenName = "" }, denizen.ErrInvalid, "screenName"},
			"a bad locator":             {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("x")) }, denizen.ErrInvalid, "locator"},
			"a bad status":              {func(n *denizen.NewUser) { n.Locators[0].Status = "verified" }, denizen.ErrInvalid, "verificationStatus"},
			"a locator twice":           {func(n *denizen.NewUser) { n.Locators = append(n.Locators, denizen.Email("BOB@example.org")) }, denizen.ErrInvalid, "locators"},
			"seventeen locators":        {func(n *denizen.NewUser) { n.Locators = many }, denizen.ErrLimited, "locators"},
			"an attribute undefined":    {func(n *denizen.NewUser) { n.Attributes = []denizen.Attribute{{Key: "hat"}} }, denizen.ErrInvalid, "key"},
			"an attribute too long":     {func(n *denizen.NewUser) { n.Attributes = []denizen.Attribute{{Key: "bio", Value: "123456"}} }, denizen.ErrInvalid, "value"},
			"an idempotency key alone":  {func(n *denizen.NewUser) { n.Idempotency.Digest = "" }, denizen.ErrInvalid, "idempotency"},
			"a digest alone":            {func(n *denizen.NewUser) { n.Idempotency.Key = "" }, denizen.ErrInvalid, "idempotency"},
			"an idempotency key of 257": {func(n *denizen.NewUser) { n.Idempotency.Key = strings.Repeat("k", 257) }, denizen.ErrInvalid, "idempotency"},
		} {
			n := good
			n.Locators = slices.Clone(good.Locators)
			row.change(&n)
			u, err := h.CreateUser(ctx, sys, n)
			requireField(t, err, row.kind, row.field)
			require.Zero(t, u, what)
			require.Equal(t, before, invariant.Of(t, h.store), what)
		}
		_, err = h.CreateUser(ctx, sys, good)
		require.NoError(t, err, "what was refused stands in the way")
	})
}

func TestOfManyCreationsOfOneIDOneSucceeds(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const n = 24
		errs := make([]error, n)
		var creating sync.WaitGroup
		for i := range n {
			creating.Go(func() {
				_, errs[i] = h.CreateUser(t.Context(), sys, denizen.NewUser{
					ID: alice, ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprintf("alice%d@example.org", i))},
				})
			})
		}
		creating.Wait()
		created := 0
		for _, err := range errs {
			if err == nil {
				created++
			} else {
				requireField(t, err, denizen.ErrTaken, "id")
			}
		}
		require.Equal(t, 1, created)
		invariant.Check(t, h.store)
	})
}

func TestSeveralUsersAreAnsweredInTheOrderAsked(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		a, b := h.create(t, alice), h.create(t, bob)
		users, err := h.UsersByID(t.Context(), sys, []denizen.UserID{bob, alice, bob})
		require.NoError(t, err)
		require.Equal(t, []denizen.User{b, a, b}, users)
		users, err = h.UsersByID(t.Context(), sys, nil)
		require.NoError(t, err)
		require.Empty(t, users)
	})
}

func TestSeveralUsersAreAllOrNone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		users, err := h.UsersByID(t.Context(), sys, []denizen.UserID{alice, bob})
		requireField(t, err, denizen.ErrNotFound, "user")
		require.Nil(t, users)
		_, err = h.UsersByID(t.Context(), sys, []denizen.UserID{alice, "short"})
		requireField(t, err, denizen.ErrInvalid, "user")
	})
}

func TestAHundredUsersAreReadAtOnceAndNoMore(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	ids := slices.Repeat([]denizen.UserID{alice}, denizen.MaxList)
	users, err := d.UsersByID(t.Context(), sys, ids)
	require.NoError(t, err)
	require.Len(t, users, denizen.MaxList)
	_, err = d.UsersByID(t.Context(), sys, append(ids, alice))
	requireField(t, err, denizen.ErrInvalid, "users")
	_, err = d.UsersByLocator(t.Context(), sys, slices.Repeat([]string{"email:a@b.example"}, denizen.MaxList+1))
	requireField(t, err, denizen.ErrInvalid, "locators")
}

func TestAPeerIsShownIDAndScreenNameAlone(t *testing.T) {
	all := func(context.Context, denizen.UserID, denizen.UserID, denizen.Facet) (bool, error) { return true, nil }
	inHouses(t, denizen.Options{MaySee: all}, func(t *testing.T, h *house) {
		h.create(t, alice, denizen.Email("alice@example.org"))
		h.create(t, bob)
		want := denizen.User{ID: alice, ScreenName: "Somebody", Peer: true}
		u, err := h.User(t.Context(), h.as(t, bob), alice)
		require.NoError(t, err)
		require.Equal(t, want, u)
		users, err := h.UsersByID(t.Context(), h.as(t, bob), []denizen.UserID{bob, alice})
		require.NoError(t, err)
		require.Equal(t, want, users[1])
		require.NotEmpty(t, users[0].InternalID, "itself a user sees whole")
	})
}

func TestUsersAreFoundByTheLocatorsTheyOwn(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		a := h.create(t, alice, denizen.Email("alice@example.org"), denizen.Tele("+14155550132"))
		b := h.create(t, bob, denizen.Email("bob@example.org"))
		asked := []string{"email:BOB@example.org", "email:nobody@example.org", "tele:+1 (415) 555-0132", "email:alice@example.org"}
		given := slices.Clone(asked)
		users, err := h.UsersByLocator(ctx, sys, given)
		require.NoError(t, err)
		require.Equal(t, []denizen.User{b, a}, users, "each once, in the order of the locators")
		require.Equal(t, asked, given, "what was given is changed")
		users, err = h.UsersByLocator(ctx, sys, []string{"email:nobody@example.org"})
		require.NoError(t, err)
		require.Empty(t, users)
		require.NotNil(t, users)
		_, err = h.UsersByLocator(ctx, sys, []string{"email:alice@example.org", "fax:1"})
		requireField(t, err, denizen.ErrInvalid, "locator")
	})
}

func TestEveryLimitPagesThroughAllUsersInTheOrderOfTheirIDs(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ids := []denizen.UserID{"#hashtag", "00000000", "@handle-", "ADMIN123", "admin123", "alice-01", "alice-010", "alice$01", "zzzzzzzz"}
		for _, id := range ids {
			h.create(t, id)
		}
		slices.Sort(ids)
		for limit := 1; limit <= len(ids)+1; limit++ {
			var seen []denizen.UserID
			for q := (denizen.UserQuery{Limit: limit}); ; {
				page, err := h.Users(t.Context(), sys, q)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.Users), limit)
				for _, u := range page.Users {
					seen = append(seen, u.ID)
				}
				if q.After = page.Next; q.After == "" {
					break
				}
				require.Len(t, page.Users, limit, "a page before the last is full")
			}
			require.Equal(t, ids, seen, "limit %d", limit)
		}
	})
}

func TestALimitOfAPageIsOneToAThousand(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for i := range denizen.MaxPage + 1 {
		newUser(t, d, denizen.UserID(fmt.Sprintf("user-%04d", i)))
	}
	for _, limit := range []int{-1, denizen.MaxPage + 1} {
		_, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: limit})
		requireField(t, err, denizen.ErrInvalid, "limit")
	}
	for _, limit := range []int{0, denizen.MaxPage} {
		page, err := d.Users(t.Context(), sys, denizen.UserQuery{Limit: limit})
		require.NoError(t, err)
		require.Len(t, page.Users, denizen.MaxPage)
		require.NotEmpty(t, page.Next)
	}
	n := 0
	for u, err := range d.AllUsers(t.Context(), sys) {
		require.NoError(t, err)
		require.Equal(t, denizen.UserID(fmt.Sprintf("user-%04d", n)), u.ID)
		n++
	}
	require.Equal(t, denizen.MaxPage+1, n)
}

func TestAnEmptyDirectoryHasOneEmptyPage(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	page, err := d.Users(t.Context(), sys, denizen.UserQuery{})
	require.NoError(t, err)
	require.Empty(t, page.Users)
	require.Empty(t, page.Next)
}

func TestPagingWhileOthersWriteSeesAllWhoStayOnce(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		for i := range 20 {
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", i*2)))
		}
		seen := map[denizen.UserID]int{}
		for q, n := (denizen.UserQuery{Limit: 3}), 0; ; n++ {
			page, err := h.Users(ctx, sys, q)
			require.NoError(t, err)
			for _, u := range page.Users {
				seen[u.ID]++
			}
			if q.After = page.Next; q.After == "" {
				break
			}
			// One comes before, one after the cursor, one of those seen goes.
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", n*6+1)))
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", n*6+5)))
			require.NoError(t, h.DeleteUser(ctx, sys, page.Users[0].ID))
		}
		for i := range 20 {
			require.Equal(t, 1, seen[denizen.UserID(fmt.Sprintf("user-%04d", i*2))], i)
		}
		for id, n := range seen {
			require.Equal(t, 1, n, id)
		}
	})
}

func TestAllUsersMayBeLeftEarly(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	newUser(t, d, bob)
	for u, err := range d.AllUsers(t.Context(), sys) {
		require.NoError(t, err)
		require.Equal(t, alice, u.ID)
		break
	}
}

func TestAllUsersEndsAtTheFirstErrorWhichItYields(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	var errs []error
	for u, err := range d.AllUsers(t.Context(), denizen.Principal{}) {
		require.Zero(t, u)
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], denizen.ErrDenied)
}

func requireCount(t testing.TB, d *denizen.Directory, want int) {
	t.Helper()
	n, err := d.CountUsers(context.Background(), sys)
	require.NoError(t, err)
	require.Equal(t, want, n)
}

func TestTheCountIsExactThroughAllChanges(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		requireCount(t, h.Directory, 0)
		for i := range 7 {
			h.create(t, denizen.UserID(fmt.Sprintf("user-%04d", i)))
			requireCount(t, h.Directory, i+1)
		}
		_, err := h.SetScreenName(ctx, sys, "user-0003", "Another")
		require.NoError(t, err)
		_, err = h.BlockUser(ctx, sys, "user-0003")
		require.NoError(t, err)
		requireCount(t, h.Directory, 7)
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0003"))
		require.Error(t, h.DeleteUser(ctx, sys, "user-0003"))
		requireCount(t, h.Directory, 6)
		h.create(t, "user-0003")
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0004"))
		h.create(t, "user-0004")
		require.NoError(t, h.DeleteUser(ctx, sys, "user-0005"))
		requireCount(t, h.Directory, 6)
	})
}

func TestTheCountIsExactAfterTheFeedWasTrimmed(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		requireCount(t, h.Directory, 1)
		b := h.create(t, bob)
		require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		h.create(t, "carol-01")
		require.NoError(t, h.TrimFeed(t.Context(), sys, denizen.Seq(b.Version)))
		requireCount(t, h.Directory, 2)
		h.create(t, alice)
		requireCount(t, h.Directory, 3)
	})
}

// interrupted lets somebody write before each page of keys is read, and after it.
type interrupted struct {
	store.Store
	before, after func()
}

func (s *interrupted) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	if s.before != nil {
		s.before()
	}
	page, err := s.Store.List(ctx, r)
	if s.after != nil {
		s.after()
	}
	return page, err
}

func TestTheFirstCountIsExactWhileUsersComeAndGo(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		for _, step := range []string{"one comes", "one goes", "one goes and comes again"} {
			t.Run(step+" "+when+" a page is read", func(t *testing.T) {
				m := &interrupted{Store: memory.New()}
				d := newOver(t, m, denizen.Options{})
				newUser(t, d, alice)
				newUser(t, d, bob)
				want := 2
				meddle := func() {
					m.before, m.after = nil, nil
					if step == "one comes" {
						newUser(t, d, "carol-01")
						want = 3
						return
					}
					require.NoError(t, d.DeleteUser(context.Background(), sys, alice))
					if want = 1; step == "one goes and comes again" {
						newUser(t, d, alice)
						want = 2
					}
				}
				if when == "before" {
					m.before = meddle
				} else {
					m.after = meddle
				}
				_, err := d.CountUsers(t.Context(), sys)
				require.NoError(t, err)
				requireCount(t, d, want)
			})
		}
	}
}

func TestTheFirstCountIsExactOverSeveralPages(t *testing.T) {
	ctx := t.Context()
	m := &interrupted{Store: memory.New()}
	d := newOver(t, m, denizen.Options{})
	for from := 0; from <= store.MaxPage; from += 1000 {
		var b store.Batch
		for i := from; i < min(from+1000, store.MaxPage+1); i++ {
			u := record.User{ID: fmt.Sprintf("user-%06d", i), Incarnation: fmt.Sprint(i), ScreenName: "Somebody"}
			b.Put = append(b.Put, store.Record{Key: record.UserKey(u.ID), Value: record.Encode(&u)})
		}
		_, err := m.Commit(ctx, b)
		require.NoError(t, err)
	}
	pages := 0
	m.after = func() {
		pages++
		newUser(t, d, denizen.UserID(fmt.Sprintf("before-%d", pages))) // on a page that was read
		newUser(t, d, denizen.UserID(fmt.Sprintf("zebra-%02d", pages)))
		require.NoError(t, d.DeleteUser(ctx, sys, denizen.UserID(fmt.Sprintf("user-%06d", pages))))
	}
	_, err := d.CountUsers(ctx, sys)
	require.NoError(t, err)
	m.after = nil
	require.Equal(t, 2, pages)
	requireCount(t, d, store.MaxPage+1+pages)
}

func TestAScreenNameIsChanged(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		was := h.create(t, alice)
		time.Sleep(time.Second)
		u, err := h.SetScreenName(t.Context(), h.as(t, alice), alice, "Alice")
		require.NoError(t, err)
		require.Greater(t, u.Version, was.Version)
		require.Equal(t, epoch.Add(time.Second), u.UpdatedAt)
		was.ScreenName, was.Version, was.UpdatedAt = "Alice", u.Version, u.UpdatedAt
		require.Equal(t, was, u)
		read, err := h.User(t.Context(), sys, alice)
		require.NoError(t, err)
		require.Equal(t, u, read)
	})
}

// edits are the methods that change a user and take a version.
var edits = map[string]func(context.Context, *house, ...denizen.UserVersion) (denizen.User, error){
	"SetScreenName": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.SetScreenName(ctx, sys, alice, "Alice", v...)
	},
	"BlockUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.BlockUser(ctx, sys, alice, v...)
	},
	"UnblockUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.UnblockUser(ctx, sys, alice, v...)
	},
	"SetLocators": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return h.SetLocators(ctx, sys, alice, []denizen.NewLocator{denizen.Email("alice@example.org")}, v...)
	},
	"DeleteUser": func(ctx context.Context, h *house, v ...denizen.UserVersion) (denizen.User, error) {
		return denizen.User{}, h.DeleteUser(ctx, sys, alice, v...)
	},
}

func TestAnEditHappensAtTheExpectedVersionAlone(t *testing.T) {
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				stale := h.create(t, alice).Version
				u, err := h.SetScreenName(t.Context(), sys, alice, "Meanwhile")
				require.NoError(t, err)
				before := invariant.Of(t, h.store)
				for _, v := range []denizen.UserVersion{0, stale, u.Version + 1} {
					_, err := edit(t.Context(), h, v)
					requireField(t, err, denizen.ErrConflict, "version")
				}
				_, err = edit(t.Context(), h, u.Version, stale)
				requireField(t, err, denizen.ErrConflict, "version")
				require.Equal(t, before, invariant.Of(t, h.store))
				_, err = edit(t.Context(), h, u.Version)
				require.NoError(t, err)
			})
		})
	}
}

func TestAnEditThatChangesNothingWritesNothing(t *testing.T) {
	for name, edit := range edits {
		if name == "DeleteUser" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
				h.create(t, alice)
				first, err := edit(t.Context(), h)
				require.NoError(t, err)
				before := invariant.Of(t, h.store)
				time.Sleep(time.Second)
				again, err := edit(t.Context(), h)
				require.NoError(t, err)
				require.Equal(t, first, again)
				require.Equal(t, before, invariant.Of(t, h.store))
			})
		})
	}
}

func TestABlockEndsTokensInItsOwnCommitAndUnblockingRevivesNone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		signed := newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed
		_, err := h.Authenticate(ctx, signed)
		require.NoError(t, err)
		before := invariant.Of(t, h.store).Feed.Head
		u, err := h.BlockUser(ctx, sys, alice)
		require.NoError(t, err)
		require.True(t, u.Blocked)
		require.Equal(t, before+1, invariant.Of(t, h.store).Feed.Head)
		invariant.Check(t, h.store)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		u, err = h.UnblockUser(ctx, sys, alice)
		require.NoError(t, err)
		require.False(t, u.Blocked)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		_, err = h.Authenticate(ctx, newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
	})
}

// furnish gives a user some of everything that is stored of users.
func furnish(t testing.TB, h *house, id denizen.UserID) {
	t.Helper()
	ctx := context.Background()
	_, err := h.AddLocator(ctx, h.as(t, id), id, denizen.Email("claim@example.org"))
	require.NoError(t, err)
	_, err = h.SetAttribute(ctx, sys, id, denizen.Attribute{Key: "bio", Value: "furnished"})
	require.NoError(t, err)
	chain := denizen.Online(time.Hour).Then(denizen.Offline())
	for range 2 { // the second is a heartbeat
		require.NoError(t, h.SetPresence(ctx, sys, id, chain))
		require.NoError(t, h.SetPresence(ctx, sys, id, chain.On("phone")))
		time.Sleep(time.Second / 10)
	}
	for range 2 {
		issued := newToken(t, h.Directory, id, denizen.TokenOptions{TTL: time.Hour})
		_, err = h.ExtendToken(ctx, sys, id, issued.ID, 2*time.Hour)
		require.NoError(t, err)
		_, err = h.Authenticate(ctx, issued.Signed)
		require.NoError(t, err)
	}
	time.Sleep(2 * time.Minute) // last uses are stored by now
	synctest.Wait()
}

// of answers the kinds of the records that name a user, by its id or its incarnation.
func of(t testing.TB, h *house, u denizen.User) (kinds []string) {
	t.Helper()
	for _, r := range invariant.Of(t, h.store).Records {
		if strings.Contains(string(r.Key), string(u.ID)) || strings.Contains(string(r.Value), string(u.ID)) || strings.Contains(string(r.Value), u.InternalID) {
			value, err := record.Decode(r.Key, r.Value)
			require.NoError(t, err)
			kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", value), "*record."))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func TestDeletingLeavesNothingOfTheUser(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		other := h.create(t, bob, denizen.Email("bob@example.org"))
		furnish(t, h, bob)
		u := h.create(t, alice, denizen.Email("alice@example.org"), denizen.Tele("+14155550132"))
		furnish(t, h, alice)
		require.Equal(t, []string{"AttributeRef", "Devices", "LastUses", "Owner", "Profile", "TokenText", "Tokens", "User"}, of(t, h, u), "a kind of record is not tried")
		before := invariant.Of(t, h.store)

		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		require.Empty(t, of(t, h, u))
		require.Equal(t, before.Feed.Head+1, invariant.Of(t, h.store).Feed.Head, "not one commit")
		require.Len(t, of(t, h, other), 8, "another lost something")
		invariant.Check(t, h.store)

		time.Sleep(3 * time.Hour) // nothing that was kept in memory comes back
		synctest.Wait()
		require.Empty(t, of(t, h, u))
		require.NoError(t, h.Close())
		require.Empty(t, of(t, h, u))
	})
}

func TestWhatADeletedUserHadIsFreeAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		locators := []denizen.NewLocator{denizen.Email("alice@example.org"), denizen.Tele("+14155550132")}
		h.create(t, alice, locators...)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		_, err := h.User(ctx, sys, alice)
		requireField(t, err, denizen.ErrNotFound, "user")
		users, err := h.UsersByLocator(ctx, sys, []string{"email:alice@example.org", "tele:+14155550132"})
		require.NoError(t, err)
		require.Empty(t, users)
		h.create(t, bob, locators...)
		h.create(t, alice)
		requireField(t, h.DeleteUser(ctx, sys, "nobody-1"), denizen.ErrNotFound, "user")
	})
}

func TestADefinitionThatOnlyADeletedUserUsedMayBeDropped(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		h.create(t, alice)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "bio"})
		require.NoError(t, err)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		require.NoError(t, h.DropAttributeDef(ctx, sys, "bio"))
	})
}

func TestAnIDTakenAgainInheritsNothing(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
		require.NoError(t, err)
		was := h.create(t, alice, denizen.Email("alice@example.org"))
		furnish(t, h, alice)
		by := h.as(t, alice)
		signed := newToken(t, h.Directory, alice, denizen.TokenOptions{}).Signed
		_, err = h.Authenticate(ctx, signed)
		require.NoError(t, err)
		require.NoError(t, h.SetPresence(ctx, by, alice, denizen.Online(time.Hour).Then(denizen.Offline())), "a last heartbeat")
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		now := h.create(t, alice)
		time.Sleep(2 * time.Hour) // and nothing is written behind its back
		synctest.Wait()

		require.NotEqual(t, was.InternalID, now.InternalID)
		require.Empty(t, now.Locators)
		_, err = h.Authenticate(ctx, signed)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		_, err = h.User(ctx, by, alice)
		require.ErrorIs(t, err, denizen.ErrRevoked)
		tokens, err := h.Tokens(ctx, sys, alice)
		require.NoError(t, err)
		require.Empty(t, tokens)
		p, err := h.Profile(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.Profile{User: alice, Attributes: []denizen.Attribute{}}, p)
		seen, err := h.Presence(ctx, sys, alice)
		require.NoError(t, err)
		require.Equal(t, denizen.UserPresence{User: alice}, seen)
		require.Equal(t, []string{"User"}, of(t, h, now))
		invariant.Check(t, h.store)
	})
}

func TestAnInternalIDIsNeverUsedAgain(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		seen := map[string]bool{}
		for range 30 {
			u := h.create(t, alice)
			require.False(t, seen[u.InternalID])
			seen[u.InternalID] = true
			require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		}
	})
}

var once = denizen.NewUser{
	ScreenName: "Alice", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")},
	Idempotency: denizen.Idempotency{Key: "request 7", Digest: "of its body"},
}

func TestAnIdempotencyKeyAnswersTheSameUserForADay(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		time.Sleep(23 * time.Hour) // so that the day ends between
		u, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		for _, passed := range []time.Duration{0, 2 * time.Hour, 22*time.Hour - time.Millisecond} {
			time.Sleep(passed)
			again, err := h.CreateUser(ctx, sys, once)
			require.NoError(t, err)
			require.Equal(t, u, again)
		}
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestAnIdempotencyKeyIsFreeAfterADay(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		time.Sleep(23 * time.Hour)
		first, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		_, err = h.CreateUser(ctx, sys, once)
		requireField(t, err, denizen.ErrTaken, "locator")
		require.NoError(t, h.DeleteUser(ctx, sys, first.ID))
		second, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		require.NotEqual(t, first.ID, second.ID)
	})
}

func TestIdempotencyKeysAreSweptWhenTheyAreOld(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		u, err := h.CreateUser(t.Context(), sys, once)
		require.NoError(t, err)
		require.Contains(t, of(t, h, u), "Created")
		time.Sleep(49 * time.Hour)
		synctest.Wait()
		require.NotContains(t, of(t, h, u), "Created")
	})
}

func TestAnIdempotencyKeyWithAnotherDigestIsRefused(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.CreateUser(ctx, sys, once)
		require.NoError(t, err)
		before := invariant.Of(t, h.store)
		other := once
		other.Idempotency.Digest = "of another body"
		_, err = h.CreateUser(ctx, sys, other)
		requireField(t, err, denizen.ErrConflict, "idempotency")
		require.Equal(t, before, invariant.Of(t, h.store))
	})
}

func TestAnIdempotencyKeyWhoseUserWasDeletedCreatesNoOther(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		n := once
		n.ID = alice
		_, err := h.CreateUser(ctx, sys, n)
		require.NoError(t, err)
		require.NoError(t, h.DeleteUser(ctx, sys, alice))
		_, err = h.CreateUser(ctx, sys, n)
		requireField(t, err, denizen.ErrNotFound, "user")
		// Nor does it answer a stranger who has the id by now.
		h.create(t, alice)
		_, err = h.CreateUser(ctx, sys, n)
		requireField(t, err, denizen.ErrNotFound, "user")
	})
}

func TestAnIdempotencyKeyMayBeAnyBytes(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		for _, text := range []string{"\x00", "\xff\xfe", strings.Repeat("k", 256), "é", "k"} {
			n := denizen.NewUser{ScreenName: "Alice", Idempotency: denizen.Idempotency{Key: text, Digest: text}}
			u, err := h.CreateUser(t.Context(), sys, n)
			require.NoError(t, err, "%q", text)
			again, err := h.CreateUser(t.Context(), sys, n)
			require.NoError(t, err, "%q", text)
			require.Equal(t, u, again)
		}
	})
}

func TestOfManyRequestsWithOneIdempotencyKeyOneCreates(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		const n = 24
		users, errs := make([]denizen.User, n), make([]error, n)
		var creating sync.WaitGroup
		for i := range n {
			creating.Go(func() { users[i], errs[i] = h.CreateUser(t.Context(), sys, once) })
		}
		creating.Wait()
		for i := range n {
			require.NoError(t, errs[i])
			require.Equal(t, users[0], users[i])
		}
		requireCount(t, h.Directory, 1)
	})
}

func TestAReferenceIsResolved(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice, denizen.Email("alice@example.org"))
		h.create(t, bob, denizen.Email("bob@example.org"))
		_, err := h.AddLocator(ctx, h.as(t, alice), alice, denizen.Email("claim@example.org"))
		require.NoError(t, err)
		for _, row := range []struct {
			what  string
			by    denizen.Principal
			ref   string
			want  denizen.UserID
			kind  error
			field string
		}{
			{"an id is itself, whether or not it is there", sys, "nobody-1", "nobody-1", nil, ""},
			{"to a user too", h.as(t, alice), "nobody-1", "nobody-1", nil, ""},
			{"what is none is refused", sys, "short", "", denizen.ErrInvalid, "user"},
			{"nothing is refused", sys, "", "", denizen.ErrInvalid, "user"},
			{"me is the acting user", h.as(t, alice), "me", alice, nil, ""},
			{"me is not .system", sys, "me", "", denizen.ErrDenied, "user"},
			{"nobody is me", denizen.Principal{}, "me", "", denizen.ErrDenied, ""},
			{"a locator is its owner to .system", sys, "email:ALICE@example.org", alice, nil, ""},
			{"a locator of nobody is not found", sys, "email:nobody@example.org", "", denizen.ErrNotFound, "locator"},
			{"nor is a claim", sys, "email:claim@example.org", "", denizen.ErrNotFound, "locator"},
			{"a bad locator is refused", sys, "email:x", "", denizen.ErrInvalid, "locator"},
			{"a user's own locator is itself", h.as(t, alice), "email:Alice@Example.org", alice, nil, ""},
			{"its claim is not", h.as(t, alice), "email:claim@example.org", "", denizen.ErrDenied, ""},
			{"another's locator is another user", h.as(t, alice), "email:bob@example.org", "", denizen.ErrDenied, ""},
			{"so is nobody's", h.as(t, alice), "email:nobody@example.org", "", denizen.ErrDenied, ""},
			{"a bad one is refused to a user too", h.as(t, alice), "email:x", "", denizen.ErrInvalid, "locator"},
		} {
			id, err := h.ResolveUser(ctx, row.by, row.ref)
			require.Equal(t, row.want, id, row.what)
			if row.kind == nil {
				require.NoError(t, err, row.what)
			} else {
				requireField(t, err, row.kind, row.field)
			}
		}
	})
}

func TestAReferenceIsNotResolvedOnceTheDirectoryIsClosed(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	require.NoError(t, d.Close())
	_, err := d.ResolveUser(t.Context(), sys, "alice-01")
	require.ErrorIs(t, err, denizen.ErrClosed)
}

func TestWhatIsReturnedBelongsToTheCaller(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		want := h.create(t, alice, denizen.Email("alice@example.org"))
		want.Locators = slices.Clone(want.Locators)
		for range 2 { // what the second call answers is remembered
			u, err := h.User(ctx, sys, alice)
			require.NoError(t, err)
			require.Equal(t, want, u)
			u.Locators[0] = denizen.Locator{}
			locators, err := h.Locators(ctx, sys, alice)
			require.NoError(t, err)
			locators[0] = denizen.Locator{}
		}
	})
}

func TestAnEmptyIDIsInvalidForTheApplicationToo(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	for name, call := range map[string]func() error{
		"User":            func() error { _, err := d.User(t.Context(), sys, ""); return err },
		"UsersByID":       func() error { _, err := d.UsersByID(t.Context(), sys, []denizen.UserID{""}); return err },
		"SetScreenName":   func() error { _, err := d.SetScreenName(t.Context(), sys, "", "Bob"); return err },
		"DeleteUser":      func() error { return d.DeleteUser(t.Context(), sys, "") },
		"Locators":        func() error { _, err := d.Locators(t.Context(), sys, ""); return err },
		"Profile":         func() error { _, err := d.Profile(t.Context(), sys, ""); return err },
		"Presence":        func() error { _, err := d.Presence(t.Context(), sys, ""); return err },
		"SetPresence":     func() error { return d.SetPresence(t.Context(), sys, "", denizen.Online()) },
		"IssueToken":      func() error { _, err := d.IssueToken(t.Context(), sys, "", denizen.TokenOptions{}); return err },
		"RevokeAllTokens": func() error { return d.RevokeAllTokens(t.Context(), sys, "") },
	} {
		t.Run(name, func(t *testing.T) { requireField(t, call(), denizen.ErrInvalid, "user") })
	}
}

func TestWhoAsksForSeveralIsToldWhichAreMissing(t *testing.T) {
	seen := func(_ context.Context, _, of denizen.UserID, _ denizen.Facet) (bool, error) {
		return of != "hidden-01", nil
	}
	inHouses(t, denizen.Options{MaySee: seen}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		h.create(t, bob)
		for _, by := range []denizen.Principal{sys, h.as(t, bob)} {
			_, err := h.UsersByID(ctx, by, []denizen.UserID{"nobody-01", alice, "nobody-02"})
			requireField(t, err, denizen.ErrNotFound, "user")
			require.Equal(t, []string{"nobody-01", "nobody-02"}, err.(*denizen.Error).Missing)
			require.Equal(t, "denizen: UsersByID: user: not found", err.Error())
		}
		_, err := h.UsersByID(ctx, h.as(t, bob), []denizen.UserID{"nobody-01", alice, "hidden-01"})
		require.ErrorIs(t, err, denizen.ErrDenied)
		require.Nil(t, err.(*denizen.Error).Missing, "who may not know one learns of none")

		_, err = h.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "secret", VisibleTo: denizen.ToSystem, WritableBy: denizen.ToSystem})
		require.NoError(t, err)
		_, err = h.SetAttribute(ctx, sys, alice, denizen.Attribute{Key: "secret", Value: "x"})
		require.NoError(t, err)
		_, err = h.Attributes(ctx, h.as(t, alice), alice, []string{"secret", "none"})
		requireField(t, err, denizen.ErrNotFound, "attribute")
		require.Equal(t, []string{"secret", "none"}, err.(*denizen.Error).Missing)
		_, err = h.Attributes(ctx, sys, alice, []string{"secret", "none"})
		require.Equal(t, []string{"none"}, err.(*denizen.Error).Missing)
		given := []denizen.Attribute{{Key: "none"}, {Key: "secret"}, {Key: "nor this"}}
		_, err = h.SetAttributes(ctx, sys, alice, given, denizen.Merge)
		requireField(t, err, denizen.ErrInvalid, "key")
		require.Equal(t, []string{"none", "nor this"}, err.(*denizen.Error).Missing)
		_, err = h.SetAttributes(ctx, h.as(t, alice), alice, given[1:2], denizen.Merge)
		requireField(t, err, denizen.ErrDenied, "key")
		require.Equal(t, []string{"secret"}, err.(*denizen.Error).Missing)
	})
}
