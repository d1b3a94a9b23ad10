package main

import (
	"fmt"
	"os"
)

// heldError says that another process has a file open.
type heldError struct {
	path   string
	holder string // empty if it cannot be told
	socket bool   // there is a socket beside the file
	// unreached is why that cannot be used, if it was tried.
	unreached error
}

func newHeldError(path string, unreached error) error {
	_, err := os.Lstat(path + ".sock")
	return &heldError{path, holderOf(path), err == nil, unreached}
}

func (e *heldError) Error() string {
	who := "another process"
	if e.holder != "" {
		who = "process " + e.holder
	}
	return fmt.Sprintf("%s has the file %s open", who, e.path)
}

func (e *heldError) hints() []string {
	if e.unreached != nil {
		return []string{"the socket beside it cannot be used: " + e.unreached.Error()}
	}
	if e.socket {
		return []string{"its socket serves what reads, backups and compacting; for anything else stop that process, and start it again after"}
	}
	return []string{
		"stop that process, and start it again after",
		"or let it serve a socket: opsocket.Serve(ctx, dir, \"" + e.path + ".sock\"); then what reads, backups and compacting go through it",
	}
}
