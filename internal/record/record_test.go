package record

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

// kinds is every kind of record: its name in the value, a key it may have, and an
// empty one. An event has no key.
var kinds = []struct {
	name string
	key  store.Key
	new  func() Record
}{
	{"directory", DirectoryKey, func() Record { return new(Directory) }},
	{"signingKeys", SigningKeysKey, func() Record { return new(SigningKeys) }},
	{"accessKeys", AccessKeysKey, func() Record { return new(AccessKeys) }},
	{"user", UserKey("alice-01"), func() Record { return new(User) }},
	{"owner", OwnerKey("email:a@b.example"), func() Record { return new(Owner) }},
	{"unique", UniqueKey("name:a"), func() Record { return new(Unique) }},
	{"rest", RestKey([32]byte{}), func() Record { return new(Rest) }},
	{"alias", AliasKey("alice-01"), func() Record { return new(Alias) }},
	{"profile", ProfileKey("alice-01"), func() Record { return new(Profile) }},
	{"definition", DefinitionKey("bio"), func() Record { return new(Definition) }},
	{"use", AttributeRefKey("bio", "alice-01"), func() Record { return new(AttributeRef) }},
	{"devices", DevicesKey("alice-01"), func() Record { return new(Devices) }},
	{"here", HereKey(1, "alice-01"), func() Record { return new(Here) }},
	{"tokens", TokensKey("alice-01"), func() Record { return new(Tokens) }},
	{"grant", TokenTextKey([32]byte{}), func() Record { return new(TokenText) }},
	{"uses", LastUsesKey("alice-01"), func() Record { return new(LastUses) }},
	{"active", ActiveKey("alice-01"), func() Record { return new(Active) }},
	{"consumer", ConsumerKey("indexer"), func() Record { return new(Consumer) }},
	{"nonce", NonceKey(1, "key", "nonce"), func() Record { return new(Nonce) }},
	{"created", CreatedKey(1, "key"), func() Record { return new(Created) }},
	{"proof", ProofKey(1, [32]byte{}), func() Record { return new(Proof) }},
	{"starts", StartsKey(1, [32]byte{}), func() Record { return new(Starts) }},
	{"userProofs", UserProofsKey("alice-01"), func() Record { return new(UserProofs) }},
	{"undo", UndoKey([32]byte{}), func() Record { return new(Undo) }},
	{"event", "", func() Record { return new(Event) }},
}

// decodeAs reads a value as Decode or DecodeEvent does.
func decodeAs(key store.Key, value []byte) (any, error) {
	if key == "" {
		e, err := DecodeEvent(value)
		return &e, err
	}
	return Decode(key, value)
}

// strange are strings that an encoder may get wrong.
var strange = []string{
	"", "x", `"`, `\`, `\\"`, "\u0001\u001f\b\f\n\r\t", "\u007f", "é", "日本語", "👩‍👧", "<>&", "\u2028\u2029", "\ufffd",
	`\u0041`, "null", "true", "0", "{}", "[,]", `{"kind":"user"}`, strings.Repeat("long ", 99),
}

// fill gives v a value of which little is left to chance that might be forgotten: strange
// strings, extreme numbers, lists of none to three.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strange[r.IntN(len(strange))])
	case reflect.Int64:
		v.SetInt([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1_800_000_000_123, r.Int64()}[r.IntN(7)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(r, v.Index(i))
			}
		}
	default:
		panic(v.Kind())
	}
}

// eachFilled calls do with many records of each kind.
func eachFilled(t *testing.T, do func(t *testing.T, r *rand.Rand, key store.Key, filled Record)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 100 {
				filled := k.new()
				fill(r, reflect.ValueOf(filled).Elem())
				do(t, r, k.key, filled)
			}
		})
	}
}

func TestWhatIsEncodedIsDecodedAgain(t *testing.T) {
	eachFilled(t, func(t *testing.T, _ *rand.Rand, key store.Key, filled Record) {
		got, err := decodeAs(key, Encode(filled))
		require.NoError(t, err)
		require.Equal(t, filled, got)
	})
}

func TestAValueIsWhatAStoreTakes(t *testing.T) {
	eachFilled(t, func(t *testing.T, _ *rand.Rand, _ store.Key, filled Record) {
		require.NoError(t, store.CheckValue(Encode(filled)))
	})
}

func TestEncodingTwiceIsTheSame(t *testing.T) {
	eachFilled(t, func(t *testing.T, _ *rand.Rand, key store.Key, filled Record) {
		first := Encode(filled)
		again, err := decodeAs(key, first)
		require.NoError(t, err)
		require.Equal(t, string(first), string(Encode(again.(Record))))
	})
}

// plain returns what encoding/json should find in the value of a record: its fields by
// their names, but for those that are empty, zero or false.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Int64:
		return json.Number(strconv.FormatInt(v.Int(), 10))
	case reflect.Bool:
		return v.Bool()
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	}
	members := map[string]any{}
	for i := range v.NumField() {
		f := v.Field(i)
		if !f.IsZero() {
			members[memberOf(v.Type().Field(i).Name)] = plain(f)
		}
	}
	return members
}

// memberOf returns the member that a field becomes: ApplicationID is applicationId.
func memberOf(field string) string {
	name := []rune(strings.Replace(field, "ID", "Id", 1))
	name[0] = unicode.ToLower(name[0])
	return string(name)
}

func TestEncodingAgreesWithEncodingJSON(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for range 100 {
				filled := k.new()
				fill(r, reflect.ValueOf(filled).Elem())
				want := plain(reflect.ValueOf(filled).Elem()).(map[string]any)
				want["kind"] = k.name
				require.Equal(t, want, unmarshal(t, Encode(filled)))
			}
		})
	}
}

func unmarshal(t testing.TB, value []byte) (members map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(value)))
	d.UseNumber()
	require.NoError(t, d.Decode(&members), "%s", value)
	return members
}

// respell writes a value as another store might: members in the order of PostgreSQL's
// jsonb (shorter names first) or any other, spaces where they may be, characters escaped
// that need not be.
func respell(r *rand.Rand, v any) string {
	space := func() string { return []string{"", " ", "\n\t", "\r "}[r.IntN(4)] }
	switch v := v.(type) {
	case string:
		var b strings.Builder
		b.WriteByte('"')
		for _, c := range v {
			switch {
			case c == '/' && r.IntN(2) == 0:
				b.WriteString(`\/`)
			case c == '\n' && r.IntN(2) == 0:
				b.WriteString(`\n`)
			case c < ' ' || c == '"' || c == '\\' || c < 0x10000 && r.IntN(4) == 0:
				b.WriteString(`\u`)
				h := strconv.FormatInt(int64(c)+0x10000, 16)[1:]
				if r.IntN(2) == 0 {
					h = strings.ToUpper(h)
				}
				b.WriteString(h)
			default:
				b.WriteRune(c)
			}
		}
		return b.String() + `"`
	case []any:
		parts := []string{}
		for _, e := range v {
			parts = append(parts, space()+respell(r, e)+space())
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		if r.IntN(2) == 0 {
			slices.SortFunc(names, func(a, b string) int {
				if len(a) != len(b) {
					return len(a) - len(b)
				}
				return strings.Compare(a, b)
			})
		}
		parts := []string{}
		for _, name := range names {
			parts = append(parts, space()+respell(r, name)+space()+":"+space()+respell(r, v[name])+space())
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestAStoreMaySpellAValueAnew(t *testing.T) {
	eachFilled(t, func(t *testing.T, r *rand.Rand, key store.Key, filled Record) {
		value := []byte("\n " + respell(r, unmarshal(t, Encode(filled))) + "\t")
		got, err := decodeAs(key, value)
		require.NoError(t, err, "%s", value)
		require.Equal(t, filled, got, "%s", value)
	})
}

func TestMembersThatAreNotKnownAreIgnored(t *testing.T) {
	for _, more := range []string{`1`, `-1.5e9`, `true`, `null`, `"x"`, `"\"}"`, `{}`, `[]`, `{"a":[{"b":"]}"}]}`, `[[["["]]]`} {
		value := `{"newer":` + more + `,"kind":"use","user":"alice-01","older":` + more + `}`
		got, err := Decode(AttributeRefKey("bio", "alice-01"), []byte(value))
		require.NoError(t, err, value)
		require.Equal(t, &AttributeRef{User: "alice-01"}, got, value)
	}
}

func TestAValueOfAnotherKindIsRefused(t *testing.T) {
	for _, lies := range kinds {
		for _, is := range kinds {
			_, err := decodeAs(lies.key, Encode(is.new()))
			if lies.name == is.name {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrCorrupt, "%s read as %s", is.name, lies.name)
			}
		}
	}
}

func TestAKeyOfNoKnownKindIsRefused(t *testing.T) {
	known := map[byte]bool{}
	for _, k := range kinds {
		if k.key != "" {
			known[k.key[0]] = true
		}
	}
	for b := range 256 {
		if !known[byte(b)] {
			_, err := Decode(store.Key([]byte{byte(b), 'x'}), []byte(`{"kind":"user"}`))
			require.ErrorIs(t, err, ErrCorrupt, "%q", b)
		}
	}
}

func TestAMalformedValueIsRefused(t *testing.T) {
	for what, value := range map[string]string{
		"nothing":                      ``,
		"spaces":                       `  `,
		"null":                         `null`,
		"a list":                       `[]`,
		"a string":                     `"user"`,
		"no kind":                      `{}`,
		"a kind that is no string":     `{"kind":1}`,
		"text after it":                `{"kind":"user"}x`,
		"two objects":                  `{"kind":"user"}{}`,
		"no end":                       `{"kind":"user"`,
		"no colon":                     `{"kind""user"}`,
		"no value":                     `{"kind":}`,
		"no comma":                     `{"kind":"user" "id":"x"}`,
		"a comma too many":             `{"kind":"user",}`,
		"a comma first":                `{,"kind":"user"}`,
		"a name without quotes":        `{kind:"user"}`,
		"a name that is a number":      `{1:2,"kind":"user"}`,
		"a name with a bad escape":     `{"\q":1,"kind":"user"}`,
		"a string without end":         `{"kind":"user","id":"x}`,
		"a string that ends escaped":   `{"kind":"user","id":"x\"}`,
		"a bad escape":                 `{"kind":"user","id":"\q"}`,
		"half an escape":               `{"kind":"user","id":"\u12"}`,
		"a number for a string":        `{"kind":"user","id":1}`,
		"null for a string":            `{"kind":"user","id":null}`,
		"an object for a string":       `{"kind":"user","id":{}}`,
		"a string for a number":        `{"kind":"user","created":"1"}`,
		"half a number":                `{"kind":"user","created":1.5}`,
		"a number too great":           `{"kind":"user","created":9223372036854775808}`,
		"a number that is a word":      `{"kind":"user","created":soon}`,
		"a number for a truth":         `{"kind":"user","blocked":1}`,
		"a string for a truth":         `{"kind":"user","blocked":"true"}`,
		"half a truth":                 `{"kind":"user","blocked":tru}`,
		"an object for a list":         `{"kind":"user","locators":{}}`,
		"a list without end":           `{"kind":"user","locators":[`,
		"a list closed by a brace":     `{"kind":"user","locators":[}`,
		"a string in a list of those":  `{"kind":"user","locators":["x"]}`,
		"a list without a comma":       `{"kind":"user","locators":[{}{}]}`,
		"a list with a comma more":     `{"kind":"user","locators":[{},]}`,
		"a bad element":                `{"kind":"user","locators":[{"id":}]}`,
		"a bad element after others":   `{"kind":"user","locators":[{"id":"a"},{"id":1},{"id":"b"}]}`,
		"a member twice":               `{"kind":"user","id":"a","id":"a"}`,
		"a kind twice":                 `{"kind":"user","kind":"user"}`,
		"a member twice, one escaped":  `{"kind":"user","id":"a","\u0069d":"a"}`,
		"a member of an element twice": `{"kind":"user","locators":[{"id":"a","id":"a"}]}`,
		"an unknown member twice":      `{"kind":"user","x":1,"x":2}`,
	} {
		_, err := Decode(UserKey("alice-01"), []byte(value))
		require.ErrorIs(t, err, ErrCorrupt, what)
	}
}

func TestAListOfStringsHoldsStrings(t *testing.T) {
	for _, list := range []string{`"x"`, `{}`, `[1]`, `["x",null]`, `["x"`, `["x" "y"]`, `[["x"]]`} {
		_, err := DecodeEvent([]byte(`{"kind":"event","subjects":` + list + `}`))
		require.ErrorIs(t, err, ErrCorrupt, list)
	}
}

func TestAValueThatIsCutShortIsRefused(t *testing.T) {
	eachFilled(t, func(t *testing.T, r *rand.Rand, key store.Key, filled Record) {
		value := Encode(filled)
		_, err := decodeAs(key, value[:r.IntN(len(value))])
		require.ErrorIs(t, err, ErrCorrupt)
	})
}

func TestARefusalSaysNothingOfTheValue(t *testing.T) {
	_, err := Decode(UserKey("alice-01"), []byte(`{"kind":"user","id":"secret"`))
	require.NotContains(t, err.Error(), "secret")
}

func TestTextThatIsNotUTF8IsEncodedAsEncodingJSONDoes(t *testing.T) {
	for _, s := range []string{"\xff", "a\xffb", "\xc3", "\xed\xa0\x80", "é\xff\xfe日"} {
		var want string
		quoted, err := json.Marshal(s)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(quoted, &want))
		got, err := Decode(UserKey("x"), Encode(&User{ID: s}))
		require.NoError(t, err)
		require.Equal(t, want, got.(*User).ID)
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for i, k := range kinds {
		filled := k.new()
		fill(r, reflect.ValueOf(filled).Elem())
		f.Add(byte(i), Encode(filled))
		f.Add(byte(i), []byte(respell(r, unmarshal(f, Encode(filled)))))
	}
	f.Add(byte(3), []byte(`{"kind":"user","locators":[{"id":"a","id":"a"}]}`))
	f.Add(byte(3), []byte(`{"kind":"user","x":[{]}}`))
	f.Fuzz(func(t *testing.T, i byte, value []byte) {
		k := kinds[int(i)%len(kinds)]
		got, err := decodeAs(k.key, value)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		encoded := Encode(got.(Record))
		require.True(t, json.Valid(encoded), "%s", encoded)
		// What is not UTF-8 in a value stays so once it is encoded.
		again, err := decodeAs(k.key, encoded)
		require.NoError(t, err, "%s", encoded)
		require.Equal(t, string(encoded), string(Encode(again.(Record))))
		if !json.Valid(value) {
			return
		}
		// Of what encoding/json takes, it understands the same.
		members := unmarshal(t, value)
		require.Equal(t, k.name, members["kind"])
		for name, want := range unmarshal(t, encoded) {
			if _, list := want.([]any); !list {
				require.Equal(t, want, members[name], name)
			}
		}
	})
}

func BenchmarkDecodeUser(b *testing.B) {
	user := User{
		ID: "alice-of-wonderland", Incarnation: "01890a5d-ac96-774b-bcce-b302099a8057", ScreenName: "Alice Liddell",
		Created: 1_800_000_000_123, Updated: 1_800_000_000_456,
		Locators: []Locator{
			{ID: "PYEVXEBPNFMTVGD3WGZBRTEJXB", Type: "email", Canonical: "alice@example.org", Raw: "Alice@example.org", Status: "Verified", Owned: true, Added: 1_800_000_000_123, Verified: 1_800_000_000_200},
			{ID: "CAQ6BHTMRCBDFYLBFTW2RIYJ5C", Type: "tele", Canonical: "+14155550132", Raw: "+1 415 555 0132", Status: "StatusNotProvided", Owned: true, Added: 1_800_000_000_123},
		},
	}
	value, key := Encode(&user), UserKey(user.ID)
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(key, value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var u User
			if err := json.Unmarshal(value, &u); err != nil {
				b.Fatal(err)
			}
		}
	})
}
