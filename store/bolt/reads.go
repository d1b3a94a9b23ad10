package bolt

import (
	"sync"

	"go.etcd.io/bbolt"
)

// maxIdle is how many idle read transactions are kept for later readers.
const maxIdle = 64

// reads is a pool of read transactions. Beginning one costs more than looking a key up in it, so a
// returned one is kept while it still shows the latest state.
//
// An idle transaction must not outlive that state: it would keep pages from being reused, and bbolt
// from mapping a longer file. So beginWrite ends all idle ones, and none is kept until the write
// has ended.
type reads struct {
	mu      sync.Mutex // guards the fields below
	disk    *disk      // what is read
	idle    []*reading
	writing bool
	writes  uint64 // the number of write transactions begun
}

// reading is a read transaction. One goroutine at a time uses it.
type reading struct {
	*bbolt.Tx
	disk   *disk
	cursor *bbolt.Cursor // over the records; made at the first use
	key    []byte        // borrowed by the cursor
	keep   bool          // no write was under way when it began
	writes uint64        // reads.writes when it began
}

// records returns a cursor over the records.
func (r *reading) records() *bbolt.Cursor {
	if r.cursor == nil {
		r.cursor = r.Bucket(recordsBucket).Cursor()
	}
	return r.cursor
}

// begin returns an idle transaction or begins one.
func (l *reads) begin() (*reading, error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		r := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return r, nil
	}
	r := &reading{disk: l.disk, keep: !l.writing, writes: l.writes}
	r.disk.used.Add(1)
	l.mu.Unlock()
	var err error
	if r.Tx, err = r.disk.db.Begin(false); err != nil {
		r.disk.used.Done()
	}
	return r, err
}

// end takes back a transaction. It keeps the transaction only if ok, and if no write has begun
// since the transaction did.
func (l *reads) end(r *reading, ok bool) {
	if ok && r.keep {
		l.mu.Lock()
		if !l.writing && l.writes == r.writes && len(l.idle) < maxIdle {
			l.idle = append(l.idle, r)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
	r.close()
}

func (r *reading) close() {
	_ = r.Rollback()
	r.disk.used.Done()
}

// beginWrite must be called before a write transaction begins, and before the file is closed.
func (l *reads) beginWrite() {
	l.mu.Lock()
	idle := l.idle
	l.idle, l.writing = nil, true
	l.writes++
	l.mu.Unlock()
	for _, r := range idle {
		r.close()
	}
}

// moveTo makes later transactions read another file. It must be called like beginWrite.
func (l *reads) moveTo(d *disk) {
	l.beginWrite()
	l.mu.Lock()
	l.disk = d
	l.mu.Unlock()
}

// endWrite must be called once a write transaction has ended.
func (l *reads) endWrite() {
	l.mu.Lock()
	l.writing = false
	l.mu.Unlock()
}
