package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// servers are the peers that are separate programs, started for this run on loopback.
type servers struct {
	redis       string // its address; memory only
	redisSynced string // syncs its log before it replies
	postgres    string // a DSN
	versions    []string
	stops       []func() error
}

func startServers(ctx context.Context, scratch string) (_ *servers, err error) {
	s := new(servers)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.redis, err = s.startRedis(ctx, scratch, "no"); err != nil {
		return nil, err
	}
	if s.redisSynced, err = s.startRedis(ctx, scratch, "yes"); err != nil {
		return nil, err
	}
	s.postgres, err = s.startPostgres(ctx, scratch)
	return s, err
}

func (s *servers) stop() error {
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

func (s *servers) startRedis(ctx context.Context, scratch, synced string) (address string, err error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(scratch, "redis-")
	if err != nil {
		return "", err
	}
	c := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", synced, "--appendfsync", "always", "--dir", dir)
	if err := c.Start(); err != nil {
		return "", fmt.Errorf("start redis-server, of Debian's package of that name: %w", err)
	}
	s.stops = append(s.stops, func() error {
		err := c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		return err
	})
	address = "127.0.0.1:" + port
	client := redis.NewClient(&redis.Options{Addr: address})
	if synced == "no" {
		s.versions = append(s.versions, "Redis "+redisVersion(firstLine("redis-server", "--version")))
	}
	return address, errors.Join(eventually(ctx, func() error { return client.Ping(ctx).Err() }), client.Close())
}

// startPostgres makes a cluster and starts it. If this process runs as root, which may not do that,
// it uses the user postgres.
func (s *servers) startPostgres(ctx context.Context, scratch string) (dsn string, err error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	// Where Debian has them, outside of PATH.
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.Sort(programs)
	program := func(name string) string {
		if len(programs) == 0 {
			return name
		}
		return filepath.Join(programs[len(programs)-1], name)
	}
	dir, err := os.MkdirTemp(scratch, "postgres-")
	if err != nil {
		return "", err
	}
	var as *syscall.SysProcAttr
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return "", err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := first(os.Chmod(scratch, 0o755), os.Chown(dir, uid, gid)); err != nil {
			return "", err
		}
	}
	run := func(name string, args ...string) error {
		c := exec.Command(program(name), args...)
		c.Dir, c.SysProcAttr = dir, as
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s, of Debian's postgresql: %w\n%s", name, err, out)
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"); err != nil {
		return "", err
	}
	options := "-p " + port + " -c listen_addresses=127.0.0.1 -c unix_socket_directories=" + dir + " -c shared_buffers=512MB -c max_connections=200"
	if err := run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", options, "start"); err != nil {
		return "", err
	}
	s.stops = append(s.stops, func() error { return run("pg_ctl", "-D", data, "-m", "immediate", "stop") })
	dsn = "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable"
	return dsn, eventually(ctx, func() error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		s.versions = append(s.versions, "PostgreSQL "+conn.PgConn().ParameterStatus("server_version"))
		return conn.Close(ctx)
	})
}

// redisVersion extracts 7.0.15 out of "Redis server v=7.0.15 sha=…".
func redisVersion(line string) string {
	_, after, _ := strings.Cut(line, "v=")
	version, _, _ := strings.Cut(after, " ")
	return version
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func eventually(ctx context.Context, try func() error) (err error) {
	for range 100 {
		if err = try(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}
