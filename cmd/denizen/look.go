package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/store"
)

// look prints what a query yields, and returns errDamage if any of it is damaged.
func look[T any](
	ctx context.Context, s *session, q ops.Query, human func(v *T, line func(string, ...any)),
	isDamaged func(*T) bool,
) (n int, err error) {
	source, err := s.source(ctx)
	if err != nil {
		return 0, err
	}
	q.Reveal = s.reveal
	if !s.watched {
		defer s.progress(s.reading)()
	}
	damaged := false
	for v, err := range source.Read(ctx, q) {
		if err != nil {
			return n, err
		}
		n++
		v := v.(*T)
		damaged = damaged || isDamaged(v)
		if err := s.print(v, func(line func(string, ...any)) { human(v, line) }); err != nil {
			return n, err
		}
	}
	if damaged {
		err = errDamage
	}
	return n, err
}

var statCommand = &command{
	name: "stat", short: "figures of the directory, and whether it is well",
	long: `
Prints how many users there are and who is here, the feed and its consumers, keys, caches, and
whether all is well. Counters are of the process that has the directory open. The exit code is 3 if
something is damaged, and 1 if it is not well for another reason.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, _ []string) error {
			var health string
			_, err := look(ctx, s, ops.Query{What: ops.Stat}, func(v *ops.Figures, line func(string, ...any)) {
				line("directory     %s", v.Directory)
				line("application   %s", v.Application)
				line("users         %d", v.Users)
				here := make([]string, 0, len(v.Present))
				for _, state := range slices.Sorted(maps.Keys(v.Present)) {
					here = append(here, fmt.Sprintf("%d %s", v.Present[state], short(state)))
				}
				line("here          %s", orNone(strings.Join(here, ", ")))
				line("feed          %d to %d", v.First, v.Head)
				for _, c := range v.Consumers {
					state := ""
					if c.Missed {
						state += ", missed events"
					}
					if c.Stuck {
						state += ", stuck"
					}
					line("consumer      %s, %d behind%s", c.Name, c.Behind, state)
				}
				line("access keys   %d", v.AccessKeys)
				line("signing keys  %d", v.SigningKeys)
				line("root key      %s", v.RootKey)
				if v.File != nil {
					line("file          %s, %s of them free%s", size(v.File.Bytes), size(v.File.Free), worth(v.File.WorthCompacting))
				}
				line("commits       %d, %d failed, %d waiting", v.Commits.Applied, v.Commits.Failed, v.Commits.Waiting)
				line("remembered    %s of records, %s of tokens", size(v.Records.Bytes), size(v.Tokens.Bytes))
				line("health        %s", strings.TrimSuffix(v.Health+": "+v.Problem, ": "))
			}, func(v *ops.Figures) bool { health = v.Health; return v.Health == ops.Damaged })
			if err == nil && health != ops.OK {
				err = errFound
			}
			return err
		}
	},
}

func worth(compacting bool) string {
	if compacting {
		return ": worth denizen compact"
	}
	return ""
}

// short returns the name of a state without what the names of the library begin with.
func short(state string) string {
	return strings.TrimPrefix(state, strings.TrimSuffix(denizen.StateOnline, "Online"))
}

func orNone(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

var usersCommand = &command{
	name: "users", short: "lists all users",
	long: `
Prints all users in the order of their ids, with the locators that they own. Locators are masked
unless -reveal is given. Users who cannot be read are named, and the exit code is 3.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		blocked := f.Bool("blocked", false, "only users who are blocked")
		return func(ctx context.Context, _ []string) error {
			_, err := look(ctx, s, ops.Query{What: ops.Users, Blocked: *blocked}, func(u *ops.User, line func(string, ...any)) {
				if u.Damaged {
					line("%-36s  DAMAGED", u.ID)
					return
				}
				state := ""
				if u.Blocked {
					state = "  BLOCKED" + until(u.BlockedUntil)
				}
				line("%-36s  %s  %s%s%s", u.ID, when(u.CreatedAt), u.ScreenName, listed(u.Locators), state)
			}, func(u *ops.User) bool { return u.Damaged })
			return err
		}
	},
}

func listed(locators []string) string {
	if len(locators) == 0 {
		return ""
	}
	return "  " + strings.Join(locators, " ")
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + when(t)
}

var userCommand = &command{
	name: "user", args: "ID|LOCATOR|-", short: "all of one person",
	min: 1, max: 1,
	long: `
Prints a person: locators, attributes, devices, live tokens, and those of the newest 10000 events
that are about the person. Locators are masked and attributes left out unless -reveal is given. A
dash stands for a line of standard input: locators do not belong into arguments.

	echo email:alice@example.org | denizen user -db people.db -`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		return func(ctx context.Context, args []string) error {
			ref, err := s.ref(args[0])
			if err != nil {
				return err
			}
			_, err = look(ctx, s, ops.Query{What: ops.Person, User: ref}, person,
				func(w *ops.Whole) bool { return len(w.DamagedRecords) > 0 })
			return err
		}
	},
}

func person(w *ops.Whole, line func(string, ...any)) {
	line("id            %s", w.ID)
	line("internal id   %s", w.InternalID)
	line("screen name   %s", w.ScreenName)
	line("created       %s", when(w.CreatedAt))
	line("updated       %s", when(w.UpdatedAt))
	line("last active   %s", when(w.LastActiveAt))
	if w.Blocked {
		line("BLOCKED       %s%s", w.BlockReason, until(w.BlockedUntil))
	}
	for _, l := range w.Locators {
		claim := ""
		if !l.Owned {
			claim = ", a claim"
		}
		line("locator       %s, %s%s", l.Locator, l.Status, claim)
	}
	for _, a := range w.Attributes {
		if a.Value == "" {
			line("attribute     %s, %d bytes", a.Key, a.Bytes)
		} else {
			line("attribute     %s = %s", a.Key, a.Value)
		}
	}
	for _, d := range w.Devices {
		line("device        %s, %s since %s%s", orDefault(d.Device), short(d.State), when(d.Since), until(d.Until))
	}
	for _, t := range w.Tokens {
		line("token         %s  %s, expires %s, last used %s", t.ID, t.Label, when(t.ExpiresAt), when(t.LastUsedAt))
	}
	for _, kind := range w.DamagedRecords {
		line("DAMAGED       %s", kind)
	}
	line("events        %d of the newest %d", len(w.Events), w.Searched)
	for _, e := range w.Events {
		event(&e, line)
	}
}

func orDefault(device string) string {
	if device == "" {
		return "(default)"
	}
	return device
}

var tokensCommand = &command{
	name: "tokens", short: "lists live tokens, of all users or some",
	long: `
Prints the live tokens of all users, or those that all of the flags let through. It shows no signed
text: the directory does not have it.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		user := f.String("user", "", "only those of a user: `ID|LOCATOR|-`")
		key := f.String("access-key", "", "only those that were issued with an access `KEY`")
		unused := f.Duration("unused", 0, "only those that were not used for a `TIME`, such as 720h")
		return func(ctx context.Context, _ []string) error {
			q := ops.Query{What: ops.Tokens, AccessKey: *key, Unused: *unused}
			if *unused < 0 {
				return usageError("-unused must not be negative")
			}
			if *user != "" {
				var err error
				if q.User, err = s.ref(*user); err != nil {
					return err
				}
			}
			_, err := look(ctx, s, q, func(t *ops.Token, line func(string, ...any)) {
				if t.Damaged {
					line("%-36s  DAMAGED", t.User)
					return
				}
				line("%-36s  %s  expires %s  used %s  %s", t.User, t.ID, when(t.ExpiresAt), when(t.LastUsedAt), t.Label)
			}, func(t *ops.Token) bool { return t.Damaged })
			return err
		}
	},
}

var feedCommand = &command{
	name: "feed", short: "prints what happened, and follows what happens",
	long: `
Prints the events of the feed, oldest first. With -f it waits for more until it is interrupted. Each
event has a cursor in its JSON, and -after goes on there.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		after := f.String("after", "", "only those after a `CURSOR`")
		newest := f.Int("n", 0, "only the newest `NUMBER`, up to 10000; -kind and -user choose among those")
		follow := f.Bool("f", false, "wait for more")
		kind := f.String("kind", "", "only those of a `KIND`, such as user.blocked, or of all that begin with user.")
		user := f.String("user", "", "only those about a user: its `ID`")
		return func(ctx context.Context, _ []string) error {
			if *newest < 0 || *newest > ops.MaxNewest || *newest > 0 && *after != "" {
				return usageError("-n must be 0 to 10000, and does not go with -after")
			}
			_, err := look(ctx, s, ops.Query{
				What: ops.Feed, After: denizen.Cursor(*after), Newest: *newest, Follow: *follow, Kind: *kind, User: *user,
			}, event, func(e *ops.Event) bool { return e.Damaged })
			if *follow && ctx.Err() != nil {
				return nil // as it was asked
			}
			return err
		}
	},
}

func event(e *ops.Event, line func(string, ...any)) {
	if e.Damaged {
		line("%8d  DAMAGED", uint64(e.Seq))
		return
	}
	by := e.Actor
	if e.AccessKey != "" {
		by += " by " + e.AccessKey
	}
	if e.Operator != "" {
		by += ", " + e.Operator
	}
	about := string(e.User)
	if e.Other != "" {
		about += " and " + string(e.Other)
	}
	line("%8d  %s  %-22s %s  (%s)%s", uint64(e.Seq), when(e.At), e.Kind, about, by, listed(e.Subjects))
}

var verifyCommand = &command{
	name: "verify", short: "reads everything and looks for damage; or checks a backup",
	long: `
Reads every record and every event, and prints what cannot be read and what contradicts the rest. Of
a file it checks every page first. Through a socket it cannot check the pages: denizen backup does,
of what it wrote. The exit code is 3 if there is damage.

With -backup it checks a backup instead, which needs no root key.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		backup := f.String("backup", "", "`FILE` of a backup to check")
		return func(ctx context.Context, _ []string) error {
			if *backup != "" {
				return s.verifyBackup(ctx, *backup)
			}
			pages := s.verifyPages(ctx)
			if pages != nil && !errors.Is(pages, store.ErrCorrupt) {
				return pages
			}
			if pages != nil {
				s.note("the file: %v", pages)
			}
			n, err := look(ctx, s, ops.Query{What: ops.Verify}, func(d *ops.Damage, line func(string, ...any)) {
				where := string(d.User)
				if d.Seq != 0 {
					where = fmt.Sprint(d.Seq)
				}
				line("%s %s: %s", d.Record, where, d.Reason)
			}, func(*ops.Damage) bool { return true })
			if err == nil || err == errDamage {
				s.note("%d damaged", n)
			}
			if err == nil && pages != nil {
				err = errDamage
			}
			return err
		}
	},
}

// verifyPages checks the pages of a file, unless another process has it open.
func (s *session) verifyPages(ctx context.Context) error {
	if s.socket != "" {
		return nil
	}
	isFile, err := s.isFile()
	if err != nil || !isFile {
		return err
	}
	if remote, _ := s.remote(ctx); remote != nil {
		s.note("a process has the file open: its pages are not checked")
		return nil
	}
	if err := s.openFile(ctx); err != nil {
		return err
	}
	defer s.progress(func() string { return "checking pages" })()
	err = s.file.Verify(ctx)
	if closed := s.close(); err == nil {
		err = closed
	}
	s.file = nil
	return err
}
