package record

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/store"
)

// awkward are parts of keys that might run into each other.
var awkward = []string{"a", "b", "ab", "aa", "a\x00", "\x00", "\x00\x00", "\x00\x01a", "@#$-_abc", "bio", "biography", strings.Repeat("x", 300)}

func TestNoTwoRecordsShareAKey(t *testing.T) {
	seen := map[store.Key][]any{}
	see := func(key store.Key, parts ...any) {
		t.Helper()
		require.NotContains(t, seen, key, "%v and %v", seen[key], parts)
		seen[key] = parts
	}
	see(DirectoryKey, "directory")
	see(SigningKeysKey, "signing keys")
	see(AccessKeysKey, "access keys")
	see(LastUsesKey(""), "uses of access keys")
	for _, a := range awkward {
		see(UserKey(a), "user", a)
		see(AliasKey(a), "alias", a)
		see(ProfileKey(a), "profile", a)
		see(DevicesKey(a), "devices", a)
		see(TokensKey(a), "tokens", a)
		see(LastUsesKey(a), "uses", a)
		see(ActiveKey(a), "active", a)
		see(OwnerKey(a), "owner", a)
		see(DefinitionKey(a), "definition", a)
		for i, b := range awkward {
			see(AttributeRefKey(a, b), "use", a, b)
			see(CreatedKey(int64(i), a), "created", i, a)
			see(HereKey(int64(i), a), "here", i, a)
			for minute := range int64(3) {
				see(NonceKey(minute, a, b), "nonce", minute, a, b)
			}
		}
	}
	for _, digest := range [][32]byte{{}, {1}, {31: 1}} {
		see(TokenTextKey(digest), "grant", digest)
	}
}

func TestWhatLiesUnderAnAttributeIsItsUsesAlone(t *testing.T) {
	for _, attribute := range awkward {
		for _, other := range awkward {
			for _, user := range awkward {
				require.Equal(t, attribute == other, AttributeRefKey(other, user).HasPrefix(AttributeRefsOf(attribute)), "%q under %q", other, attribute)
			}
		}
	}
}

func TestTheRangesThatAreWalkedHoldOneKindEach(t *testing.T) {
	ranges := map[store.Key]string{Users: "user", Definitions: "definition", AllTokens: "tokens", Nonces: "nonce", Creations: "created", Heres: "here", Aliases: "alias"}
	for under, name := range ranges {
		for _, k := range kinds {
			require.Equal(t, k.name == name, k.key.HasPrefix(under) && k.key != "", "%s under %q", k.name, under)
		}
	}
}

func TestUsersLieInTheOrderOfTheirIDs(t *testing.T) {
	ids := []string{"#hashtag", "00000000", "@handle-", "ADMIN123", "admin123", "alice-01", "alice-010"}
	require.True(t, slices.IsSorted(ids))
	require.True(t, slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(string(UserKey(a)), string(UserKey(b))) }))
}

func TestNoncesLieInTheOrderOfTheirMinutes(t *testing.T) {
	minutes := []int64{0, 1, 255, 256, 65_535, 30_000_000, 1 << 40}
	for i, minute := range minutes {
		for j, before := range minutes {
			for _, nonce := range awkward {
				require.Equal(t, i < j, NoncesBefore(NonceKey(minute, nonce, nonce), before), "%d before %d", minute, before)
			}
		}
	}
}

func TestCreationsLieInTheOrderOfTheirDays(t *testing.T) {
	days := []int64{0, 1, 255, 256, 20_000, 1 << 40}
	for i, day := range days {
		for j, before := range days {
			for _, key := range awkward {
				require.Equal(t, i < j, CreationsBefore(CreatedKey(day, key), before), "%d before %d", day, before)
			}
		}
	}
}

func TestPartsAreTheKindAndTheWholeOfAKeyOfOnePart(t *testing.T) {
	for _, id := range awkward {
		kind, rest := Parts(UserKey(id))
		require.Equal(t, byte('u'), kind)
		require.Equal(t, id, rest)
	}
	kind, rest := Parts(DirectoryKey)
	require.Equal(t, byte('d'), kind)
	require.Empty(t, rest)
}

func TestTheLongestKeysAreKeysOfAStore(t *testing.T) {
	attribute := strings.Repeat("\U0001F600", 128)
	id := strings.Repeat("a", 72)
	require.NoError(t, store.CheckKeys(
		AttributeRefKey(attribute, id), DefinitionKey(attribute), UserKey(id), OwnerKey("email:"+strings.Repeat("a", 254)),
		NonceKey(1, strings.Repeat("a", 128), strings.Repeat("n", 128)), CreatedKey(1, strings.Repeat("f", 64)),
	))
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("a\x00\x01", "b", "a", "\x00\x01b")
	f.Add("", "", "\x00\x00", "")
	f.Add("bio", "graphy-1", "biography", "-1")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if len(a) >= 1<<16 || len(c) >= 1<<16 {
			return // no part is as long
		}
		same := a == c && b == d
		require.Equal(t, same, AttributeRefKey(a, b) == AttributeRefKey(c, d))
		require.Equal(t, same, NonceKey(1, a, b) == NonceKey(1, c, d))
		require.Equal(t, a == c, AttributeRefKey(a, b).HasPrefix(AttributeRefsOf(c)))
		require.Equal(t, a == c, CreatedKey(7, a) == CreatedKey(7, c))
		require.Equal(t, strings.Compare(a, c), strings.Compare(string(UserKey(a)), string(UserKey(c))))
		require.False(t, NoncesBefore(NonceKey(7, a, b), 7))
		require.True(t, NoncesBefore(NonceKey(7, a, b), 8))
	})
}

// placeOf returns the place of somebody who was not here before.
func placeOf(user string, d presence.Device) int64 {
	r := &Devices{User: user, Devices: []presence.Device{d}}
	r.PlaceHere(&Devices{})
	return r.Here
}

func TestWhoIsHereIsFoundFromTheFirstHourOn(t *testing.T) {
	for i := range 1000 {
		user := "user-" + strings.Repeat("x", i%7) + string(rune('a'+i%26))
		end := int64(1_800_000_000_000) + int64(i)*123_457
		place := placeOf(user, presence.Device{Start: end - 60_000, Chain: presence.Chain{{State: presence.Online, Seconds: 60}}})
		gotPlace, gotUser := HereOf(HereKey(place, user))
		require.Equal(t, []any{place, user}, []any{gotPlace, gotUser})
		require.False(t, HeresBefore(HereKey(place, user), HereFrom(end-1)), "it is here, and not found")
		require.True(t, HeresBefore(HereKey(place, user), HereFrom(end+3*3_600_000)), "it is long gone, and looked at")
		require.Less(t, HereKey(place, user), PermanentHereKey(""), "a permanent one is last")
	}
	require.Equal(t, PermanentHereKey("u"), HereKey(placeOf("u", presence.Device{Start: 1e12, Chain: presence.Chain{{State: presence.Online}}}), "u"))
	require.Zero(t, placeOf("u", presence.Device{Chain: presence.Chain{{State: presence.Offline}}}))
}
