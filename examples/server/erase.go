package main

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

// freshSignIn is how long after a sign-in a person may ask to be erased. What cannot be taken back
// is not for whoever finds an open browser, or a token that was taken long ago.
const freshSignIn = 10 * time.Minute

// erasure erases the user who asks for it. The directory lets .system alone erase anybody, so the
// service decides when it acts for a person: here, when the person signed in just now, and says so.
//
// It stands behind httpadapter.Require: who calls is a user, and no other origin's page made its
// browser send this.
type erasure struct {
	dir   *denizen.Directory
	notes *notes
	log   *slog.Logger
}

func (e *erasure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Erase string `json:"erase"`
	}
	if !read(w, r, &body) {
		return
	}
	ctx, by := r.Context(), httpadapter.PrincipalFrom(r.Context())
	if body.Erase != "everything" {
		refuse(w, http.StatusBadRequest, "invalid_parameter_set", `erase must be "everything"`)
		return
	}
	fresh, err := e.fresh(r)
	switch {
	case err != nil:
		e.failed(w, err)
		return
	case !fresh:
		refuse(w, http.StatusForbidden, "sign_in_again",
			"sign out, sign in again, and ask within ten minutes")
		return
	}
	receipt, err := e.dir.EraseUser(ctx, denizen.System(), by.User())
	if err != nil && !errors.Is(err, denizen.ErrNotFound) { // which is that it was done before
		e.failed(w, err)
		return
	}
	if err == nil {
		e.notes.forget(receipt.InternalID) // what the service itself keeps of a person is for it to erase
		// A service keeps the receipt for as long as it has backups from before.
		e.log.InfoContext(ctx, "a user was erased", "receipt", receipt)
	}
	httpadapter.ClearTokenCookie(w)
	answer(w, http.StatusOK, map[string]bool{"erased": true})
}

// fresh reports whether the token of a request was got by a sign-in just now.
func (e *erasure) fresh(r *http.Request) (bool, error) {
	by := httpadapter.PrincipalFrom(r.Context())
	tokens, err := e.dir.Tokens(r.Context(), by, by.User())
	for _, t := range tokens {
		if t.ID == by.Token() {
			return time.Since(t.IssuedAt) < freshSignIn, nil
		}
	}
	return false, err
}

func (e *erasure) failed(w http.ResponseWriter, err error) {
	e.log.Error("an erasure failed", "err", err)
	refuse(w, http.StatusServiceUnavailable, "unavailable",
		"nobody can say whether this was done: try again")
}
