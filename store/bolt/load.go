package bolt

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"go.etcd.io/bbolt"
)

// Limits of one chunk of a load.
const (
	chunkEntries = 1_000
	chunkBytes   = 4 << 20
)

// loadFill is how full a load leaves pages. Most loads are in key order.
const loadFill = 0.9

// Load implements [store.Store]. Nothing becomes visible before the load is complete. A Load that
// fails leaves the store empty. If the process dies during a load, [Open] refuses the file with
// [ErrFormat].
//
// The load is written in many transactions, because one transaction would keep all of it in memory.
// It is built in a bucket of its own, and the last transaction moves it into place.
func (s *Store) Load(
	ctx context.Context, rs iter.Seq2[store.Record, error],
	cs iter.Seq2[store.Change, error], head store.Seq,
) error {
	return s.group.Alone(ctx, func() error {
		if s.w.at.head > 0 {
			return store.ErrNotEmpty
		}
		if err := s.update(makeLoadBucket); err != nil {
			return err
		}
		loaded := false
		defer func() {
			if !loaded {
				s.abandonLoad()
			}
		}()
		first := head + 1
		records := chunk{s: s, bucket: recordsBucket}
		for r, err := range rs {
			if err := firstOf(err, ctx.Err(), group.CheckRecord(r, head)); err != nil {
				return err
			}
			if err := records.add([]byte(r.Key), r.Version, r.Value); err != nil {
				return err
			}
		}
		changes := chunk{s: s, bucket: feedBucket}
		for c, err := range cs {
			if err := firstOf(err, ctx.Err(), group.CheckChange(c, head)); err != nil {
				return err
			}
			first = min(first, c.Seq)
			if err := changes.add(seqKey(c.Seq), c.Seq, c.Event); err != nil {
				return err
			}
		}
		if err := firstOf(records.write(), changes.write()); err != nil {
			return err
		}
		err := s.update(func(tx *bbolt.Tx) error {
			s.w.next = position{head, first, true}
			return finishLoad(tx, head, first)
		})
		loaded = err == nil
		if loaded {
			s.head.Advance(head)
		}
		return err
	})
}

// firstOf returns the first error that is not nil.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// update runs f in a write transaction. It runs f twice if the file has to grow for it. The caller
// must be the only writer.
func (s *Store) update(f func(*bbolt.Tx) error) error { return s.updateIn(false, f) }

// updateUrgently is update that may use the space reserved for a full disk.
func (s *Store) updateUrgently(f func(*bbolt.Tx) error) error { return s.updateIn(true, f) }

func (s *Store) updateIn(urgent bool, f func(*bbolt.Tx) error) error {
	if _, _, _, err := s.w.Begin(); err != nil {
		return err
	}
	s.w.endCompaction(errOthers) // what f writes is not noted
	s.w.urgent, s.w.work = urgent, func() error { return f(s.w.tx) }
	if err := s.w.do(f); err != nil {
		s.w.Rollback()
		return err
	}
	return s.w.Commit()
}

// abandonLoad makes the store empty again. If it fails, the store takes no more writes, because
// Open would refuse the file with them in it.
func (s *Store) abandonLoad() {
	err := s.updateUrgently(func(tx *bbolt.Tx) error { return tx.DeleteBucket(loadBucket) })
	if err != nil && s.w.poisoned == nil {
		s.w.poisoned = fmt.Errorf("%w: a load into it did not end: %w", store.ErrUnavailable, err)
		s.health.writes.Store(&s.w.poisoned)
	}
}

// makeLoadBucket creates the bucket in which a load is built. While it exists, Open refuses the
// file.
func makeLoadBucket(tx *bbolt.Tx) error {
	load, err := tx.CreateBucket(loadBucket)
	if err != nil {
		return err
	}
	for _, name := range [][]byte{recordsBucket, feedBucket} {
		if _, err := load.CreateBucket(name); err != nil {
			return err
		}
	}
	return nil
}

// finishLoad replaces the empty buckets with the loaded ones.
func finishLoad(tx *bbolt.Tx, head, first store.Seq) error {
	for _, name := range [][]byte{recordsBucket, feedBucket} {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
		if err := tx.MoveBucket(name, tx.Bucket(loadBucket), nil); err != nil {
			return err
		}
	}
	return errors.Join(
		tx.DeleteBucket(loadBucket),
		putMeta(tx, headKey, head),
		putMeta(tx, firstKey, first),
	)
}

// chunk collects sealed entries for a bucket of the load, and writes them when it is full.
type chunk struct {
	s       *Store
	bucket  []byte
	entries []entry
	bytes   int
}

type entry struct{ key, sealed []byte }

func (c *chunk) add(key []byte, version store.Seq, value []byte) error {
	c.entries = append(c.entries, entry{key, seal(nil, key, version, value)})
	c.bytes += len(value)
	if len(c.entries) < chunkEntries && c.bytes < chunkBytes {
		return nil
	}
	return c.write()
}

func (c *chunk) write() error {
	if len(c.entries) == 0 {
		return nil
	}
	err := c.s.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(loadBucket).Bucket(c.bucket)
		b.FillPercent = loadFill
		for _, e := range c.entries {
			if b.Get(e.key) != nil {
				return fmt.Errorf("%w: something is loaded twice", store.ErrInvalid)
			}
			if err := b.Put(e.key, e.sealed); err != nil {
				return err
			}
		}
		return nil
	})
	c.entries, c.bytes = c.entries[:0], 0
	return err
}
