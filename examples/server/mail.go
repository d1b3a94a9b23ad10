package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/denizenhq/denizen/signin"
)

// message is what a service sends by mail, or as a text message.
type message struct {
	To   string `json:"to"` // such as email:alice@example.org
	Text string `json:"text"`
}

// write writes the message to be sent. Each says what it is for: who is asked for a code of its own
// by somebody else should see what that person is after.
func write(d signin.Delivery) message {
	var text string
	switch d.Purpose {
	case signin.SignIn:
		text = "Sign in with the code " + d.Code + ", where you asked for it."
		if d.Link != "" {
			text = "Sign in with this link, in the browser in which you asked for it: " + d.Link
		}
	case signin.Verify, signin.Change:
		text = "Somebody who is signed in says that this address is theirs. " +
			"If that is you, the code is " + d.Code + "."
	case signin.Notice:
		text = "What you sign in by was changed."
		if d.Removed {
			text = "This address was taken from what you sign in by."
		}
		if d.Undo == "" {
			return message{string(d.Type) + ":" + d.Address, text}
		}
		text += " If that was not you, undo it and sign out everywhere, until " +
			d.Expires.UTC().Format("2 January 15:04 UTC") + ": " + d.Undo
		return message{string(d.Type) + ":" + d.Address, text}
	}
	text += " It is good for ten minutes. Nobody of us asks you for it."
	return message{string(d.Type) + ":" + d.Address, text}
}

// deliverer sends a message: see signin.Options.Deliver.
type deliverer = func(context.Context, signin.Delivery) error

// inLog shows messages in the log. Here a service sends them.
func inLog(log *slog.Logger) deliverer {
	return func(ctx context.Context, d signin.Delivery) error {
		m := write(d)
		log.InfoContext(ctx, "here a service sends a message", "to", m.To, "text", m.Text)
		return nil
	}
}

// mailbox appends messages to a file, one line of JSON each, for development and tests.
type mailbox struct {
	mu   sync.Mutex
	file io.WriteCloser
}

func openMailbox(path string) (*mailbox, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("-mailbox %w", err)
	}
	return &mailbox{file: file}, nil
}

func (b *mailbox) deliver(_ context.Context, d signin.Delivery) error {
	line, err := json.Marshal(write(d))
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err = b.file.Write(append(line, '\n'))
	return err
}

func (b *mailbox) Close() error { return b.file.Close() }
