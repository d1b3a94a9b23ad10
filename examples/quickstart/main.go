// Command quickstart walks one person through a user directory that is kept in a file:
// who she is, how she is reached, what is known of her, whether she may come in, whether
// she is here. Run it twice: the second run finds what the first one left.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
)

func main() {
	path := flag.String("db", "quickstart.db", "the file of the directory, made if there is none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *path); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		if refused, ok := errors.AsType[*denizen.Error](err); ok {
			fmt.Fprintln(os.Stderr, "quickstart: because of", refused.Cause()) // for our own eyes
		}
		os.Exit(1)
	}
}

// The two attributes of the walk. A user writes her own bio, and the application alone
// how often she came.
const (
	bio    = "quickstart.bio"
	visits = "quickstart.visits"
)

func run(ctx context.Context, w io.Writer, path string) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	system := denizen.System() // this program itself, which may do everything

	say("The directory")
	dir, err := denizen.Open(ctx, path, denizen.Options{ApplicationID: "quickstart"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	people, err := dir.CountUsers(ctx, system)
	if err != nil {
		return err
	}
	say("  %s is open. Users in it: %d.", path, people)

	say("\nWho is she, and how is she reached?")
	alice, err := findOrCreate(ctx, say, dir)
	if err != nil {
		return err
	}
	_, err = dir.CreateUser(ctx, system, denizen.NewUser{
		ScreenName: "Eve",
		Locators:   []denizen.NewLocator{denizen.Email("ALICE@Example.org")},
	})
	if err := refused(err, denizen.ErrTaken); err != nil {
		return err
	}
	say("  Somebody else with ALICE@Example.org is refused, and nothing of it is kept:\n    %v", err)

	say("\nMay she come in?")
	issued, err := dir.IssueToken(ctx, system, alice.ID, denizen.TokenOptions{
		TTL: time.Hour, Label: "quickstart",
	})
	if err != nil {
		return err
	}
	say("  A token is issued to her, a JWT of %d bytes, good until %s.",
		len(issued.Signed), clock(issued.ExpiresAt))
	by, err := dir.Authenticate(ctx, issued.Signed)
	if err != nil {
		return err
	}
	say("  Whoever comes with it is %s, from here on.", by)

	say("\nWhat do we know of her?")
	if err := profile(ctx, say, dir, by); err != nil {
		return err
	}

	say("\nIs she here?")
	if err := presence(ctx, say, dir, by); err != nil {
		return err
	}

	say("\nMay she still come in?")
	extended, err := dir.ExtendToken(ctx, by, by.User(), by.Token(), 2*time.Hour)
	if err != nil {
		return err
	}
	say("  Her token is extended: a second text, good until %s, beside the first.",
		clock(extended.ExpiresAt))
	for _, signed := range []string{issued.Signed, extended.Signed} {
		if _, err := dir.Authenticate(ctx, signed); err != nil {
			return err
		}
	}
	say("  Both let her in.")
	if err := dir.RevokeTokens(ctx, system, alice.ID, issued.ID); err != nil {
		return err
	}
	for _, signed := range []string{issued.Signed, extended.Signed} {
		_, err = dir.Authenticate(ctx, signed)
		if err := refused(err, denizen.ErrRevoked); err != nil {
			return err
		}
	}
	say("  It is revoked, and neither does any longer:\n    %v", err)

	say("\nWhat happened?")
	if err := feed(ctx, say, dir); err != nil {
		return err
	}
	say("\nRun it again: all of this is in %s.", path)
	return nil
}

type printer func(format string, args ...any)

// findOrCreate returns Alice: the one that an earlier run left, found by her address, or a new one.
func findOrCreate(ctx context.Context, say printer, dir *denizen.Directory) (denizen.User, error) {
	found, err := dir.UsersByLocator(ctx, denizen.System(), []string{"email:alice@example.org"})
	if err != nil {
		return denizen.User{}, err
	}
	if len(found) == 1 {
		alice := found[0]
		say("  Found again by her address: %s, the same person since %s.",
			alice.ScreenName, clock(alice.CreatedAt))
		return alice, describe(ctx, say, dir, alice)
	}
	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{
		ScreenName: "Alice",
		Locators: []denizen.NewLocator{
			denizen.Email("alice@example.org"),
			denizen.Tele("+1 (201) 555-0123"),
		},
	})
	if err != nil {
		return denizen.User{}, err
	}
	say("  Created: %s, in one commit with what she is reached by.", alice.ScreenName)
	return alice, describe(ctx, say, dir, alice)
}

// describe says what the directory knows of Alice before this run changes it.
func describe(ctx context.Context, say printer, dir *denizen.Directory, alice denizen.User) error {
	say("    id        %s", alice.ID)
	for _, l := range alice.Locators {
		say("    %-9s %s, unique as %s", l.Type, l.Address, l.Canonical)
	}
	known, err := dir.Profile(ctx, denizen.System(), alice.ID)
	if err != nil {
		return err
	}
	for _, a := range known.Attributes {
		say("    profile   %s = %q", a.Key, a.Value)
	}
	now, err := dir.Presence(ctx, denizen.System(), alice.ID)
	if err != nil {
		return err
	}
	if !now.Since.IsZero() {
		say("    presence  by now %s, since %s: nothing ran meanwhile",
			name(now.Presence), clock(now.Since))
	}
	return nil
}

// profile defines two attributes and sets them, each by whom its definition lets.
func profile(ctx context.Context, say printer, dir *denizen.Directory, by denizen.Principal) error {
	for _, def := range []denizen.AttributeDef{
		{Key: bio, MaxBytes: 500},
		{Key: visits, NotEmpty: true, WritableBy: denizen.ToSystem},
	} {
		_, err := dir.DefineAttribute(ctx, denizen.System(), def)
		switch {
		case errors.Is(err, denizen.ErrTaken):
			say("  %s is defined already.", def.Key)
		case err != nil:
			return err
		default:
			say("  %s is defined now.", def.Key)
		}
	}

	written := denizen.Attribute{Key: bio, Value: "Down the hole."}
	_, err := dir.SetAttribute(ctx, by, by.User(), written)
	if err != nil {
		return err
	}
	_, err = dir.SetAttribute(ctx, by, by.User(), denizen.Attribute{Key: visits, Value: "1000"})
	if err := refused(err, denizen.ErrDenied); err != nil {
		return err
	}
	say("  She writes her bio. How often she came only the application writes:\n    %v", err)

	earlier := 0
	before, err := dir.Profile(ctx, by, by.User())
	if err != nil {
		return err
	}
	for _, a := range before.Attributes {
		if a.Key == visits {
			if earlier, err = strconv.Atoi(a.Value); err != nil {
				return err
			}
		}
	}
	counted := denizen.Attribute{Key: visits, Value: strconv.Itoa(earlier + 1)}
	// Written only if the profile is still the one that was read.
	_, err = dir.SetAttribute(ctx, denizen.System(), by.User(), counted, before.Version)
	if err != nil {
		return err
	}
	say("  The application does: visit %s.", counted.Value)

	err = dir.DeleteUser(ctx, by, by.User())
	if err := refused(err, denizen.ErrDenied); err != nil {
		return err
	}
	say("  And she deletes nobody, not even herself:\n    %v", err)
	return nil
}

// presence sets a chain of three states once and watches it run out by reading alone.
func presence(
	ctx context.Context, say printer, dir *denizen.Directory, by denizen.Principal,
) error {
	chain := denizen.Online(time.Second).Then(denizen.Away(2 * time.Second)).Then(denizen.Offline())
	if err := dir.SetPresence(ctx, by, by.User(), chain); err != nil {
		return err
	}
	say("  She says once: Online for 1 s, then Away for 2 s, then Offline. Read from then on:")
	for shown := (denizen.UserPresence{}); ; {
		now, err := dir.Presence(ctx, by, by.User())
		if err != nil {
			return err
		}
		if !now.Since.Equal(shown.Since) {
			say("    %s  %s", now.Since.Local().Format("15:04:05.000"), name(now.Presence))
			shown = now
		}
		if _, more := now.Presence.Next(); !more {
			break
		}
		wait := max(time.Until(now.Since.Add(now.Presence.TTL())), 10*time.Millisecond)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	// This one runs out while nothing runs.
	left := denizen.Online(2 * time.Second).Then(denizen.Away(time.Minute)).Then(denizen.Offline())
	if err := dir.SetPresence(ctx, by, by.User(), left); err != nil {
		return err
	}
	say("  For the next run she leaves: Online for 2 s, then Away for a minute, then Offline.")
	return nil
}

// feed tells the last of the changes, each of which was committed with its event.
func feed(ctx context.Context, say printer, dir *denizen.Directory) error {
	var events []denizen.Event
	for e, err := range dir.Events(ctx, denizen.System(), "") {
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	say("  The feed holds %d events, in the order of their commits. The last ones:", len(events))
	for _, e := range events[max(0, len(events)-5):] {
		say("    %4d  %-16s by %s", e.Seq, e.Kind, e.Actor)
	}
	return nil
}

// refused returns nil for an error of a kind. Any other is returned, and none at all is an error,
// too: what should have been refused was let through.
func refused(err, kind error) error {
	switch {
	case errors.Is(err, kind):
		return nil
	case err == nil:
		return fmt.Errorf("this should have been refused: %w", kind)
	}
	return err
}

func name(p denizen.Presence) string {
	if p.State() == "" {
		return "none"
	}
	return p.State()
}

func clock(t time.Time) string { return t.Local().Format(time.DateTime) }
