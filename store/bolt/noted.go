package bolt

import (
	"context"
	"strings"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
)

// maxNoted is how much memory noted keys may take, and notedCost is what a key takes besides its
// bytes, about.
const (
	maxNoted  = 64 << 20
	notedCost = 64
)

// noted is what was written since a compaction last looked. It belongs to the writer, and then to
// the compaction.
type noted struct {
	ctx    context.Context // of the compaction
	cancel context.CancelCauseFunc
	limit  int // of memory

	keys   map[store.Key]struct{} // of records that were put or dropped
	memory int                    // bytes that keys take
	events int
	bytes  int // of the values and events
}

func newNoted(c *compaction) *noted {
	return &noted{
		ctx: c.ctx, cancel: c.cancel, limit: c.s.compacting.limits.noted,
		keys: map[store.Key]struct{}{},
	}
}

// add notes the changes of a group.
func (n *noted) add(c *group.Changes) {
	for _, k := range c.Drops {
		n.key(k)
	}
	for _, r := range c.Puts {
		n.key(r.Key)
		n.bytes += len(r.Value)
	}
	for _, e := range c.Events {
		n.bytes += len(e.Event)
	}
	n.events += len(c.Events)
}

func (n *noted) key(k store.Key) {
	if _, known := n.keys[k]; !known {
		n.keys[store.Key(strings.Clone(string(k)))] = struct{}{}
		n.memory += len(k) + notedCost
	}
}

// len returns how much was noted.
func (n *noted) len() int { return len(n.keys) + n.events }

// few reports whether writers may wait until what was noted is brought over: if it is very little,
// or if it is little and another round is not expected to leave less. before is what was noted in
// the round before, most is what they may wait for, and limit is that in bytes.
func (n *noted) few(before, most, limit int) bool {
	if n.len() > most || n.bytes > limit {
		return false
	}
	return n.len() <= fewPaused || n.len() > before/2
}
