package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// streams measures event streams: what many of them take of a server's memory and cores, and how
// long it takes until all of them are told of one change. Each server is a process of its own; its
// clients are in this one.
func streams(b *bench) error {
	n := 1_000
	if b.main() >= 1_000_000 {
		n = 10_000
	}
	for _, s := range []struct {
		name, pkg string
		args      []string
	}{
		{"Denizen", "streams", []string{b.file("streams")}},
		{"centrifuge", "centrifuge", nil},
	} {
		if peer(s.name) && !b.peers {
			continue
		}
		err := b.withServer(s.pkg, append(s.args, strconv.Itoa(n)), func(v *streamServer) error {
			return b.streamsOf(v, row{operation: "Live/streams", users: n, side: s.name})
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// streamServer is a server in a process of its own: see the package loopback.
type streamServer struct {
	pid     int
	address string
	change  string   // a request, in which another number stands in the place of number
	opening []string // the requests of the streams

	watchers []net.Conn
	at       []atomic.Int64 // when each was told of the last change, in nanoseconds from began
	told     atomic.Int64   // how many of them were
	began    time.Time
	all      chan struct{} // closed once all were told
	failed   atomic.Pointer[error]
}

// The number of a change, which tells it from others, follows the mark in an event.
const (
	mark   = `"timeToLive":`
	number = 100_000
)

// withServer builds and starts a server, and calls f with it.
func (b *bench) withServer(pkg string, args []string, f func(*streamServer) error) (err error) {
	program := filepath.Join(b.scratch, pkg)
	build := exec.CommandContext(b.ctx, "go", "build", "-o", program, "github.com/denizenhq/denizen/bench/internal/"+pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	c := exec.CommandContext(b.ctx, program, args...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { err = first(err, in.Close(), c.Wait()) }()
	s := &streamServer{pid: c.Process.Pid}
	var lines []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		line, err := strconv.Unquote(scanner.Text())
		if err != nil {
			return err
		}
		if lines = append(lines, line); len(lines) == 2+mustNumber(args[len(args)-1]) {
			break
		}
	}
	if len(lines) < 3 {
		return errors.New("the server does not begin")
	}
	s.address, s.change, s.opening = lines[0], lines[1], lines[2:]
	defer s.close()
	return f(s)
}

func mustNumber(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func (s *streamServer) close() {
	for _, c := range s.watchers {
		if c != nil {
			_ = c.Close()
		}
	}
}

// streamsOf opens all streams of a server, and measures it.
func (b *bench) streamsOf(s *streamServer, r row) error {
	n := len(s.opening)
	before, _ := resident(s.pid)
	peak := watchResident(b.ctx, s.pid)
	began := time.Now()
	if err := s.open(); err != nil {
		peak()
		return err
	}
	opened := time.Since(began)
	cpu, _ := cpuOf(s.pid)
	began = time.Now()
	time.Sleep(50 * b.turn) // in a full run 15 s, in which a silent client is sent a comment
	now, _ := cpuOf(s.pid)
	share := float64(now-cpu) / float64(time.Since(began)) / float64(runtime.GOMAXPROCS(0))
	type change struct {
		took  []time.Duration
		spent time.Duration
	}
	var made []change
	for i := range b.rounds + 1 {
		cpu, _ := cpuOf(s.pid)
		took, err := s.tell(b.ctx, number+1+i)
		if err != nil {
			peak()
			return err
		}
		time.Sleep(500 * time.Millisecond)
		if i > 0 { // that was the warm-up
			now, _ := cpuOf(s.pid)
			made = append(made, change{took, now - cpu})
		}
	}
	after, _ := resident(s.pid)
	most := peak()
	for _, c := range made {
		values := map[string]float64{
			"open-ns/op": float64(opened) / float64(n), "idle-share": share, "cpu-ns/op": float64(c.spent) / float64(n),
			"told-first-ns": float64(c.took[0]), "told-p50-ns": float64(c.took[n/2]), "told-last-ns": float64(c.took[n-1]),
		}
		if after > 0 { // the system tells
			values["resident-B"], values["peak-B"] = after, most
			values["each-B"] = (after - before) / float64(n)
		}
		if err := b.write(r, turn{n: uint64(n), values: values}); err != nil {
			return err
		}
	}
	return nil
}

// open opens all streams, and returns when each was told the present state.
func (s *streamServer) open() error {
	s.watchers, s.at = make([]net.Conn, len(s.opening)), make([]atomic.Int64, len(s.opening))
	return atOnce(64, len(s.opening), func(i uint64) error {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		s.watchers[i] = c
		if _, err := io.WriteString(c, s.opening[i]); err != nil {
			return err
		}
		lines := bufio.NewReaderSize(c, 1024)
		line, err := lines.ReadSlice('\n')
		if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return first(err, fmt.Errorf("stream %d: %s", i, line))
		}
		for !bytes.HasPrefix(line, []byte("data: ")) {
			if line, err = lines.ReadSlice('\n'); err != nil {
				return err
			}
		}
		go s.read(lines, &s.at[i])
		return nil
	})
}

// read notes when a stream is told of the change that is under way.
func (s *streamServer) read(lines *bufio.Reader, at *atomic.Int64) {
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			s.failed.CompareAndSwap(nil, &err)
			return
		}
		if !bytes.Contains(line, []byte(mark+"100")) || !at.CompareAndSwap(0, int64(time.Since(s.began))) {
			continue
		}
		if s.told.Add(1) == int64(len(s.at)) {
			close(s.all)
		}
	}
}

// tell makes a change, and returns how long it took until each stream was told, in order. Before it
// no stream has anything to be told, so that nothing here is read while it is written.
func (s *streamServer) tell(ctx context.Context, change int) ([]time.Duration, error) {
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for i := range s.at {
		s.at[i].Store(0)
	}
	s.told.Store(0)
	s.all = make(chan struct{})
	request := strings.Replace(s.change, strconv.Itoa(number), strconv.Itoa(change), 1)
	s.began = time.Now()
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 204 ") {
		return nil, first(err, errors.New(answer))
	}
	timeout, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-s.all:
	case <-timeout.Done():
		if err := s.failed.Load(); err != nil {
			return nil, *err
		}
		return nil, fmt.Errorf("only %d streams were told: %w", s.told.Load(), timeout.Err())
	}
	took := make([]time.Duration, len(s.at))
	for i := range s.at {
		took[i] = time.Duration(s.at[i].Load())
	}
	slices.Sort(took)
	return took, nil
}

// resident returns the memory that a process has, in bytes, where the system tells.
func resident(pid int) (bytes float64, is bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if now, is := strings.CutPrefix(line, "VmRSS:"); is {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(now), " kB"), 64)
			return 1024 * kb, err == nil
		}
	}
	return 0, false
}

// watchResident returns a function that ends it, and returns the most memory that a process had.
func watchResident(ctx context.Context, pid int) (most func() float64) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan float64)
	go func() {
		var most float64
		for {
			now, _ := resident(pid)
			most = max(most, now)
			select {
			case <-ctx.Done():
				done <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() float64 { cancel(); return <-done }
}

// printStreams prints what event streams take.
func printStreams(out *strings.Builder, rs *results) {
	var lines []string
	n := 0
	for _, r := range rs.rows {
		if r.operation != "Live/streams" {
			continue
		}
		n = r.users
		value := func(unit string) float64 { f, _ := rs.of(r, unit); return f.median }
		last, _ := rs.of(r, "told-last-ns")
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %.1f %% | %s | %s | %s | %s to %s | %s |\n", name(r.side),
			bytesOf(value("peak-B")), bytesOf(value("resident-B")), bytesOf(value("each-B")), duration(value("open-ns/op")), 100*value("idle-share"),
			duration(value("told-first-ns")), duration(value("told-p50-ns")), duration(last.median), duration(last.least), duration(last.most),
			duration(value("cpu-ns/op"))))
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## Streams\n\n%s event streams of one server, a process of its own that uses Go's defaults; their clients are on the same cores. "+
		"In Denizen's each belongs to a user with a token of its own, who may see one user's presence. A change of that is synced, and then told; the time is from its request on. "+
		"centrifuge has its memory engine, and as many clients, subscribed to one channel and present in it, by server-sent events. Nobody has to prove who it is, and nothing is stored.\n\n"+
		"| by | memory at most | at the end | of each stream | to open one | all silent, of the cores | the first is told after | half | all | spread | work of each |\n|---|---|---|---|---|---|---|---|---|---|---|\n", count(n))
	for _, l := range lines {
		out.WriteString(l)
	}
}
