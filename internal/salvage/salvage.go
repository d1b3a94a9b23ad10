// Package salvage makes a directory's file anew from a damaged one: what store/bolt salvages, named
// by kind and id, and without what no longer fits together.
package salvage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

// Options are the settings of [File].
type Options struct {
	// Strays restores records that no readable page leads to, but never tokens: see
	// [bolt.LostStray].
	Strays bool
	// Lost, if set, is called for everything that is not in the new file.
	Lost func(Lost)
}

// Lost is something that is not in the new file. It names no locator.
type Lost struct {
	Reason string    // of [bolt.LostReason], or "orphan": it was whole, and its user is lost
	Kind   string    // such as "user" or "profile"; "event" or "page"
	ID     string    // of the user that it is of, or the key of a definition; may be empty
	Event  store.Seq // the place of an event
	Page   uint64    // of the damaged file; 0 for an orphan
}

// Report is what became of a file.
type Report struct {
	bolt.Salvaged
	Orphans int // records that were left out because their user is lost
	Rebuilt int // keys that were lost, and made anew from the user or the profile that has them
	Ended   int // texts of tokens that were left out because no list of tokens has them
	// Unusable says that the directory's own records are lost, so that the new file cannot be
	// opened as a directory.
	Unusable bool
}

// File salvages the file from into a new file, to. See [bolt.Salvage] for the errors.
//
// A record of a user that is lost is left out, so that nobody inherits it who gets the same id.
// What a token's text stands for is left out unless a list of tokens has it, because nobody could
// revoke it. Who owns a locator is made anew from the record of the user who does.
func File(ctx context.Context, from, to string, o Options) (r Report, err error) {
	inner := bolt.SalvageOptions{Lost: func(l bolt.Lost) {
		if o.Lost != nil {
			o.Lost(named(l))
		}
	}}
	if o.Strays {
		inner.Strays = func(key store.Key) bool { return !ofToken(key) }
	}
	if r.Salvaged, err = bolt.Salvage(ctx, from, to, inner); err != nil {
		return r, err
	}
	s, err := bolt.Open(ctx, to, bolt.Options{})
	if err != nil {
		return r, err
	}
	f := fitting{ctx: ctx, s: s, o: o, r: &r}
	err = f.all()
	return r, errors.Join(err, s.Close())
}

// ofToken reports whether a record is of a token, which is never restored in doubt.
func ofToken(key store.Key) bool {
	return key.HasPrefix(record.AllTokens) || key.HasPrefix(record.TokenTexts) ||
		key.HasPrefix(record.LastUsesKey(""))
}

// named names what a store lost.
func named(l bolt.Lost) Lost {
	n := Lost{Reason: string(l.Reason), Page: l.Page, Event: l.Event}
	switch {
	case l.Event != 0:
		n.Kind = "event"
	case l.Key == "":
		n.Kind = "page"
	default:
		n.Kind, n.ID = record.Of(l.Key)
		if l.Key.HasPrefix(record.Definitions) {
			_, n.ID = record.Parts(l.Key)
		}
	}
	return n
}

// fitting goes over the records of a new file, and makes them fit together.
type fitting struct {
	ctx context.Context
	s   *bolt.Store
	o   Options
	r   *Report

	drop []store.Key
	put  []store.Record
}

// page is how many records are looked at together.
const page = 500

func (f *fitting) all() error {
	for _, step := range []struct {
		under store.Key
		fit   func(key store.Key, value any) error
	}{
		{record.OwnerKey(""), f.owner},
		{record.UniqueKey(""), f.owner},
		{record.Aliases, f.alias},
		{record.Users, f.user},
		{record.ProfileKey(""), f.profile},
		{record.AttributeRefs, f.ref},
		{record.DevicesKey(""), f.ofUser},
		{record.AllTokens, f.ofUser},
		{record.LastUsesKey(""), f.lastUses},
		{record.TokenTexts, f.text},
	} {
		for r := (store.Range{Under: step.under, Limit: page}); ; {
			records, err := f.s.List(f.ctx, r)
			if err != nil {
				return err
			}
			for _, found := range records {
				value, err := record.DecodeStored(found)
				if err != nil {
					return fmt.Errorf("a restored record: %w", err)
				}
				if err := step.fit(found.Key, value); err != nil {
					return err
				}
			}
			if err := f.commit(); err != nil {
				return err
			}
			if len(records) < r.Limit {
				break
			}
			r.After = records[len(records)-1].Key
		}
	}
	own, err := f.get(record.DirectoryKey)
	if err != nil {
		return err
	}
	ring, err := f.get(record.SigningKeysKey)
	f.r.Unusable = own == nil || ring == nil
	return err
}

// commit writes what was planned. The file is not in use yet, so nothing is conditioned, and nobody
// follows its feed.
func (f *fitting) commit() error {
	if len(f.drop)+len(f.put) == 0 {
		return nil
	}
	_, err := f.s.Commit(f.ctx, store.Batch{Drop: f.drop, Put: f.put})
	f.drop, f.put = nil, nil
	return err
}

// get returns a record, or nil if there is none.
func (f *fitting) get(key store.Key) (any, error) {
	records, err := f.s.Get(f.ctx, key)
	if err != nil || records[0].Version == 0 {
		return nil, err
	}
	return record.DecodeStored(records[0])
}

func (f *fitting) userOf(id string) (*record.User, error) {
	value, err := f.get(record.UserKey(id))
	u, _ := value.(*record.User)
	return u, err
}

// rebuild puts a record under a key if there is nothing.
func (f *fitting) rebuild(key store.Key, r record.Record) error {
	value, err := f.get(key)
	planned := func(r store.Record) bool { return r.Key == key }
	if err != nil || value != nil || slices.ContainsFunc(f.put, planned) {
		return err
	}
	f.r.Rebuilt++
	f.put = append(f.put, store.Record{Key: key, Value: record.Encode(r)})
	return nil
}

// orphan leaves out a record of a user who is lost.
func (f *fitting) orphan(key store.Key) {
	f.r.Orphans++
	f.drop = append(f.drop, key)
	if f.o.Lost != nil {
		kind, id := record.Of(key)
		f.o.Lost(Lost{Reason: "orphan", Kind: kind, ID: id})
	}
}

func (f *fitting) user(_ store.Key, value any) error {
	u := value.(*record.User)
	for _, a := range u.Aliases {
		alias := record.Alias{
			ID: a.ID, User: u.ID, Incarnation: u.Incarnation, Until: a.Until, Was: a.Was,
		}
		if a.Until != 0 {
			continue // it may be over, and the id another's
		}
		if err := f.rebuild(record.AliasKey(a.ID), &alias); err != nil {
			return err
		}
	}
	for _, l := range u.Locators {
		if !l.Owned {
			continue
		}
		full := l.Type + ":" + l.Canonical
		err := f.rebuild(record.OwnerKey(full), &record.Owner{
			Locator: full, User: u.ID, Incarnation: u.Incarnation, Rule: l.Rule,
		})
		if err != nil {
			return err
		}
		if l.Unique == "" {
			continue
		}
		form := l.Type + ":" + l.Unique
		err = f.rebuild(record.UniqueKey(form), &record.Unique{
			Form: form, Locator: full, User: u.ID, Incarnation: u.Incarnation, Rule: l.Rule,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fitting) profile(key store.Key, value any) error {
	r := value.(*record.Profile)
	u, err := f.userOf(r.User)
	if err != nil {
		return err
	}
	if u == nil || u.Incarnation != r.Incarnation {
		f.orphan(key)
		return nil
	}
	for _, a := range r.Attributes {
		ref := record.AttributeRef{Attribute: a.Key, User: r.User}
		if err := f.rebuild(record.AttributeRefKey(a.Key, r.User), &ref); err != nil {
			return err
		}
	}
	return nil
}

func (f *fitting) ofUser(key store.Key, value any) error {
	var user, incarnation string
	switch r := value.(type) {
	case *record.Devices:
		user, incarnation = r.User, r.Incarnation
	case *record.Tokens:
		user, incarnation = r.User, r.Incarnation
	}
	u, err := f.userOf(user)
	if err == nil && (u == nil || u.Incarnation != incarnation) {
		f.orphan(key)
	}
	return err
}

func (f *fitting) lastUses(key store.Key, value any) error {
	r := value.(*record.LastUses)
	if r.User == "" {
		return nil
	}
	tokens, err := f.get(record.TokensKey(r.User))
	if tokens == nil {
		f.drop = append(f.drop, key)
	}
	return err
}

func (f *fitting) text(key store.Key, value any) error {
	r := value.(*record.TokenText)
	listed, err := f.get(record.TokensKey(r.User))
	if err != nil {
		return err
	}
	if tokens, ok := listed.(*record.Tokens); ok && tokens.Incarnation == r.Incarnation {
		for _, t := range tokens.Tokens {
			has := func(text record.Text) bool { return text.Digest == r.Digest }
			if t.ID == r.Token && slices.ContainsFunc(t.Texts, has) {
				return nil
			}
		}
	}
	f.r.Ended++
	f.drop = append(f.drop, key)
	return nil
}

// owner drops the key of a locator, or of a unique form, that its user does not own.
func (f *fitting) owner(key store.Key, value any) error {
	var user, incarnation, locator string
	switch r := value.(type) {
	case *record.Owner:
		user, incarnation, locator = r.User, r.Incarnation, r.Locator
	case *record.Unique:
		user, incarnation, locator = r.User, r.Incarnation, r.Locator
	}
	u, err := f.userOf(user)
	if err == nil && (u == nil || u.Incarnation != incarnation || !u.Owns(locator)) {
		f.drop = append(f.drop, key)
	}
	return err
}

func (f *fitting) ref(key store.Key, value any) error {
	r := value.(*record.AttributeRef)
	found, err := f.get(record.ProfileKey(r.User))
	profile, _ := found.(*record.Profile)
	has := func(a record.Attribute) bool { return a.Key == r.Attribute }
	if err == nil && (profile == nil || !slices.ContainsFunc(profile.Attributes, has)) {
		f.drop = append(f.drop, key)
	}
	return err
}

func (f *fitting) alias(key store.Key, value any) error {
	r := value.(*record.Alias)
	u, err := f.userOf(r.User)
	has := func(a record.AliasRef) bool { return a.ID == r.ID }
	leads := u != nil && u.Incarnation == r.Incarnation && slices.ContainsFunc(u.Aliases, has)
	if err == nil && !leads {
		f.drop = append(f.drop, key)
	}
	return err
}
