package locator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

func requireRefused(t *testing.T, err error, rule string) {
	t.Helper()
	var refused *locator.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "locator", refused.Field)
	require.Contains(t, refused.Reason, rule)
	require.Equal(t, "locator: "+refused.Reason, err.Error())
}

// requireOneForm checks the invariants of an accepted locator: its canonical form is its own
// canonical form, and a lookup finds what was stored.
func requireOneForm(t *testing.T, l locator.Locator, raw string) {
	t.Helper()
	require.Equal(t, raw, l.Raw)
	require.Equal(t, string(l.Type)+":"+l.Canonical, l.Serialized())

	found, err := locator.Canonical(string(l.Type) + ":" + raw)
	require.NoError(t, err)
	require.Equal(t, l.Serialized(), found)

	again, err := locator.New(l.Type, l.Canonical)
	require.NoError(t, err)
	require.Equal(t, locator.Locator{Type: l.Type, Canonical: l.Canonical, Raw: l.Canonical}, again)
}

// requireSafe checks the invariants for any input, and reports whether it was accepted as new.
func requireSafe(t *testing.T, kind locator.Type, raw string) bool {
	t.Helper()
	found, shapeErr := locator.Canonical(string(kind) + ":" + raw)
	if shapeErr == nil {
		again, err := locator.Canonical(found)
		require.NoError(t, err)
		require.Equal(t, found, again)
	}
	l, err := locator.New(kind, raw)
	if err == nil {
		requireOneForm(t, l, raw)
		return true
	}
	require.Empty(t, l)
	var refused *locator.Error
	require.ErrorAs(t, err, &refused)
	if shapeErr != nil {
		require.Equal(t, shapeErr, err)
		require.Empty(t, found)
	}
	return false
}

func TestASerializedLocatorIsParsedByItsType(t *testing.T) {
	for serialized, want := range map[string]locator.Locator{
		"email:Alice@Example.org": {Type: locator.Email, Canonical: "alice@example.org", Raw: "Alice@Example.org"},
		"tele:+1 650-253-0000":    {Type: locator.Tele, Canonical: "+16502530000", Raw: "+1 650-253-0000"},
	} {
		t.Run(serialized, func(t *testing.T) {
			got, err := locator.Parse(serialized)
			require.NoError(t, err)
			require.Equal(t, want, got)
			requireOneForm(t, got, want.Raw)
		})
	}
}

var malformedSerialized = []struct{ serialized, rule string }{
	{"", "type, a colon and an address"},
	{"alice@example.org", "type, a colon and an address"},
	{"+16502530000", "type, a colon and an address"},
	{"email", "type, a colon and an address"},
	{":alice@example.org", "neither email nor tele"},
	{"Email:alice@example.org", "neither email nor tele"},
	{"TELE:+16502530000", "neither email nor tele"},
	{"tel:+16502530000", "neither email nor tele"},
	{"mailto:alice@example.org", "neither email nor tele"},
	{" email:alice@example.org", "neither email nor tele"},
	{"email :alice@example.org", "neither email nor tele"},
	{"email\x00:alice@example.org", "neither email nor tele"},
	{"@email:alice@example.org", "neither email nor tele"},
	{"email:", "no @"},
	{"email:+16502530000", "no @"},
	{"email: alice@example.org", "local part"},
	{"email:email:alice@example.org", "local part"},
	{"tele:", "begin with +"},
	{"tele:alice@example.org", "begin with +"},
	{"tele: +16502530000", "begin with +"},
	{"tele:tele:+16502530000", "begin with +"},
}

func TestAMalformedSerializedLocatorIsRefused(t *testing.T) {
	for _, row := range malformedSerialized {
		t.Run(row.serialized, func(t *testing.T) {
			l, err := locator.Parse(row.serialized)
			requireRefused(t, err, row.rule)
			require.Empty(t, l)

			found, err := locator.Canonical(row.serialized)
			requireRefused(t, err, row.rule)
			require.Empty(t, found)
		})
	}
}

func TestALocatorOfAnUnknownTypeIsRefused(t *testing.T) {
	for _, kind := range []locator.Type{"", "EMAIL", "Tele", "fax", "email:"} {
		_, err := locator.New(kind, "alice@example.org")
		requireRefused(t, err, "neither email nor tele")
	}
}

func TestARefusalRepeatsNothingOfTheInput(t *testing.T) {
	for _, serialized := range []string{
		"sesame:x", "sesame", "email:sesame", "email:sesame@", "email:@sesame.sesame", "email:sesame@sesame",
		"email:sesame sesame@example.org", "email:a@xn--sesame-0.example", "email:a@-sesame.example",
		"email:" + strings.Repeat("sesame", 60), "tele:sesame", "tele:+sesame", "tele:+1999sesame",
		"tele:+1650" + strings.Repeat("sesame", 20),
	} {
		_, err := locator.Parse(serialized)
		require.Error(t, err, serialized)
		require.NotContains(t, err.Error(), "sesame")
	}
	for _, number := range []string{"+999123456789", "+4402070313000", "+123456", "+1234567890123456"} {
		_, err := locator.New(locator.Tele, number)
		require.Error(t, err, number)
		require.NotContains(t, err.Error(), number[1:])
	}
}

func TestWhatIsCanonicalAlreadyIsNotCopied(t *testing.T) {
	for _, serialized := range []string{"email:alice@example.org", "tele:+16502530000", "email:a@xn--mnchen-3ya.de"} {
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := locator.Canonical(serialized); err != nil {
				panic(err)
			}
		})
		require.Zero(t, allocs, serialized)
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := locator.Parse("email:alice@example.org"); err != nil {
			panic(err)
		}
	})
	require.Zero(t, allocs)
}

func BenchmarkParse(b *testing.B) {
	for _, row := range []struct{ name, serialized string }{
		{"email", "email:alice.liddell@mail.example.org"},
		{"email in capitals", "email:Alice.Liddell@Mail.Example.ORG"},
		{"email with an A-label", "email:alice@xn--mnchen-3ya.de"},
		{"tele", "tele:+16502530000"},
		{"tele with separators", "tele:+1 (650) 253-0000"},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := locator.Parse(row.serialized); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	for _, row := range []struct{ name, serialized string }{
		{"email", "email:alice.liddell@mail.example.org"},
		{"email in capitals", "email:Alice.Liddell@Mail.Example.ORG"},
		{"tele", "tele:+16502530000"},
		{"tele with separators", "tele:+1 (650) 253-0000"},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := locator.Canonical(row.serialized); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
