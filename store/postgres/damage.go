package postgres

import (
	"context"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5"
)

// isDamaged reports whether err means that PostgreSQL could not read stored data: data_corrupted or
// index_corrupted, for example a missing piece of a large value.
func isDamaged(err error) bool {
	c := code(err)
	return c == "XX001" || c == "XX002"
}

// isObject reports whether v, in the spelling of jsonb, is an object.
func isObject(v []byte) bool { return len(v) > 0 && v[0] == '{' }

// newRecord returns a record as read from its row. It marks the record if the row cannot have been
// written by a store.
func newRecord(key store.Key, version int64, value []byte) store.Record {
	if version <= 0 || !isObject(value) {
		return store.Record{Key: key, Version: store.Seq(max(version, 0)), Damaged: true}
	}
	return store.Record{Key: key, Version: store.Seq(version), Value: value}
}

// readAround calls f, which reads in parts what failed with err as a whole. The parts are read in a
// transaction of one snapshot. If q is the host's own transaction, readAround returns err: the
// failure has ended that transaction.
func (s *Store) readAround(
	ctx context.Context, q querier, err error, f func(pgx.Tx) ([]store.Record, error),
) ([]store.Record, error) {
	var records []store.Record
	err = s.inSnapshot(ctx, q, err, func(tx pgx.Tx) (err error) {
		records, err = f(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// readFeedAround is readAround for a page of the feed.
func (s *Store) readFeedAround(
	ctx context.Context, q querier, err error, after int64, limit int,
) (rows feedRows, _ error) {
	err = s.inSnapshot(ctx, q, err, func(tx pgx.Tx) (err error) {
		rows, err = s.feedDamaged(ctx, tx, after, limit)
		return err
	})
	return rows, err
}

// inSnapshot calls f in a read-only transaction of one snapshot, unless q is not the pool.
func (s *Store) inSnapshot(ctx context.Context, q querier, err error, f func(pgx.Tx) error) error {
	if q != querier(s.pool) {
		return err
	}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, s.pool, options, f)
}

// halve finds the elements of all that cannot be read, by bisection. It calls read for smaller and
// smaller parts, each in a savepoint, because a failed statement would otherwise end the
// transaction. For each single element that read fails on, it calls lost.
func halve[T any](
	ctx context.Context, tx pgx.Tx, all []T, read func(pgx.Tx, []T) error, lost func(T),
) error {
	if len(all) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return read(tx, all) })
	switch {
	case !isDamaged(err):
		return err
	case len(all) == 1:
		lost(all[0])
		return nil
	}
	if err := halve(ctx, tx, all[:len(all)/2], read, lost); err != nil {
		return err
	}
	return halve(ctx, tx, all[len(all)/2:], read, lost)
}

// getDamaged is get for keys of which some cannot be read.
func (s *Store) getDamaged(
	ctx context.Context, tx pgx.Tx, keys []store.Key,
) ([]store.Record, error) {
	records, places := make([]store.Record, len(keys)), make([]int, len(keys))
	for i, k := range keys {
		records[i].Key, places[i] = k, i
	}
	read := func(tx pgx.Tx, part []int) error {
		some := make([]store.Key, len(part))
		for i, at := range part {
			some[i] = keys[at]
		}
		found, err := s.getRows(ctx, tx, some)
		for i := range found {
			records[part[i]] = found[i]
		}
		return err
	}
	err := halve(ctx, tx, places, read, func(i int) { records[i].Damaged = true })
	if err != nil {
		return nil, err
	}
	return records, nil
}

// listDamaged is list for a page of which some records cannot be read. It reads the keys alone
// first. If that fails, nobody knows what is missing, and it returns the error.
func (s *Store) listDamaged(ctx context.Context, tx pgx.Tx, r store.Range) ([]store.Record, error) {
	keysOnly := r.KeysOnly
	r.KeysOnly = true
	listed, err := s.listRows(ctx, tx, r, s.sql.listKeys)
	if err != nil {
		return nil, err
	}
	keys := make([]store.Key, len(listed))
	for i := range listed {
		keys[i] = listed[i].Key
	}
	records, err := s.getDamaged(ctx, tx, keys)
	for i := range records {
		records[i].Version = listed[i].Version
		if keysOnly {
			records[i].Value = nil
		}
	}
	return records, err
}

// feedDamaged is feed for a page of which some events cannot be read.
func (s *Store) feedDamaged(
	ctx context.Context, tx pgx.Tx, after int64, limit int,
) (rows feedRows, err error) {
	if rows, err = s.feedRows(ctx, tx, s.sql.changeSeqs, after, limit); err != nil {
		return rows, err
	}
	places := make([]int, len(rows.changes))
	for i := range places {
		places[i] = i
	}
	read := func(tx pgx.Tx, part []int) error {
		from, to := rows.changes[part[0]].Seq, rows.changes[part[len(part)-1]].Seq
		found, err := s.feedRows(ctx, tx, s.sql.changes, int64(from)-1, len(part))
		if err != nil {
			return err
		}
		for i := range found.changes {
			if c := found.changes[i]; i < len(part) && c.Seq <= to {
				rows.changes[part[i]] = c
			}
		}
		return nil
	}
	err = halve(ctx, tx, places, read, func(i int) {
		rows.changes[i] = store.Change{Seq: rows.changes[i].Seq, Damaged: true}
	})
	return rows, err
}
