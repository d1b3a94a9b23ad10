package main

import (
	"flag"
	"fmt"
	"strings"
)

// all returns the subcommands in the order of the help.
func all() []*command {
	return []*command{
		statCommand, usersCommand, userCommand, tokensCommand, keysCommand, feedCommand, verifyCommand,
		revokeCommand, blockCommand, unblockCommand, eraseCommand, rekeyCommand,
		backupCommand, restoreCommand, compactCommand, salvageCommand, copyCommand, importCommand, exportCommand,
	}
}

func find(name string) *command {
	for _, c := range all() {
		if c.name == name {
			return c
		}
	}
	return nil
}

func usage() string {
	var b strings.Builder
	b.WriteString("denizen looks into a user directory and operates it.\n\n" +
		"usage: denizen COMMAND [flags] [arguments]\n\n")
	for _, c := range all() {
		fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.short)
	}
	b.WriteString(`
The directory is the file given by -db, or the PostgreSQL database named by DENIZEN_DSN. Root keys
are in DENIZEN_ROOT_KEYS, with commas between them, or in a file given by -root-keys. If a process
has the file open and serves a socket, what reads goes through that.

denizen help COMMAND says more. Exit codes: 0 done, 1 refused or failed, 2 not called rightly,
3 damage, 4 another process has the file open, 5 the outcome is unknown, 130 interrupted.
`)
	return b.String()
}

func help(args []string, w world) int {
	if len(args) == 0 {
		fmt.Fprint(w.stdout, usage())
		return exitDone
	}
	c := find(args[0])
	if c == nil {
		fmt.Fprintf(w.stderr, "denizen: no such command: %s\n", clean(args[0]))
		return exitUsage
	}
	fmt.Fprint(w.stdout, c.help())
	return exitDone
}

func (c *command) synopsis() string {
	return strings.TrimSpace(c.name + " [flags] " + c.args)
}

func (c *command) help() string {
	s := &session{}
	own, common := flag.NewFlagSet("", flag.ContinueOnError), flag.NewFlagSet("", flag.ContinueOnError)
	c.flags(own, s)
	s.common(common)
	var b strings.Builder
	fmt.Fprintf(&b, "usage: denizen %s\n\n%s\n", c.synopsis(), strings.TrimSpace(c.long))
	for _, part := range []struct {
		title string
		flags *flag.FlagSet
	}{{"Flags", own}, {"Flags of every command", common}} {
		first := true
		part.flags.VisitAll(func(f *flag.Flag) {
			if first {
				fmt.Fprintf(&b, "\n%s:\n", part.title)
				first = false
			}
			value, text := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimSpace("-"+f.Name+" "+value), text)
		})
	}
	return b.String()
}
