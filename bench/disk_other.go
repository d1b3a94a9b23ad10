//go:build !linux

package main

import (
	"os"
	"runtime"
)

func datasync(f *os.File) error { return f.Sync() }

// filesystem returns the kind of file system that dir is on, which is not known here.
func filesystem(string) string { return "a file system of " + runtime.GOOS }
