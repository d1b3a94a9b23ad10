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

// health is what is known of how the store fares. Its pointers are set once.
type health struct {
	refused atomic.Pointer[error] // what reads and writes return since a commit failed
	writes  atomic.Pointer[error] // what writes alone return
	found   atomic.Pointer[error] // what the check in the background found
	closed  atomic.Bool

	cancel  context.CancelFunc // of the check; nil if there is none
	checked sync.WaitGroup

	checking func() // called by a check once it has its snapshot; for tests
}

func (h *health) stop() {
	if h.cancel != nil {
		h.cancel()
	}
	h.checked.Wait()
}

// Health implements [store.Checker]. A file that was not closed in order is checked in the
// background once it is open; what that found is told until the store is closed.
func (s *Store) Health() error {
	if s.health.closed.Load() {
		return store.ErrClosed
	}
	for _, p := range []*atomic.Pointer[error]{&s.health.refused, &s.health.found, &s.health.writes} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return s.name.look()
}

// checkBehind looks for damage in the background. Reads and writes go on.
func (s *Store) checkBehind() {
	ctx, cancel := context.WithCancel(context.Background())
	s.health.cancel = cancel
	s.health.checked.Go(func() {
		err := s.check(ctx)
		if errors.Is(err, store.ErrCorrupt) {
			s.health.found.Store(&err)
		}
	})
}

// check looks at one snapshot: at its pages as the file has them, then at every seal.
func (s *Store) check(ctx context.Context) (err error) {
	defer caught(debug.SetPanicOnFault(true), &err)
	return s.view(ctx, func(tx *reading) error {
		metas := &head{size: 2 * int64(s.db.Info().PageSize)}
		if _, err := tx.WriteTo(metas); int64(len(metas.bytes)) != metas.size {
			return err
		}
		if s.health.checking != nil {
			s.health.checking()
		}
		if err := verifyPages(ctx, snapshot{metas.bytes, s.file}); err != nil {
			return err
		}
		return verifyEntries(ctx, tx.Tx)
	})
}

// snapshot is the file with the meta pages of one read transaction, whatever is committed since.
type snapshot struct {
	metas []byte
	file  *os.File
}

// ReadAt implements io.ReaderAt. No read crosses the end of the meta pages.
func (s snapshot) ReadAt(p []byte, at int64) (int, error) {
	if at < int64(len(s.metas)) {
		return copy(p, s.metas[at:]), nil
	}
	return s.file.ReadAt(p, at)
}

// lookEvery is how often the name of the file is looked at, at most.
const lookEvery = time.Second

// name watches that the file is still the one under its name. What is committed to a file that
// was replaced is gone with the next restart.
type name struct {
	path string
	info os.FileInfo // of the open file

	mu     sync.Mutex // guards all below
	looked time.Time
	err    error
}

var errReplaced = fmt.Errorf("%w: another file, or none, is under the name of the store's", store.ErrUnavailable)

// look returns errReplaced if, as of a second ago or less, the name leads elsewhere.
func (n *name) look() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Sub(n.looked) < lookEvery {
		return n.err
	}
	n.looked, n.err = now, nil
	info, err := os.Stat(n.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, n.info) {
		n.err = errReplaced
	}
	return n.err
}
