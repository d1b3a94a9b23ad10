package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

const (
	maxSeats = 48
	keptFor  = time.Hour // the seat of somebody who is gone
	note     = "note"    // the attribute with what somebody is up to
	maxBody  = 1 << 10   // of a request to join
)

// board is a fixed number of seats. A user is a seat that is taken. So what all can store is
// bounded, and one stream of the same seats also tells of who comes later.
type board struct {
	dir     *denizen.Directory
	online  time.Duration
	away    time.Duration
	each    int
	seats   []denizen.UserID
	joining chan struct{}                   // has an element while somebody takes a seat
	takenBy map[denizen.UserID]netip.Prefix // guarded by joining; forgotten by a restart
}

func newBoard(dir *denizen.Directory, s settings) *board {
	b := &board{
		dir: dir, online: s.online, away: s.away, each: s.each,
		joining: make(chan struct{}, 1), takenBy: map[denizen.UserID]netip.Prefix{},
	}
	for i := range maxSeats {
		b.seats = append(b.seats, denizen.UserID(fmt.Sprintf("board-seat-%02d", i+1)))
	}
	return b
}

var (
	errFull    = errors.New("the board is full: try again later")
	errTooMany = errors.New("too many people have joined from this address")
)

// join gives a seat to whoever asks, by any name. That is for a demonstration: a service first has
// people prove who they are, as package signin does.
func (b *board) join(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Name string `json:"name"`
	}
	// No page of another origin can send this type unasked.
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || json.Unmarshal(body, &asked) != nil {
		refuse(w, http.StatusBadRequest, "the body must be JSON, of 1 KiB at most")
		return
	}
	token, err := b.take(r.Context(), client(r), asked.Name)
	refused, _ := errors.AsType[*denizen.Error](err)
	switch {
	case err == nil:
		httpadapter.SetTokenCookie(w, token)
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, denizen.ErrInvalid) && refused.Field == "screenName":
		refuse(w, http.StatusBadRequest, "the name "+refused.Reason)
	case errors.Is(err, errTooMany):
		refuse(w, http.StatusTooManyRequests, errTooMany.Error())
	case errors.Is(err, errFull):
		refuse(w, http.StatusServiceUnavailable, errFull.Error())
	default:
		b.failed(w, r, err)
	}
}

// take takes a free seat for a client.
func (b *board) take(
	ctx context.Context, client netip.Prefix, name string,
) (token denizen.IssuedToken, err error) {
	select {
	case b.joining <- struct{}{}:
		defer func() { <-b.joining }()
	case <-ctx.Done():
		return token, ctx.Err()
	}
	var seat denizen.UserID
	has := 0
	for _, id := range b.seats {
		free, err := b.isFree(ctx, id)
		switch {
		case err != nil:
			return token, err
		case free && seat == "":
			seat = id
		case !free && b.takenBy[id] == client:
			has++
		}
	}
	switch {
	case has >= b.each:
		return token, errTooMany
	case seat == "":
		return token, errFull
	}
	system := denizen.System()
	if err := b.dir.DeleteUser(ctx, system, seat); err != nil && !errors.Is(err, denizen.ErrNotFound) {
		return token, err
	}
	newcomer := denizen.NewUser{ID: seat, ScreenName: name}
	if _, err := b.dir.CreateUser(ctx, system, newcomer); err != nil {
		return token, err
	}
	b.takenBy[seat] = client
	return b.dir.IssueToken(ctx, system, seat, denizen.TokenOptions{Label: "board"})
}

// isFree reports whether nobody has a seat, or somebody who cannot come back, or who has been gone
// for long.
func (b *board) isFree(ctx context.Context, seat denizen.UserID) (bool, error) {
	system := denizen.System()
	user, err := b.dir.User(ctx, system, seat)
	if errors.Is(err, denizen.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	tokens, err := b.dir.Tokens(ctx, system, seat)
	if err != nil || len(tokens) == 0 {
		return err == nil, err
	}
	p, err := b.dir.Presence(ctx, system, seat)
	if err != nil {
		return false, err
	}
	since := p.Since
	if since.IsZero() {
		since = user.CreatedAt
	}
	state := p.Presence.State()
	return (state == "" || state == denizen.StateOffline) && time.Since(since) > keptFor, nil
}

// person is somebody on the board.
type person struct {
	ID   denizen.UserID `json:"id"`
	Name string         `json:"name"`
	Note string         `json:"note"`
}

// read writes who is on the board, and what a page needs to watch them.
func (b *board) read(w http.ResponseWriter, r *http.Request) {
	ctx, by := r.Context(), httpadapter.PrincipalFrom(r.Context())
	people := []person{}
	for u, err := range b.dir.AllUsers(ctx, denizen.System()) {
		if err != nil {
			b.failed(w, r, err)
			return
		}
		profile, err := b.dir.Profile(ctx, by, u.ID)
		if errors.Is(err, denizen.ErrNotFound) {
			continue // left just now
		}
		if err != nil {
			b.failed(w, r, err)
			return
		}
		p := person{ID: u.ID, Name: u.ScreenName}
		for _, a := range profile.Attributes {
			if a.Key == note {
				p.Note = a.Value
			}
		}
		people = append(people, p)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"me": by.User(), "seats": b.seats, "people": people, "now": time.Now().UnixMilli(),
		"online": int64(b.online / time.Second), "away": int64(b.away / time.Second),
	})
}

// leave frees the seat of the caller, in all of its windows at once.
func (b *board) leave(w http.ResponseWriter, r *http.Request) {
	seat := httpadapter.PrincipalFrom(r.Context()).User()
	err := b.dir.DeleteUser(r.Context(), denizen.System(), seat)
	if err != nil && !errors.Is(err, denizen.ErrNotFound) {
		b.failed(w, r, err)
		return
	}
	httpadapter.ClearTokenCookie(w)
	w.WriteHeader(http.StatusNoContent)
}

func (b *board) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		slog.Error("a request failed", "path", r.URL.Path, "err", err)
	}
	refuse(w, http.StatusServiceUnavailable, "this cannot be done now: try again")
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// client returns whom a request counts for: an IPv4 address, or the /64 of an IPv6 address, which
// is what one machine has for itself.
func client(r *http.Request) netip.Prefix {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	from := peer.Addr().Unmap().WithZone("")
	bits := 64
	if from.Is4() {
		bits = 32
	}
	p, _ := from.Prefix(bits)
	return p
}
