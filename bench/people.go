package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/store/memory"
)

var system = denizen.System()

// remembered is the number of users or tokens that are read in turn when the directory has them
// cached.
const remembered = 10_000

// people is a directory of many users in a file, each with a locator. The floor reads a copy of the
// file with bbolt alone.
type people struct {
	n     int
	path  string
	store *bolt.Store
	dir   *denizen.Directory
	floor *bbolt.DB

	ids    []denizen.UserID // of up to 100,000 users, in a random order
	emails []string         // theirs
	texts  []string         // tokens of the first of them
}

// newPeople makes a directory of n users. If all is set, each also has a token and a presence.
func newPeople(b *bench, n int, all bool) (p *people, err error) {
	p = &people{n: n, path: b.file(fmt.Sprintf("people-%d", n))}
	if p.store, err = bolt.Open(b.ctx, p.path, bolt.Options{}); err != nil {
		return nil, err
	}
	if err := p.fill(b.ctx, all); err != nil {
		return nil, err
	}
	if err := p.forget(); err != nil {
		return nil, err
	}
	for _, i := range mathrand.Perm(n)[:min(n, 100_000)] {
		p.ids, p.emails = append(p.ids, userID(i)), append(p.emails, "email:"+email(i))
	}
	return p, nil
}

// issue issues tokens to the first of the users.
func (p *people) issue(ctx context.Context, tokens int) error {
	p.texts = make([]string, min(tokens, len(p.ids)))
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(p.texts) && errs[w] == nil; i += len(errs) {
				var t denizen.IssuedToken
				t, errs[w] = p.dir.IssueToken(ctx, system, p.ids[i], denizen.TokenOptions{})
				p.texts[i] = t.Signed
			}
		})
	}
	wg.Wait()
	return first(errs...)
}

// copy opens a copy of the file for the floor. It is called when everything that is read from both
// has been written.
func (p *people) copy() (err error) {
	if err := p.dir.Close(); err != nil {
		return err
	}
	from, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(p.path + ".floor")
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := first(err, to.Sync(), to.Close()); err != nil {
		return err
	}
	if p.floor, err = openBare(p.path + ".floor"); err != nil {
		return err
	}
	p.dir = nil
	return p.forget()
}

// forget replaces the directory with one that has cached nothing.
func (p *people) forget() (err error) {
	if p.dir != nil {
		if err := p.dir.Close(); err != nil {
			return err
		}
	}
	p.dir, err = denizen.New(context.Background(), p.store, denizen.Options{})
	return err
}

func (p *people) close() error {
	errs := []error{p.dir.Close(), p.store.Close()}
	if p.floor != nil {
		errs = append(errs, p.floor.Close(), os.Remove(p.path+".floor"))
	}
	return first(errs...)
}

func userID(i int) denizen.UserID {
	return denizen.UserID(fmt.Sprintf("01926f3a-0000-7000-8000-%012x", i))
}
func email(i int) string { return fmt.Sprintf("user%09d@example.com", i) }

// fill loads into the file what the directory would have stored, in key order.
func (p *people) fill(ctx context.Context, all bool) error {
	small := memory.New()
	dir, err := denizen.New(ctx, small, denizen.Options{})
	if err != nil {
		return err
	}
	own, err := small.Get(ctx, record.DirectoryKey, record.SigningKeysKey)
	if err := first(err, dir.Close()); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	expires := now/1000*1000 + 24*time.Hour.Milliseconds()
	incarnation := func(i int) string { return fmt.Sprintf("01926f3b-0000-7000-8000-%012x", i) }
	locator := func(i int) record.Locator {
		return record.Locator{
			ID: fmt.Sprintf("LOCATOR%019d", i), Type: "email", Canonical: email(i), Raw: email(i),
			Status: string(denizen.Verified), Owned: true, Added: now, Verified: now,
		}
	}
	var digests [][32]byte // of tokens that nobody has; only their presence counts
	if all {
		digests = make([][32]byte, p.n)
		for i := range digests {
			if _, err := rand.Read(digests[i][:]); err != nil {
				return err
			}
		}
	}
	tokenID := func(i int) string { return fmt.Sprintf("TOKEN%021d", i) }
	user := func(i int) (store.Key, record.Record) {
		id := string(userID(i))
		return record.UserKey(id), &record.User{
			ID: id, Incarnation: incarnation(i), ScreenName: "Somebody", Created: now, Updated: now,
			Locators: []record.Locator{locator(i)},
		}
	}
	owner := func(i int) (store.Key, record.Record) {
		name := "email:" + email(i)
		return record.OwnerKey(name), &record.Owner{Locator: name, User: string(userID(i)), Incarnation: incarnation(i)}
	}
	set := []presence.Device{{Start: now, Chain: presence.Chain{
		{State: presence.Online, Seconds: 86400}, {State: presence.Away, Seconds: 60}, {State: presence.Offline},
	}}}
	place := func(i int) int64 {
		r := record.Devices{User: string(userID(i)), Devices: set}
		r.PlaceHere(&record.Devices{})
		return r.Here
	}
	devices := func(i int) (store.Key, record.Record) {
		id := string(userID(i))
		return record.DevicesKey(id), &record.Devices{
			User: id, Incarnation: incarnation(i), Devices: set, Here: place(i),
		}
	}
	here := func(i int) (store.Key, record.Record) {
		id, at := string(userID(i)), place(i)
		return record.HereKey(at, id), &record.Here{Place: at, User: id, Incarnation: incarnation(i)}
	}
	var byPlace []int
	if all {
		byPlace = make([]int, p.n)
		places := make([]int64, p.n)
		for i := range byPlace {
			byPlace[i], places[i] = i, place(i)
		}
		slices.SortStableFunc(byPlace, func(a, b int) int { return cmp.Compare(places[a], places[b]) })
	}
	tokens := func(i int) (store.Key, record.Record) {
		id := string(userID(i))
		return record.TokensKey(id), &record.Tokens{User: id, Incarnation: incarnation(i), Tokens: []record.Token{{
			ID: tokenID(i), Issued: now, Latest: expires,
			Texts: []record.Text{{Digest: hex.EncodeToString(digests[i][:]), Expires: expires}},
		}}}
	}
	byDigest := make([]int, len(digests))
	for i := range byDigest {
		byDigest[i] = i
	}
	slices.SortFunc(byDigest, func(a, b int) int { return slices.Compare(digests[a][:], digests[b][:]) })
	grant := func(at int) (store.Key, record.Record) {
		i := byDigest[at]
		return record.TokenTextKey(digests[i]), &record.TokenText{
			Digest: hex.EncodeToString(digests[i][:]), User: string(userID(i)), Incarnation: incarnation(i), Token: tokenID(i), Expires: expires,
		}
	}
	kinds := []func(int) (store.Key, record.Record){owner, user}
	if all {
		byKey := func(at int) (store.Key, record.Record) { return here(byPlace[at]) }
		kinds = []func(int) (store.Key, record.Record){byKey, owner, devices, tokens, user, grant}
	}
	records := func(yield func(store.Record, error) bool) {
		for _, r := range own {
			if !yield(r, nil) {
				return
			}
		}
		for _, kind := range kinds {
			for i := range p.n {
				key, r := kind(i)
				if !yield(store.Record{Key: key, Version: 1, Value: record.Encode(r)}, nil) {
					return
				}
			}
		}
	}
	return p.store.Load(ctx, records, func(func(store.Change, error) bool) {}, 1)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
