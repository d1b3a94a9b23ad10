package denizen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

// logged is a file that notes what was committed to it.
type logged struct {
	*bolt.Store
	mu   sync.Mutex
	done map[store.Seq]store.Batch
}

func (s *logged) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	seq, err := s.Store.Commit(ctx, b)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		b.Drop, b.Put = slices.Clone(b.Drop), slices.Clone(b.Put)
		s.done[seq] = b
	}
	return seq, err
}

// at returns the records and the events after a commit, from what was committed.
func (s *logged) at(t *testing.T, head store.Seq) invariant.Dump {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	records := map[store.Key]store.Record{}
	all := invariant.Dump{Feed: store.Feed{First: 1, Head: head}}
	for seq := store.Seq(1); seq <= head; seq++ {
		b, known := s.done[seq]
		require.True(t, known, "%d is not noted", seq)
		for _, key := range b.Drop {
			delete(records, key)
		}
		for _, r := range b.Put {
			records[r.Key] = store.Record{Key: r.Key, Version: seq, Value: r.Value}
		}
		if b.Emit != nil {
			all.Feed.Changes = append(all.Feed.Changes, store.Change{Seq: seq, Event: b.Emit})
		}
	}
	for _, r := range records {
		all.Records = append(all.Records, r)
	}
	slices.SortFunc(all.Records, func(a, b store.Record) int { return cmpKeys(a.Key, b.Key) })
	return all
}

func cmpKeys(a, b store.Key) int { return bytes.Compare([]byte(a), []byte(b)) }

// step does something at random.
func stepAtRandom(d *denizen.Directory, r *rand.Rand) error {
	ctx, id := context.Background(), userNo(r.IntN(40))
	var err error
	switch r.IntN(9) {
	case 0, 1, 2:
		_, err = d.CreateUser(ctx, sys, denizen.NewUser{
			ID: id, ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprintf("%d@example.org", r.IntN(60)))},
			Attributes: []denizen.Attribute{{Key: "bio", Value: fmt.Sprint(r.IntN(1000))}},
		})
	case 3:
		err = d.DeleteUser(ctx, sys, id)
	case 4:
		_, err = d.SetScreenName(ctx, sys, id, fmt.Sprint("Name ", r.IntN(1000)))
	case 5:
		_, err = d.IssueToken(ctx, sys, id, denizen.TokenOptions{})
	case 6:
		err = d.RevokeAllTokens(ctx, sys, id)
	case 7:
		err = d.SetPresence(ctx, sys, id, denizen.Online(time.Minute).Then(denizen.Offline()))
	case 8:
		_, err = d.AddLocator(ctx, sys, id, denizen.Email(fmt.Sprintf("%d@example.com", r.IntN(60))))
	}
	for _, expected := range []error{denizen.ErrTaken, denizen.ErrNotFound, denizen.ErrLimited, denizen.ErrConflict} {
		if errors.Is(err, expected) {
			return nil
		}
	}
	return err
}

func TestBackup_UnderFullLoadIsTheStateAtItsPlace(t *testing.T) {
	folder := t.TempDir()
	file, err := bolt.Open(t.Context(), filepath.Join(folder, "people.db"), bolt.Options{})
	require.NoError(t, err)
	s := &logged{Store: file, done: map[store.Seq]store.Batch{}}
	d, err := denizen.New(t.Context(), s, denizen.Options{HeartbeatInterval: 10 * time.Millisecond})
	require.NoError(t, err)
	_, err = d.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "bio"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for r := rand.New(rand.NewPCG(uint64(i), rand.Uint64())); ctx.Err() == nil; {
				if err := stepAtRandom(d, r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	places := map[string]denizen.Seq{}
	for last := denizen.Seq(0); len(places) < 6; {
		var b bytes.Buffer
		at, err := d.Backup(t.Context(), sys, &b)
		require.NoError(t, err)
		if at < last+50 {
			continue
		}
		last = at
		path := filepath.Join(folder, fmt.Sprint("backup", len(places)))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		places[path] = at
	}
	stop()
	all.Wait()
	require.NoError(t, d.Close())
	require.NoError(t, file.Close())
	for path, at := range places {
		info, err := denizen.VerifyBackup(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, at, info.Seq)
		_, err = bolt.Restore(t.Context(), path, path+".raw", func(copied *bolt.Store) error {
			require.Equal(t, s.at(t, store.Seq(at)), invariant.Of(t, copied))
			invariant.Check(t, copied)
			return nil
		})
		require.NoError(t, err)
		_, err = denizen.Restore(t.Context(), path, path+".db", denizen.RestoreOptions{})
		require.NoError(t, err)
		restored, err := bolt.Open(t.Context(), path+".db", bolt.Options{})
		require.NoError(t, err)
		invariant.Check(t, restored)
		require.NoError(t, restored.Close())
	}
}

func TestBackup_OfWhatIsInNoFileIsRefused(t *testing.T) {
	for _, s := range []store.Store{memory.New(), shared{memory.New()}} {
		var b bytes.Buffer
		_, err := newOver(t, s, denizen.Options{}).Backup(t.Context(), sys, &b)
		requireField(t, err, denizen.ErrInvalid, "store")
		require.Zero(t, b.Len())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestBackup_ThatCannotBeWrittenSaysSo(t *testing.T) {
	_, err := newBolt(t, denizen.Options{}).Backup(t.Context(), sys, fullDisk{})
	requireRefused(t, err, "Backup", denizen.ErrUnavailable, "")
}

// backedUpTo writes a backup and returns its path.
func backedUpTo(t *testing.T, d *denizen.Directory) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "people.backup")
	require.NoError(t, backUp(t.Context(), d, path))
	return path
}

// reopened restores a backup and opens the directory.
func reopened(t *testing.T, backup string, o denizen.RestoreOptions) (*house, denizen.Restored) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "people.db")
	restored, err := denizen.Restore(t.Context(), backup, path, o)
	require.NoError(t, err)
	s, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return &house{newOver(t, s, o.Options), s}, restored
}

func TestBackup_ARestoredDirectoryHasNoTokenAndAFeedOfItsOwn(t *testing.T) {
	o := under(oldRoot)
	d := newBolt(t, o)
	newUser(t, d, "alice-user")
	newUser(t, d, "bob-user")
	_, err := d.BlockUser(t.Context(), sys, "bob-user", denizen.Block{})
	require.NoError(t, err)
	var signed []string
	for range 3 {
		signed = append(signed, newToken(t, d, "alice-user", denizen.TokenOptions{}).Signed)
	}
	kept, gone := newKey(t, d), newKey(t, d)
	byKey(t, d, kept.Key, kept.Secret)
	cursor := headOf(t, d)
	require.NoError(t, d.ResetConsumer(t.Context(), sys, "mirror", cursor))
	backup := backedUpTo(t, d)
	require.NoError(t, d.DeleteAccessKey(t.Context(), sys, gone.Key))

	h, restored := reopened(t, backup, denizen.RestoreOptions{Options: o})
	invariant.Check(t, h.store)
	require.Equal(t, d.ID(), h.ID())
	require.Equal(t, []string{kept.Key, gone.Key}, []string{restored.AccessKeys[0].Key, restored.AccessKeys[1].Key})
	byKey(t, h.Directory, gone.Key, gone.Secret)
	for _, text := range signed {
		require.Equal(t, denizen.ErrRevoked, authenticated(t, h.Directory, text))
	}
	tokens, err := h.Tokens(t.Context(), sys, "alice-user")
	require.NoError(t, err)
	require.Empty(t, tokens)
	require.NoError(t, authenticated(t, h.Directory, newToken(t, h.Directory, "alice-user", denizen.TokenOptions{}).Signed))
	_, err = h.IssueToken(t.Context(), sys, "bob-user", denizen.TokenOptions{})
	require.ErrorIs(t, err, denizen.ErrDenied, "who was blocked is")
	require.ErrorIs(t, drained(h.Events(t.Context(), sys, cursor)), denizen.ErrMissed)
	events := eventsAfter(t, h.Directory, 0)
	require.True(t, slices.ContainsFunc(events, func(e denizen.Event) bool { return e.Kind == denizen.EventDirectoryRestored && e.Actor == ".system" }))
	ctx, cancel := context.WithCancel(t.Context())
	err = h.Notify(ctx, sys, "mirror", func(_ context.Context, batch []denizen.Event) error {
		require.Equal(t, denizen.EventMissed, batch[0].Kind)
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	again, _ := reopened(t, backup, denizen.RestoreOptions{Options: o})
	require.ErrorIs(t, drained(again.Events(t.Context(), sys, headOf(t, h.Directory))), denizen.ErrMissed, "each restore is a history of its own")
}

// Somebody else may read the address by now, or the claim may have been given up.
func TestBackup_ARestoreEndsTheProofsThatWereStarted(t *testing.T) {
	d := newBolt(t, denizen.Options{})
	newUser(t, d, "alice-01")
	by := func(d *denizen.Directory) denizen.Principal {
		p, err := d.Authenticate(t.Context(), newToken(t, d, "alice-01", denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
		return p
	}
	first := by(d)
	claim, err := d.AddLocator(t.Context(), first, "alice-01", denizen.Email("claim@example.org"))
	require.NoError(t, err)
	own := startOwn(t, d, first, claim.ID, "")
	signIn, err := door.Of(d).StartProof(t.Context(), sys, door.ProofStart{SignIn: victims, Secret: ownCode})
	require.NoError(t, err)

	h, _ := reopened(t, backedUpTo(t, d), denizen.RestoreOptions{})
	for _, under := range []store.Key{record.Proofs, record.UsersProofs, record.AllStarts} {
		left, err := h.store.List(t.Context(), store.Range{Under: under, Limit: 1})
		require.NoError(t, err)
		require.Empty(t, left, "%q", under)
	}
	_, _, err = door.Of(h.Directory).FinishSignIn(t.Context(), sys, signIn.Handle, ownCode, &newcomer)
	requireField(t, err, denizen.ErrDenied, "proof")
	_, err = door.Of(h.Directory).FinishOwn(t.Context(), by(h.Directory), string(claim.ID), own, ownCode)
	requireField(t, err, denizen.ErrDenied, "proof")
	_, _, err = door.Of(d).FinishSignIn(t.Context(), sys, signIn.Handle, ownCode, &newcomer)
	require.NoError(t, err, "where it was started it is good")
}

func TestBackup_WhoWasErasedSinceIsErasedAgainAndNobodyElse(t *testing.T) {
	d := newBolt(t, denizen.Options{})
	newUser(t, d, "before-01")
	earlier, err := d.EraseUser(t.Context(), sys, "before-01")
	require.NoError(t, err)
	for _, id := range []denizen.UserID{"alice-01", "bobby-01", "carol-01"} {
		newUser(t, d, id)
	}
	backup := backedUpTo(t, d)
	alice, err := d.EraseUser(t.Context(), sys, "alice-01")
	require.NoError(t, err)
	require.NoError(t, d.DeleteUser(t.Context(), sys, "bobby-01"))
	newUser(t, d, "bobby-01") // another one
	bob, err := d.EraseUser(t.Context(), sys, "bobby-01")
	require.NoError(t, err)

	h, restored := reopened(t, backup, denizen.RestoreOptions{Erase: []denizen.Erasure{earlier, bob, alice}})
	require.Len(t, restored.Erased, 1)
	require.Equal(t, alice.InternalID, restored.Erased[0].InternalID)
	_, err = h.User(t.Context(), sys, "alice-01")
	require.ErrorIs(t, err, denizen.ErrNotFound)
	for _, id := range []denizen.UserID{"bobby-01", "carol-01"} {
		_, err = h.User(t.Context(), sys, id)
		require.NoError(t, err)
	}
	invariant.Check(t, h.store)
	for _, r := range invariant.Of(t, h.store).Records {
		require.NotContains(t, string(r.Value), alice.InternalID)
	}
}

// One of the two users of a person was merged into the other after the backup was taken.
func TestBackup_WhoWasMergedIntoSomebodyErasedSinceIsErasedToo(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
		require.NoError(t, err)
		defer s.Close()
		d := newOver(t, s, denizen.Options{})
		for _, id := range []denizen.UserID{guest, owner, "carol-01", "again-01"} {
			newUser(t, d, id)
		}
		backup := backedUpTo(t, d)
		before, err := d.User(t.Context(), sys, guest)
		require.NoError(t, err)
		mergeFor(t, d, guest, owner, denizen.Forever)
		require.NoError(t, d.DeleteUser(t.Context(), sys, "again-01"))
		newUser(t, d, "again-01") // another one
		mergeFor(t, d, "again-01", owner, time.Hour)
		if damaged {
			require.NoError(t, d.Close())
			bad := store.Record{Key: record.UserKey(string(owner)), Value: []byte(`{"kind":"none"}`)}
			_, err = s.Commit(t.Context(), store.Batch{Put: []store.Record{bad}})
			require.NoError(t, err)
			d = newOver(t, s, denizen.Options{})
		}
		receipt, err := d.EraseUser(t.Context(), sys, owner)
		require.NoError(t, err)
		require.Len(t, receipt.Aliases, 2)
		require.Contains(t, receipt.Aliases, denizen.Alias{ID: guest, InternalID: before.InternalID})
		require.Equal(t, 2, receipt.Removed["aliases"])

		h, restored := reopened(t, backup, denizen.RestoreOptions{Erase: []denizen.Erasure{receipt}})
		require.Len(t, restored.Erased, 2)
		require.Equal(t, []denizen.UserID{owner, guest}, []denizen.UserID{restored.Erased[0].User, restored.Erased[1].User})
		left := []denizen.UserID{}
		for u, err := range h.AllUsers(t.Context(), sys) {
			require.NoError(t, err)
			left = append(left, u.ID)
		}
		require.Equal(t, []denizen.UserID{"again-01", "carol-01"}, left)
		invariant.Check(t, h.store)
	}
}

func TestBackup_ARestoreThatIsRefusedLeavesNoFile(t *testing.T) {
	d := newBolt(t, under(oldRoot))
	newUser(t, d, "alice-01")
	backup, folder := backedUpTo(t, d), t.TempDir()
	path := filepath.Join(folder, "people.db")
	restoring := func(o denizen.RestoreOptions) error {
		_, err := denizen.Restore(t.Context(), backup, path, o)
		return err
	}
	err := restoring(denizen.RestoreOptions{Options: under(newRoot)})
	requireRefused(t, err, "Restore", denizen.ErrInvalid, "RootKeys")
	err = restoring(denizen.RestoreOptions{Options: under(oldRoot), Erase: []denizen.Erasure{{Directory: "another", User: "alice-01"}}})
	requireRefused(t, err, "Restore", denizen.ErrInvalid, "erase")
	whole, err := os.ReadFile(backup)
	require.NoError(t, err)
	for _, row := range []struct {
		content []byte
		kind    error
		field   string
	}{
		{whole[:len(whole)-1], denizen.ErrCorrupt, "backup"},
		{[]byte("something else\n"), denizen.ErrUnavailable, "backup"},
		{nil, denizen.ErrUnavailable, "backup"},
	} {
		require.NoError(t, os.WriteFile(backup, row.content, 0o600))
		requireRefused(t, restoring(denizen.RestoreOptions{Options: under(oldRoot)}), "Restore", row.kind, row.field)
		_, err = denizen.VerifyBackup(t.Context(), backup)
		requireRefused(t, err, "VerifyBackup", row.kind, row.field)
	}
	require.NoError(t, os.Remove(backup))
	requireRefused(t, restoring(denizen.RestoreOptions{}), "Restore", denizen.ErrUnavailable, "")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)

	require.NoError(t, os.WriteFile(backup, whole, 0o600))
	require.NoError(t, restoring(denizen.RestoreOptions{Options: under(oldRoot)}))
	requireRefused(t, restoring(denizen.RestoreOptions{Options: under(oldRoot)}), "Restore", denizen.ErrTaken, "path")
}

func TestBackup_IsNotOpenedAsItIs(t *testing.T) {
	_, err := denizen.Open(t.Context(), backedUpTo(t, newBolt(t, denizen.Options{})), denizen.Options{})
	requireRefused(t, err, "Open", denizen.ErrUnavailable, "path")
	require.ErrorContains(t, err.(*denizen.Error).Cause(), "a backup, which is to be restored")
}

// What no record lists any more, because that is damaged or lost, ends too: here in several commits.
func TestBackup_ARestoreEndsTokensThatNothingLists(t *testing.T) {
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "people.db"), bolt.Options{})
	require.NoError(t, err)
	defer s.Close()
	d := newOver(t, s, denizen.Options{})
	newUser(t, d, "alice-01")
	signed := newToken(t, d, "alice-01", denizen.TokenOptions{}).Signed
	b := store.Batch{Drop: []store.Key{record.TokensKey("alice-01")}}
	for i := range 2500 {
		text := record.TokenText{Digest: fmt.Sprintf("%064x", i), User: "alice-01"}
		b.Put = append(b.Put, store.Record{Key: record.TokenTextKey([32]byte{byte(i), byte(i >> 8)}), Value: record.Encode(&text)})
	}
	_, err = s.Commit(t.Context(), b)
	require.NoError(t, err)
	h, _ := reopened(t, backedUpTo(t, d), denizen.RestoreOptions{})
	require.Equal(t, denizen.ErrRevoked, authenticated(t, h.Directory, signed))
	left, err := h.store.List(t.Context(), store.Range{Under: record.TokenTexts, Limit: 1})
	require.NoError(t, err)
	require.Empty(t, left)
}
