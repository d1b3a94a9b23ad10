package denizen_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/store/memory"
)

// A user is set away, goes on to be inactive after ten seconds, and to be offline after ten
// more. Nothing runs meanwhile: what is active follows from the time alone.
func ExampleDirectory_SetPresence() {
	ctx, sleep := virtualTime()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	alice, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: "Alice"})
	if err != nil {
		log.Fatal(err)
	}

	chain := denizen.Away(10 * time.Second).
		Then(denizen.State("Inactive", 10*time.Second)).
		Then(denizen.Offline())
	err = dir.SetPresence(ctx, denizen.System(), alice.ID, chain)
	if err != nil {
		log.Fatal(err)
	}

	for _, pause := range []time.Duration{0, 9 * time.Second, time.Second, 10 * time.Second, time.Hour} {
		sleep(pause)
		p, err := dir.Presence(ctx, denizen.System(), alice.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.Presence.State(), "since", p.Since.Format(time.TimeOnly))
	}
	// Output:
	// mitter.up.Away since 12:00:00
	// mitter.up.Away since 12:00:00
	// Inactive since 12:00:10
	// mitter.up.Offline since 12:00:20
	// mitter.up.Offline since 12:00:20
}

// virtualTime answers a context whose directories live by a clock that only sleep moves on.
func virtualTime() (ctx context.Context, sleep func(time.Duration)) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	c := clock.New(func() (wall, mono int64) { return now, now })
	return clock.With(context.Background(), c), func(d time.Duration) { now += int64(d) }
}
