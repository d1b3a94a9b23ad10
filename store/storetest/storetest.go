// Package storetest tests implementations of [store.Store], and wraps stores for the tests of code
// that uses them.
//
// [Run] is the contract of package store as a test. It has one subtest for each sentence that can
// be observed, named after the number of its clause. No subtest is optional. A store's own tests
// add what cannot be observed from outside: that acknowledged data survives a killed process and a
// lost disk cache, and what the store does when its disk fails.
//
// For tests of code that uses a store, [Faulty] makes calls fail, [EachCall] makes each call of an
// operation fail in turn, and [Watchful] reports a store or a caller that breaks a rule.
package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/denizenhq/denizen/store"
)

// Harness makes the stores for [Run], which closes every store that it gets, some of them more than
// once. Report all failures through t, which is not always the *testing.T of the test.
type Harness struct {
	// New makes an empty store that shares nothing with any other.
	New func(t testing.TB) store.Store
	// Reopen closes s, which may be closed already, and opens what it has stored. It is nil only
	// for a store that keeps nothing after Close.
	Reopen func(t testing.TB, s store.Store) store.Store
	// Damage damages the stored record under key, so that it exists but cannot be read. DamageEvent
	// does the same with the event at seq. Nobody commits to s meanwhile. Both are nil only if the
	// test cannot reach what s has stored. The store is then tested without damage.
	Damage      func(t testing.TB, s store.Store, key store.Key)
	DamageEvent func(t testing.TB, s store.Store, seq store.Seq)
}

// Wrap returns a harness whose stores are those of h inside a wrapper, such as [Faulty].
func (h Harness) Wrap(wrap func(t testing.TB, s store.Store) store.Store) Harness {
	var inner sync.Map // from wrapper to store
	dress := func(t testing.TB, s store.Store) store.Store {
		w := wrap(t, s)
		inner.Store(w, s)
		return w
	}
	wrapped := Harness{New: func(t testing.TB) store.Store { return dress(t, h.New(t)) }}
	if h.Reopen != nil {
		wrapped.Reopen = func(t testing.TB, w store.Store) store.Store {
			s, _ := inner.LoadAndDelete(w)
			return dress(t, h.Reopen(t, s.(store.Store)))
		}
	}
	if h.Damage != nil {
		wrapped.Damage = func(t testing.TB, w store.Store, key store.Key) {
			s, _ := inner.Load(w)
			h.Damage(t, s.(store.Store), key)
		}
	}
	if h.DamageEvent != nil {
		wrapped.DamageEvent = func(t testing.TB, w store.Store, seq store.Seq) {
			s, _ := inner.Load(w)
			h.DamageEvent(t, s.(store.Store), seq)
		}
	}
	return wrapped
}

// Run tests a store against every clause of the contract in package store.
func Run(t *testing.T, h Harness) {
	for _, c := range contract() {
		t.Run(c.String(), func(t *testing.T) { c.hold(t, h) })
	}
}

// clause is one sentence of the contract and its test.
type clause struct {
	number   int
	sentence string
	hold     func(t testing.TB, h Harness)
}

func (c clause) String() string { return fmt.Sprintf("%02d %s", c.number, c.sentence) }

func contract() []clause {
	return []clause{
		{1, "no reader sees a part of a batch", noReaderSeesAPart},
		{1, "a refused batch changes nothing", aRefusedBatchChangesNothing},
		{2, "a condition that is true holds", trueConditionsHold},
		{2, "a condition that is false refuses the batch", falseConditionsRefuse},
		{2, "every condition that failed is named", everyFailedConditionIsNamed},
		{2, "conditions are checked before the drops of their batch", conditionsAreCheckedBeforeDrops},
		{2, "of 64 claimants one wins", ofManyClaimantsOneWins},
		{2, "no update is lost", noUpdateIsLost},
		{2, "nothing comes under a key that was found empty", nothingComesUnderAClosedKey},
		{3, "drops are applied before puts", dropsAreAppliedBeforePuts},
		{3, "dropping what is absent is no error", droppingTheAbsentIsNoError},
		{3, "a drop takes what it names and nothing else", dropsTakeWhatTheyName},
		{3, "a batch that does nothing or puts a key twice is refused", senselessBatchesAreRefused},
		{4, "every batch takes a greater seq, with an event or without", everyBatchTakesAGreaterSeq},
		{4, "a version is the seq of the batch that wrote the record", aVersionIsTheSeqOfItsBatch},
		{4, "no two batches take one seq", noTwoBatchesTakeOneSeq},
		{5, "get returns records in the order of its keys", getReturnsInOrder},
		{5, "get takes many keys", getTakesManyKeys},
		{5, "get is one snapshot", getIsOneSnapshot},
		{6, "list is in bytewise order", listIsInBytewiseOrder},
		{6, "list returns pages", listReturnsPages},
		{6, "list returns keys only when asked", listReturnsKeysOnly},
		{6, "list is one snapshot", listIsOneSnapshot},
		{6, "paging while others write misses and repeats nothing", pagingWhileOthersWrite},
		{6, "a limit out of bounds is refused", limitsAreRefused},
		{7, "followers of many writers see the same feed without gaps", followersSeeTheSameFeed},
		{7, "an event is seen exactly when its puts are", anEventIsSeenWithItsPuts},
		{7, "the feed is returned in pages", theFeedIsReturnedInPages},
		{7, "head counts commits without events", headCountsCommitsWithoutEvents},
		{8, "a trim forgets the events up to a seq", aTrimForgets},
		{8, "a trim reaches at most to the commit before it", aTrimIsClipped},
		{8, "a trim is permanent", aTrimIsPermanent},
		{9, "wait returns for every commit", waitReturnsForEveryCommit},
		{9, "wait wakes everyone", waitWakesEveryone},
		{9, "wait ends with its context", waitEndsWithItsContext},
		{9, "wait ends when the store is closed", waitEndsOnClose},
		{9, "wait returns at no other time", waitReturnsAtNoOtherTime},
		{10, "what was acknowledged is there after a restart", theAcknowledgedIsKept},
		{10, "the sequence goes on after a restart", theSequenceGoesOn},
		{11, "a batch whose context has ended is not applied", anEndedContextWithdraws},
		{11, "a context that ends midway leaves a true outcome", aContextEndingMidwayLeavesATrueOutcome},
		{12, "what is returned belongs to the caller", theReturnedBelongsToTheCaller},
		{12, "what is passed in is not kept", thePassedInIsNotKept},
		{12, "what is passed in is not changed", thePassedInIsNotChanged},
		{12, "what is passed to a withdrawn batch is not kept", theWithdrawnIsNotKept},
		{13, "keys are any bytes", keysAreAnyBytes},
		{13, "a key of the wrong length is refused", keysOfTheWrongLengthAreRefused},
		{14, "values and events are kept as JSON", valuesAreKeptAsJSON},
		{14, "a value or event against the rules is refused", badValuesAreRefused},
		{15, "a closed store returns ErrClosed", aClosedStoreSaysSo},
		{15, "closing twice is no error", closingTwiceIsNoError},
		{15, "close waits for commits under way", closeWaitsForCommits},
		{16, "load keeps versions, sequence and feed", loadKeepsEverything},
		{16, "load without changes has a feed that begins after head", loadWithoutChanges},
		{16, "load refuses a store that is not empty", loadRefusesWhatIsNotEmpty},
		{16, "a load that fails leaves nothing behind", aFailedLoadLeavesNothing},
		{16, "of two loads at once one wins", ofTwoLoadsOneWins},
		{17, "everything at once has one history", everythingAtOnce},
		{17, "random scripts end as in the model", scriptsEndAsInTheModel},
		{17, "a sole store has one owner", aSoleStoreHasOneOwner},
		{18, "what is not damaged is not marked", theSoundIsNotMarked},
		{18, "a damaged record is returned in its place", aDamagedRecordIsMarked},
		{18, "a damaged event is returned in its place", aDamagedEventIsMarked},
		{18, "a condition on damage holds while the record is damaged", damageIsACondition},
		{18, "a condition on the version of a damaged record refuses its batch alone", damageRefusesOneBatch},
		{18, "what is under a key may be damaged", damageIsUnderAKey},
		{18, "a copy of what is damaged is refused", aCopyOfDamageIsRefused},
		{19, "changes beyond the head are missed", changesBeyondTheHeadAreMissed},
		{19, "a wait beyond the head is missed", aWaitBeyondTheHeadIsMissed},
		{20, "an urgent batch is like any other", anUrgentBatchIsLikeAnyOther},
		{20, "health is nil for a good store and does not block", healthIsCheap},
	}
}

// open makes a store that is closed at the end of the test.
func (h Harness) open(t testing.TB) store.Store {
	t.Helper()
	s := h.New(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen reopens s, or returns s itself if the store keeps nothing after Close.
func (h Harness) reopen(t testing.TB, s store.Store) store.Store {
	t.Helper()
	if h.Reopen == nil {
		return s
	}
	s = h.Reopen(t, s)
	t.Cleanup(func() { _ = s.Close() })
	return s
}
