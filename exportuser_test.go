package denizen_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/invariant"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/memory"
)

// exportOf returns the document of a user.
func exportOf(t *testing.T, d *denizen.Directory, by denizen.Principal, id denizen.UserID) (text []byte, document map[string]any) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, d.ExportUser(t.Context(), by, id, &b))
	require.NoError(t, json.Unmarshal(b.Bytes(), &document))
	return b.Bytes(), document
}

func TestExportUser_HoldsAllThatIsHeldOfThePerson(t *testing.T) {
	inHouses(t, withHandles(), func(t *testing.T, h *house) {
		settled(t, h.Directory)
		_, err := h.DefineAttribute(t.Context(), sys, denizen.AttributeDef{Key: "score", VisibleTo: denizen.ToSystem, WritableBy: denizen.ToSystem})
		require.NoError(t, err)
		_, err = h.SetAttribute(t.Context(), sys, mallory, denizen.Attribute{Key: "score", Value: "of a hidden kind"})
		require.NoError(t, err)
		for name, by := range map[string]denizen.Principal{"itself": h.as(t, mallory), "system": sys} {
			text, document := exportOf(t, h.Directory, by, mallory)
			held := append([]string{"of a hidden kind", string(mallory)}, mallorysTraces[:9]...)
			require.ElementsMatch(t, held, invariant.TracesIn(text, append(held, "Someone", "some.one", string(someone))...), name)
			require.Len(t, document["locators"], 4)
			require.Len(t, document["devices"], 1)
			require.Len(t, document["tokens"], 2)
			require.EqualValues(t, 1, document["restingLocators"])
			require.NotContains(t, document, "block")
			require.NotContains(t, document, "damaged")
		}
	})
}

func TestExportUser_HoldsNoSecretAndNoOperator(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.create(t, alice)
		key, err := h.CreateAccessKey(ctx, sys)
		require.NoError(t, err)
		byKey, err := h.AuthenticateKey(ctx, key.Key, key.Secret)
		require.NoError(t, err)
		token, err := h.IssueToken(ctx, byKey, alice, denizen.TokenOptions{})
		require.NoError(t, err)
		delegate, err := h.ActAs(ctx, byKey, alice)
		require.NoError(t, err)
		_, err = h.SetScreenName(ctx, delegate, alice, "Alice by another")
		require.NoError(t, err)
		by, err := h.Authenticate(ctx, token.Signed)
		require.NoError(t, err)
		_, err = h.SetScreenName(ctx, by, alice, "Alice by herself")
		require.NoError(t, err)
		text, document := exportOf(t, h.Directory, by, alice)
		require.Empty(t, invariant.TracesIn(text, key.Key, key.Secret, token.Signed, ".system"))
		var who []any
		for _, e := range document["events"].(map[string]any)["about"].([]any) {
			who = append(who, e.(map[string]any)["by"])
		}
		require.Equal(t, []any{"application", "application", "application", "self"}, who)
	})
}

func TestExportUser_GivesTheReasonOfABlockToTheApplicationAlone(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		by := h.as(t, alice)
		until := time.Now().Add(time.Hour)
		_, err := h.BlockUser(t.Context(), sys, alice, denizen.Block{Reason: "spam", Until: until})
		require.NoError(t, err)
		require.ErrorIs(t, h.ExportUser(t.Context(), by, alice, new(bytes.Buffer)), denizen.ErrRevoked)
		_, document := exportOf(t, h.Directory, sys, alice)
		require.Equal(t, map[string]any{"until": until.UTC().Format(time.RFC3339), "reason": "spam"}, document["block"])
		time.Sleep(time.Hour)
		text, document := exportOf(t, h.Directory, by, alice)
		require.Equal(t, map[string]any{"until": until.UTC().Format(time.RFC3339)}, document["block"])
		require.NotContains(t, string(text), "spam")
	})
}

func TestExportUser_HoldsNothingOfAnEarlierUserOfTheID(t *testing.T) {
	inHouses(t, denizen.Options{}, func(t *testing.T, h *house) {
		h.create(t, alice)
		newToken(t, h.Directory, alice, denizen.TokenOptions{})
		require.NoError(t, h.DeleteUser(t.Context(), sys, alice))
		h.create(t, alice)
		_, document := exportOf(t, h.Directory, sys, alice)
		require.Len(t, document["events"].(map[string]any)["about"], 1)
		require.Empty(t, document["tokens"])
	})
}

// Most commits have no event where there are many heartbeats.
func TestExportUser_LooksThroughTheNewestEvents(t *testing.T) {
	ctx := t.Context()
	s := memory.New()
	d := newOver(t, s, denizen.Options{})
	newUser(t, d, alice)
	quiet := func(n int) {
		for range n {
			_, err := s.Commit(ctx, store.Batch{Put: []store.Record{{Key: "~", Value: []byte(`{"kind":"none"}`)}}})
			require.NoError(t, err)
		}
	}
	other := func(n int) {
		e := record.Event{At: 1, What: "user.renamed", Actor: ".system", User: "somebody-else", Incarnation: "i"}
		for range n {
			_, err := s.Commit(ctx, store.Batch{Emit: record.Encode(&e)})
			require.NoError(t, err)
		}
	}
	about := func() (seen []any, events map[string]any) {
		_, document := exportOf(t, d, sys, alice)
		events = document["events"].(map[string]any)
		for _, e := range events["about"].([]any) {
			seen = append(seen, e.(map[string]any)["kind"])
		}
		return seen, events
	}
	quiet(30_000)
	seen, events := about()
	require.Equal(t, []any{"user.created"}, seen)
	require.EqualValues(t, 2, events["searched"], "with that of the directory")
	other(denizen.ExportedEvents - 2)
	quiet(5000)
	seen, events = about()
	require.Equal(t, []any{"user.created"}, seen)
	require.EqualValues(t, denizen.ExportedEvents, events["searched"])
	other(1)
	seen, _ = about()
	require.Equal(t, []any{"user.created"}, seen)
	other(1)
	seen, events = about()
	require.Empty(t, seen, "it is older than the newest")
	require.EqualValues(t, denizen.ExportedEvents, events["searched"])
}

func TestExportUser_NamesWhatCannotBeRead(t *testing.T) {
	id := string(mallory)
	overDamages(t, withHandles(), func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
		settled(t, d)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.NoError(t, d.Close()) // nothing is remembered
		d = newOver(t, shared{s}, withHandles())
		damage(record.ProfileKey(id), record.DevicesKey(id), record.TokensKey(id), record.LastUsesKey(id))
		_, document := exportOf(t, d, sys, mallory)
		require.Equal(t, []any{"profile", "presence", "tokens", "last uses"}, document["damaged"])
		require.Len(t, document["locators"], 4)
		damage(record.UserKey(id))
		require.ErrorIs(t, d.ExportUser(t.Context(), sys, mallory, new(bytes.Buffer)), denizen.ErrCorrupt)
		require.ErrorIs(t, d.ExportUser(t.Context(), sys, "nobody-at-all", new(bytes.Buffer)), denizen.ErrNotFound)
	})
}

// unwritable is a writer whose reader has left.
type unwritable struct{}

var errHungUp = errors.New("hung up")

func (unwritable) Write([]byte) (int, error) { return 0, errHungUp }

func TestExportUser_TellsWhatItsWriterSays(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	err := d.ExportUser(t.Context(), sys, alice, unwritable{})
	require.ErrorIs(t, err, denizen.ErrUnavailable)
	require.ErrorIs(t, err, errHungUp)
}

func TestExportUser_IsBoundedInRate(t *testing.T) {
	inVirtualTime(t, denizen.Options{UserEventBurst: 2, UserEventInterval: time.Minute}, func(t *testing.T, d *denizen.Directory) {
		newUser(t, d, alice)
		by, err := d.Authenticate(t.Context(), newToken(t, d, alice, denizen.TokenOptions{}).Signed)
		require.NoError(t, err)
		for range 2 {
			exportOf(t, d, by, alice)
		}
		err = d.ExportUser(t.Context(), by, alice, new(bytes.Buffer))
		requireField(t, err, denizen.ErrLimited, "events")
		exportOf(t, d, sys, alice)
		time.Sleep(time.Minute)
		exportOf(t, d, by, alice)
	})
}

func TestExportUser_IsWholeWhileTheFeedIsTrimmed(t *testing.T) {
	d := newMemory(t, denizen.Options{})
	newUser(t, d, alice)
	for i := range 50 {
		_, err := d.SetScreenName(t.Context(), sys, alice, fmt.Sprint("Alice ", i))
		require.NoError(t, err)
		require.NoError(t, d.TrimFeed(t.Context(), sys, latest(t, d)-denizen.Seq(i%3)))
		exportOf(t, d, sys, alice)
	}
}
