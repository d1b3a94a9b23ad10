package main

import (
	"context"
	"fmt"

	"github.com/denizenhq/denizen"
)

// create creates users with a locator, durably, with one caller and with 64 at once.
func create(b *bench, p *people, peers sides) error {
	ctx := context.Background()
	ours := func(uint64) error {
		_, err := p.dir.CreateUser(ctx, system, denizen.NewUser{
			ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(fmt.Sprintf("new%012x@example.com", fresh()))},
		})
		return err
	}
	group := newGroup(p.floor)
	defer group.close()
	err := b.compare(operation{
		name: "User/create", users: p.n, goroutines: 1, latency: true,
		sides: append([]side{
			{name: "Denizen", do: ours},
			{name: "floor: a bbolt Update", do: func(uint64) error {
				return p.floor.Update(newUser())
			}},
		}, peers["User/create"]...),
	})
	if err != nil {
		return err
	}
	return b.compare(operation{
		name: "User/create", users: p.n, goroutines: 64, latency: true,
		sides: append([]side{
			{name: "Denizen", do: ours},
			{name: "floor: a bare group commit", do: func(uint64) error { return group.commit(newUser()) }},
		}, peers["User/create"]...),
	})
}

// disk measures what one synced write costs on this disk.
func disk(b *bench) error {
	s, err := newSyncs(b.scratch)
	if err != nil {
		return err
	}
	err = b.compare(operation{
		name: "Disk/append", goroutines: 1, latency: true,
		sides: []side{{name: "floor: 4 KiB and an fdatasync", do: s.append}},
	})
	return first(err, s.file.Close())
}
