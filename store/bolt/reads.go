package bolt

import (
	"sync"

	"go.etcd.io/bbolt"
)

// maxIdle is how many read transactions are kept for the next reader.
const maxIdle = 64

// reads lends read transactions. To begin one costs more than to look a key up in it, so
// those that are given back are kept for the next reader while they still show the latest
// state. Beginning to write ends all that are kept, and none is kept before the write has
// ended: they hold back neither pages nor the growth of the file.
type reads struct {
	mu      sync.Mutex
	idle    []*reading
	writing bool
	writes  uint64 // write transactions begun
}

// reading is a read transaction, used by one goroutine at a time.
type reading struct {
	*bbolt.Tx
	cursor *bbolt.Cursor // over the records
	key    []byte        // lent to the cursor
	keep   bool          // it was begun while nobody wrote
	writes uint64        // those begun before it
}

// records answers a cursor over the records.
func (r *reading) records() *bbolt.Cursor {
	if r.cursor == nil {
		r.cursor = r.Bucket(recordsBucket).Cursor()
	}
	return r.cursor
}

func (l *reads) begin(db *bbolt.DB) (*reading, error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		r := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return r, nil
	}
	r := &reading{keep: !l.writing, writes: l.writes}
	l.mu.Unlock()
	var err error
	r.Tx, err = db.Begin(false)
	return r, err
}

// end takes a transaction back. One that something went wrong in is not used again.
func (l *reads) end(r *reading, sound bool) {
	if sound && r.keep {
		l.mu.Lock()
		if !l.writing && l.writes == r.writes && len(l.idle) < maxIdle {
			l.idle = append(l.idle, r)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
	_ = r.Rollback()
}

// write is called before a write transaction begins, and before the file is closed.
func (l *reads) write() {
	l.mu.Lock()
	idle := l.idle
	l.idle, l.writing = nil, true
	l.writes++
	l.mu.Unlock()
	for _, r := range idle {
		_ = r.Rollback()
	}
}

// wrote is called once a write transaction has ended.
func (l *reads) wrote() {
	l.mu.Lock()
	l.writing = false
	l.mu.Unlock()
}
