// Package presence computes what is active in chains of presence states.
//
// It is pure. The active state at an instant follows from the chain, from when it was set and from
// that instant. So reading needs no timer, and a restart changes nothing.
package presence

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a chain and of the devices of one user.
const (
	MaxLinks   = 32        // links of a chain
	MaxSeconds = 1<<31 - 1 // seconds of a whole chain
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

// rank returns the place of a state in the order of the standard states.
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

// Shared returns the package's own copy of the name of a standard state, and any other name
// unchanged. Strings that share memory compare equal without being read.
func Shared(state string) string {
	if r := rank(state); r < len(standard) {
		return standard[r]
	}
	return state
}

// Link is one state of a chain and its duration in seconds. Zero means permanently.
type Link struct {
	State   string
	Seconds int64
}

// Chain is the sequence of states that a device goes through. Each begins when the one before ends.
// A chain is immutable.
type Chain []Link

// Check returns the rule that c breaks, or "".
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
			return "goes on after a state that is permanent"
		}
		if total += l.Seconds; total > MaxSeconds {
			return "lasts longer than 2147483647 seconds"
		}
	}
	return ""
}

// Name reports whether s is a name of least to most characters: valid UTF-8 without control
// characters or line and paragraph separators.
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
	// Two chains are more often the same one than equal copies.
	return len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b)
}

// At returns which link of c is active at now and since when, if c was set at start. All times are
// in Unix milliseconds. Once c has run out, At returns len(c) and the instant it ended. A now
// before start, possible by the clock of another machine, counts as start.
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

// last returns when the last link of c begins if c was set at start.
func (c Chain) last(start int64) int64 {
	for _, l := range c[:len(c)-1] {
		start += l.Seconds * 1000
	}
	return start
}

// Device is one device of a user. Start is when its chain was set as a change, and Beat when it was
// last set by a heartbeat, both in Unix milliseconds. A Beat below Start means that there was none.
// The device without a name is the default one.
type Device struct {
	Name  string
	Start int64
	Beat  int64
	Chain Chain
}

// Origin returns the instant from which the times of the device's chain count.
func (d *Device) Origin() int64 { return max(d.Start, d.Beat) }

// Runs reports whether the device's chain has not run out by now.
func (d Device) Runs(now int64) bool {
	link, _ := d.Chain.At(d.Origin(), now)
	return link < len(d.Chain)
}

// Forever is the end of what does not end.
const Forever = math.MaxInt64

// LastHere returns when the last state but Offline of a user with the given devices ends: 0 if
// there is none, and [Forever] if it does not end.
func LastHere(devices []Device) (end int64) {
	for i := range devices {
		at := devices[i].Origin()
		for _, l := range devices[i].Chain {
			at += l.Seconds * 1000
			if l.State == Offline {
				continue
			}
			if l.Seconds == 0 {
				return Forever
			}
			end = max(end, at)
		}
	}
	return end
}

// NextEnd returns when a state of one of the devices ends next after now, or [Forever].
func NextEnd(devices []Device, now int64) int64 {
	end := int64(Forever)
	for i := range devices {
		d := &devices[i]
		link, since := d.Chain.At(d.Origin(), now)
		if link < len(d.Chain) && d.Chain[link].Seconds != 0 {
			end = min(end, since+d.Chain[link].Seconds*1000)
		}
	}
	return end
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

// Latest returns when the device was last set, including by those of beats that have its name and
// chain.
func (d *Device) Latest(beats []Device) int64 {
	origin := d.Origin()
	for i := range beats {
		if b := &beats[i]; b.Beat > origin && b.Name == d.Name && Equal(b.Chain, d.Chain) {
			origin = b.Beat
		}
	}
	return origin
}

// Reading is the presence of a user or a device at an instant. Rest is the chain from the active
// link on. Since and Until are when that link began and when it ends, with 0 if it is permanent. If
// no chain is running, Rest is empty, and Since is when the last chain ended, or 0 if none was ever
// set.
type Reading struct {
	Device       string
	Rest         Chain
	Since, Until int64
}

// Read returns the presence of one device at now, like the function [Read].
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
		r.Since = d.Start // heartbeats extend the first state, but do not begin it anew
	}
	return r
}

// Read returns the presence at now of a user with the given devices. It is that of the running
// device in the best state; among equals, that of the device whose state began later; and among
// those, that of the device whose name is first in byte order. beats are heartbeats as in
// [Device.Latest].
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

// better reports whether a is to be shown rather than b.
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

// Set returns devices with d, sorted by name, in a new slice. d replaces the device of the same
// name. Devices that have run out by now are dropped. If there are still MaxDevices others, the one
// that began its last link first is dropped as well.
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
			return cmp.Or(
				cmp.Compare(a.Chain.last(a.Origin()), b.Chain.last(b.Origin())),
				cmp.Compare(a.Name, b.Name),
			)
		})
		next = slices.DeleteFunc(next, func(o Device) bool { return o.Name == oldest.Name })
	}
	next = append(next, d)
	slices.SortFunc(next, func(a, b Device) int { return cmp.Compare(a.Name, b.Name) })
	return next
}
