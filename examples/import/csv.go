package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/transfer"
)

// columns are the names in the first line of the CSV file, in any order. An empty value is not
// known.
var columns = []string{
	"id", "name", "email", "email_verified_at", "phone", "city", "created_at", "disabled",
}

// fromCSV yields the users of a CSV file.
func fromCSV(r io.Reader) people {
	return func(yield func(transfer.User, error) bool) {
		lines := csv.NewReader(r)
		header, err := lines.Read()
		if err != nil {
			yield(transfer.User{}, err)
			return
		}
		for _, c := range columns {
			if !slices.Contains(header, c) {
				yield(transfer.User{}, fmt.Errorf("the file has no column %s", c))
				return
			}
		}
		for {
			cells, err := lines.Read()
			if err == io.EOF {
				return
			}
			var u transfer.User
			switch {
			case errors.Is(err, csv.ErrFieldCount):
				err = bad("row", "has too few or too many columns")
			case err == nil:
				row := map[string]string{}
				for i, c := range header {
					row[c] = cells[i]
				}
				u, err = csvUser(row)
			}
			if !yield(u, err) || err != nil && !errors.Is(err, denizen.ErrInvalid) {
				return
			}
		}
	}
}

// csvUser returns the user of a row. It is the mapping to change.
func csvUser(row map[string]string) (u transfer.User, err error) {
	u = transfer.User{
		ID: transfer.MapID(row["id"]), ScreenName: row["name"], Blocked: row["disabled"] == "true",
	}
	if row["id"] == "" {
		return u, bad("id", "is missing")
	}
	if u.CreatedAt, err = csvTime("created_at", row["created_at"]); err != nil {
		return u, err
	}
	if row["email"] != "" {
		email := transfer.Locator{Locator: "email:" + row["email"]}
		if email.VerifiedAt, err = csvTime("email_verified_at", row["email_verified_at"]); err != nil {
			return u, err
		}
		u.Locators = append(u.Locators, email)
	}
	if row["phone"] != "" {
		u.Locators = append(u.Locators, transfer.Locator{Locator: "tele:" + row["phone"]})
	}
	if row["city"] != "" {
		u.Attributes = append(u.Attributes, denizen.Attribute{Key: city, Value: row["city"]})
	}
	return u, knownAs(&u, "shop.example.org", row["id"])
}

func csvTime(column, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, bad(column, "is no time such as 2006-01-02T15:04:05Z")
	}
	return t, nil
}
