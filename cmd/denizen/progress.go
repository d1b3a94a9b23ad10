package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progress shows how far long work has come, on stderr, if that is a terminal or -progress asks. It
// shows nothing of what ends within a second. The returned function ends it, and must be called.
func (s *session) progress(state func() string) (end func()) {
	if !s.told && !s.showProgress {
		return func() {}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		shown := false
		for {
			select {
			case <-stop:
				if shown && s.told {
					fmt.Fprint(s.stderr, "\r\x1b[K")
				}
				return
			case <-ticker.C:
				if shown = true; s.told {
					fmt.Fprintf(s.stderr, "\r\x1b[K%s", clean(state()))
				} else {
					fmt.Fprintln(s.stderr, clean(state()))
				}
			}
		}
	}()
	return func() { close(stop); <-done }
}

// countingWriter counts what is written through it.
type countingWriter struct {
	io.Writer
	n atomic.Int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.n.Add(int64(n))
	return n, err
}
