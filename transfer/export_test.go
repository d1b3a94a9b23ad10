package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/storetest"
	"github.com/denizenhq/denizen/transfer"
)

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func export(t *testing.T, dir *denizen.Directory) (string, transfer.Exported) {
	t.Helper()
	var out bytes.Buffer
	done, err := transfer.Export(t.Context(), dir, system, &out)
	require.NoError(t, err)
	return out.String(), done
}

// people fills a directory with many users. Some of them have everything a user can have.
func people(t *testing.T, dir *denizen.Directory) {
	t.Helper()
	for _, def := range append([]denizen.AttributeDef{{Key: "<&>\u2028 é", VisibleTo: denizen.ToPeers, NotEmpty: true}}, defs...) {
		_, err := dir.DefineAttribute(t.Context(), system, def)
		require.NoError(t, err)
	}
	users := func(yield func(transfer.User, error) bool) {
		if !yield(whole(), nil) {
			return
		}
		odd := plain("odd-0001", "external:example.org|\"1\\", "handle:odd", "email:user@bücher.example")
		odd.ScreenName = "Zoë \"\\ <b>&amp;\u00a0x"
		odd.Attributes = []denizen.Attribute{{Key: "<&>\u2028 é", Value: "\x01\x7f\b\r\n\t\"\\/\u2028😀", ContentEncoding: "br"}}
		if !yield(odd, nil) {
			return
		}
		many(1_000)(yield)
	}
	report, _ := bring(t, dir, users, transfer.Options{TrustVerified: true})
	require.Equal(t, 1_002, report.Created)
}

func TestExport_WhatItWroteGivesTheSamePeople(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		people(t, dir)
		before := head(t, dir)
		text, done := export(t, dir)
		require.Equal(t, transfer.Exported{Users: 1_002, First: before, Last: before}, done)

		other, _ := newMemory(t)
		f, err := transfer.Open(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, dir.ID(), f.Directory)
		require.Equal(t, before, f.Cursor)
		require.WithinDuration(t, time.Now(), f.At, time.Minute)
		require.Len(t, f.Definitions, 3)
		report, _ := bring(t, other, f.Users(), transfer.Options{TrustVerified: true, Define: f.Definitions})
		require.Equal(t, transfer.Report{Rows: 1_002, Created: 1_002}, report)
		again, _ := export(t, other)
		require.Equal(t, ofPeople(t, text), ofPeople(t, again))

		f, err = transfer.Open(strings.NewReader(text))
		require.NoError(t, err)
		report, _ = bring(t, dir, f.Users(), transfer.Options{TrustVerified: true, Define: f.Definitions})
		require.Equal(t, transfer.Report{Rows: 1_002, Present: 1_002}, report, "where they came from they are there")
	})
}

// ofPeople returns the lines of an export but the first and the last, with the definitions of the
// first.
func ofPeople(t *testing.T, text string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var begin struct{ Attributes json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &begin))
	lines[0] = string(begin.Attributes)
	return lines[:len(lines)-1]
}

func TestExport_NamesWhoIsDamagedAndGoesOn(t *testing.T) {
	overDamagedStores(t, func(t *testing.T, dir *denizen.Directory, s store.Store) {
		bring(t, dir, rows(plain("alice-01"), whole2("alice-02"), plain("alice-03"), plain("alice-04")), transfer.Options{Define: defs})
		for _, key := range []store.Key{record.ProfileKey("alice-02"), record.UserKey("alice-03")} {
			_, err := s.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key, Value: []byte(`{"kind":"owner"}`)}}})
			require.NoError(t, err)
		}
		text, done := export(t, dir)
		require.Equal(t, 2, done.Users)
		require.Equal(t, 2, done.DamagedUsers)
		require.Equal(t, []denizen.UserID{"alice-02", "alice-03"}, done.Damaged)
		require.Contains(t, text, `{"kind":"damaged","id":"alice-02"}`+"\n")

		other, _ := newMemory(t)
		f, err := transfer.Open(strings.NewReader(text))
		require.NoError(t, err)
		report, _ := bring(t, other, f.Users(), transfer.Options{})
		require.Equal(t, transfer.Report{Rows: 4, Created: 2, Refused: 2, Problems: []transfer.Problem{
			{Row: 2, ID: "alice-02", Field: "user", Rule: "was damaged where the file was written"},
			{Row: 3, ID: "alice-03", Field: "user", Rule: "was damaged where the file was written"},
		}}, report)
	})
}

// whole2 is a user with an attribute.
func whole2(id string) transfer.User {
	u := plain(id)
	u.Attributes = []denizen.Attribute{{Key: "nick", Value: "Al"}}
	return u
}

func TestExport_HoldsNoSecret(t *testing.T) {
	dir, _ := newMemory(t)
	bring(t, dir, rows(plain("alice-01", "email:a@example.org")), transfer.Options{})
	token, err := dir.IssueToken(t.Context(), system, "alice-01", denizen.TokenOptions{})
	require.NoError(t, err)
	key, err := dir.CreateAccessKey(t.Context(), system)
	require.NoError(t, err)
	u, err := dir.User(t.Context(), system, "alice-01")
	require.NoError(t, err)
	text, _ := export(t, dir)
	require.Contains(t, text, "alice-01")
	for _, secret := range []string{token.Signed, string(token.ID), key.Key, key.Secret, u.InternalID, string(u.Locators[0].ID)} {
		require.NotContains(t, text, secret)
	}
}

// together requires that each user and its profile are read in one Get, so from one snapshot.
type together struct {
	store.Store
	t       *testing.T
	users   atomic.Int64
	changes func()
}

func (s *together) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	for i, key := range keys {
		if key.HasPrefix(record.Users) {
			_, id := record.Parts(key)
			assert.Equal(s.t, record.ProfileKey(id), keys[i+1])
			s.users.Add(1)
		}
	}
	return s.Store.Get(ctx, keys...)
}

func (s *together) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	records, err := s.Store.List(ctx, r)
	if s.changes != nil {
		s.changes()
	}
	return records, err
}

func TestExport_EachUserIsWholeAsItWasAtOneMoment(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, inner store.Store) {
		people(t, dir)
		require.NoError(t, dir.Close())
		s := &together{Store: inner, t: t}
		dir, err := denizen.New(t.Context(), s, options())
		require.NoError(t, err)
		defer func() { require.NoError(t, dir.Close()) }()
		// Some users are deleted between the list and the read.
		deleted := 0
		s.changes = func() {
			id := denizen.UserID(fmt.Sprintf("user-%06d", 10*deleted))
			require.NoError(t, dir.DeleteUser(t.Context(), system, id))
			deleted++
		}
		_, done := export(t, dir)
		require.Greater(t, deleted, 3)
		require.Less(t, done.Users, 1_002)
		require.GreaterOrEqual(t, done.Users, 1_002-deleted)
		require.NotEqual(t, done.First, done.Last)
		require.GreaterOrEqual(t, int(s.users.Load()), done.Users)
	})
}

func TestExport_EndsWithItsWriterAndItsContext(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, _ store.Store) {
		people(t, dir)
		broken := errors.New("the disk is full")
		_, err := transfer.Export(t.Context(), dir, system, failing{broken})
		require.ErrorIs(t, err, broken)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = transfer.Export(ctx, dir, system, &bytes.Buffer{})
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.NoError(t, dir.Close())
		_, err = transfer.Export(t.Context(), dir, system, &bytes.Buffer{})
		require.ErrorIs(t, err, denizen.ErrClosed)
	})
}

// held is a store whose reads of many records wait for the caller's context.
type held struct {
	store.Store
	waiting atomic.Int64
	begun   chan struct{}
}

func (s *held) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if len(keys) < 3 {
		return s.Store.Get(ctx, keys...)
	}
	s.begun <- struct{}{}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestExport_ReadsAFewPagesAheadAndLeavesNoReadBehind(t *testing.T) {
	overStores(t, func(t *testing.T, dir *denizen.Directory, inner store.Store) {
		people(t, dir)
		require.NoError(t, dir.Close())
		s := &held{Store: inner, begun: make(chan struct{}, 100)}
		dir, err := denizen.New(t.Context(), s, options())
		require.NoError(t, err)
		defer func() { require.NoError(t, dir.Close()) }()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range 4 {
				<-s.begun
			}
			cancel()
		}()
		_, err = transfer.Export(ctx, dir, system, &bytes.Buffer{})
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.Zero(t, s.waiting.Load())
		require.Empty(t, s.begun, "no more than four pages are read at once")
	})
}

// An error of the third list comes after the users of the first two pages.
func TestExport_AnErrorComesInItsPlace(t *testing.T) {
	overFaultyStores(t, func(t *testing.T, dir *denizen.Directory, strike *strike) {
		people(t, dir)
		var lists atomic.Int64
		strike.by(func(c storetest.Call) storetest.Fault {
			if c.Method == "List" && lists.Add(1) == 4 { // the first is of definitions
				return storetest.Before
			}
			return storetest.None
		})
		var out bytes.Buffer
		done, err := transfer.Export(t.Context(), dir, system, &out)
		require.ErrorIs(t, err, denizen.ErrUnavailable)
		require.Equal(t, 32, done.Users)
	})
}
