package httpadapter

import (
	"time"

	"github.com/denizenhq/denizen"
)

type presenceShape struct {
	Type       string         `json:"type"`
	TimeToLive int64          `json:"timeToLive"`
	ExpiresTo  *presenceShape `json:"expiresTo,omitempty"`
}

type wiredPresence struct {
	UserID   reference    `json:"userId"`
	Presence timePresence `json:"presence"`
	Hidden   bool         `json:"hidden,omitempty"`
}

type timePresence struct {
	Presence  *presenceShape `json:"presence"`
	SetTimeMs int64          `json:"setTimeMs"`
	SetTime   int64          `json:"setTime"`
	UntilMs   int64          `json:"untilMs,omitempty"`
}

type devicePresence struct {
	Device   string       `json:"device"`
	Presence timePresence `json:"presence"`
}

func newPresenceShape(p denizen.Presence) *presenceShape {
	if p.State() == "" {
		return nil
	}
	s := &presenceShape{Type: p.State(), TimeToLive: int64(p.TTL() / time.Second)}
	if next, there := p.Next(); there {
		s.ExpiresTo = newPresenceShape(next)
	}
	return s
}

func newTimePresence(p denizen.UserPresence) timePresence {
	since := unixMillis(p.Since)
	return timePresence{newPresenceShape(p.Presence), since, since, unixMillis(p.Until)}
}

func newWiredPresence(p denizen.UserPresence) wiredPresence {
	return wiredPresence{reference{string(p.User)}, newTimePresence(p), p.Hidden}
}

// presence reads a chain of states.
func presence(f fields) (denizen.Presence, error) {
	state, ttl := f.text("type"), f.seconds("timeToLive")
	next, there := f.member("expiresTo")
	if other, also := f.member("expiresToPresence"); also {
		if there {
			return denizen.Presence{}, badValue("expiresToPresence", "must not stand beside expiresTo")
		}
		next, there = other, true
	}
	switch {
	case *f.err != nil:
		return denizen.Presence{}, *f.err
	case state == "":
		return denizen.Presence{}, badValue("type", "is missing")
	case ttl < 0:
		return denizen.Presence{}, badValue("timeToLive", "must not be negative")
	}
	p := denizen.State(state)
	if ttl > 0 {
		p = denizen.State(state, ttl)
	}
	if there {
		then, err := presence(next)
		if err != nil {
			return denizen.Presence{}, err
		}
		p = p.Then(then)
	}
	return p, nil
}

func setPresence(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	p, err := presence(f)
	if err != nil {
		return reply{}, err
	}
	device := f.text("device")
	if *f.err != nil {
		return reply{}, *f.err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(c.h.dir.SetPresence(c.r.Context(), c.by, id, p.On(device)))
}

// clearPresence clears what all devices of a user show, or one of them alone.
func clearPresence(c *call) (reply, error) {
	q, err := c.query()
	if err != nil {
		return reply{}, err
	}
	device, err := singleQuery(q, "device")
	if err != nil {
		return reply{}, err
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	if q.Has("device") {
		c.names = map[string]string{"device": device}
		return noContent(c.h.dir.ClearPresence(c.r.Context(), c.by, id, device))
	}
	return noContent(c.h.dir.ClearAllPresence(c.r.Context(), c.by, id))
}

// setPresenceHidden sets whether a user hides its presence from its peers.
func setPresenceHidden(c *call) (reply, error) {
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	hidden := f.flag("hidden", false)
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case !f.has("hidden"):
		return reply{}, badValue("hidden", "is missing")
	}
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	return noContent(c.h.dir.SetPresenceHidden(c.r.Context(), c.by, id, hidden))
}

func getPresence(c *call) (reply, error) {
	ids, several, err := c.users()
	if err != nil {
		return reply{}, err
	}
	if wantsEvents(c.r) {
		return streamPresence(c, ids)
	}
	if !several {
		p, err := c.h.dir.Presence(c.r.Context(), c.by, ids[0])
		if err != nil {
			return reply{}, err
		}
		return okJSON(newWiredPresence(p))
	}
	presences, err := c.h.dir.Presences(c.r.Context(), c.by, ids)
	if err != nil {
		return reply{}, err
	}
	shapes := make([]wiredPresence, len(presences))
	for i, p := range presences {
		shapes[i] = newWiredPresence(p)
	}
	return okJSON(shapes)
}

func getDevices(c *call) (reply, error) {
	id, err := c.user()
	if err != nil {
		return reply{}, err
	}
	devices, err := c.h.dir.Devices(c.r.Context(), c.by, id)
	if err != nil {
		return reply{}, err
	}
	shapes := make([]devicePresence, len(devices))
	for i, p := range devices {
		shapes[i] = devicePresence{p.Presence.Device(), newTimePresence(p)}
	}
	return okJSON(shapes)
}
