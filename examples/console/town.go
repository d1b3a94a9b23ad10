package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/denizenhq/denizen"
)

// town is people who are made up, and what they do.
type town struct {
	dir    *denizen.Directory
	people []denizen.UserID
}

var (
	firstNames = []string{
		"Alice", "Bob", "Chloé", "Dmitri", "Emeka", "Fatima", "Grace", "Hiro",
		"Ines", "Jun", "Kofi", "Léa", "Mina", "Noor", "Olu", "Priya",
	}
	lastNames = []string{
		"Abara", "Baker", "Costa", "Duarte", "Eriksen", "Fischer", "García", "Haddad",
		"Ito", "Jansen", "Kowalski", "Laurent",
	}
	labels = []string{
		"Firefox on Linux", "Safari on iPhone", "Chrome on Windows", "the app on Android",
	}
)

// settle creates people, each with an address, most with a number, a note and tokens, unless there
// are some already.
func (t *town) settle(ctx context.Context, n int) error {
	system := denizen.System()
	some, err := t.dir.Users(ctx, system, denizen.UserQuery{Limit: denizen.MaxPage})
	if err != nil {
		return err
	}
	for _, u := range some.Users {
		t.people = append(t.people, u.ID)
	}
	if len(t.people) > 0 {
		return nil
	}
	def := denizen.AttributeDef{
		Key: "about", VisibleTo: denizen.ToPeers, WritableBy: denizen.ToSelf,
	}
	if _, err := t.dir.DefineAttribute(ctx, system, def); err != nil {
		return err
	}
	if _, err := t.dir.CreateAccessKey(ctx, system); err != nil {
		return err
	}
	for i := range n {
		first, last := firstNames[i%len(firstNames)], lastNames[i/len(firstNames)%len(lastNames)]
		verified := denizen.Email(fmt.Sprintf("person%d@example.org", i+1))
		verified.Status = denizen.Verified
		locators := []denizen.NewLocator{verified}
		if i%3 > 0 {
			locators = append(locators, denizen.Tele(fmt.Sprintf("+1201555%04d", i%10_000)))
		}
		u, err := t.dir.CreateUser(ctx, system, denizen.NewUser{
			ID:         denizen.UserID(fmt.Sprintf("person-%04d", i+1)),
			ScreenName: first + " " + last, Locators: locators,
		})
		if err != nil {
			return err
		}
		t.people = append(t.people, u.ID)
		if i >= 1000 {
			continue
		}
		about := denizen.Attribute{Key: "about", Value: "Lives at number " + fmt.Sprint(i+1)}
		if _, err := t.dir.SetAttribute(ctx, system, u.ID, about); err != nil {
			return err
		}
		for j := range 1 + i%3 {
			o := denizen.TokenOptions{Label: labels[(i+j)%len(labels)], TTL: 24 * time.Hour}
			if _, err := t.dir.IssueToken(ctx, system, u.ID, o); err != nil {
				return err
			}
		}
		if err := t.comes(ctx, u.ID, i); err != nil {
			return err
		}
	}
	return nil
}

// comes lets somebody be here, in one way or another.
func (t *town) comes(ctx context.Context, who denizen.UserID, how int) error {
	offline := denizen.Offline()
	online := denizen.Online(90 * time.Second).Then(denizen.Away(5 * time.Minute)).Then(offline)
	chain := []denizen.Presence{
		online.On("phone"), denizen.Away(10 * time.Minute).Then(offline), online,
		denizen.State("In a meeting", 25*time.Minute).Then(online),
	}
	return t.dir.SetPresence(ctx, denizen.System(), who, chain[how%len(chain)])
}

// live lets somebody do something, a few times a second.
func (t *town) live(ctx context.Context) {
	if len(t.people) == 0 {
		return
	}
	for ctx.Err() == nil {
		who := t.people[rand.IntN(len(t.people))]
		var err error
		switch rand.IntN(6) {
		case 0:
			err = t.dir.ClearAllPresence(ctx, denizen.System(), who)
		case 1:
			now := time.Now().Format(time.TimeOnly)
			about := denizen.Attribute{Key: "about", Value: "Was here at " + now}
			_, err = t.dir.SetAttribute(ctx, denizen.System(), who, about)
		default:
			err = t.comes(ctx, who, rand.IntN(4))
		}
		_ = err // an operator may have blocked or removed them
		select {
		case <-time.After(time.Duration(50+rand.IntN(400)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
