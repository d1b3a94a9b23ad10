// Program import imports users into a directory in a file. They come from a CSV file, from the JSON
// of Firebase's auth:export or of PocketBase's records, or from a table in PostgreSQL.
//
//	go run ./examples/import -from csv -in examples/import/testdata/users.csv -db people.db -dry-run
//	go run ./examples/import -from csv -in examples/import/testdata/users.csv -db people.db
//	go run ./examples/import -db people.db -export people.jsonl
//
// Each source has a file here, with a mapping for you to change: which columns are the id, the name
// and the addresses, and whether the addresses were verified. Passwords are not imported: users
// sign in by proving their address.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/locator/external"
	"github.com/denizenhq/denizen/transfer"
)

// people yields the users of a source. It ends when the context of the source does.
type people = iter.Seq2[transfer.User, error]

// settings holds the flags.
type settings struct {
	from, in, query, db, export string
	dryRun, trust, takeFree     bool
}

// Keys of the attributes that the mappings set.
const (
	city   = "city"
	avatar = "avatar"
)

func main() {
	var s settings
	flag.StringVar(&s.from, "from", "", "csv, firebase, pocketbase, postgres or denizen")
	flag.StringVar(&s.in, "in", "", "the file to read, or for postgres a connection string")
	flag.StringVar(&s.query, "query", defaultQuery, "for postgres: what selects the users")
	flag.StringVar(&s.db, "db", "people.db", "the directory's file")
	flag.StringVar(&s.export, "export", "", "write everybody to this file afterwards")
	flag.BoolVar(&s.dryRun, "dry-run", false, "say what would come of each row, and write nothing")
	flag.BoolVar(&s.trust, "trust", false, "believe what the source says of verified addresses")
	flag.BoolVar(&s.takeFree, "take-free", false,
		"create users without the addresses that others have")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, out io.Writer) error {
	// The ids of users in other systems are locators, too, so other services can find users by
	// them.
	dir, err := denizen.Open(ctx, s.db, denizen.Options{
		LocatorTypes: []denizen.LocatorRule{external.Rule()},
	})
	if err != nil {
		return err
	}
	defer dir.Close()
	if s.from != "" {
		if err := bring(ctx, dir, s, out); err != nil {
			return err
		}
	}
	if s.export == "" {
		return nil
	}
	file, err := os.OpenFile(s.export, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	done, err := transfer.Export(ctx, dir, denizen.System(), file)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "exported %d users\n", done.Users)
	return file.Close()
}

// bring imports a source and prints the report.
func bring(ctx context.Context, dir *denizen.Directory, s settings, out io.Writer) error {
	o := transfer.Options{
		DryRun: s.dryRun, TrustVerified: s.trust,
		Define: []denizen.AttributeDef{{Key: city}, {Key: avatar, VisibleTo: denizen.ToPeers}},
		Each: func(r transfer.Result) error {
			for _, p := range r.Problems {
				fmt.Fprintf(out, "%s (%s)%s\n", p, r.Outcome, has(p))
			}
			return nil
		},
	}
	if s.takeFree {
		o.OnClash = transfer.TakeFree
	}
	users, closeSource, err := open(ctx, s, &o)
	if err != nil {
		return err
	}
	defer closeSource()
	report, err := transfer.Import(ctx, dir, denizen.System(), users, o)
	fmt.Fprintf(out, "%d rows: %d created, %d present, %d refused",
		report.Rows, report.Created, report.Present, report.Refused)
	if report.Partly > 0 {
		fmt.Fprintf(out, "; %d lack an address that another user has", report.Partly)
	}
	if report.Doubted > 0 {
		fmt.Fprintf(out, "; %d addresses were not believed to be verified", report.Doubted)
	}
	if s.dryRun {
		fmt.Fprint(out, "; nothing was written")
	}
	fmt.Fprintln(out)
	return err
}

// has returns who has what a row wanted. It leaves out the locator, because what is printed may end
// up in a log.
func has(p transfer.Problem) string {
	switch {
	case p.Owner != "":
		return ": it is of " + string(p.Owner)
	case p.OwnerRow > 0:
		return fmt.Sprintf(": row %d would have it", p.OwnerRow)
	}
	return ""
}

func open(
	ctx context.Context, s settings, o *transfer.Options,
) (users people, closeSource func(), err error) {
	if s.from == "postgres" {
		return fromPostgres(ctx, s.in, s.query)
	}
	file, err := os.Open(s.in)
	if err != nil {
		return nil, nil, err
	}
	closeSource = func() { _ = file.Close() }
	switch s.from {
	case "csv":
		return fromCSV(file), closeSource, nil
	case "firebase":
		return fromFirebase(file), closeSource, nil
	case "pocketbase":
		return fromPocketBase(file), closeSource, nil
	case "denizen":
		lines, err := transfer.Open(file)
		if err != nil {
			closeSource()
			return nil, nil, err
		}
		o.Define = lines.Definitions
		return lines.Users(), closeSource, nil
	}
	closeSource()
	return nil, nil, fmt.Errorf("-from %q is none of the sources", s.from)
}

// knownAs adds a locator for the id of a user in another system.
func knownAs(u *transfer.User, issuer, subject string) error {
	name, err := external.New(issuer, subject)
	u.Locators = append(u.Locators, transfer.Locator{Locator: name.Locator})
	return err
}

// bad returns the error that refuses a row.
func bad(field, rule string) error {
	return &denizen.Error{Kind: denizen.ErrInvalid, Field: field, Reason: rule}
}
