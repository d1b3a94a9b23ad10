package denizen_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

func TestCursor_IsShortOpaqueText(t *testing.T) {
	overStores(t, denizen.Options{}, func(t *testing.T, d *denizen.Directory) {
		seen := map[denizen.Cursor]bool{}
		for _, e := range fillFeed(t, d, 10) {
			require.Regexp(t, `^[A-Za-z0-9_-]{32}$`, e.Cursor)
			require.False(t, seen[e.Cursor])
			seen[e.Cursor] = true
		}
	})
}

func TestCursor_WhatIsNoneIsRefused(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	head := string(headOf(t, d))
	for _, text := range []string{
		"0", "1", head[1:], head + "A", head[:31] + "=", head[:31] + "\n", strings.Repeat("A", 32), head[:10] + strings.Repeat("_", 22), " " + head,
	} {
		_, err := firstEvent(d.Events(t.Context(), sys, denizen.Cursor(text)))
		if denizen.Cursor(text) == denizen.Cursor(head[:10]+strings.Repeat("_", 22)) {
			require.Error(t, err)
			continue
		}
		requireRefused(t, err, "Events", denizen.ErrInvalid, "after")
		_, err = firstEvent(d.Follow(t.Context(), sys, denizen.Cursor(text)))
		requireRefused(t, err, "Follow", denizen.ErrInvalid, "after")
	}
}

func TestCursor_OfAnotherDirectoryIsMissed(t *testing.T) {
	d, other := newMemory(t, denizen.Options{}), newMemory(t, denizen.Options{})
	for _, follow := range []func() (denizen.Event, error){
		func() (denizen.Event, error) { return firstEvent(d.Events(t.Context(), sys, headOf(t, other))) },
		func() (denizen.Event, error) { return firstEvent(d.Follow(t.Context(), sys, headOf(t, other))) },
	} {
		_, err := follow()
		require.ErrorIs(t, err, denizen.ErrMissed)
		require.Equal(t, headOf(t, d), err.(*denizen.Error).Resume)
	}
}

func TestCursor_StaysGoodInACopyAndAfterOpeningAnew(t *testing.T) {
	s, copied := memory.New(), memory.New()
	d := newOver(t, s, denizen.Options{})
	fillFeed(t, d, 3)
	head := headOf(t, d)
	newUser(t, d, "later-user")
	require.NoError(t, d.Close())
	require.NoError(t, store.Copy(t.Context(), copied, s))
	for _, s := range []store.Store{s, copied} {
		events := eventsFrom(t, newOver(t, s, denizen.Options{}), head)
		require.Len(t, events, 1)
		require.Equal(t, denizen.UserID("later-user"), events[0].User)
	}
}

// A directory that was made before there were epochs has the epoch 0.
func TestCursor_OfADirectoryWithoutAnEpochIsGood(t *testing.T) {
	s := memory.New()
	d, err := denizen.New(t.Context(), s, denizen.Options{})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	rs, err := s.Get(t.Context(), record.DirectoryKey)
	require.NoError(t, err)
	value, err := record.DecodeStored(rs[0])
	require.NoError(t, err)
	own := *value.(*record.Directory)
	require.NotZero(t, own.Epoch)
	own.Epoch = 0
	_, err = s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: record.DirectoryKey, Value: record.Encode(&own)}}})
	require.NoError(t, err)
	d = newOver(t, s, denizen.Options{})
	head := headOf(t, d)
	newUser(t, d, "later-user")
	require.Len(t, eventsFrom(t, d, head), 1)
}

func TestCursor_OfALostHistoryIsMissedEvenWhereOthersWrotePastIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{})
		fillFeed(t, d, 5)
		kept := headOf(t, d)
		s.save(t)
		newUser(t, d, "lost-user-1")
		newUser(t, d, "lost-user-2")
		lost := eventsFrom(t, d, kept)
		follower := waiting(t.Context(), d, sys, lost[1].Cursor)
		requireWaiting(t, follower)
		s.back()
		require.NoError(t, <-follower)
		for i := range 5 {
			for _, e := range lost {
				_, err := firstEvent(d.Events(t.Context(), sys, e.Cursor))
				require.ErrorIs(t, err, denizen.ErrMissed, "after %d more", i)
			}
			require.Len(t, eventsFrom(t, d, kept), i)
			time.Sleep(time.Second)
			newUser(t, d, denizen.UserID(fmt.Sprintf("new-user-%d", i)))
		}
	})
}

// A consumer that was waiting when the store went back and others wrote on at once.
func TestCursor_AFollowerNoticesThatItsEventWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRewound()
		d := newOver(t, s, denizen.Options{})
		s.save(t)
		newUser(t, d, "lost-user-1")
		var got error
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, err := range d.Follow(t.Context(), sys, headOf(t, d)) {
				got = err
				return
			}
		}()
		synctest.Wait()
		s.back()
		for i := range 3 {
			newUser(t, d, denizen.UserID(fmt.Sprintf("new-user-%d", i)))
		}
		<-done
		require.ErrorIs(t, got, denizen.ErrMissed)
	})
}

// The head is the place of an event, however many commits without one came after it.
func TestCursor_TheHeadIsFoundBehindCommitsWithoutAnEvent(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	for i := range 200 {
		for range r.IntN(1 << r.IntN(9)) {
			_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: "zzz", Value: []byte(`{}`)}}})
			require.NoError(t, err)
		}
		all := eventsAfter(t, d, 0)
		require.Equal(t, all[len(all)-1].Cursor, headOf(t, d))
		require.Empty(t, eventsFrom(t, d, headOf(t, d)))
		for range r.IntN(3) {
			_, err := d.CreateUser(t.Context(), sys, denizen.NewUser{ScreenName: "Somebody"})
			require.NoError(t, err)
		}
		if i%20 == 10 {
			require.NoError(t, d.TrimFeed(t.Context(), sys, all[len(all)-1].Seq-denizen.Seq(r.IntN(3))))
			newUser(t, d, denizen.UserID(fmt.Sprintf("user-%06d", i)))
		}
	}
	feed, err := s.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	require.NoError(t, d.TrimFeed(t.Context(), sys, denizen.Seq(feed.Head)))
	head := headOf(t, d)
	require.Empty(t, eventsFrom(t, d, head), "nothing is kept")
	newUser(t, d, "later-user")
	require.Len(t, eventsFrom(t, d, head), 1)
}
