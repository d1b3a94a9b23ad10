package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

const (
	maxStarts = 1000 // that wait for their code, a few hundred bytes each
	senders   = 4
	sendingIn = 5 * time.Second // each, and all that are left at the end
)

// signIn lets people in who prove that they receive what is sent to an address.
type signIn struct {
	dir    *denizen.Directory
	log    *slog.Logger
	codes  *codes
	limits *limits
	starts chan started
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool           // guarded by mu
	sending sync.WaitGroup // what is in starts, and what is taken from it
}

// started is a sign-in that was asked for.
type started struct{ proof, address string }

func newSignIn(dir *denizen.Directory, log *slog.Logger, proxies []netip.Prefix) *signIn {
	ctx, cancel := context.WithCancel(context.Background())
	s := &signIn{
		dir: dir, log: log, codes: newCodes(), limits: newLimits(proxies),
		starts: make(chan started, maxStarts), cancel: cancel,
	}
	for range senders {
		go s.work(ctx)
	}
	return s
}

// proof is what people send: an e-mail address or any serialized locator, and then the proof that
// they got in answer and the code that they were sent.
type proof struct {
	Email   string `json:"email"`
	Locator string `json:"locator"`
	Proof   string `json:"proof"`
	Code    string `json:"code"`
}

// address returns the canonical form of the address, by which people are found.
func (p proof) address() (string, error) {
	if p.Locator == "" {
		p.Locator = "email:" + p.Email
	}
	kind, canonical, err := denizen.ParseLocator(p.Locator)
	return string(kind) + ":" + canonical, err
}

// ask starts a sign-in. The answer is the same for every address and whatever becomes of it.
// Nothing is looked up here, so that its time does not tell either who is known.
func (s *signIn) ask(w http.ResponseWriter, r *http.Request) {
	var p proof
	if !read(w, r, &p) {
		return
	}
	address, err := p.address()
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid_parameter_set", "this is no address that can be written to")
		return
	}
	if wait := s.limits.start(r, address); wait > 0 {
		tooMany(w, wait)
		return
	}
	start := started{proof: rand.Text(), address: address}
	if !s.enqueue(start) {
		s.log.Warn("no code is sent: too many wait for theirs")
	}
	answer(w, http.StatusAccepted, map[string]string{"proof": start.proof, "message": "a code is on its way, if this address can have one now"})
}

func (s *signIn) enqueue(start started) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sending.Add(1)
	select {
	case s.starts <- start:
		return true
	default:
		s.sending.Done()
		return false
	}
}

// work sends codes until ctx ends.
func (s *signIn) work(ctx context.Context) {
	for {
		select {
		case start := <-s.starts:
			s.send(ctx, start)
			s.sending.Done()
		case <-ctx.Done():
			return
		}
	}
}

// send makes a code and sends it, to the address as the directory has it.
func (s *signIn) send(ctx context.Context, start started) {
	ctx, cancel := context.WithTimeout(ctx, sendingIn)
	defer cancel()
	found, err := s.dir.UsersByLocator(ctx, denizen.System(), []string{start.address})
	if err != nil {
		s.log.Error("no code was made", "err", err)
		return
	}
	to := start.address
	for _, u := range found {
		to = u.Locators[locator(u, start.address)].String() // as it was given, never as somebody types it now
	}
	code, send, err := s.codes.make(start.proof, start.address, len(found) > 0)
	if err != nil {
		s.log.Error("no code was made", "err", err)
		return
	}
	if send {
		s.log.Info("here a service sends mail", "to", to, "code", code)
	}
}

// close takes no more starts, sends the codes that wait, and ends.
func (s *signIn) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	sent := make(chan struct{})
	go func() { s.sending.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-time.After(sendingIn):
		s.log.Warn("some codes were not sent")
	}
	s.cancel()
}

// enter lets somebody in who has the code: with a cookie, and for who is no browser with the
// token itself.
//
// ProveLocator makes a user for an address that nobody owns. Where an address was only written
// down for somebody else's user, whoever proves it gets a user of its own; a user that nobody
// proved to be yet passes on without the tokens that others have of it.
func (s *signIn) enter(w http.ResponseWriter, r *http.Request) {
	var p proof
	if !read(w, r, &p) {
		return
	}
	if wait := s.limits.try(r); wait > 0 {
		tooMany(w, wait)
		return
	}
	address, ok := s.codes.use(p.Proof, p.Code)
	if !ok {
		refuse(w, http.StatusForbidden, "proof_refused", "the code is wrong, used or too old: ask for a new one")
		return
	}
	newcomer := denizen.NewUser{ScreenName: "Newcomer"} // not the address: others may see it
	user, err := s.dir.ProveLocator(r.Context(), denizen.System(), address, newcomer)
	if err != nil {
		s.failed(w, err)
		return
	}
	token, err := s.dir.IssueToken(r.Context(), denizen.System(), user.ID, denizen.TokenOptions{Label: "sign-in"})
	if err != nil {
		s.failed(w, err)
		return
	}
	httpadapter.SetTokenCookie(w, token)
	in := map[string]any{"userId": user.ID, "tokenId": token.ID, "expiresAt": token.ExpiresAt.UnixMilli()}
	if r.Header.Get("Sec-Fetch-Site") != "same-origin" { // scripts of our own pages need not see what the cookie hides from them
		in["signedToken"] = token.Signed
	}
	answer(w, http.StatusOK, in)
}

// locator returns which of its locators a user owns by an address.
func locator(u denizen.User, address string) int {
	return slices.IndexFunc(u.Locators, func(l denizen.Locator) bool {
		return l.Owned && string(l.Type)+":"+l.Canonical == address
	})
}

func (s *signIn) failed(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, denizen.ErrDenied):
		refuse(w, http.StatusForbidden, "token_issuance_refused", "this user is blocked")
	case errors.Is(err, denizen.ErrLimited):
		refuse(w, http.StatusConflict, "limit_exceeded", "this user is signed in too often: sign out somewhere")
	default:
		s.log.Error("a sign-in failed", "err", err)
		refuse(w, http.StatusServiceUnavailable, "unavailable", "ask for a new code and try again")
	}
}
