//go:build !unix

package opsocket

import "io/fs"

func own(fs.FileInfo) bool { return false }

func isRefused(error) bool { return false }
