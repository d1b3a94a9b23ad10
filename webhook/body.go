package webhook

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/wire"
)

// MaxBody is the longest body that [Post] sends, in bytes.
const MaxBody = 64 << 10

// around is room for what stands around the events of a body.
const around = 256

// body is what is posted.
type body struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	Events []json.RawMessage `json:"events"`
	Cursor denizen.Cursor    `json:"cursor"`
}

const bodyType = "denizen.events"

// missedEvent stands for events that were forgotten, and for one that cannot be told.
type missedEvent struct {
	Sequence uint64            `json:"sequence,omitempty"`
	Kind     denizen.EventKind `json:"kind"`
}

// encode returns the JSON of an event. One that is damaged, or fills more than a body, is missed.
// Which operator acted stays here: the receiver may be somebody else.
func encode(e denizen.Event) json.RawMessage {
	e.Operator = ""
	if e.Kind != "" && e.Kind != denizen.EventMissed {
		if text := toJSON(wire.NewEvent(e)); len(text) <= MaxBody-around {
			return text
		}
	}
	return toJSON(missedEvent{uint64(e.Seq), denizen.EventMissed})
}

// encodeBody returns the body of the given events, out of a batch that ends at a cursor.
func encodeBody(begun time.Time, events []json.RawMessage, end denizen.Cursor) []byte {
	return toJSON(body{bodyType, begun.UTC(), data{events, end}})
}

func toJSON(v any) []byte {
	var b bytes.Buffer
	wire.Encode(&b, v)
	return b.Bytes()
}
