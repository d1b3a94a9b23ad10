// Package store defines the storage interface of a directory.
//
// A [Store] holds records under keys, and a feed of events. It knows nothing of users. A write is
// data: a [Batch] lists the conditions that must hold, the records to drop and to put, and the
// event to emit. It is applied as a whole or not at all.
//
// Three packages implement Store: store/memory for tests, store/bolt for one file and one process,
// and store/postgres for a database that many processes share. [Copy] moves a directory from one to
// another. The package store/storetest tests any implementation against the contract below, clause
// by clause.
//
// # Writes
//
//  1. Atomicity. The conditions, drops, puts, event and trim of a batch are one atomic change. No
//     reader ever sees a part of it.
//  2. Conditions. Every condition is checked against the state left by all earlier commits. If one
//     fails, nothing changes, and the error is a [*Conflict] that lists every condition that
//     failed.
//  3. Order within a batch. Drops are applied before puts, so a key under both is put. Dropping an
//     absent key is not an error.
//  4. Sequence. Every applied batch gets the next [Seq], whether or not it emits an event. A
//     record's Version is the Seq of the batch that wrote it. Once a commit is acknowledged, every
//     later read sees it.
//
// # Reads and the feed
//
//  5. Get reads all its keys from one snapshot. It returns one record per key, in the order of the
//     keys. An absent key has Version 0 and no value.
//  6. List reads from one snapshot and returns at most Limit records in bytewise key order.
//  7. The feed is in commit order and has no gaps. An event is visible exactly when the puts of its
//     batch are. Nothing ever appears at or below a Seq that a reader has seen as Head.
//  8. A trim permanently forgets the events up to a Seq. Changes after any earlier Seq returns
//     [ErrMissed], with First and Head, whether or not there were events in between.
//  9. Wait returns when something newer is committed, when its context ends or when the store is
//     closed, and at no other time but that of clause 19.
//
// # Durability and outcomes
//
//  10. Durability. What Commit and Load acknowledge survives a crash of the process and of the
//     machine. A store in memory documents that it does not.
//  11. Outcomes. If Commit returns nil, the batch was applied. If it returns [ErrOutcomeUnknown],
//     the batch was applied or not, but never in part. After any other error it was not applied. A
//     context that ends before the batch is handed over withdraws it, and the error is the
//     context's. After that, Commit waits for the true outcome.
//
// # Memory, keys and values
//
//  12. Memory. The caller owns what is returned. What the caller passes in is not changed, and not
//     kept after the call returns.
//  13. Keys are 1 to [MaxKey] bytes of any value, and are compared bytewise.
//  14. A value is one JSON object: valid UTF-8 of at most [MaxValue] bytes, without U+0000 or lone
//     surrogates. So is an event. A store may change the spelling of an object (order, spaces,
//     escapes, numbers), but not its meaning.
//
// # Life of a store
//
//  15. Close waits for commits under way. Every other method then returns [ErrClosed] and never
//     panics. Closing twice is not an error.
//  16. Load fills a store that nothing was ever committed to, and keeps versions and sequence. It
//     refuses any other store with [ErrNotEmpty]. Versions and sequence numbers are between 1 and
//     head, and no key or sequence number occurs twice. A Load that fails leaves a store that is
//     empty or refuses to open. Its error wraps that of the iterator.
//  17. All methods may be called by many goroutines at once.
//
// # Damage and disasters
//
//  18. Damage. A record or an event that exists but cannot be read does not hide the others: Get,
//     List and Changes return it in its place, marked Damaged and without a value. A condition on
//     the version of a damaged record refuses its batch with [ErrCorrupt]. A condition with Damaged
//     holds exactly while the record is damaged. A drop or a put without a condition on the record
//     replaces it. If a read returns ErrCorrupt, more than single records is damaged, and nothing
//     is known of what is missing.
//  19. A store that went back. After a restored backup or a lossy failover the head may be below
//     what a reader has seen. Changes after a Seq beyond the head, except [End], returns ErrMissed
//     with First and Head. Wait returns ErrMissed as soon as the store knows. Nothing waits for a
//     Seq of the lost history.
//  20. Urgent batches. A batch marked Urgent, such as one that ends a token, may use space that the
//     store keeps in reserve, so that it can be applied on a full disk. Urgent changes nothing
//     else.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Limits that every store enforces.
const (
	MaxKey   = 1024    // bytes of a key
	MaxValue = 4 << 20 // bytes of a value or an event
	MaxPage  = 10_000  // records or changes in one page
)

// Seq is a position in the order of commits. The first commit has 1; 0 is before all commits.
type Seq uint64

// End stands for the current head, whatever it is. Changes after End returns a [Feed] with First
// and Head and without changes. No commit ever has this Seq.
const End = ^Seq(0)

// Key names a record. It is any bytes, compared bytewise, and not meant to be read by people.
type Key string

// Record is a value and the key it is stored under.
type Record struct {
	Key     Key
	Version Seq    // the Seq of the commit that wrote it; 0 if the key is absent
	Value   []byte // one JSON object; nil if absent, damaged or not asked for
	Damaged bool   // the record exists but cannot be read; Version is then unreliable
}

// Range selects the records whose keys begin with Under and sort after After.
type Range struct {
	Under    Key  // a prefix; empty: every key
	After    Key  // empty: from the first
	Limit    int  // 1 to MaxPage
	KeysOnly bool // leave the values nil
}

// Cond is a condition that must hold for a batch to be applied. By default it compares the version
// of the record under Key. Under and Damaged ask for something else instead, ignore Version, and
// cannot be combined.
type Cond struct {
	Key     Key
	Version Seq  // the version Key must have; 0: Key must be absent
	Under   bool // no key may begin with Key
	Damaged bool // the record under Key must exist and be damaged
}

// Batch is one atomic write. At least one of Drop, Put, Emit and Trim must be set, and no key may
// be put twice.
type Batch struct {
	If     []Cond   // all must hold
	Drop   []Key    // applied before Put
	Put    []Record // Version is ignored; it becomes the Seq of this batch
	Emit   []byte   // one event, a JSON object; nil for none
	Trim   Seq      // forget the events up to here, at most up to the previous commit
	Urgent bool     // may use the space reserved for a full disk
}

// Change is an event in the feed.
type Change struct {
	Seq     Seq
	Event   []byte
	Damaged bool // the event exists but cannot be read; Event is nil
}

// Feed is a page of the feed. If Changes holds fewer events than the limit, it holds all of them up
// to Head, and the reader continues after Head. Otherwise the reader continues after the last
// change.
type Feed struct {
	First   Seq // the lowest Seq that is not forgotten; 1 if none is
	Head    Seq // the Seq of the latest commit
	Changes []Change
}

// Store holds records and a feed. All implementations keep the contract in the package
// documentation. Besides the errors named here, every method may return [ErrUnavailable],
// [ErrCorrupt], [ErrClosed] and the error of its context, and [ErrInvalid] for arguments outside
// the limits.
type Store interface {
	// Get returns the records under keys, in the order of keys, from one snapshot.
	Get(ctx context.Context, keys ...Key) ([]Record, error)
	// List returns one page of records in key order, from one snapshot.
	List(ctx context.Context, r Range) ([]Record, error)
	// Commit applies b, makes it durable and returns its Seq. The errors are [*Conflict] if a
	// condition does not hold, and [ErrOutcomeUnknown] if nobody can tell whether b was applied.
	Commit(ctx context.Context, b Batch) (Seq, error)
	// Changes returns at most limit events (1 to MaxPage) that come after the given Seq. If some of
	// them are forgotten, or after is beyond the head, the error is [ErrMissed], and First and Head
	// are set nonetheless.
	Changes(ctx context.Context, after Seq, limit int) (Feed, error)
	// Wait blocks until something is committed after the given Seq. It returns [ErrMissed] if the
	// store went back to before it.
	Wait(ctx context.Context, after Seq) error
	// Load fills an empty store with records and changes, each in any order. The new head is head.
	// The feed begins with the lowest Seq among the changes, or with head+1 if there are none. The
	// errors are [ErrNotEmpty], [ErrOutcomeUnknown] and those of the iterators.
	Load(
		ctx context.Context, rs iter.Seq2[Record, error], cs iter.Seq2[Change, error], head Seq,
	) error
	// Close waits for commits under way and releases the store's resources.
	Close() error
}

// Checker is implemented by a store that can report its health. A wrapper forwards it.
type Checker interface {
	// Health returns nil if the store knows of no problem. It does not block and does not query
	// anything. Otherwise the error wraps [ErrCorrupt] if a background check found damage, or
	// [ErrUnavailable] if the store refuses reads or writes until it is reopened, for example after
	// a failed sync, or [ErrClosed]. Any other error may pass by itself, such as that of a database
	// that does not answer.
	Health() error
}

// Sole is implemented by a store that no other process can write to while this one has it open. A
// directory that owns such a store may cache what it read without asking again. A wrapper forwards
// it.
type Sole interface {
	// Own makes the caller the only owner, or returns [ErrOwned]. release ends the ownership;
	// calling it again does nothing.
	Own() (release func(), err error)
}

// Backer is implemented by a store that can back itself up. A wrapper forwards it.
type Backer interface {
	// Backup writes the state after one commit to w, and returns the Seq of that commit. Reads and
	// writes go on meanwhile. After an error what was written is no backup.
	Backup(ctx context.Context, w io.Writer) (Seq, error)
}

// Compacter is implemented by a store in a file that it can make smaller. A wrapper forwards it.
type Compacter interface {
	// Compact makes the file as small as what is stored in it. Reads go on meanwhile, and so do
	// writes but for a moment. After [ErrBusy], and any other error but [ErrOutcomeUnknown], the
	// file is as it was. [errors.ErrUnsupported] means that no file can be compacted on this system.
	Compact(ctx context.Context) error
	// FileSize returns how long the file is, and how much of it is free, in bytes. It is a short
	// read.
	FileSize(ctx context.Context) (size, free int64, err error)
}

// Counter is implemented by a store that counts its commits. A wrapper forwards it.
type Counter interface {
	// Counts returns what was counted since the store was opened. It does not block and does not
	// query anything.
	Counts() Counts
}

// GroupSizes is how many sizes of groups are told apart: of 1 batch, 2, 3 to 4, 5 to 8, and so on
// up to 4,096.
const GroupSizes = 13

// Counts is figures of the batches that a store was given in this process. It commits together what
// waits, in groups.
type Counts struct {
	Groups  int64             // that were tried, whatever came of them
	Sizes   [GroupSizes]int64 // of these groups
	Waiting int               // batches that wait for a group now
	Took    time.Duration     // of all calls of Commit together, with their waiting
}

// The errors of a store, for use with errors.Is.
var (
	// ErrConflict means that a condition of the batch did not hold. It is always a [*Conflict].
	ErrConflict = errors.New("a condition does not hold")
	// ErrOutcomeUnknown means that nobody can tell whether the batch was applied. It was not
	// applied in part.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrMissed means that some of the requested events are forgotten or lost.
	ErrMissed = errors.New("events were forgotten")
	// ErrUnavailable means that the store cannot be used now. Nothing was done.
	ErrUnavailable = errors.New("store unavailable")
	// ErrBusy means that a file was not compacted because too much is written to it, or because it
	// is being compacted.
	ErrBusy = fmt.Errorf("%w: too much is going on", ErrUnavailable)
	// ErrInvalid means that the caller broke a rule of this package, such as a key that is too
	// long.
	ErrInvalid = errors.New("invalid use of the store")
	// ErrCorrupt means that stored data is damaged.
	ErrCorrupt = errors.New("store is damaged")
	// ErrNotEmpty means that Load was called on a store that something was committed to.
	ErrNotEmpty = errors.New("store is not empty")
	// ErrOwned means that another directory owns the store.
	ErrOwned = errors.New("store is owned by another directory")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Conflict is the error of a batch whose conditions do not all hold.
type Conflict struct {
	Failed []Cond // every condition that failed
}

// Error returns how many conditions failed. It contains no keys, because keys hold locators and
// ids.
func (c *Conflict) Error() string {
	return fmt.Sprintf("%v (%d failed)", ErrConflict, len(c.Failed))
}

// Is reports whether target is [ErrConflict].
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// Check returns an [ErrInvalid] if r breaks the rules of this package. Stores call it, so callers
// need not.
func (r Range) Check() error { return checkLimit(r.Limit) }

// CheckKeys returns an [ErrInvalid] if one of keys breaks the rules of this package. Stores call
// it, so callers need not.
func CheckKeys(keys ...Key) error {
	for _, k := range keys {
		if len(k) == 0 || len(k) > MaxKey {
			return fmt.Errorf("%w: a key of %d bytes", ErrInvalid, len(k))
		}
	}
	return nil
}

// CheckChanges returns an [ErrInvalid] if limit is not one that Changes accepts. Stores call it, so
// callers need not.
func CheckChanges(limit int) error { return checkLimit(limit) }

func checkLimit(limit int) error {
	if limit < 1 || limit > MaxPage {
		return fmt.Errorf("%w: a limit of %d", ErrInvalid, limit)
	}
	return nil
}

// HasPrefix reports whether k begins with under.
func (k Key) HasPrefix(under Key) bool { return strings.HasPrefix(string(k), string(under)) }
