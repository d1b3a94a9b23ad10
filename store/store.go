// Package store is what a directory asks of the place it keeps its records in.
//
// A [Store] keeps records under keys and a feed of events, and knows nothing of
// users. Writes are data: a [Batch] says what must hold, what goes, what comes
// and which event tells of it, and is applied whole or not at all. The packages
// store/memory, store/bolt and store/postgres implement it; store/storetest
// holds any implementation to the contract below.
//
// # The contract
//
//  1. Atomicity. Conditions, drops, puts, event and trim of one batch are one
//     atom: no reader ever sees a part of it.
//  2. Conditions. Every condition is judged against the state that all earlier
//     commits left. If one fails nothing changes, for nobody, and the error is a
//     [*Conflict] that names every condition that failed.
//  3. Order within a batch. Drops act before puts: a key under both is put.
//     Dropping what is absent is not an error.
//  4. Sequence. Every applied batch takes the [Seq] after the one before it, with an
//     event or without. A record's Version is the Seq of the batch that wrote it. Once a
//     commit is acknowledged every later read sees it.
//  5. Get is one snapshot of all its keys and answers in their order, one record for
//     each; an absent key has Version 0 and no value.
//  6. List is one snapshot, in bytewise key order, of at most Limit records.
//  7. The feed is in commit order, has no gaps, and shows an event exactly when the
//     puts of its batch are seen. Nothing ever appears at or below a Seq that a reader
//     has seen as Head.
//  8. A trim forgets the events up to a Seq, for good. Whoever asks for the changes after
//     an earlier one is told so by [ErrMissed], with First and Head, whether or not there
//     were events between.
//  9. Wait returns when something newer is committed, when its context ends or when the
//     store is closed, and at no other time.
//  10. Durability. What Commit and Load acknowledge survives the death of the process and
//     of the machine. A store in memory says that it does not.
//  11. Outcomes. Commit returns nil: applied. [ErrOutcomeUnknown]: applied or not, never
//     half. Any other error: not applied. A context that ends before the batch is
//     handed over withdraws it, and the error is the context's; after that Commit waits
//     for the true outcome.
//  12. Memory. What is returned belongs to the caller; what is passed in is neither kept
//     after the return nor changed.
//  13. Keys are bytes: any of them, compared as such. A key is 1 to [MaxKey] bytes.
//  14. Values are one JSON object each, valid UTF-8 of at most [MaxValue] bytes, without
//     U+0000 or lone surrogates; so are events. A store may spell an object anew (order,
//     spaces, escapes, numbers) but not change it.
//  15. Close. It waits for commits under way; every method but Close then answers
//     [ErrClosed], and never panics. Closing twice is no error.
//  16. Load fills a store that nothing was ever committed to, versions and sequence kept,
//     and refuses any other with [ErrNotEmpty]. Versions and sequences are 1 to head, no key
//     and no sequence comes twice. A Load that fails leaves a store that is empty or refuses to open, and its error wraps that of
//     the iterator.
//  17. Everything may be called by many goroutines at once.
//  18. Damage. A record or an event that is there but cannot be read stops nobody: Get, List
//     and Changes return it in its place, marked Damaged and without a value, beside the good
//     ones. A condition on the version of a damaged record refuses its batch with
//     [ErrCorrupt]; one with Damaged holds exactly while the record is damaged. A drop or a
//     put without a condition on it replaces it. The error ErrCorrupt of a read says that more
//     is damaged than records: nothing is known of what is missing.
//  19. A store that went back. After a restored backup or a lossy failover the head may be below
//     what a reader has seen. Changes after a Seq beyond the head, but [End], is ErrMissed,
//     with First and Head; so is Wait, as soon as the store knows. Nothing waits on a Seq of
//     the history that was lost.
//  20. Urgent. A batch that is Urgent, such as one that ends a token, may use room that the store
//     keeps back from all others, so that it is applied on a full disk. It changes nothing else.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Limits that every store keeps to.
const (
	MaxKey   = 1024    // bytes of a key
	MaxValue = 4 << 20 // bytes of a value or an event
	MaxPage  = 10_000  // records or changes in one answer
)

// Seq is a place in the order of commits. The first is 1; 0 is before all.
type Seq uint64

// End, as the Seq that Changes is asked for what comes after, stands for wherever the head is: the
// Feed has First and Head, and no changes.
const End = ^Seq(0)

// Key names a record: any bytes, compared bytewise, never text for people.
type Key string

// Record is a value under its key.
type Record struct {
	Key     Key
	Version Seq    // the Seq of the commit that wrote it, 0 if there is none
	Value   []byte // one JSON object; nil if there is none or only keys were asked for
	Damaged bool   // it is there and cannot be read: Value is nil, Version is not to be trusted
}

// Range asks for the records whose keys begin with Under and come after After.
type Range struct {
	Under    Key  // a prefix; empty: every key
	After    Key  // empty: from the start
	Limit    int  // 1 to MaxPage
	KeysOnly bool // leave the values out
}

// Cond is what must hold for a batch to be applied.
type Cond struct {
	Key     Key
	Version Seq  // the version Key must be at; 0: Key must be absent
	Under   bool // instead: no key may begin with Key, Version is not looked at
	Damaged bool // instead: Key must be there and damaged, Version is not looked at
}

// Batch is one write: all of it or nothing. At least one of Drop, Put, Emit
// and Trim must be set, and no key may be put twice.
type Batch struct {
	If     []Cond
	Drop   []Key
	Put    []Record // Version is ignored: it becomes the Seq of this batch
	Emit   []byte   // one event, a JSON object, or nil for none
	Trim   Seq      // forget events up to here; at most to the commit before this one
	Urgent bool     // may use what the store keeps back for a full disk
}

// Change is an event as the feed tells it.
type Change struct {
	Seq     Seq
	Event   []byte
	Damaged bool // there is an event that cannot be read: Event is nil
}

// Feed is a part of the feed. Changes shorter than the limit asked for hold all there
// is up to Head: a reader then goes on from Head, otherwise from the last change.
type Feed struct {
	First   Seq // the lowest Seq that is not forgotten, 1 if none is
	Head    Seq // the Seq of the latest commit
	Changes []Change
}

// Store keeps records and a feed. See the package's contract.
type Store interface {
	// Get answers the records under keys, in one snapshot.
	Get(ctx context.Context, keys ...Key) ([]Record, error)
	// List answers a page of records in key order.
	List(ctx context.Context, r Range) ([]Record, error)
	// Commit applies b, durably, and answers the Seq it took.
	Commit(ctx context.Context, b Batch) (Seq, error)
	// Changes answers at most limit (1 to MaxPage) events that come after a Seq.
	// If some of them are forgotten the error is ErrMissed, and First and Head say so.
	Changes(ctx context.Context, after Seq, limit int) (Feed, error)
	// Wait returns once something is committed after the given Seq.
	Wait(ctx context.Context, after Seq) error
	// Load fills an empty store with records and changes, each in any order; head is
	// the last Seq they know, and the First of the feed is the lowest Seq among the changes,
	// or head+1 without any.
	Load(ctx context.Context, rs iter.Seq2[Record, error], cs iter.Seq2[Change, error], head Seq) error
	// Close releases what the store holds.
	Close() error
}

// Checker is implemented by a store that can say how it fares. A wrapper forwards it.
type Checker interface {
	// Health returns nil while all is well as far as the store knows; it asks nobody and does not
	// wait. Otherwise it returns an error that wraps ErrCorrupt, where a check in the background
	// found damage, or ErrUnavailable, where the store refuses reads or writes, such as one whose
	// sync failed, until it is opened anew.
	Health() error
}

// Sole is implemented by a store that no other process can write to while this one has
// it open. A directory that owns such a store may remember what it read. A wrapper
// forwards it.
type Sole interface {
	// Own makes the caller the one owner, or answers ErrOwned. Release gives it back;
	// calling it again does nothing.
	Own() (release func(), err error)
}

// The errors of a store, for errors.Is.
var (
	// ErrConflict: a condition of the batch did not hold. It is always a *Conflict.
	ErrConflict = errors.New("a condition does not hold")
	// ErrOutcomeUnknown: the batch was applied or was not, and nobody can say which.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrMissed: some of the events asked for are forgotten.
	ErrMissed = errors.New("events were forgotten")
	// ErrUnavailable: the store cannot answer now; what was asked was not done.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInvalid: the caller broke a rule of this package, such as a key too long.
	ErrInvalid = errors.New("invalid use of the store")
	// ErrCorrupt: what is stored is damaged.
	ErrCorrupt = errors.New("store is damaged")
	// ErrNotEmpty: Load was called on a store that holds something.
	ErrNotEmpty = errors.New("store is not empty")
	// ErrOwned: another directory owns the store.
	ErrOwned = errors.New("store is owned by another directory")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Conflict is the refusal of a batch, with every condition that failed.
type Conflict struct {
	Failed []Cond
}

// Error tells how many conditions failed. It names no key: keys hold locators and ids.
func (c *Conflict) Error() string {
	return fmt.Sprintf("%v (%d failed)", ErrConflict, len(c.Failed))
}

// Is reports whether target is ErrConflict.
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// Check reports how r breaks the rules of this package, as an ErrInvalid, or nil.
// Stores call it; callers need not.
func (r Range) Check() error { return checkLimit(r.Limit) }

// CheckKeys reports the first key that breaks the rules of this package, as an
// ErrInvalid, or nil. Stores call it; callers need not.
func CheckKeys(keys ...Key) error {
	for _, k := range keys {
		if len(k) == 0 || len(k) > MaxKey {
			return fmt.Errorf("%w: a key of %d bytes", ErrInvalid, len(k))
		}
	}
	return nil
}

// CheckChanges reports whether limit may be asked of Changes.
func CheckChanges(limit int) error { return checkLimit(limit) }

func checkLimit(limit int) error {
	if limit < 1 || limit > MaxPage {
		return fmt.Errorf("%w: a limit of %d", ErrInvalid, limit)
	}
	return nil
}

// HasPrefix reports whether k begins with under.
func (k Key) HasPrefix(under Key) bool { return strings.HasPrefix(string(k), string(under)) }
