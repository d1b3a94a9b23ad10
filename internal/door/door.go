// Package door is the only way for other packages of this module to reach what the root does not
// export. The root sets [Of] and implements the interfaces. Packages transfer, signin and
// webhook use them.
//
// The root imports this package, so it cannot name the root's types. A directory and a principal
// are passed as any. Anything else in their place panics.
package door

import (
	"context"
	"time"

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
	// Closing is closed once the directory is being closed. It is of no use if Serial.
	Closing() <-chan struct{}
	// Importer returns an Importer for a denizen.Principal. The principal is checked now and again
	// for every user.
	Importer(ctx context.Context, by any, o ImportOptions) (Importer, error)
	// List returns the ids of at most limit users that come after an id, in bytewise order. A page
	// of fewer is the last one.
	List(ctx context.Context, by any, after string, limit int) ([]string, error)
	// People returns users, all from one snapshot. Those who do not exist are left out.
	People(ctx context.Context, by any, ids []string) ([]Person, error)
	// Verifier returns a Verifier for a denizen.Principal.
	Verifier(ctx context.Context, by any) (Verifier, error)
	Proofs
	Changes
	// Deliver is Notify with batches that stay the same: the bounds of one are stored before it is
	// tried first, and hold until it is handled or its events are forgotten.
	Deliver(ctx context.Context, by any, name string, c Consumer) error
}

// Consumer handles batches of events, which are each a []denizen.Event.
type Consumer interface {
	// Fit returns how many events of a batch, from its first, are one batch: at least one. It also
	// reports whether one of those is wanted. If none is, they count as handled.
	Fit(batch any) (n int, wanted bool)
	// Handle handles a batch that was tried first at a time, which is kept to the millisecond.
	Handle(ctx context.Context, begun time.Time, batch any) error
}

// Verifier is what package verify needs of a directory. All its errors are those of Verify.
type Verifier interface {
	// Records returns records of every kind after a key, in bytewise order. A page with less than
	// limit is the last one. The caller is checked after they were read.
	Records(ctx context.Context, after store.Key, limit int) ([]store.Record, error)
	// Get returns records from one snapshot.
	Get(ctx context.Context, keys ...store.Key) ([]store.Record, error)
	// Events returns events after a place, or after those that were forgotten.
	Events(ctx context.Context, after store.Seq, limit int) (store.Feed, error)
	// Opens reports whether the secrets in a record can be opened.
	Opens(value any) (bool, error)
	// Damaged notes a record that cannot be read, for Directory.Health.
	Damaged(key store.Key)
}

// Proofs is how proofs are stored. Codes are made, sent and asked for by package signin.
type Proofs interface {
	// StartProof counts a start and stores a proof, in one commit. If SignIn is empty the proof is
	// of a locator of the user that by is, who needs a live token. Too many starts are ErrLimited
	// with RetryAfter. Nothing depends on who owns the locator.
	StartProof(ctx context.Context, by any, s ProofStart) (StartedProof, error)
	// FinishSignIn uses up a proof, and makes whoever gave its secret the user of its locator, in
	// one commit: see Directory.ProveLocator. Newcomer is a *denizen.NewUser, nil if nobody is
	// created. It returns a denizen.User. A wrong secret costs a try, and is ErrDenied with Field
	// "proof".
	FinishSignIn(ctx context.Context, by any, handle, secret string, newcomer any) (any, string, error)
	// FinishOwn uses up a proof of a locator of the user that by is, who needs a live token, or of
	// what replaces that, and makes it Verified and owned. It returns a denizen.Locator.
	FinishOwn(ctx context.Context, by any, locatorID, handle, secret string) (any, error)
	// Addressee returns where to send what is for the owner of a locator, if somebody owns it.
	Addressee(ctx context.Context, by any, locator string) (address string, owned bool, err error)
	// GiveBack makes a start count no more.
	GiveBack(ctx context.Context, s StartedProof) error
	// Forget drops records of proofs, whatever is stored of them.
	Forget(ctx context.Context, keys ...store.Key) error
	// ProofMAC authenticates a text under a key of the directory, for a use.
	ProofMAC(use, text string) []byte
}

// ProofStart is a proof to be started.
type ProofStart struct {
	SignIn    string // the serialized locator of who wants to sign in
	LocatorID string // otherwise that of the caller's own locator
	Replaced  string // what replaces that, serialized; empty: it is proved itself
	Secret    string // that is sent
	Client    string // whom the start counts for
	Device    string // a device that signed in by the locator before; may be empty
}

// StartedProof is a proof that was started.
type StartedProof struct {
	Handle    string
	Locator   string // type:canonical
	Type      string
	Address   string // where to send to, unless somebody owns the locator
	Expires   int64
	Proof     store.Key
	Starts    store.Key // where the start is counted
	StartName string    // in the record of the starts
}

// Changes is how users change what they are reached by.
type Changes interface {
	// OnChange sets what is called with each change that a user makes to what it is reached by, once
	// it is committed or may have been. Notify must not block. Without it, or with nil, nobody can
	// undo a change.
	OnChange(notify func(Change))
	// Undo undoes a change of which somebody was told. A secret that undoes nothing, or no longer,
	// is ErrNotFound. Only .system may.
	Undo(ctx context.Context, by any, secret string) error
	// IssueToken is Directory.IssueToken for a user who signed in by a locator. Options is a
	// denizen.TokenOptions, and issued a denizen.IssuedToken. While the change that brought the
	// locator may be undone, the token changes no locators. If the user does not have the locator
	// Verified any more it is ErrDenied with Field "proof".
	IssueToken(
		ctx context.Context, by any, user string, options any, locator string,
	) (issued any, err error)
}

// Change is a change that a user made to what it is reached by.
type Change struct {
	User  string
	At    int64  // in Unix milliseconds
	Until int64  // until when it can be undone
	Undo  string // the secret of a link that undoes it; it is never given to who made the change
	Told  []Told
}

// Told is a locator that was proved before a change. What is sent to it tells of the change.
type Told struct {
	Locator string // serialized, for delivery
	Removed bool   // it was removed or replaced
	MayUndo bool   // it is sent the link, too
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
	Reason     string // of the block
	Until      int64  // when the block ends; 0: never
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
