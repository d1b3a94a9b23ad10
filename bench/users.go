package main

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/record"
)

// lookUp reads users by id and by locator: ones that the directory has not cached, and ones that it
// has.
func lookUp(b *bench, p *people, peers sides) error {
	ctx := context.Background()
	byID := func(n int) func(i uint64) error {
		return func(i uint64) error {
			_, err := p.dir.User(ctx, system, p.ids[i%uint64(n)])
			return err
		}
	}
	byLocator := func(n int) func(i uint64) error {
		return func(i uint64) error {
			found, err := p.dir.UsersByLocator(ctx, system, []string{p.emails[i%uint64(n)]})
			if err == nil && len(found) != 1 {
				return errAbsent
			}
			return err
		}
	}
	all, some := len(p.ids), min(len(p.ids), remembered)
	ids, owners := make([][]byte, all), make([][]byte, all)
	for i, id := range p.ids {
		ids[i], owners[i] = []byte(record.UserKey(string(id))), []byte(record.OwnerKey(p.emails[i]))
	}
	for _, goroutines := range b.goroutines() {
		for _, o := range []struct {
			name  string
			ours  func(n int) func(i uint64) error
			floor side
		}{
			{"User/id", byID, side{name: "floor: a bbolt get", do: func(i uint64) error { return get(p.floor, ids[i%uint64(all)]) }}},
			{"User/locator", byLocator, side{name: "floor: two bbolt gets", do: func(i uint64) error {
				if err := get(p.floor, owners[i%uint64(all)]); err != nil {
					return err
				}
				return get(p.floor, ids[i%uint64(all)])
			}}},
		} {
			if err := warm(all, o.floor.do); err != nil { // otherwise the system first has to map the pages
				return err
			}
			err := b.compare(operation{
				name: o.name + "/first", users: p.n, goroutines: goroutines,
				sides: append([]side{
					{name: "Denizen", before: p.forget, some: all, do: o.ours(all)}, o.floor,
				}, peers[o.name]...),
			})
			if err != nil {
				return err
			}
			if err := first(p.forget(), warm(some, o.ours(some))); err != nil {
				return err
			}
			err = b.compare(operation{
				name: o.name + "/remembered", users: p.n, goroutines: goroutines,
				sides: []side{{name: "Denizen", do: o.ours(some)}},
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// pages lists users, a hundred at a time.
func pages(b *bench, p *people) error {
	ctx := context.Background()
	const size = 100
	var cursors []denizen.UserCursor
	var starts [][]byte
	for page := (denizen.UserQuery{Limit: size}); len(cursors) < 100; {
		users, err := p.dir.Users(ctx, system, page)
		if err != nil {
			return err
		}
		page.After = users.Next
		if page.After == "" {
			break
		}
		last := users.Users[len(users.Users)-1].ID
		cursors, starts = append(cursors, page.After), append(starts, []byte(record.UserKey(string(last))))
	}
	cursors, starts = cursors[:len(cursors)-1], starts[:len(starts)-1] // the last page is empty
	return b.compare(operation{
		name: "User/page", users: p.n, goroutines: 1,
		sides: []side{
			{name: "Denizen", do: func(i uint64) error {
				page, err := p.dir.Users(ctx, system, denizen.UserQuery{Limit: size, After: cursors[i%uint64(len(cursors))]})
				if err == nil && len(page.Users) != size {
					return fmt.Errorf("%d users in a page", len(page.Users))
				}
				return err
			}},
			{name: "floor: a bbolt cursor", do: func(i uint64) error {
				return p.floor.View(func(tx *bbolt.Tx) error {
					c := tx.Bucket(recordsBucket).Cursor()
					k, v := c.Seek(starts[i%uint64(len(starts))])
					for range size {
						if k == nil {
							return errAbsent
						}
						_, _ = append([]byte(nil), k...), append([]byte(nil), v...)
						k, v = c.Next()
					}
					return nil
				})
			}},
		},
	})
}
