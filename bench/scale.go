package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/denizenhq/denizen"
)

// opening opens the file of closed people and reads a user. It measures that, and the memory for
// caching many.
func opening(b *bench, p *people) error {
	file, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	open := func() (*denizen.Directory, error) {
		dir, err := denizen.Open(b.ctx, p.path, denizen.Options{})
		if err == nil {
			_, err = dir.User(b.ctx, system, p.ids[0])
		}
		return dir, err
	}
	for range b.rounds {
		began := time.Now()
		dir, err := open()
		if err != nil {
			return err
		}
		took := time.Since(began)
		if err := dir.Close(); err != nil {
			return err
		}
		err = b.write(row{operation: "Open", users: p.n, side: "Denizen"}, turn{values: map[string]float64{
			"ns/op": float64(took), "file-B/user": float64(file.Size()) / float64(p.n),
		}})
		if err != nil {
			return err
		}
	}
	// The heap is the cache, which does not grow with more users than it holds.
	dir, err := open()
	if err != nil {
		return err
	}
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	for _, id := range p.ids {
		if _, err := dir.User(context.Background(), system, id); err != nil {
			return err
		}
	}
	err = b.write(row{operation: "Memory", users: p.n, side: "Denizen"}, turn{n: uint64(len(p.ids)), values: map[string]float64{"heap-B": heap() - before}})
	return first(err, dir.Close())
}
