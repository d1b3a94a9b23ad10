package group

import (
	"fmt"

	"github.com/denizenhq/denizen/store"
)

// CheckRecord returns a store.ErrInvalid if r may not be loaded into a store that gets the given
// head.
func CheckRecord(r store.Record, head store.Seq) error {
	if err := store.CheckKeys(r.Key); err != nil {
		return err
	}
	if r.Version == 0 || r.Version > head {
		return fmt.Errorf("%w: a record at version %d under head %d",
			store.ErrInvalid, r.Version, head)
	}
	return store.CheckValue(r.Value)
}

// CheckChange returns a store.ErrInvalid if c may not be loaded into a store that gets the given
// head.
func CheckChange(c store.Change, head store.Seq) error {
	if c.Seq == 0 || c.Seq > head {
		return fmt.Errorf("%w: a change at %d under head %d", store.ErrInvalid, c.Seq, head)
	}
	return store.CheckValue(c.Event)
}
