package locator_test

import (
	"net/mail"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

// What is accepted must be the same bare address to net/mail, a reader of RFC 5322 that shares no
// code with this package, and the same locator in any mix of case.
func FuzzEmail(f *testing.F) {
	for _, row := range goodEmails {
		f.Add(row.raw)
	}
	for _, row := range badEmails {
		f.Add(row.raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if !requireSafe(t, locator.Email, raw) {
			return
		}
		l, err := locator.New(locator.Email, raw)
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), 254)
		require.NotContains(t, raw, ",")

		parsed, err := mail.ParseAddress(raw)
		require.NoError(t, err)
		require.Equal(t, &mail.Address{Address: raw}, parsed)
		list, err := mail.ParseAddressList(raw)
		require.NoError(t, err)
		require.Len(t, list, 1)

		if l.Canonical != strings.ToLower(raw) {
			return // beyond ASCII a change of case may lose information
		}
		for _, spelling := range []string{strings.ToUpper(raw), strings.ToLower(raw)} {
			same, err := locator.New(locator.Email, spelling)
			require.NoError(t, err)
			require.Equal(t, l.Canonical, same.Canonical)
		}
	})
}

var e164 = regexp.MustCompile(`\A\+[1-9][0-9]{6,14}\z`)

// What is accepted must hold the digits of its input in their order and no others, and be the same
// locator with any separators.
func FuzzTele(f *testing.F) {
	for _, row := range goodNumbers {
		f.Add(row.raw)
	}
	for _, row := range badNumbers {
		f.Add(row.raw)
	}
	drop := strings.NewReplacer(" ", "", "-", "", ".", "", "(", "", ")", "")
	f.Fuzz(func(t *testing.T, raw string) {
		if found, err := locator.Canonical("tele:" + raw); err == nil {
			require.Equal(t, "tele:"+drop.Replace(raw), found)
			require.Regexp(t, e164, strings.TrimPrefix(found, "tele:"))
		}
		if !requireSafe(t, locator.Tele, raw) {
			return
		}
		l, err := locator.New(locator.Tele, raw)
		require.NoError(t, err)
		for _, separator := range []string{" ", "-", ".", "(", ")", " ("} {
			spelling := "+" + separator + strings.Join(strings.Split(l.Canonical[1:], ""), separator)
			same, err := locator.New(locator.Tele, spelling)
			require.NoError(t, err)
			require.Equal(t, l.Canonical, same.Canonical)
		}
	})
}

// Parse must read the serialized form as New reads its type and its address.
func FuzzParse(f *testing.F) {
	for _, row := range malformedSerialized {
		f.Add(row.serialized)
	}
	for _, row := range goodEmails {
		f.Add("email:" + row.raw)
	}
	for _, row := range goodNumbers {
		f.Add("tele:" + row.raw)
	}
	f.Fuzz(func(t *testing.T, serialized string) {
		kind, address, found := strings.Cut(serialized, ":")
		l, err := locator.Parse(serialized)
		if !found {
			requireRefused(t, err, "type, a colon and an address")
			return
		}
		apart, apartErr := locator.New(locator.Type(kind), address)
		require.Equal(t, apart, l)
		require.Equal(t, apartErr, err)
		if !requireSafe(t, locator.Type(kind), address) {
			require.Error(t, err)
			return
		}
		require.Contains(t, []locator.Type{locator.Email, locator.Tele}, l.Type)

		again, err := locator.Parse(l.Serialized())
		require.NoError(t, err)
		require.Equal(t, l.Serialized(), again.Serialized())
	})
}
