//go:build denizen_notele

package locator

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithoutNumberingPlansANumberIsRefused(t *testing.T) {
	_, err := Parse("tele:+442071838750")
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "locator", refused.Field)
	require.Contains(t, refused.Reason, "denizen_notele")
}

func TestWithoutNumberingPlansANumberTakenBeforeIsStillFound(t *testing.T) {
	canonical, err := Canonical("tele:+44 20 7183 8750")
	require.NoError(t, err)
	require.Equal(t, "tele:+442071838750", canonical)
}

func TestWithoutNumberingPlansAnAddressIsStillJudged(t *testing.T) {
	_, err := Parse("email:alice@example.org")
	require.NoError(t, err)
	_, err = Parse("email:alice@")
	require.Error(t, err)
}

func TestWithoutNumberingPlansANumberAsTypedIsRefused(t *testing.T) {
	for _, number := range []string{"020 7183 8750", "+44 20 7183 8750"} {
		_, err := TeleIn("GB", number)
		require.ErrorContains(t, err, "denizen_notele")
	}
}
