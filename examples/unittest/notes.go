// Package unittest is a small service that lets people in through a user directory, and
// its unit tests, which are what it is here for: see notes_test.go.
package unittest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/denizenhq/denizen"
)

// ErrSignIn says that the caller is not signed in, or not any longer.
var ErrSignIn = errors.New("sign in first")

// Directory is what the service needs of a user directory. *denizen.Directory has it.
type Directory interface {
	Authenticate(ctx context.Context, signed string) (denizen.Principal, error)
	User(ctx context.Context, by denizen.Principal, id denizen.UserID) (denizen.User, error)
}

// Notes keeps notes of people, each seen by its author alone.
type Notes struct {
	people Directory

	mu    sync.Mutex
	notes map[string][]string // by the InternalID of their author
}

// NewNotes returns a service without notes.
func NewNotes(people Directory) *Notes {
	return &Notes{people: people, notes: map[string][]string{}}
}

// Write keeps a note of whoever the token stands for.
func (n *Notes) Write(ctx context.Context, signed, note string) error {
	author, err := n.author(ctx, signed)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes[author.InternalID] = append(n.notes[author.InternalID], author.ScreenName+": "+note)
	return nil
}

// Read returns the notes of whoever the token stands for, oldest first.
func (n *Notes) Read(ctx context.Context, signed string) ([]string, error) {
	author, err := n.author(ctx, signed)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.notes[author.InternalID]...), nil
}

// author returns the user behind a token. What the directory refuses is ErrSignIn. What it could
// not find out is passed on, as it is neither a yes nor a no.
func (n *Notes) author(ctx context.Context, signed string) (denizen.User, error) {
	by, err := n.people.Authenticate(ctx, signed)
	if err != nil {
		return denizen.User{}, refusal(err)
	}
	author, err := n.people.User(ctx, by, by.User())
	if err != nil {
		return denizen.User{}, refusal(err)
	}
	return author, nil
}

func refusal(err error) error {
	for _, kind := range []error{denizen.ErrUnauthenticated, denizen.ErrExpired, denizen.ErrRevoked} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrSignIn, err)
		}
	}
	return err
}
