//go:build unix

package main

import (
	"os"
	"syscall"
)

// ownerOf returns the user whose a file is, or -1.
func ownerOf(path string) int {
	if info, err := os.Stat(path); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			return int(s.Uid)
		}
	}
	return -1
}

// keepOwner gives a file of mode 0600 the owner of another.
func keepOwner(path, like string) error {
	if own := ownerOf(like); own >= 0 && own != ownerOf(path) {
		return os.Chown(path, own, -1)
	}
	return nil
}
