package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// bench is one run of the program.
type bench struct {
	ctx     context.Context
	out     io.Writer // the raw lines
	scratch string    // a directory on a disk
	rounds  int
	turn    time.Duration // how long a turn takes at the least
	users   []int         // the sizes of the directories, the largest that peers are compared at first
	peers   bool
	servers *servers // nil: without those
	// pocketBase is the maximum number of users of PocketBase, which is slow to create them.
	pocketBase int
}

// file returns an unused path in the scratch directory.
func (b *bench) file(name string) string {
	return filepath.Join(b.scratch, fmt.Sprintf("%s-%d", name, sequence.Add(1)))
}

// side is one of the compared programs: something that performs an operation.
type side struct {
	name   string
	before func() error // before do is timed, nil for nothing
	// One operation; no i is used twice, and those of a goroutine increase by one.
	do   func(i uint64) error
	some int // operations between two befores; 0: as many as fit in a turn
}

// operation is what the sides perform in turns.
type operation struct {
	name       string // of the raw lines: Topic/what
	users      int    // in the directory, 0 if that does not matter
	goroutines int
	latency    bool // whether each one is timed: only what takes microseconds
	sides      []side
}

// compare lets the sides take turns, round after round, and writes a line for each turn.
func (b *bench) compare(o operation) error {
	sides := slices.DeleteFunc(slices.Clone(o.sides), func(s side) bool { return !b.peers && peer(s.name) })
	made := make([]calls, len(sides))
	for round := range b.rounds + 1 {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		for i, s := range sides {
			least := b.turn
			if round == 0 {
				least /= 4
			}
			t, err := made[i].turn(s, o, least)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", o.name, s.name, err)
			}
			if round == 0 {
				continue // that was the warm-up
			}
			if err := b.write(row{o.name, o.users, o.goroutines, s.name}, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// calls counts the operations of one side, so that no number is used twice.
type calls struct{ made uint64 }

// turn lets the goroutines perform the operation for a time, and returns the cost of one operation.
func (c *calls) turn(s side, o operation, least time.Duration) (t turn, err error) {
	runtime.GC()
	var took time.Duration
	var done, allocs, bytes uint64
	var latencies []time.Duration
	for took < least {
		if s.before != nil {
			if err := s.before(); err != nil {
				return turn{}, err
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := c.part(s, o, least-took)
		runtime.ReadMemStats(&after)
		if p.err != nil {
			return turn{}, p.err
		}
		took, done = took+p.took, done+p.done
		allocs, bytes = allocs+after.Mallocs-before.Mallocs, bytes+after.TotalAlloc-before.TotalAlloc
		latencies = append(latencies, p.latencies...)
	}
	n := float64(done)
	t = turn{n: done, values: map[string]float64{
		"ns/op": float64(took.Nanoseconds()) / n, "B/op": float64(bytes / done), "allocs/op": float64(allocs / done),
	}}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		t.values["p50-ns"] = float64(latencies[len(latencies)/2])
		t.values["p99-ns"] = float64(latencies[len(latencies)*99/100])
	}
	return t, nil
}

type part struct {
	done      uint64
	took      time.Duration
	latencies []time.Duration
	err       error
}

// part performs the operations between two befores.
func (c *calls) part(s side, o operation, d time.Duration) part {
	type worker struct {
		n         uint64
		latencies []time.Duration
		err       error
		_         [64]byte // keeps the workers' counts off a shared cache line
	}
	workers := make([]worker, o.goroutines)
	share := uint64(1) << 40
	if s.some > 0 {
		share = uint64(max(1, s.some/o.goroutines))
	}
	var stop atomic.Bool
	if s.some == 0 {
		defer time.AfterFunc(max(d, time.Millisecond), func() { stop.Store(true) }).Stop()
	}
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range workers {
		wg.Go(func() {
			w, first := &workers[i], c.made+uint64(i)*share
			for w.n < share && !stop.Load() && w.err == nil {
				if !o.latency {
					w.err = s.do(first + w.n)
				} else {
					before := time.Now()
					w.err = s.do(first + w.n)
					w.latencies = append(w.latencies, time.Since(before))
				}
				w.n++
			}
		})
	}
	wg.Wait()
	p := part{took: time.Since(begin)}
	for _, w := range workers {
		p.done += w.n
		p.latencies = append(p.latencies, w.latencies...)
		if w.err != nil {
			p.err = w.err
		}
	}
	c.made += uint64(o.goroutines) * share
	return p
}

// warm performs each of n operations once.
func warm(n int, do func(i uint64) error) error {
	for i := range n {
		if err := do(uint64(i)); err != nil {
			return err
		}
	}
	return nil
}
