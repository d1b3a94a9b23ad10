package denizen

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// Audience is who sees an attribute, or who writes it. The zero value stands for [ToSelf].
type Audience string

// The audiences. .system is in all of them.
const (
	ToSelf   Audience = "self"   // the user
	ToPeers  Audience = "peers"  // the user, and peers as Options.MaySee allows; not for writing
	ToSystem Audience = "system" // .system alone
)

// AttributeDef is the definition of an attribute: what its values may be, who sees it and who
// writes it.
type AttributeDef struct {
	Key              string   // 1 to 128 characters, none of them a control or a comma
	ContentTypes     []string // the allowed ones, 32 at most; none: any
	ContentEncodings []string // the allowed ones, 32 at most; none: any
	NotEmpty         bool     // the value must not be empty
	MaxBytes         int      // of the value; 0 stands for MaxAttributeBytes, the most there may be
	VisibleTo        Audience
	WritableBy       Audience // ToSelf or ToSystem
}

// Attribute is one thing known of a user.
type Attribute struct {
	Key             string
	ContentType     string // empty: text/plain
	ContentEncoding string // empty: identity
	Value           string // valid UTF-8 without U+0000, returned byte for byte
}

// Profile is the attributes of a user that the caller may see, in byte order of their keys.
type Profile struct {
	User       UserID
	Attributes []Attribute
	Version    ProfileVersion
}

// ProfileVersion is the state of a profile, as [UserVersion] is that of a user. An empty profile is
// at version 0.
type ProfileVersion uint64

// PatchMode says what happens to the attributes that are not given.
type PatchMode uint8

const (
	// Merge keeps them.
	Merge PatchMode = iota
	// Replace removes those that the caller may write.
	Replace
)

// DefineAttribute defines an attribute, and returns the definition with the defaults filled in. A
// key that is defined already is [ErrTaken] with Field "key". A damaged definition is replaced. A
// definition never changes: to change one, drop it first. Only .system may.
func (d *Directory) DefineAttribute(
	ctx context.Context, by Principal, def AttributeDef,
) (defined AttributeDef, err error) {
	defer d.trace(&ctx, "DefineAttribute", &by).end(&err)
	c, err := d.enter(ctx, opDefine, by, noTarget)
	if err != nil {
		return AttributeDef{}, err
	}
	r, err := definition(def)
	if err != nil {
		return AttributeDef{}, err
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		key := record.DefinitionKey(def.Key)
		err := p.requireAbsent(key, newError(ErrTaken, "key", "is defined already"))
		if err != nil && !p.damaged(key) {
			return err
		}
		p.Put(key, &r)
		p.emit(EventAttributeDefined, nil, def.Key)
		return nil
	})
	if err != nil {
		return AttributeDef{}, err
	}
	return definitionOf(&r), nil
}

// definition checks def, and returns it as it is stored, with the defaults filled in.
func definition(def AttributeDef) (record.Definition, error) {
	if reason := checkAttributeKey(def.Key); reason != "" {
		return record.Definition{}, invalid("key", reason)
	}
	for _, l := range []struct {
		field string
		list  []string
	}{
		{"allowedContentTypes", def.ContentTypes},
		{"allowedContentEncodings", def.ContentEncodings},
	} {
		if len(l.list) > 32 {
			return record.Definition{}, invalid(l.field, "must be 32 at most")
		}
		for i, s := range l.list {
			if !printableASCII(s, 128) || slices.Contains(l.list[:i], s) {
				const rule = "must each be 1 to 128 visible ASCII characters, and differ"
				return record.Definition{}, invalid(l.field, rule)
			}
		}
	}
	if def.MaxBytes < 0 || def.MaxBytes > MaxAttributeBytes {
		return record.Definition{}, invalid("maxBytes", "must be 65536 at most")
	}
	def.VisibleTo = cmp.Or(def.VisibleTo, ToSelf)
	if def.VisibleTo != ToSelf && def.VisibleTo != ToPeers && def.VisibleTo != ToSystem {
		return record.Definition{}, invalid("visibleTo", "must be self, peers or system")
	}
	def.WritableBy = cmp.Or(def.WritableBy, ToSelf)
	if def.WritableBy != ToSelf && def.WritableBy != ToSystem {
		return record.Definition{}, invalid("writableBy", "must be self or system")
	}
	return record.Definition{
		Key:              def.Key,
		ContentTypes:     slices.Clone(def.ContentTypes),
		ContentEncodings: slices.Clone(def.ContentEncodings),
		NotEmpty:         def.NotEmpty,
		MaxBytes:         int64(cmp.Or(def.MaxBytes, MaxAttributeBytes)),
		VisibleTo:        string(def.VisibleTo),
		WritableBy:       string(def.WritableBy),
	}, nil
}

func definitionOf(r *record.Definition) AttributeDef {
	return AttributeDef{
		Key:              r.Key,
		ContentTypes:     slices.Clone(r.ContentTypes),
		ContentEncodings: slices.Clone(r.ContentEncodings),
		NotEmpty:         r.NotEmpty,
		MaxBytes:         int(r.MaxBytes),
		VisibleTo:        Audience(r.VisibleTo),
		WritableBy:       Audience(r.WritableBy),
	}
}

// checkAttributeKey returns the rule that s breaks, or "".
func checkAttributeKey(s string) string {
	if n := utf8.RuneCountInString(s); n < 1 || n > 128 || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == ',' }) {
		return "must be 1 to 128 characters, none of them a control or a comma"
	}
	return ""
}

// printableASCII reports whether s is 1 to most visible ASCII characters or spaces between them.
func printableASCII(s string, most int) bool {
	return s != "" && len(s) <= most && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// AttributeDef returns the definition of an attribute, or [ErrNotFound] with Field "attributeDef".
// Any user may.
func (d *Directory) AttributeDef(
	ctx context.Context, by Principal, key string,
) (def AttributeDef, err error) {
	defer d.trace(&ctx, "AttributeDef", &by).end(&err)
	c, err := d.enter(ctx, opReadDefinitions, by, noTarget)
	if err != nil {
		return AttributeDef{}, err
	}
	if reason := checkAttributeKey(key); reason != "" {
		return AttributeDef{}, invalid("key", reason)
	}
	entries, err := d.read(ctx, &c, record.DefinitionKey(key))
	if err != nil {
		return AttributeDef{}, err
	}
	r, ok := entries[0].Value().(*record.Definition)
	if !ok {
		return AttributeDef{}, newError(ErrNotFound, "attributeDef", "")
	}
	return definitionOf(r), nil
}

// AttributeDefs returns all definitions in byte order of their keys. If some are damaged it returns
// the others beside [ErrCorrupt], whose Missing holds the keys of the damaged ones. Any user may.
func (d *Directory) AttributeDefs(
	ctx context.Context, by Principal,
) (defs []AttributeDef, err error) {
	defer d.trace(&ctx, "AttributeDefs", &by).end(&err)
	c, err := d.enter(ctx, opReadDefinitions, by, noTarget)
	if err != nil {
		return nil, err
	}
	defs = []AttributeDef{}
	var damaged []string
	for r := (store.Range{Under: record.Definitions, Limit: MaxPage}); ; {
		records, err := d.store.List(ctx, r)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			value, err := record.DecodeStored(r)
			if err != nil {
				_, key := record.Parts(r.Key)
				damaged = append(damaged, key)
				continue
			}
			defs = append(defs, definitionOf(value.(*record.Definition)))
		}
		if len(records) < r.Limit {
			break
		}
		r.After = records[len(records)-1].Key
	}
	// The caller is checked after the data, as in Directory.read.
	if _, err := d.read(ctx, &c); err != nil {
		return nil, err
	}
	if len(damaged) > 0 {
		return defs, newErrorAbout(ErrCorrupt, "attributeDef", "some are damaged", damaged...)
	}
	return defs, nil
}

// DropAttributeDef drops a definition. One that a user's attribute needs is [ErrConflict] with
// Field "key", and one that does not exist [ErrNotFound] with Field "attributeDef". Only .system
// may.
func (d *Directory) DropAttributeDef(ctx context.Context, by Principal, key string) (err error) {
	defer d.trace(&ctx, "DropAttributeDef", &by).end(&err)
	c, err := d.enter(ctx, opDefine, by, noTarget)
	if err != nil {
		return err
	}
	if reason := checkAttributeKey(key); reason != "" {
		return invalid("key", reason)
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		entries, err := p.readAny(record.DefinitionKey(key))
		if err != nil {
			return err
		}
		if entries[0].Value() == nil && !entries[0].Damaged() {
			return newError(ErrNotFound, "attributeDef", "")
		}
		if p.Retrying() {
			used, err := p.dropStaleRefs(key)
			if err != nil {
				return err
			}
			if used {
				return newError(ErrConflict, "key", "is in use")
			}
		}
		p.AbsentUnder(record.AttributeRefsOf(key))
		p.Drop(record.DefinitionKey(key))
		p.emit(EventAttributeDropped, nil, key)
		return nil
	})
	return err
}

// dropStaleRefs reports whether a user's profile holds an attribute. It drops the references before
// the first such profile, a page of them at most. They are left over from users who were deleted
// while their profile was damaged, when nobody could read which attributes they had.
func (p *plan) dropStaleRefs(attribute string) (used bool, err error) {
	under := record.AttributeRefsOf(attribute)
	refs, err := p.d.store.List(p.ctx, store.Range{Under: under, Limit: MaxList, KeysOnly: true})
	if err != nil {
		return false, err
	}
	err = p.d.writeBackground(p.ctx, func(tx *txn.Tx) error {
		nothing := true
		for _, ref := range refs {
			profile := []store.Key{record.ProfileKey(string(ref.Key[len(under):]))}
			entries, err := tx.Read(profile...)
			if err != nil {
				return err
			}
			_ = p.d.checkDamage(profile, entries) // a damaged one may hold it
			r, ok := entries[0].Value().(*record.Profile)
			if ok {
				_, ok = slices.BinarySearchFunc(r.Attributes, attribute, byKey)
			}
			if used = ok || entries[0].Damaged(); used {
				break
			}
			tx.Drop(ref.Key)
			nothing = false
		}
		if nothing {
			return errUnchanged
		}
		return nil
	})
	if errors.Is(err, store.ErrConflict) {
		err = nil // the next call drops what is left
	}
	return used, err
}

// SetAttribute sets one attribute of a user, and returns what the caller may see of the profile.
// The attribute needs a definition: [ErrInvalid] with Field "key" otherwise. One that the user may
// not write is [ErrDenied] with Field "key". A profile is bounded by [MaxProfileBytes]. A profile
// that is not at an expected version is [ErrConflict].
func (d *Directory) SetAttribute(
	ctx context.Context, by Principal, user UserID, a Attribute, expected ...ProfileVersion,
) (p Profile, err error) {
	defer d.trace(&ctx, "SetAttribute", &by).end(&err)
	c, err := d.enter(ctx, opWriteProfile, by, user)
	if err != nil {
		return Profile{}, err
	}
	return d.patch(ctx, &c, []Attribute{a}, Merge, expected)
}

// SetAttributes sets several attributes of a user in one commit, at most [MaxList], and returns
// what the caller may see of the profile.
//
// If some have no definition ([ErrInvalid]) or the caller may not write them ([ErrDenied]), nothing
// changes and Error.Missing holds their keys. The other errors are those of
// [Directory.SetAttribute]. A damaged profile is [ErrCorrupt]; .system replaces it by [Replace].
func (d *Directory) SetAttributes(
	ctx context.Context, by Principal, user UserID, attributes []Attribute, mode PatchMode,
	expected ...ProfileVersion,
) (p Profile, err error) {
	defer d.trace(&ctx, "SetAttributes", &by).end(&err)
	c, err := d.enter(ctx, opWriteProfile, by, user)
	if err != nil {
		return Profile{}, err
	}
	if mode > Replace {
		return Profile{}, invalid("patchType", "must be merge or replace")
	}
	return d.patch(ctx, &c, attributes, mode, expected)
}

// RemoveAttribute removes an attribute of a user. One that the user lacks or may not see is
// [ErrNotFound] with Field "attribute", and one that it may not write [ErrDenied] with Field "key".
func (d *Directory) RemoveAttribute(
	ctx context.Context, by Principal, user UserID, key string, expected ...ProfileVersion,
) (err error) {
	defer d.trace(&ctx, "RemoveAttribute", &by).end(&err)
	c, err := d.enter(ctx, opWriteProfile, by, user)
	if err != nil {
		return err
	}
	if reason := checkAttributeKey(key); reason != "" {
		return invalid("key", reason)
	}
	_, err = d.editProfile(ctx, &c, expected, func(p *plan, r *record.Profile) ([]string, error) {
		if p.damaged(record.ProfileKey(r.User)) {
			return nil, record.ErrCorrupt
		}
		defs, err := p.definitions([]string{key})
		if err != nil {
			return nil, err
		}
		if defs[0] != nil && !c.mayWrite(defs[0]) {
			return nil, newError(ErrDenied, "key", "")
		}
		i, found := slices.BinarySearchFunc(r.Attributes, key, byKey)
		if !found || (defs[0] != nil && !c.maySee(defs[0])) {
			return nil, newError(ErrNotFound, "attribute", "")
		}
		r.Attributes = slices.Delete(r.Attributes, i, i+1)
		p.Drop(record.AttributeRefKey(key, r.User))
		return []string{key}, nil
	})
	return err
}

// patch sets attributes of the target.
func (d *Directory) patch(
	ctx context.Context, c *call, attributes []Attribute, mode PatchMode, expected []ProfileVersion,
) (Profile, error) {
	return d.editProfile(ctx, c, expected, func(p *plan, r *record.Profile) ([]string, error) {
		keys, err := p.setAttributes(r, attributes, mode)
		if p.damaged(record.ProfileKey(r.User)) {
			if c.role != system || mode != Replace {
				return nil, record.ErrCorrupt
			}
			err = unchanged(err) // it is replaced even if no attribute is given
		}
		return keys, err
	})
}

// editProfile rewrites a user's profile. edit is given a copy to change, and returns the keys that
// it changed. editProfile returns what the caller may see of the profile afterwards.
func (d *Directory) editProfile(
	ctx context.Context, c *call, expected []ProfileVersion,
	edit func(*plan, *record.Profile) ([]string, error),
) (Profile, error) {
	var edited record.Profile
	var shown Profile
	var was store.Seq
	seq, err := d.write(ctx, c, func(p *plan) error {
		user, _, err := p.user(c.target)
		if err != nil {
			return err
		}
		entries, err := p.readAny(record.ProfileKey(string(c.target)))
		if err != nil {
			return err
		}
		edited = record.Profile{User: user.ID, Incarnation: user.Incarnation}
		was = entries[0].Version()
		if r, ok := entries[0].Value().(*record.Profile); ok {
			edited.Attributes = slices.Clone(r.Attributes)
		}
		if err := expect(expected, was); err != nil {
			return err
		}
		keys, err := edit(p, &edited)
		if err != nil && err != errUnchanged {
			return err
		}
		// The result is read before the commit, because after it nothing may fail.
		visible, failed := d.profileOf(p.ctx, c, &edited, math.MaxUint64)
		if shown = visible; failed != nil || err != nil {
			return firstOf(failed, err)
		}
		if len(edited.Attributes) == 0 {
			p.Drop(record.ProfileKey(user.ID))
		} else {
			p.Put(record.ProfileKey(user.ID), &edited)
		}
		p.emit(EventProfileChanged, user, keys...)
		return nil
	})
	if err == errUnchanged {
		seq, err = was, nil
	}
	if err != nil {
		return Profile{}, err
	}
	if len(edited.Attributes) == 0 {
		seq = 0
	}
	shown.Version = ProfileVersion(seq)
	return shown, nil
}

// setAttributes sets attributes in a profile and returns the keys that changed.
func (p *plan) setAttributes(
	r *record.Profile, attributes []Attribute, mode PatchMode,
) ([]string, error) {
	if len(attributes) > MaxList {
		return nil, tooManyAttributes()
	}
	keys := make([]string, len(attributes))
	for i, a := range attributes {
		if reason := checkAttributeKey(a.Key); reason != "" {
			return nil, invalid("key", reason)
		}
		if slices.Contains(keys[:i], a.Key) {
			return nil, invalid("attributes", "hold the same key twice")
		}
		keys[i] = a.Key
	}
	defs, err := p.definitions(keys)
	if err != nil {
		return nil, err
	}
	changed := []string{}
	for i, a := range attributes {
		if defs[i] == nil {
			undefined := func(def *record.Definition) bool { return def == nil }
			which := keysWhere(keys, defs, undefined)
			return nil, newErrorAbout(ErrInvalid, "key", "has no definition", which...)
		}
		if !p.c.mayWrite(defs[i]) {
			closed := func(def *record.Definition) bool { return def != nil && !p.c.mayWrite(def) }
			return nil, newErrorAbout(ErrDenied, "key", "", keysWhere(keys, defs, closed)...)
		}
		stored, err := attribute(a, defs[i])
		if err != nil {
			return nil, err
		}
		j, found := slices.BinarySearchFunc(r.Attributes, a.Key, byKey)
		switch {
		case !found:
			r.Attributes = slices.Insert(r.Attributes, j, stored)
			ref := record.AttributeRef{Attribute: a.Key, User: r.User}
			p.Put(record.AttributeRefKey(a.Key, r.User), &ref)
		case r.Attributes[j] == stored:
			continue
		default:
			r.Attributes[j] = stored
		}
		changed = append(changed, a.Key)
	}
	if mode == Replace {
		var others []string
		for _, a := range r.Attributes {
			if !slices.Contains(keys, a.Key) {
				others = append(others, a.Key)
			}
		}
		defs, err := p.definitions(others)
		if err != nil {
			return nil, err
		}
		for i, key := range others {
			if defs[i] != nil && !p.c.mayWrite(defs[i]) {
				continue
			}
			j, _ := slices.BinarySearchFunc(r.Attributes, key, byKey)
			r.Attributes = slices.Delete(r.Attributes, j, j+1)
			p.Drop(record.AttributeRefKey(key, r.User))
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 {
		return nil, errUnchanged
	}
	return changed, checkSize(r)
}

// checkSize refuses a profile that is too large.
func checkSize(r *record.Profile) error {
	size := 0
	for _, a := range r.Attributes {
		size += len(a.Key) + len(a.ContentType) + len(a.ContentEncoding) + len(a.Value)
	}
	if size > MaxProfileBytes {
		return newError(ErrLimited, "attributes", "of a user must be 262144 bytes at most")
	}
	return nil
}

func tooManyAttributes() error { return invalid("attributes", "must be 100 at most") }

// keysWhere returns the keys whose definitions are such. Definitions are no secret to a user.
func keysWhere(
	keys []string, defs []*record.Definition, such func(*record.Definition) bool,
) (found []string) {
	for i, key := range keys {
		if such(defs[i]) {
			found = append(found, key)
		}
	}
	return found
}

func byKey(a record.Attribute, key string) int { return cmp.Compare(a.Key, key) }

// definitions returns the definitions of attributes, nil where there is none, and makes them
// conditions of the write.
func (p *plan) definitions(keys []string) ([]*record.Definition, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	entries, err := p.read(definitionKeys(keys)...)
	if err != nil {
		return nil, err
	}
	defs := definitionsIn(entries)
	p.foreseen.define(keys, defs)
	return defs, nil
}

func definitionKeys(keys []string) []store.Key {
	stored := make([]store.Key, len(keys))
	for i, key := range keys {
		stored[i] = record.DefinitionKey(key)
	}
	return stored
}

func definitionsIn(entries []*txn.Entry) []*record.Definition {
	defs := make([]*record.Definition, len(entries))
	for i, m := range entries {
		defs[i], _ = m.Value().(*record.Definition)
	}
	return defs
}

func attribute(a Attribute, def *record.Definition) (record.Attribute, error) {
	r := record.Attribute{
		Key: a.Key, ContentType: cmp.Or(a.ContentType, "text/plain"),
		ContentEncoding: cmp.Or(a.ContentEncoding, "identity"), Value: a.Value,
	}
	switch {
	case !printableASCII(r.ContentType, 128):
		return r, invalid("contentType", "must be 1 to 128 visible ASCII characters")
	case !printableASCII(r.ContentEncoding, 128):
		return r, invalid("contentEncoding", "must be 1 to 128 visible ASCII characters")
	case len(def.ContentTypes) > 0 && !slices.Contains(def.ContentTypes, r.ContentType):
		return r, invalid("contentType", "is not allowed by the definition")
	case len(def.ContentEncodings) > 0 && !slices.Contains(def.ContentEncodings, r.ContentEncoding):
		return r, invalid("contentEncoding", "is not allowed by the definition")
	case r.Value == "" && def.NotEmpty:
		return r, invalid("value", "must not be empty")
	case int64(len(r.Value)) > def.MaxBytes:
		return r, invalid("value", "is longer than the definition allows")
	case !utf8.ValidString(r.Value) || strings.ContainsRune(r.Value, 0):
		return r, invalid("value", "must be valid UTF-8 without U+0000")
	}
	return r, nil
}

func (c *call) mayWrite(def *record.Definition) bool {
	return c.role == system || (c.role == self && def.WritableBy == string(ToSelf))
}

func (c *call) maySee(def *record.Definition) bool {
	switch c.role {
	case system:
		return true
	case self:
		return def.VisibleTo != string(ToSystem)
	case other:
		return def.VisibleTo == string(ToPeers)
	}
	return false
}

// Profile returns the attributes of a user that the caller may see. Peers may as far as
// Options.MaySee lets them; to them a blocked user is [ErrNotFound].
func (d *Directory) Profile(ctx context.Context, by Principal, user UserID) (p Profile, err error) {
	defer d.trace(&ctx, "Profile", &by).end(&err)
	c, err := d.enter(ctx, opReadProfile, by, user)
	if err != nil {
		return Profile{}, err
	}
	return d.profile(ctx, &c)
}

// Attributes returns several attributes of a user, at most [MaxList], in the order of keys. If the
// user lacks some or the caller may not see them, it is [ErrNotFound] and Error.Missing holds their
// keys, without telling the two cases apart.
func (d *Directory) Attributes(
	ctx context.Context, by Principal, user UserID, keys []string,
) (attributes []Attribute, err error) {
	defer d.trace(&ctx, "Attributes", &by).end(&err)
	c, err := d.enter(ctx, opReadProfile, by, user)
	if err != nil {
		return nil, err
	}
	if len(keys) > MaxList {
		return nil, invalid("attributes", "must be 100 at most")
	}
	for _, key := range keys {
		if reason := checkAttributeKey(key); reason != "" {
			return nil, invalid("key", reason)
		}
	}
	p, err := d.profile(ctx, &c)
	if err != nil {
		return nil, err
	}
	attributes = make([]Attribute, len(keys))
	var missing []string
	for i, key := range keys {
		j, found := slices.BinarySearchFunc(p.Attributes, key, func(a Attribute, key string) int {
			return cmp.Compare(a.Key, key)
		})
		if !found {
			missing = append(missing, key)
			continue
		}
		attributes[i] = p.Attributes[j]
	}
	if len(missing) > 0 { // absent, or not for the caller
		return nil, newErrorAbout(ErrNotFound, "attribute", "", missing...)
	}
	return attributes, nil
}

func (d *Directory) profile(ctx context.Context, c *call) (Profile, error) {
	id := string(c.target)
	entries, err := d.read(ctx, c, record.UserKey(id), record.ProfileKey(id))
	if err != nil {
		return Profile{}, err
	}
	user, err := c.userIn(entries[0])
	if err != nil {
		return Profile{}, err
	}
	r, ok := entries[1].Value().(*record.Profile)
	// The user may come from the cache and the profile from the store, which is by then that of
	// another user of the same id.
	if !ok || r.Incarnation != user.Incarnation {
		return Profile{User: c.target, Attributes: []Attribute{}}, nil
	}
	return d.profileOf(ctx, c, r, entries[1].Version())
}

// profileOf returns what the caller may see of a profile.
func (d *Directory) profileOf(
	ctx context.Context, c *call, r *record.Profile, version store.Seq,
) (Profile, error) {
	p := Profile{
		User: UserID(r.User), Version: ProfileVersion(version),
		Attributes: make([]Attribute, 0, len(r.Attributes)),
	}
	if c.role == system {
		for _, a := range r.Attributes {
			p.Attributes = append(p.Attributes, Attribute(a))
		}
		return p, nil
	}
	keys := make([]string, len(r.Attributes))
	for i, a := range r.Attributes {
		keys[i] = a.Key
	}
	defs, err := d.load(ctx, definitionKeys(keys)...)
	if err != nil {
		return Profile{}, err
	}
	for i, a := range r.Attributes {
		// A definition never changes, and is older than the attributes that need it. A newer one
		// is another definition of the same key, made after the profile was read.
		def, ok := defs[i].Value().(*record.Definition)
		if ok && defs[i].Version() < version && c.maySee(def) {
			p.Attributes = append(p.Attributes, Attribute(a))
		}
	}
	return p, nil
}
