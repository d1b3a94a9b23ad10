package main

import (
	"context"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/presence"
	"github.com/denizenhq/denizen/internal/record"
)

var chain = denizen.Online(24 * time.Hour).Then(denizen.Away(time.Minute)).Then(denizen.Offline())

// presences sets the same chain again, as a heartbeat does, and reads presences.
func presences(b *bench, p *people, peers sides) error {
	ctx := context.Background()
	ids := p.ids[:min(len(p.ids), remembered)]
	by := make([]denizen.Principal, len(ids))
	for i, id := range ids {
		var err error
		if by[i], err = p.dir.ActAs(ctx, system, id); err != nil {
			return err
		}
		if err := p.dir.SetPresence(ctx, by[i], id, chain); err != nil {
			return err
		}
	}
	floor := newSharded(ids)
	beat := func(i uint64) error {
		i %= uint64(len(ids))
		return p.dir.SetPresence(ctx, by[i], ids[i], chain)
	}
	get := func(i uint64) error {
		i %= uint64(len(ids))
		now, err := p.dir.Presence(ctx, by[i], ids[i])
		if err == nil && now.Presence.State() != denizen.StateOnline {
			return errAbsent
		}
		return err
	}
	for _, goroutines := range b.goroutines() {
		if err := warm(len(ids), beat); err != nil {
			return err
		}
		err := b.compare(operation{
			name: "Presence/heartbeat", users: p.n, goroutines: goroutines,
			sides: append([]side{
				{name: "Denizen", do: beat},
				{name: "floor: a write to a map of 64 shards", do: func(i uint64) error {
					floor.set(ids[i%uint64(len(ids))], time.Now().UnixMilli())
					return nil
				}},
			}, peers["Presence/set"]...),
		})
		if err != nil {
			return err
		}
		// Store what the heartbeats have left, which must not slow down the reads.
		if err := first(p.forget(), warm(len(ids), get)); err != nil {
			return err
		}
		err = b.compare(operation{
			name: "Presence/get", users: p.n, goroutines: goroutines,
			sides: append([]side{
				{name: "Denizen", do: get},
				{name: "floor: a read of a map of 64 shards", do: func(i uint64) error {
					if floor.get(ids[i%uint64(len(ids))]) > time.Now().UnixMilli() {
						return errAbsent
					}
					return nil
				}},
			}, peers["Presence/get"]...),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// firstPresences reads presences that the directory has not cached.
func firstPresences(b *bench, p *people) error {
	ctx := context.Background()
	behind := make([][]byte, len(p.ids))
	for i, id := range p.ids {
		behind[i] = []byte(record.DevicesKey(string(id)))
	}
	floor := func(i uint64) error { return get(p.floor, behind[i%uint64(len(p.ids))]) }
	if err := warm(len(p.ids), floor); err != nil { // otherwise the system first has to map the pages
		return err
	}
	for _, goroutines := range b.goroutines() {
		err := b.compare(operation{
			name: "Presence/first", users: p.n, goroutines: goroutines,
			sides: []side{
				{name: "Denizen", before: p.forget, some: len(p.ids), do: func(i uint64) error {
					now, err := p.dir.Presence(ctx, system, p.ids[i%uint64(len(p.ids))])
					if err == nil && now.Presence.State() != denizen.StateOnline {
						return errAbsent
					}
					return err
				}},
				{name: "floor: a bbolt get", do: floor},
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// storedPresences sets the same chains again for many users, and waits until all are synced.
func storedPresences(b *bench, p *people) error {
	ctx := context.Background()
	n := uint64(len(p.ids))
	err := b.compare(operation{
		name: "Presence/stored", users: p.n, goroutines: 1,
		sides: []side{{name: "Denizen", before: p.forget, some: len(p.ids), do: func(i uint64) error {
			err := p.dir.SetPresence(ctx, system, p.ids[i%n], chain)
			if i%n == n-1 {
				err = first(err, p.dir.Close())
			}
			return err
		}}},
	})
	return first(err, p.forget())
}

// changes sets another chain each time, durably.
func changes(b *bench, p *people, peers sides) error {
	ctx := context.Background()
	ours := func(i uint64) error {
		// A chain that the user has not had before. The same one would be a heartbeat.
		next := denizen.Online(time.Duration(1+fresh()%1_000_000_000) * time.Second).Then(denizen.Away(time.Minute)).Then(denizen.Offline())
		return p.dir.SetPresence(ctx, system, p.ids[i%uint64(len(p.ids))], next)
	}
	group := newGroup(p.floor)
	defer group.close()
	floor := func(i uint64) error {
		return group.commit(newPresence(string(p.ids[i%uint64(len(p.ids))]), presence.Chain{
			{State: presence.Online, Seconds: int64(1 + fresh()%1_000_000_000)}, {State: presence.Away, Seconds: 60}, {State: presence.Offline},
		}))
	}
	for _, goroutines := range []int{1, 64} {
		err := b.compare(operation{
			name: "Presence/change", users: p.n, goroutines: goroutines, latency: true,
			sides: append([]side{{name: "Denizen", do: ours}, {name: "floor: a bare group commit", do: floor}}, peers["Presence/change"]...),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
