package denizen

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/denizenhq/denizen/internal/door"
	"github.com/denizenhq/denizen/internal/locator"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/txn"
	"github.com/denizenhq/denizen/store"
)

// A proof is stored under its handle, which only whoever started it was given. So nobody else can
// spend it, use up its tries or replace it. A try is judged and counted in one conditional commit,
// so many at once share the tries. What a proof does once its secret is given is done in the commit
// that drops it.
//
// Starting and judging read and write the same records whether or not somebody owns the locator:
// nothing here looks for the owner before the secret was right.

const (
	proofMinutes = 10
	proofTries   = 5

	// maxUserProofs is the most live proofs that a user starts for locators of its own. It bounds
	// what a user can have sent to addresses of others.
	maxUserProofs = 4

	// Starts within an hour for one locator. Devices that signed in by it before have starts of
	// their own, so nobody can keep their people out by using up all others.
	maxStarts       = 12
	maxClientStarts = 4
)

// The purposes of proofs.
const (
	proofSignIn = "sign-in"
	proofOwn    = "own" // a locator of the user that started it, or what replaces that
)

const (
	oneMinute = 60 * 1000      // milliseconds
	oneHour   = 60 * oneMinute // milliseconds
)

// proofKey derives the key of the digests of proofs.
func proofKey(cursorKey []byte) []byte {
	h := hmac.New(sha256.New, cursorKey)
	h.Write([]byte("proofs"))
	return h.Sum(nil)
}

// proofDigest returns the keyed digest of texts for a use.
func (d *Directory) proofDigest(use string, texts ...string) (digest [32]byte) {
	h := hmac.New(sha256.New, d.proofKey)
	h.Write([]byte(use))
	for _, text := range texts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	return [32]byte(h.Sum(nil))
}

func (b behindDoor) ProofMAC(use, text string) []byte {
	digest := b.d.proofDigest("mac", use, text)
	return digest[:]
}

func refusedProof() error {
	return newError(ErrDenied, "proof", "the code is wrong, used or too old")
}

// newHandle returns a handle: 130 random bits, and the minute that its record is found by.
func newHandle(minute int64) string { return strconv.FormatInt(minute, 36) + "." + rand.Text() }

// proofRecordKey returns the key of the proof of a handle, and false if no live proof has such a
// handle.
func (d *Directory) proofRecordKey(handle string, now int64) (store.Key, bool) {
	text, _, ok := strings.Cut(handle, ".")
	minute, err := strconv.ParseInt(text, 36, 64)
	age := now/oneMinute - minute
	if !ok || err != nil || len(handle) > 64 || age < 0 || age > proofMinutes {
		return "", false
	}
	return record.ProofKey(minute, d.proofDigest("handle", handle)), true
}

func (d *Directory) secretDigest(handle, secret string) string {
	digest := d.proofDigest("secret", handle, secret)
	return hex.EncodeToString(digest[:])
}

func (b behindDoor) StartProof(
	ctx context.Context, by any, s door.ProofStart,
) (started door.StartedProof, err error) {
	defer b.trace(&ctx, "Start", by).end(&err)
	d := b.d
	if s.SignIn == "" {
		return b.startOwn(ctx, by.(Principal), &s)
	}
	c, err := d.enter(ctx, opProve, by.(Principal), noTarget)
	if err != nil {
		return started, err
	}
	l, err := parse(s.SignIn)
	if err != nil {
		return started, err
	}
	r, started := d.newProof(&c, proofSignIn, l.Serialized(), s.Secret)
	started.Type, started.Address = string(l.Type), locator.Deliverable(l.Type, l.Raw, l.Canonical)
	r.Sealed = d.sealLocator(s.SignIn, started.Proof)
	c.contended = started.Starts
	_, err = d.write(ctx, &c, func(p *plan) error {
		if err := p.countStart(&started, s.Client, s.Device); err != nil {
			return err
		}
		p.Absent(started.Proof)
		p.Put(started.Proof, r)
		return nil
	})
	return started, err
}

// startOwn starts a proof of a locator of the caller's own, or of what replaces that. The caller
// has a live token of its own: not even the application that acts for a user proves anything
// for it.
func (b behindDoor) startOwn(
	ctx context.Context, by Principal, s *door.ProofStart,
) (started door.StartedProof, err error) {
	d := b.d
	c, err := d.enter(ctx, opAddLocator, by, by.user)
	if err != nil {
		return started, err
	}
	l, err := d.toProve(ctx, &c, s.LocatorID, s.Replaced)
	if err != nil {
		return started, err
	}
	r, started := d.newProof(&c, proofOwn, l.Type+":"+l.Canonical, s.Secret)
	started.Type, started.Address, _ = strings.Cut(serialized(&l), ":")
	if s.Replaced != "" {
		r.Sealed = d.sealLocator(s.Replaced, started.Proof)
	}
	_, err = d.write(ctx, &c, func(p *plan) error {
		u, _, err := p.user(c.target)
		if err != nil {
			return err
		}
		if _, err := p.ownToken(); err != nil {
			return err
		}
		r.User, r.Incarnation, r.LocatorID = u.ID, u.Incarnation, s.LocatorID
		listed, err := p.proofsOf(u)
		if err != nil {
			return err
		}
		if len(listed.Proofs) >= maxUserProofs {
			return &Error{
				Kind: ErrLimited, Field: "proofs", Reason: "of a user must be 4 at most at a time",
				RetryAfter: time.Duration(listed.Proofs[0].Expires-c.now) * time.Millisecond,
			}
		}
		if err := p.countStart(&started, s.Client, ""); err != nil {
			return err
		}
		listed.Proofs = append(listed.Proofs, record.UserProof{
			Minute: r.Minute, Handle: r.Handle, Expires: r.Expires,
		})
		p.Put(record.UserProofsKey(u.ID), listed)
		p.Absent(started.Proof)
		p.Put(started.Proof, r)
		return nil
	})
	return started, err
}

// newProof returns a proof that is started now, without what depends on its purpose. locator is
// type:canonical.
func (d *Directory) newProof(
	c *call, purpose, locator, secret string,
) (*record.Proof, door.StartedProof) {
	minute := c.now / oneMinute
	handle := newHandle(minute)
	digest, of := d.proofDigest("handle", handle), d.proofDigest("locator", locator)
	r := &record.Proof{
		Handle: hex.EncodeToString(digest[:]), Minute: minute, Purpose: purpose,
		Locator: hex.EncodeToString(of[:]), Secret: d.secretDigest(handle, secret),
		Expires: c.now + proofMinutes*oneMinute,
	}
	return r, door.StartedProof{
		Handle: handle, Locator: locator, Expires: r.Expires,
		Proof:     record.ProofKey(minute, digest),
		Starts:    record.StartsKey(c.now/oneHour, of),
		StartName: r.Handle[:16],
	}
}

// countStart counts a start for its client, or for a device if it has starts left. If there have
// been too many within an hour it is ErrLimited.
func (p *plan) countStart(started *door.StartedProof, client, device string) error {
	of, now := p.d.proofDigest("locator", started.Locator), p.c.now
	hour := now / oneHour
	entries, err := p.read(record.StartsKey(hour-1, of), record.StartsKey(hour, of))
	if err != nil {
		return err
	}
	name := func(s string) string {
		digest := p.d.proofDigest("client", string(of[:]), s)
		return hex.EncodeToString(digest[:8])
	}
	counted := record.Starts{Locator: hex.EncodeToString(of[:]), Hour: hour}
	var recent []record.Start
	for i, e := range entries {
		r, ok := e.Value().(*record.Starts)
		if !ok {
			continue
		}
		for _, s := range r.Starts {
			if now < s.At+oneHour {
				recent = append(recent, s)
			}
		}
		if i == 1 {
			counted.Starts = slices.Clone(r.Starts)
		}
	}
	start := record.Start{Proof: started.StartName, Client: name(client), At: now}
	wait := untilStart(recent, start, now)
	if device != "" {
		own := record.Start{Proof: start.Proof, Client: name(device), Device: true, At: now}
		if w := untilStart(recent, own, now); w <= wait {
			start, wait = own, w
		}
	}
	if wait > 0 {
		return &Error{
			Kind: ErrLimited, Field: "locator", Reason: "was sent to too often",
			RetryAfter: time.Duration(wait) * time.Millisecond,
		}
	}
	counted.Starts = append(counted.Starts, start)
	p.Put(started.Starts, &counted)
	p.d.background.start() // somebody must sweep it
	return nil
}

// untilStart returns how many milliseconds must pass until a start may be made, after those of the
// last hour.
func untilStart(recent []record.Start, s record.Start, now int64) (wait int64) {
	until := func(most int, counts func(record.Start) bool) {
		var at []int64
		for _, earlier := range recent {
			if earlier.Device == s.Device && counts(earlier) {
				at = append(at, earlier.At)
			}
		}
		slices.Sort(at) // other processes may have other clocks
		if len(at) >= most {
			wait = max(wait, at[len(at)-most]+oneHour-now)
		}
	}
	until(maxClientStarts, func(earlier record.Start) bool { return earlier.Client == s.Client })
	until(maxStarts, func(record.Start) bool { return true })
	return wait
}

// judge judges a secret that somebody gives for a handle. If it is right, and the proof fits, the
// write uses the proof up. Otherwise it counts a try and returns nil: whoever calls it must commit
// then, and refuse after.
func (p *plan) judge(
	handle, secret string, fits func(*record.Proof) bool,
) (*record.Proof, error) {
	key, ok := p.d.proofRecordKey(handle, p.c.now)
	if !ok {
		return nil, refusedProof()
	}
	entries, err := p.read(key)
	if err != nil {
		return nil, err
	}
	r, ok := entries[0].Value().(*record.Proof)
	if !ok || p.c.now >= r.Expires || r.Tries >= proofTries {
		return nil, refusedProof()
	}
	given := p.d.secretDigest(handle, secret)
	right := subtle.ConstantTimeCompare([]byte(given), []byte(r.Secret)) == 1
	if !right || !fits(r) {
		tried := *r
		tried.Tries++
		p.Put(key, &tried)
		return nil, nil
	}
	p.Drop(key)
	return r, nil
}

func (b behindDoor) FinishSignIn(
	ctx context.Context, by any, handle, secret string, newcomer any,
) (_ any, signedInBy string, err error) {
	defer b.trace(&ctx, "Finish", by).end(&err)
	d := b.d
	c, err := d.enter(ctx, opProve, by.(Principal), noTarget)
	if err != nil {
		return nil, "", err
	}
	c.contended, _ = d.proofRecordKey(handle, c.now)
	var u *proven
	seq, err := d.write(ctx, &c, func(p *plan) error {
		u = nil
		r, err := p.judge(handle, secret, func(r *record.Proof) bool {
			return r.Purpose == proofSignIn
		})
		if err != nil || r == nil {
			return err
		}
		asked, err := d.unsealLocator(handle, r)
		if err != nil {
			return err
		}
		if signedInBy, err = canonical(asked); err != nil {
			return err
		}
		u, err = p.prove(signedInBy, asked, newcomer.(*NewUser))
		e, taken := errors.AsType[*Error](err)
		rests := taken && e.Kind == ErrTaken && slices.Contains(e.Missing, asked)
		if rests || err == nil && u == nil {
			return refusedProof() // it rests, or nobody may be created for it
		}
		return err
	})
	if err == nil && u == nil {
		err = refusedProof()
	}
	if err != nil {
		return nil, "", err
	}
	return u.at(&c, seq), signedInBy, nil
}

// sealLocator returns a locator as the record of a proof holds it.
func (d *Directory) sealLocator(locator string, of store.Key) string {
	var nonce [chacha20poly1305.NonceSizeX]byte
	rand.Read(nonce[:])
	sealed := d.cursors.Seal(nonce[:], nonce[:], []byte(locator), []byte("proof "+of))
	return base64.StdEncoding.EncodeToString(sealed)
}

// unsealLocator returns the locator that a proof was started with.
func (d *Directory) unsealLocator(handle string, r *record.Proof) (string, error) {
	key := record.ProofKey(r.Minute, d.proofDigest("handle", handle))
	sealed, err := base64.StdEncoding.DecodeString(r.Sealed)
	size := d.cursors.NonceSize()
	if err != nil || len(sealed) < size {
		return "", record.ErrCorrupt
	}
	text, err := d.cursors.Open(nil, sealed[:size], sealed[size:], []byte("proof "+key))
	if err != nil {
		return "", record.ErrCorrupt
	}
	return string(text), nil
}

func (b behindDoor) FinishOwn(
	ctx context.Context, by any, locatorID, handle, secret string,
) (_ any, err error) {
	defer b.trace(&ctx, "FinishVerify", by).end(&err)
	d, user := b.d, by.(Principal).user
	c, err := d.enter(ctx, opAddLocator, by.(Principal), user)
	if err != nil {
		return nil, err
	}
	if _, err := d.provingOf(&c, locatorID, ""); err != nil {
		return nil, err
	}
	c.contended, _ = d.proofRecordKey(handle, c.now)
	var set record.Locator
	var told *door.Change
	right := false
	_, err = d.write(ctx, &c, func(p *plan) error {
		right, told = false, nil
		u, _, err := p.user(user)
		if err != nil {
			return err
		}
		if _, err := p.ownToken(); err != nil {
			return err
		}
		r, err := p.judge(handle, secret, func(r *record.Proof) bool {
			return r.Purpose == proofOwn && r.User == u.ID && r.Incarnation == u.Incarnation &&
				r.LocatorID == locatorID
		})
		if err != nil || r == nil {
			return err
		}
		replacement := ""
		if r.Sealed != "" {
			if replacement, err = d.unsealLocator(handle, r); err != nil {
				return err
			}
		}
		what, err := d.provingOf(&c, locatorID, replacement)
		if err != nil {
			return err
		}
		edited := *u
		edited.Locators, edited.Updated = slices.Clone(u.Locators), c.now
		if set, told, err = p.proveOwn(&edited, what); err != nil {
			return err
		}
		of := d.proofDigest("locator", set.Type+":"+set.Canonical)
		if r.Locator != hex.EncodeToString(of[:]) {
			return refusedProof() // the locator is another one by now
		}
		right = true
		p.Put(record.UserKey(u.ID), &edited)
		return p.unlistProof(&edited, r)
	})
	if err == nil && !right {
		err = refusedProof()
	}
	d.notify(told, err)
	if err != nil {
		return nil, err
	}
	return c.locatorOf(&set), nil
}

// proofsOf returns a copy of the list of a user's live proofs.
func (p *plan) proofsOf(u *record.User) (*record.UserProofs, error) {
	entries, err := p.read(record.UserProofsKey(u.ID))
	if err != nil {
		return nil, err
	}
	live := &record.UserProofs{User: u.ID, Incarnation: u.Incarnation}
	if r, ok := entries[0].Value().(*record.UserProofs); ok && r.Incarnation == u.Incarnation {
		for _, listed := range r.Proofs {
			if p.c.now < listed.Expires {
				live.Proofs = append(live.Proofs, listed)
			} else {
				p.Drop(userProofKey(listed))
			}
		}
	}
	return live, nil
}

// unlistProof takes a proof from the list of its user.
func (p *plan) unlistProof(u *record.User, r *record.Proof) error {
	listed, err := p.proofsOf(u)
	if err != nil {
		return err
	}
	is := func(l record.UserProof) bool { return l.Handle == r.Handle }
	listed.Proofs = slices.DeleteFunc(listed.Proofs, is)
	if len(listed.Proofs) == 0 {
		p.Drop(record.UserProofsKey(u.ID))
		return nil
	}
	p.Put(record.UserProofsKey(u.ID), listed)
	return nil
}

// dropProofs ends the proofs of a user, in a write that puts or drops the user's record. If their
// list is damaged they stay until they expire. None is good for a user that is gone or for a claim
// that has ended.
func (p *plan) dropProofs(user string) error {
	key := record.UserProofsKey(user)
	entries, err := p.readAny(key)
	if err != nil {
		return err
	}
	if r, ok := entries[0].Value().(*record.UserProofs); ok {
		for _, listed := range r.Proofs {
			p.Drop(userProofKey(listed))
		}
	}
	if entries[0].Version() != 0 || entries[0].Damaged() {
		p.Drop(key)
	}
	return nil
}

func userProofKey(l record.UserProof) store.Key {
	var digest [32]byte
	if n, err := hex.Decode(digest[:], []byte(l.Handle)); err != nil || n != len(digest) {
		digest = [32]byte{} // no handle has this digest: dropping it drops nothing
	}
	return record.ProofKey(l.Minute, digest)
}

func (b behindDoor) Addressee(
	ctx context.Context, by any, locator string,
) (address string, owned bool, err error) {
	defer b.trace(&ctx, "Start", by).end(&err)
	c, err := b.d.enter(ctx, opProve, by.(Principal), noTarget)
	if err != nil {
		return "", false, err
	}
	owners, err := b.d.owners(ctx, &c, []string{locator})
	if err != nil {
		return "", false, err
	}
	if owners[0] == nil {
		// The same reads as for an owner: the next request must not tell which it was.
		_, err := b.d.load(ctx, record.UserKey(""))
		return "", false, err
	}
	r := owners[0].Value().(*record.User)
	i := slices.IndexFunc(r.Locators, func(l record.Locator) bool { return l.Owned && l.Is(locator) })
	return c.locatorOf(&r.Locators[i]).Address, true, nil
}

func (b behindDoor) GiveBack(ctx context.Context, s door.StartedProof) (err error) {
	defer wrapOp("Start", &err)
	return b.d.writeBackground(ctx, func(tx *txn.Tx) error {
		entries, err := tx.Read(s.Starts)
		if err != nil {
			return err
		}
		r, ok := entries[0].Value().(*record.Starts)
		if !ok {
			return errUnchanged
		}
		left := *r
		is := func(start record.Start) bool { return start.Proof == s.StartName }
		left.Starts = slices.DeleteFunc(slices.Clone(r.Starts), is)
		switch len(left.Starts) {
		case len(r.Starts):
			return errUnchanged
		case 0:
			tx.Drop(s.Starts)
		default:
			tx.Put(s.Starts, &left)
		}
		return nil
	})
}

func (b behindDoor) Forget(ctx context.Context, keys ...store.Key) (err error) {
	defer wrapOp("Start", &err)
	return b.d.dropAll(ctx, keys)
}

// sweepProofs removes proofs and starts that count no more.
func (d *Directory) sweepProofs(ctx context.Context) error {
	minute, hour := d.clock.Now()/oneMinute-proofMinutes-1, d.clock.Now()/oneHour-1
	err := d.sweepOld(ctx, record.Proofs, func(key store.Key) bool {
		return record.ProofsBefore(key, minute)
	})
	if err != nil {
		return err
	}
	return d.sweepOld(ctx, record.AllStarts, func(key store.Key) bool {
		return record.StartsBefore(key, hour)
	})
}

// sweepUserProofs removes lists of proofs that have all expired.
func (d *Directory) sweepUserProofs(ctx context.Context, now int64) error {
	over := func(value any) bool {
		r, ok := value.(*record.UserProofs)
		lives := func(l record.UserProof) bool {
			return now < l.Expires+2*oneMinute // until it is swept
		}
		return ok && !slices.ContainsFunc(r.Proofs, lives)
	}
	return d.sweepOver(ctx, record.UsersProofs, over)
}
