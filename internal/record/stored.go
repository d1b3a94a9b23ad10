package record

import "github.com/denizenhq/denizen/store"

// DecodeStored reads a record of the store, which may be damaged: see [Decode].
func DecodeStored(r store.Record) (any, error) {
	if r.Damaged {
		return nil, ErrCorrupt
	}
	return Decode(r.Key, r.Value)
}

// DecodeChange reads an event of the feed, which may be damaged: see [DecodeEvent].
func DecodeChange(ch store.Change) (Event, error) {
	if ch.Damaged {
		return Event{}, ErrCorrupt
	}
	return DecodeEvent(ch.Event)
}
