// Package door is the only way for other packages of this module to reach what the root does not
// export. The root sets [Of] and implements the interfaces. Package transfer uses them.
//
// The root imports this package, so it cannot name the root's types. A directory and a principal
// are passed as any. Anything else in their place panics.
package door

import (
	"context"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Of returns the door of a *denizen.Directory. The root sets it when the program is initialized.
var Of func(directory any) Directory

// Directory is what a directory does only for packages of this module. Its methods may be called by
// many goroutines at once, unless Serial reports true.
type Directory interface {
	// Serial reports whether the directory is for one goroutine at a time, as in a transaction.
	Serial() bool
	// Importer returns an Importer for a denizen.Principal. The principal is checked now and again
	// for every user.
	Importer(ctx context.Context, by any, o ImportOptions) (Importer, error)
	// People returns at most limit users whose ids come after one, in bytewise order. Each user and
	// its profile are from one snapshot. A page with fewer users than limit is the last one.
	People(ctx context.Context, by any, after string, limit int) ([]Person, error)
}

// Person is a user as it is stored.
type Person struct {
	ID      string
	User    *record.User
	Profile []record.Attribute
	Damaged bool // a record of it cannot be read; then User and Profile are empty
}

// ImportOptions are the settings of an import.
type ImportOptions struct {
	Trust    bool // believe a row that says that a locator is verified
	TakeFree bool // create a row with those of its locators that are free
	DryRun   bool // write nothing
}

// Importer creates users under the rules of CreateUser.
type Importer interface {
	// Define makes a definition if its key has none. A dry run only assumes that it was made.
	Define(ctx context.Context, def record.Definition) error
	// Prepare checks a row by all rules that need no store.
	Prepare(row Row) (Prepared, error)
	// Look reads from one snapshot what exists under the names of rows, so that Create need not try
	// to create users who exist. A dry run must call it before Create. If ctx has ended it returns
	// ErrUnavailable, also without rows.
	Look(ctx context.Context, rows []Prepared) error
	// Create creates a user in a commit of its own, or finds that it exists. Number is the number
	// of the row. In a dry run one goroutine must create the rows in their order.
	Create(ctx context.Context, row Prepared, number int) (Outcome, error)
}

// Row is a user to be created. Times are Unix milliseconds, 0 where the row does not say.
type Row struct {
	ID         string // empty: the first locator of type external identifies the user
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

// Prepared is a row that has passed the checks that need no store.
type Prepared interface {
	// Keys returns the keys of its id and its locators, which only one user can have.
	Keys() []store.Key
	// Doubted returns how many of its locators said that they were verified and were not believed.
	Doubted() int
}

// Outcome is what became of a row.
type Outcome struct {
	ID      string  // of the user who was created or exists
	There   bool    // the row was imported before: nothing was written
	Taken   []Taken // what others have: the id, or locators
	Refuse  bool    // nothing was written because of Taken
	Damaged bool    // nothing was written because a record of this user is damaged
}

// Taken is an id or a locator that is not free.
type Taken struct {
	Locator string // as the row spells it; empty: the id
	User    string // who has it; empty if Row is set
	Row     int    // the earlier row that would have it, in a dry run
	Rests   bool   // nobody has it, but it rests after its last owner gave it up
}
