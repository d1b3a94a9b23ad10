// Package verify looks through the records of a directory for damage, over any store and while the
// directory is in use.
package verify

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Damage is something in a store that cannot be read, or that does not fit the rest.
type Damage struct {
	// Record is the kind of record, as in Options.Logger, such as "user" or "token text"; or "event".
	Record string
	User   denizen.UserID // whose it is; empty if it is of no single user or that cannot be told
	Seq    denizen.Seq    // of an event
	Reason string         // for people
}

// Bounds of what is held at once.
const (
	pageSize  = 100
	batchKeys = 500 // that are read in one snapshot, but for those of one record
)

// maxTries is how often what others keep writing is read again.
const maxTries = 16

// errStopped says that yield returned false.
var errStopped = errors.New("stopped")

// Directory reads every record and every event that is kept, and yields what is damaged: what
// cannot be read, lies under the key of another, or contradicts the records that it belongs to. So
// a locator that a user owns must lead to the user, and the other way round; likewise tokens and
// their texts, attributes and their definitions. The secrets must open under Options.RootKeys. It
// changes nothing, and holds some hundred records at once.
//
// Others may write meanwhile: what belongs together is compared in one snapshot. It goes on after
// damage. If it cannot go on, it yields the error and ends: [denizen.ErrUnavailable] if ctx ends or
// the store fails, or if the root key is not among Options.RootKeys.
//
// The pages of a file are below all that: see Verify of store/bolt. Only .system may.
func Directory(
	ctx context.Context, dir *denizen.Directory, by denizen.Principal,
) iter.Seq2[Damage, error] {
	return func(yield func(Damage, error) bool) {
		in, err := door.Of(dir).Verifier(ctx, by)
		v := &verifying{in: in, ctx: ctx, yield: yield}
		if err == nil {
			err = v.records()
		}
		if err == nil {
			err = v.events()
		}
		if err != nil && err != errStopped {
			yield(Damage{}, err)
		}
	}
}

// verifying is one run of Directory.
type verifying struct {
	in    door.Verifier
	ctx   context.Context
	yield func(Damage, error) bool

	batch []checked
	keys  int // of the batch
}

// checked is a record that waits to be compared with those it belongs to.
type checked struct {
	key     store.Key
	version store.Seq
	value   any
	links   []link
}

// link is a record that another one belongs to, and what must be true of it. It is not asked of one
// that cannot be read, which is reported by itself.
type link struct {
	key    store.Key
	fits   func(value any) bool // of nil if there is no such record
	reason string
}

// found yields damage. It returns errStopped if the caller has had enough.
func (v *verifying) found(key store.Key, reason string) error {
	kind, user := record.Of(key)
	if !v.yield(Damage{Record: kind, User: denizen.UserID(user), Reason: reason}, nil) {
		return errStopped
	}
	return nil
}

const unreadable = "cannot be read"

func (v *verifying) records() error {
	for _, key := range []store.Key{record.DirectoryKey, record.SigningKeysKey} {
		found, err := v.in.Get(v.ctx, key)
		if err != nil {
			return err
		}
		if found[0].Version == 0 && !found[0].Damaged {
			if err := v.found(key, "is missing"); err != nil {
				return err
			}
		}
	}
	for after := store.Key(""); ; {
		page, err := v.in.Records(v.ctx, after, pageSize)
		if err != nil {
			return err
		}
		for _, found := range page {
			if err := v.record(found); err != nil {
				return err
			}
		}
		if err := v.compare(); err != nil {
			return err
		}
		if len(page) < pageSize {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

// record checks a record by itself, and puts it into the batch if it belongs to others.
func (v *verifying) record(r store.Record) error {
	value, err := record.DecodeStored(r)
	if err != nil {
		v.in.Damaged(r.Key)
		return v.found(r.Key, unreadable)
	}
	if key, says := record.KeyOf(value); says && key != r.Key {
		return v.found(r.Key, "lies under the key of another")
	}
	opens, err := v.in.Opens(value)
	if err == nil && !opens {
		err = v.found(r.Key, "has a secret that cannot be opened")
	}
	if err != nil {
		return err
	}
	links := linksOf(value)
	if len(links) == 0 {
		return nil
	}
	v.batch = append(v.batch, checked{r.Key, r.Version, value, links})
	if v.keys += 1 + len(links); v.keys < batchKeys {
		return nil
	}
	return v.compare()
}

// compare reads the batch again with all that it belongs to, in one snapshot, and yields what does
// not fit. What has changed since is read anew, once more for each change.
func (v *verifying) compare() error {
	for range maxTries {
		if len(v.batch) == 0 {
			break
		}
		var keys []store.Key
		for _, c := range v.batch {
			keys = append(keys, c.key)
			for _, l := range c.links {
				keys = append(keys, l.key)
			}
		}
		all, err := v.in.Get(v.ctx, keys...)
		if err != nil {
			return err
		}
		var changed []checked
		for _, c := range v.batch {
			now, linked := all[0], all[1:1+len(c.links)]
			all = all[1+len(c.links):]
			if now.Version == c.version && !now.Damaged {
				if err := v.judge(c, linked); err != nil {
					return err
				}
				continue
			}
			value, err := record.DecodeStored(now)
			if now.Version == 0 || err != nil {
				continue // it is gone, or was damaged since: nothing can be told of it
			}
			changed = append(changed, checked{c.key, now.Version, value, linksOf(value)})
		}
		v.batch = changed
	}
	// What is written all the time is left to another run.
	v.batch, v.keys = v.batch[:0], 0
	return nil
}

func (v *verifying) judge(c checked, linked []store.Record) error {
	told := map[string]bool{} // one reason is enough
	for i, l := range c.links {
		var value any
		if r := linked[i]; r.Version != 0 || r.Damaged {
			decoded, err := record.DecodeStored(r)
			if err != nil {
				continue
			}
			value = decoded
		}
		if l.fits(value) || told[l.reason] {
			continue
		}
		told[l.reason] = true
		if err := v.found(c.key, l.reason); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifying) events() error {
	for after := store.Seq(0); ; {
		feed, err := v.in.Events(v.ctx, after, pageSize)
		if err != nil {
			return err
		}
		for _, ch := range feed.Changes {
			after = ch.Seq
			if _, err := record.DecodeChange(ch); err == nil {
				continue
			}
			if !v.yield(Damage{Record: "event", Seq: denizen.Seq(ch.Seq), Reason: unreadable}, nil) {
				return errStopped
			}
		}
		if len(feed.Changes) < pageSize {
			return nil
		}
	}
}

// linksOf returns what a record belongs to.
func linksOf(value any) (links []link) {
	add := func(key store.Key, reason string, fits func(any) bool) {
		links = append(links, link{key, fits, reason})
	}
	ofUser := func(id, incarnation string) {
		add(record.UserKey(id), "is of a user who does not exist", func(value any) bool {
			u, ok := value.(*record.User)
			return ok && u.Incarnation == incarnation
		})
	}
	switch r := value.(type) {
	case *record.User:
		linksOfLocators(r, add)
		for _, ref := range r.Aliases {
			if ref.Until != 0 { // it may be gone, and the id another's
				continue
			}
			add(record.AliasKey(ref.ID), "has an alias that is lost", func(value any) bool {
				a, ok := value.(*record.Alias)
				return ok && a.User == r.ID && a.Incarnation == r.Incarnation
			})
		}
	case *record.Alias:
		add(record.UserKey(r.User), "leads to a user who does not have it", func(value any) bool {
			u, ok := value.(*record.User)
			has := func(ref record.AliasRef) bool { return ref.ID == r.ID }
			return ok && u.Incarnation == r.Incarnation && slices.ContainsFunc(u.Aliases, has)
		})
	case *record.Undo:
		add(record.UserKey(r.User), "undoes what its user has not changed", func(value any) bool {
			u, ok := value.(*record.User)
			has := func(ch record.Change) bool { return ch.Undo == r.Digest }
			return ok && u.Incarnation == r.Incarnation && slices.ContainsFunc(u.Changes, has)
		})
	case *record.UserProofs:
		ofUser(r.User, r.Incarnation)
	case *record.Active:
		ofUser(r.User, r.Incarnation)
	case *record.Proof:
		if r.User == "" {
			break
		}
		add(record.UserProofsKey(r.User), "is not listed by its user", func(value any) bool {
			list, ok := value.(*record.UserProofs)
			has := func(p record.UserProof) bool { return p.Handle == r.Handle }
			return ok && list.Incarnation == r.Incarnation && slices.ContainsFunc(list.Proofs, has)
		})
	case *record.Owner:
		add(record.UserKey(r.User), "is of a user who does not own it", func(value any) bool {
			u, ok := value.(*record.User)
			return ok && u.Incarnation == r.Incarnation && u.Owns(r.Locator)
		})
	case *record.Unique:
		add(record.UserKey(r.User), "is of a user who does not own it", func(value any) bool {
			u, ok := value.(*record.User)
			if !ok || u.Incarnation != r.Incarnation {
				return false
			}
			return slices.ContainsFunc(u.Locators, func(l record.Locator) bool {
				return l.Owned && l.Is(r.Locator) && l.Type+":"+l.Unique == r.Form
			})
		})
	case *record.Profile:
		ofUser(r.User, r.Incarnation)
		for _, a := range r.Attributes {
			add(record.AttributeRefKey(a.Key, r.User), "has an attribute whose use is not noted", exists)
			add(record.DefinitionKey(a.Key), "has an attribute without a definition", exists)
		}
	case *record.AttributeRef:
		add(record.ProfileKey(r.User), "is of a user without the attribute", func(value any) bool {
			p, ok := value.(*record.Profile)
			has := func(a record.Attribute) bool { return a.Key == r.Attribute }
			return ok && slices.ContainsFunc(p.Attributes, has)
		})
	case *record.Devices:
		ofUser(r.User, r.Incarnation)
	case *record.Tokens:
		ofUser(r.User, r.Incarnation)
		linksOfTokens(r, add)
	case *record.TokenText:
		add(record.TokensKey(r.User), "is listed by no token", listsText(r))
	}
	return links
}

func exists(value any) bool { return value != nil }

func linksOfLocators(u *record.User, add func(store.Key, string, func(any) bool)) {
	for _, l := range u.Locators {
		if !l.Owned {
			continue
		}
		locator := l.Type + ":" + l.Canonical
		const reason = "owns a locator that leads to nobody or to another"
		add(record.OwnerKey(locator), reason, func(value any) bool {
			o, ok := value.(*record.Owner)
			return ok && *o == record.Owner{
				Locator: locator, User: u.ID, Incarnation: u.Incarnation, Rule: l.Rule,
			}
		})
		if l.Unique == "" {
			continue
		}
		form := l.Type + ":" + l.Unique
		add(record.UniqueKey(form), reason, func(value any) bool {
			o, ok := value.(*record.Unique)
			return ok && *o == record.Unique{
				Form: form, Locator: locator, User: u.ID, Incarnation: u.Incarnation, Rule: l.Rule,
			}
		})
	}
}

func linksOfTokens(r *record.Tokens, add func(store.Key, string, func(any) bool)) {
	for _, t := range r.Tokens {
		for _, text := range t.Texts {
			key := record.TokenTextKey(record.DigestKey(text.Digest))
			add(key, "lists a text that stands for nothing or for another token", func(value any) bool {
				found, ok := value.(*record.TokenText)
				return ok && found.User == r.User && found.Incarnation == r.Incarnation &&
					found.Token == t.ID && found.Expires == text.Expires
			})
		}
	}
}

// listsText returns whether a record of tokens lists a text.
func listsText(text *record.TokenText) func(any) bool {
	return func(value any) bool {
		r, ok := value.(*record.Tokens)
		if !ok || r.Incarnation != text.Incarnation {
			return false
		}
		for _, t := range r.Tokens {
			for _, listed := range t.Texts {
				if t.ID == text.Token && listed.Digest == text.Digest {
					return true
				}
			}
		}
		return false
	}
}
