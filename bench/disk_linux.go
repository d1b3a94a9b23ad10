package main

import (
	"fmt"
	"os"
	"syscall"
)

func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// filesystems are names of the numbers of statfs(2).
var filesystems = map[int64]string{
	0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlayfs",
	0x1021994: "tmpfs, in memory: what is durable costs nothing",
}

// filesystem returns the kind of file system that dir is on.
func filesystem(dir string) string {
	var on syscall.Statfs_t
	if err := syscall.Statfs(dir, &on); err != nil {
		return err.Error()
	}
	if name, known := filesystems[int64(on.Type)]; known {
		return name
	}
	return fmt.Sprintf("file system %#x", on.Type)
}
