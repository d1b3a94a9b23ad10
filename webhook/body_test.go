package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
)

func TestBody_IsTheJSONThatIsDocumented(t *testing.T) {
	at := time.UnixMilli(1_767_366_245_678)
	got := encodeBody(at, []json.RawMessage{
		encode(denizen.Event{
			Seq: 2, At: at, Kind: denizen.EventTokenIssued, Actor: ".system", AccessKey: "key", User: "alice@01",
			InternalID: "internal", Subjects: []string{"<token>"},
		}),
		encode(denizen.Event{Seq: 3, At: at, Kind: denizen.EventAttributeDefined, Actor: ".system", Operator: "ada", Other: "bob@01"}),
		encode(denizen.Event{Seq: 4}),
		encode(denizen.Event{Kind: denizen.EventMissed, Cursor: "cursor", At: at}),
	}, "cursor")
	require.Equal(t, `{"type":"denizen.events","timestamp":"2026-01-02T15:04:05.678Z","data":{"events":[`+
		`{"sequence":2,"at":1767366245678,"kind":"token.issued","actor":".system","accessKey":"key","userId":{"identifier":"alice@01"},"internalId":"internal","subjects":["<token>"]},`+
		`{"sequence":3,"at":1767366245678,"kind":"attribute.defined","actor":".system","otherId":{"identifier":"bob@01"}},`+
		`{"sequence":4,"kind":"missed"},`+
		`{"kind":"missed"}],"cursor":"cursor"}}`, string(got))
}

func TestBody_IsBoundedWhateverTheEventsHold(t *testing.T) {
	p := &poster{kinds: []denizen.EventKind{"wanted"}}
	for _, size := range []int{0, 100, 1000, 20_000, 65_000, 70_000} {
		var batch []denizen.Event
		for i := range 256 {
			batch = append(batch, denizen.Event{
				Seq: denizen.Seq(1)<<60 + denizen.Seq(i), Kind: "other", Cursor: denizen.Cursor(strings.Repeat("x", 32)),
				Subjects: []string{strings.Repeat("x", size)},
			})
		}
		for rest := batch; len(rest) > 0; {
			n, wanted := p.Fit(rest)
			require.Positive(t, n, size)
			require.False(t, wanted)
			var texts []json.RawMessage
			for _, e := range rest[:n] {
				texts = append(texts, encode(e))
			}
			require.LessOrEqual(t, len(encodeBody(time.Now(), texts, rest[n-1].Cursor)), MaxBody, size)
			rest = rest[n:]
		}
	}
	large := denizen.Event{Seq: 7, Kind: "other", Subjects: []string{strings.Repeat("x", MaxBody)}}
	require.JSONEq(t, fmt.Sprintf(`{"sequence":%d,"kind":"missed"}`, large.Seq), string(encode(large)))
}
