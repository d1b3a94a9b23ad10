package spec_test

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/store/postgres"
)

// contender is one of the things that a benchmark compares.
type contender struct {
	name  string
	do    func() error
	times []time.Duration
}

// round has workers do n things in all.
func (c *contender) round(b *testing.B, workers, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := c.do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.times = append(c.times, time.Since(began)/time.Duration(n))
}

// contest lets the contenders take turns, and reports the median time of each and its ratio to
// that of the first.
func contest(b *testing.B, workers, n int, cs ...*contender) {
	b.Helper()
	for _, c := range cs {
		c.round(b, workers, n)
		c.times = nil
	}
	for b.Loop() {
		for _, c := range cs {
			c.round(b, workers, n)
		}
	}
	b.ReportMetric(0, "ns/op")
	var first float64
	for i, c := range cs {
		slices.Sort(c.times)
		median := float64(c.times[len(c.times)/2])
		b.ReportMetric(median/1e3, c.name+"-µs")
		if i == 0 {
			first = median
		} else {
			b.ReportMetric(median/first, c.name+"/"+cs[0].name)
		}
	}
}

// BenchmarkPostgres is a directory over PostgreSQL beside raw statements over the same pool: an
// insert of one row in its own transaction, and a select of one row by its key.
func BenchmarkPostgres(b *testing.B) {
	requirePostgres(b)
	config, err := pgxpool.ParseConfig(postgresDSN())
	require.NoError(b, err)
	config.MaxConns = 64
	own, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(own.Close)
	schema := newSchema()
	s, err := postgres.Open(b.Context(), own, postgres.Options{Schema: schema})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	dir, err := denizen.New(b.Context(), s, denizen.Options{Freshness: time.Minute})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, dir.Close()) })
	raw := pgx.Identifier{schema, "raw"}.Sanitize()
	_, err = own.Exec(ctx, `CREATE TABLE `+raw+` (key text PRIMARY KEY, version bigint NOT NULL, value jsonb NOT NULL)`)
	require.NoError(b, err)
	value := `{"id":"alice-0001","incarnation":"01a2041d-367b-76c6-8e8f-f587007fa7a0","screenName":"Somebody","created":1795365353083,"updated":1795365353083,
		"locators":[{"id":"CQHF7A2H3KLIU3PDUS4DVWKMNL","type":"email","address":"alice@example.org","canonical":"alice@example.org","status":"StatusNotProvided","owned":true}]}`
	insert := &contender{name: "insert", do: func() error {
		_, err := own.Exec(context.Background(), `INSERT INTO `+raw+` (key, version, value) VALUES ($1, 1, $2)`, crand.Text(), value)
		return err
	}}
	create := &contender{name: "create", do: func() error {
		_, err := dir.CreateUser(context.Background(), system, denizen.NewUser{
			ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email(strings.ToLower(crand.Text()) + "@example.org")},
		})
		return err
	}}
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("create/writers=%d", writers), func(b *testing.B) { contest(b, writers, 40*writers, insert, create) })
	}

	u, err := dir.CreateUser(ctx, system, denizen.NewUser{ScreenName: "Somebody", Locators: []denizen.NewLocator{denizen.Email("alice@example.org")}})
	require.NoError(b, err)
	_, err = own.Exec(ctx, `INSERT INTO `+raw+` (key, version, value) VALUES ($1, 1, $2)`, u.ID, value)
	require.NoError(b, err)
	token, err := dir.IssueToken(ctx, system, u.ID, denizen.TokenOptions{})
	require.NoError(b, err)
	row := &contender{name: "select", do: func() error {
		var version int64
		var value []byte
		return own.QueryRow(context.Background(), `SELECT version, value FROM `+raw+` WHERE key = $1`, u.ID).Scan(&version, &value)
	}}
	get := &contender{name: "get", do: func() error {
		_, err := dir.User(context.Background(), system, u.ID)
		return err
	}}
	for _, readers := range []int{1, 8} {
		b.Run(fmt.Sprintf("get/readers=%d", readers), func(b *testing.B) { contest(b, readers, 2_000, row, get) })
	}

	b.Run("authenticate/again", func(b *testing.B) {
		require.Eventually(b, func() bool { // the feed is followed
			began := time.Now()
			_, err := dir.Authenticate(ctx, token.Signed)
			return err == nil && time.Since(began) < 20*time.Microsecond
		}, 10*time.Second, time.Millisecond)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := dir.Authenticate(ctx, token.Signed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("authenticate/first", func(b *testing.B) {
		plain, err := denizen.New(ctx, s, denizen.Options{}) // remembers nothing
		require.NoError(b, err)
		defer func() { require.NoError(b, plain.Close()) }()
		authenticate := &contender{name: "authenticate", do: func() error {
			_, err := plain.Authenticate(context.Background(), token.Signed)
			return err
		}}
		contest(b, 1, 2_000, row, authenticate)
	})
}
