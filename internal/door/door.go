// Package door is the one way by which packages beside the root reach what importers must not see.
// The root sets [Of] and implements the interfaces; package transfer goes through.
//
// It names no type of the root, which imports it: a directory and a principal are handed over as
// what they are, in an any, and it is a mistake of the program to hand over anything else.
package door

import (
	"context"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Of returns the door of a *denizen.Directory. The root sets it before any program begins.
var Of func(directory any) Directory

// Directory is what a directory does for packages of this module alone. Its methods may be called
// by many goroutines at once, unless Serial reports true.
type Directory interface {
	// Serial reports whether the directory is for one goroutine at a time, as in a transaction.
	Serial() bool
	// Importer returns what creates users for a denizen.Principal, who is judged now and with every
	// user.
	Importer(ctx context.Context, by any, o ImportOptions) (Importer, error)
	// People returns a page of users, in bytewise order of their ids, after one of them. Each user
	// and its profile are of one snapshot. A page that is shorter than limit is the last one.
	People(ctx context.Context, by any, after string, limit int) ([]Person, error)
}

// Person is a user as it is stored.
type Person struct {
	ID      string
	User    *record.User
	Profile []record.Attribute
	Damaged bool // it cannot be read; User and Profile are empty
}

// ImportOptions are the settings of an import.
type ImportOptions struct {
	Trust    bool // what a row says of verification is believed
	TakeFree bool // a row is created with those of its locators that are free
	DryRun   bool // nothing is written
}

// Importer creates users under the rules of CreateUser.
type Importer interface {
	// Define makes a definition where there is none under its key. In a dry run it is only taken to
	// be there.
	Define(ctx context.Context, def record.Definition) error
	// Prepare judges a row by all rules that need no store.
	Prepare(row Row) (Prepared, error)
	// Look reads what the directory has under the names of rows, in one snapshot. It saves Create
	// the attempt to create who is there already. A dry run cannot do without it. Once ctx has ended
	// it returns ErrUnavailable, whatever the rows.
	Look(ctx context.Context, rows []Prepared) error
	// Create creates a user in a commit of its own, or finds it there. Number is that of the row. In a
	// dry run rows are created in their order, and by one goroutine.
	Create(ctx context.Context, row Prepared, number int) (Outcome, error)
}

// Row is a user to be created. Times are Unix milliseconds, 0 where the row does not say.
type Row struct {
	ID         string // empty: the user is known by the first locator of type external
	ScreenName string
	Blocked    bool
	Created    int64
	Updated    int64
	Locators   []Locator
	Attributes []record.Attribute
}

// Locator is a locator of a row, in its serialized form.
type Locator struct {
	Locator  string
	Status   string
	Claim    bool
	Added    int64
	Verified int64
}

// Prepared is a row that breaks no rule by itself.
type Prepared interface {
	// Keys returns the keys that only one user can have: of its id and of its locators.
	Keys() []store.Key
	// Doubted returns how many of its locators said that they were verified and are not believed.
	Doubted() int
}

// Outcome is what came of a row.
type Outcome struct {
	ID      string  // of the user who was created, or is there
	There   bool    // the row was imported before: nothing was written
	Taken   []Taken // what others have: the id, or locators
	Refuse  bool    // nothing was written because of Taken
	Damaged bool    // nothing was written because a record of this user is damaged
}

// Taken is an id or a locator that another user has.
type Taken struct {
	Locator string // as the row spells it; empty: the id
	User    string // who has it; empty if Row is set
	Row     int    // the earlier row that would have it, in a dry run
	Rests   bool   // nobody has it, but it rests after its last owner gave it up
}
