package spec_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/denizenhq/denizen/transfer"
)

func peopleSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(transfer.Schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema.json", document))
	schema, err := compiler.Compile("schema.json")
	require.NoError(t, err)
	return schema
}

func TestPeople_EveryLineThatIsExportedFollowsTheSchema(t *testing.T) {
	schema := peopleSchema(t)
	s := memory.New()
	dir, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	defer dir.Close()
	made := time.Date(2020, 1, 2, 3, 4, 5, 6e6, time.UTC)
	users := func(yield func(transfer.User, error) bool) {
		_ = yield(transfer.User{ID: "plain-01", ScreenName: "A"}, nil) &&
			yield(transfer.User{ID: "broken-1", ScreenName: "A"}, nil) &&
			yield(transfer.User{
				ID: "whole-01", ScreenName: "\" <é>", Blocked: true, Block: denizen.Block{Reason: "a \"b\"", Until: made}, CreatedAt: made, UpdatedAt: made.Add(time.Hour),
				Locators: []transfer.Locator{
					{Locator: "email:A@example.org", Status: denizen.Verified, VerifiedAt: made},
					{Locator: "tele:+1 415 555 2671"},
					{Locator: "email:b@example.org", Claim: true},
				},
				Attributes: []denizen.Attribute{{Key: "a b", Value: "\n\u2028", ContentEncoding: "br"}, {Key: "size", ContentType: "text/html"}},
			}, nil)
	}
	report, err := transfer.Import(t.Context(), dir, denizen.System(), users, transfer.Options{TrustVerified: true, Define: []denizen.AttributeDef{
		{Key: "a b", MaxBytes: 10, NotEmpty: true, ContentEncodings: []string{"br"}, VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSystem},
		{Key: "size", ContentTypes: []string{"text/html"}},
	}})
	require.NoError(t, err)
	require.Equal(t, 3, report.Created)
	_, err = s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: record.UserKey("broken-1"), Value: []byte(`{}`)}}})
	require.NoError(t, err)

	var out bytes.Buffer
	_, err = transfer.Export(t.Context(), dir, denizen.System(), &out)
	require.NoError(t, err)
	kinds := map[string]int{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		line, err := jsonschema.UnmarshalJSON(bytes.NewReader(lines.Bytes()))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(line), lines.Text())
		kinds[line.(map[string]any)["kind"].(string)]++
	}
	require.Equal(t, map[string]int{"begin": 1, "user": 2, "damaged": 1, "end": 1}, kinds)
}

func TestPeople_TheSchemaRefusesWhatIsNoLine(t *testing.T) {
	schema := peopleSchema(t)
	for _, line := range []string{
		`{}`, `[]`, `{"kind":"group"}`, `{"kind":"user"}`, `{"kind":"user","screenName":"A","id":"x"}`,
		`{"kind":"user","screenName":"A","id":"alice-01","verified":true}`, `{"kind":"begin"}`, `{"kind":"begin","format":2}`,
		`{"kind":"end"}`, `{"kind":"user","screenName":"A","createdAt":"yesterday"}`,
		`{"kind":"user","screenName":"A","locators":[{"locator":"alice"}]}`, `{"kind":"damaged"}`,
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(line), &value))
		require.Error(t, schema.Validate(value), line)
	}
}
