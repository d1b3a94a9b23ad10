package adminui

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/denizenhq/denizen"
)

// done is what a page says after an action, by the action.
var done = map[string]string{
	"revoke":     "The token was revoked.",
	"revoke-all": "All tokens were revoked.",
	"block":      "The user is blocked.",
	"unblock":    "The user is not blocked any more.",
	"rename":     "The name was changed.",
	"remove":     "The address or number was removed.",
	"clear":      "The presence was cleared.",
}

// blocks are for how long a user can be blocked.
var blocks = []struct {
	Value, Text string
	For         time.Duration
}{
	{"", "Until somebody unblocks it", 0},
	{"1h", "For an hour", time.Hour},
	{"1d", "For a day", 24 * time.Hour},
	{"7d", "For a week", 7 * 24 * time.Hour},
	{"30d", "For 30 days", 30 * 24 * time.Hour},
}

// doForm is a button that leads to the page on which an action is confirmed.
type doForm struct {
	Action, Do, Text string
	Danger           bool
}

// confirm is the page on which an action is confirmed.
type confirm struct {
	Root, Action string
	Do           string
	User         denizen.User
	Version      denizen.UserVersion // that the operator decides on
	Token        denizen.Token
	Locator      denizen.Locator
	Tokens       int
	Blocks       any
	Failed       string
}

// act does what a form on a person's page asks for. Nothing is done before it was confirmed, except
// that a locator is revealed.
func (v *visit) act() error {
	id, err := v.user()
	if err != nil {
		return err
	}
	do, form := v.r.PostForm.Get("do"), v.r.PostForm
	needs, known := map[string]Action{
		"reveal": Reveal, "revoke": Revoke, "revoke-all": Revoke, "block": Block, "unblock": Block,
		"rename": Rename, "remove": RemoveLocator, "clear": ClearPresence,
	}[do]
	if !known {
		return errForm
	}
	if !v.may(needs) {
		return errNotAllowed
	}
	if do == "reveal" {
		l, err := v.dir.RevealLocator(v.ctx, v.by, id, denizen.LocatorID(form.Get("locator")))
		if err != nil {
			return err
		}
		return v.showPerson(id, &l)
	}
	if form.Get("confirmed") != "yes" {
		return v.confirm(id, do, "")
	}
	if err := v.carryOut(id, do); err != nil {
		refused, ok := err.(*denizen.Error)
		if ok && refused.Kind == denizen.ErrInvalid {
			return v.confirm(id, do, refused.Field+" "+refused.Reason)
		}
		return err
	}
	return v.redirect("people/" + url.PathEscape(string(id)) + "?did=" + do)
}

// carryOut does what was confirmed.
func (v *visit) carryOut(id denizen.UserID, do string) (err error) {
	form := v.r.PostForm
	version, err := versionOf(form.Get("version"))
	if err != nil {
		return err
	}
	if _, err := v.same(id); err != nil {
		return err
	}
	switch do {
	case "revoke":
		return v.dir.RevokeTokens(v.ctx, v.by, id, denizen.TokenID(form.Get("token")))
	case "revoke-all":
		return v.dir.RevokeAllTokens(v.ctx, v.by, id)
	case "block":
		b := denizen.Block{Reason: form.Get("reason")}
		for _, known := range blocks {
			if known.Value == form.Get("for") && known.For > 0 {
				b.Until = time.Now().Add(known.For)
			}
		}
		return v.block(id, b, version)
	case "unblock":
		_, err = v.dir.UnblockUser(v.ctx, v.by, id, version)
	case "rename":
		_, err = v.dir.SetScreenName(v.ctx, v.by, id, form.Get("name"), version)
	case "remove":
		err = v.dir.RemoveLocator(v.ctx, v.by, id, denizen.LocatorID(form.Get("locator")), version)
	case "clear":
		err = v.dir.ClearAllPresence(v.ctx, v.by, id)
	}
	return err
}

// same returns the user of an id if it is the one whom the operator was asked about, and not another
// who got the id since.
func (v *visit) same(id denizen.UserID) (denizen.User, error) {
	u, err := v.dir.User(v.ctx, v.by, id)
	if err == nil && u.InternalID != v.r.PostForm.Get("internal") {
		err = errChanged
	}
	return u, err
}

// block blocks a user. What it changed of itself since the operator was asked is no reason not to: or
// else a user who keeps changing its name could not be blocked. What another operator did is.
func (v *visit) block(id denizen.UserID, b denizen.Block, version denizen.UserVersion) error {
	for tries := 10; ; tries-- {
		_, err := v.dir.BlockUser(v.ctx, v.by, id, b, version)
		if !errors.Is(err, denizen.ErrConflict) || tries == 0 {
			return err
		}
		u, failed := v.same(id)
		if failed != nil {
			return failed
		}
		if u.Blocked {
			return errChanged
		}
		version = u.Version
	}
}

// confirm asks whether something is to be done, and tells what comes of it.
func (v *visit) confirm(id denizen.UserID, do, failed string) error {
	u, err := v.dir.User(v.ctx, v.by, id)
	if err != nil {
		return err
	}
	c := &confirm{
		Root: v.root(), Action: v.root() + "people/" + url.PathEscape(string(id)), Do: do,
		User: u, Version: u.Version, Blocks: blocks, Failed: failed,
	}
	gone := &refusal{http.StatusNotFound, "This is gone already."}
	switch form := v.r.PostForm; do {
	case "revoke", "revoke-all":
		tokens, err := v.dir.Tokens(v.ctx, v.by, id)
		if err != nil {
			return err
		}
		c.Tokens = len(tokens)
		for _, t := range tokens {
			if string(t.ID) == form.Get("token") {
				c.Token = t
			}
		}
		if do == "revoke" && c.Token.ID == "" {
			return gone
		}
	case "remove":
		for _, l := range u.Locators {
			if string(l.ID) == form.Get("locator") {
				c.Locator = l
			}
		}
		if c.Locator.ID == "" {
			return gone
		}
	}
	status := http.StatusOK
	if failed != "" {
		status = http.StatusBadRequest
	}
	return v.show(status, "confirm", "Are you sure?", c)
}

// versionOf returns the version of the user that a form was made for.
func versionOf(text string) (denizen.UserVersion, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errForm
	}
	return denizen.UserVersion(n), nil
}
