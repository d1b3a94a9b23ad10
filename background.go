package denizen

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// sweep lets go what expired: tokens with what their texts stand for, nonces, and keys of
// idempotency.
func (d *Directory) sweep(ctx context.Context) error {
	now := d.clock.Now()
	return errors.Join(
		d.sweepTokens(ctx, now),
		d.sweepOld(ctx, record.Nonces, func(key store.Key) bool { return record.NoncesBefore(key, now/60_000-2) }),
		d.sweepOld(ctx, record.Creations, func(key store.Key) bool { return record.CreationsBefore(key, now/86_400_000-1) }),
	)
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
		value, err := record.Decode(r.Key, r.Value)
		if err != nil {
			return err
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

// trimFeed forgets events that are too old or too many, a bounded number in one commit.
func (d *Directory) trimFeed(ctx context.Context) error {
	t := &d.trimming
	oldest := d.clock.Now() - d.options.FeedKeep.Milliseconds()
	for t.next < oldest {
		feed, err := d.store.Changes(ctx, t.trimmed, MaxPage)
		if isMissed(err) {
			t.trimmed = feed.First - 1 // somebody else trimmed
			continue
		}
		if err != nil {
			return err
		}
		old := 0
		for ; old < len(feed.Changes); old++ {
			event, err := record.DecodeEvent(feed.Changes[old].Event)
			if err != nil {
				return err
			}
			if event.At >= oldest {
				t.next = event.At
				break
			}
		}
		if old > 0 {
			if err := d.trimTo(ctx, feed.Changes[old-1].Seq); err != nil {
				return err
			}
		}
		if old < MaxPage {
			break
		}
	}
	if err := d.countFeed(ctx); err != nil {
		return err
	}
	for len(t.marks) > 0 && (t.marks[0] <= t.trimmed || len(t.marks)*t.step+t.since > d.options.FeedMax) {
		if t.marks[0] > t.trimmed {
			if err := d.trimTo(ctx, t.marks[0]); err != nil {
				return err
			}
		}
		t.marks = t.marks[1:]
	}
	return nil
}

func (d *Directory) trimTo(ctx context.Context, upTo store.Seq) error {
	_, err := d.commit(ctx, &batch{Batch: store.Batch{Trim: upTo}})
	if err == nil {
		d.trimming.trimmed = upTo
	}
	return err
}

// countFeed counts the events that came since it last did.
func (d *Directory) countFeed(ctx context.Context) error {
	t := &d.trimming
	t.step = min(max(1, d.options.FeedMax/1000), maxSweep)
	for {
		feed, err := d.store.Changes(ctx, t.counted, MaxPage)
		if isMissed(err) {
			t.counted, t.since, t.marks = feed.First-1, 0, nil
			continue
		}
		if err != nil {
			return err
		}
		t.trimmed = max(t.trimmed, feed.First-1)
		for _, ch := range feed.Changes {
			t.counted = ch.Seq
			if t.since++; t.since == t.step {
				t.marks, t.since = append(t.marks, ch.Seq), 0
			}
		}
		if len(feed.Changes) < MaxPage {
			t.counted = max(t.counted, feed.Head)
			return nil
		}
	}
}

// trimming is how far the feed was trimmed and counted.
type trimming struct {
	trimmed store.Seq
	next    int64 // the time of an event after that, or 0: until it is too old none is
	counted store.Seq
	step    int
	marks   []store.Seq // every step-th event that was counted
	since   int         // events counted after the last mark
}

// uses is when tokens and access keys were last used, as far as that is not stored yet.
type uses struct {
	sync.Mutex
	byOwner map[UserID][]record.LastUse // a few of each
}

// use is one token of a user, or one access key if the user is nobody.
type use struct {
	owner UserID
	id    string
	noted atomic.Int64 // when it was last put into the table
}

func newUses() *uses { return &uses{byOwner: map[UserID][]record.LastUse{}} }

// touch notes a use, once a minute.
func (u *use) touch(d *Directory, now int64) {
	if now-u.noted.Load() >= everyMinute.Milliseconds() {
		u.noted.Store(now)
		d.uses.note(d, u.owner, record.LastUse{ID: u.id, At: now})
	}
}

// note puts a use into the table.
func (t *uses) note(d *Directory, owner UserID, l record.LastUse) {
	d.background.start()
	t.Lock()
	defer t.Unlock()
	noted := t.byOwner[owner]
	if i := useOf(noted, l.ID); i >= 0 {
		noted[i] = l
		return
	}
	t.byOwner[owner] = append(noted, l)
}

// useOf answers where the last use of a token or key is, or -1.
func useOf(uses []record.LastUse, id string) int {
	return slices.IndexFunc(uses, func(l record.LastUse) bool { return l.ID == id })
}

// of answers the last uses of an owner's tokens or keys that are not stored yet. It is asked
// before what is stored is read: what is in neither was not used.
func (t *uses) of(owner UserID) []record.LastUse {
	t.Lock()
	defer t.Unlock()
	return slices.Clone(t.byOwner[owner])
}

// lastUse answers the last use of a token or key, stored or not.
func lastUse(id string, noted []record.LastUse, stored *memo) record.LastUse {
	if i := useOf(noted, id); i >= 0 {
		return noted[i]
	}
	if r, ok := stored.value.(*record.Uses); ok {
		if i := useOf(r.Uses, id); i >= 0 {
			return r.Uses[i]
		}
	}
	return record.LastUse{}
}

// storeUses stores the last uses there are, owner by owner in batches. Those of tokens and
// keys that do not live any longer are left out.
func (d *Directory) storeUses(ctx context.Context) error {
	d.uses.Lock()
	owners := slices.Collect(maps.Keys(d.uses.byOwner))
	d.uses.Unlock()
	slices.Sort(owners) // neighbours lie in the same pages
	for some := range slices.Chunk(owners, maxSweep) {
		if err := retry(func() error { return d.storeSomeUses(ctx, some) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) storeSomeUses(ctx context.Context, owners []UserID) error {
	keys := make([]store.Key, 0, 2*len(owners))
	for _, owner := range owners {
		lives := record.AccessKeysKey
		if owner != nobody {
			lives = record.TokensKey(string(owner))
		}
		keys = append(keys, record.UsesKey(string(owner)), lives)
	}
	memos, err := d.load(ctx, nil, keys)
	if err != nil {
		return err
	}
	taken := make([][]record.LastUse, len(owners))
	d.uses.Lock()
	for i, owner := range owners {
		taken[i] = slices.Clone(d.uses.byOwner[owner])
	}
	d.uses.Unlock()
	var batch batch
	for i, owner := range owners {
		uses := slices.Clone(taken[i])
		if r, ok := memos[2*i].value.(*record.Uses); ok {
			for _, l := range r.Uses {
				if useOf(taken[i], l.ID) < 0 {
					uses = append(uses, l)
				}
			}
		}
		live := living(memos[2*i+1].value)
		uses = slices.DeleteFunc(uses, func(l record.LastUse) bool { return !live[l.ID] })
		if len(uses) == 0 {
			continue
		}
		slices.SortFunc(uses, func(a, b record.LastUse) int { return strings.Compare(a.ID, b.ID) })
		next := record.Uses{User: string(owner), Uses: uses}
		// The record is dropped with the tokens, so it is written only while those stand.
		batch.If = append(batch.If,
			store.Cond{Key: keys[2*i], Version: memos[2*i].version}, store.Cond{Key: keys[2*i+1], Version: memos[2*i+1].version})
		batch.put(keys[2*i], &next)
	}
	if len(batch.Put) > 0 {
		if _, err := d.commit(ctx, &batch); err != nil {
			return err
		}
	}
	d.uses.stored(owners, taken)
	return nil
}

// stored takes out of the table what was stored, but for uses that came since.
func (t *uses) stored(owners []UserID, taken [][]record.LastUse) {
	t.Lock()
	defer t.Unlock()
	for i, owner := range owners {
		since := slices.DeleteFunc(t.byOwner[owner], func(l record.LastUse) bool { return slices.Contains(taken[i], l) })
		if t.byOwner[owner] = since; len(since) == 0 {
			delete(t.byOwner, owner)
		}
	}
}

// living answers the ids of the tokens, or the incarnations of the access keys, in a record.
func living(value any) map[string]bool {
	ids := map[string]bool{}
	switch r := value.(type) {
	case *record.Tokens:
		for _, t := range r.Tokens {
			ids[t.ID] = true
		}
	case *record.AccessKeys:
		for _, k := range r.Keys {
			ids[k.Incarnation] = true
		}
	}
	return ids
}
