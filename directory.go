package denizen

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/denizenhq/denizen/internal/census"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/trim"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/internal/watch"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// Options are the settings of a directory. The zero value is good.
type Options struct {
	// ApplicationID names the application in tokens and on the wire: 1 to 72 letters, digits,
	// dots, dashes and underscores. If it is empty a new directory makes one. A directory keeps the
	// one it was made with, and refuses to be opened with another.
	ApplicationID string
	// RootKeys, of 32 bytes each and 16 at most, seal access secrets and signing keys in the store.
	// The first seals, and all open. Without any those secrets are stored in the clear.
	//
	// Everything in a directory is under one key: the first one when it was made, and later the
	// first one of whoever called [Directory.Rekey] last. That key must be among them. What is in
	// the clear is under [NoRootKey], which must then be among them beside others.
	RootKeys [][]byte
	// MaySee reports whether one user may be shown something of another. It is called before
	// anything is looked up, and whether or not the subject exists. An error refuses. It must not
	// call methods of the directory that write. If it is nil, nobody sees anybody.
	MaySee func(ctx context.Context, viewer, subject UserID, what Facet) (bool, error)
	// TokenTTL is how long a token lives if TokenOptions do not say: whole seconds. The default
	// is 24 hours, or MaxTokenTTL if that is shorter.
	TokenTTL time.Duration
	// MaxTokenTTL is the longest that a token lives with all its extensions, counted from its
	// issue: whole seconds, ten years at most. The default is 30 days.
	MaxTokenTTL time.Duration
	// HeartbeatInterval is how long a heartbeat is kept in memory before it is stored: whole
	// milliseconds. The default is a second. Where more come than the store takes they wait longer,
	// which Stats.HeartbeatsWaiting and Health tell.
	HeartbeatInterval time.Duration
	// FeedMaxAge and FeedMaxEvents bound the feed. Events beyond them are dropped within a minute.
	// The defaults are 7 days and 1,000,000 events.
	FeedMaxAge    time.Duration
	FeedMaxEvents int
	// CacheBytes bounds the caches, roughly as they weigh in memory: 16 MiB at least. The default
	// is 256 MiB. What is not used is not allocated.
	//
	// Three quarters are for records; over a store that others may write to no record is cached.
	// A record weighs 256 bytes, its key and twice its encoding. The presence of a user with one
	// device weighs 210 bytes if others have the same chain, and up to half of the records may be
	// such. One quarter is for authenticated tokens. A token weighs 512 bytes and its text.
	CacheBytes int64
	// UserEventBurst and UserEventInterval bound how many events a user with a token of its own
	// causes in this process: a burst at once, then one each interval. One more is ErrLimited with
	// Field "events" and RetryAfter.
	//
	// Heartbeats, revoking tokens and clearing presence are free. So is what .system does, also
	// for a user by ActAs. The burst is 1,000,000 at most, by default 60. The interval is whole
	// milliseconds and an hour at most, by default a second.
	UserEventBurst    int
	UserEventInterval time.Duration
	// MaxRevocationDelay is how long Authenticate may accept a token that another process ended,
	// by revoking it or by blocking or deleting its user: whole milliseconds, an hour at most. The
	// default is 0: each call asks the store.
	//
	// Above 0 the directory follows the feed and remembers authenticated tokens, and nothing else
	// of a store that others may write to. While it cannot follow the feed it asks the store. What
	// this process ends is ended at once. A store that is for one directory alone ignores this
	// option: there is no delay.
	MaxRevocationDelay time.Duration
	// LocatorTypes registers types of locators beside e-mail addresses and telephone numbers, 16 at
	// most: see [LocatorRule].
	//
	// A locator that was stored by another version of its rule is shown as it was stored, and keeps
	// its owner. It is found only if the present rule gives the same canonical form: see
	// [Directory.RekeyLocators]. One whose type is not registered any more is shown, too, but never
	// found. .system can remove either.
	LocatorTypes []LocatorRule
	// Quarantine is how long an e-mail address or a telephone number rests after its user gave it
	// up or was deleted: whole milliseconds, ten years at most. The default is 0: it is free at
	// once, unless its user may still undo that: see [Directory.RemoveLocator]. Locators of other
	// types rest by LocatorRule.Rest.
	//
	// While it rests nobody is found by it, and nobody signs in or is created by it. Its last owner
	// gets it back by proving it with a token of its own. NewLocator.Override lets .system give it
	// out.
	Quarantine time.Duration
	// VerifiedFor is after how long Locator.Stale is set: whole milliseconds. The default is 0:
	// never.
	VerifiedFor time.Duration
	// Logger, if set, gets damaged records, and background work that fails or is late: see Health.
	// It gets each kind once a minute at most. It must not call the directory.
	Logger *slog.Logger
	// Trace, if set, is called as an operation begins, on the goroutine that called it: see
	// [Operation]. Many may call it at once. The operation goes on with the context it returns, which
	// must come from the one it is given. What it returns beside is called with the error of the
	// operation, or nil, when that ends; nil is not called. If the operation panics, the error is
	// none of this package's. Neither may call the directory, or block.
	//
	// What the directory does in the background is no operation. If Trace is nil it costs nothing.
	Trace func(context.Context, Operation) (context.Context, func(error))
}

// Limits of a directory.
const (
	MaxLocators       = 16       // locators that a user owns
	MaxClaims         = 4        // pending claims of a user, beside the locators it owns
	MaxAliases        = 16       // ids of users who were merged into a user and that lead to it
	MaxTokens         = 100      // live tokens of a user
	MaxTokenTexts     = 8        // live signed texts of a token
	MaxAccessKeys     = 3        // access keys of a directory
	MaxAttributeBytes = 64 << 10 // bytes of an attribute's value; its definition may allow less
	MaxList           = 100      // ids, keys or tokens in one call
	MaxPage           = 1000     // users in one page
)

// MaxProfileBytes bounds the attributes of a user together, in bytes, including keys and types.
//
// A profile is one record, which each change rewrites. In a bbolt file a small change writes some
// 25 KB to disk if the profile is small, 95 KB if it has 64 KB and 275 KB if it has 240 KB. One
// record for each attribute would write about half of that, because the pages of a file hold
// neighbours, and would turn reading a profile into a walk. To measure it:
//
//	go test -run '^$' -bench FullProfile -benchtime 200x .
const MaxProfileBytes = 256 << 10

// Bounds of Options.CacheBytes.
const (
	minCacheBytes   = txn.MinCacheBytes / 3 * 4
	usualCacheBytes = 256 << 20
)

// recordBytes and tokenBytes are the two parts of Options.CacheBytes.
func recordBytes(cacheBytes int64) int64 { return cacheBytes - tokenBytes(cacheBytes) }

func tokenBytes(cacheBytes int64) int64 { return cacheBytes / 4 }

// maxTries is how often something is tried that others keep spoiling.
const maxTries = 16

// tenYears is the longest that an option may say.
const tenYears = 10 * 365 * 24 * time.Hour

// fill checks the options and fills in the defaults.
func (o *Options) fill() error {
	if o.ApplicationID != "" && !applicationID(o.ApplicationID) {
		const rule = "must be 1 to 72 letters, digits, dots, dashes and underscores"
		return invalid("ApplicationID", rule)
	}
	durations := []struct {
		name  string
		value *time.Duration
		usual time.Duration
		step  time.Duration
	}{
		{"MaxTokenTTL", &o.MaxTokenTTL, 30 * 24 * time.Hour, time.Second},
		{"TokenTTL", &o.TokenTTL, 24 * time.Hour, time.Second},
		{"HeartbeatInterval", &o.HeartbeatInterval, time.Second, time.Millisecond},
		{"FeedMaxAge", &o.FeedMaxAge, 7 * 24 * time.Hour, time.Millisecond},
		{"UserEventInterval", &o.UserEventInterval, time.Second, time.Millisecond},
	}
	for _, d := range durations {
		if *d.value == 0 {
			*d.value = d.usual
			if d.value == &o.TokenTTL {
				o.TokenTTL = min(o.TokenTTL, o.MaxTokenTTL)
			}
		}
		if *d.value < d.step || *d.value%d.step != 0 {
			return invalid(d.name, "must be a positive multiple of "+d.step.String())
		}
	}
	if o.MaxTokenTTL > tenYears {
		return invalid("MaxTokenTTL", "must be ten years at most")
	}
	if o.TokenTTL > o.MaxTokenTTL {
		return invalid("TokenTTL", "must not be longer than MaxTokenTTL")
	}
	delay := o.MaxRevocationDelay
	if delay < 0 || delay > time.Hour || delay%time.Millisecond != 0 {
		const rule = "must be a multiple of a millisecond and an hour at most"
		return invalid("MaxRevocationDelay", rule)
	}
	whole := func(v time.Duration) bool { return v >= 0 && v%time.Millisecond == 0 && v <= tenYears }
	const rule = "must be a multiple of a millisecond and ten years at most"
	switch {
	case !whole(o.Quarantine):
		return invalid("Quarantine", rule)
	case !whole(o.VerifiedFor):
		return invalid("VerifiedFor", rule)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = usualCacheBytes
	}
	if o.CacheBytes < minCacheBytes {
		return invalid("CacheBytes", "must be 16 MiB at least")
	}
	if o.UserEventBurst == 0 {
		o.UserEventBurst = 60
	}
	if o.UserEventBurst < 0 || o.UserEventBurst > 1_000_000 {
		return invalid("UserEventBurst", "must be 1 to 1000000")
	}
	if o.UserEventInterval > time.Hour {
		return invalid("UserEventInterval", "must be an hour at most")
	}
	if len(o.LocatorTypes) > 16 {
		return invalid("LocatorTypes", "must be 16 at most")
	}
	o.LocatorTypes = slices.Clone(o.LocatorTypes)
	if err := locatorRules(o.LocatorTypes).fill(); err != nil {
		return err
	}
	if o.FeedMaxEvents == 0 {
		o.FeedMaxEvents = 1_000_000
	}
	if o.FeedMaxEvents < 0 {
		return invalid("FeedMaxEvents", "must be positive")
	}
	return nil
}

func applicationID(s string) bool {
	return s != "" && len(s) <= 72 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r == '.' || r == '-' || r == '_')
	})
}

// Directory is a user directory over a store.
//
// Many goroutines may call its methods at once. What they return belongs to the caller. A method
// that changes something returns once the change is durable, as far as its store is. Heartbeats are
// the one exception: see [Directory.SetPresence].
type Directory struct {
	store   store.Store
	options Options
	clock   *clock.Clock
	release func()

	// Set before New or Open returns, and constant after.
	id            string // no other directory ever has it
	epoch         int64  // of the history that cursors of the feed are of
	applicationID string
	rootKeys      []rootKey
	dummySecret   string // the sealed secret of an access key that nobody has
	cursors       cipher.AEAD
	restingKey    []byte
	proofKey      []byte
	undoKey       []byte
	rules         locatorRules // never changed

	records    *txn.DB // of store; caches nothing over a store that others may write to
	tokens     *tokenCache
	follower   *revocationFollower // nil unless others may write and MaxRevocationDelay is set
	buckets    *buckets
	lastUses   *lastUses
	lastActive *lastActive
	notified   notified
	keyRing    atomic.Pointer[keyRing]
	onChange   *atomic.Pointer[func(door.Change)] // set by package signin
	census     *census.Census
	watches    *watch.Table // nil in a transaction

	parent     *Directory // the one that InTx was called on, or nil
	closed     atomic.Bool
	background background
	health     *health
	trimmer    *trim.Trimmer // used by the goroutine that trims
	sweptTexts store.Key     // used by the goroutine that sweeps: where sweepTexts goes on
	closeOnce  sync.Once
	closeStore bool
	closeErr   error
}

// Open opens the directory in a bbolt file, and makes it if there is no file. Close it when done.
// Only one program can have a file open: a second gets [ErrUnavailable] within a second.
//
// A file that is empty, of something else or of another version is [ErrUnavailable], and a damaged
// one [ErrCorrupt]. Both have Field "path" and a Reason, and the file is left as it is. If only its
// records show the damage, the error is ErrCorrupt without a Field, and all that the file has noted
// is that it was opened.
func Open(ctx context.Context, path string, o Options) (*Directory, error) {
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return nil, openError(err)
	}
	d, err := newDirectory(ctx, s, o)
	if err != nil {
		return nil, toError("Open", errors.Join(err, s.Close()))
	}
	d.closeStore = true
	return d, nil
}

// openError returns why a file was not opened.
func openError(err error) error {
	e := &Error{Op: "Open", Kind: ErrUnavailable, Field: "path", cause: err}
	switch {
	case errors.Is(err, bolt.ErrInUse):
		e.Reason = "another program has the file open"
	case errors.Is(err, bolt.ErrMode):
		e.Reason = "others than its owner may read or write the file"
	case errors.Is(err, bolt.ErrFormat):
		e.Reason = "the file is empty, of something else or of another version"
	case errors.Is(err, store.ErrCorrupt):
		e.Kind, e.Reason = ErrCorrupt, "the file is damaged"
	}
	return e
}

// New opens the directory in a store, and makes it if the store is empty. The caller closes the
// store, after the directory. A store that is for one directory alone refuses a second one with
// [ErrTaken].
func New(ctx context.Context, s store.Store, o Options) (*Directory, error) {
	d, err := newDirectory(ctx, s, o)
	if err != nil {
		return nil, toError("New", err)
	}
	return d, nil
}

func newDirectory(ctx context.Context, s store.Store, o Options) (*Directory, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	d := &Directory{
		store: s, options: o, clock: clock.From(ctx), release: func() {},
		buckets:  newBuckets(o.UserEventBurst, o.UserEventInterval),
		lastUses: newLastUses(), lastActive: newLastActive(),
		health: &health{logged: map[string]int64{}}, rules: o.LocatorTypes,
		onChange: new(atomic.Pointer[func(door.Change)]),
	}
	var err error
	if d.rootKeys, err = newRootKeys(o.RootKeys); err != nil {
		return nil, err
	}
	d.options.RootKeys = nil
	cacheBytes := int64(0)
	if sole, ok := s.(store.Sole); ok {
		release, err := sole.Own()
		if errors.Is(err, store.ErrOwned) {
			return nil, &Error{
				Kind: ErrTaken, Field: "store", Reason: "belongs to another directory", cause: err,
			}
		}
		if err != nil {
			return nil, err
		}
		d.release, cacheBytes = release, recordBytes(o.CacheBytes)
		d.tokens = newTokenCache(nil, tokenBytes(o.CacheBytes))
	} else if o.MaxRevocationDelay > 0 {
		d.follower = newRevocationFollower(o.MaxRevocationDelay)
		d.tokens = newTokenCache(d.follower, tokenBytes(o.CacheBytes))
	}
	d.records = txn.New(s, cacheBytes)
	d.census = newCensus(s)
	d.watches = watch.New(o.CacheBytes)
	d.trimmer = trim.New(s, d.records, o.FeedMaxEvents)
	d.initBackground()
	if err := d.loadOrInitialize(ctx); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// loadOrInitialize reads the directory's own record. In a store that nothing was ever committed to
// it makes one. Of several that do so at once one wins, and the others read what it made. A store
// that was written to and has no such record is damaged, and left as it is.
func (d *Directory) loadOrInitialize(ctx context.Context) error {
	for range maxTries {
		// The head is read first: then the read after it sees all that was committed up to it.
		feed, err := headOf(ctx, d.store)
		if err != nil {
			return err
		}
		entries, err := d.records.Read(ctx, record.DirectoryKey)
		if err != nil {
			return err
		}
		own, ok := entries[0].Value().(*record.Directory)
		switch {
		case ok:
			return d.loadExisting(own)
		case entries[0].Damaged():
			return fmt.Errorf("%w: the directory's own record cannot be read", store.ErrCorrupt)
		case feed.Head != 0:
			return fmt.Errorf("%w: the directory's own record is missing", store.ErrCorrupt)
		}
		if err := d.initialize(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: a new store refuses its first records", store.ErrCorrupt)
}

// initialize writes the first records of a new directory, unless another process has done so.
func (d *Directory) initialize(ctx context.Context) error {
	own := record.Directory{
		ID: uuid.NewString(), ApplicationID: d.options.ApplicationID, Created: d.clock.Now(),
		Epoch: newEpoch(),
	}
	if own.ApplicationID == "" {
		own.ApplicationID = uuid.NewString()
	}
	d.id = own.ID
	var cursorKey [chacha20poly1305.KeySize]byte
	rand.Read(cursorKey[:])
	own.CursorKey = d.seal(d.rootKeys[0], cursorPurpose, cursorKey[:])
	first := d.newSigningKey(d.rootKeys[0], own.Created, own.Created)
	event := newEvent(&call{by: System(), now: own.Created}, EventDirectoryFounded)
	return d.writeBackground(ctx, func(tx *txn.Tx) error {
		if tx.Retrying() {
			return errUnchanged // another process was first
		}
		tx.Absent(record.DirectoryKey)
		tx.Absent(record.SigningKeysKey)
		tx.Put(record.DirectoryKey, &own)
		tx.Put(record.SigningKeysKey, &record.SigningKeys{Keys: []record.SigningKey{first}})
		tx.Emit(event)
		return nil
	})
}

// loadExisting makes d the directory of the given record, if the options match it.
func (d *Directory) loadExisting(own *record.Directory) error {
	if d.options.ApplicationID != "" && d.options.ApplicationID != own.ApplicationID {
		return invalid("ApplicationID", "is not the one this directory was made with")
	}
	d.id, d.applicationID, d.epoch = own.ID, own.ApplicationID, own.Epoch
	cursorKey, root, err := d.unseal(cursorPurpose, own.CursorKey)
	if err != nil {
		switch s, ok := parseSealed(own.CursorKey); {
		case ok && s.id == NoRootKey && !d.hasKeyOf(own.CursorKey):
			return invalid("RootKeys", "this directory has none, and NoRootKey is not among them")
		case ok && (s.id == "" || !d.hasKeyOf(own.CursorKey)):
			return invalid("RootKeys", "that of this directory is not among them")
		}
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	d.dummySecret = d.sealAccess(root, "", secret)
	d.restingKey, d.undoKey = restingKey(cursorKey), undoKey(cursorKey)
	d.proofKey = proofKey(cursorKey)
	d.cursors, err = chacha20poly1305.NewX(cursorKey)
	return err
}

// ApplicationID returns the id of the application: the audience of the directory's tokens.
func (d *Directory) ApplicationID() string { return d.applicationID }

// ID returns the id of the directory, which no other directory has: the issuer of its tokens.
func (d *Directory) ID() string { return d.id }

// closeWithin bounds how long Close waits for the store to take what is still in memory.
const closeWithin = 5 * time.Second

// Close ends the directory's goroutines and waits for them. Then it stores what is still in memory,
// for five seconds at most. Methods called after it return [ErrClosed]. If the directory was made
// by [Open] its file is closed, too; a store given to [New] stays open. Closing again does nothing
// and returns the same error.
func (d *Directory) Close() error {
	d.closeOnce.Do(func() {
		d.closed.Store(true)
		if d.parent != nil {
			return
		}
		d.background.stop()
		ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
		d.closeErr = d.flush(ctx)
		cancel()
		d.release()
		if d.closeStore {
			d.closeErr = errors.Join(d.closeErr, d.store.Close())
		}
		if d.closeErr != nil {
			d.closeErr = toError("Close", d.closeErr)
		}
	})
	return d.closeErr
}

// usable returns ErrClosed once the directory is closed.
func (d *Directory) usable() error {
	if d.closed.Load() || d.parent != nil && d.parent.closed.Load() {
		return newError(ErrClosed, "", "")
	}
	return nil
}

// InTx returns the directory as seen through a transaction of its database. The caller began the
// transaction, and made s with the InTx of store/postgres. What is written through the returned
// Directory commits or not with the transaction, and nobody else sees it before. It is durable only
// once the transaction has committed.
//
// The returned Directory caches nothing, stores each heartbeat at once, has no goroutine and need
// not be closed. It must not be used after the end of the transaction, nor by several goroutines at
// once if the transaction must not.
//
// Other directories learn from the feed which tokens and users it ends. So does d. They may be late
// by Options.MaxRevocationDelay.
//
// A directory whose store is for it alone, in memory or in a file, has no such transactions:
// [ErrInvalid] with Field "store".
func (d *Directory) InTx(s store.Store) (inTx *Directory, err error) {
	defer wrapOp("InTx", &err)
	if err := d.usable(); err != nil {
		return nil, err
	}
	if d.records.Caching() {
		const rule = "is for one directory alone and has no transactions for others"
		return nil, newError(ErrInvalid, "store", rule)
	}
	inTx = &Directory{
		store: s, options: d.options, clock: d.clock, release: func() {}, parent: d,
		id: d.id, epoch: d.epoch, applicationID: d.applicationID, rules: d.rules,
		rootKeys: d.rootKeys, dummySecret: d.dummySecret, cursors: d.cursors,
		restingKey: d.restingKey, undoKey: d.undoKey, proofKey: d.proofKey,
		records: txn.New(s, 0), census: newCensus(s), buckets: d.buckets,
		lastUses: d.lastUses, lastActive: d.lastActive, health: d.health, onChange: d.onChange,
	}
	inTx.background = background{start: d.background.start, ctx: d.background.ctx, cancel: func() {}}
	return inTx, nil
}
