//go:build !linux

package long

func inMemory() string { return "" }
