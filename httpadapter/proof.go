package httpadapter

import (
	"context"
	"net/http"
	"strings"

	"github.com/denizenhq/denizen"
)

// Prover has codes sent by which users prove locators of their own. A *signin.Service is one.
type Prover interface {
	// StartVerify has a code sent to a locator of the user that as is, and returns the handle that
	// it is good with. Language is a tag of BCP 47, or "".
	StartVerify(
		ctx context.Context, as denizen.Principal, id denizen.LocatorID, language string,
	) (proof string, err error)
	// StartReplace is StartVerify for a locator that is to replace the one with the id.
	StartReplace(
		ctx context.Context, as denizen.Principal, id denizen.LocatorID, locator, language string,
	) (proof string, err error)
	// FinishVerify makes the locator the user's own, in place of the one that it replaces. A code that
	// is not good is [denizen.ErrDenied] with Field "proof".
	FinishVerify(
		ctx context.Context, as denizen.Principal, id denizen.LocatorID, proof, code string,
	) (denizen.Locator, error)
}

type startedProof struct {
	Proof string `json:"proof"`
}

func startVerify(c *call) (reply, error) {
	id, err := c.locatorToProve()
	if err != nil {
		return reply{}, err
	}
	proof, err := c.h.options.Prove.StartVerify(c.r.Context(), c.by, id, c.language())
	return reply{status: http.StatusAccepted, body: startedProof{proof}}, err
}

func startReplace(c *call) (reply, error) {
	id, err := c.locatorToProve()
	if err != nil {
		return reply{}, err
	}
	n, err := newLocator(c.given)
	if err != nil {
		return reply{}, err
	}
	c.names = map[string]string{"locator": n.Locator}
	proof, err := c.h.options.Prove.StartReplace(c.r.Context(), c.by, id, n.Locator, c.language())
	return reply{status: http.StatusAccepted, body: startedProof{proof}}, err
}

// language returns the first language that the request accepts.
func (c *call) language() string {
	first, _, _ := strings.Cut(c.r.Header.Get("Accept-Language"), ",")
	first, _, _ = strings.Cut(first, ";")
	return strings.TrimSpace(first)
}

func finishVerify(c *call) (reply, error) {
	id, err := c.locatorToProve()
	if err != nil {
		return reply{}, err
	}
	f, err := asObject(c.given)
	if err != nil {
		return reply{}, err
	}
	proof, code := f.text("proof"), f.text("code")
	switch {
	case *f.err != nil:
		return reply{}, *f.err
	case proof == "":
		return reply{}, badValue("proof", "is missing")
	case code == "":
		return reply{}, badValue("code", "is missing")
	}
	_, err = c.h.options.Prove.FinishVerify(c.r.Context(), c.by, id, proof, code)
	return noContent(err)
}

// locatorToProve returns the locator that the path names. Only a user has locators to prove.
func (c *call) locatorToProve() (denizen.LocatorID, error) {
	if c.h.options.Prove == nil {
		return "", noSuchRoute()
	}
	if !c.by.IsUser() {
		return "", c.missingPrivilege()
	}
	id, err := c.param(0, "locatorId")
	return denizen.LocatorID(id), err
}
