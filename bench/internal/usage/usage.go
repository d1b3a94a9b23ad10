// Package usage tells what a program has taken so far.
package usage

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
)

// Usage is what a program took until it was asked.
type Usage struct {
	Allocs, Bytes uint64 // on the heap, those that are free again included
	Resident      string // the most memory it had at a time, as the system says it
}

// Print prints it.
func Print() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := Usage{Allocs: m.Mallocs, Bytes: m.TotalAlloc}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if peak, is := strings.CutPrefix(line, "VmHWM:"); is {
			u.Resident = strings.TrimSpace(peak)
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(u)
}
