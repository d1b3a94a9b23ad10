package denizen

import (
	"context"
	"time"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store"
)

// Stats is figures of a directory. Those that count do so in this process, since the directory was
// opened, and only grow.
type Stats struct {
	At time.Time

	// Records and Tokens are what is remembered: records of the store, and authenticated tokens.
	// Over a store that others may write to, no records are. Presences that are kept ready in a
	// table of their own are not in it.
	Records, Tokens CacheStats
	// Watched is the users whose presence somebody watches, and what all watches take.
	Watched CacheStats

	Commits           CommitStats
	HeartbeatsWaiting int // users with heartbeats that are not stored yet

	// The feed: the lowest place that is not forgotten, the latest commit, and who follows by
	// Directory.Notify.
	First, Head Seq
	Consumers   []ConsumerStats

	File FileStats

	RootKey string // the id of the root key that everything is under; NoRootKey: in the clear
	Health  error  // what Directory.Health returns
}

// CacheStats is figures of a cache.
type CacheStats struct {
	Entries int
	Bytes   int64 // as Options.CacheBytes counts them
	Limit   int64 // bytes; 0: nothing is remembered
	Misses  int64 // records that had to be read from the store; counted for records alone
}

// CommitStats is figures of the writes to the store.
type CommitStats struct {
	Applied   int64
	Conflicts int64 // tries that met a change by others and were made again, or refused
	Failed    int64 // for another reason, or with an unknown outcome
	// Groups are the transactions in which the store made them, if it says so: it commits together
	// what waits. GroupSizes counts those of 1, 2, 3 to 4, 5 to 8 commits and so on. Other users of
	// the same store are in it.
	Groups     int64
	GroupSizes [store.GroupSizes]int64
	Waiting    int // commits that wait for their group now
	// Took is how long all of them took together, with the time they waited for others.
	Took time.Duration
}

// ConsumerStats is how far a consumer of the feed is behind.
type ConsumerStats struct {
	Name   string
	Behind int64 // commits between what it has handled and Head; some have no event
	Missed bool  // events were forgotten before it had them
	Stuck  bool  // see Consumer.Stuck
}

// Stats returns figures of the directory. It costs four short reads of the store and none of the
// users, so it may be called every few seconds. Only .system may.
func (d *Directory) Stats(ctx context.Context, by Principal) (s Stats, err error) {
	defer d.trace(&ctx, "Stats", &by).end(&err)
	c, err := d.enter(ctx, opHealth, by, noTarget)
	if err != nil {
		return Stats{}, err
	}
	if d.parent != nil {
		return Stats{}, invalid("directory", "is in a transaction")
	}
	if err := d.usable(); err != nil {
		return Stats{}, err
	}
	feed, err := headOf(ctx, d.store)
	if err != nil {
		return Stats{}, err
	}
	consumers, err := d.listConsumers(ctx)
	if err != nil {
		return Stats{}, err
	}
	entries, err := d.read(ctx, &c, record.DirectoryKey)
	if err != nil {
		return Stats{}, err
	}
	file, err := fileStats(ctx, d.store)
	if err != nil {
		return Stats{}, err
	}
	s = Stats{
		At: timeOf(c.now), First: Seq(feed.First), Head: Seq(feed.Head), File: file,
		HeartbeatsWaiting: d.records.BeatsWaiting(), Health: d.condition(c.now),
	}
	if own, ok := entries[0].Value().(*record.Directory); ok {
		if _, k, err := d.unseal(cursorPurpose, own.CursorKey); err == nil {
			s.RootKey = k.id
		} else if sealed, ok := parseSealed(own.CursorKey); ok {
			s.RootKey = sealed.id
		}
	}
	for _, found := range consumers {
		s.Consumers = append(s.Consumers, d.statsOf(found, feed))
	}
	counts := d.records.Counts()
	s.Commits = CommitStats{
		Applied: counts.Applied, Conflicts: counts.Conflicts, Failed: counts.Failed,
	}
	if counter, ok := d.store.(store.Counter); ok {
		groups := counter.Counts()
		s.Commits.Groups, s.Commits.GroupSizes = groups.Groups, groups.Sizes
		s.Commits.Waiting, s.Commits.Took = groups.Waiting, groups.Took
	}
	entriesHeld, bytes := d.records.Cached()
	s.Records = CacheStats{Entries: entriesHeld, Bytes: bytes, Misses: counts.Misses}
	if d.records.Caching() {
		s.Records.Limit = recordBytes(d.options.CacheBytes)
	}
	if d.tokens != nil {
		s.Tokens.Entries, s.Tokens.Bytes = d.tokens.size()
		s.Tokens.Limit = tokenBytes(d.options.CacheBytes)
	}
	s.Watched.Entries, s.Watched.Bytes = d.watches.Size()
	s.Watched.Limit = d.options.CacheBytes
	return s, nil
}

// statsOf returns how far a consumer is behind the end of the feed.
func (d *Directory) statsOf(c Consumer, feed store.Feed) ConsumerStats {
	s := ConsumerStats{Name: c.Name, Stuck: c.Stuck != ""}
	at := feed.First - 1
	if c.Cursor != "" {
		p, err := d.parse(c.Cursor)
		if s.Missed = err != nil || p.seq < at || p.seq > feed.Head; !s.Missed {
			at = p.seq
		}
	}
	s.Behind = int64(feed.Head - min(at, feed.Head))
	return s
}
