package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/transfer"
)

// pocketBaseUser holds what is imported of a record of the collection users. A superuser gets it by
//
//	GET /api/collections/users/records?perPage=500&page=1&sort=id
//
// One file may hold several pages in a row.
type pocketBaseUser struct {
	ID       string `json:"id"`
	Email    string `json:"email"`
	Verified bool   `json:"verified"`
	Name     string `json:"name"`
	Created  string `json:"created"`
	Updated  string `json:"updated"`
}

// fromPocketBase yields the users of pages of PocketBase's records.
func fromPocketBase(r io.Reader) people {
	return func(yield func(transfer.User, error) bool) {
		err := elements(r, "items", func(d *json.Decoder) error {
			var p pocketBaseUser
			bad, err := decode(d, &p)
			if err != nil {
				return err
			}
			u, refused := p.user()
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

// pocketBaseTime is the layout of times in PocketBase.
const pocketBaseTime = "2006-01-02 15:04:05.000Z"

// user returns the user of a record. It is the mapping to change.
func (p *pocketBaseUser) user() (u transfer.User, err error) {
	u = transfer.User{ID: transfer.MapID(p.ID), ScreenName: p.Name}
	if u.ScreenName == "" {
		u.ScreenName = "Somebody"
	}
	if u.CreatedAt, err = time.Parse(pocketBaseTime, p.Created); err != nil {
		return u, bad("created", "is no time of PocketBase")
	}
	if u.UpdatedAt, err = time.Parse(pocketBaseTime, p.Updated); err != nil {
		return u, bad("updated", "is no time of PocketBase")
	}
	if p.Email != "" {
		email := transfer.Locator{Locator: "email:" + p.Email, Status: denizen.Unverified}
		if p.Verified {
			email.Status = denizen.Verified
		}
		u.Locators = append(u.Locators, email)
	}
	return u, nil
}
