package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// signIn lets people in who prove that they receive what is sent to an address.
type signIn struct {
	dir   *denizen.Directory
	log   *slog.Logger
	codes *codes
}

func newSignIn(dir *denizen.Directory, log *slog.Logger) *signIn {
	return &signIn{dir: dir, log: log, codes: newCodes()}
}

// proof is what people send: an e-mail address or any serialized locator, and then the code.
type proof struct {
	Email   string `json:"email"`
	Locator string `json:"locator"`
	Code    string `json:"code"`
}

// address answers the canonical form of the address, by which codes are kept and people found.
func (p proof) address() (string, error) {
	if p.Locator == "" {
		p.Locator = "email:" + p.Email
	}
	kind, canonical, err := denizen.ParseLocator(p.Locator)
	return string(kind) + ":" + canonical, err
}

// ask sends a code to an address. The answer is the same for every address, and goes out before
// anything is looked up, so that its time does not tell either who is known here.
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
	answer(w, http.StatusAccepted, map[string]string{"message": "a code is on its way, unless there were too many"})
	_ = http.NewResponseController(w).Flush()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 5*time.Second) // who asked may have left
	defer cancel()
	found, err := s.dir.UsersByLocator(ctx, denizen.System(), address)
	if err != nil {
		s.log.Error("no code was made", "cause", err)
		return
	}
	to := address
	for _, u := range found {
		to = u.Locators[locator(u, address)].String() // as it was given, never as somebody types it now
	}
	if code, ok := s.codes.make(address); ok {
		s.log.Info("here a service sends mail", "to", to, "code", code)
	}
}

// enter lets somebody in who has the code: with a cookie, and for who is no browser with the
// token itself.
func (s *signIn) enter(w http.ResponseWriter, r *http.Request) {
	var p proof
	if !read(w, r, &p) {
		return
	}
	address, err := p.address()
	if err != nil || !s.codes.use(address, p.Code) {
		refuse(w, http.StatusUnauthorized, "authorization_error", "the code is wrong, used or too old: ask for a new one")
		return
	}
	user, err := s.owner(r.Context(), address)
	if err != nil {
		s.failed(w, err)
		return
	}
	token, err := s.dir.IssueToken(r.Context(), denizen.System(), user, denizen.TokenOptions{Label: "sign-in"})
	if err != nil {
		s.failed(w, err)
		return
	}
	httpadapter.SetTokenCookie(w, token)
	in := map[string]any{"userId": user, "tokenId": token.ID, "expiresAt": token.ExpiresAt.UnixMilli()}
	if r.Header.Get("Sec-Fetch-Site") != "same-origin" { // scripts of our own pages need not see what the cookie hides from them
		in["signedToken"] = token.Signed
	}
	answer(w, http.StatusOK, in)
}

// owner answers the user whose address was just proved, and makes one if nobody owns it.
//
// A user who only claims the address, by adding it for itself, is not found here: that is a
// pending claim, which owns nothing, and whoever proves the address gets a user of its own. An
// owner whose address was never proved may have been made by somebody else, in the hope that
// the right one comes later: all its tokens end before this one gets in.
func (s *signIn) owner(ctx context.Context, address string) (denizen.UserID, error) {
	system := denizen.System()
	for {
		found, err := s.dir.UsersByLocator(ctx, system, address)
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			made, err := s.dir.CreateUser(ctx, system, denizen.NewUser{
				ScreenName: "Newcomer", // not the address: others may see it
				Locators:   []denizen.NewLocator{{Locator: address, Status: denizen.Verified}},
			})
			if errors.Is(err, denizen.ErrTaken) {
				continue // by the same person, on another device
			}
			return made.ID, err
		}
		user := found[0]
		proved := user.Locators[locator(user, address)]
		if proved.Status == denizen.Verified {
			return user.ID, nil
		}
		if err := s.dir.RevokeAllTokens(ctx, system, user.ID); err != nil {
			return "", err
		}
		_, err = s.dir.SetVerification(ctx, system, user.ID, proved.ID, denizen.Verified)
		return user.ID, err
	}
}

// locator answers which of its locators a user owns by an address.
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
		s.log.Error("a sign-in failed", "cause", err)
		refuse(w, http.StatusServiceUnavailable, "unavailable", "ask for a new code and try again")
	}
}
