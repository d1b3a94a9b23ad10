// Command empty does nothing: what any program of Go costs.
package main

import "github.com/denizenhq/denizen/bench/internal/usage"

func main() { usage.Print() }
