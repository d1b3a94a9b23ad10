// Command empty does nothing, and shows what any Go program costs.
package main

import "github.com/denizenhq/denizen/bench/internal/usage"

func main() { usage.Print() }
