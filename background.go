package denizen

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// background is the one goroutine of a directory. It starts with the first heartbeat,
// token, nonce or the like, and ends with Close. It stores what is kept in memory and lets
// what expired leave the store. Whatever it cannot do now it does the next time.
type background struct {
	start  func() // once; not after stop
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// How often last uses are stored and the feed is trimmed, and how often all that expires is
// gone through: a minute after the start, so that programs that live for less than an hour
// do it too, and every hour then.
const (
	everyMinute = time.Minute
	everyHour   = time.Hour
)

// maxSweep is how many records a background write changes at most.
const maxSweep = 1000

func (b *background) init(run func(context.Context)) {
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.start = sync.OnceFunc(func() {
		if b.ctx.Err() == nil {
			b.done.Go(func() { run(b.ctx) })
		}
	})
}

func (b *background) stop() {
	b.cancel()
	b.start() // nothing, or waits for a start under way
	b.done.Wait()
}

// runBackground is the goroutine. Errors are not reported: a store that fails says so to
// whoever asks it, and what was not stored is tried again.
func (d *Directory) runBackground(ctx context.Context) {
	flush := time.NewTimer(d.options.PresenceFlush)
	defer flush.Stop()
	minute := time.NewTicker(everyMinute)
	defer minute.Stop()
	sweep := time.NewTimer(everyMinute)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.beating.began:
			flush.Reset(d.options.PresenceFlush)
		case <-flush.C:
			if _ = d.storeBeats(ctx); d.beating.any() {
				flush.Reset(d.options.PresenceFlush)
			}
		case <-minute.C:
			_ = d.storeUses(ctx)
			_ = d.sweepNonces(ctx, d.clock.Now())
			_ = d.trimFeed(ctx)
		case <-sweep.C:
			_ = d.sweep(ctx)
			sweep.Reset(everyHour)
		}
	}
}

// flush stores all that is kept in memory.
func (d *Directory) flush(ctx context.Context) error {
	return errors.Join(d.storeBeats(ctx), d.storeUses(ctx))
}

// retry does a background write again while it meets conflicts.
func retry(write func() error) (err error) {
	for range maxTries {
		if err = write(); !isConflict(err) {
			return err
		}
	}
	return err
}

// someOrEach stores what belongs to some owners in one write. Where one of their records is
// damaged, halves are stored by themselves, so that only its own owner's is not: a few writes
// for each damaged record, not one for each owner.
func someOrEach[O any](owners []O, write func([]O) error) error {
	err := retry(func() error { return write(owners) })
	if n := len(owners); n > 1 && errors.Is(err, store.ErrCorrupt) {
		return errors.Join(someOrEach(owners[:n/2], write), someOrEach(owners[n/2:], write))
	}
	return err
}

// sweep lets go what expired: tokens with what their texts stand for, nonces, and keys of
// idempotency.
func (d *Directory) sweep(ctx context.Context) error {
	now := d.clock.Now()
	return errors.Join(
		d.sweepTokens(ctx, now),
		d.sweepNonces(ctx, now),
		d.sweepOld(ctx, record.Creations, func(key store.Key) bool { return record.CreationsBefore(key, now/86_400_000-1) }),
	)
}

// sweepNonces lets go the nonces whose minute is over: no request with one is in time any more.
func (d *Directory) sweepNonces(ctx context.Context, now int64) error {
	return d.sweepOld(ctx, record.Nonces, func(key store.Key) bool { return record.NoncesBefore(key, now/60_000-2) })
}

// sweepOld drops the keys under a prefix, which lie there by their age, as long as they are
// old.
func (d *Directory) sweepOld(ctx context.Context, under store.Key, old func(store.Key) bool) error {
	for {
		records, err := d.store.List(ctx, store.Range{Under: under, Limit: maxSweep, KeysOnly: true})
		if err != nil {
			return err
		}
		var batch batch
		for _, r := range records {
			if !old(r.Key) {
				break
			}
			batch.Drop = append(batch.Drop, r.Key)
		}
		if len(batch.Drop) == 0 {
			return nil
		}
		if _, err := d.commit(ctx, &batch); err != nil {
			return err
		}
	}
}

// sweepTokens drops expired texts from the records of tokens, a bounded number of keys in
// one commit.
func (d *Directory) sweepTokens(ctx context.Context, now int64) error {
	var users []batch
	size := 0
	var damaged error
	commit := func() error {
		err := d.commitAll(ctx, users)
		users, size = nil, 0
		return err
	}
	for r, err := range d.walk(ctx, record.AllTokens) {
		if err != nil {
			return err
		}
		value, err := decodeRecord(r)
		if err != nil {
			damaged = err // the others go on
			continue
		}
		tokens := *value.(*record.Tokens)
		live, ended := alive(tokens.Tokens, now)
		if len(ended) == 0 {
			continue
		}
		user := batch{Batch: store.Batch{If: []store.Cond{{Key: r.Key, Version: r.Version}}, Drop: ended}}
		if tokens.Tokens = live; len(live) == 0 {
			user.Drop = append(user.Drop, r.Key, record.UsesKey(tokens.User))
		} else {
			user.put(r.Key, &tokens)
		}
		keys := len(user.Drop) + len(user.Put)
		if size+keys > maxSweep {
			if err := commit(); err != nil {
				return err
			}
		}
		users, size = append(users, user), size+keys
	}
	return errors.Join(commit(), damaged)
}

// commitAll commits batches as one, and if they meet a conflict one by one. One that meets
// a conflict alone is left for the next sweep: somebody writes to the same records now.
func (d *Directory) commitAll(ctx context.Context, batches []batch) error {
	if len(batches) == 0 {
		return nil
	}
	var all batch
	for _, b := range batches {
		all.If, all.Drop = append(all.If, b.If...), append(all.Drop, b.Drop...)
		all.Put, all.records = append(all.Put, b.Put...), append(all.records, b.records...)
	}
	_, err := d.commit(ctx, &all)
	if !isConflict(err) {
		return err
	}
	for _, b := range batches {
		if _, err := d.commit(ctx, &b); err != nil && !isConflict(err) {
			return err
		}
	}
	return nil
}
