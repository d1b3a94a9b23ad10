// Package transfer imports users into a directory from anywhere, and exports them.
//
// [Import] creates the users that an iterator yields, under the rules of
// [denizen.Directory.CreateUser]. Run it until it returns no error. It skips users who exist, so a
// second run does nothing, and after an import was killed the next one goes on. Begin with
// Options.DryRun, which says what would become of each row.
//
// [Export] writes all users as JSON Lines, which [Open] reads.
//
// A user's id, name, locators, attributes and times are moved. Tokens, access keys, presence and
// the feed stay in their directory. The ids of locators and InternalID are made anew. To move a
// whole directory use Copy of package store, or Backup of store/bolt.
//
// # Which users are recognised
//
// A row identifies its user by its ID. A row without one does so by the first of its locators of
// type external, such as external:example.org|42.
//
// A user who exists is not changed, whatever the row says: it may have been changed since it was
// imported. If the row says when its user was made, and the existing one was made at another time,
// they are different people and the row is refused.
//
// [MapID] makes a user id of an id that the directory does not accept, such as the 42 of a table.
//
// # What an import never does
//
// It never takes what another user owns, or what rests, and never changes a user who exists.
//
// A row is created in one commit with one event, or not at all. A row that is refused does not
// affect the others.
package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// User is a user to be imported.
type User struct {
	// ID is the user's id. If it is empty, the first locator of type external identifies the user,
	// and an id is made.
	ID         denizen.UserID
	ScreenName string
	Blocked    bool
	// Block is how the user is blocked. It counts only where Blocked is set. Until may be past.
	Block denizen.Block
	// CreatedAt and UpdatedAt are from 1970 to a day from now, because clocks differ. They are kept
	// to the millisecond. The default of CreatedAt is the time of the import. That of UpdatedAt is
	// CreatedAt, and it must not be before it.
	CreatedAt time.Time
	UpdatedAt time.Time
	Locators  []Locator
	// Attributes need definitions: see [Options].Define.
	Attributes []denizen.Attribute
}

// Locator is a locator of a user to be imported.
type Locator struct {
	Locator string // serialized, such as "email:alice@example.org"
	// Status is by default Verified if VerifiedAt is set, and otherwise that of a new locator: see
	// [denizen.NewLocator]. Without Options.TrustVerified, Verified becomes Unverified.
	Status denizen.VerificationStatus
	// Claim makes it a pending claim, which is not owned, unless it is Verified.
	Claim bool
	// AddedAt and VerifiedAt have the bounds of User.CreatedAt. The default of AddedAt is
	// CreatedAt. That of VerifiedAt is the time of the import if the locator is Verified, and never
	// otherwise.
	AddedAt    time.Time
	VerifiedAt time.Time
}

// OnClash says what becomes of a row that wants an id or a locator which another user has.
type OnClash uint8

const (
	// Refuse makes the outcome [Refused].
	Refuse OnClash = iota
	// Skip makes the outcome [Skipped].
	Skip
	// TakeFree creates the user with those of its locators that are free. If another user has the
	// id, the row is still refused.
	TakeFree
)

// Options are the settings of an import. The zero value refuses rows that clash, believes no
// verification and defines nothing.
type Options struct {
	// DryRun says what would become of each row and writes nothing. It uses some 40 bytes of memory
	// for each id and locator, to find the rows that clash with each other.
	DryRun bool
	// TrustVerified believes rows that say that a locator is Verified, and an external identity is
	// Verified by being in a row. Set it only if the source verified each of them: whoever proves a
	// verified address, or has the identity, signs in as its user.
	TrustVerified bool
	// OnClash says what becomes of rows that clash with other users.
	OnClash OnClash
	// Define holds definitions of attributes. Those whose keys have no definition are made before
	// the first row. Others are ignored.
	Define []denizen.AttributeDef
	// Each is called with the result of each row, in the order of the rows. If it returns an error
	// the import ends with that error.
	Each func(Result) error
	// Progress is called with the report so far after every few hundred rows. It must not change
	// Problems.
	//
	// Each and Progress are called by the goroutine that called Import. The import waits for them;
	// other callers of the directory do not.
	Progress func(Report)
}

// Outcome is what became of a row.
type Outcome uint8

// The outcomes.
const (
	Created Outcome = iota + 1 // the user was created, or would be by a dry run
	Present                    // the user existed already and was not changed
	Skipped                    // the row clashed, and OnClash is Skip
	Refused                    // nothing was written; Problems say why
)

// String returns the outcome as a word, such as "created".
func (o Outcome) String() string {
	switch o {
	case Created:
		return "created"
	case Present:
		return "present"
	case Skipped:
		return "skipped"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Result is what became of one row.
type Result struct {
	Row     int            // counted from 1
	ID      denizen.UserID // of the user who was created or exists; otherwise that of the row
	Outcome Outcome
	// Problems say why a row was refused or skipped, or which locators a user was created without.
	Problems []Problem
}

// Problem is what is wrong with a row. Value may hold a locator, which does not belong in a log.
// [Problem.String] leaves it out.
type Problem struct {
	Row   int
	ID    denizen.UserID // that of the row
	Field string         // what is wrong, such as "screenName"
	Rule  string         // the rule that it breaks
	Value string         // the locator or attribute key that it is about, as in the row, if any

	// Owner is the user who has the id or the locator. In a dry run it may be empty, because only
	// an earlier row would have it. That is OwnerRow then.
	Owner    denizen.UserID
	OwnerRow int
}

// String returns the row, the field and the rule.
func (p Problem) String() string { return fmt.Sprintf("row %d: %s: %s", p.Row, p.Field, p.Rule) }

// MaxProblems is how many problems a [Report] holds. [Options].Each gets all of them.
const MaxProblems = 1000

// Report is what became of an import.
type Report struct {
	Rows    int // the sum of the four outcomes
	Created int
	Present int
	Skipped int
	Refused int

	Partly  int // how many of Created lack locators that others have
	Doubted int // how many locators of Created said Verified and were not believed

	Problems []Problem // the first MaxProblems
	More     int       // how many problems there were beyond those
}

const (
	mapped      = "imported" // how ids that MapID makes begin
	maxMapped   = 72
	hexadecimal = "0123456789ABCDEF"
)

// MapID returns a user id for an id of another system.
//
//   - What is a user id already stays itself, unless it begins with "imported". So does the empty
//     id.
//   - Any other becomes "imported-" and its bytes. A byte that is not a letter, a digit or a dash
//     is written as an underscore and two hexadecimal digits: 42 becomes imported-42, and a.b
//     becomes imported-a_2Eb.
//   - If that is longer than 72 bytes it becomes "imported" and the SHA-256 of the id in
//     hexadecimal.
//
// It always returns the same user id for an id, so other systems can compute the new id from the
// old one. No two ids have the same user id, except where SHA-256 has a collision.
func MapID(id string) denizen.UserID {
	if id == "" {
		return ""
	}
	if !strings.HasPrefix(id, mapped) {
		if u, err := denizen.ParseUserID(id); err == nil {
			return u
		}
	}
	b := make([]byte, 0, maxMapped)
	b = append(b, mapped...)
	b = append(b, '-')
	for i := 0; i < len(id) && len(b) <= maxMapped; i++ {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			b = append(b, c)
		default:
			b = append(b, '_', hexadecimal[c>>4], hexadecimal[c&15])
		}
	}
	if len(b) <= maxMapped {
		return denizen.UserID(b)
	}
	digest := sha256.Sum256([]byte(id))
	return denizen.UserID(mapped + hex.EncodeToString(digest[:]))
}
