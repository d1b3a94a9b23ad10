package signin_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/signin"
	"github.com/denizenhq/denizen/store"
)

// watched notes which kinds of records are read and written, and how long what is written is.
type watched struct {
	store.Store
	mu    sync.Mutex
	notes []string // guarded by mu
}

func (s *watched) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

func (s *watched) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := s.notes
	s.notes = nil
	return notes
}

func kindOf(key store.Key) string { kind, _ := record.Of(key); return kind }

func (s *watched) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	for _, key := range keys {
		s.note("get %s", kindOf(key))
	}
	return s.Store.Get(ctx, keys...)
}

func (s *watched) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	for _, c := range b.If {
		s.note("if %s", kindOf(c.Key))
	}
	for _, key := range b.Drop {
		s.note("drop %s", kindOf(key))
	}
	for _, r := range b.Put {
		s.note("put %s of %d bytes", kindOf(r.Key), len(r.Value))
	}
	return s.Store.Commit(ctx, b)
}

// Whoever has the store of one directory cannot look codes and addresses up in a table of digests.
func TestDigestsAreKeyedByTheDirectory(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			one, other := newDesk(t, open(t)), newDesk(t, open(t))
			mac := func(k *desk) []byte { return door.Of(k.dir).ProofMAC("use", "text") }
			require.Equal(t, mac(one), mac(one))
			require.NotEqual(t, mac(one), mac(other))
			digests := func(k *desk) (ofProof, ofStarts string) {
				k.asks(t, signin.Request{Locator: victims})
				plain := sha256.Sum256([]byte(victims))
				require.False(t, holds(t, k.store, hex.EncodeToString(plain[:])))
				return stored[*record.Proof](t, k.store)[0].Locator, stored[*record.Starts](t, k.store)[0].Locator
			}
			proof, starts := digests(one)
			otherProof, otherStarts := digests(other)
			require.NotEqual(t, proof, otherProof)
			require.NotEqual(t, starts, otherStarts)
		})
	}
}

func TestALimitIsJudgedBeforeAnythingIsLookedUp(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		w := &watched{Store: s}
		k := newDesk(t, w)
		k.create(t, alice, denizen.NewLocator{Locator: "email:owned@example.org", Status: denizen.Verified})
		var refused [][]string
		for _, locator := range []string{"email:owned@example.org", "email:frees@example.org"} {
			for range 4 {
				k.asks(t, signin.Request{Locator: locator, Client: "one"})
			}
			w.taken()
			_, err := k.Start(ctx, sys, signin.Request{Locator: locator, Client: "one"})
			requireField(t, err, denizen.ErrLimited, "locator")
			refused = append(refused, w.taken())
		}
		require.Equal(t, refused[0], refused[1])
		require.Len(t, refused[0], 2, "the starts of this hour and of the last: %v", refused[0])
	})
}

// What a start does until its commit, and what a wrong code does, is the same whether somebody owns
// the address or not. Who owns it is looked up after that.
func TestStartingAndAWrongCodeDoTheSameForAnyAddress(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		w := &watched{Store: s}
		k := newDesk(t, w)
		k.create(t, alice, denizen.NewLocator{Locator: "email:owned@example.org", Status: denizen.Verified})
		done := func(locator string) (start, finish []string) {
			w.taken()
			proof, d := k.asks(t, signin.Request{Locator: locator, Client: "one"})
			start = w.taken()
			after := slices.IndexFunc(start, func(note string) bool { return !strings.Contains(note, "proof") })
			require.Contains(t, start[after], "locator's owner", "the look-up")
			for range 2 {
				_, err := k.Finish(ctx, sys, proof, "wrong"+d.Code)
				requireRefused(t, err)
			}
			return start[:after], w.taken()
		}
		start, finish := done("email:owned@example.org")
		freeStart, freeFinish := done("email:frees@example.org")
		require.Equal(t, start, freeStart)
		require.Equal(t, finish, freeFinish)
		require.Len(t, start, 7, "two reads, three conditions, two writes: %v", start)
		require.NotEmpty(t, finish)
	})
}
