// Command denizen looks into a directory and operates it: a file, or a schema of a PostgreSQL
// database. Each subcommand is one function of the library.
//
//	go install github.com/denizenhq/denizen/cmd/denizen@latest
//	denizen help
//
// The directory is a file, given by -db, or the database that the environment variable DENIZEN_DSN
// names. A DSN and root keys are never arguments, because everybody on the machine reads those.
//
// # Exit codes
//
// They mean the same for each subcommand:
//
//	0    done
//	1    refused or failed: nothing was changed unless the text says so
//	2    not called rightly
//	3    something that is stored is damaged
//	4    another process has the file open
//	5    the outcome is unknown: look before you try again
//	130  interrupted: nothing is left half done
//
// # Output
//
// With -json it is one JSON object a line, in UTF-8, whose members stay; some may be added. Times
// are RFC 3339 in UTC. Without -json it is for people, and may change. Either way nothing that
// somebody chose, such as a screen name, reaches a terminal with control characters in it, nor with
// characters that change the direction of text. Progress goes to standard error, if that is a
// terminal or -progress asks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/ops"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], world{
		env: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		watched: isTerminal(os.Stdout), told: isTerminal(os.Stderr),
	}))
}

// world is what is around a run of the command.
type world struct {
	env            func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	watched        bool // stdout is a terminal
	told           bool // stderr is a terminal
}

// interruptible is a reader whose Read ends with a context. That of a terminal or a pipe would not:
// it waits for input, or for the end of who writes there.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	into, done := make([]byte, len(b)), make(chan result, 1)
	go func() {
		n, err := r.Reader.Read(into)
		done <- result{n, err}
	}()
	select {
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	case read := <-done:
		return copy(b, into[:read.n]), read.err
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDamaged     = 3
	exitHeld        = 4
	exitUnknown     = 5
	exitInterrupted = 130
)

// command is a subcommand.
type command struct {
	name, args string
	short      string // one line
	long       string
	min, max   int // of arguments
	// flags adds the flags of the subcommand, and returns what runs it.
	flags func(f *flag.FlagSet, s *session) func(ctx context.Context, args []string) error
}

// usageError says that the command was not called rightly.
type usageError string

func (e usageError) Error() string { return string(e) }

// errDamage says that what was asked for was done, and that damage was found, which was printed.
var errDamage = errors.New("something is damaged")

// errFound says that what was asked for was done, and that it was not all well, which was printed.
var errFound = errors.New("not all is well")

// run runs the command, and returns its exit code.
func run(ctx context.Context, args []string, w world) int {
	if len(args) == 0 {
		fmt.Fprint(w.stderr, usage())
		return exitUsage
	}
	name, args := args[0], args[1:]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		return help(args, w)
	}
	c := find(name)
	if c == nil {
		fmt.Fprintf(w.stderr, "denizen: no such command: %s\ndenizen help lists them\n", clean(name))
		return exitUsage
	}
	s := &session{world: w}
	s.stdin = interruptible{ctx, w.stdin}
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	s.common(f)
	do := c.flags(f, s)
	args, err := interspersed(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(w.stdout, c.help())
		return exitDone
	case err != nil:
		text := err.Error()
		if strings.HasPrefix(text, "flag provided but not defined") {
			text += ` (an id that begins with "-" stands after "--")`
		}
		err = usageError(text)
	case len(args) < c.min:
		err = usageError("something is missing")
	case len(args) > c.max:
		err = usageError("too many arguments")
	default:
		if err = s.identify(); err == nil {
			err = do(ctx, args)
		}
	}
	err = errors.Join(err, s.close())
	code := codeOf(ctx, err)
	s.explain(c, code, err)
	return code
}

// interspersed parses flags wherever they are among the arguments, up to "--".
func interspersed(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		left := f.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		if len(left) == 0 {
			return rest, nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

func codeOf(ctx context.Context, err error) int {
	_, badly := errors.AsType[usageError](err)
	_, held := errors.AsType[*heldError](err)
	switch {
	case err == nil:
		return exitDone
	case badly:
		return exitUsage
	case errors.Is(err, denizen.ErrOutcomeUnknown), errors.Is(err, store.ErrOutcomeUnknown):
		return exitUnknown
	case ctx.Err() != nil:
		return exitInterrupted
	case held:
		return exitHeld
	case errors.Is(err, errDamage), errors.Is(err, denizen.ErrCorrupt), errors.Is(err, store.ErrCorrupt):
		return exitDamaged
	}
	return exitFailed
}

// explain says on stderr what went wrong, and what to do.
func (s *session) explain(c *command, code int, err error) {
	if err == nil || errors.Is(err, errDamage) || errors.Is(err, errFound) {
		return
	}
	say := func(text string) { fmt.Fprintf(s.stderr, "denizen %s: %s\n", c.name, clean(text)) }
	switch code {
	case exitUsage:
		say(err.Error())
		fmt.Fprintf(s.stderr, "usage: denizen %s\ndenizen help %s says more\n", c.synopsis(), c.name)
		return
	case exitInterrupted:
		say("interrupted")
		return
	}
	e, isOurs := errors.AsType[*denizen.Error](err)
	if !isOurs {
		say(err.Error())
	} else {
		say(e.Error())
		because := ""
		if remote, ok := errors.AsType[*ops.RemoteError](err); ok {
			because = remote.Because
		} else if cause := e.Cause(); cause != nil {
			because = cause.Error()
		}
		if because != "" {
			say("because of " + because)
		}
		for _, missing := range e.Missing {
			say("this one: " + missing)
		}
	}
	for _, hint := range hints(err, e) {
		say(hint)
	}
}

// hints says what to do about an error.
func hints(err error, e *denizen.Error) (hints []string) {
	if held, ok := errors.AsType[*heldError](err); ok {
		return held.hints()
	}
	switch {
	case e != nil && e.Field == "RootKeys":
		hints = append(hints, "give the root keys by DENIZEN_ROOT_KEYS, or by -root-keys FILE")
	case e != nil && e.Resume != "":
		hints = append(hints, "go on after "+string(e.Resume))
	case errors.Is(err, bolt.ErrMode):
		hints = append(hints, "chmod 600 makes it the owner's alone")
	case errors.Is(err, denizen.ErrOutcomeUnknown), errors.Is(err, store.ErrOutcomeUnknown):
		hints = append(hints, "it was done whole or not at all: look, and then try again")
	}
	if errors.Is(err, store.ErrCorrupt) && errors.Is(err, errOpening) {
		hints = append(hints, "copy the file while nobody has it open, then see denizen help salvage and denizen help restore")
	}
	return hints
}
