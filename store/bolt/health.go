package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/store"
)

// health is what the store knows of its own condition. The pointers are set at most once, and
// readers load them without a lock.
type health struct {
	refused atomic.Pointer[error] // what reads and writes return since the store is poisoned
	writes  atomic.Pointer[error] // what writes return, while reads go on
	found   atomic.Pointer[error] // the damage that the background check found
	closed  atomic.Bool

	cancel  context.CancelFunc // ends the background check; nil if there is none
	checked sync.WaitGroup

	checking func() // for tests: called by each check once it has its snapshot
}

// stop ends the background check and waits for it.
func (h *health) stop() {
	if h.cancel != nil {
		h.cancel()
	}
	h.checked.Wait()
}

// Health implements [store.Checker]. A file that was not closed properly is checked in the
// background after [Open]. The damage found then is reported until the store is closed.
func (s *Store) Health() error {
	if s.health.closed.Load() {
		return store.ErrClosed
	}
	h := &s.health
	for _, p := range []*atomic.Pointer[error]{&h.refused, &h.found, &h.writes} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return s.name.check()
}

// checkInBackground starts a check of the whole file. Reads and writes go on.
func (s *Store) checkInBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	s.health.cancel = cancel
	s.health.checked.Go(func() {
		err := s.check(ctx)
		if errors.Is(err, store.ErrCorrupt) {
			s.health.found.Store(&err)
		}
	})
}

// check verifies one snapshot: first its pages as they are in the file, then every checksum. The
// order matters, because reading the entries means trusting the pages.
func (s *Store) check(ctx context.Context) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	return s.view(ctx, func(tx *reading) error {
		file, err := tx.disk.snapshot(tx.Tx)
		if err != nil {
			return err
		}
		if s.health.checking != nil {
			s.health.checking()
		}
		if err := verifyPages(ctx, file, nil); err != nil {
			return err
		}
		return verifyEntries(ctx, tx.Tx)
	})
}

// nameCheckEvery is the minimum time between two checks of the file's name.
const nameCheckEvery = time.Second

// name checks that the open file is still the file under its name. If an operator replaces the
// file, all later commits would go to a file that nobody finds after a restart.
type name struct {
	path string

	mu      sync.Mutex  // guards the fields below
	info    os.FileInfo // of the open file
	next    os.FileInfo // of the file that a compaction gives the name to, or nil
	checked time.Time   // when err was last determined
	err     error
}

var errReplaced = fmt.Errorf("%w: another file, or none, is under the name of the store's",
	store.ErrUnavailable)

// check returns errReplaced if another file, or none, is under the name. The result may be a second
// old. Any other error of the system is ignored: it does not show that the file was replaced.
func (n *name) check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Sub(n.checked) < nameCheckEvery {
		return n.err
	}
	n.checked, n.err = now, nil
	info, err := os.Stat(n.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !n.is(info) {
		n.err = errReplaced
	}
	return n.err
}

func (n *name) is(info os.FileInfo) bool {
	return os.SameFile(info, n.info) || n.next != nil && os.SameFile(info, n.next)
}

// file returns the open file.
func (n *name) file() os.FileInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.info
}

// becomes says that the name may become that of another file, or no longer if info is nil.
func (n *name) becomes(info os.FileInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = info
}

// became says that another file is open now.
func (n *name) became(info os.FileInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.info, n.next = info, nil
	n.checked, n.err = time.Now(), nil
}
