package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denizenhq/denizen/bench/internal/usage"
)

// importer measures what a directory adds to a program: its size, and its time and memory from
// start to end.
func importer(b *bench) error {
	const here = "github.com/denizenhq/denizen/bench/internal/"
	type program struct {
		name, pkg, tags, locator string
	}
	programs := []program{
		{name: "floor: a program that does nothing", pkg: "empty"},
		{name: "Denizen, nothing called", pkg: "directory"},
		{name: "Denizen, a user with an e-mail address in a file", pkg: "directory", locator: "email:alice@example.org"},
		{name: "Denizen, a user with a telephone number in a file", pkg: "directory", locator: "tele:+442071838750"},
		{name: "Denizen without telephone numbers, nothing called", pkg: "directory", tags: "denizen_notele"},
		{name: "Denizen without telephone numbers, a user with an e-mail address in a file", pkg: "directory", tags: "denizen_notele", locator: "email:alice@example.org"},
	}
	path := func(p program) string { return filepath.Join(b.scratch, p.pkg+p.tags) }
	for _, p := range programs {
		build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", p.tags, "-o", path(p), here+p.pkg)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	const runs = 10
	for range b.rounds {
		for _, p := range programs {
			binary, err := os.Stat(path(p))
			if err != nil {
				return err
			}
			var took []time.Duration
			var u usage.Usage
			for range runs {
				var args []string
				file := b.file("importer")
				if p.locator != "" {
					args = []string{file, p.locator}
				}
				began := time.Now()
				out, err := exec.CommandContext(b.ctx, path(p), args...).Output()
				took = append(took, time.Since(began))
				if err := first(err, json.Unmarshal(out, &u), os.RemoveAll(file)); err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
			}
			slices.Sort(took)
			resident, err := strconv.ParseFloat(strings.TrimSuffix(u.Resident, " kB"), 64)
			if err != nil {
				return err
			}
			err = b.write(row{operation: "Importer", side: p.name}, turn{n: runs, values: map[string]float64{
				"ns/op": float64(took[len(took)/2]), "allocs/op": float64(u.Allocs), "B/op": float64(u.Bytes),
				"binary-B": float64(binary.Size()), "resident-B": resident * 1024,
			}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
