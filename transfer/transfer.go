// Package transfer brings people into a directory, from wherever they were kept, and out of it.
//
// [Import] creates the users that an iterator yields, under the rules of CreateUser. It is meant to
// be run until it is through: whoever is there is passed over, so a second run does nothing, and one
// that was killed goes on where it was. Begin with [Options.DryRun], which says what would come of
// each row. [Export] writes everybody as JSON Lines, which [Open] reads again.
//
// What is moved is people: their ids, names, locators, attributes and times. Tokens, access keys,
// presence and the feed are of one directory and stay there, and so are the ids of locators and
// InternalID. For the same directory in another place there is Copy in package store, and
// Backup in store/bolt.
//
// # Who is found again, and how
//
// A row says who it is by its ID. A row without one says it by the first of its locators of type
// external, such as external:example.org|42. Somebody who is found is left as it is, whatever the
// row says: it may have changed since. But where a row says when its user was made, and that is not
// when the one who is there was made, they are two, and the row is refused.
//
// An id that the grammar of ids refuses, such as the 42 of a table, goes through [MapID].
//
// # What is never done
//
// Nothing that another user owns, or that is kept for one, moves by an import. Nobody who is there
// is changed. A row is created whole, in a commit of its own with an event of its own, or not at
// all, and what is wrong with one row is no matter to the others.
package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/denizenhq/denizen"
)

// User is somebody to be imported.
type User struct {
	// ID is the user's id. Empty, the user is known by its first locator of type external, and gets
	// an id when it is created.
	ID         denizen.UserID
	ScreenName string
	Blocked    bool
	// CreatedAt and UpdatedAt are from 1970 to the present, a day of leeway included, to the
	// millisecond. A zero CreatedAt is the time of the import, a zero UpdatedAt is CreatedAt.
	CreatedAt time.Time
	UpdatedAt time.Time
	Locators  []Locator
	// Attributes need definitions: see Options.Define.
	Attributes []denizen.Attribute
}

// Locator is a locator of a user to be imported.
type Locator struct {
	Locator string // serialized, such as "email:alice@example.org"
	// Status is StatusNotProvided if it is empty, or Verified if VerifiedAt is set. Without
	// Options.TrustVerified, Verified becomes Unverified.
	Status denizen.VerificationStatus
	// Claim makes it a pending claim, which is not owned, unless it is Verified.
	Claim bool
	// AddedAt and VerifiedAt have the bounds of User.CreatedAt. A zero AddedAt is CreatedAt; a zero
	// VerifiedAt is the time of the import if the locator is Verified, and otherwise never.
	AddedAt    time.Time
	VerifiedAt time.Time
}

// OnClash is what becomes of a row that has something which another user has.
type OnClash uint8

const (
	// Refuse refuses the row.
	Refuse OnClash = iota
	// Skip passes over the row, which then counts as skipped.
	Skip
	// TakeFree creates the user with those of its locators that are free. A row whose id another
	// user has is refused.
	TakeFree
)

// Options are the settings of an import. The zero value refuses rows that clash, believes no
// verification and defines nothing.
type Options struct {
	// DryRun writes nothing, and says what would come of each row. It remembers some 40 bytes for
	// each id and locator, so that it meets the clashes among the rows too.
	DryRun bool
	// TrustVerified believes what rows say of verification: set it where the source made sure of
	// each address itself. Without it nobody gets in by an address that only a table vouches for.
	TrustVerified bool
	// OnClash is what becomes of rows that clash.
	OnClash OnClash
	// Define is the definitions of attributes that are made first where there are none of their
	// keys. Those that are there stay as they are.
	Define []denizen.AttributeDef
	// Each is called with what came of each row, in the order of the rows. An error ends the import
	// and is its error.
	Each func(Result) error
	// Progress is called with the report so far, every some hundred rows. Its Problems must not be
	// changed.
	//
	// Each and Progress are called by the goroutine that called Import. While they take their time
	// the import waits, and nobody else.
	Progress func(Report)
}

// Outcome is what came of a row.
type Outcome uint8

// The outcomes.
const (
	Created Outcome = iota + 1 // in a dry run: it would be
	Present                    // it was there already, and was not touched
	Skipped                    // it clashed, and OnClash is Skip
	Refused                    // by the problems
)

// String returns the outcome in a word, such as "created".
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

// Result is what came of one row.
type Result struct {
	Row     int            // the first has 1
	ID      denizen.UserID // of the user who was created or is there, or as the row has it
	Outcome Outcome
	// Problems is why a row was refused or skipped, or which locators a user was created without.
	Problems []Problem
}

// Problem is what is wrong with a row. It is for who runs the import: it may hold a locator of the
// row, which belongs in no log. String leaves that out.
type Problem struct {
	Row   int
	ID    denizen.UserID // as the row has it
	Field string         // what is wrong, such as "screenName"
	Rule  string         // the rule that it breaks
	Value string         // which locator or attribute key, as the row has it, if it is about one

	// Owner is who has the id or the locator. In a dry run it may be that nobody has it but an
	// earlier row would, which is OwnerRow.
	Owner    denizen.UserID
	OwnerRow int
}

// String returns the row, the field and the rule.
func (p Problem) String() string { return fmt.Sprintf("row %d: %s: %s", p.Row, p.Field, p.Rule) }

// MaxProblems is how many problems a Report holds. Options.Each is given all.
const MaxProblems = 1000

// Report is what came of an import.
type Report struct {
	Rows    int // the sum of the four outcomes
	Created int
	Present int
	Skipped int
	Refused int

	Partly  int // of those Created, the ones that lack locators which others have
	Doubted int // locators of those Created that said Verified and were not believed

	Problems []Problem // the first MaxProblems
	More     int       // problems beyond those
}

const (
	mapped      = "imported" // what ids by MapID begin with
	maxMapped   = 72
	hexadecimal = "0123456789ABCDEF"
)

// MapID returns the user id for an id of another system. What is a user id already is itself, unless
// it begins with "imported". Any other becomes "imported-" and its bytes, where each that is not a
// letter, a digit or a dash is an underscore and two hexadecimal digits: 42 is imported-42, and a.b
// is imported-a_2Eb. Where that would be longer than 72 bytes it is "imported" and the SHA-256 of the
// id in hexadecimal. The empty id is the empty user id.
//
// It is the same at all times, and no two ids have the same, as far as SHA-256 goes. So whoever has
// the old id has the new one.
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
