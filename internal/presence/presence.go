// Package presence is the arithmetic of presence chains. It is pure: what is active at
// an instant follows from when a chain was set, the chain and that instant, so reading
// needs no timer and a restart changes nothing.
package presence

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a chain and of the devices of one user.
const (
	MaxLinks   = 32        // links of a chain
	MaxSeconds = 1<<31 - 1 // of a whole chain
	MaxState   = 128       // characters of a state's name
	MaxDevice  = 64        // characters of a device's name
	MaxDevices = 16        // devices of a user
)

// The standard states, best first. Any other name ranks after them.
const (
	Online   = "mitter.up.Online"
	Away     = "mitter.up.Away"
	Sleeping = "mitter.up.Sleeping"
	Missing  = "mitter.up.Missing"
	Offline  = "mitter.up.Offline"
)

func rank(state string) int {
	switch state {
	case Online:
		return 0
	case Away:
		return 1
	case Sleeping:
		return 2
	case Missing:
		return 3
	case Offline:
		return 4
	}
	return 5
}

var standard = [...]string{Online, Away, Sleeping, Missing, Offline}

// Shared answers the one copy there is of the name of a standard state, which is told from
// itself without reading it, and any other name as it is.
func Shared(state string) string {
	if r := rank(state); r < len(standard) {
		return standard[r]
	}
	return state
}

// Link is one state of a chain and how long it stays, in seconds. Zero: for good.
type Link struct {
	State   string
	Seconds int64
}

// Chain is the states a device goes through, each from the end of the one before.
// It is never changed once made.
type Chain []Link

// Check answers the rule that c breaks, or "".
func (c Chain) Check() string {
	if len(c) == 0 {
		return "has no state"
	}
	if len(c) > MaxLinks {
		return "has more than 32 links"
	}
	total := int64(0)
	for i, l := range c {
		if !Name(l.State, 1, MaxState) {
			return "names a state that is not 1 to 128 characters without controls"
		}
		if l.Seconds < 0 || l.Seconds > MaxSeconds {
			return "has a time to live outside 0 to 2147483647 seconds"
		}
		if l.Seconds == 0 && i < len(c)-1 {
			return "goes on after a state that stays for good"
		}
		if total += l.Seconds; total > MaxSeconds {
			return "lasts longer than 2147483647 seconds"
		}
	}
	return ""
}

// Name reports whether s is a name of least to most characters: valid UTF-8 without
// control characters or line and paragraph separators.
func Name(s string, least, most int) bool {
	if !utf8.ValidString(s) {
		return false
	}
	n := utf8.RuneCountInString(s)
	return n >= least && n <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// Equal reports whether a and b are the same chain.
func Equal(a, b Chain) bool {
	if len(a) != len(b) {
		return false
	}
	// Chains are shared more often than made anew.
	return len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b)
}

// At tells which link of c runs at now, and since when, if c was set at start; all in
// Unix milliseconds. Once c has run out it answers len(c) and the instant it ended. A
// now before start, as another machine's clock may have it, is the start.
func (c Chain) At(start, now int64) (link int, since int64) {
	since = start
	for i, l := range c {
		end := since + l.Seconds*1000
		if l.Seconds == 0 || now < end {
			return i, since
		}
		since = end
	}
	return len(c), since
}

// last answers when the last link of c begins if c was set at start.
func (c Chain) last(start int64) int64 {
	for _, l := range c[:len(c)-1] {
		start += l.Seconds * 1000
	}
	return start
}

// Device is one device of a user: its chain, when that was set as a change, and when it was
// set last, heartbeats included; both in Unix milliseconds. A Beat below Start is none.
// The device without a name is the default one.
type Device struct {
	Name  string
	Start int64
	Beat  int64
	Chain Chain
}

// Origin returns the instant from which the times of d's chain count.
func (d *Device) Origin() int64 { return max(d.Start, d.Beat) }

// Runs reports whether the device's chain has not run out by now.
func (d Device) Runs(now int64) bool {
	link, _ := d.Chain.At(d.Origin(), now)
	return link < len(d.Chain)
}

// IndexOf returns where the device of a name is among devices, or -1.
func IndexOf(devices []Device, name string) int {
	for i := range devices {
		if devices[i].Name == name {
			return i
		}
	}
	return -1
}

// Latest returns when d was set last: heartbeats of the same name and chain set it too.
func (d *Device) Latest(beats []Device) int64 {
	origin := d.Origin()
	for i := range beats {
		if b := &beats[i]; b.Beat > origin && b.Name == d.Name && Equal(b.Chain, d.Chain) {
			origin = b.Beat
		}
	}
	return origin
}

// Reading is what the presence of a user or a device is at an instant: what is left of the
// chain from the active link on, since when that link is active, and until when, 0 if it
// stays. Rest is empty if nothing runs; Since is then when the last chain ended, or 0 if
// none was ever set.
type Reading struct {
	Device       string
	Rest         Chain
	Since, Until int64
}

// Read returns the presence at now of one device: see the function Read.
func (d *Device) Read(now int64, beats ...Device) Reading {
	link, since := d.Chain.At(d.Latest(beats), now)
	r := Reading{Device: d.Name, Rest: d.Chain[link:], Since: since}
	if len(r.Rest) == 0 {
		return r
	}
	if seconds := r.Rest[0].Seconds; seconds != 0 {
		r.Until = since + seconds*1000
	}
	if link == 0 {
		r.Since = d.Start // heartbeats move when the first state ends, not when it began
	}
	return r
}

// Read returns the presence at now of a user with these devices: of those that still run
// the one in the best state; among equals the one whose state began later; among those
// the one whose name comes first in byte order. Beats are heartbeats of the devices, as of Latest.
func Read(devices []Device, now int64, beats ...Device) Reading {
	var best Reading
	for i := range devices {
		r := devices[i].Read(now, beats...)
		if i == 0 || better(r, best) {
			best = r
		}
	}
	if len(best.Rest) == 0 {
		best.Device, best.Rest = "", nil
	}
	return best
}

func better(a, b Reading) bool {
	if len(a.Rest) == 0 || len(b.Rest) == 0 {
		if len(a.Rest) != len(b.Rest) {
			return len(a.Rest) > 0
		}
	} else if x, y := rank(a.Rest[0].State), rank(b.Rest[0].State); x != y {
		return x < y
	}
	if a.Since != b.Since {
		return a.Since > b.Since
	}
	return a.Device < b.Device
}

// Set answers devices with d in them, in the order of their names: d replaces the device
// of its name, devices that ran out by now go, and if there were still more than
// MaxDevices the one longest in its last link goes. The slice is new.
func Set(devices []Device, d Device, now int64) []Device {
	next := make([]Device, 0, len(devices)+1)
	for _, o := range devices {
		if o.Name == d.Name {
			continue
		}
		if o.Runs(now) {
			next = append(next, o)
		}
	}
	if len(next) >= MaxDevices {
		oldest := slices.MinFunc(next, func(a, b Device) int {
			return cmp.Or(cmp.Compare(a.Chain.last(a.Origin()), b.Chain.last(b.Origin())), cmp.Compare(a.Name, b.Name))
		})
		next = slices.DeleteFunc(next, func(o Device) bool { return o.Name == oldest.Name })
	}
	next = append(next, d)
	slices.SortFunc(next, func(a, b Device) int { return cmp.Compare(a.Name, b.Name) })
	return next
}
