package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/stretchr/testify/require"
)

func TestVerifyHasNoFalseAlarm(t *testing.T) {
	path, _ := filled(t, 300)
	for round := range 4 {
		s, err := bolt.Open(t.Context(), path, bolt.Options{})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					b := put(store.Key(fmt.Sprint("w/", i, "/", n%50)), fmt.Sprintf(`{"pad":"%0*d"}`, n*37%9_000, n))
					b.Drop = []store.Key{store.Key(fmt.Sprint("w/", i, "/", (n+25)%50))}
					if n%20 == 0 {
						b.Trim = store.Seq(100 * round)
					}
					if _, err := s.Commit(ctx, b); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := s.Backup(ctx, io.Discard); err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					_, err := s.List(ctx, store.Range{Limit: 100})
					if err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			})
		}
		for range 15 {
			require.NoError(t, s.Verify(t.Context()))
			require.NoError(t, s.Health())
		}
		stop()
		wg.Wait()
		require.NoError(t, s.Verify(t.Context()))
		require.NoError(t, s.Close())
	}
}

// meanwhile is a context that does something each time it is looked at.
type meanwhile struct {
	context.Context
	do func()
}

func (c meanwhile) Err() error {
	c.do()
	return c.Context.Err()
}

func TestVerifyLooksAtTheStateItBeganWith(t *testing.T) {
	if !bolt.KeepsRoom {
		t.Skip("a commit may have to wait for the end of a read")
	}
	path, _ := filled(t, 60)
	s := open(t, path)
	n := 0
	write := func() {
		n++
		commit(t, s, put(store.Key(fmt.Sprint("w/", n%20)), fmt.Sprintf(`{"pad":"%0*d"}`, n*397%9_000, n)))
	}
	s.WhileChecking(write) // the file has another state than the one that is read
	require.NoError(t, s.Verify(meanwhile{t.Context(), func() {
		for range 3 { // enough for its pages to be used again
			write()
		}
	}}))
	require.Greater(t, n, 30)
}

func TestCommitsGoOnWhileVerifyReads(t *testing.T) {
	path, _ := filled(t, 60)
	s := open(t, path)
	inside, goOn := make(chan struct{}), make(chan struct{})
	s.WhileChecking(func() { close(inside); <-goOn })
	done := make(chan error, 1)
	go func() { done <- s.Verify(t.Context()) }()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 50 {
		_, err := s.Commit(ctx, put(store.Key(fmt.Sprint("during/", i)), fmt.Sprintf(`{"pad":"%05000d"}`, i)))
		if err != nil {
			close(goOn)
			require.NoError(t, err)
		}
	}
	close(goOn)
	require.NoError(t, <-done)
}
