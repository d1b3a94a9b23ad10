package denizen

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// background is the goroutines of a directory, one for each duty, so that no duty holds up another.
// They start with the first heartbeat, token, nonce or the like, and end with Close. They store
// what is kept in memory and remove what has expired. What a duty cannot do now it does the next
// time.
type background struct {
	start  func() // starts the goroutines once; does nothing after stop
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	duties []*duty
}

// Last uses are stored, the feed is trimmed and nonces are removed every minute. Expired tokens are
// swept every hour, and first after a minute, so that programs that live for less than an hour do
// it too.
const (
	everyMinute = time.Minute
	everyHour   = time.Hour
)

// maxSweep is the most records that a background write changes.
const maxSweep = 1000

// duty is something that is done again and again, in a goroutine of its own.
type duty struct {
	name string
	run  func(ctx context.Context) error
	due  atomic.Int64 // when the next run must have ended, in Unix milliseconds; 0: not awaited

	sync.Mutex       // guards failed
	failed     error // of the last run
}

// setFailed stores the error of the last run, or nil.
func (t *duty) setFailed(err error) {
	t.Lock()
	defer t.Unlock()
	t.failed = err
}

// state returns why the duty is not well, or nil.
func (t *duty) state(now int64) error {
	t.Lock()
	defer t.Unlock()
	if t.failed != nil {
		return t.failed
	}
	if due := t.due.Load(); due != 0 && now > due {
		return errLate
	}
	return nil
}

var errLate = errors.New("falls behind")

// initBackground lists the duties.
func (d *Directory) initBackground() {
	b := &d.background
	b.ctx, b.cancel = context.WithCancel(context.Background())
	var runs []func()
	add := func(name string, run func(context.Context) error, loop func(*duty)) {
		t := &duty{name: name, run: run}
		b.duties = append(b.duties, t)
		runs = append(runs, func() { loop(t) })
	}
	regularly := func(first, every time.Duration) func(*duty) {
		return func(t *duty) { d.regularly(b.ctx, t, first, every) }
	}
	add("heartbeats", d.storeBeats, func(t *duty) { d.storeBegun(b.ctx, t) })
	add("last uses", d.storeLast, regularly(everyMinute, everyMinute))
	add("trimming the feed", d.trimFeed, regularly(everyMinute, everyMinute))
	add("nonces", d.sweepNonces, regularly(everyMinute, everyMinute))
	add("proofs", d.sweepProofs, regularly(everyMinute, everyMinute))
	add("expired tokens", d.sweep, regularly(everyMinute, everyHour))
	add("telling of ends", d.tellDue, func(t *duty) { d.tellEnds(b.ctx, t) })
	if !d.records.Caching() {
		add("following presence", nil, func(t *duty) { d.followPresence(b.ctx, t) })
	}
	if d.follower != nil {
		add("following the feed", nil, func(t *duty) { d.follow(b.ctx, t) })
	}
	b.start = sync.OnceFunc(func() {
		if b.ctx.Err() != nil {
			return
		}
		for _, run := range runs {
			b.done.Go(run)
		}
	})
}

func (b *background) stop() {
	b.cancel()
	b.start() // waits for a start that is under way
	b.done.Wait()
}

// do runs a duty once.
func (d *Directory) do(ctx context.Context, t *duty) {
	err := t.run(ctx)
	if ctx.Err() != nil {
		return // the directory is being closed
	}
	d.ended(t, err)
}

// ended notes how a run of a duty ended, and logs it if the duty failed or is late.
func (d *Directory) ended(t *duty, err error) {
	t.setFailed(err)
	if err := t.state(d.clock.Now()); err != nil {
		d.warn(t.name, "a background duty fails", slog.String("duty", t.name), slog.Any("err", err))
	}
}

// regularly runs a duty until the directory is closed. The duty is late once half an interval has
// passed since it was due.
func (d *Directory) regularly(ctx context.Context, t *duty, first, every time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	t.due.Store(d.clock.Now() + (first + every/2).Milliseconds())
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			began := d.clock.Now()
			d.do(ctx, t)
			now := d.clock.Now()
			t.due.Store(now + (every + every/2).Milliseconds())
			// A duty that takes long still leaves the store some rest.
			timer.Reset(max(every/10, every-time.Duration(now-began)*time.Millisecond))
		}
	}
}

// storeBegun stores heartbeats HeartbeatInterval after the first of them, until the directory is
// closed.
func (d *Directory) storeBegun(ctx context.Context, t *duty) {
	every := d.options.HeartbeatInterval
	flush := time.NewTimer(every)
	flush.Stop()
	defer flush.Stop()
	again := func() {
		flush.Reset(every)
		t.due.Store(d.clock.Now() + 2*every.Milliseconds())
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.records.BeatsBegan():
			again()
		case <-flush.C:
			d.do(ctx, t)
			if t.due.Store(0); !d.records.BeatsStored() {
				again()
			}
		}
	}
}

// flush stores everything that is kept in memory.
func (d *Directory) flush(ctx context.Context) error {
	return errors.Join(d.storeBeats(ctx), d.storeLast(ctx))
}

// storeLast stores last uses and last activities.
func (d *Directory) storeLast(ctx context.Context) error {
	var active error
	var both sync.WaitGroup // a slow store is waited for once
	both.Go(func() { active = d.storeActive(ctx) })
	uses := d.storeUses(ctx)
	both.Wait()
	return errors.Join(uses, active)
}

// storeBeats stores the pending heartbeats.
func (d *Directory) storeBeats(ctx context.Context) error {
	damaged, err := d.records.StoreBeats(ctx)
	for _, key := range damaged {
		d.met(key)
	}
	return err
}

// sweep lets go what expired: tokens with what their texts stand for, texts that no token lists,
// locators that rested, what can no longer be undone, aliases, lists of proofs, keys of who is not
// here any more, and keys of idempotency.
func (d *Directory) sweep(ctx context.Context) error {
	now := d.clock.Now()
	ended := func(value any) bool { return over(untilOf(value), now) }
	return errors.Join(
		d.sweepTokens(ctx, now),
		d.sweepTexts(ctx, now),
		d.sweepUserProofs(ctx, now),
		d.sweepOver(ctx, record.Rests, ended),
		d.sweepOver(ctx, record.Undos, ended),
		d.sweepOver(ctx, record.Aliases, ended),
		d.sweepOld(ctx, record.Heres, func(key store.Key) bool {
			return record.HeresBefore(key, record.HereFrom(now)-1)
		}),
		d.sweepOld(ctx, record.Creations, func(key store.Key) bool {
			return record.CreationsBefore(key, now/86_400_000-1)
		}),
	)
}

// trimFeed drops the events that are too old or too many.
func (d *Directory) trimFeed(ctx context.Context) error {
	return d.trimmer.Trim(ctx, d.clock.Now()-d.options.FeedMaxAge.Milliseconds())
}

// sweepNonces removes nonces two minutes after their minute: a request with one is out of
// SignedWindow by then.
func (d *Directory) sweepNonces(ctx context.Context) error {
	minute := d.clock.Now()/60_000 - 2
	old := func(key store.Key) bool { return record.NoncesBefore(key, minute) }
	return d.sweepOld(ctx, record.Nonces, old)
}

// maxSweptPages bounds how many pages of maxSweep texts one sweep reads.
const maxSweptPages = 100

// sweepTexts drops texts that expired two sweeps ago and still exist. Nothing lists them, because
// the record that did was damaged. Each sweep goes on where the one before ended.
func (d *Directory) sweepTexts(ctx context.Context, now int64) error {
	for range maxSweptPages {
		r := store.Range{Under: record.TokenTexts, After: d.sweptTexts, Limit: maxSweep}
		texts, err := d.store.List(ctx, r)
		if err != nil {
			return err
		}
		var old []store.Key
		for _, r := range texts {
			value, err := record.DecodeStored(r)
			if err != nil {
				d.met(r.Key)
				continue
			}
			if value.(*record.TokenText).Expires < now-2*everyHour.Milliseconds() {
				old = append(old, r.Key)
			}
		}
		if err := d.dropAll(ctx, old); err != nil {
			return err
		}
		if len(texts) < maxSweep {
			d.sweptTexts = ""
			return nil
		}
		d.sweptTexts = texts[len(texts)-1].Key
	}
	return nil
}

// sweepOld drops the keys under a prefix from the first on, as long as they are old. Such keys
// begin with their day or minute, so they are sorted by age.
func (d *Directory) sweepOld(ctx context.Context, under store.Key, old func(store.Key) bool) error {
	for {
		r := store.Range{Under: under, Limit: maxSweep, KeysOnly: true}
		records, err := d.store.List(ctx, r)
		if err != nil {
			return err
		}
		var gone []store.Key
		for _, r := range records {
			if !old(r.Key) {
				break
			}
			gone = append(gone, r.Key)
		}
		if len(gone) == 0 {
			return nil
		}
		if err := d.dropAll(ctx, gone); err != nil {
			return err
		}
	}
}

// sweepOver drops the records under a prefix that are over.
func (d *Directory) sweepOver(
	ctx context.Context, under store.Key, over func(value any) bool,
) error {
	var gone []store.Key
	for r, err := range d.walk(ctx, under) {
		if err != nil {
			return err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			d.met(r.Key)
			continue
		}
		if !over(value) {
			continue
		}
		if gone = append(gone, r.Key); len(gone) == maxSweep {
			if err := d.dropOver(ctx, gone, over); err != nil {
				return err
			}
			gone = nil
		}
	}
	return d.dropOver(ctx, gone, over)
}

// untilOf returns when the time of a record is over, or 0 for never.
func untilOf(value any) int64 {
	switch r := value.(type) {
	case *record.Rest:
		return r.Until
	case *record.Undo:
		return r.Until
	case *record.Alias:
		return r.Until
	}
	return 0
}

// dropOver drops records that are over. It reads them again, because one may have been written anew
// since.
func (d *Directory) dropOver(
	ctx context.Context, keys []store.Key, over func(value any) bool,
) error {
	if len(keys) == 0 {
		return nil
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		entries, err := tx.Read(keys...)
		if err != nil {
			return err
		}
		nothing := true
		for i, e := range entries {
			if over(e.Value()) {
				tx.Drop(keys[i])
				nothing = false
			}
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
}

// dropAll drops keys whatever is stored under them.
func (d *Directory) dropAll(ctx context.Context, keys []store.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		tx.Drop(keys...)
		return nil
	})
}

// sweepTokens drops expired texts from the records of tokens, at most maxSweep keys in one commit.
func (d *Directory) sweepTokens(ctx context.Context, now int64) error {
	var users []store.Key // records with expired texts, for one commit
	size := 0
	commit := func() error {
		err := d.dropExpiredOf(ctx, users, now)
		users, size = nil, 0
		return err
	}
	for r, err := range d.walk(ctx, record.AllTokens) {
		if err != nil {
			return err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			d.met(r.Key)
			continue
		}
		_, ended := dropExpired(value.(*record.Tokens).Tokens, now)
		if len(ended) == 0 {
			continue
		}
		keys := len(ended) + 2 // the record, and that of the last uses
		if size+keys > maxSweep {
			if err := commit(); err != nil {
				return err
			}
		}
		users, size = append(users, r.Key), size+keys
	}
	return commit()
}

// dropExpiredOf drops the expired texts from several records of tokens in one commit, or after a
// conflict one by one. A record that meets a conflict by itself is left for the next sweep:
// somebody is writing it now.
func (d *Directory) dropExpiredOf(ctx context.Context, users []store.Key, now int64) error {
	err := d.tryDropExpired(ctx, users, now)
	if err != errConflict || len(users) == 1 {
		return exceptConflict(err)
	}
	for i := range users {
		if err := exceptConflict(d.tryDropExpired(ctx, users[i:i+1], now)); err != nil {
			return err
		}
	}
	return nil
}

// errConflict says that a write that is not retried met a conflict.
var errConflict = errors.New("met a conflict")

func exceptConflict(err error) error {
	if err == errConflict {
		return nil
	}
	return err
}

func (d *Directory) tryDropExpired(ctx context.Context, users []store.Key, now int64) error {
	if len(users) == 0 {
		return nil
	}
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		if tx.Retrying() {
			return errConflict
		}
		entries, err := tx.Read(users...)
		if err != nil {
			return err
		}
		nothing := true
		for i, e := range entries {
			r, ok := e.Value().(*record.Tokens)
			if !ok {
				continue // gone since, or damaged
			}
			tokens := *r
			live, ended := dropExpired(tokens.Tokens, now)
			if len(ended) == 0 {
				continue
			}
			nothing = false
			tx.Drop(ended...)
			if tokens.Tokens = live; len(live) == 0 {
				tx.Drop(users[i], record.LastUsesKey(tokens.User))
			} else {
				tx.Put(users[i], &tokens)
			}
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
}
