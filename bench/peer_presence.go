package main

import (
	"context"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/redis/go-redis/v9"

	"github.com/denizenhq/denizen"
)

// ttlCache is a common in-process map with expiring entries.
func ttlCache() (_ sides, stop func() error) {
	c := ttlcache.New(ttlcache.WithTTL[denizen.UserID, string](24*time.Hour), ttlcache.WithDisableTouchOnHit[denizen.UserID, string]())
	ids := make([]denizen.UserID, remembered)
	for i := range ids {
		ids[i] = userID(i)
		c.Set(ids[i], denizen.StateOnline, time.Hour)
	}
	return sides{
		"Presence/set": {{name: "ttlcache", do: func(i uint64) error {
			c.Set(ids[i%remembered], denizen.StateOnline, time.Hour)
			return nil
		}}},
		"Presence/get": {{name: "ttlcache", do: func(i uint64) error {
			if c.Get(ids[i%remembered]) == nil {
				return errAbsent
			}
			return nil
		}}},
	}, func() error { c.DeleteAll(); return nil }
}

// redisPresence keeps a presence under a key that expires: SET … EX, and GET. One server keeps it
// only in memory, the other syncs its log before it replies.
func redisPresence(ctx context.Context, memory, durable string) (_ sides, stop func() error, err error) {
	open := func(address string) *redis.Client {
		return redis.NewClient(&redis.Options{Addr: address, PoolSize: 64, MinIdleConns: 8})
	}
	fast, synced := open(memory), open(durable)
	key := func(i uint64) string { return string(userID(int(i % remembered))) }
	set := func(c *redis.Client) func(i uint64) error {
		return func(i uint64) error { return c.Set(ctx, key(i), denizen.StateOnline, time.Hour).Err() }
	}
	for i := range uint64(remembered) {
		if err := set(fast)(i); err != nil {
			return nil, nil, err
		}
	}
	return sides{
		"Presence/set":    {{name: "Redis", do: set(fast)}},
		"Presence/get":    {{name: "Redis", do: func(i uint64) error { return fast.Get(ctx, key(i)).Err() }}},
		"Presence/change": {{name: "Redis, synced", do: set(synced)}},
	}, func() error { return first(fast.Close(), synced.Close()) }, nil
}
