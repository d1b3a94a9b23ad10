package main

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/transfer"
)

// defaultQuery selects the users of a table. Importing into a file is fastest in the order of ids.
const defaultQuery = `SELECT id, name, email, email_verified_at, phone, city, created_at, updated_at, disabled
	FROM app_users ORDER BY id`

// fromPostgres yields the users of a table. It reads rows only as they are needed.
func fromPostgres(ctx context.Context, dsn, query string) (people, func(), error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	return func(yield func(transfer.User, error) bool) {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			yield(transfer.User{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r tableRow
			err := rows.Scan(
				&r.id, &r.name, &r.email, &r.emailVerifiedAt, &r.phone, &r.city,
				&r.createdAt, &r.updatedAt, &r.disabled,
			)
			if err != nil {
				yield(transfer.User{}, err)
				return
			}
			if !yield(r.user()) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(transfer.User{}, err)
		}
	}, func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
}

// tableRow is a row of the table.
type tableRow struct {
	id                   int64
	name                 string
	email, phone, city   *string
	emailVerifiedAt      *time.Time
	createdAt, updatedAt time.Time
	disabled             bool
}

// user returns the user of a row. It is the mapping to change.
func (r *tableRow) user() (transfer.User, error) {
	id := strconv.FormatInt(r.id, 10)
	u := transfer.User{
		ID: transfer.MapID(id), ScreenName: r.name, Blocked: r.disabled,
		CreatedAt: r.createdAt, UpdatedAt: r.updatedAt,
	}
	if r.email != nil {
		email := transfer.Locator{Locator: "email:" + *r.email}
		if r.emailVerifiedAt != nil {
			email.VerifiedAt = *r.emailVerifiedAt
		}
		u.Locators = append(u.Locators, email)
	}
	if r.phone != nil {
		u.Locators = append(u.Locators, transfer.Locator{Locator: "tele:" + *r.phone})
	}
	if r.city != nil {
		u.Attributes = append(u.Attributes, denizen.Attribute{Key: city, Value: *r.city})
	}
	return u, knownAs(&u, "app.example.org", id)
}
