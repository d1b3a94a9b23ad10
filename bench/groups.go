package main

import (
	"os"
)

// groups are measured one after another. Each sets up what only it needs.
var groups = []struct {
	name    string
	measure func(b *bench) error
}{
	{"reads", reads},
	{"writes", writes},
	{"http", httpGroup},
	{"postgres", postgresGroup},
	{"importer", importer},
	{"transfer", transfers},
	{"shared", shared},
	{"live", live},
	{"streams", streams},
}

// sides are peers by operation.
type sides map[string][]side

func (s sides) add(more sides) {
	for name, ones := range more {
		s[name] = append(s[name], ones...)
	}
}

// reads reads from directories of each size. The peers are measured at one size only: a million
// users in a full run. PocketBase and SQLite never have more than 100,000, which is in their
// favour.
func reads(b *bench) (err error) {
	for _, n := range b.users {
		var beside sides
		stop := func() error { return nil }
		if b.peers && n == b.main() {
			if beside, stop, err = b.readers(); err != nil {
				return err
			}
		}
		if err := first(readsOf(b, n, beside), stop()); err != nil {
			return err
		}
	}
	return nil
}

func readsOf(b *bench, n int, beside sides) error {
	main := n == b.main()
	p, err := newPeople(b, n, main)
	if err != nil {
		return err
	}
	tokens := min(n, 50_000)
	if !main {
		tokens = min(n, 20_000)
	}
	if err := first(p.issue(b.ctx, tokens), p.copy()); err != nil {
		return err
	}
	if err := first(authenticate(b, p, beside), lookUp(b, p, beside), pages(b, p)); err != nil {
		return err
	}
	if main {
		if err := first(presences(b, p, beside), firstPresences(b, p), storedPresences(b, p)); err != nil {
			return err
		}
	}
	if err := first(create(b, p, nil), p.close(), opening(b, p)); err != nil {
		return err
	}
	return os.Remove(p.path)
}

// readers returns the peers to read from.
func (b *bench) readers() (_ sides, stop func() error, err error) {
	pb, err := openPocketBase(b, "NORMAL", min(b.main(), b.pocketBase))
	if err != nil {
		return nil, nil, err
	}
	beside := pb.reads()
	tokens, err := jwts()
	if err != nil {
		return nil, nil, err
	}
	beside.add(tokens)
	loaded, stopSessions, err := sessions(b)
	if err != nil {
		return nil, nil, err
	}
	beside.add(loaded)
	rows, stopSQLite, err := sqlite(b, min(b.main(), 100_000))
	if err != nil {
		return nil, nil, err
	}
	beside.add(rows)
	entries, stopEntries := ttlCache()
	beside.add(entries)
	stopRedis := func() error { return nil }
	if b.servers != nil {
		var keys sides
		if keys, stopRedis, err = redisPresence(b.ctx, b.servers.redis, b.servers.redisSynced); err != nil {
			return nil, nil, err
		}
		beside.add(keys)
	}
	return beside, func() error { return first(stopRedis(), stopEntries(), stopSQLite(), stopSessions(), pb.close()) }, nil
}

// writes writes to directories of a number of users, and to peers with as many.
func writes(b *bench) (err error) {
	p, err := newPeople(b, written, true)
	if err != nil {
		return err
	}
	if err := p.copy(); err != nil {
		return err
	}
	beside, stops := sides{}, []func() error{p.close}
	defer func() {
		for _, stop := range stops {
			err = first(err, stop())
		}
	}()
	if b.peers {
		for _, how := range []struct{ synchronous, name string }{{"FULL", "PocketBase, synced"}, {"NORMAL", "PocketBase as shipped, not synced"}} {
			pb, err := openPocketBase(b, how.synchronous, min(written, b.pocketBase))
			if err != nil {
				return err
			}
			beside.add(pb.creates(how.name))
			stops = append(stops, pb.close)
		}
		rows, stop, err := sqlite(b, written)
		if err != nil {
			return err
		}
		beside.add(rows)
		stops = append(stops, stop)
	}
	if b.servers != nil {
		d, err := openDatabase(b, 1000)
		if err != nil {
			return err
		}
		beside.add(d.creates(b.ctx))
		keys, stop, err := redisPresence(b.ctx, b.servers.redis, b.servers.redisSynced)
		if err != nil {
			return err
		}
		beside.add(keys)
		stops = append(stops, d.close, stop)
	}
	return first(create(b, p, beside), changes(b, p, beside), disk(b))
}

func httpGroup(b *bench) error {
	var pb *pocketBase
	if b.peers {
		var err error
		if pb, err = openPocketBase(b, "NORMAL", 1000); err != nil {
			return err
		}
	}
	err := overHTTP(b, pb)
	if pb != nil {
		err = first(err, pb.close())
	}
	return err
}

func postgresGroup(b *bench) error {
	if b.servers == nil {
		return nil
	}
	d, err := openDatabase(b, 1000)
	if err != nil {
		return err
	}
	return first(overPostgres(b, d), d.close())
}

// main is the size at which the peers are measured.
func (b *bench) main() int {
	largest := 0
	for _, n := range b.users {
		if n <= 1_000_000 {
			largest = max(largest, n)
		}
	}
	return largest
}
