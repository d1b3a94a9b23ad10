package record

import "github.com/denizenhq/denizen/store"

// DecodeStored decodes a record of the store as [Decode] does. A damaged one is ErrCorrupt.
func DecodeStored(r store.Record) (any, error) {
	if r.Damaged {
		return nil, ErrCorrupt
	}
	return Decode(r.Key, r.Value)
}

// DecodeChange decodes an event of the feed as [DecodeEvent] does. A damaged one is ErrCorrupt.
func DecodeChange(ch store.Change) (Event, error) {
	if ch.Damaged {
		return Event{}, ErrCorrupt
	}
	return DecodeEvent(ch.Event)
}
