package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store"
	"github.com/denizenhq/denizen/store/bolt"
	"github.com/denizenhq/denizen/transfer"
)

// copied is what is printed of a copy.
type copied struct {
	To   string    `json:"to"`
	Head store.Seq `json:"head"`
	Read int64     `json:"read"` // records and events
}

var copyCommand = &command{
	name: "copy", short: "copies a directory into another store",
	long: `
Copies the whole directory into a new file, given by -to, or into the empty schema -to-schema of the
database that DENIZEN_TO_DSN names. Tokens, keys and cursors are good there. Stop the service first:
what is written meanwhile fails the copy. It needs no root key.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		to := f.String("to", "", "`FILE` to make; without it DENIZEN_TO_DSN names a database")
		schema := f.String("to-schema", "denizen", "schema of that database: its `NAME`")
		return func(ctx context.Context, _ []string) error {
			if *to == "" && s.env("DENIZEN_TO_DSN") == "" {
				return usageError("where to? Give a file by -to, or set DENIZEN_TO_DSN")
			}
			if isDSN(*to) {
				return usageError("-to is a file; a DSN is given by DENIZEN_TO_DSN, because everybody on the machine reads arguments")
			}
			from, err := s.openStore(ctx)
			if err != nil {
				return err
			}
			defer s.progress(s.reading)()
			if *to != "" {
				if err := newStore(*to, func(made string) error {
					file, err := bolt.Open(ctx, made, bolt.Options{})
					if err != nil {
						return err
					}
					return errors.Join(store.Copy(ctx, file, from), file.Close())
				}); err != nil {
					return err
				}
			} else {
				db, err := s.openDatabase(ctx, s.env("DENIZEN_TO_DSN"), *schema, true)
				if err != nil {
					return err
				}
				err = store.Copy(ctx, db, from)
				if errors.Is(err, store.ErrNotEmpty) {
					return fmt.Errorf("the schema %s has a directory already", *schema)
				}
				if err != nil {
					return err
				}
			}
			feed, err := from.Changes(ctx, store.End, 1)
			if err != nil {
				return err
			}
			out := copied{*to, feed.Head, s.read.Load()}
			if *to == "" {
				out.To = "schema " + *schema
			}
			return s.print(out, func(line func(string, ...any)) {
				line("copied all to %s, at %d", out.To, uint64(out.Head))
			})
		}
	},
}

// openStore opens the store of the directory, without the directory.
func (s *session) openStore(ctx context.Context) (store.Store, error) {
	isFile, err := s.isFile()
	if err != nil {
		return nil, err
	}
	if isFile {
		err := s.openFile(ctx)
		return countedFile{s.file, &s.read}, err
	}
	db, err := s.openDatabase(ctx, s.env("DENIZEN_DSN"), s.schema, false)
	return countedDatabase{db, &s.read}, err
}

// row is a problem of a row of an import.
type row struct {
	Row   int            `json:"row"`
	ID    denizen.UserID `json:"id,omitempty"`
	Field string         `json:"field"`
	Rule  string         `json:"rule"`
	Value string         `json:"value,omitempty"` // only if asked
	Owner denizen.UserID `json:"owner,omitempty"`
}

// imported is what is printed of an import, after its problems.
type imported struct {
	DryRun  bool `json:"dryRun,omitempty"`
	Rows    int  `json:"rows"`
	Created int  `json:"created"`
	Present int  `json:"present"`
	Skipped int  `json:"skipped"`
	Refused int  `json:"refused"`
	Partly  int  `json:"partly"`
	Doubted int  `json:"doubted"`
}

var importCommand = &command{
	name: "import", args: "FILE|-", short: "creates the users of a file of JSON Lines",
	min: 1, max: 1,
	long: `
Creates the users of a file that denizen export wrote, or of any other of that form. Users who exist
are left as they are, so it may be run again. What cannot be created is printed, and the exit code is
then 1. Begin with -dry-run, which writes nothing. See docs/import.md.

User names are checked by the rule of package locator/username as it is without options. With rules
of your own import by package transfer.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		var o transfer.Options
		fresh := f.Bool("new", false, "make the directory, if there is none")
		f.BoolVar(&o.DryRun, "dry-run", false, "say what would be done, and write nothing")
		f.BoolVar(&o.TrustVerified, "trust-verified", false, "believe that locators were verified where the file says so")
		f.Func("on-clash", "what becomes of a row that wants what another user has: `refuse|skip|take-free`; refuse unless set", func(v string) error {
			way, ok := map[string]transfer.OnClash{"refuse": transfer.Refuse, "skip": transfer.Skip, "take-free": transfer.TakeFree}[v]
			if !ok {
				return errors.New("must be refuse, skip or take-free")
			}
			o.OnClash = way
			return nil
		})
		return func(ctx context.Context, args []string) error {
			in := s.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = interruptible{ctx, f}
			}
			file, err := transfer.Open(in)
			if err != nil {
				return err
			}
			if *fresh {
				err = s.make(ctx)
			} else {
				err = s.open(ctx)
			}
			if err != nil {
				return err
			}
			var rows atomic.Int64
			defer s.progress(func() string { return fmt.Sprintf("%d rows", rows.Load()) })()
			o.Define = file.Definitions
			o.Progress = func(r transfer.Report) { rows.Store(int64(r.Rows)) }
			o.Each = func(r transfer.Result) error {
				for _, p := range r.Problems {
					v := row{Row: p.Row, ID: p.ID, Field: p.Field, Rule: p.Rule, Owner: p.Owner}
					if s.reveal {
						v.Value = p.Value
					}
					if err := s.print(v, func(line func(string, ...any)) {
						line("row %d %s: %s %s %s", v.Row, v.ID, v.Field, v.Rule, v.Value)
					}); err != nil {
						return err
					}
				}
				return nil
			}
			r, err := transfer.Import(ctx, s.dir, s.by, file.Users(), o)
			v := imported{o.DryRun, r.Rows, r.Created, r.Present, r.Skipped, r.Refused, r.Partly, r.Doubted}
			printed := s.print(v, func(line func(string, ...any)) {
				would := ""
				if v.DryRun {
					would = "nothing was written; this would become of it: "
				}
				line("%s%d rows: %d created (%d of them partly), %d there already, %d skipped, %d refused",
					would, v.Rows, v.Created, v.Partly, v.Present, v.Skipped, v.Refused)
			})
			if err = errors.Join(err, printed); err == nil && r.Refused > 0 {
				err = errFound
			}
			return err
		}
	},
}

// make opens the directory, and makes it if there is none.
func (s *session) make(ctx context.Context) error {
	isFile, err := s.isFile()
	if err != nil {
		return err
	}
	if !isFile {
		db, err := s.openDatabase(ctx, s.env("DENIZEN_DSN"), s.schema, true)
		if err != nil {
			return err
		}
		return s.openIn(ctx, countedDatabase{db, &s.read})
	}
	if _, err := os.Stat(s.db); err == nil {
		if err := s.openFile(ctx); err != nil {
			return err
		}
		return s.openIn(ctx, countedFile{s.file, &s.read})
	}
	file, err := bolt.Open(ctx, s.db, bolt.Options{LockTimeout: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	s.file = file
	s.closing = append(s.closing, file.Close)
	return s.openIn(ctx, countedFile{file, &s.read})
}

// exported is what is printed of an export.
type exported struct {
	File    string           `json:"file"`
	Users   int              `json:"users"`
	First   denizen.Cursor   `json:"first"`
	Last    denizen.Cursor   `json:"last"`
	Damaged []denizen.UserID `json:"damaged"`
}

var exportCommand = &command{
	name: "export", args: "FILE|-", short: "writes all users as JSON Lines, or one person",
	min: 1, max: 1,
	long: `
Writes all users with their locators, attributes and times, for denizen import. It holds no secrets
and nothing that lets anybody sign in. With -user it writes everything that is stored of one person,
for that person to have. The file has mode 0600, and replaces none.`,
	flags: func(f *flag.FlagSet, s *session) func(context.Context, []string) error {
		user := f.String("user", "", "one person: `ID|LOCATOR|-`")
		return func(ctx context.Context, args []string) error {
			var id denizen.UserID
			var err error
			if *user != "" {
				id, err = s.user(ctx, *user)
			} else {
				err = s.open(ctx)
			}
			if err != nil {
				return err
			}
			out := exported{File: args[0], Users: 1, Damaged: []denizen.UserID{}}
			write := func(w io.Writer) error {
				if id != "" {
					return s.dir.ExportUser(ctx, s.by, id, w)
				}
				r, err := transfer.Export(ctx, s.dir, s.by, w)
				out.Users, out.First, out.Last = r.Users, r.First, r.Last
				out.Damaged = append(out.Damaged, r.Damaged...)
				return err
			}
			end := s.progress(s.reading)
			if args[0] == "-" {
				var w io.Writer = s.stdout
				if s.watched {
					w = cleaningWriter{w}
				}
				err = write(w)
			} else {
				err = newFile(args[0], write, nil)
			}
			end()
			if err != nil {
				return err
			}
			if args[0] != "-" {
				if err := s.print(out, func(line func(string, ...any)) {
					line("wrote %d users to %s", out.Users, out.File)
				}); err != nil {
					return err
				}
			}
			for _, id := range out.Damaged {
				s.note("damaged: %s", id)
			}
			if len(out.Damaged) > 0 {
				return errDamage
			}
			return nil
		}
	},
}

// cleaningWriter makes JSON fit for a terminal. Each Write must be of whole characters.
type cleaningWriter struct{ io.Writer }

func (w cleaningWriter) Write(b []byte) (int, error) {
	if _, err := w.Writer.Write(cleanJSON(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
