package main

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/transfer"
)

// firebaseUser holds what is imported of a user in the JSON of
//
//	firebase auth:export users.json --project <project>
type firebaseUser struct {
	LocalID       string `json:"localId"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"emailVerified"`
	DisplayName   string `json:"displayName"`
	PhotoURL      string `json:"photoUrl"`
	PhoneNumber   string `json:"phoneNumber"`
	CreatedAt     string `json:"createdAt"` // Unix milliseconds
	Disabled      bool   `json:"disabled"`
	Providers     []struct {
		ProviderID string `json:"providerId"`
		RawID      string `json:"rawId"`
	} `json:"providerUserInfo"`
}

// errEnough ends the reading of a file because the caller wants no more users.
var errEnough = errors.New("enough")

// fromFirebase yields the users of Firebase's auth:export.
func fromFirebase(r io.Reader) people {
	return func(yield func(transfer.User, error) bool) {
		err := elements(r, "users", func(d *json.Decoder) error {
			var f firebaseUser
			bad, err := decode(d, &f)
			if err != nil {
				return err
			}
			u, refused := f.user()
			if bad != nil {
				refused = bad
			}
			if !yield(u, refused) {
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			yield(transfer.User{}, err)
		}
	}
}

// user returns the user of a record. It is the mapping to change.
func (f *firebaseUser) user() (transfer.User, error) {
	u := transfer.User{ID: transfer.MapID(f.LocalID), ScreenName: f.DisplayName, Blocked: f.Disabled}
	if u.ScreenName == "" {
		u.ScreenName = "Somebody"
	}
	ms, err := strconv.ParseInt(f.CreatedAt, 10, 64)
	if err != nil {
		return u, bad("createdAt", "is no number of milliseconds")
	}
	u.CreatedAt = time.UnixMilli(ms)
	if f.Email != "" {
		email := transfer.Locator{Locator: "email:" + f.Email, Status: denizen.Unverified}
		if f.EmailVerified {
			email.Status = denizen.Verified
		}
		u.Locators = append(u.Locators, email)
	}
	if f.PhoneNumber != "" { // Firebase stores only numbers that were proved by a message
		u.Locators = append(u.Locators, transfer.Locator{
			Locator: "tele:" + f.PhoneNumber, Status: denizen.Verified,
		})
	}
	if f.PhotoURL != "" {
		u.Attributes = append(u.Attributes, denizen.Attribute{Key: avatar, Value: f.PhotoURL})
	}
	for _, p := range f.Providers {
		if p.ProviderID == "password" || p.ProviderID == "phone" {
			continue // the address or the number from above
		}
		if err := knownAs(&u, p.ProviderID, p.RawID); err != nil {
			return u, err
		}
	}
	return u, nil
}
