package bolt

import (
	"fmt"
	"os"

	"github.com/denizenhq/denizen/store"
)

// hasName returns an error unless the open file has its name, and no other.
func (c *compaction) hasName() error {
	open := c.s.name.file()
	info, err := os.Lstat(c.path)
	if err != nil || !os.SameFile(info, open) {
		return errReplaced
	}
	if asked, err := os.Stat(c.s.name.path); err != nil || !os.SameFile(asked, open) {
		return errReplaced
	}
	if links(info) > 1 {
		return errLinked
	}
	return nil
}

// takePlace puts the new file in the place of the old one. Both hold the same.
func (c *compaction) takePlace() error {
	if err := c.s.compacting.step("rename"); err != nil {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.hasName(); err != nil {
		return err
	}
	c.s.name.becomes(c.info)
	failed := os.Rename(c.temp, c.path)
	if failed != nil {
		if info, err := os.Lstat(c.path); err == nil && os.SameFile(info, c.s.name.file()) {
			c.s.name.becomes(nil)
			return unavailable(failed)
		}
	} else if failed = c.s.compacting.step("sync"); failed == nil {
		failed = c.dir.Sync()
	}
	c.temp = ""
	c.s.moveTo(&c.w, c.info)
	if failed != nil {
		w := &c.s.w
		w.poisoned = fmt.Errorf("%w: the directory could not be synced after a compaction, the "+
			"store must be opened anew: %w", store.ErrUnavailable, failed)
		c.s.health.writes.Store(&w.poisoned)
		return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, failed)
	}
	c.s.w.settled = true
	return nil
}

// moveTo makes the store go on in another file, which holds the same. It is called in the writer's
// turn.
func (s *Store) moveTo(to *writer, info os.FileInfo) {
	old := s.w.disk
	s.w.disk, s.w.room, s.w.noted = to.disk, to.room, nil
	s.w.at.swept = false
	s.reads.moveTo(to.disk)
	s.reads.endWrite()
	s.name.became(info)
	s.compacting.ended.Go(func() {
		old.used.Wait()
		_ = old.db.Close()
	})
}
