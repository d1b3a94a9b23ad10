//go:build !unix

package ops

func isRefused(error) bool { return false }
