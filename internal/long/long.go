// Package long says how long tests take: as short as they can be and still try everything, or as
// long as continuous integration has time for.
package long

import "os"

// Of returns the number of rounds that a test makes: short, or long if the environment variable
// DENIZEN_LONG is set.
func Of(short, long int) int {
	if os.Getenv("DENIZEN_LONG") != "" {
		return long
	}
	return short
}
