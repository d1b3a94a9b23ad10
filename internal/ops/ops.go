// Package ops is what an operator sees of a directory: the same for a directory in this process and
// for one behind a socket. Its types are the JSON that cmd/denizen prints, so their members stay.
package ops

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/denizenhq/denizen"
)

// Source is a directory that can be looked into.
type Source interface {
	// Read yields what a query asks for. An error is yielded once, at the end.
	Read(ctx context.Context, q Query) iter.Seq2[any, error]
	// Backup writes a backup, and returns the place of its last commit.
	Backup(ctx context.Context, w io.Writer) (denizen.Seq, error)
	// Compact makes the file smaller, and returns its figures before and after.
	Compact(ctx context.Context) (Compacted, error)
}

// What a query asks for, and the type of what is yielded.
const (
	Stat   = "stat"   // one *Figures
	Users  = "users"  // *User
	Person = "user"   // one *Whole
	Tokens = "tokens" // *Token
	Keys   = "keys"   // *Key
	Feed   = "feed"   // *Event
	Verify = "verify" // *Damage
)

// Query asks for something.
type Query struct {
	What   string `json:"what"`
	Reveal bool   `json:"reveal,omitempty"` // show locators and attributes in full

	User string `json:"user,omitempty"` // an id or a locator: of a person, or whose tokens or events

	Blocked   bool          `json:"blocked,omitempty"`   // users who are blocked alone
	AccessKey string        `json:"accessKey,omitempty"` // tokens that were issued with it alone
	Unused    time.Duration `json:"unused,omitempty"`    // tokens that were unused for that long alone

	After  denizen.Cursor `json:"after,omitempty"`  // events after a place
	Newest int            `json:"newest,omitempty"` // only that many of them, the newest; 0: all
	Kind   string         `json:"kind,omitempty"`   // events of a kind, or of one that begins with "user."
	Follow bool           `json:"follow,omitempty"` // wait for more
}

// MaxNewest is how many of the newest events are looked through for one person, and how many
// Query.Newest may be.
const MaxNewest = 10_000

// Figures is the state of a directory. Counters are of the process that has it open.
type Figures struct {
	Directory   string         `json:"directory"`
	Application string         `json:"application"`
	At          time.Time      `json:"at"`
	Users       int            `json:"users"`
	Present     map[string]int `json:"present"` // users who are here, by state
	First       denizen.Seq    `json:"first"`   // the lowest place in the feed
	Head        denizen.Seq    `json:"head"`    // the latest commit
	RootKey     string         `json:"rootKey"` // the id of the key that secrets are under, or "none"
	AccessKeys  int            `json:"accessKeys"`
	SigningKeys int            `json:"signingKeys"`
	Consumers   []Consumer     `json:"consumers"`
	File        *File          `json:"file,omitempty"` // if it is in a file
	Commits     Commits        `json:"commits"`
	Records     Cache          `json:"records"`
	Tokens      Cache          `json:"tokens"`
	Heartbeats  int            `json:"heartbeatsWaiting"`
	Health      string         `json:"health"`            // "ok", "degraded", "damaged" or "poisoned"
	Problem     string         `json:"problem,omitempty"` // what is wrong, for people
}

// The states of Figures.Health.
const (
	OK       = "ok"
	Degraded = "degraded" // it goes on, and somebody should look
	Damaged  = "damaged"  // something that is stored cannot be read
	Poisoned = "poisoned" // it refuses until it is opened anew
)

// Consumer is a consumer of the feed.
type Consumer struct {
	Name   string `json:"name"`
	Behind int64  `json:"behind"` // commits
	Missed bool   `json:"missed,omitempty"`
	Stuck  bool   `json:"stuck,omitempty"`
}

// File is figures of a file, in bytes.
type File struct {
	Bytes           int64 `json:"bytes"`
	Free            int64 `json:"free"`
	WorthCompacting bool  `json:"worthCompacting"`
}

// Compacted is what became of a file.
type Compacted struct {
	Before File `json:"before"`
	After  File `json:"after"`
}

// Commits is figures of the writes.
type Commits struct {
	Applied   int64 `json:"applied"`
	Conflicts int64 `json:"conflicts"`
	Failed    int64 `json:"failed"`
	Waiting   int   `json:"waiting"`
}

// Cache is figures of a cache.
type Cache struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Limit   int64 `json:"limit"`
	Misses  int64 `json:"misses"`
}

// User is a user in a list. Of one that cannot be read only ID and Damaged are set.
type User struct {
	ID           denizen.UserID `json:"id"`
	ScreenName   string         `json:"screenName,omitempty"`
	Locators     []string       `json:"locators,omitempty"` // owned ones, masked unless asked
	Blocked      bool           `json:"blocked,omitempty"`
	BlockedUntil time.Time      `json:"blockedUntil,omitzero"`
	CreatedAt    time.Time      `json:"createdAt,omitzero"`
	UpdatedAt    time.Time      `json:"updatedAt,omitzero"`
	Damaged      bool           `json:"damaged,omitempty"`
}

// Whole is all of one person.
type Whole struct {
	User
	InternalID   string              `json:"internalId"`
	Version      denizen.UserVersion `json:"version"`
	BlockReason  string              `json:"blockReason,omitempty"`
	LastActiveAt time.Time           `json:"lastActiveAt,omitzero"`
	Locators     []Locator           `json:"locators"` // in place of User.Locators
	Attributes   []Attribute         `json:"attributes"`
	Devices      []Device            `json:"devices"`
	Tokens       []Token             `json:"tokens"`
	Searched     int                 `json:"searched"` // how many of the newest events were looked through
	Events       []Event             `json:"events"`
	// DamagedRecords is the kinds of records that cannot be read, and so are left out.
	DamagedRecords []string `json:"damagedRecords,omitempty"`
}

// Locator is a locator of a person.
type Locator struct {
	ID         denizen.LocatorID          `json:"id"`
	Locator    string                     `json:"locator"` // masked unless asked
	Status     denizen.VerificationStatus `json:"status"`
	Owned      bool                       `json:"owned"`
	AddedAt    time.Time                  `json:"addedAt"`
	VerifiedAt time.Time                  `json:"verifiedAt,omitzero"`
}

// Attribute is an attribute of a person.
type Attribute struct {
	Key   string `json:"key"`
	Bytes int    `json:"bytes"`           // of the value
	Value string `json:"value,omitempty"` // only if asked
}

// Device is a device of a person who is here.
type Device struct {
	Device string    `json:"device"` // empty: the default one
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
}

// Token is a live token. If the tokens of a user cannot be read there is one with only User and
// Damaged.
type Token struct {
	User       denizen.UserID  `json:"user"`
	ID         denizen.TokenID `json:"id,omitempty"`
	Label      string          `json:"label,omitempty"`
	AccessKey  string          `json:"accessKey,omitempty"`
	IssuedAt   time.Time       `json:"issuedAt,omitzero"`
	ExpiresAt  time.Time       `json:"expiresAt,omitzero"`
	LastUsedAt time.Time       `json:"lastUsedAt,omitzero"`
	Damaged    bool            `json:"damaged,omitempty"`
}

// Key is an access key or a signing key, without its secret.
type Key struct {
	Kind       string    `json:"kind"` // "access" or "signing"
	ID         string    `json:"id"`
	State      string    `json:"state,omitempty"` // of a signing key: "announced", "signing" or "published"
	CreatedAt  time.Time `json:"createdAt,omitzero"`
	SignsAt    time.Time `json:"signsAt,omitzero"` // of a signing key
	GoneAt     time.Time `json:"goneAt,omitzero"`  // of a signing key that signs no more
	LastUsedAt time.Time `json:"lastUsedAt,omitzero"`
	LastAction string    `json:"lastAction,omitempty"`
}

// The kinds of keys.
const (
	Access  = "access"
	Signing = "signing"
)

// Event is an event of the feed. One that cannot be read has only Seq, Cursor and Damaged.
type Event struct {
	Seq        denizen.Seq       `json:"seq"`
	Cursor     denizen.Cursor    `json:"cursor"`
	At         time.Time         `json:"at,omitzero"`
	Kind       denizen.EventKind `json:"kind,omitempty"`
	Actor      string            `json:"actor,omitempty"`
	AccessKey  string            `json:"accessKey,omitempty"`
	Operator   string            `json:"operator,omitempty"`
	User       denizen.UserID    `json:"user,omitempty"`
	InternalID string            `json:"internalId,omitempty"`
	Other      denizen.UserID    `json:"other,omitempty"`
	Subjects   []string          `json:"subjects,omitempty"`
	Damaged    bool              `json:"damaged,omitempty"`
}

// Damage is something that cannot be read or does not fit the rest.
type Damage struct {
	Record string         `json:"record"`
	User   denizen.UserID `json:"user,omitempty"`
	Seq    denizen.Seq    `json:"seq,omitempty"`
	Reason string         `json:"reason"`
}

// empty returns a value of the type that a query yields, to be decoded into, or nil if there is no
// such query.
func empty(what string) any {
	switch what {
	case Stat:
		return new(Figures)
	case Users:
		return new(User)
	case Person:
		return new(Whole)
	case Tokens:
		return new(Token)
	case Keys:
		return new(Key)
	case Feed:
		return new(Event)
	case Verify:
		return new(Damage)
	}
	return nil
}
