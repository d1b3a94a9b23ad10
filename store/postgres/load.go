package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/internal/group"
	"github.com/jackc/pgx/v5"
)

// Limits of what a load sends at once.
const (
	chunkRows  = 10_000
	chunkBytes = 4 << 20
)

// Load implements [store.Store]. It uses COPY in one transaction, so nothing becomes visible before
// the load is complete. Other writers wait meanwhile, and give up after their LockTimeout. The
// outcome is unknown if the connection is lost during the final COMMIT.
func (s *Store) Load(
	ctx context.Context, rs iter.Seq2[store.Record, error],
	cs iter.Seq2[store.Change, error], head store.Seq,
) error {
	return s.group.Alone(ctx, func() error {
		if head > math.MaxInt64 {
			return fmt.Errorf("%w: a head of %d", store.ErrInvalid, head)
		}
		err := s.load(ctx, rs, cs, head)
		if err != nil {
			return translate(ctx, err)
		}
		s.head.saw(s.head.begin(), head)
		s.notifier.notify(s)
		return nil
	})
}

func (s *Store) load(
	ctx context.Context, rs iter.Seq2[store.Record, error],
	cs iter.Seq2[store.Change, error], head store.Seq,
) error {
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	tx, err := s.pool.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := s.step()
		defer cancel()
		_ = tx.Rollback(ctx) // nothing to do after a commit
	}()
	// The iterators may be slow, so neither idle nor statement timeouts apply.
	_, err = tx.Exec(ctx, s.sql.lock, s.names.lock, millis(s.options.LockTimeout), "0", "0")
	if err != nil {
		return err
	}
	at, _, err := s.feedBounds(ctx, tx)
	if err != nil {
		return err
	}
	if at > 0 {
		return store.ErrNotEmpty
	}
	first := head + 1
	records := chunk{s: s, tx: tx, table: "records", columns: []string{"key", "version", "value"}}
	for r, err := range rs {
		err := firstOf(err, ctx.Err(), group.CheckRecord(r, head), checkJSON(r.Value))
		if err != nil {
			return &iteratorError{err}
		}
		err = records.add(ctx, len(r.Value), []byte(r.Key), int64(r.Version), string(r.Value))
		if err != nil {
			return err
		}
	}
	changes := chunk{s: s, tx: tx, table: "changes", columns: []string{"seq", "event"}}
	for c, err := range cs {
		err := firstOf(err, ctx.Err(), group.CheckChange(c, head), checkJSON(c.Event))
		if err != nil {
			return &iteratorError{err}
		}
		first = min(first, c.Seq)
		if err := changes.add(ctx, len(c.Event), int64(c.Seq), string(c.Event)); err != nil {
			return err
		}
	}
	if err := firstOf(records.write(ctx), changes.write(ctx)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.advance, int64(head), int64(first)); err != nil {
		return err
	}
	commit, cancel := s.step()
	defer cancel()
	if err := tx.Commit(commit); err != nil {
		return afterSending(err)
	}
	return nil
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

// chunk collects rows and copies them to a table.
type chunk struct {
	s       *Store
	tx      pgx.Tx
	table   string
	columns []string
	rows    [][]any
	bytes   int
}

func (c *chunk) add(ctx context.Context, bytes int, row ...any) error {
	c.rows = append(c.rows, row)
	if c.bytes += bytes; len(c.rows) < chunkRows && c.bytes < chunkBytes {
		return nil
	}
	return c.write(ctx)
}

func (c *chunk) write(ctx context.Context) error {
	if len(c.rows) == 0 {
		return nil
	}
	table := pgx.Identifier{c.s.names.schema, c.table}
	_, err := c.tx.CopyFrom(ctx, table, c.columns, pgx.CopyFromRows(c.rows))
	if code(err) == "23505" { // unique_violation
		err = fmt.Errorf("%w: something is loaded twice", store.ErrInvalid)
	}
	clear(c.rows)
	c.rows, c.bytes = c.rows[:0], 0
	return err
}

// iteratorError marks an error as one of the iterators or of the data, so that translate does not
// take it for one of PostgreSQL.
type iteratorError struct{ error }
