package census

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// listing calls back after each page of keys.
type listing struct {
	*memory.Store
	pages     int
	afterPage func(page []store.Record)
}

func (s *listing) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	page, err := s.Store.List(ctx, r)
	s.pages++
	if s.afterPage != nil {
		s.afterPage(page)
	}
	return page, err
}

func create(t *testing.T, s store.Store, id string) {
	t.Helper()
	commit(t, s, store.Batch{
		Put:  []store.Record{{Key: record.UserKey(id), Value: record.Encode(&record.User{ID: id})}},
		Emit: record.Encode(&record.Event{What: "came", User: id}),
	})
}

func remove(t *testing.T, s store.Store, id string) {
	t.Helper()
	commit(t, s, store.Batch{
		Drop: []store.Key{record.UserKey(id)},
		Emit: record.Encode(&record.Event{What: "went", User: id}),
	})
}

func commit(t *testing.T, s store.Store, b store.Batch) (seq store.Seq) {
	t.Helper()
	seq, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return seq
}

func requireCount(t *testing.T, c *Census, want int) {
	t.Helper()
	n, err := c.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, n)
}

func TestCountWalksOnceAndThenFollowsTheFeed(t *testing.T) {
	s := &listing{Store: memory.New()}
	c := New(s, "came", "went")
	requireCount(t, c, 0)
	pages := s.pages
	for i := range 20 {
		create(t, s, fmt.Sprint(i))
	}
	remove(t, s, "3")
	commit(t, s, store.Batch{Emit: record.Encode(&record.Event{What: "renamed", User: "4"})})
	requireCount(t, c, 19)
	require.Equal(t, pages, s.pages)
}

func TestCountIsRightWhileUsersComeAndGo(t *testing.T) {
	s := &listing{Store: memory.New()}
	const users = store.MaxPage + 10
	for i := range users {
		create(t, s, fmt.Sprintf("user-%05d", i))
	}
	s.afterPage = func([]store.Record) {
		s.afterPage = nil
		create(t, s, "user-00000-between") // on the page that was listed
		remove(t, s, "user-00001")
		create(t, s, "zoe") // on the next one
		remove(t, s, fmt.Sprintf("user-%05d", users-1))
	}
	c := New(s, "came", "went")
	requireCount(t, c, users)
	require.Equal(t, 2, s.pages)
}

func TestCountWalksAgainWhereTheFeedWasForgotten(t *testing.T) {
	s := &listing{Store: memory.New()}
	c := New(s, "came", "went")
	requireCount(t, c, 0)
	create(t, s, "alice-01")
	create(t, s, "bob-0001")
	head, err := s.Changes(t.Context(), store.End, 1)
	require.NoError(t, err)
	commit(t, s, store.Batch{Trim: head.Head})
	requireCount(t, c, 2)
}

func TestCountEndsWithItsContextWhileAnotherCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &listing{Store: memory.New()}
		slow := make(chan struct{})
		s.afterPage = func([]store.Record) { <-slow }
		c := New(s, "came", "went")
		first := make(chan error)
		go func() {
			_, err := c.Count(t.Context())
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		second := make(chan error, 1)
		go func() {
			_, err := c.Count(ctx)
			second <- err
		}()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		select {
		case err := <-second:
			require.ErrorIs(t, err, context.DeadlineExceeded)
		default:
			t.Error("the second caller waits for the first after its context has ended")
		}
		close(slow)
		require.NoError(t, <-first)
		requireCount(t, c, 0)
	})
}
