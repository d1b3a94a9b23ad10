package denizen

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// background is the goroutines of a directory, one for each duty, so that none holds up another.
// They start with the first heartbeat, token, nonce or the like, and end with Close. They store
// what is kept in memory and let what expired leave the store. Whatever a duty cannot do now it
// does the next time.
type background struct {
	start  func() // once; not after stop
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	duties []*duty
}

// How often last uses are stored, the feed is trimmed and nonces go, and how often all that
// expires is gone through: a minute after the start, so that programs that live for less than an
// hour do it too, and every hour then.
const (
	everyMinute = time.Minute
	everyHour   = time.Hour
)

// maxSweep is how many records a background write changes at most.
const maxSweep = 1000

// duty is something that is done again and again, in a goroutine of its own.
type duty struct {
	name string
	run  func(ctx context.Context) error
	due  atomic.Int64 // Unix milliseconds by which a run must end that is well; 0: none must

	sync.Mutex       // guards failed
	failed     error // of the last run
}

func (t *duty) ended(err error) {
	t.Lock()
	defer t.Unlock()
	t.failed = err
}

// state returns why the duty is not as it should be, or nil.
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

// initBackground says what the duties are.
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
	add("last uses", d.storeUses, regularly(everyMinute, everyMinute))
	add("trimming the feed", d.trimFeed, regularly(everyMinute, everyMinute))
	add("nonces", d.sweepNonces, regularly(everyMinute, everyMinute))
	add("expired tokens", d.sweep, regularly(everyMinute, everyHour))
	if d.following != nil {
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
	b.start() // nothing, or waits for a start under way
	b.done.Wait()
}

// do runs a duty once, and says in the log if it failed or came late.
func (d *Directory) do(ctx context.Context, t *duty) {
	err := t.run(ctx)
	if ctx.Err() != nil {
		return // the directory is being closed
	}
	d.ended(t, err)
}

// ended notes how a run of a duty ended.
func (d *Directory) ended(t *duty, err error) {
	t.ended(err)
	if err := t.state(d.clock.Now()); err != nil {
		d.warn(t.name, "a background duty fails", slog.String("duty", t.name), slog.Any("err", err))
	}
}

// regularly runs a duty until the directory is closed. It is due again after half as long
// again as it should take.
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
			// A duty that takes long leaves the store some rest.
			timer.Reset(max(every/10, every-time.Duration(now-began)*time.Millisecond))
		}
	}
}

// storeBegun stores heartbeats, HeartbeatInterval after the first of them, until the directory is
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
		case <-d.beating.began:
			again()
		case <-flush.C:
			d.do(ctx, t)
			if t.due.Store(0); d.beating.any() {
				again()
			}
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

// sweep lets go what expired: tokens with what their texts stand for, texts that no token lists,
// and keys of idempotency.
func (d *Directory) sweep(ctx context.Context) error {
	now := d.clock.Now()
	return errors.Join(
		d.sweepTokens(ctx, now),
		d.sweepTexts(ctx, now),
		d.sweepOld(ctx, record.Creations, func(key store.Key) bool { return record.CreationsBefore(key, now/86_400_000-1) }),
	)
}

// sweepNonces lets go the nonces whose minute is over: no request with one is in time any more.
func (d *Directory) sweepNonces(ctx context.Context) error {
	minute := d.clock.Now()/60_000 - 2
	return d.sweepOld(ctx, record.Nonces, func(key store.Key) bool { return record.NoncesBefore(key, minute) })
}

// maxSweptPages bounds how many texts one sweep goes through, of maxSweep each.
const maxSweptPages = 100

// sweepTexts drops texts that expired two sweeps ago and are still there: nothing lists them, as
// the record that did was damaged. Each sweep goes on where the one before ended.
func (d *Directory) sweepTexts(ctx context.Context, now int64) error {
	for range maxSweptPages {
		texts, err := d.store.List(ctx, store.Range{Under: record.TokenTexts, After: d.sweptTexts, Limit: maxSweep})
		if err != nil {
			return err
		}
		var old batch
		for _, r := range texts {
			value, err := decodeRecord(r)
			if err != nil {
				d.met(r.Key)
				continue
			}
			if value.(*record.TokenText).Expires < now-2*everyHour.Milliseconds() {
				old.Drop = append(old.Drop, r.Key)
			}
		}
		if len(old.Drop) > 0 {
			if _, err := d.commit(ctx, &old); err != nil {
				return err
			}
		}
		if len(texts) < maxSweep {
			d.sweptTexts = ""
			return nil
		}
		d.sweptTexts = texts[len(texts)-1].Key
	}
	return nil
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
			d.met(r.Key) // the others go on
			continue
		}
		tokens := *value.(*record.Tokens)
		live, ended := alive(tokens.Tokens, now)
		if len(ended) == 0 {
			continue
		}
		user := batch{Batch: store.Batch{If: []store.Cond{{Key: r.Key, Version: r.Version}}, Drop: ended}}
		if tokens.Tokens = live; len(live) == 0 {
			user.Drop = append(user.Drop, r.Key, record.LastUsesKey(tokens.User))
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
	return commit()
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
