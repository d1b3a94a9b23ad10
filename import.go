package denizen

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// Here is what package transfer needs of a directory and importers must not see.

var _ = openDoor()

func openDoor() bool {
	door.Of = func(directory any) door.Directory { return behindDoor{directory.(*Directory)} }
	return true
}

// behindDoor is a directory as package transfer sees it.
type behindDoor struct{ d *Directory }

func (b behindDoor) Serial() bool { return b.d.parent != nil }

func (b behindDoor) Closing() <-chan struct{} { return b.d.background.ctx.Done() }

func (b behindDoor) Importer(
	ctx context.Context, by any, o door.ImportOptions,
) (_ door.Importer, err error) {
	defer b.trace(&ctx, "Import", by).end(&err)
	im := &importer{d: b.d, by: by.(Principal), o: o, defs: map[store.Key]*txn.Entry{}}
	if o.DryRun {
		im.seed, im.rows = maphash.MakeSeed(), map[uint64]uint32{}
		im.planned = map[string]*record.Definition{}
	}
	c, err := im.d.enter(ctx, opCreateUser, im.by, noTarget)
	if err != nil {
		return nil, err
	}
	_, err = im.d.read(ctx, &c)
	return im, err
}

func (b behindDoor) List(
	ctx context.Context, by any, after string, limit int,
) (ids []string, err error) {
	defer b.trace(&ctx, "Export", by).end(&err)
	if _, err := b.d.enter(ctx, opListUsers, by.(Principal), noTarget); err != nil {
		return nil, err
	}
	if err := b.d.usable(); err != nil {
		return nil, err
	}
	r := store.Range{Under: record.Users, Limit: limit, KeysOnly: true}
	if after != "" {
		r.After = record.UserKey(after)
	}
	listed, err := b.d.store.List(ctx, r)
	if err != nil {
		return nil, err
	}
	ids = make([]string, len(listed))
	for i := range listed {
		_, ids[i] = record.Parts(listed[i].Key)
	}
	return ids, nil
}

func (b behindDoor) People(
	ctx context.Context, by any, ids []string,
) (people []door.Person, err error) {
	defer b.trace(&ctx, "Export", by).end(&err)
	c, err := b.d.enter(ctx, opListUsers, by.(Principal), noTarget)
	if err != nil {
		return nil, err
	}
	if err := b.d.usable(); err != nil {
		return nil, err
	}
	if people, err = b.d.readPeople(ctx, ids); err != nil {
		return nil, err
	}
	// The caller is checked after the data was read, as everywhere.
	_, err = b.d.read(ctx, &c)
	return people, err
}

// readPeople returns users with their profiles, from one snapshot.
func (d *Directory) readPeople(ctx context.Context, ids []string) ([]door.Person, error) {
	keys := make([]store.Key, 0, 2*len(ids))
	for _, id := range ids {
		keys = append(keys, record.UserKey(id), record.ProfileKey(id))
	}
	records, err := d.store.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	people := make([]door.Person, 0, len(ids))
	for i := 0; i < len(records); i += 2 {
		if records[i].Version == 0 && !records[i].Damaged {
			continue // deleted since it was listed
		}
		person := door.Person{ID: ids[i/2]}
		user, err := record.DecodeStored(records[i])
		person.Damaged = err != nil
		if r, ok := user.(*record.User); ok {
			person.User = r
		}
		if p := records[i+1]; p.Version != 0 || p.Damaged {
			value, err := record.DecodeStored(p)
			if err != nil {
				person.Damaged = true
			} else if profile := value.(*record.Profile); person.User != nil &&
				profile.Incarnation == person.User.Incarnation {
				person.Profile = profile.Attributes
			}
		}
		if person.Damaged {
			person.User, person.Profile = nil, nil
		}
		people = append(people, person)
	}
	return people, nil
}

// importer creates the users of an import.
type importer struct {
	d  *Directory
	by Principal
	o  door.ImportOptions

	mu   sync.RWMutex             // guards defs
	defs map[store.Key]*txn.Entry // definitions as they were last read

	// These are of a dry run. They need no lock, because one goroutine creates its rows.
	planned map[string]*record.Definition // definitions that would be made
	seed    maphash.Seed
	rows    map[uint64]uint32 // which row would have a key, by the key's hash
}

// importRow is a row that has passed the checks that need no store.
type importRow struct {
	creation
	created int64     // when the user was made, if the row says so
	name    store.Key // of the locator that identifies the user if the row has no id
	doubted int
	keys    []store.Key
	found   map[store.Key]*txn.Entry // what Look read
}

// earlierRow is what is in the way of a row in a dry run: the number of an earlier row that would
// have been created.
type earlierRow int

func (im *importer) Define(ctx context.Context, def record.Definition) (err error) {
	defer im.d.trace(&ctx, "Import", &im.by).end(&err)
	r, err := definition(definitionOf(&def))
	if err != nil {
		return err
	}
	if _, err := im.d.AttributeDef(ctx, im.by, def.Key); !errors.Is(err, ErrNotFound) {
		return err
	}
	if im.o.DryRun {
		im.planned[def.Key] = &r
		return nil
	}
	_, err = im.d.DefineAttribute(ctx, im.by, definitionOf(&r))
	if errors.Is(err, ErrTaken) { // another caller was faster
		err = nil
	}
	return err
}

// importAhead is how far in the future a time in a row may be, because clocks and time zones
// differ.
const importAhead = oneDay

// badTime returns the rule that a time in a row breaks, or "".
func badTime(t, now int64) string {
	if t < 0 || t > now+importAhead {
		return "must be from 1970 to the present"
	}
	return ""
}

// externalType is the type of locators that name users in other systems.
const externalType = "external"

func (im *importer) Prepare(row door.Row) (_ door.Prepared, err error) {
	defer wrapOp("Import", &err)
	now := im.d.clock.Now()
	for _, t := range []struct {
		field string
		at    int64
	}{{"createdAt", row.Created}, {"updatedAt", row.Updated}} {
		if reason := badTime(t.at, now); reason != "" {
			return nil, invalid(t.field, reason)
		}
	}
	if row.Updated != 0 && row.Updated < row.Created {
		return nil, invalid("updatedAt", "must not be before createdAt")
	}
	if row.Blocked {
		if _, err := (Block{Reason: row.Reason, Until: timeOf(row.Until)}).check(); err != nil {
			return nil, err
		}
	}
	r := &importRow{created: row.Created}
	named := -1
	n := NewUser{
		ID: UserID(row.ID), ScreenName: row.ScreenName,
		Locators: make([]NewLocator, len(row.Locators)),
	}
	for i := range row.Locators {
		l := &row.Locators[i]
		if reason := firstReason(badTime(l.Added, now), badTime(l.Verified, now)); reason != "" {
			return nil, newErrorAbout(ErrInvalid, "locator", "times "+reason, l.Locator)
		}
		if l.Verified != 0 && l.Status == "" {
			l.Status = string(Verified)
		}
		if !im.o.Trust {
			// An identity that a rule vouches for would be verified by being added.
			kind, _, _ := strings.Cut(l.Locator, ":")
			rule := im.d.rules.of(kind)
			vouched := l.Status == "" && rule != nil && rule.Vouched && !l.Claim
			if l.Verified = 0; vouched || l.Status == string(Verified) {
				l.Status = string(Unverified)
				r.doubted++
			}
		}
		n.Locators[i] = NewLocator{
			Locator: l.Locator, Status: VerificationStatus(l.Status), Claim: l.Claim,
		}
		if named < 0 && strings.HasPrefix(l.Locator, externalType+":") {
			named = i
		}
	}
	if row.ID == "" && named < 0 {
		return nil, invalid("id", "a row needs an id or a locator of type external")
	}
	n.Attributes = make([]Attribute, len(row.Attributes))
	for i, a := range row.Attributes {
		n.Attributes[i] = Attribute(a)
	}
	if twice := twiceIn(n.Attributes); twice != "" {
		return nil, newErrorAbout(ErrInvalid, "attributes", "hold the same key twice", twice)
	}
	c, err := im.d.newCreation(n, now, true)
	if err != nil {
		return nil, im.d.aboutLocator(err, n.Locators, now)
	}
	r.creation = *c
	if row.ID == "" {
		r.name = ownerKey(r.user.Locators[named])
	}
	if row.Blocked {
		// A block that has ended by now is stored, and is none.
		r.user.Blocked, r.user.BlockedUntil, r.user.BlockReason = true, row.Until, row.Reason
	}
	if row.Created != 0 {
		r.user.Created, r.user.Updated = row.Created, row.Created
	}
	if row.Updated != 0 {
		r.user.Updated = row.Updated
	}
	for i := range r.user.Locators {
		l, given := &r.user.Locators[i], &row.Locators[i]
		l.Added = r.user.Created
		if given.Added != 0 {
			l.Added = given.Added
		}
		if given.Verified != 0 {
			l.Verified = given.Verified
		}
	}
	r.keys = r.keysOf()
	return r, nil
}

// twiceIn returns a key that occurs twice, or "".
func twiceIn(attributes []Attribute) string {
	if len(attributes) <= MaxList {
		return "" // setAttributes, which gets them in one list, refuses it
	}
	seen := make(map[string]bool, len(attributes))
	for _, a := range attributes {
		if seen[a.Key] {
			return a.Key
		}
		seen[a.Key] = true
	}
	return ""
}

func firstReason(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// aboutLocator adds to an error which locator of a row was refused, if one was.
func (d *Directory) aboutLocator(err error, locators []NewLocator, now int64) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != ErrInvalid {
		return err
	}
	for _, l := range locators {
		g, refused := d.form(l)
		if refused == nil {
			_, refused = g.new(now)
		}
		if refused != nil {
			about := *e
			about.Missing = []string{l.Locator}
			return &about
		}
	}
	return err
}

func (r *importRow) Doubted() int { return r.doubted }

func (r *importRow) Keys() []store.Key { return r.keys }

// keysOf returns the keys that only one user can have: of the id, and of what the row would own.
func (r *importRow) keysOf() []store.Key {
	keys := make([]store.Key, 0, 2+len(r.user.Locators))
	keys = append(keys, record.UserKey(r.user.ID), record.AliasKey(r.user.ID))
	for i, l := range r.user.Locators {
		if r.claims == nil || !r.claims[i] {
			keys = append(keys, ownerKey(l))
			if l.Unique != "" {
				keys = append(keys, record.UniqueKey(uniqueForm(&l)))
			}
		}
	}
	return keys
}

func (im *importer) Look(ctx context.Context, rows []door.Prepared) (err error) {
	defer im.d.trace(&ctx, "Import", &im.by).end(&err)
	if err := firstOf(im.d.usable(), ctx.Err()); err != nil {
		return err
	}
	var keys []store.Key
	var of []*importRow
	for _, p := range rows {
		r := p.(*importRow)
		wanted := r.keys[:1]
		switch {
		case im.o.DryRun:
			wanted = r.keys
		case r.name != "":
			wanted = []store.Key{r.name}
		}
		for _, key := range wanted {
			keys, of = append(keys, key), append(of, r)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	entries, err := im.d.records.Read(ctx, keys...)
	if err != nil {
		return err
	}
	for i, e := range entries {
		// The commit finds out what is not there. A dry run has no commit.
		if e.Value() == nil && !e.Damaged() && !im.o.DryRun {
			continue
		}
		if of[i].found == nil {
			of[i].found = map[store.Key]*txn.Entry{}
		}
		of[i].found[keys[i]] = e
	}
	return nil
}

// errDryRun ends a write that a dry run would make.
var errDryRun = errors.New("a dry run")

func (im *importer) Create(
	ctx context.Context, prepared door.Prepared, number int,
) (out door.Outcome, err error) {
	defer im.d.trace(&ctx, "Import", &im.by).end(&err)
	row := prepared.(*importRow)
	c, err := im.d.enter(ctx, opCreateUser, im.by, noTarget)
	if err != nil {
		return door.Outcome{}, err
	}
	c.target = UserID(row.user.ID)
	_, err = im.d.write(ctx, &c, func(p *plan) error {
		out = door.Outcome{ID: row.user.ID}
		p.foreseen = &foreseen{importer: im, row: row, retrying: p.Retrying()}
		p.Forget()
		if row.name != "" {
			there, err := p.inTheWay(row.name)
			if err != nil {
				return err
			}
			if there != nil {
				out.There = true
				_, out.ID = holder(there)
				return errUnchanged
			}
		}
		creation := row.creation
		creation.user.Locators = slices.Clone(row.user.Locators)
		met, err := p.create(&creation, im.o.TakeFree)
		if err != nil {
			return err
		}
		if met.user != nil {
			im.there(row, met.user, &out)
			return errUnchanged
		}
		for i, found := range met.owners {
			if found != nil {
				at, user := holder(found)
				_, rests := found.(resting)
				out.Taken = append(out.Taken, door.Taken{
					Locator: row.asked[i].Locator, User: user, Row: at, Rests: rests,
				})
			}
		}
		if out.Taken != nil && !im.o.TakeFree {
			out.Refuse = true
			return errUnchanged
		}
		if im.o.DryRun {
			im.plan(&creation, row.created, number)
			return errDryRun
		}
		return nil
	})
	switch {
	case err == errUnchanged || err == errDryRun:
		return out, nil
	case errors.Is(err, ErrCorrupt):
		// Of the store, or of what is stored of this user?
		damaged, unreadable := im.damaged(ctx, row)
		if damaged {
			return door.Outcome{Damaged: true}, nil
		}
		return door.Outcome{}, firstOf(unreadable, err)
	case err != nil:
		return door.Outcome{}, im.aboutAttribute(err, row)
	}
	return out, nil
}

// damaged reports whether a record that only the user of a row can have is damaged.
func (im *importer) damaged(ctx context.Context, row *importRow) (bool, error) {
	keys := append(slices.Clone(row.keys), record.ProfileKey(row.user.ID))
	entries, err := im.d.records.Read(ctx, keys...)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, (*txn.Entry).Damaged), nil
}

// there fills the outcome of a row whose id exists. The row was imported before, unless it says
// that its user was made at another time: then the id belongs to somebody else.
func (im *importer) there(row *importRow, found any, out *door.Outcome) {
	at, user := holder(found)
	switch r := found.(type) {
	case *record.User:
		out.There = row.created == 0 || r.Created == row.created
	case earlierRow:
		_, same := im.rows[im.hash(createdKey(row.user.ID, row.created))]
		out.There = row.created == 0 || same
	}
	if !out.There {
		out.Refuse, out.Taken = true, []door.Taken{{User: user, Row: at}}
	}
}

// holder returns who has what is in the way: a user, or in a dry run an earlier row.
func holder(found any) (row int, user string) {
	switch r := found.(type) {
	case *record.User:
		return 0, r.ID
	case *record.Owner:
		return 0, r.User
	case *record.Unique:
		return 0, r.User
	case *record.Alias:
		return 0, r.User
	case earlierRow:
		return int(r), ""
	}
	return 0, ""
}

func (im *importer) hash(key store.Key) uint64 { return maphash.String(im.seed, string(key)) }

// createdKey returns a key for an id together with the time its user was made. It is used only for
// its hash.
func createdKey(id string, created int64) store.Key { return record.CreatedKey(created, id) }

// plan notes which keys a row of a dry run would have, so that later rows clash with it.
func (im *importer) plan(r *creation, created int64, number int) {
	im.rows[im.hash(record.UserKey(r.user.ID))] = uint32(number)
	if created != 0 {
		im.rows[im.hash(createdKey(r.user.ID, created))] = uint32(number)
	}
	for _, l := range r.user.Locators {
		if l.Owned {
			im.rows[im.hash(ownerKey(l))] = uint32(number)
			if l.Unique != "" {
				im.rows[im.hash(record.UniqueKey(uniqueForm(&l)))] = uint32(number)
			}
		}
	}
}

// aboutAttribute adds to an error which attribute of a row was refused, if one was.
func (im *importer) aboutAttribute(err error, row *importRow) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != ErrInvalid || e.Field == "attributes" || e.Missing != nil {
		return err
	}
	for _, a := range row.attributes {
		if checkAttributeKey(a.Key) == "" {
			im.mu.RLock()
			found := im.defs[record.DefinitionKey(a.Key)]
			im.mu.RUnlock()
			def := im.planned[a.Key]
			if found != nil && found.Value() != nil {
				def = found.Value().(*record.Definition)
			}
			if def == nil {
				continue
			}
			if _, refused := attribute(a, def); refused == nil {
				continue
			}
		}
		about := *e
		about.Missing = []string{a.Key}
		return &about
	}
	return err
}

// foreseen is what an import read before it decides on a row, which saves a read for each row. A
// nil foreseen, as other writes have, knows nothing.
type foreseen struct {
	*importer
	row      *importRow
	retrying bool // an earlier try met a conflict: what was read may be outdated
}

// entry returns the record under a key if it is known, or nil.
func (f *foreseen) entry(key store.Key) *txn.Entry {
	if f == nil || f.retrying {
		return nil
	}
	if e := f.row.found[key]; e != nil {
		return e
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.defs[key]
}

// mustRead reports whether a key must be looked up and cannot be left to the commit: something is
// under it, or this is a dry run, which has no commit.
func (f *foreseen) mustRead(key store.Key) bool {
	return f != nil && (f.o.DryRun || f.entry(key) != nil)
}

// rest returns records that are known, and makes them conditions as if they had been read. It
// returns nil if one of them is not known.
func (f *foreseen) rest(tx *txn.Tx, keys []store.Key) []*txn.Entry {
	if f == nil || f.retrying || len(keys) == 0 {
		return nil
	}
	entries := make([]*txn.Entry, len(keys))
	for i, key := range keys {
		if entries[i] = f.entry(key); entries[i] == nil {
			return nil
		}
	}
	for i, key := range keys {
		tx.Rest(key, entries[i])
	}
	return entries
}

// learn keeps definitions that were read, because most rows have the same attributes.
func (f *foreseen) learn(keys []store.Key, entries []*txn.Entry) {
	if f == nil {
		return
	}
	for i, key := range keys {
		if !key.HasPrefix(record.Definitions) {
			continue
		}
		f.mu.Lock()
		if entries[i].Value() != nil {
			f.defs[key] = entries[i]
		} else {
			delete(f.defs, key)
		}
		f.mu.Unlock()
	}
}

// define fills in the definitions that a dry run would have made where there are none.
func (f *foreseen) define(keys []string, defs []*record.Definition) {
	if f == nil {
		return
	}
	for i, key := range keys {
		if defs[i] == nil {
			defs[i] = f.planned[key]
		}
	}
}

// earlierRow returns which earlier row of a dry run would have a key, or nil.
func (f *foreseen) earlierRow(key store.Key) any {
	if f == nil || f.rows == nil {
		return nil
	}
	if row, ok := f.rows[f.hash(key)]; ok {
		return earlierRow(row)
	}
	return nil
}
