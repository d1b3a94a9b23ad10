package denizen

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Whoever holds a stolen token might prove a locator of its own and remove those of the user. So a
// user who proves a second locator, or replaces or removes a proved one, can be undone for a time:
// all locators that were proved before are told. What was removed is reserved, and a token that was
// got by the new locator changes no locators. The earliest undo wins, because the thief may undo
// what the user does against it.

// undoWithin is for how long a change can be undone.
const undoWithin = 72 * time.Hour

// maxChanges is how many changes of a user can be undone at a time. It bounds the messages that a
// user causes, and the locators that it reserves.
const maxChanges = 8

// undoKey derives the key of the digests of the secrets that undo changes.
func undoKey(cursorKey []byte) []byte {
	h := hmac.New(sha256.New, cursorKey)
	h.Write([]byte("undoing changes of locators"))
	return h.Sum(nil)
}

func (d *Directory) undoDigest(secret string) (digest [32]byte) {
	h := hmac.New(sha256.New, d.undoKey)
	h.Write([]byte(secret))
	return [32]byte(h.Sum(nil))
}

// newUndo returns a secret of 128 bits.
func newUndo() string {
	var secret [16]byte
	rand.Read(secret[:])
	return base64.RawURLEncoding.EncodeToString(secret[:])
}

// proved reports whether a user showed that it is reached by a locator that it owns.
func proved(l *record.Locator) bool {
	return l.Owned && builtIn(l.Type) && l.Status == string(Verified)
}

// digestName returns how records name a locator that they must not show.
func (d *Directory) digestName(l *record.Locator) string {
	digest := d.restDigest(l)
	return hex.EncodeToString(digest[:])
}

// undoable drops the changes of r that can no longer be undone, with what would undo them.
func (p *plan) undoable(r *record.User) {
	live := make([]record.Change, 0, len(r.Changes)+1)
	for _, ch := range r.Changes {
		if p.c.now < ch.Until {
			live = append(live, ch)
		} else {
			p.Drop(undoKeys(ch)...)
		}
	}
	r.Changes = live
}

// undoKeys returns the key of what undoes a change, if there is one.
func undoKeys(changes ...record.Change) (keys []store.Key) {
	for _, ch := range changes {
		var digest [32]byte
		if n, err := hex.Decode(digest[:], []byte(ch.Undo)); err == nil && n == len(digest) {
			keys = append(keys, record.UndoKey(digest))
		}
	}
	return keys
}

// isNew reports whether a locator came by a change of r that can still be undone.
func isNew(r *record.User, digest string) bool {
	return digest != "" && slices.ContainsFunc(r.Changes, func(ch record.Change) bool {
		return ch.New == digest
	})
}

// mayChangeOwn refuses a user whose token was got by a locator that is new. It also drops the
// changes that can no longer be undone. It lets .system pass.
func (p *plan) mayChangeOwn(r *record.User) error {
	p.undoable(r)
	if p.c.role != self || p.c.by.token == "" || len(r.Changes) == 0 {
		return nil
	}
	t, err := p.ownToken()
	if err != nil {
		return err
	}
	if isNew(r, t.Locator) {
		const rule = "was got by a locator that the user may not keep: it is too new"
		return newError(ErrDenied, "token", rule)
	}
	return nil
}

// ownToken returns the live token that the caller authenticated with. That it lives is then a
// condition of the write.
func (p *plan) ownToken() (*record.Token, error) {
	entries, err := p.read(record.TokensKey(string(p.c.by.user)))
	if err != nil {
		return nil, err
	}
	if r, ok := entries[0].Value().(*record.Tokens); ok && r.Incarnation == p.c.by.incarnation {
		i := indexOfToken(r.Tokens, p.c.by.token)
		if i >= 0 && p.c.now < expiry(r.Tokens[i]) {
			return &r.Tokens[i], nil
		}
	}
	return nil, newError(ErrRevoked, "token", "")
}

// changed makes it possible to undo what a user did, for whom Locators were before. Fresh is the
// locator that was proved, or nil. It returns what is to be told, or nil if there is nobody to
// tell. The caller gives up what was removed.
func (p *plan) changed(
	r *record.User, before []record.Locator, fresh *record.Locator,
) (*door.Change, error) {
	ch := record.Change{Until: p.c.now + undoWithin.Milliseconds()}
	told := &door.Change{User: r.ID, At: p.c.now, Until: ch.Until}
	if fresh != nil {
		ch.New = p.d.digestName(fresh)
	}
	undo := record.Undo{User: r.ID, Incarnation: r.Incarnation, Until: ch.Until}
	for i := range before {
		l := &before[i]
		if l.Owned {
			undo.Before = append(undo.Before, *l)
		}
		if !proved(l) {
			continue
		}
		is := func(kept record.Locator) bool { return kept.ID == l.ID }
		told.Told = append(told.Told, door.Told{
			Locator: serialized(l),
			Removed: !slices.ContainsFunc(r.Locators, is),
			// Else a thief whose locator the user removes could undo that.
			MayUndo: !isNew(r, p.d.digestName(l)),
		})
	}
	if len(told.Told) == 0 && len(r.Changes) == 0 {
		return nil, nil // nobody is reached by anything that this could be undone from
	}
	if len(r.Changes) >= maxChanges {
		return nil, &Error{
			Kind: ErrLimited, Field: "locators",
			Reason:     "that this user changed and that can be undone are as many as may be",
			RetryAfter: time.Duration(r.Changes[0].Until-p.c.now) * time.Millisecond,
		}
	}
	if p.d.onChange.Load() != nil {
		told.Undo = newUndo()
		digest := p.d.undoDigest(told.Undo)
		ch.Undo = hex.EncodeToString(digest[:])
		undo.Digest = ch.Undo
		p.Absent(record.UndoKey(digest))
		p.Put(record.UndoKey(digest), &undo)
	}
	r.Changes = append(r.Changes, ch)
	p.d.background.start() // it sweeps what can no longer be undone
	return told, nil
}

// proving is what a user is about to show that it is reached by: the locator with an id, or what
// replaces that.
type proving struct {
	id   LocatorID
	next *given // nil: nothing replaces it
}

// provingOf returns what a user proves, as package signin names it.
func (d *Directory) provingOf(c *call, id, replacement string) (proving, error) {
	if c.role != self || c.by.token == "" {
		// Else whoever acts for a user could claim what the user never asked for.
		return proving{}, newError(ErrDenied, "token", "only a user with its own token proves")
	}
	if replacement == "" {
		return proving{id: LocatorID(id)}, nil
	}
	g, err := d.form(NewLocator{Locator: replacement, Status: Verified})
	if err == nil && !builtIn(g.kind) {
		err = invalid("locator", "is of a type that cannot be proved")
	}
	return proving{LocatorID(id), &g}, firstOf(err, g.err)
}

// proveOwn makes r the owner of what its user proved, and returns that and what is to be told. R is
// a copy that the caller puts.
func (p *plan) proveOwn(
	r *record.User, w proving,
) (set record.Locator, told *door.Change, err error) {
	if _, err := p.ownToken(); err != nil {
		return set, nil, err
	}
	if err := p.mayChangeOwn(r); err != nil {
		return set, nil, err
	}
	i, err := locatorIn(r, w.id)
	if err != nil {
		return set, nil, err
	}
	before := slices.Clone(r.Locators)
	old := before[i]
	if !builtIn(old.Type) {
		return set, nil, invalid("locator", "is of a type that cannot be proved")
	}
	fresh := old
	setStatus(&fresh, Verified, p.c.now)
	asked := NewLocator{Locator: serialized(&fresh), Status: Verified}
	freed := before[:0]
	if w.next != nil {
		if old.Type != w.next.kind {
			return set, nil, invalid("locator", "is not of the type of the one that it replaces")
		}
		j := w.next.in(r.Locators)
		if j == i || j >= 0 && r.Locators[j].Owned {
			const rule = "is the user's already"
			return set, nil, newErrorAbout(ErrTaken, "locator", rule, w.next.Locator)
		}
		if fresh, err = w.next.new(p.c.now); err != nil {
			return set, nil, err
		}
		asked = w.next.NewLocator
		if old.Owned {
			freed = before[i : i+1]
		}
		r.Locators[i] = fresh
		if j >= 0 { // the claim that became owned
			r.Locators = slices.Delete(r.Locators, j, j+1)
			i, _ = locatorIn(r, LocatorID(fresh.ID))
		}
	} else {
		r.Locators[i] = fresh
		if proved(&old) {
			p.emit(EventLocatorVerification, r, fresh.ID)
			return fresh, nil, nil
		}
	}
	if !old.Owned {
		owned := slices.DeleteFunc(slices.Clone(r.Locators), func(l record.Locator) bool {
			return l.ID == fresh.ID
		})
		if err := room(owned, 1); err != nil {
			return set, nil, err
		}
	}
	if !fresh.Owned {
		p.proved = true
		if err := p.takeOwnership(r, freed, taking{&r.Locators[i], asked}); err != nil {
			return set, nil, err
		}
	}
	if told, err = p.changed(r, before, &r.Locators[i]); err != nil {
		return set, nil, err
	}
	switch {
	case w.next != nil:
		p.emit(EventLocatorsSet, r)
	case old.Owned:
		p.emit(EventLocatorVerification, r, fresh.ID)
	default:
		p.emit(EventLocatorOwned, r, fresh.ID)
	}
	if len(freed) > 0 {
		err = p.giveUp(r, &old)
	}
	return r.Locators[i], told, err
}

// giveUp is free for a locator that was removed or replaced. If its user did that, and had proved
// it, it is reserved while that can be undone.
func (p *plan) giveUp(r *record.User, l *record.Locator) error {
	if err := p.endTokensGotBy(r, l); err != nil {
		return err
	}
	if p.c.role != self || !proved(l) {
		return p.free(r, l)
	}
	return p.release(r, l, max(p.d.options.Quarantine, undoWithin), true)
}

// endTokensGotBy ends the tokens that were got by a locator that its user loses while it is new.
// Else who proved it would change locators with them once it is forgotten.
func (p *plan) endTokensGotBy(r *record.User, l *record.Locator) error {
	digest := p.d.digestName(l)
	if !isNew(r, digest) {
		return nil
	}
	entries, err := p.read(record.TokensKey(r.ID))
	if err != nil {
		return err
	}
	listed, ok := entries[0].Value().(*record.Tokens)
	if !ok || listed.Incarnation != r.Incarnation {
		return nil
	}
	live := *listed
	live.Tokens = slices.DeleteFunc(slices.Clone(listed.Tokens), func(t record.Token) bool {
		if t.Locator == digest {
			p.dropTexts(t)
			return true
		}
		return false
	})
	if len(live.Tokens) < len(listed.Tokens) {
		p.putTokens(&live)
	}
	return nil
}

// notify tells of a change that was committed, or may have been.
func (d *Directory) notify(told *door.Change, err error) {
	if told == nil || err != nil && !errors.Is(err, store.ErrOutcomeUnknown) {
		return
	}
	if notify := d.onChange.Load(); notify != nil {
		(*notify)(*told)
	}
}

func (b behindDoor) OnChange(notify func(door.Change)) {
	if notify == nil {
		b.d.onChange.Store(nil)
		return
	}
	b.d.onChange.Store(&notify)
}

// toProve returns the locator that a code is to be sent to: the one with an id, or what replaces
// that. It refuses what would be refused after the proof, but never looks whether others own the
// locator. It writes nothing.
func (d *Directory) toProve(
	ctx context.Context, c *call, id, replacement string,
) (l record.Locator, err error) {
	w, err := d.provingOf(c, id, replacement)
	if err != nil {
		return l, err
	}
	_, err = d.write(ctx, c, func(p *plan) error {
		stored, _, err := p.user(c.target)
		if err != nil {
			return err
		}
		r := *stored
		r.Locators = slices.Clone(r.Locators)
		if l, _, err = p.proveOwn(&r, w); err != nil {
			return err
		}
		return errUnchanged
	})
	return l, unchanged(err)
}

func (b behindDoor) Undo(ctx context.Context, by any, secret string) (err error) {
	defer b.trace(&ctx, "Undo", by).end(&err)
	c, err := b.d.enter(ctx, opProve, by.(Principal), noTarget)
	if err != nil {
		return err
	}
	nothing := newError(ErrNotFound, "secret", "undoes nothing, or no longer")
	key := record.UndoKey(b.d.undoDigest(secret))
	entries, err := b.d.read(ctx, &c, key)
	if err != nil {
		return err
	}
	undo, ok := entries[0].Value().(*record.Undo)
	if !ok {
		return nothing
	}
	of := c.about(UserID(undo.User))
	_, err = b.d.change(ctx, &of, nil, func(p *plan, r *record.User) error {
		entries, err := p.read(key)
		if err != nil {
			return err
		}
		undo, ok := entries[0].Value().(*record.Undo)
		if !ok || undo.Incarnation != r.Incarnation || p.c.now >= undo.Until {
			return nothing
		}
		return p.undo(r, undo, nothing)
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == ErrNotFound {
		return nothing // a deleted user is not told of
	}
	return err
}

// undo gives r the locators that it owned before a change, as far as nobody else owns them and they
// were not taken from the user by .system since. All that whoever made the change may have got
// ends: tokens, claims, and what would undo this change or a later one.
func (p *plan) undo(r *record.User, undo *record.Undo, nothing error) error {
	i := slices.IndexFunc(r.Changes, func(ch record.Change) bool { return ch.Undo == undo.Digest })
	if i < 0 {
		return nothing
	}
	p.Drop(undoKeys(r.Changes[i:]...)...)
	r.Changes = slices.Clone(r.Changes[:i])
	p.undoable(r)
	now := r.Locators
	r.Locators = make([]record.Locator, 0, len(undo.Before)) // never reallocates
	var back []*record.Locator
	for _, l := range undo.Before {
		j := slices.IndexFunc(now, func(n record.Locator) bool {
			return n.Owned && (n.ID == l.ID || n.Type == l.Type && n.Canonical == l.Canonical)
		})
		if j < 0 {
			l.Owned = false
			r.Locators = append(r.Locators, l)
			back = append(back, &r.Locators[len(r.Locators)-1])
			continue
		}
		kept := now[j]
		now = slices.Delete(now, j, j+1)
		if l.Status != string(Verified) {
			kept.Status, kept.Verified = l.Status, l.Verified // it was proved by the thief
		}
		r.Locators = append(r.Locators, kept)
	}
	for _, l := range back {
		if err := p.takeBack(r, now, l); err != nil {
			return err
		}
	}
	r.Locators = slices.DeleteFunc(r.Locators, func(l record.Locator) bool { return !l.Owned })
	for i := range now {
		if !now[i].Owned {
			continue
		}
		// An earlier change may have been of this one, and can still be undone.
		rest := p.d.restOf(now[i].Type)
		if len(r.Changes) > 0 && builtIn(now[i].Type) {
			rest = max(rest, undoWithin)
		}
		if err := p.release(r, &now[i], rest, len(r.Changes) > 0); err != nil {
			return err
		}
	}
	p.emit(EventLocatorsRestored, r)
	if err := p.dropProofs(r.ID); err != nil {
		return err
	}
	return p.dropTokens(r)
}

// takeBack makes r the owner of a locator again, if its user gave it up and nobody has it. Freed is
// what the user gives up in the same commit.
func (p *plan) takeBack(r *record.User, freed []record.Locator, l *record.Locator) error {
	rule := p.d.rules.of(l.Type)
	switch {
	case builtIn(l.Type):
		entries, err := p.read(record.RestKey(p.d.restDigest(l)))
		if err != nil {
			return err
		}
		rest, ok := entries[0].Value().(*record.Rest)
		if !ok || !rest.Reserved || rest.User != r.ID || rest.Incarnation != r.Incarnation {
			return nil
		}
	case rule == nil || !rule.Self:
		return nil // .system took it away
	}
	p.proved = true // it was, before
	_, err := p.takeOne(r, freed, taking{l, NewLocator{}})
	return err
}

// CancelUndo lets nobody undo any more what a user changed so far of what it is reached by. It is
// for a user whose earlier mailbox or number somebody else has by now. What the user gave up stays
// reserved: see [Directory.RemoveLocator]. If there is nothing to undo it changes nothing. Only
// .system may.
func (d *Directory) CancelUndo(ctx context.Context, by Principal, user UserID) (err error) {
	defer d.trace(&ctx, "CancelUndo", &by).end(&err)
	c, err := d.enter(ctx, opCancelUndo, by, user)
	if err != nil {
		return err
	}
	_, err = d.change(ctx, &c, nil, func(p *plan, r *record.User) error {
		if p.undoable(r); len(r.Changes) == 0 {
			return errUnchanged
		}
		p.Drop(undoKeys(r.Changes...)...)
		r.Changes = nil
		p.emit(EventUndoCancelled, r)
		return nil
	})
	return err
}

// IssueToken is Directory.IssueToken for a user who signed in by a locator.
func (b behindDoor) IssueToken(
	ctx context.Context, by any, user string, options any, locator string,
) (issued any, err error) {
	defer wrapOp("IssueToken", &err)
	o := options.(TokenOptions)
	key, err := canonical(locator)
	if err != nil {
		return nil, err
	}
	kind, form, _ := strings.Cut(key, ":")
	o.gotBy = b.d.digestName(&record.Locator{Type: kind, Canonical: form})
	return b.d.IssueToken(ctx, by.(Principal), UserID(user), o)
}
