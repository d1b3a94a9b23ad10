package postgres

import (
	"context"

	"github.com/denizenhq/denizen/store"
	"github.com/jackc/pgx/v5"
)

// broken reports whether PostgreSQL could not read what is stored: data_corrupted or
// index_corrupted, such as a missing piece of a large value.
func broken(err error) bool {
	c := code(err)
	return c == "XX001" || c == "XX002"
}

// whole reports whether v, as jsonb is spelt, is an object.
func whole(v []byte) bool { return len(v) > 0 && v[0] == '{' }

// marked returns a record as it was read, marked if it is damaged.
func marked(key store.Key, version int64, value []byte) store.Record {
	if version <= 0 || !whole(value) {
		return store.Record{Key: key, Version: store.Seq(max(version, 0)), Damaged: true}
	}
	return store.Record{Key: key, Version: store.Seq(version), Value: value}
}

// salvage returns what f reads in a transaction that is one snapshot. In the host's own
// transaction it returns err: that has ended with the failure.
func (s *Store) salvage(ctx context.Context, q querier, err error, f func(pgx.Tx) ([]store.Record, error)) ([]store.Record, error) {
	var records []store.Record
	err = s.apart(ctx, q, err, func(tx pgx.Tx) (err error) {
		records, err = f(tx)
		return err
	})
	return answered(records, err)
}

func (s *Store) salvageFeed(ctx context.Context, q querier, err error, after int64, limit int) (rows feedRows, _ error) {
	err = s.apart(ctx, q, err, func(tx pgx.Tx) (err error) {
		rows, err = s.feedBroken(ctx, tx, after, limit)
		return err
	})
	return rows, err
}

func (s *Store) apart(ctx context.Context, q querier, err error, f func(pgx.Tx) error) error {
	if q != querier(s.pool) {
		return err
	}
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

// halve calls read for ever smaller parts of all, each in a savepoint, until one element is
// left that cannot be read: lost is called for that.
func halve[T any](ctx context.Context, tx pgx.Tx, all []T, read func(pgx.Tx, []T) error, lost func(T)) error {
	if len(all) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return read(tx, all) })
	switch {
	case !broken(err):
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

// getBroken is get where something cannot be read.
func (s *Store) getBroken(ctx context.Context, tx pgx.Tx, keys []store.Key) ([]store.Record, error) {
	records, places := make([]store.Record, len(keys)), make([]int, len(keys))
	for i, k := range keys {
		records[i].Key, places[i] = k, i
	}
	read := func(tx pgx.Tx, part []int) error {
		some := make([]store.Key, len(part))
		for i, place := range part {
			some[i] = keys[place]
		}
		found, err := s.getRows(ctx, tx, some)
		for i := range found {
			records[part[i]] = found[i]
		}
		return err
	}
	err := halve(ctx, tx, places, read, func(i int) { records[i].Damaged = true })
	return answered(records, err)
}

// listBroken is list where something cannot be read. If not even the keys can, nothing is
// known of what is missing.
func (s *Store) listBroken(ctx context.Context, tx pgx.Tx, r store.Range) ([]store.Record, error) {
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
	records, err := s.getBroken(ctx, tx, keys)
	for i := range records {
		records[i].Version = listed[i].Version
		if keysOnly {
			records[i].Value = nil
		}
	}
	return records, err
}

// feedBroken is feed where an event cannot be read.
func (s *Store) feedBroken(ctx context.Context, tx pgx.Tx, after int64, limit int) (rows feedRows, err error) {
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
