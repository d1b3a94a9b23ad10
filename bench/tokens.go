package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/internal/token"
)

var errForged = errors.New("the signature is wrong")

// authenticate authenticates tokens of people: first tokens that the directory has not cached, then
// ones that it has.
func authenticate(b *bench, p *people, peers sides) error {
	ctx := context.Background()
	ours := func(texts []string) func(i uint64) error {
		return func(i uint64) error {
			_, err := p.dir.Authenticate(ctx, texts[i%uint64(len(texts))])
			return err
		}
	}
	type keys struct{ grant, user []byte }
	known := struct {
		sync.RWMutex
		principals map[string]denizen.Principal
	}{principals: map[string]denizen.Principal{}}
	again := p.texts[:min(len(p.texts), remembered)]
	behind, texts := make([]keys, len(p.texts)), make([][]byte, len(p.texts))
	for i, text := range p.texts {
		texts[i] = []byte(text)
		behind[i] = keys{[]byte(record.TokenTextKey(token.Digest(text))), []byte(record.UserKey(string(p.ids[i])))}
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	message := []byte(p.texts[0])
	signature := ed25519.Sign(private, message)
	floor := func(i uint64) error {
		at := i % uint64(len(p.texts))
		if sum := sha256.Sum256(texts[at]); sum == [32]byte{} {
			return errAbsent
		}
		if err := get(p.floor, behind[at].grant); err != nil {
			return err
		}
		return get(p.floor, behind[at].user)
	}
	if err := warm(len(p.texts), floor); err != nil { // otherwise the system first has to map the pages
		return err
	}
	for _, goroutines := range b.goroutines() {
		err := b.compare(operation{
			name: "Authenticate/first", users: p.n, goroutines: goroutines,
			sides: append([]side{
				{name: "Denizen", before: p.forget, some: len(p.texts), do: ours(p.texts)},
				{name: "floor: SHA-256 and two bbolt gets", do: floor},
				{name: "floor: SHA-256 alone", do: func(i uint64) error {
					if sum := sha256.Sum256(texts[i%uint64(len(texts))]); sum == [32]byte{} {
						return errAbsent
					}
					return nil
				}},
				{name: "floor: an Ed25519 verification", do: func(uint64) error {
					if !ed25519.Verify(public, message, signature) {
						return errForged
					}
					return nil
				}},
			}, peers["Authenticate/first"]...),
		})
		if err != nil {
			return err
		}
		if err := p.forget(); err != nil {
			return err
		}
		for _, text := range again {
			if known.principals[text], err = p.dir.Authenticate(ctx, text); err != nil {
				return err
			}
		}
		err = b.compare(operation{
			name: "Authenticate/again", users: p.n, goroutines: goroutines,
			sides: append([]side{
				{name: "Denizen", do: ours(again)},
				{name: "floor: a map read under a lock", do: func(i uint64) error {
					known.RLock()
					by := known.principals[again[i%uint64(len(again))]]
					known.RUnlock()
					if by.User() == "" {
						return errAbsent
					}
					return nil
				}},
			}, peers["Authenticate/again"]...),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
