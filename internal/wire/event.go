package wire

import "github.com/denizenhq/denizen"

// Event is an event as it is told to other programs. Members may be added, and their order is kept.
type Event struct {
	Sequence   uint64 `json:"sequence"`
	At         int64  `json:"at"` // in Unix milliseconds
	Kind       string `json:"kind"`
	Actor      string `json:"actor"`
	AccessKey  string `json:"accessKey,omitempty"`
	Operator   string `json:"operator,omitempty"` // who acted for the application; not in webhooks
	UserID     *User  `json:"userId,omitempty"`
	InternalID string `json:"internalId,omitempty"`
	OtherID    *User  `json:"otherId,omitempty"` // of a second user, with some kinds
	// Subjects are ids of tokens and locators, and keys of attributes.
	Subjects []string `json:"subjects,omitempty"`
}

// User names a user.
type User struct {
	Identifier string `json:"identifier"`
}

// NewEvent returns the JSON shape of an event.
func NewEvent(e denizen.Event) Event {
	s := Event{
		Sequence: uint64(e.Seq), At: e.At.UnixMilli(), Kind: string(e.Kind), Actor: e.Actor,
		AccessKey: e.AccessKey, Operator: e.Operator, InternalID: e.InternalID, Subjects: e.Subjects,
	}
	if e.User != "" {
		s.UserID = &User{string(e.User)}
	}
	if e.Other != "" {
		s.OtherID = &User{string(e.Other)}
	}
	return s
}
