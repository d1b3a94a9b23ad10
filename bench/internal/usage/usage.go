// Package usage measures the resources that a program has used so far.
package usage

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
)

// Usage is what a program has used.
type Usage struct {
	Allocs, Bytes uint64 // on the heap, including those that were freed
	Resident      string // the peak resident memory, as reported by the system
}

// Print prints the usage so far.
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
