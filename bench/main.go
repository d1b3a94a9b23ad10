// Command bench measures a directory side by side with the alternatives, and with the least that
// the same work costs. They take turns in one run. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// Without this the servers would keep running.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "three short rounds, directories of 1,000 and 100,000 users, peers in this process only")
	full := flags.Bool("full", false, "five rounds, directories of up to 5,000,000 users, all peers; needs redis-server and postgresql")
	smoke := flags.Bool("smoke", false, "one round of a moment each, directories of 1,000 and 10,000 users, no peers: shows that it runs, not how fast")
	own := flags.Bool("own", false, "leave out the peers")
	only := flags.String("only", "", "the groups to measure, comma separated: reads, writes, http, postgres, importer, transfer, shared, live, streams; empty: all")
	raw := flags.String("raw", "bench.txt", "the file that the raw lines go to, for benchstat")
	from := flags.String("from", "", "measure nothing: print the tables of a file of raw lines")
	short := flags.Bool("short", false, "print the short table alone")
	dir := flags.String("dir", ".", "where to make the scratch directory: on a disk, or what is durable costs nothing")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *from == "" {
		b := &bench{ctx: ctx, peers: !*own}
		switch {
		case *smoke && !*quick && !*full:
			b.peers, b.rounds, b.turn, b.users = false, 1, 10*time.Millisecond, []int{1_000, 10_000}
		case *quick && !*smoke && !*full:
			b.rounds, b.turn, b.users, b.pocketBase = 3, 60*time.Millisecond, []int{1_000, 100_000}, 20_000
		case *full && !*smoke && !*quick:
			b.rounds, b.turn, b.users, b.pocketBase = 5, 300*time.Millisecond, []int{1_000, 100_000, 1_000_000, 5_000_000}, 100_000
		default:
			return errors.New("one of -smoke, -quick and -full, or -from a file")
		}
		if err := measure(b, *dir, *raw, *full && !*own, *only); err != nil {
			return err
		}
		*from = *raw
	}
	file, err := os.Open(*from)
	if err != nil {
		return err
	}
	defer file.Close()
	rs, err := parse(file)
	if err != nil {
		return err
	}
	if *short {
		return printShort(os.Stdout, rs)
	}
	return printTables(os.Stdout, rs)
}

// measure measures the groups and writes the raw lines.
func measure(b *bench, dir, raw string, withServers bool, only string) (err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if b.scratch, err = os.MkdirTemp(dir, "scratch-"); err != nil {
		return err
	}
	defer func() { err = first(err, os.RemoveAll(b.scratch)) }()
	file, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer func() { err = first(err, file.Close()) }()
	b.out = file
	if withServers {
		if b.servers, err = startServers(b.ctx, b.scratch); err != nil {
			return err
		}
		defer func() { err = first(err, b.servers.stop()) }()
	}
	if err := b.writeConfig(); err != nil {
		return err
	}
	for _, t := range groups {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.name) {
			continue
		}
		began := time.Now()
		if err := t.measure(b); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		runtime.GC()
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", t.name, time.Since(began).Round(time.Second))
	}
	return nil
}

// goroutines are the numbers of callers for what needs no disk: one, and one per core.
func (b *bench) goroutines() []int {
	if runtime.GOMAXPROCS(0) == 1 {
		return []int{1}
	}
	return []int{1, runtime.GOMAXPROCS(0)}
}

// versionsOf returns the versions of what is compared. Other modules in the program do not matter.
var versionsOf = []string{
	"go.etcd.io/bbolt", "github.com/golang-jwt/jwt/v5", "github.com/go-jose/go-jose/v4", "github.com/alexedwards/scs/v2",
	"github.com/pocketbase/pocketbase", "modernc.org/sqlite", "github.com/jellydator/ttlcache/v3",
	"github.com/redis/go-redis/v9", "github.com/jackc/pgx/v5", centrifugePath,
}

const centrifugePath = "github.com/centrifugal/centrifuge"

// writeConfig writes the configuration that applies to all lines.
func (b *bench) writeConfig() error {
	versions := map[string]string{}
	if info, is := debug.ReadBuildInfo(); is {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
	}
	var named []string
	// A program of its own, whose version this one does not hold.
	versions[centrifugePath] = firstLine("go", "list", "-m", "-f", "{{.Version}}", centrifugePath)
	for _, path := range versionsOf {
		named = append(named, path+" "+versions[path])
	}
	if b.servers != nil {
		named = append(named, b.servers.versions...)
	}
	for _, line := range [][2]string{
		{"goos", runtime.GOOS},
		{"goarch", runtime.GOARCH},
		{"pkg", "github.com/denizenhq/denizen/bench"},
		{"cpu", cpu()},
		{"cores", fmt.Sprint(runtime.GOMAXPROCS(0))},
		{"files", filesystem(b.scratch)},
		{"go", runtime.Version()},
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"commit", commit()},
		{"rounds", fmt.Sprint(b.rounds)},
		{"versions", strings.Join(named, ", ")},
	} {
		if _, err := fmt.Fprintf(b.out, "%s: %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

// commit returns the commit of the checkout, with a plus sign if more than results has changed
// since.
func commit() string {
	at := firstLine("git", "rev-parse", "--short=12", "HEAD")
	if changed := firstLine("git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results"); changed != "" {
		at += "+"
	}
	return at
}

func cpu() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, is := strings.Cut(line, ":"); is && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func firstLine(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
