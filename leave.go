package denizen

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// DeleteUser deletes a user in one commit. Its locators become free, or rest by the rule of their
// type: see [LocatorRule]. Its tokens end, its profile and presence are gone, and no alias leads to
// it any more.
//
// Another user may get the same id later and inherits nothing. A user with damaged records can be
// deleted, too, but what they alone named may stay in the store. [Directory.EraseUser] removes that
// as well. Only .system may.
func (d *Directory) DeleteUser(
	ctx context.Context, by Principal, id UserID, expected ...UserVersion,
) (err error) {
	defer d.trace(&ctx, "DeleteUser", &by).end(&err)
	c, err := d.enter(ctx, opDeleteUser, by, id)
	if err != nil {
		return err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		b, err := p.findAllOf(id)
		if err != nil {
			return err
		}
		if err := expect(expected, b.version); err != nil {
			return err
		}
		p.emit(EventUserDeleted, &b.user)
		return p.dropAllOf(b)
	})
	return err
}

// Erasure is the receipt of an erasure. Its JSON follows erasure.schema.json. Keep it for as long
// as there are backups from before: whoever restores one has to erase the person again.
type Erasure struct {
	Directory  string    `json:"directory"` // see Directory.ID
	User       UserID    `json:"user"`
	InternalID string    `json:"internalId,omitempty"` // empty if it could not be read
	Aliases    []Alias   `json:"aliases,omitempty"`    // ids that led to the user: see MergePolicy
	ErasedAt   time.Time `json:"erasedAt"`

	// Removed counts what was found and removed, by kind: locators, claims, attributes, devices,
	// tokens and aliases. It also counts what stays and names nobody from now on: restingLocators and
	// idempotencyKeys. A kind of which there was nothing is left out.
	Removed map[string]int `json:"removed"`
	// Damaged is the kinds of records that could not be read, so that there may have been more than
	// Removed says. Those that were the person's alone are removed.
	Damaged []string `json:"damaged,omitempty"`

	// EventsUntil is when the last event that names the ids is dropped, by the present
	// Options.FeedMaxAge. A directory that is closed then drops it once it is open again.
	EventsUntil time.Time `json:"eventsUntil"`
	// Backups says that backups and other copies are the host's to deal with.
	Backups string `json:"backups"`
}

// Alias is an id that leads to a user since another one, who had it, was merged into that user.
type Alias struct {
	ID         UserID `json:"id"`
	InternalID string `json:"internalId,omitempty"` // of who had it; empty if it could not be read
}

// backupsOfHost is what every receipt says of backups.
const backupsOfHost = "not erased: backups and other copies are the host's"

// EraseUser removes a person in one commit: everything that [Directory.DeleteUser] removes, and
// what that leaves. Nothing is written of the person later, because each write about a user rests
// on the user's record.
//
//   - Earlier events still have the ids of the user, its tokens and its locators, until they are
//     dropped. They have nothing else of a person.
//   - A locator that rests still rests, under a digest that names nobody. Only .system gives it
//     out.
//   - If the user was created with an idempotency key within two days, a digest of that key stays
//     for that time. It names nobody, and keeps a late repeat of the call from making the person
//     anew.
//   - Sign-ins that were asked for at its addresses end by themselves within two hours. Until then
//     those are kept sealed, and as keyed digests.
//   - Claims of other users on the same address are theirs, and stay.
//
// A file or a database keeps the bytes of removed records until it uses their room again: see
// docs/leaving.md.
//
// It works on damaged records, too. Then it walks over all records of the kinds that they would
// have named, which takes seconds in a large directory. A user who does not exist, or is erased
// already, is [ErrNotFound]. Only .system may.
func (d *Directory) EraseUser(
	ctx context.Context, by Principal, id UserID, expected ...UserVersion,
) (receipt Erasure, err error) {
	defer d.trace(&ctx, "EraseUser", &by).end(&err)
	c, err := d.enter(ctx, opEraseUser, by, id)
	if err != nil {
		return Erasure{}, err
	}
	var b *belongings
	_, err = d.write(ctx, &c, func(p *plan) error {
		if b, err = p.findAllOf(id); err != nil {
			return err
		}
		if err := expect(expected, b.version); err != nil {
			return err
		}
		if err := p.dropUnlisted(b); err != nil {
			return err
		}
		p.emit(EventUserErased, &b.user)
		return p.dropAllOf(b)
	})
	if err != nil {
		return Erasure{}, err
	}
	return Erasure{
		Directory: d.id, User: id, InternalID: b.user.Incarnation, Aliases: b.aliases,
		ErasedAt: timeOf(c.now), Removed: b.found, Damaged: b.damaged, Backups: backupsOfHost,
		EventsUntil: timeOf(c.now).Add(d.options.FeedMaxAge + everyMinute),
	}, nil
}

// belongings is what is stored of a user who leaves.
type belongings struct {
	user    record.User // a copy; it has the ids alone if the record is damaged
	version store.Seq
	own     []*txn.Entry   // under ownKeys
	found   map[string]int // see Erasure.Removed
	aliases []Alias
	damaged []string
}

// ownKeys returns the keys of the records that are about one user alone.
func ownKeys(id string) []store.Key {
	return []store.Key{
		record.UserKey(id), record.ProfileKey(id), record.DevicesKey(id), record.TokensKey(id),
		record.LastUsesKey(id), record.ActiveKey(id),
	}
}

// Places in ownKeys.
const (
	ownUser = iota
	ownProfile
	ownDevices
	ownTokens
	ownLastUses
	ownActive
)

// findAllOf reads what is stored of a user, and makes it a condition of the write.
func (p *plan) findAllOf(id UserID) (*belongings, error) {
	keys := ownKeys(string(id))
	entries, err := p.readAny(keys...)
	if err != nil {
		return nil, err
	}
	b := &belongings{
		user: record.User{ID: string(id)}, version: entries[ownUser].Version(),
		own: entries, found: map[string]int{},
	}
	if !entries[ownUser].Damaged() {
		r, err := userIn(entries[ownUser])
		if err != nil {
			return nil, err
		}
		b.user = *r
	}
	for i, e := range entries {
		if e.Damaged() {
			b.noteDamage(keys[i])
		}
		switch r := e.Value().(type) {
		case *record.User:
			claims := claimed(r.Locators)
			b.count("locators", len(r.Locators)-claims)
			b.count("claims", claims)
			for _, a := range r.Aliases {
				if !over(a.Until, p.c.now) {
					b.count("aliases", 1)
				}
			}
		case *record.Profile:
			b.count("attributes", len(r.Attributes))
		case *record.Devices:
			b.count("devices", len(r.Devices))
		case *record.Tokens:
			b.count("tokens", len(r.Tokens))
		}
		if _, incarnation := record.Names(e.Value()); b.user.Incarnation == "" {
			b.user.Incarnation = incarnation
		}
	}
	return b, nil
}

func (b *belongings) count(kind string, n int) {
	if n > 0 {
		b.found[kind] += n
	}
}

// noteDamage notes that a record cannot be read.
func (b *belongings) noteDamage(key store.Key) {
	kind, _ := record.Of(key)
	if !slices.Contains(b.damaged, kind) {
		b.damaged = append(b.damaged, kind)
	}
}

// are reports whether a record is of the user. If the incarnation of the user cannot be read its id
// decides.
func (b *belongings) are(value any) bool {
	user, incarnation := record.Names(value)
	return user == b.user.ID && (b.user.Incarnation == "" || incarnation == b.user.Incarnation)
}

// dropAllOf removes everything that is stored of a user, in a write that begins with findAllOf.
// What is not under ownKeys is named in one of those records. Whatever else a user leaves is to be
// removed here.
func (p *plan) dropAllOf(b *belongings) error {
	var rests []store.Key
	for _, r := range b.user.Resting {
		rests = append(rests, restKey(r))
	}
	if err := p.unname(b, rests...); err != nil {
		return err
	}
	p.leaves = true
	gone := b.user
	p.Drop(undoKeys(gone.Changes...)...)
	gone.Locators, gone.Resting, gone.Changes = nil, nil, nil
	for i := range b.user.Locators {
		if l := &b.user.Locators[i]; l.Owned {
			if err := p.free(&gone, l); err != nil {
				return err
			}
		}
	}
	if profile, ok := b.own[ownProfile].Value().(*record.Profile); ok {
		for _, a := range profile.Attributes {
			p.Drop(record.AttributeRefKey(a.Key, gone.ID))
		}
	}
	lead, err := p.dropAliases(&gone)
	if err != nil {
		return err
	}
	for _, ref := range lead {
		b.aliases = append(b.aliases, Alias{UserID(ref.ID), ref.Was})
	}
	p.Drop(ownKeys(gone.ID)...)
	if devices, ok := b.own[ownDevices].Value().(*record.Devices); ok {
		p.putDevices(devices, &record.Devices{User: gone.ID})
	} else if b.own[ownDevices].Damaged() {
		p.Drop(record.PermanentHereKey(gone.ID)) // any other is swept
	}
	if err := p.dropProofs(gone.ID); err != nil {
		return err
	}
	return p.dropTokens(&gone)
}

// restKey returns the key of a locator that a user gave up.
func restKey(r record.Resting) store.Key {
	var digest [32]byte // nothing rests under this one
	_, _ = hex.Decode(digest[:], []byte(r.Digest))
	return record.RestKey(digest)
}

// unname drops those records under keys that are of a user. What has to stay names nobody from then
// on: that a locator rests, and that an idempotency key was used.
func (p *plan) unname(b *belongings, keys ...store.Key) error {
	if len(keys) == 0 {
		return nil
	}
	entries, err := p.readAny(keys...)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if !b.are(e.Value()) {
			continue
		}
		switch r := e.Value().(type) {
		case *record.Rest:
			p.Put(keys[i], &record.Rest{Digest: r.Digest, Until: r.Until})
			b.count("restingLocators", 1)
		case *record.Created:
			p.Put(keys[i], &record.Created{Key: r.Key, At: r.At})
			b.count("idempotencyKeys", 1)
		case *record.Owner:
			p.Drop(keys[i])
			b.count("locators", 1)
		case *record.Alias:
			p.Drop(keys[i])
			b.aliases = append(b.aliases, Alias{UserID(r.ID), r.Was})
			b.count("aliases", 1)
		default:
			p.Drop(keys[i])
		}
	}
	return nil
}

// dropUnlisted removes what dropAllOf leaves: the idempotency key of the user, and what its damaged
// records would have named.
//
// For that it walks over all records that may be meant. Those that it finds are read again, as
// conditions of the write. None can be added meanwhile, because nothing is added for a user whose
// record is damaged.
func (p *plan) dropUnlisted(b *belongings) error {
	if b.user.Creation != "" {
		key := record.CreatedKey(b.user.Created/oneDay, b.user.Creation)
		if err := p.unname(b, key); err != nil {
			return err
		}
	}
	var walked []store.Key
	if b.own[ownUser].Damaged() {
		walked = []store.Key{
			record.Owners, record.Uniques, record.Rests, record.Creations, record.Aliases,
			record.Undos, record.Proofs,
		}
	}
	if b.own[ownDevices].Damaged() {
		walked = append(walked, record.Heres)
	}
	if b.own[ownTokens].Damaged() {
		walked = append(walked, record.TokenTexts)
	}
	if proofs := record.UserProofsKey(b.user.ID); !b.own[ownUser].Damaged() {
		entries, err := p.readAny(proofs)
		if err != nil {
			return err
		}
		if entries[0].Damaged() {
			b.noteDamage(proofs)
			walked = append(walked, record.Proofs)
		}
	}
	for _, under := range walked {
		if err := p.unnameUnder(b, under); err != nil {
			return err
		}
	}
	if !b.own[ownProfile].Damaged() {
		return nil
	}
	// Every attribute has a definition, and there are few of those.
	for r, err := range p.d.walk(p.ctx, record.Definitions) {
		if err != nil {
			return err
		}
		_, attribute := record.Parts(r.Key)
		p.Drop(record.AttributeRefKey(attribute, b.user.ID))
	}
	return nil
}

func (p *plan) unnameUnder(b *belongings, prefix store.Key) error {
	var found []store.Key
	for r, err := range p.d.walk(p.ctx, prefix) {
		if err != nil {
			return err
		}
		value, err := record.DecodeStored(r)
		if err != nil {
			b.noteDamage(r.Key)
		} else if b.are(value) {
			found = append(found, r.Key)
		}
	}
	return p.unname(b, found...)
}
