// Package loopback serves a handler of streams to the bench, which runs it as a process of its own,
// so that its memory is its own.
package loopback

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
)

// Serve serves a handler on loopback until the standard input ends. It prints, each quoted and on a
// line: its address, a request that makes a change, and a request for each stream to be opened.
func Serve(h http.Handler, change string, streams []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, strconv.Quote(l.Addr().String()))
	fmt.Fprintln(out, strconv.Quote(change))
	for i := range streams {
		fmt.Fprintln(out, strconv.Quote(streams[i]))
		streams[i] = ""
	}
	debug.FreeOSMemory() // what it took to set this up is not what is measured
	if err := out.Flush(); err != nil {
		return err
	}
	s := &http.Server{Handler: h}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = s.Close()
	}()
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Post returns a request that posts JSON, with more lines of the header.
func Post(path, header, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), header, body)
}
