package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/postgres"
)

// sharers is how many callers set presences at once.
const sharers = 512

// shared measures presence over PostgreSQL, where each heartbeat is stored before it is answered.
func shared(b *bench) error {
	dsn := b.postgres()
	if dsn == "" {
		return nil
	}
	n := 10_000
	if b.main() >= 1_000_000 {
		n = 50_000
	}
	return b.inSchema(dsn, func(pool *pgxpool.Pool, schema string) error {
		s, err := postgres.Open(b.ctx, pool, postgres.Options{Schema: schema})
		if err != nil {
			return err
		}
		if _, err := b.bring(s, n); err != nil {
			return err
		}
		if s, err = postgres.Open(b.ctx, pool, postgres.Options{Schema: schema}); err != nil {
			return err
		}
		dir, err := denizen.New(b.ctx, s, denizen.Options{})
		if err != nil {
			return err
		}
		by := make([]denizen.Principal, n)
		for i := range by {
			if by[i], err = dir.ActAs(b.ctx, system, userID(i)); err != nil {
				return err
			}
		}
		for round := range b.rounds {
			next := denizen.Online(time.Duration(1+round) * time.Hour).Then(denizen.Offline())
			for _, o := range []string{"Shared/storm", "Shared/heartbeat"} {
				took, worked, err := b.setAll(pool, dir, by, next)
				if err != nil {
					return fmt.Errorf("%s: %w", o, err)
				}
				err = b.write(row{o, n, sharers, "Denizen over PostgreSQL"}, turn{n: uint64(n), values: map[string]float64{
					"ns/op": float64(took.Nanoseconds()) / float64(n), "work-ns/op": worked / float64(n),
				}})
				if err != nil {
					return err
				}
			}
		}
		return first(dir.Close(), s.Close())
	})
}

// setAll lets so many callers set a chain for all users, once each. It returns how long that took,
// and the work.
func (b *bench) setAll(
	pool *pgxpool.Pool, dir *denizen.Directory, by []denizen.Principal, chain denizen.Presence,
) (took time.Duration, worked float64, err error) {
	var next atomic.Int64
	var callers sync.WaitGroup
	errs := make([]error, sharers)
	before, err := work(b, pool)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	for c := range errs {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(by) && errs[c] == nil; i = int(next.Add(1)) - 1 {
				errs[c] = dir.SetPresence(b.ctx, by[i], userID(i), chain)
			}
		})
	}
	callers.Wait()
	took = time.Since(began)
	after, err := work(b, pool)
	return took, after.since(before), first(append(errs, err)...)
}

// used is the processor time that processes have used, in nanoseconds.
type used map[int]float64

// work returns what this process and the sessions of the server have used. The server must be on
// this machine.
func work(b *bench, pool *pgxpool.Pool) (used, error) {
	all := used{os.Getpid(): float64(cpuTime())}
	var pids []int
	err := pool.QueryRow(b.ctx, `SELECT array_agg(pid) FROM pg_stat_activity`).Scan(&pids)
	for _, pid := range pids {
		if took, is := cpuOf(pid); is {
			all[pid] = float64(took)
		}
	}
	return all, err
}

// cpuOf returns the processor time that a process has used, to 10 ms, where the system tells.
func cpuOf(pid int) (_ time.Duration, is bool) {
	const tick = 10 * time.Millisecond // of utime and stime: proc(5)
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, false
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return tick * time.Duration(user+system), true
}

// since returns what was used since before, without processes that have ended.
func (u used) since(before used) (ns float64) {
	for pid, now := range u {
		ns += now - before[pid]
	}
	return ns
}

// printShared prints what presence over a shared store costs, if that was measured.
func printShared(out *strings.Builder, rs *results) {
	var lines []string
	for _, r := range rs.rows {
		what, is := map[string]string{"Shared/heartbeat": "heartbeat", "Shared/storm": "another chain"}[r.operation]
		if !is {
			continue
		}
		each, _ := rs.of(r, "ns/op")
		worked, _ := rs.of(r, "work-ns/op")
		n := float64(r.users)
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s to %s | %s |\n", what, count(r.users),
			rate(each.median), duration(n*each.median), duration(n*each.least), duration(n*each.most), duration(worked.median)))
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## Presence over PostgreSQL\n\nAll users set the same chain, each once, from %d callers over one pool of the usual size. Each is stored when it is answered, heartbeats too. "+
		"The work is processor time of this process and of the server's.\n\n| operation | users | a second | all | spread | work of each |\n|---|---|---|---|---|---|\n", sharers)
	for _, l := range lines {
		out.WriteString(l)
	}
}
