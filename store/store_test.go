package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/store"
)

func TestAValueIsOneJSONObjectThatEveryStoreCanKeep(t *testing.T) {
	for _, v := range []string{
		`{}`, `{"a":1}`, `{"a":"\\u0000"}`, `{"a":"\\\\u0000"}`, `{"a":"\ud83d\ude00"}`, `{"a":"é"}`, `{"a":"\n\"\\"}`,
		`{"` + strings.Repeat("a", store.MaxValue-6) + `":1}`,
	} {
		require.NoError(t, store.CheckValue([]byte(v)), "%.60s", v)
	}
	for _, v := range []string{
		``, ` {}`, `[]`, `null`, `{`, `{}{}`, `{"a":}`, `{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":"\\\u0000"}`,
		`{"a":"\ud83d"}`, `{"a":"\ude00\ud83d"}`, `{"a":"\ud83dx"}`, `{"a":"\ud83d\n"}`, `{"a":"\ud83d\u0041"}`, "{\"a\":\"\xff\"}",
		`{"` + strings.Repeat("a", store.MaxValue-5) + `":1}`,
	} {
		require.ErrorIs(t, store.CheckValue([]byte(v)), store.ErrInvalid, "%.60s", v)
	}
}

func TestAConflictSaysHowManyConditionsFailedAndNamesNoKey(t *testing.T) {
	err := error(&store.Conflict{Failed: []store.Cond{{Key: "secret"}, {Key: "other"}}})
	require.ErrorIs(t, err, store.ErrConflict)
	require.Contains(t, err.Error(), "2 failed")
	require.NotContains(t, err.Error(), "secret")
}
