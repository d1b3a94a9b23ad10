package denizen_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/internal/clock"
	"github.com/denizenhq/denizen/store/memory"
)

// Presence

func ExamplePresence() {
	p := denizen.Online(15 * time.Second).Then(denizen.Offline()).On("phone")
	fmt.Println(p.Device(), p.State(), p.TTL())

	next, more := p.Next()
	fmt.Println(next.State(), next.TTL(), more) // 0: permanently

	fmt.Println(p.Equal(denizen.Online(15 * time.Second)))
	// Output:
	// phone mitter.up.Online 15s
	// mitter.up.Offline 0s true
	// false
}

func ExamplePresence_Then() {
	p := denizen.Online(15 * time.Second).Then(denizen.Away(30 * time.Second)).Then(denizen.Offline())
	for more := true; more; p, more = p.Next() {
		fmt.Println(p.State(), p.TTL())
	}
	// Output:
	// mitter.up.Online 15s
	// mitter.up.Away 30s
	// mitter.up.Offline 0s
}

func ExamplePresence_On() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, p := range []denizen.Presence{
		denizen.Online(time.Hour).On("phone"),
		denizen.Away(time.Hour).On("laptop"),
	} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", p); err != nil {
			log.Fatal(err)
		}
	}

	now, err := dir.Presence(ctx, denizen.System(), "user-alice") // the best device
	fmt.Println(now.Presence.Device(), now.Presence.State(), err)
	// Output: phone mitter.up.Online <nil>
}

func ExampleState() {
	fmt.Println(denizen.State("In a meeting", time.Hour).State())
	// Output: In a meeting
}

func ExampleOnline() {
	fmt.Println(denizen.Online().State(), denizen.Online(time.Minute).TTL())
	// Output: mitter.up.Online 1m0s
}

func ExampleAway() {
	fmt.Println(denizen.Away().State())
	// Output: mitter.up.Away
}

func ExampleSleeping() {
	fmt.Println(denizen.Sleeping().State())
	// Output: mitter.up.Sleeping
}

func ExampleMissing() {
	fmt.Println(denizen.Missing().State())
	// Output: mitter.up.Missing
}

func ExampleOffline() {
	fmt.Println(denizen.Offline().State())
	// Output: mitter.up.Offline
}

func ExampleDirectory_Presence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")

	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v %v\n", now.Presence.State(), now.Since.IsZero(), err) // none was ever set

	if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online(time.Hour)); err != nil {
		log.Fatal(err)
	}
	now, err = dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v %v\n", now.Presence.State(), now.Since.IsZero(), err)
	// Output:
	// "" true <nil>
	// "mitter.up.Online" false <nil>
}

func ExampleDirectory_Presences() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	if err := dir.SetPresence(ctx, denizen.System(), "user-bob", denizen.Sleeping()); err != nil {
		log.Fatal(err)
	}

	presences, err := dir.Presences(ctx, denizen.System(), []denizen.UserID{"user-alice", "user-bob"})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range presences {
		fmt.Printf("%s %q\n", p.User, p.Presence.State())
	}
	// Output:
	// user-alice ""
	// user-bob "mitter.up.Sleeping"
}

func ExampleDirectory_ClearPresence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, device := range []string{"phone", "laptop"} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online().On(device)); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(dir.ClearPresence(ctx, denizen.System(), "user-alice", "phone"))
	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Println(now.Presence.Device(), err)
	// Output:
	// <nil>
	// laptop <nil>
}

func ExampleDirectory_ClearAllPresence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, device := range []string{"phone", "laptop"} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", denizen.Online().On(device)); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(dir.ClearAllPresence(ctx, denizen.System(), "user-alice"))
	now, err := dir.Presence(ctx, denizen.System(), "user-alice")
	fmt.Printf("%q %v\n", now.Presence.State(), err)
	// Output:
	// <nil>
	// "" <nil>
}

// A phone was lost while it was set online, which stays. Its owner finds it in the list and
// takes it away.
func ExampleDirectory_Devices() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	for _, p := range []denizen.Presence{denizen.Online().On("lost phone"), denizen.Away(time.Hour).On("laptop")} {
		if err := dir.SetPresence(ctx, denizen.System(), "user-alice", p); err != nil {
			log.Fatal(err)
		}
	}

	devices, err := dir.Devices(ctx, denizen.System(), "user-alice")
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range devices {
		if p.Until.IsZero() {
			fmt.Println(p.Presence.Device(), "is", p.Presence.State(), "until another is set")
		} else {
			fmt.Println(p.Presence.Device(), "is", p.Presence.State(), "for", p.Until.Sub(p.Since))
		}
	}
	fmt.Println(dir.ClearPresence(ctx, denizen.System(), "user-alice", "lost phone"))
	// Output:
	// laptop is mitter.up.Away for 1h0m0s
	// lost phone is mitter.up.Online until another is set
	// <nil>
}

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

// virtualTime returns a context whose directories live by a clock that only sleep moves on.
func virtualTime() (ctx context.Context, sleep func(time.Duration)) {
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	c := clock.New(func() (wall, mono int64) { n := now.Load(); return n, n })
	return clock.With(context.Background(), c), func(d time.Duration) { now.Add(int64(d)) }
}

func ExampleDirectory_WatchPresence() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	alice := exampleSignIn(dir, "user-alice")

	watched := []denizen.UserID{"user-alice", "user-bob"}
	for p, err := range dir.WatchPresence(ctx, alice, watched) {
		if errors.Is(err, denizen.ErrMissed) {
			continue // the latest of each follows
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q\n", p.User, p.Presence.State())
		if p.Presence.State() == denizen.StateOnline {
			break
		}
		if p.User == "user-bob" { // that was the present state of both
			go func() {
				if err := dir.SetPresence(ctx, alice, "user-alice", denizen.Online(time.Hour)); err != nil {
					log.Fatal(err)
				}
			}()
		}
	}
	// Output:
	// user-alice ""
	// user-bob ""
	// user-alice "mitter.up.Online"
}

func ExampleDirectory_Present() {
	ctx, dir := exampleDirectory()
	for _, id := range []denizen.UserID{"user-alice", "user-bob"} {
		exampleUser(dir, id, "Somebody")
	}
	if err := dir.SetPresence(ctx, denizen.System(), "user-bob", denizen.Away(time.Hour)); err != nil {
		log.Fatal(err)
	}

	page, err := dir.Present(ctx, denizen.System(), denizen.PresentQuery{Limit: 100})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range page.Users {
		fmt.Println(p.User, p.Presence.State())
	}
	fmt.Println(page.Next == "")
	// Output:
	// user-bob mitter.up.Away
	// true
}

func ExampleDirectory_CountPresent() {
	ctx, dir := exampleDirectory()
	for _, id := range []denizen.UserID{"user-alice", "user-bob", "user-carol"} {
		exampleUser(dir, id, "Somebody")
		if err := dir.SetPresence(ctx, denizen.System(), id, denizen.Online(time.Hour)); err != nil {
			log.Fatal(err)
		}
	}
	if err := dir.SetPresence(ctx, denizen.System(), "user-carol", denizen.Away(time.Hour)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.CountPresent(ctx, denizen.System()))
	// Output: map[mitter.up.Away:1 mitter.up.Online:2] <nil>
}

func ExampleDirectory_LastActive() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	exampleUser(dir, "user-bob", "Bob")
	exampleSignIn(dir, "user-alice")

	times, err := dir.LastActive(ctx, denizen.System(), []denizen.UserID{"user-alice", "user-bob"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(time.Since(times[0]) < time.Minute, times[1].IsZero()) // Bob was never here
	// Output: true true
}

func ExampleDirectory_SetPresenceHidden() {
	ctx, dir := exampleDirectory()
	exampleUser(dir, "user-alice", "Alice")
	alice := exampleSignIn(dir, "user-alice")
	if err := dir.SetPresence(ctx, alice, "user-alice", denizen.Online()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir.SetPresenceHidden(ctx, alice, "user-alice", true))

	own, err := dir.Presence(ctx, alice, "user-alice") // her peers see none
	fmt.Println(own.Presence.State(), own.Hidden, err)
	// Output:
	// <nil>
	// mitter.up.Online true <nil>
}
