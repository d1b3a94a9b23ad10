//go:build !denizen_notele

package locator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/locator"
)

func TestANumberAsTypedBecomesInternational(t *testing.T) {
	for _, row := range []struct{ region, number, want string }{
		{"DE", "0151 23456789", "+4915123456789"},
		{"DE", "(0151) 234-567.89", "+4915123456789"},
		{"DE", "0151/23456789", "+4915123456789"},
		{"DE", "0044 20 7183 8750", "+442071838750"},
		{"DE", "+44 20 7183 8750", "+442071838750"},
		{"GB", "020 7183 8750", "+442071838750"},
		{"US", "650-253-0000", "+16502530000"},
		{"US", "1 650 253 0000", "+16502530000"},
		{"US", "011 44 20 7183 8750", "+442071838750"},
		{"IT", "02 1234567", "+39021234567"},
		{"AR", "011 15 1234 5678", "+5491112345678"},
	} {
		got, err := locator.TeleIn(row.region, row.number)
		require.NoError(t, err, row)
		require.Equal(t, row.want, got, row)
	}
}

func TestANumberAsTypedThatIsNoneThereIsRefused(t *testing.T) {
	for _, row := range []struct{ region, number, rule string }{
		{"US", "0151 23456789", "not valid where it was typed"},
		{"DE", "110", "not valid where it was typed"},
		{"DE", "", "not valid where it was typed"},
		{"DE", "---", "not valid where it was typed"},
		{"DE", "0151 23456789 ext 5", "holds a character"},
		{"US", "1-800-FLOWERS", "holds a character"},
		{"DE", "٠١٥١٢٣٤٥٦٧٨٩", "holds a character"},
		{"DE", "tel:+4915123456789", "holds a character"},
		{"DE", strings.Repeat("1", 65), "longer than 64"},
		{"DE", "+", "7 digits"},
		{"", "0151 23456789", "region is not"},
		{"de", "0151 23456789", "region is not"},
		{"DEU", "0151 23456789", "region is not"},
		{"ZZ", "0151 23456789", "no numbering plan"},
		{"QQ", "+44 20 7183 8750 x", "holds a character"},
	} {
		_, err := locator.TeleIn(row.region, row.number)
		var refused *locator.Error
		require.ErrorAs(t, err, &refused, row)
		require.Equal(t, "locator", refused.Field)
		require.Contains(t, refused.Reason, row.rule, row)
	}
}
