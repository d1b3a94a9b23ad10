package denizen_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/long"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
	"github.com/stretchr/testify/require"
)

// damaging is a store of which some records and events cannot be read.
type damaging struct {
	store.Store
	mu     sync.Mutex          // guards the rest
	urgent []denizen.EventKind // the kinds of events whose batches were urgent
	keys   map[store.Key]bool
	events map[store.Seq]bool
	hidden map[store.Key]bool // as if they had never been written
}

func newDamaging() *damaging {
	return &damaging{
		Store: memory.New(), keys: map[store.Key]bool{}, events: map[store.Seq]bool{}, hidden: map[store.Key]bool{},
	}
}

func (s *damaging) mark(rs []store.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range rs {
		switch {
		case s.keys[rs[i].Key]:
			rs[i].Damaged, rs[i].Value = true, nil
		case s.hidden[rs[i].Key]:
			rs[i].Version, rs[i].Value = 0, nil
		}
	}
}

func (s *damaging) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	rs, err := s.Store.Get(ctx, keys...)
	s.mark(rs)
	return rs, err
}

func (s *damaging) List(ctx context.Context, r store.Range) ([]store.Record, error) {
	rs, err := s.Store.List(ctx, r)
	s.mark(rs)
	return rs, err
}

func (s *damaging) Changes(ctx context.Context, after store.Seq, limit int) (store.Feed, error) {
	feed, err := s.Store.Changes(ctx, after, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ch := range feed.Changes {
		if s.events[ch.Seq] {
			feed.Changes[i] = store.Change{Seq: ch.Seq, Damaged: true}
		}
	}
	return feed, err
}

// Commit keeps to clause 18: a condition on the version of what is damaged is refused, one that
// asks for damage holds, and what is written anew is damaged no more.
func (s *damaging) Commit(ctx context.Context, b store.Batch) (store.Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conds := make([]store.Cond, 0, len(b.If))
	for _, c := range b.If {
		switch {
		case s.hidden[c.Key] && c.Version == 0: // it holds, as far as the store can see
		case c.Damaged && !s.keys[c.Key]:
			return 0, &store.Conflict{Failed: []store.Cond{c}}
		case !c.Damaged && !c.Under && s.keys[c.Key]:
			return 0, store.ErrCorrupt
		case !c.Damaged:
			conds = append(conds, c)
		}
	}
	b.If = conds
	seq, err := s.Store.Commit(ctx, b)
	if err == nil {
		if e, bad := record.DecodeEvent(b.Emit); b.Emit != nil && bad == nil && b.Urgent {
			s.urgent = append(s.urgent, denizen.EventKind(e.What))
		}
		for _, key := range b.Drop {
			delete(s.keys, key)
		}
		for _, r := range b.Put {
			delete(s.keys, r.Key)
		}
	}
	return seq, err
}

// damages are the ways in which a record is damaged.
var damages = map[string]func(t *testing.T, s *damaging, keys ...store.Key){
	"the store cannot read it": func(_ *testing.T, s *damaging, keys ...store.Key) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range keys {
			s.keys[key] = true
		}
	},
	"it is not what its key promises": func(t *testing.T, s *damaging, keys ...store.Key) {
		for _, key := range keys {
			_, err := s.Store.Commit(t.Context(), store.Batch{Put: []store.Record{{Key: key, Value: []byte(`{"kind":"none"}`)}}})
			require.NoError(t, err)
		}
	},
}

// overDamages runs a test for each way of damage, with a directory that remembers what it reads,
// but for what is damaged before that, and one that does not.
func overDamages(t *testing.T, o denizen.Options, test func(t *testing.T, s *damaging, d *denizen.Directory, damage func(keys ...store.Key))) {
	t.Helper()
	for name, damage := range damages {
		overCaches(t, func(t *testing.T, cached bool) {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newDamaging()
					var seen store.Store = s
					if cached {
						seen = &owned{s, s.Store.(store.Sole)}
					}
					test(t, s, newOver(t, seen, o), func(keys ...store.Key) { damage(t, s, keys...) })
				})
			})
		})
	}
}

const mallory, someone denizen.UserID = "mallory-user", "someone-else"

// enders are the methods that end a token, and whether the user may have another afterwards.
var enders = []struct {
	name  string
	lives bool
	end   func(d *denizen.Directory, by denizen.Principal, key string) error
}{
	{"RevokeAllTokens", true, func(d *denizen.Directory, _ denizen.Principal, _ string) error {
		return d.RevokeAllTokens(context.Background(), sys, mallory)
	}},
	{"RevokeTokens", true, func(d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.RevokeTokens(context.Background(), sys, mallory, by.Token())
	}},
	{"Logout", true, func(d *denizen.Directory, by denizen.Principal, _ string) error {
		return d.Logout(context.Background(), by)
	}},
	{"RevokeTokensIssuedBy", true, func(d *denizen.Directory, _ denizen.Principal, key string) error {
		_, err := d.RevokeTokensIssuedBy(context.Background(), sys, key)
		return err
	}},
	{"BlockUser", false, func(d *denizen.Directory, _ denizen.Principal, _ string) error {
		_, err := d.BlockUser(context.Background(), sys, mallory, denizen.Block{})
		return err
	}},
	{"EraseUser", false, func(d *denizen.Directory, _ denizen.Principal, _ string) error {
		_, err := d.EraseUser(context.Background(), sys, mallory)
		return err
	}},
	{"DeleteUser", false, func(d *denizen.Directory, _ denizen.Principal, _ string) error {
		return d.DeleteUser(context.Background(), sys, mallory)
	}},
}

func TestDamage_TokensOfADamagedRecordCanBeEnded(t *testing.T) {
	for _, row := range enders {
		t.Run(row.name, func(t *testing.T) {
			overDamages(t, denizen.Options{MaxTokenTTL: time.Hour}, func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
				// It remembers the tokens.
				other := newOver(t, shared{s}, denizen.Options{MaxTokenTTL: time.Hour, MaxRevocationDelay: time.Hour})
				newUser(t, d, mallory)
				newUser(t, d, someone)
				key, err := d.CreateAccessKey(t.Context(), sys)
				require.NoError(t, err)
				byKey, err := d.AuthenticateKey(t.Context(), key.Key, key.Secret)
				require.NoError(t, err)
				one, err := d.IssueToken(t.Context(), byKey, mallory, denizen.TokenOptions{})
				require.NoError(t, err)
				two, kept := newToken(t, d, mallory, denizen.TokenOptions{}), newToken(t, d, someone, denizen.TokenOptions{})
				damage(record.TokensKey(string(mallory)))
				for range 2 {
					for _, signed := range []string{one.Signed, two.Signed, kept.Signed} {
						require.NoError(t, authenticated(t, d, signed))
						require.NoError(t, authenticated(t, other, signed))
					}
					synctest.Wait()
				}
				by, err := d.Authenticate(t.Context(), one.Signed)
				require.NoError(t, err)

				require.NoError(t, row.end(d, by, key.Key))
				synctest.Wait()
				for _, d := range []*denizen.Directory{d, other} {
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, one.Signed))
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, two.Signed))
					require.NoError(t, authenticated(t, d, kept.Signed), "another user's token ended")
				}
				require.NotEmpty(t, s.urgent, "not urgent")
				if row.lives {
					next := newToken(t, d, mallory, denizen.TokenOptions{})
					require.NoError(t, authenticated(t, d, next.Signed))
					require.Equal(t, denizen.ErrRevoked, authenticated(t, d, one.Signed))
				}

				time.Sleep(4 * time.Hour) // they have expired, and were swept
				synctest.Wait()
				texts, err := s.Store.List(t.Context(), store.Range{Under: record.TokenTexts, Limit: 100})
				require.NoError(t, err)
				require.Empty(t, texts, "a text that nothing lists stays for ever")
			})
		})
	}
}

func TestDamage_AUserOfWhomSomethingIsDamagedCanBeDeleted(t *testing.T) {
	id := string(mallory)
	for name, key := range map[string]store.Key{
		"its own record": record.UserKey(id), "the profile": record.ProfileKey(id), "the presence": record.DevicesKey(id),
		"the tokens": record.TokensKey(id), "the last uses": record.LastUsesKey(id),
	} {
		t.Run(name, func(t *testing.T) {
			overDamages(t, denizen.Options{}, func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
				ctx := t.Context()
				_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "bio"})
				require.NoError(t, err)
				n := denizen.NewUser{
					ID: mallory, ScreenName: "Mallory", Attributes: []denizen.Attribute{{Key: "bio", Value: "x"}},
					Locators: []denizen.NewLocator{denizen.Email("mallory@example.org")},
				}
				_, err = d.CreateUser(ctx, sys, n)
				require.NoError(t, err)
				require.NoError(t, d.SetPresence(ctx, sys, mallory, denizen.Online()))
				token := newToken(t, d, mallory, denizen.TokenOptions{})
				require.NoError(t, authenticated(t, d, token.Signed))
				newUser(t, d, someone)
				time.Sleep(2 * time.Minute) // last uses are stored
				synctest.Wait()
				require.NoError(t, d.Close()) // nothing is remembered
				d = newOver(t, shared{s}, denizen.Options{})
				damage(key)
				if key == record.UserKey(id) {
					_, err = d.AddLocator(ctx, sys, someone, denizen.Email("mallory@example.org"))
					require.ErrorIs(t, err, denizen.ErrTaken, "as long as it may be owned")
				}

				require.NoError(t, d.DeleteUser(ctx, sys, mallory))
				require.Equal(t, denizen.ErrRevoked, authenticated(t, d, token.Signed))
				require.NoError(t, d.DropAttributeDef(ctx, sys, "bio"))
				_, err = d.AddLocator(ctx, sys, someone, denizen.Email("mallory@example.org"))
				require.NoError(t, err)
				n.Locators, n.Attributes = nil, nil
				_, err = d.CreateUser(ctx, sys, n)
				require.NoError(t, err)
				require.Equal(t, denizen.ErrRevoked, authenticated(t, d, token.Signed))
				users, err := d.UsersByLocator(ctx, sys, []string{"email:mallory@example.org"})
				require.NoError(t, err)
				require.Len(t, users, 1)
				require.Equal(t, someone, users[0].ID)
				count, err := d.CountUsers(ctx, sys)
				require.NoError(t, err)
				require.Equal(t, 2, count)
			})
		})
	}
}

func TestDamage_ADefinitionStaysWhileADamagedProfileMayRestOnIt(t *testing.T) {
	overDamages(t, denizen.Options{}, func(t *testing.T, _ *damaging, d *denizen.Directory, damage func(...store.Key)) {
		ctx := t.Context()
		for _, key := range []string{"bio", "city"} {
			_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key, WritableBy: denizen.ToSelf})
			require.NoError(t, err)
		}
		newUser(t, d, mallory)
		_, err := d.SetAttribute(ctx, sys, mallory, denizen.Attribute{Key: "bio"})
		require.NoError(t, err)
		damage(record.ProfileKey(string(mallory)))
		requireField(t, d.DropAttributeDef(ctx, sys, "bio"), denizen.ErrConflict, "key")
		city := []denizen.Attribute{{Key: "city", Value: "Oslo"}}
		_, err = d.SetAttributes(ctx, sys, mallory, city, denizen.Merge)
		require.ErrorIs(t, err, denizen.ErrCorrupt)
		require.ErrorIs(t, d.RemoveAttribute(ctx, sys, mallory, "bio"), denizen.ErrCorrupt)
		by, err := d.ActAs(ctx, sys, mallory)
		require.NoError(t, err)
		_, err = d.SetAttributes(ctx, by, mallory, city, denizen.Replace)
		require.ErrorIs(t, err, denizen.ErrCorrupt, "a user cannot drop what it may not write")
		p, err := d.SetAttributes(ctx, sys, mallory, city, denizen.Replace)
		require.NoError(t, err)
		require.Len(t, p.Attributes, 1)
		require.NoError(t, d.DropAttributeDef(ctx, sys, "bio"))
		requireField(t, d.DropAttributeDef(ctx, sys, "city"), denizen.ErrConflict, "key")
		damage(record.ProfileKey(string(mallory)))
		_, err = d.SetAttributes(ctx, sys, mallory, nil, denizen.Replace)
		require.NoError(t, err)
		require.NoError(t, d.DropAttributeDef(ctx, sys, "city"))
	})
}

func TestDamage_ADamagedPresenceIsReplaced(t *testing.T) {
	overDamages(t, denizen.Options{}, func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
		ctx, key := t.Context(), record.DevicesKey(string(mallory))
		newUser(t, d, mallory)
		for name, mend := range map[string]func() error{
			"set":          func() error { return d.SetPresence(ctx, sys, mallory, denizen.Away()) },
			"clear":        func() error { return d.ClearAllPresence(ctx, sys, mallory) },
			"clear device": func() error { return d.ClearPresence(ctx, sys, mallory, "phone") },
		} {
			require.NoError(t, d.SetPresence(ctx, sys, mallory, denizen.Online().On("phone")))
			damage(key)
			require.NoError(t, mend(), name)
			require.False(t, s.keys[key], name)
			p, err := d.Presence(ctx, sys, mallory)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"set": denizen.StateAway}[name], p.Presence.State(), name)
		}
	})
}

func TestDamage_WalksGoOnPastWhatIsDamaged(t *testing.T) {
	overDamages(t, denizen.Options{}, func(t *testing.T, _ *damaging, d *denizen.Directory, damage func(...store.Key)) {
		ctx := t.Context()
		key, err := d.CreateAccessKey(ctx, sys)
		require.NoError(t, err)
		byKey, err := d.AuthenticateKey(ctx, key.Key, key.Secret)
		require.NoError(t, err)
		var signed []string
		for i := range 5 {
			user := denizen.UserID(fmt.Sprintf("user-%04d", i))
			newUser(t, d, user)
			token, err := d.IssueToken(ctx, byKey, user, denizen.TokenOptions{})
			require.NoError(t, err)
			signed = append(signed, token.Signed)
			_, err = d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: string(user)})
			require.NoError(t, err)
		}
		damage(record.UserKey("user-0001"), record.DefinitionKey("user-0003"))
		count, err := d.CountUsers(ctx, sys)
		require.NoError(t, err)
		require.Equal(t, 5, count)
		page, err := d.Users(ctx, sys, denizen.UserQuery{Limit: 2})
		require.NoError(t, err)
		require.Len(t, page.Users, 1)
		require.Equal(t, []denizen.UserID{"user-0001"}, page.Damaged)
		page, err = d.Users(ctx, sys, denizen.UserQuery{After: page.Next})
		require.NoError(t, err)
		require.Len(t, page.Users, 3)
		require.Empty(t, page.Damaged)
		var good, bad []denizen.UserID
		for u, err := range d.AllUsers(ctx, sys) {
			if err != nil {
				require.ErrorIs(t, err, denizen.ErrCorrupt)
				bad = append(bad, u.ID)
				continue
			}
			good = append(good, u.ID)
		}
		require.Equal(t, []denizen.UserID{"user-0000", "user-0002", "user-0003", "user-0004"}, good)
		require.Equal(t, []denizen.UserID{"user-0001"}, bad)
		defs, err := d.AttributeDefs(ctx, sys)
		require.Len(t, defs, 4)
		e := new(denizen.Error)
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, denizen.ErrCorrupt)
		require.Equal(t, []string{"user-0003"}, e.Missing)
		damage(record.UserKey("user-0002"), record.TokensKey("user-0002"))
		n, err := d.RevokeTokensIssuedBy(ctx, sys, key.Key)
		require.Equal(t, 4, n)
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, denizen.ErrCorrupt)
		require.Equal(t, []string{"user-0002"}, e.Missing)
		require.NoError(t, d.DeleteUser(ctx, sys, "user-0002"))
		for i, text := range signed {
			_, err := d.Authenticate(ctx, text)
			require.Error(t, err, i)
		}
		require.NoError(t, d.RotateSigningKey(ctx, sys, 0))
	})
}

func TestDamage_ADamagedRecordHoldsUpNoBackgroundWork(t *testing.T) {
	for name, key := range map[string]store.Key{
		"tokens": record.TokensKey(string(mallory)), "last uses": record.LastUsesKey(string(mallory)), "presence": record.DevicesKey(string(mallory)),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			o := denizen.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
			overDamages(t, o, func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
				log.Reset()
				ctx := t.Context()
				chain := denizen.Online(24 * time.Hour).Then(denizen.Offline())
				signed := map[denizen.UserID]string{}
				for _, user := range []denizen.UserID{mallory, someone} {
					newUser(t, d, user)
					require.NoError(t, d.SetPresence(ctx, sys, user, chain))
					signed[user] = newToken(t, d, user, denizen.TokenOptions{TTL: time.Hour}).Signed
					require.NoError(t, authenticated(t, d, signed[user]))
				}
				time.Sleep(2 * time.Minute)
				newToken(t, d, someone, denizen.TokenOptions{TTL: time.Minute})
				synctest.Wait()
				require.NoError(t, d.Health(ctx, sys))
				damage(key)
				for _, user := range []denizen.UserID{mallory, someone} {
					require.NoError(t, d.SetPresence(ctx, sys, user, chain))
					require.NoError(t, authenticated(t, d, signed[user]))
				}
				beat := time.Now()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				rs, err := s.Store.Get(ctx, record.DevicesKey(string(someone)), record.LastUsesKey(string(someone)))
				require.NoError(t, err)
				value, err := record.Decode(rs[0].Key, rs[0].Value)
				require.NoError(t, err)
				require.Equal(t, beat.UnixMilli(), value.(*record.Devices).Devices[0].Origin(), "a heartbeat is not stored")
				value, err = record.Decode(rs[1].Key, rs[1].Value)
				require.NoError(t, err)
				last := int64(0)
				for _, l := range value.(*record.LastUses).Uses {
					last = max(last, l.At)
				}
				require.Equal(t, beat.UnixMilli(), last, "a last use is not stored")
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				rs, err = s.Store.Get(ctx, record.TokensKey(string(someone)))
				require.NoError(t, err)
				require.Zero(t, rs[0].Version, "what expired is not swept")
				require.Contains(t, log.String(), string(mallory))
				require.NotContains(t, log.String(), "a background duty fails")
				require.Less(t, log.Len(), 50_000)
				if name == "tokens" {
					err = d.Health(ctx, sys)
					require.ErrorIs(t, err, denizen.ErrCorrupt)
				}
				require.NoError(t, d.Close())
			})
		})
	}
}

func TestDamage_DamagedKeysAndDefinitionsAreReplaced(t *testing.T) {
	overDamages(t, denizen.Options{}, func(t *testing.T, s *damaging, d *denizen.Directory, damage func(...store.Key)) {
		ctx := t.Context()
		newUser(t, d, someone)
		require.NoError(t, d.PutAccessKey(ctx, sys, "the-key-1", secretA))
		for _, key := range []string{"bio", "city"} {
			_, err := d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: key})
			require.NoError(t, err)
		}
		_, err := d.SetAttribute(ctx, sys, someone, denizen.Attribute{Key: "city", Value: "Oslo"})
		require.NoError(t, err)
		old := newToken(t, d, someone, denizen.TokenOptions{})
		before, err := d.PublicKeys(ctx)
		require.NoError(t, err)
		require.NoError(t, d.Close()) // nothing is remembered
		d = newOver(t, shared{s}, denizen.Options{})
		damage(record.SigningKeysKey, record.AccessKeysKey, record.DefinitionKey("bio"), record.DefinitionKey("city"))

		_, err = d.IssueToken(ctx, sys, someone, denizen.TokenOptions{})
		require.ErrorIs(t, err, denizen.ErrCorrupt)
		require.NoError(t, d.RotateSigningKey(ctx, sys, time.Hour))
		token := newToken(t, d, someone, denizen.TokenOptions{})
		require.NoError(t, authenticated(t, d, token.Signed))
		require.NoError(t, authenticated(t, d, old.Signed), "nobody is logged out")
		after, err := d.PublicKeys(ctx)
		require.NoError(t, err)
		require.Len(t, after.IDs(), 1)
		require.NotEqual(t, before.IDs(), after.IDs())

		require.ErrorIs(t, d.PutAccessKey(ctx, sys, "the-key-2", secretA), denizen.ErrCorrupt)
		require.NoError(t, d.DeleteAccessKey(ctx, sys, "the-key-3"), "whichever is named")
		_, err = d.AuthenticateKey(ctx, "the-key-1", secretA)
		require.ErrorIs(t, err, denizen.ErrUnauthenticated)
		require.NoError(t, d.PutAccessKey(ctx, sys, "the-key-2", secretA))
		_, err = d.AuthenticateKey(ctx, "the-key-2", secretA)
		require.NoError(t, err)
		require.ErrorIs(t, d.PutAccessKey(ctx, sys, "the-key-3", secretA), denizen.ErrRevoked)

		requireField(t, d.DropAttributeDef(ctx, sys, "city"), denizen.ErrConflict, "key")
		require.NoError(t, d.DropAttributeDef(ctx, sys, "bio"))
		_, err = d.DefineAttribute(ctx, sys, denizen.AttributeDef{Key: "city", MaxBytes: 10})
		require.NoError(t, err)
		defs, err := d.AttributeDefs(ctx, sys)
		require.NoError(t, err)
		require.Len(t, defs, 1)
		require.Equal(t, 10, defs[0].MaxBytes)
	})
}

func TestDamage_ADirectoryIsNotFoundedOverAnOldOne(t *testing.T) {
	for name, hidden := range map[string][]store.Key{
		"without its own record":   {record.DirectoryKey},
		"without both its records": {record.DirectoryKey, record.SigningKeysKey},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDamaging()
			newOver(t, s, denizen.Options{})
			for _, key := range hidden {
				s.hidden[key] = true
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := denizen.New(ctx, s, denizen.Options{})
			require.ErrorIs(t, err, store.ErrCorrupt)
			feed, err := s.Store.Changes(ctx, store.End, 1)
			require.NoError(t, err)
			require.EqualValues(t, 1, feed.Head, "it was written to")
		})
	}
}

func TestDamage_ADamagedEventHidesNoOther(t *testing.T) {
	s := newDamaging()
	d := newOver(t, s, denizen.Options{})
	for _, name := range []string{"Alice", "Bob", "Carol"} {
		_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: name})
		require.NoError(t, err)
	}
	n, err := d.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	s.events[3] = true
	var good, bad []denizen.Seq
	for e, err := range d.Events(t.Context(), denizen.System(), "") {
		if err != nil {
			require.ErrorIs(t, err, store.ErrCorrupt)
			bad = append(bad, e.Seq)
			continue
		}
		good = append(good, e.Seq)
	}
	require.Equal(t, []denizen.Seq{1, 2, 4}, good)
	require.Equal(t, []denizen.Seq{3}, bad)
	s.events[5] = true
	_, err = d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{ScreenName: "Dora"})
	require.NoError(t, err)
	n, err = d.CountUsers(t.Context(), denizen.System())
	require.NoError(t, err)
	require.Equal(t, 4, n)
}

// damagedFiles is the environment of a child that opens each of the files it is given.
const damagedFiles = "DENIZEN_DAMAGED_FILES"

// TestDamage_ADamagedFileIsTheSameDirectoryOrRefused opens files with damage at random places, in
// another process: a file that makes Open loop or fault ends that alone.
func TestDamage_ADamagedFileIsTheSameDirectoryOrRefused(t *testing.T) {
	if path := os.Getenv(damagedFiles); path != "" {
		openDamaged(t, path)
		return
	}
	dir := long.Dir(t)
	path := filepath.Join(dir, "whole.db")
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	require.NoError(t, err)
	for i := range 300 {
		_, err := d.CreateUser(t.Context(), denizen.System(), denizen.NewUser{
			ScreenName: fmt.Sprint("Person ", i),
			Locators:   []denizen.NewLocator{denizen.Email(fmt.Sprintf("p%d@example.com", i))},
		})
		require.NoError(t, err)
	}
	id := d.ID()
	require.NoError(t, d.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	page, used := os.Getpagesize(), uint64(0)
	for _, meta := range [][]byte{whole, whole[page:]} {
		used = max(used, binary.NativeEndian.Uint64(meta[56:]))
	}
	whole = whole[:int(used)*page]
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 300 {
		damaged := bytes.Clone(whole)
		switch at := rng.IntN(len(whole)); i % 3 {
		case 0:
			clear(damaged[at&^511:][:512])
		case 1:
			damaged[at] ^= 1 << rng.IntN(8)
		default: // the head of a page and its elements, where it does the most harm
			at = at/page*page + rng.IntN(256)
			damaged[at] ^= 1 << rng.IntN(8)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("damaged-%03d", i)), damaged, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), damagedFiles+"="+filepath.Join(dir, "damaged-*"), "DENIZEN_DAMAGED_ID="+id)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out[:min(len(out), 4_000)])
}

func openDamaged(t *testing.T, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.Len(t, paths, 300)
	opened := 0
	for _, path := range paths {
		stuck := time.AfterFunc(time.Minute, func() { panic("does not end: " + filepath.Base(path)) })
		if openOneDamaged(t, path) {
			opened++
		}
		stuck.Stop()
	}
	require.Positive(t, opened)
	require.Less(t, opened, len(paths))
}

// openOneDamaged reports whether the file opens, as the directory that it was.
func openOneDamaged(t *testing.T, path string) bool {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	d, err := denizen.Open(t.Context(), path, denizen.Options{})
	if err == nil {
		require.Equal(t, os.Getenv("DENIZEN_DAMAGED_ID"), d.ID(), "%s is another directory", filepath.Base(path))
		_, _ = d.CountUsers(t.Context(), denizen.System())
		_ = d.Close()
		return true
	}
	require.True(t, errors.Is(err, denizen.ErrCorrupt) || errors.Is(err, denizen.ErrUnavailable), "%s: %v", filepath.Base(path), err)
	require.NotErrorIs(t, err, store.ErrOutcomeUnknown, filepath.Base(path))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	if !bytes.Equal(before, after) { // the store opened it, which is noted there
		require.Equal(t, contents(t, before), contents(t, after), "%s was changed", filepath.Base(path))
	}
	return false
}

// contents returns what a store finds in a file.
func contents(t *testing.T, file []byte) (found []any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	s, err := bolt.Open(t.Context(), path, bolt.Options{})
	require.NoError(t, err)
	defer s.Close()
	records, err := s.List(t.Context(), store.Range{Limit: store.MaxPage})
	found = append(found, records, err)
	feed, err := s.Changes(t.Context(), 0, store.MaxPage)
	return append(found, feed, err)
}
