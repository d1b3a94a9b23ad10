package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// holderOf returns the id and the name of the process that has a file locked, as far as the system
// tells.
func holderOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer locks.Close()
	inode := ":" + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		if holds(f[4], info) {
			name, _ := os.ReadFile("/proc/" + f[4] + "/comm")
			return strings.TrimSpace(f[4] + " " + strings.TrimSpace(string(name)))
		}
	}
	return ""
}

// holds reports whether a process has a file open: inodes of several file systems have one number.
func holds(pid string, file os.FileInfo) bool {
	fds := "/proc/" + pid + "/fd/"
	open, err := os.ReadDir(fds)
	if err != nil {
		return os.IsPermission(err)
	}
	for _, fd := range open {
		if info, err := os.Stat(fds + fd.Name()); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}
